#include "helper.h"

#define CM "/api/v1/namespaces/default/configmaps"
#define PODS "/api/v1/namespaces/default/pods"
#define DEPS "/apis/apps/v1/namespaces/default/deployments"

static const char pod_json[] =
    "{\"metadata\":{\"name\":\"p\"},\"spec\":{\"containers\":[{\"name\":\"c\",\"image\":\"i\"}]}}";
static const char dep_json[] =
    "{\"metadata\":{\"name\":\"d\"},\"spec\":{\"replicas\":2,\"selector\":{\"matchLabels\":{\"a\":\"b\"}},\"template\":{"
    "\"metadata\":{\"labels\":{\"a\":\"b\"}},\"spec\":{\"containers\":[{\"name\":\"c\",\"image\":\"i\"}]}}}}";

static void create_get_delete(void **state) {
    struct fixture *f = *state;
    struct answer *x = ask(f, "POST", CM, NULL, "{\"metadata\":{\"name\":\"x\"},\"data\":{\"k\":\"v\"}}");
    assert_int_equal(x->code, 201);
    assert_string_equal(text(x, "kind"), "ConfigMap");
    assert_string_equal(text(x, "apiVersion"), "v1");
    assert_string_equal(text(x, "metadata.namespace"), "default");
    assert_int_equal(json_str_at(x->json, "metadata.uid").n, 36);
    assert_true(json_str_at(x->json, "metadata.creationTimestamp").n > 0);
    struct answer *y = ask(f, "GET", CM "/x", NULL, NULL);
    assert_int_equal(y->code, 200);
    assert_string_equal(text(y, "metadata.resourceVersion"), text(x, "metadata.resourceVersion"));
    assert_string_equal(text(y, "data.k"), "v");
    answer_free(x);
    answer_free(y);
    x = ask(f, "DELETE", CM "/x", NULL, NULL);
    assert_int_equal(x->code, 200);
    assert_string_equal(text(x, "status"), "Success");
    assert_string_equal(text(x, "details.kind"), "configmaps");
    answer_free(x);
    expect_message(f, 404, "GET", CM "/x", NULL, NULL, "configmaps \"x\" not found");
    expect_message(f, 404, "GET", DEPS "/x", NULL, NULL, "deployments.apps \"x\" not found");
}

static void duplicate_is_a_conflict(void **state) {
    struct fixture *f = *state;
    expect(f, 201, "POST", CM, "{\"metadata\":{\"name\":\"x\"}}");
    struct answer *x = ask(f, "POST", CM, NULL, "{\"metadata\":{\"name\":\"x\"}}");
    assert_int_equal(x->code, 409);
    assert_string_equal(text(x, "reason"), "AlreadyExists");
    assert_string_equal(text(x, "message"), "configmaps \"x\" already exists");
    answer_free(x);
}

static void generate_name(void **state) {
    struct fixture *f = *state;
    struct answer *x = ask(f, "POST", CM, NULL, "{\"metadata\":{\"generateName\":\"web-\"}}");
    assert_int_equal(x->code, 201);
    assert_true(str_starts(json_str_at(x->json, "metadata.name"), STR("web-")));
    assert_int_equal(json_str_at(x->json, "metadata.name").n, 9);
    answer_free(x);
    expect(f, 422, "POST", CM, "{\"metadata\":{}}");
}

static void optimistic_locking(void **state) {
    struct fixture *f = *state;
    struct answer *x = ask(f, "POST", CM, NULL, "{\"metadata\":{\"name\":\"x\"}}");
    char *rv = xstrdup(text(x, "metadata.resourceVersion"));
    answer_free(x);
    cleanup_free char *body =
        xasprintf("{\"metadata\":{\"name\":\"x\",\"resourceVersion\":\"%s\"},\"data\":{\"a\":\"1\"}}", rv);
    expect(f, 200, "PUT", CM "/x", body);
    x = ask(f, "PUT", CM "/x", NULL, body);
    assert_int_equal(x->code, 409);
    assert_string_equal(text(x, "reason"), "Conflict");
    assert_string_equal(text(x, "message"),
                        "Operation cannot be fulfilled on configmaps \"x\": the object has been modified; please apply "
                        "your changes to the latest version and try again");
    answer_free(x);
    expect(f, 200, "PUT", CM "/x", "{\"metadata\":{\"name\":\"x\"},\"data\":{\"a\":\"2\"}}");
    expect(f, 404, "PUT", CM "/none", "{\"metadata\":{\"name\":\"none\"}}");
    expect(f, 400, "PUT", CM "/x", "{\"metadata\":{\"name\":\"y\"}}");
    expect(f, 409, "PUT", CM "/x", "{\"metadata\":{\"name\":\"x\",\"uid\":\"other\"}}");
    free(rv);
}

