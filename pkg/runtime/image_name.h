/*
 * Image references: [domain[:port]/]path[:tag][@sha256:hex], by the grammar of the distribution project's reference
 * package and with its defaults (docker.io, library/, latest). Pure.
 */
#pragma once

#include "base/base.h"

#define IMAGE_DIGEST_LEN 71 /* "sha256:" and 64 hex digits */

struct image_name {
    struct str domain; /* "docker.io", "localhost:5000", "[::1]:5000" */
    struct str path;   /* "library/busybox" */
    struct str tag;    /* empty when there is a digest */
    struct str digest; /* "sha256:...", or empty */
};

/* Parses and normalises; strings are in the arena. With a digest the tag is dropped: the digest decides. */
int image_name_parse(struct arena *a, struct str text, struct image_name *out, struct error *err);
struct str image_name_text(struct arena *a, const struct image_name *n);
/* Whether s is "sha256:" and 64 lower-case hex digits. */
bool image_digest_valid(struct str s);
/* "sha256:..." of the bytes, NUL-terminated. */
void image_digest_of(const void *data, size_t n, char out[IMAGE_DIGEST_LEN + 1]);
void image_digest_text(const unsigned char sum[32], char out[IMAGE_DIGEST_LEN + 1]);
