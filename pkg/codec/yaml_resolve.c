/* The implicit types of plain scalars, as Go's yaml.v2 has them. */
#include <float.h>
#include <math.h>
#include <stdlib.h>

#include "codec/yaml_private.h"

#define NUMBER_MAX 400 /* longer digits are text; more than any double needs */

static bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

/* --- words ------------------------------------------------------------------------------------------------------- */

struct word {
    const char *text; /* also matches with its first letter, or all, in upper case */
    enum yaml_kind kind;
    double value;
};

static const struct word words[] = {
    {"null", YAML_NULL, 0},    {"~", YAML_NULL, 0},   {"true", YAML_BOOL, 1},  {"yes", YAML_BOOL, 1},
    {"on", YAML_BOOL, 1},      {"y", YAML_BOOL, 1},   {"false", YAML_BOOL, 0}, {"no", YAML_BOOL, 0},
    {"off", YAML_BOOL, 0},     {"n", YAML_BOOL, 0},   {".inf", YAML_FLOAT, 1}, {"+.inf", YAML_FLOAT, 1},
    {"-.inf", YAML_FLOAT, -1}, {"<<", YAML_MERGE, 0},
};

static char upper(char c) {
    return c >= 'a' && c <= 'z' ? (char)(c - 32) : c;
}

/* Whether s is word in lower case, all in upper case, or with its first letter in upper case. */
static bool is_word(struct str s, struct str word) {
    size_t first = 0;
    bool lower = true, title = true, caps = true;
    if (s.n != word.n)
        return false;
    while (first < word.n && upper(word.p[first]) == word.p[first])
        first++;
    for (size_t i = 0; i < s.n; i++) {
        lower &= s.p[i] == word.p[i];
        caps &= s.p[i] == upper(word.p[i]);
        title &= s.p[i] == (i == first ? upper(word.p[i]) : word.p[i]);
    }
    return lower || title || caps;
}

static enum yaml_kind resolve_word(struct str s, struct json *out) {
    for (size_t i = 0; i < ARRAY_LEN(words); i++) {
        if (!is_word(s, str_c(words[i].text)))
            continue;
        if (words[i].kind == YAML_BOOL)
            *out = (struct json){.type = JSON_BOOL, .b = words[i].value > 0};
        else if (words[i].kind == YAML_FLOAT)
            *out = (struct json){.type = JSON_DOUBLE, .d = words[i].value * (double)INFINITY};
        else if (words[i].kind == YAML_NULL)
            *out = (struct json){.type = JSON_NULL};
        return words[i].kind;
    }
    if (str_eq_c(s, ".nan") || str_eq_c(s, ".NaN") || str_eq_c(s, ".NAN")) {
        *out = (struct json){.type = JSON_DOUBLE, .d = (double)NAN};
        return YAML_FLOAT;
    }
    return YAML_STR;
}

/* --- timestamps -------------------------------------------------------------------------------------------------- */

/* Reads least to most digits; false without them or out of range. */
static bool take_number(struct str *s, size_t least, size_t most, int from, int to) {
    size_t n = 0;
    int v = 0;
    for (; n < s->n && n < most && is_digit(s->p[n]); n++)
        v = v * 10 + (s->p[n] - '0');
    *s = str_skip(*s, n);
    return n >= least && v >= from && v <= to;
}

static bool take_char(struct str *s, char c) {
    if (s->n == 0 || s->p[0] != c)
        return false;
    *s = str_skip(*s, 1);
    return true;
}

static bool take_zone(struct str *s) {
    if (take_char(s, 'Z'))
        return true;
    return (take_char(s, '+') || take_char(s, '-')) && take_number(s, 2, 2, 0, 24) && take_char(s, ':') &&
           take_number(s, 2, 2, 0, 60);
}

/* 2006-1-2, 2006-1-2 15:4:5 without, 2006-1-2T15:4:5 with a zone; fractions of seconds allowed. */
static bool is_timestamp(struct str s) {
    if (!take_number(&s, 4, 4, 0, 9999) || !take_char(&s, '-') || !take_number(&s, 1, 2, 1, 12) ||
        !take_char(&s, '-') || !take_number(&s, 1, 2, 1, 31))
        return false;
    if (s.n == 0)
        return true;
    bool zone = take_char(&s, 'T') || take_char(&s, 't');
    if (!zone && !take_char(&s, ' '))
        return false;
    if (!take_number(&s, 1, 2, 0, 23) || !take_char(&s, ':') || !take_number(&s, 1, 2, 0, 59) || !take_char(&s, ':') ||
        !take_number(&s, 1, 2, 0, 59))
        return false;
    if (take_char(&s, '.') && !take_number(&s, 1, 9, 0, INT32_MAX))
        return false;
    return (!zone || take_zone(&s)) && s.n == 0;
}

