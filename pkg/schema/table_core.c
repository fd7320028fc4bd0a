/* Cells of the core group's kinds, of discovery and of networking. */
#include "schema/table.h"

#include <inttypes.h>
#include <stdlib.h>

#define SHOWN_MAX 3 /* endpoints, ports and hosts; the rest is counted */
#define ROLE_PREFIX "node-role.kubernetes.io/"

/* --- nodes --- */

static struct json *node_status(struct table_row *row) {
    const struct json *ready = table_condition(row->object, "Ready");
    const char *word = "Unknown";
    if (ready)
        word = str_eq(json_str_at(ready, "status"), STR("True")) ? "Ready" : "NotReady";
    bool off = json_bool_at(row->object, "spec.unschedulable", false);
    return json_strf(row->arena, "%s%s", word, off ? ",SchedulingDisabled" : "");
}

static int by_text(const void *a, const void *b) {
    return str_cmp(*(const struct str *)a, *(const struct str *)b);
}

static struct json *node_roles(struct table_row *row) {
    const struct json *labels = json_at(row->object, "metadata.labels");
    struct table_list l = {.text = BUF_INIT};
    size_t n = 0;
    struct str *roles = arena_alloc(row->arena, (json_len(labels) + 1) * sizeof(*roles));
    for (size_t i = 0; i < json_len(labels); i++) {
        struct str key = labels->members[i].key;
        if (str_starts(key, STR(ROLE_PREFIX)))
            roles[n] = str_skip(key, sizeof(ROLE_PREFIX) - 1);
        else if (str_eq(key, STR("kubernetes.io/role")))
            roles[n] = json_as_str(labels->members[i].value);
        n += roles[n].n > 0;
    }
    qsort(roles, n, sizeof(*roles), by_text);
    for (size_t i = 0; i < n; i++)
        if (i == 0 || !str_eq(roles[i], roles[i - 1]))
            table_list_add(&l, roles[i]);
    return table_list_cell(row, &l, "<none>");
}

static struct json *node_address(struct table_row *row, const char *type) {
    const struct json *list = json_at(row->object, "status.addresses");
    for (size_t i = 0; i < json_len(list); i++)
        if (str_eq_c(json_str_at(json_item(list, i), "type"), type))
            return table_text(row, json_str_at(json_item(list, i), "address"));
    return json_cstr(row->arena, "<none>");
}

static struct json *node_internal_ip(struct table_row *row) {
    return node_address(row, "InternalIP");
}

static struct json *node_external_ip(struct table_row *row) {
    return node_address(row, "ExternalIP");
}

/* --- services --- */

/* Addresses and host names of status.loadBalancer, sorted. */
static void add_balancers(struct table_row *row, struct table_list *l) {
    const struct json *list = json_at(row->object, "status.loadBalancer.ingress");
    size_t n = 0;
    struct str *names = arena_alloc(row->arena, (json_len(list) + 1) * sizeof(*names));
    for (size_t i = 0; i < json_len(list); i++) {
        struct str ip = json_str_at(json_item(list, i), "ip");
        names[n] = ip.n ? ip : json_str_at(json_item(list, i), "hostname");
        n += names[n].n > 0;
    }
    qsort(names, n, sizeof(*names), by_text);
    for (size_t i = 0; i < n; i++)
        if (i == 0 || !str_eq(names[i], names[i - 1]))
            table_list_add(l, names[i]);
}

static struct json *service_cluster_ip(struct table_row *row) {
    struct str ip = json_as_str(json_item(json_at(row->object, "spec.clusterIPs"), 0));
    return ip.n ? table_text(row, ip) : table_string(row, "spec.clusterIP", "<none>");
}

static struct json *service_external_ip(struct table_row *row) {
    struct str type = json_str_at(row->object, "spec.type");
    const struct json *ips = json_at(row->object, "spec.externalIPs");
    struct table_list l = {.text = BUF_INIT};
    bool balanced = str_eq(type, STR("LoadBalancer"));
    if (str_eq(type, STR("ExternalName")))
        return table_string(row, "spec.externalName", "");
    if (balanced)
        add_balancers(row, &l);
    for (size_t i = 0; i < json_len(ips); i++)
        table_list_add(&l, json_as_str(json_item(ips, i)));
    return table_list_cell(row, &l, balanced ? "<pending>" : "<none>");
}

