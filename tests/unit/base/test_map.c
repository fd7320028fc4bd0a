#include "helper.h"

static void setting_and_getting(void **state) {
    cleanup_map struct map m = {0};
    int one = 1, two = 2;
    char key[] = "key";
    assert_null(map_get(&m, STR("key")));
    assert_null(map_del(&m, STR("key")));
    assert_null(map_set(&m, str_c(key), &one));
    key[0] = 'x'; /* it copied its key */
    assert_ptr_equal(map_get(&m, STR("key")), &one);
    assert_ptr_equal(map_set(&m, STR("key"), &two), &one);
    assert_ptr_equal(map_get(&m, STR("key")), &two);
    assert_int_equal(m.n, 1);
    map_set(&m, STR(""), &one);
    map_set(&m, str_n("a\0b", 3), &one);
    assert_ptr_equal(map_get(&m, STR("")), &one);
    assert_null(map_get(&m, str_n("a\0c", 3)));
    assert_ptr_equal(map_del(&m, STR("")), &one);
    assert_null(map_get(&m, STR("")));
}

#define KEYS 2000

/* Against a plain array as the model. */
static void random_operations(void **state) {
    cleanup_map struct map m = {0};
    static int values[KEYS];
    bool there[KEYS] = {0};
    size_t n = 0;
    uint64_t seed = 88172645463325252u;
    for (int step = 0; step < 200000; step++) {
        seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
        size_t k = seed % KEYS;
        char text[32];
        struct str key = str_n(text, (size_t)snprintf(text, sizeof(text), "key-%zu", k));
        if (seed >> 60 < 8) {
            void *was = map_set(&m, key, &values[k]);
            assert_ptr_equal(was, there[k] ? &values[k] : NULL);
            n += !there[k];
            there[k] = true;
        } else {
            void *was = map_del(&m, key);
            assert_ptr_equal(was, there[k] ? &values[k] : NULL);
            n -= there[k];
            there[k] = false;
        }
        assert_int_equal(m.n, n);
    }
    for (size_t k = 0; k < KEYS; k++) {
        char text[32];
        struct str key = str_n(text, (size_t)snprintf(text, sizeof(text), "key-%zu", k));
        assert_ptr_equal(map_get(&m, key), there[k] ? &values[k] : NULL);
    }
    size_t seen = 0;
    struct map_entry *e;
    for (size_t i = 0; (e = map_next(&m, &i)); seen++)
        assert_true(there[(int *)e->value - values]);
    assert_int_equal(seen, n);
}

static void an_empty_map(void **state) {
    struct map m = {0};
    size_t i = 0;
    assert_null(map_next(&m, &i));
    map_fini(&m);
    map_set(&m, STR("x"), &i);
    map_fini(&m);
    assert_int_equal(m.n, 0);
    assert_null(map_get(&m, STR("x")));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(setting_and_getting),
        cmocka_unit_test(random_operations),
        cmocka_unit_test(an_empty_map),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
