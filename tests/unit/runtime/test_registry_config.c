#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "runtime/registry_config.h"

static struct image_registries *parse(const char *text) {
    struct error err;
    struct image_registries *r = image_registries_parse(str_c(text), &err);
    if (!r)
        fail_msg("%s", err.msg);
    return r;
}

/* "base repository ns" of each endpoint, space and newline separated. */
static void assert_endpoints(const struct image_registries *r, const char *image, const char *want) {
    cleanup_arena struct arena *a = arena_new(0, 0);
    cleanup_buf struct buf b = BUF_INIT;
    struct registry_endpoint e[REGISTRY_ENDPOINTS_MAX];
    struct image_name name;
    assert_int_equal(image_name_parse(a, str_c(image), &name, NULL), 0);
    size_t n = registry_endpoints(r, a, &name, e);
    for (size_t i = 0; i < n; i++) {
        assert_int_equal(e[i].is_mirror, i + 1 < n);
        buf_printf(&b, "%s %s %s\n", e[i].base.p, e[i].repository.p, e[i].ns.n ? e[i].ns.p : "-");
    }
    assert_string_equal(b.p, want);
}

static void without_a_file_the_registry_itself(void **state) {
    assert_endpoints(NULL, "busybox", "https://registry-1.docker.io/v2 library/busybox -\n");
    struct image_registries *r = parse("");
    assert_endpoints(r, "quay.io/a/b", "https://quay.io/v2 a/b -\n");
    assert_endpoints(r, "registry:5000/a", "https://registry:5000/v2 a -\n");
    assert_endpoints(r, "localhost:5000/a", "http://localhost:5000/v2 a -\n");
    assert_endpoints(r, "127.0.0.1:5000/a", "http://127.0.0.1:5000/v2 a -\n");
    assert_endpoints(r, "[::1]:5000/a", "http://[::1]:5000/v2 a -\n");
    assert_endpoints(r, "127.evil.example/a", "https://127.evil.example/v2 a -\n");
    image_registries_free(r);
}

static void mirrors_rewrites_and_wildcards(void **state) {
    struct image_registries *r = parse("mirrors:\n"
                                       "  docker.io:\n"
                                       "    endpoint:\n"
                                       "      - \"https://one.example:5000\"\n"
                                       "      - http://two.example/custom/v2/\n"
                                       "      - three.example\n"
                                       "    rewrite:\n"
                                       "      \"^rancher/(.*)\": \"mirrorproject/rancher-images/$1\"\n"
                                       "      \"o+\": \"0\"\n"
                                       "  gcr.io:\n"
                                       "  \"*\":\n"
                                       "    endpoint: [http://any.example]\n"
                                       "  self.example:\n"
                                       "    endpoint: [https://self.example, 'https://self.example:443']\n");
    assert_endpoints(r, "rancher/pause:3.6",
                     "https://one.example:5000/v2 mirrorproject/rancher-images/pause docker.io\n"
                     "http://two.example/custom/v2 mirrorproject/rancher-images/pause docker.io\n"
                     "https://three.example/v2 mirrorproject/rancher-images/pause docker.io\n"
                     "https://registry-1.docker.io/v2 rancher/pause -\n");
    assert_endpoints(r, "foo/boxoo",
                     "https://one.example:5000/v2 f0/b0x0 docker.io\n"
                     "http://two.example/custom/v2 f0/b0x0 docker.io\n"
                     "https://three.example/v2 f0/b0x0 docker.io\n"
                     "https://registry-1.docker.io/v2 foo/boxoo -\n");
    assert_endpoints(r, "gcr.io/x", "https://gcr.io/v2 x -\n"); /* named without endpoints: not the wildcard's */
    assert_endpoints(r, "quay.io/x", "http://any.example/v2 x quay.io\nhttps://quay.io/v2 x -\n");
    assert_endpoints(r, "self.example/x", "https://self.example:443/v2 x self.example\nhttps://self.example/v2 x -\n");
    image_registries_free(r);
}

