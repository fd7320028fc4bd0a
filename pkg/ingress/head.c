/* Heads of messages rewritten on their way (RFC 9110 7.6). */
#include "ingress/proxy.h"

static const struct str hop_by_hop[] = {
    STR_INIT("Connection"), STR_INIT("Keep-Alive"), STR_INIT("Proxy-Connection"), STR_INIT("Transfer-Encoding"),
    STR_INIT("TE"),         STR_INIT("Trailer"),    STR_INIT("Upgrade"),          STR_INIT("HTTP2-Settings"),
};
/* What only a proxy may say: from a client it could be a lie. */
static const struct str of_proxies[] = {
    STR_INIT("X-Forwarded-For"),  STR_INIT("X-Forwarded-Proto"),  STR_INIT("X-Forwarded-Host"),
    STR_INIT("X-Forwarded-Port"), STR_INIT("X-Forwarded-Server"), STR_INIT("X-Forwarded-Scheme"),
    STR_INIT("X-Forwarded-Ssl"),  STR_INIT("X-Real-Ip"),          STR_INIT("Forwarded"),
};
/* Written anew, whatever Connection says about them. */
static const struct str framing[] = {STR_INIT("Host"), STR_INIT("Content-Length")};

static bool is_among(struct str name, const struct str *set, size_t n) {
    for (size_t i = 0; i < n; i++) {
        if (name.n == set[i].n && str_eq_nocase(name, set[i]))
            return true;
    }
    return false;
}

static bool is_token_of_connection(const struct http_header *h, size_t n, struct str name) {
    for (size_t i = 0; i < n; i++) {
        struct str rest = h[i].value;
        if (!str_eq_nocase(h[i].name, STR("Connection")))
            continue;
        while (rest.p) {
            if (str_eq_nocase(str_trim(str_split(&rest, ',')), name))
                return true;
        }
    }
    return false;
}

static void put(struct buf *out, struct str name, struct str value) {
    buf_put_str(out, name);
    buf_puts(out, ": ");
    buf_put_str(out, value);
    buf_puts(out, "\r\n");
}

static void put_passed(struct buf *out, const struct http_header *h, size_t n, bool request) {
    bool listed = http_find_header(h, n, "Connection").n > 0;
    for (size_t i = 0; i < n; i++) {
        struct str name = h[i].name;
        if (is_among(name, hop_by_hop, ARRAY_LEN(hop_by_hop)) || is_among(name, framing, ARRAY_LEN(framing)))
            continue;
        if (request && is_among(name, of_proxies, ARRAY_LEN(of_proxies)))
            continue;
        if (!listed || !is_token_of_connection(h, n, name))
            put(out, name, h[i].value);
    }
}

/* --- requests ----------------------------------------------------------------------------------------------------- */

static void put_forwarded(struct call *call, struct buf *out) {
    struct str ip = str_c(front_ip(call->f));
    bool tls = front_is_tls(call->f);
    ptrdiff_t colon = str_rindex(call->host, ':');
    struct str port = colon > str_rindex(call->host, ']') ? str_skip(call->host, (size_t)colon + 1) : STR("");
    put(out, STR("X-Forwarded-For"), ip);
    put(out, STR("X-Real-Ip"), ip);
    put(out, STR("X-Forwarded-Proto"), tls ? STR("https") : STR("http"));
    put(out, STR("X-Forwarded-Host"), call->host);
    if (port.n)
        put(out, STR("X-Forwarded-Port"), port);
    else
        put(out, STR("X-Forwarded-Port"), tls ? STR("443") : STR("80"));
}

void head_for_back(struct call *call) {
    struct buf *out = &call->head;
    buf_reset(out);
    buf_put_str(out, call->method);
    buf_putc(out, ' ');
    buf_put_str(out, call->target);
    buf_puts(out, " HTTP/1.1\r\n");
    put(out, STR("Host"), call->host);
    put_passed(out, call->headers, call->headers_n, true);
    put_forwarded(call, out);
    if (call->chunked)
        buf_puts(out, "Transfer-Encoding: chunked\r\n");
    else if (call->has_length)
        buf_printf(out, "Content-Length: %llu\r\n", (unsigned long long)call->length);
    if (call->upgrade.n) {
        buf_puts(out, "Connection: Upgrade\r\n");
        put(out, STR("Upgrade"), call->upgrade);
    }
    buf_puts(out, "\r\n");
}

/* --- answers ------------------------------------------------------------------------------------------------------ */

static void put_framing(struct call *call, struct buf *out, int status, const struct http_parser *a) {
    struct str length = http_find_header(a->headers, a->headers_n, "Content-Length");
    call->no_body = call->head_only || status < 200 || status == 204 || status == 304;
    if (length.n && status != 204) {
        put(out, STR("Content-Length"), length);
        return;
    }
    if (call->no_body)
        return;
    call->answer_chunked = !call->http10;
    call->answer_open_end = call->http10;
    if (call->answer_chunked)
        buf_puts(out, "Transfer-Encoding: chunked\r\n");
}

void head_for_front(struct call *call, struct buf *out, int status, struct str reason, const struct http_parser *a) {
    buf_printf(out, "HTTP/1.1 %d %.*s\r\n", status, STR_ARG(reason));
    put_passed(out, a->headers, a->headers_n, false);
    if (status == 101) {
        buf_puts(out, "Connection: Upgrade\r\n");
        put(out, STR("Upgrade"), http_find_header(a->headers, a->headers_n, "Upgrade"));
        buf_puts(out, "\r\n");
        return;
    }
    put_framing(call, out, status, a);
    if (call->answer_open_end)
        call->keep_alive = false;
    if (!call->keep_alive)
        buf_puts(out, "Connection: close\r\n");
    else if (call->http10)
        buf_puts(out, "Connection: keep-alive\r\n");
    buf_puts(out, "\r\n");
}
