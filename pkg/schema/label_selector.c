/*
 * Label selectors: "a=b,c!=d,e in (f,g),!h" and the LabelSelector of the API. Grammar and words of errors are those of
 * Kubernetes. A compiled selector is a list of requirements, all of which must hold, sorted by key.
 */
#include "schema/schema_private.h"

#include <stdlib.h>

#define REQUIREMENTS_MAX 4096
#define VALUES_MAX 16384

enum op { OP_IN, OP_NOT_IN, OP_EQUALS, OP_DOUBLE_EQUALS, OP_NOT_EQUALS, OP_GREATER, OP_LESS, OP_EXISTS, OP_ABSENT };

struct requirement {
    struct str key;
    enum op op;
    const struct str *values; /* sorted, no two the same */
    size_t values_n;
    int64_t number; /* of OP_GREATER and OP_LESS */
};

struct label_selector {
    struct requirement *list;
    size_t n;
    bool nothing;
};

/* --- requirements --- */

struct builder {
    struct arena *a;
    struct error *err;
    VEC(struct requirement) list;
    VEC(struct str) values; /* of the requirement at hand */
};

static int compare_str(const void *a, const void *b) {
    return str_cmp(*(const struct str *)a, *(const struct str *)b);
}

static int compare_key(const void *a, const void *b) {
    return str_cmp(((const struct requirement *)a)->key, ((const struct requirement *)b)->key);
}

static struct str quoted(struct arena *a, struct str s) {
    cleanup_buf struct buf b = BUF_INIT;
    json_write_string(&b, s);
    return str_dup(a, buf_str(&b));
}

static int check_key(struct builder *b, struct str key) {
    const char *wrong = name_check_qualified(key);
    if (!wrong)
        return 0;
    return error_set(b->err, -EINVAL, "<nil>: Invalid value: %.*s: %s", STR_ARG(quoted(b->a, key)), wrong);
}

static int check_values(struct builder *b, const struct requirement *r) {
    bool set = r->op == OP_IN || r->op == OP_NOT_IN, none = r->op == OP_EXISTS || r->op == OP_ABSENT;
    if (set && r->values_n == 0)
        return error_set(b->err, -EINVAL,
                         "values: Invalid value: []: for 'in', 'notin' operators, values set can't be empty");
    if (none && r->values_n > 0)
        return error_set(b->err, -EINVAL,
                         "values: Invalid value: [%.*s]: values set must be empty for exists and does "
                         "not exist",
                         STR_ARG(quoted(b->a, r->values[0])));
    for (size_t i = 0; i < r->values_n; i++) {
        const char *wrong = name_check_label_value(r->values[i]);
        if (wrong)
            return error_set(b->err, -EINVAL, "values[%zu][%.*s]: Invalid value: %.*s: %s", i, STR_ARG(r->key),
                             STR_ARG(quoted(b->a, r->values[i])), wrong);
    }
    return 0;
}

/* Takes the values gathered. */
static int add(struct builder *b, struct str key, enum op op) {
    if (b->list.n >= REQUIREMENTS_MAX)
        return error_set(b->err, -E2BIG, "more than %d requirements", REQUIREMENTS_MAX);
    if (b->values.n > 1)
        qsort(b->values.items, b->values.n, sizeof(struct str), compare_str);
    struct str *values = b->values.n ? arena_alloc(b->a, b->values.n * sizeof(*values)) : NULL;
    struct requirement r = {.key = str_dup(b->a, key), .op = op, .values = values};
    for (size_t i = 0; i < b->values.n; i++)
        if (i == 0 || !str_eq(b->values.items[i - 1], b->values.items[i]))
            values[r.values_n++] = str_dup(b->a, b->values.items[i]);
    b->values.n = 0;
    if ((op == OP_GREATER || op == OP_LESS) && (r.values_n != 1 || !str_to_i64(values[0], &r.number)))
        return error_set(b->err, -EINVAL,
                         "values[0]: Invalid value: %.*s: for 'Gt', 'Lt' operators, the value must be an integer",
                         STR_ARG(quoted(b->a, r.values_n ? values[0] : STR(""))));
    int rc = check_values(b, &r);
    if (rc == 0)
        vec_push(&b->list, r);
    return rc;
}

static struct label_selector *finish(struct builder *b, int rc) {
    struct label_selector *s = NULL;
    if (rc == 0) {
        s = ARENA_NEW(b->a, struct label_selector);
        s->n = b->list.n;
        s->list = arena_alloc(b->a, (s->n + 1) * sizeof(*s->list));
        if (s->n)
            memcpy(s->list, b->list.items, s->n * sizeof(*s->list));
        qsort(s->list, s->n, sizeof(*s->list), compare_key);
    }
    vec_fini(&b->list);
    vec_fini(&b->values);
    return s;
}

/* --- the text form --- */

enum token { T_END, T_WORD, T_COMMA, T_OPEN, T_CLOSE, T_NOT, T_EQ, T_EQEQ, T_NE, T_GT, T_LT, T_BAD };

struct scanner {
    struct builder b;
    struct str text;
    size_t at;
    enum token token; /* the next one */
    struct str word;
};

