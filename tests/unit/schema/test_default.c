#include "helper.h"

static struct json *defaulted(struct arena *a, const struct schema_resource *r, const char *text) {
    struct json *v = decoded(a, r, text);
    schema_default(a, r, v);
    /* Defaults are stable, and stand in the order of output. */
    struct error err = {0};
    struct json *again = schema_decode(a, r->type, v, NULL, &err);
    assert_non_null(again);
    schema_default(a, r, again);
    assert_string_equal(json_text(a, v).p, json_text(a, again).p);
    return v;
}

static void check(const char *group, const char *version, const char *kind, const char *in, const char *out) {
    cleanup_arena struct arena *a = arena_new(0, 0);
    assert_json(a, defaulted(a, resource(group, version, kind), in), out);
}

static void pod(void **state) {
    check("", "v1", "Pod",
          "{'spec':{'serviceAccountName':'sa','hostNetwork':true,'volumes':[{'name':'v'},{'name':'c','secret':{}}],"
          "'containers':[{'name':'c','image':'r:5000/a:1','ports':[{'containerPort':80}],"
          "'livenessProbe':{'httpGet':{'port':80}},'resources':{'limits':{'cpu':1},'requests':{'memory':'1Gi'}}}]}}",
          "{'metadata':{},'spec':{'volumes':[{'name':'v','emptyDir':{}},{'name':'c','secret':{'defaultMode':420}}],"
          "'containers':[{'name':'c','image':'r:5000/a:1','ports':[{'hostPort':80,'containerPort':80,"
          "'protocol':'TCP'}],'resources':{'limits':{'cpu':'1'},'requests':{'cpu':'1','memory':'1Gi'}},"
          "'livenessProbe':{'httpGet':{'path':'/','port':80,'scheme':'HTTP'},'timeoutSeconds':1,'periodSeconds':10,"
          "'successThreshold':1,'failureThreshold':3},'terminationMessagePath':'/dev/termination-log',"
          "'terminationMessagePolicy':'File','imagePullPolicy':'IfNotPresent'}],'restartPolicy':'Always',"
          "'terminationGracePeriodSeconds':30,'dnsPolicy':'ClusterFirst','serviceAccountName':'sa',"
          "'serviceAccount':'sa','hostNetwork':true,'securityContext':{},'schedulerName':'default-scheduler',"
          "'enableServiceLinks':true},'status':{'phase':'Pending'}}");
}

static void pull_policy(void **state) {
    static const char *const cases[][2] = {
        {"nginx", "Always"},
        {"nginx:latest", "Always"},
        {"nginx:1.2", "IfNotPresent"},
        {"host:5000/nginx", "Always"},
        {"host:5000/nginx:1", "IfNotPresent"},
        {"nginx@sha256:abc", "IfNotPresent"},
        {"nginx:latest@sha256:abc", "Always"},
        {"", "IfNotPresent"},
    };
    cleanup_arena struct arena *a = arena_new(0, 0);
    const struct schema_resource *r = resource("", "v1", "Pod");
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        const char *text = arena_printf(a, "{'spec':{'initContainers':[{'image':'%s'}]}}", cases[i][0]);
        const struct json *c = json_item(json_at(defaulted(a, r, text), "spec.initContainers"), 0);
        assert_true(str_eq_c(json_str_at(c, "imagePullPolicy"), cases[i][1]));
    }
}

#define TEMPLATE "'template':{'metadata':{'labels':{'app':'x'}},'spec':{'containers':[{'name':'c','image':'i:1'}]}}"
#define TEMPLATE_OUT                                                                                                \
    "'template':{'metadata':{'labels':{'app':'x'}},'spec':{'containers':[{'name':'c','image':'i:1','resources':{}," \
    "'terminationMessagePath':'/dev/termination-log','terminationMessagePolicy':'File',"                            \
    "'imagePullPolicy':'IfNotPresent'}],'restartPolicy':'Always','terminationGracePeriodSeconds':30,"               \
    "'dnsPolicy':'ClusterFirst','securityContext':{},'schedulerName':'default-scheduler'}}"

