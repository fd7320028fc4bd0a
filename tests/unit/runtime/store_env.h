/* An image store on a loop of its own, driven from the test's thread. */
#pragma once

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "net/net.h"
#include "runtime/image.h"

struct store_env {
    char root[64];
    struct loop *loop;
    struct image_registries *registries;
    struct image_store_options o;
    struct image_store *store;
    pthread_mutex_t lock;
    pthread_cond_t cond;
};

struct env_call {
    struct store_env *e;
    void (*fn)(struct store_env *e, void *arg);
    void *arg;
    bool done;
};

static inline void env_signal(struct store_env *e, bool *flag) {
    pthread_mutex_lock(&e->lock);
    *flag = true;
    pthread_cond_broadcast(&e->cond);
    pthread_mutex_unlock(&e->lock);
}

static inline void env_wait(struct store_env *e, const bool *flag) {
    pthread_mutex_lock(&e->lock);
    while (!*flag)
        pthread_cond_wait(&e->cond, &e->lock);
    pthread_mutex_unlock(&e->lock);
}

static inline void env_call_run(void *arg) {
    struct env_call *c = arg;
    c->fn(c->e, c->arg);
    env_signal(c->e, &c->done);
}

/* Runs fn(e, arg) on the loop and waits for its return. */
static inline void env_call(struct store_env *e, void (*fn)(struct store_env *e, void *arg), void *arg) {
    struct env_call c = {e, fn, arg, false};
    loop_post(e->loop, env_call_run, &c);
    env_wait(e, &c.done);
}

struct env_open {
    struct error err;
    int code;
};

static inline void env_open_fn(struct store_env *e, void *arg) {
    struct env_open *o = arg;
    e->o.root = e->root;
    e->o.loop = e->loop;
    e->o.registries = e->registries;
    if (!e->o.platform_arch) {
        e->o.platform_os = "linux";
        e->o.platform_arch = "amd64";
        e->o.platform_variant = "";
    }
    o->code = image_store_open(&e->o, &e->store, &o->err);
}

static inline void env_reopen(struct store_env *e) {
    struct env_open o = {0};
    env_call(e, env_open_fn, &o);
    if (o.code)
        fatal("%s", o.err.msg);
}

static inline void env_close_fn(struct store_env *e, void *arg) {
    image_store_close(e->store);
    e->store = NULL;
}

/* Ends the loop too, so that everything that still ran has ended. */
static inline void env_close(struct store_env *e) {
    if (e->store)
        env_call(e, env_close_fn, NULL);
    loop_stop(e->loop);
    loop_join(e->loop);
    loop_free(e->loop);
    e->loop = NULL;
}

static inline void env_loop(struct store_env *e) {
    e->loop = loop_new("images");
    REQUIRE(loop_start(e->loop, NULL) == 0);
}

/* A store at root. registries: text of registries.yaml. */
static inline void env_init_at(struct store_env *e, const char *root, const char *registries) {
    struct error err;
    memset(e, 0, sizeof(*e));
    snprintf(e->root, sizeof(e->root), "%.*s", (int)sizeof(e->root) - 1, root);
    pthread_mutex_init(&e->lock, NULL);
    pthread_cond_init(&e->cond, NULL);
    e->registries = image_registries_parse(str_c(registries), &err);
    if (!e->registries)
        fatal("%s", err.msg);
    e->o.idle_timeout_ms = 400;
    e->o.retry_ms = 10;
    env_loop(e);
    env_reopen(e);
}

/* The same in a new directory, which env_fini() removes. */
static inline void env_init(struct store_env *e, const char *registries) {
    char root[64] = "/var/tmp/dory-test-images-XXXXXX";
    REQUIRE(mkdtemp(root));
    env_init_at(e, root, registries);
}

static inline void env_fini(struct store_env *e) {
    env_close(e);
    image_registries_free(e->registries);
    dir_remove_all(e->root, NULL);
}

struct env_pull {
    struct store_env *e;
    const char *name;
    const struct image_auth *auths;
    size_t auths_n;
    struct image_pull *pull;
    uint64_t progress, total;
    struct image *img;
    int code;
    struct error err;
    bool done;
};

static inline void env_pull_done(void *arg, struct image *img, int code, const struct error *err) {
    struct env_pull *p = arg;
    p->img = img;
    p->code = code;
    if (code)
        p->err = *err;
    env_signal(p->e, &p->done);
}

static inline void env_pull_progress(void *arg, uint64_t done, uint64_t total) {
    struct env_pull *p = arg;
    p->progress = done;
    p->total = total;
}

static inline void env_pull_start(struct store_env *e, void *arg) {
    struct env_pull *p = arg;
    struct image_pull_events ev = {env_pull_done, env_pull_progress, p};
    p->e = e;
    p->pull = image_pull(e->store, str_c(p->name), p->auths, p->auths_n, &ev);
}

/* Pulls and waits. The image's reference is p->img's: give it back with env_unref(). */
static inline struct env_pull env_pull_auth(struct store_env *e, const char *name, const struct image_auth *auths,
                                            size_t n) {
    struct env_pull p = {.name = name, .auths = auths, .auths_n = n};
    env_call(e, env_pull_start, &p);
    env_wait(e, &p.done);
    return p;
}

static inline struct env_pull env_pull(struct store_env *e, const char *name) {
    return env_pull_auth(e, name, NULL, 0);
}

static inline void env_unref_fn(struct store_env *e, void *arg) {
    image_unref(arg);
}

static inline void env_unref(struct store_env *e, struct image *img) {
    if (img)
        env_call(e, env_unref_fn, img);
}

struct env_find {
    const char *name;
    struct image *img;
    int code;
    struct error err;
};

static inline void env_find_fn(struct store_env *e, void *arg) {
    struct env_find *f = arg;
    f->img = image_find(e->store, str_c(f->name));
}

static inline struct image *env_find(struct store_env *e, const char *name) {
    struct env_find f = {.name = name};
    env_call(e, env_find_fn, &f);
    return f.img;
}

static inline void env_remove_fn(struct store_env *e, void *arg) {
    struct env_find *f = arg;
    f->code = image_remove(e->store, str_c(f->name), &f->err);
}

static inline struct env_find env_remove(struct store_env *e, const char *name) {
    struct env_find f = {.name = name};
    env_call(e, env_remove_fn, &f);
    return f;
}

struct env_import {
    struct store_env *e;
    const char *path;
    int images;
    struct error err;
    bool done;
};

static inline void env_import_done(void *arg, int images, const struct error *err) {
    struct env_import *i = arg;
    i->images = images;
    if (err)
        i->err = *err;
    env_signal(i->e, &i->done);
}

static inline void env_import_fn(struct store_env *e, void *arg) {
    struct env_import *i = arg;
    i->e = e;
    image_import(e->store, i->path, env_import_done, i);
}

static inline struct env_import env_import(struct store_env *e, const char *path) {
    struct env_import i = {.path = path};
    env_call(e, env_import_fn, &i);
    env_wait(e, &i.done);
    return i;
}
