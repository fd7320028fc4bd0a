/* The API as a thing: made at start, found again by its parts, and called by controllers as plain functions. */
#include "api/meta.h"

#define CHECKS_MAX 64
#define NODES_MAX 1024

static const struct api_behaviour behaviour_none = {.key = ""};

struct api_resource *api_resource(struct api *api, const struct schema_resource *r) {
    return &api->resources[r->storage->index];
}

struct object *api_peek(struct api *api, const struct schema_resource *r, struct str ns, struct str name) {
    if (!r)
        return NULL;
    struct api_resource *res = api_resource(api, r);
    return res->kind ? store_peek(api->store, res->kind, r->namespaced ? ns : STR(""), name) : NULL;
}

struct object *api_get(struct api *api, const struct schema_resource *r, struct str ns, struct str name) {
    struct object *o = api_peek(api, r, ns, name);
    return o ? object_ref(o) : NULL;
}

struct store *api_store(struct api *api) {
    return api->store;
}
const struct schema *api_schema(struct api *api) {
    return api->schema;
}
struct loop *api_loop(struct api *api) {
    return api->loop;
}

/* --- life -------------------------------------------------------------------------------------------------------- */

/* Whether objects of a resource are stored: it can be listed and created. */
static bool is_stored(const struct schema_resource *r) {
    return r->storage == r && (r->verbs & VERB_LIST) && (r->verbs & VERB_CREATE);
}

static void register_resources(struct api *api) {
    api->resources_n = schema_resources_n(api->schema);
    api->resources = xcalloc(api->resources_n, sizeof(*api->resources));
    for (size_t i = 0; i < api->resources_n; i++) {
        const struct schema_resource *r = schema_resource_at(api->schema, i);
        struct api_resource *res = &api->resources[r->index];
        REQUIRE(r->index < api->resources_n);
        res->r = r;
        res->behaviour = behaviour_find(r->key);
        if (!res->behaviour)
            res->behaviour = &behaviour_none;
        if (is_stored(r)) {
            res->kind = store_kind(api->store, r->key);
            res->kind->user = res;
        }
    }
}

struct well_known {
    size_t at;
    const char *key;
};
#define KNOWN(member, key_text) \
    { offsetof(struct api, member), key_text }
static const struct well_known well_known[] = {
    KNOWN(pods, "pods"),
    KNOWN(namespaces, "namespaces"),
    KNOWN(services, "services"),
    KNOWN(serviceaccounts, "serviceaccounts"),
    KNOWN(secrets, "secrets"),
    KNOWN(nodes_r, "nodes"),
    KNOWN(events_r, "events"),
    KNOWN(priorityclasses, "priorityclasses.scheduling.k8s.io"),
    KNOWN(leases, "leases.coordination.k8s.io"),
    KNOWN(roles, "roles.rbac.authorization.k8s.io"),
    KNOWN(clusterroles, "clusterroles.rbac.authorization.k8s.io"),
    KNOWN(rolebindings, "rolebindings.rbac.authorization.k8s.io"),
    KNOWN(clusterrolebindings, "clusterrolebindings.rbac.authorization.k8s.io"),
};

static int find_well_known(struct api *api, struct error *err) {
    for (size_t i = 0; i < ARRAY_LEN(well_known); i++) {
        const struct schema_resource *r = schema_find_key(api->schema, well_known[i].key);
        if (!r)
            return error_set(err, -ENOENT, "the schema lacks the resource %s", well_known[i].key);
        *(const struct schema_resource **)(void *)((char *)api + well_known[i].at) = r;
    }
    return 0;
}

static char *dup_or_null(const char *s) {
    return s ? xstrdup(s) : NULL;
}

static char **dup_list(const char *const *list) {
    size_t n = 0;
    while (list && list[n])
        n++;
    char **out = xcalloc(n + 1, sizeof(*out));
    for (size_t i = 0; i < n; i++)
        out[i] = xstrdup(list[i]);
    return out;
}

