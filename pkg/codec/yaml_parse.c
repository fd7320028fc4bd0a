/* YAML to JSON trees: libyaml's events, read by recursive descent. Nothing of libyaml's document tree is built. */
#include <math.h>
#include <yaml.h>

#include "codec/base64.h"
#include "codec/json_private.h"
#include "codec/yaml.h"
#include "codec/yaml_private.h"

#define DEPTH_DEFAULT 128
#define NODES_DEFAULT 1000000
#define TAG_PREFIX "tag:yaml.org,2002:"

/* Where the parser is, for messages: one a nesting level, on the C stack. */
struct place {
    const struct place *up;
    struct str key; /* p == NULL: an array */
    size_t index;
};

struct parser {
    yaml_parser_t yaml;
    yaml_event_t event;
    bool has_event;
    struct arena *arena;
    struct str text;
    struct error *err;
    struct map anchors; /* name -> struct json */
    uint32_t nodes_left;
    size_t alias_bytes_left;
    int depth, depth_max;
    const struct place *place;
    void (*duplicate)(void *arg, struct str path);
    void *arg;
};

struct member {
    struct str key; /* first, for json_index */
    struct json *value;
    yaml_mark_t mark;
};

/* As VEC() makes them, with names for parameters. */
struct member_vec {
    struct member *items;
    size_t n, cap;
};
struct json_vec {
    struct json **items;
    size_t n, cap;
};

/* --- errors ------------------------------------------------------------------------------------------------------ */

static int fail_at(struct parser *ps, yaml_mark_t mark, int code, const char *what) {
    return error_set(ps->err, code, "yaml: line %zu, column %zu: %s", mark.line + 1, mark.column + 1, what);
}

static int fail(struct parser *ps, int code, const char *what) {
    return fail_at(ps, ps->event.start_mark, code, what);
}

static int no_room(struct parser *ps) {
    return fail(ps, -E2BIG, "the document is too large");
}

/* libyaml's own complaint. The reader's has a byte offset instead of a mark. */
static int fail_yaml(struct parser *ps) {
    const yaml_parser_t *y = &ps->yaml;
    if (y->error == YAML_MEMORY_ERROR)
        return error_set(ps->err, -ENOMEM, "yaml: out of memory");
    yaml_mark_t mark = y->problem_mark;
    if (y->error == YAML_READER_ERROR) {
        struct str before = str_n(ps->text.p, MIN(y->problem_offset, ps->text.n));
        mark = (yaml_mark_t){0};
        size_t start = 0;
        for (ptrdiff_t i; (i = str_index(before, '\n', start)) >= 0; start = (size_t)i + 1)
            mark.line++;
        mark.column = before.n - start;
    }
    return fail_at(ps, mark, -EINVAL, y->problem ? y->problem : "cannot be read");
}

static int next(struct parser *ps) {
    if (ps->has_event)
        yaml_event_delete(&ps->event);
    ps->has_event = yaml_parser_parse(&ps->yaml, &ps->event) == 1;
    return ps->has_event ? 0 : fail_yaml(ps);
}

static struct str event_str(const yaml_char_t *p, size_t n) {
    return str_n((const char *)p, n);
}

/* The path of key in the mapping the parser is in. */
static void key_path(const struct place *at, struct buf *out) {
    if (!at)
        return;
    key_path(at->up, out);
    if (!at->key.p) {
        buf_printf(out, "[%zu]", at->index);
        return;
    }
    if (out->n)
        buf_putc(out, '.');
    buf_put_str(out, at->key);
}

static int report_duplicate(struct parser *ps, const struct member *m) {
    cleanup_buf struct buf path = BUF_INIT;
    struct place here = {.up = ps->place, .key = m->key};
    key_path(&here, &path);
    if (ps->duplicate) {
        ps->duplicate(ps->arg, buf_str(&path));
        return 0;
    }
    return error_set(ps->err, -EINVAL, "yaml: line %zu, column %zu: duplicate field \"%.200s\"", m->mark.line + 1,
                     m->mark.column + 1, buf_str(&path).p);
}

/* --- values ------------------------------------------------------------------------------------------------------ */

static struct json *new_value(struct parser *ps, struct json v) {
    struct json *out = ps->nodes_left ? arena_try_alloc(ps->arena, sizeof(*out)) : NULL;
    if (!out) {
        fail(ps, -E2BIG, ps->nodes_left ? "the document is too large" : "the document has too many values");
        return NULL;
    }
    ps->nodes_left--;
    *out = v;
    return out;
}

