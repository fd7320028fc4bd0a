/* A pull: manifest, perhaps by way of an index, configuration, layers, record. Callers who want the same share it. */
#include <stdio.h>
#include <stdlib.h>

#include "net/pki.h"
#include "runtime/image_store.h"

#define PROGRESS_EVERY_MS 200
#define PULL_ARENA_MAX MiB(256)

struct pull_work {
    struct list link;
    struct image_store *store;
    struct arena *arena;
    char *key;           /* what is shared: name and credentials */
    struct list callers; /* struct image_pull */
    struct registry_source *source;
    struct str name; /* normalised */
    struct registry_get *get;
    bool saving; /* the record is being written */
    bool ended;

    int depth; /* of indexes */
    size_t endpoint;
    struct str top_digest;
    struct image_descriptor wanted; /* the manifest an index named */
    struct image_manifest manifest;
    struct image_config config;

    struct str *chains;
    struct image_layer **layers;   /* in use by us */
    struct layer_waiter **waiters; /* of those that are on their way */
    uint64_t *received;
    size_t missing;
    uint64_t total_bytes;
    int64_t told_ms;
};

struct image_pull { /* a caller */
    struct list link;
    struct pull_work *work; /* NULL: the result is on its way */
    struct image_store *store;
    struct image_pull_events ev;
    struct str asked; /* the name as given */
    struct image *img;
    int code;
    struct error err;
};

/* --- results ----------------------------------------------------------------------------------------------------------- */

static void deliver(void *arg) {
    struct image_pull *p = arg;
    p->ev.on_done(p->ev.arg, p->img, p->code, &p->err);
    image_store_release(p->store);
    free((void *)(uintptr_t)p->asked.p);
    free(p);
}

static void caller_end(struct image_pull *p, struct image *img, int code, const struct error *err) {
    p->work = NULL;
    list_remove(&p->link);
    if (img)
        image_ref(img);
    p->img = img;
    p->code = code;
    if (code)
        error_set(&p->err, code, "failed to pull image \"%.*s\": %.400s", (int)MIN(p->asked.n, 120), p->asked.p,
                  err->msg);
    loop_post(p->store->o.loop, deliver, p);
}

static void drop_layers(struct pull_work *w) {
    for (size_t i = 0; i < w->config.diff_ids_n; i++) {
        if (w->waiters && w->waiters[i])
            image_layer_forget(TAKE_PTR(w->waiters[i]));
        if (w->layers && w->layers[i])
            image_layer_unuse(w->store, TAKE_PTR(w->layers[i]), false);
    }
}

/* Frees the work once it ended and nothing that runs will call back. */
static void work_release(struct pull_work *w) {
    struct image_store *s = w->store;
    if (!w->ended || w->get || w->saving)
        return;
    registry_source_unref(w->source);
    free(w->key);
    arena_free(w->arena);
    image_store_network(s, -1);
    image_store_release(s);
}

/* Ends the work for all callers; borrows img. */
static void work_end(struct pull_work *w, struct image *img, int code, const struct error *err) {
    w->ended = true;
    list_remove(&w->link);
    drop_layers(w);
    for (struct list *it; (it = list_pop_front(&w->callers));)
        caller_end(LIST_ITEM(it, struct image_pull, link), img, code, err);
    if (w->get)
        registry_get_cancel(w->get);
    work_release(w);
}

static void work_fail(struct pull_work *w, int code, const struct error *err) {
    struct error e = {.code = code};
    error_set(&e, code, "%.200s: %.290s", w->name.p, err->msg);
    work_end(w, NULL, code, &e);
}

/* --- record ------------------------------------------------------------------------------------------------------------ */

static void on_saved(void *arg, struct image *img, const struct error *err) {
    struct pull_work *w = arg;
    w->saving = false;
    if (w->ended)
        work_release(w);
    else if (!img)
        work_fail(w, err->code, err);
    else
        work_end(w, img, 0, NULL);
    image_unref(img);
}

static void save(struct pull_work *w) {
    struct arena *a = w->arena;
    const struct image_name *n = &w->source->name;
    struct image_put put = {.id = w->manifest.config.digest,
                            .tag = n->digest.n ? STR("") : w->name,
                            .digest_name = str_printf(a, "%.*s/%.*s@%.*s", STR_ARG(n->domain), STR_ARG(n->path),
                                                      STR_ARG(w->top_digest)),
                            .config = w->config.config,
                            .created = w->config.created,
                            .chains = w->chains,
                            .chains_n = w->config.diff_ids_n};
    w->saving = true;
    image_put(w->store, &put, on_saved, w);
}

/* --- layers ------------------------------------------------------------------------------------------------------------ */

struct layer_slot {
    struct pull_work *work;
    size_t i;
};

static void on_layer(void *arg, struct image_layer *layer, int code, const struct error *err) {
    struct layer_slot *slot = arg;
    struct pull_work *w = slot->work;
    w->waiters[slot->i] = NULL;
    if (!layer) {
        work_fail(w, code, err);
        return;
    }
    w->layers[slot->i] = layer;
    if (--w->missing == 0)
        save(w);
}

