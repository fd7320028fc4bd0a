/*
 * Unpacking of one layer: compressed bytes are pushed in, a directory as overlayfs wants it comes out. Both digests
 * (of the compressed and of the uncompressed stream) are computed on the way and checked at the end; until then the
 * directory must not be used. Blocking file system work, no loop: one owner thread at a time.
 *
 * The layer is hostile input. Every path is resolved inside the directory by the kernel (openat2 RESOLVE_IN_ROOT),
 * names with ".." are refused, hard links stay inside the layer, trusted.* attributes are dropped, and bytes, entries,
 * depth and compression ratio are limited. Messages name the layer and the entry.
 * Source: OCI image specification 1.1, "Image Layer Filesystem Changeset"; Linux Documentation/filesystems/overlayfs.
 */
#pragma once

#include "codec/inflate.h"
#include "codec/tar.h"
#include "runtime/image_name.h"

#define LAYER_DEPTH_MAX 200

struct layer_options {
    const char *dir;      /* to be made; its parent exists */
    const char *name;     /* for messages: the blob's digest, or the name in an archive */
    struct str digest;    /* expected of the bytes pushed, or empty */
    struct str diff_id;   /* expected of the uncompressed stream, or empty */
    uint64_t bytes_max;   /* unpacked; 0: 16 GiB */
    uint32_t entries_max; /* 0: 1 million */
    bool no_openat2;      /* walk by hand, as on kernels before 5.6: for tests */
};

struct layer_result {
    char digest[IMAGE_DIGEST_LEN + 1], diff_id[IMAGE_DIGEST_LEN + 1];
    uint64_t bytes; /* of the files' contents */
    uint32_t entries;
    /* Directories that no entry described, newline-separated: theirs are the attributes of the layers below. */
    struct str implied;
};

struct layer;
struct layer *layer_new(const struct layer_options *o); /* touches no file yet; copies o */
int layer_push(struct layer *l, struct str bytes, struct error *err);
/* The end of the stream: checks the digests, sets the directories' times. -EBADMSG: a digest does not match. */
int layer_end(struct layer *l, struct layer_result *out, struct error *err); /* out->implied lives as long as l */
void layer_free(struct layer *l);                                            /* leaves the directory alone */

/*
 * Gives the implied directories of an unpacked layer the owner, mode and times that they have in the layers below
 * (lowest first); without one there they stay root's 0755.
 */
void layer_adopt_implied(const char *dir, struct str implied, const char *const *below, size_t below_n);

/* --- private to layer*.c: files inside a root directory --- */

struct layer_fs;
struct layer_fs *layer_fs_new(const char *dir, bool no_openat2, struct error *err); /* makes dir, 0755 */
void layer_fs_free(struct layer_fs *fs);
/* Creates the entry. For a file *fd_out gets a descriptor to write its contents to; layer_fs_file_end() closes it. */
int layer_fs_entry(struct layer_fs *fs, const struct tar_entry *e, int *fd_out, struct error *err);
int layer_fs_file_end(struct layer_fs *fs, int fd, const struct tar_entry *e, struct error *err);
/* Sets the directories' times; *implied is valid until layer_fs_free(). */
int layer_fs_finish(struct layer_fs *fs, struct str *implied, struct error *err);
