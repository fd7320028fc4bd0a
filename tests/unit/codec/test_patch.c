#include "helper.h"

static void operations(void **state) {
    static const struct {
        const char *doc, *patch, *result;
    } cases[] = {
        {"{\"a\":1}", "[]", "{\"a\":1}"},
        {"{\"a\":1}", "[{\"op\":\"add\",\"path\":\"/b\",\"value\":{\"c\":[]}}]", "{\"a\":1,\"b\":{\"c\":[]}}"},
        {"{\"a\":1}", "[{\"op\":\"add\",\"path\":\"/a\",\"value\":2}]", "{\"a\":2}"},
        {"[1,2]", "[{\"op\":\"add\",\"path\":\"/1\",\"value\":9}]", "[1,9,2]"},
        {"[1,2]", "[{\"op\":\"add\",\"path\":\"/2\",\"value\":9}]", "[1,2,9]"},
        {"[1,2]", "[{\"op\":\"add\",\"path\":\"/-\",\"value\":9}]", "[1,2,9]"},
        {"{\"a\":1}", "[{\"op\":\"add\",\"path\":\"\",\"value\":[1]}]", "[1]"},
        {"{\"a\":1,\"b\":2}", "[{\"op\":\"remove\",\"path\":\"/a\"}]", "{\"b\":2}"},
        {"[1,2,3]", "[{\"op\":\"remove\",\"path\":\"/1\"}]", "[1,3]"},
        {"{\"a\":{\"b\":1}}", "[{\"op\":\"replace\",\"path\":\"/a/b\",\"value\":null}]", "{\"a\":{\"b\":null}}"},
        {"{\"a\":1}", "[{\"op\":\"replace\",\"path\":\"\",\"value\":2}]", "2"},
        {"{\"a\":{\"x\":1},\"b\":{}}", "[{\"op\":\"move\",\"from\":\"/a/x\",\"path\":\"/b/y\"}]",
         "{\"a\":{},\"b\":{\"y\":1}}"},
        {"[1,2,3]", "[{\"op\":\"move\",\"from\":\"/0\",\"path\":\"/2\"}]", "[2,3,1]"},
        {"{\"a\":1}", "[{\"op\":\"move\",\"from\":\"/a\",\"path\":\"/a\"}]", "{\"a\":1}"},
        {"{\"a\":{\"x\":[1]}}",
         "[{\"op\":\"copy\",\"from\":\"/a\",\"path\":\"/b\"},{\"op\":\"add\",\"path\":\"/b/x/-\",\"value\":2}]",
         "{\"a\":{\"x\":[1]},\"b\":{\"x\":[1,2]}}"},
        {"{\"a\":1}", "[{\"op\":\"copy\",\"from\":\"\",\"path\":\"/b\"}]", "{\"a\":1,\"b\":{\"a\":1}}"},
        {"{\"a/b\":1,\"m~n\":2,\"\":3}",
         "[{\"op\":\"replace\",\"path\":\"/a~1b\",\"value\":4},{\"op\":\"replace\",\"path\":\"/m~0n\",\"value\":5},"
         "{\"op\":\"test\",\"path\":\"/\",\"value\":3},{\"op\":\"add\",\"path\":\"/x~01\",\"value\":6}]",
         "{\"a/b\":4,\"m~n\":5,\"\":3,\"x~1\":6}"},
        {"{\"a\":{\"x\":1,\"y\":2}}", "[{\"op\":\"test\",\"path\":\"/a\",\"value\":{\"y\":2,\"x\":1.0}}]",
         "{\"a\":{\"x\":1,\"y\":2}}"},
        {"{\"a\":1}", "[{\"op\":\"test\",\"path\":\"/none\",\"value\":null}]", "{\"a\":1}"},
    };
    cleanup_arena struct arena *a = arena_new(0, 0);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct error err = {0};
        struct json *doc = tree(a, cases[i].doc);
        struct json *out = json_patch(a, doc, tree(a, cases[i].patch), &err);
        if (!out)
            fail_msg("%s: %s", cases[i].patch, err.msg);
        assert_text(a, out, cases[i].result);
        assert_text(a, doc, cases[i].doc); /* the argument stays as it was */
    }
}