static void unchanged_update_writes_nothing(void **state) {
    struct fixture *f = *state;
    expect(f, 201, "POST", CM, "{\"metadata\":{\"name\":\"x\"},\"data\":{\"a\":\"1\"}}");
    int64_t before = store_revision(f->store);
    expect(f, 200, "PUT", CM "/x", "{\"metadata\":{\"name\":\"x\"},\"data\":{\"a\":\"1\"}}");
    assert_int_equal(store_revision(f->store), before);
}

static void patches(void **state) {
    struct fixture *f = *state;
    expect(f, 201, "POST", CM, "{\"metadata\":{\"name\":\"x\"},\"data\":{\"a\":\"1\",\"b\":\"2\"}}");
    struct answer *x =
        ask(f, "PATCH", CM "/x", "Content-Type: application/merge-patch+json", "{\"data\":{\"a\":null,\"c\":\"3\"}}");
    assert_int_equal(x->code, 200);
    assert_null(json_at(x->json, "data.a"));
    assert_string_equal(text(x, "data.c"), "3");
    answer_free(x);
    x = ask(
        f, "PATCH", CM "/x", "Content-Type: application/json-patch+json",
        "[{\"op\":\"test\",\"path\":\"/data/c\",\"value\":\"3\"},{\"op\":\"replace\",\"path\":\"/data/c\",\"value\":\"4\"}]");
    assert_int_equal(x->code, 200);
    assert_string_equal(text(x, "data.c"), "4");
    answer_free(x);
    expect_as(f, ADMIN_TOKEN, 422, "PATCH", CM "/x", "Content-Type: application/json-patch+json",
              "[{\"op\":\"test\",\"path\":\"/data/c\",\"value\":\"3\"}]");
    expect_as(f, ADMIN_TOKEN, 400, "PATCH", CM "/x", "Content-Type: application/merge-patch+json", "[1]");
    expect_as(f, ADMIN_TOKEN, 400, "PATCH", CM "/x", "Content-Type: application/merge-patch+json", "");
    expect_as(f, ADMIN_TOKEN, 415, "PATCH", CM "/x", "Content-Type: text/plain", "{}");
    expect_as(f, ADMIN_TOKEN, 415, "PATCH", CM "/none", "Content-Type: application/apply-patch+yaml", "{}");
    expect_as(f, ADMIN_TOKEN, 409, "PATCH", CM "/x", "Content-Type: application/merge-patch+json",
              "{\"metadata\":{\"resourceVersion\":\"1\"}}");
    expect_as(f, ADMIN_TOKEN, 400, "PATCH", CM "/x", "Content-Type: application/merge-patch+json",
              "{\"metadata\":{\"name\":\"y\"}}");
    expect_as(f, ADMIN_TOKEN, 404, "PATCH", CM "/none", "Content-Type: application/merge-patch+json", "{}");
}

static void status_is_apart(void **state) {
    struct fixture *f = *state;
    expect(f, 201, "POST", DEPS, dep_json);
    struct answer *x = ask(f, "PATCH", DEPS "/d", "Content-Type: application/merge-patch+json",
                           "{\"spec\":{\"replicas\":3},\"status\":{\"replicas\":9}}");
    assert_int_equal(x->code, 200);
    assert_int_equal(json_int_at(x->json, "metadata.generation", 0), 2);
    assert_int_equal(json_int_at(x->json, "status.replicas", 0), 0);
    answer_free(x);
    x = ask(f, "PATCH", DEPS "/d/status", "Content-Type: application/merge-patch+json",
            "{\"spec\":{\"replicas\":7},\"status\":{\"replicas\":9}}");
    assert_int_equal(x->code, 200);
    assert_int_equal(json_int_at(x->json, "metadata.generation", 0), 2);
    assert_int_equal(json_int_at(x->json, "spec.replicas", 0), 3);
    assert_int_equal(json_int_at(x->json, "status.replicas", 0), 9);
    answer_free(x);
}

