#include <stdlib.h>
#include <string.h>

#include "store/store_priv.h"

static atomic_size_t trees_bytes;

size_t object_trees_bytes(void) {
    return atomic_load_explicit(&trees_bytes, memory_order_relaxed);
}

/* --- metadata.uid without parsing: a walk over the text, which is JSON that was checked when it came --- */

static const char *skip_space(const char *p, const char *end) {
    while (p < end && (*p == ' ' || *p == '\n' || *p == '\t' || *p == '\r'))
        p++;
    return p;
}

/* p at the opening quote; behind the closing one. */
static const char *skip_string(const char *p, const char *end) {
    for (p++; p < end && *p != '"'; p++) {
        if (*p == '\\')
            p++;
    }
    return p < end ? p + 1 : end;
}

static const char *skip_value(const char *p, const char *end) {
    int depth = 0;
    while (p < end) {
        char c = *p;
        if (c == '"') {
            p = skip_string(p, end);
        } else if (c == '{' || c == '[') {
            depth++;
            p++;
        } else if (c == '}' || c == ']') {
            if (depth == 0)
                return p;
            depth--;
            p++;
        } else if (c == ',' && depth == 0) {
            return p;
        } else {
            p++;
            continue;
        }
        if (depth == 0)
            return p;
    }
    return end;
}

/* The text of a member's value in the object at the start of text; p NULL when there is none. */
static struct str text_member(struct str text, struct str key) {
    const char *p = skip_space(text.p, text.p + text.n), *end = text.p + text.n;
    if (p == end || *p != '{')
        return STR_NULL;
    p = skip_space(p + 1, end);
    while (p < end && *p == '"') {
        const char *name = p + 1;
        p = skip_string(p, end);
        bool found = str_eq(str_n(name, (size_t)(p - name) - 1), key);
        p = skip_space(p, end);
        if (p == end || *p != ':')
            break;
        const char *value = skip_space(p + 1, end);
        p = skip_value(value, end);
        if (found)
            return str_n(value, (size_t)(p - value));
        p = skip_space(p, end);
        if (p == end || *p != ',')
            break;
        p = skip_space(p + 1, end);
    }
    return STR_NULL;
}

static struct str text_uid(struct str text) {
    struct str v = text_member(text_member(text, STR("metadata")), STR("uid"));
    if (v.n < 2 || v.p[0] != '"' || memchr(v.p, '\\', v.n))
        return STR("");
    return str_n(v.p + 1, v.n - 2);
}

/* --- life --------------------------------------------------------------------------------------------------------- */

static void tree_count(const struct arena *a, bool more) {
    size_t n = arena_used(a) + 256;
    if (more)
        atomic_fetch_add_explicit(&trees_bytes, n, memory_order_relaxed);
    else
        atomic_fetch_sub_explicit(&trees_bytes, n, memory_order_relaxed);
}

static void free_tree(struct object *o) {
    if (!o->arena)
        return;
    tree_count(o->arena, false);
    arena_free(o->arena);
    o->arena = NULL;
}

static void object_free(struct blob *b) {
    struct object *o = CONTAINER_OF(b, struct object, blob);
    free_tree(o);
    free(o);
}

/* One allocation: the struct, ns, name, text. The caller's buffer had grown with room to spare, which is not kept. */
struct object *object_new(struct store_kind *kind, struct str ns, struct str name, int64_t revision, char *json,
                          size_t n, struct json *tree, struct arena *arena) {
    struct object *o = xmalloc(sizeof(*o) + ns.n + name.n + n + 3);
    memset(o, 0, sizeof(*o));
    char *p = (char *)(o + 1);
    o->ns = str_n(p, ns.n);
    if (ns.n)
        memcpy(p, ns.p, ns.n);
    p += ns.n;
    *p++ = 0;
    o->name = str_n(p, name.n);
    if (name.n)
        memcpy(p, name.p, name.n);
    p += name.n;
    *p++ = 0;
    if (n)
        memcpy(p, json, n);
    p[n] = 0;
    free(json);
    ref_init(&o->blob.ref);
    o->blob.bytes = str_n(p, n);
    o->blob.release = object_free;
    o->kind = kind;
    o->revision = o->id = revision;
    o->uid = text_uid(o->blob.bytes);
    if (tree && arena) {
        o->arena = arena;
        tree_count(arena, true);
        atomic_init(&o->tree, tree);
        atomic_init(&o->used, true);
    }
    return o;
}

void object_unref(struct object *o) {
    if (o)
        blob_unref(&o->blob);
}

size_t object_size(const struct object *o) {
    return sizeof(*o) + o->ns.n + o->name.n + o->blob.bytes.n + 3;
}

/* --- the parsed form ---------------------------------------------------------------------------------------------- */

static void ignore_duplicate(void *arg, struct str path) {}

static struct json *parse(const struct object *o, struct arena **arena) {
    static const struct json_limits limits = {JSON_DEPTH_MAX, UINT32_MAX, ignore_duplicate, NULL};
    struct error err = {0};
    struct arena *a = arena_new(o->blob.bytes.n * 4 + 512, MiB(1024));
    struct json *t = json_parse(a, o->blob.bytes, &limits, &err);
    if (!t) {
        log_error("store", "object %.*s/%.*s of %.*s cannot be parsed: %s", STR_ARG(o->ns), STR_ARG(o->name),
                  STR_ARG(o->kind ? o->kind->name : STR("?")), err.msg);
        arena_free(a);
        return NULL;
    }
    *arena = a;
    return t;
}

/*
 * Threads may race to be first: one publishes its tree, the others throw theirs away. The winner writes `arena` after that;
 * it is read only when nobody but the reader can hold the object, by which time the winner has let go of it.
 */
const struct json *object_json(struct object *o) {
    static const struct json nothing = {.type = JSON_OBJECT};
    struct json *t = atomic_load_explicit(&o->tree, memory_order_acquire);
    if (!t) {
        struct arena *a;
        struct json *mine = parse(o, &a);
        if (!mine)
            return &nothing;
        if (!atomic_compare_exchange_strong_explicit(&o->tree, &t, mine, memory_order_acq_rel, memory_order_acquire)) {
            arena_free(a);
        } else {
            o->arena = a;
            tree_count(a, true);
            t = mine;
        }
    }
    if (!atomic_load_explicit(&o->used, memory_order_relaxed))
        atomic_store_explicit(&o->used, true, memory_order_relaxed);
    return t;
}

bool object_has_tree(const struct object *o) {
    return atomic_load_explicit(&o->tree, memory_order_relaxed) != NULL;
}

/*
 * Only the core thread makes new references from the store's; when all references there are are the store's, nobody else can
 * be looking at the tree. Acquire pairs with the release of whoever dropped his.
 */
void object_drop_tree(struct object *o) {
    if (!object_has_tree(o) || atomic_load_explicit(&o->blob.ref.count, memory_order_acquire) != o->held)
        return;
    atomic_store_explicit(&o->tree, NULL, memory_order_relaxed);
    free_tree(o);
}
