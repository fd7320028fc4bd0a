#include "helper.h"

/* --- making archives --------------------------------------------------------------------------------------------- */

struct header {
    const char *name, *link, *magic, *prefix; /* magic NULL: ustar */
    char type;
    uint64_t size;
    const char *mode, *uid, *mtime; /* octal text; NULL: some default */
};

static void octal(char *field, size_t n, uint64_t v) {
    snprintf(field, n, "%0*llo", (int)n - 1, (unsigned long long)v);
}

static void copy(char *field, const char *text, size_t n) {
    memcpy(field, text, MIN(strlen(text), n));
}

static void set_checksum(char block[512]) {
    unsigned sum = 0;
    memset(block + 148, ' ', 8);
    for (int i = 0; i < 512; i++)
        sum += (unsigned char)block[i];
    snprintf(block + 148, 8, "%06o", sum);
}

static void make_header(char block[512], struct header h) {
    memset(block, 0, 512);
    copy(block, h.name, 100);
    copy(block + 100, h.mode ? h.mode : "0000644", 8);
    copy(block + 108, h.uid ? h.uid : "0001750", 8);
    copy(block + 116, "0000144", 8);
    octal(block + 124, 12, h.size);
    copy(block + 136, h.mtime ? h.mtime : "14371573000", 12);
    block[156] = h.type;
    copy(block + 157, h.link ? h.link : "", 100);
    if (h.magic)
        memcpy(block + 257, h.magic, 8);
    else
        memcpy(block + 257,
               "ustar\0"
               "00",
               8);
    copy(block + 265, "user", 32);
    copy(block + 297, "group", 32);
    octal(block + 329, 8, 5);
    octal(block + 337, 8, 7);
    copy(block + 345, h.prefix ? h.prefix : "", 155);
    set_checksum(block);
}

static void put_block(struct buf *b, const char block[512]) {
    buf_put(b, block, 512);
}

static void put_contents(struct buf *b, struct str s) {
    static const char zeros[512];
    buf_put_str(b, s);
    buf_put(b, zeros, -s.n & 511);
}

static void put_entry(struct buf *b, struct header h, struct str contents) {
    char block[512];
    if (contents.n)
        h.size = contents.n;
    make_header(block, h);
    put_block(b, block);
    put_contents(b, contents);
}

static void put_end(struct buf *b) {
    static const char zeros[1024];
    buf_put(b, zeros, sizeof(zeros));
}

/* "LENGTH key=value\n" */
static void record(struct buf *b, const char *key, struct str value) {
    size_t n = strlen(key) + value.n + 3, digits = 1;
    while (snprintf(NULL, 0, "%zu", n + digits) != (int)digits)
        digits++;
    buf_printf(b, "%zu %s=", n + digits, key);
    buf_put_str(b, value);
    buf_putc(b, '\n');
}

/* --- reading them ------------------------------------------------------------------------------------------------ */

struct seen {
    struct buf log;
    bool open;
    uint64_t left;
    struct tar_entry last;
    int stop_at, events;
    int code;
};

static int event(struct seen *s, struct error *err) {
    if (++s->events == s->stop_at)
        return error_set(err, -ENOSPC, "no space");
    return 0;
}

static int on_entry(void *arg, const struct tar_entry *e, struct error *err) {
    struct seen *s = arg;
    assert_false(s->open);
    s->open = true;
    s->left = e->size;
    s->last = *e;
    assert_int_equal(e->path.p[e->path.n], 0);
    assert_int_equal(e->link.p[e->link.n], 0);
    buf_printf(&s->log, "%d %s %s%s%o %u:%u %s:%s %llu %lld.%09ld", (int)e->type, e->path.p, e->link.p,
               e->link.n ? " " : "", (unsigned)e->mode, (unsigned)e->uid, (unsigned)e->gid, e->user.p, e->group.p,
               (unsigned long long)e->size, (long long)e->mtime.tv_sec, e->mtime.tv_nsec);
    for (size_t i = 0; i < e->n_xattrs; i++)
        buf_printf(&s->log, " %s=%.*s", e->xattrs[i].name.p, STR_ARG(e->xattrs[i].value));
    buf_puts(&s->log, " [");
    return event(s, err);
}

