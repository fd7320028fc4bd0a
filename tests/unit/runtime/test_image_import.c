/* sanitizer: thread */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <sys/stat.h>
#include <utime.h>

#include <cmocka.h>

#include "fake_image.h"
#include "store_env.h"

struct rig {
    struct store_env e;
    char dir[80];
};

static int rig_up(void **state) {
    struct rig *r = XNEW(struct rig);
    env_init(&r->e, "");
    snprintf(r->dir, sizeof(r->dir), "%s/import", r->e.root);
    mkdir(r->dir, 0755);
    *state = r;
    return 0;
}

static int rig_down(void **state) {
    struct rig *r = *state;
    env_fini(&r->e);
    free(r);
    return 0;
}

static char *file_with(struct rig *r, const char *name, struct str bytes) {
    static char path[4][256];
    static int turn;
    char *p = path[turn++ % 4];
    snprintf(p, sizeof(path[0]), "%s/%s", r->dir, name);
    assert_int_equal(file_write_replace(p, bytes, 0644, NULL), 0);
    return p;
}

static void member(struct buf *t, const char *name, struct str data) {
    TAR(t, .type = '0', .path = name, .mode = 0644, .data = data);
}

/* Layers of the small image, uncompressed: the archive's own. */
static void plain_layers(struct buf *a, struct buf *b) {
    TAR(a, .type = '0', .path = "etc/one", .mode = 0644, .data = STR("one"));
    TAR(b, .type = '0', .path = "etc/two", .mode = 0644, .data = STR("two"));
    tar_close(a);
    tar_close(b);
}

/* What `docker save` wrote before version 25: links for layers that are in twice, and one layer repeated in the image. */
static void docker_archive(struct buf *t, const char *tags) {
    struct buf a = BUF_INIT, b = BUF_INIT, config = BUF_INIT, manifest = BUF_INIT;
    char da[IMAGE_DIGEST_LEN + 1], db[IMAGE_DIGEST_LEN + 1];
    plain_layers(&a, &b);
    image_digest_of(a.p, a.n, da);
    image_digest_of(b.p, b.n, db);
    buf_printf(
        &config,
        "{\"architecture\":\"amd64\",\"os\":\"linux\",\"config\":{\"Cmd\":[\"x\"]},\"rootfs\":{\"type\":\"layers\","
        "\"diff_ids\":[\"%s\",\"%s\",\"%s\",\"%s\"]}}",
        da, db, db, da);
    buf_printf(
        &manifest,
        "[{\"Config\":\"c.json\",\"RepoTags\":%s,\"Layers\":[\"a/layer.tar\",\"b/layer.tar\",\"b2/layer.tar\",\"./a/layer.tar\"]}]",
        tags);
    member(t, "a/VERSION", STR("1.0"));
    member(t, "a/json", STR("{}"));
    member(t, "a/layer.tar", buf_str(&a));
    member(t, "b/layer.tar", buf_str(&b));
    TAR(t, .type = '2', .path = "b2/layer.tar", .link = "../b/layer.tar");
    member(t, "c.json", buf_str(&config));
    member(t, "manifest.json", buf_str(&manifest));
    member(t, "repositories", STR("{\"app\":{\"1\":\"a\"}}"));
    tar_close(t);
    buf_fini(&a);
    buf_fini(&b);
    buf_fini(&config);
    buf_fini(&manifest);
}

static void blob_member(struct buf *t, const struct fake_blob *b) {
    char name[128];
    snprintf(name, sizeof(name), "blobs/sha256/%s", b->digest + 7);
    member(t, name, buf_str(&b->bytes));
}

