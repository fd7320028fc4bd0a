/* Processes in running containers: streams for kubectl exec, and runs to completion for probes and hooks. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include "runtime/runtime_priv.h"

#define ARGV_BYTES_MAX KiB(128)
#define OUTPUT_MAX KiB(10)

/* --- calls --------------------------------------------------------------------------------------------------------- */

static int join_argv(struct buf *out, const struct str *argv, size_t n, struct error *err) {
    for (size_t i = 0; i < n; i++) {
        if (argv[i].n && memchr(argv[i].p, 0, argv[i].n))
            return error_set(err, -EINVAL, "a NUL byte in the command");
        buf_put_str(out, argv[i]);
        buf_putc(out, 0);
    }
    if (n == 0)
        return error_set(err, -EINVAL, "no command specified");
    return out->failed ? error_set(err, -E2BIG, "the command is longer than %zu bytes", ARGV_BYTES_MAX) : 0;
}

static int call_start(struct exec_call *call, struct container *c, const struct str *argv, size_t argv_n,
                      uint32_t flags, int width, int height, const int *fds, size_t fds_n, struct error *err) {
    struct sandbox *s = c->sandbox;
    cleanup_buf struct buf text = {.limit = ARGV_BYTES_MAX};
    int rc = join_argv(&text, argv, argv_n, err);
    if (rc < 0)
        return rc;
    if (c->status.state != CONTAINER_RUNNING || s->phase != SANDBOX_READY)
        return error_set(err, -ESRCH, "container %.*s is not running", STR_ARG(c->id));
    struct monitor_message m = {.type = MONITOR_EXEC, .serial = ++s->serial, .flags = flags};
    m.width = (uint16_t)MAX(0, MIN(width, 65535));
    m.height = (uint16_t)MAX(0, MIN(height, 65535));
    memcpy(m.id, c->id.p, c->id.n);
    rc = link_send(s->link, &m, buf_str(&text), fds, fds_n);
    if (rc < 0)
        return error_sys(err, rc, "the pod's monitor");
    call->sandbox = s;
    call->serial = m.serial;
    list_push_back(&s->calls, &call->node);
    return 0;
}

static void call_kill(struct exec_call *call) {
    struct monitor_message m = {.type = MONITOR_EXEC_KILL, .serial = call->serial};
    if (call->sandbox && call->sandbox->link)
        link_send(call->sandbox->link, &m, STR_NULL, NULL, 0);
}

static struct exec_call *find_call(struct sandbox *s, uint32_t serial) {
    LIST_FOREACH (it, &s->calls) {
        struct exec_call *call = LIST_ITEM(it, struct exec_call, node);
        if (call->serial == serial)
            return call;
    }
    return NULL;
}

void exec_on_started(struct sandbox *s, const struct monitor_message *m, int *fds, size_t fds_n) {
    struct exec_call *call = find_call(s, m->serial);
    if (!call || !call->on_started)
        return;
    int console = fds_n ? fds[0] : -1;
    if (fds_n)
        fds[0] = -1;
    if (m->code < 0)
        list_remove(&call->node);
    void (*on_started)(struct exec_call *, int, const char *, int) = call->on_started;
    call->on_started = NULL;
    on_started(call, m->code, m->text, console);
}

void exec_on_exited(struct sandbox *s, const struct monitor_message *m) {
    struct exec_call *call = find_call(s, m->serial);
    if (!call)
        return;
    list_remove(&call->node);
    call->on_exited(call, m->exit_code);
}

static void close_all(int *fds, size_t n) {
    for (size_t i = 0; i < n; i++) {
        if (fds[i] >= 0)
            close(fds[i]);
        fds[i] = -1;
    }
}

/* ours[i] is the end we keep: of 0 we write, of the others we read. */
static int make_pipe(int ours_is_write, int *ours, int *theirs) {
    int p[2];
    if (pipe2(p, O_CLOEXEC) < 0)
        return -errno;
    *ours = p[ours_is_write];
    *theirs = p[!ours_is_write];
    fd_set_nonblock(*ours, true);
    return 0;
}

/* --- exec ---------------------------------------------------------------------------------------------------------- */

