/* A small image in memory, served by a fake registry with all it may do wrong. For tests. */
#pragma once

#include "fake_registry.h"
#include "tar_maker.h"

#define FAKE_LAYERS_MAX 4

struct fake_blob {
    char digest[IMAGE_DIGEST_LEN + 1];
    struct buf bytes;
};

struct fake_image {
    struct fake_blob layers[FAKE_LAYERS_MAX], config, manifest, index;
    char diff[FAKE_LAYERS_MAX][IMAGE_DIGEST_LEN + 1];
    size_t n;
};

static inline void fake_blob_seal(struct fake_blob *b) {
    image_digest_of(b->bytes.p, b->bytes.n, b->digest);
}

/* Adds a layer from an archive (not yet closed); zstd or gzip. Takes the archive. */
static inline void fake_layer(struct fake_image *img, struct buf *tar, bool zstd) {
    struct fake_blob *b = &img->layers[img->n];
    buf_init(&b->bytes, MiB(256));
    tar_close(tar);
    image_digest_of(tar->p, tar->n, img->diff[img->n++]);
    if (zstd)
        tar_zstd(&b->bytes, buf_str(tar));
    else
        tar_gzip(&b->bytes, buf_str(tar));
    buf_fini(tar);
    fake_blob_seal(b);
}

static inline void fake_image_seal(struct fake_image *img, const char *os, const char *arch) {
    buf_init(&img->config.bytes, 0);
    buf_init(&img->manifest.bytes, 0);
    buf_init(&img->index.bytes, 0);
    struct buf *c = &img->config.bytes, *m = &img->manifest.bytes, *x = &img->index.bytes;
    buf_printf(
        c,
        "{\"architecture\":\"%s\",\"os\":\"%s\",\"created\":\"2026-01-01T00:00:00Z\",\"config\":{\"Entrypoint\":[\"/bin/sh\"],"
        "\"Env\":[\"PATH=/bin\"]},\"rootfs\":{\"type\":\"layers\",\"diff_ids\":[",
        arch, os);
    for (size_t i = 0; i < img->n; i++)
        buf_printf(c, "%s\"%s\"", i ? "," : "", img->diff[i]);
    buf_puts(c, "]}}");
    fake_blob_seal(&img->config);
    buf_printf(
        m,
        "{\"schemaVersion\":2,\"mediaType\":\"application/vnd.oci.image.manifest.v1+json\",\"config\":{\"mediaType\":"
        "\"application/vnd.oci.image.config.v1+json\",\"digest\":\"%s\",\"size\":%zu},\"layers\":[",
        img->config.digest, c->n);
    for (size_t i = 0; i < img->n; i++)
        buf_printf(m,
                   "%s{\"mediaType\":\"application/vnd.oci.image.layer.v1.tar+gzip\",\"digest\":\"%s\",\"size\":%zu}",
                   i ? "," : "", img->layers[i].digest, img->layers[i].bytes.n);
    buf_puts(m, "]}");
    fake_blob_seal(&img->manifest);
    buf_printf(
        x,
        "{\"schemaVersion\":2,\"mediaType\":\"application/vnd.oci.image.index.v1+json\",\"manifests\":["
        "{\"mediaType\":\"application/vnd.oci.image.manifest.v1+json\",\"digest\":\"sha256:%064d\",\"size\":5,\"platform\":{\"os\":\"linux\",\"architecture\":\"s390x\"}},"
        "{\"mediaType\":\"application/vnd.oci.image.manifest.v1+json\",\"digest\":\"%s\",\"size\":%zu,\"platform\":{\"os\":\"%s\",\"architecture\":\"%s\"}}]}",
        1, img->manifest.digest, m->n, os, arch);
    fake_blob_seal(&img->index);
}

static inline void fake_image_free(struct fake_image *img) {
    for (size_t i = 0; i < img->n; i++)
        buf_fini(&img->layers[i].bytes);
    buf_fini(&img->config.bytes);
    buf_fini(&img->manifest.bytes);
    buf_fini(&img->index.bytes);
}

/* Two layers: /etc/one, /bin/tool, then /etc/two and a whiteout of /etc/one. */
static inline void fake_image_make(struct fake_image *img, bool zstd) {
    struct buf a = BUF_INIT, b = BUF_INIT;
    *img = (struct fake_image){0};
    TAR(&a, .type = '5', .path = "etc", .mode = 0755);
    TAR(&a, .type = '0', .path = "etc/one", .mode = 0644, .data = STR("one"));
    TAR(&a, .type = '0', .path = "bin/tool", .mode = 0755, .data = STR("#!/bin/sh\n"));
    TAR(&a, .type = '5', .path = "tmp", .mode = 01777);
    TAR(&b, .type = '5', .path = "etc", .mode = 0755);
    TAR(&b, .type = '0', .path = "etc/two", .mode = 0644, .data = STR("two"));
    TAR(&b, .type = '0', .path = "etc/.wh.one", .mode = 0);
    TAR(&b, .type = '0', .path = "tmp/x", .mode = 0644);
    fake_layer(img, &a, false);
    fake_layer(img, &b, zstd);
    fake_image_seal(img, "linux", "amd64");
}

static inline void fake_image_small(struct fake_image *img) {
    fake_image_make(img, true);
}

/* Answers from the image: manifests/<tag> is the index, digests are what they are. False: no such thing. */
static inline bool fake_serve(const struct fake_image *img, const char *path, struct fake_answer *a) {
    const char *last = strrchr(path, '/') + 1;
    bool manifests = strstr(path, "/manifests/") != NULL;
    const struct fake_blob *found = NULL;
    char name[1024];
    snprintf(name, sizeof(name), "%.*s", (int)strcspn(last, "?"), last);
    if (manifests && strncmp(name, "sha256:", 7) != 0)
        found = strcmp(name, "missing") == 0 ? NULL : strcmp(name, "plain") == 0 ? &img->manifest : &img->index;
    else if (strcmp(name, img->manifest.digest) == 0)
        found = &img->manifest;
    else if (strcmp(name, img->index.digest) == 0)
        found = &img->index;
    else if (strcmp(name, img->config.digest) == 0)
        found = &img->config;
    for (size_t i = 0; i < img->n; i++)
        if (strcmp(name, img->layers[i].digest) == 0)
            found = &img->layers[i];
    if (!found)
        return false;
    a->status = 200;
    a->body = buf_str(&found->bytes);
    if (manifests)
        snprintf(a->headers, sizeof(a->headers),
                 "Content-Type: application/vnd.oci.image.%s.v1+json\r\nDocker-Content-Digest: %s\r\n",
                 found == &img->index ? "index" : "manifest", found->digest);
    return true;
}
