#include "runtime/registry_config.h"

#include <ctype.h>
#include <regex.h>
#include <stdio.h>
#include <stdlib.h>

#include "codec/base64.h"
#include "codec/yaml.h"

#define MIRRORS_MAX 256
#define REWRITES_MAX 32
#define GROUPS_MAX 10

struct rewrite {
    regex_t re;
    struct str pattern, replacement;
};

struct mirror {
    struct image_mirror pub;
    struct rewrite *rewrites;
    size_t rewrites_n;
};

struct image_registries {
    struct arena *arena;
    struct mirror *mirrors;
    size_t mirrors_n;
    struct registry_host *hosts;
    size_t hosts_n;
};

/* --- URLs --------------------------------------------------------------------------------------------------------- */

bool registry_url_parse(struct str url, struct registry_url *out) {
    for (size_t i = 0; i < url.n; i++)
        if ((unsigned char)url.p[i] <= ' ' || url.p[i] == 0x7f || url.p[i] == '#' || url.p[i] == '\\')
            return false;
    struct registry_url u = {0};
    if (str_starts(url, STR("https://")))
        u.https = true;
    else if (!str_starts(url, STR("http://")))
        return false;
    struct str rest = str_skip(url, u.https ? 8 : 7);
    size_t n = 0;
    while (n < rest.n && rest.p[n] != '/' && rest.p[n] != '?')
        n++;
    u.host = str_n(rest.p, n);
    u.path = n < rest.n ? str_skip(rest, n) : STR("");
    if (u.host.n == 0 || u.host.n > 255 || u.host.p[0] == ':' || str_index(u.host, '@', 0) >= 0)
        return false;
    *out = u;
    return true;
}

/* An endpoint as users write it -> base URL: https when there is no scheme, /v2 when there is no path. */
static int endpoint_base(struct arena *a, struct str text, struct str *out, struct error *err) {
    struct str url = str_find(text, STR("://")) >= 0 ? text : str_printf(a, "https://%.*s", STR_ARG(text));
    struct registry_url u;
    if (!registry_url_parse(url, &u) || str_index(u.path, '?', 0) >= 0)
        return error_set(err, -EINVAL, "\"%.*s\" is not an http or https URL", STR_ARG(text));
    struct str path = u.path;
    while (path.n && path.p[path.n - 1] == '/')
        path.n--;
    *out = str_printf(a, "http%s://%.*s%.*s", u.https ? "s" : "", STR_ARG(u.host), STR_ARG(path.n ? path : STR("/v2")));
    return 0;
}

static bool host_is_loopback(struct str host) {
    struct str name = host;
    if (name.n && name.p[0] == '[')
        return str_starts(name, STR("[::1]"));
    str_cut(host, ':', &name, NULL);
    if (str_eq(name, STR("localhost")))
        return true;
    if (!str_starts(name, STR("127.")))
        return false;
    for (size_t i = 0; i < name.n; i++)
        if (name.p[i] != '.' && !isdigit((unsigned char)name.p[i]))
            return false;
    return true;
}

/* --- parsing ------------------------------------------------------------------------------------------------------ */

static int want(const struct json *v, enum json_type t, const char *what, struct str key, struct error *err) {
    if (json_is(v, t))
        return 0;
    return error_set(err, -EINVAL, "registries.yaml: %.*s: expected %s, found %s", STR_ARG(key), what,
                     json_type_name(v));
}

/* Reads the string members of v named in fields; any other member is an error. */
struct field {
    const char *key;
    struct str *to;
    bool *flag; /* instead of to: a boolean */
};

