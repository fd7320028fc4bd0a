#include <zlib.h>
#include <zstd.h>

#include "helper.h"

struct out {
    struct buf bytes;
    size_t calls, stop_after;
    bool too_big;
};

static int take(void *arg, struct str bytes, struct error *err) {
    struct out *o = arg;
    o->too_big |= bytes.n > INFLATE_PIECE || bytes.n == 0;
    buf_put_str(&o->bytes, bytes);
    if (o->stop_after && ++o->calls == o->stop_after)
        return error_set(err, -ENOSPC, "the disk is full");
    return 0;
}

static int count_only(void *arg, struct str bytes, struct error *err) {
    *(uint64_t *)arg += bytes.n;
    return 0;
}

static void gzip(struct buf *out, struct str in) {
    z_stream z = {0};
    assert_int_equal(deflateInit2(&z, 6, Z_DEFLATED, 16 + MAX_WBITS, 8, Z_DEFAULT_STRATEGY), Z_OK);
    size_t most = deflateBound(&z, in.n);
    char *p = buf_reserve(out, most);
    assert_non_null(p);
    z.next_in = (Bytef *)(uintptr_t)in.p;
    z.avail_in = (uInt)in.n;
    z.next_out = (Bytef *)p;
    z.avail_out = (uInt)most;
    assert_int_equal(deflate(&z, Z_FINISH), Z_STREAM_END);
    out->n += most - z.avail_out;
    deflateEnd(&z);
}

static void zstd(struct buf *out, struct str in) {
    size_t most = ZSTD_compressBound(in.n);
    char *p = buf_reserve(out, most);
    assert_non_null(p);
    size_t n = ZSTD_compress(p, most, in.p, in.n, 3);
    assert_false(ZSTD_isError(n));
    out->n += n;
}

static void plain(struct buf *out, struct str in) {
    buf_put_str(out, in);
}

/* Text that is neither trivial nor incompressible. */
static void sample(struct buf *out, size_t n) {
    for (unsigned i = 0; out->n < n; i++)
        buf_printf(out, "line %u of a file %x\n", i, i * 2654435761u);
    out->n = n;
}

static int run(struct str in, size_t step, const struct inflate_limits *limits, struct out *out, struct error *err) {
    struct inflate *z = inflate_new(limits, take, out);
    int rc = 0;
    for (size_t at = 0; at < in.n && rc == 0; at += step)
        rc = inflate_push(z, str_n(in.p + at, MIN(step, in.n - at)), err);
    if (rc == 0)
        rc = inflate_end(z, err);
    inflate_free(z);
    return rc;
}

static void all_formats_in_pieces_of_any_size(void **state) {
    static void (*const pack[])(struct buf *, struct str) = {gzip, zstd, plain};
    static const size_t sizes[] = {0, 1, 3, 4, 5, 1000, INFLATE_PIECE, 3 * INFLATE_PIECE + 7};
    static const size_t steps[] = {1, 2, 7, 1000, 1 << 20};
    for (size_t f = 0; f < ARRAY_LEN(pack); f++) {
        for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
            cleanup_buf struct buf in = BUF_INIT, packed = BUF_INIT;
            sample(&in, sizes[i]);
            pack[f](&packed, buf_str(&in));
            for (size_t s = 0; s < ARRAY_LEN(steps); s++) {
                struct out out = {.bytes = BUF_INIT};
                struct error err = {0};
                if (run(buf_str(&packed), steps[s], NULL, &out, &err))
                    fail_msg("format %zu, %zu bytes by %zu: %s", f, sizes[i], steps[s], err.msg);
                assert_true(str_eq(buf_str(&out.bytes), buf_str(&in)));
                assert_false(out.too_big);
                buf_fini(&out.bytes);
            }
        }
    }
}

