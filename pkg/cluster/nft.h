/*
 * Private to pkg/cluster: the one writer of nftables. A batch collects changes of our own table and is committed as a
 * whole by the kernel, or not at all. Family ip. Source: the kernel's nf_tables netlink interface.
 */
#pragma once

#include "net/netlink.h"

#define NFT_NAME_MAX_LEN 64

struct nft_batch {
    struct nl_msg msg;
    const char *table;
    uint32_t next_set_id;
};

void nft_batch_begin(struct nft_batch *b, const char *table);
/* Sends and frees. -EMSGSIZE when it grew beyond its limit (16 MiB). */
int nft_batch_commit(struct nft_batch *b, struct nl_socket *s, struct error *err);
void nft_batch_abort(struct nft_batch *b);

void nft_table_add(struct nft_batch *b);
void nft_table_del(struct nft_batch *b);

enum nft_hook { NFT_HOOK_PREROUTING, NFT_HOOK_INPUT, NFT_HOOK_FORWARD, NFT_HOOK_OUTPUT, NFT_HOOK_POSTROUTING };
/* type: "nat" or "filter" for a base chain; NULL for a plain one. */
void nft_chain_add(struct nft_batch *b, const char *name, const char *type, enum nft_hook hook, int priority);
void nft_chain_flush(struct nft_batch *b, const char *name);
void nft_chain_del(struct nft_batch *b, const char *name); /* must not be referenced any more */

/* Kinds of values in keys, as nft(8) numbers them, so that `nft list` shows them well. */
enum nft_type { NFT_TYPE_INTEGER = 4, NFT_TYPE_IPV4 = 7, NFT_TYPE_PROTO = 12, NFT_TYPE_PORT = 13 };
#define NFT_TYPES2(a, b) ((uint32_t)(a) << 6 | (uint32_t)(b))
#define NFT_TYPES3(a, b, c) (NFT_TYPES2(a, b) << 6 | (uint32_t)(c))

/* A verdict map or, with verdicts false, a plain set. key_bytes: 4 for each part of the key. */
void nft_set_add(struct nft_batch *b, const char *name, uint32_t key_type, uint32_t key_bytes, bool verdicts);
void nft_set_flush(struct nft_batch *b, const char *name);

#define NFT_KEY_MAX 12
struct nft_key {
    unsigned char bytes[NFT_KEY_MAX]; /* parts padded to 4 bytes each, network order */
    size_t n;
};
struct nft_key nft_key_service(uint32_t ip_be, uint8_t protocol, uint16_t port); /* ip . proto . port */
struct nft_key nft_key_port(uint8_t protocol, uint16_t port);                    /* proto . port */
struct nft_key nft_key_pair(uint32_t a_be, uint32_t b_be);                       /* ip . ip */

/* chain NULL: an element of a plain set; else the verdict is goto chain. Adding one that is there is fine, but a verdict
 * is not changed by it: delete first. */
void nft_element_add(struct nft_batch *b, const char *set, const struct nft_key *key, const char *chain);
void nft_element_del(struct nft_batch *b, const char *set, const struct nft_key *key);

/* --- rules: begin, expressions in order, end; appended to the chain --- */
void nft_rule_begin(struct nft_batch *b, const char *chain);
void nft_rule_end(struct nft_batch *b);
enum nft_field { NFT_SADDR, NFT_DADDR };
/* Registers are 4-byte words 0..15. */
void nft_load_address(struct nft_batch *b, enum nft_field f, int reg);
void nft_load_protocol(struct nft_batch *b, int reg);
void nft_load_dport(struct nft_batch *b, int reg);
void nft_load_mark(struct nft_batch *b, int reg);
void nft_load_fib_daddr_type(struct nft_batch *b, int reg);
void nft_load_oif(struct nft_batch *b, int reg);
void nft_bitwise(struct nft_batch *b, int reg, uint32_t mask, uint32_t xor_); /* host order, on a host-order word */
void nft_bitwise_be(struct nft_batch *b, int reg, uint32_t mask_be, uint32_t xor_be);
void nft_store_mark(struct nft_batch *b, int reg);
void nft_compare(struct nft_batch *b, int reg, bool equal, const void *value, size_t n);
/* Element of the named set (verdicts false), or dispatch by the named verdict map. */
void nft_lookup(struct nft_batch *b, const char *set, int reg, bool verdict_map);
void nft_jump(struct nft_batch *b, const char *chain);
void nft_goto(struct nft_batch *b, const char *chain);
void nft_return(struct nft_batch *b);
void nft_accept(struct nft_batch *b);
void nft_reject(struct nft_batch *b);     /* ICMP port unreachable, of which the kernel sends few */
void nft_reject_tcp(struct nft_batch *b); /* a reset; the rule must have matched TCP */
void nft_masquerade(struct nft_batch *b);

struct nft_endpoint {
    uint32_t ip_be;
    uint16_t port;
};
/* A rule of its own: sends new connections to one of the endpoints, each equally often. n >= 1, at most 4096. */
void nft_rule_balance(struct nft_batch *b, const char *chain, const struct nft_endpoint *e, size_t n);
/* The same with ClientIP affinity: a client stays with its endpoint for timeout_s after its last connection. Each endpoint
 * has a chain and a set of clients, named after chain; the rules of `chain` must be flushed before. Endpoints that stay keep
 * their clients. chain: at most 40 characters. */
void nft_rule_balance_sticky(struct nft_batch *b, const char *chain, const struct nft_endpoint *e, size_t n,
                             uint32_t timeout_s);
/* Removes chain and set of an endpoint that the (flushed or rewritten) service chain does not name any more. */
void nft_sticky_del(struct nft_batch *b, const char *chain, const struct nft_endpoint *e);
