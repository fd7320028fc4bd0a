/* sanitizer: thread */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "net/loop.h"

#define THREADS 4
#define POSTS 20000

struct count {
    struct loop *l;
    size_t next[THREADS]; /* loop's thread only */
    size_t total;
    bool in_order;
};
struct item {
    struct count *c;
    size_t thread, seq;
};
static struct item items[THREADS][POSTS];

static void take(void *arg) {
    struct item *i = arg;
    assert_ptr_equal(loop_current(), i->c->l);
    if (i->c->next[i->thread]++ != i->seq)
        i->c->in_order = false;
    i->c->total++;
}

static void *poster(void *arg) {
    struct item *row = arg;
    for (size_t i = 0; i < POSTS; i++)
        loop_post(row->c->l, take, &row[i]);
    return NULL;
}

static void posts_from_many_threads_arrive_in_order(void **state) {
    struct count c = {.l = loop_new("counting"), .in_order = true};
    pthread_t t[THREADS];
    for (size_t i = 0; i < THREADS; i++) {
        for (size_t j = 0; j < POSTS; j++)
            items[i][j] = (struct item){&c, i, j};
    }
    assert_int_equal(loop_start(c.l, NULL), 0);
    for (size_t i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&t[i], NULL, poster, items[i]), 0);
    for (size_t i = 0; i < THREADS; i++)
        pthread_join(t[i], NULL);
    loop_stop(c.l);
    loop_join(c.l);
    assert_int_equal(c.total, THREADS * POSTS);
    assert_true(c.in_order);
    loop_free(c.l);
}

struct pong {
    struct loop *a, *b;
    int left;
};
static void ping(void *arg) {
    struct pong *p = arg;
    if (--p->left == 0) {
        loop_stop(p->a);
        loop_stop(p->b);
        return;
    }
    loop_post(loop_current() == p->a ? p->b : p->a, ping, p);
}

static void two_loops_play_ping_pong(void **state) {
    struct pong p = {loop_new("a"), loop_new("b"), 10000};
    loop_post(p.a, ping, &p); /* before the start: runs after it */
    assert_int_equal(loop_start(p.a, NULL), 0);
    assert_int_equal(loop_start(p.b, NULL), 0);
    loop_join(p.a);
    loop_join(p.b);
    assert_int_equal(p.left, 0);
    loop_free(p.a);
    loop_free(p.b);
}

static int self_count;
static void self(void *arg) {
    if (++self_count < 100)
        loop_post(arg, self, arg);
    else
        loop_stop(arg);
}

static void a_post_to_itself_is_not_inline(void **state) {
    struct loop *l = loop_new("self");
    self_count = 0;
    loop_post(l, self, l);
    assert_int_equal(self_count, 0);
    loop_run(l);
    assert_int_equal(self_count, 100);
    assert_null(loop_current());
    loop_free(l);
}

static void add_one(void *arg) {
    ++*(int *)arg;
}
static void stop_now(void *arg) {
    loop_stop(arg);
}

static void what_was_posted_after_the_stop_runs_at_free(void **state) {
    struct loop *l = loop_new("late");
    int ran = 0;
    loop_post(l, stop_now, l);
    loop_run(l);
    loop_post(l, add_one, &ran);
    loop_free(l);
    assert_int_equal(ran, 1);
}

struct work_test {
    struct loop *l;
    pthread_t loop_thread, work_thread;
    int worked, done;
};
static void work_fn(void *arg) {
    struct work_test *w = arg;
    w->work_thread = pthread_self();
    w->worked++;
}
static void work_done(void *arg) {
    struct work_test *w = arg;
    w->loop_thread = pthread_self();
    w->done++;
    loop_stop(w->l);
}
static void work_begin(void *arg) {
    struct work_test *w = arg;
    loop_work(w->l, work_fn, work_done, w);
    assert_int_equal(w->done, 0);
}

static void work_runs_on_the_pool_and_ends_on_the_loop(void **state) {
    struct work_test w = {.l = loop_new("work")};
    loop_post(w.l, work_begin, &w);
    loop_run(w.l);
    assert_int_equal(w.worked, 1);
    assert_int_equal(w.done, 1);
    assert_true(pthread_equal(w.loop_thread, pthread_self()));
    assert_false(pthread_equal(w.work_thread, pthread_self()));
    loop_free(w.l);
}

