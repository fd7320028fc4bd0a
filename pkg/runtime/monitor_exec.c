/* Processes run in a container later: probes, hooks, kubectl exec. */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "runtime/monitor.h"
#include "runtime/sysx.h"

#define EXECS_MAX 512
#define EXEC_BLOCK 16
#define ARGV_MAX 4096
#define TEXT_BYTES sizeof(((struct init_report *)NULL)->text)

static struct exec_record *record_new(struct monitor *m) {
    struct exec_record *e = m->execs;
    size_t n = 0;
    for (; e && e->used; e = e->next)
        n++;
    if (!e) {
        struct exec_record *block = n < EXECS_MAX ? monitor_map(EXEC_BLOCK * sizeof(*e)) : NULL;
        if (!block)
            return NULL;
        for (size_t i = 0; i < EXEC_BLOCK; i++) {
            block[i].next = m->execs;
            m->execs = &block[i];
        }
        e = m->execs;
    }
    struct exec_record *next = e->next;
    *e = (struct exec_record){.next = next, .used = true, .console = -1};
    e->report.fd = -1;
    return e;
}

static void record_free(struct monitor *m, struct exec_record *e) {
    monitor_unwatch(m, &e->report);
    if (e->console >= 0)
        close(e->console);
    monitor_unmap(e->fail_text, TEXT_BYTES);
    e->fail_text = NULL;
    e->used = false;
}

static void answer(struct monitor *m, uint32_t serial, int code, const char *text, int console) {
    struct monitor_message msg = {.type = MONITOR_EXEC_STARTED, .serial = serial, .code = code};
    snprintf(msg.text, sizeof(msg.text), "%s", text);
    monitor_say(m, &msg, &console, console >= 0);
}

static void keep_failure(struct exec_record *e, int code, const char *text) {
    if (e->failed)
        return;
    e->failed = true;
    e->fail_code = code;
    e->fail_text = monitor_map(TEXT_BYTES);
    if (e->fail_text)
        snprintf(e->fail_text, TEXT_BYTES, "%s", text);
}

static void on_report(struct monitor *m, struct source *s, uint32_t events) {
    struct exec_record *e = CONTAINER_OF(s, struct exec_record, report);
    struct init_report r;
    int fd;
    bool closed;
    while (s->fd >= 0 && monitor_take_report(s, &r, &fd, &closed)) {
        if (closed) {
            monitor_unwatch(m, s);
            if (!e->failed && !e->started)
                keep_failure(e, -EIO, "the process died before it could run");
            if (!e->failed) {
                answer(m, e->serial, 0, "", e->console);
                if (e->console >= 0)
                    close(e->console);
                e->console = -1;
            }
        } else if (r.kind == INIT_FAILED) {
            keep_failure(e, r.code, r.text);
        } else if (r.kind == INIT_RUNS) {
            e->started = true;
        } else if (r.kind == INIT_CONSOLE && fd >= 0 && e->console < 0) {
            e->console = fd;
            fd = -1;
        }
        if (fd >= 0)
            close(fd);
    }
}

static int split_argv(struct str text, struct strv *out, const char *v[ARGV_MAX + 1]) {
    out->v = v;
    out->n = 0;
    if (text.n == 0 || text.p[text.n - 1] != 0)
        return -EINVAL;
    for (size_t at = 0; at < text.n; at += strlen(text.p + at) + 1) {
        if (out->n == ARGV_MAX)
            return -E2BIG;
        v[out->n++] = text.p + at;
    }
    v[out->n] = NULL;
    return 0;
}

struct plan { /* all that the child needs, mapped for the time of the request */
    struct mapped spec_file, user_file;
    struct container_spec spec;
    struct user_spec user;
    struct strv argv;
    const char *argv_room[ARGV_MAX + 1];
};

static int read_plan(struct monitor *m, const char *id, struct str argv, struct plan *p, struct error *err) {
    int rc = monitor_map_file(m, id, ".spec", &p->spec_file);
    if (rc == 0)
        rc = spec_decode_container(p->spec_file.text, &p->spec_file.memory, &p->spec);
    if (rc == 0)
        rc = monitor_map_file(m, id, ".user", &p->user_file);
    if (rc == 0)
        rc = spec_decode_user(p->user_file.text, &p->user_file.memory, &p->user);
    if (rc < 0)
        return error_sys(err, rc, "the container's specification");
    rc = split_argv(argv, &p->argv, p->argv_room);
    return rc < 0 ? error_sys(err, rc, "command") : 0;
}

