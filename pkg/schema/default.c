/*
 * Defaults. Those that are a value of a field stand in the schema files and are set here, wherever the type occurs;
 * those that need a computation are functions in default_kinds.c. Members are set at their place in the order of output.
 */
#include "schema/default.h"

static void insert(struct arena *a, struct json *obj, uint32_t at, struct str key, struct json *value) {
    if (obj->n == obj->cap) {
        uint32_t cap = obj->cap ? obj->cap * 2 : 4;
        struct json_member *members = arena_alloc(a, cap * sizeof(*members));
        if (obj->n)
            memcpy(members, obj->members, obj->n * sizeof(*members));
        obj->members = members;
        obj->cap = cap;
    }
    memmove(&obj->members[at + 1], &obj->members[at], (obj->n - at) * sizeof(*obj->members));
    obj->members[at] = (struct json_member){key, value};
    obj->n++;
}

static struct json_member *member_of(const struct json *obj, struct str key) {
    for (uint32_t i = 0; i < obj->n; i++)
        if (str_eq(obj->members[i].key, key))
            return &obj->members[i];
    return NULL;
}

static size_t place_of(const struct schema_type *t, struct str name) {
    for (size_t i = 0; i < t->fields_n; i++)
        if (str_eq(t->fields[i].name, name))
            return i;
    return t->fields_n;
}

void default_put(struct arena *a, const struct schema_type *t, struct json *obj, const char *name, struct json *value) {
    struct json_member *there = member_of(obj, str_c(name));
    if (there) {
        there->value = value;
        return;
    }
    size_t place = place_of(t, str_c(name));
    if (place == t->fields_n)
        return;
    uint32_t at = 0;
    while (at < obj->n && place_of(t, obj->members[at].key) < place)
        at++;
    insert(a, obj, at, t->fields[place].name, value);
}

struct json *default_ensure(struct arena *a, const struct schema_type **t, struct json *obj, const char *name) {
    const struct schema_field *f = schema_field_find(*t, str_c(name));
    struct json *v = json_get_c(obj, name);
    if (!f || f->type->kind != SCHEMA_STRUCT || !json_is(obj, JSON_OBJECT))
        return NULL;
    if (!v || v->type == JSON_NULL) {
        v = json_object(a);
        default_put(a, *t, obj, name, v);
    }
    *t = f->type;
    return v->type == JSON_OBJECT ? v : NULL;
}

/* The value of a default's text. The usual ones need no parser. */
static struct json *value_of(struct arena *a, struct str text) {
    struct error err;
    int64_t i;
    if (text.n >= 2 && text.p[0] == '"' && !memchr(text.p, '\\', text.n))
        return json_str(a, str_n(text.p + 1, text.n - 2));
    if (str_to_i64(text, &i))
        return json_int(a, i);
    if (str_eq(text, STR("{}")))
        return json_object(a);
    struct json *v = json_parse(a, text, NULL, &err);
    if (!v)
        fatal("default \"%.*s\": %s", STR_ARG(text), err.msg);
    return v;
}

static bool holds(const struct schema_condition *c, const struct json *obj) {
    if (!c)
        return true;
    struct str value = json_as_str(json_get(obj, c->field)), rest = c->values;
    while (rest.p)
        if (str_eq(str_split(&rest, '|'), value))
            return true;
    return false;
}

/* Whether Go's defaulting sees nothing there: nil for pointers, the zero value for others. */
static bool is_unset(const struct schema_field *f, const struct json *v) {
    if (!v || v->type == JSON_NULL)
        return true;
    if (f->pointer)
        return false;
    switch (v->type) {
    case JSON_STRING:
        return v->s.n == 0;
    case JSON_INT:
        return v->i == 0;
    case JSON_BOOL:
        return !v->b;
    case JSON_ARRAY:
        return v->n == 0;
    default:
        return false;
    }
}

static void walk(struct arena *a, const struct schema_type *t, struct json *v);

static void default_members(struct arena *a, const struct schema_type *t, struct json *v) {
    uint32_t at = 0; /* where the field would stand, when members are in order, as they usually are */
    for (size_t i = 0; i < t->fields_n; i++) {
        const struct schema_field *f = &t->fields[i];
        bool here = at < v->n && str_eq(v->members[at].key, f->name);
        bool wanted = f->default_text.n > 0, deep = f->type->has_defaults || f->type->kind >= SCHEMA_LIST;
        struct json_member *m = here ? &v->members[at] : wanted || deep ? member_of(v, f->name) : NULL;
        if (wanted && is_unset(f, m ? m->value : NULL) && holds(f->default_if, v)) {
            struct json *value = value_of(a, f->default_text);
            if (m) {
                m->value = value;
            } else {
                insert(a, v, at, f->name, value);
                m = &v->members[at];
                here = true;
            }
        }
        if (m && deep)
            walk(a, f->type, m->value);
        at += here;
    }
}

/* Whether anything below a type can have a default. */
static bool has_defaults(const struct schema_type *t) {
    while (t->kind == SCHEMA_LIST || t->kind == SCHEMA_MAP)
        t = t->element;
    return t->has_defaults;
}

static void walk(struct arena *a, const struct schema_type *t, struct json *v) {
    if (!has_defaults(t))
        return;
    if (t->kind == SCHEMA_LIST && v->type == JSON_ARRAY) {
        for (uint32_t i = 0; i < v->n; i++)
            walk(a, t->element, v->items[i]);
    } else if (t->kind == SCHEMA_MAP && v->type == JSON_OBJECT) {
        for (uint32_t i = 0; i < v->n; i++)
            walk(a, t->element, v->members[i].value);
    } else if (t->kind == SCHEMA_STRUCT && v->type == JSON_OBJECT) {
        default_type_hook *hook = default_hook_of_type(t->default_hook);
        if (hook)
            hook(a, t, v);
        default_members(a, t, v);
    }
}

/* A default that holds in one resource only: the struct at its path gets the member. */
static void default_at(struct arena *a, const struct schema_type *t, struct json *v, const struct schema_default *d) {
    struct str rest = d->path, name = str_split(&rest, '.');
    while (rest.p) {
        char *segment = arena_strndup(a, name.p, name.n);
        v = default_ensure(a, &t, v, segment);
        if (!v)
            return;
        name = str_split(&rest, '.');
    }
    const struct schema_field *f = schema_field_find(t, name);
    if (f && is_unset(f, json_get(v, name)) && holds(d->condition, v))
        default_put(a, t, v, arena_strndup(a, name.p, name.n), value_of(a, d->text));
}

void schema_default(struct arena *a, const struct schema_resource *r, struct json *v) {
    if (!json_is(v, JSON_OBJECT))
        return;
    default_run_resource_hooks(a, r, v);
    for (size_t i = 0; i < r->defaults_n; i++)
        default_at(a, r->type, v, &r->defaults[i]);
    walk(a, r->type, v);
}
