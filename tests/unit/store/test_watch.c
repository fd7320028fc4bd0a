#include "helper.h"

#include "store/store_priv.h"

static void watch(struct fixture *f, struct seen *s, struct store_kind *k, int64_t from) {
    assert_int_equal(store_watch(f->s, k, from, see, s, &s->w), 0);
}

static void watches_are_told_in_order_never_inline(void **state) {
    struct fixture *f = fixture_new(false);
    struct seen pods = {0}, all = {0};
    watch(f, &pods, f->pods, 0);
    watch(f, &all, NULL, 0);
    put(f->s, f->pods, "x", "a", "1");
    put(f->s, f->nodes, "", "n", "1");
    put(f->s, f->pods, "x", "a", "2");
    del(f->s, f->pods, "x", "a");
    assert_string_equal(all.text, "");
    turn(f->loop);
    assert_string_equal(pods.text, "+a ~a -a ");
    assert_string_equal(all.text, "+a +n ~a -a ");
    store_watch_stop(pods.w);
    put(f->s, f->pods, "x", "b", "1");
    turn(f->loop);
    assert_int_equal(pods.n, 3);
    assert_int_equal(all.n, 5);
    struct store_stats st;
    store_stats(f->s, &st);
    assert_int_equal(st.watchers, 1);
    store_watch_stop(all.w);
    fixture_free(f);
}

static void a_watch_resumes_from_any_revision_in_history(void **state) {
    struct fixture *f = fixture_new(false);
    int64_t start = store_revision(f->s);
    for (int i = 0; i < 10; i++) {
        char name[2] = {(char)('a' + i), 0};
        put(f->s, i % 2 ? f->nodes : f->pods, "", name, "1");
    }
    turn(f->loop);
    struct seen from_start = {0}, middle = {0}, end = {0};
    watch(f, &from_start, f->pods, start);
    watch(f, &middle, NULL, start + 7);
    watch(f, &end, NULL, start + 10);
    put(f->s, f->pods, "", "z", "1"); /* behind what is caught up with */
    assert_int_equal(middle.n, 0);
    turn(f->loop);
    assert_string_equal(from_start.text, "+a +c +e +g +i +z ");
    assert_string_equal(middle.text, "+h +i +j +z ");
    assert_string_equal(end.text, "+z ");
    struct store_watch *w = NULL;
    assert_int_equal(store_watch(f->s, NULL, store_revision(f->s) + 1, see, NULL, &w), -ERANGE);
    assert_int_equal(store_watch(f->s, NULL, start - 1 > 0 ? start - 1 : -1, see, NULL, &w),
                     start - 1 > 0 ? -ESTALE : -EINVAL);
    assert_null(w);
    fixture_free(f);
}

static void history_is_bounded_by_bytes(void **state) {
    struct fixture *f = XNEW(struct fixture);
    f->loop = loop_new("core");
    fake_init(&f->log);
    open_on(f, false, 0, KiB(64));
    int64_t start = store_revision(f->s);
    char *big = xmalloc(1001);
    memset(big, 'x', 1000);
    big[1000] = 0;
    for (int i = 0; i < 500; i++) {
        put(f->s, f->pods, "x", "a", big);
        if (i % 10 == 0)
            turn(f->loop);
    }
    turn(f->loop);
    assert_true(store_oldest_revision(f->s) > start + 400);
    assert_true(store_oldest_revision(f->s) < start + 480);
    struct seen s = {0};
    assert_int_equal(store_watch(f->s, NULL, start, see, &s, &s.w), -ESTALE);
    assert_int_equal(store_watch(f->s, NULL, store_oldest_revision(f->s) - 1, see, &s, &s.w), -ESTALE);
    int64_t oldest = store_oldest_revision(f->s);
    watch(f, &s, NULL, oldest);
    turn(f->loop);
    assert_int_equal(s.n, start + 500 - oldest);
    free(big);
    fixture_free(f);
}

/* Young events stay although they are more than the number asked for. */
static void history_keeps_minutes_worth(void **state) {
    struct fixture *f = XNEW(struct fixture);
    f->loop = loop_new("core");
    fake_init(&f->log);
    open_on(f, false, 8, 0);
    int64_t start = store_revision(f->s);
    for (int i = 0; i < 1000; i++)
        put(f->s, f->pods, "x", "a", "1");
    turn(f->loop);
    assert_int_equal(store_oldest_revision(f->s), start);
    struct hub *h = &f->s->hub;
    for (uint64_t i = h->first; i < h->end - 20; i++)
        h->ring[i & (h->cap - 1)].at_s -= 301; /* time passes */
    put(f->s, f->pods, "x", "a", "1");
    turn(f->loop);
    assert_int_equal(h->end - h->first, 21);
    assert_int_equal(store_oldest_revision(f->s), start + 980);
    fixture_free(f);
}

struct meddler {
    struct fixture *f;
    struct seen *victim;
    struct store_watch *self;
    struct seen *born;
    int calls;
};
static void meddle(void *arg, const struct event *e) {
    struct meddler *m = arg;
    m->calls++;
    if (m->victim)
        store_watch_stop(m->victim->w);
    m->victim = NULL;
    if (m->born && !m->born->w)
        watch(m->f, m->born, NULL, e->object->revision);
    if (m->calls == 2)
        store_watch_stop(m->self);
    else
        put(m->f->s, m->f->pods, "x", "more", "1");
}

