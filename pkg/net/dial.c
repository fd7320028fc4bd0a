#include "net/dial.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

int address_from_ip(struct str ip, uint16_t port, struct address *out) {
    char text[INET6_ADDRSTRLEN];
    if (ip.n == 0 || ip.n >= sizeof(text))
        return -EINVAL;
    memcpy(text, ip.p, ip.n);
    text[ip.n] = 0;
    memset(out, 0, sizeof(*out));
    if (inet_pton(AF_INET, text, &out->v4.sin_addr) == 1) {
        out->v4.sin_family = AF_INET;
        out->v4.sin_port = htons(port);
        out->n = sizeof(out->v4);
        return 0;
    }
    if (inet_pton(AF_INET6, text, &out->v6.sin6_addr) == 1) {
        out->v6.sin6_family = AF_INET6;
        out->v6.sin6_port = htons(port);
        out->n = sizeof(out->v6);
        return 0;
    }
    return -EINVAL;
}

int address_parse(struct str text, struct address *out) {
    ptrdiff_t colon = str_rindex(text, ':');
    uint64_t port;
    if (colon < 1 || !str_to_u64(str_skip(text, (size_t)colon + 1), &port) || port > 65535)
        return -EINVAL;
    struct str ip = str_n(text.p, (size_t)colon);
    bool bracketed = ip.p[0] == '[' && ip.p[ip.n - 1] == ']' && ip.n > 2;
    if (bracketed)
        ip = str_n(ip.p + 1, ip.n - 2);
    if (bracketed != (str_index(ip, ':', 0) >= 0))
        return -EINVAL;
    return address_from_ip(ip, (uint16_t)port, out);
}

int address_unix(struct str path, struct address *out) {
    memset(out, 0, sizeof(*out));
    if (path.n == 0 || path.n >= sizeof(out->un.sun_path) || memchr(path.p, 0, path.n))
        return -EINVAL;
    out->un.sun_family = AF_UNIX;
    memcpy(out->un.sun_path, path.p, path.n);
    out->n = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + path.n + 1);
    return 0;
}

void address_format(const struct sockaddr *sa, char out[ADDRESS_TEXT_MAX]) {
    char ip[INET6_ADDRSTRLEN] = "";
    if (sa->sa_family == AF_INET) {
        const struct sockaddr_in *v4 = (const void *)sa;
        inet_ntop(AF_INET, &v4->sin_addr, ip, sizeof(ip));
        snprintf(out, ADDRESS_TEXT_MAX, "%s:%u", ip, ntohs(v4->sin_port));
    } else if (sa->sa_family == AF_INET6) {
        const struct sockaddr_in6 *v6 = (const void *)sa;
        if (IN6_IS_ADDR_V4MAPPED(&v6->sin6_addr)) {
            inet_ntop(AF_INET, &v6->sin6_addr.s6_addr[12], ip, sizeof(ip));
            snprintf(out, ADDRESS_TEXT_MAX, "%s:%u", ip, ntohs(v6->sin6_port));
        } else {
            inet_ntop(AF_INET6, &v6->sin6_addr, ip, sizeof(ip));
            snprintf(out, ADDRESS_TEXT_MAX, "[%s]:%u", ip, ntohs(v6->sin6_port));
        }
    } else {
        snprintf(out, ADDRESS_TEXT_MAX, "unix");
    }
}

/* --- connecting --------------------------------------------------------------------------------------------------- */

struct dial {
    struct loop *loop;
    uv_poll_t poll;
    bool polling;
    struct timer timer;
    int fd, code;
    void (*done)(void *arg, int fd, int code);
    void *arg;
};

static int socket_here(int family) {
    int fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    return fd < 0 ? -errno : fd;
}

/* A socket belongs to the network namespace its thread was in when making it. */
static int socket_in(int family, int netns_fd) {
    if (netns_fd < 0)
        return socket_here(family);
    cleanup_close int home = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
    if (home < 0 || setns(netns_fd, CLONE_NEWNET))
        return -errno;
    int fd = socket_here(family);
    if (setns(home, CLONE_NEWNET))
        fatal("cannot return to the own network namespace: %s", strerror(errno));
    return fd;
}

static void dial_closed(uv_handle_t *h) {
    free(h->data);
}

/* The poll handle leaves the fd at once, so that its taker can wait for it with another. */
static void dial_free(struct dial *d) {
    timer_stop(&d->timer);
    if (d->polling)
        uv_close((uv_handle_t *)&d->poll, dial_closed);
    else
        free(d);
}

static void dial_end(struct dial *d) {
    int fd = d->code ? -1 : d->fd;
    if (d->code && d->fd >= 0)
        close(d->fd);
    void (*done)(void *, int, int) = d->done;
    void *arg = d->arg;
    int code = d->code;
    if (d->polling)
        uv_poll_stop(&d->poll);
    dial_free(d);
    done(arg, fd, code);
}

static void on_connected(uv_poll_t *h, int status, int events) {
    struct dial *d = h->data;
    int e = 0;
    socklen_t n = sizeof(e);
    if (getsockopt(d->fd, SOL_SOCKET, SO_ERROR, &e, &n))
        e = errno;
    d->code = -e;
    dial_end(d);
}

static void on_timer(void *arg) {
    struct dial *d = arg;
    if (!d->code && d->polling)
        d->code = -ETIMEDOUT;
    dial_end(d);
}

void dial_cancel(struct dial *d) {
    if (d->fd >= 0) {
        if (d->polling)
            uv_poll_stop(&d->poll);
        close(d->fd);
    }
    dial_free(d);
}

struct dial *dial_start(struct loop *l, const struct address *to, int netns_fd, int64_t timeout_ms,
                        void (*done)(void *arg, int fd, int code), void *arg) {
    struct dial *d = XNEW(struct dial);
    d->loop = l;
    d->done = done;
    d->arg = arg;
    timer_init(&d->timer, l, on_timer, d);
    d->fd = socket_in(to->any.sa_family, netns_fd);
    if (d->fd < 0) {
        d->code = d->fd;
        d->fd = -1;
    } else if (connect(d->fd, &to->any, to->n) && errno != EINPROGRESS) {
        d->code = -errno;
    } else {
        if (to->any.sa_family != AF_UNIX)
            setsockopt(d->fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
        d->code = uv_poll_init(loop_uv(l), &d->poll, d->fd);
        d->polling = d->code == 0;
        d->poll.data = d;
        if (d->polling)
            uv_poll_start(&d->poll, UV_WRITABLE, on_connected);
    }
    timer_set(&d->timer, d->polling ? timeout_ms : 0, d->polling ? timeout_ms / 8 : 0);
    return d;
}