static void scale(void **state) {
    struct fixture *f = *state;
    expect(f, 201, "POST", DEPS, dep_json);
    struct answer *x = ask(f, "GET", DEPS "/d/scale", NULL, NULL);
    assert_int_equal(x->code, 200);
    assert_string_equal(text(x, "kind"), "Scale");
    assert_string_equal(text(x, "apiVersion"), "autoscaling/v1");
    assert_int_equal(json_int_at(x->json, "spec.replicas", 0), 2);
    assert_string_equal(text(x, "status.selector"), "a=b");
    answer_free(x);
    x = ask(f, "PATCH", DEPS "/d/scale", "Content-Type: application/merge-patch+json", "{\"spec\":{\"replicas\":5}}");
    assert_int_equal(x->code, 200);
    assert_int_equal(json_int_at(x->json, "spec.replicas", 0), 5);
    answer_free(x);
    expect(f, 422, "PUT", DEPS "/d/scale", "{\"metadata\":{\"name\":\"d\"},\"spec\":{\"replicas\":-1}}");
    expect(f, 404, "GET", DEPS "/e/scale", NULL);
}

static void pods_are_admitted(void **state) {
    struct fixture *f = *state;
    struct answer *x = ask(f, "POST", PODS, NULL, pod_json);
    assert_int_equal(x->code, 201);
    assert_string_equal(text(x, "status.phase"), "Pending");
    assert_string_equal(text(x, "status.qosClass"), "BestEffort");
    assert_string_equal(text(x, "spec.serviceAccountName"), "default");
    assert_int_equal(json_int_at(x->json, "spec.priority", -1), 0);
    assert_int_equal(json_len(json_at(x->json, "spec.tolerations")), 2);
    const struct json *c = json_item(json_at(x->json, "spec.containers"), 0);
    assert_string_equal(json_str_at(json_item(json_get_c(c, "volumeMounts"), 0), "mountPath").p,
                        "/var/run/secrets/kubernetes.io/serviceaccount");
    assert_int_equal(json_len(json_at(json_item(json_at(x->json, "spec.volumes"), 0), "projected.sources")), 3);
    answer_free(x);
    expect_message(
        f, 403, "POST", PODS, NULL,
        "{\"metadata\":{\"name\":\"q\"},\"spec\":{\"serviceAccountName\":\"none\",\"containers\":[{\"name\":\"c\","
        "\"image\":\"i\"}]}}",
        "pods \"q\" is forbidden: error looking up service account default/none: serviceaccount \"none\" not "
        "found");
    expect_message(
        f, 403, "POST", PODS, NULL,
        "{\"metadata\":{\"name\":\"q\"},\"spec\":{\"priorityClassName\":\"none\",\"containers\":[{\"name\":\"c\","
        "\"image\":\"i\"}]}}",
        "pods \"q\" is forbidden: no PriorityClass with name none was found");
    expect_as(f, ADMIN_TOKEN, 422, "PATCH", PODS "/p", "Content-Type: application/merge-patch+json",
              "{\"spec\":{\"hostNetwork\":true}}");
    expect_as(f, ADMIN_TOKEN, 200, "PATCH", PODS "/p", "Content-Type: application/merge-patch+json",
              "{\"spec\":{\"activeDeadlineSeconds\":9}}");
}

static void binding_and_graceful_deletion(void **state) {
    struct fixture *f = *state;
    const char *bind = "{\"metadata\":{\"name\":\"p\"},\"target\":{\"kind\":\"Node\",\"name\":\"n1\"}}";
    expect(f, 201, "POST", PODS, pod_json);
    expect(f, 201, "POST", PODS "/p/binding", bind);
    expect(f, 409, "POST", PODS "/p/binding", bind);
    struct answer *x = ask(f, "GET", PODS "/p", NULL, NULL);
    assert_string_equal(text(x, "spec.nodeName"), "n1");
    answer_free(x);
    x = ask(f, "DELETE", PODS "/p", NULL, "{\"gracePeriodSeconds\":20}");
    assert_int_equal(x->code, 200);
    assert_string_equal(text(x, "kind"), "Pod");
    assert_int_equal(json_int_at(x->json, "metadata.deletionGracePeriodSeconds", 0), 20);
    answer_free(x);
    expect(f, 200, "GET", PODS "/p", NULL);
    expect(f, 200, "DELETE", PODS "/p?gracePeriodSeconds=0", NULL);
    expect(f, 404, "GET", PODS "/p", NULL);
    expect(f, 422, "DELETE", CM "/x?gracePeriodSeconds=-1", NULL);
}

