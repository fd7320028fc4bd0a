/* Validation of pods, of pod templates and of what may change in a pod. */
#include "schema/validate.h"

#include <inttypes.h>

/* What the containers of one pod are checked against. */
struct pod_check {
    struct check *c;
    const struct json *spec;
    bool host_network;
};

static bool str_in(struct str s, const char *const *list) {
    for (; *list; list++)
        if (str_eq_c(s, *list))
            return true;
    return false;
}

/* Whether an earlier item of the list has the same member. */
static bool is_repeated(const struct json *list, size_t i, const char *member) {
    struct str s = json_str_at(json_item(list, i), member);
    for (size_t k = 0; s.n && k < i; k++)
        if (str_eq(json_str_at(json_item(list, k), member), s))
            return true;
    return false;
}

/* --- handlers, probes --- */

static void check_http_get(struct check *c, const struct where *at, const struct json *v) {
    check_required(c, at, v, "path");
    check_port_or_name(c, at, v, "port");
    const struct json *headers = json_get_c(v, "httpHeaders");
    for (size_t i = 0; i < json_len(headers); i++)
        check_required(c, AT_ITEM(AT(at, "httpHeaders"), i), json_item(headers, i), "name");
}

/* Exactly one of the ways to ask a container. */
static void check_handler(struct check *c, const struct where *at, const struct json *v, bool probe) {
    static const char *const all[] = {"exec", "httpGet", "tcpSocket", "grpc", "sleep"};
    size_t n = 0;
    for (size_t i = 0; i < ARRAY_LEN(all); i++) {
        const struct json *h = check_get(v, all[i]);
        if (!h)
            continue;
        const struct where *here = AT(at, all[i]);
        if (n++ > 0) {
            check_bad(c, FIELD_FORBIDDEN, here, NULL, "may not specify more than 1 handler type");
            continue;
        }
        if (i == 0)
            check_required(c, here, h, "command");
        else if (i == 1)
            check_http_get(c, here, h);
        else if (i == 2)
            check_port_or_name(c, here, h, "port");
        else if (i == 3)
            check_port(c, here, h, "port");
    }
    if (n == 0)
        check_bad(c, FIELD_REQUIRED, at, NULL, "must specify a handler type");
    if (probe && check_get(v, "sleep"))
        check_bad(c, FIELD_FORBIDDEN, AT(at, "sleep"), NULL, "may not be used in a probe");
}

static void check_probe(struct check *c, const struct where *up, const struct json *container, const char *name) {
    static const char *const counts[] = {"initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold",
                                         "failureThreshold"};
    const struct json *v = check_get(container, name);
    const struct where *at = AT(up, name);
    bool readiness = strcmp(name, "readinessProbe") == 0;
    if (!v)
        return;
    check_handler(c, at, v, true);
    for (size_t i = 0; i < ARRAY_LEN(counts); i++)
        check_not_negative(c, at, v, counts[i]);
    const struct json *success = check_get(v, "successThreshold"),
                      *grace = check_get(v, "terminationGracePeriodSeconds");
    if (!readiness && json_is(success, JSON_INT) && success->i != 1 && success->i >= 0)
        check_bad(c, FIELD_INVALID, AT(at, "successThreshold"), success, "must be 1");
    if (grace && readiness)
        check_bad(c, FIELD_INVALID, AT(at, "terminationGracePeriodSeconds"), grace,
                  "must not be set for readinessProbes");
    else if (grace && json_as_int(grace, 1) <= 0)
        check_bad(c, FIELD_INVALID, AT(at, "terminationGracePeriodSeconds"), grace, "must be greater than 0");
}

static void check_lifecycle(struct check *c, const struct where *at, const struct json *v) {
    static const char *const hooks[] = {"postStart", "preStop"};
    for (size_t i = 0; i < ARRAY_LEN(hooks); i++)
        if (check_get(v, hooks[i]))
            check_handler(c, AT(at, hooks[i]), check_get(v, hooks[i]), false);
}

/* --- environment --- */

static const char *const env_fields[] = {
    "metadata.name", "metadata.namespace", "metadata.uid", "spec.nodeName", "spec.serviceAccountName",
    "status.hostIP", "status.hostIPs",     "status.podIP", "status.podIPs", NULL};

