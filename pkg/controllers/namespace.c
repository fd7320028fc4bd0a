/*
 * Namespace deletion: everything in a terminating namespace goes, pods first; when nothing is left the finalizer
 * "kubernetes" is taken off and the namespace is gone.
 */
#include "controllers/internal.h"

#define RETRY_MS 1000 /* pods that end gracefully queue us by their end; this is for what does not */

struct namespaces {
    struct controllers *all;
    struct kind_ref kind, pods;
};

/* Asks for the deletion of all objects of a kind in ns; how many are still there. */
static size_t delete_all(struct controller *c, struct api_call *call, const struct schema_resource *r, struct str ns) {
    struct store *store = api_store(c->api);
    struct store_kind *kind = store_kind(store, r->key);
    struct object_list found cleanup_objects = {0};
    struct api_delete_options o = {.grace_period_s = -1, .propagation = STR("Background")};
    store_each(store, kind, ns, STR_NULL, STR_NULL, object_list_add, &found);
    size_t left = 0;
    for (size_t i = 0; i < found.n; i++) {
        struct object *still = NULL;
        if (!object_deleting(object_json(found.items[i])))
            api_delete(call, r, ns, found.items[i]->name, &o, &still);
        object_unref(still);
        left += store_peek(store, kind, ns, found.items[i]->name) != NULL;
    }
    return left;
}

static size_t delete_content(struct controller *c, struct api_call *call, struct str ns) {
    struct namespaces *n = c->state;
    const struct schema *schema = n->all->schema;
    size_t left = delete_all(c, call, n->pods.resource, ns);
    if (left)
        return left;
    for (size_t i = 0; i < schema_resources_n(schema); i++) {
        const struct schema_resource *r = schema_resource_at(schema, i);
        if (r->namespaced && r->storage == r && (r->verbs & VERB_DELETE) && r != n->pods.resource)
            left += delete_all(c, call, r, ns);
    }
    return left;
}

static int finalize(struct controller *c, struct api_call *call, struct object *o) {
    struct namespaces *n = c->state;
    struct json *copy = json_copy(call->arena, object_json(o));
    struct json *finalizers = json_at(copy, "spec.finalizers");
    for (size_t i = json_len(finalizers); i > 0; i--)
        if (str_eq(json_as_str(json_item(finalizers, i - 1)), STR("kubernetes")))
            json_remove(finalizers, i - 1);
    return api_update(call, n->kind.resource, STR(""), o->name, STR("finalize"), copy, NULL);
}

static int64_t reconcile(struct controller *c, struct str ns, struct str name) {
    struct namespaces *n = c->state;
    (void)ns;
    struct object *o = store_get(api_store(c->api), n->kind.kind, STR(""), name);
    int64_t again = 0;
    if (!o)
        return 0;
    if (object_deleting(object_json(o))) {
        struct arena *a = arena_new(0, 0);
        struct api_call call = call_begin(c, a);
        if (delete_content(c, &call, name))
            again = RETRY_MS;
        else if (finalize(c, &call, o) < 0 && call.status.code != 404)
            again = call_failed(c, &call, "finalizing");
        arena_free(a);
    }
    object_unref(o);
    return again;
}

static void on_namespace(void *arg, const struct event *e) {
    struct controller *c = arg;
    if (e->type != EVENT_DELETED && object_deleting(object_json(e->object)))
        work_queue_add(c->queue, STR(""), e->object->name);
}

/* An object that went may have been the last one of its namespace. */
static void on_any(void *arg, const struct event *e) {
    struct controller *c = arg;
    struct namespaces *n = c->state;
    if (e->type != EVENT_DELETED || e->object->ns.n == 0)
        return;
    struct object *ns = store_peek(api_store(c->api), n->kind.kind, STR(""), e->object->ns);
    if (ns && object_deleting(object_json(ns)))
        work_queue_add(c->queue, STR(""), e->object->ns);
}

struct controller *namespace_controller_new(struct controllers *all) {
    struct namespaces *n = XNEW(struct namespaces);
    *n = (struct namespaces){all, kind_find(all, "namespaces"), kind_find(all, "pods")};
    struct controller *c = controller_new(all, "namespace-controller", reconcile, n);
    store_hook_add(all->store, n->kind.kind, on_namespace, c);
    store_hook_add(all->store, NULL, on_any, c);
    controller_queue_all(c, &n->kind);
    return c;
}
