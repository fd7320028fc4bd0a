#include "helper.h"

static struct json *converted(struct arena *a, const struct schema_resource *from, const struct schema_resource *to,
                              const char *text) {
    struct error err = {0};
    struct json *v = schema_convert(a, from, to, decoded(a, from, text), &err);
    if (!v)
        fail_msg("%s: %s", text, err.msg);
    return v;
}

/* in of `from` becomes out of `to`, and back it is the same again. */
static void both_ways(const struct schema_resource *from, const struct schema_resource *to, const char *in,
                      const char *out) {
    cleanup_arena struct arena *a = arena_new(0, 0);
    struct error err = {0};
    struct json *v = converted(a, from, to, in);
    assert_json(a, v, out);
    struct json *back = schema_convert(a, to, from, v, &err);
    assert_non_null(back);
    struct json *first = decoded(a, from, in);
    if (!json_equal(first, back))
        fail_msg("%s\n%s", json_text(a, first).p, json_text(a, back).p);
}

static void ingress(void **state) {
    static const char *const groups[] = {"extensions", "networking.k8s.io"};
    for (size_t i = 0; i < 2; i++) {
        cleanup_arena struct arena *a = arena_new(0, 0);
        const char *in = arena_printf(
            a,
            "{'kind':'Ingress','apiVersion':'%s/v1beta1','metadata':{'name':'i'},'spec':{'ingressClassName':'c',"
            "'backend':{'serviceName':'d','servicePort':'http'},'tls':[{'hosts':['h']}],'rules':[{'host':'h','http':"
            "{'paths':[{'path':'/','pathType':'Prefix','backend':{'serviceName':'s','servicePort':80}},"
            "{'backend':{'servicePort':0,'resource':{'kind':'K','name':'n'}}}]}}]}}",
            groups[i]);
        both_ways(resource(groups[i], "v1beta1", "Ingress"), resource("networking.k8s.io", "v1", "Ingress"), in,
                  "{'kind':'Ingress','apiVersion':'networking.k8s.io/v1','metadata':{'name':'i'},'spec':"
                  "{'ingressClassName':'c','defaultBackend':{'service':{'name':'d','port':{'name':'http'}}},"
                  "'tls':[{'hosts':['h']}],'rules':[{'host':'h','http':{'paths':[{'path':'/','pathType':'Prefix',"
                  "'backend':{'service':{'name':'s','port':{'number':80}}}},{'pathType':null,'backend':{'resource':"
                  "{'apiGroup':null,'kind':'K','name':'n'}}}]}}]},'status':{'loadBalancer':{}}}");
    }
}

static void workloads(void **state) {
    cleanup_arena struct arena *a = arena_new(0, 0);
    const struct schema_resource *legacy = resource("extensions", "v1beta1", "Deployment");
    const struct schema_resource *v1 = resource("apps", "v1", "Deployment"),
                                 *beta2 = resource("apps", "v1beta2", "Deployment");
    const char *in = "{'metadata':{'name':'d'},'spec':{'replicas':2,'rollbackTo':{'revision':3},'template':{'spec':"
                     "{'containers':[{'name':'c'}]}}},'status':{'replicas':2}}";
    assert_json(a, converted(a, legacy, v1, in),
                "{'kind':'Deployment','apiVersion':'apps/v1','metadata':{'name':'d'},'spec':{'replicas':2,"
                "'selector':null,'template':{'metadata':{},'spec':{'containers':[{'name':'c','resources':{}}]}},"
                "'strategy':{}},'status':{'replicas':2}}");
    struct json *v = converted(a, legacy, beta2, in); /* neither is the stored one */
    assert_true(str_eq_c(json_str_at(v, "apiVersion"), "apps/v1beta2"));
    v = converted(a, resource("batch", "v1beta1", "CronJob"), resource("batch", "v1", "CronJob"),
                  "{'spec':{'schedule':'* * * * *','suspend':true}}");
    assert_true(str_eq_c(json_str_at(v, "apiVersion"), "batch/v1"));
    assert_true(json_bool_at(v, "spec.suspend", false));
    v = converted(a, resource("rbac.authorization.k8s.io", "v1beta1", "Role"),
                  resource("rbac.authorization.k8s.io", "v1", "Role"), "{'rules':[{'verbs':['get']}]}");
    assert_json(a, v,
                "{'kind':'Role','apiVersion':'rbac.authorization.k8s.io/v1','metadata':{},"
                "'rules':[{'verbs':['get']}]}");
}

