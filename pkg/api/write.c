/*
 * The one path every write takes, whoever sends it: admission of the kind, defaults, validation, optimistic locking,
 * stamping, and the store. Nothing is applied unless all of it is accepted.
 */
#include "api/meta.h"

#define GENERATE_TRIES 8
#define GENERATE_PREFIX 58

void write_init(struct api_write *w, struct api *api, struct arena *a, struct api_status *st,
                const struct api_user *user, const struct schema_resource *r, struct str ns, struct str name,
                struct str sub) {
    *w = (struct api_write){.api = api, .arena = a, .status = st, .r = r->storage, .ns = ns, .name = name, .sub = sub};
    w->user = user ? user : &api_user_system;
    w->b = api_resource(api, r)->behaviour;
    if (!w->ns.p)
        w->ns = STR("");
    if (!r->namespaced)
        w->ns = STR("");
}

void write_fini(struct api_write *w) {
    object_unref(w->out);
    object_unref(w->old_object);
    w->out = w->old_object = NULL;
}

void write_warn(struct api_write *w, const char *fmt, ...) {
    if (w->warnings_n == API_WARNINGS_MAX)
        return;
    struct buf b = BUF_INIT;
    va_list ap;
    va_start(ap, fmt);
    buf_vprintf(&b, fmt, ap);
    va_end(ap);
    w->warnings[w->warnings_n++] = str_dup(w->arena, buf_str(&b));
    buf_fini(&b);
}

struct json *write_decode(struct arena *a, const struct schema_resource *r, const struct json *body,
                          const struct schema_decode *opt, struct error *err) {
    struct json *v = schema_decode(a, r->type, body, opt, err);
    if (!v)
        return NULL;
    schema_default(a, r, v);
    if (r != r->storage) {
        v = schema_convert(a, r, r->storage, v, err);
        if (!v)
            return NULL;
        schema_default(a, r->storage, v);
    }
    return v;
}

bool has_status(const struct schema_resource *r) {
    return schema_subresource(r, STR("status")) != NULL;
}

static struct store_kind *write_kind(const struct api_write *w) {
    return api_resource(w->api, w->r)->kind;
}

/* Bodies may leave apiVersion and kind out, stored objects never do. They stand first. */
static void stamp_type(struct api_write *w, struct json *obj) {
    struct arena *a = w->arena;
    struct str version =
        w->r->group.n ? str_printf(a, "%.*s/%.*s", STR_ARG(w->r->group), STR_ARG(w->r->version)) : w->r->version;
    if (obj->n >= 2 && json_get_c(obj, "apiVersion") && json_get_c(obj, "kind")) {
        json_set_str(a, obj, "apiVersion", version);
        json_set_str(a, obj, "kind", w->r->kind);
        return;
    }
    struct json *v = json_object(a);
    json_set_str(a, v, "kind", w->r->kind);
    json_set_str(a, v, "apiVersion", version);
    for (uint32_t i = 0; i < obj->n; i++)
        if (!json_get(v, obj->members[i].key))
            json_set(a, v, obj->members[i].key, obj->members[i].value);
    *obj = *v;
}

/* The stored form: metadata in order. */
static void stamp(struct api_write *w, struct json *obj) {
    struct arena *a = w->arena;
    struct json *m = json_ensure(a, obj, "metadata");
    json_del_c(m, "managedFields");
    json_del_c(m, "selfLink");
    if (w->dry_run)
        json_del_c(m, "resourceVersion");
    else
        json_set_c(a, m, "resourceVersion", json_strf(a, "%lld", (long long)store_revision_next(w->api->store)));
    if (w->dry_run && w->old)
        meta_keep(a, obj, w->old, "resourceVersion");
    meta_order(a, obj);
}

/* Text of the object as it is stored; NULL and the status when it is too large. */
static char *write_text(struct api_write *w, struct json *obj, size_t *n) {
    struct buf b = BUF_INIT;
    stamp(w, obj);
    json_write(&b, obj);
    if (b.failed || b.n > API_OBJECT_BYTES_MAX) {
        status_set(w->status, w->arena, 413, "RequestEntityTooLarge",
                   "Request entity too large: the object has %zu bytes, limit is %zu", b.n, API_OBJECT_BYTES_MAX);
        buf_fini(&b);
        return NULL;
    }
    char *p = buf_steal(&b, n);
    return xrealloc(p, *n + 1);
}

