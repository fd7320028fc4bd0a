#include "helper.h"

static void grammar(void **state) {
    static const char *const good[] = {
        "null",
        "true",
        "false",
        "0",
        "-0",
        "12",
        "-1",
        "1.5",
        "1e5",
        "1E+5",
        "1e-5",
        "0.1",
        "-0.0",
        "\"\"",
        "[]",
        "{}",
        " [ ] ",
        "\t{\n}\r",
        "[1,2]",
        "[[],[[]]]",
        "{\"a\":1}",
        "{\"\":0}",
        "{\"a\":{\"b\":[{}]}}",
        "[\"a\",null]",
        "\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u0041\"",
        "[1 , 2\n]",
        "\"\x7f\"",
    };
    static const char *const bad[] = {
        "",
        " ",
        "nul",
        "nullx",
        "True",
        "01",
        "-",
        "+1",
        ".5",
        "1.",
        "1.e1",
        "1e",
        "1e+",
        "0x1",
        "1 2",
        "[",
        "]",
        "[1",
        "[1,",
        "[1,]",
        "[,1]",
        "[1 2]",
        "[1}",
        "{",
        "}",
        "{\"a\"}",
        "{\"a\":}",
        "{\"a\":1,}",
        "{a:1}",
        "{'a':1}",
        "{\"a\" 1}",
        "{\"a\":1]",
        "\"",
        "\"a",
        "'a'",
        "\"\\x\"",
        "\"\\u12\"",
        "\"\\u12g4\"",
        "\"\n\"",
        "\"\t\"",
        "\"\\",
        "[]]",
        "{}{}",
        "//c\n1",
        "NaN",
        "Infinity",
        "-Infinity",
        "[1,,2]",
        "{,}",
        "{\"a\":1,,\"b\":2}",
        "\xef\xbb\xbf{}",
        "1e400",
        "-1e400",
        "[\"a\" \"b\"]",
        "tru",
        "fals",
        "\v1",
        "{1:2}",
        "{null:1}",
        "--1",
        "1-1",
        "\"\x01\"",
    };
    cleanup_arena struct arena *a = arena_new(0, 0);
    for (size_t i = 0; i < ARRAY_LEN(good); i++)
        tree(a, good[i]);
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct error err = {0};
        if (json_parse(a, str_c(bad[i]), NULL, &err))
            fail_msg("accepted: %s", bad[i]);
        assert_int_equal(err.code, -EINVAL);
        assert_contains(err.msg, "line ");
    }
}

static void values(void **state) {
    cleanup_arena struct arena *a = arena_new(0, 0);
    struct json *v =
        tree(a, "{\"s\":\"x\\ty\",\"i\":-7,\"d\":2.5,\"t\":true,\"f\":false,\"n\":null,\"a\":[1,\"b\"],\"o\":{}}");
    assert_int_equal(json_len(v), 8);
    assert_true(str_eq_c(json_str_at(v, "s"), "x\ty"));
    assert_int_equal(json_int_at(v, "i", 0), -7);
    assert_true(json_as_double(json_at(v, "d"), 0) == 2.5);
    assert_true(json_bool_at(v, "t", false));
    assert_false(json_bool_at(v, "f", true));
    assert_true(json_is(json_at(v, "n"), JSON_NULL));
    assert_int_equal(json_len(json_at(v, "a")), 2);
    assert_true(json_is(json_at(v, "o"), JSON_OBJECT));
}

static void the_text_need_not_stay(void **state) {
    cleanup_arena struct arena *a = arena_new(0, 0);
    char *text = strdup("{\"key\":\"value\"}");
    struct json *v = json_parse(a, str_c(text), NULL, NULL);
    memset(text, 'x', strlen(text));
    free(text);
    assert_text(a, v, "{\"key\":\"value\"}");
    assert_int_equal(json_at(v, "key")->s.p[5], 0); /* NUL-terminated */
    assert_int_equal(v->members[0].key.p[3], 0);
}

