/* The parts of the HTTP server: listener (http_server.c), connections (http_server_conn.c), replies (http_reply.c). */
#pragma once

#include <pthread.h>

#include "net/conn.h"
#include "net/dial.h"
#include "net/http_parse.h"
#include "net/stream_priv.h"

struct http_conn;

/* A server's part on one loop. */
struct http_io {
    struct http_server *server;
    struct loop *loop;
    struct list conns, lingering; /* lingering: over, their last bytes go out */
    bool stopping;
};

struct http_server {
    struct http_server_options o; /* zeroes replaced, loops copied */
    struct http_io *io;           /* one a loop */
    uv_poll_t poll;               /* of the listening socket, on loops[0] */
    struct timer retry;           /* accepting again after the process ran out of fds, or of connections */
    int fd, port;
    size_t next_io;
    pthread_mutex_t lock;
    struct tls_config *tls; /* under lock */
    atomic_size_t conns_n;
    size_t stops_left;
    loop_fn stop_done;
    void *stop_arg;
};

struct http_exchange {
    struct http_request req;
    struct ref ref;    /* of the memory */
    atomic_uint users; /* references of the handler's side: http_exchange_ref(), http_finish() */
    atomic_uint
        answered; /* the reply was given in full, by whatever thread; a word: riscv64 exchanges no single bytes */
    struct loop *loop;
    struct http_conn *conn; /* loop's thread only; NULL once the connection is gone or done with this exchange */
    struct tls_peer_ref *peer;
    struct buf body;
    bool head, http10, keep_alive, upgrade;
    bool begun, chunked, no_body; /* of a streamed reply, loop's thread only */
    loop_fn on_close;
    void *on_close_arg;
    atomic_size_t accepted, written; /* bytes of a streamed reply */
};

/* --- http_server_conn.c --- */
void http_conn_new(struct http_io *io, int fd, const struct sockaddr *from);
void http_conn_close(struct http_conn *hc);
/* The reply is complete: goes on with the next request, or ends the connection. */
void http_conn_reply_done(struct http_conn *hc);
/* Hands the connection to the caller, with what was read of it already. */
struct conn *http_conn_detach(struct http_conn *hc, struct buf *first);
struct conn *http_conn_transport(struct http_conn *hc);
void http_conns_stop(struct http_io *io);
struct http_conn *http_conn_of(struct list *link);

/* --- http_reply.c --- */
void http_exchange_unref(struct http_exchange *x);
/* The connection went away under an unfinished exchange. */
void http_exchange_lost(struct http_exchange *x);
void http_exchange_flushed(struct http_exchange *x); /* bytes went out */
/* A short text reply made here, before or instead of the handler. */
void http_write_refusal(struct conn *c, int status, const char *reason);

/* --- http_server.c --- */
void http_server_conn_gone(struct http_io *io);
