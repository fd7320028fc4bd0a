/* Answers: through an exchange, with the headers every answer has, once what they tell is durable. */
#include "api/api_priv.h"

#define HEADERS_MAX (5 + API_WARNINGS_MAX)
#define JOIN_BYTES MiB(1) /* lists below are sent as one block */

/* --- through http ------------------------------------------------------------------------------------------------ */

static void http_ops_reply(struct api_request *q, int code, const struct http_header *h, size_t h_n,
                           struct blob *const *pieces, size_t pieces_n) {
    struct http_exchange *x = q->x;
    http_reply_pieces(x, code, h, h_n, pieces, pieces_n);
    http_finish(x);
}

static void client_gone_core(void *arg) {
    struct api_request *q = arg;
    struct http_exchange *x = q->x;
    watch_client_gone(q);
    http_finish(x);
}

/* On the io thread: the watcher is the core thread's, which may be ending it at this moment; the reference keeps q. */
static void client_gone(void *arg) {
    struct api_request *q = arg;
    http_exchange_ref(q->x);
    loop_post(q->api->loop, client_gone_core, q);
}

static void http_ops_begin(struct api_request *q, int code, const struct http_header *h, size_t h_n) {
    http_stream_begin(q->x, code, h, h_n, client_gone, q);
}

static void http_ops_chunk(struct api_request *q, struct blob *b) {
    http_stream_chunk(q->x, b);
}

static size_t http_ops_backlog(struct api_request *q) {
    return http_stream_backlog(q->x);
}

static void http_ops_end(struct api_request *q) {
    struct http_exchange *x = q->x;
    http_stream_end(x);
    http_finish(x);
}

static void http_ops_on_io(struct api_request *q, loop_fn fn) {
    loop_post(http_exchange_loop(q->x), fn, q);
}

static const struct api_reply_ops http_ops = {http_ops_reply,   http_ops_begin, http_ops_chunk,
                                              http_ops_backlog, http_ops_end,   http_ops_on_io};

static void free_arena(void *arg) {
    arena_free(arg);
}

static void run_on_core(void *arg) {
    request_run(arg);
}

void api_http_handler(void *api, struct http_exchange *x) {
    const struct http_request *h = http_request(x);
    struct api_request *q = ARENA_NEW(h->arena, struct api_request);
    q->api = api;
    q->x = x;
    q->ops = &http_ops;
    q->arena = arena_new(0, API_ARENA_BYTES);
    arena_defer(h->arena, free_arena, q->arena);
    q->method = h->method;
    q->path = h->path;
    q->query = h->query;
    q->body = h->body;
    q->headers = h->headers;
    q->headers_n = h->headers_n;
    q->peer = h->peer;
    if (request_prepare(q))
        loop_post(q->api->loop, run_on_core, q);
}

/* --- whole answers ----------------------------------------------------------------------------------------------- */

static struct str warning_value(struct arena *a, struct str text) {
    struct buf b = BUF_INIT;
    buf_puts(&b, "299 - \"");
    for (size_t i = 0; i < text.n && b.n < 4096; i++) {
        unsigned char c = (unsigned char)text.p[i];
        if (c == '"' || c == '\\')
            buf_putc(&b, '\\');
        buf_putc(&b, c < 0x20 || c == 0x7F ? ' ' : (char)c);
    }
    buf_putc(&b, '"');
    struct str s = str_dup(a, buf_str(&b));
    buf_fini(&b);
    return s;
}

static size_t common_headers(struct api_request *q, const char *content_type, struct http_header *h) {
    size_t n = 0;
    h[n++] = (struct http_header){STR("Content-Type"), str_c(content_type)};
    h[n++] = (struct http_header){STR("Cache-Control"), STR("no-cache, private")};
    if (q->etag)
        h[n++] = (struct http_header){STR("ETag"), str_c(q->etag)};
    if (q->retry_after_s)
        h[n++] = (struct http_header){STR("Retry-After"), str_printf(q->arena, "%d", q->retry_after_s)};
    for (size_t i = 0; i < q->warnings_n; i++)
        h[n++] = (struct http_header){STR("Warning"), warning_value(q->arena, q->warnings[i])};
    return n;
}

void reply_stream_begin(struct api_request *q, const char *content_type) {
    struct http_header h[HEADERS_MAX];
    size_t n = common_headers(q, content_type, h);
    q->ops->stream_begin(q, 200, h, n);
}

