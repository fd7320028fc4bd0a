/* Rules: expressions of the nf_tables virtual machine over 4-byte registers. */
#include <arpa/inet.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_nat.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/rtnetlink.h>
#include <stdio.h>
#include <string.h>

#include "cluster/nft.h"
#include "cluster/nft_priv.h"

#define REG(r) ((uint32_t)(NFT_REG32_00 + (r)))
#define ICMP_PORT_UNREACHABLE 3
#define NUMGEN_WORD 0 /* where the balancing rule works */
#define TARGET_WORD 4 /* address and port of the chosen endpoint: words 4 and 5 */
#define ENDPOINTS_MAX 4096
#define STICKY_CLIENTS_MAX 65535
#define ELEMENTS_PER_MESSAGE 256

void nft_rule_begin(struct nft_batch *b, const char *chain) {
    nft_message_begin(b, NFT_MSG_NEWRULE, NLM_F_CREATE | NLM_F_APPEND);
    nl_put_str(&b->msg, NFTA_RULE_TABLE, b->table);
    nl_put_str(&b->msg, NFTA_RULE_CHAIN, chain);
    nl_nest_begin(&b->msg, NFTA_RULE_EXPRESSIONS);
}

void nft_rule_end(struct nft_batch *b) {
    nl_nest_end(&b->msg);
    nl_msg_end(&b->msg);
}

static void expr_begin(struct nft_batch *b, const char *name) {
    nl_nest_begin(&b->msg, NFTA_LIST_ELEM);
    nl_put_str(&b->msg, NFTA_EXPR_NAME, name);
    nl_nest_begin(&b->msg, NFTA_EXPR_DATA);
}

static void expr_end(struct nft_batch *b) {
    nl_nest_end(&b->msg);
    nl_nest_end(&b->msg);
}

static void payload(struct nft_batch *b, int reg, uint32_t base, uint32_t offset, uint32_t len) {
    expr_begin(b, "payload");
    nl_put_be32(&b->msg, NFTA_PAYLOAD_DREG, REG(reg));
    nl_put_be32(&b->msg, NFTA_PAYLOAD_BASE, base);
    nl_put_be32(&b->msg, NFTA_PAYLOAD_OFFSET, offset);
    nl_put_be32(&b->msg, NFTA_PAYLOAD_LEN, len);
    expr_end(b);
}

void nft_load_address(struct nft_batch *b, enum nft_field f, int reg) {
    payload(b, reg, NFT_PAYLOAD_NETWORK_HEADER, f == NFT_SADDR ? 12 : 16, 4);
}

void nft_load_dport(struct nft_batch *b, int reg) {
    payload(b, reg, NFT_PAYLOAD_TRANSPORT_HEADER, 2, 2);
}

static void meta_load(struct nft_batch *b, uint32_t key, int reg) {
    expr_begin(b, "meta");
    nl_put_be32(&b->msg, NFTA_META_KEY, key);
    nl_put_be32(&b->msg, NFTA_META_DREG, REG(reg));
    expr_end(b);
}

void nft_load_protocol(struct nft_batch *b, int reg) {
    meta_load(b, NFT_META_L4PROTO, reg);
}

void nft_load_mark(struct nft_batch *b, int reg) {
    meta_load(b, NFT_META_MARK, reg);
}

void nft_load_oif(struct nft_batch *b, int reg) {
    meta_load(b, NFT_META_OIF, reg);
}

void nft_store_mark(struct nft_batch *b, int reg) {
    expr_begin(b, "meta");
    nl_put_be32(&b->msg, NFTA_META_KEY, NFT_META_MARK);
    nl_put_be32(&b->msg, NFTA_META_SREG, REG(reg));
    expr_end(b);
}

void nft_load_fib_daddr_type(struct nft_batch *b, int reg) {
    expr_begin(b, "fib");
    nl_put_be32(&b->msg, NFTA_FIB_DREG, REG(reg));
    nl_put_be32(&b->msg, NFTA_FIB_RESULT, NFT_FIB_RESULT_ADDRTYPE);
    nl_put_be32(&b->msg, NFTA_FIB_FLAGS, NFTA_FIB_F_DADDR);
    expr_end(b);
}

