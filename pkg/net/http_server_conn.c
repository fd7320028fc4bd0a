#include <stdlib.h>
#include <unistd.h>

#include "net/http_server_priv.h"

#define PENDING_MAX KiB(256)
#define EXCHANGE_ARENA 3000 /* fits most requests' heads in one block */
#define EXCHANGE_ARENA_LIMIT MiB(64)
#define BODY_FIRST KiB(64)         /* memory a promise of bytes gets at once */
#define BODY_BYTES_PER_SECOND 1024 /* a slower body is cut off */

enum phase {
    PHASE_IDLE, /* before a request: nothing of it came */
    PHASE_HEAD,
    PHASE_BODY,
    PHASE_BUSY, /* the handler has it */
    PHASE_OVER  /* last bytes go out */
};

struct http_conn {
    struct list link;
    struct http_io *io;
    struct conn *c;
    struct http_parser parser;
    enum phase phase;
    struct http_exchange *x; /* the request being read or answered */
    struct buf pending;      /* bytes behind it */
    bool feeding, complete, upgrade, eof, first;
    struct loop_flush resume; /* goes on with what is pending */
    struct timer timer;
    int64_t deadline_ms, body_since_ms;
    char remote[ADDRESS_TEXT_MAX];
};

static void feed(struct http_conn *hc);

struct http_conn *http_conn_of(struct list *link) {
    return LIST_ITEM(link, struct http_conn, link);
}

struct conn *http_conn_transport(struct http_conn *hc) {
    return hc->c;
}

/* --- time --------------------------------------------------------------------------------------------------------- */

/* The timer is only ever moved forward; when it fires too early it is set again. Most requests set no timer. */
static void deadline(struct http_conn *hc, int64_t after_ms) {
    hc->deadline_ms = loop_now_ms(hc->io->loop) + after_ms;
    if (!timer_is_set(&hc->timer) || hc->timer.deadline_ms > hc->deadline_ms + 1000)
        timer_set(&hc->timer, after_ms, 1000);
}

static void enter(struct http_conn *hc, enum phase phase) {
    const struct http_server_options *o = &hc->io->server->o;
    hc->phase = phase;
    if (phase == PHASE_HEAD || phase == PHASE_BODY)
        deadline(hc, o->header_timeout_ms);
    else if (phase != PHASE_OVER)
        deadline(hc, hc->first ? o->header_timeout_ms : o->idle_timeout_ms);
}

static void refuse(struct http_conn *hc, int status, const char *reason);

static void on_timer(void *arg) {
    struct http_conn *hc = arg;
    int64_t now = loop_now_ms(hc->io->loop), idle = hc->io->server->o.idle_timeout_ms;
    if (hc->phase == PHASE_OVER)
        return;
    if (hc->phase == PHASE_BUSY) { /* only a client that does not read its answer is timed here */
        if (conn_backlog(hc->c) && now - conn_progress_ms(hc->c) >= idle)
            http_conn_close(hc);
        else
            deadline(hc, conn_backlog(hc->c) ? conn_progress_ms(hc->c) + idle - now : idle);
        return;
    }
    if (hc->phase == PHASE_BODY)
        hc->deadline_ms = hc->body_since_ms + hc->io->server->o.header_timeout_ms +
                          (int64_t)hc->parser.body_bytes * 1000 / BODY_BYTES_PER_SECOND;
    if (now < hc->deadline_ms)
        deadline(hc, hc->deadline_ms - now);
    else if (hc->phase == PHASE_IDLE)
        http_conn_close(hc);
    else
        refuse(hc, 408, "the request did not arrive in time");
}

/* --- end ---------------------------------------------------------------------------------------------------------- */

