#include "net/conn.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#define RECORD_MAX KiB(16)
#define SEGMENT_MIN KiB(1)
#define COPIED_MAX MiB(64) /* of bytes nobody reads; whoever writes much heeds conn_backlog() long before */
#define IOV_BATCH 32
#define LINGER_MS 2000         /* for the peer's end after ours */
#define LINGER_FLUSH_MS 30000  /* for our last bytes to leave */
#define LINGER_BYTES KiB(1024) /* dropped while waiting */

struct segment { /* bytes of a blob, or of own memory that may still grow */
    struct blob *blob;
    char *own;
    size_t off, n, cap;
};

struct conn {
    struct loop *loop;
    struct conn_events ev;
    struct tls_conn *tls;
    uv_poll_t poll;
    int fd, polled;
    bool is_socket, can_read, can_write;
    bool started, open, paused, eof, failed, closing;
    bool opening; /* on_open or the handshake is due at the end of this turn */
    bool shut_wanted, shut_done, finishing, overflowed;
    struct loop_flush flush;

    struct segment *queue;                  /* in clear, not yet written: queue[head..tail) */
    size_t head, tail, cap, queued, copied; /* copied: those that are not a blob's */

    char *wire; /* ciphertext the socket did not take */
    size_t wire_off, wire_n;
    size_t sending_n; /* in the loop's scratch, during a turn */

    int64_t progress_ms;
    size_t lingered;
    struct timer linger;
};

static void poll_update(struct conn *c);
static void flush_now(void *arg);
static bool handshake(struct conn *c);

static void fail(struct conn *c, int code, const char *what, const struct error *why) {
    if (c->failed || c->closing)
        return;
    c->failed = true;
    poll_update(c);
    struct error err = {0};
    if (why && why->code)
        err = *why;
    else
        error_sys(&err, code, "%s", what);
    if (c->finishing)
        conn_close(c);
    else if (c->ev.on_error)
        c->ev.on_error(c->ev.arg, &err);
}

/* --- the queue of bytes in clear ---------------------------------------------------------------------------------- */

static struct segment *segment_add(struct conn *c) {
    if (c->head == c->tail)
        c->head = c->tail = 0;
    if (c->tail == c->cap && c->head > 0) {
        memmove(c->queue, c->queue + c->head, (c->tail - c->head) * sizeof(*c->queue));
        c->tail -= c->head;
        c->head = 0;
    }
    if (c->tail == c->cap)
        c->queue = vec_grow(c->queue, &c->cap, c->tail + 1, sizeof(*c->queue));
    c->queue[c->tail] = (struct segment){0};
    return &c->queue[c->tail++];
}

static const char *segment_bytes(const struct segment *s) {
    return (s->blob ? s->blob->bytes.p : s->own) + s->off;
}

static void segment_drop(struct conn *c) {
    struct segment *s = &c->queue[c->head++];
    blob_unref(s->blob);
    free(s->own);
}

static void queue_consume(struct conn *c, size_t n) {
    c->queued -= n;
    while (n) {
        struct segment *s = &c->queue[c->head];
        size_t take = MIN(n, s->n);
        c->copied -= s->own ? take : 0;
        s->off += take;
        s->n -= take;
        n -= take;
        if (s->n == 0)
            segment_drop(c);
    }
}

static void queued(struct conn *c, size_t n) {
    if (c->queued == 0 && c->wire_n == 0)
        c->progress_ms = loop_now_ms(c->loop);
    c->queued += n;
    loop_flush_add(c->loop, &c->flush);
}

static bool writable(struct conn *c) {
    return !c->failed && !c->closing && !c->finishing && !c->shut_wanted && !c->overflowed;
}

