/*
 * The scheduling queue and binding. A pod is tried as soon as it appears; one that does not fit waits until something changes
 * that could help (a node, a pod that ends), without any period.
 */
#include "scheduler/scheduler.h"

#include <stdio.h>
#include <stdlib.h>

#include "scheduler/snapshot.h"

struct waiting {
    struct list link;
    int32_t priority;
    uint64_t order;
    struct str ns, name; /* behind it, in one allocation */
    bool active;         /* in the active queue, else waiting for a change */
    char text[];
};

struct scheduler {
    struct api *api;
    struct store *store;
    struct str name;
    struct store_kind *pods, *nodes_kind;
    const struct schema_resource *pod_resource;
    VEC(struct node_info *) nodes;
    struct map waiting; /* "ns/name" -> waiting */
    VEC(struct waiting *) active;
    uint64_t order;
    bool scheduled, stopped;
};

static void run_turn(void *arg);

static void wake(struct scheduler *s) {
    if (!s->scheduled && s->active.n) {
        s->scheduled = true;
        loop_post(api_loop(s->api), run_turn, s);
    }
}

/* --- the queue: by priority, then by age ------------------------------------------------------------------------ */

static bool before(const struct waiting *a, const struct waiting *b) {
    return a->priority != b->priority ? a->priority > b->priority : a->order < b->order;
}

static void activate(struct scheduler *s, struct waiting *w) {
    if (w->active)
        return;
    w->active = true;
    vec_push(&s->active, w);
    for (size_t i = s->active.n - 1; i > 0;) { /* sift up */
        size_t up = (i - 1) / 2;
        if (!before(s->active.items[i], s->active.items[up]))
            break;
        struct waiting *t = s->active.items[i];
        s->active.items[i] = s->active.items[up];
        s->active.items[up] = t;
        i = up;
    }
    wake(s);
}

static struct waiting *take_first(struct scheduler *s) {
    struct waiting *first = s->active.items[0], *last = s->active.items[--s->active.n];
    size_t i = 0, n = s->active.n;
    s->active.items[0] = last;
    for (;;) {
        size_t least = i, l = 2 * i + 1, r = l + 1;
        if (l < n && before(s->active.items[l], s->active.items[least]))
            least = l;
        if (r < n && before(s->active.items[r], s->active.items[least]))
            least = r;
        if (least == i)
            break;
        struct waiting *t = s->active.items[i];
        s->active.items[i] = s->active.items[least];
        s->active.items[least] = t;
        i = least;
    }
    first->active = false;
    return first;
}

static struct str pod_key(char room[600], struct str ns, struct str name) {
    int n = snprintf(room, 600, "%.*s/%.*s", STR_ARG(ns), STR_ARG(name));
    return str_n(room, MIN((size_t)n, (size_t)599));
}

static void queue_pod(struct scheduler *s, struct object *o) {
    char room[600];
    struct str key = pod_key(room, o->ns, o->name);
    struct waiting *w = map_get(&s->waiting, key);
    if (!w) {
        w = xcalloc(1, sizeof(*w) + o->ns.n + o->name.n);
        memcpy(w->text, o->ns.p, o->ns.n);
        memcpy(w->text + o->ns.n, o->name.p, o->name.n);
        w->ns = str_n(w->text, o->ns.n);
        w->name = str_n(w->text + o->ns.n, o->name.n);
        w->order = s->order++;
        map_set(&s->waiting, key, w);
    }
    w->priority = (int32_t)json_int_at(object_json(o), "spec.priority", 0);
    activate(s, w);
}

/* Pods in the active queue are skipped when their turn comes; here only the name goes. */
static void forget_pod(struct scheduler *s, struct str ns, struct str name) {
    char room[600];
    struct str key = pod_key(room, ns, name);
    struct waiting *w = map_get(&s->waiting, key);
    if (w && !w->active) {
        map_del(&s->waiting, key);
        free(w);
    }
}

static void activate_all(struct scheduler *s) {
    struct map_entry *e;
    for (size_t i = 0; (e = map_next(&s->waiting, &i));)
        activate(s, e->value);
}

