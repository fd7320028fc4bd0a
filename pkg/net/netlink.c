/* Netlink messages and the request socket. Links, addresses and routes are in nl_route.c. */
#include "net/netlink.h"

#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define REPLY_TIMEOUT_MS 5000
#define RECEIVE_BYTES KiB(32) /* the largest piece of a dump */
#define ATTR_MAX 0xffffu

void nl_msg_init(struct nl_msg *m, size_t limit_bytes) {
    *m = (struct nl_msg){0};
    buf_init(&m->buf, limit_bytes);
}

void nl_msg_fini(struct nl_msg *m) {
    buf_fini(&m->buf);
}

static void pad(struct nl_msg *m) {
    static const char zero[NLMSG_ALIGNTO];
    size_t odd = m->buf.n % NLMSG_ALIGNTO;
    if (odd)
        buf_put(&m->buf, zero, NLMSG_ALIGNTO - odd);
}

void nl_msg_begin(struct nl_msg *m, uint16_t type, uint16_t flags, const void *header, size_t header_n) {
    m->head = m->buf.n;
    m->depth = 0;
    struct nlmsghdr h = {.nlmsg_type = type, .nlmsg_flags = (uint16_t)(flags | NLM_F_REQUEST)};
    buf_put(&m->buf, &h, sizeof(h));
    buf_put(&m->buf, header, header_n);
    pad(m);
}

void nl_msg_end(struct nl_msg *m) {
    REQUIRE(m->depth == 0);
    if (m->buf.failed)
        return;
    uint32_t len = (uint32_t)(m->buf.n - m->head);
    memcpy(m->buf.p + m->head, &len, sizeof(len));
}

void nl_put(struct nl_msg *m, uint16_t type, const void *data, size_t n) {
    if (n > ATTR_MAX - NLA_HDRLEN) {
        m->buf.failed = true; /* the 16-bit length must never wrap (CVE-2021-43784) */
        return;
    }
    struct nlattr a = {.nla_len = (uint16_t)(NLA_HDRLEN + n), .nla_type = type};
    buf_put(&m->buf, &a, sizeof(a));
    buf_put(&m->buf, data, n);
    pad(m);
}

void nl_put_u8(struct nl_msg *m, uint16_t type, uint8_t v) {
    nl_put(m, type, &v, sizeof(v));
}

void nl_put_u16(struct nl_msg *m, uint16_t type, uint16_t v) {
    nl_put(m, type, &v, sizeof(v));
}

void nl_put_u32(struct nl_msg *m, uint16_t type, uint32_t v) {
    nl_put(m, type, &v, sizeof(v));
}

void nl_put_be16(struct nl_msg *m, uint16_t type, uint16_t v) {
    unsigned char b[2] = {(unsigned char)(v >> 8), (unsigned char)v};
    nl_put(m, type, b, sizeof(b));
}

void nl_put_be32(struct nl_msg *m, uint16_t type, uint32_t v) {
    unsigned char b[4] = {(unsigned char)(v >> 24), (unsigned char)(v >> 16), (unsigned char)(v >> 8),
                          (unsigned char)v};
    nl_put(m, type, b, sizeof(b));
}

void nl_put_be64(struct nl_msg *m, uint16_t type, uint64_t v) {
    unsigned char b[8];
    for (int i = 0; i < 8; i++)
        b[i] = (unsigned char)(v >> (56 - 8 * i));
    nl_put(m, type, b, sizeof(b));
}

void nl_put_str(struct nl_msg *m, uint16_t type, const char *s) {
    nl_put(m, type, s, strlen(s) + 1);
}

void nl_nest_begin(struct nl_msg *m, uint16_t type) {
    REQUIRE(m->depth < (int)ARRAY_LEN(m->nest));
    m->nest[m->depth++] = m->buf.n;
    struct nlattr a = {.nla_len = NLA_HDRLEN, .nla_type = (uint16_t)(type | NLA_F_NESTED)};
    buf_put(&m->buf, &a, sizeof(a));
}

void nl_nest_end(struct nl_msg *m) {
    REQUIRE(m->depth > 0);
    size_t at = m->nest[--m->depth];
    if (m->buf.failed)
        return;
    size_t n = m->buf.n - at;
    if (n > ATTR_MAX) {
        m->buf.failed = true;
        return;
    }
    uint16_t len = (uint16_t)n;
    memcpy(m->buf.p + at, &len, sizeof(len));
}

/* --- socket ----------------------------------------------------------------------------------------------------- */

int nl_open(struct nl_socket *s, int protocol, struct error *err) {
    cleanup_close int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, protocol);
    if (fd < 0)
        return error_sys(err, -errno, "netlink socket");
    int on = 1, size = (int)MiB(1);
    setsockopt(fd, SOL_NETLINK, NETLINK_EXT_ACK, &on, sizeof(on)); /* better messages, where the kernel has them */
    setsockopt(fd, SOL_NETLINK, NETLINK_CAP_ACK, &on, sizeof(on)); /* acknowledgements without our message in them */
    setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
    struct sockaddr_nl addr = {.nl_family = AF_NETLINK};
    socklen_t len = sizeof(addr);
    if (bind(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0 || getsockname(fd, (struct sockaddr *)&addr, &len) < 0)
        return error_sys(err, -errno, "netlink socket");
    *s = (struct nl_socket){.fd = TAKE_FD(fd), .seq = 1, .portid = addr.nl_pid};
    return 0;
}

int nl_open_in(struct nl_socket *s, int protocol, int netns_fd, struct error *err) {
    cleanup_close int home = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
    if (home < 0)
        return error_sys(err, -errno, "/proc/thread-self/ns/net");
    if (setns(netns_fd, CLONE_NEWNET) < 0)
        return error_sys(err, -errno, "entering the network namespace");
    int rc = nl_open(s, protocol, err);
    if (setns(home, CLONE_NEWNET) < 0)
        fatal("cannot return to the network namespace of the process: %s", strerror(errno));
    return rc;
}

