/*
 * Any JSON against the Pod, and as a patch of one: what decodes is canonical (decoding it again changes nothing), so
 * it is after defaults, and a merged object is decoded without harm.
 */
#include <stdint.h>

#include "schema/schema.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void count(void *arg, struct str text) {
    REQUIRE(str_starts(text, STR("unknown field \"")));
    ++*(size_t *)arg;
}

static struct str decode_twice(struct arena *a, const struct schema_type *t, const struct json *v) {
    struct json *again = schema_decode(a, t, v, NULL, NULL);
    struct str text = json_text(a, v);
    REQUIRE(again && str_eq(json_text(a, again), text));
    return text;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    cleanup_arena struct arena *a = arena_new(0, MiB(256));
    struct error err = {0};
    size_t unknown = 0;
    struct schema_decode opt = {SCHEMA_UNKNOWN_REPORT, count, &unknown};
    const struct schema_resource *pods = schema_find_key(schema_builtin(), "pods");
    struct json_limits limits = {.nodes = 20000};
    if (size > KiB(64))
        return 0;
    const struct json *in = json_parse(a, str_n((const char *)data, size), &limits, NULL);
    if (!in)
        return 0;
    struct json *pod = schema_decode(a, pods->type, in, &opt, &err);
    REQUIRE(pod ? err.code == 0 : err.code < 0 && err.msg[0]);
    if (pod) {
        decode_twice(a, pods->type, pod);
        schema_default(a, pods, pod);
        decode_twice(a, pods->type, pod);
    }
    const struct json *original =
        json_parse(a,
                   STR("{\"metadata\":{\"finalizers\":[\"a\",\"b\"]},\"spec\":{\"containers\":"
                       "[{\"name\":\"a\"},{\"name\":\"b\",\"ports\":[{\"containerPort\":1}]}]}}"),
                   NULL, NULL);
    struct json *merged = schema_strategic_merge(a, pods, pod ? pod : original, in, &err);
    if (merged)
        (void)schema_decode(a, pods->type, merged, NULL, NULL);
    merged = schema_strategic_merge(a, pods, original, in, &err);
    if (merged)
        (void)schema_decode(a, pods->type, merged, NULL, NULL);
    return 0;
}
