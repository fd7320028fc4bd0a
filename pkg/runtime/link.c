/* The socket to a monitor, and its pidfd. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "runtime/runtime_priv.h"

struct link {
    uv_poll_t socket, life;
    struct sandbox *sandbox; /* NULL: closed */
    int fd, pidfd;
    int open_handles;
};

static void on_closed(uv_handle_t *h) {
    struct link *l = h->data;
    if (--l->open_handles > 0)
        return;
    close(l->fd);
    if (l->pidfd >= 0)
        close(l->pidfd);
    free(l);
}

void link_close(struct link *l) {
    if (!l->sandbox)
        return;
    l->sandbox = NULL;
    uv_close((uv_handle_t *)&l->socket, on_closed);
    if (l->pidfd >= 0)
        uv_close((uv_handle_t *)&l->life, on_closed);
}

static void on_readable(uv_poll_t *h, int status, int events) {
    struct link *l = h->data;
    char room[2048]; /* what a monitor says is one message without anything behind */
    while (l->sandbox) {
        struct monitor_message m;
        struct str extra;
        int fds[MONITOR_FDS_MAX];
        size_t fds_n = MONITOR_FDS_MAX;
        int rc = monitor_receive(l->fd, room, sizeof(room), &m, &extra, fds, &fds_n);
        if (rc == -EAGAIN)
            return;
        if (rc < 0) {
            sandbox_on_hangup(l->sandbox, false);
            return;
        }
        sandbox_on_message(l->sandbox, &m, fds, fds_n);
    }
}

static void on_life(uv_poll_t *h, int status, int events) {
    struct link *l = h->data;
    on_readable(&l->socket, 0, UV_READABLE); /* its last words first */
    if (l->sandbox)
        sandbox_on_hangup(l->sandbox, true);
}

struct link *link_open(struct sandbox *s, int fd, int pidfd) {
    struct link *l = XNEW(struct link);
    uv_loop_t *loop = loop_uv(s->rt->loop);
    *l = (struct link){.sandbox = s, .fd = fd, .pidfd = pidfd};
    l->socket.data = l->life.data = l;
    if (uv_poll_init(loop, &l->socket, fd) < 0 || uv_poll_start(&l->socket, UV_READABLE, on_readable) < 0)
        fatal("cannot watch a monitor's socket");
    l->open_handles = 1;
    if (pidfd >= 0) {
        if (uv_poll_init(loop, &l->life, pidfd) < 0 || uv_poll_start(&l->life, UV_READABLE, on_life) < 0)
            fatal("cannot watch a monitor");
        l->open_handles = 2;
    }
    return l;
}

int link_take_socket(struct link *l) {
    int fd = fcntl(l->fd, F_DUPFD_CLOEXEC, 3);
    link_close(l);
    return fd;
}

int link_send(struct link *l, struct monitor_message *m, struct str extra, const int *fds, size_t fds_n) {
    if (!l || !l->sandbox)
        return -ENOTCONN;
    return monitor_send(l->fd, m, extra.p, extra.n, fds, fds_n);
}
