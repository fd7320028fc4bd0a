/* Validation: what is refused, in which words, and that nothing else is. Objects are defaulted as the API does. */
#include "helper.h"

static struct json *complete(struct arena *a, const struct schema_resource *r, const char *text) {
    struct json *v = decoded(a, r, text);
    schema_default(a, r, v);
    return v;
}

/* Validates text (old may be NULL); the errors as one text, "" when there are none. */
static void check_update(const struct schema_resource *r, const char *text, const char *old, const char *expected) {
    cleanup_arena struct arena *a = arena_new(0, 0);
    struct field_errors errs;
    field_errors_init(&errs, a);
    schema_validate(r, complete(a, r, text), old ? complete(a, r, old) : NULL, STR(""), &errs);
    struct str found = field_errors_text(&errs);
    assert_string_equal(found.n ? quotes(a, found.p).p : "", quotes(a, expected).p);
    field_errors_fini(&errs);
}

static void check(const struct schema_resource *r, const char *text, const char *expected) {
    check_update(r, text, NULL, expected);
}

/* Only that there is an error that begins so. */
static void check_begins(const struct schema_resource *r, const char *text, const char *expected) {
    cleanup_arena struct arena *a = arena_new(0, 0);
    struct field_errors errs;
    field_errors_init(&errs, a);
    schema_validate(r, complete(a, r, text), NULL, STR(""), &errs);
    bool found = false;
    for (size_t i = 0; i < errs.list.n; i++)
        found = found || str_starts(quotes(a, errs.list.items[i].message.p), quotes(a, expected));
    if (!found)
        fail_msg("no \"%s\" in: %s", expected, field_errors_text(&errs).p);
    field_errors_fini(&errs);
}

static const struct schema_resource *core(const char *kind) {
    return resource("", "v1", kind);
}

#define NAMED "'metadata':{'name':'x','namespace':'n'}"

/* --- metadata --- */

static void test_names(void **state UNUSED) {
    check(core("ConfigMap"), "{" NAMED "}", "");
    check(core("ConfigMap"), "{'metadata':{'generateName':'a-','namespace':'n'}}", "");
    check(core("ConfigMap"), "{'metadata':{'namespace':'n'}}",
          "metadata.name: Required value: name or generateName is required");
    check_begins(core("ConfigMap"), "{'metadata':{'name':'A_b','namespace':'n'}}",
                 "metadata.name: Invalid value: 'A_b': a lowercase RFC 1123 subdomain must consist of");
    check_begins(core("ConfigMap"), "{'metadata':{'generateName':'Abc-','namespace':'n'}}",
                 "metadata.generateName: Invalid value: 'Abc-': a lowercase RFC 1123 subdomain");
    check_begins(core("Service"), "{'metadata':{'name':'1x','namespace':'n'},'spec':{'ports':[{'port':1}]}}",
                 "metadata.name: Invalid value: '1x': a DNS-1035 label must consist of");
    check_begins(core("Namespace"), "{'metadata':{'name':'a.b'}}",
                 "metadata.name: Invalid value: 'a.b': a lowercase RFC 1123 label must consist of");
    check(resource("rbac.authorization.k8s.io", "v1", "ClusterRole"), "{'metadata':{'name':'system:Node'}}", "");
    check(resource("rbac.authorization.k8s.io", "v1", "ClusterRole"), "{'metadata':{'name':'a/b'}}",
          "metadata.name: Invalid value: 'a/b': may not contain '/'");
    check(core("ConfigMap"), "{'metadata':{'name':'x'}}", "metadata.namespace: Required value");
    check(core("Namespace"), "{'metadata':{'name':'x','namespace':'n'}}",
          "metadata.namespace: Forbidden: not allowed on this type");
}

static void test_labels_and_annotations(void **state UNUSED) {
    check(core("ConfigMap"),
          "{'metadata':{'name':'x','namespace':'n','labels':{'app.kubernetes.io/name':'a.b','e':''},"
          "'annotations':{'Example.com/A':'anything / at all'}}}",
          "");
    check_begins(core("ConfigMap"), "{'metadata':{'name':'x','namespace':'n','labels':{'a':'b c'}}}",
                 "metadata.labels: Invalid value: 'b c': a valid label must be an empty string or consist of");
    check_begins(core("ConfigMap"), "{'metadata':{'name':'x','namespace':'n','labels':{'a b':'c'}}}",
                 "metadata.labels: Invalid value: 'a b': name part must consist of");
    check_begins(core("ConfigMap"), "{'metadata':{'name':'x','namespace':'n','annotations':{'/a':'c'}}}",
                 "metadata.annotations: Invalid value: '/a': prefix part must be non-empty");
}

static void test_annotations_have_a_limit(void **state UNUSED) {
    cleanup_arena struct arena *a = arena_new(0, 0);
    struct json *v = tree(a, "{" NAMED "}");
    struct field_errors errs;
    size_t n = KiB(256);
    char *big = arena_alloc(a, n);
    memset(big, 'x', n);
    json_put(a, v, "metadata.annotations.a", json_str(a, str_n(big, n - 1)));
    field_errors_init(&errs, a);
    schema_validate(core("ConfigMap"), v, NULL, STR(""), &errs);
    assert_int_equal(errs.list.n, 0);
    json_put(a, v, "metadata.annotations.a", json_str(a, str_n(big, n)));
    schema_validate(core("ConfigMap"), v, NULL, STR(""), &errs);
    assert_string_equal(field_errors_text(&errs).p,
                        "metadata.annotations: Too long: may not be more than 262144 bytes");
    field_errors_fini(&errs);
}

