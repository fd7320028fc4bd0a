/* Connections of clients: requests are read one after another, each passed on while it comes. */
#include <stdlib.h>
#include <unistd.h>

#include <netinet/tcp.h>

#include "ingress/proxy.h"

#define PENDING_MAX KiB(256)
#define PENDING_ENOUGH KiB(16)
#define CALL_ARENA KiB(3) /* fits most heads in one block */
#define CALL_ARENA_LIMIT MiB(4)
#define HEAD_LIMIT KiB(256) /* a rewritten head */

enum phase {
    PHASE_IDLE, /* before a request */
    PHASE_HEAD,
    PHASE_BUSY, /* a request is passed on, or its answer */
    PHASE_TUNNEL,
    PHASE_OVER /* last bytes go out */
};

struct front {
    struct list link;
    struct proxy *p;
    struct conn *c;
    struct http_parser parser;
    enum phase phase;
    struct call *call;
    struct buf pending; /* bytes behind the request */
    bool tls, feeding, eof, served;
    struct loop_flush resume;
    struct timer timer;
    int64_t active_ms; /* a byte moved */
    char remote[ADDRESS_TEXT_MAX], ip[ADDRESS_TEXT_MAX];
};

struct front *front_of(struct list *link) {
    return LIST_ITEM(link, struct front, link);
}
struct conn *front_conn(struct front *f) {
    return f->c;
}
struct proxy *front_proxy(struct front *f) {
    return f->p;
}
const char *front_ip(const struct front *f) {
    return f->ip;
}
bool front_is_tls(const struct front *f) {
    return f->tls;
}

/* --- time --------------------------------------------------------------------------------------------------------- */

void front_active(struct front *f) {
    f->active_ms = loop_now_ms(f->p->o.loop);
}

static void enter(struct front *f, enum phase phase) {
    const struct ingress_proxy_options *o = &f->p->o;
    int64_t after = phase == PHASE_BUSY || phase == PHASE_TUNNEL ? o->stall_ms
                    : phase == PHASE_IDLE && f->served           ? o->idle_ms
                                                                 : o->head_ms;
    f->phase = phase;
    front_active(f);
    timer_set(&f->timer, after, after / 10);
}

/* How long the peers may stay silent now, and what is said to the client then (0: nothing, the connection ends). */
static int64_t patience(struct front *f, int *status, const char **reason) {
    const struct ingress_proxy_options *o = &f->p->o;
    const struct call *call = f->call;
    *status = 0;
    *reason = NULL;
    if (f->phase == PHASE_IDLE)
        return f->served ? o->idle_ms : o->head_ms;
    if (conn_backlog(f->c)) { /* it does not read */
        f->active_ms = conn_progress_ms(f->c);
        return o->stall_ms;
    }
    if (f->phase == PHASE_HEAD || (f->phase == PHASE_BUSY && !call->complete && !call->full && !call->answered)) {
        *status = 408;
        *reason = "the request did not arrive in time";
        return f->phase == PHASE_HEAD ? o->head_ms : o->stall_ms;
    }
    if (f->phase == PHASE_BUSY && !call->answered) {
        *status = 504;
        *reason = "the service did not answer in time";
        return o->answer_ms;
    }
    if (f->phase == PHASE_TUNNEL && (f->eof || back_has_ended(call->b)))
        return o->stall_ms;
    return INT64_MAX; /* an answer, or a tunnel, may be silent as long as both sides stay */
}

static void on_timer(void *arg) {
    struct front *f = arg;
    int status;
    const char *reason;
    if (f->phase == PHASE_OVER)
        return;
    int64_t limit = patience(f, &status, &reason), silent = loop_now_ms(f->p->o.loop) - f->active_ms;
    if (limit == INT64_MAX)
        timer_set(&f->timer, f->p->o.stall_ms, f->p->o.stall_ms / 10);
    else if (silent < limit)
        timer_set(&f->timer, limit - silent, limit / 10);
    else if (status)
        front_refuse(f, status, reason);
    else
        front_close(f);
}

/* --- end ---------------------------------------------------------------------------------------------------------- */

static void call_end(struct front *f) {
    struct call *call = TAKE_PTR(f->call);
    if (!call)
        return;
    if (call->b)
        back_abandon(call);
    ingress_rules_unref(call->rules);
    buf_fini(&call->head);
    buf_fini(&call->body);
    arena_free(call->arena);
}

static void leave(struct front *f) {
    f->phase = PHASE_OVER;
    timer_stop(&f->timer);
    loop_flush_cancel(&f->resume);
    call_end(f);
}

