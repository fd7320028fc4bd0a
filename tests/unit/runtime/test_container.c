/* Containers as a user sees them: exit codes, environment, users, capabilities, mounts. */
#include "box.h"

static struct box box;
static struct sandbox *sandbox;

static int setup(void **state) {
    box_setup(&box);
    sandbox = box_sandbox(&box, "sb1");
    return 0;
}
static int teardown(void **state) {
    box_remove_sandbox(&box, sandbox);
    box_teardown(&box);
    return 0;
}

static void test_exit_code(void **state) {
    char *out;
    assert_int_equal(box_run(&box, sandbox, "exit 0", NULL), 0);
    assert_int_equal(box_run(&box, sandbox, "exit 42", NULL), 42);
    assert_int_equal(box_run(&box, sandbox, "echo hello; echo oops >&2; exit 3", &out), 3);
    assert_non_null(strstr(out, "hello\n"));
    assert_non_null(strstr(out, "oops\n"));
}

int main_tests(void);
int main_tests(void) {
    return 0;
}

static const struct CMUnitTest tests[] = {cmocka_unit_test_setup_teardown(test_exit_code, setup, teardown)};
BOX_MAIN(tests)
