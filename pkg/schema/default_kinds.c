/* Defaults that need a computation: of types wherever they occur, and of kinds of objects. */
#include "schema/default.h"

static struct json *get(const struct json *v, const char *name) {
    struct json *m = json_get_c(v, name);
    return m && m->type != JSON_NULL ? m : NULL;
}

static bool lacks(const struct json *v, const char *name) {
    return !get(v, name);
}

/* Parses a constant. */
static struct json *constant(struct arena *a, const char *text) {
    struct error err;
    struct json *v = json_parse(a, str_c(text), NULL, &err);
    if (!v)
        fatal("default \"%s\": %s", text, err.msg);
    return v;
}

/* --- types --- */

/* The policy for an image: Always for the tag latest, which is also meant by no tag and no digest. */
static const char *pull_policy(struct str image) {
    struct str name = image, rest, tag = STR("");
    bool digest = str_cut(image, '@', &name, &rest);
    ptrdiff_t slash = str_rindex(name, '/'), colon = str_rindex(name, ':');
    if (colon > slash)
        tag = str_skip(name, (size_t)colon + 1);
    if (str_eq(tag, STR("latest")) || (tag.n == 0 && !digest && name.n > 0))
        return "Always";
    return "IfNotPresent";
}

static void default_container(struct arena *a, const struct schema_type *t, struct json *v) {
    if (json_as_str(get(v, "imagePullPolicy")).n == 0)
        default_put(a, t, v, "imagePullPolicy", json_cstr(a, pull_policy(json_as_str(get(v, "image")))));
}

static void default_image_volume(struct arena *a, const struct schema_type *t, struct json *v) {
    if (json_as_str(get(v, "pullPolicy")).n == 0)
        default_put(a, t, v, "pullPolicy", json_cstr(a, pull_policy(json_as_str(get(v, "reference")))));
}

static void default_volume(struct arena *a, const struct schema_type *t, struct json *v) {
    for (uint32_t i = 0; i < v->n; i++)
        if (!str_eq(v->members[i].key, STR("name")) && v->members[i].value->type != JSON_NULL)
            return;
    default_put(a, t, v, "emptyDir", json_object(a));
}

static void host_ports(struct arena *a, const struct schema_type *t, const struct json *containers, const char *field) {
    const struct schema_field *list = schema_field_find(t, str_c(field));
    const struct schema_field *ports = schema_field_find(list->type->element, STR("ports"));
    for (size_t i = 0; i < json_len(containers); i++) {
        struct json *of = get(json_item(containers, i), "ports");
        for (size_t k = 0; k < json_len(of); k++) {
            struct json *port = json_item(of, k);
            int64_t number = json_int_at(port, "containerPort", 0);
            if (json_int_at(port, "hostPort", 0) == 0 && number != 0)
                default_put(a, ports->type->element, port, "hostPort", json_int(a, number));
        }
    }
}

static void default_pod_spec(struct arena *a, const struct schema_type *t, struct json *v) {
    if (json_bool_at(v, "hostNetwork", false)) {
        host_ports(a, t, get(v, "containers"), "containers");
        host_ports(a, t, get(v, "initContainers"), "initContainers");
    }
    /* serviceAccount is the old name of serviceAccountName: both are written. */
    struct str name = json_str_at(v, "serviceAccountName");
    if (name.n == 0)
        name = json_str_at(v, "serviceAccount");
    if (name.n > 0) {
        default_put(a, t, v, "serviceAccountName", json_str(a, name));
        default_put(a, t, v, "serviceAccount", json_str(a, name));
    }
}

static void default_service_port(struct arena *a, const struct schema_type *t, struct json *v) {
    const struct json *target = get(v, "targetPort");
    bool unset =
        !target || (target->type == JSON_INT && target->i == 0) || (target->type == JSON_STRING && target->s.n == 0);
    if (unset && get(v, "port"))
        default_put(a, t, v, "targetPort", json_int(a, json_int_at(v, "port", 0)));
}