void conn_write(struct conn *c, const void *p, size_t n) {
    if (!n || !writable(c))
        return;
    if (c->copied + n > COPIED_MAX) {
        c->overflowed = true; /* told at the end of the turn */
        loop_flush_add(c->loop, &c->flush);
        return;
    }
    queued(c, n);
    c->copied += n;
    struct segment *s = c->tail > c->head ? &c->queue[c->tail - 1] : NULL;
    if (!s || s->blob || s->cap - s->off - s->n < n) {
        s = segment_add(c);
        s->cap = MAX(n, SEGMENT_MIN);
        s->own = xmalloc(s->cap);
    }
    memcpy(s->own + s->off + s->n, p, n);
    s->n += n;
}

void conn_write_blob(struct conn *c, struct blob *b) {
    if (!b || !b->bytes.n || !writable(c)) {
        blob_unref(b);
        return;
    }
    queued(c, b->bytes.n);
    struct segment *s = segment_add(c);
    s->blob = b;
    s->n = b->bytes.n;
}

size_t conn_backlog(const struct conn *c) {
    return c->queued + c->wire_n;
}

int64_t conn_progress_ms(const struct conn *c) {
    return c->progress_ms;
}

/* --- writing ------------------------------------------------------------------------------------------------------ */

static ssize_t fd_send(struct conn *c, const void *p, size_t n) {
    ssize_t k;
    do {
        k = c->is_socket ? send(c->fd, p, n, MSG_NOSIGNAL) : write(c->fd, p, n);
    } while (k < 0 && errno == EINTR);
    if (k > 0)
        c->progress_ms = loop_now_ms(c->loop);
    return k < 0 && errno == EAGAIN ? 0 : k < 0 ? -errno : k;
}

/* Keeps what the socket did not take. */
static void wire_keep(struct conn *c, const char *p, size_t n) {
    if (c->wire_off) {
        memmove(c->wire, c->wire + c->wire_off, c->wire_n);
        c->wire_off = 0;
    }
    c->wire = xrealloc(c->wire, c->wire_n + n);
    memcpy(c->wire + c->wire_n, p, n);
    c->wire_n += n;
}

static bool wire_send(struct conn *c) {
    while (c->wire_n) {
        ssize_t k = fd_send(c, c->wire + c->wire_off, c->wire_n);
        if (k < 0) {
            fail(c, (int)k, "write", NULL);
            return false;
        }
        if (k == 0)
            return true;
        c->wire_off += (size_t)k;
        c->wire_n -= (size_t)k;
    }
    free(c->wire);
    c->wire = NULL;
    c->wire_off = 0;
    return true;
}

/* Sends the ciphertext of this turn. */
static void sending_end(struct conn *c) {
    const char *p = loop_scratch(c->loop, LOOP_SENDING);
    size_t n = c->sending_n;
    c->sending_n = 0;
    while (n && !c->wire_n && !c->failed) {
        ssize_t k = fd_send(c, p, n);
        if (k < 0)
            fail(c, (int)k, "write", NULL);
        if (k <= 0)
            break;
        p += k;
        n -= (size_t)k;
    }
    if (n && !c->failed && !c->closing)
        wire_keep(c, p, n);
}

static void on_ciphertext(void *arg, const void *p, size_t n) {
    struct conn *c = arg;
    if (c->sending_n + n > LOOP_SCRATCH_BYTES)
        sending_end(c);
    memcpy(loop_scratch(c->loop, LOOP_SENDING) + c->sending_n, p, n);
    c->sending_n += n;
}

/* Up to one record's worth of queued bytes in one piece; small pieces are gathered. */
static const char *gather(struct conn *c, size_t *n) {
    struct segment *s = &c->queue[c->head];
    if (s->n >= RECORD_MAX || c->tail - c->head == 1) {
        *n = MIN(s->n, RECORD_MAX);
        return segment_bytes(s);
    }
    char *out = loop_scratch(c->loop, LOOP_PLAIN);
    size_t have = 0;
    for (size_t i = c->head; i < c->tail && have < RECORD_MAX; i++) {
        size_t take = MIN(c->queue[i].n, RECORD_MAX - have);
        memcpy(out + have, segment_bytes(&c->queue[i]), take);
        have += take;
    }
    *n = have;
    return out;
}

