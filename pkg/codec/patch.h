/* JSON Patch (RFC 6902), JSON Pointer (RFC 6901) and JSON Merge Patch (RFC 7386). */
#pragma once

#include "codec/json.h"

#define JSON_PATCH_OPS_MAX 10000

/* Applies patch (an array of operations) to a copy of doc. NULL on failure: -EINVAL a malformed patch, -ENOENT a path
 * that does not exist, -ECANCELED a failed "test"; the message names the operation. */
struct json *json_patch(struct arena *a, const struct json *doc, const struct json *patch, struct error *err);
/* Merge patch: doc (may be NULL) with patch applied, a new tree. */
struct json *json_merge_patch(struct arena *a, const struct json *doc, const struct json *patch);
