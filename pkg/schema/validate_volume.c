/* Validation of volumes: those of pods, PersistentVolumes, claims and StorageClasses. */
#include "schema/validate.h"

#include <inttypes.h>

/* --- volumes of pods --- */

static bool has_parent_step(struct str path) {
    while (path.p)
        if (str_eq(str_split(&path, '/'), STR("..")))
            return true;
    return false;
}

static void check_mode(struct check *c, const struct where *at, const struct json *v, const char *member) {
    const struct json *m = check_get(v, member);
    if (json_as_int(m, 0) < 0 || json_as_int(m, 0) > 0777)
        check_bad(c, FIELD_INVALID, AT(at, member), m, "must be a number between 0 and 0777 (octal), both inclusive");
}

static void check_relative(struct check *c, const struct where *at, const struct json *v, const char *member) {
    struct str path = json_str_at(v, member);
    if (!check_required(c, at, v, member))
        return;
    if (path.p[0] == '/')
        check_bad(c, FIELD_INVALID, AT(at, member), json_get_c(v, member), "must be a relative path");
    if (has_parent_step(path))
        check_bad(c, FIELD_INVALID, AT(at, member), json_get_c(v, member), "must not contain '..'");
}

/* Keys of a ConfigMap or Secret as files. */
static void check_key_items(struct check *c, const struct where *at, const struct json *v) {
    const struct json *items = json_get_c(v, "items");
    for (size_t i = 0; i < json_len(items); i++) {
        const struct where *here = AT_ITEM(AT(at, "items"), i);
        check_required(c, here, json_item(items, i), "key");
        check_relative(c, here, json_item(items, i), "path");
        check_mode(c, here, json_item(items, i), "mode");
    }
}

static void check_downward(struct check *c, const struct where *at, const struct json *v) {
    const struct json *items = json_get_c(v, "items");
    for (size_t i = 0; i < json_len(items); i++) {
        const struct json *one = json_item(items, i);
        const struct where *here = AT_ITEM(AT(at, "items"), i);
        check_relative(c, here, one, "path");
        check_mode(c, here, one, "mode");
        if (check_get(one, "fieldRef"))
            check_required(c, AT(here, "fieldRef"), check_get(one, "fieldRef"), "fieldPath");
        else if (!check_get(one, "resourceFieldRef"))
            check_bad(c, FIELD_REQUIRED, here, NULL, "one of fieldRef and resourceFieldRef is required");
    }
}

static void check_source_configmap(struct check *c, const struct where *at, const struct json *v) {
    check_required(c, at, v, "name");
    check_mode(c, at, v, "defaultMode");
    check_key_items(c, at, v);
}

static void check_source_secret(struct check *c, const struct where *at, const struct json *v) {
    check_required(c, at, v, "secretName");
    check_mode(c, at, v, "defaultMode");
    check_key_items(c, at, v);
}

static void check_source_downward(struct check *c, const struct where *at, const struct json *v) {
    check_mode(c, at, v, "defaultMode");
    check_downward(c, at, v);
}

static void check_source_host(struct check *c, const struct where *at, const struct json *v) {
    if (check_required(c, at, v, "path") && has_parent_step(json_str_at(v, "path")))
        check_bad(c, FIELD_INVALID, AT(at, "path"), json_get_c(v, "path"), "must not contain '..'");
}

static void check_source_empty(struct check *c, const struct where *at, const struct json *v) {
    struct str limit = json_str_at(v, "sizeLimit");
    if (limit.n && limit.p[0] == '-')
        check_bad(c, FIELD_FORBIDDEN, AT(at, "sizeLimit"), NULL, "SizeLimit field must be a valid resource quantity");
}

static void check_source_claim(struct check *c, const struct where *at, const struct json *v) {
    check_required(c, at, v, "claimName");
}

static void check_source_nfs(struct check *c, const struct where *at, const struct json *v) {
    check_required(c, at, v, "server");
    if (check_required(c, at, v, "path") && json_str_at(v, "path").p[0] != '/')
        check_bad(c, FIELD_INVALID, AT(at, "path"), json_get_c(v, "path"), "must be an absolute path");
}

static void check_source_csi(struct check *c, const struct where *at, const struct json *v) {
    check_required(c, at, v, "driver");
}

static void check_source_ephemeral(struct check *c, const struct where *at, const struct json *v) {
    if (!check_get(v, "volumeClaimTemplate"))
        check_bad(c, FIELD_REQUIRED, AT(at, "volumeClaimTemplate"), NULL, NULL);
    else
        check_claim_spec(c, AT(AT(at, "volumeClaimTemplate"), "spec"), json_at(v, "volumeClaimTemplate.spec"));
}

