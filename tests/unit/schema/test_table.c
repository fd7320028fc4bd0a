/* Tables: the cells a person reads in kubectl get. */
#include "helper.h"

#define NOW INT64_C(1700000000) /* 2023-11-14T22:13:20Z */

/* All cells of a row, as JSON. */
static void assert_cells(const struct schema_resource *r, const char *object, const char *cells) {
    cleanup_arena struct arena *a = arena_new(0, 0);
    const struct json *row = schema_table_row(a, r, tree(a, object), NOW);
    assert_json(a, json_get_c(row, "cells"), cells);
}

static const struct schema_resource *core(const char *kind) {
    return resource("", "v1", kind);
}

static void test_columns_have_headers_and_priorities(void **state UNUSED) {
    cleanup_arena struct arena *a = arena_new(0, 0);
    const struct json *c = schema_table_columns(a, core("Pod"));
    assert_int_equal(json_len(c), 9);
    assert_json(a, json_item(c, 1), "{'name':'Ready','type':'string','format':'','description':'','priority':0}");
    assert_json(a, json_item(c, 8),
                "{'name':'Readiness Gates','type':'string','format':'','description':'','priority':1}");
}

static void test_a_kind_without_columns_has_name_and_creation(void **state UNUSED) {
    struct error err = {0};
    cleanup_arena struct arena *a = arena_new(0, 0);
    struct schema *s = schema_compile(STR("version g/v1 priority=1,1\nresource plains Plain\n    verbs all\n"
                                          "object Plain\n    spec 2 any\n"),
                                      &err);
    assert_non_null(s);
    const struct schema_resource *r = schema_find_kind(s, STR("g"), STR("v1"), STR("Plain"));
    assert_string_equal(json_str_at(json_item(schema_table_columns(a, r), 1), "name").p, "Created At");
    assert_cells(r, "{'metadata':{'name':'x','creationTimestamp':'2023-11-14T22:13:15Z'}}",
                 "['x','2023-11-14T22:13:15Z']");
    schema_free(s);
}

static void test_every_rule_is_known(void **state UNUSED) {
    const struct schema *s = schema_builtin();
    cleanup_arena struct arena *a = arena_new(0, 0);
    for (size_t i = 0; i < schema_resources_n(s); i++) {
        const struct schema_resource *r = schema_resource_at(s, i);
        const struct json *row = schema_table_row(a, r, tree(a, "{'metadata':{'name':'x'}}"), NOW);
        assert_int_equal(json_len(json_get_c(row, "cells")), r->columns_n ? r->columns_n : 2);
        for (size_t c = 0; c < json_len(json_get_c(row, "cells")); c++)
            if (json_is(json_item(json_get_c(row, "cells"), c), JSON_NULL))
                fail_msg("%s: column %.*s is null", r->key.p, STR_ARG(r->columns[c].name));
    }
}

#define META "'metadata':{'name':'x','creationTimestamp':'%s'}"

static void assert_age(const char *created, const char *age) {
    cleanup_arena struct arena *a = arena_new(0, 0);
    struct str text = str_printf(a, "{" META ",'status':{'phase':'Active'}}", created);
    struct str cells = str_printf(a, "['x','Active','%s']", age);
    assert_cells(core("Namespace"), text.p, cells.p);
}

static void test_ages_are_short(void **state UNUSED) {
    assert_age("2023-11-14T22:13:20Z", "0s");
    assert_age("2023-11-14T22:13:21Z", "0s");
    assert_age("2023-11-14T22:14:20Z", "<invalid>");
    assert_age("2023-11-14T22:11:21Z", "119s");
    assert_age("2023-11-14T22:11:20Z", "2m");
    assert_age("2023-11-14T22:10:00Z", "3m20s");
    assert_age("2023-11-14T20:13:20Z", "120m");
    assert_age("2023-11-14T18:10:20Z", "4h3m");
    assert_age("2023-11-13T20:13:20Z", "26h");
    assert_age("2023-11-11T20:13:20Z", "3d2h");
    assert_age("2023-08-14T22:13:20Z", "92d");
    assert_age("2020-11-14T22:13:20Z", "3y");
    assert_age("1970-01-01T00:00:00Z", "53y");
    assert_age("yesterday", "<unknown>");
    assert_age("", "<unknown>");
}

/* Ready, Status and Restarts of a pod. */
static void assert_pod(const char *object, const char *cells) {
    cleanup_arena struct arena *a = arena_new(0, 0);
    struct json *all = json_get_c(schema_table_row(a, core("Pod"), tree(a, object), NOW), "cells");
    struct json *some = json_array(a);
    for (size_t i = 1; i < 4; i++)
        json_append(a, some, json_item(all, i));
    assert_json(a, some, cells);
}

