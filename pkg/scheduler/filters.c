/* Whether a pod may run on a node. Each filter is a function of the table; the first reason found is the node's. */
#include "scheduler/snapshot.h"

/* --- taints ----------------------------------------------------------------------------------------------------- */

bool taint_tolerated(const struct json *tolerations, const struct json *taint) {
    for (size_t i = 0; i < json_len(tolerations); i++) {
        const struct json *t = json_item(tolerations, i);
        struct str key = json_str_at(t, "key"), effect = json_str_at(t, "effect"), op = json_str_at(t, "operator");
        bool exists = str_eq(op, STR("Exists"));
        if (effect.n && !str_eq(effect, json_str_at(taint, "effect")))
            continue;
        if (key.n == 0 ? !exists : !str_eq(key, json_str_at(taint, "key")))
            continue;
        if (exists || str_eq(json_str_at(t, "value"), json_str_at(taint, "value")))
            return true;
    }
    return false;
}

static const char *filter_taints(const struct pod_info *p, const struct node_info *n, struct arena *a) {
    const struct json *taints = json_at(object_json(n->object), "spec.taints");
    for (size_t i = 0; i < json_len(taints); i++) {
        const struct json *t = json_item(taints, i);
        struct str effect = json_str_at(t, "effect"), value = json_str_at(t, "value");
        if (str_eq(effect, STR("PreferNoSchedule")) || taint_tolerated(json_at(p->pod, "spec.tolerations"), t))
            continue;
        return arena_printf(a, "node(s) had untolerated taint {%.*s: %.*s}", STR_ARG(json_str_at(t, "key")),
                            STR_ARG(value));
    }
    return NULL;
}

static const char *filter_unschedulable(const struct pod_info *p, const struct node_info *n, struct arena *a) {
    (void)a;
    if (!json_bool_at(object_json(n->object), "spec.unschedulable", false))
        return NULL;
    cleanup_arena struct arena *own = arena_new(512, 0);
    struct json *taint = json_object(own);
    json_set_cstr(own, taint, "key", "node.kubernetes.io/unschedulable");
    json_set_cstr(own, taint, "effect", "NoSchedule");
    return taint_tolerated(json_at(p->pod, "spec.tolerations"), taint) ? NULL : "node(s) were unschedulable";
}

/* --- node selector and affinity --------------------------------------------------------------------------------- */

static bool expression_matches(const struct json *e, struct str have, bool present) {
    struct str op = json_str_at(e, "operator");
    const struct json *values = json_get_c(e, "values");
    bool in = false;
    for (size_t i = 0; present && i < json_len(values); i++)
        in |= str_eq(json_as_str(json_item(values, i)), have);
    if (str_eq(op, STR("In")))
        return in;
    if (str_eq(op, STR("NotIn")))
        return !in;
    if (str_eq(op, STR("Exists")))
        return present;
    if (str_eq(op, STR("DoesNotExist")))
        return !present;
    int64_t x, y;
    if (!present || json_len(values) != 1 || !str_to_i64(have, &x) ||
        !str_to_i64(json_as_str(json_item(values, 0)), &y))
        return false;
    return str_eq(op, STR("Gt")) ? x > y : str_eq(op, STR("Lt")) && x < y;
}

/* A node selector term: all expressions and fields; an empty term matches nothing. */
static bool term_matches(const struct json *term, const struct json *node) {
    const struct json *labels = json_at(node, "metadata.labels");
    const struct json *exprs = json_get_c(term, "matchExpressions"), *fields = json_get_c(term, "matchFields");
    if (json_len(exprs) == 0 && json_len(fields) == 0)
        return false;
    for (size_t i = 0; i < json_len(exprs); i++) {
        const struct json *e = json_item(exprs, i), *have = json_get(labels, json_str_at(e, "key"));
        if (!expression_matches(e, json_as_str(have), have != NULL))
            return false;
    }
    for (size_t i = 0; i < json_len(fields); i++) {
        const struct json *e = json_item(fields, i);
        bool name = str_eq(json_str_at(e, "key"), STR("metadata.name"));
        if (!name || !expression_matches(e, json_str_at(node, "metadata.name"), true))
            return false;
    }
    return true;
}

