#include <stdlib.h>
#include <string.h>

#include "store/store_priv.h"

#define HISTORY_EVENTS 4096
#define HISTORY_BYTES MiB(8)
#define HISTORY_AGE_S (5 * 60)
#define RING_FIRST 64

struct store_watch {
    struct list link; /* in one of the hub's or a kind's lists */
    struct store *store;
    struct store_kind *kind; /* NULL: all */
    uint64_t cursor;         /* the first event it wants */
    void (*fn)(void *arg, const struct event *e);
    void *arg;
    bool stopped;
};

void hub_init(struct hub *h, const struct store_options *o, int64_t revision) {
    h->max_events = o->history_events ? o->history_events : HISTORY_EVENTS;
    h->max_bytes = o->history_bytes ? o->history_bytes : HISTORY_BYTES;
    h->oldest = revision;
    h->cap = RING_FIRST;
    h->ring = xcalloc(h->cap, sizeof(*h->ring));
    list_init(&h->watches);
    list_init(&h->late);
}

static struct hub_event *event_at(const struct hub *h, uint64_t seq) {
    return &h->ring[seq & (h->cap - 1)];
}

/* What history keeps alive through an event: the version that was replaced, and the last form of what is gone. */
static size_t charge(const struct hub_event *e) {
    return sizeof(*e) + (e->old ? object_size(e->old) : 0) + (e->type == EVENT_DELETED ? object_size(e->object) : 0);
}

static void grow(struct hub *h) {
    struct hub_event *ring = xcalloc(h->cap * 2, sizeof(*ring));
    for (uint64_t i = h->first; i < h->end; i++)
        ring[i & (h->cap * 2 - 1)] = *event_at(h, i);
    free(h->ring);
    h->ring = ring;
    h->cap *= 2;
}

void hub_push(struct hub *h, enum event_type type, struct object *o, struct object *old) {
    if (h->end - h->first == h->cap)
        grow(h);
    struct hub_event *e = event_at(h, h->end++);
    *e = (struct hub_event){object_hold(o), old ? object_hold(old) : NULL, (uint32_t)(time_mono_ms() / 1000),
                            (uint8_t)type};
    h->bytes += charge(e);
}

static void drop_first(struct hub *h) {
    struct hub_event *e = event_at(h, h->first++);
    h->bytes -= charge(e);
    h->oldest = e->object->revision;
    object_release(e->object);
    object_release(e->old);
    *e = (struct hub_event){0};
}

/* Events nobody was told of yet stay, however many they are; there is no timer: history ages when it is added to. */
static void expire(struct hub *h) {
    if (!list_empty(&h->late))
        return;
    uint32_t now_s = (uint32_t)(time_mono_ms() / 1000);
    while (h->first < h->told) {
        bool many = h->end - h->first > h->max_events, old = now_s - event_at(h, h->first)->at_s > HISTORY_AGE_S;
        if (!(many && old) && h->bytes <= h->max_bytes)
            break;
        drop_first(h);
    }
    /* A burst's ring is not kept for ever. */
    if (h->cap > 4 * HISTORY_EVENTS && h->end - h->first < h->cap / 8) {
        size_t cap = h->cap / 4;
        struct hub_event *ring = xcalloc(cap, sizeof(*ring));
        for (uint64_t i = h->first; i < h->end; i++)
            ring[i & (cap - 1)] = *event_at(h, i);
        free(h->ring);
        h->ring = ring;
        h->cap = cap;
    }
}

/* --- telling ------------------------------------------------------------------------------------------------------ */

static void call(struct store_watch *w, const struct event *e) {
    if (!w->stopped)
        w->fn(w->arg, e);
}

static void tell_list(struct list *watches, uint64_t seq, const struct event *e) {
    LIST_FOREACH (it, watches) {
        struct store_watch *w = LIST_ITEM(it, struct store_watch, link);
        if (w->cursor <= seq)
            call(w, e);
    }
}

/* Callbacks may write (the ring moves) and stop or start watches, so the event is a copy that holds its objects. */
static struct event take(const struct hub *h, uint64_t seq) {
    const struct hub_event *r = event_at(h, seq);
    return (struct event){r->type, object_ref(r->object), r->old ? object_ref(r->old) : NULL};
}

