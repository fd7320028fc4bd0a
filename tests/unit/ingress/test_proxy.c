#include "proxy_test.h"

#define GET(path) "GET " path " HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"

static int setup(void **state) {
    struct site *s = XNEW(struct site);
    site_start(s);
    *state = s;
    return 0;
}
static int teardown(void **state) {
    site_stop(*state);
    free(*state);
    return 0;
}

/* --- heads --- */
static void test_request_and_answer(void **state) {
    const char *a = ask(*state, "GET /p%20a?q=1&r HTTP/1.1\r\nHost: h:8080\r\nX-Own: 1\r\nConnection: close\r\n\r\n");
    has(a, "HTTP/1.1 200 OK\r\n");
    has(a, "X-Pod: yes\r\n");
    has(a, "GET /p%20a?q=1&r\n");
    has(a, "\nHost: h:8080\n");
    has(a, "\nX-Own: 1\n");
    has(a, "\nX-Forwarded-For: 127.0.0.1\n");
    has(a, "\nX-Real-Ip: 127.0.0.1\n");
    has(a, "\nX-Forwarded-Proto: http\n");
    has(a, "\nX-Forwarded-Host: h:8080\n");
    has(a, "\nX-Forwarded-Port: 8080\n");
    has(a, "Connection: close\r\n");
    has_not(a, "Keep-Alive");
}

static void test_lies_and_hops_are_removed(void **state) {
    const char *a = ask(*state, "GET / HTTP/1.1\r\nHost: h\r\nX-Forwarded-For: 6.6.6.6\r\nx-real-ip: 6.6.6.7\r\n"
                                "Forwarded: for=6.6.6.8\r\nTE: trailers\r\nProxy-Connection: x\r\nX-Hop: secret\r\n"
                                "X-Forwarded-Proto: https\r\nConnection: close, X-Hop, Host\r\n\r\n");
    has(a, "200 OK");
    has(a, "\nX-Forwarded-For: 127.0.0.1\n");
    has(a, "\nX-Forwarded-Proto: http\n");
    has(a, "\nHost: h\n");
    has(a, "\nX-Forwarded-Port: 80\n");
    has_not(a, "6.6.6.");
    has_not(a, "TE:");
    has_not(a, "X-Hop");
    has_not(a, "Proxy-Connection");
}

static void test_absolute_form(void **state) {
    const char *a = ask(*state, "GET http://h/abs?x HTTP/1.1\r\nHost: other\r\nConnection: close\r\n\r\n");
    has(a, "GET /abs?x\n");
    has(a, "\nHost: h\n");
}

static void test_options_of_everything(void **state) {
    has(ask(*state, "OPTIONS * HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"), "OPTIONS *\n");
}

/* --- answers of the proxy --- */
static void test_no_rule(void **state) {
    const char *a = ask(*state, "GET / HTTP/1.1\r\nHost: unknown\r\nConnection: close\r\n\r\n");
    has(a, "HTTP/1.1 404 Not Found\r\n");
    has(a, "\r\n\r\n404 page not found\n");
}

static void test_no_service(void **state) {
    const char *a = ask(*state, GET("/gone"));
    has(a, "HTTP/1.1 503 ");
    has(a, "service of this rule does not exist");
}

static void test_no_endpoint(void **state) {
    site_rules(*state, rules_to(NULL, 0));
    const char *a = ask(*state, GET("/"));
    has(a, "HTTP/1.1 503 ");
    has(a, "no pod of the service is ready");
}

static void test_rules_not_known_yet(void **state) {
    site_rules(*state, NULL);
    has(ask(*state, GET("/")), "HTTP/1.1 503 ");
}

static void test_refused_by_the_pod(void **state) {
    int port;
    close(listen_local(&port));
    site_rules(*state, rules_to(&port, 1));
    const char *a = ask(*state, GET("/"));
    has(a, "HTTP/1.1 502 Bad Gateway\r\n");
    has(a, "refused the connection");
}

