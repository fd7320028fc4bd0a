/* sanitizer: thread */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <sys/socket.h>

#include "net/net.h"
#include "net/spdy.h"
#include "net/ws.h"

#define SUCCESS "{\"metadata\":{},\"status\":\"Success\"}"
#define FAILURE "{\"metadata\":{},\"status\":\"Failure\",\"message\":\"exit code 3\",\"code\":500}"

/* --- the server: a process that echoes ---------------------------------------------------------------------------- */

static struct loop *loop;
static struct http_server *server;
static int port;
static atomic_int closed;

struct process {
    struct channels *c;
    struct stream *s; /* of a forwarded pair */
};

static void say(struct process *p, enum channel_id id, const char *text) {
    channels_write(p->c, id, text, strlen(text));
}

static void ex_ready(void *arg, struct channels *c) {
    struct process *p = arg;
    p->c = c;
    say(p, CHANNEL_STDOUT, "ready;");
}
static void ex_stdin(void *arg, struct str data) {
    struct process *p = arg;
    if (str_eq(data, STR("exit 3"))) {
        channels_finish(p->c, STR(FAILURE));
        return;
    }
    if (str_eq(data, STR("flood"))) {
        char *big = xmalloc(MiB(1));
        memset(big, 'x', MiB(1));
        channels_write(p->c, CHANNEL_STDOUT, big, MiB(1));
        channels_finish(p->c, STR(SUCCESS));
        free(big);
        return;
    }
    channels_write(p->c, CHANNEL_STDOUT, data.p, data.n);
    say(p, CHANNEL_STDERR, "e;");
}
static void ex_eof(void *arg) {
    struct process *p = arg;
    say(p, CHANNEL_STDOUT, "eof;");
    channels_finish(p->c, STR(SUCCESS));
}
static void ex_resize(void *arg, int width, int height) {
    char text[40];
    snprintf(text, sizeof(text), "%dx%d;", width, height);
    say(arg, CHANNEL_STDOUT, text);
}
static void ex_closed(void *arg) {
    atomic_fetch_add(&closed, 1);
    free(arg);
}

static void fw_data(void *arg, struct str data) {
    struct process *p = arg;
    stream_write(p->s, data.p, data.n);
}
static void fw_eof(void *arg) {
    struct process *p = arg;
    stream_write(p->s, "bye", 3);
    stream_shutdown(p->s);
}
static void fw_gone(void *arg, int reason) {
    atomic_fetch_add(&closed, 1);
    free(arg);
}
/* Port 82 is answered late, 83 refused late: when the client may be gone. */
struct late {
    struct timer t;
    struct channels *c;
    int request_id, to;
};
static void fw_accept(struct channels *c, int request_id) {
    struct process *p = XNEW(struct process);
    p->s = channels_forward_accept(c, request_id);
    assert_non_null(p->s);
    stream_start(p->s, &(struct stream_events){.on_data = fw_data, .on_eof = fw_eof, .on_closed = fw_gone, .arg = p});
}
static void fw_late(void *arg) {
    struct late *l = arg;
    if (l->to == 82) {
        fw_accept(l->c, l->request_id);
    } else {
        channels_forward_refuse(l->c, l->request_id, "too late");
        atomic_fetch_add(&closed, 1);
    }
    free(l);
}

static void fw_open(void *arg, struct channels *c, int request_id, int to) {
    if (to >= 82) {
        struct late *l = XNEW(struct late);
        *l = (struct late){.c = c, .request_id = request_id, .to = to};
        timer_init(&l->t, loop, fw_late, l);
        timer_set(&l->t, 100, 0);
        return;
    }
    if (to == 81) {
        channels_forward_refuse(c, request_id, "nothing listens on 81");
        return;
    }
    fw_accept(c, request_id);
    assert_null(channels_forward_accept(c, request_id));
}
static void fw_closed(void *arg) {
    atomic_fetch_add(&closed, 1);
}

