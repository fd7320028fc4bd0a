/*
 * Conversion between the versions of a resource, always through the stored one. Most versions differ in nothing but
 * their name: decoding into the other type does it. Those that differ have a pair of functions in a table.
 */
#include "schema/convert.h"
#include "schema/default.h"

struct json *convert_get(const struct json *v, const char *name) {
    struct json *m = json_is(v, JSON_OBJECT) ? json_get_c(v, name) : NULL;
    return m && m->type != JSON_NULL ? m : NULL;
}

void convert_move(struct arena *a, struct json *from, const char *name, struct json *to, const char *new_name) {
    struct json *m = convert_get(from, name);
    if (!m || !json_is(to, JSON_OBJECT))
        return;
    json_del_c(from, name);
    json_set_c(a, to, new_name, m);
}

void convert_rename(struct arena *a, struct json *v, const char *const *names) {
    for (; names[0]; names += 2)
        convert_move(a, v, names[0], v, names[1]);
}

void convert_rename_back(struct arena *a, struct json *v, const char *const *names) {
    for (; names[0]; names += 2)
        convert_move(a, v, names[1], v, names[0]);
}

/* --- Ingress: the backend of v1beta1 is flat --- */

static void backend_in(struct arena *a, struct json *b) {
    struct json *port = convert_get(b, "servicePort"), *service;
    if (!json_is(b, JSON_OBJECT) || (json_str_at(b, "serviceName").n == 0 && !port))
        return;
    service = json_object(a);
    json_set_str(a, service, "name", json_str_at(b, "serviceName"));
    struct json *to = json_object(a);
    if (json_is(port, JSON_INT) && port->i != 0)
        json_set_c(a, to, "number", port);
    else if (json_is(port, JSON_STRING) && port->s.n > 0)
        json_set_c(a, to, "name", port);
    json_set_c(a, service, "port", to);
    if (json_str_at(b, "serviceName").n > 0 || to->n > 0)
        json_set_c(a, b, "service", service);
    json_del_c(b, "serviceName");
    json_del_c(b, "servicePort");
}

static void backend_out(struct arena *a, struct json *b) {
    struct json *service = convert_get(b, "service");
    if (!service)
        return;
    convert_move(a, service, "name", b, "serviceName");
    struct json *port = convert_get(service, "port"), *number = convert_get(port, "number");
    json_set_c(a, b, "servicePort", number && json_as_int(number, 0) ? number : json_str(a, json_str_at(port, "name")));
    json_del_c(b, "service");
}

static void each_backend(struct arena *a, struct json *spec, void (*fn)(struct arena *a, struct json *backend)) {
    const struct json *rules = convert_get(spec, "rules");
    for (size_t i = 0; i < json_len(rules); i++) {
        const struct json *paths = convert_get(convert_get(json_item(rules, i), "http"), "paths");
        for (size_t k = 0; k < json_len(paths); k++)
            fn(a, convert_get(json_item(paths, k), "backend"));
    }
}

static int ingress_in(struct arena *a, struct json *v, struct error *err) {
    struct json *spec = convert_get(v, "spec");
    each_backend(a, spec, backend_in);
    backend_in(a, convert_get(spec, "backend"));
    convert_move(a, spec, "backend", spec, "defaultBackend");
    return 0;
}

static int ingress_out(struct arena *a, struct json *v, struct error *err) {
    struct json *spec = convert_get(v, "spec");
    each_backend(a, spec, backend_out);
    backend_out(a, convert_get(spec, "defaultBackend"));
    convert_move(a, spec, "defaultBackend", spec, "backend");
    return 0;
}

/* --- Event: core/v1 and events.k8s.io name the same things differently --- */

static const char *const event_names[] = {
    "regarding",
    "involvedObject",
    "note",
    "message",
    "deprecatedSource",
    "source",
    "deprecatedFirstTimestamp",
    "firstTimestamp",
    "deprecatedLastTimestamp",
    "lastTimestamp",
    "deprecatedCount",
    "count",
    "reportingController",
    "reportingComponent",
    NULL,
};

