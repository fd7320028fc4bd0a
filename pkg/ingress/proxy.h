/*
 * The proxy by itself: two listeners, a table of rules, connections to clients (front.c) and to pods (back.c), which pass
 * requests and answers on as they come, so no body is ever held whole. On one loop's thread, ingress_proxy_new() and
 * ingress_proxy_listen() aside.
 */
#pragma once

#include "ingress/rules.h"
#include "net/conn.h"
#include "net/http_parse.h"

struct ingress_proxy_options {
    struct loop *loop;
    struct tls_config *tls; /* of the TLS listener; NULL: none */
    size_t connections_max; /* 0: 8192 */
    int64_t head_ms;        /* a request head must be complete by then; 0: 10 s */
    int64_t idle_ms;        /* keep-alive without a request; 0: 180 s */
    int64_t stall_ms;       /* a request body without a byte, a client that reads nothing; 0: 60 s */
    int64_t connect_ms;     /* to a pod; 0: 5 s */
    int64_t answer_ms;      /* until the head of the answer; 0: 300 s */
    int64_t back_idle_ms;   /* keep-alive to pods, shorter than what common servers grant; 0: 4 s */
};

struct listener {
    struct proxy *p;
    uv_poll_t poll;
    struct timer retry;
    int fd, port;
    bool tls, polled;
};

struct proxy {
    struct ingress_proxy_options o; /* zeroes replaced */
    struct ingress_rules *rules;    /* a reference; NULL: not known yet */
    struct listener listeners[2];
    size_t listeners_n;
    struct list fronts, backs;
    struct list idle; /* backs without a request, newest first */
    size_t idle_n, fronts_n;
    size_t alive; /* listeners, fronts and backs whose memory is still there */
    bool stopping;
    loop_fn stopped;
    void *stopped_arg;
};

/* A request on its way; in the arena of its head. */
struct call {
    struct arena *arena;
    struct front *f; /* always: it owns the call */
    struct back *b;  /* NULL: answered here, or not started */
    struct ingress_rules *rules;
    struct ingress_backend *backend;
    struct http_header *headers;
    size_t headers_n;
    struct str method, target; /* target: origin form or "*" */
    struct str host;
    struct str upgrade; /* protocol asked for, or empty */
    bool head_only, http10, keep_alive, idempotent;
    bool has_length, chunked; /* how the body comes, and goes on */
    uint64_t length;
    bool complete; /* the request came in full */
    bool full;     /* more of it than the pod takes now */

    struct buf head; /* for the pod */
    struct buf body; /* what came before the connection stood, framed */
    bool body_sent;  /* some of it went to a pod: no second try */
    unsigned tries;

    bool answered; /* the answer's head went to the client */
    bool answer_chunked, answer_open_end, no_body;
    int refusal; /* status of an answer of our own */
    const char *refusal_text;
};

/* --- proxy.c --- */
struct proxy *proxy_new(const struct ingress_proxy_options *o);
/* Before proxy_start(): binds "ip:port" (port 0: any). The error names the address. */
int proxy_listen(struct proxy *p, const char *address, bool tls, struct error *err);
/* Any thread: begins to accept. */
void proxy_start(struct proxy *p);
void proxy_free(struct proxy *p); /* one that was never started */
int proxy_port(const struct proxy *p, bool tls);
/* Takes the reference. */
void proxy_set_rules(struct proxy *p, struct ingress_rules *r);
/* On the loop: closes everything, then done(arg), and p is gone. */
void proxy_stop(struct proxy *p, loop_fn done, void *arg);
void proxy_socket_options(int fd);
void proxy_less_alive(struct proxy *p); /* one of those counted in alive is gone */

/* --- front.c --- */
struct front;
void front_new(struct listener *l, int fd, const struct sockaddr *from);
void front_close(struct front *f);
struct front *front_of(struct list *link);
struct conn *front_conn(struct front *f);
const char *front_ip(const struct front *f);
bool front_is_tls(const struct front *f);
struct proxy *front_proxy(struct front *f);
/* What a back tells the front of its call. */
void front_answer_done(struct front *f);                            /* the whole answer was written */
void front_refuse(struct front *f, int status, const char *reason); /* an answer of our own; before an answer began */
void front_active(struct front *f);
void front_flow(struct front *f); /* pauses or resumes reading */
/* The pod switched protocols: bytes both ways from now on. */
void front_tunnel(struct front *f);
void front_tunnel_check(struct front *f); /* ends one that both sides ended */

/* --- back.c --- */
struct back;
void back_start(struct call *call);                 /* finds or makes a connection for it and sends what there is */
void back_send(struct call *call, struct str data); /* a piece of the body */
void back_sent_all(struct call *call);              /* the request is complete */
void back_abandon(struct call *call);               /* nobody waits for the answer */
bool back_is_full(struct call *call);               /* reading more of the request makes no sense now */
void back_flow(struct call *call);                  /* pauses or resumes reading */
void back_close(struct back *b);
struct back *back_of(struct list *link);
/* of a tunnel */
void back_tunnel_write(struct back *b, const char *p, size_t n);
void back_tunnel_shutdown(struct back *b);
bool back_has_ended(const struct back *b);

/* --- head.c --- */
/* The head as the pod gets it, into call->head. */
void head_for_back(struct call *call);
/* The head of the answer as the client gets it, and how its body is framed. */
void head_for_front(struct call *call, struct buf *out, int status, struct str reason,
                    const struct http_parser *answer);
