/*
 * Events: recorded about objects, counted up when they repeat, in memory only, gone after an hour or when there are too
 * many. The list keeps all stored Events, whoever wrote them, oldest first.
 */
#include "api/meta.h"

#define EVENTS_MAX 4096
#define EVENT_TTL_S 3600
#define SWEEP_MS 60000
#define SWEEP_SLACK_MS 30000
#define MESSAGE_BYTES 1024

struct kept_event {
    struct list link;
    struct str ns, name; /* malloc'ed with the struct */
    struct str dedup;    /* key in events_ring.same, or empty */
    int64_t seen_s;
};

struct events_ring {
    struct api *api;
    struct list by_age;
    struct map names; /* "ns/name" -> struct kept_event */
    struct map same;  /* what makes two events one -> struct kept_event */
    struct timer sweep;
    size_t n;
    uint64_t serial;
};

static struct str name_key(struct arena *a, struct str ns, struct str name) {
    return str_printf(a, "%.*s/%.*s", STR_ARG(ns), STR_ARG(name));
}

static void forget(struct events_ring *r, struct kept_event *k) {
    cleanup_arena struct arena *a = arena_new(0, 0);
    list_remove(&k->link);
    map_del(&r->names, name_key(a, k->ns, k->name));
    if (k->dedup.n)
        map_del(&r->same, k->dedup);
    r->n--;
    free((char *)k->ns.p);
    free((char *)k->name.p);
    free((char *)k->dedup.p);
    free(k);
}

static void event_remove(struct events_ring *r, struct kept_event *k) {
    cleanup_arena struct arena *a = arena_new(0, 0);
    struct api_call c = {.api = r->api, .arena = a};
    struct str ns = str_dup(a, k->ns), name = str_dup(a, k->name);
    if (api_delete(&c, r->api->events_r, ns, name, NULL, NULL) < 0 && map_get(&r->names, name_key(a, ns, name)) == k)
        forget(r, k);
}

/* Keeps the order by age: an event that is seen again becomes the youngest. */
static void event_seen(struct events_ring *r, struct object *o) {
    cleanup_arena struct arena *a = arena_new(0, 0);
    struct str key = name_key(a, o->ns, o->name);
    struct kept_event *k = map_get(&r->names, key);
    if (!k) {
        k = XNEW(struct kept_event);
        k->ns = str_n(xstrndup(o->ns.p, o->ns.n), o->ns.n);
        k->name = str_n(xstrndup(o->name.p, o->name.n), o->name.n);
        k->dedup = STR_NULL;
        list_init(&k->link);
        map_set(&r->names, key, k);
        r->n++;
    }
    list_remove(&k->link);
    list_push_back(&r->by_age, &k->link);
    k->seen_s = time_mono_ms() / 1000;
    if (!timer_is_set(&r->sweep))
        timer_set(&r->sweep, SWEEP_MS, SWEEP_SLACK_MS);
}

static void on_event_object(void *arg, const struct event *e) {
    struct events_ring *r = arg;
    if (e->type != EVENT_DELETED) {
        event_seen(r, e->object);
        return;
    }
    cleanup_arena struct arena *a = arena_new(0, 0);
    struct kept_event *k = map_get(&r->names, name_key(a, e->object->ns, e->object->name));
    if (k)
        forget(r, k);
}

static void on_sweep(void *arg) {
    struct events_ring *r = arg;
    int64_t limit = time_mono_ms() / 1000 - EVENT_TTL_S;
    while (!list_empty(&r->by_age)) {
        struct kept_event *k = LIST_ITEM(r->by_age.next, struct kept_event, link);
        if (k->seen_s > limit && r->n <= EVENTS_MAX)
            break;
        event_remove(r, k);
    }
    if (!list_empty(&r->by_age))
        timer_set(&r->sweep, SWEEP_MS, SWEEP_SLACK_MS);
}

struct events_ring *events_new(struct api *api) {
    struct events_ring *r = XNEW(struct events_ring);
    r->api = api;
    list_init(&r->by_age);
    timer_init(&r->sweep, api->loop, on_sweep, r);
    store_hook_add(api->store, api_resource(api, api->events_r)->kind, on_event_object, r);
    return r;
}

void events_free(struct events_ring *r) {
    if (!r)
        return;
    timer_stop(&r->sweep);
    while (!list_empty(&r->by_age))
        forget(r, LIST_ITEM(r->by_age.next, struct kept_event, link));
    map_fini(&r->names);
    map_fini(&r->same);
    free(r);
}

/* --- recording --------------------------------------------------------------------------------------------------- */

