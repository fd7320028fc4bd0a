#include "helper.h"

#include "store/store_priv.h"

struct answer {
    int calls, code;
};
static void answered(void *arg, int code) {
    struct answer *a = arg;
    a->calls++;
    a->code = code;
}
static struct answer wait_for(struct fixture *f, int64_t revision) {
    struct answer a = {0};
    store_when_durable(f->s, revision, answered, &a);
    assert_int_equal(a.calls, 0); /* never inline */
    SPIN(f->loop, a.calls);
    assert_int_equal(a.calls, 1);
    return a;
}
static const struct fake_row *row(const struct fixture *f, const char *name) {
    for (size_t i = 0; i < f->log.rows.n; i++) {
        if (strcmp(f->log.rows.items[i].name, name) == 0)
            return &f->log.rows.items[i];
    }
    return NULL;
}
static void reopen(struct fixture *f) {
    store_close(f->s);
    turn(f->loop);
    open_on(f, true, 0, 0);
}

static void an_answer_means_it_is_in_the_log(void **state) {
    struct fixture *f = fixture_new(true);
    int64_t r = put(f->s, f->pods, "x", "a", "1");
    assert_null(row(f, "a"));
    assert_int_equal(wait_for(f, r).code, 0);
    assert_non_null(row(f, "a"));
    assert_int_equal(row(f, "a")->revision, r);
    assert_string_equal(row(f, "a")->ns, "x");
    assert_int_equal(wait_for(f, r).code, 0); /* again, later */
    assert_int_equal(wait_for(f, 0).code, 0);
    fixture_free(f);
}

static void a_batch_grows_while_a_commit_runs(void **state) {
    struct fixture *f = fixture_new(true);
    size_t calls = f->log.calls;
    fake_hold(&f->log, true);
    put(f->s, f->pods, "x", "first", "1");
    turn(f->loop);
    fake_wait_holding(&f->log);
    struct answer a[100] = {0};
    for (int i = 0; i < 100; i++) {
        char name[16];
        snprintf(name, sizeof(name), "p%d", i);
        store_when_durable(f->s, put(f->s, f->pods, "x", name, "1"), answered, &a[i]);
        turn(f->loop);
    }
    assert_int_equal(a[0].calls, 0);
    fake_hold(&f->log, false);
    SPIN(f->loop, a[99].calls);
    for (int i = 0; i < 100; i++)
        assert_true(a[i].calls == 1 && a[i].code == 0);
    assert_int_equal(f->log.calls, calls + 2);
    struct store_stats st;
    store_stats(f->s, &st);
    assert_int_equal(st.commits, 2);
    assert_int_equal(st.committed_writes, 101);
    fixture_free(f);
}

static void writes_to_one_object_collapse_in_a_batch(void **state) {
    struct fixture *f = fixture_new(true);
    int64_t r = 0;
    for (int i = 0; i < 50; i++)
        r = put(f->s, f->pods, "x", "hot", i == 49 ? "last" : "1");
    put(f->s, f->pods, "x", "gone", "1");
    del(f->s, f->pods, "x", "gone");
    put(f->s, f->pods, "x", "back", "1");
    del(f->s, f->pods, "x", "back");
    int64_t again = put(f->s, f->pods, "x", "back", "2");
    wait_for(f, store_revision(f->s));
    assert_int_equal(f->log.entries, 4); /* hot, gone, and two lives of back */
    assert_int_equal(f->log.rows.n, 2);
    assert_int_equal(row(f, "hot")->revision, r);
    assert_non_null(strstr(row(f, "hot")->json, "last"));
    assert_int_equal(row(f, "back")->revision, again);
    fixture_free(f);
}

static void a_delete_reaches_an_object_in_flight(void **state) {
    struct fixture *f = fixture_new(true);
    fake_hold(&f->log, true);
    put(f->s, f->pods, "x", "a", "1");
    turn(f->loop);
    fake_wait_holding(&f->log);
    put(f->s, f->pods, "x", "a", "2");
    int64_t r = del(f->s, f->pods, "x", "a");
    fake_hold(&f->log, false);
    assert_int_equal(wait_for(f, r).code, 0);
    assert_int_equal(f->log.rows.n, 0);
    fixture_free(f);
}

static void volatile_writes_never_reach_the_log(void **state) {
    struct fixture *f = fixture_new(true);
    for (int i = 0; i < 100; i++)
        put_volatile(f->s, f->pods, "x", "lease", "v");
    assert_int_equal(wait_for(f, store_revision(f->s)).code, 0);
    del(f->s, f->pods, "x", "lease"); /* durable or not: nothing to delete there */
    assert_int_equal(wait_for(f, store_revision(f->s)).code, 0);
    assert_int_equal(f->log.entries, 0);
    assert_int_equal(f->log.calls, 1); /* the reservation at the start */
    put(f->s, f->pods, "x", "lease", "holder");
    put_volatile(f->s, f->pods, "x", "lease", "renewed"); /* does not displace what waits */
    wait_for(f, store_revision(f->s));
    assert_non_null(strstr(row(f, "lease")->json, "holder"));
    put_volatile(f->s, f->pods, "x", "lease", "renewed again");
    char *b = body(store_revision_next(f->s), STR("x"), STR("lease"), "last");
    store_delete(f->s, f->pods, STR("x"), STR("lease"), b, strlen(b), STORE_VOLATILE);
    wait_for(f, store_revision(f->s));
    assert_null(row(f, "lease")); /* or it would come back at the next start */
    fixture_free(f);
}

