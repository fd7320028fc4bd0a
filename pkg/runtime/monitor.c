#include "runtime/monitor.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

#include "runtime/rootfs.h"
#include "runtime/sysx.h"

/* --- small things -------------------------------------------------------------------------------------------------- */

void *monitor_map(size_t n) {
    void *p = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return p == MAP_FAILED ? NULL : p;
}

void monitor_unmap(void *p, size_t n) {
    if (p)
        munmap(p, n);
}

int64_t monitor_now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

int monitor_watch(struct monitor *m, struct source *s, int fd, uint32_t events) {
    struct epoll_event ev = {.events = events, .data.ptr = s};
    s->fd = fd;
    return epoll_ctl(m->epoll, EPOLL_CTL_ADD, fd, &ev) < 0 ? -errno : 0;
}

void monitor_unwatch(struct monitor *m, struct source *s) {
    if (s->fd < 0)
        return;
    epoll_ctl(m->epoll, EPOLL_CTL_DEL, s->fd, NULL);
    close(s->fd);
    s->fd = -1;
}

static void drop_peer(struct monitor *m) {
    monitor_unwatch(m, &m->peer);
    exec_kill_all(m);
    for (struct container_record *c = m->containers; c; c = c->next) /* a start that nobody awaits any more */
        if (c->used && c->start_serial && c->pid > 0 && !c->reaped)
            kill(c->pid, SIGKILL);
}

/* A server that does not take its messages is as good as gone; it asks again for everything when it comes back. */
void monitor_say(struct monitor *m, struct monitor_message *msg, const int *fds, size_t fds_n) {
    if (m->peer.fd >= 0 && monitor_send(m->peer.fd, msg, NULL, 0, fds, fds_n) < 0)
        drop_peer(m);
}

int monitor_path(struct monitor *m, const char *id, char out[CGROUP_PATH_MAX]) {
    int n = snprintf(out, CGROUP_PATH_MAX, "%s%s%s%s%s", m->spec.cgroup_parent.p, m->spec.cgroup_parent.n ? "/" : "",
                     m->spec.id.p, id ? "/" : "", id ? id : "");
    return n < 0 || n >= CGROUP_PATH_MAX ? -ENAMETOOLONG : 0;
}

int monitor_map_file(struct monitor *m, const char *id, const char *suffix, struct mapped *out) {
    char name[MONITOR_ID_MAX + 16];
    struct stat st;
    snprintf(name, sizeof(name), "%s%s", id, suffix);
    cleanup_close int fd = openat(m->state_dir, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0 || fstat(fd, &st) < 0)
        return -errno;
    if (st.st_size <= 0 || st.st_size > (off_t)SPEC_BYTES_MAX)
        return -EBADMSG;
    size_t text_n = (size_t)st.st_size, room = (text_n + 7) & ~(size_t)7;
    out->size = room + SPEC_MEMORY(text_n);
    out->base = monitor_map(out->size);
    if (!out->base)
        return -ENOMEM;
    if (fd_read_all(fd, out->base, text_n) < 0) {
        monitor_unmap(out->base, out->size);
        return -EIO;
    }
    out->text = (struct str){out->base, text_n};
    out->memory = (struct spec_memory){(char *)out->base + room, out->size - room};
    return 0;
}

