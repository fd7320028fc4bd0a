#define MBEDTLS_ALLOW_PRIVATE_ACCESS /* record buffers are lent to connections, see buffers_give() */
#include "net/tls.h"

#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>

#include <mbedtls/error.h>
#include <mbedtls/oid.h>
#include <mbedtls/ssl.h>

#include "net/loop_priv.h"
#include "net/pki_priv.h"
#include "net/tls_priv.h"

#define ALPN_MAX 8
#define PEER_ORGANIZATIONS_MAX 64
/* More than any version of the library adds to a record's content: header, IV, MAC, padding. */
#define RECORD_OVERHEAD 1024

struct tls_config {
    struct ref ref;
    mbedtls_ssl_config conf;
    mbedtls_x509_crt cert, ca;
    mbedtls_pk_context key;
    char *alpn[ALPN_MAX + 1];
    struct tls_config *(*sni)(void *arg, struct str name);
    void *sni_arg;
};

struct tls_conn {
    mbedtls_ssl_context ssl;
    struct loop *loop;
    struct tls_config *config, *chosen; /* chosen: by SNI */
    const char *in;
    size_t in_n;
    void (*sink)(void *arg, const void *p, size_t n);
    void *sink_arg;
    struct tls_peer_ref *peer;
    unsigned char in_counter[8]; /* the record number that lives in the input buffer while there is one */
    bool established;
};

/* --- configurations ----------------------------------------------------------------------------------------------- */

static const int suites_aes_first[] = {MBEDTLS_TLS1_3_AES_128_GCM_SHA256,
                                       MBEDTLS_TLS1_3_AES_256_GCM_SHA384,
                                       MBEDTLS_TLS1_3_CHACHA20_POLY1305_SHA256,
                                       MBEDTLS_TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
                                       MBEDTLS_TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
                                       MBEDTLS_TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
                                       MBEDTLS_TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
                                       MBEDTLS_TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
                                       MBEDTLS_TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
                                       0};
static const int suites_chacha_first[] = {MBEDTLS_TLS1_3_CHACHA20_POLY1305_SHA256,
                                          MBEDTLS_TLS1_3_AES_128_GCM_SHA256,
                                          MBEDTLS_TLS1_3_AES_256_GCM_SHA384,
                                          MBEDTLS_TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
                                          MBEDTLS_TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
                                          MBEDTLS_TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
                                          MBEDTLS_TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
                                          MBEDTLS_TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
                                          MBEDTLS_TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
                                          0};
/* P-256 first: the only curve with precomputed tables here. */
static const uint16_t groups[] = {MBEDTLS_SSL_IANA_TLS_GROUP_SECP256R1, MBEDTLS_SSL_IANA_TLS_GROUP_X25519,
                                  MBEDTLS_SSL_IANA_TLS_GROUP_SECP384R1, MBEDTLS_SSL_IANA_TLS_GROUP_SECP521R1,
                                  MBEDTLS_SSL_IANA_TLS_GROUP_NONE};

static bool cpu_has_aes(void) {
#if defined(__x86_64__) || defined(__i386__)
    return __builtin_cpu_supports("aes") && __builtin_cpu_supports("pclmul");
#elif defined(__aarch64__)
    return (getauxval(AT_HWCAP) & (1UL << 3)) != 0;
#else
    return false;
#endif
}

static void config_free(struct tls_config *c) {
    mbedtls_ssl_config_free(&c->conf);
    mbedtls_x509_crt_free(&c->cert);
    mbedtls_x509_crt_free(&c->ca);
    mbedtls_pk_free(&c->key);
    for (size_t i = 0; i < ALPN_MAX; i++)
        free(c->alpn[i]);
    free(c);
}

static int config_alpn(struct tls_config *c, const char *const *alpn, struct error *err) {
    if (!alpn)
        return 0;
    for (size_t i = 0; alpn[i]; i++) {
        if (i == ALPN_MAX)
            return error_set(err, -E2BIG, "too many ALPN protocols");
        c->alpn[i] = xstrdup(alpn[i]);
    }
    int rc = mbedtls_ssl_conf_alpn_protocols(&c->conf, (const char **)c->alpn);
    return rc ? mbed_error(err, rc, "ALPN") : 0;
}

