#include "helper.h"

static const char document[] =
    "{\"metadata\":{\"name\":\"web\",\"labels\":{\"app.kubernetes.io/name\":\"web\"}},"
    "\"spec\":{\"containers\":[{\"name\":\"a\",\"ports\":[{\"port\":80},{\"port\":443}]},{\"name\":\"b\"},{\"name\":\"c\",\"n\":3}]},"
    "\"status\":{\"conditions\":[{\"type\":\"Ready\",\"status\":\"True\",\"n\":1},{\"type\":\"Up\",\"status\":\"False\",\"n\":2.5}],"
    "\"l\":[0,1,2,3,4,5]},\"ok\":true,\"want\":\"Up\"}";

struct matches {
    struct arena *a;
    struct buf text;
};

static void add(void *arg, const struct json *match) {
    struct matches *m = arg;
    if (m->text.n)
        buf_putc(&m->text, ' ');
    json_write(&m->text, match);
}

static void expect(const char *path, const char *expected) {
    cleanup_arena struct arena *a = arena_new(0, 0);
    struct matches m = {.a = a, .text = BUF_INIT};
    struct error err = {0};
    struct jsonpath *p = jsonpath_compile(a, str_c(path), &err);
    if (!p)
        fail_msg("%s", err.msg);
    struct json *v = tree(a, document);
    jsonpath_eval(p, v, add, &m);
    if (!str_eq_c(buf_str(&m.text), expected))
        fail_msg("%s: [%s], not [%s]", path, buf_str(&m.text).p, expected);
    const struct json *first = jsonpath_first(p, v);
    assert_int_equal(first == NULL, expected[0] == 0);
    if (first)
        assert_int_equal(strncmp(text(a, first), expected, strlen(text(a, first))), 0);
    buf_fini(&m.text);
}

static void fields(void **state) {
    expect(".metadata.name", "\"web\"");
    expect("{.metadata.name}", "\"web\"");
    expect("{ $.metadata.name }", "\"web\"");
    expect("metadata.name", "\"web\"");
    expect("$['metadata']['name']", "\"web\"");
    expect("$.metadata[\"name\"]", "\"web\"");
    expect(".metadata.labels.app\\.kubernetes\\.io/name", "\"web\"");
    expect(".metadata.labels['app.kubernetes.io/name']", "\"web\"");
    expect(".metadata['name', 'x']", "\"web\"");
    expect(".ok", "true");
}

static void nothing_matches(void **state) {
    expect(".x.y", "");
    expect(".metadata.name.x", "");
    expect(".spec.containers.name", "");
    expect(".spec.containers[3].name", "");
    expect(".spec.containers[-4].name", "");
    expect(".metadata[0]", "");
    expect(".metadata[?(@.x)]", "");
}

static void arrays(void **state) {
    expect(".spec.containers[*].name", "\"a\" \"b\" \"c\"");
    expect(".spec.containers[1].name", "\"b\"");
    expect(".spec.containers[-1].name", "\"c\"");
    expect(".status.l[1:3]", "1 2");
    expect(".status.l[:2]", "0 1");
    expect(".status.l[4:]", "4 5");
    expect(".status.l[-2:]", "4 5");
    expect(".status.l[:-4]", "0 1");
    expect(".status.l[::2]", "0 2 4");
    expect(".status.l[1:100:3]", "1 4");
    expect(".status.l[0,2,-1]", "0 2 5");
    expect(".status.l[3:1]", "");
    expect(".status.l[-9223372036854775808:9223372036854775807:9223372036854775807]", "0");
    expect(".spec.containers[*].ports[*].port", "80 443");
}

static void wildcards_and_descent(void **state) {
    expect(".metadata.labels.*", "\"web\"");
    expect("..port", "80 443");
    expect("..name", "\"web\" \"a\" \"b\" \"c\"");
    expect("$..containers[0].name", "\"a\"");
    expect(".status.conditions..[?(@.type==\"Up\")].status", "\"False\"");
    expect(".status.conditions[0].*", "\"Ready\" \"True\" 1");
    expect(".status.conditions[0]..*", "\"Ready\" \"True\" 1");
}

