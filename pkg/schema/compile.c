/*
 * The compiler of the schema's text files; files/00-format.schema explains the format. Three passes: count the lines
 * that make fields and types, read them into arrays of just that size (types named in a field stay text), then resolve
 * those names, flatten embedded structs and make the tables. Strings of the result point into the text.
 */
#include "schema/compile.h"

#include <pthread.h>
#include <stdlib.h>

#define TEXT_MAX MiB(8)
#define BYTES_PER_BYTE 4 /* of a compiled schema for each byte of text, a little more than it takes */
#define TYPES_MAX 60000

static const struct {
    struct str name;
    enum schema_kind kind;
} scalar_names[SCHEMA_SCALARS] = {
    {STR_INIT("string"), SCHEMA_STRING},
    {STR_INIT("int32"), SCHEMA_INT32},
    {STR_INIT("boolean"), SCHEMA_BOOL},
    {STR_INIT("int64"), SCHEMA_INT64},
    {STR_INIT("Time"), SCHEMA_TIME},
    {STR_INIT("Quantity"), SCHEMA_QUANTITY},
    {STR_INIT("IntOrString"), SCHEMA_INT_OR_STRING},
    {STR_INIT("MicroTime"), SCHEMA_MICRO_TIME},
    {STR_INIT("Duration"), SCHEMA_DURATION},
    {STR_INIT("bytes"), SCHEMA_BYTES},
    {STR_INIT("double"), SCHEMA_DOUBLE},
    {STR_INIT("any"), SCHEMA_ANY},
    {STR_INIT("RawExtension"), SCHEMA_ANY},
    {STR_INIT("FieldsV1"), SCHEMA_ANY},
    {STR_INIT("JSON"), SCHEMA_ANY},
    {STR_INIT("JSONSchemaPropsOrArray"), SCHEMA_ANY},
    {STR_INIT("JSONSchemaPropsOrBool"), SCHEMA_ANY},
    {STR_INIT("JSONSchemaPropsOrStringArray"), SCHEMA_ANY},
};

/* --- words --- */

struct str schema_word(struct str *rest) {
    size_t i = 0;
    while (i < rest->n && rest->p[i] == ' ')
        i++;
    size_t start = i;
    while (i < rest->n && rest->p[i] != ' ')
        i++;
    struct str w = {rest->p + start, i - start};
    *rest = str_skip(*rest, i);
    return w;
}

/* The words of a line into the arena. */
static const struct str *words(struct arena *a, struct str rest, char sep, size_t *n) {
    size_t count = 0;
    for (struct str r = str_trim(rest); r.n > 0; r = str_trim(r), count++)
        (void)(sep == ' ' ? schema_word(&r) : str_split(&r, sep));
    struct str *out = count ? arena_alloc(a, count * sizeof(*out)) : NULL;
    rest = str_trim(rest);
    for (size_t i = 0; i < count; i++, rest = str_trim(rest))
        out[i] = sep == ' ' ? schema_word(&rest) : str_split(&rest, sep);
    *n = count;
    return out;
}

static bool after(struct str s, const char *prefix, struct str *value) {
    struct str p = str_c(prefix);
    if (!str_starts(s, p))
        return false;
    *value = str_skip(s, p.n);
    return true;
}

static int bad(const struct compiler *c, struct error *err, const char *what, struct str s) {
    return error_set(err, -EINVAL, "schema line %zu: %s \"%.*s\"", c->line, what, STR_ARG(s));
}

/* --- reading lines --- */

static int read_version(struct compiler *c, struct str rest, struct error *err) {
    struct schema *s = c->s;
    struct schema_version *v = &s->versions[s->versions_n];
    struct str w = schema_word(&rest), value, second;
    *v = (struct schema_version){.id = w, .openapi = STR(""), .proto = STR("")};
    if (!str_cut(w, '/', &v->group, &v->version))
        return bad(c, err, "no GROUP/VERSION:", w);
    if (str_eq(v->group, STR("core")))
        v->group = STR("");
    while ((w = schema_word(&rest)).n > 0) {
        if (after(w, "openapi=", &value))
            v->openapi = value;
        else if (after(w, "proto=", &value))
            v->proto = value;
        else if (!after(w, "priority=", &value) || !str_cut(value, ',', &value, &second) ||
                 !str_to_i64(value, &v->group_priority) || !str_to_i64(second, &v->priority))
            return bad(c, err, "unknown word of a version", w);
    }
    s->versions_n++;
    return 0;
}

