/* `dory killall`: ends all pods of this machine and takes their traces away, with the server stopped. */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "cluster/cluster.h"
#include "commands.h"
#include "config.h"
#include "runtime/runtime.h"

struct killall {
    struct runtime *runtime;
    struct loop *loop;
    VEC(struct sandbox *) sandboxes;
    size_t left;
};

static void on_sandbox_found(void *arg, struct sandbox *s) {
    struct killall *k = arg;
    vec_push(&k->sandboxes, s);
}

static void on_container(void *arg, struct container *c) {
    (void)arg;
    (void)c;
}

static void on_sandbox_lost(void *arg, struct sandbox *s) {
    (void)arg;
    (void)s;
}

static void on_removed(void *arg) {
    struct killall *k = arg;
    if (--k->left == 0)
        loop_stop(k->loop);
}

static void on_recovered(void *arg) {
    struct killall *k = arg;
    k->left = k->sandboxes.n + 1;
    for (size_t i = 0; i < k->sandboxes.n; i++)
        sandbox_remove(k->sandboxes.items[i], on_removed, k);
    on_removed(k);
}

/* A running server would start its pods again. */
static int check_stopped(const struct config *cfg) {
    cleanup_free char *path = xasprintf("%s/server/db/lock", cfg->data_dir);
    cleanup_close int fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) < 0) {
        fprintf(stderr, "dory killall: the server still runs on %s: stop it first\n", cfg->data_dir);
        return -EBUSY;
    }
    return 0;
}

int command_killall(int argc, char **argv) {
    struct config cfg;
    struct error err = {0};
    struct killall k = {0};
    if (config_load(&cfg, argc - 1, argv + 1, &err) < 0) {
        fprintf(stderr, "dory killall: %s\n", err.msg);
        return 2;
    }
    if (check_stopped(&cfg) < 0)
        return 1;
    cleanup_free char *state = xasprintf("%s/runtime", cfg.run_dir);
    cleanup_free char *root = xasprintf("%s/agent/runtime", cfg.data_dir);
    k.loop = loop_new("killall");
    struct runtime_options o = {.loop = k.loop,
                                .state_dir = state,
                                .root_dir = root,
                                .cgroup_root = "dory",
                                .events = {.on_sandbox_found = on_sandbox_found,
                                           .on_container_found = on_container,
                                           .on_container_exit = on_container,
                                           .on_sandbox_lost = on_sandbox_lost,
                                           .arg = &k}};
    if (runtime_open(&o, &k.runtime, &err) < 0) {
        fprintf(stderr, "dory killall: %s\n", err.msg);
        return 1;
    }
    runtime_recover(k.runtime, on_recovered, &k);
    loop_run(k.loop);
    int rc = cluster_remove_all(NULL, NULL, &err);
    if (rc < 0)
        fprintf(stderr, "dory killall: %s\n", err.msg);
    printf("%zu pods ended\n", k.sandboxes.n);
    return rc < 0 ? 1 : 0;
}