struct exec_process {
    struct exec_call call;
    struct exec_events ev;
    struct loop *loop;
    int fds[3];
    int console; /* a copy of the pty's master, to resize it */
    bool tty, stdin_open;
    struct error err; /* of one that could not be asked for */
};

static void process_free(struct exec_process *p) {
    close_all(p->fds, 3);
    if (p->console >= 0)
        close(p->console);
    free(p);
}

static struct stream *to_stream(struct exec_process *p, int *fd) {
    struct stream *s = *fd >= 0 ? stream_from_fd(p->loop, *fd) : NULL;
    *fd = -1;
    return s;
}

static void process_started(struct exec_call *call, int code, const char *text, int console) {
    struct exec_process *p = CONTAINER_OF(call, struct exec_process, call);
    if (code < 0) {
        struct error err;
        error_set(&err, code, "%s", text);
        p->ev.on_start(p->ev.arg, NULL, NULL, NULL, NULL, code, &err);
        process_free(p);
        return;
    }
    if (p->tty) {
        p->console = fcntl(console, F_DUPFD_CLOEXEC, 3);
        fd_set_nonblock(console, true);
        struct stream *both = to_stream(p, &console);
        p->ev.on_start(p->ev.arg, p, p->stdin_open ? both : NULL, both, NULL, 0, NULL);
        return;
    }
    struct stream *in = to_stream(p, &p->fds[0]), *out = to_stream(p, &p->fds[1]), *errs = to_stream(p, &p->fds[2]);
    p->ev.on_start(p->ev.arg, p, in, out, errs, 0, NULL);
}

static void process_exited(struct exec_call *call, int exit_code) {
    struct exec_process *p = CONTAINER_OF(call, struct exec_process, call);
    void (*on_exit)(void *, int) = p->ev.on_exit;
    void *arg = p->ev.arg;
    process_free(p);
    on_exit(arg, exit_code);
}

static void tell_not_started(void *arg) {
    struct exec_process *p = arg;
    p->ev.on_start(p->ev.arg, NULL, NULL, NULL, NULL, p->err.code, &p->err);
    process_free(p);
}

void container_exec(struct container *c, const struct exec_config *cfg, const struct exec_events *ev) {
    struct exec_process *p = XNEW(struct exec_process);
    int theirs[3] = {-1, -1, -1};
    *p = (struct exec_process){.ev = *ev,
                               .loop = c->sandbox->rt->loop,
                               .fds = {-1, -1, -1},
                               .console = -1,
                               .tty = cfg->tty,
                               .stdin_open = cfg->stdin_open};
    list_init(&p->call.node);
    p->call.on_started = process_started;
    p->call.on_exited = process_exited;
    int rc = 0;
    for (int i = 0; i < 3 && rc == 0 && !cfg->tty; i++) {
        if (i > 0 || cfg->stdin_open)
            rc = make_pipe(i == 0, &p->fds[i], &theirs[i]);
        else /* the place in the message must be filled */
            rc = (theirs[i] = open("/dev/null", O_RDONLY | O_CLOEXEC)) < 0 ? -errno : 0;
    }
    if (rc < 0)
        error_sys(&p->err, rc, "pipes");
    uint32_t flags = (cfg->tty ? MONITOR_EXEC_TTY : 0) | (cfg->stdin_open ? MONITOR_EXEC_STDIN : 0);
    if (rc == 0)
        rc = call_start(&p->call, c, cfg->argv, cfg->argv_n, flags, cfg->width, cfg->height, theirs, cfg->tty ? 0 : 3,
                        &p->err);
    close_all(theirs, 3);
    if (rc < 0)
        loop_post(p->loop, tell_not_started, p);
}

int exec_resize(struct exec_process *p, int width, int height) {
    struct winsize size = {.ws_row = (unsigned short)height, .ws_col = (unsigned short)width};
    if (p->console < 0)
        return -ENOTTY;
    return ioctl(p->console, TIOCSWINSZ, &size) < 0 ? -errno : 0;
}

void exec_kill(struct exec_process *p) {
    call_kill(&p->call);
}

/* --- runs to completion -------------------------------------------------------------------------------------------- */

