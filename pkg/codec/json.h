/*
 * JSON as a tree in an arena. Integers keep all 64 bits; other numbers are doubles. Members of an object keep their
 * order; the parser refuses or reports duplicates. A tree belongs to its arena: trees of stored objects are
 * immutable and shared between threads (const), trees of a request are edited freely by its one owner. Subtrees may
 * be shared between trees whose arenas outlive each other; json_copy() makes an independent one.
 *
 * Pure: no I/O.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/base.h"

enum json_type { JSON_NULL, JSON_BOOL, JSON_INT, JSON_DOUBLE, JSON_STRING, JSON_ARRAY, JSON_OBJECT, JSON_TYPE_MAX };

struct json_member;

struct json {
    enum json_type type;
    uint32_t n, cap; /* items or members */
    union {
        bool b;
        int64_t i;
        double d;
        struct str s; /* decoded, valid UTF-8, NUL-terminated */
        struct json **items;
        struct json_member *members;
    };
};

struct json_member {
    struct str key;
    struct json *value;
};

#define JSON_DEPTH_MAX 512

struct json_limits {
    int depth;      /* nesting allowed; 0: 128 */
    uint32_t nodes; /* values allowed; 0: 1 million */
    /* Called for each duplicated key (the last value wins); NULL: duplicates are an error. path is like "spec.a[1].b". */
    void (*duplicate)(void *arg, struct str path);
    void *arg;
};

/* Parses one JSON text (RFC 8259, strict: UTF-8 too) with nothing but white space behind it. Integers beyond int64 become
 * doubles. A tree takes about four times the size of its text. limits may be NULL. NULL on error: -EINVAL, -E2BIG in
 * err->code, message with the line and column. Strings may point into the text's copy; text need not stay. */
struct json *json_parse(struct arena *a, struct str text, const struct json_limits *limits, struct error *err);
/* Compact output, members in order. Strings are escaped as Go's encoder does without HTML escaping. */
void json_write(struct buf *out, const struct json *v);
void json_write_indent(struct buf *out, const struct json *v, int spaces);
void json_write_string(struct buf *out, struct str s);
struct str json_text(struct arena *a, const struct json *v); /* compact, in the arena */
const char *json_type_name(const struct json *v);            /* "null", "bool", "number", "string", "array", "object" */

/* --- making values (all in arena a) --- */
struct json *json_null(struct arena *a);
struct json *json_bool(struct arena *a, bool b);
struct json *json_int(struct arena *a, int64_t i);
struct json *json_double(struct arena *a, double d);
struct json *json_str(struct arena *a, struct str s); /* copies s */
struct json *json_cstr(struct arena *a, const char *s);
struct json *json_strf(struct arena *a, const char *fmt, ...) PRINTF_LIKE(2, 3);
struct json *json_array(struct arena *a);
struct json *json_object(struct arena *a);
struct json *json_copy(struct arena *a, const struct json *v); /* deep; NULL for NULL */

/* --- reading; every reader takes NULL and answers "absent" --- */
struct json *json_get(const struct json *obj, struct str key);
struct json *json_get_c(const struct json *obj, const char *key);
/* Walks dotted member names: json_at(pod, "spec.nodeName"). For keys with dots use json_get. */
struct json *json_at(const struct json *v, const char *path);
struct json *json_item(const struct json *arr, size_t i);
static inline size_t json_len(const struct json *v) {
    return v && (v->type == JSON_ARRAY || v->type == JSON_OBJECT) ? v->n : 0;
}
struct str json_as_str(const struct json *v);                 /* empty (p != NULL) when absent or no string */
int64_t json_as_int(const struct json *v, int64_t otherwise); /* JSON_INT, or a JSON_DOUBLE that is whole */
double json_as_double(const struct json *v, double otherwise);
bool json_as_bool(const struct json *v, bool otherwise);
struct str json_str_at(const struct json *v, const char *path);
int64_t json_int_at(const struct json *v, const char *path, int64_t otherwise);
bool json_bool_at(const struct json *v, const char *path, bool otherwise);
static inline bool json_is(const struct json *v, enum json_type t) {
    return v && v->type == t;
}
/* Deep equality; member order does not matter, 1 equals 1.0. NULL equals only NULL. */
bool json_equal(const struct json *a, const struct json *b);

/* --- editing: only trees the caller owns. What is not of the type named is left alone; a NULL value is JSON null. The
 * arena must have room (arena_alloc aborts): an arena for a request's trees wants some sixteen times the size its body may
 * have. --- */
void json_set(struct arena *a, struct json *obj, struct str key, struct json *value); /* adds or replaces; copies key */
void json_set_c(struct arena *a, struct json *obj, const char *key, struct json *value);
void json_set_str(struct arena *a, struct json *obj, const char *key, struct str s);
void json_set_cstr(struct arena *a, struct json *obj, const char *key, const char *s);
void json_set_int(struct arena *a, struct json *obj, const char *key, int64_t i);
void json_set_bool(struct arena *a, struct json *obj, const char *key, bool b);
bool json_del(struct json *obj, struct str key); /* whether it was there */
bool json_del_c(struct json *obj, const char *key);
void json_append(struct arena *a, struct json *arr, struct json *value);
void json_append_cstr(struct arena *a, struct json *arr, const char *s);
void json_insert(struct arena *a, struct json *arr, size_t at, struct json *value);
void json_remove(struct json *arr, size_t at);
/* The object at a dotted path, made (with its parents) when absent or null; NULL when another type stands in the way. */
struct json *json_ensure(struct arena *a, struct json *obj, const char *path);
/* Sets the value at a dotted path, making its parents; a parent of another type is replaced. */
void json_put(struct arena *a, struct json *obj, const char *path, struct json *value);
/* Sorts members by key, bytewise: the canonical order of maps. */
void json_sort(struct json *obj);