static void callbacks_may_stop_start_and_write(void **state) {
    struct fixture *f = fixture_new(false);
    struct seen victim = {0}, other = {0}, born = {0};
    struct meddler m = {f, &victim, NULL, &born, 0};
    assert_int_equal(store_watch(f->s, f->pods, 0, meddle, &m, &m.self), 0);
    watch(f, &victim, f->pods, 0);
    watch(f, &other, f->pods, 0);
    put(f->s, f->pods, "x", "a", "1");
    put(f->s, f->pods, "x", "b", "1");
    turn(f->loop);
    assert_int_equal(m.calls, 2);
    assert_int_equal(victim.n, 0); /* stopped before its turn came */
    assert_string_equal(other.text, "+a +b +more ");
    assert_string_equal(born.text, "+b +more ");
    fixture_free(f);
}

static void a_watch_stopped_before_it_caught_up_is_not_called(void **state) {
    struct fixture *f = fixture_new(false);
    int64_t start = store_revision(f->s);
    put(f->s, f->pods, "x", "a", "1");
    turn(f->loop);
    struct seen s = {0};
    watch(f, &s, NULL, start);
    store_watch_stop(s.w);
    turn(f->loop);
    assert_int_equal(s.n, 0);
    fixture_free(f);
}

/* --- only what is durable is told --- */

static void events_wait_for_the_log(void **state) {
    struct fixture *f = fixture_new(true);
    struct seen s = {0};
    watch(f, &s, NULL, 0);
    fake_hold(&f->log, true);
    int64_t a = put(f->s, f->pods, "x", "a", "1");
    turn(f->loop);
    fake_wait_holding(&f->log);
    put_volatile(f->s, f->pods, "x", "lease", "1"); /* must not overtake */
    turn(f->loop);
    assert_string_equal(s.text, "");
    assert_true(store_durable_revision(f->s) < a);
    assert_non_null(store_peek(f->s, f->pods, STR("x"), STR("a"))); /* reads see it */
    struct seen late = {0};
    watch(f, &late, NULL, a - 1);
    turn(f->loop);
    assert_int_equal(late.n, 0);
    fake_hold(&f->log, false);
    SPIN(f->loop, s.n == 2 && late.n == 2);
    assert_string_equal(s.text, "+a +lease ");
    assert_string_equal(late.text, "+a +lease ");
    assert_int_equal(store_durable_revision(f->s), store_revision(f->s));
    fixture_free(f);
}

static void volatile_writes_are_told_without_the_log(void **state) {
    struct fixture *f = fixture_new(true);
    struct seen s = {0};
    watch(f, &s, NULL, 0);
    size_t calls = f->log.calls;
    put_volatile(f->s, f->pods, "x", "lease", "1");
    put_volatile(f->s, f->pods, "x", "lease", "2");
    turn(f->loop);
    assert_string_equal(s.text, "+lease ~lease ");
    assert_int_equal(f->log.calls, calls);
    fixture_free(f);
}

/* --- hooks --- */

struct hooked {
    struct fixture *f;
    char text[256];
};
static void hook(void *arg, const struct event *e) {
    struct hooked *h = arg;
    size_t at = strlen(h->text);
    snprintf(h->text + at, sizeof(h->text) - at, "%c%.*s ", "+~-"[e->type], STR_ARG(e->object->name));
    struct object *now = store_peek(h->f->s, e->object->kind, e->object->ns, e->object->name);
    assert_ptr_equal(now, e->type == EVENT_DELETED ? NULL : e->object);
    if (str_eq_c(e->object->name, "a") && e->type == EVENT_ADDED)
        put(h->f->s, h->f->nodes, "", "by-hook", "1");
}

static void hooks_run_inside_the_write(void **state) {
    struct fixture *f = fixture_new(false);
    struct hooked pods = {.f = f}, all = {.f = f};
    store_hook_add(f->s, f->pods, hook, &pods);
    store_hook_add(f->s, NULL, hook, &all);
    struct seen s = {0};
    watch(f, &s, NULL, 0);
    put(f->s, f->pods, "x", "a", "1");
    put(f->s, f->nodes, "", "n", "1");
    put(f->s, f->pods, "x", "a", "2");
    del(f->s, f->pods, "x", "a");
    assert_string_equal(pods.text, "+a ~a -a ");
    assert_string_equal(all.text, "+by-hook +a ~by-hook +n ~a -a ");
    turn(f->loop);
    assert_string_equal(s.text, "+a +by-hook ~by-hook +n ~a -a ");
    fixture_free(f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(watches_are_told_in_order_never_inline),
        cmocka_unit_test(a_watch_resumes_from_any_revision_in_history),
        cmocka_unit_test(history_is_bounded_by_bytes),
        cmocka_unit_test(history_keeps_minutes_worth),
        cmocka_unit_test(callbacks_may_stop_start_and_write),
        cmocka_unit_test(a_watch_stopped_before_it_caught_up_is_not_called),
        cmocka_unit_test(events_wait_for_the_log),
        cmocka_unit_test(volatile_writes_are_told_without_the_log),
        cmocka_unit_test(hooks_run_inside_the_write),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