static void a_length_ends_the_text(void **state) {
    cleanup_arena struct arena *a = arena_new(0, 0);
    assert_non_null(json_parse(a, str_n("12}", 2), NULL, NULL));
    assert_null(json_parse(a, str_n("[1]", 2), NULL, NULL));
    assert_null(json_parse(a, str_n("1\0", 2), NULL, NULL));
    assert_null(json_parse(a, str_n("\"a\0b\"", 5), NULL, NULL));
    assert_null(json_parse(a, str_n(NULL, 0), NULL, NULL));
}

static void integers_keep_64_bits(void **state) {
    cleanup_arena struct arena *a = arena_new(0, 0);
    struct json *v = tree(a, "[9007199254740993,9223372036854775807,-9223372036854775808,9223372036854775808,"
                             "-9223372036854775809,123456789012345678901234567890]");
    static const enum json_type types[] = {JSON_INT, JSON_INT, JSON_INT, JSON_DOUBLE, JSON_DOUBLE, JSON_DOUBLE};
    for (size_t i = 0; i < ARRAY_LEN(types); i++)
        assert_int_equal(json_item(v, i)->type, types[i]);
    assert_true(json_item(v, 0)->i == INT64_C(9007199254740993));
    assert_true(json_item(v, 1)->i == INT64_MAX);
    assert_true(json_item(v, 2)->i == INT64_MIN);
    assert_true(json_item(v, 3)->d == 9223372036854775808.0);
    assert_true(json_item(v, 5)->d == 123456789012345678901234567890.0);
}

/* The quick way for small numbers and strtod() must agree. */
static void doubles_are_rounded_correctly(void **state) {
    static const char *const texts[] = {
        "0.1",
        "1.5e-5",
        "123.456",
        "1e22",
        "1e23",
        "9007199254740993.0",
        "4.35",
        "0.000001",
        "1e-22",
        "1e-23",
        "5e-324",
        "1.7976931348623157e308",
        "2.2250738585072011e-308",
        "0.30000000000000004",
        "12345678901234567890.5",
        "1e-400",
        "0e999999999999",
        "100000000000000000000000000000000e-30",
        "8.41",
        "1.00000000000000011102230246251565",
    };
    cleanup_arena struct arena *a = arena_new(0, 0);
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        struct json *v = tree(a, texts[i]);
        assert_int_equal(v->type, JSON_DOUBLE);
        if (v->d != strtod(texts[i], NULL))
            fail_msg("%s became %.17g", texts[i], v->d);
    }
}

static void strings_are_strict_utf8(void **state) {
    static const char *const good[] = {
        "\"\xc3\xa9\"",         "\"\xe2\x82\xac\"", "\"\xf0\x9f\x98\x80\"",       "\"\xed\x9f\xbf\"",
        "\"\xf4\x8f\xbf\xbf\"", "\"\xef\xbf\xbf\"", "\"0123456\xc3\xa9\xc3\xa9\""};
    static const char *const bad[] = {"\"\x80\"",
                                      "\"\xc3\"",
                                      "\"\xc0\x80\"",
                                      "\"\xc1\xbf\"",
                                      "\"\xe0\x80\x80\"",
                                      "\"\xed\xa0\x80\"",
                                      "\"\xf0\x80\x80\x80\"",
                                      "\"\xf4\x90\x80\x80\"",
                                      "\"\xf5\x80\x80\x80\"",
                                      "\"\xff\"",
                                      "\"\xe2\x82\"",
                                      "\"\xe2",
                                      "{\"\xff\":1}",
                                      "\"01234567\xfe\""};
    cleanup_arena struct arena *a = arena_new(0, 0);
    for (size_t i = 0; i < ARRAY_LEN(good); i++)
        assert_text(a, tree(a, good[i]), good[i]);
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct error err = {0};
        assert_null(json_parse(a, str_c(bad[i]), NULL, &err));
        assert_contains(err.msg, i == 11 ? "UTF-8" : "");
    }
}

