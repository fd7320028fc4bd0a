/* The resolver's sockets: queries come in, go to the zone or upstream, answers go out. */
#include "cluster/dns.h"

#include <arpa/inet.h>
#include <stdlib.h>
#include <unistd.h>

#include "cluster/dns_upstream.h"

#define QUERY_MAX 1500 /* by UDP */
#define TCP_QUERY_MAX 4096
#define CONNS_MAX 32
#define IDLE_MS 10000
#define PENDING_MAX 1000
#define BACKLOG 16

struct dns {
    struct dns_options o;
    struct dns_zone zone;
    struct dns_upstream *upstream;
    uv_udp_t udp;
    uv_tcp_t tcp;
    unsigned handles; /* open ones; the last frees us */
    bool stopping;
    struct list conns, pending;
    size_t conns_n, pending_n;
    char in[QUERY_MAX];
};

struct conn {
    uv_tcp_t tcp;
    struct dns *d;
    struct list link;
    struct timer idle;
    struct buf in;
    struct sockaddr_in addr;
    bool busy; /* one query at a time: the next is read when its answer is written */
};

struct client {
    struct conn *conn; /* NULL: UDP */
    struct sockaddr_in addr;
};

/* A query that waits for an upstream. */
struct pending {
    struct dns *d;
    struct dns_wait wait;
    struct list link;
    struct dns_query q;
    struct client client;
    bool follow; /* the end of a CNAME chain of our zone */
};

static void conn_next(struct conn *c);
static void conn_close(struct conn *c);

/* --- answers out ------------------------------------------------------------------------------------------------ */

struct tcp_reply {
    uv_write_t req;
    struct conn *c;
    char length[2];
    char *data;
};

static void on_written(uv_write_t *req, int status) {
    struct tcp_reply *r = CONTAINER_OF(req, struct tcp_reply, req);
    struct conn *c = r->c;
    free(r->data);
    free(r);
    if (uv_is_closing((uv_handle_t *)&c->tcp))
        return;
    c->busy = false;
    if (status < 0)
        conn_close(c);
    else
        conn_next(c);
}

/* Takes the buffer's memory. */
static void send_reply(struct dns *d, const struct client *to, struct buf *message) {
    if (!to->conn) {
        uv_buf_t piece = uv_buf_init(message->p, (unsigned)message->n);
        uv_udp_try_send(&d->udp, &piece, 1, (const struct sockaddr *)&to->addr); /* lost, it is asked for again */
        buf_fini(message);
        return;
    }
    struct tcp_reply *r = XNEW(struct tcp_reply);
    size_t n;
    r->c = to->conn;
    r->data = buf_steal(message, &n);
    r->length[0] = (char)(n >> 8);
    r->length[1] = (char)n;
    uv_buf_t pieces[] = {uv_buf_init(r->length, 2), uv_buf_init(r->data, (unsigned)n)};
    if (uv_write(&r->req, (uv_stream_t *)&to->conn->tcp, pieces, 2, on_written) < 0) {
        free(r->data);
        free(r);
        conn_close(to->conn);
    }
}

static size_t limit_of(const struct client *to, const struct dns_query *q) {
    return to->conn ? DNS_MESSAGE_MAX : q->udp_size;
}

static void reply_code(struct dns *d, const struct client *to, const struct dns_query *q, int rcode) {
    struct dns_builder b;
    dns_reply_begin(&b, q, limit_of(to, q));
    dns_reply_end(&b, rcode, false);
    send_reply(d, to, &b.out);
}

static void reply_kept(struct dns *d, const struct client *to, const struct dns_query *q, const struct dns_kept *kept) {
    struct buf out = {.limit = DNS_MESSAGE_MAX};
    dns_answer_write(&out, kept->message, q, limit_of(to, q), kept->age_s, kept->min_ttl);
    if (out.failed) {
        buf_fini(&out);
        reply_code(d, to, q, DNS_SERVFAIL);
        return;
    }
    send_reply(d, to, &out);
}

/* --- questions in ----------------------------------------------------------------------------------------------- */

static void pending_free(struct pending *p) {
    list_remove(&p->wait.link);
    list_remove(&p->link);
    p->d->pending_n--;
    free(p);
}

