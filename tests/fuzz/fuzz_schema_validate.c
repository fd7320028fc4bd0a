/*
 * Any JSON as an object of any kind: validated new and as a change of itself, shown as a row of a table. The first two
 * bytes choose the kind. A row has a cell for each column; errors name a field or the object.
 */
#include <stdint.h>

#include "schema/schema.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void use(struct arena *a, const struct schema_resource *r, const struct json *v, const struct json *old) {
    struct field_errors errs;
    field_errors_init(&errs, a);
    schema_validate(r, v, old, STR(""), &errs);
    for (size_t i = 0; i < errs.list.n; i++)
        REQUIRE(errs.list.items[i].message.n > errs.list.items[i].field.n);
    (void)field_errors_text(&errs);
    field_errors_fini(&errs);
    const struct json *row = schema_table_row(a, r, v, 1700000000);
    REQUIRE(json_len(json_get_c(row, "cells")) == json_len(schema_table_columns(a, r)));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const struct schema *s = schema_builtin();
    if (size < 2 || size > KiB(32))
        return 0;
    const struct schema_resource *r = schema_resource_at(s, (data[0] | data[1] << 8) % schema_resources_n(s));
    cleanup_arena struct arena *a = arena_new(0, MiB(256));
    struct json_limits limits = {.nodes = 5000};
    const struct json *v = json_parse(a, str_n((const char *)data + 2, size - 2), &limits, NULL);
    if (!v)
        return 0;
    use(a, r, v, NULL);
    use(a, r, v, v);
    struct json *decoded = r->type ? schema_decode(a, r->type, v, NULL, NULL) : NULL;
    if (decoded) {
        schema_default(a, r, decoded);
        use(a, r, decoded, v);
    }
    return 0;
}
