/*
 * An informer has two halves. On the core thread: a list, held back until it is durable, then a watch, filtered there. On
 * the caller's loop: the cache and the callbacks. Between them a queue of references; one message drains all that gathered.
 * What an event means is decided by the cache, so lists may come again: when the caller lags too far behind, the queue is
 * dropped and it gets the state anew.
 */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "client/client_priv.h"

#define QUEUE_MAX 16384 /* events; a list may be longer */
#define RELIST_MS 1000  /* while the log fails */

enum op { OP_LIST, OP_ITEM, OP_LISTED, OP_SET, OP_GONE };
struct item {
    enum op op;
    struct object *o;
};
typedef VEC(struct item) item_vec;

struct cached {
    struct object *o;
    uint32_t list; /* the last list it was in */
};

struct client_informer {
    struct ref ref; /* caller, core half, messages */
    struct client *client;
    struct arena *arena;
    const char *resource, *field_text, *label_text;

    /* core thread */
    const struct schema_resource *r;
    struct store_kind *kind;
    struct field_selector *fields;
    struct label_selector *labels;
    struct store_watch *watch;
    VEC(struct object *) listed; /* waits to be durable */
    int64_t listed_at;
    uint32_t lists;
    bool listing, ended;
    struct timer again;

    pthread_mutex_t lock;
    item_vec queue; /* under lock */
    size_t events;
    bool overflow;

    /* caller's loop */
    struct loop *loop;
    void (*fn)(void *arg, enum informer_event e, struct object *o, struct object *old);
    void *arg;
    struct map cache; /* struct cached, by namespace/name */
    uint32_t list;
    bool synced, stopped;
};

static void clear(item_vec *v) {
    for (size_t i = 0; i < v->n; i++)
        object_unref(v->items[i].o);
    vec_fini(v);
}

static struct client_informer *hold(struct client_informer *i) {
    ref_get(&i->ref);
    return i;
}

static void let_go(struct client_informer *i) {
    if (!ref_put(&i->ref))
        return;
    clear(&i->queue);
    pthread_mutex_destroy(&i->lock);
    client_unref(i->client);
    arena_free(i->arena);
    free(i);
}

/* --- the caller's half -------------------------------------------------------------------------------------------- */

struct key {
    char buf[512];
    struct str s;
};

/* Names have at most 253 bytes each; a longer one cannot be in the cache. */
static struct str key_of(struct key *k, struct str ns, struct str name) {
    if (ns.n + name.n + 1 > sizeof(k->buf))
        return STR("");
    if (ns.n)
        memcpy(k->buf, ns.p, ns.n);
    k->buf[ns.n] = '/';
    if (name.n)
        memcpy(k->buf + ns.n + 1, name.p, name.n);
    return str_n(k->buf, ns.n + name.n + 1);
}

static void tell(struct client_informer *i, enum informer_event e, struct object *o, struct object *old) {
    if (!i->stopped)
        i->fn(i->arg, e, o, old);
}

static void set(struct client_informer *i, struct object *o) {
    struct key k;
    struct str key = key_of(&k, o->ns, o->name);
    struct cached *c = map_get(&i->cache, key);
    if (c) {
        c->list = i->list;
        if (c->o->revision == o->revision)
            return;
        struct object *old = c->o;
        c->o = object_ref(o);
        tell(i, INFORMER_MODIFIED, o, old);
        object_unref(old);
        return;
    }
    c = XNEW(struct cached);
    *c = (struct cached){object_ref(o), i->list};
    map_set(&i->cache, key, c);
    tell(i, INFORMER_ADDED, o, NULL);
}

/* last: its last form, or NULL when only its absence is known. */
static void gone(struct client_informer *i, struct str ns, struct str name, struct object *last) {
    struct key k;
    struct cached *c = map_del(&i->cache, key_of(&k, ns, name));
    if (!c)
        return;
    tell(i, INFORMER_DELETED, last ? last : c->o, c->o);
    object_unref(c->o);
    free(c);
}

