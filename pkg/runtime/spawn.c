/* Starting a monitor, finding one, and cleaning up behind one. Blocking: these run on the pool. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "runtime/runtime_priv.h"
#include "runtime/sysx.h"

/*
 * A detached mount of the binary alone, read-only: however a container comes by /proc/<pid>/exe of a monitor, writing
 * through it fails (CVE-2019-5736), and no path leads from there to the binary on disk.
 */
int spawn_open_self(const char *path, struct error *err) {
    cleanup_close int tree = x_open_tree(AT_FDCWD, path, X_CLONE_TREE);
    if (tree < 0 || x_mount_setattr(tree, 0, X_ATTR_RDONLY | X_ATTR_NOSUID | X_ATTR_NODEV, 0) < 0)
        return error_sys(err, -errno, "read-only mount of %s", path);
    /* a new open file through that mount; execveat takes it after the mount itself was let go */
    char name[32];
    snprintf(name, sizeof(name), "/proc/self/fd/%d", tree);
    int fd = open(name, O_RDONLY | O_CLOEXEC);
    return fd < 0 ? error_sys(err, -errno, "%s", path) : fd;
}

struct child {
    int self, fds[MONITOR_FD_END - MONITOR_FD_PEER];
    int error;
};

#define HIGH_FD 64

/* Shares our memory until it execs, as a vfork's child: system calls only. */
static int run_child(void *arg) {
    struct child *c = arg;
    char *const argv[] = {(char *)(uintptr_t)MONITOR_NAME, NULL};
    char *const envp[] = {NULL};
    int n = MONITOR_FD_END - MONITOR_FD_PEER, moved[MONITOR_FD_END - MONITOR_FD_PEER];
    int self = fcntl(c->self, F_DUPFD_CLOEXEC, HIGH_FD);
    for (int i = 0; i < n; i++)
        moved[i] = c->fds[i] < 0 ? -1 : fcntl(c->fds[i], F_DUPFD_CLOEXEC, HIGH_FD);
    for (int i = 0; i < n; i++) {
        if (moved[i] >= 0)
            dup2(moved[i], MONITOR_FD_PEER + i);
        else
            close(MONITOR_FD_PEER + i);
    }
    setsid();
    syscall(SYS_execveat, self, "", argv, envp, X_EMPTY_PATH);
    c->error = errno;
    _exit(127);
}

#define CHILD_STACK KiB(64)

static int clone_child(struct child *c, int *pidfd) {
    char *stack = mmap(NULL, CHILD_STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
    sigset_t all, before;
    if (stack == MAP_FAILED)
        return -ENOMEM;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before); /* no handler of ours may run in the child */
    /* no exit signal: the process's SIGCHLD is libuv's */
    int pid = clone(run_child, stack + CHILD_STACK, CLONE_VM | CLONE_VFORK | CLONE_PIDFD, c, pidfd);
    int saved = errno;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    munmap(stack, CHILD_STACK);
    return pid < 0 ? -saved : pid;
}

static void reap(int pidfd) {
    siginfo_t info;
    waitid((idtype_t)3 /* P_PIDFD */, (id_t)pidfd, &info, WEXITED | __WALL | WNOHANG);
}

static int listen_in(int dir, struct error *err) {
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    snprintf(a.sun_path, sizeof(a.sun_path), "/proc/self/fd/%d/ctl", dir); /* however long the directory's path is */
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&a, sizeof(a)) < 0 || listen(fd, 4) < 0) {
        int rc = error_sys(err, -errno, "the monitor's socket");
        if (fd >= 0)
            close(fd);
        return rc;
    }
    return fd;
}

int spawn_connect(const char *state_dir, struct str id) {
    char path[STATE_PATH_MAX];
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    snprintf(path, sizeof(path), "%s/%.*s", state_dir, STR_ARG(id));
    cleanup_close int dir = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0)
        return -errno;
    snprintf(a.sun_path, sizeof(a.sun_path), "/proc/self/fd/%d/ctl", dir);
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -errno;
    if (connect(fd, (struct sockaddr *)&a, sizeof(a)) < 0) {
        int rc = -errno;
        close(fd);
        return rc;
    }
    return fd;
}

