#include <stdlib.h>
#include <string.h>

#include "net/channels_priv.h"
#include "net/http_parse.h"

#define PAIRS_MAX 256
#define WAITING_MAX MiB(1) /* bytes of a pair before its stream is started */

struct forward;

/* A connection the client forwards: its data is a stream to the caller. */
struct pair {
    struct stream s;
    struct list link;
    struct forward *f; /* NULL once the pair left it */
    int request_id, port;
    uint32_t data_id, error_id; /* SPDY, 0: not open yet */
    unsigned channel;           /* WebSocket: of the data; the error's is the next */
    struct buf waiting;
    struct loop_flush turn; /* what is due at the end of this turn */
    bool announced, accepted, started, paused;
    bool in_ended, in_told, out_ended, over, full;
    int reason;
};

struct forward {
    struct channels c;
    struct channels_forward_events ev;
    struct list pairs; /* those over stay while their answer is due */
    size_t pairs_n, ports_n;
    int *ports;
    bool closed;
};

static struct forward *of(struct channels *c) {
    return CONTAINER_OF(c, struct forward, c);
}

static struct pair *pair_of(struct stream *s) {
    return CONTAINER_OF(s, struct pair, s);
}

static bool pair_writable(const struct pair *p) {
    return p->f && !p->over && !p->out_ended;
}

/* --- back-pressure: the connection is paused while any of its pairs is -------------------------------------------- */

static void pause_update(struct forward *f) {
    bool any = false;
    LIST_FOREACH (it, &f->pairs)
        any |= LIST_ITEM(it, struct pair, link)->paused;
    channels_pause(&f->c, any);
}

/* --- the end of a pair -------------------------------------------------------------------------------------------- */

static void pair_free(struct pair *p) {
    loop_flush_cancel(&p->turn);
    buf_fini(&p->waiting);
    free(p);
}

static void forward_free_when_answered(struct forward *f) {
    if (!f->closed || !list_empty(&f->pairs))
        return;
    free(f->ports);
    free(f);
}

/* Takes the pair off its connection for good. */
static void pair_detach(struct pair *p) {
    struct forward *f = TAKE_PTR(p->f);
    list_remove(&p->link);
    forward_free_when_answered(f);
}

/* The pair ends; the caller hears of it at the end of the turn, or when it answers. */
static void pair_leave(struct pair *p, int reason) {
    struct forward *f = p->f;
    if (p->over)
        return;
    p->over = true;
    p->reason = reason;
    p->paused = false;
    f->pairs_n--;
    pause_update(f);
    bool last_of_ws = f->c.ws && f->pairs_n == 0;
    if (last_of_ws)
        channels_end(&f->c);
    if (p->announced && !p->accepted)
        return; /* its answer is due */
    pair_detach(p);
    if (p->accepted)
        loop_flush_add(p->s.loop, &p->turn);
    else
        pair_free(p);
}

static void pair_end(struct pair *p, int reason) {
    struct forward *f = p->f;
    if (p->over)
        return;
    if (f->c.spdy && !f->c.closing) {
        if (reason || !p->in_ended || !p->out_ended)
            spdy_reset(f->c.spdy, p->data_id);
        spdy_fin(f->c.spdy, p->error_id); /* the client waits for it: no text means no error */
    }
    pair_leave(p, reason);
}

static void end_when_both(struct pair *p) {
    if (p->in_told && p->out_ended)
        pair_end(p, 0);
}

/* --- the data stream ---------------------------------------------------------------------------------------------- */

static void on_turn(void *arg) {
    struct pair *p = arg;
    if (p->started && !p->over && !p->paused && p->waiting.n) {
        cleanup_buf struct buf b = p->waiting;
        buf_init(&p->waiting, WAITING_MAX);
        p->s.ev.on_data(p->s.ev.arg, buf_str(&b));
    }
    if (p->started && !p->over && p->in_ended && !p->in_told && !p->waiting.n) {
        p->in_told = true;
        if (p->s.ev.on_eof)
            p->s.ev.on_eof(p->s.ev.arg);
        end_when_both(p);
    }
    if (p->over && p->started) {
        if (p->s.ev.on_closed)
            p->s.ev.on_closed(p->s.ev.arg, p->reason);
        pair_free(p);
    }
}

static void pair_data(struct pair *p, struct str data) {
    if (p->started && !p->waiting.n && !p->paused) {
        p->s.ev.on_data(p->s.ev.arg, data);
        return;
    }
    buf_put_str(&p->waiting, data);
    if (p->waiting.failed)
        pair_end(p, -ENOBUFS);
}

static void pair_eof(struct pair *p) {
    p->in_ended = true;
    loop_flush_add(p->s.loop, &p->turn);
}

