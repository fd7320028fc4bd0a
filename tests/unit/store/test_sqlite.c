#include "helper.h"

#include <dirent.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sqlite3.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>

struct db {
    char dir[256];
    struct loop *loop;
    struct store *s;
    struct store_kind *pods;
};
static void db_dir(struct db *d) {
    snprintf(d->dir, sizeof(d->dir), "%s/dory-store-XXXXXX", getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp");
    assert_non_null(mkdtemp(d->dir));
}
static int db_open(struct db *d, struct error *err) {
    const struct store_log_ops *ops;
    void *log;
    int rc = store_log_sqlite_open(d->dir, &ops, &log, err);
    if (rc)
        return rc;
    struct store_options o = {.loop = d->loop, .ops = ops, .log = log};
    rc = store_open(&o, &d->s, err);
    if (!rc)
        d->pods = store_kind(d->s, STR("pods"));
    return rc;
}
static void db_init(struct db *d) {
    struct error err = {0};
    d->loop = loop_new("core");
    db_dir(d);
    if (db_open(d, &err))
        fail_msg("%s", err.msg);
}
static void db_close(struct db *d) {
    store_close(d->s);
    turn(d->loop);
    d->s = NULL;
}
static void db_reopen(struct db *d) {
    struct error err = {0};
    db_close(d);
    if (db_open(d, &err))
        fail_msg("%s", err.msg);
}
static void db_fini(struct db *d) {
    db_close(d);
    loop_free(d->loop);
    dir_remove_all(d->dir, NULL);
}
static void discard(struct db *d) {
    loop_free(d->loop);
    dir_remove_all(d->dir, NULL);
}
static void settle(struct db *d) {
    SPIN(d->loop, store_durable_revision(d->s) == store_revision(d->s));
}
static const char *path(struct db *d, const char *name) {
    static char p[400];
    snprintf(p, sizeof(p), "%s/%s", d->dir, name);
    return p;
}

static void state_outlives_the_server(void **state) {
    struct db d;
    db_init(&d);
    char *big = xmalloc(200001);
    memset(big, 'x', 200000);
    big[200000] = 0;
    for (int i = 0; i < 300; i++) {
        char name[16];
        snprintf(name, sizeof(name), "p%d", i);
        put(d.s, d.pods, "x", name, i == 7 ? big : "\xc3\xa4 \\u0001");
    }
    put(d.s, d.pods, "x", "p8", "two");
    del(d.s, d.pods, "x", "p9");
    int64_t last = put(d.s, store_kind(d.s, STR("deployments.apps")), "x", "d", "1");
    db_reopen(&d);
    assert_int_equal(store_count(d.s, d.pods), 299);
    assert_int_equal(store_count(d.s, store_kind(d.s, STR("deployments.apps"))), 1);
    assert_int_equal(store_revision(d.s), last);
    struct object *o = store_peek(d.s, d.pods, STR("x"), STR("p7"));
    assert_int_equal(value_of(o).n, 200000);
    assert_true(str_eq_c(value_of(store_peek(d.s, d.pods, STR("x"), STR("p8"))), "two"));
    assert_true(str_eq_c(store_peek(d.s, d.pods, STR("x"), STR("p8"))->uid, "u-p8"));
    assert_null(store_peek(d.s, d.pods, STR("x"), STR("p9")));
    put(d.s, d.pods, "x", "p8", "three");
    del(d.s, d.pods, "x", "p7");
    db_reopen(&d);
    assert_int_equal(store_count(d.s, d.pods), 298);
    assert_true(str_eq_c(value_of(store_peek(d.s, d.pods, STR("x"), STR("p8"))), "three"));
    struct stat st;
    assert_int_equal(stat(path(&d, "state.db"), &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    free(big);
    db_close(&d);
    assert_false(file_exists(path(&d, "state.db-wal"))); /* a clean stop */
    discard(&d);
}

/* --- kill -9 --- */

struct word {
    int64_t revision;
    int32_t n, durable;
};
static int say_fd;
static void say(void *arg, int code) {
    struct word *w = arg;
    assert_int_equal(code, 0);
    assert_int_equal(write(say_fd, w, sizeof(*w)), sizeof(*w));
    free(w);
}
static _Noreturn void writer(const char *dir, int fd, int first) {
    struct db d = {.loop = loop_new("core")};
    snprintf(d.dir, sizeof(d.dir), "%s", dir);
    struct error err = {0};
    if (db_open(&d, &err)) {
        fprintf(stderr, "%s\n", err.msg);
        _exit(1);
    }
    say_fd = fd;
    for (int n = first;; n++) {
        char name[16];
        struct word *w = XNEW(struct word);
        snprintf(name, sizeof(name), "p%d", n);
        *w = (struct word){0, n, n % 4 != 0};
        w->revision = w->durable ? put(d.s, d.pods, "x", name, "1") : put_volatile(d.s, d.pods, "x", "lease", "1");
        store_when_durable(d.s, w->revision, say, w);
        uv_run(loop_uv(d.loop), UV_RUN_NOWAIT);
    }
}

static void a_killed_server_loses_nothing_it_promised(void **state) {
    struct db d;
    struct error err = {0};
    db_init(&d);
    db_close(&d);
    int64_t seen = 0;
    int next = 0;
    bool *promised = xcalloc(1000000, 1);
    for (int round = 0; round < 8; round++) {
        int fd[2];
        assert_int_equal(pipe(fd), 0);
        pid_t pid = fork();
        if (!pid)
            writer(d.dir, fd[1], next);
        close(fd[1]);
        struct word w;
        size_t got = 0, want = 200 + (size_t)round * 97;
        while (fd_read_all(fd[0], &w, sizeof(w)) == 0) {
            assert_true(w.revision > seen); /* across restarts, volatile ones included */
            seen = w.revision;
            next = w.n + 1;
            if (w.durable)
                promised[w.n] = true;
            if (++got == want)
                kill(pid, SIGKILL);
        }
        close(fd[0]);
        int status;
        waitpid(pid, &status, 0);
        assert_true(WIFSIGNALED(status));
        assert_true(got >= want);
        next += 10000; /* what was written without an answer may or may not be there */
    }
    assert_int_equal(db_open(&d, &err), 0);
    assert_true(store_revision(d.s) >= seen);
    for (int i = 0; i < next; i++) {
        char name[16];
        snprintf(name, sizeof(name), "p%d", i);
        if (promised[i])
            assert_non_null(store_peek(d.s, d.pods, STR("x"), str_c(name)));
    }
    free(promised);
    db_fini(&d);
}

/* --- what is refused, and left alone --- */

static void a_second_server_is_refused(void **state) {
    struct db d;
    db_init(&d);
    struct db second = {.loop = d.loop};
    memcpy(second.dir, d.dir, sizeof(d.dir));
    struct error err = {0};
    assert_int_equal(db_open(&second, &err), -EBUSY);
    char pid[400];
    snprintf(pid, sizeof(pid), "another server (pid %d) is using %s", (int)getpid(), d.dir);
    assert_string_equal(err.msg, pid);
    put(d.s, d.pods, "x", "a", "1");
    settle(&d);
    db_fini(&d);
}

static void contents(struct db *d, struct buf *out) {
    buf_init(out, 0);
    assert_int_equal(file_read(path(d, "state.db"), out, NULL), 0);
    if (file_exists(path(d, "state.db-wal")))
        assert_int_equal(file_read(path(d, "state.db-wal"), out, NULL), 0);
}
static void patch(struct db *d, off_t at, const void *bytes, size_t n) {
    cleanup_close int fd = open(path(d, "state.db"), O_WRONLY | O_CLOEXEC);
    assert_int_equal(pwrite(fd, bytes, n, at), n);
}
static void expect_refusal(struct db *d, int code, const char *words) {
    struct error err = {0};
    struct buf before, after;
    contents(d, &before);
    assert_int_equal(db_open(d, &err), code);
    contents(d, &after);
    if (!strstr(err.msg, words) || !strstr(err.msg, "state.db"))
        fail_msg("'%s' lacks '%s'", err.msg, words);
    assert_true(str_eq(buf_str(&before), buf_str(&after)));
    buf_fini(&before);
    buf_fini(&after);
}
/* A closed database of a few hundred objects. */
static void db_filled(struct db *d) {
    db_init(d);
    for (int i = 0; i < 300; i++) {
        char name[16];
        snprintf(name, sizeof(name), "p%d", i);
        put(d->s, d->pods, "x", name, "needle-in-the-hay");
    }
    settle(d);
}
static void damaged_files_are_refused_and_left_alone(void **state) {
    struct db d;
    struct stat st;
    struct buf b;
    db_filled(&d);
    db_close(&d);
    assert_int_equal(stat(path(&d, "state.db"), &st), 0);
    contents(&d, &b);

    ptrdiff_t at, flips = 0;
    for (struct str rest = buf_str(&b); (at = str_find(rest, STR("needle-in-the-hay"))) >= 0; flips++) {
        rest = str_skip(rest, (size_t)at + 1);
        patch(&d, rest.p - 1 - b.p, "N", 1); /* one bit */
    }
    assert_true(flips >= 300);
    expect_refusal(&d, -EUCLEAN, "checksum of pods x/p");
    assert_int_equal(file_write_replace(path(&d, "state.db"), buf_str(&b), 0600, NULL), 0);

    char junk[512];
    memset(junk, 0xa5, sizeof(junk));
    for (off_t page = 4096; page < st.st_size; page += 4096)
        patch(&d, page, junk, 16); /* page headers */
    expect_refusal(&d, -EUCLEAN, "damaged");
    assert_int_equal(file_write_replace(path(&d, "state.db"), buf_str(&b), 0600, NULL), 0);

    assert_int_equal(truncate(path(&d, "state.db"), st.st_size - 4096), 0);
    expect_refusal(&d, -EUCLEAN, "truncated");
    assert_int_equal(truncate(path(&d, "state.db"), 50), 0);
    expect_refusal(&d, -EUCLEAN, "truncated");
    assert_int_equal(truncate(path(&d, "state.db"), 0), 0);
    expect_refusal(&d, -EUCLEAN, "truncated");

    assert_int_equal(file_write_replace(path(&d, "state.db"), buf_str(&b), 0600, NULL), 0);
    struct error err = {0};
    assert_int_equal(db_open(&d, &err), 0); /* and the good one is good again */
    assert_int_equal(store_count(d.s, d.pods), 300);
    db_close(&d);
    buf_fini(&b);
    discard(&d);
}

static void foreign_and_newer_files_are_refused(void **state) {
    struct db d;
    db_filled(&d);
    db_close(&d);
    patch(&d, 60, "\0\0\0\2", 4);
    expect_refusal(&d, -EPROTO, "newer version (schema 2, this one knows 1)");
    patch(&d, 60, "\0\0\0\1", 4);
    patch(&d, 68, "ABCD", 4);
    expect_refusal(&d, -EUCLEAN, "another program");
    unlink(path(&d, "state.db"));
    sqlite3 *db;
    assert_int_equal(sqlite3_open(path(&d, "state.db"), &db), 0);
    assert_int_equal(sqlite3_exec(db, "CREATE TABLE kine(id INTEGER)", NULL, NULL, NULL), 0);
    sqlite3_close(db);
    expect_refusal(&d, -EUCLEAN, "another program");
    char text[300];
    memset(text, 'x', sizeof(text));
    assert_int_equal(file_write_replace(path(&d, "state.db"), str_n(text, sizeof(text)), 0600, NULL), 0);
    expect_refusal(&d, -EUCLEAN, "no database");
    unlink(path(&d, "state.db"));
    assert_int_equal(file_write_replace(path(&d, "state.db-wal"), STR("something"), 0600, NULL), 0);
    struct error err = {0};
    assert_int_equal(db_open(&d, &err), -EUCLEAN);
    assert_non_null(strstr(err.msg, "missing"));
    discard(&d);
}

/* An unclean stop makes the next start check everything: damage is found although the objects could be loaded. */
static void an_unclean_stop_is_checked(void **state) {
    struct db d;
    db_filled(&d);
    char copy[300];
    snprintf(copy, sizeof(copy), "%s/copy", d.dir);
    assert_int_equal(dir_make_all(copy, 0700, NULL), 0);
    static const char *const names[] = {"state.db", "state.db-wal"};
    for (size_t i = 0; i < 2; i++) { /* as a kill leaves it */
        struct buf b;
        char to[400];
        buf_init(&b, 0);
        assert_int_equal(file_read(path(&d, names[i]), &b, NULL), 0);
        snprintf(to, sizeof(to), "%s/%s", copy, names[i]);
        assert_int_equal(file_write_replace(to, buf_str(&b), 0600, NULL), 0);
        buf_fini(&b);
    }
    struct db k = {.loop = d.loop};
    memcpy(k.dir, copy, sizeof(k.dir));
    struct error err = {0};
    assert_int_equal(db_open(&k, &err), 0);
    assert_int_equal(store_count(k.s, k.pods), 300);
    assert_true(store_revision(k.s) > store_revision(d.s) + 1000); /* behind the block */
    db_close(&k);
    db_fini(&d);
}

/* --- the disk --- */

static void a_full_disk_is_survived_without_a_restart(void **state) {
    struct db d = {.loop = NULL};
    db_dir(&d);
    if (unshare(CLONE_NEWNS) || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
        mount("tmpfs", d.dir, "tmpfs", 0, "size=2m")) {
        dir_remove_all(d.dir, NULL);
        print_message("no mount namespace here: %s\n", strerror(errno));
        skip();
    }
    struct error err = {0};
    d.loop = loop_new("core");
    assert_int_equal(db_open(&d, &err), 0);
    char big[4001], filler[KiB(64)] = {0};
    memset(big, 'x', 4000);
    big[4000] = 0;
    put(d.s, d.pods, "x", "before", big);
    settle(&d);
    int fd = open(path(&d, "filler"), O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    while (write(fd, filler, sizeof(filler)) > 0) {}
    int n = 0;
    for (; !store_writable(d.s, NULL) && n < 2000; n++) {
        char name[16];
        snprintf(name, sizeof(name), "p%d", n);
        put(d.s, d.pods, "x", name, big);
        SPIN(d.loop, store_durable_revision(d.s) == store_revision(d.s) || store_writable(d.s, NULL));
    }
    assert_int_equal(store_writable(d.s, &err), -ENOSPC);
    assert_non_null(strstr(err.msg, "etcdserver: no space"));
    assert_non_null(store_peek(d.s, d.pods, STR("x"), STR("before")));
    assert_int_equal(ftruncate(fd, 0), 0);
    close(fd);
    settle(&d); /* by itself */
    assert_int_equal(store_writable(d.s, NULL), 0);
    put(d.s, d.pods, "x", "after", "1");
    settle(&d);
    db_reopen(&d);
    assert_int_equal(store_count(d.s, d.pods), (size_t)n + 2);

    db_close(&d);
    assert_int_equal(mount("tmpfs", d.dir, "tmpfs", MS_REMOUNT | MS_RDONLY, NULL), 0);
    assert_int_equal(db_open(&d, &err), -EROFS);
    assert_non_null(strstr(err.msg, d.dir));
    loop_free(d.loop);
    umount(d.dir);
    rmdir(d.dir);
}

static long long disk_bytes(void) {
    struct buf b;
    buf_init(&b, 0);
    assert_int_equal(file_read("/proc/self/io", &b, NULL), 0);
    const char *p = strstr(b.p, "\nwrite_bytes: ");
    long long n = p ? strtoll(p + 14, NULL, 10) : 0;
    buf_fini(&b);
    return n;
}

static void idle_and_volatile_writes_leave_the_disk_alone(void **state) {
    struct db d;
    db_filled(&d);
    long long before = disk_bytes();
    struct stat a, b;
    assert_int_equal(stat(path(&d, "state.db-wal"), &a), 0);
    for (int i = 0; i < 1000; i++)
        put_volatile(d.s, d.pods, "x", "lease", "renewed");
    settle(&d);
    usleep(300000);
    turn(d.loop);
    assert_int_equal(stat(path(&d, "state.db-wal"), &b), 0);
    assert_int_equal(disk_bytes(), before);
    assert_int_equal(a.st_size, b.st_size);
    assert_memory_equal(&a.st_mtim, &b.st_mtim, sizeof(a.st_mtim));
    db_fini(&d);
}

static void the_files_stay_in_proportion(void **state) {
    struct db d;
    struct stat st;
    db_init(&d);
    char big[20001];
    memset(big, 'x', 20000);
    big[20000] = 0;
    for (int i = 0; i < 3000; i++) { /* 60 MB of changes to ten objects, and what comes and goes */
        char name[16];
        snprintf(name, sizeof(name), "p%d", i % 10);
        put(d.s, d.pods, "x", name, big);
        snprintf(name, sizeof(name), "q%d", i);
        if (i < 200)
            put(d.s, d.pods, "x", name, big);
        else if (i < 400) {
            snprintf(name, sizeof(name), "q%d", i - 200);
            del(d.s, d.pods, "x", name);
        }
        if (i % 5 == 0)
            settle(&d);
    }
    settle(&d);
    assert_int_equal(stat(path(&d, "state.db-wal"), &st), 0);
    assert_true((size_t)st.st_size < MiB(9));
    assert_int_equal(stat(path(&d, "state.db"), &st), 0);
    assert_true((size_t)st.st_size < MiB(4)); /* the peak was over 4 MiB: free pages were given back */
    db_fini(&d);
}

int main(void) {
    log_set_level(LOG_ERROR);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(state_outlives_the_server),
        cmocka_unit_test(a_killed_server_loses_nothing_it_promised),
        cmocka_unit_test(a_second_server_is_refused),
        cmocka_unit_test(damaged_files_are_refused_and_left_alone),
        cmocka_unit_test(foreign_and_newer_files_are_refused),
        cmocka_unit_test(an_unclean_stop_is_checked),
        cmocka_unit_test(idle_and_volatile_writes_leave_the_disk_alone),
        cmocka_unit_test(the_files_stay_in_proportion),
        cmocka_unit_test(a_full_disk_is_survived_without_a_restart),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
