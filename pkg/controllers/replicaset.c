/*
 * ReplicaSet and ReplicationController: as many pods of a template as asked for. The two differ in the shape of
 * their selector only.
 */
#include <stdlib.h>

#include "controllers/internal.h"

#define BURST 500 /* pods made or removed in one run */

struct replicas {
    struct controllers *all;
    struct kind_ref kind, pods;
    bool map_selector; /* ReplicationController: a plain map */
};

#define INDEX_ORPHAN "orphan" /* pods without a controller, by namespace */

static void orphan_keys(struct object *o, void (*emit)(void *arg, struct str key), void *arg) {
    if (!meta_controller_ref(object_json(o)))
        emit(arg, o->ns);
}

static struct label_selector *selector_of(const struct replicas *r, struct arena *a, const struct json *set) {
    const struct json *s = json_at(set, "spec.selector");
    return r->map_selector ? label_selector_from_map(a, s) : label_selector_from_json(a, s, NULL);
}

/* --- which pods are ours ---------------------------------------------------------------------------------------- */

struct claim {
    struct controller *c;
    struct api_call *call;
    const struct json *set;
    struct label_selector *selector;
    struct object_list found, mine;
};

static bool controlled_by(const struct json *pod, struct str uid) {
    return str_eq(json_str_at(meta_controller_ref(pod), "uid"), uid);
}

/* Takes in an orphan that matches, unless the set is going away. */
static void adopt(struct claim *cl, struct object *pod) {
    struct replicas *r = cl->c->state;
    const struct json *o = object_json(pod);
    if (object_deleting(cl->set) || object_deleting(o) ||
        !label_selector_matches(cl->selector, json_at(o, "metadata.labels")))
        return;
    struct arena *a = cl->call->arena;
    struct json *copy = json_copy(a, o);
    struct json *refs = json_at(copy, "metadata.ownerReferences");
    if (!json_is(refs, JSON_ARRAY)) {
        refs = json_array(a);
        json_put(a, copy, "metadata.ownerReferences", refs);
    }
    json_append(a, refs, owner_ref_new(a, r->kind.resource, cl->set));
    struct object *out = NULL;
    if (api_update(cl->call, r->pods.resource, pod->ns, pod->name, STR(""), copy, &out) == 0) {
        object_list_add(&cl->mine, out);
        object_unref(out);
    }
}

/* Lets go of a pod whose labels do not match any more. */
static void release(struct claim *cl, struct object *pod) {
    struct replicas *r = cl->c->state;
    struct json *copy = json_copy(cl->call->arena, object_json(pod));
    struct json *refs = json_at(copy, "metadata.ownerReferences");
    for (size_t i = json_len(refs); i > 0; i--)
        if (str_eq(json_str_at(json_item(refs, i - 1), "uid"), meta_uid(cl->set)))
            json_remove(refs, i - 1);
    api_update(cl->call, r->pods.resource, pod->ns, pod->name, STR(""), copy, NULL);
}

static void claim_pods(struct claim *cl) {
    struct replicas *r = cl->c->state;
    struct store *store = api_store(cl->c->api);
    store_index_each(store, r->pods.kind, INDEX_OWNER, meta_uid(cl->set), object_list_add, &cl->found);
    for (size_t i = 0; i < cl->found.n; i++) {
        const struct json *pod = object_json(cl->found.items[i]);
        if (!controlled_by(pod, meta_uid(cl->set)))
            continue;
        if (label_selector_matches(cl->selector, json_at(pod, "metadata.labels")))
            object_list_add(&cl->mine, cl->found.items[i]);
        else
            release(cl, cl->found.items[i]);
    }
    struct object_list orphans cleanup_objects = {0};
    store_index_each(store, r->pods.kind, INDEX_ORPHAN, meta_ns(cl->set), object_list_add, &orphans);
    for (size_t i = 0; i < orphans.n; i++)
        adopt(cl, orphans.items[i]);
}

/* --- making and removing ---------------------------------------------------------------------------------------- */

static struct json *pod_from_template(struct arena *a, const struct replicas *r, const struct json *set) {
    const struct json *template = json_at(set, "spec.template");
    struct json *pod = json_object(a), *meta = json_object(a), *refs = json_array(a);
    static const char *const kept[] = {"labels", "annotations", "finalizers"};
    json_set_cstr(a, pod, "apiVersion", "v1");
    json_set_cstr(a, pod, "kind", "Pod");
    json_set_c(a, pod, "metadata", meta);
    json_set(a, meta, STR("generateName"), json_strf(a, "%.*s-", STR_ARG(meta_name(set))));
    for (size_t i = 0; i < ARRAY_LEN(kept); i++) {
        const struct json *v = json_get_c(json_get_c(template, "metadata"), kept[i]);
        if (v)
            json_set_c(a, meta, kept[i], json_copy(a, v));
    }
    json_append(a, refs, owner_ref_new(a, r->kind.resource, set));
    json_set_c(a, meta, "ownerReferences", refs);
    json_set_c(a, pod, "spec", json_copy(a, json_get_c(template, "spec")));
    return pod;
}

