/* Logs: the CRI format to the letter, partial lines, rotation at the byte, no loss, and a full disk. */
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

static struct buf read_log(const char *path) {
    struct buf text = {.limit = MiB(64)};
    if (file_read(path, &text, NULL) < 0)
        fail_msg("no log %s", path);
    return text;
}

/* "2026-01-01T00:00:00.000000000Z stdout F " in front of a text; what follows it. */
static struct str check_record(struct str line, const char *stream, char tag) {
    struct timespec t;
    struct str stamp = str_split(&line, ' ');
    assert_int_equal(stamp.n, 30);
    assert_int_equal(stamp.p[29], 'Z');
    assert_true(time_parse(stamp, &t));
    assert_true(t.tv_sec > 1700000000);
    assert_true(str_eq_c(str_split(&line, ' '), stream));
    struct str got = str_split(&line, ' ');
    assert_int_equal(got.n, 1);
    assert_int_equal(got.p[0], tag);
    assert_non_null(line.p);
    return line;
}

static void test_format(void **state) {
    struct run r;
    run_init(&r, &box, "fmt", "echo one; echo; echo '  two  '; printf 'no newline'");
    assert_int_equal(run_to_end(&r, &box, sandbox, NULL), 0);
    struct buf text = read_log(r.log);
    struct str rest = buf_str(&text);
    assert_true(str_eq_c(check_record(str_split(&rest, '\n'), "stdout", 'F'), "one"));
    assert_true(str_eq_c(check_record(str_split(&rest, '\n'), "stdout", 'F'), ""));
    assert_true(str_eq_c(check_record(str_split(&rest, '\n'), "stdout", 'F'), "  two  "));
    assert_true(str_eq_c(check_record(str_split(&rest, '\n'), "stdout", 'F'), "no newline"));
    assert_int_equal(rest.n, 0);
    buf_fini(&text);
    struct stat st;
    assert_int_equal(stat(r.log, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0640);
    run_init(&r, &box, "err", "echo oops >&2");
    run_to_end(&r, &box, sandbox, NULL);
    text = read_log(r.log);
    rest = buf_str(&text);
    assert_true(str_eq_c(check_record(str_split(&rest, '\n'), "stderr", 'F'), "oops"));
    buf_fini(&text);
}

/* A line is visible once its newline is written, while the program goes on; half a line is not. */
static void test_timely(void **state) {
    struct run r;
    run_init(&r, &box, "live",
             "echo first; printf half; while ! test -e /tmp/go; do usleep 2000; done; echo ' other'; exec sleep 100");
    assert_int_equal(box_try_container(&box, sandbox, &r.cfg, &r.c, &r.err), 0);
    for (int i = 0; i < 400 && !strstr(box_log(r.log), "first"); i++)
        usleep(2000);
    usleep(150000); /* long enough for buffers to be given back */
    assert_string_equal(box_log(r.log), "first\n");
    assert_int_equal(box_exec(&box, r.c, "touch /tmp/go", NULL), 0);
    for (int i = 0; i < 400 && !strstr(box_log(r.log), "other"); i++)
        usleep(2000);
    assert_string_equal(box_log(r.log), "first\nhalf other\n");
    box_remove_container(&box, r.c);
}

static void test_long_lines(void **state) {
    static const size_t sizes[] = {16383, 16384, 16385, 32768, 100000};
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        struct run r;
        char id[16], script[128];
        snprintf(id, sizeof(id), "long%zu", i);
        snprintf(script, sizeof(script), "head -c %zu /dev/zero | tr '\\000' x; echo; echo end", sizes[i]);
        run_init(&r, &box, id, script);
        assert_int_equal(run_to_end(&r, &box, sandbox, NULL), 0);
        struct buf text = read_log(r.log);
        struct str rest = buf_str(&text);
        size_t got = 0;
        bool full = false;
        while (!full) {
            struct str line = str_split(&rest, '\n');
            full = str_find(line, STR(" F ")) > 0;
            struct str part = check_record(line, "stdout", full ? 'F' : 'P');
            assert_true(part.n <= 16384);
            if (!full)
                assert_int_equal(part.n, 16384);
            for (size_t k = 0; k < part.n; k++)
                assert_int_equal(part.p[k], 'x');
            got += part.n;
        }
        assert_int_equal(got, sizes[i]);
        assert_true(str_eq_c(check_record(str_split(&rest, '\n'), "stdout", 'F'), "end"));
        buf_fini(&text);
    }
}

