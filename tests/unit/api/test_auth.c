#include "helper.h"

#define CM "/api/v1/namespaces/default/configmaps"

static void nobody_is_refused(void **state) {
    struct fixture *f = *state;
    static const char *const paths[] = {"/",
                                        "/api",
                                        "/apis",
                                        "/api/v1",
                                        "/version",
                                        "/metrics",
                                        "/openapi/v2",
                                        "/openapi/v3",
                                        "/openapi/v3/api/v1",
                                        "/openid/v1/jwks",
                                        "/.well-known/openid-configuration",
                                        "/nonsense",
                                        "/api/v1/nonsense",
                                        "/apis/apps/v1"};
    for (size_t i = 0; i < ARRAY_LEN(paths); i++) {
        expect_as(f, NULL, 401, "GET", paths[i], NULL, NULL);
        expect_as(f, "wrong-token-0123456789", 401, "GET", paths[i], NULL, NULL);
    }
    /* Every resource and subresource the schema has, by every method. */
    static const char *const methods[] = {"GET", "POST", "PUT", "PATCH", "DELETE"};
    for (size_t i = 0; i < schema_resources_n(f->api->schema); i++) {
        const struct schema_resource *r = schema_resource_at(f->api->schema, i);
        for (size_t s = 0; s <= r->subresources_n; s++)
            for (size_t m = 0; m < ARRAY_LEN(methods); m++) {
                struct str sub = s ? r->subresources[s - 1].name : STR("");
                cleanup_free char *path =
                    xasprintf("/%s%.*s/%.*s%s/%.*s/x%s%.*s", r->group.n ? "apis/" : "api", STR_ARG(r->group),
                              STR_ARG(r->version), r->namespaced ? "/namespaces/default" : "", STR_ARG(r->plural),
                              s ? "/" : "", STR_ARG(sub));
                expect_as(f, NULL, 401, methods[m], path, NULL, NULL);
            }
    }
}

static void unknown_users_are_forbidden(void **state) {
    struct fixture *f = *state;
    struct answer *x = ask_as(f, USER_TOKEN, "GET", "/api/v1/namespaces/default/pods", NULL, NULL);
    assert_int_equal(x->code, 403);
    assert_string_equal(text(x, "reason"), "Forbidden");
    assert_string_equal(text(x, "message"),
                        "pods is forbidden: User \"jane\" cannot list resource \"pods\" in API group \"\""
                        " in the namespace \"default\"");
    answer_free(x);
    x = ask_as(f, USER_TOKEN, "GET", "/apis/apps/v1/deployments", NULL, NULL);
    assert_string_equal(text(x, "message"), "deployments.apps is forbidden: User \"jane\" cannot list resource "
                                            "\"deployments\" in API group \"apps\" at the cluster scope");
    answer_free(x);
    x = ask_as(f, USER_TOKEN, "GET", "/metrics", NULL, NULL);
    assert_string_equal(text(x, "message"), "forbidden: User \"jane\" cannot get path \"/metrics\"");
    answer_free(x);
    expect_as(f, USER_TOKEN, 200, "GET", "/apis", NULL, NULL);
    expect_as(f, USER_TOKEN, 200, "GET", "/version", NULL, NULL);
    /* Refused before the body is looked at. */
    expect_as(f, USER_TOKEN, 403, "POST", CM, NULL, "{");
    expect_as(f, USER_TOKEN, 403, "GET", "/api/v1/namespaces/default/nonsense", NULL, NULL);
}

