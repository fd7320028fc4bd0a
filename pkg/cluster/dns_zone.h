/*
 * Private to pkg/cluster: the names of Services and pods (Kubernetes' DNS specification 1.1), answered from what a source
 * tells. Pure but for the order of addresses, which changes from answer to answer.
 */
#pragma once

#include "cluster/cluster_priv.h"
#include "cluster/dns_message.h"
#include "codec/json.h"

#define ZONE_TTL 5

struct dns_source {
    /* NULL when there is none; borrowed. */
    const struct json *(*service)(void *arg, struct str ns, struct str name);
    void (*each_service)(void *arg, bool (*each)(void *to, const struct json *svc), void *to);
    void (*each_slice)(void *arg, struct str ns, struct str name, bool (*each)(void *to, const struct json *slice),
                       void *to);
    void *arg;
};

struct dns_zone {
    struct dns_source source;
    struct dns_name domain;  /* "cluster.local" */
    uint32_t address;        /* where we answer, network order */
    struct ipv4_net nets[2]; /* pods, Services: their reverse names are ours */
};

/* Whether the zone answers for the name. */
bool dns_zone_has(const struct dns_zone *z, const struct dns_name *name);
/* Puts the answer of a name of the zone and returns its rcode. When a chain of CNAMEs leaves the zone, *follow is the name
 * to look up elsewhere (else its n is 0). */
int dns_zone_answer(const struct dns_zone *z, const struct dns_query *q, struct dns_builder *b,
                    struct dns_name *follow);