bool monitor_take_report(struct source *s, struct init_report *r, int *fd, bool *closed) {
    union {
        char bytes[CMSG_SPACE(sizeof(int))];
        struct cmsghdr align;
    } control;
    struct iovec iov = {r, sizeof(*r)};
    struct msghdr h = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control)};
    *fd = -1;
    ssize_t n = recvmsg(s->fd, &h, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (n < 0 && errno == ECONNRESET) /* it died without reading our word: told once, before what it had said */
        n = recvmsg(s->fd, &h, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return false;
    struct cmsghdr *c = n > 0 ? CMSG_FIRSTHDR(&h) : NULL;
    if (c && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS && c->cmsg_len >= CMSG_LEN(sizeof(int)))
        memcpy(fd, CMSG_DATA(c), sizeof(int));
    *closed = n != (ssize_t)sizeof(*r);
    if (!*closed)
        r->text[sizeof(r->text) - 1] = 0;
    return true;
}

int monitor_clone(struct monitor *m, uint64_t flags, const char *cgroup_path, int *pidfd, bool *in_v2) {
    int group = cgroup_path ? cgroup_open_v2(&m->cgroups, cgroup_path) : -1;
    struct x_clone_args a = {.flags = flags | X_CLONE_PIDFD, .pidfd = (uintptr_t)pidfd, .exit_signal = SIGCHLD};
    *in_v2 = group >= 0;
    if (group >= 0) {
        a.flags |= X_CLONE_INTO_CGROUP;
        a.cgroup = (uint64_t)group;
    }
    int pid = x_clone3(&a), saved = errno;
    if (pid != 0 && group >= 0)
        close(group);
    return pid < 0 ? -saved : pid;
}

bool monitor_clones_into_groups(const struct monitor *m) {
    const struct cgroup_hierarchy *v2 = cgroup_v2(&m->cgroups);
    return v2 && cgroup_with(&m->cgroups, CGROUP_MEMORY) == v2;
}

/* --- requests ------------------------------------------------------------------------------------------------------ */

static void welcome(struct monitor *m) {
    struct monitor_message msg = {.type = MONITOR_WELCOME, .pid = getpid(), .code = MONITOR_PROTOCOL};
    int fds[2] = {x_pidfd_open(getpid()), m->netns};
    for (struct container_record *c = m->containers; c; c = c->next)
        msg.count += c->used && c->start_serial == 0 && !c->failed;
    monitor_say(m, &msg, fds, m->netns >= 0 ? 2 : 1);
    close(fds[0]);
    for (struct container_record *c = m->containers; c; c = c->next) {
        struct monitor_message one = {.type = MONITOR_CONTAINER};
        if (!c->used || c->start_serial || c->failed)
            continue;
        container_describe(c, &one);
        monitor_say(m, &one, &c->pidfd, c->pidfd >= 0);
    }
}

static void handle(struct monitor *m, const struct monitor_message *msg, struct str extra, int *fds, size_t fds_n) {
    switch (msg->type) {
    case MONITOR_HELLO:
        welcome(m);
        break;
    case MONITOR_START:
        container_start_request(m, msg);
        break;
    case MONITOR_EXEC:
        exec_request(m, msg, extra, fds, fds_n);
        break;
    case MONITOR_EXEC_KILL:
        exec_kill_request(m, msg->serial);
        break;
    case MONITOR_FORGET:
        container_forget_request(m, msg);
        break;
    }
    for (size_t i = 0; i < fds_n; i++)
        close(fds[i]);
}

static void on_peer(struct monitor *m, struct source *s, uint32_t events) {
    for (;;) {
        ssize_t waiting = monitor_pending(s->fd);
        if (waiting == -EAGAIN)
            return;
        if (waiting <= 0 || waiting > (ssize_t)MONITOR_MESSAGE_MAX) {
            drop_peer(m);
            return;
        }
        void *room = monitor_map((size_t)waiting);
        struct monitor_message msg;
        struct str extra;
        int fds[MONITOR_FDS_MAX];
        size_t fds_n = MONITOR_FDS_MAX;
        int rc = room ? monitor_receive(s->fd, room, (size_t)waiting, &msg, &extra, fds, &fds_n) : -ENOMEM;
        if (rc == 0)
            handle(m, &msg, extra, fds, fds_n);
        monitor_unmap(room, (size_t)waiting);
        if (rc < 0)
            drop_peer(m);
        if (s->fd < 0)
            return;
    }
}

/* A server that connects takes the place of the one before. The socket lies in a directory of root's; root it must be. */
static void on_listener(struct monitor *m, struct source *s, uint32_t events) {
    int fd = accept4(s->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    struct ucred who;
    socklen_t n = sizeof(who);
    if (fd < 0)
        return;
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &n) < 0 || who.uid != 0) {
        close(fd);
        return;
    }
    drop_peer(m);
    monitor_watch(m, &m->peer, fd, EPOLLIN);
}

static void on_signal(struct monitor *m, struct source *s, uint32_t events) {
    struct signalfd_siginfo info;
    while (read(s->fd, &info, sizeof(info)) == (ssize_t)sizeof(info))
        ;
    for (;;) {
        int status, pid = waitpid(-1, &status, WNOHANG | __WALL);
        if (pid <= 0)
            return;
        if (!container_reaped(m, pid, status))
            exec_reaped(m, pid, status);
    }
}

/* --- setting up ---------------------------------------------------------------------------------------------------- */

/* Only what belongs to the sandbox's own namespaces: anything else would be the host's. */
static bool sysctl_is_ours(const struct monitor *m, const char *name) {
    static const char *const ipc[] = {"kernel.shm", "kernel.msg", "kernel.sem", "fs.mqueue."};
    for (const char *p = name; *p; p++) {
        bool ok =
            (*p >= 'a' && *p <= 'z') || (*p >= 'A' && *p <= 'Z') || (*p >= '0' && *p <= '9') || strchr("._-/", *p);
        if (!ok || (p[0] == '.' && p[1] == '.') || (p[0] == '/' && p[1] == '/') ||
            (p == name && (*p == '.' || *p == '/')))
            return false;
    }
    if (strncmp(name, "net.", 4) == 0 || strncmp(name, "net/", 4) == 0)
        return !(m->spec.flags & SPEC_HOST_NETWORK);
    for (size_t i = 0; i < ARRAY_LEN(ipc); i++)
        if (strncmp(name, ipc[i], strlen(ipc[i])) == 0)
            return !(m->spec.flags & SPEC_HOST_IPC);
    return false;
}

