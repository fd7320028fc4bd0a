#include <stdlib.h>
#include <string.h>

#include <mbedtls/constant_time.h>
#include <mbedtls/sha1.h>
#include <mbedtls/sha256.h>

#include "net/pki.h"

struct sha256_state {
    mbedtls_sha256_context ctx;
};

void sha256(const void *data, size_t n, unsigned char out[32]) {
    mbedtls_sha256(data, n, out, 0);
}

struct sha256_state *sha256_new(void) {
    struct sha256_state *s = XNEW(struct sha256_state);
    mbedtls_sha256_init(&s->ctx);
    mbedtls_sha256_starts(&s->ctx, 0);
    return s;
}

void sha256_update(struct sha256_state *s, const void *data, size_t n) {
    mbedtls_sha256_update(&s->ctx, data, n);
}

void sha256_finish(struct sha256_state *s, unsigned char out[32]) {
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
