#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "runtime/image.h"
#include "runtime/image_name.h"

#define HEX64 "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

static void short_names_get_their_defaults(void **state) {
    static const char *const cases[][2] = {
        {"busybox", "docker.io/library/busybox:latest"},
        {"busybox:1.36", "docker.io/library/busybox:1.36"},
        {"rancher/pause", "docker.io/rancher/pause:latest"},
        {"docker.io/busybox", "docker.io/library/busybox:latest"},
        {"index.docker.io/library/busybox", "docker.io/library/busybox:latest"},
        {"quay.io/a/b/c:v1", "quay.io/a/b/c:v1"},
        {"localhost/x", "localhost/x:latest"},
        {"localhost:5000/x:y", "localhost:5000/x:y"},
        {"x:5000", "docker.io/library/x:5000"},
        {"registry:5000/x", "registry:5000/x:latest"},
        {"[::1]:5000/x", "[::1]:5000/x:latest"},
        {"127.0.0.1:5000/a/b@sha256:" HEX64, "127.0.0.1:5000/a/b@sha256:" HEX64},
        {"busybox:1.0@sha256:" HEX64, "docker.io/library/busybox@sha256:" HEX64},
        {"Host/x", "Host/x:latest"},
        {"a__b/c-d.e_f", "docker.io/a__b/c-d.e_f:latest"},
        {"x:UPPER_Tag.1-2", "docker.io/library/x:UPPER_Tag.1-2"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        cleanup_arena struct arena *a = arena_new(0, 0);
        struct str out, again;
        struct error err;
        if (image_name_normalize(a, str_c(cases[i][0]), &out, &err))
            fail_msg("%s: %s", cases[i][0], err.msg);
        assert_string_equal(out.p, cases[i][1]);
        assert_int_equal(image_name_normalize(a, out, &again, NULL), 0);
        assert_string_equal(again.p, out.p);
    }
}

static void malformed_names_are_refused_with_the_reason(void **state) {
    static const char *const cases[][2] = {
        {"", "empty"},
        {"UPPER", "lower case"},
        {"quay.io/Foo", "lower case"},
        {"a//b", "between slashes"},
        {"/a", "between slashes"},
        {"a/", "between slashes"},
        {"-a", "between slashes"},
        {"a-", "between slashes"},
        {"a___b", "between slashes"},
        {"a..b", "between slashes"},
        {"a b", "between slashes"},
        {"a\nb", "between slashes"},
        {"../etc/passwd", "host name"},
        {"x:", "tag"},
        {"x:-a", "tag"},
        {"x:a b", "tag"},
        {"x@sha256:123", "digest"},
        {"x@sha256:"
         "0123456789ABCDEF0123456789abcdef0123456789abcdef0123456789abcdef",
         "digest"},
        {"x@md5:0123", "only sha256"},
        {"x@", "digest"},
        {"host:99999/x", "registry"},
        {"host:/x", "registry"},
        {"ho$t.io/x", "registry"},
        {"http://quay.io/x", "registry"},
        {"quay.io/", "no repository"},
        {HEX64, "64 hex"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        cleanup_arena struct arena *a = arena_new(0, 0);
        struct str out;
        struct error err = {0};
        int rc = image_name_normalize(a, str_c(cases[i][0]), &out, &err);
        if (rc != -EINVAL || !strstr(err.msg, cases[i][1]))
            fail_msg("%s: %d %s", cases[i][0], rc, err.msg);
    }
    struct str nul = STR("[:\0:]/x");
    cleanup_arena struct arena *na = arena_new(0, 0);
    struct str none;
    assert_int_equal(image_name_normalize(na, nul, &none, NULL), -EINVAL);
    char big[600];
    struct error err;
    struct str out;
    cleanup_arena struct arena *a = arena_new(0, 0);
    memset(big, 'a', sizeof(big));
    assert_int_equal(image_name_normalize(a, str_n(big, sizeof(big)), &out, &err), -EINVAL);
    assert_int_equal(image_name_normalize(a, str_n(big, 300), &out, &err), -EINVAL);
    assert_non_null(strstr(err.msg, "255"));
    big[0] = 'x';
    big[1] = ':';
    assert_int_equal(image_name_normalize(a, str_n(big, 2 + 129), &out, &err), -EINVAL);
    assert_int_equal(image_name_normalize(a, str_n(big, 2 + 128), &out, &err), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(short_names_get_their_defaults),
        cmocka_unit_test(malformed_names_are_refused_with_the_reason),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
