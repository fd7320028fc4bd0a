#include "runtime/monitor_proto.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

union control {
    char bytes[CMSG_SPACE(sizeof(int) * MONITOR_FDS_MAX)];
    struct cmsghdr align;
};

int monitor_send(int fd, struct monitor_message *m, const void *extra, size_t extra_n, const int *fds, size_t fds_n) {
    m->size = sizeof(*m);
    struct iovec iov[2] = {{m, sizeof(*m)}, {(void *)(uintptr_t)extra, extra_n}};
    struct msghdr h = {.msg_iov = iov, .msg_iovlen = extra_n ? 2 : 1};
    union control control;
    if (fds_n) {
        memset(&control, 0, sizeof(control));
        h.msg_control = control.bytes;
        h.msg_controllen = CMSG_SPACE(sizeof(int) * fds_n);
        struct cmsghdr *c = CMSG_FIRSTHDR(&h);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(sizeof(int) * fds_n);
        memcpy(CMSG_DATA(c), fds, sizeof(int) * fds_n);
    }
    ssize_t n;
    do
        n = sendmsg(fd, &h, MSG_NOSIGNAL | MSG_DONTWAIT);
    while (n < 0 && errno == EINTR);
    return n < 0 ? -errno : 0;
}

ssize_t monitor_pending(int fd) {
    char byte;
    ssize_t n;
    do
        n = recv(fd, &byte, 1, MSG_PEEK | MSG_TRUNC | MSG_DONTWAIT);
    while (n < 0 && errno == EINTR);
    return n < 0 ? -errno : n;
}

/* Takes the descriptors out of the control data: the first `room` are kept, the others closed. */
static size_t take_fds(struct msghdr *h, int *fds, size_t room) {
    size_t kept = 0;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(h); c; c = CMSG_NXTHDR(h, c)) {
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
            continue;
        size_t n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < n; i++) {
            int fd;
            memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(int));
            if (kept < room)
                fds[kept++] = fd;
            else
                close(fd);
        }
    }
    return kept;
}

int monitor_receive(int fd, void *room, size_t room_n, struct monitor_message *m, struct str *extra, int *fds,
                    size_t *fds_n) {
    union control control;
    struct iovec iov = {room, room_n};
    struct msghdr h = {.msg_iov = &iov,
                       .msg_iovlen = 1,
                       .msg_control = control.bytes,
                       .msg_controllen = sizeof(control)};
    ssize_t n;
    do
        n = recvmsg(fd, &h, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
    while (n < 0 && errno == EINTR);
    if (n < 0)
        return -errno;
    size_t got = take_fds(&h, fds, *fds_n);
    *fds_n = got;
    uint32_t size = 0;
    if ((size_t)n >= sizeof(size))
        memcpy(&size, room, sizeof(size));
    bool fits = !(h.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) && size <= (size_t)n &&
                size >= offsetof(struct monitor_message, code);
    if (n == 0 || !fits) {
        for (size_t i = 0; i < got; i++)
            close(fds[i]);
        *fds_n = 0;
        return n == 0 ? -EPIPE : -EBADMSG;
    }
    memset(m, 0, sizeof(*m));
    memcpy(m, room, MIN((size_t)size, sizeof(*m)));
    m->id[sizeof(m->id) - 1] = 0;
    m->text[sizeof(m->text) - 1] = 0;
    *extra = (struct str){(const char *)room + size, (size_t)n - size};
    return 0;
}
