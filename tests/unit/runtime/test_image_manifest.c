#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "runtime/image_manifest.h"

#define D(c) "sha256:" c c c c c c c c c c c c c c c c c c c c c c c c c c c c c c c c
#define LAYER(t, d) "{\"mediaType\":\"" t "\",\"digest\":\"" d "\",\"size\":7}"
#define OCI_LAYER "application/vnd.oci.image.layer.v1.tar"
#define CONFIG "\"config\":{\"digest\":\"" D("aa") "\",\"size\":3}"

static int parse(struct arena *a, const char *text, struct image_manifest *m, struct error *err) {
    return image_manifest_parse(a, str_c(text), STR(""), m, err);
}

static void manifests_of_both_kinds(void **state) {
    cleanup_arena struct arena *a = arena_new(0, 0);
    struct image_manifest m;
    struct error err = {0};
    assert_int_equal(
        parse(a,
              "{\"schemaVersion\":2," CONFIG
              ",\"layers\":[" LAYER(OCI_LAYER "+gzip", D("bb")) "," LAYER(OCI_LAYER "+zstd", D("cc")) "," LAYER(
                  OCI_LAYER, D("dd")) "," LAYER("application/vnd.docker.image.rootfs.diff.tar.gzip", D("ee")) "]}",
              &m, &err),
        0);
    assert_int_equal(m.kind, IMAGE_DOCUMENT_MANIFEST);
    assert_int_equal(m.layers_n, 4);
    assert_string_equal(m.layers[1].digest.p, D("cc"));
    assert_int_equal(m.layers[0].size, 7);
    assert_int_equal(parse(a, "{\"schemaVersion\":2,\"manifests\":[]}", &m, &err), 0);
    assert_int_equal(m.kind, IMAGE_DOCUMENT_INDEX);
}

