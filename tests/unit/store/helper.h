/* What the store's tests share: a store on a loop that the test turns by hand, and a log that fails and waits on command. */
#pragma once

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "store/store.h"

#define SPIN(l, cond)                        \
    do {                                     \
        while (!(cond))                      \
            uv_run(loop_uv(l), UV_RUN_ONCE); \
    } while (0)

static inline void turn(struct loop *l) {
    for (int i = 0; i < 5; i++)
        uv_run(loop_uv(l), UV_RUN_NOWAIT);
}

/* An object as the API would make it. */
static inline char *body(int64_t revision, struct str ns, struct str name, const char *value) {
    return xasprintf(
        "{\"metadata\":{\"name\":\"%.*s\",\"namespace\":\"%.*s\",\"uid\":\"u-%.*s\",\"resourceVersion\":\"%lld\"},"
        "\"value\":\"%s\"}",
        STR_ARG(name), STR_ARG(ns), STR_ARG(name), (long long)revision, value);
}
static inline struct object *put_d(struct store *s, struct store_kind *k, const char *ns, const char *name,
                                   const char *value, enum store_durability d) {
    char *b = body(store_revision_next(s), str_c(ns), str_c(name), value);
    return store_put(s, k, str_c(ns), str_c(name), b, strlen(b), NULL, NULL, d);
}
static inline int64_t put(struct store *s, struct store_kind *k, const char *ns, const char *name, const char *value) {
    struct object *o = put_d(s, k, ns, name, value, STORE_DURABLE);
    int64_t rev = o->revision;
    object_unref(o);
    return rev;
}
static inline int64_t put_volatile(struct store *s, struct store_kind *k, const char *ns, const char *name,
                                   const char *value) {
    struct object *o = put_d(s, k, ns, name, value, STORE_VOLATILE);
    int64_t rev = o->revision;
    object_unref(o);
    return rev;
}
static inline int64_t del(struct store *s, struct store_kind *k, const char *ns, const char *name) {
    char *b = body(store_revision_next(s), str_c(ns), str_c(name), "last");
    store_delete(s, k, str_c(ns), str_c(name), b, strlen(b), STORE_DURABLE);
    return store_revision(s);
}
static inline struct str value_of(struct object *o) {
    return json_str_at(object_json(o), "value");
}

