/*
 * Services to nftables. Every Service port has a chain with one balancing rule; map elements lead to it. What the kernel
 * holds is remembered port by port, and a change sends only the difference, all changes of a loop turn in one
 * transaction.
 */
#include "cluster/cluster_priv.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>

#define ADDRESSES_MAX 16 /* cluster IP, external IPs, load balancer IPs */

/* One port of one Service as it should be, and as the kernel holds it. */
struct port {
    uint8_t protocol;
    uint16_t port, node_port;          /* node_port 0: none */
    uint32_t addresses[ADDRESSES_MAX]; /* network order */
    size_t addresses_n;
    struct nft_endpoint *endpoints; /* malloc'ed */
    size_t endpoints_n;
    uint32_t sticky_s; /* 0: no affinity */
    char chain[32];    /* "svc-<hash>"; with "-np" behind it for its NodePort */
};

struct port_list {
    struct port *items;
    size_t n, cap;
};

struct service {
    struct str ns, name; /* in text */
    struct port_list applied;
    bool dirty;
    struct list link; /* in services->dirty */
    char text[];
};

struct services {
    struct cluster *c;
    struct client_informer *services, *slices;
    struct map all;        /* "ns/name" -> service */
    struct map by_service; /* "ns/name" -> slices of it: struct slice_list */
    struct list dirty;
    bool services_synced, slices_synced, scheduled, stopped;
};

struct slice_list {
    VEC(struct object *) items; /* references */
};

static struct str key_of(char room[600], struct str ns, struct str name) {
    int n = snprintf(room, 600, "%.*s/%.*s", STR_ARG(ns), STR_ARG(name));
    return str_n(room, MIN((size_t)n, (size_t)599));
}

/* --- desired state ---------------------------------------------------------------------------------------------- */

static uint8_t protocol_number(struct str s) {
    return str_eq(s, STR("UDP")) ? IPPROTO_UDP : str_eq(s, STR("SCTP")) ? IPPROTO_SCTP : IPPROTO_TCP;
}

static void add_address(struct port *p, struct str text) {
    uint32_t v;
    if (p->addresses_n < ADDRESSES_MAX && ipv4_parse(text, &v))
        p->addresses[p->addresses_n++] = htonl(v);
}

struct endpoint_search {
    struct services *s;
    struct str port_name;
    uint8_t protocol;
    bool local_only;
    VEC(struct nft_endpoint) ready, leaving; /* leaving: terminating but serving, the last resort */
};

static int64_t slice_port(const struct json *slice, const struct endpoint_search *q) {
    const struct json *ports = json_get_c(slice, "ports");
    for (size_t i = 0; i < json_len(ports); i++) {
        const struct json *p = json_item(ports, i);
        if (str_eq(json_str_at(p, "name"), q->port_name) && protocol_number(json_str_at(p, "protocol")) == q->protocol)
            return json_int_at(p, "port", 0);
    }
    return 0;
}

static bool search_slice(void *arg, struct object *o) {
    struct endpoint_search *q = arg;
    const struct json *slice = object_json(o), *list = json_get_c(slice, "endpoints");
    int64_t port = slice_port(slice, q);
    if (port <= 0 || port > 65535 || !str_eq(json_str_at(slice, "addressType"), STR("IPv4")))
        return true;
    for (size_t i = 0; i < json_len(list); i++) {
        const struct json *e = json_item(list, i);
        uint32_t v;
        if (!ipv4_parse(json_as_str(json_item(json_get_c(e, "addresses"), 0)), &v))
            continue;
        if (q->local_only && !str_eq_c(json_str_at(e, "nodeName"), q->s->c->node_name))
            continue;
        struct nft_endpoint ep = {htonl(v), (uint16_t)port};
        if (json_bool_at(e, "conditions.ready", true))
            vec_push(&q->ready, ep);
        else if (json_bool_at(e, "conditions.serving", false) && json_bool_at(e, "conditions.terminating", false))
            vec_push(&q->leaving, ep);
    }
    return true;
}

static int by_endpoint(const void *x, const void *y) {
    const struct nft_endpoint *a = x, *b = y;
    if (a->ip_be != b->ip_be)
        return ntohl(a->ip_be) < ntohl(b->ip_be) ? -1 : 1;
    return (int)a->port - (int)b->port;
}

