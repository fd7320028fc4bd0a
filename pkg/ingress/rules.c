#include "ingress/rules.h"

#include <stdlib.h>

#include "net/http.h"

#define ARENA_LIMIT MiB(256)
#define ARENA_ENOUGH MiB(128) /* further Ingresses are left out; one has far less than the rest */
#define HOST_MAX 253

enum path_type { PATH_EXACT, PATH_PREFIX };

struct path {
    struct str path; /* of a prefix: without a final slash */
    enum path_type type;
    size_t order;
    struct ingress_backend *backend;
};

struct host {
    VEC(struct path) paths; /* longest first once sorted */
    struct ingress_backend *fallback;
};

/* --- names -------------------------------------------------------------------------------------------------------- */

struct str ingress_host_clean(struct arena *a, struct str host) {
    if (host.n && host.p[0] == '[') { /* [v6]:port */
        ptrdiff_t end = str_index(host, ']', 0);
        host = end < 0 ? host : str_n(host.p + 1, (size_t)end - 1);
    } else {
        ptrdiff_t colon = str_index(host, ':', 0);
        host = colon < 0 ? host : str_n(host.p, (size_t)colon);
    }
    if (host.n && host.p[host.n - 1] == '.')
        host.n--;
    return str_lower(a, host);
}

bool ingress_path_clean(struct arena *a, struct str raw, struct str *out) {
    struct str s;
    if (!http_percent_decode(a, raw, false, &s) || memchr(s.p, 0, s.n))
        return false;
    char *p = arena_alloc(a, s.n + 2);
    size_t n = 0;
    struct str rest = s;
    bool slash = false; /* the path ends in one */
    while (rest.p) {
        struct str seg = str_split(&rest, '/');
        slash = seg.n == 0 || str_eq(seg, STR(".")) || str_eq(seg, STR(".."));
        if (str_eq(seg, STR(".."))) {
            while (n && p[--n] != '/')
                ;
        } else if (!slash) {
            p[n++] = '/';
            memcpy(p + n, seg.p, seg.n);
            n += seg.n;
        }
    }
    if (slash || n == 0)
        p[n++] = '/';
    *out = str_n(p, n);
    return true;
}

/* --- building ----------------------------------------------------------------------------------------------------- */

bool ingress_is_served(const struct json *ingress, const char *class_name) {
    const struct json *spec = json_get(json_get_c(ingress, "spec"), STR("ingressClassName"));
    const struct json *note = json_get(json_at(ingress, "metadata.annotations"), STR("kubernetes.io/ingress.class"));
    struct str name = json_as_str(json_is(spec, JSON_STRING) ? spec : note);
    return name.n == 0 || str_eq_c(name, class_name);
}

static struct ingress_backend *backend_get(struct ingress_rules *r, struct str ns, const struct json *b) {
    const struct json *service = json_get_c(b, "service");
    struct str name = json_str_at(service, "name"), port_name = json_str_at(service, "port.name");
    int64_t port = json_int_at(service, "port.number", 0);
    struct str key = str_printf(r->arena, "%.*s/%.*s", STR_ARG(ns), STR_ARG(name));
    struct ingress_backend *first = map_get(&r->services, key);
    for (struct ingress_backend *i = first; i; i = i->next_of_service) {
        if (str_eq(i->port_name, port_name) && (port_name.n || i->port == port))
            return i;
    }
    struct ingress_backend *n = ARENA_NEW(r->arena, struct ingress_backend);
    *n = (struct ingress_backend){.next_of_service = first,
                                  .ns = str_dup(r->arena, ns),
                                  .service = str_dup(r->arena, name),
                                  .port_name = str_dup(r->arena, port_name),
                                  .port = port,
                                  .state = service ? BACKEND_NO_SERVICE : BACKEND_UNSUPPORTED};
    vec_push(&r->backends, n);
    map_set(&r->services, key, n);
    return n;
}

static struct host *host_get(struct ingress_rules *r, struct str name) {
    name = str_lower(r->arena, name);
    struct host *h = map_get(&r->hosts, name);
    if (!h) {
        h = ARENA_NEW(r->arena, struct host);
        map_set(&r->hosts, name, h);
    }
    return h;
}