static void failures(void **state) {
    static const struct {
        const char *patch;
        int code;
        const char *message;
    } cases[] = {
        {"{}", -EINVAL, "must be an array"},
        {"[1]", -EINVAL, "operation 0"},
        {"[{\"op\":\"test\",\"path\":\"/a\",\"value\":1},{\"op\":\"jump\",\"path\":\"/a\"}]", -EINVAL,
         "operation 1: \"op\" must be"},
        {"[{\"op\":\"add\",\"value\":1}]", -EINVAL, "\"path\" is not a JSON pointer"},
        {"[{\"op\":\"add\",\"path\":\"a\",\"value\":1}]", -EINVAL, "not a JSON pointer"},
        {"[{\"op\":\"add\",\"path\":\"/a~2\",\"value\":1}]", -EINVAL, "not a JSON pointer"},
        {"[{\"op\":\"add\",\"path\":\"/a~\",\"value\":1}]", -EINVAL, "not a JSON pointer"},
        {"[{\"op\":\"add\",\"path\":5,\"value\":1}]", -EINVAL, "not a JSON pointer"},
        {"[{\"op\":\"add\",\"path\":\"/x\"}]", -EINVAL, "operation 0 (add /x): \"value\" is missing"},
        {"[{\"op\":\"move\",\"path\":\"/x\"}]", -EINVAL, "\"from\" is not a JSON pointer"},
        {"[{\"op\":\"add\",\"path\":\"/l/01\",\"value\":1}]", -EINVAL, "array index"},
        {"[{\"op\":\"add\",\"path\":\"/l/x\",\"value\":1}]", -EINVAL, "array index"},
        {"[{\"op\":\"remove\",\"path\":\"\"}]", -EINVAL, "whole document"},
        {"[{\"op\":\"move\",\"from\":\"/o\",\"path\":\"/o/x\"}]", -EINVAL, "into itself"},
        {"[{\"op\":\"add\",\"path\":\"/l/3\",\"value\":1}]", -ENOENT, "out of bounds"},
        {"[{\"op\":\"add\",\"path\":\"/x/y\",\"value\":1}]", -ENOENT, "does not exist"},
        {"[{\"op\":\"add\",\"path\":\"/a/y\",\"value\":1}]", -ENOENT, "does not exist"},
        {"[{\"op\":\"replace\",\"path\":\"/x\",\"value\":1}]", -ENOENT, "does not exist"},
        {"[{\"op\":\"remove\",\"path\":\"/l/2\"}]", -ENOENT, "does not exist"},
        {"[{\"op\":\"remove\",\"path\":\"/l/-\"}]", -ENOENT, "does not exist"},
        {"[{\"op\":\"move\",\"from\":\"/x\",\"path\":\"/y\"}]", -ENOENT, "move from"},
        {"[{\"op\":\"copy\",\"from\":\"/x\",\"path\":\"/y\"}]", -ENOENT, "copy from"},
        {"[{\"op\":\"test\",\"path\":\"/a\",\"value\":2}]", -ECANCELED, "operation 0 (test /a): the test failed"},
        {"[{\"op\":\"test\",\"path\":\"/x\",\"value\":2}]", -ECANCELED, "failed"},
    };
    cleanup_arena struct arena *a = arena_new(0, 0);
    struct json *doc = tree(a, "{\"a\":1,\"l\":[1,2],\"o\":{\"x\":1}}");
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct error err = {0};
        if (json_patch(a, doc, tree(a, cases[i].patch), &err))
            fail_msg("accepted: %s", cases[i].patch);
        assert_int_equal(err.code, cases[i].code);
        assert_contains(err.msg, cases[i].message);
    }
    assert_text(a, doc, "{\"a\":1,\"l\":[1,2],\"o\":{\"x\":1}}");
}

/* {"a":{"a":...}} doubled by each copy. */
static void copies_that_explode(void **state) {
    cleanup_arena struct arena *a = arena_new(0, MiB(256));
    struct json *patch = json_array(a);
    for (int i = 0; i < 100; i++)
        json_append(a, patch, tree(a, str_printf(a, "{\"op\":\"copy\",\"from\":\"\",\"path\":\"/k%d\"}", i).p));
    struct error err = {0};
    assert_null(json_patch(a, tree(a, "{\"x\":1}"), patch, &err));
    assert_int_equal(err.code, -E2BIG);
    assert_contains(err.msg, "copies too much");
}

static void results_that_are_too_deep(void **state) {
    cleanup_arena struct arena *a = arena_new(0, 0);
    cleanup_buf struct buf path = BUF_INIT;
    struct json *patch = json_array(a);
    struct error err = {0};
    for (int i = 0; i < 600; i++) {
        buf_puts(&path, "/a");
        struct json *op = tree(a, "{\"op\":\"add\",\"value\":{}}");
        json_set_str(a, op, "path", buf_str(&path));
        json_append(a, patch, op);
    }
    assert_null(json_patch(a, json_object(a), patch, &err));
    assert_int_equal(err.code, -E2BIG);
    assert_contains(err.msg, "too deeply");
}