static int config_identity(struct tls_config *c, const char *cert_pem, const char *key_pem, struct error *err) {
    int rc = mbed_cert_parse(&c->cert, cert_pem, err);
    if (!rc)
        rc = mbed_key_parse(&c->key, key_pem, err);
    if (!rc && mbedtls_pk_check_pair(&c->cert.pk, &c->key, mbed_rng, NULL))
        rc = error_set(err, -EINVAL, "the key does not belong to the certificate");
    if (!rc && (rc = mbedtls_ssl_conf_own_cert(&c->conf, &c->cert, &c->key)))
        rc = mbed_error(err, rc, "certificate");
    return rc;
}

static struct tls_config *config_new(int endpoint) {
    struct tls_config *c = XNEW(struct tls_config);
    ref_init(&c->ref);
    mbedtls_ssl_config_init(&c->conf);
    mbedtls_x509_crt_init(&c->cert);
    mbedtls_x509_crt_init(&c->ca);
    mbedtls_pk_init(&c->key);
    if (mbedtls_ssl_config_defaults(&c->conf, endpoint, MBEDTLS_SSL_TRANSPORT_STREAM, MBEDTLS_SSL_PRESET_DEFAULT))
        fatal("out of memory (TLS configuration)");
    mbedtls_ssl_conf_rng(&c->conf, mbed_rng, NULL);
    mbedtls_ssl_conf_min_tls_version(&c->conf, MBEDTLS_SSL_VERSION_TLS1_2);
    mbedtls_ssl_conf_max_tls_version(&c->conf, MBEDTLS_SSL_VERSION_TLS1_3);
    mbedtls_ssl_conf_ciphersuites(&c->conf, cpu_has_aes() ? suites_aes_first : suites_chacha_first);
    mbedtls_ssl_conf_groups(&c->conf, groups);
    return c;
}

static int on_sni(void *arg, mbedtls_ssl_context *ssl, const unsigned char *name, size_t n) {
    struct tls_config *c = arg;
    struct tls_conn *t = mbedtls_ssl_get_user_data_p(ssl);
    if (!t || t->chosen)
        return 0;
    t->chosen = c->sni(c->sni_arg, str_n((const char *)name, n));
    return t->chosen ? mbedtls_ssl_set_hs_own_cert(ssl, &t->chosen->cert, &t->chosen->key) : 0;
}

struct tls_config *tls_server_config(const struct tls_server_options *o, struct error *err) {
    struct tls_config *c = config_new(MBEDTLS_SSL_IS_SERVER);
    int rc = config_identity(c, o->cert_pem, o->key_pem, err);
    if (!rc && o->client_ca_pem) {
        rc = mbed_cert_parse(&c->ca, o->client_ca_pem, err);
        mbedtls_ssl_conf_ca_chain(&c->conf, &c->ca, NULL);
    }
    mbedtls_ssl_conf_authmode(&c->conf, o->client_ca_pem ? MBEDTLS_SSL_VERIFY_OPTIONAL : MBEDTLS_SSL_VERIFY_NONE);
    if (!rc)
        rc = config_alpn(c, o->alpn, err);
    /* No tickets: a TLS 1.3 session resumed here would come without its client certificate. */
    mbedtls_ssl_conf_session_tickets(&c->conf, MBEDTLS_SSL_SESSION_TICKETS_DISABLED);
    if (o->sni) {
        c->sni = o->sni;
        c->sni_arg = o->sni_arg;
        mbedtls_ssl_conf_sni(&c->conf, on_sni, c);
    }
    if (rc) {
        config_free(c);
        return NULL;
    }
    return c;
}