static void same_version_copies(void **state) {
    cleanup_arena struct arena *a = arena_new(0, 0);
    const struct schema_resource *r = resource("", "v1", "Event");
    struct json *in = decoded(a, r, "{'message':'m'}");
    struct json *out = schema_convert(a, r, r, in, NULL);
    json_set_cstr(a, out, "message", "other");
    assert_true(str_eq_c(json_str_at(in, "message"), "m"));
    assert_true(str_eq_c(json_str_at(out, "apiVersion"), "v1"));
}

static void events(void **state) {
    both_ways(resource("events.k8s.io", "v1", "Event"), resource("", "v1", "Event"),
              "{'kind':'Event','apiVersion':'events.k8s.io/v1','metadata':{'name':'e'},'eventTime':"
              "'2026-01-02T03:04:05.000006Z','series':{'count':2,'lastObservedTime':'2026-01-02T03:04:06.000000Z'},"
              "'reportingController':'c','reportingInstance':'i','action':'A','reason':'R','regarding':{'kind':'Pod'},"
              "'related':{'kind':'Node'},'note':'n','type':'Normal','deprecatedSource':{'component':'k'},"
              "'deprecatedFirstTimestamp':'2026-01-02T03:04:05Z','deprecatedCount':4}",
              "{'kind':'Event','apiVersion':'v1','metadata':{'name':'e'},'involvedObject':{'kind':'Pod'},'reason':'R',"
              "'message':'n','source':{'component':'k'},'firstTimestamp':'2026-01-02T03:04:05Z','lastTimestamp':null,"
              "'count':4,'type':'Normal','eventTime':'2026-01-02T03:04:05.000006Z','series':{'count':2,"
              "'lastObservedTime':'2026-01-02T03:04:06.000000Z'},'action':'A','related':{'kind':'Node'},"
              "'reportingComponent':'c','reportingInstance':'i'}");
}

static void autoscalers(void **state) {
    const struct schema_resource *v2 = resource("autoscaling", "v2", "HorizontalPodAutoscaler");
    both_ways(resource("autoscaling", "v2beta1", "HorizontalPodAutoscaler"), v2,
              "{'kind':'HorizontalPodAutoscaler','apiVersion':'autoscaling/v2beta1','spec':{'maxReplicas':3,'metrics':["
              "{'type':'Resource','resource':{'name':'cpu','targetAverageUtilization':50}},"
              "{'type':'Pods','pods':{'metricName':'m','targetAverageValue':'5'}},"
              "{'type':'Object','object':{'target':{'kind':'S','name':'s'},'metricName':'o','targetValue':'7'}},"
              "{'type':'External','external':{'metricName':'x','metricSelector':{'matchLabels':{'a':'b'}},"
              "'targetValue':'9'}}]},'status':{'currentMetrics':[{'type':'Resource','resource':{'name':'cpu',"
              "'currentAverageUtilization':40,'currentAverageValue':'20m'}}]}}",
              "{'kind':'HorizontalPodAutoscaler','apiVersion':'autoscaling/v2','metadata':{},'spec':{'scaleTargetRef':"
              "{'kind':'','name':''},'maxReplicas':3,'metrics':[{'type':'Resource','resource':{'name':'cpu','target':"
              "{'type':'Utilization','averageUtilization':50}}},{'type':'Pods','pods':{'metric':{'name':'m'},'target':"
              "{'type':'AverageValue','averageValue':'5'}}},{'type':'Object','object':{'describedObject':{'kind':'S',"
              "'name':'s'},'target':{'type':'Value','value':'7'},'metric':{'name':'o'}}},{'type':'External','external':"
              "{'metric':{'name':'x','selector':{'matchLabels':{'a':'b'}}},'target':{'type':'Value','value':'9'}}}]},"
              "'status':{'desiredReplicas':0,'currentMetrics':[{'type':'Resource','resource':{'name':'cpu','current':"
              "{'averageValue':'20m','averageUtilization':40}}}]}}");
    both_ways(resource("autoscaling", "v1", "HorizontalPodAutoscaler"), v2,
              "{'kind':'HorizontalPodAutoscaler','apiVersion':'autoscaling/v1','metadata':{'annotations':{'k':'v',"
              "'autoscaling.alpha.kubernetes.io/behavior':'{}'}},"
              "'spec':{'maxReplicas':3,'targetCPUUtilizationPercentage':60}}",
              "{'kind':'HorizontalPodAutoscaler','apiVersion':'autoscaling/v2','metadata':{'annotations':{'k':'v'}},"
              "'spec':{'scaleTargetRef':{'kind':'','name':''},'maxReplicas':3,'metrics':[{'type':'Resource','resource':"
              "{'name':'cpu','target':{'type':'Utilization','averageUtilization':60}}}],'behavior':{}},"
              "'status':{'desiredReplicas':0,'currentMetrics':null}}");
    /* What v1 cannot say goes through an annotation. */
    cleanup_arena struct arena *a = arena_new(0, 0);
    struct error err = {0};
    const struct schema_resource *v1 = resource("autoscaling", "v1", "HorizontalPodAutoscaler");
    struct json *in =
        decoded(a, v2,
                "{'kind':'HorizontalPodAutoscaler','apiVersion':'autoscaling/v2','spec':{'maxReplicas':3,"
                "'metrics':[{'type':'Resource','resource':{'name':'memory','target':{'type':'AverageValue',"
                "'averageValue':'1Gi'}}},{'type':'Resource','resource':{'name':'cpu','target':{'type':"
                "'Utilization','averageUtilization':60}}}]}}");
    struct json *old = schema_convert(a, v2, v1, in, &err);
    assert_int_equal(json_int_at(old, "spec.targetCPUUtilizationPercentage", 0), 60);
    struct str text =
        json_as_str(json_get_c(json_at(old, "metadata.annotations"), "autoscaling.alpha.kubernetes.io/metrics"));
    assert_string_equal(text.p, "[{\"type\":\"Resource\",\"resource\":{\"name\":\"memory\","
                                "\"targetAverageValue\":\"1Gi\"}}]");
    struct json *back = schema_convert(a, v1, v2, old, &err);
    assert_int_equal(json_len(json_at(back, "spec.metrics")), 2);
    assert_null(json_at(back, "metadata.annotations"));
}

