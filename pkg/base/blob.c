#include "base/blob.h"

#include <stdlib.h>

static void release_owned(struct blob *b) {
    free((void *)(uintptr_t)b->bytes.p);
    free(b);
}

static void release_plain(struct blob *b) {
    free(b);
}

static struct blob *make(struct str bytes, void (*release)(struct blob *)) {
    struct blob *b = XNEW(struct blob);
    ref_init(&b->ref);
    b->bytes = bytes;
    b->release = release;
    return b;
}

struct blob *blob_new(struct str bytes) {
    return make((struct str){xstrndup(bytes.p, bytes.n), bytes.n}, release_owned);
}

struct blob *blob_take(char *malloced, size_t n) {
    return make((struct str){malloced, n}, release_owned);
}

struct blob *blob_static(struct str bytes) {
    return make(bytes, release_plain);
}
