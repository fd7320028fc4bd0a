/*
 * The JSON parser: one pass over one copy of the text. Strings are decoded in place in that copy, so a string costs
 * no allocation; the values of an open container lie on a scratch stack and move into the arena, at their exact
 * number, when it closes. Invariant: the copy ends in NUL bytes, which no token contains, so the scanners need no
 * bounds check.
 */
#include <stdlib.h>

#include "codec/json.h"
#include "codec/json_private.h"

#define DEPTH_DEFAULT 128
#define NODES_DEFAULT 1000000
#define SCRATCH 48  /* values on the C stack before the scratch stack moves to the heap */
#define PADDING 16  /* NUL bytes behind the copy: what a word-wise scanner may read */
#define FEW_KEYS 48 /* objects up to this size are searched for duplicates without an index */

struct entry {
    struct str key;
    struct json value;
};

struct frame {
    uint32_t start; /* its first child on the stack; the container itself is the entry before */
    bool object;
};

struct parser {
    char *p, *base;
    struct str text;
    struct arena *arena;
    struct error *err;
    struct entry *stack;
    uint32_t n, cap, nodes_left;
    int depth, depth_max;
    void (*duplicate)(void *arg, struct str path);
    void *arg;
    struct frame frames[JSON_DEPTH_MAX];
    struct entry first[SCRATCH];
};

/* --- errors ------------------------------------------------------------------------------------------------------ */

/* The position counts in the text as given: the copy's strings are changed already. */
static void position(const struct parser *ps, const char *at, size_t *line, size_t *column) {
    size_t offset = MIN((size_t)(at - ps->base), ps->text.n), start = 0;
    *line = 1;
    for (ptrdiff_t i; (i = str_index(str_n(ps->text.p, offset), '\n', start)) >= 0; start = (size_t)i + 1)
        (*line)++;
    *column = offset - start + 1;
}

static int fail(const struct parser *ps, const char *at, int code, const char *what) {
    size_t line, column;
    position(ps, at, &line, &column);
    return error_set(ps->err, code, "line %zu, column %zu: %s", line, column, what);
}

/* "invalid character 'x' WHERE", in the words Go's decoder uses. */
static int unexpected(const struct parser *ps, const char *at, const char *where) {
    char what[160];
    unsigned char c = (unsigned char)*at;
    if ((size_t)(at - ps->base) >= ps->text.n)
        snprintf(what, sizeof(what), "unexpected end of JSON input");
    else if (c == '\n' || c == '\t' || c == '\r')
        snprintf(what, sizeof(what), "invalid character '\\%c' %s", c == '\n' ? 'n' : c == '\t' ? 't' : 'r', where);
    else if (c >= 0x20 && c < 0x7F)
        snprintf(what, sizeof(what), "invalid character '%c' %s", c, where);
    else
        snprintf(what, sizeof(what), "invalid character '\\x%02x' %s", c, where);
    return fail(ps, at, -EINVAL, what);
}

/* --- strings ----------------------------------------------------------------------------------------------------- */

static uint64_t load64(const char *p) {
    uint64_t w;
    memcpy(&w, p, 8);
    return w;
}

/* The first byte that is no plain ASCII character of a string: a quote, backslash, control or non-ASCII byte. */
static char *skip_plain(char *p) {
    while (!json_special(load64(p)))
        p += 8;
    while (json_plain[(unsigned char)*p])
        p++;
    return p;
}

/* Length of the valid UTF-8 sequence at p (which is no ASCII), or 0. The NUL behind the copy ends a short one. */
static int utf8_length(const unsigned char *p) {
    if (p[0] < 0xC2 || p[0] > 0xF4 || (p[1] & 0xC0) != 0x80)
        return 0;
    if (p[0] < 0xE0)
        return 2;
    if ((p[2] & 0xC0) != 0x80)
        return 0;
    if (p[0] < 0xF0) {
        bool overlong = p[0] == 0xE0 && p[1] < 0xA0, surrogate = p[0] == 0xED && p[1] > 0x9F;
        return overlong || surrogate ? 0 : 3;
    }
    if ((p[3] & 0xC0) != 0x80 || (p[0] == 0xF0 && p[1] < 0x90) || (p[0] == 0xF4 && p[1] > 0x8F))
        return 0;
    return 4;
}

