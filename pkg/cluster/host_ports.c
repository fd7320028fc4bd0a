/* Host ports of pods: elements of the same maps that Services use, and a chain a pod port. */
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>

#include "cluster/cluster_priv.h"

#define HOST_PORTS_MAX 256 /* of one pod */

struct host_port {
    uint8_t protocol;
    uint16_t host_port, container_port;
    uint32_t host_ip_be; /* 0: every local address */
};

struct host_ports {
    uint32_t pod_ip_be;
    size_t n;
    struct host_port ports[];
};

static void chain_name(char out[40], const struct host_port *p) {
    snprintf(out, 40, "hp-%u-%u-%08x", (unsigned)p->protocol, (unsigned)p->host_port, (unsigned)ntohl(p->host_ip_be));
}

static void put_port(struct nft_batch *b, const struct host_ports *h, const struct host_port *p) {
    char chain[40];
    struct nft_endpoint e = {h->pod_ip_be, p->container_port};
    struct nft_key key = p->host_ip_be ? nft_key_service(p->host_ip_be, p->protocol, p->host_port)
                                       : nft_key_port(p->protocol, p->host_port);
    chain_name(chain, p);
    nft_chain_add(b, chain, NULL, NFT_HOOK_PREROUTING, 0);
    nft_rule_balance(b, chain, &e, 1);
    nft_element_add(b, p->host_ip_be ? "services" : "nodeports", &key, chain);
}

static void del_port(struct nft_batch *b, const struct host_port *p) {
    char chain[40];
    struct nft_key key = p->host_ip_be ? nft_key_service(p->host_ip_be, p->protocol, p->host_port)
                                       : nft_key_port(p->protocol, p->host_port);
    chain_name(chain, p);
    nft_element_del(b, p->host_ip_be ? "services" : "nodeports", &key);
    nft_chain_flush(b, chain);
    nft_chain_del(b, chain);
}

static struct host_ports *read_ports(uint32_t pod_ip, const struct json *ports) {
    size_t n = MIN(json_len(ports), (size_t)HOST_PORTS_MAX);
    struct host_ports *h = xcalloc(1, sizeof(*h) + n * sizeof(*h->ports));
    h->pod_ip_be = htonl(pod_ip);
    for (size_t i = 0; i < n; i++) {
        const struct json *p = json_item(ports, i);
        struct str protocol = json_str_at(p, "protocol");
        uint32_t ip = 0;
        if (!ipv4_parse(json_str_at(p, "hostIP"), &ip))
            ip = 0;
        h->ports[h->n++] = (struct host_port){.protocol = str_eq(protocol, STR("UDP"))    ? IPPROTO_UDP
                                                          : str_eq(protocol, STR("SCTP")) ? IPPROTO_SCTP
                                                                                          : IPPROTO_TCP,
                                              .host_port = (uint16_t)json_int_at(p, "hostPort", 0),
                                              .container_port = (uint16_t)json_int_at(p, "containerPort", 0),
                                              .host_ip_be = htonl(ip)};
    }
    return h;
}

void host_ports_set(struct cluster *c, struct str key, uint32_t pod_ip, const struct json *ports) {
    struct host_ports *old = map_get(&c->host_ports, key), *now = NULL;
    struct nft_batch b;
    struct error err = {0};
    if (json_len(ports))
        now = read_ports(pod_ip, ports);
    if (!old && !now)
        return;
    nft_batch_begin(&b, c->table);
    for (size_t i = 0; old && i < old->n; i++)
        del_port(&b, &old->ports[i]);
    for (size_t i = 0; now && i < now->n; i++)
        put_port(&b, now, &now->ports[i]);
    if (now)
        map_set(&c->host_ports, key, now);
    else
        map_del(&c->host_ports, key);
    free(old);
    if (!c->table_ready)
        nft_batch_abort(&b); /* the first transaction takes them in */
    else if (nft_batch_commit(&b, &c->nft, &err) < 0)
        log_error("cluster", "host ports: %s", err.msg);
}

void host_ports_build(struct cluster *c, struct nft_batch *b) {
    struct map_entry *e;
    for (size_t i = 0; (e = map_next(&c->host_ports, &i));) {
        const struct host_ports *h = e->value;
        for (size_t k = 0; k < h->n; k++)
            put_port(b, h, &h->ports[k]);
    }
    for (size_t i = 0; (e = map_next(&c->ipam.holders, &i));) {
        uint32_t be = htonl(*(uint32_t *)e->value);
        struct nft_key key = nft_key_pair(be, be);
        nft_element_add(b, "hairpin", &key, NULL);
    }
}

void host_ports_fini(struct cluster *c) {
    struct map_entry *e;
    for (size_t i = 0; (e = map_next(&c->host_ports, &i));)
        free(e->value);
    map_fini(&c->host_ports);
}