static int on_data(void *arg, struct str bytes, struct error *err) {
    struct seen *s = arg;
    assert_true(s->open && bytes.n > 0 && bytes.n <= s->left);
    s->left -= bytes.n;
    buf_put_str(&s->log, bytes);
    return event(s, err);
}

static int on_end(void *arg, struct error *err) {
    struct seen *s = arg;
    assert_true(s->open && s->left == 0);
    s->open = false;
    buf_puts(&s->log, "]\n");
    return event(s, err);
}

static const struct tar_handler handler = {on_entry, on_data, on_end};

static int run(struct str archive, size_t step, const struct tar_limits *limits, struct seen *s, struct error *err) {
    struct tar *t = tar_new(&handler, limits, s);
    int rc = 0;
    for (size_t at = 0; at < archive.n && rc == 0; at += step)
        rc = tar_push(t, str_n(archive.p + at, MIN(step, archive.n - at)), err);
    if (rc == 0)
        rc = tar_end(t, err);
    tar_free(t);
    return rc;
}

static void expect(const struct buf *archive, const char *log) {
    static const size_t steps[] = {1, 7, 511, 512, 513, 1 << 20};
    for (size_t i = 0; i < ARRAY_LEN(steps); i++) {
        struct seen s = {.log = BUF_INIT};
        struct error err = {0};
        if (run(buf_str(archive), steps[i], NULL, &s, &err))
            fail_msg("by %zu: %s", steps[i], err.msg);
        assert_false(s.open);
        assert_string_equal(buf_str(&s.log).p, log);
        buf_fini(&s.log);
    }
}

static void expect_error(const struct buf *archive, int code, const char *message) {
    static const size_t steps[] = {100, 1 << 20};
    for (size_t i = 0; i < ARRAY_LEN(steps); i++) {
        struct seen s = {.log = BUF_INIT};
        struct error err = {0};
        int rc = run(buf_str(archive), steps[i], NULL, &s, &err);
        assert_int_equal(rc, code);
        assert_int_equal(err.code, code);
        assert_contains(err.msg, message);
        buf_fini(&s.log);
    }
}

/* --- tests ------------------------------------------------------------------------------------------------------- */

static void ustar(void **state) {
    cleanup_buf struct buf b = BUF_INIT;
    put_entry(&b, (struct header){.name = "dir/", .type = '5', .mode = "0001777"}, STR(""));
    put_entry(&b, (struct header){.name = "dir/file", .type = '0', .mode = "0104755"}, STR("hello"));
    put_entry(&b, (struct header){.name = "empty", .type = 0}, STR(""));
    put_entry(&b, (struct header){.name = "sym", .type = '2', .link = "/etc/../x"}, STR(""));
    put_entry(&b, (struct header){.name = "hard", .type = '1', .link = "dir/file", .size = 5},
              STR("")); /* size ignored */
    put_entry(&b, (struct header){.name = "null", .type = '3'}, STR(""));
    put_entry(&b, (struct header){.name = "disk", .type = '4'}, STR(""));
    put_entry(&b, (struct header){.name = "pipe", .type = '6'}, STR(""));
    put_entry(&b, (struct header){.name = "contiguous", .type = '7'}, STR("x"));
    put_entry(&b, (struct header){.name = "file", .prefix = "a/long/prefix", .type = '0'}, STR(""));
    put_end(&b);
    buf_puts(&b, "anything behind the end");
    expect(&b, "5 dir 1777 1000:100 user:group 0 1676080640.000000000 []\n"
               "0 dir/file 4755 1000:100 user:group 5 1676080640.000000000 [hello]\n"
               "0 empty 644 1000:100 user:group 0 1676080640.000000000 []\n"
               "2 sym /etc/../x 644 1000:100 user:group 0 1676080640.000000000 []\n"
               "1 hard dir/file 644 1000:100 user:group 0 1676080640.000000000 []\n"
               "3 null 644 1000:100 user:group 0 1676080640.000000000 []\n"
               "4 disk 644 1000:100 user:group 0 1676080640.000000000 []\n"
               "6 pipe 644 1000:100 user:group 0 1676080640.000000000 []\n"
               "0 contiguous 644 1000:100 user:group 1 1676080640.000000000 [x]\n"
               "0 a/long/prefix/file 644 1000:100 user:group 0 1676080640.000000000 []\n");
}

