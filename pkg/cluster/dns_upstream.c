/*
 * Asking the machine's name servers. Everybody who wants the same waits for the same ask; an ask goes from server to server,
 * twice around, from a new socket (a port of its own) each time.
 */
#include "cluster/dns_upstream.h"

#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cluster/dns_cache.h"

#define SERVERS_MAX 3
#define ROUNDS 2
#define ASKS_MAX 256
#define WAITERS_MAX 128
#define CHECK_MS 5000 /* at most so often the file is looked at */
#define RESOLV_CONF_MAX KiB(64)
#define STUB_RESOLVER 0x7f000035u /* 127.0.0.53: systemd-resolved, whose own file names the real ones */
#define RESOLVED_CONF "/run/systemd/resolve/resolv.conf"

struct server {
    struct sockaddr_storage addr;
};

struct dns_upstream {
    struct dns_upstream_options o;
    char *resolv_conf;
    struct server servers[SERVERS_MAX];
    size_t servers_n;
    int64_t checked_ms;
    struct timespec mtime;
    bool known;      /* the file was read */
    struct map asks; /* key -> ask */
    struct dns_cache cache;
};

struct ask {
    struct dns_upstream *u;
    char key[DNS_KEY_MAX];
    size_t key_n;
    struct dns_name name;
    uint16_t type, id;
    bool dnssec_ok, plain; /* plain: the server does not like EDNS */
    unsigned tries, servers_n;
    struct server servers[SERVERS_MAX];
    struct list waiters;
    size_t waiters_n;
    struct timer timer;
    struct link *link; /* what is under way */
};

/* One socket for one try. */
struct link {
    union {
        uv_handle_t handle;
        uv_udp_t udp;
        uv_tcp_t tcp;
    } h;
    struct ask *ask; /* NULL: closing */
    uv_connect_t connect;
    uv_write_t write;
    struct buf out, in;
    bool is_tcp;
};

static int64_t now_ms(const struct dns_upstream *u) {
    return u->o.now_ms ? u->o.now_ms() : time_mono_ms();
}

/* --- the name servers ------------------------------------------------------------------------------------------- */

static bool server_set(struct server *out, const char *text, uint16_t port) {
    return uv_ip4_addr(text, port, (struct sockaddr_in *)&out->addr) == 0 ||
           uv_ip6_addr(text, port, (struct sockaddr_in6 *)&out->addr) == 0;
}

/* Ourselves, or the stub that may ask us: a question would never come to its end. */
static bool leads_back(const struct dns_upstream *u, const struct server *s) {
    const struct sockaddr_in *in = (const struct sockaddr_in *)&s->addr;
    return in->sin_family == AF_INET &&
           (in->sin_addr.s_addr == u->o.own_address_be || in->sin_addr.s_addr == htonl(STUB_RESOLVER));
}

static void read_servers(struct dns_upstream *u, const char *path, bool *stub) {
    cleanup_buf struct buf text = {.limit = RESOLV_CONF_MAX};
    u->servers_n = 0;
    *stub = false;
    if (file_read(path, &text, NULL) < 0)
        return;
    struct str rest = buf_str(&text);
    while (rest.p && u->servers_n < SERVERS_MAX) {
        struct str line = str_trim(str_split(&rest, '\n')), word = STR("nameserver");
        char address[64];
        struct server s = {0};
        if (!str_starts(line, word) || line.n <= word.n || (line.p[word.n] != ' ' && line.p[word.n] != '\t'))
            continue;
        line = str_trim(str_skip(line, word.n));
        size_t n = strcspn(line.p, " \t\r\n#;");
        n = MIN(n, line.n);
        if (n == 0 || n >= sizeof(address))
            continue;
        memcpy(address, line.p, n);
        address[n] = 0;
        if (!server_set(&s, address, u->o.port ? u->o.port : 53))
            continue;
        if (leads_back(u, &s))
            *stub = true;
        else
            u->servers[u->servers_n++] = s;
    }
}