/* A list is complete: what the cache has beyond it is gone. */
static void listed(struct client_informer *i) {
    VEC(struct object *) lost = {0};
    struct map_entry *e;
    for (size_t at = 0; (e = map_next(&i->cache, &at));) {
        struct cached *c = e->value;
        if (c->list != i->list)
            vec_push(&lost, object_ref(c->o));
    }
    for (size_t j = 0; j < lost.n; j++) {
        if (!i->stopped)
            gone(i, lost.items[j]->ns, lost.items[j]->name, NULL);
        object_unref(lost.items[j]);
    }
    vec_fini(&lost);
    if (!i->synced) {
        i->synced = true;
        tell(i, INFORMER_SYNCED, NULL, NULL);
    }
}

static void apply(struct client_informer *i, const struct item *it) {
    switch (it->op) {
    case OP_LIST:
        i->list++;
        break;
    case OP_ITEM:
    case OP_SET:
        set(i, it->o);
        break;
    case OP_GONE:
        gone(i, it->o->ns, it->o->name, it->o);
        break;
    case OP_LISTED:
        listed(i);
        break;
    }
}

static void list_again(void *arg);

static void drain(void *arg) {
    struct client_informer *i = arg;
    pthread_mutex_lock(&i->lock);
    item_vec taken = i->queue;
    i->queue = (item_vec){0};
    i->events = 0;
    bool overflow = i->overflow;
    i->overflow = false;
    pthread_mutex_unlock(&i->lock);
    for (size_t j = 0; j < taken.n && !i->stopped; j++)
        apply(i, &taken.items[j]);
    clear(&taken);
    if (overflow && !i->stopped)
        loop_post(api_loop(i->client->api), list_again, hold(i));
    let_go(i);
}

struct object *client_informer_get(struct client_informer *i, struct str ns, struct str name) {
    struct key k;
    struct cached *c = map_get(&i->cache, key_of(&k, ns, name));
    return c ? c->o : NULL;
}

void client_informer_each(struct client_informer *i, bool (*each)(void *arg, struct object *o), void *arg) {
    struct map_entry *e;
    for (size_t at = 0; (e = map_next(&i->cache, &at));) {
        if (!each(arg, ((struct cached *)e->value)->o))
            return;
    }
}

/* --- the core's half ---------------------------------------------------------------------------------------------- */

/* The queue is not empty: a message is on the way, or is sent now. */
static void announce(struct client_informer *i, bool first) {
    if (first)
        loop_post(i->loop, drain, hold(i));
}

static void send_event(struct client_informer *i, enum op op, struct object *o) {
    pthread_mutex_lock(&i->lock);
    bool first = i->queue.n == 0 && !i->overflow;
    if (i->events == QUEUE_MAX) {
        clear(&i->queue);
        i->overflow = true; /* the drain under way finds it */
        i->events = 0;
    }
    if (!i->overflow) {
        struct item it = {op, object_ref(o)};
        vec_push(&i->queue, it);
        i->events++;
    }
    pthread_mutex_unlock(&i->lock);
    announce(i, first);
}

/* The list that was held back. It replaces whatever the caller has not seen yet. */
static void send_list(struct client_informer *i) {
    i->listing = false;
    pthread_mutex_lock(&i->lock);
    bool first = i->queue.n == 0 && !i->overflow;
    clear(&i->queue);
    i->overflow = false;
    i->events = 0;
    vec_push(&i->queue, ((struct item){OP_LIST, NULL}));
    for (size_t j = 0; j < i->listed.n; j++)
        vec_push(&i->queue, ((struct item){OP_ITEM, i->listed.items[j]})); /* the reference goes along */
    vec_push(&i->queue, ((struct item){OP_LISTED, NULL}));
    pthread_mutex_unlock(&i->lock);
    vec_fini(&i->listed);
    announce(i, first);
}

static bool matches(const struct client_informer *i, struct object *o) {
    if (!i->fields && !i->labels)
        return true;
    const struct json *v = object_json(o);
    return (!i->fields || field_selector_matches(i->fields, i->r, v)) &&
           (!i->labels || label_selector_matches(i->labels, json_at(v, "metadata.labels")));
}

static void on_event(void *arg, const struct event *e) {
    struct client_informer *i = arg;
    if (i->listing)
        send_list(i); /* an event behind it is durable, so it is */
    if (e->type != EVENT_DELETED && matches(i, e->object))
        send_event(i, OP_SET, e->object);
    else if (e->old && matches(i, e->old))
        send_event(i, OP_GONE, e->object);
}

