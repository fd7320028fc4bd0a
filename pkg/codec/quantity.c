/*
 * Quantities as fixed-point numbers in limbs of nine decimal digits: limb NANO holds the nanos, the limbs below it what
 * a binary multiplication still needs before the result is rounded to nanos, the limbs above it the whole number.
 * (No 128-bit integers: 32-bit machines lack them.)
 */
#include "codec/quantity.h"

#include <stdio.h>

#define BILLION 1000000000u
#define NANO 3
#define UNIT (NANO + 1)
#define LIMBS (UNIT + 9)
#define DIGITS ((LIMBS - UNIT) * 9) /* of the largest whole number */

enum format { DECIMAL_SI, DECIMAL_EXPONENT, BINARY_SI };

struct quantity {
    bool negative;
    enum format format;
    uint32_t limb[LIMBS]; /* least first */
};

/* --- arithmetic on magnitudes ------------------------------------------------------------------------------------ */

static bool is_zero(const struct quantity *q) {
    uint32_t any = 0;
    for (int i = 0; i < LIMBS; i++)
        any |= q->limb[i];
    return any == 0;
}

static int cmp_magnitude(const struct quantity *a, const struct quantity *b) {
    for (int i = LIMBS - 1; i >= 0; i--)
        if (a->limb[i] != b->limb[i])
            return a->limb[i] < b->limb[i] ? -1 : 1;
    return 0;
}

/* q * factor + the carry into limb `from`; false when it does not fit. */
static bool multiply_add(struct quantity *q, int from, uint32_t factor, uint64_t carry) {
    for (int i = from; i < LIMBS; i++) {
        carry += (uint64_t)q->limb[i] * factor;
        q->limb[i] = (uint32_t)(carry % BILLION);
        carry /= BILLION;
    }
    return carry == 0;
}

/* Divides, from limb `from` up, and returns the remainder. */
static uint32_t divide(struct quantity *q, int from, uint32_t by) {
    uint64_t rest = 0;
    for (int i = LIMBS - 1; i >= from; i--) {
        rest = rest * BILLION + q->limb[i];
        q->limb[i] = (uint32_t)(rest / by);
        rest %= by;
    }
    return (uint32_t)rest;
}

/* Clears everything below limb `at` and, when there was something, rounds up. */
static bool round_up(struct quantity *q, int at, bool sticky) {
    for (int i = 0; i < at; i++) {
        sticky |= q->limb[i] != 0;
        q->limb[i] = 0;
    }
    return !sticky || multiply_add(q, at, 1, 1);
}

static void set_magnitude(struct quantity *q, uint64_t v) {
    memset(q->limb, 0, sizeof(q->limb));
    for (int i = UNIT; v; i++, v /= BILLION)
        q->limb[i] = (uint32_t)(v % BILLION);
}

/* The whole part, at most `most`. */
static uint64_t magnitude(const struct quantity *q, uint64_t most) {
    uint64_t v = 0;
    for (int i = LIMBS - 1; i >= UNIT; i--)
        if (__builtin_mul_overflow(v, BILLION, &v) || __builtin_add_overflow(v, q->limb[i], &v) || v > most)
            return most;
    return v;
}

static const uint32_t tens[9] = {1, 10, 100, 1000, 10000, 100000, 1000000, 10000000, 100000000};

/* Adds digit * 10^power; false when that is too large, *sticky when too small to hold. */
static bool put_digit(struct quantity *q, unsigned digit, int64_t power, bool *sticky) {
    int64_t at = power + (int64_t)UNIT * 9;
    if (digit == 0)
        return true;
    if (at >= (int64_t)LIMBS * 9)
        return false;
    if (at < 0)
        *sticky = true;
    else
        q->limb[at / 9] += digit * tens[at % 9];
    return true;
}

/* --- parsing ----------------------------------------------------------------------------------------------------- */

struct suffix {
    const char *text;
    enum format format;
    int exponent; /* of 10 or of 1024 */
};