static int read_resource(struct compiler *c, struct str rest, struct error *err) {
    const struct schema_version *v = &c->s->versions[c->s->versions_n - 1];
    struct schema_resource *r = &c->s->resources[c->resources_n];
    struct str w;
    *r = (struct schema_resource){.group = v->group, .version = v->version, .served = true};
    r->plural = schema_word(&rest);
    r->kind = schema_word(&rest);
    if (r->kind.n == 0)
        return bad(c, err, "a resource without a kind:", r->plural);
    while ((w = schema_word(&rest)).n > 0) {
        if (str_eq(w, STR("namespaced")))
            r->namespaced = true;
        else if (str_eq(w, STR("optional")))
            r->served = false;
        else
            return bad(c, err, "unknown word of a resource", w);
    }
    r->singular = str_lower(c->s->arena, r->kind);
    r->list_kind = str_printf(c->s->arena, "%.*sList", STR_ARG(r->kind));
    r->deprecation = r->storage_hash = r->key = STR("");
    c->storages[c->resources_n++] = STR("");
    c->s->versions[c->s->versions_n - 1].resources_n++;
    c->resource = r;
    return 0;
}

/* Hands the lists gathered for the resource above over to it. */
static void end_resource(struct compiler *c) {
    struct schema_resource *r = c->resource;
    if (!r)
        return;
#define HAND_OVER(vec, member)                                                 \
    if ((vec).n > 0) {                                                         \
        void *copy = arena_alloc(c->s->arena, (vec).n * sizeof(*(vec).items)); \
        memcpy(copy, (vec).items, (vec).n * sizeof(*(vec).items));             \
        r->member = copy;                                                      \
        r->member##_n = (vec).n;                                               \
        (vec).n = 0;                                                           \
    }
    HAND_OVER(c->subs, subresources)
    HAND_OVER(c->columns, columns)
    HAND_OVER(c->defaults, defaults)
#undef HAND_OVER
    c->resource = NULL;
}

static const struct {
    struct str name;
    unsigned verbs;
} verb_names[] = {
    {STR_INIT("get"), VERB_GET},
    {STR_INIT("list"), VERB_LIST},
    {STR_INIT("watch"), VERB_WATCH},
    {STR_INIT("create"), VERB_CREATE},
    {STR_INIT("update"), VERB_UPDATE},
    {STR_INIT("patch"), VERB_PATCH},
    {STR_INIT("delete"), VERB_DELETE},
    {STR_INIT("deletecollection"), VERB_DELETECOLLECTION},
    {STR_INIT("all"), 255},
};

static int read_verbs(struct compiler *c, struct str rest, char sep, unsigned *out, struct error *err) {
    *out = 0;
    while (rest.n > 0) {
        struct str w = sep == ' ' ? schema_word(&rest) : str_split(&rest, sep);
        size_t i = 0;
        while (i < ARRAY_LEN(verb_names) && !str_eq(verb_names[i].name, w))
            i++;
        if (i == ARRAY_LEN(verb_names))
            return bad(c, err, "unknown verb", w);
        *out |= verb_names[i].verbs;
    }
    return 0;
}

static const struct schema_condition *condition(struct compiler *c, struct str text) {
    struct schema_condition *cond = ARENA_NEW(c->s->arena, struct schema_condition);
    if (!str_cut(text, ':', &cond->field, &cond->values))
        return NULL;
    return cond;
}

static int read_sub(struct compiler *c, struct str rest, struct error *err) {
    struct schema_subresource sub = {.name = schema_word(&rest)};
    struct str verbs = schema_word(&rest), body = schema_word(&rest), id = STR("");
    int rc = read_verbs(c, verbs, ',', &sub.verbs, err);
    if (rc < 0)
        return rc;
    ptrdiff_t dot = str_rindex(body, '.');
    sub.group = c->resource->group;
    sub.version = c->resource->version;
    sub.kind = body;
    if (dot >= 0) {
        id = str_n(body.p, (size_t)dot);
        sub.kind = str_skip(body, (size_t)dot + 1);
        if (!str_cut(id, '/', &sub.group, &sub.version))
            return bad(c, err, "no type:", body);
    }
    vec_push(&c->subs, sub);
    return 0;
}

static int read_column(struct compiler *c, struct str rest, struct error *err) {
    struct schema_column col = {0};
    struct str *parts[] = {&col.name, &col.type, &col.format, NULL, &col.rule};
    struct str whole = rest;
    for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
        if (!rest.p)
            return bad(c, err, "a column needs five parts:", whole);
        struct str part = str_trim(str_split(&rest, '|'));
        int64_t priority;
        if (parts[i])
            *parts[i] = part;
        else if (str_to_i64(part, &priority))
            col.priority = (int)priority;
        else
            return bad(c, err, "no priority:", part);
    }
    vec_push(&c->columns, col);
    return 0;
}

