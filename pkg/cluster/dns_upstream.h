/*
 * Private to pkg/cluster: names of the world, from the machine's own name servers, with a cache. Everything on one loop.
 * Idle, it holds no socket and no timer.
 */
#pragma once

#include "base/list.h"
#include "cluster/dns_message.h"
#include "net/loop.h"

#define UPSTREAM_CACHE_MAX 2000

struct dns_upstream_options {
    struct loop *loop;
    const char *resolv_conf; /* copied; read again when it changed */
    uint32_t own_address_be; /* never asked */
    uint16_t port;           /* 0: 53 */
    int timeout_ms;          /* of one try; 0: 2000 */
    size_t cache_max;        /* answers; 0: UPSTREAM_CACHE_MAX */
    int64_t (*now_ms)(void); /* NULL: time_mono_ms; tests have a clock of their own */
};
struct dns_upstream;
struct dns_upstream *dns_upstream_new(const struct dns_upstream_options *o);
/* Nobody is called any more; sockets close in the loop's next turn. */
void dns_upstream_free(struct dns_upstream *u);

/* An answer as it came, borrowed until the loop's next turn: for dns_answer_write(). */
struct dns_kept {
    struct str message;
    uint32_t age_s, min_ttl;
};
/* What the cache has, if it is good still. */
bool dns_upstream_cached(struct dns_upstream *u, const struct dns_name *name, uint16_t type, bool dnssec_ok,
                         struct dns_kept *out);

/* Somebody who waits for an answer: embedded in its owner, who may list_remove(&w->link) to wait no longer. */
struct dns_wait {
    struct list link;
    void (*fn)(struct dns_wait *w, const struct dns_kept *kept); /* NULL: no server answered */
};
/* Never calls back inline. -EBUSY when too much is asked already, -ENOENT without any name server. */
int dns_upstream_ask(struct dns_upstream *u, const struct dns_name *name, uint16_t type, bool dnssec_ok,
                     struct dns_wait *w);