static void handler(void *arg, struct http_exchange *x) {
    const struct http_request *r = http_request(x);
    if (str_starts(r->path, STR("/forward"))) {
        const int ports[] = {80, 81};
        const struct channels_forward_events ev = {fw_open, fw_closed, NULL};
        channels_forward_start(x, ports, 2, &ev);
        return;
    }
    struct process *p = XNEW(struct process);
    const struct channels_exec_events ev = {ex_ready, ex_stdin, ex_eof, ex_resize, NULL, ex_closed, p};
    bool tty = str_starts(r->path, STR("/tty"));
    channels_exec_start(x, true, true, !tty, tty, &ev);
}

static int setup(void **state) {
    pki_init();
    loop = loop_new("io");
    const struct http_server_options o = {.loops = &loop, .loops_n = 1, .handler = handler};
    assert_int_equal(http_server_start(&o, "127.0.0.1:0", &server, NULL), 0);
    port = http_server_port(server);
    return loop_start(loop, NULL);
}
static void stopped(void *arg) {
    loop_stop(loop);
}
static int teardown(void **state) {
    http_server_stop(server, stopped, NULL);
    loop_join(loop);
    loop_free(loop);
    return 0;
}

/* --- the client --------------------------------------------------------------------------------------------------- */

static int dial(void) {
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    struct timeval limit = {10, 0};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof(a)), 0);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    return fd;
}

static void send_all(int fd, const void *p, size_t n) {
    assert_int_equal(send(fd, p, n, MSG_NOSIGNAL), (ssize_t)n);
}

/* Sends the request and reads the head of the answer; what follows is left in the socket. */
static int open_with(const char *method, const char *path, const char *headers, char head[2048]) {
    char request[2048];
    int fd = dial(), n = snprintf(request, sizeof(request),
                                  "%s %s HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\n%s\r\n", method, path, headers);
    size_t got = 0;
    send_all(fd, request, (size_t)n);
    while (got < 2047 && recv(fd, head + got, 1, 0) == 1) {
        got++;
        if (got > 3 && memcmp(head + got - 4, "\r\n\r\n", 4) == 0)
            break;
    }
    head[got] = 0;
    return fd;
}

#define WS_HEADERS                                                                                       \
    "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n" \
    "Sec-WebSocket-Protocol: "

static int ws_open(const char *path, const char *protocols, const char *want) {
    char headers[512], head[2048], line[128];
    snprintf(headers, sizeof(headers), WS_HEADERS "%s\r\n", protocols);
    int fd = open_with("GET", path, headers, head);
    snprintf(line, sizeof(line), "Sec-WebSocket-Protocol: %s\r\n", want);
    if (!strstr(head, "HTTP/1.1 101 ") || !strstr(head, line))
        fail_msg("answer: %s", head);
    assert_null(strstr(head, "bearer"));
    return fd;
}

static void ws_put(int fd, int first_byte, const void *p, size_t n) {
    unsigned char f[8 + 256] = {(unsigned char)first_byte, (unsigned char)(0x80 | n), 1, 2, 3, 4};
    assert_true(n < 126);
    for (size_t i = 0; i < n; i++)
        f[6 + i] = ((const unsigned char *)p)[i] ^ f[2 + (i & 3)];
    send_all(fd, f, 6 + n);
}

static bool read_exact(int fd, void *p, size_t n) {
    return n == 0 || recv(fd, p, n, MSG_WAITALL) == (ssize_t)n;
}

/* One message into out; returns the opcode, or -1 at the end. */
static int ws_get(int fd, struct buf *out) {
    unsigned char h[2], ext[8];
    buf_reset(out);
    if (!read_exact(fd, h, 2))
        return -1;
    size_t n = h[1], k = n == 126 ? 2 : n == 127 ? 8 : 0;
    assert_true(h[1] < 128); /* a server does not mask */
    assert_true(read_exact(fd, ext, k));
    for (size_t i = 0; i < k; i++)
        n = (i ? n << 8 : 0) | ext[i];
    char *room = buf_reserve(out, n);
    assert_true(read_exact(fd, room, n));
    out->n = n;
    room[n] = 0;
    return h[0] & 15;
}