/* Sorted by exponent within a format: the writer looks suffixes up too. */
static const struct suffix suffixes[] = {
    {"n", DECIMAL_SI, -9}, {"u", DECIMAL_SI, -6}, {"m", DECIMAL_SI, -3}, {"", DECIMAL_SI, 0},
    {"k", DECIMAL_SI, 3},  {"M", DECIMAL_SI, 6},  {"G", DECIMAL_SI, 9},  {"T", DECIMAL_SI, 12},
    {"P", DECIMAL_SI, 15}, {"E", DECIMAL_SI, 18}, {"Ki", BINARY_SI, 1},  {"Mi", BINARY_SI, 2},
    {"Gi", BINARY_SI, 3},  {"Ti", BINARY_SI, 4},  {"Pi", BINARY_SI, 5},  {"Ei", BINARY_SI, 6},
};

static bool parse_suffix(struct str s, struct suffix *out) {
    for (size_t i = 0; i < ARRAY_LEN(suffixes); i++) {
        if (str_eq_c(s, suffixes[i].text)) {
            *out = suffixes[i];
            return true;
        }
    }
    if (s.n < 2 || (s.p[0] | 0x20) != 'e')
        return false;
    int64_t exponent;
    s = str_skip(s, 1);
    if (s.p[0] == '+' && s.n > 1 && s.p[1] != '-')
        s = str_skip(s, 1);
    if (!str_to_i64(s, &exponent))
        return false;
    *out = (struct suffix){"", DECIMAL_EXPONENT, (int)MAX(MIN(exponent, 1000), -1000)};
    return true;
}

static bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

/* The number of digits s begins with. */
static size_t digits(struct str s) {
    size_t n = 0;
    while (n < s.n && is_digit(s.p[n]))
        n++;
    return n;
}

static bool scale_binary(struct quantity *q, int exponent, bool sticky) {
    struct quantity most = {0};
    bool fits = true;
    for (int i = 0; i < exponent; i++)
        fits &= multiply_add(q, 0, 1024, 0);
    fits = fits && round_up(q, NANO, sticky);
    set_magnitude(&most, INT64_MAX);
    if (!fits || cmp_magnitude(q, &most) > 0)
        memcpy(q->limb, most.limb, sizeof(q->limb));
    return true;
}

static bool parse(struct str s, struct quantity *q) {
    struct suffix suffix;
    *q = (struct quantity){0};
    if (s.n == 0 || s.n > QUANTITY_TEXT_MAX)
        return false;
    q->negative = s.p[0] == '-';
    if (s.p[0] == '-' || s.p[0] == '+')
        s = str_skip(s, 1);
    struct str whole = str_n(s.p, digits(s)), fraction = STR("");
    s = str_skip(s, whole.n);
    if (s.n && s.p[0] == '.') {
        s = str_skip(s, 1);
        fraction = str_n(s.p, digits(s));
        s = str_skip(s, fraction.n);
    }
    if (whole.n + fraction.n == 0 || !parse_suffix(s, &suffix))
        return false;
    q->format = suffix.format;
    int64_t shift = suffix.format == BINARY_SI ? 0 : suffix.exponent;
    bool sticky = false, fits = true;
    for (size_t i = 0; i < whole.n; i++)
        fits &= put_digit(q, (unsigned)(whole.p[i] - '0'), (int64_t)(whole.n - 1 - i) + shift, &sticky);
    for (size_t i = 0; i < fraction.n; i++)
        fits &= put_digit(q, (unsigned)(fraction.p[i] - '0'), shift - 1 - (int64_t)i, &sticky);
    if (suffix.format == BINARY_SI)
        return fits && scale_binary(q, suffix.exponent, sticky);
    return fits && round_up(q, NANO, sticky);
}

/* --- reading ----------------------------------------------------------------------------------------------------- */

bool quantity_valid(struct str s) {
    struct quantity q;
    return parse(s, &q);
}

/* The value times factor, rounded away from zero. */
static bool scaled(struct str s, uint32_t factor, int64_t *out) {
    struct quantity q;
    *out = -1;
    if (!parse(s, &q))
        return false;
    uint64_t most = (uint64_t)INT64_MAX + q.negative;
    uint64_t v = multiply_add(&q, 0, factor, 0) && round_up(&q, UNIT, false) ? magnitude(&q, most) : most;
    *out = q.negative ? (int64_t)(0 - v) : (int64_t)v;
    return true;
}

