/* Containers as a user sees them: exit codes, environment, users, capabilities, mounts, limits; and that nothing is left. */
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

#define assert_in(out, text)                         \
    do {                                             \
        if (!strstr(out, text))                      \
            fail_msg("no \"%s\" in: %s", text, out); \
    } while (0)
#define assert_not_in(out, text)                  \
    do {                                          \
        if (strstr(out, text))                    \
            fail_msg("\"%s\" in: %s", text, out); \
    } while (0)

static void test_exit_code(void **state) {
    char *out = NULL;
    assert_int_equal(box_run(&box, sandbox, "exit 0", NULL), 0);
    assert_int_equal(box_run(&box, sandbox, "exit 42", NULL), 42);
    assert_int_equal(box_run(&box, sandbox, "kill -9 $$; exit 1", NULL), 1); /* pid 1 is safe from itself */
    assert_int_equal(box_run(&box, sandbox, "echo hello; echo oops >&2; exit 3", &out), 3);
    assert_in(out, "hello\n");
    assert_in(out, "oops\n");
}

static void test_environment(void **state) {
    struct run r;
    char *out = NULL;
    struct str env[] = {STR("A=1"), STR("EMPTY="), STR("SPACE=a b\tc")};
    run_init(&r, &box, "env", "env; pwd; hostname; echo \"[$SPACE]\"");
    r.cfg.envp = env;
    r.cfg.envp_n = 3;
    r.cfg.cwd = STR("/srv/made/for/me");
    assert_int_equal(run_to_end(&r, &box, sandbox, &out), 0);
    assert_in(out, "A=1\n");
    assert_in(out, "EMPTY=\n");
    assert_in(out, "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n");
    assert_in(out, "HOME=/root\n");
    assert_in(out, "\n/srv/made/for/me\n");
    assert_in(out, "\nsb1\n");
    assert_in(out, "[a b\tc]");
    assert_not_in(out, "MIMALLOC");
}

