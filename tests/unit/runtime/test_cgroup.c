/* Finding the hierarchies in mountinfo as distributions lay them out; the groups themselves are tested with containers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "runtime/cgroup.h"

static void test_v2(void **state) {
    struct cgroup_layout l;
    assert_int_equal(
        cgroup_parse_mountinfo(
            STR("24 1 254:0 / / rw,relatime shared:1 - ext4 /dev/sda rw\n"
                "30 24 0:26 / /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime shared:9 - cgroup2 cgroup2 rw,nsdelegate\n"),
            &l),
        0);
    assert_int_equal(l.n, 1);
    assert_non_null(cgroup_v2(&l));
    assert_string_equal(l.h[0].mount, "/sys/fs/cgroup");
}

static void test_v1(void **state) {
    struct cgroup_layout l;
    assert_int_equal(
        cgroup_parse_mountinfo(
            STR("25 20 0:22 / /sys/fs/cgroup ro - tmpfs tmpfs ro,mode=755\n"
                "26 25 0:23 / /sys/fs/cgroup/systemd rw shared:6 - cgroup cgroup rw,xattr,release_agent=/x,name=systemd\n"
                "27 25 0:24 / /sys/fs/cgroup/cpu,cpuacct rw shared:7 master:1 - cgroup cgroup rw,cpu,cpuacct\n"
                "28 25 0:25 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
                "29 25 0:26 / /sys/fs/cgroup/net_cls rw - cgroup cgroup rw,net_cls\n"
                "30 25 0:25 / /other/memory rw - cgroup cgroup rw,memory\n"),
            &l),
        0);
    assert_null(cgroup_v2(&l));
    assert_int_equal(l.n, 3);
    assert_ptr_equal(cgroup_with(&l, CGROUP_CPU), cgroup_with(&l, CGROUP_CPUACCT));
    assert_string_equal(cgroup_with(&l, CGROUP_CPU)->mount, "/sys/fs/cgroup/cpu,cpuacct");
    assert_string_equal(cgroup_with(&l, CGROUP_MEMORY)->mount, "/sys/fs/cgroup/memory");
    assert_string_equal(cgroup_with(&l, CGROUP_SYSTEMD)->mount, "/sys/fs/cgroup/systemd");
    assert_null(cgroup_with(&l, CGROUP_PIDS));
}

static void test_junk(void **state) {
    static const char *const texts[] = {"",
                                        "\n\n",
                                        "x",
                                        "1 2 3",
                                        "1 2 3 4 5 6 -",
                                        "1 2 0:1 / /x rw - cgroup",
                                        "1 2 0:1 / /x rw - cgroup2",
                                        "- - - - - - - -",
                                        "1 2 0:1 / /x rw shared:1 cgroup2 cgroup2 rw"};
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        struct cgroup_layout l;
        assert_int_equal(cgroup_parse_mountinfo(str_c(texts[i]), &l), -ENOENT);
    }
    struct buf b = {.limit = MiB(1)};
    for (int i = 0; i < 100; i++)
        buf_printf(&b, "1 2 0:%d / /sys/fs/cgroup/%s%d rw - cgroup cgroup rw,%s\n", i, "x", i,
                   i % 2   ? "cpu,memory"
                   : i % 3 ? "pids"
                           : "cpuset,freezer");
    struct cgroup_layout l;
    assert_int_equal(cgroup_parse_mountinfo(buf_str(&b), &l), 0);
    assert_true(l.n <= CGROUP_HIERARCHIES_MAX);
    buf_reset(&b);
    buf_puts(&b, "1 2 0:1 / /");
    for (int i = 0; i < 500; i++)
        buf_putc(&b, 'a');
    buf_puts(&b, " rw - cgroup2 cgroup2 rw\n");
    assert_int_equal(cgroup_parse_mountinfo(buf_str(&b), &l), -ENOENT); /* longer than we keep: not taken half */
    buf_fini(&b);
}

/* On this machine: groups are made with limits, read back, filled, killed and removed. */
static void test_life(void **state) {
    struct cgroup_layout l;
    struct error err;
    char top[32];
    if (geteuid() != 0)
        skip();
    snprintf(top, sizeof(top), "dory-unit-cg-%d", getpid());
    if (cgroup_probe(top, &l, &err) < 0) {
        printf("%s\n", err.msg);
        skip();
    }
    struct cgroup_limits limits = {.cpu_shares = 512, .cpu_quota_us = 50000, .memory_bytes = 64 << 20, .pids = 20};
    if (cgroup_create(&l, "a/b/c", &limits, true, &err) < 0)
        fail_msg("%s", err.msg);
    assert_int_equal(cgroup_create(&l, "a/b/c", &limits, true, &err), 0);
    int pid = fork();
    if (pid == 0) {
        pause();
        _exit(0);
    }
    assert_int_equal(cgroup_join(&l, "a/b/c", pid, false, &err), 0);
    struct container_usage u;
    assert_int_equal(cgroup_usage(&l, "a/b/c", &u, &err), 0);
    assert_true(u.pids >= 1); /* under qemu-user it has threads */
    assert_false(cgroup_oom_killed(&l, "a/b/c"));
    /* a limit that cannot be set names its file */
    limits = (struct cgroup_limits){.cpu_quota_us = 1};
    assert_true(cgroup_set_limits(&l, "a/b/c", &limits, &err) < 0);
    assert_non_null(strstr(err.msg, "cpu."));
    /* removal kills what is in the way */
    if (cgroup_remove(&l, "a", &err) < 0)
        fail_msg("%s", err.msg);
    assert_int_equal(cgroup_remove(&l, "a", &err), 0);
    assert_int_equal(cgroup_usage(&l, "a/b/c", &u, &err), -ENOENT);
    for (size_t i = 0; i < l.n; i++) {
        char path[256];
        snprintf(path, sizeof(path), "%s/%s", l.h[i].mount, top);
        rmdir(path);
        assert_int_not_equal(access(path, F_OK), 0);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_v2), cmocka_unit_test(test_v1),
                                       cmocka_unit_test(test_junk), cmocka_unit_test(test_life)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