void nl_close(struct nl_socket *s) {
    if (s->fd >= 0)
        close(s->fd);
    s->fd = -1;
}

struct exchange {
    uint32_t first, last; /* sequence numbers sent */
    uint32_t answered;    /* how many of them are done */
    int rc;
    int (*each)(void *arg, const struct nlmsghdr *h);
    void *arg;
    struct error *err;
};

/* The text the kernel gives with an error, when it does. */
static const char *ext_ack_text(const struct nlmsghdr *h) {
    const struct nlmsgerr *e = NLMSG_DATA(h);
    if (!(h->nlmsg_flags & NLM_F_ACK_TLVS))
        return NULL;
    size_t at = NLMSG_LENGTH(sizeof(*e));
    if (!(h->nlmsg_flags & NLM_F_CAPPED) && e->msg.nlmsg_len >= sizeof(e->msg))
        at += e->msg.nlmsg_len - sizeof(e->msg);
    at = NLMSG_ALIGN(at);
    while (at + NLA_HDRLEN <= h->nlmsg_len) {
        const struct nlattr *a = (const void *)((const char *)h + at);
        if (a->nla_len < NLA_HDRLEN || at + a->nla_len > h->nlmsg_len)
            return NULL;
        const char *text = (const char *)a + NLA_HDRLEN;
        if ((a->nla_type & NLA_TYPE_MASK) == NLMSGERR_ATTR_MSG && a->nla_len > NLA_HDRLEN &&
            text[a->nla_len - NLA_HDRLEN - 1] == 0)
            return text;
        at += NLA_ALIGN(a->nla_len);
    }
    return NULL;
}

static void take_answer(struct exchange *x, const struct nlmsghdr *h) {
    if (h->nlmsg_seq < x->first || h->nlmsg_seq > x->last)
        return; /* of an earlier request that timed out */
    if (h->nlmsg_type == NLMSG_ERROR) {
        const struct nlmsgerr *e = NLMSG_DATA(h);
        if (h->nlmsg_len < NLMSG_LENGTH(sizeof(*e)))
            return;
        if (e->error < 0 && x->rc == 0) {
            const char *text = ext_ack_text(h);
            x->rc = error_set(x->err, e->error, "%s%s%s", strerror(-e->error), text ? ": " : "", text ? text : "");
        }
        x->answered++;
    } else if (h->nlmsg_type == NLMSG_DONE) {
        x->answered++;
    } else if (h->nlmsg_type >= NLMSG_MIN_TYPE && x->each && x->rc == 0) {
        x->rc = x->each(x->arg, h);
    }
}

static int receive(struct nl_socket *s, struct exchange *x) {
    cleanup_free char *room = xmalloc(RECEIVE_BYTES);
    int64_t until = time_mono_ms() + REPLY_TIMEOUT_MS;
    uint32_t expected = x->last - x->first + 1;
    while (x->answered < expected) {
        struct pollfd p = {.fd = s->fd, .events = POLLIN};
        int64_t left = until - time_mono_ms();
        int ready = left > 0 ? poll(&p, 1, (int)left) : 0;
        if (ready == 0)
            return error_set(x->err, -ETIMEDOUT, "the kernel did not answer a netlink request");
        ssize_t n = ready < 0 ? -1 : recv(s->fd, room, RECEIVE_BYTES, 0);
        if (n < 0) {
            if (errno == EINTR)
                continue;
            return error_sys(x->err, -errno, "netlink");
        }
        unsigned int bytes = (unsigned int)n;
        for (const struct nlmsghdr *h = (const void *)room; NLMSG_OK(h, bytes); h = NLMSG_NEXT(h, bytes))
            take_answer(x, h);
    }
    return x->rc;
}

/* Numbers the messages of the buffer. Those that ask for no acknowledgement (in an nfnetlink batch all but the last) share
 * the number of the next one that does, so that their errors count as its answer. */
static int number_messages(struct nl_socket *s, struct nl_msg *m, struct exchange *x) {
    x->first = s->seq;
    uint32_t acks = 0;
    for (size_t at = 0; at + NLMSG_HDRLEN <= m->buf.n;) {
        struct nlmsghdr *h = (void *)(m->buf.p + at);
        if (h->nlmsg_len < NLMSG_HDRLEN)
            return -EINVAL;
        bool answered = h->nlmsg_flags & (NLM_F_ACK | NLM_F_DUMP);
        h->nlmsg_seq = s->seq;
        s->seq += answered;
        h->nlmsg_pid = s->portid;
        acks += answered;
        at += NLMSG_ALIGN(h->nlmsg_len);
    }
    if (acks == 0)
        return -EINVAL;
    x->last = s->seq - 1;
    return 0;
}

int nl_request(struct nl_socket *s, struct nl_msg *m, int (*each)(void *arg, const struct nlmsghdr *h), void *arg,
               struct error *err) {
    struct exchange x = {.each = each, .arg = arg, .err = err};
    if (m->buf.failed)
        return error_set(err, -EMSGSIZE, "netlink message too large");
    if (number_messages(s, m, &x) < 0)
        return error_set(err, -EINVAL, "netlink message that nothing answers");
    struct sockaddr_nl kernel = {.nl_family = AF_NETLINK};
    ssize_t n = sendto(s->fd, m->buf.p, m->buf.n, 0, (struct sockaddr *)&kernel, sizeof(kernel));
    if (n < 0)
        return error_sys(err, -errno, "netlink");
    return receive(s, &x);
}