static void a_restart_brings_the_durable_state_back(void **state) {
    struct fixture *f = fixture_new(true);
    put(f->s, f->pods, "x", "a", "1");
    int64_t r = put(f->s, f->pods, "x", "b", "1");
    put(f->s, f->nodes, "", "n", "1");
    put_volatile(f->s, f->pods, "x", "v", "1");
    int64_t last = del(f->s, f->pods, "x", "a");
    reopen(f);
    assert_true(f->log.closed);
    assert_int_equal(store_count(f->s, f->pods), 1);
    assert_int_equal(store_count(f->s, f->nodes), 1);
    struct object *b = store_peek(f->s, f->pods, STR("x"), STR("b"));
    assert_int_equal(b->revision, r);
    assert_true(str_eq_c(b->uid, "u-b"));
    assert_int_equal(store_revision(f->s), last); /* a clean stop leaves no gap */
    struct seen s = {0};
    assert_int_equal(store_watch(f->s, NULL, last - 1, see, &s, &s.w), -ESTALE);
    assert_int_equal(store_watch(f->s, NULL, last, see, &s, &s.w), 0);
    put(f->s, f->pods, "x", "b", "2");
    del(f->s, f->nodes, "", "n");
    wait_for(f, store_revision(f->s));
    assert_string_equal(s.text, "~b -n ");
    assert_int_equal(f->log.rows.n, 1);
    fixture_free(f);
}

/* What a kill leaves behind: the log as it is, without the last words of store_close(). */
static void revisions_go_on_behind_the_reserved_block_after_a_kill(void **state) {
    struct fixture *f = fixture_new(true);
    put(f->s, f->pods, "x", "a", "1");
    for (int i = 0; i < 1000; i++)
        put_volatile(f->s, f->pods, "x", "lease", "v");
    wait_for(f, store_revision(f->s));
    int64_t seen = store_revision(f->s), reserved = f->log.reserved;
    assert_true(reserved > seen);
    store_close(f->s);
    turn(f->loop);
    f->log.reserved = reserved;
    open_on(f, true, 0, 0);
    assert_int_equal(store_revision(f->s), reserved);
    assert_true(put(f->s, f->pods, "x", "b", "1") > seen);
    assert_true(f->log.reserved > store_revision(f->s)); /* the next block, before anything was shown */
    fixture_free(f);
}

static void a_used_up_block_is_renewed_in_time(void **state) {
    struct fixture *f = fixture_new(true);
    int64_t first = f->log.reserved;
    for (int i = 0; i < 1200; i++) { /* volatile alone: nothing else makes the log write */
        f->s->revision += 500;       /* as many writes */
        put_volatile(f->s, f->pods, "x", "lease", "v");
        SPIN(f->loop, store_durable_revision(f->s) == store_revision(f->s));
        assert_true(store_revision(f->s) < f->log.reserved);
    }
    assert_true(f->log.reserved > first);
    assert_int_equal(f->log.calls, 2);
    fixture_free(f);
}

/* --- failure --- */

static void failing_log(int code, const char *words) {
    struct fixture *f = fixture_new(true);
    struct seen s = {0};
    assert_int_equal(store_watch(f->s, NULL, 0, see, &s, &s.w), 0);
    assert_int_equal(store_writable(f->s, NULL), 0);
    f->log.fail_from = 2;
    f->log.fail_n = 2;
    f->log.fail_code = code;
    int64_t r = put(f->s, f->pods, "x", "a", "1");
    assert_int_equal(wait_for(f, r).code, code);
    struct error err = {0};
    assert_int_equal(store_writable(f->s, &err), code);
    assert_non_null(strstr(err.msg, words));
    assert_non_null(strstr(err.msg, "etcdserver: "));
    assert_int_equal(s.n, 0);
    assert_int_equal(wait_for(f, r).code, code); /* at once, not when it is mended */
    assert_int_equal(wait_for(f, r - 1).code, 0);
    assert_non_null(store_peek(f->s, f->pods, STR("x"), STR("a"))); /* reads go on */
    put(f->s, f->pods, "x", "b", "1");
    SPIN(f->loop, store_durable_revision(f->s) == store_revision(f->s)); /* recovers by itself */
    assert_int_equal(store_writable(f->s, NULL), 0);
    assert_string_equal(s.text, "+a +b ");
    assert_int_equal(f->log.rows.n, 2);
    assert_int_equal(wait_for(f, put(f->s, f->pods, "x", "c", "1")).code, 0);
    fixture_free(f);
}

