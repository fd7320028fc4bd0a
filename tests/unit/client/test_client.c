#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "client/client.h"

#define SPIN(l, cond)                        \
    do {                                     \
        while (!(cond))                      \
            uv_run(loop_uv(l), UV_RUN_ONCE); \
    } while (0)

/* --- a server without its HTTP: the core loop on a thread, the caller's loop turned by the test --- */
struct world {
    struct loop *core, *mine;
    struct store *store;
    struct api *api;
    struct client *client;
    char *key;
    const char *keys[2];
};

static struct json *parse(struct arena *a, const char *text) {
    struct error err = {0};
    struct json *v = json_parse(a, str_c(text), NULL, &err);
    if (!v)
        fail_msg("%s", err.msg);
    return v;
}

static void must_create(struct world *w, const char *resource, const char *ns, const char *text) {
    cleanup_arena struct arena *a = arena_new(0, 0);
    struct api_call c = {.api = w->api, .manager = "test", .arena = a};
    struct object *o = NULL;
    const struct schema_resource *r = schema_find_key(api_schema(w->api), resource);
    assert_non_null(r);
    int rc = api_create(&c, r, str_c(ns), parse(a, text), &o);
    if (rc && rc != -EEXIST)
        fail_msg("%.*s", STR_ARG(c.status.message));
    object_unref(o);
}

/* A log that remembers nothing and fails on command. */
static atomic_bool disk_full;
static int log_load(void *log,
                    void (*each)(void *arg, struct str kind, struct str ns, struct str name, struct str json,
                                 int64_t revision, int64_t id),
                    void *arg, int64_t *reserved, struct error *err) {
    return 0;
}
static int log_commit(void *log, const struct store_log_entry *e, size_t n, int64_t reserve, struct error *err) {
    return atomic_load(&disk_full) ? error_set(err, -ENOSPC, "disk full") : 0;
}
static void log_close(void *log) {}
static const struct store_log_ops log_ops = {log_load, log_commit, log_close};

static struct world *world_new(void) {
    struct world *w = XNEW(struct world);
    struct error err = {0};
    pki_init();
    w->core = loop_new("core");
    w->mine = loop_new("mine");
    struct store_options so = {.loop = w->core, .ops = &log_ops};
    assert_int_equal(store_open(&so, &w->store, &err), 0);
    assert_int_equal(pki_key_new(&w->key, &err), 0);
    w->keys[0] = w->key;
    struct api_options ao = {
        .loop = w->core,
        .store = w->store,
        .schema = schema_builtin(),
        .version_git = "v1.36.0+dory1",
        .service_cidr = "10.43.0.0/16",
        .cluster_cidr = "10.42.0.0/16",
        .cluster_dns = "10.43.0.10",
        .cluster_domain = "cluster.local",
        .node_port_first = 30000,
        .node_port_last = 32767,
        .sa_key_pem = w->key,
        .sa_public_pem = w->keys,
        .sa_issuer = "https://kubernetes.default.svc.cluster.local",
    };
    if (api_new(&ao, &w->api, &err))
        fail_msg("%s", err.msg);
    must_create(w, "namespaces", "", "{\"apiVersion\":\"v1\",\"kind\":\"Namespace\",\"metadata\":{\"name\":\"x\"}}");
    must_create(w, "serviceaccounts", "x",
                "{\"apiVersion\":\"v1\",\"kind\":\"ServiceAccount\",\"metadata\":{\"name\":\"builder\"}}");
    w->client = client_in_process(w->api, NULL, "node");
    assert_int_equal(loop_start(w->core, &err), 0);
    return w;
}

static void world_free(struct world *w) {
    client_free(w->client);
    loop_stop(w->core);
    loop_join(w->core);
    api_free(w->api);
    store_close(w->store);
    loop_free(w->mine);
    loop_free(w->core);
    free(w->key);
    free(w);
}

