/* The resolver as clients see it, with name servers of the test's own behind it, all on loopback. */
#include "fake_source.h"

#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <unistd.h>

#include <poll.h>

#include "base/file.h"
#include "cluster/dns.h"

#define OWN "127.0.53.10"
#define FIRST "127.0.53.1"
#define SECOND "127.0.53.2"

static uint16_t port, upstream_port;
static char resolv_conf[] = "/tmp/test_dns_server.XXXXXX";
static struct fake fake;
static struct loop *loop;
static struct dns *dns;
static struct buf text = BUF_INIT;
static sem_t started;

/* --- name servers ----------------------------------------------------------------------------------------------- */

static atomic_int heard[2], heard_tcp, silent;
static struct server {
    int udp, tcp, index;
    pthread_t thread;
} servers[2];

static int bound(int type, const char *address, uint16_t on) {
    struct sockaddr_in sa = {.sin_family = AF_INET, .sin_port = htons(on), .sin_addr = {inet_addr(address)}};
    int fd = socket(AF_INET, type | SOCK_CLOEXEC, 0), yes = 1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes));
    if (bind(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0 || (type == SOCK_STREAM && listen(fd, 5) < 0))
        fail_msg("%s:%u: %s", address, on, strerror(errno));
    return fd;
}

/* What the servers know. False: no answer. */
static bool answer(struct server *s, struct str packet, bool tcp, struct buf *out) {
    struct dns_query q;
    struct dns_builder b;
    char name[DNS_NAME_MAX + 1];
    if (dns_query_parse(packet, &q) != 0)
        return false;
    dns_name_text(&q.name, name);
    struct str n = str_c(name);
    int rcode = 0;
    dns_reply_begin(&b, &q, tcp ? DNS_MESSAGE_MAX : q.udp_size);
    if (str_starts(n, STR("old.")) && q.edns) {
        rcode = DNS_FORMERR;
    } else if (str_starts(n, STR("second.")) && s->index == 0) {
        rcode = DNS_SERVFAIL;
    } else if (str_starts(n, STR("no."))) {
        rcode = DNS_NXDOMAIN;
        dns_put_soa(&b, DNS_AUTHORITY, &q.name, 60, &q.name, &q.name, 1);
    } else {
        uint32_t ttl = str_starts(n, STR("brief.")) ? 1 : 60;
        for (uint32_t i = 0; i < (str_starts(n, STR("big.")) ? 500u : 1u); i++)
            dns_put_a(&b, DNS_ANSWER, &q.name, ttl, htonl(0x05060700u + i + (s->index ? 99 : 0)));
    }
    dns_reply_end(&b, rcode, false);
    *out = b.out;
    if (str_starts(n, STR("forged.")))
        out->p[0] ^= 1; /* another id: not the answer that was asked for */
    return true;
}

static void serve_udp(struct server *s) {
    char in[2000];
    struct sockaddr_in from;
    socklen_t from_n = sizeof(from);
    struct buf out = BUF_INIT;
    ssize_t n = recvfrom(s->udp, in, sizeof(in), 0, (struct sockaddr *)&from, &from_n);
    if (n <= 0)
        return;
    heard[s->index]++;
    usleep(20000);
    if (!silent && answer(s, str_n(in, (size_t)n), false, &out))
        sendto(s->udp, out.p, out.n, 0, (struct sockaddr *)&from, from_n);
    buf_fini(&out);
}

static void serve_tcp(struct server *s) {
    unsigned char length[2];
    char in[2000];
    struct buf out = BUF_INIT;
    int fd = accept4(s->tcp, NULL, NULL, SOCK_CLOEXEC);
    size_t n;
    if (fd < 0)
        return;
    heard_tcp++;
    if (fd_read_all(fd, length, 2) == 0 && (n = (size_t)length[0] << 8 | length[1]) <= sizeof(in) &&
        fd_read_all(fd, in, n) == 0 && answer(s, str_n(in, n), true, &out)) {
        unsigned char head[2] = {(unsigned char)(out.n >> 8), (unsigned char)out.n};
        fd_write_all(fd, head, 2);
        fd_write_all(fd, out.p, out.n);
    }
    buf_fini(&out);
    close(fd);
}

static void *serve(void *arg) {
    struct server *s = arg;
    struct pollfd fds[] = {{s->udp, POLLIN, 0}, {s->tcp, POLLIN, 0}};
    for (;;) {
        if (poll(fds, 2, -1) < 0)
            continue;
        if (fds[0].revents)
            serve_udp(s);
        if (fds[1].revents)
            serve_tcp(s);
    }
    return NULL;
}

/* --- a client --------------------------------------------------------------------------------------------------- */

static int client(int type) {
    struct sockaddr_in sa = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr = {inet_addr(OWN)}};
    struct timeval limit = {5, 0};
    int fd = socket(AF_INET, type | SOCK_CLOEXEC, 0);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    if (connect(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0)
        fail_msg("connect: %s", strerror(errno));
    return fd;
}