/* Reads the file again when it is another one than before. */
static void refresh_servers(struct dns_upstream *u) {
    struct stat st;
    bool stub;
    int64_t now = now_ms(u);
    if (u->known && now - u->checked_ms < CHECK_MS)
        return;
    u->checked_ms = now;
    if (stat(u->resolv_conf, &st) < 0)
        return; /* being replaced: what was in it holds on */
    if (u->known && st.st_mtim.tv_sec == u->mtime.tv_sec && st.st_mtim.tv_nsec == u->mtime.tv_nsec)
        return;
    u->mtime = st.st_mtim;
    u->known = true;
    read_servers(u, u->resolv_conf, &stub);
    if (u->servers_n == 0 && stub)
        read_servers(u, RESOLVED_CONF, &stub);
    if (u->servers_n == 0)
        log_warn("cluster", "DNS: %s names no server to ask for names outside the cluster", u->resolv_conf);
}

/* --- asks ------------------------------------------------------------------------------------------------------- */

static void ask_try(struct ask *a);

static void link_closed(uv_handle_t *h) {
    struct link *l = CONTAINER_OF(h, struct link, h.handle);
    buf_fini(&l->in);
    buf_fini(&l->out);
    free(l);
}

static void link_close(struct ask *a) {
    struct link *l = a->link;
    if (!l)
        return;
    a->link = NULL;
    l->ask = NULL;
    uv_close(&l->h.handle, link_closed);
}

static void ask_free(struct ask *a) {
    timer_stop(&a->timer);
    link_close(a);
    free(a);
}

/* Tells everybody; kept NULL: what is in the cache but old, or nothing. */
static void ask_done(struct ask *a, const struct dns_kept *kept) {
    struct dns_upstream *u = a->u;
    struct dns_kept stale;
    if (!kept && dns_cache_stale(&u->cache, str_n(a->key, a->key_n), now_ms(u), &stale))
        kept = &stale;
    map_del(&u->asks, str_n(a->key, a->key_n));
    timer_stop(&a->timer);
    for (struct list *l; (l = list_pop_front(&a->waiters));) {
        struct dns_wait *w = LIST_ITEM(l, struct dns_wait, link);
        w->fn(w, kept);
    }
    ask_free(a);
}

/* The whole of an answer that is ours; takes the buffer's memory. */
static void ask_take(struct ask *a, struct buf *message) {
    struct dns_kept kept = {0};
    struct dns_upstream *u = a->u;
    cleanup_buf struct buf own = *message;
    *message = (struct buf){.limit = message->limit};
    if (!dns_answer_clean(&own)) {
        ask_try(a);
        return;
    }
    kept.message = buf_str(&own);
    dns_cache_put(&u->cache, str_n(a->key, a->key_n), kept.message, dns_answer_ttl(kept.message), now_ms(u));
    ask_done(a, &kept);
}

static bool is_ours(const struct ask *a, struct str message, struct dns_reader *r) {
    return dns_reader_begin(r, message) && r->id == a->id && r->type == a->type && dns_name_equal(&r->name, &a->name);
}

static void ask_tcp(struct ask *a);

/* The server's answer; false when it is none (and by UDP perhaps somebody else's). */
static bool ask_hear(struct ask *a, struct buf *message, bool is_tcp, bool cut) {
    struct dns_reader r;
    if (!is_ours(a, buf_str(message), &r)) {
        /* A server that knows no EDNS may send nothing but its header. */
        bool refused = message->n == DNS_HEADER && !a->plain && (message->p[3] & 0xf) == DNS_FORMERR &&
                       (unsigned char)message->p[0] == a->id >> 8 && (unsigned char)message->p[1] == (a->id & 0xff);
        if (!refused)
            return false;
        r.rcode = DNS_FORMERR;
        r.flags = 0;
    }
    if ((r.rcode == DNS_FORMERR || r.rcode == DNS_NOTIMP) && !a->plain) {
        a->plain = true;
        a->tries--; /* the same server once more */
        ask_try(a);
    } else if (r.rcode != DNS_NOERROR && r.rcode != DNS_NXDOMAIN) {
        ask_try(a);
    } else if (((r.flags & DNS_TC) || cut) && !is_tcp) {
        ask_tcp(a);
    } else {
        ask_take(a, message);
    }
    return true;
}

