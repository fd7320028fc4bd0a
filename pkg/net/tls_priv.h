/*
 * The state of one TLS connection, over memory: ciphertext goes in by tls_conn_input(), comes out through the sink.
 * No file descriptor here. On one thread at a time; conn.c is the only user.
 */
#pragma once

#include "net/loop.h"
#include "net/tls.h"

struct tls_conn;

/* The verified peer, shared by a connection and the requests that came over it. */
struct tls_peer_ref {
    struct ref ref;
    struct tls_peer peer;
    struct arena *arena;
};
void tls_peer_unref(struct tls_peer_ref *p);

#define TLS_AGAIN 0
#define TLS_EOF (-ENODATA) /* the peer's close_notify */

/* hostname: client only, checked against the certificate; NULL for a server. The config's reference is the caller's. */
struct tls_conn *tls_conn_new(struct loop *l, struct tls_config *c, const char *hostname, struct error *err);
void tls_conn_free(struct tls_conn *t);
/* Where ciphertext goes. */
void tls_conn_sink(struct tls_conn *t, void (*sink)(void *arg, const void *p, size_t n), void *arg);
/* Lends received bytes until tls_conn_rest(); the next calls consume them all or fail. */
void tls_conn_input(struct tls_conn *t, const char *p, size_t n);
/* 1: done, TLS_AGAIN: needs input, else negative with the reason in err. */
int tls_conn_handshake(struct tls_conn *t, struct error *err);
/* > 0: bytes in clear, TLS_AGAIN: needs input, TLS_EOF, else negative. */
ssize_t tls_conn_read(struct tls_conn *t, char *out, size_t cap, struct error *err);
/* Encrypts at most one record: bytes taken, or negative. */
ssize_t tls_conn_write(struct tls_conn *t, const char *p, size_t n, struct error *err);
void tls_conn_close_notify(struct tls_conn *t);
/* End of a turn: gives the record buffers back to the loop when they hold nothing. */
void tls_conn_rest(struct tls_conn *t);
struct tls_peer_ref *tls_conn_peer(struct tls_conn *t); /* borrowed, NULL without a verified certificate */
const char *tls_conn_alpn(struct tls_conn *t);          /* NULL when none */
