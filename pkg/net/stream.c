#include "net/stream.h"

#include <stdlib.h>

#include "net/dial.h"
#include "net/stream_priv.h"

#define FIRST_MAX MiB(1)

struct conn_stream {
    struct stream s;
    struct conn *c;
    struct buf first; /* to be read before the connection */
    struct loop_flush deliver;
    bool started, paused, full, eof, closing;
    int reason;
};

static struct conn_stream *of(struct stream *s) {
    return CONTAINER_OF(s, struct conn_stream, s);
}

static void close_for(struct conn_stream *cs, int reason) {
    if (cs->closing)
        return;
    cs->closing = true;
    cs->reason = reason;
    loop_flush_cancel(&cs->deliver);
    conn_close(cs->c);
}

/* Both halves ended: the stream ends. */
static void close_when_ended(struct conn_stream *cs) {
    bool read_over = cs->eof || !conn_can_read(cs->c);
    if (cs->started && read_over && conn_shutdown_done(cs->c) && conn_backlog(cs->c) == 0)
        close_for(cs, 0);
}

static void deliver(void *arg) {
    struct conn_stream *cs = arg;
    if (cs->closing)
        return;
    if (cs->first.n) {
        if (cs->paused)
            return;
        cleanup_buf struct buf b = cs->first;
        buf_init(&cs->first, FIRST_MAX);
        cs->s.ev.on_data(cs->s.ev.arg, buf_str(&b));
        if (cs->closing)
            return;
    }
    conn_pause(cs->c, cs->paused);
    if (cs->eof) { /* it came while the first bytes waited */
        if (cs->s.ev.on_eof)
            cs->s.ev.on_eof(cs->s.ev.arg);
        close_when_ended(cs);
    } else {
        conn_start(cs->c);
    }
}

static void on_data(void *arg, const char *p, size_t n) {
    struct conn_stream *cs = arg;
    if (cs->started && !cs->first.n) {
        cs->s.ev.on_data(cs->s.ev.arg, str_n(p, n));
        return;
    }
    buf_put(&cs->first, p, n);
    if (cs->first.failed)
        close_for(cs, -ENOBUFS);
}

static void on_eof(void *arg, bool clean) {
    struct conn_stream *cs = arg;
    cs->eof = true;
    if (!cs->started || cs->first.n)
        return;
    if (cs->s.ev.on_eof)
        cs->s.ev.on_eof(cs->s.ev.arg);
    close_when_ended(cs);
}

static void on_flush(void *arg) {
    struct conn_stream *cs = arg;
    if (cs->full && conn_backlog(cs->c) < STREAM_BACKLOG_LOW) {
        cs->full = false;
        if (cs->s.ev.on_drain)
            cs->s.ev.on_drain(cs->s.ev.arg);
    }
    if (!cs->closing)
        close_when_ended(cs);
}

static void on_error(void *arg, const struct error *err) {
    close_for(arg, err->code ? err->code : -EIO);
}

static void on_closed(void *arg) {
    struct conn_stream *cs = arg;
    buf_fini(&cs->first);
    if (cs->s.ev.on_closed)
        cs->s.ev.on_closed(cs->s.ev.arg, cs->reason);
    free(cs);
}

static void cs_start(struct stream *s) {
    struct conn_stream *cs = of(s);
    cs->started = true;
    loop_flush_add(s->loop, &cs->deliver);
}

static void cs_write(struct stream *s, const void *p, size_t n) {
    struct conn_stream *cs = of(s);
    if (cs->closing)
        return;
    conn_write(cs->c, p, n);
    if (conn_backlog(cs->c) > STREAM_BACKLOG_HIGH)
        cs->full = true;
}

static void cs_shutdown(struct stream *s) {
    if (!of(s)->closing)
        conn_shutdown(of(s)->c);
}

static void cs_pause(struct stream *s, bool pause) {
    struct conn_stream *cs = of(s);
    if (cs->closing || cs->paused == pause)
        return;
    cs->paused = pause;
    if (cs->started && cs->first.n && !pause)
        loop_flush_add(s->loop, &cs->deliver);
    else if (!cs->first.n)
        conn_pause(cs->c, pause);
}

static void cs_close(struct stream *s) {
    close_for(of(s), 0);
}

