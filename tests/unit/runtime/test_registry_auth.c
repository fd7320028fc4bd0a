#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "runtime/registry_auth.h"

static void challenges(void **state) {
    cleanup_arena struct arena *a = arena_new(0, 0);
    struct registry_challenge c = {0};
    registry_challenge_parse(
        a,
        STR("Bearer realm=\"https://auth.docker.io/token\",service=\"registry.docker.io\",scope=\"repository:a/b:pull,push\",error=\"invalid_token\""),
        &c);
    assert_int_equal(c.scheme, REGISTRY_AUTH_BEARER);
    assert_string_equal(c.realm.p, "https://auth.docker.io/token");
    assert_string_equal(c.service.p, "registry.docker.io");
    assert_string_equal(c.scope.p, "repository:a/b:pull,push");
    assert_string_equal(registry_token_url(a, &c, STR("x")).p,
                        "https://auth.docker.io/token?service=registry.docker.io&scope=repository:a/b:pull,push");
    c = (struct registry_challenge){0};
    registry_challenge_parse(a, STR("Basic realm=\"a \\\"quoted\\\" one\""), &c);
    assert_int_equal(c.scheme, REGISTRY_AUTH_BASIC);
    assert_string_equal(c.realm.p, "a \"quoted\" one");
    registry_challenge_parse(a, STR("Negotiate, basic realm=x, BEARER Realm=\"http://t?a=b\" , service = s p"), &c);
    assert_int_equal(c.scheme, REGISTRY_AUTH_BEARER);
    assert_string_equal(registry_token_url(a, &c, STR("repository:x y:pull")).p,
                        "http://t?a=b&service=s&scope=repository:x%20y:pull");
    static const char *const nothing[] = {"",    "Bearer", "Bearer realm=",     "Digest realm=\"x\", nonce=\"y\"",
                                          "=,=", "\"\"",   "Bearer realm=\"\"", ",,,"};
    for (size_t i = 0; i < ARRAY_LEN(nothing); i++) {
        c = (struct registry_challenge){0};
        registry_challenge_parse(a, str_c(nothing[i]), &c);
        assert_int_equal(c.scheme, REGISTRY_AUTH_NONE);
    }
}

static void tokens(void **state) {
    cleanup_arena struct arena *a = arena_new(0, 0);
    struct str t;
    int64_t s = 0;
    assert_int_equal(registry_token_parse(a, STR("{\"token\":\"abc\",\"expires_in\":7}"), &t, &s, NULL), 0);
    assert_string_equal(t.p, "abc");
    assert_int_equal(s, 7);
    assert_int_equal(registry_token_parse(a, STR("{\"access_token\":\"def\"}"), &t, &s, NULL), 0);
    assert_string_equal(t.p, "def");
    assert_int_equal(s, 60);
    static const char *const bad[] = {
        "", "{}", "[]", "{\"token\":\"\"}", "{\"token\":\"a\\r\\nX: y\"}", "{\"token\":5}", "<html>"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_int_equal(registry_token_parse(a, str_c(bad[i]), &t, &s, NULL), -EINVAL);
    assert_string_equal(registry_basic(a, STR("user"), STR("pass")).p, "Basic dXNlcjpwYXNz");
}

static void error_texts(void **state) {
    cleanup_arena struct arena *a = arena_new(0, 0);
    assert_string_equal(registry_error_text(a, STR("{\"errors\":[{\"code\":\"X\",\"message\":\"it\\nbroke\"}]}")).p,
                        "it?broke");
    assert_string_equal(registry_error_text(a, STR("{\"details\":\"incorrect\"}")).p, "incorrect");
    assert_string_equal(registry_error_text(a, STR("<html>")).p, "");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(challenges),
        cmocka_unit_test(tokens),
        cmocka_unit_test(error_texts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