static int event_in(struct arena *a, struct json *v, struct error *err) {
    convert_rename(a, v, event_names);
    return 0;
}

static int event_out(struct arena *a, struct json *v, struct error *err) {
    convert_rename_back(a, v, event_names);
    return 0;
}

/* --- EndpointSlice: v1beta1 has node and zone in a map --- */

#define HOSTNAME_KEY "kubernetes.io/hostname"
#define ZONE_KEY "topology.kubernetes.io/zone"

static int endpoint_slice_in(struct arena *a, struct json *v, struct error *err) {
    const struct json *list = convert_get(v, "endpoints");
    for (size_t i = 0; i < json_len(list); i++) {
        struct json *e = json_item(list, i), *topology = convert_get(e, "topology");
        if (!json_is(topology, JSON_OBJECT))
            continue;
        if (!convert_get(e, "nodeName"))
            convert_move(a, topology, HOSTNAME_KEY, e, "nodeName");
        json_del_c(topology, HOSTNAME_KEY);
        convert_move(a, topology, ZONE_KEY, e, "zone");
        convert_move(a, e, "topology", e, "deprecatedTopology");
    }
    return 0;
}

static int endpoint_slice_out(struct arena *a, struct json *v, struct error *err) {
    const struct json *list = convert_get(v, "endpoints");
    for (size_t i = 0; i < json_len(list); i++) {
        struct json *e = json_item(list, i), *topology = convert_get(e, "deprecatedTopology");
        struct str node = json_str_at(e, "nodeName");
        if (!json_is(e, JSON_OBJECT))
            continue;
        if (!topology)
            topology = json_object(a);
        if (node.n > 0)
            json_set_str(a, topology, HOSTNAME_KEY, node);
        convert_move(a, e, "zone", topology, ZONE_KEY);
        json_set_c(a, e, "topology", topology);
    }
    return 0;
}

/* --- small ones --- */

/* An empty selector of a v1beta1 budget selects nothing, in v1 everything. */
#define EMPTY_MATCH_KEY "pdb.kubernetes.io/deprecated-v1beta1-empty-selector-match"

static int budget_in(struct arena *a, struct json *v, struct error *err) {
    struct json *selector = convert_get(convert_get(v, "spec"), "selector");
    if (!selector ||
        json_len(convert_get(selector, "matchLabels")) + json_len(convert_get(selector, "matchExpressions")))
        return 0;
    struct json *list = json_array(a), *one = json_object(a);
    json_set_cstr(a, one, "key", EMPTY_MATCH_KEY);
    json_set_cstr(a, one, "operator", "Exists");
    json_append(a, list, one);
    json_set_c(a, selector, "matchExpressions", list);
    return 0;
}

static int budget_out(struct arena *a, struct json *v, struct error *err) {
    struct json *selector = convert_get(convert_get(v, "spec"), "selector");
    const struct json *list = convert_get(selector, "matchExpressions");
    if (json_len(list) == 1 && str_eq_c(json_str_at(json_item(list, 0), "key"), EMPTY_MATCH_KEY))
        json_del_c(selector, "matchExpressions");
    return 0;
}

static const char *const review_names[] = {"group", "groups", NULL};

static int review_in(struct arena *a, struct json *v, struct error *err) {
    struct json *spec = convert_get(v, "spec");
    if (spec)
        convert_rename(a, spec, review_names);
    return 0;
}

static int review_out(struct arena *a, struct json *v, struct error *err) {
    struct json *spec = convert_get(v, "spec");
    if (spec)
        convert_rename_back(a, spec, review_names);
    return 0;
}

static const char *const share_names[] = {"assuredConcurrencyShares", "nominalConcurrencyShares", NULL};

static int priority_level_in(struct arena *a, struct json *v, struct error *err) {
    struct json *limited = convert_get(convert_get(v, "spec"), "limited");
    if (limited)
        convert_rename(a, limited, share_names);
    return 0;
}