static bool hex4(const char *p, uint32_t *out) {
    uint32_t v = 0;
    for (int i = 0; i < 4; i++) {
        unsigned char c = (unsigned char)p[i];
        uint32_t digit;
        if (c >= '0' && c <= '9')
            digit = c - '0';
        else if ((c | 0x20) >= 'a' && (c | 0x20) <= 'f')
            digit = (c | 0x20u) - 'a' + 10;
        else
            return false;
        v = v << 4 | digit;
    }
    *out = v;
    return true;
}

/* Decodes \uXXXX (with the second half of a pair) at *src into dst; a lone surrogate becomes U+FFFD, as in Go. */
static char *put_unicode(char *dst, char **src) {
    uint32_t c, low;
    if (!hex4(*src + 2, &c))
        return NULL;
    *src += 6;
    if (c >= 0xD800 && c <= 0xDFFF) {
        if (c < 0xDC00 && (*src)[0] == '\\' && (*src)[1] == 'u' && hex4(*src + 2, &low) && low >= 0xDC00 &&
            low <= 0xDFFF) {
            c = 0x10000 + ((c - 0xD800) << 10) + (low - 0xDC00);
            *src += 6;
        } else {
            c = 0xFFFD;
        }
    }
    return dst + json_utf8_encode(dst, c);
}

static const char escapes[256] = {
    ['"'] = '"', ['\\'] = '\\', ['/'] = '/', ['b'] = '\b', ['f'] = '\f', ['n'] = '\n', ['r'] = '\r', ['t'] = '\t'};

/* Reads the string whose opening quote is at ps->p, and leaves ps->p behind its closing quote. */
static int parse_string(struct parser *ps, struct str *out) {
    char *start = ps->p + 1, *src = start, *dst = start;
    for (;;) {
        char *run = src;
        src = skip_plain(src);
        for (int n; (unsigned char)*src >= 0x80; src = skip_plain(src + n))
            if (!(n = utf8_length((unsigned char *)src)))
                return fail(ps, src, -EINVAL, "invalid UTF-8 in string");
        if (dst != run)
            memmove(dst, run, (size_t)(src - run));
        dst += src - run;
        if (*src == '"')
            break;
        if (*src != '\\')
            return unexpected(ps, src, "in string literal");
        if (src[1] == 'u') {
            if (!(dst = put_unicode(dst, &src)))
                return fail(ps, src, -EINVAL, "invalid \\u escape in string");
        } else if (escapes[(unsigned char)src[1]]) {
            *dst++ = escapes[(unsigned char)src[1]];
            src += 2;
        } else {
            return unexpected(ps, src + 1, "in string escape code");
        }
    }
    *dst = 0; /* at the closing quote or before it */
    *out = str_n(start, (size_t)(dst - start));
    ps->p = src + 1;
    return 0;
}

/* --- numbers ----------------------------------------------------------------------------------------------------- */

static bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

/* A double whose digits and power of ten are both exact as doubles is one operation away, correctly rounded. */
static bool small_double(uint64_t digits, int power, double *out) {
    static const double tens[] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,  1e8,  1e9,  1e10, 1e11,
                                  1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};
    if (FLT_EVAL_METHOD != 0 || digits > (UINT64_C(1) << 53) || power < -22 || power > 22)
        return false;
    *out = power < 0 ? (double)digits / tens[-power] : (double)digits * tens[power];
    return true;
}

struct number {
    uint64_t digits;
    int power; /* of ten */
    bool exact, whole;
};

static char *scan_digits(struct number *num, char *p, bool fraction) {
    for (; is_digit(*p); p++) {
        if (num->digits > (UINT64_MAX - 9) / 10) {
            num->exact = false;
            continue;
        }
        num->digits = num->digits * 10 + (uint64_t)(*p - '0');
        num->power -= fraction;
    }
    return p;
}