static int commit(struct api_write *w, enum store_durability d) {
    size_t n = 0;
    char *text = write_text(w, w->obj, &n);
    if (!text)
        return -E2BIG;
    struct store_kind *kind = write_kind(w);
    w->out = w->dry_run ? object_new(kind, w->ns, w->name, 0, text, n, NULL, NULL)
                        : store_put(w->api->store, kind, w->ns, w->name, text, n, NULL, NULL, d);
    return 0;
}

/* The object goes for good; last is its final form. */
static int commit_delete(struct api_write *w, struct json *last) {
    size_t n = 0;
    char *text = write_text(w, last, &n);
    if (!text)
        return -E2BIG;
    struct store_kind *kind = write_kind(w);
    char *copy = xstrndup(text, n);
    w->out = object_new(kind, w->ns, w->name, store_revision_next(w->api->store), copy, n, NULL, NULL);
    w->gone = true;
    if (w->dry_run)
        free(text);
    else
        store_delete(w->api->store, kind, w->ns, w->name, text, n, w->b->volatile_ ? STORE_VOLATILE : STORE_DURABLE);
    return 0;
}

static int writable(struct api_write *w) {
    struct error err = {0};
    if (w->dry_run || w->b->volatile_ || store_writable(w->api->store, &err) == 0)
        return 0;
    return status_internal(w->status, w->arena, "%s", err.msg);
}

static int validate(struct api_write *w) {
    struct field_errors errs;
    if (!w->sub.p)
        w->sub = STR("");
    int rc = 0;
    field_errors_init(&errs, w->arena);
    bool plain = w->sub.n == 0 || str_eq_c(w->sub, "status");
    /* A binding changes two fields that the API itself sets. Other subresources may change what an update may not: the
     * result is checked as a new object. */
    if (!str_eq_c(w->sub, "binding"))
        schema_validate(w->r, w->obj, plain ? w->old : NULL, plain ? w->sub : STR(""), &errs);
    if (w->b->validate)
        w->b->validate(w, &errs);
    if (errs.list.n)
        rc = status_invalid(w->status, w->arena, w->r, w->name, &errs);
    field_errors_fini(&errs);
    return rc;
}

/* --- create ------------------------------------------------------------------------------------------------------ */

/* NamespaceLifecycle: nothing is created in a namespace that is not there or on its way out. */
static int check_namespace(struct api_write *w) {
    if (!w->r->namespaced)
        return 0;
    if (w->ns.n == 0)
        return status_bad_request(w->status, w->arena, "an empty namespace may not be set during creation");
    struct object *o = api_peek(w->api, w->api->namespaces, STR(""), w->ns);
    if (!o)
        return status_not_found(w->status, w->arena, w->api->namespaces, w->ns);
    const struct json *ns = object_json(o);
    if (!meta_deleting(ns) && !str_eq_c(json_str_at(ns, "status.phase"), "Terminating"))
        return 0;
    int rc = status_forbidden(w->status, w->arena, w->r, w->name,
                              "unable to create new content in namespace %.*s because it is being terminated",
                              STR_ARG(w->ns));
    status_add_cause(w->status, w->arena, "NamespaceTerminating",
                     str_printf(w->arena, "namespace %.*s is being terminated", STR_ARG(w->ns)),
                     STR("metadata.namespace"));
    return rc;
}

static int choose_name(struct api_write *w, struct json *m) {
    struct str prefix = json_as_str(json_get_c(m, "generateName"));
    struct str name = json_as_str(json_get_c(m, "name"));
    if (name.n == 0 && prefix.n) {
        char suffix[6];
        struct str head = prefix.n > GENERATE_PREFIX ? str_n(prefix.p, GENERATE_PREFIX) : prefix;
        for (int i = 0; i < GENERATE_TRIES; i++) {
            rand_suffix(suffix, 5);
            name = str_printf(w->arena, "%.*s%s", STR_ARG(head), suffix);
            if (!store_peek(w->api->store, write_kind(w), w->ns, name))
                break;
        }
        json_set_str(w->arena, m, "name", name);
    }
    w->name = name;
    if (name.n == 0)
        return status_invalid_field(w->status, w->arena, w->r, STR(""), FIELD_REQUIRED, "metadata.name", NULL,
                                    "name or generateName is required");
    return 0;
}

/* A status nobody wrote yet, as Go writes it: {} or {"loadBalancer":{}}. */
static struct json *empty_status(struct api_write *w) {
    const struct schema_field *f = schema_field_find(w->r->type, STR("status"));
    struct json *v = f ? schema_decode(w->arena, f->type, json_object(w->arena), NULL, NULL) : NULL;
    return v ? v : json_object(w->arena);
}

