#include "helper.h"

static void vectors(void **state) {
    static const struct {
        const char *bytes, *text, *url;
    } cases[] = {
        {"", "", ""},
        {"f", "Zg==", "Zg"},
        {"fo", "Zm8=", "Zm8"},
        {"foo", "Zm9v", "Zm9v"},
        {"foob", "Zm9vYg==", "Zm9vYg"},
        {"fooba", "Zm9vYmE=", "Zm9vYmE"},
        {"foobar", "Zm9vYmFy", "Zm9vYmFy"},
        {"\xfb\xff\xbf", "+/+/", "-_-_"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        cleanup_buf struct buf text = BUF_INIT, url = BUF_INIT, back = BUF_INIT, url_back = BUF_INIT;
        base64_encode(&text, cases[i].bytes, strlen(cases[i].bytes));
        base64url_encode(&url, cases[i].bytes, strlen(cases[i].bytes));
        assert_true(str_eq_c(buf_str(&text), cases[i].text));
        assert_true(str_eq_c(buf_str(&url), cases[i].url));
        assert_int_equal(base64_decode(&back, buf_str(&text)), 0);
        assert_int_equal(base64url_decode(&url_back, buf_str(&url)), 0);
        assert_true(str_eq_c(buf_str(&back), cases[i].bytes));
        assert_true(str_eq_c(buf_str(&url_back), cases[i].bytes));
    }
}

static void all_lengths_and_bytes(void **state) {
    unsigned char bytes[256];
    for (size_t i = 0; i < sizeof(bytes); i++)
        bytes[i] = (unsigned char)(i * 167 + 13);
    for (size_t n = 0; n <= sizeof(bytes); n++) {
        cleanup_buf struct buf text = BUF_INIT, back = BUF_INIT;
        base64_encode(&text, bytes, n);
        assert_int_equal(text.n, (n + 2) / 3 * 4);
        assert_int_equal(base64_decode(&back, buf_str(&text)), 0);
        assert_true(str_eq(buf_str(&back), str_n((char *)bytes, n)));
    }
}

static void bad_text_leaves_the_output_alone(void **state) {
    static const char *const bad[] = {"Z",        "Zg",    "Zg=",  "Zg===",     "====", "=",
                                      "Zm9vY===", "Zm9v!", "Zm-v", "Zm9v Zm9v", "Z=g=", "Zm9v\x80mFy"};
    static const char *const bad_url[] = {"Z", "Zm9vY", "Zg=", "Zm+v", "Zm/v", "Zm9v\nZm9v", "Zh", "Zm9"};
    cleanup_buf struct buf out = BUF_INIT;
    buf_puts(&out, "kept");
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_int_equal(base64_decode(&out, str_c(bad[i])), -EINVAL);
    for (size_t i = 0; i < ARRAY_LEN(bad_url); i++)
        assert_int_equal(base64url_decode(&out, str_c(bad_url[i])), -EINVAL);
    assert_string_equal(out.p, "kept");
    assert_int_equal(out.n, 4);
}

static void padding_of_the_url_alphabet_is_accepted(void **state) {
    cleanup_buf struct buf out = BUF_INIT;
    assert_int_equal(base64url_decode(&out, STR("Zg==")), 0);
    assert_string_equal(out.p, "f");
}

static void line_breaks_are_ignored(void **state) {
    cleanup_buf struct buf out = BUF_INIT;
    assert_int_equal(base64_decode(&out, STR("Zm9v\r\nYm\nFy\n")), 0);
    assert_string_equal(out.p, "foobar");
}

static void a_limit_is_an_error(void **state) {
    cleanup_buf struct buf out;
    buf_init(&out, 4);
    assert_int_equal(base64_decode(&out, STR("Zm9vYmFy")), -E2BIG);
    base64_encode(&out, "foobar", 6);
    assert_true(out.failed);
    assert_int_equal(out.n, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(vectors),
        cmocka_unit_test(all_lengths_and_bytes),
        cmocka_unit_test(bad_text_leaves_the_output_alone),
        cmocka_unit_test(padding_of_the_url_alphabet_is_accepted),
        cmocka_unit_test(line_breaks_are_ignored),
        cmocka_unit_test(a_limit_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
