#include "helper.h"

static bool selects(struct arena *a, const struct schema_resource *r, const char *selector, const char *object) {
    struct error err = {0};
    struct field_selector *s = field_selector_parse(a, r, str_c(selector), &err);
    if (!s)
        fail_msg("%s: %s", selector, err.msg);
    return field_selector_matches(s, r, tree(a, object));
}

static void matching(void **state) {
    static const char pod[] = "{'metadata':{'name':'web','namespace':'prod'},'spec':{'nodeName':'n1'},"
                              "'status':{'phase':'Running','podIPs':[{'ip':'10.0.0.1'}],'podIP':'10.0.0.1'}}";
    static const struct {
        const char *selector;
        bool matches;
    } cases[] = {
        {"", true},
        {"metadata.name=web", true},
        {"metadata.name==web,metadata.namespace=prod", true},
        {"metadata.name!=web", false},
        {"spec.nodeName=n1", true},
        {"spec.nodeName=", false},
        {"status.phase!=Running", false},
        {"status.phase!=Failed,spec.nodeName!=n2,", true},
        {"spec.restartPolicy=", true},
        {"spec.hostNetwork=false", true},
        {"spec.hostNetwork=true", false},
        {"status.podIP=10.0.0.1", true},
        {"metadata.name=w\\,b", false},
    };
    cleanup_arena struct arena *a = arena_new(0, 0);
    const struct schema_resource *r = resource("", "v1", "Pod");
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        if (selects(a, r, cases[i].selector, pod) != cases[i].matches)
            fail_msg("%s", cases[i].selector);
    assert_true(selects(a, r, "metadata.name=a\\=b\\,c\\\\", "{'metadata':{'name':'a=b,c\\\\'}}"));
    r = resource("", "v1", "Node");
    assert_true(selects(a, r, "spec.unschedulable=true", "{'spec':{'unschedulable':true}}"));
    assert_true(selects(a, r, "spec.unschedulable!=true", "{'spec':{}}"));
    r = resource("apps", "v1", "ReplicaSet");
    assert_true(selects(a, r, "status.replicas=3", "{'status':{'replicas':3}}"));
    assert_true(selects(a, r, "status.replicas=0", "{}"));
    r = resource("batch", "v1", "Job");
    assert_true(selects(a, r, "status.successful=1", "{'status':{'succeeded':1}}"));
    assert_true(selects(a, resource("", "v1", "Secret"), "type=Opaque", "{'type':'Opaque'}"));
}

/* An event is found by the names of either of its groups, whichever form it has. */
static void events(void **state) {
    static const char core[] = "{'involvedObject':{'kind':'Pod','name':'p'},'source':{'component':'kubelet'},"
                               "'reportingComponent':'kubelet','type':'Normal'}";
    static const char newer[] = "{'regarding':{'kind':'Pod','name':'p'},'reportingController':'kubelet',"
                                "'type':'Normal'}";
    cleanup_arena struct arena *a = arena_new(0, 0);
    const struct schema_resource *v1 = resource("", "v1", "Event"),
                                 *events_v1 = resource("events.k8s.io", "v1", "Event");
    const char *const objects[] = {core, newer};
    for (size_t i = 0; i < 2; i++) {
        assert_true(selects(a, v1, "involvedObject.kind=Pod,involvedObject.name=p,type=Normal", objects[i]));
        assert_false(selects(a, v1, "involvedObject.name=q", objects[i]));
        assert_true(selects(a, v1, "source=kubelet", objects[i]));
        assert_true(selects(a, events_v1, "regarding.kind=Pod,reportingController=kubelet", objects[i]));
    }
}

static void bad_texts(void **state) {
    static const struct {
        const char *text, *message;
    } cases[] = {
        {"spec.image=x", "field label not supported: spec.image"},
        {"spec.nodeName", "invalid selector: 'spec.nodeName'; can't understand 'spec.nodeName'"},
        {"spec.nodeName=a=b", "invalid field selector: unescaped character in value: 61"},
        {"spec.nodeName=a\\b", "invalid field selector: invalid escape sequence: \\b"},
        {"spec.nodeName=a\\", "invalid field selector: invalid escape sequence: \\"},
    };
    cleanup_arena struct arena *a = arena_new(0, 0);
    const struct schema_resource *r = resource("", "v1", "Pod");
    struct error err = {0};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        assert_null(field_selector_parse(a, r, str_c(cases[i].text), &err));
        assert_string_equal(err.msg, cases[i].message);
    }
    assert_null(field_selector_parse(a, resource("", "v1", "ConfigMap"), STR("data.x=1"), &err));
    assert_string_equal(err.msg,
                        "\"data.x\" is not a known field selector: only \"metadata.name\", \"metadata.namespace\"");
    cleanup_buf struct buf many = BUF_INIT;
    for (int i = 0; i < 1000; i++)
        buf_puts(&many, "metadata.name=a,");
    assert_null(field_selector_parse(a, r, buf_str(&many), &err));
    assert_int_equal(err.code, -E2BIG);
}

static void exact(void **state) {
    cleanup_arena struct arena *a = arena_new(0, 0);
    const struct schema_resource *r = resource("", "v1", "Pod");
    struct str value = STR("untouched");
    struct field_selector *s = field_selector_parse(a, r, STR("metadata.name!=a,spec.nodeName=n1"), NULL);
    assert_false(field_selector_exact(s, "metadata.name", &value));
    assert_true(str_eq_c(value, "untouched"));
    assert_true(field_selector_exact(s, "spec.nodeName", &value));
    assert_true(str_eq_c(value, "n1"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(matching),
        cmocka_unit_test(events),
        cmocka_unit_test(bad_texts),
        cmocka_unit_test(exact),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
