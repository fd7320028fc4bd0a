/* What every namespace has: the ServiceAccount "default" and the ConfigMap "kube-root-ca.crt", put back when removed. */
#include "controllers/internal.h"

#define ROOT_CA "kube-root-ca.crt"

struct accounts {
    struct controllers *all;
    struct kind_ref namespaces, accounts, config_maps;
};

static int ensure_account(struct controller *c, struct api_call *call, struct str ns) {
    struct accounts *s = c->state;
    if (store_peek(api_store(c->api), s->accounts.kind, ns, STR("default")))
        return 0;
    struct json *o = json_object(call->arena);
    json_set_cstr(call->arena, o, "apiVersion", "v1");
    json_set_cstr(call->arena, o, "kind", "ServiceAccount");
    json_put(call->arena, o, "metadata.name", json_cstr(call->arena, "default"));
    return api_create(call, s->accounts.resource, ns, o, NULL);
}

static int ensure_root_ca(struct controller *c, struct api_call *call, struct str ns) {
    struct accounts *s = c->state;
    struct arena *a = call->arena;
    struct str pem = str_c(s->all->options.cluster_ca_pem);
    struct object *now = store_peek(api_store(c->api), s->config_maps.kind, ns, STR(ROOT_CA));
    const struct json *data = now ? json_get_c(object_json(now), "data") : NULL;
    if (str_eq(json_as_str(json_get_c(data, "ca.crt")), pem) && json_len(data) == 1)
        return 0;
    struct json *o = now ? json_copy(a, object_json(now)) : json_object(a), *wanted = json_object(a);
    json_set_cstr(a, o, "apiVersion", "v1");
    json_set_cstr(a, o, "kind", "ConfigMap");
    json_put(a, o, "metadata.name", json_cstr(a, ROOT_CA));
    json_set(a, json_ensure(a, o, "metadata.annotations"), STR("kubernetes.io/description"),
             json_cstr(a, "Contains a CA bundle that can be used to verify the kube-apiserver when using internal "
                          "endpoints such as the internal service IP or kubernetes.default.svc. No other usage is "
                          "guaranteed across distributions of Kubernetes clusters."));
    json_set_str(a, wanted, "ca.crt", pem);
    json_set_c(a, o, "data", wanted);
    return now ? api_update(call, s->config_maps.resource, ns, STR(ROOT_CA), STR(""), o, NULL)
               : api_create(call, s->config_maps.resource, ns, o, NULL);
}

static int64_t reconcile(struct controller *c, struct str ns, struct str name) {
    struct accounts *s = c->state;
    (void)ns;
    struct object *o = store_peek(api_store(c->api), s->namespaces.kind, STR(""), name);
    if (!o || object_deleting(object_json(o)))
        return 0;
    struct arena *a = arena_new(KiB(8), 0);
    struct api_call call = call_begin(c, a);
    int64_t again = 0;
    if (ensure_account(c, &call, name) < 0 || ensure_root_ca(c, &call, name) < 0)
        again = call_failed(c, &call, "namespace defaults");
    arena_free(a);
    return again;
}

static void on_namespace(void *arg, const struct event *e) {
    struct controller *c = arg;
    if (e->type == EVENT_ADDED)
        work_queue_add(c->queue, STR(""), e->object->name);
}

static void on_content(void *arg, const struct event *e) {
    struct controller *c = arg;
    if (e->type != EVENT_ADDED && (str_eq(e->object->name, STR("default")) || str_eq(e->object->name, STR(ROOT_CA))))
        work_queue_add(c->queue, STR(""), e->object->ns);
}

struct controller *serviceaccount_controller_new(struct controllers *all) {
    struct accounts *s = XNEW(struct accounts);
    *s = (struct accounts){all, kind_find(all, "namespaces"), kind_find(all, "serviceaccounts"),
                           kind_find(all, "configmaps")};
    struct controller *c = controller_new(all, "serviceaccount-controller", reconcile, s);
    store_hook_add(all->store, s->namespaces.kind, on_namespace, c);
    store_hook_add(all->store, s->accounts.kind, on_content, c);
    store_hook_add(all->store, s->config_maps.kind, on_content, c);
    controller_queue_all(c, &s->namespaces);
    return c;
}
