/* Private to pkg/cluster: the parts of the net thread. All of it runs on the net loop. */
#pragma once

#include <netinet/in.h>

#include "cluster/cluster.h"
#include "cluster/nft.h"
#include "net/netlink.h"

#define BRIDGE_DEFAULT "dory0"
#define TABLE_DEFAULT "dory"
#define POD_MTU 1450 /* leaves room for VXLAN when a second node joins */
#define MARK_MASQUERADE 0x4000u

struct ipv4_net {
    uint32_t base, mask; /* host order */
    int prefix;
};
/* "10.42.0.0/24"; -EINVAL names it. */
int ipv4_net_parse(const char *text, struct ipv4_net *out, struct error *err);
bool ipv4_parse(struct str s, uint32_t *host_order);

/* --- ipam.c: addresses of this node's pods, pure --- */
struct ipam {
    struct ipv4_net net;
    unsigned char *used; /* bitmap over the network */
    uint32_t next;       /* where the search goes on: a freed address rests as long as possible */
    struct map holders;  /* key -> malloc'ed uint32_t address */
};
void ipam_init(struct ipam *i);
void ipam_fini(struct ipam *i);
void ipam_set_net(struct ipam *i, const struct ipv4_net *net);
/* Same key, same address. -ENOSPC when the network is full, -EAGAIN before it is known. */
int ipam_take(struct ipam *i, struct str key, uint32_t *address);
void ipam_adopt(struct ipam *i, struct str key, uint32_t address);
/* False when key holds none. */
bool ipam_find(const struct ipam *i, struct str key, uint32_t *address);
void ipam_give_back(struct ipam *i, struct str key);

struct services;
struct dns;

struct cluster {
    struct cluster_options o;
    char *node_name, *cluster_dns, *cluster_domain, *resolv_conf, *bridge, *table; /* own copies of the options */
    struct ipv4_net cluster_net, service_net, pod_net;
    struct nl_socket route, nft;
    struct ipam ipam;
    int bridge_index; /* 0 until it is up */
    bool table_ready, told_ready, stopping;
    struct map host_ports; /* pod uid -> struct host_ports */
    struct services *services;
    struct dns *dns;
};

/* Tells on_ready when everything it waits for is there, or at once what failed. */
void cluster_progress(struct cluster *c, int code, const struct error *err);

/* A hardware address made from an IPv4 address (host order). */
void pod_mac(uint32_t address, unsigned char mac[6]);

/* --- table.c: the fixed part of our table --- */
/* Adds base chains, sets and rules to a batch that begins with a new table. */
void table_build(struct cluster *c, struct nft_batch *b);
extern const char *const table_masquerade_chain; /* marks and goes on: for NodePorts */

/* --- services.c: Services and EndpointSlices to map elements and chains --- */
struct services *services_start(struct cluster *c);
void services_stop(struct services *s);
/* Puts all of it into the batch of a fresh table. */
void services_build(struct services *s, struct nft_batch *b);
/* What DNS looks into; borrowed until the loop's next turn. */
struct object *services_find(struct services *s, struct str ns, struct str name);
void services_each(struct services *s, bool (*each)(void *arg, struct object *svc), void *arg);
void services_each_slice(struct services *s, struct str ns, struct str name,
                         bool (*each)(void *arg, struct object *slice), void *arg);
bool services_synced(const struct services *s);

/* --- host_ports.c --- */
void host_ports_set(struct cluster *c, struct str key, uint32_t pod_ip, const struct json *ports);
void host_ports_build(struct cluster *c, struct nft_batch *b);
void host_ports_fini(struct cluster *c);

/* --- dns.c --- */
/* Answers on cluster_dns:53 (UDP and TCP); the address must be on the machine already. */
int dns_start(struct cluster *c, struct dns **out, struct error *err);
void dns_stop(struct dns *d);
