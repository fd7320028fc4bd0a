/* JSONPath text to steps, by recursive descent. */
#include <stdlib.h>

#include "codec/jsonpath_private.h"

#define FILTERS_NESTED_MAX 4

struct compiler {
    struct arena *a;
    struct str text; /* NUL-terminated copy */
    size_t at;
    int steps, recursions, filters;
    struct error *err;
};

static char peek(const struct compiler *c) {
    return c->at < c->text.n ? c->text.p[c->at] : 0;
}

static bool looking_at(const struct compiler *c, const char *word) {
    return str_starts(str_skip(c->text, c->at), str_c(word));
}

static bool take(struct compiler *c, const char *word) {
    if (!looking_at(c, word))
        return false;
    c->at += strlen(word);
    return true;
}

static void skip_space(struct compiler *c) {
    while (peek(c) == ' ' || peek(c) == '\t' || peek(c) == '\n' || peek(c) == '\r')
        c->at++;
}

static int fail(struct compiler *c, int code, const char *what) {
    return error_set(c->err, code, "JSONPath \"%.*s\": offset %zu: %s", (int)MIN(c->text.n, (size_t)200), c->text.p,
                     c->at, what);
}

static struct step *new_step(struct compiler *c, enum step_kind kind) {
    if (++c->steps > JSONPATH_STEPS_MAX) {
        fail(c, -E2BIG, "the path has too many steps");
        return NULL;
    }
    struct step *s = ARENA_NEW(c->a, struct step);
    s->kind = kind;
    return s;
}

/* --- names and literals ------------------------------------------------------------------------------------------ */

/* What ends a bare name; more does within a filter. */
static bool ends_name(const struct compiler *c, char ch) {
    return ch == 0 || strchr(" \t\r\n.,[]{}$@", ch) || (c->filters && strchr("=!<>()", ch));
}

static struct step *compile_name(struct compiler *c) {
    char *name = arena_alloc(c->a, c->text.n - c->at + 1);
    size_t n = 0;
    while (c->at < c->text.n && !ends_name(c, peek(c))) {
        if (peek(c) == '\\' && c->at + 1 < c->text.n)
            c->at++;
        name[n++] = c->text.p[c->at++];
    }
    if (n == 0) {
        fail(c, -EINVAL, "a field name was expected");
        return NULL;
    }
    struct step *s = new_step(c, STEP_FIELD);
    if (s)
        s->name = str_n(name, n);
    return s;
}

/* A quoted text, the quote being next. */
static int compile_quoted(struct compiler *c, struct str *out) {
    char quote = peek(c);
    char *text = arena_alloc(c->a, c->text.n - c->at + 1);
    size_t n = 0;
    for (c->at++; c->at < c->text.n && peek(c) != quote; c->at++) {
        char ch = peek(c);
        if (ch == '\\' && c->at + 1 < c->text.n) {
            c->at++;
            ch = peek(c) == 'n' ? '\n' : peek(c) == 't' ? '\t' : peek(c) == 'r' ? '\r' : peek(c);
        }
        text[n++] = ch;
    }
    if (!take(c, (char[]){quote, 0}))
        return fail(c, -EINVAL, "the quoted text does not end");
    *out = str_n(text, n);
    return 0;
}

static bool is_quote(char ch) {
    return ch == '\'' || ch == '"';
}

static bool take_int(struct compiler *c, int64_t *out) {
    size_t start = c->at, end = start;
    while (end < c->text.n &&
           ((c->text.p[end] >= '0' && c->text.p[end] <= '9') || (end == start && c->text.p[end] == '-')))
        end++;
    if (!str_to_i64(str_n(c->text.p + start, end - start), out))
        return false;
    c->at = end;
    return true;
}

/* --- brackets ---------------------------------------------------------------------------------------------------- */

static struct step *compile_steps(struct compiler *c);

static struct step *compile_slice(struct compiler *c) {
    struct step *s = new_step(c, STEP_SLICE);
    if (!s)
        return NULL;
    s->by = 1;
    s->has_from = take_int(c, &s->from);
    skip_space(c);
    s->single = !take(c, ":");
    if (!s->single) {
        skip_space(c);
        s->has_to = take_int(c, &s->to);
        skip_space(c);
        if (take(c, ":")) {
            skip_space(c);
            if (!take_int(c, &s->by) || s->by < 1) {
                fail(c, -EINVAL, "a step above 0 was expected");
                return NULL;
            }
        }
    } else if (!s->has_from) {
        fail(c, -EINVAL, "an index, a slice, *, a quoted name or a filter was expected");
        return NULL;
    }
    return s;
}

static struct step *compile_bracket_item(struct compiler *c) {
    if (take(c, "*"))
        return new_step(c, STEP_WILDCARD);
    if (!is_quote(peek(c)))
        return compile_slice(c);
    struct step *s = new_step(c, STEP_FIELD);
    return s && compile_quoted(c, &s->name) == 0 ? s : NULL;
}