static void leave(struct http_conn *hc) {
    timer_stop(&hc->timer);
    loop_flush_cancel(&hc->resume);
    if (hc->x) {
        struct http_exchange *x = TAKE_PTR(hc->x);
        x->conn = NULL;
        if (hc->phase == PHASE_BUSY)
            http_exchange_lost(x);
        http_exchange_unref(x);
    }
    hc->phase = PHASE_OVER;
    list_remove(&hc->link);
    http_server_conn_gone(hc->io);
}

static void conn_free(void *arg) {
    struct http_conn *hc = arg;
    list_remove(&hc->link);
    http_parser_fini(&hc->parser);
    buf_fini(&hc->pending);
    free(hc);
}

void http_conn_close(struct http_conn *hc) {
    if (hc->phase == PHASE_OVER)
        return;
    leave(hc);
    conn_close(hc->c);
}

/* Last bytes go out, then the connection ends. */
static void finish(struct http_conn *hc) {
    if (hc->phase == PHASE_OVER)
        return;
    leave(hc);
    list_push_back(&hc->io->lingering, &hc->link);
    conn_finish(hc->c);
}

static void refuse(struct http_conn *hc, int status, const char *reason) {
    http_write_refusal(hc->c, status, reason);
    finish(hc);
}

void http_conns_stop(struct http_io *io) {
    LIST_FOREACH (it, &io->conns)
        http_conn_close(http_conn_of(it));
    LIST_FOREACH (it, &io->lingering) {
        list_remove(it);
        conn_close(http_conn_of(it)->c);
    }
}

/* --- requests ----------------------------------------------------------------------------------------------------- */

static struct arena *on_begin(void *arg) {
    struct http_conn *hc = arg;
    struct arena *a = arena_new(EXCHANGE_ARENA, EXCHANGE_ARENA_LIMIT);
    struct http_exchange *x = ARENA_NEW(a, struct http_exchange);
    ref_init(&x->ref);
    atomic_init(&x->users, 1);
    x->loop = hc->io->loop;
    x->conn = hc;
    x->req.arena = a;
    buf_init(&x->body, hc->parser.limits.body_bytes);
    hc->x = x;
    hc->first = false;
    enter(hc, PHASE_HEAD);
    return a;
}

/* RFC 9112 3.2: origin form, absolute form (of proxies), or "*" of OPTIONS. */
static bool split_target(struct http_request *r) {
    struct str t = r->target;
    if (str_starts(t, STR("http://")) || str_starts(t, STR("https://"))) {
        ptrdiff_t slash = str_index(t, '/', t.p[4] == 's' ? 8 : 7);
        t = slash < 0 ? STR("/") : str_skip(t, (size_t)slash);
    }
    ptrdiff_t q = str_index(t, '?', 0);
    r->raw_path = q < 0 ? t : str_n(t.p, (size_t)q);
    r->query = q < 0 ? STR("") : str_skip(t, (size_t)q + 1);
    if (str_eq(r->raw_path, STR("*")) && str_eq(r->method, STR("OPTIONS"))) {
        r->path = r->raw_path;
        return true;
    }
    return r->raw_path.n && r->raw_path.p[0] == '/' && http_percent_decode(r->arena, r->raw_path, false, &r->path) &&
           !memchr(r->path.p, 0, r->path.n);
}