/* --- one pod ---------------------------------------------------------------------------------------------------- */

struct reasons { /* how many nodes refuse for which reason */
    struct {
        const char *why;
        size_t nodes;
    } list[16];
    size_t n;
};

static void count_reason(struct reasons *r, const char *why) {
    for (size_t i = 0; i < r->n; i++)
        if (strcmp(r->list[i].why, why) == 0) {
            r->list[i].nodes++;
            return;
        }
    if (r->n < ARRAY_LEN(r->list)) {
        r->list[r->n].why = why;
        r->list[r->n++].nodes = 1;
    }
}

static struct node_info *choose(struct scheduler *s, const struct pod_info *p, struct reasons *reasons) {
    struct cluster_view v = {s->nodes.items, s->nodes.n, s->api};
    struct node_info *best = NULL;
    int64_t best_score = -1;
    for (size_t i = 0; i < s->nodes.n; i++) {
        struct node_info *n = s->nodes.items[i];
        const char *why = filter_node(p, n, p->arena);
        if (!why)
            why = filter_affinity(p, n, &v);
        if (!why)
            why = filter_spread(p, n, &v);
        if (why) {
            count_reason(reasons, why);
            continue;
        }
        int64_t score = score_node(p, n, &v);
        if (score > best_score || (score == best_score && rand_below(2))) {
            best = n;
            best_score = score;
        }
    }
    return best;
}

static struct api_call begin(struct scheduler *s, struct arena *a) {
    return (struct api_call){.api = s->api, .manager = "kube-scheduler", .arena = a};
}

static int bind_pod(struct scheduler *s, struct object *pod, const struct pod_info *p, struct node_info *node) {
    struct api_call call = begin(s, p->arena);
    struct json *b = json_object(p->arena);
    json_set_cstr(p->arena, b, "apiVersion", "v1");
    json_set_cstr(p->arena, b, "kind", "Binding");
    json_put(p->arena, b, "metadata.name", json_str(p->arena, pod->name));
    json_put(p->arena, b, "metadata.uid", json_str(p->arena, pod->uid));
    json_put(p->arena, b, "target.kind", json_cstr(p->arena, "Node"));
    json_put(p->arena, b, "target.name", json_str(p->arena, node->object->name));
    int rc = api_update(&call, s->pod_resource, pod->ns, pod->name, STR("binding"), b, NULL);
    if (rc < 0) {
        log_warn("scheduler", "binding %.*s/%.*s: %.*s", STR_ARG(pod->ns), STR_ARG(pod->name),
                 STR_ARG(call.status.message));
        return rc;
    }
    api_event(s->api, pod, "default-scheduler", "", "Normal", "Scheduled", "Successfully assigned %.*s/%.*s to %.*s",
              STR_ARG(pod->ns), STR_ARG(pod->name), STR_ARG(node->object->name));
    return 0;
}

static int by_text(const void *x, const void *y) {
    return strcmp(*(const char *const *)x, *(const char *const *)y);
}

/* "0/2 nodes are available: 1 Insufficient cpu, 1 Too many pods." as the scheduler of Kubernetes words it. */
static const char *explain(struct scheduler *s, struct arena *a, const struct reasons *r) {
    struct buf b = BUF_INIT;
    const char *lines[ARRAY_LEN(r->list)];
    for (size_t i = 0; i < r->n; i++)
        lines[i] = arena_printf(a, "%zu %s", r->list[i].nodes, r->list[i].why);
    qsort(lines, r->n, sizeof(*lines), by_text);
    if (s->nodes.n == 0)
        buf_puts(&b, "no nodes available to schedule pods");
    else
        buf_printf(&b, "0/%zu nodes are available: ", s->nodes.n);
    for (size_t i = 0; i < r->n; i++)
        buf_printf(&b, "%s%s", i ? ", " : "", lines[i]);
    if (s->nodes.n)
        buf_puts(&b, ".");
    const char *text = arena_strdup(a, b.p ? b.p : "");
    buf_fini(&b);
    return text;
}