static int read_default(struct compiler *c, struct str rest, struct error *err) {
    struct schema_default d = {.path = schema_word(&rest)};
    struct str w = schema_word(&rest), value;
    if (after(w, "if=", &value)) {
        d.condition = condition(c, value);
        w = schema_word(&rest);
        if (!d.condition)
            return bad(c, err, "no condition:", value);
    }
    d.text = str_trim(rest);
    if (!str_eq(w, STR("=")) || d.text.n == 0)
        return bad(c, err, "no default:", rest);
    vec_push(&c->defaults, d);
    return 0;
}

static int read_resource_line(struct compiler *c, struct str key, struct str rest, struct error *err) {
    struct schema_resource *r = c->resource;
    struct arena *a = c->s->arena;
    struct str value = str_trim(rest);
    if (str_eq(key, STR("column")))
        return read_column(c, rest, err);
    if (str_eq(key, STR("sub")))
        return read_sub(c, rest, err);
    if (str_eq(key, STR("verbs")))
        return read_verbs(c, value, ' ', &r->verbs, err);
    if (str_eq(key, STR("default")))
        return read_default(c, rest, err);
    if (str_eq(key, STR("short")))
        r->short_names = words(a, rest, ' ', &r->short_names_n);
    else if (str_eq(key, STR("categories")))
        r->categories = words(a, rest, ' ', &r->categories_n);
    else if (str_eq(key, STR("fields")))
        r->field_selectors = words(a, rest, ' ', &r->field_selectors_n);
    else if (str_eq(key, STR("hash")))
        r->storage_hash = value;
    else if (str_eq(key, STR("generation")))
        r->tracks_generation = true;
    else if (str_eq(key, STR("storage")))
        c->storages[c->resources_n - 1] = value;
    else if (str_eq(key, STR("deprecated"))) {
        r->deprecated = true;
        r->deprecation = value;
    } else
        return bad(c, err, "unknown line of a resource:", key);
    return 0;
}

static struct ctype *type_add(struct compiler *c, enum schema_kind kind, struct str name) {
    struct schema *s = c->s;
    struct ctype *t = ARENA_NEW(s->arena, struct ctype);
    const struct schema_version *v = &s->versions[s->versions_n - 1];
    t->version = s->versions_n - 1;
    t->pub.kind = kind;
    t->pub.name = str_printf(s->arena, "%.*s.%.*s", STR_ARG(v->id), STR_ARG(name));
    t->pub.description = "";
    c->types[c->types_n++] = t;
    c->description = &t->pub.description;
    return t;
}

/* Members that nearly every object has and no file describes. */
static const char *usual_description(struct str name) {
    static const struct {
        struct str name;
        const char *text;
    } usual[] = {
        {STR_INIT("kind"), "Its kind, such as Pod."},
        {STR_INIT("apiVersion"), "Group and version of its kind, such as apps/v1."},
        {STR_INIT("metadata"), "Name, namespace, labels and other standard members."},
        {STR_INIT("spec"), "What is wanted."},
        {STR_INIT("status"), "What is observed; written by the system."},
    };
    for (size_t i = 0; i < ARRAY_LEN(usual); i++)
        if (str_eq(usual[i].name, name))
            return usual[i].text;
    return "";
}

static int read_struct(struct compiler *c, struct str rest, bool object, struct error *err) {
    struct ctype *t = type_add(c, SCHEMA_STRUCT, schema_word(&rest));
    struct str w = schema_word(&rest);
    if (w.n > 0 && !str_eq(w, STR("atomic")))
        return bad(c, err, "unknown word of a struct", w);
    t->pub.atomic = w.n > 0;
    t->pub.fields = &c->fields[c->fields_n];
    c->type = t;
    c->is_object = object;
    if (object) {
        static const char string_type[] = "string";
        const struct str names[] = {STR_INIT("kind"), STR_INIT("apiVersion")};
        for (size_t i = 0; i < 2; i++) {
            c->exprs[c->fields_n] = string_type;
            c->fields[c->fields_n++] = (struct schema_field){.name = names[i],
                                                             .owner = &t->pub,
                                                             .omit_empty = true,
                                                             .patch_key = STR(""),
                                                             .default_text = STR(""),
                                                             .description = usual_description(names[i])};
        }
        t->pub.fields_n = 2;
    }
    return 0;
}