static void the_format_and_counts_are_told(void **state) {
    cleanup_buf struct buf packed = BUF_INIT;
    uint64_t n = 0;
    zstd(&packed, STR("some text"));
    struct inflate *z = inflate_new(NULL, count_only, &n);
    assert_string_equal(inflate_format_name(inflate_format(z)), "unknown");
    assert_int_equal(inflate_push(z, buf_str(&packed), NULL), 0);
    assert_int_equal(inflate_format(z), INFLATE_ZSTD);
    assert_int_equal(inflate_bytes_in(z), packed.n);
    assert_int_equal(inflate_bytes_out(z), 9);
    assert_int_equal(n, 9);
    inflate_free(z);
    inflate_free(NULL);
}

static void members_behind_one_another(void **state) {
    cleanup_buf struct buf gz = BUF_INIT, zs = BUF_INIT;
    gzip(&gz, STR("one "));
    gzip(&gz, STR(""));
    gzip(&gz, STR("two"));
    zstd(&zs, STR("one "));
    buf_put(&zs, "\x53\x2a\x4d\x18\x03\x00\x00\x00xyz", 11); /* a skippable frame */
    zstd(&zs, STR("two"));
    for (size_t step = 1; step < 100; step += 9) {
        struct out a = {.bytes = BUF_INIT}, b = {.bytes = BUF_INIT};
        assert_int_equal(run(buf_str(&gz), step, NULL, &a, NULL), 0);
        assert_int_equal(run(buf_str(&zs), step, NULL, &b, NULL), 0);
        assert_string_equal(a.bytes.p, "one two");
        assert_string_equal(b.bytes.p, "one two");
        buf_fini(&a.bytes);
        buf_fini(&b.bytes);
    }
}

/* What looks like a frame of its own behind the magic number of another must not depend on how it is cut. */
static void pieces_do_not_change_the_meaning(void **state) {
    static const char crafted[] = "\x28\xb5\x2f\xfd\x53\x2a\x4d\x18\x02\0\0\0\x78\0";
    for (size_t step = 1; step <= 14; step++) {
        struct out out = {.bytes = BUF_INIT};
        assert_int_equal(run(str_n(crafted, 14), step, NULL, &out, NULL), -EINVAL);
        buf_fini(&out.bytes);
    }
}

static void every_truncation_is_an_error(void **state) {
    static void (*const pack[])(struct buf *, struct str) = {gzip, zstd};
    for (size_t f = 0; f < ARRAY_LEN(pack); f++) {
        cleanup_buf struct buf packed = BUF_INIT;
        pack[f](&packed, STR("some text that is to be compressed"));
        for (size_t n = 4; n < packed.n; n++) {
            struct out out = {.bytes = BUF_INIT};
            struct error err = {0};
            assert_int_equal(run(str_n(packed.p, n), 10, NULL, &out, &err), -EINVAL);
            assert_contains(err.msg, "ends early");
            buf_fini(&out.bytes);
        }
    }
}

static void corrupt_data(void **state) {
    cleanup_buf struct buf in = BUF_INIT, gz = BUF_INIT, trailing = BUF_INIT, zs = BUF_INIT;
    struct error err = {0};
    struct out out = {.bytes = BUF_INIT};
    sample(&in, 10000);
    gzip(&gz, buf_str(&in));
    gz.p[gz.n / 2] ^= 0x55;
    assert_int_equal(run(buf_str(&gz), 100, NULL, &out, &err), -EINVAL);
    assert_contains(err.msg, "gzip: corrupt data near byte");
    gzip(&trailing, buf_str(&in));
    buf_puts(&trailing, "garbage");
    assert_int_equal(run(buf_str(&trailing), 100, NULL, &out, &err), -EINVAL);
    buf_put(&zs, "\x28\xb5\x2f\xfd\x20\x05\x07\0\0garbage", 16); /* a block of a type that does not exist */
    assert_int_equal(run(buf_str(&zs), 100, NULL, &out, &err), -EINVAL);
    assert_contains(err.msg, "zstd: corrupt data");
    buf_fini(&out.bytes);
}

static void a_failed_stream_stays_failed(void **state) {
    struct out out = {.bytes = BUF_INIT};
    struct inflate *z = inflate_new(NULL, take, &out);
    struct error err = {0};
    assert_int_equal(inflate_push(z, STR("\x1f\x8b garbage"), &err), -EINVAL);
    assert_int_equal(inflate_push(z, STR("more"), &err), -EINVAL);
    assert_int_equal(inflate_end(z, &err), -EINVAL);
    inflate_free(z);
    buf_fini(&out.bytes);
}

