/*
 * Garbage collection by owner references: a dependant without any living owner goes; foreground deletion waits for the
 * dependants; orphaning takes the references off. Keys of its queue are "<kind key> <namespace>" and the name.
 */
#include "controllers/internal.h"

#define FOREGROUND "foregroundDeletion"
#define ORPHAN "orphan"

struct gc {
    struct controllers *all;
};

static const struct schema_resource *resource_of(struct gc *g, const struct store_kind *k) {
    return schema_find_key(g->all->schema, k->name.p); /* names of kinds are NUL-terminated */
}

static void queue_object(struct controller *c, const struct object *o) {
    char where[400];
    if (o->kind->name.n + 1 + o->ns.n > sizeof(where))
        return;
    memcpy(where, o->kind->name.p, o->kind->name.n);
    where[o->kind->name.n] = ' ';
    memcpy(where + o->kind->name.n + 1, o->ns.p, o->ns.n);
    work_queue_add(c->queue, str_n(where, o->kind->name.n + 1 + o->ns.n), o->name);
}

/* --- owners ----------------------------------------------------------------------------------------------------- */

enum owner_state { OWNER_THERE, OWNER_WAITING, OWNER_GONE, OWNER_UNKNOWN };

static bool has_finalizer(const struct json *o, const char *name) {
    const struct json *list = json_at(o, "metadata.finalizers");
    for (size_t i = 0; i < json_len(list); i++)
        if (str_eq_c(json_as_str(json_item(list, i)), name))
            return true;
    return false;
}

static enum owner_state owner_state(struct gc *g, struct str ns, const struct json *ref) {
    struct str api_version = json_str_at(ref, "apiVersion"), group = STR(""), version = api_version;
    str_cut(api_version, '/', &group, &version);
    const struct schema_resource *r = schema_find_kind(g->all->schema, group, version, json_str_at(ref, "kind"));
    if (!r)
        return OWNER_UNKNOWN; /* not ours to judge */
    struct store *store = g->all->store;
    struct object *owner =
        store_peek(store, store_kind(store, r->key), r->namespaced ? ns : STR(""), json_str_at(ref, "name"));
    if (!owner || !str_eq(owner->uid, json_str_at(ref, "uid")))
        return OWNER_GONE;
    const struct json *o = object_json(owner);
    return object_deleting(o) && has_finalizer(o, FOREGROUND) ? OWNER_WAITING : OWNER_THERE;
}

struct target {
    struct controller *c;
    struct gc *g;
    struct api_call *call;
    const struct schema_resource *r;
    struct object *o;
};

static int delete_target(struct target *t, struct str propagation) {
    struct api_delete_options o = {.grace_period_s = -1, .propagation = propagation, .uid = t->o->uid};
    int rc = api_delete(t->call, t->r, t->o->ns, t->o->name, &o, NULL);
    return rc < 0 && t->call->status.code != 404 ? rc : 0;
}

static int write_target(struct target *t, const struct json *changed) {
    int rc = api_update(t->call, t->r, t->o->ns, t->o->name, STR(""), changed, NULL);
    return rc < 0 && t->call->status.code != 404 ? rc : 0;
}

/* Goes when no owner lives; else loses the references to those that do not. */
static int check_owners(struct target *t) {
    const struct json *o = object_json(t->o), *refs = json_at(o, "metadata.ownerReferences");
    size_t there = 0, gone = 0, waiting = 0;
    for (size_t i = 0; i < json_len(refs); i++) {
        enum owner_state s = owner_state(t->g, t->o->ns, json_item(refs, i));
        there += s == OWNER_THERE || s == OWNER_UNKNOWN;
        gone += s == OWNER_GONE;
        waiting += s == OWNER_WAITING;
    }
    if (json_len(refs) == 0 || (gone == 0 && waiting == 0) || object_deleting(o))
        return 0;
    if (there == 0)
        return delete_target(t, waiting ? STR("Foreground") : STR(""));
    struct json *copy = json_copy(t->call->arena, o), *kept = json_at(copy, "metadata.ownerReferences");
    for (size_t i = json_len(kept); i > 0; i--) {
        enum owner_state s = owner_state(t->g, t->o->ns, json_item(kept, i - 1));
        if (s == OWNER_GONE || s == OWNER_WAITING)
            json_remove(kept, i - 1);
    }
    return write_target(t, copy);
}

/* --- dependants ------------------------------------------------------------------------------------------------- */

static void find_dependants(struct gc *g, struct str uid, struct object_list *out) {
    for (size_t i = 0; i < schema_resources_n(g->all->schema); i++) {
        const struct schema_resource *r = schema_resource_at(g->all->schema, i);
        if (r->storage == r && (r->verbs & VERB_DELETE))
            store_index_each(g->all->store, store_kind(g->all->store, r->key), INDEX_OWNER, uid, object_list_add, out);
    }
}

static struct json *without_finalizer(struct arena *a, const struct json *o, const char *name) {
    struct json *copy = json_copy(a, o), *list = json_at(copy, "metadata.finalizers");
    for (size_t i = json_len(list); i > 0; i--)
        if (str_eq_c(json_as_str(json_item(list, i - 1)), name))
            json_remove(list, i - 1);
    return copy;
}

