/*
 * YAML (libyaml) to JSON trees with the YAML 1.1 rules that Kubernetes' clients apply (yes/no stay strings as in
 * YAML 1.2's core schema for quoted text; true/false/null, ints, floats are typed). Limits: depth, nodes, and the
 * total number of nodes that aliases expand to (billion laughs), each a clear error.
 */
#pragma once

#include "codec/json.h"

/* One document. An empty text gives JSON null. */
struct json *yaml_parse(struct arena *a, struct str text, const struct json_limits *limits, struct error *err);
/* All documents of a stream ("---"), empty ones left out: calls each(arg, doc) in order; a non-zero return ends. */
int yaml_parse_all(struct arena *a, struct str text, const struct json_limits *limits,
                   int (*each)(void *arg, struct json *doc), void *arg, struct error *err);
/* Block-style YAML of a JSON tree. */
void yaml_write(struct buf *out, const struct json *v);