static void find_endpoints(struct services *s, struct object *svc, const struct json *port, struct port *out) {
    const struct json *spec = json_get_c(object_json(svc), "spec");
    struct endpoint_search q = {.s = s,
                                .port_name = json_str_at(port, "name"),
                                .protocol = out->protocol,
                                .local_only = str_eq(json_str_at(spec, "internalTrafficPolicy"), STR("Local"))};
    services_each_slice(s, svc->ns, svc->name, search_slice, &q);
    bool last_resort = q.ready.n == 0;
    out->endpoints = last_resort ? q.leaving.items : q.ready.items;
    out->endpoints_n = last_resort ? q.leaving.n : q.ready.n;
    free(last_resort ? q.ready.items : q.leaving.items);
    if (out->endpoints_n)
        qsort(out->endpoints, out->endpoints_n, sizeof(*out->endpoints), by_endpoint);
}

static void name_chain(struct port *p, const struct object *svc) {
    char text[700];
    int n = snprintf(text, sizeof(text), "%.*s/%.*s/%u/%u", STR_ARG(svc->ns), STR_ARG(svc->name), (unsigned)p->protocol,
                     (unsigned)p->port);
    uint64_t h = 14695981039346656037u; /* stable over restarts, unlike str_hash */
    for (int i = 0; i < n; i++)
        h = (h ^ (unsigned char)text[i]) * 1099511628211u;
    snprintf(p->chain, sizeof(p->chain), "svc-%016llx", (unsigned long long)h);
}

static void desired_port(struct services *s, struct object *svc, const struct json *port, struct port *p) {
    const struct json *o = object_json(svc), *spec = json_get_c(o, "spec");
    const struct json *external = json_get_c(spec, "externalIPs"), *lb = json_at(o, "status.loadBalancer.ingress");
    *p = (struct port){.protocol = protocol_number(json_str_at(port, "protocol")),
                       .port = (uint16_t)json_int_at(port, "port", 0),
                       .node_port = (uint16_t)json_int_at(port, "nodePort", 0)};
    add_address(p, json_str_at(spec, "clusterIP"));
    for (size_t i = 0; i < json_len(external); i++)
        add_address(p, json_as_str(json_item(external, i)));
    for (size_t i = 0; i < json_len(lb); i++)
        if (!str_eq(json_str_at(json_item(lb, i), "ipMode"), STR("Proxy")))
            add_address(p, json_str_at(json_item(lb, i), "ip"));
    if (str_eq(json_str_at(spec, "sessionAffinity"), STR("ClientIP")))
        p->sticky_s = (uint32_t)json_int_at(spec, "sessionAffinityConfig.clientIP.timeoutSeconds", 10800);
    name_chain(p, svc);
    find_endpoints(s, svc, port, p);
}

/* The cluster's DNS answers on a local address and needs no translation. */
static bool is_translated(const struct services *s, const struct json *svc) {
    struct str ip = json_str_at(svc, "spec.clusterIP");
    if (ip.n == 0 || str_eq(ip, STR("None")) || str_eq(json_str_at(svc, "spec.type"), STR("ExternalName")))
        return false;
    return !s->c->cluster_dns || !str_eq_c(ip, s->c->cluster_dns);
}

/* --- difference ------------------------------------------------------------------------------------------------- */

static bool same_endpoints(const struct port *a, const struct port *b) {
    return a->sticky_s == b->sticky_s && a->endpoints_n == b->endpoints_n &&
           (a->endpoints_n == 0 || memcmp(a->endpoints, b->endpoints, a->endpoints_n * sizeof(*a->endpoints)) == 0);
}

static bool same_elements(const struct port *a, const struct port *b) {
    return a->node_port == b->node_port && a->addresses_n == b->addresses_n && !a->endpoints_n == !b->endpoints_n &&
           memcmp(a->addresses, b->addresses, a->addresses_n * sizeof(*a->addresses)) == 0;
}

static void np_chain(char out[40], const struct port *p) {
    snprintf(out, 40, "%s-np", p->chain);
}