/* --- asking and waiting --- */
struct answer {
    bool done;
    int code, http;
    char reason[64], message[300];
    struct object *o;
};
static void answered(void *arg, int code, struct object *o, const struct api_status *status) {
    struct answer *a = arg;
    a->done = true;
    a->code = code;
    a->http = status->code;
    snprintf(a->reason, sizeof(a->reason), "%.*s", STR_ARG(status->reason));
    snprintf(a->message, sizeof(a->message), "%.*s", STR_ARG(status->message));
    a->o = o ? object_ref(o) : NULL;
}
static struct answer ask(struct world *w, enum client_verb verb, const char *resource, const char *name,
                         const char *body) {
    cleanup_arena struct arena *a = arena_new(0, 0);
    struct answer r = {0};
    struct client_request q = {verb,    resource, STR("x"), str_c(name), STR(""), body ? parse(a, body) : NULL,
                               w->mine, answered, &r};
    client_do(w->client, &q);
    assert_false(r.done);
    SPIN(w->mine, r.done);
    return r;
}
static struct answer config_map(struct world *w, enum client_verb verb, const char *name, const char *labels) {
    char text[400];
    snprintf(
        text, sizeof(text),
        "{\"apiVersion\":\"v1\",\"kind\":\"ConfigMap\",\"metadata\":{\"name\":\"%s\",\"namespace\":\"x\",\"labels\":{%s}}}",
        name, labels);
    return ask(w, verb, "configmaps", name, text);
}
static void ok(struct answer a) {
    if (a.code)
        fail_msg("%d %s: %s", a.http, a.reason, a.message);
    object_unref(a.o);
}
static void refused(struct answer a, int code, int http, const char *reason) {
    assert_int_equal(a.code, code);
    assert_int_equal(a.http, http);
    assert_string_equal(a.reason, reason);
    assert_true(a.message[0] != 0);
    assert_null(a.o);
}

/* --- an informer's diary: "+a ~a -a !" --- */
struct diary {
    char text[2000];
    size_t n;
    bool synced;
    struct client_informer *i;
    const char *stop_at;
};
static void note(void *arg, enum informer_event e, struct object *o, struct object *old) {
    struct diary *d = arg;
    size_t at = strlen(d->text);
    d->n++;
    if (e == INFORMER_SYNCED) {
        assert_null(o);
        d->synced = true;
        snprintf(d->text + at, sizeof(d->text) - at, "! ");
        return;
    }
    assert_int_equal(old != NULL, e != INFORMER_ADDED);
    if (e == INFORMER_MODIFIED)
        assert_true(o->revision > old->revision);
    struct object *now = client_informer_get(d->i, o->ns, o->name);
    assert_ptr_equal(now, e == INFORMER_DELETED ? NULL : o);
    if (at < 1900)
        snprintf(d->text + at, sizeof(d->text) - at, "%c%.*s ", "+~-"[e], STR_ARG(o->name));
    if (d->stop_at && str_eq_c(o->name, d->stop_at))
        client_informer_stop(d->i);
}
static void inform(struct world *w, struct diary *d, const char *resource, const char *fields, const char *labels) {
    struct informer_options o = {resource, fields, labels, w->mine, note, d};
    d->i = client_informer(w->client, &o);
    assert_int_equal(d->n, 0);
}
static bool count_one(void *arg, struct object *o) {
    ++*(size_t *)arg;
    return true;
}
static size_t cached(struct diary *d) {
    size_t n = 0;
    client_informer_each(d->i, count_one, &n);
    return n;
}
static void quiet(struct world *w) { /* what was under way has arrived */
    struct answer a = ask(w, CLIENT_GET, "namespaces", "none", NULL);
    object_unref(a.o);
    for (int i = 0; i < 3; i++)
        uv_run(loop_uv(w->mine), UV_RUN_NOWAIT);
}

static void an_informer_lists_and_then_follows(void **state) {
    struct world *w = world_new();
    struct diary d = {0};
    ok(config_map(w, CLIENT_CREATE, "a", ""));
    inform(w, &d, "configmaps", NULL, NULL);
    SPIN(w->mine, d.synced);
    assert_string_equal(d.text, "+a ! ");
    ok(config_map(w, CLIENT_CREATE, "b", ""));
    ok(config_map(w, CLIENT_UPDATE, "b", "\"k\":\"v\""));
    assert_non_null(client_informer_get(d.i, STR("x"), STR("a")));
    assert_null(client_informer_get(d.i, STR("y"), STR("a")));
    ok(ask(w, CLIENT_DELETE, "configmaps", "a", NULL));
    ok(config_map(w, CLIENT_CREATE, "c", ""));
    SPIN(w->mine, strstr(d.text, "+c"));
    assert_string_equal(d.text, "+a ! +b ~b -a +c ");
    assert_int_equal(cached(&d), 2);
    client_informer_stop(d.i);
    ok(config_map(w, CLIENT_CREATE, "d", ""));
    quiet(w);
    assert_null(strstr(d.text, "+d"));
    world_free(w);
}

