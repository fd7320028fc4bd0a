/* Between the two halves of the tar parser: the formats of headers, and the machine that feeds on pushed bytes. */
#pragma once

#include "codec/tar.h"

#define TAR_BLOCK_BYTES 512

/* What extended headers say about the next entry. Strings with p == NULL are not given. */
struct tar_extended {
    struct str path, link;           /* pax */
    struct str long_path, long_link; /* GNU */
    struct str user, group;
    bool has_uid, has_gid, has_size, has_mtime;
    uint32_t uid, gid;
    uint64_t size;
    struct timespec mtime;
    struct tar_xattr *xattrs; /* room for limits->xattrs */
    size_t n_xattrs;
};

enum tar_block_kind {
    TAR_BLOCK_ENTRY,
    TAR_BLOCK_ZERO,       /* a part of the end mark */
    TAR_BLOCK_PAX,        /* 'x': contents for tar_parse_pax() */
    TAR_BLOCK_PAX_GLOBAL, /* 'g' */
    TAR_BLOCK_LONG_PATH,  /* 'L': contents are the name */
    TAR_BLOCK_LONG_LINK   /* 'K' */
};

/* Looks at a header block: checksum, type, *size (of its contents). Returns a tar_block_kind or a negative error. */
int tar_block_kind(const unsigned char block[TAR_BLOCK_BYTES], uint64_t *size, struct error *err);
/* Makes the entry of a TAR_BLOCK_ENTRY; strings in the arena. entry->size is the size of the contents, also for a type
 * that has none (the caller knows by entry->type). */
int tar_parse_entry(const unsigned char block[TAR_BLOCK_BYTES], const struct tar_extended *ext,
                    const struct tar_limits *limits, struct arena *a, struct tar_entry *out, struct error *err);
/* Reads pax records into ext, whose strings then point into text, which is changed (each value gets its NUL). Extended
 * attributes need the arena; with NULL they are only checked. */
int tar_parse_pax(char *text, size_t n, const struct tar_limits *limits, struct arena *a, struct tar_extended *ext,
                  struct error *err);