static void check_projection(struct check *c, const struct where *at, const struct json *v) {
    const struct json *map = check_get(v, "configMap"), *secret = check_get(v, "secret");
    const struct json *token = check_get(v, "serviceAccountToken"), *downward = check_get(v, "downwardAPI");
    if (map) {
        check_required(c, AT(at, "configMap"), map, "name");
        check_key_items(c, AT(at, "configMap"), map);
    }
    if (secret) {
        check_required(c, AT(at, "secret"), secret, "name");
        check_key_items(c, AT(at, "secret"), secret);
    }
    if (downward)
        check_downward(c, AT(at, "downwardAPI"), downward);
    if (token) {
        const struct json *seconds = check_get(token, "expirationSeconds");
        const struct where *here = AT(at, "serviceAccountToken");
        check_relative(c, here, token, "path");
        if (seconds && json_as_int(seconds, 0) < 600)
            check_bad(c, FIELD_INVALID, AT(here, "expirationSeconds"), seconds,
                      "may not specify a duration less than 10 minutes");
    }
}

static void check_source_projected(struct check *c, const struct where *at, const struct json *v) {
    const struct json *sources = json_get_c(v, "sources");
    check_mode(c, at, v, "defaultMode");
    for (size_t i = 0; i < json_len(sources); i++)
        check_projection(c, AT_ITEM(AT(at, "sources"), i), json_item(sources, i));
}

static const struct {
    const char *name;
    void (*check)(struct check *c, const struct where *at, const struct json *v);
} sources[] = {
    {"configMap", check_source_configmap},
    {"secret", check_source_secret},
    {"downwardAPI", check_source_downward},
    {"hostPath", check_source_host},
    {"emptyDir", check_source_empty},
    {"persistentVolumeClaim", check_source_claim},
    {"nfs", check_source_nfs},
    {"csi", check_source_csi},
    {"ephemeral", check_source_ephemeral},
    {"projected", check_source_projected},
};

/* Each volume has a name and one source beside it; one that the schema knows and nobody checks here is fine. */
static void check_volume(struct check *c, const struct where *at, const struct json *v) {
    size_t n = 0;
    for (size_t i = 0; json_is(v, JSON_OBJECT) && i < v->n; i++) {
        const struct json_member *m = &v->members[i];
        if (m->value->type != JSON_OBJECT)
            continue;
        const struct where *here = AT_MEMBER(at, m->key);
        if (n++ > 0) {
            check_bad(c, FIELD_FORBIDDEN, here, NULL, "may not specify more than 1 volume type");
            continue;
        }
        for (size_t k = 0; k < ARRAY_LEN(sources); k++)
            if (str_eq_c(m->key, sources[k].name))
                sources[k].check(c, here, m->value);
    }
    if (n == 0)
        check_bad(c, FIELD_REQUIRED, at, NULL, "must specify a volume type");
}

void check_volumes(struct check *c, const struct where *at, const struct json *volumes) {
    for (size_t i = 0; i < json_len(volumes); i++) {
        const struct json *v = json_item(volumes, i);
        const struct where *here = AT_ITEM(at, i);
        struct str name = json_str_at(v, "name");
        check_named(c, here, v, "name", name_check_dns_label);
        for (size_t k = 0; name.n && k < i; k++)
            if (str_eq(json_str_at(json_item(volumes, k), "name"), name)) {
                check_bad(c, FIELD_DUPLICATE, AT(here, "name"), json_get_c(v, "name"), NULL);
                break;
            }
        check_volume(c, here, v);
    }
}

/* --- claims, volumes of the cluster --- */

static void check_access_modes(struct check *c, const struct where *up, const struct json *spec) {
    static const char *const known[] = {"ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"};
    const struct json *modes = json_get_c(spec, "accessModes");
    if (json_len(modes) == 0)
        check_bad(c, FIELD_REQUIRED, AT(up, "accessModes"), NULL, "at least 1 access mode is required");
    for (size_t i = 0; i < json_len(modes); i++) {
        bool good = false;
        for (size_t k = 0; k < ARRAY_LEN(known); k++)
            good = good || str_eq_c(json_as_str(json_item(modes, i)), known[k]);
        if (!good)
            check_bad(c, FIELD_NOT_SUPPORTED, AT(up, "accessModes"), json_item(modes, i),
                      "supported values: \"ReadOnlyMany\", \"ReadWriteMany\", \"ReadWriteOnce\", \"ReadWriteOncePod\"");
    }
}

