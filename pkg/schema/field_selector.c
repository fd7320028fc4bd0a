/*
 * Field selectors: "spec.nodeName=x,status.phase!=Running" with \ before a comma, equals sign or backslash in a value.
 * The grammar and the words of errors are those of Kubernetes.
 */
#include "schema/schema_private.h"

#include <inttypes.h>

#define TERMS_MAX 256

struct term {
    struct str path, value;
    bool equal;
};

struct field_selector {
    struct term *terms;
    size_t n;
};

/* End of the term that begins at `from`: the next comma that is not escaped. */
static size_t term_end(struct str s, size_t from) {
    for (size_t i = from; i < s.n; i++) {
        if (s.p[i] == '\\')
            i++;
        else if (s.p[i] == ',')
            return i;
    }
    return s.n;
}

/* Splits a term at its first operator; false when there is none. */
static bool split_term(struct str s, struct str *path, struct str *value, bool *equal) {
    for (size_t i = 0; i < s.n; i++) {
        size_t n = 0;
        if (s.p[i] == '!' && i + 1 < s.n && s.p[i + 1] == '=')
            n = 2;
        else if (s.p[i] == '=')
            n = i + 1 < s.n && s.p[i + 1] == '=' ? 2 : 1;
        if (n == 0)
            continue;
        *equal = s.p[i] == '=';
        *path = str_n(s.p, i);
        *value = str_skip(s, i + n);
        return true;
    }
    return false;
}

static int unescape(struct arena *a, struct str s, struct str *out, struct error *err) {
    char *p = arena_alloc(a, s.n + 1);
    size_t n = 0;
    for (size_t i = 0; i < s.n; i++) {
        char c = s.p[i];
        if (c == ',' || c == '=')
            return error_set(err, -EINVAL, "invalid field selector: unescaped character in value: %d", c);
        if (c == '\\') {
            char escaped = i + 1 < s.n ? s.p[i + 1] : '\0';
            if (escaped != '\\' && escaped != ',' && escaped != '=')
                return error_set(err, -EINVAL, "invalid field selector: invalid escape sequence: %.*s",
                                 (int)MIN(s.n - i, (size_t)2), s.p + i);
            c = escaped;
            i++;
        }
        p[n++] = c;
    }
    *out = str_n(p, n);
    return 0;
}

static int check_path(const struct schema_resource *r, struct str path, struct error *err) {
    if (str_eq(path, STR("metadata.name")) || str_eq(path, STR("metadata.namespace")))
        return 0;
    for (size_t i = 0; i < r->field_selectors_n; i++)
        if (str_eq(r->field_selectors[i], path))
            return 0;
    if (r->field_selectors_n > 0)
        return error_set(err, -EINVAL, "field label not supported: %.*s", STR_ARG(path));
    return error_set(err, -EINVAL,
                     "\"%.*s\" is not a known field selector: only \"metadata.name\", \"metadata.namespace\"",
                     STR_ARG(path));
}

struct field_selector *field_selector_parse(struct arena *a, const struct schema_resource *r, struct str text,
                                            struct error *err) {
    struct field_selector *s = ARENA_NEW(a, struct field_selector);
    struct term terms[TERMS_MAX];
    for (size_t at = 0; at < text.n;) {
        size_t end = term_end(text, at);
        struct str part = str_n(text.p + at, end - at), value;
        at = end + 1;
        if (part.n == 0)
            continue;
        struct term *t = &terms[s->n];
        if (s->n == TERMS_MAX) {
            error_set(err, -E2BIG, "a field selector of more than %d terms", TERMS_MAX);
            return NULL;
        }
        if (!split_term(part, &t->path, &value, &t->equal)) {
            error_set(err, -EINVAL, "invalid selector: '%.*s'; can't understand '%.*s'", STR_ARG(text), STR_ARG(part));
            return NULL;
        }
        if (unescape(a, value, &t->value, err) < 0 || check_path(r, t->path, err) < 0)
            return NULL;
        t->path = str_dup(a, t->path);
        s->n++;
    }
    s->terms = arena_alloc(a, (s->n + 1) * sizeof(*s->terms));
    memcpy(s->terms, terms, s->n * sizeof(*s->terms));
    return s;
}

/* --- the value of a field --- */

/* Events are one kind of object with two sets of names; the object may have the other one. */
static const struct {
    const char *core, *events;
} event_names[] = {
    {"involvedObject", "regarding"},
    {"reportingComponent", "reportingController"},
    {"source", "deprecatedSource"},
};

static const struct json *first_member(const struct json *object, struct str name) {
    const struct json *v = json_get(object, name);
    for (size_t i = 0; !v && i < ARRAY_LEN(event_names); i++) {
        if (str_eq_c(name, event_names[i].core))
            v = json_get_c(object, event_names[i].events);
        else if (str_eq_c(name, event_names[i].events))
            v = json_get_c(object, event_names[i].core);
    }
    return v;
}

/* What an absent member reads as: the zero of its type. */
static struct str zero_text(const struct schema_resource *r, struct str path) {
    const struct schema_type *t = r->type;
    if (str_eq(path, STR("status.successful")))
        return STR("0");
    while (path.p && t) {
        const struct schema_field *f = schema_field_find(t, str_split(&path, '.'));
        t = f ? f->type : NULL;
    }
    if (t && t->kind == SCHEMA_BOOL)
        return STR("false");
    return t && (t->kind == SCHEMA_INT32 || t->kind == SCHEMA_INT64) ? STR("0") : STR("");
}

/* buf: room for a number. */
static struct str text_of(const struct json *v, struct buf *number) {
    switch (v ? v->type : JSON_NULL) {
    case JSON_STRING:
        return v->s;
    case JSON_BOOL:
        return v->b ? STR("true") : STR("false");
    case JSON_INT:
        buf_reset(number);
        buf_printf(number, "%" PRId64, v->i);
        return buf_str(number);
    case JSON_OBJECT: /* an event's source is its component */
        return json_str_at(v, "component");
    case JSON_ARRAY: /* podIPs: the first */
        return json_str_at(json_item(v, 0), "ip");
    default:
        return STR("");
    }
}

static bool term_holds(const struct term *t, const struct schema_resource *r, const struct json *object,
                       struct buf *number) {
    struct str rest = t->path;
    if (str_eq(rest, STR("status.successful"))) /* a Job's old name of it */
        rest = STR("status.succeeded");
    const struct json *v = first_member(object, str_split(&rest, '.'));
    while (rest.p && v)
        v = json_is(v, JSON_OBJECT) ? json_get(v, str_split(&rest, '.')) : NULL;
    struct str text = v && v->type != JSON_NULL ? text_of(v, number) : zero_text(r, t->path);
    if (text.n == 0 && str_eq(t->path, STR("source"))) /* newer events say it elsewhere */
        text = text_of(first_member(object, STR("reportingComponent")), number);
    return str_eq(text, t->value) == t->equal;
}

bool field_selector_matches(const struct field_selector *s, const struct schema_resource *r,
                            const struct json *object) {
    cleanup_buf struct buf number = BUF_INIT;
    if (!json_is(object, JSON_OBJECT))
        return false;
    for (size_t i = 0; i < s->n; i++)
        if (!term_holds(&s->terms[i], r, object, &number))
            return false;
    return true;
}

bool field_selector_exact(const struct field_selector *s, const char *path, struct str *value) {
    for (size_t i = 0; i < s->n; i++) {
        if (!s->terms[i].equal || !str_eq_c(s->terms[i].path, path))
            continue;
        *value = s->terms[i].value;
        return true;
    }
    return false;
}