static int read_fields(struct arena *a, const struct json *v, struct str key, const struct field *fields, size_t n,
                       struct error *err) {
    int rc = want(v, JSON_OBJECT, "a map", key, err);
    for (size_t i = 0; rc == 0 && i < v->n; i++) {
        const struct json_member *m = &v->members[i];
        const struct field *f = NULL;
        for (size_t k = 0; k < n && !f; k++)
            if (str_eq_c(m->key, fields[k].key))
                f = &fields[k];
        struct str at = str_printf(a, "%.*s.%.*s", STR_ARG(key), STR_ARG(m->key));
        if (!f)
            return error_set(err, -EINVAL, "registries.yaml: unknown key %.*s", STR_ARG(at));
        if (json_is(m->value, JSON_NULL))
            continue;
        if (f->flag) {
            rc = want(m->value, JSON_BOOL, "true or false", at, err);
            if (rc == 0)
                *f->flag = m->value->b;
        } else if (json_is(m->value, JSON_INT)) {
            *f->to = str_printf(a, "%lld", (long long)m->value->i); /* password: 12345 */
        } else {
            rc = want(m->value, JSON_STRING, "a string", at, err);
            if (rc == 0)
                *f->to = str_dup(a, m->value->s);
        }
    }
    return rc;
}

/* What POSIX extended expressions and Go's have in common; anything else is refused rather than misread. */
static int check_pattern(struct str p, struct str key, struct error *err) {
    for (size_t i = 0; i < p.n; i++) {
        char c = p.p[i], next = i + 1 < p.n ? p.p[i + 1] : 0;
        const char *bad = NULL;
        if (c == '\\' && !ispunct((unsigned char)next))
            bad = "only punctuation may follow a backslash (write [0-9] for \\d, [[:space:]] for \\s)";
        else if (c == '(' && next == '?')
            bad = "(?...) groups are not supported";
        else if ((c == '*' || c == '+' || c == '?' || c == '}') && (next == '?' || next == '+' || next == '*'))
            bad = "lazy and possessive repetition is not supported";
        if (bad)
            return error_set(err, -EINVAL, "registries.yaml: %.*s: expression \"%.*s\": %s", STR_ARG(key), STR_ARG(p),
                             bad);
        if (c == '\\')
            i++;
    }
    return 0;
}

static int check_replacement(struct str r, size_t groups, struct str key, struct error *err) {
    for (size_t i = 0; i < r.n; i++) {
        if (r.p[i] != '$')
            continue;
        size_t at = i + 1;
        if (at < r.n && r.p[at] == '$') {
            i = at;
            continue;
        }
        bool brace = at < r.n && r.p[at] == '{';
        at += brace;
        size_t digits = 0;
        while (at + digits < r.n && isdigit((unsigned char)r.p[at + digits]))
            digits++;
        char end = at + digits < r.n ? r.p[at + digits] : 0;
        bool ok = digits == 1 && (brace ? end == '}' : !(isalnum((unsigned char)end) || end == '_'));
        if (!ok || (size_t)(r.p[at] - '0') > groups)
            return error_set(
                err, -EINVAL,
                "registries.yaml: %.*s: replacement \"%.*s\": '$' must be followed by the number of a group "
                "(1 to %zu), in braces when a letter or digit follows it",
                STR_ARG(key), STR_ARG(r), groups);
    }
    return 0;
}

static int parse_rewrites(struct image_registries *r, struct mirror *m, const struct json *v, struct str key,
                          struct error *err) {
    if (!v || json_is(v, JSON_NULL))
        return 0;
    int rc = want(v, JSON_OBJECT, "a map of expressions to replacements", key, err);
    if (rc)
        return rc;
    if (v->n > REWRITES_MAX)
        return error_set(err, -E2BIG, "registries.yaml: %.*s: more than %d rewrites", STR_ARG(key), REWRITES_MAX);
    m->rewrites = arena_alloc(r->arena, sizeof(*m->rewrites) * MAX(v->n, 1));
    for (size_t i = 0; i < v->n; i++) {
        struct rewrite *w = &m->rewrites[i];
        if ((rc = want(v->members[i].value, JSON_STRING, "a replacement string", key, err)) ||
            (rc = check_pattern(v->members[i].key, key, err)))
            return rc;
        w->pattern = str_dup(r->arena, v->members[i].key);
        w->replacement = str_dup(r->arena, v->members[i].value->s);
        int re = regcomp(&w->re, w->pattern.p, REG_EXTENDED);
        if (re) {
            char why[128];
            regerror(re, &w->re, why, sizeof(why));
            return error_set(err, -EINVAL, "registries.yaml: %.*s: expression \"%.*s\": %s", STR_ARG(key),
                             STR_ARG(w->pattern), why);
        }
        m->rewrites_n++;
        if ((rc = check_replacement(w->replacement, MIN(w->re.re_nsub, GROUPS_MAX - 1), key, err)))
            return rc;
    }
    return 0;
}

