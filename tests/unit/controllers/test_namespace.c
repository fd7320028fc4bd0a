#include "helper.h"

#define NS "/api/v1/namespaces/dev"

static void make_content(struct fixture *f) {
    expect(f, 201, "POST", "/api/v1/namespaces", "{\"metadata\":{\"name\":\"dev\"}}");
    expect(f, 201, "POST", NS "/configmaps", "{\"metadata\":{\"name\":\"c\"}}");
    expect(
        f, 201, "POST", "/apis/apps/v1/namespaces/dev/deployments",
        "{\"metadata\":{\"name\":\"web\"},\"spec\":{\"replicas\":2,\"selector\":{\"matchLabels\":{\"app\":\"web\"}},"
        "\"template\":{\"metadata\":{\"labels\":{\"app\":\"web\"}},\"spec\":{\"containers\":[{\"name\":\"c\",\"image\":"
        "\"i:1\"}]}}}}");
    expect(f, 201, "POST", NS "/services", "{\"metadata\":{\"name\":\"s\"},\"spec\":{\"ports\":[{\"port\":80}]}}");
    settle(f);
    assert_int_equal(count(f, NS "/pods"), 2);
}

static void everything_in_it_goes(void **state) {
    struct fixture *f = *state;
    make_content(f);
    expect(f, 200, "DELETE", NS, NULL);
    UNTIL(f, !exists(f, NS));
    assert_int_equal(count(f, "/apis/apps/v1/replicasets"), 0);
    assert_int_equal(count(f, "/api/v1/pods"), 0);
    assert_int_equal(count(f, NS "/configmaps"), 0);
    assert_int_equal(count(f, NS "/serviceaccounts"), 0);
    expect(f, 201, "POST", "/api/v1/namespaces", "{\"metadata\":{\"name\":\"dev\"}}"); /* and it can be made again */
    settle(f);
    assert_int_equal(count(f, NS "/pods"), 0);
    assert_int_equal(count(f, NS "/serviceaccounts"), 1);
}

static void waits_for_what_is_held(void **state) {
    struct fixture *f = *state;
    make_content(f);
    merge(f, NS "/configmaps/c", "{\"metadata\":{\"finalizers\":[\"example.com/hold\"]}}");
    expect(f, 200, "DELETE", NS, NULL);
    settle(f);
    assert_true(str_is(f, NS, "status.phase", "Terminating"));
    assert_true(exists(f, NS "/configmaps/c"));
    expect(f, 403, "POST", NS "/configmaps", "{\"metadata\":{\"name\":\"late\"}}");
    merge(f, NS "/configmaps/c", "{\"metadata\":{\"finalizers\":null}}");
    UNTIL(f, !exists(f, NS));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(everything_in_it_goes, start, stop),
        cmocka_unit_test_setup_teardown(waits_for_what_is_held, start, stop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
