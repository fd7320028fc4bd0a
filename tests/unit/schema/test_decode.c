#include "helper.h"

static const struct schema_type *type(const char *name) {
    const struct schema_type *t = schema_type_find(schema_builtin(), str_c(name));
    if (!t)
        fail_msg("no type %s", name);
    return t;
}

static void canonical(void **state) {
    static const struct {
        const char *type, *in, *out;
    } cases[] = {
        /* order, empty members, structs that Go always writes */
        {"core/v1.Pod",
         "{'status':{},'spec':{'containers':[{'image':'a','name':'c','args':[],'env':null,'workingDir':''}]},"
         "'metadata':{'name':'p','labels':{'b':'1','a':'2'},'annotations':{},'creationTimestamp':null},"
         "'apiVersion':'v1','kind':'Pod'}",
         "{'kind':'Pod','apiVersion':'v1','metadata':{'name':'p','labels':{'a':'2','b':'1'}},"
         "'spec':{'containers':[{'name':'c','image':'a','resources':{}}]},'status':{}}"},
        {"apps/v1.Deployment", "{}",
         "{'metadata':{},'spec':{'selector':null,'template':{'metadata':{},'spec':{'containers':null}},"
         "'strategy':{}},'status':{}}"},
        /* absent and zero differ for pointers only */
        {"apps/v1.DeploymentSpec", "{'replicas':0,'minReadySeconds':0,'paused':false,'selector':{},'template':{}}",
         "{'replicas':0,'selector':{},'template':{'metadata':{},'spec':{'containers':null}},'strategy':{}}"},
        {"core/v1.EnvVar", "{'name':'A','value':''}", "{'name':'A'}"},
        {"core/v1.EnvVar", "{}", "{'name':''}"},
        {"rbac.authorization.k8s.io/v1.ClusterRole", "{'rules':[]}", "{'metadata':{},'rules':[]}"},
        {"rbac.authorization.k8s.io/v1.ClusterRole", "{'rules':null}", "{'metadata':{},'rules':null}"},
        /* quantities, int-or-string, times */
        {"core/v1.ResourceRequirements", "{'limits':{'memory':'1024Mi','cpu':0.5,'pods':10}}",
         "{'limits':{'cpu':'500m','memory':'1Gi','pods':'10'}}"},
        {"core/v1.ResourceRequirements", "{'requests':{'cpu':'100u','memory':'0.5'}}",
         "{'requests':{'cpu':'1m','memory':'500m'}}"},
        {"core/v1.ResourceFieldSelector", "{'resource':'limits.cpu'}", "{'resource':'limits.cpu','divisor':'0'}"},
        {"core/v1.ServicePort", "{'port':80,'targetPort':'http'}", "{'port':80,'targetPort':'http'}"},
        {"core/v1.ServicePort", "{'port':80}", "{'port':80,'targetPort':0}"},
        {"meta/v1.ObjectMeta", "{'creationTimestamp':'2026-01-02T03:04:05+01:00'}",
         "{'creationTimestamp':'2026-01-02T02:04:05Z'}"},
        {"meta/v1.ObjectMeta", "{'creationTimestamp':'0001-01-01T00:00:00Z'}", "{}"},
        {"coordination.k8s.io/v1.LeaseSpec", "{'renewTime':'2026-01-02T03:04:05.5Z'}",
         "{'renewTime':'2026-01-02T03:04:05.500000Z'}"},
        {"core/v1.Event", "{}",
         "{'metadata':{},'involvedObject':{},'source':{},'firstTimestamp':null,'lastTimestamp':null,"
         "'eventTime':null,'reportingComponent':'','reportingInstance':''}"},
        {"metrics.k8s.io/v1beta1.NodeMetrics", "{'window':'90.25s'}",
         "{'metadata':{},'timestamp':null,'window':'1m30.25s','usage':null}"},
        /* bytes and untyped parts */
        {"core/v1.Secret", "{'data':{'b':'aGk=','a':'aG\\nk='}}", "{'metadata':{},'data':{'a':'aGk=','b':'aGk='}}"},
        {"apps/v1.ControllerRevision", "{'revision':1,'data':{'z':[1,null],'a':{}}}",
         "{'metadata':{},'data':{'z':[1,null],'a':{}},'revision':1}"},
        /* null inside lists and maps is the zero value */
        {"core/v1.ConfigMap", "{'data':{'a':null}}", "{'metadata':{},'data':{'a':''}}"},
        {"core/v1.PodSpec", "{'containers':[null]}", "{'containers':[{'name':'','resources':{}}]}"},
    };
    cleanup_arena struct arena *a = arena_new(0, 0);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct error err = {0};
        struct json *v = schema_decode(a, type(cases[i].type), tree(a, cases[i].in), NULL, &err);
        if (!v)
            fail_msg("%s: %s", cases[i].in, err.msg);
        assert_json(a, v, cases[i].out);
        v = schema_decode(a, type(cases[i].type), v, NULL, &err);
        assert_json(a, v, cases[i].out); /* what is canonical stays */
    }
}

