/* gzip, zstd and plain streams: pushed whole and in small pieces, the same comes out. */
#include <stdint.h>
#include <stdlib.h>

#include "codec/inflate.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct heard {
    uint64_t hash, n;
};

static int take(void *arg, struct str bytes, struct error *err) {
    struct heard *h = arg;
    REQUIRE(bytes.n && bytes.n <= INFLATE_PIECE);
    for (size_t i = 0; i < bytes.n; i++)
        h->hash = (h->hash ^ (unsigned char)bytes.p[i]) * 0x100000001b3u;
    h->n += bytes.n;
    return 0;
}

static int run(const uint8_t *data, size_t size, size_t step, struct heard *h) {
    static const struct inflate_limits limits = {.output_bytes = MiB(8), .window_log = 20};
    struct inflate *z = inflate_new(&limits, take, h);
    struct error err = {0};
    int rc = 0;
    for (size_t at = 0; at < size && rc == 0; at += step)
        rc = inflate_push(z, str_n((const char *)data + at, MIN(step, size - at)), &err);
    if (rc == 0)
        rc = inflate_end(z, &err);
    REQUIRE(rc == err.code && (rc == 0 || err.msg[0]));
    REQUIRE(h->n <= MiB(8) && (rc || inflate_bytes_in(z) == size));
    inflate_free(z);
    return rc;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct heard whole = {0}, pieces = {0};
    int a = run(data, size, size ? size : 1, &whole), b = run(data, size, 13, &pieces);
    REQUIRE((a == 0) == (b == 0));
    REQUIRE(a || (whole.hash == pieces.hash && whole.n == pieces.n));
    return 0;
}
