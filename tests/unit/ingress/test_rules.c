#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "ingress/rules.h"

/* --- a table from JSON texts --- */
struct fixture {
    struct arena *a;
    struct ingress_rules *r;
};

static struct json *parse(struct arena *a, const char *text) {
    struct error err = {0};
    struct json *v = json_parse(a, str_c(text), NULL, &err);
    if (!v)
        fail_msg("%s: %s", err.msg, text);
    return v;
}

#define ING(name, created, spec)                                                                        \
    "{\"metadata\":{\"namespace\":\"x\",\"name\":\"" name "\",\"creationTimestamp\":\"2026-01-" created \
    "T00:00:00Z\"},\"spec\":{" spec "}}"
#define BACKEND(svc) "\"backend\":{\"service\":{\"name\":\"" svc "\",\"port\":{\"number\":80}}}"
#define DEFAULT(svc) "\"defaultBackend\":{\"service\":{\"name\":\"" svc "\",\"port\":{\"number\":80}}}"
#define PATH(path, type, svc) "{\"path\":\"" path "\",\"pathType\":\"" type "\"," BACKEND(svc) "}"
#define RULE(host, paths) "{\"host\":\"" host "\",\"http\":{\"paths\":[" paths "]}}"
#define ANY(paths) "{\"http\":{\"paths\":[" paths "]}}"

static void table(struct fixture *f, const char *const *texts, size_t n) {
    const struct json *all[16];
    f->a = arena_new(0, 0);
    for (size_t i = 0; i < n; i++)
        all[i] = parse(f->a, texts[i]);
    f->r = ingress_rules_new(all, n, "dory");
}
#define TABLE(f, ...)                               \
    do {                                            \
        const char *const texts_[] = {__VA_ARGS__}; \
        table(f, texts_, ARRAY_LEN(texts_));        \
    } while (0)

static void done(struct fixture *f) {
    ingress_rules_unref(f->r);
    arena_free(f->a);
}

/* The Service for a request as a client sends it; "-" for none. */
static const char *asks(struct fixture *f, const char *host, const char *path) {
    struct str clean;
    if (!ingress_path_clean(f->a, str_c(path), &clean))
        return "malformed";
    struct ingress_backend *b = ingress_rules_find(f->r, str_c(host), clean);
    return b ? b->service.p : "-";
}

/* --- paths --- */
static void test_prefix_by_element(void **state) {
    struct fixture f;
    TABLE(&f, ING("a", "01", "\"rules\":[" RULE("h", PATH("/foo", "Prefix", "foo")) "]"));
    static const struct {
        const char *path, *service;
    } cases[] = {{"/foo", "foo"},      {"/foo/", "foo"},     {"/foo/bar", "foo"},  {"/foobar", "-"},
                 {"/", "-"},           {"/fo", "-"},         {"/FOO", "-"},        {"/x/foo", "-"},
                 {"/x/../foo", "foo"}, {"//foo", "foo"},     {"/foo/..", "-"},     {"/%66oo/x", "foo"},
                 {"/./foo", "foo"},    {"/foo/../bar", "-"}, {"/foo%2Fbar", "foo"}};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        assert_string_equal(asks(&f, "h", cases[i].path), cases[i].service);
    done(&f);
}

static void test_trailing_slash_of_prefix(void **state) {
    struct fixture f;
    TABLE(&f, ING("a", "01", "\"rules\":[" RULE("h", PATH("/foo/", "Prefix", "foo")) "]"));
    assert_string_equal(asks(&f, "h", "/foo"), "foo");
    assert_string_equal(asks(&f, "h", "/foo/"), "foo");
    assert_string_equal(asks(&f, "h", "/foo/a"), "foo");
    assert_string_equal(asks(&f, "h", "/foobar"), "-");
    done(&f);
}

static void test_exact(void **state) {
    struct fixture f;
    TABLE(&f,
          ING("a", "01", "\"rules\":[" RULE("h", PATH("/foo", "Exact", "foo") "," PATH("/bar/", "Exact", "bar")) "]"));
    assert_string_equal(asks(&f, "h", "/foo"), "foo");
    assert_string_equal(asks(&f, "h", "/foo/"), "-");
    assert_string_equal(asks(&f, "h", "/foo/a"), "-");
    assert_string_equal(asks(&f, "h", "/bar"), "-");
    assert_string_equal(asks(&f, "h", "/bar/"), "bar");
    done(&f);
}

