/* Protobuf bodies of several kinds: malformed ones are refused with a message, accepted ones are JSON that decodes or not. */
#include <stdint.h>

#include "api/protobuf.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const char *const types[] = {"apps/v1.Deployment", "core/v1.Pod", "core/v1.Service",
                                        "apiextensions.k8s.io/v1.CustomResourceDefinition", "core/v1.ConfigMap"};
    const struct schema *s = schema_builtin();
    if (size == 0 || size > KiB(64))
        return 0;
    cleanup_arena struct arena *a = arena_new(0, MiB(256));
    struct error err = {0};
    const struct schema_type *t = schema_type_find(s, str_c(types[data[0] % ARRAY_LEN(types)]));
    REQUIRE(t);
    struct json *v = protobuf_object(a, t, str_n((const char *)data + 1, size - 1), 100000, &err);
    REQUIRE(v || (err.code < 0 && err.msg[0]));
    if (v)
        (void)schema_decode(a, t, v, NULL, &err);
    return 0;
}
