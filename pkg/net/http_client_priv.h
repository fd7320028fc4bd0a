/* The parts of the HTTP client: calls and the pool (http_client.c), one connection (http_link.c). One loop's thread. */
#pragma once

#include "net/conn.h"
#include "net/dial.h"
#include "net/http_parse.h"
#include "net/stream_priv.h"

struct http_link;

struct url {
    bool tls;
    struct str host; /* a name or an IP without brackets; empty for a Unix socket */
    struct str unix_path;
    uint16_t port;
    struct str authority; /* for the Host header */
    struct str target;    /* path and query */
};
/* Into the arena; -EINVAL with the reason. */
int url_parse(struct arena *a, struct str text, struct url *out, struct error *err);

/* All connections to one place. */
struct http_origin {
    struct http_client *client;
    char *key;
    struct list idle;    /* links without a call */
    struct list waiting; /* calls without a link */
    size_t links_n, calls_n;
};

struct http_client {
    struct http_client_options o;
    struct map origins;
    struct list calls; /* all that run */
    struct list links;
    size_t links_n;
    bool closing, freeing;
};

struct http_call {
    struct list link;    /* in the client's calls */
    struct list waiting; /* in the origin's queue */
    struct http_client *client;
    struct http_origin *origin;
    struct http_link *via;
    struct arena *arena;
    struct url url;
    struct str what;      /* "GET https://host/path", for messages */
    struct blob *request; /* head and body as sent */
    struct http_call_events ev;
    void (*on_upgrade)(void *arg, const struct http_header *headers, size_t n, struct stream *s); /* NULL: not asked */
    struct timer timer;
    int64_t active_ms;
    bool head_only, idempotent, begun, retried, paused, over;
    int code; /* why it ends */
    struct error err;
};

/* --- http_client.c: what a link tells --- */
void http_call_fail(struct http_call *call, int code, const struct error *err);
void http_call_done(struct http_call *call);
/* The reused connection died before a byte of the answer: tries another. */
void http_call_again(struct http_call *call);
void http_call_active(struct http_call *call);
/* A link is free again (alive), or gone. */
void http_link_idle(struct http_link *k);
void http_link_gone(struct http_link *k);

/* --- http_link.c --- */
/* A new connection for this call; tells http_call_fail() when it does not come about. */
void http_link_open(struct http_client *c, struct http_origin *o, struct http_call *call);
void http_link_use(struct http_link *k, struct http_call *call);
void http_link_close(struct http_link *k);
void http_link_pause(struct http_link *k, bool pause);
/* The call ends without its answer: the connection cannot be used for another. */
void http_link_drop_call(struct http_link *k);
struct http_link *http_link_of(struct list *pool);
struct http_link *http_link_of_all(struct list *all);
struct list *http_link_pool(struct http_link *k);
struct list *http_link_all(struct http_link *k);
struct http_origin *http_link_origin(struct http_link *k);
struct http_client *http_link_client(struct http_link *k);
