#include "net/http_parse.h"

#include <stdlib.h>

#define HEAD_BYTES KiB(64)
#define BODY_BYTES MiB(3)
#define HEADERS 128
#define EXTRA_BYTES KiB(16) /* chunk extensions and trailers of one message */

static struct http_parser *of(llhttp_t *ll) {
    return CONTAINER_OF(ll, struct http_parser, ll);
}

static int refuse(struct http_parser *p, int status, const char *reason) {
    if (!p->status) {
        p->status = status;
        p->reason = reason;
    }
    return HPE_USER;
}

/* --- pieces: URL, names, values ----------------------------------------------------------------------------------- */

static int span_add(struct http_parser *p, const char *at, size_t n) {
    if (!p->in_head) { /* trailers are read and dropped */
        p->extra_bytes += n;
        return p->extra_bytes > EXTRA_BYTES ? refuse(p, 431, "trailers too large") : 0;
    }
    p->head_bytes += n;
    if (p->head_bytes > p->limits.head_bytes)
        return refuse(p, 431, "request head too large");
    if (p->spill.n) {
        buf_put(&p->spill, at, n);
    } else if (!p->span.n) {
        p->span = str_n(at, n);
    } else if (p->span.p + p->span.n == at) {
        p->span.n += n;
    } else { /* a folded line would make two places of one value, RFC 9112 5.2 */
        return refuse(p, 400, "obsolete line folding");
    }
    return 0;
}

/* What was read stays in the caller's memory only until this feed returns. */
static void span_keep(struct http_parser *p) {
    if (p->span.n)
        buf_put_str(&p->spill, p->span);
    p->span = STR_NULL;
}

static int span_take(struct http_parser *p, struct str *out) {
    struct str s = p->spill.n ? buf_str(&p->spill) : p->span;
    if (p->spill.failed)
        return refuse(p, 431, "request head too large");
    char *copy = arena_try_alloc(p->arena, s.n + 1);
    if (!copy)
        return refuse(p, 431, "request head too large");
    if (s.n)
        memcpy(copy, s.p, s.n);
    *out = str_n(copy, s.n);
    p->span = STR_NULL;
    buf_reset(&p->spill);
    return 0;
}

static int on_begin(llhttp_t *ll) {
    struct http_parser *p = of(ll);
    p->target = p->span = STR_NULL;
    buf_reset(&p->spill);
    p->headers = NULL;
    p->headers_n = p->headers_cap = 0;
    p->head_bytes = p->body_bytes = p->extra_bytes = 0;
    p->in_head = true;
    p->arena = p->ops->on_begin(p->arg);
    return 0;
}

static int on_span(llhttp_t *ll, const char *at, size_t n) {
    return span_add(of(ll), at, n);
}

static int on_extra(llhttp_t *ll, const char *at, size_t n) {
    struct http_parser *p = of(ll);
    p->extra_bytes += n;
    return p->extra_bytes > EXTRA_BYTES ? refuse(p, 400, "chunk extensions too large") : 0;
}

static int on_url_complete(llhttp_t *ll) {
    return span_take(of(ll), &of(ll)->target);
}

static int header_room(struct http_parser *p) {
    if (p->headers_n == p->limits.headers)
        return refuse(p, 431, "too many headers");
    if (p->headers_n < p->headers_cap)
        return 0;
    size_t cap = p->headers_cap ? p->headers_cap * 2 : 16;
    struct http_header *h = arena_try_alloc(p->arena, cap * sizeof(*h));
    if (!h)
        return refuse(p, 431, "too many headers");
    if (p->headers_n)
        memcpy(h, p->headers, p->headers_n * sizeof(*h));
    p->headers = h;
    p->headers_cap = cap;
    return 0;
}

static int on_field_complete(llhttp_t *ll) {
    struct http_parser *p = of(ll);
    if (!p->in_head)
        return 0;
    int rc = header_room(p);
    return rc ? rc : span_take(p, &p->headers[p->headers_n].name);
}

static int on_value_complete(llhttp_t *ll) {
    struct http_parser *p = of(ll);
    if (!p->in_head)
        return 0;
    struct str value;
    int rc = span_take(p, &value);
    if (!rc)
        p->headers[p->headers_n++].value = str_trim(value);
    return rc;
}

/* --- messages ----------------------------------------------------------------------------------------------------- */

static size_t count(const struct http_parser *p, const char *name) {
    size_t n = 0;
    for (size_t i = 0; i < p->headers_n; i++)
        n += str_eq_nocase(p->headers[i].name, str_c(name));
    return n;
}