static void test_running_pod(void **state UNUSED) {
    assert_cells(core("Pod"),
                 "{'metadata':{'name':'web','creationTimestamp':'2023-11-14T21:13:20Z'},'spec':{'nodeName':'n1',"
                 "'readinessGates':[{'conditionType':'a/b'}],'containers':[{'name':'c'},{'name':'d'}]},'status':{"
                 "'phase':'Running','podIPs':[{'ip':'10.0.0.1'}],'conditions':[{'type':'a/b','status':'True'}],"
                 "'containerStatuses':[{'name':'c','ready':true,'restartCount':2,'state':{'running':{}},"
                 "'lastState':{'terminated':{'finishedAt':'2023-11-14T22:08:20Z'}}},"
                 "{'name':'d','ready':false,'restartCount':0,'state':{'running':{}}}]}}",
                 "['web','1/2','Running','2 (5m ago)','60m','10.0.0.1','n1','<none>','1/1']");
}

static void test_pod_without_status(void **state UNUSED) {
    assert_pod("{'metadata':{'name':'x'},'spec':{'containers':[{'name':'c'}]},'status':{'phase':'Pending'}}",
               "['0/1','Pending','0']");
    assert_pod("{}", "['0/0','','0']");
    assert_pod("{'spec':[],'status':{'phase':7,'containerStatuses':{'a':1},'conditions':'x'}}", "['0/0','','0']");
}

static void test_pod_says_why_it_waits_or_ended(void **state UNUSED) {
#define ONE(state) "{'spec':{'containers':[{}]},'status':{'phase':'Running','containerStatuses':[{'state':" state "}]}}"
    assert_pod(ONE("{'waiting':{'reason':'CrashLoopBackOff'}}"), "['0/1','CrashLoopBackOff','0']");
    assert_pod(ONE("{'waiting':{}}"), "['0/1','Running','0']");
    assert_pod(ONE("{'terminated':{'exitCode':0,'reason':'Completed'}}"), "['0/1','Completed','0']");
    assert_pod(ONE("{'terminated':{'exitCode':3}}"), "['0/1','ExitCode:3','0']");
    assert_pod(ONE("{'terminated':{'exitCode':137,'signal':9}}"), "['0/1','Signal:9','0']");
    assert_pod("{'status':{'phase':'Failed','reason':'Evicted'}}", "['0/0','Evicted','0']");
    assert_pod("{'status':{'phase':'Pending','conditions':[{'type':'PodScheduled','status':'False',"
               "'reason':'SchedulingGated'}]}}",
               "['0/0','SchedulingGated','0']");
}

static void test_pod_in_initialisation(void **state UNUSED) {
#define INIT(extra, statuses)                                                                              \
    "{'spec':{'initContainers':[{'name':'a'" extra "},{'name':'b'}],'containers':[{}]},'status':{'phase':" \
    "'Pending','initContainerStatuses':[" statuses "],'containerStatuses':[{'state':{'waiting':"           \
    "{'reason':'PodInitializing'}}}]}}"
    assert_pod(INIT("", "{'name':'a','state':{'running':{}}}"), "['0/1','Init:0/2','0']");
    assert_pod(INIT("", "{'name':'a','state':{'terminated':{'exitCode':0}}},{'name':'b','state':{'waiting':"
                        "{'reason':'PodInitializing'}}}"),
               "['0/1','Init:1/2','0']");
    assert_pod(INIT("", "{'name':'a','restartCount':4,'state':{'waiting':{'reason':'CrashLoopBackOff'}}}"),
               "['0/1','Init:CrashLoopBackOff','4']");
    assert_pod(INIT("", "{'name':'a','state':{'terminated':{'exitCode':1,'reason':'Error'}}}"),
               "['0/1','Init:Error','0']");
    assert_pod(INIT("", "{'name':'a','state':{'terminated':{'exitCode':2}}}"), "['0/1','Init:ExitCode:2','0']");
    assert_pod(INIT(",'restartPolicy':'Always'", "{'name':'a','started':true,'ready':true,'state':{'running':{}}},"
                                                 "{'name':'b','state':{'running':{}}}"),
               "['1/2','Init:1/2','0']");
    assert_pod(INIT("", "{'name':'a','restartCount':3,'state':{'terminated':{'exitCode':0}}}"),
               "['0/1','PodInitializing','0']");
}