static void front_free(void *arg) {
    struct front *f = arg;
    list_remove(&f->link);
    http_parser_fini(&f->parser);
    buf_fini(&f->pending);
    f->p->fronts_n--;
    proxy_less_alive(f->p);
    free(f);
}

void front_close(struct front *f) {
    if (f->phase != PHASE_OVER)
        leave(f);
    list_remove(&f->link);
    conn_close(f->c);
}

/* Last bytes go out, then the connection ends. */
static void finish(struct front *f) {
    if (f->phase == PHASE_OVER)
        return;
    leave(f);
    conn_finish(f->c);
}

/* --- answers ------------------------------------------------------------------------------------------------------ */

void front_answer_done(struct front *f) {
    bool keep = f->call->keep_alive && f->call->complete && !(f->eof && !f->pending.n);
    call_end(f);
    f->served = true;
    if (!keep) {
        finish(f);
        return;
    }
    enter(f, PHASE_IDLE);
    if (f->feeding)
        return;
    if (f->pending.n)
        loop_flush_add(f->p->o.loop, &f->resume);
    else
        front_flow(f);
}

static void write_refusal(struct front *f, int status, const char *reason, bool keep, bool head_only) {
    cleanup_buf struct buf body = BUF_INIT, head = BUF_INIT;
    if (status == 404 && !reason)
        buf_puts(&body, "404 page not found\n");
    else
        buf_printf(&body, "%d %s: %s\n", status, http_status_text(status), reason ? reason : "");
    buf_printf(&head,
               "HTTP/1.1 %d %s\r\nContent-Type: text/plain; charset=utf-8\r\nX-Content-Type-Options: nosniff\r\n"
               "Content-Length: %zu\r\n%s\r\n",
               status, http_status_text(status), body.n, keep ? "" : "Connection: close\r\n");
    conn_write(f->c, head.p, head.n);
    if (!head_only)
        conn_write(f->c, body.p, body.n);
}

void front_refuse(struct front *f, int status, const char *reason) {
    struct call *call = f->call;
    if (f->phase == PHASE_OVER)
        return;
    if (call && call->answered) { /* the client must not take half an answer for a whole one */
        front_close(f);
        return;
    }
    bool keep = call && call->complete && call->keep_alive && !call->http10;
    if (call)
        call->keep_alive = keep;
    write_refusal(f, status, reason, keep, call && call->head_only);
    if (call && f->phase == PHASE_BUSY)
        front_answer_done(f);
    else
        finish(f);
}

/* --- requests ----------------------------------------------------------------------------------------------------- */

static struct arena *on_begin(void *arg) {
    struct front *f = arg;
    struct arena *a = arena_new(CALL_ARENA, CALL_ARENA_LIMIT);
    struct call *call = ARENA_NEW(a, struct call);
    call->arena = a;
    call->f = f;
    buf_init(&call->head, HEAD_LIMIT);
    buf_init(&call->body, PENDING_MAX);
    f->call = call;
    enter(f, PHASE_HEAD);
    return a;
}

/* RFC 9112 3.2: the authority of an absolute form replaces Host. */
static void split_target(struct call *call, struct str t) {
    call->host = http_find_header(call->headers, call->headers_n, "Host");
    if (str_starts(t, STR("http://")) || str_starts(t, STR("https://"))) {
        size_t skip = t.p[4] == 's' ? 8 : 7;
        ptrdiff_t end = (ptrdiff_t)skip;
        while ((size_t)end < t.n && t.p[end] != '/' && t.p[end] != '?')
            end++;
        call->host = str_n(t.p + skip, (size_t)end - skip);
        t = str_skip(t, (size_t)end);
        if (!t.n || t.p[0] == '?')
            t = str_printf(call->arena, "/%.*s", STR_ARG(t));
    }
    call->target = t;
}

static void refuse_call(struct call *call, int status, const char *reason) {
    call->refusal = status;
    call->refusal_text = reason;
}

static const struct {
    int status;
    const char *reason;
} refusals[] = {
    [BACKEND_NO_SERVICE] = {503, "the service of this rule does not exist"},
    [BACKEND_NO_PORT] = {503, "the service of this rule has no such port"},
    [BACKEND_UNSUPPORTED] = {503, "the backend of this rule is of a kind that is not supported"},
    [BACKEND_NO_ENDPOINT] = {503, "no pod of the service is ready"},
    [BACKEND_READY] = {0, NULL},
};