static void selectors_let_objects_come_and_go(void **state) {
    struct world *w = world_new();
    struct diary labels = {0}, fields = {0};
    ok(config_map(w, CLIENT_CREATE, "a", "\"app\":\"web\""));
    ok(config_map(w, CLIENT_CREATE, "b", "\"app\":\"db\""));
    inform(w, &labels, "configmaps", NULL, "app=web");
    inform(w, &fields, "configmaps", "metadata.name=b", NULL);
    SPIN(w->mine, labels.synced && fields.synced);
    ok(config_map(w, CLIENT_UPDATE, "b", "\"app\":\"web\""));
    ok(config_map(w, CLIENT_UPDATE, "a", "\"app\":\"db\""));
    ok(config_map(w, CLIENT_UPDATE, "a", "\"app\":\"more\""));
    ok(config_map(w, CLIENT_UPDATE, "b", "\"app\":\"web\",\"x\":\"y\""));
    ok(ask(w, CLIENT_DELETE, "configmaps", "b", NULL));
    SPIN(w->mine, strstr(labels.text, "-b") && strstr(fields.text, "-b"));
    assert_string_equal(labels.text, "+a ! +b -a ~b -b ");
    assert_string_equal(fields.text, "+b ! ~b ~b -b ");
    client_informer_stop(labels.i);
    client_informer_stop(fields.i);
    world_free(w);
}

static void an_empty_list_syncs_and_nonsense_does_not(void **state) {
    struct world *w = world_new();
    struct diary empty = {0}, unknown = {0}, bad = {0};
    inform(w, &empty, "pods", NULL, NULL);
    inform(w, &unknown, "unicorns", NULL, NULL);
    inform(w, &bad, "pods", NULL, "a in (");
    SPIN(w->mine, empty.synced);
    quiet(w);
    assert_int_equal(unknown.n + bad.n, 0);
    client_informer_stop(empty.i);
    client_informer_stop(unknown.i);
    client_informer_stop(bad.i);
    world_free(w);
}

static void an_informer_may_be_stopped_in_its_callback(void **state) {
    struct world *w = world_new();
    struct diary d = {.stop_at = "b"}, early = {0};
    ok(config_map(w, CLIENT_CREATE, "a", ""));
    ok(config_map(w, CLIENT_CREATE, "b", ""));
    ok(config_map(w, CLIENT_CREATE, "c", ""));
    inform(w, &d, "configmaps", NULL, NULL);
    inform(w, &early, "configmaps", NULL, NULL);
    client_informer_stop(early.i); /* before anything came */
    SPIN(w->mine, strstr(d.text, "+b"));
    quiet(w);
    assert_string_equal(d.text, "+a +b ");
    assert_int_equal(early.n, 0);
    world_free(w);
}

/* What is not durable is not acted on; once there is space again everything comes by itself. */
static void nothing_is_told_that_a_crash_could_take_back(void **state) {
    struct world *w = world_new();
    struct diary before = {0}, after = {0};
    inform(w, &before, "configmaps", NULL, NULL);
    SPIN(w->mine, before.synced);
    atomic_store(&disk_full, true);
    struct answer a = config_map(w, CLIENT_CREATE, "a", "");
    refused(a, -ENOSPC, 500, "InternalError");
    assert_non_null(strstr(a.message, "etcdserver: no space"));
    inform(w, &after, "configmaps", NULL, NULL);
    quiet(w);
    assert_string_equal(before.text, "! ");
    assert_string_equal(after.text, "");
    atomic_store(&disk_full, false);
    SPIN(w->mine, after.synced && strstr(before.text, "+a"));
    assert_string_equal(after.text, "+a ! ");
    client_informer_stop(before.i);
    client_informer_stop(after.i);
    world_free(w);
}