static int read_alias(struct compiler *c, struct str rest, struct error *err) {
    struct ctype *t = type_add(c, SCHEMA_ANY, schema_word(&rest));
    t->target = schema_word(&rest);
    struct str w = schema_word(&rest);
    if (t->target.n == 0 || (w.n > 0 && !str_eq(w, STR("message"))))
        return bad(c, err, "no alias:", t->pub.name);
    t->pub.pb_items = w.n > 0;
    return 0;
}

static void read_enum(struct compiler *c, struct str rest) {
    struct ctype *t = type_add(c, SCHEMA_STRING, schema_word(&rest));
    t->pub.enum_values = words(c->s->arena, rest, ' ', &t->pub.enum_n);
}

static int read_flag(struct compiler *c, struct schema_field *f, struct str w, struct error *err) {
    struct str value;
    if (str_eq(w, STR("required")))
        f->required = true, f->omit_empty = false;
    else if (str_eq(w, STR("always")))
        f->omit_empty = false;
    else if (str_eq(w, STR("omitempty")))
        f->omit_empty = true;
    else if (str_eq(w, STR("omitzero")))
        f->omit_zero = true;
    else if (str_eq(w, STR("set")))
        f->list_type = SCHEMA_LIST_SET;
    else if (after(w, "map=", &value)) {
        f->list_type = SCHEMA_LIST_MAP;
        f->list_keys = words(c->s->arena, value, ',', &f->list_keys_n);
    } else if (str_eq(w, STR("merge")))
        f->patch_merge = true;
    else if (after(w, "merge=", &value))
        f->patch_merge = true, f->patch_key = value;
    else if (after(w, "mergekey=", &value))
        f->patch_key = value;
    else if (str_eq(w, STR("retainkeys")))
        f->patch_replace_keys = true;
    else if (after(w, "if=", &value)) {
        f->default_if = condition(c, value);
        if (!f->default_if)
            return bad(c, err, "no condition:", value);
    } else if (!str_eq(w, STR("atomic")) && !str_eq(w, STR("granular"))) /* those two are seen when types are known */
        return bad(c, err, "unknown flag", w);
    return 0;
}

static int read_field(struct compiler *c, struct str name, struct str rest, struct error *err) {
    struct schema_field *f = &c->fields[c->fields_n];
    struct str number = schema_word(&rest), expr = schema_word(&rest), value;
    uint64_t pb;
    *f = (struct schema_field){.name = name,
                               .owner = &c->type->pub,
                               .omit_empty = true,
                               .patch_key = STR(""),
                               .default_text = STR(""),
                               .description = c->is_object ? usual_description(name) : ""};
    if (!str_to_u64(number, &pb) || pb > UINT16_MAX || expr.n == 0)
        return bad(c, err, "a field needs a number and a type:", name);
    f->pb = (uint16_t)pb;
    if (expr.p[0] == '*')
        f->pointer = true;
    if (str_eq(name, STR("embed"))) {
        f->name = STR("");
        c->type->has_embeds = true;
    }
    c->exprs[c->fields_n] = expr.p;
    while (rest.n > 0) {
        struct str before = rest, w = schema_word(&rest);
        if (after(w, "default=", &value)) {
            f->default_text = str_trim(str_n(value.p, (size_t)(before.p + before.n - value.p)));
            c->type->pub.has_defaults = true;
            break;
        }
        if (w.n == 0)
            break;
        int rc = read_flag(c, f, w, err);
        if (rc < 0)
            return rc;
    }
    c->description = &f->description;
    c->type->pub.fields_n++;
    c->fields_n++;
    return 0;
}

static int read_head(struct compiler *c, struct str line, struct error *err) {
    struct str rest = line, key = schema_word(&rest);
    end_resource(c);
    c->type = NULL;
    c->description = NULL;
    if (str_eq(key, STR("version")))
        return read_version(c, rest, err);
    if (c->s->versions_n == 0)
        return bad(c, err, "no version before", line);
    if (str_eq(key, STR("struct")) || str_eq(key, STR("object")))
        return read_struct(c, rest, key.p[0] == 'o', err);
    if (str_eq(key, STR("alias")))
        return read_alias(c, rest, err);
    if (str_eq(key, STR("resource")))
        return read_resource(c, rest, err);
    if (!str_eq(key, STR("enum")))
        return bad(c, err, "unknown line", line);
    read_enum(c, rest);
    return 0;
}

static int read_line(struct compiler *c, struct str line, struct error *err) {
    if (line.p[0] != ' ')
        return read_head(c, line, err);
    struct str rest = line, key = schema_word(&rest);
    if (str_eq(key, STR("\""))) {
        struct str d = str_trim(rest);
        if (c->description)
            *c->description = arena_strndup(c->s->arena, d.p, d.n);
        return 0;
    }
    if (key.n == 0)
        return 0;
    if (c->type)
        return read_field(c, key, rest, err);
    if (c->resource)
        return read_resource_line(c, key, rest, err);
    return bad(c, err, "belongs to nothing:", line);
}