static void finalizers_hold(void **state) {
    struct fixture *f = *state;
    expect(f, 201, "POST", CM, "{\"metadata\":{\"name\":\"x\",\"finalizers\":[\"a.io/b\"]}}");
    struct answer *x = ask(f, "DELETE", CM "/x", NULL, NULL);
    assert_true(json_str_at(x->json, "metadata.deletionTimestamp").n > 0);
    answer_free(x);
    expect_as(f, ADMIN_TOKEN, 422, "PATCH", CM "/x", "Content-Type: application/merge-patch+json",
              "{\"metadata\":{\"finalizers\":[\"a.io/b\",\"c.io/d\"]}}");
    expect_as(f, ADMIN_TOKEN, 200, "PATCH", CM "/x", "Content-Type: application/merge-patch+json",
              "{\"metadata\":{\"finalizers\":null}}");
    expect(f, 404, "GET", CM "/x", NULL);
    expect(f, 201, "POST", CM, "{\"metadata\":{\"name\":\"y\"}}");
    x = ask(f, "DELETE", CM "/y?propagationPolicy=Foreground", NULL, NULL);
    assert_string_equal(json_as_str(json_item(json_at(x->json, "metadata.finalizers"), 0)).p, "foregroundDeletion");
    answer_free(x);
}

static void delete_preconditions(void **state) {
    struct fixture *f = *state;
    expect(f, 201, "POST", CM, "{\"metadata\":{\"name\":\"x\"}}");
    expect(f, 409, "DELETE", CM "/x", "{\"preconditions\":{\"uid\":\"nope\"}}");
    expect(f, 409, "DELETE", CM "/x", "{\"preconditions\":{\"resourceVersion\":\"1\"}}");
    expect(f, 200, "DELETE", CM "/x?dryRun=All", NULL);
    expect(f, 200, "DELETE", CM "/x", NULL);
}

static void delete_collection(void **state) {
    struct fixture *f = *state;
    expect(f, 201, "POST", CM, "{\"metadata\":{\"name\":\"x\",\"labels\":{\"a\":\"1\"}}}");
    expect(f, 201, "POST", CM, "{\"metadata\":{\"name\":\"y\",\"labels\":{\"a\":\"2\"}}}");
    struct answer *x = ask(f, "DELETE", CM "?labelSelector=a%3D1", NULL, NULL);
    assert_int_equal(x->code, 200);
    assert_string_equal(text(x, "kind"), "ConfigMapList");
    assert_int_equal(json_len(json_get_c(x->json, "items")), 1);
    answer_free(x);
    expect(f, 404, "GET", CM "/x", NULL);
    expect(f, 200, "GET", CM "/y", NULL);
}

static void namespaces(void **state) {
    struct fixture *f = *state;
    struct answer *x = ask(f, "POST", "/api/v1/namespaces", NULL, "{\"metadata\":{\"name\":\"n\"}}");
    assert_int_equal(x->code, 201);
    assert_string_equal(text(x, "status.phase"), "Active");
    assert_string_equal(json_as_str(json_get_c(json_at(x->json, "metadata.labels"), "kubernetes.io/metadata.name")).p,
                        "n");
    answer_free(x);
    expect(f, 201, "POST", "/api/v1/namespaces/n/configmaps", "{\"metadata\":{\"name\":\"x\"}}");
    expect_message(f, 404, "POST", "/api/v1/namespaces/none/configmaps", NULL, "{\"metadata\":{\"name\":\"x\"}}",
                   "namespaces \"none\" not found");
    x = ask(f, "DELETE", "/api/v1/namespaces/n", NULL, NULL);
    assert_string_equal(text(x, "status.phase"), "Terminating");
    answer_free(x);
    x = ask(f, "POST", "/api/v1/namespaces/n/configmaps", NULL, "{\"metadata\":{\"name\":\"y\"}}");
    assert_int_equal(x->code, 403);
    assert_string_equal(
        text(x, "message"),
        "configmaps \"y\" is forbidden: unable to create new content in namespace n because it is being "
        "terminated");
    assert_string_equal(json_str_at(json_item(json_at(x->json, "details.causes"), 0), "reason").p,
                        "NamespaceTerminating");
    answer_free(x);
    expect(f, 200, "PUT", "/api/v1/namespaces/n/finalize",
           "{\"metadata\":{\"name\":\"n\"},\"spec\":{\"finalizers\":[]}}");
    expect(f, 404, "GET", "/api/v1/namespaces/n", NULL);
    expect_message(f, 403, "DELETE", "/api/v1/namespaces/kube-system", NULL, NULL,
                   "namespaces \"kube-system\" is forbidden: this namespace may not be deleted");
}

