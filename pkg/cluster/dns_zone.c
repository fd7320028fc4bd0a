#include "cluster/dns_zone.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>

#define PARTS_MAX 6        /* labels in front of the domain that can mean anything */
#define ENDPOINTS_MAX 2000 /* in one answer */
#define CHAIN_MAX 8        /* CNAMEs followed inside the zone */
#define REVERSE "in-addr.arpa"

struct endpoint {
    uint32_t ip_be;
    struct str hostname;
    const struct json *ports; /* of its slice */
};

/* One question on its way. */
struct answer {
    const struct dns_zone *z;
    struct dns_builder *b;
    struct dns_name owner;
    uint16_t type;
    struct dns_name target; /* of a CNAME that was put: goes on there */
};

/* What a question may come to, besides records. */
enum found { NO_NAME, NAME };

/* --- names ------------------------------------------------------------------------------------------------------ */

static void text_name(struct dns_name *out, const char *domain, const char *fmt, ...) PRINTF_LIKE(3, 4);
static void text_name(struct dns_name *out, const char *domain, const char *fmt, ...) {
    char text[1024];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    if (n >= 0 && (size_t)n < sizeof(text))
        snprintf(text + n, sizeof(text) - (size_t)n, "%s%s", n ? "." : "", domain);
    if (n < 0 || !dns_name_set(out, str_c(text)))
        out->n = 0;
}

static void domain_text(const struct dns_zone *z, char out[DNS_NAME_MAX + 1]) {
    dns_name_text(&z->domain, out);
}

static void dashed(char out[16], uint32_t ip_be) {
    inet_ntop(AF_INET, &ip_be, out, 16);
    for (char *p = out; *p; p++)
        if (*p == '.')
            *p = '-';
}

static void endpoint_name(const struct answer *a, const struct endpoint *e, struct str ns, struct str svc,
                          struct dns_name *out) {
    char domain[DNS_NAME_MAX + 1], ip[16];
    domain_text(a->z, domain);
    dashed(ip, e->ip_be);
    struct str host = e->hostname.n ? e->hostname : str_c(ip);
    text_name(out, domain, "%.*s.%.*s.%.*s.svc", STR_ARG(host), STR_ARG(svc), STR_ARG(ns));
}

static void service_name(const struct answer *a, struct str ns, struct str svc, struct dns_name *out) {
    char domain[DNS_NAME_MAX + 1];
    domain_text(a->z, domain);
    text_name(out, domain, "%.*s.%.*s.svc", STR_ARG(svc), STR_ARG(ns));
}

static bool reverse_address(const struct dns_name *name, uint32_t *host_order) {
    char text[DNS_NAME_MAX + 1];
    uint32_t backwards;
    dns_name_text(name, text);
    struct str s = str_c(text);
    if (!str_ends(s, STR("." REVERSE)))
        return false;
    s.n -= sizeof("." REVERSE) - 1;
    if (!ipv4_parse(s, &backwards))
        return false;
    *host_order = __builtin_bswap32(backwards);
    return true;
}

static const struct ipv4_net *reverse_net(const struct dns_zone *z, const struct dns_name *name, uint32_t *address) {
    if (!reverse_address(name, address))
        return NULL;
    for (size_t i = 0; i < ARRAY_LEN(z->nets); i++)
        if (z->nets[i].mask && (*address & z->nets[i].mask) == z->nets[i].base)
            return &z->nets[i];
    return NULL;
}

bool dns_zone_has(const struct dns_zone *z, const struct dns_name *name) {
    uint32_t address;
    return dns_name_below(name, &z->domain, NULL) || reverse_net(z, name, &address);
}

/* --- endpoints -------------------------------------------------------------------------------------------------- */

struct endpoints {
    VEC(struct endpoint) items;
};

static bool add_slice(void *arg, const struct json *slice) {
    struct endpoints *l = arg;
    const struct json *list = json_get_c(slice, "endpoints");
    if (!str_eq(json_str_at(slice, "addressType"), STR("IPv4")))
        return true;
    for (size_t i = 0; i < json_len(list) && l->items.n < ENDPOINTS_MAX; i++) {
        const struct json *e = json_item(list, i);
        uint32_t ip;
        /* publishNotReadyAddresses makes whoever writes slices set it for all. */
        if (!json_bool_at(e, "conditions.ready", true) ||
            !ipv4_parse(json_as_str(json_item(json_get_c(e, "addresses"), 0)), &ip))
            continue;
        struct endpoint ep = {htonl(ip), json_str_at(e, "hostname"), json_get_c(slice, "ports")};
        vec_push(&l->items, ep);
    }
    return true;
}