static int make_pods(struct claim *cl, struct object *owner, int64_t n) {
    struct replicas *r = cl->c->state;
    struct json *pod = pod_from_template(cl->call->arena, r, cl->set);
    for (int64_t i = 0; i < MIN(n, (int64_t)BURST); i++) {
        struct object *out = NULL;
        int rc = api_create(cl->call, r->pods.resource, meta_ns(cl->set), pod, &out);
        if (rc < 0) {
            api_event(cl->c->api, owner, cl->c->name, "", "Warning", "FailedCreate", "Error creating: %.*s",
                      STR_ARG(cl->call->status.message));
            return rc;
        }
        api_event(cl->c->api, owner, cl->c->name, "", "Normal", "SuccessfulCreate", "Created pod: %.*s",
                  STR_ARG(out->name));
        object_unref(out);
    }
    return 0;
}

/* The order in which pods go: the first key that differs decides, smaller goes first. */
static void removal_rank(const struct json *pod, int64_t rank[6]) {
    struct str phase = json_str_at(pod, "status.phase");
    int64_t since = 0, cost = 0, restarts = 0;
    bool ready = pod_condition_true(pod, "Ready", &since);
    struct timespec created = {0};
    const struct json *statuses = json_at(pod, "status.containerStatuses");
    for (size_t i = 0; i < json_len(statuses); i++)
        restarts += json_int_at(json_item(statuses, i), "restartCount", 0);
    str_to_i64(json_as_str(
                   json_get_c(json_at(pod, "metadata.annotations"), "controller.kubernetes.io/pod-deletion-cost")),
               &cost);
    time_parse(json_str_at(pod, "metadata.creationTimestamp"), &created);
    rank[0] = json_str_at(pod, "spec.nodeName").n > 0;
    rank[1] = str_eq(phase, STR("Running")) ? 2 : !str_eq(phase, STR("Pending"));
    rank[2] = ready * (INT64_C(1) << 33) + cost;
    rank[3] = -since;
    rank[4] = -restarts;
    rank[5] = -(int64_t)created.tv_sec;
}

static int by_removal(const void *x, const void *y) {
    int64_t a[6], b[6];
    removal_rank(object_json(*(struct object *const *)x), a);
    removal_rank(object_json(*(struct object *const *)y), b);
    for (size_t i = 0; i < ARRAY_LEN(a); i++)
        if (a[i] != b[i])
            return a[i] < b[i] ? -1 : 1;
    return 0;
}

static int remove_pods(struct claim *cl, struct object *owner, struct object **active, size_t active_n, size_t n) {
    struct replicas *r = cl->c->state;
    struct api_delete_options o = {.grace_period_s = -1};
    qsort(active, active_n, sizeof(*active), by_removal);
    for (size_t i = 0; i < MIN(n, (size_t)BURST); i++) {
        int rc = api_delete(cl->call, r->pods.resource, active[i]->ns, active[i]->name, &o, NULL);
        if (rc < 0 && cl->call->status.code != 404) {
            api_event(cl->c->api, owner, cl->c->name, "", "Warning", "FailedDelete", "Error deleting: %.*s",
                      STR_ARG(cl->call->status.message));
            return rc;
        }
        api_event(cl->c->api, owner, cl->c->name, "", "Normal", "SuccessfulDelete", "Deleted pod: %.*s",
                  STR_ARG(active[i]->name));
    }
    return 0;
}

/* --- status ----------------------------------------------------------------------------------------------------- */

/* Counts the pods into the status; returns the seconds until one more becomes available, or 0. */
static int64_t count_status(struct claim *cl, struct json *set, struct object **active, size_t n, size_t terminating,
                            int failed) {
    struct arena *a = cl->call->arena;
    int64_t min_ready = json_int_at(set, "spec.minReadySeconds", 0), now = time_now_s(), soonest = 0;
    int64_t ready = 0, available = 0, labeled = 0;
    const struct json *labels = json_at(set, "spec.template.metadata.labels");
    struct label_selector *full = label_selector_from_map(a, labels);
    for (size_t i = 0; i < n; i++) {
        const struct json *pod = object_json(active[i]);
        int64_t wait;
        ready += pod_is_ready(pod);
        labeled += json_len(labels) == 0 || label_selector_matches(full, json_at(pod, "metadata.labels"));
        if (pod_is_available(pod, min_ready, now, &wait))
            available++;
        else if (wait > 0 && (soonest == 0 || wait < soonest))
            soonest = wait;
    }
    struct json *status = json_ensure(a, set, "status");
    json_set_int(a, status, "replicas", (int64_t)n);
    json_set_int(a, status, "fullyLabeledReplicas", labeled);
    json_set_int(a, status, "readyReplicas", ready);
    json_set_int(a, status, "availableReplicas", available);
    if (!((struct replicas *)cl->c->state)->map_selector)
        json_set_int(a, status, "terminatingReplicas", (int64_t)terminating);
    json_set_int(a, status, "observedGeneration", json_int_at(set, "metadata.generation", 0));
    if (failed < 0) {
        condition_set(a, status, "ReplicaFailure", "True", "FailedCreate",
                      arena_strndup(a, cl->call->status.message.p, cl->call->status.message.n), false);
    } else {
        struct json *all = json_get_c(status, "conditions");
        for (size_t i = json_len(all); i > 0; i--)
            if (str_eq(json_str_at(json_item(all, i - 1), "type"), STR("ReplicaFailure")))
                json_remove(all, i - 1);
        if (json_is(all, JSON_ARRAY) && json_len(all) == 0)
            json_del_c(status, "conditions");
    }
    return soonest;
}