/* Records that answer the end of a chain of ours. */
static int put_followed(struct dns_builder *b, const struct dns_kept *kept) {
    struct dns_reader r;
    struct dns_record rr;
    if (!dns_reader_begin(&r, kept->message))
        return DNS_SERVFAIL;
    while (dns_reader_next(&r, &rr))
        if (rr.section == DNS_ANSWER && rr.klass == DNS_CLASS_IN) {
            rr.ttl = MAX(rr.ttl > kept->age_s ? rr.ttl - kept->age_s : 0, kept->min_ttl);
            dns_put_record(b, DNS_ANSWER, kept->message, &rr);
        }
    return r.rcode;
}

static void on_upstream(struct dns_wait *w, const struct dns_kept *kept);

static void ask(struct dns *d, const struct client *to, const struct dns_query *q, const struct dns_name *name,
                bool follow) {
    struct pending *p = XNEW(struct pending);
    *p = (struct pending){.d = d, .q = *q, .client = *to, .follow = follow, .wait = {.fn = on_upstream}};
    list_init(&p->wait.link);
    list_push_back(&d->pending, &p->link);
    d->pending_n++;
    if (d->pending_n <= PENDING_MAX && dns_upstream_ask(d->upstream, name, q->type, q->dnssec_ok, &p->wait) == 0)
        return;
    pending_free(p);
    reply_code(d, to, q, DNS_SERVFAIL);
}

/* kept: the answer to where the chain leaves the zone, if there was one (NULL: ask for it, unless it failed). */
static void answer_zone(struct dns *d, const struct client *to, const struct dns_query *q, const struct dns_kept *kept,
                        bool asked) {
    struct dns_builder b;
    struct dns_name follow;
    struct dns_kept found;
    dns_reply_begin(&b, q, limit_of(to, q));
    int rcode = dns_zone_answer(&d->zone, q, &b, &follow);
    if (follow.n && !asked) {
        if (!dns_upstream_cached(d->upstream, &follow, q->type, q->dnssec_ok, &found)) {
            buf_fini(&b.out);
            ask(d, to, q, &follow, true);
            return;
        }
        kept = &found;
    }
    if (follow.n) /* without an answer the CNAME alone would look like a name without addresses */
        rcode = kept ? put_followed(&b, kept) : DNS_SERVFAIL;
    dns_reply_end(&b, rcode, true);
    send_reply(d, to, &b.out);
}

static void on_upstream(struct dns_wait *w, const struct dns_kept *kept) {
    struct pending *p = CONTAINER_OF(w, struct pending, wait), done = *p;
    pending_free(p); /* first: a reply may close its connection and all that waits on it */
    if (done.follow)
        answer_zone(done.d, &done.client, &done.q, kept, true);
    else if (kept)
        reply_kept(done.d, &done.client, &done.q, kept);
    else
        reply_code(done.d, &done.client, &done.q, DNS_SERVFAIL);
}

static bool is_machines_own(uint32_t address_be) {
    uv_interface_address_t *list;
    int n;
    bool found = false;
    if (uv_interface_addresses(&list, &n) < 0)
        return false;
    for (int i = 0; i < n && !found; i++)
        found =
            list[i].address.address4.sin_family == AF_INET && list[i].address.address4.sin_addr.s_addr == address_be;
    uv_free_interface_addresses(list, n);
    return found;
}

/* Who may ask about the world: pods and this machine. Others would find an open resolver. */
static bool may_recurse(const struct dns *d, const struct client *from) {
    uint32_t address = ntohl(from->addr.sin_addr.s_addr);
    for (size_t i = 0; i < ARRAY_LEN(d->o.nets); i++)
        if (d->o.nets[i].mask && (address & d->o.nets[i].mask) == d->o.nets[i].base)
            return true;
    return address >> 24 == IN_LOOPBACKNET || is_machines_own(from->addr.sin_addr.s_addr);
}

/* Answers, now or later; false when there will be none. */
static bool take_query(struct dns *d, const struct client *from, struct str packet) {
    struct dns_query q;
    struct dns_kept kept;
    int rc = dns_query_parse(packet, &q);
    if (rc < 0)
        return false;
    if (rc > 0)
        reply_code(d, from, &q, rc);
    else if (dns_zone_has(&d->zone, &q.name) && !d->o.ready(d->o.source.arg))
        reply_code(d, from, &q, DNS_SERVFAIL); /* "no such name" would be remembered */
    else if (dns_zone_has(&d->zone, &q.name))
        answer_zone(d, from, &q, NULL, false);
    else if (!(q.flags & DNS_RD) || !may_recurse(d, from))
        reply_code(d, from, &q, DNS_REFUSED);
    else if (dns_upstream_cached(d->upstream, &q.name, q.type, q.dnssec_ok, &kept))
        reply_kept(d, from, &q, &kept);
    else
        ask(d, from, &q, &q.name, false);
    return true;
}