static void roles_grant(void **state) {
    struct fixture *f = *state;
    const char *rbac = "/apis/rbac.authorization.k8s.io/v1/namespaces/default/";
    cleanup_free char *roles = xasprintf("%sroles", rbac), *bindings = xasprintf("%srolebindings", rbac);
    expect(
        f, 201, "POST", roles,
        "{\"metadata\":{\"name\":\"r\"},\"rules\":[{\"apiGroups\":[\"\"],\"resources\":[\"configmaps\"],\"verbs\":[\"get\","
        "\"update\"],\"resourceNames\":[\"mine\"]},{\"apiGroups\":[\"\"],\"resources\":[\"pods/log\"],\"verbs\":[\"get\"]}]}");
    expect(
        f, 201, "POST", bindings,
        "{\"metadata\":{\"name\":\"b\"},\"subjects\":[{\"kind\":\"Group\",\"apiGroup\":\"rbac.authorization.k8s.io\","
        "\"name\":\"ops\"}],\"roleRef\":{\"apiGroup\":\"rbac.authorization.k8s.io\",\"kind\":\"Role\",\"name\":\"r\"}}");
    expect(
        f, 201, "POST", roles,
        "{\"metadata\":{\"name\":\"reader\"},\"rules\":[{\"apiGroups\":[\"\"],\"resources\":[\"pods/exec\"],\"verbs\":"
        "[\"get\"]}]}");
    expect(f, 201, "POST", bindings,
           "{\"metadata\":{\"name\":\"reader\"},\"subjects\":[{\"kind\":\"User\",\"apiGroup\":"
           "\"rbac.authorization.k8s.io\",\"name\":\"jane\"}],\"roleRef\":{\"apiGroup\":\"rbac.authorization.k8s.io\","
           "\"kind\":\"Role\",\"name\":\"reader\"}}");
    expect_as(f, USER_TOKEN, 403, "GET", "/api/v1/namespaces/default/pods/p/exec?command=id", NULL, NULL);
    expect(f, 201, "POST", CM, "{\"metadata\":{\"name\":\"mine\"}}");
    expect_as(f, USER_TOKEN, 200, "GET", CM "/mine", NULL, NULL);
    expect_as(f, USER_TOKEN, 403, "GET", CM "/other", NULL, NULL);
    expect_as(f, USER_TOKEN, 403, "GET", CM, NULL, NULL);
    expect_as(f, USER_TOKEN, 403, "DELETE", CM "/mine", NULL, NULL);
    expect_as(f, USER_TOKEN, 403, "GET", "/api/v1/namespaces/kube-system/configmaps/mine", NULL, NULL);
    expect_as(f, USER_TOKEN, 403, "GET", "/api/v1/namespaces/default/pods/p", NULL, NULL);
    expect_as(f, USER_TOKEN, 404, "GET", "/api/v1/namespaces/default/pods/p/log", NULL, NULL);
    struct answer *x =
        ask_as(f, USER_TOKEN, "POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", NULL,
               "{\"spec\":{\"resourceAttributes\":{\"verb\":\"get\",\"resource\":\"configmaps\",\"name\":"
               "\"mine\",\"namespace\":\"default\"}}}");
    assert_int_equal(x->code, 201);
    assert_true(json_bool_at(x->json, "status.allowed", false));
    answer_free(x);
    x = ask_as(f, USER_TOKEN, "POST", "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews", NULL,
               "{\"spec\":{\"namespace\":\"default\"}}");
    assert_int_equal(x->code, 201);
    assert_true(json_len(json_at(x->json, "status.resourceRules")) >= 2);
    answer_free(x);
    x = ask_as(f, USER_TOKEN, "POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", NULL, "{}");
    assert_string_equal(text(x, "status.userInfo.username"), "jane");
    answer_free(x);
    cleanup_free char *gone = xasprintf("%s/b", bindings);
    expect(f, 200, "DELETE", gone, NULL);
    expect_as(f, USER_TOKEN, 403, "GET", CM "/mine", NULL, NULL);
}

static char *mint(struct fixture *f, const char *account, const char *body) {
    cleanup_free char *target = xasprintf("/api/v1/namespaces/default/serviceaccounts/%s/token", account);
    struct answer *x = ask(f, "POST", target, NULL, body);
    assert_int_equal(x->code, 201);
    char *t = xstrdup(text(x, "status.token"));
    answer_free(x);
    return t;
}

