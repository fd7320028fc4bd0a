#include "net/spdy.h"

#include <stdlib.h>
#include <string.h>

#include <zlib.h>

#define FRAME_MAX KiB(128) /* of a control frame */
#define HEAD 8

/*
 * The dictionary of header compression (draft 3, 2.6.10.1): these strings, each behind its length in four bytes, then
 * the text. Its Adler-32, e3c6a7c2, stands in every first block.
 */
static const char *const dictionary_words[] = {"options",
                                               "head",
                                               "post",
                                               "put",
                                               "delete",
                                               "trace",
                                               "accept",
                                               "accept-charset",
                                               "accept-encoding",
                                               "accept-language",
                                               "accept-ranges",
                                               "age",
                                               "allow",
                                               "authorization",
                                               "cache-control",
                                               "connection",
                                               "content-base",
                                               "content-encoding",
                                               "content-language",
                                               "content-length",
                                               "content-location",
                                               "content-md5",
                                               "content-range",
                                               "content-type",
                                               "date",
                                               "etag",
                                               "expect",
                                               "expires",
                                               "from",
                                               "host",
                                               "if-match",
                                               "if-modified-since",
                                               "if-none-match",
                                               "if-range",
                                               "if-unmodified-since",
                                               "last-modified",
                                               "location",
                                               "max-forwards",
                                               "pragma",
                                               "proxy-authenticate",
                                               "proxy-authorization",
                                               "range",
                                               "referer",
                                               "retry-after",
                                               "server",
                                               "te",
                                               "trailer",
                                               "transfer-encoding",
                                               "upgrade",
                                               "user-agent",
                                               "vary",
                                               "via",
                                               "warning",
                                               "www-authenticate",
                                               "method",
                                               "get",
                                               "status",
                                               "200 OK",
                                               "version",
                                               "HTTP/1.1",
                                               "url",
                                               "public",
                                               "set-cookie",
                                               "keep-alive",
                                               "origin"};
static const char dictionary_text[] =
    "100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505203 Non-Authoritative "
    "Information204 No Content301 Moved Permanently400 Bad Request401 Unauthorized403 Forbidden404 Not Found500 Internal "
    "Server Error501 Not Implemented503 Service UnavailableJan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec 00:00:00 Mon, "
    "Tue, Wed, Thu, Fri, Sat, Sun, GMTchunked,text/html,image/png,image/jpg,image/gif,application/xml,application/"
    "xhtml+xml,text/plain,text/javascript,publicprivatemax-age=gzip,deflate,sdchcharset=utf-8charset=iso-8859-1,utf-,*,"
    "enq=0.";
#define DICTIONARY_ADLER 0xe3c6a7c2u

static void put_u32(struct buf *b, uint32_t v) {
    const char be[4] = {(char)(v >> 24), (char)(v >> 16), (char)(v >> 8), (char)v};
    buf_put(b, be, 4);
}

static uint32_t get_u32(const char *p) {
    const unsigned char *u = (const unsigned char *)p;
    return (uint32_t)u[0] << 24 | (uint32_t)u[1] << 16 | (uint32_t)u[2] << 8 | u[3];
}

static void put_dictionary(struct buf *b) {
    for (size_t i = 0; i < ARRAY_LEN(dictionary_words); i++) {
        put_u32(b, (uint32_t)strlen(dictionary_words[i]));
        buf_puts(b, dictionary_words[i]);
    }
    buf_puts(b, dictionary_text);
}

/* --- what we send: the zlib format with stored blocks, so that no compressor is needed ---------------------------- */

void spdy_put_headers(struct buf *out, bool *started, const struct http_header *headers, size_t n) {
    cleanup_buf struct buf block = {.limit = 65535};
    put_u32(&block, (uint32_t)n);
    for (size_t i = 0; i < n; i++) {
        put_u32(&block, (uint32_t)headers[i].name.n);
        buf_put_str(&block, headers[i].name);
        put_u32(&block, (uint32_t)headers[i].value.n);
        buf_put_str(&block, headers[i].value);
    }
    if (block.failed) {
        out->failed = true;
        return;
    }
    if (!*started) { /* RFC 1950: deflate, 32 KiB window, preset dictionary */
        buf_put(out, "\x78\x20", 2);
        put_u32(out, DICTIONARY_ADLER);
        *started = true;
    }
    const char stored[5] = {0, (char)block.n, (char)(block.n >> 8), (char)~block.n, (char)(~block.n >> 8)};
    buf_put(out, stored, 5);
    buf_put_str(out, buf_str(&block));
    /* An empty block, as a sync flush leaves it: without it Go's reader looks for the next block before it gives out
     * this one, and stops for good at the end of the frame. */
    buf_put(out, "\0\0\0\xff\xff", 5);
}

/* --- what we read ------------------------------------------------------------------------------------------------- */

struct spdy_decoder {
    const struct spdy_decoder_ops *ops;
    void *arg;
    struct buf frame; /* of a control frame, and of any frame's head, until it is whole */
    size_t need;
    bool in_data;
    uint32_t id; /* of the data frame being read */
    size_t left;
    bool fin;
    z_stream z;
    bool z_made;
};

struct spdy_decoder *spdy_decoder_new(const struct spdy_decoder_ops *ops, void *arg) {
    struct spdy_decoder *d = XNEW(struct spdy_decoder);
    d->ops = ops;
    d->arg = arg;
    d->need = HEAD;
    buf_init(&d->frame, FRAME_MAX + HEAD);
    return d;
}

void spdy_decoder_free(struct spdy_decoder *d) {
    if (!d)
        return;
    if (d->z_made)
        inflateEnd(&d->z);
    buf_fini(&d->frame);
    free(d);
}

