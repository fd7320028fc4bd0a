/* The resolver of a cluster: its names come from the informers that also feed nftables. */
#include "cluster/dns.h"

#define DNS_PORT 53

static const struct json *find_service(void *arg, struct str ns, struct str name) {
    struct object *o = services_find(arg, ns, name);
    return o ? object_json(o) : NULL;
}

struct each {
    bool (*fn)(void *to, const struct json *v);
    void *to;
};

static bool each_object(void *arg, struct object *o) {
    struct each *e = arg;
    return e->fn(e->to, object_json(o));
}

static void each_service(void *arg, bool (*fn)(void *to, const struct json *svc), void *to) {
    services_each(arg, each_object, &(struct each){fn, to});
}

static void each_slice(void *arg, struct str ns, struct str name, bool (*fn)(void *to, const struct json *slice),
                       void *to) {
    services_each_slice(arg, ns, name, each_object, &(struct each){fn, to});
}

static bool is_ready(void *arg) {
    return services_synced(arg);
}

int dns_start(struct cluster *c, struct dns **out, struct error *err) {
    struct dns_options o = {.loop = c->o.loop,
                            .port = DNS_PORT,
                            .domain = c->cluster_domain,
                            .resolv_conf = c->resolv_conf,
                            .nets = {c->cluster_net, c->service_net},
                            .source = {find_service, each_service, each_slice, c->services},
                            .ready = is_ready};
    if (!ipv4_parse(str_c(c->cluster_dns), &o.address))
        return error_set(err, -EINVAL, "cluster DNS: \"%s\" is no IPv4 address", c->cluster_dns);
    return dns_serve(&o, out, err);
}