static void get_endpoints(const struct answer *a, struct str ns, struct str svc, struct endpoints *out) {
    *out = (struct endpoints){0};
    a->z->source.each_slice(a->z->source.arg, ns, svc, add_slice, out);
}

/* Different clients should begin with different addresses. */
static size_t first_of(size_t n) {
    return n > 1 ? (size_t)rand_below(n) : 0;
}

static bool is_seen(const struct endpoints *l, size_t upto, uint32_t ip_be) {
    for (size_t i = 0; i < upto; i++)
        if (l->items.items[i].ip_be == ip_be)
            return true;
    return false;
}

/* A of every endpoint called `host` (p NULL: of all); an address counts once though it may stand in several slices. */
static enum found put_endpoints(struct answer *a, struct str ns, struct str svc, struct str host) {
    struct endpoints l;
    enum found found = NO_NAME;
    get_endpoints(a, ns, svc, &l);
    size_t first = first_of(l.items.n);
    for (size_t i = 0; i < l.items.n; i++) {
        size_t at = (first + i) % l.items.n;
        const struct endpoint *e = &l.items.items[at];
        char ip[16];
        dashed(ip, e->ip_be);
        if ((host.p && !str_eq_nocase(host, e->hostname.n ? e->hostname : str_c(ip))) || is_seen(&l, at, e->ip_be))
            continue;
        found = NAME;
        if (a->type == DNS_A || a->type == DNS_ANY)
            dns_put_a(a->b, DNS_ANSWER, &a->owner, ZONE_TTL, e->ip_be);
    }
    vec_fini(&l.items);
    return found;
}

/* --- SRV -------------------------------------------------------------------------------------------------------- */

struct port_filter {
    struct str name, protocol; /* p NULL: any */
};

static bool port_wanted(const struct port_filter *f, const struct json *port) {
    struct str protocol = json_str_at(port, "protocol"), name = json_str_at(port, "name");
    if (!f->name.p)
        return name.n != 0; /* a port without a name has no SRV */
    return str_eq_nocase(f->name, name) && str_eq_nocase(f->protocol, protocol.n ? protocol : STR("TCP"));
}

static uint16_t weight_of(size_t n) {
    return n ? (uint16_t)MAX((size_t)1, 100 / n) : 1;
}

static enum found srv_of_cluster_ip(struct answer *a, struct str ns, struct str svc, const struct json *o,
                                    const struct port_filter *f, uint32_t ip) {
    const struct json *ports = json_at(o, "spec.ports");
    struct dns_name target;
    size_t n = 0;
    service_name(a, ns, svc, &target);
    for (size_t i = 0; i < json_len(ports); i++)
        n += port_wanted(f, json_item(ports, i));
    for (size_t i = 0; i < json_len(ports) && (a->type == DNS_SRV || a->type == DNS_ANY); i++)
        if (port_wanted(f, json_item(ports, i)))
            dns_put_srv(a->b, DNS_ANSWER, &a->owner, ZONE_TTL, weight_of(n),
                        (uint16_t)json_int_at(json_item(ports, i), "port", 0), &target);
    if (n && a->type == DNS_SRV)
        dns_put_a(a->b, DNS_ADDITIONAL, &target, ZONE_TTL, htonl(ip));
    return n || !f->name.p ? NAME : NO_NAME;
}

/* Whether an endpoint before this one has the same address and port: it may stand in several slices. */
static bool is_port_seen(const struct endpoints *l, size_t upto, const struct port_filter *f, int64_t number) {
    for (size_t i = 0; i < upto; i++)
        for (size_t k = 0;
             l->items.items[i].ip_be == l->items.items[upto].ip_be && k < json_len(l->items.items[i].ports); k++) {
            const struct json *port = json_item(l->items.items[i].ports, k);
            if (port_wanted(f, port) && json_int_at(port, "port", 0) == number)
                return true;
        }
    return false;
}

enum srv_pass { SRV_COUNT, SRV_ANSWER, SRV_ADDITIONAL };

