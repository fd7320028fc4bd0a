#include "helper.h"

static void expect(const char *json, const char *yaml) {
    cleanup_arena struct arena *a = arena_new(0, 0);
    cleanup_buf struct buf b = BUF_INIT;
    struct json *v = tree(a, json);
    yaml_write(&b, v);
    assert_false(b.failed);
    assert_string_equal(b.p, yaml);
    struct error err = {0};
    struct json *back = yaml_parse(a, buf_str(&b), NULL, &err);
    if (!back)
        fail_msg("%s", err.msg);
    assert_true(json_equal(v, back));
}

static void layout(void **state) {
    expect(
        "{\"apiVersion\":\"v1\",\"items\":[{\"a\":1,\"b\":[1,2]},[\"x\",[\"y\"]],{}],\"e\":{},\"l\":[],\"n\":null,\"t\":true,"
        "\"d\":1.5}",
        "apiVersion: v1\nitems:\n- a: 1\n  b:\n  - 1\n  - 2\n- - x\n  - - \"y\"\n- {}\ne: {}\nl: []\n\"n\": null\nt: true\n"
        "d: 1.5\n");
    expect("\"x\"", "x\n");
    expect("[]", "[]\n");
    expect("12", "12\n");
}

static void strings_that_need_quotes(void **state) {
    expect(
        "[\"yes\",\"off\",\"null\",\"~\",\"\",\"12\",\"0x1F\",\"1e3\",\"1.5\",\".inf\",\"2024-01-01T00:00:00Z\",\"1:20\"]",
        "- \"yes\"\n- \"off\"\n- \"null\"\n- \"~\"\n- \"\"\n- \"12\"\n- \"0x1F\"\n- \"1e3\"\n- \"1.5\"\n- \".inf\"\n"
        "- \"2024-01-01T00:00:00Z\"\n- \"1:20\"\n");
    expect(
        "[\"a: b\",\"- x\",\"#c\",\" lead\",\"trail \",\"*x\",\"&y\",\"!z\",\"%\",\"@\",\"{\",\"a#b\",\"a:b\",\"it's\",\"<<\"]",
        "- 'a: b'\n- '- x'\n- '#c'\n- ' lead'\n- 'trail '\n- '*x'\n- '&y'\n- '!z'\n- '%'\n- '@'\n- '{'\n- a#b\n- a:b\n"
        "- it's\n- \"<<\"\n");
    expect("[\"tab\\there\",\"bell\\u0007\",\"caf\xc3\xa9\"]", "- \"tab\\there\"\n- \"bell\\a\"\n- caf\xc3\xa9\n");
    expect("{\"yes\":1,\"12\":2,\"a b\":3,\"x: y\":4}", "\"yes\": 1\n\"12\": 2\na b: 3\n'x: y': 4\n");
}

static void text_with_line_breaks(void **state) {
    expect("{\"a\":\"x\\ny\\n\",\"b\":\"x\\ny\",\"c\":\"x\\n\\n\",\"d\":\"trail \\nx\",\"e\":\"  lead\\nx\"}",
           "a: |\n  x\n  y\nb: |-\n  x\n  y\nc: |+\n  x\n\nd: \"trail \\nx\"\ne: |2-\n    lead\n  x\n");
}

static void long_lines_are_folded(void **state) {
    expect("{\"message\":\"kubelet has been doing something very long that needs to be folded at eighty columns\"}",
           "message: kubelet has been doing something very long that needs to be folded at eighty\n  columns\n");
}

static void sorted_keys(void **state) {
    cleanup_arena struct arena *a = arena_new(0, 0);
    cleanup_buf struct buf b = BUF_INIT;
    yaml_write_sorted(
        &b, tree(a, "{\"k10\":1,\"k9\":2,\"b\":{\"z\":1,\"y\":2},\"_a\":3,\"a\":[{\"d\":1,\"c\":2}],\"k\":0,\"B\":1,"
                    "\"1\":1,\"k09\":5,\"a.b\":1,\"a/b\":2,\"ab\":3}"));
    assert_string_equal(
        b.p, "_a: 3\n\"1\": 1\nB: 1\na:\n- c: 2\n  d: 1\na.b: 1\na/b: 2\nab: 3\nb:\n  \"y\": 2\n  z: 1\nk: 0\n"
             "k9: 2\nk09: 5\nk10: 1\n");
}

static void failure_is_reported(void **state) {
    cleanup_arena struct arena *a = arena_new(0, 0);
    cleanup_buf struct buf small;
    buf_init(&small, 10);
    yaml_write(&small, tree(a, "{\"key\":\"a longer value\"}"));
    assert_true(small.failed);
    cleanup_buf struct buf b = BUF_INIT;
    yaml_write(&b, json_str(a, STR("\xff")));
    assert_true(b.failed);
}

/* Whatever characters a string is made of, it reads back. */
static void every_string_reads_back(void **state) {
    static const char *const pieces[] = {"a",
                                         " ",
                                         "\n",
                                         ":",
                                         "#",
                                         "-",
                                         "'",
                                         "\"",
                                         "\\",
                                         "\t",
                                         "?",
                                         "1",
                                         ".",
                                         "e",
                                         "\xc3\xa9",
                                         "\xe2\x80\xa8",
                                         "\xf0\x9f\x98\x80",
                                         "\r",
                                         "\x7f",
                                         "%",
                                         "|",
                                         ">",
                                         "&",
                                         ",",
                                         "[",
                                         "}",
                                         "=",
                                         "~",
                                         "!"};
    uint64_t seed = 88172645463325252u;
    for (int i = 0; i < 5000; i++) {
        cleanup_arena struct arena *a = arena_new(0, 0);
        cleanup_buf struct buf s = BUF_INIT, out = BUF_INIT;
        for (int n = (int)(seed % 7); n >= 0; n--) {
            seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
            buf_puts(&s, pieces[seed % ARRAY_LEN(pieces)]);
        }
        struct json *v = json_object(a), *l = json_array(a);
        json_append(a, l, json_str(a, buf_str(&s)));
        json_set(a, v, buf_str(&s), l);
        yaml_write(&out, v);
        struct error err = {0};
        struct json *back = yaml_parse(a, buf_str(&out), NULL, &err);
        if (!json_equal(v, back))
            fail_msg("%s was written as:\n%s(%s)", text(a, v), out.p, err.msg);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(layout),
        cmocka_unit_test(strings_that_need_quotes),
        cmocka_unit_test(text_with_line_breaks),
        cmocka_unit_test(long_lines_are_folded),
        cmocka_unit_test(sorted_keys),
        cmocka_unit_test(failure_is_reported),
        cmocka_unit_test(every_string_reads_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
