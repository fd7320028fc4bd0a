#include "../api/helper.h"

#include "scheduler/scheduler.h"

#define PODS "/api/v1/namespaces/default/pods"
#define NODES "/api/v1/nodes"

static struct scheduler *schedulers[16]; /* their hooks cannot be taken back: each stays */
static int count;

static int start(void **state) {
    set_up(state);
    schedulers[count++] = scheduler_start(((struct fixture *)*state)->api, NULL);
    return 0;
}
static int stop(void **state) {
    scheduler_stop(schedulers[count - 1]);
    return tear_down(state);
}

static void settle(struct fixture *f) {
    for (int i = 0; i < 100; i++)
        uv_run(loop_uv(f->loop), UV_RUN_NOWAIT);
}

static void add_node(struct fixture *f, const char *name, const char *cpu) {
    char body[400];
    snprintf(body, sizeof(body),
             "{\"metadata\":{\"name\":\"%s\",\"labels\":{\"name\":\"%s\"}},\"status\":{\"allocatable\":{\"cpu\":\"%s\","
             "\"memory\":\"1Gi\",\"pods\":\"10\"},\"capacity\":{\"cpu\":\"%s\",\"memory\":\"1Gi\",\"pods\":\"10\"}}}",
             name, name, cpu, cpu);
    expect(f, 201, "POST", NODES, body);
}

static void add_pod(struct fixture *f, const char *name, const char *cpu, const char *extra) {
    char body[500];
    snprintf(
        body, sizeof(body),
        "{\"metadata\":{\"name\":\"%s\"},\"spec\":{%s\"containers\":[{\"name\":\"c\",\"image\":\"i:1\",\"resources\":{"
        "\"requests\":{\"cpu\":\"%s\"}}}]}}",
        name, extra, cpu);
    expect(f, 201, "POST", PODS, body);
    settle(f);
}

/* The pod's node, or the message of its condition PodScheduled, "" without either. */
static void where(struct fixture *f, const char *name, char out[300]) {
    char target[200];
    snprintf(target, sizeof(target), PODS "/%s", name);
    struct answer *x = ask(f, "GET", target, NULL, NULL);
    struct str node = json_str_at(x->json, "spec.nodeName");
    const struct json *conditions = json_at(x->json, "status.conditions");
    snprintf(out, 300, "%.*s", STR_ARG(node));
    for (size_t i = 0; i < json_len(conditions); i++) {
        const struct json *c = json_item(conditions, i);
        if (!str_eq_c(json_str_at(c, "type"), "PodScheduled"))
            continue;
        assert_true(str_eq_c(json_str_at(c, "status"), node.n ? "True" : "False"));
        if (!node.n)
            snprintf(out, 300, "%.*s: %.*s", STR_ARG(json_str_at(c, "reason")), STR_ARG(json_str_at(c, "message")));
    }
    answer_free(x);
}
static void assert_at(struct fixture *f, const char *pod, const char *wanted) {
    char at[300];
    where(f, pod, at);
    assert_string_equal(at, wanted);
}

static void binds(void **state) {
    struct fixture *f = *state;
    add_node(f, "n1", "2");
    add_pod(f, "p1", "1", "");
    assert_at(f, "p1", "n1");
    add_pod(f, "other", "1", "\"schedulerName\":\"mine\",");
    assert_at(f, "other", "");
}

static void says_why_not(void **state) {
    struct fixture *f = *state;
    add_pod(f, "p1", "1", "");
    assert_at(f, "p1", "Unschedulable: no nodes available to schedule pods");
    add_node(f, "n1", "500m");
    settle(f);
    assert_at(f, "p1", "Unschedulable: 0/1 nodes are available: 1 Insufficient cpu.");
    add_node(f, "n2", "500m");
    add_pod(f, "p2", "1", "\"nodeSelector\":{\"name\":\"n1\"},");
    assert_at(f, "p2",
              "Unschedulable: 0/2 nodes are available: 1 Insufficient cpu, 1 node(s) didn't match Pod's node "
              "affinity/selector.");
    struct answer *x = ask(f, "GET", "/api/v1/namespaces/default/events", NULL, NULL);
    bool told = false;
    const struct json *items = json_get_c(x->json, "items");
    for (size_t i = 0; i < json_len(items); i++)
        told |= str_eq_c(json_str_at(json_item(items, i), "reason"), "FailedScheduling") &&
                str_eq_c(json_str_at(json_item(items, i), "involvedObject.name"), "p1");
    assert_true(told);
    answer_free(x);
}

