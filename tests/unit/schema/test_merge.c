#include "helper.h"

static const struct schema_resource *deployment(void) {
    return resource("apps", "v1", "Deployment");
}

struct one {
    const char *original, *patch, *result;
};

static void run(const struct schema_resource *r, const struct one *cases, size_t n) {
    cleanup_arena struct arena *a = arena_new(0, 0);
    for (size_t i = 0; i < n; i++) {
        struct error err = {0};
        struct json *original = tree(a, cases[i].original);
        struct json *v = schema_strategic_merge(a, r, original, tree(a, cases[i].patch), &err);
        if (!v)
            fail_msg("%s: %s", cases[i].patch, err.msg);
        assert_json(a, v, cases[i].result);
        assert_json(a, original, cases[i].original); /* stays as it was */
    }
}

static void maps(void **state) {
    static const struct one cases[] = {
        {"{'spec':{'replicas':1}}", "{'spec':{'replicas':3}}", "{'spec':{'replicas':3}}"},
        {"{'spec':{'replicas':1,'paused':true}}", "{'spec':{'paused':null}}", "{'spec':{'replicas':1}}"},
        {"{}", "{'spec':{'replicas':3,'paused':null}}", "{'spec':{'replicas':3}}"},
        {"{'metadata':{'labels':{'a':'1','b':'2'}}}", "{'metadata':{'labels':{'b':null,'c':'3'}}}",
         "{'metadata':{'labels':{'a':'1','c':'3'}}}"},
        {"{'metadata':{'labels':{'a':'1','b':'2'}}}", "{'metadata':{'labels':{'$patch':'replace','c':'3'}}}",
         "{'metadata':{'labels':{'c':'3'}}}"},
        {"{'metadata':{'labels':{'a':'1'}}}", "{'metadata':{'labels':{'$patch':'delete'}}}",
         "{'metadata':{'labels':{}}}"},
        {"{'metadata':{'labels':{'a':'1'}}}", "{'metadata':{'labels':{'$patch':'merge','b':'2'}}}",
         "{'metadata':{'labels':{'a':'1','b':'2'}}}"},
        {"{'metadata':{}}", "{'metadata':{'labels':{'$patch':'delete'}}}", "{'metadata':{}}"},
        {"{'spec':5}", "{'spec':{'replicas':1}}", "{'spec':{'replicas':1}}"},
        {"{'unheard':{'a':1,'l':[1]}}", "{'unheard':{'b':2,'l':[2]}}", "{'unheard':{'a':1,'l':[2],'b':2}}"},
        {"{'spec':{'strategy':{'type':'RollingUpdate','rollingUpdate':{'maxSurge':1}}}}",
         "{'spec':{'strategy':{'$retainKeys':['type'],'type':'Recreate'}}}",
         "{'spec':{'strategy':{'type':'Recreate'}}}"},
    };
    run(deployment(), cases, ARRAY_LEN(cases));
}

#define IN_POD(containers) "{'spec':{'template':{'spec':{" containers "}}}}"