void nft_bitwise_be(struct nft_batch *b, int reg, uint32_t mask_be, uint32_t xor_be) {
    expr_begin(b, "bitwise");
    nl_put_be32(&b->msg, NFTA_BITWISE_SREG, REG(reg));
    nl_put_be32(&b->msg, NFTA_BITWISE_DREG, REG(reg));
    nl_put_be32(&b->msg, NFTA_BITWISE_LEN, 4);
    nft_put_value(&b->msg, NFTA_BITWISE_MASK, &mask_be, 4);
    nft_put_value(&b->msg, NFTA_BITWISE_XOR, &xor_be, 4);
    expr_end(b);
}

/* The mask works on the register's bytes as they are in memory: the same encoding serves host-order words. */
void nft_bitwise(struct nft_batch *b, int reg, uint32_t mask, uint32_t xor_) {
    nft_bitwise_be(b, reg, mask, xor_);
}

void nft_compare(struct nft_batch *b, int reg, bool equal, const void *value, size_t n) {
    expr_begin(b, "cmp");
    nl_put_be32(&b->msg, NFTA_CMP_SREG, REG(reg));
    nl_put_be32(&b->msg, NFTA_CMP_OP, equal ? NFT_CMP_EQ : NFT_CMP_NEQ);
    nft_put_value(&b->msg, NFTA_CMP_DATA, value, n);
    expr_end(b);
}

void nft_lookup(struct nft_batch *b, const char *set, int reg, bool verdict_map) {
    expr_begin(b, "lookup");
    nl_put_str(&b->msg, NFTA_LOOKUP_SET, set);
    nl_put_be32(&b->msg, NFTA_LOOKUP_SREG, REG(reg));
    if (verdict_map)
        nl_put_be32(&b->msg, NFTA_LOOKUP_DREG, NFT_REG_VERDICT);
    expr_end(b);
}

static void verdict(struct nft_batch *b, int code, const char *chain) {
    expr_begin(b, "immediate");
    nl_put_be32(&b->msg, NFTA_IMMEDIATE_DREG, NFT_REG_VERDICT);
    nft_put_verdict(&b->msg, NFTA_IMMEDIATE_DATA, code, chain);
    expr_end(b);
}

void nft_jump(struct nft_batch *b, const char *chain) {
    verdict(b, NFT_JUMP, chain);
}

void nft_goto(struct nft_batch *b, const char *chain) {
    verdict(b, NFT_GOTO, chain);
}

void nft_return(struct nft_batch *b) {
    verdict(b, NFT_RETURN, NULL);
}

void nft_accept(struct nft_batch *b) {
    verdict(b, NF_ACCEPT, NULL);
}

void nft_reject(struct nft_batch *b) {
    expr_begin(b, "reject");
    nl_put_be32(&b->msg, NFTA_REJECT_TYPE, NFT_REJECT_ICMP_UNREACH);
    nl_put_u8(&b->msg, NFTA_REJECT_ICMP_CODE, ICMP_PORT_UNREACHABLE);
    expr_end(b);
}

void nft_reject_tcp(struct nft_batch *b) {
    expr_begin(b, "reject");
    nl_put_be32(&b->msg, NFTA_REJECT_TYPE, NFT_REJECT_TCP_RST);
    expr_end(b);
}

void nft_masquerade(struct nft_batch *b) {
    expr_begin(b, "masq");
    nl_put_be32(&b->msg, NFTA_MASQ_FLAGS, NF_NAT_RANGE_PROTO_RANDOM_FULLY);
    expr_end(b);
}

/* --- balancing -------------------------------------------------------------------------------------------------- */

static void numgen(struct nft_batch *b, int reg, uint32_t modulus) {
    expr_begin(b, "numgen");
    nl_put_be32(&b->msg, NFTA_NG_DREG, REG(reg));
    nl_put_be32(&b->msg, NFTA_NG_MODULUS, modulus);
    nl_put_be32(&b->msg, NFTA_NG_TYPE, NFT_NG_RANDOM);
    nl_put_be32(&b->msg, NFTA_NG_OFFSET, 0);
    expr_end(b);
}