bool quantity_value(struct str s, int64_t *out) {
    return scaled(s, 1, out);
}

bool quantity_milli(struct str s, int64_t *out) {
    return scaled(s, 1000, out);
}

int quantity_cmp(struct str a, struct str b) {
    struct quantity qa, qb;
    if (!parse(a, &qa))
        qa = (struct quantity){0};
    if (!parse(b, &qb))
        qb = (struct quantity){0};
    qa.negative = qa.negative && !is_zero(&qa);
    qb.negative = qb.negative && !is_zero(&qb);
    if (qa.negative != qb.negative)
        return qa.negative ? -1 : 1;
    int c = cmp_magnitude(&qa, &qb);
    return qa.negative ? -c : c;
}

/* --- canonical text ---------------------------------------------------------------------------------------------- */

static const char *suffix_text(enum format format, int exponent) {
    for (size_t i = 0; i < ARRAY_LEN(suffixes); i++)
        if (suffixes[i].format == format && suffixes[i].exponent == exponent)
            return suffixes[i].text;
    return NULL;
}

/* Digits of q in nanos without leading zeros, NUL-terminated. */
static size_t nano_digits(const struct quantity *q, char out[DIGITS + 10]) {
    char all[DIGITS + 10], *p = all;
    for (int i = LIMBS - 1; i >= NANO; i--)
        p += snprintf(p, 10, "%09u", (unsigned)q->limb[i]);
    const char *from = all;
    while (*from == '0')
        from++;
    size_t n = (size_t)(p - from);
    memcpy(out, from, n + 1);
    return n;
}

static struct str decimal_text(struct arena *a, const struct quantity *q) {
    char text[DIGITS + 10];
    size_t n = nano_digits(q, text);
    int exponent = -9;
    while (n > 3 && memcmp(text + n - 3, "000", 3) == 0) {
        n -= 3;
        exponent += 3;
    }
    const char *sign = q->negative ? "-" : "";
    const char *suffix = q->format == DECIMAL_EXPONENT ? NULL : suffix_text(DECIMAL_SI, exponent);
    if (exponent == 0)
        suffix = "";
    if (suffix)
        return str_printf(a, "%s%.*s%s", sign, (int)n, text, suffix);
    return str_printf(a, "%s%.*se%d", sign, (int)n, text, exponent);
}

static struct str binary_text(struct arena *a, const struct quantity *q) {
    uint64_t v = magnitude(q, INT64_MAX);
    int exponent = 0;
    for (; v && v % 1024 == 0 && exponent < 6; exponent++)
        v /= 1024;
    return str_printf(a, "%s%llu%s", q->negative ? "-" : "", (unsigned long long)v,
                      exponent ? suffix_text(BINARY_SI, exponent) : "");
}

/* Below 1024, or with a fraction, a binary quantity is written as a decimal one. */
static struct str canonical(struct arena *a, const struct quantity *q) {
    struct quantity kibi = {0}, decimal = *q;
    if (is_zero(q))
        return str_dup(a, STR("0"));
    set_magnitude(&kibi, 1024);
    if (q->format != BINARY_SI)
        return decimal_text(a, q);
    if (q->limb[NANO] == 0 && cmp_magnitude(q, &kibi) >= 0)
        return binary_text(a, q);
    decimal.format = DECIMAL_SI;
    return decimal_text(a, &decimal);
}

struct str quantity_canonical(struct arena *a, struct str s) {
    struct quantity q;
    return parse(s, &q) ? canonical(a, &q) : STR_NULL;
}

static struct quantity from_int(int64_t v, enum format format) {
    struct quantity q = {.negative = v < 0, .format = format};
    set_magnitude(&q, v < 0 ? 0 - (uint64_t)v : (uint64_t)v);
    return q;
}

struct str quantity_from_milli(struct arena *a, int64_t milli) {
    struct quantity q = from_int(milli, DECIMAL_SI);
    q.limb[NANO] = divide(&q, UNIT, 1000) * (BILLION / 1000);
    return canonical(a, &q);
}

struct str quantity_from_bytes(struct arena *a, int64_t bytes) {
    struct quantity q = from_int(bytes, BINARY_SI);
    return canonical(a, &q);
}
