/* What a fresh cluster has: the objects of embed/bootstrap.yaml, and the service kubernetes with its endpoints. */
#include "api/meta.h"

extern const char embed_api_bootstrap_yaml_start[], embed_api_bootstrap_yaml_end[];

#define ADVERTISE_MAX 16

struct boot {
    struct api *api;
    struct arena *arena;
    struct error *err;
};

static int boot_create(struct boot *b, const struct schema_resource *r, struct str ns, const struct json *v) {
    struct api_call c = {.api = b->api, .manager = "dory-bootstrap", .arena = b->arena};
    struct str name = json_str_at(v, "metadata.name");
    if (api_peek(b->api, r, ns, name))
        return 0;
    int rc = api_create(&c, r, ns, v, NULL);
    if (rc < 0)
        return error_set(b->err, rc, "creating %.*s %.*s: %.*s", STR_ARG(r->plural), STR_ARG(name),
                         STR_ARG(c.status.message));
    return 0;
}

static int boot_document(void *arg, struct json *doc) {
    struct boot *b = arg;
    struct str gv = json_str_at(doc, "apiVersion"), group = STR(""), version = gv;
    str_cut(gv, '/', &group, &version);
    const struct schema_resource *r = schema_find_kind(b->api->schema, group, version, json_str_at(doc, "kind"));
    if (!r)
        return error_set(b->err, -ENOENT, "the schema lacks %.*s %.*s", STR_ARG(gv), STR_ARG(json_str_at(doc, "kind")));
    return boot_create(b, r, json_str_at(doc, "metadata.namespace"), doc);
}

/* --- the service kubernetes -------------------------------------------------------------------------------------- */

static struct json *labelled(struct arena *a, const char *api_version, const char *kind, const char *const labels[][2],
                             size_t n) {
    struct json *v = json_object(a), *m = json_object(a), *l = json_object(a);
    json_set_cstr(a, v, "apiVersion", api_version);
    json_set_cstr(a, v, "kind", kind);
    json_set_cstr(a, m, "name", "kubernetes");
    json_set_cstr(a, m, "namespace", "default");
    for (size_t i = 0; i < n; i++)
        json_set_cstr(a, l, labels[i][0], labels[i][1]);
    json_set_c(a, m, "labels", l);
    json_set_c(a, v, "metadata", m);
    return v;
}

static struct json *https_port(struct arena *a, int64_t port) {
    struct json *p = json_object(a);
    json_set_cstr(a, p, "name", "https");
    json_set_int(a, p, "port", port);
    json_set_cstr(a, p, "protocol", "TCP");
    return p;
}

static int boot_service(struct boot *b, int64_t target) {
    static const char *const labels[][2] = {{"component", "apiserver"}, {"provider", "kubernetes"}};
    struct arena *a = b->arena;
    struct json *v = labelled(a, "v1", "Service", labels, ARRAY_LEN(labels)), *ports = json_array(a);
    struct json *p = https_port(a, 443);
    json_set_int(a, p, "targetPort", target);
    json_append(a, ports, p);
    json_put(a, v, "spec.type", json_cstr(a, "ClusterIP"));
    json_put(a, v, "spec.clusterIP", json_str(a, address_pool_first(b->api->addresses, a)));
    json_put(a, v, "spec.ports", ports);
    return boot_create(b, b->api->services, STR("default"), v);
}

/* Creates v, or replaces what is stored when it says something else. */
static int boot_put(struct boot *b, const char *key, struct json *v) {
    const struct schema_resource *r = schema_find_key(b->api->schema, key);
    struct str ns = STR("default"), name = STR("kubernetes");
    if (!r)
        return error_set(b->err, -ENOENT, "the schema lacks %s", key);
    if (!api_peek(b->api, r, ns, name))
        return boot_create(b, r, ns, v);
    struct api_call c = {.api = b->api, .manager = "dory-bootstrap", .arena = b->arena};
    int rc = api_update(&c, r, ns, name, STR(""), v, NULL);
    if (rc < 0)
        return error_set(b->err, rc, "updating %s kubernetes: %.*s", key, STR_ARG(c.status.message));
    return 0;
}

