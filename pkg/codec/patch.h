/*
 * JSON Patch (RFC 6902), JSON Pointer (RFC 6901) and JSON Merge Patch (RFC 7386).
 *
 * Results are new trees that share nothing with their arguments. The arena needs room for them: about 100 bytes for
 * each value of the document and of the patch, and their strings.
 */
#pragma once

#include "codec/json.h"

#define JSON_PATCH_OPS_MAX 10000
/* What the "copy" operations of one patch may add up to. */
#define JSON_PATCH_COPY_BYTES_MAX MiB(3)

/* Applies patch (an array of operations) to a copy of doc. NULL on failure: -EINVAL a malformed patch, -ENOENT a path
 * that does not exist, -ECANCELED a failed "test", -E2BIG a limit (operations, copied bytes, depth of the result, work);
 * the message names the operation. A "test" for null passes where there is nothing, as in the API server. */
struct json *json_patch(struct arena *a, const struct json *doc, const struct json *patch, struct error *err);
/* Merge patch: doc (may be NULL) with patch applied, a new tree. */
struct json *json_merge_patch(struct arena *a, const struct json *doc, const struct json *patch);
/* The value at a JSON Pointer ("/spec/a~1b/0", "" is v itself); NULL when absent or the pointer is malformed. */
struct json *json_pointer(const struct json *v, struct str pointer);