/* Destination NAT to the address and port in words reg and reg + 1. */
static void dnat(struct nft_batch *b, int reg) {
    expr_begin(b, "nat");
    nl_put_be32(&b->msg, NFTA_NAT_TYPE, NFT_NAT_DNAT);
    nl_put_be32(&b->msg, NFTA_NAT_FAMILY, NFPROTO_IPV4);
    nl_put_be32(&b->msg, NFTA_NAT_REG_ADDR_MIN, REG(reg));
    nl_put_be32(&b->msg, NFTA_NAT_REG_PROTO_MIN, REG(reg + 1));
    expr_end(b);
}

static void load_constant(struct nft_batch *b, int reg, const void *value, size_t n) {
    expr_begin(b, "immediate");
    nl_put_be32(&b->msg, NFTA_IMMEDIATE_DREG, REG(reg));
    nft_put_value(&b->msg, NFTA_IMMEDIATE_DATA, value, n);
    expr_end(b);
}

static void lookup_id(struct nft_batch *b, uint32_t id, int key, uint32_t dreg) {
    expr_begin(b, "lookup");
    nl_put_str(&b->msg, NFTA_LOOKUP_SET, "__map%d");
    nl_put_be32(&b->msg, NFTA_LOOKUP_SREG, REG(key));
    nl_put_be32(&b->msg, NFTA_LOOKUP_DREG, dreg);
    nl_put_be32(&b->msg, NFTA_LOOKUP_SET_ID, id);
    expr_end(b);
}

/* What index i of an anonymous map leads to: an endpoint, or the chain of an endpoint. */
struct map_target {
    const struct nft_endpoint *e;
    const char *sticky_chain; /* NULL: address . port itself */
};

static void endpoint_name(char out[NFT_NAME_MAX_LEN], const char *chain, const struct nft_endpoint *e) {
    snprintf(out, NFT_NAME_MAX_LEN, "%.40s-%08x%04x", chain, (unsigned)ntohl(e->ip_be), (unsigned)e->port);
}

static void put_target(struct nl_msg *m, const struct map_target *t, size_t i) {
    if (t->sticky_chain) {
        char name[NFT_NAME_MAX_LEN];
        endpoint_name(name, t->sticky_chain, &t->e[i]);
        nft_put_verdict(m, NFTA_SET_ELEM_DATA, NFT_GOTO, name);
        return;
    }
    unsigned char bytes[8] = {0};
    uint16_t port_be = htons(t->e[i].port);
    memcpy(bytes, &t->e[i].ip_be, 4);
    memcpy(bytes + 4, &port_be, 2);
    nft_put_value(m, NFTA_SET_ELEM_DATA, bytes, sizeof(bytes));
}

/* An anonymous map from an index; it lives as long as the rule that uses it. */
static uint32_t index_map(struct nft_batch *b, const struct map_target *t, size_t n) {
    struct nl_msg *m = &b->msg;
    struct nft_set_shape s = {.flags = NFT_SET_ANONYMOUS | NFT_SET_CONSTANT | NFT_SET_MAP,
                              .key_type = NFT_TYPE_INTEGER,
                              .key_bytes = 4,
                              .data_type =
                                  t->sticky_chain ? NFT_DATA_TYPE_VERDICT : NFT_TYPES2(NFT_TYPE_IPV4, NFT_TYPE_PORT),
                              .data_bytes = t->sticky_chain ? 0 : 8,
                              .size = (uint32_t)n,
                              .id = b->next_set_id++};
    nft_set_message(b, "__map%d", &s);
    for (size_t i = 0; i < n;) {
        nft_message_begin(b, NFT_MSG_NEWSETELEM, NLM_F_CREATE);
        nl_put_str(m, NFTA_SET_ELEM_LIST_TABLE, b->table);
        nl_put_str(m, NFTA_SET_ELEM_LIST_SET, "__map%d");
        nl_put_be32(m, NFTA_SET_ELEM_LIST_SET_ID, s.id);
        nl_nest_begin(m, NFTA_SET_ELEM_LIST_ELEMENTS);
        for (size_t end = MIN(n, i + ELEMENTS_PER_MESSAGE); i < end; i++) {
            uint32_t index = (uint32_t)i; /* numgen gives host order */
            nl_nest_begin(m, NFTA_LIST_ELEM);
            nft_put_value(m, NFTA_SET_ELEM_KEY, &index, 4);
            put_target(m, t, i);
            nl_nest_end(m);
        }
        nl_nest_end(m);
        nl_msg_end(m);
    }
    return s.id;
}

