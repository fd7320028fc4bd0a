#include "helper.h"

static void appending(void **state) {
    cleanup_buf struct buf b = BUF_INIT;
    assert_string_equal(buf_str(&b).p, "");
    buf_puts(&b, "one");
    buf_putc(&b, ' ');
    buf_put_str(&b, STR("two"));
    buf_printf(&b, " %d", 3);
    buf_put(&b, NULL, 0);
    assert_string_equal(b.p, "one two 3");
    assert_int_equal(b.n, 9);
    for (int i = 0; i < 10000; i++)
        buf_printf(&b, "%d,", i);
    assert_int_equal(b.n, 9 + 48890);
    assert_int_equal(b.p[b.n], 0);
    assert_false(b.failed);
}

static void reserving(void **state) {
    cleanup_buf struct buf b = BUF_INIT;
    char *p = buf_reserve(&b, 100);
    assert_non_null(p);
    memset(p, 'x', 100);
    b.n += 100;
    p = buf_reserve(&b, 100000);
    assert_ptr_equal(p, b.p + 100);
    for (int i = 0; i < 100; i++)
        assert_int_equal(b.p[i], 'x');
}

static void the_limit(void **state) {
    cleanup_buf struct buf b;
    buf_init(&b, 10);
    buf_puts(&b, "12345");
    buf_puts(&b, "678901"); /* dropped whole */
    assert_true(b.failed);
    assert_string_equal(b.p, "12345");
    buf_puts(&b, "67890"); /* it still fits, but the failure stays to be seen */
    assert_true(b.failed);
    assert_int_equal(b.n, 10);
    assert_null(buf_reserve(&b, SIZE_MAX));
    assert_null(buf_reserve(&b, SIZE_MAX - 5));
    buf_reset(&b);
    assert_false(b.failed);
    assert_string_equal(b.p, "");
    buf_printf(&b, "%s", "12345678901");
    assert_true(b.failed);
    assert_int_equal(b.n, 0);
}

static void consuming(void **state) {
    cleanup_buf struct buf b = BUF_INIT;
    buf_puts(&b, "abcdef");
    buf_consume(&b, 2);
    assert_string_equal(b.p, "cdef");
    buf_consume(&b, 0);
    assert_int_equal(b.n, 4);
    buf_consume(&b, 99);
    assert_int_equal(b.n, 0);
    buf_puts(&b, "x");
    assert_string_equal(b.p, "x");
}

static void stealing(void **state) {
    cleanup_buf struct buf b = BUF_INIT;
    size_t n = 5;
    char *empty = buf_steal(&b, &n);
    assert_string_equal(empty, "");
    assert_int_equal(n, 0);
    buf_puts(&b, "mine");
    char *text = buf_steal(&b, NULL);
    assert_string_equal(text, "mine");
    assert_int_equal(b.n, 0);
    buf_puts(&b, "again");
    assert_string_equal(b.p, "again");
    free(text);
    free(empty);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(appending), cmocka_unit_test(reserving), cmocka_unit_test(the_limit),
        cmocka_unit_test(consuming), cmocka_unit_test(stealing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
