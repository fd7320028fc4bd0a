/* The verbs of one object: get, create, update, patch, delete. */
#include "api/meta.h"

/* --- options ----------------------------------------------------------------------------------------------------- */

bool request_dry_run(struct api_request *q) {
    for (size_t i = 0; i < q->params_n; i++) {
        if (!str_eq_c(q->params[i].key, "dryRun"))
            continue;
        if (!str_eq_c(q->params[i].value, "All") && q->params[i].value.n) {
            status_set(&q->status, q->arena, 422, "Invalid",
                       "CreateOptions.meta.k8s.io \"\" is invalid: dryRun: Unsupported value: [\"%.*s\"]: supported "
                       "values: \"All\"",
                       STR_ARG(q->params[i].value));
            reply_status(q, &q->status);
            return false;
        }
        q->dry_run = q->params[i].value.n > 0;
    }
    struct str manager = request_param(q, "fieldManager");
    if (manager.n > 128) {
        reply_error(q, 422, "Invalid", "fieldManager: Too long: may not be more than 128 bytes");
        return false;
    }
    return true;
}

static void write_start(struct api_request *q, struct api_write *w, struct str sub) {
    write_init(w, q->api, q->arena, &q->status, &q->who.user, q->r, q->t.ns, q->t.name, sub);
    w->dry_run = q->dry_run;
}

void request_finish_write(struct api_request *q, struct api_write *w, int rc, int code) {
    for (size_t i = 0; i < w->warnings_n; i++)
        request_warn(q, "%.*s", STR_ARG(w->warnings[i]));
    struct object *o = rc == 0 ? TAKE_PTR(w->out) : NULL;
    write_fini(w);
    if (rc < 0) {
        reply_status(q, &q->status);
        return;
    }
    reply_object(q, code, o);
    object_unref(o);
}

/* What a client asks for with resourceVersion must exist already. false: answered. */
bool request_version_reached(struct api_request *q, struct str rv) {
    int64_t v = 0, now = store_revision(q->api->store);
    if (rv.n == 0 || str_eq_c(rv, "0"))
        return true;
    if (!str_to_i64(rv, &v) || v < 0) {
        reply_error(q, 400, "BadRequest", "Invalid value: \"%.*s\": invalid resource version", STR_ARG(rv));
        return false;
    }
    if (v <= now)
        return true;
    status_set(&q->status, q->arena, 504, "Timeout", "Too large resource version: %lld, current: %lld", (long long)v,
               (long long)now);
    status_add_cause(&q->status, q->arena, "ResourceVersionTooLarge", STR("Too large resource version"), STR(""));
    json_set_int(q->arena, q->status.details, "retryAfterSeconds", 1);
    reply_status(q, &q->status);
    return false;
}

/* --- get --------------------------------------------------------------------------------------------------------- */

void rest_get(struct api_request *q) {
    if (!request_version_reached(q, request_param(q, "resourceVersion")))
        return;
    struct object *o = api_get(q->api, q->r, q->t.ns, q->t.name);
    if (!o) {
        status_not_found(&q->status, q->arena, q->r, q->t.name);
        reply_status(q, &q->status);
        return;
    }
    reply_object(q, 200, o);
    object_unref(o);
}

/* --- create and update ------------------------------------------------------------------------------------------- */

static bool check_body_namespace(struct api_request *q) {
    if (!q->r->namespaced)
        return true;
    struct str ns = json_str_at(q->object, "metadata.namespace");
    if (ns.n == 0 || str_eq(ns, q->t.ns))
        return true;
    reply_error(q, 400, "BadRequest",
                "the namespace of the provided object does not match the namespace sent on the request");
    return false;
}

static bool check_body_name(struct api_request *q) {
    struct str name = json_str_at(q->object, "metadata.name");
    if (name.n && !str_eq(name, q->t.name)) {
        reply_error(q, 400, "BadRequest", "the name of the object (%.*s) does not match the name on the URL (%.*s)",
                    STR_ARG(name), STR_ARG(q->t.name));
        return false;
    }
    if (name.n == 0)
        json_put(q->arena, q->object, "metadata.name", json_str(q->arena, q->t.name));
    return true;
}

void rest_create(struct api_request *q) {
    struct api_write w;
    if (!q->object) {
        reply_error(q, 400, "BadRequest", "the body of the request has no object");
        return;
    }
    if (!request_dry_run(q) || !check_body_namespace(q))
        return;
    write_start(q, &w, STR(""));
    w.obj = q->object;
    int rc = write_create(&w);
    request_finish_write(q, &w, rc, 201);
}