void nft_rule_balance(struct nft_batch *b, const char *chain, const struct nft_endpoint *e, size_t n) {
    n = MIN(n, (size_t)ENDPOINTS_MAX);
    uint32_t id = index_map(b, &(struct map_target){e, NULL}, n);
    nft_rule_begin(b, chain);
    numgen(b, NUMGEN_WORD, (uint32_t)n);
    lookup_id(b, id, NUMGEN_WORD, REG(TARGET_WORD));
    dnat(b, TARGET_WORD);
    nft_rule_end(b);
}

/* The chain of one endpoint notes the client and sends it there. */
static void sticky_endpoint(struct nft_batch *b, const char *chain, const struct nft_endpoint *e, uint32_t timeout_s) {
    char name[NFT_NAME_MAX_LEN];
    unsigned char port_be[2] = {(unsigned char)(e->port >> 8), (unsigned char)e->port};
    struct nft_set_shape s = {.flags = NFT_SET_TIMEOUT | NFT_SET_EVAL,
                              .key_type = NFT_TYPE_IPV4,
                              .key_bytes = 4,
                              .timeout_s = timeout_s,
                              .size = STICKY_CLIENTS_MAX,
                              .id = b->next_set_id++};
    endpoint_name(name, chain, e);
    nft_set_message(b, name, &s);
    nft_chain_add(b, name, NULL, NFT_HOOK_PREROUTING, 0);
    nft_chain_flush(b, name);
    nft_rule_begin(b, name);
    nft_load_address(b, NFT_SADDR, 0);
    expr_begin(b, "dynset");
    nl_put_str(&b->msg, NFTA_DYNSET_SET_NAME, name);
    nl_put_be32(&b->msg, NFTA_DYNSET_OP, NFT_DYNSET_OP_UPDATE);
    nl_put_be32(&b->msg, NFTA_DYNSET_SREG_KEY, REG(0));
    nl_put_be64(&b->msg, NFTA_DYNSET_TIMEOUT, (uint64_t)timeout_s * 1000);
    expr_end(b);
    load_constant(b, TARGET_WORD, &e->ip_be, 4);
    load_constant(b, TARGET_WORD + 1, port_be, 2);
    dnat(b, TARGET_WORD);
    nft_rule_end(b);
}

void nft_rule_balance_sticky(struct nft_batch *b, const char *chain, const struct nft_endpoint *e, size_t n,
                             uint32_t timeout_s) {
    n = MIN(n, (size_t)ENDPOINTS_MAX);
    for (size_t i = 0; i < n; i++)
        sticky_endpoint(b, chain, &e[i], timeout_s);
    for (size_t i = 0; i < n; i++) { /* known clients first */
        char name[NFT_NAME_MAX_LEN];
        endpoint_name(name, chain, &e[i]);
        nft_rule_begin(b, chain);
        nft_load_address(b, NFT_SADDR, 0);
        nft_lookup(b, name, 0, false);
        nft_goto(b, name);
        nft_rule_end(b);
    }
    uint32_t id = index_map(b, &(struct map_target){e, chain}, n);
    nft_rule_begin(b, chain);
    numgen(b, NUMGEN_WORD, (uint32_t)n);
    lookup_id(b, id, NUMGEN_WORD, NFT_REG_VERDICT);
    nft_rule_end(b);
}

void nft_sticky_del(struct nft_batch *b, const char *chain, const struct nft_endpoint *e) {
    char name[NFT_NAME_MAX_LEN];
    endpoint_name(name, chain, e);
    nft_chain_flush(b, name);
    nft_chain_del(b, name);
    nft_message_begin(b, NFT_MSG_DELSET, 0);
    nl_put_str(&b->msg, NFTA_SET_TABLE, b->table);
    nl_put_str(&b->msg, NFTA_SET_NAME, name);
    nl_msg_end(&b->msg);
}
