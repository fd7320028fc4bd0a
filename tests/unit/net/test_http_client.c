/* sanitizer: thread */
#include "http_test.h"

#include <arpa/inet.h>
#include <pthread.h>
#include <sys/socket.h>
#include <sys/un.h>

static struct site plain, secure;
static struct loop *loop;
static char *ca_key, *ca_cert, *key, *cert, *other_key, *other_cert, *user_key, *user_cert;

static void make_cert(const char *cn, const char *const *orgs, const char *const *dns, bool client, bool ca_signed,
                      char **k, char **c) {
    const char *const ips[] = {"127.0.0.1", NULL};
    int64_t now = time_now_s();
    struct pki_cert_request r = {.common_name = cn,
                                 .organizations = orgs,
                                 .dns_names = dns,
                                 .ip_addresses = dns ? ips : NULL,
                                 .server_auth = !client,
                                 .client_auth = client,
                                 .not_before_s = now - 60,
                                 .not_after_s = now + 3600};
    assert_int_equal(pki_key_new(k, NULL), 0);
    assert_int_equal(pki_cert_new(&r, *k, ca_signed ? ca_cert : NULL, ca_signed ? ca_key : NULL, c, NULL), 0);
}

static struct tls_config *server_tls(void *arg, struct str name) {
    if (!str_eq(name, STR("other.example")))
        return NULL;
    const struct tls_server_options o = {.cert_pem = other_cert, .key_pem = other_key};
    return tls_server_config(&o, NULL);
}

static int setup(void **state) {
    const char *const dns[] = {"localhost", NULL}, *const other[] = {"other.example", NULL};
    const char *const orgs[] = {"system:masters", "second", NULL}, *const alpn[] = {"http/1.1", NULL};
    pki_init();
    const struct pki_cert_request ca = {.common_name = "ca",
                                        .is_ca = true,
                                        .not_before_s = time_now_s() - 60,
                                        .not_after_s = time_now_s() + 3600};
    assert_int_equal(pki_key_new(&ca_key, NULL), 0);
    assert_int_equal(pki_cert_new(&ca, ca_key, NULL, NULL, &ca_cert, NULL), 0);
    make_cert("server", NULL, dns, false, true, &key, &cert);
    make_cert("other", NULL, other, false, true, &other_key, &other_cert);
    make_cert("admin", orgs, NULL, true, true, &user_key, &user_cert);
    struct error err = {0};
    const struct tls_server_options o = {
        .cert_pem = cert, .key_pem = key, .client_ca_pem = ca_cert, .alpn = alpn, .sni = server_tls};
    struct tls_config *tls = tls_server_config(&o, &err);
    assert_non_null(tls);
    site_start(&plain, NULL);
    site_start(&secure, tls);
    tls_config_unref(tls);
    loop = loop_new("client");
    return loop_start(loop, NULL);
}

static int teardown(void **state) {
    loop_stop(loop);
    loop_join(loop);
    loop_free(loop);
    site_stop(&plain);
    site_stop(&secure);
    char *all[] = {ca_key, ca_cert, key, cert, other_key, other_cert, user_key, user_cert};
    for (size_t i = 0; i < ARRAY_LEN(all); i++)
        free(all[i]);
    return 0;
}

/* --- one call, waited for ----------------------------------------------------------------------------------------- */

struct fetch {
    struct http_client *client;
    const char *method, *url;
    struct str body;
    struct http_header headers[4];
    size_t headers_n;
    struct http_call *call;
    struct buf got;
    int status, code, heads;
    char content_type[64];
    struct error err;
    int stop_after_head; /* what on_head returns */
    bool cancel_on_body, pause_once;
    struct timer resume;
    atomic_bool done;
};

static int fetch_head(void *arg, int status, const struct http_header *headers, size_t n) {
    struct fetch *f = arg;
    f->status = status;
    f->heads++;
    for (size_t i = 0; i < n; i++) {
        if (str_eq_nocase(headers[i].name, STR("content-type")))
            snprintf(f->content_type, sizeof(f->content_type), "%.*s", STR_ARG(headers[i].value));
    }
    return f->stop_after_head;
}

static void fetch_resume(void *arg) {
    struct fetch *f = arg;
    http_call_pause(f->call, false);
}

