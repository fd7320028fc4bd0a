#include "net/ws.h"

#include <string.h>

#include "codec/base64.h"
#include "net/http_parse.h"

void ws_decoder_init(struct ws_decoder *d, const struct ws_decoder_ops *ops, void *arg) {
    memset(d, 0, sizeof(*d));
    d->ops = ops;
    d->arg = arg;
    d->head_need = 2;
}

static bool is_control(unsigned char op) {
    return op >= WS_CLOSE;
}

/* The first two bytes say how long the head is; a client's frame has a mask (RFC 6455 5.1). */
static int head_begin(struct ws_decoder *d) {
    unsigned char b0 = d->head[0], b1 = d->head[1], op = b0 & 15, len = b1 & 127;
    bool fin = b0 & 128;
    if (b0 & 0x70 || !(b1 & 128) || (op > WS_BINARY && op < WS_CLOSE) || op > WS_PONG)
        return WS_PROTOCOL_ERROR;
    if (is_control(op) && (!fin || len > 125))
        return WS_PROTOCOL_ERROR;
    if (op == WS_CONTINUATION ? !d->message : !is_control(op) && d->message)
        return WS_PROTOCOL_ERROR;
    d->op = op;
    d->fin = fin;
    d->head_need = 2 + (len == 126 ? 2 : len == 127 ? 8 : 0) + 4;
    return 0;
}

static int head_end(struct ws_decoder *d) {
    size_t n = d->head_need - 6;
    uint64_t left = d->head[1] & 127;
    if (n)
        left = 0;
    for (size_t i = 0; i < n; i++)
        left = left << 8 | d->head[2 + i];
    if (left >> 63)
        return WS_PROTOCOL_ERROR;
    memcpy(d->mask, d->head + d->head_need - 4, 4);
    d->left = left;
    d->offset = 0;
    d->in_payload = true;
    d->control_n = 0;
    if (d->op == WS_TEXT || d->op == WS_BINARY) {
        d->message = d->op;
        d->first = true;
    }
    return 0;
}

static void unmask(struct ws_decoder *d, char *p, size_t n) {
    size_t i = 0;
    uint64_t wide = 0;
    for (size_t k = 0; k < 8; k++)
        ((unsigned char *)&wide)[k] = d->mask[(d->offset + k) & 3];
    for (; i + 8 <= n; i += 8) {
        uint64_t v;
        memcpy(&v, p + i, 8);
        v ^= wide;
        memcpy(p + i, &v, 8);
    }
    for (; i < n; i++)
        p[i] = (char)(p[i] ^ d->mask[(d->offset + i) & 3]);
    d->offset += n;
}

static int payload(struct ws_decoder *d, char *p, size_t n) {
    int rc = 0;
    unmask(d, p, n);
    d->left -= n;
    bool end = d->left == 0;
    if (is_control(d->op)) {
        memcpy(d->control + d->control_n, p, n);
        d->control_n += n;
        if (end)
            rc = d->ops->on_control(d->arg, d->op, str_n((char *)d->control, d->control_n));
    } else {
        bool first = d->first, last = end && d->fin;
        enum ws_opcode message = d->message;
        d->first = false;
        if (last)
            d->message = 0;
        if (n || last)
            rc = d->ops->on_piece(d->arg, message, str_n(p, n), first, last);
        else
            d->first = first; /* an empty frame in the middle changes nothing */
    }
    if (end) {
        d->in_payload = false;
        d->head_n = 0;
        d->head_need = 2;
    }
    return rc;
}

int ws_decoder_feed(struct ws_decoder *d, char *data, size_t n) {
    int rc = 0;
    while (!rc && (n || (d->in_payload && d->left == 0))) {
        if (d->in_payload) {
            size_t take = (size_t)MIN((uint64_t)n, d->left);
            rc = payload(d, data, take);
            data += take;
            n -= take;
            continue;
        }
        d->head[d->head_n++] = (unsigned char)*data++;
        n--;
        if (d->head_n == 2)
            rc = head_begin(d);
        if (!rc && d->head_n == d->head_need)
            rc = head_end(d);
    }
    return rc;
}

size_t ws_encode_head(unsigned char out[10], enum ws_opcode op, size_t n) {
    size_t len = n < 126 ? 0 : n < 65536 ? 2 : 8;
    out[0] = (unsigned char)(0x80 | op);
    out[1] = (unsigned char)(len == 0 ? n : len == 2 ? 126 : 127);
    for (size_t i = 0; i < len; i++)
        out[2 + i] = (unsigned char)((uint64_t)n >> 8 * (len - 1 - i));
    return 2 + len;
}

/* --- opening ------------------------------------------------------------------------------------------------------ */

bool ws_is_upgrade(const struct http_request *r) {
    return http_header_has_token(r->headers, r->headers_n, "Connection", "upgrade") &&
           http_header_has_token(r->headers, r->headers_n, "Upgrade", "websocket");
}

int ws_accept_key(const struct http_request *r, struct str *accept, struct error *err) {
    struct str key = http_header_get(r, "Sec-WebSocket-Key");
    cleanup_buf struct buf raw = {.limit = 64}, text = {.limit = 256}, out = {.limit = 64};
    unsigned char sum[20];
    if (!str_eq(r->method, STR("GET")))
        return error_set(err, -EINVAL, "a WebSocket is opened with GET");
    if (!str_eq(http_header_get(r, "Sec-WebSocket-Version"), STR("13")))
        return error_set(err, -EINVAL, "the only WebSocket version spoken is 13");
    if (key.n != 24 || base64_decode(&raw, key) || raw.n != 16)
        return error_set(err, -EINVAL, "Sec-WebSocket-Key must be 16 bytes in base64");
    buf_put_str(&text, key);
    buf_puts(&text, "258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    sha1(text.p, text.n, sum);
    base64_encode(&out, sum, sizeof(sum));
    *accept = str_dup(r->arena, buf_str(&out));
    return 0;
}