static void a_full_disk_is_told_and_survived(void **state) {
    failing_log(-ENOSPC, "no space");
    failing_log(-EIO, "cannot write");
    failing_log(-EROFS, "read-only");
}

static int fatal_code;
static void on_fatal(void *arg, const struct error *err) {
    fatal_code = err->code;
}

static void a_damaged_log_is_the_end_of_writing(void **state) {
    struct fixture *f = fixture_new(true);
    f->s->on_fatal = on_fatal;
    f->log.fail_from = 2;
    f->log.fail_n = 1000;
    f->log.fail_code = -EUCLEAN;
    assert_int_equal(wait_for(f, put(f->s, f->pods, "x", "a", "1")).code, -EUCLEAN);
    assert_int_equal(fatal_code, -EUCLEAN);
    assert_int_equal(wait_for(f, put(f->s, f->pods, "x", "b", "1")).code, -EUCLEAN);
    size_t calls = f->log.calls;
    usleep(700000);
    turn(f->loop);
    assert_int_equal(f->log.calls, calls); /* not tried again */
    fixture_free(f);
}

/* Whichever commit fails, and however often: nothing is answered with success that a restart does not have. */
static void any_commit_may_fail(void **state) {
    for (size_t nth = 1; nth <= 6; nth++) {
        struct fixture *f = XNEW(struct fixture);
        f->loop = loop_new("core");
        fake_init(&f->log);
        f->log.fail_from = nth;
        f->log.fail_n = 1;
        f->log.fail_code = -EIO;
        struct store_options o = {.loop = f->loop, .ops = &fake_ops, .log = &f->log};
        struct error err = {0};
        int rc = store_open(&o, &f->s, &err);
        if (nth == 1) { /* the first reservation */
            assert_int_equal(rc, -EIO);
            assert_true(f->log.closed);
            f->log.fail_n = 0;
            assert_int_equal(store_open(&o, &f->s, &err), 0);
        } else {
            assert_int_equal(rc, 0);
        }
        f->pods = store_kind(f->s, STR("pods"));
        bool promised[8] = {false};
        for (int i = 0; i < 8; i++) {
            char name[16];
            snprintf(name, sizeof(name), "p%d", i);
            promised[i] = wait_for(f, put(f->s, f->pods, "x", name, "1")).code == 0;
        }
        for (int i = 0; i < 8; i++) {
            char name[16];
            snprintf(name, sizeof(name), "p%d", i);
            if (promised[i])
                assert_non_null(row(f, name));
            assert_true(promised[i] || nth > 1);
        }
        reopen(f);
        assert_int_equal(store_count(f->s, f->pods), 8); /* the refused ones too, by the last attempt */
        fixture_free(f);
    }
}

static void closing_makes_everything_durable(void **state) {
    struct fixture *f = fixture_new(true);
    fake_hold(&f->log, true);
    put(f->s, f->pods, "x", "a", "1");
    turn(f->loop);
    fake_wait_holding(&f->log);
    put(f->s, f->pods, "x", "b", "1");
    struct answer never = {0};
    store_when_durable(f->s, store_revision(f->s), answered, &never);
    fake_hold(&f->log, false);
    reopen(f);
    assert_int_equal(store_count(f->s, f->pods), 2);
    assert_int_equal(never.calls, 0);
    fixture_free(f);
}

static void waiters_are_answered_in_order_of_revision(void **state) {
    struct fixture *f = fixture_new(true);
    fake_hold(&f->log, true);
    int64_t a = put(f->s, f->pods, "x", "a", "1");
    turn(f->loop);
    fake_wait_holding(&f->log);
    int64_t b = put(f->s, f->pods, "x", "b", "1");
    struct answer first = {0}, second = {0};
    store_when_durable(f->s, b, answered, &second);
    store_when_durable(f->s, a, answered, &first);
    fake_hold(&f->log, false);
    SPIN(f->loop, first.calls || second.calls);
    assert_int_equal(first.calls, 1);
    SPIN(f->loop, second.calls);
    fixture_free(f);
}

int main(void) {
    log_set_level(LOG_ERROR);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_answer_means_it_is_in_the_log),
        cmocka_unit_test(a_batch_grows_while_a_commit_runs),
        cmocka_unit_test(writes_to_one_object_collapse_in_a_batch),
        cmocka_unit_test(a_delete_reaches_an_object_in_flight),
        cmocka_unit_test(volatile_writes_never_reach_the_log),
        cmocka_unit_test(a_restart_brings_the_durable_state_back),
        cmocka_unit_test(revisions_go_on_behind_the_reserved_block_after_a_kill),
        cmocka_unit_test(a_used_up_block_is_renewed_in_time),
        cmocka_unit_test(a_full_disk_is_told_and_survived),
        cmocka_unit_test(a_damaged_log_is_the_end_of_writing),
        cmocka_unit_test(any_commit_may_fail),
        cmocka_unit_test(closing_makes_everything_durable),
        cmocka_unit_test(waiters_are_answered_in_order_of_revision),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
