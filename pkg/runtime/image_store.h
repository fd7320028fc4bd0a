/*
 * The image store's inside, private to image_*.c. One loop owns everything here; disk work is done on the blocking pool
 * by operations that run one after another (struct image_op), so records are always written in the order they are decided.
 *
 * <root>/layers/<n>       an unpacked layer, n a number: short, because overlayfs takes many of them in one option
 * <root>/layers/<n>.json  its record {chain, diff, bytes, entries}; without it the directory does not count
 * <root>/images/<id>.json an image: names, layers (chain ids), configuration
 * <root>/imports.json     archives that were imported, by path, size and time
 * <root>/tmp/             what is being made or being removed; emptied at start
 */
#pragma once

#include <stdatomic.h>

#include "codec/json.h"
#include "runtime/image.h"
#include "runtime/image_manifest.h"
#include "runtime/layer.h"
#include "runtime/registry.h"

#define IMAGE_UNUSED_KEEP_MS (10 * 60 * 1000) /* layers of a failed pull wait so long for the next try */

struct image_layer {
    char chain[IMAGE_DIGEST_LEN + 1], diff[IMAGE_DIGEST_LEN + 1];
    char below[IMAGE_DIGEST_LEN + 1]; /* chain id of the layer below, "" for the lowest */
    unsigned number;
    char *path;
    uint64_t bytes;
    uint32_t entries;
    unsigned users; /* live images and running pulls */
};

/* What struct image is a part of. */
struct image_object {
    struct image img;
    struct image_store *store;
    struct list link; /* of all live ones; several may be of one image id after its names changed */
    struct image_layer **held;
    size_t held_n;
    const struct json *record;
};

struct image_op {
    struct list link;
    struct image_store *store;
    bool (*prepare)(struct image_op *op); /* on the loop when its turn comes; false: nothing to do, done follows */
    void (*work)(struct image_op *op);    /* on the pool */
    void (*done)(struct image_op *op);    /* on the loop; frees the op */
};

struct image_store {
    struct image_store_options o;
    char *root, *tmp, *os, *arch, *variant;
    unsigned refs;
    bool closed;
    int lock_fd;
    struct registry *registry;
    unsigned network_users; /* pulls and layer jobs: the registry client lives as long as they */
    struct map layers;      /* chain id -> struct image_layer */
    struct map images;      /* id -> current struct image_object */
    struct map names;       /* every tag, digest -> current struct image_object */
    struct list objects;
    struct list ops;
    struct image_op *running;
    atomic_uint next_number; /* imports take numbers on the pool */
    struct timer unused;
    struct list commits; /* struct commit, waiting */
    bool commit_queued;
    struct list jobs;    /* struct layer_job, all */
    struct list pulls;   /* struct pull_work */
    struct list imports; /* struct import, waiting and running */
    unsigned downloads;
    bool importing;
};

void image_store_hold(struct image_store *s);
void image_store_release(struct image_store *s);
void image_store_network(struct image_store *s, int delta);
/* Queues an operation; its done() always comes later. */
void image_op_start(struct image_store *s, struct image_op *op);
char *image_store_path(const struct image_store *s, const char *fmt, ...) PRINTF_LIKE(2, 3); /* malloc'ed */

/* --- layers ---------------------------------------------------------------------------------------------------------- */

void image_layer_use(struct image_layer *l);
/* now: unused layers go at once; else they wait IMAGE_UNUSED_KEEP_MS. */
void image_layer_unuse(struct image_store *s, struct image_layer *l, bool now);
void image_layer_free(struct image_layer *l);

/* --- records (image_db.c) ---------------------------------------------------------------------------------------------- */

/* Reads everything below root; what is torn is moved to tmp/. Blocking. */
int image_db_load(struct image_store *s, struct error *err);
int image_db_write_layer(const char *root, const struct image_layer *l, struct error *err);
/* An object from a record, put nowhere yet; NULL (err) when a layer lacks or the record is malformed. Takes a. */
struct image_object *image_object_new(struct image_store *s, struct arena *a, const struct json *record,
                                      struct error *err);
/* Makes the object current: replaces the one of the same id, takes the names from others. */
void image_object_install(struct image_object *obj);
void image_object_remove(struct image_object *obj); /* from the maps; drops the store's reference */

struct image_put {               /* an image to be recorded; strings are the caller's until done */
    struct str id;               /* digest of the configuration */
    struct str tag, digest_name; /* "repo:tag", "repo@sha256:..."; either may be empty */
    const struct json *config;
    struct str created;
    const struct str *chains;
    size_t chains_n;
};
/* Writes the record, takes the tag from whoever had it, then done(arg, img or NULL, err): img is a new reference. */
void image_put(struct image_store *s, const struct image_put *put,
               void (*done)(void *arg, struct image *img, const struct error *err), void *arg);

/* --- unpacked layers become present (image_layer.c) -------------------------------------------------------------------- */

struct layer_commit {
    char chain[IMAGE_DIGEST_LEN + 1], diff[IMAGE_DIGEST_LEN + 1],
        below[IMAGE_DIGEST_LEN + 1]; /* below: "" for the lowest */
    unsigned number;                 /* tmp/<number> holds it */
    uint64_t bytes;
    uint32_t entries;
    char *implied; /* malloc'ed, freed here */
    /* layer has one use for the receiver; NULL and err on failure. */
    void (*done)(void *arg, struct image_layer *layer, const struct error *err);
    void *arg;
};
/* Adopts attributes (then it waits for the layer below), syncs, renames and records. c is copied. */
void image_layer_commit(struct image_store *s, const struct layer_commit *c);
/* Takes back a commit that still waits, and removes tmp/<number>; false: it is under way, done() will come. */
bool image_layer_commit_cancel(struct image_store *s, unsigned number);
/* Removes tmp/<number> on the pool. */
void image_tmp_remove(struct image_store *s, unsigned number);

struct layer_want {
    char chain[IMAGE_DIGEST_LEN + 1], diff[IMAGE_DIGEST_LEN + 1], below[IMAGE_DIGEST_LEN + 1];
    struct image_descriptor blob; /* strings need not stay */
    struct registry_source *source;
    size_t endpoint;
    /* layer: with one use for the receiver, or NULL with code and err. Never inline. */
    void (*done)(void *arg, struct image_layer *layer, int code, const struct error *err);
    void (*progress)(void *arg, uint64_t received); /* of this layer, compressed */
    void *arg;
};
struct layer_waiter;
/* Gets a layer that is not present, together with others who want it. The waiter is gone once done was called. */
struct layer_waiter *image_layer_get(struct image_store *s, const struct layer_want *w);
/* No done any more; the download ends when nobody waits. */
void image_layer_forget(struct layer_waiter *w);

/* --- pulls, imports: what the store does at its close ------------------------------------------------------------------- */
void image_pulls_cancel(struct image_store *s);
void image_imports_cancel(struct image_store *s);
