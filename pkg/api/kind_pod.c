/*
 * Pods: what admission adds (service account and its token volume, priority, default tolerations), their first status,
 * quality of service, and graceful deletion. What may change later is validation's.
 */
#include "api/kinds.h"

#define SA_MOUNT "/var/run/secrets/kubernetes.io/serviceaccount"
#define TOKEN_EXPIRES_S 3607
#define TOLERATION_S 300
#define PRIORITY_DEFAULT 0

static const char *const container_lists[] = {"containers", "initContainers"};

/* --- service account --------------------------------------------------------------------------------------------- */

/* The account "default" of a namespace comes with it; its controller may be a moment behind. */
static struct object *default_account(struct api_write *w, struct str name) {
    struct object *o = NULL;
    if (!str_eq_c(name, "default"))
        return NULL;
    struct api_call c = {.api = w->api, .manager = "serviceaccount-controller", .arena = w->arena};
    struct json *v = json_object(w->arena);
    json_set_cstr(w->arena, v, "apiVersion", "v1");
    json_set_cstr(w->arena, v, "kind", "ServiceAccount");
    json_put(w->arena, v, "metadata.name", json_str(w->arena, name));
    json_put(w->arena, v, "metadata.namespace", json_str(w->arena, w->ns));
    if (w->dry_run || api_create(&c, w->api->serviceaccounts, w->ns, v, &o) < 0)
        return NULL;
    return o;
}

static struct json *token_source(struct arena *a) {
    struct json *s = json_object(a);
    json_put(a, s, "serviceAccountToken.expirationSeconds", json_int(a, TOKEN_EXPIRES_S));
    json_put(a, s, "serviceAccountToken.path", json_cstr(a, "token"));
    return s;
}

static struct json *ca_source(struct arena *a) {
    struct json *s = json_object(a), *items = json_array(a), *item = json_object(a);
    json_put(a, s, "configMap.name", json_cstr(a, "kube-root-ca.crt"));
    json_set_cstr(a, item, "key", "ca.crt");
    json_set_cstr(a, item, "path", "ca.crt");
    json_append(a, items, item);
    json_put(a, s, "configMap.items", items);
    return s;
}

static struct json *namespace_source(struct arena *a) {
    struct json *s = json_object(a), *items = json_array(a), *item = json_object(a);
    json_set_cstr(a, item, "path", "namespace");
    json_put(a, item, "fieldRef.apiVersion", json_cstr(a, "v1"));
    json_put(a, item, "fieldRef.fieldPath", json_cstr(a, "metadata.namespace"));
    json_append(a, items, item);
    json_put(a, s, "downwardAPI.items", items);
    return s;
}

static struct json *token_volume(struct arena *a, struct str name) {
    struct json *v = json_object(a), *sources = json_array(a);
    json_set_str(a, v, "name", name);
    json_append(a, sources, token_source(a));
    json_append(a, sources, ca_source(a));
    json_append(a, sources, namespace_source(a));
    json_put(a, v, "projected.sources", sources);
    json_put(a, v, "projected.defaultMode", json_int(a, 0644));
    return v;
}

static bool mounts_at(const struct json *container, const char *path) {
    const struct json *m = json_get_c(container, "volumeMounts");
    for (size_t i = 0; i < json_len(m); i++)
        if (str_eq_c(json_str_at(json_item(m, i), "mountPath"), path))
            return true;
    return false;
}

static struct json *ensure_array(struct arena *a, struct json *obj, const char *member) {
    struct json *v = json_get_c(obj, member);
    if (!json_is(v, JSON_ARRAY)) {
        v = json_array(a);
        json_set_c(a, obj, member, v);
    }
    return v;
}

static void mount_token(struct api_write *w, struct json *spec) {
    struct arena *a = w->arena;
    char suffix[6];
    rand_suffix(suffix, 5);
    struct str name = str_printf(a, "kube-api-access-%s", suffix);
    bool needed = false;
    for (size_t l = 0; l < ARRAY_LEN(container_lists); l++) {
        struct json *list = json_get_c(spec, container_lists[l]);
        for (size_t i = 0; i < json_len(list); i++) {
            struct json *c = json_item(list, i), *m = json_object(a);
            if (!json_is(c, JSON_OBJECT) || mounts_at(c, SA_MOUNT))
                continue;
            json_set_str(a, m, "name", name);
            json_set_bool(a, m, "readOnly", true);
            json_set_cstr(a, m, "mountPath", SA_MOUNT);
            json_append(a, ensure_array(a, c, "volumeMounts"), m);
            needed = true;
        }
    }
    if (needed)
        json_append(a, ensure_array(a, spec, "volumes"), token_volume(a, name));
}