static void services_get_addresses(void **state) {
    struct fixture *f = *state;
    const char *svc = "/api/v1/namespaces/default/services";
    struct answer *x = ask(f, "GET", "/api/v1/namespaces/default/services/kubernetes", NULL, NULL);
    assert_string_equal(text(x, "spec.clusterIP"), "10.43.0.1");
    answer_free(x);
    x = ask(f, "POST", svc, NULL,
            "{\"metadata\":{\"name\":\"a\"},\"spec\":{\"type\":\"NodePort\",\"ports\":[{\"port\":80}]}}");
    assert_int_equal(x->code, 201);
    assert_true(str_starts(json_str_at(x->json, "spec.clusterIP"), STR("10.43.")));
    int64_t port = json_int_at(json_item(json_at(x->json, "spec.ports"), 0), "nodePort", 0);
    assert_in_range(port, 30000, 32767);
    cleanup_free char *ip = xstrdup(text(x, "spec.clusterIP"));
    assert_string_equal(json_as_str(json_item(json_at(x->json, "spec.clusterIPs"), 0)).p, ip);
    assert_string_equal(json_as_str(json_item(json_at(x->json, "spec.ipFamilies"), 0)).p, "IPv4");
    answer_free(x);
    cleanup_free char *same_ip =
        xasprintf("{\"metadata\":{\"name\":\"b\"},\"spec\":{\"clusterIP\":\"%s\",\"ports\":[{\"port\":80}]}}", ip);
    cleanup_free char *same_port = xasprintf(
        "{\"metadata\":{\"name\":\"b\"},\"spec\":{\"type\":\"NodePort\",\"ports\":[{\"port\":80,\"nodePort\":%d}]}}",
        (int)port);
    expect(f, 422, "POST", svc, same_ip);
    expect(f, 422, "POST", svc, same_port);
    expect(f, 422, "POST", svc,
           "{\"metadata\":{\"name\":\"b\"},\"spec\":{\"clusterIP\":\"192.0.2.7\",\"ports\":[{\"port\":80}]}}");
    expect(f, 422, "POST", svc,
           "{\"metadata\":{\"name\":\"b\"},\"spec\":{\"clusterIP\":\"bad\",\"ports\":[{\"port\":80}]}}");
    expect(f, 403, "POST", svc,
           "{\"metadata\":{\"name\":\"b\"},\"spec\":{\"externalIPs\":[\"192.0.2.9\"],\"ports\":[{\"port\":80}]}}");
    expect(f, 201, "POST", svc,
           "{\"metadata\":{\"name\":\"h\"},\"spec\":{\"clusterIP\":\"None\",\"ports\":[{\"port\":80}]}}");
    /* A replacement without address and node port keeps them. */
    x = ask(f, "PUT", "/api/v1/namespaces/default/services/a", NULL,
            "{\"metadata\":{\"name\":\"a\"},\"spec\":{\"type\":\"NodePort\",\"ports\":[{\"port\":80}]}}");
    assert_int_equal(x->code, 200);
    assert_string_equal(text(x, "spec.clusterIP"), ip);
    assert_int_equal(json_int_at(json_item(json_at(x->json, "spec.ports"), 0), "nodePort", 0), port);
    answer_free(x);
    expect(f, 200, "DELETE", "/api/v1/namespaces/default/services/a", NULL);
    expect(f, 201, "POST", svc, same_ip);
    expect(f, 200, "DELETE", "/api/v1/namespaces/default/services/b", NULL);
    expect(f, 201, "POST", svc, same_port);
}

