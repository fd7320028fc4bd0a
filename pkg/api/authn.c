/*
 * Who sends a request: a verified client certificate (CN is the user, O its groups), a static bearer token, or a
 * service-account token (a signed JWT). Nobody known is refused by the caller; there is no anonymous user.
 * Source: Kubernetes' authentication strategies.
 */
#include "api/api_priv.h"

#define TOKEN_BYTES_MAX KiB(16)
#define CACHE_MAX 1024 /* verified tokens remembered: a signature check costs more than all the rest of a GET */
#define STATIC_MAX 10000
#define GROUPS_MAX 64

struct cached_token {
    struct arena *arena;
    struct json *claims;
};

struct authn {
    char *issuer;
    char **keys; /* NULL-terminated */
    struct arena *arena;
    struct map statics; /* token -> struct api_user */
    pthread_mutex_t lock;
    struct map cache; /* token -> struct cached_token, signature verified; under lock */
};

static struct api_user *user_new(struct arena *a, struct str name, struct str uid, struct str groups) {
    struct api_user *u = ARENA_NEW(a, struct api_user);
    struct str *list = arena_alloc(a, (GROUPS_MAX + 1) * sizeof(*list));
    struct str rest = groups;
    while (rest.p && u->groups_n < GROUPS_MAX) {
        struct str g = str_trim(str_split(&rest, '|'));
        if (g.n)
            list[u->groups_n++] = str_dup(a, g);
    }
    list[u->groups_n++] = STR("system:authenticated");
    u->name = str_dup(a, name);
    u->uid = str_dup(a, uid);
    u->groups = list;
    return u;
}

static int load_static(struct authn *n, const char *lines, struct error *err) {
    struct str rest = str_c(lines);
    size_t line_no = 0;
    while (rest.p) {
        struct str line = str_trim(str_split(&rest, '\n')), fields[4] = {0};
        line_no++;
        if (line.n == 0 || line.p[0] == '#')
            continue;
        struct str fields_rest = line;
        for (size_t i = 0; i < 4 && fields_rest.p; i++)
            fields[i] = i < 3 ? str_trim(str_split(&fields_rest, ',')) : str_trim(fields_rest);
        if (fields[0].n < 16 || fields[1].n == 0)
            return error_set(err, -EINVAL,
                             "line %zu of the static tokens: a token of at least 16 bytes and a user name"
                             " are required",
                             line_no);
        struct str g = fields[3];
        if (g.n >= 2 && g.p[0] == '"' && g.p[g.n - 1] == '"')
            g = str_n(g.p + 1, g.n - 2);
        if (n->statics.n >= STATIC_MAX)
            return error_set(err, -E2BIG, "more than %d static tokens", STATIC_MAX);
        map_set(&n->statics, fields[0], user_new(n->arena, fields[1], fields[2], g));
    }
    return 0;
}

struct authn *authn_new(const struct api_options *o, struct error *err) {
    struct authn *n = XNEW(struct authn);
    size_t keys = 0;
    n->arena = arena_new(0, 0);
    pthread_mutex_init(&n->lock, NULL);
    n->issuer = xstrdup(o->sa_issuer ? o->sa_issuer : "");
    while (o->sa_public_pem && o->sa_public_pem[keys])
        keys++;
    n->keys = xcalloc(keys + 1, sizeof(*n->keys));
    for (size_t i = 0; i < keys; i++)
        n->keys[i] = xstrdup(o->sa_public_pem[i]);
    if (o->static_tokens && load_static(n, o->static_tokens, err) < 0) {
        authn_free(n);
        return NULL;
    }
    return n;
}

static void cache_clear(struct authn *n) {
    struct map_entry *e;
    for (size_t i = 0; (e = map_next(&n->cache, &i));) {
        struct cached_token *c = e->value;
        arena_free(c->arena);
        free(c);
    }
    map_fini(&n->cache);
    n->cache = (struct map){0};
}

