#include <stdio.h>
#include <stdlib.h>

#include "net/http_server_priv.h"

/* --- one reply as a message between threads ----------------------------------------------------------------------- */

enum reply_kind { REPLY_WHOLE, REPLY_BEGIN, REPLY_CHUNK, REPLY_END, REPLY_UPGRADE, REPLY_ABANDON };

struct reply {
    struct http_exchange *x; /* a reference */
    enum reply_kind kind;
    int status;
    const struct http_header *headers;
    size_t headers_n;
    struct blob *const *pieces;
    size_t pieces_n;
    loop_fn on_close;
    void *on_close_arg;
    void (*ready)(void *arg, struct stream *s);
};

static void reply_run(const struct reply *r);

/* Headers and pieces copied behind the struct: one allocation. */
static struct reply *reply_copy(const struct reply *r) {
    size_t text = 0;
    for (size_t i = 0; i < r->headers_n; i++)
        text += r->headers[i].name.n + r->headers[i].value.n;
    size_t headers = r->headers_n * sizeof(struct http_header), pieces = r->pieces_n * sizeof(struct blob *);
    struct reply *c = xmalloc(sizeof(*c) + headers + pieces + text);
    struct http_header *h = (struct http_header *)(c + 1);
    struct blob **b = (struct blob **)(void *)((char *)h + headers);
    char *t = (char *)b + pieces;
    *c = *r;
    c->headers = h;
    c->pieces = b;
    for (size_t i = 0; i < r->headers_n; i++) {
        struct str from[2] = {r->headers[i].name, r->headers[i].value}, to[2];
        for (int j = 0; j < 2; j++) {
            if (from[j].n)
                memcpy(t, from[j].p, from[j].n);
            to[j] = str_n(t, from[j].n);
            t += from[j].n;
        }
        h[i] = (struct http_header){to[0], to[1]};
    }
    for (size_t i = 0; i < r->pieces_n; i++)
        b[i] = r->pieces[i];
    return c;
}

static void reply_posted(void *arg) {
    struct reply *r = arg;
    struct http_exchange *x = r->x;
    reply_run(r);
    http_exchange_unref(x);
    free(r);
}

/* Here when this is the connection's thread, else over there. */
static void reply_give(const struct reply *r) {
    if (loop_current() == r->x->loop) {
        reply_run(r);
    } else {
        ref_get(&r->x->ref);
        loop_post(r->x->loop, reply_posted, reply_copy(r));
    }
}

/* --- writing heads ------------------------------------------------------------------------------------------------ */

static void put(struct conn *c, struct str s) {
    conn_write(c, s.p, s.n);
}

struct date {
    int64_t second;
    size_t n;
    char text[48];
};

static void put_date(struct conn *c) {
    void **slot = loop_slot(conn_loop(c), LOOP_DATE);
    struct date *d = *slot;
    int64_t second = loop_now_ms(conn_loop(c)) / 1000 + 1;
    if (!d)
        *slot = d = XNEW(struct date);
    if (d->second != second) {
        struct tm tm;
        time_t t = (time_t)time_now_s();
        gmtime_r(&t, &tm);
        d->n = strftime(d->text, sizeof(d->text), "Date: %a, %d %b %Y %H:%M:%S GMT\r\n", &tm);
        d->second = second;
    }
    conn_write(c, d->text, d->n);
}

static void put_status(struct conn *c, int status) {
    char line[80];
    if (status == 200) {
        put(c, STR("HTTP/1.1 200 OK\r\n"));
        return;
    }
    int n = snprintf(line, sizeof(line), "HTTP/1.1 %d %s\r\n", status, http_status_text(status));
    conn_write(c, line, (size_t)n);
}

/* A value must not end its line: what would is a bug of the caller's or an attack through it, and becomes a blank. */
static void put_header(struct conn *c, struct str name, struct str value) {
    if (!http_is_token(name))
        return;
    put(c, name);
    put(c, STR(": "));
    size_t from = 0;
    for (size_t i = 0; i < value.n; i++) {
        if (value.p[i] != '\r' && value.p[i] != '\n' && value.p[i] != 0)
            continue;
        conn_write(c, value.p + from, i - from);
        put(c, STR(" "));
        from = i + 1;
    }
    conn_write(c, value.p + from, value.n - from);
    put(c, STR("\r\n"));
}

static bool is_ours(struct str name) {
    static const struct str ours[] = {STR_INIT("Connection"), STR_INIT("Content-Length"), STR_INIT("Date"),
                                      STR_INIT("Transfer-Encoding")};
    for (size_t i = 0; i < ARRAY_LEN(ours); i++) {
        if (name.n == ours[i].n && str_eq_nocase(name, ours[i]))
            return true;
    }
    return false;
}

static void put_head(struct http_exchange *x, struct conn *c, const struct reply *r) {
    put_status(c, r->status);
    put_date(c);
    for (size_t i = 0; i < r->headers_n; i++) {
        if (!is_ours(r->headers[i].name))
            put_header(c, r->headers[i].name, r->headers[i].value);
    }
    if (!x->keep_alive)
        put(c, STR("Connection: close\r\n"));
    else if (x->http10)
        put(c, STR("Connection: keep-alive\r\n"));
}