void check_claim_spec(struct check *c, const struct where *at, const struct json *spec) {
    const struct json *size = json_at(spec, "resources.requests.storage");
    int64_t milli = 1;
    check_access_modes(c, at, spec);
    check_label_selector(c, AT(at, "selector"), json_get_c(spec, "selector"));
    if (!size)
        check_bad(c, FIELD_REQUIRED, AT_KEY(AT(at, "resources"), STR("storage")), NULL, NULL);
    else if (quantity_milli(json_as_str(size), &milli) && milli <= 0)
        check_bad(c, FIELD_INVALID, AT_KEY(AT(AT(at, "resources"), "requests"), STR("storage")), size,
                  "must be greater than zero");
    check_name(c, at, spec, "storageClassName", name_check_dns_subdomain);
}

#define CLAIM_CHANGES \
    "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims"

static void check_claim(struct check *c) {
    static const char *const fixed[] = {"accessModes", "selector", "volumeMode", "dataSource", "dataSourceRef"};
    const struct json *spec = json_get_c(c->object, "spec"), *old = json_get_c(c->old, "spec");
    const struct where *at = AT(NULL, "spec");
    if (!c->old) {
        check_claim_spec(c, at, spec);
        return;
    }
    for (size_t i = 0; i < ARRAY_LEN(fixed); i++) {
        const struct json *a = check_get(spec, fixed[i]), *b = check_get(old, fixed[i]);
        if (b && !json_equal(a, b)) {
            check_bad(c, FIELD_FORBIDDEN, at, NULL, CLAIM_CHANGES);
            return;
        }
    }
    struct str bound = json_str_at(old, "volumeName");
    if (bound.n && !str_eq(bound, json_str_at(spec, "volumeName")))
        check_bad(c, FIELD_FORBIDDEN, at, NULL, CLAIM_CHANGES);
}

static void check_persistent_volume(struct check *c) {
    const struct json *spec = json_get_c(c->object, "spec"), *capacity = json_get_c(spec, "capacity");
    const struct where *at = AT(NULL, "spec");
    static const char *const not_sources[] = {"capacity", "claimRef", "nodeAffinity"};
    size_t n = 0;
    check_access_modes(c, at, spec);
    if (json_len(capacity) == 0)
        check_bad(c, FIELD_REQUIRED, AT(at, "capacity"), NULL, NULL);
    else if (!json_get_c(capacity, "storage"))
        check_bad(c, FIELD_NOT_SUPPORTED, AT(at, "capacity"), capacity, "supported values: \"storage\"");
    for (size_t i = 0; json_is(spec, JSON_OBJECT) && i < spec->n; i++) {
        bool source = json_is(spec->members[i].value, JSON_OBJECT);
        for (size_t k = 0; k < ARRAY_LEN(not_sources); k++)
            source = source && !str_eq_c(spec->members[i].key, not_sources[k]);
        n += source;
    }
    if (n == 0)
        check_bad(c, FIELD_REQUIRED, at, NULL, "must specify a volume type");
    else if (n > 1)
        check_bad(c, FIELD_FORBIDDEN, at, NULL, "may not specify more than 1 volume type");
    if (check_get(spec, "hostPath"))
        check_source_host(c, AT(at, "hostPath"), check_get(spec, "hostPath"));
    if (check_get(spec, "local")) {
        check_required(c, AT(at, "local"), check_get(spec, "local"), "path");
        if (!check_get(spec, "nodeAffinity"))
            check_bad(c, FIELD_REQUIRED, AT(at, "nodeAffinity"), NULL, "Local volume requires node affinity");
    }
    if (json_at(spec, "nodeAffinity.required"))
        check_node_selector_terms(c, AT(AT(at, "nodeAffinity"), "required"), json_at(spec, "nodeAffinity.required"));
    check_name(c, at, spec, "storageClassName", name_check_dns_subdomain);
    if (c->old)
        check_immutable(c, at, spec, json_get_c(c->old, "spec"), "volumeMode");
}

static void check_storage_class(struct check *c) {
    check_required(c, NULL, c->object, "provisioner");
    if (!c->old)
        return;
    static const char *const forbidden[] = {"provisioner", "parameters", "reclaimPolicy"};
    for (size_t i = 0; i < ARRAY_LEN(forbidden); i++) {
        const struct json *a = check_get(c->object, forbidden[i]), *b = check_get(c->old, forbidden[i]);
        if (!json_equal(a, b) && json_len(a) + json_len(b) + json_as_str(a).n + json_as_str(b).n > 0)
            check_bad(c, FIELD_FORBIDDEN, AT(NULL, forbidden[i]), NULL, "updates to %s are forbidden.", forbidden[i]);
    }
    check_immutable(c, NULL, c->object, c->old, "volumeBindingMode");
}

const struct check_kind check_volume_kinds[] = {
    {"persistentvolumeclaims", check_claim},
    {"persistentvolumes", check_persistent_volume},
    {"storageclasses.storage.k8s.io", check_storage_class},
    {NULL, NULL},
};
