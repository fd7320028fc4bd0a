/* Imports of archives, one at a time. Private to image_import*.c. */
#pragma once

#include "runtime/image_archive.h"
#include "runtime/image_store.h"

struct import {
    struct list link;
    struct image_store *store;
    char *path;
    void (*done)(struct import *im); /* on the loop; im is freed after it */
    void *arg;

    /* results */
    int images; /* how many, or a negative code when there is none */
    struct error err;
    VEC(char *) ids;

    atomic_bool cancelled;
    struct archive *archive;
    struct map only; /* names for another pass; values unused */
    bool again;
    VEC(struct import_layer *) layers; /* in the order they are to be made present */
    size_t pending;                    /* commits under way */
    bool fresh;                        /* a pass over the archive has just ended */
    size_t image, tag;                 /* the next to record */
};

/* Queues an import; done(im) comes later, also when the store closes. */
void import_start(struct image_store *s, const char *path, void (*done)(struct import *im), void *arg);