static int parse_mirror(struct image_registries *r, struct mirror *m, struct str host, const struct json *v,
                        struct error *err) {
    struct arena *a = r->arena;
    struct str key = str_printf(a, "mirrors.%.*s", STR_ARG(host));
    m->pub.host = str_dup(a, host);
    if (json_is(v, JSON_NULL))
        return 0;
    int rc = want(v, JSON_OBJECT, "a map", key, err);
    if (rc)
        return rc;
    const struct json *list = NULL, *rewrite = NULL;
    for (size_t i = 0; i < v->n; i++) {
        struct str k = v->members[i].key;
        if (str_eq(k, STR("endpoint")) || str_eq(k, STR("endpoints")))
            list = v->members[i].value;
        else if (str_eq(k, STR("rewrite")))
            rewrite = v->members[i].value;
        else
            return error_set(err, -EINVAL, "registries.yaml: unknown key %.*s.%.*s", STR_ARG(key), STR_ARG(k));
    }
    if (list && !json_is(list, JSON_NULL)) {
        struct str at = str_printf(a, "%.*s.endpoint", STR_ARG(key));
        if ((rc = want(list, JSON_ARRAY, "a list of URLs", at, err)))
            return rc;
        if (list->n > REGISTRY_ENDPOINTS_MAX - 1)
            return error_set(err, -E2BIG, "registries.yaml: %.*s: more than %d endpoints", STR_ARG(at),
                             REGISTRY_ENDPOINTS_MAX - 1);
        m->pub.endpoints = arena_alloc(a, sizeof(struct str) * MAX(list->n, 1));
        for (size_t i = 0; i < list->n; i++) {
            if ((rc = want(list->items[i], JSON_STRING, "a URL", at, err)))
                return rc;
            rc = endpoint_base(a, str_trim(list->items[i]->s), &m->pub.endpoints[i], err);
            if (rc)
                return error_wrap(err, "registries.yaml: %.*s", STR_ARG(at));
            m->pub.endpoints_n++;
        }
    }
    return parse_rewrites(r, m, rewrite, str_printf(a, "%.*s.rewrite", STR_ARG(key)), err);
}

/* auth: base64 of "user:password", as docker's config.json has it. */
static int split_auth(struct image_registries *r, struct registry_host *h, struct str b64, struct str key,
                      struct error *err) {
    cleanup_buf struct buf plain = BUF_INIT;
    struct str user, password;
    if (base64_decode(&plain, str_trim(b64)) || !str_cut(buf_str(&plain), ':', &user, &password))
        return error_set(err, -EINVAL, "registries.yaml: %.*s.auth: expected base64 of user:password", STR_ARG(key));
    h->username = str_dup(r->arena, user);
    h->password = str_dup(r->arena, password);
    return 0;
}

static int parse_host(struct image_registries *r, struct registry_host *h, struct str host, const struct json *v,
                      struct error *err) {
    struct arena *a = r->arena;
    struct str key = str_printf(a, "configs.%.*s", STR_ARG(host)), auth = STR("");
    h->host = str_dup(a, host);
    if (json_is(v, JSON_NULL))
        return 0;
    int rc = want(v, JSON_OBJECT, "a map", key, err);
    for (size_t i = 0; rc == 0 && i < v->n; i++) {
        const struct json_member *m = &v->members[i];
        struct str at = str_printf(a, "%.*s.%.*s", STR_ARG(key), STR_ARG(m->key));
        if (str_eq(m->key, STR("auth"))) {
            const struct field fields[] = {{"username", &h->username, NULL},
                                           {"password", &h->password, NULL},
                                           {"auth", &auth, NULL},
                                           {"identity_token", &h->identity_token, NULL},
                                           {"token", &h->token, NULL}};
            if (!json_is(m->value, JSON_NULL))
                rc = read_fields(a, m->value, at, fields, ARRAY_LEN(fields), err);
            if (rc == 0 && auth.n && !h->username.n)
                rc = split_auth(r, h, auth, at, err);
        } else if (str_eq(m->key, STR("tls"))) {
            const struct field fields[] = {{"ca_file", &h->ca_file, NULL},
                                           {"cert_file", &h->cert_file, NULL},
                                           {"key_file", &h->key_file, NULL},
                                           {"insecure_skip_verify", NULL, &h->insecure_skip_verify}};
            if (!json_is(m->value, JSON_NULL))
                rc = read_fields(a, m->value, at, fields, ARRAY_LEN(fields), err);
            if (rc == 0 && !h->cert_file.n != !h->key_file.n)
                rc = error_set(err, -EINVAL, "registries.yaml: %.*s: cert_file and key_file go together", STR_ARG(at));
        } else {
            rc = error_set(err, -EINVAL, "registries.yaml: unknown key %.*s", STR_ARG(at));
        }
    }
    return rc;
}

