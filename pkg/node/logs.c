/*
 * GET pods/log: reads the CRI files of a container, rotated ones first, and follows the newest by inotify. Lines are
 * sent without their CRI heads.
 */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include "node/node_priv.h"

#define READ_BYTES KiB(64)
#define BACKLOG_MAX MiB(1) /* of a slow client; reading waits */
#define ROTATED_MAX 32

struct logs {
    struct node *n;
    struct http_exchange *x;
    struct pod *pod; /* looked up again by uid at each event */
    char uid[64], container[300];
    char *path;
    int fd;
    bool follow, timestamps, closed, in_partial;
    int64_t limit_bytes; /* left to send; -1: all */
    struct timespec since;
    struct buf rest; /* an unfinished line */
    uv_poll_t poll;
    bool polling;
    int inotify;
    struct timer wait; /* a slow client */
};

/* --- one line --------------------------------------------------------------------------------------------------- */

/* "2026-01-01T00:00:00.000000000Z stdout F text" */
static bool parse_line(struct str line, struct str *when, bool *partial, struct str *text) {
    struct str stream, tag;
    if (!str_cut(line, ' ', when, &line) || !str_cut(line, ' ', &stream, &line) || !str_cut(line, ' ', &tag, text))
        return false;
    *partial = tag.n && tag.p[0] == 'P';
    return true;
}

static void send_line(struct logs *l, struct str line, struct buf *out) {
    struct str when, text;
    struct timespec t;
    bool partial;
    if (!parse_line(line, &when, &partial, &text))
        return;
    bool first = !l->in_partial;
    l->in_partial = partial;
    if (l->since.tv_sec && time_parse(when, &t) &&
        (t.tv_sec < l->since.tv_sec || (t.tv_sec == l->since.tv_sec && t.tv_nsec < l->since.tv_nsec)))
        return;
    if (l->timestamps && first)
        buf_printf(out, "%.*s ", STR_ARG(when));
    buf_put_str(out, text);
    if (!partial)
        buf_putc(out, '\n');
}

static bool flush(struct logs *l, struct buf *out) {
    if (l->limit_bytes >= 0 && (int64_t)out->n > l->limit_bytes)
        out->n = (size_t)l->limit_bytes;
    if (out->n) {
        size_t n;
        if (l->limit_bytes >= 0)
            l->limit_bytes -= (int64_t)out->n;
        size_t len = out->n;
        char *p = buf_steal(out, &n);
        http_stream_chunk(l->x, blob_take(p, len));
    }
    return l->limit_bytes != 0;
}

/* Sends the complete lines of what was read; false when the byte limit is reached. */
static bool send_text(struct logs *l, struct str text) {
    struct buf out = {.limit = MiB(16)};
    if (l->rest.n) {
        buf_put_str(&l->rest, text);
        text = buf_str(&l->rest);
    }
    ptrdiff_t last = str_rindex(text, '\n');
    struct str complete = str_n(text.p, (size_t)(last + 1)), tail = str_skip(text, (size_t)(last + 1));
    while (complete.n) {
        ptrdiff_t end = str_index(complete, '\n', 0);
        send_line(l, str_n(complete.p, (size_t)end), &out);
        complete = str_skip(complete, (size_t)end + 1);
    }
    if (l->rest.n) {
        buf_consume(&l->rest, l->rest.n - tail.n);
    } else {
        buf_put_str(&l->rest, tail);
    }
    bool more = flush(l, &out);
    buf_fini(&out);
    return more && !l->rest.failed;
}

/* --- files ------------------------------------------------------------------------------------------------------ */

/* All of one file; false when the limit is reached. */
static bool send_file(struct logs *l, int fd) {
    char *room = xmalloc(READ_BYTES);
    bool more = true;
    for (ssize_t n; more && !l->closed && (n = read(fd, room, READ_BYTES)) > 0;)
        more = send_text(l, str_n(room, (size_t)n));
    free(room);
    return more;
}

struct files {
    char *paths[ROTATED_MAX + 1]; /* oldest first; the newest is the log itself */
    size_t n;
};

/* <path>.N ... <path>.1 and <path> */
static void find_files(const char *path, struct files *f) {
    for (int i = ROTATED_MAX; i >= 1; i--) {
        char *p = xasprintf("%s.%d", path, i);
        if (file_exists(p))
            f->paths[f->n++] = p;
        else
            free(p);
    }
    f->paths[f->n++] = xstrdup(path);
}

/* The offset where the last `lines` complete lines of a file begin; *lines loses what the file holds. */
static off_t tail_offset(int fd, int64_t *lines) {
    off_t at = lseek(fd, 0, SEEK_END);
    char room[4096];
    bool last = true; /* the newline at the very end ends a line, it begins none */
    while (at > 0) {
        size_t n = at < (off_t)sizeof(room) ? (size_t)at : sizeof(room);
        at -= (off_t)n;
        if (pread(fd, room, n, at) != (ssize_t)n)
            return 0;
        for (size_t i = n; i > 0; i--) {
            if (room[i - 1] != '\n')
                continue;
            if (last) {
                last = false;
                continue;
            }
            if (--*lines == 0)
                return at + (off_t)i;
        }
    }
    if (!last)
        --*lines;
    return 0;
}

