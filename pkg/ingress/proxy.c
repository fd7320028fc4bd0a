#include "ingress/proxy.h"

#include <netinet/tcp.h>
#include <stdlib.h>
#include <unistd.h>

#define ACCEPT_BATCH 64
#define BACKLOG 1024
#define RETRY_MS 100

static void accept_on(struct listener *l, bool on);

/* A peer that vanished without a word is noticed after two minutes. */
void proxy_socket_options(int fd) {
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &(int){1}, sizeof(int));
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &(int){60}, sizeof(int));
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &(int){15}, sizeof(int));
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &(int){4}, sizeof(int));
}

/* --- listening ---------------------------------------------------------------------------------------------------- */

static void on_acceptable(uv_poll_t *h, int status, int events) {
    struct listener *l = h->data;
    for (int i = 0; i < ACCEPT_BATCH; i++) {
        struct sockaddr_storage from;
        socklen_t n = sizeof(from);
        if (l->p->fronts_n >= l->p->o.connections_max) {
            accept_on(l, false); /* the kernel's queue holds the others */
            return;
        }
        int fd = accept4(l->fd, (struct sockaddr *)&from, &n, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0 && (errno == ECONNABORTED || errno == EINTR))
            continue;
        if (fd < 0) {
            if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM)
                accept_on(l, false);
            return;
        }
        front_new(l, fd, (const struct sockaddr *)&from);
    }
}

static void on_retry(void *arg) {
    struct listener *l = arg;
    accept_on(l, l->p->fronts_n < l->p->o.connections_max);
}

static void accept_on(struct listener *l, bool on) {
    if (on) {
        uv_poll_start(&l->poll, UV_READABLE, on_acceptable);
    } else {
        uv_poll_stop(&l->poll);
        timer_set(&l->retry, RETRY_MS, RETRY_MS);
    }
}

static void start_accepting(void *arg) {
    struct listener *l = arg;
    if (l->p->stopping)
        return;
    int rc = uv_poll_init(loop_uv(l->p->o.loop), &l->poll, l->fd);
    if (rc)
        fatal("cannot wait for connections: %s", uv_strerror(rc));
    l->poll.data = l;
    l->polled = true;
    accept_on(l, true);
}

static int bind_on(const struct address *at, const char *text, struct error *err) {
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

int proxy_listen(struct proxy *p, const char *address, bool tls, struct error *err) {
    struct address at;
    REQUIRE(p->listeners_n < ARRAY_LEN(p->listeners));
    if (address_parse(str_c(address), &at))
        return error_set(err, -EINVAL, "not an address and port to listen on: %s", address);
    int fd = bind_on(&at, address, err);
    if (fd < 0)
        return fd;
    struct listener *l = &p->listeners[p->listeners_n++];
    *l = (struct listener){.p = p, .fd = fd, .tls = tls};
    timer_init(&l->retry, p->o.loop, on_retry, l);
    struct address is = {.n = sizeof(is.v6)};
    if (getsockname(fd, &is.any, &is.n) == 0)
        l->port = ntohs(is.any.sa_family == AF_INET6 ? is.v6.sin6_port : is.v4.sin_port);
    p->alive++;
    return 0;
}

int proxy_port(const struct proxy *p, bool tls) {
    for (size_t i = 0; i < p->listeners_n; i++) {
        if (p->listeners[i].tls == tls)
            return p->listeners[i].port;
    }
    return 0;
}

/* --- life --------------------------------------------------------------------------------------------------------- */

struct proxy *proxy_new(const struct ingress_proxy_options *o) {
    struct proxy *p = XNEW(struct proxy);
    p->o = *o;
    p->o.connections_max = o->connections_max ? o->connections_max : 8192;
    p->o.head_ms = o->head_ms ? o->head_ms : 10000;
    p->o.idle_ms = o->idle_ms ? o->idle_ms : 180000;
    p->o.stall_ms = o->stall_ms ? o->stall_ms : 60000;
    p->o.connect_ms = o->connect_ms ? o->connect_ms : 5000;
    p->o.answer_ms = o->answer_ms ? o->answer_ms : 300000;
    p->o.back_idle_ms = o->back_idle_ms ? o->back_idle_ms : 4000;
    if (o->tls)
        tls_config_ref(o->tls);
    list_init(&p->fronts);
    list_init(&p->backs);
    list_init(&p->idle);
    p->alive = 1; /* itself */
    return p;
}

void proxy_start(struct proxy *p) {
    for (size_t i = 0; i < p->listeners_n; i++)
        loop_post(p->o.loop, start_accepting, &p->listeners[i]);
}

void proxy_set_rules(struct proxy *p, struct ingress_rules *r) {
    ingress_rules_unref(p->rules);
    p->rules = r;
}

static void proxy_gone(void *arg) {
    struct proxy *p = arg;
    loop_fn done = p->stopped;
    void *done_arg = p->stopped_arg;
    proxy_free(p);
    if (done)
        done(done_arg);
}

void proxy_free(struct proxy *p) {
    for (size_t i = 0; i < p->listeners_n; i++) {
        if (p->listeners[i].fd >= 0)
            close(p->listeners[i].fd);
    }
    ingress_rules_unref(p->rules);
    tls_config_unref(p->o.tls);
    free(p);
}

void proxy_less_alive(struct proxy *p) {
    if (--p->alive == 0)
        loop_post(p->o.loop, proxy_gone, p);
}

static void on_listener_closed(uv_handle_t *h) {
    proxy_less_alive(((struct listener *)h->data)->p);
}

static void listener_stop(struct listener *l) {
    timer_stop(&l->retry);
    if (l->polled)
        uv_close((uv_handle_t *)&l->poll, on_listener_closed);
    else
        proxy_less_alive(l->p);
    close(l->fd);
    l->fd = -1;
}

void proxy_stop(struct proxy *p, loop_fn done, void *arg) {
    p->stopping = true;
    p->stopped = done;
    p->stopped_arg = arg;
    for (size_t i = 0; i < p->listeners_n; i++)
        listener_stop(&p->listeners[i]);
    while (!list_empty(&p->fronts))
        front_close(front_of(p->fronts.next));
    while (!list_empty(&p->backs))
        back_close(back_of(p->backs.next));
    proxy_less_alive(p);
}
