#include "helper.h"

static void messages(void **state) {
    struct error err = {0};
    assert_int_equal(error_set(&err, -EINVAL, "bad %s", "thing"), -EINVAL);
    assert_int_equal(err.code, -EINVAL);
    assert_string_equal(err.msg, "bad thing");
    assert_int_equal(error_sys(&err, -ENOENT, "/x/%d", 5), -ENOENT);
    assert_string_equal(err.msg, "/x/5: No such file or directory");
    assert_int_equal(error_wrap(&err, "reading %s", "y"), -ENOENT);
    assert_string_equal(err.msg, "reading y: /x/5: No such file or directory");
}

static void no_error_wanted(void **state) {
    assert_int_equal(error_set(NULL, -EINVAL, "x"), -EINVAL);
    assert_int_equal(error_sys(NULL, -EPERM, "x"), -EPERM);
    assert_true(error_wrap(NULL, "x") < 0);
}

static void long_messages_are_cut(void **state) {
    struct error err = {0};
    char text[2000];
    memset(text, 'x', sizeof(text) - 1);
    text[sizeof(text) - 1] = 0;
    error_set(&err, -EINVAL, "%s", text);
    assert_int_equal(strlen(err.msg), sizeof(err.msg) - 1);
    error_wrap(&err, "head");
    assert_int_equal(strlen(err.msg), sizeof(err.msg) - 1);
    assert_int_equal(strncmp(err.msg, "head: xxx", 9), 0);
    error_wrap(&err, "%s", text);
    error_sys(&err, -ENOENT, "%s", text);
    assert_int_equal(strlen(err.msg), sizeof(err.msg) - 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(messages),
        cmocka_unit_test(no_error_wanted),
        cmocka_unit_test(long_messages_are_cut),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
