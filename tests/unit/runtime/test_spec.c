/* Specifications: what is written is read back; what is torn, twisted or random is refused and never read beyond its end. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/spec.h"

static int decode(struct str text, struct container_spec *out, char **room) {
    *room = xmalloc(SPEC_MEMORY(text.n));
    struct spec_memory mem = {*room, SPEC_MEMORY(text.n)};
    return spec_decode_container(text, &mem, out);
}

static struct buf sample(void) {
    static const char *argv[] = {"sh", "-c", ""}, *envp[] = {"A=1", "B="}, *layers[] = {"/l1", "/l2"};
    static struct spec_mount mounts[] = {{"/src", "/dst", SPEC_MOUNT_RO, 2, 77}, {"", "/t", SPEC_MOUNT_TMPFS, 0, 4096}};
    uint32_t groups[] = {1, 2, 3};
    struct container_spec s = {.id = STR("c1"),
                               .name = STR("n"),
                               .metadata = {"\0\1\2", 3},
                               .image_id = STR("sha256:x"),
                               .layers = {layers, 2},
                               .argv = {argv, 3},
                               .envp = {envp, 2},
                               .cwd = STR("/w"),
                               .user = STR("u:g"),
                               .log_path = STR("/log"),
                               .uid = -1,
                               .gid = 7,
                               .groups = {(char *)groups, sizeof(groups)},
                               .flags = SPEC_TTY | SPEC_PRIVILEGED,
                               .capabilities = ~0ull,
                               .seccomp = {"12345678", 8},
                               .oom_score_adj = -998,
                               .stop_signal = 15,
                               .log_bytes_max = 1ull << 40,
                               .log_files_max = 3,
                               .cgroup = {.cpu_shares = 2,
                                          .cpu_quota_us = -1,
                                          .memory_bytes = 1ll << 33,
                                          .cpuset_cpus = STR("0-1"),
                                          .oom_group = true},
                               .mounts = {mounts, 2}};
    struct buf b = {.limit = SPEC_BYTES_MAX};
    spec_encode_container(&b, &s);
    return b;
}

static void test_round_trip(void **state) {
    struct buf b = sample();
    struct container_spec s;
    char *room;
    assert_int_equal(decode(buf_str(&b), &s, &room), 0);
    assert_string_equal(s.id.p, "c1");
    assert_int_equal(s.metadata.n, 3);
    assert_int_equal(s.layers.n, 2);
    assert_string_equal(s.layers.v[1], "/l2");
    assert_int_equal(s.argv.n, 3);
    assert_string_equal(s.argv.v[2], "");
    assert_null(s.argv.v[3]);
    assert_int_equal(s.uid, -1);
    assert_int_equal(s.gid, 7);
    assert_int_equal(s.groups.n, 12);
    assert_int_equal(s.flags, SPEC_TTY | SPEC_PRIVILEGED);
    assert_int_equal(s.oom_score_adj, -998);
    assert_int_equal(s.cgroup.cpu_quota_us, -1);
    assert_int_equal(s.cgroup.memory_bytes, 1ll << 33);
    assert_true(s.cgroup.oom_group);
    assert_string_equal(s.cgroup.cpuset_cpus.p, "0-1");
    assert_int_equal(s.mounts.n, 2);
    assert_string_equal(s.mounts.v[0].source, "/src");
    assert_string_equal(s.mounts.v[0].destination, "/dst");
    assert_int_equal(s.mounts.v[0].tmpfs_bytes, 77);
    assert_string_equal(s.mounts.v[1].source, "");
    free(room);
    buf_fini(&b);
}

/* Every truncation, and every byte changed in several ways, in memory that ends exactly at its end. */
static void test_damage(void **state) {
    struct buf b = sample();
    for (size_t n = 0; n < b.n; n++) {
        char *copy = xmalloc(n ? n : 1), *room;
        memcpy(copy, b.p, n);
        struct container_spec s;
        int rc = decode((struct str){copy, n}, &s, &room);
        assert_true(rc == 0 || rc == -EBADMSG);
        free(room);
        free(copy);
    }
    for (size_t i = 0; i < b.n; i++)
        for (int k = 0; k < 4; k++) {
            static const unsigned char flips[] = {0xff, 0x01, 0x80, 0x10};
            char *copy = xmalloc(b.n), *room;
            memcpy(copy, b.p, b.n);
            copy[i] = (char)(copy[i] ^ (char)flips[k]);
            struct container_spec s;
            int rc = decode((struct str){copy, b.n}, &s, &room);
            assert_true(rc == 0 || rc == -EBADMSG);
            free(room);
            free(copy);
        }
    buf_fini(&b);
}

/* A record of the future is skipped. */
static void test_unknown(void **state) {
    struct buf b = sample();
    uint32_t head[2] = {9999, 5};
    buf_put(&b, head, sizeof(head));
    buf_put(&b, "12345\0\0\0", 8);
    struct container_spec s;
    char *room;
    assert_int_equal(decode(buf_str(&b), &s, &room), 0);
    assert_string_equal(s.id.p, "c1");
    free(room);
    buf_fini(&b);
}

static void test_nothing(void **state) {
    struct container_spec s;
    char *room;
    assert_int_equal(decode(STR(""), &s, &room), -EBADMSG); /* no id */
    free(room);
    struct buf b = sample();
    struct spec_memory none = {NULL, 0};
    assert_int_equal(spec_decode_container(buf_str(&b), &none, &s), -EBADMSG);
    buf_fini(&b);
}

static void test_user(void **state) {
    uint32_t groups[] = {50, 60};
    struct user_spec u = {1000, 1001, {(char *)groups, sizeof(groups)}, STR("/home")}, got;
    struct buf b = {.limit = 1023};
    char room[4096] __attribute__((aligned(8)));
    struct spec_memory mem = {room, sizeof(room)};
    spec_encode_user(&b, &u);
    assert_int_equal(spec_decode_user(buf_str(&b), &mem, &got), 0);
    assert_int_equal(got.uid, 1000);
    assert_int_equal(got.groups.n, 8);
    assert_string_equal(got.home.p, "/home");
    buf_fini(&b);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_round_trip), cmocka_unit_test(test_damage),
                                       cmocka_unit_test(test_unknown), cmocka_unit_test(test_nothing),
                                       cmocka_unit_test(test_user)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
