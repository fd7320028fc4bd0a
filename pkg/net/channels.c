#include "net/channels_priv.h"

#include <stdlib.h>
#include <string.h>

#include "codec/base64.h"
#include "net/http_parse.h"

#define MESSAGE_MAX KiB(32) /* of what we send */
#define BASE64_MAX KiB(256) /* of a base64 message we read */
#define CLOSE_SIGNAL 255    /* v5: the next byte names the channel */
#define BEARER "base64url.bearer.authorization.k8s.io."

static bool is_spdy_upgrade(const struct http_request *r) {
    return http_header_has_token(r->headers, r->headers_n, "Connection", "upgrade") &&
           http_header_has_token(r->headers, r->headers_n, "Upgrade", "SPDY/3.1");
}

bool channels_is_upgrade(const struct http_request *r) {
    return ws_is_upgrade(r) || is_spdy_upgrade(r);
}

/* --- channels over WebSocket -------------------------------------------------------------------------------------- */

void channels_send(struct channels *c, unsigned channel, const void *data, size_t n) {
    if (!c->ws || c->closing)
        return;
    const char *p = data;
    do {
        size_t k = MIN(n, MESSAGE_MAX);
        if (c->base64) {
            cleanup_buf struct buf text = BUF_INIT;
            char id = (char)('0' + channel);
            base64_encode(&text, p, k);
            ws_send(c->ws, WS_TEXT, &id, 1, text.p, text.n);
        } else {
            unsigned char id = (unsigned char)channel;
            ws_send(c->ws, WS_BINARY, &id, 1, p, k);
        }
        p += k;
        n -= k;
    } while (n);
}

static int base64_message(struct channels *c, struct str data, bool first, bool last) {
    if (first)
        buf_reset(&c->message);
    buf_put_str(&c->message, data);
    if (c->message.failed)
        return WS_TOO_BIG;
    if (!last || !c->message.n)
        return 0;
    cleanup_buf struct buf raw = {.limit = BASE64_MAX};
    unsigned channel = (unsigned)(unsigned char)c->message.p[0] - '0';
    if (channel > 9 || base64_decode(&raw, str_skip(buf_str(&c->message), 1)))
        return WS_PROTOCOL_ERROR;
    c->ops->on_channel(c, channel, buf_str(&raw));
    return 0;
}

static int on_piece(void *arg, enum ws_opcode op, struct str data, bool first, bool last) {
    struct channels *c = arg;
    if (c->closing)
        return 0;
    if (c->base64)
        return base64_message(c, data, first, last);
    if (first)
        c->channel = -1;
    if (!data.n)
        return 0;
    if (c->channel < 0) {
        c->channel = (unsigned char)data.p[0];
        data = str_skip(data, 1);
    }
    if (c->channel != CLOSE_SIGNAL || c->version < 5) {
        c->ops->on_channel(c, (unsigned)c->channel, data);
    } else if (data.n) {
        c->ops->on_channel_close(c, (unsigned char)data.p[0]);
    }
    return 0;
}

static void on_drain(void *arg) {
    struct channels *c = arg;
    c->ops->on_drain(c);
}

static void closed(struct channels *c) {
    c->ws = NULL;
    c->spdy = NULL;
    c->closing = true;
    buf_fini(&c->message);
    c->ops->on_closed(c);
}

static void on_transport_closed(void *arg, int reason) {
    closed(arg);
}

/* --- opening ------------------------------------------------------------------------------------------------------ */

static const struct channels_protocol *find_protocol(const struct channels_protocol *p, struct str name) {
    for (; p->name; p++) {
        if (str_eq_c(name, p->name))
            return p;
    }
    return NULL;
}

/* The first of the client's protocols that we speak. Lists may be spread over several headers. */
static const struct channels_protocol *negotiate(const struct http_request *r, const char *header,
                                                 const struct channels_protocol *ours, bool *offered) {
    for (size_t i = 0; i < r->headers_n; i++) {
        if (!str_eq_nocase(r->headers[i].name, str_c(header)))
            continue;
        struct str rest = r->headers[i].value;
        while (rest.p) {
            struct str name = str_trim(str_split(&rest, ','));
            if (str_starts(name, STR(BEARER))) /* the token rides here; it is never echoed */
                continue;
            *offered = true;
            const struct channels_protocol *p = find_protocol(ours, name);
            if (p)
                return p;
        }
    }
    return NULL;
}

static void failed(void *arg) {
    closed(arg);
}

