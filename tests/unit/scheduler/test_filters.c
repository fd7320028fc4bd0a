#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "scheduler/snapshot.h"

static struct arena *arena;

static int set_up(void **state) {
    arena = arena_new(0, 0);
    return 0;
}
static int tear_down(void **state) {
    arena_free(arena);
    return 0;
}

static struct json *parse(const char *text) {
    struct error err = {0};
    struct json *v = json_parse(arena, str_c(text), NULL, &err);
    if (!v)
        fail_msg("%s: %s", err.msg, text);
    return v;
}

static struct object *object(const char *name, const char *text) {
    parse(text); /* says what is wrong */
    return object_new(NULL, STR("default"), str_c(name), 1, xstrdup(text), strlen(text), NULL, NULL);
}

static struct node_info *node(const char *text) {
    struct object *o = object("n1", text);
    struct node_info *n = node_info_new(o);
    object_unref(o);
    return n;
}

#define ROOM "\"status\":{\"allocatable\":{\"cpu\":\"2\",\"memory\":\"1Gi\",\"pods\":\"3\",\"example.com/gpu\":\"1\"}}"
#define BIG_NODE "{\"metadata\":{\"name\":\"n1\",\"labels\":{\"zone\":\"a\",\"cores\":\"8\"}}," ROOM "}"

/* Why a pod with this spec may not run on a node, NULL when it may. */
static const char *why(struct node_info *n, const char *spec) {
    struct pod_info p = {.pod = parse(arena_printf(arena, "{\"spec\":%s}", spec)), .arena = arena};
    resources_of_pod(p.pod, &p.request);
    return filter_node(&p, n, arena);
}
static const char *why_on(const char *node_text, const char *spec) {
    struct node_info *n = node(node_text);
    const char *w = why(n, spec);
    node_info_free(n);
    return w;
}

#define C(requests) "{\"name\":\"c\",\"resources\":{\"requests\":{" requests "}}}"

static struct resources requests(const char *spec) {
    struct resources r;
    resources_of_pod(parse(arena_printf(arena, "{\"spec\":%s}", spec)), &r);
    return r;
}

static void sums_up_requests(void **state) {
    struct resources r =
        requests("{\"containers\":[" C("\"cpu\":\"500m\",\"memory\":\"100Mi\"") "," C("\"cpu\":\"1\"") "]}");
    assert_int_equal(r.cpu_milli, 1500);
    assert_int_equal(r.memory_bytes, 100 << 20);
    assert_int_equal(r.pods, 1);
    /* an init container runs alone: the most counts */
    r = requests(
        "{\"containers\":[" C("\"cpu\":\"1\"") "],\"initContainers\":[" C("\"cpu\":\"3\"") "," C("\"cpu\":\"2\"") "]}");
    assert_int_equal(r.cpu_milli, 3000);
    r = requests("{\"containers\":[" C("\"cpu\":\"1\"") "],\"overhead\":{\"cpu\":\"250m\"}}");
    assert_int_equal(r.cpu_milli, 1250);
    r = requests("{\"containers\":[" C("\"example.com/gpu\":\"2\"") "," C("\"example.com/gpu\":\"1\"") "]}");
    assert_int_equal(resources_scalar(&r, STR("example.com/gpu")), 3);
}

#define SIDECAR(requests) "{\"name\":\"s\",\"restartPolicy\":\"Always\",\"resources\":{\"requests\":{" requests "}}}"

static void counts_sidecars_with_what_runs_beside_them(void **state) {
    struct resources r =
        requests("{\"containers\":[" C("\"cpu\":\"1\"") "],\"initContainers\":[" SIDECAR("\"cpu\":\"500m\"") "]}");
    assert_int_equal(r.cpu_milli, 1500);
    /* an init container behind it runs beside it, one before does not */
    r = requests("{\"containers\":[" C("\"cpu\":\"1\"") "],\"initContainers\":[" SIDECAR("\"cpu\":\"500m\"") "," C(
        "\"cpu\":\"2\"") "]}");
    assert_int_equal(r.cpu_milli, 2500);
    r = requests("{\"containers\":[" C("\"cpu\":\"1\"") "],\"initContainers\":[" C("\"cpu\":\"2\"") "," SIDECAR(
        "\"cpu\":\"500m\"") "]}");
    assert_int_equal(r.cpu_milli, 2000);
}