static int write_state(struct spawn *job, char *path, size_t at) {
    snprintf(path + at, STATE_PATH_MAX - at, "/sandbox.spec");
    int rc = file_write_replace(path, buf_str(&job->spec), 0600, &job->err);
    snprintf(path + at, STATE_PATH_MAX - at, "/metadata");
    if (rc == 0)
        rc = file_write_replace(path, job->sandbox->metadata, 0600, &job->err);
    path[at] = 0;
    return rc;
}

static int spawn(struct spawn *job) {
    struct runtime *rt = job->rt;
    char path[STATE_PATH_MAX];
    int n = snprintf(path, sizeof(path), "%s/%.*s", rt->root_dir, STR_ARG(job->sandbox->id));
    if (n < 0 || n >= (int)sizeof(path) - 32)
        return error_set(&job->err, -ENAMETOOLONG, "%s is too long", rt->root_dir);
    if (mkdir(path, 0700) < 0 && errno != EEXIST)
        return error_sys(&job->err, -errno, "creating %s", path);
    n = snprintf(path, sizeof(path), "%s/%.*s", rt->state_dir, STR_ARG(job->sandbox->id));
    if (n < 0 || n >= (int)sizeof(path) - 32)
        return error_set(&job->err, -ENAMETOOLONG, "%s is too long", rt->state_dir);
    if (mkdir(path, 0700) < 0)
        return error_sys(&job->err, -errno, "creating %s", path);
    int rc = write_state(job, path, (size_t)n);
    if (rc == 0)
        rc = cgroup_create(&rt->cgroups, job->sandbox->cgroup, &job->limits, false, &job->err);
    if (rc < 0)
        return rc;
    cleanup_close int dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0)
        return error_sys(&job->err, -errno, "%s", path);
    cleanup_close int listener = listen_in(dir, &job->err);
    if (listener < 0)
        return listener;
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0)
        return error_sys(&job->err, -errno, "socket");
    struct child c = {.self = rt->self, .fds = {pair[1], listener, dir, rt->devices}};
    job->pid = clone_child(&c, &job->pidfd);
    close(pair[1]);
    job->sock = pair[0];
    if (job->pid < 0)
        return error_sys(&job->err, job->pid, "starting the monitor");
    return c.error ? error_sys(&job->err, -c.error, "executing the monitor") : 0;
}

void spawn_monitor(struct spawn *job) {
    job->sock = job->pidfd = job->pid = -1;
    job->code = spawn(job);
    if (job->code == 0)
        return;
    if (job->sock >= 0)
        close(job->sock);
    if (job->pidfd >= 0)
        reap(job->pidfd);
    if (job->code != -EEXIST)
        sandbox_clean(job->rt, job->sandbox->id, job->sandbox->cgroup, job->pidfd, NULL);
    if (job->pidfd >= 0)
        close(job->pidfd);
}

/* The pod's own group, once its last sandbox is gone; the groups above it are shared and stay. */
static void prune_parent(struct runtime *rt, const char *cgroup) {
    char path[CGROUP_PATH_MAX], full[CGROUP_PATH_MAX * 2];
    snprintf(path, sizeof(path), "%s", cgroup);
    char *last = strrchr(path, '/');
    if (!last)
        return;
    *last = 0;
    if (!strchr(path, '/'))
        return;
    for (size_t i = 0; i < rt->cgroups.n; i++) {
        snprintf(full, sizeof(full), "%s/%s/%s", rt->cgroups.h[i].mount, rt->cgroups.top, path);
        rmdir(full);
    }
}

int sandbox_clean(struct runtime *rt, struct str id, const char *cgroup, int pidfd, struct error *err) {
    char path[STATE_PATH_MAX];
    cgroup_kill(&rt->cgroups, cgroup);
    if (pidfd >= 0) {
        struct pollfd p = {.fd = pidfd, .events = POLLIN};
        x_pidfd_send_signal(pidfd, SIGKILL);
        poll(&p, 1, 5000);
        reap(pidfd);
    }
    int rc = cgroup_remove(&rt->cgroups, cgroup, err);
    prune_parent(rt, cgroup);
    snprintf(path, sizeof(path), "%s/%.*s", rt->root_dir, STR_ARG(id));
    int rc2 = dir_remove_all(path, rc < 0 ? NULL : err);
    snprintf(path, sizeof(path), "%s/%.*s", rt->state_dir, STR_ARG(id));
    int rc3 = rc == 0 && rc2 == 0 ? dir_remove_all(path, err) : 0; /* what is left is found again by its state */
    return rc < 0 ? rc : rc2 < 0 ? rc2 : rc3;
}
