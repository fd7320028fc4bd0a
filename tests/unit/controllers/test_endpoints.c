#include "helper.h"

#define SERVICES "/api/v1/namespaces/default/services"
#define ENDPOINTS "/api/v1/namespaces/default/endpoints/web"
#define SLICES \
    "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices?labelSelector=kubernetes.io/service-name%3Dweb"

static void serve(struct fixture *f, const char *extra) {
    char body[500];
    snprintf(
        body, sizeof(body),
        "{\"metadata\":{\"name\":\"web\"},\"spec\":{%s\"selector\":{\"app\":\"web\"},\"ports\":[{\"name\":\"http\","
        "\"port\":80,\"targetPort\":\"web\"}]}}",
        extra);
    expect(f, 201, "POST", SERVICES, body);
}

static void add_pod(struct fixture *f, const char *name, int port, bool ready, const char *ip) {
    char body[500];
    snprintf(
        body, sizeof(body),
        "{\"metadata\":{\"name\":\"%s\",\"labels\":{\"app\":\"web\"}},\"spec\":{\"containers\":[{\"name\":\"c\",\"image\":"
        "\"i:1\",\"ports\":[{\"name\":\"web\",\"containerPort\":%d}]}]}}",
        name, port);
    expect(f, 201, "POST", PODS, body);
    report_pod(f, name, "Running", ready, ip);
    settle(f);
}

/* "10.42.0.2 10.42.0.3!:8080; ..." of the Endpoints: ! marks those that are not ready. */
static void endpoints_are(struct fixture *f, const char *wanted) {
    char text_[500] = "";
    size_t n = 0;
    settle(f);
    struct answer *x = ask(f, "GET", ENDPOINTS, NULL, NULL);
    assert_int_equal(x->code, 200);
    const struct json *subsets = json_get_c(x->json, "subsets");
    for (size_t i = 0; i < json_len(subsets); i++) {
        const struct json *s = json_item(subsets, i);
        static const char *const lists[] = {"addresses", "notReadyAddresses"};
        n += (size_t)snprintf(text_ + n, sizeof(text_) - n, "%s", i ? "; " : "");
        for (size_t k = 0; k < 2; k++)
            for (size_t j = 0; j < json_len(json_get_c(s, lists[k])); j++)
                n += (size_t)snprintf(text_ + n, sizeof(text_) - n, "%.*s%s ",
                                      STR_ARG(json_str_at(json_item(json_get_c(s, lists[k]), j), "ip")), k ? "!" : "");
        n += (size_t)snprintf(text_ + n, sizeof(text_) - n, ":%lld",
                              (long long)json_int_at(json_item(json_get_c(s, "ports"), 0), "port", 0));
    }
    answer_free(x);
    assert_string_equal(text_, wanted);
}

struct slice_counts {
    int slices, endpoints, ready, serving, terminating;
};
static struct slice_counts count_slices(struct fixture *f) {
    struct slice_counts n = {0};
    settle(f);
    struct answer *x = ask(f, "GET", SLICES, NULL, NULL);
    const struct json *items = json_get_c(x->json, "items");
    for (size_t i = 0; i < json_len(items); i++) {
        const struct json *list = json_get_c(json_item(items, i), "endpoints");
        n.slices++;
        assert_true(json_len(list) <= 100);
        assert_true(str_eq_c(json_str_at(json_item(items, i), "addressType"), "IPv4"));
        for (size_t k = 0; k < json_len(list); k++) {
            const struct json *c = json_get_c(json_item(list, k), "conditions");
            n.endpoints++;
            n.ready += json_bool_at(c, "ready", false);
            n.serving += json_bool_at(c, "serving", false);
            n.terminating += json_bool_at(c, "terminating", false);
        }
    }
    answer_free(x);
    return n;
}

