/*
 * A string is a pointer and a length; it owns nothing. Where a C string is needed it is NUL-terminated by its
 * maker (arena_strndup and friends always terminate).
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/mem.h"

struct str {
    const char *p;
    size_t n;
};

#define STR(lit) ((struct str){"" lit, sizeof(lit) - 1})
#define STR_NULL ((struct str){NULL, 0})
#define STR_INIT(lit) \
    { "" lit, sizeof(lit) - 1 } /* static initialiser */
/* For printf: "%.*s", STR_ARG(s) */
#define STR_ARG(s) (int)(s).n, (s).p ? (s).p : ""

static inline struct str str_n(const char *p, size_t n) {
    return (struct str){p, n};
}
static inline struct str str_c(const char *c) {
    return (struct str){c, c ? strlen(c) : 0};
}
static inline bool str_eq(struct str a, struct str b) {
    return a.n == b.n && (a.n == 0 || memcmp(a.p, b.p, a.n) == 0);
}
static inline bool str_eq_c(struct str a, const char *b) {
    return str_eq(a, str_c(b));
}
bool str_eq_nocase(struct str a, struct str b); /* ASCII */
int str_cmp(struct str a, struct str b);        /* bytewise order, as strcmp */
bool str_starts(struct str s, struct str prefix);
bool str_ends(struct str s, struct str suffix);
/* Index of the first c at or after from, or -1. */
ptrdiff_t str_index(struct str s, char c, size_t from);
ptrdiff_t str_rindex(struct str s, char c);
ptrdiff_t str_find(struct str s, struct str needle);
/* s without its first n bytes (n may exceed s.n). */
struct str str_skip(struct str s, size_t n);
struct str str_trim(struct str s); /* ASCII white space off both ends */
/* Cuts *rest at the first sep: returns what stands before it and leaves *rest after it. Once the last piece was
 * returned rest->p is NULL, so `while (rest.p) piece = str_split(&rest, ',')` sees every piece, empty ones too. */
struct str str_split(struct str *rest, char sep);
/* Splits s at the first sep; false (and outputs untouched) when there is none. Outputs may be NULL. */
bool str_cut(struct str s, char sep, struct str *before, struct str *after);
/* Whole s as a decimal int64; false on empty, junk or overflow, *out untouched. */
bool str_to_i64(struct str s, int64_t *out);
bool str_to_u64(struct str s, uint64_t *out);
struct str str_dup(struct arena *a, struct str s); /* NUL-terminated copy */
struct str str_printf(struct arena *a, const char *fmt, ...) PRINTF_LIKE(2, 3);
struct str str_lower(struct arena *a, struct str s);
uint64_t str_hash(struct str s);
/* Whether s is valid UTF-8 (no surrogates, no overlong forms). */
bool str_is_utf8(struct str s);
