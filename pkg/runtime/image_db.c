/* Records of images and layers: read at start, written atomically. */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runtime/image_store.h"

#define RECORD_BYTES_MAX MiB(8)
#define RECORDS_MAX 100000
#define TAGS_MAX 256

/* --- layers ------------------------------------------------------------------------------------------------------------ */

int image_db_write_layer(const char *root, const struct image_layer *l, struct error *err) {
    cleanup_arena struct arena *a = arena_new(0, 0);
    cleanup_buf struct buf text = BUF_INIT;
    struct json *v = json_object(a);
    json_set_cstr(a, v, "chain", l->chain);
    json_set_cstr(a, v, "diff", l->diff);
    json_set_cstr(a, v, "below", l->below);
    json_set_int(a, v, "bytes", (int64_t)l->bytes);
    json_set_int(a, v, "entries", l->entries);
    json_write(&text, v);
    const char *path = arena_printf(a, "%s/layers/%u.json", root, l->number);
    return file_write_atomic(path, buf_str(&text), 0600, err);
}

static bool number_of(struct str name, unsigned *out) {
    uint64_t n;
    if (!str_to_u64(name, &n) || n == 0 || n > UINT32_MAX / 2)
        return false;
    *out = (unsigned)n;
    return true;
}

static int load_layer(struct image_store *s, struct str name) {
    cleanup_arena struct arena *a = arena_new(0, 0);
    cleanup_buf struct buf text = {NULL, 0, 0, MiB(1), false};
    cleanup_free char *record = image_store_path(s, "layers/%.*s.json", STR_ARG(name));
    unsigned number;
    struct stat st;
    if (!number_of(name, &number) || file_read(record, &text, NULL))
        return -EINVAL;
    const struct json *v = json_parse(a, buf_str(&text), NULL, NULL);
    struct str chain = json_str_at(v, "chain"), diff = json_str_at(v, "diff"), below = json_str_at(v, "below");
    char *path = image_store_path(s, "layers/%u", number);
    if (!image_digest_valid(chain) || !image_digest_valid(diff) || map_get(&s->layers, chain) || lstat(path, &st) < 0 ||
        !S_ISDIR(st.st_mode)) {
        free(path);
        return -EINVAL;
    }
    struct image_layer *l = XNEW(struct image_layer);
    memcpy(l->chain, chain.p, chain.n);
    memcpy(l->diff, diff.p, diff.n);
    if (image_digest_valid(below))
        memcpy(l->below, below.p, below.n);
    l->number = number;
    l->path = path;
    l->bytes = (uint64_t)json_int_at(v, "bytes", 0);
    l->entries = (uint32_t)json_int_at(v, "entries", 0);
    map_set(&s->layers, chain, l);
    if (number >= atomic_load(&s->next_number))
        atomic_store(&s->next_number, number + 1);
    return 0;
}

/* Calls each for the names in a directory, which may be removed or moved meanwhile. */
static int names_in(const char *path, void (*each)(void *arg, const char *name), void *arg, struct error *err) {
    DIR *d = opendir(path);
    if (!d)
        return error_sys(err, -errno, "%s", path);
    VEC(char *) names = {0};
    for (struct dirent *e; (e = readdir(d)) && names.n < RECORDS_MAX * 2;)
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
            vec_push(&names, xstrdup(e->d_name));
    closedir(d);
    for (size_t i = 0; i < names.n; i++) {
        each(arg, names.items[i]);
        free(names.items[i]);
    }
    vec_fini(&names);
    return 0;
}

static void discard(struct image_store *s, const char *dir, const char *name) {
    char suffix[9];
    rand_hex(suffix, 8);
    cleanup_free char *old = image_store_path(s, "tmp/old"), *from = image_store_path(s, "%s/%s", dir, name),
                      *to = image_store_path(s, "tmp/old/%s", suffix);
    mkdir(old, 0700);
    if (rename(from, to) < 0)
        log_warn("images", "cannot move %s away: %s", from, strerror(errno));
}

static void scan_tmp(void *arg, const char *name) {
    if (strcmp(name, "old") != 0)
        discard(arg, "tmp", name);
}

static void scan_layer_record(void *arg, const char *name) {
    struct image_store *s = arg;
    struct str n = str_c(name);
    if (!str_ends(n, STR(".json")))
        return;
    n.n -= 5;
    if (load_layer(s, n)) {
        log_warn("images", "layer record %s is damaged or has no directory: removed", name);
        discard(s, "layers", name);
    }
}