static void test_user(void **state) {
    static const struct {
        const char *user;
        int64_t uid, gid;
        bool merge;
        const char *want;
    } cases[] = {
        {"", -1, -1, false, "0 0 0"},
        {"user", -1, -1, false, "1000 1001 1001"},
        {"user", -1, -1, true, "1000 1001 1001 50 60"},
        {"1000", -1, -1, false, "1000 1001 1001"},
        {"1234", -1, -1, false, "1234 0 0"},
        {"1234:77", -1, -1, false, "1234 77 77"},
        {"user:staff", -1, -1, false, "1000 50 50"},
        {"user", 4000, -1, false, "4000 0 0"},
        {"user", 1000, 5, true, "1000 5 5 50 60"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct run r;
        char *out = NULL, id[16];
        snprintf(id, sizeof(id), "user%zu", i);
        run_init(&r, &box, id, "exec 2>/dev/null; echo $(id -u) $(id -g) $(id -G)");
        r.cfg.user = (struct container_user){str_c(cases[i].user), cases[i].uid, cases[i].gid, NULL, 0, cases[i].merge};
        assert_int_equal(run_to_end(&r, &box, sandbox, &out), 0);
        assert_string_equal(str_eq_c(str_trim(str_c(out)), cases[i].want) ? "" : out, "");
    }
    static const char *const bad[] = {"nobody-here", "user:nogroup", "neg",   "-1", "99999999999", "4294967296",
                                      ":",           "0:",           "1:2:3", "0x0"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct run r;
        char id[16];
        snprintf(id, sizeof(id), "bad%zu", i);
        run_init(&r, &box, id, "id");
        r.cfg.user.user = str_c(bad[i]);
        assert_int_equal(run_to_end(&r, &box, sandbox, NULL), -EINVAL);
    }
}

static void test_stdout_of_user(void **state) {
    struct run r;
    char *out = NULL;
    run_init(&r, &box, "stdout", "echo by-name > /dev/stdout; echo err > /dev/stderr; ls -ld /dev/fd");
    r.cfg.user.user = STR("user");
    assert_int_equal(run_to_end(&r, &box, sandbox, &out), 0);
    assert_in(out, "by-name\n");
    assert_in(out, "err\n");
}

static void test_capabilities(void **state) {
    struct run r;
    char *out = NULL;
    run_init(&r, &box, "caps", "grep -E '^(Cap|NoNew|Seccomp:)' /proc/self/status");
    assert_int_equal(run_to_end(&r, &box, sandbox, &out), 0);
    assert_in(out, "CapInh:\t0000000000000000");
    assert_in(out, "CapPrm:\t00000000a80425fb");
    assert_in(out, "CapEff:\t00000000a80425fb");
    assert_in(out, "CapBnd:\t00000000a80425fb");
    assert_in(out, "CapAmb:\t0000000000000000");
    assert_in(out, "NoNewPrivs:\t1");
    assert_in(out, "Seccomp:\t2");
    run_init(&r, &box, "caps2", "grep -E '^(Cap|NoNew|Seccomp:)' /proc/self/status");
    r.cfg.user.uid = 1000;
    r.cfg.no_new_privs = false;
    assert_int_equal(run_to_end(&r, &box, sandbox, &out), 0);
    assert_in(out, "CapEff:\t0000000000000000");
    assert_in(out, "CapInh:\t0000000000000000");
    assert_in(out, "CapBnd:\t00000000a80425fb");
    assert_in(out, "NoNewPrivs:\t0");
    assert_in(out, "Seccomp:\t2");
    run_init(&r, &box, "caps3", "grep -E '^Cap' /proc/self/status; chown 1 /tmp || echo refused");
    r.cfg.capabilities = 0;
    assert_int_equal(run_to_end(&r, &box, sandbox, &out), 0);
    assert_in(out, "CapBnd:\t0000000000000000");
    assert_in(out, "refused");
    /* all of them, on a machine that lacks some: what there is */
    run_init(&r, &box, "caps4",
             "grep -E '^(CapEff|Seccomp:)' /proc/self/status; test -e /dev/vda || test -e /dev/sda || ls /dev | wc -l");
    r.cfg.privileged = true;
    assert_int_equal(run_to_end(&r, &box, sandbox, &out), 0);
    assert_in(out, "CapEff:\t000001ff");
    assert_in(out, "Seccomp:\t0");
}

static void test_seccomp(void **state) {
    struct run r;
    char *out = NULL;
    run_init(&r, &box, "sec1", "unshare -U true 2>&1; mount -t tmpfs x /tmp 2>&1; echo end");
    assert_int_equal(run_to_end(&r, &box, sandbox, &out), 0);
    assert_in(out, "Operation not permitted");
    assert_in(out, "end");
    run_init(&r, &box, "sec2", "mkdir /tmp/x 2>&1; echo $?; touch /tmp/y && echo fine");
    r.cfg.seccomp = SECCOMP_LOCALHOST;
    r.cfg.seccomp_profile =
        STR("{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"syscalls\":[{\"names\":[\"mkdir\",\"mkdirat\",\"not_a_call\"],"
            "\"action\":\"SCMP_ACT_ERRNO\",\"errnoRet\":28}]}");
    assert_int_equal(run_to_end(&r, &box, sandbox, &out), 0);
    assert_in(out, "No space left");
    assert_in(out, "fine");
    run_init(&r, &box, "sec3", "true");
    r.cfg.seccomp = SECCOMP_LOCALHOST;
    r.cfg.seccomp_profile = STR("{\"defaultAction\":\"SCMP_ACT_MAYBE\"}");
    assert_int_equal(run_to_end(&r, &box, sandbox, NULL), -EINVAL);
    assert_in(r.err.msg, "SCMP_ACT_MAYBE");
    run_init(&r, &box, "sec4", "grep Seccomp: /proc/self/status");
    r.cfg.seccomp = SECCOMP_UNCONFINED;
    assert_int_equal(run_to_end(&r, &box, sandbox, &out), 0);
    assert_in(out, "Seccomp:\t0");
}

static void test_file_systems(void **state) {
    struct run r;
    char *out = NULL;
    run_init(
        &r, &box, "fs1",
        "cat /proc/mounts; echo x > /sys/kernel/x 2>&1; echo x > /proc/sys/kernel/hostname 2>&1; echo keys:$(cat /proc/keys); "
        "echo firmware:$(ls /sys/firmware | wc -l); ls -l /dev/; ls /sys/fs/cgroup; echo hi > /dev/null; "
        "head -c 4 /dev/zero | wc -c; head -c 4 /dev/urandom | wc -c; touch /written && echo root-ok; mknod /tmp/k c 1 11 && cat /tmp/k");
    run_to_end(&r, &box, sandbox, &out);
    assert_in(out, "overlay / overlay rw");
    assert_not_in(out, box.base); /* where the host keeps its layers is nobody's business */
    assert_in(out, "proc /proc proc rw,nosuid,nodev,noexec");
    assert_in(out, "sysfs /sys sysfs ro,nosuid,nodev,noexec");
    assert_in(out, "tmpfs /dev tmpfs rw,nosuid");
    assert_in(out, "devpts /dev/pts devpts rw,nosuid,noexec");
    assert_in(out, "/dev/shm tmpfs rw,nosuid,nodev,noexec");
    assert_in(out, "mqueue /dev/mqueue mqueue");
    assert_in(out, "/sys/fs/cgroup");
    assert_in(out, "proc /proc/sys proc ro,nosuid,nodev,noexec");
    assert_in(out, "Read-only file system");
    assert_in(out, "keys:\n");
    assert_in(out, "firmware:0\n");
    assert_in(out, "ptmx -> pts/ptmx");
    assert_in(out, "stdout -> /proc/self/fd/1");
    assert_in(out, "\n4\n4\n");
    assert_in(out, "root-ok");
    assert_in(out, "can't open '/tmp/k': Operation not permitted"); /* /dev/kmsg's number: the device filter */
    run_init(&r, &box, "fs2", "touch /x 2>&1; touch /tmp/x 2>&1; touch /dev/shm/x && echo shm-ok");
    r.cfg.read_only_root = true;
    assert_int_equal(run_to_end(&r, &box, sandbox, &out), 0);
    assert_in(out, "/x: Read-only file system");
    assert_in(out, "/tmp/x: Read-only file system");
    assert_in(out, "shm-ok");
    run_init(&r, &box, "fs3", "cat /proc/mounts; cat /proc/interrupts | wc -l");
    r.cfg.unmasked_proc = true;
    assert_int_equal(run_to_end(&r, &box, sandbox, &out), 0);
    assert_not_in(out, "proc /proc/sys");
    run_init(&r, &box, "fs4", "cat /proc/mounts; ls -l /dev/kmsg; echo x > /proc/sys/kernel/hostname; hostname");
    r.cfg.privileged = true;
    assert_int_equal(run_to_end(&r, &box, sandbox, &out), 0);
    assert_in(out, "sysfs /sys sysfs rw");
    assert_in(out, "/dev/kmsg");
    assert_in(out, "\nx\n");
}

static void test_mounts(void **state) {
    struct run r;
    char *out = NULL, *vol = box_path("%s/vol", box.base);
    mkdir(vol, 0755);
    box_write(box_path("%s/vol/f", box.base), "content\n");
    box_write(box_path("%s/file", box.base), "single\n");
    struct container_mount mounts[] = {
        {.source = str_c(box_path("%s/vol", box.base)), .destination = STR("/data/rw")},
        {.source = str_c(box_path("%s/vol", box.base)), .destination = STR("/data/ro"), .read_only = true},
        {.source = str_c(box_path("%s/file", box.base)), .destination = STR("/etc/new/single"), .create_file = true},
        {.destination = STR("/scratch"), .tmpfs = true, .tmpfs_bytes = 65536},
        {.source = str_c(box_path("%s/file", box.base)),
         .destination = STR("/dev/termination-log"),
         .create_file = true},
    };
    run_init(
        &r, &box, "mnt1",
        "cat /data/rw/f /etc/new/single; echo more > /data/rw/g; cat /data/ro/g; touch /data/ro/x 2>&1; "
        "dd if=/dev/zero of=/scratch/big bs=1k count=100 2>&1 | head -1; grep -c /data/r /proc/mounts; echo bye > /dev/termination-log");
    r.cfg.mounts = mounts;
    r.cfg.mounts_n = ARRAY_LEN(mounts);
    assert_int_equal(run_to_end(&r, &box, sandbox, &out), 0);
    assert_in(out, "content\nsingle\n");
    assert_in(out, "\nmore\n");
    assert_in(out, "/data/ro/x: Read-only file system");
    assert_in(out, "No space left");
    struct buf text = {.limit = 4096};
    assert_int_equal(file_read(box_path("%s/file", box.base), &text, NULL), 0);
    assert_string_equal(text.p, "bye\n");
    buf_fini(&text);
    struct container_mount bad[] = {
        {.source = STR("/no/such/thing"), .destination = STR("/x")},
        {.source = str_c(box_path("%s/vol", box.base)), .destination = STR("/proc/sys")},
        {.source = str_c(box_path("%s/vol", box.base)), .destination = STR("/proc")},
        {.source = str_c(box_path("%s/vol", box.base)), .destination = STR("/")},
        {.source = str_c(box_path("%s/vol", box.base)), .destination = STR("relative")},
        {.source = str_c(box_path("%s/vol", box.base)), .destination = STR("/etc/passwd")},
    };
    static const int codes[] = {-ENOENT, -EPERM, -EPERM, -EINVAL, -EINVAL, -ENOTDIR};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        char id[16];
        snprintf(id, sizeof(id), "mntbad%zu", i);
        run_init(&r, &box, id, "true");
        r.cfg.mounts = &bad[i];
        r.cfg.mounts_n = 1;
        int rc = run_to_end(&r, &box, sandbox, NULL);
        if (rc != codes[i])
            fail_msg("%zu: %d %s", i, rc, r.err.msg);
        assert_true(strlen(r.err.msg) > 10);
    }
}