static void keyed_lists(void **state) {
    static const struct one cases[] = {
        {IN_POD("'containers':[{'name':'a','image':'1'},{'name':'b','image':'2'}]"),
         IN_POD("'containers':[{'name':'b','image':'3'}]"),
         IN_POD("'containers':[{'name':'a','image':'1'},{'name':'b','image':'3'}]")},
        {IN_POD("'containers':[{'name':'a'}]"), IN_POD("'containers':[{'name':'c','image':'x','tty':null}]"),
         IN_POD("'containers':[{'name':'a'},{'name':'c','image':'x'}]")},
        {IN_POD("'containers':[{'name':'a'},{'name':'b'}]"), IN_POD("'containers':[{'$patch':'delete','name':'a'}]"),
         IN_POD("'containers':[{'name':'b'}]")},
        {IN_POD("'containers':[{'name':'a'},{'name':'b'}]"), IN_POD("'containers':[{'$patch':'replace'},{'name':'z'}]"),
         IN_POD("'containers':[{'name':'z'}]")},
        {IN_POD("'containers':[{'name':'a','env':[{'name':'X','value':'1'},{'name':'Y','value':'2'}]}]"),
         IN_POD("'containers':[{'name':'a','env':[{'name':'Y','valueFrom':{},'value':null},{'name':'Z'}]}]"),
         IN_POD("'containers':[{'name':'a','env':[{'name':'X','value':'1'},{'name':'Y','valueFrom':{}},"
                "{'name':'Z'}]}]")},
        {IN_POD("'containers':[{'name':'a','ports':[{'containerPort':80,'protocol':'TCP'}]}]"),
         IN_POD("'containers':[{'name':'a','ports':[{'containerPort':80,'name':'http'}]}]"),
         IN_POD("'containers':[{'name':'a','ports':[{'containerPort':80,'protocol':'TCP','name':'http'}]}]")},
        /* atomic lists are replaced */
        {IN_POD("'containers':[{'name':'a','args':['x','y']}]"), IN_POD("'containers':[{'name':'a','args':['z']}]"),
         IN_POD("'containers':[{'name':'a','args':['z']}]")},
        {IN_POD("'tolerations':[{'key':'a'}]"), IN_POD("'tolerations':[{'key':'b'}]"),
         IN_POD("'tolerations':[{'key':'b'}]")},
        {IN_POD("'containers':[{'name':'a'}]"), IN_POD("'containers':null"), IN_POD("")},
        {"{}", IN_POD("'containers':[{'name':'a'},{'$patch':'delete','name':'q'}]"),
         IN_POD("'containers':[{'name':'a'}]")},
        /* one volume source for another, as kubectl apply says it */
        {IN_POD("'volumes':[{'name':'v','emptyDir':{}}]"),
         IN_POD("'volumes':[{'$retainKeys':['name','hostPath'],'name':'v','hostPath':{'path':'/x'}}]"),
         IN_POD("'volumes':[{'name':'v','hostPath':{'path':'/x'}}]")},
    };
    run(deployment(), cases, ARRAY_LEN(cases));
}

static void order(void **state) {
    static const struct one cases[] = {
        {IN_POD("'containers':[{'name':'a'},{'name':'b'},{'name':'c'}]"),
         IN_POD("'$setElementOrder/containers':[{'name':'c'},{'name':'a'},{'name':'b'}],"
                "'containers':[{'name':'b','image':'x'}]"),
         IN_POD("'containers':[{'name':'c'},{'name':'a'},{'name':'b','image':'x'}]")},
        /* the order alone; what it does not name stays where the server has it */
        {IN_POD("'containers':[{'name':'s'},{'name':'a'},{'name':'b'}]"),
         IN_POD("'$setElementOrder/containers':[{'name':'b'},{'name':'a'}]"),
         IN_POD("'containers':[{'name':'s'},{'name':'b'},{'name':'a'}]")},
        {IN_POD("'containers':[{'name':'a'},{'name':'s'}]"),
         IN_POD("'$setElementOrder/containers':[{'name':'a'},{'name':'n'}],'containers':[{'name':'n'}]"),
         IN_POD("'containers':[{'name':'a'},{'name':'n'},{'name':'s'}]")},
        {IN_POD("'containers':[{'name':'a'},{'name':'b'}]"),
         IN_POD("'$setElementOrder/containers':[{'name':'b'}],'containers':[{'$patch':'delete','name':'a'}]"),
         IN_POD("'containers':[{'name':'b'}]")},
        {"{'metadata':{'finalizers':['a','b','c']}}",
         "{'metadata':{'$setElementOrder/finalizers':['d','a','c'],'$deleteFromPrimitiveList/finalizers':['b'],"
         "'finalizers':['d']}}",
         "{'metadata':{'finalizers':['d','a','c']}}"},
    };
    run(deployment(), cases, ARRAY_LEN(cases));
}

