#include "helper.h"

static void every_namespace_has_its_account_and_ca(void **state) {
    struct fixture *f = *state;
    settle(f);
    assert_true(exists(f, "/api/v1/namespaces/kube-system/serviceaccounts/default"));
    expect(f, 201, "POST", "/api/v1/namespaces", "{\"metadata\":{\"name\":\"dev\"}}");
    settle(f);
    assert_true(exists(f, "/api/v1/namespaces/dev/serviceaccounts/default"));
    struct answer *x = ask(f, "GET", "/api/v1/namespaces/dev/configmaps/kube-root-ca.crt", NULL, NULL);
    assert_int_equal(x->code, 200);
    assert_true(str_eq_c(json_as_str(json_get_c(json_get_c(x->json, "data"), "ca.crt")), "the cluster's CA\n"));
    answer_free(x);
}

static void they_come_back(void **state) {
    struct fixture *f = *state;
    settle(f);
    expect(f, 200, "DELETE", "/api/v1/namespaces/default/serviceaccounts/default", NULL);
    expect(f, 200, "DELETE", "/api/v1/namespaces/default/configmaps/kube-root-ca.crt", NULL);
    settle(f);
    assert_true(exists(f, "/api/v1/namespaces/default/serviceaccounts/default"));
    assert_true(exists(f, "/api/v1/namespaces/default/configmaps/kube-root-ca.crt"));
    merge(f, "/api/v1/namespaces/default/configmaps/kube-root-ca.crt",
          "{\"data\":{\"ca.crt\":\"forged\",\"more\":\"x\"}}");
    settle(f);
    struct answer *x = ask(f, "GET", "/api/v1/namespaces/default/configmaps/kube-root-ca.crt", NULL, NULL);
    const struct json *data = json_get_c(x->json, "data");
    assert_true(str_eq_c(json_as_str(json_get_c(data, "ca.crt")), "the cluster's CA\n"));
    assert_null(json_get_c(data, "more"));
    answer_free(x);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(every_namespace_has_its_account_and_ca, start, stop),
        cmocka_unit_test_setup_teardown(they_come_back, start, stop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