static int priority_level_out(struct arena *a, struct json *v, struct error *err) {
    struct json *limited = convert_get(convert_get(v, "spec"), "limited");
    if (limited)
        convert_rename_back(a, limited, share_names);
    return 0;
}

static int runtime_class_in(struct arena *a, struct json *v, struct error *err) {
    struct json *spec = convert_get(v, "spec");
    convert_move(a, spec, "runtimeHandler", v, "handler");
    convert_move(a, spec, "overhead", v, "overhead");
    convert_move(a, spec, "scheduling", v, "scheduling");
    return 0;
}

static int runtime_class_out(struct arena *a, struct json *v, struct error *err) {
    struct json *spec = json_object(a);
    convert_move(a, v, "handler", spec, "runtimeHandler");
    convert_move(a, v, "overhead", spec, "overhead");
    convert_move(a, v, "scheduling", spec, "scheduling");
    json_set_c(a, v, "spec", spec);
    return 0;
}

/* --- resource.k8s.io/v1beta1: what v1 has in "exactly" and beside "name" is flat and in "basic" --- */

static struct json *device_requests(const struct json *v) {
    const struct json *spec = convert_get(v, "spec"), *inner = convert_get(spec, "spec");
    return convert_get(convert_get(inner ? inner : spec, "devices"), "requests");
}

static int device_requests_in(struct arena *a, struct json *v, struct error *err) {
    static const char *const names[] = {"deviceClassName", "selectors",   "allocationMode", "count",
                                        "adminAccess",     "tolerations", "capacity"};
    const struct json *list = device_requests(v);
    for (size_t i = 0; i < json_len(list); i++) {
        struct json *request = json_item(list, i), *exactly = json_object(a);
        bool alternatives = json_len(convert_get(request, "firstAvailable")) > 0;
        if (!json_is(request, JSON_OBJECT) || (alternatives && json_str_at(request, "deviceClassName").n == 0))
            continue;
        for (size_t k = 0; k < ARRAY_LEN(names); k++)
            convert_move(a, request, names[k], exactly, names[k]);
        json_set_c(a, request, "exactly", exactly);
    }
    return 0;
}

static int device_requests_out(struct arena *a, struct json *v, struct error *err) {
    const struct json *list = device_requests(v);
    for (size_t i = 0; i < json_len(list); i++) {
        struct json *request = json_item(list, i), *exactly = convert_get(request, "exactly");
        for (size_t k = 0; k < json_len(exactly); k++)
            json_set(a, request, exactly->members[k].key, exactly->members[k].value);
    }
    return 0;
}

static int devices_in(struct arena *a, struct json *v, struct error *err) {
    const struct json *list = convert_get(convert_get(v, "spec"), "devices");
    for (size_t i = 0; i < json_len(list); i++) {
        struct json *device = json_item(list, i), *basic = convert_get(device, "basic");
        for (size_t k = 0; k < json_len(basic); k++)
            json_set(a, device, basic->members[k].key, basic->members[k].value);
    }
    return 0;
}

static int devices_out(struct arena *a, struct json *v, struct error *err) {
    const struct json *list = convert_get(convert_get(v, "spec"), "devices");
    for (size_t i = 0; i < json_len(list); i++) {
        struct json *device = json_item(list, i), *basic = json_object(a);
        for (size_t k = 0; k < json_len(device); k++)
            if (!str_eq(device->members[k].key, STR("name")))
                json_set(a, basic, device->members[k].key, device->members[k].value);
        if (json_is(device, JSON_OBJECT))
            json_set_c(a, device, "basic", basic);
    }
    return 0;
}

/* --- the table --- */

#define BETA STR_INIT("v1beta1")
#define ANY_VERSION STR_INIT("")
#define RESOURCE_GROUP STR_INIT("resource.k8s.io")