static void path_add(struct ingress_rules *r, struct host *h, const struct json *p, struct ingress_backend *b) {
    struct str text = json_str_at(p, "path");
    struct path k = {.path = str_dup(r->arena, text.n ? text : STR("/")), .backend = b, .order = h->paths.n};
    k.type = str_eq(json_str_at(p, "pathType"), STR("Exact")) ? PATH_EXACT : PATH_PREFIX;
    while (k.type == PATH_PREFIX && k.path.n && k.path.p[k.path.n - 1] == '/')
        k.path.n--;
    vec_push(&h->paths, k);
}

static void rule_add(struct ingress_rules *r, struct str ns, const struct json *rule,
                     struct ingress_backend *fallback) {
    struct host *h = host_get(r, json_str_at(rule, "host"));
    const struct json *paths = json_at(rule, "http.paths");
    for (size_t i = 0; i < json_len(paths); i++) {
        const struct json *p = json_item(paths, i);
        path_add(r, h, p, backend_get(r, ns, json_get_c(p, "backend")));
    }
    if (!h->fallback)
        h->fallback = fallback;
}

static void tls_add(struct ingress_rules *r, struct str ns, const struct json *ingress, const struct json *tls) {
    const struct json *hosts = json_get_c(tls, "hosts"), *rules = json_at(ingress, "spec.rules");
    bool of_rules = json_len(hosts) == 0; /* a section without names is for those of the rules */
    struct str secret = str_dup(r->arena, json_str_at(tls, "secretName"));
    for (size_t i = 0; secret.n && i < json_len(of_rules ? rules : hosts); i++) {
        struct str host = of_rules ? json_str_at(json_item(rules, i), "host") : json_as_str(json_item(hosts, i));
        struct ingress_tls t = {str_lower(r->arena, host), str_dup(r->arena, ns), secret};
        vec_push(&r->tls, t);
    }
}

static void ingress_add(struct ingress_rules *r, const struct json *ingress) {
    struct str ns = json_str_at(ingress, "metadata.namespace");
    const struct json *spec = json_get_c(ingress, "spec"), *rules = json_get_c(spec, "rules");
    const struct json *tls = json_get_c(spec, "tls"), *def = json_get_c(spec, "defaultBackend");
    if (arena_used(r->arena) > ARENA_ENOUGH) {
        log_warn("ingress", "too many rules: Ingress %.*s/%.*s is left out", STR_ARG(ns),
                 STR_ARG(json_str_at(ingress, "metadata.name")));
        return;
    }
    struct ingress_backend *fallback = json_is(def, JSON_OBJECT) ? backend_get(r, ns, def) : NULL;
    bool weak = json_len(rules) > 0;
    if (fallback && (!r->fallback || (r->fallback_weak && !weak))) {
        r->fallback = fallback;
        r->fallback_weak = weak;
    }
    for (size_t i = 0; i < json_len(rules); i++)
        rule_add(r, ns, json_item(rules, i), fallback);
    for (size_t i = 0; i < json_len(tls); i++)
        tls_add(r, ns, ingress, json_item(tls, i));
    r->served++;
}

static int by_age(const void *a, const void *b) {
    static const char *const keys[] = {"metadata.creationTimestamp", "metadata.namespace", "metadata.name"};
    const struct json *x = *(const struct json *const *)a, *y = *(const struct json *const *)b;
    int c = 0;
    for (size_t i = 0; !c && i < ARRAY_LEN(keys); i++)
        c = str_cmp(json_str_at(x, keys[i]), json_str_at(y, keys[i]));
    return c;
}

static int by_precedence(const void *a, const void *b) {
    const struct path *x = a, *y = b;
    if (x->path.n != y->path.n)
        return x->path.n > y->path.n ? -1 : 1;
    if (x->type != y->type)
        return x->type == PATH_EXACT ? -1 : 1;
    return x->order < y->order ? -1 : x->order > y->order;
}

