#include <stdlib.h>
#include <string.h>

#include "codec/json.h"
#include "net/channels_priv.h"
#include "net/http_parse.h"

#define RESIZE_MAX KiB(4)
#define STREAMS_TIMEOUT_MS 30000 /* SPDY: all streams must be open by then, as at the kubelet */

struct exec {
    struct channels c;
    struct channels_exec_events ev;
    bool tty, ready, wants[CHANNEL_MAX], open[CHANNEL_MAX];
    uint32_t id[CHANNEL_MAX]; /* SPDY */
    bool stdin_ended;
    struct buf resize;
    struct timer timer;
};

static const char *const stream_types[CHANNEL_MAX] = {"stdin", "stdout", "stderr", "error", "resize"};

static struct exec *of(struct channels *c) {
    return CONTAINER_OF(c, struct exec, c);
}

/* --- what the client sends ---------------------------------------------------------------------------------------- */

/* {"Width":80,"Height":24}, one behind the other. */
static void on_resize(struct exec *e, struct str data) {
    buf_put_str(&e->resize, data);
    for (;;) {
        ptrdiff_t end = str_index(buf_str(&e->resize), '}', 0);
        if (end < 0 || e->resize.failed)
            break;
        cleanup_arena struct arena *a = arena_new(1024, KiB(64));
        struct json *size = json_parse(a, str_n(e->resize.p, (size_t)end + 1), NULL, NULL);
        int64_t width = json_int_at(size, "Width", 0), height = json_int_at(size, "Height", 0);
        buf_consume(&e->resize, (size_t)end + 1);
        if (width > 0 && width < 65536 && height > 0 && height < 65536 && e->ev.on_resize)
            e->ev.on_resize(e->ev.arg, (int)width, (int)height);
    }
    if (e->resize.failed) {
        buf_fini(&e->resize);
        buf_init(&e->resize, RESIZE_MAX);
    }
}

static void end_stdin(struct exec *e) {
    if (e->stdin_ended || !e->wants[CHANNEL_STDIN])
        return;
    e->stdin_ended = true;
    if (e->ev.on_stdin_eof)
        e->ev.on_stdin_eof(e->ev.arg);
}

static void channel_data(struct exec *e, unsigned channel, struct str data) {
    if (e->c.closing || !data.n)
        return;
    if (channel == CHANNEL_STDIN && e->wants[CHANNEL_STDIN] && !e->stdin_ended)
        e->ev.on_stdin(e->ev.arg, data);
    else if (channel == CHANNEL_RESIZE && e->tty)
        on_resize(e, data);
}

static void on_channel(struct channels *c, unsigned channel, struct str data) {
    channel_data(of(c), channel, data);
}

static void on_channel_close(struct channels *c, unsigned channel) {
    if (channel == CHANNEL_STDIN)
        end_stdin(of(c));
}

/* --- SPDY: streams by their header --------------------------------------------------------------------------------- */

static void check_ready(struct exec *e) {
    for (int i = 0; i < CHANNEL_MAX; i++) {
        if (e->wants[i] && !e->open[i])
            return;
    }
    if (e->ready)
        return;
    e->ready = true;
    timer_stop(&e->timer);
    e->ev.on_ready(e->ev.arg, &e->c);
}

static int channel_of(const struct exec *e, uint32_t id) {
    for (int i = 0; i < CHANNEL_MAX; i++) {
        if (e->open[i] && e->id[i] == id)
            return i;
    }
    return -1;
}

static bool spdy_stream(void *arg, uint32_t id, const struct http_header *headers, size_t n) {
    struct exec *e = of(arg);
    struct str type = http_find_header(headers, n, "streamtype");
    for (int i = 0; i < CHANNEL_MAX; i++) {
        if (!e->wants[i] || e->open[i] || !str_eq_c(type, stream_types[i]))
            continue;
        e->open[i] = true;
        e->id[i] = id;
        check_ready(e);
        return true;
    }
    return false;
}

static void spdy_data(void *arg, uint32_t id, struct str data) {
    struct exec *e = of(arg);
    int channel = channel_of(e, id);
    if (channel >= 0)
        channel_data(e, (unsigned)channel, data);
}

static void spdy_ended(void *arg, uint32_t id) {
    struct exec *e = of(arg);
    if (channel_of(e, id) == CHANNEL_STDIN && !e->c.closing)
        end_stdin(e);
}

/* --- life --------------------------------------------------------------------------------------------------------- */

