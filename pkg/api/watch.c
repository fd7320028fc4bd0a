/*
 * Watches: events of one kind as frames, one JSON object a line. A frame of an unchanged stored object is made once and
 * shared by all watchers. A watcher that reads too slowly is cut: it comes back with the version it has seen.
 * Source: Kubernetes' watch semantics (resourceVersion, bookmarks, WatchList).
 */
#include "api/api_priv.h"

#define BOOKMARK_MS 60000
#define BOOKMARK_SLACK_MS 15000
#define TIMEOUT_MIN_S 1800 /* without timeoutSeconds: between this and twice it */
#define FRAMES 64          /* shared frames remembered; a power of two */
#define FRAME_BYTES KiB(32)
#define INITIAL_CHUNK KiB(128)

struct shared_frame {
    struct object *object;
    enum event_type type;
    struct blob *blob;
};

struct watch_hub {
    struct list watchers;
    size_t n;
    uint64_t cut;
    struct shared_frame frames[FRAMES];
};

struct watcher {
    struct list link;
    struct api_request *q;
    struct selectors s;
    struct str ns, name; /* p == NULL: any */
    struct store_watch *source;
    struct timer timeout, bookmark;
    int64_t from, last; /* revisions: where the source starts; of the last frame */
    size_t backlog_max;
    bool initial, end_mark, bookmarks, columns_sent;
};

static const char *const event_names[] = {"ADDED", "MODIFIED", "DELETED"};

struct watch_hub *watch_hub_new(struct api *api) {
    struct watch_hub *h = XNEW(struct watch_hub);
    list_init(&h->watchers);
    return h;
}

static void frame_drop(struct shared_frame *f) {
    object_unref(f->object);
    blob_unref(f->blob);
    *f = (struct shared_frame){0};
}

static void watcher_end(struct watcher *w) {
    struct api_request *q = w->q;
    store_watch_stop(w->source);
    timer_stop(&w->timeout);
    timer_stop(&w->bookmark);
    list_remove(&w->link);
    q->api->watches->n--;
    q->watcher = NULL;
    q->ops->stream_end(q);
}

void watch_hub_free(struct watch_hub *h) {
    if (!h)
        return;
    LIST_FOREACH (it, &h->watchers)
        watcher_end(LIST_ITEM(it, struct watcher, link));
    for (size_t i = 0; i < FRAMES; i++)
        frame_drop(&h->frames[i]);
    free(h);
}

size_t watch_count(const struct watch_hub *h) {
    return h->n;
}

uint64_t watch_cut_count(const struct watch_hub *h) {
    return h->cut;
}

void watch_client_gone(struct api_request *q) {
    if (q->watcher)
        watcher_end(q->watcher);
}

/* --- frames ------------------------------------------------------------------------------------------------------ */

static struct blob *take_buf(struct buf *b) {
    size_t n = 0;
    if (b->failed) {
        buf_fini(b);
        return NULL;
    }
    char *p = buf_steal(b, &n);
    return blob_take(p, n);
}

static void put_event(struct buf *b, enum event_type type) {
    buf_puts(b, "{\"type\":\"");
    buf_puts(b, event_names[type]);
    buf_puts(b, "\",\"object\":");
}

static struct blob *plain_frame(struct watch_hub *h, enum event_type type, struct object *o) {
    struct shared_frame *f = &h->frames[((uintptr_t)o / 64 + type) & (FRAMES - 1)];
    if (f->object == o && f->type == type)
        return blob_ref(f->blob);
    struct buf b = BUF_INIT;
    buf_reserve(&b, o->blob.bytes.n + 40);
    put_event(&b, type);
    buf_put_str(&b, o->blob.bytes);
    buf_puts(&b, "}\n");
    struct blob *blob = take_buf(&b);
    if (blob && blob->bytes.n <= FRAME_BYTES) {
        frame_drop(f);
        *f = (struct shared_frame){object_ref(o), type, blob_ref(blob)};
    }
    return blob;
}

/* The other representations belong to one watcher. */
static int put_form(struct watcher *w, struct buf *b, enum event_type type, struct object *o) {
    struct api_request *q = w->q;
    cleanup_arena struct arena *a = arena_new(0, 0);
    struct error err = {0};
    bool table = q->accept.form == FORM_TABLE;
    put_event(b, type);
    if (table) {
        buf_puts(b, "{\"kind\":\"Table\",\"apiVersion\":\"meta.k8s.io/v1\",\"metadata\":{\"resourceVersion\":");
        buf_printf(b, "\"%lld\"},\"columnDefinitions\":", (long long)o->revision);
        if (w->columns_sent)
            buf_puts(b, "null");
        else
            table_columns_put(b, a, q->r);
        buf_puts(b, ",\"rows\":[");
        w->columns_sent = true;
    }
    int rc = form_object(b, a, q->r, q->accept.form, request_param(q, "includeObject"), o, &err);
    buf_puts(b, table ? "]}}\n" : "}\n");
    return rc;
}