struct ingress_rules *ingress_rules_new(const struct json *const *ingresses, size_t n, const char *class_name) {
    struct arena *a = arena_new(0, ARENA_LIMIT);
    struct ingress_rules *r = ARENA_NEW(a, struct ingress_rules);
    r->arena = a;
    r->refs = 1;
    const struct json **mine = xcalloc(n + 1, sizeof(*mine));
    size_t mine_n = 0;
    for (size_t i = 0; i < n; i++) {
        if (ingress_is_served(ingresses[i], class_name))
            mine[mine_n++] = ingresses[i];
    }
    qsort(mine, mine_n, sizeof(*mine), by_age);
    for (size_t i = 0; i < mine_n; i++)
        ingress_add(r, mine[i]);
    free(mine);
    struct map_entry *e;
    for (size_t i = 0; (e = map_next(&r->hosts, &i));) {
        struct host *h = e->value;
        if (h->paths.n)
            qsort(h->paths.items, h->paths.n, sizeof(*h->paths.items), by_precedence);
    }
    return r;
}

struct ingress_rules *ingress_rules_ref(struct ingress_rules *r) {
    r->refs++;
    return r;
}

void ingress_rules_unref(struct ingress_rules *r) {
    if (!r || --r->refs)
        return;
    struct map_entry *e;
    for (size_t i = 0; (e = map_next(&r->hosts, &i));)
        vec_fini(&((struct host *)e->value)->paths);
    for (size_t i = 0; (e = map_next(&r->certs, &i));)
        tls_config_unref(e->value);
    for (size_t i = 0; i < r->backends.n; i++)
        vec_fini(&r->backends.items[i]->endpoints);
    map_fini(&r->hosts);
    map_fini(&r->services);
    map_fini(&r->certs);
    vec_fini(&r->backends);
    vec_fini(&r->tls);
    arena_free(r->arena);
}

/* --- finding ------------------------------------------------------------------------------------------------------ */

static bool path_matches(const struct path *p, struct str path) {
    if (p->type == PATH_EXACT)
        return str_eq(p->path, path);
    return str_starts(path, p->path) && (path.n == p->path.n || path.p[p->path.n] == '/');
}

static struct ingress_backend *find_path(const struct host *h, struct str path) {
    for (size_t i = 0; h && i < h->paths.n; i++) {
        if (path_matches(&h->paths.items[i], path))
            return h->paths.items[i].backend;
    }
    return NULL;
}

/* "a.b.c" -> "*.b.c"; empty when there is nothing to replace. */
static struct str wildcard(struct str name, char out[HOST_MAX + 1]) {
    ptrdiff_t dot = str_index(name, '.', 0);
    if (dot < 1 || name.n > HOST_MAX)
        return STR("");
    size_t n = name.n - (size_t)dot;
    out[0] = '*';
    memcpy(out + 1, name.p + dot, n);
    return str_n(out, n + 1);
}

struct ingress_backend *ingress_rules_find(const struct ingress_rules *r, struct str host, struct str path) {
    cleanup_arena struct arena *a = arena_new(512, KiB(256));
    char star[HOST_MAX + 1];
    if (host.n > KiB(8))
        return NULL;
    struct str name = ingress_host_clean(a, host), wild = wildcard(name, star);
    const struct host *h[] = {name.n ? map_get(&r->hosts, name) : NULL, wild.n ? map_get(&r->hosts, wild) : NULL,
                              map_get(&r->hosts, STR(""))};
    struct ingress_backend *b = NULL;
    for (size_t i = 0; !b && i < ARRAY_LEN(h); i++)
        b = find_path(h[i], path);
    for (size_t i = 0; !b && i < ARRAY_LEN(h); i++)
        b = h[i] ? h[i]->fallback : NULL;
    return b ? b : r->fallback;
}

struct tls_config *ingress_rules_cert(const struct ingress_rules *r, struct str name) {
    cleanup_arena struct arena *a = arena_new(512, KiB(16));
    char star[HOST_MAX + 1];
    if (name.n > HOST_MAX)
        return NULL;
    name = ingress_host_clean(a, name);
    struct str wild = wildcard(name, star);
    struct tls_config *c = name.n ? map_get(&r->certs, name) : NULL;
    return c || !wild.n ? c : map_get(&r->certs, wild);
}
