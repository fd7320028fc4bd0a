/* One test for each way out of a container that runtimes have had to close. */
#include "box.h"

static struct box box;
static struct sandbox *sandbox;
static char victim[128];

static int setup(void **state) {
    box_setup(&box);
    sandbox = box_sandbox(&box, "sb1");
    snprintf(victim, sizeof(victim), "%s/victim", box.base);
    mkdir(victim, 0755);
    box_write(box_path("%s/host-secret", victim), "host-secret\n");
    return 0;
}
static int teardown(void **state) {
    box_remove_sandbox(&box, sandbox);
    box_teardown(&box);
    return 0;
}

static size_t entries(const char *path) {
    DIR *d = opendir(path);
    size_t n = 0;
    assert_non_null(d);
    while (readdir(d))
        n++;
    closedir(d);
    return n;
}

static void assert_host_untouched(void) {
    struct buf text = {.limit = MiB(4)};
    assert_int_equal(entries(victim), 3);
    assert_int_equal(file_read("/proc/self/mountinfo", &text, NULL), 0);
    if (strstr(text.p, box.base))
        fail_msg("a mount reached the host: %s", text.p);
    buf_fini(&text);
}

/* CVE-2019-5736: the runtime's own binary, reached through /proc/<pid>/exe, is overwritten. */
static void test_binary_overwrite(void **state) {
    struct box own = box;
    struct runtime_options o = {.loop = box.loop,
                                .state_dir = box_path("%s/state2", box.base),
                                .root_dir = box_path("%s/root2", box.base),
                                .cgroup_root = box.cgroup,
                                .self_path = box_path("%s/self", box.base),
                                .events = {.on_container_exit = box_on_exit, .arg = &own}};
    struct buf bytes = {.limit = MiB(512)};
    struct error err;
    /* a copy that nothing else executes, or "text file busy" would hide what we want to see */
    assert_int_equal(file_read("/proc/self/exe", &bytes, NULL), 0);
    assert_int_equal(file_write_replace(o.self_path, buf_str(&bytes), 0755, &err), 0);
    assert_int_equal(runtime_open(&o, &own.rt, &err), 0);
    struct sandbox *s = box_sandbox(&own, "sb2");
    char exe[64];
    snprintf(exe, sizeof(exe), "/proc/%d/exe", sandbox_pid(s));
    int fd = open(exe, O_PATH | O_CLOEXEC);
    assert_true(fd >= 0);
    box_remove_sandbox(&own, s);
    snprintf(exe, sizeof(exe), "/proc/self/fd/%d", fd);
    assert_int_equal(open(exe, O_WRONLY | O_CLOEXEC), -1);
    assert_int_equal(errno, EROFS);
    assert_int_equal(open(exe, O_WRONLY | O_TRUNC | O_CLOEXEC), -1);
    assert_int_equal(errno, EROFS);
    close(fd);
    box_close(&own);
    struct buf after = {.limit = MiB(512)};
    assert_int_equal(file_read(o.self_path, &after, NULL), 0);
    assert_true(str_eq(buf_str(&bytes), buf_str(&after)));
    buf_fini(&bytes);
    buf_fini(&after);
}

/* The same from within: a program that is a link to /proc/self/exe makes the runtime's child execute itself. */
static void test_exec_self(void **state) {
    struct run r;
    char *out = NULL;
    run_init(&r, &box, "target", "exec sleep 100");
    assert_int_equal(box_try_container(&box, sandbox, &r.cfg, &r.c, &r.err), 0);
    box_exec(
        &box, r.c,
        "ln -s /proc/self/exe /bin/evil; for p in /proc/[0-9]*; do (: > $p/exe) 2>&1; done; ls -l /proc/*/exe 2>&1",
        &out);
    assert_null(strstr(out, "dory"));
    assert_null(strstr(out, "test_escape")); /* nobody of ours is to be seen in the container */
    box_remove_container(&box, r.c);
}

