/* JSON Patch, Merge Patch and pointers: the first line is the document, the second the patch. */
#include <stdint.h>
#include <stdlib.h>

#include "codec/patch.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    cleanup_arena struct arena *a = arena_new(0, MiB(512));
    struct str first = str_n((const char *)data, size), second = STR("");
    str_cut(first, '\n', &first, &second);
    struct json *doc = json_parse(a, first, NULL, NULL), *patch = json_parse(a, second, NULL, NULL);
    json_pointer(doc, second);
    if (!doc || !patch)
        return 0;
    struct json *before = json_copy(a, doc);
    struct error err = {0};
    struct json *out = json_patch(a, doc, patch, &err);
    if (!out)
        REQUIRE(err.code < 0 && err.msg[0]);
    REQUIRE(json_equal(doc, before));
    struct json *merged = json_merge_patch(a, doc, patch);
    REQUIRE(json_equal(doc, before));
    REQUIRE(json_equal(merged, json_merge_patch(a, merged, patch))); /* a merge patch is idempotent */
    cleanup_buf struct buf text = BUF_INIT;
    if (out)
        json_write(&text, out);
    return 0;
}