void authn_free(struct authn *n) {
    if (!n)
        return;
    cache_clear(n);
    map_fini(&n->statics);
    for (size_t i = 0; n->keys[i]; i++)
        free(n->keys[i]);
    free(n->keys);
    free(n->issuer);
    arena_free(n->arena);
    pthread_mutex_destroy(&n->lock);
    free(n);
}

/* The claims of a token with a good signature, in a. */
static struct json *verified_claims(struct authn *n, struct arena *a, struct str token) {
    struct json *claims = NULL;
    pthread_mutex_lock(&n->lock);
    const struct cached_token *hit = map_get(&n->cache, token);
    if (hit)
        claims = json_copy(a, hit->claims);
    pthread_mutex_unlock(&n->lock);
    if (claims)
        return claims;
    if (!n->keys[0] || jwt_verify(a, token, (const char *const *)n->keys, &claims, NULL) < 0)
        return NULL;
    struct cached_token *c = XNEW(struct cached_token), *before;
    c->arena = arena_new(1024, 0);
    c->claims = json_copy(c->arena, claims);
    pthread_mutex_lock(&n->lock);
    if (n->cache.n >= CACHE_MAX)
        cache_clear(n);
    before = map_set(&n->cache, token, c);
    pthread_mutex_unlock(&n->lock);
    if (before) {
        arena_free(before->arena);
        free(before);
    }
    return claims;
}

static bool audience_in(const struct json *wanted, struct str aud) {
    for (size_t i = 0; i < json_len(wanted); i++)
        if (str_eq(json_as_str(json_item(wanted, i)), aud))
            return true;
    return false;
}

static bool audience_ok(const struct authn *n, const struct json *claims, const struct json *wanted) {
    const struct json *aud = json_get_c(claims, "aud");
    if (json_is(aud, JSON_STRING))
        return wanted ? audience_in(wanted, aud->s) : str_eq_c(aud->s, n->issuer);
    for (size_t i = 0; i < json_len(aud); i++) {
        struct str s = json_as_str(json_item(aud, i));
        if (wanted ? audience_in(wanted, s) : str_eq_c(s, n->issuer))
            return true;
    }
    return false;
}

static void service_account_user(struct arena *a, struct authn_result *out) {
    struct str *g = arena_alloc(a, 3 * sizeof(*g));
    g[0] = STR("system:serviceaccounts");
    g[1] = str_printf(a, "system:serviceaccounts:%.*s", STR_ARG(out->sa_ns));
    g[2] = STR("system:authenticated");
    out->user.name = str_printf(a, "system:serviceaccount:%.*s:%.*s", STR_ARG(out->sa_ns), STR_ARG(out->sa_name));
    out->user.uid = out->sa_uid;
    out->user.groups = g;
    out->user.groups_n = 3;
}

/* Tokens of Secrets of type kubernetes.io/service-account-token: no expiry, no audience, bound to the Secret. */
static bool legacy_claims(struct arena *a, struct json *c, struct authn_result *out) {
    out->sa_ns = json_as_str(json_get_c(c, "kubernetes.io/serviceaccount/namespace"));
    out->sa_name = json_as_str(json_get_c(c, "kubernetes.io/serviceaccount/service-account.name"));
    out->sa_uid = json_as_str(json_get_c(c, "kubernetes.io/serviceaccount/service-account.uid"));
    out->secret_name = json_as_str(json_get_c(c, "kubernetes.io/serviceaccount/secret.name"));
    if (out->sa_ns.n == 0 || out->sa_name.n == 0 || out->sa_uid.n == 0 || out->secret_name.n == 0)
        return false;
    out->claims = c;
    service_account_user(a, out);
    return true;
}

