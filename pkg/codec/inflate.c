#include "codec/inflate.h"

#include <stdlib.h>
#include <zlib.h>
#include <zstd.h>
#include <zstd_errors.h>

#define OUTPUT_DEFAULT (UINT64_C(64) << 30)
#define RATIO_DEFAULT 1100
#define WINDOW_LOG_DEFAULT 27
#define MAGIC_BYTES 4
#define ZSTD_HEADER_BYTES 18       /* the longest frame header */
#define GZIP_ONLY (16 + MAX_WBITS) /* zlib's way of asking for a gzip header */

struct inflate {
    enum inflate_format format;
    struct inflate_limits limits;
    inflate_sink *sink;
    void *arg;
    int failed;  /* what the stream failed with */
    bool inside; /* a gzip member or zstd frame has begun and not ended */
    uint64_t in, out;
    char magic[MAGIC_BYTES]; /* the first bytes, until the format is known */
    size_t n_magic;
    char head[ZSTD_HEADER_BYTES]; /* of a frame that begins, until there is enough of it */
    size_t n_head;
    z_stream gzip;
    ZSTD_DStream *zstd;
    char *piece; /* INFLATE_PIECE bytes */
};

/* --- the formats ------------------------------------------------------------------------------------------------- */

/* One step of a decoder: from in to z->piece. */
struct step {
    size_t used, made;
};

static int gzip_start(struct inflate *z, struct error *err) {
    if (inflateInit2(&z->gzip, GZIP_ONLY) != Z_OK)
        return error_set(err, -ENOMEM, "gzip: out of memory");
    return 0;
}

static int gzip_decode(struct inflate *z, struct str in, struct step *step, struct error *err) {
    uInt n = (uInt)MIN(in.n, (size_t)1 << 30);
    z->gzip.next_in = (Bytef *)(uintptr_t)in.p;
    z->gzip.avail_in = n;
    z->gzip.next_out = (Bytef *)z->piece;
    z->gzip.avail_out = INFLATE_PIECE;
    z->inside |= n > 0;
    int rc = inflate(&z->gzip, Z_NO_FLUSH);
    *step = (struct step){n - z->gzip.avail_in, INFLATE_PIECE - z->gzip.avail_out};
    if (rc == Z_STREAM_END) {
        z->inside = false;
        inflateReset(&z->gzip);
    } else if (rc == Z_MEM_ERROR) {
        return error_set(err, -ENOMEM, "gzip: out of memory");
    } else if (rc != Z_OK && rc != Z_BUF_ERROR) {
        return error_set(err, -EINVAL, "gzip: corrupt data near byte %llu: %s",
                         (unsigned long long)(z->in + step->used), z->gzip.msg ? z->gzip.msg : "unknown");
    }
    return 0;
}

static void gzip_fini(struct inflate *z) {
    inflateEnd(&z->gzip);
}

static int zstd_start(struct inflate *z, struct error *err) {
    z->zstd = ZSTD_createDStream();
    if (!z->zstd || ZSTD_isError(ZSTD_DCtx_setParameter(z->zstd, ZSTD_d_windowLogMax, z->limits.window_log)))
        return error_set(err, -ENOMEM, "zstd: cannot be initialised");
    return 0;
}

static int zstd_decode(struct inflate *z, struct str in, struct step *step, struct error *err) {
    ZSTD_inBuffer from = {in.p, in.n, 0};
    ZSTD_outBuffer to = {z->piece, INFLATE_PIECE, 0};
    if (in.n == 0 && !z->inside) {
        *step = (struct step){0};
        return 0;
    }
    size_t rc = ZSTD_decompressStream(z->zstd, &to, &from);
    if (ZSTD_isError(rc)) {
        bool memory = ZSTD_getErrorCode(rc) == ZSTD_error_memory_allocation;
        bool window = ZSTD_getErrorCode(rc) == ZSTD_error_frameParameter_windowTooLarge;
        if (memory)
            return error_set(err, -ENOMEM, "zstd: out of memory");
        if (window)
            return error_set(err, -E2BIG, "zstd: the data needs a window of more than 2^%d bytes",
                             z->limits.window_log);
        return error_set(err, -EINVAL, "zstd: corrupt data near byte %llu (error %d)",
                         (unsigned long long)(z->in + from.pos), (int)ZSTD_getErrorCode(rc));
    }
    z->inside = rc != 0;
    *step = (struct step){from.pos, to.pos};
    return 0;
}

