/* Validation of Services, their endpoints, Ingresses, configuration, namespaces and nodes. */
#include "schema/validate.h"

#define DATA_MAX MiB(1) /* of a ConfigMap or Secret */
#define NOT_AN_IP "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"
#define NOT_A_CIDR "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"

static bool is_repeated(const struct json *list, size_t i, const char *member) {
    struct str s = json_str_at(json_item(list, i), member);
    for (size_t k = 0; s.n && k < i; k++)
        if (str_eq(json_str_at(json_item(list, k), member), s))
            return true;
    return false;
}

/* --- Service --- */

static void check_service_port(struct check *c, const struct where *at, const struct json *spec,
                               const struct json *ports, size_t i) {
    const struct json *v = json_item(ports, i), *node_port = json_get_c(v, "nodePort");
    struct str type = json_str_at(spec, "type"), protocol = json_str_at(v, "protocol");
    if (json_len(ports) > 1)
        check_required(c, at, v, "name");
    check_name(c, at, v, "name", name_check_dns_label);
    if (is_repeated(ports, i, "name"))
        check_bad(c, FIELD_DUPLICATE, AT(at, "name"), json_get_c(v, "name"), NULL);
    check_port(c, at, v, "port");
    check_port_or_name(c, at, v, "targetPort");
    check_name(c, at, v, "appProtocol", name_check_qualified);
    if (json_as_int(node_port, 0) && (str_eq(type, STR("ClusterIP")) || str_eq(type, STR("ExternalName"))))
        check_bad(c, FIELD_FORBIDDEN, AT(at, "nodePort"), NULL, "may not be used when `type` is '%.*s'", STR_ARG(type));
    for (size_t k = 0; k < i; k++) {
        const struct json *o = json_item(ports, k);
        bool same = str_eq(json_str_at(o, "protocol"), protocol);
        if (same && json_int_at(o, "port", 0) == json_int_at(v, "port", 0)) {
            check_bad(c, FIELD_DUPLICATE, at, v, NULL);
            break;
        }
        if (same && json_as_int(node_port, 0) && json_int_at(o, "nodePort", 0) == json_as_int(node_port, 0)) {
            check_bad(c, FIELD_DUPLICATE, AT(at, "nodePort"), node_port, NULL);
            break;
        }
    }
}

static void check_external_name(struct check *c, const struct where *at, const struct json *spec) {
    struct str name = json_str_at(spec, "externalName");
    const char *wrong;
    if (!check_required(c, at, spec, "externalName"))
        return;
    if (name.p[name.n - 1] == '.')
        name.n--;
    wrong = name_check_dns_subdomain(name);
    if (wrong)
        check_bad_text(c, FIELD_INVALID, AT(at, "externalName"), name, wrong);
}

static void check_affinity_timeout(struct check *c, const struct where *up, const struct json *spec) {
    const struct json *seconds = json_at(spec, "sessionAffinityConfig.clientIP.timeoutSeconds");
    if (json_is(seconds, JSON_INT) && (seconds->i <= 0 || seconds->i > 86400))
        check_bad(c, FIELD_INVALID, AT(AT(AT(up, "sessionAffinityConfig"), "clientIP"), "timeoutSeconds"), seconds,
                  "must be greater than 0 and less than or equal to 86400");
}

static void check_service(struct check *c) {
    const struct json *spec = json_get_c(c->object, "spec"), *ports = json_get_c(spec, "ports");
    const struct json *external = json_get_c(spec, "externalIPs");
    const struct json *ranges = json_get_c(spec, "loadBalancerSourceRanges");
    const struct where *at = AT(NULL, "spec");
    struct str type = json_str_at(spec, "type"), ip = json_str_at(spec, "clusterIP");
    bool headless = str_eq(ip, STR("None")), named = str_eq(type, STR("ExternalName"));
    if (json_len(ports) == 0 && !headless && !named)
        check_bad(c, FIELD_REQUIRED, AT(at, "ports"), NULL, NULL);
    for (size_t i = 0; i < json_len(ports); i++)
        check_service_port(c, AT_ITEM(AT(at, "ports"), i), spec, ports, i);
    check_labels(c, AT(at, "selector"), json_get_c(spec, "selector"));
    if (named)
        check_external_name(c, at, spec);
    if (headless && (str_eq(type, STR("LoadBalancer")) || str_eq(type, STR("NodePort"))))
        check_bad(c, FIELD_INVALID, AT_ITEM(AT(at, "clusterIPs"), 0), json_get_c(spec, "clusterIP"),
                  "may not be set to 'None' for %.*s services", STR_ARG(type));
    else if (ip.n && !headless && !check_is_ip(ip))
        check_bad(c, FIELD_INVALID, AT_ITEM(AT(at, "clusterIPs"), 0), json_get_c(spec, "clusterIP"), NOT_AN_IP);
    for (size_t i = 0; i < json_len(external); i++)
        if (!check_is_ip(json_as_str(json_item(external, i))))
            check_bad(c, FIELD_INVALID, AT_ITEM(AT(at, "externalIPs"), i), json_item(external, i), NOT_AN_IP);
    for (size_t i = 0; i < json_len(ranges); i++)
        if (!check_is_cidr(str_trim(json_as_str(json_item(ranges, i)))))
            check_bad(c, FIELD_INVALID, AT_ITEM(AT(at, "loadBalancerSourceRanges"), i), json_item(ranges, i),
                      NOT_A_CIDR);
    check_affinity_timeout(c, at, spec);
}

