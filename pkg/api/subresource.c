/* Subresources with bodies of their own: scale, binding, eviction, token; and those that connect to a node. */
#include "api/meta.h"

/* --- scale ------------------------------------------------------------------------------------------------------- */

static struct str selector_text(struct arena *a, const struct schema_resource *r, const struct json *obj) {
    const struct json *sel = json_at(obj, "spec.selector");
    struct label_selector *s = str_eq_c(r->plural, "replicationcontrollers") ? label_selector_from_map(a, sel)
                                                                             : label_selector_from_json(a, sel, NULL);
    return s ? label_selector_text(a, s) : STR("");
}

static struct json *scale_json(struct api_request *q, const struct json *obj) {
    static const char *const members[] = {"name", "namespace", "uid", "resourceVersion", "creationTimestamp"};
    struct arena *a = q->arena;
    struct json *v = json_object(a), *m = json_object(a);
    const struct json *meta = json_get_c(obj, "metadata");
    json_set_cstr(a, v, "kind", "Scale");
    json_set_str(a, v, "apiVersion",
                 q->sub->group.n ? str_printf(a, "%.*s/%.*s", STR_ARG(q->sub->group), STR_ARG(q->sub->version))
                                 : STR("autoscaling/v1"));
    for (size_t i = 0; i < ARRAY_LEN(members); i++) {
        struct json *x = json_get_c(meta, members[i]);
        if (x)
            json_set_c(a, m, members[i], x);
    }
    json_set_c(a, v, "metadata", m);
    json_put(a, v, "spec.replicas", json_int(a, json_int_at(obj, "spec.replicas", 0)));
    json_put(a, v, "status.replicas", json_int(a, json_int_at(obj, "status.replicas", 0)));
    struct str sel = selector_text(a, q->r->storage, obj);
    if (str_eq_c(q->sub->group, "autoscaling") && sel.n)
        json_put(a, v, "status.selector", json_str(a, sel));
    return v;
}

static void scale_send(struct api_request *q) {
    struct object *o = q->objects[0];
    struct json *v = json_copy(q->arena, scale_json(q, object_json(o)));
    object_unref(o);
    free(q->objects);
    q->objects = NULL;
    q->accept.form = FORM_OBJECT;
    reply_json(q, 200, v);
}

static int scale_patch(struct api_request *q, struct json *scale, struct json **out) {
    struct error err = {0};
    if (q->patch_type == API_PATCH_APPLY)
        return status_set(&q->status, q->arena, 415, "UnsupportedMediaType",
                          "server-side apply is not available in this version of the server");
    if (!q->input)
        return status_bad_request(&q->status, q->arena, "error decoding patch: the body of the request is empty");
    /* A Scale has no lists: a strategic patch of it is a merge patch. */
    *out = q->patch_type == API_PATCH_JSON ? json_patch(q->arena, scale, q->input, &err)
                                           : json_merge_patch(q->arena, scale, q->input);
    if (!*out)
        return status_set(&q->status, q->arena, 422, "Invalid",
                          "the server rejected our request due to an error in our request");
    return 0;
}

static int scale_write(struct api_request *q, struct api_write *w) {
    struct arena *a = q->arena;
    struct json *scale = q->input;
    w->old_object = api_get(q->api, q->r, q->t.ns, q->t.name);
    if (!w->old_object)
        return status_not_found(&q->status, a, q->r, q->t.name);
    const struct json *old = object_json(w->old_object);
    int rc = str_eq_c(q->method, "PATCH") ? scale_patch(q, json_copy(a, scale_json(q, old)), &scale) : 0;
    if (rc < 0)
        return rc;
    const struct json *n = json_at(scale, "spec.replicas");
    int64_t replicas = n ? json_as_int(n, -1) : 0;
    if (!json_is(scale, JSON_OBJECT) || (n && n->type != JSON_INT) || replicas > INT32_MAX)
        return status_bad_request(&q->status, a,
                                  "Scale in version \"v1\" cannot be handled as a Scale: json: cannot "
                                  "unmarshal %s into Go struct field ScaleSpec.spec.replicas of type int32",
                                  json_type_name(n));
    if (replicas < 0) {
        struct schema_resource r = {.group = STR("autoscaling"), .kind = STR("Scale"), .plural = STR("scales")};
        return status_invalid_field(&q->status, a, &r, q->t.name, FIELD_INVALID, "spec.replicas", n,
                                    "must be greater than or equal to 0");
    }
    w->obj = json_copy(a, old);
    json_put(a, w->obj, "spec.replicas", json_int(a, replicas));
    json_put(a, w->obj, "metadata.resourceVersion", json_str(a, json_str_at(scale, "metadata.resourceVersion")));
    json_put(a, w->obj, "metadata.uid", json_str(a, json_str_at(scale, "metadata.uid")));
    return write_update(w);
}

