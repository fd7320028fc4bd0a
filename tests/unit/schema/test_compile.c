#include "helper.h"

static size_t served(const struct schema *s) {
    size_t n = 0;
    for (size_t i = 0; i < schema_resources_n(s); i++)
        n += schema_resource_at(s, i)->served;
    return n;
}

static void builtin_counts(void **state) {
    const struct schema *s = schema_builtin();
    struct str v[16];
    assert_int_equal(schema_resources_n(s), 160);
    assert_int_equal(served(s), 112);
    assert_int_equal(schema_versions(s, STR(""), v, 16), 1);
    assert_int_equal(schema_versions(s, STR("autoscaling"), v, 16), 4);
    assert_true(str_eq_c(v[0], "v2")); /* preferred */
    assert_int_equal(schema_versions(s, STR("apps"), v, 16), 3);
    assert_true(str_eq(v[0], STR("v1")) && str_eq(v[1], STR("v1beta2")));
    assert_int_equal(schema_versions(s, STR("apps"), v, 1), 1);
    assert_int_equal(schema_versions(s, STR("meta"), v, 16), 0);
    assert_int_equal(schema_versions(s, STR("nothing"), v, 16), 0);
}

static void core_resources(void **state) {
    static const char *const plurals[] = {
        "bindings",
        "componentstatuses",
        "configmaps",
        "endpoints",
        "events",
        "limitranges",
        "namespaces",
        "nodes",
        "persistentvolumeclaims",
        "persistentvolumes",
        "pods",
        "podtemplates",
        "replicationcontrollers",
        "resourcequotas",
        "secrets",
        "serviceaccounts",
        "services",
    };
    const struct schema *s = schema_builtin();
    size_t n = 0;
    for (size_t i = 0; i < schema_resources_n(s); i++)
        n += schema_resource_at(s, i)->group.n == 0;
    assert_int_equal(n, ARRAY_LEN(plurals));
    for (size_t i = 0; i < ARRAY_LEN(plurals); i++) {
        const struct schema_resource *r = schema_find(s, STR(""), STR("v1"), str_c(plurals[i]));
        assert_non_null(r);
        assert_true(r->served);
        assert_ptr_equal(r->storage, r);
        assert_true(str_eq_c(r->key, plurals[i]));
    }
    assert_null(schema_find(s, STR(""), STR("v1"), STR("pod")));
    assert_null(schema_find(s, STR(""), STR("v2"), STR("pods")));
    assert_null(schema_resource_at(s, schema_resources_n(s)));
}

static void pods(void **state) {
    const struct schema_resource *r = schema_find_key(schema_builtin(), "pods");
    assert_non_null(r);
    assert_true(r->namespaced && r->tracks_generation && !r->deprecated);
    assert_int_equal(r->verbs, 255);
    assert_int_equal(r->short_names_n, 1);
    assert_true(str_eq_c(r->short_names[0], "po") && str_eq_c(r->categories[0], "all"));
    assert_true(str_eq_c(r->singular, "pod") && str_eq_c(r->list_kind, "PodList"));
    assert_true(str_eq_c(r->storage_hash, "xPOwRZ+Yhw8="));
    assert_int_equal(r->subresources_n, 10);
    const struct schema_subresource *sub = schema_subresource(r, STR("eviction"));
    assert_int_equal(sub->verbs, VERB_CREATE);
    assert_true(str_eq_c(sub->group, "policy") && str_eq_c(sub->kind, "Eviction") && sub->type);
    assert_null(schema_subresource(r, STR("scale")));
    assert_null(schema_subresource(r, STR("exec"))->type);
    assert_int_equal(r->columns_n, 9);
    assert_true(str_eq_c(r->columns[0].format, "name") && str_eq_c(r->columns[0].rule, ".metadata.name"));
    assert_true(str_eq_c(r->columns[5].name, "IP") && r->columns[5].priority == 1);
}