static int launch(struct monitor *m, struct exec_record *e, struct container_record *c,
                  const struct monitor_message *msg, struct plan *p, const int *fds, size_t fds_n, struct error *err) {
    char group[CGROUP_PATH_MAX];
    int report[2], pidfd = -1;
    bool tty = msg->flags & MONITOR_EXEC_TTY, in_v2;
    int rc = monitor_path(m, c->id, group);
    if (rc < 0 || socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, report) < 0)
        return error_sys(err, rc < 0 ? rc : -errno, "socket");
    /* only where children go is switched, and back again: the monitor itself stays where it is */
    rc = setns(c->pidfd, CLONE_NEWPID) < 0
             ? -errno
             : monitor_clone(m, 0, monitor_clones_into_groups(m) ? group : NULL, &pidfd, &in_v2);
    if (rc == 0) {
        struct init in = {.sandbox = &m->spec,
                          .spec = &p->spec,
                          .cgroups = &m->cgroups,
                          .report = report[1],
                          .stdio = {-1, -1, -1},
                          .shm_ns = -1,
                          .wait_joined = true,
                          .memory = &p->spec_file.memory,
                          .target = c->pidfd,
                          .user = &p->user,
                          .width = msg->width,
                          .height = msg->height};
        for (size_t i = 0; i < 3 && !tty; i++)
            in.stdio[i] = i < fds_n ? fds[i] : 0;
        init_exec(&in, &p->argv, tty);
    }
    setns(m->own_pid_ns, CLONE_NEWPID);
    close(report[1]);
    if (pidfd >= 0)
        close(pidfd);
    if (rc < 0) {
        close(report[0]);
        return rc == -ESRCH || rc == -ENOMEM ? error_set(err, -ESRCH, "the container is not running")
                                             : error_sys(err, rc, "clone");
    }
    e->pid = rc;
    struct init_report joined = {.kind = INIT_JOINED};
    rc = cgroup_join(&m->cgroups, group, e->pid, in_v2, err);
    if (rc == 0)
        send(report[0], &joined, sizeof(joined), MSG_NOSIGNAL); /* if it is dead, SIGCHLD tells */
    else
        kill(e->pid, SIGKILL);
    e->report.fn = on_report;
    monitor_watch(m, &e->report, report[0], EPOLLIN);
    return rc;
}

void exec_request(struct monitor *m, const struct monitor_message *msg, struct str argv, const int *fds, size_t fds_n) {
    struct error err = {.code = 0};
    struct container_record *c = container_find(m, msg->id);
    struct plan *p = monitor_map(sizeof(*p));
    struct exec_record *e = NULL;
    int rc = 0;
    if (!c || c->state != CONTAINER_RUNNING || c->pidfd < 0)
        rc = error_set(&err, -ESRCH, "the container is not running");
    else if (!p || !(e = record_new(m)))
        rc = error_set(&err, -EMFILE, "the sandbox runs too many processes");
    if (rc == 0) {
        e->serial = msg->serial;
        rc = read_plan(m, c->id, argv, p, &err);
        if (rc == 0)
            rc = launch(m, e, c, msg, p, fds, fds_n, &err);
    }
    if (rc < 0 && e && e->pid > 0) {
        keep_failure(e, rc, err.msg);
    } else if (rc < 0) {
        err.msg[300] = 0;
        answer(m, msg->serial, rc, err.msg, -1);
        if (e)
            record_free(m, e);
    }
    if (p) {
        monitor_unmap(p->spec_file.base, p->spec_file.size);
        monitor_unmap(p->user_file.base, p->user_file.size);
        monitor_unmap(p, sizeof(*p));
    }
}

/* The whole process group: it is a session of its own. The pid is ours until it is reaped. */
static void kill_exec(struct exec_record *e) {
    if (e->used && !e->reaped && e->pid > 0 && kill(-e->pid, SIGKILL) < 0)
        kill(e->pid, SIGKILL);
}

void exec_kill_request(struct monitor *m, uint32_t serial) {
    for (struct exec_record *e = m->execs; e; e = e->next)
        if (e->used && e->serial == serial)
            kill_exec(e);
}

void exec_kill_all(struct monitor *m) {
    for (struct exec_record *e = m->execs; e; e = e->next)
        kill_exec(e);
}

bool exec_reaped(struct monitor *m, int pid, int status) {
    struct exec_record *e = m->execs;
    while (e && !(e->used && e->pid == pid))
        e = e->next;
    if (!e)
        return false;
    e->reaped = true;
    on_report(m, &e->report, 0);
    if (e->failed || (!e->started && e->report.fd >= 0)) {
        answer(m, e->serial, e->fail_code ? e->fail_code : -EIO, e->fail_text ? e->fail_text : "the process died", -1);
    } else {
        struct monitor_message msg = {.type = MONITOR_EXEC_EXITED, .serial = e->serial};
        msg.signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
        msg.exit_code = msg.signal ? 128 + msg.signal : WEXITSTATUS(status);
        monitor_say(m, &msg, NULL, 0);
    }
    record_free(m, e);
    return true;
}
