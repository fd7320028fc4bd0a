/* Addresses as text, and connecting without blocking. On the loop's thread. */
#pragma once

#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "net/loop.h"

struct address {
    union {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
        struct sockaddr_un un;
    };
    socklen_t n;
};
#define ADDRESS_TEXT_MAX 64

/* "1.2.3.4:80", "[::1]:80"; the port may be 0. -EINVAL on anything else. */
int address_parse(struct str text, struct address *out);
int address_from_ip(struct str ip, uint16_t port, struct address *out); /* without brackets */
int address_unix(struct str path, struct address *out);
void address_format(const struct sockaddr *sa, char out[ADDRESS_TEXT_MAX]); /* "ip:port", "[v6]:port", "unix" */

struct dial;
/* done(arg, fd, 0) with a connected non-blocking socket, or (arg, -1, code). netns_fd: where to make the socket, or -1. */
struct dial *dial_start(struct loop *l, const struct address *to, int netns_fd, int64_t timeout_ms,
                        void (*done)(void *arg, int fd, int code), void *arg);
void dial_cancel(struct dial *d); /* done will not be called */
