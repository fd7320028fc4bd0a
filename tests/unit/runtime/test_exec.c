/* Processes in running containers: to completion, with streams, with a terminal. */
#include "box.h"

static struct box box;
static struct sandbox *sandbox;
static struct run target;

static int setup(void **state) {
    box_setup(&box);
    sandbox = box_sandbox(&box, "sb1");
    static struct str env[1];
    env[0] = STR("FROM=config");
    run_init(&target, &box, "target", "touch /tmp/mark; exec sleep 1000");
    target.cfg.envp = env;
    target.cfg.envp_n = 1;
    target.cfg.cwd = STR("/srv");
    target.cfg.user = (struct container_user){STR("user"), -1, -1, NULL, 0, true};
    if (box_try_container(&box, sandbox, &target.cfg, &target.c, &target.err) < 0)
        fail_msg("%s", target.err.msg);
    for (int i = 0; i < 200 && box_exec(&box, target.c, "test -e /tmp/mark", NULL) != 0; i++)
        usleep(5000);
    return 0;
}
static int teardown(void **state) {
    box_remove_sandbox(&box, sandbox);
    box_teardown(&box);
    return 0;
}

static void test_codes(void **state) {
    char *out = NULL;
    assert_int_equal(box_exec(&box, target.c, "exit 0", NULL), 0);
    assert_int_equal(box_exec(&box, target.c, "exit 17", NULL), 17);
    assert_int_equal(box_exec(&box, target.c, "kill -9 $$", NULL), 137);
    assert_int_equal(box_exec(&box, target.c, "kill -TERM $$", NULL), 143);
    assert_int_equal(box_exec(&box, target.c, "echo out; echo err >&2; exit 1", &out), 1);
    assert_string_equal(out, "out\nerr\n");
}

static void test_identity(void **state) {
    char *out = NULL;
    assert_int_equal(
        box_exec(
            &box, target.c,
            "ls -d /tmp/mark; pwd; echo $FROM $HOME; exec 2>/dev/null; echo $(id -u) $(id -g) $(id -G); grep -E '^(Cap|NoNew|Seccomp:)' "
            "/proc/self/status; ls /proc | grep -c '^1$'; cat /proc/self/cgroup",
            &out),
        0);
    assert_non_null(strstr(out, "/tmp/mark\n/srv\nconfig /home\n1000 1001 1001 50 60\n"));
    assert_non_null(strstr(out, "CapInh:\t0000000000000000"));
    assert_non_null(strstr(out, "CapEff:\t0000000000000000"));
    assert_non_null(strstr(out, "CapBnd:\t00000000a80425fb"));
    assert_non_null(strstr(out, "NoNewPrivs:\t1"));
    assert_non_null(strstr(out, "Seccomp:\t2"));
    assert_null(strstr(out, "sb1"));
    char path[64], of_target[64], own[256];
    /* the same namespaces as the container's first process */
    static const char *const ns[] = {"mnt", "pid", "net", "ipc", "uts", "cgroup"};
    for (size_t i = 0; i < ARRAY_LEN(ns); i++) {
        char script[64];
        snprintf(path, sizeof(path), "/proc/%d/ns/%s", container_status(target.c)->pid, ns[i]);
        ssize_t n = readlink(path, of_target, sizeof(of_target) - 1);
        assert_true(n > 0);
        of_target[n] = 0;
        snprintf(script, sizeof(script), "readlink /proc/self/ns/%s", ns[i]);
        assert_int_equal(box_exec(&box, target.c, script, &out), 0);
        snprintf(own, sizeof(own), "%s\n", of_target);
        assert_string_equal(out, own);
    }
}

/* The account that counts is the one it was started with, not what the container writes into its passwd later (CVE-2026-30892). */
static void test_passwd_changed(void **state) {
    struct run r;
    char *out = NULL;
    run_init(
        &r, &box, "pw",
        "echo 'root:x:0:0::/evil:/bin/sh' > /etc/passwd; echo 'user:x:0:0::/:/bin/sh' >> /etc/passwd; exec sleep 100");
    assert_int_equal(box_try_container(&box, sandbox, &r.cfg, &r.c, &r.err), 0);
    usleep(50000);
    assert_int_equal(box_exec(&box, r.c, "echo $HOME; rm -rf /etc/passwd; mkdir /etc/passwd", &out), 0);
    assert_string_equal(out, "/root\n");
    assert_int_equal(box_exec(&box, r.c, "echo still", &out), 0);
    box_remove_container(&box, r.c);
}

