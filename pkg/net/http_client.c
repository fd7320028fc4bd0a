#include "net/http.h"

#include <stdlib.h>

#include "net/http_client_priv.h"

/* --- URLs --------------------------------------------------------------------------------------------------------- */

static int url_authority(struct arena *a, struct str authority, struct url *u) {
    struct str host = authority, port = STR_NULL;
    uint64_t number;
    if (authority.n && authority.p[0] == '[') {
        ptrdiff_t end = str_index(authority, ']', 0);
        if (end < 2)
            return -EINVAL;
        host = str_n(authority.p + 1, (size_t)end - 1);
        struct str rest = str_skip(authority, (size_t)end + 1);
        if (rest.n && rest.p[0] != ':')
            return -EINVAL;
        port = rest.n ? str_skip(rest, 1) : STR_NULL;
    } else {
        str_cut(authority, ':', &host, &port);
    }
    if (!host.n || host.n > 253 || memchr(authority.p, '@', authority.n))
        return -EINVAL;
    u->port = u->tls ? 443 : 80;
    if (port.n) {
        if (!str_to_u64(port, &number) || number == 0 || number > 65535)
            return -EINVAL;
        u->port = (uint16_t)number;
    }
    u->host = str_lower(a, host);
    u->authority = authority;
    return 0;
}

int url_parse(struct arena *a, struct str text, struct url *out, struct error *err) {
    static const struct {
        struct str scheme;
        bool tls, is_unix;
    } schemes[] = {{STR_INIT("http://"), false, false},
                   {STR_INIT("https://"), true, false},
                   {STR_INIT("http+unix://"), false, true}};
    struct url u = {0};
    struct str rest = STR_NULL;
    bool is_unix = false;
    for (size_t i = 0; i < ARRAY_LEN(schemes) && !rest.p; i++) {
        if (str_starts(text, schemes[i].scheme)) {
            rest = str_skip(text, schemes[i].scheme.n);
            u.tls = schemes[i].tls;
            is_unix = schemes[i].is_unix;
        }
    }
    if (!rest.p || text.n > KiB(16))
        return error_set(err, -EINVAL, "not an http or https URL: %.*s", (int)MIN(text.n, 200), text.p ? text.p : "");
    for (size_t i = 0; i < rest.n; i++) {
        if ((unsigned char)rest.p[i] <= ' ' || rest.p[i] == 0x7f)
            return error_set(err, -EINVAL, "a URL with a blank or control character");
    }
    ptrdiff_t fragment = str_index(rest, '#', 0);
    if (fragment >= 0)
        rest.n = (size_t)fragment;
    size_t n = 0;
    while (n < rest.n && rest.p[n] != '/' && rest.p[n] != '?')
        n++;
    struct str authority = str_dup(a, str_n(rest.p, n)), target = str_skip(rest, n);
    u.target = target.n && target.p[0] == '/' ? str_dup(a, target) : str_printf(a, "/%.*s", STR_ARG(target));
    struct address check;
    if (is_unix) {
        if (!http_percent_decode(a, authority, false, &u.unix_path) || address_unix(u.unix_path, &check))
            return error_set(err, -EINVAL, "not a socket path in a URL: %.*s", STR_ARG(authority));
        u.authority = STR("localhost");
    } else if (url_authority(a, authority, &u)) {
        return error_set(err, -EINVAL, "not a host and port in a URL: %.*s", STR_ARG(authority));
    }
    *out = u;
    return 0;
}

/* --- the pool ----------------------------------------------------------------------------------------------------- */

static bool client_is_empty(const struct http_client *c) {
    return c->links_n == 0 && list_empty(&c->calls);
}

static void client_free(void *arg) {
    struct http_client *c = arg;
    c->freeing = false;
    if (!client_is_empty(c))
        return;
    map_fini(&c->origins);
    tls_config_unref(c->o.tls);
    free(c);
}

/* Later, so that whoever is up the stack may finish with it. */
static void client_free_when_empty(struct http_client *c) {
    if (!c->closing || c->freeing || !client_is_empty(c))
        return;
    c->freeing = true;
    loop_post(c->o.loop, client_free, c);
}

static struct http_origin *origin_get(struct http_client *c, struct arena *a, const struct url *u) {
    struct str key = u->unix_path.n ? str_printf(a, "unix:%.*s", STR_ARG(u->unix_path))
                                    : str_printf(a, "%d:%.*s:%u", u->tls, STR_ARG(u->host), u->port);
    struct http_origin *o = map_get(&c->origins, key);
    if (!o) {
        o = XNEW(struct http_origin);
        o->client = c;
        o->key = xstrndup(key.p, key.n);
        list_init(&o->idle);
        list_init(&o->waiting);
        map_set(&c->origins, key, o);
    }
    return o;
}

