/* The JSON writer: runs of plain bytes are copied whole; escapes are those of Go's encoder without HTML escaping. */
#include <math.h>

#include "codec/json.h"
#include "codec/json_private.h"

/* Where the next byte goes: the buffer's fields in registers. Its length and final NUL are set when the writer is done. */
struct cursor {
    char *p, *end; /* end: of the room there is, a NUL not counted */
    struct buf *b;
};

static void cursor_begin(struct cursor *c, struct buf *b) {
    size_t limit = b->limit ? b->limit : BUF_LIMIT_DEFAULT;
    *c = (struct cursor){b->p, b->p, b};
    if (b->p) {
        c->p += b->n;
        c->end += MAX(MIN(b->cap - 1, limit), b->n);
    }
}

static void cursor_end(struct cursor *c) {
    if (!c->b->p)
        return;
    c->b->n = (size_t)(c->p - c->b->p);
    *c->p = 0;
}

static __attribute__((noinline)) bool grow(struct cursor *c, size_t n) {
    cursor_end(c);
    bool fits = buf_reserve(c->b, n) != NULL;
    cursor_begin(c, c->b);
    return fits;
}

/* Whether n more bytes fit; otherwise the buffer has failed. */
static inline bool room(struct cursor *c, size_t n) {
    return (size_t)(c->end - c->p) >= n || grow(c, n);
}

/* For runs of unknown, and constants of known length. */
static inline void put(struct cursor *c, const char *data, size_t n) {
    if (!room(c, n))
        return;
    memcpy(c->p, data, n);
    c->p += n;
}

/* For a handful of bytes, which a call of memcpy() would take longer for. */
static inline void put_few(struct cursor *c, const char *data, size_t n) {
    if (!room(c, n))
        return;
    while (n--)
        *c->p++ = *data++;
}

static inline void put_char(struct cursor *c, char ch) {
    if (room(c, 1))
        *c->p++ = ch;
}

/* --- strings ----------------------------------------------------------------------------------------------------- */

const unsigned char json_plain[256] = {
    [0x20] = 1, 1, 0, [0x23 ... 0x5B] = 1, [0x5D ... 0x7F] = 1, /* all ASCII but controls, '"' and '\\' */
};

/* First byte from p on that may need an escape: a special ASCII byte, or 0xE2, which U+2028 and U+2029 begin with. */
static const char *skip_copied(const char *p, const char *end) {
    while (end - p >= 8) {
        uint64_t w;
        memcpy(&w, p, 8);
        if (json_special(w))
            break;
        p += 8;
    }
    while (p < end && (json_plain[(unsigned char)*p] || ((unsigned char)*p >= 0x80 && (unsigned char)*p != 0xE2)))
        p++;
    return p;
}

/* Writes the escape of what stands at p and returns how many bytes of input that was. */
static size_t put_escape(struct cursor *c, const char *p, const char *end) {
    static const char shorts[256] = {
        ['"'] = '"', ['\\'] = '\\', ['\b'] = 'b', ['\f'] = 'f', ['\n'] = 'n', ['\r'] = 'r', ['\t'] = 't'};
    static const char hex[] = "0123456789abcdef";
    unsigned char ch = (unsigned char)*p;
    if (ch == 0xE2) {
        if (end - p >= 3 && (unsigned char)p[1] == 0x80 && ((unsigned char)p[2] | 1) == 0xA9) {
            put(c, (unsigned char)p[2] == 0xA8 ? "\\u2028" : "\\u2029", 6);
            return 3;
        }
        put_char(c, *p);
    } else if (shorts[ch]) {
        put(c, (char[]){'\\', shorts[ch]}, 2);
    } else {
        put(c, (char[]){'\\', 'u', '0', '0', hex[ch >> 4], hex[ch & 15]}, 6);
    }
    return 1;
}

static inline uint64_t load64(const char *p) {
    uint64_t w;
    memcpy(&w, p, 8);
    return w;
}

/* Copies while it looks: most strings are short and need no escape. */
static void put_string(struct cursor *c, struct str s) {
    const char *p = s.p, *end = p + s.n;
    if (!room(c, s.n + 2))
        return;
    char *to = c->p;
    *to++ = '"';
    for (; end - p >= 8; p += 8, to += 8) {
        uint64_t w = load64(p);
        if (json_special(w))
            break;
        memcpy(to, &w, 8);
    }
    while (p < end && json_plain[(unsigned char)*p])
        *to++ = *p++;
    c->p = to;
    while (p < end) {
        const char *stop = skip_copied(p, end);
        if (stop > p)
            put(c, p, (size_t)(stop - p));
        p = stop < end ? stop + put_escape(c, stop, end) : stop;
        if (c->b->failed)
            return;
    }
    put_char(c, '"');
}

/* --- numbers ----------------------------------------------------------------------------------------------------- */

static void put_int(struct cursor *c, int64_t i) {
    char digits[24], *end = digits + sizeof(digits), *p = end;
    uint64_t v = i < 0 ? 0 - (uint64_t)i : (uint64_t)i;
    do
        *--p = (char)('0' + v % 10);
    while (v /= 10);
    if (i < 0)
        *--p = '-';
    put_few(c, p, (size_t)(end - p));
}

struct decimal {
    char digits[20]; /* no leading or trailing zeros, NUL-terminated */
    int n, exponent; /* of the first digit: d.ddd * 10^exponent */
};

