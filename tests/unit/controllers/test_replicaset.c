#include "helper.h"

static const char set[] =
    "{\"apiVersion\":\"apps/v1\",\"kind\":\"ReplicaSet\",\"metadata\":{\"name\":\"web\"},\"spec\":{"
    "\"replicas\":3,\"selector\":{\"matchLabels\":{\"app\":\"web\"}},\"template\":{\"metadata\":{"
    "\"labels\":{\"app\":\"web\"}},\"spec\":{\"containers\":[{\"name\":\"c\",\"image\":\"i:1\"}]}}}}";

static void first_pod(struct fixture *f, char name[100]) {
    struct answer *x = ask(f, "GET", PODS, NULL, NULL);
    snprintf(name, 100, "%s", json_str_at(json_item(json_get_c(x->json, "items"), 0), "metadata.name").p);
    answer_free(x);
}

static void keeps_the_count(void **state) {
    struct fixture *f = *state;
    char name[100], target[300];
    expect(f, 201, "POST", SETS, set);
    settle(f);
    assert_int_equal(count(f, PODS), 3);
    assert_int_equal(int_of(f, SETS "/web", "status.replicas"), 3);
    assert_int_equal(int_of(f, SETS "/web", "status.readyReplicas"), 0);
    ready_all(f);
    assert_int_equal(int_of(f, SETS "/web", "status.readyReplicas"), 3);
    assert_int_equal(int_of(f, SETS "/web", "status.availableReplicas"), 3);
    first_pod(f, name);
    snprintf(target, sizeof(target), PODS "/%s", name);
    expect(f, 200, "DELETE", target, NULL);
    settle(f);
    assert_false(exists(f, target));
    assert_int_equal(count(f, PODS), 3);
    first_pod(f, name);
    report_pod(f, name, "Failed", false, NULL);
    settle(f);
    assert_int_equal(count(f, PODS), 4); /* the failed one stays to be looked at */
    assert_int_equal(int_of(f, SETS "/web", "status.replicas"), 3);
    merge(f, SETS "/web", "{\"spec\":{\"replicas\":0}}");
    settle(f);
    assert_int_equal(count(f, PODS), 1);
    assert_int_equal(int_of(f, SETS "/web", "status.replicas"), 0);
}

static void adopts_what_matches_and_lets_go_of_what_does_not(void **state) {
    struct fixture *f = *state;
    expect(f, 201, "POST", PODS,
           "{\"metadata\":{\"name\":\"stray\",\"labels\":{\"app\":\"web\"}},\"spec\":{\"containers\":[{\"name\":\"c\","
           "\"image\":\"i:1\"}]}}");
    expect(f, 201, "POST", SETS, set);
    settle(f);
    assert_int_equal(count(f, PODS), 3); /* the stray one is one of them */
    struct answer *x = ask(f, "GET", PODS "/stray", NULL, NULL);
    assert_true(str_eq_c(json_str_at(meta_controller_ref(x->json), "name"), "web"));
    answer_free(x);
    merge(f, PODS "/stray", "{\"metadata\":{\"labels\":{\"app\":\"other\"}}}");
    settle(f);
    assert_int_equal(count(f, PODS), 4);
    x = ask(f, "GET", PODS "/stray", NULL, NULL);
    assert_null(meta_controller_ref(x->json));
    answer_free(x);
}

/* Pods nobody would miss go first: without a node, then pending, then not ready. */
static void removes_the_least_useful_first(void **state) {
    struct fixture *f = *state;
    static const char *const names[] = {"a-ready", "b-pending", "c-ready", "d-cheap"};
    expect(f, 201, "POST", "/api/v1/nodes", "{\"metadata\":{\"name\":\"n1\"}}");
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        char body[500];
        snprintf(body, sizeof(body),
                 "{\"metadata\":{\"name\":\"%s\",\"labels\":{\"app\":\"web\"},\"annotations\":{\"controller.kubernetes."
                 "io/pod-deletion-cost\":\"%d\"}},\"spec\":{\"nodeName\":\"n1\",\"terminationGracePeriodSeconds\":0,"
                 "\"containers\":[{\"name\":\"c\",\"image\":\"i:1\"}]}}",
                 names[i], i == 3 ? -5 : 0);
        expect(f, 201, "POST", PODS, body);
        if (i != 1)
            report_pod(f, names[i], "Running", true, NULL);
    }
    expect(f, 201, "POST", SETS, set);
    settle(f);
    assert_int_equal(count(f, PODS), 3);
    assert_false(exists(f, PODS "/b-pending"));
    merge(f, SETS "/web", "{\"spec\":{\"replicas\":2}}");
    settle(f);
    assert_false(exists(f, PODS "/d-cheap"));
    assert_true(exists(f, PODS "/a-ready"));
    assert_true(exists(f, PODS "/c-ready"));
}

static void removes_nothing_of_another_controller(void **state) {
    struct fixture *f = *state;
    expect(f, 201, "POST", SETS, set);
    settle(f);
    expect(
        f, 201, "POST", "/api/v1/namespaces/default/replicationcontrollers",
        "{\"metadata\":{\"name\":\"rc\"},\"spec\":{\"replicas\":1,\"selector\":{\"app\":\"web\"},\"template\":{"
        "\"metadata\":{\"labels\":{\"app\":\"web\"}},\"spec\":{\"containers\":[{\"name\":\"c\",\"image\":\"i:1\"}]}}}}");
    settle(f);
    assert_int_equal(count(f, PODS), 4);
    assert_int_equal(int_of(f, SETS "/web", "status.replicas"), 3);
    assert_int_equal(int_of(f, "/api/v1/namespaces/default/replicationcontrollers/rc", "status.replicas"), 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(keeps_the_count, start, stop),
        cmocka_unit_test_setup_teardown(adopts_what_matches_and_lets_go_of_what_does_not, start, stop),
        cmocka_unit_test_setup_teardown(removes_the_least_useful_first, start, stop),
        cmocka_unit_test_setup_teardown(removes_nothing_of_another_controller, start, stop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
