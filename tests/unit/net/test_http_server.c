/* sanitizer: thread */
#include "http_test.h"

#include <arpa/inet.h>
#include <poll.h>
#include <sys/socket.h>

static struct site site;

static int setup(void **state) {
    pki_init();
    site_start(&site, NULL);
    return 0;
}

static int teardown(void **state) {
    site_stop(&site);
    return 0;
}

static int dial(void) {
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)site.port)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct timeval limit = {10, 0};
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof(a)), 0);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    return fd;
}

static void send_str(int fd, struct str s) {
    while (s.n) {
        ssize_t k = send(fd, s.p, s.n, MSG_NOSIGNAL);
        if (k <= 0)
            return; /* refused already: the test looks at the answer */
        s = str_skip(s, (size_t)k);
    }
}

/* Reads until needle was seen n times or the end; false at the end without it. */
static bool read_until(int fd, struct buf *got, const char *needle, int n) {
    for (;;) {
        int seen = 0;
        for (struct str rest = buf_str(got);;) {
            ptrdiff_t at = str_find(rest, str_c(needle));
            if (at < 0)
                break;
            seen++;
            rest = str_skip(rest, (size_t)at + strlen(needle));
        }
        if (seen >= n)
            return true;
        char piece[4096];
        ssize_t k = recv(fd, piece, sizeof(piece), 0);
        if (k <= 0)
            return false;
        buf_put(got, piece, (size_t)k);
    }
}

static void read_to_end(int fd, struct buf *got) {
    char piece[65536];
    ssize_t k;
    while ((k = recv(fd, piece, sizeof(piece), 0)) > 0)
        buf_put(got, piece, (size_t)k);
    assert_true(k == 0 || errno == ECONNRESET); /* not the time-out */
}

/* Sends all and reads until the server closes. */
static void talk(struct str request, struct buf *got) {
    cleanup_close int fd = dial();
    send_str(fd, request);
    read_to_end(fd, got);
}

static void assert_has(const struct buf *got, const char *text) {
    if (str_find(buf_str(got), str_c(text)) < 0)
        fail_msg("no \"%s\" in: %.*s", text, (int)MIN(got->n, 500), got->p ? got->p : "");
}

static void a_request_is_answered_and_the_connection_lives_on(void **state) {
    cleanup_buf struct buf got = BUF_INIT;
    cleanup_close int fd = dial();
    send_str(fd, STR("GET /a%20b?q=x%2By+z&q=2 HTTP/1.1\r\nHost: h\r\n\r\n"));
    assert_true(read_until(fd, &got, "org0=-", 1));
    assert_has(&got, "HTTP/1.1 200 OK\r\nDate: ");
    assert_has(&got, "GET path=/a b query=q=x%2By+z&q=2 q=x+y z body= cn=-");
    send_str(fd, STR("POST /p HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello"));
    assert_true(read_until(fd, &got, "body=hello", 1));
    send_str(
        fd,
        STR("POST /p HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3;ext=1\r\nabc\r\n2\r\nde\r\n0\r\nT: x\r\n\r\n"));
    assert_true(read_until(fd, &got, "body=abcde", 1));
    send_str(fd, STR("GET /last HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"));
    assert_true(read_until(fd, &got, "path=/last", 1));
    assert_has(&got, "Connection: close");
    read_to_end(fd, &got);
}

static void a_request_in_single_bytes_is_the_same_request(void **state) {
    cleanup_buf struct buf got = BUF_INIT;
    cleanup_close int fd = dial();
    struct str r =
        STR("PUT /bytes HTTP/1.1\r\nHost: h\r\nX-Long-Header: some value of it\r\nContent-Length: 3\r\n\r\nxyz");
    setsockopt(fd, IPPROTO_TCP, 1 /* TCP_NODELAY */, &(int){1}, sizeof(int));
    for (size_t i = 0; i < r.n; i++) {
        send_str(fd, str_n(r.p + i, 1));
        usleep(500);
    }
    assert_true(read_until(fd, &got, "body=xyz", 1));
}

