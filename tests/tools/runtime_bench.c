/*
 * runtime_bench [sandboxes [binary]]: times of the container runtime and the memory of its idle monitors, one line a figure. Needs root
 * and busybox. Uses the cgroup "dory-bench" and /tmp/dory-bench.
 */
#include <fcntl.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runtime/runtime.h"

#define BASE "/tmp/dory-bench"
#define COUNT_MAX 500

static struct loop *loop;
static struct runtime *rt;
static struct image image = {.id = STR_INIT("sha256:bench")};
static const char *layers[] = {BASE "/image", NULL};
static struct sandbox *sandboxes[COUNT_MAX];
static struct container *current;
static sem_t done;
static int next_id, failures;
static bool parallel;

static void fail(const char *what, const struct error *err) {
    fprintf(stderr, "%s: %s\n", what, err->msg);
    failures++;
}

static void on_sandbox(void *arg, struct sandbox *s, int code, const struct error *err) {
    if (code < 0)
        fail("sandbox", err);
    *(struct sandbox **)arg = s;
    sem_post(&done);
}
static void do_sandbox(void *arg) {
    char id[32];
    snprintf(id, sizeof(id), "sb%td", (struct sandbox **)arg - sandboxes);
    struct sandbox_config cfg = {.id = str_c(id), .hostname = STR("bench"), .cgroup_parent = STR("burstable/pod1")};
    sandbox_start(rt, &cfg, on_sandbox, arg);
}
static void on_container(void *arg, struct container *c, int code, const struct error *err) {
    if (code < 0)
        fail("container", err);
    current = c;
    sem_post(&done);
}
static const char *script;
static void do_container(void *arg) {
    char id[32], log[64];
    snprintf(id, sizeof(id), "c%d", next_id++);
    snprintf(log, sizeof(log), BASE "/%s.log", id);
    struct str sleep_argv[] = {STR("/bin/busybox"), STR("sleep"), STR("1000")},
               true_argv[] = {STR("/bin/busybox"), STR("true")};
    struct container_config cfg = {.id = str_c(id),
                                   .name = STR("c"),
                                   .image = &image,
                                   .no_new_privs = true,
                                   .user = {.uid = -1, .gid = -1},
                                   .argv = script ? true_argv : sleep_argv,
                                   .argv_n = script ? 2 : 3,
                                   .capabilities = RUNTIME_DEFAULT_CAPABILITIES,
                                   .log_path = str_c(log),
                                   .cgroup = {.cpu_shares = 100, .memory_bytes = 64 << 20, .pids = 100}};
    container_start(arg, &cfg, on_container, NULL);
}
static sem_t exited;
static void on_exit_event(void *arg, struct container *c) {
    sem_post(&exited);
}
static void on_done(void *arg) {
    sem_post(&done);
}
static void do_remove_container(void *arg) {
    container_remove(arg, on_done, NULL);
}
static void do_remove_sandbox(void *arg) {
    sandbox_remove(arg, on_done, NULL);
}
static void on_sync(void *arg, int code, int exit_code, struct str out) {
    sem_post(&done);
}
static void do_exec(void *arg) {
    struct str argv[] = {STR("/bin/busybox"), STR("true")};
    container_exec_sync(arg, argv, 2, 5000, on_sync, NULL);
}

static void wait_for(loop_fn fn, void *arg) {
    loop_post(loop, fn, arg);
    sem_wait(&done);
}

static int compare(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}
static void print_times(const char *what, double *ms, size_t n) {
    qsort(ms, n, sizeof(*ms), compare);
    printf("%-28s p50 %.2f ms, p90 %.2f, max %.2f (n=%zu)\n", what, ms[n / 2], ms[n * 9 / 10], ms[n - 1], n);
}
static double since(int64_t t0) {
    return (double)(time_mono_ns() - t0) / 1e6;
}

static void print_memory(int pid, const char *what) {
    char path[64], line[128];
    snprintf(path, sizeof(path), "/proc/%d/smaps_rollup", pid);
    FILE *f = fopen(path, "r");
    printf("%s:", what);
    while (f && fgets(line, sizeof(line), f)) {
        char name[40];
        long kb;
        if (sscanf(line, "%39[^:]: %ld", name, &kb) == 2 &&
            (!strcmp(name, "Rss") || !strcmp(name, "Pss") || !strcmp(name, "Private_Dirty") ||
             !strcmp(name, "Private_Clean") || !strcmp(name, "Pss_Anon")))
            printf(" %s %ld KiB", name, kb);
    }
    printf("\n");
    if (f)
        fclose(f);
}