static void scan_layer_dir(void *arg, const char *name) {
    struct image_store *s = arg;
    unsigned number = 0;
    if (str_ends(str_c(name), STR(".json")))
        return;
    if (number_of(str_c(name), &number)) {
        struct map_entry *e;
        for (size_t i = 0; (e = map_next(&s->layers, &i));)
            if (((struct image_layer *)e->value)->number == number)
                return;
        log_info("images", "layer %s was not completed: removed", name);
    }
    discard(s, "layers", name);
}

/* --- objects ----------------------------------------------------------------------------------------------------------- */

static int string_list(struct arena *a, const struct json *v, struct str **out, size_t *n) {
    *n = json_len(v);
    *out = arena_alloc(a, sizeof(struct str) * MAX(*n, 1));
    for (size_t i = 0; i < *n; i++) {
        (*out)[i] = json_as_str(json_item(v, i));
        if (!(*out)[i].n)
            return -EINVAL;
    }
    return 0;
}

static int hold_layers(struct image_store *s, struct image_object *o, const struct json *chains, struct error *err) {
    struct arena *a = o->img.arena;
    size_t n = json_len(chains);
    o->held = arena_alloc(a, sizeof(*o->held) * MAX(n, 1));
    const char **dirs = arena_alloc(a, sizeof(*dirs) * (n + 1));
    for (size_t i = 0; i < n; i++) {
        struct image_layer *l = map_get(&s->layers, json_as_str(json_item(chains, i)));
        if (!l)
            return error_set(err, -ENOENT, "its layer %zu is not present", i + 1);
        o->held[i] = l;
        dirs[i] = l->path;
        o->img.size_bytes += l->bytes;
    }
    o->img.layers = dirs;
    return 0;
}

struct image_object *image_object_new(struct image_store *s, struct arena *a, const struct json *record,
                                      struct error *err) {
    struct image_object *o = ARENA_NEW(a, struct image_object);
    o->img.arena = a;
    o->record = record;
    o->img.id = json_str_at(record, "id");
    o->img.config = json_get_c(record, "config");
    const struct json *chains = json_get_c(record, "layers");
    int rc = 0;
    if (!image_digest_valid(o->img.id) || !json_is(o->img.config, JSON_OBJECT) || !json_is(chains, JSON_ARRAY) ||
        json_len(chains) > IMAGE_LAYERS_MAX ||
        string_list(a, json_get_c(record, "repoTags"), &o->img.repo_tags, &o->img.repo_tags_n) ||
        string_list(a, json_get_c(record, "repoDigests"), &o->img.repo_digests, &o->img.repo_digests_n))
        rc = error_set(err, -EINVAL, "its record is damaged");
    if (rc == 0)
        rc = hold_layers(s, o, chains, err);
    if (rc) {
        arena_free(a);
        return NULL;
    }
    o->held_n = json_len(chains);
    for (size_t i = 0; i < o->held_n; i++) /* paths are held as long as the layers */
        image_layer_use(o->held[i]);
    ref_init(&o->img.ref);
    o->store = s;
    image_store_hold(s);
    list_push_back(&s->objects, &o->link);
    return o;
}

static void drop_names(struct image_object *o) {
    struct map *names = &o->store->names;
    for (size_t i = 0; i < o->img.repo_tags_n; i++)
        if (map_get(names, o->img.repo_tags[i]) == o)
            map_del(names, o->img.repo_tags[i]);
    for (size_t i = 0; i < o->img.repo_digests_n; i++)
        if (map_get(names, o->img.repo_digests[i]) == o)
            map_del(names, o->img.repo_digests[i]);
}

void image_object_install(struct image_object *o) {
    struct image_store *s = o->store;
    struct image_object *old = map_set(&s->images, o->img.id, o);
    if (old)
        drop_names(old);
    for (size_t i = 0; i < o->img.repo_tags_n; i++)
        map_set(&s->names, o->img.repo_tags[i], o);
    for (size_t i = 0; i < o->img.repo_digests_n; i++)
        map_set(&s->names, o->img.repo_digests[i], o);
    if (old)
        image_unref(&old->img);
}

void image_object_remove(struct image_object *o) {
    drop_names(o);
    map_del(&o->store->images, o->img.id);
    image_unref(&o->img);
}

