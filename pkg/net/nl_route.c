/* Links, addresses, routes and neighbours through rtnetlink. */
#include <arpa/inet.h>
#include <net/if.h>
#include <linux/if_bridge.h>
#include <linux/if_link.h>
#include <linux/neighbour.h>
#include <linux/rtnetlink.h>
#include <linux/veth.h>

#include "net/netlink.h"

#define MESSAGE_BYTES KiB(4)

/* Sends a finished single message and frees it. */
static int send_one(struct nl_socket *s, struct nl_msg *m, struct error *err) {
    nl_msg_end(m);
    int rc = nl_request(s, m, NULL, NULL, err);
    nl_msg_fini(m);
    return rc;
}

static void begin_link(struct nl_msg *m, uint16_t type, uint16_t flags, int index) {
    struct ifinfomsg info = {.ifi_family = AF_UNSPEC, .ifi_index = index};
    nl_msg_init(m, MESSAGE_BYTES);
    nl_msg_begin(m, type, flags | NLM_F_ACK, &info, sizeof(info));
}

static int on_link(void *arg, const struct nlmsghdr *h) {
    if (h->nlmsg_type == RTM_NEWLINK && h->nlmsg_len >= NLMSG_LENGTH(sizeof(struct ifinfomsg)))
        *(int *)arg = ((const struct ifinfomsg *)NLMSG_DATA(h))->ifi_index;
    return 0;
}

int nl_link_index(struct nl_socket *s, const char *name, struct error *err) {
    struct nl_msg m;
    int index = -ENODEV;
    begin_link(&m, RTM_GETLINK, 0, 0);
    nl_put_str(&m, IFLA_IFNAME, name);
    nl_msg_end(&m);
    int rc = nl_request(s, &m, on_link, &index, err);
    nl_msg_fini(&m);
    if (rc < 0)
        return rc == -ENODEV ? error_set(err, rc, "no network link named %s", name) : rc;
    return index;
}

int nl_link_up(struct nl_socket *s, int index, bool up, struct error *err) {
    struct ifinfomsg info = {.ifi_index = index, .ifi_change = IFF_UP, .ifi_flags = up ? IFF_UP : 0};
    struct nl_msg m;
    nl_msg_init(&m, MESSAGE_BYTES);
    nl_msg_begin(&m, RTM_NEWLINK, NLM_F_ACK, &info, sizeof(info));
    return send_one(s, &m, err);
}

int nl_link_del(struct nl_socket *s, int index, struct error *err) {
    struct nl_msg m;
    begin_link(&m, RTM_DELLINK, 0, index);
    int rc = send_one(s, &m, err);
    return rc == -ENODEV ? 0 : rc;
}

static int set_link_u32(struct nl_socket *s, int index, uint16_t attr, uint32_t v, struct error *err) {
    struct nl_msg m;
    begin_link(&m, RTM_NEWLINK, 0, index);
    nl_put_u32(&m, attr, v);
    return send_one(s, &m, err);
}

int nl_link_set_master(struct nl_socket *s, int index, int master, struct error *err) {
    return set_link_u32(s, index, IFLA_MASTER, (uint32_t)master, err);
}

int nl_link_set_mtu(struct nl_socket *s, int index, uint32_t mtu, struct error *err) {
    return set_link_u32(s, index, IFLA_MTU, mtu, err);
}

int nl_bridge_add(struct nl_socket *s, const char *name, const unsigned char mac[6], uint32_t mtu, struct error *err) {
    struct nl_msg m;
    begin_link(&m, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, 0);
    nl_put_str(&m, IFLA_IFNAME, name);
    nl_put(&m, IFLA_ADDRESS, mac, 6);
    nl_put_u32(&m, IFLA_MTU, mtu);
    nl_nest_begin(&m, IFLA_LINKINFO);
    nl_put(&m, IFLA_INFO_KIND, "bridge", 6);
    nl_nest_end(&m);
    int rc = send_one(s, &m, err);
    return rc == -EEXIST ? 0 : rc;
}

