/* Connecting the network namespaces of pods: a veth pair, an address, routes; asked for by the node's loop, done on ours. */
#include <arpa/inet.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "cluster/cluster_priv.h"

#define POD_LINK "eth0"
#define LOOPBACK_INDEX 1

/* Name of the host's end: the same for one pod, at most 15 characters. */
static void veth_name(char out[16], struct str key) {
    uint64_t h = 14695981039346656037u;
    for (size_t i = 0; i < key.n; i++)
        h = (h ^ (unsigned char)key.p[i]) * 1099511628211u;
    snprintf(out, 16, "veth%010llx", (unsigned long long)(h & 0xffffffffffull));
}

static void set_hairpin(struct cluster *c, uint32_t address, bool add) {
    struct nft_batch b;
    struct error err = {0};
    struct nft_key key = nft_key_pair(htonl(address), htonl(address));
    if (!c->table_ready)
        return; /* table_build's caller adds all of them */
    nft_batch_begin(&b, c->table);
    if (add)
        nft_element_add(&b, "hairpin", &key, NULL);
    else
        nft_element_del(&b, "hairpin", &key);
    if (nft_batch_commit(&b, &c->nft, &err) < 0 && add)
        log_warn("cluster", "hairpin: %s", err.msg);
}

/* --- the pod's side --------------------------------------------------------------------------------------------- */

static int configure_inside(struct cluster *c, int netns_fd, uint32_t address, struct error *err) {
    struct nl_socket s;
    uint32_t address_be = htonl(address), gateway_be = htonl(c->pod_net.base + 1);
    int rc = nl_open_in(&s, NETLINK_ROUTE, netns_fd, err);
    if (rc < 0)
        return rc;
    int index = nl_link_index(&s, POD_LINK, err);
    rc = index < 0 ? index : nl_link_up(&s, LOOPBACK_INDEX, true, err);
    if (rc == 0)
        rc = nl_addr_add(&s, index, AF_INET, &address_be, c->pod_net.prefix, err);
    if (rc == 0)
        rc = nl_link_up(&s, index, true, err);
    if (rc == 0)
        rc = nl_route_add(&s, index, AF_INET, NULL, 0, &gateway_be, err);
    nl_close(&s);
    return rc;
}

static int connect_pod(struct cluster *c, struct str key, int netns_fd, uint32_t address, struct error *err) {
    char host[16];
    unsigned char mac[6];
    veth_name(host, key);
    pod_mac(address, mac);
    int old = nl_link_index(&c->route, host, NULL);
    if (old > 0) /* of an attempt that was cut off */
        nl_link_del(&c->route, old, NULL);
    int rc = nl_veth_add(&c->route, host, POD_LINK, netns_fd, mac, POD_MTU, err);
    int index = rc < 0 ? rc : nl_link_index(&c->route, host, err);
    if (index < 0)
        return index;
    rc = nl_link_set_master(&c->route, index, c->bridge_index, err);
    if (rc == 0)
        rc = nl_bridge_port_hairpin(&c->route, index, true, err);
    if (rc == 0)
        rc = nl_link_up(&c->route, index, true, err);
    if (rc == 0)
        rc = configure_inside(c, netns_fd, address, err);
    if (rc < 0)
        nl_link_del(&c->route, index, NULL);
    return rc;
}

/* --- requests from the node's loop ------------------------------------------------------------------------------ */

struct request {
    struct cluster *c;
    struct loop *from;
    int netns_fd; /* our own duplicate */
    void (*done)(void *arg, int code, const struct pod_network_result *r, const struct error *err);
    void *arg;
    int code;
    struct error err;
    struct pod_network_result result;
    size_t key_n;
    char key[];
};

static struct request *request_new(struct cluster *c, struct str key) {
    struct request *r = xcalloc(1, sizeof(*r) + key.n + 1);
    r->c = c;
    r->netns_fd = -1;
    r->key_n = key.n;
    memcpy(r->key, key.p, key.n);
    return r;
}

static void request_free(struct request *r) {
    if (r->netns_fd >= 0)
        close(r->netns_fd);
    free(r);
}

