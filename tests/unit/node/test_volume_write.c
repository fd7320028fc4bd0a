#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "node/volume.h"

static char base[64];
static struct error err;

static int set_up(void **state) {
    snprintf(base, sizeof(base), "/tmp/dory-test-XXXXXX");
    assert_non_null(mkdtemp(base));
    err = (struct error){0};
    return 0;
}
static int tear_down(void **state) {
    char target[100];
    snprintf(target, sizeof(target), "%s/target", base);
    umount2(target, MNT_DETACH);
    return dir_remove_all(base, NULL);
}

static const char *at(const char *sub) {
    static char room[4][200];
    static int next;
    next = (next + 1) % 4;
    snprintf(room[next], sizeof(room[next]), "%s/%s", base, sub);
    return room[next];
}
static bool content_is(const char *sub, const char *wanted) {
    struct buf b = {.limit = MiB(1)};
    bool same = file_read(at(sub), &b, NULL) == 0 && str_eq_c(buf_str(&b), wanted);
    buf_fini(&b);
    return same;
}
static void put(const char *sub, const char *text) {
    assert_int_equal(file_write_replace(at(sub), str_c(text), 0644, &err), 0);
}
static int entries(const char *sub) {
    int n = 0;
    DIR *d = opendir(at(sub));
    assert_non_null(d);
    while (readdir(d))
        n++;
    closedir(d);
    return n - 2;
}

static void writes_and_replaces(void **state) {
    struct volume_file two[] = {{STR("a"), STR("1"), 0640}, {STR("sub/b"), STR("2"), 0600}};
    struct volume_file one[] = {{STR("a"), STR("new"), 0644}};
    struct stat st;
    assert_int_equal(atomic_write(at("v"), two, 2, -1, &err), 0);
    assert_true(content_is("v/a", "1"));
    assert_true(content_is("v/sub/b", "2"));
    assert_int_equal(stat(at("v/a"), &st), 0);
    assert_int_equal(st.st_mode & 0777, 0640);
    assert_int_equal(atomic_write(at("v"), one, 1, 1234, &err), 0);
    assert_true(content_is("v/a", "new"));
    assert_int_not_equal(access(at("v/sub"), F_OK), 0); /* what is gone from the source is gone here */
    assert_int_equal(stat(at("v/a"), &st), 0);
    assert_int_equal(st.st_gid, 1234);
    assert_int_equal(entries("v"), 3); /* a, ..data and one generation */
    assert_int_equal(atomic_write(at("v"), NULL, 0, -1, &err), 0);
    assert_int_equal(entries("v"), 2);
}

/* A process that died in the middle leaves its link behind. */
static void goes_on_after_a_crash(void **state) {
    struct volume_file one[] = {{STR("a"), STR("1"), 0644}};
    assert_int_equal(mkdir(at("v"), 0755), 0);
    assert_int_equal(symlink("..nowhere", at("v/..data.tmp")), 0);
    assert_int_equal(atomic_write(at("v"), one, 1, -1, &err), 0);
    assert_true(content_is("v/a", "1"));
    assert_int_equal(entries("v"), 3);
}

static atomic_bool over, torn;
static void *read_both(void *arg) {
    while (!atomic_load(&over)) {
        char a[8] = "", b[8] = "";
        int dir = open(arg, O_RDONLY | O_DIRECTORY | O_CLOEXEC); /* one generation */
        int fa = dir < 0 ? -1 : openat(dir, "a", O_RDONLY | O_CLOEXEC);
        int fb = dir < 0 ? -1 : openat(dir, "b", O_RDONLY | O_CLOEXEC);
        if (fa >= 0 && fb >= 0 && read(fa, a, 7) >= 0 && read(fb, b, 7) >= 0 && strcmp(a, b) != 0)
            atomic_store(&torn, true);
        if (dir < 0)
            atomic_store(&torn, true);
        if (fa >= 0)
            close(fa);
        if (fb >= 0)
            close(fb);
        if (dir >= 0)
            close(dir);
    }
    return NULL;
}

