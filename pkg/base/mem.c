#include "base/mem.h"

#if __has_include(<mimalloc.h>)
#include <mimalloc.h>
#endif
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/str.h"
#include "base/vec.h"

void *xmalloc(size_t size) {
    void *p = malloc(size ? size : 1);
    if (!p)
        fatal("out of memory (%zu bytes)", size);
    return p;
}

void *xcalloc(size_t count, size_t size) {
    void *p = calloc(count ? count : 1, size ? size : 1);
    if (!p)
        fatal("out of memory (%zu x %zu bytes)", count, size);
    return p;
}

void *xrealloc(void *ptr, size_t size) {
    void *p = realloc(ptr, size ? size : 1);
    if (!p)
        fatal("out of memory (%zu bytes)", size);
    return p;
}

char *xstrndup(const char *s, size_t n) {
    char *p = xmalloc(n + 1);
    if (n)
        memcpy(p, s, n);
    p[n] = 0;
    return p;
}

char *xstrdup(const char *s) {
    return xstrndup(s, strlen(s));
}

char *xasprintf(const char *fmt, ...) {
    va_list ap;
    char *out = NULL;
    va_start(ap, fmt);
    int n = vasprintf(&out, fmt, ap);
    va_end(ap);
    if (n < 0)
        fatal("out of memory (formatting)");
    return out;
}

/* Sanitizer builds have the C library's allocator, where this is of no use. */
#if __has_include(<mimalloc.h>)
static long usual_delay_ms;

/* With a delay, freed pages wait for further traffic before they go back. */
void mem_trim_begin(void) {
    usual_delay_ms = mi_option_get(mi_option_decommit_delay);
    mi_option_set(mi_option_decommit_delay, 0);
}

void mem_trim_end(void) {
    mi_collect(true);
    mi_option_set(mi_option_decommit_delay, usual_delay_ms);
}
#else
void mem_trim_begin(void) {}

void mem_trim_end(void) {}
#endif

void cleanup_free_fn(void *pp) {
    free(*(void **)pp);
}

void cleanup_close_fn(const int *fd) {
    if (*fd >= 0)
        close(*fd);
}

void *vec_grow(void *items, size_t *cap, size_t need, size_t item_size) {
    size_t c = *cap ? *cap * 2 : 8;
    if (c < need)
        c = need;
    if (c > SIZE_MAX / item_size)
        fatal("vector too large");
    items = xrealloc(items, c * item_size);
    *cap = c;
    return items;
}

/* --- arena ------------------------------------------------------------------------------------------------------ */

struct block {
    struct block *next;
    size_t used, size; /* of data */
    _Alignas(16) char data[];
};

struct defer {
    struct defer *next;
    void (*fn)(void *);
    void *arg;
};

struct arena {
    struct block *blocks; /* the newest, allocated from, is first */
    struct defer *defers;
    size_t used, limit, next_size;
};

#define ARENA_FIRST KiB(4)
#define ARENA_LIMIT MiB(64)
#define ARENA_BLOCK_MAX KiB(256)
#define ALIGN16(n) (((n) + 15) & ~(size_t)15)

/* The arena lives in its own first block, so that a small request costs one allocation. */
struct arena *arena_new(size_t first_bytes, size_t limit_bytes) {
    size_t head = ALIGN16(sizeof(struct arena));
    size_t size = (first_bytes ? first_bytes : ARENA_FIRST) + head;
    struct block *b = xmalloc(sizeof(*b) + size);
    b->next = NULL;
    b->size = size;
    b->used = head;
    struct arena *a = (struct arena *)(void *)b->data;
    *a = (struct arena){.blocks = b, .limit = limit_bytes ? limit_bytes : ARENA_LIMIT, .next_size = size * 2};
    return a;
}

void arena_free(struct arena *a) {
    if (!a)
        return;
    for (struct defer *d = a->defers; d; d = d->next)
        d->fn(d->arg);
    struct block *b = a->blocks;
    while (b) { /* the arena itself is in the last block of the chain */
        struct block *next = b->next;
        free(b);
        b = next;
    }
}

void cleanup_arena_fn(struct arena **a) {
    arena_free(*a);
}

void *arena_try_alloc(struct arena *a, size_t size) {
    if (size > a->limit || a->used + size > a->limit)
        return NULL;
    size_t need = ALIGN16(size ? size : 1);
    struct block *b = a->blocks;
    if (b->size - b->used < need) {
        size_t cap = MAX(a->next_size, need);
        b = malloc(sizeof(*b) + cap);
        if (!b)
            return NULL;
        b->used = 0;
        b->size = cap;
        b->next = a->blocks;
        a->blocks = b;
        a->next_size = MIN(a->next_size * 2, ARENA_BLOCK_MAX);
    }
    void *p = b->data + b->used;
    b->used += need;
    a->used += need;
    memset(p, 0, size);
    return p;
}

void *arena_alloc(struct arena *a, size_t size) {
    void *p = arena_try_alloc(a, size);
    if (!p)
        fatal("arena limit of %zu bytes reached", a->limit);
    return p;
}

char *arena_strndup(struct arena *a, const char *s, size_t n) {
    char *p = arena_alloc(a, n + 1);
    if (n)
        memcpy(p, s, n);
    return p;
}

char *arena_strdup(struct arena *a, const char *s) {
    return arena_strndup(a, s, strlen(s));
}

static char *arena_vprintf(struct arena *a, const char *fmt, va_list ap, size_t *len) {
    va_list again;
    va_copy(again, ap);
    int n = vsnprintf(NULL, 0, fmt, ap);
    if (n < 0)
        n = 0;
    char *p = arena_alloc(a, (size_t)n + 1);
    vsnprintf(p, (size_t)n + 1, fmt, again);
    va_end(again);
    *len = (size_t)n;
    return p;
}

char *arena_printf(struct arena *a, const char *fmt, ...) {
    va_list ap;
    size_t n;
    va_start(ap, fmt);
    char *p = arena_vprintf(a, fmt, ap, &n);
    va_end(ap);
    return p;
}

struct str str_printf(struct arena *a, const char *fmt, ...) {
    va_list ap;
    size_t n;
    va_start(ap, fmt);
    char *p = arena_vprintf(a, fmt, ap, &n);
    va_end(ap);
    return (struct str){p, n};
}

size_t arena_used(const struct arena *a) {
    return a->used;
}

void arena_defer(struct arena *a, void (*fn)(void *arg), void *arg) {
    struct defer *d = ARENA_NEW(a, struct defer);
    *d = (struct defer){a->defers, fn, arg};
    a->defers = d;
}