/* Every byte of a lot, in order. */
static void test_volume(void **state) {
    struct run r;
    run_init(&r, &box, "vol", "seq 1 200000");
    r.cfg.log_bytes_max = MiB(64);
    assert_int_equal(run_to_end(&r, &box, sandbox, NULL), 0);
    struct buf text = read_log(r.log);
    struct str rest = buf_str(&text);
    for (int i = 1; i <= 200000; i++) {
        int64_t v;
        assert_true(str_to_i64(check_record(str_split(&rest, '\n'), "stdout", 'F'), &v));
        assert_int_equal(v, i);
    }
    assert_int_equal(rest.n, 0);
    buf_fini(&text);
}

static void test_rotation(void **state) {
    struct run r;
    int next = -1;
    run_init(&r, &box, "rot", "seq 10001 13000");
    r.cfg.log_bytes_max = 20000;
    r.cfg.log_files_max = 3;
    assert_int_equal(run_to_end(&r, &box, sandbox, NULL), 0);
    /* the newest 3 files, each at most the limit, whole records, in order over the files */
    for (int i = 2; i >= 0; i--) {
        char *path = i ? box_path("%s.%d", r.log, i) : box_path("%s", r.log);
        struct buf text = read_log(path);
        assert_true(text.n <= 20000 && text.n > 0);
        if (i)
            assert_true(text.n > 20000 - 60);
        struct str rest = buf_str(&text);
        while (rest.p && rest.n) {
            int64_t v;
            assert_true(str_to_i64(check_record(str_split(&rest, '\n'), "stdout", 'F'), &v));
            if (next >= 0)
                assert_int_equal(v, next);
            next = (int)v + 1;
        }
        buf_fini(&text);
    }
    assert_int_equal(next, 13001);
    assert_int_not_equal(access(box_path("%s.3", r.log), F_OK), 0);
}

/* A second run under the same path goes on where the file is. */
static void test_append(void **state) {
    struct run r;
    run_init(&r, &box, "app1", "echo one");
    run_to_end(&r, &box, sandbox, NULL);
    char path[128];
    snprintf(path, sizeof(path), "%s", r.log);
    run_init(&r, &box, "app2", "echo two");
    r.cfg.log_path = str_c(path);
    run_to_end(&r, &box, sandbox, NULL);
    assert_string_equal(box_log(path), "one\ntwo\n");
}

/* A disk without room loses output and nothing else. */
static void test_full_disk(void **state) {
    struct run r;
    char *dir = box_path("%s/small", box.base), path[128];
    mkdir(dir, 0755);
    assert_int_equal(mount("small", dir, "tmpfs", 0, "size=32k"), 0);
    snprintf(path, sizeof(path), "%s/log", dir);
    run_init(&r, &box, "full", "seq 1 20000; exit 5");
    r.cfg.log_path = str_c(path);
    int rc = run_to_end(&r, &box, sandbox, NULL);
    umount2(dir, MNT_DETACH);
    assert_int_equal(rc, 5);
}

static void test_no_directory(void **state) {
    struct run r;
    run_init(&r, &box, "nodir", "true");
    r.cfg.log_path = STR("/no/such/dir/x.log");
    assert_int_equal(run_to_end(&r, &box, sandbox, NULL), -ENOENT);
    assert_non_null(strstr(r.err.msg, "/no/such/dir/x.log"));
    run_init(&r, &box, "nolog", "echo into the void; exit 4");
    r.cfg.log_path = STR("");
    assert_int_equal(run_to_end(&r, &box, sandbox, NULL), 4);
}

static void test_binary_bytes(void **state) {
    struct run r;
    run_init(&r, &box, "bin", "printf 'a\\000b\\377\\rc\\n'");
    run_to_end(&r, &box, sandbox, NULL);
    struct buf text = read_log(r.log);
    struct str rest = buf_str(&text);
    struct str got = check_record(str_split(&rest, '\n'), "stdout", 'F');
    assert_true(str_eq(got, STR("a\000b\377\rc")));
    buf_fini(&text);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
static const struct CMUnitTest tests[] = {
    TEST(test_format), TEST(test_timely),    TEST(test_long_lines),   TEST(test_volume),       TEST(test_rotation),
    TEST(test_append), TEST(test_full_disk), TEST(test_no_directory), TEST(test_binary_bytes),
};
BOX_MAIN(tests)
