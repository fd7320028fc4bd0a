/* The proxy on a loop of its own, pods behind it (an HTTP server, and raw sockets for those that misbehave), and a blocking
 * client: shared by the tests of the proxy. */
#pragma once

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "ingress/proxy.h"
#include "net/net.h"

struct site {
    struct loop *loop, *pods;
    struct proxy *proxy;
    struct http_server *pod;
    int port, pod_port;
    atomic_int closed; /* streams whose reader went away */
    atomic_bool stopped;
    VEC(struct http_exchange *) unanswered;
};

/* --- a pod that answers what it was asked --- */

static inline void pod_closed(void *arg) {
    struct http_exchange *x = arg;
    struct site *s = (void *)(uintptr_t)strtoull(http_request(x)->query.p, NULL, 16);
    atomic_fetch_add(&s->closed, 1);
    http_finish(x);
}

static inline void pod_describe(struct http_exchange *x) {
    const struct http_request *r = http_request(x);
    struct buf b = BUF_INIT;
    uint64_t sum = 0;
    for (size_t i = 0; i < r->body.n; i++)
        sum = sum * 31 + (unsigned char)r->body.p[i];
    buf_printf(&b, "%.*s %.*s\n", STR_ARG(r->method), STR_ARG(r->target));
    for (size_t i = 0; i < r->headers_n; i++)
        buf_printf(&b, "%.*s: %.*s\n", STR_ARG(r->headers[i].name), STR_ARG(r->headers[i].value));
    buf_printf(&b, "remote=%s\nbody=%zu:%llx\n", r->remote, r->body.n, (unsigned long long)sum);
    const struct http_header h[] = {{STR("X-Pod"), STR("yes")}, {STR("Keep-Alive"), STR("timeout=5")}};
    size_t n;
    char *text = buf_steal(&b, &n);
    http_reply(x, 200, h, 2, blob_take(text, n));
}

struct pod_echo {
    struct stream *s;
};
static inline void echo_data(void *arg, struct str data) {
    stream_write(((struct pod_echo *)arg)->s, data.p, data.n);
}
static inline void echo_eof(void *arg) {
    stream_shutdown(((struct pod_echo *)arg)->s);
}
static inline void echo_closed(void *arg, int reason) {
    free(arg);
}
static inline void echo_ready(void *arg, struct stream *s) {
    struct pod_echo *e = XNEW(struct pod_echo);
    e->s = s;
    if (s)
        stream_start(s, &(struct stream_events){echo_data, echo_eof, echo_closed, NULL, e});
    else
        free(e);
}

static inline char pattern(size_t i) {
    return (char)(i * 31 >> 4);
}
static inline struct blob *pattern_blob(size_t from, size_t n) {
    char *p = xmalloc(n);
    for (size_t i = 0; i < n; i++)
        p[i] = pattern(from + i);
    return blob_take(p, n);
}

static inline void pod_handler(void *arg, struct http_exchange *x) {
    const struct http_request *r = http_request(x);
    if (str_eq(r->path, STR("/slow"))) { /* never answered */
        struct site *s = arg;
        vec_push(&s->unanswered, x);
        return;
    }
    if (str_eq(r->path, STR("/watch"))) {
        http_stream_begin(x, 200, NULL, 0, pod_closed, x);
        http_stream_chunk(x, blob_new(STR("first\n")));
        return;
    }
    if (str_eq(r->path, STR("/upgrade"))) {
        const struct http_header h[] = {{STR("Connection"), STR("Upgrade")}, {STR("Upgrade"), STR("echo")}};
        http_upgrade(x, 101, h, 2, echo_ready, NULL);
    } else if (str_eq(r->path, STR("/big"))) {
        http_reply(x, 200, NULL, 0, pattern_blob(0, MiB(4)));
    } else if (str_eq(r->path, STR("/flood"))) {
        http_reply(x, 200, NULL, 0, pattern_blob(0, MiB(24)));
    } else if (str_eq(r->path, STR("/chunks"))) {
        http_stream_begin(x, 200, NULL, 0, NULL, NULL);
        for (size_t i = 0; i < 64; i++)
            http_stream_chunk(x, pattern_blob(i * KiB(16), KiB(16)));
        http_stream_end(x);
    } else if (str_eq(r->path, STR("/nothing"))) {
        http_reply(x, 204, NULL, 0, NULL);
    } else {
        pod_describe(x);
    }
    http_finish(x);
}

