/* Batches, tables, chains, sets and elements. Rules and their expressions are in nft_rule.c. */
#include "cluster/nft.h"

#include <arpa/inet.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <string.h>

#include "cluster/nft_priv.h"

#define BATCH_BYTES MiB(16)

/* --- batches ---------------------------------------------------------------------------------------------------- */

static void put_mark(struct nl_msg *m, uint16_t type) {
    struct nfgenmsg g = {.nfgen_family = AF_UNSPEC, .version = NFNETLINK_V0, .res_id = htons(NFNL_SUBSYS_NFTABLES)};
    nl_msg_begin(m, type, 0, &g, sizeof(g));
    nl_msg_end(m);
}

void nft_batch_begin(struct nft_batch *b, const char *table) {
    *b = (struct nft_batch){.table = table, .next_set_id = 1};
    nl_msg_init(&b->msg, BATCH_BYTES);
    put_mark(&b->msg, NFNL_MSG_BATCH_BEGIN);
}

int nft_batch_commit(struct nft_batch *b, struct nl_socket *s, struct error *err) {
    /* One acknowledgement for all: errors come without being asked for, and thousands of answers would not fit the
     * socket's buffer. */
    if (!b->msg.buf.failed) {
        struct nlmsghdr *last = (void *)(b->msg.buf.p + b->msg.head);
        last->nlmsg_flags |= NLM_F_ACK;
    }
    put_mark(&b->msg, NFNL_MSG_BATCH_END);
    int rc = nl_request(s, &b->msg, NULL, NULL, err);
    nl_msg_fini(&b->msg);
    return rc < 0 ? error_wrap(err, "nftables table %s", b->table) : 0;
}

void nft_batch_abort(struct nft_batch *b) {
    nl_msg_fini(&b->msg);
}

void nft_message_begin(struct nft_batch *b, uint16_t type, uint16_t flags) {
    struct nfgenmsg g = {.nfgen_family = NFPROTO_IPV4, .version = NFNETLINK_V0};
    nl_msg_begin(&b->msg, (uint16_t)(NFNL_SUBSYS_NFTABLES << 8 | type), flags, &g, sizeof(g));
}

/* --- tables and chains ------------------------------------------------------------------------------------------ */

void nft_table_add(struct nft_batch *b) {
    nft_message_begin(b, NFT_MSG_NEWTABLE, NLM_F_CREATE);
    nl_put_str(&b->msg, NFTA_TABLE_NAME, b->table);
    nl_msg_end(&b->msg);
}

void nft_table_del(struct nft_batch *b) {
    nft_message_begin(b, NFT_MSG_DELTABLE, 0);
    nl_put_str(&b->msg, NFTA_TABLE_NAME, b->table);
    nl_msg_end(&b->msg);
}

void nft_chain_add(struct nft_batch *b, const char *name, const char *type, enum nft_hook hook, int priority) {
    static const uint32_t hooks[] = {NF_INET_PRE_ROUTING, NF_INET_LOCAL_IN, NF_INET_FORWARD, NF_INET_LOCAL_OUT,
                                     NF_INET_POST_ROUTING};
    struct nl_msg *m = &b->msg;
    nft_message_begin(b, NFT_MSG_NEWCHAIN, NLM_F_CREATE);
    nl_put_str(m, NFTA_CHAIN_TABLE, b->table);
    nl_put_str(m, NFTA_CHAIN_NAME, name);
    if (type) {
        nl_nest_begin(m, NFTA_CHAIN_HOOK);
        nl_put_be32(m, NFTA_HOOK_HOOKNUM, hooks[hook]);
        nl_put_be32(m, NFTA_HOOK_PRIORITY, (uint32_t)priority);
        nl_nest_end(m);
        nl_put_be32(m, NFTA_CHAIN_POLICY, NF_ACCEPT);
        nl_put_str(m, NFTA_CHAIN_TYPE, type);
    }
    nl_msg_end(m);
}

void nft_chain_flush(struct nft_batch *b, const char *name) {
    nft_message_begin(b, NFT_MSG_DELRULE, 0);
    nl_put_str(&b->msg, NFTA_RULE_TABLE, b->table);
    nl_put_str(&b->msg, NFTA_RULE_CHAIN, name);
    nl_msg_end(&b->msg);
}

void nft_chain_del(struct nft_batch *b, const char *name) {
    nft_message_begin(b, NFT_MSG_DELCHAIN, 0);
    nl_put_str(&b->msg, NFTA_CHAIN_TABLE, b->table);
    nl_put_str(&b->msg, NFTA_CHAIN_NAME, name);
    nl_msg_end(&b->msg);
}

/* --- sets ------------------------------------------------------------------------------------------------------- */