static void test_propagation(void **state) {
    struct run r;
    char *out = NULL, *vol = box_path("%s/prop", box.base);
    mkdir(vol, 0755);
    mkdir(box_path("%s/prop/sub", box.base), 0755);
    assert_int_equal(mount(vol, vol, NULL, MS_BIND, NULL), 0);
    assert_int_equal(mount(NULL, vol, NULL, MS_SHARED, NULL), 0);
    struct container_mount mounts[] = {
        {.source = str_c(vol), .destination = STR("/p")},
        {.source = str_c(vol), .destination = STR("/h"), .propagation = MOUNT_HOST_TO_CONTAINER},
        {.source = str_c(vol), .destination = STR("/b"), .propagation = MOUNT_BIDIRECTIONAL},
    };
    run_init(&r, &box, "prop",
             "mkdir /b/mine; mount -t tmpfs fromctr /b/mine; touch /tmp/ready; "
             "while ! test -e /h/sub/here; do usleep 1000; done; ls /p/sub /h/sub /b/sub; umount /b/mine");
    r.cfg.mounts = mounts;
    r.cfg.mounts_n = ARRAY_LEN(mounts);
    r.cfg.privileged = true;
    assert_int_equal(box_try_container(&box, sandbox, &r.cfg, &r.c, &r.err), 0);
    bool seen = false;
    for (int i = 0; i < 500 && !seen; i++) {
        struct buf text = {.limit = MiB(1)};
        assert_int_equal(file_read("/proc/mounts", &text, NULL), 0);
        seen = strstr(text.p, "fromctr") != NULL;
        buf_fini(&text);
        usleep(2000);
    }
    assert_true(seen); /* the container's mount reached the host */
    assert_int_equal(mount("fromhost", box_path("%s/prop/sub", box.base), "tmpfs", 0, NULL), 0);
    close(open(box_path("%s/prop/sub/here", box.base), O_CREAT | O_WRONLY, 0644));
    assert_int_equal(box_wait_exit(&box, r.c), 0);
    out = box_log(r.log);
    assert_in(out, "/b/sub:\nhere\n\n/h/sub:\nhere\n\n/p/sub:\n");
    assert_null(strstr(strstr(out, "/p/sub:"), "here"));
    umount2(box_path("%s/prop/sub", box.base), MNT_DETACH);
    umount2(box_path("%s/prop/mine", box.base), MNT_DETACH);
    umount2(vol, MNT_DETACH);
    box_remove_container(&box, r.c);
}

