/* Validation of access control, priorities, leases, policies and other small kinds. */
#include "schema/validate.h"

#define RBAC_GROUP "rbac.authorization.k8s.io"

/* --- roles --- */

static void check_rules(struct check *c, bool cluster) {
    const struct json *rules = json_get_c(c->object, "rules");
    for (size_t i = 0; i < json_len(rules); i++) {
        const struct json *v = json_item(rules, i);
        const struct where *at = AT_ITEM(AT(NULL, "rules"), i);
        size_t urls = json_len(json_get_c(v, "nonResourceURLs"));
        size_t groups = json_len(json_get_c(v, "apiGroups")), resources = json_len(json_get_c(v, "resources"));
        if (json_len(json_get_c(v, "verbs")) == 0)
            check_bad(c, FIELD_REQUIRED, AT(at, "verbs"), NULL, "verbs must contain at least one value");
        if (urls && !cluster)
            check_bad(c, FIELD_INVALID, AT(at, "nonResourceURLs"), json_get_c(v, "nonResourceURLs"),
                      "namespaced rules cannot apply to non-resource URLs");
        else if (urls && (groups || resources))
            check_bad(c, FIELD_INVALID, AT(at, "nonResourceURLs"), json_get_c(v, "nonResourceURLs"),
                      "rules cannot apply to both regular resources and non-resource URLs");
        if (urls)
            continue;
        if (groups == 0)
            check_bad(c, FIELD_REQUIRED, AT(at, "apiGroups"), NULL,
                      "resource rules must supply at least one api group");
        if (resources == 0)
            check_bad(c, FIELD_REQUIRED, AT(at, "resources"), NULL, "resource rules must supply at least one resource");
    }
}

static void check_role(struct check *c) {
    check_rules(c, false);
}

static void check_cluster_role(struct check *c) {
    const struct json *rule = check_get(c->object, "aggregationRule"), *list = json_get_c(rule, "clusterRoleSelectors");
    const struct where *at = AT(AT(NULL, "aggregationRule"), "clusterRoleSelectors");
    check_rules(c, true);
    if (rule && json_len(list) == 0)
        check_bad(c, FIELD_REQUIRED, at, NULL,
                  "at least one clusterRoleSelector required if aggregationRule is non-nil");
    for (size_t i = 0; i < json_len(list); i++)
        check_label_selector(c, AT_ITEM(at, i), json_item(list, i));
}

/* --- bindings --- */

static const char *any_segment(struct str s) {
    if (str_eq(s, STR(".")) || str_eq(s, STR("..")))
        return s.n == 1 ? "may not be '.'" : "may not be '..'";
    if (str_index(s, '/', 0) >= 0)
        return "may not contain '/'";
    return str_index(s, '%', 0) >= 0 ? "may not contain '%'" : NULL;
}

static void check_subject(struct check *c, const struct where *at, const struct json *v, bool cluster) {
    static const char *const kinds[] = {"Group", "ServiceAccount", "User", NULL};
    static const char *const rbac[] = {RBAC_GROUP, NULL}, *const core[] = {"", NULL};
    bool account = str_eq(json_str_at(v, "kind"), STR("ServiceAccount"));
    check_required(c, at, v, "name");
    if (json_str_at(v, "kind").n == 0)
        check_bad(c, FIELD_NOT_SUPPORTED, AT(at, "kind"), &(const struct json){.type = JSON_STRING, .s = STR("")},
                  "supported values: \"Group\", \"ServiceAccount\", \"User\"");
    check_enum(c, at, v, "kind", kinds, false);
    check_enum(c, at, v, "apiGroup", account ? core : rbac, false);
    if (!account)
        return;
    check_name(c, at, v, "name", name_check_dns_subdomain);
    if (cluster)
        check_required(c, at, v, "namespace");
}