static void test_owners_and_finalizers(void **state UNUSED) {
#define OWNER(name, uid) \
    "{'apiVersion':'apps/v1','kind':'ReplicaSet','name':'" name "','uid':'" uid "','controller':true}"
    check(core("ConfigMap"), "{'metadata':{'name':'x','namespace':'n','ownerReferences':[" OWNER("a", "1") "]}}", "");
    check(core("ConfigMap"),
          "{'metadata':{'name':'x','namespace':'n','ownerReferences':[{'apiVersion':'v1','kind':'Pod','name':'p'}]}}",
          "metadata.ownerReferences.uid: Invalid value: '': must not be empty");
    check_begins(core("ConfigMap"),
                 "{'metadata':{'name':'x','namespace':'n','ownerReferences':[" OWNER("a", "1") "," OWNER("b",
                                                                                                         "2") "]}}",
                 "metadata.ownerReferences: Invalid value: ");
    check(core("ConfigMap"), "{'metadata':{'name':'x','namespace':'n','finalizers':['a.b/c','orphan']}}", "");
    check(core("ConfigMap"), "{'metadata':{'name':'x','namespace':'n','finalizers':['mine']}}",
          "metadata.finalizers[0]: Invalid value: 'mine': name is neither a standard finalizer name nor is it fully "
          "qualified");
    check_update(core("ConfigMap"),
                 "{'metadata':{'name':'x','namespace':'n','deletionTimestamp':'2023-11-14T22:13:20Z','finalizers':"
                 "['a/b','a/c']}}",
                 "{'metadata':{'name':'x','namespace':'n','deletionTimestamp':'2023-11-14T22:13:20Z','finalizers':"
                 "['a/b']}}",
                 "metadata.finalizers: Forbidden: no new finalizers can be added if the object is being deleted, found "
                 "new finalizers []string{'a/c'}");
}

static void test_old_finalizers_may_stay(void **state UNUSED) {
    const char *v = "{'metadata':{'name':'x','namespace':'n','finalizers':['mine']}}";
    check_update(core("ConfigMap"), v, v, "");
}

/* --- pods --- */

#define POD(spec) "{" NAMED ",'spec':{" spec "}}"
#define ONE(container) POD("'containers':[{'name':'c','image':'i'" container "}]")

static void test_good_pods(void **state UNUSED) {
    check(core("Pod"), ONE(""), "");
    check(core("Pod"),
          POD("'volumes':[{'name':'v','emptyDir':{}},{'name':'w','configMap':{'name':'m','items':[{'key':'k','path':"
              "'a/b'}]}},{'name':'t','projected':{'sources':[{'serviceAccountToken':{'path':'token',"
              "'expirationSeconds':3607}}]}}],'initContainers':[{'name':'s','image':'i','restartPolicy':'Always',"
              "'readinessProbe':{'exec':{'command':['x']}}}],'containers':[{'name':'c','image':'i:1','ports':["
              "{'containerPort':80,'name':'http'},{'containerPort':80,'protocol':'UDP'}],'env':[{'name':'A','value':"
              "'b'},{'name':'B','valueFrom':{'fieldRef':{'fieldPath':'metadata.labels[\\'a\\']'}}}],'envFrom':"
              "[{'configMapRef':{'name':'m'}}],'volumeMounts':[{'name':'v','mountPath':'/v','subPath':'a/..b'}],"
              "'resources':{'requests':{'cpu':'100m','example.com/gpu':'1'},'limits':{'cpu':'1','example.com/gpu':1}},"
              "'livenessProbe':{'httpGet':{'port':'http'}},'lifecycle':{'preStop':{'sleep':{'seconds':1}}},"
              "'securityContext':{'runAsUser':0,'seccompProfile':{'type':'RuntimeDefault'}}}],'tolerations':"
              "[{'operator':'Exists'},{'key':'a','effect':'NoExecute','tolerationSeconds':3}],'nodeSelector':{'a':'b'},"
              "'affinity':{'nodeAffinity':{'requiredDuringSchedulingIgnoredDuringExecution':{'nodeSelectorTerms':"
              "[{'matchExpressions':[{'key':'a','operator':'Gt','values':['1']}]}]}}},'hostNetwork':false"),
          "");
}