static void test_missing_program(void **state) {
    static const struct {
        const char *argv0, *want;
        int code;
    } cases[] = {
        {"foo", "exec: \"foo\": executable file not found in $PATH", -ENOENT},
        {"/nope", "exec: \"/nope\": stat /nope: no such file or directory", -ENOENT},
        {"/etc/passwd", "exec: \"/etc/passwd\": permission denied", -EACCES},
        {"/tmp", "exec: \"/tmp\": is a directory", -EACCES},
        {"/bin/text", "exec /bin/text: exec format error", -ENOEXEC},
        {"/bin/orphan", "exec /bin/orphan: no such file or directory", -ENOENT},
        {"", "exec: \"\": executable file not found in $PATH", -ENOENT},
    };
    box_write(box_path("%s/bin/text", box.image_dir), "just text\n");
    box_write(box_path("%s/bin/orphan", box.image_dir), "#!/no/interpreter\n");
    chmod(box_path("%s/bin/text", box.image_dir), 0755);
    chmod(box_path("%s/bin/orphan", box.image_dir), 0755);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct run r;
        char id[16];
        snprintf(id, sizeof(id), "miss%zu", i);
        run_init(&r, &box, id, "");
        r.argv[0] = str_c(cases[i].argv0);
        r.cfg.argv_n = 1;
        int rc = run_to_end(&r, &box, sandbox, NULL);
        if (rc != cases[i].code || strcmp(r.err.msg, cases[i].want) != 0)
            fail_msg("%d \"%s\", not %d \"%s\"", rc, r.err.msg, cases[i].code, cases[i].want);
        /* it does not exist: the name is free again */
        assert_int_not_equal(access(box_path("%s/sb1/%s", box.root, id), F_OK), 0);
        assert_int_not_equal(access(box_path("%s/sb1/%s.spec", box.state, id), F_OK), 0);
    }
}