/* --- the table --- */

static inline struct json *parse(struct arena *a, struct str text) {
    struct error err = {0};
    struct json *v = json_parse(a, text, NULL, &err);
    if (!v)
        fail_msg("%s: %.*s", err.msg, STR_ARG(text));
    return v;
}

/* host "h": everything to a Service whose endpoints are those ports of 127.0.0.1. */
static inline struct ingress_rules *rules_to(const int *ports, size_t n) {
    cleanup_arena struct arena *a = arena_new(0, 0);
    const struct json *ingress = parse(
        a,
        STR("{\"metadata\":{\"namespace\":\"x\",\"name\":\"i\"},\"spec\":{\"rules\":[{\"host\":\"h\",\"http\":{\"paths\":["
            "{\"path\":\"/\",\"pathType\":\"Prefix\",\"backend\":{\"service\":{\"name\":\"s\",\"port\":{\"number\":80}}}},"
            "{\"path\":\"/gone\",\"pathType\":\"Prefix\",\"backend\":{\"service\":{\"name\":\"none\",\"port\":"
            "{\"number\":80}}}}]}}]}}"));
    struct ingress_rules *r = ingress_rules_new(&ingress, 1, "dory");
    ingress_rules_add_service(
        r, parse(a, STR("{\"metadata\":{\"namespace\":\"x\",\"name\":\"s\"},\"spec\":{\"ports\":[{\"port\":80}]}}")));
    for (size_t i = 0; i < n; i++)
        ingress_rules_add_slice(
            r,
            parse(a, str_printf(a,
                                "{\"metadata\":{\"namespace\":\"x\",\"labels\":{\"kubernetes.io/service-name\":\"s\"}},"
                                "\"ports\":[{\"port\":%d}],\"endpoints\":[{\"addresses\":[\"127.0.0.1\"]}]}",
                                ports[i])));
    return r;
}

/* --- life --- */

struct new_rules {
    struct site *s;
    struct ingress_rules *r;
    atomic_bool done;
};
static inline void rules_set(void *arg) {
    struct new_rules *n = arg;
    proxy_set_rules(n->s->proxy, n->r);
    atomic_store(&n->done, true);
}
static inline void site_rules(struct site *s, struct ingress_rules *r) {
    struct new_rules n = {.s = s, .r = r};
    loop_post(s->loop, rules_set, &n);
    while (!atomic_load(&n.done))
        usleep(500);
}

static inline void site_start(struct site *s) {
    struct error err = {0};
    *s = (struct site){.loop = loop_new("ingress"), .pods = loop_new("pods")};
    struct http_server_options o = {
        .loops = &s->pods, .loops_n = 1, .limits = {.body_bytes = MiB(32)}, .handler = pod_handler, .arg = s};
    if (http_server_start(&o, "127.0.0.1:0", &s->pod, &err))
        fail_msg("%s", err.msg);
    s->pod_port = http_server_port(s->pod);
    s->proxy = proxy_new(&(struct ingress_proxy_options){
        .loop = s->loop, .head_ms = 800, .idle_ms = 4000, .stall_ms = 1500, .connect_ms = 2000, .answer_ms = 2000});
    if (proxy_listen(s->proxy, "127.0.0.1:0", false, &err))
        fail_msg("%s", err.msg);
    s->port = proxy_port(s->proxy, false);
    proxy_set_rules(s->proxy, rules_to(&s->pod_port, 1));
    proxy_start(s->proxy);
    loop_start(s->pods, NULL);
    loop_start(s->loop, NULL);
}

static inline void pods_stopped(void *arg) {
    struct site *s = arg;
    for (size_t i = 0; i < s->unanswered.n; i++)
        http_finish(s->unanswered.items[i]);
    vec_fini(&s->unanswered);
    loop_stop(s->pods);
}
static inline void proxy_stopped(void *arg) {
    struct site *s = arg;
    atomic_store(&s->stopped, true);
    loop_stop(s->loop);
}
static inline void site_stop_proxy(void *arg) {
    struct site *s = arg;
    proxy_stop(s->proxy, proxy_stopped, s);
}
static inline void site_stop(struct site *s) {
    loop_post(s->loop, site_stop_proxy, s);
    loop_join(s->loop);
    assert_true(atomic_load(&s->stopped));
    http_server_stop(s->pod, pods_stopped, s);
    loop_join(s->pods);
    loop_free(s->loop);
    loop_free(s->pods);
}

