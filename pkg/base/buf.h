/*
 * The growable byte buffer. It has a limit; a write beyond it (or an allocation that fails) drops the write and
 * sets `failed`, so a sequence of puts is checked once at its end. Data is always NUL-terminated behind its length.
 */
#pragma once

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/mem.h"
#include "base/str.h"

struct buf {
    char *p;
    size_t n, cap, limit;
    bool failed;
};

#define BUF_LIMIT_DEFAULT MiB(64)
#define BUF_INIT \
    { NULL, 0, 0, BUF_LIMIT_DEFAULT, false }
#define cleanup_buf __attribute__((cleanup(buf_fini)))

void buf_init(struct buf *b, size_t limit_bytes); /* 0: BUF_LIMIT_DEFAULT */
void buf_fini(struct buf *b);
void buf_reset(struct buf *b); /* empties, keeps the memory */
/* Room for n more bytes at b->p + b->n, or NULL (and failed set). */
char *buf_reserve(struct buf *b, size_t n);
void buf_put(struct buf *b, const void *data, size_t n);
void buf_puts(struct buf *b, const char *s);
void buf_put_str(struct buf *b, struct str s);
void buf_putc(struct buf *b, char c);
void buf_printf(struct buf *b, const char *fmt, ...) PRINTF_LIKE(2, 3);
void buf_vprintf(struct buf *b, const char *fmt, va_list ap) __attribute__((format(printf, 2, 0)));
void buf_consume(struct buf *b, size_t n); /* drops the first n bytes */
/* The memory, owned by the caller now (free()); *n gets the length when not NULL. The buffer is empty again. */
char *buf_steal(struct buf *b, size_t *n);
static inline struct str buf_str(const struct buf *b) {
    return (struct str){b->p ? b->p : "", b->n};
}
