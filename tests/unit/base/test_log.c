#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "helper.h"

/* What fn writes to stderr. */
static char *written(void (*fn)(void), int *status) {
    int fds[2];
    assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
    pid_t pid = fork();
    if (pid == 0) {
        dup2(fds[1], STDERR_FILENO);
        fn();
        _exit(0);
    }
    close(fds[1]);
    struct buf b = BUF_INIT;
    char chunk[1000];
    for (ssize_t n; (n = read(fds[0], chunk, sizeof(chunk))) > 0;)
        buf_put(&b, chunk, (size_t)n);
    close(fds[0]);
    assert_int_equal(waitpid(pid, status, 0), pid);
    return buf_steal(&b, NULL);
}

static void some_lines(void) {
    log_info("node", "pod %s started", "web");
    log_warn("api", "two\nlines\x1b[31m");
    log_debug("api", "not shown");
    log_set_level(LOG_DEBUG);
    log_debug("api", "shown");
    log_set_level(LOG_ERROR);
    log_warn("api", "not shown");
    log_error("api", "shown too");
}

static void lines(void **state) {
    int status;
    cleanup_free char *text = written(some_lines, &status);
    struct str rest = str_c(text);
    static const struct {
        const char *level, *tail;
    } expected[] = {{"INFO[", "Z] [node] pod web started"},
                    {"WARN[", "Z] [api] two lines?[31m"},
                    {"DEBU[", "Z] [api] shown"},
                    {"ERRO[", "Z] [api] shown too"}};
    for (size_t i = 0; i < ARRAY_LEN(expected); i++) {
        struct str line = str_split(&rest, '\n');
        assert_true(str_starts(line, str_c(expected[i].level)));
        assert_true(str_ends(line, str_c(expected[i].tail)));
    }
    assert_int_equal(rest.n, 0);
}

static void a_long_line(void) {
    char text[10000];
    memset(text, 'x', sizeof(text) - 1);
    text[sizeof(text) - 1] = 0;
    log_info("x", "%s", text);
}

static void long_lines_are_cut_but_end(void **state) {
    int status;
    cleanup_free char *text = written(a_long_line, &status);
    size_t n = strlen(text);
    assert_in_range(n, 1000, 2048);
    assert_int_equal(text[n - 1], '\n');
    assert_ptr_equal(strchr(text, '\n'), text + n - 1);
}

static void die(void) {
    REQUIRE(1 + 1 == 3);
}

static void broken_requirements_abort(void **state) {
    int status;
    cleanup_free char *text = written(die, &status);
    assert_true(WIFSIGNALED(status));
    assert_non_null(strstr(text, "requirement failed: 1 + 1 == 3"));
}

static void levels(void **state) {
    assert_true(log_enabled(LOG_INFO));
    assert_false(log_enabled(LOG_DEBUG));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines),
        cmocka_unit_test(long_lines_are_cut_but_end),
        cmocka_unit_test(broken_requirements_abort),
        cmocka_unit_test(levels),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
