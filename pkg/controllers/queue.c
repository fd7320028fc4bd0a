/*
 * The work queue: each key is in it once, runs from the core loop in order of arrival, and comes back by itself
 * after a failure with a delay that doubles. A turn of the loop runs a bounded number of keys, so that
 * clients are served between them.
 */
#include <stdlib.h>

#include "controllers/internal.h"

#define TURN_KEYS 64
#define BACKOFF_FIRST_MS 5
#define BACKOFF_MAX_MS 300000

struct work_item {
    struct list link; /* in queue->ready while queued */
    struct work_queue *queue;
    struct timer timer;
    struct str ns, name;
    unsigned failures;
    bool queued;
    char key[];
};

struct work_queue {
    struct loop *loop;
    struct controller *controller;
    struct map items; /* "ns/name" -> work_item */
    struct list ready;
    bool scheduled, closing;
};

struct work_queue *work_queue_new(struct loop *core, struct controller *c) {
    struct work_queue *q = XNEW(struct work_queue);
    q->loop = core;
    q->controller = c;
    list_init(&q->ready);
    return q;
}

static void item_free(struct work_item *it) {
    timer_stop(&it->timer);
    list_remove(&it->link);
    free(it);
}

void work_queue_free(struct work_queue *q) {
    struct map_entry *e;
    for (size_t i = 0; (e = map_next(&q->items, &i));)
        item_free(e->value);
    map_fini(&q->items);
    q->closing = true;
    if (!q->scheduled)
        free(q); /* else the posted turn does */
}

static void run_turn(void *arg);

static void enqueue(struct work_item *it) {
    struct work_queue *q = it->queue;
    if (it->queued)
        return;
    it->queued = true;
    list_push_back(&q->ready, &it->link);
    if (!q->scheduled) {
        q->scheduled = true;
        loop_post(q->loop, run_turn, q);
    }
}

static void on_timer(void *arg) {
    enqueue(arg);
}

static struct work_item *item_get(struct work_queue *q, struct str ns, struct str name) {
    char local[512];
    size_t n = ns.n + 1 + name.n;
    REQUIRE(n < sizeof(local));
    memcpy(local, ns.p, ns.n);
    local[ns.n] = '/';
    memcpy(local + ns.n + 1, name.p, name.n);
    struct work_item *it = map_get(&q->items, str_n(local, n));
    if (it)
        return it;
    it = xcalloc(1, sizeof(*it) + n + 1);
    memcpy(it->key, local, n);
    it->ns = str_n(it->key, ns.n);
    it->name = str_n(it->key + ns.n + 1, name.n);
    it->queue = q;
    list_init(&it->link);
    timer_init(&it->timer, q->loop, on_timer, it);
    map_set(&q->items, str_n(it->key, n), it);
    return it;
}

void work_queue_add(struct work_queue *q, struct str ns, struct str name) {
    enqueue(item_get(q, ns, name));
}

void work_queue_add_after(struct work_queue *q, struct str ns, struct str name, int64_t ms) {
    struct work_item *it = item_get(q, ns, name);
    if (!it->queued)
        timer_set(&it->timer, MAX(ms, (int64_t)1), ms / 10);
}

static void run_item(struct work_queue *q, struct work_item *it) {
    it->queued = false;
    timer_stop(&it->timer);
    int64_t again = q->controller->reconcile(q->controller, it->ns, it->name);
    if (again < 0) {
        unsigned shift = MIN(it->failures, 16u);
        it->failures++;
        again = MIN((int64_t)BACKOFF_FIRST_MS << shift, (int64_t)BACKOFF_MAX_MS);
    } else {
        it->failures = 0;
    }
    if (it->queued)
        return; /* it was asked for again while it ran */
    if (again > 0) {
        timer_set(&it->timer, again, again / 10);
        return;
    }
    map_del(&q->items, str_n(it->key, it->ns.n + 1 + it->name.n));
    item_free(it);
}

static void run_turn(void *arg) {
    struct work_queue *q = arg;
    if (q->closing) {
        free(q);
        return;
    }
    for (int i = 0; i < TURN_KEYS; i++) {
        struct list *l = list_pop_front(&q->ready);
        if (!l)
            break;
        run_item(q, LIST_ITEM(l, struct work_item, link));
    }
    q->scheduled = !list_empty(&q->ready);
    if (q->scheduled)
        loop_post(q->loop, run_turn, q);
}