static struct str no_argv[] = {STR_INIT("/no/such")};

static void test_failures(void **state) {
    struct call c = {.box = &box, .container = target.c, .argv = no_argv, .argv_n = 1, .timeout_ms = 5000};
    box_call(&c, do_sync);
    assert_int_equal(c.code, -ENOENT);
    assert_string_equal(c.output, "exec: \"/no/such\": stat /no/such: no such file or directory");
    c.argv_n = 0;
    box_call(&c, do_sync);
    assert_int_equal(c.code, -EINVAL);
    struct run r;
    run_init(&r, &box, "dead", "exit 0");
    assert_int_equal(box_try_container(&box, sandbox, &r.cfg, &r.c, &r.err), 0);
    box_wait_exit(&box, r.c);
    c = (struct call){.box = &box, .container = r.c, .argv = no_argv, .argv_n = 1};
    box_call(&c, do_sync);
    assert_int_equal(c.code, -ESRCH);
    box_remove_container(&box, r.c);
}

static void test_timeout(void **state) {
    struct str argv[] = {STR("/bin/sh"), STR("-c"), STR("echo begun; sleep 1234 & sleep 1234")};
    struct call c = {.box = &box, .container = target.c, .argv = argv, .argv_n = 3, .timeout_ms = 200};
    int64_t t0 = time_mono_ms();
    box_call(&c, do_sync);
    assert_int_equal(c.code, -ETIMEDOUT);
    assert_string_equal(c.output, "begun\n");
    assert_true(time_mono_ms() - t0 < 3000);
    char *out = NULL;
    usleep(50000);
    box_exec(&box, target.c, "ps 2>/dev/null | grep -c 'sleep 123[4]'", &out);
    assert_string_equal(out, "0\n"); /* the whole group went */
}

/* Output beyond the limit is dropped, not waited for; a child left in the background does not hold the answer. */
static void test_output_limit(void **state) {
    char *out = NULL;
    assert_int_equal(box_exec(&box, target.c, "seq 1 50000; exit 3", &out), 3);
    assert_int_equal(strlen(out), 10240);
    int64_t t0 = time_mono_ms();
    assert_int_equal(box_exec(&box, target.c, "sleep 5 & echo fast", &out), 0);
    assert_string_equal(out, "fast\n");
    assert_true(time_mono_ms() - t0 < 2000);
}

static void test_dies_with_container(void **state) {
    struct run r;
    struct str argv[] = {STR("/bin/sleep"), STR("1000")};
    run_init(&r, &box, "short", "sleep 0.3");
    assert_int_equal(box_try_container(&box, sandbox, &r.cfg, &r.c, &r.err), 0);
    struct call c = {.box = &box, .container = r.c, .argv = argv, .argv_n = 2, .timeout_ms = 15000};
    box_call(&c, do_sync);
    assert_int_equal(c.exit_code, 137);
    box_wait_exit(&box, r.c);
    box_remove_container(&box, r.c);
}

/* --- with streams -------------------------------------------------------------------------------------------------- */

struct session {
    struct box *box;
    struct exec_config cfg;
    struct container *c;
    struct exec_process *p;
    struct stream *in, *out, *errs;
    int code, exit_code, open_streams;
    bool started, exited;
    struct error err;
    char output[4096], errors[1024];
    const char *send;
    bool then_close;
};

