#include <arpa/inet.h>
#include <stdlib.h>

#include "cluster/cluster_priv.h"

bool ipv4_parse(struct str s, uint32_t *host_order) {
    char text[INET_ADDRSTRLEN];
    struct in_addr in;
    if (s.n == 0 || s.n >= sizeof(text))
        return false;
    memcpy(text, s.p, s.n);
    text[s.n] = 0;
    if (inet_pton(AF_INET, text, &in) != 1)
        return false;
    *host_order = ntohl(in.s_addr);
    return true;
}

int ipv4_net_parse(const char *text, struct ipv4_net *out, struct error *err) {
    struct str address, bits;
    uint32_t base;
    int64_t prefix;
    if (!str_cut(str_c(text), '/', &address, &bits) || !ipv4_parse(address, &base) || !str_to_i64(bits, &prefix) ||
        prefix < 1 || prefix > 30)
        return error_set(err, -EINVAL, "\"%s\" is no usable IPv4 network (address/bits)", text);
    out->prefix = (int)prefix;
    out->mask = ~0u << (32 - prefix);
    out->base = base & out->mask;
    return 0;
}

void ipam_init(struct ipam *i) {
    *i = (struct ipam){0};
}

void ipam_fini(struct ipam *i) {
    struct map_entry *e;
    for (size_t k = 0; (e = map_next(&i->holders, &k));)
        free(e->value);
    map_fini(&i->holders);
    free(i->used);
    *i = (struct ipam){0};
}

static uint32_t size_of(const struct ipam *i) {
    return ~i->net.mask + 1;
}

/* Marks an address of our network; others (of a network we had before) are nobody's business. */
static void mark(struct ipam *i, uint32_t address, bool used) {
    if (!i->used || (address & i->net.mask) != i->net.base)
        return;
    uint32_t at = address - i->net.base;
    unsigned char bit = (unsigned char)(1u << (at % 8));
    if (used)
        i->used[at / 8] |= bit;
    else
        i->used[at / 8] &= (unsigned char)~bit;
}

void ipam_set_net(struct ipam *i, const struct ipv4_net *net) {
    free(i->used);
    i->net = *net;
    i->used = xcalloc(size_of(i) / 8 + 1, 1);
    i->next = 2;
    mark(i, net->base, true);                  /* the network itself */
    mark(i, net->base + 1, true);              /* the bridge */
    mark(i, net->base + size_of(i) - 1, true); /* broadcast */
    struct map_entry *e;
    for (size_t k = 0; (e = map_next(&i->holders, &k));)
        mark(i, *(uint32_t *)e->value, true);
}

static void hold(struct ipam *i, struct str key, uint32_t address) {
    uint32_t *v = xmalloc(sizeof(*v));
    *v = address;
    free(map_set(&i->holders, key, v));
    mark(i, address, true);
}

int ipam_take(struct ipam *i, struct str key, uint32_t *address) {
    if (!i->used)
        return -EAGAIN;
    if (ipam_find(i, key, address))
        return 0;
    for (uint32_t tries = 0; tries < size_of(i); tries++) {
        uint32_t at = i->next++;
        if (i->next >= size_of(i))
            i->next = 2;
        if (at >= size_of(i) || i->used[at / 8] >> (at % 8) & 1)
            continue;
        *address = i->net.base + at;
        hold(i, key, *address);
        return 0;
    }
    return -ENOSPC;
}

void ipam_adopt(struct ipam *i, struct str key, uint32_t address) {
    ipam_give_back(i, key);
    hold(i, key, address);
}

bool ipam_find(const struct ipam *i, struct str key, uint32_t *address) {
    const uint32_t *v = map_get(&i->holders, key);
    if (v)
        *address = *v;
    return v != NULL;
}

void ipam_give_back(struct ipam *i, struct str key) {
    uint32_t *v = map_del(&i->holders, key);
    if (v)
        mark(i, *v, false);
    free(v);
}