static const char specials[] = "=!(),><";

static bool is_blank(char c) {
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

static bool is_special(char c) {
    return c && strchr(specials, c);
}

/* Moves to the next token. */
static void next(struct scanner *s) {
    while (s->at < s->text.n && is_blank(s->text.p[s->at]))
        s->at++;
    size_t start = s->at;
    s->token = T_END;
    s->word = STR("");
    if (start == s->text.n)
        return;
    char c = s->text.p[s->at++], second = s->at < s->text.n ? s->text.p[s->at] : '\0';
    static const struct {
        char one;
        enum token token;
    } singles[] = {{'(', T_OPEN}, {')', T_CLOSE}, {',', T_COMMA}, {'>', T_GT}, {'<', T_LT}, {'!', T_NOT}, {'=', T_EQ}};
    if ((c == '=' || c == '!') && second == '=') {
        s->token = c == '=' ? T_EQEQ : T_NE;
        s->at++;
    } else if (is_special(c)) {
        for (size_t i = 0; i < ARRAY_LEN(singles); i++)
            if (singles[i].one == c)
                s->token = singles[i].token;
    } else {
        while (s->at < s->text.n && !is_blank(s->text.p[s->at]) && !is_special(s->text.p[s->at]))
            s->at++;
        s->token = T_WORD;
    }
    s->word = str_n(s->text.p + start, s->at - start);
}

static int found(struct scanner *s, const char *expected) {
    return error_set(s->b.err, -EINVAL, "found '%.*s', expected: %s", STR_ARG(s->word), expected);
}

/* "(a,b,)": commas with nothing between them stand for the empty value. */
static int parse_set(struct scanner *s) {
    bool value_before = false;
    if (s->token != T_OPEN)
        return error_set(s->b.err, -EINVAL, "found '%.*s' expected: '('", STR_ARG(s->word));
    for (next(s); s->token == T_WORD || s->token == T_COMMA; next(s)) {
        if (s->token == T_WORD && value_before)
            return found(s, "',' or ')'");
        if (s->token == T_WORD || !value_before)
            vec_push(&s->b.values, s->word.p[0] == ',' ? STR("") : s->word);
        value_before = s->token == T_WORD;
        if (s->b.values.n > VALUES_MAX)
            return error_set(s->b.err, -E2BIG, "more than %d values", VALUES_MAX);
    }
    if (s->token != T_CLOSE)
        return found(s, s->b.values.n ? "',' or ')'" : "',', ')' or identifier");
    if (!value_before)
        vec_push(&s->b.values, STR(""));
    next(s);
    return 0;
}

static int parse_exact(struct scanner *s) {
    if (s->token == T_END || s->token == T_COMMA) {
        vec_push(&s->b.values, STR(""));
        return 0;
    }
    if (s->token != T_WORD)
        return found(s, "identifier");
    vec_push(&s->b.values, s->word);
    next(s);
    return 0;
}

static bool operator_of(const struct scanner *s, enum op *op) {
    static const struct {
        enum token token;
        const char *word;
        enum op op;
    } operators[] = {{T_EQ, NULL, OP_EQUALS},     {T_EQEQ, NULL, OP_DOUBLE_EQUALS},
                     {T_NE, NULL, OP_NOT_EQUALS}, {T_GT, NULL, OP_GREATER},
                     {T_LT, NULL, OP_LESS},       {T_WORD, "in", OP_IN},
                     {T_WORD, "notin", OP_NOT_IN}};
    for (size_t i = 0; i < ARRAY_LEN(operators); i++)
        if (operators[i].token == s->token && (!operators[i].word || str_eq_c(s->word, operators[i].word))) {
            *op = operators[i].op;
            return true;
        }
    return false;
}

static int parse_requirement(struct scanner *s) {
    bool absent = s->token == T_NOT;
    enum op op;
    if (absent)
        next(s);
    if (s->token != T_WORD)
        return found(s, "identifier");
    struct str key = s->word;
    int rc = check_key(&s->b, key);
    if (rc < 0)
        return rc;
    next(s);
    if (absent || s->token == T_END || s->token == T_COMMA)
        return add(&s->b, key, absent ? OP_ABSENT : OP_EXISTS);
    if (!operator_of(s, &op))
        return found(s, "in, notin, =, ==, !=, gt, lt");
    next(s);
    rc = op == OP_IN || op == OP_NOT_IN ? parse_set(s) : parse_exact(s);
    return rc < 0 ? rc : add(&s->b, key, op);
}

static int parse_all(struct scanner *s) {
    next(s);
    while (s->token != T_END) {
        if (s->token != T_WORD && s->token != T_NOT)
            return found(s, "!, identifier, or 'end of string'");
        int rc = parse_requirement(s);
        if (rc < 0) {
            error_wrap(s->b.err, "unable to parse requirement");
            return rc;
        }
        if (s->token == T_END)
            break;
        if (s->token != T_COMMA)
            return found(s, "',' or 'end of string'");
        next(s);
        if (s->token != T_WORD && s->token != T_NOT)
            return found(s, "identifier after ','");
    }
    return 0;
}

struct label_selector *label_selector_parse(struct arena *a, struct str text, struct error *err) {
    struct error unused = {0};
    struct scanner s = {.b = {.a = a, .err = err ? err : &unused}, .text = text};
    return finish(&s.b, parse_all(&s));
}

/* --- the API's forms --- */

static struct label_selector *nothing(struct arena *a) {
    struct label_selector *s = ARENA_NEW(a, struct label_selector);
    s->nothing = true;
    return s;
}

static int add_map(struct builder *b, const struct json *map) {
    for (size_t i = 0; i < json_len(map); i++) {
        int rc = check_key(b, map->members[i].key);
        if (rc < 0)
            return rc;
        vec_push(&b->values, json_as_str(map->members[i].value));
        rc = add(b, map->members[i].key, OP_EQUALS);
        if (rc < 0)
            return rc;
    }
    return 0;
}

static int add_expression(struct builder *b, const struct json *e) {
    static const struct {
        const char *name;
        enum op op;
    } operators[] = {{"In", OP_IN}, {"NotIn", OP_NOT_IN}, {"Exists", OP_EXISTS}, {"DoesNotExist", OP_ABSENT}};
    struct str name = json_str_at(e, "operator"), key = json_str_at(e, "key");
    const struct json *values = json_get_c(e, "values");
    for (size_t i = 0; i < ARRAY_LEN(operators); i++) {
        if (!str_eq_c(name, operators[i].name))
            continue;
        int rc = check_key(b, key);
        if (rc < 0)
            return rc;
        if (json_len(values) > VALUES_MAX)
            return error_set(b->err, -E2BIG, "more than %d values", VALUES_MAX);
        for (size_t k = 0; k < json_len(values); k++)
            vec_push(&b->values, json_as_str(json_item(values, k)));
        return add(b, key, operators[i].op);
    }
    return error_set(b->err, -EINVAL, "%.*s is not a valid label selector operator", STR_ARG(quoted(b->a, name)));
}

struct label_selector *label_selector_from_json(struct arena *a, const struct json *sel, struct error *err) {
    struct builder b = {.a = a, .err = err};
    if (!sel || sel->type != JSON_OBJECT)
        return nothing(a);
    const struct json *labels = json_get_c(sel, "matchLabels"), *list = json_get_c(sel, "matchExpressions");
    int rc = json_is(labels, JSON_OBJECT) ? add_map(&b, labels) : 0;
    for (size_t i = 0; rc == 0 && json_is(list, JSON_ARRAY) && i < list->n; i++)
        rc = add_expression(&b, list->items[i]);
    return finish(&b, rc);
}

struct label_selector *label_selector_from_map(struct arena *a, const struct json *map) {
    struct builder b = {.a = a};
    if (!json_is(map, JSON_OBJECT) || map->n == 0)
        return nothing(a);
    struct label_selector *s = finish(&b, add_map(&b, map));
    return s ? s : nothing(a); /* keys or values that no object can have */
}

/* --- use --- */

static bool has_value(const struct requirement *r, struct str value) {
    for (size_t i = 0; i < r->values_n; i++)
        if (str_eq(r->values[i], value))
            return true;
    return false;
}

static bool holds(const struct requirement *r, const struct json *labels) {
    const struct json *label = json_is(labels, JSON_OBJECT) ? json_get(labels, r->key) : NULL;
    int64_t number;
    switch (r->op) {
    case OP_IN:
    case OP_EQUALS:
    case OP_DOUBLE_EQUALS:
        return label && has_value(r, json_as_str(label));
    case OP_NOT_IN:
    case OP_NOT_EQUALS:
        return !label || !has_value(r, json_as_str(label));
    case OP_EXISTS:
        return label != NULL;
    case OP_ABSENT:
        return label == NULL;
    default:
        if (!label || !str_to_i64(json_as_str(label), &number))
            return false;
        return r->op == OP_GREATER ? number > r->number : number < r->number;
    }
}

bool label_selector_matches(const struct label_selector *s, const struct json *labels) {
    if (s->nothing)
        return false;
    for (size_t i = 0; i < s->n; i++)
        if (!holds(&s->list[i], labels))
            return false;
    return true;
}

bool label_selector_empty(const struct label_selector *s) {
    return s->n == 0 && !s->nothing;
}

struct str label_selector_text(struct arena *a, const struct label_selector *s) {
    static const char *const signs[] = {" in (", " notin (", "=", "==", "!=", ">", "<", "", ""};
    cleanup_buf struct buf b = BUF_INIT;
    for (size_t i = 0; i < s->n; i++) {
        const struct requirement *r = &s->list[i];
        if (i > 0)
            buf_putc(&b, ',');
        if (r->op == OP_ABSENT)
            buf_putc(&b, '!');
        buf_put_str(&b, r->key);
        buf_puts(&b, signs[r->op]);
        for (size_t k = 0; k < r->values_n; k++) {
            if (k > 0)
                buf_putc(&b, ',');
            buf_put_str(&b, r->values[k]);
        }
        if (r->op == OP_IN || r->op == OP_NOT_IN)
            buf_putc(&b, ')');
    }
    return str_dup(a, buf_str(&b));
}