/* All versions of a thing, in whatever group, share the key; one of them stores it. */
static void keys(void **state) {
    static const struct {
        const char *group, *version, *kind, *key;
    } cases[] = {
        {"apps", "v1", "Deployment", "deployments.apps"},
        {"extensions", "v1beta1", "Deployment", "deployments.apps"},
        {"apps", "v1beta1", "Deployment", "deployments.apps"},
        {"extensions", "v1beta1", "Ingress", "ingresses.networking.k8s.io"},
        {"networking.k8s.io", "v1beta1", "Ingress", "ingresses.networking.k8s.io"},
        {"events.k8s.io", "v1", "Event", "events"},
        {"autoscaling", "v1", "HorizontalPodAutoscaler", "horizontalpodautoscalers.autoscaling"},
        {"batch", "v1beta1", "CronJob", "cronjobs.batch"},
        {"apiextensions.k8s.io", "v1beta1", "CustomResourceDefinition",
         "customresourcedefinitions.apiextensions.k8s.io"},
    };
    const struct schema *s = schema_builtin();
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        const struct schema_resource *r = resource(cases[i].group, cases[i].version, cases[i].kind);
        assert_true(str_eq_c(r->key, cases[i].key));
        assert_ptr_equal(schema_find_key(s, cases[i].key), r->storage);
    }
    for (size_t i = 0; i < schema_resources_n(s); i++) {
        const struct schema_resource *r = schema_resource_at(s, i), *storage = r->storage;
        assert_int_equal(r->index, i);
        assert_ptr_equal(storage->storage, storage);
        assert_true(str_eq(storage->key, r->key));
        assert_ptr_equal(schema_find_key(s, r->key.p), storage); /* one storage version a key */
        assert_ptr_equal(schema_find(s, r->group, r->version, r->plural), r);
        assert_ptr_equal(schema_find_kind(s, r->group, r->version, r->kind), r);
        assert_true(r->verbs != 0 && r->type->kind == SCHEMA_STRUCT);
    }
    assert_true(str_eq_c(resource("events.k8s.io", "v1", "Event")->storage->group, ""));
    assert_null(schema_find_key(s, "deployments.extensions"));
}

static void deprecations(void **state) {
    assert_true(str_eq_c(resource("extensions", "v1beta1", "Ingress")->deprecation,
                         "extensions/v1beta1 Ingress is deprecated in v1.14+, unavailable in v1.22+; "
                         "use networking.k8s.io/v1 Ingress"));
    assert_true(str_eq_c(resource("", "v1", "Endpoints")->deprecation,
                         "v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice"));
    assert_false(resource("apps", "v1", "Deployment")->deprecated);
    assert_false(resource("resource.k8s.io", "v1beta1", "ResourceClaim")->served);
}

static const struct schema_field *field(const char *type, const char *name) {
    return schema_field_find(schema_type_find(schema_builtin(), str_c(type)), str_c(name));
}

