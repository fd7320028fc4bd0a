#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "net/http_parse.h"

struct state {
    struct http_parser p;
    struct buf text;
};

static struct arena *on_begin(void *arg) {
    struct state *s = arg;
    arena_free(s->p.arena);
    return arena_new(0, 0);
}
static int on_head(void *arg) {
    struct state *s = arg;
    buf_printf(&s->text, "%.*s", STR_ARG(s->p.target));
    for (size_t i = 0; i < s->p.headers_n; i++)
        buf_printf(&s->text, " %.*s=%.*s", STR_ARG(s->p.headers[i].name), STR_ARG(s->p.headers[i].value));
    buf_puts(&s->text, " [");
    return 0;
}
static int on_body(void *arg, struct str data) {
    struct state *s = arg;
    buf_put_str(&s->text, data);
    return 0;
}
static void on_complete(void *arg, bool upgrade) {
    struct state *s = arg;
    buf_puts(&s->text, upgrade ? "]u" : "]");
}
static const struct http_parser_ops ops = {on_begin, on_head, on_body, on_complete};

static enum http_parse_result run(struct state *s, bool request, struct str rest, size_t piece) {
    enum http_parse_result rc = HTTP_PARSE_MORE;
    *s = (struct state){.text = BUF_INIT};
    http_parser_init(&s->p, request, NULL, &ops, s);
    while (rest.n && rc != HTTP_PARSE_ERROR) {
        size_t n = MIN(piece, rest.n), at = 0;
        char *copy = xmalloc(n);
        memcpy(copy, rest.p, n);
        while (at < n && rc != HTTP_PARSE_ERROR) {
            size_t used = 0;
            rc = http_parser_feed(&s->p, str_n(copy + at, n - at), &used);
            at += used;
        }
        rest = str_skip(rest, n);
        free(copy);
    }
    return rc;
}

static void done(struct state *s) {
    arena_free(s->p.arena);
    http_parser_fini(&s->p);
    buf_fini(&s->text);
}

static void requests_are_the_same_in_any_pieces(void **state) {
    static const struct str text = STR_INIT(
        "POST /a?b=c HTTP/1.1\r\nHost: example\r\nX-Empty:\r\nX-Padded:  v w \t \r\nContent-Length: 4\r\n\r\nbody"
        "PUT / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3;a=b\r\nabc\r\n1\r\nd\r\n0\r\nTrailer: t\r\n\r\n");
    for (size_t piece = 1; piece <= text.n; piece++) {
        struct state s;
        assert_int_not_equal(run(&s, true, text, piece), HTTP_PARSE_ERROR);
        assert_string_equal(s.text.p, "/a?b=c Host=example X-Empty= X-Padded=v w Content-Length=4 [body]"
                                      "/ Host=h Transfer-Encoding=chunked [abcd]");
        done(&s);
    }
}

static void folded_lines_are_refused_in_any_pieces(void **state) {
    static const struct str bad[] = {STR_INIT("GET / HTTP/1.1\r\nHost: h\r\nX: a\r\n b\r\n\r\n"),
                                     STR_INIT("GET / HTTP/1.1\r\nHost: h\r\nX: a\r\n\tb\r\n\r\n"),
                                     STR_INIT("GET / HTTP/1.1\r\nHost: h\r\nX:\r\n b\r\n\r\n"),
                                     STR_INIT("GET / HTTP/1.1\r\nHost: h\r\nX: a\nY: b\r\n\r\n"),
                                     STR_INIT("GET / HTTP/1.1\r\nHost: h\r\nX: a\rY: b\r\n\r\n")};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        for (size_t piece = 1; piece <= bad[i].n; piece++) {
            struct state s;
            if (run(&s, true, bad[i], piece) != HTTP_PARSE_ERROR)
                fail_msg("request %zu in pieces of %zu was read as: %s", i, piece, s.text.p);
            assert_int_equal(s.p.status, 400);
            done(&s);
        }
    }
}

static void answers_until_the_end_are_complete_only_at_it(void **state) {
    struct state s;
    assert_int_equal(run(&s, false, STR("HTTP/1.0 200 OK\r\n\r\nabc"), 3), HTTP_PARSE_MORE);
    assert_string_equal(s.text.p, " [abc");
    assert_true(http_parser_eof(&s.p));
    assert_string_equal(s.text.p, " [abc]");
    done(&s);
    assert_int_equal(run(&s, false, STR("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabc"), 100), HTTP_PARSE_MORE);
    assert_false(http_parser_eof(&s.p));
    done(&s);
}

static void percent_decoding(void **state) {
    cleanup_arena struct arena *a = arena_new(0, 0);
    struct str out;
    assert_true(http_percent_decode(a, STR("a%2Fb+c%20"), false, &out));
    assert_true(str_eq(out, STR("a/b+c ")));
    assert_true(http_percent_decode(a, STR("a+b%2b"), true, &out));
    assert_true(str_eq(out, STR("a b+")));
    static const struct str bad[] = {STR_INIT("%"), STR_INIT("%2"), STR_INIT("%g0"), STR_INIT("a%2"), STR_INIT("%%20")};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_false(http_percent_decode(a, bad[i], false, &out));
    const struct http_request r = {.query = STR("watch&a=1&b=%zz&c=&a=2&=x"), .arena = a};
    assert_true(str_eq(http_query_get(&r, "a"), STR("1")));
    assert_non_null(http_query_get(&r, "watch").p);
    assert_int_equal(http_query_get(&r, "watch").n, 0);
    assert_non_null(http_query_get(&r, "c").p);
    assert_null(http_query_get(&r, "b").p);
    assert_null(http_query_get(&r, "d").p);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(requests_are_the_same_in_any_pieces),
        cmocka_unit_test(folded_lines_are_refused_in_any_pieces),
        cmocka_unit_test(answers_until_the_end_are_complete_only_at_it),
        cmocka_unit_test(percent_decoding),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
