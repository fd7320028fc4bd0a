/*
 * Cluster addresses and node ports of Services: two bitmaps, rebuilt from the stored Services and kept by a store hook,
 * so that they can never disagree with the state. Addresses are picked at random from the upper part of the range; the
 * lower part is left to those who choose by hand. Source: Kubernetes' Service IP and NodePort allocation.
 */
#include <arpa/inet.h>

#include "api/api_priv.h"

#define POOL_BITS_MAX 20 /* at most 2^20 addresses, as Kubernetes */

struct address_pool {
    struct api *api;
    uint32_t base; /* host order */
    uint32_t size; /* addresses in the range */
    uint32_t band; /* first offset of dynamic picks */
    uint8_t *used;
    char *cidr;
    int port_first, port_last;
    uint16_t *ports; /* users of a port, TCP, UDP and SCTP apart: counts */
};

static bool parse_cidr(const char *cidr, uint32_t *base, int *bits) {
    char text[64];
    int64_t n = 0;
    struct str ip, len;
    if (!str_cut(str_c(cidr), '/', &ip, &len) || ip.n >= sizeof(text) || !str_to_i64(len, &n) || n < 8 || n > 30)
        return false;
    memcpy(text, ip.p, ip.n);
    text[ip.n] = 0;
    struct in_addr a;
    if (inet_pton(AF_INET, text, &a) != 1)
        return false;
    *bits = (int)(32 - n);
    *base = ntohl(a.s_addr) & ~((UINT32_C(1) << *bits) - 1);
    return true;
}

struct address_pool *address_pool_new(const char *cidr, int port_first, int port_last, struct error *err) {
    uint32_t base;
    int bits;
    if (!parse_cidr(cidr, &base, &bits)) {
        error_set(err, -EINVAL, "the service CIDR \"%s\" is no IPv4 network with a prefix of 8 to 30 bits", cidr);
        return NULL;
    }
    if (port_first < 1 || port_last > 65535 || port_first > port_last) {
        error_set(err, -EINVAL, "the node port range %d-%d is not valid", port_first, port_last);
        return NULL;
    }
    struct address_pool *p = XNEW(struct address_pool);
    p->base = base;
    p->size = UINT32_C(1) << MIN(bits, POOL_BITS_MAX);
    p->band = MIN(MAX(UINT32_C(16), p->size / 16), UINT32_C(256));
    if (p->band >= p->size / 2)
        p->band = 1;
    p->used = xcalloc(p->size / 8 + 1, 1);
    p->cidr = xstrdup(cidr);
    p->port_first = port_first;
    p->port_last = port_last;
    p->ports = xcalloc((size_t)(port_last - port_first + 1) * 3, sizeof(*p->ports));
    return p;
}

void address_pool_free(struct address_pool *p) {
    if (!p)
        return;
    free(p->used);
    free(p->cidr);
    free(p->ports);
    free(p);
}

static bool offset_of(const struct address_pool *p, struct str ip, uint32_t *offset) {
    char text[INET_ADDRSTRLEN];
    struct in_addr a;
    if (ip.n == 0 || ip.n >= sizeof(text))
        return false;
    memcpy(text, ip.p, ip.n);
    text[ip.n] = 0;
    if (inet_pton(AF_INET, text, &a) != 1)
        return false;
    uint32_t v = ntohl(a.s_addr);
    if (v < p->base || v - p->base >= p->size)
        return false;
    *offset = v - p->base;
    return true;
}

static struct str address_text(const struct address_pool *p, struct arena *a, uint32_t offset) {
    char text[INET_ADDRSTRLEN];
    struct in_addr in = {htonl(p->base + offset)};
    return str_dup(a, str_c(inet_ntop(AF_INET, &in, text, sizeof(text))));
}

static bool is_used(const struct address_pool *p, uint32_t at) {
    return p->used[at / 8] >> (at % 8) & 1;
}

static void set_used(struct address_pool *p, uint32_t at, bool used) {
    uint8_t bit = (uint8_t)(1u << (at % 8));
    p->used[at / 8] = (uint8_t)(used ? p->used[at / 8] | bit : p->used[at / 8] & ~bit);
}

void address_pool_reserve(struct address_pool *p, const char *ip) {
    uint32_t at;
    if (offset_of(p, str_c(ip), &at))
        set_used(p, at, true);
}

struct str address_pool_first(struct address_pool *p, struct arena *a) {
    return address_text(p, a, 1);
}