static void workloads(void **state) {
    const char *in = "{'spec':{" TEMPLATE "}}";
    check("apps", "v1", "Deployment", in,
          "{'metadata':{},'spec':{'replicas':1,'selector':null," TEMPLATE_OUT
          ",'strategy':{'type':'RollingUpdate','rollingUpdate':{'maxUnavailable':'25%','maxSurge':'25%'}},"
          "'revisionHistoryLimit':10,'progressDeadlineSeconds':600},'status':{}}");
    check("apps", "v1", "Deployment", "{'spec':{'replicas':0,'strategy':{'type':'Recreate'}," TEMPLATE "}}",
          "{'metadata':{},'spec':{'replicas':0,'selector':null," TEMPLATE_OUT
          ",'strategy':{'type':'Recreate'},'revisionHistoryLimit':10,'progressDeadlineSeconds':600},'status':{}}");
    check("extensions", "v1beta1", "Deployment", in,
          "{'metadata':{'labels':{'app':'x'}},'spec':{'replicas':1,'selector':{'matchLabels':{'app':'x'}}," TEMPLATE_OUT
          ",'strategy':{'type':'RollingUpdate','rollingUpdate':{'maxUnavailable':1,'maxSurge':1}},"
          "'revisionHistoryLimit':2147483647,'progressDeadlineSeconds':2147483647},'status':{}}");
    check("apps", "v1beta1", "Deployment", in,
          "{'metadata':{'labels':{'app':'x'}},'spec':{'replicas':1,'selector':{'matchLabels':{'app':'x'}}," TEMPLATE_OUT
          ",'strategy':{'type':'RollingUpdate','rollingUpdate':{'maxUnavailable':'25%','maxSurge':'25%'}},"
          "'revisionHistoryLimit':2,'progressDeadlineSeconds':600},'status':{}}");
    check("extensions", "v1beta1", "DaemonSet", in,
          "{'metadata':{'labels':{'app':'x'}},'spec':{'selector':{'matchLabels':{'app':'x'}}," TEMPLATE_OUT
          ",'updateStrategy':{'type':'OnDelete'},'revisionHistoryLimit':10},'status':{'currentNumberScheduled':0,"
          "'numberMisscheduled':0,'desiredNumberScheduled':0,'numberReady':0}}");
    check("", "v1", "ReplicationController", in,
          "{'metadata':{'labels':{'app':'x'}},'spec':{'replicas':1,'selector':{'app':'x'}," TEMPLATE_OUT
          "},'status':{'replicas':0}}");
    check("apps", "v1", "StatefulSet",
          "{'spec':{" TEMPLATE ",'volumeClaimTemplates':[{'metadata':{'name':'d'}}],'updateStrategy':{'type':"
          "'RollingUpdate'}}}",
          "{'metadata':{},'spec':{'replicas':1,'selector':null," TEMPLATE_OUT
          ",'volumeClaimTemplates':[{'kind':'PersistentVolumeClaim','apiVersion':'v1','metadata':{'name':'d'},"
          "'spec':{'resources':{},'volumeMode':'Filesystem'},'status':{'phase':'Pending'}}],'serviceName':'',"
          "'podManagementPolicy':'OrderedReady','updateStrategy':{'type':'RollingUpdate'},'revisionHistoryLimit':10,"
          "'persistentVolumeClaimRetentionPolicy':{'whenDeleted':'Retain','whenScaled':'Retain'}},"
          "'status':{'replicas':0,'availableReplicas':0}}");
}

