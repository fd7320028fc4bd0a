#include "net/loop.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "net/loop_priv.h"

/* Enough for the deepest recursion on a loop (JSON of JSON_DEPTH_MAX levels); only touched pages cost memory. */
#define LOOP_STACK_BYTES MiB(1)

struct post {
    loop_fn fn;
    void *arg;
};

struct loop {
    uv_loop_t uv;
    uv_async_t async; /* posts of other threads */
    uv_idle_t idle;   /* posts of this thread: no system call, only no sleep */
    uv_prepare_t prepare;
    uv_timer_t alarm; /* the earliest of the timers */
    uv_thread_t thread;
    bool started, stopped;
    char name[16];

    pthread_mutex_t lock;
    VEC(struct post) posts;   /* under lock */
    VEC(struct post) running; /* swapped with posts, loop's thread only */

    VEC(struct timer *) timers; /* binary heap by deadline */
    int64_t alarm_ms;           /* what the alarm is set to, 0: not set */
    int64_t firing_ms;          /* while timers fire: the time they fire for */

    struct list flushes;
    void *slots[LOOP_SLOT_MAX];
};

static _Thread_local struct loop *current_loop;

/* --- posting ------------------------------------------------------------------------------------------------------ */

static void run_posts(struct loop *l) {
    uv_idle_stop(&l->idle);
    pthread_mutex_lock(&l->lock);
    __typeof__(l->posts) taken = l->posts;
    l->posts.items = l->running.items;
    l->posts.cap = l->running.cap;
    l->posts.n = 0;
    pthread_mutex_unlock(&l->lock);
    for (size_t i = 0; i < taken.n; i++)
        taken.items[i].fn(taken.items[i].arg);
    /* A burst must not keep its memory for ever. */
    if (taken.cap > 4096) {
        free(taken.items);
        taken.items = NULL;
        taken.cap = 0;
    }
    l->running.items = taken.items;
    l->running.cap = taken.cap;
}

static void on_async(uv_async_t *h) {
    run_posts(h->data);
}

static void on_idle(uv_idle_t *h) {
    run_posts(h->data);
}

void loop_post(struct loop *l, loop_fn fn, void *arg) {
    struct post p = {fn, arg};
    pthread_mutex_lock(&l->lock);
    bool first = l->posts.n == 0;
    vec_push(&l->posts, p);
    pthread_mutex_unlock(&l->lock);
    if (!first)
        return; /* whoever posted the first has seen to the wake-up */
    if (current_loop == l) {
        if (!uv_is_closing((uv_handle_t *)&l->idle)) /* else loop_free() runs it */
            uv_idle_start(&l->idle, on_idle);
    } else {
        uv_async_send(&l->async);
    }
}

struct work {
    uv_work_t req;
    loop_fn work, done;
    void *arg;
};

static void on_work(uv_work_t *req) {
    struct work *w = CONTAINER_OF(req, struct work, req);
    w->work(w->arg);
}

static void on_worked(uv_work_t *req, int status) {
    struct work *w = CONTAINER_OF(req, struct work, req);
    if (w->done)
        w->done(w->arg);
    free(w);
}

void loop_work(struct loop *l, loop_fn work, loop_fn done, void *arg) {
    struct work *w = XNEW(struct work);
    w->work = work;
    w->done = done;
    w->arg = arg;
    int rc = uv_queue_work(&l->uv, &w->req, on_work, on_worked);
    if (rc)
        fatal("cannot queue work: %s", uv_strerror(rc));
}

/* --- flushing at the end of a turn -------------------------------------------------------------------------------- */

void loop_flush_init(struct loop_flush *f, loop_fn fn, void *arg) {
    list_init(&f->link);
    f->fn = fn;
    f->arg = arg;
}

void loop_flush_add(struct loop *l, struct loop_flush *f) {
    if (list_empty(&f->link))
        list_push_back(&l->flushes, &f->link);
}

void loop_flush_cancel(struct loop_flush *f) {
    list_remove(&f->link);
}

static void on_prepare(uv_prepare_t *h) {
    struct loop *l = h->data;
    struct list *it;
    while ((it = list_pop_front(&l->flushes))) {
        struct loop_flush *f = LIST_ITEM(it, struct loop_flush, link);
        f->fn(f->arg);
    }
}

