/* What the schema's tests share. JSON in them has ' for ". */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "schema/schema.h"

static inline struct str quotes(struct arena *a, const char *text) {
    char *p = arena_strdup(a, text);
    for (char *c = p; *c; c++)
        if (*c == '\'')
            *c = '"';
    return str_c(p);
}

static inline struct json *tree(struct arena *a, const char *text) {
    struct error err = {0};
    struct json *v = json_parse(a, quotes(a, text), NULL, &err);
    if (!v)
        fail_msg("%s: %s", text, err.msg);
    return v;
}

static inline void assert_json(struct arena *a, const struct json *v, const char *expected) {
    struct str text = v ? json_text(a, v) : STR("(none)");
    assert_string_equal(text.p, quotes(a, expected).p);
}

static inline const struct schema_resource *resource(const char *group, const char *version, const char *kind) {
    const struct schema_resource *r = schema_find_kind(schema_builtin(), str_c(group), str_c(version), str_c(kind));
    if (!r)
        fail_msg("no %s in %s/%s", kind, group, version);
    return r;
}

/* Decoded, which must succeed. */
static inline struct json *decoded(struct arena *a, const struct schema_resource *r, const char *text) {
    struct error err = {0};
    struct json *v = schema_decode(a, r->type, tree(a, text), NULL, &err);
    if (!v)
        fail_msg("%s: %s", text, err.msg);
    return v;
}