static void the_sink_can_stop_it(void **state) {
    cleanup_buf struct buf in = BUF_INIT, packed = BUF_INIT;
    struct out out = {.bytes = BUF_INIT, .stop_after = 2};
    struct error err = {0};
    sample(&in, 5 * INFLATE_PIECE);
    gzip(&packed, buf_str(&in));
    assert_int_equal(run(buf_str(&packed), SIZE_MAX / 2, NULL, &out, &err), -ENOSPC);
    assert_string_equal(err.msg, "the disk is full");
    assert_int_equal(out.bytes.n, 2 * INFLATE_PIECE);
    buf_fini(&out.bytes);
}

static void output_is_limited(void **state) {
    cleanup_buf struct buf in = BUF_INIT, packed = BUF_INIT;
    struct error err = {0};
    sample(&in, 100000);
    gzip(&packed, buf_str(&in));
    for (int fits = 0; fits < 2; fits++) {
        struct inflate_limits limits = {.output_bytes = in.n - 1 + (size_t)fits};
        struct out a = {.bytes = BUF_INIT}, b = {.bytes = BUF_INIT};
        assert_int_equal(run(buf_str(&packed), 1000, &limits, &a, &err), fits ? 0 : -E2BIG);
        assert_int_equal(run(buf_str(&in), 1000, &limits, &b, &err), fits ? 0 : -E2BIG);
        assert_true(a.bytes.n <= limits.output_bytes);
        buf_fini(&a.bytes);
        buf_fini(&b.bytes);
    }
}

/* Many zeros in a few KiB. */
static void bombs_are_stopped(void **state) {
    cleanup_buf struct buf packed;
    size_t n = MiB(256);
    char *zeros = calloc(1, n);
    buf_init(&packed, 2 * n);
    zstd(&packed, str_n(zeros, n));
    free(zeros);
    uint64_t out = 0;
    struct error err = {0};
    struct inflate *z = inflate_new(NULL, count_only, &out);
    assert_int_equal(inflate_push(z, buf_str(&packed), &err), -E2BIG);
    assert_contains(err.msg, "for each that went in");
    assert_true(out <= INFLATE_RATIO_FROM);
    inflate_free(z);
}

static void large_windows_are_refused(void **state) {
    cleanup_buf struct buf in = BUF_INIT;
    cleanup_free char *packed = malloc(MiB(2));
    struct out out = {.bytes = BUF_INIT};
    struct inflate_limits limits = {.window_log = 15};
    struct error err = {0};
    ZSTD_CCtx *c = ZSTD_createCCtx();
    sample(&in, MiB(1));
    ZSTD_CCtx_setParameter(c, ZSTD_c_windowLog, 20);
    ZSTD_CCtx_setParameter(c, ZSTD_c_contentSizeFlag, 0);
    size_t n = ZSTD_compress2(c, packed, MiB(2), in.p, in.n);
    ZSTD_freeCCtx(c);
    assert_false(ZSTD_isError(n));
    assert_int_equal(run(str_n(packed, n), 1000, &limits, &out, &err), -E2BIG);
    assert_int_equal(run(str_n(packed, n), 1000, NULL, &out, &err), 0);
    buf_fini(&out.bytes);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_formats_in_pieces_of_any_size),
        cmocka_unit_test(the_format_and_counts_are_told),
        cmocka_unit_test(members_behind_one_another),
        cmocka_unit_test(pieces_do_not_change_the_meaning),
        cmocka_unit_test(every_truncation_is_an_error),
        cmocka_unit_test(corrupt_data),
        cmocka_unit_test(a_failed_stream_stays_failed),
        cmocka_unit_test(the_sink_can_stop_it),
        cmocka_unit_test(output_is_limited),
        cmocka_unit_test(bombs_are_stopped),
        cmocka_unit_test(large_windows_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