static int parse_top(struct image_registries *r, const struct json *doc, struct error *err) {
    if (json_is(doc, JSON_NULL))
        return 0;
    int rc = want(doc, JSON_OBJECT, "a map with mirrors and configs", STR("top level"), err);
    for (size_t i = 0; rc == 0 && i < doc->n; i++) {
        const struct json_member *m = &doc->members[i];
        bool mirrors = str_eq(m->key, STR("mirrors"));
        if (!mirrors && !str_eq(m->key, STR("configs")))
            return error_set(err, -EINVAL, "registries.yaml: unknown key %.*s (known: mirrors, configs)",
                             STR_ARG(m->key));
        if (json_is(m->value, JSON_NULL))
            continue;
        if ((rc = want(m->value, JSON_OBJECT, "a map of registries", m->key, err)))
            return rc;
        size_t n = m->value->n;
        if (n > MIRRORS_MAX)
            return error_set(err, -E2BIG, "registries.yaml: %.*s: more than %d registries", STR_ARG(m->key),
                             MIRRORS_MAX);
        if (mirrors)
            r->mirrors = arena_alloc(r->arena, sizeof(*r->mirrors) * MAX(n, 1));
        else
            r->hosts = arena_alloc(r->arena, sizeof(*r->hosts) * MAX(n, 1));
        for (size_t k = 0; rc == 0 && k < n; k++) {
            const struct json_member *e = &m->value->members[k];
            rc = mirrors ? parse_mirror(r, &r->mirrors[r->mirrors_n++], e->key, e->value, err)
                         : parse_host(r, &r->hosts[r->hosts_n++], e->key, e->value, err);
        }
    }
    return rc;
}

struct image_registries *image_registries_parse(struct str text, struct error *err) {
    struct arena *a = arena_new(0, MiB(16));
    struct image_registries *r = ARENA_NEW(a, struct image_registries);
    r->arena = a;
    if (text.n > MiB(1)) {
        error_set(err, -E2BIG, "registries.yaml: larger than 1 MiB");
        image_registries_free(r);
        return NULL;
    }
    struct json_limits limits = {.depth = 16, .nodes = 20000};
    struct error why = {0};
    const struct json *doc = yaml_parse(a, text, &limits, &why);
    int rc = 0;
    if (!doc)
        rc = error_set(err, why.code, "registries.yaml: %s", why.msg);
    else
        rc = parse_top(r, doc, err);
    if (rc) {
        image_registries_free(r);
        return NULL;
    }
    return r;
}

void image_registries_free(struct image_registries *r) {
    if (!r)
        return;
    for (size_t i = 0; i < r->mirrors_n; i++)
        for (size_t k = 0; k < r->mirrors[i].rewrites_n; k++)
            regfree(&r->mirrors[i].rewrites[k].re);
    arena_free(r->arena);
}

/* --- looking up --------------------------------------------------------------------------------------------------- */

const struct registry_host *registry_host_find(const struct image_registries *r, struct str host) {
    const struct registry_host *any = NULL;
    for (size_t i = 0; r && i < r->hosts_n; i++) {
        if (str_eq_nocase(r->hosts[i].host, host))
            return &r->hosts[i];
        if (str_eq(r->hosts[i].host, STR("*")))
            any = &r->hosts[i];
    }
    return any;
}

