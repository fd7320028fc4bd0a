#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "net/pki.h"
#include "net/ws.h"

struct seen {
    struct buf text; /* "T[abc]" for a whole text message, pieces joined by '|' */
};

static int on_piece(void *arg, enum ws_opcode op, struct str data, bool first, bool last) {
    struct seen *s = arg;
    if (first)
        buf_puts(&s->text, op == WS_TEXT ? "T[" : "B[");
    buf_put_str(&s->text, data);
    if (last)
        buf_puts(&s->text, "]");
    return 0;
}

static int on_control(void *arg, enum ws_opcode op, struct str data) {
    struct seen *s = arg;
    buf_printf(&s->text, "%d(%.*s)", (int)op, STR_ARG(data));
    return op == WS_CLOSE ? WS_NORMAL : 0;
}

static const struct ws_decoder_ops ops = {on_piece, on_control};

/* A client's frame: masked. */
static void put_frame(struct buf *b, int first_byte, const char *payload, size_t n) {
    static const unsigned char mask[4] = {0x12, 0x34, 0x56, 0x78};
    buf_putc(b, (char)first_byte);
    if (n < 126) {
        buf_putc(b, (char)(0x80 | n));
    } else {
        buf_putc(b, (char)(0x80 | 126));
        buf_putc(b, (char)(n >> 8));
        buf_putc(b, (char)n);
    }
    buf_put(b, mask, 4);
    for (size_t i = 0; i < n; i++)
        buf_putc(b, (char)(payload[i] ^ mask[i & 3]));
}

/* Feeds in pieces of the given size; returns the close code. */
static int run(struct str bytes, size_t piece, struct seen *s) {
    struct ws_decoder d;
    int rc = 0;
    *s = (struct seen){BUF_INIT};
    ws_decoder_init(&d, &ops, s);
    char *copy = xmalloc(bytes.n);
    if (bytes.n)
        memcpy(copy, bytes.p, bytes.n);
    for (size_t at = 0; at < bytes.n && !rc; at += piece)
        rc = ws_decoder_feed(&d, copy + at, MIN(piece, bytes.n - at));
    free(copy);
    return rc;
}

static void messages_arrive_however_they_are_cut(void **state) {
    cleanup_buf struct buf b = BUF_INIT;
    put_frame(&b, 0x81, "hello", 5);
    put_frame(&b, 0x02, "\0one", 4);
    put_frame(&b, 0x89, "ping", 4); /* between the fragments of a message */
    put_frame(&b, 0x00, "two", 3);
    put_frame(&b, 0x80, "", 0);
    put_frame(&b, 0x82, "", 0);
    put_frame(&b, 0x88, "\x03\xe8", 2);
    for (size_t piece = 1; piece <= b.n; piece++) {
        struct seen s;
        assert_int_equal(run(buf_str(&b), piece, &s), WS_NORMAL);
        const char want[] = "T[hello]B[\0one9(ping)two]B[]8(\x03\xe8)";
        assert_int_equal(s.text.n, sizeof(want) - 1);
        assert_memory_equal(s.text.p, want, sizeof(want) - 1);
        buf_fini(&s.text);
    }
}

static void a_long_message_is_unmasked_right(void **state) {
    cleanup_buf struct buf b = BUF_INIT;
    char *big = xmalloc(60000);
    for (size_t i = 0; i < 60000; i++)
        big[i] = (char)(i % 251);
    put_frame(&b, 0x82, big, 60000);
    for (size_t piece = 1; piece < 100; piece += 13) {
        struct seen s;
        assert_int_equal(run(buf_str(&b), piece, &s), 0);
        assert_int_equal(s.text.n, 60003);
        assert_memory_equal(s.text.p + 2, big, 60000);
        buf_fini(&s.text);
    }
    free(big);
}

static void what_the_protocol_forbids_is_refused(void **state) {
    static const struct {
        const char *what, *bytes;
        size_t n;
    } bad[] = {
        {"unmasked", "\x81\x05hello", 7},
        {"reserved bit", "\xc1\x80\0\0\0\0", 6},
        {"reserved opcode", "\x83\x80\0\0\0\0", 6},
        {"reserved control", "\x8b\x80\0\0\0\0", 6},
        {"fragmented control", "\x09\x80\0\0\0\0", 6},
        {"long control", "\x89\xfe\0\x7e\0\0\0\0", 8},
        {"continuation of nothing", "\x80\x80\0\0\0\0", 6},
        {"message inside a message", "\x01\x80\0\0\0\0\x01\x80\0\0\0\0", 12},
        {"length with its top bit", "\x82\xff\x80\0\0\0\0\0\0\0\0\0\0\0", 14},
    };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct seen s;
        if (run(str_n(bad[i].bytes, bad[i].n), 100, &s) != WS_PROTOCOL_ERROR)
            fail_msg("%s passed", bad[i].what);
        buf_fini(&s.text);
    }
}

static void heads_have_the_shortest_length(void **state) {
    unsigned char h[10];
    assert_int_equal(ws_encode_head(h, WS_BINARY, 125), 2);
    assert_memory_equal(h, "\x82\x7d", 2);
    assert_int_equal(ws_encode_head(h, WS_TEXT, 126), 4);
    assert_memory_equal(h, "\x81\x7e\x00\x7e", 4);
    assert_int_equal(ws_encode_head(h, WS_BINARY, 65536), 10);
    assert_memory_equal(h, "\x82\x7f\0\0\0\0\0\1\0\0", 10);
}

static void the_handshake_of_the_rfc(void **state) {
    cleanup_arena struct arena *a = arena_new(0, 0);
    struct http_header h[] = {{STR("connection"), STR("keep-alive, Upgrade")},
                              {STR("Upgrade"), STR("WebSocket")},
                              {STR("Sec-WebSocket-Version"), STR("13")},
                              {STR("Sec-WebSocket-Key"), STR("dGhlIHNhbXBsZSBub25jZQ==")}};
    struct http_request r = {.method = STR("GET"), .headers = h, .headers_n = 4, .arena = a};
    struct str accept;
    struct error err;
    assert_true(ws_is_upgrade(&r));
    assert_int_equal(ws_accept_key(&r, &accept, &err), 0);
    assert_true(str_eq(accept, STR("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")));
    h[3].value = STR("c2hvcnQ=");
    assert_int_equal(ws_accept_key(&r, &accept, &err), -EINVAL);
    h[3].value = STR("dGhlIHNhbXBsZSBub25jZQ==");
    h[2].value = STR("8");
    assert_int_equal(ws_accept_key(&r, &accept, &err), -EINVAL);
    h[0].value = STR("close");
    assert_false(ws_is_upgrade(&r));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(messages_arrive_however_they_are_cut),
        cmocka_unit_test(a_long_message_is_unmasked_right),
        cmocka_unit_test(what_the_protocol_forbids_is_refused),
        cmocka_unit_test(heads_have_the_shortest_length),
        cmocka_unit_test(the_handshake_of_the_rfc),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
