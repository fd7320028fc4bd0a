/* URLs to what they ask for. Source: the Kubernetes API's URL layout (resource URIs) and its request attributes. */
#include "api/api_priv.h"

struct verb_name {
    struct str method, one, many; /* verb with a name, without */
};

static const struct verb_name verb_names[] = {
    {STR_INIT("GET"), STR_INIT("get"), STR_INIT("list")},
    {STR_INIT("HEAD"), STR_INIT("get"), STR_INIT("list")},
    {STR_INIT("POST"), STR_INIT("create"), STR_INIT("create")},
    {STR_INIT("PUT"), STR_INIT("update"), STR_INIT("update")},
    {STR_INIT("PATCH"), STR_INIT("patch"), STR_INIT("patch")},
    {STR_INIT("DELETE"), STR_INIT("delete"), STR_INIT("deletecollection")},
};

#define PARTS_MAX 12

/* The next path segment; p == NULL behind the last. Empty segments (double slashes) are kept and match nothing. */
static struct str part_at(const struct str *parts, size_t n, size_t i) {
    return i < n ? parts[i] : STR_NULL;
}

static size_t split_path(struct str path, struct str *parts, struct str *tails, size_t max) {
    size_t n = 0;
    struct str rest = str_skip(path, 1);
    while (rest.p && n < max) {
        if (rest.n == 0)
            break;
        tails[n] = rest;
        parts[n++] = str_split(&rest, '/');
    }
    return n;
}

static const struct verb_name *verb_name_find(struct str method) {
    for (size_t i = 0; i < ARRAY_LEN(verb_names); i++)
        if (str_eq(verb_names[i].method, method))
            return &verb_names[i];
    return NULL;
}

/* The resource part: parts from i on, [namespaces NS] RESOURCE [NAME [SUB [REST]]]. */
static bool parse_resource(const struct str *parts, const struct str *tails, size_t n, size_t i, struct api_target *t) {
    struct str first = part_at(parts, n, i);
    if (first.n == 0)
        return false;
    if (str_eq_c(first, "namespaces") && t->group.n == 0 && i + 1 < n) {
        t->ns = parts[i + 1];
        struct str third = part_at(parts, n, i + 2);
        if (third.p && !str_eq_c(third, "status") && !str_eq_c(third, "finalize"))
            i += 2;
    } else if (str_eq_c(first, "namespaces") && i + 2 < n) {
        t->ns = parts[i + 1];
        i += 2;
    }
    t->plural = part_at(parts, n, i);
    t->name = part_at(parts, n, i + 1);
    t->subresource = part_at(parts, n, i + 2);
    if (t->plural.n == 0 || (t->name.p && t->name.n == 0) || (t->subresource.p && t->subresource.n == 0))
        return false;
    if (n > i + 3) {
        if (!str_eq_c(t->subresource, "proxy"))
            return false;
        t->rest = str_n(tails[i + 3].p - 1, tails[i + 3].n + 1);
    } else if (str_eq_c(t->subresource, "proxy") && str_ends(t->path, STR("/"))) {
        t->rest = STR("/");
    }
    return true;
}

bool api_path_parse(struct arena *a, struct str method, struct str path, bool watch, struct api_target *t) {
    struct str parts[PARTS_MAX + 1], tails[PARTS_MAX + 1];
    memset(t, 0, sizeof(*t));
    t->path = path;
    t->verb = str_lower(a, method);
    size_t n = split_path(path, parts, tails, PARTS_MAX + 1);
    size_t i = 0;
    if (n >= 3 && str_eq_c(parts[0], "api")) {
        t->group = STR("");
        t->version = parts[1];
        i = 2;
    } else if (n >= 4 && str_eq_c(parts[0], "apis")) {
        t->group = parts[1];
        t->version = parts[2];
        i = 3;
    } else {
        return false;
    }
    const struct verb_name *v = verb_name_find(method);
    if (!v || n > PARTS_MAX || t->version.n == 0)
        return false;
    bool prefixed = str_eq_c(parts[i], "watch") && n > i + 1 && str_eq(v->one, STR("get"));
    if (!parse_resource(parts, tails, n, prefixed ? i + 1 : i, t))
        return false;
    t->resource = true;
    t->verb = t->name.p ? v->one : v->many;
    if (prefixed || (str_eq_c(t->verb, "list") && watch))
        t->verb = STR("watch");
    return true;
}

bool api_query_parse(struct arena *a, struct str query, struct api_param **params, size_t *n) {
    *params = NULL;
    *n = 0;
    if (query.n == 0)
        return true;
    size_t count = 1;
    for (size_t i = 0; i < query.n; i++)
        count += query.p[i] == '&';
    if (count > API_PARAMS_MAX)
        return false;
    struct api_param *out = arena_alloc(a, count * sizeof(*out));
    size_t used = 0;
    struct str rest = query;
    while (rest.p) {
        struct str piece = str_split(&rest, '&'), key = piece, value = STR("");
        if (piece.n == 0)
            continue;
        str_cut(piece, '=', &key, &value);
        if (!http_percent_decode(a, key, true, &out[used].key) ||
            !http_percent_decode(a, value, true, &out[used].value))
            return false;
        used++;
    }
    *params = out;
    *n = used;
    return true;
}
