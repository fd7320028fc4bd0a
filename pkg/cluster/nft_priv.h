/* Shared by nft.c and nft_rule.c. */
#pragma once

#include "cluster/nft.h"

#define NFT_DATA_TYPE_VERDICT 0xffffff00u

struct nft_set_shape {
    uint32_t flags, key_type, key_bytes, data_type, data_bytes, timeout_s, size, id;
};
void nft_message_begin(struct nft_batch *b, uint16_t type, uint16_t flags);
void nft_set_message(struct nft_batch *b, const char *name, const struct nft_set_shape *s);
void nft_put_value(struct nl_msg *m, uint16_t attr, const void *value, size_t n);
void nft_put_verdict(struct nl_msg *m, uint16_t attr, int code, const char *chain);