/* --- a pod of raw bytes: reads what comes first, writes an answer (NUL-terminated), closes --- */

struct raw_pod {
    pthread_t thread;
    int fd, port, rounds;
    const char *const *answers; /* one a connection; NULL: closes without a word */
    char got[4096];             /* of the last connection */
};

static inline int listen_local(int *port) {
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof(a);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_return_code(bind(fd, (void *)&a, sizeof(a)), errno);
    assert_return_code(listen(fd, 8), errno);
    getsockname(fd, (void *)&a, &n);
    *port = ntohs(a.sin_port);
    return fd;
}

static inline void *raw_pod_main(void *arg) {
    struct raw_pod *r = arg;
    for (int i = 0; i < r->rounds; i++) {
        int fd;
        do {
            fd = accept4(r->fd, NULL, NULL, SOCK_CLOEXEC);
        } while (fd < 0 && errno == EINTR);
        ssize_t n;
        do {
            n = read(fd, r->got, sizeof(r->got) - 1);
        } while (n < 0 && errno == EINTR);
        r->got[n > 0 ? n : 0] = 0;
        if (r->answers[i] && write(fd, r->answers[i], strlen(r->answers[i])) < 0)
            perror("write");
        close(fd);
    }
    return NULL;
}

static inline void raw_pod_start(struct raw_pod *r, const char *const *answers, int rounds) {
    *r = (struct raw_pod){.answers = answers, .rounds = rounds};
    r->fd = listen_local(&r->port);
    pthread_create(&r->thread, NULL, raw_pod_main, r);
}
static inline void raw_pod_stop(struct raw_pod *r) {
    pthread_join(r->thread, NULL);
    close(r->fd);
}

/* --- the client --- */

static inline int dial(const struct site *s) {
    struct sockaddr_in a = {.sin_family = AF_INET,
                            .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
                            .sin_port = htons((uint16_t)s->port)};
    struct timeval t = {.tv_sec = 8};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &t, sizeof(t));
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &t, sizeof(t));
    assert_return_code(connect(fd, (void *)&a, sizeof(a)), errno);
    return fd;
}

/* As read(); a socket with a time-out is interrupted by any signal. */
static inline ssize_t hear_some(int fd, char *p, size_t n) {
    ssize_t k;
    do {
        k = read(fd, p, n);
    } while (k < 0 && errno == EINTR);
    return k;
}

static inline void say_n(int fd, const char *p, size_t n) {
    while (n) {
        ssize_t k = send(fd, p, n, MSG_NOSIGNAL);
        if (k < 0 && errno == EINTR)
            continue;
        assert_return_code(k, errno);
        p += k;
        n -= (size_t)k;
    }
}
static inline void say(int fd, const char *text) {
    say_n(fd, text, strlen(text));
}

/* Reads until text was seen (or, NULL, until the end) into a static buffer. */
static inline const char *hear(int fd, const char *text) {
    static char buf[KiB(64)];
    size_t n = 0;
    buf[0] = 0;
    while (!(text && strstr(buf, text)) && n < sizeof(buf) - 1) {
        ssize_t k = hear_some(fd, buf + n, text ? 1 : sizeof(buf) - 1 - n);
        if (k <= 0)
            break;
        n += (size_t)k;
        buf[n] = 0;
    }
    return buf;
}
static inline void hear_all(int fd, struct buf *out) {
    char *p;
    ssize_t n;
    buf_init(out, MiB(32));
    while ((p = buf_reserve(out, KiB(64))) && (n = hear_some(fd, p, KiB(64))) > 0)
        out->n += (size_t)n;
    if (p)
        p[0] = 0; /* where the next bytes would have gone */
}

/* One request on a connection of its own, and the whole answer. */
static inline const char *ask(const struct site *s, const char *request) {
    int fd = dial(s);
    say(fd, request);
    const char *answer = hear(fd, NULL);
    close(fd);
    return answer;
}

#define has(text, part)                                 \
    do {                                                \
        const char *text_ = (text);                     \
        if (!strstr(text_, part))                       \
            fail_msg("no \"%s\" in:\n%s", part, text_); \
    } while (0)
#define has_not(text, part)                          \
    do {                                             \
        const char *text_ = (text);                  \
        if (strstr(text_, part))                     \
            fail_msg("\"%s\" in:\n%s", part, text_); \
    } while (0)
