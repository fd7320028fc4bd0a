/* WebSocket frames in pieces: the first byte of the input is the size of the pieces. */
#include <stdlib.h>

#include "net/ws.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool in_message;

static int on_piece(void *arg, enum ws_opcode op, struct str data, bool first, bool last) {
    REQUIRE(op == WS_TEXT || op == WS_BINARY);
    REQUIRE(first == !in_message);
    in_message = !last;
    return 0;
}
static int on_control(void *arg, enum ws_opcode op, struct str data) {
    REQUIRE(data.n <= 125);
    return op == WS_CLOSE ? WS_NORMAL : 0;
}
static const struct ws_decoder_ops ops = {on_piece, on_control};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct ws_decoder d;
    if (!size)
        return 0;
    size_t piece = data[0] ? data[0] : 1;
    in_message = false;
    ws_decoder_init(&d, &ops, NULL);
    int rc = 0;
    for (size_t at = 1; at < size && !rc; at += piece) {
        size_t n = MIN(piece, size - at);
        char *copy = xmalloc(n);
        memcpy(copy, data + at, n);
        rc = ws_decoder_feed(&d, copy, n);
        free(copy);
    }
    return 0;
}
