/* Cells of the remaining kinds: access control, certificates, admission, storage classes and the API's own. */
#include "schema/table.h"

#include <inttypes.h>

/* --- role bindings --- */

static struct json *binding_role(struct table_row *row) {
    return json_strf(row->arena, "%.*s/%.*s", STR_ARG(json_str_at(row->object, "roleRef.kind")),
                     STR_ARG(json_str_at(row->object, "roleRef.name")));
}

static struct json *subjects(struct table_row *row, const char *kind, bool with_namespace) {
    const struct json *list = json_get_c(row->object, "subjects");
    struct table_list l = {.text = BUF_INIT, .separator = ", "};
    for (size_t i = 0; i < json_len(list); i++) {
        const struct json *s = json_item(list, i);
        struct str name = json_str_at(s, "name");
        if (!str_eq_c(json_str_at(s, "kind"), kind))
            continue;
        if (with_namespace)
            name = str_printf(row->arena, "%.*s/%.*s", STR_ARG(json_str_at(s, "namespace")), STR_ARG(name));
        table_list_add(&l, name);
    }
    return table_list_cell(row, &l, "");
}

static struct json *binding_users(struct table_row *row) {
    return subjects(row, "User", false);
}

static struct json *binding_groups(struct table_row *row) {
    return subjects(row, "Group", false);
}

static struct json *binding_serviceaccounts(struct table_row *row) {
    return subjects(row, "ServiceAccount", true);
}

/* --- certificates --- */

static struct json *csr_duration(struct table_row *row) {
    char text[TABLE_AGE_MAX];
    int64_t s = json_int_at(row->object, "spec.expirationSeconds", -1);
    return json_cstr(row->arena, s < 0 ? "<none>" : table_duration(s, text));
}

static struct json *csr_condition(struct table_row *row) {
    const char *word = table_condition(row->object, "Approved") ? "Approved" : "Pending";
    if (table_condition(row->object, "Denied"))
        word = "Denied";
    return json_strf(row->arena, "%s%s%s", word, table_condition(row->object, "Failed") ? ",Failed" : "",
                     json_str_at(row->object, "status.certificate").n ? ",Issued" : "");
}

static struct json *podcertificaterequest_state(struct table_row *row) {
    static const char *const states[] = {"Denied", "Failed", "Issued"};
    for (size_t i = 0; i < ARRAY_LEN(states); i++)
        if (str_eq(json_str_at(table_condition(row->object, states[i]), "status"), STR("True")))
            return json_cstr(row->arena, states[i]);
    return json_cstr(row->arena, "Pending");
}

/* --- admission --- */

static struct json *param_kind(struct table_row *row) {
    const struct json *p = json_at(row->object, "spec.paramKind");
    if (!json_is(p, JSON_OBJECT))
        return json_cstr(row->arena, "<unset>");
    return json_strf(row->arena, "%.*s/%.*s", STR_ARG(json_str_at(p, "apiVersion")), STR_ARG(json_str_at(p, "kind")));
}

static struct json *param_ref(struct table_row *row) {
    const struct json *p = json_at(row->object, "spec.paramRef"), *selector = json_get_c(p, "selector");
    struct str name = json_str_at(p, "name"), namespace = json_str_at(p, "namespace");
    if (!json_is(p, JSON_OBJECT))
        return json_cstr(row->arena, "<unset>");
    if (name.n)
        return json_strf(row->arena, "%.*s%s%.*s", STR_ARG(namespace), namespace.n ? "/" : "", STR_ARG(name));
    struct label_selector *s =
        json_is(selector, JSON_OBJECT) ? label_selector_from_json(row->arena, selector, NULL) : NULL;
    if (!s)
        return json_cstr(row->arena, "<unset>");
    return json_strf(row->arena, "%.*s/%.*s", STR_ARG(namespace.n ? namespace : STR("*")),
                     STR_ARG(label_selector_text(row->arena, s)));
}

/* --- priority levels, flow schemas --- */

static struct json *number_or_none(struct table_row *row, const char *path, const char *second) {
    const struct json *v = json_at(row->object, path);
    if (!json_is(v, JSON_INT) && second)
        v = json_at(row->object, second);
    return json_is(v, JSON_INT) ? json_copy(row->arena, v) : json_cstr(row->arena, "<none>");
}

static struct json *prioritylevel_shares(struct table_row *row) {
    return number_or_none(row, "spec.limited.nominalConcurrencyShares", "spec.exempt.nominalConcurrencyShares");
}

static struct json *prioritylevel_queues(struct table_row *row) {
    return number_or_none(row, "spec.limited.limitResponse.queuing.queues", NULL);
}

static struct json *prioritylevel_hand_size(struct table_row *row) {
    return number_or_none(row, "spec.limited.limitResponse.queuing.handSize", NULL);
}

static struct json *prioritylevel_queue_length(struct table_row *row) {
    return number_or_none(row, "spec.limited.limitResponse.queuing.queueLengthLimit", NULL);
}

static struct json *flowschema_missing(struct table_row *row) {
    struct str status = json_str_at(table_condition(row->object, "Dangling"), "status");
    return table_text(row, status.n ? status : STR("?"));
}

