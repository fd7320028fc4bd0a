#include "codec/patch.h"

#include "codec/json_private.h"

#define WORK_MAX 4000000 /* values that depth and size checks of one patch may visit */

/* --- pointers ---------------------------------------------------------------------------------------------------- */

struct pointer {
    struct str text;
    size_t n;
    struct str raw[JSON_DEPTH_MAX]; /* tokens, escapes and all */
};

/* Whether every '~' begins an escape. */
static bool escapes_fine(struct str s) {
    for (size_t i = 0; i < s.n; i++)
        if (s.p[i] == '~' && (i + 1 == s.n || (s.p[i + 1] != '0' && s.p[i + 1] != '1')))
            return false;
    return true;
}

static bool parse_pointer(struct str text, struct pointer *out) {
    out->text = text;
    out->n = 0;
    if (text.n == 0)
        return true;
    if (text.p[0] != '/' || !escapes_fine(text))
        return false;
    for (struct str rest = str_skip(text, 1); rest.p;) {
        if (out->n == JSON_DEPTH_MAX)
            return false;
        out->raw[out->n++] = str_split(&rest, '/');
    }
    return true;
}

static char unescape(const char *tilde) {
    return tilde[1] == '1' ? '/' : '~';
}

static bool token_equals(struct str raw, struct str key) {
    size_t k = 0;
    for (size_t i = 0; i < raw.n; i++, k++) {
        char c = raw.p[i];
        if (c == '~')
            c = unescape(&raw.p[i++]);
        if (k == key.n || key.p[k] != c)
            return false;
    }
    return k == key.n;
}

static struct str token_text(struct arena *a, struct str raw) {
    if (str_index(raw, '~', 0) < 0)
        return raw;
    char *p = arena_strndup(a, raw.p, raw.n);
    size_t n = 0;
    for (size_t i = 0; i < raw.n; i++)
        p[n++] = raw.p[i] == '~' ? unescape(&raw.p[i++]) : raw.p[i];
    p[n] = 0;
    return str_n(p, n);
}

/* An array index: digits without leading zeros. */
static bool token_index(struct str raw, size_t *out) {
    uint64_t v;
    if (raw.n == 0 || (raw.p[0] == '0' && raw.n > 1) || !str_to_u64(raw, &v) || v > UINT32_MAX)
        return false;
    *out = (size_t)v;
    return true;
}

static struct json_member *member(const struct json *obj, struct str raw) {
    bool escaped = str_index(raw, '~', 0) >= 0;
    for (uint32_t i = 0; i < obj->n; i++)
        if (escaped ? token_equals(raw, obj->members[i].key) : str_eq(raw, obj->members[i].key))
            return &obj->members[i];
    return NULL;
}

/* The place in v that holds the child named by token, or NULL. */
static struct json **slot(const struct json *v, struct str raw) {
    size_t i;
    if (json_is(v, JSON_ARRAY))
        return token_index(raw, &i) && i < v->n ? &v->items[i] : NULL;
    struct json_member *m = json_is(v, JSON_OBJECT) ? member(v, raw) : NULL;
    return m ? &m->value : NULL;
}

/* The value the first n tokens lead to. */
static struct json *walk(struct json *v, const struct pointer *p, size_t n) {
    for (size_t i = 0; i < n && v; i++) {
        struct json **at = slot(v, p->raw[i]);
        v = at ? *at : NULL;
    }
    return v;
}

struct json *json_pointer(const struct json *v, struct str pointer) {
    struct pointer p;
    return v && parse_pointer(pointer, &p) ? walk((struct json *)(uintptr_t)v, &p, p.n) : NULL;
}

/* --- JSON Patch -------------------------------------------------------------------------------------------------- */

struct patch {
    struct arena *a;
    struct json *root;
    size_t work, copied;
    struct error *err;
};

struct op {
    const char *name;
    size_t index; /* in the patch */
    struct pointer path, from;
    struct json *value; /* from the patch, not copied */
};

static int fail(const struct patch *px, const struct op *op, int code, const char *what) {
    return error_set(px->err, code, "operation %zu (%s %.*s): %s", op->index, op->name, (int)MIN(op->path.text.n, 200u),
                     op->path.text.p, what);
}

struct extent {
    size_t nodes, bytes;
    int depth;
};

static void measure(const struct json *v, int depth, struct extent *e) {
    e->nodes++;
    e->bytes += 8 + (v->type == JSON_STRING ? v->s.n : 0);
    e->depth = MAX(e->depth, depth);
    for (uint32_t i = 0; i < json_len(v); i++) {
        if (v->type == JSON_OBJECT)
            e->bytes += v->members[i].key.n;
        measure(v->type == JSON_OBJECT ? v->members[i].value : v->items[i], depth + 1, e);
    }
}

