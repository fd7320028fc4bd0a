/*
 * Memory. Small fixed allocations abort when the machine has none left; allocations whose size comes from
 * outside go through arena_try_alloc() or a struct buf with a limit and fail as an error.
 *
 * An arena is a bump allocator freed in one call: one a request, one a parsed object. Not thread-safe: one
 * owner at a time.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))
#ifndef MIN /* sys/param.h, which libuv's header includes, defines the same */
#define MIN(a, b) ((a) < (b) ? (a) : (b))
#define MAX(a, b) ((a) > (b) ? (a) : (b))
#endif
#define CONTAINER_OF(ptr, type, member) ((type *)(void *)((char *)(ptr)-offsetof(type, member)))
#define UNUSED __attribute__((unused))
#define PRINTF_LIKE(fmt, args) __attribute__((format(printf, fmt, args)))
#define KiB(n) ((size_t)(n) << 10)
#define MiB(n) ((size_t)(n) << 20)

/* Allocate or abort. Returned memory is released with free(). */
void *xmalloc(size_t size) __attribute__((malloc, returns_nonnull));
void *xcalloc(size_t count, size_t size) __attribute__((malloc, returns_nonnull));
void *xrealloc(void *ptr, size_t size) __attribute__((returns_nonnull));
char *xstrdup(const char *s) __attribute__((malloc, returns_nonnull));
char *xstrndup(const char *s, size_t n) __attribute__((malloc, returns_nonnull));
char *xasprintf(const char *fmt, ...) PRINTF_LIKE(1, 2) __attribute__((malloc, returns_nonnull));

/* Between the two, memory that this thread frees goes back to the kernel, which allocators else put off for long: around the
 * freeing of much at once, when the process will be idle after it. One thread at a time. */
void mem_trim_begin(void);
void mem_trim_end(void);

#define XNEW(type) ((type *)xcalloc(1, sizeof(type)))

/* Scope clean-up: `cleanup_free char *p = NULL;` */
void cleanup_free_fn(void *pp);
void cleanup_close_fn(const int *fd);
#define cleanup_free __attribute__((cleanup(cleanup_free_fn)))
#define cleanup_close __attribute__((cleanup(cleanup_close_fn))) /* closes when >= 0 */
#define cleanup_arena __attribute__((cleanup(cleanup_arena_fn)))

/* The value of a pointer or fd variable, which is left NULL or -1: hands ownership out of a cleanup scope. */
#define TAKE_PTR(p)                 \
    ({                              \
        __typeof__(p) taken_ = (p); \
        (p) = NULL;                 \
        taken_;                     \
    })
#define TAKE_FD(fd)        \
    ({                     \
        int taken_ = (fd); \
        (fd) = -1;         \
        taken_;            \
    })

struct arena;

/* A new arena. first_bytes: size of its first block (0: 4 KiB); limit_bytes: most it may ever hold (0: 64 MiB). */
struct arena *arena_new(size_t first_bytes, size_t limit_bytes);
void arena_free(struct arena *a); /* NULL is fine */
void cleanup_arena_fn(struct arena **a);
/* Zeroed memory, aligned for any type, valid until arena_free. Aborts beyond the limit: for bounded sizes. */
void *arena_alloc(struct arena *a, size_t size) __attribute__((returns_nonnull));
/* Same, NULL beyond the limit: for sizes that input decides. */
void *arena_try_alloc(struct arena *a, size_t size);
char *arena_strndup(struct arena *a, const char *s, size_t n);
char *arena_strdup(struct arena *a, const char *s);
char *arena_printf(struct arena *a, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* Bytes handed out so far. */
size_t arena_used(const struct arena *a);
/* Calls fn(arg) when the arena is freed, last registered first. */
void arena_defer(struct arena *a, void (*fn)(void *arg), void *arg);
#define ARENA_NEW(a, type) ((type *)arena_alloc((a), sizeof(type)))

/* Reference count for objects shared between threads. */
struct ref {
    atomic_uint count;
};
static inline void ref_init(struct ref *r) {
    atomic_init(&r->count, 1);
}
static inline void ref_get(struct ref *r) {
    atomic_fetch_add_explicit(&r->count, 1, memory_order_relaxed);
}
/* True when the last reference went: the caller frees the object. */
static inline bool ref_put(struct ref *r) {
    return atomic_fetch_sub_explicit(&r->count, 1, memory_order_acq_rel) == 1;
}
