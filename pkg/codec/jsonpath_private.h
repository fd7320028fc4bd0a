/* The compiled form of a JSONPath: a list of steps. Private to pkg/codec. */
#pragma once

#include "codec/jsonpath.h"

enum step_kind { STEP_FIELD, STEP_WILDCARD, STEP_SLICE, STEP_RECURSIVE, STEP_UNION, STEP_FILTER, STEP_KIND_MAX };

struct filter;

struct step {
    enum step_kind kind;
    struct step *next;
    struct str name; /* field */
    /* slice: [from:to:by], an index is from with single set; negative ones count from the end */
    int64_t from, to, by;
    bool has_from, has_to, single;
    struct step *first, *other; /* union: its alternatives, linked by other */
    struct filter *filter;
};

enum filter_op { FILTER_EXISTS, FILTER_EQ, FILTER_NE, FILTER_LE, FILTER_GE, FILTER_LT, FILTER_GT, FILTER_OP_MAX };

/* A path from the element (@) or the root ($), or a literal. */
struct operand {
    bool from_root;
    struct step *steps;
    struct json *literal; /* not NULL: a literal */
};

struct filter {
    enum filter_op op;
    struct operand left, right;
};

struct jsonpath {
    struct step *steps;
};