static void pipelined_requests_are_answered_in_order(void **state) {
    cleanup_buf struct buf got = BUF_INIT, all = BUF_INIT;
    cleanup_close int fd = dial();
    for (int i = 0; i < 200; i++)
        buf_printf(&all, "GET %s?i=%d HTTP/1.1\r\nHost: h\r\n\r\n", i % 3 ? "/sync" : "/async", i);
    buf_puts(&all, "GET /end HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
    send_str(fd, buf_str(&all));
    read_to_end(fd, &got);
    size_t at = 0;
    for (int i = 0; i < 200; i++) {
        char want[64];
        snprintf(want, sizeof(want), i % 3 ? "query=i=%d q=" : "from another thread", i);
        ptrdiff_t k = str_find(str_skip(buf_str(&got), at), str_c(want));
        assert_true(k >= 0);
        at += (size_t)k + strlen(want);
    }
    assert_has(&got, "path=/end");
}

static void head_and_204_have_no_body(void **state) {
    cleanup_buf struct buf got = BUF_INIT;
    talk(STR("HEAD /x HTTP/1.1\r\nHost: h\r\n\r\nGET /nothing HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"), &got);
    assert_true(str_find(buf_str(&got), STR("path=/x")) < 0);
    assert_has(&got, "Content-Length: ");
    ptrdiff_t second = str_find(buf_str(&got), STR("HTTP/1.1 204 No Content"));
    assert_true(second > 0);
    assert_true(str_find(str_skip(buf_str(&got), (size_t)second), STR("Content-Length")) < 0);
}

static void http_1_0_closes_unless_asked_to_keep(void **state) {
    cleanup_buf struct buf got = BUF_INIT;
    talk(STR("GET /old HTTP/1.0\r\nConnection: keep-alive\r\n\r\nGET /stream HTTP/1.0\r\n\r\n"), &got);
    assert_has(&got, "path=/old");
    assert_has(&got, "Connection: keep-alive");
    assert_has(&got, "line 999\n");
    assert_true(str_find(buf_str(&got), STR("chunked")) < 0);
}

static void expect_100_continue_is_told_to_go_on(void **state) {
    cleanup_buf struct buf got = BUF_INIT;
    cleanup_close int fd = dial();
    send_str(fd, STR("POST /e HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n"));
    assert_true(read_until(fd, &got, "100 Continue\r\n\r\n", 1));
    send_str(fd, STR("body"));
    assert_true(read_until(fd, &got, "body=body", 1));
    cleanup_buf struct buf no = BUF_INIT;
    talk(STR("POST /e HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 99999999\r\n\r\n"), &no);
    assert_has(&no, "HTTP/1.1 413 ");
    assert_true(str_find(buf_str(&no), STR("100 Continue")) < 0);
}

/* What two parsers could read in two ways is refused, and the connection with it: nothing smuggled behind is answered. */
static void ambiguous_requests_are_refused(void **state) {
    static const struct {
        const char *what, *request;
    } bad[] = {
        {"CL and TE", "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"},
        {"TE and CL", "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n"},
        {"two lengths", "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab"},
        {"list of lengths", "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1, 1\r\n\r\na"},
        {"signed length", "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: +1\r\n\r\na"},
        {"negative length", "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: -1\r\n\r\na"},
        {"hex length", "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 0x1\r\n\r\na"},
        {"huge length", "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 99999999999999999999999\r\n\r\na"},
        {"identity", "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: identity\r\n\r\n"},
        {"chunked twice", "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n"},
        {"gzip, chunked", "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"},
        {"two TE", "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n\r\n0\r\n\r\n"},
        {"xchunked", "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n"},
        {"TE with tab", "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding:\x0b"
                        "chunked\r\n\r\n0\r\n\r\n"},
        {"TE in 1.0", "POST / HTTP/1.0\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"},
        {"space before colon", "POST / HTTP/1.1\r\nHost: h\r\nContent-Length : 1\r\n\r\na"},
        {"folded header", "GET / HTTP/1.1\r\nHost: h\r\nX-A: b\r\n c\r\n\r\n"},
        {"folded with tab", "GET / HTTP/1.1\r\nHost: h\r\nX-A: b\r\n\tc\r\n\r\n"},
        {"folded TE", "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n"},
        {"space first", "GET / HTTP/1.1\r\n Host: h\r\n\r\n"},
        {"bare LF lines", "GET / HTTP/1.1\nHost: h\n\n"},
        {"bare LF in head", "GET / HTTP/1.1\r\nHost: h\nX: y\r\n\r\n"},
        {"bare CR in value", "GET / HTTP/1.1\r\nHost: h\r\nX: a\rb\r\n\r\n"},
        {"NUL in value", NULL},
        {"no host", "GET / HTTP/1.1\r\n\r\n"},
        {"two hosts", "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"},
        {"bad method", "GE T / HTTP/1.1\r\nHost: h\r\n\r\n"},
        {"lower-case method", "get / HTTP/1.1\r\nHost: h\r\n\r\n"},
        {"no version", "GET /\r\nHost: h\r\n\r\n"},
        {"version 2", "GET / HTTP/2.0\r\nHost: h\r\n\r\n"},
        {"version 1.10", "GET / HTTP/1.10\r\nHost: h\r\n\r\n"},
        {"bad escape", "GET /%zz HTTP/1.1\r\nHost: h\r\n\r\n"},
        {"cut escape", "GET /%4 HTTP/1.1\r\nHost: h\r\n\r\n"},
        {"NUL escape", "GET /a%00b HTTP/1.1\r\nHost: h\r\n\r\n"},
        {"relative", "GET a HTTP/1.1\r\nHost: h\r\n\r\n"},
        {"bad header name", "GET / HTTP/1.1\r\nHost: h\r\nX(y): z\r\n\r\n"},
        {"header without colon", "GET / HTTP/1.1\r\nHost: h\r\nnonsense\r\n\r\n"},
        {"chunk size junk", "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nxx\r\n\r\n"},
        {"chunk size signed", "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\na\r\n0\r\n\r\n"},
        {"chunk size huge", "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\na"},
        {"chunk without CRLF", "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n0\r\n\r\n"},
        {"chunk with LF", "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n1\na\r\n0\r\n\r\n"},
        {"TLS on a plain port", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"},
    };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        cleanup_buf struct buf got = BUF_INIT, request = BUF_INIT;
        if (bad[i].request)
            buf_puts(&request, bad[i].request);
        else
            buf_put(&request, "GET / HTTP/1.1\r\nHost: h\r\nX: a\0b\r\n\r\n", 35);
        buf_puts(&request, "GET /smuggled HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
        talk(buf_str(&request), &got);
        if (str_find(buf_str(&got), STR("/smuggled")) >= 0 || got.n < 12 ||
            !str_starts(buf_str(&got), STR("HTTP/1.1 ")) || (got.p[9] != '4' && got.p[9] != '5'))
            fail_msg("%s: %.*s", bad[i].what, (int)MIN(got.n, 300), got.p);
    }
}

static void limits_hold(void **state) {
    cleanup_buf struct buf big = BUF_INIT, many = BUF_INIT, body = BUF_INIT, url = BUF_INIT, tiny = BUF_INIT;
    cleanup_buf struct buf g1 = BUF_INIT, g2 = BUF_INIT, g3 = BUF_INIT, g4 = BUF_INIT, g5 = BUF_INIT;
    buf_puts(&big, "GET / HTTP/1.1\r\nHost: h\r\nX: ");
    for (int i = 0; i < 70000; i++)
        buf_putc(&big, 'x');
    buf_puts(&big, "\r\n\r\n");
    talk(buf_str(&big), &g1);
    assert_has(&g1, "HTTP/1.1 431 ");
    buf_puts(&many, "GET / HTTP/1.1\r\nHost: h\r\n");
    for (int i = 0; i < 200; i++)
        buf_printf(&many, "X%d: y\r\n", i);
    buf_puts(&many, "\r\n");
    talk(buf_str(&many), &g2);
    assert_has(&g2, "HTTP/1.1 431 ");
    buf_puts(&body, "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n");
    for (int i = 0; i < 70; i++) {
        buf_puts(&body, "400\r\n");
        for (int k = 0; k < 1024; k++)
            buf_putc(&body, 'b');
        buf_puts(&body, "\r\n");
    }
    talk(buf_str(&body), &g3);
    assert_has(&g3, "HTTP/1.1 413 ");
    buf_puts(&url, "GET /");
    for (int i = 0; i < 70000; i++)
        buf_putc(&url, 'u');
    talk(buf_str(&url), &g4);
    assert_has(&g4, "HTTP/1.1 431 ");
    buf_puts(&tiny, "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n");
    for (int i = 0; i < 2000; i++)
        buf_puts(&tiny, "1;aaaaaaaaaaaaaaaaaa=bbbbbbbbbbbbbbbbbbbbbb\r\nx\r\n");
    talk(buf_str(&tiny), &g5);
    assert_has(&g5, "HTTP/1.1 400 ");
}

static void slow_heads_bodies_and_idlers_are_cut(void **state) {
    cleanup_buf struct buf head = BUF_INIT, body = BUF_INIT, none = BUF_INIT, cut = BUF_INIT;
    int64_t t0 = time_mono_ms();
    talk(STR("GET / HTTP/1.1\r\nHost:"), &head);
    assert_has(&head, "HTTP/1.1 408 ");
    assert_true(time_mono_ms() - t0 < 5000);
    talk(STR("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\nabc"), &body);
    assert_has(&body, "HTTP/1.1 408 ");
    talk(STR(""), &none);
    assert_int_equal(none.n, 0);
    cleanup_close int fd = dial();
    send_str(fd, STR("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab"));
    shutdown(fd, SHUT_WR);
    read_to_end(fd, &cut);
    assert_has(&cut, "HTTP/1.1 400 ");
}

static void streamed_replies_arrive_whole(void **state) {
    cleanup_buf struct buf got = BUF_INIT;
    talk(STR("GET /stream HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"), &got);
    assert_has(&got, "Transfer-Encoding: chunked\r\n");
    assert_has(&got, "7\r\nline 0\n\r\n");
    assert_has(&got, "line 999\n\r\n0\r\n\r\n");
}

static void a_big_reply_arrives_whole(void **state) {
    cleanup_buf struct buf got = BUF_INIT;
    talk(STR("GET /big HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"), &got);
    assert_has(&got, "Content-Length: 4194304\r\n");
    ptrdiff_t at = str_find(buf_str(&got), STR("\r\n\r\n"));
    assert_int_equal(got.n - (size_t)at - 4, MiB(4));
    for (size_t i = 0; i < MiB(4); i += 997)
        assert_int_equal(got.p[(size_t)at + 4 + i], (char)(i * 31 >> 4));
}

static void a_watcher_that_hangs_up_is_noticed(void **state) {
    cleanup_buf struct buf got = BUF_INIT;
    int before = atomic_load(&site.closed), fd = dial();
    send_str(fd, STR("GET /watch HTTP/1.1\r\nHost: h\r\n\r\n"));
    assert_true(read_until(fd, &got, "{}\n", 1));
    close(fd);
    for (int i = 0; i < 500 && atomic_load(&site.closed) == before; i++)
        usleep(10000);
    assert_int_equal(atomic_load(&site.closed), before + 1);
}

static void a_reader_that_falls_behind_shows_as_backlog(void **state) {
    cleanup_close int fd = dial();
    atomic_store(&site.backlog, 0);
    send_str(fd, STR("GET /flood HTTP/1.1\r\nHost: h\r\n\r\n"));
    for (int i = 0; i < 500 && !atomic_load(&site.backlog); i++)
        usleep(10000);
    assert_true(atomic_load(&site.backlog) >= MiB(8));
}

static void a_handler_that_never_answers_closes_the_connection(void **state) {
    cleanup_buf struct buf got = BUF_INIT;
    talk(STR("GET /none HTTP/1.1\r\nHost: h\r\n\r\n"), &got);
    assert_int_equal(got.n, 0);
}

static void header_values_cannot_split_the_reply(void **state) {
    cleanup_buf struct buf got = BUF_INIT;
    talk(STR("GET /inject HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"), &got);
    assert_has(&got, "X-A: a  Set-Cookie: b\r\n");
}

static void an_upgrade_gives_the_bytes_behind_it_first(void **state) {
    cleanup_buf struct buf got = BUF_INIT;
    int before = atomic_load(&site.closed);
    cleanup_close int fd = dial();
    send_str(fd, STR("GET /upgrade HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\nearly "));
    assert_true(read_until(fd, &got, "early ", 1));
    assert_has(&got, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\nearly ");
    send_str(fd, STR("late"));
    shutdown(fd, SHUT_WR);
    read_to_end(fd, &got);
    assert_has(&got, "early late");
    for (int i = 0; i < 500 && atomic_load(&site.closed) == before; i++)
        usleep(10000);
    assert_int_equal(atomic_load(&site.closed), before + 1);
}

static void an_upgrade_nobody_wants_is_a_plain_request(void **state) {
    cleanup_buf struct buf got = BUF_INIT;
    talk(STR("GET /one HTTP/1.1\r\nHost: h\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\r\n"
             "GET /two HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"),
         &got);
    assert_has(&got, "path=/one");
    assert_has(&got, "path=/two");
}

static void a_port_in_use_is_named(void **state) {
    struct http_server *s = NULL;
    struct error err = {0};
    char at[32];
    snprintf(at, sizeof(at), "127.0.0.1:%d", site.port);
    const struct http_server_options o = {.loops = site.io, .loops_n = 1, .handler = site_handler};
    assert_int_equal(http_server_start(&o, at, &s, &err), -EADDRINUSE);
    assert_non_null(strstr(err.msg, at));
    assert_int_equal(http_server_start(&o, "localhost", &s, &err), -EINVAL);
    assert_int_equal(http_server_start(&o, "127.0.0.1:65536", &s, &err), -EINVAL);
    assert_int_equal(http_server_start(&o, "::1:80", &s, &err), -EINVAL);
}

static void small_stopped(void *arg) {
    atomic_store((atomic_bool *)arg, true);
}

static void beyond_the_limit_connections_wait_their_turn(void **state) {
    struct http_server *s = NULL;
    atomic_bool over = false;
    const struct http_server_options o = {
        .loops = site.io, .loops_n = 2, .handler = site_handler, .arg = &site, .connections_max = 2};
    int port = site.port, fd[3];
    struct buf got[3] = {BUF_INIT, BUF_INIT, BUF_INIT};
    assert_int_equal(http_server_start(&o, "127.0.0.1:0", &s, NULL), 0);
    site.port = http_server_port(s);
    for (size_t i = 0; i < 3; i++) {
        fd[i] = dial();
        send_str(fd[i], STR("GET /x HTTP/1.1\r\nHost: h\r\n\r\n"));
    }
    site.port = port;
    assert_true(read_until(fd[0], &got[0], "path=/x", 1));
    assert_true(read_until(fd[1], &got[1], "path=/x", 1));
    struct pollfd third = {.fd = fd[2], .events = POLLIN};
    assert_int_equal(poll(&third, 1, 300), 0);
    close(fd[0]);
    assert_true(read_until(fd[2], &got[2], "path=/x", 1));
    close(fd[1]);
    close(fd[2]);
    http_server_stop(s, small_stopped, &over);
    for (int i = 0; i < 500 && !atomic_load(&over); i++)
        usleep(10000);
    assert_true(atomic_load(&over));
    for (size_t i = 0; i < 3; i++)
        buf_fini(&got[i]);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_request_is_answered_and_the_connection_lives_on),
        cmocka_unit_test(a_request_in_single_bytes_is_the_same_request),
        cmocka_unit_test(pipelined_requests_are_answered_in_order),
        cmocka_unit_test(head_and_204_have_no_body),
        cmocka_unit_test(http_1_0_closes_unless_asked_to_keep),
        cmocka_unit_test(expect_100_continue_is_told_to_go_on),
        cmocka_unit_test(ambiguous_requests_are_refused),
        cmocka_unit_test(limits_hold),
        cmocka_unit_test(slow_heads_bodies_and_idlers_are_cut),
        cmocka_unit_test(streamed_replies_arrive_whole),
        cmocka_unit_test(a_big_reply_arrives_whole),
        cmocka_unit_test(a_watcher_that_hangs_up_is_noticed),
        cmocka_unit_test(a_reader_that_falls_behind_shows_as_backlog),
        cmocka_unit_test(a_handler_that_never_answers_closes_the_connection),
        cmocka_unit_test(header_values_cannot_split_the_reply),
        cmocka_unit_test(an_upgrade_gives_the_bytes_behind_it_first),
        cmocka_unit_test(an_upgrade_nobody_wants_is_a_plain_request),
        cmocka_unit_test(beyond_the_limit_connections_wait_their_turn),
        cmocka_unit_test(a_port_in_use_is_named),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