static void origin_unuse(struct http_origin *o) {
    if (o->links_n || o->calls_n)
        return;
    map_del(&o->client->origins, str_c(o->key));
    free(o->key);
    free(o);
}

static void call_connect(struct http_call *call) {
    struct http_origin *o = call->origin;
    struct list *free_link = list_empty(&o->idle) ? NULL : o->idle.prev; /* the warmest */
    if (free_link)
        http_link_use(http_link_of(free_link), call);
    else if (o->links_n < call->client->o.connections_per_host)
        http_link_open(call->client, o, call);
    else
        list_push_back(&o->waiting, &call->waiting);
}

static void serve_waiting(struct http_origin *o) {
    struct list *it;
    if (list_empty(&o->idle) && o->links_n >= o->client->o.connections_per_host)
        return;
    if ((it = list_pop_front(&o->waiting)))
        call_connect(LIST_ITEM(it, struct http_call, waiting));
}

void http_link_idle(struct http_link *k) {
    struct http_origin *o = http_link_origin(k);
    if (o->client->closing) {
        http_link_close(k);
        return;
    }
    list_push_back(&o->idle, http_link_pool(k));
    serve_waiting(o);
}

void http_link_gone(struct http_link *k) {
    struct http_origin *o = http_link_origin(k);
    struct http_client *c = o->client;
    list_remove(http_link_pool(k));
    list_remove(http_link_all(k));
    o->links_n--;
    c->links_n--;
    serve_waiting(o);
    origin_unuse(o);
    client_free_when_empty(c);
}

/* --- calls -------------------------------------------------------------------------------------------------------- */

/* The last act of every call: tells, and goes. */
static void call_end(struct http_call *call) {
    struct http_client *c = call->client;
    timer_stop(&call->timer);
    list_remove(&call->waiting);
    list_remove(&call->link);
    if (call->origin) {
        call->origin->calls_n--;
        origin_unuse(call->origin);
    }
    if (call->code && !call->err.code)
        error_sys(&call->err, call->code, "request ended");
    if (call->code)
        error_wrap(&call->err, "%.*s", (int)MIN(call->what.n, 200), call->what.p);
    if (call->ev.on_done)
        call->ev.on_done(call->ev.arg, call->code, call->code ? &call->err : NULL);
    blob_unref(call->request);
    arena_free(call->arena);
    client_free_when_empty(c);
}

void http_call_done(struct http_call *call) {
    call->via = NULL;
    call->over = true;
    call_end(call);
}

/* A failure may come up inside the caller's own call into us: it is told on the next turn. */
void http_call_fail(struct http_call *call, int code, const struct error *err) {
    if (call->over)
        return;
    call->over = true;
    call->via = NULL;
    call->code = code;
    if (err)
        call->err = *err;
    list_remove(&call->waiting);
    timer_set(&call->timer, 0, 0);
}

void http_call_again(struct http_call *call) {
    call->via = NULL;
    call->retried = true;
    call_connect(call);
}

void http_call_active(struct http_call *call) {
    call->active_ms = loop_now_ms(call->client->o.loop);
}

static void on_timer(void *arg) {
    struct http_call *call = arg;
    int64_t idle = call->client->o.idle_timeout_ms;
    int64_t left = call->active_ms + idle - loop_now_ms(call->client->o.loop);
    if (call->over) {
        call_end(call);
    } else if (call->paused || !list_empty(&call->waiting)) { /* our own pace is no fault of the server */
        http_call_active(call);
        timer_set(&call->timer, idle, idle / 10);
    } else if (left > 0) {
        timer_set(&call->timer, left, idle / 10);
    } else {
        struct error err;
        struct http_link *k = TAKE_PTR(call->via);
        if (k)
            http_link_drop_call(k);
        error_set(&err, -ETIMEDOUT, "no answer for %lld s", (long long)(idle / 1000));
        http_call_fail(call, -ETIMEDOUT, &err);
    }
}

static bool header_is_clean(const struct http_header *h) {
    return http_is_token(h->name) && !memchr(h->value.p ? h->value.p : "", '\r', h->value.n) &&
           !memchr(h->value.p ? h->value.p : "", '\n', h->value.n) &&
           !memchr(h->value.p ? h->value.p : "", 0, h->value.n);
}