void nft_set_message(struct nft_batch *b, const char *name, const struct nft_set_shape *s) {
    struct nl_msg *m = &b->msg;
    nft_message_begin(b, NFT_MSG_NEWSET, NLM_F_CREATE);
    nl_put_str(m, NFTA_SET_TABLE, b->table);
    nl_put_str(m, NFTA_SET_NAME, name);
    nl_put_be32(m, NFTA_SET_FLAGS, s->flags);
    nl_put_be32(m, NFTA_SET_KEY_TYPE, s->key_type);
    nl_put_be32(m, NFTA_SET_KEY_LEN, s->key_bytes);
    if (s->flags & NFT_SET_MAP) {
        nl_put_be32(m, NFTA_SET_DATA_TYPE, s->data_type);
        nl_put_be32(m, NFTA_SET_DATA_LEN, s->data_bytes);
    }
    if (s->flags & NFT_SET_TIMEOUT)
        nl_put_be64(m, NFTA_SET_TIMEOUT, (uint64_t)s->timeout_s * 1000);
    if (s->size) {
        nl_nest_begin(m, NFTA_SET_DESC);
        nl_put_be32(m, NFTA_SET_DESC_SIZE, s->size);
        nl_nest_end(m);
    }
    nl_put_be32(m, NFTA_SET_ID, s->id);
    nl_msg_end(m);
}

void nft_set_add(struct nft_batch *b, const char *name, uint32_t key_type, uint32_t key_bytes, bool verdicts) {
    struct nft_set_shape s = {.flags = verdicts ? NFT_SET_MAP : 0,
                              .key_type = key_type,
                              .key_bytes = key_bytes,
                              .data_type = NFT_DATA_TYPE_VERDICT,
                              .data_bytes = 0,
                              .id = b->next_set_id++};
    nft_set_message(b, name, &s);
}

void nft_set_flush(struct nft_batch *b, const char *name) {
    nft_message_begin(b, NFT_MSG_DELSETELEM, 0);
    nl_put_str(&b->msg, NFTA_SET_ELEM_LIST_TABLE, b->table);
    nl_put_str(&b->msg, NFTA_SET_ELEM_LIST_SET, name);
    nl_msg_end(&b->msg);
}

/* --- elements --------------------------------------------------------------------------------------------------- */

struct nft_key nft_key_service(uint32_t ip_be, uint8_t protocol, uint16_t port) {
    struct nft_key k = {.n = 12};
    uint16_t port_be = htons(port);
    memcpy(k.bytes, &ip_be, 4);
    k.bytes[4] = protocol;
    memcpy(k.bytes + 8, &port_be, 2);
    return k;
}

struct nft_key nft_key_port(uint8_t protocol, uint16_t port) {
    struct nft_key k = {.n = 8};
    uint16_t port_be = htons(port);
    k.bytes[0] = protocol;
    memcpy(k.bytes + 4, &port_be, 2);
    return k;
}

struct nft_key nft_key_pair(uint32_t a_be, uint32_t b_be) {
    struct nft_key k = {.n = 8};
    memcpy(k.bytes, &a_be, 4);
    memcpy(k.bytes + 4, &b_be, 4);
    return k;
}

void nft_put_value(struct nl_msg *m, uint16_t attr, const void *value, size_t n) {
    nl_nest_begin(m, attr);
    nl_put(m, NFTA_DATA_VALUE, value, n);
    nl_nest_end(m);
}

void nft_put_verdict(struct nl_msg *m, uint16_t attr, int code, const char *chain) {
    nl_nest_begin(m, attr);
    nl_nest_begin(m, NFTA_DATA_VERDICT);
    nl_put_be32(m, NFTA_VERDICT_CODE, (uint32_t)code);
    if (chain)
        nl_put_str(m, NFTA_VERDICT_CHAIN, chain);
    nl_nest_end(m);
    nl_nest_end(m);
}

static void element_message(struct nft_batch *b, uint16_t type, uint16_t flags, const char *set,
                            const struct nft_key *key, const char *chain) {
    struct nl_msg *m = &b->msg;
    nft_message_begin(b, type, flags);
    nl_put_str(m, NFTA_SET_ELEM_LIST_TABLE, b->table);
    nl_put_str(m, NFTA_SET_ELEM_LIST_SET, set);
    nl_nest_begin(m, NFTA_SET_ELEM_LIST_ELEMENTS);
    nl_nest_begin(m, NFTA_LIST_ELEM);
    nft_put_value(m, NFTA_SET_ELEM_KEY, key->bytes, key->n);
    if (chain)
        nft_put_verdict(m, NFTA_SET_ELEM_DATA, NFT_GOTO, chain);
    nl_nest_end(m);
    nl_nest_end(m);
    nl_msg_end(m);
}

void nft_element_add(struct nft_batch *b, const char *set, const struct nft_key *key, const char *chain) {
    element_message(b, NFT_MSG_NEWSETELEM, NLM_F_CREATE, set, key, chain);
}

void nft_element_del(struct nft_batch *b, const char *set, const struct nft_key *key) {
    element_message(b, NFT_MSG_DELSETELEM, 0, set, key, NULL);
}