static void attach_answer(void *arg) {
    struct request *r = arg;
    r->done(r->arg, r->code, r->code < 0 ? NULL : &r->result, &r->err);
    request_free(r);
}

static void attach_on_loop(void *arg) {
    struct request *r = arg;
    struct cluster *c = r->c;
    struct str key = str_n(r->key, r->key_n);
    uint32_t address;
    r->code = ipam_take(&c->ipam, key, &address);
    if (r->code == -EAGAIN || !c->bridge_index)
        r->code = error_set(&r->err, -EAGAIN, "the pod network is not up yet");
    else if (r->code < 0)
        error_set(&r->err, r->code, "no free address left in the node's network %s",
                  inet_ntoa((struct in_addr){htonl(c->pod_net.base)}));
    else if ((r->code = connect_pod(c, key, r->netns_fd, address, &r->err)) < 0)
        ipam_give_back(&c->ipam, key);
    if (r->code == 0) {
        struct in_addr in = {htonl(address)};
        inet_ntop(AF_INET, &in, r->result.ips[0], sizeof(r->result.ips[0]));
        set_hairpin(c, address, true);
    }
    loop_post(r->from, attach_answer, r);
}

static void attach(void *net, struct str key, int netns_fd,
                   void (*done)(void *arg, int code, const struct pod_network_result *r, const struct error *err),
                   void *arg) {
    struct cluster *c = net;
    struct request *r = request_new(c, key);
    r->from = loop_current();
    r->done = done;
    r->arg = arg;
    r->netns_fd = fcntl(netns_fd, F_DUPFD_CLOEXEC, 0);
    loop_post(c->o.loop, attach_on_loop, r);
}

static void adopt_on_loop(void *arg) {
    struct request *r = arg;
    uint32_t address;
    if (ipv4_parse(str_c(r->result.ips[0]), &address)) {
        ipam_adopt(&r->c->ipam, str_n(r->key, r->key_n), address);
        set_hairpin(r->c, address, true);
    }
    request_free(r);
}

static void adopt(void *net, struct str key, const struct pod_network_result *result) {
    struct cluster *c = net;
    struct request *r = request_new(c, key);
    r->result = *result;
    loop_post(c->o.loop, adopt_on_loop, r);
}

static void detach_on_loop(void *arg) {
    struct request *r = arg;
    struct cluster *c = r->c;
    struct str key = str_n(r->key, r->key_n);
    char host[16];
    uint32_t address;
    veth_name(host, key);
    int index = nl_link_index(&c->route, host, NULL); /* gone with its namespace, as a rule */
    if (index > 0)
        nl_link_del(&c->route, index, NULL);
    if (ipam_find(&c->ipam, key, &address)) {
        set_hairpin(c, address, false);
        ipam_give_back(&c->ipam, key);
    }
    host_ports_set(c, key, 0, NULL);
    request_free(r);
}

static void detach(void *net, struct str key) {
    struct cluster *c = net;
    loop_post(c->o.loop, detach_on_loop, request_new(c, key));
}

struct host_ports_request {
    struct request *r;
    uint32_t address;
    struct arena *arena;
    struct json *ports;
};

static void host_ports_on_loop(void *arg) {
    struct host_ports_request *h = arg;
    host_ports_set(h->r->c, str_n(h->r->key, h->r->key_n), h->address, h->ports);
    arena_free(h->arena);
    request_free(h->r);
    free(h);
}

static void host_ports(void *net, struct str key, const char *pod_ip, const struct json *ports) {
    struct cluster *c = net;
    struct host_ports_request *h = XNEW(struct host_ports_request);
    h->r = request_new(c, key);
    ipv4_parse(str_c(pod_ip), &h->address);
    h->arena = arena_new(0, 0);
    h->ports = json_copy(h->arena, ports);
    loop_post(c->o.loop, host_ports_on_loop, h);
}

const struct pod_network_ops *cluster_pod_network_ops(void) {
    static const struct pod_network_ops ops = {attach, adopt, detach, host_ports};
    return &ops;
}