static void test_another_pod_after_a_refusal(void **state) {
    struct site *s = *state;
    int ports[2] = {0, s->pod_port};
    close(listen_local(&ports[0]));
    site_rules(s, rules_to(ports, 2));
    for (int i = 0; i < 4; i++)
        has(ask(s, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nConnection: close\r\n\r\nabc"), "body=3:");
}

static void test_slow_pod(void **state) {
    const char *a = ask(*state, GET("/slow"));
    has(a, "HTTP/1.1 504 Gateway Timeout\r\n");
    has(a, "did not answer in time");
}

static void test_malformed_requests(void **state) {
    static const char *const bad[] = {
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: h\r\nHost: h\r\n\r\n",
        "GET /%zz HTTP/1.1\r\nHost: h\r\n\r\n",
        "GET x HTTP/1.1\r\nHost: h\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabc",
        "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        "GET / HTTP/1.1\r\nHost: h\r\nX : y\r\n\r\n",
        "\x16\x03\x01\x02\r\n\r\n",
    };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        const char *a = ask(*state, bad[i]);
        if (!strstr(a, "HTTP/1.1 400 "))
            fail_msg("%zu: %s", i, a);
    }
    has(ask(*state, "CONNECT h:80 HTTP/1.1\r\nHost: h\r\n\r\n"), "HTTP/1.1 405 ");
    has(ask(*state, "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip, chunked\r\n\r\n"), "HTTP/1.1 501 ");
}

static void test_head_too_slow(void **state) {
    has(ask(*state, "GET / HTTP/1.1\r\nHos"), "HTTP/1.1 408 ");
}

static void test_body_too_slow(void **state) {
    has(ask(*state, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\nabc"), "HTTP/1.1 408 ");
}

static void test_request_cut_off(void **state) {
    int fd = dial(*state);
    say(fd, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\nabc");
    shutdown(fd, SHUT_WR);
    has(hear(fd, NULL), "HTTP/1.1 400 ");
    close(fd);
}

/* --- pods that misbehave --- */
static const char *ask_raw(struct site *s, const char *request, const char *const *answers, int rounds, char *got) {
    struct raw_pod pod;
    raw_pod_start(&pod, answers, rounds);
    site_rules(s, rules_to(&pod.port, 1));
    const char *a = ask(s, request);
    raw_pod_stop(&pod);
    if (got)
        memcpy(got, pod.got, sizeof(pod.got));
    return a;
}

static void test_malformed_answers(void **state) {
    static const char *const bad[] = {
        "nonsense\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n",
        "HTTP/1.1 200",
        NULL,
    };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        has(ask_raw(*state, GET("/"), &bad[i], 1, NULL), "HTTP/1.1 502 ");
}

static void test_answer_cut_off(void **state) {
    static const char *const chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n";
    static const char *const sized = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc";
    has_not(ask_raw(*state, GET("/"), &chunked, 1, NULL), "0\r\n\r\n");
    has_not(ask_raw(*state, GET("/"), &sized, 1, NULL), "502");
}

static void test_answer_until_the_end(void **state) {
    static const char *const answer = "HTTP/1.0 200 OK\r\nX: y\r\n\r\nabc";
    const char *a = ask_raw(*state, GET("/"), &answer, 1, NULL);
    has(a, "HTTP/1.1 200 OK\r\n");
    has(a, "Transfer-Encoding: chunked\r\n");
    has(a, "3\r\nabc\r\n0\r\n\r\n");
    a = ask_raw(*state, "GET / HTTP/1.0\r\nHost: h\r\n\r\n", &answer, 1, NULL);
    has_not(a, "chunked");
    has(a, "Connection: close\r\n");
    has(a, "\r\n\r\nabc");
}

static void test_answer_of_plain_lines(void **state) {
    static const char *const answer = "HTTP/1.1 200 OK\r\nConnection: close\r\nX-One: 1\nX-Two: 2\n\nabc\n";
    const char *a = ask_raw(*state, GET("/"), &answer, 1, NULL);
    has(a, "X-One: 1\r\nX-Two: 2\r\n");
    has(a, "\r\n\r\n4\r\nabc\n\r\n0\r\n\r\n");
}

static void test_early_answer_to_an_upload(void **state) {
    static const char *const answer = "HTTP/1.1 413 Whatever Too Large\r\nContent-Length: 3\r\n\r\nbig";
    has(ask_raw(*state, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 100000\r\n\r\nabc", &answer, 1, NULL),
        "413 Request Entity Too Large\r\n");
}

static void test_informational_answers(void **state) {
    static const char *const answer =
        "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    const char *a = ask_raw(*state, GET("/"), &answer, 1, NULL);
    assert_true(strncmp(a, "HTTP/1.1 200 ", 13) == 0);
    has(a, "\r\n\r\nok");
}

static void test_connection_kept_by_the_pod_had_ended(void **state) {
    /* The first connection says it stays and closes; the next request on it is sent again on another. */
    static const char *const answers[] = {"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\none",
                                          "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\ntwo"};
    struct raw_pod pod;
    raw_pod_start(&pod, answers, 2);
    site_rules(*state, rules_to(&pod.port, 1));
    int fd = dial(*state);
    say(fd, "GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    has(hear(fd, "one"), "one");
    say(fd, GET("/"));
    has(hear(fd, NULL), "two");
    close(fd);
    raw_pod_stop(&pod);
}

/* --- connections --- */
static void test_keep_alive_both_sides(void **state) {
    int fd = dial(*state);
    char first[64] = "", second[64] = "";
    say(fd, "GET /1 HTTP/1.1\r\nHost: h\r\n\r\n");
    const char *a = hear(fd, "body=0:0\n");
    sscanf(strstr(a, "remote="), "remote=%63s", first);
    say(fd, "GET /2 HTTP/1.1\r\nHost: h\r\n\r\n");
    a = hear(fd, "body=0:0\n");
    sscanf(strstr(a, "remote="), "remote=%63s", second);
    assert_string_equal(first, second);
    say(fd, "GET / HTTP/1.1\r\nHost: unknown\r\n\r\n");
    has(hear(fd, "not found\n"), "404");
    say(fd, GET("/4"));
    has(hear(fd, NULL), "GET /4\n");
    close(fd);
}

static void test_pipelined_requests(void **state) {
    const char *a =
        ask(*state, "POST /1 HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc"
                    "GET / HTTP/1.1\r\nHost: unknown\r\n\r\n"
                    "POST /2 HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nde\r\n0\r\n\r\n" GET("/3"));
    const char *one = strstr(a, "POST /1\n"), *no = strstr(a, "404 page"), *two = strstr(a, "POST /2\n"),
               *three = strstr(a, "GET /3\n");
    if (!(one && one < no && no < two && two < three))
        fail_msg("%s", a);
    has(a, "body=3:");
    has(a, "body=2:");
}

static void test_request_in_single_bytes(void **state) {
    static const char request[] =
        "POST /x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
        "3\r\nabc\r\n0\r\n\r\n";
    int fd = dial(*state);
    for (size_t i = 0; request[i]; i++) {
        say_n(fd, request + i, 1);
        usleep(500);
    }
    has(hear(fd, NULL), "body=3:");
    close(fd);
}

static void test_half_closed_client_gets_its_answer(void **state) {
    int fd = dial(*state);
    say(fd, "GET /a HTTP/1.1\r\nHost: h\r\n\r\nGET /b HTTP/1.1\r\nHost: h\r\n\r\n");
    shutdown(fd, SHUT_WR);
    const char *a = hear(fd, NULL);
    has(a, "GET /a\n");
    has(a, "GET /b\n");
    close(fd);
}

static void test_http_1_0(void **state) {
    const char *a = ask(*state, "GET / HTTP/1.0\r\nHost: h\r\n\r\n");
    has(a, "200 OK");
    has(a, "Connection: close");
    cleanup_buf struct buf b;
    int fd = dial(*state);
    say(fd, "GET /chunks HTTP/1.0\r\nHost: h\r\n\r\n");
    hear_all(fd, &b);
    close(fd);
    struct str head, all = buf_str(&b);
    ptrdiff_t end = str_find(all, STR("\r\n\r\n"));
    assert_true(end > 0);
    head = str_n(all.p, (size_t)end);
    assert_true(str_find(head, STR("chunked")) < 0);
    assert_int_equal(all.n - (size_t)end - 4, MiB(1));
}

static void test_client_that_hangs_up(void **state) {
    struct site *s = *state;
    char request[200];
    snprintf(request, sizeof(request), "GET /watch?%llx HTTP/1.1\r\nHost: h\r\n\r\n", (unsigned long long)(uintptr_t)s);
    int fd = dial(s);
    say(fd, request);
    has(hear(fd, "first\n"), "first");
    close(fd);
    for (int i = 0; i < 3000 && !atomic_load(&s->closed); i++)
        usleep(1000);
    assert_int_equal(atomic_load(&s->closed), 1);
}

static void test_stop_with_connections_open(void **state) {
    struct site *s = *state;
    int a = dial(s), b = dial(s), c = dial(s), d = dial(s);
    say(a, "GET /slow HTTP/1.1\r\nHost: h\r\n\r\n");
    say(b, "GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    hear(b, "body=");
    say(c, "GET /upgrade HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n");
    hear(c, "\r\n\r\n");
    say(d, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\nabc");
    usleep(20000);
    site_stop(s);
    close(a);
    close(b);
    close(c);
    close(d);
    site_start(s); /* for the teardown */
}

/* --- bodies --- */
static uint64_t sum_of(size_t n) {
    uint64_t sum = 0;
    for (size_t i = 0; i < n; i++)
        sum = sum * 31 + (unsigned char)pattern(i);
    return sum;
}

static void upload(struct site *s, size_t n, size_t chunk) {
    char text[200];
    int fd = dial(s);
    struct blob *body = pattern_blob(0, n);
    if (chunk)
        snprintf(text, sizeof(text),
                 "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n");
    else
        snprintf(text, sizeof(text), "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: %zu\r\nConnection: close\r\n\r\n",
                 n);
    say(fd, text);
    if (!chunk)
        say_n(fd, body->bytes.p, n);
    for (size_t i = 0; chunk && i < n; i += chunk) {
        size_t k = MIN(chunk, n - i);
        snprintf(text, sizeof(text), "%zx\r\n", k);
        say(fd, text);
        say_n(fd, body->bytes.p + i, k);
        say(fd, "\r\n");
    }
    if (chunk)
        say(fd, "0\r\n\r\n");
    const char *a = hear(fd, NULL);
    snprintf(text, sizeof(text), "body=%zu:%llx\n", n, (unsigned long long)sum_of(n));
    has(a, text);
    blob_unref(body);
    close(fd);
}

static void test_uploads(void **state) {
    upload(*state, 10, 0);
    upload(*state, MiB(16), 0);
    upload(*state, 10, 3);
    upload(*state, MiB(4), 10007);
}

static void download(struct site *s, const char *request, size_t n, bool chunked, int naps) {
    cleanup_buf struct buf b;
    int fd = dial(s);
    say(fd, request);
    for (int i = 0; i < naps; i++)
        usleep(50000); /* the pod's bytes have nowhere to go for a while */
    hear_all(fd, &b);
    close(fd);
    struct str all = buf_str(&b);
    ptrdiff_t end = str_find(all, STR("\r\n\r\n"));
    assert_true(end > 0);
    const char *p = all.p + end + 4;
    size_t at = 0;
    while (at < n) {
        size_t k = chunked ? strtoul(p, NULL, 16) : n;
        assert_true(k > 0);
        p = chunked ? strstr(p, "\r\n") + 2 : p;
        assert_true(p + k <= all.p + all.n);
        for (size_t i = 0; i < k; i++)
            if (p[i] != pattern(at + i))
                fail_msg("byte %zu", at + i);
        at += k;
        p += chunked ? k + 2 : k;
    }
    assert_string_equal(p, chunked ? "0\r\n\r\n" : "");
}

static void test_downloads(void **state) {
    download(*state, GET("/big"), MiB(4), false, 0);
    download(*state, GET("/big"), MiB(4), false, 6);
    download(*state, GET("/chunks"), MiB(1), true, 0);
    download(*state, GET("/chunks"), MiB(1), true, 6);
}

static void test_client_that_does_not_read(void **state) {
    struct site *s = *state;
    cleanup_buf struct buf b;
    struct sockaddr_in to = {.sin_family = AF_INET,
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
                             .sin_port = htons((uint16_t)s->port)};
    struct timeval t = {.tv_sec = 8};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &(int){8192}, sizeof(int));
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &t, sizeof(t));
    assert_return_code(connect(fd, (void *)&to, sizeof(to)), errno);
    say(fd, GET("/flood"));
    usleep(4000000);
    hear_all(fd, &b);
    assert_true(b.n < MiB(24));
    close(fd);
}

static void test_answers_without_body(void **state) {
    const char *a = ask(*state, "HEAD /big HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
    has(a, "Content-Length: 4194304\r\n");
    assert_string_equal(strstr(a, "\r\n\r\n"), "\r\n\r\n");
    a = ask(*state, GET("/nothing"));
    has(a, "HTTP/1.1 204 No Content\r\n");
    assert_string_equal(strstr(a, "\r\n\r\n"), "\r\n\r\n");
    int fd = dial(*state);
    say(fd, "HEAD /chunks HTTP/1.1\r\nHost: h\r\n\r\n" GET("/after"));
    has(hear(fd, NULL), "GET /after\n");
    close(fd);
}

static void test_expect_continue(void **state) {
    int fd = dial(*state);
    say(fd, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n");
    has(hear(fd, "\r\n\r\n"), "HTTP/1.1 100 Continue\r\n\r\n");
    say(fd, "abc");
    has(hear(fd, NULL), "body=3:");
    close(fd);
}

/* --- upgrades --- */
#define UPGRADE "GET /upgrade HTTP/1.1\r\nHost: h\r\nConnection: keep-alive, Upgrade\r\nUpgrade: echo\r\n\r\n"

static void test_upgrade(void **state) {
    int fd = dial(*state);
    say(fd, UPGRADE "early");
    const char *a = hear(fd, "early");
    has(a, "HTTP/1.1 101 Switching Protocols\r\n");
    has(a, "Upgrade: echo\r\n");
    has(a, "Connection: Upgrade\r\n");
    say(fd, "later");
    has(hear(fd, "later"), "later");
    usleep(2200000); /* a tunnel may be silent longer than a request */
    say(fd, "again");
    has(hear(fd, "again"), "again");
    say(fd, "last");
    shutdown(fd, SHUT_WR);
    assert_string_equal(hear(fd, NULL), "last");
    close(fd);
}

static void test_upgrade_with_much_data(void **state) {
    int fd = dial(*state);
    size_t n = MiB(2), got = 0;
    struct blob *b = pattern_blob(0, n);
    char buf[8192];
    say(fd, UPGRADE);
    has(hear(fd, "\r\n\r\n"), "101");
    for (size_t at = 0; at < n; at += KiB(64)) { /* the echo waits in the proxy and the pod meanwhile */
        say_n(fd, b->bytes.p + at, KiB(64));
        while (at > KiB(512) && got < at - KiB(512)) {
            ssize_t k = hear_some(fd, buf, sizeof(buf));
            assert_true(k > 0 && memcmp(buf, b->bytes.p + got, (size_t)k) == 0);
            got += (size_t)k;
        }
    }
    shutdown(fd, SHUT_WR);
    ssize_t k;
    while ((k = hear_some(fd, buf, sizeof(buf))) > 0) {
        assert_memory_equal(buf, b->bytes.p + got, (size_t)k);
        got += (size_t)k;
    }
    assert_int_equal(got, n);
    blob_unref(b);
    close(fd);
}

static void test_upgrade_the_pod_does_not_take(void **state) {
    const char *a = ask(*state, "GET /x HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n" GET("/y"));
    has(a, "200 OK");
    has(a, "\nUpgrade: echo\n");
    has(a, "GET /y\n");
}

static void test_no_upgrade_to_http_2(void **state) {
    const char *a =
        ask(*state, "GET /x HTTP/1.1\r\nHost: h\r\nConnection: Upgrade, HTTP2-Settings, close\r\nUpgrade: h2c\r\n"
                    "HTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n");
    has(a, "200 OK");
    has_not(a, "h2c");
    has_not(a, "HTTP2-Settings");
}

/* --- listening --- */
static void test_address_in_use(void **state) {
    struct site *s = *state;
    char address[64];
    struct error err = {0};
    snprintf(address, sizeof(address), "127.0.0.1:%d", s->port);
    struct proxy *p = proxy_new(&(struct ingress_proxy_options){.loop = s->loop});
    assert_int_equal(proxy_listen(p, address, false, &err), -EADDRINUSE);
    has(err.msg, address);
    assert_int_equal(proxy_listen(p, "nowhere", false, &err), -EINVAL);
    has(err.msg, "nowhere");
    proxy_free(p);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void) {
    if (getenv("ONLY"))
        cmocka_set_test_filter(getenv("ONLY"));
    pki_init();
    const struct CMUnitTest tests[] = {
        T(test_request_and_answer),
        T(test_lies_and_hops_are_removed),
        T(test_absolute_form),
        T(test_options_of_everything),
        T(test_no_rule),
        T(test_no_service),
        T(test_no_endpoint),
        T(test_rules_not_known_yet),
        T(test_refused_by_the_pod),
        T(test_another_pod_after_a_refusal),
        T(test_slow_pod),
        T(test_malformed_requests),
        T(test_head_too_slow),
        T(test_body_too_slow),
        T(test_request_cut_off),
        T(test_malformed_answers),
        T(test_answer_cut_off),
        T(test_answer_until_the_end),
        T(test_answer_of_plain_lines),
        T(test_early_answer_to_an_upload),
        T(test_informational_answers),
        T(test_connection_kept_by_the_pod_had_ended),
        T(test_keep_alive_both_sides),
        T(test_pipelined_requests),
        T(test_request_in_single_bytes),
        T(test_half_closed_client_gets_its_answer),
        T(test_http_1_0),
        T(test_client_that_hangs_up),
        T(test_stop_with_connections_open),
        T(test_uploads),
        T(test_downloads),
        T(test_client_that_does_not_read),
        T(test_answers_without_body),
        T(test_expect_continue),
        T(test_upgrade),
        T(test_upgrade_with_much_data),
        T(test_upgrade_the_pod_does_not_take),
        T(test_no_upgrade_to_http_2),
        T(test_address_in_use),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
