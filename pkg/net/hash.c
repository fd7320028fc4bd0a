#include <stdlib.h>
#include <string.h>

#include <mbedtls/constant_time.h>
#include <mbedtls/sha1.h>
#include <mbedtls/sha256.h>

#include "net/pki.h"
#include "net/sha256_x86.h"

/* Image layers are gigabytes: where the processor knows SHA-256 it is used, else mbedTLS. */
struct sha256_state {
    bool fast;
    uint32_t h[8];
    uint64_t total;
    unsigned char block[64]; /* what is left of the last piece: total % 64 bytes */
    mbedtls_sha256_context ctx;
};

void sha256(const void *data, size_t n, unsigned char out[32]) {
    mbedtls_sha256(data, n, out, 0);
}

struct sha256_state *sha256_new(void) {
    static const uint32_t initial[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                        0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
    struct sha256_state *s = XNEW(struct sha256_state);
    s->fast = sha256_x86_usable();
    memcpy(s->h, initial, sizeof(initial));
    mbedtls_sha256_init(&s->ctx);
    mbedtls_sha256_starts(&s->ctx, 0);
    return s;
}

static void fast_update(struct sha256_state *s, const unsigned char *p, size_t n) {
    size_t have = s->total % 64;
    s->total += n;
    if (have) {
        size_t take = MIN(n, 64 - have);
        memcpy(s->block + have, p, take);
        p += take;
        n -= take;
        if (have + take < 64)
            return;
        sha256_x86_blocks(s->h, s->block, 1);
    }
    sha256_x86_blocks(s->h, p, n / 64);
    memcpy(s->block, p + n / 64 * 64, n % 64);
}

void sha256_update(struct sha256_state *s, const void *data, size_t n) {
    if (n == 0)
        return;
    if (s->fast)
        fast_update(s, data, n);
    else
        mbedtls_sha256_update(&s->ctx, data, n);
}

static void fast_finish(struct sha256_state *s, unsigned char out[32]) {
    unsigned char tail[72] = {0x80};
    uint64_t bits = s->total * 8;
    size_t pad = 64 - (s->total + 8) % 64; /* 1 to 64: the mark, zeros, then the length */
    for (size_t i = 0; i < 8; i++)
        tail[pad + i] = (unsigned char)(bits >> (56 - 8 * i));
    fast_update(s, tail, pad + 8);
    for (size_t i = 0; i < 32; i++)
        out[i] = (unsigned char)(s->h[i / 4] >> (24 - 8 * (i % 4)));
}

void sha256_finish(struct sha256_state *s, unsigned char out[32]) {
    if (s->fast)
        fast_finish(s, out);
    else
        mbedtls_sha256_finish(&s->ctx, out);
    mbedtls_sha256_free(&s->ctx);
    free(s);
}

void sha256_hex(const void *data, size_t n, char out[65]) {
    static const char digits[] = "0123456789abcdef";
    unsigned char sum[32];
    sha256(data, n, sum);
    for (size_t i = 0; i < sizeof(sum); i++) {
        out[2 * i] = digits[sum[i] >> 4];
        out[2 * i + 1] = digits[sum[i] & 15];
    }
    out[64] = 0;
}

void sha1(const void *data, size_t n, unsigned char out[20]) {
    mbedtls_sha1(data, n, out);
}

bool secret_eq(struct str a, struct str b) {
    return a.n == b.n && (a.n == 0 || mbedtls_ct_memcmp(a.p, b.p, a.n) == 0);
}
