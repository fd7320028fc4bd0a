#include "helper.h"

static void deploy(struct fixture *f) {
    expect(
        f, 201, "POST", DEPLOYMENTS,
        "{\"metadata\":{\"name\":\"web\"},\"spec\":{\"replicas\":2,\"selector\":{\"matchLabels\":{\"app\":\"web\"}},"
        "\"template\":{\"metadata\":{\"labels\":{\"app\":\"web\"}},\"spec\":{\"containers\":[{\"name\":\"c\",\"image\":"
        "\"i:1\"}]}}}}");
    settle(f);
    assert_int_equal(count(f, PODS), 2);
}

static void background_takes_everything_below(void **state) {
    struct fixture *f = *state;
    deploy(f);
    expect(f, 200, "DELETE", DEPLOYMENTS "/web", "{\"propagationPolicy\":\"Background\"}");
    assert_false(exists(f, DEPLOYMENTS "/web")); /* the owner goes at once */
    settle(f);
    assert_int_equal(count(f, SETS), 0);
    assert_int_equal(count(f, PODS), 0);
}

static void foreground_keeps_the_owner_to_the_end(void **state) {
    struct fixture *f = *state;
    deploy(f);
    struct answer *x = ask(f, "GET", PODS, NULL, NULL);
    char pod[300];
    snprintf(pod, sizeof(pod), PODS "/%s", json_str_at(json_item(json_get_c(x->json, "items"), 0), "metadata.name").p);
    answer_free(x);
    merge(f, pod, "{\"metadata\":{\"finalizers\":[\"example.com/hold\"]}}");
    expect(f, 200, "DELETE", DEPLOYMENTS "/web", "{\"propagationPolicy\":\"Foreground\"}");
    settle(f);
    assert_true(exists(f, DEPLOYMENTS "/web")); /* a pod is held, so is everything above it */
    assert_int_equal(count(f, SETS), 1);
    assert_int_equal(count(f, PODS), 1);
    merge(f, pod, "{\"metadata\":{\"finalizers\":null}}");
    settle(f);
    assert_int_equal(count(f, PODS), 0);
    assert_int_equal(count(f, SETS), 0);
    assert_false(exists(f, DEPLOYMENTS "/web"));
}

static void orphans_stay(void **state) {
    struct fixture *f = *state;
    deploy(f);
    expect(f, 200, "DELETE", DEPLOYMENTS "/web", "{\"propagationPolicy\":\"Orphan\"}");
    settle(f);
    assert_false(exists(f, DEPLOYMENTS "/web"));
    assert_int_equal(count(f, PODS), 2);
    struct answer *x = ask(f, "GET", SETS, NULL, NULL);
    const struct json *items = json_get_c(x->json, "items");
    assert_int_equal(json_len(items), 1);
    assert_int_equal(json_len(json_at(json_item(items, 0), "metadata.ownerReferences")), 0);
    answer_free(x);
}

#define MAPS "/api/v1/namespaces/default/configmaps"

static void make_owned(struct fixture *f, const char *name, const char *owners) {
    char body[1000];
    snprintf(body, sizeof(body), "{\"metadata\":{\"name\":\"%s\",\"ownerReferences\":[%s]}}", name, owners);
    expect(f, 201, "POST", MAPS, body);
}

static void uid_of(struct fixture *f, const char *target, char out[64]) {
    struct answer *x = ask(f, "GET", target, NULL, NULL);
    snprintf(out, 64, "%.*s", STR_ARG(json_str_at(x->json, "metadata.uid")));
    answer_free(x);
}

static void goes_with_the_last_owner(void **state) {
    struct fixture *f = *state;
    char a[64], b[64], owners[500];
    make_owned(f, "a", "");
    make_owned(f, "b", "");
    uid_of(f, MAPS "/a", a);
    uid_of(f, MAPS "/b", b);
    snprintf(owners, sizeof(owners),
             "{\"apiVersion\":\"v1\",\"kind\":\"ConfigMap\",\"name\":\"a\",\"uid\":\"%s\"},"
             "{\"apiVersion\":\"v1\",\"kind\":\"ConfigMap\",\"name\":\"b\",\"uid\":\"%s\"}",
             a, b);
    make_owned(f, "child", owners);
    expect(f, 200, "DELETE", MAPS "/a", NULL);
    settle(f);
    struct answer *x = ask(f, "GET", MAPS "/child", NULL, NULL);
    assert_int_equal(json_len(json_at(x->json, "metadata.ownerReferences")), 1);
    answer_free(x);
    expect(f, 200, "DELETE", MAPS "/b", NULL);
    settle(f);
    assert_false(exists(f, MAPS "/child"));
}

/* An owner that never was, or another object by that name now, does not keep anything. An unknown kind is not judged. */
static void only_the_very_owner_counts(void **state) {
    struct fixture *f = *state;
    make_owned(f, "a", "");
    make_owned(f, "child", "{\"apiVersion\":\"v1\",\"kind\":\"ConfigMap\",\"name\":\"a\",\"uid\":\"not-its-uid\"}");
    make_owned(f, "strange", "{\"apiVersion\":\"example.com/v1\",\"kind\":\"Thing\",\"name\":\"a\",\"uid\":\"u\"}");
    settle(f);
    assert_false(exists(f, MAPS "/child"));
    assert_true(exists(f, MAPS "/strange"));
    assert_true(exists(f, MAPS "/a"));
}

int main(void) {
#define TEST(fn) cmocka_unit_test_setup_teardown(fn, start, stop)
    const struct CMUnitTest tests[] = {
        TEST(background_takes_everything_below),
        TEST(foreground_keeps_the_owner_to_the_end),
        TEST(orphans_stay),
        TEST(goes_with_the_last_owner),
        TEST(only_the_very_owner_counts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
