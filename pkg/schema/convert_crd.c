/*
 * CustomResourceDefinition: v1beta1 may say schema, subresources and columns once for all versions, and has the webhook
 * of conversion flat.
 */
#include "schema/convert.h"

/* Members that stand at the top in v1beta1 when all versions share them, and in each version in v1. */
static const char *const shared[][2] = {
    {"validation", "schema"},
    {"subresources", "subresources"},
    {"additionalPrinterColumns", "additionalPrinterColumns"},
    {"selectableFields", "selectableFields"},
};

static const char *const column_names[] = {"JSONPath", "jsonPath", NULL};

static void each_column(struct arena *a, const struct json *version, bool in) {
    const struct json *columns = convert_get(version, "additionalPrinterColumns");
    for (size_t i = 0; i < json_len(columns); i++) {
        if (in)
            convert_rename(a, json_item(columns, i), column_names);
        else
            convert_rename_back(a, json_item(columns, i), column_names);
    }
}

/* v1 wants a schema in each version; one that allows everything stands for none. */
static struct json *open_schema(struct arena *a) {
    struct json *schema = json_object(a), *top = json_object(a);
    json_set_cstr(a, top, "type", "object");
    json_set_bool(a, top, "x-kubernetes-preserve-unknown-fields", true);
    json_set_c(a, schema, "openAPIV3Schema", top);
    return schema;
}

static void version_in(struct arena *a, const struct json *spec, struct json *version) {
    for (size_t i = 0; i < ARRAY_LEN(shared); i++) {
        const struct json *m = convert_get(spec, shared[i][0]);
        if (m && !convert_get(version, shared[i][1]))
            json_set_c(a, version, shared[i][1], json_copy(a, m));
    }
    each_column(a, version, true);
    if (!convert_get(convert_get(version, "schema"), "openAPIV3Schema"))
        json_set_c(a, version, "schema", open_schema(a));
}

int convert_crd_in(struct arena *a, struct json *v, struct error *err) {
    struct json *spec = convert_get(v, "spec"), *versions = convert_get(spec, "versions");
    if (!json_is(spec, JSON_OBJECT))
        return 0;
    if (json_len(versions) == 0 && json_str_at(spec, "version").n > 0) {
        struct json *one = json_object(a);
        versions = json_array(a);
        json_set_str(a, one, "name", json_str_at(spec, "version"));
        json_set_bool(a, one, "served", true);
        json_set_bool(a, one, "storage", true);
        json_append(a, versions, one);
        json_set_c(a, spec, "versions", versions);
    }
    for (size_t i = 0; i < json_len(versions); i++)
        if (json_is(json_item(versions, i), JSON_OBJECT))
            version_in(a, spec, json_item(versions, i));
    for (size_t i = 0; i < ARRAY_LEN(shared); i++)
        json_del_c(spec, shared[i][0]);
    struct json *conversion = convert_get(spec, "conversion");
    if (convert_get(conversion, "webhookClientConfig") || convert_get(conversion, "conversionReviewVersions")) {
        struct json *webhook = json_object(a);
        convert_move(a, conversion, "webhookClientConfig", webhook, "clientConfig");
        convert_move(a, conversion, "conversionReviewVersions", webhook, "conversionReviewVersions");
        json_set_c(a, conversion, "webhook", webhook);
    }
    return 0;
}

/* Moves what all versions have the same to the top, as v1beta1's validation wants it. */
static void gather_shared(struct arena *a, struct json *spec, const struct json *versions, const char *const names[2]) {
    struct json *first = convert_get(json_item(versions, 0), names[1]);
    for (size_t i = 0; i < json_len(versions); i++) {
        const struct json *m = convert_get(json_item(versions, i), names[1]);
        if (!m || !first || !json_equal(m, first))
            return;
    }
    if (!first)
        return;
    json_set_c(a, spec, names[0], first);
    for (size_t i = 0; i < json_len(versions); i++)
        json_del_c(json_item(versions, i), names[1]);
}

int convert_crd_out(struct arena *a, struct json *v, struct error *err) {
    struct json *spec = convert_get(v, "spec"), *versions = convert_get(spec, "versions");
    if (!json_is(spec, JSON_OBJECT))
        return 0;
    for (size_t i = 0; i < json_len(versions); i++)
        each_column(a, json_item(versions, i), false);
    for (size_t i = 0; i < ARRAY_LEN(shared); i++)
        gather_shared(a, spec, versions, shared[i]);
    if (json_len(versions) > 0)
        json_set_str(a, spec, "version", json_str_at(json_item(versions, 0), "name"));
    if (!convert_get(spec, "preserveUnknownFields"))
        json_set_bool(a, spec, "preserveUnknownFields", false); /* v1beta1 takes true for absent */
    struct json *conversion = convert_get(spec, "conversion"), *webhook = convert_get(conversion, "webhook");
    if (webhook) {
        convert_move(a, webhook, "clientConfig", conversion, "webhookClientConfig");
        convert_move(a, webhook, "conversionReviewVersions", conversion, "conversionReviewVersions");
        json_del_c(conversion, "webhook");
    }
    return 0;
}