/* Reads messages until each channel holds what is wanted, or the close. */
static void ws_expect(int fd, bool text, struct buf got[5], int *close_code, int until, const char *want) {
    cleanup_buf struct buf m = BUF_INIT;
    *close_code = 0;
    for (;;) {
        if (want && str_find(buf_str(&got[until]), str_c(want)) >= 0)
            return;
        int op = ws_get(fd, &m);
        if (op == WS_CLOSE || op < 0) {
            *close_code = op < 0 ? -1 : (unsigned char)m.p[0] << 8 | (unsigned char)m.p[1];
            if (want)
                fail_msg("closed (%d) before \"%s\", got: %.*s", *close_code, want, STR_ARG(buf_str(&got[until])));
            return;
        }
        assert_int_equal(op, text ? WS_TEXT : WS_BINARY);
        assert_true(m.n >= 1);
        unsigned channel = (unsigned char)m.p[0] - (text ? '0' : 0u);
        assert_true(channel < 5);
        buf_put(&got[channel], m.p + 1, m.n - 1);
    }
}

static void bufs_fini(struct buf *b, size_t n) {
    for (size_t i = 0; i < n; i++)
        buf_fini(&b[i]);
}

static void wait_closed(int want) {
    for (int i = 0; i < 500 && atomic_load(&closed) < want; i++)
        usleep(10000);
    assert_int_equal(atomic_load(&closed), want);
}

/* --- WebSocket exec ----------------------------------------------------------------------------------------------- */

static void v5_carries_streams_status_and_the_end_of_stdin(void **state) {
    struct buf got[5] = {BUF_INIT, BUF_INIT, BUF_INIT, BUF_INIT, BUF_INIT};
    int code, before = atomic_load(&closed);
    int fd = ws_open("/exec", "base64url.bearer.authorization.k8s.io.c2VjcmV0, v5.channel.k8s.io, v4.channel.k8s.io",
                     "v5.channel.k8s.io");
    ws_expect(fd, false, got, &code, 1, "ready;");
    ws_put(fd, 0x82, "\0hello;", 7);
    ws_expect(fd, false, got, &code, 1, "hello;");
    ws_expect(fd, false, got, &code, 2, "e;");
    ws_put(fd, 0x89, "are you there", 13);
    cleanup_buf struct buf pong = BUF_INIT;
    assert_int_equal(ws_get(fd, &pong), WS_PONG);
    assert_string_equal(pong.p, "are you there");
    ws_put(fd, 0x02, "\0fr", 3); /* one message in two fragments */
    ws_put(fd, 0x80, "ag;", 3);
    ws_expect(fd, false, got, &code, 1, "frag;");
    ws_put(fd, 0x82, "\xff\0", 2);
    ws_expect(fd, false, got, &code, 1, NULL);
    assert_int_equal(code, WS_NORMAL);
    assert_non_null(strstr(got[1].p, "eof;"));
    assert_string_equal(got[3].p, SUCCESS);
    ws_put(fd, 0x88, "\x03\xe8", 2);
    close(fd);
    wait_closed(before + 1);
    bufs_fini(got, 5);
}

static void v4_in_base64_with_a_terminal(void **state) {
    struct buf got[5] = {BUF_INIT, BUF_INIT, BUF_INIT, BUF_INIT, BUF_INIT};
    int code, before = atomic_load(&closed);
    int fd = ws_open("/tty", "v4.base64.channel.k8s.io", "v4.base64.channel.k8s.io");
    ws_expect(fd, true, got, &code, 1, "cmVhZHk7");            /* ready; */
    ws_put(fd, 0x81, "4eyJXaWR0aCI6ODAsIkhlaWdodCI6MjR9", 33); /* {"Width":80,"Height":24} */
    ws_expect(fd, true, got, &code, 1, "ODB4MjQ7");            /* 80x24; */
    ws_put(fd, 0x81, "0ZXhpdCAz", 9);                          /* exit 3 */
    ws_expect(fd, true, got, &code, 3, NULL);
    assert_int_equal(code, WS_NORMAL);
    assert_true(str_starts(buf_str(&got[3]), STR("eyJtZXRhZGF0YSI6e30sInN0YXR1cyI6IkZhaWx1cmUi")));
    assert_int_equal(got[2].n, 0);
    close(fd);
    wait_closed(before + 1);
    bufs_fini(got, 5);
}