/* What is no longer the state's is rarely looked at again. */
static void let_go(struct event *e) {
    bool gone = e->type == EVENT_DELETED;
    if (e->old) {
        object_unref(e->old);
        object_drop_tree(e->old); /* the ring holds it still */
    }
    object_unref(e->object);
    if (gone)
        object_drop_tree(e->object);
}

static struct list *home(struct store_watch *w) {
    return w->kind ? &kind_of(w->kind)->watches : &w->store->hub.watches;
}

static void catch_up(struct hub *h, struct store_watch *w) {
    for (uint64_t seq = w->cursor; seq < h->told && !w->stopped; seq++) {
        if (w->kind && w->kind != event_at(h, seq)->object->kind)
            continue;
        struct event e = take(h, seq);
        call(w, &e);
        let_go(&e);
    }
    list_remove(&w->link);
    w->cursor = h->told;
    list_push_back(home(w), &w->link);
}

static void reap(struct list *watches) {
    LIST_FOREACH (it, watches) {
        struct store_watch *w = LIST_ITEM(it, struct store_watch, link);
        if (!w->stopped)
            continue;
        list_remove(it);
        free(w);
    }
}

static void reap_all(struct store *s) {
    for (size_t i = 0; i < s->kinds.n; i++)
        reap(&s->kinds.items[i]->watches);
    reap(&s->hub.watches);
    reap(&s->hub.late);
    s->hub.dirty = false;
}

void hub_deliver(struct store *s) {
    struct hub *h = &s->hub;
    if (h->busy)
        return;
    h->busy = true;
    while (!list_empty(&h->late))
        catch_up(h, LIST_ITEM(h->late.next, struct store_watch, link));
    while (h->told < h->end && event_at(h, h->told)->object->revision <= s->commit.durable) {
        uint64_t seq = h->told++;
        struct event e = take(h, seq);
        tell_list(&kind_of(e.object->kind)->watches, seq, &e);
        tell_list(&h->watches, seq, &e);
        let_go(&e);
    }
    h->busy = false;
    if (!list_empty(&h->late))
        store_kick(s);
    if (h->dirty)
        reap_all(s);
    expire(h);
}

void hub_sweep(struct hub *h) {
    for (uint64_t i = h->first; i < h->told; i++) {
        struct hub_event *e = event_at(h, i);
        if (e->old)
            object_drop_tree(e->old);
        if (e->type == EVENT_DELETED)
            object_drop_tree(e->object);
    }
}

/* --- watches ------------------------------------------------------------------------------------------------------ */

static uint64_t first_after(const struct hub *h, int64_t revision) {
    uint64_t lo = h->first, hi = h->end;
    while (lo < hi) {
        uint64_t mid = lo + (hi - lo) / 2;
        if (event_at(h, mid)->object->revision <= revision)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

int store_watch(struct store *s, struct store_kind *k, int64_t from, void (*fn)(void *arg, const struct event *e),
                void *arg, struct store_watch **out) {
    struct hub *h = &s->hub;
    if (from < 0)
        return -EINVAL;
    if (from > s->revision)
        return -ERANGE;
    if (from && from < h->oldest)
        return -ESTALE;
    struct store_watch *w = XNEW(struct store_watch);
    *w = (struct store_watch){.store = s, .kind = k, .fn = fn, .arg = arg};
    w->cursor = from ? first_after(h, from) : h->end;
    if (w->cursor < h->told) {
        list_push_back(&h->late, &w->link);
        store_kick(s);
    } else {
        list_push_back(home(w), &w->link);
    }
    h->watchers++;
    *out = w;
    return 0;
}

/* Inside a delivery the memory stays until its end, and a watch that is catching up stays in its list. */
void store_watch_stop(struct store_watch *w) {
    if (!w)
        return;
    struct hub *h = &w->store->hub;
    h->watchers--;
    if (!h->busy) {
        list_remove(&w->link);
        free(w);
        return;
    }
    w->stopped = true;
    h->dirty = true;
}

static void free_watches(struct list *l) {
    for (struct list *it; (it = list_pop_front(l));)
        free(LIST_ITEM(it, struct store_watch, link));
}

void hub_fini(struct store *s) {
    struct hub *h = &s->hub;
    while (h->first < h->end)
        drop_first(h);
    free(h->ring);
    for (size_t i = 0; i < s->kinds.n; i++)
        free_watches(&s->kinds.items[i]->watches);
    free_watches(&h->watches);
    free_watches(&h->late);
}

int64_t store_oldest_revision(const struct store *s) {
    return s->hub.oldest;
}