static int inflate_block(struct spdy_decoder *d, struct str in, struct buf *out) {
    if (!d->z_made && inflateInit(&d->z) != Z_OK)
        return -ENOMEM;
    d->z_made = true;
    d->z.next_in = (unsigned char *)(uintptr_t)in.p;
    d->z.avail_in = (uInt)in.n;
    for (;;) {
        char *room = buf_reserve(out, KiB(1));
        if (!room)
            return -E2BIG;
        d->z.next_out = (unsigned char *)room;
        d->z.avail_out = KiB(1);
        int rc = inflate(&d->z, Z_SYNC_FLUSH);
        out->n += KiB(1) - d->z.avail_out;
        if (rc == Z_NEED_DICT) {
            cleanup_buf struct buf dict = BUF_INIT;
            put_dictionary(&dict);
            rc = inflateSetDictionary(&d->z, (unsigned char *)dict.p, (uInt)dict.n);
            if (rc != Z_OK)
                return -EPROTO;
            continue;
        }
        if (rc == Z_BUF_ERROR || (rc == Z_OK && d->z.avail_in == 0 && d->z.avail_out))
            return 0; /* all that this block brings */
        if (rc != Z_OK)
            return -EPROTO; /* broken, or an end that never comes in this format */
    }
}

static bool take_string(struct str *rest, struct str *out) {
    if (rest->n < 4)
        return false;
    size_t n = get_u32(rest->p);
    if (n > rest->n - 4)
        return false;
    *out = str_n(rest->p + 4, n);
    *rest = str_skip(*rest, 4 + n);
    return true;
}

static int parse_headers(struct str block, struct http_header *out, size_t *n) {
    if (block.n < 4)
        return -EPROTO;
    uint32_t count = get_u32(block.p);
    block = str_skip(block, 4);
    if (count > SPDY_HEADERS_MAX)
        return -E2BIG;
    for (uint32_t i = 0; i < count; i++) {
        if (!take_string(&block, &out[i].name) || !take_string(&block, &out[i].value))
            return -EPROTO;
    }
    *n = count;
    return 0;
}

static int on_headers(struct spdy_decoder *d, enum spdy_type type, struct str body, bool fin) {
    struct http_header headers[SPDY_HEADERS_MAX];
    cleanup_buf struct buf block = {.limit = SPDY_HEADER_BYTES_MAX};
    size_t skip = type == SPDY_SYN_STREAM ? 10 : 4, n = 0;
    if (body.n < skip)
        return -EPROTO;
    uint32_t id = get_u32(body.p) & 0x7fffffff;
    int rc = inflate_block(d, str_skip(body, skip), &block); /* of every kind: they share one compressor */
    if (!rc)
        rc = parse_headers(buf_str(&block), headers, &n);
    return rc || type != SPDY_SYN_STREAM ? rc : d->ops->on_syn(d->arg, id, headers, n, fin);
}

static int control_frame(struct spdy_decoder *d) {
    struct str f = buf_str(&d->frame), body = str_skip(f, HEAD);
    unsigned version = (unsigned)(get_u32(f.p) >> 16) & 0x7fff, type = get_u32(f.p) & 0xffff;
    bool fin = f.p[4] & SPDY_FLAG_FIN;
    if (version != 3)
        return -EPROTO;
    switch (type) {
    case SPDY_SYN_STREAM:
    case SPDY_SYN_REPLY:
    case SPDY_HEADERS:
        return on_headers(d, type, body, fin);
    case SPDY_RST_STREAM:
        return body.n != 8 ? -EPROTO : d->ops->on_reset(d->arg, get_u32(body.p) & 0x7fffffff);
    case SPDY_PING:
        return body.n != 4 ? -EPROTO : d->ops->on_ping(d->arg, get_u32(body.p));
    case SPDY_GOAWAY:
        return d->ops->on_goaway(d->arg);
    default:
        return 0; /* SETTINGS, WINDOW_UPDATE and the unknown are ignored */
    }
}

/* The eight bytes that begin every frame. */
static int frame_head(struct spdy_decoder *d) {
    uint32_t word = get_u32(d->frame.p), rest = get_u32(d->frame.p + 4);
    size_t n = rest & 0xffffff;
    if (word >> 31) {
        if (n > FRAME_MAX)
            return -E2BIG;
        d->need = HEAD + n;
        return 0;
    }
    d->in_data = true;
    d->id = word;
    d->left = n;
    d->fin = rest >> 24 & SPDY_FLAG_FIN;
    buf_reset(&d->frame);
    return 0;
}

static int data_piece(struct spdy_decoder *d, struct str piece) {
    d->left -= piece.n;
    bool end = d->left == 0;
    if (end)
        d->in_data = false;
    return d->ops->on_data(d->arg, d->id, piece, end && d->fin);
}

int spdy_decoder_feed(struct spdy_decoder *d, struct str data) {
    int rc = 0;
    while (!rc && (data.n || (d->in_data && d->left == 0))) {
        if (d->in_data) {
            size_t n = MIN(data.n, d->left);
            rc = data_piece(d, str_n(data.p, n));
            data = str_skip(data, n);
            continue;
        }
        size_t n = MIN(data.n, d->need - d->frame.n);
        buf_put(&d->frame, data.p, n);
        data = str_skip(data, n);
        if (d->frame.failed)
            return -ENOMEM;
        if (d->frame.n == HEAD && d->need == HEAD)
            rc = frame_head(d);
        if (!rc && !d->in_data && d->frame.n == d->need && d->frame.n >= HEAD) {
            rc = control_frame(d);
            buf_reset(&d->frame);
            d->need = HEAD;
        }
    }
    return rc;
}