static void put_length(struct conn *c, size_t n) {
    char line[48];
    int k = snprintf(line, sizeof(line), "Content-Length: %zu\r\n", n);
    conn_write(c, line, (size_t)k);
}

static bool status_has_no_body(int status) {
    return status < 200 || status == 204 || status == 304;
}

void http_write_refusal(struct conn *c, int status, const char *reason) {
    char body[300];
    int n = snprintf(body, sizeof(body), "%d %s: %s\n", status, http_status_text(status), reason ? reason : "");
    n = MIN(n, (int)sizeof(body) - 1);
    put_status(c, status);
    put_date(c);
    put(c, STR("Content-Type: text/plain; charset=utf-8\r\nX-Content-Type-Options: nosniff\r\nConnection: close\r\n"));
    put_length(c, (size_t)n);
    put(c, STR("\r\n"));
    conn_write(c, body, (size_t)n);
}

/* --- replies, on the connection's loop ---------------------------------------------------------------------------- */

static void drop_pieces(const struct reply *r) {
    for (size_t i = 0; i < r->pieces_n; i++)
        blob_unref(r->pieces[i]);
}

static void run_whole(struct http_exchange *x, struct conn *c, const struct reply *r) {
    size_t total = 0;
    if (x->begun) { /* a whole reply after the beginning of a streamed one: the client must not take it for its end */
        drop_pieces(r);
        http_conn_close(x->conn);
        return;
    }
    for (size_t i = 0; i < r->pieces_n; i++)
        total += r->pieces[i] ? r->pieces[i]->bytes.n : 0;
    put_head(x, c, r);
    struct str told = http_find_header(r->headers, r->headers_n, "Content-Length");
    int64_t length;
    if (x->head && r->pieces_n == 0 && str_to_i64(told, &length) && length >= 0)
        put_length(c, (size_t)length); /* a proxied HEAD: the length of what GET would bring */
    else if (!status_has_no_body(r->status))
        put_length(c, total);
    put(c, STR("\r\n"));
    for (size_t i = 0; i < r->pieces_n; i++) {
        if (x->head || status_has_no_body(r->status))
            blob_unref(r->pieces[i]);
        else
            conn_write_blob(c, r->pieces[i]);
    }
    http_conn_reply_done(x->conn);
}

static void run_begin(struct http_exchange *x, struct conn *c, const struct reply *r) {
    struct str told = http_find_header(r->headers, r->headers_n, "Content-Length");
    int64_t length;
    x->begun = true;
    x->on_close = r->on_close;
    x->on_close_arg = r->on_close_arg;
    x->no_body = x->head || status_has_no_body(r->status);
    bool sized = str_to_i64(told, &length) && length >= 0;
    x->chunked = !sized && !x->http10;
    if (!sized && x->http10)
        x->keep_alive = false;
    put_head(x, c, r);
    if (sized)
        put_length(c, (size_t)length);
    else if (x->chunked && !status_has_no_body(r->status))
        put(c, STR("Transfer-Encoding: chunked\r\n"));
    put(c, STR("\r\n"));
}

static void run_chunk(struct http_exchange *x, struct conn *c, const struct reply *r) {
    struct blob *b = r->pieces[0];
    if (!x->begun || x->no_body || !b || !b->bytes.n) {
        blob_unref(b);
        return;
    }
    char line[24];
    if (x->chunked)
        conn_write(c, line, (size_t)snprintf(line, sizeof(line), "%zx\r\n", b->bytes.n));
    conn_write_blob(c, b);
    if (x->chunked)
        put(c, STR("\r\n"));
}

static void run_end(struct http_exchange *x, struct conn *c) {
    if (x->begun && x->chunked && !x->no_body)
        put(c, STR("0\r\n\r\n"));
    x->on_close = NULL;
    http_conn_reply_done(x->conn);
}

struct readied {
    void (*ready)(void *arg, struct stream *s);
    void *arg;
    struct stream *s;
};

static void tell_ready(void *arg) {
    struct readied *d = arg;
    d->ready(d->arg, d->s);
    free(d);
}

static void run_upgrade(struct http_exchange *x, struct conn *c, const struct reply *r) {
    cleanup_buf struct buf first = {0};
    put_status(c, r->status);
    for (size_t i = 0; i < r->headers_n; i++)
        put_header(c, r->headers[i].name, r->headers[i].value);
    put(c, STR("\r\n"));
    http_conn_detach(x->conn, &first);
    struct readied *d = XNEW(struct readied);
    *d = (struct readied){r->ready, r->on_close_arg, stream_from_conn(c, &first)};
    loop_post(x->loop, tell_ready, d);
}

