/*
 * Event loops, one a thread, on libuv. There are exactly three ways to have code run: timers and handles on this
 * loop; loop_post() on another loop (the only thread-safe call here); loop_work() on the blocking pool. A callback is
 * never called inline from the function that takes it.
 */
#pragma once

#include <uv.h>

#include "base/base.h"

struct loop;

typedef void (*loop_fn)(void *arg);

/* A loop for a thread to come. name (<= 15 bytes) becomes the thread's name. */
struct loop *loop_new(const char *name);
int loop_start(struct loop *l, struct error *err); /* runs it on a thread of its own */
void loop_run(struct loop *l);                     /* runs it on the calling thread until loop_stop() */
void loop_stop(struct loop *l);                    /* any thread: ends after what was posted before it has run */
void loop_join(struct loop *l);                    /* waits for a started loop's thread */
void loop_free(struct loop *l);                    /* after it ended; closes what is still open */
uv_loop_t *loop_uv(struct loop *l);
struct loop *loop_current(void); /* the loop running on this thread, or NULL */

/* Any thread: fn(arg) runs on l, in the order posted by one thread; one wake-up serves many posts. */
void loop_post(struct loop *l, loop_fn fn, void *arg);
/* On l's thread: work(arg) on the blocking pool, then done(arg) on l. */
void loop_work(struct loop *l, loop_fn work, loop_fn done, void *arg);

/*
 * One-shot timers, embedded in their owner, at most one deadline each; thousands cost one uv timer. On the loop's
 * thread only. timer_stop() makes the owner free to go at once.
 */
struct timer {
    struct loop *loop;
    loop_fn fn;
    void *arg;
    int64_t deadline_ms; /* monotonic; 0: not set */
    size_t slot;         /* place in the loop's heap */
};
void timer_init(struct timer *t, struct loop *l, loop_fn fn, void *arg);
/* Fires once, after_ms from now, up to slack_ms later so that it can share a wake-up; re-arms when already set. */
void timer_set(struct timer *t, int64_t after_ms, int64_t slack_ms);
void timer_stop(struct timer *t);
static inline bool timer_is_set(const struct timer *t) {
    return t->deadline_ms != 0;
}