static void put_elements(struct nft_batch *b, const struct port *p, bool add) {
    char np[40];
    const char *map = p->endpoints_n ? "services" : "no-endpoints";
    for (size_t i = 0; i < p->addresses_n; i++) {
        struct nft_key k = nft_key_service(p->addresses[i], p->protocol, p->port);
        if (add)
            nft_element_add(b, map, &k, p->endpoints_n ? p->chain : "refuse");
        else
            nft_element_del(b, map, &k);
    }
    if (!p->node_port || !p->endpoints_n)
        return;
    struct nft_key k = nft_key_port(p->protocol, p->node_port);
    np_chain(np, p);
    if (add)
        nft_element_add(b, "nodeports", &k, np);
    else
        nft_element_del(b, "nodeports", &k);
}

static bool has_endpoint(const struct port *p, const struct nft_endpoint *e) {
    return p->endpoints_n && bsearch(e, p->endpoints, p->endpoints_n, sizeof(*e), by_endpoint);
}

/* (Re)writes the balancing chain; now: what the kernel holds, or NULL. */
static void put_chain(struct nft_batch *b, const struct port *p, const struct port *now) {
    nft_chain_add(b, p->chain, NULL, NFT_HOOK_PREROUTING, 0);
    if (now)
        nft_chain_flush(b, p->chain);
    if (p->sticky_s && p->endpoints_n)
        nft_rule_balance_sticky(b, p->chain, p->endpoints, p->endpoints_n, p->sticky_s);
    else if (p->endpoints_n)
        nft_rule_balance(b, p->chain, p->endpoints, p->endpoints_n);
    for (size_t i = 0; now && now->sticky_s && i < now->endpoints_n; i++)
        if (!p->sticky_s || p->sticky_s != now->sticky_s || !has_endpoint(p, &now->endpoints[i]))
            nft_sticky_del(b, p->chain, &now->endpoints[i]);
}

/* NodePorts come from outside: the answer must find its way back through this node. */
static void put_np_chain(struct nft_batch *b, const struct port *p) {
    char np[40];
    np_chain(np, p);
    nft_chain_add(b, np, NULL, NFT_HOOK_PREROUTING, 0);
    nft_rule_begin(b, np);
    nft_jump(b, table_masquerade_chain);
    nft_rule_end(b);
    nft_rule_begin(b, np);
    nft_goto(b, p->chain);
    nft_rule_end(b);
}

static void del_np_chain(struct nft_batch *b, const struct port *p) {
    char np[40];
    np_chain(np, p);
    nft_chain_flush(b, np);
    nft_chain_del(b, np);
}

static void put_port(struct nft_batch *b, const struct port *p, const struct port *now) {
    bool elements = !now || !same_elements(p, now);
    if (now && elements)
        put_elements(b, now, false);
    if (now && now->node_port && !p->node_port)
        del_np_chain(b, p);
    if (!now || !same_endpoints(p, now))
        put_chain(b, p, now);
    if (p->node_port && (!now || !now->node_port))
        put_np_chain(b, p);
    if (elements)
        put_elements(b, p, true);
}

static void del_port(struct nft_batch *b, const struct port *p) {
    put_elements(b, p, false);
    if (p->node_port)
        del_np_chain(b, p);
    nft_chain_flush(b, p->chain);
    for (size_t i = 0; p->sticky_s && i < p->endpoints_n; i++)
        nft_sticky_del(b, p->chain, &p->endpoints[i]);
    nft_chain_del(b, p->chain);
}

static void clear_applied(struct service *svc) {
    for (size_t i = 0; i < svc->applied.n; i++)
        free(svc->applied.items[i].endpoints);
    vec_fini(&svc->applied);
}