bool authn_token(struct authn *n, struct arena *a, struct str token, const struct json *audiences,
                 struct authn_result *out) {
    *out = (struct authn_result){0};
    if (token.n == 0 || token.n > TOKEN_BYTES_MAX)
        return false;
    const struct api_user *u = map_get(&n->statics, token);
    if (u) {
        out->user = *u;
        return true;
    }
    struct json *c = verified_claims(n, a, token);
    if (!c)
        return false;
    int64_t now = time_now_s();
    struct str iss = json_as_str(json_get_c(c, "iss"));
    if (str_eq_c(iss, "kubernetes/serviceaccount"))
        return (!audiences || audience_in(audiences, str_c(n->issuer))) && legacy_claims(a, c, out);
    if (!str_eq_c(iss, n->issuer) || !audience_ok(n, c, audiences))
        return false;
    if (json_as_int(json_get_c(c, "exp"), 0) <= now || json_as_int(json_get_c(c, "nbf"), 0) > now + 5)
        return false;
    const struct json *k = json_get_c(c, "kubernetes.io");
    out->sa_ns = json_str_at(k, "namespace");
    out->sa_name = json_str_at(k, "serviceaccount.name");
    out->sa_uid = json_str_at(k, "serviceaccount.uid");
    out->pod_name = json_str_at(k, "pod.name");
    out->pod_uid = json_str_at(k, "pod.uid");
    out->secret_name = json_str_at(k, "secret.name");
    out->secret_uid = json_str_at(k, "secret.uid");
    out->node_name = json_str_at(k, "node.name");
    out->jti = json_as_str(json_get_c(c, "jti"));
    if (out->sa_ns.n == 0 || out->sa_name.n == 0 || out->sa_uid.n == 0)
        return false;
    out->claims = c;
    service_account_user(a, out);
    return true;
}

static bool still_there(struct api *api, const struct schema_resource *r, struct str ns, struct str name,
                        struct str uid) {
    struct object *o = api_peek(api, r, ns, name);
    return o && (uid.n == 0 || str_eq(o->uid, uid));
}

bool authn_bound(struct api *api, const struct authn_result *who) {
    if (!who->claims)
        return true;
    if (!still_there(api, api->serviceaccounts, who->sa_ns, who->sa_name, who->sa_uid))
        return false;
    if (who->pod_name.n && !still_there(api, api->pods, who->sa_ns, who->pod_name, who->pod_uid))
        return false;
    if (who->secret_name.n && !still_there(api, api->secrets, who->sa_ns, who->secret_name, who->secret_uid))
        return false;
    return true;
}

/* Browsers cannot set Authorization on a WebSocket: the token then is one of the subprotocols offered. */
static struct str websocket_token(struct api_request *q) {
    static const struct str prefix = STR_INIT("base64url.bearer.authorization.k8s.io.");
    struct str rest = request_header(q, "Sec-WebSocket-Protocol");
    while (rest.p && rest.n) {
        struct str p = str_trim(str_split(&rest, ','));
        if (!str_starts(p, prefix))
            continue;
        struct buf b;
        buf_init(&b, TOKEN_BYTES_MAX);
        struct str token = STR("");
        if (base64url_decode(&b, str_skip(p, prefix.n)) == 0 && !b.failed)
            token = str_dup(q->arena, buf_str(&b));
        buf_fini(&b);
        return token;
    }
    return STR("");
}

static bool certificate_user(struct api_request *q, struct authn_result *out) {
    const struct tls_peer *p = q->peer;
    if (!p || p->common_name.n == 0)
        return false;
    struct str *g = arena_alloc(q->arena, (p->organizations_n + 1) * sizeof(*g));
    for (size_t i = 0; i < p->organizations_n; i++)
        g[i] = str_dup(q->arena, p->organizations[i]);
    g[p->organizations_n] = STR("system:authenticated");
    *out = (struct authn_result){0};
    out->user = (struct api_user){str_dup(q->arena, p->common_name), STR(""), g, p->organizations_n + 1};
    return true;
}

bool authn_request(struct authn *n, struct api_request *q, struct authn_result *out) {
    if (certificate_user(q, out))
        return true;
    struct str h = str_trim(request_header(q, "Authorization")), token = STR("");
    if (h.n > 7 && str_eq_nocase(str_n(h.p, 7), STR("Bearer ")))
        token = str_trim(str_skip(h, 7));
    else
        token = websocket_token(q);
    return token.n && authn_token(n, q->arena, token, NULL, out);
}