static int admit_service_account(struct api_write *w, struct json *spec) {
    struct arena *a = w->arena;
    if (json_get_c(json_at(w->obj, "metadata.annotations"), "kubernetes.io/config.mirror"))
        return 0;
    struct str name = json_str_at(spec, "serviceAccountName");
    if (name.n == 0)
        name = json_str_at(spec, "serviceAccount");
    if (name.n == 0)
        name = STR("default");
    json_set_str(a, spec, "serviceAccountName", name);
    json_set_str(a, spec, "serviceAccount", name);
    struct object *sa = api_get(w->api, w->api->serviceaccounts, w->ns, name);
    if (!sa)
        sa = default_account(w, name);
    if (!sa && !(w->dry_run && str_eq_c(name, "default")))
        return status_forbidden(w->status, a, w->r, w->name,
                                "error looking up service account %.*s/%.*s: serviceaccount \"%.*s\" not found",
                                STR_ARG(w->ns), STR_ARG(name), STR_ARG(name));
    const struct json *v = sa ? object_json(sa) : NULL;
    const struct json *secrets = json_get_c(v, "imagePullSecrets");
    if (json_len(secrets) && json_len(json_get_c(spec, "imagePullSecrets")) == 0)
        json_set_c(a, spec, "imagePullSecrets", json_copy(a, secrets));
    const struct json *own = json_get_c(spec, "automountServiceAccountToken");
    bool mount = own ? json_as_bool(own, true) : json_bool_at(v, "automountServiceAccountToken", true);
    object_unref(sa);
    if (mount)
        mount_token(w, spec);
    return 0;
}

/* --- priority ---------------------------------------------------------------------------------------------------- */

static bool is_default_class(void *arg, struct object *o) {
    struct object **best = arg;
    const struct json *v = object_json(o);
    if (json_bool_at(v, "globalDefault", false) &&
        (!*best || json_int_at(v, "value", 0) < json_int_at(object_json(*best), "value", 0)))
        *best = o;
    return true;
}

static int admit_priority(struct api_write *w, struct json *spec) {
    struct arena *a = w->arena;
    struct str name = json_str_at(spec, "priorityClassName");
    struct object *pc = NULL;
    int64_t value = PRIORITY_DEFAULT;
    struct str policy = STR("PreemptLowerPriority");
    if (name.n) {
        pc = api_peek(w->api, w->api->priorityclasses, STR(""), name);
        if (!pc)
            return status_forbidden(w->status, a, w->r, w->name, "no PriorityClass with name %.*s was found",
                                    STR_ARG(name));
    } else {
        store_each(w->api->store, api_resource(w->api, w->api->priorityclasses)->kind, STR_NULL, STR_NULL, STR_NULL,
                   is_default_class, &pc);
        if (pc)
            json_set_str(a, spec, "priorityClassName", pc->name);
    }
    if (pc) {
        value = json_int_at(object_json(pc), "value", 0);
        struct str p = json_str_at(object_json(pc), "preemptionPolicy");
        policy = p.n ? p : policy;
    }
    const struct json *given = json_get_c(spec, "priority"), *given_policy = json_get_c(spec, "preemptionPolicy");
    if (given && json_as_int(given, value) != value)
        return status_forbidden(w->status, a, w->r, w->name,
                                "the integer value of priority (%lld) must not be provided"
                                " in pod spec; priority admission controller computed %lld from the given PriorityClass"
                                " name",
                                (long long)json_as_int(given, 0), (long long)value);
    if (json_is(given_policy, JSON_STRING) && !str_eq(given_policy->s, policy))
        return status_forbidden(w->status, a, w->r, w->name,
                                "the string value of PreemptionPolicy (%.*s) must not be"
                                " provided in pod spec; priority admission controller computed %.*s from the given"
                                " PriorityClass name",
                                STR_ARG(given_policy->s), STR_ARG(policy));
    json_set_int(a, spec, "priority", value);
    json_set_str(a, spec, "preemptionPolicy", policy);
    return 0;
}

/* --- tolerations, status ----------------------------------------------------------------------------------------- */

