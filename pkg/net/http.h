/*
 * HTTP/1.1 server and client on libuv and llhttp, with TLS. Strict RFC 9112 framing (Content-Length together with
 * Transfer-Encoding, obs-fold, bare CR or LF are refused). HTTP/2 joins behind the same interface.
 *
 * Server: each connection lives on one io loop. A complete request (head and body, up to the limits) becomes an
 * http_exchange, which is handed to the handler on that loop. The exchange is refcounted and its reply calls are
 * thread-safe: from another thread they are posted to the connection's loop.
 */
#pragma once

#include "net/loop.h"
#include "net/stream.h"
#include "net/tls.h"

struct http_header {
    struct str name, value;
};

struct http_message_limits {
    size_t head_bytes; /* 0: 64 KiB */
    size_t body_bytes; /* 0: 3 MiB */
    size_t headers;    /* 0: 128 */
};

/* --- server --- */

struct http_server;
struct http_exchange;

struct http_request {
    struct str method;   /* upper case */
    struct str target;   /* as sent */
    struct str path;     /* percent-decoded, starts with '/' */
    struct str raw_path; /* as sent, without the query */
    struct str query;    /* raw, without '?' */
    const struct http_header *headers;
    size_t headers_n;
    struct str body;             /* whole body (for upgrades: empty) */
    const struct tls_peer *peer; /* verified client certificate, or NULL */
    char remote[64];             /* "ip:port" */
    bool tls;
    struct arena *arena; /* the exchange's; for the handler's use too, on one thread at a time */
};

struct http_server_options {
    struct loop *const *loops; /* io loops: connections are spread over them */
    size_t loops_n;
    struct tls_config *tls; /* NULL: plain */
    struct http_message_limits limits;
    int64_t header_timeout_ms;                           /* a request head must be complete by then; 0: 10 s */
    int64_t idle_timeout_ms;                             /* keep-alive without a request; 0: 120 s */
    size_t connections_max;                              /* 0: 4096 */
    void (*handler)(void *arg, struct http_exchange *x); /* x: the handler's reference, given back by http_finish() */
    void *arg;
};

/* Listens on "ip:port", "[v6]:port" (port 0: any). The error names the address; -EADDRINUSE stays -EADDRINUSE. */
int http_server_start(const struct http_server_options *o, const char *address, struct http_server **out,
                      struct error *err);
int http_server_port(const struct http_server *s);
/* Any thread; closes listeners and connections, then done(arg) on loops[0]. */
void http_server_stop(struct http_server *s, loop_fn done, void *arg);
/* Any thread: new connections use this from now on (certificate renewal). */
void http_server_set_tls(struct http_server *s, struct tls_config *tls);

const struct http_request *http_request(const struct http_exchange *x);
/* First header of that name, ASCII case ignored; empty when absent. */
struct str http_header_get(const struct http_request *r, const char *name);
/* Value of a query parameter, percent-decoded into the arena; p == NULL when absent. */
struct str http_query_get(const struct http_request *r, const char *name);
/* Percent-decoding (and '+' as space when query). false on a bad escape. */
bool http_percent_decode(struct arena *a, struct str s, bool query, struct str *out);
struct loop *http_exchange_loop(struct http_exchange *x);

/* Whole reply. headers may be NULL; Content-Length, Date and Connection are added. body's reference is taken; NULL: empty. */
void http_reply(struct http_exchange *x, int status, const struct http_header *headers, size_t headers_n,
                struct blob *body);
/* Several pieces as one body, references taken. */
void http_reply_pieces(struct http_exchange *x, int status, const struct http_header *headers, size_t headers_n,
                       struct blob *const *pieces, size_t n);
/* Streamed reply: begin, any number of chunks (references taken), end. on_close(arg) runs on the io loop once when the
 * client went away before the end (then further chunks are dropped); from another thread it may cross http_stream_end().
 * With a Content-Length among the headers the body is sent as it is, else in chunks. */
void http_stream_begin(struct http_exchange *x, int status, const struct http_header *headers, size_t headers_n,
                       loop_fn on_close, void *arg);
void http_stream_chunk(struct http_exchange *x, struct blob *b);
/* Bytes accepted but not yet written to the socket (any thread, approximate): for cutting slow readers. */
size_t http_stream_backlog(const struct http_exchange *x);
void http_stream_end(struct http_exchange *x);
/* Answers 101 (or 200 for CONNECT-like use) with the headers and gives the connection away as a byte stream, on the
 * exchange's loop. Bytes that came behind the request head are read from the stream first. The headers are sent as they
 * are (Connection and Upgrade are the caller's). ready gets NULL when the client is gone. */
void http_upgrade(struct http_exchange *x, int status, const struct http_header *headers, size_t headers_n,
                  void (*ready)(void *arg, struct stream *s), void *arg);
struct http_exchange *http_exchange_ref(struct http_exchange *x);
/* Gives a reference back. The last one without a reply sent closes the connection. */
void http_finish(struct http_exchange *x);

/* --- client --- */

struct http_client; /* on one loop; keeps connections alive per origin */

struct http_client_options {
    struct loop *loop;
    struct tls_config *tls;      /* for https */
    int64_t connect_timeout_ms;  /* 0: 10 s */
    int64_t idle_timeout_ms;     /* no byte for so long fails the request; 0: 30 s */
    size_t connections_per_host; /* 0: 8 */
};
struct http_client *http_client_new(const struct http_client_options *o);
void http_client_free(struct http_client *c); /* running requests end with -ECANCELED */

struct http_call; /* one running request */

struct http_call_events {
    /* Head of the answer. Return non-zero to end the call with that (negative) code. headers live until on_done. */
    int (*on_head)(void *arg, int status, const struct http_header *headers, size_t n);
    int (*on_body)(void *arg, struct str data);
    /* Always the last: code 0 after a complete answer, else negative with err set. */
    void (*on_done)(void *arg, int code, const struct error *err);
    void *arg;
};
/* url: http:// or https://, host may be a name (resolved on the pool), an IPv4, a [v6], or http+unix://<encoded path>.
 * Follows no redirect. headers and body are copied. */
struct http_call *http_client_start(struct http_client *c, const char *method, const char *url,
                                    const struct http_header *headers, size_t headers_n, struct str body,
                                    const struct http_call_events *events);
/* The same for a request that asks for another protocol (Connection and Upgrade are among the headers). An answer of 101
 * makes the connection a stream: on_upgrade(arg, headers, n, s) once, on_done(0) behind it, s is the caller's to start.
 * Any other answer comes by the usual events. */
struct http_call *http_client_upgrade(struct http_client *c, const char *method, const char *url,
                                      const struct http_header *headers, size_t headers_n, struct str body,
                                      const struct http_call_events *events,
                                      void (*on_upgrade)(void *arg, const struct http_header *headers, size_t n,
                                                         struct stream *s));
void http_call_cancel(struct http_call *call);            /* on_done(-ECANCELED) follows */
void http_call_pause(struct http_call *call, bool pause); /* back-pressure on the body */