static void check_field_ref(struct check *c, const struct where *at, const struct json *ref, bool env) {
    struct str path = json_str_at(ref, "fieldPath");
    if (!check_required(c, at, ref, "fieldPath"))
        return;
    bool mapped = str_starts(path, STR("metadata.annotations")) || str_starts(path, STR("metadata.labels"));
    if (!mapped && env && !str_in(path, env_fields))
        check_bad(c, FIELD_NOT_SUPPORTED, AT(at, "fieldPath"), json_get_c(ref, "fieldPath"),
                  "supported values: \"metadata.name\", \"metadata.namespace\", \"metadata.uid\", \"spec.nodeName\", "
                  "\"spec.serviceAccountName\", \"status.hostIP\", \"status.hostIPs\", \"status.podIP\", "
                  "\"status.podIPs\"");
}

static void check_resource_field(struct check *c, const struct where *at, const struct json *ref, bool volume) {
    if (volume)
        check_required(c, at, ref, "containerName");
    check_required(c, at, ref, "resource");
}

static void check_env_source(struct check *c, const struct where *at, const struct json *env) {
    static const char *const all[] = {"fieldRef", "resourceFieldRef", "configMapKeyRef", "secretKeyRef", "fileKeyRef"};
    const struct json *v = check_get(env, "valueFrom");
    size_t n = 0;
    if (!v)
        return;
    const struct where *here = AT(at, "valueFrom");
    for (size_t i = 0; i < ARRAY_LEN(all); i++) {
        const struct json *ref = check_get(v, all[i]);
        if (!ref)
            continue;
        n++;
        if (i == 0)
            check_field_ref(c, AT(here, all[i]), ref, true);
        else if (i == 1)
            check_resource_field(c, AT(here, all[i]), ref, false);
        else if (i < 4)
            check_named(c, AT(here, all[i]), ref, "key", check_config_key);
    }
    if (json_str_at(env, "value").n && n)
        check_bad_text(c, FIELD_INVALID, here, STR(""), "may not be specified when `value` is not empty");
    else if (n == 0)
        check_bad_text(c, FIELD_INVALID, here, STR(""),
                       "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef`, or "
                       "`fileKeyRef`");
    else if (n > 1)
        check_bad_text(c, FIELD_INVALID, here, STR(""), "may not have more than one field specified at a time");
}

static void check_env(struct check *c, const struct where *up, const struct json *container) {
    const struct json *env = json_get_c(container, "env"), *from = json_get_c(container, "envFrom");
    for (size_t i = 0; i < json_len(env); i++) {
        const struct where *at = AT_ITEM(AT(up, "env"), i);
        check_named(c, at, json_item(env, i), "name", check_env_name);
        check_env_source(c, at, json_item(env, i));
    }
    for (size_t i = 0; i < json_len(from); i++) {
        const struct json *v = json_item(from, i), *map = check_get(v, "configMapRef"),
                          *secret = check_get(v, "secretRef");
        const struct where *at = AT_ITEM(AT(up, "envFrom"), i);
        check_name(c, at, v, "prefix", check_env_name);
        if (map)
            check_named(c, AT(at, "configMapRef"), map, "name", name_check_dns_subdomain);
        if (secret)
            check_named(c, AT(at, "secretRef"), secret, "name", name_check_dns_subdomain);
        if (map && secret)
            check_bad_text(c, FIELD_INVALID, at, STR(""), "may not have more than one field specified at a time");
        else if (!map && !secret)
            check_bad_text(c, FIELD_INVALID, at, STR(""), "must specify one of: `configMapRef` or `secretRef`");
    }
}

/* --- ports, resources --- */

static void check_ports(struct pod_check *p, const struct where *at, const struct json *ports) {
    struct check *c = p->c;
    for (size_t i = 0; i < json_len(ports); i++) {
        const struct json *v = json_item(ports, i), *number = json_get_c(v, "containerPort");
        const struct where *here = AT_ITEM(at, i);
        check_name(c, here, v, "name", check_port_name);
        if (is_repeated(ports, i, "name"))
            check_bad(c, FIELD_DUPLICATE, AT(here, "name"), json_get_c(v, "name"), NULL);
        if (json_as_int(number, 0) == 0)
            check_bad(c, FIELD_REQUIRED, AT(here, "containerPort"), NULL, NULL);
        else
            check_port(c, here, v, "containerPort");
        int64_t host = json_int_at(v, "hostPort", 0);
        if (host)
            check_port(c, here, v, "hostPort");
        if (p->host_network && host && host != json_as_int(number, 0))
            check_bad(c, FIELD_INVALID, AT(here, "containerPort"), number,
                      "must match `hostPort` when `hostNetwork` is true");
    }
}

static const char *resource_name(struct str s) {
    static const char *const known[] = {"cpu", "memory", "ephemeral-storage", NULL};
    const char *wrong = name_check_qualified(s);
    if (wrong || str_index(s, '/', 0) >= 0 || str_in(s, known) || str_starts(s, STR("hugepages-")))
        return wrong;
    return "must be a standard resource for containers";
}

