/* Service-account tokens: minting them, and the serviceaccounts/token subresource (TokenRequest). */
#include "api/api_priv.h"

#define EXPIRES_MIN_S 600
#define EXPIRES_MAX_S (INT64_C(1) << 32)
#define EXPIRES_DEFAULT_S 3600
#define AUDIENCES_MAX 32

static struct json *ref_json(struct arena *a, struct str name, struct str uid) {
    struct json *v = json_object(a);
    json_set_str(a, v, "name", name);
    if (uid.n)
        json_set_str(a, v, "uid", uid);
    return v;
}

/* The node a pod runs on, as claims name it. */
static void add_node(struct api *api, struct arena *a, struct json *k, struct object *pod) {
    struct str node = json_str_at(object_json(pod), "spec.nodeName");
    if (node.n == 0)
        return;
    struct object *o = api_peek(api, api->nodes_r, STR(""), node);
    json_set_c(a, k, "node", ref_json(a, node, o ? o->uid : STR("")));
}

int token_mint(struct api *api, struct arena *a, struct object *sa, const struct json *audiences, int64_t expires_s,
               struct object *bound, const char *bound_kind, char **token, int64_t *expires_at_s, struct error *err) {
    if (!api->sa_key_pem)
        return error_set(err, -ENOTSUP, "this server has no key to sign service-account tokens with");
    int64_t now = time_now_s(), expires = now + expires_s;
    struct json *c = json_object(a), *k = json_object(a), *aud = json_array(a);
    char jti[UUID_LEN + 1];
    rand_uuid(jti);
    for (size_t i = 0; i < json_len(audiences); i++)
        json_append(a, aud, json_str(a, json_as_str(json_item(audiences, i))));
    if (json_len(aud) == 0)
        json_append_cstr(a, aud, api->sa_issuer);
    json_set_c(a, c, "aud", aud);
    json_set_int(a, c, "exp", expires);
    json_set_int(a, c, "iat", now);
    json_set_cstr(a, c, "iss", api->sa_issuer);
    json_set_cstr(a, c, "jti", jti);
    json_set_str(a, k, "namespace", sa->ns);
    if (bound && strcmp(bound_kind, "Pod") == 0)
        add_node(api, a, k, bound);
    if (bound) {
        struct str member = str_lower(a, str_c(bound_kind));
        json_set(a, k, member, ref_json(a, bound->name, bound->uid));
    }
    json_set_c(a, k, "serviceaccount", ref_json(a, sa->name, sa->uid));
    json_set_c(a, c, "kubernetes.io", k);
    json_set_int(a, c, "nbf", now);
    json_set_c(a, c, "sub", json_strf(a, "system:serviceaccount:%.*s:%.*s", STR_ARG(sa->ns), STR_ARG(sa->name)));
    int rc = jwt_sign(api->sa_key_pem, c, token, err);
    if (rc == 0 && expires_at_s)
        *expires_at_s = expires;
    return rc;
}

int api_token_create(struct api *api, struct str ns, struct str service_account, const struct json *audiences,
                     int64_t expires_s, struct object *bound_pod, char **token, int64_t *expires_at_s,
                     struct error *err) {
    cleanup_arena struct arena *a = arena_new(0, 0);
    struct object *sa = api_get(api, api->serviceaccounts, ns, service_account);
    if (!sa)
        return error_set(err, -ENOENT, "serviceaccounts \"%.*s\" not found", STR_ARG(service_account));
    if (expires_s < EXPIRES_MIN_S)
        expires_s = EXPIRES_MIN_S;
    int rc = token_mint(api, a, sa, audiences, expires_s, bound_pod, "Pod", token, expires_at_s, err);
    object_unref(sa);
    return rc;
}

struct bound_kind {
    const char *kind;
    size_t resource; /* offset of the schema_resource pointer in struct api */
    bool namespaced;
};
static const struct bound_kind bound_kinds[] = {
    {"Pod", offsetof(struct api, pods), true},
    {"Secret", offsetof(struct api, secrets), true},
    {"Node", offsetof(struct api, nodes_r), false},
};