static void route(struct front *f, struct call *call) {
    struct str path = call->target, method = call->method;
    ptrdiff_t query = str_index(path, '?', 0);
    if (query >= 0)
        path.n = (size_t)query;
    if (str_eq(path, STR("*")) && str_eq(method, STR("OPTIONS")))
        path = STR("/");
    if (str_eq(method, STR("CONNECT")) || str_eq(method, STR("TRACE"))) {
        refuse_call(call, 405, "not for a proxy");
        return;
    }
    if (!path.n || path.p[0] != '/' || !ingress_path_clean(call->arena, path, &path)) {
        refuse_call(call, 400, "the request target is malformed");
        return;
    }
    if (!f->p->rules) {
        refuse_call(call, 503, "the ingress is starting");
        return;
    }
    call->rules = ingress_rules_ref(f->p->rules);
    call->backend = ingress_rules_find(call->rules, call->host, path);
    if (call->backend)
        refuse_call(call, refusals[call->backend->state].status, refusals[call->backend->state].reason);
    else
        refuse_call(call, 404, NULL);
}

static int on_head(void *arg) {
    static const char *const idempotent[] = {"GET", "HEAD", "OPTIONS", "PUT", "DELETE"};
    struct front *f = arg;
    struct call *call = f->call;
    const struct http_parser *p = &f->parser;
    call->headers = p->headers;
    call->headers_n = p->headers_n;
    call->method = str_c(llhttp_method_name((llhttp_method_t)p->ll.method));
    call->head_only = p->ll.method == HTTP_HEAD;
    call->http10 = p->ll.http_minor == 0;
    call->keep_alive = llhttp_should_keep_alive(&p->ll);
    call->chunked = p->ll.flags & F_CHUNKED;
    call->has_length = p->ll.flags & F_CONTENT_LENGTH;
    call->length = p->ll.content_length;
    for (size_t i = 0; i < ARRAY_LEN(idempotent); i++)
        call->idempotent |= str_eq_c(call->method, idempotent[i]);
    split_target(call, p->target);
    struct str upgrade = http_find_header(p->headers, p->headers_n, "Upgrade");
    /* HTTP/2 by way of Upgrade would pass requests by the rules. */
    if (upgrade.n && !call->http10 && http_header_has_token(p->headers, p->headers_n, "Connection", "upgrade") &&
        str_find(str_lower(call->arena, upgrade), STR("h2c")) < 0)
        call->upgrade = upgrade;
    enter(f, PHASE_BUSY);
    route(f, call);
    if (!call->refusal) {
        head_for_back(call);
        if (call->head.failed)
            refuse_call(call, 431, "request head too large");
        else
            back_start(call);
    }
    return 0;
}

static int on_body(void *arg, struct str data) {
    struct front *f = arg;
    if (!f->call->refusal)
        back_send(f->call, data);
    return 0;
}

static void on_complete(void *arg, bool upgrade) {
    struct front *f = arg;
    f->call->complete = true;
    if (!f->call->refusal)
        back_sent_all(f->call);
}

static const struct http_parser_ops parser_ops = {on_begin, on_head, on_body, on_complete};

static bool can_feed(const struct front *f) {
    return f->phase < PHASE_BUSY || (f->phase == PHASE_BUSY && !f->call->complete);
}

/* Parses data; what follows a complete request waits in pending. */
static void feed_some(struct front *f, struct str data) {
    while (data.n && can_feed(f)) {
        size_t used;
        enum http_parse_result rc = http_parser_feed(&f->parser, data, &used);
        data = str_skip(data, used);
        if (rc == HTTP_PARSE_ERROR) {
            if (f->call)
                f->call->complete = false; /* ends the connection */
            front_refuse(f, f->parser.status, f->parser.reason);
        } else if (f->call && f->call->refusal) {
            front_refuse(f, f->call->refusal, f->call->refusal_text);
        }
    }
    if (data.n && f->phase != PHASE_OVER)
        buf_put_str(&f->pending, data);
}

static void feed(struct front *f) {
    f->feeding = true;
    while (f->pending.n && can_feed(f)) {
        cleanup_buf struct buf b = f->pending;
        buf_init(&f->pending, PENDING_MAX);
        feed_some(f, buf_str(&b));
    }
    f->feeding = false;
    if (f->phase == PHASE_OVER)
        return;
    if (f->eof && f->phase == PHASE_IDLE)
        finish(f);
    else if (f->eof && can_feed(f))
        front_refuse(f, 400, "the request is incomplete");
    else
        front_flow(f);
}

static void on_resume(void *arg) {
    feed(arg);
}

void front_flow(struct front *f) {
    bool pause = false;
    if (f->phase == PHASE_TUNNEL)
        pause = back_is_full(f->call);
    else if (f->phase == PHASE_BUSY)
        pause = f->call->complete ? f->pending.n >= PENDING_ENOUGH : back_is_full(f->call);
    if (f->phase != PHASE_OVER)
        conn_pause(f->c, pause);
}

