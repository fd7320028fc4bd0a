/*
 * pkg/cluster: the pod network (bridge, addresses, masquerade, hairpin), Services in one nftables table of our own,
 * written by raw netlink with verdict maps, changed incrementally and atomically, and the cluster's DNS. One thread: the
 * net loop. Nothing else of the machine's firewall is touched.
 */
#pragma once

#include "client/client.h"
#include "node/node.h"

struct cluster;

struct cluster_options {
    struct loop *loop; /* net loop */
    struct client *client;
    const char *node_name, *node_ip; /* node_ip: for NodePort and masquerade decisions; may be NULL at start */
    const char *cluster_cidr, *service_cidr;
    const char *cluster_dns; /* the address the resolver answers on: a local address of the bridge */
    const char *cluster_domain;
    const char *resolv_conf; /* upstream name servers */
    int node_port_first, node_port_last;
    const char *bridge;    /* NULL: "dory0" */
    const char *nft_table; /* NULL: "dory" */
    /* On the net loop, once the bridge, table and resolver work (code 0) or why they do not. */
    void (*on_ready)(void *arg, int code, const struct error *err);
    void *arg;
};
int cluster_start(const struct cluster_options *o, struct cluster **out, struct error *err);
/* Any thread: this node's pod CIDR, e.g. "10.42.0.0/24": the bridge gets its first address. */
void cluster_set_pod_cidr(struct cluster *c, const char *cidr);
const struct pod_network_ops *cluster_pod_network_ops(void); /* arg: the struct cluster */
/* Lets go; links and rules stay for the running pods. done(arg) on the net loop. */
void cluster_stop(struct cluster *c, loop_fn done, void *arg);
/* Removes bridge, veths and table: `dory killall` and tests. */
int cluster_remove_all(const char *bridge, const char *nft_table, struct error *err);