void rest_update(struct api_request *q) {
    struct api_write w;
    if (!q->object) {
        reply_error(q, 400, "BadRequest", "the body of the request has no object");
        return;
    }
    if (!request_dry_run(q) || !check_body_namespace(q) || !check_body_name(q))
        return;
    write_start(q, &w, q->t.subresource.p ? q->t.subresource : STR(""));
    w.obj = q->object;
    int rc = write_update(&w);
    request_finish_write(q, &w, rc, w.created ? 201 : 200);
}

static int patch_run(struct api_request *q, struct api_write *w) {
    struct schema_decode d;
    request_decode_options(q, &d);
    struct patch_request p = {.type = q->patch_type, .r = q->r, .patch = q->input, .decode = &d};
    w->old_object = api_get(q->api, q->r, q->t.ns, q->t.name);
    if (!w->old_object)
        return status_not_found(&q->status, q->arena, q->r, q->t.name);
    int rc = patch_object(w, &p, object_json(w->old_object));
    if (rc < 0)
        return rc;
    if (!request_strictness(q, q->r))
        return -EINVAL;
    struct str name = json_str_at(w->obj, "metadata.name"), ns = json_str_at(w->obj, "metadata.namespace");
    if (!str_eq(name, q->t.name) || (q->r->namespaced && !str_eq(ns, q->t.ns)))
        return status_bad_request(&q->status, q->arena,
                                  "the name or namespace of the object (%.*s) does not match the"
                                  " one on the URL (%.*s)",
                                  STR_ARG(name), STR_ARG(q->t.name));
    return write_update(w);
}

void rest_patch(struct api_request *q) {
    struct api_write w;
    if (q->patch_type == API_PATCH_APPLY) {
        reply_error(q, 415, "UnsupportedMediaType", "server-side apply is not available in this version of the server");
        return;
    }
    if (!q->input) {
        reply_error(q, 400, "BadRequest", "error decoding patch: the body of the request is empty");
        return;
    }
    if (!request_dry_run(q))
        return;
    write_start(q, &w, q->t.subresource.p ? q->t.subresource : STR(""));
    int rc = patch_run(q, &w);
    request_finish_write(q, &w, rc, 200);
}

/* --- delete ------------------------------------------------------------------------------------------------------ */

struct delete_request {
    struct api_delete_options o;
    struct str rv;
};

static bool delete_bad(struct api_request *q, const char *what) {
    reply_error(q, 422, "Invalid", "DeleteOptions.meta.k8s.io \"\" is invalid: %s", what);
    return false;
}

/* Options from the body, else from the query. false: answered. */
static bool delete_options(struct api_request *q, struct delete_request *d) {
    *d = (struct delete_request){.o = {.grace_period_s = -1}};
    if (!request_dry_run(q))
        return false;
    struct str grace = request_param(q, "gracePeriodSeconds"), policy = request_param(q, "propagationPolicy");
    struct str orphan = request_param(q, "orphanDependents");
    if (grace.n && (!str_to_i64(grace, &d->o.grace_period_s) || d->o.grace_period_s < 0))
        return delete_bad(q, "gracePeriodSeconds: Invalid value: must be greater than or equal to 0");
    d->o.propagation = policy;
    if (orphan.n)
        d->o.propagation = str_eq_c(orphan, "true") ? STR("Orphan") : STR("Background");
    const struct json *b = q->input;
    if (!json_is(b, JSON_OBJECT))
        return true;
    struct str kind = json_str_at(b, "kind");
    if (kind.n && !str_eq_c(kind, "DeleteOptions"))
        return delete_bad(q, "kind: Invalid value: the body must be DeleteOptions");
    const struct json *g = json_get_c(b, "gracePeriodSeconds");
    if (g && g->type != JSON_NULL && (d->o.grace_period_s = json_as_int(g, -1)) < 0)
        return delete_bad(q, "gracePeriodSeconds: Invalid value: must be greater than or equal to 0");
    const struct json *p = json_get_c(b, "propagationPolicy"), *od = json_get_c(b, "orphanDependents");
    if (json_is(p, JSON_STRING) && json_is(od, JSON_BOOL))
        return delete_bad(q, "orphanDependents and deletionPropagation cannot be both set");
    if (json_is(p, JSON_STRING))
        d->o.propagation = p->s;
    if (json_is(od, JSON_BOOL))
        d->o.propagation = od->b ? STR("Orphan") : STR("Background");
    d->o.uid = json_str_at(b, "preconditions.uid");
    d->rv = json_str_at(b, "preconditions.resourceVersion");
    if (json_len(json_get_c(b, "dryRun")) > 0)
        q->dry_run = true;
    return true;
}

