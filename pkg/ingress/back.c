/* Connections to pods. One carries one request at a time and waits a little for the next. */
#include <stdlib.h>
#include <unistd.h>

#include "ingress/proxy.h"

#define IDLE_MAX 256 /* over all pods */
#define BODY_WAITS KiB(64)
#define TRIES 2
#define HEAD_LIMIT KiB(256)

struct back {
    struct list link, idle;
    struct proxy *p;
    struct address to;
    struct dial *dial;
    struct conn *c;
    struct http_parser parser;
    struct arena *arena; /* of the answer's head */
    struct call *call;   /* NULL: idle, or over */
    struct timer timer;  /* of an idle one */
    int status;
    bool open, parser_made, reused;
    bool heard; /* bytes of this answer came */
    bool complete, keep, tunnel, eof, held, closed;
};

struct back *back_of(struct list *link) {
    return LIST_ITEM(link, struct back, link);
}

/* --- end ---------------------------------------------------------------------------------------------------------- */

static void back_free(void *arg) {
    struct back *b = arg;
    if (b->parser_made)
        http_parser_fini(&b->parser);
    arena_free(b->arena);
    proxy_less_alive(b->p);
    free(b);
}

static void idle_remove(struct back *b) {
    if (list_empty(&b->idle))
        return;
    list_remove(&b->idle);
    b->p->idle_n--;
}

/* Whoever still looks at it up the stack finds it closed; its memory goes later. */
void back_close(struct back *b) {
    if (b->closed)
        return;
    b->closed = true;
    if (b->call)
        b->call->b = NULL;
    b->call = NULL;
    timer_stop(&b->timer);
    idle_remove(b);
    list_remove(&b->link);
    if (b->dial)
        dial_cancel(TAKE_PTR(b->dial));
    if (b->c)
        conn_close(b->c);
    else
        loop_post(b->p->o.loop, back_free, b);
}

void back_abandon(struct call *call) {
    if (call->b)
        back_close(call->b);
}

/* Another endpoint may do when nothing was sent; another connection when the one kept alive had just ended. */
static bool may_try_again(const struct back *b, const struct call *call) {
    if (call->tries >= TRIES || call->answered)
        return false;
    if (!b->open)
        return call->backend->endpoints.n > 1;
    return b->reused && !b->heard && call->idempotent && !call->body_sent;
}

static void fail(struct back *b, int code, const char *reason) {
    struct call *call = b->call;
    bool again = call && may_try_again(b, call);
    back_close(b);
    if (again)
        back_start(call);
    else if (call)
        front_refuse(call->f, code == -ETIMEDOUT ? 504 : 502, reason);
}

static void go_idle(struct back *b) {
    struct proxy *p = b->p;
    if (p->idle_n >= IDLE_MAX)
        back_close(CONTAINER_OF(p->idle.prev, struct back, idle));
    conn_pause(b->c, false);
    b->held = false;
    list_push_front(&p->idle, &b->idle);
    p->idle_n++;
    timer_set(&b->timer, p->o.back_idle_ms, p->o.back_idle_ms / 10);
}

/* --- answers ------------------------------------------------------------------------------------------------------ */

static struct arena *on_begin(void *arg) {
    struct back *b = arg;
    arena_free(b->arena);
    b->complete = false;
    return b->arena = arena_new(0, MiB(2));
}

static int on_head(void *arg) {
    struct back *b = arg;
    struct call *call = b->call;
    struct conn *front = front_conn(call->f);
    cleanup_buf struct buf head;
    buf_init(&head, HEAD_LIMIT);
    b->status = b->parser.ll.status_code;
    if (b->status == 100 && !call->http10 && !call->complete)
        conn_write(front, "HTTP/1.1 100 Continue\r\n\r\n", 25);
    if (b->status < 200 && b->status != 101)
        return 0; /* the answer is still to come */
    if (b->status == 101 && !call->upgrade.n)
        return 502;
    head_for_front(call, &head, b->status, str_c(http_status_text(b->status)), &b->parser);
    if (head.failed)
        return 502;
    conn_write(front, head.p, head.n);
    call->answered = true;
    front_active(call->f);
    return call->head_only ? 1 : 0;
}