static void test_limits(void **state) {
    struct run r;
    char *out = NULL;
    run_init(
        &r, &box, "oom",
        "cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max 2>/dev/null; exec tail /dev/zero");
    r.cfg.cgroup.memory_bytes = 16 << 20;
    assert_int_equal(box_try_container(&box, sandbox, &r.cfg, &r.c, &r.err), 0);
    assert_int_equal(box_wait_exit(&box, r.c), 137);
    assert_true(container_status(r.c)->oom_killed);
    assert_int_equal(container_status(r.c)->signal, SIGKILL);
    out = box_log(r.log);
    assert_in(out, "16777216\n");
    box_remove_container(&box, r.c);
    run_init(&r, &box, "pids", "for i in 1 2 3 4 5 6 7 8 9 10; do sleep 5 & done; echo made-all");
    r.cfg.cgroup.pids = 5;
    assert_int_not_equal(run_to_end(&r, &box, sandbox, &out), 0);
    assert_in(out, "can't fork");
    assert_not_in(out, "made-all");
    run_init(
        &r, &box, "cpu",
        "cat /sys/fs/cgroup/cpu/cpu.shares /sys/fs/cgroup/cpu/cpu.cfs_quota_us /sys/fs/cgroup/cpu.max 2>/dev/null; "
        "cat /proc/self/oom_score_adj; P=/sys/fs/cgroup/pids; test -d $P || P=/sys/fs/cgroup; cat $P/pids.max; echo 1 > $P/pids.max");
    r.cfg.cgroup = (struct cgroup_limits){.cpu_shares = 512, .cpu_quota_us = 50000, .pids = 100};
    r.cfg.oom_score_adj = 987;
    run_to_end(&r, &box, sandbox, &out);
    assert_true(strstr(out, "512\n50000\n") || strstr(out, "50000 100000"));
    assert_in(out, "\n987\n");
    assert_in(out, "Read-only file system");
}

static void do_update(void *arg) {
    struct call *c = arg;
    struct cgroup_limits l = {.pids = 77, .memory_bytes = 32 << 20};
    struct container_usage u;
    c->code = container_update(c->container, &l, &c->err);
    if (c->code == 0)
        c->code = container_usage(c->container, &u, &c->err);
    snprintf(c->output, sizeof(c->output), "%llu %llu %llu", (unsigned long long)u.pids,
             (unsigned long long)u.memory_bytes, (unsigned long long)u.cpu_ns);
    if (c->code == 0 && (u.pids != 1 || u.memory_bytes == 0 || u.cpu_ns == 0))
        c->code = -1;
    box_finish(c);
}

static void test_update_usage(void **state) {
    struct run r;
    run_init(&r, &box, "upd", "i=0; while test $i -lt 3000; do i=$((i+1)); done; echo done; exec sleep 100");
    assert_int_equal(box_try_container(&box, sandbox, &r.cfg, &r.c, &r.err), 0);
    for (int i = 0; i < 500 && !strstr(box_log(r.log), "done"); i++)
        usleep(5000);
    struct call c = {.box = &box, .container = r.c};
    box_call(&c, do_update);
    if (c.code < 0)
        fail_msg("%s %s", c.err.msg, c.output);
    assert_int_equal(box_kill(&box, r.c, SIGKILL), 0);
    assert_int_equal(box_wait_exit(&box, r.c), 137);
    assert_false(container_status(r.c)->oom_killed);
    assert_int_equal(box_kill(&box, r.c, SIGKILL), -ESRCH);
    box_remove_container(&box, r.c);
}