static struct json *deleted_status(struct api_request *q, const struct object *o) {
    struct arena *a = q->arena;
    struct json *v = json_object(a), *d = json_object(a);
    json_set_cstr(a, v, "kind", "Status");
    json_set_cstr(a, v, "apiVersion", "v1");
    json_set_c(a, v, "metadata", json_object(a));
    json_set_cstr(a, v, "status", "Success");
    json_set_str(a, d, "name", o->name);
    if (q->r->group.n)
        json_set_str(a, d, "group", q->r->group);
    json_set_str(a, d, "kind", q->r->plural);
    json_set_str(a, d, "uid", o->uid);
    json_set_c(a, v, "details", d);
    return v;
}

static void send_deleted(struct api_request *q) {
    struct json *v = deleted_status(q, q->objects[0]);
    object_unref(q->objects[0]);
    free(q->objects);
    q->objects = NULL;
    q->objects_n = 0;
    q->accept.form = FORM_OBJECT;
    reply_json(q, 200, v);
}

void rest_delete(struct api_request *q) {
    struct api_write w;
    struct delete_request d;
    if (!delete_options(q, &d))
        return;
    write_start(q, &w, STR(""));
    w.precondition_rv = d.rv;
    int rc = write_delete(&w, &d.o);
    bool gone = w.gone;
    if (rc < 0 || !gone || w.b->returns_deleted) {
        request_finish_write(q, &w, rc, 200);
        return;
    }
    q->objects = xcalloc(1, sizeof(*q->objects));
    q->objects[0] = TAKE_PTR(w.out);
    q->objects_n = 1;
    write_fini(&w);
    request_when_durable(q, q->dry_run ? 0 : store_revision(q->api->store), send_deleted);
}

/* --- deletecollection -------------------------------------------------------------------------------------------- */

struct gather {
    struct selectors s;
    const struct schema_resource *r;
    VEC(struct object *) list;
};

static bool gather_one(void *arg, struct object *o) {
    struct gather *g = arg;
    if (selectors_empty(&g->s) || selectors_match(&g->s, g->r, object_json(o)))
        vec_push(&g->list, object_ref(o));
    return true;
}

/* Deletes q->objects[i], which becomes its last form. false: answered with the failure. */
static bool delete_one(struct api_request *q, const struct delete_request *d, size_t i) {
    struct api_write w;
    struct object *o = q->objects[i];
    cleanup_arena struct arena *scratch = arena_new(0, 0);
    write_init(&w, q->api, scratch, &q->status, &q->who.user, q->r, o->ns, o->name, STR(""));
    w.dry_run = q->dry_run;
    int rc = write_delete(&w, &d->o);
    if (rc == 0 && w.out) {
        q->objects[i] = TAKE_PTR(w.out);
        object_unref(o);
    }
    write_fini(&w);
    if (rc == 0 || rc == -ENOENT) { /* a deletion before it may have taken this one along */
        q->status = (struct api_status){0};
        return true;
    }
    for (size_t k = 0; k < q->objects_n; k++)
        object_unref(q->objects[k]);
    free(q->objects);
    q->objects = NULL;
    q->objects_n = 0;
    reply_status(q, &q->status);
    return false;
}

void rest_delete_collection(struct api_request *q) {
    struct gather g = {.r = q->r};
    struct delete_request d;
    if (!delete_options(q, &d) || !selectors_parse(q, &g.s))
        return;
    struct str ns = q->r->namespaced && q->t.ns.n ? q->t.ns : STR_NULL;
    store_each(q->api->store, api_resource(q->api, q->r)->kind, ns, STR_NULL, STR_NULL, gather_one, &g);
    q->objects = g.list.items;
    q->objects_n = g.list.n;
    q->list_version = str_printf(q->arena, "%lld", (long long)store_revision(q->api->store));
    for (size_t i = 0; i < q->objects_n; i++)
        if (!delete_one(q, &d, i))
            return;
    if (!q->objects)
        q->objects = xcalloc(1, sizeof(*q->objects));
    request_when_durable(q, store_revision(q->api->store), reply_list);
}
