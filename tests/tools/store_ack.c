/*
 * Writes to a store and says what was promised; and checks after a crash that every promise was kept.
 *
 *   store_ack write DIR [SYNCHRONOUS]   creates object t<n> and deletes t<n-100>, n = 1, 2, ...; a line "ACK n revision" on
 *                                       standard output once both are durable. SYNCHRONOUS: NORMAL or OFF, to show
 *                                       that the crash test finds what they lose.
 *   store_ack check DIR N REVISION      exits 1, and says why, unless the state holds what ACK N promised.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "store/sqlite/sqlite_log.h"
#include "store/store.h"

#define ALIVE 100
#define OUTSTANDING 8

static struct store *store;
static struct store_kind *kind;
static int64_t written;

struct promise {
    int64_t n, revision;
};

static char *body(int64_t n, size_t *len) {
    static char pad[700];
    memset(pad, 'x', sizeof(pad) - 1);
    char *p = xasprintf("{\"metadata\":{\"name\":\"t%lld\",\"resourceVersion\":\"%lld\"},\"pad\":\"%s\"}", (long long)n,
                        (long long)store_revision_next(store), pad);
    *len = strlen(p);
    return p;
}

static struct str name_of(int64_t n, char out[32]) {
    return str_n(out, (size_t)snprintf(out, 32, "t%lld", (long long)n));
}

static void write_next(void);

static void durable(void *arg, int code) {
    struct promise *p = arg;
    char line[64];
    int n = snprintf(line, sizeof(line), "ACK %lld %lld\n", (long long)p->n, (long long)p->revision);
    free(p);
    if (code) {
        fprintf(stderr, "commit: %s\n", strerror(-code));
        exit(2);
    }
    if (write(STDOUT_FILENO, line, (size_t)n) != n)
        exit(2);
    write_next();
}

static void write_next(void) {
    int64_t n = ++written;
    char name[32];
    size_t len;
    char *json = body(n, &len);
    object_unref(store_put(store, kind, STR("x"), name_of(n, name), json, len, NULL, NULL, STORE_DURABLE));
    if (n > ALIVE) {
        json = body(n - ALIVE, &len);
        store_delete(store, kind, STR("x"), name_of(n - ALIVE, name), json, len, STORE_DURABLE);
    }
    struct promise *p = XNEW(struct promise);
    *p = (struct promise){n, store_revision(store)};
    store_when_durable(store, p->revision, durable, p);
}

static bool newest(void *arg, struct object *o) {
    int64_t n = 0;
    str_to_i64(str_skip(o->name, 1), &n);
    written = MAX(written, n);
    return true;
}

static int check(int64_t acked, int64_t revision) {
    int bad = 0;
    for (int64_t n = 1; n <= acked; n++) {
        char name[32];
        bool there = store_peek(store, kind, STR("x"), name_of(n, name)) != NULL;
        bool must = n > written - ALIVE, must_not = n <= acked - ALIVE;
        bad += (must && !there) || (must_not && there);
    }
    if (written < acked)
        bad += (int)(acked - written);
    if (store_revision(store) < revision)
        bad++;
    printf("acked=%lld newest=%lld revision=%lld promised=%lld broken=%d\n", (long long)acked, (long long)written,
           (long long)store_revision(store), (long long)revision, bad);
    return bad ? 1 : 0;
}

int main(int argc, char **argv) {
    bool writing = argc >= 3 && strcmp(argv[1], "write") == 0;
    int64_t acked = 0, revision = 0;
    if (!writing && (argc != 5 || strcmp(argv[1], "check") != 0 || !str_to_i64(str_c(argv[3]), &acked) ||
                     !str_to_i64(str_c(argv[4]), &revision))) {
        fprintf(stderr, "usage: store_ack write DIR [SYNCHRONOUS] | check DIR N REVISION\n");
        return 2;
    }
    if (writing && argc > 3)
        store_log_sqlite_synchronous = argv[3];
    struct error err = {0};
    struct store_options o = {.loop = loop_new("core")};
    if (store_log_sqlite_open(argv[2], &o.ops, &o.log, &err) || store_open(&o, &store, &err)) {
        fprintf(stderr, "open: %s\n", err.msg);
        return 1;
    }
    kind = store_kind(store, STR("configmaps"));
    store_each(store, kind, STR_NULL, STR_NULL, STR_NULL, newest, NULL);
    if (!writing) {
        int rc = check(acked, revision);
        store_close(store);
        return rc;
    }
    for (int i = 0; i < OUTSTANDING; i++)
        write_next();
    loop_run(o.loop);
    return 0;
}
