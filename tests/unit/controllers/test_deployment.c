#include "helper.h"

/* extra: further members of spec, with a comma behind each. */
static void deploy(struct fixture *f, int replicas, const char *image, const char *extra) {
    char body[1500];
    snprintf(
        body, sizeof(body),
        "{\"apiVersion\":\"apps/v1\",\"kind\":\"Deployment\",\"metadata\":{\"name\":\"web\"},\"spec\":{"
        "\"replicas\":%d,%s\"selector\":{\"matchLabels\":{\"app\":\"web\"}},\"template\":{\"metadata\":{\"labels\":{"
        "\"app\":\"web\"}},\"spec\":{\"containers\":[{\"name\":\"c\",\"image\":\"%s\"}]}}}}",
        replicas, extra, image);
    expect(f, 201, "POST", DEPLOYMENTS, body);
    settle(f);
}

static void set_image(struct fixture *f, const char *image) {
    char patch[300];
    snprintf(patch, sizeof(patch),
             "{\"spec\":{\"template\":{\"spec\":{\"containers\":[{\"name\":\"c\",\"image\":\"%s\"}]}}}}", image);
    merge(f, DEPLOYMENTS "/web", patch);
    settle(f);
}

/* Revision (or its history) of the ReplicaSet with an image; arena's copy or NULL. */
static bool set_annotation_is(struct fixture *f, const char *image, const char *key, const char *wanted) {
    struct answer *x = ask(f, "GET", SETS, NULL, NULL);
    const struct json *items = json_get_c(x->json, "items");
    bool found = false, same = false;
    for (size_t i = 0; i < json_len(items); i++) {
        const struct json *s = json_item(items, i);
        if (!str_eq_c(json_str_at(json_item(json_at(s, "spec.template.spec.containers"), 0), "image"), image))
            continue;
        found = true;
        same = str_eq_c(json_as_str(json_get_c(json_at(s, "metadata.annotations"), key)), wanted);
    }
    answer_free(x);
    return wanted ? found && same : found;
}
#define REVISION "deployment.kubernetes.io/revision"
#define HISTORY "deployment.kubernetes.io/revision-history"

static bool condition_is(struct fixture *f, const char *type, const char *status, const char *reason) {
    struct answer *x = ask(f, "GET", DEPLOYMENTS "/web", NULL, NULL);
    const struct json *c = condition_find(json_get_c(x->json, "status"), type);
    bool same = str_eq_c(json_str_at(c, "status"), status) && str_eq_c(json_str_at(c, "reason"), reason);
    answer_free(x);
    return same;
}

static void becomes_available(void **state) {
    struct fixture *f = *state;
    deploy(f, 2, "i:1", "");
    assert_int_equal(count(f, SETS), 1);
    assert_int_equal(count(f, PODS), 2);
    assert_true(condition_is(f, "Available", "False", "MinimumReplicasUnavailable"));
    ready_all(f);
    assert_int_equal(int_of(f, DEPLOYMENTS "/web", "status.availableReplicas"), 2);
    assert_int_equal(int_of(f, DEPLOYMENTS "/web", "status.updatedReplicas"), 2);
    assert_int_equal(int_of(f, DEPLOYMENTS "/web", "status.observedGeneration"),
                     int_of(f, DEPLOYMENTS "/web", "metadata.generation"));
    assert_true(condition_is(f, "Available", "True", "MinimumReplicasAvailable"));
    assert_true(condition_is(f, "Progressing", "True", "NewReplicaSetAvailable"));
    assert_true(set_annotation_is(f, "i:1", REVISION, "1"));
}