static int set_sysctls(struct monitor *m, struct error *err) {
    for (size_t i = 0; i + 1 < m->spec.sysctls.n; i += 2) {
        const char *name = m->spec.sysctls.v[i], *value = m->spec.sysctls.v[i + 1];
        char path[256];
        if (!sysctl_is_ours(m, name))
            return error_set(err, -EPERM, "sysctl \"%s\" is not in a namespace of the sandbox", name);
        int n = snprintf(path, sizeof(path), "/proc/sys/%s", name);
        if (n < 0 || n >= (int)sizeof(path))
            return error_set(err, -EINVAL, "sysctl \"%s\" is too long", name);
        /* in a name with slashes dots are part of it (eth0.1) */
        for (char *p = path; !strchr(name, '/') && *p; p++)
            if (*p == '.')
                *p = '/';
        int rc = file_put(path, str_c(value), err);
        if (rc < 0)
            return rc;
    }
    return 0;
}

static void loopback_up(void) {
    struct ifreq r = {.ifr_name = "lo"};
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return;
    if (ioctl(fd, SIOCGIFFLAGS, &r) == 0) {
        r.ifr_flags |= IFF_UP | IFF_RUNNING;
        ioctl(fd, SIOCSIFFLAGS, &r);
    }
    close(fd);
}

/* The first process of a shared pid namespace: reaps what its containers leave behind, as `pause` does. */
static _Noreturn void reap_for_ever(void) {
    static const char name[] = "dory-init";
    prctl(PR_SET_NAME, name);
    prctl(PR_SET_PDEATHSIG, SIGKILL); /* it is nothing without the monitor */
    x_close_range(0, ~0u);
    sigset_t all;
    sigfillset(&all);
    for (;;) {
        siginfo_t info;
        sigwaitinfo(&all, &info);
        while (waitpid(-1, NULL, WNOHANG | __WALL) > 0)
            ;
    }
}

static int share_pids(struct monitor *m, struct error *err) {
    int rc = unshare(CLONE_NEWPID) < 0 ? -errno : 0;
    struct x_clone_args a = {.exit_signal = SIGCHLD};
    m->init_pid = rc == 0 ? x_clone3(&a) : 0;
    if (rc == 0 && m->init_pid < 0)
        rc = -errno;
    if (rc == 0 && m->init_pid == 0)
        reap_for_ever();
    return rc < 0 ? error_sys(err, rc, "pid namespace") : 0;
}

/*
 * Shared memory of the sandbox: a tmpfs that is the root of a mount namespace of its own. So it costs the host's mount table
 * nothing, a container takes a copy by visiting, and no mount of the host is held.
 */