static void fields(void **state) {
    const struct schema_field *f = field("core/v1.Container", "ports");
    assert_int_equal(f->list_type, SCHEMA_LIST_MAP);
    assert_int_equal(f->list_keys_n, 2);
    assert_true(str_eq_c(f->list_keys[1], "protocol") && str_eq_c(f->patch_key, "containerPort") && f->patch_merge);
    assert_int_equal(f->pb, 6);
    assert_true(str_eq_c(f->type->element->name, "core/v1.ContainerPort"));
    f = field("core/v1.Volume", "emptyDir"); /* of an embedded struct */
    assert_true(f->pb == 2 && f->pb_path[0] == 2 && f->pb_path[1] == 0 && f->pointer);
    assert_true(str_eq_c(f->owner->name, "core/v1.Volume"));
    f = field("admissionregistration.k8s.io/v1.NamedRuleWithOperations", "apiGroups");
    assert_true(f->pb_path[0] == 2 && f->pb_path[1] == 2); /* embedded twice */
    f = field("meta/v1.ObjectMeta", "creationTimestamp");
    assert_true(f->omit_zero && f->type->kind == SCHEMA_TIME);
    assert_int_equal(field("meta/v1.ObjectMeta", "finalizers")->list_type, SCHEMA_LIST_SET);
    assert_true(*field("core/v1.PodSpec", "containers")->description);
    assert_true(*field("core/v1.Pod", "spec")->description && *f->owner->description);
    f = field("core/v1.Pod", "apiVersion");
    assert_true(f && f->pb == 0 && f->type->kind == SCHEMA_STRING);
    assert_true(field("core/v1.ServiceSpec", "selector")->type->atomic);
    assert_false(field("meta/v1.ObjectMeta", "labels")->type->atomic);
    assert_true(field("core/v1.Endpoints", "metadata")->type->kind == SCHEMA_STRUCT);
    f = field("core/v1.PersistentVolumeSpec", "claimRef"); /* the field says other than its type */
    assert_false(f->type->atomic);
    assert_true(schema_type_find(schema_builtin(), STR("core/v1.ObjectReference"))->atomic);
    f = field("core/v1.ServicePort", "protocol");
    assert_int_equal(f->type->enum_n, 3);
    assert_true(str_eq_c(f->type->name, "core/v1.Protocol") && str_eq_c(f->default_text, "\"TCP\""));
    assert_true(field("authorization.k8s.io/v1.SubjectAccessReviewSpec", "extra")->type->element->pb_items);
    assert_true(field("apps/v1.DeploymentSpec", "strategy")->patch_replace_keys);
    assert_true(field("apps/v1.DeploymentSpec", "selector")->required);
    assert_null(field("core/v1.Pod", "nothing"));
    assert_null(schema_type_find(schema_builtin(), STR("core/v1.Nothing")));
    assert_null(schema_type_find(schema_builtin(), STR("Pod")));
}

static void check_default(struct str text) {
    cleanup_arena struct arena *a = arena_new(0, 0);
    struct error err = {0};
    if (text.n > 0 && !json_parse(a, text, NULL, &err))
        fail_msg("%.*s: %s", STR_ARG(text), err.msg);
}

static void check_type(const struct schema_type *t, int depth) {
    if (depth > 12)
        return;
    if (t->element)
        check_type(t->element, depth + 1);
    for (size_t i = 0; i < t->fields_n; i++) {
        const struct schema_field *f = &t->fields[i];
        assert_true(f->name.n > 0 && f->type && f->owner);
        check_default(f->default_text);
        if (f->default_if)
            assert_non_null(schema_field_find(t, f->default_if->field));
        for (size_t k = 0; k < f->list_keys_n; k++)
            assert_non_null(schema_field_find(f->type->element, f->list_keys[k]));
        if (f->patch_key.n > 0)
            assert_non_null(schema_field_find(f->type->element, f->patch_key));
        for (size_t k = 0; k < i; k++)
            if (str_eq(t->fields[k].name, f->name))
                fail_msg("%.*s has %.*s twice", STR_ARG(t->name), STR_ARG(f->name));
        if (depth < 2)
            check_type(f->type, depth + 1);
    }
}

/* Every default is JSON; every key, condition and protobuf number makes sense. */
static void consistency(void **state) {
    const struct schema *s = schema_builtin();
    for (size_t i = 0; i < schema_resources_n(s); i++) {
        const struct schema_resource *r = schema_resource_at(s, i);
        check_type(r->type, 0);
        for (size_t k = 0; k < r->defaults_n; k++)
            check_default(r->defaults[k].text);
        for (size_t k = 0; k < r->columns_n; k++)
            assert_true(r->columns[k].rule.n > 0 && r->columns[k].type.n > 0);
    }
    assert_true(str_eq_c(schema_openapi_package(s, STR("apps"), STR("v1")), "io.k8s.api.apps.v1"));
    assert_true(str_eq_c(schema_proto_package(s, STR(""), STR("v1")), "k8s.io.api.core.v1"));
    assert_int_equal(schema_openapi_package(s, STR("x"), STR("v1")).n, 0);
}

