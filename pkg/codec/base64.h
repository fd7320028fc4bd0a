/* Base64 (RFC 4648), standard and URL alphabets. */
#pragma once

#include "base/base.h"

void base64_encode(struct buf *out, const void *data, size_t n);
void base64url_encode(struct buf *out, const void *data, size_t n); /* no padding */
/* Standard alphabet with padding, line breaks ignored (as in Go, so as in the data of Secrets); -EINVAL on anything else,
 * -E2BIG beyond out's limit; out's contents stay as they were then. */
int base64_decode(struct buf *out, struct str text);
int base64url_decode(struct buf *out, struct str text); /* no padding wanted, padding accepted */
