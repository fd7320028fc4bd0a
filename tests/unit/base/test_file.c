#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "helper.h"

static char dir[200];

static int set_up(void **state) {
    const char *tmp = getenv("TEST_TMP");
    snprintf(dir, sizeof(dir), "%s/base-file.XXXXXX", tmp ? tmp : "/tmp");
    return mkdtemp(dir) ? 0 : -1;
}

static int tear_down(void **state) {
    return dir_remove_all(dir, NULL);
}

static const char *in(const char *name) {
    static char path[300];
    snprintf(path, sizeof(path), "%s/%s", dir, name);
    return path;
}

static size_t entries(void) {
    FILE *f = fopen(in("probe"), "we");
    fclose(f);
    struct stat st;
    size_t n = stat(dir, &st) == 0 ? (size_t)st.st_nlink : 0;
    unlink(in("probe"));
    return n;
}

static void writing_and_reading(void **state) {
    cleanup_buf struct buf b = BUF_INIT;
    struct error err = {0};
    struct stat st;
    mode_t mask = umask(077);
    assert_int_equal(file_write_atomic(in("f"), STR("one"), 0644, &err), 0);
    umask(mask);
    assert_int_equal(stat(in("f"), &st), 0);
    assert_int_equal(st.st_mode & 07777, 0644); /* whatever the umask */
    assert_int_equal(file_write_replace(in("f"), STR("two"), 0600, &err), 0);
    assert_int_equal(file_read(in("f"), &b, &err), 0);
    assert_string_equal(b.p, "two");
    assert_int_equal(file_read(in("f"), &b, &err), 0); /* appended */
    assert_string_equal(b.p, "twotwo");
    assert_int_equal(stat(in("f"), &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    assert_true(file_exists(in("f")));
    assert_false(file_exists(in("none")));
    assert_int_equal(entries(), 2); /* no subdirectories: nothing else was left */
}

static void large_files(void **state) {
    cleanup_buf struct buf b = BUF_INIT, back = BUF_INIT;
    for (int i = 0; i < 40000; i++)
        buf_printf(&b, "line %d\n", i);
    assert_int_equal(file_write_replace(in("f"), buf_str(&b), 0600, NULL), 0);
    assert_int_equal(file_read(in("f"), &back, NULL), 0);
    assert_true(str_eq(buf_str(&b), buf_str(&back)));
    assert_int_equal(back.p[back.n], 0);
}

static void reading_has_a_limit(void **state) {
    struct error err = {0};
    assert_int_equal(file_write_replace(in("f"), STR("12345"), 0600, NULL), 0);
    for (size_t limit = 4; limit <= 6; limit++) {
        cleanup_buf struct buf b;
        buf_init(&b, limit);
        assert_int_equal(file_read(in("f"), &b, &err), limit < 5 ? -E2BIG : 0);
    }
}

static void failures_name_the_file(void **state) {
    cleanup_buf struct buf b = BUF_INIT;
    struct error err = {0};
    assert_int_equal(file_read(in("none"), &b, &err), -ENOENT);
    assert_non_null(strstr(err.msg, "none: No such file"));
    assert_int_equal(file_write_atomic(in("no/such/f"), STR("x"), 0600, &err), -ENOENT);
    assert_int_equal(file_put(in("none"), STR("x"), &err), -ENOENT); /* does not create */
    assert_int_equal(file_read(dir, &b, &err), -EISDIR);
}

static void a_failed_replacement_leaves_nothing_behind(void **state) {
    assert_int_equal(mkdir(in("d"), 0700), 0);
    assert_true(file_write_atomic(in("d"), STR("x"), 0600, NULL) < 0); /* a directory is in the way */
    assert_int_equal(rmdir(in("d")), 0);
    assert_int_equal(entries(), 2);
}

static void putting_into_an_existing_file(void **state) {
    cleanup_buf struct buf b = BUF_INIT;
    assert_int_equal(file_write_replace(in("f"), STR("abcdef"), 0600, NULL), 0);
    assert_int_equal(file_put(in("f"), STR("XY"), NULL), 0);
    assert_int_equal(file_read(in("f"), &b, NULL), 0);
    assert_string_equal(b.p, "XYcdef"); /* not truncated */
}

static void no_links_are_followed_below_a_directory(void **state) {
    cleanup_buf struct buf b = BUF_INIT;
    cleanup_close int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_int_equal(file_write_replace(in("f"), STR("text"), 0600, NULL), 0);
    assert_int_equal(symlink("f", in("link")), 0);
    assert_int_equal(file_read_at(fd, "f", &b, NULL), 0);
    assert_string_equal(b.p, "text");
    assert_int_equal(file_read_at(fd, "link", &b, NULL), -ELOOP);
}

static void directories(void **state) {
    struct error err = {0};
    assert_int_equal(dir_make_all(in("a/b/c"), 0755, &err), 0);
    assert_int_equal(dir_make_all(in("a/b/c"), 0755, &err), 0);
    assert_int_equal(file_write_replace(in("a/b/f"), STR("x"), 0600, NULL), 0);
    assert_int_equal(dir_make_all(in("a/b/f/g"), 0755, &err), -ENOTDIR);
    assert_int_equal(file_write_replace(in("kept"), STR("x"), 0600, NULL), 0);
    cleanup_free char *target = xstrdup(in("kept"));
    assert_int_equal(symlink(target, in("a/link")), 0);
    assert_int_equal(symlink(dir, in("a/b/up")), 0);
    assert_int_equal(dir_remove_all(in("a"), &err), 0);
    assert_false(file_exists(in("a")));
    assert_true(file_exists(in("kept")));                  /* links were not followed */
    assert_int_equal(dir_remove_all(in("a"), &err), 0);    /* already gone */
    assert_int_equal(dir_remove_all(in("kept"), &err), 0); /* a file will do */
    assert_false(file_exists(in("kept")));
}

static void whole_transfers(void **state) {
    int fds[2];
    char text[4];
    assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
    assert_int_equal(fd_write_all(fds[1], "abcdef", 6), 0);
    assert_int_equal(fd_read_all(fds[0], text, 4), 0);
    assert_memory_equal(text, "abcd", 4);
    close(fds[1]);
    assert_int_equal(fd_read_all(fds[0], text, 4), -EPIPE);
    assert_int_equal(fd_set_nonblock(fds[0], true), 0);
    assert_true(fcntl(fds[0], F_GETFL) & O_NONBLOCK);
    assert_int_equal(fd_set_nonblock(fds[0], false), 0);
    assert_false(fcntl(fds[0], F_GETFL) & O_NONBLOCK);
    close(fds[0]);
    assert_int_equal(fd_set_nonblock(-1, true), -EBADF);
    assert_int_equal(fd_write_all(-1, "x", 1), -EBADF);
}

#define file_test(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        file_test(writing_and_reading),
        file_test(large_files),
        file_test(reading_has_a_limit),
        file_test(failures_name_the_file),
        file_test(a_failed_replacement_leaves_nothing_behind),
        file_test(putting_into_an_existing_file),
        file_test(no_links_are_followed_below_a_directory),
        file_test(directories),
        file_test(whole_transfers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
