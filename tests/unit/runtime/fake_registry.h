/*
 * A registry made for misbehaving: an HTTP server on loopback, one thread a connection, one answer a connection, which
 * the test's handler composes. For tests.
 */
#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/base.h"

struct fake_request {
    char method[8], path[1024];
    char *head; /* the whole head, NUL-terminated, for fake_header() */
    char body[4096];
};

struct fake_answer {
    int status;
    char headers[2048]; /* "Name: value\r\n" lines */
    struct str body;
    size_t cut;   /* close after so many bytes of the body; 0: send all */
    bool hang;    /* send what there is up to cut, then nothing until the test ends */
    bool silent;  /* not even a head */
    bool endless; /* the body again and again, without Content-Length */
};

struct fake {
    int fd, port;
    pthread_t thread;
    void (*handler)(void *arg, const struct fake_request *rq, struct fake_answer *a);
    void *arg;
    atomic_int requests, running;
    atomic_bool stop;
};

struct fake_conn {
    struct fake *f;
    int fd;
};

/* Value of a header of the request, or NULL. */
static inline const char *fake_header(const struct fake_request *rq, const char *name, char out[1024]) {
    const char *p = strcasestr(rq->head, name);
    if (!p || p[strlen(name)] != ':')
        return NULL;
    p += strlen(name) + 1;
    while (*p == ' ')
        p++;
    size_t n = strcspn(p, "\r\n");
    snprintf(out, 1024, "%.*s", (int)MIN(n, (size_t)1000), p);
    return out;
}

static inline bool fake_send(int fd, const void *p, size_t n) {
    while (n) {
        ssize_t done = send(fd, p, n, MSG_NOSIGNAL);
        if (done <= 0)
            return false;
        p = (const char *)p + done;
        n -= (size_t)done;
    }
    return true;
}

static inline void fake_answer_send(struct fake *f, int fd, const struct fake_answer *a) {
    char head[4096];
    if (!a->silent) {
        int n = snprintf(head, sizeof(head), "HTTP/1.1 %d X\r\nConnection: close\r\n%s", a->status, a->headers);
        if (!a->endless)
            n += snprintf(head + n, sizeof(head) - (size_t)n, "Content-Length: %zu\r\n", a->body.n);
        n += snprintf(head + n, sizeof(head) - (size_t)n, "\r\n");
        fake_send(fd, head, (size_t)n);
        fake_send(fd, a->body.p, a->cut ? MIN(a->cut, a->body.n) : a->body.n);
        while (a->endless && !atomic_load(&f->stop) && fake_send(fd, a->body.p, a->body.n))
            ;
    }
    char c;
    while ((a->hang || a->silent) && !atomic_load(&f->stop) && recv(fd, &c, 1, MSG_DONTWAIT) != 0)
        usleep(5000);
}

static inline void *fake_conn_run(void *arg) {
    struct fake_conn *c = arg;
    struct fake *f = c->f;
    static const size_t max = 32768;
    char *head = xcalloc(1, max + 1);
    size_t n = 0;
    char *end = NULL;
    while (n < max && !(end = strstr(head, "\r\n\r\n"))) {
        ssize_t got = recv(c->fd, head + n, max - n, 0);
        if (got <= 0)
            break;
        n += (size_t)got;
    }
    if (end) {
        struct fake_request rq = {.head = head};
        struct fake_answer a = {.status = 404, .body = STR("")};
        char length[1024];
        sscanf(head, "%7s %1023s", rq.method, rq.path);
        uint64_t want = 0;
        if (fake_header(&rq, "Content-Length", length))
            str_to_u64(str_c(length), &want);
        while (n < max && (size_t)(head + n - (end + 4)) < want) {
            ssize_t got = recv(c->fd, head + n, max - n, 0);
            if (got <= 0)
                break;
            n += (size_t)got;
        }
        snprintf(rq.body, sizeof(rq.body), "%s", end + 4);
        end[2] = 0;
        atomic_fetch_add(&f->requests, 1);
        f->handler(f->arg, &rq, &a);
        fake_answer_send(f, c->fd, &a);
    }
    free(head);
    shutdown(c->fd, SHUT_WR);
    close(c->fd);
    free(c);
    atomic_fetch_sub(&f->running, 1);
    return NULL;
}

static inline void *fake_run(void *arg) {
    struct fake *f = arg;
    for (;;) {
        int fd = accept4(f->fd, NULL, NULL, SOCK_CLOEXEC);
        if (fd < 0)
            return NULL;
        struct fake_conn *c = XNEW(struct fake_conn);
        pthread_t t;
        *c = (struct fake_conn){f, fd};
        atomic_fetch_add(&f->running, 1);
        pthread_create(&t, NULL, fake_conn_run, c);
        pthread_detach(t);
    }
}

static inline void fake_start(struct fake *f,
                              void (*handler)(void *, const struct fake_request *, struct fake_answer *), void *arg) {
    struct sockaddr_in sa = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof(sa);
    *f = (struct fake){.handler = handler, .arg = arg};
    f->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    REQUIRE(f->fd >= 0 && bind(f->fd, (struct sockaddr *)&sa, sizeof(sa)) == 0 && listen(f->fd, 64) == 0);
    getsockname(f->fd, (struct sockaddr *)&sa, &n);
    f->port = ntohs(sa.sin_port);
    REQUIRE(pthread_create(&f->thread, NULL, fake_run, f) == 0);
}

static inline void fake_stop(struct fake *f) {
    atomic_store(&f->stop, true);
    shutdown(f->fd, SHUT_RDWR);
    pthread_join(f->thread, NULL);
    close(f->fd);
    while (atomic_load(&f->running))
        usleep(1000);
}