static struct json *service_ports(struct table_row *row) {
    const struct json *ports = json_at(row->object, "spec.ports");
    struct table_list l = {.text = BUF_INIT};
    for (size_t i = 0; i < json_len(ports); i++) {
        const struct json *p = json_item(ports, i);
        int64_t port = json_int_at(p, "port", 0), node_port = json_int_at(p, "nodePort", 0);
        struct str protocol = json_str_at(p, "protocol");
        if (node_port > 0)
            table_list_add(&l,
                           str_printf(row->arena, "%" PRId64 ":%" PRId64 "/%.*s", port, node_port, STR_ARG(protocol)));
        else
            table_list_add(&l, str_printf(row->arena, "%" PRId64 "/%.*s", port, STR_ARG(protocol)));
    }
    return table_list_cell(row, &l, "<none>");
}

static void add_endpoint(struct table_row *row, struct table_list *l, struct str ip, const struct json *port) {
    bool v6 = str_index(ip, ':', 0) >= 0;
    if (port)
        ip = str_printf(row->arena, "%s%.*s%s:%" PRId64, v6 ? "[" : "", STR_ARG(ip), v6 ? "]" : "",
                        json_int_at(port, "port", 0));
    table_list_add(l, ip);
}

static struct json *endpoints_endpoints(struct table_row *row) {
    const struct json *subsets = json_get_c(row->object, "subsets");
    struct table_list l = {.text = BUF_INIT, .limit = SHOWN_MAX};
    for (size_t i = 0; i < json_len(subsets); i++) {
        const struct json *ports = json_get_c(json_item(subsets, i), "ports");
        const struct json *addresses = json_get_c(json_item(subsets, i), "addresses");
        for (size_t p = 0; p < MAX(json_len(ports), (size_t)1); p++)
            for (size_t k = 0; k < json_len(addresses); k++)
                add_endpoint(row, &l, json_str_at(json_item(addresses, k), "ip"), json_item(ports, p));
    }
    return table_list_cell(row, &l, "<none>");
}

static struct json *endpointslice_ports(struct table_row *row) {
    const struct json *ports = json_get_c(row->object, "ports");
    struct table_list l = {.text = BUF_INIT, .limit = SHOWN_MAX};
    for (size_t i = 0; i < json_len(ports); i++) {
        int64_t port = json_int_at(json_item(ports, i), "port", -1);
        table_list_add(&l, port < 0 ? STR("*") : str_printf(row->arena, "%" PRId64, port));
    }
    return table_list_cell(row, &l, "<unset>");
}

static struct json *endpointslice_endpoints(struct table_row *row) {
    const struct json *endpoints = json_get_c(row->object, "endpoints");
    struct table_list l = {.text = BUF_INIT, .limit = SHOWN_MAX};
    for (size_t i = 0; i < json_len(endpoints); i++) {
        const struct json *addresses = json_get_c(json_item(endpoints, i), "addresses");
        for (size_t k = 0; k < json_len(addresses); k++)
            table_list_add(&l, json_as_str(json_item(addresses, k)));
    }
    return table_list_cell(row, &l, "<unset>");
}

/* --- networking --- */

static struct json *ingress_hosts(struct table_row *row) {
    const struct json *rules = json_at(row->object, "spec.rules");
    struct table_list l = {.text = BUF_INIT, .limit = SHOWN_MAX};
    for (size_t i = 0; i < json_len(rules); i++) {
        struct str host = json_str_at(json_item(rules, i), "host");
        if (host.n)
            table_list_add(&l, host);
    }
    return table_list_cell(row, &l, "*");
}

static struct json *ingress_address(struct table_row *row) {
    struct table_list l = {.text = BUF_INIT};
    add_balancers(row, &l);
    return table_list_cell(row, &l, "");
}

static struct json *ingress_ports(struct table_row *row) {
    return json_cstr(row->arena, json_len(json_at(row->object, "spec.tls")) ? "80, 443" : "80");
}

static struct json *ingressclass_parameters(struct table_row *row) {
    const struct json *p = json_at(row->object, "spec.parameters");
    struct str group = json_str_at(p, "apiGroup");
    if (!json_is(p, JSON_OBJECT))
        return json_cstr(row->arena, "<none>");
    return json_strf(row->arena, "%.*s%s%.*s/%.*s", STR_ARG(json_str_at(p, "kind")), group.n ? "." : "", STR_ARG(group),
                     STR_ARG(json_str_at(p, "name")));
}