static void default_service_spec(struct arena *a, const struct schema_type *t, struct json *v) {
    struct str affinity = json_str_at(v, "sessionAffinity"), type = json_str_at(v, "type");
    if (affinity.n == 0 || str_eq(affinity, STR("None")))
        json_del_c(v, "sessionAffinityConfig");
    if (str_eq(type, STR("ExternalName")))
        return;
    if (lacks(v, "ipFamilyPolicy") && (json_len(get(v, "clusterIPs")) == 2 || json_len(get(v, "ipFamilies")) == 2))
        default_put(a, t, v, "ipFamilyPolicy", json_cstr(a, "RequireDualStack"));
    if ((type.n == 0 || str_eq(type, STR("ClusterIP"))) && json_len(get(v, "externalIPs")) > 0 &&
        lacks(v, "externalTrafficPolicy"))
        default_put(a, t, v, "externalTrafficPolicy", json_cstr(a, "Cluster"));
}

static struct json *map_member(struct arena *a, const struct schema_type *t, struct json *v, const char *name) {
    struct json *m = get(v, name);
    if (!m) {
        m = json_object(a);
        default_put(a, t, v, name, m);
    }
    return m;
}

/* Adds what `to` lacks. */
static void fill_map(struct arena *a, struct json *to, const struct json *from) {
    for (size_t i = 0; i < json_len(from); i++)
        if (!json_get(to, from->members[i].key))
            json_set(a, to, from->members[i].key, json_copy(a, from->members[i].value));
    json_sort(to);
}

static void default_limit_range_item(struct arena *a, const struct schema_type *t, struct json *v) {
    if (!str_eq(json_str_at(v, "type"), STR("Container")))
        return;
    const struct json *max = get(v, "max"), *min = get(v, "min");
    if (json_len(max) > 0)
        fill_map(a, map_member(a, t, v, "default"), max);
    if (json_len(get(v, "default")) + json_len(min) > 0) {
        struct json *request = map_member(a, t, v, "defaultRequest");
        fill_map(a, request, get(v, "default"));
        fill_map(a, request, min);
    }
}

static void default_scaling_rules(struct arena *a, const struct schema_type *t, struct json *v, const char *name,
                                  const char *policies, bool window) {
    struct json *rules = default_ensure(a, &t, v, name);
    if (!rules)
        return;
    if (window && lacks(rules, "stabilizationWindowSeconds"))
        default_put(a, t, rules, "stabilizationWindowSeconds", json_int(a, 0));
    if (lacks(rules, "selectPolicy"))
        default_put(a, t, rules, "selectPolicy", json_cstr(a, "Max"));
    if (lacks(rules, "policies"))
        default_put(a, t, rules, "policies", constant(a, policies));
}

static void default_hpa_behavior(struct arena *a, const struct schema_type *t, struct json *v) {
    default_scaling_rules(a, t, v, "scaleUp",
                          "[{\"type\":\"Pods\",\"value\":4,\"periodSeconds\":15},"
                          "{\"type\":\"Percent\",\"value\":100,\"periodSeconds\":15}]",
                          true);
    default_scaling_rules(a, t, v, "scaleDown", "[{\"type\":\"Percent\",\"value\":100,\"periodSeconds\":15}]", false);
}

static const struct {
    struct str type;
    default_type_hook *hook;
} type_hooks[] = {
    {STR_INIT("core/v1.Container"), default_container},
    {STR_INIT("core/v1.EphemeralContainer"), default_container},
    {STR_INIT("core/v1.ImageVolumeSource"), default_image_volume},
    {STR_INIT("core/v1.Volume"), default_volume},
    {STR_INIT("core/v1.PodSpec"), default_pod_spec},
    {STR_INIT("core/v1.ServicePort"), default_service_port},
    {STR_INIT("core/v1.ServiceSpec"), default_service_spec},
    {STR_INIT("core/v1.LimitRangeItem"), default_limit_range_item},
    {STR_INIT("autoscaling/v2.HorizontalPodAutoscalerBehavior"), default_hpa_behavior},
    {STR_INIT("autoscaling/v2beta2.HorizontalPodAutoscalerBehavior"), default_hpa_behavior},
};

