#include "client/client.h"

#include <stdlib.h>
#include <string.h>

#include "client/client_priv.h"

/* --- the client --------------------------------------------------------------------------------------------------- */

struct client *client_in_process(struct api *api, const struct api_user *user, const char *manager) {
    struct client *c = XNEW(struct client);
    ref_init(&c->ref);
    c->api = api;
    c->arena = arena_new(0, 0);
    if (!user)
        user = &api_user_system;
    struct str *groups = arena_alloc(c->arena, (user->groups_n + 1) * sizeof(*groups));
    for (size_t i = 0; i < user->groups_n; i++)
        groups[i] = str_dup(c->arena, user->groups[i]);
    c->user = (struct api_user){str_dup(c->arena, user->name), str_dup(c->arena, user->uid), groups, user->groups_n};
    c->manager = arena_strdup(c->arena, manager);
    /* Events of a node carry its name. */
    c->host = str_starts(c->user.name, STR("system:node:")) ? c->user.name.p + strlen("system:node:") : "";
    return c;
}

struct client *client_ref(struct client *c) {
    ref_get(&c->ref);
    return c;
}

void client_unref(struct client *c) {
    if (!c || !ref_put(&c->ref))
        return;
    arena_free(c->arena);
    free(c);
}

void client_free(struct client *c) {
    client_unref(c);
}

/* --- requests ----------------------------------------------------------------------------------------------------- */

/* A request on its way to the core thread and back; its arena holds it and everything it carries. */
struct job {
    struct client *client;
    struct arena *arena;
    struct client_request r; /* a copy */
    struct str resource;
    struct object *object;
    struct api_status status;
    int64_t revision; /* answered when this is durable */
    int code;
};

static void job_free(struct job *j) {
    object_unref(j->object);
    client_unref(j->client);
    arena_free(j->arena);
}

static void job_done(void *arg) {
    struct job *j = arg;
    j->r.done(j->r.arg, j->code, j->object, &j->status);
    job_free(j);
}

static void job_answer(struct job *j) {
    if (j->r.done)
        loop_post(j->r.loop, job_done, j);
    else
        job_free(j);
}

static void job_fail(struct job *j, int code, int http, const char *reason, struct str message) {
    j->code = code;
    j->status = (struct api_status){http, str_c(reason), message, NULL};
}

static void job_durable(void *arg, int code) {
    struct job *j = arg;
    struct error err = {0};
    if (code) {
        object_unref(TAKE_PTR(j->object));
        store_writable(api_store(j->client->api), &err);
        job_fail(j, code, 500, "InternalError",
                 err.msg[0] ? str_dup(j->arena, str_c(err.msg)) : STR("etcdserver: the write did not become durable"));
    }
    job_answer(j);
}

static struct str job_name(const struct job *j) {
    return j->r.name.n ? j->r.name : json_str_at(j->r.body, "metadata.name");
}

static int do_create(struct job *j, struct api_call *c, const struct schema_resource *r) {
    return api_create(c, r, j->r.ns, j->r.body, &j->object);
}

static int do_update(struct job *j, struct api_call *c, const struct schema_resource *r) {
    return api_update(c, r, j->r.ns, job_name(j), j->r.subresource, j->r.body, &j->object);
}

static int do_patch(struct job *j, struct api_call *c, const struct schema_resource *r) {
    enum api_patch_type type = j->r.verb == CLIENT_PATCH_MERGE ? API_PATCH_MERGE : API_PATCH_STRATEGIC;
    return api_patch(c, r, j->r.ns, job_name(j), j->r.subresource, type, j->r.body, &j->object);
}

static int do_delete(struct job *j, struct api_call *c, const struct schema_resource *r) {
    struct api_delete_options o = {
        .grace_period_s = json_int_at(j->r.body, "gracePeriodSeconds", -1),
        .propagation = json_str_at(j->r.body, "propagationPolicy"),
        .uid = json_str_at(j->r.body, "preconditions.uid"),
    };
    return api_delete(c, r, j->r.ns, j->r.name, &o, &j->object);
}

static int do_get(struct job *j, struct api_call *c, const struct schema_resource *r) {
    j->object = api_get(c->api, r, j->r.ns, j->r.name);
    if (j->object)
        return 0;
    c->status =
        (struct api_status){404, STR("NotFound"),
                            str_printf(j->arena, "%.*s \"%.*s\" not found", STR_ARG(r->key), STR_ARG(j->r.name)), NULL};
    return -ENOENT;
}

static int (*const verbs[])(struct job *j, struct api_call *c, const struct schema_resource *r) = {
    [CLIENT_CREATE] = do_create,         [CLIENT_UPDATE] = do_update, [CLIENT_PATCH_MERGE] = do_patch,
    [CLIENT_PATCH_STRATEGIC] = do_patch, [CLIENT_DELETE] = do_delete, [CLIENT_GET] = do_get,
};