struct tls_config *tls_client_config(const struct tls_client_options *o, struct error *err) {
    struct tls_config *c = config_new(MBEDTLS_SSL_IS_CLIENT);
    int rc = 0;
    if (o->insecure) {
        mbedtls_ssl_conf_authmode(&c->conf, MBEDTLS_SSL_VERIFY_NONE);
    } else if (!o->ca_pem) {
        rc = error_set(err, -EINVAL, "no certificate authority to verify the server with");
    } else {
        /* A bundle of the world's roots may hold some that this library cannot read: at least one must be. */
        const unsigned char *pem = (const unsigned char *)o->ca_pem;
        rc = mbedtls_x509_crt_parse(&c->ca, pem, strlen(o->ca_pem) + 1);
        rc = rc < 0 || !c->ca.raw.p
                 ? mbed_error(err, rc < 0 ? rc : MBEDTLS_ERR_X509_INVALID_FORMAT, "certificate authority")
                 : 0;
        mbedtls_ssl_conf_ca_chain(&c->conf, &c->ca, NULL);
        mbedtls_ssl_conf_authmode(&c->conf, MBEDTLS_SSL_VERIFY_REQUIRED);
    }
    if (!rc && o->cert_pem)
        rc = config_identity(c, o->cert_pem, o->key_pem ? o->key_pem : "", err);
    if (!rc)
        rc = config_alpn(c, o->alpn, err);
    mbedtls_ssl_conf_session_tickets(&c->conf, MBEDTLS_SSL_SESSION_TICKETS_DISABLED);
    if (rc) {
        config_free(c);
        return NULL;
    }
    return c;
}

struct tls_config *tls_config_ref(struct tls_config *c) {
    ref_get(&c->ref);
    return c;
}

void tls_config_unref(struct tls_config *c) {
    if (c && ref_put(&c->ref))
        config_free(c);
}

/* --- record buffers ----------------------------------------------------------------------------------------------- */

/*
 * The library gives every connection 34 KiB of record buffers for life. Between two turns of the loop they hold nothing
 * but the number of the next incoming record (RFC 5246 6.2.1), so a connection at rest hands them to its loop and the
 * next one that runs takes them: an idle TLS connection costs a few KiB.
 */
static void *spare_take(struct loop *l, enum loop_slot slot, size_t content) {
    void **spare = loop_slot(l, slot);
    return *spare ? TAKE_PTR(*spare) : xmalloc(content + RECORD_OVERHEAD);
}

static void spare_give(struct loop *l, enum loop_slot slot, void *p) {
    void **spare = loop_slot(l, slot);
    if (*spare)
        free(p);
    else
        *spare = p;
}

#define REBASE(ptr, from, to)                                                                  \
    do {                                                                                       \
        if (ptr)                                                                               \
            (ptr) = (unsigned char *)((uintptr_t)(ptr) - (uintptr_t)(from) + (uintptr_t)(to)); \
    } while (0)

static void rebase_in(mbedtls_ssl_context *s, void *from, void *to) {
    REBASE(s->in_ctr, from, to);
    REBASE(s->in_hdr, from, to);
    REBASE(s->in_len, from, to);
    REBASE(s->in_iv, from, to);
    REBASE(s->in_msg, from, to);
}

static void rebase_out(mbedtls_ssl_context *s, void *from, void *to) {
    REBASE(s->out_ctr, from, to);
    REBASE(s->out_hdr, from, to);
    REBASE(s->out_len, from, to);
    REBASE(s->out_iv, from, to);
    REBASE(s->out_msg, from, to);
}

/* While a connection has no buffers its pointers are offsets from NESTLESS, so that none looks like NULL. */
#define NESTLESS ((void *)(uintptr_t)4096)

static void buffers_take(struct tls_conn *t) {
    mbedtls_ssl_context *s = &t->ssl;
    if (!s->in_buf) {
        s->in_buf = spare_take(t->loop, LOOP_TLS_IN, MBEDTLS_SSL_IN_CONTENT_LEN);
        rebase_in(s, NESTLESS, s->in_buf);
        memcpy(s->in_ctr, t->in_counter, sizeof(t->in_counter));
    }
    if (!s->out_buf) {
        s->out_buf = spare_take(t->loop, LOOP_TLS_OUT, MBEDTLS_SSL_OUT_CONTENT_LEN);
        rebase_out(s, NESTLESS, s->out_buf);
    }
}