static void device_numbers(void **state) {
    cleanup_buf struct buf b = BUF_INIT;
    struct seen s = {.log = BUF_INIT};
    put_entry(&b, (struct header){.name = "null", .type = '3'}, STR(""));
    assert_int_equal(run(buf_str(&b), 512, NULL, &s, NULL), 0);
    assert_int_equal(s.last.major, 5);
    assert_int_equal(s.last.minor, 7);
    buf_fini(&s.log);
}

static void v7_directories(void **state) {
    cleanup_buf struct buf b = BUF_INIT;
    put_entry(&b, (struct header){.name = "old/", .magic = "\0\0\0\0\0\0\0\0"}, STR(""));
    put_entry(&b, (struct header){.name = "/", .type = '5'}, STR(""));
    expect(&b,
           "5 old 644 1000:100 : 0 1676080640.000000000 []\n5 / 644 1000:100 user:group 0 1676080640.000000000 []\n");
}

static void whole_names_of_100_bytes(void **state) {
    char name[101] = {0}, prefix[156] = {0}, log[600];
    memset(name, 'n', 100);
    memset(prefix, 'p', 155);
    cleanup_buf struct buf b = BUF_INIT;
    put_entry(&b, (struct header){.name = name, .prefix = prefix, .type = '0'}, STR(""));
    snprintf(log, sizeof(log), "0 %s/%s 644 1000:100 user:group 0 1676080640.000000000 []\n", prefix, name);
    expect(&b, log);
}

static void gnu_long_names(void **state) {
    char name[301] = {0}, link[201] = {0}, log[1200];
    memset(name, 'n', 300);
    memset(link, 'l', 200);
    cleanup_buf struct buf b = BUF_INIT;
    const char *gnu = "ustar  ";
    put_entry(&b, (struct header){.name = "././@LongLink", .type = 'K', .magic = gnu}, str_n(link, 201));
    put_entry(&b, (struct header){.name = "././@LongLink", .type = 'L', .magic = gnu}, str_n(name, 301));
    put_entry(&b, (struct header){.name = "cut", .link = "cut", .type = '2', .magic = gnu, .prefix = "no prefix"},
              STR(""));
    put_entry(&b, (struct header){.name = "next", .type = '0', .magic = gnu, .prefix = "no prefix"}, STR("x"));
    put_end(&b);
    snprintf(log, sizeof(log),
             "2 %s %s 644 1000:100 user:group 0 1676080640.000000000 []\n"
             "0 next 644 1000:100 user:group 1 1676080640.000000000 [x]\n",
             name, link);
    expect(&b, log);
}

static void base_256_numbers(void **state) {
    cleanup_buf struct buf b = BUF_INIT;
    char block[512];
    make_header(block, (struct header){.name = "big", .type = '2', .link = "x", .magic = "ustar  "});
    memcpy(block + 108, "\x80\0\0\0\x7f\xff\xff\xff", 8);                        /* uid */
    memcpy(block + 136, "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xfe", 12); /* mtime -2 */
    set_checksum(block);
    put_block(&b, block);
    expect(&b, "2 big x 644 2147483647:100 user:group 0 -2.000000000 []\n");
}