/* Says in the pod's condition and in an event why it has to wait. */
static void report(struct scheduler *s, struct object *pod, struct arena *a, const char *reason, const char *message) {
    const struct json *o = object_json(pod), *conditions = json_at(o, "status.conditions");
    char now[TIME_RFC3339_MAX];
    for (size_t i = 0; i < json_len(conditions); i++) {
        const struct json *c = json_item(conditions, i);
        if (str_eq(json_str_at(c, "type"), STR("PodScheduled")) && str_eq_c(json_str_at(c, "message"), message) &&
            str_eq_c(json_str_at(c, "reason"), reason))
            return;
    }
    struct api_call call = begin(s, a);
    struct json *copy = json_copy(a, o), *c = json_object(a), *list = json_at(copy, "status.conditions");
    json_set_cstr(a, c, "type", "PodScheduled");
    json_set_cstr(a, c, "status", "False");
    json_set_cstr(a, c, "lastTransitionTime", time_now_rfc3339(now));
    json_set_cstr(a, c, "reason", reason);
    json_set_cstr(a, c, "message", message);
    for (size_t i = json_len(list); i > 0; i--)
        if (str_eq(json_str_at(json_item(list, i - 1), "type"), STR("PodScheduled")))
            json_remove(list, i - 1);
    if (!list)
        json_put(a, copy, "status.conditions", list = json_array(a));
    json_append(a, list, c);
    api_update(&call, s->pod_resource, pod->ns, pod->name, STR("status"), copy, NULL);
    if (strcmp(reason, "SchedulingGated") != 0)
        api_event(s->api, pod, "default-scheduler", "", "Warning", "FailedScheduling", "%s", message);
}

/* Whether the pod has found its place (or needs none), so that it leaves the queue. */
static bool schedule(struct scheduler *s, struct object *pod) {
    const struct json *o = object_json(pod);
    if (json_str_at(o, "spec.nodeName").n || json_str_at(o, "metadata.deletionTimestamp").n)
        return true;
    struct arena *a = arena_new(KiB(8), 0);
    bool done = false;
    if (json_len(json_at(o, "spec.schedulingGates"))) {
        report(s, pod, a, "SchedulingGated", "Scheduling is blocked due to non-empty scheduling gates");
    } else {
        struct pod_info p = {.pod = o, .arena = a};
        struct reasons reasons = {0};
        resources_of_pod(o, &p.request);
        scored_requests(o, &p.scored_cpu_milli, &p.scored_memory_bytes);
        struct node_info *node = choose(s, &p, &reasons);
        if (node)
            done = bind_pod(s, pod, &p, node) == 0;
        else
            report(s, pod, a, "Unschedulable", explain(s, a, &reasons));
    }
    arena_free(a);
    return done;
}

#define TURN_PODS 64

static void run_turn(void *arg) {
    struct scheduler *s = arg;
    s->scheduled = false;
    for (int i = 0; i < TURN_PODS && s->active.n && !s->stopped; i++) {
        struct waiting *w = take_first(s);
        struct object *pod = store_get(s->store, s->pods, w->ns, w->name);
        bool done = !pod || schedule(s, pod);
        object_unref(pod);
        if (done)
            forget_pod(s, w->ns, w->name);
    }
    wake(s);
}

/* --- the state it looks at, kept up to date by hooks ------------------------------------------------------------ */

static struct node_info *find_node(struct scheduler *s, struct str name, size_t *index) {
    for (size_t i = 0; i < s->nodes.n; i++)
        if (str_eq(s->nodes.items[i]->object->name, name)) {
            if (index)
                *index = i;
            return s->nodes.items[i];
        }
    return NULL;
}

static bool is_finished(const struct json *pod) {
    struct str phase = json_str_at(pod, "status.phase");
    return str_eq(phase, STR("Succeeded")) || str_eq(phase, STR("Failed"));
}

static bool add_bound(void *arg, struct object *pod) {
    struct node_info *n = arg;
    if (str_eq(json_str_at(object_json(pod), "spec.nodeName"), n->object->name) && !is_finished(object_json(pod)))
        node_info_add_pod(n, pod);
    return true;
}

