/* Validation of metadata, labels and selectors. */
#include "schema/validate.h"

#define ANNOTATIONS_MAX KiB(256)
#define CRONJOB_NAME_MAX 52 /* room for the suffix of its jobs within 63 */

/* --- names --- */

static const char *path_segment(struct str s) {
    if (str_eq(s, STR(".")))
        return "may not be '.'";
    if (str_eq(s, STR("..")))
        return "may not be '..'";
    if (str_index(s, '/', 0) >= 0)
        return "may not contain '/'";
    return str_index(s, '%', 0) >= 0 ? "may not contain '%'" : NULL;
}

static const char *cronjob_name(struct str s) {
    return s.n > CRONJOB_NAME_MAX ? "must be no more than 52 characters" : name_check_dns_subdomain(s);
}

/* Kinds whose names are not DNS subdomains. */
static const struct {
    const char *key;
    check_name_fn *fn;
} name_rules[] = {
    {"namespaces", name_check_dns_label},
    {"services", name_check_dns1035},
    {"statefulsets.apps", name_check_dns_label},
    {"cronjobs.batch", cronjob_name},
    {"events", path_segment},
    {"events.events.k8s.io", path_segment},
    {"roles.rbac.authorization.k8s.io", path_segment},
    {"clusterroles.rbac.authorization.k8s.io", path_segment},
    {"rolebindings.rbac.authorization.k8s.io", path_segment},
    {"clusterrolebindings.rbac.authorization.k8s.io", path_segment},
    {"poddisruptionbudgets.policy", path_segment},
    {"certificatesigningrequests.certificates.k8s.io", path_segment},
    {"clustertrustbundles.certificates.k8s.io", path_segment},
    {"apiservices.apiregistration.k8s.io", path_segment},
    {"ipaddresses.networking.k8s.io", path_segment},
    {"componentstatuses", path_segment},
};

static check_name_fn *name_rule(const struct schema_resource *r) {
    for (size_t i = 0; i < ARRAY_LEN(name_rules); i++)
        if (str_eq_c(r->key, name_rules[i].key))
            return name_rules[i].fn;
    return name_check_dns_subdomain;
}

/* What generateName becomes has something behind a trailing dash. */
static struct str with_suffix(struct arena *a, struct str s) {
    if (s.n < 2 || s.p[s.n - 1] != '-')
        return s;
    return str_printf(a, "%.*sa", (int)(s.n - 2), s.p);
}

static void check_object_name(struct check *c, const struct where *at, const struct json *meta) {
    check_name_fn *fn = name_rule(c->resource);
    struct str name = json_str_at(meta, "name"), generate = json_str_at(meta, "generateName");
    const char *wrong = generate.n ? fn(with_suffix(c->arena, generate)) : NULL;
    if (wrong)
        check_bad_text(c, FIELD_INVALID, AT(at, "generateName"), generate, wrong);
    if (name.n == 0) {
        if (generate.n == 0)
            check_bad(c, FIELD_REQUIRED, AT(at, "name"), NULL, "name or generateName is required");
        return;
    }
    wrong = fn(name);
    if (wrong)
        check_bad_text(c, FIELD_INVALID, AT(at, "name"), name, wrong);
}

/* --- labels, annotations --- */

void check_labels(struct check *c, const struct where *at, const struct json *labels) {
    for (size_t i = 0; json_is(labels, JSON_OBJECT) && i < labels->n; i++) {
        const struct json_member *m = &labels->members[i];
        const char *wrong = name_check_qualified(m->key);
        if (wrong)
            check_bad_text(c, FIELD_INVALID, at, m->key, wrong);
        wrong = json_is(m->value, JSON_STRING) ? name_check_label_value(m->value->s) : NULL;
        if (wrong)
            check_bad(c, FIELD_INVALID, at, m->value, "%s", wrong);
    }
}

static void check_annotations(struct check *c, const struct where *at, const struct json *annotations) {
    size_t total = 0;
    for (size_t i = 0; json_is(annotations, JSON_OBJECT) && i < annotations->n; i++) {
        const struct json_member *m = &annotations->members[i];
        const char *wrong = name_check_qualified(m->key);
        if (wrong) /* upper case is fine even in the domain; only then is a copy worth it */
            wrong = name_check_qualified(str_lower(c->arena, m->key));
        if (wrong)
            check_bad_text(c, FIELD_INVALID, at, m->key, wrong);
        total += m->key.n + json_as_str(m->value).n;
    }
    if (total > ANNOTATIONS_MAX)
        check_bad(c, FIELD_TOO_LONG, at, NULL, "may not be more than %zu bytes", ANNOTATIONS_MAX);
}

/* --- owners, finalizers --- */

static void check_owners(struct check *c, const struct where *at, const struct json *owners) {
    static const char *const members[][2] = {{"apiVersion", "version must not be empty"},
                                             {"kind", "must not be empty"},
                                             {"name", "must not be empty"},
                                             {"uid", "must not be empty"}};
    struct str controller = STR("");
    for (size_t i = 0; i < json_len(owners); i++) {
        const struct json *o = json_item(owners, i);
        for (size_t k = 0; k < ARRAY_LEN(members); k++)
            if (json_str_at(o, members[k][0]).n == 0)
                check_bad_text(c, FIELD_INVALID, AT(at, members[k][0]), STR(""), members[k][1]);
        if (!json_bool_at(o, "controller", false))
            continue;
        struct str name = json_str_at(o, "name");
        if (controller.n)
            check_bad(c, FIELD_INVALID, at, owners,
                      "Only one reference can have Controller set to true. Found \"true\" in references for %.*s and "
                      "%.*s",
                      STR_ARG(controller), STR_ARG(name));
        controller = name;
    }
}