static void flush_tls(struct conn *c) {
    struct error err = {0};
    while (c->queued && !c->wire_n && !c->failed) {
        size_t n;
        const char *p = gather(c, &n);
        ssize_t k = tls_conn_write(c->tls, p, n, &err);
        if (k < 0) {
            fail(c, (int)k, "TLS", &err);
            break;
        }
        queue_consume(c, (size_t)k);
    }
    sending_end(c);
    tls_conn_rest(c->tls);
}

static void flush_plain(struct conn *c) {
    while (c->queued) {
        struct iovec iov[IOV_BATCH];
        size_t n = 0, bytes = 0;
        for (size_t i = c->head; i < c->tail && n < IOV_BATCH; i++, n++) {
            iov[n] = (struct iovec){(void *)(uintptr_t)segment_bytes(&c->queue[i]), c->queue[i].n};
            bytes += c->queue[i].n;
        }
        struct msghdr m = {.msg_iov = iov, .msg_iovlen = n};
        ssize_t k = c->is_socket ? sendmsg(c->fd, &m, MSG_NOSIGNAL) : writev(c->fd, iov, (int)n);
        if (k < 0 && errno == EINTR)
            continue;
        if (k < 0 && errno != EAGAIN)
            fail(c, -errno, "write", NULL);
        if (k <= 0)
            return;
        c->progress_ms = loop_now_ms(c->loop);
        queue_consume(c, (size_t)k);
        if ((size_t)k < bytes)
            return;
    }
}

static void end_our_half(struct conn *c) {
    if (c->tls) {
        tls_conn_close_notify(c->tls);
        sending_end(c);
        tls_conn_rest(c->tls);
        if (c->wire_n)
            return; /* comes again when the rest is out */
    }
    if (c->is_socket)
        shutdown(c->fd, SHUT_WR);
    c->shut_done = true;
    if (c->finishing && c->eof)
        conn_close(c);
    else if (c->finishing)
        timer_set(&c->linger, LINGER_MS, 500);
}

static void open_now(struct conn *c) {
    c->opening = false;
    if (!c->tls) {
        if (c->ev.on_open && !c->finishing)
            c->ev.on_open(c->ev.arg);
    } else if (!c->open) {
        tls_conn_input(c->tls, NULL, 0);
        handshake(c);
        tls_conn_rest(c->tls);
    }
}

/* Writes until the queue is empty or the kernel takes no more. */
static void flush_now(void *arg) {
    struct conn *c = arg;
    if (c->opening && !c->closing)
        open_now(c);
    if (c->overflowed)
        fail(c, -ENOBUFS, "the peer does not read what is sent", NULL);
    if (c->failed || c->closing)
        return;
    size_t before = conn_backlog(c);
    bool shut_before = c->shut_done;
    if (!wire_send(c))
        return;
    if (!c->wire_n && c->queued && !c->tls)
        flush_plain(c);
    else if (!c->wire_n && c->queued && c->open)
        flush_tls(c);
    if (c->failed || c->closing)
        return;
    if (!conn_backlog(c) && c->shut_wanted && !c->shut_done && (c->open || !c->tls))
        end_our_half(c);
    if (c->closing)
        return;
    if (!c->queued && c->cap > 64) { /* a burst must not keep its memory for ever */
        free(c->queue);
        c->queue = NULL;
        c->head = c->tail = c->cap = 0;
    }
    poll_update(c);
    if (c->ev.on_flush && !c->finishing && (before != conn_backlog(c) || shut_before != c->shut_done))
        c->ev.on_flush(c->ev.arg);
}

/* --- reading ------------------------------------------------------------------------------------------------------ */

static void end_of_input(struct conn *c, bool clean) {
    if (c->eof || c->closing)
        return;
    c->eof = true;
    if (c->finishing && c->shut_done) {
        conn_close(c);
        return;
    }
    poll_update(c);
    if (!c->finishing && c->ev.on_eof)
        c->ev.on_eof(c->ev.arg, clean);
}