static void pax_records(void **state) {
    cleanup_buf struct buf b = BUF_INIT, pax = BUF_INIT;
    record(&pax, "path", STR("a path = with spaces/\xc3\xa9"));
    record(&pax, "linkpath", STR("target"));
    record(&pax, "mtime", STR("1700000000.123456789123"));
    record(&pax, "atime", STR("1.5"));
    record(&pax, "uid", STR("3000000"));
    record(&pax, "gid", STR("3000001"));
    record(&pax, "uname", STR("someone"));
    record(&pax, "gname", STR(""));
    record(&pax, "size", STR("3"));
    record(&pax, "SCHILY.xattr.user.x", STR("a=b\nc"));
    record(&pax, "SCHILY.xattr.security.capability", STR("zz"));
    record(&pax, "SCHILY.xattr.user.x", STR("again"));
    record(&pax, "LIBARCHIVE.creationtime", STR("1"));
    put_entry(&b, (struct header){.name = "PaxHeaders/x", .type = 'x'}, buf_str(&pax));
    put_entry(&b, (struct header){.name = "x", .type = '0', .link = "ignored"}, STR("abc"));
    put_entry(&b, (struct header){.name = "y", .type = '0'}, STR("d"));
    put_end(&b);
    expect(&b, "0 a path = with spaces/\xc3\xa9 644 3000000:3000001 someone:group 3 1700000000.123456789 user.x=again "
               "security.capability=zz [abc]\n"
               "0 y 644 1000:100 user:group 1 1676080640.000000000 [d]\n");
}

static void pax_size_rules(void **state) {
    cleanup_buf struct buf b = BUF_INIT, pax = BUF_INIT;
    char block[512];
    record(&pax, "size", STR("600"));
    put_entry(&b, (struct header){.name = "x", .type = 'x'}, buf_str(&pax));
    make_header(block, (struct header){.name = "f", .type = '0', .size = 0});
    put_block(&b, block);
    char contents[600];
    memset(contents, 'c', sizeof(contents));
    put_contents(&b, str_n(contents, sizeof(contents)));
    put_end(&b);
    struct seen s = {.log = BUF_INIT};
    assert_int_equal(run(buf_str(&b), 100, NULL, &s, NULL), 0);
    assert_int_equal(s.last.size, 600);
    buf_fini(&s.log);
}

static void negative_pax_times(void **state) {
    static const struct {
        const char *text;
        int64_t s;
        long ns;
    } cases[] = {{"0", 0, 0},  {"-1", -1, 0},          {"-1.25", -2, 750000000}, {"-0.5", -1, 500000000},
                 {"5.", 5, 0}, {"12.000000001", 12, 1}};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        cleanup_buf struct buf b = BUF_INIT, pax = BUF_INIT;
        record(&pax, "mtime", str_c(cases[i].text));
        put_entry(&b, (struct header){.name = "x", .type = 'x'}, buf_str(&pax));
        put_entry(&b, (struct header){.name = "f", .type = '0'}, STR(""));
        struct seen s = {.log = BUF_INIT};
        assert_int_equal(run(buf_str(&b), 512, NULL, &s, NULL), 0);
        assert_int_equal(s.last.mtime.tv_sec, cases[i].s);
        assert_int_equal(s.last.mtime.tv_nsec, cases[i].ns);
        buf_fini(&s.log);
    }
}

static void global_headers_have_no_effect(void **state) {
    cleanup_buf struct buf b = BUF_INIT, pax = BUF_INIT;
    record(&pax, "comment", STR("0123456789abcdef"));
    record(&pax, "path", STR("elsewhere"));
    record(&pax, "SCHILY.xattr.user.x", STR("y"));
    put_entry(&b, (struct header){.name = "pax_global_header", .type = 'g'}, buf_str(&pax));
    put_entry(&b, (struct header){.name = "f", .type = '0'}, STR(""));
    put_end(&b);
    expect(&b, "0 f 644 1000:100 user:group 0 1676080640.000000000 []\n");
}