static const struct conversion conversions[] = {
    {STR_INIT("extensions"), BETA, STR_INIT("Ingress"), ingress_in, ingress_out},
    {STR_INIT("networking.k8s.io"), BETA, STR_INIT("Ingress"), ingress_in, ingress_out},
    {STR_INIT("events.k8s.io"), ANY_VERSION, STR_INIT("Event"), event_in, event_out},
    {STR_INIT("discovery.k8s.io"), BETA, STR_INIT("EndpointSlice"), endpoint_slice_in, endpoint_slice_out},
    {STR_INIT("policy"), BETA, STR_INIT("PodDisruptionBudget"), budget_in, budget_out},
    {STR_INIT("authorization.k8s.io"), BETA, STR_INIT("SubjectAccessReview"), review_in, review_out},
    {STR_INIT("authorization.k8s.io"), BETA, STR_INIT("LocalSubjectAccessReview"), review_in, review_out},
    {STR_INIT("flowcontrol.apiserver.k8s.io"), BETA, STR_INIT("PriorityLevelConfiguration"), priority_level_in,
     priority_level_out},
    {STR_INIT("flowcontrol.apiserver.k8s.io"), STR_INIT("v1beta2"), STR_INIT("PriorityLevelConfiguration"),
     priority_level_in, priority_level_out},
    {STR_INIT("node.k8s.io"), STR_INIT("v1alpha1"), STR_INIT("RuntimeClass"), runtime_class_in, runtime_class_out},
    {STR_INIT("autoscaling"), STR_INIT("v1"), STR_INIT("HorizontalPodAutoscaler"), convert_hpa_v1_in,
     convert_hpa_v1_out},
    {STR_INIT("autoscaling"), STR_INIT("v2beta1"), STR_INIT("HorizontalPodAutoscaler"), convert_hpa_v2beta1_in,
     convert_hpa_v2beta1_out},
    {STR_INIT("apiextensions.k8s.io"), BETA, STR_INIT("CustomResourceDefinition"), convert_crd_in, convert_crd_out},
    {RESOURCE_GROUP, BETA, STR_INIT("ResourceClaim"), device_requests_in, device_requests_out},
    {RESOURCE_GROUP, BETA, STR_INIT("ResourceClaimTemplate"), device_requests_in, device_requests_out},
    {RESOURCE_GROUP, BETA, STR_INIT("ResourceSlice"), devices_in, devices_out},
};

const struct conversion *convert_find(const struct schema_resource *r) {
    for (size_t i = 0; r != r->storage && i < ARRAY_LEN(conversions); i++) {
        const struct conversion *c = &conversions[i];
        if (str_eq(c->group, r->group) && str_eq(c->kind, r->kind) &&
            (c->version.n == 0 || str_eq(c->version, r->version)))
            return c;
    }
    return NULL;
}

static void set_version(struct arena *a, const struct schema_resource *to, struct json *v) {
    struct str version = to->version;
    if (to->group.n > 0)
        version = str_printf(a, "%.*s/%.*s", STR_ARG(to->group), STR_ARG(to->version));
    default_put(a, to->type, v, "kind", json_str(a, to->kind));
    default_put(a, to->type, v, "apiVersion", json_str(a, version));
}

struct json *schema_convert(struct arena *a, const struct schema_resource *from, const struct schema_resource *to,
                            const struct json *v, struct error *err) {
    if (!str_eq(from->key, to->key)) {
        error_set(err, -EINVAL, "%.*s cannot be converted to %.*s", STR_ARG(from->key), STR_ARG(to->key));
        return NULL;
    }
    if (!json_is(v, JSON_OBJECT)) {
        error_set(err, -EINVAL, "only an object can be converted");
        return NULL;
    }
    struct json *copy = json_copy(a, v);
    const struct conversion *in = from != to ? convert_find(from) : NULL;
    const struct conversion *out = from != to ? convert_find(to) : NULL;
    if (in && in->to_storage(a, copy, err) < 0)
        return NULL;
    if (out && out->from_storage(a, copy, err) < 0)
        return NULL;
    set_version(a, to, copy);
    if (from->type->fields == to->type->fields && !in && !out)
        return copy;
    return schema_decode(a, to->type, copy, NULL, err);
}