static int fetch_body(void *arg, struct str data) {
    struct fetch *f = arg;
    buf_put_str(&f->got, data);
    if (f->cancel_on_body) {
        f->cancel_on_body = false;
        http_call_cancel(f->call);
    }
    if (f->pause_once) {
        f->pause_once = false;
        http_call_pause(f->call, true);
        timer_init(&f->resume, loop, fetch_resume, f);
        timer_set(&f->resume, 100, 0);
    }
    return 0;
}

static void fetch_done(void *arg, int code, const struct error *err) {
    struct fetch *f = arg;
    f->code = code;
    if (err)
        f->err = *err;
    atomic_store(&f->done, true);
}

static void fetch_start(void *arg) {
    struct fetch *f = arg;
    const struct http_call_events ev = {fetch_head, fetch_body, fetch_done, f};
    f->call = http_client_start(f->client, f->method, f->url, f->headers, f->headers_n, f->body, &ev);
    assert_false(atomic_load(&f->done)); /* never inline */
}

static void fetch_begin(struct fetch *f) {
    buf_init(&f->got, MiB(32));
    loop_post(loop, fetch_start, f);
}

static void fetch_wait(struct fetch *f) {
    for (int i = 0; i < 20000 && !atomic_load(&f->done); i++)
        usleep(1000);
    assert_true(atomic_load(&f->done));
}

static void fetch(struct fetch *f) {
    fetch_begin(f);
    fetch_wait(f);
}

static void free_client(void *arg) {
    http_client_free(arg);
}

static struct http_client *client_with(const char *ca, const char *user, const char *user_k, int64_t idle_ms) {
    struct error err = {0};
    const struct tls_client_options t = {.ca_pem = ca, .insecure = !ca, .cert_pem = user, .key_pem = user_k};
    struct tls_config *tls = tls_client_config(&t, &err);
    assert_non_null(tls);
    const struct http_client_options o = {
        .loop = loop, .tls = tls, .idle_timeout_ms = idle_ms, .connect_timeout_ms = 2000, .connections_per_host = 4};
    struct http_client *c = http_client_new(&o);
    tls_config_unref(tls);
    return c;
}

static const char *url_of(const struct site *s, bool tls, const char *host, const char *path) {
    static char url[256];
    snprintf(url, sizeof(url), "%s://%s:%d%s", tls ? "https" : "http", host, s->port, path);
    return url;
}

static void assert_got(const struct fetch *f, const char *text) {
    if (f->code || str_find(buf_str(&f->got), str_c(text)) < 0)
        fail_msg("%s: code %d %s: %.*s", f->url, f->code, f->err.msg, (int)MIN(f->got.n, 300),
                 f->got.p ? f->got.p : "");
}

/* --- tests -------------------------------------------------------------------------------------------------------- */

static void requests_of_every_kind_are_answered(void **state) {
    struct http_client *c = client_with(ca_cert, NULL, NULL, 5000);
    struct fetch get = {.client = c, .method = "GET", .url = url_of(&plain, false, "127.0.0.1", "/a?q=1#frag")};
    fetch(&get);
    assert_got(&get, "GET path=/a query=q=1 ");
    assert_int_equal(get.status, 200);
    assert_string_equal(get.content_type, "text/plain");
    struct fetch post = {.client = c,
                         .method = "POST",
                         .url = url_of(&plain, false, "localhost", "/b"),
                         .body = STR("data")};
    fetch(&post);
    assert_got(&post, "body=data");
    struct fetch head = {.client = c, .method = "HEAD", .url = url_of(&plain, false, "127.0.0.1", "/big")};
    fetch(&head);
    assert_int_equal(head.code, 0);
    assert_int_equal(head.got.n, 0);
    struct fetch chunked = {.client = c, .method = "GET", .url = url_of(&plain, false, "127.0.0.1", "/stream")};
    fetch(&chunked);
    assert_got(&chunked, "line 999\n");
    struct fetch big = {.client = c,
                        .method = "GET",
                        .url = url_of(&plain, false, "127.0.0.1", "/big"),
                        .pause_once = true};
    fetch(&big);
    assert_int_equal(big.code, 0);
    assert_int_equal(big.got.n, MiB(4));
    loop_post(loop, free_client, c);
    struct buf *all[] = {&get.got, &post.got, &head.got, &chunked.got, &big.got};
    for (size_t i = 0; i < ARRAY_LEN(all); i++)
        buf_fini(all[i]);
}