static void signal_change(struct session *s) {
    pthread_mutex_lock(&s->box->lock);
    pthread_cond_broadcast(&s->box->changed);
    pthread_mutex_unlock(&s->box->lock);
}
static void on_out(void *arg, struct str data) {
    struct session *s = arg;
    size_t n = strlen(s->output);
    snprintf(s->output + n, sizeof(s->output) - n, "%.*s", STR_ARG(data));
    signal_change(s);
}
static void on_err(void *arg, struct str data) {
    struct session *s = arg;
    size_t n = strlen(s->errors);
    snprintf(s->errors + n, sizeof(s->errors) - n, "%.*s", STR_ARG(data));
}
static void on_eof_out(void *arg) {
    stream_close(((struct session *)arg)->out);
}
static void on_eof_err(void *arg) {
    stream_close(((struct session *)arg)->errs);
}
static void on_eof_in(void *arg) {}
static void on_closed(void *arg, int reason) {
    struct session *s = arg;
    s->open_streams--;
    signal_change(s);
}
static void on_closed_in(void *arg, int reason) { /* by us, or because nobody reads any more */
    struct session *s = arg;
    s->in = NULL;
    on_closed(arg, reason);
}
static void on_start(void *arg, struct exec_process *p, struct stream *in, struct stream *out, struct stream *errs,
                     int code, const struct error *err) {
    struct session *s = arg;
    s->p = p;
    s->in = in;
    s->out = out;
    s->errs = errs;
    s->code = code;
    if (err)
        s->err = *err;
    struct stream_events ev = {.on_data = on_out, .on_eof = on_eof_out, .on_closed = on_closed, .arg = s};
    if (out) {
        s->open_streams++;
        stream_start(out, &ev);
    }
    ev.on_data = on_err;
    ev.on_eof = on_eof_err;
    if (errs) {
        s->open_streams++;
        stream_start(errs, &ev);
    }
    ev.on_eof = on_eof_in;
    ev.on_closed = on_closed_in;
    if (in && in != out) {
        s->open_streams++;
        stream_start(in, &ev);
    }
    s->started = true;
    signal_change(s);
}
static void on_exit_code(void *arg, int code) {
    struct session *s = arg;
    if (s->in && s->in != s->out)
        stream_close(s->in);
    s->exit_code = code;
    s->exited = true;
    signal_change(s);
}
static void do_exec(void *arg) {
    struct session *s = arg;
    struct exec_events ev = {on_start, on_exit_code, s};
    container_exec(s->c, &s->cfg, &ev);
}
static void do_send(void *arg) {
    struct session *s = arg;
    if (!s->in)
        return;
    stream_write(s->in, s->send, strlen(s->send));
    if (s->then_close)
        stream_shutdown(s->in);
}
static void do_kill_exec(void *arg) {
    exec_kill(((struct session *)arg)->p);
}
static void do_resize(void *arg) {
    struct session *s = arg;
    s->code = exec_resize(s->p, 123, 45);
    s->open_streams += 100;
    signal_change(s);
}
static bool is_started(void *arg) {
    return ((struct session *)arg)->started;
}
static bool is_over(void *arg) {
    struct session *s = arg;
    return s->exited && s->open_streams % 100 == 0;
}
static bool was_resized(void *arg) {
    return ((struct session *)arg)->open_streams >= 100;
}
static const char *wanted;
static bool has_output(void *arg) {
    return strstr(((struct session *)arg)->output, wanted) != NULL;
}

static void begin(struct session *s, struct str *argv, size_t n, bool in, bool tty) {
    *s = (struct session){.box = &box,
                          .c = target.c,
                          .cfg = {.argv = argv, .argv_n = n, .stdin_open = in, .tty = tty, .width = 80, .height = 24}};
    loop_post(box.loop, do_exec, s);
    assert_true(box_wait(&box, is_started, s, 10));
}

static void test_streams(void **state) {
    static struct session s;
    struct str argv[] = {STR("/bin/sh"), STR("-c"), STR("echo err >&2; cat; exit 9")};
    begin(&s, argv, 3, true, false);
    assert_int_equal(s.code, 0);
    assert_non_null(s.in);
    s.send = "through and back\n";
    s.then_close = true;
    loop_post(box.loop, do_send, &s);
    assert_true(box_wait(&box, is_over, &s, 10));
    assert_int_equal(s.exit_code, 9);
    assert_string_equal(s.output, "through and back\n");
    assert_string_equal(s.errors, "err\n");
    /* without stdin it reads an end at once */
    struct str argv2[] = {STR("/bin/sh"), STR("-c"), STR("cat; echo done")};
    begin(&s, argv2, 3, false, false);
    assert_null(s.in);
    assert_true(box_wait(&box, is_over, &s, 10));
    assert_string_equal(s.output, "done\n");
    struct str argv3[] = {STR("nothing-here")};
    begin(&s, argv3, 1, false, false);
    assert_int_equal(s.code, -ENOENT);
    assert_null(s.p);
    assert_string_equal(s.err.msg, "exec: \"nothing-here\": executable file not found in $PATH");
}