static void filters(void **state) {
    expect(".status.conditions[?(@.type==\"Ready\")].status", "\"True\"");
    expect(".status.conditions[?(@.type=='Ready')].status", "\"True\"");
    expect(".status.conditions[?( @.type != 'Ready' )].status", "\"False\"");
    expect(".spec.containers[?(@.ports)].name", "\"a\"");
    expect(".spec.containers[?(@.n==3)].name", "\"c\"");
    expect(".spec.containers[?(@.n==3.0)].name", "\"c\"");
    expect(".status.conditions[?(@.n>1)].type", "\"Up\"");
    expect(".status.conditions[?(@.n>=1)].type", "\"Ready\" \"Up\"");
    expect(".status.conditions[?(@.n<2.5)].type", "\"Ready\"");
    expect(".status.conditions[?(@.n<=2.5)].type", "\"Ready\" \"Up\"");
    expect(".status.conditions[?(@.type<'S')].type", "\"Ready\"");
    expect(".status.conditions[?(@.type==$.want)].n", "2.5");
    expect(".status.l[?(@>3)]", "4 5");
    expect(".spec.containers[?(@.ports[?(@.port==443)])].name", "\"a\"");
    expect(".spec.containers[?(@.ports[0].port==80)].name", "\"a\"");
    expect(".spec.containers[?(@.n=='3')].name", "");            /* a number is no string */
    expect(".spec.containers[?(@.ports[*].port==80)].name", ""); /* two values on one side */
}

static void the_value_itself(void **state) {
    expect("{.ok}", "true");
    cleanup_arena struct arena *a = arena_new(0, 0);
    static const char *const whole[] = {"", ".", "{}", "{.}", "$", "@", "{$}"};
    struct json *v = tree(a, "[1]");
    for (size_t i = 0; i < ARRAY_LEN(whole); i++)
        assert_ptr_equal(jsonpath_first(jsonpath_compile(a, str_c(whole[i]), NULL), v), v);
    assert_null(jsonpath_first(jsonpath_compile(a, STR(".x"), NULL), NULL));
}

static void bad_syntax(void **state) {
    static const struct {
        const char *path, *message;
    } cases[] = {
        {".a[", "offset 3"},
        {".a.", "offset 3: a field name was expected"},
        {"..", "offset 2"},
        {"...a", "a field name was expected"},
        {".a]", "offset 2"},
        {"{.a", "offset 3: '}' was expected"},
        {"{.a}{.b}", "offset 4"},
        {".a b", "offset 3"},
        {".a[x]", "an index, a slice"},
        {".a['x]", "does not end"},
        {".a[1", "']' was expected"},
        {".a[1,]", "an index, a slice"},
        {".a[::0]", "a step above 0"},
        {".a[::-1]", "a step above 0"},
        {".a[99999999999999999999]", "an index"},
        {".a[?(@.x==)]", "was expected"},
        {".a[?(@.x==y)]", "a path, a number"},
        {".a[?(@.x=='y']", "')' was expected"},
        {".a[?(@.x=='y')", "']' was expected"},
        {".a[?(@.x ~ 'y')]", "an operator or ')'"},
        {".a[?@.x]", "an index"},
        {".a[?()]", "was expected"},
        {"..a..b..c..d", "\"..\" is used too often"},
        {"a[?(@[?(@[?(@[?(@[?(@.x)])])])])]", "too deeply"},
    };
    cleanup_arena struct arena *a = arena_new(0, 0);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct error err = {0};
        if (jsonpath_compile(a, str_c(cases[i].path), &err))
            fail_msg("accepted: %s", cases[i].path);
        assert_contains(err.msg, cases[i].message);
        assert_true(err.code == -EINVAL || err.code == -E2BIG);
    }
    cleanup_buf struct buf b = BUF_INIT;
    for (int i = 0; i < 300; i++)
        buf_puts(&b, ".a");
    struct error err = {0};
    assert_null(jsonpath_compile(a, buf_str(&b), &err));
    assert_int_equal(err.code, -E2BIG);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fields),     cmocka_unit_test(nothing_matches),
        cmocka_unit_test(arrays),     cmocka_unit_test(wildcards_and_descent),
        cmocka_unit_test(filters),    cmocka_unit_test(the_value_itself),
        cmocka_unit_test(bad_syntax),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
