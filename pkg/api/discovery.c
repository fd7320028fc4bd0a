/*
 * Discovery: what the server serves, in the legacy documents (APIVersions, APIGroupList, APIResourceList) and the
 * aggregated one (APIGroupDiscoveryList, v2) with an ETag; /version, the root's paths, the token issuer's documents.
 * Everything but the last is made once, at start: the built-in schema does not change.
 */
#include <sys/utsname.h>

#include "api/api_priv.h"

#define VERSIONS_MAX 16
#define GROUPS_MAX 128

struct discovery {
    struct map documents; /* path, or "v2:" and path -> struct blob */
    struct map etags;     /* the same keys -> malloc'ed text with its quotes */
};

struct verb_bit {
    const char *name;
    unsigned bit;
};
/* In the order in which discovery documents list them. */
static const struct verb_bit verb_bits[] = {
    {"create", VERB_CREATE}, {"delete", VERB_DELETE}, {"deletecollection", VERB_DELETECOLLECTION},
    {"get", VERB_GET},       {"list", VERB_LIST},     {"patch", VERB_PATCH},
    {"update", VERB_UPDATE}, {"watch", VERB_WATCH},
};

static struct json *verbs_json(struct arena *a, unsigned verbs) {
    struct json *v = json_array(a);
    for (size_t i = 0; i < ARRAY_LEN(verb_bits); i++)
        if (verbs & verb_bits[i].bit)
            json_append_cstr(a, v, verb_bits[i].name);
    return v;
}

/* A group that only lives on for old manifests must not compete for short names and categories with the one that took
 * its kinds over: clients would warn about it. */
static bool is_legacy(const struct schema_resource *r) {
    return !str_eq(r->group, r->storage->group) && !str_eq_c(r->group, "events.k8s.io");
}

static struct json *names_json(struct arena *a, const struct str *list, size_t n) {
    struct json *v = json_array(a);
    for (size_t i = 0; i < n; i++)
        json_append(a, v, json_str(a, list[i]));
    return v;
}

static struct str group_version(struct arena *a, struct str group, struct str version) {
    return group.n ? str_printf(a, "%.*s/%.*s", STR_ARG(group), STR_ARG(version)) : version;
}

/* --- legacy ------------------------------------------------------------------------------------------------------ */

static struct json *legacy_resource(struct arena *a, const struct schema_resource *r) {
    struct json *v = json_object(a);
    json_set_str(a, v, "name", r->plural);
    json_set_str(a, v, "singularName", r->singular);
    json_set_bool(a, v, "namespaced", r->namespaced);
    json_set_str(a, v, "kind", r->kind);
    json_set_c(a, v, "verbs", verbs_json(a, r->verbs));
    if (r->short_names_n && !is_legacy(r))
        json_set_c(a, v, "shortNames", names_json(a, r->short_names, r->short_names_n));
    if (r->categories_n && !is_legacy(r))
        json_set_c(a, v, "categories", names_json(a, r->categories, r->categories_n));
    if (r->storage_hash.n)
        json_set_str(a, v, "storageVersionHash", r->storage_hash);
    return v;
}

static struct json *legacy_sub(struct arena *a, const struct schema_resource *r, const struct schema_subresource *s) {
    struct json *v = json_object(a);
    json_set_str(a, v, "name", str_printf(a, "%.*s/%.*s", STR_ARG(r->plural), STR_ARG(s->name)));
    json_set_cstr(a, v, "singularName", "");
    json_set_bool(a, v, "namespaced", r->namespaced);
    if (s->kind.n && !(str_eq(s->group, r->group) && str_eq(s->version, r->version))) {
        if (s->group.n)
            json_set_str(a, v, "group", s->group);
        json_set_str(a, v, "version", s->version);
    }
    json_set_str(a, v, "kind", s->kind.n ? s->kind : r->kind);
    json_set_c(a, v, "verbs", verbs_json(a, s->verbs));
    return v;
}

static bool in_version(const struct schema_resource *r, struct str group, struct str version) {
    return r->served && str_eq(r->group, group) && str_eq(r->version, version);
}

static struct json *resource_list(struct arena *a, const struct schema *s, struct str group, struct str version) {
    struct json *v = json_object(a), *list = json_array(a);
    json_set_cstr(a, v, "kind", "APIResourceList");
    if (group.n)
        json_set_cstr(a, v, "apiVersion", "v1");
    json_set_str(a, v, "groupVersion", group_version(a, group, version));
    for (size_t i = 0; i < schema_resources_n(s); i++) {
        const struct schema_resource *r = schema_resource_at(s, i);
        if (!in_version(r, group, version))
            continue;
        json_append(a, list, legacy_resource(a, r));
        for (size_t k = 0; k < r->subresources_n; k++)
            json_append(a, list, legacy_sub(a, r, &r->subresources[k]));
    }
    json_set_c(a, v, "resources", list);
    return v;
}

