/* JSON: what parses is written, and reads back as the same tree; the copy equals it; no text breaks the parser. */
#include <stdint.h>
#include <stdlib.h>

#include "codec/json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void ignore(void *arg, struct str path) {}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    cleanup_arena struct arena *a = arena_new(0, 0);
    cleanup_buf struct buf first = BUF_INIT, second = BUF_INIT, pretty = BUF_INIT;
    struct str text = str_n((const char *)data, size);
    struct json_limits limits = {.depth = JSON_DEPTH_MAX, .duplicate = ignore};
    struct error err = {0};
    struct json *v = json_parse(a, text, &limits, &err);
    if (!v) {
        REQUIRE(err.code < 0 && err.msg[0]);
        REQUIRE(!json_parse(a, text, NULL, NULL));
        return 0;
    }
    json_write(&first, v);
    REQUIRE(str_is_utf8(buf_str(&first)));
    struct json *again = json_parse(a, buf_str(&first), &limits, &err);
    REQUIRE(again && json_equal(v, again) && json_equal(json_copy(a, v), again));
    json_write(&second, again);
    REQUIRE(str_eq(buf_str(&first), buf_str(&second)));
    json_write_indent(&pretty, v, 2);
    REQUIRE(json_equal(v, json_parse(a, buf_str(&pretty), &limits, &err)));
    return 0;
}
