#include "helper.h"

#include "store/store_priv.h"

struct listing {
    struct str ns, name; /* the last */
    size_t n, stop_after;
    bool ordered;
    char text[512];
};
static bool list_one(void *arg, struct object *o) {
    struct listing *l = arg;
    int c = l->n ? str_cmp(l->ns, o->ns) : -1;
    if (c > 0 || (c == 0 && str_cmp(l->name, o->name) >= 0))
        l->ordered = false;
    l->ns = o->ns;
    l->name = o->name;
    size_t at = strlen(l->text);
    if (at < 400)
        snprintf(l->text + at, sizeof(l->text) - at, "%.*s/%.*s ", STR_ARG(o->ns), STR_ARG(o->name));
    return ++l->n != l->stop_after;
}
static struct listing list(struct fixture *f, struct str ns, struct str after_ns, struct str after_name, size_t stop) {
    struct listing l = {.ordered = true, .stop_after = stop};
    store_each(f->s, f->pods, ns, after_ns, after_name, list_one, &l);
    return l;
}

static void lists_come_in_order_by_namespace_and_page(void **state) {
    struct fixture *f = fixture_new(false);
    static const char *const keys[][2] = {{"b", "2"},   {"a", "9"},  {"a-b", "1"}, {"b", "1"},
                                          {"", "root"}, {"a", "10"}, {"b", "3"}};
    for (size_t i = 0; i < ARRAY_LEN(keys); i++)
        put(f->s, f->pods, keys[i][0], keys[i][1], "v");
    put(f->s, f->nodes, "", "n", "v"); /* another kind stays out */
    assert_string_equal(list(f, STR_NULL, STR_NULL, STR_NULL, 0).text, "/root a/10 a/9 a-b/1 b/1 b/2 b/3 ");
    assert_string_equal(list(f, STR("b"), STR_NULL, STR_NULL, 0).text, "b/1 b/2 b/3 ");
    assert_string_equal(list(f, STR("a"), STR_NULL, STR_NULL, 0).text, "a/10 a/9 ");
    assert_string_equal(list(f, STR("none"), STR_NULL, STR_NULL, 0).text, "");
    assert_string_equal(list(f, STR_NULL, STR("a"), STR("10"), 2).text, "a/9 a-b/1 ");
    assert_string_equal(list(f, STR_NULL, STR("a"), STR("gone"), 0).text, "a-b/1 b/1 b/2 b/3 ");
    assert_string_equal(list(f, STR("b"), STR("b"), STR("1"), 0).text, "b/2 b/3 ");
    assert_string_equal(list(f, STR("b"), STR("a"), STR("1"), 0).text, "b/1 b/2 b/3 ");
    assert_string_equal(list(f, STR("b"), STR("b"), STR("3"), 0).text, "");
    assert_int_equal(store_count(f->s, f->pods), 7);
    fixture_free(f);
}

#define N 3000
static void a_large_state_behaves_as_a_small_one(void **state) {
    struct fixture *f = fixture_new(false);
    bool *there = xcalloc(N, sizeof(*there));
    size_t count = 0;
    uint32_t seed = 1;
    for (int step = 0; step < 60000; step++) {
        seed = seed * 1664525 + 1013904223;
        size_t i = (seed >> 8) % N;
        bool grow = step < 20000 || (step > 40000 && step < 50000);
        char ns[16], name[32];
        snprintf(ns, sizeof(ns), "ns-%zu", i % 7);
        snprintf(name, sizeof(name), "pod-%zu", i);
        if (((seed >> 4) & 3) ? grow : !grow) {
            count += !there[i];
            there[i] = true;
            put(f->s, f->pods, ns, name, "v");
        } else {
            count -= there[i];
            there[i] = false;
            del(f->s, f->pods, ns, name);
        }
        if (step % 64 == 0)
            turn(f->loop);
        if (step % 5000 == 0) {
            struct listing l = list(f, STR_NULL, STR_NULL, STR_NULL, 0);
            assert_true(l.ordered);
            assert_int_equal(l.n, count);
            assert_int_equal(store_count(f->s, f->pods), count);
        }
    }
    size_t pages = 0, found = 0;
    struct str ns = STR_NULL, name = STR_NULL;
    for (struct listing l; (l = list(f, STR_NULL, ns, name, 17)).n; pages++) {
        found += l.n;
        ns = l.ns;
        name = l.name;
    }
    assert_int_equal(found, count);
    for (size_t i = 0; i < N; i++) {
        char n[16], m[32];
        snprintf(n, sizeof(n), "ns-%zu", i % 7);
        snprintf(m, sizeof(m), "pod-%zu", i);
        struct object *o = store_get(f->s, f->pods, str_c(n), str_c(m));
        assert_int_equal(o != NULL, there[i]);
        object_unref(o);
        if (there[i])
            del(f->s, f->pods, n, m);
    }
    assert_int_equal(store_count(f->s, f->pods), 0);
    struct store_stats st;
    store_stats(f->s, &st);
    assert_int_equal(st.objects, 0);
    assert_int_equal(st.bytes, 0);
    free(there);
    fixture_free(f);
}