static void rolls_within_its_limits(void **state) {
    struct fixture *f = *state;
    deploy(f, 4, "i:1", "\"strategy\":{\"rollingUpdate\":{\"maxSurge\":1,\"maxUnavailable\":1}},");
    ready_all(f);
    set_image(f, "i:2");
    for (int i = 0;; i++) {
        settle(f);
        struct pod_counts n = count_pods(f, "i:2");
        assert_true(n.all <= 5);
        assert_true(n.ready >= 3);
        assert_true(i < 20);
        if (!ready_one(f, NULL))
            break;
    }
    struct pod_counts n = count_pods(f, "i:2");
    assert_int_equal(n.all, 4);
    assert_int_equal(n.image, 4);
    assert_int_equal(count(f, SETS), 2);
    assert_true(condition_is(f, "Progressing", "True", "NewReplicaSetAvailable"));
}

static void never_goes_below_with_surge_only(void **state) {
    struct fixture *f = *state;
    deploy(f, 3, "i:1", "\"strategy\":{\"rollingUpdate\":{\"maxSurge\":\"34%\",\"maxUnavailable\":0}},");
    ready_all(f);
    set_image(f, "i:2");
    assert_int_equal(count_pods(f, NULL).all, 5); /* 34 % of 3, rounded up */
    for (int i = 0; i < 20; i++) {
        assert_true(count_pods(f, NULL).ready >= 3);
        assert_true(count_pods(f, NULL).all <= 5);
        if (!ready_one(f, NULL))
            break;
        settle(f);
    }
    assert_int_equal(count_pods(f, "i:2").image, 3);
    assert_int_equal(count_pods(f, "i:2").all, 3);
}

static void a_bad_image_takes_no_more_than_allowed(void **state) {
    struct fixture *f = *state;
    deploy(f, 4, "i:1", ""); /* 25 % each */
    ready_all(f);
    set_image(f, "bad:1"); /* its pods never become Ready */
    for (int i = 0; i < 3; i++) {
        settle(f);
        assert_int_equal(count_pods(f, NULL).ready, 3);
        assert_int_equal(count_pods(f, NULL).all, 5);
    }
    set_image(f, "bad:2"); /* another try, as bad */
    assert_int_equal(count_pods(f, NULL).ready, 3);
    assert_true(count_pods(f, NULL).all <= 5);
    assert_int_equal(count_pods(f, "bad:1").image, 0); /* what is sick goes first */
    assert_true(condition_is(f, "Available", "True", "MinimumReplicasAvailable"));
    assert_true(condition_is(f, "Progressing", "True", "ReplicaSetUpdated"));
}

static void a_rollback_is_a_new_revision(void **state) {
    struct fixture *f = *state;
    deploy(f, 1, "i:1", "");
    ready_all(f);
    set_image(f, "i:2");
    ready_all(f);
    assert_true(set_annotation_is(f, "i:2", REVISION, "2"));
    set_image(f, "i:1");
    ready_all(f);
    assert_int_equal(count(f, SETS), 2);
    assert_true(set_annotation_is(f, "i:1", REVISION, "3"));
    assert_true(set_annotation_is(f, "i:1", HISTORY, "1"));
    assert_true(set_annotation_is(f, "i:2", REVISION, "2"));
    assert_int_equal(count_pods(f, "i:1").image, 1);
    struct answer *x = ask(f, "GET", DEPLOYMENTS "/web", NULL, NULL);
    assert_true(str_eq_c(json_as_str(json_get_c(json_at(x->json, "metadata.annotations"), REVISION)), "3"));
    answer_free(x);
}

static void recreate_ends_the_old_before_the_new(void **state) {
    struct fixture *f = *state;
    deploy(f, 3, "i:1", "\"strategy\":{\"type\":\"Recreate\"},");
    ready_all(f);
    merge(f, DEPLOYMENTS "/web",
          "{\"spec\":{\"template\":{\"spec\":{\"containers\":[{\"name\":\"c\",\"image\":\"i:2\"}]}}}}");
    for (int i = 0; i < 300; i++) {
        uv_run(loop_uv(f->loop), UV_RUN_NOWAIT);
        struct pod_counts n = count_pods(f, "i:2");
        assert_true(n.image == 0 || n.image == n.all);
        if (n.image == 3)
            break;
    }
    settle(f);
    assert_int_equal(count_pods(f, "i:2").image, 3);
}