static void too_many_operations(void **state) {
    cleanup_arena struct arena *a = arena_new(0, 0);
    struct json *patch = json_array(a), *op = tree(a, "{\"op\":\"test\",\"path\":\"\",\"value\":1}");
    for (int i = 0; i < JSON_PATCH_OPS_MAX; i++)
        json_append(a, patch, op);
    struct error err = {0};
    assert_non_null(json_patch(a, json_int(a, 1), patch, &err));
    json_append(a, patch, op);
    assert_null(json_patch(a, json_int(a, 1), patch, &err));
    assert_int_equal(err.code, -E2BIG);
}

/* The examples of RFC 7386. */
static void merge_patches(void **state) {
    static const char *const cases[][3] = {
        {"{\"a\":\"b\"}", "{\"a\":\"c\"}", "{\"a\":\"c\"}"},
        {"{\"a\":\"b\"}", "{\"b\":\"c\"}", "{\"a\":\"b\",\"b\":\"c\"}"},
        {"{\"a\":\"b\"}", "{\"a\":null}", "{}"},
        {"{\"a\":\"b\",\"b\":\"c\"}", "{\"a\":null}", "{\"b\":\"c\"}"},
        {"{\"a\":[\"b\"]}", "{\"a\":\"c\"}", "{\"a\":\"c\"}"},
        {"{\"a\":\"c\"}", "{\"a\":[\"b\"]}", "{\"a\":[\"b\"]}"},
        {"{\"a\":{\"b\":\"c\"}}", "{\"a\":{\"b\":\"d\",\"c\":null}}", "{\"a\":{\"b\":\"d\"}}"},
        {"{\"a\":[{\"b\":\"c\"}]}", "{\"a\":[1]}", "{\"a\":[1]}"},
        {"[\"a\",\"b\"]", "[\"c\",\"d\"]", "[\"c\",\"d\"]"},
        {"{\"a\":\"b\"}", "[\"c\"]", "[\"c\"]"},
        {"{\"a\":\"foo\"}", "null", "null"},
        {"{\"a\":\"foo\"}", "\"bar\"", "\"bar\""},
        {"{\"e\":null}", "{\"a\":1}", "{\"e\":null,\"a\":1}"},
        {"[1,2]", "{\"a\":\"b\",\"c\":null}", "{\"a\":\"b\"}"},
        {"{}", "{\"a\":{\"bb\":{\"ccc\":null}}}", "{\"a\":{\"bb\":{}}}"},
    };
    cleanup_arena struct arena *a = arena_new(0, 0);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        assert_text(a, json_merge_patch(a, tree(a, cases[i][0]), tree(a, cases[i][1])), cases[i][2]);
    assert_text(a, json_merge_patch(a, NULL, tree(a, "{\"a\":{\"b\":null,\"c\":1}}")), "{\"a\":{\"c\":1}}");
}

static void merging_large_objects(void **state) {
    cleanup_arena struct arena *a = arena_new(0, 0);
    struct json *doc = json_object(a), *patch = json_object(a);
    for (int i = 0; i < 2000; i++) {
        json_set_int(a, doc, str_printf(a, "k%d", i).p, i);
        json_set_c(a, patch, str_printf(a, "k%d", i + 1000).p, i % 2 ? json_null(a) : json_cstr(a, "new"));
    }
    struct json *out = json_merge_patch(a, doc, patch);
    assert_int_equal(json_len(out), 2000); /* 1000 kept, 500 replaced, 500 added */
    assert_int_equal(json_int_at(out, "k999", 0), 999);
    assert_null(json_get_c(out, "k1001"));
    assert_true(str_eq_c(json_str_at(out, "k1000"), "new"));
    assert_true(str_eq_c(json_str_at(out, "k2998"), "new"));
}

static void pointers(void **state) {
    cleanup_arena struct arena *a = arena_new(0, 0);
    struct json *v = tree(a, "{\"a\":{\"b/c\":[10,{\"~\":11}]},\"\":12}");
    assert_ptr_equal(json_pointer(v, STR("")), v);
    assert_text(a, json_pointer(v, STR("/a/b~1c/0")), "10");
    assert_text(a, json_pointer(v, STR("/a/b~1c/1/~0")), "11");
    assert_text(a, json_pointer(v, STR("/")), "12");
    assert_null(json_pointer(v, STR("/a/b~1c/2")));
    assert_null(json_pointer(v, STR("/a/b~1c/-")));
    assert_null(json_pointer(v, STR("/a/x/y")));
    assert_null(json_pointer(v, STR("a")));
    assert_null(json_pointer(NULL, STR("")));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(operations),
        cmocka_unit_test(failures),
        cmocka_unit_test(copies_that_explode),
        cmocka_unit_test(results_that_are_too_deep),
        cmocka_unit_test(too_many_operations),
        cmocka_unit_test(merge_patches),
        cmocka_unit_test(merging_large_objects),
        cmocka_unit_test(pointers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