static void send_query(int fd, const char *name, uint16_t type, bool edns, bool tcp) {
    cleanup_buf struct buf b = BUF_INIT;
    struct dns_name n = name_of(name);
    if (tcp)
        buf_put(&b, "\0", 2);
    dns_query_write(&b, 0x7777, &n, type, edns, false);
    if (tcp)
        b.p[1] = (char)(b.n - 2);
    assert_int_equal(fd_write_all(fd, b.p, b.n), 0);
}

static const char *udp_receive(int fd) {
    char in[2000];
    ssize_t n = recv(fd, in, sizeof(in), 0);
    if (n < 12)
        return "no answer";
    assert_memory_equal(in, "\x77\x77", 2);
    return answer_text(str_n(in, (size_t)n), &text);
}

static const char *ask(const char *name, uint16_t type) {
    int fd = client(SOCK_DGRAM);
    send_query(fd, name, type, true, false);
    const char *s = udp_receive(fd);
    close(fd);
    return s;
}

static size_t tcp_receive(int fd, char *in, size_t room) {
    unsigned char length[2];
    assert_int_equal(fd_read_all(fd, length, 2), 0);
    size_t n = (size_t)length[0] << 8 | length[1];
    assert_true(n <= room);
    assert_int_equal(fd_read_all(fd, in, n), 0);
    return n;
}

/* --- tests ------------------------------------------------------------------------------------------------------ */

#define KUBERNETES "kubernetes.default.svc.cluster.local"

static void services_are_answered(void **state) {
    assert_string_equal(ask(KUBERNETES, DNS_A), "0; an " KUBERNETES " A 10.43.0.1");
    assert_string_equal(ask("nothing.default.svc.cluster.local", DNS_A), "3; ns cluster.local SOA");
    assert_int_equal(heard[0] + heard[1], 0); /* and nobody outside learns of it */
}

static void one_connection_carries_many_queries(void **state) {
    static char in[65536];
    int fd = client(SOCK_STREAM);
    for (int i = 0; i < 5; i++)
        send_query(fd, i % 2 ? "tcp.test" : KUBERNETES, DNS_A, false, true);
    for (int i = 0; i < 5; i++) {
        size_t n = tcp_receive(fd, in, sizeof(in));
        assert_string_equal(answer_text(str_n(in, n), &text),
                            i % 2 ? "0; an tcp.test A 5.6.7.0" : "0; an " KUBERNETES " A 10.43.0.1");
    }
    close(fd);
}

static void broken_packets_do_no_harm(void **state) {
    int fd = client(SOCK_DGRAM);
    char junk[1400];
    for (int i = 0; i < 200; i++) {
        rand_bytes(junk, sizeof(junk));
        assert_true(send(fd, junk, (size_t)i * 7, 0) >= 0);
    }
    close(fd);
    fd = client(SOCK_STREAM);
    assert_int_equal(fd_write_all(fd, "\xff\xff", 2), 0); /* 64 KiB to come: not for a query */
    assert_int_equal(recv(fd, junk, sizeof(junk), 0), 0);
    close(fd);
    assert_string_equal(ask(KUBERNETES, DNS_A), "0; an " KUBERNETES " A 10.43.0.1");
}

static void connections_are_limited(void **state) {
    int fds[100];
    for (int i = 0; i < 100; i++)
        fds[i] = client(SOCK_STREAM);
    char in[512];
    send_query(fds[99], KUBERNETES, DNS_A, false, true); /* the newest is served, */
    assert_true(tcp_receive(fds[99], in, sizeof(in)) > 12);
    assert_int_equal(recv(fds[0], in, 1, 0), 0); /* the oldest had to go */
    for (int i = 0; i < 100; i++)
        close(fds[i]);
}

static void names_outside_are_asked_once(void **state) {
    int before = heard[0];
    assert_string_equal(ask("once.test", DNS_A), "0; an once.test A 5.6.7.0");
    assert_string_equal(ask("ONCE.test", DNS_A), "0; an once.test A 5.6.7.0");
    assert_int_equal(heard[0] - before, 1);
    assert_string_equal(ask("no.test", DNS_A), "3; ns no.test SOA");
    assert_string_equal(ask("no.test", DNS_A), "3; ns no.test SOA");
    assert_int_equal(heard[0] - before, 2);
    assert_string_equal(ask("world.apps.svc.cluster.local", DNS_A),
                        "0; an world.apps.svc.cluster.local CNAME www.example.org; an www.example.org A 5.6.7.0");
}

static void the_same_question_at_once_is_asked_once(void **state) {
    int fds[20], before = heard[0];
    for (int i = 0; i < 20; i++) {
        fds[i] = client(SOCK_DGRAM);
        send_query(fds[i], "crowd.test", DNS_A, i % 2, false);
    }
    for (int i = 0; i < 20; i++) {
        assert_string_equal(udp_receive(fds[i]), "0; an crowd.test A 5.6.7.0");
        close(fds[i]);
    }
    assert_int_equal(heard[0] - before, 1);
}