static void others(void **state) {
    both_ways(resource("discovery.k8s.io", "v1beta1", "EndpointSlice"),
              resource("discovery.k8s.io", "v1", "EndpointSlice"),
              "{'kind':'EndpointSlice','apiVersion':'discovery.k8s.io/v1beta1','addressType':'IPv4','endpoints':["
              "{'addresses':['10.0.0.1'],'nodeName':'n','topology':{'kubernetes.io/hostname':'n',"
              "'topology.kubernetes.io/zone':'z','other':'o'}}],'ports':[]}",
              "{'kind':'EndpointSlice','apiVersion':'discovery.k8s.io/v1','metadata':{},'addressType':'IPv4',"
              "'endpoints':[{'addresses':['10.0.0.1'],'conditions':{},'deprecatedTopology':{'other':'o'},"
              "'nodeName':'n','zone':'z'}],'ports':[]}");
    both_ways(resource("policy", "v1beta1", "PodDisruptionBudget"), resource("policy", "v1", "PodDisruptionBudget"),
              "{'kind':'PodDisruptionBudget','apiVersion':'policy/v1beta1','spec':{'selector':{}}}",
              "{'kind':'PodDisruptionBudget','apiVersion':'policy/v1','metadata':{},'spec':{'selector':"
              "{'matchExpressions':[{'key':'pdb.kubernetes.io/deprecated-v1beta1-empty-selector-match','operator':"
              "'Exists'}]}},'status':{'disruptionsAllowed':0,'currentHealthy':0,'desiredHealthy':0,'expectedPods':0}}");
    both_ways(resource("authorization.k8s.io", "v1beta1", "SubjectAccessReview"),
              resource("authorization.k8s.io", "v1", "SubjectAccessReview"),
              "{'kind':'SubjectAccessReview','apiVersion':'authorization.k8s.io/v1beta1','spec':{'user':'u',"
              "'group':['g']}}",
              "{'kind':'SubjectAccessReview','apiVersion':'authorization.k8s.io/v1','metadata':{},'spec':{'user':'u',"
              "'groups':['g']},'status':{'allowed':false}}");
    both_ways(resource("node.k8s.io", "v1alpha1", "RuntimeClass"), resource("node.k8s.io", "v1", "RuntimeClass"),
              "{'kind':'RuntimeClass','apiVersion':'node.k8s.io/v1alpha1','spec':{'runtimeHandler':'h'}}",
              "{'kind':'RuntimeClass','apiVersion':'node.k8s.io/v1','metadata':{},'handler':'h'}");
    both_ways(resource("resource.k8s.io", "v1beta1", "ResourceClaim"),
              resource("resource.k8s.io", "v1", "ResourceClaim"),
              "{'kind':'ResourceClaim','apiVersion':'resource.k8s.io/v1beta1','spec':{'devices':{'requests':[{'name':"
              "'r','deviceClassName':'c','count':2}]}}}",
              "{'kind':'ResourceClaim','apiVersion':'resource.k8s.io/v1','metadata':{},'spec':{'devices':{'requests':"
              "[{'name':'r','exactly':{'deviceClassName':'c','count':2}}]}},'status':{}}");
}