static void tries_again_when_something_changed(void **state) {
    struct fixture *f = *state;
    add_node(f, "n1", "1");
    add_pod(f, "first", "1", "");
    add_pod(f, "second", "1", "");
    add_pod(f, "third", "1", "");
    assert_at(f, "first", "n1");
    assert_at(f, "second", "Unschedulable: 0/1 nodes are available: 1 Insufficient cpu.");
    /* one that ended makes room */
    expect_as(f, ADMIN_TOKEN, 200, "PATCH", PODS "/first/status", "Content-Type: application/merge-patch+json",
              "{\"status\":{\"phase\":\"Succeeded\"}}");
    settle(f);
    assert_at(f, "second", "n1");
    assert_at(f, "third", "Unschedulable: 0/1 nodes are available: 1 Insufficient cpu.");
    /* one that was removed, too */
    expect(f, 200, "DELETE", PODS "/second", "{\"gracePeriodSeconds\":0}");
    settle(f);
    assert_at(f, "third", "n1");
    add_pod(f, "fourth", "1", "");
    add_node(f, "n2", "1"); /* so does a new node */
    settle(f);
    assert_at(f, "fourth", "n2");
    expect_as(f, ADMIN_TOKEN, 200, "PATCH", NODES "/n2", "Content-Type: application/merge-patch+json",
              "{\"spec\":{\"unschedulable\":true}}");
    expect(f, 200, "DELETE", PODS "/fourth", "{\"gracePeriodSeconds\":0}");
    add_pod(f, "fifth", "1", "");
    assert_at(f, "fifth", "Unschedulable: 0/2 nodes are available: 1 Insufficient cpu, 1 node(s) were unschedulable.");
    expect_as(f, ADMIN_TOKEN, 200, "PATCH", NODES "/n2", "Content-Type: application/merge-patch+json",
              "{\"spec\":{\"unschedulable\":false}}");
    settle(f);
    assert_at(f, "fifth", "n2");
}

static void waits_for_gates(void **state) {
    struct fixture *f = *state;
    add_node(f, "n1", "1");
    add_pod(f, "p1", "1", "\"schedulingGates\":[{\"name\":\"example.com/g\"}],");
    assert_at(f, "p1", "SchedulingGated: Scheduling is blocked due to non-empty scheduling gates");
    expect_as(f, ADMIN_TOKEN, 200, "PATCH", PODS "/p1", "Content-Type: application/merge-patch+json",
              "{\"spec\":{\"schedulingGates\":null}}");
    settle(f);
    assert_at(f, "p1", "n1");
}

/* A pod removed while it waits and made again under the same name is a new one. */
static void forgets_removed_pods(void **state) {
    struct fixture *f = *state;
    add_pod(f, "p1", "1", "");
    expect(f, 200, "DELETE", PODS "/p1", NULL);
    add_pod(f, "p1", "2", "");
    add_node(f, "n1", "1");
    settle(f);
    assert_at(f, "p1", "Unschedulable: 0/1 nodes are available: 1 Insufficient cpu.");
    expect(f, 200, "DELETE", PODS "/p1", NULL);
    settle(f);
    expect(f, 404, "GET", PODS "/p1", NULL);
}

static void the_more_important_goes_first(void **state) {
    struct fixture *f = *state;
    expect(f, 201, "POST", "/apis/scheduling.k8s.io/v1/priorityclasses",
           "{\"metadata\":{\"name\":\"high\"},\"value\":1000}");
    add_pod(f, "low", "1", "");
    add_pod(f, "high", "1", "\"priorityClassName\":\"high\",");
    add_node(f, "n1", "1");
    settle(f);
    assert_at(f, "high", "n1");
    assert_at(f, "low", "Unschedulable: 0/1 nodes are available: 1 Insufficient cpu.");
}

int main(void) {
#define TEST(fn) cmocka_unit_test_setup_teardown(fn, start, stop)
    const struct CMUnitTest tests[] = {
        TEST(binds),           TEST(says_why_not),         TEST(tries_again_when_something_changed),
        TEST(waits_for_gates), TEST(forgets_removed_pods), TEST(the_more_important_goes_first),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