static void reply_pieces(struct api_request *q, int code, const char *content_type, struct blob *const *pieces,
                         size_t n) {
    struct http_header h[HEADERS_MAX];
    size_t h_n = common_headers(q, content_type, h);
    q->ops->reply(q, code, h, h_n, pieces, n);
}

void reply_blob(struct api_request *q, int code, const char *content_type, struct blob *b) {
    reply_pieces(q, code, content_type, &b, b ? 1 : 0);
}

static struct blob *buf_blob(struct buf *b) {
    size_t n = 0;
    char *p = buf_steal(b, &n);
    return blob_take(p, n);
}

/* JSON text as the accepted media; takes b over. */
static void reply_text(struct api_request *q, int code, struct buf *b) {
    if (b->failed) {
        buf_fini(b);
        reply_error(q, 500, "InternalError", "the answer is too large");
        return;
    }
    if (q->accept.media == MEDIA_YAML) {
        cleanup_arena struct arena *a = arena_new(0, 0);
        struct json_limits limits = {.depth = JSON_DEPTH_MAX};
        struct json *v = json_parse(a, buf_str(b), &limits, NULL);
        buf_reset(b);
        yaml_write(b, v);
        reply_blob(q, code, "application/yaml", buf_blob(b));
        return;
    }
    buf_putc(b, '\n');
    reply_blob(q, code, "application/json", buf_blob(b));
}

void reply_json(struct api_request *q, int code, const struct json *v) {
    struct buf b = BUF_INIT;
    json_write(&b, v);
    reply_text(q, code, &b);
}

void reply_status(struct api_request *q, const struct api_status *st) {
    q->accept.media = q->accept.form == FORM_OBJECT ? q->accept.media : MEDIA_JSON;
    if (st->code == 429 || (st->code == 504 && !q->retry_after_s))
        q->retry_after_s = 1;
    struct json *v = status_json(q->arena, st);
    if (q->status_continue.n)
        json_put(q->arena, v, "metadata.continue", json_str(q->arena, q->status_continue));
    reply_json(q, st->code, v);
}

void reply_error(struct api_request *q, int code, const char *reason, const char *fmt, ...) {
    struct buf b = BUF_INIT;
    va_list ap;
    va_start(ap, fmt);
    buf_vprintf(&b, fmt, ap);
    va_end(ap);
    struct api_status st = {.code = code, .reason = str_c(reason), .message = str_dup(q->arena, buf_str(&b))};
    buf_fini(&b);
    reply_status(q, &st);
}

/* --- durability -------------------------------------------------------------------------------------------------- */

static void objects_drop(struct api_request *q) {
    for (size_t i = 0; i < q->objects_n; i++)
        object_unref(q->objects[i]);
    free(q->objects);
    q->objects = NULL;
    q->objects_n = 0;
}

static void durable_now(void *arg, int code) {
    struct api_request *q = arg;
    if (code == 0) {
        q->then(q);
        return;
    }
    objects_drop(q);
    struct error err = {0};
    store_writable(q->api->store, &err);
    status_internal(&q->status, q->arena, "%s", err.msg[0] ? err.msg : strerror(-code));
    reply_status(q, &q->status);
}

void request_when_durable(struct api_request *q, int64_t revision, void (*then)(struct api_request *q)) {
    if (revision <= store_durable_revision(q->api->store)) {
        then(q);
        return;
    }
    q->then = then;
    store_when_durable(q->api->store, revision, durable_now, q);
}

/* --- one object -------------------------------------------------------------------------------------------------- */

static void encode_one(void *arg) {
    struct api_request *q = arg;
    struct buf b = BUF_INIT;
    struct error err = {0};
    if (q->accept.form == FORM_TABLE) {
        buf_puts(&b, "{\"kind\":\"Table\",\"apiVersion\":\"meta.k8s.io/v1\",\"metadata\":{\"resourceVersion\":");
        json_write_string(&b, json_str_at(object_json(q->objects[0]), "metadata.resourceVersion"));
        buf_puts(&b, "},\"columnDefinitions\":");
        table_columns_put(&b, q->arena, q->r);
        buf_puts(&b, ",\"rows\":[");
    }
    int rc = form_object(&b, q->arena, q->r, q->accept.form, request_param(q, "includeObject"), q->objects[0], &err);
    if (q->accept.form == FORM_TABLE)
        buf_puts(&b, "]}");
    objects_drop(q);
    if (rc < 0) {
        buf_fini(&b);
        reply_error(q, 500, "InternalError", "Internal error occurred: %s", err.msg);
        return;
    }
    reply_text(q, q->code, &b);
}

