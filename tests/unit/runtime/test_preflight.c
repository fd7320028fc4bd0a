/* Every check says what it found, and every one that did not pass says what to do. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/preflight.h"

static void test_all(void **state) {
    struct preflight_check checks[64];
    size_t n = preflight_run(checks, 64);
    bool overlay = false;
    assert_true(n > 12 && n < 64);
    for (size_t i = 0; i < n; i++) {
        printf("%-22s %d %s | %s\n", checks[i].name, (int)checks[i].result, checks[i].detail, checks[i].remedy);
        assert_true(checks[i].detail[0] != 0);
        assert_int_equal(checks[i].result == PREFLIGHT_OK, checks[i].remedy[0] == 0);
        overlay = overlay || strcmp(checks[i].name, "overlayfs") == 0;
    }
    assert_true(overlay);
}

static void test_room(void **state) {
    struct preflight_check checks[3];
    assert_int_equal(preflight_run(checks, 3), 3);
    assert_int_equal(preflight_run(checks, 0), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_all), cmocka_unit_test(test_room)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
