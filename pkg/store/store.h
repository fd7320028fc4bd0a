/*
 * pkg/store: the cluster's state. Objects live in memory, ordered by (kind, namespace, name); a single writer
 * (the core thread: every function here is its, unless said otherwise) changes them; each change gets the next revision of
 * one decimal sequence over all kinds. A change is visible to reads at once, becomes durable with others in one transaction
 * of the log (its own thread, one fsync a batch), and only then are watchers told and waiting clients answered.
 *
 * Volatile writes (Events, Lease renewals, heartbeats) get revisions but never reach the disk. Revisions never go
 * backwards: the log reserves them in blocks ahead and a restart begins at the end of the reserved block.
 */
#pragma once

#include "codec/json.h"
#include "net/loop.h"

/* One version of one object: immutable, refcounted, any thread. */
struct object {
    struct blob blob; /* its canonical JSON (storage version), resourceVersion included; counts the references */
    int64_t revision;
    struct store_kind *kind;
    struct str ns, name; /* ns "" for cluster-scoped kinds */
    struct str uid;
    struct json *_Atomic tree; /* made on first use by object_json() */
    struct arena *arena;       /* of the tree */
    /* The store's own, the core thread's, except used. */
    int64_t id;           /* the revision that created it: the same for all versions of one object */
    uint32_t held;        /* references the store itself holds */
    uint32_t batch, slot; /* where a version of it waits for the log */
    bool persisted;       /* some version of it is in the log or on the way there */
    atomic_bool used;     /* its tree was asked for since the last sweep */
};
/* A free-standing object; json, tree and arena as store_put(). kind may be NULL. The store makes its own with this. */
struct object *object_new(struct store_kind *kind, struct str ns, struct str name, int64_t revision, char *json,
                          size_t n, struct json *tree, struct arena *arena);
static inline struct object *object_ref(struct object *o) {
    blob_ref(&o->blob);
    return o;
}
void object_unref(struct object *o); /* NULL is fine */
/*
 * The parsed form, shared and immutable; any thread. It lives as long as the caller's reference; of a borrowed object (peek,
 * each, events), until the callback returns to the loop: between callbacks the store drops the trees of cold objects that
 * nobody else holds.
 */
const struct json *object_json(struct object *o);

struct store;

struct store_kind { /* a resource, all its versions: "pods", "deployments.apps" */
    struct str name;
    size_t index;
    void *user; /* the API's */
};

/* The durable log, an interface. Blocking; called on the log thread, except load. */
struct store_log_entry {
    struct str kind, ns, name;
    struct object *object; /* NULL: deleted */
    int64_t revision;
    int64_t id; /* object.id: unique to one life of (kind, ns, name), so a log may use it as its key */
};
struct store_log_ops {
    /* Reads everything: each(arg, kind, ns, name, json, revision, id). Sets *reserved to the end of the reserved block. */
    int (*load)(void *log,
                void (*each)(void *arg, struct str kind, struct str ns, struct str name, struct str json,
                             int64_t revision, int64_t id),
                void *arg, int64_t *reserved, struct error *err);
    /* One durable transaction, or nothing at all. reserve: 0, or the new end of the reserved block. -ENOSPC, -EIO, -EROFS
     * and others: the store tries the same again later. -EUCLEAN: the log is damaged, never again. */
    int (*commit)(void *log, const struct store_log_entry *e, size_t n, int64_t reserve, struct error *err);
    void (*close)(void *log);
};
/* SQLite in WAL mode, synchronous=FULL, at <dir>/state.db; takes an exclusive lock on the directory: a second server gets
 * -EBUSY naming the holder's pid. A corrupt or foreign file is a clear error and is left as it is. */
int store_log_sqlite_open(const char *dir, const struct store_log_ops **ops, void **log, struct error *err);

struct store_options {
    struct loop *loop;               /* the core loop */
    const struct store_log_ops *ops; /* NULL: memory only (tests) */
    void *log;
    size_t history_events; /* watch history kept: 0: 4096 events and at least 5 minutes' worth within bytes */
    size_t history_bytes;  /* 0: 8 MiB */
    void (*on_fatal)(void *arg, const struct error *err); /* the log is damaged: no write will succeed; logged too */
    void *arg;
};
int store_open(const struct store_options *o, struct store **out, struct error *err);
/* Waits until everything is durable, or logs why that cannot be. Callbacks that still wait for durability are dropped
 * uncalled, watches end: whoever owns them goes first. */