/* --- tunnels ------------------------------------------------------------------------------------------------------ */

void front_tunnel(struct front *f) {
    enter(f, PHASE_TUNNEL);
    back_tunnel_write(f->call->b, f->pending.p, f->pending.n);
    buf_fini(&f->pending);
    buf_init(&f->pending, PENDING_MAX);
    if (f->eof)
        back_tunnel_shutdown(f->call->b);
    front_flow(f);
}

void front_tunnel_check(struct front *f) {
    if (f->phase == PHASE_TUNNEL && f->eof && conn_shutdown_done(f->c) && back_has_ended(f->call->b))
        front_close(f);
}

/* --- events of the transport -------------------------------------------------------------------------------------- */

static void on_data(void *arg, const char *p, size_t n) {
    struct front *f = arg;
    if (f->phase == PHASE_OVER)
        return;
    if (f->phase != PHASE_HEAD) /* a head has its time as a whole */
        front_active(f);
    if (f->phase == PHASE_TUNNEL) {
        back_tunnel_write(f->call->b, p, n);
        front_flow(f);
        return;
    }
    if (f->pending.n || !can_feed(f)) {
        buf_put(&f->pending, p, n);
    } else {
        f->feeding = true;
        feed_some(f, str_n(p, n));
        f->feeding = false;
    }
    if (f->pending.failed)
        front_close(f);
    else if (f->phase != PHASE_OVER)
        feed(f);
}

static void on_eof(void *arg, bool clean) {
    struct front *f = arg;
    f->eof = true;
    if (f->phase == PHASE_TUNNEL) {
        back_tunnel_shutdown(f->call->b);
        front_tunnel_check(f);
    } else if (f->phase == PHASE_HEAD || (f->phase == PHASE_BUSY && !f->call->complete)) {
        front_refuse(f, 400, "the request is incomplete");
    } else if (f->phase == PHASE_BUSY && f->call->answered && (f->call->answer_chunked || f->call->answer_open_end)) {
        front_close(f); /* a watcher that hung up */
    } else if (f->phase == PHASE_IDLE && !f->pending.n) {
        finish(f);
    }
}

static void on_flush(void *arg) {
    struct front *f = arg;
    if (f->phase == PHASE_OVER)
        return;
    if (f->phase >= PHASE_BUSY)
        front_active(f);
    if (f->call && f->call->b)
        back_flow(f->call);
    front_tunnel_check(f);
}

static void on_error(void *arg, const struct error *err) {
    struct front *f = arg;
    log_debug("ingress", "connection from %s: %s", f->remote, err->msg);
    front_close(f);
}

/* "1.2.3.4:5" -> "1.2.3.4", "[::1]:5" -> "::1" */
static void ip_of(const char *address, char out[ADDRESS_TEXT_MAX]) {
    struct str s = str_c(address);
    ptrdiff_t colon = str_rindex(s, ':');
    if (colon > 0)
        s.n = (size_t)colon;
    if (s.n > 2 && s.p[0] == '[')
        s = str_n(s.p + 1, s.n - 2);
    memcpy(out, s.p, s.n);
    out[s.n] = 0;
}

void front_new(struct listener *l, int fd, const struct sockaddr *from) {
    struct proxy *p = l->p;
    struct error err = {0};
    struct tls_conn *tls = NULL;
    proxy_socket_options(fd);
    if (l->tls && !(tls = tls_conn_new(p->o.loop, p->o.tls, NULL, &err))) {
        log_warn("ingress", "%s", err.msg);
        close(fd);
        return;
    }
    struct conn *c = conn_new(p->o.loop, fd, tls, &err);
    if (!c) {
        log_warn("ingress", "%s", err.msg);
        return;
    }
    struct front *f = XNEW(struct front);
    f->p = p;
    f->c = c;
    f->tls = l->tls;
    p->fronts_n++;
    p->alive++;
    list_push_back(&p->fronts, &f->link);
    buf_init(&f->pending, PENDING_MAX);
    const struct http_message_limits limits = {.body_bytes = SIZE_MAX};
    http_parser_init(&f->parser, true, &limits, &parser_ops, f);
    timer_init(&f->timer, p->o.loop, on_timer, f);
    loop_flush_init(&f->resume, on_resume, f);
    address_format(from, f->remote);
    ip_of(f->remote, f->ip);
    conn_set_events(c, &(struct conn_events){.on_data = on_data,
                                             .on_eof = on_eof,
                                             .on_flush = on_flush,
                                             .on_error = on_error,
                                             .on_closed = front_free,
                                             .arg = f});
    enter(f, PHASE_IDLE);
    conn_start(c);
}