static void jobs(void **state) {
    check("batch", "v1", "Job", "{'spec':{" TEMPLATE "}}",
          "{'metadata':{'labels':{'app':'x'}},'spec':{'parallelism':1,'completions':1,'backoffLimit':6,"
          "'manualSelector':false," TEMPLATE_OUT ",'completionMode':'NonIndexed','suspend':false,"
          "'podReplacementPolicy':'TerminatingOrFailed'},'status':{}}");
    cleanup_arena struct arena *a = arena_new(0, 0);
    struct json *v = defaulted(a, resource("batch", "v1", "Job"),
                               "{'spec':{'parallelism':3,'backoffLimitPerIndex':1,'podFailurePolicy':{'rules':"
                               "[{'action':'Ignore','onPodConditions':[{'type':'X'}]}]}," TEMPLATE "}}");
    assert_null(json_at(v, "spec.completions"));
    assert_int_equal(json_int_at(v, "spec.backoffLimit", 0), 2147483647);
    assert_true(str_eq_c(json_str_at(v, "spec.podReplacementPolicy"), "Failed"));
    /* A Job's own defaults do not hold in a CronJob. */
    check("batch", "v1", "CronJob", "{'spec':{'jobTemplate':{'spec':{" TEMPLATE "}}}}",
          "{'metadata':{},'spec':{'schedule':'','concurrencyPolicy':'Allow','suspend':false,'jobTemplate':{"
          "'metadata':{},'spec':{" TEMPLATE_OUT
          "}},'successfulJobsHistoryLimit':3,'failedJobsHistoryLimit':1},'status':{}}");
}

static void services(void **state) {
    check("", "v1", "Service", "{'spec':{'type':'LoadBalancer','ports':[{'port':80},{'port':81,'targetPort':'x'}]}}",
          "{'metadata':{},'spec':{'ports':[{'protocol':'TCP','port':80,'targetPort':80},{'protocol':'TCP','port':81,"
          "'targetPort':'x'}],'type':'LoadBalancer','sessionAffinity':'None','externalTrafficPolicy':'Cluster',"
          "'allocateLoadBalancerNodePorts':true,'internalTrafficPolicy':'Cluster'},'status':{'loadBalancer':{}}}");
    check("", "v1", "Service", "{'spec':{'sessionAffinity':'ClientIP'}}",
          "{'metadata':{},'spec':{'type':'ClusterIP','sessionAffinity':'ClientIP','sessionAffinityConfig':"
          "{'clientIP':{'timeoutSeconds':10800}},'internalTrafficPolicy':'Cluster'},'status':{'loadBalancer':{}}}");
    check("", "v1", "Service", "{'spec':{'type':'ExternalName','sessionAffinityConfig':{'clientIP':{}}}}",
          "{'metadata':{},'spec':{'type':'ExternalName','sessionAffinity':'None'},'status':{'loadBalancer':{}}}");
    check("", "v1", "Endpoints", "{'subsets':[{'ports':[{'port':1}]}]}",
          "{'metadata':{},'subsets':[{'ports':[{'port':1,'protocol':'TCP'}]}]}");
    check("discovery.k8s.io", "v1", "EndpointSlice", "{'ports':[{'port':1}]}",
          "{'metadata':{},'addressType':'','endpoints':null,'ports':[{'name':'','protocol':'TCP','port':1}]}");
}

