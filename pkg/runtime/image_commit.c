/* What makes an unpacked layer present: its last attributes, one sync for all that wait, the rename, the record. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "runtime/image_store.h"

struct commit {
    struct list link;
    struct layer_commit c;
    struct image_layer *layer;
    char **below; /* where the layers below are now, lowest first; only with implied directories */
    size_t below_n;
    bool present; /* somebody else was first */
    int code;
    struct error err;
};

struct commit_op {
    struct image_op op;
    VEC(struct commit *) items;
};

static void commit_queue(struct image_store *s);

static struct image_layer *layer_by_chain(const struct commit_op *op, const char *chain) {
    struct image_layer *l = map_get(&op->op.store->layers, str_c(chain));
    for (size_t i = 0; !l && i < op->items.n; i++)
        if (strcmp(op->items.items[i]->layer->chain, chain) == 0)
            l = op->items.items[i]->layer;
    return l;
}

/* Finds the directories below. False while one of them is not there. */
static bool find_below(const struct commit_op *op, struct commit *c) {
    struct image_layer *dirs[IMAGE_LAYERS_MAX];
    struct image_store *s = op->op.store;
    size_t n = 0;
    if (!c->c.implied || !c->c.implied[0])
        return true;
    for (const char *chain = c->c.below; *chain;) {
        struct image_layer *l = layer_by_chain(op, chain);
        if (!l || n == IMAGE_LAYERS_MAX)
            return false;
        dirs[n++] = l;
        chain = l->below;
    }
    c->below = xcalloc(n + 1, sizeof(char *));
    c->below_n = n;
    for (size_t i = 0; i < n; i++) {
        struct image_layer *l = dirs[n - 1 - i];
        bool present = map_get(&s->layers, str_c(l->chain)) == l; /* else it is committed by this operation too */
        c->below[i] = present ? xstrdup(l->path) : image_store_path(s, "tmp/%u", l->number);
    }
    return true;
}

static struct image_layer *layer_of(const struct image_store *s, const struct layer_commit *c) {
    struct image_layer *l = XNEW(struct image_layer);
    memcpy(l->chain, c->chain, sizeof(l->chain));
    memcpy(l->diff, c->diff, sizeof(l->diff));
    memcpy(l->below, c->below, sizeof(l->below));
    l->number = c->number;
    l->bytes = c->bytes;
    l->entries = c->entries;
    l->path = image_store_path(s, "layers/%u", c->number);
    return l;
}

static bool commit_prepare(struct image_op *base) {
    struct commit_op *op = CONTAINER_OF(base, struct commit_op, op);
    struct image_store *s = base->store;
    s->commit_queued = false;
    LIST_FOREACH (it, &s->commits) {
        struct commit *c = LIST_ITEM(it, struct commit, link);
        bool twin = layer_by_chain(op, c->c.chain) != NULL;
        if (!map_get(&s->layers, str_c(c->c.chain)) && (twin || !find_below(op, c)))
            continue; /* it waits for the layer below, or to see what becomes of its twin */
        c->present = twin;
        c->layer = twin ? NULL : layer_of(s, &c->c);
        list_remove(&c->link);
        if (c->present)
            c->layer = map_get(&s->layers, str_c(c->c.chain));
        vec_push(&op->items, c);
    }
    return op->items.n != 0;
}

/* Durable before it counts: the contents first, then the name, then the record. */
static int commit_all(struct commit_op *op, struct error *err) {
    struct image_store *s = op->op.store;
    cleanup_close int root = open(s->root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (root < 0 || syncfs(root) < 0)
        return error_sys(err, -errno, "writing layers to %s", s->root);
    for (size_t i = 0; i < op->items.n; i++) {
        struct commit *c = op->items.items[i];
        if (c->present)
            continue;
        cleanup_free char *from = image_store_path(s, "tmp/%u", c->c.number);
        if (rename(from, c->layer->path) < 0)
            c->code = error_sys(&c->err, -errno, "moving a layer to %s", c->layer->path);
        else
            c->code = image_db_write_layer(s->root, c->layer, &c->err); /* syncs layers/ too */
    }
    return 0;
}

static void commit_work(struct image_op *base) {
    struct commit_op *op = CONTAINER_OF(base, struct commit_op, op);
    struct error err = {0};
    for (size_t i = 0; i < op->items.n; i++) {
        struct commit *c = op->items.items[i];
        cleanup_free char *dir = image_store_path(base->store, "tmp/%u", c->c.number);
        if (!c->present && c->below_n)
            layer_adopt_implied(dir, str_c(c->c.implied), (const char *const *)c->below, c->below_n);
    }
    if (commit_all(op, &err) == 0)
        return;
    for (size_t i = 0; i < op->items.n; i++) {
        if (!op->items.items[i]->present) {
            op->items.items[i]->code = err.code;
            op->items.items[i]->err = err;
        }
    }
}

static void commit_free(struct commit *c) {
    for (size_t i = 0; i < c->below_n; i++)
        free(c->below[i]);
    free(c->c.implied);
    free(c->below);
    free(c);
}

static void commit_done(struct image_op *base) {
    struct commit_op *op = CONTAINER_OF(base, struct commit_op, op);
    struct image_store *s = base->store;
    for (size_t i = 0; i < op->items.n; i++) {
        struct commit *c = op->items.items[i];
        if (c->present || c->code)
            image_tmp_remove(s, c->c.number);
        if (c->code) {
            image_layer_free(c->layer);
            c->layer = NULL;
        } else if (!c->present) {
            map_set(&s->layers, str_c(c->layer->chain), c->layer);
        }
        if (c->layer)
            image_layer_use(c->layer);
    }
    for (size_t i = 0; i < op->items.n; i++) {
        struct commit *c = op->items.items[i];
        c->c.done(c->c.arg, c->layer, &c->err);
        commit_free(c);
    }
    if (op->items.n && !list_empty(&s->commits))
        commit_queue(s);
    vec_fini(&op->items);
    free(op);
}

static void commit_queue(struct image_store *s) {
    if (s->commit_queued)
        return;
    struct commit_op *op = XNEW(struct commit_op);
    op->op = (struct image_op){.prepare = commit_prepare, .work = commit_work, .done = commit_done};
    s->commit_queued = true;
    image_op_start(s, &op->op);
}

void image_layer_commit(struct image_store *s, const struct layer_commit *lc) {
    struct commit *c = XNEW(struct commit);
    c->c = *lc;
    list_push_back(&s->commits, &c->link);
    commit_queue(s);
}

bool image_layer_commit_cancel(struct image_store *s, unsigned number) {
    LIST_FOREACH (it, &s->commits) {
        struct commit *c = LIST_ITEM(it, struct commit, link);
        if (c->c.number != number)
            continue;
        list_remove(&c->link);
        image_tmp_remove(s, number);
        commit_free(c);
        return true;
    }
    return false;
}
