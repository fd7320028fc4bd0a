#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "net/spdy.h"

static struct buf seen = BUF_INIT;

static int on_syn(void *arg, uint32_t id, const struct http_header *headers, size_t n, bool fin) {
    buf_printf(&seen, "syn %u%s", id, fin ? " fin" : "");
    for (size_t i = 0; i < n; i++)
        buf_printf(&seen, " %.*s=%.*s", STR_ARG(headers[i].name), STR_ARG(headers[i].value));
    buf_puts(&seen, "\n");
    return 0;
}
static struct str last_data;
static int on_data(void *arg, uint32_t id, struct str data, bool fin) {
    last_data = data;
    buf_printf(&seen, "data %u [%.*s]%s\n", id, STR_ARG(data), fin ? " fin" : "");
    return 0;
}
static int on_reset(void *arg, uint32_t id) {
    buf_printf(&seen, "reset %u\n", id);
    return 0;
}
static int on_ping(void *arg, uint32_t id) {
    buf_printf(&seen, "ping %u\n", id);
    return 0;
}
static int on_goaway(void *arg) {
    buf_puts(&seen, "goaway\n");
    return 0;
}
static const struct spdy_decoder_ops ops = {on_syn, on_data, on_reset, on_ping, on_goaway};

static void put_u32(struct buf *b, uint32_t v) {
    const char be[4] = {(char)(v >> 24), (char)(v >> 16), (char)(v >> 8), (char)v};
    buf_put(b, be, 4);
}

static void put_control(struct buf *b, unsigned type, unsigned flags, const struct buf *body) {
    put_u32(b, 0x80030000u | type);
    put_u32(b, flags << 24 | (uint32_t)body->n);
    buf_put_str(b, buf_str(body));
}

static int run(struct str bytes, size_t piece) {
    struct spdy_decoder *d = spdy_decoder_new(&ops, NULL);
    int rc = 0;
    buf_reset(&seen);
    for (size_t at = 0; at < bytes.n && !rc; at += piece)
        rc = spdy_decoder_feed(d, str_n(bytes.p + at, MIN(piece, bytes.n - at)));
    spdy_decoder_free(d);
    return rc;
}

/* What zlib makes of {"streamtype": ["error"]} and, on the same connection, {"streamtype": ["stdin"]}: a deflate
 * stream with the preset dictionary, sync-flushed behind each block. */
static void put_go_syn(struct buf *b, int which) {
    static const unsigned char blocks[2][64] = {
#include "spdy_blocks.inc"
    };
    static const size_t sizes[2] = {
#include "spdy_sizes.inc"
    };
    cleanup_buf struct buf body = BUF_INIT;
    put_u32(&body, (uint32_t)(1 + 2 * which));
    put_u32(&body, 0);
    buf_put(&body, "\0\0", 2);
    buf_put(&body, blocks[which], sizes[which]);
    put_control(b, SPDY_SYN_STREAM, 0, &body);
}

static void compressed_headers_are_read_in_any_pieces(void **state) {
    cleanup_buf struct buf b = BUF_INIT;
    put_go_syn(&b, 0);
    put_go_syn(&b, 1);
    for (size_t piece = 1; piece <= b.n; piece++) {
        assert_int_equal(run(buf_str(&b), piece), 0);
        assert_string_equal(seen.p, "syn 1 streamtype=error\nsyn 3 streamtype=stdin\n");
    }
}

static void what_we_write_can_be_read(void **state) {
    cleanup_buf struct buf b = BUF_INIT;
    bool started = false;
    const struct http_header h[] = {{STR("streamtype"), STR("data")},
                                    {STR("port"), STR("80")},
                                    {STR("empty"), STR("")}};
    for (uint32_t id = 1; id < 6; id += 2) {
        cleanup_buf struct buf body = BUF_INIT;
        put_u32(&body, id);
        put_u32(&body, 0);
        buf_put(&body, "\0\0", 2);
        spdy_put_headers(&body, &started, h, 3);
        /* Flushed: Go's reader gives nothing out before (kubectl hung in the second answer). */
        assert_memory_equal(body.p + body.n - 5, "\0\0\0\xff\xff", 5);
        put_control(&b, SPDY_SYN_STREAM, SPDY_FLAG_FIN, &body);
    }
    assert_int_equal(run(buf_str(&b), 7), 0);
    assert_string_equal(seen.p, "syn 1 fin streamtype=data port=80 empty=\nsyn 3 fin streamtype=data port=80 empty=\n"
                                "syn 5 fin streamtype=data port=80 empty=\n");
}