static void check_bindings(struct check *c, const char *const *kinds, bool cluster) {
    static const char *const rbac[] = {RBAC_GROUP, NULL};
    const struct json *ref = json_get_c(c->object, "roleRef"), *subjects = json_get_c(c->object, "subjects");
    const struct where *at = AT(NULL, "roleRef");
    check_enum(c, at, ref, "apiGroup", rbac, false);
    check_enum(c, at, ref, "kind", kinds, true);
    check_named(c, at, ref, "name", any_segment);
    for (size_t i = 0; i < json_len(subjects); i++)
        check_subject(c, AT_ITEM(AT(NULL, "subjects"), i), json_item(subjects, i), cluster);
    if (c->old && !json_equal(ref, json_get_c(c->old, "roleRef")))
        check_bad(c, FIELD_INVALID, at, ref, "cannot change roleRef");
}

static void check_role_binding(struct check *c) {
    static const char *const kinds[] = {"ClusterRole", "Role", NULL};
    check_bindings(c, kinds, false);
}

static void check_cluster_role_binding(struct check *c) {
    static const char *const kinds[] = {"ClusterRole", NULL};
    check_bindings(c, kinds, true);
}

/* --- leases, priorities, runtimes --- */

static void check_lease(struct check *c) {
    const struct json *spec = json_get_c(c->object, "spec"), *seconds = check_get(spec, "leaseDurationSeconds");
    const struct where *at = AT(NULL, "spec");
    if (seconds && json_as_int(seconds, 1) <= 0)
        check_bad(c, FIELD_INVALID, AT(at, "leaseDurationSeconds"), seconds, "must be greater than 0");
    check_not_negative(c, at, spec, "leaseTransitions");
}

static void check_priority_class(struct check *c) {
    const struct json *value = json_get_c(c->object, "value");
    bool system = str_starts(json_str_at(c->object, "metadata.name"), STR("system-"));
    if (!c->old && !system && json_as_int(value, 0) > 1000000000)
        check_bad(c, FIELD_FORBIDDEN, AT(NULL, "value"), NULL,
                  "maximum allowed value of a user defined priority is 1000000000");
    if (c->old && json_as_int(value, 0) != json_int_at(c->old, "value", 0))
        check_bad(c, FIELD_FORBIDDEN, AT(NULL, "value"), NULL, "may not be changed in an update.");
    if (c->old)
        check_immutable(c, NULL, c->object, c->old, "preemptionPolicy");
}

static void check_runtime_class(struct check *c) {
    check_named(c, NULL, c->object, "handler", name_check_dns_label);
    if (c->old)
        check_immutable(c, NULL, c->object, c->old, "handler");
    check_labels(c, AT(AT(NULL, "scheduling"), "nodeSelector"), json_at(c->object, "scheduling.nodeSelector"));
    check_tolerations(c, AT(AT(NULL, "scheduling"), "tolerations"), json_at(c->object, "scheduling.tolerations"));
}

/* --- NetworkPolicy --- */

static void check_peer(struct check *c, const struct where *at, const struct json *v) {
    const struct json *block = check_get(v, "ipBlock"), *pods = check_get(v, "podSelector");
    const struct json *namespaces = check_get(v, "namespaceSelector");
    check_label_selector(c, AT(at, "podSelector"), pods);
    check_label_selector(c, AT(at, "namespaceSelector"), namespaces);
    if (!block && !pods && !namespaces)
        check_bad(c, FIELD_REQUIRED, at, NULL, "must specify a peer");
    else if (block && (pods || namespaces))
        check_bad(c, FIELD_FORBIDDEN, at, NULL, "may not specify both ipBlock and another peer");
    if (block && check_required(c, AT(at, "ipBlock"), block, "cidr") && !check_is_cidr(json_str_at(block, "cidr")))
        check_bad(c, FIELD_INVALID, AT(AT(at, "ipBlock"), "cidr"), json_get_c(block, "cidr"),
                  "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)");
}