static void crds(void **state) {
    both_ways(resource("apiextensions.k8s.io", "v1beta1", "CustomResourceDefinition"),
              resource("apiextensions.k8s.io", "v1", "CustomResourceDefinition"),
              "{'kind':'CustomResourceDefinition','apiVersion':'apiextensions.k8s.io/v1beta1','spec':{'group':'g',"
              "'version':'v1','names':{'plural':'xs','kind':'X'},'scope':'Namespaced','validation':{'openAPIV3Schema':"
              "{'type':'object'}},'subresources':{'status':{}},'versions':[{'name':'v1','served':true,'storage':true},"
              "{'name':'v2','served':true,'storage':false}],'additionalPrinterColumns':[{'name':'A','type':'string',"
              "'JSONPath':'.spec.a'}],'conversion':{'strategy':'Webhook','webhookClientConfig':{'url':'https://x'},"
              "'conversionReviewVersions':['v1beta1']},'preserveUnknownFields':false}}",
              "{'kind':'CustomResourceDefinition','apiVersion':'apiextensions.k8s.io/v1','metadata':{},'spec':{'group':"
              "'g','names':{'plural':'xs','kind':'X'},'scope':'Namespaced','versions':[{'name':'v1','served':true,"
              "'storage':true,'schema':{'openAPIV3Schema':{'type':'object'}},'subresources':{'status':{}},"
              "'additionalPrinterColumns':[{'name':'A','type':'string','jsonPath':'.spec.a'}]},{'name':'v2','served':"
              "true,'storage':false,'schema':{'openAPIV3Schema':{'type':'object'}},'subresources':{'status':{}},"
              "'additionalPrinterColumns':[{'name':'A','type':'string','jsonPath':'.spec.a'}]}],'conversion':{"
              "'strategy':'Webhook','webhook':{'clientConfig':{'url':'https://x'},'conversionReviewVersions':"
              "['v1beta1']}}},'status':{'conditions':null,'acceptedNames':{'plural':'','kind':''},"
              "'storedVersions':null}}");
    cleanup_arena struct arena *a = arena_new(0, 0);
    struct json *v = converted(a, resource("apiextensions.k8s.io", "v1beta1", "CustomResourceDefinition"),
                               resource("apiextensions.k8s.io", "v1", "CustomResourceDefinition"),
                               "{'spec':{'group':'g','version':'v1alpha1','names':{'plural':'xs','kind':'X'}}}");
    assert_json(a, json_at(v, "spec.versions"),
                "[{'name':'v1alpha1','served':true,'storage':true,'schema':{'openAPIV3Schema':{'type':'object',"
                "'x-kubernetes-preserve-unknown-fields':true}}}]");
}

static void failures(void **state) {
    cleanup_arena struct arena *a = arena_new(0, 0);
    struct error err = {0};
    const struct schema_resource *pod = resource("", "v1", "Pod"),
                                 *ingress = resource("extensions", "v1beta1", "Ingress");
    assert_null(schema_convert(a, pod, ingress, tree(a, "{}"), &err));
    assert_string_equal(err.msg, "pods cannot be converted to ingresses.networking.k8s.io");
    assert_null(schema_convert(a, pod, pod, tree(a, "[]"), &err));
    assert_null(schema_convert(a, ingress, ingress->storage, tree(a, "{'spec':{'rules':5}}"), &err));
    /* Trees that no decoder has seen do no harm. */
    static const char mixed[] = "{'spec':{'metrics':[1,null,[]],'rules':[{'http':1}],'versions':[1,[]],"
                                "'conversion':5,'selector':[]},'endpoints':[1,{'topology':1}]}";
    const char *const odd[] = {"{}", "{'spec':[]}", mixed};
    const struct schema *s = schema_builtin();
    for (size_t i = 0; i < schema_resources_n(s); i++) {
        const struct schema_resource *r = schema_resource_at(s, i);
        for (size_t k = 0; k < ARRAY_LEN(odd); k++) {
            (void)schema_convert(a, r, r->storage, tree(a, odd[k]), &err);
            (void)schema_convert(a, r->storage, r, tree(a, odd[k]), &err);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ingress), cmocka_unit_test(workloads),   cmocka_unit_test(same_version_copies),
        cmocka_unit_test(events),  cmocka_unit_test(autoscalers), cmocka_unit_test(others),
        cmocka_unit_test(crds),    cmocka_unit_test(failures),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
