/*
 * Node life-cycle: pod networks for new nodes; a node whose lease runs out is Unknown and tainted; taints follow the
 * Ready condition; pods that do not tolerate NoExecute go after their time; pods of removed nodes go.
 */
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>

#include "controllers/internal.h"

#define GRACE_MS 40000
#define TAINT_NOT_READY "node.kubernetes.io/not-ready"
#define TAINT_UNREACHABLE "node.kubernetes.io/unreachable"
#define INDEX_NODE "node-name"
#define NODE_BITS 24 /* a /24 a node */

struct nodes {
    struct controllers *all;
    struct kind_ref kind, leases, pods;
    struct map seen; /* node name -> malloc'ed int64_t: monotonic ms of its last sign of life */
};

/* --- pod networks ----------------------------------------------------------------------------------------------- */

struct used {
    unsigned char *bits;
    uint32_t base, count;
};

static bool note_used(void *arg, struct object *o) {
    struct used *u = arg;
    struct str cidr = json_str_at(object_json(o), "spec.podCIDR"), address;
    char text[48];
    struct in_addr in;
    if (!str_cut(cidr, '/', &address, NULL) || address.n >= sizeof(text))
        return true;
    memcpy(text, address.p, address.n);
    text[address.n] = 0;
    if (inet_pton(AF_INET, text, &in) == 1) {
        uint32_t i = (ntohl(in.s_addr) - u->base) >> (32 - NODE_BITS);
        if (i < u->count)
            u->bits[i / 8] |= (unsigned char)(1u << (i % 8));
    }
    return true;
}

/* The first free /24 of the cluster's network; false when all are taken. */
static bool pick_cidr(struct nodes *n, char out[48]) {
    struct str base, bits;
    char text[48];
    int64_t prefix;
    struct in_addr in;
    if (!str_cut(str_c(n->all->options.cluster_cidr), '/', &base, &bits) || !str_to_i64(bits, &prefix) ||
        base.n >= sizeof(text) || prefix < 8 || prefix > 30)
        return false;
    memcpy(text, base.p, base.n);
    text[base.n] = 0;
    if (inet_pton(AF_INET, text, &in) != 1)
        return false;
    struct used u = {.base = ntohl(in.s_addr), .count = prefix >= NODE_BITS ? 1 : 1u << (NODE_BITS - prefix)};
    u.bits = xcalloc(u.count / 8 + 1, 1);
    store_each(n->all->store, n->kind.kind, STR_NULL, STR_NULL, STR_NULL, note_used, &u);
    uint32_t i = 0;
    while (i < u.count && (u.bits[i / 8] >> (i % 8) & 1))
        i++;
    free(u.bits);
    if (i == u.count)
        return false;
    in.s_addr = htonl(u.base + (i << (32 - NODE_BITS)));
    snprintf(out, 48, "%s/%d", inet_ntop(AF_INET, &in, text, sizeof(text)),
             (int)(prefix > NODE_BITS ? prefix : NODE_BITS));
    return true;
}

/* --- conditions and taints -------------------------------------------------------------------------------------- */

static bool has_taint(const struct json *node, const char *key, const char *effect) {
    const struct json *taints = json_at(node, "spec.taints");
    for (size_t i = 0; i < json_len(taints); i++)
        if (str_eq_c(json_str_at(json_item(taints, i), "key"), key) &&
            str_eq_c(json_str_at(json_item(taints, i), "effect"), effect))
            return true;
    return false;
}

