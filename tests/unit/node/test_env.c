#include "../api/helper.h"

#include "client/client.h"
#include "node/node_priv.h"

/* A pod's container over informers that are fed by an API in this process. */
struct bench {
    struct fixture *f;
    struct node node;
    struct pod pod;
    struct slot slot;
    struct image image;
    struct arena *a;
    struct env env;
    int synced;
    char message[300];
};
static struct bench b;

static void on_object(void *arg, enum informer_event e, struct object *o, struct object *old) {
    b.synced += e == INFORMER_SYNCED;
}

static struct client_informer *inform(const char *resource) {
    return client_informer(b.node.client,
                           &(struct informer_options){.resource = resource, .loop = b.f->loop, .fn = on_object});
}

#define NS "/api/v1/namespaces/default"

static int start(void **state) {
    set_up(state);
    b = (struct bench){.f = *state, .a = arena_new(0, 0)};
    expect(b.f, 201, "POST", NS "/configmaps", "{\"metadata\":{\"name\":\"cm\"},\"data\":{\"K\":\"from-cm\"}}");
    expect(b.f, 201, "POST", NS "/secrets", "{\"metadata\":{\"name\":\"s\"},\"data\":{\"PW\":\"aHVudGVyMg==\"}}");
    expect(
        b.f, 201, "POST", NS "/services",
        "{\"metadata\":{\"name\":\"my-db\"},\"spec\":{\"clusterIP\":\"10.43.0.77\",\"ports\":[{\"name\":\"sql\",\"port\":"
        "5432}]}}");
    b.node.o = (struct node_options){.name = "n1", .address = "192.0.2.5", .cluster_domain = "cluster.local"};
    b.node.client = client_in_process(b.f->api, NULL, "test");
    b.node.config_maps = inform("configmaps");
    b.node.secrets = inform("secrets");
    b.node.services = inform("services");
    int64_t until = time_mono_ms() + 5000;
    while (b.synced < 3 && time_mono_ms() < until)
        uv_run(loop_uv(b.f->loop), UV_RUN_NOWAIT);
    assert_int_equal(b.synced, 3);
    return 0;
}
static int stop(void **state) {
    object_unref(b.pod.object);
    client_informer_stop(b.node.config_maps);
    client_informer_stop(b.node.secrets);
    client_informer_stop(b.node.services);
    turn(b.f);
    client_free(b.node.client);
    turn(b.f);
    arena_free(b.a);
    return tear_down(state);
}

/* Environment of a container with these members, in a pod with those of spec. */
static int make(const char *container, const char *spec) {
    char *text = xasprintf(
        "{\"metadata\":{\"name\":\"p\",\"namespace\":\"default\",\"uid\":\"u1\",\"labels\":{\"app\":\"web\"}},"
        "\"spec\":{%s\"containers\":[{\"name\":\"c\",%s}]}}",
        spec, container);
    object_unref(b.pod.object);
    b.pod.node = &b.node;
    b.pod.ns = STR("default");
    b.pod.name = STR("p");
    snprintf(b.pod.net.ips[0], sizeof(b.pod.net.ips[0]), "10.42.0.9");
    b.pod.object = object_new(NULL, STR("default"), STR("p"), 1, text, strlen(text), NULL, NULL);
    b.image.config = json_parse(b.a, STR("{\"Env\":[\"PATH=/bin\",\"K=image\"]}"), NULL, NULL);
    b.slot = (struct slot){.pod = &b.pod, .image = &b.image, .name = STR("c")};
    b.slot.spec = json_item(json_at(object_json(b.pod.object), "spec.containers"), 0);
    assert_non_null(b.slot.spec);
    b.env = (struct env){0};
    b.message[0] = 0;
    return env_make(&b.slot, b.a, &b.env, b.message, sizeof(b.message));
}
static const char *value(const char *name) {
    for (size_t i = 0; i < b.env.n; i++) {
        struct str key, v;
        if (str_cut(b.env.items[i], '=', &key, &v) && str_eq_c(key, name))
            return arena_strndup(b.a, v.p, v.n);
    }
    return "(none)";
}

static void sources_override_in_order(void **state) {
    assert_int_equal(
        make("\"envFrom\":[{\"configMapRef\":{\"name\":\"cm\"}},{\"prefix\":\"P_\",\"secretRef\":{\"name\":\"s\"}}],"
             "\"env\":[{\"name\":\"A\",\"value\":\"1\"},{\"name\":\"PATH\",\"value\":\"/mine\"}]",
             ""),
        0);
    assert_string_equal(value("K"), "from-cm");
    assert_string_equal(value("P_PW"), "hunter2");
    assert_string_equal(value("PATH"), "/mine");
    assert_string_equal(value("HOSTNAME"), "p");
    assert_string_equal(value("A"), "1");
}

