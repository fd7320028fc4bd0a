#include "base/rand.h"

#include <sys/random.h>

#include "base/error.h"
#include "base/log.h"

void rand_bytes(void *out, size_t n) {
    char *p = out;
    while (n) {
        ssize_t got = getrandom(p, n, 0);
        if (got < 0) {
            if (errno == EINTR)
                continue;
            fatal("getrandom failed: errno %d", errno);
        }
        p += got;
        n -= (size_t)got;
    }
}

uint64_t rand_u64(void) {
    uint64_t v;
    rand_bytes(&v, sizeof(v));
    return v;
}

uint64_t rand_below(uint64_t bound) {
    uint64_t limit = UINT64_MAX - UINT64_MAX % bound, v;
    do
        v = rand_u64();
    while (v >= limit);
    return v % bound;
}

static const char hex[] = "0123456789abcdef";

void rand_uuid(char out[UUID_LEN + 1]) {
    unsigned char b[16];
    rand_bytes(b, sizeof(b));
    b[6] = (b[6] & 0x0f) | 0x40;
    b[8] = (b[8] & 0x3f) | 0x80;
    char *p = out;
    for (int i = 0; i < 16; i++) {
        if (i == 4 || i == 6 || i == 8 || i == 10)
            *p++ = '-';
        *p++ = hex[b[i] >> 4];
        *p++ = hex[b[i] & 15];
    }
    *p = 0;
}

void rand_hex(char *out, size_t hex_digits) {
    for (size_t i = 0; i < hex_digits; i++)
        out[i] = hex[rand_u64() & 15];
    out[hex_digits] = 0;
}

void rand_suffix(char *out, size_t n) {
    static const char alphabet[] = "bcdfghjklmnpqrstvwxz2456789";
    for (size_t i = 0; i < n; i++)
        out[i] = alphabet[rand_below(sizeof(alphabet) - 1)];
    out[n] = 0;
}
