/* Answers, as the client reads them, in pieces: the first byte of the input is the size of the pieces. */
#include <stdlib.h>

#include "net/http_parse.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct state {
    struct http_parser p;
    size_t body;
};

static struct arena *on_begin(void *arg) {
    struct state *s = arg;
    arena_free(s->p.arena);
    s->body = 0;
    return arena_new(1024, MiB(1));
}
static int on_head(void *arg) {
    struct state *s = arg;
    for (size_t i = 0; i < s->p.headers_n; i++) {
        REQUIRE(http_is_token(s->p.headers[i].name));
        REQUIRE(!memchr(s->p.headers[i].value.p, '\n', s->p.headers[i].value.n));
        REQUIRE(!memchr(s->p.headers[i].value.p, '\r', s->p.headers[i].value.n));
    }
    struct str path;
    struct http_request r = {.query = s->p.target, .arena = s->p.arena};
    http_percent_decode(s->p.arena, s->p.target, false, &path);
    http_query_get(&r, "watch");
    http_header_has_token(s->p.headers, s->p.headers_n, "Connection", "upgrade");
    return 0;
}
static int on_body(void *arg, struct str data) {
    struct state *s = arg;
    s->body += data.n;
    return 0;
}
static void on_complete(void *arg, bool upgrade) {}
static const struct http_parser_ops ops = {on_begin, on_head, on_body, on_complete};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct state s = {0};
    static const struct http_message_limits limits = {.head_bytes = 4096, .body_bytes = 4096, .headers = 16};
    if (!size)
        return 0;
    size_t piece = data[0] ? data[0] : 1;
    struct str rest = str_n((const char *)data + 1, size - 1);
    http_parser_init(&s.p, false, &limits, &ops, &s);
    bool dead = false;
    while (rest.n && !dead) {
        /* A copy of exactly the piece, so that a look beyond it is seen. */
        size_t n = MIN(piece, rest.n);
        char *copy = xmalloc(n);
        memcpy(copy, rest.p, n);
        rest = str_skip(rest, n);
        for (size_t at = 0; at < n && !dead;) {
            size_t used = 0;
            dead = http_parser_feed(&s.p, str_n(copy + at, n - at), &used) == HTTP_PARSE_ERROR;
            REQUIRE(used <= n - at);
            at += used;
        }
        free(copy);
    }
    if (!dead)
        http_parser_eof(&s.p);
    arena_free(s.p.arena);
    http_parser_fini(&s.p);
    return 0;
}
