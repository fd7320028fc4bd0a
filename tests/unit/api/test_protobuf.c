#include "helper.h"

#include "api/protobuf.h"

/* Bodies as kubectl 1.35 sends them. */
static const char deployment[] =
    "\x6b\x38\x73\x00\x0a\x15\x0a\x07\x61\x70\x70\x73\x2f\x76\x31\x12\x0a\x44\x65\x70\x6c\x6f\x79\x6d"
    "\x65\x6e\x74\x12\xb8\x01\x0a\x1f\x0a\x03\x77\x65\x62\x12\x00\x1a\x00\x22\x00\x2a\x00\x32\x00\x38"
    "\x00\x42\x00\x5a\x0a\x0a\x03\x61\x70\x70\x12\x03\x77\x65\x62\x12\x86\x01\x08\x03\x12\x0c\x0a\x0a"
    "\x0a\x03\x61\x70\x70\x12\x03\x77\x65\x62\x1a\x6c\x0a\x1c\x0a\x00\x12\x00\x1a\x00\x22\x00\x2a\x00"
    "\x32\x00\x38\x00\x42\x00\x5a\x0a\x0a\x03\x61\x70\x70\x12\x03\x77\x65\x62\x12\x4c\x12\x2e\x0a\x05"
    "\x6e\x67\x69\x6e\x78\x12\x05\x6e\x67\x69\x6e\x78\x2a\x00\x32\x0a\x0a\x00\x10\x00\x18\x50\x22\x00"
    "\x2a\x00\x42\x00\x6a\x00\x72\x00\x80\x01\x00\x88\x01\x00\x90\x01\x00\xa2\x01\x00\x1a\x00\x32\x00"
    "\x42\x00\x4a\x00\x52\x00\x58\x00\x60\x00\x68\x00\x82\x01\x00\x8a\x01\x00\x9a\x01\x00\xc2\x01\x00"
    "\x22\x02\x0a\x00\x28\x00\x38\x00\x1a\x0c\x08\x00\x10\x00\x18\x00\x20\x00\x28\x00\x38\x00\x1a\x00"
    "\x22\x00";
static const char config_map[] =
    "\x6b\x38\x73\x00\x0a\x0f\x0a\x02\x76\x31\x12\x09\x43\x6f\x6e\x66\x69\x67\x4d\x61\x70\x12\x1b\x0a"
    "\x11\x0a\x01\x78\x12\x00\x1a\x00\x22\x00\x2a\x00\x32\x00\x38\x00\x42\x00\x12\x06\x0a\x01\x61\x12"
    "\x01\x62\x1a\x00\x22\x00";
static const char token_request[] =
    "\x6b\x38\x73\x00\x0a\x28\x0a\x18\x61\x75\x74\x68\x65\x6e\x74\x69\x63\x61\x74\x69\x6f\x6e\x2e\x6b"
    "\x38\x73\x2e\x69\x6f\x2f\x76\x31\x12\x0c\x54\x6f\x6b\x65\x6e\x52\x65\x71\x75\x65\x73\x74\x12\x1d"
    "\x0a\x10\x0a\x00\x12\x00\x1a\x00\x22\x00\x2a\x00\x32\x00\x38\x00\x42\x00\x12\x03\x20\x90\x1c\x1a"
    "\x04\x0a\x00\x12\x00\x1a\x00\x22\x00";

static struct json *parse(struct arena *a, const char *type, const char *bytes, size_t n, struct error *err) {
    const struct schema_type *t = schema_type_find(schema_builtin(), str_c(type));
    assert_non_null(t);
    return protobuf_object(a, t, str_n(bytes, n), 1000, err);
}

static void bodies_of_a_real_client(void **state) {
    cleanup_arena struct arena *a = arena_new(0, 0);
    struct error err = {0};
    struct json *v = parse(a, "apps/v1.Deployment", deployment, sizeof(deployment) - 1, &err);
    assert_non_null(v);
    v = schema_decode(a, schema_type_find(schema_builtin(), STR("apps/v1.Deployment")), v, NULL, &err);
    assert_non_null(v);
    assert_string_equal(
        json_text(a, v).p,
        "{\"kind\":\"Deployment\",\"apiVersion\":\"apps/v1\",\"metadata\":{\"name\":\"web\",\"labels\":{\"app\":"
        "\"web\"}},\"spec\":{\"replicas\":3,\"selector\":{\"matchLabels\":{\"app\":\"web\"}},\"template\":{"
        "\"metadata\":{\"labels\":{\"app\":\"web\"}},\"spec\":{\"containers\":[{\"name\":\"nginx\",\"image\":"
        "\"nginx\",\"ports\":[{\"containerPort\":80}],\"resources\":{}}]}},\"strategy\":{}},\"status\":{}}");
    v = parse(a, "core/v1.ConfigMap", config_map, sizeof(config_map) - 1, &err);
    assert_string_equal(json_str_at(v, "data.a").p, "b");
    assert_string_equal(json_str_at(v, "kind").p, "ConfigMap");
    v = parse(a, "authentication.k8s.io/v1.TokenRequest", token_request, sizeof(token_request) - 1, &err);
    assert_int_equal(json_int_at(v, "spec.expirationSeconds", 0), 3600);
}

