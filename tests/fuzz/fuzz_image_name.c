/* Image references: what is accepted is normal already when it is normalised again. */
#include <stdint.h>
#include <stdlib.h>

#include "runtime/image.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    cleanup_arena struct arena *a = arena_new(0, 0);
    struct str once, twice;
    struct error err = {0};
    if (image_name_normalize(a, str_n((const char *)data, size), &once, &err)) {
        REQUIRE(err.msg[0]);
        return 0;
    }
    REQUIRE(image_name_normalize(a, once, &twice, &err) == 0 && str_eq(once, twice));
    for (size_t i = 0; i < once.n; i++)
        REQUIRE(once.p[i] > ' ' && once.p[i] < 0x7f);
    return 0;
}
