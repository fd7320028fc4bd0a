/* registries.yaml: whatever parses also answers where an image comes from. */
#include <stdint.h>
#include <stdlib.h>

#include "runtime/registry_config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const char *const names[] = {"busybox", "quay.io/rancher/x:1", "localhost:5000/a"};
    struct error err = {0};
    struct image_registries *r = image_registries_parse(str_n((const char *)data, size), &err);
    if (!r) {
        REQUIRE(err.msg[0] && err.code < 0);
        return 0;
    }
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        cleanup_arena struct arena *a = arena_new(0, 0);
        struct registry_endpoint e[REGISTRY_ENDPOINTS_MAX];
        struct image_name name;
        struct registry_url u;
        REQUIRE(image_name_parse(a, str_c(names[i]), &name, NULL) == 0);
        size_t n = registry_endpoints(r, a, &name, e);
        REQUIRE(n >= 1 && n <= REGISTRY_ENDPOINTS_MAX && !e[n - 1].is_mirror);
        for (size_t k = 0; k < n; k++)
            REQUIRE(registry_url_parse(e[k].base, &u));
    }
    image_registries_free(r);
    return 0;
}
