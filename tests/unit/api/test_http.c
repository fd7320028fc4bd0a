/* The API behind a real HTTP server: requests on io threads, the state on the core thread. */
#include <arpa/inet.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "helper.h"

#define CM "/api/v1/namespaces/default/configmaps"

struct server {
    struct fixture *f;
    struct loop *io[2];
    struct http_server *http;
    _Atomic bool stopped;
};

static void on_stopped(void *arg) {
    ((struct server *)arg)->stopped = true;
}

static int start(void **state) {
    struct server *s = XNEW(struct server);
    struct error err = {0};
    void *f;
    set_up(&f);
    s->f = f;
    for (size_t i = 0; i < 2; i++) {
        s->io[i] = loop_new("io");
        assert_int_equal(loop_start(s->io[i], &err), 0);
    }
    assert_int_equal(loop_start(s->f->loop, &err), 0);
    struct http_server_options o = {.loops = s->io, .loops_n = 2, .handler = api_http_handler, .arg = s->f->api};
    assert_int_equal(http_server_start(&o, "127.0.0.1:0", &s->http, &err), 0);
    *state = s;
    return 0;
}

static int stop(void **state) {
    struct server *s = *state;
    http_server_stop(s->http, on_stopped, s);
    for (int i = 0; i < 500 && !s->stopped; i++)
        usleep(10000);
    assert_true(s->stopped);
    usleep(50000); /* what the io threads posted to the core when their connections went */
    loop_stop(s->f->loop);
    loop_join(s->f->loop);
    for (size_t i = 0; i < 2; i++) {
        loop_stop(s->io[i]);
        loop_join(s->io[i]);
    }
    void *f = s->f;
    tear_down(&f);
    for (size_t i = 0; i < 2; i++)
        loop_free(s->io[i]);
    free(s);
    return 0;
}

static int dial(struct server *s) {
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)http_server_port(s->http))};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof(a)), 0);
    return fd;
}

static void send_request(int fd, const char *method, const char *target, const char *headers, const char *body) {
    cleanup_free char *r = xasprintf("%s %s HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " ADMIN_TOKEN
                                     "\r\n%sContent-Length: %zu\r\n\r\n%s",
                                     method, target, headers, strlen(body), body);
    assert_int_equal(fd_write_all(fd, r, strlen(r)), 0);
}

/* Reads until `until` is in what came, for at most 5 s. */
static bool read_until(int fd, struct buf *b, const char *until) {
    int64_t end = time_mono_ms() + 5000;
    while (!strstr(b->n ? b->p : "", until)) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        char piece[4096];
        ssize_t n;
        if (time_mono_ms() > end || poll(&p, 1, 1000) < 0 || (p.revents && (n = read(fd, piece, sizeof(piece))) <= 0))
            return false;
        if (p.revents)
            buf_put(b, piece, (size_t)n);
    }
    return true;
}

static void requests_are_answered(void **state) {
    struct server *s = *state;
    int fd = dial(s);
    cleanup_buf struct buf b = BUF_INIT;
    send_request(fd, "POST", CM, "Content-Type: application/json\r\n", "{\"metadata\":{\"name\":\"x\"}}");
    assert_true(read_until(fd, &b, "HTTP/1.1 201 Created"));
    assert_true(read_until(fd, &b, "\"name\":\"x\""));
    buf_reset(&b);
    send_request(fd, "GET", CM, "", "");
    assert_true(read_until(fd, &b, "\"kind\":\"ConfigMapList\""));
    buf_reset(&b);
    send_request(fd, "GET", "/openapi/v3", "", "");
    assert_true(read_until(fd, &b, "api/v1"));
    close(fd);
}

static void nobody_is_told_so(void **state) {
    struct server *s = *state;
    int fd = dial(s);
    cleanup_buf struct buf b = BUF_INIT;
    const char *r = "GET /api HTTP/1.1\r\nHost: x\r\n\r\n";
    assert_int_equal(fd_write_all(fd, r, strlen(r)), 0);
    assert_true(read_until(fd, &b, "HTTP/1.1 401 Unauthorized"));
    close(fd);
}

static void watches_stream(void **state) {
    struct server *s = *state;
    int watcher = dial(s), fd = dial(s);
    cleanup_buf struct buf b = BUF_INIT, w = BUF_INIT;
    send_request(watcher, "GET", CM "?watch=1&timeoutSeconds=2", "", "");
    assert_true(read_until(watcher, &w, "Transfer-Encoding: chunked"));
    send_request(fd, "POST", CM, "Content-Type: application/json\r\n", "{\"metadata\":{\"name\":\"x\"}}");
    assert_true(read_until(fd, &b, "\"name\":\"x\""));
    assert_true(read_until(watcher, &w, "{\"type\":\"ADDED\""));
    assert_true(read_until(watcher, &w, "\r\n0\r\n\r\n"));
    close(watcher);
    close(fd);
}

static void watchers_go_away(void **state) {
    struct server *s = *state;
    int fd = dial(s);
    for (int i = 0; i < 20; i++) {
        int watcher = dial(s);
        cleanup_buf struct buf w = BUF_INIT;
        send_request(watcher, "GET", CM "?watch=1", "", "");
        if (i % 2)
            assert_true(read_until(watcher, &w, "chunked"));
        close(watcher);
    }
    for (int i = 0; i < 20; i++) {
        cleanup_buf struct buf b = BUF_INIT;
        cleanup_free char *body = xasprintf("{\"metadata\":{\"name\":\"x%d\"}}", i);
        send_request(fd, "POST", CM, "Content-Type: application/json\r\n", body);
        assert_true(read_until(fd, &b, "HTTP/1.1 201"));
        assert_true(read_until(fd, &b, "\"}}"));
    }
    for (int i = 0; i < 300; i++) {
        cleanup_buf struct buf b = BUF_INIT;
        send_request(fd, "GET", "/metrics", "", "");
        assert_true(read_until(fd, &b, "apiserver_registered_watchers "));
        assert_true(read_until(fd, &b, "dory_store_revision "));
        if (strstr(b.p, "apiserver_registered_watchers 0\n"))
            break;
        usleep(10000);
        assert_true(i < 299);
    }
    close(fd);
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, start, stop)

int main(void) {
    const struct CMUnitTest tests[] = {
        T(requests_are_answered),
        T(nobody_is_told_so),
        T(watches_stream),
        T(watchers_go_away),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
