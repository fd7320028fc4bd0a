#include "helper.h"

#define CM "/api/v1/namespaces/default/configmaps"

static void make(struct fixture *f, const char *ns, const char *name, const char *label) {
    cleanup_free char *target = xasprintf("/api/v1/namespaces/%s/configmaps", ns);
    cleanup_free char *body = xasprintf("{\"metadata\":{\"name\":\"%s\",\"labels\":{\"l\":\"%s\"}}}", name, label);
    expect(f, 201, "POST", target, body);
}

static const char *name_at(struct answer *x, size_t i) {
    return json_str_at(json_item(json_get_c(x->json, "items"), i), "metadata.name").p;
}

static void whole_lists(void **state) {
    struct fixture *f = *state;
    make(f, "default", "b", "1");
    make(f, "default", "a", "2");
    make(f, "kube-system", "c", "1");
    struct answer *x = ask(f, "GET", CM, NULL, NULL);
    assert_int_equal(x->code, 200);
    assert_string_equal(text(x, "kind"), "ConfigMapList");
    assert_int_equal(json_len(json_get_c(x->json, "items")), 2);
    assert_string_equal(name_at(x, 0), "a");
    cleanup_free char *now = xasprintf("%lld", (long long)store_revision(f->store));
    assert_string_equal(text(x, "metadata.resourceVersion"), now);
    answer_free(x);
    x = ask(f, "GET", "/api/v1/configmaps?labelSelector=l%3D1", NULL, NULL);
    assert_int_equal(json_len(json_get_c(x->json, "items")), 2);
    assert_string_equal(name_at(x, 1), "c");
    answer_free(x);
    x = ask(f, "GET", "/api/v1/configmaps?fieldSelector=metadata.name%3Da", NULL, NULL);
    assert_int_equal(json_len(json_get_c(x->json, "items")), 1);
    answer_free(x);
    expect(f, 400, "GET", CM "?labelSelector=%3D%3D%3D", NULL);
    expect(f, 400, "GET", CM "?fieldSelector=spec.nonsense%3Da", NULL);
    expect(f, 400, "GET", CM "?limit=x", NULL);
}

static void pages(void **state) {
    struct fixture *f = *state;
    char name[2] = "a";
    for (; name[0] < 'h'; name[0]++)
        make(f, "default", name, "1");
    char token[512] = "", first_version[32] = "";
    size_t seen = 0;
    for (int page = 0; page < 3; page++) {
        cleanup_free char *target = xasprintf(CM "?limit=3%s%s", *token ? "&continue=" : "", token);
        struct answer *x = ask(f, "GET", target, NULL, NULL);
        assert_int_equal(x->code, 200);
        size_t n = json_len(json_get_c(x->json, "items"));
        assert_int_equal(n, page < 2 ? 3 : 1);
        for (size_t i = 0; i < n; i++, seen++)
            assert_int_equal(name_at(x, i)[0], 'a' + (int)seen);
        assert_int_equal(json_int_at(x->json, "metadata.remainingItemCount", 0), page == 0 ? 4 : page == 1 ? 1 : 0);
        if (page == 0)
            snprintf(first_version, sizeof(first_version), "%s", text(x, "metadata.resourceVersion"));
        assert_string_equal(text(x, "metadata.resourceVersion"), first_version);
        snprintf(token, sizeof(token), "%s", text(x, "metadata.continue"));
        assert_true((*token != 0) == (page < 2));
        answer_free(x);
        make(f, "kube-public", page == 0 ? "x" : page == 1 ? "y" : "z", "1");
    }
    expect(f, 400, "GET", CM "?limit=3&continue=garbage", NULL);
}

static void versions_asked_for(void **state) {
    struct fixture *f = *state;
    make(f, "default", "a", "1");
    struct answer *x = ask(f, "GET", CM "?resourceVersion=999999", NULL, NULL);
    assert_int_equal(x->code, 504);
    assert_string_equal(text(x, "reason"), "Timeout");
    assert_string_equal(json_str_at(json_item(json_at(x->json, "details.causes"), 0), "reason").p,
                        "ResourceVersionTooLarge");
    assert_non_null(strstr(x->reply_headers, "Retry-After: 1"));
    answer_free(x);
    expect(f, 200, "GET", CM "?resourceVersion=0", NULL);
    expect(f, 400, "GET", CM "?resourceVersion=x", NULL);
    expect(f, 410, "GET", CM "?resourceVersion=1&resourceVersionMatch=Exact", NULL);
    expect(f, 422, "GET", CM "?resourceVersionMatch=Exact", NULL);
    expect(f, 422, "GET", CM "?resourceVersion=1&resourceVersionMatch=Sometimes", NULL);
    expect(f, 422, "GET", CM "?sendInitialEvents=true", NULL);
}