/* --- aggregated -------------------------------------------------------------------------------------------------- */

static struct json *response_kind(struct arena *a, struct str group, struct str version, struct str kind) {
    struct json *v = json_object(a);
    json_set_str(a, v, "group", group);
    json_set_str(a, v, "version", version);
    json_set_str(a, v, "kind", kind);
    return v;
}

static struct json *v2_sub(struct arena *a, const struct schema_resource *r, const struct schema_subresource *s) {
    struct json *v = json_object(a);
    json_set_str(a, v, "subresource", s->name);
    json_set_c(a, v, "responseKind",
               s->kind.n ? response_kind(a, s->group, s->version, s->kind)
                         : response_kind(a, r->group, r->version, r->kind));
    json_set_c(a, v, "verbs", verbs_json(a, s->verbs));
    return v;
}

static struct json *v2_resource(struct arena *a, const struct schema_resource *r) {
    struct json *v = json_object(a);
    json_set_str(a, v, "resource", r->plural);
    json_set_c(a, v, "responseKind", response_kind(a, r->group, r->version, r->kind));
    json_set_cstr(a, v, "scope", r->namespaced ? "Namespaced" : "Cluster");
    json_set_str(a, v, "singularResource", r->singular);
    json_set_c(a, v, "verbs", verbs_json(a, r->verbs));
    if (r->short_names_n && !is_legacy(r))
        json_set_c(a, v, "shortNames", names_json(a, r->short_names, r->short_names_n));
    if (r->categories_n && !is_legacy(r))
        json_set_c(a, v, "categories", names_json(a, r->categories, r->categories_n));
    if (r->subresources_n) {
        struct json *subs = json_array(a);
        for (size_t k = 0; k < r->subresources_n; k++)
            json_append(a, subs, v2_sub(a, r, &r->subresources[k]));
        json_set_c(a, v, "subresources", subs);
    }
    return v;
}

static struct json *v2_version(struct arena *a, const struct schema *s, struct str group, struct str version) {
    struct json *v = json_object(a), *list = json_array(a);
    json_set_str(a, v, "version", version);
    for (size_t i = 0; i < schema_resources_n(s); i++) {
        const struct schema_resource *r = schema_resource_at(s, i);
        if (in_version(r, group, version))
            json_append(a, list, v2_resource(a, r));
    }
    json_set_c(a, v, "resources", list);
    json_set_cstr(a, v, "freshness", "Current");
    return v;
}

/* --- groups ------------------------------------------------------------------------------------------------------ */

/* Versions of a group with a served resource, preferred first. */
static size_t served_versions(const struct schema *s, struct str group, struct str *out) {
    struct str all[VERSIONS_MAX];
    size_t n = schema_versions(s, group, all, VERSIONS_MAX), kept = 0;
    for (size_t k = 0; k < n; k++)
        for (size_t i = 0; i < schema_resources_n(s); i++)
            if (in_version(schema_resource_at(s, i), group, all[k])) {
                out[kept++] = all[k];
                break;
            }
    return kept;
}

static size_t served_groups(const struct schema *s, struct str *out) {
    size_t n = 0;
    for (size_t i = 0; i < schema_resources_n(s); i++) {
        const struct schema_resource *r = schema_resource_at(s, i);
        bool known = r->group.n == 0 || !r->served;
        for (size_t k = 0; k < n && !known; k++)
            known = str_eq(out[k], r->group);
        if (!known && n < GROUPS_MAX)
            out[n++] = r->group;
    }
    return n;
}

static struct json *version_json(struct arena *a, struct str group, struct str version) {
    struct json *v = json_object(a);
    json_set_str(a, v, "groupVersion", group_version(a, group, version));
    json_set_str(a, v, "version", version);
    return v;
}

static struct json *group_json(struct arena *a, const struct schema *s, struct str group) {
    struct str versions[VERSIONS_MAX];
    size_t n = served_versions(s, group, versions);
    struct json *v = json_object(a), *list = json_array(a);
    json_set_str(a, v, "name", group);
    for (size_t i = 0; i < n; i++)
        json_append(a, list, version_json(a, group, versions[i]));
    json_set_c(a, v, "versions", list);
    json_set_c(a, v, "preferredVersion", version_json(a, group, versions[0]));
    return v;
}