static void test_precedence_of_paths(void **state) {
    struct fixture f;
    TABLE(&f,
          ING("a", "01",
              "\"rules\":[" RULE(
                  "h",
                  PATH("/", "Prefix", "root") "," PATH("/a", "Prefix", "a") "," PATH("/a/b", "Prefix", "ab") "," PATH(
                      "/a/b", "Exact", "exact") "," PATH("/impl", "ImplementationSpecific", "impl")) "]"));
    assert_string_equal(asks(&f, "h", "/"), "root");
    assert_string_equal(asks(&f, "h", "/z"), "root");
    assert_string_equal(asks(&f, "h", "/a"), "a");
    assert_string_equal(asks(&f, "h", "/a/c"), "a");
    assert_string_equal(asks(&f, "h", "/a/b"), "exact");
    assert_string_equal(asks(&f, "h", "/a/b/"), "ab");
    assert_string_equal(asks(&f, "h", "/impl/x"), "impl");
    done(&f);
}

static void test_empty_path_means_all(void **state) {
    struct fixture f;
    TABLE(&f,
          ING("a", "01", "\"rules\":[" RULE("h", "{\"pathType\":\"ImplementationSpecific\"," BACKEND("s") "}") "]"));
    assert_string_equal(asks(&f, "h", "/any/thing"), "s");
    done(&f);
}

static void test_malformed_paths(void **state) {
    cleanup_arena struct arena *a = arena_new(0, 0);
    struct str out;
    assert_false(ingress_path_clean(a, STR("/%zz"), &out));
    assert_false(ingress_path_clean(a, STR("/%"), &out));
    assert_false(ingress_path_clean(a, STR("/a%00b"), &out));
    static const char *const cases[][2] = {{"/", "/"},         {"/..", "/"},
                                           {"/../../a", "/a"}, {"/a/./b", "/a/b"},
                                           {"/a//b", "/a/b"},  {"/a/..", "/"},
                                           {"/a/b/..", "/a/"}, {"/a/.", "/a/"},
                                           {"/a/", "/a/"},     {"/a/%2e%2e/b", "/b"},
                                           {"///", "/"},       {"/a/...", "/a/..."}};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        assert_true(ingress_path_clean(a, str_c(cases[i][0]), &out));
        assert_int_equal(out.n, strlen(cases[i][1]));
        assert_memory_equal(out.p, cases[i][1], out.n);
    }
}

/* --- hosts --- */
static void test_hosts(void **state) {
    struct fixture f;
    TABLE(&f, ING("a", "01",
                  "\"rules\":[" RULE("Foo.example.com", PATH("/", "Prefix", "foo")) "," RULE(
                      "*.example.com", PATH("/", "Prefix", "wild")) "," ANY(PATH("/any", "Prefix", "any")) "]"));
    assert_string_equal(asks(&f, "foo.example.com", "/"), "foo");
    assert_string_equal(asks(&f, "FOO.Example.COM:8080", "/"), "foo");
    assert_string_equal(asks(&f, "foo.example.com.", "/"), "foo");
    assert_string_equal(asks(&f, "bar.example.com", "/"), "wild");
    assert_string_equal(asks(&f, "a.b.example.com", "/"), "-");
    assert_string_equal(asks(&f, "example.com", "/"), "-");
    assert_string_equal(asks(&f, ".example.com", "/"), "-");
    assert_string_equal(asks(&f, "*.example.com", "/"), "wild");
    assert_string_equal(asks(&f, "other", "/any/x"), "any");
    assert_string_equal(asks(&f, "", "/any"), "any");
    assert_string_equal(asks(&f, "[::1]:80", "/any"), "any");
    assert_string_equal(asks(&f, "[::1", "/any"), "any");
    assert_string_equal(asks(&f, "other", "/"), "-");
    done(&f);
}