static void zstd_fini(struct inflate *z) {
    ZSTD_freeDStream(z->zstd);
}

/* header_bytes: what the decoder wants to see of a member at once. libzstd 1.5 looks for a whole frame at the start of
 * what it is given, even when it was given the beginning of the frame before: data could be crafted to mean one thing in
 * one piece and another in two. */
static const struct decoder {
    const char *name;
    size_t header_bytes;
    int (*start)(struct inflate *z, struct error *err);
    int (*decode)(struct inflate *z, struct str in, struct step *step, struct error *err);
    void (*fini)(struct inflate *z);
} decoders[INFLATE_FORMAT_MAX] = {
    [INFLATE_UNKNOWN] = {.name = "unknown"},
    [INFLATE_PLAIN] = {.name = "plain"},
    [INFLATE_GZIP] = {"gzip", 0, gzip_start, gzip_decode, gzip_fini},
    [INFLATE_ZSTD] = {"zstd", ZSTD_HEADER_BYTES, zstd_start, zstd_decode, zstd_fini},
};

static enum inflate_format detect(const char *head, size_t n) {
    if (n >= 2 && memcmp(head, "\x1f\x8b", 2) == 0)
        return INFLATE_GZIP;
    if (n < MAGIC_BYTES)
        return INFLATE_UNKNOWN;
    bool frame = memcmp(head, "\x28\xb5\x2f\xfd", 4) == 0;
    bool skippable = ((unsigned char)head[0] & 0xF0) == 0x50 && memcmp(head + 1, "\x2a\x4d\x18", 3) == 0;
    return frame || skippable ? INFLATE_ZSTD : INFLATE_PLAIN;
}

/* --- the stream -------------------------------------------------------------------------------------------------- */

static int deliver(struct inflate *z, struct str bytes, struct error *err) {
    if (bytes.n > z->limits.output_bytes - z->out)
        return error_set(err, -E2BIG, "%s: more than %llu bytes come out", decoders[z->format].name,
                         (unsigned long long)z->limits.output_bytes);
    z->out += bytes.n;
    if (z->format != INFLATE_PLAIN && z->out > INFLATE_RATIO_FROM && z->out / z->limits.ratio > z->in)
        return error_set(err, -E2BIG, "%s: more than %u bytes come out for each that went in", decoders[z->format].name,
                         z->limits.ratio);
    return bytes.n ? z->sink(z->arg, bytes, err) : 0;
}

static int feed_plain(struct inflate *z, struct str bytes, struct error *err) {
    int rc = 0;
    while (bytes.n && rc == 0) {
        struct str piece = str_n(bytes.p, MIN(bytes.n, INFLATE_PIECE));
        bytes = str_skip(bytes, piece.n);
        z->in += piece.n;
        rc = deliver(z, piece, err);
    }
    return rc;
}

/* Decodes until in is used up and the decoder holds no more (a full piece means that it may), or a member ends. */
static int drain(struct inflate *z, struct str *in, struct error *err) {
    struct step step;
    do {
        int rc = decoders[z->format].decode(z, *in, &step, err);
        if (rc)
            return rc;
        if (in->n && step.used + step.made == 0)
            return error_set(err, -EINVAL, "%s: corrupt data near byte %llu", decoders[z->format].name,
                             (unsigned long long)z->in);
        z->in += step.used;
        *in = str_skip(*in, step.used);
        if ((rc = deliver(z, str_n(z->piece, step.made), err)))
            return rc;
    } while ((in->n || step.made == INFLATE_PIECE) && z->inside);
    return 0;
}