static void make_image(const char *binary) {
    struct error err;
    if (system("rm -rf " BASE " && mkdir -p " BASE "/image/bin " BASE "/image/etc && cp /bin/busybox " BASE
               "/image/bin/") != 0)
        exit(1);
    struct runtime_options o = {.loop = loop,
                                .state_dir = "/dev/shm/dory-bench",
                                .root_dir = BASE "/root",
                                .cgroup_root = "dory-bench",
                                .self_path = binary,
                                .events = {.on_container_exit = on_exit_event}};
    image.layers = layers;
    ref_init(&image.ref);
    if (runtime_open(&o, &rt, &err) < 0) {
        fprintf(stderr, "%s\n", err.msg);
        exit(1);
    }
}

int main(int argc, char **argv) {
    if (argc > 0 && strcmp(argv[0], "dory-monitor") == 0)
        return monitor_main(argc, argv);
    int n = argc > 1 ? (int)strtol(argv[1], NULL, 10) : 20;
    double a[COUNT_MAX], b[COUNT_MAX];
    struct error err;
    n = n < 1 ? 1 : MIN(n, COUNT_MAX);
    sem_init(&done, 0, 0);
    sem_init(&exited, 0, 0);
    loop = loop_new("bench");
    make_image(argc > 2 ? argv[2] : NULL);
    loop_start(loop, &err);
    struct container *sleeping = NULL;
    for (int i = 0; i < n; i++) {
        int64_t t0 = time_mono_ns();
        wait_for(do_sandbox, &sandboxes[i]);
        a[i] = since(t0);
        t0 = time_mono_ns();
        wait_for(do_container, sandboxes[i]);
        b[i] = since(t0);
        sleeping = current;
    }
    print_times("sandbox_start", a, (size_t)n);
    print_times("container_start (first)", b, (size_t)n);
    sleep(2);
    print_memory(sandbox_pid(sandboxes[n / 2]), "idle monitor");
    script = "true";
    for (int i = 0; i < 50; i++) {
        int64_t t0 = time_mono_ns();
        wait_for(do_container, sandboxes[0]);
        a[i] = since(t0);
        sem_wait(&exited);
        wait_for(do_remove_container, current);
        b[i] = since(t0);
    }
    print_times("container_start", a, 50);
    print_times("start, exit, remove", b, 50);
    for (int i = 0; i < 50; i++) {
        int64_t t0 = time_mono_ns();
        wait_for(do_exec, sleeping);
        a[i] = since(t0);
    }
    print_times("exec to its end", a, 50);
    int64_t t0 = time_mono_ns();
    script = NULL;
    for (int i = 0; i < 20; i++) { /* as a pod comes: at a random moment, nothing warm */
        wait_for(do_remove_sandbox, sandboxes[n - 1]);
        usleep(100000 + (useconds_t)(i * 7919 % 50000));
        t0 = time_mono_ns();
        wait_for(do_sandbox, &sandboxes[n - 1]);
        a[i] = since(t0);
        wait_for(do_container, sandboxes[n - 1]);
        b[i] = since(t0);
    }
    print_times("cold: sandbox_start", a, 20);
    print_times("cold: both", b, 20);
    t0 = time_mono_ns();
    for (int i = 0; i < n; i++)
        loop_post(loop, do_remove_sandbox, sandboxes[i]);
    for (int i = 0; i < n; i++)
        sem_wait(&done);
    printf("%-28s %.2f ms for %d\n", "remove all sandboxes", since(t0), n);
    parallel = true;
    t0 = time_mono_ns();
    for (int i = 0; i < n; i++)
        loop_post(loop, do_sandbox, &sandboxes[i]);
    for (int i = 0; i < n; i++)
        sem_wait(&done);
    printf("%-28s %.2f ms for %d\n", "start all at once", since(t0), n);
    for (int i = 0; i < n; i++)
        wait_for(do_remove_sandbox, sandboxes[i]);
    loop_stop(loop);
    loop_join(loop);
    runtime_close(rt);
    loop_free(loop);
    return system("rm -rf " BASE
                  " /dev/shm/dory-bench; for i in /sys/fs/cgroup/*/dory-bench /sys/fs/cgroup/dory-bench; do "
                  "find $i -depth -type d -exec rmdir {} + 2>/dev/null; done; exit 0") != 0 ||
           failures;
}