void **loop_slot(struct loop *l, enum loop_slot slot) {
    return &l->slots[slot];
}

char *loop_scratch(struct loop *l, enum loop_slot slot) {
    if (!l->slots[slot])
        l->slots[slot] = xmalloc(LOOP_SCRATCH_BYTES);
    return l->slots[slot];
}

int64_t loop_now_ms(struct loop *l) {
    return (int64_t)uv_now(&l->uv);
}

/* --- timers ------------------------------------------------------------------------------------------------------- */

static void heap_put(struct loop *l, size_t i, struct timer *t) {
    l->timers.items[i] = t;
    t->slot = i;
}

static void heap_up(struct loop *l, size_t i, struct timer *t) {
    while (i > 0) {
        struct timer *parent = l->timers.items[(i - 1) / 2];
        if (parent->deadline_ms <= t->deadline_ms)
            break;
        heap_put(l, i, parent);
        i = (i - 1) / 2;
    }
    heap_put(l, i, t);
}

static void heap_down(struct loop *l, size_t i, struct timer *t) {
    for (;;) {
        size_t child = 2 * i + 1;
        if (child >= l->timers.n)
            break;
        if (child + 1 < l->timers.n && l->timers.items[child + 1]->deadline_ms < l->timers.items[child]->deadline_ms)
            child++;
        if (l->timers.items[child]->deadline_ms >= t->deadline_ms)
            break;
        heap_put(l, i, l->timers.items[child]);
        i = child;
    }
    heap_put(l, i, t);
}

static void heap_remove(struct loop *l, struct timer *t) {
    size_t i = t->slot;
    struct timer *last = l->timers.items[--l->timers.n];
    if (last == t)
        return;
    if (i > 0 && l->timers.items[(i - 1) / 2]->deadline_ms > last->deadline_ms)
        heap_up(l, i, last);
    else
        heap_down(l, i, last);
}

static void on_alarm(uv_timer_t *h);

static void alarm_update(struct loop *l) {
    int64_t want = l->timers.n ? l->timers.items[0]->deadline_ms : 0;
    if (want == l->alarm_ms || l->firing_ms)
        return;
    l->alarm_ms = want;
    if (!want) {
        uv_timer_stop(&l->alarm);
        return;
    }
    int64_t delay = want - (int64_t)uv_now(&l->uv);
    uv_timer_start(&l->alarm, on_alarm, delay > 0 ? (uint64_t)delay : 0, 0);
}

static void on_alarm(uv_timer_t *h) {
    struct loop *l = h->data;
    l->alarm_ms = 0;
    l->firing_ms = time_mono_ms();
    while (l->timers.n && l->timers.items[0]->deadline_ms <= l->firing_ms) {
        struct timer *t = l->timers.items[0];
        heap_remove(l, t);
        t->deadline_ms = 0;
        t->fn(t->arg);
    }
    l->firing_ms = 0;
    alarm_update(l);
}

void timer_init(struct timer *t, struct loop *l, loop_fn fn, void *arg) {
    *t = (struct timer){.loop = l, .fn = fn, .arg = arg};
}

/* The roundest point in [from, from + slack]: timers that may wait meet at the same points. */
static int64_t round_deadline(int64_t from, int64_t slack) {
    int64_t best = from + (slack > 0 ? slack : 0);
    for (int64_t mask = 1; best > from && (best & ~mask) >= from; mask = mask << 1 | 1)
        best &= ~mask;
    return best;
}

void timer_set(struct timer *t, int64_t after_ms, int64_t slack_ms) {
    struct loop *l = t->loop;
    int64_t deadline = round_deadline(time_mono_ms() + MAX(after_ms, 0), slack_ms);
    if (l->firing_ms && deadline <= l->firing_ms)
        deadline = l->firing_ms + 1; /* a timer that re-arms itself with 0 lets the others run */
    if (t->deadline_ms)
        heap_remove(l, t);
    else if (l->timers.n == l->timers.cap)
        l->timers.items = vec_grow(l->timers.items, &l->timers.cap, l->timers.n + 1, sizeof(l->timers.items[0]));
    t->deadline_ms = deadline;
    heap_up(l, l->timers.n++, t);
    alarm_update(l);
}