static void other_frames(void **state) {
    cleanup_buf struct buf b = BUF_INIT, body = BUF_INIT;
    buf_put(&b, "\0\0\0\1\0\0\0\3abc", 11);
    buf_put(&b, "\0\0\0\1\1\0\0\0", 8);
    put_u32(&body, 7);
    put_control(&b, SPDY_PING, 0, &body);
    put_control(&b, SPDY_WINDOW_UPDATE, 0, &body); /* ignored */
    put_u32(&body, 5);
    put_control(&b, SPDY_RST_STREAM, 0, &body);
    put_control(&b, SPDY_GOAWAY, 0, &body);
    assert_int_equal(run(buf_str(&b), 1000), 0);
    assert_string_equal(seen.p, "data 1 [abc]\ndata 1 [] fin\nping 7\nreset 7\ngoaway\n");
}

static void bad_frames_end_the_connection(void **state) {
    cleanup_buf struct buf huge = BUF_INIT, version = BUF_INIT, junk = BUF_INIT, many = BUF_INIT, body = BUF_INIT;
    cleanup_buf struct buf bomb = BUF_INIT, lying = BUF_INIT;
    put_u32(&huge, 0x80030001u);
    put_u32(&huge, 0x00ffffff);
    assert_int_equal(run(buf_str(&huge), 8), -E2BIG);
    put_u32(&version, 0x80020006u);
    put_u32(&version, 4);
    put_u32(&version, 1);
    assert_int_equal(run(buf_str(&version), 100), -EPROTO);
    for (int i = 0; i < 40; i++)
        buf_putc(&body, (char)(i * 7));
    put_control(&junk, SPDY_SYN_STREAM, 0, &body);
    assert_int_equal(run(buf_str(&junk), 100), -EPROTO);
    /* more headers than allowed */
    struct http_header h[SPDY_HEADERS_MAX + 1];
    for (size_t i = 0; i < ARRAY_LEN(h); i++)
        h[i] = (struct http_header){STR("a"), STR("b")};
    bool started = false;
    buf_reset(&body);
    buf_put(&body, "\0\0\0\1\0\0\0\0\0\0", 10);
    spdy_put_headers(&body, &started, h, ARRAY_LEN(h));
    put_control(&many, SPDY_SYN_STREAM, 0, &body);
    assert_int_equal(run(buf_str(&many), 100), -E2BIG);
    /* a block that grows beyond its limit */
    char *big = xcalloc(1, KiB(40));
    const struct http_header one = {STR("a"), {big, KiB(40)}};
    started = false;
    buf_reset(&body);
    buf_put(&body, "\0\0\0\1\0\0\0\0\0\0", 10);
    spdy_put_headers(&body, &started, &one, 1);
    put_control(&bomb, SPDY_SYN_STREAM, 0, &body);
    assert_int_equal(run(buf_str(&bomb), 1000), -E2BIG);
    free(big);
    /* a length inside the block that points outside of it */
    const struct http_header bad = {STR("a"), STR("bbbb")};
    started = false;
    buf_reset(&body);
    buf_put(&body, "\0\0\0\1\0\0\0\0\0\0", 10);
    spdy_put_headers(&body, &started, &bad, 1);
    body.p[body.n - 10] = 100;
    put_control(&lying, SPDY_SYN_STREAM, 0, &body);
    assert_int_equal(run(buf_str(&lying), 1000), -EPROTO);
}

static int cleanup(void **state) {
    buf_fini(&seen);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(compressed_headers_are_read_in_any_pieces),
        cmocka_unit_test(what_we_write_can_be_read),
        cmocka_unit_test(other_frames),
        cmocka_unit_test(bad_frames_end_the_connection),
    };
    return cmocka_run_group_tests(tests, NULL, cleanup);
}