struct sync_run {
    struct exec_call call;
    struct loop *loop;
    uv_poll_t poll;
    int fd; /* standard output and error together */
    bool polling, timed_out;
    struct timer timer;
    int code, exit_code;
    size_t n;
    char output[OUTPUT_MAX];
    void (*done)(void *arg, int code, int exit_code, struct str output);
    void *arg;
};

static void sync_closed(uv_handle_t *h) {
    struct sync_run *r = h->data;
    close(r->fd);
    free(r);
}

/* Keeps the first OUTPUT_MAX bytes, drops the rest; false at the end of the stream. */
static bool sync_read(struct sync_run *r) {
    char spare[4096];
    for (int i = 0; i < 64; i++) {
        size_t room = OUTPUT_MAX - r->n;
        ssize_t n = room ? read(r->fd, r->output + r->n, room) : read(r->fd, spare, sizeof(spare));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return errno == EAGAIN;
        if (n == 0)
            return false;
        r->n += room ? (size_t)n : 0;
    }
    return true;
}

static void sync_readable(uv_poll_t *h, int status, int events) {
    struct sync_run *r = h->data;
    if (!sync_read(r))
        uv_poll_stop(&r->poll);
}

static void sync_finish(struct sync_run *r) {
    timer_stop(&r->timer);
    if (r->polling)
        sync_read(r); /* what it said last; a child that it left behind may hold the pipe for ever */
    r->done(r->arg, r->timed_out ? -ETIMEDOUT : r->code, r->exit_code, (struct str){r->output, r->n});
    if (r->polling) {
        uv_close((uv_handle_t *)&r->poll, sync_closed);
        return;
    }
    if (r->fd >= 0)
        close(r->fd);
    free(r);
}

static void sync_started(struct exec_call *call, int code, const char *text, int console) {
    struct sync_run *r = CONTAINER_OF(call, struct sync_run, call);
    if (code >= 0)
        return;
    r->code = code;
    r->exit_code = -1;
    r->n = MIN(strlen(text), sizeof(r->output));
    memcpy(r->output, text, r->n);
    sync_finish(r);
}

static void sync_exited(struct exec_call *call, int exit_code) {
    struct sync_run *r = CONTAINER_OF(call, struct sync_run, call);
    r->exit_code = exit_code;
    sync_finish(r);
}

static void sync_late(void *arg) {
    struct sync_run *r = arg;
    r->timed_out = true;
    call_kill(&r->call); /* its exit ends the run */
}

static void sync_not_started(void *arg) {
    sync_finish(arg);
}

void container_exec_sync(struct container *c, const struct str *argv, size_t argv_n, int64_t timeout_ms,
                         void (*done)(void *arg, int code, int exit_code, struct str output), void *arg) {
    struct sync_run *r = XNEW(struct sync_run);
    struct error err = {.code = 0};
    int theirs[3] = {-1, -1, -1};
    r->loop = c->sandbox->rt->loop;
    r->fd = -1;
    r->done = done;
    r->arg = arg;
    r->exit_code = -1;
    list_init(&r->call.node);
    r->call.on_started = sync_started;
    r->call.on_exited = sync_exited;
    timer_init(&r->timer, r->loop, sync_late, r);
    int rc = make_pipe(0, &r->fd, &theirs[1]);
    if (rc == 0 && ((theirs[0] = open("/dev/null", O_RDONLY | O_CLOEXEC)) < 0 ||
                    (theirs[2] = fcntl(theirs[1], F_DUPFD_CLOEXEC, 3)) < 0))
        rc = -errno;
    if (rc < 0)
        error_sys(&err, rc, "pipes");
    else
        rc = call_start(&r->call, c, argv, argv_n, 0, 0, 0, theirs, 3, &err);
    close_all(theirs, 3);
    if (rc < 0) {
        r->code = rc;
        r->n = strlen(err.msg);
        memcpy(r->output, err.msg, r->n);
        loop_post(r->loop, sync_not_started, r);
        return;
    }
    r->poll.data = r;
    if (uv_poll_init(loop_uv(r->loop), &r->poll, r->fd) < 0 || uv_poll_start(&r->poll, UV_READABLE, sync_readable) < 0)
        fatal("cannot watch a pipe");
    r->polling = true;
    if (timeout_ms > 0)
        timer_set(&r->timer, timeout_ms, 0);
}