static void test_containers(void **state UNUSED) {
    check(core("Pod"), POD("'containers':[]"), "spec.containers: Required value");
    check(core("Pod"), POD("'containers':[{'image':'i'}]"), "spec.containers[0].name: Required value");
    check(core("Pod"), POD("'containers':[{'name':'c'}]"), "spec.containers[0].image: Required value");
    check(core("Pod"), POD("'containers':[{'name':'c','image':' i'}]"),
          "spec.containers[0].image: Invalid value: ' i': must not have leading or trailing whitespace");
    check(core("Pod"), POD("'containers':[{'name':'c','image':'i'},{'name':'c','image':'i'}]"),
          "spec.containers[1].name: Duplicate value: 'c'");
    check(core("Pod"), POD("'initContainers':[{'name':'c','image':'i'}],'containers':[{'name':'c','image':'i'}]"),
          "spec.initContainers[0].name: Duplicate value: 'c'");
    check_begins(core("Pod"), POD("'containers':[{'name':'C','image':'i'}]"),
                 "spec.containers[0].name: Invalid value: 'C': a lowercase RFC 1123 label");
    check(core("Pod"), ONE(",'imagePullPolicy':'Often'"),
          "spec.containers[0].imagePullPolicy: Unsupported value: 'Often': supported values: 'Always', 'IfNotPresent', "
          "'Never'");
    check(core("Pod"), POD("'restartPolicy':'Maybe','containers':[{'name':'c','image':'i'}]"),
          "spec.restartPolicy: Unsupported value: 'Maybe': supported values: 'Always', 'Never', 'OnFailure'");
}

static void test_ports(void **state UNUSED) {
    check(core("Pod"), ONE(",'ports':[{}]"), "spec.containers[0].ports[0].containerPort: Required value");
    check(core("Pod"), ONE(",'ports':[{'containerPort':70000}]"),
          "spec.containers[0].ports[0].containerPort: Invalid value: 70000: must be between 1 and 65535, inclusive");
    check(core("Pod"), ONE(",'ports':[{'containerPort':1,'name':'a'},{'containerPort':2,'name':'a'}]"),
          "spec.containers[0].ports[1].name: Duplicate value: 'a'");
    check(core("Pod"), ONE(",'ports':[{'containerPort':1,'name':'1'}]"),
          "spec.containers[0].ports[0].name: Invalid value: '1': must contain at least one letter (a-z)");
    check(core("Pod"), ONE(",'ports':[{'containerPort':1,'hostPort':5},{'containerPort':2,'hostPort':5}]"),
          "spec.containers[0].ports[1].hostPort: Duplicate value: 'TCP//5'");
}

static void test_environment(void **state UNUSED) {
    check(core("Pod"), ONE(",'env':[{'value':'x'}]"), "spec.containers[0].env[0].name: Required value");
    check_begins(core("Pod"), ONE(",'env':[{'name':'a=b'}]"),
                 "spec.containers[0].env[0].name: Invalid value: 'a=b': a valid environment variable name");
    check(core("Pod"), ONE(",'env':[{'name':'a','value':'b','valueFrom':{'secretKeyRef':{'name':'s','key':'k'}}}]"),
          "spec.containers[0].env[0].valueFrom: Invalid value: '': may not be specified when `value` is not empty");
    check(core("Pod"), ONE(",'env':[{'name':'a','valueFrom':{'configMapKeyRef':{'name':'s','key':''}}}]"),
          "spec.containers[0].env[0].valueFrom.configMapKeyRef.key: Required value");
    check_begins(core("Pod"), ONE(",'env':[{'name':'a','valueFrom':{'fieldRef':{'fieldPath':'spec.x'}}}]"),
                 "spec.containers[0].env[0].valueFrom.fieldRef.fieldPath: Unsupported value: 'spec.x'");
    check(core("Pod"), ONE(",'envFrom':[{}]"),
          "spec.containers[0].envFrom[0]: Invalid value: '': must specify one of: `configMapRef` or `secretRef`");
}

static void test_volumes_and_mounts(void **state UNUSED) {
    check(core("Pod"), ONE(",'volumeMounts':[{'name':'v','mountPath':'/v'}]"),
          "spec.containers[0].volumeMounts[0].name: Not found: 'v'");
#define WITH(volumes, mounts) \
    POD("'volumes':[" volumes "],'containers':[{'name':'c','image':'i','volumeMounts':[" mounts "]}]")
    check(core("Pod"), WITH("{'name':'v','emptyDir':{}}", "{'name':'v'}"),
          "spec.containers[0].volumeMounts[0].mountPath: Required value");
    check(core("Pod"),
          WITH("{'name':'v','emptyDir':{}}", "{'name':'v','mountPath':'/a'},{'name':'v','mountPath':'/a'}"),
          "spec.containers[0].volumeMounts[1].mountPath: Invalid value: '/a': must be unique");
    check(core("Pod"), WITH("{'name':'v','emptyDir':{}}", "{'name':'v','mountPath':'/a','subPath':'../x'}"),
          "spec.containers[0].volumeMounts[0].subPath: Invalid value: '../x': must not contain '..'");
    check(core("Pod"), WITH("{'name':'v'}", ""), ""); /* an empty directory, by default */
    check(core("Pod"), WITH("{'name':'v','emptyDir':{},'hostPath':{'path':'/'}}", ""),
          "spec.volumes[0].emptyDir: Forbidden: may not specify more than 1 volume type");
    check(core("Pod"), WITH("{'name':'v','emptyDir':{}},{'name':'v','emptyDir':{}}", ""),
          "spec.volumes[1].name: Duplicate value: 'v'");
    check(core("Pod"), WITH("{'name':'v','secret':{}}", ""), "spec.volumes[0].secret.secretName: Required value");
    check(core("Pod"), WITH("{'name':'v','hostPath':{'path':'/a/../b'}}", ""),
          "spec.volumes[0].hostPath.path: Invalid value: '/a/../b': must not contain '..'");
    check(core("Pod"), WITH("{'name':'v','configMap':{'name':'m','items':[{'key':'k','path':'/a'}]}}", ""),
          "spec.volumes[0].configMap.items[0].path: Invalid value: '/a': must be a relative path");
}