/* Records of one endpoint; returns how many SRV it has. */
static size_t srv_of_endpoint(struct answer *a, const struct endpoints *l, size_t at, const struct port_filter *f,
                              enum srv_pass pass, uint16_t weight, const struct dns_name *target) {
    const struct endpoint *e = &l->items.items[at];
    size_t n = 0;
    for (size_t k = 0; k < json_len(e->ports); k++) {
        const struct json *port = json_item(e->ports, k);
        int64_t number = json_int_at(port, "port", 0);
        if (!port_wanted(f, port) || is_port_seen(l, at, f, number))
            continue;
        n++;
        if (pass == SRV_ANSWER)
            dns_put_srv(a->b, DNS_ANSWER, &a->owner, ZONE_TTL, weight, (uint16_t)number, target);
    }
    if (pass == SRV_ADDITIONAL && n && !is_seen(l, at, e->ip_be))
        dns_put_a(a->b, DNS_ADDITIONAL, target, ZONE_TTL, e->ip_be);
    return n;
}

static enum found srv_of_endpoints(struct answer *a, struct str ns, struct str svc, const struct port_filter *f) {
    struct endpoints l;
    size_t n = 0;
    get_endpoints(a, ns, svc, &l);
    for (enum srv_pass pass = SRV_COUNT; pass <= SRV_ADDITIONAL; pass++) {
        for (size_t i = 0; i < l.items.n; i++) {
            struct dns_name target;
            endpoint_name(a, &l.items.items[i], ns, svc, &target);
            size_t has = srv_of_endpoint(a, &l, i, f, pass, weight_of(n), &target);
            n += pass == SRV_COUNT ? has : 0;
        }
        if (a->type != DNS_SRV)
            break;
    }
    enum found found = n || (!f->name.p && l.items.n) ? NAME : NO_NAME;
    vec_fini(&l.items);
    return found;
}

/* --- <service>.<namespace>.svc ---------------------------------------------------------------------------------- */

struct ns_search {
    struct str ns;
    bool found;
};

static bool compare_ns(void *arg, const struct json *svc) {
    struct ns_search *q = arg;
    q->found = str_eq(json_str_at(svc, "metadata.namespace"), q->ns);
    return !q->found;
}

/* A namespace is known by its Services. */
static enum found find_ns(const struct answer *a, struct str ns) {
    struct ns_search q = {ns, false};
    a->z->source.each_service(a->z->source.arg, compare_ns, &q);
    return q.found ? NAME : NO_NAME;
}

static enum found put_external(struct answer *a, const struct json *o) {
    struct str name = json_str_at(o, "spec.externalName");
    if (!dns_name_set(&a->target, name) || a->target.n == 1) {
        a->target.n = 0;
        return NO_NAME;
    }
    dns_put_name(a->b, DNS_ANSWER, &a->owner, DNS_CNAME, ZONE_TTL, &a->target);
    if (a->type == DNS_CNAME || a->type == DNS_ANY)
        a->target.n = 0;
    return NAME;
}

/* The whole Service (f NULL) or ports of it. */
static enum found find_service(struct answer *a, struct str ns, struct str svc, const struct port_filter *f) {
    static const struct port_filter any = {0};
    const struct json *o = a->z->source.service(a->z->source.arg, ns, svc);
    uint32_t ip;
    if (!o)
        return NO_NAME;
    if (str_eq(json_str_at(o, "spec.type"), STR("ExternalName")))
        return f ? NO_NAME : put_external(a, o);
    bool single = ipv4_parse(json_str_at(o, "spec.clusterIP"), &ip);
    if (f || a->type == DNS_SRV)
        return single ? srv_of_cluster_ip(a, ns, svc, o, f ? f : &any, ip) : srv_of_endpoints(a, ns, svc, f ? f : &any);
    if (!single)
        return put_endpoints(a, ns, svc, STR_NULL);
    if (a->type == DNS_A || a->type == DNS_ANY)
        dns_put_a(a->b, DNS_ANSWER, &a->owner, ZONE_TTL, htonl(ip));
    return NAME;
}

static bool is_protocol(struct str label) {
    return str_eq(label, STR("_tcp")) || str_eq(label, STR("_udp")) || str_eq(label, STR("_sctp"));
}

/* <x>.<service>.<namespace>.svc: an endpoint's host name, or the name above ports. */
static enum found find_below(struct answer *a, struct str ns, struct str svc, struct str label) {
    const struct json *o = a->z->source.service(a->z->source.arg, ns, svc);
    if (!o || str_eq(json_str_at(o, "spec.type"), STR("ExternalName")))
        return NO_NAME;
    if (is_protocol(label))
        return NAME;
    return put_endpoints(a, ns, svc, label);
}

