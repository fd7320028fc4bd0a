/* The life of a container in its monitor: start, exit, and what is told of both. */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "runtime/monitor.h"
#include "runtime/sysx.h"

/* --- records ------------------------------------------------------------------------------------------------------- */

#define RECORDS_MAX 256 /* containers of one sandbox at a time */
#define RECORD_BLOCK 8

static void close_fd(int *fd) {
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

static struct container_record *record_new(struct monitor *m) {
    struct container_record *c = m->containers;
    size_t n = 0;
    for (; c && c->used; c = c->next)
        n++;
    if (!c) {
        struct container_record *block = n < RECORDS_MAX ? monitor_map(RECORD_BLOCK * sizeof(*c)) : NULL;
        if (!block)
            return NULL;
        for (size_t i = 0; i < RECORD_BLOCK; i++) {
            block[i].next = m->containers;
            m->containers = &block[i];
        }
        c = m->containers;
    }
    struct container_record *next = c->next;
    *c = (struct container_record){.next = next, .used = true, .pidfd = -1, .stdin_fd = -1, .log_fd = -1};
    c->report.fd = c->out.source.fd = c->errs.source.fd = -1;
    c->out.owner = c->errs.owner = c;
    c->errs.is_stderr = true;
    return c;
}

static void record_free(struct monitor *m, struct container_record *c) {
    log_drain(m, c);
    monitor_unwatch(m, &c->report);
    close_fd(&c->pidfd);
    close_fd(&c->stdin_fd);
    close_fd(&c->log_fd);
    monitor_unmap(c->fail_text, sizeof(((struct init_report *)NULL)->text));
    c->fail_text = NULL;
    c->used = false;
}

struct container_record *container_find(struct monitor *m, const char *id) {
    for (struct container_record *c = m->containers; c; c = c->next)
        if (c->used && strcmp(c->id, id) == 0)
            return c;
    return NULL;
}

void container_describe(const struct container_record *c, struct monitor_message *msg) {
    msg->pid = c->pid;
    msg->state = c->state;
    msg->exit_code = c->exit_code;
    msg->signal = c->signal;
    msg->oom_killed = c->oom_killed;
    msg->started_ns = c->started_ns;
    msg->finished_ns = c->finished_ns;
    snprintf(msg->id, sizeof(msg->id), "%s", c->id);
}

/* --- starting ------------------------------------------------------------------------------------------------------ */

static void answer_started(struct monitor *m, struct container_record *c, int code, const char *text) {
    struct monitor_message msg = {.type = MONITOR_STARTED, .serial = c->start_serial, .code = code};
    container_describe(c, &msg);
    snprintf(msg.text, sizeof(msg.text), "%s", text);
    c->start_serial = 0;
    monitor_say(m, &msg, &c->pidfd, code == 0 && c->pidfd >= 0);
}

static void write_user(struct monitor *m, const struct container_record *c, const struct user_ids *u) {
    char text[1024], name[MONITOR_ID_MAX + 16];
    struct user_spec spec = {u->uid,
                             u->gid,
                             {(const char *)u->groups, u->groups_n * sizeof(u->groups[0])},
                             str_c(u->home)};
    struct buf b = {.p = text, .cap = sizeof(text), .limit = sizeof(text) - 1}; /* within cap: nothing is allocated */
    spec_encode_user(&b, &spec);
    snprintf(name, sizeof(name), "%s.user", c->id);
    int fd = openat(m->state_dir, name, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd >= 0) {
        fd_write_all(fd, b.p, b.n);
        close(fd);
    }
}

static void keep_failure(struct container_record *c, int code, const char *text) {
    c->failed = true;
    c->fail_code = code;
    if (!c->fail_text)
        c->fail_text = monitor_map(sizeof(((struct init_report *)NULL)->text));
    if (c->fail_text)
        snprintf(c->fail_text, sizeof(((struct init_report *)NULL)->text), "%s", text);
}

static void on_report(struct monitor *m, struct source *s, uint32_t events) {
    struct container_record *c = CONTAINER_OF(s, struct container_record, report);
    struct init_report r;
    int fd;
    bool closed;
    while (s->fd >= 0 && monitor_take_report(s, &r, &fd, &closed)) {
        if (closed) {
            monitor_unwatch(m, s);
            if (!c->failed && c->state == CONTAINER_CREATED)
                keep_failure(c, -EIO, "the container's first process died while it was set up");
            else if (!c->failed)
                answer_started(m, c, 0, c->fail_text ? c->fail_text : "");
        } else if (r.kind == INIT_FAILED) {
            keep_failure(c, r.code, r.text);
        } else if (r.kind == INIT_WARNING) {
            keep_failure(c, 0, r.text);
            c->failed = false;
        } else if (r.kind == INIT_USER) {
            write_user(m, c, &r.user);
        } else if (r.kind == INIT_RUNS) {
            c->state = CONTAINER_RUNNING;
            c->started_ns = monitor_now_ns();
        } else if (r.kind == INIT_CONSOLE && fd >= 0 && c->out.source.fd < 0) {
            c->has_pty = true;
            fd_set_nonblock(fd, true);
            c->out.source.fn = log_readable;
            monitor_watch(m, &c->out.source, fd, EPOLLIN);
            fd = -1;
        }
        close_fd(&fd);
    }
}

struct pipes {
    int child[3], ours[3], report[2];
};

static int make_pipes(struct pipes *p, uint64_t flags) {
    for (int i = 0; i < 3; i++)
        p->child[i] = p->ours[i] = -1;
    p->report[0] = p->report[1] = -1;
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, p->report) < 0)
        return -errno;
    for (int i = 0; i < 3 && !(flags & SPEC_TTY); i++) {
        int fds[2];
        if (i == 0 && !(flags & SPEC_STDIN_OPEN))
            continue;
        if (pipe2(fds, O_CLOEXEC) < 0)
            return -errno;
        p->child[i] = fds[i != 0];
        p->ours[i] = fds[i == 0];
        fd_set_nonblock(p->ours[i], true);
    }
    return 0;
}

