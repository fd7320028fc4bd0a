/*
 * An archive becomes images: read on the pool, its layers made present, its images recorded. A layer that is needed more
 * than once (upon different layers below, or an empty one repeated) is unpacked again by another pass over the archive.
 */
#include "runtime/image_import.h"

#include <stdio.h>
#include <stdlib.h>

struct import_layer {
    struct import *import;
    char chain[IMAGE_DIGEST_LEN + 1], diff[IMAGE_DIGEST_LEN + 1], below[IMAGE_DIGEST_LEN + 1];
    struct str name; /* in the archive */
    struct image_layer *layer;
    unsigned committing; /* its number while it is being made present */
};

static void imports_next(struct image_store *s);
static void assign(struct import *im);
static void record_next(struct import *im);

/* --- end ---------------------------------------------------------------------------------------------------------------- */

static void import_free(struct import *im) {
    for (size_t i = 0; i < im->layers.n; i++) {
        if (im->layers.items[i]->layer)
            image_layer_unuse(im->store, im->layers.items[i]->layer, false);
        free(im->layers.items[i]);
    }
    for (size_t i = 0; i < im->ids.n; i++)
        free(im->ids.items[i]);
    vec_fini(&im->ids);
    vec_fini(&im->layers);
    map_fini(&im->only);
    archive_free(im->archive);
    free(im->path);
    free(im);
}

static void import_end(struct import *im, int code, const struct error *err) {
    struct image_store *s = im->store;
    if (code) {
        im->images = code;
        im->err = *err;
    }
    for (size_t i = 0; im->archive && i < im->archive->layers_n; i++)
        if (im->archive->layers[i].number)
            image_tmp_remove(s, im->archive->layers[i].number);
    list_remove(&im->link);
    im->done(im);
    import_free(im);
    s->importing = false;
    imports_next(s);
    image_store_release(s);
}

/* --- recording ---------------------------------------------------------------------------------------------------------- */

static void on_recorded(void *arg, struct image *img, const struct error *err) {
    struct import *im = arg;
    if (!img) {
        import_end(im, err->code ? err->code : -EIO, err);
        return;
    }
    const struct archive_image *a = &im->archive->images.items[im->image];
    if (++im->tag >= a->tags_n) {
        char *id = xstrndup(a->id.p, a->id.n);
        vec_push(&im->ids, id);
        im->images++;
        im->image++;
        im->tag = 0;
    }
    image_unref(img);
    record_next(im);
}

static void record_next(struct import *im) {
    struct archive *ar = im->archive;
    if (im->image >= ar->images.n) {
        import_end(im, 0, NULL);
        return;
    }
    const struct archive_image *a = &ar->images.items[im->image];
    struct str tag = im->tag < a->tags_n ? a->tags[im->tag] : STR(""), digest_name = STR("");
    struct image_name name;
    if (a->digest.n && tag.n && image_name_parse(ar->arena, tag, &name, NULL) == 0)
        digest_name =
            str_printf(ar->arena, "%.*s/%.*s@%.*s", STR_ARG(name.domain), STR_ARG(name.path), STR_ARG(a->digest));
    struct str *chains = arena_alloc(ar->arena, sizeof(struct str) * MAX(a->config.diff_ids_n, 1)), below = STR("");
    for (size_t i = 0; i < a->config.diff_ids_n; i++) {
        char chain[IMAGE_DIGEST_LEN + 1];
        image_chain_id(below, a->config.diff_ids[i], chain);
        chains[i] = below = str_dup(ar->arena, str_c(chain));
    }
    struct image_put put = {.id = a->id,
                            .tag = tag,
                            .digest_name = digest_name,
                            .config = a->config.config,
                            .created = a->config.created,
                            .chains = chains,
                            .chains_n = a->config.diff_ids_n};
    image_put(im->store, &put, on_recorded, im);
}

/* --- layers ------------------------------------------------------------------------------------------------------------- */

static void on_committed(void *arg, struct image_layer *layer, const struct error *err) {
    struct import_layer *l = arg;
    struct import *im = l->import;
    l->committing = 0;
    l->layer = layer;
    if (!layer && !im->err.code) {
        im->err = *err;
        im->err.code = err->code ? err->code : -EIO;
    }
    im->pending--;
    for (size_t i = 0; !layer && i < im->layers.n; i++) { /* what waits for this one waits in vain */
        struct import_layer *other = im->layers.items[i];
        if (other->committing && image_layer_commit_cancel(im->store, other->committing)) {
            other->committing = 0;
            im->pending--;
        }
    }
    if (im->pending == 0)
        assign(im);
}

static void commit(struct import *im, struct import_layer *l, struct archive_layer *from) {
    struct layer_commit c = {.number = from->number,
                             .bytes = from->result.bytes,
                             .entries = from->result.entries,
                             .implied = TAKE_PTR(from->implied),
                             .done = on_committed,
                             .arg = l};
    memcpy(c.chain, l->chain, sizeof(c.chain));
    memcpy(c.diff, l->diff, sizeof(c.diff));
    memcpy(c.below, l->below, sizeof(c.below));
    l->committing = from->number;
    from->number = 0;
    im->pending++;
    image_layer_commit(im->store, &c);
}

static void read_start(struct import *im);