static void buffers_give(struct tls_conn *t) {
    mbedtls_ssl_context *s = &t->ssl;
    if (!t->established)
        return;
    if (s->in_buf && s->in_left == 0 && !s->in_offt && s->in_hslen == 0 && !s->keep_current_message &&
        s->badmac_seen_or_in_hsfraglen == 0) {
        memcpy(t->in_counter, s->in_ctr, sizeof(t->in_counter));
        rebase_in(s, s->in_buf, NESTLESS);
        spare_give(t->loop, LOOP_TLS_IN, TAKE_PTR(s->in_buf));
    }
    if (s->out_buf && s->out_left == 0) {
        rebase_out(s, s->out_buf, NESTLESS);
        spare_give(t->loop, LOOP_TLS_OUT, TAKE_PTR(s->out_buf));
    }
}

/* --- one connection ----------------------------------------------------------------------------------------------- */

static int bio_send(void *arg, const unsigned char *p, size_t n) {
    struct tls_conn *t = arg;
    t->sink(t->sink_arg, p, n);
    return (int)n;
}

static int bio_recv(void *arg, unsigned char *p, size_t n) {
    struct tls_conn *t = arg;
    if (!t->in_n)
        return MBEDTLS_ERR_SSL_WANT_READ;
    n = MIN(n, t->in_n);
    memcpy(p, t->in, n);
    t->in += n;
    t->in_n -= n;
    return (int)n;
}

struct tls_conn *tls_conn_new(struct loop *l, struct tls_config *c, const char *hostname, struct error *err) {
    struct tls_conn *t = XNEW(struct tls_conn);
    t->loop = l;
    t->config = tls_config_ref(c);
    mbedtls_ssl_init(&t->ssl);
    int rc = mbedtls_ssl_setup(&t->ssl, &c->conf);
    if (!rc && hostname)
        rc = mbedtls_ssl_set_hostname(&t->ssl, hostname);
    if (rc) {
        mbed_error(err, rc, "TLS");
        tls_conn_free(t);
        return NULL;
    }
    mbedtls_ssl_set_user_data_p(&t->ssl, t);
    mbedtls_ssl_set_bio(&t->ssl, t, bio_send, bio_recv, NULL);
    return t;
}

void tls_conn_free(struct tls_conn *t) {
    if (!t)
        return;
    buffers_give(t); /* else the library wipes and frees them */
    mbedtls_ssl_free(&t->ssl);
    tls_peer_unref(t->peer);
    tls_config_unref(t->chosen);
    tls_config_unref(t->config);
    free(t);
}

void tls_conn_sink(struct tls_conn *t, void (*sink)(void *arg, const void *p, size_t n), void *arg) {
    t->sink = sink;
    t->sink_arg = arg;
}

void tls_conn_input(struct tls_conn *t, const char *p, size_t n) {
    t->in = p;
    t->in_n = n;
}

void tls_conn_rest(struct tls_conn *t) {
    t->in = NULL;
    t->in_n = 0;
    buffers_give(t);
}

void tls_peer_unref(struct tls_peer_ref *p) {
    if (p && ref_put(&p->ref))
        arena_free(p->arena);
}

/* Text of a name's part; an embedded NUL or an over-long list makes the whole identity unusable. */
static bool peer_fill(struct tls_peer_ref *p, const mbedtls_x509_crt *crt) {
    struct str *orgs = arena_alloc(p->arena, sizeof(*orgs) * PEER_ORGANIZATIONS_MAX);
    p->peer.organizations = orgs;
    for (const mbedtls_x509_name *n = &crt->subject; n && n->oid.p; n = n->next) {
        struct str v = str_n((const char *)n->val.p, n->val.len);
        bool cn = MBEDTLS_OID_CMP(MBEDTLS_OID_AT_CN, &n->oid) == 0;
        bool org = MBEDTLS_OID_CMP(MBEDTLS_OID_AT_ORGANIZATION, &n->oid) == 0;
        if (!cn && !org)
            continue;
        if (!str_is_utf8(v) || memchr(v.p, 0, v.n))
            return false;
        if (cn)
            p->peer.common_name = str_dup(p->arena, v);
        else if (p->peer.organizations_n == PEER_ORGANIZATIONS_MAX)
            return false;
        else
            orgs[p->peer.organizations_n++] = str_dup(p->arena, v);
    }
    return true;
}

/*
 * A client certificate identifies only when it verifies and its purpose allows it (RFC 5280 4.2.1.12). One that does not
 * leaves the client unknown, as in Kubernetes: its request is answered 401, not cut off, and may carry a token.
 */