struct flood {
    struct world *w;
    atomic_bool done;
};
static void write_many(void *arg) {
    struct flood *f = arg;
    struct store_kind *k = store_kind(f->w->store, STR("configmaps"));
    for (int i = 0; i < 40000; i++) {
        char name[16], *text;
        size_t n = (size_t)snprintf(name, sizeof(name), "f%d", i % 50);
        if (i == 39990) {
            char *last = xasprintf("{\"metadata\":{\"name\":\"f7\",\"namespace\":\"x\"}}");
            store_delete(f->w->store, k, STR("x"), STR("f7"), last, strlen(last), STORE_DURABLE);
            continue;
        }
        text = xasprintf("{\"metadata\":{\"name\":\"%s\",\"namespace\":\"x\",\"resourceVersion\":\"%lld\"}}", name,
                         (long long)store_revision_next(f->w->store));
        object_unref(
            store_put(f->w->store, k, STR("x"), str_n(name, n), text, strlen(text), NULL, NULL, STORE_VOLATILE));
    }
    atomic_store(&f->done, true);
}

/* The caller sleeps through more events than are kept for it: it gets the state instead. */
static void a_slow_caller_gets_the_state_anew(void **state) {
    struct world *w = world_new();
    struct diary d = {0};
    struct flood f = {w, false};
    inform(w, &d, "configmaps", NULL, NULL);
    SPIN(w->mine, d.synced);
    loop_post(w->core, write_many, &f);
    while (!atomic_load(&f.done))
        usleep(1000);
    usleep(50000); /* all of it was told to a caller that did not look */
    SPIN(w->mine, cached(&d) == 49);
    quiet(w);
    assert_true(d.n < 20000);
    assert_int_equal(cached(&d), 49);
    assert_null(client_informer_get(d.i, STR("x"), STR("f7")));
    client_informer_stop(d.i);
    world_free(w);
}

static void requests_are_answered_with_object_or_status(void **state) {
    struct world *w = world_new();
    struct answer a = config_map(w, CLIENT_CREATE, "a", "\"k\":\"1\"");
    assert_int_equal(a.code, 0);
    assert_true(str_eq_c(json_str_at(object_json(a.o), "metadata.labels.k"), "1"));
    int64_t revision = a.o->revision;
    object_unref(a.o);
    refused(config_map(w, CLIENT_CREATE, "a", ""), -EEXIST, 409, "AlreadyExists");
    refused(config_map(w, CLIENT_UPDATE, "none", ""), -ENOENT, 404, "NotFound");
    refused(ask(w, CLIENT_GET, "configmaps", "none", NULL), -ENOENT, 404, "NotFound");
    refused(ask(w, CLIENT_GET, "unicorns", "none", NULL), -ENOENT, 404, "NotFound");
    refused(ask(w, CLIENT_DELETE, "configmaps", "none", NULL), -ENOENT, 404, "NotFound");
    refused(
        ask(w, CLIENT_UPDATE, "configmaps", "a",
            "{\"apiVersion\":\"v1\",\"kind\":\"ConfigMap\",\"metadata\":{\"name\":\"a\",\"resourceVersion\":\"1\"}}"),
        -ESTALE, 409, "Conflict");
    a = ask(w, CLIENT_PATCH_MERGE, "configmaps", "a",
            "{\"data\":{\"x\":\"y\"},\"metadata\":{\"labels\":{\"k\":null}}}");
    assert_int_equal(a.code, 0);
    assert_true(a.o->revision > revision);
    assert_true(str_eq_c(json_str_at(object_json(a.o), "data.x"), "y"));
    assert_int_equal(json_str_at(object_json(a.o), "metadata.labels.k").n, 0);
    object_unref(a.o);
    ok(ask(w, CLIENT_PATCH_STRATEGIC, "configmaps", "a", "{\"data\":{\"z\":\"1\"}}"));
    a = ask(w, CLIENT_GET, "configmaps", "a", NULL);
    assert_true(str_eq_c(json_str_at(object_json(a.o), "data.z"), "1"));
    assert_true(str_eq_c(json_str_at(object_json(a.o), "data.x"), "y"));
    object_unref(a.o);
    a = ask(w, CLIENT_DELETE, "configmaps", "a", "{\"preconditions\":{\"uid\":\"other\"}}");
    assert_int_equal(a.http, 409);
    ok(ask(w, CLIENT_DELETE, "configmaps", "a", NULL));
    refused(ask(w, CLIENT_GET, "configmaps", "a", NULL), -ENOENT, 404, "NotFound");
    struct client_request deaf = {CLIENT_GET, "configmaps", STR("x"), STR("a"), STR(""), NULL, NULL, NULL, NULL};
    client_do(w->client, &deaf);
    quiet(w);
    world_free(w);
}

