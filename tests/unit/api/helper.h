/* What the API's tests share: an API on a memory store, asked in memory: the same two stages as an exchange takes. */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "api/api_priv.h"

#define ADMIN_TOKEN "admin-token-0123456789"
#define USER_TOKEN "user-token-00123456789"

struct fixture {
    struct loop *loop;
    struct store *store;
    struct api *api;
    char *key;
};

/* One request and what came back; streams grow until closed. */
struct answer {
    struct api_request q;
    struct fixture *f;
    struct arena *arena;
    struct http_header *headers;
    int code;
    char *reply_headers; /* "Name: value\n" each */
    struct buf body;
    bool done, streaming, ended;
    size_t backlog;    /* what a stream claims to have unsent */
    struct json *json; /* the body */
};

static inline void on_reply(struct api_request *q, int code, const struct http_header *h, size_t h_n,
                            struct blob *const *pieces, size_t n) {
    struct answer *x = q->ops_arg;
    struct buf b = BUF_INIT;
    for (size_t i = 0; i < h_n; i++)
        buf_printf(&b, "%.*s: %.*s\n", STR_ARG(h[i].name), STR_ARG(h[i].value));
    buf_putc(&b, '\n');
    x->reply_headers = buf_steal(&b, NULL);
    assert_false(x->done);
    x->code = code;
    for (size_t i = 0; i < n; i++) {
        buf_put_str(&x->body, pieces[i]->bytes);
        blob_unref(pieces[i]);
    }
    x->done = true;
}
static inline void on_begin(struct api_request *q, int code, const struct http_header *h, size_t n) {
    struct answer *x = q->ops_arg;
    x->code = code;
    x->streaming = true;
}
static inline void on_chunk(struct api_request *q, struct blob *b) {
    struct answer *x = q->ops_arg;
    buf_put_str(&x->body, b->bytes);
    blob_unref(b);
}
static inline size_t on_backlog(struct api_request *q) {
    return ((struct answer *)q->ops_arg)->backlog;
}
static inline void on_end(struct api_request *q) {
    ((struct answer *)q->ops_arg)->ended = true;
}
static inline void on_io_now(struct api_request *q, loop_fn fn) {
    fn(q);
}
static const struct api_reply_ops test_ops = {on_reply, on_begin, on_chunk, on_backlog, on_end, on_io_now};

static inline void turn(struct fixture *f) {
    for (int i = 0; i < 5; i++)
        uv_run(loop_uv(f->loop), UV_RUN_NOWAIT);
}

/* headers: "Name: value" lines, or NULL. The answer is freed by answer_free(). */
static inline struct answer *ask_as(struct fixture *f, const char *token, const char *method, const char *target,
                                    const char *headers, const char *body) {
    struct answer *x = XNEW(struct answer);
    x->f = f;
    x->arena = arena_new(0, MiB(256));
    struct str t = str_dup(x->arena, str_c(target)), rest = str_dup(x->arena, str_c(headers ? headers : ""));
    x->headers = xcalloc(16, sizeof(*x->headers));
    buf_init(&x->body, 0);
    struct api_request *q = &x->q;
    *q = (struct api_request){.api = f->api,
                              .ops = &test_ops,
                              .ops_arg = x,
                              .arena = x->arena,
                              .method = str_c(method),
                              .path = t,
                              .body = str_c(body ? body : ""),
                              .headers = x->headers};
    str_cut(t, '?', &q->path, &q->query);
    if (token)
        x->headers[q->headers_n++] =
            (struct http_header){STR("Authorization"), str_printf(x->arena, "Bearer %s", token)};
    while (rest.p && rest.n) {
        struct str line = str_split(&rest, '\n'), name, value;
        if (str_cut(line, ':', &name, &value))
            x->headers[q->headers_n++] = (struct http_header){name, str_trim(value)};
    }
    if (request_prepare(q))
        request_run(q);
    for (int i = 0; i < 1000 && !x->done && !x->streaming; i++)
        uv_run(loop_uv(f->loop), UV_RUN_ONCE);
    assert_true(x->done || x->streaming);
    if (x->done && x->body.n)
        x->json = json_parse(x->arena, buf_str(&x->body), NULL, NULL);
    return x;
}
static inline struct answer *ask(struct fixture *f, const char *method, const char *target, const char *headers,
                                 const char *body) {
    return ask_as(f, ADMIN_TOKEN, method, target, headers, body);
}
static inline void answer_free(struct answer *x) {
    if (x->streaming && !x->ended)
        watch_client_gone(&x->q);
    buf_fini(&x->body);
    free(x->reply_headers);
    free(x->headers);
    arena_free(x->arena);
    free(x);
}
static inline const char *text(struct answer *x, const char *path) {
    return json_str_at(x->json, path).p;
}
/* Asks, checks the code, forgets the answer. */
static inline void expect_as(struct fixture *f, const char *token, int code, const char *method, const char *target,
                             const char *headers, const char *body) {
    struct answer *x = ask_as(f, token, method, target, headers, body);
    if (x->code != code)
        print_message("%s %s: %d: %.*s\n", method, target, x->code, STR_ARG(buf_str(&x->body)));
    assert_int_equal(x->code, code);
    answer_free(x);
}
static inline void expect(struct fixture *f, int code, const char *method, const char *target, const char *body) {
    expect_as(f, ADMIN_TOKEN, code, method, target, NULL, body);
}
/* The message of a failure. */
static inline void expect_message(struct fixture *f, int code, const char *method, const char *target,
                                  const char *headers, const char *body, const char *message) {
    struct answer *x = ask(f, method, target, headers, body);
    assert_int_equal(x->code, code);
    assert_string_equal(text(x, "message"), message);
    answer_free(x);
}

static inline int set_up(void **state) {
    struct fixture *f = XNEW(struct fixture);
    struct error err = {0};
    pki_init();
    f->loop = loop_new("test");
    struct store_options so = {.loop = f->loop};
    assert_int_equal(store_open(&so, &f->store, &err), 0);
    assert_int_equal(pki_key_new(&f->key, &err), 0);
    const char *keys[] = {f->key, NULL}, *advertise[] = {"192.0.2.1:6443", NULL};
    struct api_options o = {.loop = f->loop,
                            .store = f->store,
                            .schema = schema_builtin(),
                            .version_git = "v1.36.0+dory1",
                            .service_cidr = "10.43.0.0/16",
                            .cluster_dns = "10.43.0.10",
                            .sa_key_pem = f->key,
                            .sa_public_pem = keys,
                            .sa_issuer = "https://kubernetes.default.svc.cluster.local",
                            .static_tokens = ADMIN_TOKEN ",admin,u1,system:masters\n" USER_TOKEN ",jane,u2,dev|ops\n",
                            .advertise = advertise};
    int rc = api_new(&o, &f->api, &err);
    if (rc == 0)
        rc = api_bootstrap(f->api, &err);
    if (rc < 0)
        print_message("%s\n", err.msg);
    assert_int_equal(rc, 0);
    turn(f);
    *state = f;
    return 0;
}
static inline int tear_down(void **state) {
    struct fixture *f = *state;
    api_free(f->api);
    store_close(f->store);
    loop_free(f->loop);
    free(f->key);
    free(f);
    return 0;
}