static void stamp_new(struct api_write *w, struct json *m) {
    struct arena *a = w->arena;
    char uid[UUID_LEN + 1], now[TIME_RFC3339_MAX];
    rand_uuid(uid);
    json_set_cstr(a, m, "uid", uid);
    json_set_cstr(a, m, "creationTimestamp", time_now_rfc3339(now));
    json_del_c(m, "deletionTimestamp");
    json_del_c(m, "deletionGracePeriodSeconds");
    json_del_c(m, "generation");
    if (w->r->namespaced)
        json_set_str(a, m, "namespace", w->ns);
    else
        json_del_c(m, "namespace");
    if (w->r->tracks_generation)
        json_set_int(a, m, "generation", 1);
    if (has_status(w->r) && !w->b->keeps_status)
        json_set_c(a, w->obj, "status", empty_status(w));
}

int write_create(struct api_write *w) {
    struct json *m = json_ensure(w->arena, w->obj, "metadata");
    int rc = writable(w);
    if (rc < 0)
        return rc;
    if (!m)
        return status_bad_request(w->status, w->arena, "metadata must be an object");
    if (json_as_str(json_get_c(m, "resourceVersion")).n)
        return status_bad_request(w->status, w->arena, "resourceVersion should not be set on objects to be created");
    if ((rc = choose_name(w, m)) < 0 || (rc = check_namespace(w)) < 0)
        return rc;
    stamp_type(w, w->obj);
    stamp_new(w, m);
    if (w->b->create && (rc = w->b->create(w)) < 0)
        return rc;
    if ((rc = validate(w)) < 0)
        return rc;
    if (store_peek(w->api->store, write_kind(w), w->ns, w->name))
        return status_exists(w->status, w->arena, w->r, w->name);
    w->created = true;
    return commit(w, w->b->volatile_ ? STORE_VOLATILE : STORE_DURABLE);
}

/* --- update ------------------------------------------------------------------------------------------------------ */

static void copy_member(struct arena *a, struct json *to, const struct json *from, const char *member) {
    const struct json *v = json_get_c(from, member);
    if (v)
        json_set_c(a, to, member, json_copy(a, v));
    else
        json_del_c(to, member);
}

/* Containers of a resize request change resources and resizePolicy only. */
static void merge_resize(struct arena *a, struct json *base, const struct json *from, const char *list) {
    struct json *to = json_at(base, list), *src = json_at(from, list);
    for (size_t i = 0; i < json_len(to); i++)
        for (size_t k = 0; k < json_len(src); k++) {
            struct json *c = json_item(to, i);
            const struct json *s = json_item(src, k);
            if (!str_eq(json_str_at(c, "name"), json_str_at(s, "name")))
                continue;
            copy_member(a, c, s, "resources");
            copy_member(a, c, s, "resizePolicy");
        }
}

/* What each subresource lets through of a new object; the rest stays as stored. */
static void merge_subresource(struct api_write *w) {
    struct arena *a = w->arena;
    struct json *from = w->obj, *base;
    if (w->sub.n == 0) {
        if (has_status(w->r))
            copy_member(a, from, w->old, "status");
        return;
    }
    if (str_eq_c(w->sub, "binding"))
        return;
    base = json_copy(a, w->old);
    if (str_eq_c(w->sub, "status")) {
        copy_member(a, base, from, "status");
        if (w->b->status_metadata) {
            const struct json *m = json_get_c(from, "metadata");
            copy_member(a, json_get_c(base, "metadata"), m, "labels");
            copy_member(a, json_get_c(base, "metadata"), m, "annotations");
        }
    } else if (str_eq_c(w->sub, "finalize")) {
        const struct json *f = json_at(from, "spec.finalizers");
        json_put(a, base, "spec.finalizers", f ? json_copy(a, f) : json_array(a));
    } else if (str_eq_c(w->sub, "approval")) {
        const struct json *c = json_at(from, "status.conditions");
        json_put(a, base, "status.conditions", c ? json_copy(a, c) : json_array(a));
    } else if (str_eq_c(w->sub, "ephemeralcontainers")) {
        copy_member(a, json_ensure(a, base, "spec"), json_get_c(from, "spec"), "ephemeralContainers");
    } else if (str_eq_c(w->sub, "resize")) {
        merge_resize(a, base, from, "spec.containers");
        merge_resize(a, base, from, "spec.initContainers");
        copy_member(a, json_ensure(a, base, "spec"), json_get_c(from, "spec"), "resources");
    }
    json_put(a, base, "metadata.resourceVersion", json_str(a, json_str_at(from, "metadata.resourceVersion")));
    json_put(a, base, "metadata.uid", json_str(a, json_str_at(from, "metadata.uid")));
    w->obj = base;
}

