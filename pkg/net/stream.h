/*
 * A duplex byte stream on one loop: TCP, TLS, pipe, pty, or a protocol layered on another stream (WebSocket, one SPDY
 * channel). Callbacks come on the stream's loop, never inline.
 */
#pragma once

#include "net/loop.h"

struct stream;

struct stream_events {
    void (*on_data)(void *arg, struct str data);
    void (*on_eof)(void *arg);                /* the peer ended its half; writing goes on */
    void (*on_closed)(void *arg, int reason); /* last call: 0 or negative errno; the stream is gone after it */
    void (*on_drain)(void *arg);              /* backlog fell below the low mark after a full one; may be NULL */
    void *arg;
};

struct stream_ops { /* what a kind of stream implements */
    void (*start)(struct stream *s);
    void (*write)(struct stream *s, const void *data, size_t n); /* copies */
    void (*shutdown)(struct stream *s);                          /* no more writes; ends our half */
    void (*pause)(struct stream *s, bool pause);
    void (*close)(struct stream *s); /* drops what is not written; on_closed follows */
    size_t (*backlog)(const struct stream *s);
};

struct stream {
    const struct stream_ops *ops;
    struct stream_events ev;
    struct loop *loop;
};

/* Writers pause their source beyond the high mark and go on at on_drain; a stream whose backlog reaches 64 MiB closes with
 * -ENOBUFS. */
#define STREAM_BACKLOG_HIGH KiB(256)
#define STREAM_BACKLOG_LOW KiB(64)

/* Sets the receiver and starts reading. */
static inline void stream_start(struct stream *s, const struct stream_events *ev) {
    s->ev = *ev;
    s->ops->start(s);
}
static inline void stream_write(struct stream *s, const void *data, size_t n) {
    s->ops->write(s, data, n);
}
static inline void stream_shutdown(struct stream *s) {
    s->ops->shutdown(s);
}
static inline void stream_pause(struct stream *s, bool pause) {
    s->ops->pause(s, pause);
}
static inline void stream_close(struct stream *s) {
    s->ops->close(s);
}
static inline size_t stream_backlog(const struct stream *s) {
    return s->ops->backlog(s);
}

/* A stream over a non-blocking fd it owns: socket, pipe end (read or write only), pty master. NULL (and the fd closed)
 * when it cannot be waited for, as a regular file. When both halves ended and all is written it closes by itself with
 * on_closed(0); a half that the fd does not have counts as ended. */
struct stream *stream_from_fd(struct loop *l, int fd);
/* Connects to "ip:port" (no names); done gets the stream, or NULL and a negative code. netns_fd: the network namespace to
 * make the socket in, or -1. */
void stream_connect(struct loop *l, const char *address, int netns_fd, int64_t timeout_ms,
                    void (*done)(void *arg, struct stream *s, int code), void *arg);
/* Copies both ways until both halves ended, then closes both; done(arg) after. */
void stream_splice(struct stream *a, struct stream *b, loop_fn done, void *arg);