/* --- a log in memory --- */
struct fake_row {
    char *kind, *ns, *name, *json;
    int64_t revision, id;
};
struct fake_log {
    pthread_mutex_t lock;
    pthread_cond_t wake;
    VEC(struct fake_row) rows;
    int64_t reserved;
    size_t calls, entries;    /* of commit */
    bool hold, holding;       /* commits wait while hold is set; one does */
    size_t fail_from, fail_n; /* calls [from, from + n), counted from 1, fail with fail_code */
    int fail_code;
    bool closed;
};
static inline void fake_init(struct fake_log *f) {
    *f = (struct fake_log){0};
    pthread_mutex_init(&f->lock, NULL);
    pthread_cond_init(&f->wake, NULL);
}
static inline void fake_row_free(struct fake_row *r) {
    free(r->kind);
    free(r->ns);
    free(r->name);
    free(r->json);
}
static inline void fake_fini(struct fake_log *f) {
    for (size_t i = 0; i < f->rows.n; i++)
        fake_row_free(&f->rows.items[i]);
    vec_fini(&f->rows);
    pthread_mutex_destroy(&f->lock);
    pthread_cond_destroy(&f->wake);
}
static inline int fake_load(void *log,
                            void (*each)(void *arg, struct str kind, struct str ns, struct str name, struct str json,
                                         int64_t revision, int64_t id),
                            void *arg, int64_t *reserved, struct error *err) {
    struct fake_log *f = log;
    for (size_t i = 0; i < f->rows.n; i++) {
        struct fake_row *r = &f->rows.items[i];
        each(arg, str_c(r->kind), str_c(r->ns), str_c(r->name), str_c(r->json), r->revision, r->id);
    }
    *reserved = f->reserved;
    return 0;
}
static inline void fake_apply(struct fake_log *f, const struct store_log_entry *e) {
    for (size_t i = 0; i < f->rows.n; i++) {
        if (f->rows.items[i].id == e->id) {
            fake_row_free(&f->rows.items[i]);
            vec_remove(&f->rows, i);
            break;
        }
    }
    if (!e->object)
        return;
    struct str j = e->object->blob.bytes;
    struct fake_row r = {xstrndup(e->kind.p, e->kind.n),
                         xstrndup(e->ns.p, e->ns.n),
                         xstrndup(e->name.p, e->name.n),
                         xstrndup(j.p, j.n),
                         e->revision,
                         e->id};
    vec_push(&f->rows, r);
}
static inline int fake_commit(void *log, const struct store_log_entry *e, size_t n, int64_t reserve,
                              struct error *err) {
    struct fake_log *f = log;
    pthread_mutex_lock(&f->lock);
    f->calls++;
    bool fail = f->calls >= f->fail_from && f->calls < f->fail_from + f->fail_n;
    f->holding = f->hold;
    pthread_cond_broadcast(&f->wake);
    while (f->hold)
        pthread_cond_wait(&f->wake, &f->lock);
    f->holding = false;
    if (!fail) {
        for (size_t i = 0; i < n; i++)
            fake_apply(f, &e[i]);
        f->entries += n;
        if (reserve)
            f->reserved = reserve;
    }
    pthread_mutex_unlock(&f->lock);
    return fail ? error_set(err, f->fail_code, "as told") : 0;
}
static inline void fake_close(void *log) {
    ((struct fake_log *)log)->closed = true;
}
static const struct store_log_ops fake_ops UNUSED = {fake_load, fake_commit, fake_close};
static inline void fake_hold(struct fake_log *f, bool hold) {
    pthread_mutex_lock(&f->lock);
    f->hold = hold;
    pthread_cond_broadcast(&f->wake);
    pthread_mutex_unlock(&f->lock);
}
static inline void fake_wait_holding(struct fake_log *f) {
    pthread_mutex_lock(&f->lock);
    while (!f->holding)
        pthread_cond_wait(&f->wake, &f->lock);
    pthread_mutex_unlock(&f->lock);
}

/* --- a store under test --- */
struct fixture {
    struct loop *loop;
    struct fake_log log;
    struct store *s;
    struct store_kind *pods, *nodes;
};
static inline struct store *open_on(struct fixture *f, bool with_log, size_t events, size_t bytes) {
    struct store_options o = {.loop = f->loop,
                              .ops = with_log ? &fake_ops : NULL,
                              .log = &f->log,
                              .history_events = events,
                              .history_bytes = bytes};
    struct error err = {0};
    if (store_open(&o, &f->s, &err) != 0)
        fail_msg("%s", err.msg);
    f->pods = store_kind(f->s, STR("pods"));
    f->nodes = store_kind(f->s, STR("nodes"));
    return f->s;
}
static inline struct fixture *fixture_new(bool with_log) {
    struct fixture *f = XNEW(struct fixture);
    f->loop = loop_new("core");
    fake_init(&f->log);
    open_on(f, with_log, 0, 0);
    return f;
}
static inline void fixture_free(struct fixture *f) {
    store_close(f->s);
    loop_free(f->loop);
    fake_fini(&f->log);
    free(f);
}

/* --- a watch that writes down what it sees: "+a ~a -a " --- */
struct seen {
    char text[4096];
    size_t n;
    int64_t last;
    struct store_watch *w;
};
static inline void see(void *arg, const struct event *e) {
    struct seen *s = arg;
    assert_true(e->object->revision > s->last);
    s->last = e->object->revision;
    assert_int_equal(e->old != NULL, e->type != EVENT_ADDED);
    s->n++;
    size_t at = strlen(s->text);
    snprintf(s->text + at, sizeof(s->text) - at, "%c%.*s ", "+~-"[e->type], STR_ARG(e->object->name));
}