static void scalars_of_other_shapes(void **state) {
    static const struct {
        const char *type;
        const char *bytes;
        size_t n;
        const char *json;
    } cases[] = {
        /* Service: ports[0].targetPort as number and as text */
        {"core/v1.ServicePort", "k8s\0\x12\x06\x22\x04\x08\x00\x10\x50", 12,
         "{\"kind\":\"\",\"apiVersion\":\"\",\"targetPort\":80}"},
        {"core/v1.ServicePort", "k8s\0\x12\x07\x22\x05\x08\x01\x1a\x01w", 13,
         "{\"kind\":\"\",\"apiVersion\":\"\",\"targetPort\":\"w\"}"},
        /* Time: zero is absent, else RFC 3339 */
        {"meta/v1.ObjectMeta", "k8s\0\x12\x02\x42\x00", 8,
         "{\"kind\":\"\",\"apiVersion\":\"\",\"creationTimestamp\":null}"},
        {"meta/v1.ObjectMeta", "k8s\0\x12\x04\x42\x02\x08\x01", 10,
         "{\"kind\":\"\",\"apiVersion\":\"\",\"creationTimestamp\":\"1970-01-01T00:00:01Z\"}"},
        /* Secret data is base64 */
        {"core/v1.Secret", "k8s\0\x12\x08\x12\x06\x0a\x01k\x12\x01v", 14,
         "{\"kind\":\"\",\"apiVersion\":\"\",\"data\":{\"k\":\"dg==\"}}"},
        /* a negative int32 takes ten bytes */
        {"core/v1.PodSpec", "k8s\0\x12\x0c\xc8\x01\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 18,
         "{\"kind\":\"\",\"apiVersion\":\"\",\"priority\":-1}"},
        /* an embedded message: Volume.volumeSource.emptyDir; unknown fields are skipped */
        {"core/v1.Volume", "k8s\0\x12\x09\x0a\x01v\x12\x04\x12\x02\x0a\x00", 15,
         "{\"kind\":\"\",\"apiVersion\":\"\",\"name\":\"v\",\"emptyDir\":{\"medium\":\"\"}}"},
        {"core/v1.ServicePort", "k8s\0\x12\x05\x98\x06\x01\x18\x50", 11,
         "{\"kind\":\"\",\"apiVersion\":\"\",\"port\":80}"},
    };
    cleanup_arena struct arena *a = arena_new(0, 0);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct error err = {0};
        struct json *v = parse(a, cases[i].type, cases[i].bytes, cases[i].n, &err);
        if (!v)
            print_message("%zu: %s\n", i, err.msg);
        assert_non_null(v);
        assert_string_equal(json_text(a, v).p, cases[i].json);
    }
}

static void malformed_ones(void **state) {
    static const struct {
        const char *bytes;
        size_t n;
    } cases[] = {
        {"", 0},
        {"k8s", 3},
        {"x8s\0", 4},
        {"k8s\0\x12", 5},
        {"k8s\0\x12\x05x", 7},                     /* a length beyond the end */
        {"k8s\0\x12\x02\x0a\x05", 8},              /* the same inside */
        {"k8s\0\x12\x02\x08\x01", 8},              /* metadata as a number */
        {"k8s\0\x12\x01\x00", 7},                  /* field number 0 */
        {"k8s\0\x12\x01\x0b", 7},                  /* a group */
        {"k8s\0\x12\x05\x0a\x03\x0a\x01\xff", 11}, /* a name that is not UTF-8 */
        {"k8s\0\x12\x0b\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", 17},
    };
    cleanup_arena struct arena *a = arena_new(0, 0);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct error err = {0};
        assert_null(parse(a, "core/v1.ConfigMap", cases[i].bytes, cases[i].n, &err));
        assert_int_equal(err.code, -EINVAL);
        assert_true(err.msg[0]);
    }
}

static void too_many_values(void **state) {
    cleanup_arena struct arena *a = arena_new(0, 0);
    struct error err = {0};
    const struct schema_type *t = schema_type_find(schema_builtin(), STR("meta/v1.ObjectMeta"));
    /* Field 14 is finalizers: tag 0x72. */
    struct buf c = BUF_INIT;
    buf_put(&c, "k8s\0\x12", 5);
    buf_putc(&c, (char)(0x80 | (3000 & 0x7F)));
    buf_putc(&c, (char)(3000 >> 7));
    for (int i = 0; i < 1000; i++)
        buf_put(&c, "\x72\x01\x61", 3);
    assert_null(protobuf_object(a, t, buf_str(&c), 999, &err));
    assert_int_equal(err.code, -E2BIG);
    assert_int_equal(json_len(json_get_c(protobuf_object(a, t, buf_str(&c), 1000, &err), "finalizers")), 1000);
    buf_fini(&c);
}

static void through_the_api(void **state) {
    struct fixture *f = *state;
    expect_as(f, ADMIN_TOKEN, 400, "POST", "/api/v1/namespaces/default/configmaps",
              "Content-Type: application/vnd.kubernetes.protobuf", "not protobuf");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bodies_of_a_real_client),
        cmocka_unit_test(scalars_of_other_shapes),
        cmocka_unit_test(malformed_ones),
        cmocka_unit_test(too_many_values),
        cmocka_unit_test_setup_teardown(through_the_api, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
