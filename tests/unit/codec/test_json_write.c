#include <math.h>

#include "helper.h"

static void round_trips(void **state) {
    static const char *const texts[] = {
        "null",
        "true",
        "false",
        "0",
        "-1",
        "9223372036854775807",
        "-9223372036854775808",
        "\"\"",
        "[]",
        "{}",
        "1.5",
        "{\"b\":1,\"a\":[true,null,{\"x\":\"y\"}],\"\":{}}",
        "\"plain text, longer than one word \xc3\xa9\xf0\x9f\x98\x80\"",
    };
    cleanup_arena struct arena *a = arena_new(0, 0);
    for (size_t i = 0; i < ARRAY_LEN(texts); i++)
        assert_text(a, tree(a, texts[i]), texts[i]);
}

/* As Go's encoder without HTML escaping. */
static void string_escapes(void **state) {
    static const struct {
        const char *bytes, *text;
    } cases[] = {
        {"\"\\/", "\"\\\"\\\\/\""},
        {"\b\f\n\r\t", "\"\\b\\f\\n\\r\\t\""},
        {"\x01\x1f\x7f", "\"\\u0001\\u001f\x7f\""},
        {"<a href=\"x\">&</a>", "\"<a href=\\\"x\\\">&</a>\""},
        {"\xe2\x80\xa8|\xe2\x80\xa9", "\"\\u2028|\\u2029\""},
        {"\xe2\x80\xa7\xe2\x82\xac", "\"\xe2\x80\xa7\xe2\x82\xac\""},
        {"0123456789abcdef\n0123456789abcdef", "\"0123456789abcdef\\n0123456789abcdef\""},
        {"01234567\"", "\"01234567\\\"\""},
        {"\xc3\xa9t\xc3\xa9 long enough for the fast way\\", "\"\xc3\xa9t\xc3\xa9 long enough for the fast way\\\\\""},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        cleanup_buf struct buf b = BUF_INIT;
        json_write_string(&b, str_c(cases[i].bytes));
        assert_string_equal(b.p, cases[i].text);
    }
    cleanup_buf struct buf b = BUF_INIT;
    json_write_string(&b, str_n("a\0b", 3));
    assert_string_equal(b.p, "\"a\\u0000b\"");
    buf_reset(&b);
    json_write_string(&b, STR_NULL);
    assert_string_equal(b.p, "\"\"");
}

static void every_string_reads_back(void **state) {
    cleanup_arena struct arena *a = arena_new(0, 0);
    char bytes[40];
    for (int c = 0; c < 128; c++) {
        for (size_t at = 0; at < 20; at++) {
            cleanup_buf struct buf b = BUF_INIT;
            memset(bytes, 'x', sizeof(bytes));
            bytes[at] = (char)c;
            json_write_string(&b, str_n(bytes, 20));
            struct json *v = json_parse(a, buf_str(&b), NULL, NULL);
            assert_true(str_eq(json_as_str(v), str_n(bytes, 20)));
        }
    }
}

/* Go's encoding/json: 'f' format but for exponents below -6 and from 21 on. */
static void numbers(void **state) {
    static const struct {
        double d;
        const char *text;
    } cases[] = {
        {0, "0"},
        {-0.0, "0"},
        {3, "3"},
        {0.1, "0.1"},
        {-2.5, "-2.5"},
        {1e20, "100000000000000000000"},
        {1e21, "1e+21"},
        {1.5e300, "1.5e+300"},
        {123456789.125, "123456789.125"},
        {0.000001, "0.000001"},
        {0.0000015, "0.0000015"},
        {1e-7, "1e-7"},
        {1.25e-9, "1.25e-9"},
        {1e-10, "1e-10"},
        {0.1 + 0.2, "0.30000000000000004"},
        {1.0 / 3, "0.3333333333333333"},
        {9007199254740992.0, "9007199254740992"},
        {99999999999991104.0, "99999999999991104"},
        {9223372036854775808.0, "9223372036854776000"},
        {-9223372036854775808.0, "-9223372036854776000"},
        {1.7976931348623157e308, "1.7976931348623157e+308"},
        {5e-324, "5e-324"},
        {2.2250738585072014e-308, "2.2250738585072014e-308"},
        {5.684341886080802e-14, "5.684341886080802e-14"}, /* a power of two: its interval is lopsided */
        {(double)NAN, "null"},
        {(double)INFINITY, "null"},
    };
    cleanup_arena struct arena *a = arena_new(0, 0);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        assert_text(a, json_double(a, cases[i].d), cases[i].text);
}

static void doubles_read_back_exactly(void **state) {
    uint64_t seed = 88172645463325252u;
    for (int i = 0; i < 20000; i++) {
        cleanup_arena struct arena *a = arena_new(0, 0);
        seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
        double d;
        memcpy(&d, &seed, sizeof(d));
        if (!isfinite(d))
            continue;
        struct json *v = tree(a, text(a, json_double(a, d)));
        assert_true(json_as_double(v, 0) == d);
    }
}

static void indented(void **state) {
    cleanup_arena struct arena *a = arena_new(0, 0);
    cleanup_buf struct buf b = BUF_INIT;
    json_write_indent(&b, tree(a, "{\"a\":[1,{\"b\":[]}],\"c\":{},\"d\":null}"), 4);
    assert_string_equal(b.p, "{\n    \"a\": [\n        1,\n        {\n            \"b\": []\n        }\n    ],\n"
                             "    \"c\": {},\n    \"d\": null\n}");
}

static void output_is_appended(void **state) {
    cleanup_arena struct arena *a = arena_new(0, 0);
    cleanup_buf struct buf b = BUF_INIT;
    buf_puts(&b, "x=");
    json_write(&b, tree(a, "[1]"));
    json_write(&b, NULL);
    assert_string_equal(b.p, "x=[1]null");
    assert_int_equal(b.n, 9);
}

static void a_full_buffer_fails(void **state) {
    cleanup_arena struct arena *a = arena_new(0, 0);
    struct json *v = tree(a, "{\"key\":[\"some\",\"text\",12345,true,1.5]}");
    size_t need = json_text(a, v).n;
    for (size_t limit = 1; limit <= need + 2; limit++) {
        cleanup_buf struct buf b;
        buf_init(&b, limit);
        json_write(&b, v);
        assert_int_equal(b.failed, limit < need);
        assert_true(b.n <= limit);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(round_trips),
        cmocka_unit_test(string_escapes),
        cmocka_unit_test(every_string_reads_back),
        cmocka_unit_test(numbers),
        cmocka_unit_test(doubles_read_back_exactly),
        cmocka_unit_test(indented),
        cmocka_unit_test(output_is_appended),
        cmocka_unit_test(a_full_buffer_fails),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
