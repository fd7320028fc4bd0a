#include "helper.h"

static void bytes_differ(void **state) {
    unsigned char a[64] = {0}, b[64] = {0};
    rand_bytes(a, sizeof(a));
    rand_bytes(b, sizeof(b));
    assert_memory_not_equal(a, b, sizeof(a));
    assert_true(rand_u64() != rand_u64());
}

static void bounds(void **state) {
    size_t seen[10] = {0};
    for (int i = 0; i < 10000; i++) {
        uint64_t v = rand_below(10);
        assert_true(v < 10);
        seen[v]++;
    }
    for (int i = 0; i < 10; i++)
        assert_in_range(seen[i], 700, 1300);
    assert_int_equal(rand_below(1), 0);
    assert_true(rand_below(UINT64_MAX) < UINT64_MAX);
}

static void uuids(void **state) {
    char a[UUID_LEN + 1], b[UUID_LEN + 1];
    rand_uuid(a);
    rand_uuid(b);
    assert_string_not_equal(a, b);
    assert_int_equal(strlen(a), 36);
    for (int i = 0; i < 36; i++)
        assert_true(i == 8 || i == 13 || i == 18 || i == 23 ? a[i] == '-' : strchr("0123456789abcdef", a[i]) != NULL);
    assert_int_equal(a[14], '4');
    assert_non_null(strchr("89ab", a[19]));
}

static void texts(void **state) {
    char out[41];
    rand_hex(out, 40);
    assert_int_equal(strspn(out, "0123456789abcdef"), 40);
    rand_suffix(out, 5);
    assert_int_equal(strlen(out), 5);
    assert_int_equal(strspn(out, "bcdfghjklmnpqrstvwxz2456789"), 5);
    rand_suffix(out, 0);
    assert_string_equal(out, "");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bytes_differ),
        cmocka_unit_test(bounds),
        cmocka_unit_test(uuids),
        cmocka_unit_test(texts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