/* --- Endpoints, EndpointSlice --- */

static void check_endpoint_address(struct check *c, const struct where *at, const struct json *v) {
    if (!check_is_ip(json_str_at(v, "ip")))
        check_bad(c, FIELD_INVALID, AT(at, "ip"), json_get_c(v, "ip"), NOT_AN_IP);
    check_name(c, at, v, "hostname", name_check_dns_label);
    check_name(c, at, v, "nodeName", name_check_dns_subdomain);
}

static void check_endpoints(struct check *c) {
    static const char *const lists[] = {"addresses", "notReadyAddresses"};
    const struct json *subsets = json_get_c(c->object, "subsets");
    for (size_t i = 0; i < json_len(subsets); i++) {
        const struct json *s = json_item(subsets, i), *ports = json_get_c(s, "ports");
        const struct where *at = AT_ITEM(AT(NULL, "subsets"), i);
        if (json_len(json_get_c(s, lists[0])) + json_len(json_get_c(s, lists[1])) == 0)
            check_bad(c, FIELD_REQUIRED, at, NULL, "must specify `addresses` or `notReadyAddresses`");
        for (size_t l = 0; l < ARRAY_LEN(lists); l++)
            for (size_t k = 0; k < json_len(json_get_c(s, lists[l])); k++)
                check_endpoint_address(c, AT_ITEM(AT(at, lists[l]), k), json_item(json_get_c(s, lists[l]), k));
        for (size_t k = 0; k < json_len(ports); k++) {
            const struct where *here = AT_ITEM(AT(at, "ports"), k);
            if (json_len(ports) > 1)
                check_required(c, here, json_item(ports, k), "name");
            check_name(c, here, json_item(ports, k), "name", name_check_dns_label);
            check_port(c, here, json_item(ports, k), "port");
        }
    }
}

static void check_slice_endpoint(struct check *c, const struct where *at, const struct json *v, struct str type) {
    const struct json *addresses = json_get_c(v, "addresses");
    if (json_len(addresses) == 0)
        check_bad(c, FIELD_REQUIRED, AT(at, "addresses"), NULL, "must contain at least 1 address");
    for (size_t i = 0; i < json_len(addresses); i++) {
        struct str a = json_as_str(json_item(addresses, i));
        bool v6 = str_index(a, ':', 0) >= 0;
        const char *wrong = NULL;
        if (str_eq(type, STR("FQDN")))
            wrong = name_check_dns_subdomain(a);
        else if (!check_is_ip(a))
            wrong = NOT_AN_IP;
        else if (v6 != str_eq(type, STR("IPv6")))
            wrong = v6 ? "must be an IPv4 address" : "must be an IPv6 address";
        if (wrong)
            check_bad(c, FIELD_INVALID, AT_ITEM(AT(at, "addresses"), i), json_item(addresses, i), "%s", wrong);
    }
    check_name(c, at, v, "hostname", name_check_dns_label);
    check_name(c, at, v, "nodeName", name_check_dns_subdomain);
}

static void check_endpoint_slice(struct check *c) {
    const struct json *endpoints = json_get_c(c->object, "endpoints"), *ports = json_get_c(c->object, "ports");
    struct str type = json_str_at(c->object, "addressType");
    check_required(c, NULL, c->object, "addressType");
    if (c->old)
        check_immutable(c, NULL, c->object, c->old, "addressType");
    if (json_len(endpoints) > 1000)
        check_bad(c, FIELD_TOO_MANY, AT(NULL, "endpoints"), json_int(c->arena, (int64_t)json_len(endpoints)),
                  "must have at most 1000 items");
    for (size_t i = 0; i < json_len(endpoints); i++)
        check_slice_endpoint(c, AT_ITEM(AT(NULL, "endpoints"), i), json_item(endpoints, i), type);
    for (size_t i = 0; i < json_len(ports); i++) {
        const struct where *at = AT_ITEM(AT(NULL, "ports"), i);
        check_name(c, at, json_item(ports, i), "name", name_check_dns_label);
        if (is_repeated(ports, i, "name"))
            check_bad(c, FIELD_DUPLICATE, AT(at, "name"), json_get_c(json_item(ports, i), "name"), NULL);
        check_port(c, at, json_item(ports, i), "port");
    }
}