static int on_head(void *arg) {
    struct http_conn *hc = arg;
    struct http_exchange *x = hc->x;
    struct http_request *r = &x->req;
    struct http_parser *p = &hc->parser;
    r->method = str_c(llhttp_method_name((llhttp_method_t)p->ll.method));
    r->target = p->target;
    r->headers = p->headers;
    r->headers_n = p->headers_n;
    struct tls_conn *tls = conn_tls(hc->c);
    r->tls = tls != NULL;
    memcpy(r->remote, hc->remote, sizeof(r->remote));
    if (tls && tls_conn_peer(tls)) {
        x->peer = tls_conn_peer(tls);
        ref_get(&x->peer->ref);
        r->peer = &x->peer->peer;
    }
    x->head = p->ll.method == HTTP_HEAD;
    x->http10 = p->ll.http_minor == 0;
    x->keep_alive = llhttp_should_keep_alive(&p->ll);
    if (!split_target(r)) {
        p->reason = "the request target is malformed";
        return 400;
    }
    struct str expect = http_header_get(r, "Expect");
    if (expect.n && !str_eq_nocase(expect, STR("100-continue")))
        return 417;
    bool body = (p->ll.flags & F_CHUNKED) || ((p->ll.flags & F_CONTENT_LENGTH) && p->ll.content_length);
    if (expect.n && body && !x->http10)
        conn_write(hc->c, "HTTP/1.1 100 Continue\r\n\r\n", 25);
    if (body && (p->ll.flags & F_CONTENT_LENGTH))
        buf_reserve(&x->body, MIN((size_t)p->ll.content_length, BODY_FIRST));
    hc->body_since_ms = loop_now_ms(hc->io->loop);
    enter(hc, PHASE_BODY);
    return 0;
}

static int on_body(void *arg, struct str data) {
    struct http_conn *hc = arg;
    buf_put_str(&hc->x->body, data);
    return hc->x->body.failed ? 413 : 0;
}

static void on_complete(void *arg, bool upgrade) {
    struct http_conn *hc = arg;
    hc->complete = true;
    hc->upgrade = upgrade;
}

static const struct http_parser_ops parser_ops = {on_begin, on_head, on_body, on_complete};

static void dispatch(struct http_conn *hc) {
    struct http_exchange *x = hc->x;
    hc->complete = false;
    x->upgrade = hc->upgrade;
    x->req.body = buf_str(&x->body);
    enter(hc, PHASE_BUSY);
    ref_get(&x->ref); /* the handler's */
    hc->io->server->o.handler(hc->io->server->o.arg, x);
}

/* Parses data; returns false when the connection is over or gone. What follows a complete request waits in pending. */
static bool feed_some(struct http_conn *hc, struct str data) {
    while (data.n && hc->phase != PHASE_OVER && hc->phase != PHASE_BUSY) {
        size_t used;
        enum http_parse_result rc = http_parser_feed(&hc->parser, data, &used);
        data = str_skip(data, used);
        if (rc == HTTP_PARSE_ERROR) {
            refuse(hc, hc->parser.status, hc->parser.reason);
            return false;
        }
        if (rc == HTTP_PARSE_PAUSED && hc->complete) {
            if (data.n) {
                buf_put_str(&hc->pending, data);
                data = STR_NULL;
            }
            dispatch(hc);
        }
    }
    if (hc->phase == PHASE_BUSY && data.n)
        buf_put_str(&hc->pending, data);
    return hc->phase != PHASE_OVER;
}

static void feed(struct http_conn *hc) {
    if (hc->feeding)
        return;
    hc->feeding = true;
    while (hc->pending.n && hc->phase != PHASE_BUSY && hc->phase != PHASE_OVER) {
        cleanup_buf struct buf b = hc->pending;
        buf_init(&hc->pending, PENDING_MAX);
        if (!feed_some(hc, buf_str(&b)))
            break;
    }
    hc->feeding = false;
    if (hc->phase == PHASE_OVER)
        return;
    conn_pause(hc->c, hc->phase == PHASE_BUSY && hc->pending.n >= KiB(16));
    if (hc->eof && hc->phase != PHASE_BUSY)
        finish(hc);
}

static void on_resume(void *arg) {
    feed(arg);
}

static void on_data(void *arg, const char *p, size_t n) {
    struct http_conn *hc = arg;
    if (hc->phase == PHASE_OVER)
        return;
    if (hc->phase == PHASE_BUSY || hc->pending.n) {
        buf_put(&hc->pending, p, n);
        if (hc->pending.failed)
            http_conn_close(hc);
        else
            feed(hc);
        return;
    }
    hc->feeding = true;
    bool alive = feed_some(hc, str_n(p, n));
    hc->feeding = false;
    if (alive)
        feed(hc);
}

