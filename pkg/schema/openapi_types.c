/* Which types an OpenAPI document needs, and how it writes them down. */
#include "schema/openapi.h"

#include <stdlib.h>

#define TYPES_MAX 8192 /* slots; a document of everything has about 1400 types */

void openapi_types_init(struct openapi_types *t, const struct schema *s, struct arena *a) {
    *t = (struct openapi_types){.schema = s, .arena = a, .mask = TYPES_MAX - 1};
    t->slots = xcalloc(TYPES_MAX, sizeof(*t->slots));
}

void openapi_types_fini(struct openapi_types *t) {
    free(t->slots);
    vec_fini(&t->list);
    vec_fini(&t->any);
}

/* Whether it was not there yet. */
static bool remember(struct openapi_types *t, const struct schema_type *type) {
    size_t at = ((uintptr_t)type >> 4) * UINT64_C(0x9e3779b97f4a7c15) >> 20 & t->mask;
    for (; t->slots[at]; at = (at + 1) & t->mask)
        if (t->slots[at] == type)
            return false;
    if (t->list.n >= TYPES_MAX / 2)
        return false;
    t->slots[at] = type;
    vec_push(&t->list, type);
    return true;
}

static void add_any(struct openapi_types *t, struct str name) {
    for (size_t i = 0; i < t->any.n; i++)
        if (str_eq(t->any.items[i], name))
            return;
    vec_push(&t->any, name);
}

/* A field may refer to a variant of a type, atomic or not; the definition is the type's own. */
static const struct schema_type *named_type(const struct openapi_types *t, const struct schema_type *type) {
    const struct schema_type *own = schema_type_find(t->schema, type->name);
    return own ? own : type;
}

void openapi_types_add(struct openapi_types *t, const struct schema_type *type) {
    if (!type)
        return;
    t->scalars |= 1u << type->kind;
    if (type->kind == SCHEMA_LIST || type->kind == SCHEMA_MAP)
        openapi_types_add(t, type->element);
    else if (type->kind == SCHEMA_ANY)
        add_any(t, type->name);
    else if (type->kind == SCHEMA_STRUCT && type->name.n && remember(t, type = named_type(t, type)))
        for (size_t i = 0; i < type->fields_n; i++)
            openapi_types_add(t, type->fields[i].type);
}

const struct schema_type *openapi_meta(const struct openapi_types *t, const char *name) {
    struct str full = str_printf(t->arena, "meta/v1.%s", name);
    const struct schema_type *found = schema_type_find(t->schema, full);
    return found ? found : schema_type_find(schema_builtin(), full);
}

