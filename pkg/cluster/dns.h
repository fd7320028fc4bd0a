/* Private to pkg/cluster: the resolver without a cluster around it, as its tests start it. */
#pragma once

#include "cluster/dns_zone.h"

struct dns_options {
    struct loop *loop;
    uint32_t address; /* host order */
    uint16_t port, upstream_port;
    const char *domain, *resolv_conf; /* copied */
    struct ipv4_net nets[2];          /* whose reverse names are ours */
    struct dns_source source;
    bool (*ready)(void *arg); /* whether the source knows all there is; its arg */
    int timeout_ms;           /* of one upstream try; 0: 2000 */
};
/* On the loop. dns_stop() ends it. */
int dns_serve(const struct dns_options *o, struct dns **out, struct error *err);
