/* What the tests of pkg/codec share. */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "codec/codec.h"

/* Text that must be JSON, as a tree. */
static inline struct json *tree(struct arena *a, const char *text) {
    struct error err = {0};
    struct json *v = json_parse(a, str_c(text), NULL, &err);
    if (!v)
        fail_msg("%s: %s", text, err.msg);
    return v;
}

/* The compact JSON of v, "(none)" for NULL. */
static inline const char *text(struct arena *a, const struct json *v) {
    return v ? json_text(a, v).p : "(none)";
}

static inline void assert_text(struct arena *a, const struct json *v, const char *expected) {
    assert_string_equal(text(a, v), expected);
}

/* Whether part stands in whole; says both when it does not. */
static inline void assert_contains(const char *whole, const char *part) {
    if (!strstr(whole, part))
        fail_msg("\"%s\" does not contain \"%s\"", whole, part);
}
