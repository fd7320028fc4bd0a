/* The JSON writer: runs of plain bytes are copied whole; escapes are those of Go's encoder without HTML escaping. */
#include <math.h>

#include "codec/json.h"
#include "codec/json_private.h"

/* buf_reserve() without the call when there is room. */
static inline char *room(struct buf *b, size_t n) {
    if (n < b->cap - b->n && b->n + n <= b->limit && b->p)
        return b->p + b->n;
    return buf_reserve(b, n);
}

static inline void put(struct buf *out, const char *data, size_t n) {
    char *p = room(out, n);
    if (!p)
        return;
    memcpy(p, data, n);
    out->n += n;
}

static inline void put_char(struct buf *out, char c) {
    char *p = room(out, 1);
    if (!p)
        return;
    *p = c;
    out->n++;
}

/* The writers above leave out the NUL behind the data; this puts it. */
static void terminate(struct buf *out) {
    if (out->p)
        out->p[out->n] = 0;
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
static size_t put_escape(struct buf *out, const char *p, const char *end) {
    static const char shorts[256] = {
        ['"'] = '"', ['\\'] = '\\', ['\b'] = 'b', ['\f'] = 'f', ['\n'] = 'n', ['\r'] = 'r', ['\t'] = 't'};
    static const char hex[] = "0123456789abcdef";
    unsigned char c = (unsigned char)*p;
    if (c == 0xE2) {
        if (end - p >= 3 && (unsigned char)p[1] == 0x80 && ((unsigned char)p[2] | 1) == 0xA9) {
            put(out, (unsigned char)p[2] == 0xA8 ? "\\u2028" : "\\u2029", 6);
            return 3;
        }
        put_char(out, *p);
    } else if (shorts[c]) {
        put(out, (char[]){'\\', shorts[c]}, 2);
    } else {
        put(out, (char[]){'\\', 'u', '0', '0', hex[c >> 4], hex[c & 15]}, 6);
    }
    return 1;
}

static void put_string(struct buf *out, struct str s) {
    const char *p = s.p, *end = p + s.n;
    put_char(out, '"');
    while (p < end) {
        const char *stop = skip_copied(p, end);
        if (stop > p)
            put(out, p, (size_t)(stop - p));
        p = stop < end ? stop + put_escape(out, stop, end) : stop;
        if (out->failed)
            return;
    }
    put_char(out, '"');
}

void json_write_string(struct buf *out, struct str s) {
    put_string(out, s);
    terminate(out);
}

/* --- numbers ----------------------------------------------------------------------------------------------------- */

static void put_int(struct buf *out, int64_t i) {
    char digits[24], *end = digits + sizeof(digits), *p = end;
    uint64_t v = i < 0 ? 0 - (uint64_t)i : (uint64_t)i;
    do
        *--p = (char)('0' + v % 10);
    while (v /= 10);
    if (i < 0)
        *--p = '-';
    put(out, p, (size_t)(end - p));
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

static void put_double(struct buf *out, double d) {
    if (!isfinite(d)) {
        put(out, "null", 4);
        return;
    }
    double abs = fabs(d);
    if (d < 0) /* and no sign for -0: it reads back as the integer 0 */
        put_char(out, '-');
    /* Where Go pads the shortest digits with zeros, the whole number itself is written: what is read back, an integer,
     * then equals what was written. */
    if (abs < 9223372036854775808.0 && abs == (double)(int64_t)abs) {
        put_int(out, (int64_t)abs);
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
    put(out, text, (size_t)n);
}

void json_write_double(struct buf *out, double d) {
    put_double(out, d);
    terminate(out);
}

/* --- trees ------------------------------------------------------------------------------------------------------- */

static void put_scalar(struct buf *out, const struct json *v) {
    switch (v->type) {
    case JSON_BOOL:
        put(out, v->b ? "true" : "false", v->b ? 4 : 5);
        break;
    case JSON_INT:
        put_int(out, v->i);
        break;
    case JSON_DOUBLE:
        put_double(out, v->d);
        break;
    case JSON_STRING:
        put_string(out, v->s);
        break;
    default:
        put(out, "null", 4);
    }
}

static void new_line(struct buf *out, int spaces) {
    put_char(out, '\n');
    char *p = spaces > 0 ? room(out, (size_t)spaces) : NULL;
    if (p) {
        memset(p, ' ', (size_t)spaces);
        out->n += (size_t)spaces;
    }
}

/* step < 0: compact. */
static void put_tree(struct buf *out, const struct json *v, int step, int indent) {
    if (!v || (v->type != JSON_OBJECT && v->type != JSON_ARRAY)) {
        if (v)
            put_scalar(out, v);
        else
            put(out, "null", 4);
        return;
    }
    bool object = v->type == JSON_OBJECT;
    put_char(out, object ? '{' : '[');
    for (uint32_t i = 0; i < v->n && !out->failed; i++) {
        if (i)
            put_char(out, ',');
        if (step >= 0)
            new_line(out, indent + step);
        if (object) {
            put_string(out, v->members[i].key);
            put(out, ": ", step >= 0 ? 2 : 1);
        }
        put_tree(out, object ? v->members[i].value : v->items[i], step, indent + step);
    }
    if (v->n && step >= 0)
        new_line(out, indent);
    put_char(out, object ? '}' : ']');
}

void json_write(struct buf *out, const struct json *v) {
    put_tree(out, v, -1, 0);
    terminate(out);
}

void json_write_indent(struct buf *out, const struct json *v, int spaces) {
    put_tree(out, v, MAX(spaces, 0), 0);
    terminate(out);
}

struct str json_text(struct arena *a, const struct json *v) {
    cleanup_buf struct buf out = BUF_INIT;
    out.limit = SIZE_MAX / 4; /* the arena's limit is the one that counts */
    json_write(&out, v);
    return str_dup(a, buf_str(&out));
}