void timer_stop(struct timer *t) {
    if (!t->deadline_ms)
        return;
    heap_remove(t->loop, t);
    t->deadline_ms = 0;
    alarm_update(t->loop);
}

/* --- life --------------------------------------------------------------------------------------------------------- */

/* A pipe or socket whose reader went away is an error of the write, not the end of the process. */
static void ignore_sigpipe(void) {
    signal(SIGPIPE, SIG_IGN);
}

struct loop *loop_new(const char *name) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, ignore_sigpipe);
    struct loop *l = XNEW(struct loop);
    size_t n = strnlen(name, sizeof(l->name) - 1);
    memcpy(l->name, name, n);
    pthread_mutex_init(&l->lock, NULL);
    list_init(&l->flushes);
    int rc = uv_loop_init(&l->uv);
    if (!rc)
        rc = uv_async_init(&l->uv, &l->async, on_async);
    if (rc)
        fatal("cannot make event loop %s: %s", name, uv_strerror(rc));
    uv_idle_init(&l->uv, &l->idle);
    uv_prepare_init(&l->uv, &l->prepare);
    uv_timer_init(&l->uv, &l->alarm);
    l->uv.data = l->async.data = l->idle.data = l->prepare.data = l->alarm.data = l;
    uv_prepare_start(&l->prepare, on_prepare);
    uv_unref((uv_handle_t *)&l->prepare);
    uv_unref((uv_handle_t *)&l->alarm);
    return l;
}

uv_loop_t *loop_uv(struct loop *l) {
    return &l->uv;
}

struct loop *loop_current(void) {
    return current_loop;
}

void loop_run(struct loop *l) {
    struct loop *outer = current_loop;
    current_loop = l;
    uv_update_time(&l->uv);
    while (!l->stopped)
        uv_run(&l->uv, UV_RUN_DEFAULT);
    on_prepare(&l->prepare); /* what the last turn wrote */
    current_loop = outer;
}

static void loop_thread(void *arg) {
    struct loop *l = arg;
    pthread_setname_np(pthread_self(), l->name);
    loop_run(l);
}

int loop_start(struct loop *l, struct error *err) {
    uv_thread_options_t o = {.flags = UV_THREAD_HAS_STACK_SIZE, .stack_size = LOOP_STACK_BYTES};
    int rc = uv_thread_create_ex(&l->thread, &o, loop_thread, l);
    if (rc)
        return error_sys(err, rc, "cannot start thread %s", l->name);
    l->started = true;
    return 0;
}

static void stop_here(void *arg) {
    struct loop *l = arg;
    l->stopped = true;
    uv_stop(&l->uv);
}

void loop_stop(struct loop *l) {
    loop_post(l, stop_here, l);
}

void loop_join(struct loop *l) {
    if (!l->started)
        return;
    uv_thread_join(&l->thread);
    l->started = false;
}

static void close_handle(uv_handle_t *h, void *arg) {
    if (!uv_is_closing(h))
        uv_close(h, NULL);
}

static bool has_posts(struct loop *l) {
    pthread_mutex_lock(&l->lock);
    bool any = l->posts.n != 0;
    pthread_mutex_unlock(&l->lock);
    return any;
}

/* What was posted after the stop still runs here, so that whatever it carries is released. */
void loop_free(struct loop *l) {
    if (!l)
        return;
    loop_join(l);
    struct loop *outer = current_loop;
    current_loop = l;
    while (has_posts(l))
        run_posts(l);
    on_prepare(&l->prepare);
    uv_walk(&l->uv, close_handle, NULL);
    uv_run(&l->uv, UV_RUN_DEFAULT);
    while (has_posts(l)) { /* by pool work that ended only now */
        run_posts(l);
        on_prepare(&l->prepare);
        uv_walk(&l->uv, close_handle, NULL);
        uv_run(&l->uv, UV_RUN_DEFAULT);
    }
    int rc = uv_loop_close(&l->uv);
    if (rc)
        log_error("net", "loop %s is still in use when freed: %s", l->name, uv_strerror(rc));
    current_loop = outer;
    vec_fini(&l->posts);
    vec_fini(&l->running);
    vec_fini(&l->timers);
    for (size_t i = 0; i < LOOP_SLOT_MAX; i++)
        free(l->slots[i]);
    pthread_mutex_destroy(&l->lock);
    free(l);
}
