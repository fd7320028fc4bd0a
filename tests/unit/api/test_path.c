#include "helper.h"

static struct api_target parse(struct arena *a, const char *method, const char *path, bool watch) {
    struct api_target t;
    api_path_parse(a, str_c(method), str_c(path), watch, &t);
    return t;
}

static void resources(void **state) {
    static const struct {
        const char *method, *path;
        bool watch;
        const char *verb, *group, *version, *plural, *ns, *name, *sub;
    } cases[] = {
        {"GET", "/api/v1/pods", false, "list", "", "v1", "pods", "", "", ""},
        {"GET", "/api/v1/pods", true, "watch", "", "v1", "pods", "", "", ""},
        {"GET", "/api/v1/namespaces/a/pods/b", false, "get", "", "v1", "pods", "a", "b", ""},
        {"GET", "/api/v1/namespaces/a/pods/b/log", false, "get", "", "v1", "pods", "a", "b", "log"},
        {"POST", "/api/v1/namespaces/a/pods/b/exec", false, "create", "", "v1", "pods", "a", "b", "exec"},
        {"GET", "/api/v1/namespaces", false, "list", "", "v1", "namespaces", "", "", ""},
        {"GET", "/api/v1/namespaces/a", false, "get", "", "v1", "namespaces", "a", "a", ""},
        {"PUT", "/api/v1/namespaces/a/finalize", false, "update", "", "v1", "namespaces", "a", "a", "finalize"},
        {"PUT", "/api/v1/namespaces/a/status", false, "update", "", "v1", "namespaces", "a", "a", "status"},
        {"DELETE", "/apis/apps/v1/namespaces/a/deployments", false, "deletecollection", "apps", "v1", "deployments",
         "a", "", ""},
        {"DELETE", "/apis/apps/v1/namespaces/a/deployments/d", false, "delete", "apps", "v1", "deployments", "a", "d",
         ""},
        {"PATCH", "/api/v1/nodes/n/status", false, "patch", "", "v1", "nodes", "", "n", "status"},
        {"GET", "/api/v1/watch/namespaces/a/pods", false, "watch", "", "v1", "pods", "a", "", ""},
        {"GET", "/api/v1/namespaces/a/pods/", false, "list", "", "v1", "pods", "a", "", ""},
    };
    cleanup_arena struct arena *a = arena_new(0, 0);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct api_target t = parse(a, cases[i].method, cases[i].path, cases[i].watch);
        assert_true(t.resource);
        assert_true(str_eq_c(t.verb, cases[i].verb));
        assert_true(str_eq_c(t.group, cases[i].group));
        assert_true(str_eq_c(t.version, cases[i].version));
        assert_true(str_eq_c(t.plural, cases[i].plural));
        assert_true(str_eq_c(t.ns, cases[i].ns));
        assert_true(str_eq_c(t.name, cases[i].name));
        assert_true(str_eq_c(t.subresource, cases[i].sub));
    }
}

static void proxies_keep_their_rest(void **state) {
    cleanup_arena struct arena *a = arena_new(0, 0);
    struct api_target t = parse(a, "GET", "/api/v1/namespaces/a/services/http:s:80/proxy/x/y", false);
    assert_true(t.resource);
    assert_true(str_eq_c(t.subresource, "proxy"));
    assert_true(str_eq_c(t.name, "http:s:80"));
    assert_true(str_eq_c(t.rest, "/x/y"));
}

static void no_resources(void **state) {
    static const char *const paths[] = {"/",
                                        "/api",
                                        "/api/v1",
                                        "/apis",
                                        "/apis/apps",
                                        "/apis/apps/v1",
                                        "/healthz",
                                        "",
                                        "/api/v1//pods",
                                        "/api/v1/namespaces/a/pods/b/log/more",
                                        "/apix/v1/pods",
                                        "/a/b/c/d/e/f/g/h/i/j/k/l/m/n/o/p"};
    cleanup_arena struct arena *a = arena_new(0, 0);
    for (size_t i = 0; i < ARRAY_LEN(paths); i++)
        assert_false(parse(a, "GET", paths[i], false).resource);
    assert_false(parse(a, "BREW", "/api/v1/pods", false).resource);
}

static void queries(void **state) {
    cleanup_arena struct arena *a = arena_new(0, 0);
    struct api_param *p;
    size_t n;
    assert_true(api_query_parse(a, STR("labelSelector=a%3Db%2Cc&limit=5&watch&x=1+2"), &p, &n));
    assert_int_equal(n, 4);
    assert_true(str_eq_c(p[0].value, "a=b,c"));
    assert_true(str_eq_c(p[2].key, "watch"));
    assert_true(str_eq_c(p[3].value, "1 2"));
    assert_false(api_query_parse(a, STR("a=%zz"), &p, &n));
    struct buf b = BUF_INIT;
    for (int i = 0; i < 100; i++)
        buf_puts(&b, "a=b&");
    assert_false(api_query_parse(a, buf_str(&b), &p, &n));
    buf_fini(&b);
}

static void accept_headers(void **state) {
    struct api_accept x;
    assert_true(
        accept_parse(STR("application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta"
                         ".k8s.io,application/json"),
                     &x));
    assert_int_equal(x.form, FORM_TABLE);
    assert_true(accept_parse(STR("application/vnd.kubernetes.protobuf,application/json"), &x));
    assert_int_equal(x.form, FORM_OBJECT);
    assert_true(
        accept_parse(STR("application/json; g=apidiscovery.k8s.io; v=v2; as=APIGroupDiscoveryList; profile=nopeer"),
                     &x));
    assert_true(x.discovery_v2);
    assert_true(accept_parse(STR("application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"), &x));
    assert_int_equal(x.form, FORM_PARTIAL);
    assert_true(accept_parse(STR(""), &x));
    assert_true(accept_parse(STR("*/*"), &x));
    assert_true(accept_parse(STR("application/yaml"), &x));
    assert_int_equal(x.media, MEDIA_YAML);
    assert_false(accept_parse(STR("application/vnd.kubernetes.protobuf"), &x));
    assert_false(accept_parse(STR("text/html"), &x));
    assert_false(accept_parse(STR("application/json;as=Chair;g=meta.k8s.io;v=v1"), &x));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(resources), cmocka_unit_test(proxies_keep_their_rest), cmocka_unit_test(no_resources),
        cmocka_unit_test(queries),   cmocka_unit_test(accept_headers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