static struct link *link_new(struct ask *a, bool is_tcp) {
    struct link *l = XNEW(struct link);
    link_close(a);
    l->ask = a;
    l->is_tcp = is_tcp;
    buf_init(&l->out, 1024);
    buf_init(&l->in, is_tcp ? DNS_MESSAGE_MAX + 2 : 2048);
    if (is_tcp)
        uv_tcp_init(loop_uv(a->u->o.loop), &l->h.tcp);
    else
        uv_udp_init(loop_uv(a->u->o.loop), &l->h.udp);
    a->link = l;
    return l;
}

static const struct sockaddr *server_of(const struct ask *a) {
    return (const struct sockaddr *)&a->servers[(a->tries - 1) % a->servers_n].addr;
}

static void write_query(struct ask *a, struct buf *out) {
    rand_bytes(&a->id, sizeof(a->id));
    dns_query_write(out, a->id, &a->name, a->type, !a->plain, a->dnssec_ok);
}

static void set_timeout(struct ask *a) {
    timer_set(&a->timer, a->u->o.timeout_ms ? a->u->o.timeout_ms : 2000, 50);
}

/* --- by UDP ----------------------------------------------------------------------------------------------------- */

static void on_udp_room(uv_handle_t *h, size_t suggested, uv_buf_t *out) {
    struct link *l = CONTAINER_OF(h, struct link, h.handle);
    const size_t room = 1536;
    (void)suggested;
    buf_reset(&l->in);
    char *p = buf_reserve(&l->in, room);
    *out = uv_buf_init(p, p ? (unsigned)room : 0);
}

static void on_udp(uv_udp_t *h, ssize_t n, const uv_buf_t *data, const struct sockaddr *from, unsigned flags) {
    struct link *l = CONTAINER_OF(h, struct link, h.udp);
    (void)data;
    if (!l->ask || (n == 0 && !from))
        return;
    if (n < 0) { /* nobody there: no need to wait */
        ask_try(l->ask);
        return;
    }
    l->in.n = (size_t)n;
    ask_hear(l->ask, &l->in, false, flags & UV_UDP_PARTIAL); /* what is not from there is not heard */
}

static bool udp_send(struct ask *a) {
    struct link *l = link_new(a, false);
    write_query(a, &l->out);
    uv_buf_t piece = uv_buf_init(l->out.p, (unsigned)l->out.n);
    /* Connected, the kernel lets nothing through but what comes from the server. */
    return uv_udp_connect(&l->h.udp, server_of(a)) == 0 && uv_udp_recv_start(&l->h.udp, on_udp_room, on_udp) == 0 &&
           uv_udp_try_send(&l->h.udp, &piece, 1, NULL) >= 0;
}

/* The next server, or the end. */
static void ask_try(struct ask *a) {
    while (a->tries++ < a->servers_n * ROUNDS) {
        if (udp_send(a)) {
            set_timeout(a);
            return;
        }
    }
    link_close(a);
    ask_done(a, NULL);
}

static void on_timeout(void *arg) {
    ask_try(arg);
}

/* --- by TCP ----------------------------------------------------------------------------------------------------- */

static void on_tcp_room(uv_handle_t *h, size_t suggested, uv_buf_t *out) {
    struct link *l = CONTAINER_OF(h, struct link, h.handle);
    size_t room = MIN(l->in.limit - l->in.n, (size_t)4096);
    char *p = room ? buf_reserve(&l->in, room) : NULL;
    (void)suggested;
    *out = uv_buf_init(p, p ? (unsigned)room : 0);
}

static void on_tcp(uv_stream_t *s, ssize_t n, const uv_buf_t *data) {
    struct link *l = CONTAINER_OF((uv_tcp_t *)s, struct link, h.tcp);
    (void)data;
    if (!l->ask)
        return;
    if (n < 0) {
        ask_try(l->ask);
        return;
    }
    l->in.n += (size_t)n;
    if (l->in.n < 2)
        return;
    size_t whole = (size_t)(unsigned char)l->in.p[0] << 8 | (unsigned char)l->in.p[1];
    if (l->in.n < 2 + whole)
        return;
    buf_consume(&l->in, 2);
    l->in.n = whole;
    if (!ask_hear(l->ask, &l->in, true, false))
        ask_try(l->ask);
}