static void the_first_version_has_a_bare_error_text(void **state) {
    struct buf got[5] = {BUF_INIT, BUF_INIT, BUF_INIT, BUF_INIT, BUF_INIT};
    int code, before = atomic_load(&closed);
    int fd = ws_open("/exec", "channel.k8s.io", "channel.k8s.io");
    ws_put(fd, 0x82, "\0exit 3", 7);
    ws_expect(fd, false, got, &code, 3, NULL);
    assert_string_equal(got[3].p, "exit code 3");
    close(fd);
    wait_closed(before + 1);
    bufs_fini(got, 5);
}

static void a_megabyte_of_output_arrives_before_the_status(void **state) {
    struct buf got[5] = {BUF_INIT, BUF_INIT, BUF_INIT, BUF_INIT, BUF_INIT};
    int code, before = atomic_load(&closed);
    int fd = ws_open("/exec", "v5.channel.k8s.io", "v5.channel.k8s.io");
    ws_put(fd, 0x82, "\0flood", 6);
    ws_expect(fd, false, got, &code, 3, NULL);
    assert_int_equal(got[1].n, MiB(1) + strlen("ready;"));
    assert_string_equal(got[3].p, SUCCESS);
    close(fd);
    wait_closed(before + 1);
    bufs_fini(got, 5);
}

static void a_client_that_breaks_the_protocol_is_told_so(void **state) {
    struct buf got[5] = {BUF_INIT, BUF_INIT, BUF_INIT, BUF_INIT, BUF_INIT};
    int code, before = atomic_load(&closed);
    int fd = ws_open("/exec", "v5.channel.k8s.io", "v5.channel.k8s.io");
    send_all(fd, "\x82\x02hi", 4); /* not masked */
    ws_expect(fd, false, got, &code, 3, NULL);
    assert_int_equal(code, WS_PROTOCOL_ERROR);
    close(fd);
    fd = ws_open("/exec", "v4.base64.channel.k8s.io", "v4.base64.channel.k8s.io");
    ws_put(fd, 0x81, "0!!!!", 5);
    ws_expect(fd, true, got, &code, 3, NULL);
    assert_int_equal(code, WS_PROTOCOL_ERROR);
    close(fd);
    wait_closed(before + 2);
    bufs_fini(got, 5);
}

static void what_fits_no_protocol_is_refused_with_a_status(void **state) {
    static const struct {
        const char *headers, *want;
    } bad[] = {
        {WS_HEADERS "v9.channel.k8s.io\r\n", "HTTP/1.1 400 "},
        {WS_HEADERS "base64url.bearer.authorization.k8s.io.eA\r\n", "HTTP/1.1 400 "},
        {"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n", "HTTP/1.1 400 "},
        {"Upgrade: websocket\r\nSec-WebSocket-Version: 12\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
         "HTTP/1.1 400 "},
        {"Upgrade: h2c\r\n", "HTTP/1.1 400 "},
        {"Upgrade: SPDY/3.1\r\nX-Stream-Protocol-Version: v9.channel.k8s.io\r\n", "HTTP/1.1 403 "},
    };
    int before = atomic_load(&closed);
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        char head[2048], body[2048] = "";
        int fd = open_with("GET", "/exec", bad[i].headers, head);
        if (!strstr(head, bad[i].want))
            fail_msg("%s: %s", bad[i].headers, head);
        recv(fd, body, sizeof(body) - 1, 0);
        assert_non_null(strstr(body, "\"kind\":\"Status\""));
        close(fd);
    }
    wait_closed(before + (int)ARRAY_LEN(bad));
}

/* --- SPDY --------------------------------------------------------------------------------------------------------- */

struct spdy_client {
    int fd;
    bool started;        /* of header compression */
    struct buf data[16]; /* by stream id */
    bool fin[16], reset[16];
    bool goaway, pong;
};

static void put_u32(unsigned char *p, uint32_t v) {
    for (int i = 0; i < 4; i++)
        p[i] = (unsigned char)(v >> (24 - 8 * i));
}

static void spdy_put(struct spdy_client *k, uint32_t word, uint32_t flags, const void *p, size_t n) {
    unsigned char h[8];
    put_u32(h, word);
    put_u32(h + 4, flags << 24 | (uint32_t)n);
    send_all(k->fd, h, 8);
    if (n)
        send_all(k->fd, p, n);
}