static void on_open(struct channels *c) {
    struct exec *e = of(c);
    if (c->spdy) {
        e->wants[CHANNEL_RESIZE] = e->tty && c->version >= 3;
        timer_set(&e->timer, STREAMS_TIMEOUT_MS, 1000);
        return;
    }
    memcpy(e->open, e->wants, sizeof(e->open));
    /* An empty message on the first channel tells the client that it stands, as the kubelet does. */
    channels_send(c,
                  e->wants[CHANNEL_STDOUT]   ? CHANNEL_STDOUT
                  : e->wants[CHANNEL_STDERR] ? CHANNEL_STDERR
                                             : CHANNEL_ERROR,
                  "", 0);
    check_ready(e);
}

static void on_drain(struct channels *c) {
    struct exec *e = of(c);
    if (e->ev.on_drain)
        e->ev.on_drain(e->ev.arg);
}

static void on_closed(struct channels *c) {
    struct exec *e = of(c);
    timer_stop(&e->timer);
    buf_fini(&e->resize);
    e->ev.on_closed(e->ev.arg);
    free(e);
}

static void on_timer(void *arg) {
    struct exec *e = arg;
    channels_end(&e->c);
}

static const struct channels_protocol ws_protocols[] = {{"v5.channel.k8s.io", 5, false, false},
                                                        {"v4.channel.k8s.io", 4, false, false},
                                                        {"v4.base64.channel.k8s.io", 4, true, false},
                                                        {"channel.k8s.io", 1, false, false},
                                                        {"base64.channel.k8s.io", 1, true, false},
                                                        {NULL, 0, false, false}};
static const struct channels_protocol spdy_protocols[] = {{"v5.channel.k8s.io", 5, false, false},
                                                          {"v4.channel.k8s.io", 4, false, false},
                                                          {"v3.channel.k8s.io", 3, false, false},
                                                          {"v2.channel.k8s.io", 2, false, false},
                                                          {"channel.k8s.io", 1, false, false},
                                                          {NULL, 0, false, false}};

static const struct channels_ops exec_ops = {
    .ws = ws_protocols,
    .spdy = spdy_protocols,
    .on_open = on_open,
    .on_channel = on_channel,
    .on_channel_close = on_channel_close,
    .on_drain = on_drain,
    .on_closed = on_closed,
    .spdy_events = {.on_stream = spdy_stream, .on_data = spdy_data, .on_fin = spdy_ended, .on_reset = spdy_ended},
};

void channels_exec_start(struct http_exchange *x, bool stdin_, bool stdout_, bool stderr_, bool tty,
                         const struct channels_exec_events *ev) {
    struct exec *e = XNEW(struct exec);
    e->ev = *ev;
    e->tty = tty;
    e->wants[CHANNEL_STDIN] = stdin_;
    e->wants[CHANNEL_STDOUT] = stdout_;
    e->wants[CHANNEL_STDERR] = stderr_ && !tty; /* a terminal has one output */
    e->wants[CHANNEL_ERROR] = true;
    buf_init(&e->resize, RESIZE_MAX);
    timer_init(&e->timer, http_exchange_loop(x), on_timer, e);
    channels_open(&e->c, &exec_ops, x);
}

void channels_write(struct channels *c, enum channel_id id, const void *data, size_t n) {
    struct exec *e = of(c);
    if (c->closing || !n || !e->open[id])
        return;
    if (c->spdy)
        spdy_write(c->spdy, e->id[id], data, n);
    else
        channels_send(c, id, data, n);
}

/* Before v4 the error channel carries the bare text of a failure, and nothing after success. */
static void write_status(struct channels *c, struct str status_json) {
    if (c->version >= 4) {
        channels_write(c, CHANNEL_ERROR, status_json.p, status_json.n);
        return;
    }
    cleanup_arena struct arena *a = arena_new(0, MiB(1));
    struct json *status = json_parse(a, status_json, NULL, NULL);
    struct str message = json_str_at(status, "message");
    if (!str_eq(json_str_at(status, "status"), STR("Success")))
        channels_write(c, CHANNEL_ERROR, message.p, message.n);
}

void channels_finish(struct channels *c, struct str status_json) {
    static const enum channel_id order[] = {CHANNEL_STDOUT, CHANNEL_STDERR, CHANNEL_ERROR, CHANNEL_STDIN,
                                            CHANNEL_RESIZE};
    struct exec *e = of(c);
    if (c->closing)
        return;
    write_status(c, status_json);
    for (size_t i = 0; c->spdy && i < ARRAY_LEN(order); i++) {
        if (e->open[order[i]])
            spdy_fin(c->spdy, e->id[order[i]]);
    }
    channels_end(c);
}