static void oci_archive(struct buf *t, const struct fake_image *img, const char *annotations) {
    struct buf index = BUF_INIT;
    buf_printf(
        &index,
        "{\"schemaVersion\":2,\"manifests\":[{\"mediaType\":\"application/vnd.oci.image.index.v1+json\",\"digest\":\"%s\","
        "\"size\":%zu,\"annotations\":{%s}}]}",
        img->index.digest, img->index.bytes.n, annotations);
    member(t, "index.json", buf_str(&index));
    member(t, "oci-layout", STR("{\"imageLayoutVersion\":\"1.0.0\"}"));
    blob_member(t, &img->index);
    blob_member(t, &img->manifest);
    blob_member(t, &img->config);
    for (size_t i = 0; i < img->n; i++)
        blob_member(t, &img->layers[i]);
    tar_close(t);
    buf_fini(&index);
}

static void docker_archives_in_any_compression(void **state) {
    struct rig *r = *state;
    struct buf t = BUF_INIT, gz = BUF_INIT, zs = BUF_INIT;
    docker_archive(&t, "[\"app:1\",\"quay.io/x/app:latest\"]");
    tar_gzip(&gz, buf_str(&t));
    tar_zstd(&zs, buf_str(&t));
    const struct str forms[] = {buf_str(&t), buf_str(&gz), buf_str(&zs)};
    for (size_t i = 0; i < 3; i++) {
        struct env_import im = env_import(&r->e, file_with(r, "app.tar", forms[i]));
        if (im.images != 1)
            fail_msg("%s", im.err.msg);
        struct image *img = env_find(&r->e, "app:1"), *same = env_find(&r->e, "quay.io/x/app");
        assert_non_null(img);
        assert_ptr_equal(img, same);
        assert_int_equal(img->repo_tags_n, 2);
        char path[512];
        for (int k = 0; k < 4; k++) {
            struct stat st;
            snprintf(path, sizeof(path), "%s/etc/%s", img->layers[k], k == 0 || k == 3 ? "one" : "two");
            assert_int_equal(lstat(path, &st), 0);
        }
        assert_null(img->layers[4]);
        env_unref(&r->e, img);
        env_unref(&r->e, same);
        assert_int_equal(env_remove(&r->e, "app:1").code, 0);
        assert_null(env_find(&r->e, "quay.io/x/app"));
    }
    buf_fini(&t);
    buf_fini(&gz);
    buf_fini(&zs);
}

static void oci_archives_and_their_names(void **state) {
    struct rig *r = *state;
    static const struct {
        const char *annotations, *name;
    } cases[] = {
        {"\"io.containerd.image.name\":\"docker.io/library/web:2\",\"org.opencontainers.image.ref.name\":\"2\"",
         "web:2"},
        {"\"org.opencontainers.image.ref.name\":\"registry.example/web:3\"", "registry.example/web:3"},
        {"\"org.opencontainers.image.ref.name\":\"web\"", "web:latest"},
        {"\"org.opencontainers.image.ref.name\":\"1.0\"", NULL},
        {"", NULL},
    };
    struct fake_image img;
    fake_image_small(&img);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct buf t = BUF_INIT;
        oci_archive(&t, &img, cases[i].annotations);
        struct env_import im = env_import(&r->e, file_with(r, "web.tar", buf_str(&t)));
        if (im.images != 1)
            fail_msg("%s", im.err.msg);
        struct image *have = env_find(&r->e, cases[i].name ? cases[i].name : img.config.digest);
        assert_non_null(have);
        assert_string_equal(have->id.p, img.config.digest);
        assert_int_equal(have->repo_tags_n, cases[i].name ? 1 : 0);
        assert_int_equal(have->repo_digests_n, cases[i].name ? 1 : 0);
        char path[512];
        struct stat st;
        snprintf(path, sizeof(path), "%s/tmp", have->layers[1]);
        assert_int_equal(lstat(path, &st), 0);
        assert_int_equal(st.st_mode, S_IFDIR | 01777);
        env_unref(&r->e, have);
        assert_int_equal(env_remove(&r->e, img.config.digest).code, 0);
        buf_fini(&t);
    }
    fake_image_free(&img);
}

