/* Life of the net thread: sockets, kernel settings, bridge, table, resolver; and who is told when all of it works. */
#include "cluster/cluster.h"

#include <arpa/inet.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "cluster/cluster_priv.h"

static char *copy_or_null(const char *s) {
    return s ? xstrdup(s) : NULL;
}

void cluster_progress(struct cluster *c, int code, const struct error *err) {
    if (c->stopping)
        return;
    if (code < 0) {
        c->told_ready = false;
        c->o.on_ready(c->o.arg, code, err);
    } else if (c->table_ready && c->bridge_index && (!c->cluster_dns || c->dns) && !c->told_ready) {
        c->told_ready = true;
        c->o.on_ready(c->o.arg, 0, NULL);
    }
}

/* --- kernel settings -------------------------------------------------------------------------------------------- */

static const struct {
    const char *path, *value;
    bool optional; /* may be missing (a module not loaded) or read-only (in a container) */
} settings[] = {
    {"/proc/sys/net/ipv4/ip_forward", "1", false},
    /* Services of pods on one bridge work only when bridged packets pass the translation too. */
    {"/proc/sys/net/bridge/bridge-nf-call-iptables", "1", true},
};

/*
 * A Service's packet leaves by the bridge it came from, and the kernel tells the pod of a "better" way, which is none; these
 * redirects also use up what it allows of other ICMP to the pod. Off only when both are: "all" alone changes no other link.
 */
static void stop_redirects(const char *link) {
    char path[100];
    struct error err;
    snprintf(path, sizeof(path), "/proc/sys/net/ipv4/conf/%s/send_redirects", link);
    if (file_put(path, STR("0"), &err) < 0)
        log_debug("cluster", "%s", err.msg);
}

static int apply_settings(struct error *err) {
    for (size_t i = 0; i < ARRAY_LEN(settings); i++) {
        struct buf now = {.limit = 64};
        struct error why;
        int rc = file_read(settings[i].path, &now, &why);
        bool same = rc == 0 && str_eq_c(str_trim(buf_str(&now)), settings[i].value);
        buf_fini(&now);
        if (same)
            continue;
        if (rc == 0)
            rc = file_put(settings[i].path, str_c(settings[i].value), &why);
        if (rc < 0 && !settings[i].optional)
            return error_set(err, rc, "%s cannot be set to %s: %s", settings[i].path, settings[i].value, why.msg);
        if (rc < 0)
            log_warn("cluster", "%s is not %s (%s): a pod may not reach Services that lead to its own node",
                     settings[i].path, settings[i].value, why.msg);
    }
    return 0;
}

/* --- bridge ----------------------------------------------------------------------------------------------------- */

/* A fixed hardware address by the IPv4 address, so that it does not change with the first port. */

void pod_mac(uint32_t address, unsigned char mac[6]) {
    uint32_t be = htonl(address);
    mac[0] = 0x0a;
    mac[1] = 0x58;
    memcpy(mac + 2, &be, 4);
}

static int add_address(struct cluster *c, int index, uint32_t address, int prefix, struct error *err) {
    uint32_t be = htonl(address);
    return nl_addr_add(&c->route, index, AF_INET, &be, prefix, err);
}

static int bridge_up(struct cluster *c, struct error *err) {
    unsigned char mac[6];
    uint32_t gateway = c->pod_net.base + 1, dns;
    pod_mac(gateway, mac);
    int rc = nl_bridge_add(&c->route, c->bridge, mac, POD_MTU, err);
    int index = rc < 0 ? rc : nl_link_index(&c->route, c->bridge, err);
    if (index < 0)
        return index;
    rc = add_address(c, index, gateway, c->pod_net.prefix, err);
    if (rc == 0 && c->cluster_dns && ipv4_parse(str_c(c->cluster_dns), &dns))
        rc = add_address(c, index, dns, 32, err);
    if (rc == 0)
        rc = nl_link_up(&c->route, index, true, err);
    /* Without it a machine without a default route could not reach Services: routing comes before translation. */
    uint32_t services = htonl(c->service_net.base);
    if (rc == 0)
        rc = nl_route_add(&c->route, index, AF_INET, &services, c->service_net.prefix, NULL, err);
    if (rc == 0) {
        stop_redirects("all");
        stop_redirects(c->bridge);
        c->bridge_index = index;
    }
    return rc;
}

struct set_cidr {
    struct cluster *c;
    char cidr[64];
};