uint8_t schema_default_hook(struct str type_name) {
    for (size_t i = 0; i < ARRAY_LEN(type_hooks); i++)
        if (str_eq(type_hooks[i].type, type_name))
            return (uint8_t)(i + 1);
    return 0;
}

default_type_hook *default_hook_of_type(uint8_t number) {
    return number ? type_hooks[number - 1].hook : NULL;
}

/* --- kinds of objects --- */

static struct json *template_labels(const struct json *v) {
    struct json *labels = json_at(v, "spec.template.metadata.labels");
    return json_len(labels) > 0 ? labels : NULL;
}

static void labels_from_template(struct arena *a, const struct schema_resource *r, struct json *v) {
    const struct schema_type *t = r->type;
    struct json *labels = template_labels(v), *meta = default_ensure(a, &t, v, "metadata");
    if (labels && meta && json_len(get(meta, "labels")) == 0)
        default_put(a, t, meta, "labels", json_copy(a, labels));
}

static void default_rc(struct arena *a, const struct schema_resource *r, struct json *v) {
    const struct schema_type *t = r->type;
    struct json *labels = template_labels(v), *spec = default_ensure(a, &t, v, "spec");
    if (labels && spec && json_len(get(spec, "selector")) == 0)
        default_put(a, t, spec, "selector", json_copy(a, labels));
    labels_from_template(a, r, v);
}

/* Before apps/v1beta2 the selector and the labels came from the template. */
static void default_legacy_workload(struct arena *a, const struct schema_resource *r, struct json *v) {
    const struct schema_type *t = r->type;
    struct json *labels = template_labels(v), *spec = default_ensure(a, &t, v, "spec");
    if (labels && spec && lacks(spec, "selector")) {
        struct json *selector = json_object(a);
        json_set_c(a, selector, "matchLabels", json_copy(a, labels));
        default_put(a, t, spec, "selector", selector);
    }
    labels_from_template(a, r, v);
}

static void default_stateful_set(struct arena *a, const struct schema_resource *r, struct json *v) {
    const struct schema_type *t = r->type, *strategy_type;
    struct json *spec = default_ensure(a, &t, v, "spec");
    if (!spec)
        return;
    strategy_type = t;
    struct json *strategy = default_ensure(a, &strategy_type, spec, "updateStrategy");
    const struct schema_field *type = schema_field_find(strategy_type, STR("type"));
    if (strategy && type && type->default_text.n == 0 && json_str_at(strategy, "type").n == 0) {
        default_put(a, strategy_type, strategy, "type", json_cstr(a, "RollingUpdate"));
        if (lacks(strategy, "rollingUpdate"))
            default_put(a, strategy_type, strategy, "rollingUpdate", json_object(a));
    }
    const struct schema_field *claims = schema_field_find(t, STR("volumeClaimTemplates"));
    struct json *list = get(spec, "volumeClaimTemplates");
    for (size_t i = 0; i < json_len(list); i++) {
        struct json *claim = json_item(list, i);
        if (!json_is(claim, JSON_OBJECT))
            continue;
        default_put(a, claims->type->element, claim, "kind", json_cstr(a, "PersistentVolumeClaim"));
        default_put(a, claims->type->element, claim, "apiVersion", json_cstr(a, "v1"));
    }
    if (str_eq(r->version, STR("v1beta1")))
        default_legacy_workload(a, r, v);
}

static void default_job(struct arena *a, const struct schema_resource *r, struct json *v) {
    const struct schema_type *t = r->type;
    struct json *spec = default_ensure(a, &t, v, "spec");
    if (!spec)
        return;
    if (lacks(spec, "completions") && lacks(spec, "parallelism"))
        default_put(a, t, spec, "completions", json_int(a, 1));
    if (lacks(spec, "parallelism"))
        default_put(a, t, spec, "parallelism", json_int(a, 1));
    if (lacks(spec, "backoffLimit"))
        default_put(a, t, spec, "backoffLimit", json_int(a, lacks(spec, "backoffLimitPerIndex") ? 6 : INT32_MAX));
    if (lacks(spec, "podReplacementPolicy"))
        default_put(a, t, spec, "podReplacementPolicy",
                    json_cstr(a, lacks(spec, "podFailurePolicy") ? "TerminatingOrFailed" : "Failed"));
    labels_from_template(a, r, v);
}