static void servers_that_fail_are_passed_over(void **state) {
    assert_string_equal(ask("second.test", DNS_A), "0; an second.test A 5.6.7.99");
    assert_string_equal(ask("old.test", DNS_A), "0; an old.test A 5.6.7.0"); /* knows no EDNS */
    assert_string_equal(ask("forged.test", DNS_A), "2");
}

static void large_answers_come_by_tcp(void **state) {
    static char in[65536];
    int before = heard_tcp;
    assert_string_equal(ask("big.test", DNS_A), "0 tc"); /* too large for us too: asked by TCP, */
    int fd = client(SOCK_STREAM);
    send_query(fd, "big.test", DNS_A, true, true);
    size_t n = tcp_receive(fd, in, sizeof(in)), records = 0;
    answer_text(str_n(in, n), &text);
    for (const char *p = text.p; (p = strstr(p, " A ")); p++)
        records++;
    assert_int_equal(records, 500); /* it is there whole, from the cache */
    assert_int_equal(heard_tcp - before, 1);
    close(fd);
}

static void old_answers_help_when_servers_are_gone(void **state) {
    assert_string_equal(ask("brief.test", DNS_A), "0; an brief.test A 5.6.7.0");
    silent = 1;
    usleep(1100000);
    assert_string_equal(ask("brief.test", DNS_A), "0; an brief.test A 5.6.7.0");
    assert_string_equal(ask("unknown.test", DNS_A), "2");
    silent = 0;
}

static void another_resolv_conf_is_seen(void **state) {
    usleep(5100000); /* it is looked at every 5 s */
    assert_int_equal(file_write_replace(resolv_conf,
                                        STR("nameserver " OWN "\nnameserver 127.0.0.53\nnameserver " SECOND
                                            " # ours\n"),
                                        0600, NULL),
                     0);
    int before = heard[0];
    assert_string_equal(ask("anew.test", DNS_A), "0; an anew.test A 5.6.7.99"); /* nor is our own address asked */
    assert_int_equal(heard[0], before);
}

/* --- life ------------------------------------------------------------------------------------------------------- */

static bool yes(void *arg) {
    return true;
}

static void start(void *arg) {
    struct dns_options o = {.loop = loop,
                            .address = ntohl(inet_addr(OWN)),
                            .port = port,
                            .upstream_port = upstream_port,
                            .domain = "cluster.local",
                            .resolv_conf = resolv_conf,
                            .source = fake_source(&fake),
                            .ready = yes,
                            .timeout_ms = 150};
    struct error err = {0};
    if (dns_serve(&o, &dns, &err) < 0)
        fail_msg("%s", err.msg);
    struct dns *second;
    assert_int_equal(dns_serve(&o, &second, &err), -EADDRINUSE);
    assert_non_null(strstr(err.msg, OWN));
    sem_post(&started);
}

static void stop(void *arg) {
    dns_stop(dns);
}

static uint16_t free_port(void) {
    struct sockaddr_in sa;
    socklen_t n = sizeof(sa);
    int fd = bound(SOCK_DGRAM, OWN, 0);
    getsockname(fd, (struct sockaddr *)&sa, &n);
    close(fd);
    return ntohs(sa.sin_port);
}

int main(void) {
    int fd = mkostemp(resolv_conf, O_CLOEXEC);
    fd_write_all(fd, "nameserver " FIRST "\nnameserver " SECOND "\n",
                 strlen("nameserver " FIRST "\nnameserver " SECOND "\n"));
    close(fd);
    port = free_port();
    upstream_port = free_port();
    for (int i = 0; i < 2; i++) {
        const char *address = i ? SECOND : FIRST;
        servers[i] = (struct server){bound(SOCK_DGRAM, address, upstream_port),
                                     bound(SOCK_STREAM, address, upstream_port), i, 0};
        pthread_create(&servers[i].thread, NULL, serve, &servers[i]);
    }
    sem_init(&started, 0, 0);
    loop = loop_new("net");
    loop_post(loop, start, NULL);
    loop_start(loop, NULL);
    sem_wait(&started);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(services_are_answered),
        cmocka_unit_test(one_connection_carries_many_queries),
        cmocka_unit_test(broken_packets_do_no_harm),
        cmocka_unit_test(connections_are_limited),
        cmocka_unit_test(names_outside_are_asked_once),
        cmocka_unit_test(the_same_question_at_once_is_asked_once),
        cmocka_unit_test(servers_that_fail_are_passed_over),
        cmocka_unit_test(large_answers_come_by_tcp),
        cmocka_unit_test(old_answers_help_when_servers_are_gone),
        cmocka_unit_test(another_resolv_conf_is_seen),
    };
    int rc = cmocka_run_group_tests(tests, NULL, NULL);
    loop_post(loop, stop, NULL);
    loop_stop(loop);
    loop_join(loop);
    loop_free(loop);
    arena_free(fake.a);
    buf_fini(&text);
    unlink(resolv_conf);
    return rc;
}