#define CONFLICT_TEXT "the object has been modified; please apply your changes to the latest version and try again"

static int check_preconditions(struct api_write *w, const struct json *m) {
    struct str uid = json_as_str(json_get_c(m, "uid")), rv = json_as_str(json_get_c(m, "resourceVersion"));
    if (uid.n && !str_eq(uid, w->old_object->uid))
        return status_conflict(w->status, w->arena, w->r, w->name,
                               "Precondition failed: UID in precondition: %.*s, UID in object meta: %.*s", STR_ARG(uid),
                               STR_ARG(w->old_object->uid));
    if (rv.n == 0 && w->b->update_needs_version)
        return status_invalid_field(w->status, w->arena, w->r, w->name, FIELD_INVALID, "metadata.resourceVersion",
                                    json_cstr(w->arena, "0"), "must be specified for an update");
    int64_t asked = 0;
    if (rv.n && !str_to_i64(rv, &asked))
        return status_bad_request(w->status, w->arena, "Invalid value: \"%.*s\": resourceVersion is not a number",
                                  STR_ARG(rv));
    if (asked != 0 && asked != w->old_object->revision)
        return status_conflict(w->status, w->arena, w->r, w->name, CONFLICT_TEXT);
    return 0;
}

static int check_finalizers(struct api_write *w) {
    if (!meta_deleting(w->old))
        return 0;
    const struct json *f = json_at(w->obj, "metadata.finalizers");
    for (size_t i = 0; i < json_len(f); i++) {
        struct str s = json_as_str(json_item(f, i));
        if (!meta_has_finalizer(w->old, s.p))
            return status_invalid_field(w->status, w->arena, w->r, w->name, FIELD_FORBIDDEN, "metadata.finalizers",
                                        NULL,
                                        "no new finalizers can be added if the object is being deleted, found new"
                                        " finalizers []string{\"%.*s\"}",
                                        STR_ARG(s));
    }
    return 0;
}

static void keep_metadata(struct api_write *w) {
    static const char *const kept[] = {
        "uid",  "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "generation", "generateName",
        "name", "namespace",         "resourceVersion"};
    for (size_t i = 0; i < ARRAY_LEN(kept); i++)
        meta_keep(w->arena, w->obj, w->old, kept[i]);
    json_del_c(json_get_c(w->obj, "metadata"), "managedFields");
    json_del_c(json_get_c(w->obj, "metadata"), "selfLink");
}

/* Whether anything but metadata and status differs. */
static bool spec_changed(const struct json *now, const struct json *old) {
    size_t compared = 0;
    for (uint32_t i = 0; i < now->n; i++) {
        struct str k = now->members[i].key;
        if (str_eq_c(k, "metadata") || str_eq_c(k, "status") || str_eq_c(k, "apiVersion") || str_eq_c(k, "kind"))
            continue;
        if (!json_equal(now->members[i].value, json_get(old, k)))
            return true;
        compared++;
    }
    for (uint32_t i = 0; i < old->n; i++) {
        struct str k = old->members[i].key;
        compared -=
            !(str_eq_c(k, "metadata") || str_eq_c(k, "status") || str_eq_c(k, "apiVersion") || str_eq_c(k, "kind"));
    }
    return compared != 0;
}

static bool deletion_complete(const struct api_write *w) {
    return meta_deleting(w->obj) && json_len(json_at(w->obj, "metadata.finalizers")) == 0 &&
           json_int_at(w->obj, "metadata.deletionGracePeriodSeconds", 0) == 0 && !(w->b->held && w->b->held(w->obj));
}

int write_update(struct api_write *w) {
    int rc = writable(w);
    if (rc < 0)
        return rc;
    if (!w->old_object)
        w->old_object = store_get(w->api->store, write_kind(w), w->ns, w->name);
    if (!w->old_object) {
        if (!w->b->create_on_update || w->sub.n || json_str_at(w->obj, "metadata.resourceVersion").n)
            return status_not_found(w->status, w->arena, w->r, w->name);
        json_put(w->arena, w->obj, "metadata.name", json_str(w->arena, w->name));
        return write_create(w);
    }
    w->old = object_json(w->old_object);
    if (!json_ensure(w->arena, w->obj, "metadata"))
        return status_bad_request(w->status, w->arena, "metadata must be an object");
    merge_subresource(w);
    if ((rc = check_preconditions(w, json_get_c(w->obj, "metadata"))) < 0)
        return rc;
    stamp_type(w, w->obj);
    keep_metadata(w);
    if ((rc = check_finalizers(w)) < 0 || (w->b->update && (rc = w->b->update(w)) < 0))
        return rc;
    if (w->r->tracks_generation && !str_eq_c(w->sub, "binding") && spec_changed(w->obj, w->old))
        json_put(w->arena, w->obj, "metadata.generation",
                 json_int(w->arena, json_int_at(w->old, "metadata.generation", 0) + 1));
    if ((rc = validate(w)) < 0)
        return rc;
    if (deletion_complete(w))
        return commit_delete(w, w->obj);
    if (json_equal(w->obj, w->old)) {
        w->out = object_ref(w->old_object);
        return 0;
    }
    bool light = w->b->volatile_ || (w->b->heartbeat && w->b->heartbeat(w));
    return commit(w, light ? STORE_VOLATILE : STORE_DURABLE);
}

