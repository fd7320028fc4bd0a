/* The table of what single kinds do beyond the generic path, and the kinds whose hooks are a few lines. */
#include "api/kinds.h"

/* --- Secret: stringData is write-only text for data -------------------------------------------------------------- */

static int secret_admit(struct api_write *w) {
    struct json *text = json_get_c(w->obj, "stringData");
    struct arena *a = w->arena;
    if (!json_is(text, JSON_OBJECT))
        return 0;
    struct json *data = json_ensure(a, w->obj, "data");
    if (!data)
        return status_bad_request(w->status, a, "data must be an object");
    for (uint32_t i = 0; i < text->n; i++) {
        struct buf b = BUF_INIT;
        struct str s = json_as_str(text->members[i].value);
        base64_encode(&b, s.p, s.n);
        json_set(a, data, text->members[i].key, json_str(a, buf_str(&b)));
        buf_fini(&b);
    }
    json_sort(data);
    json_del_c(w->obj, "stringData");
    return 0;
}

/* --- Lease and Node: heartbeats stay off the disk ---------------------------------------------------------------- */

static bool equal_without(struct arena *a, const struct json *now, const struct json *old, const char *list,
                          const char *member) {
    struct json *x = json_copy(a, now), *y = json_copy(a, old);
    struct json *trees[] = {x, y};
    for (size_t t = 0; t < ARRAY_LEN(trees); t++) {
        struct json *at = list ? json_at(trees[t], list) : NULL;
        json_del_c(json_get_c(trees[t], "metadata"), "resourceVersion");
        for (size_t i = 0; i < json_len(at); i++)
            json_del_c(json_item(at, i), member);
        if (!list)
            json_del_c(json_get_c(trees[t], "spec"), member);
    }
    return json_equal(x, y);
}

static bool lease_heartbeat(struct api_write *w) {
    return equal_without(w->arena, w->obj, w->old, NULL, "renewTime");
}

/* A node registers itself and nobody else. */
static int node_create(struct api_write *w) {
    static const struct str prefix = STR_INIT("system:node:");
    if (!user_in_group(w->user, "system:nodes") || !str_starts(w->user->name, prefix) ||
        str_eq(str_skip(w->user->name, prefix.n), w->name))
        return 0;
    return status_forbidden(w->status, w->arena, w->r, w->name, "node \"%.*s\" is not allowed to modify node \"%.*s\"",
                            STR_ARG(str_skip(w->user->name, prefix.n)), STR_ARG(w->name));
}

static bool node_heartbeat(struct api_write *w) {
    return str_eq_c(w->sub, "status") &&
           equal_without(w->arena, w->obj, w->old, "status.conditions", "lastHeartbeatTime");
}

/* --- CertificateSigningRequest: who asks is stamped, never believed ---------------------------------------------- */

static int csr_create(struct api_write *w) {
    struct arena *a = w->arena;
    struct json *spec = json_ensure(a, w->obj, "spec"), *groups = json_array(a);
    if (!spec)
        return status_bad_request(w->status, a, "spec must be an object");
    for (size_t i = 0; i < w->user->groups_n; i++)
        json_append(a, groups, json_str(a, w->user->groups[i]));
    json_set_str(a, spec, "username", w->user->name);
    json_set_c(a, spec, "groups", groups);
    json_del_c(spec, "extra");
    json_del_c(spec, "uid");
    if (w->user->uid.n)
        json_set_str(a, spec, "uid", w->user->uid);
    return 0;
}

static int pending_create(struct api_write *w) {
    json_put(w->arena, w->obj, "status.phase", json_cstr(w->arena, "Pending"));
    return 0;
}

/* Events of clients that leave the times out still sort and age. */
static int event_create(struct api_write *w) {
    char now[TIME_RFC3339_MAX];
    struct arena *a = w->arena;
    time_now_rfc3339(now);
    if (json_str_at(w->obj, "eventTime").n == 0 && json_str_at(w->obj, "firstTimestamp").n == 0) {
        json_set_cstr(a, w->obj, "firstTimestamp", now);
        json_set_cstr(a, w->obj, "lastTimestamp", now);
    }
    return 0;
}

static const struct api_behaviour behaviours[] = {
    {.key = "pods",
     .status_metadata = true,
     .returns_deleted = true,
     .create = pod_create,
     .update = pod_update,
     .grace = pod_grace},
    {.key = "services",
     .status_metadata = true,
     .create_on_update = true,
     .returns_deleted = true,
     .create = service_create,
     .update = service_update,
     .validate = service_validate},
    {.key = "namespaces",
     .status_metadata = true,
     .create = namespace_create,
     .remove = namespace_remove,
     .held = namespace_held},
    {.key = "nodes", .keeps_status = true, .status_metadata = true, .create = node_create, .heartbeat = node_heartbeat},
    {.key = "secrets", .create = secret_admit, .update = secret_admit},
    {.key = "serviceaccounts", .returns_deleted = true},
    {.key = "podtemplates", .returns_deleted = true},
    {.key = "resourcequotas", .returns_deleted = true},
    {.key = "persistentvolumes", .status_metadata = true, .returns_deleted = true, .create = pending_create},
    {.key = "persistentvolumeclaims", .status_metadata = true, .returns_deleted = true, .create = pending_create},
    {.key = "events", .create_on_update = true, .volatile_ = true, .create = event_create},
    {.key = "endpoints", .create_on_update = true},
    {.key = "limitranges", .create_on_update = true},
    {.key = "leases.coordination.k8s.io", .create_on_update = true, .heartbeat = lease_heartbeat},
    {.key = "roles.rbac.authorization.k8s.io", .create_on_update = true, .create = role_admit, .update = role_admit},
    {.key = "clusterroles.rbac.authorization.k8s.io",
     .create_on_update = true,
     .create = role_admit,
     .update = role_admit},
    {.key = "rolebindings.rbac.authorization.k8s.io",
     .create_on_update = true,
     .create = role_binding_admit,
     .update = role_binding_admit},
    {.key = "clusterrolebindings.rbac.authorization.k8s.io",
     .create_on_update = true,
     .create = role_binding_admit,
     .update = role_binding_admit},
    {.key = "poddisruptionbudgets.policy", .update_needs_version = false},
    {.key = "customresourcedefinitions.apiextensions.k8s.io", .update_needs_version = true},
    {.key = "apiservices.apiregistration.k8s.io", .update_needs_version = true},
    {.key = "certificatesigningrequests.certificates.k8s.io", .create = csr_create},
};

const struct api_behaviour *behaviour_find(struct str key) {
    for (size_t i = 0; i < ARRAY_LEN(behaviours); i++)
        if (str_eq_c(key, behaviours[i].key))
            return &behaviours[i];
    return NULL;
}