void scale_run(struct api_request *q) {
    struct api_write w;
    int rc = 0;
    write_init(&w, q->api, q->arena, &q->status, &q->who.user, q->r, q->t.ns, q->t.name, STR(""));
    if (!str_eq_c(q->method, "GET") && !request_dry_run(q))
        return;
    w.dry_run = q->dry_run;
    if (str_eq_c(q->method, "GET")) {
        w.out = api_get(q->api, q->r, q->t.ns, q->t.name);
        rc = w.out ? 0 : status_not_found(&q->status, q->arena, q->r, q->t.name);
    } else {
        rc = scale_write(q, &w);
    }
    if (rc < 0) {
        write_fini(&w);
        reply_status(q, &q->status);
        return;
    }
    q->objects = xcalloc(1, sizeof(*q->objects));
    q->objects[0] = TAKE_PTR(w.out);
    write_fini(&w);
    request_when_durable(q, q->objects[0]->revision, scale_send);
}

/* --- binding ----------------------------------------------------------------------------------------------------- */

static struct json *success_status(struct arena *a, int code) {
    struct json *v = json_object(a);
    json_set_cstr(a, v, "kind", "Status");
    json_set_cstr(a, v, "apiVersion", "v1");
    json_set_c(a, v, "metadata", json_object(a));
    json_set_cstr(a, v, "status", "Success");
    json_set_int(a, v, "code", code);
    return v;
}

static void send_success(struct api_request *q) {
    q->accept.form = FORM_OBJECT;
    reply_json(q, 201, success_status(q->arena, 201));
}

/* The PodScheduled condition becomes true with the binding. */
static void set_scheduled(struct arena *a, struct json *pod) {
    struct json *st = json_ensure(a, pod, "status"), *list = json_get_c(st, "conditions"), *c = NULL;
    char now[TIME_RFC3339_MAX];
    if (!json_is(list, JSON_ARRAY)) {
        list = json_array(a);
        json_set_c(a, st, "conditions", list);
    }
    for (size_t i = 0; i < json_len(list); i++)
        if (str_eq_c(json_str_at(json_item(list, i), "type"), "PodScheduled"))
            c = json_item(list, i);
    if (!c) {
        c = json_object(a);
        json_set_cstr(a, c, "type", "PodScheduled");
        json_append(a, list, c);
    }
    json_del_c(c, "reason");
    json_del_c(c, "message");
    json_set_cstr(a, c, "status", "True");
    json_set_c(a, c, "lastProbeTime", json_null(a));
    json_set_cstr(a, c, "lastTransitionTime", time_now_rfc3339(now));
}

int pod_bind(struct api_write *w, const struct json *binding) {
    struct arena *a = w->arena;
    struct str kind = json_str_at(binding, "target.kind"), node = json_str_at(binding, "target.name");
    if (node.n == 0 || (kind.n && !str_eq_c(kind, "Node")))
        return status_invalid_field(w->status, a, w->r, w->name, node.n ? FIELD_NOT_SUPPORTED : FIELD_REQUIRED,
                                    node.n ? "target.kind" : "target.name", NULL, "%s",
                                    node.n ? "supported values: \"Node\"" : "");
    w->old_object = api_get(w->api, w->r, w->ns, w->name);
    if (!w->old_object)
        return status_not_found(w->status, a, w->r, w->name);
    const struct json *old = object_json(w->old_object);
    struct str uid = json_str_at(binding, "metadata.uid"), bound = json_str_at(old, "spec.nodeName");
    if (uid.n && !str_eq(uid, w->old_object->uid))
        return status_conflict(w->status, a, w->r, w->name,
                               "Precondition failed: UID in precondition: %.*s, UID in object meta: %.*s", STR_ARG(uid),
                               STR_ARG(w->old_object->uid));
    if (meta_deleting(old))
        return status_conflict(w->status, a, w->r, w->name, "pod %.*s is being deleted, cannot be assigned to a host",
                               STR_ARG(w->name));
    if (bound.n)
        return status_conflict(w->status, a, w->r, w->name, "pod %.*s is already assigned to node \"%.*s\"",
                               STR_ARG(w->name), STR_ARG(bound));
    if (json_len(json_at(old, "spec.schedulingGates")) > 0)
        return status_conflict(w->status, a, w->r, w->name, "pod %.*s has non-empty .spec.schedulingGates",
                               STR_ARG(w->name));
    w->sub = STR("binding");
    w->obj = json_copy(a, old);
    json_put(a, w->obj, "spec.nodeName", json_str(a, node));
    set_scheduled(a, w->obj);
    return write_update(w);
}

