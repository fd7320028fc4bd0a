/* JSONPath as kubectl and CRD printer columns use it: .a.b, ['a'], [*], [0], [1:2], ..name, [?(@.x=="y")]. */
#pragma once

#include "codec/json.h"

struct jsonpath;

/* Compiles ".spec.x" or "{.spec.x}" into the arena; NULL and err on bad syntax (with the offset). */
struct jsonpath *jsonpath_compile(struct arena *a, struct str text, struct error *err);
/* All matches, in document order. */
void jsonpath_eval(const struct jsonpath *p, const struct json *v, void (*each)(void *arg, const struct json *match),
                   void *arg);
/* First match or NULL. */
const struct json *jsonpath_first(const struct jsonpath *p, const struct json *v);