int nl_veth_add(struct nl_socket *s, const char *host_name, const char *peer_name, int netns_fd,
                const unsigned char mac[6], uint32_t mtu, struct error *err) {
    struct ifinfomsg peer = {0};
    struct nl_msg m;
    begin_link(&m, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, 0);
    nl_put_str(&m, IFLA_IFNAME, host_name);
    nl_put_u32(&m, IFLA_MTU, mtu);
    nl_nest_begin(&m, IFLA_LINKINFO);
    nl_put(&m, IFLA_INFO_KIND, "veth", 4);
    nl_nest_begin(&m, IFLA_INFO_DATA);
    nl_nest_begin(&m, VETH_INFO_PEER);
    buf_put(&m.buf, &peer, sizeof(peer)); /* the nested message's own header */
    nl_put_str(&m, IFLA_IFNAME, peer_name);
    nl_put(&m, IFLA_ADDRESS, mac, 6);
    nl_put_u32(&m, IFLA_MTU, mtu);
    nl_put_u32(&m, IFLA_NET_NS_FD, (uint32_t)netns_fd);
    nl_nest_end(&m);
    nl_nest_end(&m);
    nl_nest_end(&m);
    return send_one(s, &m, err);
}

int nl_bridge_port_hairpin(struct nl_socket *s, int index, bool on, struct error *err) {
    struct ifinfomsg info = {.ifi_family = AF_BRIDGE, .ifi_index = index};
    struct nl_msg m;
    nl_msg_init(&m, MESSAGE_BYTES);
    nl_msg_begin(&m, RTM_SETLINK, NLM_F_ACK, &info, sizeof(info));
    nl_nest_begin(&m, IFLA_PROTINFO);
    nl_put_u8(&m, IFLA_BRPORT_MODE, on);
    nl_nest_end(&m);
    return send_one(s, &m, err);
}

static size_t addr_len(int family) {
    return family == AF_INET6 ? 16 : 4;
}

int nl_addr_add(struct nl_socket *s, int index, int family, const void *addr, int prefix, struct error *err) {
    struct ifaddrmsg info = {.ifa_family = (uint8_t)family,
                             .ifa_prefixlen = (uint8_t)prefix,
                             .ifa_index = (uint32_t)index};
    struct nl_msg m;
    nl_msg_init(&m, MESSAGE_BYTES);
    nl_msg_begin(&m, RTM_NEWADDR, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL, &info, sizeof(info));
    nl_put(&m, IFA_LOCAL, addr, addr_len(family));
    nl_put(&m, IFA_ADDRESS, addr, addr_len(family));
    if (family == AF_INET && prefix < 31) {
        uint32_t broadcast;
        memcpy(&broadcast, addr, 4);
        broadcast |= htonl(0xffffffffu >> prefix);
        nl_put(&m, IFA_BROADCAST, &broadcast, 4);
    }
    int rc = send_one(s, &m, err);
    return rc == -EEXIST ? 0 : rc;
}

int nl_route_add(struct nl_socket *s, int index, int family, const void *dst, int prefix, const void *gateway,
                 struct error *err) {
    struct rtmsg info = {.rtm_family = (uint8_t)family,
                         .rtm_dst_len = dst ? (uint8_t)prefix : 0,
                         .rtm_table = RT_TABLE_MAIN,
                         .rtm_protocol = RTPROT_STATIC,
                         .rtm_scope = gateway ? RT_SCOPE_UNIVERSE : RT_SCOPE_LINK,
                         .rtm_type = RTN_UNICAST};
    struct nl_msg m;
    nl_msg_init(&m, MESSAGE_BYTES);
    nl_msg_begin(&m, RTM_NEWROUTE, NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE, &info, sizeof(info));
    if (dst)
        nl_put(&m, RTA_DST, dst, addr_len(family));
    if (gateway)
        nl_put(&m, RTA_GATEWAY, gateway, addr_len(family));
    nl_put_u32(&m, RTA_OIF, (uint32_t)index);
    return send_one(s, &m, err);
}

int nl_neigh_add(struct nl_socket *s, int index, int family, const void *addr, const unsigned char mac[6],
                 struct error *err) {
    struct ndmsg info = {.ndm_family = (uint8_t)family, .ndm_ifindex = index, .ndm_state = NUD_PERMANENT};
    struct nl_msg m;
    nl_msg_init(&m, MESSAGE_BYTES);
    nl_msg_begin(&m, RTM_NEWNEIGH, NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE, &info, sizeof(info));
    nl_put(&m, NDA_DST, addr, addr_len(family));
    nl_put(&m, NDA_LLADDR, mac, 6);
    return send_one(s, &m, err);
}