static bool is_plain(const struct api_request *q) {
    return q->r == q->r->storage && q->accept.form == FORM_OBJECT;
}

static struct blob *frame(struct watcher *w, enum event_type type, struct object *o) {
    if (is_plain(w->q))
        return plain_frame(w->q->api->watches, type, o);
    struct buf b = BUF_INIT;
    if (put_form(w, &b, type, o) < 0) {
        buf_fini(&b);
        return NULL;
    }
    return take_buf(&b);
}

/* Sends (and takes) a frame; false: the watcher was cut and is gone. */
static bool watcher_send(struct watcher *w, struct blob *b) {
    struct api_request *q = w->q;
    if (!b || q->ops->stream_backlog(q) > w->backlog_max) {
        blob_unref(b);
        q->api->watches->cut++;
        watcher_end(w);
        return false;
    }
    q->ops->stream_chunk(q, b);
    return true;
}

static bool send_bookmark(struct watcher *w, int64_t revision, bool end_mark) {
    struct api_request *q = w->q;
    const struct schema_resource *r = q->r;
    struct buf b = BUF_INIT;
    bool table = q->accept.form == FORM_TABLE, partial = q->accept.form == FORM_PARTIAL;
    buf_puts(&b, "{\"type\":\"BOOKMARK\",\"object\":{");
    if (table || partial)
        buf_printf(&b, "\"kind\":\"%s\",\"apiVersion\":\"meta.k8s.io/v1\"", table ? "Table" : "PartialObjectMetadata");
    else
        buf_printf(&b, "\"kind\":\"%.*s\",\"apiVersion\":\"%.*s%s%.*s\"", STR_ARG(r->kind), STR_ARG(r->group),
                   r->group.n ? "/" : "", STR_ARG(r->version));
    buf_printf(&b, ",\"metadata\":{\"resourceVersion\":\"%lld\"", (long long)revision);
    if (!table)
        buf_puts(&b, ",\"creationTimestamp\":null");
    if (end_mark && !table)
        buf_puts(&b, ",\"annotations\":{\"k8s.io/initial-events-end\":\"true\"}");
    buf_puts(&b, table ? "},\"columnDefinitions\":null,\"rows\":[]}}\n" : "}}}\n");
    w->last = revision;
    return watcher_send(w, take_buf(&b));
}

/* --- events ------------------------------------------------------------------------------------------------------ */

static bool in_scope(const struct watcher *w, const struct object *o) {
    return (!w->ns.p || str_eq(w->ns, o->ns)) && (!w->name.p || str_eq(w->name, o->name));
}

static bool selected(const struct watcher *w, struct object *o) {
    return selectors_empty(&w->s) || selectors_match(&w->s, w->q->r, object_json(o));
}

/* What the client had, with the version of the change that took it out of its sight. */
static struct object *departed(struct object *old, int64_t revision) {
    cleanup_arena struct arena *a = arena_new(0, 0);
    struct json *v = json_copy(a, object_json(old));
    struct buf b = BUF_INIT;
    size_t n = 0;
    json_put(a, v, "metadata.resourceVersion", json_strf(a, "%lld", (long long)revision));
    json_write(&b, v);
    char *p = buf_steal(&b, &n);
    return object_new(old->kind, old->ns, old->name, revision, p, n, NULL, NULL);
}

static void on_event(void *arg, const struct event *e) {
    struct watcher *w = arg;
    enum event_type type = e->type;
    struct object *o = e->object;
    if (!in_scope(w, o))
        return;
    w->last = o->revision;
    if (selectors_empty(&w->s)) {
        watcher_send(w, frame(w, type, o));
        return;
    }
    bool before = e->old && selected(w, e->old), now = type != EVENT_DELETED && selected(w, o);
    if (type == EVENT_DELETED)
        before = before || selected(w, o);
    if (!before && !now)
        return;
    if (before && now) {
        watcher_send(w, frame(w, EVENT_MODIFIED, o));
    } else if (now) {
        watcher_send(w, frame(w, EVENT_ADDED, o));
    } else if (type == EVENT_DELETED) {
        watcher_send(w, frame(w, EVENT_DELETED, o));
    } else {
        struct object *gone = departed(e->old, o->revision);
        watcher_send(w, frame(w, EVENT_DELETED, gone));
        object_unref(gone);
    }
}

/* --- start ------------------------------------------------------------------------------------------------------- */

static void on_timeout(void *arg) {
    watcher_end(arg);
}

static void on_bookmark(void *arg) {
    struct watcher *w = arg;
    int64_t now = store_durable_revision(w->q->api->store);
    if (now > w->last && !send_bookmark(w, now, false))
        return;
    timer_set(&w->bookmark, BOOKMARK_MS, BOOKMARK_SLACK_MS);
}

struct initial {
    struct watcher *w;
    struct buf b;
    size_t sent;
    bool failed;
};