static void test_probes_and_resources(void **state UNUSED) {
    check(core("Pod"), ONE(",'livenessProbe':{}"),
          "spec.containers[0].livenessProbe: Required value: must specify a handler type");
    check(core("Pod"), ONE(",'livenessProbe':{'exec':{'command':['a']},'successThreshold':2}"),
          "spec.containers[0].livenessProbe.successThreshold: Invalid value: 2: must be 1");
    check(core("Pod"), ONE(",'readinessProbe':{'tcpSocket':{'port':0}}"),
          "spec.containers[0].readinessProbe.tcpSocket.port: Invalid value: 0: must be between 1 and 65535, inclusive");
    check(core("Pod"), ONE(",'resources':{'requests':{'cpu':'2'},'limits':{'cpu':'1'}}"),
          "spec.containers[0].resources.requests: Invalid value: '2': must be less than or equal to cpu limit of 1");
    check(core("Pod"), ONE(",'resources':{'limits':{'disk':'1'}}"),
          "[spec.containers[0].resources.limits[disk]: Invalid value: 'disk': must be a standard resource for "
          "containers, spec.containers[0].resources.requests[disk]: Invalid value: 'disk': must be a standard resource "
          "for containers]");
    check(core("Pod"), ONE(",'resources':{'requests':{'memory':'-1'}}"),
          "spec.containers[0].resources.requests[memory]: Invalid value: '-1': must be greater than or equal to 0");
}

static void test_scheduling(void **state UNUSED) {
#define PLACED(members) POD("'containers':[{'name':'c','image':'i'}]," members)
    check_begins(core("Pod"), PLACED("'tolerations':[{'operator':'Equal'}]"),
                 "spec.tolerations[0].operator: Invalid value: 'Equal': operator must be Exists when `key` is empty");
    check_begins(core("Pod"), PLACED("'nodeSelector':{'a':'b c'}"), "spec.nodeSelector: Invalid value: 'b c'");
    check(
        core("Pod"),
        PLACED("'affinity':{'nodeAffinity':{'requiredDuringSchedulingIgnoredDuringExecution':{'nodeSelectorTerms':"
               "[]}}}"),
        "spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms: Required value: "
        "must have at least one node selector term");
    check(core("Pod"),
          PLACED("'affinity':{'podAntiAffinity':{'preferredDuringSchedulingIgnoredDuringExecution':[{'weight':0,"
                 "'podAffinityTerm':{'topologyKey':'k'}}]}}"),
          "spec.affinity.podAntiAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].weight: Invalid value: 0: "
          "must be in the range 1-100");
    check(core("Pod"), PLACED("'dnsPolicy':'None'"),
          "spec.dnsConfig: Required value: must provide `dnsConfig` when `dnsPolicy` is None");
}

static void test_what_may_change_in_a_pod(void **state UNUSED) {
    const char *old = ONE("");
    check_update(core("Pod"), old, old, "");
    check_update(core("Pod"), POD("'containers':[{'name':'c','image':'other'}]"), old, "");
    check_update(core("Pod"), PLACED("'tolerations':[{'operator':'Exists'}]"), old, "");
    check_update(core("Pod"), PLACED("'activeDeadlineSeconds':5"), old, "");
    check_update(core("Pod"), POD("'containers':[{'name':'c','image':'i'},{'name':'d','image':'i'}]"), old,
                 "spec.containers: Forbidden: pod updates may not add or remove containers");
#define ONLY                                                                                                    \
    "spec: Forbidden: pod updates may not change fields other than `spec.containers[*].image`,"                 \
    "`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to "        \
    "existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously " \
    "negative)"
    check_update(core("Pod"), ONE(",'command':['x']"), old, ONLY);
    check_update(core("Pod"), PLACED("'nodeName':'n1'"), old, ONLY);
    check_update(core("Pod"), old, PLACED("'tolerations':[{'operator':'Exists'}]"), ONLY);
    check_update(core("Pod"), PLACED("'activeDeadlineSeconds':9"), PLACED("'activeDeadlineSeconds':5"),
                 "spec.activeDeadlineSeconds: Invalid value: 9: must be less than or equal to previous value");
}

/* --- workloads --- */

#define TEMPLATE(labels, members) \
    "'template':{'metadata':{'labels':" labels "},'spec':{'containers':[{'name':'c','image':'i'}]" members "}}"
#define DEPLOYMENT(selector, labels, members) \
    "{" NAMED ",'spec':{'selector':" selector "," TEMPLATE(labels, "") members "}}"