/* Whether a change of a node could let a pod fit that did not. */
static bool node_change_helps(const struct json *old, const struct json *now) {
    static const char *const parts[] = {"status.allocatable", "spec", "metadata.labels"};
    for (size_t i = 0; i < ARRAY_LEN(parts); i++)
        if (!json_equal(json_at(old, parts[i]), json_at(now, parts[i])))
            return true;
    return false;
}

static void on_node(void *arg, const struct event *e) {
    struct scheduler *s = arg;
    size_t at = 0;
    if (s->stopped)
        return;
    struct node_info *n = find_node(s, e->object->name, &at);
    if (e->type == EVENT_DELETED) {
        if (n) {
            vec_remove(&s->nodes, at);
            node_info_free(n);
        }
        return;
    }
    if (!n) {
        n = node_info_new(e->object);
        vec_push(&s->nodes, n);
        store_each(s->store, s->pods, STR_NULL, STR_NULL, STR_NULL, add_bound, n);
        activate_all(s);
        return;
    }
    bool helps = !e->old || node_change_helps(object_json(e->old), object_json(e->object));
    node_info_set_node(n, e->object);
    if (helps)
        activate_all(s);
}

static bool ours(struct scheduler *s, const struct json *pod) {
    struct str name = json_str_at(pod, "spec.schedulerName");
    return name.n == 0 || str_eq(name, s->name);
}

static void on_pod(void *arg, const struct event *e) {
    struct scheduler *s = arg;
    const struct json *pod = object_json(e->object);
    struct str node = json_str_at(pod, "spec.nodeName");
    if (s->stopped)
        return;
    if (node.n == 0) {
        if (e->type == EVENT_DELETED)
            forget_pod(s, e->object->ns, e->object->name);
        else if (ours(s, pod) &&
                 (!e->old || !json_equal(json_get_c(object_json(e->old), "spec"), json_get_c(pod, "spec"))))
            queue_pod(s, e->object);
        return;
    }
    struct node_info *n = find_node(s, node, NULL);
    if (!n)
        return;
    if (e->type == EVENT_DELETED || is_finished(pod)) {
        node_info_remove_pod(n, e->object);
        activate_all(s); /* room for somebody else */
    } else {
        node_info_add_pod(n, e->object);
    }
}

static bool add_stored_node(void *arg, struct object *o) {
    on_node(arg, &(struct event){EVENT_ADDED, o, NULL});
    return true;
}

static bool add_stored_pod(void *arg, struct object *o) {
    struct scheduler *s = arg;
    const struct json *pod = object_json(o);
    if (json_str_at(pod, "spec.nodeName").n == 0 && ours(s, pod))
        queue_pod(s, o);
    return true;
}

struct scheduler *scheduler_start(struct api *api, const char *scheduler_name) {
    struct scheduler *s = XNEW(struct scheduler);
    s->api = api;
    s->store = api_store(api);
    s->name = str_c(scheduler_name ? scheduler_name : "default-scheduler");
    s->pods = store_kind(s->store, STR("pods"));
    s->nodes_kind = store_kind(s->store, STR("nodes"));
    s->pod_resource = schema_find_key(api_schema(api), "pods");
    store_each(s->store, s->nodes_kind, STR_NULL, STR_NULL, STR_NULL, add_stored_node, s);
    store_each(s->store, s->pods, STR_NULL, STR_NULL, STR_NULL, add_stored_pod, s);
    store_hook_add(s->store, s->nodes_kind, on_node, s);
    store_hook_add(s->store, s->pods, on_pod, s);
    return s;
}

/* Hooks cannot be taken back before the store closes, so the scheduler stays, idle and empty. */
void scheduler_stop(struct scheduler *s) {
    struct map_entry *e;
    s->stopped = true;
    for (size_t i = 0; (e = map_next(&s->waiting, &i));)
        free(e->value);
    map_fini(&s->waiting);
    vec_fini(&s->active);
    for (size_t i = 0; i < s->nodes.n; i++)
        node_info_free(s->nodes.items[i]);
    vec_fini(&s->nodes);
}
