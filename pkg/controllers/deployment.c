/* Deployment: rolls ReplicaSets from one template to the next within maxSurge and maxUnavailable. */
#include "controllers/deployment.h"

/* --- strategies ------------------------------------------------------------------------------------------------- */

/* An absolute number or a percentage of total, rounded up or down. */
static int64_t int_or_percent(const struct json *v, int64_t total, bool up, int64_t otherwise) {
    if (json_is(v, JSON_INT))
        return v->i;
    struct str s = json_as_str(v);
    int64_t percent;
    if (!str_ends(s, STR("%")) || !str_to_i64(str_n(s.p, s.n - 1), &percent))
        return otherwise;
    return (total * percent + (up ? 99 : 0)) / 100;
}

static void read_limits(struct rollout *r) {
    const struct json *spec = json_get_c(r->deployment, "spec"), *rolling = json_at(spec, "strategy.rollingUpdate");
    r->replicas = json_int_at(spec, "replicas", 1);
    r->min_ready_s = json_int_at(spec, "minReadySeconds", 0);
    bool recreate = str_eq(json_str_at(spec, "strategy.type"), STR("Recreate"));
    if (recreate)
        return;
    r->max_surge = int_or_percent(json_get_c(rolling, "maxSurge"), r->replicas, true, 1);
    r->max_unavailable = int_or_percent(json_get_c(rolling, "maxUnavailable"), r->replicas, false, 0);
    if (r->max_surge == 0 && r->max_unavailable == 0)
        r->max_unavailable = 1;
    r->max_unavailable = MIN(r->max_unavailable, r->replicas);
}

/* The newest grows as far as the surge allows. */
static int grow_newest(struct rollout *r) {
    int64_t now = set_spec_replicas(r->newest), total = rollout_sum_spec(r, NULL);
    if (now > r->replicas)
        return rollout_scale(r, &r->newest, r->replicas);
    int64_t room = r->replicas + r->max_surge - total;
    if (now == r->replicas || room <= 0)
        return 0;
    return rollout_scale(r, &r->newest, now + MIN(room, r->replicas - now));
}

/* Old ReplicaSets shrink: first what is unhealthy anyway, then as far as availability allows. */
static int shrink_old(struct rollout *r) {
    int64_t old_total = rollout_sum_spec(r, r->newest);
    if (old_total == 0)
        return 0;
    int64_t min_available = r->replicas - r->max_unavailable;
    int64_t new_unavailable = set_spec_replicas(r->newest) - set_status(r->newest, "availableReplicas");
    int64_t max_down = rollout_sum_spec(r, NULL) - min_available - MAX(new_unavailable, INT64_C(0));
    if (max_down <= 0)
        return 0; /* what was asked to go before has not gone yet, or the new ones are not there */
    for (size_t i = 0; i < r->sets.n && max_down > 0; i++) { /* unhealthy ones */
        if (r->sets.items[i] == r->newest)
            continue;
        int64_t spec = set_spec_replicas(r->sets.items[i]);
        int64_t sick = spec - set_status(r->sets.items[i], "availableReplicas");
        int64_t down = MIN(max_down, sick);
        if (spec == 0 || down <= 0)
            continue;
        int rc = rollout_scale(r, &r->sets.items[i], spec - down);
        if (rc < 0)
            return rc;
        max_down -= down;
    }
    int64_t spare = rollout_sum_status(r, NULL, "availableReplicas") - min_available;
    for (size_t i = 0; i < r->sets.n && spare > 0; i++) {
        int64_t spec = set_spec_replicas(r->sets.items[i]), down = MIN(spare, spec);
        if (r->sets.items[i] == r->newest || spec == 0)
            continue;
        int rc = rollout_scale(r, &r->sets.items[i], spec - down);
        if (rc < 0)
            return rc;
        spare -= down;
    }
    return 0;
}

static int roll(struct rollout *r) {
    int rc = rollout_ensure_newest(r);
    if (rc == 0)
        rc = grow_newest(r);
    return rc == 0 ? shrink_old(r) : rc;
}

static bool old_pod_runs(const struct rollout *r) {
    for (size_t i = 0; i < r->sets.n; i++) {
        struct object_list pods cleanup_objects = {0};
        if (r->sets.items[i] == r->newest)
            continue;
        store_index_each(api_store(r->c->api), r->d->pods.kind, INDEX_OWNER, r->sets.items[i]->uid, object_list_add,
                         &pods);
        for (size_t k = 0; k < pods.n; k++) {
            struct str phase = json_str_at(object_json(pods.items[k]), "status.phase");
            if (!str_eq(phase, STR("Succeeded")) && !str_eq(phase, STR("Failed")))
                return true;
        }
    }
    return false;
}

static int recreate(struct rollout *r) {
    for (size_t i = 0; i < r->sets.n; i++)
        if (r->sets.items[i] != r->newest && set_spec_replicas(r->sets.items[i]) > 0) {
            int rc = rollout_scale(r, &r->sets.items[i], 0);
            if (rc < 0)
                return rc;
        }
    if (old_pod_runs(r))
        return 0; /* the last one's end queues us */
    int rc = rollout_ensure_newest(r);
    return rc < 0 ? rc : grow_newest(r);
}