static void on_progress(void *arg, uint64_t received) {
    struct layer_slot *slot = arg;
    struct pull_work *w = slot->work;
    uint64_t sum = 0;
    w->received[slot->i] = received;
    int64_t now = time_mono_ms();
    if (now - w->told_ms < PROGRESS_EVERY_MS)
        return;
    w->told_ms = now;
    for (size_t i = 0; i < w->config.diff_ids_n; i++)
        sum += w->received[i];
    LIST_FOREACH (it, &w->callers) {
        struct image_pull *p = LIST_ITEM(it, struct image_pull, link);
        if (p->ev.on_progress)
            p->ev.on_progress(p->ev.arg, sum, w->total_bytes);
    }
}

static void layers_start(struct pull_work *w) {
    size_t n = w->config.diff_ids_n;
    struct arena *a = w->arena;
    w->chains = arena_alloc(a, sizeof(*w->chains) * MAX(n, 1));
    w->layers = arena_alloc(a, sizeof(*w->layers) * MAX(n, 1));
    w->waiters = arena_alloc(a, sizeof(*w->waiters) * MAX(n, 1));
    w->received = arena_alloc(a, sizeof(*w->received) * MAX(n, 1));
    struct layer_slot *slots = arena_alloc(a, sizeof(*slots) * MAX(n, 1));
    struct str below = STR("");
    for (size_t i = 0; i < n; i++) {
        struct layer_want want = {.blob = w->manifest.layers[i], .source = w->source, .endpoint = w->endpoint};
        memcpy(want.diff, w->config.diff_ids[i].p, IMAGE_DIGEST_LEN);
        memcpy(want.below, below.p, below.n);
        image_chain_id(below, w->config.diff_ids[i], want.chain);
        w->chains[i] = below = str_dup(a, str_c(want.chain));
        struct image_layer *have = map_get(&w->store->layers, below);
        if (have) {
            image_layer_use(have);
            w->layers[i] = have;
            continue;
        }
        slots[i] = (struct layer_slot){w, i};
        want.done = on_layer;
        want.progress = on_progress;
        want.arg = &slots[i];
        w->missing++;
        w->total_bytes += want.blob.size;
        w->waiters[i] = image_layer_get(w->store, &want);
    }
    if (w->missing == 0)
        save(w);
}

/* --- configuration ----------------------------------------------------------------------------------------------------- */

static struct image_platform platform(const struct image_store *s) {
    return (struct image_platform){str_c(s->os), str_c(s->arch), str_c(s->variant)};
}

static int take_config(struct pull_work *w, struct str body, struct error *err) {
    int rc = image_config_parse(w->arena, body, &w->config, err);
    if (rc)
        return rc;
    struct image_platform mine = platform(w->store), *theirs = &w->config.platform;
    size_t n = w->config.diff_ids_n;
    if (!image_platform_matches(theirs, &mine))
        rc = error_set(err, -ENOENT, "the image is for %.*s/%.*s, this machine is %s/%s", (int)MIN(theirs->os.n, 32),
                       theirs->os.p, (int)MIN(theirs->arch.n, 32), theirs->arch.p, w->store->os, w->store->arch);
    else if (n != w->manifest.layers_n)
        rc = error_set(err, -EINVAL, "the manifest has %zu layers, the config %zu", w->manifest.layers_n, n);
    if (rc)
        w->config.diff_ids_n = 0;
    return rc;
}

static void on_config(void *arg, const struct registry_document *doc, int code, const struct error *err) {
    struct pull_work *w = arg;
    struct error why = {0};
    w->get = NULL;
    if (w->ended) {
        work_release(w);
        return;
    }
    if (code) {
        work_fail(w, code, err);
        return;
    }
    w->endpoint = doc->endpoint;
    code = take_config(w, doc->body, &why);
    if (code)
        work_fail(w, code, &why);
    else
        layers_start(w);
}

/* --- manifest ---------------------------------------------------------------------------------------------------------- */

static void get_manifest(struct pull_work *w, struct str reference, struct str digest);

static int take_manifest(struct pull_work *w, const struct registry_document *doc, struct error *err) {
    int rc = image_manifest_parse(w->arena, doc->body, doc->content_type, &w->manifest, err);
    if (rc || w->manifest.kind == IMAGE_DOCUMENT_MANIFEST)
        return rc;
    struct image_platform mine = platform(w->store);
    if (++w->depth > IMAGE_INDEX_DEPTH_MAX)
        return error_set(err, -ELOOP, "indexes are nested deeper than %d", IMAGE_INDEX_DEPTH_MAX);
    return image_index_choose(w->arena, w->manifest.doc, &mine, &w->wanted, err);
}