static void service_account_tokens(void **state) {
    struct fixture *f = *state;
    const char *whoami = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
    expect(f, 201, "POST", "/api/v1/namespaces/default/serviceaccounts", "{\"metadata\":{\"name\":\"sa\"}}");
    expect(f, 201, "POST", CM, "{\"metadata\":{\"name\":\"x\"}}");
    cleanup_free char *t = mint(f, "sa", "{\"spec\":{\"expirationSeconds\":3600}}");
    cleanup_free char *other = mint(f, "sa", "{\"spec\":{\"audiences\":[\"vault\"]}}");
    struct answer *x = ask_as(f, t, "POST", whoami, NULL, "{}");
    assert_int_equal(x->code, 201);
    assert_string_equal(text(x, "status.userInfo.username"), "system:serviceaccount:default:sa");
    answer_free(x);
    expect_as(f, other, 401, "POST", whoami, NULL, "{}");
    cleanup_free char *review = xasprintf("{\"spec\":{\"token\":\"%s\",\"audiences\":[\"vault\"]}}", other);
    x = ask(f, "POST", "/apis/authentication.k8s.io/v1/tokenreviews", NULL, review);
    assert_true(json_bool_at(x->json, "status.authenticated", false));
    answer_free(x);
    size_t n = strlen(t);
    t[n / 2] = t[n / 2] == 'A' ? 'B' : 'A';
    expect_as(f, t, 401, "POST", whoami, NULL, "{}");
    expect(f, 422, "POST", "/api/v1/namespaces/default/serviceaccounts/sa/token",
           "{\"spec\":{\"expirationSeconds\":5}}");
    expect(f, 404, "POST", "/api/v1/namespaces/default/serviceaccounts/none/token", "{}");
}

static void tokens_die_with_what_they_are_bound_to(void **state) {
    struct fixture *f = *state;
    const char *whoami = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
    expect(f, 201, "POST", "/api/v1/namespaces/default/serviceaccounts", "{\"metadata\":{\"name\":\"sa\"}}");
    expect(
        f, 201, "POST", "/api/v1/namespaces/default/pods",
        "{\"metadata\":{\"name\":\"p\"},\"spec\":{\"serviceAccountName\":\"sa\",\"containers\":[{\"name\":\"c\",\"image\":\"i\"}]}}");
    cleanup_free char *bound =
        mint(f, "sa", "{\"spec\":{\"boundObjectRef\":{\"kind\":\"Pod\",\"apiVersion\":\"v1\",\"name\":\"p\"}}}");
    cleanup_free char *loose = mint(f, "sa", "{}");
    expect_as(f, bound, 201, "POST", whoami, NULL, "{}");
    expect(f, 200, "DELETE", "/api/v1/namespaces/default/pods/p", NULL);
    expect_as(f, bound, 401, "POST", whoami, NULL, "{}");
    expect_as(f, loose, 201, "POST", whoami, NULL, "{}");
    expect(f, 200, "DELETE", "/api/v1/namespaces/default/serviceaccounts/sa", NULL);
    expect_as(f, loose, 401, "POST", whoami, NULL, "{}");
}

static void websocket_bearer(void **state) {
    struct fixture *f = *state;
    struct buf b = BUF_INIT;
    base64url_encode(&b, ADMIN_TOKEN, strlen(ADMIN_TOKEN));
    cleanup_free char *h =
        xasprintf("Sec-WebSocket-Protocol: base64url.bearer.authorization.k8s.io.%s, v4.channel.k8s.io", b.p);
    expect_as(f, NULL, 200, "GET", "/version", h, NULL);
    expect_as(f, NULL, 401, "GET", "/version", "Sec-WebSocket-Protocol: base64url.bearer.authorization.k8s.io.!!",
              NULL);
    buf_fini(&b);
}

static void impersonation(void **state) {
    struct fixture *f = *state;
    expect_as(f, ADMIN_TOKEN, 403, "GET", CM, "Impersonate-User: nobody", NULL);
    expect_as(f, ADMIN_TOKEN, 200, "GET", CM, "Impersonate-User: nobody\nImpersonate-Group: system:masters", NULL);
    expect_as(f, USER_TOKEN, 403, "GET", "/version", "Impersonate-User: admin", NULL);
    expect_as(f, ADMIN_TOKEN, 400, "GET", CM, "Impersonate-Group: x", NULL);
}