/* Checks the grammar from p (behind a minus) on; returns the end, or NULL with *bad at the offending byte. */
static char *scan_number(struct number *num, char *p, char **bad) {
    *num = (struct number){.exact = true, .whole = true};
    *bad = p;
    if (!is_digit(*p))
        return NULL;
    p = *p == '0' ? p + 1 : scan_digits(num, p, false);
    if (*p == '.') {
        num->whole = false;
        *bad = p + 1;
        if (!is_digit(p[1]))
            return NULL;
        p = scan_digits(num, p + 1, true);
    }
    if ((*p | 0x20) == 'e') {
        num->whole = false;
        p++;
        bool negative = *p == '-';
        p += *p == '-' || *p == '+';
        *bad = p;
        if (!is_digit(*p))
            return NULL;
        int e = 0;
        for (; is_digit(*p); p++)
            e = MIN(e * 10 + (*p - '0'), 100000);
        num->power += negative ? -e : e;
    }
    return p;
}

static int parse_number(struct parser *ps, struct json *v) {
    char *start = ps->p, *bad;
    bool negative = *start == '-';
    struct number num;
    char *end = scan_number(&num, start + negative, &bad);
    if (!end)
        return unexpected(ps, bad, "in numeric literal");
    ps->p = end;
    if (num.whole && num.exact && num.digits <= (uint64_t)INT64_MAX + negative) {
        v->type = JSON_INT;
        v->i = (int64_t)(negative ? 0 - num.digits : num.digits);
        return 0;
    }
    v->type = JSON_DOUBLE;
    if (num.exact && small_double(num.digits, num.power, &v->d))
        v->d = negative ? -v->d : v->d;
    else
        v->d = strtod(start, NULL);
    if (v->d > DBL_MAX || v->d < -DBL_MAX)
        return fail(ps, start, -EINVAL, "number out of range");
    return 0;
}

/* --- containers -------------------------------------------------------------------------------------------------- */

static int push(struct parser *ps, struct str key) {
    if (ps->n == ps->cap) {
        size_t cap = (size_t)ps->cap * 2;
        struct entry *stack = realloc(ps->stack == ps->first ? NULL : ps->stack, cap * sizeof(*stack));
        if (!stack)
            return fail(ps, ps->p, -E2BIG, "JSON needs more memory than there is");
        if (ps->stack == ps->first)
            memcpy(stack, ps->first, sizeof(ps->first));
        ps->stack = stack;
        ps->cap = (uint32_t)cap;
    }
    if (ps->nodes_left-- == 0)
        return fail(ps, ps->p, -E2BIG, "JSON has too many values");
    struct entry *e = &ps->stack[ps->n++];
    *e = (struct entry){.key = key};
    return 0;
}

static int open_container(struct parser *ps, struct json *v) {
    bool object = *ps->p == '{';
    if (ps->depth >= ps->depth_max)
        return fail(ps, ps->p, -E2BIG, "JSON is nested too deeply");
    v->type = object ? JSON_OBJECT : JSON_ARRAY;
    ps->frames[ps->depth++] = (struct frame){ps->n, object};
    ps->p++;
    return 0;
}

/* The path of a key of the innermost open object, like "spec.a[1].b". */
static void key_path(const struct parser *ps, struct str key, struct buf *out) {
    for (int i = 1; i < ps->depth; i++) {
        uint32_t at = ps->frames[i].start - 1;
        if (!ps->frames[i - 1].object) {
            buf_printf(out, "[%u]", at - ps->frames[i - 1].start);
            continue;
        }
        if (out->n)
            buf_putc(out, '.');
        buf_put_str(out, ps->stack[at].key);
    }
    if (out->n)
        buf_putc(out, '.');
    buf_put_str(out, key);
}