static void assert_refused(struct rig *r, struct str bytes, const char *part) {
    struct env_import im = env_import(&r->e, file_with(r, "bad.tar", bytes));
    assert_true(im.images < 0);
    if (!strstr(im.err.msg, part) || !strstr(im.err.msg, "bad.tar"))
        fail_msg("\"%s\" lacks \"%s\"", im.err.msg, part);
}

static void bad_archives_are_refused_with_a_reason(void **state) {
    struct rig *r = *state;
    struct buf t = BUF_INIT, evil = BUF_INIT, gz = BUF_INIT;
    struct fake_image img;
    fake_image_small(&img);
    assert_refused(r, STR(""), "no image archive");
    assert_refused(r, STR("this is no archive at all, it is just some text"), "tar");
    docker_archive(&t, "[\"app:1\"]");
    assert_refused(r, str_n(t.p, t.n / 2), "tar");
    tar_gzip(&gz, buf_str(&t));
    assert_refused(r, str_n(gz.p, gz.n - 20), "bad.tar");
    buf_reset(&t);
    member(&t, "manifest.json", STR("[{\"Config\":\"../../etc/passwd\",\"Layers\":[]}]"));
    assert_refused(r, buf_str(&t), "../../etc/passwd");
    buf_reset(&t);
    member(&t, "manifest.json", STR("{nonsense"));
    assert_refused(r, buf_str(&t), "manifest.json");
    buf_reset(&t);
    oci_archive(&t, &img, "");
    buf_reset(&t);
    { /* a blob whose contents are not its digest */
        struct fake_image forged = img;
        forged.layers[0].bytes = img.layers[1].bytes;
        oci_archive(&t, &forged, "");
        assert_refused(r, buf_str(&t), "digest mismatch");
        buf_reset(&t);
        forged = img;
        forged.config.bytes = img.manifest.bytes;
        oci_archive(&t, &forged, "");
        assert_refused(r, buf_str(&t), "digest mismatch");
        buf_reset(&t);
    }
    { /* a layer lacks */
        struct fake_image forged = img;
        forged.n = 1;
        oci_archive(&t, &forged, "");
        assert_refused(r, buf_str(&t), "is not in the archive");
        buf_reset(&t);
    }
    fake_image_free(&img);
    img = (struct fake_image){0}; /* a hostile layer */
    TAR(&evil, .type = '0', .path = "../../../../tmp/dory-evil", .mode = 0644, .data = STR("x"));
    fake_layer(&img, &evil, false);
    fake_image_seal(&img, "linux", "amd64");
    oci_archive(&t, &img, "");
    assert_refused(r, buf_str(&t), "..");
    fake_image_free(&img);
    buf_reset(&t);
    img = (struct fake_image){0}; /* another machine's */
    evil = (struct buf)BUF_INIT;
    TAR(&evil, .type = '0', .path = "x", .mode = 0644);
    fake_layer(&img, &evil, false);
    fake_image_seal(&img, "windows", "amd64");
    oci_archive(&t, &img, "");
    assert_refused(r, buf_str(&t), "no match for platform");
    fake_image_free(&img);
    struct env_import im = env_import(&r->e, "/nonexistent/x.tar");
    assert_int_equal(im.images, -ENOENT);
    im = env_import(&r->e, "/dev/zero");
    assert_int_equal(im.images, -EINVAL);
    buf_fini(&t);
    buf_fini(&gz);
    /* nothing unpacked was left behind */
    char tmp[128];
    snprintf(tmp, sizeof(tmp), "%s/tmp", r->e.root);
    for (int i = 0; i < 100 && rmdir(tmp) < 0; i++)
        usleep(10000);
    assert_int_equal(mkdir(tmp, 0700), 0);
}

struct dir_call {
    struct store_env *e;
    const char *dir;
    bool done;
};