/* Sends the files from where the tail begins; keeps the newest open. False when the limit is reached. */
static bool send_history(struct logs *l, int64_t tail) {
    struct files f = {0};
    find_files(l->path, &f);
    int fds[ROTATED_MAX + 1];
    size_t first = 0;
    for (size_t i = 0; i < f.n; i++) {
        fds[i] = open(f.paths[i], O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
        free(f.paths[i]);
    }
    if (tail >= 0) {
        int64_t left = tail;
        first = f.n;
        while (first > 0 && left > 0) {
            first--;
            if (fds[first] >= 0)
                lseek(fds[first], tail_offset(fds[first], &left), SEEK_SET);
        }
        if (tail == 0 && fds[f.n - 1] >= 0)
            lseek(fds[f.n - 1], 0, SEEK_END);
    }
    bool more = true;
    for (size_t i = 0; i < f.n; i++) {
        bool newest = i == f.n - 1;
        if (more && i >= first && fds[i] >= 0)
            more = send_file(l, fds[i]);
        if (newest)
            l->fd = fds[i];
        else if (fds[i] >= 0)
            close(fds[i]);
    }
    return more;
}

/* --- following -------------------------------------------------------------------------------------------------- */

static void poll_closed(uv_handle_t *h) {
    struct logs *l = h->data;
    close(l->inotify);
    free(l->path);
    buf_fini(&l->rest);
    free(l);
}

static void finish(struct logs *l) {
    timer_stop(&l->wait);
    if (l->x) {
        if (!l->closed)
            http_stream_end(l->x);
        http_finish(l->x);
        l->x = NULL;
    }
    if (l->fd >= 0)
        close(l->fd);
    l->fd = -1;
    if (l->polling) {
        l->polling = false;
        uv_close((uv_handle_t *)&l->poll, poll_closed);
        return;
    }
    free(l->path);
    buf_fini(&l->rest);
    free(l);
}

static bool still_runs(struct logs *l) {
    struct pod *p = node_pod(l->n, str_c(l->uid));
    struct slot *s = p ? slot_find(p, str_c(l->container)) : NULL;
    if (!s || p->stage >= POD_REMOVING)
        return false;
    struct arena *a = arena_new(KiB(1), 0);
    bool same = strcmp(log_path_of(a, s, s->restart_count), l->path) == 0;
    arena_free(a);
    return same && slot_is_running(s);
}

/* The writer renamed the file: what is left of the old one was read, go on with the new one. */
static void reopen_if_rotated(struct logs *l) {
    struct stat mine, now;
    if (l->fd >= 0 && fstat(l->fd, &mine) == 0 && stat(l->path, &now) == 0 && mine.st_ino == now.st_ino)
        return;
    int fd = open(l->path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return;
    if (l->fd >= 0)
        close(l->fd);
    l->fd = fd;
}

static void pump(struct logs *l) {
    if (l->closed) {
        finish(l);
        return;
    }
    if (http_stream_backlog(l->x) > BACKLOG_MAX) {
        timer_set(&l->wait, 50, 0);
        return;
    }
    bool alive = still_runs(l), more = true; /* asked before reading: nothing is written after it has ended */
    if (l->fd >= 0)
        more = send_file(l, l->fd);
    reopen_if_rotated(l);
    if (more && l->fd >= 0)
        more = send_file(l, l->fd);
    if (!more || !alive || l->closed)
        finish(l);
}

static void on_wait(void *arg) {
    pump(arg);
}

static void on_change(uv_poll_t *h, int status, int events) {
    struct logs *l = h->data;
    char room[4096];
    (void)status;
    (void)events;
    while (read(l->inotify, room, sizeof(room)) > 0)
        ;
    pump(l);
}

static void closed_on_loop(void *arg) {
    struct logs *l = arg;
    finish(l);
}

/* On the connection's loop: the client went away. */
static void on_client_gone(void *arg) {
    struct logs *l = arg;
    l->closed = true;
    if (l->follow)
        loop_post(l->n->loop, closed_on_loop, l);
}

static bool watch(struct logs *l) {
    cleanup_free char *dir = xstrdup(l->path);
    *strrchr(dir, '/') = 0;
    l->inotify = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    if (l->inotify < 0)
        return false;
    if (inotify_add_watch(l->inotify, dir, IN_MODIFY | IN_CREATE | IN_MOVED_TO) < 0 ||
        uv_poll_init(loop_uv(l->n->loop), &l->poll, l->inotify) < 0) {
        close(l->inotify);
        return false;
    }
    l->poll.data = l;
    l->polling = true;
    uv_poll_start(&l->poll, UV_READABLE, on_change);
    return true;
}

/* --- the request ------------------------------------------------------------------------------------------------ */

static bool query_bool(const struct http_request *r, const char *name) {
    struct str v = http_query_get(r, name);
    return str_eq(v, STR("true")) || str_eq(v, STR("1"));
}

static bool query_int(struct http_exchange *x, const char *name, int64_t *out) {
    struct str v = http_query_get(http_request(x), name);
    if (!v.p)
        return true;
    if (str_to_i64(v, out) && *out >= 0)
        return true;
    api_reply_error(x, 422, "Invalid",
                    "PodLogOptions \"\" is invalid: %s: Invalid value: \"%.*s\": must be greater than or equal to 0",
                    name, STR_ARG(v));
    return false;
}

struct slot *serve_slot(struct http_exchange *x, struct pod *p) {
    struct str name = http_query_get(http_request(x), "container");
    if (name.n) {
        struct slot *s = slot_find(p, name);
        if (!s)
            api_reply_error(x, 400, "BadRequest", "container %.*s is not valid for pod %.*s", STR_ARG(name),
                            STR_ARG(p->name));
        return s;
    }
    struct str preferred = json_as_str(
        json_get_c(json_at(object_json(p->object), "metadata.annotations"), "kubectl.kubernetes.io/default-container"));
    struct slot *s = preferred.n ? slot_find(p, preferred) : NULL;
    if (s)
        return s;
    if (p->slots_n - p->init_n == 1)
        return &p->slots[p->init_n];
    struct buf names = BUF_INIT;
    for (size_t i = p->init_n; i < p->slots_n; i++)
        buf_printf(&names, "%s%.*s", i > p->init_n ? " " : "", STR_ARG(p->slots[i].name));
    api_reply_error(x, 400, "BadRequest", "a container name must be specified for pod %.*s, choose one of: [%s]",
                    STR_ARG(p->name), names.p);
    buf_fini(&names);
    return NULL;
}

/* The file of the run that is meant, or NULL and an error reply. */
static char *choose_file(struct http_exchange *x, struct slot *s, bool previous) {
    struct arena *a = arena_new(KiB(1), 0);
    int run = previous ? s->restart_count - 1 : s->has_run ? s->restart_count : s->restart_count - 1;
    char *path = run >= 0 ? xstrdup(log_path_of(a, s, run)) : NULL;
    arena_free(a);
    if (path && file_exists(path))
        return path;
    free(path);
    if (previous)
        api_reply_error(x, 400, "BadRequest", "previous terminated container \"%.*s\" in pod \"%.*s\" not found",
                        STR_ARG(s->name), STR_ARG(s->pod->name));
    else
        api_reply_error(x, 400, "BadRequest", "container \"%.*s\" in pod \"%.*s\" is waiting to start: %s",
                        STR_ARG(s->name), STR_ARG(s->pod->name), s->reason[0] ? s->reason : "ContainerCreating");
    return NULL;
}

void logs_serve(struct node *n, struct http_exchange *x, struct pod *p) {
    const struct http_request *r = http_request(x);
    static const struct http_header type[] = {{STR_INIT("Content-Type"), STR_INIT("text/plain")}};
    int64_t tail = -1, since_s = -1, limit = -1;
    struct slot *s = serve_slot(x, p);
    struct timespec since = {0};
    struct str since_time = http_query_get(r, "sinceTime");
    bool ok = s && query_int(x, "tailLines", &tail) && query_int(x, "sinceSeconds", &since_s) &&
              query_int(x, "limitBytes", &limit);
    if (ok && since_time.n && !time_parse(since_time, &since)) {
        api_reply_error(x, 400, "BadRequest", "sinceTime: \"%.*s\" is no RFC 3339 time", STR_ARG(since_time));
        ok = false;
    }
    char *path = ok ? choose_file(x, s, query_bool(r, "previous")) : NULL;
    if (!path) {
        http_finish(x);
        return;
    }
    if (since_s > 0)
        since.tv_sec = time_now_s() - since_s;
    struct logs *l = XNEW(struct logs);
    l->n = n;
    l->x = x;
    l->path = path;
    l->fd = -1;
    l->follow = query_bool(r, "follow");
    l->timestamps = query_bool(r, "timestamps");
    l->limit_bytes = limit > 0 ? limit : -1;
    l->since = since;
    buf_init(&l->rest, MiB(1));
    timer_init(&l->wait, n->loop, on_wait, l);
    snprintf(l->uid, sizeof(l->uid), "%.*s", STR_ARG(p->uid));
    snprintf(l->container, sizeof(l->container), "%.*s", STR_ARG(s->name));
    http_stream_begin(x, 200, type, ARRAY_LEN(type), on_client_gone, l);
    bool more = send_history(l, tail);
    if (!more || !l->follow || !still_runs(l) || !watch(l)) {
        l->follow = false;
        finish(l);
        return;
    }
    pump(l); /* what was written between reading and watching */
}