static bool handshake(struct conn *c) {
    struct error err = {0};
    int rc = tls_conn_handshake(c->tls, &err);
    sending_end(c);
    if (rc < 0)
        fail(c, rc, "TLS", &err);
    if (rc <= 0)
        return false;
    c->open = true;
    /* A TLS 1.3 server has nothing to say now; a client with Nagle's algorithm waits for this acknowledgement. */
    if (c->is_socket)
        setsockopt(c->fd, IPPROTO_TCP, TCP_QUICKACK, &(int){1}, sizeof(int));
    if (c->ev.on_open && !c->finishing)
        c->ev.on_open(c->ev.arg);
    loop_flush_add(c->loop, &c->flush);
    return !c->closing && !c->failed;
}

/* Decrypts all that was received; what one turn brings is given on in pieces of up to the scratch buffer. */
static void read_tls(struct conn *c, const char *p, size_t n) {
    char *plain = loop_scratch(c->loop, LOOP_PLAIN);
    struct error err = {0};
    size_t have = 0;
    ssize_t k = 1;
    tls_conn_input(c->tls, p, n);
    if (!c->open && !handshake(c))
        k = 0;
    while (k > 0 && !c->closing) {
        k = tls_conn_read(c->tls, plain + have, LOOP_SCRATCH_BYTES - have, &err);
        have += k > 0 ? (size_t)k : 0;
        if (have && !c->finishing && (k <= 0 || LOOP_SCRATCH_BYTES - have < RECORD_MAX)) {
            c->ev.on_data(c->ev.arg, plain, have);
            have = 0;
        } else if (c->finishing) {
            have = 0;
        }
    }
    if (c->sending_n) /* an alert, an answer to the peer's handshake messages */
        sending_end(c);
    tls_conn_rest(c->tls);
    if (k == TLS_EOF)
        end_of_input(c, true);
    else if (k < 0)
        fail(c, (int)k, "TLS", &err);
}

static void on_readable(struct conn *c) {
    char *in = loop_scratch(c->loop, LOOP_RECEIVED);
    ssize_t n;
    do {
        n = read(c->fd, in, LOOP_SCRATCH_BYTES);
    } while (n < 0 && errno == EINTR);
    if (n < 0 && errno == EAGAIN)
        return;
    if (n < 0 && errno == EIO && !c->is_socket) /* a pty whose other side closed */
        n = 0;
    if (n < 0) {
        fail(c, -errno, "read", NULL);
    } else if (n == 0) {
        if (c->tls && !c->open)
            fail(c, -ECONNRESET, "connection closed during the TLS handshake", NULL);
        else
            end_of_input(c, !c->tls);
    } else if (c->finishing && (c->lingered += (size_t)n) > LINGER_BYTES) {
        conn_close(c);
    } else if (c->tls) {
        read_tls(c, in, (size_t)n);
    } else if (!c->finishing) {
        c->ev.on_data(c->ev.arg, in, (size_t)n);
    }
}

static void on_poll(uv_poll_t *h, int status, int events) {
    struct conn *c = h->data;
    if (status < 0) { /* libuv stopped the poll: the fd is in error, reading tells which */
        c->polled = 0;
        if (!c->can_read)
            fail(c, -EPIPE, "write", NULL);
        else
            events = UV_READABLE;
    }
    if (events & UV_WRITABLE)
        flush_now(c);
    if ((events & UV_DISCONNECT) && !c->can_read)
        fail(c, -EPIPE, "write", NULL);
    if ((events & UV_READABLE) && c->can_read && !c->closing && !c->failed && !c->eof)
        on_readable(c);
    if (status < 0 && !c->closing)
        poll_update(c);
}

