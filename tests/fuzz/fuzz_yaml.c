/* YAML: what parses is a JSON tree that is written as YAML which reads back as the same tree. */
#include <stdint.h>
#include <stdlib.h>

#include "codec/yaml.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int check(void *arg, struct json *doc) {
    cleanup_arena struct arena *a = arena_new(0, MiB(256));
    cleanup_buf struct buf text = BUF_INIT, sorted = BUF_INIT;
    struct json_limits limits = {.depth = JSON_DEPTH_MAX, .nodes = 100000};
    yaml_write(&text, doc);
    yaml_write_sorted(&sorted, doc);
    if (text.failed) /* a key or a value of more than the buffer's limit */
        return 0;
    REQUIRE(str_is_utf8(buf_str(&text)) && text.n == sorted.n);
    struct error err = {0};
    struct json *again = yaml_parse(a, buf_str(&text), &limits, &err);
    if (!again || !json_equal(doc, again))
        fatal("%s\n%.*s", err.msg, STR_ARG(buf_str(&text)));
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    cleanup_arena struct arena *a = arena_new(0, 0);
    struct json_limits limits = {.nodes = 20000};
    struct error err = {0};
    int rc = yaml_parse_all(a, str_n((const char *)data, size), &limits, check, NULL, &err);
    REQUIRE(rc == 0 || (rc == err.code && err.msg[0]));
    return 0;
}