static void dir_done(void *arg) {
    struct dir_call *c = arg;
    env_signal(c->e, &c->done);
}

static void dir_fn(struct store_env *e, void *arg) {
    struct dir_call *c = arg;
    image_import_dir(e->store, c->dir, dir_done, c);
}

static void import_dir(struct rig *r) {
    struct dir_call c = {.e = &r->e, .dir = r->dir};
    env_call(&r->e, dir_fn, &c);
    env_wait(&r->e, &c.done);
}

static unsigned number_of_layer(struct rig *r, const char *name) {
    struct image *img = env_find(&r->e, name);
    if (!img)
        return 0;
    uint64_t n = 0;
    str_to_u64(str_c(strrchr(img->layers[0], '/') + 1), &n);
    env_unref(&r->e, img);
    return (unsigned)n;
}

static void a_directory_is_imported_once(void **state) {
    struct rig *r = *state;
    struct buf t = BUF_INIT, u = BUF_INIT;
    struct fake_image img;
    docker_archive(&t, "[\"app:1\"]");
    fake_image_small(&img);
    oci_archive(&u, &img, "\"org.opencontainers.image.ref.name\":\"web:1\"");
    char *app = file_with(r, "app.tar", buf_str(&t));
    file_with(r, "web.tar.gz", buf_str(&u)); /* the name does not matter */
    file_with(r, "broken.tar", STR("x"));
    file_with(r, "notes.md", STR("x"));
    file_with(r, "more.txt", STR("# comment\n\nUPPER CASE\n"));
    import_dir(r);
    unsigned first = number_of_layer(r, "app:1"), web = number_of_layer(r, "web:1");
    assert_int_not_equal(first, 0);
    assert_int_not_equal(web, 0);
    env_close(&r->e);
    env_loop(&r->e);
    env_reopen(&r->e);
    import_dir(r);
    assert_int_equal(number_of_layer(r, "app:1"), first);
    char records[128];
    struct stat before, after;
    snprintf(records, sizeof(records), "%s/imports.json", r->e.root);
    assert_int_equal(stat(records, &before), 0);
    import_dir(r);
    assert_int_equal(stat(records, &after), 0);
    assert_int_equal(before.st_ino, after.st_ino); /* nothing was new: nothing was written */
    /* changed: imported again; removed since: comes back */
    buf_reset(&t);
    docker_archive(&t, "[\"app:2\"]");
    file_with(r, "app.tar", buf_str(&t));
    struct utimbuf then = {1000, 1000};
    assert_int_equal(utime(app, &then), 0);
    assert_int_equal(env_remove(&r->e, "web:1").code, 0);
    import_dir(r);
    assert_int_not_equal(number_of_layer(r, "app:2"), 0);
    assert_int_not_equal(number_of_layer(r, "web:1"), 0);
    fake_image_free(&img);
    buf_fini(&t);
    buf_fini(&u);
}

static void start_import(struct store_env *e, void *arg) {
    env_import_fn(e, arg);
    image_store_close(e->store);
    e->store = NULL;
}

static void the_store_closes_during_an_import(void **state) {
    struct rig *r = *state;
    struct buf t = BUF_INIT;
    docker_archive(&t, "[\"app:1\"]");
    struct env_import im = {.path = file_with(r, "app.tar", buf_str(&t))};
    env_call(&r->e, start_import, &im);
    env_wait(&r->e, &im.done);
    assert_int_equal(im.images, -ECANCELED);
    buf_fini(&t);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, rig_up, rig_down)

int main(void) {
    if (geteuid() != 0) {
        puts("unpacking layers needs root");
        return 77;
    }
    pki_init();
    const struct CMUnitTest tests[] = {
        TEST(docker_archives_in_any_compression),     TEST(oci_archives_and_their_names),
        TEST(bad_archives_are_refused_with_a_reason), TEST(a_directory_is_imported_once),
        TEST(the_store_closes_during_an_import),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
