#include "cluster/dns_cache.h"

#include <stdlib.h>

struct entry {
    struct list link;
    int64_t put_ms, end_ms, stand_in_until_ms;
    size_t key_n, n;
    char bytes[]; /* key, message */
};

void dns_cache_init(struct dns_cache *c, size_t max) {
    *c = (struct dns_cache){.max = max};
    list_init(&c->used);
}

static void drop(struct dns_cache *c, struct entry *e) {
    map_del(&c->entries, str_n(e->bytes, e->key_n));
    list_remove(&e->link);
    c->bytes -= sizeof(*e) + e->key_n + e->n;
    free(e);
}

void dns_cache_fini(struct dns_cache *c) {
    while (!list_empty(&c->used))
        drop(c, LIST_ITEM(c->used.next, struct entry, link));
    map_fini(&c->entries);
}

struct str dns_cache_key(char room[DNS_KEY_MAX], const struct dns_name *name, uint16_t type, bool dnssec_ok) {
    for (size_t i = 0; i < name->n; i++) {
        unsigned char c = name->wire[i];
        room[i] = (char)(c >= 'A' && c <= 'Z' ? c + 32 : c);
    }
    room[name->n] = (char)(type >> 8);
    room[name->n + 1] = (char)type;
    room[name->n + 2] = dnssec_ok;
    return str_n(room, name->n + 3);
}

void dns_cache_put(struct dns_cache *c, struct str key, struct str message, uint32_t ttl_s, int64_t now_ms) {
    struct entry *old = map_get(&c->entries, key), *e;
    size_t size = sizeof(*e) + key.n + message.n;
    bool negative = message.n > 7 && ((message.p[3] & 0xf) != DNS_NOERROR || (message.p[6] == 0 && message.p[7] == 0));
    if (ttl_s == 0 || size > CACHE_BYTES_MAX / 8)
        return;
    ttl_s = MIN(ttl_s, (uint32_t)(negative ? CACHE_NEGATIVE_MAX : CACHE_TTL_MAX));
    if (old)
        drop(c, old);
    while (!list_empty(&c->used) && (c->entries.n >= c->max || c->bytes + size > CACHE_BYTES_MAX))
        drop(c, LIST_ITEM(c->used.next, struct entry, link));
    e = xmalloc(size);
    *e = (struct entry){.put_ms = now_ms, .end_ms = now_ms + (int64_t)ttl_s * 1000, .key_n = key.n, .n = message.n};
    memcpy(e->bytes, key.p, key.n);
    memcpy(e->bytes + key.n, message.p, message.n);
    list_init(&e->link);
    list_push_back(&c->used, &e->link);
    c->bytes += size;
    map_set(&c->entries, key, e);
}

static void tell(const struct entry *e, int64_t now_ms, uint32_t min_ttl, struct dns_kept *out) {
    *out = (struct dns_kept){str_n(e->bytes + e->key_n, e->n), (uint32_t)((now_ms - e->put_ms) / 1000), min_ttl};
}

bool dns_cache_get(struct dns_cache *c, struct str key, int64_t now_ms, struct dns_kept *out) {
    struct entry *e = map_get(&c->entries, key);
    if (!e)
        return false;
    if (now_ms >= e->end_ms + CACHE_STALE_S * 1000) {
        drop(c, e);
        return false;
    }
    bool old = now_ms >= e->end_ms;
    if (old && now_ms >= e->stand_in_until_ms)
        return false;
    list_remove(&e->link);
    list_push_back(&c->used, &e->link);
    tell(e, now_ms, old ? CACHE_STALE_TTL : 0, out);
    return true;
}

bool dns_cache_stale(struct dns_cache *c, struct str key, int64_t now_ms, struct dns_kept *out) {
    struct entry *e = map_get(&c->entries, key);
    if (!e || now_ms >= e->end_ms + CACHE_STALE_S * 1000)
        return false;
    e->stand_in_until_ms = now_ms + CACHE_RETRY_MS;
    tell(e, now_ms, CACHE_STALE_TTL, out);
    return true;
}