static int make_shm(struct monitor *m, struct error *err) {
    char size[24];
    int back = open("/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC);
    snprintf(size, sizeof(size), "%llu", (unsigned long long)(m->spec.shm_bytes ? m->spec.shm_bytes : MiB(64)));
    if (back < 0 || unshare(CLONE_NEWNS) < 0) {
        if (back >= 0)
            close(back);
        return error_sys(err, -errno, "mount namespace");
    }
    int rc = 0, at = -1, shm = -1;
    m->shm_ns = open("/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC);
    if (m->shm_ns < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
        (shm = rootfs_new_mount("tmpfs", "mode", "1777", "size", size, X_ATTR_NOSUID | X_ATTR_NODEV | X_ATTR_NOEXEC)) <
            0 ||
        (at = open(m->spec.root_dir.p, O_PATH | O_DIRECTORY | O_CLOEXEC)) < 0 || x_move_mount_fd(shm, at) < 0 ||
        fchdir(shm) < 0 || x_pivot_root_here() < 0 || umount2(".", MNT_DETACH) < 0)
        rc = -errno;
    if (at >= 0)
        close(at);
    if (shm >= 0)
        close(shm);
    if (setns(back, CLONE_NEWNS) < 0)
        rc = -errno;
    close(back);
    return rc < 0 ? error_sys(err, rc, "shared memory of the sandbox") : 0;
}

static int make_namespaces(struct monitor *m, struct error *err) {
    uint64_t flags = m->spec.flags;
    int ns = (flags & SPEC_HOST_NETWORK ? 0 : CLONE_NEWNET | CLONE_NEWUTS) | (flags & SPEC_HOST_IPC ? 0 : CLONE_NEWIPC);
    if (ns && unshare(ns) < 0)
        return error_sys(err, -errno, "creating namespaces");
    if (!(flags & SPEC_HOST_NETWORK)) {
        m->netns = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
        if (m->netns < 0)
            return error_sys(err, -errno, "/proc/self/ns/net");
        loopback_up();
        if (m->spec.hostname.n && sethostname(m->spec.hostname.p, m->spec.hostname.n) < 0)
            return error_sys(err, -errno, "hostname \"%s\"", m->spec.hostname.p);
    }
    int rc = set_sysctls(m, err);
    if (rc == 0 && flags & SPEC_SHARE_PID && !(flags & SPEC_HOST_PID))
        rc = share_pids(m, err);
    return rc;
}

static int load_spec(struct monitor *m, struct error *err) {
    static struct mapped file; /* stays for the monitor's life */
    int rc = monitor_map_file(m, "sandbox", ".spec", &file);
    if (rc == 0)
        rc = spec_decode_sandbox(file.text, &file.memory, &m->spec);
    if (rc == 0 && m->spec.cgroups.n != sizeof(m->cgroups))
        rc = -EBADMSG;
    if (rc < 0)
        return error_sys(err, rc, "the sandbox's specification");
    memcpy(&m->cgroups, m->spec.cgroups.p, sizeof(m->cgroups));
    return 0;
}

static int set_up(struct monitor *m, struct error *err) {
    int rc = load_spec(m, err);
    return rc < 0 ? rc : make_namespaces(m, err);
}

static void quiet_signals(struct monitor *m) {
    sigset_t all;
    for (int sig = 1; sig < 65; sig++)
        signal(sig, SIG_DFL);
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, NULL);
    sigemptyset(&all);
    sigaddset(&all, SIGCHLD);
    int fd = signalfd(-1, &all, SFD_CLOEXEC | SFD_NONBLOCK);
    m->signals.fn = on_signal;
    monitor_watch(m, &m->signals, fd, EPOLLIN);
}

static void run(struct monitor *m) {
    for (;;) {
        struct epoll_event ev[8];
        int timeout = m->scratch ? 100 : -1;
        int n = epoll_wait(m->epoll, ev, (int)ARRAY_LEN(ev), timeout);
        for (int i = 0; i < n; i++) {
            struct source *s = ev[i].data.ptr;
            if (s->fd >= 0) /* not closed by one before it */
                s->fn(m, s, ev[i].events);
        }
        if (n == 0)
            log_idle(m);
    }
}

static void open_null(void) {
    int fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    for (int i = 0; fd >= 0 && i < 3; i++)
        dup2(fd, i);
    if (fd > 2)
        close(fd);
}

int monitor_main(int argc, char **argv) {
    static struct monitor m;
    struct error err = {.code = 0};
    struct stat st;
    if (fstat(MONITOR_FD_PEER, &st) < 0 || !S_ISSOCK(st.st_mode) || fstat(MONITOR_FD_STATE, &st) < 0) {
        fprintf(stderr, MONITOR_NAME ": is started by the runtime only\n");
        return 2;
    }
    prctl(PR_SET_DUMPABLE, 0); /* so that no container can look into us or our children on their way in */
    prctl(PR_SET_NAME, MONITOR_NAME);
    open_null();
    file_put("/proc/self/oom_score_adj", STR("-998"),
             NULL); /* where we may: a pod's memory is not ours to answer for */
    for (int fd = MONITOR_FD_PEER; fd < MONITOR_FD_END; fd++)
        fcntl(fd, F_SETFD, FD_CLOEXEC);
    x_close_range(MONITOR_FD_END, ~0u);
    if (chdir("/") < 0)
        return 1;
    umask(022);
    m.state_dir = MONITOR_FD_STATE;
    m.devices = fcntl(MONITOR_FD_DEVICES, F_GETFD) < 0 ? -1 : MONITOR_FD_DEVICES;
    m.shm_ns = m.netns = m.own_pid_ns = -1;
    m.epoll = epoll_create1(EPOLL_CLOEXEC);
    m.peer.fn = on_peer;
    m.listener.fn = on_listener;
    quiet_signals(&m);
    monitor_watch(&m, &m.peer, MONITOR_FD_PEER, EPOLLIN);
    monitor_watch(&m, &m.listener, MONITOR_FD_LISTEN, EPOLLIN);
    struct monitor_message ready = {.type = MONITOR_READY, .pid = getpid()};
    ready.code = set_up(&m, &err);
    if (ready.code == 0 && !(m.spec.flags & SPEC_HOST_IPC))
        ready.code = make_shm(&m, &err);
    if (ready.code == 0 && (m.own_pid_ns = open("/proc/self/ns/pid_for_children", O_RDONLY | O_CLOEXEC)) < 0)
        ready.code = error_sys(&err, -errno, "/proc/self/ns/pid_for_children");
    snprintf(ready.text, sizeof(ready.text), "%.300s", ready.code ? err.msg : "");
    monitor_say(&m, &ready, &m.netns, ready.code == 0 && m.netns >= 0);
    if (ready.code != 0)
        return 1;
    run(&m);
    return 0;
}