/* A change of spec.replicas alone is spread over the living ReplicaSets in proportion. */
static int scale_in_proportion(struct rollout *r) {
    size_t living = 0, last = 0;
    for (size_t i = 0; i < r->sets.n; i++)
        if (set_spec_replicas(r->sets.items[i]) > 0) {
            living++;
            last = i;
        }
    if (living == 0)
        return r->newest ? rollout_scale(r, &r->newest, r->replicas) : 0;
    if (living == 1)
        return rollout_scale(r, &r->sets.items[last], r->replicas);
    int64_t total = rollout_sum_spec(r, NULL), allowed = r->replicas + r->max_surge, left = allowed - total;
    for (size_t i = r->sets.n; i > 0 && left != 0; i--) {
        int64_t spec = set_spec_replicas(r->sets.items[i - 1]);
        if (spec == 0)
            continue;
        int64_t share = i == 1 ? left : (allowed - total) * spec / MAX(total, INT64_C(1));
        if (share == 0)
            share = left > 0 ? 1 : -1;
        if ((left > 0 && share > left) || (left < 0 && share < left))
            share = left;
        share = MAX(share, -spec);
        int rc = rollout_scale(r, &r->sets.items[i - 1], spec + share);
        if (rc < 0)
            return rc;
        left -= share;
    }
    return 0;
}

/* Whether the desired number changed since the ReplicaSets were scaled last. */
static bool is_scaling_event(const struct rollout *r) {
    for (size_t i = 0; i < r->sets.n; i++) {
        int64_t desired;
        const struct json *set = object_json(r->sets.items[i]);
        struct str text = json_as_str(json_get_c(json_at(set, "metadata.annotations"), ANNOTATION_DESIRED));
        if (set_spec_replicas(r->sets.items[i]) > 0 && str_to_i64(text, &desired) && desired != r->replicas)
            return true;
    }
    return false;
}

static int run(struct rollout *r) {
    if (json_bool_at(r->deployment, "spec.paused", false) || is_scaling_event(r)) {
        int rc = scale_in_proportion(r);
        if (rc < 0 || json_bool_at(r->deployment, "spec.paused", false))
            return rc;
    }
    int rc = str_eq(json_str_at(r->deployment, "spec.strategy.type"), STR("Recreate")) ? recreate(r) : roll(r);
    if (rc == 0 && rollout_complete(r))
        rc = rollout_clean_history(r);
    return rc;
}

static int64_t reconcile(struct controller *c, struct str ns, struct str name) {
    struct deployments *d = c->state;
    struct object *owner = store_get(api_store(c->api), d->kind.kind, ns, name);
    if (!owner)
        return 0;
    struct arena *a = arena_new(KiB(16), 0);
    struct api_call call = call_begin(c, a);
    struct rollout r = {
        .c = c, .d = d, .call = &call, .a = a, .owner = owner, .deployment = json_copy(a, object_json(owner))};
    int64_t again = 0;
    read_limits(&r);
    int rc = rollout_collect(&r);
    if (rc == 0 && !object_deleting(r.deployment))
        rc = run(&r);
    int written = rollout_write_status(&r, &again);
    if (rc < 0 || written < 0)
        again = call_failed(c, &call, "rollout");
    object_list_fini(&r.sets);
    object_unref(r.owner); /* the newest version: writes replace it */
    arena_free(a);
    return again;
}

/* --- what makes us look ----------------------------------------------------------------------------------------- */

static void on_deployment(void *arg, const struct event *e) {
    struct controller *c = arg;
    if (e->type != EVENT_DELETED)
        work_queue_add(c->queue, e->object->ns, e->object->name);
}

static void queue_by_ref(struct controller *c, const struct json *o) {
    const struct json *ref = meta_controller_ref(o);
    if (str_eq(json_str_at(ref, "kind"), STR("Deployment")))
        work_queue_add(c->queue, meta_ns(o), json_str_at(ref, "name"));
}

static void on_set(void *arg, const struct event *e) {
    queue_by_ref(arg, object_json(e->object));
}

/* The end of a pod lets a Recreate rollout go on. */
static void on_pod(void *arg, const struct event *e) {
    struct controller *c = arg;
    struct deployments *d = c->state;
    if (e->type != EVENT_DELETED)
        return;
    const struct json *ref = meta_controller_ref(object_json(e->object));
    if (!str_eq(json_str_at(ref, "kind"), STR("ReplicaSet")))
        return;
    struct object *set = store_peek(api_store(c->api), d->sets.kind, e->object->ns, json_str_at(ref, "name"));
    if (set)
        queue_by_ref(c, object_json(set));
}

struct controller *deployment_controller_new(struct controllers *all) {
    struct deployments *d = XNEW(struct deployments);
    *d = (struct deployments){all, kind_find(all, "deployments.apps"), kind_find(all, "replicasets.apps"),
                              kind_find(all, "pods")};
    struct controller *c = controller_new(all, "deployment-controller", reconcile, d);
    index_by_owner(all, &d->sets);
    index_by_owner(all, &d->pods);
    store_hook_add(all->store, d->kind.kind, on_deployment, c);
    store_hook_add(all->store, d->sets.kind, on_set, c);
    store_hook_add(all->store, d->pods.kind, on_pod, c);
    controller_queue_all(c, &d->kind);
    return c;
}