static void set_taint(struct arena *a, struct json *node, const char *key, const char *effect, bool wanted) {
    if (has_taint(node, key, effect) == wanted)
        return;
    struct json *taints = json_at(node, "spec.taints");
    if (wanted) {
        char now[TIME_RFC3339_MAX];
        struct json *t = json_object(a);
        json_set_cstr(a, t, "key", key);
        json_set_cstr(a, t, "effect", effect);
        if (strcmp(effect, "NoExecute") == 0)
            json_set_cstr(a, t, "timeAdded", time_now_rfc3339(now));
        if (!taints)
            json_put(a, node, "spec.taints", taints = json_array(a));
        json_append(a, taints, t);
        return;
    }
    for (size_t i = json_len(taints); i > 0; i--)
        if (str_eq_c(json_str_at(json_item(taints, i - 1), "key"), key) &&
            str_eq_c(json_str_at(json_item(taints, i - 1), "effect"), effect))
            json_remove(taints, i - 1);
    if (json_len(taints) == 0)
        json_del_c(json_get_c(node, "spec"), "taints");
}

static struct str ready_status(const struct json *node) {
    return json_str_at(condition_find(json_get_c(node, "status"), "Ready"), "status");
}

/* Spec of a node as its state asks for: network and taints. */
static int write_spec(struct controller *c, struct api_call *call, struct object *o) {
    struct nodes *n = c->state;
    struct arena *a = call->arena;
    struct json *copy = json_copy(a, object_json(o));
    struct str ready = ready_status(copy);
    bool unknown = str_eq(ready, STR("Unknown")), down = !unknown && !str_eq(ready, STR("True"));
    char cidr[48];
    if (json_str_at(copy, "spec.podCIDR").n == 0) {
        if (!pick_cidr(n, cidr)) {
            api_event(c->api, o, c->name, "", "Warning", "CIDRNotAvailable", "no pod network left in %s",
                      n->all->options.cluster_cidr);
        } else {
            struct json *list = json_array(a);
            json_append_cstr(a, list, cidr);
            json_put(a, copy, "spec.podCIDR", json_cstr(a, cidr));
            json_put(a, copy, "spec.podCIDRs", list);
        }
    }
    set_taint(a, copy, TAINT_NOT_READY, "NoSchedule", down);
    set_taint(a, copy, TAINT_NOT_READY, "NoExecute", down && ready.n > 0);
    set_taint(a, copy, TAINT_UNREACHABLE, "NoSchedule", unknown);
    set_taint(a, copy, TAINT_UNREACHABLE, "NoExecute", unknown);
    set_taint(a, copy, "node.kubernetes.io/unschedulable", "NoSchedule",
              json_bool_at(copy, "spec.unschedulable", false));
    static const char *const pressures[][2] = {{"MemoryPressure", "node.kubernetes.io/memory-pressure"},
                                               {"DiskPressure", "node.kubernetes.io/disk-pressure"},
                                               {"PIDPressure", "node.kubernetes.io/pid-pressure"}};
    for (size_t i = 0; i < ARRAY_LEN(pressures); i++) {
        const struct json *cond = condition_find(json_get_c(copy, "status"), pressures[i][0]);
        set_taint(a, copy, pressures[i][1], "NoSchedule", str_eq(json_str_at(cond, "status"), STR("True")));
    }
    if (json_equal(json_get_c(copy, "spec"), json_get_c(object_json(o), "spec")))
        return 0;
    return api_update(call, n->kind.resource, STR(""), o->name, STR(""), copy, NULL);
}

/* --- a node that is not heard of any more ----------------------------------------------------------------------- */

static bool add_pod(void *arg, struct object *o) {
    return object_list_add(arg, o);
}

static int mark_pods(struct controller *c, struct api_call *call, struct str node) {
    struct nodes *n = c->state;
    struct object_list pods cleanup_objects = {0};
    store_index_each(n->all->store, n->pods.kind, INDEX_NODE, node, add_pod, &pods);
    for (size_t i = 0; i < pods.n; i++) {
        const struct json *pod = object_json(pods.items[i]);
        if (!pod_is_ready(pod))
            continue;
        struct json *copy = json_copy(call->arena, pod);
        condition_set(call->arena, json_get_c(copy, "status"), "Ready", "False", "NodeNotReady", "Node is not ready",
                      false);
        int rc = api_update(call, n->pods.resource, pods.items[i]->ns, pods.items[i]->name, STR("status"), copy, NULL);
        if (rc < 0 && call->status.code != 404)
            return rc;
    }
    return 0;
}