static bool tolerates(const struct json *list, const char *key) {
    for (size_t i = 0; i < json_len(list); i++) {
        const struct json *t = json_item(list, i);
        struct str k = json_str_at(t, "key"), effect = json_str_at(t, "effect");
        if ((k.n == 0 || str_eq_c(k, key)) && (effect.n == 0 || str_eq_c(effect, "NoExecute")))
            return true;
    }
    return false;
}

static void admit_tolerations(struct arena *a, struct json *spec) {
    static const char *const keys[] = {"node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"};
    for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
        if (tolerates(json_get_c(spec, "tolerations"), keys[i]))
            continue;
        struct json *t = json_object(a);
        json_set_cstr(a, t, "key", keys[i]);
        json_set_cstr(a, t, "operator", "Exists");
        json_set_cstr(a, t, "effect", "NoExecute");
        json_set_int(a, t, "tolerationSeconds", TOLERATION_S);
        json_append(a, ensure_array(a, spec, "tolerations"), t);
    }
}

/* A quantity that counts: present and not zero. */
static struct str amount(const struct json *container, const char *which, const char *resource) {
    struct str s = json_as_str(json_get_c(json_get_c(json_get_c(container, "resources"), which), resource));
    return s.n && quantity_valid(s) && quantity_cmp(s, STR("0")) != 0 ? s : STR("");
}

static const char *qos_class(const struct json *spec) {
    static const char *const resources[] = {"cpu", "memory"};
    bool any = false, guaranteed = true;
    for (size_t l = 0; l < ARRAY_LEN(container_lists); l++) {
        const struct json *list = json_get_c(spec, container_lists[l]);
        for (size_t i = 0; i < json_len(list); i++)
            for (size_t r = 0; r < ARRAY_LEN(resources); r++) {
                struct str limit = amount(json_item(list, i), "limits", resources[r]);
                struct str request = amount(json_item(list, i), "requests", resources[r]);
                any = any || limit.n || request.n;
                if (limit.n == 0 || (request.n && quantity_cmp(limit, request) != 0))
                    guaranteed = false;
            }
    }
    return !any ? "BestEffort" : guaranteed ? "Guaranteed" : "Burstable";
}

static void first_status(struct api_write *w, struct json *spec) {
    struct arena *a = w->arena;
    struct json *st = json_object(a);
    json_set_cstr(a, st, "phase", "Pending");
    if (json_len(json_get_c(spec, "schedulingGates")) > 0) {
        struct json *list = json_array(a), *c = json_object(a);
        json_set_cstr(a, c, "type", "PodScheduled");
        json_set_cstr(a, c, "status", "False");
        json_set_c(a, c, "lastProbeTime", json_null(a));
        json_set_c(a, c, "lastTransitionTime", json_null(a));
        json_set_cstr(a, c, "reason", "SchedulingGated");
        json_set_cstr(a, c, "message", "Scheduling is blocked due to non-empty scheduling gates");
        json_append(a, list, c);
        json_set_c(a, st, "conditions", list);
    }
    json_set_cstr(a, st, "qosClass", qos_class(spec));
    json_set_c(a, w->obj, "status", st);
}

int pod_create(struct api_write *w) {
    struct json *spec = json_ensure(w->arena, w->obj, "spec");
    if (!spec)
        return status_bad_request(w->status, w->arena, "spec must be an object");
    int rc = admit_service_account(w, spec);
    if (rc == 0)
        rc = admit_priority(w, spec);
    if (rc < 0)
        return rc;
    admit_tolerations(w->arena, spec);
    first_status(w, spec);
    return 0;
}

int pod_update(struct api_write *w) {
    const struct json *old = json_at(w->old, "status.qosClass");
    if (str_eq_c(w->sub, "status") && old && json_str_at(w->obj, "status.qosClass").n == 0)
        json_put(w->arena, w->obj, "status.qosClass", json_copy(w->arena, old));
    return 0;
}

/* --- deletion ---------------------------------------------------------------------------------------------------- */

int64_t pod_grace(const struct json *obj, int64_t asked) {
    struct str phase = json_str_at(obj, "status.phase");
    int64_t grace = asked >= 0 ? asked : json_int_at(obj, "spec.terminationGracePeriodSeconds", 30);
    if (json_str_at(obj, "spec.nodeName").n == 0 || str_eq_c(phase, "Succeeded") || str_eq_c(phase, "Failed"))
        return 0;
    return grace < 0 ? 1 : grace;
}
