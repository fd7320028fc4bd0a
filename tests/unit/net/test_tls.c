/* Two ends of TLS joined in memory, and what a server does with certificates over time. */
#include "http_test.h"

#include <arpa/inet.h>
#include <sys/socket.h>

#include "net/tls_priv.h"

static char *ca_key, *ca_cert, *key, *cert, *other_key, *other_cert;
static struct loop *loop; /* lends buffers only; it never runs */

static void make(const char *cn, const char *name, bool is_ca, char **k, char **c) {
    const char *const dns[] = {name, NULL}, *const ips[] = {"127.0.0.1", NULL};
    int64_t now = time_now_s();
    const struct pki_cert_request r = {.common_name = cn,
                                       .dns_names = name ? dns : NULL,
                                       .is_ca = is_ca,
                                       .ip_addresses = name ? ips : NULL,
                                       .server_auth = !is_ca,
                                       .not_before_s = now - 60,
                                       .not_after_s = now + 3600};
    assert_int_equal(pki_key_new(k, NULL), 0);
    assert_int_equal(pki_cert_new(&r, *k, is_ca ? NULL : ca_cert, is_ca ? NULL : ca_key, c, NULL), 0);
}

static int setup(void **state) {
    pki_init();
    make("ca", NULL, true, &ca_key, &ca_cert);
    make("server", "server.example", false, &key, &cert);
    make("other", "other.example", false, &other_key, &other_cert);
    loop = loop_new("tls");
    return 0;
}

static int teardown(void **state) {
    char *all[] = {ca_key, ca_cert, key, cert, other_key, other_cert};
    for (size_t i = 0; i < ARRAY_LEN(all); i++)
        free(all[i]);
    loop_free(loop);
    return 0;
}

/* --- two ends in memory ------------------------------------------------------------------------------------------- */

struct end {
    struct tls_conn *t;
    struct buf out; /* ciphertext for the other */
    bool open;
    int code;
    struct error err;
};

static void sink(void *arg, const void *p, size_t n) {
    struct end *e = arg;
    buf_put(&e->out, p, n);
}

static void end_init(struct end *e, struct tls_config *config, const char *hostname) {
    *e = (struct end){.out = BUF_INIT};
    e->t = tls_conn_new(loop, config, hostname, &e->err);
    assert_non_null(e->t);
    tls_conn_sink(e->t, sink, e);
    tls_config_unref(config);
}

static void end_fini(struct end *e) {
    tls_conn_free(e->t);
    buf_fini(&e->out);
}

/* Carries ciphertext in pieces until neither end says anything more. */
static void shake(struct end *c, struct end *s, size_t piece) {
    struct end *to = c, *from = s;
    for (int idle = 0; idle < 2;) {
        cleanup_buf struct buf in = from->out;
        buf_init(&from->out, 0);
        idle = in.n ? 0 : idle + 1;
        size_t at = 0;
        do {
            size_t n = MIN(piece, in.n - at);
            tls_conn_input(to->t, in.p ? in.p + at : NULL, n);
            if (!to->open && to->code >= 0) {
                to->code = tls_conn_handshake(to->t, &to->err);
                to->open = to->code == 1;
            }
            char nothing[16];
            if (to->open)
                assert_true(tls_conn_read(to->t, nothing, sizeof(nothing), &to->err) <= 0);
            tls_conn_rest(to->t);
            at += n;
        } while (at < in.n);
        struct end *swap = to;
        to = from;
        from = swap;
    }
}

static struct tls_config *picked(void *arg, struct str name) {
    assert_true(str_eq(name, STR("server.example")) || str_eq(name, STR("other.example")));
    if (!str_eq(name, STR("other.example")))
        return NULL;
    const struct tls_server_options o = {.cert_pem = other_cert, .key_pem = other_key};
    return tls_server_config(&o, NULL);
}

static struct tls_config *server_config(void) {
    static const char *const alpn[] = {"h3-not", "http/1.1", NULL};
    const struct tls_server_options o = {.cert_pem = cert, .key_pem = key, .alpn = alpn, .sni = picked};
    struct tls_config *c = tls_server_config(&o, NULL);
    assert_non_null(c);
    return c;
}

static struct tls_config *client_config(const char *ca) {
    static const char *const alpn[] = {"http/1.1", NULL};
    const struct tls_client_options o = {.ca_pem = ca, .alpn = alpn};
    struct tls_config *c = tls_client_config(&o, NULL);
    assert_non_null(c);
    return c;
}