static void credentials_and_tls_by_host(void **state) {
    struct image_registries *r = parse("configs:\n"
                                       "  one.example:5000:\n"
                                       "    auth: {username: u, password: 12345}\n"
                                       "    tls: {ca_file: /ca, cert_file: /c, key_file: /k}\n"
                                       "  two.example: {auth: {auth: dXNlcjpwYTpzcw==}}\n"
                                       "  docker.io:\n"
                                       "    auth: {identity_token: it}\n"
                                       "  127.0.0.1:5000: {tls: {insecure_skip_verify: true}}\n"
                                       "  \"*\": {tls: {insecure_skip_verify: true}}\n");
    const struct registry_host *h = registry_host_find(r, STR("one.example:5000"));
    assert_string_equal(h->username.p, "u");
    assert_string_equal(h->password.p, "12345");
    assert_string_equal(h->ca_file.p, "/ca");
    assert_false(h->insecure_skip_verify);
    h = registry_host_find(r, STR("TWO.example"));
    assert_string_equal(h->username.p, "user");
    assert_string_equal(h->password.p, "pa:ss");
    assert_true(registry_host_find(r, STR("other"))->insecure_skip_verify);
    cleanup_arena struct arena *a = arena_new(0, 0);
    struct registry_endpoint e[REGISTRY_ENDPOINTS_MAX];
    struct image_name name;
    assert_int_equal(image_name_parse(a, STR("busybox"), &name, NULL), 0);
    assert_int_equal(registry_endpoints(r, a, &name, e), 1);
    assert_string_equal(e[0].auth->identity_token.p, "it");
    assert_false(e[0].auth->insecure_skip_verify);                              /* named: the wildcard does not apply */
    assert_endpoints(r, "127.0.0.1:5000/x", "https://127.0.0.1:5000/v2 x -\n"); /* TLS was asked for by name */
    image_registries_free(r);
}

static void mistakes_are_named(void **state) {
    static const char *const cases[][2] = {
        {"mirror: {}", "unknown key mirror"},
        {"mirrors: []", "mirrors: expected a map"},
        {"mirrors: {docker.io: {endpoint: x}}", "mirrors.docker.io.endpoint: expected a list"},
        {"mirrors: {docker.io: {endpoint: [1]}}", "mirrors.docker.io.endpoint: expected a URL"},
        {"mirrors: {docker.io: {endpont: []}}", "unknown key mirrors.docker.io.endpont"},
        {"mirrors: {docker.io: {endpoint: ['ftp://x']}}", "ftp://x"},
        {"mirrors: {docker.io: {endpoint: ['http://u:p@x']}}", "not an http or https URL"},
        {"mirrors: {docker.io: {endpoint: ['http://x/?q']}}", "not an http or https URL"},
        {"mirrors: {docker.io: {rewrite: {'(': 'x'}}}", "\"(\""},
        {"mirrors: {docker.io: {rewrite: {'(?i)x': 'x'}}}", "(?...)"},
        {"mirrors: {docker.io: {rewrite: {'\\d': 'x'}}}", "backslash"},
        {"mirrors: {docker.io: {rewrite: {'a*?': 'x'}}}", "lazy"},
        {"mirrors: {docker.io: {rewrite: {'(a)': '$2'}}}", "$2"},
        {"mirrors: {docker.io: {rewrite: {'(a)': '$1x'}}}", "in braces"},
        {"configs: {x: {auth: {user: x}}}", "unknown key configs.x.auth.user"},
        {"configs: {x: {auth: {auth: '!!'}}}", "configs.x.auth.auth: expected base64"},
        {"configs: {x: {tls: {cert_file: x}}}", "cert_file and key_file"},
        {"configs: {x: {tls: {insecure_skip_verify: 'yes'}}}", "insecure_skip_verify: expected true or false"},
        {"configs: {x: {}", "registries.yaml: "},
        {"- a", "top level: expected a map"},
        {"mirrors: {a: &a {endpoint: [x]}, a: *a}", "registries.yaml"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct error err = {0};
        struct image_registries *r = image_registries_parse(str_c(cases[i][0]), &err);
        if (r || !strstr(err.msg, cases[i][1]))
            fail_msg("%s: %s", cases[i][0], r ? "accepted" : err.msg);
    }
}

static void urls_are_taken_apart(void **state) {
    struct registry_url u;
    assert_true(registry_url_parse(STR("https://a.b:5/c/d?e=f"), &u));
    assert_true(u.https && str_eq(u.host, STR("a.b:5")) && str_eq(u.path, STR("/c/d?e=f")));
    assert_true(registry_url_parse(STR("http://[::1]:5"), &u));
    assert_true(!u.https && str_eq(u.host, STR("[::1]:5")) && u.path.n == 0);
    static const char *const bad[] = {"",
                                      "a",
                                      "file:///etc/passwd",
                                      "http://",
                                      "http:///x",
                                      "https://a b/",
                                      "http://u@h/",
                                      "https://h/\r\nX: y",
                                      "https://h/#f",
                                      "gopher://h",
                                      "http://:80/",
                                      "http://a\\b"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_false(registry_url_parse(str_c(bad[i]), &u));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_a_file_the_registry_itself),
        cmocka_unit_test(mirrors_rewrites_and_wildcards),
        cmocka_unit_test(credentials_and_tls_by_host),
        cmocka_unit_test(mistakes_are_named),
        cmocka_unit_test(urls_are_taken_apart),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