static size_t cs_backlog(const struct stream *s) {
    return conn_backlog(CONTAINER_OF(s, const struct conn_stream, s)->c);
}

static const struct stream_ops conn_stream_ops = {cs_start, cs_write, cs_shutdown, cs_pause, cs_close, cs_backlog};

static struct stream *stream_new(struct conn *c) {
    struct conn_stream *cs = XNEW(struct conn_stream);
    cs->s.ops = &conn_stream_ops;
    cs->s.loop = conn_loop(c);
    cs->c = c;
    buf_init(&cs->first, FIRST_MAX);
    loop_flush_init(&cs->deliver, deliver, cs);
    conn_set_events(c, &(struct conn_events){.on_data = on_data,
                                             .on_eof = on_eof,
                                             .on_flush = on_flush,
                                             .on_error = on_error,
                                             .on_closed = on_closed,
                                             .arg = cs});
    return &cs->s;
}

struct stream *stream_from_conn(struct conn *c, struct buf *first) {
    struct stream *s = stream_new(c);
    conn_pause(c, true); /* until started */
    if (first && first->n) {
        buf_put(&of(s)->first, first->p, first->n);
        buf_reset(first);
    }
    return s;
}

struct stream *stream_from_fd(struct loop *l, int fd) {
    struct conn *c = conn_new(l, fd, NULL, NULL);
    return c ? stream_new(c) : NULL;
}

/* --- connecting --------------------------------------------------------------------------------------------------- */

struct connect {
    struct loop *loop;
    void (*done)(void *arg, struct stream *s, int code);
    void *arg;
};

static void on_dialled(void *arg, int fd, int code) {
    struct connect *k = arg;
    struct stream *s = code ? NULL : stream_from_fd(k->loop, fd);
    k->done(k->arg, s, s ? 0 : code ? code : -EIO);
    free(k);
}

static void bad_address(void *arg) {
    on_dialled(arg, -1, -EINVAL);
}

void stream_connect(struct loop *l, const char *address, int netns_fd, int64_t timeout_ms,
                    void (*done)(void *arg, struct stream *s, int code), void *arg) {
    struct connect *k = XNEW(struct connect);
    struct address to;
    *k = (struct connect){l, done, arg};
    if (address_parse(str_c(address), &to))
        loop_post(l, bad_address, k);
    else
        dial_start(l, &to, netns_fd, timeout_ms, on_dialled, k);
}

/* --- splicing ----------------------------------------------------------------------------------------------------- */

struct splice {
    struct half {
        struct splice *sp;
        struct stream *s; /* NULL once closed */
    } half[2];
    loop_fn done;
    void *arg;
};

static struct half *other(struct half *h) {
    return h == &h->sp->half[0] ? &h->sp->half[1] : &h->sp->half[0];
}

static void splice_data(void *arg, struct str data) {
    struct half *from = arg, *to = other(from);
    if (!to->s)
        return;
    stream_write(to->s, data.p, data.n);
    if (stream_backlog(to->s) > STREAM_BACKLOG_HIGH)
        stream_pause(from->s, true);
}

static void splice_drain(void *arg) {
    struct half *from = other(arg);
    if (from->s)
        stream_pause(from->s, false);
}

static void splice_eof(void *arg) {
    struct half *to = other(arg);
    if (to->s)
        stream_shutdown(to->s);
}

static void splice_closed(void *arg, int reason) {
    struct half *h = arg, *o = other(h);
    struct splice *sp = h->sp;
    h->s = NULL;
    if (o->s) {
        /* After a regular end the other side still gets what is queued for it; after an error there is no point. */
        if (reason)
            stream_close(o->s);
        else
            stream_shutdown(o->s);
        if (o->s && !reason)
            stream_pause(o->s, false);
        return;
    }
    if (sp->done)
        sp->done(sp->arg);
    free(sp);
}

void stream_splice(struct stream *a, struct stream *b, loop_fn done, void *arg) {
    REQUIRE(a && b && a->loop == b->loop);
    struct splice *sp = XNEW(struct splice);
    *sp = (struct splice){{{sp, a}, {sp, b}}, done, arg};
    for (int i = 0; i < 2; i++) {
        const struct stream_events ev = {splice_data, splice_eof, splice_closed, splice_drain, &sp->half[i]};
        stream_start(sp->half[i].s, &ev);
    }
}
