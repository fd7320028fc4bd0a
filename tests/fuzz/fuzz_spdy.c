/* SPDY frames in pieces: the first byte of the input is the size of the pieces. */
#include <stdlib.h>

#include "net/spdy.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static size_t sum;

static int on_syn(void *arg, uint32_t id, const struct http_header *headers, size_t n, bool fin) {
    REQUIRE(n <= SPDY_HEADERS_MAX);
    for (size_t i = 0; i < n; i++) { /* every byte is touched */
        for (size_t k = 0; k < headers[i].name.n; k++)
            sum += (unsigned char)headers[i].name.p[k];
        for (size_t k = 0; k < headers[i].value.n; k++)
            sum += (unsigned char)headers[i].value.p[k];
    }
    return 0;
}
static int on_data(void *arg, uint32_t id, struct str data, bool fin) {
    sum += data.n ? (unsigned char)data.p[data.n - 1] : 0;
    return 0;
}
static int on_id(void *arg, uint32_t id) {
    return 0;
}
static int on_goaway(void *arg) {
    return 0;
}
static const struct spdy_decoder_ops ops = {on_syn, on_data, on_id, on_id, on_goaway};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (!size)
        return 0;
    size_t piece = data[0] ? data[0] : 1;
    struct spdy_decoder *d = spdy_decoder_new(&ops, NULL);
    int rc = 0;
    for (size_t at = 1; at < size && !rc; at += piece) {
        size_t n = MIN(piece, size - at);
        char *copy = xmalloc(n);
        memcpy(copy, data + at, n);
        rc = spdy_decoder_feed(d, str_n(copy, n));
        free(copy);
    }
    spdy_decoder_free(d);
    return 0;
}