static void compares_resources(void **state) {
    assert_null(why_on(BIG_NODE, "{\"containers\":[" C("\"cpu\":\"2\",\"memory\":\"1Gi\"") "]}"));
    assert_string_equal(why_on(BIG_NODE, "{\"containers\":[" C("\"cpu\":\"2001m\"") "]}"), "Insufficient cpu");
    assert_string_equal(why_on(BIG_NODE, "{\"containers\":[" C("\"memory\":\"1025Mi\"") "]}"), "Insufficient memory");
    assert_string_equal(why_on(BIG_NODE, "{\"containers\":[" C("\"example.com/gpu\":\"2\"") "]}"),
                        "Insufficient example.com/gpu");
    assert_string_equal(why_on(BIG_NODE, "{\"containers\":[" C("\"example.com/none\":\"1\"") "]}"),
                        "Insufficient example.com/none");
}

static struct object *bound(const char *uid, const char *spec) {
    return object(uid,
                  arena_printf(arena, "{\"metadata\":{\"name\":\"%s\",\"uid\":\"%s\"},\"spec\":%s}", uid, uid, spec));
}

static void counts_what_runs_there(void **state) {
    struct node_info *n = node(BIG_NODE);
    struct object *a = bound("a", "{\"containers\":[" C("\"cpu\":\"1500m\",\"example.com/gpu\":\"1\"") "]}");
    struct object *b = bound("b", "{\"containers\":[{\"name\":\"c\"}]}"),
                  *c = bound("c", "{\"containers\":[{\"name\":\"c\"}]}");
    node_info_add_pod(n, a);
    node_info_add_pod(n, a); /* another version of the same */
    assert_int_equal(n->requested.cpu_milli, 1500);
    assert_string_equal(why(n, "{\"containers\":[" C("\"cpu\":\"600m\"") "]}"), "Insufficient cpu");
    assert_string_equal(why(n, "{\"containers\":[" C("\"example.com/gpu\":\"1\"") "]}"),
                        "Insufficient example.com/gpu");
    node_info_add_pod(n, b);
    node_info_add_pod(n, c);
    assert_string_equal(why(n, "{\"containers\":[{\"name\":\"c\"}]}"), "Too many pods");
    node_info_remove_pod(n, a);
    node_info_remove_pod(n, a);
    assert_null(why(n, "{\"containers\":[" C("\"cpu\":\"2\",\"example.com/gpu\":\"1\"") "]}"));
    object_unref(a);
    object_unref(b);
    object_unref(c);
    node_info_free(n);
}

#define TAINTED(effect)                                                                                         \
    "{\"metadata\":{\"name\":\"n1\"},\"spec\":{\"taints\":[{\"key\":\"k\",\"value\":\"v\",\"effect\":\"" effect \
    "\"}]}," ROOM "}"
#define TOLERATES(t) "{\"tolerations\":[" t "]}"

static void respects_taints(void **state) {
    assert_string_equal(why_on(TAINTED("NoSchedule"), "{}"), "node(s) had untolerated taint {k: v}");
    assert_non_null(why_on(TAINTED("NoExecute"), "{}"));
    assert_null(why_on(TAINTED("PreferNoSchedule"), "{}"));
    assert_null(why_on(TAINTED("NoSchedule"), TOLERATES("{\"operator\":\"Exists\"}")));
    assert_null(why_on(TAINTED("NoSchedule"), TOLERATES("{\"key\":\"k\",\"operator\":\"Exists\"}")));
    assert_null(why_on(TAINTED("NoSchedule"), TOLERATES("{\"key\":\"k\",\"value\":\"v\",\"effect\":\"NoSchedule\"}")));
    assert_null(why_on(TAINTED("NoSchedule"), TOLERATES("{\"key\":\"k\",\"operator\":\"Equal\",\"value\":\"v\"}")));
    assert_non_null(why_on(TAINTED("NoSchedule"), TOLERATES("{\"key\":\"k\",\"value\":\"w\"}")));
    assert_non_null(
        why_on(TAINTED("NoSchedule"), TOLERATES("{\"key\":\"k\",\"value\":\"v\",\"effect\":\"NoExecute\"}")));
    assert_non_null(why_on(TAINTED("NoSchedule"), TOLERATES("{\"key\":\"x\",\"operator\":\"Exists\"}")));
    const char *cordoned = "{\"metadata\":{\"name\":\"n1\"},\"spec\":{\"unschedulable\":true}," ROOM "}";
    assert_string_equal(why_on(cordoned, "{}"), "node(s) were unschedulable");
    assert_null(why_on(cordoned, TOLERATES("{\"key\":\"node.kubernetes.io/unschedulable\",\"operator\":\"Exists\"}")));
}