static void test_less_specific_host_when_no_path_fits(void **state) {
    struct fixture f;
    TABLE(&f, ING("a", "01",
                  "\"rules\":[" RULE("a.x", PATH("/a", "Prefix", "exact")) "," RULE(
                      "*.x", PATH("/w", "Prefix", "wild")) "," ANY(PATH("/", "Prefix", "any")) "]"));
    assert_string_equal(asks(&f, "a.x", "/a"), "exact");
    assert_string_equal(asks(&f, "a.x", "/w"), "wild");
    assert_string_equal(asks(&f, "a.x", "/z"), "any");
    done(&f);
}

static void test_overlong_host(void **state) {
    struct fixture f;
    TABLE(&f, ING("a", "01", "\"rules\":[" ANY(PATH("/", "Prefix", "any")) "]"));
    char host[1000];
    memset(host, 'a', sizeof(host) - 1);
    host[3] = '.';
    host[sizeof(host) - 1] = 0;
    assert_string_equal(asks(&f, host, "/"), "any");
    done(&f);
}

/* --- defaults, conflicts, classes --- */
static void test_default_backends(void **state) {
    struct fixture f;
    TABLE(&f, ING("with", "01", DEFAULT("d1") ",\"rules\":[" RULE("h", PATH("/a", "Prefix", "a")) "]"),
          ING("without", "02", DEFAULT("d2")));
    assert_string_equal(asks(&f, "h", "/a"), "a");
    assert_string_equal(asks(&f, "h", "/b"), "d1");     /* of the Ingress of this host */
    assert_string_equal(asks(&f, "other", "/b"), "d2"); /* one without rules is for everything */
    done(&f);
    TABLE(&f, ING("with", "01", DEFAULT("d1") ",\"rules\":[" RULE("h", PATH("/a", "Prefix", "a")) "]"));
    assert_string_equal(asks(&f, "other", "/"), "d1");
    done(&f);
}

static void test_rule_without_paths(void **state) {
    struct fixture f;
    TABLE(&f, ING("a", "01", DEFAULT("d") ",\"rules\":[{\"host\":\"h\"}]"));
    assert_string_equal(asks(&f, "h", "/x"), "d");
    done(&f);
}

static void test_older_wins(void **state) {
    struct fixture f;
    TABLE(&f, ING("a", "05", "\"rules\":[" RULE("h", PATH("/", "Prefix", "new")) "]"),
          ING("b", "01", "\"rules\":[" RULE("h", PATH("/", "Prefix", "old")) "]"));
    assert_string_equal(asks(&f, "h", "/"), "old");
    done(&f);
    TABLE(&f, ING("b", "01", "\"rules\":[" RULE("h", PATH("/", "Prefix", "second")) "]"),
          ING("a", "01", "\"rules\":[" RULE("h", PATH("/", "Prefix", "first")) "]"));
    assert_string_equal(asks(&f, "h", "/"), "first");
    done(&f);
}

static void test_hosts_merge_over_ingresses(void **state) {
    struct fixture f;
    TABLE(&f, ING("a", "01", "\"rules\":[" RULE("h", PATH("/", "Prefix", "root")) "]"),
          ING("b", "02", "\"rules\":[" RULE("h", PATH("/b", "Prefix", "b")) "]"));
    assert_string_equal(asks(&f, "h", "/b/c"), "b");
    assert_string_equal(asks(&f, "h", "/c"), "root");
    done(&f);
}

