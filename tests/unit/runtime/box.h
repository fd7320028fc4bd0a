/* For the tests of pkg/runtime: a runtime on a loop of its own thread, a busybox image made by hand, and calls that wait. */
#pragma once

#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "codec/json.h"
#include "runtime/runtime.h"

#define BOX_CGROUP "dory-unit"

struct box {
    char base[64], state[96], root[96], logs[96], image_dir[96], cgroup[48];
    struct loop *loop;
    struct runtime *rt;
    struct image image;
    const char *layers[4];
    pthread_mutex_t lock;
    pthread_cond_t changed;
    unsigned exits, lost;
    int found_sandboxes, found_containers;
    struct sandbox *found_sandbox, *lost_sandbox;
    struct container *found_container;
};

struct call { /* one call on the loop and its answer */
    struct box *box;
    bool done;
    int code, exit_code;
    struct error err;
    void *result;
    char output[12000];
    struct sandbox *sandbox;
    struct container *container;
    const struct sandbox_config *sandbox_config;
    const struct container_config *container_config;
    const struct str *argv;
    size_t argv_n;
    int64_t timeout_ms;
};

static inline void box_finish(struct call *c) {
    pthread_mutex_lock(&c->box->lock);
    c->done = true;
    pthread_cond_broadcast(&c->box->changed);
    pthread_mutex_unlock(&c->box->lock);
}

/* Waits for cond() under the lock; fails the test after 20 s. */
static inline bool box_wait(struct box *b, bool (*cond)(void *), void *arg, int seconds) {
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += seconds;
    bool ok = true;
    pthread_mutex_lock(&b->lock);
    while (ok && !cond(arg))
        ok = pthread_cond_timedwait(&b->changed, &b->lock, &until) == 0;
    ok = cond(arg);
    pthread_mutex_unlock(&b->lock);
    return ok;
}

static inline bool call_is_done(void *arg) {
    return ((struct call *)arg)->done;
}

static inline void box_call(struct call *c, loop_fn fn) {
    c->done = false;
    loop_post(c->box->loop, fn, c);
    assert_true(box_wait(c->box, call_is_done, c, 20));
}

/* --- events -------------------------------------------------------------------------------------------------------- */

static inline void box_on_exit(void *arg, struct container *c) {
    struct box *b = arg;
    pthread_mutex_lock(&b->lock);
    b->exits++;
    pthread_cond_broadcast(&b->changed);
    pthread_mutex_unlock(&b->lock);
}
static inline void box_on_lost(void *arg, struct sandbox *s) {
    struct box *b = arg;
    pthread_mutex_lock(&b->lock);
    b->lost++;
    b->lost_sandbox = s;
    pthread_cond_broadcast(&b->changed);
    pthread_mutex_unlock(&b->lock);
}
static inline void box_on_sandbox(void *arg, struct sandbox *s) {
    struct box *b = arg;
    b->found_sandboxes++;
    b->found_sandbox = s;
}
static inline void box_on_container(void *arg, struct container *c) {
    struct box *b = arg;
    b->found_containers++;
    b->found_container = c;
}

/* --- set-up -------------------------------------------------------------------------------------------------------- */

