#include "runtime/image_store.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

char *image_store_path(const struct image_store *s, const char *fmt, ...) {
    va_list ap;
    cleanup_buf struct buf b = BUF_INIT;
    buf_printf(&b, "%s/", s->root);
    va_start(ap, fmt);
    buf_vprintf(&b, fmt, ap);
    va_end(ap);
    return buf_steal(&b, NULL);
}

/* --- life -------------------------------------------------------------------------------------------------------------- */

void image_store_hold(struct image_store *s) {
    s->refs++;
}

static void free_layers(struct image_store *s) {
    struct map_entry *e;
    for (size_t i = 0; (e = map_next(&s->layers, &i));)
        image_layer_free(e->value);
    map_fini(&s->layers);
}

void image_store_release(struct image_store *s) {
    if (--s->refs)
        return;
    free_layers(s);
    map_fini(&s->images);
    map_fini(&s->names);
    if (s->lock_fd >= 0)
        close(s->lock_fd);
    free(s->root);
    free(s->tmp);
    free(s->os);
    free(s->arch);
    free(s->variant);
    free(s);
}

void image_store_network(struct image_store *s, int delta) {
    s->network_users += (unsigned)delta;
    if (s->network_users == 0 && s->closed && s->registry) {
        registry_free(s->registry);
        s->registry = NULL;
    }
}