static void test_pod_that_goes(void **state UNUSED) {
#define GOING(status) "{'metadata':{'deletionTimestamp':'2023-11-14T22:13:20Z'},'spec':{},'status':" status "}"
    assert_pod(GOING("{'phase':'Running'}"), "['0/0','Terminating','0']");
    assert_pod(GOING("{'phase':'Succeeded'}"), "['0/0','Succeeded','0']");
    assert_pod(GOING("{'phase':'Running','reason':'NodeLost'}"), "['0/0','Unknown','0']");
}

static void test_finished_pods_carry_a_condition(void **state UNUSED) {
    cleanup_arena struct arena *a = arena_new(0, 0);
    const struct json *row = schema_table_row(a, core("Pod"), tree(a, "{'status':{'phase':'Succeeded'}}"), NOW);
    assert_json(a, json_get_c(row, "conditions"),
                "[{'type':'Completed','status':'True','reason':'Succeeded','message':'The pod has completed "
                "successfully.'}]");
    row = schema_table_row(a, core("Pod"), tree(a, "{'status':{'phase':'Failed'}}"), NOW);
    assert_string_equal(json_str_at(json_item(json_get_c(row, "conditions"), 0), "reason").p, "Failed");
    row = schema_table_row(a, core("Pod"), tree(a, "{'status':{'phase':'Running'}}"), NOW);
    assert_null(json_get_c(row, "conditions"));
}

static void test_services(void **state UNUSED) {
    const struct schema_resource *r = core("Service");
    assert_cells(
        r,
        "{'metadata':{'name':'s'},'spec':{'type':'NodePort','clusterIP':'10.43.0.9','clusterIPs':['10.43.0.9'],"
        "'ports':[{'port':80,'nodePort':30080,'protocol':'TCP'},{'port':53,'protocol':'UDP'}],"
        "'selector':{'b':'2','a':'1'}}}",
        "['s','NodePort','10.43.0.9','<none>','80:30080/TCP,53/UDP','<unknown>','a=1,b=2']");
    assert_cells(r,
                 "{'metadata':{'name':'s'},'spec':{'type':'LoadBalancer','clusterIPs':['10.43.0.9'],'externalIPs':"
                 "['9.9.9.9']},'status':{'loadBalancer':{'ingress':[{'ip':'2.2.2.2'},{'hostname':'1.example'}]}}}",
                 "['s','LoadBalancer','10.43.0.9','1.example,2.2.2.2,9.9.9.9','<none>','<unknown>','<none>']");
    assert_cells(r, "{'metadata':{'name':'s'},'spec':{'type':'LoadBalancer','clusterIP':'None'}}",
                 "['s','LoadBalancer','None','<pending>','<none>','<unknown>','<none>']");
    assert_cells(r, "{'metadata':{'name':'s'},'spec':{'type':'ExternalName','externalName':'a.example'}}",
                 "['s','ExternalName','<none>','a.example','<none>','<unknown>','<none>']");
}

static void test_nodes(void **state UNUSED) {
    assert_cells(core("Node"),
                 "{'metadata':{'name':'n','labels':{'node-role.kubernetes.io/worker':'','kubernetes.io/role':'edge',"
                 "'node-role.kubernetes.io/control-plane':'true'}},'spec':{'unschedulable':true},'status':{"
                 "'conditions':[{'type':'Ready','status':'True'}],'addresses':[{'type':'InternalIP','address':"
                 "'10.0.0.5'}],'nodeInfo':{'kubeletVersion':'v1.35.0','osImage':'Debian','kernelVersion':'6.1'}}}",
                 "['n','Ready,SchedulingDisabled','control-plane,edge,worker','<unknown>','v1.35.0','10.0.0.5',"
                 "'<none>','Debian','6.1','<unknown>']");
    assert_cells(core("Node"),
                 "{'metadata':{'name':'n'},'status':{'conditions':[{'type':'Ready','status':'Unknown'}]}}",
                 "['n','NotReady','<none>','<unknown>','','<none>','<none>','<unknown>','<unknown>','<unknown>']");
}

