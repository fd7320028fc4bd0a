/* Makes tar archives in memory, honest and hostile ones, and compresses them. For tests. */
#pragma once

#include <stdio.h>
#include <stdlib.h>
#include <zlib.h>
#include <zstd.h>

#include "net/pki.h"
#include "runtime/image_name.h"

struct tar_spec {
    char
        type; /* '0' file, '1' hard link, '2' symbolic link, '3' character device, '4' block device, '5' directory, '6' fifo */
    const char *path, *link;
    unsigned mode, uid, gid;
    int64_t mtime;
    unsigned major, minor;
    struct str data;
    const char *xattr, *xattr_value; /* one, by a pax header */
};

static inline void tar_octal(char *field, size_t n, uint64_t v) {
    for (size_t i = n - 1; i > 0; i--, v >>= 3)
        field[i - 1] = (char)('0' + (v & 7));
}

static inline void tar_header(struct buf *b, const struct tar_spec *s, const char *path, char type, size_t size) {
    char h[512] = {0};
    unsigned sum = 0;
    memcpy(h, path, MIN(strlen(path), (size_t)100));
    tar_octal(h + 100, 8, s->mode);
    tar_octal(h + 108, 8, s->uid);
    tar_octal(h + 116, 8, s->gid);
    tar_octal(h + 124, 12, size);
    tar_octal(h + 136, 12, (uint64_t)s->mtime);
    h[156] = type;
    if (s->link)
        memcpy(h + 157, s->link, MIN(strlen(s->link), (size_t)100));
    memcpy(h + 257, "ustar\00000", 8);
    tar_octal(h + 329, 8, s->major);
    tar_octal(h + 337, 8, s->minor);
    memset(h + 148, ' ', 8);
    for (size_t i = 0; i < sizeof(h); i++)
        sum += (unsigned char)h[i];
    tar_octal(h + 148, 7, sum);
    buf_put(b, h, sizeof(h));
}

static inline void tar_contents(struct buf *b, struct str data) {
    static const char zeros[512];
    buf_put_str(b, data);
    if (data.n % 512)
        buf_put(b, zeros, 512 - data.n % 512);
}

static inline void tar_pax(struct buf *b, const char *key, struct str value) {
    struct buf rec = BUF_INIT;
    size_t n = strlen(key) + value.n + 3, digits = 1;
    for (size_t x = n + 1; x >= 10; x /= 10)
        digits++;
    if (n + digits >= 10 && digits == 1)
        digits = 2;
    buf_printf(&rec, "%zu %s=", n + digits, key);
    buf_put_str(&rec, value);
    buf_putc(&rec, '\n');
    struct tar_spec s = {.mode = 0644};
    tar_header(b, &s, "pax", 'x', rec.n);
    tar_contents(b, buf_str(&rec));
    buf_fini(&rec);
}

static inline void tar_add(struct buf *b, const struct tar_spec *s) {
    if (s->xattr) {
        char key[128];
        snprintf(key, sizeof(key), "SCHILY.xattr.%s", s->xattr);
        tar_pax(b, key, str_c(s->xattr_value));
    }
    if (strlen(s->path) > 100)
        tar_pax(b, "path", str_c(s->path));
    if (s->link && strlen(s->link) > 100)
        tar_pax(b, "linkpath", str_c(s->link));
    tar_header(b, s, s->path, s->type, s->data.n);
    tar_contents(b, s->data);
}

#define TAR(b, ...) tar_add((b), &(struct tar_spec){__VA_ARGS__})

static inline void tar_close(struct buf *b) {
    static const char zeros[1024];
    buf_put(b, zeros, sizeof(zeros));
}

static inline void tar_gzip(struct buf *out, struct str in) {
    z_stream z = {0};
    deflateInit2(&z, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY);
    size_t bound = deflateBound(&z, in.n) + 64;
    z.next_in = (unsigned char *)(uintptr_t)in.p;
    z.avail_in = (unsigned)in.n;
    z.next_out = (unsigned char *)buf_reserve(out, bound);
    z.avail_out = (unsigned)bound;
    deflate(&z, Z_FINISH);
    out->n += z.total_out;
    deflateEnd(&z);
}

static inline void tar_zstd(struct buf *out, struct str in) {
    size_t bound = ZSTD_compressBound(in.n);
    out->n += ZSTD_compress(buf_reserve(out, bound), bound, in.p, in.n, 3);
}