/* p: labels from the left, n of them, in front of "svc.<domain>". */
static enum found find_svc(struct answer *a, const struct str *p, size_t n) {
    if (n == 0)
        return NAME;
    struct str ns = p[n - 1];
    if (n == 1)
        return find_ns(a, ns);
    if (n == 2)
        return find_service(a, ns, p[0], NULL);
    if (n == 3)
        return find_below(a, ns, p[1], p[0]);
    if (n != 4 || !is_protocol(p[1]) || p[0].n < 2 || p[0].p[0] != '_')
        return NO_NAME;
    struct port_filter f = {str_skip(p[0], 1), str_skip(p[1], 1)};
    return find_service(a, ns, p[2], &f);
}

/* --- others ----------------------------------------------------------------------------------------------------- */

static enum found find_pod(struct answer *a, const struct str *p, size_t n) {
    char text[16];
    uint32_t ip;
    if (n == 0)
        return NAME;
    if (n == 1)
        return find_ns(a, p[0]);
    if (n != 2 || p[0].n >= sizeof(text) || memchr(p[0].p, '.', p[0].n))
        return NO_NAME;
    memcpy(text, p[0].p, p[0].n);
    text[p[0].n] = 0;
    for (char *c = text; *c; c++)
        if (*c == '-')
            *c = '.';
    if (!ipv4_parse(str_c(text), &ip))
        return NO_NAME;
    if (a->type == DNS_A || a->type == DNS_ANY)
        dns_put_a(a->b, DNS_ANSWER, &a->owner, ZONE_TTL, htonl(ip));
    return NAME;
}

static enum found find_version(struct answer *a, const struct str *p, size_t n) {
    if (n)
        return NO_NAME;
    if (a->type == DNS_TXT || a->type == DNS_ANY)
        dns_put_txt(a->b, DNS_ANSWER, &a->owner, ZONE_TTL, STR("1.1.0"));
    return NAME;
}

/* "dns.<domain>" and "ns.dns.<domain>": who answers for the zone, as its SOA says. */
static enum found find_dns(struct answer *a, const struct str *p, size_t n) {
    if (n == 0)
        return NAME;
    if (n != 1 || !str_eq(p[0], STR("ns")))
        return NO_NAME;
    if (a->type == DNS_A || a->type == DNS_ANY)
        dns_put_a(a->b, DNS_ANSWER, &a->owner, ZONE_TTL, a->z->address);
    return NAME;
}

static const struct {
    const char *label;
    enum found (*find)(struct answer *a, const struct str *p, size_t n);
} branches[] = {{"svc", find_svc}, {"pod", find_pod}, {"dns-version", find_version}, {"dns", find_dns}};

static void put_soa(const struct answer *a, enum dns_section s, const struct dns_name *zone) {
    char domain[DNS_NAME_MAX + 1];
    struct dns_name primary, mailbox;
    domain_text(a->z, domain);
    text_name(&primary, domain, "ns.dns");
    text_name(&mailbox, domain, "hostmaster");
    dns_put_soa(a->b, s, zone, ZONE_TTL, &primary, &mailbox, (uint32_t)time_now_s());
}

static enum found put_apex(struct answer *a) {
    char domain[DNS_NAME_MAX + 1];
    struct dns_name primary;
    domain_text(a->z, domain);
    text_name(&primary, domain, "ns.dns");
    if (a->type == DNS_SOA || a->type == DNS_ANY)
        put_soa(a, DNS_ANSWER, &a->z->domain);
    if (a->type == DNS_NS || a->type == DNS_ANY)
        dns_put_name(a->b, DNS_ANSWER, &a->owner, DNS_NS, ZONE_TTL, &primary);
    return NAME;
}

static enum found find_forward(struct answer *a, size_t labels) {
    char text[DNS_NAME_MAX + 1];
    struct str parts[PARTS_MAX];
    dns_name_text(&a->owner, text);
    if (labels == 0)
        return put_apex(a);
    if (labels > PARTS_MAX)
        return NO_NAME;
    struct str rest = str_c(text);
    for (size_t i = 0; i < labels; i++) {
        parts[i] = str_split(&rest, '.');
        for (size_t k = 0; k < parts[i].n; k++) { /* what no object is called: a slash, a dot, a byte out of ASCII */
            char c = parts[i].p[k];
            if (!(c >= 'a' && c <= 'z') && !(c >= '0' && c <= '9') && c != '-' && c != '_')
                return NO_NAME;
        }
    }
    for (size_t i = 0; i < ARRAY_LEN(branches); i++)
        if (str_eq_c(parts[labels - 1], branches[i].label))
            return branches[i].find(a, parts, labels - 1);
    return NO_NAME;
}