/* --- UDP -------------------------------------------------------------------------------------------------------- */

static void on_udp_room(uv_handle_t *h, size_t suggested, uv_buf_t *out) {
    struct dns *d = h->data;
    (void)suggested;
    *out = uv_buf_init(d->in, sizeof(d->in));
}

static void on_udp(uv_udp_t *h, ssize_t n, const uv_buf_t *data, const struct sockaddr *from, unsigned flags) {
    struct client c = {0};
    if (n <= 0 || !from || from->sa_family != AF_INET || (flags & UV_UDP_PARTIAL))
        return;
    memcpy(&c.addr, from, sizeof(c.addr));
    if (c.addr.sin_port != 0)
        take_query(h->data, &c, str_n(data->base, (size_t)n));
}

/* --- TCP -------------------------------------------------------------------------------------------------------- */

static void handle_closed(struct dns *d) {
    if (--d->handles > 0)
        return;
    free((char *)d->o.domain);
    free((char *)d->o.resolv_conf);
    free(d);
}

static void on_conn_closed(uv_handle_t *h) {
    struct conn *c = CONTAINER_OF((uv_tcp_t *)h, struct conn, tcp);
    struct dns *d = c->d;
    buf_fini(&c->in);
    free(c);
    handle_closed(d);
}

static void conn_close(struct conn *c) {
    if (uv_is_closing((uv_handle_t *)&c->tcp))
        return;
    LIST_FOREACH (l, &c->d->pending) {
        struct pending *p = LIST_ITEM(l, struct pending, link);
        if (p->client.conn == c)
            pending_free(p);
    }
    timer_stop(&c->idle);
    list_remove(&c->link);
    c->d->conns_n--;
    uv_close((uv_handle_t *)&c->tcp, on_conn_closed);
}

static void on_idle(void *arg) {
    conn_close(arg);
}

static void conn_next(struct conn *c) {
    while (!c->busy && c->in.n >= 2) {
        size_t n = (size_t)(unsigned char)c->in.p[0] << 8 | (unsigned char)c->in.p[1];
        char packet[TCP_QUERY_MAX];
        if (n > sizeof(packet)) {
            conn_close(c);
            return;
        }
        if (c->in.n < 2 + n)
            break;
        memcpy(packet, c->in.p + 2, n);
        buf_consume(&c->in, 2 + n);
        c->busy = true;
        timer_set(&c->idle, IDLE_MS, 1000);
        struct client from = {.conn = c, .addr = c->addr};
        if (!take_query(c->d, &from, str_n(packet, n))) {
            conn_close(c);
            return;
        }
        if (uv_is_closing((uv_handle_t *)&c->tcp))
            return;
    }
}

static void on_tcp_room(uv_handle_t *h, size_t suggested, uv_buf_t *out) {
    struct conn *c = CONTAINER_OF((uv_tcp_t *)h, struct conn, tcp);
    char *room = buf_reserve(&c->in, 512);
    (void)suggested;
    *out = uv_buf_init(room, room ? 512 : 0); /* full: more than one query ahead of its answer is too much */
}

static void on_tcp(uv_stream_t *s, ssize_t n, const uv_buf_t *data) {
    struct conn *c = CONTAINER_OF((uv_tcp_t *)s, struct conn, tcp);
    (void)data;
    if (n < 0) {
        conn_close(c);
        return;
    }
    c->in.n += (size_t)n;
    conn_next(c);
}

static void on_connection(uv_stream_t *s, int status) {
    struct dns *d = s->data;
    if (status < 0 || d->stopping)
        return;
    if (d->conns_n >= CONNS_MAX) /* the one that waits longest goes */
        conn_close(LIST_ITEM(d->conns.next, struct conn, link));
    struct conn *c = XNEW(struct conn);
    c->d = d;
    buf_init(&c->in, TCP_QUERY_MAX + 1024);
    timer_init(&c->idle, d->o.loop, on_idle, c);
    uv_tcp_init(loop_uv(d->o.loop), &c->tcp);
    d->handles++;
    d->conns_n++;
    list_push_back(&d->conns, &c->link);
    int n = sizeof(c->addr);
    if (uv_accept(s, (uv_stream_t *)&c->tcp) < 0 || uv_tcp_getpeername(&c->tcp, (struct sockaddr *)&c->addr, &n) < 0 ||
        uv_read_start((uv_stream_t *)&c->tcp, on_tcp_room, on_tcp) < 0) {
        conn_close(c);
        return;
    }
    timer_set(&c->idle, IDLE_MS, 1000);
}

