#include "helper.h"

static void comparing(void **state) {
    assert_true(str_eq(STR("a"), STR("a")));
    assert_false(str_eq(STR("a"), STR("ab")));
    assert_true(str_eq(STR_NULL, STR("")));
    assert_true(str_eq_c(str_n("a\0b", 1), "a"));
    assert_false(str_eq(str_n("a\0b", 3), str_n("a\0c", 3)));
    assert_true(str_eq_nocase(STR("Content-Type"), STR("content-TYPE")));
    assert_false(str_eq_nocase(STR("a["), STR("a{"))); /* 32 apart, but no letters */
    assert_true(str_cmp(STR("a"), STR("b")) < 0);
    assert_true(str_cmp(STR("ab"), STR("a")) > 0);
    assert_true(str_cmp(STR("a\x80"), STR("ab")) > 0); /* bytes are unsigned */
    assert_int_equal(str_cmp(STR_NULL, STR("")), 0);
    assert_true(str_starts(STR("prefix"), STR("pre")) && str_starts(STR("x"), STR("")) &&
                !str_starts(STR("p"), STR("pre")));
    assert_true(str_ends(STR("a.go"), STR(".go")) && !str_ends(STR("go"), STR(".go")) && str_ends(STR_NULL, STR("")));
}

static void searching(void **state) {
    struct str s = STR("a/b/c");
    assert_int_equal(str_index(s, '/', 0), 1);
    assert_int_equal(str_index(s, '/', 2), 3);
    assert_int_equal(str_index(s, '/', 4), -1);
    assert_int_equal(str_index(s, '/', 99), -1);
    assert_int_equal(str_rindex(s, '/'), 3);
    assert_int_equal(str_rindex(s, 'x'), -1);
    assert_int_equal(str_index(STR_NULL, 'x', 0), -1);
    assert_int_equal(str_find(s, STR("b/")), 2);
    assert_int_equal(str_find(s, STR("x")), -1);
    assert_int_equal(str_find(s, STR("")), 0);
    assert_int_equal(str_find(STR("a"), STR("ab")), -1);
}

static void cutting(void **state) {
    struct str before = STR("kept"), after = STR("kept");
    assert_str(str_skip(STR("abc"), 1), "bc");
    assert_str(str_skip(STR("abc"), 9), "");
    assert_str(str_trim(STR(" \t\r\n a b \v\f")), "a b");
    assert_str(str_trim(STR("   ")), "");
    assert_false(str_cut(STR("abc"), ':', &before, &after));
    assert_str(before, "kept");
    assert_true(str_cut(STR("a:b:c"), ':', &before, &after));
    assert_str(before, "a");
    assert_str(after, "b:c");
    assert_true(str_cut(STR(":"), ':', &before, &after));
    assert_int_equal(before.n + after.n, 0);
    assert_true(str_cut(STR("x=y"), '=', NULL, NULL));
}

static void splitting_sees_every_piece(void **state) {
    static const struct {
        const char *text;
        size_t pieces;
        const char *last;
    } cases[] = {{"a,b,c", 3, "c"}, {"a", 1, "a"}, {"", 1, ""}, {",", 2, ""}, {"a,,b,", 4, ""}};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct str rest = str_c(cases[i].text), piece = STR_NULL;
        size_t n = 0;
        for (; rest.p; n++)
            piece = str_split(&rest, ',');
        assert_int_equal(n, cases[i].pieces);
        assert_str(piece, cases[i].last);
    }
}

static void numbers(void **state) {
    static const struct {
        const char *text;
        bool fine;
        int64_t value;
    } cases[] = {
        {"0", true, 0},
        {"-5", true, -5},
        {"007", true, 7},
        {"9223372036854775807", true, INT64_MAX},
        {"-9223372036854775808", true, INT64_MIN},
        {"-0", true, 0},
        {"9223372036854775808", false, 0},
        {"-9223372036854775809", false, 0},
        {"99999999999999999999", false, 0},
        {"", false, 0},
        {"-", false, 0},
        {"+1", false, 0},
        {" 1", false, 0},
        {"1 ", false, 0},
        {"1x", false, 0},
        {"--1", false, 0},
        {"0x1", false, 0},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        int64_t v = 77;
        assert_int_equal(str_to_i64(str_c(cases[i].text), &v), cases[i].fine);
        assert_true(v == (cases[i].fine ? cases[i].value : 77));
    }
    uint64_t u = 77;
    assert_true(str_to_u64(STR("18446744073709551615"), &u) && u == UINT64_MAX);
    assert_false(str_to_u64(STR("18446744073709551616"), &u));
    assert_false(str_to_u64(STR("-1"), &u));
    assert_false(str_to_u64(STR_NULL, &u));
}

static void copies(void **state) {
    cleanup_arena struct arena *a = arena_new(0, 0);
    char text[] = "Text";
    struct str s = str_dup(a, str_c(text)), l = str_lower(a, str_c(text));
    text[0] = 'x';
    assert_str(s, "Text");
    assert_str(l, "text");
    assert_int_equal(s.p[4], 0);
    assert_non_null(str_dup(a, STR_NULL).p);
    assert_str(str_printf(a, "%.*s=%d", STR_ARG(STR("key-long")), 5), "key-long=5");
}

static void hashes(void **state) {
    assert_true(str_hash(STR("abc")) == str_hash(str_n("abcd", 3)));
    assert_true(str_hash(STR("abc")) != str_hash(STR("abd")));
    assert_true(str_hash(STR("")) == str_hash(STR_NULL));
    assert_true(str_hash(str_n("a\0\0", 2)) != str_hash(str_n("a\0\0", 3)));
    size_t low_bits[64] = {0}; /* evenly spread */
    for (int i = 0; i < 6400; i++) {
        char key[32];
        int n = snprintf(key, sizeof(key), "default/pod-%d", i);
        low_bits[str_hash(str_n(key, (size_t)n)) & 63]++;
    }
    for (size_t i = 0; i < 64; i++)
        assert_in_range(low_bits[i], 40, 180);
}

static void utf8(void **state) {
    static const char *const good[] = {
        "", "abc", "\xc3\xa9", "\xe2\x82\xac", "\xf0\x9f\x98\x80", "\xed\x9f\xbf", "\xf4\x8f\xbf\xbf", "\xef\xbf\xbf"};
    static const char *const bad[] = {"\x80",         "\xc3",         "\xc0\x80",
                                      "\xe0\x80\x80", "\xed\xa0\x80", "\xf4\x90\x80\x80",
                                      "\xff",         "a\xe2\x82",    "\xf8\x88\x80\x80\x80"};
    for (size_t i = 0; i < ARRAY_LEN(good); i++)
        assert_true(str_is_utf8(str_c(good[i])));
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_false(str_is_utf8(str_c(bad[i])));
    assert_true(str_is_utf8(str_n("a\0b", 3)));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(comparing), cmocka_unit_test(searching),
        cmocka_unit_test(cutting),   cmocka_unit_test(splitting_sees_every_piece),
        cmocka_unit_test(numbers),   cmocka_unit_test(copies),
        cmocka_unit_test(hashes),    cmocka_unit_test(utf8),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