/* Brings one Service up to date; fresh: the table is new and holds nothing of it. */
static void sync_service(struct services *s, struct service *svc, struct nft_batch *b, bool fresh) {
    struct object *o = services_find(s, svc->ns, svc->name);
    struct port_list wanted = {0};
    const struct json *ports = o && is_translated(s, object_json(o)) ? json_at(object_json(o), "spec.ports") : NULL;
    for (size_t i = 0; i < json_len(ports); i++) {
        struct port p;
        desired_port(s, o, json_item(ports, i), &p);
        vec_push(&wanted, p);
    }
    if (fresh)
        clear_applied(svc);
    for (size_t k = 0; k < svc->applied.n; k++) { /* ports that went, before others take their elements */
        bool kept = false;
        for (size_t i = 0; i < wanted.n; i++)
            kept |= strcmp(wanted.items[i].chain, svc->applied.items[k].chain) == 0;
        if (!kept)
            del_port(b, &svc->applied.items[k]);
    }
    for (size_t i = 0; i < wanted.n; i++) {
        const struct port *now = NULL;
        for (size_t k = 0; k < svc->applied.n && !now; k++)
            if (strcmp(wanted.items[i].chain, svc->applied.items[k].chain) == 0)
                now = &svc->applied.items[k];
        put_port(b, &wanted.items[i], now);
    }
    clear_applied(svc);
    svc->applied = wanted;
}

/* --- transactions ----------------------------------------------------------------------------------------------- */

static void forget_if_gone(struct services *s, struct service *svc) {
    char room[600];
    if (svc->applied.n || services_find(s, svc->ns, svc->name))
        return;
    map_del(&s->all, key_of(room, svc->ns, svc->name));
    clear_applied(svc);
    free(svc);
}

static void rebuild(struct services *s);

static void run_sync(void *arg) {
    struct services *s = arg;
    struct cluster *c = s->c;
    struct error err = {0};
    struct nft_batch b;
    s->scheduled = false;
    if (s->stopped) {
        free(s);
        return;
    }
    if (!c->table_ready) {
        rebuild(s);
        return;
    }
    nft_batch_begin(&b, c->table);
    size_t empty = b.msg.buf.n;
    struct list done = LIST_INIT(done);
    for (struct list *l; (l = list_pop_front(&s->dirty));) {
        struct service *svc = LIST_ITEM(l, struct service, link);
        svc->dirty = false;
        sync_service(s, svc, &b, false);
        list_push_back(&done, &svc->link);
    }
    int rc = 0;
    if (b.msg.buf.n == empty)
        nft_batch_abort(&b);
    else
        rc = nft_batch_commit(&b, &c->nft, &err);
    for (struct list *l; (l = list_pop_front(&done));)
        forget_if_gone(s, LIST_ITEM(l, struct service, link));
    if (rc < 0) { /* the kernel kept all of what it had: what we remember is wrong, so write everything anew */
        log_error("cluster", "services: %s; writing the whole table", err.msg);
        rebuild(s);
    }
}

/* One transaction that replaces the table by what should be in it. */
static void rebuild(struct services *s) {
    struct cluster *c = s->c;
    struct error err = {0};
    struct nft_batch b;
    if (!s->services_synced || !s->slices_synced || c->stopping)
        return;
    nft_batch_begin(&b, c->table);
    nft_table_add(&b); /* so that removing it cannot fail */
    nft_table_del(&b);
    nft_table_add(&b);
    table_build(c, &b);
    services_build(s, &b);
    host_ports_build(c, &b);
    int rc = nft_batch_commit(&b, &c->nft, &err);
    c->table_ready = rc == 0;
    if (rc < 0)
        log_error("cluster", "%s", err.msg);
    cluster_progress(c, rc, &err);
}

void services_build(struct services *s, struct nft_batch *b) {
    struct map_entry *e;
    while (list_pop_front(&s->dirty))
        ;
    for (size_t i = 0; (e = map_next(&s->all, &i));) {
        struct service *svc = e->value;
        svc->dirty = false;
        sync_service(s, svc, b, true);
    }
}

/* --- informers -------------------------------------------------------------------------------------------------- */

static void mark_dirty(struct services *s, struct str ns, struct str name) {
    char room[600];
    struct str key = key_of(room, ns, name);
    struct service *svc = map_get(&s->all, key);
    if (!svc) {
        svc = xcalloc(1, sizeof(*svc) + ns.n + name.n);
        memcpy(svc->text, ns.p, ns.n);
        memcpy(svc->text + ns.n, name.p, name.n);
        svc->ns = str_n(svc->text, ns.n);
        svc->name = str_n(svc->text + ns.n, name.n);
        list_init(&svc->link);
        map_set(&s->all, key, svc);
    }
    if (svc->dirty)
        return;
    svc->dirty = true;
    list_push_back(&s->dirty, &svc->link);
    if (!s->scheduled && s->services_synced && s->slices_synced) {
        s->scheduled = true;
        loop_post(s->c->o.loop, run_sync, s);
    }
}

