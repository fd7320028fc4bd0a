#include "base/str.h"

#include "base/rand.h"

static char lower(char c) {
    return c >= 'A' && c <= 'Z' ? (char)(c + 32) : c;
}

bool str_eq_nocase(struct str a, struct str b) {
    if (a.n != b.n)
        return false;
    for (size_t i = 0; i < a.n; i++)
        if (lower(a.p[i]) != lower(b.p[i]))
            return false;
    return true;
}

int str_cmp(struct str a, struct str b) {
    size_t n = MIN(a.n, b.n);
    int c = n ? memcmp(a.p, b.p, n) : 0;
    if (c)
        return c;
    return a.n < b.n ? -1 : a.n > b.n;
}

bool str_starts(struct str s, struct str prefix) {
    return s.n >= prefix.n && (prefix.n == 0 || memcmp(s.p, prefix.p, prefix.n) == 0);
}

bool str_ends(struct str s, struct str suffix) {
    return s.n >= suffix.n && (suffix.n == 0 || memcmp(s.p + s.n - suffix.n, suffix.p, suffix.n) == 0);
}

ptrdiff_t str_index(struct str s, char c, size_t from) {
    if (from >= s.n)
        return -1;
    const char *p = memchr(s.p + from, c, s.n - from);
    return p ? p - s.p : -1;
}

ptrdiff_t str_rindex(struct str s, char c) {
    for (size_t i = s.n; i > 0; i--)
        if (s.p[i - 1] == c)
            return (ptrdiff_t)i - 1;
    return -1;
}

ptrdiff_t str_find(struct str s, struct str needle) {
    if (needle.n == 0)
        return 0;
    if (s.n < needle.n)
        return -1;
    const char *p = memmem(s.p, s.n, needle.p, needle.n);
    return p ? p - s.p : -1;
}

struct str str_skip(struct str s, size_t n) {
    n = MIN(n, s.n);
    return n ? (struct str){s.p + n, s.n - n} : s;
}

static bool is_space(char c) {
    return c == ' ' || (c >= '\t' && c <= '\r');
}

struct str str_trim(struct str s) {
    while (s.n && is_space(s.p[0]))
        s = str_skip(s, 1);
    while (s.n && is_space(s.p[s.n - 1]))
        s.n--;
    return s;
}

struct str str_split(struct str *rest, char sep) {
    struct str s = *rest;
    ptrdiff_t i = str_index(s, sep, 0);
    if (i < 0) {
        *rest = STR_NULL;
        return s;
    }
    *rest = (struct str){s.p + i + 1, s.n - (size_t)i - 1};
    return (struct str){s.p, (size_t)i};
}

bool str_cut(struct str s, char sep, struct str *before, struct str *after) {
    ptrdiff_t i = str_index(s, sep, 0);
    if (i < 0)
        return false;
    if (before)
        *before = (struct str){s.p, (size_t)i};
    if (after)
        *after = (struct str){s.p + i + 1, s.n - (size_t)i - 1};
    return true;
}

bool str_to_u64(struct str s, uint64_t *out) {
    uint64_t v = 0;
    if (s.n == 0)
        return false;
    for (size_t i = 0; i < s.n; i++) {
        if (s.p[i] < '0' || s.p[i] > '9')
            return false;
        if (__builtin_mul_overflow(v, 10, &v) || __builtin_add_overflow(v, (uint64_t)(s.p[i] - '0'), &v))
            return false;
    }
    *out = v;
    return true;
}

bool str_to_i64(struct str s, int64_t *out) {
    bool negative = s.n && s.p[0] == '-';
    uint64_t v;
    if (!str_to_u64(negative ? str_skip(s, 1) : s, &v) || v > (uint64_t)INT64_MAX + negative)
        return false;
    *out = negative ? (int64_t)(0 - v) : (int64_t)v;
    return true;
}

struct str str_dup(struct arena *a, struct str s) {
    return (struct str){arena_strndup(a, s.p, s.n), s.n};
}

struct str str_lower(struct arena *a, struct str s) {
    char *p = arena_strndup(a, s.p, s.n);
    for (size_t i = 0; i < s.n; i++)
        p[i] = lower(p[i]);
    return (struct str){p, s.n};
}

/* A 64-bit multiply-mix hash, seeded once a process so that a client cannot choose colliding names. */
uint64_t str_hash(struct str s) {
    static uint64_t seed;
    uint64_t k = __atomic_load_n(&seed, __ATOMIC_RELAXED);
    if (k == 0) {
        uint64_t fresh = rand_u64() | 1, zero = 0;
        __atomic_compare_exchange_n(&seed, &zero, fresh, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
        k = __atomic_load_n(&seed, __ATOMIC_RELAXED);
    }
    uint64_t h = k ^ (s.n * 0x9E3779B97F4A7C15u);
    const char *p = s.p;
    size_t n = s.n;
    while (n >= 8) {
        uint64_t w;
        memcpy(&w, p, 8);
        h = (h ^ w) * 0xD6E8FEB86659FD93u;
        h ^= h >> 32;
        p += 8;
        n -= 8;
    }
    uint64_t tail = 0;
    if (n)
        memcpy(&tail, p, n);
    h = (h ^ tail) * 0xD6E8FEB86659FD93u;
    h ^= h >> 29;
    h *= 0x94D049BB133111EBu;
    return h ^ (h >> 32);
}

bool str_is_utf8(struct str s) {
    const unsigned char *p = (const unsigned char *)s.p, *end = p + s.n;
    while (p < end) {
        if (*p < 0x80) {
            p++;
            continue;
        }
        int more;
        uint32_t c, least;
        if ((*p & 0xE0) == 0xC0)
            more = 1, c = *p & 0x1F, least = 0x80;
        else if ((*p & 0xF0) == 0xE0)
            more = 2, c = *p & 0x0F, least = 0x800;
        else if ((*p & 0xF8) == 0xF0)
            more = 3, c = *p & 0x07, least = 0x10000;
        else
            return false;
        if (end - p <= more)
            return false;
        for (int i = 1; i <= more; i++) {
            if ((p[i] & 0xC0) != 0x80)
                return false;
            c = c << 6 | (p[i] & 0x3F);
        }
        if (c < least || c > 0x10FFFF || (c >= 0xD800 && c <= 0xDFFF))
            return false;
        p += more + 1;
    }
    return true;
}
