/* OpenAPI: what kubectl reads in it to explain, to validate and to decide how to patch. */
#include "helper.h"

#define REF3 "#/components/schemas/"

static struct json *document(struct arena *a, const char *group, const char *version) {
    struct error err = {0};
    cleanup_buf struct buf b = BUF_INIT;
    schema_openapi_v3(schema_builtin(), str_c(group), str_c(version), &b);
    assert_false(b.failed);
    struct json *v = json_parse(a, buf_str(&b), NULL, &err);
    if (!v)
        fail_msg("%s", err.msg);
    return v;
}

static struct json *swagger(struct arena *a) {
    struct error err = {0};
    cleanup_buf struct buf b = BUF_INIT;
    schema_openapi_v2(schema_builtin(), &b);
    struct json *v = json_parse(a, buf_str(&b), NULL, &err);
    if (!v)
        fail_msg("%s", err.msg);
    return v;
}

static struct json *schema_of(const struct json *doc, const char *name) {
    struct json *v = json_get_c(json_at(doc, "components.schemas"), name);
    if (!v)
        fail_msg("no schema %s", name);
    return v;
}

/* Every $ref leads somewhere. */
static void assert_refs(const struct json *v, const struct json *definitions, struct str prefix) {
    const struct json *ref = json_is(v, JSON_OBJECT) ? json_get_c(v, "$ref") : NULL;
    if (json_is(ref, JSON_STRING)) {
        assert_true(str_starts(ref->s, prefix));
        if (!json_get(definitions, str_skip(ref->s, prefix.n)))
            fail_msg("nothing at %s", ref->s.p);
    }
    for (size_t i = 0; i < json_len(v); i++)
        assert_refs(v->type == JSON_OBJECT ? v->members[i].value : v->items[i], definitions, prefix);
}

static void test_references_lead_somewhere(void **state UNUSED) {
    const struct schema *s = schema_builtin();
    for (size_t i = 0; i < schema_resources_n(s); i++) {
        const struct schema_resource *r = schema_resource_at(s, i), *next = schema_resource_at(s, i + 1);
        if (next && str_eq(r->group, next->group) && str_eq(r->version, next->version))
            continue;
        cleanup_arena struct arena *a = arena_new(0, MiB(256));
        const struct json *doc = document(a, r->group.p, r->version.p);
        assert_refs(doc, json_at(doc, "components.schemas"), STR(REF3));
    }
    cleanup_arena struct arena *a = arena_new(0, MiB(256));
    const struct json *doc = swagger(a);
    assert_refs(doc, json_get_c(doc, "definitions"), STR("#/definitions/"));
}

static void test_schemas_say_how_to_merge(void **state UNUSED) {
    cleanup_arena struct arena *a = arena_new(0, MiB(256));
    const struct json *doc = document(a, "", "v1");
    const struct json *spec = schema_of(doc, "io.k8s.api.core.v1.PodSpec"), *list;
    list = json_at(spec, "properties.containers");
    assert_string_equal(json_str_at(list, "x-kubernetes-list-type").p, "map");
    assert_json(a, json_get_c(list, "x-kubernetes-list-map-keys"), "['name']");
    assert_string_equal(json_str_at(list, "x-kubernetes-patch-strategy").p, "merge");
    assert_string_equal(json_str_at(list, "x-kubernetes-patch-merge-key").p, "name");
    assert_json(a, json_get_c(list, "items"), "{'$ref':'" REF3 "io.k8s.api.core.v1.Container'}");
    assert_string_equal(json_str_at(json_at(spec, "properties.volumes"), "x-kubernetes-patch-strategy").p,
                        "merge,retainKeys");
    assert_json(a, json_get_c(spec, "required"), "['containers']");
    assert_json(a, json_get_c(json_at(spec, "properties.restartPolicy"), "enum"), "['Always','Never','OnFailure']");
}

