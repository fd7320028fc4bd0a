/* Private to pkg/cluster: answers of upstream servers by (name, type, DO), least recently used first out. Pure. */
#pragma once

#include "cluster/dns_upstream.h"

#define DNS_KEY_MAX (DNS_NAME_MAX + 3)
#define CACHE_STALE_S 3600  /* how long after its end an answer may stand in for servers that fail */
#define CACHE_STALE_TTL 30  /* what clients are told of such an answer */
#define CACHE_RETRY_MS 5000 /* so long it stands in without asking anew */
#define CACHE_TTL_MAX 86400 /* seconds; for negative answers CACHE_NEGATIVE_MAX */
#define CACHE_NEGATIVE_MAX 300
#define CACHE_BYTES_MAX MiB(2)

struct dns_cache {
    struct map entries;
    struct list used; /* least recently used first */
    size_t max, bytes;
};
void dns_cache_init(struct dns_cache *c, size_t max);
void dns_cache_fini(struct dns_cache *c);
struct str dns_cache_key(char room[DNS_KEY_MAX], const struct dns_name *name, uint16_t type, bool dnssec_ok);
/* Keeps a copy for ttl_s; 0: not at all. Replaces what was there, but nothing good by what must not be kept. */
void dns_cache_put(struct dns_cache *c, struct str key, struct str message, uint32_t ttl_s, int64_t now_ms);
/* A good answer, or an old one that stands in for now. Borrowed until the next put. */
bool dns_cache_get(struct dns_cache *c, struct str key, int64_t now_ms, struct dns_kept *out);
/* Servers failed: an old answer, which then stands in for a while. */
bool dns_cache_stale(struct dns_cache *c, struct str key, int64_t now_ms, struct dns_kept *out);