static void variables_are_expanded(void **state) {
    assert_int_equal(
        make("\"env\":[{\"name\":\"A\",\"value\":\"1\"},{\"name\":\"B\",\"value\":\"$(A)-$$(A)-$(NONE)-$(A-$x-$\"},"
             "{\"name\":\"C\",\"value\":\"$(D)\"},{\"name\":\"D\",\"value\":\"later\"}]",
             ""),
        0);
    assert_string_equal(value("B"), "1-$(A)-$(NONE)-$(A-$x-$");
    assert_string_equal(value("C"), "$(D)"); /* not defined yet */
}

static void keys_and_fields(void **state) {
    assert_int_equal(
        make(
            "\"resources\":{\"limits\":{\"memory\":\"64Mi\",\"cpu\":\"1500m\"}},\"env\":["
            "{\"name\":\"PW\",\"valueFrom\":{\"secretKeyRef\":{\"name\":\"s\",\"key\":\"PW\"}}},"
            "{\"name\":\"OPT\",\"valueFrom\":{\"configMapKeyRef\":{\"name\":\"none\",\"key\":\"x\",\"optional\":true}}},"
            "{\"name\":\"NAME\",\"valueFrom\":{\"fieldRef\":{\"fieldPath\":\"metadata.name\"}}},"
            "{\"name\":\"IP\",\"valueFrom\":{\"fieldRef\":{\"fieldPath\":\"status.podIP\"}}},"
            "{\"name\":\"LABEL\",\"valueFrom\":{\"fieldRef\":{\"fieldPath\":\"metadata.labels['app']\"}}},"
            "{\"name\":\"NO_LABEL\",\"valueFrom\":{\"fieldRef\":{\"fieldPath\":\"metadata.labels['none']\"}}},"
            "{\"name\":\"MI\",\"valueFrom\":{\"resourceFieldRef\":{\"resource\":\"limits.memory\",\"divisor\":\"1Mi\"}}},"
            "{\"name\":\"CPU\",\"valueFrom\":{\"resourceFieldRef\":{\"resource\":\"limits.cpu\"}}}]",
            ""),
        0);
    assert_string_equal(value("PW"), "hunter2");
    assert_string_equal(value("OPT"), "(none)");
    assert_string_equal(value("NAME"), "p");
    assert_string_equal(value("IP"), "10.42.0.9");
    assert_string_equal(value("LABEL"), "web");
    assert_string_equal(value("NO_LABEL"), "");
    assert_string_equal(value("MI"), "64");
    assert_string_equal(value("CPU"), "2"); /* rounded up */
}

static void says_what_is_missing(void **state) {
    assert_int_equal(make("\"envFrom\":[{\"configMapRef\":{\"name\":\"none\"}}]", ""), -ENOENT);
    assert_string_equal(b.message, "configmap \"none\" not found");
    assert_int_equal(
        make("\"env\":[{\"name\":\"A\",\"valueFrom\":{\"secretKeyRef\":{\"name\":\"none\",\"key\":\"k\"}}}]", ""),
        -ENOENT);
    assert_string_equal(b.message, "secret \"none\" not found");
    assert_int_equal(
        make("\"env\":[{\"name\":\"A\",\"valueFrom\":{\"configMapKeyRef\":{\"name\":\"cm\",\"key\":\"k\"}}}]", ""),
        -ENOENT);
    assert_string_equal(b.message, "couldn't find key k in configmap default/cm");
    assert_int_equal(make("\"env\":[{\"name\":\"A\",\"valueFrom\":{\"fieldRef\":{\"fieldPath\":\"no.such\"}}}]", ""),
                     -ENOENT);
}

static void services_are_linked(void **state) {
    assert_int_equal(make("\"image\":\"i\"", ""), 0);
    assert_string_equal(value("MY_DB_SERVICE_HOST"), "10.43.0.77");
    assert_string_equal(value("MY_DB_SERVICE_PORT"), "5432");
    assert_string_equal(value("MY_DB_SERVICE_PORT_SQL"), "5432");
    assert_string_equal(value("MY_DB_PORT_5432_TCP"), "tcp://10.43.0.77:5432");
    assert_string_equal(value("KUBERNETES_SERVICE_HOST"), "10.43.0.1");
    assert_int_equal(make("\"image\":\"i\"", "\"enableServiceLinks\":false,"), 0);
    assert_string_equal(value("MY_DB_SERVICE_HOST"), "(none)");
    assert_string_equal(value("KUBERNETES_SERVICE_HOST"), "10.43.0.1");
}

int main(void) {
#define TEST(fn) cmocka_unit_test_setup_teardown(fn, start, stop)
    const struct CMUnitTest tests[] = {
        TEST(sources_override_in_order), TEST(variables_are_expanded), TEST(keys_and_fields),
        TEST(says_what_is_missing),      TEST(services_are_linked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