static void test_kinds_are_named(void **state UNUSED) {
    cleanup_arena struct arena *a = arena_new(0, MiB(256));
    const struct json *doc = document(a, "apps", "v1");
    assert_json(a, json_get_c(schema_of(doc, "io.k8s.api.apps.v1.Deployment"), "x-kubernetes-group-version-kind"),
                "[{'group':'apps','kind':'Deployment','version':'v1'}]");
    assert_json(a, json_get_c(schema_of(doc, "io.k8s.api.apps.v1.DeploymentList"), "x-kubernetes-group-version-kind"),
                "[{'group':'apps','kind':'DeploymentList','version':'v1'}]");
    assert_json(a, json_get_c(schema_of(doc, "io.k8s.api.autoscaling.v1.Scale"), "x-kubernetes-group-version-kind"),
                "[{'group':'autoscaling','kind':'Scale','version':'v1'}]");
    assert_json(a, json_at(schema_of(doc, "io.k8s.api.apps.v1.DeploymentSpec"), "properties.replicas.default"), "1");
}

static bool has_query(const struct json *operation, const char *name) {
    const struct json *list = json_get_c(operation, "parameters");
    for (size_t i = 0; i < json_len(list); i++)
        if (str_eq_c(json_str_at(json_item(list, i), "name"), name) &&
            str_eq(json_str_at(json_item(list, i), "in"), STR("query")))
            return true;
    return false;
}

static void test_patches_know_their_parameters(void **state UNUSED) {
    static const char *const names[] = {"dryRun", "fieldManager", "fieldValidation", "force"};
    cleanup_arena struct arena *a = arena_new(0, MiB(256));
    const struct json *v3 = json_get_c(document(a, "apps", "v1"), "paths"), *v2 = json_get_c(swagger(a), "paths");
    const char *path = "/apis/apps/v1/namespaces/{namespace}/deployments/{name}";
    const struct json *patch = json_get_c(json_get_c(v3, path), "patch");
    assert_non_null(json_get_c(json_at(patch, "requestBody.content"), "application/strategic-merge-patch+json"));
    assert_json(a, json_get_c(patch, "x-kubernetes-group-version-kind"),
                "{'group':'apps','kind':'Deployment','version':'v1'}");
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        assert_true(has_query(patch, names[i]));
        assert_true(has_query(json_get_c(json_get_c(v2, path), "patch"), names[i]));
    }
    assert_true(has_query(json_get_c(json_get_c(v3, "/apis/apps/v1/deployments"), "get"), "watch"));
    assert_null(json_get_c(json_get_c(v3, "/apis/apps/v1/deployments"), "post"));
    assert_non_null(json_get_c(json_get_c(v2, "/api/v1/nodes/{name}"), "get"));
    assert_non_null(json_get_c(json_get_c(v2, "/api/v1/namespaces/{namespace}/pods/{name}/eviction"), "post"));
}

static void test_opt_in_versions_are_not_in_version_2(void **state UNUSED) {
    const struct schema *s = schema_builtin();
    cleanup_arena struct arena *a = arena_new(0, MiB(256));
    const struct json *paths = json_get_c(swagger(a), "paths");
    for (size_t i = 0; i < schema_resources_n(s); i++) {
        const struct schema_resource *r = schema_resource_at(s, i);
        if (!r->type || !(r->verbs & VERB_LIST) || !r->group.n)
            continue;
        struct str path =
            str_printf(a, "/apis/%.*s/%.*s/%.*s", STR_ARG(r->group), STR_ARG(r->version), STR_ARG(r->plural));
        assert_true((json_get(paths, path) != NULL) == r->served);
    }
}

static void test_an_unknown_version_has_no_paths(void **state UNUSED) {
    cleanup_arena struct arena *a = arena_new(0, MiB(256));
    assert_json(a, json_get_c(document(a, "none", "v9"), "paths"), "{}");
}

static void test_custom_kinds(void **state UNUSED) {
    struct error err = {0};
    cleanup_arena struct arena *a = arena_new(0, MiB(256));
    cleanup_buf struct buf b = BUF_INIT;
    struct schema *s =
        schema_compile(STR("version stable.example.com/v1 priority=1,1\nresource things Thing namespaced\n"
                           "    verbs all\nobject Thing\n    spec 2 ThingSpec\nstruct ThingSpec\n"
                           "    size 1 int32 default=3\n    what 2 any\n"),
                       &err);
    assert_non_null(s);
    schema_openapi_v3(s, STR("stable.example.com"), STR("v1"), &b);
    const struct json *doc = json_parse(a, buf_str(&b), NULL, &err);
    assert_non_null(doc);
    assert_refs(doc, json_at(doc, "components.schemas"), STR(REF3));
    assert_json(a, json_get_c(schema_of(doc, "com.example.stable.v1.ThingSpec"), "properties"),
                "{'size':{'default':3,'type':'integer','format':'int32'},"
                "'what':{'x-kubernetes-preserve-unknown-fields':true}}");
    schema_free(s);
}