static void test_deployments(void **state UNUSED) {
    const struct schema_resource *r = resource("apps", "v1", "Deployment");
    const char *good = DEPLOYMENT("{'matchLabels':{'a':'b'}}", "{'a':'b'}", "");
    check(r, good, "");
    check(r, "{" NAMED ",'spec':{" TEMPLATE("{}", "") "}}", "spec.selector: Required value");
    check(r, DEPLOYMENT("{}", "{'a':'b'}", ""),
          "spec.selector: Invalid value: {}: empty selector is invalid for deployment");
    check(r, DEPLOYMENT("{'matchLabels':{'a':'b'}}", "{'a':'c'}", ""),
          "spec.template.metadata.labels: Invalid value: {'a':'c'}: `selector` does not match template `labels`");
    check(r, DEPLOYMENT("{'matchLabels':{'a':'b'}}", "{'a':'b'}", ",'replicas':-1"),
          "spec.replicas: Invalid value: -1: must be greater than or equal to 0");
    check(r, DEPLOYMENT("{'matchLabels':{'a':'b'}}", "{'a':'b'}", ",'strategy':{'type':'Slow'}"),
          "spec.strategy.type: Unsupported value: 'Slow': supported values: 'Recreate', 'RollingUpdate'");
    check(r,
          DEPLOYMENT("{'matchLabels':{'a':'b'}}", "{'a':'b'}",
                     ",'strategy':{'rollingUpdate':{'maxSurge':0,'maxUnavailable':'0%'}}"),
          "spec.strategy.rollingUpdate.maxUnavailable: Invalid value: '0%': may not be 0 when `maxSurge` is 0");
    check_begins(r,
                 DEPLOYMENT("{'matchLabels':{'a':'b'}}", "{'a':'b'}", ",'strategy':{'rollingUpdate':{'maxSurge':'x'}}"),
                 "spec.strategy.rollingUpdate.maxSurge: Invalid value: 'x': a valid percent string must be");
    check(r,
          "{" NAMED
          ",'spec':{'selector':{'matchLabels':{'a':'b'}}," TEMPLATE("{'a':'b'}", ",'restartPolicy':'Never'") "}}",
          "spec.template.spec.restartPolicy: Unsupported value: 'Never': supported values: 'Always'");
    check(r, "{" NAMED ",'spec':{'selector':{'matchLabels':{'a':'b'}},'template':{'metadata':{'labels':{'a':'b'}}}}}",
          "spec.template.spec.containers: Required value");
    check_update(r, good, good, "");
    check_update(r, DEPLOYMENT("{'matchLabels':{'c':'b'}}", "{'a':'b','c':'b'}", ""), good,
                 "spec.selector: Invalid value: {'matchLabels':{'c':'b'}}: field is immutable");
}

static void test_other_controllers(void **state UNUSED) {
#define SET(members) "{" NAMED ",'spec':{'selector':{'matchLabels':{'a':'b'}}," TEMPLATE("{'a':'b'}", "") members "}}"
    check(resource("apps", "v1", "ReplicaSet"), SET(""), "");
    check(resource("apps", "v1", "DaemonSet"), SET(""), "");
    check(resource("apps", "v1", "DaemonSet"), SET(",'updateStrategy':{'rollingUpdate':{'maxUnavailable':0}}"),
          "spec.updateStrategy.rollingUpdate.maxUnavailable: Required value: cannot be 0 when maxSurge is 0");
    check(resource("apps", "v1", "StatefulSet"), SET(",'serviceName':'s'"), "");
    check_begins(resource("apps", "v1", "StatefulSet"), SET(",'podManagementPolicy':'Any'"),
                 "spec.podManagementPolicy: Unsupported value: 'Any'");
    check_update(resource("apps", "v1", "StatefulSet"), SET(",'replicas':3"), SET(""), "");
    check_update(
        resource("apps", "v1", "StatefulSet"), SET(",'serviceName':'t'"), SET(",'serviceName':'s'"),
        "spec: Forbidden: updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', "
        "'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and "
        "'minReadySeconds' are forbidden");
    check(core("ReplicationController"), "{" NAMED ",'spec':{'selector':{'a':'b'}," TEMPLATE("{'a':'b'}", "") "}}", "");
    check(core("ReplicationController"), "{" NAMED ",'spec':{'selector':{'a':'b'}}}", "spec.template: Required value");
}

#define JOB(members, more) \
    "{" NAMED ",'spec':{'selector':{'matchLabels':{'a':'b'}}," TEMPLATE("{'a':'b'}", more) members "}}"

static void test_jobs(void **state UNUSED) {
    const struct schema_resource *r = resource("batch", "v1", "Job");
    const char *good = JOB("", ",'restartPolicy':'Never'");
    check(r, good, "");
    check(r, JOB("", ",'restartPolicy':'Always'"),
          "spec.template.spec.restartPolicy: Unsupported value: 'Always': supported values: 'Never', 'OnFailure'");
    check(r, JOB(",'backoffLimit':-1", ",'restartPolicy':'Never'"),
          "spec.backoffLimit: Invalid value: -1: must be greater than or equal to 0");
    check(r, JOB(",'completionMode':'Indexed','parallelism':2", ",'restartPolicy':'Never'"),
          "spec.completions: Required value: when completion mode is Indexed");
    check_update(r, JOB(",'parallelism':4,'completions':1,'suspend':true", ",'restartPolicy':'Never'"), good, "");
    check_update(r, JOB(",'completions':4", ",'restartPolicy':'Never'"), good,
                 "spec.completions: Invalid value: 4: field is immutable");
#define CRON(schedule)                         \
    "{" NAMED ",'spec':{'schedule':'" schedule \
    "','jobTemplate':{'spec':{" TEMPLATE("{}", ",'restartPolicy':'Never'") "}}}}"
    check(resource("batch", "v1", "CronJob"), CRON("*/5 0-6 * JAN,MAR mon"), "");
    check(resource("batch", "v1", "CronJob"), CRON("@hourly"), "");
    check(resource("batch", "v1", "CronJob"), CRON(""), "spec.schedule: Required value");
    check_begins(resource("batch", "v1", "CronJob"), CRON("* * *"), "spec.schedule: Invalid value: '* * *'");
}