void store_close(struct store *s);
/* 0, or why writes cannot become durable now: -ENOSPC, -EIO, -EROFS, ... with a message for clients ("etcdserver: no space:
 * ..."). Asked before a durable write, which is refused with 500 then; reads go on. The store tries again by itself and
 * recovers without a restart; writes that were applied but not acknowledged become durable then. */
int store_writable(const struct store *s, struct error *err);

struct store_kind *store_kind(struct store *s, struct str name); /* registered on first use */
int64_t store_revision(const struct store *s);                   /* of the newest applied write */
int64_t store_revision_next(struct store *s);                    /* what the next write must carry */
int64_t store_durable_revision(const struct store *s);
int64_t store_oldest_revision(const struct store *s); /* watches from before it get -ESTALE (410) */

/* A new reference or NULL. */
struct object *store_get(struct store *s, struct store_kind *k, struct str ns, struct str name);
/* Borrowed, no reference taken: valid until the next write. */
struct object *store_peek(struct store *s, struct store_kind *k, struct str ns, struct str name);
/* In order of (ns, name); ns p==NULL: all namespaces; starts after (after_ns, after_name) when p != NULL. each returns
 * false to stop. The state must not be changed inside. */
void store_each(struct store *s, struct store_kind *k, struct str ns, struct str after_ns, struct str after_name,
                bool (*each)(void *arg, struct object *o), void *arg);
size_t store_count(const struct store *s, const struct store_kind *k);

/* Secondary indexes: fn names the keys of an object (emit copies). Existing objects are indexed at once. Users of the same
 * index may each ask for it. */
void store_index_add(struct store *s, struct store_kind *k, const char *index,
                     void (*fn)(struct object *o, void (*emit)(void *arg, struct str key), void *arg));
void store_index_each(struct store *s, struct store_kind *k, const char *index, struct str key,
                      bool (*each)(void *arg, struct object *o), void *arg);

enum store_durability { STORE_DURABLE, STORE_VOLATILE };
/* Puts an object whose JSON already carries metadata.resourceVersion == store_revision_next(). json is taken over
 * (malloc'ed). tree/arena: its parsed form if the caller has one (taken over), else NULL. The store takes care of
 * telling hooks and watchers. Returns the object, a new reference. */
struct object *store_put(struct store *s, struct store_kind *k, struct str ns, struct str name, char *json, size_t n,
                         struct json *tree, struct arena *arena, enum store_durability d);
/* Deletes; last is the final form (JSON with the deletion's resourceVersion, as store_put) shown to watchers. */
void store_delete(struct store *s, struct store_kind *k, struct str ns, struct str name, char *last_json, size_t n,
                  enum store_durability d);
/* fn(arg, code) on the core loop, never inline, once revision is durable (code 0) or the log has failed (negative). */
void store_when_durable(struct store *s, int64_t revision, void (*fn)(void *arg, int code), void *arg);

enum event_type { EVENT_ADDED, EVENT_MODIFIED, EVENT_DELETED };
struct event {
    enum event_type type;
    struct object *object; /* DELETED: the last form with the deletion's revision */
    struct object *old;    /* MODIFIED, DELETED: what it replaced; else NULL */
};
/* Controllers' hook: called inside store_put/store_delete, after the state changed. k NULL: all kinds. */
void store_hook_add(struct store *s, struct store_kind *k, void (*fn)(void *arg, const struct event *e), void *arg);

/* Watches: durable events after revision `from` in order, on the core loop. */
struct store_watch;
/* k NULL: all kinds. from: 0 means from now. -ESTALE when from is older than the history, -ERANGE when in the future. */
int store_watch(struct store *s, struct store_kind *k, int64_t from, void (*fn)(void *arg, const struct event *e),
                void *arg, struct store_watch **out);
void store_watch_stop(struct store_watch *w);

struct store_stats {
    uint64_t objects, bytes, commits, committed_writes, volatile_writes, watchers;
    uint64_t history_events, history_bytes; /* kept for watches; bytes beyond those of the objects that exist */
    uint64_t tree_bytes;                    /* parsed forms, now */
    uint64_t pending_writes;                /* applied, not durable yet */
    bool failing;                           /* store_writable() says why */
};
void store_stats(const struct store *s, struct store_stats *out);