static void close_pipes(struct pipes *p) {
    for (int i = 0; i < 3; i++) {
        close_fd(&p->child[i]);
        close_fd(&p->ours[i]);
    }
    close_fd(&p->report[0]);
    close_fd(&p->report[1]);
}

static int make_groups(struct monitor *m, const struct container_spec *spec, const char *path, struct error *err) {
    int rc = cgroup_create(&m->cgroups, path, &spec->cgroup, true, err);
    if (rc < 0 || spec->flags & SPEC_PRIVILEGED)
        return rc;
    int group = m->devices >= 0 ? cgroup_open_v2(&m->cgroups, path) : -ENOENT;
    if (group < 0)
        return cgroup_deny_devices(&m->cgroups, path, err);
    rc = cgroup_device_attach(m->devices, group);
    close(group);
    return rc < 0 ? error_sys(err, rc, "restricting devices") : 0;
}

static int make_directories(struct monitor *m, const char *id, struct error *err) {
    static const char *const names[] = {"", "/upper", "/work"};
    char path[PATH_MAX];
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        int n = snprintf(path, sizeof(path), "%s/%s%s", m->spec.root_dir.p, id, names[i]);
        if (n < 0 || n >= (int)sizeof(path))
            return error_set(err, -ENAMETOOLONG, "the path of the root is too long");
        if (mkdir(path, i == 1 ? 0755 : 0700) < 0 && errno != EEXIST)
            return error_sys(err, -errno, "creating %s", path);
    }
    return 0;
}

static int launch(struct monitor *m, struct container_record *c, struct mapped *file, const struct container_spec *spec,
                  struct pipes *p, struct error *err) {
    char group[CGROUP_PATH_MAX];
    bool direct = monitor_clones_into_groups(m);
    int rc = monitor_path(m, c->id, group);
    if (rc == 0 && direct)
        rc = make_groups(m, spec, group, err);
    if (rc == 0)
        rc = make_directories(m, c->id, err);
    if (rc < 0)
        return rc;
    if ((rc = log_open(c, spec)) < 0)
        return error_sys(err, rc, "opening the log %s", spec->log_path.p);
    if ((rc = make_pipes(p, spec->flags)) < 0)
        return error_sys(err, rc, "pipes");
    bool own_pids = !((m->spec.flags | spec->flags) & (SPEC_HOST_PID | SPEC_SHARE_PID));
    bool in_v2;
    int pid = monitor_clone(m, CLONE_NEWNS | (own_pids ? CLONE_NEWPID : 0), direct ? group : NULL, &c->pidfd, &in_v2);
    if (pid < 0)
        return error_sys(err, pid, "clone");
    if (pid == 0) {
        struct init in = {.sandbox = &m->spec,
                          .spec = spec,
                          .cgroups = &m->cgroups,
                          .report = p->report[1],
                          .stdio = {p->child[0], p->child[1], p->child[2]},
                          .shm_ns = m->shm_ns,
                          .wait_joined = true,
                          .memory = &file->memory,
                          .target = -1};
        init_container(&in);
    }
    c->pid = pid;
    c->kills_group = !own_pids;
    struct init_report joined = {.kind = INIT_JOINED};
    rc = direct ? 0 : make_groups(m, spec, group, err);
    if (rc == 0)
        rc = cgroup_join(&m->cgroups, group, pid, in_v2, err);
    if (rc == 0 && send(p->report[0], &joined, sizeof(joined), MSG_NOSIGNAL) < 0 && errno != EPIPE)
        rc = error_sys(err, -errno, "socket");
    if (rc < 0)
        kill(pid, SIGKILL);
    return rc;
}

