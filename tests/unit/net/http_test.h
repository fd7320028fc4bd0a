/* A server with a few paths on two loops, and a blocking socket to talk to it: shared by the HTTP tests. */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "net/net.h"

struct site {
    struct loop *io[2], *worker;
    struct http_server *server;
    int port;
    atomic_int closed;     /* on_close calls */
    atomic_size_t backlog; /* of /flood when it stopped */
    bool stopped;
};

struct job {
    struct site *site;
    struct http_exchange *x;
    struct stream *s;
    struct timer timer;
    int left;
};

static inline void reply_text(struct http_exchange *x, int status, struct str text) {
    const struct http_header h = {STR("Content-Type"), STR("text/plain")};
    http_reply(x, status, &h, 1, blob_new(text));
}

static inline void job_async(void *arg) {
    struct job *j = arg;
    reply_text(j->x, 200, STR("from another thread"));
    http_finish(j->x);
    free(j);
}

static inline void job_watch_closed(void *arg) {
    struct job *j = arg;
    atomic_fetch_add(&j->site->closed, 1);
    http_finish(j->x);
    free(j);
}

static inline void job_stream(void *arg) {
    struct job *j = arg;
    http_stream_begin(j->x, 200, NULL, 0, NULL, NULL);
    for (int i = 0; i < 1000; i++) {
        char line[32];
        int n = snprintf(line, sizeof(line), "line %d\n", i);
        http_stream_chunk(j->x, blob_new(str_n(line, (size_t)n)));
    }
    http_stream_end(j->x);
    http_finish(j->x);
    free(j);
}

/* Streams until the reader is 8 MiB behind. */
static inline void job_flood(void *arg) {
    struct job *j = arg;
    char *big = xcalloc(1, KiB(256));
    http_stream_begin(j->x, 200, NULL, 0, NULL, NULL);
    while (http_stream_backlog(j->x) < MiB(8))
        http_stream_chunk(j->x, blob_new(str_n(big, KiB(256))));
    atomic_store(&j->site->backlog, http_stream_backlog(j->x));
    http_stream_end(j->x);
    http_finish(j->x);
    free(big);
    free(j);
}

static inline void echo_data(void *arg, struct str data) {
    struct job *j = arg;
    stream_write(j->s, data.p, data.n);
}
static inline void echo_eof(void *arg) {
    struct job *j = arg;
    stream_shutdown(j->s);
}
static inline void echo_closed(void *arg, int reason) {
    struct job *j = arg;
    atomic_fetch_add(&j->site->closed, 1);
    free(j);
}
static inline void echo_ready(void *arg, struct stream *s) {
    struct job *j = arg;
    if (!s) {
        free(j);
        return;
    }
    j->s = s;
    stream_start(s,
                 &(struct stream_events){.on_data = echo_data, .on_eof = echo_eof, .on_closed = echo_closed, .arg = j});
}

static inline void site_describe(struct http_exchange *x) {
    const struct http_request *r = http_request(x);
    struct str all =
        str_printf(r->arena, "%.*s path=%.*s query=%.*s q=%.*s body=%.*s cn=%.*s orgs=%zu org0=%.*s",
                   STR_ARG(r->method), STR_ARG(r->path), STR_ARG(r->query), STR_ARG(http_query_get(r, "q")),
                   STR_ARG(r->body), STR_ARG(r->peer ? r->peer->common_name : STR("-")),
                   r->peer ? r->peer->organizations_n : 0,
                   STR_ARG(r->peer && r->peer->organizations_n ? r->peer->organizations[0] : STR("-")));
    reply_text(x, 200, all);
}

static inline void site_handler(void *arg, struct http_exchange *x) {
    struct site *site = arg;
    const struct http_request *r = http_request(x);
    struct job *j = XNEW(struct job);
    *j = (struct job){.site = site, .x = x};
    if (str_eq(r->path, STR("/async"))) {
        loop_post(site->worker, job_async, j);
        return;
    }
    if (str_eq(r->path, STR("/stream"))) {
        loop_post(site->worker, job_stream, j);
        return;
    }
    if (str_eq(r->path, STR("/flood"))) {
        loop_post(site->worker, job_flood, j);
        return;
    }
    if (str_eq(r->path, STR("/watch"))) {
        http_stream_begin(x, 200, NULL, 0, job_watch_closed, j);
        http_stream_chunk(x, blob_new(STR("{}\n")));
        return;
    }
    if (str_eq(r->path, STR("/upgrade"))) {
        const struct http_header h[] = {{STR("Connection"), STR("Upgrade")}, {STR("Upgrade"), STR("echo")}};
        http_upgrade(x, 101, h, 2, echo_ready, j);
        http_finish(x);
        return;
    }
    free(j);
    if (str_eq(r->path, STR("/big"))) {
        char *big = xmalloc(MiB(4));
        for (size_t i = 0; i < MiB(4); i++)
            big[i] = (char)(i * 31 >> 4);
        http_reply(x, 200, NULL, 0, blob_take(big, MiB(4)));
    } else if (str_eq(r->path, STR("/inject"))) {
        const struct http_header h = {STR("X-A"), STR("a\r\nSet-Cookie: b")};
        http_reply(x, 200, &h, 1, NULL);
    } else if (str_eq(r->path, STR("/nothing"))) {
        http_reply(x, 204, NULL, 0, NULL);
    } else if (!str_eq(r->path, STR("/none"))) {
        site_describe(x);
    }
    http_finish(x);
}

static inline void site_start(struct site *site, struct tls_config *tls) {
    struct error err = {0};
    site->io[0] = loop_new("io0");
    site->io[1] = loop_new("io1");
    site->worker = loop_new("worker");
    struct http_server_options o = {.loops = site->io,
                                    .loops_n = 2,
                                    .tls = tls,
                                    .header_timeout_ms = 700,
                                    .idle_timeout_ms = 3000,
                                    .handler = site_handler,
                                    .arg = site,
                                    .limits = {.body_bytes = KiB(64)}};
    if (http_server_start(&o, "127.0.0.1:0", &site->server, &err))
        fail_msg("%s", err.msg);
    site->port = http_server_port(site->server);
    loop_start(site->io[0], NULL);
    loop_start(site->io[1], NULL);
    loop_start(site->worker, NULL);
}

static inline void site_stopped(void *arg) {
    struct site *site = arg;
    site->stopped = true;
    loop_stop(site->io[0]);
    loop_stop(site->io[1]);
}

static inline void site_stop(struct site *site) {
    loop_stop(site->worker);
    loop_join(site->worker);
    http_server_stop(site->server, site_stopped, site);
    loop_join(site->io[0]);
    loop_join(site->io[1]);
    assert_true(site->stopped);
    loop_free(site->worker);
    loop_free(site->io[1]);
    loop_free(site->io[0]);
}
