/* sanitizer: thread */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <fcntl.h>
#include <sys/socket.h>

#include "net/dial.h"
#include "net/stream.h"

static struct loop *loop;

static int setup(void **state) {
    loop = loop_new("streams");
    return 0;
}
static int teardown(void **state) {
    loop_free(loop);
    return 0;
}

/* Runs the loop on this thread until the check holds (or 10 s). */
static bool (*until)(void);
static struct timer tick, limit;
static bool timed_out;
static void on_tick(void *arg) {
    if (until() || timed_out)
        loop_stop(loop);
    else
        timer_set(&tick, 2, 0);
}
static void on_limit(void *arg) {
    timed_out = true;
}
static void run_begin(void *arg) {
    timer_init(&tick, loop, on_tick, NULL);
    timer_init(&limit, loop, on_limit, NULL);
    timer_set(&tick, 1, 0);
    timer_set(&limit, 10000, 0);
}
static void run_until(bool (*check)(void)) {
    until = check;
    timed_out = false;
    loop_post(loop, run_begin, NULL);
    loop_run(loop);
    assert_false(timed_out);
    /* A loop ends once: the next test gets a new one. */
}

struct end {
    struct stream *s;
    struct buf got;
    bool eof, closed, drained, close_at_eof;
    int reason;
};
static struct end a, b;

static void on_data(void *arg, struct str data) {
    struct end *e = arg;
    assert_false(e->eof);
    assert_false(e->closed);
    buf_put_str(&e->got, data);
}
static void on_eof(void *arg) {
    struct end *e = arg;
    e->eof = true;
    if (e->close_at_eof)
        stream_close(e->s);
}
static void on_closed(void *arg, int reason) {
    struct end *e = arg;
    e->closed = true;
    e->reason = reason;
    e->s = NULL;
}
static void on_drain(void *arg) {
    struct end *e = arg;
    e->drained = true;
}
static void begin(struct end *e, int fd) {
    *e = (struct end){.got = BUF_INIT};
    e->s = stream_from_fd(loop, fd);
    assert_non_null(e->s);
    stream_start(e->s, &(struct stream_events){on_data, on_eof, on_closed, on_drain, e});
}
static bool both_closed(void) {
    return a.closed && b.closed;
}

