#include "helper.h"

static void reading_what_is_absent(void **state) {
    cleanup_arena struct arena *a = arena_new(0, 0);
    struct json *v = tree(a, "{\"a\":{\"b\":1},\"s\":\"x\",\"l\":[1,2]}");
    assert_null(json_get_c(NULL, "a"));
    assert_null(json_get_c(v, "z"));
    assert_null(json_get_c(json_get_c(v, "s"), "x"));
    assert_null(json_at(v, "a.b.c"));
    assert_null(json_at(v, "a.z"));
    assert_null(json_item(v, 0));
    assert_null(json_item(json_get_c(v, "l"), 2));
    assert_int_equal(json_len(NULL), 0);
    assert_int_equal(json_len(json_get_c(v, "s")), 0);
    assert_int_equal(json_as_str(NULL).n, 0);
    assert_non_null(json_as_str(json_get_c(v, "l")).p);
    assert_int_equal(json_as_int(json_get_c(v, "s"), 7), 7);
    assert_true(json_as_bool(json_get_c(v, "s"), true));
    assert_int_equal(json_int_at(v, "a.b", 0), 1);
    assert_string_equal(json_type_name(NULL), "null");
    assert_string_equal(json_type_name(json_get_c(v, "l")), "array");
}

static void whole_doubles_are_integers(void **state) {
    cleanup_arena struct arena *a = arena_new(0, 0);
    assert_int_equal(json_as_int(tree(a, "3.0"), -1), 3);
    assert_int_equal(json_as_int(tree(a, "1e3"), -1), 1000);
    assert_int_equal(json_as_int(tree(a, "3.5"), -1), -1);
    assert_int_equal(json_as_int(tree(a, "1e30"), -1), -1);
    assert_int_equal(json_as_int(tree(a, "9223372036854775808"), -1), -1);
    assert_true(json_as_double(tree(a, "3"), 0) == 3.0);
}

static void setting_and_deleting(void **state) {
    cleanup_arena struct arena *a = arena_new(0, 0);
    struct json *v = json_object(a);
    char key[] = "k";
    json_set(a, v, str_c(key), json_int(a, 1));
    key[0] = 'x'; /* the key was copied */
    json_set_str(a, v, "s", STR("t"));
    json_set_bool(a, v, "b", true);
    json_set_c(a, v, "n", NULL);
    json_set_int(a, v, "k", 2); /* replaces, keeps its place */
    assert_text(a, v, "{\"k\":2,\"s\":\"t\",\"b\":true,\"n\":null}");
    assert_true(json_del_c(v, "s"));
    assert_false(json_del_c(v, "s"));
    assert_true(json_del_c(v, "n"));
    assert_text(a, v, "{\"k\":2,\"b\":true}");
    for (int i = 0; i < 100; i++)
        json_set_int(a, v, str_printf(a, "%d", i).p, i);
    assert_int_equal(json_len(v), 102);
    assert_int_equal(json_int_at(v, "99", 0), 99);
    json_set_int(a, json_array(a), "k", 1); /* no object: nothing happens */
    json_set_int(a, NULL, "k", 1);
    assert_false(json_del_c(NULL, "k"));
}

static void arrays(void **state) {
    cleanup_arena struct arena *a = arena_new(0, 0);
    struct json *v = json_array(a);
    for (int i = 0; i < 20; i++)
        json_append(a, v, json_int(a, i));
    json_insert(a, v, 0, json_cstr(a, "first"));
    json_insert(a, v, 1000, json_cstr(a, "last"));
    json_insert(a, v, 2, NULL);
    for (int i = 0; i < 17; i++)
        json_remove(v, 4);
    assert_text(a, v, "[\"first\",0,null,1,19,\"last\"]");
    json_remove(v, 99);
    json_append_cstr(a, v, "x");
    assert_int_equal(json_len(v), 7);
}

static void editing_a_parsed_tree(void **state) {
    cleanup_arena struct arena *a = arena_new(0, 0);
    struct json *v = tree(a, "{\"a\":[1],\"o\":{\"x\":1}}");
    json_append(a, json_get_c(v, "a"), json_int(a, 2));
    json_set_int(a, json_get_c(v, "o"), "y", 2);
    json_set_int(a, v, "z", 3);
    assert_text(a, v, "{\"a\":[1,2],\"o\":{\"x\":1,\"y\":2},\"z\":3}");
}