static void check_quantities(struct check *c, const struct where *at, const struct json *list) {
    for (size_t i = 0; json_is(list, JSON_OBJECT) && i < list->n; i++) {
        struct str key = list->members[i].key;
        const struct json *v = list->members[i].value;
        const struct where *here = AT_KEY(at, key);
        const char *wrong = resource_name(key);
        int64_t milli = 0;
        if (wrong && strncmp(wrong, "must be a standard", 18) == 0)
            check_bad_text(c, FIELD_INVALID, here, key, wrong);
        else if (wrong)
            check_bad_text(c, FIELD_INVALID, at, key, wrong);
        if (quantity_milli(json_as_str(v), &milli) && milli < 0)
            check_bad(c, FIELD_INVALID, here, v, "must be greater than or equal to 0");
        else if (str_index(key, '/', 0) >= 0 && milli % 1000)
            check_bad(c, FIELD_INVALID, here, v, "must be an integer");
    }
}

void check_resources(struct check *c, const struct where *at, const struct json *v) {
    const struct json *limits = json_get_c(v, "limits"), *requests = json_get_c(v, "requests");
    check_quantities(c, AT(at, "limits"), limits);
    check_quantities(c, AT(at, "requests"), requests);
    for (size_t i = 0; json_is(requests, JSON_OBJECT) && i < requests->n; i++) {
        struct str key = requests->members[i].key, wanted = json_as_str(requests->members[i].value);
        const struct json *limit = json_get(limits, key);
        if (json_is(limit, JSON_STRING) && quantity_cmp(wanted, limit->s) > 0)
            check_bad(c, FIELD_INVALID, AT(at, "requests"), requests->members[i].value,
                      "must be less than or equal to %.*s limit of %.*s", STR_ARG(key), STR_ARG(limit->s));
    }
}

/* --- mounts --- */

static bool has_parent_step(struct str path) {
    while (path.p)
        if (str_eq(str_split(&path, '/'), STR("..")))
            return true;
    return false;
}

static const struct json *named(const struct json *list, struct str name) {
    for (size_t i = 0; i < json_len(list); i++)
        if (str_eq(json_str_at(json_item(list, i), "name"), name))
            return json_item(list, i);
    return NULL;
}

static void check_mounts(struct pod_check *p, const struct where *up, const struct json *container) {
    const struct json *mounts = json_get_c(container, "volumeMounts"), *volumes = json_get_c(p->spec, "volumes");
    bool privileged = json_bool_at(container, "securityContext.privileged", false);
    for (size_t i = 0; i < json_len(mounts); i++) {
        const struct json *v = json_item(mounts, i);
        const struct where *at = AT_ITEM(AT(up, "volumeMounts"), i);
        struct str name = json_str_at(v, "name"), sub = json_str_at(v, "subPath"), expr = json_str_at(v, "subPathExpr");
        if (check_required(p->c, at, v, "name") && !named(volumes, name))
            check_bad(p->c, FIELD_NOT_FOUND, AT(at, "name"), json_get_c(v, "name"), NULL);
        check_required(p->c, at, v, "mountPath");
        if (is_repeated(mounts, i, "mountPath"))
            check_bad(p->c, FIELD_INVALID, AT(at, "mountPath"), json_get_c(v, "mountPath"), "must be unique");
        if (sub.n && sub.p[0] == '/')
            check_bad(p->c, FIELD_INVALID, AT(at, "subPath"), json_get_c(v, "subPath"), "must be a relative path");
        if (sub.n && has_parent_step(sub))
            check_bad(p->c, FIELD_INVALID, AT(at, "subPath"), json_get_c(v, "subPath"), "must not contain '..'");
        if (sub.n && expr.n)
            check_bad(p->c, FIELD_INVALID, AT(at, "subPathExpr"), json_get_c(v, "subPathExpr"),
                      "subPathExpr and subPath are mutually exclusive");
        if (!privileged && str_eq(json_str_at(v, "mountPropagation"), STR("Bidirectional")))
            check_bad(p->c, FIELD_FORBIDDEN, AT(at, "mountPropagation"), NULL,
                      "Bidirectional mount propagation is available only to privileged containers");
    }
}

/* --- security --- */

