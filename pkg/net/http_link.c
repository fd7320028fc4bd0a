#include <netdb.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <unistd.h>

#include "net/http_client_priv.h"

#define ADDRESSES_MAX 8

struct http_link {
    struct list all, pool;
    struct http_client *client;
    struct http_origin *origin;
    struct http_call *call;
    struct conn *c;
    struct dial *dial;
    struct resolve *resolve;
    struct address to[ADDRESSES_MAX];
    size_t to_n, to_i;
    struct timer timer; /* connecting, then idle */
    struct http_parser parser;
    bool parser_made, reused, answered, complete, keep, closed;
    int status;
    int stop_code; /* what a callback of the call wanted */
};

/* A name being looked up. It outlives a link that gives up meanwhile. */
struct resolve {
    struct http_link *k; /* NULL when the link gave up */
    char *host;
    uint16_t port;
    struct address to[ADDRESSES_MAX];
    size_t to_n;
    int rc;
};

static void dial_next(struct http_link *k);

struct http_link *http_link_of(struct list *pool) {
    return LIST_ITEM(pool, struct http_link, pool);
}
struct http_link *http_link_of_all(struct list *all) {
    return LIST_ITEM(all, struct http_link, all);
}
struct list *http_link_pool(struct http_link *k) {
    return &k->pool;
}
struct list *http_link_all(struct http_link *k) {
    return &k->all;
}
struct http_origin *http_link_origin(struct http_link *k) {
    return k->origin;
}
struct http_client *http_link_client(struct http_link *k) {
    return k->client;
}

/* --- end ---------------------------------------------------------------------------------------------------------- */

static void link_free(void *arg) {
    struct http_link *k = arg;
    if (k->parser_made)
        http_parser_fini(&k->parser);
    if (k->parser.arena)
        arena_free(k->parser.arena);
    free(k);
}

/* Whoever still looks at the link up the stack finds it closed; its memory goes later. */
static void link_end(struct http_link *k) {
    if (k->closed)
        return;
    k->closed = true;
    timer_stop(&k->timer);
    if (k->dial)
        dial_cancel(TAKE_PTR(k->dial));
    if (k->resolve)
        k->resolve->k = NULL;
    k->resolve = NULL;
    http_link_gone(k);
    if (k->c)
        conn_close(k->c);
    else
        loop_post(k->client->o.loop, link_free, k);
}

static void link_fail(struct http_link *k, int code, const struct error *err) {
    struct http_call *call = TAKE_PTR(k->call);
    bool again = call && k->reused && !k->answered && call->idempotent && !call->retried && code != -ETIMEDOUT;
    link_end(k);
    if (again)
        http_call_again(call);
    else if (call)
        http_call_fail(call, code, err);
}

static void link_fail_text(struct http_link *k, int code, const char *text) {
    struct error err;
    error_set(&err, code, "%s", text);
    link_fail(k, code, &err);
}

void http_link_close(struct http_link *k) {
    k->call = NULL;
    link_end(k);
}

void http_link_drop_call(struct http_link *k) {
    http_link_close(k);
}

void http_link_pause(struct http_link *k, bool pause) {
    if (k->c && !k->closed)
        conn_pause(k->c, pause);
}

/* --- answers ------------------------------------------------------------------------------------------------------ */

static struct arena *on_begin(void *arg) {
    struct http_link *k = arg;
    if (k->parser.arena)
        arena_free(k->parser.arena);
    k->complete = false;
    return arena_new(0, MiB(1));
}

static int on_head(void *arg) {
    struct http_link *k = arg;
    k->status = k->parser.ll.status_code;
    k->answered = true;
    if (k->status < 200)
        return 0; /* 100 Continue and 103 Early Hints: the answer is still to come; 101 is refused behind the head */
    if (k->call->ev.on_head) {
        k->call->begun = true;
        k->stop_code = k->call->ev.on_head(k->call->ev.arg, k->status, k->parser.headers, k->parser.headers_n);
        if (k->stop_code || !k->call)
            return 499;
    }
    return k->call->head_only ? 1 : 0;
}

static int on_body(void *arg, struct str data) {
    struct http_link *k = arg;
    http_call_active(k->call);
    if (k->call->ev.on_body)
        k->stop_code = k->call->ev.on_body(k->call->ev.arg, data);
    return k->stop_code || !k->call ? 499 : 0;
}

static void on_complete(void *arg, bool upgrade) {
    struct http_link *k = arg;
    k->complete = k->status >= 200;
    k->keep = llhttp_should_keep_alive(&k->parser.ll);
}