static int write_request(struct http_call *call, const char *method, const struct http_header *headers,
                         size_t headers_n, struct str body, struct error *err) {
    cleanup_buf struct buf b = {.limit = MiB(64) + body.n};
    bool wants_length =
        body.n || strcmp(method, "POST") == 0 || strcmp(method, "PUT") == 0 || strcmp(method, "PATCH") == 0;
    if (!http_is_token(str_c(method)))
        return error_set(err, -EINVAL, "not a method: %s", method);
    buf_printf(&b, "%s %.*s HTTP/1.1\r\n", method, STR_ARG(call->url.target));
    if (!http_find_header(headers, headers_n, "Host").n)
        buf_printf(&b, "Host: %.*s\r\n", STR_ARG(call->url.authority));
    for (size_t i = 0; i < headers_n; i++) {
        if (!header_is_clean(&headers[i]))
            return error_set(err, -EINVAL, "a header with characters that no header may have");
        if (str_eq_nocase(headers[i].name, STR("Content-Length")) ||
            str_eq_nocase(headers[i].name, STR("Transfer-Encoding")))
            continue;
        buf_put_str(&b, headers[i].name);
        buf_puts(&b, ": ");
        buf_put_str(&b, headers[i].value);
        buf_puts(&b, "\r\n");
    }
    if (wants_length)
        buf_printf(&b, "Content-Length: %zu\r\n", body.n);
    buf_puts(&b, "\r\n");
    buf_put_str(&b, body);
    if (b.failed)
        return error_set(err, -E2BIG, "request too large");
    size_t n;
    char *p = buf_steal(&b, &n);
    call->request = blob_take(p, n);
    return 0;
}

struct http_call *http_client_start(struct http_client *c, const char *method, const char *url,
                                    const struct http_header *headers, size_t headers_n, struct str body,
                                    const struct http_call_events *events) {
    static const char *const idempotent[] = {"GET", "HEAD", "PUT", "DELETE", "OPTIONS"};
    struct arena *a = arena_new(0, MiB(1));
    struct http_call *call = ARENA_NEW(a, struct http_call);
    struct error err = {0};
    call->arena = a;
    call->client = c;
    call->ev = *events;
    call->head_only = strcmp(method, "HEAD") == 0;
    for (size_t i = 0; i < ARRAY_LEN(idempotent); i++)
        call->idempotent |= strcmp(method, idempotent[i]) == 0;
    call->what = str_printf(a, "%s %.*s", method, (int)strnlen(url, 300), url);
    list_init(&call->waiting);
    list_push_back(&c->calls, &call->link);
    timer_init(&call->timer, c->o.loop, on_timer, call);
    int rc = url_parse(a, str_c(url), &call->url, &err);
    if (!rc)
        rc = write_request(call, method, headers, headers_n, body, &err);
    if (!rc && c->closing)
        rc = -ECANCELED;
    if (rc) {
        http_call_fail(call, rc, &err);
        return call;
    }
    call->origin = origin_get(c, a, &call->url);
    call->origin->calls_n++;
    http_call_active(call);
    timer_set(&call->timer, c->o.idle_timeout_ms, c->o.idle_timeout_ms / 10);
    call_connect(call);
    return call;
}

struct http_call *http_client_upgrade(struct http_client *c, const char *method, const char *url,
                                      const struct http_header *headers, size_t headers_n, struct str body,
                                      const struct http_call_events *events,
                                      void (*on_upgrade)(void *arg, const struct http_header *headers, size_t n,
                                                         struct stream *s)) {
    struct http_call *call = http_client_start(c, method, url, headers, headers_n, body, events);
    call->on_upgrade = on_upgrade;
    call->idempotent = false; /* what was said over a tunnel is not said again */
    return call;
}

void http_call_cancel(struct http_call *call) {
    struct error err;
    struct http_link *k = TAKE_PTR(call->via);
    if (call->over)
        return;
    if (k)
        http_link_drop_call(k);
    error_set(&err, -ECANCELED, "cancelled");
    http_call_fail(call, -ECANCELED, &err);
}

void http_call_pause(struct http_call *call, bool pause) {
    if (call->over || call->paused == pause)
        return;
    call->paused = pause;
    http_call_active(call);
    if (call->via)
        http_link_pause(call->via, pause);
}

/* --- the client --------------------------------------------------------------------------------------------------- */

struct http_client *http_client_new(const struct http_client_options *o) {
    struct http_client *c = XNEW(struct http_client);
    c->o = *o;
    c->o.connect_timeout_ms = o->connect_timeout_ms ? o->connect_timeout_ms : 10000;
    c->o.idle_timeout_ms = o->idle_timeout_ms ? o->idle_timeout_ms : 30000;
    c->o.connections_per_host = o->connections_per_host ? o->connections_per_host : 8;
    if (c->o.tls)
        tls_config_ref(c->o.tls);
    list_init(&c->calls);
    list_init(&c->links);
    return c;
}

void http_client_free(struct http_client *c) {
    if (!c || c->closing)
        return;
    c->closing = true;
    LIST_FOREACH (it, &c->calls) {
        struct http_call *call = LIST_ITEM(it, struct http_call, link);
        list_remove(&call->waiting);
        http_call_cancel(call);
    }
    while (!list_empty(&c->links))
        http_link_close(http_link_of_all(c->links.next));
    client_free_when_empty(c);
}