static void check_ids(struct check *c, const struct where *at, const struct json *v) {
    static const char *const members[] = {"runAsUser", "runAsGroup", "fsGroup"};
    for (size_t i = 0; i < ARRAY_LEN(members); i++)
        check_range(c, at, v, members[i], 0, INT32_MAX);
    const struct json *seccomp = check_get(v, "seccompProfile");
    bool local = str_eq(json_str_at(seccomp, "type"), STR("Localhost"));
    const struct where *here = AT(at, "seccompProfile");
    if (!seccomp)
        return;
    check_required(c, here, seccomp, "type");
    if (local && !json_str_at(seccomp, "localhostProfile").n)
        check_bad(c, FIELD_REQUIRED, AT(here, "localhostProfile"), NULL, "must be set when seccomp type is Localhost");
    else if (!local && check_get(seccomp, "localhostProfile"))
        check_bad(c, FIELD_INVALID, AT(here, "localhostProfile"), json_get_c(seccomp, "localhostProfile"),
                  "can only be set when seccomp type is Localhost");
}

static void check_container_security(struct check *c, const struct where *at, const struct json *v) {
    const struct json *allow = check_get(v, "allowPrivilegeEscalation"), *add = json_at(v, "capabilities.add");
    check_ids(c, at, v);
    if (!json_is(allow, JSON_BOOL) || allow->b)
        return;
    if (json_bool_at(v, "privileged", false))
        check_bad(c, FIELD_INVALID, at, v, "cannot set `allowPrivilegeEscalation` to false and `privileged` to true");
    for (size_t i = 0; i < json_len(add); i++)
        if (str_eq(json_as_str(json_item(add, i)), STR("CAP_SYS_ADMIN")))
            check_bad(c, FIELD_INVALID, at, v,
                      "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN");
}

/* --- containers --- */

/* A sidecar or a regular container; other init containers have neither probes nor hooks. */
static void check_container(struct pod_check *p, const struct where *at, const struct json *v, bool init) {
    static const char *const probes[] = {"livenessProbe", "readinessProbe", "startupProbe"};
    struct check *c = p->c;
    bool sidecar = init && str_eq(json_str_at(v, "restartPolicy"), STR("Always"));
    struct str image = json_str_at(v, "image");
    if (check_required(c, at, v, "image") && str_trim(image).n != image.n)
        check_bad(c, FIELD_INVALID, AT(at, "image"), json_get_c(v, "image"),
                  "must not have leading or trailing whitespace");
    check_ports(p, AT(at, "ports"), json_get_c(v, "ports"));
    check_env(c, at, v);
    check_mounts(p, at, v);
    if (check_get(v, "resources"))
        check_resources(c, AT(at, "resources"), check_get(v, "resources"));
    if (check_get(v, "securityContext"))
        check_container_security(c, AT(at, "securityContext"), check_get(v, "securityContext"));
    for (size_t i = 0; i < ARRAY_LEN(probes); i++) {
        if (init && !sidecar && check_get(v, probes[i]))
            check_bad(c, FIELD_FORBIDDEN, AT(at, probes[i]), NULL,
                      "may not be set for init containers without restartPolicy=Always");
        else
            check_probe(c, at, v, probes[i]);
    }
    if (init && !sidecar && check_get(v, "lifecycle"))
        check_bad(c, FIELD_FORBIDDEN, AT(at, "lifecycle"), NULL,
                  "may not be set for init containers without restartPolicy=Always");
    else if (check_get(v, "lifecycle"))
        check_lifecycle(c, AT(at, "lifecycle"), check_get(v, "lifecycle"));
}

static void check_containers(struct pod_check *p, const struct where *up, const char *member, bool init) {
    const struct json *list = json_get_c(p->spec, member), *others = init ? json_get_c(p->spec, "containers") : NULL;
    for (size_t i = 0; i < json_len(list); i++) {
        const struct json *v = json_item(list, i);
        const struct where *at = AT_ITEM(AT(up, member), i);
        check_named(p->c, at, v, "name", name_check_dns_label);
        if (is_repeated(list, i, "name") || (json_str_at(v, "name").n && named(others, json_str_at(v, "name"))))
            check_bad(p->c, FIELD_DUPLICATE, AT(at, "name"), json_get_c(v, "name"), NULL);
        check_container(p, at, v, init);
    }
}