void http_conn_reply_done(struct http_conn *hc) {
    struct http_exchange *x = TAKE_PTR(hc->x);
    bool keep = x->keep_alive && !hc->eof;
    x->conn = NULL;
    http_exchange_unref(x);
    if (!keep) {
        finish(hc);
        return;
    }
    enter(hc, PHASE_IDLE);
    if (!hc->feeding && hc->pending.n)
        loop_flush_add(hc->io->loop, &hc->resume);
}

struct conn *http_conn_detach(struct http_conn *hc, struct buf *first) {
    struct conn *c = hc->c;
    *first = hc->pending;
    buf_init(&hc->pending, PENDING_MAX);
    struct http_exchange *x = TAKE_PTR(hc->x);
    x->conn = NULL;
    leave(hc);
    http_exchange_unref(x);
    loop_post(hc->io->loop, conn_free, hc); /* a handler further up the stack may still look at it */
    return c;
}

/* --- events of the transport -------------------------------------------------------------------------------------- */

static void on_eof(void *arg, bool clean) {
    struct http_conn *hc = arg;
    if (hc->phase == PHASE_OVER)
        return;
    hc->eof = true;
    if (hc->phase == PHASE_BUSY && hc->x->begun) /* a watcher that hung up */
        http_conn_close(hc);
    else if (hc->phase == PHASE_HEAD || hc->phase == PHASE_BODY)
        refuse(hc, 400, "the request is incomplete");
    else if (hc->phase == PHASE_IDLE && !hc->pending.n)
        finish(hc);
}

static void on_flush(void *arg) {
    struct http_conn *hc = arg;
    if (hc->x)
        http_exchange_flushed(hc->x);
}

static void on_error(void *arg, const struct error *err) {
    struct http_conn *hc = arg;
    log_debug("net", "connection from %s: %s", hc->remote, err->msg);
    http_conn_close(hc);
}

/* 0 with *out NULL for a plain server. */
static int tls_for(struct http_io *io, struct tls_conn **out, struct error *err) {
    struct http_server *s = io->server;
    pthread_mutex_lock(&s->lock);
    struct tls_config *config = s->tls ? tls_config_ref(s->tls) : NULL;
    pthread_mutex_unlock(&s->lock);
    struct tls_conn *t = config ? tls_conn_new(io->loop, config, NULL, err) : NULL;
    int rc = config && !t ? -EINVAL : 0;
    tls_config_unref(config);
    if (!rc)
        *out = t;
    return rc;
}

void http_conn_new(struct http_io *io, int fd, const struct sockaddr *from) {
    struct error err = {0};
    struct tls_conn *tls;
    if (tls_for(io, &tls, &err)) {
        log_warn("net", "%s", err.msg);
        close(fd);
        http_server_conn_gone(io);
        return;
    }
    struct conn *c = conn_new(io->loop, fd, tls, &err);
    if (!c) {
        log_warn("net", "%s", err.msg);
        http_server_conn_gone(io);
        return;
    }
    struct http_conn *hc = XNEW(struct http_conn);
    hc->io = io;
    hc->c = c;
    hc->first = true;
    list_push_back(&io->conns, &hc->link);
    buf_init(&hc->pending, PENDING_MAX);
    http_parser_init(&hc->parser, true, &io->server->o.limits, &parser_ops, hc);
    timer_init(&hc->timer, io->loop, on_timer, hc);
    loop_flush_init(&hc->resume, on_resume, hc);
    address_format(from, hc->remote);
    conn_set_events(c, &(struct conn_events){.on_data = on_data,
                                             .on_eof = on_eof,
                                             .on_flush = on_flush,
                                             .on_error = on_error,
                                             .on_closed = conn_free,
                                             .arg = hc});
    enter(hc, PHASE_IDLE);
    conn_start(c);
}