static void do_set_pod_cidr(void *arg) {
    struct set_cidr *m = arg;
    struct cluster *c = m->c;
    struct ipv4_net net;
    struct error err = {0};
    int rc = ipv4_net_parse(m->cidr, &net, &err);
    bool same = rc == 0 && c->bridge_index && net.base == c->pod_net.base && net.prefix == c->pod_net.prefix;
    if (rc == 0 && !same && !c->stopping) {
        c->pod_net = net;
        ipam_set_net(&c->ipam, &net);
        rc = bridge_up(c, &err);
    }
    if (rc == 0 && !c->stopping && c->cluster_dns && !c->dns)
        rc = dns_start(c, &c->dns, &err);
    if (rc < 0)
        error_wrap(&err, "pod network %s", m->cidr);
    cluster_progress(c, rc, &err);
    free(m);
}

void cluster_set_pod_cidr(struct cluster *c, const char *cidr) {
    struct set_cidr *m = XNEW(struct set_cidr);
    m->c = c;
    strncpy(m->cidr, cidr, sizeof(m->cidr) - 1);
    loop_post(c->o.loop, do_set_pod_cidr, m);
}

/* --- start and stop --------------------------------------------------------------------------------------------- */

static void start_on_loop(void *arg) {
    struct cluster *c = arg;
    c->services = services_start(c);
}

static void free_cluster(struct cluster *c) {
    nl_close(&c->route);
    nl_close(&c->nft);
    ipam_fini(&c->ipam);
    host_ports_fini(c);
    char *const strings[] = {c->node_name, c->cluster_dns, c->cluster_domain, c->resolv_conf, c->bridge, c->table};
    for (size_t i = 0; i < ARRAY_LEN(strings); i++)
        free(strings[i]);
    free(c);
}

int cluster_start(const struct cluster_options *o, struct cluster **out, struct error *err) {
    struct cluster *c = XNEW(struct cluster);
    c->o = *o;
    c->node_name = xstrdup(o->node_name);
    c->cluster_dns = copy_or_null(o->cluster_dns);
    c->cluster_domain = xstrdup(o->cluster_domain);
    c->resolv_conf = xstrdup(o->resolv_conf);
    c->bridge = xstrdup(o->bridge ? o->bridge : BRIDGE_DEFAULT);
    c->table = xstrdup(o->nft_table ? o->nft_table : TABLE_DEFAULT);
    c->route.fd = c->nft.fd = -1;
    ipam_init(&c->ipam);
    int rc = ipv4_net_parse(o->cluster_cidr, &c->cluster_net, err);
    if (rc == 0)
        rc = ipv4_net_parse(o->service_cidr, &c->service_net, err);
    if (rc == 0)
        rc = apply_settings(err);
    if (rc == 0)
        rc = nl_open(&c->route, NETLINK_ROUTE, err);
    if (rc == 0)
        rc = nl_open(&c->nft, NETLINK_NETFILTER, err);
    if (rc < 0) {
        free_cluster(c);
        return error_wrap(err, "cluster network");
    }
    *out = c;
    loop_post(o->loop, start_on_loop, c);
    return 0;
}

struct stopping {
    struct cluster *c;
    loop_fn done;
    void *arg;
};

static void stop_on_loop(void *arg) {
    struct stopping *s = arg;
    struct cluster *c = s->c;
    c->stopping = true;
    if (c->dns)
        dns_stop(c->dns);
    services_stop(c->services);
    /* What was posted to the loop before (a sync, a pod's attach) still finds the cluster: it is freed by the process's end. */
    s->done(s->arg);
    free(s);
}

void cluster_stop(struct cluster *c, loop_fn done, void *arg) {
    struct stopping *s = XNEW(struct stopping);
    *s = (struct stopping){c, done, arg};
    loop_post(c->o.loop, stop_on_loop, s);
}

/* --- removal ---------------------------------------------------------------------------------------------------- */

static int remove_table(const char *table, struct error *err) {
    struct nl_socket s;
    struct nft_batch b;
    int rc = nl_open(&s, NETLINK_NETFILTER, err);
    if (rc < 0)
        return rc;
    nft_batch_begin(&b, table);
    nft_table_add(&b);
    nft_table_del(&b);
    rc = nft_batch_commit(&b, &s, err);
    nl_close(&s);
    return rc;
}

int cluster_remove_all(const char *bridge, const char *nft_table, struct error *err) {
    struct nl_socket s;
    int rc = nl_open(&s, NETLINK_ROUTE, err);
    if (rc < 0)
        return rc;
    int index = nl_link_index(&s, bridge ? bridge : BRIDGE_DEFAULT, NULL);
    if (index > 0)
        rc = nl_link_del(&s, index, err);
    nl_close(&s);
    int removed = remove_table(nft_table ? nft_table : TABLE_DEFAULT, rc < 0 ? NULL : err);
    return rc < 0 ? rc : removed;
}