static void scales_in_the_middle_of_a_rollout(void **state) {
    struct fixture *f = *state;
    deploy(f, 2, "i:1", "");
    ready_all(f);
    merge(f, DEPLOYMENTS "/web", "{\"spec\":{\"replicas\":5}}");
    settle(f);
    assert_int_equal(count(f, PODS), 5);
    assert_int_equal(count(f, SETS), 1);
    ready_all(f);
    set_image(f, "bad:1");
    merge(f, DEPLOYMENTS "/web", "{\"spec\":{\"replicas\":10}}");
    settle(f);
    struct pod_counts n = count_pods(f, "i:1");
    assert_true(n.image > 4); /* the good ones get their share */
    assert_true(n.all <= 13);
    merge(f, DEPLOYMENTS "/web", "{\"spec\":{\"replicas\":0}}");
    settle(f);
    assert_int_equal(count(f, PODS), 0);
}

static void forgets_old_revisions(void **state) {
    struct fixture *f = *state;
    deploy(f, 1, "i:1", "\"revisionHistoryLimit\":2,");
    ready_all(f);
    for (int i = 2; i <= 5; i++) {
        char image[20];
        snprintf(image, sizeof(image), "i:%d", i);
        set_image(f, image);
        ready_all(f);
    }
    assert_int_equal(count(f, SETS), 3);
    assert_false(set_annotation_is(f, "i:2", REVISION, NULL));
    assert_true(set_annotation_is(f, "i:3", REVISION, "3"));
    assert_true(set_annotation_is(f, "i:5", REVISION, "5"));
}

static void takes_in_sets_that_match(void **state) {
    struct fixture *f = *state;
    expect(f, 201, "POST", SETS,
           "{\"metadata\":{\"name\":\"stray\",\"labels\":{\"app\":\"web\"}},\"spec\":{\"replicas\":1,\"selector\":{"
           "\"matchLabels\":{\"app\":\"web\"}},\"template\":{\"metadata\":{\"labels\":{\"app\":\"web\"}},\"spec\":{"
           "\"containers\":[{\"name\":\"c\",\"image\":\"old:1\"}]}}}}");
    settle(f);
    deploy(f, 1, "i:1", "");
    struct answer *x = ask(f, "GET", SETS "/stray", NULL, NULL);
    assert_true(str_eq_c(json_str_at(meta_controller_ref(x->json), "name"), "web"));
    answer_free(x);
    ready_all(f);
    assert_int_equal(int_of(f, SETS "/stray", "spec.replicas"), 0);
    assert_int_equal(count_pods(f, "i:1").image, 1);
    assert_int_equal(count_pods(f, "i:1").all, 1);
}

static void a_paused_one_waits(void **state) {
    struct fixture *f = *state;
    deploy(f, 1, "i:1", "");
    ready_all(f);
    merge(f, DEPLOYMENTS "/web", "{\"spec\":{\"paused\":true}}");
    set_image(f, "i:2");
    assert_int_equal(count(f, SETS), 1);
    merge(f, DEPLOYMENTS "/web", "{\"spec\":{\"replicas\":3}}");
    settle(f);
    assert_int_equal(count_pods(f, "i:1").image, 3);
    merge(f, DEPLOYMENTS "/web", "{\"spec\":{\"paused\":false}}");
    ready_all(f);
    assert_int_equal(count_pods(f, "i:2").image, 3);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, start, stop)
int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(becomes_available),
        TEST(rolls_within_its_limits),
        TEST(never_goes_below_with_surge_only),
        TEST(a_bad_image_takes_no_more_than_allowed),
        TEST(a_rollback_is_a_new_revision),
        TEST(recreate_ends_the_old_before_the_new),
        TEST(scales_in_the_middle_of_a_rollout),
        TEST(forgets_old_revisions),
        TEST(takes_in_sets_that_match),
        TEST(a_paused_one_waits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