static void test_signals(void **state) {
    struct run r;
    run_init(&r, &box, "sig", "trap 'echo got; exit 7' TERM; echo up; while true; do sleep 1 & wait; done");
    assert_int_equal(box_try_container(&box, sandbox, &r.cfg, &r.c, &r.err), 0);
    for (int i = 0; i < 500 && !strstr(box_log(r.log), "up"); i++)
        usleep(5000);
    assert_int_equal(box_kill(&box, r.c, 0), 0); /* its stop signal */
    assert_int_equal(box_wait_exit(&box, r.c), 7);
    assert_in(box_log(r.log), "got");
    assert_int_equal(container_status(r.c)->signal, 0);
    box_remove_container(&box, r.c);
}

static void test_shared_in_the_pod(void **state) {
    struct run a;
    char *out = NULL;
    run_init(&a, &box, "first", "echo shared > /dev/shm/x; nc -l -p 7777 -e cat & echo up; exec sleep 100");
    assert_int_equal(box_try_container(&box, sandbox, &a.cfg, &a.c, &a.err), 0);
    for (int i = 0; i < 500 && !strstr(box_log(a.log), "up"); i++)
        usleep(5000);
    usleep(50000);
    assert_int_equal(box_run(&box, sandbox,
                             "cat /dev/shm/x; ls -1 /proc | grep -c '^[0-9]'; echo ping | nc 127.0.0.1 7777; ls /tmp",
                             &out),
                     0);
    assert_in(out, "shared\n"); /* /dev/shm and the network are the pod's, processes are not */
    assert_in(out, "ping\n");
    box_remove_container(&box, a.c);
}

static void test_share_pid(void **state) {
    struct sandbox_config cfg = {.id = STR("shared"), .hostname = STR("h"), .share_pid = true};
    struct sandbox *s;
    struct error err;
    struct run a;
    char *out = NULL;
    assert_int_equal(box_try_sandbox(&box, &cfg, &s, &err), 0);
    run_init(&a, &box, "sp1", "exec sleep 987");
    assert_int_equal(box_try_container(&box, s, &a.cfg, &a.c, &a.err), 0);
    assert_int_equal(box_run(&box, s, "ps; (sleep 0 & ) ; usleep 50000; ps | grep -c ' [Z] ' ; echo me:$$", &out), 0);
    assert_in(out, "sleep 987");
    assert_not_in(out, "me:1\n");
    assert_in(out, "\n0\nme:"); /* the orphan was reaped */
    /* what a container leaves running dies with it */
    assert_int_equal(box_run(&box, s, "sleep 654 & exit 0", NULL), 0);
    usleep(50000);
    box_run(&box, s, "ps", &out);
    assert_not_in(out, "sleep 654");
    assert_int_equal(box_exec(&box, a.c, "ps | grep -c 'sleep 98[7]'; exit 8", &out), 8);
    assert_in(out, "1\n");
    box_remove_sandbox(&box, s);
}

static void test_host_namespaces(void **state) {
    struct sandbox_config cfg = {.id = STR("host"), .host_network = true, .host_pid = true, .host_ipc = true};
    struct sandbox *s;
    struct error err;
    char *out = NULL, net[64] = "";
    assert_int_equal(box_try_sandbox(&box, &cfg, &s, &err), 0);
    assert_int_equal(sandbox_netns_fd(s), -1);
    assert_true(readlink("/proc/self/ns/net", net, sizeof(net) - 1) > 0);
    struct run r;
    run_init(&r, &box, "hostns", "readlink /proc/self/ns/net; test -d /proc/2 && echo sees-host; ls -d /dev/shm");
    assert_int_equal(run_to_end(&r, &box, s, &out), 0);
    assert_in(out, net);
    assert_in(out, "sees-host");
    box_remove_sandbox(&box, s);
}