static const struct http_parser_ops parser_ops = {on_begin, on_head, on_body, on_complete};

/* The call has its answer; the connection waits for another when both sides keep it and nothing unasked came. */
static void answer_done(struct http_link *k, bool keep) {
    struct http_call *call = TAKE_PTR(k->call);
    keep = keep && k->keep && conn_backlog(k->c) == 0;
    struct arena *head = TAKE_PTR(k->parser.arena); /* the headers live until on_done */
    k->parser.arena = NULL;
    if (keep) {
        conn_pause(k->c, false);
        timer_set(&k->timer, k->client->o.idle_timeout_ms, 1000);
        http_link_idle(k);
    } else {
        link_end(k);
    }
    http_call_done(call);
    arena_free(head);
}

/* The connection becomes the call's stream, with what came behind the head. */
static void switch_protocols(struct http_link *k, struct str rest) {
    cleanup_buf struct buf first = BUF_INIT;
    struct http_call *call = TAKE_PTR(k->call);
    struct arena *head = TAKE_PTR(k->parser.arena);
    struct stream *s;
    buf_put_str(&first, rest);
    s = stream_from_conn(TAKE_PTR(k->c), &first);
    link_end(k);
    call->on_upgrade(call->ev.arg, k->parser.headers, k->parser.headers_n, s);
    http_call_done(call);
    arena_free(head);
}

static void parse_failed(struct http_link *k) {
    struct error err;
    if (k->stop_code)
        error_set(&err, k->stop_code, "stopped by the receiver");
    else
        error_set(&err, -EPROTO, "malformed answer: %s", k->parser.reason ? k->parser.reason : "unknown");
    link_fail(k, k->stop_code ? k->stop_code : -EPROTO, &err);
}

static void on_data(void *arg, const char *p, size_t n) {
    struct http_link *k = arg;
    struct str data = str_n(p, n);
    if (!k->call) { /* unasked */
        link_end(k);
        return;
    }
    http_call_active(k->call);
    while (data.n && !k->closed && k->call) {
        size_t used;
        enum http_parse_result rc = http_parser_feed(&k->parser, data, &used);
        data = str_skip(data, used);
        if (k->closed)
            return; /* cancelled from a callback */
        if (rc == HTTP_PARSE_ERROR) {
            parse_failed(k);
            return;
        }
        if (rc == HTTP_PARSE_PAUSED && k->status == 101 && k->call->on_upgrade) {
            switch_protocols(k, data);
            return;
        }
        if (rc == HTTP_PARSE_PAUSED && k->status == 101) {
            link_fail_text(k, -EPROTO, "the server switched protocols unasked");
            return;
        }
        if (rc == HTTP_PARSE_PAUSED && k->complete)
            answer_done(k, data.n == 0);
    }
}

static void on_eof(void *arg, bool clean) {
    struct http_link *k = arg;
    if (!k->call) {
        link_end(k);
    } else if (clean && k->answered && !k->complete && http_parser_eof(&k->parser) && k->complete) {
        answer_done(k, false);
    } else if (!k->closed) {
        link_fail_text(k, -EPIPE, "the server closed the connection before the answer was complete");
    }
}

static void on_flush(void *arg) {
    struct http_link *k = arg;
    if (k->call)
        http_call_active(k->call);
}

static void on_error(void *arg, const struct error *err) {
    link_fail(arg, err->code ? err->code : -EIO, err);
}

/* --- requests ----------------------------------------------------------------------------------------------------- */

void http_link_use(struct http_link *k, struct http_call *call) {
    list_remove(&k->pool);
    k->reused = k->call == NULL && k->parser_made;
    k->call = call;
    k->answered = k->complete = false;
    k->stop_code = 0;
    call->via = k;
    timer_stop(&k->timer);
    http_call_active(call);
    conn_pause(k->c, call->paused);
    conn_write_blob(k->c, blob_ref(call->request));
}

static void on_open(void *arg) {
    struct http_link *k = arg;
    if (k->closed)
        return;
    timer_stop(&k->timer);
    http_parser_init(&k->parser, false, NULL, &parser_ops, k);
    struct http_call *call = TAKE_PTR(k->call);
    http_link_use(k, call);
    k->parser_made = true;
}

/* --- connecting --------------------------------------------------------------------------------------------------- */