static void default_pod(struct arena *a, const struct schema_resource *r, struct json *v) {
    static const char *const lists[] = {"containers", "initContainers"};
    const struct schema_type *spec_type = r->type;
    struct json *spec = default_ensure(a, &spec_type, v, "spec");
    for (size_t l = 0; spec && l < ARRAY_LEN(lists); l++) {
        struct json *containers = get(spec, lists[l]);
        for (size_t i = 0; i < json_len(containers); i++) {
            const struct schema_type *t = schema_field_find(spec_type, str_c(lists[l]))->type->element;
            struct json *c = json_item(containers, i), *limits = json_at(c, "resources.limits");
            if (json_len(limits) == 0)
                continue;
            struct json *resources = default_ensure(a, &t, c, "resources");
            fill_map(a, map_member(a, t, resources, "requests"), limits);
        }
    }
}

static void default_namespace(struct arena *a, const struct schema_resource *r, struct json *v) {
    const struct schema_type *t = r->type;
    struct json *meta = default_ensure(a, &t, v, "metadata");
    struct str name = json_str_at(meta, "name");
    if (!meta || name.n == 0)
        return;
    struct json *labels = map_member(a, t, meta, "labels");
    json_set_str(a, labels, "kubernetes.io/metadata.name", name);
    json_sort(labels);
}

static void default_node(struct arena *a, const struct schema_resource *r, struct json *v) {
    const struct schema_type *t = r->type;
    const struct json *capacity = json_at(v, "status.capacity");
    struct json *status = default_ensure(a, &t, v, "status");
    if (status && json_len(capacity) > 0 && lacks(status, "allocatable"))
        default_put(a, t, status, "allocatable", json_copy(a, capacity));
}

static void default_secret(struct arena *a, const struct schema_resource *r, struct json *v) {
    const struct json *plain = get(v, "stringData");
    if (!plain)
        return;
    struct json *data = map_member(a, r->type, v, "data");
    for (size_t i = 0; i < json_len(plain); i++) {
        cleanup_buf struct buf b = BUF_INIT;
        struct str s = json_as_str(plain->members[i].value);
        base64_encode(&b, s.p, s.n);
        json_set(a, data, plain->members[i].key, json_str(a, buf_str(&b)));
    }
    json_sort(data);
    json_del_c(v, "stringData");
}

static void default_network_policy(struct arena *a, const struct schema_resource *r, struct json *v) {
    const struct schema_type *t = r->type;
    struct json *spec = default_ensure(a, &t, v, "spec");
    if (!spec || json_len(get(spec, "policyTypes")) > 0)
        return;
    struct json *types = json_array(a);
    json_append_cstr(a, types, "Ingress");
    if (json_len(get(spec, "egress")) > 0)
        json_append_cstr(a, types, "Egress");
    default_put(a, t, spec, "policyTypes", types);
}

static void default_hpa(struct arena *a, const struct schema_resource *r, struct json *v) {
    const struct schema_type *t = r->type;
    struct json *spec = default_ensure(a, &t, v, "spec");
    if (!spec)
        return;
    if (str_eq(r->version, STR("v1"))) {
        if (lacks(spec, "targetCPUUtilizationPercentage"))
            default_put(a, t, spec, "targetCPUUtilizationPercentage", json_int(a, 80));
        return;
    }
    const char *target = str_eq(r->version, STR("v2beta1"))
                             ? "\"targetAverageUtilization\":80"
                             : "\"target\":{\"type\":\"Utilization\",\"averageUtilization\":80}";
    if (json_len(get(spec, "metrics")) == 0)
        default_put(a, t, spec, "metrics",
                    constant(a,
                             arena_printf(a, "[{\"type\":\"Resource\",\"resource\":{\"name\":\"cpu\",%s}}]", target)));
}