void binding_run(struct api_request *q) {
    struct api_write w;
    if (!json_is(q->input, JSON_OBJECT)) {
        reply_error(q, 400, "BadRequest", "the body of the request has no Binding");
        return;
    }
    if (!request_dry_run(q))
        return;
    struct str name = q->sub ? q->t.name : json_str_at(q->input, "metadata.name");
    write_init(&w, q->api, q->arena, &q->status, &q->who.user, q->api->pods, q->t.ns, name, STR("binding"));
    w.dry_run = q->dry_run;
    int rc = pod_bind(&w, q->input);
    write_fini(&w);
    if (rc < 0)
        reply_status(q, &q->status);
    else
        request_when_durable(q, store_revision(q->api->store), send_success);
}

/* --- eviction ---------------------------------------------------------------------------------------------------- */

struct budget_search {
    struct str ns;
    const struct json *labels;
    struct object *found;
    size_t n;
    struct arena *a;
};

static bool budget_visit(void *arg, struct object *o) {
    struct budget_search *s = arg;
    struct label_selector *sel = label_selector_from_json(s->a, json_at(object_json(o), "spec.selector"), NULL);
    if (sel && label_selector_matches(sel, s->labels)) {
        s->found = o;
        s->n++;
    }
    return true;
}

/* Whether the disruption budget lets the pod go; counts it. */
static int take_disruption(struct api_request *q, const struct json *pod) {
    struct arena *a = q->arena;
    const struct schema_resource *r = schema_find_key(q->api->schema, "poddisruptionbudgets.policy");
    struct budget_search s = {.ns = q->t.ns, .labels = json_at(pod, "metadata.labels"), .a = a};
    if (!r || str_eq_c(json_str_at(pod, "status.phase"), "Pending"))
        return 0;
    store_each(q->api->store, api_resource(q->api, r)->kind, q->t.ns, STR_NULL, STR_NULL, budget_visit, &s);
    if (s.n == 0)
        return 0;
    if (s.n > 1)
        return status_internal(&q->status, a,
                               "This pod has more than one PodDisruptionBudget, which the eviction "
                               "subresource does not support.");
    const struct json *v = object_json(s.found);
    int64_t allowed = json_int_at(v, "status.disruptionsAllowed", 0);
    int64_t healthy = json_int_at(v, "status.currentHealthy", 0), desired = json_int_at(v, "status.desiredHealthy", 0);
    if (allowed <= 0) {
        int rc = status_set(&q->status, a, 429, "TooManyRequests",
                            "Cannot evict pod as it would violate the pod's disruption budget.");
        status_add_cause(&q->status, a, "DisruptionBudget",
                         str_printf(a, "The disruption budget %.*s needs %lld healthy pods and has %lld currently",
                                    STR_ARG(s.found->name), (long long)desired, (long long)healthy),
                         STR(""));
        return rc;
    }
    if (q->dry_run)
        return 0;
    struct api_call c = {.api = q->api, .arena = a};
    struct str name = str_dup(a, s.found->name);
    struct json *now = json_copy(a, v);
    char when[TIME_RFC3339_MAX];
    json_put(a, now, "status.disruptionsAllowed", json_int(a, allowed - 1));
    json_set_cstr(a, json_ensure(a, now, "status.disruptedPods"), json_str_at(pod, "metadata.name").p,
                  time_now_rfc3339(when));
    int rc = api_update(&c, r, q->t.ns, name, STR("status"), now, NULL);
    if (rc < 0)
        q->status = c.status;
    return rc;
}