static struct json *new_string(struct parser *ps, struct str s) {
    char *p = arena_try_alloc(ps->arena, s.n + 1);
    if (!p) {
        no_room(ps);
        return NULL;
    }
    if (s.n)
        memcpy(p, s.p, s.n);
    return new_value(ps, (struct json){.type = JSON_STRING, .s = {p, s.n}});
}

static bool take_bytes(size_t *left, size_t n) {
    if (n > *left)
        return false;
    *left -= n;
    return true;
}

/* An alias's own copy of what its anchor stands for, so that one can be edited without the other; strings, which are
 * never edited, are shared. */
static struct json *copy_alias(struct parser *ps, const struct json *v, int depth) {
    struct json *c = new_value(ps, *v);
    if (!c)
        return NULL;
    bool fits = depth <= ps->depth_max && take_bytes(&ps->alias_bytes_left, v->type == JSON_STRING ? v->s.n : 8);
    if (json_len(v) && fits) {
        bool object = v->type == JSON_OBJECT;
        c->cap = v->n;
        c->items = arena_try_alloc(ps->arena, v->n * (object ? sizeof(*v->members) : sizeof(*v->items)));
        fits = c->items != NULL;
        for (uint32_t i = 0; fits && i < v->n; i++) {
            struct json *child = copy_alias(ps, object ? v->members[i].value : v->items[i], depth + 1);
            if (!child)
                return NULL;
            if (object)
                c->members[i] = (struct json_member){v->members[i].key, child};
            else
                c->items[i] = child;
            fits = !object || take_bytes(&ps->alias_bytes_left, v->members[i].key.n);
        }
    }
    if (!fits) {
        fail(ps, -E2BIG, "aliases expand to too much");
        return NULL;
    }
    return c;
}

static struct json *parse_alias(struct parser *ps) {
    const char *name = (const char *)ps->event.data.alias.anchor;
    const struct json *target = map_get(&ps->anchors, str_c(name));
    if (target)
        return copy_alias(ps, target, ps->depth);
    error_set(ps->err, -EINVAL, "yaml: line %zu, column %zu: unknown anchor '%.100s' referenced",
              ps->event.start_mark.line + 1, ps->event.start_mark.column + 1, name);
    return NULL;
}

static void set_anchor(struct parser *ps, const char *name, struct json *v) {
    if (name && v)
        map_set(&ps->anchors, str_c(name), v);
}

/* --- scalars ----------------------------------------------------------------------------------------------------- */

static struct json *parse_binary(struct parser *ps, struct str text) {
    cleanup_buf struct buf bytes = BUF_INIT;
    if (base64_decode(&bytes, str_trim(text)) < 0 || !str_is_utf8(buf_str(&bytes))) {
        fail(ps, -EINVAL, "!!binary value is not base64 of UTF-8 text (give base64 without the tag)");
        return NULL;
    }
    return new_string(ps, buf_str(&bytes));
}

/* Whether a scalar that resolved to kind may carry this tag of the YAML schema. */
static bool tag_agrees(struct str tag, enum yaml_kind kind) {
    static const struct {
        const char *tag;
        enum yaml_kind kind, also;
    } tags[] = {
        {"null", YAML_NULL, YAML_NULL},
        {"bool", YAML_BOOL, YAML_BOOL},
        {"int", YAML_INT, YAML_INT},
        {"float", YAML_FLOAT, YAML_INT},
        {"timestamp", YAML_TIMESTAMP, YAML_TIMESTAMP},
    };
    for (size_t i = 0; i < ARRAY_LEN(tags); i++)
        if (str_eq_c(tag, tags[i].tag))
            return kind == tags[i].kind || kind == tags[i].also;
    return true;
}