static void secrets_take_text(void **state) {
    struct fixture *f = *state;
    struct answer *x = ask(f, "POST", "/api/v1/namespaces/default/secrets", NULL,
                           "{\"metadata\":{\"name\":\"s\"},\"stringData\":{\"k\":\"hello\"}}");
    assert_int_equal(x->code, 201);
    assert_string_equal(text(x, "data.k"), "aGVsbG8=");
    assert_null(json_get_c(x->json, "stringData"));
    assert_string_equal(text(x, "type"), "Opaque");
    answer_free(x);
}

static void dry_run_stores_nothing(void **state) {
    struct fixture *f = *state;
    int64_t before = store_revision(f->store);
    struct answer *x = ask(f, "POST", CM "?dryRun=All", NULL, "{\"metadata\":{\"generateName\":\"x-\"}}");
    assert_int_equal(x->code, 201);
    assert_int_equal(json_str_at(x->json, "metadata.name").n, 7);
    answer_free(x);
    assert_int_equal(store_revision(f->store), before);
    expect(f, 422, "POST", CM "?dryRun=Some", "{\"metadata\":{\"name\":\"x\"}}");
}

static void bad_bodies(void **state) {
    struct fixture *f = *state;
    expect(f, 400, "POST", CM, "");
    expect(f, 400, "POST", CM, "{");
    expect(f, 400, "POST", CM, "[]");
    expect(f, 400, "POST", CM, "{\"kind\":\"Pod\",\"metadata\":{\"name\":\"x\"}}");
    expect(f, 400, "POST", CM, "{\"metadata\":\"x\"}");
    expect(f, 400, "POST", CM, "{\"metadata\":{\"name\":\"x\",\"namespace\":\"other\"}}");
    expect(f, 400, "POST", CM, "{\"metadata\":{\"name\":\"x\",\"resourceVersion\":\"5\"}}");
    expect_message(f, 400, "POST", DEPS, NULL, "{\"apiVersion\":\"v1\",\"kind\":\"Deployment\"}",
                   "the API version in the data (v1) does not match the expected API version (apps/v1)");
    expect_as(f, ADMIN_TOKEN, 415, "POST", CM, "Content-Type: application/cbor", "k8s");
    expect_as(f, ADMIN_TOKEN, 400, "POST", CM, "Content-Type: application/vnd.kubernetes.protobuf", "k8s");
    expect(f, 405, "POST", CM "/x", "{}");
    expect(f, 404, "GET", "/api/v1/namespaces/default/nonsense", NULL);
    expect(f, 404, "GET", "/apis/nonsense/v1/pods", NULL);
    expect(f, 404, "GET", PODS "/p/nonsense", NULL);
    expect(f, 404, "GET", "/nonsense", NULL);
    expect_as(f, ADMIN_TOKEN, 406, "GET", CM, "Accept: application/vnd.kubernetes.protobuf", NULL);
    struct buf b = BUF_INIT;
    buf_puts(&b, "{\"metadata\":{\"name\":\"x\"},\"data\":{\"k\":\"");
    for (int i = 0; i < 1600000; i++)
        buf_putc(&b, 'x');
    buf_puts(&b, "\"}}");
    expect(f, 422, "POST", CM, b.p); /* a ConfigMap has a limit of its own below that of all objects */
    buf_fini(&b);
}

static void field_validation(void **state) {
    struct fixture *f = *state;
    const char *body = "{\"metadata\":{\"name\":\"x\"},\"foo\":1,\"data\":{}}";
    expect_message(f, 400, "POST", CM "?fieldValidation=Strict", NULL, body,
                   "ConfigMap in version \"v1\" cannot be handled as a ConfigMap: strict decoding error: unknown field "
                   "\"foo\"");
    struct answer *x = ask(f, "POST", CM "?fieldValidation=Warn", NULL, body);
    assert_int_equal(x->code, 201);
    assert_non_null(strstr(x->reply_headers, "Warning: 299 - \"unknown field \\\"foo\\\"\""));
    answer_free(x);
    expect(f, 200, "DELETE", CM "/x", NULL);
    x = ask(f, "POST", CM "?fieldValidation=Ignore", NULL, body);
    assert_int_equal(x->code, 201);
    assert_null(strstr(x->reply_headers, "Warning"));
    answer_free(x);
    x = ask(f, "POST", CM "?fieldValidation=Strict", NULL, "{\"metadata\":{\"name\":\"y\",\"name\":\"z\"}}");
    assert_int_equal(x->code, 400);
    assert_non_null(strstr(text(x, "message"), "duplicate field \"metadata.name\""));
    answer_free(x);
}

