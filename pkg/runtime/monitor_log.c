/*
 * Logs, in the form of the Kubernetes container runtime interface:
 *   2026-01-01T00:00:00.000000000Z stdout F text
 * F ends a line, P is a part of a longer one. Output is read into one buffer that is shared by all streams and given back when
 * nothing comes; what is left of an incomplete line is held per stream. A log is rotated before the record that would
 * pass its limit: log -> log.1 -> log.2 ...
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "runtime/monitor.h"

#define SCRATCH_BYTES KiB(32)
#define READS_MAX 16 /* before other sources have their turn */
#define BATCH 32     /* records in one write */
#define HEAD_BYTES 48

struct batch {
    struct container_record *c;
    struct iovec iov[BATCH * 3];
    size_t iov_n, bytes, heads_n;
    char heads[BATCH][HEAD_BYTES];
    char stamp[TIME_RFC3339_MAX];
};

int log_open(struct container_record *c, const struct container_spec *spec) {
    struct stat st;
    c->log_bytes_max = spec->log_bytes_max ? spec->log_bytes_max : MiB(10);
    c->log_files_max = spec->log_files_max ? (uint32_t)spec->log_files_max : 5;
    if (spec->log_path.n == 0)
        return 0;
    c->log_fd = open(spec->log_path.p, O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW | O_CLOEXEC, 0640);
    if (c->log_fd < 0 || fstat(c->log_fd, &st) < 0)
        return -errno;
    c->log_bytes = (uint64_t)st.st_size;
    return 0;
}

/* The path is in the specification's file: it is needed once in ten megabytes. */
static void rotate(struct monitor *m, struct container_record *c) {
    struct mapped file = {.base = NULL};
    struct container_spec spec;
    char from[PATH_MAX + 16], to[PATH_MAX + 16];
    if (monitor_map_file(m, c->id, ".spec", &file) < 0)
        return;
    if (spec_decode_container(file.text, &file.memory, &spec) == 0 && spec.log_path.n < PATH_MAX) {
        const char *path = spec.log_path.p;
        for (uint32_t i = MIN(c->log_files_max, 100); i > 1; i--) {
            snprintf(to, sizeof(to), "%s.%u", path, i - 1);
            snprintf(from, sizeof(from), "%s.%u", path, i - 2);
            if (rename(i == 2 ? path : from, to) < 0 && errno != ENOENT)
                break;
        }
        if (c->log_files_max <= 1)
            unlink(path);
        close(c->log_fd);
        c->log_fd = -1;
        c->log_bytes = 0;
        if (log_open(c, &spec) < 0)
            c->log_fd = -1; /* gone with its directory: output is read and dropped, the program goes on */
    }
    monitor_unmap(file.base, file.size);
}

/* A full disk drops output rather than stop the program that makes it. */
static void write_all(struct container_record *c, struct iovec *iov, size_t n) {
    while (n && c->log_fd >= 0) {
        ssize_t done = writev(c->log_fd, iov, (int)n);
        if (done < 0 && errno == EINTR)
            continue;
        if (done <= 0)
            return;
        c->log_bytes += (uint64_t)done;
        while (n && (size_t)done >= iov->iov_len) {
            done -= (ssize_t)iov->iov_len;
            iov++;
            n--;
        }
        if (n) {
            iov->iov_base = (char *)iov->iov_base + done;
            iov->iov_len -= (size_t)done;
        }
    }
}

static void flush(struct batch *b) {
    write_all(b->c, b->iov, b->iov_n);
    b->iov_n = b->bytes = b->heads_n = 0;
}

/* line: without its newline, unless ends_with_newline says that one follows it in memory. */
static void add_record(struct monitor *m, struct batch *b, bool is_stderr, bool full, struct str line,
                       bool newline_follows) {
    struct container_record *c = b->c;
    if (c->log_fd < 0)
        return;
    char *head = b->heads[b->heads_n];
    size_t n =
        (size_t)snprintf(head, HEAD_BYTES, "%s %s %c ", b->stamp, is_stderr ? "stderr" : "stdout", full ? 'F' : 'P');
    size_t size = n + line.n + 1;
    if (c->log_bytes + b->bytes + size > c->log_bytes_max && c->log_bytes + b->bytes > 0) {
        char copy[HEAD_BYTES];
        memcpy(copy, head, HEAD_BYTES);
        flush(b);
        rotate(m, c);
        head = b->heads[0];
        memcpy(head, copy, HEAD_BYTES);
        if (c->log_fd < 0)
            return;
    }
    b->heads_n++;
    b->bytes += size;
    b->iov[b->iov_n++] = (struct iovec){head, n};
    b->iov[b->iov_n++] = (struct iovec){(void *)(uintptr_t)line.p, line.n + newline_follows};
    if (!newline_follows)
        b->iov[b->iov_n++] = (struct iovec){(void *)(uintptr_t) "\n", 1};
    if (b->heads_n == BATCH)
        flush(b);
}