static void test_classes(void **state) {
    cleanup_arena struct arena *a = arena_new(0, 0);
    static const struct {
        const char *text;
        bool served;
    } cases[] = {
        {"{\"spec\":{}}", true},
        {"{}", true},
        {"{\"spec\":{\"ingressClassName\":\"dory\"}}", true},
        {"{\"spec\":{\"ingressClassName\":\"nginx\"}}", false},
        {"{\"metadata\":{\"annotations\":{\"kubernetes.io/ingress.class\":\"dory\"}},\"spec\":{}}", true},
        {"{\"metadata\":{\"annotations\":{\"kubernetes.io/ingress.class\":\"nginx\"}},\"spec\":{}}", false},
        {"{\"metadata\":{\"annotations\":{\"other\":\"nginx\"}},\"spec\":{}}", true},
        {"{\"metadata\":{\"annotations\":{\"kubernetes.io/ingress.class\":\"dory\"}},"
         "\"spec\":{\"ingressClassName\":\"nginx\"}}",
         false},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        assert_int_equal(ingress_is_served(parse(a, cases[i].text), "dory"), cases[i].served);
}

static void test_others_class_is_left_out(void **state) {
    struct fixture f;
    TABLE(&f, ING("a", "01", "\"ingressClassName\":\"nginx\",\"rules\":[" RULE("h", PATH("/", "Prefix", "s")) "]"));
    assert_string_equal(asks(&f, "h", "/"), "-");
    assert_int_equal(f.r->served, 0);
    done(&f);
}

static void test_empty_table(void **state) {
    struct ingress_rules *r = ingress_rules_new(NULL, 0, "dory");
    assert_null(ingress_rules_find(r, STR("h"), STR("/")));
    assert_null(ingress_rules_cert(r, STR("h")));
    ingress_rules_unref(r);
    ingress_rules_unref(NULL);
}

/* --- TLS sections --- */
static void test_tls_sections(void **state) {
    struct fixture f;
    TABLE(&f, ING("a", "01",
                  "\"tls\":[{\"hosts\":[\"A.x\",\"*.y\"],\"secretName\":\"s1\"},{\"hosts\":[\"n\"]},"
                  "{\"secretName\":\"s2\"}],\"rules\":[" RULE("h", PATH("/", "Prefix", "s")) "]"));
    assert_int_equal(f.r->tls.n, 3);
    assert_string_equal(f.r->tls.items[0].host.p, "a.x");
    assert_string_equal(f.r->tls.items[0].secret.p, "s1");
    assert_string_equal(f.r->tls.items[1].host.p, "*.y");
    assert_string_equal(f.r->tls.items[2].host.p, "h"); /* without names: those of the rules */
    assert_string_equal(f.r->tls.items[2].secret.p, "s2");
    done(&f);
}

/* --- Services and EndpointSlices --- */
#define SERVICE(name, type, ports) \
    "{\"metadata\":{\"namespace\":\"x\",\"name\":\"" name "\"},\"spec\":{\"type\":\"" type "\",\"ports\":[" ports "]}}"
#define SLICE(service, ports, endpoints)                                                       \
    "{\"metadata\":{\"namespace\":\"x\",\"labels\":{\"kubernetes.io/service-name\":\"" service \
    "\"}},\"ports\":[" ports "],\"endpoints\":[" endpoints "]}"

static struct ingress_backend *backend(struct fixture *f) {
    return ingress_rules_find(f->r, STR("h"), STR("/"));
}
static void service(struct fixture *f, const char *text) {
    ingress_rules_add_service(f->r, parse(f->a, text));
}
static void slice(struct fixture *f, const char *text) {
    ingress_rules_add_slice(f->r, parse(f->a, text));
}
static const char *next(struct ingress_backend *b, char out[ADDRESS_TEXT_MAX]) {
    const struct address *to = ingress_backend_next(b);
    if (!to)
        return "-";
    address_format(&to->any, out);
    return out;
}

static void test_endpoints_in_turn(void **state) {
    struct fixture f;
    char t[ADDRESS_TEXT_MAX];
    TABLE(&f, ING("a", "01", "\"rules\":[" RULE("h", PATH("/", "Prefix", "s")) "]"));
    assert_int_equal(backend(&f)->state, BACKEND_NO_SERVICE);
    service(&f, SERVICE("other", "ClusterIP", "{\"port\":80}"));
    assert_int_equal(backend(&f)->state, BACKEND_NO_SERVICE);
    service(&f, SERVICE("s", "ClusterIP", "{\"port\":80,\"targetPort\":8080}"));
    assert_int_equal(backend(&f)->state, BACKEND_NO_ENDPOINT);
    assert_null(ingress_backend_next(backend(&f)));
    slice(&f,
          SLICE("s", "{\"name\":\"\",\"port\":8080}",
                "{\"addresses\":[\"10.0.0.1\"]},{\"addresses\":[\"10.0.0.2\"],\"conditions\":{\"ready\":false}},"
                "{\"addresses\":[\"10.0.0.3\"],\"conditions\":{\"ready\":true}},{\"addresses\":[\"not an ip\"]},{}"));
    slice(&f,
          SLICE("s", "{\"name\":\"\",\"port\":8080}", "{\"addresses\":[\"fd00::4\"]},{\"addresses\":[\"10.0.0.1\"]}"));
    slice(&f, SLICE("unknown", "{\"port\":8080}", "{\"addresses\":[\"10.0.0.9\"]}"));
    assert_int_equal(backend(&f)->state, BACKEND_READY);
    static const char *const order[] = {"10.0.0.1:8080", "10.0.0.3:8080", "[fd00::4]:8080", "10.0.0.1:8080"};
    for (size_t i = 0; i < ARRAY_LEN(order); i++)
        assert_string_equal(next(backend(&f), t), order[i]);
    done(&f);
}

static void test_ports_by_name_and_number(void **state) {
    struct fixture f;
    char t[ADDRESS_TEXT_MAX];
    TABLE(&f,
          ING("a", "01",
              "\"rules\":[" RULE("h", PATH("/", "Prefix",
                                           "s") ",{\"path\":\"/n\",\"pathType\":\"Prefix\",\"backend\":{"
                                                "\"service\":{\"name\":\"s\",\"port\":{\"name\":\"admin\"}}}}") "]"));
    service(
        &f,
        SERVICE(
            "s", "ClusterIP",
            "{\"name\":\"udp\",\"port\":80,\"protocol\":\"UDP\"},{\"name\":\"web\",\"port\":80,\"protocol\":\"TCP\"},"
            "{\"name\":\"admin\",\"port\":81}"));
    slice(
        &f,
        SLICE(
            "s",
            "{\"name\":\"udp\",\"port\":1,\"protocol\":\"UDP\"},{\"name\":\"web\",\"port\":2},{\"name\":\"admin\",\"port\":3}",
            "{\"addresses\":[\"10.0.0.1\"]}"));
    assert_string_equal(next(backend(&f), t), "10.0.0.1:2");
    assert_string_equal(next(ingress_rules_find(f.r, STR("h"), STR("/n")), t), "10.0.0.1:3");
    done(&f);
}

static void test_unusable_services(void **state) {
    struct fixture f;
    TABLE(&f, ING("a", "01", "\"rules\":[" RULE("h", PATH("/", "Prefix", "s")) "]"));
    service(&f, SERVICE("s", "ClusterIP", "{\"port\":81}"));
    slice(&f, SLICE("s", "{\"port\":8080}", "{\"addresses\":[\"10.0.0.1\"]}"));
    assert_int_equal(backend(&f)->state, BACKEND_NO_PORT);
    done(&f);
    TABLE(&f, ING("a", "01", "\"rules\":[" RULE("h", PATH("/", "Prefix", "s")) "]"));
    service(&f, SERVICE("s", "ExternalName", "{\"port\":80}"));
    assert_int_equal(backend(&f)->state, BACKEND_UNSUPPORTED);
    done(&f);
    TABLE(&f,
          ING("a", "01",
              "\"rules\":[" RULE(
                  "h", "{\"path\":\"/\",\"pathType\":\"Prefix\",\"backend\":{\"resource\":{\"kind\":\"B\"}}}") "]"));
    assert_int_equal(backend(&f)->state, BACKEND_UNSUPPORTED);
    done(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_prefix_by_element),
        cmocka_unit_test(test_trailing_slash_of_prefix),
        cmocka_unit_test(test_exact),
        cmocka_unit_test(test_precedence_of_paths),
        cmocka_unit_test(test_empty_path_means_all),
        cmocka_unit_test(test_malformed_paths),
        cmocka_unit_test(test_hosts),
        cmocka_unit_test(test_less_specific_host_when_no_path_fits),
        cmocka_unit_test(test_overlong_host),
        cmocka_unit_test(test_default_backends),
        cmocka_unit_test(test_rule_without_paths),
        cmocka_unit_test(test_older_wins),
        cmocka_unit_test(test_hosts_merge_over_ingresses),
        cmocka_unit_test(test_classes),
        cmocka_unit_test(test_others_class_is_left_out),
        cmocka_unit_test(test_empty_table),
        cmocka_unit_test(test_tls_sections),
        cmocka_unit_test(test_endpoints_in_turn),
        cmocka_unit_test(test_ports_by_name_and_number),
        cmocka_unit_test(test_unusable_services),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