/* What llhttp lets pass and RFC 9112 (3.2, 6.1) does not. */
static int check_head(struct http_parser *p) {
    llhttp_t *ll = &p->ll;
    if (ll->flags & F_TRANSFER_ENCODING) {
        if (ll->http_major == 1 && ll->http_minor == 0)
            return refuse(p, 400, "Transfer-Encoding in HTTP/1.0");
        if (count(p, "Transfer-Encoding") != 1 ||
            !str_eq_nocase(http_find_header(p->headers, p->headers_n, "Transfer-Encoding"), STR("chunked")))
            return refuse(p, 501, "the only transfer coding understood is chunked");
        if (ll->flags & F_CONTENT_LENGTH)
            return refuse(p, 400, "Content-Length together with Transfer-Encoding");
    }
    if (ll->type != HTTP_REQUEST)
        return 0;
    if (ll->http_major != 1)
        return refuse(p, 505, "HTTP version not supported");
    size_t hosts = count(p, "Host");
    if (hosts > 1 || (hosts == 0 && ll->http_minor > 0))
        return refuse(p, 400, "a request must have one Host header");
    if ((ll->flags & F_CONTENT_LENGTH) && ll->content_length > p->limits.body_bytes)
        return refuse(p, 413, "request body too large");
    return 0;
}

static int on_headers_complete(llhttp_t *ll) {
    struct http_parser *p = of(ll);
    if (check_head(p))
        return HPE_USER;
    int rc = p->ops->on_head(p->arg);
    p->in_head = false;
    if (rc > 1) {
        refuse(p, rc, p->reason ? p->reason : http_status_text(rc));
        return -1; /* 1 and 2 have a meaning of their own here */
    }
    return rc;
}

static int on_body(llhttp_t *ll, const char *at, size_t n) {
    struct http_parser *p = of(ll);
    p->body_bytes += n;
    if (p->ll.type == HTTP_REQUEST && p->body_bytes > p->limits.body_bytes)
        return refuse(p, 413, "request body too large");
    int rc = p->ops->on_body(p->arg, str_n(at, n));
    return rc ? refuse(p, rc, http_status_text(rc)) : 0;
}

/* Every chunk costs its sender as much as it costs us: tiny ones are counted as extras. */
static int on_chunk_header(llhttp_t *ll) {
    struct http_parser *p = of(ll);
    if (p->ll.type != HTTP_REQUEST || ll->content_length >= 16)
        return 0;
    p->extra_bytes++;
    return p->extra_bytes > EXTRA_BYTES ? refuse(p, 400, "too many tiny chunks") : 0;
}

static int on_message_complete(llhttp_t *ll) {
    struct http_parser *p = of(ll);
    p->ops->on_complete(p->arg, ll->upgrade);
    return HPE_PAUSED;
}

static const llhttp_settings_t settings = {
    .on_message_begin = on_begin,
    .on_url = on_span,
    .on_url_complete = on_url_complete,
    .on_header_field = on_span,
    .on_header_field_complete = on_field_complete,
    .on_header_value = on_span,
    .on_header_value_complete = on_value_complete,
    .on_headers_complete = on_headers_complete,
    .on_body = on_body,
    .on_chunk_header = on_chunk_header,
    .on_chunk_extension_name = on_extra,
    .on_chunk_extension_value = on_extra,
    .on_message_complete = on_message_complete,
};

void http_parser_init(struct http_parser *p, bool request, const struct http_message_limits *limits,
                      const struct http_parser_ops *ops, void *arg) {
    *p = (struct http_parser){.ops = ops, .arg = arg};
    if (limits)
        p->limits = *limits;
    p->limits.head_bytes = p->limits.head_bytes ? p->limits.head_bytes : HEAD_BYTES;
    p->limits.body_bytes = p->limits.body_bytes ? p->limits.body_bytes : BODY_BYTES;
    p->limits.headers = p->limits.headers ? p->limits.headers : HEADERS;
    llhttp_init(&p->ll, request ? HTTP_REQUEST : HTTP_RESPONSE, &settings);
    buf_init(&p->spill, p->limits.head_bytes + 1);
}

void http_parser_fini(struct http_parser *p) {
    buf_fini(&p->spill);
}

enum http_parse_result http_parser_feed(struct http_parser *p, struct str data, size_t *used) {
    llhttp_errno_t e = llhttp_get_errno(&p->ll);
    if (e == HPE_PAUSED)
        llhttp_resume(&p->ll);
    e = llhttp_execute(&p->ll, data.p, data.n);
    if (e == HPE_PAUSED_UPGRADE) { /* the answer was no upgrade: HTTP goes on */
        size_t at = (size_t)(llhttp_get_error_pos(&p->ll) - data.p);
        llhttp_resume_after_upgrade(&p->ll);
        e = llhttp_execute(&p->ll, data.p + at, data.n - at);
    }
    *used = data.n;
    if (e == HPE_PAUSED) {
        *used = (size_t)(llhttp_get_error_pos(&p->ll) - data.p);
        return HTTP_PARSE_PAUSED;
    }
    if (e != HPE_OK) {
        refuse(p, 400, llhttp_get_error_reason(&p->ll));
        return HTTP_PARSE_ERROR;
    }
    if (p->in_head)
        span_keep(p);
    return HTTP_PARSE_MORE;
}

bool http_parser_eof(struct http_parser *p) {
    llhttp_errno_t e = llhttp_get_errno(&p->ll);
    if (e == HPE_PAUSED)
        llhttp_resume(&p->ll);
    e = llhttp_finish(&p->ll);
    return e == HPE_OK || e == HPE_PAUSED;
}
