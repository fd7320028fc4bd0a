/*
 * What a node (group system:nodes, user system:node:NAME) may do: read what scheduling and networking need, keep its own
 * Node, Lease and pod status, and read Secrets, ConfigMaps and claims only when a pod bound to it uses them.
 * Source: Kubernetes' Node authorizer and NodeRestriction.
 */
#include "api/api_priv.h"

struct node_rule {
    const char *group, *plural, *sub;
    const char *verbs; /* comma-separated */
    enum { ANY, OWN_NODE, OWN_LEASE, OWN_POD, USED_BY_POD, OWN_CSINODE } limit;
};

static const struct node_rule node_rules[] = {
    {"", "services", "", "get,list,watch", ANY},
    {"", "endpoints", "", "get,list,watch", ANY},
    {"discovery.k8s.io", "endpointslices", "", "get,list,watch", ANY},
    {"networking.k8s.io", "ingresses", "", "get,list,watch", ANY},
    {"networking.k8s.io", "ingressclasses", "", "get,list,watch", ANY},
    {"networking.k8s.io", "networkpolicies", "", "get,list,watch", ANY},
    {"", "namespaces", "", "get,list,watch", ANY},
    {"", "nodes", "", "get,list,watch,create", ANY},
    {"", "nodes", "", "update,patch", OWN_NODE},
    {"", "nodes", "status", "update,patch", OWN_NODE},
    {"", "pods", "", "get,list,watch", ANY},
    {"", "pods", "", "delete", OWN_POD},
    {"", "pods", "status", "update,patch", OWN_POD},
    {"", "pods", "eviction", "create", OWN_POD},
    {"", "events", "", "create,update,patch", ANY},
    {"events.k8s.io", "events", "", "create,update,patch", ANY},
    {"", "secrets", "", "get,list,watch", USED_BY_POD},
    {"", "configmaps", "", "get,list,watch", USED_BY_POD},
    {"", "persistentvolumeclaims", "", "get,list,watch", USED_BY_POD},
    {"", "persistentvolumes", "", "get", ANY},
    {"", "serviceaccounts", "", "get", USED_BY_POD},
    {"", "serviceaccounts", "token", "create", USED_BY_POD},
    {"coordination.k8s.io", "leases", "", "get,create,update,patch,delete", OWN_LEASE},
    {"node.k8s.io", "runtimeclasses", "", "get,list,watch", ANY},
    {"storage.k8s.io", "csidrivers", "", "get,list,watch", ANY},
    {"storage.k8s.io", "csinodes", "", "get,create,update,patch,delete", OWN_CSINODE},
    {"storage.k8s.io", "volumeattachments", "", "get", ANY},
    {"certificates.k8s.io", "certificatesigningrequests", "", "get,list,watch,create", ANY},
    {"authentication.k8s.io", "tokenreviews", "", "create", ANY},
    {"authorization.k8s.io", "subjectaccessreviews", "", "create", ANY},
};

static bool verb_in(const char *list, struct str verb) {
    struct str rest = str_c(list);
    while (rest.p)
        if (str_eq(str_split(&rest, ','), verb))
            return true;
    return false;
}

/* Whether a pod's tree names `name` as a Secret, ConfigMap, claim or service account. */
static bool list_names(const struct json *list, const char *path, struct str name) {
    for (size_t i = 0; i < json_len(list); i++)
        if (str_eq(json_str_at(json_item(list, i), path), name))
            return true;
    return false;
}

static bool projected_names(const struct json *volumes, const char *path, struct str name) {
    for (size_t i = 0; i < json_len(volumes); i++)
        if (list_names(json_at(json_item(volumes, i), "projected.sources"), path, name))
            return true;
    return false;
}

static bool containers_name(const struct json *list, const char *env, const char *env_from, struct str name) {
    for (size_t i = 0; i < json_len(list); i++)
        if (list_names(json_get_c(json_item(list, i), "env"), env, name) ||
            list_names(json_get_c(json_item(list, i), "envFrom"), env_from, name))
            return true;
    return false;
}

static bool pod_uses(const struct json *spec, struct str plural, struct str name) {
    static const char *const lists[] = {"containers", "initContainers", "ephemeralContainers"};
    const struct json *volumes = json_get_c(spec, "volumes");
    bool secret = str_eq_c(plural, "secrets");
    if (str_eq_c(plural, "serviceaccounts"))
        return str_eq(json_str_at(spec, "serviceAccountName"), name);
    if (str_eq_c(plural, "persistentvolumeclaims"))
        return list_names(volumes, "persistentVolumeClaim.claimName", name);
    if (secret && (list_names(json_get_c(spec, "imagePullSecrets"), "name", name) ||
                   list_names(volumes, "secret.secretName", name)))
        return true;
    if (!secret && list_names(volumes, "configMap.name", name))
        return true;
    if (projected_names(volumes, secret ? "secret.name" : "configMap.name", name))
        return true;
    for (size_t i = 0; i < ARRAY_LEN(lists); i++)
        if (containers_name(json_get_c(spec, lists[i]),
                            secret ? "valueFrom.secretKeyRef.name" : "valueFrom.configMapKeyRef.name",
                            secret ? "secretRef.name" : "configMapRef.name", name))
            return true;
    return false;
}

struct use_search {
    struct str node, plural, name;
    bool found;
};

static bool use_visit(void *arg, struct object *o) {
    struct use_search *s = arg;
    const struct json *spec = json_get_c(object_json(o), "spec");
    s->found = str_eq(json_str_at(spec, "nodeName"), s->node) && pod_uses(spec, s->plural, s->name);
    return !s->found;
}

static bool within_limit(struct api *api, const struct node_rule *rule, const struct authz_ask *ask, struct str node) {
    struct use_search s = {node, ask->plural, ask->name, false};
    struct object *pod;
    switch (rule->limit) {
    case ANY:
        return true;
    case OWN_NODE:
    case OWN_CSINODE:
        return ask->name.n == 0 || str_eq(ask->name, node);
    case OWN_LEASE:
        return str_eq_c(ask->ns, "kube-node-lease") && (ask->name.n == 0 || str_eq(ask->name, node));
    case OWN_POD:
        pod = api_peek(api, api->pods, ask->ns, ask->name);
        return pod && str_eq(json_str_at(object_json(pod), "spec.nodeName"), node);
    case USED_BY_POD:
        if (ask->name.n == 0 || ask->ns.n == 0)
            return false;
        store_each(api->store, api_resource(api, api->pods)->kind, ask->ns, STR_NULL, STR_NULL, use_visit, &s);
        return s.found;
    }
    return false;
}

bool node_authz_allowed(struct api *api, const struct authz_ask *ask, struct str node) {
    if (!ask->resource || node.n == 0)
        return false;
    for (size_t i = 0; i < ARRAY_LEN(node_rules); i++) {
        const struct node_rule *r = &node_rules[i];
        if (str_eq_c(ask->group, r->group) && str_eq_c(ask->plural, r->plural) && str_eq_c(ask->subresource, r->sub) &&
            verb_in(r->verbs, ask->verb) && within_limit(api, r, ask, node))
            return true;
    }
    return false;
}