static void test_workloads(void **state UNUSED) {
#define SPEC                                                                                                 \
    "'spec':{'replicas':3,'selector':{'matchLabels':{'app':'x'}},'template':{'spec':{'containers':[{'name':" \
    "'c','image':'i:1'},{'name':'d','image':'j'}]}}}"
    assert_cells(resource("apps", "v1", "Deployment"),
                 "{'metadata':{'name':'d'}," SPEC ",'status':{'readyReplicas':2}}",
                 "['d','2/3',0,0,'<unknown>','c,d','i:1,j','app=x']");
    assert_cells(resource("apps", "v1", "ReplicaSet"), "{'metadata':{'name':'d'}," SPEC "}",
                 "['d',3,0,0,'<unknown>','c,d','i:1,j','app=x']");
    assert_cells(resource("apps", "v1", "StatefulSet"), "{'metadata':{'name':'d'}," SPEC "}",
                 "['d','0/3','<unknown>','c,d','i:1,j']");
    assert_cells(core("ReplicationController"), "{'metadata':{'name':'d'},'spec':{'replicas':1,'selector':{'a':'b'}}}",
                 "['d',1,0,0,'<unknown>','','','a=b']");
    assert_cells(resource("batch", "v1", "Job"),
                 "{'metadata':{'name':'j'},'spec':{'completions':2},'status':{'succeeded':1,"
                 "'startTime':'2023-11-14T22:12:50Z'}}",
                 "['j','Running','1/2','30s','<unknown>','','','<none>']");
    assert_cells(resource("batch", "v1", "Job"),
                 "{'metadata':{'name':'j'},'spec':{'parallelism':4},'status':{'conditions':[{'type':'Complete',"
                 "'status':'True'}],'startTime':'2023-11-14T22:12:50Z','completionTime':'2023-11-14T22:12:55Z'}}",
                 "['j','Complete','0/1 of 4','5s','<unknown>','','','<none>']");
    assert_cells(resource("batch", "v1", "CronJob"),
                 "{'metadata':{'name':'c'},'spec':{'schedule':'* * * * *','suspend':false},'status':{'active':[{}]}}",
                 "['c','* * * * *','<none>','False',1,'<none>','<unknown>','','','<none>']");
}

static void test_autoscalers(void **state UNUSED) {
    assert_cells(resource("autoscaling", "v2", "HorizontalPodAutoscaler"),
                 "{'metadata':{'name':'h'},'spec':{'scaleTargetRef':{'kind':'Deployment','name':'d'},'maxReplicas':5,"
                 "'metrics':[{'type':'Resource','resource':{'name':'cpu','target':{'averageUtilization':80}}},"
                 "{'type':'Pods','pods':{'target':{'averageValue':'10'}}},{'type':'Object'}]},'status':{"
                 "'currentMetrics':[{'type':'Resource','resource':{'current':{'averageUtilization':12}}}]}}",
                 "['h','Deployment/d','cpu: 12%/80%, <unknown>/10 + 1 more...','<unset>',5,0,'<unknown>']");
    assert_cells(resource("autoscaling", "v1", "HorizontalPodAutoscaler"),
                 "{'metadata':{'name':'h'},'spec':{'scaleTargetRef':{'kind':'Deployment','name':'d'},'minReplicas':1,"
                 "'maxReplicas':5,'targetCPUUtilizationPercentage':50}}",
                 "['h','Deployment/d','cpu: <unknown>/50%','1',5,0,'<unknown>']");
}

static void test_networking(void **state UNUSED) {
    assert_cells(resource("networking.k8s.io", "v1", "Ingress"),
                 "{'metadata':{'name':'i'},'spec':{'rules':[{'host':'a'},{'host':'b'},{'host':'c'},{'host':'d'}],"
                 "'tls':[{}]},'status':{'loadBalancer':{'ingress':[{'ip':'1.2.3.4'}]}}}",
                 "['i','<none>','a,b,c + 1 more...','1.2.3.4','80, 443','<unknown>']");
    assert_cells(core("Endpoints"),
                 "{'metadata':{'name':'e'},'subsets':[{'addresses':[{'ip':'10.0.0.1'},{'ip':'fd00::1'}],'ports':"
                 "[{'port':80},{'port':81}]}]}",
                 "['e','10.0.0.1:80,[fd00::1]:80,10.0.0.1:81 + 1 more...','<unknown>']");
    assert_cells(core("Endpoints"), "{'metadata':{'name':'e'}}", "['e','<none>','<unknown>']");
    assert_cells(resource("discovery.k8s.io", "v1", "EndpointSlice"),
                 "{'metadata':{'name':'e'},'addressType':'IPv4','ports':[{'port':80},{}],'endpoints':[{'addresses':"
                 "['10.0.0.1']}]}",
                 "['e','IPv4','80,*','10.0.0.1','<unknown>']");
}