/* --- Ingress, IngressClass --- */

static void check_backend(struct check *c, const struct where *at, const struct json *v) {
    const struct json *service = check_get(v, "service"), *resource = check_get(v, "resource");
    if (service && resource) {
        check_bad_text(c, FIELD_INVALID, at, STR(""), "cannot set both resource and service backends");
        return;
    }
    if (!service && !resource) {
        check_bad(c, FIELD_REQUIRED, at, NULL, "resource or service backend is required");
        return;
    }
    if (resource) {
        check_required(c, AT(at, "resource"), resource, "kind");
        check_required(c, AT(at, "resource"), resource, "name");
        return;
    }
    const struct where *here = AT(at, "service");
    const struct json *port = json_get_c(service, "port");
    int64_t number = json_int_at(port, "number", 0);
    struct str name = json_str_at(port, "name");
    check_named(c, here, service, "name", name_check_dns_label);
    if (name.n && number)
        check_bad_text(c, FIELD_INVALID, at, STR(""), "cannot set both port name & port number");
    else if (name.n)
        check_name(c, AT(here, "port"), port, "name", check_port_name);
    else if (number)
        check_port(c, AT(here, "port"), port, "number");
    else
        check_bad(c, FIELD_REQUIRED, at, NULL, "port name or number is required");
}

static void check_path(struct check *c, const struct where *at, const struct json *v) {
    static const char *const bad[] = {"//", "/./", "/../", "%2f", "%2F"};
    struct str path = json_str_at(v, "path"), type = json_str_at(v, "pathType");
    if (!type.n)
        check_bad(c, FIELD_REQUIRED, AT(at, "pathType"), NULL, "pathType must be specified");
    bool strict = str_eq(type, STR("Exact")) || str_eq(type, STR("Prefix"));
    if ((strict || path.n) && (path.n == 0 || path.p[0] != '/'))
        check_bad_text(c, FIELD_INVALID, AT(at, "path"), path, "must be an absolute path");
    for (size_t i = 0; strict && i < ARRAY_LEN(bad); i++)
        if (str_find(path, str_c(bad[i])) >= 0)
            check_bad(c, FIELD_INVALID, AT(at, "path"), json_get_c(v, "path"), "must not contain '%s'", bad[i]);
    check_backend(c, AT(at, "backend"), json_get_c(v, "backend"));
}

static void check_ingress_rule(struct check *c, const struct where *at, const struct json *v) {
    const struct json *http = check_get(v, "http"), *paths = json_get_c(http, "paths");
    struct str host = json_str_at(v, "host");
    if (host.n && check_is_ip(host))
        check_bad(c, FIELD_INVALID, AT(at, "host"), json_get_c(v, "host"), "must be a DNS name, not an IP address");
    else
        check_name(c, at, v, "host", check_wildcard_subdomain);
    if (http && json_len(paths) == 0)
        check_bad(c, FIELD_REQUIRED, AT(AT(at, "http"), "paths"), NULL, NULL);
    for (size_t i = 0; i < json_len(paths); i++)
        check_path(c, AT_ITEM(AT(AT(at, "http"), "paths"), i), json_item(paths, i));
}

static void check_ingress(struct check *c) {
    const struct json *spec = json_get_c(c->object, "spec"), *rules = json_get_c(spec, "rules");
    const struct json *tls = json_get_c(spec, "tls"), *backend = check_get(spec, "defaultBackend");
    const struct where *at = AT(NULL, "spec");
    if (json_len(rules) == 0 && !backend)
        check_bad(c, FIELD_INVALID, at, spec, "either `defaultBackend` or `rules` must be specified");
    if (backend)
        check_backend(c, AT(at, "defaultBackend"), backend);
    for (size_t i = 0; i < json_len(rules); i++)
        check_ingress_rule(c, AT_ITEM(AT(at, "rules"), i), json_item(rules, i));
    for (size_t i = 0; i < json_len(tls); i++) {
        const struct where *here = AT_ITEM(AT(at, "tls"), i);
        const struct json *hosts = json_get_c(json_item(tls, i), "hosts");
        check_name(c, here, json_item(tls, i), "secretName", name_check_dns_subdomain);
        for (size_t k = 0; k < json_len(hosts); k++) {
            const char *wrong = check_wildcard_subdomain(json_as_str(json_item(hosts, k)));
            if (wrong)
                check_bad(c, FIELD_INVALID, AT_ITEM(AT(here, "hosts"), k), json_item(hosts, k), "%s", wrong);
        }
    }
    check_name(c, at, spec, "ingressClassName", name_check_dns_subdomain);
}