static void the_certificate_follows_the_name_asked_for(void **state) {
    static const char *const names[] = {"server.example", "other.example"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        for (size_t piece = 1; piece < 5000; piece = piece * 7) {
            struct end c, s;
            end_init(&c, client_config(ca_cert), names[i]);
            end_init(&s, server_config(), NULL);
            shake(&c, &s, piece);
            assert_true(c.open && s.open);
            assert_string_equal(tls_conn_alpn(c.t), "http/1.1");
            end_fini(&c);
            end_fini(&s);
        }
    }
}

static void a_wrong_name_or_authority_ends_the_handshake(void **state) {
    struct end c, s;
    const struct tls_server_options plain = {.cert_pem = cert, .key_pem = key};
    end_init(&c, client_config(ca_cert), "third.example");
    end_init(&s, tls_server_config(&plain, NULL), NULL);
    shake(&c, &s, 1000);
    assert_false(c.open);
    assert_int_equal(c.code, -EACCES);
    end_fini(&c);
    end_fini(&s);
    end_init(&c, client_config(other_cert), "server.example");
    end_init(&s, tls_server_config(&plain, NULL), NULL);
    shake(&c, &s, 1000);
    assert_int_equal(c.code, -EACCES);
    assert_true(s.code < 0); /* it got the alert */
    end_fini(&c);
    end_fini(&s);
}

static void open_pair(struct end *c, struct end *s) {
    end_init(c, client_config(ca_cert), "server.example");
    end_init(s, server_config(), NULL);
    shake(c, s, 4096);
    assert_true(c->open && s->open);
}

static void say(struct end *from, struct end *to, const char *p, size_t n, struct buf *got, size_t piece) {
    struct error err = {0};
    while (n) {
        ssize_t k = tls_conn_write(from->t, p, n, &err);
        assert_true(k > 0);
        p += k;
        n -= (size_t)k;
    }
    tls_conn_rest(from->t);
    for (size_t at = 0; at < from->out.n; at += piece) {
        char out[5000];
        ssize_t k;
        tls_conn_input(to->t, from->out.p + at, MIN(piece, from->out.n - at));
        while ((k = tls_conn_read(to->t, out, sizeof(out), &err)) > 0)
            buf_put(got, out, (size_t)k);
        assert_int_equal(k, TLS_AGAIN);
        tls_conn_rest(to->t);
    }
    buf_reset(&from->out);
}

/* The pairs share one set of record buffers, also in the middle of a record, and none sees another's bytes. */
static void interleaved_connections_do_not_mix(void **state) {
    enum { PAIRS = 4 };
    struct end c[PAIRS], s[PAIRS];
    struct buf got[PAIRS][2];
    char *text = xmalloc(40000);
    for (size_t i = 0; i < PAIRS; i++) {
        open_pair(&c[i], &s[i]);
        buf_init(&got[i][0], 0);
        buf_init(&got[i][1], 0);
    }
    for (size_t round = 0; round < 30; round++) {
        for (size_t i = 0; i < PAIRS; i++) {
            size_t n = (round * 1777 + i * 331) % 40000 + 1;
            memset(text, (int)('a' + i), n);
            buf_reset(&got[i][0]);
            say(&c[i], &s[i], text, n, &got[i][0], 1 + round * 37 % 3000);
            assert_int_equal(got[i][0].n, n);
            assert_memory_equal(got[i][0].p, text, n);
            say(&s[i], &c[i], text, n % 100 + 1, &got[i][1], 7);
        }
    }
    /* Half a record on each, then the other halves. */
    struct error err = {0};
    char out[64];
    for (size_t i = 0; i < PAIRS; i++) {
        memset(text, (int)('A' + i), 20);
        assert_int_equal(tls_conn_write(c[i].t, text, 20, &err), 20);
        tls_conn_rest(c[i].t);
        tls_conn_input(s[i].t, c[i].out.p, 15);
        assert_int_equal(tls_conn_read(s[i].t, out, sizeof(out), &err), TLS_AGAIN);
        tls_conn_rest(s[i].t);
    }
    for (size_t i = 0; i < PAIRS; i++) {
        memset(text, (int)('A' + i), 20);
        tls_conn_input(s[i].t, c[i].out.p + 15, c[i].out.n - 15);
        assert_int_equal(tls_conn_read(s[i].t, out, sizeof(out), &err), 20);
        assert_memory_equal(out, text, 20);
        tls_conn_rest(s[i].t);
        end_fini(&c[i]);
        end_fini(&s[i]);
        buf_fini(&got[i][0]);
        buf_fini(&got[i][1]);
    }
    free(text);
}

static void a_changed_bit_of_ciphertext_is_an_error(void **state) {
    for (size_t at = 0; at < 60; at += 9) {
        struct end c, s;
        struct error err = {0};
        char out[64];
        open_pair(&c, &s);
        assert_int_equal(tls_conn_write(c.t, "0123456789012345678901234567890123456789", 40, &err), 40);
        c.out.p[at % c.out.n] ^= 1;
        tls_conn_input(s.t, c.out.p, c.out.n);
        ssize_t k = tls_conn_read(s.t, out, sizeof(out), &err);
        assert_true(k <= 0); /* a changed length may also wait for more */
        end_fini(&c);
        end_fini(&s);
    }
}