static void test_other_kinds(void **state UNUSED) {
    assert_cells(core("ConfigMap"), "{'metadata':{'name':'c'},'data':{'a':'','b':''},'binaryData':{'c':''}}",
                 "['c',3,'<unknown>']");
    assert_cells(core("Secret"), "{'metadata':{'name':'s'},'type':'Opaque','data':{'a':''}}",
                 "['s','Opaque',1,'<unknown>']");
    assert_cells(core("Event"),
                 "{'metadata':{'name':'e'},'type':'Normal','reason':'Pulled','message':' done\\n','involvedObject':"
                 "{'kind':'Pod','name':'p','fieldPath':'spec'},'source':{'component':'kubelet','host':'n'},"
                 "'lastTimestamp':'2023-11-14T22:13:15Z','firstTimestamp':'2023-11-14T22:13:10Z','count':4}",
                 "['5s','Normal','Pulled','pod/p','spec','kubelet, n','done','10s',4,'e']");
    assert_cells(resource("events.k8s.io", "v1", "Event"),
                 "{'metadata':{'name':'e'},'type':'Normal','reason':'R','note':'n','regarding':{'kind':'Pod','name':"
                 "'p'},'reportingController':'c','reportingInstance':'i','eventTime':'2023-11-14T22:13:15.000000Z'}",
                 "['5s','Normal','R','pod/p','','c, i','n','5s',1,'e']");
    assert_cells(resource("rbac.authorization.k8s.io", "v1", "RoleBinding"),
                 "{'metadata':{'name':'r'},'roleRef':{'kind':'Role','name':'x'},'subjects':[{'kind':'User','name':'u'},"
                 "{'kind':'ServiceAccount','namespace':'n','name':'s'},{'kind':'Group','name':'g'},"
                 "{'kind':'User','name':'v'}]}",
                 "['r','Role/x','<unknown>','u, v','g','n/s']");
    assert_cells(core("PersistentVolumeClaim"),
                 "{'metadata':{'name':'c'},'spec':{'volumeName':'v','storageClassName':'local'},'status':{'phase':"
                 "'Bound','capacity':{'storage':'1Gi'},'accessModes':['ReadWriteMany','ReadWriteOnce']}}",
                 "['c','Bound','v','1Gi','RWO,RWX','local','<unset>','<unknown>','<unset>']");
    assert_cells(resource("policy", "v1", "PodDisruptionBudget"), "{'metadata':{'name':'p'},'spec':{'minAvailable':1}}",
                 "['p','1','N/A',0,'<unknown>']");
}

static void test_columns_of_custom_resources(void **state UNUSED) {
    struct error err = {0};
    struct schema *s = schema_compile(
        STR("version g/v1 priority=1,1\nresource things Thing\n    verbs all\n"
            "    column Name | string | name | 0 | .metadata.name\n    column Size | integer |  | 0 | .spec.size\n"
            "    column Due | date |  | 0 | .spec.due\n    column First | string |  | 0 | .spec.list[0].a\n"
            "    column All | string |  | 1 | .spec.list[*].a\nobject Thing\n    spec 2 any\n"),
        &err);
    assert_non_null(s);
    const struct schema_resource *r = schema_find_kind(s, STR("g"), STR("v1"), STR("Thing"));
    assert_cells(r,
                 "{'metadata':{'name':'x'},'spec':{'size':3,'due':'2023-11-14T22:13:15Z','list':[{'a':'p'},"
                 "{'a':'q'}]}}",
                 "['x',3,'5s','p','[\\'p\\',\\'q\\']']");
    assert_cells(r, "{'metadata':{'name':'x'},'spec':{'size':'big','due':'soon'}}", "['x',null,'<unknown>',null,null]");
    schema_free(s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_columns_have_headers_and_priorities),
        cmocka_unit_test(test_a_kind_without_columns_has_name_and_creation),
        cmocka_unit_test(test_every_rule_is_known),
        cmocka_unit_test(test_ages_are_short),
        cmocka_unit_test(test_running_pod),
        cmocka_unit_test(test_pod_without_status),
        cmocka_unit_test(test_pod_says_why_it_waits_or_ended),
        cmocka_unit_test(test_pod_in_initialisation),
        cmocka_unit_test(test_pod_that_goes),
        cmocka_unit_test(test_finished_pods_carry_a_condition),
        cmocka_unit_test(test_services),
        cmocka_unit_test(test_nodes),
        cmocka_unit_test(test_workloads),
        cmocka_unit_test(test_autoscalers),
        cmocka_unit_test(test_networking),
        cmocka_unit_test(test_other_kinds),
        cmocka_unit_test(test_columns_of_custom_resources),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