static void spdy_open_stream(struct spdy_client *k, uint32_t id, const struct http_header *h, size_t n) {
    cleanup_buf struct buf b = BUF_INIT;
    unsigned char head[10] = {0};
    put_u32(head, id);
    buf_put(&b, head, sizeof(head));
    spdy_put_headers(&b, &k->started, h, n);
    spdy_put(k, 0x80030001u, 0, b.p, b.n);
}

/* Reads frames until the condition on a stream holds, or to the end of the connection (id 0). */
static void spdy_read(struct spdy_client *k, uint32_t id, const char *want, bool fin) {
    while (!id || (want && str_find(buf_str(&k->data[id]), str_c(want)) < 0) || (fin && !k->fin[id])) {
        unsigned char h[8];
        if (!read_exact(k->fd, h, 8)) {
            if (id)
                fail_msg("ended before \"%s\" on %u", want ? want : "fin", id);
            return;
        }
        uint32_t word = (uint32_t)h[0] << 24 | (uint32_t)h[1] << 16 | (uint32_t)h[2] << 8 | h[3];
        size_t n = (size_t)h[5] << 16 | (size_t)h[6] << 8 | h[7];
        unsigned char *body = xmalloc(n + 1);
        assert_true(read_exact(k->fd, body, n));
        uint32_t first =
            n >= 4 ? (uint32_t)body[0] << 24 | (uint32_t)body[1] << 16 | (uint32_t)body[2] << 8 | body[3] : 0;
        if (!(word >> 31)) {
            assert_true(word < 16);
            assert_false(k->fin[word]); /* nothing behind the end */
            buf_put(&k->data[word], body, n);
            k->fin[word] = h[4] & 1;
        } else if (word == 0x80030003u && first < 16) {
            k->reset[first] = true;
        } else if (word == 0x80030006u) {
            k->pong = first == 99;
        } else if (word == 0x80030007u) {
            k->goaway = true;
        }
        free(body);
    }
}

static void spdy_begin(struct spdy_client *k, const char *path, const char *protocol) {
    char headers[256], head[2048];
    memset(k, 0, sizeof(*k));
    for (size_t i = 0; i < 16; i++)
        buf_init(&k->data[i], MiB(4));
    snprintf(headers, sizeof(headers), "Content-Length: 0\r\nUpgrade: SPDY/3.1\r\nX-Stream-Protocol-Version: %s\r\n",
             protocol);
    k->fd = open_with("POST", path, headers, head);
    if (!strstr(head, "HTTP/1.1 101 ") || !strstr(head, "Upgrade: SPDY/3.1\r\n"))
        fail_msg("answer: %s", head);
}

static void spdy_end(struct spdy_client *k) {
    close(k->fd);
    bufs_fini(k->data, 16);
}

static const struct http_header type_error = {STR_INIT("streamtype"), STR_INIT("error")},
                                type_in = {STR_INIT("streamtype"), STR_INIT("stdin")},
                                type_out = {STR_INIT("streamtype"), STR_INIT("stdout")},
                                type_err = {STR_INIT("streamtype"), STR_INIT("stderr")},
                                type_resize = {STR_INIT("streamtype"), STR_INIT("resize")};

static void spdy_exec_as_old_kubectl_does_it(void **state) {
    struct spdy_client k;
    int before = atomic_load(&closed);
    spdy_begin(&k, "/exec", "v9.channel.k8s.io\r\nX-Stream-Protocol-Version: v4.channel.k8s.io");
    spdy_open_stream(&k, 1, &type_error, 1);
    spdy_put(&k, 1, SPDY_FLAG_FIN, NULL, 0); /* kubectl writes nothing there */
    spdy_open_stream(&k, 3, &type_in, 1);
    spdy_open_stream(&k, 5, &type_out, 1);
    spdy_open_stream(&k, 7, &type_err, 1);
    unsigned char id[4] = {0, 0, 0, 99};
    spdy_put(&k, 0x80030006u, 0, id, 4);
    spdy_read(&k, 5, "ready;", false);
    spdy_put(&k, 3, 0, "hello;", 6);
    spdy_read(&k, 5, "hello;", false);
    spdy_read(&k, 7, "e;", false);
    spdy_put(&k, 3, SPDY_FLAG_FIN, "last;", 5);
    spdy_read(&k, 5, "last;", true);
    spdy_read(&k, 1, SUCCESS, true);
    spdy_read(&k, 0, NULL, false);
    assert_true(k.goaway);
    assert_true(k.pong);
    assert_true(k.fin[7]);
    assert_non_null(strstr(k.data[5].p, "eof;"));
    spdy_end(&k);
    wait_closed(before + 1);
}