/* On the core thread. */
static void job_run(void *arg) {
    struct job *j = arg;
    struct api *api = j->client->api;
    const struct schema_resource *r = schema_find_key(api_schema(api), j->resource.p);
    if (!r) {
        job_fail(j, -ENOENT, 404, "NotFound",
                 str_printf(j->arena, "the server has no resource \"%.*s\"", STR_ARG(j->resource)));
        job_answer(j);
        return;
    }
    struct api_call c = {.api = api, .user = &j->client->user, .manager = j->client->manager, .arena = j->arena};
    int rc = verbs[j->r.verb](j, &c, r);
    if (rc) {
        object_unref(TAKE_PTR(j->object));
        j->code = rc;
        j->status = c.status;
        job_answer(j);
        return;
    }
    struct store *s = api_store(api);
    store_when_durable(s, j->object ? j->object->revision : store_revision(s), job_durable, j);
}

void client_do(struct client *c, const struct client_request *r) {
    REQUIRE((size_t)r->verb < ARRAY_LEN(verbs));
    struct arena *a = arena_new(0, 0);
    struct job *j = ARENA_NEW(a, struct job);
    *j = (struct job){.client = client_ref(c), .arena = a, .r = *r, .resource = str_dup(a, str_c(r->resource))};
    j->r.resource = j->resource.p;
    j->r.ns = str_dup(a, r->ns);
    j->r.name = str_dup(a, r->name);
    j->r.subresource = str_dup(a, r->subresource);
    j->r.body = json_copy(a, r->body);
    loop_post(api_loop(c->api), job_run, j);
}

/* --- events ------------------------------------------------------------------------------------------------------- */

struct event_job {
    struct client *client;
    struct arena *arena;
    struct object *about;
    const char *component, *type, *reason, *message;
};

static void event_run(void *arg) {
    struct event_job *j = arg;
    api_event(j->client->api, j->about, j->component, j->client->host, j->type, j->reason, "%s", j->message);
    object_unref(j->about);
    client_unref(j->client);
    arena_free(j->arena);
}

void client_event(struct client *c, struct object *about, const char *component, const char *type, const char *reason,
                  const char *message) {
    struct arena *a = arena_new(512, 0);
    struct event_job *j = ARENA_NEW(a, struct event_job);
    *j = (struct event_job){client_ref(c),           a,
                            object_ref(about),       arena_strdup(a, component),
                            arena_strdup(a, type),   arena_strdup(a, reason),
                            arena_strdup(a, message)};
    loop_post(api_loop(c->api), event_run, j);
}

/* --- tokens ------------------------------------------------------------------------------------------------------- */

struct token_job {
    struct client *client;
    struct arena *arena;
    struct object *pod;
    struct str service_account, audience;
    int64_t expires_s, expires_at_s;
    struct loop *loop;
    void (*done)(void *arg, int code, const char *token, int64_t expires_at_s);
    void *arg;
    char *token;
    int code;
};

static void token_done(void *arg) {
    struct token_job *j = arg;
    j->done(j->arg, j->code, j->token, j->expires_at_s);
    if (j->token) { /* a secret does not stay in free memory */
        explicit_bzero(j->token, strlen(j->token));
        free(j->token);
    }
    object_unref(j->pod);
    client_unref(j->client);
    arena_free(j->arena);
}

static void token_run(void *arg) {
    struct token_job *j = arg;
    struct error err = {0};
    struct json *audiences = NULL;
    if (j->audience.n) {
        audiences = json_array(j->arena);
        json_append(j->arena, audiences, json_str(j->arena, j->audience));
    }
    j->code = api_token_create(j->client->api, j->pod->ns, j->service_account, audiences, j->expires_s, j->pod,
                               &j->token, &j->expires_at_s, &err);
    if (j->code)
        log_warn("client", "no token for service account %.*s/%.*s: %s", STR_ARG(j->pod->ns),
                 STR_ARG(j->service_account), err.msg[0] ? err.msg : strerror(-j->code));
    loop_post(j->loop, token_done, j);
}

void client_token(struct client *c, struct object *pod, struct str service_account, struct str audience,
                  int64_t expires_s, struct loop *loop,
                  void (*done)(void *arg, int code, const char *token, int64_t expires_at_s), void *arg) {
    struct arena *a = arena_new(512, 0);
    struct token_job *j = ARENA_NEW(a, struct token_job);
    *j = (struct token_job){.client = client_ref(c),
                            .arena = a,
                            .pod = object_ref(pod),
                            .service_account = str_dup(a, service_account),
                            .audience = str_dup(a, audience),
                            .expires_s = expires_s,
                            .loop = loop,
                            .done = done,
                            .arg = arg};
    loop_post(api_loop(c->api), token_run, j);
}