static struct json *ipaddress_parentref(struct table_row *row) {
    static const char *const parts[] = {"group", "resource", "namespace", "name"};
    const struct json *ref = json_at(row->object, "spec.parentRef");
    struct table_list l = {.text = BUF_INIT, .separator = "/"};
    for (size_t i = 0; i < ARRAY_LEN(parts); i++)
        if (json_str_at(ref, parts[i]).n)
            table_list_add(&l, json_str_at(ref, parts[i]));
    return table_list_cell(row, &l, "<none>");
}

/* --- events --- */

static const struct json *first_of(const struct json *v, const char *const *paths) {
    for (; *paths; paths++)
        if (json_str_at(v, *paths).n)
            return json_at(v, *paths);
    return NULL;
}

static struct json *event_last_seen(struct table_row *row) {
    static const char *const paths[] = {"series.lastObservedTime", "lastTimestamp", "deprecatedLastTimestamp",
                                        "eventTime", NULL};
    return table_text(row, table_age(row, first_of(row->object, paths), "<unknown>"));
}

static struct json *event_first_seen(struct table_row *row) {
    static const char *const paths[] = {"firstTimestamp", "deprecatedFirstTimestamp", "eventTime", NULL};
    return table_text(row, table_age(row, first_of(row->object, paths), "<unknown>"));
}

static struct json *event_object(struct table_row *row) {
    const struct json *o = json_get_c(row->object, "involvedObject");
    struct str kind = str_lower(row->arena, json_str_at(o, "kind")), name = json_str_at(o, "name");
    return json_strf(row->arena, "%.*s%s%.*s", STR_ARG(kind), name.n ? "/" : "", STR_ARG(name));
}

static struct json *event_source(struct table_row *row) {
    struct table_list l = {.text = BUF_INIT, .separator = ", "};
    static const char *const pairs[][2] = {{"source.component", "source.host"},
                                           {"reportingComponent", "reportingInstance"}};
    const char *const *paths = pairs[json_str_at(row->object, pairs[0][0]).n ? 0 : 1];
    for (size_t i = 0; i < 2; i++)
        if (json_str_at(row->object, paths[i]).n)
            table_list_add(&l, json_str_at(row->object, paths[i]));
    return table_list_cell(row, &l, "");
}

static struct json *event_message(struct table_row *row) {
    return table_text(row, str_trim(json_str_at(row->object, "message")));
}

static struct json *event_count(struct table_row *row) {
    int64_t n = json_int_at(row->object, "series.count", 0);
    n = n ? n : json_int_at(row->object, "count", 0);
    return json_int(row->arena, n ? n : 1);
}

/* --- configuration, quotas, component states --- */

static struct json *configmap_data(struct table_row *row) {
    return json_int(row->arena, (int64_t)(json_len(json_get_c(row->object, "data")) +
                                          json_len(json_get_c(row->object, "binaryData"))));
}

static struct json *quota_cell(struct table_row *row, bool limits) {
    const struct json *hard = json_at(row->object, "status.hard"), *used = json_at(row->object, "status.used");
    struct table_list l = {.text = BUF_INIT, .separator = ", "};
    for (size_t i = 0; i < json_len(hard); i++) {
        struct str key = hard->members[i].key, now = json_as_str(json_get(used, key));
        if (str_starts(key, STR("limits")) == limits)
            table_list_add(&l, str_printf(row->arena, "%.*s: %.*s/%.*s", STR_ARG(key), STR_ARG(now.n ? now : STR("0")),
                                          STR_ARG(json_as_str(hard->members[i].value))));
    }
    return table_list_cell(row, &l, "");
}

static struct json *resourcequota_request(struct table_row *row) {
    return quota_cell(row, false);
}

static struct json *resourcequota_limit(struct table_row *row) {
    return quota_cell(row, true);
}

static const struct json *healthy(struct table_row *row) {
    const struct json *list = json_get_c(row->object, "conditions");
    for (size_t i = 0; i < json_len(list); i++)
        if (str_eq(json_str_at(json_item(list, i), "type"), STR("Healthy")))
            return json_item(list, i);
    return NULL;
}

static struct json *componentstatus_status(struct table_row *row) {
    const struct json *c = healthy(row);
    if (!c)
        return json_cstr(row->arena, "Unknown");
    return json_cstr(row->arena, str_eq(json_str_at(c, "status"), STR("True")) ? "Healthy" : "Unhealthy");
}