static void a_node_may_not_do_everything(void **state) {
    struct world *w = world_new();
    struct str groups[] = {STR("system:nodes"), STR("system:authenticated")};
    struct api_user node = {STR("system:node:n1"), STR(""), groups, 2};
    struct client *other = client_in_process(w->api, &node, "kubelet");
    client_free(w->client);
    w->client = other;
    struct answer a = config_map(w, CLIENT_CREATE, "a", "");
    assert_int_equal(a.http, 403);
    assert_string_equal(a.reason, "Forbidden");
    world_free(w);
}

static void events_are_recorded(void **state) {
    struct world *w = world_new();
    struct diary d = {0};
    struct answer a = config_map(w, CLIENT_CREATE, "a", "");
    inform(w, &d, "events", NULL, NULL);
    SPIN(w->mine, d.synced);
    client_event(w->client, a.o, "kubelet", "Warning", "Failed", "it did %s not work"); /* no format */
    SPIN(w->mine, strstr(d.text, "+a."));
    client_informer_stop(d.i);
    object_unref(a.o);
    world_free(w);
}

struct token {
    bool done;
    int code;
    char *text;
    int64_t expires_at_s;
};
static void got_token(void *arg, int code, const char *token, int64_t expires_at_s) {
    struct token *t = arg;
    *t = (struct token){true, code, token ? xstrdup(token) : NULL, expires_at_s};
}

static void tokens_are_bound_to_a_pod(void **state) {
    struct world *w = world_new();
    struct token t = {0};
    struct answer a = config_map(w, CLIENT_CREATE, "pod", ""); /* anything with a name and a UID */
    client_token(w->client, a.o, STR("builder"), STR("vault"), 3600, w->mine, got_token, &t);
    SPIN(w->mine, t.done);
    assert_int_equal(t.code, 0);
    assert_true(t.expires_at_s > time_now_s() + 3500 && t.expires_at_s < time_now_s() + 3700);
    cleanup_arena struct arena *arena = arena_new(0, 0);
    struct json *claims;
    assert_int_equal(jwt_verify(arena, str_c(t.text), w->keys, &claims, NULL), 0);
    assert_true(str_eq_c(json_str_at(claims, "sub"), "system:serviceaccount:x:builder"));
    assert_true(str_eq_c(json_as_str(json_item(json_get_c(claims, "aud"), 0)), "vault"));
    free(t.text);
    t = (struct token){0};
    client_token(w->client, a.o, STR("nobody"), STR(""), 3600, w->mine, got_token, &t);
    SPIN(w->mine, t.done);
    assert_int_equal(t.code, -ENOENT);
    assert_null(t.text);
    object_unref(a.o);
    world_free(w);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_informer_lists_and_then_follows),
        cmocka_unit_test(selectors_let_objects_come_and_go),
        cmocka_unit_test(an_empty_list_syncs_and_nonsense_does_not),
        cmocka_unit_test(an_informer_may_be_stopped_in_its_callback),
        cmocka_unit_test(nothing_is_told_that_a_crash_could_take_back),
        cmocka_unit_test(a_slow_caller_gets_the_state_anew),
        cmocka_unit_test(requests_are_answered_with_object_or_status),
        cmocka_unit_test(a_node_may_not_do_everything),
        cmocka_unit_test(events_are_recorded),
        cmocka_unit_test(tokens_are_bound_to_a_pod),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
