/* The server goes and comes back: what ran goes on, what ended meanwhile is known, what is dead is cleaned. */
#include "box.h"

static struct box box;

static int setup(void **state) {
    box_setup(&box);
    return 0;
}
static int teardown(void **state) {
    box_teardown(&box);
    return 0;
}

static struct container *find(const char *id) {
    for (struct container *c = NULL; (c = sandbox_next(box.found_sandbox, c));)
        if (str_eq_c(container_id(c), id))
            return c;
    return NULL;
}

static void reopen(void) {
    box.found_sandboxes = box.found_containers = 0;
    box.found_sandbox = NULL;
    box.found_container = NULL;
    box_open(&box);
    box_recover(&box);
}

static void test_adoption(void **state) {
    struct sandbox *s = box_sandbox(&box, "sb1");
    struct run run, ends, ended;
    char *out = NULL;
    run_init(&run, &box, "runs", "while true; do echo tick; usleep 10000; done");
    run_init(&ends, &box, "ends", "sleep 0.2; exit 33");
    run_init(&ended, &box, "ended", "exit 44");
    assert_int_equal(box_try_container(&box, s, &run.cfg, &run.c, &run.err), 0);
    assert_int_equal(box_try_container(&box, s, &ended.cfg, &ended.c, &ended.err), 0);
    box_wait_exit(&box, ended.c);
    assert_int_equal(box_try_container(&box, s, &ends.cfg, &ends.c, &ends.err), 0);
    int monitor = sandbox_pid(s), pid = container_status(run.c)->pid;
    struct timespec started = container_status(run.c)->started_at;
    box_close(&box);
    usleep(500000); /* one ends while nobody listens, the other writes on */
    char *log = box_log(run.log);
    size_t ticks = strlen(log);
    assert_true(ticks > 50);
    reopen();
    assert_int_equal(box.found_sandboxes, 1);
    assert_int_equal(box.found_containers, 3);
    s = box.found_sandbox;
    assert_true(str_eq_c(sandbox_id(s), "sb1"));
    assert_true(str_eq_c(sandbox_metadata(s), "meta"));
    assert_int_equal(sandbox_pid(s), monitor);
    assert_true(sandbox_netns_fd(s) >= 0);
    struct container *c = find("runs");
    assert_non_null(c);
    assert_int_equal(container_status(c)->state, CONTAINER_RUNNING);
    assert_int_equal(container_status(c)->pid, pid);
    assert_int_equal(container_status(c)->started_at.tv_sec, started.tv_sec);
    assert_int_equal(container_status(c)->started_at.tv_nsec, started.tv_nsec);
    assert_true(str_eq_c(container_name(c), "main"));
    assert_true(str_eq_c(container_metadata(c), "notes"));
    assert_true(str_eq_c(container_image_id(c), "sha256:test"));
    assert_int_equal(container_status(find("ends"))->state, CONTAINER_EXITED);
    assert_int_equal(container_status(find("ends"))->exit_code, 33);
    assert_int_equal(container_status(find("ended"))->exit_code, 44);
    assert_true(container_status(find("ended"))->finished_at.tv_sec > 0);
    /* all that worked works */
    assert_int_equal(box_exec(&box, c, "echo here; exit 6", &out), 6);
    assert_string_equal(out, "here\n");
    box_remove_container(&box, find("ended"));
    struct run more;
    run_init(&more, &box, "more", "exit 12");
    assert_int_equal(run_to_end(&more, &box, s, NULL), 12);
    assert_int_equal(box_kill(&box, c, SIGKILL), 0);
    assert_int_equal(box_wait_exit(&box, c), 137);
    /* again, now with everything ended */
    box_close(&box);
    reopen();
    assert_int_equal(box.found_containers, 2);
    box_remove_sandbox(&box, box.found_sandbox);
    assert_int_not_equal(access(box_path("%s/sb1", box.state), F_OK), 0);
}

