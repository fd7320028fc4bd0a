/* /healthz, /livez, /readyz with their checks, and /metrics. Health is open to all and tells names only. */
#include "api/api_priv.h"

static void health_lines(struct api_request *q, struct buf *b, const char *path, bool *failed) {
    struct api *api = q->api;
    bool ready = strcmp(path, "readyz") == 0;
    buf_puts(b, "[+]ping ok\n");
    pthread_mutex_lock(&api->checks_lock);
    for (size_t i = 0; i < api->checks.n && ready; i++) {
        const struct api_check *c = &api->checks.items[i];
        struct str excluded = request_param(q, "exclude");
        if (str_eq_c(excluded, c->name)) {
            buf_printf(b, "[+]%s excluded: ok\n", c->name);
            continue;
        }
        buf_printf(b, c->ready ? "[+]%s ok\n" : "[-]%s failed: reason withheld\n", c->name);
        *failed = *failed || !c->ready;
    }
    pthread_mutex_unlock(&api->checks_lock);
}

static void reply_text_plain(struct api_request *q, int code, struct buf *b) {
    size_t n = 0;
    char *p = buf_steal(b, &n);
    reply_blob(q, code, "text/plain; charset=utf-8", blob_take(p, n));
}

/* /readyz/NAME: one check alone. */
static bool single_check(struct api_request *q, struct str name, struct buf *b) {
    struct api *api = q->api;
    bool found = str_eq_c(name, "ping"), ready = found;
    pthread_mutex_lock(&api->checks_lock);
    for (size_t i = 0; i < api->checks.n; i++)
        if (str_eq_c(name, api->checks.items[i].name)) {
            found = true;
            ready = api->checks.items[i].ready;
        }
    pthread_mutex_unlock(&api->checks_lock);
    if (!found)
        return false;
    buf_puts(b, ready ? "ok" : "internal server error: check failed");
    reply_text_plain(q, ready ? 200 : 500, b);
    return true;
}

void health_run(struct api_request *q) {
    struct str path = str_skip(q->path, 1), name = STR("");
    struct buf b = BUF_INIT;
    bool failed = false;
    str_cut(path, '/', &path, &name);
    if (name.n) {
        if (!single_check(q, name, &b))
            reply_error(q, 404, "NotFound", "the server could not find the requested resource");
        buf_fini(&b);
        return;
    }
    cleanup_free char *which = xstrndup(path.p, path.n);
    health_lines(q, &b, which, &failed);
    if (failed) {
        buf_printf(&b, "%s check failed\n", which);
    } else if (request_param(q, "verbose").p) {
        buf_printf(&b, "%s check passed\n", which);
    } else {
        buf_reset(&b);
        buf_puts(&b, "ok");
    }
    reply_text_plain(q, failed ? 500 : 200, &b);
    buf_fini(&b);
}

void metrics_run(struct api_request *q) {
    struct buf b = BUF_INIT;
    struct store_stats st;
    struct api *api = q->api;
    store_stats(api->store, &st);
    buf_puts(&b, "# HELP apiserver_storage_objects Number of stored objects by resource.\n"
                 "# TYPE apiserver_storage_objects gauge\n");
    for (size_t i = 0; i < api->resources_n; i++) {
        const struct api_resource *r = &api->resources[i];
        if (r->kind && r->r->served)
            buf_printf(&b, "apiserver_storage_objects{resource=\"%.*s\"} %zu\n", STR_ARG(r->r->key),
                       store_count(api->store, r->kind));
    }
    buf_printf(&b,
               "# TYPE apiserver_registered_watchers gauge\napiserver_registered_watchers %zu\n"
               "# TYPE apiserver_terminated_watchers_total counter\napiserver_terminated_watchers_total %llu\n"
               "# TYPE dory_store_bytes gauge\ndory_store_bytes %llu\n"
               "# TYPE dory_store_commits_total counter\ndory_store_commits_total %llu\n"
               "# TYPE dory_store_committed_writes_total counter\ndory_store_committed_writes_total %llu\n"
               "# TYPE dory_store_volatile_writes_total counter\ndory_store_volatile_writes_total %llu\n"
               "# TYPE dory_store_revision gauge\ndory_store_revision %lld\n",
               watch_count(api->watches), (unsigned long long)watch_cut_count(api->watches),
               (unsigned long long)st.bytes, (unsigned long long)st.commits, (unsigned long long)st.committed_writes,
               (unsigned long long)st.volatile_writes, (long long)store_revision(api->store));
    reply_text_plain(q, 200, &b);
    buf_fini(&b);
}
