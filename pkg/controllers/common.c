/* What the controllers share: calls, metadata, pods, conditions. */
#include <stdlib.h>

#include "controllers/internal.h"

struct kind_ref kind_find(struct controllers *all, const char *key) {
    struct kind_ref k = {schema_find_key(all->schema, key), NULL};
    REQUIRE(k.resource);
    k.kind = store_kind(all->store, str_c(key));
    return k;
}

struct controller *controller_new(struct controllers *all, const char *name,
                                  int64_t (*reconcile)(struct controller *, struct str, struct str), void *state) {
    struct controller *c = XNEW(struct controller);
    c->name = name;
    c->reconcile = reconcile;
    c->api = all->api;
    c->state = state;
    c->queue = work_queue_new(all->loop, c);
    return c;
}

static bool queue_one(void *arg, struct object *o) {
    struct controller *c = arg;
    work_queue_add(c->queue, o->ns, o->name);
    return true;
}

void controller_queue_all(struct controller *c, const struct kind_ref *k) {
    store_each(api_store(c->api), k->kind, STR_NULL, STR_NULL, STR_NULL, queue_one, c);
}

struct api_call call_begin(struct controller *c, struct arena *a) {
    return (struct api_call){.api = c->api, .manager = c->name, .arena = a};
}

int64_t call_failed(struct controller *c, const struct api_call *call, const char *doing) {
    int code = call->status.code;
    if (code == 404 || code == 409) /* somebody was faster: what they did queues us again, and so do we */
        log_debug(c->name, "%s: %.*s", doing, STR_ARG(call->status.message));
    else
        log_warn(c->name, "%s: %.*s", doing, STR_ARG(call->status.message));
    return -1;
}

struct str meta_uid(const struct json *o) {
    return json_str_at(o, "metadata.uid");
}

struct str meta_name(const struct json *o) {
    return json_str_at(o, "metadata.name");
}

struct str meta_ns(const struct json *o) {
    return json_str_at(o, "metadata.namespace");
}

bool object_deleting(const struct json *o) {
    return json_str_at(o, "metadata.deletionTimestamp").n > 0;
}

const struct json *meta_controller_ref(const struct json *o) {
    const struct json *refs = json_at(o, "metadata.ownerReferences");
    for (size_t i = 0; i < json_len(refs); i++)
        if (json_as_bool(json_get_c(json_item(refs, i), "controller"), false))
            return json_item(refs, i);
    return NULL;
}

static void owner_keys(struct object *o, void (*emit)(void *arg, struct str key), void *arg) {
    const struct json *refs = json_at(object_json(o), "metadata.ownerReferences");
    for (size_t i = 0; i < json_len(refs); i++)
        emit(arg, json_str_at(json_item(refs, i), "uid"));
}

void index_by_owner(struct controllers *all, const struct kind_ref *k) {
    store_index_add(all->store, k->kind, INDEX_OWNER, owner_keys);
}

struct json *owner_ref_new(struct arena *a, const struct schema_resource *r, const struct json *owner) {
    struct json *ref = json_object(a);
    json_set(a, ref, STR("apiVersion"),
             r->group.n ? json_strf(a, "%.*s/%.*s", STR_ARG(r->group), STR_ARG(r->version)) : json_str(a, r->version));
    json_set_str(a, ref, "kind", r->kind);
    json_set_str(a, ref, "name", meta_name(owner));
    json_set_str(a, ref, "uid", meta_uid(owner));
    json_set_bool(a, ref, "controller", true);
    json_set_bool(a, ref, "blockOwnerDeletion", true);
    return ref;
}

/* --- pods ------------------------------------------------------------------------------------------------------- */

bool pod_is_active(const struct json *pod) {
    struct str phase = json_str_at(pod, "status.phase");
    return !object_deleting(pod) && !str_eq(phase, STR("Succeeded")) && !str_eq(phase, STR("Failed"));
}

bool pod_condition_true(const struct json *pod, const char *type, int64_t *since_s) {
    const struct json *c = condition_find(json_get_c(pod, "status"), type);
    struct timespec t;
    if (!str_eq(json_str_at(c, "status"), STR("True")))
        return false;
    if (since_s)
        *since_s = time_parse(json_str_at(c, "lastTransitionTime"), &t) ? t.tv_sec : 0;
    return true;
}

bool pod_is_ready(const struct json *pod) {
    return pod_condition_true(pod, "Ready", NULL);
}

bool pod_is_available(const struct json *pod, int64_t min_ready_s, int64_t now_s, int64_t *wait_s) {
    int64_t since = 0;
    if (wait_s)
        *wait_s = -1;
    if (!pod_condition_true(pod, "Ready", &since))
        return false;
    if (min_ready_s == 0 || since + min_ready_s <= now_s)
        return true;
    if (wait_s)
        *wait_s = since + min_ready_s - now_s;
    return false;
}

/* --- conditions and status -------------------------------------------------------------------------------------- */

const struct json *condition_find(const struct json *status, const char *type) {
    const struct json *all = json_get_c(status, "conditions");
    for (size_t i = 0; i < json_len(all); i++)
        if (str_eq_c(json_str_at(json_item(all, i), "type"), type))
            return json_item(all, i);
    return NULL;
}

bool condition_set(struct arena *a, struct json *status, const char *type, const char *status_text, const char *reason,
                   const char *message, bool with_update) {
    char now[TIME_RFC3339_MAX];
    time_now_rfc3339(now);
    struct json *old = (struct json *)(uintptr_t)condition_find(status, type); /* status is the caller's own tree */
    bool flipped = !old || !str_eq_c(json_str_at(old, "status"), status_text);
    if (!flipped && str_eq_c(json_str_at(old, "reason"), reason) && str_eq_c(json_str_at(old, "message"), message))
        return false;
    struct json *c = json_object(a);
    json_set_cstr(a, c, "type", type);
    json_set_cstr(a, c, "status", status_text);
    if (with_update)
        json_set_cstr(a, c, "lastUpdateTime", now);
    json_set_str(a, c, "lastTransitionTime", flipped ? str_c(now) : json_str_at(old, "lastTransitionTime"));
    json_set_cstr(a, c, "reason", reason);
    json_set_cstr(a, c, "message", message);
    if (old) {
        *old = *c;
        return true;
    }
    struct json *all = json_get_c(status, "conditions");
    if (!json_is(all, JSON_ARRAY)) {
        all = json_array(a);
        json_set_c(a, status, "conditions", all);
    }
    json_append(a, all, c);
    return true;
}

int status_update(struct controller *c, struct api_call *call, const struct kind_ref *k, const struct json *before,
                  const struct json *after) {
    (void)c;
    if (json_equal(json_get_c(before, "status"), json_get_c(after, "status")))
        return 0;
    return api_update(call, k->resource, meta_ns(before), meta_name(before), STR("status"), after, NULL);
}

/* --- lists of objects ------------------------------------------------------------------------------------------- */

bool object_list_add(void *list, struct object *o) {
    struct object_list *l = list;
    vec_push(l, object_ref(o));
    return true;
}

void object_list_fini(struct object_list *l) {
    for (size_t i = 0; i < l->n; i++)
        object_unref(l->items[i]);
    vec_fini(l);
}
