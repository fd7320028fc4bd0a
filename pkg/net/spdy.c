#include "net/spdy.h"

#include <stdlib.h>
#include <string.h>

#define CLOSE_WAIT_MS 2000
#define DATA_MAX KiB(64) /* of one data frame */

enum reset_status { RESET_PROTOCOL_ERROR = 1, RESET_REFUSED = 3, RESET_CANCEL = 5 };

struct spdy_stream {
    uint32_t id;
    bool local_fin, remote_fin;
};

struct spdy {
    struct stream *s; /* NULL once closed */
    struct spdy_events ev;
    struct spdy_decoder *in;
    VEC(struct spdy_stream) streams;
    uint32_t last_id;
    bool headers_started, closing;
    struct timer timer;
};

static struct spdy_stream *find(struct spdy *p, uint32_t id) {
    for (size_t i = 0; i < p->streams.n; i++) {
        if (p->streams.items[i].id == id)
            return &p->streams.items[i];
    }
    return NULL;
}

static void forget(struct spdy *p, uint32_t id) {
    struct spdy_stream *st = find(p, id);
    if (st)
        vec_remove(&p->streams, (size_t)(st - p->streams.items));
}

static void forget_when_over(struct spdy *p, uint32_t id) {
    struct spdy_stream *st = find(p, id);
    if (st && st->local_fin && st->remote_fin)
        forget(p, id);
}

/* --- writing ------------------------------------------------------------------------------------------------------ */

static void put_u32(unsigned char *out, uint32_t v) {
    out[0] = (unsigned char)(v >> 24);
    out[1] = (unsigned char)(v >> 16);
    out[2] = (unsigned char)(v >> 8);
    out[3] = (unsigned char)v;
}

static void send_control(struct spdy *p, enum spdy_type type, const void *body, size_t n) {
    unsigned char head[8];
    if (!p->s)
        return;
    put_u32(head, 0x80030000u | type);
    put_u32(head + 4, (uint32_t)n);
    stream_write(p->s, head, sizeof(head));
    stream_write(p->s, body, n);
}

static void send_two(struct spdy *p, enum spdy_type type, uint32_t a, uint32_t b) {
    unsigned char body[8];
    put_u32(body, a);
    put_u32(body + 4, b);
    send_control(p, type, body, sizeof(body));
}

static void send_data(struct spdy *p, uint32_t id, const void *data, size_t n, bool fin) {
    unsigned char head[8];
    put_u32(head, id);
    put_u32(head + 4, (uint32_t)n | (fin ? (uint32_t)SPDY_FLAG_FIN << 24 : 0));
    stream_write(p->s, head, sizeof(head));
    if (n)
        stream_write(p->s, data, n);
}

void spdy_write(struct spdy *p, uint32_t id, const void *data, size_t n) {
    struct spdy_stream *st = find(p, id);
    if (!st || st->local_fin || p->closing || !p->s)
        return;
    for (const char *at = data; n;) {
        size_t k = MIN(n, DATA_MAX);
        send_data(p, id, at, k, false);
        at += k;
        n -= k;
    }
}

void spdy_fin(struct spdy *p, uint32_t id) {
    struct spdy_stream *st = find(p, id);
    if (!st || st->local_fin || p->closing || !p->s)
        return;
    st->local_fin = true;
    send_data(p, id, NULL, 0, true);
    forget_when_over(p, id);
}

void spdy_reset(struct spdy *p, uint32_t id) {
    if (!find(p, id))
        return;
    send_two(p, SPDY_RST_STREAM, id, RESET_CANCEL);
    forget(p, id);
}

void spdy_close(struct spdy *p) {
    if (p->closing || !p->s)
        return;
    send_two(p, SPDY_GOAWAY, p->last_id, 0);
    p->closing = true;
    stream_shutdown(p->s);
    stream_pause(p->s, false);
    timer_set(&p->timer, CLOSE_WAIT_MS, 500);
}

/* --- frames of the client ----------------------------------------------------------------------------------------- */

static void reply(struct spdy *p, uint32_t id) {
    cleanup_buf struct buf body = BUF_INIT;
    unsigned char be[4];
    put_u32(be, id);
    buf_put(&body, be, 4);
    spdy_put_headers(&body, &p->headers_started, NULL, 0);
    send_control(p, SPDY_SYN_REPLY, body.p, body.n);
}

