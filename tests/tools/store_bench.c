/*
 * How fast the store is, and how large:  store_bench DIR [SECONDS]
 * One line a figure: name, value, unit.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "store/store.h"

#define BODY_BYTES 1000
#define MANY 100000

static struct store *store;
static struct store_kind *kind;
static struct loop *loop;
static int64_t created, durable_n, end_ns;
static double seconds = 3;

static void report(const char *name, double value, const char *unit) {
    printf("%-28s %12.1f %s\n", name, value, unit);
    fflush(stdout);
}

static struct object *create(enum store_durability d) {
    char name[32];
    size_t n = (size_t)snprintf(name, sizeof(name), "pod-%lld", (long long)created++);
    char *json = xmalloc(BODY_BYTES + 200);
    int head = snprintf(
        json, 200,
        "{\"metadata\":{\"name\":\"%s\",\"namespace\":\"default\",\"uid\":\"%036lld\",\"resourceVersion\":\"%lld\"},\"p\":\"",
        name, (long long)created, (long long)store_revision_next(store));
    memset(json + head, 'x', BODY_BYTES - (size_t)head);
    memcpy(json + BODY_BYTES - 2, "\"}", 2);
    return store_put(store, kind, STR("default"), str_n(name, n), json, BODY_BYTES, NULL, NULL, d);
}

static void client(void *arg, int code) {
    if (code) {
        fprintf(stderr, "commit: %s\n", strerror(-code));
        exit(1);
    }
    durable_n += arg != NULL;
    if (time_mono_ns() >= end_ns) {
        loop_stop(loop);
        return;
    }
    struct object *o = create(STORE_DURABLE);
    store_when_durable(store, o->revision, client, &store);
    object_unref(o);
}

static void start(const char *dir) {
    struct error err = {0};
    struct store_options o = {.loop = loop};
    if ((dir && store_log_sqlite_open(dir, &o.ops, &o.log, &err)) || store_open(&o, &store, &err)) {
        fprintf(stderr, "%s\n", err.msg);
        exit(1);
    }
    kind = store_kind(store, STR("pods"));
}

static void clear(const char *dir) {
    static const char *const files[] = {"state.db", "state.db-wal", "lock"};
    for (size_t i = 0; i < ARRAY_LEN(files); i++) {
        char path[4096];
        snprintf(path, sizeof(path), "%s/%s", dir, files[i]);
        unlink(path);
    }
}

static void creates(const char *dir, int clients, const char *name) {
    struct store_stats st;
    loop = loop_new("core");
    clear(dir);
    start(dir);
    durable_n = 0;
    int64_t t0 = time_mono_ns();
    end_ns = t0 + (int64_t)(seconds * 1e9);
    for (int i = 0; i < clients; i++)
        client(NULL, 0);
    loop_run(loop);
    double took = (double)(time_mono_ns() - t0) / 1e9;
    store_stats(store, &st);
    report(name, (double)durable_n / took, "creates/s");
    report("  writes in a commit", (double)st.committed_writes / (double)st.commits, "");
    t0 = time_mono_ns();
    store_close(store);
    report("  close", (double)(time_mono_ns() - t0) / 1e6, "ms");
    loop_free(loop);
    loop = loop_new("core");
    t0 = time_mono_ns();
    start(dir);
    double ms = (double)(time_mono_ns() - t0) / 1e6;
    store_stats(store, &st);
    report("  open", ms, "ms");
    report("  of", (double)st.objects, "objects");
    store_close(store);
    loop_free(loop);
    clear(dir);
}

/* The first start on an empty directory. */
static void first_open(const char *dir) {
    clear(dir);
    loop = loop_new("core");
    int64_t t0 = time_mono_ns();
    start(dir);
    report("first open", (double)(time_mono_ns() - t0) / 1e6, "ms");
    store_close(store);
    loop_free(loop);
}

static long rss_kib(void) {
    FILE *f = fopen("/proc/self/smaps_rollup", "re");
    char line[256];
    long kib = 0;
    while (f && fgets(line, sizeof(line), f)) {
        if (sscanf(line, "Rss: %ld", &kib) == 1)
            break;
    }
    if (f)
        fclose(f);
    return kib;
}

static bool count(void *arg, struct object *o) {
    *(size_t *)arg += o->blob.bytes.n;
    return true;
}

static void memory_and_lists(void) {
    loop = loop_new("core");
    start(NULL);
    long before = rss_kib();
    int64_t t0 = time_mono_ns();
    for (int i = 0; i < MANY; i++) {
        object_unref(create(STORE_DURABLE));
        if (i % 64 == 0)
            uv_run(loop_uv(loop), UV_RUN_NOWAIT);
    }
    uv_run(loop_uv(loop), UV_RUN_NOWAIT);
    report("writes to memory alone", MANY / ((double)(time_mono_ns() - t0) / 1e9), "creates/s");
    report("memory beyond the JSON", (double)(rss_kib() - before) * 1024 / MANY - BODY_BYTES, "bytes/object");
    size_t bytes = 0;
    t0 = time_mono_ns();
    for (int i = 0; i < 10; i++)
        store_each(store, kind, STR("default"), STR_NULL, STR_NULL, count, &bytes);
    report("list of 100000", (double)(time_mono_ns() - t0) / 1e7, "ms");
    t0 = time_mono_ns();
    for (int i = 0; i < MANY; i++) {
        char name[32];
        size_t n = (size_t)snprintf(name, sizeof(name), "pod-%lld", (long long)(created - MANY + (i * 7919LL) % MANY));
        if (!store_peek(store, kind, STR("default"), str_n(name, n)))
            abort();
    }
    report("get", (double)(time_mono_ns() - t0) / MANY, "ns");
    store_close(store);
    loop_free(loop);
}

int main(int argc, char **argv) {
    if (argc < 2) {
        fprintf(stderr, "usage: store_bench DIR [SECONDS]\n");
        return 2;
    }
    if (argc > 2)
        seconds = strtod(argv[2], NULL);
    memory_and_lists(); /* first, while the process is small */
    first_open(argv[1]);
    creates(argv[1], 1, "durable, 1 client");
    creates(argv[1], 64, "durable, 64 clients");
    return 0;
}