static int compile_operand(struct compiler *c, struct operand *out) {
    skip_space(c);
    char ch = peek(c);
    struct str text;
    if (ch == '@' || ch == '$') {
        out->from_root = ch == '$';
        c->at++;
        int errors = c->err->code;
        out->steps = compile_steps(c);
        return c->err->code == errors ? 0 : -EINVAL;
    }
    if (is_quote(ch)) {
        if (compile_quoted(c, &text) < 0)
            return -EINVAL;
        out->literal = json_str(c->a, text);
        return 0;
    }
    size_t end = c->at;
    while (end < c->text.n && !strchr(" \t\r\n=!<>()]", c->text.p[end]))
        end++;
    text = str_n(c->text.p + c->at, end - c->at);
    out->literal = json_parse(c->a, text, NULL, NULL); /* a number, true, false, null */
    if (!out->literal)
        return fail(c, -EINVAL, "a path, a number, a quoted text, true, false or null was expected");
    c->at = end;
    return 0;
}

static enum filter_op take_operator(struct compiler *c) {
    static const struct {
        const char *text;
        enum filter_op op;
    } operators[] = {{"==", FILTER_EQ}, {"!=", FILTER_NE}, {"<=", FILTER_LE},
                     {">=", FILTER_GE}, {"<", FILTER_LT},  {">", FILTER_GT}};
    skip_space(c);
    for (size_t i = 0; i < ARRAY_LEN(operators); i++)
        if (take(c, operators[i].text))
            return operators[i].op;
    return FILTER_EXISTS;
}

/* Behind "?(". */
static struct step *compile_filter(struct compiler *c) {
    struct step *s = new_step(c, STEP_FILTER);
    if (!s)
        return NULL;
    if (c->filters == FILTERS_NESTED_MAX) {
        fail(c, -E2BIG, "filters are nested too deeply");
        return NULL;
    }
    c->filters++;
    s->filter = ARENA_NEW(c->a, struct filter);
    if (compile_operand(c, &s->filter->left) < 0)
        return NULL;
    s->filter->op = take_operator(c);
    if (s->filter->op != FILTER_EXISTS && compile_operand(c, &s->filter->right) < 0)
        return NULL;
    skip_space(c);
    c->filters--;
    if (!take(c, ")")) {
        fail(c, -EINVAL, "an operator or ')' was expected");
        return NULL;
    }
    return s;
}

/* Behind "[". */
static struct step *compile_bracket(struct compiler *c) {
    struct step *s, *last;
    skip_space(c);
    s = last = take(c, "?(") ? compile_filter(c) : compile_bracket_item(c);
    if (!s)
        return NULL;
    skip_space(c);
    if (peek(c) == ',') {
        struct step *all = new_step(c, STEP_UNION);
        if (!all)
            return NULL;
        all->first = s;
        while (take(c, ",")) {
            skip_space(c);
            if (!(last->other = compile_bracket_item(c)))
                return NULL;
            last = last->other;
            skip_space(c);
        }
        s = all;
    }
    if (!take(c, "]")) {
        fail(c, -EINVAL, "']' was expected");
        return NULL;
    }
    return s;
}

/* --- paths ------------------------------------------------------------------------------------------------------- */

/* Behind ".." or ".": a name or *, or (behind "..") a bracket. */
static struct step *compile_dotted(struct compiler *c) {
    if (take(c, "*"))
        return new_step(c, STEP_WILDCARD);
    return compile_name(c);
}

static struct step *compile_recursive(struct compiler *c) {
    if (++c->recursions > JSONPATH_RECURSIONS_MAX) {
        fail(c, -E2BIG, "\"..\" is used too often");
        return NULL;
    }
    struct step *s = new_step(c, STEP_RECURSIVE);
    if (s && peek(c) != '[' && !(s->next = compile_dotted(c)))
        return NULL;
    return s;
}

static struct step *compile_step(struct compiler *c) {
    if (take(c, ".."))
        return compile_recursive(c);
    if (take(c, "."))
        return compile_dotted(c);
    c->at++;
    return compile_bracket(c);
}

/* As many steps as there are; NULL also for none. On an error c->err is set. */
static struct step *compile_steps(struct compiler *c) {
    struct step *first = NULL, **end = &first;
    if (peek(c) == '.' && (c->at + 1 == c->text.n || strchr("} )=!<>", c->text.p[c->at + 1]))) {
        c->at++; /* "." alone: the value itself */
        return NULL;
    }
    while (peek(c) == '.' || peek(c) == '[') {
        if (!(*end = compile_step(c)))
            return NULL;
        while (*end)
            end = &(*end)->next;
    }
    return first;
}

static struct step *compile_path(struct compiler *c) {
    skip_space(c);
    bool braces = take(c, "{");
    skip_space(c);
    struct step *first = NULL;
    if (!take(c, "$") && !take(c, "@") && !ends_name(c, peek(c)) && (first = compile_name(c)))
        first->next = c->err->code ? NULL : compile_steps(c);
    else if (!c->err->code)
        first = compile_steps(c);
    skip_space(c);
    if (braces && !c->err->code && !take(c, "}"))
        fail(c, -EINVAL, "'}' was expected");
    skip_space(c);
    if (!c->err->code && c->at < c->text.n)
        fail(c, -EINVAL, "'.' or '[' was expected");
    return first;
}

struct jsonpath *jsonpath_compile(struct arena *a, struct str text, struct error *err) {
    struct error own = {0};
    struct compiler c = {.a = a, .err = &own};
    if (text.n > KiB(8)) {
        error_set(err, -E2BIG, "the JSONPath is too long");
        return NULL;
    }
    c.text = str_dup(a, text);
    struct jsonpath *p = ARENA_NEW(a, struct jsonpath);
    p->steps = compile_path(&c);
    if (own.code == 0)
        return p;
    error_set(err, own.code, "%s", own.msg);
    return NULL;
}
