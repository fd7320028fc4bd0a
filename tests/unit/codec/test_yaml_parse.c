#include "helper.h"

static void expect(const char *yaml, const char *json) {
    cleanup_arena struct arena *a = arena_new(0, 0);
    struct error err = {0};
    struct json *v = yaml_parse(a, str_c(yaml), NULL, &err);
    if (!v)
        fail_msg("%s: %s", yaml, err.msg);
    assert_text(a, v, json);
}

static void expect_error(const char *yaml, int code, const char *message) {
    cleanup_arena struct arena *a = arena_new(0, 0);
    struct error err = {0};
    struct json *v = yaml_parse(a, str_c(yaml), NULL, &err);
    if (v)
        fail_msg("accepted: %s", yaml);
    assert_contains(err.msg, message);
    assert_int_equal(err.code, code);
}

static void a_manifest(void **state) {
    expect(
        "apiVersion: v1\nkind: Pod\nmetadata:\n  name: web # comment\n  labels: {app: web, \"tier\": 'front'}\nspec:\n"
        "  containers:\n  - name: c\n    image: nginx:1.25\n    args: [\"-c\", 'it''s', -v]\n    ports:\n"
        "    - containerPort: 80\n  hostNetwork: false\n",
        "{\"apiVersion\":\"v1\",\"kind\":\"Pod\",\"metadata\":{\"name\":\"web\",\"labels\":{\"app\":\"web\","
        "\"tier\":\"front\"}},\"spec\":{\"containers\":[{\"name\":\"c\",\"image\":\"nginx:1.25\",\"args\":[\"-c\","
        "\"it's\",\"-v\"],\"ports\":[{\"containerPort\":80}]}],\"hostNetwork\":false}}");
}