static const char *filter_node_affinity(const struct pod_info *p, const struct node_info *n, struct arena *a) {
    (void)a;
    static const char why[] = "node(s) didn't match Pod's node affinity/selector";
    const struct json *node = object_json(n->object), *wanted = json_at(p->pod, "spec.nodeSelector");
    const struct json *labels = json_at(node, "metadata.labels");
    for (uint32_t i = 0; json_is(wanted, JSON_OBJECT) && i < wanted->n; i++) {
        const struct json *have = json_get(labels, wanted->members[i].key);
        if (!have || !str_eq(json_as_str(have), json_as_str(wanted->members[i].value)))
            return why;
    }
    const struct json *terms =
        json_at(p->pod, "spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms");
    if (!terms)
        return NULL;
    for (size_t i = 0; i < json_len(terms); i++)
        if (term_matches(json_item(terms, i), node))
            return NULL;
    return why;
}

/* --- ports ------------------------------------------------------------------------------------------------------ */

static bool ports_clash(const struct json *a, const struct json *b) {
    int64_t pa = json_int_at(a, "hostPort", 0);
    if (pa == 0 || pa != json_int_at(b, "hostPort", 0))
        return false;
    struct str proto_a = json_str_at(a, "protocol"), proto_b = json_str_at(b, "protocol");
    if (!str_eq(proto_a.n ? proto_a : STR("TCP"), proto_b.n ? proto_b : STR("TCP")))
        return false;
    struct str ip_a = json_str_at(a, "hostIP"), ip_b = json_str_at(b, "hostIP");
    bool any_a = ip_a.n == 0 || str_eq(ip_a, STR("0.0.0.0")), any_b = ip_b.n == 0 || str_eq(ip_b, STR("0.0.0.0"));
    return any_a || any_b || str_eq(ip_a, ip_b);
}

/* Whether any port of `pod` clashes with port (or, with port NULL, with any port of `with`). */
static bool pod_port_clashes(const struct json *pod, const struct json *port, const struct json *with) {
    const struct json *containers = json_at(pod, "spec.containers");
    for (size_t i = 0; i < json_len(containers); i++) {
        const struct json *ports = json_get_c(json_item(containers, i), "ports");
        for (size_t k = 0; k < json_len(ports); k++)
            if (port ? ports_clash(port, json_item(ports, k)) : pod_port_clashes(with, json_item(ports, k), NULL))
                return true;
    }
    return false;
}

static const char *filter_ports(const struct pod_info *p, const struct node_info *n, struct arena *a) {
    (void)a;
    for (size_t i = 0; i < n->pods.n; i++)
        if (pod_port_clashes(p->pod, NULL, object_json(n->pods.items[i])))
            return "node(s) didn't have free ports for the requested pod ports";
    return NULL;
}

/* --- resources -------------------------------------------------------------------------------------------------- */

static const char *filter_resources(const struct pod_info *p, const struct node_info *n, struct arena *a) {
    const struct resources *have = &n->allocatable, *used = &n->requested, *want = &p->request;
    if (used->pods + 1 > have->pods)
        return "Too many pods";
    if (want->cpu_milli && used->cpu_milli + want->cpu_milli > have->cpu_milli)
        return "Insufficient cpu";
    if (want->memory_bytes && used->memory_bytes + want->memory_bytes > have->memory_bytes)
        return "Insufficient memory";
    if (want->ephemeral_bytes && used->ephemeral_bytes + want->ephemeral_bytes > have->ephemeral_bytes)
        return "Insufficient ephemeral-storage";
    for (size_t i = 0; i < want->scalar_n; i++) {
        struct str name = want->scalar[i].name;
        if (resources_scalar(used, name) + want->scalar[i].value > resources_scalar(have, name))
            return arena_printf(a, "Insufficient %.*s", STR_ARG(name));
    }
    return NULL;
}

static const char *filter_name(const struct pod_info *p, const struct node_info *n, struct arena *a) {
    (void)a;
    struct str name = json_str_at(p->pod, "spec.nodeName");
    return name.n == 0 || str_eq(name, n->object->name) ? NULL : "node(s) didn't match the requested node name";
}

static const char *(*const filters[])(const struct pod_info *, const struct node_info *, struct arena *) = {
    filter_unschedulable, filter_name, filter_taints, filter_node_affinity, filter_ports, filter_resources,
};

const char *filter_node(const struct pod_info *p, const struct node_info *n, struct arena *a) {
    for (size_t i = 0; i < ARRAY_LEN(filters); i++) {
        const char *why = filters[i](p, n, a);
        if (why)
            return why;
    }
    return NULL;
}
