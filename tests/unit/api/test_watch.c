#include "helper.h"

#define CM "/api/v1/namespaces/default/configmaps"

static void make(struct fixture *f, const char *name, const char *label) {
    cleanup_free char *body = xasprintf("{\"metadata\":{\"name\":\"%s\",\"labels\":{\"l\":\"%s\"}}}", name, label);
    expect(f, 201, "POST", CM, body);
}

static void relabel(struct fixture *f, const char *name, const char *label) {
    cleanup_free char *target = xasprintf(CM "/%s", name);
    cleanup_free char *body = xasprintf("{\"metadata\":{\"labels\":{\"l\":\"%s\"}}}", label);
    expect_as(f, ADMIN_TOKEN, 200, "PATCH", target, "Content-Type: application/merge-patch+json", body);
}

/* The next event of a stream, taken off it; NULL when there is none. */
static struct json *next(struct answer *x) {
    turn(x->f);
    struct str all = buf_str(&x->body), line;
    if (!str_cut(all, '\n', &line, NULL))
        return NULL;
    struct json *v = json_parse(x->arena, str_dup(x->arena, line), NULL, NULL);
    assert_non_null(v);
    buf_consume(&x->body, line.n + 1);
    return v;
}

static void expect_event(struct answer *x, const char *type, const char *name) {
    struct json *v = next(x);
    assert_non_null(v);
    assert_string_equal(json_str_at(v, "type").p, type);
    assert_string_equal(json_str_at(v, "object.metadata.name").p, name);
}

static struct answer *watch_from_now(struct fixture *f, const char *query) {
    cleanup_free char *target =
        xasprintf(CM "?watch=1&resourceVersion=%lld%s", (long long)store_revision(f->store), query);
    struct answer *x = ask(f, "GET", target, NULL, NULL);
    assert_true(x->streaming);
    assert_int_equal(x->code, 200);
    return x;
}

static void changes_arrive(void **state) {
    struct fixture *f = *state;
    struct answer *x = watch_from_now(f, ""), *y = watch_from_now(f, "");
    make(f, "a", "1");
    relabel(f, "a", "2");
    expect(f, 201, "POST", "/api/v1/namespaces/kube-system/configmaps", "{\"metadata\":{\"name\":\"other\"}}");
    expect(f, 200, "DELETE", CM "/a", NULL);
    struct answer *both[] = {x, y};
    for (size_t i = 0; i < 2; i++) {
        expect_event(both[i], "ADDED", "a");
        expect_event(both[i], "MODIFIED", "a");
        expect_event(both[i], "DELETED", "a");
        assert_null(next(both[i]));
        answer_free(both[i]);
    }
}

static void selectors_let_in_and_out(void **state) {
    struct fixture *f = *state;
    make(f, "a", "1");
    struct answer *x = watch_from_now(f, "&labelSelector=l%3D2");
    relabel(f, "a", "2");
    relabel(f, "a", "3");
    int64_t left = store_revision(f->store);
    relabel(f, "a", "4");
    make(f, "b", "2");
    expect(f, 200, "DELETE", CM "/a", NULL);
    expect_event(x, "ADDED", "a");
    struct json *gone = next(x);
    assert_string_equal(json_str_at(gone, "type").p, "DELETED");
    assert_string_equal(json_str_at(gone, "object.metadata.labels.l").p, "2");
    assert_int_equal(meta_version(json_get_c(gone, "object")), left);
    expect_event(x, "ADDED", "b");
    assert_null(next(x));
    answer_free(x);
}

static void initial_events(void **state) {
    struct fixture *f = *state;
    make(f, "a", "1");
    make(f, "b", "1");
    struct answer *x = ask(f, "GET", CM "?watch=1", NULL, NULL);
    expect_event(x, "ADDED", "a");
    expect_event(x, "ADDED", "b");
    assert_null(next(x));
    answer_free(x);
    x = ask(f, "GET", CM "?watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true",
            NULL, NULL);
    expect_event(x, "ADDED", "a");
    expect_event(x, "ADDED", "b");
    struct json *mark = next(x);
    assert_string_equal(json_str_at(mark, "type").p, "BOOKMARK");
    assert_string_equal(json_str_at(mark, "object.kind").p, "ConfigMap");
    assert_string_equal(
        json_as_str(json_get_c(json_at(mark, "object.metadata.annotations"), "k8s.io/initial-events-end")).p, "true");
    make(f, "c", "1");
    expect_event(x, "ADDED", "c");
    answer_free(x);
    expect(f, 422, "GET", CM "?watch=1&sendInitialEvents=true", NULL);
}

static void versions(void **state) {
    struct fixture *f = *state;
    make(f, "a", "1");
    expect(f, 504, "GET", CM "?watch=1&resourceVersion=99999", NULL);
    expect(f, 400, "GET", CM "?watch=1&resourceVersion=x", NULL);
    cleanup_free char *target = xasprintf(CM "?watch=1&resourceVersion=%lld", (long long)store_revision(f->store));
    make(f, "b", "1");
    turn(f);
    struct answer *x = ask(f, "GET", target, NULL, NULL);
    expect_event(x, "ADDED", "b");
    answer_free(x);
}

static void other_forms(void **state) {
    struct fixture *f = *state;
    make(f, "a", "1");
    struct answer *x = ask(f, "GET", CM "?watch=1", "Accept: application/json;as=Table;g=meta.k8s.io;v=v1", NULL);
    relabel(f, "a", "2");
    struct json *first = next(x), *second = next(x);
    assert_string_equal(json_str_at(first, "object.kind").p, "Table");
    assert_int_equal(json_len(json_at(first, "object.rows")), 1);
    assert_true(json_is(json_at(first, "object.columnDefinitions"), JSON_ARRAY));
    assert_true(json_is(json_at(second, "object.columnDefinitions"), JSON_NULL));
    answer_free(x);
    x = ask(f, "GET", CM "?watch=1", "Accept: application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1", NULL);
    first = next(x);
    assert_string_equal(json_str_at(first, "object.kind").p, "PartialObjectMetadata");
    answer_free(x);
}

static void slow_watchers_are_cut(void **state) {
    struct fixture *f = *state;
    struct answer *x = watch_from_now(f, "");
    x->backlog = API_WATCH_BACKLOG + 1;
    make(f, "a", "1");
    turn(f);
    assert_true(x->ended);
    assert_int_equal(watch_cut_count(f->api->watches), 1);
    assert_int_equal(watch_count(f->api->watches), 0);
    answer_free(x);
}

static void watches_end_in_time(void **state) {
    struct fixture *f = *state;
    struct answer *x = watch_from_now(f, "&timeoutSeconds=1");
    for (int i = 0; i < 100 && !x->ended; i++)
        uv_run(loop_uv(f->loop), UV_RUN_ONCE);
    assert_true(x->ended);
    answer_free(x);
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, set_up, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        T(changes_arrive), T(selectors_let_in_and_out), T(initial_events),      T(versions),
        T(other_forms),    T(slow_watchers_are_cut),    T(watches_end_in_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
