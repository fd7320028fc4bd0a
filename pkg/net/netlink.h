/*
 * Netlink messages: a bounded builder and a blocking request socket for short kernel calls (rtnetlink and nfnetlink).
 * Every attribute is length-checked; a message that does not fit fails as a whole.
 */
#pragma once

#include <linux/netlink.h>

#include "base/base.h"

struct nl_msg {
    struct buf buf;
    size_t nest[8]; /* offsets of open nested attributes */
    int depth;
    size_t head; /* offset of the current message's nlmsghdr */
};

void nl_msg_init(struct nl_msg *m, size_t limit_bytes);
void nl_msg_fini(struct nl_msg *m);
/* Begins a message (a buffer may hold several: nfnetlink batches). header: the family header behind nlmsghdr. */
void nl_msg_begin(struct nl_msg *m, uint16_t type, uint16_t flags, const void *header, size_t header_n);
void nl_msg_end(struct nl_msg *m);
void nl_put(struct nl_msg *m, uint16_t type, const void *data, size_t n);
void nl_put_u8(struct nl_msg *m, uint16_t type, uint8_t v);
void nl_put_u16(struct nl_msg *m, uint16_t type, uint16_t v);
void nl_put_u32(struct nl_msg *m, uint16_t type, uint32_t v);
void nl_put_be16(struct nl_msg *m, uint16_t type, uint16_t v); /* v in host order */
void nl_put_be32(struct nl_msg *m, uint16_t type, uint32_t v);
void nl_put_be64(struct nl_msg *m, uint16_t type, uint64_t v);
void nl_put_str(struct nl_msg *m, uint16_t type, const char *s); /* with its NUL */
void nl_nest_begin(struct nl_msg *m, uint16_t type);             /* NLA_F_NESTED is set */
void nl_nest_end(struct nl_msg *m);

struct nl_socket {
    int fd;
    uint32_t seq, portid;
};
int nl_open(struct nl_socket *s, int protocol, struct error *err);
/* As nl_open inside another network namespace, without moving the calling thread for longer than the call. */
int nl_open_in(struct nl_socket *s, int protocol, int netns_fd, struct error *err);
void nl_close(struct nl_socket *s);
/* Sends and waits for all acknowledgements (5 s at most); the first error is returned with extended-ack text.
 * each: called for each answer message that is no ack, NULL to drop them; a dump is read to its end. */
int nl_request(struct nl_socket *s, struct nl_msg *m, int (*each)(void *arg, const struct nlmsghdr *h), void *arg,
               struct error *err);

/* --- links, addresses, routes, neighbours (rtnetlink): thin, tested helpers --- */
int nl_link_index(struct nl_socket *s, const char *name, struct error *err); /* index or -ENODEV */
int nl_link_up(struct nl_socket *s, int index, bool up, struct error *err);
int nl_link_del(struct nl_socket *s, int index, struct error *err); /* an absent link is fine */
int nl_link_set_master(struct nl_socket *s, int index, int master, struct error *err);
int nl_link_set_mtu(struct nl_socket *s, int index, uint32_t mtu, struct error *err);
int nl_bridge_add(struct nl_socket *s, const char *name, const unsigned char mac[6], uint32_t mtu, struct error *err);
/* Makes host_name here and peer_name inside netns_fd, up to 15 bytes each. mac: of the peer. */
int nl_veth_add(struct nl_socket *s, const char *host_name, const char *peer_name, int netns_fd,
                const unsigned char mac[6], uint32_t mtu, struct error *err);
int nl_bridge_port_hairpin(struct nl_socket *s, int index, bool on, struct error *err);
/* family AF_INET or AF_INET6; addr in network order. An existing equal one is fine. */
int nl_addr_add(struct nl_socket *s, int index, int family, const void *addr, int prefix, struct error *err);
int nl_route_add(struct nl_socket *s, int index, int family, const void *dst, int prefix, const void *gateway,
                 struct error *err); /* dst NULL: default; gateway NULL: link scope */
int nl_neigh_add(struct nl_socket *s, int index, int family, const void *addr, const unsigned char mac[6],
                 struct error *err);
