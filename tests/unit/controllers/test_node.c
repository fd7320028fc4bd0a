#include "helper.h"

#define NODES "/api/v1/nodes"
#define LEASES "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"

static int start_impatient(void **state) {
    return start_with(state, 60);
}

static void add_node(struct fixture *f, const char *name, const char *ready) {
    char body[500], now[TIME_RFC3339_MAX];
    snprintf(body, sizeof(body),
             "{\"metadata\":{\"name\":\"%s\"},\"status\":{\"conditions\":[{\"type\":\"Ready\",\"status\":\"%s\","
             "\"lastTransitionTime\":\"%s\"}]}}",
             name, ready, time_now_rfc3339(now));
    expect(f, 201, "POST", NODES, body);
}

static bool tainted(struct fixture *f, const char *node, const char *key, const char *effect) {
    char target[100];
    snprintf(target, sizeof(target), NODES "/%s", node);
    struct answer *x = ask(f, "GET", target, NULL, NULL);
    const struct json *taints = json_at(x->json, "spec.taints");
    bool found = false;
    for (size_t i = 0; i < json_len(taints); i++)
        found |= str_eq_c(json_str_at(json_item(taints, i), "key"), key) &&
                 str_eq_c(json_str_at(json_item(taints, i), "effect"), effect);
    answer_free(x);
    return found;
}

static bool ready_is(struct fixture *f, const char *target, const char *status) {
    struct answer *x = ask(f, "GET", target, NULL, NULL);
    bool same = str_eq_c(json_str_at(condition_find(json_get_c(x->json, "status"), "Ready"), "status"), status);
    answer_free(x);
    return same;
}

static void gives_each_node_a_network(void **state) {
    struct fixture *f = *state;
    add_node(f, "n1", "True");
    add_node(f, "n2", "True");
    settle(f);
    assert_true(str_is(f, NODES "/n1", "spec.podCIDR", "10.42.0.0/24"));
    assert_true(str_is(f, NODES "/n2", "spec.podCIDR", "10.42.1.0/24"));
    expect(f, 200, "DELETE", NODES "/n1", NULL);
    settle(f);
    add_node(f, "n3", "True"); /* the first that is free */
    settle(f);
    assert_true(str_is(f, NODES "/n3", "spec.podCIDR", "10.42.0.0/24"));
}

static void taints_follow_the_conditions(void **state) {
    struct fixture *f = *state;
    add_node(f, "n1", "False");
    settle(f);
    assert_true(tainted(f, "n1", "node.kubernetes.io/not-ready", "NoSchedule"));
    assert_true(tainted(f, "n1", "node.kubernetes.io/not-ready", "NoExecute"));
    merge(f, NODES "/n1/status",
          "{\"status\":{\"conditions\":[{\"type\":\"Ready\",\"status\":\"True\"},{\"type\":\"DiskPressure\",\"status\":"
          "\"True\"}]}}");
    settle(f);
    assert_false(tainted(f, "n1", "node.kubernetes.io/not-ready", "NoSchedule"));
    assert_false(tainted(f, "n1", "node.kubernetes.io/not-ready", "NoExecute"));
    assert_true(tainted(f, "n1", "node.kubernetes.io/disk-pressure", "NoSchedule"));
    merge(f, NODES "/n1", "{\"spec\":{\"unschedulable\":true}}");
    settle(f);
    assert_true(tainted(f, "n1", "node.kubernetes.io/unschedulable", "NoSchedule"));
    merge(f, NODES "/n1", "{\"spec\":{\"unschedulable\":null}}");
    settle(f);
    assert_false(tainted(f, "n1", "node.kubernetes.io/unschedulable", "NoSchedule"));
}

static void add_pod(struct fixture *f, const char *name, const char *tolerations) {
    char body[600];
    snprintf(body, sizeof(body),
             "{\"metadata\":{\"name\":\"%s\"},\"spec\":{\"nodeName\":\"n1\",\"terminationGracePeriodSeconds\":0,"
             "\"tolerations\":[%s],\"containers\":[{\"name\":\"c\",\"image\":\"i:1\"}]}}",
             name, tolerations);
    expect(f, 201, "POST", PODS, body);
    report_pod(f, name, "Running", true, NULL);
}
#define UNREACHABLE "\"key\":\"node.kubernetes.io/unreachable\",\"operator\":\"Exists\",\"effect\":\"NoExecute\""

static void a_silent_node_is_lost(void **state) {
    struct fixture *f = *state;
    add_node(f, "n1", "True");
    add_pod(f, "impatient", "{" UNREACHABLE ",\"tolerationSeconds\":0}");
    add_pod(f, "patient", "{" UNREACHABLE "}");
    add_pod(f, "ordinary", ""); /* tolerates it for five minutes */
    UNTIL(f, ready_is(f, NODES "/n1", "Unknown"));
    UNTIL(f, tainted(f, "n1", "node.kubernetes.io/unreachable", "NoExecute"));
    assert_true(tainted(f, "n1", "node.kubernetes.io/unreachable", "NoSchedule"));
    UNTIL(f, !exists(f, PODS "/impatient"));
    assert_true(exists(f, PODS "/patient"));
    assert_true(exists(f, PODS "/ordinary"));
    assert_true(ready_is(f, PODS "/patient", "False"));
    assert_true(str_is(f, PODS "/patient", "status.phase", "Running"));
    /* it is back */
    expect(f, 201, "POST", LEASES, "{\"metadata\":{\"name\":\"n1\"},\"spec\":{\"holderIdentity\":\"n1\"}}");
    merge(f, NODES "/n1/status", "{\"status\":{\"conditions\":[{\"type\":\"Ready\",\"status\":\"True\"}]}}");
    settle(f);
    assert_false(tainted(f, "n1", "node.kubernetes.io/unreachable", "NoExecute"));
}

static void a_renewed_lease_keeps_it(void **state) {
    struct fixture *f = *state;
    add_node(f, "n1", "True");
    expect(f, 201, "POST", LEASES, "{\"metadata\":{\"name\":\"n1\"},\"spec\":{\"holderIdentity\":\"n1\"}}");
    for (int64_t end = time_mono_ms() + 200, i = 0; time_mono_ms() < end; i++) {
        char patch[100];
        snprintf(patch, sizeof(patch), "{\"spec\":{\"leaseTransitions\":%lld}}", (long long)i);
        merge(f, LEASES "/n1", patch);
        assert_true(ready_is(f, NODES "/n1", "True"));
    }
    UNTIL(f, ready_is(f, NODES "/n1", "Unknown")); /* and then nothing comes */
}

static void pods_go_with_their_node(void **state) {
    struct fixture *f = *state;
    add_node(f, "n1", "True");
    add_pod(f, "p", "");
    expect(f, 200, "DELETE", NODES "/n1", NULL);
    settle(f);
    assert_false(exists(f, PODS "/p"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(gives_each_node_a_network, start, stop),
        cmocka_unit_test_setup_teardown(taints_follow_the_conditions, start, stop),
        cmocka_unit_test_setup_teardown(a_silent_node_is_lost, start_impatient, stop),
        cmocka_unit_test_setup_teardown(a_renewed_lease_keeps_it, start_impatient, stop),
        cmocka_unit_test_setup_teardown(pods_go_with_their_node, start, stop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