static int boot_endpoints(struct boot *b, const struct str *ips, size_t n, int64_t port) {
    static const char *const labels[][2] = {{"endpointslice.kubernetes.io/skip-mirror", "true"}};
    static const char *const slice_labels[][2] = {{"kubernetes.io/service-name", "kubernetes"}};
    struct arena *a = b->arena;
    struct json *ep = labelled(a, "v1", "Endpoints", labels, 1);
    struct json *slice = labelled(a, "discovery.k8s.io/v1", "EndpointSlice", slice_labels, 1);
    struct json *addresses = json_array(a), *endpoints = json_array(a), *ports = json_array(a);
    struct json *subset = json_object(a), *subsets = json_array(a);
    json_append(a, ports, https_port(a, port));
    for (size_t i = 0; i < n; i++) {
        struct json *one = json_object(a), *e = json_object(a), *list = json_array(a);
        json_set_str(a, one, "ip", ips[i]);
        json_append(a, addresses, one);
        json_append(a, list, json_str(a, ips[i]));
        json_set_c(a, e, "addresses", list);
        json_put(a, e, "conditions.ready", json_bool(a, true));
        json_append(a, endpoints, e);
    }
    json_set_c(a, subset, "addresses", addresses);
    json_set_c(a, subset, "ports", ports);
    json_append(a, subsets, subset);
    json_set_c(a, ep, "subsets", subsets);
    json_set_cstr(a, slice, "addressType", "IPv4");
    json_set_c(a, slice, "endpoints", endpoints);
    json_set_c(a, slice, "ports", ports);
    int rc = boot_put(b, "endpoints", ep);
    return rc < 0 ? rc : boot_put(b, "endpointslices.discovery.k8s.io", slice);
}

static int boot_kubernetes(struct boot *b) {
    struct str ips[ADVERTISE_MAX];
    size_t n = 0;
    int64_t port = 6443;
    for (size_t i = 0; b->api->advertise[i] && n < ADVERTISE_MAX; i++) {
        struct str text = str_c(b->api->advertise[i]);
        ptrdiff_t colon = str_rindex(text, ':');
        if (colon <= 0 || text.p[0] == '[' || !str_to_i64(str_skip(text, (size_t)colon + 1), &port))
            return error_set(b->err, -EINVAL, "the address \"%s\" of the kubernetes service must be \"ip:port\"",
                             b->api->advertise[i]);
        ips[n++] = str_n(text.p, (size_t)colon);
    }
    int rc = boot_service(b, port);
    return rc < 0 || n == 0 ? rc : boot_endpoints(b, ips, n, port);
}

/* --- the service kube-dns ---------------------------------------------------------------------------------------- */

static void dns_port(struct arena *a, struct json *ports, const char *name, const char *protocol) {
    struct json *p = json_object(a);
    json_set_cstr(a, p, "name", name);
    json_set_int(a, p, "port", 53);
    json_set_cstr(a, p, "protocol", protocol);
    json_append(a, ports, p);
}

/* Clients look for it by its labels (kubectl cluster-info). Every node answers on its address itself, so it selects nothing. */
static int boot_dns(struct boot *b) {
    static const char *const labels[][2] = {{"k8s-app", "kube-dns"},
                                            {"kubernetes.io/cluster-service", "true"},
                                            {"kubernetes.io/name", "CoreDNS"}};
    struct arena *a = b->arena;
    struct json *v = labelled(a, "v1", "Service", labels, ARRAY_LEN(labels)), *ports = json_array(a);
    json_put(a, v, "metadata.name", json_cstr(a, "kube-dns"));
    json_put(a, v, "metadata.namespace", json_cstr(a, "kube-system"));
    dns_port(a, ports, "dns", "UDP");
    dns_port(a, ports, "dns-tcp", "TCP");
    json_put(a, v, "spec.type", json_cstr(a, "ClusterIP"));
    json_put(a, v, "spec.clusterIP", json_cstr(a, b->api->cluster_dns));
    json_put(a, v, "spec.ports", ports);
    return boot_create(b, b->api->services, STR("kube-system"), v);
}

int api_bootstrap(struct api *api, struct error *err) {
    cleanup_arena struct arena *a = arena_new(KiB(64), 0);
    struct boot b = {api, a, err};
    struct str text =
        str_n(embed_api_bootstrap_yaml_start, (size_t)(embed_api_bootstrap_yaml_end - embed_api_bootstrap_yaml_start));
    int rc = yaml_parse_all(a, text, NULL, boot_document, &b, err);
    if (rc == 0)
        rc = boot_kubernetes(&b);
    return rc < 0 || !api->cluster_dns ? rc : boot_dns(&b);
}