/* --- sizes, then the first reading --- */

static bool is_description(struct str line) {
    return str_eq(schema_word(&line), STR("\""));
}

static void count(struct compiler *c) {
    size_t fields = 0, types = 0, resources = 0, versions = 0;
    for (struct str rest = c->text; rest.p;) {
        struct str line = str_split(&rest, '\n');
        if (line.n == 0)
            continue;
        fields += line.p[0] == ' ' ? !is_description(line) : line.p[0] == 'o' ? 2 : 0;
        types += strchr("osae", line.p[0]) != NULL;
        resources += line.p[0] == 'r';
        versions += line.p[0] == 'v';
    }
    struct arena *a = c->s->arena;
    c->fields = arena_alloc(a, (fields + 1) * sizeof(*c->fields));
    c->exprs = xcalloc(fields + 1, sizeof(*c->exprs));
    c->types = arena_alloc(a, (types + 1) * sizeof(*c->types));
    c->s->versions = arena_alloc(a, (versions + 1) * sizeof(*c->s->versions));
    c->s->resources = arena_alloc(a, (resources + 1) * sizeof(*c->s->resources));
    c->storages = xcalloc(resources + 1, sizeof(*c->storages));
    c->scalars = arena_alloc(a, ARRAY_LEN(scalar_names) * sizeof(*c->scalars));
    for (size_t i = 0; i < ARRAY_LEN(scalar_names); i++)
        c->scalars[i].pub =
            (struct schema_type){.kind = scalar_names[i].kind, .name = scalar_names[i].name, .description = ""};
}

static int read_all(struct compiler *c, struct error *err) {
    for (struct str rest = c->text; rest.p;) {
        struct str line = str_split(&rest, '\n');
        c->line++;
        if (line.n == 0 || line.p[0] == '#')
            continue;
        int rc = read_line(c, line, err);
        if (rc < 0)
            return rc;
    }
    end_resource(c);
    if (c->types_n > TYPES_MAX || c->resources_n > TYPES_MAX)
        return error_set(err, -E2BIG, "schema: more than %d types or resources", TYPES_MAX);
    c->s->resources_n = c->resources_n;
    c->s->types_n = c->types_n;
    /* A ctype begins with its public part. */
    c->s->types = (struct schema_type **)c->types;
    schema_index_types(c->s);
    return 0;
}

static int build(struct compiler *c, struct error *err) {
    count(c);
    int rc = read_all(c, err);
    if (rc == 0)
        rc = schema_resolve_fields(c, err);
    if (rc < 0)
        return rc;
    schema_flatten_all(c);
    schema_mark_defaults(c);
    schema_sort_all(c);
    rc = schema_link_resources(c, err);
    if (rc < 0)
        return rc;
    schema_index_resources(c->s);
    return 0;
}

/* The text must live as long as the schema and end in a NUL. */
static struct schema *compile(struct arena *a, struct str text, struct error *err) {
    struct schema *s = ARENA_NEW(a, struct schema);
    s->arena = a;
    struct compiler c = {.s = s, .text = text};
    int rc = build(&c, err);
    free(c.exprs);
    free(c.storages);
    vec_fini(&c.subs);
    vec_fini(&c.columns);
    vec_fini(&c.defaults);
    if (rc == 0)
        return s;
    arena_free(a);
    return NULL;
}

struct schema *schema_compile(struct str text, struct error *err) {
    if (text.n > TEXT_MAX) {
        error_set(err, -E2BIG, "schema: more than %zu bytes", (size_t)TEXT_MAX);
        return NULL;
    }
    struct arena *a = arena_new(KiB(4) + text.n * (BYTES_PER_BYTE + 1), 0);
    return compile(a, str_dup(a, text), err);
}

void schema_free(struct schema *s) {
    if (s)
        arena_free(s->arena);
}

/* --- the built-in one --- */

extern const char schema_files_start[], schema_files_end[];

static struct schema *builtin;

static void make_builtin(void) {
    struct error err = {0};
    struct str text = {schema_files_start, (size_t)(schema_files_end - schema_files_start)};
    builtin = compile(arena_new(text.n * BYTES_PER_BYTE, 0), text, &err);
    if (!builtin)
        fatal("built-in schema: %s", err.msg);
}

const struct schema *schema_builtin(void) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, make_builtin);
    return builtin;
}