static void peer_take(struct tls_conn *t) {
    const mbedtls_x509_crt *crt = mbedtls_ssl_get_peer_cert(&t->ssl);
    bool server = mbedtls_ssl_conf_get_endpoint(&t->config->conf) == MBEDTLS_SSL_IS_SERVER;
    if (!crt || !server || !t->config->ca.raw.p)
        return;
    uint32_t flags = mbedtls_ssl_get_verify_result(&t->ssl);
    if (mbedtls_x509_crt_check_extended_key_usage(crt, MBEDTLS_OID_CLIENT_AUTH,
                                                  MBEDTLS_OID_SIZE(MBEDTLS_OID_CLIENT_AUTH)))
        flags |= MBEDTLS_X509_BADCERT_EXT_KEY_USAGE;
    if (flags) {
        char why[200] = "";
        mbedtls_x509_crt_verify_info(why, sizeof(why), "", flags);
        why[strcspn(why, "\n")] = 0;
        log_debug("net", "client certificate not accepted: %s", why);
        return;
    }
    struct arena *a = arena_new(1024, KiB(256));
    struct tls_peer_ref *p = ARENA_NEW(a, struct tls_peer_ref);
    ref_init(&p->ref);
    p->arena = a;
    if (peer_fill(p, crt)) {
        t->peer = p;
    } else {
        log_debug("net", "client certificate not accepted: its subject is not usable");
        arena_free(a);
    }
}

static int handshake_error(struct tls_conn *t, int rc, struct error *err) {
    uint32_t flags = mbedtls_ssl_get_verify_result(&t->ssl);
    char why[300] = "";
    if (rc != MBEDTLS_ERR_X509_CERT_VERIFY_FAILED || flags == 0 || flags == UINT32_MAX) {
        mbed_error(err, rc, "TLS handshake");
        return -EPROTO;
    }
    mbedtls_x509_crt_verify_info(why, sizeof(why), "", flags);
    for (char *c = why; *c; c++)
        *c = *c == '\n' ? ' ' : *c;
    return error_set(err, -EACCES, "TLS handshake: %s", why);
}

int tls_conn_handshake(struct tls_conn *t, struct error *err) {
    buffers_take(t);
    int rc = mbedtls_ssl_handshake(&t->ssl);
    if (rc == MBEDTLS_ERR_SSL_WANT_READ || rc == MBEDTLS_ERR_SSL_WANT_WRITE)
        return TLS_AGAIN;
    if (rc)
        return handshake_error(t, rc, err);
    peer_take(t);
    t->established = true;
    return 1;
}

ssize_t tls_conn_read(struct tls_conn *t, char *out, size_t cap, struct error *err) {
    buffers_take(t);
    for (int tries = 0; tries < 16; tries++) {
        int rc = mbedtls_ssl_read(&t->ssl, (unsigned char *)out, cap);
        if (rc > 0)
            return rc;
        if (rc == MBEDTLS_ERR_SSL_WANT_READ || rc == MBEDTLS_ERR_SSL_WANT_WRITE)
            return TLS_AGAIN;
        if (rc == MBEDTLS_ERR_SSL_RECEIVED_NEW_SESSION_TICKET)
            continue; /* not kept */
        if (rc == 0 || rc == MBEDTLS_ERR_SSL_PEER_CLOSE_NOTIFY)
            return TLS_EOF;
        mbed_error(err, rc, "TLS");
        return -EPROTO;
    }
    return error_set(err, -EPROTO, "TLS: too many messages without data");
}

ssize_t tls_conn_write(struct tls_conn *t, const char *p, size_t n, struct error *err) {
    buffers_take(t);
    int rc = mbedtls_ssl_write(&t->ssl, (const unsigned char *)p, n);
    if (rc >= 0)
        return rc;
    mbed_error(err, rc, "TLS");
    return -EPROTO;
}

void tls_conn_close_notify(struct tls_conn *t) {
    buffers_take(t);
    mbedtls_ssl_close_notify(&t->ssl);
}

struct tls_peer_ref *tls_conn_peer(struct tls_conn *t) {
    return t->peer;
}

const char *tls_conn_alpn(struct tls_conn *t) {
    return mbedtls_ssl_get_alpn_protocol(&t->ssl);
}