static void ends(void **state) {
    cleanup_buf struct buf b = BUF_INIT;
    expect(&b, ""); /* nothing at all */
    put_end(&b);
    expect(&b, "");
    buf_reset(&b);
    put_entry(&b, (struct header){.name = "f", .type = '0'}, STR("x"));
    const char *log = "0 f 644 1000:100 user:group 1 1676080640.000000000 [x]\n";
    expect(&b, log); /* no end mark */
    b.n -= 511;
    expect(&b, log); /* not even the padding */
    b.n += 511;
    static const char zeros[512];
    buf_put(&b, zeros, 512);
    expect(&b, log); /* half an end mark */
}

static void every_early_end_is_an_error(void **state) {
    cleanup_buf struct buf b = BUF_INIT, pax = BUF_INIT;
    record(&pax, "path", STR("name"));
    put_entry(&b, (struct header){.name = "x", .type = 'x'}, buf_str(&pax));
    put_entry(&b, (struct header){.name = "f", .type = '0'}, STR("contents"));
    for (size_t n = 1; n < 3 * 512 + 8; n++) {
        struct seen s = {.log = BUF_INIT};
        struct error err = {0};
        assert_int_equal(run(str_n(b.p, n), 64, NULL, &s, &err), -EINVAL);
        assert_contains(err.msg, "ends early");
        buf_fini(&s.log);
    }
}

static void malformed_headers(void **state) {
    static const struct {
        struct header h;
        int code;
        const char *message;
    } cases[] = {
        {{.name = "", .type = '0'}, -EINVAL, "the name is empty"},
        {{.name = "s", .type = '2'}, -EINVAL, "the link target is empty"},
        {{.name = "s", .type = '1', .link = ""}, -EINVAL, "the link target is empty"},
        {{.name = "s", .type = 'S'}, -ENOTSUP, "sparse files"},
        {{.name = "s", .type = 'M'}, -ENOTSUP, "entry type 0x4d"},
        {{.name = "s", .type = '9'}, -ENOTSUP, "entry type 0x39"},
        {{.name = "f", .type = '0', .mode = "00x0644"}, -EINVAL, "the mode is malformed"},
        {{.name = "f", .type = '0', .uid = "9"}, -EINVAL, "the user id is malformed"},
        {{.name = "f", .type = '0', .uid = "12 34"}, -EINVAL, "the user id is malformed"},
        {{.name = "f", .type = '0', .mtime = "-5"}, -EINVAL, "the modification time is malformed"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        cleanup_buf struct buf b = BUF_INIT;
        put_entry(&b, (struct header){.name = "first", .type = '0'}, STR("x"));
        put_entry(&b, cases[i].h, STR(""));
        expect_error(&b, cases[i].code, cases[i].message);
        expect_error(&b, cases[i].code, "header at offset 1024");
    }
}

static void bad_blocks(void **state) {
    cleanup_buf struct buf b = BUF_INIT;
    char block[512];
    make_header(block, (struct header){.name = "f", .type = '0'});
    block[3] ^= 1;
    put_block(&b, block);
    expect_error(&b, -EINVAL, "the checksum is wrong");
    buf_reset(&b);
    memset(block, 'x', sizeof(block));
    put_block(&b, block);
    expect_error(&b, -EINVAL, "the checksum is wrong");
    buf_reset(&b);
    make_header(block, (struct header){.name = "f", .type = '0'});
    memset(block + 124, 0xff, 12); /* size -1 */
    set_checksum(block);
    put_block(&b, block);
    expect_error(&b, -EINVAL, "the size is malformed");
    buf_reset(&b);
    make_header(block, (struct header){.name = "f", .type = '0'});
    memcpy(block + 124, "\x80\x01\0\0\0\0\0\0\0\0\0\0", 12); /* beyond 64 bits */
    set_checksum(block);
    put_block(&b, block);
    expect_error(&b, -EINVAL, "the size is malformed");
    buf_reset(&b);
    memset(block, 0, sizeof(block));
    put_block(&b, block);
    put_entry(&b, (struct header){.name = "f", .type = '0'}, STR(""));
    expect_error(&b, -EINVAL, "a lone zero block");
}

static void malformed_pax_records(void **state) {
    static const char *const bad[] = {
        "x",
        "10 a=b\n",
        "6 a=b",
        "6 a=bc",
        " a=b\n",
        "0 a=b\n",
        "-6 a=b\n",
        "3 \n",
        "4 a\n",
        "5 =b\n",
        "99999999999999999999999 a=b\n",
        "6 a=b\n7",
        "06a=b\n",
        "12 size=-1\n",
        "12 size=1x\n",
        "30 size=9223372036854775808\n",
        "11 uid=-1\n",
        "18 uid=4294967295\n",
        "13 mtime=1e5\n",
        "11 mtime=\x01\n",
        "12 mtime=.5\n",
        "20 SCHILY.xattr.=x\n",
    };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        cleanup_buf struct buf b = BUF_INIT;
        put_entry(&b, (struct header){.name = "x", .type = 'x'}, str_c(bad[i]));
        put_entry(&b, (struct header){.name = "f", .type = '0'}, STR(""));
        expect_error(&b, -EINVAL, "malformed");
    }
    cleanup_buf struct buf b = BUF_INIT, pax = BUF_INIT;
    record(&pax, "path", str_n("a\0b", 3));
    put_entry(&b, (struct header){.name = "x", .type = 'x'}, buf_str(&pax));
    expect_error(&b, -EINVAL, "pax record \"path\" is malformed");
    buf_reset(&b);
    buf_reset(&pax);
    record(&pax, "GNU.sparse.major", STR("1"));
    put_entry(&b, (struct header){.name = "x", .type = 'x'}, buf_str(&pax));
    expect_error(&b, -ENOTSUP, "sparse");
}