static struct json *v2_group(struct arena *a, const struct schema *s, struct str group) {
    struct str versions[VERSIONS_MAX];
    size_t n = served_versions(s, group, versions);
    struct json *v = json_object(a), *list = json_array(a), *m = json_object(a);
    if (group.n)
        json_set_str(a, m, "name", group);
    json_set_c(a, m, "creationTimestamp", json_null(a));
    json_set_c(a, v, "metadata", m);
    for (size_t i = 0; i < n; i++)
        json_append(a, list, v2_version(a, s, group, versions[i]));
    json_set_c(a, v, "versions", list);
    return v;
}

static struct json *v2_list(struct arena *a) {
    struct json *v = json_object(a);
    json_set_cstr(a, v, "kind", "APIGroupDiscoveryList");
    json_set_cstr(a, v, "apiVersion", "apidiscovery.k8s.io/v2");
    json_set_c(a, v, "metadata", json_object(a));
    json_set_c(a, v, "items", json_array(a));
    return v;
}

/* --- making them ------------------------------------------------------------------------------------------------- */

static void add_document(struct discovery *d, struct arena *a, struct str key, const struct json *v) {
    struct buf b = BUF_INIT;
    size_t n = 0;
    char hex[65];
    json_write(&b, v);
    buf_putc(&b, '\n');
    sha256_hex(b.p, b.n, hex);
    char *p = buf_steal(&b, &n);
    blob_unref(map_set(&d->documents, key, blob_take(p, n)));
    free(map_set(&d->etags, key, xasprintf("\"%s\"", hex)));
    (void)a;
}

static struct json *core_versions(struct arena *a) {
    struct json *v = json_object(a), *list = json_array(a), *addresses = json_array(a), *one = json_object(a);
    json_set_cstr(a, v, "kind", "APIVersions");
    json_append_cstr(a, list, "v1");
    json_set_c(a, v, "versions", list);
    json_set_cstr(a, one, "clientCIDR", "0.0.0.0/0");
    json_set_cstr(a, one, "serverAddress", "");
    json_append(a, addresses, one);
    json_set_c(a, v, "serverAddressByClientCIDRs", addresses);
    return v;
}

static const char *platform_name(struct arena *a) {
    static const char *const machines[][2] = {{"x86_64", "amd64"}, {"aarch64", "arm64"}, {"armv7l", "arm"}};
    struct utsname u;
    if (uname(&u) < 0)
        return "linux";
    for (size_t i = 0; i < ARRAY_LEN(machines); i++)
        if (strcmp(u.machine, machines[i][0]) == 0)
            return arena_printf(a, "linux/%s", machines[i][1]);
    return arena_printf(a, "linux/%s", u.machine);
}

static struct json *version_document(struct arena *a, const char *git) {
    struct json *v = json_object(a);
    json_set_cstr(a, v, "major", "1");
    json_set_cstr(a, v, "minor", "36");
    json_set_cstr(a, v, "gitVersion", git);
    json_set_cstr(a, v, "gitCommit", "");
    json_set_cstr(a, v, "gitTreeState", "clean");
    json_set_cstr(a, v, "buildDate", "1970-01-01T00:00:00Z");
    json_set_cstr(a, v, "goVersion", "none");
    json_set_cstr(a, v, "compiler", "gcc " __VERSION__);
    json_set_cstr(a, v, "platform", platform_name(a));
    return v;
}

/* Every group with its versions and resources; each document in an arena of its own would cost more than it saves. */
static void add_groups(struct discovery *d, struct arena *a, const struct schema *s, struct json *paths) {
    struct str groups[GROUPS_MAX], versions[VERSIONS_MAX];
    size_t n = served_groups(s, groups);
    struct json *list = json_object(a), *items = json_array(a), *v2 = v2_list(a);
    json_set_cstr(a, list, "kind", "APIGroupList");
    json_set_cstr(a, list, "apiVersion", "v1");
    for (size_t i = 0; i < n; i++) {
        struct json *g = group_json(a, s, groups[i]), *alone = json_object(a);
        json_append(a, items, g);
        json_append(a, json_get_c(v2, "items"), v2_group(a, s, groups[i]));
        json_set_cstr(a, alone, "kind", "APIGroup");
        json_set_cstr(a, alone, "apiVersion", "v1");
        for (uint32_t k = 0; k < g->n; k++)
            json_set(a, alone, g->members[k].key, g->members[k].value);
        struct str path = str_printf(a, "/apis/%.*s", STR_ARG(groups[i]));
        add_document(d, a, path, alone);
        json_append(a, paths, json_str(a, path));
        size_t versions_n = served_versions(s, groups[i], versions);
        for (size_t k = 0; k < versions_n; k++) {
            struct str at = str_printf(a, "%.*s/%.*s", STR_ARG(path), STR_ARG(versions[k]));
            add_document(d, a, at, resource_list(a, s, groups[i], versions[k]));
            json_append(a, paths, json_str(a, at));
        }
    }
    json_set_c(a, list, "groups", items);
    add_document(d, a, STR("/apis"), list);
    add_document(d, a, STR("v2:/apis"), v2);
}

