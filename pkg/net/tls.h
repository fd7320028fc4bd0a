/* TLS 1.2 and 1.3 by mbedTLS: configurations shared by connections, and the state of one connection, over memory. */
#pragma once

#include "base/base.h"
#include "net/pki.h"

struct tls_config; /* immutable after set-up, refcounted, any thread */

/* Identity of a verified peer. Lives as long as its connection. */
struct tls_peer {
    struct str common_name;
    const struct str *organizations;
    size_t organizations_n;
};

struct tls_server_options {
    const char *cert_pem, *key_pem; /* chain and key, PEM text */
    const char *client_ca_pem;      /* NULL: no client certificates are asked for; else optional, verified if sent */
    const char *const *alpn;        /* NULL-terminated list or NULL */
    /* SNI: may pick another certificate for a name; NULL keeps the default. Called on the connection's thread;
     * the reference it returns is taken over. */
    struct tls_config *(*sni)(void *arg, struct str name);
    void *sni_arg;
};
struct tls_config *tls_server_config(const struct tls_server_options *o, struct error *err);

struct tls_client_options {
    const char *ca_pem;             /* trusted roots; NULL with insecure */
    bool insecure;                  /* no verification: only where a user asked for it by name */
    const char *cert_pem, *key_pem; /* client certificate or NULL */
    const char *const *alpn;
};
struct tls_config *tls_client_config(const struct tls_client_options *o, struct error *err);
struct tls_config *tls_config_ref(struct tls_config *c);
void tls_config_unref(struct tls_config *c);