static void yaml_bodies(void **state) {
    struct fixture *f = *state;
    struct answer *x = ask(f, "POST", CM, "Content-Type: application/yaml", "metadata:\n  name: x\ndata:\n  k: v\n");
    assert_int_equal(x->code, 201);
    assert_string_equal(text(x, "data.k"), "v");
    answer_free(x);
    x = ask(f, "GET", CM "/x", "Accept: application/yaml", NULL);
    assert_int_equal(x->code, 200);
    assert_non_null(strstr(x->body.p, "kind: ConfigMap\n"));
    answer_free(x);
}

static void lease_renewals_are_light(void **state) {
    struct fixture *f = *state;
    const char *leases = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases";
    struct store_stats before, after;
    expect(
        f, 201, "POST", leases,
        "{\"metadata\":{\"name\":\"n\"},\"spec\":{\"holderIdentity\":\"a\",\"renewTime\":\"2026-01-01T00:00:00.000000Z\"}}");
    store_stats(f->store, &before);
    expect_as(f, ADMIN_TOKEN, 200, "PATCH", "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/n",
              "Content-Type: application/merge-patch+json",
              "{\"spec\":{\"renewTime\":\"2026-01-01T00:00:10.000000Z\"}}");
    store_stats(f->store, &after);
    assert_int_equal(after.volatile_writes, before.volatile_writes + 1);
    expect_as(f, ADMIN_TOKEN, 200, "PATCH", "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/n",
              "Content-Type: application/merge-patch+json", "{\"spec\":{\"holderIdentity\":\"b\"}}");
    store_stats(f->store, &after);
    assert_int_equal(after.volatile_writes, before.volatile_writes + 1);
}

static void eviction(void **state) {
    struct fixture *f = *state;
    expect(f, 201, "POST", PODS, pod_json);
    expect(f, 404, "POST", PODS "/none/eviction", "{\"metadata\":{\"name\":\"none\"}}");
    expect(f, 201, "POST", PODS "/p/eviction",
           "{\"apiVersion\":\"policy/v1\",\"kind\":\"Eviction\",\"metadata\":{\"name\":\"p\"}}");
    expect(f, 404, "GET", PODS "/p", NULL);
}

static void events_count_up(void **state) {
    struct fixture *f = *state;
    expect(f, 201, "POST", CM, "{\"metadata\":{\"name\":\"x\"}}");
    struct object *o = api_get(f->api, schema_find_key(f->api->schema, "configmaps"), STR("default"), STR("x"));
    for (int i = 0; i < 3; i++)
        api_event(f->api, o, "tester", "n1", "Normal", "Tested", "it is %s", "fine");
    object_unref(o);
    struct answer *x =
        ask(f, "GET", "/api/v1/namespaces/default/events?fieldSelector=involvedObject.name%3Dx", NULL, NULL);
    assert_int_equal(x->code, 200);
    assert_int_equal(json_len(json_get_c(x->json, "items")), 1);
    const struct json *e = json_item(json_get_c(x->json, "items"), 0);
    assert_int_equal(json_int_at(e, "count", 0), 3);
    assert_string_equal(json_str_at(e, "message").p, "it is fine");
    assert_string_equal(json_str_at(e, "source.component").p, "tester");
    answer_free(x);
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, set_up, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        T(create_get_delete),
        T(duplicate_is_a_conflict),
        T(generate_name),
        T(optimistic_locking),
        T(unchanged_update_writes_nothing),
        T(patches),
        T(status_is_apart),
        T(scale),
        T(pods_are_admitted),
        T(binding_and_graceful_deletion),
        T(finalizers_hold),
        T(delete_preconditions),
        T(delete_collection),
        T(namespaces),
        T(services_get_addresses),
        T(secrets_take_text),
        T(dry_run_stores_nothing),
        T(bad_bodies),
        T(field_validation),
        T(yaml_bodies),
        T(lease_renewals_are_light),
        T(eviction),
        T(events_count_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