static void primitive_lists(void **state) {
    static const struct one cases[] = {
        {"{'metadata':{'finalizers':['a']}}", "{'metadata':{'finalizers':['b','a']}}",
         "{'metadata':{'finalizers':['a','b']}}"},
        {"{'metadata':{'finalizers':['a','b']}}", "{'metadata':{'$deleteFromPrimitiveList/finalizers':['a','x']}}",
         "{'metadata':{'finalizers':['b']}}"},
        {"{'metadata':{}}", "{'metadata':{'finalizers':['b']}}", "{'metadata':{'finalizers':['b']}}"},
        {"{'metadata':{'finalizers':['a']}}", "{'metadata':{'finalizers':null}}", "{'metadata':{}}"},
    };
    run(deployment(), cases, ARRAY_LEN(cases));
    static const struct one services[] = {
        {"{'spec':{'ports':[{'port':80,'name':'a'}],'clusterIPs':['x']}}",
         "{'spec':{'ports':[{'port':81},{'port':80,'name':'b'}],'clusterIPs':['y']}}",
         "{'spec':{'ports':[{'port':80,'name':'b'},{'port':81}],'clusterIPs':['y']}}"},
    };
    run(resource("", "v1", "Service"), services, ARRAY_LEN(services));
}

static void failures(void **state) {
    static const char *const cases[][2] = {
        {"[]", "a patch must be an object"},
        {"{'$patch':'explode'}", "unknown patch type: explode"},
        {"{'$patch':5}", "unknown patch type: "},
        {IN_POD("'containers':[{'image':'x'}]"), "does not contain declared merge key: name"},
        {IN_POD("'containers':[5]"), "does not contain declared merge key: name"},
        {IN_POD("'containers':[{'$patch':'merge','name':'a'}]"), "merging lists cannot yet be specified"},
        {IN_POD("'containers':[{'$patch':'explode','name':'a'}]"), "unknown patch type: explode"},
        {IN_POD("'containers':[{'$patch':'delete'}]"), "does not contain declared merge key: name"},
        {IN_POD("'$setElementOrder/containers':5"), "$setElementOrder/containers must be a list"},
        {IN_POD("'$setElementOrder/containers':[{'name':'a'}],'containers':[{'name':'b'}]"), "The order in patch list"},
        {IN_POD("'$setElementOrder/containers':[{'name':'a'},{'name':'b'}],'containers':[{'name':'b'},{'name':'a'}]"),
         "The order in patch list"},
        {IN_POD("'$setElementOrder/containers':[],'containers':{}"), "containers must be a list"},
        {"{'spec':{'strategy':{'$retainKeys':['type'],'rollingUpdate':{}}}}", "invalid patch format of retainKeys"},
        {"{'spec':{'strategy':{'$retainKeys':'type'}}}", "invalid patch format of retainKeys"},
        {IN_POD("'$setElementOrder/tolerations':[]"), "cannot merge lists without merge key for type"},
    };
    cleanup_arena struct arena *a = arena_new(0, 0);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct error err = {0};
        assert_null(schema_strategic_merge(a, deployment(), tree(a, IN_POD("'containers':[{'name':'a'}]")),
                                           tree(a, cases[i][0]), &err));
        if (!strstr(err.msg, cases[i][1]))
            fail_msg("%s: \"%s\" instead of \"%s\"", cases[i][0], err.msg, cases[i][1]);
        assert_int_equal(err.code, -EINVAL);
    }
}

/* Lists of many items are merged through an index. */
static void many_items(void **state) {
    cleanup_arena struct arena *a = arena_new(0, MiB(256));
    cleanup_buf struct buf text = BUF_INIT;
    enum { N = 20000 };
    buf_puts(&text, "{\"spec\":{\"template\":{\"spec\":{\"containers\":[{\"name\":\"x\"}");
    for (int i = 0; i < N; i++)
        buf_printf(&text, ",{\"name\":\"c%d\"}", i);
    buf_puts(&text, "]}}}}");
    struct json *v = json_parse(a, buf_str(&text), NULL, NULL);
    int64_t start = time_mono_ms();
    struct json *out = schema_strategic_merge(a, deployment(), v, v, NULL);
    assert_int_equal(json_len(json_at(out, "spec.template.spec.containers")), N + 1);
    assert_true(time_mono_ms() - start < 5000);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(maps),     cmocka_unit_test(keyed_lists),
        cmocka_unit_test(order),    cmocka_unit_test(primitive_lists),
        cmocka_unit_test(failures), cmocka_unit_test(many_items),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