static void other_forms(void **state) {
    struct fixture *f = *state;
    make(f, "default", "a", "1");
    struct answer *x =
        ask(f, "GET", CM, "Accept: application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1", NULL);
    assert_string_equal(text(x, "kind"), "PartialObjectMetadataList");
    const struct json *o = json_item(json_get_c(x->json, "items"), 0);
    assert_string_equal(json_str_at(o, "kind").p, "PartialObjectMetadata");
    assert_string_equal(json_str_at(o, "metadata.name").p, "a");
    answer_free(x);
    x = ask(f, "GET", CM "?includeObject=None", "Accept: application/json;as=Table;g=meta.k8s.io;v=v1", NULL);
    assert_string_equal(text(x, "kind"), "Table");
    assert_int_equal(json_len(json_get_c(x->json, "rows")), 1);
    assert_non_null(json_get_c(x->json, "columnDefinitions"));
    answer_free(x);
    x = ask(f, "GET", CM "/a", "Accept: application/json;as=Table;g=meta.k8s.io;v=v1,application/json", NULL);
    assert_string_equal(text(x, "kind"), "Table");
    assert_string_equal(json_str_at(json_item(json_get_c(x->json, "rows"), 0), "object.metadata.name").p, "a");
    answer_free(x);
}

static void discovery(void **state) {
    struct fixture *f = *state;
    struct answer *x = ask(f, "GET", "/version", NULL, NULL);
    assert_string_equal(text(x, "major"), "1");
    assert_string_equal(text(x, "minor"), "36");
    assert_string_equal(text(x, "gitVersion"), "v1.36.0+dory1");
    answer_free(x);
    x = ask(f, "GET", "/api/v1", NULL, NULL);
    assert_string_equal(text(x, "kind"), "APIResourceList");
    bool found = false;
    const struct json *list = json_get_c(x->json, "resources");
    for (size_t i = 0; i < json_len(list); i++)
        found = found || str_eq_c(json_str_at(json_item(list, i), "name"), "pods/exec");
    assert_true(found);
    answer_free(x);
    x = ask(f, "GET", "/apis", NULL, NULL);
    assert_string_equal(text(x, "kind"), "APIGroupList");
    answer_free(x);
    expect(f, 200, "GET", "/apis/apps", NULL);
    expect(f, 200, "GET", "/apis/apps/v1", NULL);
    expect(f, 404, "GET", "/apis/none", NULL);
    const char *v2 = "Accept: application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json";
    x = ask(f, "GET", "/apis", v2, NULL);
    assert_string_equal(text(x, "kind"), "APIGroupDiscoveryList");
    const char *etag = strstr(x->reply_headers, "ETag: ");
    assert_non_null(etag);
    assert_non_null(strstr(x->reply_headers, "as=APIGroupDiscoveryList"));
    cleanup_free char *again = xasprintf("%s\nIf-None-Match: %.*s", v2, (int)strcspn(etag + 6, "\n"), etag + 6);
    answer_free(x);
    expect_as(f, ADMIN_TOKEN, 304, "GET", "/apis", again, NULL);
    expect(f, 200, "GET", "/openid/v1/jwks", NULL);
}

static void openapi(void **state) {
    struct fixture *f = *state;
    struct answer *x = ask(f, "GET", "/openapi/v3", NULL, NULL);
    assert_int_equal(x->code, 200);
    struct str url = json_str_at(json_get(json_get_c(x->json, "paths"), STR("apis/apps/v1")), "serverRelativeURL");
    assert_true(str_starts(url, STR("/openapi/v3/apis/apps/v1?hash=")));
    struct answer *y = ask(f, "GET", url.p, NULL, NULL);
    assert_int_equal(y->code, 200);
    answer_free(y);
    answer_free(x);
    expect(f, 404, "GET", "/openapi/v3/apis/none/v1", NULL);
    expect(f, 200, "GET", "/openapi/v2", NULL);
}

static void health(void **state) {
    struct fixture *f = *state;
    expect_as(f, NULL, 200, "GET", "/healthz", NULL, NULL);
    expect_as(f, NULL, 200, "GET", "/livez", NULL, NULL);
    api_ready_register(f->api, "node");
    expect_as(f, NULL, 500, "GET", "/readyz", NULL, NULL);
    expect_as(f, NULL, 200, "GET", "/livez", NULL, NULL);
    api_ready_set(f->api, "node", true);
    struct answer *x = ask_as(f, NULL, "GET", "/readyz?verbose", NULL, NULL);
    assert_int_equal(x->code, 200);
    assert_string_equal(x->body.p, "[+]ping ok\n[+]node ok\nreadyz check passed\n");
    answer_free(x);
    expect_as(f, NULL, 200, "GET", "/readyz/node", NULL, NULL);
    expect_as(f, NULL, 404, "GET", "/readyz/none", NULL, NULL);
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, set_up, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        T(whole_lists), T(pages), T(versions_asked_for), T(other_forms), T(discovery), T(openapi), T(health),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