/* --- storage --- */

static struct json *storageclass_expansion(struct table_row *row) {
    return json_bool(row->arena, json_bool_at(row->object, "allowVolumeExpansion", false));
}

static struct json *csidriver_token_requests(struct table_row *row) {
    const struct json *list = json_at(row->object, "spec.tokenRequests");
    struct table_list l = {.text = BUF_INIT};
    for (size_t i = 0; i < json_len(list); i++)
        table_list_add(&l, json_str_at(json_item(list, i), "audience"));
    return table_list_cell(row, &l, "<unset>");
}

static struct json *csidriver_modes(struct table_row *row) {
    const struct json *list = json_at(row->object, "spec.volumeLifecycleModes");
    struct table_list l = {.text = BUF_INIT};
    for (size_t i = 0; i < json_len(list); i++)
        table_list_add(&l, json_as_str(json_item(list, i)));
    return table_list_cell(row, &l, "<none>");
}

static struct json *resourceclaim_state(struct table_row *row) {
    bool deleted = json_str_at(row->object, "metadata.deletionTimestamp").n > 0;
    bool allocated = json_is(json_at(row->object, "status.allocation"), JSON_OBJECT);
    struct table_list l = {.text = BUF_INIT};
    if (deleted)
        table_list_add(&l, STR("deleted"));
    if (allocated)
        table_list_add(&l, STR("allocated"));
    if (allocated && json_len(json_at(row->object, "status.reservedFor")))
        table_list_add(&l, STR("reserved"));
    return table_list_cell(row, &l, "pending");
}

/* --- the API itself --- */

static struct json *apiservice_service(struct table_row *row) {
    const struct json *s = json_at(row->object, "spec.service");
    if (!json_is(s, JSON_OBJECT))
        return json_cstr(row->arena, "Local");
    return json_strf(row->arena, "%.*s/%.*s", STR_ARG(json_str_at(s, "namespace")), STR_ARG(json_str_at(s, "name")));
}

static struct json *apiservice_available(struct table_row *row) {
    const struct json *c = table_condition(row->object, "Available");
    struct str status = json_str_at(c, "status");
    if (!c)
        return json_cstr(row->arena, "Unknown");
    if (str_eq(status, STR("True")))
        return table_text(row, status);
    return json_strf(row->arena, "%.*s (%.*s)", STR_ARG(status), STR_ARG(json_str_at(c, "reason")));
}

static struct json *storageversion_versions(struct table_row *row) {
    const struct json *list = json_at(row->object, "status.storageVersions");
    struct table_list l = {.text = BUF_INIT};
    for (size_t i = 0; i < json_len(list); i++)
        table_list_add(&l, str_printf(row->arena, "%.*s=%.*s", STR_ARG(json_str_at(json_item(list, i), "apiServerID")),
                                      STR_ARG(json_str_at(json_item(list, i), "encodingVersion"))));
    return table_list_cell(row, &l, "<unset>");
}

static struct json *migration_resource(struct table_row *row) {
    struct str group = json_str_at(row->object, "spec.resource.group");
    return json_strf(row->arena, "%.*s%s%.*s", STR_ARG(json_str_at(row->object, "spec.resource.resource")),
                     group.n ? "." : "", STR_ARG(group));
}

const struct table_cell table_other_cells[] = {
    {"rolebinding-role", binding_role},
    {"rolebinding-users", binding_users},
    {"rolebinding-groups", binding_groups},
    {"rolebinding-serviceaccounts", binding_serviceaccounts},
    {"clusterrolebinding-role", binding_role},
    {"clusterrolebinding-users", binding_users},
    {"clusterrolebinding-groups", binding_groups},
    {"clusterrolebinding-serviceaccounts", binding_serviceaccounts},
    {"certificatesigningrequest-requestedduration", csr_duration},
    {"certificatesigningrequest-condition", csr_condition},
    {"podcertificaterequest-state", podcertificaterequest_state},
    {"validatingadmissionpolicy-paramkind", param_kind},
    {"mutatingadmissionpolicy-paramkind", param_kind},
    {"validatingadmissionpolicybinding-paramref", param_ref},
    {"mutatingadmissionpolicybinding-paramref", param_ref},
    {"prioritylevelconfiguration-nominalconcurrencyshares", prioritylevel_shares},
    {"prioritylevelconfiguration-queues", prioritylevel_queues},
    {"prioritylevelconfiguration-handsize", prioritylevel_hand_size},
    {"prioritylevelconfiguration-queuelengthlimit", prioritylevel_queue_length},
    {"flowschema-missingpl", flowschema_missing},
    {"storageclass-allowvolumeexpansion", storageclass_expansion},
    {"csidriver-tokenrequests", csidriver_token_requests},
    {"csidriver-modes", csidriver_modes},
    {"resourceclaim-state", resourceclaim_state},
    {"apiservice-service", apiservice_service},
    {"apiservice-available", apiservice_available},
    {"storageversion-storageversions", storageversion_versions},
    {"storageversionmigration-resource", migration_resource},
    {NULL, NULL},
};