static void test_sysctls(void **state) {
    struct str good[] = {STR("net.ipv4.ip_unprivileged_port_start"), STR("0"), STR("kernel.shm_rmid_forced"), STR("1")};
    struct sandbox_config cfg = {.id = STR("sys"), .hostname = STR("h"), .sysctls = good, .sysctls_n = 4};
    struct sandbox *s;
    struct error err;
    char *out = NULL;
    assert_int_equal(box_try_sandbox(&box, &cfg, &s, &err), 0);
    box_run(&box, s, "cat /proc/sys/net/ipv4/ip_unprivileged_port_start /proc/sys/kernel/shm_rmid_forced", &out);
    assert_in(out, "0\n1\n");
    box_remove_sandbox(&box, s);
    static const char *const bad[] = {"kernel.hostname",     "vm.swappiness",
                                      "kernel.core_pattern", "net/../kernel/core_pattern",
                                      "fs.file-max",         "../x",
                                      "/etc/passwd"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct str pair[] = {str_c(bad[i]), STR("1")};
        cfg.sysctls = pair;
        cfg.sysctls_n = 2;
        assert_int_equal(box_try_sandbox(&box, &cfg, &s, &err), -EPERM);
        assert_in(err.msg, bad[i]);
        assert_int_not_equal(access(box_path("%s/sys", box.state), F_OK), 0);
    }
}

static void test_many_layers(void **state) {
    const char *layers[120] = {NULL};
    struct run r;
    char *out = NULL, names[118][512];
    layers[0] = box.image_dir;
    for (int i = 1; i < 118; i++) {
        snprintf(names[i], sizeof(names[i]), "%s/layer,with:odd\\name-%d-%s", box.base, i,
                 "abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyz");
        mkdir(names[i], 0755);
        box_write(box_path("%s/top", names[i]), "");
        FILE *f = fopen(box_path("%s/top", names[i]), "w");
        fprintf(f, "%d\n", i);
        fclose(f);
        layers[i] = names[i];
    }
    struct image many = {.id = STR("sha256:many"), .layers = layers};
    ref_init(&many.ref);
    run_init(&r, &box, "layers", "cat /top; rm /top; cat /top 2>&1");
    r.cfg.image = &many;
    run_to_end(&r, &box, sandbox, &out);
    assert_in(out, "117\n");
    assert_in(out, "No such file");
}

static void test_tty(void **state) {
    struct run r;
    char *out = NULL;
    run_init(&r, &box, "tty",
             "tty; test -t 0 && test -t 1 && echo is-tty; ls -l /dev/console; echo to-console > /dev/console");
    r.cfg.tty = true;
    assert_int_equal(run_to_end(&r, &box, sandbox, &out), 0);
    assert_in(out, "/dev/pts/0");
    assert_in(out, "is-tty");
    assert_in(out, "to-console");
}

/* Threads of a removal: no process, mount, cgroup or file of the sandbox stays. */
static void test_nothing_left(void **state) {
    struct sandbox *s = box_sandbox(&box, "gone");
    struct run r[3];
    for (int i = 0; i < 3; i++) {
        char id[8];
        snprintf(id, sizeof(id), "g%d", i);
        run_init(&r[i], &box, id, "sleep 4321 & exec sleep 4321");
        r[i].cfg.id = str_c(id);
        assert_int_equal(box_try_container(&box, s, &r[i].cfg, &r[i].c, &r[i].err), 0);
    }
    box_remove_container(&box, r[0].c); /* while it runs */
    assert_int_not_equal(access(box_path("%s/gone/g0", box.root), F_OK), 0);
    assert_int_equal(access(box_path("%s/gone/g1", box.root), F_OK), 0);
    int pid = sandbox_pid(s);
    box_remove_sandbox(&box, s);
    assert_int_not_equal(kill(pid, 0), 0);
    assert_int_not_equal(access(box_path("%s/gone", box.root), F_OK), 0);
    assert_int_not_equal(access(box_path("%s/gone", box.state), F_OK), 0);
    struct buf text = {.limit = MiB(4)};
    assert_int_equal(file_read("/proc/self/mountinfo", &text, NULL), 0);
    assert_null(strstr(text.p, "/gone"));
    buf_fini(&text);
    FILE *p = popen("grep -l 'sleep.432[1]' /proc/[0-9]*/cmdline 2>/dev/null | wc -l", "r"); /* a test may */
    int n = -1;
    assert_int_equal(fscanf(p, "%d", &n), 1);
    pclose(p);
    assert_int_equal(n, 0);
    p = popen("find /sys/fs/cgroup -name gone | wc -l", "r");
    assert_int_equal(fscanf(p, "%d", &n), 1);
    pclose(p);
    assert_int_equal(n, 0);
}