static void ps_start(struct stream *s) {
    struct pair *p = pair_of(s);
    p->started = true;
    loop_flush_add(s->loop, &p->turn);
}

static void ps_write(struct stream *s, const void *data, size_t n) {
    struct pair *p = pair_of(s);
    if (!pair_writable(p))
        return;
    if (p->f->c.spdy)
        spdy_write(p->f->c.spdy, p->data_id, data, n);
    else if (n)
        channels_send(&p->f->c, p->channel, data, n);
    if (channels_backlog(&p->f->c) > STREAM_BACKLOG_HIGH)
        p->full = true;
}

static void ps_shutdown(struct stream *s) {
    struct pair *p = pair_of(s);
    if (!pair_writable(p))
        return;
    p->out_ended = true;
    if (p->f->c.spdy)
        spdy_fin(p->f->c.spdy, p->data_id);
    else
        p->in_ended = p->in_told = true; /* channels over WebSocket have no half-close */
    end_when_both(p);
}

static void ps_pause(struct stream *s, bool pause) {
    struct pair *p = pair_of(s);
    if (p->over || p->paused == pause)
        return;
    p->paused = pause;
    pause_update(p->f);
    if (!pause)
        loop_flush_add(s->loop, &p->turn);
}

static void ps_close(struct stream *s) {
    pair_end(pair_of(s), 0);
}

static size_t ps_backlog(const struct stream *s) {
    const struct pair *p = CONTAINER_OF(s, const struct pair, s);
    return p->f ? channels_backlog(&p->f->c) : 0;
}

static const struct stream_ops pair_ops = {ps_start, ps_write, ps_shutdown, ps_pause, ps_close, ps_backlog};

static struct pair *pair_new(struct forward *f, int request_id) {
    struct pair *p = XNEW(struct pair);
    p->s.ops = &pair_ops;
    p->s.loop = f->c.loop;
    p->f = f;
    p->request_id = request_id;
    buf_init(&p->waiting, WAITING_MAX);
    loop_flush_init(&p->turn, on_turn, p);
    list_push_back(&f->pairs, &p->link);
    f->pairs_n++;
    return p;
}

static struct pair *find_pair(struct forward *f, int request_id) {
    LIST_FOREACH (it, &f->pairs) {
        struct pair *p = LIST_ITEM(it, struct pair, link);
        if (p->request_id == request_id && !p->over)
            return p;
    }
    return NULL;
}

static struct pair *find_stream(struct forward *f, uint32_t id) {
    LIST_FOREACH (it, &f->pairs) {
        struct pair *p = LIST_ITEM(it, struct pair, link);
        if (!p->over && (p->data_id == id || p->error_id == id))
            return p;
    }
    return NULL;
}

/* --- SPDY --------------------------------------------------------------------------------------------------------- */

/* Clients before 1.3 send no request id: they open error and data one after the other. */
static bool request_id_of(uint32_t id, bool is_error, struct str text, int *out) {
    int64_t v;
    if (!text.n) {
        *out = (int)(is_error ? id : id - 2);
        return true;
    }
    if (!str_to_i64(text, &v) || v < 0 || v > INT32_MAX)
        return false;
    *out = (int)v;
    return true;
}

static bool spdy_stream(void *arg, uint32_t id, const struct http_header *headers, size_t n) {
    struct forward *f = of(arg);
    struct str type = http_find_header(headers, n, "streamtype");
    bool is_error = str_eq(type, STR("error"));
    int64_t port;
    int request_id;
    if ((!is_error && !str_eq(type, STR("data"))) || !str_to_i64(http_find_header(headers, n, "port"), &port) ||
        port < 1 || port > 65535 ||
        !request_id_of(id, is_error, http_find_header(headers, n, "requestid"), &request_id))
        return false;
    struct pair *p = find_pair(f, request_id);
    if (!p && f->pairs_n >= PAIRS_MAX)
        return false;
    if (!p) {
        p = pair_new(f, request_id);
        p->port = (int)port;
    }
    if (p->port != (int)port || (is_error ? p->error_id : p->data_id))
        return false;
    *(is_error ? &p->error_id : &p->data_id) = id;
    if (p->data_id && p->error_id && !p->announced) {
        p->announced = true;
        f->ev.on_open(f->ev.arg, &f->c, request_id, p->port);
    }
    return true;
}

static void spdy_data(void *arg, uint32_t id, struct str data) {
    struct pair *p = find_stream(of(arg), id);
    if (p && p->data_id == id)
        pair_data(p, data);
}

static void spdy_ended(void *arg, uint32_t id) {
    struct pair *p = find_stream(of(arg), id);
    if (p && p->data_id == id)
        pair_eof(p);
}

static void spdy_was_reset(void *arg, uint32_t id) {
    struct pair *p = find_stream(of(arg), id);
    if (p && p->data_id == id)
        pair_end(p, -ECONNRESET);
}