static bool is_core_tag(struct str tag) {
    static const char *const names[] = {"null", "bool", "int", "float", "timestamp"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        if (str_eq_c(tag, names[i]))
            return true;
    return false;
}

static struct json *parse_scalar(struct parser *ps) {
    struct str text = event_str(ps->event.data.scalar.value, ps->event.data.scalar.length);
    struct str tag = str_c((const char *)ps->event.data.scalar.tag);
    struct str name = str_starts(tag, STR(TAG_PREFIX)) ? str_skip(tag, sizeof(TAG_PREFIX) - 1) : STR("");
    if (str_eq_c(name, "binary"))
        return parse_binary(ps, text);
    if (tag.n ? !is_core_tag(name) : !ps->event.data.scalar.plain_implicit)
        return new_string(ps, text);
    struct json v = {0};
    enum yaml_kind kind = yaml_resolve(text, &v);
    if (tag.n && !tag_agrees(name, kind)) {
        error_set(ps->err, -EINVAL, "yaml: line %zu, column %zu: cannot decode \"%.*s\" as a !!%.*s",
                  ps->event.start_mark.line + 1, ps->event.start_mark.column + 1, (int)MIN(text.n, (size_t)100), text.p,
                  STR_ARG(name));
        return NULL;
    }
    if (kind == YAML_FLOAT && !isfinite(v.d)) {
        fail(ps, -EINVAL, "not-a-number and infinity have no form in JSON");
        return NULL;
    }
    if (kind == YAML_STR || kind == YAML_TIMESTAMP || kind == YAML_MERGE)
        return new_string(ps, text);
    if (str_eq_c(name, "float") && v.type == JSON_INT)
        v = (struct json){.type = JSON_DOUBLE, .d = (double)v.i};
    return new_value(ps, v);
}

/* --- keys -------------------------------------------------------------------------------------------------------- */

static bool is_merge(const yaml_event_t *e) {
    if (e->type != YAML_SCALAR_EVENT || !str_eq_c(event_str(e->data.scalar.value, e->data.scalar.length), "<<"))
        return false;
    const char *tag = (const char *)e->data.scalar.tag;
    return tag ? strcmp(tag, TAG_PREFIX "merge") == 0 : e->data.scalar.plain_implicit;
}

static int key_text(struct parser *ps, const struct json *v, struct str *out) {
    cleanup_buf struct buf text = BUF_INIT;
    if (v->type == JSON_STRING) {
        *out = v->s;
        return 0;
    }
    if (v->type == JSON_NULL || v->type == JSON_ARRAY || v->type == JSON_OBJECT)
        return fail(ps, -EINVAL, "a key must be a string, number or boolean");
    json_write(&text, v);
    struct json *s = new_string(ps, buf_str(&text));
    if (!s)
        return -E2BIG;
    *out = s->s;
    return 0;
}

/* Reads the key whose event is current. */
static int parse_key(struct parser *ps, struct str *out) {
    struct json *v;
    if (ps->event.type == YAML_SCALAR_EVENT) {
        v = parse_scalar(ps);
        set_anchor(ps, (const char *)ps->event.data.scalar.anchor, v);
    } else if (ps->event.type == YAML_ALIAS_EVENT) {
        v = parse_alias(ps);
    } else {
        return fail(ps, -EINVAL, "a key must be a string, number or boolean");
    }
    return v ? key_text(ps, v, out) : -EINVAL;
}

/* --- collections ------------------------------------------------------------------------------------------------- */

static struct json *parse_node(struct parser *ps);

/* Keeps one member a key, with its last value. */
static int drop_duplicates(struct parser *ps, struct member_vec *v) {
    struct json_index ix;
    if (v->n < 2)
        return 0;
    if (!json_index_init(&ix, v->n))
        return no_room(ps);
    size_t keep = 0;
    int rc = 0;
    for (size_t i = 0; i < v->n && rc == 0; i++) {
        uint32_t *slot = json_index_find(&ix, v->items[i].key, v->items, sizeof(*v->items));
        if (*slot) {
            rc = report_duplicate(ps, &v->items[i]);
            v->items[*slot - 1].value = v->items[i].value;
            continue;
        }
        *slot = (uint32_t)keep + 1;
        v->items[keep++] = v->items[i];
    }
    v->n = keep;
    json_index_fini(&ix);
    return rc;
}

static struct json *make_object(struct parser *ps, const struct member_vec *v) {
    struct json *obj = new_value(ps, (struct json){.type = JSON_OBJECT});
    if (!obj || v->n == 0)
        return obj;
    obj->members = arena_try_alloc(ps->arena, v->n * sizeof(*obj->members));
    if (!obj->members) {
        no_room(ps);
        return NULL;
    }
    obj->n = obj->cap = (uint32_t)v->n;
    for (size_t i = 0; i < v->n; i++)
        obj->members[i] = (struct json_member){v->items[i].key, v->items[i].value};
    return obj;
}

/* Adds the members of `from` whose keys are not there yet. */
static void merge_one(struct member_vec *v, struct json_index *ix, const struct json *from) {
    for (uint32_t i = 0; i < from->n; i++) {
        uint32_t *slot = json_index_find(ix, from->members[i].key, v->items, sizeof(*v->items));
        if (*slot)
            continue;
        struct member m = {.key = from->members[i].key, .value = from->members[i].value};
        vec_push(v, m);
        *slot = (uint32_t)v->n;
    }
}

static int merge_all(struct parser *ps, struct member_vec *v, const struct json_vec *merges) {
    size_t most = v->n;
    for (size_t i = 0; i < merges->n; i++)
        most += merges->items[i]->n;
    struct json_index ix;
    if (!json_index_init(&ix, most))
        return no_room(ps);
    for (size_t i = 0; i < v->n; i++)
        *json_index_find(&ix, v->items[i].key, v->items, sizeof(*v->items)) = (uint32_t)i + 1;
    for (size_t i = 0; i < merges->n; i++)
        merge_one(v, &ix, merges->items[i]);
    json_index_fini(&ix);
    return 0;
}

/* The value of "<<": a mapping or a sequence of mappings. */
static int parse_merge(struct parser *ps, struct json_vec *merges) {
    yaml_mark_t mark = ps->event.start_mark;
    struct json *v = parse_node(ps);
    if (!v)
        return -EINVAL;
    if (v->type == JSON_OBJECT) {
        vec_push(merges, v);
        return 0;
    }
    bool fine = v->type == JSON_ARRAY;
    for (uint32_t i = 0; fine && i < v->n; i++) {
        fine = v->items[i]->type == JSON_OBJECT;
        if (fine)
            vec_push(merges, v->items[i]);
    }
    return fine ? 0 : fail_at(ps, mark, -EINVAL, "map merge requires map or sequence of maps as the value");
}

static int parse_members(struct parser *ps, struct member_vec *members, struct json_vec *merges) {
    struct place place = {.up = ps->place};
    for (int rc;;) {
        if ((rc = next(ps)) < 0)
            return rc;
        if (ps->event.type == YAML_MAPPING_END_EVENT)
            return 0;
        struct member m = {.mark = ps->event.start_mark};
        bool merge = is_merge(&ps->event);
        if (!merge && (rc = parse_key(ps, &m.key)) < 0)
            return rc;
        place.key = merge ? STR("<<") : m.key;
        ps->place = &place;
        if ((rc = next(ps)) == 0 && merge)
            rc = parse_merge(ps, merges);
        else if (rc == 0 && !(m.value = parse_node(ps)))
            rc = -EINVAL;
        ps->place = place.up;
        if (rc < 0)
            return rc;
        if (!merge)
            vec_push(members, m);
    }
}

static struct json *parse_mapping(struct parser *ps) {
    struct member_vec members = {0};
    struct json_vec merges = {0};
    struct json *obj = NULL;
    if (parse_members(ps, &members, &merges) == 0 && drop_duplicates(ps, &members) == 0 &&
        (merges.n == 0 || merge_all(ps, &members, &merges) == 0))
        obj = make_object(ps, &members);
    vec_fini(&members);
    vec_fini(&merges);
    return obj;
}

static int parse_items(struct parser *ps, struct json_vec *items) {
    struct place place = {.up = ps->place};
    for (int rc;; place.index++) {
        if ((rc = next(ps)) < 0)
            return rc;
        if (ps->event.type == YAML_SEQUENCE_END_EVENT)
            return 0;
        ps->place = &place;
        struct json *v = parse_node(ps);
        ps->place = place.up;
        if (!v)
            return -EINVAL;
        vec_push(items, v);
    }
}

static struct json *parse_sequence(struct parser *ps) {
    struct json_vec items = {0};
    struct json *arr = NULL;
    if (parse_items(ps, &items) == 0 && (arr = new_value(ps, (struct json){.type = JSON_ARRAY})) && items.n) {
        arr->items = arena_try_alloc(ps->arena, items.n * sizeof(*arr->items));
        if (arr->items) {
            memcpy(arr->items, items.items, items.n * sizeof(*arr->items));
            arr->n = arr->cap = (uint32_t)items.n;
        } else {
            no_room(ps);
            arr = NULL;
        }
    }
    vec_fini(&items);
    return arr;
}

static struct json *parse_collection(struct parser *ps) {
    bool mapping = ps->event.type == YAML_MAPPING_START_EVENT;
    const yaml_char_t *anchor = mapping ? ps->event.data.mapping_start.anchor : ps->event.data.sequence_start.anchor;
    if (ps->depth >= ps->depth_max) {
        fail(ps, -E2BIG, "the document is nested too deeply");
        return NULL;
    }
    cleanup_free char *name = anchor ? xstrdup((const char *)anchor) : NULL;
    ps->depth++;
    struct json *v = mapping ? parse_mapping(ps) : parse_sequence(ps);
    ps->depth--;
    set_anchor(ps, name, v);
    return v;
}

/* The value whose first event is current. */
static struct json *parse_node(struct parser *ps) {
    struct json *v;
    switch (ps->event.type) {
    case YAML_SCALAR_EVENT:
        v = parse_scalar(ps);
        set_anchor(ps, (const char *)ps->event.data.scalar.anchor, v);
        return v;
    case YAML_ALIAS_EVENT:
        return parse_alias(ps);
    case YAML_SEQUENCE_START_EVENT:
    case YAML_MAPPING_START_EVENT:
        return parse_collection(ps);
    default:
        fail(ps, -EINVAL, "a value was expected");
        return NULL;
    }
}

/* --- streams ----------------------------------------------------------------------------------------------------- */

/* The document whose start event is current, up to its end event. */
static struct json *parse_document(struct parser *ps) {
    struct json *doc = next(ps) == 0 ? parse_node(ps) : NULL;
    map_fini(&ps->anchors);
    ps->anchors = (struct map){0};
    return doc && next(ps) == 0 ? doc : NULL;
}

static int parse_stream(struct parser *ps, int (*each)(void *arg, struct json *doc), void *arg) {
    int rc = next(ps); /* the start of the stream */
    while (rc == 0 && (rc = next(ps)) == 0 && ps->event.type == YAML_DOCUMENT_START_EVENT) {
        struct json *doc = parse_document(ps);
        if (!doc)
            return ps->err->code;
        if (doc->type != JSON_NULL)
            rc = each(arg, doc);
    }
    return rc;
}

/* JSON is YAML, but its own parser is ten times as fast and takes what libyaml refuses (long keys, DEL). */
static struct json *try_json(struct arena *a, struct str text, const struct json_limits *limits) {
    struct str start = str_trim(str_n(text.p, MIN(text.n, (size_t)64)));
    return start.n && start.p[0] == '{' ? json_parse(a, text, limits, NULL) : NULL;
}

int yaml_parse_all(struct arena *a, struct str text, const struct json_limits *limits,
                   int (*each)(void *arg, struct json *doc), void *arg, struct error *err) {
    static const struct json_limits defaults;
    struct error own = {0};
    if (!limits)
        limits = &defaults;
    struct json *doc = try_json(a, text, limits);
    if (doc)
        return each(arg, doc);
    struct parser ps = {
        .arena = a,
        .text = text,
        .err = &own,
        .nodes_left = limits->nodes ? limits->nodes : NODES_DEFAULT,
        .alias_bytes_left = YAML_ALIAS_BYTES_MAX,
        .depth_max = MIN(limits->depth > 0 ? limits->depth : DEPTH_DEFAULT, JSON_DEPTH_MAX),
        .duplicate = limits->duplicate,
        .arg = limits->arg,
    };
    if (!yaml_parser_initialize(&ps.yaml))
        return error_set(err, -ENOMEM, "yaml: out of memory");
    yaml_parser_set_input_string(&ps.yaml, (const unsigned char *)(text.p ? text.p : ""), text.n);
    int rc = parse_stream(&ps, each, arg);
    if (ps.has_event)
        yaml_event_delete(&ps.event);
    yaml_parser_delete(&ps.yaml);
    map_fini(&ps.anchors);
    if (own.code)
        error_set(err, own.code, "%s", own.msg);
    return rc;
}

static int keep_first(void *arg, struct json *doc) {
    struct json **only = arg;
    if (*only)
        return -EEXIST;
    *only = doc;
    return 0;
}

struct json *yaml_parse(struct arena *a, struct str text, const struct json_limits *limits, struct error *err) {
    struct json *doc = NULL;
    int rc = yaml_parse_all(a, text, limits, keep_first, &doc, err);
    if (rc == -EEXIST)
        error_set(err, -EINVAL, "yaml: one document was expected, there are several");
    if (rc != 0)
        return NULL;
    return doc ? doc : json_null(a);
}