static void do_remove_twice(void *arg) {
    struct call *c = arg;
    container_remove(c->container, NULL, NULL);
    container_remove(c->container, NULL, NULL);
    sandbox_remove(c->sandbox, NULL, NULL);
    sandbox_remove(c->sandbox, plain_done, c);
}

/* Removals on top of each other, and of a container whose sandbox is going. */
static void test_removals(void **state) {
    for (int i = 0; i < 10; i++) {
        struct sandbox *s = box_sandbox(&box, "twice");
        struct run r, ended;
        run_init(&ended, &box, "ended", "exit 0");
        run_init(&r, &box, "runs", "exec sleep 1000");
        assert_int_equal(box_try_container(&box, s, &ended.cfg, &ended.c, &ended.err), 0);
        assert_int_equal(box_try_container(&box, s, &r.cfg, &r.c, &r.err), 0);
        box_wait_exit(&box, ended.c);
        struct call c = {.box = &box, .sandbox = s, .container = i % 2 ? r.c : ended.c};
        box_call(&c, do_remove_twice);
    }
}

/* A limit under which not even the set-up fits. */
static void test_no_memory_to_start(void **state) {
    struct run r;
    run_init(&r, &box, "tiny", "true");
    r.cfg.cgroup.memory_bytes = 65536;
    int rc = run_to_end(&r, &box, sandbox, NULL);
    assert_true(rc < 0 || rc == 137);
    if (rc < 0)
        assert_true(strlen(r.err.msg) > 5);
    assert_int_equal(box_run(&box, sandbox, "exit 5", NULL), 5); /* the monitor is well */
}

static void test_bad_configs(void **state) {
    static const char *const bad_ids[] = {
        "", "A", "../x", "a/b", "-a", "0123456789012345678901234567890123456789012345678901234567890123456789"};
    struct sandbox *s;
    struct error err;
    struct run r;
    for (size_t i = 0; i < ARRAY_LEN(bad_ids); i++) {
        struct sandbox_config cfg = {.id = str_c(bad_ids[i])};
        assert_int_equal(box_try_sandbox(&box, &cfg, &s, &err), -EINVAL);
        run_init(&r, &box, "x", "true");
        r.cfg.id = str_c(bad_ids[i]);
        assert_int_equal(run_to_end(&r, &box, sandbox, NULL), -EINVAL);
    }
    struct sandbox_config cfg = {.id = STR("sb1")};
    assert_int_equal(box_try_sandbox(&box, &cfg, &s, &err), -EEXIST);
    cfg = (struct sandbox_config){.id = STR("up"), .cgroup_parent = STR("../../x")};
    assert_int_equal(box_try_sandbox(&box, &cfg, &s, &err), -EINVAL);
    run_init(&r, &box, "noargs", "true");
    r.cfg.argv_n = 0;
    assert_int_equal(run_to_end(&r, &box, sandbox, NULL), -EINVAL);
    run_init(&r, &box, "nolayer", "true");
    static const char *gone[] = {"/no/such/layer", NULL};
    struct image img = {.id = STR("sha256:gone"), .layers = gone};
    ref_init(&img.ref);
    r.cfg.image = &img;
    assert_int_equal(run_to_end(&r, &box, sandbox, NULL), -ENOENT);
    assert_in(r.err.msg, "/no/such/layer");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
static const struct CMUnitTest tests[] = {
    TEST(test_exit_code),
    TEST(test_environment),
    TEST(test_user),
    TEST(test_stdout_of_user),
    TEST(test_capabilities),
    TEST(test_seccomp),
    TEST(test_file_systems),
    TEST(test_mounts),
    TEST(test_propagation),
    TEST(test_missing_program),
    TEST(test_limits),
    TEST(test_update_usage),
    TEST(test_signals),
    TEST(test_shared_in_the_pod),
    TEST(test_share_pid),
    TEST(test_host_namespaces),
    TEST(test_sysctls),
    TEST(test_many_layers),
    TEST(test_tty),
    TEST(test_nothing_left),
    TEST(test_bad_configs),
    TEST(test_removals),
    TEST(test_no_memory_to_start),
};
BOX_MAIN(tests)