static void paths(void **state) {
    cleanup_arena struct arena *a = arena_new(0, 0);
    struct json *v = tree(a, "{\"a\":null,\"s\":\"x\"}");
    json_set_int(a, json_ensure(a, v, "a.b.c"), "d", 1);
    assert_text(a, v, "{\"a\":{\"b\":{\"c\":{\"d\":1}}},\"s\":\"x\"}");
    assert_null(json_ensure(a, v, "s.t"));
    assert_ptr_equal(json_ensure(a, v, "a.b"), json_at(v, "a.b"));
    json_put(a, v, "a.b", json_int(a, 2));
    json_put(a, v, "p.q.r", json_bool(a, true));
    json_put(a, v, "s.t", json_int(a, 3)); /* what stands in the way is replaced */
    assert_text(a, v, "{\"a\":{\"b\":2},\"s\":{\"t\":3},\"p\":{\"q\":{\"r\":true}}}");
}

static void copies_are_independent(void **state) {
    struct arena *a = arena_new(0, 0);
    cleanup_arena struct arena *b = arena_new(0, 0);
    struct json *v = tree(a, "{\"k\":[1,2.5,\"s\",{\"x\":null}],\"e\":[],\"o\":{}}");
    struct json *c = json_copy(b, v);
    json_append(a, json_get_c(v, "k"), json_int(a, 9));
    arena_free(a);
    assert_text(b, c, "{\"k\":[1,2.5,\"s\",{\"x\":null}],\"e\":[],\"o\":{}}");
    json_set_int(b, json_get_c(c, "o"), "y", 1);
    assert_null(json_copy(b, NULL));
}

static void equality(void **state) {
    static const struct {
        const char *a, *b;
        bool equal;
    } cases[] = {
        {"1", "1", true},
        {"1", "1.0", true},
        {"1.0", "1", true},
        {"1", "1.5", false},
        {"9007199254740993", "9007199254740992.0", false},
        {"1", "\"1\"", false},
        {"null", "false", false},
        {"null", "null", true},
        {"[1,2]", "[2,1]", false},
        {"[1,2]", "[1,2,3]", false},
        {"{\"a\":1,\"b\":{\"c\":2,\"d\":3}}", "{\"b\":{\"d\":3,\"c\":2},\"a\":1}", true},
        {"{\"a\":1}", "{\"b\":1}", false},
        {"{\"a\":1}", "{\"a\":1,\"b\":2}", false},
        {"{\"a\":1}", "{\"a\":2}", false},
        {"{}", "[]", false},
    };
    cleanup_arena struct arena *a = arena_new(0, 0);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        assert_int_equal(json_equal(tree(a, cases[i].a), tree(a, cases[i].b)), cases[i].equal);
    assert_true(json_equal(NULL, NULL));
    assert_false(json_equal(NULL, json_null(a)));
}

static struct json *numbered(struct arena *a, int n, int step) {
    struct json *v = json_object(a);
    for (int i = 0; i < n; i++)
        json_set_int(a, v, str_printf(a, "key-%d", i * step % n).p, i * step % n);
    return v;
}

static void large_objects_in_another_order_are_equal(void **state) {
    cleanup_arena struct arena *a = arena_new(0, 0);
    struct json *v = numbered(a, 1009, 1), *w = numbered(a, 1009, 7);
    assert_true(json_equal(v, w));
    json_set_int(a, w, "key-500", 0);
    assert_false(json_equal(v, w));
}

static void sorting(void **state) {
    cleanup_arena struct arena *a = arena_new(0, 0);
    struct json *v = tree(a, "{\"b\":1,\"a\":{\"z\":1,\"y\":2},\"B\":2,\"ab\":3,\"\":4}");
    json_sort(v);
    assert_text(a, v, "{\"\":4,\"B\":2,\"a\":{\"z\":1,\"y\":2},\"ab\":3,\"b\":1}");
    json_sort(NULL);
}

static void formatted_strings(void **state) {
    cleanup_arena struct arena *a = arena_new(0, 0);
    assert_text(a, json_strf(a, "%s-%d", "pod", 7), "\"pod-7\"");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reading_what_is_absent),
        cmocka_unit_test(whole_doubles_are_integers),
        cmocka_unit_test(setting_and_deleting),
        cmocka_unit_test(arrays),
        cmocka_unit_test(editing_a_parsed_tree),
        cmocka_unit_test(paths),
        cmocka_unit_test(copies_are_independent),
        cmocka_unit_test(equality),
        cmocka_unit_test(large_objects_in_another_order_are_equal),
        cmocka_unit_test(sorting),
        cmocka_unit_test(formatted_strings),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