/* CVE-2024-21626: a descriptor of the host leaks into the working directory, the program's path, or the process. */
static void test_leaked_descriptors(void **state) {
    struct run r;
    char *out = NULL;
    for (int fd = 3; fd < 40; fd++) {
        char id[16], cwd[64], prog[80];
        snprintf(id, sizeof(id), "cwd%d", fd);
        snprintf(cwd, sizeof(cwd), "/proc/self/fd/%d", fd);
        run_init(&r, &box, id, "ls -a; cat host-secret victim/host-secret; pwd");
        r.cfg.cwd = str_c(cwd);
        int rc = run_to_end(&r, &box, sandbox, &out);
        assert_true(rc < 0 || (!strstr(out, "host-secret\n") && !strstr(out, "vmlinuz")));
        snprintf(id, sizeof(id), "prog%d", fd);
        snprintf(prog, sizeof(prog), "/proc/self/fd/%d/../../../../../../..%s", fd, "/bin/ls");
        run_init(&r, &box, id, "");
        r.argv[0] = str_c(prog);
        r.cfg.argv_n = 1;
        assert_true(run_to_end(&r, &box, sandbox, &out) < 0);
    }
    run_init(&r, &box, "fds", "ls -1 /proc/self/fd | sed 's/^/ /'; exec sleep 100");
    assert_int_equal(box_try_container(&box, sandbox, &r.cfg, &r.c, &r.err), 0);
    for (int i = 0; i < 200 && !strstr(box_log(r.log), " 3 -> "); i++)
        usleep(5000);
    out = box_log(r.log);
    if (!strstr(out, " 3"))
        fail_msg("%s", out);
    assert_null(strstr(out, " 4"));
    assert_int_equal(box_exec(&box, r.c, "ls -1 /proc/self/fd | sed 's/^/ /'", &out), 0);
    assert_non_null(strstr(out, " 3"));
    assert_null(strstr(out, " 4"));
    box_remove_container(&box, r.c);
    assert_host_untouched();
}

/* CVE-2019-19921, 2021-30465, 2023-27561, 2023-28642, 2024-45310, 2026-41579, 2026-47766: system directories of the image that are
 * links, and mount points below links. */
static void test_system_links(void **state) {
    static const char *const names[] = {"proc", "sys", "dev"};
    static const char *const targets[] = {"/etc", "../../../../../../etc", "."};
    struct run r;
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        for (size_t k = 0; k <= ARRAY_LEN(targets); k++) {
            char id[16], *at = box_path("%s/%s", box.image_dir, names[i]);
            assert_int_equal(symlink(k < ARRAY_LEN(targets) ? targets[k] : victim, at), 0);
            snprintf(id, sizeof(id), "lnk%zu%zu", i, k);
            run_init(&r, &box, id, "true");
            assert_true(run_to_end(&r, &box, sandbox, NULL) < 0);
            assert_non_null(strstr(r.err.msg, "must be a directory and no link"));
            unlink(at);
        }
    assert_host_untouched();
}

static void test_mount_through_links(void **state) {
    struct run r;
    char *out = NULL, *vol = box_path("%s/vol", box.base);
    mkdir(vol, 0755);
    box_write(box_path("%s/vol/mine", box.base), "mine\n");
    assert_int_equal(symlink(victim, box_path("%s/abs", box.image_dir)), 0);
    assert_int_equal(symlink("../../../../../../../../../../tmp", box_path("%s/up", box.image_dir)), 0);
    assert_int_equal(symlink("/proc/1/root", box_path("%s/magic", box.image_dir)), 0);
    assert_int_equal(symlink("/loop", box_path("%s/loop", box.image_dir)), 0);
    struct container_mount m[] = {{.source = str_c(vol), .destination = STR("/abs/deep/er")},
                                  {.source = str_c(vol), .destination = STR("/up/there")},
                                  {.source = str_c(vol), .destination = STR("/../../../../out")}};
    run_init(&r, &box, "links", "cat /abs/deep/er/mine; cat /tmp/there/mine; cat /out/mine; cat /proc/self/mountinfo");
    r.cfg.mounts = m;
    r.cfg.mounts_n = ARRAY_LEN(m);
    assert_int_equal(run_to_end(&r, &box, sandbox, &out), 0);
    assert_non_null(strstr(out, "mine\nmine\nmine\n")); /* each where the link leads inside the container */
    assert_host_untouched();
    static const char *const refused[] = {"/magic/tmp/x", "/loop/x", "/proc/self/root/tmp/x", "/proc/1/cwd"};
    for (size_t i = 0; i < ARRAY_LEN(refused); i++) {
        char id[16];
        snprintf(id, sizeof(id), "ref%zu", i);
        struct container_mount bad = {.source = str_c(vol), .destination = str_c(refused[i])};
        run_init(&r, &box, id, "true");
        r.cfg.mounts = &bad;
        r.cfg.mounts_n = 1;
        assert_true(run_to_end(&r, &box, sandbox, NULL) < 0);
    }
    assert_host_untouched();
    unlink(box_path("%s/abs", box.image_dir));
    unlink(box_path("%s/magic", box.image_dir));
}

