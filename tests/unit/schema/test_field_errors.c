#include "helper.h"

static void words(void **state) {
    cleanup_arena struct arena *a = arena_new(0, 0);
    struct field_errors e;
    field_errors_init(&e, a);
    assert_true(str_eq_c(field_errors_text(&e), ""));
    field_error_add(&e, FIELD_REQUIRED, "spec.containers", NULL, NULL);
    assert_true(str_eq_c(field_errors_text(&e), "spec.containers: Required value"));
    field_error_add(&e, FIELD_INVALID, "spec.replicas", tree(a, "-1"), "must be greater than or equal to %d", 0);
    field_error_add(&e, FIELD_NOT_SUPPORTED, "spec.type", tree(a, "'X'"), "supported values: %s", "\"A\", \"B\"");
    field_error_add(&e, FIELD_DUPLICATE, "spec.ports[1].name", tree(a, "'http'"), NULL);
    field_error_add(&e, FIELD_FORBIDDEN, "spec.x", tree(a, "1"), "not now");
    field_error_add(&e, FIELD_TOO_LONG, "metadata.name", NULL, "may not be more than 63 bytes");
    field_error_add(&e, FIELD_INVALID, "spec", NULL, "no");
    static const char *const messages[] = {
        "spec.containers: Required value",
        "spec.replicas: Invalid value: -1: must be greater than or equal to 0",
        "spec.type: Unsupported value: \"X\": supported values: \"A\", \"B\"",
        "spec.ports[1].name: Duplicate value: \"http\"",
        "spec.x: Forbidden: not now",
        "metadata.name: Too long: may not be more than 63 bytes",
        "spec: Invalid value: null: no",
    };
    assert_int_equal(e.list.n, ARRAY_LEN(messages));
    for (size_t i = 0; i < e.list.n; i++)
        assert_string_equal(e.list.items[i].message.p, messages[i]);
    struct str text = field_errors_text(&e);
    assert_true(str_starts(text, STR("[spec.containers: Required value, spec.replicas: Invalid")));
    assert_true(str_ends(text, STR("null: no]")));
    assert_string_equal(field_error_reason(FIELD_INVALID), "FieldValueInvalid");
    assert_string_equal(field_error_reason(FIELD_NOT_SUPPORTED), "FieldValueNotSupported");
    field_errors_fini(&e);
}

static void limits(void **state) {
    cleanup_arena struct arena *a = arena_new(0, 0);
    struct field_errors e;
    field_errors_init(&e, a);
    for (int i = 0; i < 500; i++)
        field_error_add(&e, FIELD_REQUIRED, "x", NULL, NULL);
    assert_int_equal(e.list.n, 100);
    assert_true(str_eq_c(field_errors_text(&e), "x: Required value")); /* said once */
    field_errors_fini(&e);
    char big[10000];
    memset(big, 'a', sizeof(big));
    field_errors_init(&e, a);
    field_error_add(&e, FIELD_INVALID, "x", json_str(a, str_n(big, sizeof(big))), "too big");
    assert_true(e.list.items[0].message.n < 5000);
    field_errors_fini(&e);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(words), cmocka_unit_test(limits)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
