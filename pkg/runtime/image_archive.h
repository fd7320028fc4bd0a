/*
 * Image archives, read in one pass on the blocking pool: docker-archive (manifest.json) and OCI layout (index.json),
 * plain or compressed. Layers are unpacked into <tmp>/<number> as they come, small documents are kept; what belongs
 * together is decided at the end. The archive is outside data: everything is limited, digests are checked.
 */
#pragma once

#include <stdatomic.h>

#include "runtime/image_manifest.h"
#include "runtime/layer.h"

#define ARCHIVE_IMAGES_MAX 256
#define ARCHIVE_TAGS_MAX 64

struct archive_layer { /* an unpacked one */
    struct str name;   /* as in the archive, links resolved */
    unsigned number;   /* 0: taken, or it failed */
    struct layer_result result;
    char *implied; /* malloc'ed */
    struct error err;
};

struct archive_image {
    struct str id; /* config digest */
    struct image_config config;
    struct str *layers; /* names of the archive's members, one for each diff id */
    struct str tags[ARCHIVE_TAGS_MAX];
    size_t tags_n;
    struct str digest; /* of its manifest or index; empty for docker-archive */
};

struct archive_options {
    const char *path;
    const char *tmp; /* directory for unpacked layers */
    uint64_t layer_bytes_max;
    uint32_t layer_entries_max;
    struct image_platform platform;
    atomic_uint *next_number;
    atomic_bool *cancelled;
};

struct archive {
    struct archive_options o;
    struct arena *arena;
    struct map documents; /* name -> struct str in the arena */
    struct map links;     /* name -> struct str: what it is a link to */
    struct archive_layer *layers;
    size_t layers_n;
    VEC(struct archive_image) images;
};

struct archive *archive_new(const struct archive_options *o);
/* Frees memory; unpacked directories that were not taken are the caller's to remove (number != 0). */
void archive_free(struct archive *a);
/* Reads the file; only: names of the layers to unpack, NULL for all. Blocking. */
int archive_read(struct archive *a, const struct map *only, struct error *err);
/* After the first read: finds the images. What is wrong with one image alone is logged and that image left out. */
int archive_plan(struct archive *a, struct error *err);
/* An unpacked layer by name (number != 0), or NULL with the reason in err; -EALREADY: it was taken by another. */
struct archive_layer *archive_layer_find(struct archive *a, struct str name, struct error *err);
struct str archive_layer_name(const struct archive *a, struct str name); /* links resolved */
