/* JSON trees: making, reading, comparing and editing them. */
#include "codec/json.h"

#include <stdarg.h>

#include "codec/json_private.h"

/* --- shared helpers ---------------------------------------------------------------------------------------------- */

int json_utf8_encode(char *out, uint32_t c) {
    if (c < 0x80) {
        out[0] = (char)c;
        return 1;
    }
    if (c < 0x800) {
        out[0] = (char)(0xC0 | c >> 6);
        out[1] = (char)(0x80 | (c & 0x3F));
        return 2;
    }
    if (c < 0x10000) {
        out[0] = (char)(0xE0 | c >> 12);
        out[1] = (char)(0x80 | (c >> 6 & 0x3F));
        out[2] = (char)(0x80 | (c & 0x3F));
        return 3;
    }
    out[0] = (char)(0xF0 | c >> 18);
    out[1] = (char)(0x80 | (c >> 12 & 0x3F));
    out[2] = (char)(0x80 | (c >> 6 & 0x3F));
    out[3] = (char)(0x80 | (c & 0x3F));
    return 4;
}

bool json_index_init(struct json_index *ix, size_t keys) {
    uint32_t size = 64;
    while (size < keys * 2 && size < (UINT32_C(1) << 31))
        size *= 2;
    ix->slots = calloc(size, sizeof(*ix->slots));
    ix->mask = size - 1;
    return ix->slots != NULL;
}

void json_index_fini(struct json_index *ix) {
    free(ix->slots);
    ix->slots = NULL;
}

uint32_t *json_index_find(const struct json_index *ix, struct str key, const void *elements, size_t element_size) {
    for (uint32_t i = (uint32_t)str_hash(key);; i++) {
        uint32_t *slot = &ix->slots[i & ix->mask];
        if (*slot == 0)
            return slot;
        const struct str *other = (const void *)((const char *)elements + (*slot - 1) * element_size);
        if (str_eq(*other, key))
            return slot;
    }
}

void json_lookup_init(struct json_lookup *l, const struct json *obj) {
    *l = (struct json_lookup){.obj = obj};
    if (!json_is(obj, JSON_OBJECT) || obj->n < JSON_INDEX_FROM || !json_index_init(&l->index, obj->n))
        return;
    for (uint32_t i = 0; i < obj->n; i++) {
        uint32_t *slot = json_index_find(&l->index, obj->members[i].key, obj->members, sizeof(*obj->members));
        if (*slot == 0)
            *slot = i + 1;
    }
}

void json_lookup_fini(struct json_lookup *l) {
    json_index_fini(&l->index);
}

static struct json_member *find(const struct json *obj, struct str key) {
    if (!json_is(obj, JSON_OBJECT))
        return NULL;
    for (uint32_t i = 0; i < obj->n; i++)
        if (str_eq(obj->members[i].key, key))
            return &obj->members[i];
    return NULL;
}

struct json_member *json_lookup_find(const struct json_lookup *l, struct str key) {
    if (!l->index.slots)
        return find(l->obj, key);
    uint32_t slot = *json_index_find(&l->index, key, l->obj->members, sizeof(*l->obj->members));
    return slot ? &l->obj->members[slot - 1] : NULL;
}

/* --- making ------------------------------------------------------------------------------------------------------ */

static struct json *make(struct arena *a, enum json_type type) {
    struct json *v = ARENA_NEW(a, struct json);
    v->type = type;
    return v;
}

struct json *json_null(struct arena *a) {
    return make(a, JSON_NULL);
}

struct json *json_bool(struct arena *a, bool b) {
    struct json *v = make(a, JSON_BOOL);
    v->b = b;
    return v;
}

struct json *json_int(struct arena *a, int64_t i) {
    struct json *v = make(a, JSON_INT);
    v->i = i;
    return v;
}

struct json *json_double(struct arena *a, double d) {
    struct json *v = make(a, JSON_DOUBLE);
    v->d = d;
    return v;
}

struct json *json_str(struct arena *a, struct str s) {
    struct json *v = make(a, JSON_STRING);
    v->s = str_dup(a, s);
    return v;
}

struct json *json_cstr(struct arena *a, const char *s) {
    return json_str(a, str_c(s));
}

struct json *json_strf(struct arena *a, const char *fmt, ...) {
    va_list ap;
    cleanup_free char *text = NULL;
    va_start(ap, fmt);
    int n = vasprintf(&text, fmt, ap);
    va_end(ap);
    REQUIRE(n >= 0);
    return json_str(a, str_n(text, (size_t)n));
}

struct json *json_array(struct arena *a) {
    return make(a, JSON_ARRAY);
}

struct json *json_object(struct arena *a) {
    return make(a, JSON_OBJECT);
}

