/* Services: addresses, node ports, address families. */
#include "api/kinds.h"

static bool is_type(const struct json *spec, const char *type) {
    struct str t = json_str_at(spec, "type");
    return str_eq_c(t, type) || (t.n == 0 && strcmp(type, "ClusterIP") == 0);
}

static bool wants_address(const struct json *spec) {
    return !is_type(spec, "ExternalName") && !str_eq_c(json_str_at(spec, "clusterIP"), "None");
}

static bool wants_ports(const struct json *spec) {
    return is_type(spec, "NodePort") ||
           (is_type(spec, "LoadBalancer") && json_bool_at(spec, "allocateLoadBalancerNodePorts", true));
}

static bool wants_health_port(const struct json *spec) {
    return is_type(spec, "LoadBalancer") && str_eq_c(json_str_at(spec, "externalTrafficPolicy"), "Local");
}

static void set_addresses(struct api_write *w, struct json *spec, struct str ip) {
    struct arena *a = w->arena;
    struct json *ips = json_array(a);
    json_append(a, ips, json_str(a, ip));
    json_set_str(a, spec, "clusterIP", ip);
    json_set_c(a, spec, "clusterIPs", ips);
}

static int allocate_address(struct api_write *w, struct json *spec, const struct json *old_spec) {
    struct arena *a = w->arena;
    struct str ip = json_str_at(spec, "clusterIP"), old = json_str_at(old_spec, "clusterIP");
    struct str listed = json_as_str(json_item(json_get_c(spec, "clusterIPs"), 0));
    if (ip.n == 0 && listed.n)
        ip = listed;
    if (is_type(spec, "ExternalName")) {
        json_del_c(spec, "clusterIP");
        json_del_c(spec, "clusterIPs");
        return 0;
    }
    if (ip.n == 0 && old.n && !is_type(old_spec, "ExternalName"))
        ip = old;
    if (str_eq_c(ip, "None") || (old.n && str_eq(ip, old))) {
        set_addresses(w, spec, ip);
        return 0;
    }
    if (ip.n == 0) {
        ip = address_pool_pick(w->api->addresses, a);
        if (ip.n == 0)
            return status_internal(w->status, a, "failed to allocate a serviceIP: range is full");
        set_addresses(w, spec, ip);
        return 0;
    }
    if (old.n) /* the address of a service does not change; validation says so */
        return 0;
    const char *bad = address_pool_check(w->api->addresses, a, ip);
    if (bad)
        return status_invalid_field(w->status, a, w->r, w->name, FIELD_INVALID, "spec.clusterIPs",
                                    json_get_c(spec, "clusterIPs") ? json_get_c(spec, "clusterIPs")
                                                                   : json_get_c(spec, "clusterIP"),
                                    "%s", bad);
    set_addresses(w, spec, ip);
    return 0;
}

/* Whether the stored service holds this node port already. */
static bool holds_port(const struct json *old_spec, int64_t port, struct str protocol) {
    const struct json *ports = json_get_c(old_spec, "ports");
    for (size_t i = 0; i < json_len(ports); i++) {
        const struct json *p = json_item(ports, i);
        if (json_int_at(p, "nodePort", 0) == port && str_eq(json_str_at(p, "protocol"), protocol))
            return true;
    }
    return false;
}

/* The node port an unchanged port had before: clients leave it out when they replace a service. */
static int64_t port_before(const struct json *old_spec, const struct json *port) {
    const struct json *ports = json_get_c(old_spec, "ports");
    for (size_t i = 0; i < json_len(ports); i++) {
        const struct json *p = json_item(ports, i);
        if (json_int_at(p, "port", 0) == json_int_at(port, "port", -1) &&
            str_eq(json_str_at(p, "protocol"), json_str_at(port, "protocol")))
            return json_int_at(p, "nodePort", 0);
    }
    return 0;
}

/* Another port of the same service has this number for another protocol: they may share it. */
static int64_t shared_port(const struct json *ports, size_t upto, const struct json *port) {
    for (size_t i = 0; i < upto; i++) {
        const struct json *p = json_item(ports, i);
        if (json_int_at(p, "port", 0) == json_int_at(port, "port", -1) &&
            !str_eq(json_str_at(p, "protocol"), json_str_at(port, "protocol")))
            return json_int_at(p, "nodePort", 0);
    }
    return 0;
}

static bool taken_here(const struct json *ports, size_t upto, int64_t number, struct str protocol) {
    for (size_t i = 0; i < upto; i++)
        if (json_int_at(json_item(ports, i), "nodePort", 0) == number &&
            (protocol.p == NULL || str_eq(json_str_at(json_item(ports, i), "protocol"), protocol)))
            return true;
    return false;
}

static int allocate_port(struct api_write *w, struct json *ports, size_t i, const struct json *old_spec) {
    struct arena *a = w->arena;
    struct json *p = json_item(ports, i);
    struct str protocol = json_str_at(p, "protocol");
    int64_t n = json_int_at(p, "nodePort", 0);
    if (n == 0)
        n = port_before(old_spec, p);
    if (n == 0)
        n = shared_port(ports, i, p);
    for (int tries = 0; n == 0 && tries < 100; tries++) {
        n = address_pool_pick_port(w->api->addresses);
        if (n == 0)
            return status_internal(w->status, a, "failed to allocate a nodePort: range is full");
        if (taken_here(ports, json_len(ports), n, STR_NULL))
            n = 0;
    }
    const char *bad =
        holds_port(old_spec, n, protocol) ? NULL : address_pool_check_port(w->api->addresses, a, n, protocol);
    if (!bad && taken_here(ports, i, n, protocol))
        bad = "provided port is already allocated";
    if (bad)
        return status_invalid_field(w->status, a, w->r, w->name, FIELD_INVALID,
                                    arena_printf(a, "spec.ports[%zu].nodePort", i), json_int(a, n), "%s", bad);
    json_set_int(a, p, "nodePort", n);
    return 0;
}