/* Whether v may go to op->path: the tree does not become too deep, nor was too much measured. */
static int check_extent(struct patch *px, const struct op *op, const struct json *v, struct extent *e) {
    *e = (struct extent){0};
    measure(v, 1, e);
    px->work += e->nodes;
    if (op->path.n + (size_t)e->depth > JSON_DEPTH_MAX)
        return fail(px, op, -E2BIG, "the result is nested too deeply");
    return px->work > WORK_MAX ? fail(px, op, -E2BIG, "the patch does too much") : 0;
}

static struct json *parent_of(struct patch *px, const struct pointer *p) {
    return walk(px->root, p, p->n - 1);
}

static int insert(struct patch *px, const struct op *op, struct json *value) {
    if (op->path.n == 0) {
        px->root = value;
        return 0;
    }
    struct json *parent = parent_of(px, &op->path);
    struct str last = op->path.raw[op->path.n - 1];
    size_t i;
    if (json_is(parent, JSON_OBJECT)) {
        json_set(px->a, parent, token_text(px->a, last), value);
        return 0;
    }
    if (!json_is(parent, JSON_ARRAY))
        return fail(px, op, -ENOENT, "the path does not exist");
    if (str_eq_c(last, "-")) {
        json_append(px->a, parent, value);
        return 0;
    }
    if (!token_index(last, &i))
        return fail(px, op, -EINVAL, "the path has no valid array index");
    if (i > parent->n)
        return fail(px, op, -ENOENT, "the array index is out of bounds");
    json_insert(px->a, parent, i, value);
    return 0;
}

static int take_out(struct patch *px, const struct op *op, const struct pointer *at, struct json **out) {
    if (at->n == 0)
        return fail(px, op, -EINVAL, "the whole document cannot be removed");
    struct json *parent = parent_of(px, at);
    struct json **where = slot(parent, at->raw[at->n - 1]);
    if (!where)
        return fail(px, op, -ENOENT, "the path does not exist");
    if (out)
        *out = *where;
    if (json_is(parent, JSON_ARRAY))
        json_remove(parent, (size_t)(where - parent->items));
    else
        json_del(parent, CONTAINER_OF(where, struct json_member, value)->key);
    return 0;
}

static int op_add(struct patch *px, const struct op *op) {
    struct extent e;
    int rc = check_extent(px, op, op->value, &e);
    return rc ? rc : insert(px, op, json_copy(px->a, op->value));
}

static int op_remove(struct patch *px, const struct op *op) {
    return take_out(px, op, &op->path, NULL);
}

static int op_replace(struct patch *px, const struct op *op) {
    struct extent e;
    int rc = check_extent(px, op, op->value, &e);
    if (rc)
        return rc;
    if (op->path.n == 0) {
        px->root = json_copy(px->a, op->value);
        return 0;
    }
    struct json **where = slot(parent_of(px, &op->path), op->path.raw[op->path.n - 1]);
    if (!where)
        return fail(px, op, -ENOENT, "the path does not exist");
    *where = json_copy(px->a, op->value);
    return 0;
}

static bool is_inside(const struct pointer *p, const struct pointer *outer) {
    return p->n > outer->n && str_starts(p->text, outer->text) && p->text.p[outer->text.n] == '/';
}

static int op_move(struct patch *px, const struct op *op) {
    struct json *v = walk(px->root, &op->from, op->from.n);
    struct extent e;
    int rc;
    if (!v)
        return fail(px, op, -ENOENT, "the path to move from does not exist");
    if (str_eq(op->path.text, op->from.text))
        return 0;
    if (is_inside(&op->path, &op->from))
        return fail(px, op, -EINVAL, "a value cannot be moved into itself");
    if (op->path.n > op->from.n && (rc = check_extent(px, op, v, &e)) < 0)
        return rc;
    rc = take_out(px, op, &op->from, &v);
    return rc ? rc : insert(px, op, v);
}

static int op_copy(struct patch *px, const struct op *op) {
    const struct json *v = walk(px->root, &op->from, op->from.n);
    struct extent e;
    if (!v)
        return fail(px, op, -ENOENT, "the path to copy from does not exist");
    int rc = check_extent(px, op, v, &e);
    if (rc)
        return rc;
    px->copied += e.bytes;
    if (px->copied > JSON_PATCH_COPY_BYTES_MAX)
        return fail(px, op, -E2BIG, "the patch copies too much");
    return insert(px, op, json_copy(px->a, v));
}

