/*
 * Kubernetes' multiplexed streams for exec, attach and port-forward, server side, over an upgraded connection:
 * WebSocket v5.channel.k8s.io (and v4, base64 v4) and SPDY/3.1 with X-Stream-Protocol-Version v1..v5 and
 * portforward.k8s.io; SPDY tunnelled in WebSocket (SPDY/3.1+portforward.k8s.io). The caller sees channels, not protocols.
 */
#pragma once

#include "net/http.h"

struct channels;

enum channel_id { CHANNEL_STDIN, CHANNEL_STDOUT, CHANNEL_STDERR, CHANNEL_ERROR, CHANNEL_RESIZE, CHANNEL_MAX };

struct channels_exec_events {
    void (*on_ready)(void *arg, struct channels *c); /* all expected streams are open */
    void (*on_stdin)(void *arg, struct str data);
    void (*on_stdin_eof)(void *arg);
    void (*on_resize)(void *arg, int width, int height);
    void (*on_drain)(void *arg);
    void (*on_closed)(void *arg); /* last */
    void *arg;
};

/* Which request is a WebSocket or SPDY upgrade at all. */
bool channels_is_upgrade(const struct http_request *r);
/* Negotiates (sends 101, or 400/403 with a Status when no protocol fits) and starts. Thread of the exchange's loop.
 * Takes the exchange's reference. on failure on_closed alone is called. */
void channels_exec_start(struct http_exchange *x, bool stdin_, bool stdout_, bool stderr_, bool tty,
                         const struct channels_exec_events *ev);
void channels_write(struct channels *c, enum channel_id id, const void *data, size_t n);
void channels_pause_stdin(struct channels *c, bool pause);
size_t channels_backlog(const struct channels *c);
/* Sends the final Status (JSON text) on the error channel, ends all streams and closes. */
void channels_finish(struct channels *c, struct str status_json);

/* Port-forward: one pair (data, error) a connection the client makes. */
struct channels_forward_events {
    /* A new pair for port; answer with channels_forward_accept() or channels_forward_refuse(), exactly once. Later is
     * fine, even after on_closed: c lives until every pair is answered. */
    void (*on_open)(void *arg, struct channels *c, int request_id, int port);
    void (*on_closed)(void *arg);
    void *arg;
};
void channels_forward_start(struct http_exchange *x, const int *ports, size_t ports_n,
                            const struct channels_forward_events *ev);
/* The data stream of the pair, to be started by the caller (stream_splice with the pod's socket). Never NULL for a pair
 * that waits for its answer; one that the client gave up meanwhile closes when it is started. */
struct stream *channels_forward_accept(struct channels *c, int request_id);
void channels_forward_refuse(struct channels *c, int request_id, const char *message);