static int allocate_ports(struct api_write *w, struct json *spec, const struct json *old_spec) {
    struct json *ports = json_get_c(spec, "ports");
    bool wanted = wants_ports(spec);
    for (size_t i = 0; i < json_len(ports); i++) {
        struct json *p = json_item(ports, i);
        if (!wanted && !is_type(spec, "LoadBalancer")) {
            /* A service that stops being one with node ports gives them back. */
            if (old_spec && holds_port(old_spec, json_int_at(p, "nodePort", 0), json_str_at(p, "protocol")))
                json_del_c(p, "nodePort");
            continue;
        }
        int rc = wanted || json_int_at(p, "nodePort", 0) ? allocate_port(w, ports, i, old_spec) : 0;
        if (rc < 0)
            return rc;
    }
    if (!wants_health_port(spec)) {
        json_del_c(spec, "healthCheckNodePort");
        return 0;
    }
    int64_t before = json_int_at(old_spec, "healthCheckNodePort", 0), n = json_int_at(spec, "healthCheckNodePort", 0);
    if (n == 0)
        n = before ? before : address_pool_pick_port(w->api->addresses);
    const char *bad = n == before ? NULL : address_pool_check_port(w->api->addresses, w->arena, n, STR("TCP"));
    if (bad)
        return status_invalid_field(w->status, w->arena, w->r, w->name, FIELD_INVALID, "spec.healthCheckNodePort",
                                    json_int(w->arena, n), "%s", bad);
    json_set_int(w->arena, spec, "healthCheckNodePort", n);
    return 0;
}

/* One family, IPv4, until the cluster has two. */
static int set_families(struct api_write *w, struct json *spec) {
    struct arena *a = w->arena;
    if (is_type(spec, "ExternalName")) {
        json_del_c(spec, "ipFamilies");
        json_del_c(spec, "ipFamilyPolicy");
        return 0;
    }
    struct json *f = json_get_c(spec, "ipFamilies");
    for (size_t i = 0; i < json_len(f); i++)
        if (!str_eq_c(json_as_str(json_item(f, i)), "IPv4"))
            return status_invalid_field(w->status, a, w->r, w->name, FIELD_INVALID,
                                        arena_printf(a, "spec.ipFamilies[%zu]", i), json_item(f, i),
                                        "not configured on this cluster");
    if (str_eq_c(json_str_at(spec, "ipFamilyPolicy"), "RequireDualStack"))
        return status_invalid_field(w->status, a, w->r, w->name, FIELD_INVALID, "spec.ipFamilyPolicy",
                                    json_get_c(spec, "ipFamilyPolicy"),
                                    "Cluster is not configured for dual-stack services");
    if (json_len(f) == 0) {
        f = json_array(a);
        json_append_cstr(a, f, "IPv4");
        json_set_c(a, spec, "ipFamilies", f);
    }
    if (json_str_at(spec, "ipFamilyPolicy").n == 0)
        json_set_cstr(a, spec, "ipFamilyPolicy", "SingleStack");
    return 0;
}

/* DenyServiceExternalIPs: a service could take over any address otherwise (CVE-2020-8554). */
static int deny_external_ips(struct api_write *w, const struct json *spec, const struct json *old_spec) {
    const struct json *ips = json_get_c(spec, "externalIPs"), *old = json_get_c(old_spec, "externalIPs");
    for (size_t i = 0; i < json_len(ips); i++) {
        bool had = false;
        for (size_t k = 0; k < json_len(old); k++)
            had = had || json_equal(json_item(ips, i), json_item(old, k));
        if (!had)
            return status_forbidden(w->status, w->arena, w->r, w->name,
                                    "Use of external IPs is denied by admission control");
    }
    return 0;
}

static int service_admit(struct api_write *w) {
    struct json *spec = json_ensure(w->arena, w->obj, "spec");
    const struct json *old_spec = json_get_c(w->old, "spec");
    int rc =
        spec ? deny_external_ips(w, spec, old_spec) : status_bad_request(w->status, w->arena, "spec must be an object");
    if (rc == 0)
        rc = set_families(w, spec);
    if (rc == 0)
        rc = allocate_address(w, spec, old_spec);
    return rc == 0 ? allocate_ports(w, spec, old_spec) : rc;
}

int service_create(struct api_write *w) {
    json_put(w->arena, w->obj, "status.loadBalancer", json_object(w->arena));
    return service_admit(w);
}

int service_update(struct api_write *w) {
    return w->sub.n ? 0 : service_admit(w);
}

void service_validate(struct api_write *w, struct field_errors *errs) {
    const struct json *spec = json_get_c(w->obj, "spec"), *old = json_get_c(w->old, "spec");
    struct str ip = json_str_at(spec, "clusterIP"), before = json_str_at(old, "clusterIP");
    if (old && wants_address(old) && wants_address(spec) && before.n && !str_eq(ip, before))
        field_error_add(errs, FIELD_INVALID, "spec.clusterIPs[0]", json_str(w->arena, ip), "may not change once set");
}
