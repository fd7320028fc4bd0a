/*
 * The fixed part of the table: base chains and what they consult.
 *   nat prerouting/output (-100): Services by verdict map, then NodePorts of local addresses
 *   nat postrouting (100): masquerade of what was marked, of a pod that reached itself, of pods going out
 *   filter forward/output (0): Services without endpoints refuse at once
 */
#include <arpa/inet.h>
#include <linux/rtnetlink.h>

#include "cluster/cluster_priv.h"

const char *const table_masquerade_chain = "mark-masquerade";

static void service_dispatch(struct nft_batch *b, const char *chain, const char *map) {
    nft_rule_begin(b, chain);
    nft_load_address(b, NFT_DADDR, 0);
    nft_load_protocol(b, 1);
    nft_load_dport(b, 2);
    nft_lookup(b, map, 0, true);
    nft_rule_end(b);
}

static void nat_entry(struct nft_batch *b, const char *chain) {
    uint32_t local = RTN_LOCAL;
    service_dispatch(b, chain, "services");
    nft_rule_begin(b, chain);
    nft_load_fib_daddr_type(b, 0);
    nft_compare(b, 0, true, &local, sizeof(local));
    nft_load_protocol(b, 0);
    nft_load_dport(b, 1);
    nft_lookup(b, "nodeports", 0, true);
    nft_rule_end(b);
}

/* Address in (or not in) a network. */
static void match_net(struct nft_batch *b, enum nft_field f, const struct ipv4_net *net, bool inside) {
    uint32_t base = htonl(net->base);
    nft_load_address(b, f, 0);
    nft_bitwise_be(b, 0, htonl(net->mask), 0);
    nft_compare(b, 0, inside, &base, sizeof(base));
}

static void postrouting(struct cluster *c, struct nft_batch *b) {
    static const struct ipv4_net multicast = {0xe0000000u, 0xf0000000u, 4};
    uint32_t zero = 0;
    nft_rule_begin(b, "postrouting"); /* marked: the mark has done its duty */
    nft_load_mark(b, 0);
    nft_bitwise(b, 0, MARK_MASQUERADE, 0);
    nft_compare(b, 0, false, &zero, sizeof(zero));
    nft_load_mark(b, 0);
    nft_bitwise(b, 0, ~MARK_MASQUERADE, 0);
    nft_store_mark(b, 0);
    nft_masquerade(b);
    nft_rule_end(b);
    nft_rule_begin(b, "postrouting"); /* a pod that came back to itself through a Service */
    nft_load_address(b, NFT_SADDR, 0);
    nft_load_address(b, NFT_DADDR, 1);
    nft_lookup(b, "hairpin", 0, false);
    nft_masquerade(b);
    nft_rule_end(b);
    nft_rule_begin(b, "postrouting"); /* pods to the world */
    match_net(b, NFT_SADDR, &c->cluster_net, true);
    match_net(b, NFT_DADDR, &c->cluster_net, false);
    match_net(b, NFT_DADDR, &multicast, false);
    nft_masquerade(b);
    nft_rule_end(b);
}

void table_build(struct cluster *c, struct nft_batch *b) {
    nft_set_add(b, "services", NFT_TYPES3(NFT_TYPE_IPV4, NFT_TYPE_PROTO, NFT_TYPE_PORT), 12, true);
    nft_set_add(b, "no-endpoints", NFT_TYPES3(NFT_TYPE_IPV4, NFT_TYPE_PROTO, NFT_TYPE_PORT), 12, true);
    nft_set_add(b, "nodeports", NFT_TYPES2(NFT_TYPE_PROTO, NFT_TYPE_PORT), 8, true);
    nft_set_add(b, "hairpin", NFT_TYPES2(NFT_TYPE_IPV4, NFT_TYPE_IPV4), 8, false);
    nft_chain_add(b, "prerouting", "nat", NFT_HOOK_PREROUTING, -100);
    nft_chain_add(b, "output", "nat", NFT_HOOK_OUTPUT, -100);
    nft_chain_add(b, "postrouting", "nat", NFT_HOOK_POSTROUTING, 100);
    nft_chain_add(b, "filter-forward", "filter", NFT_HOOK_FORWARD, 0);
    nft_chain_add(b, "filter-output", "filter", NFT_HOOK_OUTPUT, 0);
    nft_chain_add(b, table_masquerade_chain, NULL, NFT_HOOK_PREROUTING, 0);
    nft_chain_add(b, "refuse", NULL, NFT_HOOK_PREROUTING, 0);
    nat_entry(b, "prerouting");
    nat_entry(b, "output");
    service_dispatch(b, "filter-forward", "no-endpoints");
    service_dispatch(b, "filter-output", "no-endpoints");
    uint8_t tcp = IPPROTO_TCP;
    nft_rule_begin(b, "refuse");
    nft_load_protocol(b, 0);
    nft_compare(b, 0, true, &tcp, sizeof(tcp));
    nft_reject_tcp(b);
    nft_rule_end(b);
    nft_rule_begin(b, "refuse");
    nft_reject(b);
    nft_rule_end(b);
    nft_rule_begin(b, table_masquerade_chain);
    nft_load_mark(b, 0);
    nft_bitwise(b, 0, ~MARK_MASQUERADE, MARK_MASQUERADE);
    nft_store_mark(b, 0);
    nft_rule_end(b);
    postrouting(c, b);
}
