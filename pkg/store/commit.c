#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "store/store_priv.h"

/* Revisions reserved at a time: a million, renewed when half are used, so that no burst outruns the renewal. */
#define RESERVE 1000000
#define RETRY_FIRST_MS 500
#define RETRY_MAX_MS 10000
#define LOG_STACK_BYTES KiB(512)

static void batch_clear(struct batch *b) {
    for (size_t i = 0; i < b->objects.n; i++)
        object_unref(b->objects.items[i]);
    b->objects.n = b->entries.n = 0;
    if (b->entries.cap > 4096) { /* a burst's */
        vec_fini(&b->objects);
        vec_fini(&b->entries);
    }
}

/* --- the log thread ----------------------------------------------------------------------------------------------- */

static void on_done(void *arg);

static void *log_main(void *arg) {
    struct store *s = arg;
    struct committer *c = &s->commit;
    pthread_setname_np(pthread_self(), "log");
    pthread_mutex_lock(&c->lock);
    for (;;) {
        while (!c->job && !c->stop)
            pthread_cond_wait(&c->wake, &c->lock);
        if (!c->job)
            break;
        struct batch *b = c->job;
        pthread_mutex_unlock(&c->lock);
        struct error err = {0};
        int rc = c->ops->commit(c->log, b->entries.items, b->entries.n, b->reserve, &err);
        pthread_mutex_lock(&c->lock);
        c->job = NULL;
        c->result = rc;
        c->result_err = err;
        c->finished = true;
        pthread_cond_broadcast(&c->wake);
        pthread_mutex_unlock(&c->lock);
        store_post(s, on_done);
        pthread_mutex_lock(&c->lock);
    }
    pthread_mutex_unlock(&c->lock);
    return NULL;
}

static int start_thread(struct store *s, struct error *err) {
    pthread_attr_t attr;
    sigset_t all, before;
    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, LOG_STACK_BYTES);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int rc = pthread_create(&s->commit.thread, &attr, log_main, s);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attr);
    if (rc)
        return error_sys(err, -rc, "cannot start the thread of the log");
    s->commit.has_thread = true;
    return 0;
}

static void give_job(struct committer *c, struct batch *b) {
    pthread_mutex_lock(&c->lock);
    c->job = b;
    pthread_cond_broadcast(&c->wake);
    pthread_mutex_unlock(&c->lock);
}

/* --- collecting --------------------------------------------------------------------------------------------------- */

/* A later write to an object that waits already takes its place: only the last is written. */
void commit_add(struct store *s, struct object *o, bool deleted) {
    struct committer *c = &s->commit;
    if (!c->ops)
        return;
    struct batch *b = c->pending;
    struct store_log_entry e = {o->kind->name, o->ns, o->name, deleted ? NULL : o, o->revision, o->id};
    object_ref(o);
    if (o->batch == c->number && o->slot < b->entries.n && b->entries.items[o->slot].id == o->id) {
        object_unref(b->objects.items[o->slot]);
        b->objects.items[o->slot] = o;
        b->entries.items[o->slot] = e;
        return;
    }
    o->batch = c->number;
    o->slot = (uint32_t)b->entries.n;
    vec_push(&b->entries, e);
    vec_push(&b->objects, o);
}

static void hand_over(struct store *s) {
    struct committer *c = &s->commit;
    if (!c->ops || c->flight || c->dead)
        return;
    bool reserve = s->revision > c->reserved - RESERVE / 2;
    if (!c->pending->entries.n && !reserve)
        return;
    c->flight = c->pending;
    c->pending = c->flight == &c->batches[0] ? &c->batches[1] : &c->batches[0];
    c->flight->last = s->revision;
    c->flight->reserve = reserve ? s->revision + RESERVE : 0;
    if (++c->number == 0)
        c->number = 1;
    give_job(c, c->flight);
}

/* --- results ------------------------------------------------------------------------------------------------------ */

static struct waiter waiter_pop(struct committer *c) {
    struct waiter w = c->waiters.items[c->waiters_gone++];
    if (c->waiters_gone == c->waiters.n)
        c->waiters.n = c->waiters_gone = 0;
    return w;
}

/* What is durable is answered; the rest too while the log fails. Callbacks may add more: those have their turn later. */
static void answer(struct store *s) {
    struct committer *c = &s->commit;
    for (size_t left = c->waiters.n - c->waiters_gone; left > 0; left--) {
        bool durable = c->waiters.items[c->waiters_gone].revision <= c->durable;
        if (!durable && !c->failure.code)
            return;
        struct waiter w = waiter_pop(c);
        w.fn(w.arg, durable ? 0 : c->failure.code);
    }
    if (c->waiters.n && (c->failure.code || c->waiters.items[c->waiters_gone].revision <= c->durable))
        store_kick(s);
}

static void settle(struct committer *c) {
    struct batch *b = c->flight;
    c->durable = b->last;
    c->reserved = MAX(c->reserved, b->reserve);
    c->commits++;
    c->writes += b->entries.n;
    batch_clear(b);
    c->flight = NULL;
    if (c->failure.code)
        log_info("store", "the log can be written again");
    c->failure.code = 0;
    c->retry_ms = 0;
}

static const char *cause(int code) {
    switch (code) {
    case -ENOSPC:
    case -EDQUOT:
        return "no space";
    case -EROFS:
        return "read-only file system";
    case -EUCLEAN:
        return "database corrupted";
    default:
        return "cannot write to disk";
    }
}