static int mark_unknown(struct controller *c, struct api_call *call, struct object *o) {
    struct nodes *n = c->state;
    struct json *copy = json_copy(call->arena, object_json(o)), *status = json_ensure(call->arena, copy, "status");
    static const char *const types[] = {"MemoryPressure", "DiskPressure", "PIDPressure", "Ready"};
    if (str_eq(ready_status(copy), STR("Unknown")))
        return 0;
    for (size_t i = 0; i < ARRAY_LEN(types); i++)
        condition_set(call->arena, status, types[i], "Unknown", "NodeStatusUnknown",
                      "Kubelet stopped posting node status.", false);
    api_event(c->api, o, c->name, "", "Normal", "NodeNotReady", "Node %.*s status is now: NodeNotReady",
              STR_ARG(o->name));
    int rc = api_update(call, n->kind.resource, STR(""), o->name, STR("status"), copy, NULL);
    return rc < 0 ? rc : mark_pods(c, call, o->name);
}

/* Milliseconds until the node counts as lost; 0 or less: it is. A restart counts as a sign of life of everybody. */
static int64_t life_left(struct nodes *n, struct str name) {
    int64_t grace = n->all->options.node_monitor_grace_ms, *seen = map_get(&n->seen, name);
    if (!seen) {
        seen = xmalloc(sizeof(*seen));
        *seen = time_mono_ms();
        map_set(&n->seen, name, seen);
    }
    return *seen + (grace ? grace : GRACE_MS) - time_mono_ms();
}

/* --- eviction by NoExecute -------------------------------------------------------------------------------------- */

/* Seconds the pod tolerates a taint: -1 for ever, 0 not at all. */
static int64_t tolerated_s(const struct json *pod, const struct json *taint) {
    const struct json *all = json_at(pod, "spec.tolerations");
    int64_t best = 0;
    for (size_t i = 0; i < json_len(all); i++) {
        const struct json *t = json_item(all, i);
        struct str key = json_str_at(t, "key"), effect = json_str_at(t, "effect"), op = json_str_at(t, "operator");
        bool exists = str_eq(op, STR("Exists"));
        if ((key.n || !exists) && !str_eq(key, json_str_at(taint, "key")))
            continue;
        if (effect.n && !str_eq(effect, STR("NoExecute")))
            continue;
        if (!exists && !str_eq(json_str_at(t, "value"), json_str_at(taint, "value")))
            continue;
        const struct json *limit = json_get_c(t, "tolerationSeconds");
        if (!limit)
            return -1;
        best = MAX(best, json_as_int(limit, 0));
    }
    return best;
}

/* Evicts what has to go now; returns ms until the next one has to, or 0. */
static int64_t evict(struct controller *c, struct api_call *call, struct object *node) {
    struct nodes *n = c->state;
    const struct json *taints = json_at(object_json(node), "spec.taints");
    struct object_list pods cleanup_objects = {0};
    int64_t next = 0, now = time_now_s();
    for (size_t t = 0; t < json_len(taints); t++) {
        const struct json *taint = json_item(taints, t);
        struct timespec since;
        if (!str_eq(json_str_at(taint, "effect"), STR("NoExecute")))
            continue;
        if (pods.n == 0)
            store_index_each(n->all->store, n->pods.kind, INDEX_NODE, node->name, add_pod, &pods);
        if (!time_parse(json_str_at(taint, "timeAdded"), &since))
            since.tv_sec = now;
        for (size_t i = 0; i < pods.n; i++) {
            const struct json *pod = object_json(pods.items[i]);
            int64_t limit = tolerated_s(pod, taint), left = since.tv_sec + limit - now;
            if (limit < 0 || object_deleting(pod))
                continue;
            if (limit > 0 && left > 0) {
                next = next == 0 ? left * 1000 : MIN(next, left * 1000);
                continue;
            }
            struct api_delete_options o = {.grace_period_s = -1, .uid = pods.items[i]->uid};
            api_event(c->api, pods.items[i], "taint-eviction-controller", "", "Normal", "TaintManagerEviction",
                      "Marking for deletion Pod %.*s/%.*s", STR_ARG(pods.items[i]->ns), STR_ARG(pods.items[i]->name));
            api_delete(call, n->pods.resource, pods.items[i]->ns, pods.items[i]->name, &o, NULL);
        }
    }
    return next;
}

