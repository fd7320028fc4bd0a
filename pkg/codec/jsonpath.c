/* Evaluation of compiled JSONPaths: each step hands its matches to the next, so nothing is collected. */
#include "codec/jsonpath_private.h"

struct eval {
    const struct json *root;
    bool (*each)(void *arg, const struct json *match); /* false: enough */
    void *arg;
};

static bool run(const struct eval *ev, const struct step *s, const struct json *v);

static const struct json *child(const struct json *v, size_t i) {
    return v->type == JSON_OBJECT ? v->members[i].value : v->items[i];
}

/* --- filters ----------------------------------------------------------------------------------------------------- */

struct found {
    const struct json *v;
    int n;
};

static bool count_two(void *arg, const struct json *match) {
    struct found *f = arg;
    f->v = match;
    return ++f->n < 2;
}

/* The one value of an operand; none when there are several. */
static struct found operand_value(const struct eval *ev, const struct operand *o, const struct json *element) {
    struct found f = {o->literal, 1};
    if (!o->literal) {
        f = (struct found){0};
        struct eval sub = {ev->root, count_two, &f};
        run(&sub, o->steps, o->from_root ? ev->root : element);
    }
    return f;
}

static bool is_number(const struct json *v) {
    return v->type == JSON_INT || v->type == JSON_DOUBLE;
}

/* Whether a and b have an order; *out as strcmp. */
static bool compare(const struct json *a, const struct json *b, int *out) {
    if (a->type == JSON_INT && b->type == JSON_INT) {
        *out = a->i < b->i ? -1 : a->i > b->i;
        return true;
    }
    if (is_number(a) && is_number(b)) {
        double x = json_as_double(a, 0), y = json_as_double(b, 0);
        *out = x < y ? -1 : x > y;
        return true;
    }
    if (a->type != JSON_STRING || b->type != JSON_STRING)
        return false;
    *out = str_cmp(a->s, b->s);
    return true;
}

static bool passes(const struct eval *ev, const struct filter *f, const struct json *element) {
    struct found left = operand_value(ev, &f->left, element);
    if (f->op == FILTER_EXISTS)
        return left.n > 0;
    struct found right = operand_value(ev, &f->right, element);
    if (left.n != 1 || right.n != 1)
        return false;
    if (f->op == FILTER_EQ || f->op == FILTER_NE)
        return json_equal(left.v, right.v) == (f->op == FILTER_EQ);
    int c;
    if (!compare(left.v, right.v, &c))
        return false;
    return f->op == FILTER_LT ? c < 0 : f->op == FILTER_LE ? c <= 0 : f->op == FILTER_GT ? c > 0 : c >= 0;
}

/* --- steps ------------------------------------------------------------------------------------------------------- */

static bool run_field(const struct eval *ev, const struct step *s, const struct step *next, const struct json *v) {
    const struct json *at = json_get(v, s->name);
    return !at || run(ev, next, at);
}

static bool run_wildcard(const struct eval *ev, const struct step *s, const struct step *next, const struct json *v) {
    for (size_t i = 0; i < json_len(v); i++)
        if (!run(ev, next, child(v, i)))
            return false;
    return true;
}

static bool run_slice(const struct eval *ev, const struct step *s, const struct step *next, const struct json *v) {
    int64_t n = json_is(v, JSON_ARRAY) ? v->n : 0;
    int64_t from = s->has_from ? s->from : 0, to = s->has_to ? s->to : n;
    from = from < 0 ? MAX(from, -n - 1) + n : from;
    if (s->single)
        return from < 0 || from >= n || run(ev, next, v->items[from]);
    to = to < 0 ? MAX(to, -n) + n : MIN(to, n);
    for (int64_t i = MAX(from, 0); i < to; i += MIN(s->by, n)) /* by may be huge: no overflow */
        if (!run(ev, next, v->items[i]))
            return false;
    return true;
}

static bool run_recursive(const struct eval *ev, const struct step *s, const struct step *next, const struct json *v) {
    if (!run(ev, next, v))
        return false;
    for (size_t i = 0; i < json_len(v); i++)
        if (!run_recursive(ev, s, next, child(v, i)))
            return false;
    return true;
}

static bool run_one(const struct eval *ev, const struct step *s, const struct step *next, const struct json *v);

static bool run_union(const struct eval *ev, const struct step *s, const struct step *next, const struct json *v) {
    for (const struct step *alt = s->first; alt; alt = alt->other)
        if (!run_one(ev, alt, next, v))
            return false;
    return true;
}

static bool run_filter(const struct eval *ev, const struct step *s, const struct step *next, const struct json *v) {
    if (!json_is(v, JSON_ARRAY))
        return true;
    for (uint32_t i = 0; i < v->n; i++)
        if (passes(ev, s->filter, v->items[i]) && !run(ev, next, v->items[i]))
            return false;
    return true;
}

static bool run_one(const struct eval *ev, const struct step *s, const struct step *next, const struct json *v) {
    static bool (*const runners[STEP_KIND_MAX])(const struct eval *, const struct step *, const struct step *,
                                                const struct json *) = {
        [STEP_FIELD] = run_field,         [STEP_WILDCARD] = run_wildcard, [STEP_SLICE] = run_slice,
        [STEP_RECURSIVE] = run_recursive, [STEP_UNION] = run_union,       [STEP_FILTER] = run_filter,
    };
    return runners[s->kind](ev, s, next, v);
}

/* Matches of the steps from s on, below v; false when the caller has enough. */
static bool run(const struct eval *ev, const struct step *s, const struct json *v) {
    return s ? run_one(ev, s, s->next, v) : ev->each(ev->arg, v);
}

struct visitor {
    void (*each)(void *arg, const struct json *match);
    void *arg;
};

static bool visit(void *arg, const struct json *match) {
    const struct visitor *visitor = arg;
    visitor->each(visitor->arg, match);
    return true;
}

void jsonpath_eval(const struct jsonpath *p, const struct json *v, void (*each)(void *arg, const struct json *match),
                   void *arg) {
    struct visitor visitor = {each, arg};
    struct eval ev = {v, visit, &visitor};
    if (v)
        run(&ev, p->steps, v);
}

static bool keep_first(void *arg, const struct json *match) {
    *(const struct json **)arg = match;
    return false;
}

const struct json *jsonpath_first(const struct jsonpath *p, const struct json *v) {
    const struct json *first = NULL;
    struct eval ev = {v, keep_first, (void *)&first};
    if (v)
        run(&ev, p->steps, v);
    return first;
}