static void free_list(char **list) {
    for (size_t i = 0; list && list[i]; i++)
        free(list[i]);
    free(list);
}

int api_new(const struct api_options *o, struct api **out, struct error *err) {
    struct api *api = XNEW(struct api);
    int rc;
    pthread_mutex_init(&api->checks_lock, NULL);
    api->loop = o->loop;
    api->store = o->store;
    api->schema = o->schema;
    api->version_git = xstrdup(o->version_git ? o->version_git : "v1.36.0+dory");
    api->sa_key_pem = dup_or_null(o->sa_key_pem);
    api->sa_issuer = xstrdup(o->sa_issuer ? o->sa_issuer : "https://kubernetes.default.svc.cluster.local");
    api->cluster_ca_pem = dup_or_null(o->cluster_ca_pem);
    api->cluster_dns = dup_or_null(o->cluster_dns);
    api->service_cidr = xstrdup(o->service_cidr ? o->service_cidr : "10.43.0.0/16");
    api->sa_public_pem = dup_list(o->sa_public_pem);
    api->advertise = dup_list(o->advertise);
    register_resources(api);
    if ((rc = find_well_known(api, err)) < 0)
        goto fail;
    api->authn = authn_new(o, err);
    api->addresses = address_pool_new(api->service_cidr, o->node_port_first ? o->node_port_first : 30000,
                                      o->node_port_last ? o->node_port_last : 32767, err);
    if (!api->authn || !api->addresses) {
        rc = -EINVAL;
        goto fail;
    }
    if (api->cluster_dns)
        address_pool_reserve(api->addresses, api->cluster_dns);
    address_pool_watch(api->addresses, api);
    api->rbac = rbac_new(api);
    api->events = events_new(api);
    api->watches = watch_hub_new(api);
    api->discovery = discovery_new(api);
    *out = api;
    return 0;
fail:
    api_free(api);
    return rc;
}

void api_free(struct api *api) {
    if (!api)
        return;
    watch_hub_free(api->watches);
    events_free(api->events);
    discovery_free(api->discovery);
    blob_unref(api->openapi_index);
    rbac_free(api->rbac);
    authn_free(api->authn);
    address_pool_free(api->addresses);
    for (size_t i = 0; i < api->checks.n; i++)
        free(api->checks.items[i].name);
    vec_fini(&api->checks);
    for (size_t i = 0; i < api->nodes.n; i++)
        free(api->nodes.items[i].name);
    vec_fini(&api->nodes);
    free_list(api->sa_public_pem);
    free_list(api->advertise);
    free(api->resources);
    free(api->version_git);
    free(api->sa_key_pem);
    free(api->sa_issuer);
    free(api->cluster_ca_pem);
    free(api->cluster_dns);
    free(api->service_cidr);
    pthread_mutex_destroy(&api->checks_lock);
    free(api);
}

static struct api_check *check_find(struct api *api, const char *name) {
    for (size_t i = 0; i < api->checks.n; i++)
        if (strcmp(api->checks.items[i].name, name) == 0)
            return &api->checks.items[i];
    return NULL;
}

void api_ready_register(struct api *api, const char *name) {
    pthread_mutex_lock(&api->checks_lock);
    if (!check_find(api, name) && api->checks.n < CHECKS_MAX) {
        struct api_check c = {xstrdup(name), false};
        vec_push(&api->checks, c);
    }
    pthread_mutex_unlock(&api->checks_lock);
}

void api_ready_set(struct api *api, const char *name, bool ready) {
    pthread_mutex_lock(&api->checks_lock);
    struct api_check *c = check_find(api, name);
    if (c)
        c->ready = ready;
    pthread_mutex_unlock(&api->checks_lock);
}