static void failed(struct store *s, int code, const struct error *why) {
    struct committer *c = &s->commit;
    bool news = c->failure.code != code;
    c->dead = code == -EUCLEAN;
    error_set(&c->failure, code, "etcdserver: %s: %s", cause(code), why->msg[0] ? why->msg : strerror(-code));
    if (news)
        log_error("store", "writes fail, reads go on: %s", c->failure.msg);
    if (c->dead) {
        if (s->on_fatal)
            s->on_fatal(s->arg, &c->failure);
        return;
    }
    c->retry_ms = c->retry_ms ? MIN(c->retry_ms * 2, RETRY_MAX_MS) : RETRY_FIRST_MS;
    timer_set(&c->retry, c->retry_ms, 0);
}

static void on_retry(void *arg) {
    struct committer *c = &((struct store *)arg)->commit;
    give_job(c, c->flight);
}

/* Whether the log has finished its job; the outcome is settled then. */
static bool take_result(struct store *s) {
    struct committer *c = &s->commit;
    pthread_mutex_lock(&c->lock);
    bool finished = c->finished;
    int rc = c->result;
    struct error err = c->result_err;
    c->finished = false;
    pthread_mutex_unlock(&c->lock);
    if (!finished)
        return false;
    if (rc)
        failed(s, rc, &err);
    else
        settle(c);
    return true;
}

static void on_done(void *arg) {
    struct store *s = arg;
    if (store_posted(s) && take_result(s))
        commit_turn(s);
}

void commit_turn(struct store *s) {
    struct committer *c = &s->commit;
    hand_over(s); /* first, so that the disk works while we tell people */
    if (!c->flight && !c->dead)
        c->durable = MIN(s->revision, c->reserved); /* nothing but volatile writes since */
    answer(s);
    hub_deliver(s);
}

/* Nearly always the newest revision, so the search from the end finds its place at once. */
void store_when_durable(struct store *s, int64_t revision, void (*fn)(void *arg, int code), void *arg) {
    struct committer *c = &s->commit;
    struct waiter w = {revision, fn, arg};
    if (c->waiters.n == c->waiters.cap && c->waiters_gone > c->waiters.n / 2) {
        c->waiters.n -= c->waiters_gone;
        memmove(c->waiters.items, c->waiters.items + c->waiters_gone, c->waiters.n * sizeof(w));
        c->waiters_gone = 0;
    }
    vec_push(&c->waiters, w);
    size_t i = c->waiters.n - 1;
    for (; i > c->waiters_gone && c->waiters.items[i - 1].revision > revision; i--)
        c->waiters.items[i] = c->waiters.items[i - 1];
    c->waiters.items[i] = w;
    store_kick(s);
}

int store_writable(const struct store *s, struct error *err) {
    const struct error *f = &s->commit.failure;
    return f->code ? error_set(err, f->code, "%s", f->msg) : 0;
}

int64_t store_durable_revision(const struct store *s) {
    return s->commit.durable;
}

/* --- life --------------------------------------------------------------------------------------------------------- */

/* The first block is reserved before anything can be read: a revision once seen is never given out again. */
int commit_init(struct store *s, const struct store_options *o, int64_t reserved, struct error *err) {
    struct committer *c = &s->commit;
    c->ops = o->ops;
    c->log = o->log;
    c->pending = &c->batches[0];
    c->number = 1;
    c->durable = s->revision;
    c->reserved = INT64_MAX;
    timer_init(&c->retry, s->loop, on_retry, s);
    if (!c->ops)
        return 0;
    c->reserved = s->revision + RESERVE;
    int rc = c->ops->commit(c->log, NULL, 0, c->reserved, err);
    return rc ? rc : start_thread(s, err);
}

static void stop_thread(struct committer *c) {
    pthread_mutex_lock(&c->lock);
    c->stop = true; /* after the job it may have */
    pthread_cond_broadcast(&c->wake);
    pthread_mutex_unlock(&c->lock);
    pthread_join(c->thread, NULL);
    c->has_thread = false;
}

static int commit_now(struct committer *c, struct batch *b, int64_t reserve, struct error *err) {
    return c->ops->commit(c->log, b->entries.items, b->entries.n, reserve, err);
}

/* The last commits, on this thread; they also give back what is left of the block, so that a clean restart goes on
 * counting where it stopped. */
void commit_fini(struct store *s) {
    struct committer *c = &s->commit;
    if (c->has_thread) {
        stop_thread(c);
        take_result(s);
        struct error err = c->failure;
        int rc = c->dead ? err.code : 0;
        if (!rc && c->flight)
            rc = commit_now(c, c->flight, c->flight->reserve, &err);
        if (!rc)
            rc = commit_now(c, c->pending, s->revision, &err);
        if (rc)
            log_error("store", "the last writes could not be made durable: %s", err.msg[0] ? err.msg : strerror(-rc));
    }
    timer_stop(&c->retry);
    batch_clear(&c->batches[0]);
    batch_clear(&c->batches[1]);
    for (int i = 0; i < 2; i++) {
        vec_fini(&c->batches[i].entries);
        vec_fini(&c->batches[i].objects);
    }
    vec_fini(&c->waiters);
    if (c->ops && c->ops->close)
        c->ops->close(c->log);
}