static void default_crd(struct arena *a, const struct schema_resource *r, struct json *v) {
    const struct schema_type *t = r->type, *names_type;
    struct json *spec = default_ensure(a, &t, v, "spec");
    names_type = t;
    struct json *names = spec ? default_ensure(a, &names_type, spec, "names") : NULL;
    if (!names)
        return;
    struct str kind = json_str_at(names, "kind");
    if (kind.n > 0 && json_str_at(names, "singular").n == 0)
        default_put(a, names_type, names, "singular", json_str(a, str_lower(a, kind)));
    if (kind.n > 0 && json_str_at(names, "listKind").n == 0)
        default_put(a, names_type, names, "listKind", json_strf(a, "%.*sList", STR_ARG(kind)));
    if (str_eq(r->version, STR("v1")))
        return;
    struct str version = json_str_at(spec, "version");
    struct json *versions = get(spec, "versions");
    if (json_len(versions) == 0 && version.n > 0) {
        struct json *list = json_array(a), *one = json_object(a);
        json_set_str(a, one, "name", version);
        json_set_bool(a, one, "served", true);
        json_set_bool(a, one, "storage", true);
        json_append(a, list, one);
        default_put(a, t, spec, "versions", list);
    } else if (version.n == 0 && json_len(versions) > 0) {
        default_put(a, t, spec, "version", json_str(a, json_str_at(json_item(versions, 0), "name")));
    }
}

static void default_csr(struct arena *a, const struct schema_resource *r, struct json *v) {
    const struct schema_type *t = r->type;
    struct json *spec = default_ensure(a, &t, v, "spec");
    if (spec && lacks(spec, "signerName"))
        default_put(a, t, spec, "signerName", json_cstr(a, "kubernetes.io/legacy-unknown"));
}

static const struct {
    struct str group, version, kind; /* version "": every one */
    default_resource_hook *hook;
} resource_hooks[] = {
    {STR_INIT(""), STR_INIT("v1"), STR_INIT("Pod"), default_pod},
    {STR_INIT(""), STR_INIT("v1"), STR_INIT("Secret"), default_secret},
    {STR_INIT(""), STR_INIT("v1"), STR_INIT("Namespace"), default_namespace},
    {STR_INIT(""), STR_INIT("v1"), STR_INIT("Node"), default_node},
    {STR_INIT(""), STR_INIT("v1"), STR_INIT("ReplicationController"), default_rc},
    {STR_INIT("apps"), STR_INIT(""), STR_INIT("StatefulSet"), default_stateful_set},
    {STR_INIT("apps"), STR_INIT("v1beta1"), STR_INIT("Deployment"), default_legacy_workload},
    {STR_INIT("extensions"), STR_INIT(""), STR_INIT("Deployment"), default_legacy_workload},
    {STR_INIT("extensions"), STR_INIT(""), STR_INIT("DaemonSet"), default_legacy_workload},
    {STR_INIT("extensions"), STR_INIT(""), STR_INIT("ReplicaSet"), default_legacy_workload},
    {STR_INIT("batch"), STR_INIT(""), STR_INIT("Job"), default_job},
    {STR_INIT("networking.k8s.io"), STR_INIT(""), STR_INIT("NetworkPolicy"), default_network_policy},
    {STR_INIT("extensions"), STR_INIT(""), STR_INIT("NetworkPolicy"), default_network_policy},
    {STR_INIT("autoscaling"), STR_INIT(""), STR_INIT("HorizontalPodAutoscaler"), default_hpa},
    {STR_INIT("apiextensions.k8s.io"), STR_INIT(""), STR_INIT("CustomResourceDefinition"), default_crd},
    {STR_INIT("certificates.k8s.io"), STR_INIT("v1beta1"), STR_INIT("CertificateSigningRequest"), default_csr},
};

void default_run_resource_hooks(struct arena *a, const struct schema_resource *r, struct json *v) {
    for (size_t i = 0; i < ARRAY_LEN(resource_hooks); i++)
        if (str_eq(resource_hooks[i].kind, r->kind) && str_eq(resource_hooks[i].group, r->group) &&
            (resource_hooks[i].version.n == 0 || str_eq(resource_hooks[i].version, r->version)))
            resource_hooks[i].hook(a, r, v);
}
