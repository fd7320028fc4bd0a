/*
 * Kubernetes resource quantities ("500m", "1.5Gi", "2e3"): exact decimal values, kept down to nano (finer ones are
 * rounded away from zero) and up to 10^81. A binary one (Ki..Ei) is capped at 2^63-1. Anything longer than
 * QUANTITY_TEXT_MAX bytes is bad syntax. Source: the Kubernetes API's Quantity serialization format.
 */
#pragma once

#include "base/base.h"

#define QUANTITY_TEXT_MAX 128

bool quantity_valid(struct str s);
/* Value rounded up (away from zero) to a whole number ("1500m" -> 2); saturates. *out is -1 on bad syntax (false). */
bool quantity_value(struct str s, int64_t *out);
/* Value in thousandths, rounded up ("0.5" -> 500); saturates. *out is -1 on bad syntax (false). */
bool quantity_milli(struct str s, int64_t *out);
/* Canonical form in the arena ("0.5" -> "500m", "1024Mi" -> "1Gi", "1000m" -> "1"); p == NULL on bad syntax. */
struct str quantity_canonical(struct arena *a, struct str s);
/* Compares exactly: <0, 0, >0; both must be valid (one that is not counts as 0). */
int quantity_cmp(struct str a, struct str b);
/* Canonical text of a count of milli-units (decimal) or of bytes (binary suffixes where exact). */
struct str quantity_from_milli(struct arena *a, int64_t milli);
struct str quantity_from_bytes(struct arena *a, int64_t bytes);
