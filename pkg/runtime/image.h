/*
 * Images: pull from OCI/Docker v2 registries, import of archives, and the layer store. All calls are made on the
 * runtime's loop; callbacks come on it. Image metadata is data: it never becomes a host path, command or device.
 *
 * On disk below <root>/images: blobs are verified against their digest before use; a layer is present only once its
 * directory was unpacked completely, synced and renamed into place; a torn one is found at start and removed.
 */
#pragma once

#include "net/net.h"

struct image_store;

struct image_mirror {      /* one registry of registries.yaml: k3s's format, parsed by image_registries_parse() */
    struct str host;       /* "docker.io", or "*" */
    struct str *endpoints; /* URLs, tried in order; the registry itself is last */
    size_t endpoints_n;
};

struct image_registries; /* mirrors, credentials, TLS per registry */
/* Parses registries.yaml (mirrors: endpoint, rewrite; configs: auth, tls). text empty: defaults. The error names the key. */
struct image_registries *image_registries_parse(struct str text, struct error *err);
void image_registries_free(struct image_registries *r);

struct image_store_options {
    const char *root; /* e.g. /var/lib/dory/agent/images-store */
    struct loop *loop;
    const struct image_registries *registries;                  /* borrowed for the store's life */
    const char *platform_os, *platform_arch, *platform_variant; /* "linux", "amd64", "" */
    uint64_t layer_bytes_max;                                   /* unpacked, per layer; 0: 16 GiB */
    uint32_t layer_entries_max;                                 /* 0: 1 million */
    uint32_t downloads_max;                                     /* parallel layer downloads; 0: 3 */
    int64_t idle_timeout_ms; /* a registry that sends nothing for so long has failed; 0: 30 s */
    int64_t retry_ms;        /* first pause before a broken download is resumed; 0: 1 s */
};
int image_store_open(const struct image_store_options *o, struct image_store **out, struct error *err);
void image_store_close(struct image_store *s);

/* A present image. Refcounted, immutable; holding one pins its layers against removal. */
struct image {
    struct ref ref;
    struct str id;         /* "sha256:..." of the config */
    struct str *repo_tags; /* names as normalised: docker.io/library/busybox:latest */
    size_t repo_tags_n;
    struct str *repo_digests; /* docker.io/library/busybox@sha256:... */
    size_t repo_digests_n;
    uint64_t size_bytes; /* unpacked */
    const struct json
        *config; /* the image configuration's "config" object: Entrypoint, Cmd, Env, User, WorkingDir, StopSignal... */
    const char *const *layers; /* absolute directories, lowest first, NULL-terminated */
    struct arena *arena;
};
void image_ref(struct image *img);
void image_unref(struct image *img);

/* Normalises a reference ("busybox" -> "docker.io/library/busybox:latest"); -EINVAL names what is wrong. */
int image_name_normalize(struct arena *a, struct str name, struct str *out, struct error *err);
/* By any name, digest or id; a new reference or NULL. */
struct image *image_find(struct image_store *s, struct str name);
/* All images: calls each(arg, img) (borrowed). */
void image_each(struct image_store *s, void (*each)(void *arg, struct image *img), void *arg);

struct image_auth {
    struct str username, password; /* or */
    struct str identity_token;
};
struct image_pull; /* running; several pulls of one image share the work */
struct image_pull_events {
    /* img: a reference for the receiver, NULL on failure with code and err (messages as a kubelet user reads them:
     * failed to pull image "x": docker.io/library/x:latest: not found). -ENOENT not found, -EACCES denied, -ETIMEDOUT,
     * -EBADMSG digest mismatch, -EBUSY too many requests, -EINVAL malformed name or contents, -E2BIG a limit... */
    void (*on_done)(void *arg, struct image *img, int code, const struct error *err);
    void (*on_progress)(void *arg, uint64_t done_bytes, uint64_t total_bytes); /* may be NULL */
    void *arg;
};
/* auths: credentials to try in order before those of registries.yaml; may be empty. */
struct image_pull *image_pull(struct image_store *s, struct str name, const struct image_auth *auths, size_t auths_n,
                              const struct image_pull_events *ev);
void image_pull_cancel(struct image_pull *p); /* on_done(-ECANCELED) follows */
/* Imports a docker-archive or OCI-layout tarball (plain, gzip, zstd) on the blocking pool. images: how many, or a
 * negative code with err. */
void image_import(struct image_store *s, const char *path, void (*done)(void *arg, int images, const struct error *err),
                  void *arg);
/* Imports everything new in a directory (keyed by path, size, mtime so that a restart re-imports nothing, unless an image
 * of it was removed since) and pulls what its *.txt files list; what fails is logged. */
void image_import_dir(struct image_store *s, const char *dir, loop_fn done, void *arg);
/* With all its names; layers that no image needs go too. -ENOENT, -EBUSY while referenced. */
int image_remove(struct image_store *s, struct str name, struct error *err);
