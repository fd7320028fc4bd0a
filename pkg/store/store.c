#include "store/store.h"

#include <stdlib.h>
#include <string.h>

#include "store/store_priv.h"

/* Trees nobody asked for between two sweeps go; when trees grow by more than the burst limit, all idle ones go at once. */
#define SWEEP_MS 10000
#define SWEEP_SLACK_MS 5000
#define TREES_BURST MiB(16)
#define TREES_TRIM MiB(1) /* worth giving back to the kernel */

/* --- turns on the loop -------------------------------------------------------------------------------------------- */

static void store_free(struct store *s) {
    pthread_mutex_destroy(&s->commit.lock);
    pthread_cond_destroy(&s->commit.wake);
    free(s);
}

void store_post(struct store *s, loop_fn fn) {
    pthread_mutex_lock(&s->commit.lock);
    s->posts++;
    pthread_mutex_unlock(&s->commit.lock);
    loop_post(s->loop, fn, s);
}

bool store_posted(struct store *s) {
    pthread_mutex_lock(&s->commit.lock);
    bool last = --s->posts == 0;
    pthread_mutex_unlock(&s->commit.lock);
    if (!s->closed)
        return true;
    if (last)
        store_free(s);
    return false;
}

static void sweep_now(struct store *s, bool force) {
    bool trim = !force && object_trees_bytes() > TREES_TRIM;
    if (trim)
        mem_trim_begin();
    for (size_t i = 0; i < s->kinds.n; i++) {
        const struct set *set = &s->kinds.items[i]->objects;
        struct object *o;
        for (struct set_pos p = set_start(); (o = set_at(set, p)); p = set_next(set, p)) {
            if (!object_has_tree(o))
                continue;
            if (force || !atomic_load_explicit(&o->used, memory_order_relaxed))
                object_drop_tree(o);
            else
                atomic_store_explicit(&o->used, false, memory_order_relaxed);
        }
    }
    hub_sweep(&s->hub);
    s->trees_floor = object_trees_bytes();
    if (trim)
        mem_trim_end();
}

static void on_turn(void *arg) {
    struct store *s = arg;
    if (!store_posted(s))
        return;
    s->turn_posted = false;
    commit_turn(s);
    if (object_trees_bytes() > s->trees_floor + TREES_BURST)
        sweep_now(s, true);
}

void store_kick(struct store *s) {
    if (s->turn_posted)
        return;
    s->turn_posted = true;
    store_post(s, on_turn);
}

/* Goes on while trees remain that the next sweep may drop; an idle store has none and no timer. */
static void on_sweep(void *arg) {
    struct store *s = arg;
    size_t before = s->trees_floor;
    sweep_now(s, false);
    if (s->trees_floor && (s->trees_floor != before || s->swept_idle == 0))
        timer_set(&s->sweep, SWEEP_MS, SWEEP_SLACK_MS);
    s->swept_idle = s->trees_floor == before;
}

void store_reading(struct store *s) {
    if (!timer_is_set(&s->sweep)) {
        s->swept_idle = 0;
        timer_set(&s->sweep, SWEEP_MS, SWEEP_SLACK_MS);
    }
}

/* --- life --------------------------------------------------------------------------------------------------------- */

static struct kind *kind_find(const struct store *s, struct str name) {
    return map_get(&s->kind_names, name);
}

struct store_kind *store_kind(struct store *s, struct str name) {
    struct kind *k = kind_find(s, name);
    if (k)
        return &k->pub;
    k = XNEW(struct kind);
    k->pub.name = str_n(xstrndup(name.p, name.n), name.n);
    k->pub.index = s->kinds.n;
    list_init(&k->watches);
    vec_push(&s->kinds, k);
    map_set(&s->kind_names, name, k);
    return &k->pub;
}

static void kind_free(struct kind *k) {
    index_fini(k);
    set_fini(&k->objects);
    vec_fini(&k->hooks);
    free((void *)(uintptr_t)k->pub.name.p);
    free(k);
}

struct loading {
    struct store *s;
    int64_t newest;
    struct error *err;
    int rc;
};