struct json *json_copy(struct arena *a, const struct json *v) {
    if (!v)
        return NULL;
    struct json *c = make(a, v->type);
    *c = *v;
    c->cap = c->n;
    if (v->type == JSON_STRING) {
        c->s = str_dup(a, v->s);
    } else if (v->type == JSON_ARRAY) {
        c->items = v->n ? arena_alloc(a, v->n * sizeof(*c->items)) : NULL;
        for (uint32_t i = 0; i < v->n; i++)
            c->items[i] = json_copy(a, v->items[i]);
    } else if (v->type == JSON_OBJECT) {
        c->members = v->n ? arena_alloc(a, v->n * sizeof(*c->members)) : NULL;
        for (uint32_t i = 0; i < v->n; i++)
            c->members[i] = (struct json_member){str_dup(a, v->members[i].key), json_copy(a, v->members[i].value)};
    }
    return c;
}

/* --- reading ----------------------------------------------------------------------------------------------------- */

const char *json_type_name(const struct json *v) {
    static const char *const names[JSON_TYPE_MAX] = {"null", "bool", "number", "number", "string", "array", "object"};
    return v ? names[v->type] : "null";
}

struct json *json_get(const struct json *obj, struct str key) {
    struct json_member *m = find(obj, key);
    return m ? m->value : NULL;
}

struct json *json_get_c(const struct json *obj, const char *key) {
    return json_get(obj, str_c(key));
}

struct json *json_at(const struct json *v, const char *path) {
    struct str rest = str_c(path);
    struct json *at = NULL;
    while (rest.p) {
        at = json_get(v, str_split(&rest, '.'));
        if (!at)
            return NULL;
        v = at;
    }
    return at;
}

struct json *json_item(const struct json *arr, size_t i) {
    return json_is(arr, JSON_ARRAY) && i < arr->n ? arr->items[i] : NULL;
}

struct str json_as_str(const struct json *v) {
    return json_is(v, JSON_STRING) ? v->s : STR("");
}

/* Whether d is a whole number that int64 holds. */
static bool whole(double d, int64_t *out) {
    if (!(d >= -9223372036854775808.0 && d < 9223372036854775808.0) || (double)(int64_t)d != d)
        return false;
    *out = (int64_t)d;
    return true;
}

int64_t json_as_int(const struct json *v, int64_t otherwise) {
    int64_t i;
    if (json_is(v, JSON_INT))
        return v->i;
    return json_is(v, JSON_DOUBLE) && whole(v->d, &i) ? i : otherwise;
}

double json_as_double(const struct json *v, double otherwise) {
    if (json_is(v, JSON_INT))
        return (double)v->i;
    return json_is(v, JSON_DOUBLE) ? v->d : otherwise;
}

bool json_as_bool(const struct json *v, bool otherwise) {
    return json_is(v, JSON_BOOL) ? v->b : otherwise;
}

struct str json_str_at(const struct json *v, const char *path) {
    return json_as_str(json_at(v, path));
}

int64_t json_int_at(const struct json *v, const char *path, int64_t otherwise) {
    return json_as_int(json_at(v, path), otherwise);
}

bool json_bool_at(const struct json *v, const char *path, bool otherwise) {
    return json_as_bool(json_at(v, path), otherwise);
}

static bool equal_objects(const struct json *a, const struct json *b) {
    if (a->n != b->n)
        return false;
    struct json_lookup other = {0};
    bool looked_up = false, same = true;
    for (uint32_t i = 0; i < a->n && same; i++) {
        const struct json_member *m = &b->members[i];
        if (!str_eq(a->members[i].key, m->key)) { /* another order: from here on by key */
            if (!looked_up)
                json_lookup_init(&other, b);
            looked_up = true;
            m = json_lookup_find(&other, a->members[i].key);
        }
        same = m && json_equal(a->members[i].value, m->value);
    }
    json_lookup_fini(&other);
    return same;
}

bool json_equal(const struct json *a, const struct json *b) {
    int64_t i;
    if (a == b)
        return true;
    if (!a || !b)
        return false;
    if (a->type == JSON_INT && b->type == JSON_DOUBLE)
        return whole(b->d, &i) && i == a->i;
    if (a->type == JSON_DOUBLE && b->type == JSON_INT)
        return whole(a->d, &i) && i == b->i;
    if (a->type != b->type)
        return false;
    switch (a->type) {
    case JSON_BOOL:
        return a->b == b->b;
    case JSON_INT:
        return a->i == b->i;
    case JSON_DOUBLE:
        return a->d == b->d;
    case JSON_STRING:
        return str_eq(a->s, b->s);
    case JSON_ARRAY:
        for (uint32_t k = 0; k < a->n && a->n == b->n; k++)
            if (!json_equal(a->items[k], b->items[k]))
                return false;
        return a->n == b->n;
    case JSON_OBJECT:
        return equal_objects(a, b);
    default:
        return true;
    }
}