static void plain_scalars(void **state) {
    static const struct {
        const char *yaml, *json;
    } cases[] = {
        {"true", "true"},
        {"Yes", "true"},
        {"ON", "true"},
        {"y", "true"},
        {"off", "false"},
        {"N", "false"},
        {"FALSE", "false"},
        {"yEs", "\"yEs\""},
        {"yess", "\"yess\""},
        {"~", "null"},
        {"Null", "null"},
        {"nUll", "\"nUll\""},
        {"0", "0"},
        {"-12", "-12"},
        {"+7", "7"},
        {"0x1F", "31"},
        {"-0x10", "-16"},
        {"0o17", "15"},
        {"017", "15"},
        {"0b101", "5"},
        {"08", "8"},
        {"1_000_000", "1000000"},
        {"9223372036854775807", "9223372036854775807"},
        {"-9223372036854775808", "-9223372036854775808"},
        {"18446744073709551615", "18446744073709552000"},
        {"0xffffffffffffffffff", "4.722366482869645e+21"},
        {"1.5", "1.5"},
        {".5", "0.5"},
        {"1.", "1"},
        {"1e3", "1000"},
        {"-1.5E-3", "-0.0015"},
        {"1e999", "\"1e999\""},
        {"1.2.3", "\"1.2.3\""},
        {"0x", "\"0x\""},
        {"0xfg", "\"0xfg\""},
        {"-", "[null]"},
        {"+", "\"+\""},
        {"1:20", "\"1:20\""},
        {"2024-01-01", "\"2024-01-01\""},
        {"2024-01-01T10:00:00Z", "\"2024-01-01T10:00:00Z\""},
        {"10.42.0.0/16", "\"10.42.0.0/16\""},
        {"500m", "\"500m\""},
        {"'yes'", "\"yes\""},
        {"\"12\"", "\"12\""},
        {"\"a\\nb\\u00e9\\x41\"", "\"a\\nb\xc3\xa9"
                                  "A\""},
        {"|\n  12\n", "\"12\\n\""},
        {"!!str 12", "\"12\""},
        {"!!int \"12\"", "12"},
        {"!!float 12", "12"},
        {"!!bool yes", "true"},
        {"!!null ''", "null"},
        {"!!binary aGVsbG8=", "\"hello\""},
        {"!mine 12", "\"12\""},
        {"! 12", "\"12\""},
        {"<<", "\"<<\""},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        expect(cases[i].yaml, cases[i].json);
}

static void block_scalars(void **state) {
    expect("a: |\n  x\n   y\n\n  z\nb: >\n  one\n  two\n\n  three\nc: |-\n  x\nd: |+\n  x\n\ne: >-\n  a\n  b\n",
           "{\"a\":\"x\\n y\\n\\nz\\n\",\"b\":\"one two\\nthree\\n\",\"c\":\"x\",\"d\":\"x\\n\\n\",\"e\":\"a b\"}");
}

static void keys_become_strings(void **state) {
    expect("1: a\ny: b\n1.5: c\n\"q\": d\n2024-01-01: e\n0x10: f\n",
           "{\"1\":\"a\",\"true\":\"b\",\"1.5\":\"c\",\"q\":\"d\",\"2024-01-01\":\"e\",\"16\":\"f\"}");
    expect_error("null: 1", -EINVAL, "a key must be a string, number or boolean");
    expect_error("? [a, b]\n: 1", -EINVAL, "line 1, column 3: a key must be");
    expect_error("? {a: b}\n: 1", -EINVAL, "a key must be");
}

static void anchors_aliases_and_merges(void **state) {
    expect("a: &x [1, {b: 2}]\nc: *x\n", "{\"a\":[1,{\"b\":2}],\"c\":[1,{\"b\":2}]}");
    expect("base: &b {x: 1, w: 2}\nm:\n  <<: *b\n  w: 3\n", "{\"base\":{\"x\":1,\"w\":2},\"m\":{\"w\":3,\"x\":1}}");
    expect("m: {w: 3, <<: {x: 1, w: 2}}", "{\"m\":{\"w\":3,\"x\":1}}");
    expect("m: {<<: [{x: 1}, {x: 2, z: 3}], w: 0}", "{\"m\":{\"w\":0,\"x\":1,\"z\":3}}");
    expect("k: &k name\n*k : v\n", "{\"k\":\"name\",\"name\":\"v\"}");
    expect("'<<': 1", "{\"<<\":1}");
    expect("a: &x 1\nb: &x 2\nc: *x\n", "{\"a\":1,\"b\":2,\"c\":2}");
    expect_error("a: *nope", -EINVAL, "unknown anchor 'nope' referenced");
    expect_error("a: &x [*x]", -EINVAL, "unknown anchor");
    expect_error("<<: 5", -EINVAL, "map merge requires map or sequence of maps");
    expect_error("<<: [{a: 1}, 5]", -EINVAL, "map merge requires map or sequence of maps");
}

static void aliases_are_copies(void **state) {
    cleanup_arena struct arena *a = arena_new(0, 0);
    struct json *v = yaml_parse(a, STR("a: &x {p: 1}\nb: *x\nc: {<<: *x}"), NULL, NULL);
    json_set_int(a, json_get_c(v, "b"), "p", 2);
    assert_text(a, v, "{\"a\":{\"p\":1},\"b\":{\"p\":2},\"c\":{\"p\":1}}");
}

static void billion_laughs(void **state) {
    cleanup_buf struct buf b = BUF_INIT;
    buf_puts(&b, "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n");
    for (int i = 1; i < 20; i++)
        buf_printf(&b, "a%d: &a%d [*a%d,*a%d,*a%d,*a%d,*a%d,*a%d,*a%d,*a%d,*a%d,*a%d]\n", i, i, i - 1, i - 1, i - 1,
                   i - 1, i - 1, i - 1, i - 1, i - 1, i - 1, i - 1);
    cleanup_arena struct arena *a = arena_new(0, MiB(256));
    struct error err = {0};
    assert_null(yaml_parse(a, buf_str(&b), NULL, &err));
    assert_int_equal(err.code, -E2BIG);
}

/* Few nodes, but long strings. */
static void long_laughs(void **state) {
    cleanup_arena struct arena *a = arena_new(0, MiB(256));
    cleanup_buf struct buf b = BUF_INIT;
    struct error err = {0};
    buf_puts(&b, "s: &s ");
    for (int i = 0; i < 100000; i++)
        buf_puts(&b, "x");
    buf_puts(&b, "\nl:\n");
    for (int i = 0; i < 1000; i++)
        buf_puts(&b, "- *s\n");
    assert_null(yaml_parse(a, buf_str(&b), NULL, &err));
    assert_int_equal(err.code, -E2BIG);
    assert_contains(err.msg, "aliases expand to too much");
}

static int collect(void *arg, struct json *doc) {
    struct buf *b = arg;
    json_write(b, doc);
    buf_putc(b, ';');
    return b->n > 100 ? -ECANCELED : 0;
}

static void streams(void **state) {
    cleanup_arena struct arena *a = arena_new(0, 0);
    cleanup_buf struct buf b = BUF_INIT;
    struct error err = {0};
    int rc = yaml_parse_all(a, STR("# head\n---\na: 1\n---\n---\n# nothing\n---\n- b\n...\n---\nnull\n---\nx\n"), NULL,
                            collect, &b, &err);
    assert_int_equal(rc, 0);
    assert_string_equal(b.p, "{\"a\":1};[\"b\"];\"x\";");
    buf_reset(&b);
    assert_int_equal(yaml_parse_all(a, STR(""), NULL, collect, &b, &err), 0);
    assert_int_equal(b.n, 0);
    assert_int_equal(yaml_parse_all(a, STR("a: 1\n---\n{"), NULL, collect, &b, &err), -EINVAL);
    assert_string_equal(b.p, "{\"a\":1};"); /* what stood before the error was seen */
    buf_reset(&b);
    cleanup_buf struct buf many = BUF_INIT;
    for (int i = 0; i < 50; i++)
        buf_puts(&many, "---\nsome: document\n");
    assert_int_equal(yaml_parse_all(a, buf_str(&many), NULL, collect, &b, &err), -ECANCELED);
}

static void anchors_end_with_their_document(void **state) {
    cleanup_arena struct arena *a = arena_new(0, 0);
    cleanup_buf struct buf b = BUF_INIT;
    assert_int_equal(yaml_parse_all(a, STR("a: &x 1\n---\nb: *x\n"), NULL, collect, &b, NULL), -EINVAL);
}

static void one_document(void **state) {
    expect("", "null");
    expect("# only a comment\n", "null");
    expect("---\n---\na: 1\n---\n", "{\"a\":1}");
    expect_error("a: 1\n---\nb: 2\n", -EINVAL, "one document was expected");
}

static void json_is_yaml(void **state) {
    expect("{\"a\": [1, 2.5, \"x\\u00e9\\/\", null, true]}", "{\"a\":[1,2.5,\"x\xc3\xa9/\",null,true]}");
    expect("  {\"yes\": \"no\",\n\t\"x\": {}}\n", "{\"yes\":\"no\",\"x\":{}}");
    expect("[1, \"2\"]", "[1,\"2\"]");
    expect("{a: yes, b}", "{\"a\":true,\"b\":null}");
}

static void syntax_errors(void **state) {
    expect_error("a: 1\n b: 2\n", -EINVAL, "yaml: line 2, column 3: mapping values are not allowed in this context");
    expect_error("a: [1\nb: 2", -EINVAL, "yaml: line 2");
    expect_error("a:\n\t- x\n", -EINVAL, "found character that cannot start any token");
    expect_error("a: \"x\n", -EINVAL, "found unexpected end of stream");
    expect_error("ok: 1\na: \x01\n", -EINVAL, "yaml: line 2, column 4: control characters are not allowed");
    expect_error("a: \xff\n", -EINVAL, "yaml: line 1");
    expect_error("a: .nan", -EINVAL, "no form in JSON");
    expect_error("a: -.Inf", -EINVAL, "no form in JSON");
    expect_error("!!int x", -EINVAL, "cannot decode \"x\" as a !!int");
    expect_error("!!binary '****'", -EINVAL, "!!binary");
    expect_error("%YAML 9.9\n---\na", -EINVAL, "yaml: line 1");
}

static void note(void *arg, struct str path) {
    buf_put_str(arg, path);
    buf_putc(arg, ';');
}

static void duplicates(void **state) {
    cleanup_arena struct arena *a = arena_new(0, 0);
    cleanup_buf struct buf seen = BUF_INIT;
    struct json_limits limits = {.duplicate = note, .arg = &seen};
    const char *yaml = "spec:\n  l:\n  - {}\n  - x: 1\n    w: 2\n    x: 3\n1: a\n'1': b\n";
    struct json *v = yaml_parse(a, str_c(yaml), &limits, NULL);
    assert_text(a, v, "{\"spec\":{\"l\":[{},{\"x\":3,\"w\":2}]},\"1\":\"b\"}");
    assert_string_equal(seen.p, "spec.l[1].x;1;");
    expect_error(yaml, -EINVAL, "yaml: line 6, column 5: duplicate field \"spec.l[1].x\"");
}

static void limits(void **state) {
    cleanup_arena struct arena *a = arena_new(0, 0);
    struct json_limits limits = {.depth = 3, .nodes = 6};
    struct error err = {0};
    assert_non_null(yaml_parse(a, STR("[[[1]]]"), &limits, NULL));
    assert_null(yaml_parse(a, STR("[[[[1]]]]"), &limits, &err));
    assert_int_equal(err.code, -E2BIG);
    assert_non_null(yaml_parse(a, STR("[1,2,3,4,5]"), &limits, NULL));
    assert_null(yaml_parse(a, STR("[1,2,3,4,5,6]"), &limits, &err));
    assert_int_equal(err.code, -E2BIG);
    limits.nodes = 100;
    assert_null(yaml_parse(a, STR("a: &a [[1]]\nb: [*a]\n"), &limits, &err)); /* an alias deepens too */
    assert_int_equal(err.code, -E2BIG);
    cleanup_arena struct arena *small = arena_new(0, KiB(8));
    cleanup_buf struct buf b = BUF_INIT;
    for (int i = 0; i < 1000; i++)
        buf_printf(&b, "k%d: v\n", i);
    assert_null(yaml_parse(small, buf_str(&b), NULL, &err));
    assert_int_equal(err.code, -E2BIG);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_manifest),
        cmocka_unit_test(plain_scalars),
        cmocka_unit_test(block_scalars),
        cmocka_unit_test(keys_become_strings),
        cmocka_unit_test(anchors_aliases_and_merges),
        cmocka_unit_test(aliases_are_copies),
        cmocka_unit_test(billion_laughs),
        cmocka_unit_test(long_laughs),
        cmocka_unit_test(streams),
        cmocka_unit_test(anchors_end_with_their_document),
        cmocka_unit_test(one_document),
        cmocka_unit_test(json_is_yaml),
        cmocka_unit_test(syntax_errors),
        cmocka_unit_test(duplicates),
        cmocka_unit_test(limits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