/* Moves bytes to the head of the member that begins and decodes that when there is enough of it. */
static int drain_head(struct inflate *z, struct str *bytes, bool last, struct error *err) {
    size_t want = decoders[z->format].header_bytes, n = MIN(want - z->n_head, bytes->n);
    if (n)
        memcpy(z->head + z->n_head, bytes->p, n);
    z->n_head += n;
    *bytes = str_skip(*bytes, n);
    if (z->n_head < want && !last)
        return 0;
    struct str head = str_n(z->head, z->n_head);
    int rc = drain(z, &head, err);
    memmove(z->head, head.p, head.n);
    z->n_head = head.n;
    return rc;
}

/* last: no more bytes follow. */
static int feed(struct inflate *z, struct str bytes, bool last, struct error *err) {
    if (z->format == INFLATE_PLAIN)
        return feed_plain(z, bytes, err);
    int rc = 0;
    while (rc == 0 && (bytes.n || (last && z->n_head))) {
        if (!z->inside && decoders[z->format].header_bytes)
            rc = drain_head(z, &bytes, last, err);
        else
            rc = drain(z, &bytes, err);
    }
    return rc;
}

/* Starts the decoder of a format and feeds it the bytes that told it. */
static int begin(struct inflate *z, enum inflate_format format, struct error *err) {
    z->format = format; /* from here on inflate_free() has to undo the start */
    if (format != INFLATE_PLAIN) {
        z->piece = malloc(INFLATE_PIECE);
        if (!z->piece)
            return error_set(err, -ENOMEM, "out of memory for decompression");
        int rc = decoders[format].start(z, err);
        if (rc)
            return rc;
    }
    return feed(z, str_n(z->magic, z->n_magic), false, err);
}

struct inflate *inflate_new(const struct inflate_limits *limits, inflate_sink *sink, void *arg) {
    struct inflate *z = calloc(1, sizeof(*z));
    if (!z)
        return NULL;
    if (limits)
        z->limits = *limits;
    if (!z->limits.output_bytes)
        z->limits.output_bytes = OUTPUT_DEFAULT;
    if (!z->limits.ratio)
        z->limits.ratio = RATIO_DEFAULT;
    if (!z->limits.window_log)
        z->limits.window_log = WINDOW_LOG_DEFAULT;
    z->sink = sink;
    z->arg = arg;
    return z;
}

int inflate_push(struct inflate *z, struct str bytes, struct error *err) {
    int rc = z->failed;
    if (rc)
        return error_set(err, rc, "the stream has failed before");
    while (z->format == INFLATE_UNKNOWN && bytes.n && rc == 0) {
        z->magic[z->n_magic++] = bytes.p[0];
        bytes = str_skip(bytes, 1);
        enum inflate_format format = detect(z->magic, z->n_magic);
        if (format != INFLATE_UNKNOWN)
            rc = begin(z, format, err);
    }
    if (rc == 0 && bytes.n)
        rc = feed(z, bytes, false, err);
    z->failed = rc;
    return rc;
}

int inflate_end(struct inflate *z, struct error *err) {
    int rc = z->failed;
    if (rc)
        return error_set(err, rc, "the stream has failed before");
    if (z->format == INFLATE_UNKNOWN)
        rc = begin(z, INFLATE_PLAIN, err);
    else
        rc = feed(z, STR(""), true, err);
    if (rc == 0 && z->inside)
        rc = error_set(err, -EINVAL, "%s: the data ends early, after %llu bytes", decoders[z->format].name,
                       (unsigned long long)z->in);
    z->failed = rc;
    return rc;
}

void inflate_free(struct inflate *z) {
    if (!z)
        return;
    if (decoders[z->format].fini)
        decoders[z->format].fini(z);
    free(z->piece);
    free(z);
}

enum inflate_format inflate_format(const struct inflate *z) {
    return z->format;
}

const char *inflate_format_name(enum inflate_format f) {
    return f < INFLATE_FORMAT_MAX ? decoders[f].name : decoders[INFLATE_UNKNOWN].name;
}

uint64_t inflate_bytes_in(const struct inflate *z) {
    return z->in;
}

uint64_t inflate_bytes_out(const struct inflate *z) {
    return z->out;
}