static int on_body(void *arg, struct str data) {
    struct back *b = arg;
    struct call *call = b->call;
    struct conn *front = front_conn(call->f);
    char line[24];
    if (call->no_body)
        return 0;
    if (call->answer_chunked)
        conn_write(front, line, (size_t)snprintf(line, sizeof(line), "%zx\r\n", data.n));
    conn_write(front, data.p, data.n);
    if (call->answer_chunked)
        conn_write(front, "\r\n", 2);
    front_active(call->f);
    return 0;
}

static void on_complete(void *arg, bool upgrade) {
    struct back *b = arg;
    b->complete = b->status >= 200;
    b->keep = llhttp_should_keep_alive(&b->parser.ll);
}

static const struct http_parser_ops parser_ops = {on_begin, on_head, on_body, on_complete};

static void answer_done(struct back *b, bool keep) {
    struct call *call = TAKE_PTR(b->call);
    call->b = NULL;
    if (call->answer_chunked && !call->no_body)
        conn_write(front_conn(call->f), "0\r\n\r\n", 5);
    if (keep && b->keep && call->complete && conn_backlog(b->c) == 0)
        go_idle(b);
    else
        back_close(b);
    front_answer_done(call->f);
}

static void switch_protocols(struct back *b, struct str rest) {
    b->tunnel = true;
    conn_write(front_conn(b->call->f), rest.p, rest.n);
    front_tunnel(b->call->f);
}

static void on_data(void *arg, const char *p, size_t n) {
    struct back *b = arg;
    struct str data = str_n(p, n);
    if (!b->call) { /* unasked */
        back_close(b);
        return;
    }
    b->heard = true;
    if (b->tunnel) {
        conn_write(front_conn(b->call->f), p, n);
        front_active(b->call->f);
        back_flow(b->call);
        return;
    }
    while (data.n && !b->closed && b->call) {
        size_t used;
        enum http_parse_result rc = http_parser_feed(&b->parser, data, &used);
        data = str_skip(data, used);
        if (rc == HTTP_PARSE_ERROR) {
            fail(b, -EPROTO, "the service's answer is malformed");
            return;
        }
        if (rc == HTTP_PARSE_PAUSED && b->status == 101) {
            switch_protocols(b, data);
            return;
        }
        if (rc == HTTP_PARSE_PAUSED && b->complete) {
            answer_done(b, data.n == 0);
            return;
        }
    }
    if (b->call)
        back_flow(b->call);
}

static void on_eof(void *arg, bool clean) {
    struct back *b = arg;
    b->eof = true;
    if (!b->call) {
        back_close(b);
    } else if (b->tunnel) {
        conn_shutdown(front_conn(b->call->f));
        front_tunnel_check(b->call->f);
    } else if (b->call->answered && http_parser_eof(&b->parser) && b->complete) {
        answer_done(b, false);
    } else {
        fail(b, -EPIPE, "the service closed the connection before its answer was complete");
    }
}

static void on_flush(void *arg) {
    struct back *b = arg;
    if (!b->call)
        return;
    front_active(b->call->f);
    if (b->tunnel)
        front_tunnel_check(b->call->f);
    if (b->call)
        front_flow(b->call->f);
}

static void on_error(void *arg, const struct error *err) {
    struct back *b = arg;
    if (b->tunnel && b->call)
        front_close(b->call->f);
    else
        fail(b, -EPIPE, "the connection to the service broke");
}

/* The client's connection takes no more now: neither does this. */
void back_flow(struct call *call) {
    struct back *b = call->b;
    if (!b || !b->c)
        return;
    b->held = conn_backlog(front_conn(call->f)) > (b->held ? STREAM_BACKLOG_LOW : STREAM_BACKLOG_HIGH);
    conn_pause(b->c, b->held);
}

/* --- requests ----------------------------------------------------------------------------------------------------- */

/* The connection stands: sends what there is of the request. */
static void back_go(struct back *b) {
    struct call *call = b->call;
    b->open = true;
    b->heard = b->complete = false;
    b->status = 0;
    conn_write(b->c, call->head.p, call->head.n);
    if (call->body.n) {
        conn_write(b->c, call->body.p, call->body.n);
        call->body_sent = true;
        buf_fini(&call->body);
        buf_init(&call->body, 0);
    }
    front_flow(call->f);
}

