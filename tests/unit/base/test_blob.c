#include "helper.h"

static void kinds(void **state) {
    char text[] = "text";
    struct blob *copy = blob_new(str_c(text)), *taken = blob_take(xstrdup("mine"), 4),
                *fixed = blob_static(STR("fixed"));
    text[0] = 'x';
    assert_str(copy->bytes, "text");
    assert_str(taken->bytes, "mine");
    assert_str(fixed->bytes, "fixed");
    blob_unref(copy);
    blob_unref(taken);
    blob_unref(fixed);
    blob_unref(NULL);
}

static int released;

static void count(struct blob *b) {
    released++;
}

static void the_last_reference_releases(void **state) {
    struct blob b = {.bytes = STR("x"), .release = count};
    ref_init(&b.ref);
    assert_ptr_equal(blob_ref(&b), &b);
    blob_unref(&b);
    assert_int_equal(released, 0);
    blob_unref(&b);
    assert_int_equal(released, 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(kinds), cmocka_unit_test(the_last_reference_releases)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