static void an_extended_header_needs_an_entry(void **state) {
    cleanup_buf struct buf b = BUF_INIT, pax = BUF_INIT;
    record(&pax, "path", STR("name"));
    put_entry(&b, (struct header){.name = "x", .type = 'x'}, buf_str(&pax));
    expect_error(&b, -EINVAL, "ends early");
    put_end(&b);
    expect_error(&b, -EINVAL, "an extended header has no entry");
}

static void limits_are_errors(void **state) {
    cleanup_buf struct buf b = BUF_INIT, pax = BUF_INIT;
    struct error err = {0};
    char name[200] = {0};
    memset(name, 'n', 150);
    record(&pax, "path", str_c(name));
    for (int i = 0; i < 5; i++)
        record(&pax, (char[]){'S', 'C', 'H', 'I', 'L', 'Y', '.', 'x', 'a', 't', 't', 'r', '.', (char)('a' + i), 0},
               STR("v"));
    put_entry(&b, (struct header){.name = "x", .type = 'x'}, buf_str(&pax));
    put_entry(&b, (struct header){.name = "f", .type = '0'}, STR("12345"));
    put_entry(&b, (struct header){.name = "g", .type = '0'}, STR("67890"));
    static const struct {
        struct tar_limits limits;
        const char *message;
    } cases[] = {
        {{.name_bytes = 149}, "the name is longer than 149 bytes"},
        {{.xattrs = 4}, "more than 4 extended attributes"},
        {{.header_bytes = 200}, "the extended headers are too large"},
        {{.entries = 1}, "too many entries"},
        {{.contents_bytes = 9}, "the files of the archive are too large"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct seen s = {.log = BUF_INIT};
        assert_int_equal(run(buf_str(&b), 100, &cases[i].limits, &s, &err), -E2BIG);
        assert_contains(err.msg, cases[i].message);
        buf_fini(&s.log);
    }
    struct tar_limits just = {
        .name_bytes = 150, .xattrs = 5, .header_bytes = pax.n + 64, .entries = 2, .contents_bytes = 10};
    struct seen s = {.log = BUF_INIT};
    assert_int_equal(run(buf_str(&b), 100, &just, &s, &err), 0);
    buf_fini(&s.log);
}

/* Empty extended headers cost memory as well. */
static void many_extended_headers(void **state) {
    cleanup_buf struct buf b = BUF_INIT, pax = BUF_INIT;
    record(&pax, "SCHILY.xattr.user.x", STR("y"));
    put_entry(&b, (struct header){.name = "x", .type = 'x'}, buf_str(&pax));
    for (int i = 0; i < 20000; i++)
        put_entry(&b, (struct header){.name = "x", .type = i % 2 ? 'x' : 'g'}, i % 4 ? STR("") : buf_str(&pax));
    struct seen s = {.log = BUF_INIT};
    struct error err = {0};
    assert_int_equal(run(buf_str(&b), 4096, NULL, &s, &err), -E2BIG);
    buf_fini(&s.log);
}

static void the_handler_can_stop_it(void **state) {
    cleanup_buf struct buf b = BUF_INIT;
    put_entry(&b, (struct header){.name = "f", .type = '0'}, STR("12345"));
    put_entry(&b, (struct header){.name = "g", .type = '5'}, STR(""));
    for (int at = 1; at <= 5; at++) {
        struct seen s = {.log = BUF_INIT, .stop_at = at};
        struct error err = {0};
        assert_int_equal(run(buf_str(&b), 1 << 20, NULL, &s, &err), -ENOSPC);
        assert_string_equal(err.msg, "no space");
        assert_int_equal(s.events, at);
        buf_fini(&s.log);
    }
    struct seen s = {.log = BUF_INIT, .stop_at = 1};
    struct tar *t = tar_new(&handler, NULL, &s);
    assert_int_equal(tar_push(t, buf_str(&b), NULL), -ENOSPC);
    assert_int_equal(tar_push(t, buf_str(&b), NULL), -ENOSPC);
    assert_int_equal(tar_end(t, NULL), -ENOSPC);
    assert_int_equal(s.events, 1);
    tar_free(t);
    buf_fini(&s.log);
}

static void without_a_handler(void **state) {
    static const struct tar_handler none;
    cleanup_buf struct buf b = BUF_INIT;
    put_entry(&b, (struct header){.name = "f", .type = '0'}, STR("12345"));
    put_entry(&b, (struct header){.name = "g", .type = '5'}, STR(""));
    struct tar *t = tar_new(&none, NULL, NULL);
    assert_int_equal(tar_push(t, buf_str(&b), NULL), 0);
    assert_int_equal(tar_end(t, NULL), 0);
    assert_int_equal(tar_entries(t), 2);
    tar_free(t);
    tar_free(NULL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ustar),
        cmocka_unit_test(device_numbers),
        cmocka_unit_test(v7_directories),
        cmocka_unit_test(whole_names_of_100_bytes),
        cmocka_unit_test(gnu_long_names),
        cmocka_unit_test(base_256_numbers),
        cmocka_unit_test(pax_records),
        cmocka_unit_test(pax_size_rules),
        cmocka_unit_test(negative_pax_times),
        cmocka_unit_test(global_headers_have_no_effect),
        cmocka_unit_test(ends),
        cmocka_unit_test(every_early_end_is_an_error),
        cmocka_unit_test(malformed_headers),
        cmocka_unit_test(bad_blocks),
        cmocka_unit_test(malformed_pax_records),
        cmocka_unit_test(an_extended_header_needs_an_entry),
        cmocka_unit_test(limits_are_errors),
        cmocka_unit_test(many_extended_headers),
        cmocka_unit_test(the_handler_can_stop_it),
        cmocka_unit_test(without_a_handler),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