/* --- channels over WebSocket: two a port of the request, announced by the port's number ---------------------------- */

static void on_open(struct channels *c) {
    struct forward *f = of(c);
    if (c->spdy)
        return;
    for (size_t i = 0; i < f->ports_n && i < PAIRS_MAX; i++) {
        struct pair *p = pair_new(f, (int)i);
        const unsigned char le[2] = {(unsigned char)f->ports[i], (unsigned char)(f->ports[i] >> 8)};
        p->port = f->ports[i];
        p->channel = (unsigned)(2 * i);
        p->announced = true;
        channels_send(c, p->channel, le, 2);
        channels_send(c, p->channel + 1, le, 2);
    }
    for (size_t i = 0; i < f->ports_n && i < PAIRS_MAX; i++) {
        struct pair *p = find_pair(f, (int)i);
        if (p)
            f->ev.on_open(f->ev.arg, c, (int)i, p->port);
    }
    if (f->pairs_n == 0)
        channels_end(c);
}

static void on_channel(struct channels *c, unsigned channel, struct str data) {
    struct pair *p = find_pair(of(c), (int)(channel / 2));
    if (p && channel % 2 == 0 && data.n)
        pair_data(p, data);
}

static void on_channel_close(struct channels *c, unsigned channel) {
    struct pair *p = find_pair(of(c), (int)(channel / 2));
    if (p && channel % 2 == 0)
        pair_eof(p);
}

/* --- life --------------------------------------------------------------------------------------------------------- */

static void on_drain(struct channels *c) {
    LIST_FOREACH (it, &of(c)->pairs) {
        struct pair *p = LIST_ITEM(it, struct pair, link);
        if (p->full && p->started && !p->over) {
            p->full = false;
            if (p->s.ev.on_drain)
                p->s.ev.on_drain(p->s.ev.arg);
        }
    }
}

static void on_closed(struct channels *c) {
    struct forward *f = of(c);
    LIST_FOREACH (it, &f->pairs)
        pair_leave(LIST_ITEM(it, struct pair, link), -ECONNRESET);
    f->ev.on_closed(f->ev.arg);
    f->closed = true;
    forward_free_when_answered(f);
}

static const struct channels_protocol ws_protocols[] = {{"SPDY/3.1+portforward.k8s.io", 1, false, true},
                                                        {"v4.channel.k8s.io", 4, false, false},
                                                        {"v4.base64.channel.k8s.io", 4, true, false},
                                                        {"v5.channel.k8s.io", 5, false, false},
                                                        {NULL, 0, false, false}};
static const struct channels_protocol spdy_protocols[] = {{"portforward.k8s.io", 1, false, false},
                                                          {NULL, 0, false, false}};

static const struct channels_ops forward_ops = {
    .ws = ws_protocols,
    .spdy = spdy_protocols,
    .on_open = on_open,
    .on_channel = on_channel,
    .on_channel_close = on_channel_close,
    .on_drain = on_drain,
    .on_closed = on_closed,
    .spdy_events = {.on_stream = spdy_stream, .on_data = spdy_data, .on_fin = spdy_ended, .on_reset = spdy_was_reset},
};

void channels_forward_start(struct http_exchange *x, const int *ports, size_t ports_n,
                            const struct channels_forward_events *ev) {
    struct forward *f = XNEW(struct forward);
    f->ev = *ev;
    f->ports_n = ports_n;
    f->ports = xcalloc(ports_n, sizeof(int));
    if (ports_n)
        memcpy(f->ports, ports, ports_n * sizeof(int));
    list_init(&f->pairs);
    channels_open(&f->c, &forward_ops, x);
}

static struct pair *find_unanswered(struct forward *f, int request_id) {
    LIST_FOREACH (it, &f->pairs) {
        struct pair *p = LIST_ITEM(it, struct pair, link);
        if (p->request_id == request_id && p->announced && !p->accepted)
            return p;
    }
    return NULL;
}

struct stream *channels_forward_accept(struct channels *c, int request_id) {
    struct pair *p = find_unanswered(of(c), request_id);
    if (!p)
        return NULL;
    p->accepted = true;
    if (p->over)
        pair_detach(p); /* closes when started */
    return &p->s;
}

void channels_forward_refuse(struct channels *c, int request_id, const char *message) {
    struct pair *p = find_unanswered(of(c), request_id);
    if (!p)
        return;
    if (p->over) {
        pair_detach(p);
        pair_free(p);
        return;
    }
    if (c->spdy)
        spdy_write(c->spdy, p->error_id, message, strlen(message));
    else
        channels_send(c, p->channel + 1, message, strlen(message));
    p->announced = false; /* answered */
    pair_end(p, 0);
}