static void check_policy_rules(struct check *c, const struct where *at, const struct json *rules, const char *peers) {
    for (size_t i = 0; i < json_len(rules); i++) {
        const struct json *list = json_get_c(json_item(rules, i), peers),
                          *ports = json_get_c(json_item(rules, i), "ports");
        for (size_t k = 0; k < json_len(list); k++)
            check_peer(c, AT_ITEM(AT(AT_ITEM(at, i), peers), k), json_item(list, k));
        for (size_t k = 0; k < json_len(ports); k++) {
            const struct where *here = AT_ITEM(AT(AT_ITEM(at, i), "ports"), k);
            const struct json *v = json_item(ports, k), *end = check_get(v, "endPort");
            check_port_or_name(c, here, v, "port");
            if (end && !json_is(json_get_c(v, "port"), JSON_INT))
                check_bad(c, FIELD_INVALID, AT(here, "endPort"), end,
                          "may not be specified when `port` is not specified or non-numeric");
            else if (end && json_as_int(end, 0) < json_int_at(v, "port", 0))
                check_bad(c, FIELD_INVALID, AT(here, "endPort"), end, "must be greater than or equal to `port`");
        }
    }
}

static void check_network_policy(struct check *c) {
    const struct json *spec = json_get_c(c->object, "spec");
    const struct where *at = AT(NULL, "spec");
    check_label_selector(c, AT(at, "podSelector"), json_get_c(spec, "podSelector"));
    check_policy_rules(c, AT(at, "ingress"), json_get_c(spec, "ingress"), "from");
    check_policy_rules(c, AT(at, "egress"), json_get_c(spec, "egress"), "to");
}

/* --- CustomResourceDefinition: what every one must say; its schema is compiled, and so checked, elsewhere --- */

static void check_crd(struct check *c) {
    static const char *const scopes[] = {"Cluster", "Namespaced", NULL};
    const struct json *spec = json_get_c(c->object, "spec"), *names = json_get_c(spec, "names");
    const struct json *versions = json_get_c(spec, "versions"), *meta = json_get_c(c->object, "metadata");
    const struct where *at = AT(NULL, "spec"), *named = AT(at, "names");
    struct str name = json_str_at(meta, "name"), group = json_str_at(spec, "group");
    struct str wanted = str_printf(c->arena, "%.*s.%.*s", STR_ARG(json_str_at(names, "plural")), STR_ARG(group));
    size_t stored = 0;
    check_named(c, at, spec, "group", name_check_dns_subdomain);
    check_named(c, named, names, "plural", name_check_dns1035);
    check_required(c, named, names, "kind");
    check_enum(c, at, spec, "scope", scopes, true);
    if (name.n && !str_eq(name, wanted))
        check_bad_text(c, FIELD_INVALID, AT(AT(NULL, "metadata"), "name"), name,
                       "must be spec.names.plural+\".\"+spec.group");
    for (size_t i = 0; i < json_len(versions); i++) {
        const struct json *v = json_item(versions, i);
        check_named(c, AT_ITEM(AT(at, "versions"), i), v, "name", name_check_dns1035);
        stored += json_bool_at(v, "storage", false);
    }
    if (stored != 1)
        check_bad(c, FIELD_INVALID, AT(at, "versions"), versions,
                  "must have exactly one version marked as storage version");
    if (c->old && group.n)
        check_immutable(c, at, spec, json_get_c(c->old, "spec"), "group");
}

const struct check_kind check_other_kinds[] = {
    {"customresourcedefinitions.apiextensions.k8s.io", check_crd},
    {"roles." RBAC_GROUP, check_role},
    {"clusterroles." RBAC_GROUP, check_cluster_role},
    {"rolebindings." RBAC_GROUP, check_role_binding},
    {"clusterrolebindings." RBAC_GROUP, check_cluster_role_binding},
    {"leases.coordination.k8s.io", check_lease},
    {"priorityclasses.scheduling.k8s.io", check_priority_class},
    {"runtimeclasses.node.k8s.io", check_runtime_class},
    {"networkpolicies.networking.k8s.io", check_network_policy},
    {NULL, NULL},
};