/* --- loading ----------------------------------------------------------------------------------------------------------- */

struct loaded {
    struct arena *arena;
    struct json *record;
    char *name;
};

struct load {
    struct image_store *store;
    VEC(struct loaded) all;
};

static void scan_image(void *arg, const char *name) {
    struct load *ld = arg;
    struct str n = str_n(name, strlen(name));
    cleanup_buf struct buf text = {NULL, 0, 0, RECORD_BYTES_MAX, false};
    cleanup_free char *path = image_store_path(ld->store, "images/%s", name);
    struct error err = {0};
    if (!str_ends(n, STR(".json")) || n.n != 64 + 5) {
        discard(ld->store, "images", name);
        return;
    }
    struct arena *a = arena_new(0, 0);
    struct json *v = file_read(path, &text, &err) ? NULL : json_parse(a, buf_str(&text), NULL, &err);
    if (!v || !str_eq(str_n(n.p, 64), str_skip(json_str_at(v, "id"), 7))) {
        log_warn("images", "image record %s is damaged: removed (%s)", name, err.msg);
        arena_free(a);
        discard(ld->store, "images", name);
        return;
    }
    struct loaded l = {a, v, xstrdup(name)};
    vec_push(&ld->all, l);
}

static int newest_first(const void *a, const void *b) {
    const struct loaded *x = a, *y = b;
    return str_cmp(json_str_at(y->record, "pulledAt"), json_str_at(x->record, "pulledAt"));
}

/* A crash between two records may leave one tag with two images: the newer one keeps it. */
static void strip_taken(struct loaded *l, struct map *taken) {
    struct json *tags = json_get_c(l->record, "repoTags");
    for (size_t i = json_len(tags); i > 0; i--) {
        struct str t = json_as_str(json_item(tags, i - 1));
        if (map_get(taken, t))
            json_remove(tags, i - 1);
        else
            map_set(taken, t, taken);
    }
}

static void load_images(struct load *ld) {
    cleanup_map struct map taken = {0};
    if (ld->all.n)
        qsort(ld->all.items, ld->all.n, sizeof(ld->all.items[0]), newest_first);
    for (size_t i = 0; i < ld->all.n; i++) {
        struct loaded *l = &ld->all.items[i];
        struct error err;
        strip_taken(l, &taken);
        struct image_object *o = image_object_new(ld->store, l->arena, l->record, &err);
        if (o) {
            image_object_install(o);
        } else {
            log_warn("images", "image %.12s is removed: %s", l->name, err.msg);
            discard(ld->store, "images", l->name);
        }
        free(l->name);
    }
    vec_fini(&ld->all);
}

int image_db_load(struct image_store *s, struct error *err) {
    struct load ld = {.store = s};
    cleanup_free char *tmp = image_store_path(s, "tmp"), *layers = image_store_path(s, "layers"),
                      *images = image_store_path(s, "images");
    int rc = names_in(tmp, scan_tmp, s, err);
    if (rc == 0)
        rc = names_in(layers, scan_layer_record, s, err);
    if (rc == 0)
        rc = names_in(layers, scan_layer_dir, s, err);
    if (rc == 0)
        rc = names_in(images, scan_image, &ld, err);
    load_images(&ld);
    struct map_entry *e;
    for (size_t i = 0; (e = map_next(&s->layers, &i));)
        if (((struct image_layer *)e->value)->users == 0 && !timer_is_set(&s->unused))
            timer_set(&s->unused, IMAGE_UNUSED_KEEP_MS, 60000);
    return rc;
}

/* --- recording an image ------------------------------------------------------------------------------------------------ */

struct change {
    struct arena *arena;
    struct json *record;
    char *path;
    char *text;
    size_t text_n;
};

struct put_op {
    struct image_op op;
    struct image_put put;
    VEC(struct change) changes; /* the image's first, then those of images that lose the tag */
    struct image_layer **held;
    struct error err;
    int code;
    void (*done)(void *arg, struct image *img, const struct error *err);
    void *arg;
};

static bool list_has(const struct json *list, struct str s) {
    for (size_t i = 0; i < json_len(list); i++)
        if (str_eq(json_as_str(json_item(list, i)), s))
            return true;
    return false;
}