static void wrong_types(void **state) {
    static const struct {
        const char *type, *in, *message;
    } cases[] = {
        {"apps/v1.Deployment", "{'spec':{'replicas':'3'}}",
         "json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32"},
        {"core/v1.Pod", "{'spec':{'containers':[{'name':'a'},{'env':[{'value':1}]}]}}",
         "json: cannot unmarshal number into Go struct field EnvVar.spec.containers.env.value of type string"},
        {"core/v1.ConfigMap", "{'data':{'a':1}}",
         "json: cannot unmarshal number into Go struct field ConfigMap.data of type string"},
        {"core/v1.Pod", "{'metadata':{'labels':{'a':true}}}",
         "json: cannot unmarshal bool into Go struct field ObjectMeta.metadata.labels of type string"},
        {"core/v1.Pod", "{'spec':{'terminationGracePeriodSeconds':1.5}}",
         "json: cannot unmarshal number 1.5 into Go struct field PodSpec.spec.terminationGracePeriodSeconds of type "
         "int64"},
        {"core/v1.Service", "{'spec':{'ports':[{'port':99999999999}]}}",
         "json: cannot unmarshal number 99999999999 into Go struct field ServicePort.spec.ports.port of type int32"},
        {"core/v1.Service", "{'spec':{'type':{}}}",
         "json: cannot unmarshal object into Go struct field ServiceSpec.spec.type of type v1.ServiceType"},
        {"core/v1.Pod", "{'spec':{'containers':{}}}",
         "json: cannot unmarshal object into Go struct field PodSpec.spec.containers of type []v1.Container"},
        {"core/v1.Pod", "{'spec':{'volumes':[{'emptyDir':[]}]}}",
         "json: cannot unmarshal array into Go struct field Volume.spec.volumes.emptyDir of type "
         "v1.EmptyDirVolumeSource"},
        {"core/v1.Pod", "[]", "json: cannot unmarshal array into Go value of type v1.Pod"},
        {"core/v1.Secret", "{'data':{'a':'%'}}", "illegal base64 data at input byte 0"},
        {"core/v1.Secret", "{'data':{'a':'YWJj='}}", "illegal base64 data at input byte 4"},
        {"core/v1.ResourceQuota", "{'spec':{'hard':{'cpu':'1 '}}}",
         "quantities must match the regular expression "
         "'^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"},
        {"core/v1.ResourceQuota", "{'spec':{'hard':{'cpu':'1Kii'}}}", "unable to parse quantity's suffix"},
        {"core/v1.ServicePort", "{'targetPort':true}", "json: cannot unmarshal bool into Go value of type int32"},
        {"meta/v1.ObjectMeta", "{'creationTimestamp':'yesterday'}",
         "parsing time \"yesterday\" as \"2006-01-02T15:04:05Z07:00\": cannot parse \"yesterday\" as \"2006\""},
        {"meta/v1.ObjectMeta", "{'creationTimestamp':5}", "json: cannot unmarshal number into Go value of type string"},
    };
    cleanup_arena struct arena *a = arena_new(0, 0);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct error err = {0};
        assert_null(schema_decode(a, type(cases[i].type), tree(a, cases[i].in), NULL, &err));
        assert_string_equal(err.msg, cases[i].message);
        assert_int_equal(err.code, -EINVAL);
        assert_null(schema_decode(a, type(cases[i].type), tree(a, cases[i].in), NULL, NULL));
    }
}

static void gather(void *arg, struct str text) {
    struct buf *b = arg;
    buf_printf(b, "%.*s\n", STR_ARG(text));
}

static void unknown_fields(void **state) {
    cleanup_arena struct arena *a = arena_new(0, 0);
    cleanup_buf struct buf said = BUF_INIT;
    struct error err = {0};
    struct schema_decode opt = {SCHEMA_UNKNOWN_REPORT, gather, &said};
    const struct json *in = tree(a, "{'foo':1,'spec':{'template':{'spec':{'containers':[{'name':'a'},"
                                    "{'nmae':'b','resources':{'limit':{}}}]}},'Replicas':3},'metadata':{'name2':''}}");
    struct json *v = schema_decode(a, type("apps/v1.Deployment"), in, &opt, &err);
    assert_non_null(v);
    assert_string_equal(said.p, "unknown field \"foo\"\n"
                                "unknown field \"spec.template.spec.containers[1].nmae\"\n"
                                "unknown field \"spec.template.spec.containers[1].resources.limit\"\n"
                                "unknown field \"spec.Replicas\"\n"
                                "unknown field \"metadata.name2\"\n");
    assert_null(json_get_c(v, "foo"));
    buf_reset(&said);
    in = tree(a, "{'spec':{'versions':[{'schema':{'openAPIV3Schema':{'properties':{'a.b':{'tpye':''}}}}}]}}");
    assert_non_null(schema_decode(a, type("apiextensions.k8s.io/v1.CustomResourceDefinition"), in, &opt, &err));
    assert_string_equal(said.p, "unknown field \"spec.versions[0].schema.openAPIV3Schema.properties.a.b.tpye\"\n");
    buf_reset(&said);
    opt.unknown = SCHEMA_UNKNOWN_IGNORE;
    assert_non_null(schema_decode(a, type("core/v1.Pod"), tree(a, "{'x':1}"), &opt, &err));
    assert_int_equal(said.n, 0);
}

/* A small text must not make a tree that fills the memory: an error instead. */
static void limit(void **state) {
    cleanup_arena struct arena *in = arena_new(0, 0), *a = arena_new(0, KiB(64));
    cleanup_buf struct buf text = BUF_INIT;
    struct error err = {0};
    buf_puts(&text, "{\"spec\":{\"containers\":[{}");
    for (int i = 0; i < 5000; i++)
        buf_puts(&text, ",{}");
    buf_puts(&text, "]}}");
    struct json *v = json_parse(in, buf_str(&text), NULL, &err);
    assert_non_null(v);
    assert_null(schema_decode(a, type("core/v1.Pod"), v, NULL, &err));
    assert_int_equal(err.code, -E2BIG);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(canonical),
        cmocka_unit_test(wrong_types),
        cmocka_unit_test(unknown_fields),
        cmocka_unit_test(limit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