/* --- services, configuration --- */

#define SERVICE(members) "{" NAMED ",'spec':{" members "}}"

static void test_services(void **state UNUSED) {
    check(core("Service"), SERVICE("'ports':[{'port':80,'targetPort':'http'}],'selector':{'a':'b'}"), "");
    check(core("Service"), SERVICE("'clusterIP':'None'"), "");
    check(core("Service"), SERVICE("'type':'ExternalName','externalName':'a.example.'"), "");
    check(core("Service"), SERVICE(""), "spec.ports: Required value");
    check(core("Service"), SERVICE("'ports':[{'port':0}]"),
          "[spec.ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive, spec.ports[0].targetPort: "
          "Invalid value: 0: must be between 1 and 65535, inclusive]");
    check(core("Service"), SERVICE("'ports':[{'port':80,'name':'a'},{'port':81}]"),
          "spec.ports[1].name: Required value");
    check(core("Service"), SERVICE("'ports':[{'port':80,'name':'a'},{'port':80,'name':'b','targetPort':9}]"),
          "spec.ports[1]: Duplicate value: {'name':'b','protocol':'TCP','port':80,'targetPort':9}");
    check(core("Service"), SERVICE("'ports':[{'port':80,'nodePort':30000}]"),
          "spec.ports[0].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'");
    check(core("Service"), SERVICE("'type':'Loud','ports':[{'port':80}]"),
          "spec.type: Unsupported value: 'Loud': supported values: 'ClusterIP', 'ExternalName', 'LoadBalancer', "
          "'NodePort'");
    check(core("Service"), SERVICE("'clusterIP':'10.0.0','ports':[{'port':80}]"),
          "spec.clusterIPs[0]: Invalid value: '10.0.0': must be a valid IP address, (e.g. 10.9.8.7 or "
          "2001:db8::ffff)");
    check(core("Service"), SERVICE("'type':'ExternalName'"), "spec.externalName: Required value");
}

static void test_endpoints(void **state UNUSED) {
    check(core("Endpoints"), "{" NAMED ",'subsets':[{'addresses':[{'ip':'10.0.0.1'}],'ports':[{'port':80}]}]}", "");
    check(core("Endpoints"), "{" NAMED ",'subsets':[{}]}",
          "subsets[0]: Required value: must specify `addresses` or `notReadyAddresses`");
    check_begins(core("Endpoints"), "{" NAMED ",'subsets':[{'addresses':[{'ip':'x'}]}]}",
                 "subsets[0].addresses[0].ip: Invalid value: 'x': must be a valid IP address");
    const struct schema_resource *slice = resource("discovery.k8s.io", "v1", "EndpointSlice");
    check(slice, "{" NAMED ",'addressType':'IPv4','endpoints':[{'addresses':['10.0.0.1']}],'ports':[{'port':80}]}", "");
    check(slice, "{" NAMED ",'endpoints':[]}", "addressType: Required value");
    check(slice, "{" NAMED ",'addressType':'IPv4','endpoints':[{'addresses':['fd00::1']}]}",
          "endpoints[0].addresses[0]: Invalid value: 'fd00::1': must be an IPv4 address");
}

#define INGRESS(members) "{" NAMED ",'spec':{" members "}}"
#define PATHS(path) "'rules':[{'host':'a.example','http':{'paths':[" path "]}}]"

static void test_ingresses(void **state UNUSED) {
    const struct schema_resource *r = resource("networking.k8s.io", "v1", "Ingress");
#define BACKEND "'backend':{'service':{'name':'s','port':{'number':80}}}"
    check(r, INGRESS(PATHS("{'path':'/','pathType':'Prefix'," BACKEND "}")), "");
    check(r,
          INGRESS("'rules':[{'host':'*.example','http':{'paths':[{'pathType':'ImplementationSpecific'," BACKEND
                  "}]}}]"),
          "");
    check_begins(r, INGRESS(""), "spec: Invalid value: ");
    check(r, INGRESS(PATHS("{'path':'a','pathType':'Prefix'," BACKEND "}")),
          "spec.rules[0].http.paths[0].path: Invalid value: 'a': must be an absolute path");
    check(r, INGRESS(PATHS("{'path':'/'," BACKEND "}")),
          "spec.rules[0].http.paths[0].pathType: Required value: pathType must be specified");
    check(r, INGRESS(PATHS("{'path':'/','pathType':'Exact','backend':{'service':{'name':'s','port':{}}}}")),
          "spec.rules[0].http.paths[0].backend: Required value: port name or number is required");
    check_begins(r, INGRESS("'rules':[{'host':'A'}]"), "spec.rules[0].host: Invalid value: 'A'");
    check(r, INGRESS("'rules':[{'host':'10.0.0.1'}]"),
          "spec.rules[0].host: Invalid value: '10.0.0.1': must be a DNS name, not an IP address");
}

