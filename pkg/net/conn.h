/*
 * Bytes in and out of one non-blocking file descriptor (socket, pipe, pty), with TLS or without: what the HTTP server,
 * the HTTP client and the plain streams stand on. On its loop's thread only.
 *
 * Writes are queued and leave at the end of the loop's turn, in as few system calls and TLS records as they fit.
 */
#pragma once

#include "net/loop_priv.h"
#include "net/tls_priv.h"

struct conn;

struct conn_events {
    void (*on_open)(void *arg);                           /* after conn_start(), once the TLS handshake is over */
    void (*on_data)(void *arg, const char *p, size_t n);  /* the receiver takes all of it, paused or not */
    void (*on_eof)(void *arg, bool clean);                /* clean: TLS said goodbye, or there is no TLS */
    void (*on_flush)(void *arg);                          /* bytes went out, or the shutdown is done; may be NULL */
    void (*on_error)(void *arg, const struct error *err); /* unusable from now on: conn_close() it */
    void (*on_closed)(void *arg);                         /* after conn_close(), the last call */
    void *arg;
};

/* Takes fd and tls (NULL: plain); NULL when the fd cannot be waited for, fd is then closed. Never inline callbacks. */
struct conn *conn_new(struct loop *l, int fd, struct tls_conn *tls, struct error *err);
void conn_set_events(struct conn *c, const struct conn_events *ev);
void conn_start(struct conn *c); /* reading, and the handshake */
void conn_write(struct conn *c, const void *p, size_t n);
void conn_write_blob(struct conn *c, struct blob *b); /* takes the reference */
void conn_pause(struct conn *c, bool pause);          /* at most LOOP_SCRATCH_BYTES still come */
void conn_shutdown(struct conn *c);                   /* ends our half once everything is written */
/* Writes what is queued, says goodbye, waits a little for the peer to end (RFC 9112 9.6), then as conn_close(). */
void conn_finish(struct conn *c);
void conn_close(struct conn *c); /* at once; again is fine until on_closed */
size_t conn_backlog(const struct conn *c);
int64_t conn_progress_ms(const struct conn *c); /* loop time when a byte last went out, or the queue was begun */
bool conn_can_read(const struct conn *c);
bool conn_shutdown_done(const struct conn *c);
struct tls_conn *conn_tls(struct conn *c);
struct loop *conn_loop(struct conn *c);
int conn_fd(const struct conn *c);
