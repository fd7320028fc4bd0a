#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cmocka.h>

#include "runtime/layer.h"
#include "tar_maker.h"

static char base[64];
static unsigned counter;
static bool by_hand; /* without openat2 */

struct unpacked {
    char dir[128];
    struct layer_result result;
    char implied[512];
    struct error err;
    int code;
};

static struct unpacked unpack_with(struct str bytes, size_t step, const struct layer_options *more) {
    struct unpacked u = {0};
    struct layer_options o = more ? *more : (struct layer_options){0};
    snprintf(u.dir, sizeof(u.dir), "%s/%u", base, ++counter);
    o.dir = u.dir;
    o.name = "sha256:abc";
    o.no_openat2 = by_hand;
    struct layer *l = layer_new(&o);
    for (size_t i = 0; i < bytes.n && u.code == 0; i += step)
        u.code = layer_push(l, str_n(bytes.p + i, MIN(step, bytes.n - i)), &u.err);
    if (u.code == 0)
        u.code = layer_end(l, &u.result, &u.err);
    if (u.code == 0)
        snprintf(u.implied, sizeof(u.implied), "%.*s", STR_ARG(u.result.implied));
    layer_free(l);
    return u;
}

static struct unpacked unpack(struct buf *tar) {
    tar_close(tar);
    struct unpacked u = unpack_with(buf_str(tar), 100000, NULL);
    buf_fini(tar);
    return u;
}

static struct stat stat_of(const struct unpacked *u, const char *path) {
    char full[512];
    struct stat st = {0};
    snprintf(full, sizeof(full), "%s/%s", u->dir, path);
    if (lstat(full, &st) < 0)
        st.st_mode = 0;
    return st;
}