static void on_written(uv_write_t *req, int status) {
    struct link *l = CONTAINER_OF(req, struct link, write);
    if (status < 0 && l->ask)
        ask_try(l->ask);
}

static void on_connected(uv_connect_t *req, int status) {
    struct link *l = CONTAINER_OF(req, struct link, connect);
    if (!l->ask)
        return;
    uv_buf_t piece = uv_buf_init(l->out.p, (unsigned)l->out.n);
    if (status < 0 || uv_read_start((uv_stream_t *)&l->h.tcp, on_tcp_room, on_tcp) < 0 ||
        uv_write(&l->write, (uv_stream_t *)&l->h.tcp, &piece, 1, on_written) < 0)
        ask_try(l->ask);
}

static void ask_tcp(struct ask *a) {
    struct link *l = link_new(a, true);
    buf_put(&l->out, "\0", 2);
    write_query(a, &l->out);
    l->out.p[0] = (char)((l->out.n - 2) >> 8);
    l->out.p[1] = (char)(l->out.n - 2);
    set_timeout(a);
    if (uv_tcp_connect(&l->connect, &l->h.tcp, server_of(a), on_connected) < 0)
        ask_try(a);
}

/* --- what others call ------------------------------------------------------------------------------------------- */

bool dns_upstream_cached(struct dns_upstream *u, const struct dns_name *name, uint16_t type, bool dnssec_ok,
                         struct dns_kept *out) {
    char key[DNS_KEY_MAX];
    return dns_cache_get(&u->cache, dns_cache_key(key, name, type, dnssec_ok), now_ms(u), out);
}

int dns_upstream_ask(struct dns_upstream *u, const struct dns_name *name, uint16_t type, bool dnssec_ok,
                     struct dns_wait *w) {
    char room[DNS_KEY_MAX];
    struct str key = dns_cache_key(room, name, type, dnssec_ok);
    struct ask *a = map_get(&u->asks, key);
    if (a && a->waiters_n >= WAITERS_MAX)
        return -EBUSY;
    if (!a) {
        if (u->asks.n >= ASKS_MAX)
            return -EBUSY;
        refresh_servers(u);
        if (u->servers_n == 0)
            return -ENOENT;
        a = XNEW(struct ask);
        *a = (struct ask){.u = u, .key_n = key.n, .name = *name, .type = type, .dnssec_ok = dnssec_ok};
        memcpy(a->key, key.p, key.n);
        memcpy(a->servers, u->servers, sizeof(a->servers));
        a->servers_n = (unsigned)u->servers_n;
        list_init(&a->waiters);
        timer_init(&a->timer, u->o.loop, on_timeout, a);
        map_set(&u->asks, key, a);
        /* When nothing can be sent at all, the timer tells so: never inline. */
        a->tries = 1;
        if (udp_send(a))
            set_timeout(a);
        else
            timer_set(&a->timer, 1, 0);
    }
    a->waiters_n++;
    list_push_back(&a->waiters, &w->link);
    return 0;
}

struct dns_upstream *dns_upstream_new(const struct dns_upstream_options *o) {
    struct dns_upstream *u = XNEW(struct dns_upstream);
    u->o = *o;
    u->resolv_conf = xstrdup(o->resolv_conf);
    dns_cache_init(&u->cache, o->cache_max ? o->cache_max : UPSTREAM_CACHE_MAX);
    return u;
}

void dns_upstream_free(struct dns_upstream *u) {
    struct map_entry *e;
    for (size_t i = 0; (e = map_next(&u->asks, &i));) {
        struct ask *a = e->value;
        while (list_pop_front(&a->waiters))
            ;
        ask_free(a);
    }
    map_fini(&u->asks);
    dns_cache_fini(&u->cache);
    free(u->resolv_conf);
    free(u);
}