/* CVE-2021-30465 proper: a container of the pod swaps a directory of a shared volume for a link while another's mounts are made. */
static void test_mount_race(void **state) {
    struct run racer, r;
    char *vol = box_path("%s/race", box.base), *out = NULL;
    int inside = 0, refused = 0;
    mkdir(vol, 0777);
    struct container_mount shared = {.source = str_c(vol), .destination = STR("/vol")};
    run_init(
        &racer, &box, "racer",
        "cd /vol; mkdir real; ln -s / up; ln -s /../../../../../../../../tmp far; mkdir d; while true; do mv -T d e; mv -T up d; mv -T d up; mv -T far d; mv "
        "-T d far; mv -T e d; done 2>/dev/null");
    racer.cfg.mounts = &shared;
    racer.cfg.mounts_n = 1;
    assert_int_equal(box_try_container(&box, sandbox, &racer.cfg, &racer.c, &racer.err), 0);
    for (int i = 0; i < 40; i++) {
        char id[16];
        snprintf(id, sizeof(id), "race%d", i);
        struct container_mount m[] = {shared, {.source = str_c(victim), .destination = STR("/vol/d/target")}};
        run_init(&r, &box, id, "grep -c victim /proc/self/mountinfo; cat /proc/self/mountinfo");
        r.cfg.mounts = m;
        r.cfg.mounts_n = 2;
        int rc = run_to_end(&r, &box, sandbox, &out);
        inside += rc >= 0;
        refused += rc < 0;
        struct buf text = {.limit = MiB(4)};
        assert_int_equal(file_read("/proc/self/mountinfo", &text, NULL), 0);
        assert_null(strstr(text.p, box.base));
        buf_fini(&text);
    }
    printf("%d inside, %d refused\n", inside, refused);
    box_remove_container(&box, racer.c);
    assert_host_untouched();
    assert_int_not_equal(access("/target", F_OK), 0);
    assert_int_not_equal(access("/tmp/target", F_OK), 0);
}