static void spdy_terminal_waits_for_its_resize_stream(void **state) {
    struct spdy_client k;
    int before = atomic_load(&closed);
    spdy_begin(&k, "/tty", "v4.channel.k8s.io");
    spdy_open_stream(&k, 1, &type_error, 1);
    spdy_open_stream(&k, 3, &type_in, 1);
    spdy_open_stream(&k, 5, &type_out, 1);
    spdy_open_stream(&k, 7, &type_err, 1); /* a terminal has none: refused */
    spdy_open_stream(&k, 9, &type_resize, 1);
    spdy_put(&k, 9, 0, "{\"Width\":100,\"Height\":50}\n{\"Width\":0,", 37);
    spdy_put(&k, 9, 0, "\"Height\":1}{\"Width\":7,\"Height\":8}", 33);
    spdy_read(&k, 5, "100x50;7x8;", false);
    assert_true(k.reset[7]);
    spdy_end(&k); /* in the middle of it */
    wait_closed(before + 1);
}

static void spdy_port_forward_pairs_streams_by_request(void **state) {
    struct spdy_client k;
    int before = atomic_load(&closed);
    const struct http_header
        e0[] = {type_error, {STR("port"), STR("80")}, {STR("requestid"), STR("0")}},
        d0[] = {{STR("streamtype"), STR("data")}, {STR("port"), STR("80")}, {STR("requestid"), STR("0")}},
        e1[] = {type_error, {STR("port"), STR("81")}, {STR("requestid"), STR("1")}},
        d1[] = {{STR("streamtype"), STR("data")}, {STR("port"), STR("81")}, {STR("requestid"), STR("1")}},
        bad[] = {{STR("streamtype"), STR("data")}, {STR("port"), STR("70000")}, {STR("requestid"), STR("2")}};
    spdy_begin(&k, "/forward", "portforward.k8s.io");
    spdy_open_stream(&k, 1, e0, 3);
    spdy_put(&k, 1, SPDY_FLAG_FIN, NULL, 0);
    spdy_open_stream(&k, 3, d0, 3);
    spdy_put(&k, 3, 0, "ping", 4);
    spdy_read(&k, 3, "ping", false);
    spdy_open_stream(&k, 5, e1, 3);
    spdy_open_stream(&k, 7, d1, 3);
    spdy_read(&k, 5, "nothing listens on 81", true);
    spdy_open_stream(&k, 9, bad, 3);
    spdy_put(&k, 3, SPDY_FLAG_FIN, "more", 4);
    spdy_read(&k, 3, "pingmorebye", true);
    spdy_read(&k, 1, NULL, true);
    assert_int_equal(k.data[1].n, 0);
    wait_closed(before + 1); /* the pair */
    assert_true(k.reset[9]);
    spdy_end(&k);
    wait_closed(before + 2);
}

static void a_client_that_leaves_before_the_answer_is_harmless(void **state) {
    struct spdy_client k;
    int before = atomic_load(&closed);
    static const char *const ports[] = {"82", "83"};
    spdy_begin(&k, "/forward", "portforward.k8s.io");
    for (uint32_t i = 0; i < 2; i++) {
        const struct http_header e[] = {type_error,
                                        {STR("port"), str_c(ports[i])},
                                        {STR("requestid"), str_c(ports[i])}},
                                 d[] = {{STR("streamtype"), STR("data")},
                                        {STR("port"), str_c(ports[i])},
                                        {STR("requestid"), str_c(ports[i])}};
        spdy_open_stream(&k, 1 + 4 * i, e, 3);
        spdy_open_stream(&k, 3 + 4 * i, d, 3);
    }
    spdy_put(&k, 3, 0, "early", 5);
    usleep(30000);
    spdy_end(&k);
    wait_closed(before + 3); /* the connection, the accepted pair, the refused one */
}

