/*
 * YAML (libyaml) to JSON trees and back, with the rules of sigs.k8s.io/yaml, which Kubernetes and its clients use:
 *  - plain scalars are typed as in YAML 1.1: null ~ and empty; true/yes/on/y, false/no/off/n (three spellings each);
 *    integers in decimal, 0x, 0o, 0b and 0-prefixed octal, with _ between digits; floats; all else, timestamps too, is
 *    a string. Quoted and block scalars are strings. Integers beyond 64 bits become doubles; .nan and .inf are errors,
 *    JSON has no word for them.
 *  - keys that are no strings become strings (1: "1", true: "true"); null and collections as keys are errors.
 *  - "<<" merges mappings; explicit keys win, then the earlier of several merged ones.
 *  - !!str, !!int, !!float, !!bool, !!null, !!binary are honoured; other tags are ignored.
 * Text that is one JSON object is read by the JSON parser. Limits: depth, nodes and bytes, counting what aliases expand
 * to (billion laughs). Aliased nodes are copied, so the tree may be edited. Errors read
 * "yaml: line 3, column 5: ...".
 *
 * Pure: no I/O.
 */
#pragma once

#include "codec/json.h"

/* Bytes of keys and strings that the aliases of one text may expand to. */
#define YAML_ALIAS_BYTES_MAX MiB(16)

/* One document (empty ones beside it are fine, a second is an error). An empty text gives JSON null. limits: as for
 * json_parse. NULL on error: -EINVAL, or -E2BIG for a limit. */
struct json *yaml_parse(struct arena *a, struct str text, const struct json_limits *limits, struct error *err);
/* All documents of a stream ("---"), empty ones left out: calls each(arg, doc) in order; a non-zero return ends and is
 * returned (err is left alone then). The node limit is for the whole stream. */
int yaml_parse_all(struct arena *a, struct str text, const struct json_limits *limits,
                   int (*each)(void *arg, struct json *doc), void *arg, struct error *err);
/* Block-style YAML of a JSON tree as one document, members in their order, in the layout and with the quoting of Go's
 * yaml.v2 (kubectl's output): sequences not indented in mappings, lines folded at 80 columns, text with line breaks as
 * literal blocks. Sets out->failed when it does not fit, or v holds a string that is no valid UTF-8. */
void yaml_write(struct buf *out, const struct json *v);
/* The same with the members of every object in yaml.v2's order of keys (as kubectl get -o yaml): letters after other
 * characters, runs of digits by their value. */
void yaml_write_sorted(struct buf *out, const struct json *v);