#define REQUIRED(terms)                                                                                                  \
    "{\"affinity\":{\"nodeAffinity\":{\"requiredDuringSchedulingIgnoredDuringExecution\":{\"nodeSelectorTerms\":[" terms \
    "]}}}}"
#define EXPR(key, op, values) \
    "{\"matchExpressions\":[{\"key\":\"" key "\",\"operator\":\"" op "\",\"values\":[" values "]}]}"

static void selects_nodes_by_label(void **state) {
    static const struct {
        const char *spec;
        bool fits;
    } cases[] = {
        {"{\"nodeSelector\":{\"zone\":\"a\"}}", true},
        {"{\"nodeSelector\":{\"zone\":\"b\"}}", false},
        {"{\"nodeSelector\":{\"none\":\"\"}}", false},
        {REQUIRED(EXPR("zone", "In", "\"b\",\"a\"")), true},
        {REQUIRED(EXPR("zone", "In", "\"b\"")), false},
        {REQUIRED(EXPR("zone", "NotIn", "\"b\"")), true},
        {REQUIRED(EXPR("zone", "NotIn", "\"a\"")), false},
        {REQUIRED(EXPR("none", "NotIn", "\"a\"")), true},
        {REQUIRED(EXPR("zone", "Exists", "")), true},
        {REQUIRED(EXPR("none", "Exists", "")), false},
        {REQUIRED(EXPR("none", "DoesNotExist", "")), true},
        {REQUIRED(EXPR("zone", "DoesNotExist", "")), false},
        {REQUIRED(EXPR("cores", "Gt", "\"7\"")), true},
        {REQUIRED(EXPR("cores", "Gt", "\"8\"")), false},
        {REQUIRED(EXPR("cores", "Lt", "\"9\"")), true},
        {REQUIRED(EXPR("zone", "Lt", "\"9\"")), false},
        {REQUIRED(EXPR("none", "Gt", "\"0\"")), false},
        {REQUIRED("{}"), false},
        {REQUIRED(EXPR("zone", "In", "\"b\"") "," EXPR("cores", "Exists", "")), true}, /* any term */
        {REQUIRED("{\"matchFields\":[{\"key\":\"metadata.name\",\"operator\":\"In\",\"values\":[\"n1\"]}]}"), true},
        {REQUIRED("{\"matchFields\":[{\"key\":\"metadata.name\",\"operator\":\"In\",\"values\":[\"n2\"]}]}"), false},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        const char *w = why_on(BIG_NODE, cases[i].spec);
        if ((w == NULL) != cases[i].fits)
            fail_msg("%s: %s", cases[i].spec, w ? w : "fits");
        if (w)
            assert_string_equal(w, "node(s) didn't match Pod's node affinity/selector");
    }
}

#define PORT(port) "{\"containers\":[{\"name\":\"c\",\"ports\":[{" port "}]}]}"

static void keeps_host_ports_apart(void **state) {
    struct node_info *n = node(BIG_NODE);
    struct object *a = bound("a", PORT("\"containerPort\":80,\"hostPort\":80,\"hostIP\":\"192.0.2.1\""));
    node_info_add_pod(n, a);
    const char *clash = "node(s) didn't have free ports for the requested pod ports";
    assert_string_equal(why(n, PORT("\"containerPort\":1,\"hostPort\":80")), clash);
    assert_string_equal(why(n, PORT("\"hostPort\":80,\"hostIP\":\"0.0.0.0\"")), clash);
    assert_string_equal(why(n, PORT("\"hostPort\":80,\"hostIP\":\"192.0.2.1\",\"protocol\":\"TCP\"")), clash);
    assert_null(why(n, PORT("\"hostPort\":80,\"hostIP\":\"192.0.2.2\"")));
    assert_null(why(n, PORT("\"hostPort\":80,\"protocol\":\"UDP\"")));
    assert_null(why(n, PORT("\"hostPort\":81")));
    assert_null(why(n, PORT("\"containerPort\":80")));
    object_unref(a);
    node_info_free(n);
}

int main(void) {
#define TEST(fn) cmocka_unit_test_setup_teardown(fn, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(sums_up_requests),       TEST(counts_sidecars_with_what_runs_beside_them),
        TEST(compares_resources),     TEST(counts_what_runs_there),
        TEST(respects_taints),        TEST(selects_nodes_by_label),
        TEST(keeps_host_ports_apart),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