static void own_text(void **state) {
    static const char text[] =
        "# a comment\n"
        "version example.com/v1 priority=1,2 openapi=com.example.v1\n"
        "resource things Thing namespaced optional\n"
        "    short th t\n    verbs get list\n    column Some Size | integer |  | 1 | .spec.size\n"
        "    sub status get,update Thing\n"
        "object Thing atomic\n"
        "    spec 1 *Spec required\n"
        "        \" What it is.\n"
        "struct Spec\n    size 2 int32 default=3\n    mode 3 Mode if=size:1|2 default=\"a b\"\n    embed 4 More\n"
        "struct More\n    tags 1 map[string][]string\n"
        "enum Mode Fast Slow\n"
        "alias Other Spec\n";
    struct error err = {0};
    struct schema *s = schema_compile(str_c(text), &err);
    assert_string_equal(err.msg, "");
    const struct schema_resource *r = schema_find_key(s, "things.example.com");
    assert_true(r && !r->served && r->verbs == (VERB_GET | VERB_LIST) && r->short_names_n == 2);
    assert_true(str_eq_c(r->columns[0].name, "Some Size") && r->columns[0].format.n == 0);
    assert_int_equal(schema_subresource(r, STR("status"))->verbs, VERB_GET | VERB_UPDATE);
    assert_int_equal(r->type->fields_n, 3);
    assert_string_equal(r->type->fields[2].description, "What it is.");
    const struct schema_type *spec = schema_type_find(s, STR("example.com/v1.Other"));
    assert_int_equal(spec->fields_n, 3);
    assert_true(str_eq_c(spec->fields[1].default_text, "\"a b\""));
    assert_true(str_eq_c(spec->fields[1].default_if->values, "1|2"));
    assert_int_equal(spec->fields[2].pb_path[0], 4);
    assert_int_equal(spec->fields[2].type->element->kind, SCHEMA_LIST);
    assert_true(r->type->has_defaults);
    schema_free(s);
}

static void bad_texts(void **state) {
    static const struct {
        const char *text, *message;
    } cases[] = {
        {"struct A\n", "line 1: no version before"},
        {"version v1\n", "no GROUP/VERSION"},
        {"version a/v1 nonsense\n", "unknown word of a version"},
        {"version a/v1\nstruct A\n    b x string\n", "line 3: a field needs a number and a type"},
        {"version a/v1\nstruct A\n    b 1 Missing\n", "a/v1 has no type Missing"},
        {"version a/v1\nstruct A\n    b 1 string loud\n", "unknown flag \"loud\""},
        {"version a/v1\nstruct A\n    b 1 string if=x default=1\n", "no condition"},
        {"version a/v1\nalias A B\nalias B A\n", "made of too many others"},
        {"version a/v1\nstruct A\n    embed 1 string\n", "cannot be embedded"},
        {"version a/v1\nresource xs X\n    verbs get\n", "has no type a/v1.X"},
        {"version a/v1\nresource xs X\n    verbs fly\n", "unknown verb \"fly\""},
        {"version a/v1\nresource xs X\n    column A | b\n", "a column needs five parts"},
        {"version a/v1\nresource xs X\n    storage b/v1\nobject X\n", "which is not there"},
        {"version a/v1\nresource xs\n", "without a kind"},
        {"version a/v1\n    stray\n", "belongs to nothing"},
        {"nonsense\n", "no version before"},
        {"version a/v1\nnonsense\n", "unknown line"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct error err = {0};
        struct schema *s = schema_compile(str_c(cases[i].text), &err);
        if (s || !strstr(err.msg, cases[i].message))
            fail_msg("%s: \"%s\" instead of \"%s\"", cases[i].text, err.msg, cases[i].message);
        assert_true(err.code < 0);
    }
    assert_null(schema_compile(STR("nonsense"), NULL));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(builtin_counts), cmocka_unit_test(core_resources), cmocka_unit_test(pods),
        cmocka_unit_test(keys),           cmocka_unit_test(deprecations),   cmocka_unit_test(fields),
        cmocka_unit_test(consistency),    cmocka_unit_test(own_text),       cmocka_unit_test(bad_texts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