static void halves_end_one_by_one_and_then_the_stream(void **state) {
    int fds[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    begin(&a, fds[0]);
    begin(&b, fds[1]);
    stream_write(a.s, "question", 8);
    stream_shutdown(a.s);
    stream_write(a.s, "lost", 4); /* behind the end */
    stream_write(b.s, "answer", 6);
    assert_int_equal(a.got.n, 0); /* never inline */
    stream_shutdown(b.s);
    run_until(both_closed);
    assert_string_equal(b.got.p, "question");
    assert_string_equal(a.got.p, "answer");
    assert_true(a.eof && b.eof);
    assert_int_equal(a.reason, 0);
    buf_fini(&a.got);
    buf_fini(&b.got);
}

static void pipes_are_streams_of_one_half(void **state) {
    int fds[2];
    assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
    begin(&a, fds[0]);
    begin(&b, fds[1]);
    for (int i = 0; i < 1000; i++)
        stream_write(b.s, "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef", 64);
    stream_shutdown(b.s);
    run_until(both_closed);
    assert_int_equal(a.got.n, 64000);
    assert_true(a.eof);
    assert_false(b.eof);
    buf_fini(&a.got);
}

static bool a_closed(void) {
    return a.closed;
}

static void the_reader_of_a_pipe_going_away_is_an_error(void **state) {
    int fds[2];
    assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
    begin(&a, fds[1]);
    close(fds[0]);
    run_until(a_closed); /* noticed without writing */
    assert_int_equal(a.reason, -EPIPE);
}

static void a_terminal_whose_other_side_closed_has_ended(void **state) {
    int master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
    assert_true(master >= 0);
    assert_int_equal(grantpt(master) | unlockpt(master), 0);
    int slave = open(ptsname(master), O_RDWR | O_NOCTTY | O_CLOEXEC);
    begin(&a, master);
    a.close_at_eof = true;
    assert_int_equal(write(slave, "x\n", 2), 2);
    close(slave);
    run_until(a_closed);
    assert_true(a.eof);
    assert_int_equal(a.got.p[0], 'x');
    buf_fini(&a.got);
}

static void a_file_is_no_stream(void **state) {
    int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    assert_null(stream_from_fd(loop, fd));
    assert_int_equal(fcntl(fd, F_GETFD), -1); /* closed */
}

static void a_backlog_has_an_end(void **state) {
    int fds[2];
    char *block = xcalloc(1, MiB(1));
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    begin(&a, fds[0]);
    for (int i = 0; i < 70; i++)
        stream_write(a.s, block, MiB(1));
    assert_true(stream_backlog(a.s) <= MiB(64));
    run_until(a_closed);
    assert_int_equal(a.reason, -ENOBUFS);
    close(fds[1]);
    free(block);
}

/* --- splice between two connections, with a slow reader ------------------------------------------------------------ */

static bool spliced;
static void on_spliced(void *arg) {
    spliced = true;
}
static bool is_spliced(void) {
    return spliced;
}

struct pump {
    int in, out;
    size_t sent, got;
    bool content_ok;
};
static void *pump_send(void *arg) {
    struct pump *p = arg;
    char block[65536];
    for (size_t i = 0; i < 64; i++) {
        memset(block, (int)i, sizeof(block));
        for (size_t at = 0; at < sizeof(block);) {
            ssize_t k = send(p->in, block + at, sizeof(block) - at, MSG_NOSIGNAL);
            if (k <= 0)
                return NULL;
            at += (size_t)k;
            p->sent += (size_t)k;
        }
    }
    shutdown(p->in, SHUT_WR);
    return NULL;
}
static void *pump_receive(void *arg) {
    struct pump *p = arg;
    char block[10000];
    ssize_t k;
    usleep(100000); /* lets it pile up */
    while ((k = recv(p->out, block, sizeof(block), 0)) > 0) {
        for (ssize_t i = 0; i < k; i++)
            p->content_ok &= block[i] == (char)((p->got + (size_t)i) / 65536);
        p->got += (size_t)k;
    }
    send(p->out, "done", 4, MSG_NOSIGNAL);
    shutdown(p->out, SHUT_WR);
    return NULL;
}

static void splice_carries_all_both_ways_and_ends(void **state) {
    int left[2], right[2];
    pthread_t t[2];
    char reply[8] = "";
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, left), 0);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, right), 0);
    struct pump p = {.in = left[0], .out = right[0], .content_ok = true};
    spliced = false;
    stream_splice(stream_from_fd(loop, left[1]), stream_from_fd(loop, right[1]), on_spliced, NULL);
    pthread_create(&t[0], NULL, pump_send, &p);
    pthread_create(&t[1], NULL, pump_receive, &p);
    run_until(is_spliced);
    pthread_join(t[0], NULL);
    pthread_join(t[1], NULL);
    assert_int_equal(p.sent, 64 * 65536);
    assert_int_equal(p.got, p.sent);
    assert_true(p.content_ok);
    assert_int_equal(recv(left[0], reply, sizeof(reply), 0), 4);
    assert_string_equal(reply, "done");
    close(left[0]);
    close(right[0]);
}

/* --- connecting --------------------------------------------------------------------------------------------------- */

static int connects, codes[4];
static struct stream *connected;
static void on_connect(void *arg, struct stream *s, int code) {
    codes[(intptr_t)arg] = code;
    if (s)
        connected = s;
    connects++;
}
static bool four_connects(void) {
    return connects == 4;
}