static int on_syn(void *arg, uint32_t id, const struct http_header *headers, size_t n, bool fin) {
    struct spdy *p = arg;
    if (p->closing)
        return 0;
    if (id % 2 == 0 || id <= p->last_id)
        return -EPROTO;
    p->last_id = id;
    if (p->streams.n >= SPDY_STREAMS_MAX) {
        send_two(p, SPDY_RST_STREAM, id, RESET_REFUSED);
        return 0;
    }
    struct spdy_stream st = {.id = id};
    vec_push(&p->streams, st);
    reply(p, id); /* before whatever on_stream() writes to it */
    if (!p->ev.on_stream(p->ev.arg, id, headers, n)) {
        if (find(p, id))
            send_two(p, SPDY_RST_STREAM, id, RESET_REFUSED);
        forget(p, id);
    } else if (fin && find(p, id)) {
        find(p, id)->remote_fin = true;
        p->ev.on_fin(p->ev.arg, id);
        forget_when_over(p, id);
    }
    return 0;
}

static int on_frame_data(void *arg, uint32_t id, struct str data, bool fin) {
    struct spdy *p = arg;
    struct spdy_stream *st = find(p, id);
    if (!st || st->remote_fin || p->closing)
        return 0; /* crossed our reset */
    if (data.n)
        p->ev.on_data(p->ev.arg, id, data);
    st = find(p, id);
    if (fin && st && !p->closing) {
        st->remote_fin = true;
        p->ev.on_fin(p->ev.arg, id);
        forget_when_over(p, id);
    }
    return 0;
}

static int on_reset(void *arg, uint32_t id) {
    struct spdy *p = arg;
    if (!find(p, id) || p->closing)
        return 0;
    forget(p, id);
    p->ev.on_reset(p->ev.arg, id);
    return 0;
}

static int on_ping(void *arg, uint32_t id) {
    struct spdy *p = arg;
    unsigned char be[4];
    put_u32(be, id);
    if (id % 2 && !p->closing) /* a client's; an even one is an answer to a ping of ours, and there is none */
        send_control(p, SPDY_PING, be, 4);
    return 0;
}

static int on_goaway(void *arg) {
    return 0; /* no new streams: there is nothing to do about it */
}

static const struct spdy_decoder_ops decoder_ops = {on_syn, on_frame_data, on_reset, on_ping, on_goaway};

static void on_data(void *arg, struct str data) {
    struct spdy *p = arg;
    if (p->closing)
        return;
    int rc = spdy_decoder_feed(p->in, data);
    if (rc && p->s && !p->closing) {
        send_two(p, SPDY_GOAWAY, p->last_id, RESET_PROTOCOL_ERROR);
        p->closing = true;
        stream_shutdown(p->s);
        timer_set(&p->timer, CLOSE_WAIT_MS, 500);
    }
}

static void on_eof(void *arg) {
    struct spdy *p = arg;
    if (p->s)
        stream_close(p->s);
}

static void on_drain(void *arg) {
    struct spdy *p = arg;
    if (p->ev.on_drain && !p->closing)
        p->ev.on_drain(p->ev.arg);
}

static void on_closed(void *arg, int reason) {
    struct spdy *p = arg;
    p->s = NULL;
    timer_stop(&p->timer);
    p->ev.on_closed(p->ev.arg, reason);
    spdy_decoder_free(p->in);
    vec_fini(&p->streams);
    free(p);
}

static void on_timer(void *arg) {
    struct spdy *p = arg;
    if (p->s)
        stream_close(p->s);
}

struct spdy *spdy_new(struct stream *s, const struct spdy_events *ev) {
    struct spdy *p = XNEW(struct spdy);
    p->s = s;
    p->ev = *ev;
    p->in = spdy_decoder_new(&decoder_ops, p);
    timer_init(&p->timer, s->loop, on_timer, p);
    stream_start(s, &(struct stream_events){on_data, on_eof, on_closed, on_drain, p});
    return p;
}

void spdy_pause(struct spdy *p, bool pause) {
    if (p->s && !p->closing)
        stream_pause(p->s, pause);
}

size_t spdy_backlog(const struct spdy *p) {
    return p->s ? stream_backlog(p->s) : 0;
}