static void check_ingress_class(struct check *c) {
    const struct json *spec = json_get_c(c->object, "spec");
    check_required(c, AT(NULL, "spec"), spec, "controller");
    if (c->old)
        check_immutable(c, AT(NULL, "spec"), spec, json_get_c(c->old, "spec"), "controller");
}

/* --- ConfigMap, Secret --- */

/* Bytes that base64 text stands for. */
static size_t decoded_size(struct str s) {
    size_t n = s.n / 4 * 3;
    for (size_t i = s.n; i > 0 && s.p[i - 1] == '=' && n; i--)
        n--;
    return n;
}

static size_t check_data(struct check *c, const char *member, bool base64) {
    const struct json *data = json_get_c(c->object, member);
    size_t total = 0;
    for (size_t i = 0; json_is(data, JSON_OBJECT) && i < data->n; i++) {
        const struct json_member *m = &data->members[i];
        const char *wrong = check_config_key(m->key);
        if (wrong)
            check_bad_text(c, FIELD_INVALID, AT_KEY(AT(NULL, member), m->key), m->key, wrong);
        total += base64 ? decoded_size(json_as_str(m->value)) : json_as_str(m->value).n;
    }
    return total;
}

static bool are_equal(const struct json *a, const struct json *b) {
    return (json_len(a) == 0 && json_len(b) == 0) || json_equal(a, b);
}

static void check_frozen(struct check *c, const char *const *members, size_t n) {
    if (!json_bool_at(c->old, "immutable", false))
        return;
    if (!json_bool_at(c->object, "immutable", false))
        check_bad(c, FIELD_FORBIDDEN, AT(NULL, "immutable"), NULL, "field is immutable when `immutable` is set");
    for (size_t i = 0; i < n; i++)
        if (!are_equal(json_get_c(c->object, members[i]), json_get_c(c->old, members[i])))
            check_bad(c, FIELD_FORBIDDEN, AT(NULL, members[i]), NULL, "field is immutable when `immutable` is set");
}

static void check_configmap(struct check *c) {
    static const char *const members[] = {"data", "binaryData"};
    const struct json *binary = json_get_c(c->object, "binaryData"), *data = json_get_c(c->object, "data");
    size_t total = check_data(c, "data", false) + check_data(c, "binaryData", true);
    for (size_t i = 0; json_is(binary, JSON_OBJECT) && i < binary->n; i++)
        if (json_get(data, binary->members[i].key))
            check_bad_text(c, FIELD_INVALID, AT_KEY(AT(NULL, "data"), binary->members[i].key), binary->members[i].key,
                           "duplicate of key present in binaryData");
    if (total > DATA_MAX)
        check_bad(c, FIELD_TOO_LONG, AT_KEY(NULL, STR("")), NULL, "may not be more than %zu bytes", DATA_MAX);
    check_frozen(c, members, ARRAY_LEN(members));
}

static void check_secret_keys(struct check *c) {
    static const char *const keys[][2] = {{"kubernetes.io/dockercfg", ".dockercfg"},
                                          {"kubernetes.io/dockerconfigjson", ".dockerconfigjson"},
                                          {"kubernetes.io/ssh-auth", "ssh-privatekey"},
                                          {"kubernetes.io/tls", "tls.crt"},
                                          {"kubernetes.io/tls", "tls.key"}};
    const struct json *data = json_get_c(c->object, "data");
    struct str type = json_str_at(c->object, "type");
    for (size_t i = 0; i < ARRAY_LEN(keys); i++)
        if (str_eq_c(type, keys[i][0]) && !json_get_c(data, keys[i][1]))
            check_bad(c, FIELD_REQUIRED, AT_KEY(AT(NULL, "data"), str_c(keys[i][1])), NULL, NULL);
    if (str_eq(type, STR("kubernetes.io/basic-auth")) && !json_get_c(data, "username") &&
        !json_get_c(data, "password")) {
        check_bad(c, FIELD_REQUIRED, AT_KEY(AT(NULL, "data"), STR("username")), NULL, NULL);
        check_bad(c, FIELD_REQUIRED, AT_KEY(AT(NULL, "data"), STR("password")), NULL, NULL);
    }
    if (str_eq(type, STR("kubernetes.io/service-account-token")) &&
        json_as_str(json_get_c(json_at(c->object, "metadata.annotations"), "kubernetes.io/service-account.name")).n ==
            0)
        check_bad(c, FIELD_REQUIRED,
                  AT_KEY(AT(AT(NULL, "metadata"), "annotations"), STR("kubernetes.io/service-account.name")), NULL,
                  NULL);
}