/* One host port, protocol and address belongs to one container. */
static void check_host_ports(struct pod_check *p, const struct where *up) {
    const struct json *containers = json_get_c(p->spec, "containers");
    struct {
        int64_t port;
        struct str protocol, ip;
    } seen[64];
    size_t n = 0;
    for (size_t i = 0; i < json_len(containers); i++) {
        const struct json *ports = json_get_c(json_item(containers, i), "ports");
        for (size_t k = 0; k < json_len(ports); k++) {
            const struct json *v = json_item(ports, k);
            int64_t port = json_int_at(v, "hostPort", 0);
            struct str protocol = json_str_at(v, "protocol"), ip = json_str_at(v, "hostIP");
            bool twice = false;
            for (size_t s = 0; port && s < n; s++)
                twice = twice || (seen[s].port == port && str_eq(seen[s].protocol, protocol) && str_eq(seen[s].ip, ip));
            if (twice)
                check_bad(p->c, FIELD_DUPLICATE,
                          AT(AT_ITEM(AT(AT_ITEM(AT(up, "containers"), i), "ports"), k), "hostPort"),
                          &(const struct json){.type = JSON_STRING,
                                               .s = str_printf(p->c->arena, "%.*s/%.*s/%" PRId64, STR_ARG(protocol),
                                                               STR_ARG(ip), port)},
                          NULL);
            if (port && n < ARRAY_LEN(seen)) {
                seen[n].port = port;
                seen[n].protocol = protocol;
                seen[n++].ip = ip;
            }
        }
    }
}

/* --- scheduling --- */

void check_tolerations(struct check *c, const struct where *at, const struct json *list) {
    for (size_t i = 0; i < json_len(list); i++) {
        const struct json *v = json_item(list, i);
        struct str key = json_str_at(v, "key"), op = json_str_at(v, "operator"), effect = json_str_at(v, "effect");
        const struct where *here = AT_ITEM(at, i);
        check_name(c, here, v, "key", name_check_qualified);
        if (!key.n && !str_eq(op, STR("Exists")))
            check_bad(c, FIELD_INVALID, AT(here, "operator"), json_get_c(v, "operator"),
                      "operator must be Exists when `key` is empty, which means \"match all values and all keys\"");
        if (check_get(v, "tolerationSeconds") && !str_eq(effect, STR("NoExecute")))
            check_bad(c, FIELD_INVALID, AT(here, "effect"), json_get_c(v, "effect"),
                      "effect must be 'NoExecute' when `tolerationSeconds` is set");
        if (str_eq(op, STR("Exists")) && json_str_at(v, "value").n)
            check_bad(c, FIELD_INVALID, AT(here, "operator"), v, "value must be empty when `operator` is 'Exists'");
    }
}

static void check_node_requirement(struct check *c, const struct where *at, const struct json *v) {
    struct str op = json_str_at(v, "operator");
    size_t n = json_len(json_get_c(v, "values"));
    if ((str_eq(op, STR("In")) || str_eq(op, STR("NotIn"))) && n == 0)
        check_bad(c, FIELD_REQUIRED, AT(at, "values"), NULL, "must be specified when `operator` is 'In' or 'NotIn'");
    if ((str_eq(op, STR("Exists")) || str_eq(op, STR("DoesNotExist"))) && n > 0)
        check_bad(c, FIELD_FORBIDDEN, AT(at, "values"), NULL,
                  "may not be specified when `operator` is 'Exists' or 'DoesNotExist'");
    if ((str_eq(op, STR("Gt")) || str_eq(op, STR("Lt"))) && n != 1)
        check_bad(c, FIELD_REQUIRED, AT(at, "values"), NULL,
                  "must be specified single value when `operator` is 'Lt' or 'Gt'");
    check_name(c, at, v, "key", name_check_qualified);
}

static void check_node_term(struct check *c, const struct where *at, const struct json *term) {
    const struct json *list = json_get_c(term, "matchExpressions");
    for (size_t i = 0; i < json_len(list); i++)
        check_node_requirement(c, AT_ITEM(AT(at, "matchExpressions"), i), json_item(list, i));
}

void check_node_selector_terms(struct check *c, const struct where *up, const struct json *v) {
    const struct json *terms = json_get_c(v, "nodeSelectorTerms");
    if (json_len(terms) == 0)
        check_bad(c, FIELD_REQUIRED, AT(up, "nodeSelectorTerms"), NULL, "must have at least one node selector term");
    for (size_t i = 0; i < json_len(terms); i++)
        check_node_term(c, AT_ITEM(AT(up, "nodeSelectorTerms"), i), json_item(terms, i));
}

#define REQUIRED_TERMS "requiredDuringSchedulingIgnoredDuringExecution"
#define PREFERRED_TERMS "preferredDuringSchedulingIgnoredDuringExecution"

static void check_pod_term(struct check *c, const struct where *at, const struct json *v) {
    if (json_str_at(v, "topologyKey").n == 0)
        check_bad(c, FIELD_REQUIRED, AT(at, "topologyKey"), NULL, "can not be empty");
    else
        check_name(c, at, v, "topologyKey", name_check_qualified);
    check_label_selector(c, AT(at, "labelSelector"), json_get_c(v, "labelSelector"));
}