void api_set_node_ops(struct api *api, struct str node_name, const struct api_node_ops *ops) {
    for (size_t i = 0; i < api->nodes.n; i++)
        if (str_eq_c(node_name, api->nodes.items[i].name)) {
            api->nodes.items[i].ops = *ops;
            return;
        }
    if (api->nodes.n >= NODES_MAX)
        return;
    struct api_node n = {xstrndup(node_name.p, node_name.n), *ops};
    vec_push(&api->nodes, n);
}

/* --- in-process calls -------------------------------------------------------------------------------------------- */

static int call_allowed(struct api_call *c, const struct schema_resource *r, const char *verb, struct str ns,
                        struct str name, struct str sub) {
    c->status = (struct api_status){0};
    if (!c->user)
        return 0;
    struct authz_ask ask = {.user = c->user,
                            .resource = true,
                            .verb = str_c(verb),
                            .group = r->group,
                            .version = r->version,
                            .plural = r->plural,
                            .subresource = sub,
                            .ns = ns,
                            .name = name};
    return authz_allowed(c->api, &ask, c->arena, NULL) ? 0 : authz_deny(&c->status, c->arena, &ask);
}

static int call_done(struct api_write *w, int rc, struct object **out) {
    if (rc == 0 && out)
        *out = w->gone ? NULL : TAKE_PTR(w->out);
    write_fini(w);
    return rc;
}

static int call_decode(struct api_call *c, struct api_write *w, const struct schema_resource *r,
                       const struct json *obj) {
    struct error err = {0};
    w->obj = write_decode(c->arena, r, obj, NULL, &err);
    return w->obj ? 0 : status_bad_request(&c->status, c->arena, "%s", err.msg);
}

int api_create(struct api_call *c, const struct schema_resource *r, struct str ns, const struct json *obj,
               struct object **out) {
    struct api_write w;
    int rc = call_allowed(c, r, "create", ns, STR(""), STR(""));
    if (rc < 0)
        return rc;
    write_init(&w, c->api, c->arena, &c->status, c->user, r, ns, STR(""), STR(""));
    if ((rc = call_decode(c, &w, r, obj)) == 0)
        rc = write_create(&w);
    return call_done(&w, rc, out);
}

int api_update(struct api_call *c, const struct schema_resource *r, struct str ns, struct str name,
               struct str subresource, const struct json *obj, struct object **out) {
    struct api_write w;
    int rc = call_allowed(c, r, "update", ns, name, subresource);
    if (rc < 0)
        return rc;
    write_init(&w, c->api, c->arena, &c->status, c->user, r, ns, name, subresource);
    if (str_eq_c(subresource, "binding") && r->storage == c->api->pods)
        rc = pod_bind(&w, obj);
    else if ((rc = call_decode(c, &w, r, obj)) == 0)
        rc = write_update(&w);
    return call_done(&w, rc, out);
}

int api_patch(struct api_call *c, const struct schema_resource *r, struct str ns, struct str name,
              struct str subresource, enum api_patch_type type, const struct json *patch, struct object **out) {
    struct api_write w;
    struct patch_request p = {.type = type, .r = r, .patch = patch};
    int rc = call_allowed(c, r, "patch", ns, name, subresource);
    if (rc < 0)
        return rc;
    write_init(&w, c->api, c->arena, &c->status, c->user, r, ns, name, subresource);
    w.old_object = api_get(c->api, r, ns, name);
    if (!w.old_object)
        rc = status_not_found(&c->status, c->arena, r, name);
    else if ((rc = patch_object(&w, &p, object_json(w.old_object))) == 0)
        rc = write_update(&w);
    return call_done(&w, rc, out);
}

int api_delete(struct api_call *c, const struct schema_resource *r, struct str ns, struct str name,
               const struct api_delete_options *o, struct object **out) {
    static const struct api_delete_options none = {.grace_period_s = -1};
    struct api_write w;
    int rc = call_allowed(c, r, "delete", ns, name, STR(""));
    if (rc < 0)
        return rc;
    write_init(&w, c->api, c->arena, &c->status, c->user, r, ns, name, STR(""));
    return call_done(&w, write_delete(&w, o ? o : &none), out);
}