static void many_calls_share_few_connections(void **state) {
    struct http_client *c = client_with(ca_cert, NULL, NULL, 5000);
    static struct fetch f[100];
    char urls[2][80];
    snprintf(urls[0], sizeof(urls[0]), "http://127.0.0.1:%d/x", plain.port);
    snprintf(urls[1], sizeof(urls[1]), "http://127.0.0.1:%d/async", plain.port);
    for (size_t i = 0; i < ARRAY_LEN(f); i++) {
        f[i] = (struct fetch){.client = c, .method = "GET", .url = urls[i % 2]};
        fetch_begin(&f[i]);
    }
    for (size_t i = 0; i < ARRAY_LEN(f); i++) {
        fetch_wait(&f[i]);
        assert_int_equal(f[i].code, 0);
        buf_fini(&f[i].got);
    }
    loop_post(loop, free_client, c);
}

static void tls_shows_the_client_certificate_to_the_handler(void **state) {
    struct http_client *c = client_with(ca_cert, user_cert, user_key, 5000),
                       *anon = client_with(ca_cert, NULL, NULL, 5000);
    struct fetch f = {.client = c, .method = "GET", .url = url_of(&secure, true, "127.0.0.1", "/me")};
    fetch(&f);
    assert_got(&f, "cn=admin orgs=2 org0=system:masters");
    struct fetch again = {.client = c, .method = "GET", .url = url_of(&secure, true, "127.0.0.1", "/me")};
    fetch(&again); /* over the kept connection */
    assert_got(&again, "cn=admin");
    struct fetch a = {.client = anon, .method = "GET", .url = url_of(&secure, true, "localhost", "/me")};
    fetch(&a);
    assert_got(&a, "cn=- orgs=0");
    struct fetch big = {.client = anon,
                        .method = "GET",
                        .url = url_of(&secure, true, "localhost", "/big"),
                        .pause_once = true};
    fetch(&big);
    assert_int_equal(big.got.n, MiB(4));
    for (size_t i = 0; i < MiB(4); i += 997)
        assert_int_equal(big.got.p[i], (char)(i * 31 >> 4));
    struct fetch stream = {.client = anon, .method = "GET", .url = url_of(&secure, true, "localhost", "/stream")};
    fetch(&stream);
    assert_got(&stream, "line 999\n");
    loop_post(loop, free_client, c);
    loop_post(loop, free_client, anon);
    struct buf *all[] = {&f.got, &again.got, &a.got, &big.got, &stream.got};
    for (size_t i = 0; i < ARRAY_LEN(all); i++)
        buf_fini(all[i]);
}

static void a_foreign_client_certificate_identifies_nobody(void **state) {
    char *k, *p;
    const char *const orgs[] = {"system:masters", NULL};
    make_cert("admin", orgs, NULL, true, false, &k, &p); /* self-signed */
    struct http_client *c = client_with(ca_cert, p, k, 5000), *srv = client_with(ca_cert, cert, key, 5000);
    struct fetch f = {.client = c, .method = "GET", .url = url_of(&secure, true, "127.0.0.1", "/me")};
    fetch(&f);
    assert_got(&f, "cn=- orgs=0");
    struct fetch s = {.client = srv, .method = "GET", .url = url_of(&secure, true, "127.0.0.1", "/me")};
    fetch(&s); /* a server's certificate is no client's */
    assert_got(&s, "cn=- orgs=0");
    loop_post(loop, free_client, c);
    loop_post(loop, free_client, srv);
    buf_fini(&f.got);
    buf_fini(&s.got);
    free(k);
    free(p);
}

static void a_server_that_is_not_the_one_asked_for_is_refused(void **state) {
    struct http_client *wrong_ca = client_with(user_cert, NULL, NULL, 5000),
                       *c = client_with(ca_cert, NULL, NULL, 5000);
    struct http_client *insecure = client_with(NULL, NULL, NULL, 5000);
    struct fetch f = {.client = wrong_ca, .method = "GET", .url = url_of(&secure, true, "127.0.0.1", "/")};
    fetch(&f);
    assert_int_equal(f.code, -EACCES);
    assert_non_null(strstr(f.err.msg, "GET https://127.0.0.1"));
    struct fetch name = {.client = c, .method = "GET", .url = url_of(&secure, true, "127.0.0.2", "/")};
    fetch(&name);
    assert_int_not_equal(name.code, 0);
    struct fetch any = {.client = insecure, .method = "GET", .url = url_of(&secure, true, "127.0.0.1", "/any")};
    fetch(&any);
    assert_got(&any, "path=/any");
    struct fetch http = {.client = c, .method = "GET", .url = url_of(&plain, true, "127.0.0.1", "/")};
    fetch(&http); /* TLS spoken to a plain server */
    assert_int_not_equal(http.code, 0);
    loop_post(loop, free_client, wrong_ca);
    loop_post(loop, free_client, c);
    loop_post(loop, free_client, insecure);
    buf_fini(&any.got);
}

