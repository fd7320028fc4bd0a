/*
 * An immutable, refcounted run of bytes, shared between threads: stored objects, response bodies, watch frames.
 */
#pragma once

#include "base/mem.h"
#include "base/str.h"

struct blob {
    struct ref ref;
    struct str bytes;
    void (*release)(struct blob *b); /* called when the last reference goes */
};

struct blob *blob_new(struct str bytes);          /* copies */
struct blob *blob_take(char *malloced, size_t n); /* owns malloced, released with free() */
struct blob *blob_static(struct str bytes);       /* bytes live for ever */
static inline struct blob *blob_ref(struct blob *b) {
    ref_get(&b->ref);
    return b;
}
static inline void blob_unref(struct blob *b) {
    if (b && ref_put(&b->ref))
        b->release(b);
}
