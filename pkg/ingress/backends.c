/* Where the Service ports of the rules are: from Services and EndpointSlices. */
#include "ingress/rules.h"

#define ENDPOINTS_MAX 4096 /* of one Service port */

struct ingress_backend *ingress_rules_service(const struct ingress_rules *r, struct str ns, struct str name) {
    char key[600];
    if (ns.n + name.n + 1 > sizeof(key) || !ns.n || !name.n)
        return NULL;
    memcpy(key, ns.p, ns.n);
    key[ns.n] = '/';
    memcpy(key + ns.n + 1, name.p, name.n);
    return map_get(&r->services, str_n(key, ns.n + name.n + 1));
}

static void find_port(struct ingress_rules *r, struct ingress_backend *b, const struct json *service) {
    const struct json *ports = json_at(service, "spec.ports");
    b->state = BACKEND_NO_PORT;
    if (str_eq(json_str_at(service, "spec.type"), STR("ExternalName"))) {
        b->state = BACKEND_UNSUPPORTED;
        return;
    }
    for (size_t i = 0; i < json_len(ports); i++) {
        const struct json *p = json_item(ports, i);
        struct str name = json_str_at(p, "name"), protocol = json_str_at(p, "protocol");
        bool same = b->port_name.n ? str_eq(b->port_name, name) : json_int_at(p, "port", 0) == b->port;
        if (!same || (protocol.n && !str_eq(protocol, STR("TCP"))))
            continue;
        b->slice_port = str_dup(r->arena, name);
        b->state = BACKEND_NO_ENDPOINT;
        return;
    }
}

void ingress_rules_add_service(struct ingress_rules *r, const struct json *service) {
    struct ingress_backend *b =
        ingress_rules_service(r, json_str_at(service, "metadata.namespace"), json_str_at(service, "metadata.name"));
    for (; b; b = b->next_of_service) {
        if (b->state == BACKEND_NO_SERVICE)
            find_port(r, b, service);
    }
}

/* The number behind the port's name in a slice; 0: none. */
static int64_t slice_port(const struct json *slice, struct str name) {
    const struct json *ports = json_get_c(slice, "ports");
    for (size_t i = 0; i < json_len(ports); i++) {
        const struct json *p = json_item(ports, i);
        struct str protocol = json_str_at(p, "protocol");
        if (str_eq(json_str_at(p, "name"), name) && (!protocol.n || str_eq(protocol, STR("TCP"))))
            return json_int_at(p, "port", 0);
    }
    return 0;
}

static void add_endpoint(struct ingress_backend *b, const struct json *endpoint, uint16_t port) {
    struct address to;
    struct str ip = json_as_str(json_item(json_get_c(endpoint, "addresses"), 0));
    /* "ready" that is not told counts as true. */
    if (!json_bool_at(endpoint, "conditions.ready", true) || address_from_ip(ip, port, &to))
        return;
    for (size_t i = 0; i < b->endpoints.n; i++) { /* an endpoint may be in two slices while it moves */
        const struct address *e = &b->endpoints.items[i];
        if (e->n == to.n && memcmp(&e->any, &to.any, to.n) == 0)
            return;
    }
    if (b->endpoints.n < ENDPOINTS_MAX)
        vec_push(&b->endpoints, to);
    b->state = BACKEND_READY;
}

void ingress_rules_add_slice(struct ingress_rules *r, const struct json *slice) {
    struct str service = json_as_str(json_get(json_at(slice, "metadata.labels"), STR("kubernetes.io/service-name")));
    struct ingress_backend *b = ingress_rules_service(r, json_str_at(slice, "metadata.namespace"), service);
    const struct json *endpoints = json_get_c(slice, "endpoints");
    for (; b; b = b->next_of_service) {
        int64_t port = b->state >= BACKEND_NO_ENDPOINT ? slice_port(slice, b->slice_port) : 0;
        for (size_t i = 0; port > 0 && port < 65536 && i < json_len(endpoints); i++)
            add_endpoint(b, json_item(endpoints, i), (uint16_t)port);
    }
}

const struct address *ingress_backend_next(struct ingress_backend *b) {
    return b->endpoints.n ? &b->endpoints.items[b->turn++ % b->endpoints.n] : NULL;
}