static int make_dirs(struct image_store *s, struct error *err) {
    static const char *const names[] = {"layers", "images", "tmp"};
    int rc = dir_make_all(s->root, 0700, err);
    if (rc == 0 && chmod(s->root, 0700) < 0) /* layers hold setuid programs and device nodes */
        rc = error_sys(err, -errno, "%s", s->root);
    for (size_t i = 0; rc == 0 && i < ARRAY_LEN(names); i++) {
        cleanup_free char *path = image_store_path(s, "%s", names[i]);
        rc = dir_make_all(path, 0700, err);
    }
    if (rc)
        return rc;
    cleanup_free char *lock = image_store_path(s, "lock");
    s->lock_fd = open(lock, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (s->lock_fd < 0)
        return error_sys(err, -errno, "%s", lock);
    if (flock(s->lock_fd, LOCK_EX | LOCK_NB) < 0)
        return error_set(err, -EBUSY, "the image store %s is in use by another process", s->root);
    return 0;
}

static void on_unused(void *arg);

int image_store_open(const struct image_store_options *o, struct image_store **out, struct error *err) {
    struct image_store *s = XNEW(struct image_store);
    s->o = *o;
    s->root = xstrdup(o->root);
    s->tmp = image_store_path(s, "tmp");
    s->os = xstrdup(o->platform_os ? o->platform_os : "linux");
    s->arch = xstrdup(o->platform_arch ? o->platform_arch : "");
    s->variant = xstrdup(o->platform_variant ? o->platform_variant : "");
    s->o.downloads_max = o->downloads_max ? o->downloads_max : 3;
    s->refs = 1;
    s->lock_fd = -1;
    atomic_init(&s->next_number, 1);
    list_init(&s->objects);
    list_init(&s->ops);
    list_init(&s->commits);
    list_init(&s->jobs);
    list_init(&s->pulls);
    list_init(&s->imports);
    timer_init(&s->unused, o->loop, on_unused, s);
    int rc = make_dirs(s, err);
    if (rc == 0)
        rc = image_db_load(s, err);
    if (rc) {
        image_store_close(s);
        return rc;
    }
    struct registry_options ro = {.loop = o->loop,
                                  .registries = o->registries,
                                  .idle_timeout_ms = o->idle_timeout_ms,
                                  .retry_ms = o->retry_ms};
    s->registry = registry_new(&ro);
    image_tmp_remove(s, 0);
    *out = s;
    return 0;
}

void image_store_close(struct image_store *s) {
    if (!s)
        return;
    s->closed = true;
    timer_stop(&s->unused);
    image_pulls_cancel(s);
    image_imports_cancel(s);
    image_store_network(s, 0);
    struct map_entry *e;
    VEC(struct image_object *) all = {0};
    for (size_t i = 0; (e = map_next(&s->images, &i));)
        vec_push(&all, (struct image_object *)e->value);
    for (size_t i = 0; i < all.n; i++)
        image_object_remove(all.items[i]);
    vec_fini(&all);
    image_store_release(s);
}

/* --- operations -------------------------------------------------------------------------------------------------------- */

static void op_next(struct image_store *s);

static void op_work(void *arg) {
    struct image_op *op = arg;
    op->work(op);
}

static void op_done(void *arg) {
    struct image_op *op = arg;
    struct image_store *s = op->store;
    s->running = NULL;
    op->done(op);
    op_next(s);
    image_store_release(s);
}

static void op_next(struct image_store *s) {
    if (s->running || list_empty(&s->ops))
        return;
    struct image_op *op = LIST_ITEM(list_pop_front(&s->ops), struct image_op, link);
    s->running = op;
    if (op->prepare(op))
        loop_work(s->o.loop, op_work, op_done, op);
    else
        loop_post(s->o.loop, op_done, op);
}

void image_op_start(struct image_store *s, struct image_op *op) {
    op->store = s;
    image_store_hold(s);
    list_push_back(&s->ops, &op->link);
    op_next(s);
}

/* --- layers ------------------------------------------------------------------------------------------------------------ */

void image_layer_free(struct image_layer *l) {
    free(l->path);
    free(l);
}

void image_layer_use(struct image_layer *l) {
    l->users++;
}

/* Unused layers leave: record first, so that a crash leaves a directory without one, which the next start removes. */
struct sweep {
    struct image_op op;
    VEC(struct image_layer *) gone;
};

static bool sweep_prepare(struct image_op *op) {
    struct sweep *w = CONTAINER_OF(op, struct sweep, op);
    struct map_entry *e;
    for (size_t i = 0; (e = map_next(&op->store->layers, &i));) {
        struct image_layer *l = e->value;
        if (l->users == 0)
            vec_push(&w->gone, l);
    }
    for (size_t i = 0; i < w->gone.n; i++)
        map_del(&op->store->layers, str_c(w->gone.items[i]->chain));
    return w->gone.n != 0;
}

static void sweep_work(struct image_op *op) {
    struct sweep *w = CONTAINER_OF(op, struct sweep, op);
    for (size_t i = 0; i < w->gone.n; i++) {
        cleanup_free char *record = image_store_path(op->store, "layers/%u.json", w->gone.items[i]->number);
        cleanup_free char *to = image_store_path(op->store, "tmp/%u", w->gone.items[i]->number);
        if (unlink(record) < 0 || rename(w->gone.items[i]->path, to) < 0)
            log_warn("images", "removing layer %s: %s", w->gone.items[i]->path, strerror(errno));
    }
}

static void sweep_done(struct image_op *op) {
    struct sweep *w = CONTAINER_OF(op, struct sweep, op);
    for (size_t i = 0; i < w->gone.n; i++) {
        image_tmp_remove(op->store, w->gone.items[i]->number);
        image_layer_free(w->gone.items[i]);
    }
    vec_fini(&w->gone);
    free(w);
}

static void sweep_start(struct image_store *s) {
    struct sweep *w = XNEW(struct sweep);
    w->op = (struct image_op){.prepare = sweep_prepare, .work = sweep_work, .done = sweep_done};
    image_op_start(s, &w->op);
}

static void on_unused(void *arg) {
    struct image_store *s = arg;
    if (list_empty(&s->pulls) && list_empty(&s->imports))
        sweep_start(s);
    else
        timer_set(&s->unused, IMAGE_UNUSED_KEEP_MS, 60000);
}

void image_layer_unuse(struct image_store *s, struct image_layer *l, bool now) {
    if (--l->users || s->closed)
        return;
    if (now)
        sweep_start(s);
    else if (!timer_is_set(&s->unused))
        timer_set(&s->unused, IMAGE_UNUSED_KEEP_MS, 60000);
}

struct tmp_remove {
    struct image_store *store;
    unsigned number;
};

static void tmp_remove_work(void *arg) {
    struct tmp_remove *t = arg;
    struct error err;
    cleanup_free char *path =
        t->number ? image_store_path(t->store, "tmp/%u", t->number) : image_store_path(t->store, "tmp/old");
    if (dir_remove_all(path, &err))
        log_warn("images", "%s", err.msg);
}

static void tmp_remove_done(void *arg) {
    struct tmp_remove *t = arg;
    image_store_release(t->store);
    free(t);
}

void image_tmp_remove(struct image_store *s, unsigned number) {
    struct tmp_remove *t = XNEW(struct tmp_remove);
    *t = (struct tmp_remove){s, number};
    image_store_hold(s);
    loop_work(s->o.loop, tmp_remove_work, tmp_remove_done, t);
}

/* --- looking up -------------------------------------------------------------------------------------------------------- */

static struct image_object *find(struct image_store *s, struct str name) {
    cleanup_arena struct arena *a = arena_new(1024, 0);
    if (image_digest_valid(name))
        return map_get(&s->images, name);
    if (name.n == 64) {
        struct str id = str_printf(a, "sha256:%.*s", STR_ARG(name));
        if (image_digest_valid(id))
            return map_get(&s->images, id);
    }
    struct str normal;
    if (image_name_normalize(a, name, &normal, NULL))
        return NULL;
    return map_get(&s->names, normal);
}

struct image *image_find(struct image_store *s, struct str name) {
    struct image_object *o = find(s, name);
    if (!o)
        return NULL;
    image_ref(&o->img);
    return &o->img;
}

void image_each(struct image_store *s, void (*each)(void *arg, struct image *img), void *arg) {
    struct map_entry *e;
    VEC(struct image *) all = {0}; /* the receiver may remove some */
    for (size_t i = 0; (e = map_next(&s->images, &i));) {
        struct image *img = &((struct image_object *)e->value)->img;
        image_ref(img);
        vec_push(&all, img);
    }
    for (size_t i = 0; i < all.n; i++) {
        each(arg, all.items[i]);
        image_unref(all.items[i]);
    }
    vec_fini(&all);
}

/* --- images ------------------------------------------------------------------------------------------------------------ */

void image_ref(struct image *img) {
    ref_get(&img->ref);
}

void image_unref(struct image *img) {
    if (!img || !ref_put(&img->ref))
        return;
    struct image_object *o = CONTAINER_OF(img, struct image_object, img);
    struct image_store *s = o->store;
    list_remove(&o->link);
    for (size_t i = 0; i < o->held_n; i++)
        image_layer_unuse(s, o->held[i], true);
    arena_free(img->arena); /* o goes with it */
    image_store_release(s);
}

struct forget {
    struct image_op op;
    char id[IMAGE_DIGEST_LEN + 1];
};

static bool forget_prepare(struct image_op *op) {
    struct forget *f = CONTAINER_OF(op, struct forget, op);
    return !map_get(&op->store->images, str_c(f->id)); /* it may have been pulled again */
}

static void forget_work(struct image_op *op) {
    struct forget *f = CONTAINER_OF(op, struct forget, op);
    cleanup_free char *path = image_store_path(op->store, "images/%s.json", f->id + 7);
    if (unlink(path) < 0 && errno != ENOENT)
        log_warn("images", "removing %s: %s", path, strerror(errno));
}

static void forget_done(struct image_op *op) {
    free(CONTAINER_OF(op, struct forget, op));
}

int image_remove(struct image_store *s, struct str name, struct error *err) {
    struct image_object *o = find(s, name);
    if (!o)
        return error_set(err, -ENOENT, "image \"%.*s\" is not present", (int)MIN(name.n, 300), name.p);
    LIST_FOREACH (it, &s->objects) {
        struct image_object *other = LIST_ITEM(it, struct image_object, link);
        if (!str_eq(other->img.id, o->img.id))
            continue;
        if (other != o || atomic_load(&o->img.ref.count) > 1)
            return error_set(err, -EBUSY, "image \"%.*s\" is in use", (int)MIN(name.n, 300), name.p);
    }
    struct forget *f = XNEW(struct forget);
    f->op = (struct image_op){.prepare = forget_prepare, .work = forget_work, .done = forget_done};
    memcpy(f->id, o->img.id.p, MIN(o->img.id.n, IMAGE_DIGEST_LEN));
    image_op_start(s, &f->op); /* before its layers go: a record never names a layer that is gone */
    image_object_remove(o);
    return 0;
}
