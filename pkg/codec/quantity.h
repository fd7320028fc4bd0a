/*
 * Kubernetes resource quantities ("500m", "1.5Gi", "2e3"): exact decimal values.
 * Source: the Kubernetes API's Quantity serialization format.
 */
#pragma once

#include "base/base.h"

/* Parses s to whole nano-units (saturating at int64 max; use scaled readers for large values). false on bad syntax. */
bool quantity_valid(struct str s);
/* Value rounded up to a whole number ("1500m" -> 2); saturates. -1 with false on bad syntax. */
bool quantity_value(struct str s, int64_t *out);
/* Value in thousandths, rounded up ("0.5" -> 500); saturates. */
bool quantity_milli(struct str s, int64_t *out);
/* Canonical form in the arena ("0.5" -> "500m", "1024Mi" -> "1Gi", "1000m" -> "1"); p == NULL on bad syntax. */
struct str quantity_canonical(struct arena *a, struct str s);
/* Compares exactly: <0, 0, >0; both must be valid. */
int quantity_cmp(struct str a, struct str b);
/* Canonical text of a count of milli-units (decimal) or of bytes (binary suffixes where exact). */
struct str quantity_from_milli(struct arena *a, int64_t milli);
struct str quantity_from_bytes(struct arena *a, int64_t bytes);