static void refuse(struct channels *c, struct http_exchange *x, int code, const char *reason, const char *message) {
    cleanup_buf struct buf b = BUF_INIT;
    size_t n;
    buf_puts(&b, "{\"kind\":\"Status\",\"apiVersion\":\"v1\",\"metadata\":{},\"status\":\"Failure\",\"message\":");
    json_write_string(&b, str_c(message));
    buf_printf(&b, ",\"reason\":\"%s\",\"code\":%d}\n", reason, code);
    char *text = buf_steal(&b, &n);
    const struct http_header h = {STR("Content-Type"), STR("application/json")};
    http_reply(x, code, &h, 1, blob_take(text, n));
    http_finish(x);
    loop_post(c->loop, failed, c);
}

static void on_ready(void *arg, struct stream *s) {
    struct channels *c = arg;
    if (!s) {
        closed(c);
        return;
    }
    if (c->is_spdy || c->tunnel) {
        struct spdy_events ev = c->ops->spdy_events;
        ev.on_drain = on_drain;
        ev.on_closed = on_transport_closed;
        ev.arg = c;
        c->spdy = spdy_new(c->tunnel ? ws_tunnel(s) : s, &ev);
    } else {
        c->ws = ws_new(s, &(struct ws_events){on_piece, on_drain, on_transport_closed, c});
    }
    c->ops->on_open(c);
}

static void open_ws(struct channels *c, struct http_exchange *x) {
    const struct http_request *r = http_request(x);
    struct str accept;
    struct error err;
    bool offered = false;
    if (ws_accept_key(r, &accept, &err)) {
        refuse(c, x, 400, "BadRequest", err.msg);
        return;
    }
    const struct channels_protocol *p = negotiate(r, "Sec-WebSocket-Protocol", c->ops->ws, &offered);
    if (!p && (offered || http_header_get(r, "Sec-WebSocket-Protocol").n)) {
        refuse(c, x, 400, "BadRequest",
               "unable to upgrade: none of the client's WebSocket subprotocols is spoken here");
        return;
    }
    c->version = p ? p->version : 1;
    c->base64 = p && p->base64;
    c->tunnel = p && p->spdy;
    const struct http_header h[] = {{STR("Upgrade"), STR("websocket")},
                                    {STR("Connection"), STR("Upgrade")},
                                    {STR("Sec-WebSocket-Accept"), accept},
                                    {STR("Sec-WebSocket-Protocol"), p ? str_c(p->name) : STR("")}};
    http_upgrade(x, 101, h, p ? 4 : 3, on_ready, c);
    http_finish(x);
}

static void open_spdy(struct channels *c, struct http_exchange *x) {
    bool offered = false;
    const struct channels_protocol *p = negotiate(http_request(x), "X-Stream-Protocol-Version", c->ops->spdy, &offered);
    if (!p && offered) {
        refuse(c, x, 403, "Forbidden", "unable to upgrade: unable to negotiate protocol");
        return;
    }
    c->version = p ? p->version : 1;
    c->is_spdy = true;
    const struct http_header h[] = {{STR("Connection"), STR("Upgrade")},
                                    {STR("Upgrade"), STR("SPDY/3.1")},
                                    {STR("X-Stream-Protocol-Version"), p ? str_c(p->name) : STR("")}};
    http_upgrade(x, 101, h, p ? 3 : 2, on_ready, c);
    http_finish(x);
}

void channels_open(struct channels *c, const struct channels_ops *ops, struct http_exchange *x) {
    const struct http_request *r = http_request(x);
    c->ops = ops;
    c->loop = http_exchange_loop(x);
    c->channel = -1;
    buf_init(&c->message, BASE64_MAX);
    if (ws_is_upgrade(r))
        open_ws(c, x);
    else if (is_spdy_upgrade(r))
        open_spdy(c, x);
    else
        refuse(c, x, 400, "BadRequest", "Upgrade request required");
}

/* --- both kinds --------------------------------------------------------------------------------------------------- */

void channels_end(struct channels *c) {
    if (c->closing)
        return;
    c->closing = true;
    if (c->ws)
        ws_close(c->ws, WS_NORMAL);
    else if (c->spdy)
        spdy_close(c->spdy);
}

void channels_pause(struct channels *c, bool pause) {
    if (c->ws)
        ws_pause(c->ws, pause);
    else if (c->spdy)
        spdy_pause(c->spdy, pause);
}

void channels_pause_stdin(struct channels *c, bool pause) {
    channels_pause(c, pause);
}

size_t channels_backlog(const struct channels *c) {
    return c->ws ? ws_backlog(c->ws) : c->spdy ? spdy_backlog(c->spdy) : 0;
}
