/*
 * SPDY/3.1 framing, the server's side, as far as Kubernetes' streams use it: streams the client opens with a few headers,
 * data both ways, half-close, reset, ping, goaway. No push; no flow control, which no Kubernetes client speaks (memory is
 * bounded by pausing the connection instead). Source: the SPDY protocol draft 3.1.
 */
#pragma once

#include "net/http.h"
#include "net/stream.h"

#define SPDY_STREAMS_MAX 1024
#define SPDY_HEADERS_MAX 64
#define SPDY_HEADER_BYTES_MAX KiB(32)

enum spdy_type {
    SPDY_DATA = 0,
    SPDY_SYN_STREAM = 1,
    SPDY_SYN_REPLY = 2,
    SPDY_RST_STREAM = 3,
    SPDY_SETTINGS = 4,
    SPDY_PING = 6,
    SPDY_GOAWAY = 7,
    SPDY_HEADERS = 8,
    SPDY_WINDOW_UPDATE = 9
};
#define SPDY_FLAG_FIN 1

/* --- frames, pure --- */

struct spdy_decoder_ops { /* each returns 0 or a negative code that ends the connection */
    int (*on_syn)(void *arg, uint32_t id, const struct http_header *headers, size_t n, bool fin);
    int (*on_data)(void *arg, uint32_t id, struct str data, bool fin); /* pieces; fin with the last */
    int (*on_reset)(void *arg, uint32_t id);
    int (*on_ping)(void *arg, uint32_t id);
    int (*on_goaway)(void *arg);
};
struct spdy_decoder;
struct spdy_decoder *spdy_decoder_new(const struct spdy_decoder_ops *ops, void *arg);
void spdy_decoder_free(struct spdy_decoder *d);
int spdy_decoder_feed(struct spdy_decoder *d, struct str data); /* 0 or negative: the peer's fault, or a callback's */
/* A compressed block of headers, for tests and for what we send: begin with *started false, once a connection. */
void spdy_put_headers(struct buf *out, bool *started, const struct http_header *headers, size_t n);

/* --- a session on a stream --- */

struct spdy;
struct spdy_events {
    /* The client opens a stream; false refuses it. A true is answered at once. */
    bool (*on_stream)(void *arg, uint32_t id, const struct http_header *headers, size_t n);
    void (*on_data)(void *arg, uint32_t id, struct str data);
    void (*on_fin)(void *arg, uint32_t id);   /* the client's half ended */
    void (*on_reset)(void *arg, uint32_t id); /* both did */
    void (*on_drain)(void *arg);
    void (*on_closed)(void *arg, int reason); /* last */
    void *arg;
};
struct spdy *spdy_new(struct stream *s, const struct spdy_events *ev);
void spdy_write(struct spdy *p, uint32_t id, const void *data, size_t n);
void spdy_fin(struct spdy *p, uint32_t id); /* ends our half */
void spdy_reset(struct spdy *p, uint32_t id);
void spdy_pause(struct spdy *p, bool pause);
size_t spdy_backlog(const struct spdy *p);
/* Goaway, then the connection ends once all is written; on_closed follows. */
void spdy_close(struct spdy *p);