static int64_t reconcile_set(struct claim *cl, struct object *owner) {
    struct replicas *r = cl->c->state;
    claim_pods(cl);
    struct object_list active cleanup_objects = {0};
    size_t terminating = 0;
    for (size_t i = 0; i < cl->mine.n; i++) {
        const struct json *pod = object_json(cl->mine.items[i]);
        if (pod_is_active(pod))
            object_list_add(&active, cl->mine.items[i]);
        else
            terminating += object_deleting(pod);
    }
    int64_t want = json_int_at(cl->set, "spec.replicas", 1), have = (int64_t)active.n;
    int rc = 0;
    if (!object_deleting(cl->set) && have < want)
        rc = make_pods(cl, owner, want - have);
    else if (!object_deleting(cl->set) && have > want)
        rc = remove_pods(cl, owner, active.items, active.n, (size_t)(have - want));
    /* Made and removed pods changed the state: their hooks queue us again, and the status of now is what stands now. */
    struct json *after = json_copy(cl->call->arena, cl->set);
    int64_t soonest = count_status(cl, after, active.items, active.n, terminating, rc);
    if (status_update(cl->c, cl->call, &r->kind, cl->set, after) < 0)
        return call_failed(cl->c, cl->call, "status");
    if (rc < 0)
        return call_failed(cl->c, cl->call, "scaling");
    return soonest * 1000;
}

static int64_t reconcile(struct controller *c, struct str ns, struct str name) {
    struct replicas *r = c->state;
    struct object *owner = store_get(api_store(c->api), r->kind.kind, ns, name);
    if (!owner)
        return 0;
    struct arena *a = arena_new(KiB(16), 0);
    struct api_call call = call_begin(c, a);
    struct claim cl = {.c = c,
                       .call = &call,
                       .set = object_json(owner),
                       .selector = selector_of(r, a, object_json(owner))};
    int64_t again = cl.selector ? reconcile_set(&cl, owner) : 0;
    object_list_fini(&cl.found);
    object_list_fini(&cl.mine);
    object_unref(owner);
    arena_free(a);
    return again;
}

/* --- what makes us look ----------------------------------------------------------------------------------------- */

static void on_set(void *arg, const struct event *e) {
    struct controller *c = arg;
    if (e->type != EVENT_DELETED)
        work_queue_add(c->queue, e->object->ns, e->object->name);
}

static void queue_owner(struct controller *c, const struct json *pod) {
    struct replicas *r = c->state;
    const struct json *ref = meta_controller_ref(pod);
    if (str_eq(json_str_at(ref, "kind"), r->kind.resource->kind))
        work_queue_add(c->queue, meta_ns(pod), json_str_at(ref, "name"));
}

struct match {
    struct controller *c;
    const struct json *labels;
    struct arena *arena;
};

static bool queue_matching(void *arg, struct object *o) {
    struct match *m = arg;
    struct label_selector *s = selector_of(m->c->state, m->arena, object_json(o));
    if (s && label_selector_matches(s, m->labels))
        work_queue_add(m->c->queue, o->ns, o->name);
    return true;
}

static void on_pod(void *arg, const struct event *e) {
    struct controller *c = arg;
    struct replicas *r = c->state;
    const struct json *pod = object_json(e->object);
    if (e->old)
        queue_owner(c, object_json(e->old));
    if (meta_controller_ref(pod)) {
        queue_owner(c, pod);
        return;
    }
    if (e->type == EVENT_DELETED)
        return;
    struct match m = {.c = c, .labels = json_at(pod, "metadata.labels"), .arena = arena_new(0, 0)};
    store_each(api_store(c->api), r->kind.kind, e->object->ns, STR_NULL, STR_NULL, queue_matching, &m);
    arena_free(m.arena);
}

static struct controller *make(struct controllers *all, const char *name, const char *key, bool map_selector) {
    struct replicas *r = XNEW(struct replicas);
    r->all = all;
    r->kind = kind_find(all, key);
    r->pods = kind_find(all, "pods");
    r->map_selector = map_selector;
    struct controller *c = controller_new(all, name, reconcile, r);
    index_by_owner(all, &r->pods);
    store_index_add(all->store, r->pods.kind, INDEX_ORPHAN, orphan_keys);
    store_hook_add(all->store, r->kind.kind, on_set, c);
    store_hook_add(all->store, r->pods.kind, on_pod, c);
    controller_queue_all(c, &r->kind);
    return c;
}

struct controller *replicaset_controller_new(struct controllers *all) {
    return make(all, "replicaset-controller", "replicasets.apps", false);
}

struct controller *replication_controller_new(struct controllers *all) {
    return make(all, "replication-controller", "replicationcontrollers", true);
}