static void test_configuration(void **state UNUSED) {
    check(core("ConfigMap"), "{" NAMED ",'data':{'a.b_c-D':'x','..a':'y'}}",
          "data[..a]: Invalid value: '..a': must not start with '..'");
    check_begins(core("ConfigMap"), "{" NAMED ",'data':{'a/b':'x'}}",
                 "data[a/b]: Invalid value: 'a/b': a valid config key must consist of");
    check_update(core("ConfigMap"), "{" NAMED ",'immutable':true,'data':{'a':'2'}}",
                 "{" NAMED ",'immutable':true,'data':{'a':'1'}}",
                 "data: Forbidden: field is immutable when `immutable` is set");
    check_update(core("ConfigMap"), "{" NAMED ",'data':{'a':'1'}}", "{" NAMED ",'immutable':true,'data':{'a':'1'}}",
                 "immutable: Forbidden: field is immutable when `immutable` is set");
    check(core("Secret"), "{" NAMED ",'type':'kubernetes.io/tls','data':{'tls.crt':'YQ=='}}",
          "data[tls.key]: Required value");
    check_update(core("Secret"), "{" NAMED ",'type':'b'}", "{" NAMED ",'type':'a'}",
                 "type: Invalid value: 'b': field is immutable");
}

static void test_storage(void **state UNUSED) {
#define CLAIM(members) "{" NAMED ",'spec':{" members "}}"
#define SIZE "'resources':{'requests':{'storage':'1Gi'}}"
    check(core("PersistentVolumeClaim"), CLAIM("'accessModes':['ReadWriteOnce']," SIZE), "");
    check(core("PersistentVolumeClaim"), CLAIM("'accessModes':['ReadWriteOnce']"),
          "spec.resources[storage]: Required value");
    check(core("PersistentVolumeClaim"), CLAIM(SIZE),
          "spec.accessModes: Required value: at least 1 access mode is required");
    check_update(core("PersistentVolumeClaim"), CLAIM("'accessModes':['ReadWriteMany']," SIZE),
                 CLAIM("'accessModes':['ReadWriteOnce']," SIZE),
                 "spec: Forbidden: spec is immutable after creation except resources.requests and "
                 "volumeAttributesClassName for bound claims");
    check(core("PersistentVolume"),
          "{'metadata':{'name':'v'},'spec':{'capacity':{'storage':'1Gi'},'accessModes':['ReadWriteOnce'],'hostPath':"
          "{'path':'/d'}}}",
          "");
    check(core("PersistentVolume"),
          "{'metadata':{'name':'v'},'spec':{'capacity':{'storage':'1Gi'},'accessModes':['ReadWriteOnce']}}",
          "spec: Required value: must specify a volume type");
    check(resource("storage.k8s.io", "v1", "StorageClass"), "{'metadata':{'name':'v'}}", "provisioner: Required value");
}

static void test_nodes_and_access_control(void **state UNUSED) {
    const struct schema_resource *binding = resource("rbac.authorization.k8s.io", "v1", "RoleBinding");
#define BINDING(role)                                                                                            \
    "{" NAMED ",'roleRef':{'apiGroup':'rbac.authorization.k8s.io','kind':'Role','name':'" role "'},'subjects':[" \
    "{'kind':'ServiceAccount','name':'s'}]}"
    check(core("Node"), "{'metadata':{'name':'n1'},'spec':{'taints':[{'key':'a','effect':'NoSchedule'}]}}", "");
    check(core("Node"), "{'metadata':{'name':'n1'},'spec':{'taints':[{'key':'a'}]}}",
          "spec.taints[0].effect: Required value");
    check(binding, BINDING("r"), "");
    check_begins(binding, "{" NAMED ",'roleRef':{'kind':'Robe','name':'r'}}",
                 "roleRef.kind: Unsupported value: 'Robe': supported values: 'ClusterRole', 'Role'");
    check_update(
        binding, BINDING("other"), BINDING("r"),
        "roleRef: Invalid value: {'apiGroup':'rbac.authorization.k8s.io','kind':'Role','name':'other'}: cannot "
        "change roleRef");
    check(resource("rbac.authorization.k8s.io", "v1", "Role"),
          "{" NAMED ",'rules':[{'apiGroups':[''],'resources':['pods']}]}",
          "rules[0].verbs: Required value: verbs must contain at least one value");
    check(resource("rbac.authorization.k8s.io", "v1", "ClusterRole"),
          "{'metadata':{'name':'x'},'rules':[{'verbs':['get'],'nonResourceURLs':['/healthz']}]}", "");
    check(resource("coordination.k8s.io", "v1", "Lease"), "{" NAMED ",'spec':{'leaseDurationSeconds':0}}",
          "spec.leaseDurationSeconds: Invalid value: 0: must be greater than 0");
    check_update(resource("scheduling.k8s.io", "v1", "PriorityClass"), "{'metadata':{'name':'p'},'value':2}",
                 "{'metadata':{'name':'p'},'value':1}", "value: Forbidden: may not be changed in an update.");
}