struct str address_pool_pick(struct address_pool *p, struct arena *a) {
    /* The network's own first and last address are never given. */
    uint32_t ranges[2][2] = {{p->band, p->size - 1}, {1, p->band}};
    for (size_t r = 0; r < 2; r++) {
        uint32_t from = ranges[r][0], n = ranges[r][1] - from;
        uint32_t start = n ? (uint32_t)rand_below(n) : 0;
        for (uint32_t i = 0; i < n; i++) {
            uint32_t at = from + (start + i) % n;
            if (!is_used(p, at))
                return address_text(p, a, at);
        }
    }
    return STR("");
}

const char *address_pool_check(struct address_pool *p, struct arena *a, struct str ip) {
    uint32_t at;
    if (!offset_of(p, ip, &at))
        return arena_printf(
            a,
            "failed to allocate IP %.*s: the provided IP (%.*s) is not in the valid range. The range of "
            "valid IPs is %s",
            STR_ARG(ip), STR_ARG(ip), p->cidr);
    if (at == 0 || at == p->size - 1)
        return arena_printf(a, "failed to allocate IP %.*s: the provided network does not match the current range",
                            STR_ARG(ip));
    struct api *api = p->api;
    /* A reserved address (cluster DNS) may be taken by name, one in use may not. */
    if (is_used(p, at) && !(api && api->cluster_dns && str_eq_c(ip, api->cluster_dns)))
        return arena_printf(a, "failed to allocate IP %.*s: provided IP is already allocated", STR_ARG(ip));
    return NULL;
}

static size_t protocol_index(struct str protocol) {
    return str_eq_c(protocol, "UDP") ? 1 : str_eq_c(protocol, "SCTP") ? 2 : 0;
}

static uint16_t *port_slot(struct address_pool *p, int64_t port, size_t protocol) {
    if (port < p->port_first || port > p->port_last)
        return NULL;
    return &p->ports[(size_t)(port - p->port_first) * 3 + protocol];
}

int address_pool_pick_port(struct address_pool *p) {
    uint64_t n = (uint64_t)(p->port_last - p->port_first + 1), start = rand_below(n);
    for (uint64_t i = 0; i < n; i++) {
        size_t at = (size_t)((start + i) % n);
        if (p->ports[at * 3] + p->ports[at * 3 + 1] + p->ports[at * 3 + 2] == 0)
            return p->port_first + (int)at;
    }
    return 0;
}

const char *address_pool_check_port(struct address_pool *p, struct arena *a, int64_t port, struct str protocol) {
    const uint16_t *slot = port_slot(p, port, protocol_index(protocol));
    if (!slot)
        return arena_printf(a, "provided port is not in the valid range. The range of valid ports is %d-%d",
                            p->port_first, p->port_last);
    return *slot ? "provided port is already allocated" : NULL;
}

/* --- kept by the store ------------------------------------------------------------------------------------------- */

static void count_port(struct address_pool *p, int64_t port, struct str protocol, int by) {
    uint16_t *slot = port_slot(p, port, protocol_index(protocol));
    if (slot && (by > 0 || *slot > 0))
        *slot = (uint16_t)(*slot + by);
}

static void account(struct address_pool *p, const struct json *svc, bool add) {
    const struct json *spec = json_get_c(svc, "spec"), *ports = json_get_c(spec, "ports");
    uint32_t at;
    if (offset_of(p, json_str_at(spec, "clusterIP"), &at))
        set_used(p, at, add);
    for (size_t i = 0; i < json_len(ports); i++) {
        const struct json *port = json_item(ports, i);
        int64_t n = json_int_at(port, "nodePort", 0);
        if (n)
            count_port(p, n, json_str_at(port, "protocol"), add ? 1 : -1);
    }
    int64_t health = json_int_at(spec, "healthCheckNodePort", 0);
    if (health)
        count_port(p, health, STR("TCP"), add ? 1 : -1);
}

static void service_changed(void *arg, const struct event *e) {
    struct address_pool *p = arg;
    if (e->old)
        account(p, object_json(e->old), false);
    if (e->type != EVENT_DELETED)
        account(p, object_json(e->object), true);
    if (p->api->cluster_dns)
        address_pool_reserve(p, p->api->cluster_dns);
}

static bool account_stored(void *arg, struct object *o) {
    account(arg, object_json(o), true);
    return true;
}

void address_pool_watch(struct address_pool *p, struct api *api) {
    struct store_kind *k = api_resource(api, api->services)->kind;
    p->api = api;
    store_each(api->store, k, STR_NULL, STR_NULL, STR_NULL, account_stored, p);
    store_hook_add(api->store, k, service_changed, p);
}