/* --- editing ----------------------------------------------------------------------------------------------------- */

/* A larger copy of an array of n elements; the old one stays with the arena. */
static void *grow(struct arena *a, const void *old, uint32_t n, uint32_t *cap, size_t size) {
    REQUIRE(n < UINT32_MAX / 2);
    *cap = MAX(n * 2, (uint32_t)4);
    void *bigger = arena_alloc(a, *cap * size);
    if (n)
        memcpy(bigger, old, n * size);
    return bigger;
}

void json_set(struct arena *a, struct json *obj, struct str key, struct json *value) {
    if (!json_is(obj, JSON_OBJECT))
        return;
    if (!value)
        value = json_null(a);
    struct json_member *m = find(obj, key);
    if (m) {
        m->value = value;
        return;
    }
    if (obj->n == obj->cap)
        obj->members = grow(a, obj->members, obj->n, &obj->cap, sizeof(*obj->members));
    obj->members[obj->n++] = (struct json_member){str_dup(a, key), value};
}

void json_set_c(struct arena *a, struct json *obj, const char *key, struct json *value) {
    json_set(a, obj, str_c(key), value);
}

void json_set_str(struct arena *a, struct json *obj, const char *key, struct str s) {
    json_set(a, obj, str_c(key), json_str(a, s));
}

void json_set_cstr(struct arena *a, struct json *obj, const char *key, const char *s) {
    json_set(a, obj, str_c(key), json_cstr(a, s));
}

void json_set_int(struct arena *a, struct json *obj, const char *key, int64_t i) {
    json_set(a, obj, str_c(key), json_int(a, i));
}

void json_set_bool(struct arena *a, struct json *obj, const char *key, bool b) {
    json_set(a, obj, str_c(key), json_bool(a, b));
}

bool json_del(struct json *obj, struct str key) {
    struct json_member *m = find(obj, key);
    if (!m)
        return false;
    memmove(m, m + 1, (size_t)(obj->members + obj->n - (m + 1)) * sizeof(*m));
    obj->n--;
    return true;
}

bool json_del_c(struct json *obj, const char *key) {
    return json_del(obj, str_c(key));
}

void json_insert(struct arena *a, struct json *arr, size_t at, struct json *value) {
    if (!json_is(arr, JSON_ARRAY))
        return;
    if (arr->n == arr->cap)
        arr->items = grow(a, arr->items, arr->n, &arr->cap, sizeof(*arr->items));
    at = MIN(at, arr->n);
    memmove(&arr->items[at + 1], &arr->items[at], (arr->n - at) * sizeof(*arr->items));
    arr->items[at] = value ? value : json_null(a);
    arr->n++;
}

void json_append(struct arena *a, struct json *arr, struct json *value) {
    json_insert(a, arr, SIZE_MAX, value);
}

void json_append_cstr(struct arena *a, struct json *arr, const char *s) {
    json_append(a, arr, json_cstr(a, s));
}

void json_remove(struct json *arr, size_t at) {
    if (!json_is(arr, JSON_ARRAY) || at >= arr->n)
        return;
    arr->n--;
    memmove(&arr->items[at], &arr->items[at + 1], (arr->n - at) * sizeof(*arr->items));
}

/* The object at key of obj, made when absent or null; where another type stands, NULL or (force) a new object. */
static struct json *step_into(struct arena *a, struct json *obj, struct str key, bool force) {
    struct json *v = json_get(obj, key);
    if (json_is(v, JSON_OBJECT))
        return v;
    if (v && v->type != JSON_NULL && !force)
        return NULL;
    v = json_object(a);
    json_set(a, obj, key, v);
    return v;
}

struct json *json_ensure(struct arena *a, struct json *obj, const char *path) {
    struct str rest = str_c(path);
    while (rest.p && json_is(obj, JSON_OBJECT))
        obj = step_into(a, obj, str_split(&rest, '.'), false);
    return json_is(obj, JSON_OBJECT) ? obj : NULL;
}

void json_put(struct arena *a, struct json *obj, const char *path, struct json *value) {
    struct str rest = str_c(path);
    while (json_is(obj, JSON_OBJECT)) {
        struct str key = str_split(&rest, '.');
        if (!rest.p) {
            json_set(a, obj, key, value);
            return;
        }
        obj = step_into(a, obj, key, true);
    }
}

static int by_key(const void *a, const void *b) {
    const struct json_member *ma = a, *mb = b;
    return str_cmp(ma->key, mb->key);
}

void json_sort(struct json *obj) {
    if (json_is(obj, JSON_OBJECT) && obj->n > 1)
        qsort(obj->members, obj->n, sizeof(*obj->members), by_key);
}