/* --- protobuf: read back as a decoder would --- */

struct reader {
    const unsigned char *p, *end;
};

static uint64_t varint(struct reader *r) {
    uint64_t v = 0;
    for (unsigned shift = 0;; shift += 7) {
        assert_true(r->p < r->end && shift < 64);
        v |= (uint64_t)(*r->p & 0x7f) << shift;
        if (!(*r->p++ & 0x80))
            return v;
    }
}

/* The next field: its number; its bytes in *value when it has some. */
static unsigned next_field(struct reader *r, struct str *value) {
    uint64_t tag = varint(r);
    *value = STR_NULL;
    if ((tag & 7) == 2) {
        uint64_t n = varint(r);
        assert_true(n <= (uint64_t)(r->end - r->p));
        *value = str_n((const char *)r->p, n);
        r->p += n;
    } else {
        assert_int_equal(tag & 7, 0);
        varint(r);
    }
    return (unsigned)(tag >> 3);
}

static struct reader reader_of(struct str s) {
    return (struct reader){(const unsigned char *)s.p, (const unsigned char *)s.p + s.n};
}

/* The first field with a number. */
static struct str field(struct str message, unsigned number) {
    struct reader r = reader_of(message);
    struct str value;
    while (r.p < r.end)
        if (next_field(&r, &value) == number)
            return value;
    return STR_NULL;
}

/* In a message that repeats {name, value} as a field: the value of a name. */
static struct str named(struct str message, unsigned number, const char *name) {
    struct reader r = reader_of(message);
    struct str value;
    while (r.p < r.end)
        if (next_field(&r, &value) == number && str_eq_c(field(value, 1), name))
            return field(value, 2);
    fail_msg("no %s", name);
    return STR_NULL;
}

static void test_protobuf_says_the_same(void **state UNUSED) {
    cleanup_buf struct buf b = BUF_INIT;
    schema_openapi_v2_pb(schema_builtin(), &b);
    struct str document = buf_str(&b), definitions = field(document, 9), paths = field(document, 8);
    assert_true(str_eq(field(document, 1), STR("2.0")));
    struct str deployment = named(definitions, 1, "io.k8s.api.apps.v1.Deployment");
    assert_true(str_eq(field(named(deployment, 31, "x-kubernetes-group-version-kind"), 2),
                       STR("[{\"group\":\"apps\",\"kind\":\"Deployment\",\"version\":\"v1\"}]\n")));
    struct str spec = named(field(deployment, 25), 1, "spec");
    assert_true(str_eq(field(spec, 1), STR("#/definitions/io.k8s.api.apps.v1.DeploymentSpec")));
    struct str item = named(paths, 2, "/apis/apps/v1/namespaces/{namespace}/deployments/{name}");
    struct reader r = reader_of(field(item, 8)); /* patch */
    struct str value;
    size_t found = 0;
    while (r.p < r.end)
        if (next_field(&r, &value) == 8) { /* ParametersItem, Parameter, NonBodyParameter, QueryParameterSubSchema */
            struct str query = field(field(field(value, 1), 2), 3);
            found += query.p && str_eq(field(query, 4), STR("fieldValidation"));
        }
    assert_int_equal(found, 1);
}

static void test_a_document_that_is_too_large_fails(void **state UNUSED) {
    struct buf b;
    buf_init(&b, 1000);
    schema_openapi_v2_pb(schema_builtin(), &b);
    assert_true(b.failed);
    buf_fini(&b);
    buf_init(&b, 1000);
    schema_openapi_v3(schema_builtin(), STR("apps"), STR("v1"), &b);
    assert_true(b.failed);
    buf_fini(&b);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_references_lead_somewhere),
        cmocka_unit_test(test_schemas_say_how_to_merge),
        cmocka_unit_test(test_kinds_are_named),
        cmocka_unit_test(test_patches_know_their_parameters),
        cmocka_unit_test(test_opt_in_versions_are_not_in_version_2),
        cmocka_unit_test(test_an_unknown_version_has_no_paths),
        cmocka_unit_test(test_custom_kinds),
        cmocka_unit_test(test_protobuf_says_the_same),
        cmocka_unit_test(test_a_document_that_is_too_large_fails),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