/* --- delete ------------------------------------------------------------------------------------------------------ */

static int check_delete_preconditions(struct api_write *w, const struct api_delete_options *o) {
    if (o->uid.n && !str_eq(o->uid, w->old_object->uid))
        return status_conflict(w->status, w->arena, w->r, w->name,
                               "Precondition failed: UID in precondition: %.*s, UID in object meta: %.*s",
                               STR_ARG(o->uid), STR_ARG(w->old_object->uid));
    struct str rv = json_str_at(w->old, "metadata.resourceVersion");
    if (w->precondition_rv.n && !str_eq(w->precondition_rv, rv))
        return status_conflict(w->status, w->arena, w->r, w->name,
                               "Precondition failed: ResourceVersion in precondition: %.*s, ResourceVersion in object"
                               " meta: %.*s",
                               STR_ARG(w->precondition_rv), STR_ARG(rv));
    return 0;
}

static int apply_propagation(struct api_write *w, struct str p) {
    if (p.n == 0)
        return 0;
    bool foreground = str_eq_c(p, "Foreground"), orphan = str_eq_c(p, "Orphan");
    if (!foreground && !orphan && !str_eq_c(p, "Background"))
        return status_invalid_field(w->status, w->arena, w->r, w->name, FIELD_NOT_SUPPORTED, "propagationPolicy",
                                    json_str(w->arena, p),
                                    "supported values: \"Foreground\", \"Background\", \"Orphan\"");
    meta_del_finalizer(w->obj, "foregroundDeletion");
    meta_del_finalizer(w->obj, "orphan");
    if (foreground)
        meta_add_finalizer(w->arena, w->obj, "foregroundDeletion");
    if (orphan)
        meta_add_finalizer(w->arena, w->obj, "orphan");
    return 0;
}

static void mark_deleting(struct api_write *w, int64_t grace) {
    struct json *m = json_get_c(w->obj, "metadata");
    char when[TIME_RFC3339_MAX];
    if (meta_deleting(w->obj) && json_int_at(w->obj, "metadata.deletionGracePeriodSeconds", 0) <= grace)
        return;
    int64_t generation = json_as_int(json_get_c(m, "generation"), 0);
    if (generation > 0 && !meta_deleting(w->obj))
        json_set_int(w->arena, m, "generation", generation + 1);
    json_set_cstr(w->arena, m, "deletionTimestamp", time_format((struct timespec){time_now_s() + grace, 0}, 0, when));
    json_set_int(w->arena, m, "deletionGracePeriodSeconds", grace);
}

int write_delete(struct api_write *w, const struct api_delete_options *o) {
    int rc = writable(w);
    if (rc < 0)
        return rc;
    w->old_object = store_get(w->api->store, write_kind(w), w->ns, w->name);
    if (!w->old_object)
        return status_not_found(w->status, w->arena, w->r, w->name);
    w->old = object_json(w->old_object);
    if ((rc = check_delete_preconditions(w, o)) < 0)
        return rc;
    w->obj = json_copy(w->arena, w->old);
    if ((rc = apply_propagation(w, o->propagation)) < 0 || (w->b->remove && (rc = w->b->remove(w)) < 0))
        return rc;
    int64_t grace = w->b->grace ? w->b->grace(w->old, o->grace_period_s) : 0;
    bool held = json_len(json_at(w->obj, "metadata.finalizers")) > 0 || (w->b->held && w->b->held(w->obj));
    if (grace <= 0 && !held)
        return commit_delete(w, w->obj);
    mark_deleting(w, grace);
    if (json_equal(w->obj, w->old)) {
        w->out = object_ref(w->old_object);
        return 0;
    }
    return commit(w, w->b->volatile_ ? STORE_VOLATILE : STORE_DURABLE);
}