static void others(void **state) {
    check("", "v1", "Secret", "{'stringData':{'a':'hi','c':''},'data':{'b':'aGk='}}",
          "{'metadata':{},'data':{'a':'aGk=','b':'aGk=','c':''},'type':'Opaque'}");
    check("", "v1", "Namespace", "{'metadata':{'name':'x','labels':{'z':'1'}}}",
          "{'metadata':{'name':'x','labels':{'kubernetes.io/metadata.name':'x','z':'1'}},'spec':{},"
          "'status':{'phase':'Active'}}");
    check("", "v1", "PersistentVolume", "{'spec':{'hostPath':{'path':'/x'}}}",
          "{'metadata':{},'spec':{'hostPath':{'path':'/x','type':''},'persistentVolumeReclaimPolicy':'Retain',"
          "'volumeMode':'Filesystem'},'status':{'phase':'Pending'}}");
    check("", "v1", "LimitRange", "{'spec':{'limits':[{'type':'Container','max':{'cpu':2},'min':{'memory':1}}]}}",
          "{'metadata':{},'spec':{'limits':[{'type':'Container','max':{'cpu':'2'},'min':{'memory':'1'},"
          "'default':{'cpu':'2'},'defaultRequest':{'cpu':'2','memory':'1'}}]}}");
    check("storage.k8s.io", "v1", "StorageClass", "{'provisioner':'x'}",
          "{'metadata':{},'provisioner':'x','reclaimPolicy':'Delete','volumeBindingMode':'Immediate'}");
    check("rbac.authorization.k8s.io", "v1", "RoleBinding",
          "{'roleRef':{'kind':'Role','name':'r'},'subjects':[{'kind':'Group','name':'g'},{'kind':'ServiceAccount',"
          "'name':'s'}]}",
          "{'metadata':{},'subjects':[{'kind':'Group','apiGroup':'rbac.authorization.k8s.io','name':'g'},"
          "{'kind':'ServiceAccount','name':'s'}],'roleRef':{'apiGroup':'rbac.authorization.k8s.io','kind':'Role',"
          "'name':'r'}}");
    check("networking.k8s.io", "v1", "NetworkPolicy", "{'spec':{'egress':[{'ports':[{'port':53}]}]}}",
          "{'metadata':{},'spec':{'podSelector':{},'egress':[{'ports':[{'protocol':'TCP','port':53}]}],"
          "'policyTypes':['Ingress','Egress']}}");
    check("autoscaling", "v2", "HorizontalPodAutoscaler",
          "{'spec':{'maxReplicas':3,'behavior':{'scaleDown':{'selectPolicy':'Disabled'}}}}",
          "{'metadata':{},'spec':{'scaleTargetRef':{'kind':'','name':''},'minReplicas':1,'maxReplicas':3,'metrics':"
          "[{'type':'Resource','resource':{'name':'cpu','target':{'type':'Utilization','averageUtilization':80}}}],"
          "'behavior':{'scaleUp':{'stabilizationWindowSeconds':0,'selectPolicy':'Max','policies':[{'type':'Pods',"
          "'value':4,'periodSeconds':15},{'type':'Percent','value':100,'periodSeconds':15}]},'scaleDown':"
          "{'selectPolicy':'Disabled','policies':[{'type':'Percent','value':100,'periodSeconds':15}]}}},"
          "'status':{'desiredReplicas':0,'currentMetrics':null}}");
    check("apiextensions.k8s.io", "v1", "CustomResourceDefinition",
          "{'spec':{'group':'g','names':{'plural':'foos','kind':'Foo'},'scope':'Cluster','versions':[]}}",
          "{'metadata':{},'spec':{'group':'g','names':{'plural':'foos','singular':'foo','kind':'Foo','listKind':"
          "'FooList'},'scope':'Cluster','versions':[],'conversion':{'strategy':'None'}},'status':{'conditions':null,"
          "'acceptedNames':{'plural':'','kind':''},'storedVersions':null}}");
    check("networking.k8s.io", "v1beta1", "Ingress", "{'spec':{'rules':[{'http':{'paths':[{'path':'/'}]}}]}}",
          "{'metadata':{},'spec':{'rules':[{'http':{'paths':[{'path':'/','pathType':'ImplementationSpecific',"
          "'backend':{'servicePort':0}}]}}]},'status':{'loadBalancer':{}}}");
}

/* Nothing falls over on objects that are empty or whose members an earlier step left out of order. */
static void odd_objects(void **state) {
    const struct schema *s = schema_builtin();
    for (size_t i = 0; i < schema_resources_n(s); i++) {
        cleanup_arena struct arena *a = arena_new(0, 0);
        const struct schema_resource *r = schema_resource_at(s, i);
        (void)defaulted(a, r, "{}");
        schema_default(a, r, tree(a, "{'spec':null,'metadata':[]}"));
        schema_default(a, r, tree(a, "[]"));
    }
    cleanup_arena struct arena *a = arena_new(0, 0);
    struct json *v = tree(a, "{'spec':{'type':'NodePort','ports':[{'port':1}]},'kind':'Service'}");
    schema_default(a, resource("", "v1", "Service"), v);
    assert_json(a, v,
                "{'spec':{'type':'NodePort','sessionAffinity':'None','externalTrafficPolicy':'Cluster',"
                "'internalTrafficPolicy':'Cluster','ports':[{'protocol':'TCP','port':1,'targetPort':1}]},"
                "'kind':'Service'}");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pod),         cmocka_unit_test(pull_policy), cmocka_unit_test(workloads),
        cmocka_unit_test(jobs),        cmocka_unit_test(services),    cmocka_unit_test(others),
        cmocka_unit_test(odd_objects),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