static struct json *componentstatus_message(struct table_row *row) {
    return table_text(row, json_str_at(healthy(row), "message"));
}

static struct json *componentstatus_error(struct table_row *row) {
    return table_text(row, json_str_at(healthy(row), "error"));
}

/* --- volumes --- */

static struct json *access_modes(struct table_row *row, const struct json *modes) {
    static const char *const names[][2] = {{"ReadWriteOnce", "RWO"},
                                           {"ReadOnlyMany", "ROX"},
                                           {"ReadWriteMany", "RWX"},
                                           {"ReadWriteOncePod", "RWOP"}};
    struct table_list l = {.text = BUF_INIT};
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        for (size_t k = 0; k < json_len(modes); k++)
            if (str_eq_c(json_as_str(json_item(modes, k)), names[i][0])) {
                table_list_add(&l, str_c(names[i][1]));
                break;
            }
    return table_list_cell(row, &l, "");
}

static struct json *volume_status(struct table_row *row) {
    if (json_str_at(row->object, "metadata.deletionTimestamp").n)
        return json_cstr(row->arena, "Terminating");
    return table_string(row, "status.phase", "");
}

static struct json *volume_class(struct table_row *row) {
    const struct json *annotations = json_at(row->object, "metadata.annotations");
    struct str old = json_as_str(json_get_c(annotations, "volume.beta.kubernetes.io/storage-class"));
    return old.n ? table_text(row, old) : table_string(row, "spec.storageClassName", "");
}

static struct json *persistentvolume_access_modes(struct table_row *row) {
    return access_modes(row, json_at(row->object, "spec.accessModes"));
}

static struct json *persistentvolume_claim(struct table_row *row) {
    const struct json *ref = json_at(row->object, "spec.claimRef");
    if (!json_is(ref, JSON_OBJECT))
        return json_cstr(row->arena, "");
    return json_strf(row->arena, "%.*s/%.*s", STR_ARG(json_str_at(ref, "namespace")),
                     STR_ARG(json_str_at(ref, "name")));
}

static bool is_bound(struct table_row *row) {
    return json_str_at(row->object, "spec.volumeName").n > 0;
}

static struct json *persistentvolumeclaim_capacity(struct table_row *row) {
    return is_bound(row) ? table_string(row, "status.capacity.storage", "") : json_cstr(row->arena, "");
}

static struct json *persistentvolumeclaim_access_modes(struct table_row *row) {
    return access_modes(row, is_bound(row) ? json_at(row->object, "status.accessModes") : NULL);
}

const struct table_cell table_core_cells[] = {
    {"node-status", node_status},
    {"node-roles", node_roles},
    {"node-internal-ip", node_internal_ip},
    {"node-external-ip", node_external_ip},
    {"service-cluster-ip", service_cluster_ip},
    {"service-external-ip", service_external_ip},
    {"service-port-s", service_ports},
    {"endpoints-endpoints", endpoints_endpoints},
    {"endpointslice-ports", endpointslice_ports},
    {"endpointslice-endpoints", endpointslice_endpoints},
    {"ingress-hosts", ingress_hosts},
    {"ingress-address", ingress_address},
    {"ingress-ports", ingress_ports},
    {"ingressclass-parameters", ingressclass_parameters},
    {"ipaddress-parentref", ipaddress_parentref},
    {"event-last-seen", event_last_seen},
    {"event-first-seen", event_first_seen},
    {"event-object", event_object},
    {"event-source", event_source},
    {"event-message", event_message},
    {"event-count", event_count},
    {"configmap-data", configmap_data},
    {"resourcequota-request", resourcequota_request},
    {"resourcequota-limit", resourcequota_limit},
    {"componentstatus-status", componentstatus_status},
    {"componentstatus-message", componentstatus_message},
    {"componentstatus-error", componentstatus_error},
    {"persistentvolume-status", volume_status},
    {"persistentvolume-storageclass", volume_class},
    {"persistentvolume-access-modes", persistentvolume_access_modes},
    {"persistentvolume-claim", persistentvolume_claim},
    {"persistentvolumeclaim-status", volume_status},
    {"persistentvolumeclaim-storageclass", volume_class},
    {"persistentvolumeclaim-capacity", persistentvolumeclaim_capacity},
    {"persistentvolumeclaim-access-modes", persistentvolumeclaim_access_modes},
    {NULL, NULL},
};