static int report_duplicate(struct parser *ps, struct str key) {
    cleanup_buf struct buf path = BUF_INIT;
    key_path(ps, key, &path);
    if (ps->duplicate) {
        ps->duplicate(ps->arg, buf_str(&path));
        return 0;
    }
    size_t line, column;
    position(ps, key.p - 1, &line, &column);
    return error_set(ps->err, -EINVAL, "line %zu, column %zu: duplicate field \"%.200s\"", line, column,
                     buf_str(&path).p);
}

/* Keys of a small object: a bit for each (length, first, last) seen tells nearly always that there is no equal. */
struct seen {
    uint64_t bits;
    struct json_index index; /* large objects only */
};

static struct entry *find_key(struct seen *seen, struct entry *from, struct entry *to, struct str key) {
    if (seen->index.slots) {
        uint32_t *slot = json_index_find(&seen->index, key, from, sizeof(*from));
        if (*slot)
            return &from[*slot - 1];
        *slot = (uint32_t)(to - from) + 1;
        return NULL;
    }
    unsigned char first = key.n ? (unsigned char)key.p[0] : 0, last = key.n ? (unsigned char)key.p[key.n - 1] : 0;
    uint64_t bit = UINT64_C(1) << ((first * 7 + last * 3 + key.n) & 63);
    bool maybe = seen->bits & bit;
    seen->bits |= bit;
    for (; maybe && from < to; from++)
        if (str_eq(from->key, key))
            return from;
    return NULL;
}

/* Keeps one entry a key, with its last value. */
static int drop_duplicates(struct parser *ps, uint32_t start) {
    struct entry *from = &ps->stack[start], *end = &ps->stack[ps->n], *keep = from, *same;
    struct seen seen = {0};
    if (ps->n - start > FEW_KEYS && !json_index_init(&seen.index, ps->n - start))
        return fail(ps, ps->p, -E2BIG, "JSON needs more memory than there is");
    int rc = 0;
    for (struct entry *e = from; e < end && rc == 0; e++) {
        if ((same = find_key(&seen, from, keep, e->key))) {
            rc = report_duplicate(ps, e->key);
            same->value = e->value;
            continue;
        }
        if (keep != e)
            *keep = *e;
        keep++;
    }
    json_index_fini(&seen.index);
    ps->n = (uint32_t)(keep - ps->stack);
    return rc;
}

/* Moves the children of the innermost container into the arena: first the array of pointers or members, then the
 * values themselves, in one block. */
static int close_container(struct parser *ps) {
    const struct frame *f = &ps->frames[ps->depth - 1];
    struct json *v = &ps->stack[f->start - 1].value;
    if (f->object && ps->n - f->start > 1 && drop_duplicates(ps, f->start) < 0)
        return -EINVAL;
    uint32_t n = ps->n - f->start;
    if (n) {
        size_t slot = f->object ? sizeof(struct json_member) : sizeof(struct json *);
        size_t head = (n * slot + 15) & ~(size_t)15;
        char *block = arena_try_alloc(ps->arena, head + n * sizeof(struct json));
        if (!block)
            return fail(ps, ps->p, -E2BIG, "JSON is too large");
        struct json *values = (struct json *)(void *)(block + head);
        const struct entry *from = &ps->stack[f->start];
        v->n = v->cap = n;
        if (f->object)
            v->members = (struct json_member *)(void *)block;
        else
            v->items = (struct json **)(void *)block;
        for (uint32_t i = 0; i < n; i++) {
            values[i] = from[i].value;
            if (f->object)
                v->members[i] = (struct json_member){from[i].key, &values[i]};
            else
                v->items[i] = &values[i];
        }
    }
    ps->n = f->start;
    ps->depth--;
    ps->p++;
    return 0;
}

/* --- the machine ------------------------------------------------------------------------------------------------- */

static char skip_space(struct parser *ps) {
    char *p = ps->p;
    while (*p == ' ' || *p == '\n' || *p == '\t' || *p == '\r')
        p++;
    ps->p = p;
    return *p;
}

static int parse_word(struct parser *ps, const char *word, size_t n) {
    for (size_t i = 1; i < n; i++)
        if (ps->p[i] != word[i])
            return unexpected(ps, ps->p + i, "in literal (expecting null, true or false)");
    ps->p += n;
    return 0;
}