static bool initial_one(void *arg, struct object *o) {
    struct initial *i = arg;
    struct watcher *w = i->w;
    if (!in_scope(w, o) || !selected(w, o))
        return true;
    if (is_plain(w->q)) {
        put_event(&i->b, EVENT_ADDED);
        buf_put_str(&i->b, o->blob.bytes);
        buf_puts(&i->b, "}\n");
    } else if (put_form(w, &i->b, EVENT_ADDED, o) < 0) {
        i->failed = true;
        return false;
    }
    if (i->b.n >= INITIAL_CHUNK) {
        i->sent += i->b.n;
        w->q->ops->stream_chunk(w->q, take_buf(&i->b));
        i->b = (struct buf)BUF_INIT;
    }
    return true;
}

/* The present state as ADDED events. Its revision is durable or waited for: the source starts after it. */
static bool send_initial(struct watcher *w) {
    struct api_request *q = w->q;
    struct initial i = {.w = w, .b = BUF_INIT};
    store_each(q->api->store, api_resource(q->api, q->r)->kind, w->ns, STR_NULL, STR_NULL, initial_one, &i);
    if (i.failed || i.b.failed) {
        buf_fini(&i.b);
        watcher_end(w);
        return false;
    }
    i.sent += i.b.n;
    if (i.b.n)
        q->ops->stream_chunk(q, take_buf(&i.b));
    buf_fini(&i.b);
    w->backlog_max += i.sent;
    return true;
}

static void reply_expired(struct api_request *q, int64_t from) {
    reply_error(q, 410, "Expired", "too old resource version: %lld (%lld)", (long long)from,
                (long long)store_oldest_revision(q->api->store));
}

static void watch_start(struct api_request *q) {
    struct watcher *w = q->watcher;
    struct store *s = q->api->store;
    q->watcher = NULL;
    if (w->initial) {
        /* Writes since the request came in are in the state too; wait for what is about to be told. */
        w->from = store_revision(s);
        if (w->from > store_durable_revision(s)) {
            q->watcher = w;
            request_when_durable(q, w->from, watch_start);
            return;
        }
    }
    int rc = store_watch(s, api_resource(q->api, q->r)->kind, w->from, on_event, w, &w->source);
    if (rc < 0) {
        reply_expired(q, w->from);
        return;
    }
    q->watcher = w;
    list_push_back(&q->api->watches->watchers, &w->link);
    q->api->watches->n++;
    w->last = w->from;
    reply_stream_begin(q, "application/json;stream=watch");
    if (w->initial && !send_initial(w))
        return;
    if (w->end_mark && !send_bookmark(w, w->from, true))
        return;
    if (w->bookmarks)
        timer_set(&w->bookmark, BOOKMARK_MS, BOOKMARK_SLACK_MS);
    int64_t timeout_s = 0;
    str_to_i64(request_param(q, "timeoutSeconds"), &timeout_s);
    if (timeout_s <= 0 || timeout_s > 86400)
        timeout_s = TIMEOUT_MIN_S + (int64_t)rand_below(TIMEOUT_MIN_S);
    timer_set(&w->timeout, timeout_s * 1000, 200);
}

void rest_watch(struct api_request *q) {
    struct str rv = request_param(q, "resourceVersion"), initial = request_param(q, "sendInitialEvents");
    struct watcher *w = ARENA_NEW(q->arena, struct watcher);
    if (!list_options_check(q, true) || !request_version_reached(q, rv) || !selectors_parse(q, &w->s))
        return;
    if (!api_resource(q->api, q->r)->kind) {
        status_method(&q->status, q->arena, q->r, "watch");
        reply_status(q, &q->status);
        return;
    }
    w->q = q;
    w->ns = q->r->namespaced && q->t.ns.n ? q->t.ns : STR_NULL;
    w->name = q->t.name.n ? q->t.name : STR_NULL;
    w->bookmarks = request_param_bool(q, "allowWatchBookmarks");
    w->backlog_max = API_WATCH_BACKLOG;
    w->end_mark = request_param_bool(q, "sendInitialEvents");
    w->initial = w->end_mark || (initial.n == 0 && (rv.n == 0 || str_eq_c(rv, "0")));
    if (w->end_mark && !w->bookmarks) {
        reply_error(q, 422, "Invalid",
                    "ListOptions.meta.k8s.io \"\" is invalid: sendInitialEvents: Forbidden: "
                    "sendInitialEvents requires allowWatchBookmarks");
        return;
    }
    if (rv.n == 0 || !str_to_i64(rv, &w->from) || w->from == 0)
        w->from = store_revision(q->api->store);
    list_init(&w->link);
    timer_init(&w->timeout, q->api->loop, on_timeout, w);
    timer_init(&w->bookmark, q->api->loop, on_bookmark, w);
    q->watcher = w;
    request_when_durable(q, w->from, watch_start);
}