/* --- servers that misbehave --------------------------------------------------------------------------------------- */

struct bad_server {
    int listen_fd, port, accepted;
    const char *answers[4]; /* one a connection; the last repeats; NULL: says nothing and waits */
    pthread_t thread;
};

static void *bad_server_run(void *arg) {
    struct bad_server *b = arg;
    for (;;) {
        int fd = accept4(b->listen_fd, NULL, NULL, SOCK_CLOEXEC);
        if (fd < 0)
            return NULL;
        char request[4096];
        const char *answer = b->answers[MIN(b->accepted, 3)];
        b->accepted++;
        while (recv(fd, request, sizeof(request), 0) > 0) {
            if (answer && send(fd, answer, strlen(answer), MSG_NOSIGNAL) > 0 && !strstr(answer, "keep"))
                break;
            if (answer && strstr(answer, "once"))
                break;
        }
        close(fd);
    }
}

static void bad_server_start(struct bad_server *b, int family, const char *path) {
    struct sockaddr_in a = {.sin_family = AF_INET};
    struct sockaddr_un u = {.sun_family = AF_UNIX};
    socklen_t n = sizeof(a);
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (path)
        snprintf(u.sun_path, sizeof(u.sun_path), "%s", path);
    b->listen_fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr *at = path ? (struct sockaddr *)&u : (struct sockaddr *)&a;
    assert_int_equal(bind(b->listen_fd, at, path ? sizeof(u) : sizeof(a)), 0);
    assert_int_equal(listen(b->listen_fd, 8), 0);
    if (!path) {
        getsockname(b->listen_fd, at, &n);
        b->port = ntohs(a.sin_port);
    }
    pthread_create(&b->thread, NULL, bad_server_run, b);
}

static void bad_server_stop(struct bad_server *b) {
    shutdown(b->listen_fd, SHUT_RDWR);
    pthread_join(b->thread, NULL);
    close(b->listen_fd);
}

static void ask_bad(struct fetch *f, struct http_client *c, const char *method, const char *answer) {
    struct bad_server b = {.answers = {answer, answer, answer, answer}};
    char url[64];
    bad_server_start(&b, AF_INET, NULL);
    snprintf(url, sizeof(url), "http://127.0.0.1:%d/", b.port);
    *f = (struct fetch){.client = c, .method = method, .url = url};
    fetch(f);
    bad_server_stop(&b);
}

static void broken_answers_are_errors_not_short_bodies(void **state) {
    static const char *const answers[] = {
        "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabc",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
        "HTTP/1.1 abc\r\n\r\n",
        "nonsense",
        "",
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX: a\r\n b\r\nContent-Length: 0\r\n\r\n",
    };
    struct http_client *c = client_with(ca_cert, NULL, NULL, 1000);
    for (size_t i = 0; i < ARRAY_LEN(answers); i++) {
        struct fetch f;
        ask_bad(&f, c, "GET", answers[i]);
        if (f.code >= 0)
            fail_msg("answer %zu passed: %.*s", i, (int)f.got.n, f.got.p ? f.got.p : "");
        buf_fini(&f.got);
    }
    struct fetch ok;
    ask_bad(&ok, c, "GET", "HTTP/1.0 200 OK\r\n\r\nuntil the end");
    assert_got(&ok, "until the end");
    buf_fini(&ok.got);
    ask_bad(&ok, c, "GET", "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi");
    assert_got(&ok, "hi");
    assert_int_equal(ok.heads, 1);
    buf_fini(&ok.got);
    loop_post(loop, free_client, c);
}