struct tick {
    struct timer t;
    int64_t asked_ms, after_ms, slack_ms, fired_ms;
    struct tick_test *test;
};
struct tick_test {
    struct loop *l;
    struct tick ticks[300];
    size_t fired;
    int64_t last_ms;
    bool ordered;
};
static void tick_fired(void *arg) {
    struct tick *k = arg;
    k->fired_ms = time_mono_ms();
    assert_false(timer_is_set(&k->t));
    if (k->fired_ms < k->test->last_ms)
        k->test->ordered = false;
    k->test->last_ms = k->fired_ms;
    if (++k->test->fired == ARRAY_LEN(k->test->ticks) / 2)
        loop_stop(k->test->l);
}
static void ticks_begin(void *arg) {
    struct tick_test *test = arg;
    for (size_t i = 0; i < ARRAY_LEN(test->ticks); i++) {
        struct tick *k = &test->ticks[i];
        *k = (struct tick){.test = test, .after_ms = (int64_t)(i * 7919 % 60), .slack_ms = (i % 3) * 10};
        k->asked_ms = time_mono_ms();
        timer_init(&k->t, test->l, tick_fired, k);
        timer_set(&k->t, 1000, 0); /* set again below */
        timer_set(&k->t, k->after_ms, k->slack_ms);
    }
    for (size_t i = 1; i < ARRAY_LEN(test->ticks); i += 2)
        timer_stop(&test->ticks[i].t);
    timer_stop(&test->ticks[1].t); /* twice is fine */
}

static void timers_fire_in_their_window_and_stopped_ones_never(void **state) {
    struct tick_test *test = XNEW(struct tick_test);
    test->l = loop_new("ticks");
    test->ordered = true;
    loop_post(test->l, ticks_begin, test);
    loop_run(test->l);
    assert_true(test->ordered);
    for (size_t i = 0; i < ARRAY_LEN(test->ticks); i++) {
        struct tick *k = &test->ticks[i];
        if (i % 2) {
            assert_int_equal(k->fired_ms, 0);
            continue;
        }
        int64_t took = k->fired_ms - k->asked_ms;
        assert_true(took >= k->after_ms);
        assert_true(took <= k->after_ms + k->slack_ms + 200); /* a loaded machine */
    }
    loop_free(test->l);
    free(test);
}

struct slack_test {
    struct loop *l;
    struct timer t[50];
    int64_t at[50];
    size_t n;
};
static void slack_fired(void *arg) {
    struct slack_test *s = arg;
    if (++s->n == ARRAY_LEN(s->t))
        loop_stop(s->l);
}
static void slack_begin(void *arg) {
    struct slack_test *s = arg;
    for (size_t i = 0; i < ARRAY_LEN(s->t); i++) {
        timer_init(&s->t[i], s->l, slack_fired, s);
        timer_set(&s->t[i], (int64_t)i, 128);
        s->at[i] = s->t[i].deadline_ms;
    }
}

static void timers_with_slack_share_wake_ups(void **state) {
    struct slack_test s = {.l = loop_new("slack")};
    loop_post(s.l, slack_begin, &s);
    loop_run(s.l);
    size_t distinct = 1;
    for (size_t i = 1; i < ARRAY_LEN(s.at); i++)
        distinct += s.at[i] != s.at[i - 1];
    assert_true(distinct <= 2);
    loop_free(s.l);
}

struct rearm {
    struct loop *l;
    struct timer again, end;
    int n;
};
static void rearm_again(void *arg) {
    struct rearm *r = arg;
    r->n++;
    timer_set(&r->again, 0, 0);
}
static void rearm_end(void *arg) {
    struct rearm *r = arg;
    timer_stop(&r->again);
    loop_stop(r->l);
}
static void rearm_begin(void *arg) {
    struct rearm *r = arg;
    timer_init(&r->again, r->l, rearm_again, r);
    timer_init(&r->end, r->l, rearm_end, r);
    timer_set(&r->again, 0, 0);
    timer_set(&r->end, 20, 0);
}

static void a_timer_that_rearms_itself_does_not_starve_others(void **state) {
    struct rearm r = {.l = loop_new("rearm")};
    loop_post(r.l, rearm_begin, &r);
    loop_run(r.l);
    assert_true(r.n >= 1 && r.n <= 200);
    loop_free(r.l);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(posts_from_many_threads_arrive_in_order),
        cmocka_unit_test(two_loops_play_ping_pong),
        cmocka_unit_test(a_post_to_itself_is_not_inline),
        cmocka_unit_test(what_was_posted_after_the_stop_runs_at_free),
        cmocka_unit_test(work_runs_on_the_pool_and_ends_on_the_loop),
        cmocka_unit_test(timers_fire_in_their_window_and_stopped_ones_never),
        cmocka_unit_test(timers_with_slack_share_wake_ups),
        cmocka_unit_test(a_timer_that_rearms_itself_does_not_starve_others),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