struct writer {
    struct fixture *f;
    size_t n;
};
static bool delete_it(void *arg, struct object *o) {
    struct writer *w = arg;
    w->n++;
    del(w->f->s, w->f->pods, o->ns.p, o->name.p);
    return true;
}

static void a_walk_survives_writes(void **state) {
    struct fixture *f = fixture_new(false);
    for (int i = 0; i < 1000; i++) {
        char name[16];
        snprintf(name, sizeof(name), "p%d", i);
        put(f->s, f->pods, "ns", name, "v");
    }
    struct writer w = {f, 0};
    store_each(f->s, f->pods, STR("ns"), STR_NULL, STR_NULL, delete_it, &w);
    assert_int_equal(w.n, 1000);
    assert_int_equal(store_count(f->s, f->pods), 0);
    fixture_free(f);
}

static void revisions_count_over_all_kinds(void **state) {
    struct fixture *f = fixture_new(false);
    int64_t r = store_revision(f->s);
    assert_int_equal(store_revision_next(f->s), r + 1);
    assert_int_equal(put(f->s, f->pods, "ns", "a", "1"), r + 1);
    assert_int_equal(put(f->s, f->nodes, "", "n", "1"), r + 2);
    assert_int_equal(put_volatile(f->s, f->pods, "ns", "a", "2"), r + 3);
    assert_int_equal(del(f->s, f->pods, "ns", "a"), r + 4);
    assert_int_equal(del(f->s, f->pods, "ns", "a"), r + 4); /* nothing there, nothing happened */
    assert_ptr_equal(store_kind(f->s, STR("pods")), f->pods);
    fixture_free(f);
}

/* --- indexes --- */

static void by_value(struct object *o, void (*emit)(void *arg, struct str key), void *arg) {
    struct str v = value_of(o);
    while (v.p) {
        struct str one = str_split(&v, ',');
        emit(arg, one);
        emit(arg, one); /* twice is once */
    }
}
static struct listing by_index(struct fixture *f, const char *key) {
    struct listing l = {.ordered = true};
    store_index_each(f->s, f->pods, "value", str_c(key), list_one, &l);
    return l;
}

static void indexes_follow_every_change(void **state) {
    struct fixture *f = fixture_new(false);
    put(f->s, f->pods, "x", "early", "red,blue");
    store_index_add(f->s, f->pods, "value", by_value);
    put(f->s, f->pods, "x", "b", "red");
    put(f->s, f->pods, "x", "a", "red,green");
    put(f->s, f->pods, "x", "empty", "");
    assert_string_equal(by_index(f, "red").text, "x/a x/b x/early ");
    assert_string_equal(by_index(f, "blue").text, "x/early ");
    assert_string_equal(by_index(f, "").text, "x/empty ");
    put(f->s, f->pods, "x", "a", "green,blue");
    assert_string_equal(by_index(f, "red").text, "x/b x/early ");
    assert_string_equal(by_index(f, "blue").text, "x/a x/early ");
    del(f->s, f->pods, "x", "early");
    del(f->s, f->pods, "x", "b");
    assert_string_equal(by_index(f, "red").text, "");
    struct writer w = {f, 0};
    store_index_each(f->s, f->pods, "value", STR("blue"), delete_it, &w);
    assert_int_equal(w.n, 1);
    assert_string_equal(by_index(f, "green").text, "");
    fixture_free(f);
}

static void indexing_leaves_no_trees(void **state) {
    struct fixture *f = fixture_new(false);
    for (int i = 0; i < 500; i++) {
        char name[16];
        snprintf(name, sizeof(name), "p%d", i);
        put(f->s, f->pods, "ns", name, "v");
    }
    store_index_add(f->s, f->pods, "value", by_value);
    assert_int_equal(object_trees_bytes(), 0);
    assert_int_equal(by_index(f, "v").n, 500);
    fixture_free(f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lists_come_in_order_by_namespace_and_page),
        cmocka_unit_test(a_large_state_behaves_as_a_small_one),
        cmocka_unit_test(a_walk_survives_writes),
        cmocka_unit_test(revisions_count_over_all_kinds),
        cmocka_unit_test(indexes_follow_every_change),
        cmocka_unit_test(indexing_leaves_no_trees),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
