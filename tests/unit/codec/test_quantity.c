#include "helper.h"

static void canonical_forms(void **state) {
    static const struct {
        const char *text, *canonical;
        int64_t value, milli;
    } cases[] = {
        {"0", "0", 0, 0},
        {"-0", "0", 0, 0},
        {"0Mi", "0", 0, 0},
        {"1", "1", 1, 1000},
        {"+2", "2", 2, 2000},
        {"0.5", "500m", 1, 500},
        {".5", "500m", 1, 500},
        {"5.", "5", 5, 5000},
        {"000.100", "100m", 1, 100},
        {"1000m", "1", 1, 1000},
        {"1500m", "1500m", 2, 1500},
        {"-1.5", "-1500m", -2, -1500},
        {"1.2345", "1234500u", 2, 1235},
        {"0.9n", "1n", 1, 1},
        {"1e-20", "1e-9", 1, 1},
        {"1000000", "1M", 1000000, 1000000000},
        {"1234", "1234", 1234, 1234000},
        {"12e6", "12e6", 12000000, 12000000000},
        {"1E3", "1e3", 1000, 1000000},
        {"1e+3", "1e3", 1000, 1000000},
        {"1500e-3", "1500e-3", 2, 1500},
        {"1E", "1E", 1000000000000000000, INT64_MAX},
        {"1000E", "1e21", INT64_MAX, INT64_MAX},
        {"18446744073709551616", "18446744073709551616", INT64_MAX, INT64_MAX},
        {"-18446744073709551616", "-18446744073709551616", INT64_MIN, INT64_MIN},
        {"1Ki", "1Ki", 1024, 1024000},
        {"1024Mi", "1Gi", 1 << 30, INT64_C(1073741824000)},
        {"1.5Gi", "1536Mi", 1610612736, INT64_C(1610612736000)},
        {"123456789Ki", "123456789Ki", INT64_C(126419751936), INT64_C(126419751936000)},
        {"512", "512", 512, 512000},
        {"0.5Ki", "512", 512, 512000},
        {"0.1Ki", "102400m", 103, 102400},
        {"1.1Ki", "1126400m", 1127, 1126400},
        {"0.0000000001Ki", "103n", 1, 1},
        {"1Ei", "1Ei", INT64_C(1) << 60, INT64_MAX},
        {"8Ei", "9223372036854775807", INT64_MAX, INT64_MAX},
        {"100Ei", "9223372036854775807", INT64_MAX, INT64_MAX},
    };
    cleanup_arena struct arena *a = arena_new(0, 0);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        int64_t value, milli;
        struct str s = str_c(cases[i].text);
        assert_true(quantity_valid(s));
        assert_string_equal(quantity_canonical(a, s).p, cases[i].canonical);
        assert_true(quantity_value(s, &value) && quantity_milli(s, &milli));
        if (value != cases[i].value || milli != cases[i].milli)
            fail_msg("%s: value %lld, milli %lld", s.p, (long long)value, (long long)milli);
        struct str again = quantity_canonical(a, quantity_canonical(a, s));
        assert_string_equal(again.p, cases[i].canonical);
        assert_int_equal(quantity_cmp(s, again), 0);
    }
}

static void bad_syntax(void **state) {
    static const char *const bad[] = {"",      ".",     "-",    "m",     "Ki",   "1 ",   " 1",
                                      "1ki",   "1KI",   "1Kib", "1g",    "1e",   "1e+",  "1e1.5",
                                      "1e+-3", "1e-+3", "1..2", "1.2.3", "0x10", "1,5",  "--1",
                                      "+-1",   "1mm",   "1i",   "1Mi2",  "one",  "1e81", "1000000E99"};
    cleanup_arena struct arena *a = arena_new(0, 0);
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        int64_t v = 5;
        if (quantity_valid(str_c(bad[i])))
            fail_msg("accepted: %s", bad[i]);
        assert_false(quantity_value(str_c(bad[i]), &v));
        assert_int_equal(v, -1);
        assert_null(quantity_canonical(a, str_c(bad[i])).p);
    }
    char digits[QUANTITY_TEXT_MAX + 2];
    memset(digits, '0', sizeof(digits));
    assert_true(quantity_valid(str_n(digits, QUANTITY_TEXT_MAX)));
    assert_false(quantity_valid(str_n(digits, QUANTITY_TEXT_MAX + 1)));
}

static void comparing(void **state) {
    static const struct {
        const char *a, *b;
        int order;
    } cases[] = {
        {"1", "1000m", 0},
        {"1Ki", "1k", 1},
        {"1", "2", -1},
        {"-1", "1", -1},
        {"-2", "-1", -1},
        {"0", "-0", 0},
        {"1n", "0", 1},
        {"1Gi", "1e9", 1},
        {"1e30", "1e31", -1},
        {"0.1", "100m", 0},
        {"1.0000000001", "1.000000001", 0},
        {"-0", "1n", -1},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        int ab = quantity_cmp(str_c(cases[i].a), str_c(cases[i].b)),
            ba = quantity_cmp(str_c(cases[i].b), str_c(cases[i].a));
        assert_int_equal((ab > 0) - (ab < 0), cases[i].order);
        assert_int_equal((ba > 0) - (ba < 0), -cases[i].order);
    }
}

static void from_numbers(void **state) {
    cleanup_arena struct arena *a = arena_new(0, 0);
    assert_string_equal(quantity_from_milli(a, 0).p, "0");
    assert_string_equal(quantity_from_milli(a, 250).p, "250m");
    assert_string_equal(quantity_from_milli(a, 4000).p, "4");
    assert_string_equal(quantity_from_milli(a, -1500).p, "-1500m");
    assert_string_equal(quantity_from_milli(a, INT64_MIN).p, "-9223372036854775808m");
    assert_string_equal(quantity_from_bytes(a, 0).p, "0");
    assert_string_equal(quantity_from_bytes(a, 512).p, "512");
    assert_string_equal(quantity_from_bytes(a, 1536).p, "1536");
    assert_string_equal(quantity_from_bytes(a, 4 << 20).p, "4Mi");
    assert_string_equal(quantity_from_bytes(a, INT64_C(8127000576)).p, "7936524Ki");
    assert_string_equal(quantity_from_bytes(a, INT64_MAX).p, "9223372036854775807");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(canonical_forms),
        cmocka_unit_test(bad_syntax),
        cmocka_unit_test(comparing),
        cmocka_unit_test(from_numbers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