static bool list_one(void *arg, struct object *o) {
    struct client_informer *i = arg;
    if (matches(i, o))
        vec_push(&i->listed, object_ref(o));
    return true;
}

static void drop_listed(struct client_informer *i) {
    for (size_t j = 0; j < i->listed.n; j++)
        object_unref(i->listed.items[j]);
    vec_fini(&i->listed);
    i->listing = false;
}

struct waiting {
    struct client_informer *i;
    uint32_t list;
};

/* A caller acts on what it is told, so it is told nothing that a crash could take back. */
static void list_durable(void *arg, int code) {
    struct waiting *w = arg;
    struct client_informer *i = w->i;
    bool current = i->listing && i->lists == w->list && !i->ended;
    free(w);
    if (current && !code) {
        send_list(i);
    } else if (current) {
        timer_set(&i->again, RELIST_MS, RELIST_MS);
    }
    let_go(i);
}

static void list(struct client_informer *i) {
    struct store *s = api_store(i->client->api);
    store_watch_stop(TAKE_PTR(i->watch));
    drop_listed(i);
    int64_t revision = store_revision(s);
    store_each(s, i->kind, STR_NULL, STR_NULL, STR_NULL, list_one, i);
    int rc = store_watch(s, i->kind, revision, on_event, i, &i->watch);
    REQUIRE(rc == 0); /* from now */
    i->listing = true;
    struct waiting *w = XNEW(struct waiting);
    *w = (struct waiting){hold(i), ++i->lists};
    store_when_durable(s, revision, list_durable, w);
}

static void on_again(void *arg) {
    list(arg);
}

static void list_again(void *arg) {
    struct client_informer *i = arg;
    if (!i->ended && i->kind)
        list(i);
    let_go(i);
}

static int prepare(struct client_informer *i, struct error *err) {
    const struct schema *schema = api_schema(i->client->api);
    i->r = schema_find_key(schema, i->resource);
    if (!i->r)
        return error_set(err, -ENOENT, "there is no such resource");
    if (i->field_text && !(i->fields = field_selector_parse(i->arena, i->r, str_c(i->field_text), err)))
        return -EINVAL;
    if (i->label_text && !(i->labels = label_selector_parse(i->arena, str_c(i->label_text), err)))
        return -EINVAL;
    return 0;
}

static void start(void *arg) {
    struct client_informer *i = arg;
    struct error err = {0};
    timer_init(&i->again, api_loop(i->client->api), on_again, i);
    if (prepare(i, &err)) {
        log_error("client", "no informer for %s (%s, %s): %s", i->resource, i->field_text ? i->field_text : "",
                  i->label_text ? i->label_text : "", err.msg);
        return;
    }
    i->kind = store_kind(api_store(i->client->api), i->r->key);
    list(i);
}

static void end(void *arg) {
    struct client_informer *i = arg;
    i->ended = true;
    store_watch_stop(TAKE_PTR(i->watch));
    timer_stop(&i->again);
    drop_listed(i);
    let_go(i);
}

/* --- life --------------------------------------------------------------------------------------------------------- */

struct client_informer *client_informer(struct client *c, const struct informer_options *o) {
    struct client_informer *i = XNEW(struct client_informer);
    ref_init(&i->ref);
    hold(i); /* the core's half */
    pthread_mutex_init(&i->lock, NULL);
    i->client = client_ref(c);
    i->arena = arena_new(512, 0);
    i->resource = arena_strdup(i->arena, o->resource);
    i->field_text = o->field_selector && o->field_selector[0] ? arena_strdup(i->arena, o->field_selector) : NULL;
    i->label_text = o->label_selector && o->label_selector[0] ? arena_strdup(i->arena, o->label_selector) : NULL;
    i->loop = o->loop;
    i->fn = o->fn;
    i->arg = o->arg;
    loop_post(api_loop(c->api), start, i);
    return i;
}

void client_informer_stop(struct client_informer *i) {
    if (!i || i->stopped)
        return;
    i->stopped = true;
    struct map_entry *e;
    for (size_t at = 0; (e = map_next(&i->cache, &at));) {
        struct cached *c = e->value;
        object_unref(c->o);
        free(c);
    }
    map_fini(&i->cache);
    loop_post(api_loop(i->client->api), end, i);
    let_go(i);
}