static void readers_see_the_old_or_the_new(void **state) {
    pthread_t reader;
    char data[200];
    snprintf(data, sizeof(data), "%s", at("v/..data"));
    struct volume_file f[] = {{STR("a"), STR("0"), 0644}, {STR("b"), STR("0"), 0644}};
    assert_int_equal(atomic_write(at("v"), f, 2, -1, &err), 0);
    atomic_store(&over, false);
    assert_int_equal(pthread_create(&reader, NULL, read_both, data), 0);
    for (int i = 1; i < 100; i++) {
        char text[8];
        snprintf(text, sizeof(text), "%d", i);
        f[0].data = f[1].data = str_c(text);
        assert_int_equal(atomic_write(at("v"), f, 2, -1, &err), 0);
    }
    atomic_store(&over, true);
    pthread_join(reader, NULL);
    assert_false(atomic_load(&torn));
}

static void planted_links_are_not_followed(void **state) {
    struct volume_file one[] = {{STR("a"), STR("new"), 0644}};
    put("outside", "untouched");
    assert_int_equal(mkdir(at("v"), 0755), 0);
    assert_int_equal(mkdir(at("elsewhere"), 0755), 0);
    assert_int_equal(symlink("../outside", at("v/a")), 0);
    assert_int_equal(symlink("../elsewhere", at("v/..data")), 0);
    put("elsewhere/kept", "x");
    assert_int_equal(atomic_write(at("v"), one, 1, -1, &err), 0);
    assert_true(content_is("outside", "untouched"));
    assert_true(content_is("elsewhere/kept", "x"));
    assert_int_equal(entries("elsewhere"), 1);
    assert_int_equal(symlink("elsewhere", at("w")), 0); /* the volume itself */
    assert_true(atomic_write(at("w"), one, 1, -1, &err) < 0);
    assert_int_equal(entries("elsewhere"), 1);
}

static void subpath_stays_inside(void **state) {
    assert_int_equal(mkdir(at("v"), 0755), 0);
    assert_int_equal(mkdir(at("v/in"), 0755), 0);
    put("v/in/f", "inside");
    assert_int_equal(mkdir(at("secret"), 0755), 0);
    put("secret/f", "outside");
    char absolute[200];
    snprintf(absolute, sizeof(absolute), "%s", at("secret"));
    assert_int_equal(symlink(absolute, at("v/absolute")), 0);
    assert_int_equal(symlink("../secret", at("v/relative")), 0);
    assert_int_equal(symlink("in", at("v/fine")), 0);
    static const char *const subs[] = {"absolute",         "relative",   "../secret",
                                       "relative/new/dir", "absolute/f", "in/../../secret"};
    for (size_t i = 0; i < ARRAY_LEN(subs); i++) {
        int rc = subpath_bind(at("v"), subs[i], at("target"), false, &err);
        if (rc == 0 && content_is("target/f", "outside"))
            fail_msg("%s leads outside", subs[i]);
        umount2(at("target"), MNT_DETACH);
        dir_remove_all(at("target"), NULL);
    }
    assert_int_equal(entries("secret"), 1);
    assert_int_equal(subpath_bind(at("v"), "fine", at("target"), true, &err), 0);
    assert_true(content_is("target/f", "inside"));
    assert_true(open(at("target/new"), O_WRONLY | O_CREAT | O_CLOEXEC, 0600) < 0); /* read-only */
    assert_int_equal(umount2(at("target"), MNT_DETACH), 0);
    assert_int_equal(subpath_bind(at("v"), "made/on/the/way", at("target"), false, &err), 0);
    assert_int_equal(access(at("v/made/on/the/way"), F_OK), 0);
    assert_int_equal(umount2(at("target"), MNT_DETACH), 0);
}

int main(void) {
    const char *emulated = getenv("TEST_EMULATED");
    if (geteuid() != 0 || (emulated && emulated[0] == '1')) {
        printf("needs root and this machine's own kernel interface\n");
        return 77;
    }
#define TEST(fn) cmocka_unit_test_setup_teardown(fn, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(writes_and_replaces),
        TEST(goes_on_after_a_crash),
        TEST(readers_see_the_old_or_the_new),
        TEST(planted_links_are_not_followed),
        TEST(subpath_stays_inside),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