static void silence_times_out_and_names_the_request(void **state) {
    struct bad_server b = {0};
    char url[64];
    struct http_client *c = client_with(ca_cert, NULL, NULL, 300);
    bad_server_start(&b, AF_INET, NULL);
    snprintf(url, sizeof(url), "http://127.0.0.1:%d/slow", b.port);
    struct fetch f = {.client = c, .method = "GET", .url = url};
    int64_t t0 = time_mono_ms();
    fetch(&f);
    assert_int_equal(f.code, -ETIMEDOUT);
    assert_true(time_mono_ms() - t0 < 3000);
    assert_non_null(strstr(f.err.msg, "/slow"));
    bad_server_stop(&b);
    loop_post(loop, free_client, c);
}

static void a_kept_connection_that_died_is_replaced(void **state) {
    /* The first connection answers once and closes at the second request without a word. */
    static const char once[] = "HTTP/1.1 200 OK\r\nX: keep\r\nContent-Length: 2\r\n\r\nok";
    struct bad_server b = {.answers = {once, once, once, once}};
    char url[64];
    struct http_client *c = client_with(ca_cert, NULL, NULL, 2000);
    bad_server_start(&b, AF_INET, NULL);
    snprintf(url, sizeof(url), "http://127.0.0.1:%d/", b.port);
    for (int i = 0; i < 3; i++) {
        struct fetch f = {.client = c, .method = "GET", .url = url};
        fetch(&f);
        assert_got(&f, "ok");
        buf_fini(&f.got);
    }
    loop_post(loop, free_client, c);
    usleep(50000);
    bad_server_stop(&b);
}

static void sockets_of_the_file_system_work(void **state) {
    struct bad_server b = {.answers = {"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nunix"}};
    char path[64], url[200];
    struct http_client *c = client_with(ca_cert, NULL, NULL, 2000);
    snprintf(path, sizeof(path), "/tmp/test-http-client-%d.sock", (int)getpid());
    unlink(path);
    bad_server_start(&b, AF_UNIX, path);
    snprintf(url, sizeof(url), "http+unix://%%2ftmp%%2ftest-http-client-%d.sock/v1", (int)getpid());
    struct fetch f = {.client = c, .method = "GET", .url = url};
    fetch(&f);
    assert_got(&f, "unix");
    buf_fini(&f.got);
    loop_post(loop, free_client, c);
    bad_server_stop(&b);
    unlink(path);
}

static void bad_requests_fail_before_a_connection(void **state) {
    static const char *const urls[] = {"",
                                       "ftp://h/",
                                       "http://",
                                       "http://h:0/",
                                       "http://h:65536/",
                                       "http://h:x/",
                                       "http://a@b/",
                                       "http://[::1/",
                                       "http://h/a b",
                                       "http://h/a\r\nX: y",
                                       "http+unix:///x",
                                       "https//x",
                                       "http://[]/"};
    struct http_client *c = client_with(ca_cert, NULL, NULL, 500);
    for (size_t i = 0; i < ARRAY_LEN(urls); i++) {
        struct fetch f = {.client = c, .method = "GET", .url = urls[i]};
        fetch(&f);
        if (f.code != -EINVAL)
            fail_msg("%s: %d", urls[i], f.code);
    }
    struct fetch f = {.client = c,
                      .method = "GET",
                      .url = "http://127.0.0.1:1/",
                      .headers = {{STR("X"), STR("a\r\nY: b")}},
                      .headers_n = 1};
    fetch(&f);
    assert_int_equal(f.code, -EINVAL);
    struct fetch refused = {.client = c, .method = "GET", .url = "http://127.0.0.1:1/"};
    fetch(&refused);
    assert_int_equal(refused.code, -ECONNREFUSED);
    struct fetch unknown = {.client = c, .method = "GET", .url = "http://no-such-name.invalid/"};
    fetch(&unknown);
    assert_int_equal(unknown.code, -EHOSTUNREACH);
    assert_non_null(strstr(unknown.err.msg, "no-such-name.invalid"));
    loop_post(loop, free_client, c);
}