static void send_one(struct api_request *q) {
    struct object *o = q->objects[0];
    if (q->r == q->r->storage && q->accept.form == FORM_OBJECT && q->accept.media == MEDIA_JSON) {
        struct blob *b = blob_ref(&o->blob);
        objects_drop(q);
        reply_blob(q, q->code, "application/json", b);
        return;
    }
    q->ops->on_io(q, encode_one);
}

void reply_object(struct api_request *q, int code, struct object *o) {
    q->code = code;
    q->objects = xcalloc(1, sizeof(*q->objects));
    q->objects[0] = object_ref(o);
    q->objects_n = 1;
    request_when_durable(q, o->revision, send_one);
}

/* --- lists ------------------------------------------------------------------------------------------------------- */

static void list_head(struct api_request *q, struct buf *b) {
    const struct schema_resource *r = q->r;
    if (q->accept.form == FORM_TABLE)
        buf_puts(b, "{\"kind\":\"Table\",\"apiVersion\":\"meta.k8s.io/v1\"");
    else if (q->accept.form == FORM_PARTIAL)
        buf_puts(b, "{\"kind\":\"PartialObjectMetadataList\",\"apiVersion\":\"meta.k8s.io/v1\"");
    else
        buf_printf(b, "{\"kind\":\"%.*s\",\"apiVersion\":\"%.*s%s%.*s\"", STR_ARG(r->list_kind), STR_ARG(r->group),
                   r->group.n ? "/" : "", STR_ARG(r->version));
    buf_printf(b, ",\"metadata\":{\"resourceVersion\":\"%.*s\"", STR_ARG(q->list_version));
    if (q->list_continue.n)
        buf_printf(b, ",\"continue\":\"%.*s\"", STR_ARG(q->list_continue));
    if (q->list_remaining > 0)
        buf_printf(b, ",\"remainingItemCount\":%lld", (long long)q->list_remaining);
    buf_putc(b, '}');
    if (q->accept.form == FORM_TABLE) {
        buf_puts(b, ",\"columnDefinitions\":");
        table_columns_put(b, q->arena, r);
    }
    buf_puts(b, q->accept.form == FORM_TABLE ? ",\"rows\":[" : ",\"items\":[");
}

/* Large lists of stored objects go out as they are, piece by piece. */
static void send_pieces(struct api_request *q, struct buf *head) {
    size_t n = 0;
    struct blob **pieces = xcalloc(2 * q->objects_n + 2, sizeof(*pieces)), *comma = blob_static(STR(","));
    pieces[n++] = buf_blob(head);
    for (size_t i = 0; i < q->objects_n; i++) {
        if (i)
            pieces[n++] = blob_ref(comma);
        pieces[n++] = blob_ref(&q->objects[i]->blob);
    }
    pieces[n++] = blob_static(STR("]}\n"));
    blob_unref(comma);
    objects_drop(q);
    reply_pieces(q, 200, "application/json", pieces, n);
    free(pieces);
}

static void encode_list(void *arg) {
    struct api_request *q = arg;
    struct buf b;
    buf_init(&b, MiB(1024));
    struct error err = {0};
    bool stored = q->r == q->r->storage && q->accept.form == FORM_OBJECT;
    size_t total = 0;
    for (size_t i = 0; i < q->objects_n; i++)
        total += q->objects[i]->blob.bytes.n + 1;
    list_head(q, &b);
    if (stored && q->accept.media == MEDIA_JSON && total > JOIN_BYTES) {
        send_pieces(q, &b);
        return;
    }
    if (stored)
        buf_reserve(&b, total + 8);
    struct arena *scratch = arena_new(0, 0);
    int rc = 0;
    for (size_t i = 0; i < q->objects_n && rc == 0; i++) {
        if (i)
            buf_putc(&b, ',');
        if (arena_used(scratch) > MiB(4)) {
            arena_free(scratch);
            scratch = arena_new(0, 0);
        }
        rc = form_object(&b, scratch, q->r, q->accept.form, request_param(q, "includeObject"), q->objects[i], &err);
    }
    arena_free(scratch);
    buf_puts(&b, "]}");
    objects_drop(q);
    if (rc < 0) {
        buf_fini(&b);
        reply_error(q, 500, "InternalError", "Internal error occurred: %s", err.msg);
        return;
    }
    reply_text(q, 200, &b);
}

void reply_list(struct api_request *q) {
    q->ops->on_io(q, encode_list);
}