static int op_test(struct patch *px, const struct op *op) {
    const struct json *v = walk(px->root, &op->path, op->path.n);
    if (v ? json_equal(v, op->value) : op->value->type == JSON_NULL)
        return 0;
    return fail(px, op, -ECANCELED, "the test failed");
}

static const struct op_kind {
    const char *name;
    int (*apply)(struct patch *px, const struct op *op);
    bool has_value, has_from;
} kinds[] = {
    {"add", op_add, true, false},   {"remove", op_remove, false, false}, {"replace", op_replace, true, false},
    {"move", op_move, false, true}, {"copy", op_copy, false, true},      {"test", op_test, true, false},
};

static const struct op_kind *find_kind(const struct json *op) {
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++)
        if (str_eq_c(json_as_str(json_get_c(op, "op")), kinds[i].name))
            return &kinds[i];
    return NULL;
}

static int take_pointer(const struct patch *px, const struct json *from, const char *name, size_t index,
                        struct pointer *out) {
    const struct json *text = json_get_c(from, name);
    if (!json_is(text, JSON_STRING) || !parse_pointer(text->s, out))
        return error_set(px->err, -EINVAL, "operation %zu: \"%s\" is not a JSON pointer", index, name);
    return 0;
}

static int apply(struct patch *px, const struct json *from, size_t index, struct op *op) {
    const struct op_kind *kind = find_kind(from);
    if (!kind)
        return error_set(px->err, -EINVAL,
                         "operation %zu: \"op\" must be one of add, remove, replace, move, copy and test", index);
    op->name = kind->name;
    op->index = index;
    op->value = json_get_c(from, "value");
    int rc = take_pointer(px, from, "path", index, &op->path);
    if (rc == 0 && kind->has_from)
        rc = take_pointer(px, from, "from", index, &op->from);
    if (rc)
        return rc;
    if (kind->has_value && !op->value)
        return fail(px, op, -EINVAL, "\"value\" is missing");
    return kind->apply(px, op);
}

struct json *json_patch(struct arena *a, const struct json *doc, const struct json *patch, struct error *err) {
    if (!doc || !json_is(patch, JSON_ARRAY)) {
        error_set(err, -EINVAL, "a JSON patch must be an array of operations");
        return NULL;
    }
    if (patch->n > JSON_PATCH_OPS_MAX) {
        error_set(err, -E2BIG, "the JSON patch has %u operations, %d are allowed", patch->n, JSON_PATCH_OPS_MAX);
        return NULL;
    }
    struct patch px = {.a = a, .root = json_copy(a, doc), .err = err};
    cleanup_free struct op *op = XNEW(struct op);
    for (uint32_t i = 0; i < patch->n; i++)
        if (apply(&px, patch->items[i], i, op) < 0)
            return NULL;
    return px.root;
}

/* --- JSON Merge Patch -------------------------------------------------------------------------------------------- */

/* Room for n members, of which n are filled one after another. */
static struct json *object_of(struct arena *a, size_t n) {
    struct json *obj = json_object(a);
    REQUIRE(n <= UINT32_MAX);
    obj->members = n ? arena_alloc(a, n * sizeof(*obj->members)) : NULL;
    obj->cap = (uint32_t)n;
    return obj;
}

static void add_member(struct arena *a, struct json *obj, struct str key, struct json *value) {
    obj->members[obj->n++] = (struct json_member){str_dup(a, key), value};
}

struct json *json_merge_patch(struct arena *a, const struct json *doc, const struct json *patch) {
    if (!json_is(patch, JSON_OBJECT))
        return json_copy(a, patch);
    size_t had = json_is(doc, JSON_OBJECT) ? doc->n : 0;
    struct json *out = object_of(a, had + patch->n);
    struct json_lookup in_doc, in_patch;
    json_lookup_init(&in_doc, doc);
    json_lookup_init(&in_patch, patch);
    for (size_t i = 0; i < had; i++) {
        const struct json_member *was = &doc->members[i], *now = json_lookup_find(&in_patch, was->key);
        if (!now)
            add_member(a, out, was->key, json_copy(a, was->value));
        else if (now->value->type != JSON_NULL)
            add_member(a, out, was->key, json_merge_patch(a, was->value, now->value));
    }
    for (uint32_t i = 0; i < patch->n; i++) {
        const struct json_member *now = &patch->members[i];
        if (now->value->type != JSON_NULL && !json_lookup_find(&in_doc, now->key))
            add_member(a, out, now->key, json_merge_patch(a, NULL, now->value));
    }
    json_lookup_fini(&in_doc);
    json_lookup_fini(&in_patch);
    return out;
}