static const struct mirror *mirror_find(const struct image_registries *r, struct str domain) {
    const struct mirror *any = NULL;
    for (size_t i = 0; r && i < r->mirrors_n; i++) {
        if (str_eq_nocase(r->mirrors[i].pub.host, domain))
            return &r->mirrors[i];
        if (str_eq(r->mirrors[i].pub.host, STR("*")))
            any = &r->mirrors[i];
    }
    return any;
}

static void expand(struct buf *out, struct str replacement, const char *subject, const regmatch_t *groups) {
    for (size_t i = 0; i < replacement.n; i++) {
        char c = replacement.p[i], next = i + 1 < replacement.n ? replacement.p[i + 1] : 0;
        if (c != '$') {
            buf_putc(out, c);
        } else if (next == '$') {
            buf_putc(out, '$');
            i++;
        } else {
            bool brace = next == '{';
            const regmatch_t *g = &groups[replacement.p[i + 1 + brace] - '0'];
            if (g->rm_so >= 0)
                buf_put(out, subject + g->rm_so, (size_t)(g->rm_eo - g->rm_so));
            i += brace ? 3 : 1;
        }
    }
}

/* Every match of the expression replaced, as Go's ReplaceAllString does. */
static struct str rewrite_apply(struct arena *a, const struct rewrite *w, struct str path) {
    cleanup_buf struct buf out = BUF_INIT;
    const char *subject = arena_strndup(a, path.p, path.n), *at = subject;
    regmatch_t g[GROUPS_MAX];
    while (regexec(&w->re, at, GROUPS_MAX, g, at == subject ? 0 : REG_NOTBOL) == 0) {
        buf_put(&out, at, (size_t)g[0].rm_so);
        expand(&out, w->replacement, at, g);
        at += g[0].rm_eo;
        if (g[0].rm_eo == g[0].rm_so) {
            if (!*at)
                break;
            buf_putc(&out, *at++);
        }
        if (!*at)
            break;
    }
    buf_puts(&out, at);
    return out.failed ? path : str_dup(a, buf_str(&out));
}

static struct str rewrite_path(struct arena *a, const struct mirror *m, struct str path) {
    for (size_t i = 0; i < m->rewrites_n; i++) {
        struct str changed = rewrite_apply(a, &m->rewrites[i], path);
        if (!str_eq(changed, path))
            return changed;
    }
    return path;
}

size_t registry_endpoints(const struct image_registries *r, struct arena *a, const struct image_name *name,
                          struct registry_endpoint out[REGISTRY_ENDPOINTS_MAX]) {
    bool hub = str_eq(name->domain, STR("docker.io"));
    struct str host = hub ? STR("registry-1.docker.io") : name->domain;
    /* Registries on loopback speak plain HTTP unless told otherwise, as containerd has it. */
    const struct registry_host *own = registry_host_find(r, host);
    if (hub && (!own || str_eq(own->host, STR("*")))) {
        const struct registry_host *by_name = registry_host_find(r, STR("docker.io"));
        own = by_name ? by_name : own;
    }
    bool named = own && !str_eq(own->host, STR("*"));
    bool tls_set = named && (own->ca_file.n || own->cert_file.n || own->insecure_skip_verify);
    const char *scheme = host_is_loopback(host) && !tls_set ? "http" : "https";
    struct str base = str_printf(a, "%s://%.*s/v2", scheme, STR_ARG(host));
    size_t n = 0;
    const struct mirror *m = mirror_find(r, name->domain);
    for (size_t i = 0; m && i < m->pub.endpoints_n && n < REGISTRY_ENDPOINTS_MAX - 1; i++) {
        struct registry_url u;
        if (str_eq(m->pub.endpoints[i], base) || !registry_url_parse(m->pub.endpoints[i], &u))
            continue;
        out[n++] = (struct registry_endpoint){.base = str_dup(a, m->pub.endpoints[i]),
                                              .host = str_dup(a, u.host),
                                              .repository = rewrite_path(a, m, name->path),
                                              .ns = str_dup(a, name->domain),
                                              .auth = registry_host_find(r, u.host),
                                              .is_mirror = true};
    }
    out[n++] = (struct registry_endpoint){
        .base = base, .host = str_dup(a, host), .repository = name->path, .ns = STR(""), .auth = own};
    return n;
}
