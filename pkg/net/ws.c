#include "net/ws.h"

#include <stdlib.h>
#include <string.h>

#define CLOSE_WAIT_MS 2000
#define UNMASK_BYTES KiB(16)

struct ws {
    struct stream *s; /* NULL once closed */
    struct ws_events ev;
    struct ws_decoder in;
    struct timer timer;
    bool closing; /* our close frame is out */
    int reason;
};

static void send_frame(struct ws *w, enum ws_opcode op, const void *head, size_t head_n, const void *p, size_t n) {
    unsigned char frame[10 + 16];
    size_t k = ws_encode_head(frame, op, head_n + n);
    if (head_n && head_n <= 16) {
        memcpy(frame + k, head, head_n);
        k += head_n;
    }
    stream_write(w->s, frame, k);
    if (n)
        stream_write(w->s, p, n);
}

void ws_send(struct ws *w, enum ws_opcode op, const void *head, size_t head_n, const void *data, size_t n) {
    if (w->s && !w->closing)
        send_frame(w, op, head, head_n, data, n);
}

static void say_goodbye(struct ws *w, int code) {
    unsigned char payload[2] = {(unsigned char)(code >> 8), (unsigned char)code};
    if (w->closing || !w->s)
        return;
    send_frame(w, WS_CLOSE, payload, 2, NULL, 0);
    w->closing = true;
    stream_shutdown(w->s);
    stream_pause(w->s, false);
    timer_set(&w->timer, CLOSE_WAIT_MS, 500);
}

void ws_close(struct ws *w, enum ws_close_code code) {
    say_goodbye(w, code);
}

static int on_piece(void *arg, enum ws_opcode op, struct str data, bool first, bool last) {
    struct ws *w = arg;
    return w->closing ? 0 : w->ev.on_piece(w->ev.arg, op, data, first, last);
}

static int on_control(void *arg, enum ws_opcode op, struct str data) {
    struct ws *w = arg;
    if (op == WS_PING && !w->closing)
        send_frame(w, WS_PONG, NULL, 0, data.p, data.n);
    else if (op == WS_CLOSE)
        return data.n == 1 ? WS_PROTOCOL_ERROR : WS_NORMAL;
    return 0;
}

static const struct ws_decoder_ops decoder_ops = {on_piece, on_control};

/* The stream's bytes are not ours to change: they are unmasked in a copy. */
static void on_data(void *arg, struct str data) {
    struct ws *w = arg;
    char copy[UNMASK_BYTES];
    while (data.n && w->s) {
        size_t n = MIN(data.n, sizeof(copy));
        memcpy(copy, data.p, n);
        data = str_skip(data, n);
        int code = ws_decoder_feed(&w->in, copy, n);
        if (code) {
            say_goodbye(w, code);
            if (w->s)
                stream_pause(w->s, false);
            return;
        }
    }
}

static void on_eof(void *arg) {
    struct ws *w = arg;
    if (w->s)
        stream_close(w->s);
}

static void on_drain(void *arg) {
    struct ws *w = arg;
    if (w->ev.on_drain && !w->closing)
        w->ev.on_drain(w->ev.arg);
}

static void on_closed(void *arg, int reason) {
    struct ws *w = arg;
    w->s = NULL;
    timer_stop(&w->timer);
    w->ev.on_closed(w->ev.arg, reason);
    free(w);
}

static void on_timer(void *arg) {
    struct ws *w = arg;
    if (w->s)
        stream_close(w->s);
}

struct ws *ws_new(struct stream *s, const struct ws_events *ev) {
    struct ws *w = XNEW(struct ws);
    w->s = s;
    w->ev = *ev;
    timer_init(&w->timer, s->loop, on_timer, w);
    ws_decoder_init(&w->in, &decoder_ops, w);
    stream_start(s, &(struct stream_events){on_data, on_eof, on_closed, on_drain, w});
    return w;
}

void ws_pause(struct ws *w, bool pause) {
    if (w->s && !w->closing)
        stream_pause(w->s, pause);
}

size_t ws_backlog(const struct ws *w) {
    return w->s ? stream_backlog(w->s) : 0;
}

/* --- a byte stream in binary messages ----------------------------------------------------------------------------- */

struct tunnel {
    struct stream s;
    struct stream *under;
    struct ws *ws;
    bool paused, closing;
};

static int tunnel_piece(void *arg, enum ws_opcode op, struct str data, bool first, bool last) {
    struct tunnel *t = arg;
    if (op != WS_BINARY)
        return WS_UNSUPPORTED;
    if (data.n && !t->closing)
        t->s.ev.on_data(t->s.ev.arg, data);
    return 0;
}

static void tunnel_drain(void *arg) {
    struct tunnel *t = arg;
    if (t->s.ev.on_drain)
        t->s.ev.on_drain(t->s.ev.arg);
}

static void tunnel_closed(void *arg, int reason) {
    struct tunnel *t = arg;
    if (t->s.ev.on_closed)
        t->s.ev.on_closed(t->s.ev.arg, reason);
    free(t);
}

static struct tunnel *tunnel_of(struct stream *s) {
    return CONTAINER_OF(s, struct tunnel, s);
}

static void tunnel_start(struct stream *s) {
    struct tunnel *t = tunnel_of(s);
    t->ws = ws_new(t->under, &(struct ws_events){tunnel_piece, tunnel_drain, tunnel_closed, t});
    if (t->paused)
        ws_pause(t->ws, true);
}

static void tunnel_write(struct stream *s, const void *p, size_t n) {
    if (tunnel_of(s)->ws)
        ws_send(tunnel_of(s)->ws, WS_BINARY, NULL, 0, p, n);
}

static void tunnel_end(struct stream *s) {
    struct tunnel *t = tunnel_of(s);
    t->closing = true;
    if (!t->ws)
        tunnel_start(s);
    ws_close(t->ws, WS_NORMAL);
}

static void tunnel_pause(struct stream *s, bool pause) {
    struct tunnel *t = tunnel_of(s);
    t->paused = pause;
    if (t->ws)
        ws_pause(t->ws, pause);
}

static size_t tunnel_backlog(const struct stream *s) {
    const struct tunnel *t = CONTAINER_OF(s, const struct tunnel, s);
    return t->ws ? ws_backlog(t->ws) : 0;
}

struct stream *ws_tunnel(struct stream *under) {
    static const struct stream_ops ops = {tunnel_start, tunnel_write, tunnel_end,
                                          tunnel_pause, tunnel_end,   tunnel_backlog};
    struct tunnel *t = XNEW(struct tunnel);
    t->s.ops = &ops;
    t->s.loop = under->loop;
    t->under = under;
    return &t->s;
}