/* Resolves spec.boundObjectRef; *kind stays NULL when there is none. false: q->status is set. */
static bool find_bound(struct api_request *q, struct object *sa, const struct json *spec, struct object **bound,
                       const char **kind) {
    const struct json *ref = json_get_c(spec, "boundObjectRef");
    if (!json_is(ref, JSON_OBJECT))
        return true;
    struct str want = json_str_at(ref, "kind"), name = json_str_at(ref, "name"), uid = json_str_at(ref, "uid");
    for (size_t i = 0; i < ARRAY_LEN(bound_kinds); i++) {
        const struct bound_kind *b = &bound_kinds[i];
        if (!str_eq_c(want, b->kind))
            continue;
        const struct schema_resource *r =
            *(const struct schema_resource *const *)(const void *)((const char *)q->api + b->resource);
        struct object *o = api_get(q->api, r, b->namespaced ? q->t.ns : STR(""), name);
        if (!o) {
            status_not_found(&q->status, q->arena, r, name);
            return false;
        }
        struct str pod_sa = json_str_at(object_json(o), "spec.serviceAccountName");
        if (uid.n && !str_eq(uid, o->uid)) {
            status_conflict(&q->status, q->arena, r, name,
                            "the UID in the bound object reference (%.*s) does not match the UID in record. The object"
                            " might have been deleted and then recreated",
                            STR_ARG(uid));
            object_unref(o);
            return false;
        }
        if (r == q->api->pods && !str_eq(pod_sa, sa->name)) {
            status_bad_request(&q->status, q->arena,
                               "cannot bind token for serviceaccount \"%.*s\" to pod running"
                               " with different serviceaccount name.",
                               STR_ARG(sa->name));
            object_unref(o);
            return false;
        }
        *bound = o;
        *kind = b->kind;
        return true;
    }
    status_bad_request(&q->status, q->arena, "cannot bind token to object of type %.*s", STR_ARG(want));
    return false;
}

static void token_answer(struct api_request *q, struct object *sa, struct json *body, struct object *bound,
                         const char *kind) {
    struct arena *a = q->arena;
    struct json *spec = json_ensure(a, body, "spec");
    int64_t expires_s = json_int_at(spec, "expirationSeconds", EXPIRES_DEFAULT_S), at = 0;
    const struct json *audiences = json_get_c(spec, "audiences");
    if (expires_s < EXPIRES_MIN_S || expires_s > EXPIRES_MAX_S || json_len(audiences) > AUDIENCES_MAX) {
        const char *field = json_len(audiences) > AUDIENCES_MAX ? "spec.audiences" : "spec.expirationSeconds";
        const char *detail = json_len(audiences) > AUDIENCES_MAX ? "too many audiences"
                             : expires_s < EXPIRES_MIN_S         ? "may not specify a duration less than 10 minutes"
                                                         : "may not specify a duration larger than 2^32 seconds";
        struct str text = str_printf(a,
                                     "TokenRequest.authentication.k8s.io \"%.*s\" is invalid: %s: Invalid value: "
                                     "%lld: %s",
                                     STR_ARG(sa->name), field, (long long)expires_s, detail);
        status_set(&q->status, a, 422, "Invalid", "%.*s", STR_ARG(text));
        reply_status(q, &q->status);
        return;
    }
    cleanup_free char *token = NULL;
    struct error err = {0};
    if (!q->dry_run && token_mint(q->api, a, sa, audiences, expires_s, bound, kind, &token, &at, &err) < 0) {
        status_internal(&q->status, a, "%s", err.msg);
        reply_status(q, &q->status);
        return;
    }
    char when[TIME_RFC3339_MAX];
    struct json *st = json_object(a), *aud = json_copy(a, audiences), *meta = json_object(a);
    if (json_len(aud) == 0) {
        aud = json_array(a);
        json_append_cstr(a, aud, q->api->sa_issuer);
    }
    json_set_c(a, spec, "audiences", aud);
    json_set_int(a, spec, "expirationSeconds", expires_s);
    json_set_cstr(a, st, "token", token ? token : "");
    json_set_cstr(a, st, "expirationTimestamp", time_format((struct timespec){at, 0}, 0, when));
    json_set_c(a, body, "status", st);
    json_set_str(a, meta, "name", sa->name);
    json_set_str(a, meta, "namespace", sa->ns);
    json_set_cstr(a, meta, "creationTimestamp", time_now_rfc3339(when));
    json_set_c(a, body, "metadata", meta);
    json_set_cstr(a, body, "kind", "TokenRequest");
    json_set_cstr(a, body, "apiVersion", "authentication.k8s.io/v1");
    reply_json(q, 201, body);
}

void token_run(struct api_request *q) {
    struct object *sa = api_get(q->api, q->api->serviceaccounts, q->t.ns, q->t.name), *bound = NULL;
    const char *kind = NULL;
    if (!sa) {
        status_not_found(&q->status, q->arena, q->api->serviceaccounts, q->t.name);
        reply_status(q, &q->status);
        return;
    }
    struct json *body = json_is(q->input, JSON_OBJECT) ? json_copy(q->arena, q->input) : json_object(q->arena);
    if (find_bound(q, sa, json_get_c(body, "spec"), &bound, &kind))
        token_answer(q, sa, body, bound, kind);
    else
        reply_status(q, &q->status);
    object_unref(bound);
    object_unref(sa);
}