static void watch_output(struct monitor *m, struct container_record *c, struct pipes *p) {
    c->stdin_fd = p->ours[0];
    c->out.source.fn = c->errs.source.fn = log_readable;
    if (p->ours[1] >= 0)
        monitor_watch(m, &c->out.source, p->ours[1], EPOLLIN);
    if (p->ours[2] >= 0)
        monitor_watch(m, &c->errs.source, p->ours[2], EPOLLIN);
    c->report.fn = on_report;
    monitor_watch(m, &c->report, p->report[0], EPOLLIN);
    p->ours[0] = p->ours[1] = p->ours[2] = p->report[0] = -1;
}

void container_start_request(struct monitor *m, const struct monitor_message *msg) {
    struct error err = {.code = 0};
    struct mapped file = {.base = NULL};
    struct pipes p = {{-1, -1, -1}, {-1, -1, -1}, {-1, -1}};
    struct container_spec spec;
    struct container_record *c = NULL;
    int rc = 0;
    if (container_find(m, msg->id))
        rc = error_set(&err, -EEXIST, "container %s exists", msg->id);
    else if (strlen(msg->id) > MONITOR_ID_MAX || !(c = record_new(m)))
        rc = error_set(&err, -EMFILE, "the sandbox has too many containers");
    if (rc < 0) {
        struct monitor_message no = {.type = MONITOR_STARTED, .serial = msg->serial, .code = rc};
        snprintf(no.id, sizeof(no.id), "%s", msg->id);
        snprintf(no.text, sizeof(no.text), "%.300s", err.msg);
        monitor_say(m, &no, NULL, 0);
        return;
    }
    snprintf(c->id, sizeof(c->id), "%.64s", msg->id);
    c->start_serial = msg->serial;
    rc = monitor_map_file(m, c->id, ".spec", &file);
    if (rc == 0)
        rc = spec_decode_container(file.text, &file.memory, &spec);
    rc = rc < 0 ? error_sys(&err, rc, "the container's specification") : launch(m, c, &file, &spec, &p, &err);
    monitor_unmap(file.base, file.size);
    if (c->pid > 0) {
        watch_output(m, c, &p);
        if (rc < 0)
            keep_failure(c, rc, err.msg); /* answered once the child is reaped */
    } else {
        char text[300];
        snprintf(text, sizeof(text), "%.299s", err.msg);
        answer_started(m, c, rc, text);
        record_free(m, c);
    }
    close_pipes(&p);
}

/* --- ending -------------------------------------------------------------------------------------------------------- */

bool container_reaped(struct monitor *m, int pid, int status) {
    struct container_record *c = m->containers;
    char group[CGROUP_PATH_MAX];
    while (c && !(c->used && c->pid == pid && !c->reaped))
        c = c->next;
    if (!c)
        return false;
    c->reaped = true;
    on_report(m, &c->report, 0);
    if (c->report.fd >= 0) /* a child of its own holds the socket: it has not come to execve */
        monitor_unwatch(m, &c->report);
    bool have_path = monitor_path(m, c->id, group) == 0;
    if (c->failed || c->start_serial) {
        bool oom = have_path && cgroup_oom_killed(&m->cgroups, group);
        answer_started(m, c, c->fail_code ? c->fail_code : -EIO,
                       oom            ? "container init was OOM-killed (memory limit too low?)"
                       : c->fail_text ? c->fail_text
                                      : "the container's first process died while it was set up");
        record_free(m, c);
        return true;
    }
    if (c->kills_group && have_path)
        cgroup_kill(&m->cgroups, group);
    c->state = CONTAINER_EXITED;
    c->signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
    c->exit_code = c->signal ? 128 + c->signal : WEXITSTATUS(status);
    c->oom_killed = c->exit_code != 0 && have_path && cgroup_oom_killed(&m->cgroups, group);
    c->finished_ns = monitor_now_ns();
    c->pid = 0;
    log_drain(m, c);
    close_fd(&c->pidfd);
    close_fd(&c->stdin_fd);
    close_fd(&c->log_fd);
    struct monitor_message msg = {.type = MONITOR_EXITED};
    container_describe(c, &msg);
    monitor_say(m, &msg, NULL, 0);
    return true;
}

void container_forget_request(struct monitor *m, const struct monitor_message *msg) {
    struct container_record *c = container_find(m, msg->id);
    if (c && c->state == CONTAINER_EXITED)
        record_free(m, c);
}
