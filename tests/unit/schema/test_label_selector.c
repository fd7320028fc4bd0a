#include "helper.h"

static bool selects(struct arena *a, const char *selector, const char *labels) {
    struct error err = {0};
    struct label_selector *s = label_selector_parse(a, str_c(selector), &err);
    if (!s)
        fail_msg("%s: %s", selector, err.msg);
    return label_selector_matches(s, labels ? tree(a, labels) : NULL);
}

static void matching(void **state) {
    static const struct {
        const char *selector, *labels;
        bool matches;
    } cases[] = {
        {"", NULL, true},
        {"", "{'a':'b'}", true},
        {"a=b", "{'a':'b'}", true},
        {"a==b", "{'a':'b','c':'d'}", true},
        {"a=b", "{'a':'c'}", false},
        {"a=b", NULL, false},
        {"a!=b", "{'a':'c'}", true},
        {"a!=b", NULL, true},
        {"a!=b", "{'a':'b'}", false},
        {"a=", "{'a':''}", true},
        {"a=,b=c", "{'a':'','b':'c'}", true},
        {"a", "{'a':''}", true},
        {"a", "{'b':'a'}", false},
        {"!a", "{'b':'a'}", true},
        {"! a", "{'a':'a'}", false},
        {"a in (b, c)", "{'a':'c'}", true},
        {"a in (b,c)", "{'a':'d'}", false},
        {"a in (b,c)", NULL, false},
        {"a notin (b,c)", "{'a':'d'}", true},
        {"a notin (b,c)", NULL, true},
        {"a notin (b,c)", "{'a':'b'}", false},
        {"a in ()", "{'a':''}", true},
        {"a in (,b)", "{'a':''}", true},
        {"a in (b,)", "{'a':''}", true},
        {"a in (in,notin)", "{'a':'in'}", true},
        {"in=notin", "{'in':'notin'}", true},
        {"a>5", "{'a':'6'}", true},
        {"a>5", "{'a':'5'}", false},
        {"a<5", "{'a':'4'}", true},
        {"a<5", "{'a':'x'}", false},
        {"a>7", NULL, false},
        {" a = b , app.kubernetes.io/name in (x) ", "{'a':'b','app.kubernetes.io/name':'x'}", true},
        {"a=b,a!=b", "{'a':'b'}", false},
    };
    cleanup_arena struct arena *a = arena_new(0, 0);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        if (selects(a, cases[i].selector, cases[i].labels) != cases[i].matches)
            fail_msg("%s on %s", cases[i].selector, cases[i].labels ? cases[i].labels : "nothing");
}

static void bad_texts(void **state) {
    static const struct {
        const char *text, *message;
    } cases[] = {
        {"a,", "found '', expected: identifier after ','"},
        {",a", "found ',', expected: !, identifier, or 'end of string'"},
        {"a b", "unable to parse requirement: found 'b', expected: in, notin, =, ==, !=, gt, lt"},
        {"a=b c", "found 'c', expected: ',' or 'end of string'"},
        {"a in b", "unable to parse requirement: found 'b' expected: '('"},
        {"a in (b", "unable to parse requirement: found '', expected: ',' or ')'"},
        {"a in (b c)", "unable to parse requirement: found 'c', expected: ',' or ')'"},
        {"!", "unable to parse requirement: found '', expected: identifier"},
        {"a=(", "unable to parse requirement: found '(', expected: identifier"},
        {"a:", "unable to parse requirement: <nil>: Invalid value: \"a:\": name part must consist of"},
        {"a=b@c", "unable to parse requirement: values[0][a]: Invalid value: \"b@c\": a valid label must be"},
        {"a>x", "unable to parse requirement: values[0]: Invalid value: \"x\": for 'Gt', 'Lt' operators, the value "
                "must be an integer"},
        {"a===b", "unable to parse requirement: found '=', expected: identifier"},
        {"a)", "unable to parse requirement: found ')', expected: in, notin"},
    };
    cleanup_arena struct arena *a = arena_new(0, 0);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct error err = {0};
        assert_null(label_selector_parse(a, str_c(cases[i].text), &err));
        if (strncmp(err.msg, cases[i].message, strlen(cases[i].message)) != 0)
            fail_msg("%s: \"%s\" instead of \"%s\"", cases[i].text, err.msg, cases[i].message);
    }
    assert_null(label_selector_parse(a, STR("a,"), NULL));
}