static void load_one(void *arg, struct str kind, struct str ns, struct str name, struct str json, int64_t revision,
                     int64_t id) {
    struct loading *l = arg;
    if (l->rc)
        return;
    struct kind *k = kind_of(store_kind(l->s, kind));
    struct object *o = object_new(&k->pub, ns, name, revision, xstrndup(json.p, json.n), json.n, NULL, NULL);
    o->id = id ? id : revision;
    o->persisted = true;
    l->newest = MAX(l->newest, revision);
    l->s->objects++;
    l->s->bytes += object_size(o);
    struct object *twin = set_put(&k->objects, o);
    object_unref(o);
    if (!twin)
        return;
    l->rc = error_set(l->err, -EUCLEAN, "%.*s %.*s/%.*s is stored twice", STR_ARG(kind), STR_ARG(ns), STR_ARG(name));
    object_release(twin);
}

static void state_fini(struct store *s) {
    timer_stop(&s->sweep);
    hub_fini(s);
    for (size_t i = 0; i < s->kinds.n; i++)
        kind_free(s->kinds.items[i]);
    vec_fini(&s->kinds);
    vec_fini(&s->hooks);
    map_fini(&s->kind_names);
}

static int load(struct store *s, const struct store_options *o, int64_t *reserved, struct error *err) {
    struct loading l = {s, 0, err, 0};
    if (o->ops) {
        int rc = o->ops->load(o->log, load_one, &l, reserved, err);
        if (rc || l.rc)
            return rc ? rc : l.rc;
    }
    s->revision = MAX(MAX(l.newest, *reserved), 1); /* 0 is no revision a client may see */
    return 0;
}

int store_open(const struct store_options *o, struct store **out, struct error *err) {
    struct store *s = XNEW(struct store);
    s->loop = o->loop;
    s->on_fatal = o->on_fatal;
    s->arg = o->arg;
    pthread_mutex_init(&s->commit.lock, NULL);
    pthread_cond_init(&s->commit.wake, NULL);
    timer_init(&s->sweep, s->loop, on_sweep, s);
    int64_t reserved = 0;
    int rc = load(s, o, &reserved, err);
    hub_init(&s->hub, o, s->revision);
    if (!rc)
        rc = commit_init(s, o, reserved, err);
    if (!rc) {
        *out = s;
        return 0;
    }
    if (o->ops && o->ops->close)
        o->ops->close(o->log);
    state_fini(s);
    store_free(s);
    return rc;
}

void store_close(struct store *s) {
    if (!s)
        return;
    commit_fini(s);
    state_fini(s);
    s->closed = true;
    pthread_mutex_lock(&s->commit.lock);
    bool unused = s->posts == 0;
    pthread_mutex_unlock(&s->commit.lock);
    if (unused)
        store_free(s);
}

/* --- reading ------------------------------------------------------------------------------------------------------ */

int64_t store_revision(const struct store *s) {
    return s->revision;
}

int64_t store_revision_next(struct store *s) {
    return s->revision + 1;
}

struct object *store_peek(struct store *s, struct store_kind *k, struct str ns, struct str name) {
    store_reading(s);
    return set_find(&kind_of(k)->objects, ns, name);
}

struct object *store_get(struct store *s, struct store_kind *k, struct str ns, struct str name) {
    struct object *o = store_peek(s, k, ns, name);
    return o ? object_ref(o) : NULL;
}

/* Should a callback write all the same, the walk goes on behind the object it was at. */
void store_each(struct store *s, struct store_kind *k, struct str ns, struct str after_ns, struct str after_name,
                bool (*each)(void *arg, struct object *o), void *arg) {
    const struct set *set = &kind_of(k)->objects;
    store_reading(s);
    struct set_pos p = set_start();
    if (after_ns.p && (!ns.p || str_cmp(after_ns, ns) >= 0))
        p = set_seek(set, after_ns, after_name, true);
    else if (ns.p)
        p = set_seek(set, ns, STR(""), false);
    bool more = true;
    struct object *o;
    while (more && (o = set_at(set, p)) && (!ns.p || str_eq(o->ns, ns))) {
        uint32_t changes = set->changes;
        object_ref(o);
        more = each(arg, o);
        if (set->changes == changes)
            p = set_next(set, p);
        else
            p = set_seek(set, o->ns, o->name, true);
        object_unref(o);
    }
}