static void release_held(struct log_stream *s) {
    monitor_unmap(s->held, LOG_LINE_MAX);
    s->held = NULL;
    s->held_n = 0;
}

/* Completes the line that is held with what came; the rest of data. */
static struct str complete_held(struct monitor *m, struct batch *b, struct log_stream *s, struct str data) {
    const char *nl = memchr(data.p, '\n', data.n);
    size_t take = nl ? (size_t)(nl - data.p) : data.n;
    take = MIN(take, LOG_LINE_MAX - s->held_n);
    memcpy(s->held + s->held_n, data.p, take);
    s->held_n += take;
    data = str_skip(data, take);
    bool full = data.n && data.p[0] == '\n';
    if (!full && s->held_n < LOG_LINE_MAX)
        return data;
    add_record(m, b, s->is_stderr, full, (struct str){s->held, s->held_n}, false);
    flush(b); /* before the held bytes go */
    release_held(s);
    return full ? str_skip(data, 1) : data;
}

static void take_output(struct monitor *m, struct batch *b, struct log_stream *s, struct str data) {
    if (s->held)
        data = complete_held(m, b, s, data);
    while (data.n) {
        const char *nl = memchr(data.p, '\n', MIN(data.n, LOG_LINE_MAX + 1));
        if (nl) {
            struct str line = {data.p, (size_t)(nl - data.p)};
            add_record(m, b, s->is_stderr, true, line, true);
            data = str_skip(data, line.n + 1);
        } else if (data.n >= LOG_LINE_MAX) {
            add_record(m, b, s->is_stderr, false, (struct str){data.p, LOG_LINE_MAX}, false);
            data = str_skip(data, LOG_LINE_MAX);
        } else {
            s->held = monitor_map(LOG_LINE_MAX);
            if (s->held) {
                memcpy(s->held, data.p, data.n);
                s->held_n = data.n;
            } else {
                add_record(m, b, s->is_stderr, false, data, false);
            }
            break;
        }
    }
    flush(b);
}

enum pumped { PUMP_ENDED, PUMP_EMPTY, PUMP_MORE };

/* Reads what there is. to_the_end: until the pipe says that it is empty; else a short read is taken for that, which saves a
 * call in the common case, and epoll tells when there is more. */
static enum pumped pump(struct monitor *m, struct log_stream *s, int reads, bool to_the_end) {
    struct batch b = {.c = s->owner};
    struct timespec now;
    if (!m->scratch)
        m->scratch = monitor_map(SCRATCH_BYTES);
    if (!m->scratch)
        return PUMP_EMPTY; /* no memory now: it stays in the pipe */
    while (reads-- > 0) {
        ssize_t n = read(s->source.fd, m->scratch, SCRATCH_BYTES);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            return PUMP_EMPTY;
        if (n <= 0) /* a pty says EIO when its last user is gone */
            return PUMP_ENDED;
        clock_gettime(CLOCK_REALTIME, &now);
        time_format(now, 9, b.stamp);
        take_output(m, &b, s, (struct str){m->scratch, (size_t)n});
        if (!to_the_end && n < (ssize_t)SCRATCH_BYTES / 8)
            return PUMP_EMPTY;
    }
    return PUMP_MORE;
}

static void end_stream(struct monitor *m, struct log_stream *s) {
    if (s->held) {
        struct batch b = {.c = s->owner};
        struct timespec now;
        clock_gettime(CLOCK_REALTIME, &now);
        time_format(now, 9, b.stamp);
        add_record(m, &b, s->is_stderr, true, (struct str){s->held, s->held_n}, false);
        flush(&b);
        release_held(s);
    }
    monitor_unwatch(m, &s->source);
}

void log_readable(struct monitor *m, struct source *source, uint32_t events) {
    struct log_stream *s = CONTAINER_OF(source, struct log_stream, source);
    enum pumped p = pump(m, s, READS_MAX, events & EPOLLHUP);
    if (p == PUMP_ENDED || (p == PUMP_EMPTY && events & EPOLLHUP))
        end_stream(m, s);
}

void log_drain(struct monitor *m, struct container_record *c) {
    struct log_stream *streams[] = {&c->out, &c->errs};
    for (size_t i = 0; i < ARRAY_LEN(streams); i++) {
        if (streams[i]->source.fd < 0)
            continue;
        /* bounded: who wrote is dead, and a process that got out of our sight and writes on is cut off */
        for (int round = 0; round < 64 && pump(m, streams[i], READS_MAX, true) == PUMP_MORE; round++)
            ;
        end_stream(m, streams[i]);
    }
}

void log_idle(struct monitor *m) {
    monitor_unmap(m->scratch, SCRATCH_BYTES);
    m->scratch = NULL;
}