bool yaml_is_base60(struct str s) {
    if (s.n && (s.p[0] == '-' || s.p[0] == '+'))
        s = str_skip(s, 1);
    if (s.n == 0 || !is_digit(s.p[0]))
        return false;
    while (s.n && (is_digit(s.p[0]) || s.p[0] == '_'))
        s = str_skip(s, 1);
    if (s.n == 0 || s.p[0] != ':')
        return false;
    while (take_char(&s, ':'))
        if (!take_number(&s, 1, 2, 0, 59))
            return false;
    if (take_char(&s, '.'))
        while (s.n && (is_digit(s.p[0]) || s.p[0] == '_'))
            s = str_skip(s, 1);
    return s.n == 0;
}

/* --- numbers ----------------------------------------------------------------------------------------------------- */

/* The base a number's prefix tells; *digits gets what follows it. */
static unsigned take_base(const char *s, const char **digits) {
    *digits = s;
    if (s[0] != '0' || !s[1])
        return 10;
    *digits = s + 2;
    switch (s[1] | 0x20) {
    case 'x':
        return 16;
    case 'o':
        return 8;
    case 'b':
        return 2;
    }
    *digits = s + 1;
    return 8;
}

/* An integer in any base as int64, or as a double beyond it; false on other text. s has no sign. */
static bool read_int(const char *s, bool negative, struct json *out) {
    const char *p;
    unsigned base = take_base(s, &p);
    uint64_t v = 0;
    double d = 0;
    bool fits = *p != 0;
    if (!fits)
        return false;
    for (; *p; p++) {
        unsigned digit = is_digit(*p)                               ? (unsigned)(*p - '0')
                         : (*p | 0x20) >= 'a' && (*p | 0x20) <= 'f' ? (unsigned)((*p | 0x20) - 'a' + 10)
                                                                    : 99;
        if (digit >= base)
            return false;
        fits &= !__builtin_mul_overflow(v, base, &v) && !__builtin_add_overflow(v, digit, &v);
        d = d * base + digit;
    }
    if (fits && v <= (uint64_t)INT64_MAX + negative) {
        *out = (struct json){.type = JSON_INT, .i = (int64_t)(negative ? 0 - v : v)};
        return true;
    }
    if (base == 10)
        return false; /* read_float() rounds better */
    *out = (struct json){.type = JSON_DOUBLE, .d = negative ? -d : d};
    return true;
}

/* [-+]? (.d+ | d+ (.d*)?) ([eE][-+]?d+)? */
static bool read_float(const char *s, struct json *out) {
    const char *p = s;
    size_t whole = 0, fraction = 0;
    p += *p == '-' || *p == '+';
    for (; is_digit(*p); p++)
        whole++;
    if (*p == '.')
        for (p++; is_digit(*p); p++)
            fraction++;
    if (whole + fraction == 0)
        return false;
    if ((*p | 0x20) == 'e') {
        p++;
        p += *p == '-' || *p == '+';
        if (!is_digit(*p))
            return false;
        while (is_digit(*p))
            p++;
    }
    double d = *p ? 0 : strtod(s, NULL);
    if (*p || d > DBL_MAX || d < -DBL_MAX)
        return false;
    *out = (struct json){.type = JSON_DOUBLE, .d = d};
    return true;
}

static enum yaml_kind resolve_number(struct str s, struct json *out) {
    char plain[NUMBER_MAX + 1];
    size_t n = 0;
    if (s.n > NUMBER_MAX || memchr(s.p, 0, s.n))
        return YAML_STR;
    for (size_t i = 0; i < s.n; i++)
        if (s.p[i] != '_' || s.p[0] == '.')
            plain[n++] = s.p[i];
    plain[n] = 0;
    bool sign = plain[0] == '-' || plain[0] == '+';
    if (read_int(plain + sign, plain[0] == '-', out))
        return YAML_INT;
    return read_float(plain, out) ? YAML_FLOAT : YAML_STR;
}

enum yaml_kind yaml_resolve(struct str s, struct json *out) {
    if (s.n == 0) {
        *out = (struct json){.type = JSON_NULL};
        return YAML_NULL;
    }
    enum yaml_kind kind = s.n <= 5 ? resolve_word(s, out) : YAML_STR;
    char c = s.p[0];
    if (kind != YAML_STR || !(is_digit(c) || c == '-' || c == '+' || c == '.'))
        return kind;
    return is_timestamp(s) ? YAML_TIMESTAMP : resolve_number(s, out);
}