static void on_manifest(void *arg, const struct registry_document *doc, int code, const struct error *err) {
    struct pull_work *w = arg;
    struct error why = {0};
    w->get = NULL;
    if (w->ended) {
        work_release(w);
        return;
    }
    if (code) {
        work_fail(w, code, err);
        return;
    }
    w->endpoint = doc->endpoint;
    if (!w->top_digest.n)
        w->top_digest = str_dup(w->arena, str_c(doc->digest));
    code = take_manifest(w, doc, &why);
    if (code) {
        work_fail(w, code, &why);
        return;
    }
    if (w->manifest.kind == IMAGE_DOCUMENT_INDEX) {
        get_manifest(w, w->wanted.digest, w->wanted.digest);
        return;
    }
    struct str digest = w->manifest.config.digest;
    struct registry_get_options o = {.endpoint = w->endpoint,
                                     .path = arena_printf(w->arena, "blobs/%.*s", STR_ARG(digest)),
                                     .bytes_max = IMAGE_CONFIG_BYTES_MAX,
                                     .digest = digest};
    if (map_get(&w->store->images, digest)) { /* all there: only the name may be new */
        save(w);
        return;
    }
    w->get = registry_get_start(w->store->registry, w->source, &o, on_config, w);
}

static void get_manifest(struct pull_work *w, struct str reference, struct str digest) {
    struct registry_get_options o = {.endpoint = w->endpoint,
                                     .path = arena_printf(w->arena, "manifests/%.*s", STR_ARG(reference)),
                                     .accept = IMAGE_MANIFEST_ACCEPT,
                                     .bytes_max = IMAGE_MANIFEST_BYTES_MAX,
                                     .digest = digest};
    w->get = registry_get_start(w->store->registry, w->source, &o, on_manifest, w);
}

/* --- starting ---------------------------------------------------------------------------------------------------------- */

static char *share_key(struct str name, const struct image_auth *auths, size_t n) {
    cleanup_buf struct buf b = BUF_INIT;
    for (size_t i = 0; i < n; i++)
        buf_printf(&b, "%zu %zu %zu %.*s%.*s%.*s\n", auths[i].username.n, auths[i].password.n,
                   auths[i].identity_token.n, STR_ARG(auths[i].username), STR_ARG(auths[i].password),
                   STR_ARG(auths[i].identity_token));
    char hash[65];
    sha256_hex(b.p ? b.p : "", b.n, hash);
    if (b.p)
        explicit_bzero(b.p, b.n);
    return xasprintf("%.*s %s", STR_ARG(name), hash);
}

static struct pull_work *work_find(struct image_store *s, const char *key) {
    LIST_FOREACH (it, &s->pulls) {
        struct pull_work *w = LIST_ITEM(it, struct pull_work, link);
        if (strcmp(w->key, key) == 0)
            return w;
    }
    return NULL;
}

/* The work for a name and credentials, running or new. NULL and err when the name is malformed. */
static struct pull_work *work_get(struct image_store *s, struct str name, const struct image_auth *auths,
                                  size_t auths_n, struct error *err) {
    struct arena *a = arena_new(0, PULL_ARENA_MAX);
    struct registry_source *source = NULL;
    struct str normal;
    if (image_name_normalize(a, name, &normal, err) == 0)
        source = registry_source_new(s->o.registries, normal, auths, auths_n, err);
    if (!source) {
        arena_free(a);
        return NULL;
    }
    char *key = share_key(normal, auths, auths_n);
    struct pull_work *w = work_find(s, key);
    if (w) {
        free(key);
        registry_source_unref(source);
        arena_free(a);
        return w;
    }
    w = ARENA_NEW(a, struct pull_work);
    w->arena = a;
    w->store = s;
    w->key = key;
    w->source = source;
    w->name = normal;
    list_init(&w->callers);
    list_push_back(&s->pulls, &w->link);
    image_store_hold(s);
    image_store_network(s, 1);
    const struct image_name *n = &source->name;
    w->top_digest = n->digest.n ? n->digest : STR("");
    get_manifest(w, n->digest.n ? n->digest : n->tag, n->digest);
    return w;
}

struct image_pull *image_pull(struct image_store *s, struct str name, const struct image_auth *auths, size_t auths_n,
                              const struct image_pull_events *ev) {
    struct image_pull *p = XNEW(struct image_pull);
    struct error err = {0};
    p->store = s;
    p->ev = *ev;
    p->asked = str_n(xstrndup(name.p ? name.p : "", name.n), name.n);
    list_init(&p->link);
    image_store_hold(s);
    struct pull_work *w = work_get(s, name, auths, auths_n, &err);
    if (!w) {
        caller_end(p, NULL, err.code, &err);
        return p;
    }
    p->work = w;
    list_push_back(&w->callers, &p->link);
    return p;
}

static void work_cancel(struct pull_work *w) {
    struct error err = {.code = -ECANCELED, .msg = "cancelled"};
    work_end(w, NULL, -ECANCELED, &err);
}

void image_pull_cancel(struct image_pull *p) {
    struct pull_work *w = p->work;
    struct error err = {.code = -ECANCELED, .msg = "cancelled"};
    if (!w)
        return; /* its result is on the way */
    caller_end(p, NULL, -ECANCELED, &err);
    if (list_empty(&w->callers))
        work_cancel(w);
}

void image_pulls_cancel(struct image_store *s) {
    LIST_FOREACH (it, &s->pulls) {
        work_cancel(LIST_ITEM(it, struct pull_work, link));
    }
}