static int foreground(struct target *t) {
    struct object_list deps cleanup_objects = {0};
    size_t blocking = 0;
    find_dependants(t->g, t->o->uid, &deps);
    for (size_t i = 0; i < deps.n; i++) {
        const struct json *d = object_json(deps.items[i]), *refs = json_at(d, "metadata.ownerReferences");
        for (size_t k = 0; k < json_len(refs); k++)
            if (str_eq(json_str_at(json_item(refs, k), "uid"), t->o->uid))
                blocking += json_as_bool(json_get_c(json_item(refs, k), "blockOwnerDeletion"), false);
        if (!object_deleting(d))
            queue_object(t->c, deps.items[i]);
    }
    return blocking ? 0 : write_target(t, without_finalizer(t->call->arena, object_json(t->o), FOREGROUND));
}

static int orphan(struct target *t) {
    struct object_list deps cleanup_objects = {0};
    find_dependants(t->g, t->o->uid, &deps);
    for (size_t i = 0; i < deps.n; i++) {
        const struct schema_resource *r = resource_of(t->g, deps.items[i]->kind);
        struct json *copy = json_copy(t->call->arena, object_json(deps.items[i]));
        struct json *refs = json_at(copy, "metadata.ownerReferences");
        for (size_t k = json_len(refs); k > 0; k--)
            if (str_eq(json_str_at(json_item(refs, k - 1), "uid"), t->o->uid))
                json_remove(refs, k - 1);
        int rc = r ? api_update(t->call, r, deps.items[i]->ns, deps.items[i]->name, STR(""), copy, NULL) : 0;
        if (rc < 0 && t->call->status.code != 404)
            return rc;
    }
    return write_target(t, without_finalizer(t->call->arena, object_json(t->o), ORPHAN));
}

static int64_t reconcile(struct controller *c, struct str where, struct str name) {
    struct gc *g = c->state;
    struct str key, ns;
    if (!str_cut(where, ' ', &key, &ns))
        return 0;
    struct store_kind *kind = store_kind(g->all->store, key);
    struct object *o = store_get(g->all->store, kind, ns, name);
    if (!o)
        return 0;
    struct arena *a = arena_new(KiB(8), 0);
    struct api_call call = call_begin(c, a);
    struct target t = {.c = c, .g = g, .call = &call, .r = resource_of(g, kind), .o = o};
    const struct json *j = object_json(o);
    int rc = 0;
    if (t.r && object_deleting(j) && has_finalizer(j, ORPHAN))
        rc = orphan(&t);
    else if (t.r && object_deleting(j) && has_finalizer(j, FOREGROUND))
        rc = foreground(&t);
    else if (t.r)
        rc = check_owners(&t);
    int64_t again = rc < 0 ? call_failed(c, &call, "collecting") : 0;
    object_unref(o);
    arena_free(a);
    return again;
}

/* --- what makes us look ----------------------------------------------------------------------------------------- */

static void queue_owners(struct controller *c, const struct object *o, const struct json *refs) {
    struct gc *g = c->state;
    for (size_t i = 0; i < json_len(refs); i++) {
        const struct json *ref = json_item(refs, i);
        struct str api_version = json_str_at(ref, "apiVersion"), group = STR(""), version = api_version;
        str_cut(api_version, '/', &group, &version);
        const struct schema_resource *r = schema_find_kind(g->all->schema, group, version, json_str_at(ref, "kind"));
        struct store *s = g->all->store;
        struct object *owner =
            r ? store_peek(s, store_kind(s, r->key), r->namespaced ? o->ns : STR(""), json_str_at(ref, "name")) : NULL;
        if (owner && object_deleting(object_json(owner)))
            queue_object(c, owner);
    }
}

static void on_any(void *arg, const struct event *e) {
    struct controller *c = arg;
    const struct json *o = object_json(e->object), *refs = json_at(o, "metadata.ownerReferences");
    if (e->type == EVENT_DELETED) {
        struct object_list deps cleanup_objects = {0};
        find_dependants(c->state, e->object->uid, &deps);
        for (size_t i = 0; i < deps.n; i++)
            queue_object(c, deps.items[i]);
        queue_owners(c, e->object, refs);
    } else if (object_deleting(o) ? (has_finalizer(o, FOREGROUND) || has_finalizer(o, ORPHAN)) : json_len(refs) > 0) {
        if (!e->old || object_deleting(o) ||
            !json_equal(json_at(object_json(e->old), "metadata.ownerReferences"), refs))
            queue_object(c, e->object);
    }
}

static bool queue_stored(void *arg, struct object *o) {
    on_any(arg, &(struct event){EVENT_ADDED, o, NULL});
    return true;
}

struct controller *gc_controller_new(struct controllers *all) {
    struct gc *g = XNEW(struct gc);
    g->all = all;
    struct controller *c = controller_new(all, "generic-garbage-collector", reconcile, g);
    for (size_t i = 0; i < schema_resources_n(all->schema); i++) {
        const struct schema_resource *r = schema_resource_at(all->schema, i);
        if (r->storage != r || !(r->verbs & VERB_DELETE))
            continue;
        struct kind_ref k = {r, store_kind(all->store, r->key)};
        index_by_owner(all, &k);
        store_each(all->store, k.kind, STR_NULL, STR_NULL, STR_NULL, queue_stored, c);
    }
    store_hook_add(all->store, NULL, on_any, c);
    return c;
}
