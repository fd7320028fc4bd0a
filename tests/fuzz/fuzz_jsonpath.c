/* JSONPath: the first line is the path, the rest the document. */
#include <stdint.h>
#include <stdlib.h>

#include "codec/jsonpath.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct matches {
    const struct json *first;
    size_t n;
};

static void count(void *arg, const struct json *match) {
    struct matches *m = arg;
    REQUIRE(match);
    if (m->n++ == 0)
        m->first = match;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    cleanup_arena struct arena *a = arena_new(0, 0);
    struct str path = str_n((const char *)data, size), text = STR("{\"a\":[{\"b\":1},{\"b\":[2,3]}],\"c\":\"d\"}");
    str_cut(path, '\n', &path, &text);
    struct json_limits limits = {.nodes = 300};
    struct error err = {0};
    struct json *doc = json_parse(a, text, &limits, NULL);
    struct jsonpath *p = jsonpath_compile(a, path, &err);
    if (!p)
        REQUIRE(err.code < 0 && err.msg[0]);
    if (!p || !doc)
        return 0;
    struct matches m = {0};
    jsonpath_eval(p, doc, count, &m);
    REQUIRE(jsonpath_first(p, doc) == m.first);
    return 0;
}