/* The connection went away first. */
static void run_lost(const struct reply *r) {
    drop_pieces(r);
    if (r->kind == REPLY_UPGRADE) {
        struct readied *d = XNEW(struct readied);
        *d = (struct readied){r->ready, r->on_close_arg, NULL};
        loop_post(r->x->loop, tell_ready, d);
    } else if (r->kind == REPLY_BEGIN && r->on_close) {
        r->x->on_close = r->on_close;
        r->x->on_close_arg = r->on_close_arg;
        http_exchange_lost(r->x);
    }
}

static void reply_run(const struct reply *r) {
    struct http_exchange *x = r->x;
    if (!x->conn) {
        run_lost(r);
        return;
    }
    struct conn *c = http_conn_transport(x->conn);
    switch (r->kind) {
    case REPLY_WHOLE:
        run_whole(x, c, r);
        break;
    case REPLY_BEGIN:
        run_begin(x, c, r);
        break;
    case REPLY_CHUNK:
        run_chunk(x, c, r);
        break;
    case REPLY_END:
        run_end(x, c);
        break;
    case REPLY_UPGRADE:
        run_upgrade(x, c, r);
        break;
    case REPLY_ABANDON:
        http_conn_close(x->conn);
        break;
    }
}

/* --- the exchange ------------------------------------------------------------------------------------------------- */

void http_exchange_unref(struct http_exchange *x) {
    if (!ref_put(&x->ref))
        return;
    tls_peer_unref(x->peer);
    buf_fini(&x->body);
    arena_free(x->req.arena); /* x is in it */
}

static void tell_lost(void *arg) {
    struct http_exchange *x = arg;
    loop_fn fn = x->on_close;
    x->on_close = NULL;
    if (fn)
        fn(x->on_close_arg);
    http_exchange_unref(x);
}

void http_exchange_lost(struct http_exchange *x) {
    if (!x->on_close)
        return;
    ref_get(&x->ref);
    loop_post(x->loop, tell_lost, x);
}

void http_exchange_flushed(struct http_exchange *x) {
    if (!x->begun || !x->conn)
        return;
    size_t left = conn_backlog(http_conn_transport(x->conn)), accepted = atomic_load(&x->accepted);
    atomic_store(&x->written, accepted > left ? accepted - left : 0);
}

const struct http_request *http_request(const struct http_exchange *x) {
    return &x->req;
}

struct loop *http_exchange_loop(struct http_exchange *x) {
    return x->loop;
}

/* Each reference of the handler's side is one of the memory too: on_close may take one when the others are gone. */
struct http_exchange *http_exchange_ref(struct http_exchange *x) {
    ref_get(&x->ref);
    atomic_fetch_add(&x->users, 1);
    return x;
}

void http_finish(struct http_exchange *x) {
    if (atomic_fetch_sub(&x->users, 1) == 1 && !atomic_load(&x->answered))
        reply_give(&(struct reply){.x = x, .kind = REPLY_ABANDON});
    http_exchange_unref(x);
}

void http_reply(struct http_exchange *x, int status, const struct http_header *headers, size_t headers_n,
                struct blob *body) {
    http_reply_pieces(x, status, headers, headers_n, &body, body ? 1 : 0);
}

void http_reply_pieces(struct http_exchange *x, int status, const struct http_header *headers, size_t headers_n,
                       struct blob *const *pieces, size_t n) {
    struct reply r = {.x = x,
                      .kind = REPLY_WHOLE,
                      .status = status,
                      .headers = headers,
                      .headers_n = headers_n,
                      .pieces = pieces,
                      .pieces_n = n};
    if (atomic_exchange(&x->answered, 1u))
        drop_pieces(&r);
    else
        reply_give(&r);
}

void http_stream_begin(struct http_exchange *x, int status, const struct http_header *headers, size_t headers_n,
                       loop_fn on_close, void *arg) {
    reply_give(&(struct reply){.x = x,
                               .kind = REPLY_BEGIN,
                               .status = status,
                               .headers = headers,
                               .headers_n = headers_n,
                               .on_close = on_close,
                               .on_close_arg = arg});
}

void http_stream_chunk(struct http_exchange *x, struct blob *b) {
    atomic_fetch_add(&x->accepted, b ? b->bytes.n : 0);
    reply_give(&(struct reply){.x = x, .kind = REPLY_CHUNK, .pieces = &b, .pieces_n = 1});
}

size_t http_stream_backlog(const struct http_exchange *x) {
    size_t written = atomic_load(&x->written), accepted = atomic_load(&x->accepted);
    return accepted > written ? accepted - written : 0;
}

void http_stream_end(struct http_exchange *x) {
    if (!atomic_exchange(&x->answered, 1u))
        reply_give(&(struct reply){.x = x, .kind = REPLY_END});
}

void http_upgrade(struct http_exchange *x, int status, const struct http_header *headers, size_t headers_n,
                  void (*ready)(void *arg, struct stream *s), void *arg) {
    if (!atomic_exchange(&x->answered, 1u))
        reply_give(&(struct reply){.x = x,
                                   .kind = REPLY_UPGRADE,
                                   .status = status,
                                   .headers = headers,
                                   .headers_n = headers_n,
                                   .ready = ready,
                                   .on_close_arg = arg});
}
