/*
 * Manifests, indexes and configurations of images: OCI image specification 1.1 and Docker's schema 2 (schema 1 is
 * refused by name). Pure; everything is outside data: sizes, counts and types are checked here.
 */
#pragma once

#include "codec/json.h"
#include "runtime/image_name.h"

#define IMAGE_MANIFEST_BYTES_MAX MiB(4)
#define IMAGE_CONFIG_BYTES_MAX MiB(4)
#define IMAGE_LAYERS_MAX 250
#define IMAGE_INDEX_DEPTH_MAX 3

#define IMAGE_MANIFEST_ACCEPT                                                                              \
    "application/vnd.oci.image.index.v1+json, application/vnd.docker.distribution.manifest.list.v2+json, " \
    "application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json"

struct image_descriptor {
    struct str media_type, digest;
    uint64_t size;
};

struct image_platform {
    struct str os, arch, variant;
};

enum image_document { IMAGE_DOCUMENT_MANIFEST, IMAGE_DOCUMENT_INDEX };

struct image_manifest {
    enum image_document kind;
    const struct json *doc;
    struct image_descriptor config; /* of a manifest */
    struct image_descriptor *layers;
    size_t layers_n;
};
/* Parses either kind. content_type (may be empty) as the registry sent it. -EINVAL, -E2BIG, -ENOTSUP. */
int image_manifest_parse(struct arena *a, struct str body, struct str content_type, struct image_manifest *out,
                         struct error *err);
/* The entry of an index for a platform: best variant first. -ENOENT when there is none; the message lists what is. */
int image_index_choose(struct arena *a, const struct json *index, const struct image_platform *p,
                       struct image_descriptor *out, struct error *err);
/* One descriptor object. */
int image_descriptor_parse(struct arena *a, const struct json *v, struct image_descriptor *out, struct error *err);

struct image_config {
    const struct json *config; /* the "config" object; never NULL */
    struct str created;
    struct image_platform platform;
    struct str *diff_ids;
    size_t diff_ids_n;
};
int image_config_parse(struct arena *a, struct str body, struct image_config *out, struct error *err);
/* Whether a configuration's platform runs on p. Unset fields match. */
bool image_platform_matches(const struct image_platform *have, const struct image_platform *p);
/* Chain id of a layer upon the chain below (empty: the lowest). Source: OCI image specification, "Layer ChainID". */
void image_chain_id(struct str below, struct str diff_id, char out[IMAGE_DIGEST_LEN + 1]);