static void texts(void **state) {
    static const char *const cases[][2] = {
        {"b=1,a", "a,b=1"},
        {"x in (c, a,b,a)", "x in (a,b,c)"},
        {"!y,x notin (q)", "x notin (q),!y"},
        {"a==1,b!=2,c>3,d<4", "a==1,b!=2,c>3,d<4"},
        {"", ""},
    };
    cleanup_arena struct arena *a = arena_new(0, 0);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct label_selector *s = label_selector_parse(a, str_c(cases[i][0]), NULL);
        assert_string_equal(label_selector_text(a, s).p, cases[i][1]);
        assert_int_equal(label_selector_empty(s), cases[i][0][0] == '\0');
    }
}

static void from_json(void **state) {
    cleanup_arena struct arena *a = arena_new(0, 0);
    struct error err = {0};
    const struct json *labels = tree(a, "{'app':'x','tier':'db'}");
    struct label_selector *s = label_selector_from_json(a, NULL, &err);
    assert_false(label_selector_matches(s, labels));
    assert_false(label_selector_empty(s));
    s = label_selector_from_json(a, tree(a, "null"), &err);
    assert_false(label_selector_matches(s, labels));
    s = label_selector_from_json(a, tree(a, "{}"), &err);
    assert_true(label_selector_matches(s, labels) && label_selector_matches(s, NULL) && label_selector_empty(s));
    s = label_selector_from_json(a,
                                 tree(a, "{'matchLabels':{'app':'x'},'matchExpressions':[{'key':'tier','operator':"
                                         "'In','values':['web','db']},{'key':'no','operator':'DoesNotExist'}]}"),
                                 &err);
    assert_true(label_selector_matches(s, labels));
    assert_false(label_selector_matches(s, tree(a, "{'app':'x','tier':'db','no':''}")));
    assert_string_equal(label_selector_text(a, s).p, "app=x,!no,tier in (db,web)");
    static const char *const bad[][2] = {
        {"{'matchExpressions':[{'key':'a','operator':'Foo'}]}", "\"Foo\" is not a valid label selector operator"},
        {"{'matchExpressions':[{'key':'a','operator':'In'}]}",
         "values: Invalid value: []: for 'in', 'notin' operators, values set can't be empty"},
        {"{'matchExpressions':[{'key':'a','operator':'Exists','values':['x']}]}",
         "values: Invalid value: [\"x\"]: values set must be empty for exists and does not exist"},
        {"{'matchLabels':{'a b':'c'}}", "<nil>: Invalid value: \"a b\": name part must"},
    };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        assert_null(label_selector_from_json(a, tree(a, bad[i][0]), &err));
        assert_memory_equal(err.msg, bad[i][1], strlen(bad[i][1]));
    }
}

static void from_map(void **state) {
    cleanup_arena struct arena *a = arena_new(0, 0);
    assert_false(label_selector_matches(label_selector_from_map(a, NULL), NULL));
    assert_false(label_selector_matches(label_selector_from_map(a, tree(a, "{}")), tree(a, "{'a':'b'}")));
    struct label_selector *s = label_selector_from_map(a, tree(a, "{'a':'b'}"));
    assert_true(label_selector_matches(s, tree(a, "{'a':'b','c':'d'}")));
    assert_false(label_selector_matches(s, tree(a, "{'a':'c'}")));
    assert_false(label_selector_matches(label_selector_from_map(a, tree(a, "{'a b':'c'}")), tree(a, "{}")));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(matching),  cmocka_unit_test(bad_texts), cmocka_unit_test(texts),
        cmocka_unit_test(from_json), cmocka_unit_test(from_map),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