/* CVE-2025-31133, 2025-52565: the null device that hides paths, and the console, are replaced by something else. */
static void test_fake_devices(void **state) {
    struct run r;
    char *out = NULL, *dev = box_path("%s/dev", box.base);
    mkdir(dev, 0755);
    assert_int_equal(symlink("/etc/passwd", box_path("%s/dev/null", box.base)), 0);
    struct container_mount m = {.source = str_c(dev), .destination = STR("/dev")};
    run_init(
        &r, &box, "fakenull",
        "cat /proc/keys /proc/timer_list | wc -c; cat /proc/kcore 2>/dev/null | wc -c; grep -c /proc/keys /proc/mounts");
    r.cfg.mounts = &m;
    r.cfg.mounts_n = 1;
    assert_int_equal(run_to_end(&r, &box, sandbox, &out), 0);
    if (!strstr(out, "0\n0\n1\n"))
        fail_msg("%s", out);
    /* an image that brings its own /dev/console, null and ptmx as links */
    mkdir(box_path("%s/dev", box.image_dir), 0755);
    static const char *const names[] = {"console", "null", "ptmx", "pts", "shm", "mqueue"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        assert_int_equal(symlink("/proc/sysrq-trigger", box_path("%s/dev/%s", box.image_dir, names[i])), 0);
    run_init(&r, &box, "fakecons", "tty; ls -l /dev/null; echo safe");
    r.cfg.tty = true;
    assert_int_equal(run_to_end(&r, &box, sandbox, &out), 0);
    assert_non_null(strstr(out, "safe"));
    assert_non_null(strstr(out, "/dev/pts/0"));
}

/* A privileged container puts something else where exec looks for a terminal. */
static void test_fake_terminal(void **state) {
    struct run r;
    char *out = NULL;
    run_init(&r, &box, "faketty", "mount -t tmpfs x /dev/pts && mknod /dev/pts/ptmx c 1 3; echo up; exec sleep 100");
    r.cfg.privileged = true;
    assert_int_equal(box_try_container(&box, sandbox, &r.cfg, &r.c, &r.err), 0);
    for (int i = 0; i < 200 && !strstr(box_log(r.log), "up"); i++)
        usleep(5000);
    assert_int_equal(box_exec(&box, r.c, "echo fine", &out), 0); /* without a terminal it works */
    box_remove_container(&box, r.c);
}

/* CVE-2022-0492, 2023-25809: writing to control groups. */
static void test_cgroup_write(void **state) {
    char *out = NULL;
    box_run(
        &box, sandbox,
        "cat /proc/self/cgroup; for f in $(find /sys/fs/cgroup -name 'cgroup.procs' -o -name 'release_agent' -o -name '*.limit_in_bytes' -o -name memory.max); do "
        "(echo 1 > $f) 2>&1 && echo WROTE $f; done; mkdir /tmp/c; mount -t cgroup -o memory x /tmp/c && echo MOUNTED; mkdir /sys/fs/cgroup/x && echo MADE",
        &out);
    assert_null(strstr(out, "WROTE"));
    assert_null(strstr(out, "MOUNTED"));
    assert_null(strstr(out, "MADE"));
    assert_null(strstr(out, "burstable")); /* the container's own group is its root */
    assert_null(strstr(out, "sb1"));
}

/* What the kernel offers beyond the container. */
static void test_kernel_interfaces(void **state) {
    char *out = NULL;
    box_run(
        &box, sandbox,
        "t() { (\"$@\") >/dev/null 2>&1 && echo \"ALLOWED: $*\"; }; t sh -c 'echo h > /proc/sysrq-trigger'; t sh -c 'echo x > /proc/sys/kernel/core_pattern'; "
        "t sh -c 'echo x > /sys/kernel/uevent_helper'; t mount -o remount,rw /proc/sys; t mount -o remount,rw /sys; t mount -t proc p /tmp; "
        "t unshare -r true; t mknod /tmp/sda b 8 0; t dd if=/tmp/sda of=/dev/null count=1; t sh -c 'head -c 4 /proc/kcore | grep -q ELF'; t sh -c 'echo 0 > /proc/1/oom_score_adj && "
        "echo -1000 > /proc/1/oom_score_adj'; t hostname evil; t umount /proc/sys; t ln /etc/passwd /proc/x; t sh -c ': > /proc/bus/x'; echo end",
        &out);
    assert_non_null(strstr(out, "end"));
    char *allowed = strstr(out, "ALLOWED");
    if (allowed && !strstr(allowed, "mknod")) /* making a node is allowed, opening it is not */
        fail_msg("%s", out);
    if (allowed && strstr(allowed + 7, "ALLOWED"))
        fail_msg("%s", out);
}

/* The working directory is made inside the root, whatever links stand in its way. */
static void test_cwd_links(void **state) {
    struct run r;
    char *out = NULL;
    assert_int_equal(symlink(victim, box_path("%s/wd", box.image_dir)), 0);
    run_init(&r, &box, "wd", "pwd -P; ls");
    r.cfg.cwd = STR("/wd/new");
    assert_int_equal(run_to_end(&r, &box, sandbox, &out), 0);
    assert_null(strstr(out, "host-secret\n"));
    assert_host_untouched();
    unlink(box_path("%s/wd", box.image_dir));
}

/* Only root reaches the monitor, and what it hears is checked. */
static void test_control_socket(void **state) {
    struct stat st;
    assert_int_equal(stat(box_path("%s/sb1", box.state), &st), 0);
    assert_int_equal(st.st_mode & 0777, 0700);
    assert_int_equal(stat(box_path("%s/sb1/sandbox.spec", box.state), &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
}

/* A log path that is a link would let the monitor write anywhere. */
static void test_log_link(void **state) {
    struct run r;
    run_init(&r, &box, "loglink", "echo overwritten");
    assert_int_equal(symlink(box_path("%s/host-secret", victim), r.log), 0);
    assert_true(run_to_end(&r, &box, sandbox, NULL) < 0);
    struct buf text = {.limit = 4096};
    assert_int_equal(file_read(box_path("%s/host-secret", victim), &text, NULL), 0);
    assert_string_equal(text.p, "host-secret\n");
    buf_fini(&text);
}

/* A pid-1 that stays invisible: nothing of the host's processes is seen. */
static void test_process_view(void **state) {
    char *out = NULL;
    box_run(&box, sandbox, "ls -d /proc/[0-9]* | wc -l; echo pid:$$; kill -9 -1; echo alive", &out);
    assert_non_null(strstr(out, "pid:1\n"));
    assert_non_null(strstr(out, "alive"));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
static const struct CMUnitTest tests[] = {
    TEST(test_binary_overwrite),  TEST(test_exec_self),           TEST(test_leaked_descriptors),
    TEST(test_system_links),      TEST(test_mount_through_links), TEST(test_mount_race),
    TEST(test_fake_devices),      TEST(test_fake_terminal),       TEST(test_cgroup_write),
    TEST(test_kernel_interfaces), TEST(test_cwd_links),           TEST(test_control_socket),
    TEST(test_log_link),          TEST(test_process_view),
};
BOX_MAIN(tests)