static void check_secret(struct check *c) {
    static const char *const members[] = {"data"};
    if (check_data(c, "data", true) > DATA_MAX)
        check_bad(c, FIELD_TOO_LONG, AT(NULL, "data"), NULL, "may not be more than %zu bytes", DATA_MAX);
    check_secret_keys(c);
    if (c->old)
        check_immutable(c, NULL, c->object, c->old, "type");
    check_frozen(c, members, ARRAY_LEN(members));
}

/* --- Namespace, Node --- */

static void check_namespace(struct check *c) {
    const struct json *list = json_at(c->object, "spec.finalizers");
    for (size_t i = 0; i < json_len(list); i++) {
        struct str f = json_as_str(json_item(list, i));
        const char *wrong = name_check_qualified(f);
        if (!wrong && str_index(f, '/', 0) < 0 && !str_eq(f, STR("kubernetes")) && !str_eq(f, STR("orphan")) &&
            !str_eq(f, STR("foregroundDeletion")))
            wrong = "name is neither a standard finalizer name nor is it fully qualified";
        if (wrong)
            check_bad_text(c, FIELD_INVALID, AT(AT(NULL, "spec"), "finalizers"), f, wrong);
    }
}

static void check_taints(struct check *c, const struct where *at, const struct json *taints) {
    for (size_t i = 0; i < json_len(taints); i++) {
        const struct json *v = json_item(taints, i), *value = json_get_c(v, "value");
        const struct where *here = AT_ITEM(at, i);
        const char *wrong = name_check_qualified(json_str_at(v, "key"));
        if (wrong)
            check_bad(c, FIELD_INVALID, AT(here, "key"), json_get_c(v, "key"), "%s", wrong);
        wrong = name_check_label_value(json_as_str(value));
        if (wrong)
            check_bad(c, FIELD_INVALID, AT(here, "value"), value, "%s", wrong);
        check_required(c, here, v, "effect");
        for (size_t k = 0; k < i; k++)
            if (str_eq(json_str_at(json_item(taints, k), "key"), json_str_at(v, "key")) &&
                str_eq(json_str_at(json_item(taints, k), "effect"), json_str_at(v, "effect")))
                check_bad(c, FIELD_DUPLICATE, here, v, "taints must be unique by key and effect pair");
    }
}

static void check_node(struct check *c) {
    const struct json *spec = json_get_c(c->object, "spec"), *cidrs = json_get_c(spec, "podCIDRs");
    const struct json *old = json_get_c(c->old, "spec");
    const struct where *at = AT(NULL, "spec");
    check_taints(c, AT(at, "taints"), json_get_c(spec, "taints"));
    for (size_t i = 0; i < json_len(cidrs); i++)
        if (!check_is_cidr(json_as_str(json_item(cidrs, i))))
            check_bad(c, FIELD_INVALID, AT_ITEM(AT(at, "podCIDRs"), i), json_item(cidrs, i), NOT_A_CIDR);
    if (json_str_at(old, "providerID").n && !str_eq(json_str_at(old, "providerID"), json_str_at(spec, "providerID")))
        check_bad(c, FIELD_FORBIDDEN, AT(at, "providerID"), NULL,
                  "node updates may not change providerID except from \"\" to valid");
    if (json_len(json_get_c(old, "podCIDRs")) && !json_equal(cidrs, json_get_c(old, "podCIDRs")))
        check_bad(c, FIELD_FORBIDDEN, AT(at, "podCIDRs"), NULL,
                  "node updates may not change podCIDR except from \"\" to valid");
}

const struct check_kind check_core_kinds[] = {
    {"services", check_service},
    {"endpoints", check_endpoints},
    {"endpointslices.discovery.k8s.io", check_endpoint_slice},
    {"ingresses.networking.k8s.io", check_ingress},
    {"ingressclasses.networking.k8s.io", check_ingress_class},
    {"configmaps", check_configmap},
    {"secrets", check_secret},
    {"namespaces", check_namespace},
    {"nodes", check_node},
    {NULL, NULL},
};