static void what_came_before_the_answer_is_not_lost(void **state) {
    struct spdy_client k;
    int before = atomic_load(&closed);
    const struct http_header e[] = {type_error, {STR("port"), STR("82")}, {STR("requestid"), STR("5")}},
                             d[] = {{STR("streamtype"), STR("data")},
                                    {STR("port"), STR("82")},
                                    {STR("requestid"), STR("5")}};
    spdy_begin(&k, "/forward", "portforward.k8s.io");
    spdy_open_stream(&k, 1, e, 3);
    spdy_open_stream(&k, 3, d, 3);
    spdy_put(&k, 3, SPDY_FLAG_FIN, "early", 5);
    spdy_read(&k, 3, "earlybye", true);
    spdy_end(&k);
    wait_closed(before + 2);
}

/* --- port-forward over WebSocket ---------------------------------------------------------------------------------- */

static void forward_over_websocket_channels(void **state) {
    struct buf got[5] = {BUF_INIT, BUF_INIT, BUF_INIT, BUF_INIT, BUF_INIT};
    int code, before = atomic_load(&closed);
    int fd = ws_open("/forward", "v4.channel.k8s.io", "v4.channel.k8s.io");
    ws_expect(fd, false, got, &code, 3, "nothing listens on 81");
    assert_memory_equal(got[0].p, "\x50\0", 2);
    assert_memory_equal(got[1].p, "\x50\0", 2);
    ws_put(fd, 0x82, "\0ping", 5);
    ws_expect(fd, false, got, &code, 0, "ping");
    close(fd);
    wait_closed(before + 2);
    bufs_fini(got, 5);
}

static void forward_over_spdy_in_websocket(void **state) {
    struct spdy_client k = {0};
    cleanup_buf struct buf frame = BUF_INIT, got = BUF_INIT, m = BUF_INIT;
    int before = atomic_load(&closed),
        fd = ws_open("/forward", "SPDY/3.1+portforward.k8s.io", "SPDY/3.1+portforward.k8s.io");
    const struct http_header e0[] = {type_error, {STR("port"), STR("80")}, {STR("requestid"), STR("0")}},
                             d0[] = {{STR("streamtype"), STR("data")},
                                     {STR("port"), STR("80")},
                                     {STR("requestid"), STR("0")}};
    for (uint32_t id = 1; id <= 3; id += 2) {
        unsigned char head[18] = {0x80, 3, 0, 1};
        cleanup_buf struct buf block = BUF_INIT;
        spdy_put_headers(&block, &k.started, id == 1 ? e0 : d0, 3);
        put_u32(head + 4, (uint32_t)(10 + block.n));
        put_u32(head + 8, id);
        buf_reset(&frame);
        buf_put(&frame, head, 18);
        buf_put_str(&frame, buf_str(&block));
        ws_put(fd, 0x82, frame.p, frame.n);
    }
    ws_put(fd, 0x82, "\0\0\0\3\0\0\0\4ping", 12);
    while (str_find(buf_str(&got), STR("ping")) < 0) {
        assert_int_equal(ws_get(fd, &m), WS_BINARY);
        buf_put_str(&got, buf_str(&m));
    }
    ws_put(fd, 0x88, "\x03\xe8", 2);
    while (ws_get(fd, &m) >= 0)
        ;
    close(fd);
    wait_closed(before + 2);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(v5_carries_streams_status_and_the_end_of_stdin),
        cmocka_unit_test(v4_in_base64_with_a_terminal),
        cmocka_unit_test(the_first_version_has_a_bare_error_text),
        cmocka_unit_test(a_megabyte_of_output_arrives_before_the_status),
        cmocka_unit_test(a_client_that_breaks_the_protocol_is_told_so),
        cmocka_unit_test(what_fits_no_protocol_is_refused_with_a_status),
        cmocka_unit_test(spdy_exec_as_old_kubectl_does_it),
        cmocka_unit_test(spdy_terminal_waits_for_its_resize_stream),
        cmocka_unit_test(spdy_port_forward_pairs_streams_by_request),
        cmocka_unit_test(a_client_that_leaves_before_the_answer_is_harmless),
        cmocka_unit_test(what_came_before_the_answer_is_not_lost),
        cmocka_unit_test(forward_over_websocket_channels),
        cmocka_unit_test(forward_over_spdy_in_websocket),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