static void check_weight(struct check *c, const struct where *at, const struct json *v) {
    const struct json *weight = json_get_c(v, "weight");
    if (json_as_int(weight, 1) < 1 || json_as_int(weight, 1) > 100)
        check_bad(c, FIELD_INVALID, AT(at, "weight"), weight, "must be in the range 1-100");
}

static void check_affinity(struct check *c, const struct where *at, const struct json *v) {
    static const char *const pods[] = {"podAffinity", "podAntiAffinity"};
    const struct json *node = check_get(v, "nodeAffinity"), *preferred = json_get_c(node, PREFERRED_TERMS);
    const struct where *here = AT(at, "nodeAffinity");
    if (check_get(node, REQUIRED_TERMS))
        check_node_selector_terms(c, AT(here, REQUIRED_TERMS), check_get(node, REQUIRED_TERMS));
    for (size_t i = 0; i < json_len(preferred); i++) {
        const struct where *one = AT_ITEM(AT(here, PREFERRED_TERMS), i);
        check_weight(c, one, json_item(preferred, i));
        check_node_term(c, AT(one, "preference"), json_get_c(json_item(preferred, i), "preference"));
    }
    for (size_t k = 0; k < ARRAY_LEN(pods); k++) {
        const struct json *a = check_get(v, pods[k]), *hard = json_get_c(a, REQUIRED_TERMS);
        const struct json *soft = json_get_c(a, PREFERRED_TERMS);
        const struct where *there = AT(at, pods[k]);
        for (size_t i = 0; i < json_len(hard); i++)
            check_pod_term(c, AT_ITEM(AT(there, REQUIRED_TERMS), i), json_item(hard, i));
        for (size_t i = 0; i < json_len(soft); i++) {
            const struct where *one = AT_ITEM(AT(there, PREFERRED_TERMS), i);
            check_weight(c, one, json_item(soft, i));
            check_pod_term(c, AT(one, "podAffinityTerm"), json_get_c(json_item(soft, i), "podAffinityTerm"));
        }
    }
}

static void check_spread(struct check *c, const struct where *at, const struct json *list) {
    for (size_t i = 0; i < json_len(list); i++) {
        const struct json *v = json_item(list, i), *skew = json_get_c(v, "maxSkew");
        const struct where *here = AT_ITEM(at, i);
        if (json_as_int(skew, 1) <= 0)
            check_bad(c, FIELD_INVALID, AT(here, "maxSkew"), skew, "must be greater than zero");
        if (json_str_at(v, "topologyKey").n == 0)
            check_bad(c, FIELD_REQUIRED, AT(here, "topologyKey"), NULL, "can not be empty");
        check_required(c, here, v, "whenUnsatisfiable");
        check_label_selector(c, AT(here, "labelSelector"), json_get_c(v, "labelSelector"));
    }
}

/* --- the spec --- */

static void check_dns(struct check *c, const struct where *up, const struct json *spec) {
    const struct json *config = check_get(spec, "dnsConfig"), *servers = json_get_c(config, "nameservers");
    const struct where *at = AT(up, "dnsConfig");
    if (str_eq(json_str_at(spec, "dnsPolicy"), STR("None"))) {
        if (!config)
            check_bad(c, FIELD_REQUIRED, at, NULL, "must provide `dnsConfig` when `dnsPolicy` is None");
        else if (json_len(servers) == 0)
            check_bad(c, FIELD_REQUIRED, AT(at, "nameservers"), NULL,
                      "must provide at least one DNS nameserver when `dnsPolicy` is None");
    }
    if (json_len(servers) > 3)
        check_bad(c, FIELD_INVALID, AT(at, "nameservers"), servers, "must not have more than 3 nameservers");
    for (size_t i = 0; i < json_len(servers); i++)
        if (!check_is_ip(json_as_str(json_item(servers, i))))
            check_bad(c, FIELD_INVALID, AT_ITEM(AT(at, "nameservers"), i), json_item(servers, i),
                      "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)");
}

static void check_restart(struct check *c, const struct where *up, const struct json *spec,
                          const char *const *restart) {
    struct str policy = json_str_at(spec, "restartPolicy");
    if (!policy.n)
        check_bad(c, FIELD_REQUIRED, AT(up, "restartPolicy"), NULL, NULL);
    else if (restart)
        check_enum(c, up, spec, "restartPolicy", restart, false);
}