static void synced(struct services *s) {
    if (s->services_synced && s->slices_synced && !s->scheduled) {
        s->scheduled = true;
        loop_post(s->c->o.loop, run_sync, s);
    }
}

static void on_service(void *arg, enum informer_event e, struct object *o, struct object *old) {
    struct services *s = arg;
    (void)old;
    if (e == INFORMER_SYNCED) {
        s->services_synced = true;
        synced(s);
        return;
    }
    mark_dirty(s, o->ns, o->name);
}

static struct str service_of_slice(struct object *o) {
    return json_as_str(json_get_c(json_at(object_json(o), "metadata.labels"), "kubernetes.io/service-name"));
}

static void slice_list_change(struct services *s, struct object *o, struct str service, bool add) {
    char room[600];
    struct str key = key_of(room, o->ns, service);
    struct slice_list *l = map_get(&s->by_service, key);
    if (!l && !add)
        return;
    if (!l)
        map_set(&s->by_service, key, l = XNEW(struct slice_list));
    for (size_t i = 0; i < l->items.n; i++)
        if (str_eq(l->items.items[i]->name, o->name)) {
            object_unref(l->items.items[i]);
            vec_remove(&l->items, i);
            break;
        }
    if (add)
        vec_push(&l->items, object_ref(o));
    if (l->items.n == 0) {
        map_del(&s->by_service, key);
        vec_fini(&l->items);
        free(l);
    }
}

static void on_slice(void *arg, enum informer_event e, struct object *o, struct object *old) {
    struct services *s = arg;
    if (e == INFORMER_SYNCED) {
        s->slices_synced = true;
        synced(s);
        return;
    }
    struct str service = service_of_slice(o), before = old ? service_of_slice(old) : STR("");
    if (before.n && !str_eq(before, service)) {
        slice_list_change(s, old, before, false);
        mark_dirty(s, o->ns, before);
    }
    if (service.n) {
        slice_list_change(s, o, service, e != INFORMER_DELETED);
        mark_dirty(s, o->ns, service);
    }
}

/* --- what others ask -------------------------------------------------------------------------------------------- */

struct object *services_find(struct services *s, struct str ns, struct str name) {
    return client_informer_get(s->services, ns, name);
}

void services_each(struct services *s, bool (*each)(void *arg, struct object *svc), void *arg) {
    client_informer_each(s->services, each, arg);
}

void services_each_slice(struct services *s, struct str ns, struct str name,
                         bool (*each)(void *arg, struct object *slice), void *arg) {
    char room[600];
    struct slice_list *l = map_get(&s->by_service, key_of(room, ns, name));
    for (size_t i = 0; l && i < l->items.n; i++)
        if (!each(arg, l->items.items[i]))
            return;
}

bool services_synced(const struct services *s) {
    return s->services_synced && s->slices_synced;
}

struct services *services_start(struct cluster *c) {
    struct services *s = XNEW(struct services);
    s->c = c;
    list_init(&s->dirty);
    s->services = client_informer(
        c->o.client, &(struct informer_options){.resource = "services", .loop = c->o.loop, .fn = on_service, .arg = s});
    s->slices = client_informer(c->o.client, &(struct informer_options){.resource = "endpointslices.discovery.k8s.io",
                                                                        .loop = c->o.loop,
                                                                        .fn = on_slice,
                                                                        .arg = s});
    return s;
}

void services_stop(struct services *s) {
    struct map_entry *e;
    client_informer_stop(s->services);
    client_informer_stop(s->slices);
    for (size_t i = 0; (e = map_next(&s->all, &i));) {
        clear_applied(e->value);
        free(e->value);
    }
    map_fini(&s->all);
    for (size_t i = 0; (e = map_next(&s->by_service, &i));) {
        struct slice_list *l = e->value;
        for (size_t k = 0; k < l->items.n; k++)
            object_unref(l->items.items[k]);
        vec_fini(&l->items);
        free(l);
    }
    map_fini(&s->by_service);
    s->stopped = true;
    if (!s->scheduled) /* else the posted run frees it */
        free(s);
}
