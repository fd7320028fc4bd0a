/* What the JSON, YAML and patch sources share; private to pkg/codec. */
#pragma once

#include <float.h>
#include <stdio.h>
#include <stdlib.h>

#include "codec/json.h"

/* Non-zero when one of the eight bytes of w is '"', '\\', below 0x20 or above 0x7F. A borrow may flag a byte above a
 * special one too; whoever gets non-zero looks at the bytes one by one. */
static inline uint64_t json_special(uint64_t w) {
    const uint64_t ones = UINT64_C(0x0101010101010101), highs = ones << 7;
    uint64_t quote = w ^ (ones * '"'), slash = w ^ (ones * '\\');
    return ((w - ones * 0x20) | (quote - ones) | (slash - ones) | w) & highs;
}

/* 1 for the ASCII bytes that stand for themselves in a string. */
extern const unsigned char json_plain[256];

/* Writes c (a scalar value) as UTF-8, 1 to 4 bytes, and returns how many. */
int json_utf8_encode(char *out, uint32_t c);

/* Writes d as Go's encoder does: shortest digits that read back as d, exponent form below 1e-6 and from 1e21 on; but
 * whole numbers that int64 holds with all their digits. NaN and infinities, which JSON cannot say, become null. */
void json_write_double(struct buf *out, double d);

/* A hash index over the keys of an array whose elements begin with their struct str key. Slots hold element number
 * + 1, 0 when empty. */
struct json_index {
    uint32_t *slots;
    uint32_t mask;
};

bool json_index_init(struct json_index *ix, size_t keys); /* for at most that many keys; false: no memory */
void json_index_fini(struct json_index *ix);
/* The slot of key, or the empty slot where it belongs. */
uint32_t *json_index_find(const struct json_index *ix, struct str key, const void *elements, size_t element_size);

/* Objects from this size on are looked up through an index when every member of another is looked up in them. */
#define JSON_INDEX_FROM 24

/* A view of an object for many lookups: an index for a large object, the plain scan for a small one. */
struct json_lookup {
    const struct json *obj;
    struct json_index index;
};
void json_lookup_init(struct json_lookup *l, const struct json *obj);
void json_lookup_fini(struct json_lookup *l);
struct json_member *json_lookup_find(const struct json_lookup *l, struct str key);