static void escapes(void **state) {
    static const struct {
        const char *text, *bytes;
    } cases[] = {
        {"\"\\u00e9\"", "\xc3\xa9"},
        {"\"\\u20AC!\"", "\xe2\x82\xac!"},
        {"\"\\ud83d\\ude00\"", "\xf0\x9f\x98\x80"},
        {"\"\\uD83D\"", "\xef\xbf\xbd"}, /* a lone half becomes U+FFFD, as in Go */
        {"\"\\ude00x\"", "\xef\xbf\xbdx"},
        {"\"\\ud83d\\u0041\"", "\xef\xbf\xbd"
                               "A"},
        {"\"\\ud83d\\ud83d\\ude00\"", "\xef\xbf\xbd\xf0\x9f\x98\x80"},
        {"\"a\\/b\\\\c\"", "a/b\\c"},
        {"\"0123456789\\n0123456789\\u00410123456789\"", "0123456789\n0123456789A0123456789"},
    };
    cleanup_arena struct arena *a = arena_new(0, 0);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        assert_string_equal(json_as_str(tree(a, cases[i].text)).p, cases[i].bytes);
    struct str nul = json_as_str(tree(a, "\"a\\u0000b\""));
    assert_int_equal(nul.n, 3);
    assert_memory_equal(nul.p, "a\0b", 4);
}

static void errors_tell_where(void **state) {
    static const struct {
        const char *text, *message;
    } cases[] = {
        {"{\n  \"a\": 1,\n  \"b\" 2\n}", "line 3, column 7: invalid character '2' after object key"},
        {"[1, 2", "line 1, column 6: unexpected end of JSON input"},
        {"{\"a\":\"x\\ny\", \"b\": tru}", "line 1, column 22: invalid character '}' in literal"},
        {"\n\n\x01", "line 3, column 1: invalid character '\\x01' looking for beginning of value"},
        {"[\"a\nb\"]", "line 1, column 4: invalid character '\\n' in string literal"},
    };
    cleanup_arena struct arena *a = arena_new(0, 0);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct error err = {0};
        assert_null(json_parse(a, str_c(cases[i].text), NULL, &err));
        assert_contains(err.msg, cases[i].message);
    }
}

static void depth_is_limited(void **state) {
    cleanup_arena struct arena *a = arena_new(0, 0);
    char deep[2 * 1000 + 1];
    for (int depth = 126; depth <= 130; depth++) {
        memset(deep, '[', (size_t)depth);
        memset(deep + depth, ']', (size_t)depth);
        struct error err = {0};
        struct json *v = json_parse(a, str_n(deep, 2 * (size_t)depth), NULL, &err);
        assert_int_equal(v != NULL, depth <= 128);
        assert_int_equal(err.code, depth <= 128 ? 0 : -E2BIG);
    }
    memset(deep, '[', 1000);
    memset(deep + 1000, ']', 1000);
    struct json_limits limits = {.depth = 100000};
    assert_null(json_parse(a, str_n(deep, 2000), &limits, NULL)); /* never beyond JSON_DEPTH_MAX */
    assert_non_null(json_parse(a, str_n(deep + 1000 - JSON_DEPTH_MAX, 2 * JSON_DEPTH_MAX), &limits, NULL));
}

static void the_number_of_values_is_limited(void **state) {
    cleanup_arena struct arena *a = arena_new(0, 0);
    struct json_limits limits = {.nodes = 4};
    struct error err = {0};
    assert_non_null(json_parse(a, STR("[1,2,3]"), &limits, NULL));
    assert_null(json_parse(a, STR("[1,2,3,4]"), &limits, &err));
    assert_int_equal(err.code, -E2BIG);
}

static void a_full_arena_is_an_error(void **state) {
    cleanup_arena struct arena *a = arena_new(0, KiB(8));
    cleanup_buf struct buf b = BUF_INIT;
    struct error err = {0};
    buf_puts(&b, "[0");
    for (int i = 0; i < 1000; i++)
        buf_puts(&b, ",1");
    buf_puts(&b, "]");
    assert_null(json_parse(a, buf_str(&b), NULL, &err));
    assert_int_equal(err.code, -E2BIG);
    buf_reset(&b);
    for (int i = 0; i < 9000; i++)
        buf_putc(&b, ' ');
    assert_null(json_parse(a, buf_str(&b), NULL, &err));
    assert_int_equal(err.code, -E2BIG);
}