/* Pods of a node that does not exist any more can never end by themselves. */
static void remove_pods_of(struct controller *c, struct api_call *call, struct str node) {
    struct nodes *n = c->state;
    struct object_list pods cleanup_objects = {0};
    struct api_delete_options o = {.grace_period_s = 0};
    store_index_each(n->all->store, n->pods.kind, INDEX_NODE, node, add_pod, &pods);
    for (size_t i = 0; i < pods.n; i++)
        api_delete(call, n->pods.resource, pods.items[i]->ns, pods.items[i]->name, &o, NULL);
}

static int64_t run(struct controller *c, struct api_call *call, struct str name) {
    struct nodes *n = c->state;
    struct object *o = store_get(n->all->store, n->kind.kind, STR(""), name);
    if (!o) {
        free(map_del(&n->seen, name));
        remove_pods_of(c, call, name);
        return 0;
    }
    int64_t left = life_left(n, name);
    int rc = left <= 0 ? mark_unknown(c, call, o) : 0;
    object_unref(o);
    o = store_get(n->all->store, n->kind.kind, STR(""), name);
    if (rc == 0 && o)
        rc = write_spec(c, call, o);
    int64_t next = rc == 0 && o ? evict(c, call, o) : 0;
    object_unref(o);
    if (rc < 0)
        return call_failed(c, call, "node");
    if (left > 0)
        next = next ? MIN(next, left) : left;
    return next;
}

static int64_t reconcile(struct controller *c, struct str ns, struct str name) {
    (void)ns;
    struct arena *a = arena_new(KiB(8), 0);
    struct api_call call = call_begin(c, a);
    int64_t again = run(c, &call, name);
    arena_free(a);
    return again;
}

/* --- what makes us look ----------------------------------------------------------------------------------------- */

static void on_node(void *arg, const struct event *e) {
    struct controller *c = arg;
    work_queue_add(c->queue, STR(""), e->object->name);
}

/* A renewed lease is a sign of life; it only moves the deadline. */
static void on_lease(void *arg, const struct event *e) {
    struct controller *c = arg;
    struct nodes *n = c->state;
    if (e->type == EVENT_DELETED || !str_eq(e->object->ns, STR("kube-node-lease")))
        return;
    bool was_lost = life_left(n, e->object->name) <= 0;
    int64_t *seen = map_get(&n->seen, e->object->name);
    *seen = time_mono_ms();
    if (was_lost)
        work_queue_add(c->queue, STR(""), e->object->name);
}

static void node_keys(struct object *o, void (*emit)(void *arg, struct str key), void *arg) {
    struct str node = json_str_at(object_json(o), "spec.nodeName");
    if (node.n)
        emit(arg, node);
}

static void fini(void *state) {
    struct nodes *n = state;
    struct map_entry *e;
    for (size_t i = 0; (e = map_next(&n->seen, &i));)
        free(e->value);
    map_fini(&n->seen);
}

struct controller *node_controller_new(struct controllers *all) {
    struct nodes *n = XNEW(struct nodes);
    *n = (struct nodes){.all = all,
                        .kind = kind_find(all, "nodes"),
                        .leases = kind_find(all, "leases.coordination.k8s.io"),
                        .pods = kind_find(all, "pods")};
    struct controller *c = controller_new(all, "node-controller", reconcile, n);
    c->fini = fini;
    store_index_add(all->store, n->pods.kind, INDEX_NODE, node_keys);
    store_hook_add(all->store, n->kind.kind, on_node, c);
    store_hook_add(all->store, n->leases.kind, on_lease, c);
    controller_queue_all(c, &n->kind);
    return c;
}