static void test_terminal(void **state) {
    static struct session s;
    struct str argv[] = {STR("/bin/sh"), STR("-c"),
                         STR("tty; stty size; echo $TERM; read x; stty size; echo \"got $x\"; exit 4")};
    begin(&s, argv, 3, true, true);
    if (s.code < 0)
        fail_msg("%s", s.err.msg);
    assert_ptr_equal(s.in, s.out);
    wanted = "xterm\r\n";
    assert_true(box_wait(&box, has_output, &s, 10));
    assert_non_null(strstr(s.output, "/dev/pts/0\r\n24 80\r\nxterm\r\n"));
    loop_post(box.loop, do_resize, &s);
    assert_true(box_wait(&box, was_resized, &s, 10));
    assert_int_equal(s.code, 0);
    s.send = "line\n";
    loop_post(box.loop, do_send, &s);
    assert_true(box_wait(&box, is_over, &s, 10));
    assert_int_equal(s.exit_code, 4);
    assert_non_null(strstr(s.output, "45 123\r\ngot line\r\n"));
    /* control-C reaches it */
    struct str argv2[] = {STR("/bin/sh"), STR("-c"), STR("echo up; sleep 100")};
    begin(&s, argv2, 3, true, true);
    wanted = "up";
    assert_true(box_wait(&box, has_output, &s, 10));
    s.send = "\003";
    loop_post(box.loop, do_send, &s);
    assert_true(box_wait(&box, is_over, &s, 10));
    assert_int_equal(s.exit_code, 130);
}

static void test_kill(void **state) {
    static struct session s;
    struct str argv[] = {STR("/bin/sh"), STR("-c"), STR("echo up; sleep 1000")};
    begin(&s, argv, 3, true, false);
    wanted = "up";
    assert_true(box_wait(&box, has_output, &s, 10));
    loop_post(box.loop, do_kill_exec, &s);
    wanted = "up";
    assert_true(box_wait(&box, has_output, &s, 10));
    for (int i = 0; i < 500 && !s.exited; i++)
        usleep(5000);
    assert_int_equal(s.exit_code, 137);
    s.send = "";
    s.then_close = true;
    loop_post(box.loop, do_send, &s);
    assert_true(box_wait(&box, is_over, &s, 10));
}

/* Many at once, and no descriptor or record is lost. */
static size_t count_fds(void) {
    size_t n = 0;
    DIR *d = opendir("/proc/self/fd");
    while (readdir(d))
        n++;
    closedir(d);
    return n;
}
static void test_many(void **state) {
    struct str argv[] = {STR("/bin/sh"), STR("-c"), STR("echo x; exit 2")};
    struct call calls[40];
    size_t before = 0;
    for (int round = 0; round < 3; round++) {
        for (size_t i = 0; i < ARRAY_LEN(calls); i++) {
            calls[i] =
                (struct call){.box = &box, .container = target.c, .argv = argv, .argv_n = 3, .timeout_ms = 15000};
            loop_post(box.loop, do_sync, &calls[i]);
        }
        for (size_t i = 0; i < ARRAY_LEN(calls); i++) {
            assert_true(box_wait(&box, call_is_done, &calls[i], 20));
            assert_int_equal(calls[i].code, 0);
            assert_int_equal(calls[i].exit_code, 2);
            assert_string_equal(calls[i].output, "x\n");
        }
        usleep(50000);
        if (round == 0)
            before = count_fds();
    }
    assert_int_equal(count_fds(), before);
    char path[64];
    snprintf(path, sizeof(path), "/proc/%d/fd", sandbox_pid(sandbox));
    size_t n = 0;
    DIR *d = opendir(path);
    assert_non_null(d);
    while (readdir(d))
        n++;
    closedir(d);
    assert_true(n < 24);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
static const struct CMUnitTest tests[] = {
    TEST(test_codes),
    TEST(test_identity),
    TEST(test_passwd_changed),
    TEST(test_failures),
    TEST(test_timeout),
    TEST(test_output_limit),
    TEST(test_dies_with_container),
    TEST(test_streams),
    TEST(test_terminal),
    TEST(test_kill),
    TEST(test_many),
};
BOX_MAIN(tests)