static void test_custom_resource_definitions(void **state UNUSED) {
#define CRD(name, scope, storage)                                                               \
    "{'metadata':{'name':'" name                                                                \
    "'},'spec':{'group':'g.example','names':{'plural':'things','kind':'Thing'},'scope':'" scope \
    "','versions':[{'name':'v1','served':true,'storage':" storage "}]}}"
    const struct schema_resource *r = resource("apiextensions.k8s.io", "v1", "CustomResourceDefinition");
    check(r, CRD("things.g.example", "Namespaced", "true"), "");
    check(r, CRD("thing.g.example", "Cluster", "true"),
          "metadata.name: Invalid value: 'thing.g.example': must be spec.names.plural+'.'+spec.group");
    check(r, CRD("things.g.example", "World", "true"),
          "spec.scope: Unsupported value: 'World': supported values: 'Cluster', 'Namespaced'");
    check_begins(r, CRD("things.g.example", "Cluster", "false"), "spec.versions: Invalid value: ");
}

static void test_limits_of_size(void **state UNUSED) {
    cleanup_arena struct arena *a = arena_new(0, 0);
    struct json *v = tree(a, "{" NAMED "}"), *slice = tree(a, "{" NAMED ",'addressType':'IPv4','endpoints':[]}");
    struct field_errors errs;
    char *big = arena_alloc(a, MiB(1));
    memset(big, 'x', MiB(1));
    field_errors_init(&errs, a);
    json_put(a, v, "data.a", json_str(a, str_n(big, MiB(1))));
    schema_validate(core("ConfigMap"), v, NULL, STR(""), &errs);
    assert_int_equal(errs.list.n, 0);
    json_put(a, v, "data.b", json_cstr(a, "x"));
    schema_validate(core("ConfigMap"), v, NULL, STR(""), &errs);
    assert_string_equal(field_errors_text(&errs).p, "[]: Too long: may not be more than 1048576 bytes");
    field_errors_fini(&errs);
    field_errors_init(&errs, a);
    for (size_t i = 0; i < 1001; i++)
        json_append(a, json_get_c(slice, "endpoints"), tree(a, "{'addresses':['10.0.0.1']}"));
    schema_validate(resource("discovery.k8s.io", "v1", "EndpointSlice"), slice, NULL, STR(""), &errs);
    assert_string_equal(field_errors_text(&errs).p, "endpoints: Too many: 1001: must have at most 1000 items");
    field_errors_fini(&errs);
}

/* Whatever the types: nothing but errors comes of it, for every kind, new or changed. */
static void test_malformed_trees_do_no_harm(void **state UNUSED) {
    static const char *const trees[] = {"{}",
                                        "[]",
                                        "{'metadata':[],'spec':7}",
                                        "{'metadata':{'name':{},'labels':[1]}}",
                                        "{'spec':{'containers':{'a':1},'template':[],'ports':'x','rules':[[]]}}",
                                        "{'spec':{'containers':[null,1,{'ports':[null],'env':[[]]}],'volumes':[7]}}",
                                        "{'subsets':[1],'endpoints':[[]],'data':[],'rules':{},'subjects':[0]}"};
    const struct schema *s = schema_builtin();
    for (size_t i = 0; i < schema_resources_n(s); i++)
        for (size_t k = 0; k < ARRAY_LEN(trees) * ARRAY_LEN(trees); k++) {
            cleanup_arena struct arena *a = arena_new(0, 0);
            struct field_errors errs;
            field_errors_init(&errs, a);
            schema_validate(schema_resource_at(s, i), tree(a, trees[k % ARRAY_LEN(trees)]),
                            k / ARRAY_LEN(trees) ? tree(a, trees[k / ARRAY_LEN(trees)]) : NULL, STR(""), &errs);
            field_errors_fini(&errs);
        }
}

static void test_a_status_may_say_anything(void **state UNUSED) {
    cleanup_arena struct arena *a = arena_new(0, 0);
    struct field_errors errs;
    const struct json *v = tree(a, POD("'containers':[],'status':{'phase':'Strange'}"));
    field_errors_init(&errs, a);
    schema_validate(core("Pod"), v, v, STR("status"), &errs);
    assert_int_equal(errs.list.n, 0);
    field_errors_fini(&errs);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_labels_and_annotations),
        cmocka_unit_test(test_annotations_have_a_limit),
        cmocka_unit_test(test_owners_and_finalizers),
        cmocka_unit_test(test_old_finalizers_may_stay),
        cmocka_unit_test(test_good_pods),
        cmocka_unit_test(test_containers),
        cmocka_unit_test(test_ports),
        cmocka_unit_test(test_environment),
        cmocka_unit_test(test_volumes_and_mounts),
        cmocka_unit_test(test_probes_and_resources),
        cmocka_unit_test(test_scheduling),
        cmocka_unit_test(test_what_may_change_in_a_pod),
        cmocka_unit_test(test_deployments),
        cmocka_unit_test(test_other_controllers),
        cmocka_unit_test(test_jobs),
        cmocka_unit_test(test_services),
        cmocka_unit_test(test_endpoints),
        cmocka_unit_test(test_ingresses),
        cmocka_unit_test(test_configuration),
        cmocka_unit_test(test_storage),
        cmocka_unit_test(test_nodes_and_access_control),
        cmocka_unit_test(test_custom_resource_definitions),
        cmocka_unit_test(test_limits_of_size),
        cmocka_unit_test(test_malformed_trees_do_no_harm),
        cmocka_unit_test(test_a_status_may_say_anything),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
