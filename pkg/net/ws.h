/*
 * WebSocket (RFC 6455), the server's side: frames over a byte stream. Pings are answered here; messages are given on in
 * the pieces they come in, so a message needs no memory of its own. On the stream's loop.
 */
#pragma once

#include "net/http.h"
#include "net/stream.h"

enum ws_opcode { WS_CONTINUATION = 0, WS_TEXT = 1, WS_BINARY = 2, WS_CLOSE = 8, WS_PING = 9, WS_PONG = 10 };

enum ws_close_code {
    WS_NORMAL = 1000,
    WS_GOING_AWAY = 1001,
    WS_PROTOCOL_ERROR = 1002,
    WS_UNSUPPORTED = 1003,
    WS_TOO_BIG = 1009,
    WS_INTERNAL_ERROR = 1011
};

/* --- frames, pure --- */

struct ws_decoder_ops {
    /* A piece of a message: first and last mark its ends; 0 or the code to close with. */
    int (*on_piece)(void *arg, enum ws_opcode op, struct str data, bool first, bool last);
    /* A whole control frame: WS_CLOSE, WS_PING, WS_PONG. */
    int (*on_control)(void *arg, enum ws_opcode op, struct str data);
};
struct ws_decoder {
    const struct ws_decoder_ops *ops;
    void *arg;
    unsigned char head[14];
    size_t head_n, head_need;
    uint64_t left;                           /* of the current frame's payload */
    uint64_t offset;                         /* into it: the phase of the mask */
    unsigned char mask[4], op, fin, message; /* message: the opcode of the one being read, 0: none */
    bool in_payload, first;
    unsigned char control[125];
    size_t control_n;
};
void ws_decoder_init(struct ws_decoder *d, const struct ws_decoder_ops *ops, void *arg);
/* Unmasks in place. 0, or the close code that the peer's fault calls for (or a callback's). */
int ws_decoder_feed(struct ws_decoder *d, char *data, size_t n);
/* The head of a frame from a server; returns its length (2 to 10). */
size_t ws_encode_head(unsigned char out[10], enum ws_opcode op, size_t n);

/* --- opening --- */

bool ws_is_upgrade(const struct http_request *r);
/* Sec-WebSocket-Accept for the request in the arena; -EINVAL when it is no proper handshake. */
int ws_accept_key(const struct http_request *r, struct str *accept, struct error *err);

/* --- an endpoint on a stream --- */

struct ws;
struct ws_events {
    int (*on_piece)(void *arg, enum ws_opcode op, struct str data, bool first, bool last);
    void (*on_drain)(void *arg);
    void (*on_closed)(void *arg, int reason); /* last */
    void *arg;
};
struct ws *ws_new(struct stream *s, const struct ws_events *ev);
/* One message out of two parts (the first may be empty). */
void ws_send(struct ws *w, enum ws_opcode op, const void *head, size_t head_n, const void *data, size_t n);
void ws_pause(struct ws *w, bool pause);
size_t ws_backlog(const struct ws *w);
/* Says goodbye and waits for the peer's a little; on_closed follows. */
void ws_close(struct ws *w, enum ws_close_code code);

/* The payload of binary messages as a byte stream (protocols tunnelled in WebSocket). */
struct stream *ws_tunnel(struct stream *under);