static struct json *about_ref(struct arena *a, struct object *o) {
    const struct json *v = object_json(o);
    struct json *ref = json_object(a);
    json_set_str(a, ref, "kind", json_str_at(v, "kind"));
    if (o->ns.n)
        json_set_str(a, ref, "namespace", o->ns);
    json_set_str(a, ref, "name", o->name);
    json_set_str(a, ref, "uid", o->uid);
    json_set_str(a, ref, "apiVersion", json_str_at(v, "apiVersion"));
    json_set_str(a, ref, "resourceVersion", json_str_at(v, "metadata.resourceVersion"));
    return ref;
}

/* Counts a stored event up. false: it is gone. */
static bool count_up(struct api *api, struct arena *a, const struct kept_event *k) {
    struct object *o = api_get(api, api->events_r, k->ns, k->name);
    if (!o)
        return false;
    char now[TIME_RFC3339_MAX];
    struct api_call c = {.api = api, .manager = "event-recorder", .arena = a};
    struct json *v = json_copy(a, object_json(o));
    json_set_int(a, v, "count", json_int_at(v, "count", 1) + 1);
    json_set_cstr(a, v, "lastTimestamp", time_now_rfc3339(now));
    int rc = api_update(&c, api->events_r, k->ns, str_dup(a, k->name), STR(""), v, NULL);
    object_unref(o);
    return rc == 0;
}

static struct json *event_json(struct events_ring *r, struct arena *a, struct object *about, struct str ns,
                               const char *component, const char *host, const char *type, const char *reason,
                               struct str message) {
    char now[TIME_RFC3339_MAX];
    struct json *v = json_object(a), *source = json_object(a);
    time_now_rfc3339(now);
    json_set_cstr(a, v, "apiVersion", "v1");
    json_set_cstr(a, v, "kind", "Event");
    struct str base = about->name.n > 200 ? str_n(about->name.p, 200) : about->name;
    json_put(a, v, "metadata.name",
             json_strf(a, "%.*s.%llx", STR_ARG(base),
                       (unsigned long long)(time_now_s() * 1000000 + (int64_t)(r->serial++ % 1000000))));
    json_put(a, v, "metadata.namespace", json_str(a, ns));
    json_set_c(a, v, "involvedObject", about_ref(a, about));
    json_set_cstr(a, v, "reason", reason);
    json_set_str(a, v, "message", message);
    json_set_cstr(a, source, "component", component);
    if (host && *host)
        json_set_cstr(a, source, "host", host);
    json_set_c(a, v, "source", source);
    json_set_cstr(a, v, "firstTimestamp", now);
    json_set_cstr(a, v, "lastTimestamp", now);
    json_set_int(a, v, "count", 1);
    json_set_cstr(a, v, "type", type);
    json_set_c(a, v, "eventTime", json_null(a));
    json_set_cstr(a, v, "reportingComponent", component);
    json_set_cstr(a, v, "reportingInstance", host ? host : "");
    return v;
}

void api_event(struct api *api, struct object *about, const char *component, const char *host, const char *type,
               const char *reason, const char *fmt, ...) {
    struct events_ring *r = api->events;
    cleanup_arena struct arena *a = arena_new(0, 0);
    struct buf text;
    va_list ap;
    buf_init(&text, KiB(64));
    va_start(ap, fmt);
    buf_vprintf(&text, fmt, ap);
    va_end(ap);
    struct str message = str_dup(a, text.n > MESSAGE_BYTES ? str_n(text.p, MESSAGE_BYTES) : buf_str(&text));
    buf_fini(&text);
    struct str ns = about->ns.n ? about->ns : STR("default");
    struct str same =
        str_printf(a, "%.*s|%s|%s|%s|%.*s", STR_ARG(about->uid), component, type, reason, STR_ARG(message));
    const struct kept_event *before = map_get(&r->same, same);
    if (before && count_up(api, a, before))
        return;
    struct api_call c = {.api = api, .manager = "event-recorder", .arena = a};
    struct object *o = NULL;
    struct json *v = event_json(r, a, about, ns, component, host, type, reason, message);
    int rc = api_create(&c, api->events_r, ns, v, &o);
    if (rc < 0) {
        log_debug("api", "event %s about %.*s: %.*s", reason, STR_ARG(about->name), STR_ARG(c.status.message));
        return;
    }
    struct kept_event *k = map_get(&r->names, name_key(a, o->ns, o->name));
    if (k && k->dedup.n == 0) {
        k->dedup = str_n(xstrndup(same.p, same.n), same.n);
        map_set(&r->same, k->dedup, k);
    }
    object_unref(o);
    while (r->n > EVENTS_MAX)
        event_remove(r, LIST_ITEM(r->by_age.next, struct kept_event, link));
}