static bool has_text(const struct json *list, struct str s) {
    for (size_t i = 0; i < json_len(list); i++)
        if (str_eq(json_as_str(json_item(list, i)), s))
            return true;
    return false;
}

static void check_finalizers(struct check *c, const struct where *at, const struct json *meta) {
    const struct json *list = json_get_c(meta, "finalizers"), *before = json_at(c->old, "metadata.finalizers");
    bool builtin = schema_resource_at(schema_builtin(), c->resource->index) == c->resource;
    for (size_t i = 0; i < json_len(list); i++) {
        struct str f = json_as_str(json_item(list, i));
        const char *wrong = name_check_qualified(f);
        bool standard =
            str_eq(f, STR("kubernetes")) || str_eq(f, STR("orphan")) || str_eq(f, STR("foregroundDeletion"));
        if (wrong)
            check_bad_text(c, FIELD_INVALID, at, f, wrong);
        else if (builtin && !standard && str_index(f, '/', 0) < 0 && !has_text(before, f))
            check_bad_text(c, FIELD_INVALID, AT_ITEM(at, i), f,
                           "name is neither a standard finalizer name nor is it fully qualified");
        if (json_str_at(c->old, "metadata.deletionTimestamp").n && !has_text(before, f))
            check_bad(c, FIELD_FORBIDDEN, at, NULL,
                      "no new finalizers can be added if the object is being deleted, found new finalizers "
                      "[]string{\"%.*s\"}",
                      STR_ARG(f));
    }
    if (has_text(list, STR("orphan")) && has_text(list, STR("foregroundDeletion")))
        check_bad(c, FIELD_INVALID, at, list, "finalizer orphan and foregroundDeletion cannot be both set");
}

void check_metadata(struct check *c) {
    const struct json *meta = json_get_c(c->object, "metadata"), *old = json_get_c(c->old, "metadata");
    const struct where *at = AT(NULL, "metadata");
    if (!c->old)
        check_object_name(c, at, meta);
    if (c->resource->namespaced && json_str_at(meta, "namespace").n == 0)
        check_bad(c, FIELD_REQUIRED, AT(at, "namespace"), NULL, NULL);
    else if (!c->resource->namespaced && json_str_at(meta, "namespace").n)
        check_bad(c, FIELD_FORBIDDEN, AT(at, "namespace"), NULL, "not allowed on this type");
    else if (!c->old)
        check_name(c, at, meta, "namespace", name_check_dns_label);
    if (c->old) {
        check_immutable(c, at, meta, old, "name");
        check_immutable(c, at, meta, old, "namespace");
    }
    check_not_negative(c, at, meta, "generation");
    check_labels(c, AT(at, "labels"), json_get_c(meta, "labels"));
    check_annotations(c, AT(at, "annotations"), json_get_c(meta, "annotations"));
    check_owners(c, AT(at, "ownerReferences"), json_get_c(meta, "ownerReferences"));
    check_finalizers(c, AT(at, "finalizers"), meta);
}

/* --- selectors --- */

static void check_requirement(struct check *c, const struct where *at, const struct json *v) {
    struct str op = json_str_at(v, "operator"), key = json_str_at(v, "key");
    size_t n = json_len(json_get_c(v, "values"));
    if (str_eq(op, STR("In")) || str_eq(op, STR("NotIn"))) {
        if (n == 0)
            check_bad(c, FIELD_REQUIRED, AT(at, "values"), NULL,
                      "must be specified when `operator` is 'In' or 'NotIn'");
    } else if (str_eq(op, STR("Exists")) || str_eq(op, STR("DoesNotExist"))) {
        if (n)
            check_bad(c, FIELD_FORBIDDEN, AT(at, "values"), NULL,
                      "may not be specified when `operator` is 'Exists' or 'DoesNotExist'");
    } else {
        check_bad_text(c, FIELD_INVALID, AT(at, "operator"), op, "not a valid selector operator");
    }
    if (name_check_qualified(key))
        check_bad_text(c, FIELD_INVALID, AT(at, "key"), key, name_check_qualified(key));
    for (size_t i = 0; i < n; i++) {
        const struct json *value = json_item(json_get_c(v, "values"), i);
        const char *wrong = name_check_label_value(json_as_str(value));
        if (wrong)
            check_bad(c, FIELD_INVALID, AT_ITEM(AT(at, "values"), i), value, "%s", wrong);
    }
}

void check_label_selector(struct check *c, const struct where *at, const struct json *selector) {
    const struct json *list = json_get_c(selector, "matchExpressions");
    check_labels(c, AT(at, "matchLabels"), json_get_c(selector, "matchLabels"));
    for (size_t i = 0; i < json_len(list); i++)
        check_requirement(c, AT_ITEM(AT(at, "matchExpressions"), i), json_item(list, i));
}