/* --- start and stop --------------------------------------------------------------------------------------------- */

/* A bound socket; the address may come to the machine later than we. */
static int open_socket(const struct dns_options *o, int type, struct error *err) {
    struct sockaddr_in sa = {.sin_family = AF_INET, .sin_addr = {htonl(o->address)}, .sin_port = htons(o->port)};
    const char *kind = type == SOCK_DGRAM ? "UDP" : "TCP";
    int yes = 1, fd = socket(AF_INET, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return error_sys(err, -errno, "cluster DNS: %s socket", kind);
    setsockopt(fd, IPPROTO_IP, IP_FREEBIND, &yes, sizeof(yes));
    if (type == SOCK_STREAM)
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes));
    if (bind(fd, (const struct sockaddr *)&sa, sizeof(sa)) < 0) {
        int rc = error_sys(err, -errno, "cluster DNS cannot listen on %s:%u (%s)", inet_ntoa(sa.sin_addr),
                           (unsigned)o->port, kind);
        close(fd);
        return rc;
    }
    return fd;
}

static void on_closed(uv_handle_t *h) {
    handle_closed(h->data);
}

static void close_all(struct dns *d) {
    d->stopping = true;
    while (!list_empty(&d->pending))
        pending_free(LIST_ITEM(d->pending.next, struct pending, link));
    while (!list_empty(&d->conns))
        conn_close(LIST_ITEM(d->conns.next, struct conn, link));
    dns_upstream_free(d->upstream);
    uv_close((uv_handle_t *)&d->udp, on_closed);
    uv_close((uv_handle_t *)&d->tcp, on_closed);
}

static int listen_on(struct dns *d, int udp, int tcp) {
    int rc = uv_udp_open(&d->udp, udp);
    if (rc < 0) {
        close(udp);
        close(tcp);
        return rc;
    }
    rc = uv_udp_recv_start(&d->udp, on_udp_room, on_udp);
    int opened = uv_tcp_open(&d->tcp, tcp);
    if (opened < 0)
        close(tcp);
    if (rc == 0)
        rc = opened;
    return rc < 0 ? rc : uv_listen((uv_stream_t *)&d->tcp, BACKLOG, on_connection);
}

int dns_serve(const struct dns_options *o, struct dns **out, struct error *err) {
    struct dns_name domain;
    if (!dns_name_set(&domain, str_c(o->domain)))
        return error_set(err, -EINVAL, "\"%s\" is no domain", o->domain);
    int udp = open_socket(o, SOCK_DGRAM, err), tcp = udp < 0 ? udp : open_socket(o, SOCK_STREAM, err);
    if (tcp < 0) {
        if (udp >= 0)
            close(udp);
        return tcp;
    }
    struct dns *d = XNEW(struct dns);
    d->o = *o;
    d->o.domain = xstrdup(o->domain);
    d->o.resolv_conf = xstrdup(o->resolv_conf);
    d->zone = (struct dns_zone){o->source, domain, htonl(o->address), {o->nets[0], o->nets[1]}};
    d->upstream = dns_upstream_new(&(struct dns_upstream_options){.loop = o->loop,
                                                                  .resolv_conf = d->o.resolv_conf,
                                                                  .own_address_be = htonl(o->address),
                                                                  .port = o->upstream_port,
                                                                  .timeout_ms = o->timeout_ms});
    list_init(&d->conns);
    list_init(&d->pending);
    uv_udp_init(loop_uv(o->loop), &d->udp);
    uv_tcp_init(loop_uv(o->loop), &d->tcp);
    d->udp.data = d->tcp.data = d;
    d->handles = 2;
    int rc = listen_on(d, udp, tcp);
    if (rc < 0) {
        close_all(d);
        return error_set(err, rc, "cluster DNS: %s", uv_strerror(rc));
    }
    *out = d;
    return 0;
}

void dns_stop(struct dns *d) {
    close_all(d);
}