static void check_placement(struct check *c, const struct where *at, const struct json *spec) {
    static const char *const names[] = {"nodeName", "serviceAccountName", "priorityClassName", "runtimeClassName"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        check_name(c, at, spec, names[i], name_check_dns_subdomain);
    check_name(c, at, spec, "hostname", name_check_dns_label);
    check_name(c, at, spec, "subdomain", name_check_dns_label);
    check_labels(c, AT(at, "nodeSelector"), json_get_c(spec, "nodeSelector"));
    check_tolerations(c, AT(at, "tolerations"), json_get_c(spec, "tolerations"));
    if (check_get(spec, "affinity"))
        check_affinity(c, AT(at, "affinity"), check_get(spec, "affinity"));
    check_spread(c, AT(at, "topologySpreadConstraints"), json_get_c(spec, "topologySpreadConstraints"));
    const struct json *gates = json_get_c(spec, "readinessGates"), *aliases = json_get_c(spec, "hostAliases");
    for (size_t i = 0; i < json_len(gates); i++)
        check_name(c, AT_ITEM(AT(at, "readinessGates"), i), json_item(gates, i), "conditionType", name_check_qualified);
    for (size_t i = 0; i < json_len(aliases); i++)
        if (!check_is_ip(json_str_at(json_item(aliases, i), "ip")))
            check_bad(c, FIELD_INVALID, AT(AT_ITEM(AT(at, "hostAliases"), i), "ip"),
                      json_get_c(json_item(aliases, i), "ip"),
                      "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)");
}

void check_pod_spec(struct check *c, const struct where *at, const struct json *spec, const char *const *restart) {
    struct pod_check p = {c, spec, json_bool_at(spec, "hostNetwork", false)};
    check_volumes(c, AT(at, "volumes"), json_get_c(spec, "volumes"));
    if (json_len(json_get_c(spec, "containers")) == 0)
        check_bad(c, FIELD_REQUIRED, AT(at, "containers"), NULL, NULL);
    check_containers(&p, at, "containers", false);
    check_containers(&p, at, "initContainers", true);
    check_host_ports(&p, at);
    check_restart(c, at, spec, restart);
    check_dns(c, at, spec);
    check_placement(c, at, spec);
    if (check_get(spec, "securityContext"))
        check_ids(c, AT(at, "securityContext"), check_get(spec, "securityContext"));
    if (json_bool_at(spec, "shareProcessNamespace", false) && json_bool_at(spec, "hostPID", false))
        check_bad(c, FIELD_INVALID, AT(at, "shareProcessNamespace"), json_get_c(spec, "shareProcessNamespace"),
                  "ShareProcessNamespace and HostPID cannot both be enabled");
    check_range(c, at, spec, "activeDeadlineSeconds", 1, INT32_MAX);
}

void check_pod_template(struct check *c, const struct where *at, const struct json *t, const char *const *restart) {
    const struct json *meta = json_get_c(t, "metadata"), *annotations = json_get_c(meta, "annotations");
    check_labels(c, AT(AT(at, "metadata"), "labels"), json_get_c(meta, "labels"));
    for (size_t i = 0; json_is(annotations, JSON_OBJECT) && i < annotations->n; i++) {
        const char *wrong = name_check_qualified(annotations->members[i].key);
        if (wrong && name_check_qualified(str_lower(c->arena, annotations->members[i].key)))
            check_bad_text(c, FIELD_INVALID, AT(AT(at, "metadata"), "annotations"), annotations->members[i].key, wrong);
    }
    check_pod_spec(c, AT(at, "spec"), json_get_c(t, "spec"), restart);
}

/* --- what may change in a pod --- */

#define CHANGES                                                                                               \
    "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`," \
    "`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),"               \
    "`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)"

static bool is_same_container(const struct json *a, const struct json *b) {
    if (json_len(a) != json_len(b))
        return false;
    for (size_t i = 0; json_is(a, JSON_OBJECT) && i < a->n; i++) {
        const struct json_member *m = &a->members[i];
        const struct json *other = json_get(b, m->key);
        if (!other || (!str_eq(m->key, STR("image")) && m->value != other && !json_equal(m->value, other)))
            return false;
    }
    return true;
}

static bool are_same_containers(const struct json *a, const struct json *b) {
    if (json_len(a) != json_len(b))
        return false;
    for (size_t i = 0; i < json_len(a); i++)
        if (!is_same_container(json_item(a, i), json_item(b, i)))
            return false;
    return true;
}

/* Every old toleration must still be there. */
static bool only_adds(const struct json *list, const struct json *old) {
    for (size_t i = 0; i < json_len(old); i++) {
        bool found = false;
        for (size_t k = 0; k < json_len(list) && !found; k++) {
            const struct json *a = json_item(list, k), *b = json_item(old, i);
            found = json_equal(a, b) || (str_eq(json_str_at(a, "key"), json_str_at(b, "key")) &&
                                         str_eq(json_str_at(a, "operator"), json_str_at(b, "operator")) &&
                                         str_eq(json_str_at(a, "value"), json_str_at(b, "value")) &&
                                         str_eq(json_str_at(a, "effect"), json_str_at(b, "effect")));
        }
        if (!found)
            return false;
    }
    return true;
}

static bool is_void(const struct json *v) {
    return !v || v->type == JSON_NULL || ((v->type == JSON_ARRAY || v->type == JSON_OBJECT) && v->n == 0) ||
           (v->type == JSON_STRING && v->s.n == 0) || (v->type == JSON_BOOL && !v->b);
}

static bool may_change(struct check *c, struct str member, const struct json *now, const struct json *old) {
    static const char *const free[] = {"activeDeadlineSeconds", "schedulingGates", "ephemeralContainers", NULL};
    if (now == old || json_equal(now, old) || (is_void(now) && is_void(old)) || str_in(member, free))
        return true;
    if (str_eq(member, STR("containers")) || str_eq(member, STR("initContainers")))
        return are_same_containers(now, old);
    if (str_eq(member, STR("tolerations")))
        return only_adds(now, old);
    if (str_eq(member, STR("terminationGracePeriodSeconds")))
        return json_as_int(old, 0) < 0 && json_as_int(now, 0) == 1;
    /* A pod that waits at a gate may still be sent elsewhere. */
    return json_len(json_at(c->old, "spec.schedulingGates")) &&
           (str_eq(member, STR("nodeSelector")) || str_eq(member, STR("affinity")));
}

static void check_images(struct check *c, const struct where *up, const struct json *spec, const char *member) {
    const struct json *list = json_get_c(spec, member);
    for (size_t i = 0; i < json_len(list); i++)
        check_required(c, AT_ITEM(AT(up, member), i), json_item(list, i), "image");
}

static void check_deadline(struct check *c, const struct where *at, const struct json *spec, const struct json *old) {
    const struct json *now = check_get(spec, "activeDeadlineSeconds"),
                      *before = check_get(old, "activeDeadlineSeconds");
    if (before && !now)
        check_bad(c, FIELD_INVALID, AT(at, "activeDeadlineSeconds"), NULL,
                  "must not update from a positive integer to nil value");
    else if (before && now && json_as_int(now, 0) > json_as_int(before, 0))
        check_bad(c, FIELD_INVALID, AT(at, "activeDeadlineSeconds"), now,
                  "must be less than or equal to previous value");
    check_range(c, at, spec, "activeDeadlineSeconds", 1, INT32_MAX);
}

static void check_pod_update(struct check *c) {
    const struct json *spec = json_get_c(c->object, "spec"), *old = json_get_c(c->old, "spec");
    const struct where *at = AT(NULL, "spec");
    bool good = true;
    check_images(c, at, spec, "containers");
    check_images(c, at, spec, "initContainers");
    if (json_len(json_get_c(spec, "containers")) != json_len(json_get_c(old, "containers"))) {
        check_bad(c, FIELD_FORBIDDEN, AT(at, "containers"), NULL, "pod updates may not add or remove containers");
        return;
    }
    check_deadline(c, at, spec, old);
    for (size_t i = 0; json_is(spec, JSON_OBJECT) && i < spec->n && good; i++)
        good = may_change(c, spec->members[i].key, spec->members[i].value, json_get(old, spec->members[i].key));
    for (size_t i = 0; json_is(old, JSON_OBJECT) && i < old->n && good; i++)
        good = may_change(c, old->members[i].key, json_get(spec, old->members[i].key), old->members[i].value);
    if (!good)
        check_bad(c, FIELD_FORBIDDEN, at, NULL, "%s", CHANGES);
}

static void check_pod(struct check *c) {
    if (c->old)
        check_pod_update(c);
    else
        check_pod_spec(c, AT(NULL, "spec"), json_get_c(c->object, "spec"), NULL);
    const struct json *gates = json_at(c->object, "spec.schedulingGates");
    if (c->old && json_len(gates) > json_len(json_at(c->old, "spec.schedulingGates")))
        check_bad(c, FIELD_FORBIDDEN, AT(AT(NULL, "spec"), "schedulingGates"), NULL,
                  "only deletion is allowed, but found new scheduling gate '%.*s'",
                  STR_ARG(json_str_at(json_item(gates, json_len(gates) - 1), "name")));
}

static void check_podtemplate(struct check *c) {
    check_pod_template(c, AT(NULL, "template"), json_get_c(c->object, "template"), NULL);
}

const struct check_kind check_pod_kinds[] = {
    {"pods", check_pod},
    {"podtemplates", check_podtemplate},
    {NULL, NULL},
};