static struct json *issuer_document(struct arena *a, const char *issuer) {
    static const char *const lists[][2] = {{"response_types_supported", "id_token"},
                                           {"subject_types_supported", "public"},
                                           {"id_token_signing_alg_values_supported", "ES256"}};
    struct json *v = json_object(a);
    json_set_cstr(a, v, "issuer", issuer);
    json_set_c(a, v, "jwks_uri", json_strf(a, "%s/openid/v1/jwks", issuer));
    for (size_t i = 0; i < ARRAY_LEN(lists); i++) {
        struct json *l = json_array(a);
        json_append_cstr(a, l, lists[i][1]);
        json_set_c(a, v, lists[i][0], l);
    }
    return v;
}

struct discovery *discovery_new(struct api *api) {
    static const char *const others[] = {"/healthz",    "/livez",          "/metrics", "/openapi/v2",
                                         "/openapi/v3", "/openid/v1/jwks", "/readyz",  "/version"};
    struct discovery *d = XNEW(struct discovery);
    cleanup_arena struct arena *a = arena_new(KiB(64), 0);
    const struct schema *s = api->schema;
    struct json *root = json_object(a), *paths = json_array(a), *v2 = v2_list(a);
    json_append_cstr(a, paths, "/.well-known/openid-configuration");
    json_append_cstr(a, paths, "/api");
    json_append_cstr(a, paths, "/api/v1");
    json_append_cstr(a, paths, "/apis");
    add_groups(d, a, s, paths);
    for (size_t i = 0; i < ARRAY_LEN(others); i++)
        json_append_cstr(a, paths, others[i]);
    json_set_c(a, root, "paths", paths);
    add_document(d, a, STR("/"), root);
    add_document(d, a, STR("/api"), core_versions(a));
    add_document(d, a, STR("/api/v1"), resource_list(a, s, STR(""), STR("v1")));
    json_append(a, json_get_c(v2, "items"), v2_group(a, s, STR("")));
    add_document(d, a, STR("v2:/api"), v2);
    add_document(d, a, STR("/version"), version_document(a, api->version_git));
    add_document(d, a, STR("/.well-known/openid-configuration"), issuer_document(a, api->sa_issuer));
    struct json *jwks = NULL;
    if (api->sa_public_pem[0])
        jwks = jwt_jwks(a, (const char *const *)api->sa_public_pem, NULL);
    if (jwks)
        add_document(d, a, STR("/openid/v1/jwks"), jwks);
    return d;
}

void discovery_free(struct discovery *d) {
    struct map_entry *e;
    if (!d)
        return;
    for (size_t i = 0; (e = map_next(&d->documents, &i));)
        blob_unref(e->value);
    for (size_t i = 0; (e = map_next(&d->etags, &i));)
        free(e->value);
    map_fini(&d->documents);
    map_fini(&d->etags);
    free(d);
}

bool discovery_run(struct api_request *q) {
    struct discovery *d = q->api->discovery;
    struct str path = q->path, key;
    while (path.n > 1 && path.p[path.n - 1] == '/')
        path.n--;
    bool aggregated = q->accept.discovery_v2 && (str_eq_c(path, "/api") || str_eq_c(path, "/apis"));
    key = aggregated ? str_printf(q->arena, "v2:%.*s", STR_ARG(path)) : path;
    struct blob *b = map_get(&d->documents, key);
    const char *etag = map_get(&d->etags, key);
    if (!b)
        return false;
    const char *type =
        aggregated ? "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList" : "application/json";
    if (aggregated)
        q->etag = etag;
    if (aggregated && str_eq_c(request_header(q, "If-None-Match"), etag)) {
        reply_blob(q, 304, type, NULL);
        return true;
    }
    reply_blob(q, 200, type, blob_ref(b));
    return true;
}
