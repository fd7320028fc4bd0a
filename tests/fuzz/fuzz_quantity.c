/* Quantities: the canonical form is the same quantity, and canonical. */
#include <stdint.h>
#include <stdlib.h>

#include "codec/quantity.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    cleanup_arena struct arena *a = arena_new(0, 0);
    struct str s = str_n((const char *)data, size);
    int64_t value, milli;
    if (!quantity_valid(s)) {
        REQUIRE(!quantity_canonical(a, s).p && !quantity_value(s, &value) && !quantity_milli(s, &milli));
        return 0;
    }
    struct str c = quantity_canonical(a, s);
    REQUIRE(quantity_valid(c) && quantity_cmp(s, c) == 0 && str_eq(quantity_canonical(a, c), c));
    REQUIRE(quantity_value(s, &value) && quantity_milli(s, &milli));
    int64_t again;
    REQUIRE(quantity_value(c, &again) && again == value);
    REQUIRE(value == 0 || milli == 0 || (value < 0) == (milli < 0));
    return 0;
}