/* d rounded to `precision` digits and moved by `nudge` in the last one; whether it reads back as d. */
static bool try_digits(double d, int precision, int nudge, struct decimal *out) {
    char text[40];
    snprintf(text, sizeof(text), "%.*e", precision - 1, d);
    uint64_t v = 0;
    const char *p = text;
    for (; *p && *p != 'e'; p++)
        if (*p != '.')
            v = v * 10 + (uint64_t)(*p - '0');
    long exponent = *p ? strtol(p + 1, NULL, 10) : 0;
    snprintf(out->digits, sizeof(out->digits), "%llu", (unsigned long long)v + (unsigned long long)nudge);
    out->n = (int)strlen(out->digits);
    out->exponent = (int)exponent + (out->n - precision);
    while (out->n > 1 && out->digits[out->n - 1] == '0')
        out->digits[--out->n] = 0;
    snprintf(text, sizeof(text), "%c.%se%d", out->digits[0], out->n > 1 ? out->digits + 1 : "0", out->exponent);
    return strtod(text, NULL) == d;
}

/* 15 digits are enough when the shortest form has no more. The rounding interval of a power of two is lopsided, so a
 * neighbour of the correctly rounded 16 digits may read back where they do not. */
static void shortest(double d, struct decimal *out) {
    for (int precision = 1; d < DBL_MIN && precision < 15; precision++) /* a subnormal number has fewer digits */
        if (try_digits(d, precision, 0, out))
            return;
    if (!try_digits(d, 15, 0, out) && !try_digits(d, 16, 0, out) && !try_digits(d, 16, 1, out) &&
        !try_digits(d, 16, -1, out))
        try_digits(d, 17, 0, out);
}

static void put_double(struct cursor *c, double d) {
    if (!isfinite(d)) {
        put(c, "null", 4);
        return;
    }
    double abs = fabs(d);
    if (d < 0) /* and no sign for -0: it reads back as the integer 0 */
        put_char(c, '-');
    /* Where Go pads the shortest digits with zeros, the whole number itself is written: what is read back, an integer,
     * then equals what was written. */
    if (abs < 9223372036854775808.0 && abs == (double)(int64_t)abs) {
        put_int(c, (int64_t)abs);
        return;
    }
    struct decimal dec;
    char text[48];
    int n = 0;
    shortest(abs, &dec);
    if (abs < 1e-6 || abs >= 1e21) {
        n = snprintf(text, sizeof(text), "%c%s%se%c%s%d", dec.digits[0], dec.n > 1 ? "." : "", dec.digits + 1,
                     dec.exponent < 0 ? '-' : '+', "", abs >= 1e21 ? dec.exponent : -dec.exponent);
    } else if (dec.exponent < 0) {
        n = snprintf(text, sizeof(text), "0.%.*s%s", -dec.exponent - 1, "00000000", dec.digits);
    } else if (dec.exponent >= dec.n - 1) {
        n = snprintf(text, sizeof(text), "%s%.*s", dec.digits, dec.exponent - dec.n + 1, "000000000000000000000");
    } else {
        n = snprintf(text, sizeof(text), "%.*s.%s", dec.exponent + 1, dec.digits, dec.digits + dec.exponent + 1);
    }
    put(c, text, (size_t)n);
}

void json_write_double(struct buf *out, double d) {
    struct cursor c;
    cursor_begin(&c, out);
    put_double(&c, d);
    cursor_end(&c);
}

/* --- trees ------------------------------------------------------------------------------------------------------- */

static void put_scalar(struct cursor *c, const struct json *v) {
    switch (v->type) {
    case JSON_BOOL:
        put_few(c, v->b ? "true" : "false", v->b ? 4 : 5);
        break;
    case JSON_INT:
        put_int(c, v->i);
        break;
    case JSON_DOUBLE:
        put_double(c, v->d);
        break;
    case JSON_STRING:
        put_string(c, v->s);
        break;
    default:
        put(c, "null", 4);
    }
}

static void new_line(struct cursor *c, int spaces) {
    put_char(c, '\n');
    if (spaces > 0 && room(c, (size_t)spaces)) {
        memset(c->p, ' ', (size_t)spaces);
        c->p += spaces;
    }
}

/* step < 0: compact. */
static void put_tree(struct cursor *c, const struct json *v, int step, int indent) {
    if (!v || (v->type != JSON_OBJECT && v->type != JSON_ARRAY)) {
        if (v)
            put_scalar(c, v);
        else
            put(c, "null", 4);
        return;
    }
    bool object = v->type == JSON_OBJECT;
    put_char(c, object ? '{' : '[');
    for (uint32_t i = 0; i < v->n && !c->b->failed; i++) {
        if (i)
            put_char(c, ',');
        if (step >= 0)
            new_line(c, indent + step);
        if (object) {
            put_string(c, v->members[i].key);
            put_few(c, ": ", step >= 0 ? 2 : 1);
        }
        put_tree(c, object ? v->members[i].value : v->items[i], step, indent + step);
    }
    if (v->n && step >= 0)
        new_line(c, indent);
    put_char(c, object ? '}' : ']');
}

static void write_tree(struct buf *out, const struct json *v, int step) {
    struct cursor c;
    cursor_begin(&c, out);
    put_tree(&c, v, step, 0);
    cursor_end(&c);
}

void json_write(struct buf *out, const struct json *v) {
    write_tree(out, v, -1);
}

void json_write_indent(struct buf *out, const struct json *v, int spaces) {
    write_tree(out, v, MAX(spaces, 0));
}

void json_write_string(struct buf *out, struct str s) {
    struct cursor c;
    cursor_begin(&c, out);
    put_string(&c, s);
    cursor_end(&c);
}

struct str json_text(struct arena *a, const struct json *v) {
    cleanup_buf struct buf out = BUF_INIT;
    out.limit = SIZE_MAX / 4; /* the arena's limit is the one that counts */
    json_write(&out, v);
    return str_dup(a, buf_str(&out));
}