static void note(void *arg, struct str path) {
    buf_put_str(arg, path);
    buf_putc(arg, ';');
}

static void duplicates(void **state) {
    cleanup_arena struct arena *a = arena_new(0, 0);
    cleanup_buf struct buf seen = BUF_INIT;
    struct json_limits limits = {.duplicate = note, .arg = &seen};
    const char *text =
        "{\"spec\":{\"a\":[{},{\"b\":1,\"c\":2,\"b\":3,\"b\":4}]},\"x\":[[{\"y\":1,\"y\":2}]],\"spec\":5}";
    struct error err = {0};
    assert_null(json_parse(a, str_c(text), NULL, &err));
    assert_contains(err.msg, "duplicate field \"spec.a[1].b\"");
    assert_contains(err.msg, "line 1, column 31");
    struct json *v = json_parse(a, str_c(text), &limits, &err);
    assert_text(a, v, "{\"spec\":5,\"x\":[[{\"y\":2}]]}");
    assert_string_equal(seen.p, "spec.a[1].b;spec.a[1].b;x[0][0].y;spec;");
}

/* Objects large enough for the index, with and without a duplicate. */
static void duplicates_in_large_objects(void **state) {
    for (int n = 2; n < 3000; n = n * 3 / 2 + 1) {
        cleanup_arena struct arena *a = arena_new(0, 0);
        cleanup_buf struct buf b = BUF_INIT, seen = BUF_INIT;
        struct json_limits limits = {.duplicate = note, .arg = &seen};
        buf_puts(&b, "{");
        for (int i = 0; i < n; i++)
            buf_printf(&b, "\"key%d\":%d,", i, i);
        size_t end = b.n - 1;
        assert_int_equal(json_len(json_parse(a, str_printf(a, "%.*s}", (int)end, b.p), NULL, NULL)), n);
        buf_printf(&b, "\"key%d\":-1}", n / 2);
        assert_null(json_parse(a, buf_str(&b), NULL, NULL));
        struct json *v = json_parse(a, buf_str(&b), &limits, NULL);
        assert_int_equal(json_len(v), n);
        assert_int_equal(json_int_at(v, str_printf(a, "key%d", n / 2).p, 0), -1);
        assert_string_equal(seen.p, str_printf(a, "key%d;", n / 2).p);
    }
}

static void large_documents(void **state) {
    cleanup_arena struct arena *a = arena_new(0, 0);
    cleanup_buf struct buf b = BUF_INIT;
    buf_puts(&b, "[");
    for (int i = 0; i < 50000; i++)
        buf_printf(&b, "%s{\"i\":%d,\"s\":\"item %d\"}", i ? "," : "", i, i);
    buf_puts(&b, "]");
    struct json *v = json_parse(a, buf_str(&b), NULL, NULL);
    assert_int_equal(json_len(v), 50000);
    assert_int_equal(json_int_at(json_item(v, 49999), "i", 0), 49999);
    struct str again = json_text(a, v);
    assert_true(str_eq(again, buf_str(&b)));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(grammar),
        cmocka_unit_test(values),
        cmocka_unit_test(the_text_need_not_stay),
        cmocka_unit_test(a_length_ends_the_text),
        cmocka_unit_test(integers_keep_64_bits),
        cmocka_unit_test(doubles_are_rounded_correctly),
        cmocka_unit_test(strings_are_strict_utf8),
        cmocka_unit_test(escapes),
        cmocka_unit_test(errors_tell_where),
        cmocka_unit_test(depth_is_limited),
        cmocka_unit_test(the_number_of_values_is_limited),
        cmocka_unit_test(a_full_arena_is_an_error),
        cmocka_unit_test(duplicates),
        cmocka_unit_test(duplicates_in_large_objects),
        cmocka_unit_test(large_documents),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