/* Gives every layer that lacks an unpacked copy; what has none waits for another pass. */
static void assign(struct import *im) {
    struct error err = {0};
    map_fini(&im->only);
    im->only = (struct map){0};
    if (im->err.code || atomic_load(&im->cancelled)) {
        err = im->err;
        if (!err.code)
            error_set(&err, -ECANCELED, "%s: cancelled", im->path);
        import_end(im, err.code, &err);
        return;
    }
    for (size_t i = 0; i < im->layers.n && !err.code; i++) {
        struct import_layer *l = im->layers.items[i];
        if (l->layer || l->committing)
            continue;
        l->layer = map_get(&im->store->layers, str_c(l->chain));
        if (l->layer) {
            image_layer_use(l->layer);
            continue;
        }
        struct archive_layer *from = archive_layer_find(im->archive, l->name, &err);
        if (from && strcmp(from->result.diff_id, l->diff) != 0)
            error_set(&err, -EBADMSG, "layer %.*s: diff_id mismatch: expected %s, content has %s",
                      (int)MIN(l->name.n, 200), l->name.p, l->diff, from->result.diff_id);
        else if (from) {
            err.code = 0;
            commit(im, l, from);
        } else if (err.code == -EALREADY) {
            err.code = 0;
            map_set(&im->only, archive_layer_name(im->archive, l->name), im);
        }
    }
    if (err.code && !im->err.code) {
        im->err = err;
        error_wrap(&im->err, "%s", im->path);
    }
    bool stuck = im->fresh && im->only.n && !im->pending;
    im->fresh = false;
    if (stuck && !im->err.code)
        error_set(&im->err, -EAGAIN, "%s: the archive changed while it was read", im->path);
    if (im->pending)
        return; /* on_committed() comes back */
    if (im->err.code)
        import_end(im, im->err.code, &im->err);
    else if (im->only.n)
        read_start(im);
    else
        record_next(im);
}

static bool planned(const struct import *im, const char *chain) {
    for (size_t i = 0; i < im->layers.n; i++)
        if (strcmp(im->layers.items[i]->chain, chain) == 0)
            return true;
    return false;
}

static void plan_layers(struct import *im) {
    for (size_t i = 0; i < im->archive->images.n; i++) {
        const struct archive_image *a = &im->archive->images.items[i];
        char below[IMAGE_DIGEST_LEN + 1] = "", chain[IMAGE_DIGEST_LEN + 1];
        for (size_t k = 0; k < a->config.diff_ids_n; k++) {
            image_chain_id(str_c(below), a->config.diff_ids[k], chain);
            if (!planned(im, chain)) {
                struct import_layer *l = XNEW(struct import_layer);
                l->import = im;
                l->name = a->layers[k];
                memcpy(l->chain, chain, sizeof(chain));
                memcpy(l->below, below, sizeof(below));
                memcpy(l->diff, a->config.diff_ids[k].p, IMAGE_DIGEST_LEN);
                vec_push(&im->layers, l);
            }
            memcpy(below, chain, sizeof(below));
        }
    }
}

/* --- reading ------------------------------------------------------------------------------------------------------------ */

static void read_work(void *arg) {
    struct import *im = arg;
    int rc = archive_read(im->archive, im->again ? &im->only : NULL, &im->err);
    if (rc == 0 && !im->again)
        rc = archive_plan(im->archive, &im->err);
    if (rc && !im->err.code)
        im->err.code = rc;
}

static void read_done(void *arg) {
    struct import *im = arg;
    if (!im->err.code && !im->again)
        plan_layers(im);
    im->again = im->fresh = true;
    assign(im);
}

static void read_start(struct import *im) {
    loop_work(im->store->o.loop, read_work, read_done, im);
}

static void imports_next(struct image_store *s) {
    if (s->importing || list_empty(&s->imports))
        return;
    struct import *im = LIST_ITEM(s->imports.next, struct import, link);
    s->importing = true;
    struct archive_options o = {.path = im->path,
                                .tmp = s->tmp,
                                .layer_bytes_max = s->o.layer_bytes_max,
                                .layer_entries_max = s->o.layer_entries_max,
                                .platform = {str_c(s->os), str_c(s->arch), str_c(s->variant)},
                                .next_number = &s->next_number,
                                .cancelled = &im->cancelled};
    im->archive = archive_new(&o);
    read_start(im);
}

void import_start(struct image_store *s, const char *path, void (*done)(struct import *im), void *arg) {
    struct import *im = XNEW(struct import);
    im->store = s;
    im->path = xstrdup(path);
    im->done = done;
    im->arg = arg;
    atomic_init(&im->cancelled, s->closed);
    image_store_hold(s);
    list_push_back(&s->imports, &im->link);
    imports_next(s);
}

void image_imports_cancel(struct image_store *s) {
    LIST_FOREACH (it, &s->imports) {
        atomic_store(&LIST_ITEM(it, struct import, link)->cancelled, true);
    }
}

/* --- one file ------------------------------------------------------------------------------------------------------------ */

struct single {
    void (*done)(void *arg, int images, const struct error *err);
    void *arg;
};

static void single_done(struct import *im) {
    struct single *one = im->arg;
    if (im->images > 0)
        log_info("images", "imported %d image%s from %s", im->images, im->images == 1 ? "" : "s", im->path);
    one->done(one->arg, im->images, im->images < 0 ? &im->err : NULL);
    free(one);
}

void image_import(struct image_store *s, const char *path, void (*done)(void *arg, int images, const struct error *err),
                  void *arg) {
    struct single *one = XNEW(struct single);
    *one = (struct single){done, arg};
    import_start(s, path, single_done, one);
}
