/* Label and field selectors: what parses has a text that parses to the same, and matches without harm. */
#include <stdint.h>

#include "schema/schema.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void label(struct arena *a, struct str text, const struct json *labels) {
    struct error err = {0};
    struct label_selector *s = label_selector_parse(a, text, &err);
    REQUIRE(s ? err.code == 0 : err.code < 0 && err.msg[0]);
    if (!s)
        return;
    bool matches = label_selector_matches(s, labels);
    struct str again = label_selector_text(a, s);
    struct label_selector *t = label_selector_parse(a, again, &err);
    REQUIRE(t && label_selector_matches(t, labels) == matches && label_selector_empty(t) == label_selector_empty(s));
    REQUIRE(str_eq(label_selector_text(a, t), again));
    if (label_selector_empty(s))
        REQUIRE(matches);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct str text = str_n((const char *)data, size);
    cleanup_arena struct arena *a = arena_new(0, 0);
    struct error err = {0};
    if (size > KiB(64))
        return 0;
    const struct json *object = json_parse(
        a, STR("{\"metadata\":{\"name\":\"a\",\"labels\":{\"a\":\"b\",\"c\":\"5\"}},\"spec\":{\"nodeName\":\"a\"}}"),
        NULL, NULL);
    label(a, text, json_at(object, "metadata.labels"));
    label(a, text, NULL);
    const struct schema_resource *pods = schema_find_key(schema_builtin(), "pods");
    struct field_selector *f = field_selector_parse(a, pods, text, &err);
    REQUIRE(f || err.code < 0);
    if (f)
        (void)field_selector_matches(f, pods, object);
    return 0;
}