/* kill -9 of the process that holds the runtime, not an orderly end. */
static void test_killed_server(void **state) {
    box_close(&box);
    int pipes[2];
    assert_int_equal(pipe(pipes), 0);
    int server = fork();
    if (server == 0) {
        struct error err;
        static struct run run;
        box.loop = loop_new("server");
        loop_start(box.loop, &err);
        box_open(&box);
        struct sandbox *s = box_sandbox(&box, "sbk");
        run_init(&run, &box, "survivor", "trap '' TERM; while true; do echo tick; usleep 10000; done");
        if (box_try_container(&box, s, &run.cfg, &run.c, &run.err) == 0 && write(pipes[1], "x", 1) == 1)
            pause();
        _exit(1);
    }
    char x;
    assert_int_equal(read(pipes[0], &x, 1), 1);
    kill(-server, SIGTERM);
    kill(server, SIGKILL);
    waitpid(server, NULL, 0);
    usleep(100000);
    reopen();
    assert_int_equal(box.found_sandboxes, 1);
    assert_int_equal(box.found_containers, 1);
    assert_int_equal(container_status(box.found_container)->state, CONTAINER_RUNNING);
    char *out = NULL;
    assert_int_equal(box_exec(&box, box.found_container, "echo alive", &out), 0);
    assert_string_equal(out, "alive\n");
    /* its own cgroup, outside ours */
    struct buf text = {.limit = 65536};
    file_read(box_path("/proc/%d/cgroup", sandbox_pid(box.found_sandbox)), &text, NULL);
    if (!strstr(text.p, box_path("/%s/monitors", box.cgroup)))
        fail_msg("%s", text.p);
    buf_fini(&text);
    box_remove_sandbox(&box, box.found_sandbox);
}

static bool was_lost(void *arg) {
    return ((struct box *)arg)->lost > 0;
}

static void test_monitor_dies(void **state) {
    struct sandbox *s = box_sandbox(&box, "sb1");
    struct run r;
    run_init(&r, &box, "orphan", "sleep 1000");
    assert_int_equal(box_try_container(&box, s, &r.cfg, &r.c, &r.err), 0);
    int pid = container_status(r.c)->pid;
    kill(sandbox_pid(s), SIGKILL);
    assert_true(box_wait(&box, was_lost, &box, 10));
    assert_ptr_equal(box.lost_sandbox, s);
    assert_int_equal(container_status(r.c)->state, CONTAINER_EXITED);
    assert_int_equal(container_status(r.c)->exit_code, 137);
    for (int i = 0; i < 400 && kill(pid, 0) == 0; i++)
        usleep(5000);
    assert_int_not_equal(kill(pid, 0), 0);
    struct run r2;
    run_init(&r2, &box, "late", "true");
    assert_int_equal(run_to_end(&r2, &box, s, NULL), -EPIPE);
    box_remove_sandbox(&box, s);
}

/* Monitor and server both dead, and a reboot's leavings. */
static void test_leftovers(void **state) {
    struct sandbox *s = box_sandbox(&box, "sb1");
    struct run r;
    run_init(&r, &box, "orphan", "sleep 1000");
    assert_int_equal(box_try_container(&box, s, &r.cfg, &r.c, &r.err), 0);
    int monitor = sandbox_pid(s), pid = container_status(r.c)->pid;
    box_close(&box);
    kill(monitor, SIGKILL);
    usleep(50000);
    assert_int_equal(kill(pid, 0), 0);
    mkdir(box_path("%s/after-reboot", box.root), 0700);
    mkdir(box_path("%s/after-reboot/c1", box.root), 0700);
    mkdir(box_path("%s/torn", box.state), 0700); /* a start that a crash cut short */
    mkdir(box_path("%s/junk", box.state), 0700);
    box_write(box_path("%s/junk/sandbox.spec", box.state), "this is no specification at all");
    reopen();
    assert_int_equal(box.found_sandboxes, 0);
    for (int i = 0; i < 400 && kill(pid, 0) == 0; i++)
        usleep(5000);
    assert_int_not_equal(kill(pid, 0), 0);
    static const char *const gone[] = {"sb1", "torn", "junk"};
    for (size_t i = 0; i < ARRAY_LEN(gone); i++)
        assert_int_not_equal(access(box_path("%s/%s", box.state, gone[i]), F_OK), 0);
    assert_int_not_equal(access(box_path("%s/sb1", box.root), F_OK), 0);
    assert_int_not_equal(access(box_path("%s/after-reboot", box.root), F_OK), 0);
    s = box_sandbox(&box, "sb1"); /* the name is free again */
    box_remove_sandbox(&box, s);
}

static void do_metadata(void *arg) {
    struct call *c = arg;
    c->code = sandbox_set_metadata(c->sandbox, STR("{\"ip\":\"10.42.0.5\"}"), &c->err);
    box_finish(c);
}

static void test_metadata(void **state) {
    struct sandbox *s = box_sandbox(&box, "sb1");
    struct call c = {.box = &box, .sandbox = s};
    box_call(&c, do_metadata);
    assert_int_equal(c.code, 0);
    box_close(&box);
    reopen();
    assert_true(str_eq_c(sandbox_metadata(box.found_sandbox), "{\"ip\":\"10.42.0.5\"}"));
    box_remove_sandbox(&box, box.found_sandbox);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
static const struct CMUnitTest tests[] = {TEST(test_adoption), TEST(test_killed_server), TEST(test_monitor_dies),
                                          TEST(test_leftovers), TEST(test_metadata)};
BOX_MAIN(tests)