/* Fills the value on top of the stack; 1 when it is a container that is open now. */
static int begin_value(struct parser *ps) {
    char c = skip_space(ps);
    struct json *v = &ps->stack[ps->n - 1].value;
    if (c == '"') {
        v->type = JSON_STRING;
        return parse_string(ps, &v->s);
    }
    if (c == '{' || c == '[') {
        int rc = open_container(ps, v);
        return rc ? rc : 1;
    }
    if (c == '-' || is_digit(c))
        return parse_number(ps, v);
    if (c == 't' || c == 'f') {
        v->type = JSON_BOOL;
        v->b = c == 't';
        return c == 't' ? parse_word(ps, "true", 4) : parse_word(ps, "false", 5);
    }
    if (c == 'n')
        return parse_word(ps, "null", 4);
    return unexpected(ps, ps->p, "looking for beginning of value");
}

static int parse_key(struct parser *ps, struct str *key) {
    if (skip_space(ps) != '"')
        return unexpected(ps, ps->p, "looking for beginning of object key string");
    int rc = parse_string(ps, key);
    if (rc < 0)
        return rc;
    if (skip_space(ps) != ':')
        return unexpected(ps, ps->p, "after object key");
    ps->p++;
    return 0;
}

/* Goes on to where the next value stands and pushes its entry: 1, or 0 when the root is complete. */
static int next_slot(struct parser *ps, bool fresh) {
    for (; ps->depth; fresh = false) {
        bool object = ps->frames[ps->depth - 1].object;
        char c = skip_space(ps);
        int rc;
        if (c == (object ? '}' : ']')) {
            if ((rc = close_container(ps)) < 0)
                return rc;
            continue;
        }
        if (!fresh) {
            if (c != ',')
                return unexpected(ps, ps->p, object ? "after object key:value pair" : "after array element");
            ps->p++;
        }
        struct str key = STR_NULL;
        if (object && (rc = parse_key(ps, &key)) < 0)
            return rc;
        rc = push(ps, key);
        return rc < 0 ? rc : 1;
    }
    return 0;
}

static int run(struct parser *ps) {
    int rc = push(ps, STR_NULL);
    if (rc < 0)
        return rc;
    do {
        if ((rc = begin_value(ps)) < 0)
            return rc;
    } while ((rc = next_slot(ps, rc == 1)) == 1);
    if (rc < 0)
        return rc;
    skip_space(ps);
    if (ps->p != ps->base + ps->text.n)
        return unexpected(ps, ps->p, "after top-level value");
    return 0;
}

struct json *json_parse(struct arena *a, struct str text, const struct json_limits *limits, struct error *err) {
    static const struct json_limits defaults;
    if (!limits)
        limits = &defaults;
    struct parser ps;
    ps.n = 0;
    ps.cap = SCRATCH;
    ps.stack = ps.first;
    ps.depth = 0;
    ps.depth_max = MIN(limits->depth > 0 ? limits->depth : DEPTH_DEFAULT, JSON_DEPTH_MAX);
    ps.nodes_left = limits->nodes ? limits->nodes : NODES_DEFAULT;
    ps.duplicate = limits->duplicate;
    ps.arg = limits->arg;
    ps.arena = a;
    ps.err = err;
    ps.text = text;
    ps.base = ps.p = text.n < SIZE_MAX - PADDING ? arena_try_alloc(a, text.n + PADDING) : NULL;
    if (!ps.base) {
        error_set(err, -E2BIG, "JSON of %zu bytes is too large", text.n);
        return NULL;
    }
    if (text.n)
        memcpy(ps.base, text.p, text.n);
    struct json *v = NULL;
    if (run(&ps) == 0) {
        v = arena_try_alloc(a, sizeof(*v));
        if (v)
            *v = ps.stack[0].value;
        else
            error_set(err, -E2BIG, "JSON of %zu bytes is too large", text.n);
    }
    if (ps.stack != ps.first)
        free(ps.stack);
    return v;
}