void openapi_types_add_common(struct openapi_types *t) {
    static const char *const names[] = {"Status", "DeleteOptions", "ListMeta"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        openapi_types_add(t, openapi_meta(t, names[i]));
}

/* --- names --- */

static struct str package_of(const struct schema *s, struct str version_id) {
    for (size_t i = 0; i < s->versions_n; i++)
        if (str_eq(s->versions[i].id, version_id))
            return s->versions[i].openapi;
    return STR("");
}

static struct str join(const struct openapi_types *t, struct str version_id, struct str name) {
    struct str package = package_of(t->schema, version_id);
    if (!package.n)
        package = package_of(schema_builtin(), version_id);
    if (package.n)
        return str_printf(t->arena, "%.*s.%.*s", STR_ARG(package), STR_ARG(name));
    /* No package, as of custom resources: group and version, its labels the other way round. */
    struct str group = version_id, version = STR(""), out = STR("");
    str_cut(version_id, '/', &group, &version);
    while (group.p) {
        struct str label = str_split(&group, '.');
        out = str_printf(t->arena, "%.*s%s%.*s", STR_ARG(label), out.n ? "." : "", STR_ARG(out));
    }
    return str_printf(t->arena, "%.*s.%.*s.%.*s", STR_ARG(out), STR_ARG(version), STR_ARG(name));
}

struct str openapi_name(const struct openapi_types *t, const struct schema_type *type) {
    ptrdiff_t dot = str_rindex(type->name, '.');
    if (dot < 0)
        return type->name;
    return join(t, str_n(type->name.p, (size_t)dot), str_skip(type->name, (size_t)dot + 1));
}

struct str openapi_list_name(const struct openapi_types *t, const struct schema_resource *r) {
    struct str id =
        str_printf(t->arena, "%.*s/%.*s", STR_ARG(r->group.n ? r->group : STR("core")), STR_ARG(r->version));
    return join(t, id, r->list_kind);
}

/* --- definitions of scalars with a name --- */

#define META "io.k8s.apimachinery.pkg.apis.meta.v1."

static const struct {
    enum schema_kind kind;
    const char *name, *v2, *v3;
} scalars[] = {
    {SCHEMA_QUANTITY, "io.k8s.apimachinery.pkg.api.resource.Quantity",
     "{\"description\":\"An amount: 500m, 1.5, 2Gi.\",\"type\":\"string\"}",
     "{\"description\":\"An amount: 500m, 1.5, 2Gi.\",\"oneOf\":[{\"type\":\"string\"},{\"type\":\"number\"}]}"},
    {SCHEMA_INT_OR_STRING, "io.k8s.apimachinery.pkg.util.intstr.IntOrString",
     "{\"description\":\"A number or a text.\",\"type\":\"string\",\"format\":\"int-or-string\"}",
     "{\"description\":\"A number or a text.\",\"format\":\"int-or-string\",\"oneOf\":[{\"type\":\"integer\"},"
     "{\"type\":\"string\"}]}"},
    {SCHEMA_TIME, META "Time", "{\"description\":\"A time of RFC 3339.\",\"type\":\"string\",\"format\":\"date-time\"}",
     NULL},
    {SCHEMA_MICRO_TIME, META "MicroTime",
     "{\"description\":\"A time of RFC 3339 with microseconds.\",\"type\":\"string\",\"format\":\"date-time\"}", NULL},
    {SCHEMA_DURATION, META "Duration", "{\"description\":\"A duration: 1h30m, 5s.\",\"type\":\"string\"}", NULL},
};

static const char *scalar_name(enum schema_kind kind) {
    for (size_t i = 0; i < ARRAY_LEN(scalars); i++)
        if (scalars[i].kind == kind)
            return scalars[i].name;
    return NULL;
}

static const struct {
    const char *type, *name, *body;
} anys[] = {
    {"RawExtension", "io.k8s.apimachinery.pkg.runtime.RawExtension",
     "{\"description\":\"An object of any kind.\",\"type\":\"object\"}"},
    {"FieldsV1", META "FieldsV1", "{\"description\":\"A set of fields.\",\"type\":\"object\"}"},
    {"JSON", "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSON", "{\"description\":\"Any JSON value.\"}"},
    {"JSONSchemaPropsOrArray", "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrArray",
     "{\"description\":\"A schema or a list of them.\"}"},
    {"JSONSchemaPropsOrBool", "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrBool",
     "{\"description\":\"A schema or a boolean.\"}"},
    {"JSONSchemaPropsOrStringArray",
     "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrStringArray",
     "{\"description\":\"A schema or a list of names.\"}"},
};

static const char *any_name(struct str type) {
    for (size_t i = 0; i < ARRAY_LEN(anys); i++)
        if (str_eq_c(type, anys[i].type))
            return anys[i].name;
    return NULL;
}

/* --- writing types --- */

static void put_ref(struct openapi_doc *d, struct str name) {
    buf_puts(d->out, d->v2 ? "\"$ref\":\"#/definitions/" : "\"$ref\":\"#/components/schemas/");
    buf_put_str(d->out, name);
    buf_putc(d->out, '"');
}

/* The name of a type that stands in a definition of its own, or "". */
static struct str referred(const struct openapi_doc *d, const struct schema_type *t) {
    if (t->kind == SCHEMA_STRUCT)
        return t->name.n ? openapi_name(&d->types, t) : STR("");
    const char *name = t->kind == SCHEMA_ANY ? any_name(t->name) : scalar_name(t->kind);
    return name ? str_c(name) : STR("");
}

static void put_fields(struct openapi_doc *d, const struct schema_type *t);

static void put_enum(struct openapi_doc *d, const struct schema_type *t) {
    for (size_t i = 0; i < t->enum_n; i++) {
        buf_puts(d->out, i ? "," : ",\"enum\":[");
        json_write_string(d->out, t->enum_values[i]);
    }
    if (t->enum_n)
        buf_putc(d->out, ']');
}

/* The members that say what a type is, without braces. */
static void put_type(struct openapi_doc *d, const struct schema_type *t) {
    static const char *const plain[SCHEMA_KIND_MAX] = {
        [SCHEMA_STRING] = "\"type\":\"string\"",
        [SCHEMA_BOOL] = "\"type\":\"boolean\"",
        [SCHEMA_INT32] = "\"type\":\"integer\",\"format\":\"int32\"",
        [SCHEMA_INT64] = "\"type\":\"integer\",\"format\":\"int64\"",
        [SCHEMA_DOUBLE] = "\"type\":\"number\",\"format\":\"double\"",
        [SCHEMA_BYTES] = "\"type\":\"string\",\"format\":\"byte\"",
        [SCHEMA_ANY] = "\"x-kubernetes-preserve-unknown-fields\":true",
    };
    struct str name = referred(d, t);
    if (name.n) {
        put_ref(d, name);
    } else if (t->kind == SCHEMA_LIST || t->kind == SCHEMA_MAP) {
        buf_puts(d->out, t->kind == SCHEMA_LIST ? "\"type\":\"array\",\"items\":{"
                                                : "\"type\":\"object\",\"additionalProperties\":{");
        put_type(d, t->element);
        buf_putc(d->out, '}');
    } else if (t->kind == SCHEMA_STRUCT) {
        put_fields(d, t);
    } else {
        buf_puts(d->out, plain[t->kind] ? plain[t->kind] : "\"type\":\"object\"");
        put_enum(d, t);
    }
}

static void put_text(struct openapi_doc *d, const char *key, const char *text) {
    if (!text || !*text)
        return;
    buf_printf(d->out, "\"%s\":", key);
    json_write_string(d->out, str_c(text));
    buf_putc(d->out, ',');
}

static void put_list_rules(struct openapi_doc *d, const struct schema_field *f) {
    if (f->type->kind == SCHEMA_LIST && f->list_type != SCHEMA_LIST_ATOMIC)
        buf_printf(d->out, "\"x-kubernetes-list-type\":\"%s\",", f->list_type == SCHEMA_LIST_SET ? "set" : "map");
    if (f->type->kind == SCHEMA_LIST && f->list_type == SCHEMA_LIST_MAP) {
        for (size_t i = 0; i < f->list_keys_n; i++) {
            buf_puts(d->out, i ? "," : "\"x-kubernetes-list-map-keys\":[");
            json_write_string(d->out, f->list_keys[i]);
        }
        if (f->list_keys_n)
            buf_puts(d->out, "],");
    }
    if (f->patch_merge || f->patch_replace_keys)
        buf_printf(d->out, "\"x-kubernetes-patch-strategy\":\"%s%s%s\",", f->patch_merge ? "merge" : "",
                   f->patch_merge && f->patch_replace_keys ? "," : "", f->patch_replace_keys ? "retainKeys" : "");
    if (f->patch_key.n)
        buf_printf(d->out, "\"x-kubernetes-patch-merge-key\":\"%.*s\",", STR_ARG(f->patch_key));
    if (f->type->atomic && (f->type->kind != SCHEMA_STRUCT || !named_type(&d->types, f->type)->atomic))
        buf_puts(d->out, "\"x-kubernetes-map-type\":\"atomic\",");
}

static void put_field(struct openapi_doc *d, const struct schema_field *f) {
    json_write_string(d->out, f->name);
    buf_puts(d->out, ":{");
    put_text(d, "description", f->description);
    put_list_rules(d, f);
    if (f->default_text.n && !f->default_if)
        buf_printf(d->out, "\"default\":%.*s,", STR_ARG(f->default_text));
    /* In version 3 nothing may stand beside $ref. */
    bool wrapped = !d->v2 && d->out->p[d->out->n - 1] == ',' && referred(d, f->type).n;
    buf_puts(d->out, wrapped ? "\"allOf\":[{" : "");
    put_type(d, f->type);
    buf_puts(d->out, wrapped ? "}]}" : "}");
}

/* "type", "required", "properties" of a struct. */
static void put_fields(struct openapi_doc *d, const struct schema_type *t) {
    size_t n = 0;
    buf_puts(d->out, "\"type\":\"object\"");
    if (t->atomic)
        buf_puts(d->out, ",\"x-kubernetes-map-type\":\"atomic\"");
    for (size_t i = 0; i < t->fields_n; i++) {
        if (!t->fields[i].required)
            continue;
        buf_puts(d->out, n++ ? "," : ",\"required\":[");
        json_write_string(d->out, t->fields[i].name);
    }
    buf_puts(d->out, n ? "]" : "");
    for (size_t i = 0; i < t->fields_n; i++) {
        buf_puts(d->out, i ? "," : ",\"properties\":{");
        put_field(d, &t->fields[i]);
    }
    buf_puts(d->out, t->fields_n ? "}" : "");
}

static void put_gvk(struct openapi_doc *d, struct str group, struct str version, struct str kind, bool comma) {
    buf_printf(d->out, "%s{\"group\":\"%.*s\",\"kind\":\"%.*s\",\"version\":\"%.*s\"}", comma ? "," : "",
               STR_ARG(group), STR_ARG(kind), STR_ARG(version));
}

/* Which kinds a struct is, when it is one. */
static void put_gvks(struct openapi_doc *d, const struct schema_type *t) {
    const struct schema *s = d->types.schema;
    size_t n = 0, start = d->out->n;
    buf_puts(d->out, ",\"x-kubernetes-group-version-kind\":[");
    for (size_t i = 0; i < schema_resources_n(s); i++) {
        const struct schema_resource *r = schema_resource_at(s, i);
        if (r->type == t)
            put_gvk(d, r->group, r->version, r->kind, n++ > 0);
    }
    for (size_t i = 0; i < schema_resources_n(s) && n == 0; i++) {
        const struct schema_resource *r = schema_resource_at(s, i);
        for (size_t k = 0; k < r->subresources_n && n == 0; k++)
            if (r->subresources[k].type == t && r->subresources[k].kind.n)
                put_gvk(d, r->subresources[k].group, r->subresources[k].version, r->subresources[k].kind, n++ > 0);
    }
    if (n == 0 && (str_eq(t->name, STR("meta/v1.Status")) || str_eq(t->name, STR("meta/v1.DeleteOptions"))))
        put_gvk(d, STR(""), STR("v1"), str_skip(t->name, sizeof("meta/v1.") - 1), n++ > 0);
    if (n)
        buf_putc(d->out, ']');
    else
        d->out->n = start;
}

void openapi_put_struct(struct openapi_doc *d, const struct schema_type *t) {
    json_write_string(d->out, openapi_name(&d->types, t));
    buf_puts(d->out, ":{");
    put_text(d, "description", t->description);
    put_fields(d, t);
    put_gvks(d, t);
    buf_putc(d->out, '}');
}

void openapi_put_list(struct openapi_doc *d, const struct schema_resource *r) {
    json_write_string(d->out, openapi_list_name(&d->types, r));
    buf_printf(d->out,
               ":{\"description\":\"A list of objects of kind %.*s.\",\"type\":\"object\",\"required\":[\"items\"],"
               "\"properties\":{\"apiVersion\":{\"type\":\"string\"},\"items\":{\"type\":\"array\",\"items\":{",
               STR_ARG(r->kind));
    put_type(d, r->type);
    buf_puts(d->out, "}},\"kind\":{\"type\":\"string\"},\"metadata\":{");
    put_type(d, openapi_meta(&d->types, "ListMeta"));
    buf_puts(d->out, "}},\"x-kubernetes-group-version-kind\":[");
    put_gvk(d, r->group, r->version, r->list_kind, false);
    buf_puts(d->out, "]}");
}

void openapi_each_definition(struct openapi_doc *d, const struct schema_resource *const *resources, size_t n,
                             openapi_each_fn *each, void *arg) {
    for (size_t i = 0; i < n; i++)
        if (resources[i]->type && (resources[i]->verbs & VERB_LIST)) {
            openapi_put_list(d, resources[i]);
            each(arg);
        }
    for (size_t i = 0; i < d->types.list.n; i++) {
        openapi_put_struct(d, d->types.list.items[i]);
        each(arg);
    }
    buf_puts(d->out, "\"" META "Patch\":{\"description\":\"A patch, of one of several forms.\",\"type\":\"object\"}");
    each(arg);
    for (size_t i = 0; i < ARRAY_LEN(scalars); i++)
        if (d->types.scalars & 1u << scalars[i].kind) {
            buf_printf(d->out, "\"%s\":%s", scalars[i].name, !d->v2 && scalars[i].v3 ? scalars[i].v3 : scalars[i].v2);
            each(arg);
        }
    for (size_t i = 0; i < ARRAY_LEN(anys); i++)
        for (size_t k = 0; k < d->types.any.n; k++)
            if (str_eq_c(d->types.any.items[k], anys[i].type)) {
                buf_printf(d->out, "\"%s\":%s", anys[i].name, anys[i].body);
                each(arg);
            }
}