static void bad_manifests_are_refused(void **state) {
    static const struct {
        const char *text;
        int code;
        const char *part;
    } cases[] = {
        {"", -EINVAL, "manifest"},
        {"[]", -EINVAL, "no JSON object"},
        {"{}", -EINVAL, "descriptor"},
        {"{\"schemaVersion\":1,\"fsLayers\":[]}", -ENOTSUP, "schema 1"},
        {"{\"manifests\":[],\"layers\":[]}", -EINVAL, "ambiguous"},
        {"{\"manifests\":[]," CONFIG "}", -EINVAL, "ambiguous"},
        {"{\"mediaType\":\"application/vnd.oci.image.manifest.v1+json\",\"manifests\":[]}", -EINVAL, "not of its type"},
        {"{\"mediaType\":\"text/html\"," CONFIG ",\"layers\":[]}", -ENOTSUP, "text/html"},
        {"{" CONFIG "}", -EINVAL, "no list of layers"},
        {"{\"config\":{\"digest\":\"sha256:xyz\",\"size\":3},\"layers\":[]}", -EINVAL, "sha256:xyz"},
        {"{\"config\":{\"digest\":\"../../etc/passwd\",\"size\":3},\"layers\":[]}", -EINVAL, "../../etc/passwd"},
        {"{\"config\":{\"digest\":\"" D("aa") "\",\"size\":-1},\"layers\":[]}", -EINVAL, "size"},
        {"{\"config\":{\"digest\":\"" D("aa") "\",\"size\":99999999},\"layers\":[]}", -E2BIG, "4 MiB"},
        {"{\"config\":{\"mediaType\":\"application/vnd.cncf.helm.config.v1+json\",\"digest\":\"" D(
             "aa") "\",\"size\":3},\"layers\":[]}",
         -ENOTSUP, "helm"},
        {"{" CONFIG ",\"layers\":[" LAYER("application/wasm", D("bb")) "]}", -ENOTSUP, "application/wasm"},
        {"{" CONFIG ",\"layers\":[" LAYER(OCI_LAYER "+encrypted", D("bb")) "]}", -ENOTSUP, "encrypted"},
        {"{" CONFIG ",\"layers\":[5]}", -EINVAL, "layer 0"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        cleanup_arena struct arena *a = arena_new(0, 0);
        struct image_manifest m;
        struct error err = {0};
        int rc = parse(a, cases[i].text, &m, &err);
        if (rc != cases[i].code || !strstr(err.msg, cases[i].part))
            fail_msg("%s: %d %s", cases[i].text, rc, err.msg);
    }
    cleanup_arena struct arena *a = arena_new(0, 0);
    cleanup_buf struct buf many = BUF_INIT;
    struct image_manifest m;
    struct error err;
    buf_puts(&many, "{" CONFIG ",\"layers\":[");
    for (int i = 0; i < IMAGE_LAYERS_MAX + 1; i++)
        buf_printf(&many, "%s%s", i ? "," : "", LAYER(OCI_LAYER, D("bb")));
    buf_puts(&many, "]}");
    assert_int_equal(image_manifest_parse(a, buf_str(&many), STR(""), &m, &err), -E2BIG);
}

static const char *choose(struct arena *a, const char *index, const char *os, const char *arch, const char *variant,
                          struct error *err) {
    struct image_platform p = {str_c(os), str_c(arch), str_c(variant)};
    struct image_descriptor d;
    struct image_manifest m;
    assert_int_equal(parse(a, index, &m, err), 0);
    return image_index_choose(a, m.doc, &p, &d, err) ? NULL : d.digest.p;
}

#define ENTRY(c, platform) "{\"digest\":\"" D(c) "\",\"size\":9,\"platform\":{" platform "}}"

static void the_best_platform_is_chosen(void **state) {
    static const char index[] =
        "{\"manifests\":[" ENTRY("a0", "\"os\":\"unknown\",\"architecture\":\"unknown\"") "," ENTRY("a1", "\"os\":\"linux\",\"architecture\":\"amd64\"") "," ENTRY("a5", "\"os\":\"linux\",\"architecture\":\"arm\",\"variant\":\"v5\"") "," ENTRY("a7", "\"os\":\"linux\",\"architecture\":\"arm\",\"variant\":\"v7\"") "," ENTRY(
            "a6",
            "\"os\":\"linux\",\"architecture\":\"arm\",\"variant\":\"v6\"") "," ENTRY("a8",
                                                                                      "\"os\":\"linux\",\"architecture\":\"arm64\",\"variant\":\"v8\"") "," ENTRY("a3",
                                                                                                                                                                  "\"os\":\"linux\",\"architecture\":\"amd64\",\"variant\":\"v3\"") "," ENTRY("aw",
                                                                                                                                                                                                                                              "\"os\":\"windows\",\"architecture\":\"amd64\"") "]}";
    static const char *const cases[][4] = {
        {"linux", "amd64", "", D("a1")}, {"linux", "amd64", "v4", D("a3")}, {"linux", "amd64", "v2", D("a1")},
        {"linux", "arm", "", D("a7")},   {"linux", "arm", "v7", D("a7")},   {"linux", "arm", "v6", D("a6")},
        {"linux", "arm", "v5", D("a5")}, {"linux", "arm64", "", D("a8")},   {"linux", "arm64", "v8", D("a8")},
    };
    cleanup_arena struct arena *a = arena_new(0, 0);
    struct error err = {0};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        assert_string_equal(choose(a, index, cases[i][0], cases[i][1], cases[i][2], &err), cases[i][3]);
    assert_null(choose(a, index, "linux", "riscv64", "", &err));
    assert_int_equal(err.code, -ENOENT);
    assert_non_null(strstr(err.msg, "linux/riscv64"));
    assert_non_null(strstr(err.msg, "linux/arm/v7"));
    assert_null(strstr(err.msg, "unknown"));
    assert_string_equal(choose(a, "{\"manifests\":[{\"digest\":\"" D("bb") "\",\"size\":1}]}", "linux", "amd64", "",
                               &err),
                        D("bb"));
    assert_null(choose(a, "{\"manifests\":[{\"digest\":\"x\",\"size\":1}]}", "linux", "amd64", "", &err));
}

static void configurations(void **state) {
    cleanup_arena struct arena *a = arena_new(0, 0);
    struct image_config c;
    struct error err = {0};
    assert_int_equal(
        image_config_parse(
            a,
            STR("{\"os\":\"linux\",\"architecture\":\"arm64\",\"config\":null,\"rootfs\":{\"type\":\"layers\",\"diff_ids\":[\"" D(
                "aa") "\"]}}"),
            &c, &err),
        0);
    assert_int_equal(c.diff_ids_n, 1);
    assert_int_equal(c.config->type, JSON_OBJECT);
    assert_string_equal(c.platform.arch.p, "arm64");
    static const char *const bad[] = {"", "5", "{\"rootfs\":{\"type\":\"other\"}}",
                                      "{\"rootfs\":{\"diff_ids\":[\"x\"]}}", "{\"rootfs\":{\"diff_ids\":[5]}}"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_int_not_equal(image_config_parse(a, str_c(bad[i]), &c, &err), 0);
}

static void chain_ids(void **state) {
    char one[IMAGE_DIGEST_LEN + 1], two[IMAGE_DIGEST_LEN + 1], want[IMAGE_DIGEST_LEN + 1];
    image_chain_id(STR(""), STR(D("aa")), one);
    assert_string_equal(one, D("aa"));
    image_chain_id(str_c(one), STR(D("bb")), two);
    image_digest_of(D("aa") " " D("bb"), 2 * IMAGE_DIGEST_LEN + 1, want);
    assert_string_equal(two, want);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(manifests_of_both_kinds),
        cmocka_unit_test(bad_manifests_are_refused),
        cmocka_unit_test(the_best_platform_is_chosen),
        cmocka_unit_test(configurations),
        cmocka_unit_test(chain_ids),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