static void on_dialled(void *arg, int fd, int code) {
    struct http_link *k = arg;
    struct error err = {0};
    k->dial = NULL;
    if (code && k->to_i < k->to_n) {
        dial_next(k);
        return;
    }
    if (code) {
        error_sys(&err, code, "cannot connect");
        link_fail(k, code, &err);
        return;
    }
    const struct url *u = &k->call->url;
    struct tls_conn *tls = NULL;
    if (u->tls) {
        char *name = arena_strndup(k->call->arena, u->host.p, u->host.n);
        tls = k->client->o.tls ? tls_conn_new(k->client->o.loop, k->client->o.tls, name, &err) : NULL;
        if (!tls) {
            close(fd);
            link_fail_text(k, -EINVAL, k->client->o.tls ? err.msg : "no TLS configuration for https");
            return;
        }
    }
    k->c = conn_new(k->client->o.loop, fd, tls, &err);
    if (!k->c) {
        link_fail(k, err.code, &err);
        return;
    }
    conn_set_events(k->c, &(struct conn_events){.on_open = on_open,
                                                .on_data = on_data,
                                                .on_eof = on_eof,
                                                .on_flush = on_flush,
                                                .on_error = on_error,
                                                .on_closed = link_free,
                                                .arg = k});
    conn_start(k->c);
}

static void dial_next(struct http_link *k) {
    const struct address *to = &k->to[k->to_i++];
    size_t left = k->to_n - k->to_i + 1;
    k->dial = dial_start(k->client->o.loop, to, -1, k->client->o.connect_timeout_ms / (int64_t)left, on_dialled, k);
}

static void on_timer(void *arg) {
    struct http_link *k = arg;
    if (k->call)
        link_fail_text(k, -ETIMEDOUT, "connecting took too long");
    else
        link_end(k);
}

/* --- names, on the pool ------------------------------------------------------------------------------------------- */

static void resolve_work(void *arg) {
    struct resolve *r = arg;
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM}, *list = NULL;
    r->rc = getaddrinfo(r->host, NULL, &hints, &list);
    for (struct addrinfo *i = list; !r->rc && i && r->to_n < ADDRESSES_MAX; i = i->ai_next) {
        struct address *a = &r->to[r->to_n];
        if (i->ai_addrlen > sizeof(a->v6))
            continue;
        memcpy(&a->any, i->ai_addr, i->ai_addrlen);
        a->n = i->ai_addrlen;
        if (a->any.sa_family == AF_INET6)
            a->v6.sin6_port = htons(r->port);
        else
            a->v4.sin_port = htons(r->port);
        r->to_n++;
    }
    if (list)
        freeaddrinfo(list);
}

static void resolve_done(void *arg) {
    struct resolve *r = arg;
    struct http_link *k = r->k;
    if (k) {
        k->resolve = NULL;
        if (r->rc || !r->to_n) {
            struct error err;
            error_set(&err, -EHOSTUNREACH, "cannot resolve %s: %s", r->host,
                      r->rc ? gai_strerror(r->rc) : "no address");
            link_fail(k, -EHOSTUNREACH, &err);
        } else {
            memcpy(k->to, r->to, sizeof(r->to));
            k->to_n = r->to_n;
            dial_next(k);
        }
    }
    free(r->host);
    free(r);
}

static void resolve_start(struct http_link *k, const struct url *u) {
    struct resolve *r = XNEW(struct resolve);
    r->k = k;
    r->host = xstrndup(u->host.p, u->host.n);
    r->port = u->port;
    k->resolve = r;
    loop_work(k->client->o.loop, resolve_work, resolve_done, r);
}

void http_link_open(struct http_client *c, struct http_origin *o, struct http_call *call) {
    struct http_link *k = XNEW(struct http_link);
    const struct url *u = &call->url;
    k->client = c;
    k->origin = o;
    k->call = call;
    call->via = k;
    list_push_back(&c->links, &k->all);
    list_init(&k->pool);
    c->links_n++;
    o->links_n++;
    timer_init(&k->timer, c->o.loop, on_timer, k);
    timer_set(&k->timer, c->o.connect_timeout_ms, c->o.connect_timeout_ms / 10);
    if (u->unix_path.n) {
        k->to_n = address_unix(u->unix_path, &k->to[0]) ? 0 : 1;
    } else if (address_from_ip(u->host, u->port, &k->to[0])) {
        resolve_start(k, u);
        return;
    } else {
        k->to_n = 1;
    }
    if (k->to_n)
        dial_next(k);
    else
        timer_set(&k->timer, 0, 0); /* an over-long socket path was refused by url_parse() */
}