static void put(struct call *call, const char *p, size_t n) {
    if (call->b && call->b->open) {
        conn_write(call->b->c, p, n);
        call->body_sent = true;
    } else {
        buf_put(&call->body, p, n); /* bounded: the client is not read beyond BODY_WAITS */
    }
}

void back_send(struct call *call, struct str data) {
    char line[24];
    if (!call->b)
        return;
    if (call->chunked)
        put(call, line, (size_t)snprintf(line, sizeof(line), "%zx\r\n", data.n));
    put(call, data.p, data.n);
    if (call->chunked)
        put(call, "\r\n", 2);
}

void back_sent_all(struct call *call) {
    if (call->b && call->chunked)
        put(call, "0\r\n\r\n", 5);
}

bool back_is_full(struct call *call) {
    const struct back *b = call->b;
    if (!b || !b->open)
        call->full = call->body.n > BODY_WAITS;
    else
        call->full = conn_backlog(b->c) > (call->full ? STREAM_BACKLOG_LOW : STREAM_BACKLOG_HIGH);
    return call->full;
}

void back_tunnel_write(struct back *b, const char *p, size_t n) {
    conn_write(b->c, p, n);
}
void back_tunnel_shutdown(struct back *b) {
    conn_shutdown(b->c);
}
bool back_has_ended(const struct back *b) {
    return b->eof && conn_shutdown_done(b->c);
}

/* --- connecting --------------------------------------------------------------------------------------------------- */

static void on_dialled(void *arg, int fd, int code) {
    struct back *b = arg;
    struct error err = {0};
    b->dial = NULL;
    if (code) {
        fail(b, code,
             code == -ETIMEDOUT      ? "connecting to the service took too long"
             : code == -ECONNREFUSED ? "the service refused the connection"
                                     : "the service cannot be reached");
        return;
    }
    proxy_socket_options(fd);
    b->c = conn_new(b->p->o.loop, fd, NULL, &err);
    if (!b->c) {
        fail(b, -EIO, "no connection to the service could be made");
        return;
    }
    conn_set_events(b->c, &(struct conn_events){.on_data = on_data,
                                                .on_eof = on_eof,
                                                .on_flush = on_flush,
                                                .on_error = on_error,
                                                .on_closed = back_free,
                                                .arg = b});
    http_parser_init(&b->parser, false, NULL, &parser_ops, b);
    /* CGI programs end the lines of their heads like lines of text; the client gets a head made anew. */
    llhttp_set_lenient_optional_cr_before_lf(&b->parser.ll, 1);
    b->parser_made = true;
    conn_start(b->c);
    back_go(b);
}

static void on_idle_timer(void *arg) {
    back_close(arg);
}

static struct back *idle_take(struct proxy *p, const struct address *to) {
    LIST_FOREACH (it, &p->idle) {
        struct back *b = CONTAINER_OF(it, struct back, idle);
        if (b->to.n != to->n || memcmp(&b->to.any, &to->any, to->n) != 0)
            continue;
        idle_remove(b);
        timer_stop(&b->timer);
        return b;
    }
    return NULL;
}

static struct back *back_new(struct proxy *p, const struct address *to) {
    struct back *b = XNEW(struct back);
    b->p = p;
    b->to = *to;
    p->alive++;
    list_push_back(&p->backs, &b->link);
    list_init(&b->idle);
    timer_init(&b->timer, p->o.loop, on_idle_timer, b);
    return b;
}

void back_start(struct call *call) {
    struct proxy *p = front_proxy(call->f);
    const struct address *to = ingress_backend_next(call->backend);
    struct back *b = call->tries++ == 0 ? idle_take(p, to) : NULL;
    if (b) {
        b->reused = true;
        b->call = call;
        call->b = b;
        back_go(b);
        return;
    }
    b = back_new(p, to);
    b->call = call;
    call->b = b;
    b->dial = dial_start(p->o.loop, to, -1, p->o.connect_ms, on_dialled, b);
}