static void poll_update(struct conn *c) {
    int want = 0;
    if (c->started && !c->closing && !c->failed) {
        if (c->can_read && !c->eof && (!c->paused || c->finishing))
            want |= UV_READABLE;
        if (c->wire_n || (c->queued && (c->open || !c->tls)))
            want |= UV_WRITABLE;
        if (!c->can_read)
            want |= UV_DISCONNECT; /* only errors: the reader of a pipe went away */
    }
    if (want == c->polled || c->closing)
        return;
    c->polled = want;
    if (want)
        uv_poll_start(&c->poll, want, on_poll);
    else
        uv_poll_stop(&c->poll);
}

/* --- life --------------------------------------------------------------------------------------------------------- */

static void on_linger(void *arg) {
    conn_close(arg);
}

struct conn *conn_new(struct loop *l, int fd, struct tls_conn *tls, struct error *err) {
    struct conn *c = XNEW(struct conn);
    struct stat st;
    int rc = fd_set_nonblock(fd, true);
    int mode = fcntl(fd, F_GETFL);
    if (!rc)
        rc = uv_poll_init(loop_uv(l), &c->poll, fd);
    if (rc) {
        error_sys(err, rc, "cannot wait for a file descriptor");
        tls_conn_free(tls);
        close(fd);
        free(c);
        return NULL;
    }
    c->poll.data = c;
    c->loop = l;
    c->fd = fd;
    c->is_socket = fstat(fd, &st) == 0 && S_ISSOCK(st.st_mode);
    c->can_read = (mode & O_ACCMODE) != O_WRONLY;
    c->can_write = (mode & O_ACCMODE) != O_RDONLY;
    c->tls = tls;
    c->open = !tls;
    c->shut_done = !c->can_write;
    if (tls)
        tls_conn_sink(tls, on_ciphertext, c);
    loop_flush_init(&c->flush, flush_now, c);
    timer_init(&c->linger, l, on_linger, c);
    return c;
}

void conn_set_events(struct conn *c, const struct conn_events *ev) {
    c->ev = *ev;
}

void conn_start(struct conn *c) {
    if (c->started)
        return;
    c->started = true;
    poll_update(c);
    c->opening = true;
    loop_flush_add(c->loop, &c->flush);
}

void conn_pause(struct conn *c, bool pause) {
    if (c->paused == pause)
        return;
    c->paused = pause;
    poll_update(c);
}

void conn_shutdown(struct conn *c) {
    if (c->shut_wanted)
        return;
    c->shut_wanted = true;
    loop_flush_add(c->loop, &c->flush);
}

void conn_finish(struct conn *c) {
    if (c->closing || c->finishing)
        return;
    if (c->failed || !c->open) {
        conn_close(c);
        return;
    }
    c->finishing = true;
    c->shut_wanted = true;
    timer_set(&c->linger, LINGER_FLUSH_MS, 1000);
    c->started = true;
    poll_update(c);
    loop_flush_add(c->loop, &c->flush);
}

static void on_uv_closed(uv_handle_t *h) {
    struct conn *c = h->data;
    if (c->ev.on_closed)
        c->ev.on_closed(c->ev.arg);
    tls_conn_free(c->tls);
    while (c->head < c->tail)
        segment_drop(c);
    free(c->queue);
    free(c->wire);
    free(c);
}

void conn_close(struct conn *c) {
    if (c->closing)
        return;
    c->closing = true;
    loop_flush_cancel(&c->flush);
    timer_stop(&c->linger);
    uv_close((uv_handle_t *)&c->poll, on_uv_closed);
    close(c->fd);
    c->fd = -1;
}

bool conn_can_read(const struct conn *c) {
    return c->can_read;
}

bool conn_shutdown_done(const struct conn *c) {
    return c->shut_done;
}

struct tls_conn *conn_tls(struct conn *c) {
    return c->tls;
}

struct loop *conn_loop(struct conn *c) {
    return c->loop;
}

int conn_fd(const struct conn *c) {
    return c->fd;
}