void eviction_run(struct api_request *q) {
    struct api_write w;
    struct api_delete_options o = {.grace_period_s = -1};
    if (!request_dry_run(q))
        return;
    struct object *pod = api_get(q->api, q->api->pods, q->t.ns, q->t.name);
    if (!pod) {
        status_not_found(&q->status, q->arena, q->api->pods, q->t.name);
        reply_status(q, &q->status);
        return;
    }
    const struct json *opt = json_get_c(q->input, "deleteOptions");
    o.grace_period_s = json_int_at(opt, "gracePeriodSeconds", -1);
    o.uid = json_str_at(opt, "preconditions.uid");
    o.propagation = json_str_at(opt, "propagationPolicy");
    if (json_len(json_get_c(opt, "dryRun")) > 0)
        q->dry_run = true;
    int rc = meta_deleting(object_json(pod)) ? 0 : take_disruption(q, object_json(pod));
    object_unref(pod);
    if (rc == 0) {
        write_init(&w, q->api, q->arena, &q->status, &q->who.user, q->api->pods, q->t.ns, q->t.name, STR(""));
        w.dry_run = q->dry_run;
        rc = write_delete(&w, &o);
        write_fini(&w);
    }
    if (rc < 0)
        reply_status(q, &q->status);
    else
        request_when_durable(q, store_revision(q->api->store), send_success);
}

/* --- connections ------------------------------------------------------------------------------------------------- */

static const struct api_node_ops *node_ops_of(struct api *api, struct str node) {
    for (size_t i = 0; i < api->nodes.n; i++)
        if (str_eq_c(node, api->nodes.items[i].name))
            return &api->nodes.items[i].ops;
    return NULL;
}

/* log, exec, attach and portforward of a pod: the exchange goes to its node. */
static void pod_connect(struct api_request *q) {
    struct object *pod = api_get(q->api, q->api->pods, q->t.ns, q->t.name);
    if (!pod) {
        status_not_found(&q->status, q->arena, q->api->pods, q->t.name);
        reply_status(q, &q->status);
        return;
    }
    struct str node = json_str_at(object_json(pod), "spec.nodeName");
    const struct api_node_ops *ops = node_ops_of(q->api, node);
    if (node.n == 0)
        reply_error(q, 400, "BadRequest", "pod %.*s does not have a host assigned", STR_ARG(q->t.name));
    else if (!ops || !q->x)
        reply_error(q, 503, "ServiceUnavailable", "the node %.*s of pod %.*s is not connected to this server",
                    STR_ARG(node), STR_ARG(q->t.name));
    else {
        ops->serve(ops->arg, q->x, pod, q->t.subresource);
        return;
    }
    object_unref(pod);
}

static void proxy_connect(struct api_request *q) {
    reply_error(q, 501, "ServiceUnavailable", "the proxy subresource is not available in this version of the server");
}

struct subresource_run {
    const char *plural, *sub; /* plural NULL: of any */
    void (*run)(struct api_request *q);
};
static const struct subresource_run subresource_runs[] = {
    {NULL, "scale", scale_run},         {"pods", "binding", binding_run},
    {"pods", "eviction", eviction_run}, {"serviceaccounts", "token", token_run},
    {"pods", "log", pod_connect},       {"pods", "exec", pod_connect},
    {"pods", "attach", pod_connect},    {"pods", "portforward", pod_connect},
    {NULL, "proxy", proxy_connect},
};

bool subresource_run(struct api_request *q) {
    if (!q->sub) {
        if (!str_eq_c(q->r->key, "bindings"))
            return false;
        binding_run(q);
        return true;
    }
    for (size_t i = 0; i < ARRAY_LEN(subresource_runs); i++) {
        const struct subresource_run *s = &subresource_runs[i];
        if (!str_eq_c(q->sub->name, s->sub) || (s->plural && !str_eq_c(q->r->plural, s->plural)))
            continue;
        s->run(q);
        return true;
    }
    if (str_eq(q->sub->kind, q->r->kind))
        return false; /* status, finalize, approval, ephemeralcontainers, resize: the generic verbs */
    reply_error(q, 501, "ServiceUnavailable",
                "the subresource %.*s of %.*s is not available in this version of the"
                " server",
                STR_ARG(q->sub->name), STR_ARG(q->r->plural));
    return true;
}