static void a_call_can_be_stopped_at_any_point(void **state) {
    struct http_client *c = client_with(ca_cert, NULL, NULL, 5000);
    struct fetch head = {.client = c,
                         .method = "GET",
                         .url = url_of(&plain, false, "127.0.0.1", "/big"),
                         .stop_after_head = -EFBIG};
    fetch(&head);
    assert_int_equal(head.code, -EFBIG);
    struct fetch body = {.client = c,
                         .method = "GET",
                         .url = url_of(&plain, false, "127.0.0.1", "/big"),
                         .cancel_on_body = true};
    fetch(&body);
    assert_int_equal(body.code, -ECANCELED);
    assert_true(body.got.n < MiB(1));
    struct fetch again = {.client = c, .method = "GET", .url = url_of(&plain, false, "127.0.0.1", "/after")};
    fetch(&again);
    assert_got(&again, "path=/after");
    struct fetch watch = {.client = c, .method = "GET", .url = url_of(&plain, false, "127.0.0.1", "/watch")};
    fetch_begin(&watch);
    usleep(100000);
    loop_post(loop, free_client, c); /* with a running call */
    fetch_wait(&watch);
    assert_int_equal(watch.code, -ECANCELED);
    buf_fini(&body.got);
    buf_fini(&again.got);
    buf_fini(&watch.got);
}

/* --- upgrades ----------------------------------------------------------------------------------------------------- */

struct tunnel {
    struct fetch f;
    struct stream *s;
    char upgrade[16];
    atomic_bool closed;
};

static void tunnel_data(void *arg, struct str data) {
    struct tunnel *t = arg;
    buf_put_str(&t->f.got, data);
    if (t->f.got.n == 9)
        stream_shutdown(t->s);
}
static void tunnel_closed(void *arg, int reason) {
    struct tunnel *t = arg;
    assert_int_equal(reason, 0);
    atomic_store(&t->closed, true);
}
static void tunnel_up(void *arg, const struct http_header *headers, size_t n, struct stream *s) {
    struct tunnel *t = CONTAINER_OF((struct fetch *)arg, struct tunnel, f);
    assert_false(atomic_load(&t->f.done));
    for (size_t i = 0; i < n; i++) {
        if (str_eq_nocase(headers[i].name, STR("upgrade")))
            snprintf(t->upgrade, sizeof(t->upgrade), "%.*s", STR_ARG(headers[i].value));
    }
    t->s = s;
    stream_start(s, &(struct stream_events){.on_data = tunnel_data, .on_closed = tunnel_closed, .arg = t});
    stream_write(s, "over here", 9);
}
static void tunnel_start(void *arg) {
    struct tunnel *t = arg;
    const struct http_header h[] = {{STR("Connection"), STR("Upgrade")}, {STR("Upgrade"), STR("echo")}};
    const struct http_call_events ev = {fetch_head, fetch_body, fetch_done, &t->f};
    t->f.call = http_client_upgrade(t->f.client, "GET", t->f.url, h, 2, STR(""), &ev, tunnel_up);
}

static void an_upgrade_becomes_a_stream_or_a_plain_answer(void **state) {
    struct http_client *c = client_with(ca_cert, NULL, NULL, 5000);
    static const char *const paths[] = {"/upgrade", "/plain"};
    for (size_t i = 0; i < 4; i++) {
        bool tls = i % 2, up = i < 2;
        struct tunnel t = {.f = {.client = c, .url = url_of(tls ? &secure : &plain, tls, "127.0.0.1", paths[!up])}};
        buf_init(&t.f.got, KiB(64));
        loop_post(loop, tunnel_start, &t);
        fetch_wait(&t.f);
        assert_int_equal(t.f.code, 0);
        for (int k = 0; up && k < 5000 && !atomic_load(&t.closed); k++)
            usleep(1000);
        if (up) {
            assert_string_equal(t.upgrade, "echo");
            assert_true(atomic_load(&t.closed));
            assert_string_equal(t.f.got.p, "over here");
        } else {
            assert_got(&t.f, "path=/plain");
        }
        buf_fini(&t.f.got);
    }
    loop_post(loop, free_client, c);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(requests_of_every_kind_are_answered),
        cmocka_unit_test(many_calls_share_few_connections),
        cmocka_unit_test(tls_shows_the_client_certificate_to_the_handler),
        cmocka_unit_test(a_foreign_client_certificate_identifies_nobody),
        cmocka_unit_test(a_server_that_is_not_the_one_asked_for_is_refused),
        cmocka_unit_test(broken_answers_are_errors_not_short_bodies),
        cmocka_unit_test(silence_times_out_and_names_the_request),
        cmocka_unit_test(a_kept_connection_that_died_is_replaced),
        cmocka_unit_test(sockets_of_the_file_system_work),
        cmocka_unit_test(bad_requests_fail_before_a_connection),
        cmocka_unit_test(a_call_can_be_stopped_at_any_point),
        cmocka_unit_test(an_upgrade_becomes_a_stream_or_a_plain_answer),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
