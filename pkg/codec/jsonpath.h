/*
 * JSONPath as kubectl and CRD printer columns use it: .a.b, .a\.b, ['a.b'], .*, [*], [0], [-1], [1:3], [::2], [0,2],
 * ['a','b'], ..name, ..*, [?(@.x=="y")] with == != < <= > >= or the mere existence of @.x, $ and @. Filters apply to
 * arrays; comparing different types is false but for !=. A path that leads nowhere has no matches, it is no error.
 * One path only: kubectl's templates ({range}, text around braces) are the client's business.
 *
 * Pure; a compiled path is immutable and may be used by several threads.
 */
#pragma once

#include "codec/json.h"

#define JSONPATH_STEPS_MAX 256    /* in one path, filters included */
#define JSONPATH_RECURSIONS_MAX 3 /* uses of ".." in one path */

struct jsonpath;

/* Compiles ".spec.x", "{.spec.x}", "$.spec.x" or "spec.x" into the arena (text need not stay); NULL and err (-EINVAL,
 * -E2BIG) on bad syntax, with the offset. */
struct jsonpath *jsonpath_compile(struct arena *a, struct str text, struct error *err);
/* All matches, in document order. */
void jsonpath_eval(const struct jsonpath *p, const struct json *v, void (*each)(void *arg, const struct json *match),
                   void *arg);
/* First match or NULL. */
const struct json *jsonpath_first(const struct jsonpath *p, const struct json *v);
