/* What the files of pkg/store share. Everything belongs to the core thread but where commit.c says otherwise. */
#pragma once

#include <pthread.h>

#include "store/store.h"

/* --- object.c --- */
void object_drop_tree(struct object *o); /* unless someone beside the store holds the object */
bool object_has_tree(const struct object *o);
size_t object_trees_bytes(void); /* memory in parsed forms, all stores of the process; any thread */
size_t object_size(const struct object *o);
/* References of the store itself, told apart so that it knows when nobody else has any. */
static inline struct object *object_hold(struct object *o) {
    o->held++;
    return object_ref(o);
}
static inline void object_release(struct object *o) {
    if (!o)
        return;
    o->held--;
    object_unref(o);
}

/*
 * --- set.c: a set of objects ordered by (ns, name) ---
 * Sorted chunks of at most 128 pointers, and a sorted array of these chunks: two binary searches to find, and an insertion
 * moves at most 1 KiB, plus, once in 64, the tail of the array (16 KiB for 256 000 objects). 10 to 16 bytes an object;
 * a set of few starts with 4 slots. The set holds its objects.
 */
struct chunk;
struct set {
    struct chunk **chunks;
    uint32_t n, cap;
    size_t count;
    uint32_t changes; /* positions are void when it moved */
};
struct set_pos {
    size_t chunk, item;
};
void set_fini(struct set *s);
struct object *set_find(const struct set *s, struct str ns, struct str name);
/* Adds o or puts it in the place of its namesake, which is returned: the set's hold on it is the caller's now. */
struct object *set_put(struct set *s, struct object *o);
/* The object taken out (with the set's hold), or NULL. */
struct object *set_del(struct set *s, struct str ns, struct str name);
/* The first object at or (after) behind (ns, name). */
struct set_pos set_seek(const struct set *s, struct str ns, struct str name, bool after);
struct object *set_at(const struct set *s, struct set_pos p); /* NULL at the end */
static inline struct set_pos set_start(void) {
    return (struct set_pos){0, 0};
}
struct set_pos set_next(const struct set *s, struct set_pos p);

/* --- index.c --- */
struct index;
struct kind;
void index_update(struct kind *k, struct object *old, struct object *o); /* either may be NULL */
void index_fini(struct kind *k);

struct hook {
    void (*fn)(void *arg, const struct event *e);
    void *arg;
};
typedef VEC(struct hook) hook_vec;

struct kind {
    struct store_kind pub;
    struct set objects;
    VEC(struct index *) indexes;
    hook_vec hooks;
    struct list watches;
};
static inline struct kind *kind_of(const struct store_kind *k) {
    return CONTAINER_OF(k, struct kind, pub);
}

/*
 * --- hub.c: the events that happened, oldest first, and who wants them ---
 * Events have sequence numbers; [first, end) are kept, those before `told` are durable and were given to the watches.
 */
struct hub_event {
    struct object *object, *old;
    uint32_t at_s; /* monotonic seconds */
    uint8_t type;
};
struct hub {
    struct hub_event *ring; /* a power of two */
    size_t cap;
    uint64_t first, told, end;
    size_t bytes; /* held by history alone, roughly */
    size_t max_events, max_bytes;
    int64_t oldest;      /* revision: everything after it is still here */
    struct list watches; /* of all kinds */
    struct list late;    /* that have history to catch up with */
    size_t watchers;
    bool busy, dirty; /* delivering; a watch was stopped meanwhile */
};
void hub_init(struct hub *h, const struct store_options *o, int64_t revision);
void hub_fini(struct store *s);
void hub_push(struct hub *h, enum event_type type, struct object *o, struct object *old);
void hub_deliver(struct store *s); /* what became durable, to those who watch */
void hub_sweep(struct hub *h);     /* drops trees */

/*
 * --- commit.c: durability ---
 * `pending` collects on the core thread while the log thread works on `flight`.
 */
struct batch {
    VEC(struct store_log_entry) entries;
    VEC(struct object *) objects; /* whose memory the entries point to: a reference each */
    int64_t last;                 /* revision of the newest write when it was handed over */
    int64_t reserve;
};
struct waiter {
    int64_t revision;
    void (*fn)(void *arg, int code);
    void *arg;
};
struct committer {
    const struct store_log_ops *ops;
    void *log;
    struct batch batches[2];
    struct batch *pending, *flight; /* flight NULL: the log has nothing to do */
    uint32_t number;                /* of the pending batch, never 0 */
    int64_t reserved;               /* durable end of the block of revisions */
    int64_t durable;
    VEC(struct waiter) waiters; /* by revision; [gone, n) wait */
    size_t waiters_gone;
    struct error failure; /* code 0: all is well */
    bool dead;            /* for good */
    struct timer retry;
    int64_t retry_ms;
    uint64_t commits, writes;

    pthread_t thread;
    bool has_thread;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    /* under lock */
    struct batch *job;
    bool stop, finished; /* finished: a result waits for the core */
    int result;
    struct error result_err;
};
int commit_init(struct store *s, const struct store_options *o, int64_t reserved, struct error *err);
void commit_fini(struct store *s);
void commit_add(struct store *s, struct object *o, bool deleted);
/* One turn on the core thread: hands over, settles durability, answers who waits. */
void commit_turn(struct store *s);

struct store {
    struct loop *loop;
    VEC(struct kind *) kinds;
    struct map kind_names;
    hook_vec hooks;
    int64_t revision;
    struct hub hub;
    struct committer commit;
    struct timer sweep;
    uint64_t objects, bytes, volatile_writes;
    int posts; /* callbacks on the loop that still carry this store; under commit.lock */
    bool turn_posted, closed;
    bool swept_idle;    /* the last sweep found nothing to do */
    size_t trees_floor; /* what was left in trees after it */
    void (*on_fatal)(void *arg, const struct error *err);
    void *arg;
};
/* A turn of the store on the loop soon; many asked for make one. */
void store_kick(struct store *s);
/* Objects are about to be looked at: their trees want sweeping later. */
void store_reading(struct store *s);
/* Posts fn with the store counted as in use. Any thread. fn begins with store_posted(), false: the store is gone. */
void store_post(struct store *s, loop_fn fn);
bool store_posted(struct store *s);