static void connecting_succeeds_or_says_why(void **state) {
    struct sockaddr_in at = {.sin_family = AF_INET};
    socklen_t n = sizeof(at);
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&at, sizeof(at)), 0);
    assert_int_equal(listen(fd, 1), 0);
    getsockname(fd, (struct sockaddr *)&at, &n);
    char address[32];
    snprintf(address, sizeof(address), "127.0.0.1:%d", ntohs(at.sin_port));
    /* A listener whose queue is full: the kernel drops what comes then. */
    struct sockaddr_in dead = {.sin_family = AF_INET};
    int filler[8], deaf = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    dead.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_int_equal(bind(deaf, (struct sockaddr *)&dead, sizeof(dead)), 0);
    assert_int_equal(listen(deaf, 0), 0);
    getsockname(deaf, (struct sockaddr *)&dead, &n);
    for (size_t i = 0; i < ARRAY_LEN(filler); i++) {
        filler[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        connect(filler[i], (struct sockaddr *)&dead, sizeof(dead));
    }
    char full[32];
    snprintf(full, sizeof(full), "127.0.0.1:%d", ntohs(dead.sin_port));
    connects = 0;
    connected = NULL;
    stream_connect(loop, address, -1, 2000, on_connect, (void *)0);
    stream_connect(loop, "127.0.0.1:1", -1, 2000, on_connect, (void *)1);
    stream_connect(loop, "localhost:80", -1, 2000, on_connect, (void *)2);
    stream_connect(loop, full, -1, 300, on_connect, (void *)3);
    assert_int_equal(connects, 0);
    run_until(four_connects);
    assert_int_equal(codes[0], 0);
    assert_int_equal(codes[1], -ECONNREFUSED);
    assert_int_equal(codes[2], -EINVAL);
    assert_int_equal(codes[3], -ETIMEDOUT);
    for (size_t i = 0; i < ARRAY_LEN(filler); i++)
        close(filler[i]);
    close(deaf);
    assert_non_null(connected);
    a = (struct end){.s = connected};
    stream_start(connected, &(struct stream_events){on_data, on_eof, on_closed, NULL, &a});
    stream_close(connected);
    stream_close(connected); /* again is fine */
    close(fd);
    loop_free(loop); /* runs what is due */
    assert_true(a.closed);
    loop = loop_new("streams");
}

static void addresses_are_read_strictly(void **state) {
    static const char *const good[] = {"1.2.3.4:5", "[::1]:80", "0.0.0.0:0", "[::]:65535", "[::ffff:1.2.3.4]:1"};
    static const char *const bad[] = {"",           ":80",        "1.2.3.4", "1.2.3:80", "1.2.3.4:65536", "1.2.3.4:-1",
                                      "1.2.3.4:8o", "::1:80",     "[::1]",   "[::1]80",  "[1.2.3.4]:80",  "[]:80",
                                      "host:80",    "1.2.3.4:80 "};
    struct address x;
    char text[ADDRESS_TEXT_MAX];
    for (size_t i = 0; i < ARRAY_LEN(good); i++)
        assert_int_equal(address_parse(str_c(good[i]), &x), 0);
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        if (address_parse(str_c(bad[i]), &x) == 0)
            fail_msg("%s was taken for an address", bad[i]);
    }
    address_parse(str_c("[::ffff:1.2.3.4]:80"), &x);
    address_format(&x.any, text);
    assert_string_equal(text, "1.2.3.4:80");
    address_parse(str_c("[2001:db8::1]:80"), &x);
    address_format(&x.any, text);
    assert_string_equal(text, "[2001:db8::1]:80");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(halves_end_one_by_one_and_then_the_stream, setup, teardown),
        cmocka_unit_test_setup_teardown(pipes_are_streams_of_one_half, setup, teardown),
        cmocka_unit_test_setup_teardown(the_reader_of_a_pipe_going_away_is_an_error, setup, teardown),
        cmocka_unit_test_setup_teardown(a_terminal_whose_other_side_closed_has_ended, setup, teardown),
        cmocka_unit_test_setup_teardown(a_file_is_no_stream, setup, teardown),
        cmocka_unit_test_setup_teardown(a_backlog_has_an_end, setup, teardown),
        cmocka_unit_test_setup_teardown(splice_carries_all_both_ways_and_ends, setup, teardown),
        cmocka_unit_test_setup_teardown(connecting_succeeds_or_says_why, setup, teardown),
        cmocka_unit_test(addresses_are_read_strictly),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