static inline void box_write(const char *path, const char *text) {
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

static inline char *box_path(const char *fmt, ...) {
    static char paths[8][512];
    static int i;
    va_list ap;
    char *p = paths[i++ & 7];
    va_start(ap, fmt);
    vsnprintf(p, sizeof(paths[0]), fmt, ap);
    va_end(ap);
    return p;
}

static inline void box_make_image(struct box *b) {
    static const char *const dirs[] = {"", "/bin", "/etc", "/tmp", "/root", "/home", "/srv"};
    static const char *const applets[] = {"sh",    "cat",      "echo",    "sleep", "id",    "true", "false", "ls",
                                          "mkdir", "touch",    "ps",      "env",   "pwd",   "grep", "head",  "dd",
                                          "yes",   "seq",      "kill",    "test",  "mount", "tail", "wc",    "readlink",
                                          "tty",   "stty",     "umount",  "tr",    "ln",    "rm",   "mv",    "mknod",
                                          "chmod", "hostname", "printf",  "stat",  "find",  "cut",  "ip",    "nc",
                                          "sed",   "awk",      "unshare", "df",    "usleep"};
    for (size_t i = 0; i < ARRAY_LEN(dirs); i++)
        assert_int_equal(mkdir(box_path("%s%s", b->image_dir, dirs[i]), 0755), 0);
    chmod(box_path("%s/tmp", b->image_dir), 01777);
    struct buf bytes = {.limit = MiB(16)};
    assert_int_equal(file_read("/bin/busybox", &bytes, NULL), 0);
    int fd = open(box_path("%s/bin/busybox", b->image_dir), O_WRONLY | O_CREAT | O_CLOEXEC, 0755);
    assert_true(fd >= 0);
    assert_int_equal(fd_write_all(fd, bytes.p, bytes.n), 0);
    close(fd);
    buf_fini(&bytes);
    for (size_t i = 0; i < ARRAY_LEN(applets); i++)
        assert_int_equal(symlink("busybox", box_path("%s/bin/%s", b->image_dir, applets[i])), 0);
    box_write(box_path("%s/etc/passwd", b->image_dir),
              "root:x:0:0:root:/root:/bin/sh\nbad line\nuser:x:1000:1001:User:/home:/bin/sh\nneg:x:-1:5::/:/bin/sh\n");
    box_write(box_path("%s/etc/group", b->image_dir),
              "root:x:0:\nstaff:x:50:user,other\nwheel:x:60:user\nbig:x:99999999999:user\n");
    b->layers[0] = b->image_dir;
    b->image = (struct image){.id = STR("sha256:test"), .layers = b->layers};
    ref_init(&b->image.ref);
}

static inline void box_open(struct box *b) {
    struct error err;
    struct runtime_options o = {.loop = b->loop,
                                .state_dir = b->state,
                                .root_dir = b->root,
                                .cgroup_root = b->cgroup,
                                .events = {box_on_sandbox, box_on_container, box_on_exit, box_on_lost, b}};
    int rc = runtime_open(&o, &b->rt, &err);
    if (rc < 0)
        fail_msg("%s", err.msg);
}

static inline void box_setup(struct box *b) {
    static int count;
    struct error err;
    *b = (struct box){.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};
    snprintf(b->base, sizeof(b->base), "/tmp/dory-unit-%d-%d", getpid(), count);
    snprintf(b->cgroup, sizeof(b->cgroup), BOX_CGROUP "-%d-%d", getpid(), count++);
    snprintf(b->state, sizeof(b->state), "%s/state", b->base);
    snprintf(b->root, sizeof(b->root), "%s/root", b->base);
    snprintf(b->logs, sizeof(b->logs), "%s/logs", b->base);
    snprintf(b->image_dir, sizeof(b->image_dir), "%s/image", b->base);
    assert_int_equal(mkdir(b->base, 0755), 0);
    assert_int_equal(mkdir(b->logs, 0755), 0);
    box_make_image(b);
    b->loop = loop_new("runtime");
    assert_int_equal(loop_start(b->loop, &err), 0);
    box_open(b);
}

static inline void do_close(void *arg) {
    struct call *c = arg;
    runtime_close(c->box->rt);
    box_finish(c);
}

static inline void box_close(struct box *b) {
    struct call c = {.box = b};
    box_call(&c, do_close);
    b->rt = NULL;
}

/* The groups a test leaves are an error; `monitors` and the top one are the runtime's own. */
static inline void box_remove_cgroups(struct box *b) {
    DIR *d = opendir("/sys/fs/cgroup");
    for (struct dirent *e; d && (e = readdir(d));) {
        for (int i = 0;
             i < 50 && rmdir(box_path("/sys/fs/cgroup/%s/%s/monitors", e->d_name, b->cgroup)) < 0 && errno == EBUSY;
             i++)
            usleep(10000);
        rmdir(box_path("/sys/fs/cgroup/%s/%s/burstable", e->d_name, b->cgroup));
        rmdir(box_path("/sys/fs/cgroup/%s/%s", e->d_name, b->cgroup));
        if (access(box_path("/sys/fs/cgroup/%s/%s", e->d_name, b->cgroup), F_OK) == 0)
            fail_msg("cgroup %s/%s is left", e->d_name, b->cgroup);
    }
    if (d)
        closedir(d);
    rmdir(box_path("/sys/fs/cgroup/%s/burstable", b->cgroup));
    rmdir(box_path("/sys/fs/cgroup/%s/monitors", b->cgroup));
    rmdir(box_path("/sys/fs/cgroup/%s", b->cgroup));
}

static inline void box_teardown(struct box *b) {
    if (b->rt)
        box_close(b);
    loop_stop(b->loop);
    loop_join(b->loop);
    loop_free(b->loop);
    box_remove_cgroups(b);
    struct error err;
    if (dir_remove_all(b->base, &err) < 0)
        fail_msg("%s", err.msg);
}

/* --- calls --------------------------------------------------------------------------------------------------------- */

static inline void sandbox_answer(void *arg, struct sandbox *s, int code, const struct error *err) {
    struct call *c = arg;
    c->result = s;
    c->code = code;
    if (err)
        c->err = *err;
    box_finish(c);
}
static inline void do_sandbox(void *arg) {
    struct call *c = arg;
    sandbox_start(c->box->rt, c->sandbox_config, sandbox_answer, c);
}
static inline int box_try_sandbox(struct box *b, const struct sandbox_config *cfg, struct sandbox **out,
                                  struct error *err) {
    struct call c = {.box = b, .sandbox_config = cfg};
    box_call(&c, do_sandbox);
    *out = c.result;
    *err = c.err;
    return c.code;
}
static inline struct sandbox *box_sandbox(struct box *b, const char *id) {
    struct sandbox_config cfg = {.id = str_c(id),
                                 .metadata = STR("meta"),
                                 .hostname = str_c(id),
                                 .cgroup_parent = STR("burstable/pod1")};
    struct sandbox *s;
    struct error err;
    if (box_try_sandbox(b, &cfg, &s, &err) < 0)
        fail_msg("sandbox: %s", err.msg);
    return s;
}

static inline void container_answer(void *arg, struct container *ctr, int code, const struct error *err) {
    struct call *c = arg;
    c->result = ctr;
    c->code = code;
    if (err)
        c->err = *err;
    box_finish(c);
}
static inline void do_container(void *arg) {
    struct call *c = arg;
    container_start(c->sandbox, c->container_config, container_answer, c);
}
static inline int box_try_container(struct box *b, struct sandbox *s, const struct container_config *cfg,
                                    struct container **out, struct error *err) {
    struct call c = {.box = b, .sandbox = s, .container_config = cfg};
    box_call(&c, do_container);
    *out = c.result;
    *err = c.err;
    return c.code;
}

static inline void plain_done(void *arg) {
    box_finish(arg);
}
static inline void do_remove_sandbox(void *arg) {
    struct call *c = arg;
    sandbox_remove(c->sandbox, plain_done, c);
}
static inline void box_remove_sandbox(struct box *b, struct sandbox *s) {
    struct call c = {.box = b, .sandbox = s};
    box_call(&c, do_remove_sandbox);
}
static inline void do_remove_container(void *arg) {
    struct call *c = arg;
    container_remove(c->container, plain_done, c);
}
static inline void box_remove_container(struct box *b, struct container *ctr) {
    struct call c = {.box = b, .container = ctr};
    box_call(&c, do_remove_container);
}
static inline void do_kill(void *arg) {
    struct call *c = arg;
    c->code = container_kill(c->container, c->exit_code, &c->err);
    box_finish(c);
}
static inline int box_kill(struct box *b, struct container *ctr, int sig) {
    struct call c = {.box = b, .container = ctr, .exit_code = sig};
    box_call(&c, do_kill);
    return c.code;
}
static inline void do_recover(void *arg) {
    struct call *c = arg;
    runtime_recover(c->box->rt, plain_done, c);
}
static inline void box_recover(struct box *b) {
    struct call c = {.box = b};
    box_call(&c, do_recover);
}

static inline void sync_answer(void *arg, int code, int exit_code, struct str output) {
    struct call *c = arg;
    c->code = code;
    c->exit_code = exit_code;
    snprintf(c->output, sizeof(c->output), "%.*s", STR_ARG(output));
    box_finish(c);
}
static inline void do_sync(void *arg) {
    struct call *c = arg;
    container_exec_sync(c->container, c->argv, c->argv_n, c->timeout_ms, sync_answer, c);
}
/* Runs a shell text in the container; its exit code, output in a static buffer. */
static inline int box_exec(struct box *b, struct container *ctr, const char *script, char **output) {
    static struct call c;
    struct str argv[] = {STR("/bin/sh"), STR("-c"), str_c(script)};
    c = (struct call){.box = b, .container = ctr, .argv = argv, .argv_n = 3, .timeout_ms = 10000};
    box_call(&c, do_sync);
    if (output)
        *output = c.output;
    return c.code < 0 ? c.code : c.exit_code;
}

static inline bool has_exited(void *arg) {
    return container_status(arg)->state == CONTAINER_EXITED;
}
static inline int box_wait_exit(struct box *b, struct container *c) {
    if (!box_wait(b, has_exited, c, 20))
        fail_msg("the container did not exit");
    return container_status(c)->exit_code;
}

/* --- whole runs ---------------------------------------------------------------------------------------------------- */

#define BOX_ARGV_MAX 8
struct run {
    struct container_config cfg;
    struct str argv[BOX_ARGV_MAX];
    char log[128];
    struct container *c;
    struct error err;
};

/* A configuration that runs a shell text, for a test to change. */
static inline void run_init(struct run *r, struct box *b, const char *id, const char *script) {
    *r = (struct run){.argv = {STR("/bin/sh"), STR("-c"), str_c(script)}};
    snprintf(r->log, sizeof(r->log), "%s/%s.log", b->logs, id);
    r->cfg = (struct container_config){.id = str_c(id),
                                       .name = STR("main"),
                                       .metadata = STR("notes"),
                                       .image = &b->image,
                                       .argv = r->argv,
                                       .argv_n = 3,
                                       .user = {.uid = -1, .gid = -1},
                                       .capabilities = RUNTIME_DEFAULT_CAPABILITIES,
                                       .no_new_privs = true,
                                       .log_path = str_c(r->log)};
}

/* The log without the CRI prefixes. */
static inline char *box_log(const char *path) {
    static char out[200000];
    size_t n = 0;
    struct buf text = {.limit = MiB(4)};
    out[0] = 0;
    if (file_read(path, &text, NULL) == 0) {
        struct str rest = buf_str(&text);
        while (rest.p && rest.n) {
            struct str line = str_split(&rest, '\n');
            ptrdiff_t tag = str_find(line, STR(" F "));
            if (tag < 0)
                tag = str_find(line, STR(" P "));
            line = tag < 0 ? line : str_skip(line, (size_t)tag + 3);
            n += (size_t)snprintf(out + n, sizeof(out) - n, "%.*s\n", STR_ARG(line));
        }
    }
    buf_fini(&text);
    return out;
}

/* Runs to its end, removes it; the exit code, or the negative code of a start that failed (r->err says why). */
static inline int run_to_end(struct run *r, struct box *b, struct sandbox *s, char **output) {
    int rc = box_try_container(b, s, &r->cfg, &r->c, &r->err);
    if (rc < 0)
        return rc;
    rc = box_wait_exit(b, r->c);
    if (output)
        *output = box_log(r->log);
    box_remove_container(b, r->c);
    return rc;
}

static inline int box_run(struct box *b, struct sandbox *s, const char *script, char **output) {
    static int n;
    struct run r;
    char id[32];
    snprintf(id, sizeof(id), "c%d", n++);
    run_init(&r, b, id, script);
    int rc = run_to_end(&r, b, s, output);
    if (rc < 0)
        fail_msg("start: %s", r.err.msg);
    return rc;
}

/* The binary is also the monitor, as dory is. Exit 77 with the reason where the tests cannot run. */
#define BOX_MAIN(tests)                                                                               \
    int main(int argc, char **argv) {                                                                 \
        if (argc > 0 && strcmp(argv[0], "dory-monitor") == 0)                                         \
            return monitor_main(argc, argv);                                                          \
        if (geteuid() != 0) {                                                                         \
            puts("needs root");                                                                       \
            return 77;                                                                                \
        }                                                                                             \
        if (access("/bin/busybox", X_OK) < 0) {                                                       \
            puts("needs busybox-static");                                                             \
            return 77;                                                                                \
        }                                                                                             \
        if (getenv("TEST_EMULATED") || (syscall(435 /* clone3 */, NULL, 0) < 0 && errno == ENOSYS)) { \
            puts("needs clone3, which qemu-user does not have");                                      \
            return 77;                                                                                \
        }                                                                                             \
        setvbuf(stdout, NULL, _IOLBF, 0);                                                             \
        return cmocka_run_group_tests(tests, NULL, NULL);                                             \
    }

/* Until the image store is linked in: tests make their image by hand. */
__attribute__((weak)) void image_ref(struct image *img);
__attribute__((weak)) void image_ref(struct image *img) {
    ref_get(&img->ref);
}
__attribute__((weak)) void image_unref(struct image *img);
__attribute__((weak)) void image_unref(struct image *img) {
    ref_put(&img->ref);
}