static void goodbye_is_told_from_a_cut(void **state) {
    struct end c, s;
    struct error err = {0};
    char out[64];
    open_pair(&c, &s);
    tls_conn_close_notify(c.t);
    tls_conn_input(s.t, c.out.p, c.out.n);
    assert_int_equal(tls_conn_read(s.t, out, sizeof(out), &err), TLS_EOF);
    end_fini(&c);
    end_fini(&s);
}

static void unusable_configurations_are_refused(void **state) {
    struct error err = {0};
    const struct tls_server_options mixed = {.cert_pem = cert, .key_pem = other_key},
                                    junk = {.cert_pem = "junk", .key_pem = key},
                                    ca_junk = {.cert_pem = cert, .key_pem = key, .client_ca_pem = "junk"};
    assert_null(tls_server_config(&mixed, &err));
    assert_non_null(strstr(err.msg, "does not belong"));
    assert_null(tls_server_config(&junk, &err));
    assert_null(tls_server_config(&ca_junk, &err));
    const struct tls_client_options none = {0}, bad_ca = {.ca_pem = "junk"};
    assert_null(tls_client_config(&none, &err));
    assert_null(tls_client_config(&bad_ca, &err));
}

/* --- a server ------------------------------------------------------------------------------------------------------ */

static int dial(int port) {
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    struct timeval limit = {10, 0};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof(a)), 0);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    return fd;
}

/* Handshakes over a socket; 0 or the client's error. */
static int visit(int port, const char *ca) {
    struct end c;
    int fd = dial(port);
    end_init(&c, client_config(ca), "127.0.0.1");
    char in[8192];
    for (ssize_t n = 0; c.code == TLS_AGAIN && n >= 0;) {
        tls_conn_input(c.t, in, (size_t)n);
        c.code = tls_conn_handshake(c.t, &c.err);
        if (c.out.n)
            assert_int_equal(send(fd, c.out.p, c.out.n, MSG_NOSIGNAL), (ssize_t)c.out.n);
        buf_reset(&c.out);
        if (c.code == TLS_AGAIN && (n = recv(fd, in, sizeof(in), 0)) <= 0)
            c.code = -ECONNRESET;
    }
    int code = c.code == 1 ? 0 : c.code;
    end_fini(&c);
    close(fd);
    return code;
}

static void a_renewed_certificate_is_used_by_new_connections(void **state) {
    struct site site = {0};
    const struct tls_server_options o = {.cert_pem = cert, .key_pem = key};
    struct tls_config *first = tls_server_config(&o, NULL);
    site_start(&site, first);
    tls_config_unref(first);
    assert_int_equal(visit(site.port, ca_cert), 0);

    char *ca2_key, *ca2, *key2, *cert2, *save_key = ca_key, *save_cert = ca_cert;
    make("ca 2", NULL, true, &ca2_key, &ca2);
    ca_key = ca2_key;
    ca_cert = ca2;
    make("server", "server.example", false, &key2, &cert2);
    ca_key = save_key;
    ca_cert = save_cert;
    const struct tls_server_options o2 = {.cert_pem = cert2, .key_pem = key2};
    struct tls_config *second = tls_server_config(&o2, NULL);
    http_server_set_tls(site.server, second);
    tls_config_unref(second);
    assert_int_equal(visit(site.port, ca2), 0);
    assert_int_equal(visit(site.port, ca_cert), -EACCES);

    /* A client that never finishes its handshake is cut off. */
    int fd = dial(site.port);
    int64_t t0 = time_mono_ms();
    char byte;
    assert_int_equal(send(fd, "\x16\x03\x01", 3, MSG_NOSIGNAL), 3);
    assert_true(recv(fd, &byte, 1, 0) <= 0);
    assert_true(time_mono_ms() - t0 < 6000);
    close(fd);
    site_stop(&site);
    free(ca2_key);
    free(ca2);
    free(key2);
    free(cert2);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_certificate_follows_the_name_asked_for),
        cmocka_unit_test(a_wrong_name_or_authority_ends_the_handshake),
        cmocka_unit_test(interleaved_connections_do_not_mix),
        cmocka_unit_test(a_changed_bit_of_ciphertext_is_an_error),
        cmocka_unit_test(goodbye_is_told_from_a_cut),
        cmocka_unit_test(unusable_configurations_are_refused),
        cmocka_unit_test(a_renewed_certificate_is_used_by_new_connections),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