size_t store_count(const struct store *s, const struct store_kind *k) {
    return CONTAINER_OF(k, const struct kind, pub)->objects.count;
}

void store_stats(const struct store *s, struct store_stats *out) {
    *out = (struct store_stats){
        .objects = s->objects,
        .bytes = s->bytes,
        .commits = s->commit.commits,
        .committed_writes = s->commit.writes,
        .volatile_writes = s->volatile_writes,
        .watchers = s->hub.watchers,
        .history_events = s->hub.end - s->hub.first,
        .history_bytes = s->hub.bytes,
        .tree_bytes = object_trees_bytes(),
        .pending_writes = s->commit.pending->entries.n + (s->commit.flight ? s->commit.flight->entries.n : 0),
        .failing = s->commit.failure.code != 0,
    };
}

/* --- writing ------------------------------------------------------------------------------------------------------ */

void store_hook_add(struct store *s, struct store_kind *k, void (*fn)(void *arg, const struct event *e), void *arg) {
    struct hook h = {fn, arg};
    hook_vec *v = k ? &kind_of(k)->hooks : &s->hooks;
    vec_push(v, h);
}

static void run_hooks(const hook_vec *v, const struct event *e) {
    for (size_t i = 0; i < v->n; i++)
        v->items[i].fn(v->items[i].arg, e);
}

/* The state has changed: o is the new version or the last form, old what it replaced (the caller's reference). */
static void changed(struct store *s, enum event_type type, struct object *o, struct object *old,
                    enum store_durability d) {
    struct kind *k = kind_of(o->kind);
    bool deleted = type == EVENT_DELETED;
    index_update(k, old, deleted ? NULL : o);
    s->objects += (uint64_t)(!deleted) - (uint64_t)(old != NULL);
    s->bytes += (uint64_t)(deleted ? 0 : object_size(o)) - (uint64_t)(old ? object_size(old) : 0);
    if (d == STORE_DURABLE)
        commit_add(s, o, deleted);
    else
        s->volatile_writes++;
    hub_push(&s->hub, type, o, old);
    struct event e = {type, o, old};
    run_hooks(&k->hooks, &e);
    run_hooks(&s->hooks, &e);
    store_reading(s);
    store_kick(s);
}

/* The line of descent: what the log knows the object by, and where an earlier version may still wait for it. */
static void inherit(struct object *o, const struct object *old) {
    o->id = old->id;
    o->persisted = old->persisted;
    o->batch = old->batch;
    o->slot = old->slot;
}

struct object *store_put(struct store *s, struct store_kind *k, struct str ns, struct str name, char *json, size_t n,
                         struct json *tree, struct arena *arena, enum store_durability d) {
    struct object *o = object_new(k, ns, name, ++s->revision, json, n, tree, arena);
    struct object *old = set_put(&kind_of(k)->objects, o);
    if (old)
        inherit(o, old);
    if (d == STORE_DURABLE)
        o->persisted = true;
    changed(s, old ? EVENT_MODIFIED : EVENT_ADDED, o, old, d);
    object_release(old);
    return o;
}

/* What never was in the log need not be deleted there; what is there must be, or it would come back. */
void store_delete(struct store *s, struct store_kind *k, struct str ns, struct str name, char *last_json, size_t n,
                  enum store_durability d) {
    struct object *old = set_del(&kind_of(k)->objects, ns, name);
    if (!old) {
        free(last_json);
        return;
    }
    struct object *o = object_new(k, ns, name, ++s->revision, last_json, n, NULL, NULL);
    inherit(o, old);
    changed(s, EVENT_DELETED, o, old, old->persisted ? STORE_DURABLE : STORE_VOLATILE);
    object_unref(o);
    object_release(old);
}
