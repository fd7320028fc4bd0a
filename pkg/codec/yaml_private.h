/* How plain YAML scalars resolve: shared by the YAML parser (typing) and writer (quoting); private to pkg/codec. */
#pragma once

#include "codec/json.h"

enum yaml_kind { YAML_STR, YAML_NULL, YAML_BOOL, YAML_INT, YAML_FLOAT, YAML_TIMESTAMP, YAML_MERGE, YAML_KIND_MAX };

/* What the plain scalar s means. Fills out (not NULL) for null, bool, int (a double beyond int64) and float (NaN and
 * infinities included); out is untouched for the others. */
enum yaml_kind yaml_resolve(struct str s, struct json *out);
/* Whether YAML 1.1 reads s as a number in base 60 ("1:20"), which this parser does not, but others do. */
bool yaml_is_base60(struct str s);