static const char *text_of(const struct unpacked *u, const char *path) {
    static char text[256];
    char full[512];
    snprintf(full, sizeof(full), "%s/%s", u->dir, path);
    int fd = open(full, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
    if (fd >= 0)
        close(fd);
    text[n < 0 ? 0 : n] = 0;
    return n < 0 ? NULL : text;
}

#define assert_text(u, path, want)            \
    do {                                      \
        const char *have_ = text_of(u, path); \
        assert_non_null(have_);               \
        assert_string_equal(have_, want);     \
    } while (0)
#define assert_fails(u, want_code, part)                        \
    do {                                                        \
        assert_int_equal((u).code, want_code);                  \
        if (!strstr((u).err.msg, part))                         \
            fail_msg("\"%s\" lacks \"%s\"", (u).err.msg, part); \
        assert_non_null(strstr((u).err.msg, "sha256:abc"));     \
    } while (0)

static void files_arrive_with_their_attributes(void **state) {
    struct buf t = BUF_INIT;
    TAR(&t, .type = '5', .path = "./", .mode = 0755, .mtime = 1000);
    TAR(&t, .type = '5', .path = "./var/", .mode = 0750, .uid = 3, .gid = 4, .mtime = 2000);
    TAR(&t, .type = '0', .path = "./var/su", .mode = 04755, .uid = 5, .gid = 6, .mtime = 3000, .data = STR("hello"));
    TAR(&t, .type = '2', .path = "./var/link", .link = "/etc/passwd", .mode = 0777, .uid = 7, .mtime = 4000);
    TAR(&t, .type = '1', .path = "./hard", .link = "./var/su");
    TAR(&t, .type = '3', .path = "./null", .mode = 0666, .major = 1, .minor = 3, .mtime = 5000);
    TAR(&t, .type = '6', .path = "./fifo", .mode = 0600);
    TAR(&t, .type = '0', .path = "./attr", .mode = 0644, .xattr = "user.color", .xattr_value = "red");
    TAR(&t, .type = '0', .path = "./empty", .mode = 0);
    struct unpacked u = unpack(&t);
    assert_int_equal(u.code, 0);
    assert_int_equal(u.result.bytes, 5);
    assert_int_equal(u.result.entries, 9);
    assert_string_equal(u.implied, "");
    struct stat st = stat_of(&u, "var/su"), hard = stat_of(&u, "hard"), dir = stat_of(&u, "var");
    assert_int_equal(st.st_mode, S_IFREG | 04755);
    assert_int_equal(st.st_uid, 5);
    assert_int_equal(st.st_gid, 6);
    assert_int_equal(st.st_mtime, 3000);
    assert_int_equal(hard.st_ino, st.st_ino);
    assert_int_equal(dir.st_mode, S_IFDIR | 0750);
    assert_int_equal(dir.st_mtime, 2000);
    assert_int_equal(dir.st_uid, 3);
    assert_int_equal(stat_of(&u, ".").st_mtime, 1000);
    assert_text(&u, "var/su", "hello");
    st = stat_of(&u, "var/link");
    assert_true(S_ISLNK(st.st_mode));
    assert_int_equal(st.st_uid, 7);
    assert_int_equal(st.st_mtime, 4000);
    st = stat_of(&u, "null");
    assert_int_equal(st.st_mode, S_IFCHR | 0666);
    assert_int_equal(st.st_rdev, makedev(1, 3));
    assert_true(S_ISFIFO(stat_of(&u, "fifo").st_mode));
    char path[256], value[16];
    snprintf(path, sizeof(path), "%s/attr", u.dir);
    assert_int_equal(getxattr(path, "user.color", value, sizeof(value)), 3);
}

static void compressed_in_any_way_and_cut_anywhere(void **state) {
    struct buf t = BUF_INIT, gz = BUF_INIT, zs = BUF_INIT;
    TAR(&t, .type = '0', .path = "a", .mode = 0644, .data = STR("one"));
    TAR(&t, .type = '0', .path = "b/c", .mode = 0644, .data = STR("two"));
    tar_close(&t);
    tar_gzip(&gz, buf_str(&t));
    tar_zstd(&zs, buf_str(&t));
    char diff[IMAGE_DIGEST_LEN + 1], digest[IMAGE_DIGEST_LEN + 1];
    image_digest_of(t.p, t.n, diff);
    const struct str forms[] = {buf_str(&t), buf_str(&gz), buf_str(&zs)};
    for (size_t i = 0; i < 3; i++) {
        image_digest_of(forms[i].p, forms[i].n, digest);
        struct layer_options o = {.digest = str_c(digest), .diff_id = str_c(diff)};
        struct unpacked u = unpack_with(forms[i], i == 0 ? 511 : 7, &o);
        if (u.code)
            fail_msg("form %zu: %s", i, u.err.msg);
        assert_string_equal(u.result.diff_id, diff);
        assert_text(&u, "b/c", "two");
        assert_string_equal(u.implied, "b\n");
        /* and truncated */
        o = (struct layer_options){0};
        u = unpack_with(str_n(forms[i].p, i == 0 ? 514 : forms[i].n - 9), 100, &o);
        assert_int_not_equal(u.code, 0);
    }
    buf_fini(&t);
    buf_fini(&gz);
    buf_fini(&zs);
}

static void digests_are_checked(void **state) {
    struct buf t = BUF_INIT;
    char wrong[IMAGE_DIGEST_LEN + 1];
    TAR(&t, .type = '0', .path = "a", .mode = 0644, .data = STR("one"));
    tar_close(&t);
    image_digest_of("x", 1, wrong);
    struct layer_options o = {.digest = str_c(wrong)};
    struct unpacked u = unpack_with(buf_str(&t), 1000, &o);
    assert_fails(u, -EBADMSG, "digest mismatch");
    assert_non_null(strstr(u.err.msg, wrong));
    o = (struct layer_options){.diff_id = str_c(wrong)};
    u = unpack_with(buf_str(&t), 1000, &o);
    assert_fails(u, -EBADMSG, "diff_id mismatch");
    /* Rubbish whose digest is wrong is told as a wrong digest, not as a broken archive. */
    o = (struct layer_options){.digest = str_c(wrong)};
    char junk[5000];
    memset(junk, 'x', sizeof(junk));
    u = unpack_with(str_n(junk, sizeof(junk)), 1000, &o);
    assert_fails(u, -EBADMSG, "digest mismatch");
    buf_fini(&t);
}

static void whiteouts_become_those_of_overlayfs(void **state) {
    struct buf t = BUF_INIT;
    TAR(&t, .type = '5', .path = "etc/", .mode = 0755);
    TAR(&t, .type = '0', .path = "etc/.wh.gone", .mode = 0);
    TAR(&t, .type = '5', .path = "opt/", .mode = 0755);
    TAR(&t, .type = '0', .path = "opt/.wh..wh..opq", .mode = 0);
    TAR(&t, .type = '5', .path = ".wh..wh.plnk", .mode = 0755);
    TAR(&t, .type = '0', .path = ".wh..wh.plnk/1.2", .mode = 0644, .data = STR("aufs"));
    TAR(&t, .type = '0', .path = ".wh.dir", .mode = 0);
    TAR(&t, .type = '5', .path = "dir", .mode = 0755);
    TAR(&t, .type = '0', .path = "dir/new", .mode = 0644);
    TAR(&t, .type = '0', .path = "kept", .mode = 0644, .data = STR("kept"));
    TAR(&t, .type = '0', .path = ".wh.kept", .mode = 0);
    struct unpacked u = unpack(&t);
    assert_int_equal(u.code, 0);
    struct stat st = stat_of(&u, "etc/gone");
    assert_true(S_ISCHR(st.st_mode) && st.st_rdev == 0);
    char path[256], value[4] = {0};
    const char *const opaque[] = {"opt", "dir"};
    for (size_t i = 0; i < 2; i++) {
        snprintf(path, sizeof(path), "%s/%s", u.dir, opaque[i]);
        assert_int_equal(getxattr(path, "trusted.overlay.opaque", value, sizeof(value)), 1);
        assert_int_equal(value[0], 'y');
    }
    assert_int_equal(stat_of(&u, ".wh..wh.plnk").st_mode, 0);
    assert_int_equal(stat_of(&u, "opt/.wh..wh..opq").st_mode, 0);
    assert_text(&u, "kept", "kept");
    static const char *const malformed[] = {".wh.", ".wh..", ".wh...", "a/.wh.x/b"};
    for (size_t i = 0; i < ARRAY_LEN(malformed); i++) {
        struct buf bad = BUF_INIT;
        TAR(&bad, .type = '0', .path = malformed[i], .mode = 0);
        u = unpack(&bad);
        assert_fails(u, -EINVAL, "whiteout");
        assert_non_null(strstr(u.err.msg, malformed[i]));
    }
}

/* Everything below tries to touch <base>/outside. */
static void nothing_escapes(void **state) {
    char outside[128], victim[160];
    snprintf(outside, sizeof(outside), "%s/outside", base);
    snprintf(victim, sizeof(victim), "%s/victim", outside);
    mkdir(outside, 0755);
    int fd = open(victim, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    assert_int_equal(write(fd, "safe", 4), 4);
    close(fd);
    struct stat before, after;
    lstat(outside, &before);

    static const char *const dotdot[] = {"../evil", "a/../../evil", "..", "a/..", "/../evil", "./../x"};
    for (size_t i = 0; i < ARRAY_LEN(dotdot); i++) {
        struct buf t = BUF_INIT;
        TAR(&t, .type = '0', .path = dotdot[i], .mode = 0644, .data = STR("x"));
        struct unpacked u = unpack(&t);
        assert_fails(u, -EINVAL, "..");
    }
    { /* an absolute name is one below the root of the layer */
        struct buf t = BUF_INIT;
        TAR(&t, .type = '0', .path = "/etc/dory-test-file", .mode = 0644, .data = STR("in"));
        struct unpacked u = unpack(&t);
        assert_int_equal(u.code, 0);
        assert_text(&u, "etc/dory-test-file", "in");
        assert_int_equal(access("/etc/dory-test-file", F_OK), -1);
    }
    const char *const links[] = {outside, "../outside",    "../../../../../../../../tmp", "/", "/proc/self/root",
                                 "..",    "/proc/self/cwd"};
    for (size_t i = 0; i < ARRAY_LEN(links); i++) { /* a parent that is a link */
        struct buf t = BUF_INIT;
        TAR(&t, .type = '2', .path = "d", .link = links[i]);
        TAR(&t, .type = '0', .path = "d/dory-evil", .mode = 0644, .data = STR("evil"));
        TAR(&t, .type = '5', .path = "d/dory-sub", .mode = 0700);
        TAR(&t, .type = '0', .path = "d/dory-sub/x", .mode = 0644);
        TAR(&t, .type = '0', .path = "d/.wh.victim", .mode = 0);
        struct unpacked u = unpack(&t);
        assert_int_equal(u.code, 0);
        char evil[256];
        snprintf(evil, sizeof(evil), "%s/dory-evil", outside);
        assert_int_equal(access(evil, F_OK), -1);
        assert_int_equal(access("/tmp/dory-evil", F_OK), -1);
        assert_int_equal(access("/dory-evil", F_OK), -1);
        assert_int_equal(access("dory-evil", F_OK), -1);
        struct stat st;
        assert_int_equal(lstat(victim, &st), 0);
        assert_true(S_ISREG(st.st_mode));
    }
    { /* a link that is written through, and one whose attributes are set */
        struct buf t = BUF_INIT;
        TAR(&t, .type = '2', .path = "f", .link = victim);
        TAR(&t, .type = '0', .path = "f", .mode = 0777, .uid = 9, .data = STR("evil"));
        TAR(&t, .type = '2', .path = "g", .link = outside);
        TAR(&t, .type = '5', .path = "g", .mode = 0777, .uid = 9, .mtime = 77);
        struct unpacked u = unpack(&t);
        assert_int_equal(u.code, 0);
        assert_text(&u, "f", "evil");
        assert_true(S_ISDIR(stat_of(&u, "g").st_mode));
    }
    { /* times of directories are set last: the directory became a link meanwhile */
        struct buf t = BUF_INIT;
        TAR(&t, .type = '5', .path = "a", .mode = 0755, .mtime = 77);
        TAR(&t, .type = '5', .path = "a/outside", .mode = 0755, .mtime = 77);
        TAR(&t, .type = '2', .path = "a", .link = base);
        struct unpacked u = unpack(&t);
        assert_int_equal(u.code, 0);
    }
    const char *const hard[] = {"../outside/victim", victim, "/etc/passwd", "missing", "", "dir"};
    for (size_t i = 0; i < ARRAY_LEN(hard); i++) {
        struct buf t = BUF_INIT;
        TAR(&t, .type = '5', .path = "dir", .mode = 0755);
        TAR(&t, .type = '1', .path = "stolen", .link = hard[i]);
        struct unpacked u = unpack(&t);
        assert_int_equal(u.code, -EINVAL);
        assert_int_equal(stat_of(&u, "stolen").st_mode, 0);
    }
    { /* a hard link to a symbolic link does not follow it */
        struct buf t = BUF_INIT;
        TAR(&t, .type = '2', .path = "s", .link = victim);
        TAR(&t, .type = '1', .path = "h", .link = "s");
        TAR(&t, .type = '0', .path = "s/x", .mode = 0644);
        struct unpacked u = unpack(&t);
        assert_true(S_ISLNK(stat_of(&u, "h").st_mode));
    }
    lstat(outside, &after);
    assert_int_equal(before.st_mtim.tv_nsec, after.st_mtim.tv_nsec);
    assert_int_equal(before.st_mode, after.st_mode);
    lstat(victim, &after);
    assert_int_equal(after.st_uid, 0);
    assert_int_equal(after.st_nlink, 1);
    assert_int_equal(after.st_size, 4);
}

static void links_inside_the_layer_are_followed_inside(void **state) {
    struct buf t = BUF_INIT;
    TAR(&t, .type = '5', .path = "usr/lib", .mode = 0755);
    TAR(&t, .type = '2', .path = "lib", .link = "usr/lib");
    TAR(&t, .type = '2', .path = "usr/abs", .link = "/usr/lib");
    TAR(&t, .type = '0', .path = "lib/a", .mode = 0644, .data = STR("A"));
    TAR(&t, .type = '0', .path = "usr/abs/b", .mode = 0644, .data = STR("B"));
    TAR(&t, .type = '2', .path = "dangling", .link = "to/nowhere");
    TAR(&t, .type = '0', .path = "dangling/c", .mode = 0644, .data = STR("C"));
    TAR(&t, .type = '2', .path = "l1", .link = "l2");
    struct unpacked u = unpack(&t);
    assert_int_equal(u.code, 0);
    assert_text(&u, "usr/lib/a", "A");
    assert_text(&u, "usr/lib/b", "B");
    assert_text(&u, "to/nowhere/c", "C");
    struct buf loop = BUF_INIT;
    TAR(&loop, .type = '2', .path = "l1", .link = "l2");
    TAR(&loop, .type = '2', .path = "l2", .link = "l1");
    TAR(&loop, .type = '0', .path = "l1/x", .mode = 0644);
    u = unpack(&loop);
    assert_fails(u, -ELOOP, "l1/x");
}

static void later_entries_replace_earlier_ones(void **state) {
    struct buf t = BUF_INIT;
    TAR(&t, .type = '5', .path = "x", .mode = 0755);
    TAR(&t, .type = '0', .path = "x/deep/file", .mode = 0644, .data = STR("1"));
    TAR(&t, .type = '0', .path = "x", .mode = 0600, .data = STR("file now"));
    TAR(&t, .type = '0', .path = "y", .mode = 0644, .data = STR("1"));
    TAR(&t, .type = '5', .path = "y", .mode = 0755);
    TAR(&t, .type = '0', .path = "y/z", .mode = 0644, .data = STR("2"));
    TAR(&t, .type = '5', .path = "y", .mode = 0700);
    /* a link in the middle of a path turns into a directory: what was looked up before must not be used */
    TAR(&t, .type = '5', .path = "real", .mode = 0755);
    TAR(&t, .type = '2', .path = "via", .link = "real");
    TAR(&t, .type = '0', .path = "via/one", .mode = 0644);
    TAR(&t, .type = '5', .path = "via", .mode = 0755);
    TAR(&t, .type = '0', .path = "via/two", .mode = 0644);
    struct unpacked u = unpack(&t);
    assert_int_equal(u.code, 0);
    assert_text(&u, "x", "file now");
    assert_text(&u, "y/z", "2");
    assert_int_equal(stat_of(&u, "y").st_mode, S_IFDIR | 0700);
    assert_true(S_ISREG(stat_of(&u, "real/one").st_mode));
    assert_true(S_ISREG(stat_of(&u, "via/two").st_mode));
    assert_int_equal(stat_of(&u, "real/two").st_mode, 0);
}

static void attributes_of_the_host_are_dropped(void **state) {
    struct buf t = BUF_INIT;
    TAR(&t, .type = '5', .path = "d", .mode = 0755, .xattr = "trusted.overlay.opaque", .xattr_value = "y");
    TAR(&t, .type = '0', .path = "f", .mode = 0644, .xattr = "trusted.overlay.redirect", .xattr_value = "/x");
    TAR(&t, .type = '0', .path = "g", .mode = 0644, .xattr = "user.overlay.opaque", .xattr_value = "y");
    struct unpacked u = unpack(&t);
    assert_int_equal(u.code, 0);
    char path[256];
    const char *const names[] = {"d", "f", "g"};
    for (size_t i = 0; i < 3; i++) {
        char list[64];
        snprintf(path, sizeof(path), "%s/%s", u.dir, names[i]);
        assert_int_equal(llistxattr(path, list, sizeof(list)), 0);
    }
}

static void limits_hold(void **state) {
    struct buf t = BUF_INIT, bomb = {NULL, 0, 0, MiB(512), false}, zeros = {NULL, 0, 0, MiB(512), false};
    static char mib[1 << 20];
    TAR(&t, .type = '0', .path = "big", .mode = 0644, .data = str_n(mib, sizeof(mib)));
    tar_close(&t);
    struct layer_options o = {.bytes_max = 1000};
    struct unpacked u = unpack_with(buf_str(&t), 4096, &o);
    assert_int_equal(u.code, -E2BIG);
    buf_reset(&t);
    for (int i = 0; i < 20; i++) {
        char name[16];
        snprintf(name, sizeof(name), "f%d", i);
        TAR(&t, .type = '0', .path = name, .mode = 0644);
    }
    tar_close(&t);
    o = (struct layer_options){.entries_max = 10};
    u = unpack_with(buf_str(&t), 4096, &o);
    assert_int_equal(u.code, -E2BIG);
    /* 64 MiB of zeros in 64 KiB: stopped by the number of bytes, long before it is through */
    TAR(&zeros, .type = '0', .path = "bomb", .mode = 0644, .data = STR(""));
    for (int i = 0; i < 64; i++)
        buf_put(&zeros, mib, sizeof(mib));
    tar_gzip(&bomb, buf_str(&zeros));
    o = (struct layer_options){.bytes_max = MiB(8), .entries_max = 100};
    u = unpack_with(buf_str(&bomb), 65536, &o);
    assert_int_equal(u.code, -E2BIG);
    buf_fini(&t);
    buf_fini(&bomb);
    buf_fini(&zeros);

    struct buf deep = BUF_INIT;
    char path[2 * 220 + 8] = "";
    for (int i = 0; i < 210; i++)
        memcpy(path + 2 * i, "d/", 3);
    TAR(&deep, .type = '5', .path = path, .mode = 0755);
    u = unpack(&deep);
    assert_fails(u, -EINVAL, "nested deeper");
    struct buf longname = BUF_INIT;
    memset(path, 'n', 300);
    path[300] = 0;
    TAR(&longname, .type = '0', .path = path, .mode = 0644);
    u = unpack(&longname);
    assert_fails(u, -EINVAL, "longer than 255");
    struct buf owner = BUF_INIT;
    tar_pax(&owner, "uid", STR("4294967295"));
    TAR(&owner, .type = '0', .path = "o", .mode = 0644);
    u = unpack(&owner);
    assert_int_not_equal(u.code, 0);
}

static void implied_directories_look_as_below(void **state) {
    struct buf low = BUF_INIT, top = BUF_INIT;
    TAR(&low, .type = '5', .path = "tmp", .mode = 01777, .uid = 1, .gid = 2, .mtime = 1234);
    TAR(&low, .type = '5', .path = "srv/data", .mode = 0700);
    struct unpacked l = unpack(&low);
    assert_int_equal(l.code, 0);
    TAR(&top, .type = '0', .path = "tmp/f", .mode = 0644);
    TAR(&top, .type = '0', .path = "srv/data/f", .mode = 0644);
    TAR(&top, .type = '0', .path = "new/f", .mode = 0644);
    struct unpacked t = unpack(&top);
    assert_int_equal(t.code, 0);
    const char *below[] = {l.dir};
    layer_adopt_implied(t.dir, str_c(t.implied), below, 1);
    struct stat st = stat_of(&t, "tmp");
    assert_int_equal(st.st_mode, S_IFDIR | 01777);
    assert_int_equal(st.st_uid, 1);
    assert_int_equal(st.st_mtime, 1234);
    assert_int_equal(stat_of(&t, "srv/data").st_mode, S_IFDIR | 0700);
    assert_int_equal(stat_of(&t, "new").st_mode, S_IFDIR | 0755);
}

static int in_new_dir(void **state) {
    snprintf(base, sizeof(base), "/var/tmp/dory-test-layer-XXXXXX");
    return mkdtemp(base) ? 0 : -1;
}

static int remove_dir(void **state) {
    return dir_remove_all(base, NULL);
}

int main(void) {
    if (geteuid() != 0) {
        puts("owners and device nodes need root");
        return 77;
    }
    umask(077);
    pki_init();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(files_arrive_with_their_attributes),
        cmocka_unit_test(compressed_in_any_way_and_cut_anywhere),
        cmocka_unit_test(digests_are_checked),
        cmocka_unit_test(whiteouts_become_those_of_overlayfs),
        cmocka_unit_test(nothing_escapes),
        cmocka_unit_test(links_inside_the_layer_are_followed_inside),
        cmocka_unit_test(later_entries_replace_earlier_ones),
        cmocka_unit_test(attributes_of_the_host_are_dropped),
        cmocka_unit_test(limits_hold),
        cmocka_unit_test(implied_directories_look_as_below),
    };
    int failed = cmocka_run_group_tests_name("openat2", tests, in_new_dir, remove_dir);
    by_hand = true;
    return failed + cmocka_run_group_tests_name("by hand", tests, in_new_dir, remove_dir);
}
