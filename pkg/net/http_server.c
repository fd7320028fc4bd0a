#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <unistd.h>

#include "net/http_server_priv.h"

#define ACCEPT_BATCH 64
#define BACKLOG 1024
#define RETRY_MS 100
#define KEEPALIVE_IDLE_S 60 /* a peer that vanished without a word is noticed after this and 3 probes */

struct accepted {
    struct http_io *io;
    int fd;
    struct sockaddr_storage from;
};

static void listen_poll(struct http_server *s, bool on);

static void take_accepted(void *arg) {
    struct accepted *a = arg;
    if (a->io->stopping) {
        close(a->fd);
        atomic_fetch_sub(&a->io->server->conns_n, 1);
    } else {
        http_conn_new(a->io, a->fd, (const struct sockaddr *)&a->from);
    }
    free(a);
}

static void socket_options(int fd) {
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &(int){1}, sizeof(int));
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &(int){KEEPALIVE_IDLE_S}, sizeof(int));
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &(int){15}, sizeof(int));
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &(int){3}, sizeof(int));
}

static void on_acceptable(uv_poll_t *h, int status, int events) {
    struct http_server *s = h->data;
    for (int i = 0; i < ACCEPT_BATCH; i++) {
        struct sockaddr_storage from;
        socklen_t n = sizeof(from);
        if (atomic_load(&s->conns_n) >= s->o.connections_max) {
            listen_poll(s, false); /* the kernel's queue holds the others */
            return;
        }
        int fd = accept4(s->fd, (struct sockaddr *)&from, &n, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0 && (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM))
            listen_poll(s, false);
        if (fd < 0 && errno != ECONNABORTED && errno != EINTR)
            return;
        if (fd < 0)
            continue;
        socket_options(fd);
        atomic_fetch_add(&s->conns_n, 1);
        struct accepted *a = XNEW(struct accepted);
        *a = (struct accepted){.io = &s->io[s->next_io], .fd = fd, .from = from};
        s->next_io = (s->next_io + 1) % s->o.loops_n;
        if (a->io->loop == s->o.loops[0])
            take_accepted(a);
        else
            loop_post(a->io->loop, take_accepted, a);
    }
}

static void on_retry(void *arg) {
    struct http_server *s = arg;
    if (atomic_load(&s->conns_n) < s->o.connections_max)
        listen_poll(s, true);
    else
        timer_set(&s->retry, RETRY_MS, RETRY_MS);
}

static void listen_poll(struct http_server *s, bool on) {
    if (on) {
        uv_poll_start(&s->poll, UV_READABLE, on_acceptable);
    } else {
        uv_poll_stop(&s->poll);
        timer_set(&s->retry, RETRY_MS, RETRY_MS);
    }
}

void http_server_conn_gone(struct http_io *io) {
    atomic_fetch_sub(&io->server->conns_n, 1);
}

/* --- start -------------------------------------------------------------------------------------------------------- */

static int listen_on(const struct address *at, const char *text, struct error *err) {
    cleanup_close int fd = socket(at->any.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return error_sys(err, -errno, "cannot listen on %s", text);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int));
    if (at->any.sa_family == AF_INET6) /* [::] serves IPv4 as well */
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &(int){0}, sizeof(int));
    if (bind(fd, &at->any, at->n) || listen(fd, BACKLOG))
        return error_sys(err, -errno, "cannot listen on %s", text);
    return TAKE_FD(fd);
}

static int port_of(int fd) {
    struct address a = {.n = sizeof(a.v6)};
    if (getsockname(fd, &a.any, &a.n))
        return 0;
    return ntohs(a.any.sa_family == AF_INET6 ? a.v6.sin6_port : a.v4.sin_port);
}

static void start_listening(void *arg) {
    struct http_server *s = arg;
    int rc = uv_poll_init(loop_uv(s->o.loops[0]), &s->poll, s->fd);
    if (rc)
        fatal("cannot wait for connections: %s", uv_strerror(rc));
    s->poll.data = s;
    timer_init(&s->retry, s->o.loops[0], on_retry, s);
    listen_poll(s, true);
}

static void apply_defaults(struct http_server_options *o) {
    o->header_timeout_ms = o->header_timeout_ms ? o->header_timeout_ms : 10000;
    o->idle_timeout_ms = o->idle_timeout_ms ? o->idle_timeout_ms : 120000;
    o->connections_max = o->connections_max ? o->connections_max : 4096;
}

int http_server_start(const struct http_server_options *o, const char *address, struct http_server **out,
                      struct error *err) {
    struct address at;
    if (address_parse(str_c(address), &at))
        return error_set(err, -EINVAL, "not an address and port to listen on: %s", address);
    int fd = listen_on(&at, address, err);
    if (fd < 0)
        return fd;
    struct http_server *s = XNEW(struct http_server);
    s->o = *o;
    apply_defaults(&s->o);
    s->fd = fd;
    s->port = port_of(fd);
    s->tls = o->tls ? tls_config_ref(o->tls) : NULL;
    pthread_mutex_init(&s->lock, NULL);
    struct loop **loops = xcalloc(o->loops_n, sizeof(struct loop *));
    s->io = xcalloc(o->loops_n, sizeof(*s->io));
    for (size_t i = 0; i < o->loops_n; i++) {
        loops[i] = o->loops[i];
        s->io[i] = (struct http_io){.server = s, .loop = loops[i]};
        list_init(&s->io[i].conns);
        list_init(&s->io[i].lingering);
    }
    s->o.loops = loops;
    *out = s;
    loop_post(loops[0], start_listening, s);
    return 0;
}

int http_server_port(const struct http_server *s) {
    return s->port;
}

void http_server_set_tls(struct http_server *s, struct tls_config *tls) {
    struct tls_config *old;
    if (tls)
        tls_config_ref(tls);
    pthread_mutex_lock(&s->lock);
    old = s->tls;
    s->tls = tls;
    pthread_mutex_unlock(&s->lock);
    tls_config_unref(old);
}

/* --- stop --------------------------------------------------------------------------------------------------------- */

static void server_free(struct http_server *s) {
    loop_fn done = s->stop_done;
    void *arg = s->stop_arg;
    tls_config_unref(s->tls);
    pthread_mutex_destroy(&s->lock);
    free((void *)(uintptr_t)s->o.loops);
    free(s->io);
    free(s);
    if (done)
        done(arg);
}

static void on_stopped(void *arg) {
    struct http_server *s = arg;
    if (--s->stops_left == 0)
        server_free(s);
}

static void stop_io(void *arg) {
    struct http_io *io = arg;
    io->stopping = true;
    http_conns_stop(io);
    loop_post(io->server->o.loops[0], on_stopped, io->server);
}

static void on_listener_closed(uv_handle_t *h) {
    struct http_server *s = h->data;
    for (size_t i = 0; i < s->o.loops_n; i++)
        loop_post(s->io[i].loop, stop_io, &s->io[i]);
}

static void stop_listening(void *arg) {
    struct http_server *s = arg;
    timer_stop(&s->retry);
    uv_close((uv_handle_t *)&s->poll, on_listener_closed);
    close(s->fd);
}

void http_server_stop(struct http_server *s, loop_fn done, void *arg) {
    s->stop_done = done;
    s->stop_arg = arg;
    s->stops_left = s->o.loops_n;
    loop_post(s->o.loops[0], stop_listening, s);
}