/* --- reverse ---------------------------------------------------------------------------------------------------- */

struct reverse_search {
    struct answer *a;
    uint32_t address; /* host order */
    enum found found;
};

static void put_ptr(struct reverse_search *q, const struct dns_name *target) {
    q->found = NAME;
    if (target->n && (q->a->type == DNS_PTR || q->a->type == DNS_ANY))
        dns_put_name(q->a->b, DNS_ANSWER, &q->a->owner, DNS_PTR, ZONE_TTL, target);
}

static bool compare_cluster_ip(void *arg, const struct json *svc) {
    struct reverse_search *q = arg;
    struct dns_name target;
    uint32_t ip;
    if (!ipv4_parse(json_str_at(svc, "spec.clusterIP"), &ip) || ip != q->address)
        return true;
    service_name(q->a, json_str_at(svc, "metadata.namespace"), json_str_at(svc, "metadata.name"), &target);
    put_ptr(q, &target);
    return false;
}

static bool compare_endpoints(void *arg, const struct json *svc) {
    struct reverse_search *q = arg;
    struct str ns = json_str_at(svc, "metadata.namespace"), name = json_str_at(svc, "metadata.name");
    struct endpoints l;
    if (!str_eq(json_str_at(svc, "spec.clusterIP"), STR("None")))
        return true;
    get_endpoints(q->a, ns, name, &l);
    for (size_t i = 0; i < l.items.n; i++)
        if (l.items.items[i].ip_be == htonl(q->address) && !is_seen(&l, i, htonl(q->address))) {
            struct dns_name target;
            endpoint_name(q->a, &l.items.items[i], ns, name, &target);
            put_ptr(q, &target);
        }
    vec_fini(&l.items);
    return true;
}

static enum found find_reverse(struct answer *a, uint32_t address) {
    struct reverse_search q = {a, address, NO_NAME};
    const struct dns_source *s = &a->z->source;
    s->each_service(s->arg, compare_cluster_ip, &q);
    if (q.found == NO_NAME)
        s->each_service(s->arg, compare_endpoints, &q);
    return q.found;
}

/* The name under which a network's reverse names are, by whole octets. */
static void reverse_zone(const struct ipv4_net *net, struct dns_name *out) {
    unsigned octets = (unsigned)MAX(1, net->prefix / 8);
    char text[64];
    int n = 0;
    for (unsigned i = octets; i > 0; i--)
        n += snprintf(text + n, sizeof(text) - (size_t)n, "%u.", net->base >> (32 - 8 * i) & 0xff);
    snprintf(text + n, sizeof(text) - (size_t)n, REVERSE);
    dns_name_set(out, str_c(text));
}

/* --- answers ---------------------------------------------------------------------------------------------------- */

/* One name; the zone it belongs to is told for the SOA. */
static enum found find(struct answer *a, struct dns_name *zone) {
    size_t labels;
    uint32_t address;
    const struct ipv4_net *net;
    if (dns_name_below(&a->owner, &a->z->domain, &labels)) {
        *zone = a->z->domain;
        return find_forward(a, labels);
    }
    if ((net = reverse_net(a->z, &a->owner, &address))) {
        reverse_zone(net, zone);
        return find_reverse(a, address);
    }
    return NO_NAME;
}

int dns_zone_answer(const struct dns_zone *z, const struct dns_query *q, struct dns_builder *b,
                    struct dns_name *follow) {
    struct answer a = {.z = z, .b = b, .owner = q->name, .type = q->type};
    struct dns_name zone = z->domain;
    enum found found = NO_NAME;
    follow->n = 0;
    for (int i = 0; i < CHAIN_MAX; i++) {
        uint16_t before = b->counts[DNS_ANSWER];
        a.target.n = 0;
        found = find(&a, &zone);
        if (a.target.n && !dns_zone_has(z, &a.target)) {
            *follow = a.target;
            return DNS_NOERROR;
        }
        if (!a.target.n) {
            if (b->counts[DNS_ANSWER] == before && !b->truncated)
                put_soa(&a, DNS_AUTHORITY, &zone);
            return found == NO_NAME ? DNS_NXDOMAIN : DNS_NOERROR;
        }
        a.owner = a.target;
    }
    return DNS_SERVFAIL; /* a circle of ExternalNames */
}