static void nodes_see_their_own(void **state) {
    struct fixture *f = *state;
    static const struct str groups[] = {STR_INIT("system:nodes"), STR_INIT("system:authenticated")};
    struct api_user n1 = {STR("system:node:n1"), STR(""), groups, 2};
    cleanup_arena struct arena *a = arena_new(0, 0);
    expect(
        f, 201, "POST", "/api/v1/namespaces/default/pods",
        "{\"metadata\":{\"name\":\"p\"},\"spec\":{\"nodeName\":\"n1\",\"volumes\":[{\"name\":\"v\",\"secret\":{\"secretName\":"
        "\"s\"}}],\"containers\":[{\"name\":\"c\",\"image\":\"i\",\"envFrom\":[{\"configMapRef\":{\"name\":\"m\"}}]}]}}");
    struct {
        const char *verb, *plural, *sub, *ns, *name;
        bool allowed;
    } cases[] = {
        {"get", "secrets", "", "default", "s", true},
        {"get", "secrets", "", "default", "t", false},
        {"list", "secrets", "", "default", "", false},
        {"get", "secrets", "", "kube-system", "s", false},
        {"get", "configmaps", "", "default", "m", true},
        {"get", "configmaps", "", "default", "s", false},
        {"update", "nodes", "status", "", "n1", true},
        {"update", "nodes", "status", "", "n2", false},
        {"patch", "pods", "status", "default", "p", true},
        {"patch", "pods", "status", "default", "q", false},
        {"delete", "nodes", "", "", "n1", false},
        {"create", "pods", "", "default", "", false},
        {"list", "services", "", "", "", true},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct authz_ask ask = {.user = &n1,
                                .resource = true,
                                .verb = str_c(cases[i].verb),
                                .group = STR(""),
                                .version = STR("v1"),
                                .plural = str_c(cases[i].plural),
                                .subresource = str_c(cases[i].sub),
                                .ns = str_c(cases[i].ns),
                                .name = str_c(cases[i].name)};
        assert_int_equal(authz_allowed(f->api, &ask, a, NULL), cases[i].allowed);
    }
}

static void nobody_gives_what_he_lacks(void **state) {
    struct fixture *f = *state;
    const char *crb = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings";
    const char *roles = "/apis/rbac.authorization.k8s.io/v1/namespaces/default/roles";
    const char *bindings = "/apis/rbac.authorization.k8s.io/v1/namespaces/default/rolebindings";
    expect(f, 201, "POST", bindings,
           "{\"metadata\":{\"name\":\"jane-admin\"},\"subjects\":[{\"kind\":\"User\",\"name\":\"jane\",\"apiGroup\":"
           "\"rbac.authorization.k8s.io\"}],\"roleRef\":{\"apiGroup\":\"rbac.authorization.k8s.io\",\"kind\":"
           "\"ClusterRole\",\"name\":\"admin\"}}");
    expect_as(
        f, USER_TOKEN, 201, "POST", roles, NULL,
        "{\"metadata\":{\"name\":\"less\"},\"rules\":[{\"apiGroups\":[\"\"],\"resources\":[\"pods\",\"pods/log\"],"
        "\"verbs\":[\"get\"]}]}");
    struct answer *x =
        ask_as(f, USER_TOKEN, "POST", roles, NULL,
               "{\"metadata\":{\"name\":\"more\"},\"rules\":[{\"apiGroups\":[\"*\"],\"resources\":[\"*\"],"
               "\"verbs\":[\"*\"]}]}");
    assert_int_equal(x->code, 403);
    assert_non_null(strstr(text(x, "message"), "is attempting to grant RBAC permissions not currently held"));
    answer_free(x);
    expect_as(f, USER_TOKEN, 403, "POST", bindings, NULL,
              "{\"metadata\":{\"name\":\"root\"},\"subjects\":[{\"kind\":\"User\",\"name\":\"jane\",\"apiGroup\":"
              "\"rbac.authorization.k8s.io\"}],\"roleRef\":{\"apiGroup\":\"rbac.authorization.k8s.io\",\"kind\":"
              "\"ClusterRole\",\"name\":\"cluster-admin\"}}");
    expect_as(f, USER_TOKEN, 201, "POST", bindings, NULL,
              "{\"metadata\":{\"name\":\"view\"},\"subjects\":[{\"kind\":\"User\",\"name\":\"joe\",\"apiGroup\":"
              "\"rbac.authorization.k8s.io\"}],\"roleRef\":{\"apiGroup\":\"rbac.authorization.k8s.io\",\"kind\":"
              "\"ClusterRole\",\"name\":\"view\"}}");
    expect_as(f, USER_TOKEN, 403, "POST", crb, NULL, "{\"metadata\":{\"name\":\"x\"}}");
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, set_up, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        T(nobody_is_refused),
        T(unknown_users_are_forbidden),
        T(roles_grant),
        T(service_account_tokens),
        T(tokens_die_with_what_they_are_bound_to),
        T(websocket_bearer),
        T(impersonation),
        T(nodes_see_their_own),
        T(nobody_gives_what_he_lacks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