static void follow_readiness(void **state) {
    struct fixture *f = *state;
    serve(f, "");
    endpoints_are(f, "");
    add_pod(f, "a", 8080, true, "10.42.0.2");
    add_pod(f, "b", 8080, false, "10.42.0.3");
    add_pod(f, "c", 8080, true, NULL); /* no address yet */
    endpoints_are(f, "10.42.0.2 10.42.0.3! :8080");
    struct slice_counts n = count_slices(f);
    assert_int_equal(n.endpoints, 2);
    assert_int_equal(n.ready, 1);
    report_pod(f, "b", "Running", true, "10.42.0.3");
    endpoints_are(f, "10.42.0.2 10.42.0.3 :8080");
    report_pod(f, "a", "Failed", false, "10.42.0.2");
    endpoints_are(f, "10.42.0.3 :8080");
    merge(f, PODS "/b", "{\"metadata\":{\"labels\":{\"app\":\"other\"}}}");
    endpoints_are(f, "");
    assert_int_equal(count_slices(f).endpoints, 0);
}

static void a_terminating_pod_is_not_ready(void **state) {
    struct fixture *f = *state;
    serve(f, "");
    expect(f, 201, "POST", "/api/v1/nodes", "{\"metadata\":{\"name\":\"n1\"}}");
    expect(f, 201, "POST", PODS,
           "{\"metadata\":{\"name\":\"a\",\"labels\":{\"app\":\"web\"}},\"spec\":{\"nodeName\":\"n1\",\"containers\":[{"
           "\"name\":\"c\",\"image\":\"i:1\",\"ports\":[{\"name\":\"web\",\"containerPort\":80}]}]}}");
    report_pod(f, "a", "Running", true, "10.42.0.2");
    assert_int_equal(count_slices(f).ready, 1);
    expect(f, 200, "DELETE", PODS "/a", NULL);
    struct slice_counts n = count_slices(f);
    assert_int_equal(n.ready, 0);
    assert_int_equal(n.serving, 1);
    assert_int_equal(n.terminating, 1);
    expect(f, 200, "DELETE", PODS "/a", "{\"gracePeriodSeconds\":0}");
    endpoints_are(f, "");
}

static void named_ports_are_each_pods_own(void **state) {
    struct fixture *f = *state;
    serve(f, "");
    add_pod(f, "a", 8080, true, "10.42.0.2");
    add_pod(f, "b", 9090, true, "10.42.0.3");
    endpoints_are(f, "10.42.0.2 :8080; 10.42.0.3 :9090");
    assert_int_equal(count_slices(f).slices, 2);
}

static void not_ready_ones_are_published_on_request(void **state) {
    struct fixture *f = *state;
    serve(f, "\"publishNotReadyAddresses\":true,");
    add_pod(f, "a", 8080, false, "10.42.0.2");
    endpoints_are(f, "10.42.0.2 :8080");
    assert_int_equal(count_slices(f).ready, 1);
}

static void a_slice_holds_a_hundred(void **state) {
    struct fixture *f = *state;
    serve(f, "");
    for (int i = 0; i < 105; i++) {
        char name[20], ip[30];
        snprintf(name, sizeof(name), "p%03d", i);
        snprintf(ip, sizeof(ip), "10.42.1.%d", i + 1);
        add_pod(f, name, 80, true, ip);
    }
    struct slice_counts n = count_slices(f);
    assert_int_equal(n.slices, 2);
    assert_int_equal(n.endpoints, 105);
    expect(f, 200, "DELETE", PODS, NULL);
    assert_int_equal(count_slices(f).endpoints, 0);
}

static void go_with_their_service(void **state) {
    struct fixture *f = *state;
    serve(f, "");
    add_pod(f, "a", 8080, true, "10.42.0.2");
    expect(f, 200, "DELETE", SERVICES "/web", NULL);
    settle(f);
    assert_false(exists(f, ENDPOINTS));
    assert_int_equal(count(f, SLICES), 0);
}

int main(void) {
#define TEST(fn) cmocka_unit_test_setup_teardown(fn, start, stop)
    const struct CMUnitTest tests[] = {
        TEST(follow_readiness),
        TEST(a_terminating_pod_is_not_ready),
        TEST(named_ports_are_each_pods_own),
        TEST(not_ready_ones_are_published_on_request),
        TEST(a_slice_holds_a_hundred),
        TEST(go_with_their_service),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
