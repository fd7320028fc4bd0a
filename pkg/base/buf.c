#include "base/buf.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void buf_init(struct buf *b, size_t limit_bytes) {
    *b = (struct buf){.limit = limit_bytes ? limit_bytes : BUF_LIMIT_DEFAULT};
}

void buf_fini(struct buf *b) {
    free(b->p);
    b->p = NULL;
    b->n = b->cap = 0;
}

void buf_reset(struct buf *b) {
    b->n = 0;
    b->failed = false;
    if (b->p)
        b->p[0] = 0;
}

char *buf_reserve(struct buf *b, size_t n) {
    size_t limit = b->limit ? b->limit : BUF_LIMIT_DEFAULT;
    if (n > limit || b->n > limit - n) {
        b->failed = true;
        return NULL;
    }
    size_t need = b->n + n + 1;
    if (need > b->cap) {
        size_t cap = MAX(need, b->cap * 2);
        cap = MAX(cap, (size_t)64);
        char *p = realloc(b->p, cap);
        if (!p) {
            b->failed = true;
            return NULL;
        }
        b->p = p;
        b->cap = cap;
    }
    return b->p + b->n;
}

void buf_put(struct buf *b, const void *data, size_t n) {
    if (n == 0)
        return;
    char *p = buf_reserve(b, n);
    if (!p)
        return;
    memcpy(p, data, n);
    b->n += n;
    b->p[b->n] = 0;
}

void buf_puts(struct buf *b, const char *s) {
    buf_put(b, s, strlen(s));
}

void buf_put_str(struct buf *b, struct str s) {
    buf_put(b, s.p, s.n);
}

void buf_putc(struct buf *b, char c) {
    buf_put(b, &c, 1);
}

void buf_vprintf(struct buf *b, const char *fmt, va_list ap) {
    va_list again;
    va_copy(again, ap);
    int n = vsnprintf(NULL, 0, fmt, ap);
    char *p = n >= 0 ? buf_reserve(b, (size_t)n) : NULL;
    if (p) {
        vsnprintf(p, (size_t)n + 1, fmt, again);
        b->n += (size_t)n;
    }
    va_end(again);
}

void buf_printf(struct buf *b, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    buf_vprintf(b, fmt, ap);
    va_end(ap);
}

void buf_consume(struct buf *b, size_t n) {
    if (n >= b->n) {
        buf_reset(b);
        return;
    }
    memmove(b->p, b->p + n, b->n - n + 1);
    b->n -= n;
}

char *buf_steal(struct buf *b, size_t *n) {
    char *p = b->p ? b->p : xstrdup("");
    if (n)
        *n = b->n;
    b->p = NULL;
    b->n = b->cap = 0;
    b->failed = false;
    return p;
}