static void add_name(struct arena *a, struct json *list, struct str name) {
    if (name.n && !list_has(list, name)) {
        if (list->n >= TAGS_MAX)
            json_remove(list, 0);
        json_append(a, list, json_str(a, name));
    }
}

static void add_change(struct put_op *p, struct arena *a, struct json *record) {
    cleanup_buf struct buf b = {NULL, 0, 0, RECORD_BYTES_MAX, false};
    json_write(&b, record);
    struct change c = {.arena = a,
                       .record = record,
                       .path = image_store_path(p->op.store, "images/%.*s.json",
                                                STR_ARG(str_skip(json_str_at(record, "id"), 7)))};
    if (b.failed)
        p->code = error_set(&p->err, -E2BIG, "the image's record is larger than 8 MiB");
    c.text = buf_steal(&b, &c.text_n);
    vec_push(&p->changes, c);
}

static bool put_prepare(struct image_op *op) {
    struct put_op *p = CONTAINER_OF(op, struct put_op, op);
    const struct image_put *put = &p->put;
    struct image_object *have = map_get(&op->store->images, put->id);
    struct arena *a = arena_new(0, 0);
    struct json *r = have ? json_copy(a, have->record) : json_object(a);
    char now[TIME_RFC3339_MAX];
    if (!have && !put->config) {
        arena_free(a);
        p->code = error_set(&p->err, -EAGAIN, "the image was removed meanwhile");
        return false;
    }
    if (!have) {
        json_set_str(a, r, "id", put->id);
        json_set_str(a, r, "created", put->created);
        json_set(a, r, STR("repoTags"), json_array(a));
        json_set(a, r, STR("repoDigests"), json_array(a));
        struct json *layers = json_array(a);
        for (size_t i = 0; i < put->chains_n; i++)
            json_append(a, layers, json_str(a, put->chains[i]));
        json_set(a, r, STR("layers"), layers);
        json_set(a, r, STR("config"), json_copy(a, put->config));
    }
    json_set_cstr(a, r, "pulledAt", time_format(time_now(), 9, now));
    add_name(a, json_get_c(r, "repoTags"), put->tag);
    add_name(a, json_get_c(r, "repoDigests"), put->digest_name);
    add_change(p, a, r);
    struct image_object *loser = put->tag.n ? map_get(&op->store->names, put->tag) : NULL;
    if (loser && loser != have) {
        struct arena *la = arena_new(0, 0);
        struct json *lr = json_copy(la, loser->record), *tags = json_get_c(lr, "repoTags");
        for (size_t i = json_len(tags); i > 0; i--)
            if (str_eq(json_as_str(json_item(tags, i - 1)), put->tag))
                json_remove(tags, i - 1);
        add_change(p, la, lr);
    }
    return p->code == 0;
}

static void put_work(struct image_op *op) {
    struct put_op *p = CONTAINER_OF(op, struct put_op, op);
    for (size_t i = 0; i < p->changes.n && p->code == 0; i++) {
        const struct change *c = &p->changes.items[i];
        p->code = file_write_atomic(c->path, str_n(c->text, c->text_n), 0600, &p->err);
    }
}

static void put_done(struct image_op *op) {
    struct put_op *p = CONTAINER_OF(op, struct put_op, op);
    struct image *img = NULL;
    if (op->store->closed && p->code == 0)
        p->code = error_set(&p->err, -ECANCELED, "the image store was closed");
    for (size_t i = p->changes.n; i > 0; i--) { /* the image last: it takes the tag */
        struct change *c = &p->changes.items[i - 1];
        struct image_object *o = NULL;
        if (p->code)
            arena_free(c->arena);
        else
            o = image_object_new(op->store, c->arena, c->record, &p->err);
        if (o) {
            image_object_install(o);
            img = &o->img;
        }
        free(c->path);
        free(c->text);
    }
    if (img)
        image_ref(img);
    else if (!p->err.code)
        error_set(&p->err, -EIO, "the image could not be recorded");
    vec_fini(&p->changes);
    p->done(p->arg, img, &p->err);
    free(p);
}

void image_put(struct image_store *s, const struct image_put *put,
               void (*done)(void *arg, struct image *img, const struct error *err), void *arg) {
    struct put_op *p = XNEW(struct put_op);
    p->op = (struct image_op){.prepare = put_prepare, .work = put_work, .done = put_done};
    p->put = *put;
    p->done = done;
    p->arg = arg;
    image_op_start(s, &p->op);
}
