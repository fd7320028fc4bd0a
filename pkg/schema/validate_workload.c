/* Validation of the kinds that make pods: controllers, jobs and what scales or guards them. */
#include "schema/validate.h"

static const char *const always[] = {"Always", NULL};
static const char *const job_restarts[] = {"Never", "OnFailure", NULL};

/* --- selectors and templates --- */

static bool is_empty_selector(const struct json *v) {
    return json_len(json_get_c(v, "matchLabels")) == 0 && json_len(json_get_c(v, "matchExpressions")) == 0;
}

/* A selector that selects the pods of its own template. */
static void check_own_selector(struct check *c, const struct where *at, const struct json *spec, const char *kind) {
    const struct json *selector = check_get(spec, "selector"), *labels = json_at(spec, "template.metadata.labels");
    const struct where *here = AT(at, "selector");
    if (!selector) {
        check_bad(c, FIELD_REQUIRED, here, NULL, NULL);
        return;
    }
    check_label_selector(c, here, selector);
    if (is_empty_selector(selector)) {
        check_bad(c, FIELD_INVALID, here, selector, "empty selector is invalid for %s", kind);
        return;
    }
    struct label_selector *s = label_selector_from_json(c->arena, selector, NULL);
    if (s && !label_selector_matches(s, labels))
        check_bad(c, FIELD_INVALID, AT(AT(AT(at, "template"), "metadata"), "labels"),
                  labels ? labels : json_object(c->arena), "`selector` does not match template `labels`");
}

static void check_template(struct check *c, const struct where *at, const struct json *spec,
                           const char *const *restart) {
    const struct where *here = AT(at, "template");
    const struct json *template = json_get_c(spec, "template");
    check_pod_template(c, here, template, restart);
    if (restart == always && json_at(template, "spec.activeDeadlineSeconds") &&
        !json_is(json_at(template, "spec.activeDeadlineSeconds"), JSON_NULL))
        check_bad(c, FIELD_FORBIDDEN, AT(AT(here, "spec"), "activeDeadlineSeconds"), NULL,
                  "activeDeadlineSeconds in %.*s is not Supported", STR_ARG(c->resource->kind));
}

static void check_counts(struct check *c, const struct where *at, const struct json *spec) {
    static const char *const counts[] = {"replicas", "minReadySeconds", "revisionHistoryLimit"};
    for (size_t i = 0; i < ARRAY_LEN(counts); i++)
        check_not_negative(c, at, spec, counts[i]);
}

static void selector_is_immutable(struct check *c, const struct where *at, const struct json *spec) {
    if (c->old)
        check_immutable(c, at, spec, json_get_c(c->old, "spec"), "selector");
}

static bool is_zero(const struct json *v) {
    return !v || (v->type == JSON_INT && v->i == 0) || (v->type == JSON_STRING && str_eq(v->s, STR("0%")));
}

/* --- Deployment, ReplicaSet, ReplicationController --- */

static void check_deployment(struct check *c) {
    const struct json *spec = json_get_c(c->object, "spec"), *rolling = json_at(spec, "strategy.rollingUpdate");
    const struct where *at = AT(NULL, "spec"), *strategy = AT(at, "strategy");
    check_counts(c, at, spec);
    check_own_selector(c, at, spec, "deployment");
    selector_is_immutable(c, at, spec);
    check_template(c, at, spec, always);
    if (json_is(rolling, JSON_OBJECT) && str_eq(json_str_at(spec, "strategy.type"), STR("Recreate"))) {
        check_bad(c, FIELD_FORBIDDEN, AT(strategy, "rollingUpdate"), NULL,
                  "may not be specified when strategy `type` is 'Recreate'");
    } else if (json_is(rolling, JSON_OBJECT)) {
        const struct where *here = AT(strategy, "rollingUpdate");
        const struct json *unavailable = json_get_c(rolling, "maxUnavailable");
        check_count_or_percent(c, here, rolling, "maxUnavailable");
        check_count_or_percent(c, here, rolling, "maxSurge");
        if (unavailable && is_zero(unavailable) && is_zero(json_get_c(rolling, "maxSurge")))
            check_bad(c, FIELD_INVALID, AT(here, "maxUnavailable"), unavailable, "may not be 0 when `maxSurge` is 0");
    }
    const struct json *deadline = check_get(spec, "progressDeadlineSeconds");
    check_not_negative(c, at, spec, "progressDeadlineSeconds");
    if (deadline && json_as_int(deadline, 0) <= json_int_at(spec, "minReadySeconds", 0))
        check_bad(c, FIELD_INVALID, AT(at, "progressDeadlineSeconds"), deadline,
                  "must be greater than minReadySeconds");
}

static void check_replicaset(struct check *c) {
    const struct json *spec = json_get_c(c->object, "spec");
    const struct where *at = AT(NULL, "spec");
    check_counts(c, at, spec);
    check_own_selector(c, at, spec, "deployment"); /* Kubernetes' own words */
    selector_is_immutable(c, at, spec);
    check_template(c, at, spec, always);
}

static void check_replicationcontroller(struct check *c) {
    const struct json *spec = json_get_c(c->object, "spec"), *selector = check_get(spec, "selector");
    const struct json *labels = json_at(spec, "template.metadata.labels");
    const struct where *at = AT(NULL, "spec");
    check_counts(c, at, spec);
    if (json_len(selector) == 0)
        check_bad(c, FIELD_REQUIRED, AT(at, "selector"), NULL, NULL);
    if (!check_get(spec, "template")) {
        check_bad(c, FIELD_REQUIRED, AT(at, "template"), NULL, NULL);
        return;
    }
    struct label_selector *s = label_selector_from_map(c->arena, selector);
    if (json_len(selector) && s && !label_selector_matches(s, labels))
        check_bad(c, FIELD_INVALID, AT(AT(AT(at, "template"), "metadata"), "labels"),
                  labels ? labels : json_object(c->arena), "`selector` does not match template `labels`");
    check_template(c, at, spec, always);
}

/* --- DaemonSet, StatefulSet --- */

static void check_daemonset(struct check *c) {
    const struct json *spec = json_get_c(c->object, "spec"), *rolling = json_at(spec, "updateStrategy.rollingUpdate");
    const struct where *at = AT(NULL, "spec"), *here = AT(AT(at, "updateStrategy"), "rollingUpdate");
    check_counts(c, at, spec);
    check_own_selector(c, at, spec, "daemonset");
    selector_is_immutable(c, at, spec);
    check_template(c, at, spec, always);
    if (!json_is(rolling, JSON_OBJECT) || !str_eq(json_str_at(spec, "updateStrategy.type"), STR("RollingUpdate")))
        return;
    check_count_or_percent(c, here, rolling, "maxUnavailable");
    check_count_or_percent(c, here, rolling, "maxSurge");
    bool no_unavailable = is_zero(json_get_c(rolling, "maxUnavailable"));
    if (no_unavailable && is_zero(json_get_c(rolling, "maxSurge")))
        check_bad(c, FIELD_REQUIRED, AT(here, "maxUnavailable"), NULL, "cannot be 0 when maxSurge is 0");
    else if (!no_unavailable && !is_zero(json_get_c(rolling, "maxSurge")))
        check_bad(c, FIELD_INVALID, AT(here, "maxSurge"), json_get_c(rolling, "maxSurge"),
                  "may not be set when maxUnavailable is non-zero");
}

#define STATEFULSET_CHANGES                                                                                    \
    "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', " \
    "'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden"

/* Claims' status and the members that an API adds do not count: what was asked for must be the same. */
static bool are_same_claims(const struct json *a, const struct json *b) {
    if (json_len(a) != json_len(b))
        return false;
    for (size_t i = 0; i < json_len(a); i++)
        if (!json_equal(json_get_c(json_item(a, i), "spec"), json_get_c(json_item(b, i), "spec")) ||
            !str_eq(json_str_at(json_item(a, i), "metadata.name"), json_str_at(json_item(b, i), "metadata.name")))
            return false;
    return true;
}

static void check_statefulset(struct check *c) {
    const struct json *spec = json_get_c(c->object, "spec"), *old = json_get_c(c->old, "spec");
    const struct json *rolling = json_at(spec, "updateStrategy.rollingUpdate");
    const struct where *at = AT(NULL, "spec");
    check_counts(c, at, spec);
    check_own_selector(c, at, spec, "statefulset");
    check_template(c, at, spec, always);
    if (check_get(spec, "ordinals"))
        check_not_negative(c, AT(at, "ordinals"), check_get(spec, "ordinals"), "start");
    if (json_is(rolling, JSON_OBJECT)) {
        const struct where *here = AT(AT(at, "updateStrategy"), "rollingUpdate");
        if (str_eq(json_str_at(spec, "updateStrategy.type"), STR("OnDelete")))
            check_bad(c, FIELD_INVALID, here, rolling, "only allowed for updateStrategy 'RollingUpdate'");
        check_not_negative(c, here, rolling, "partition");
        check_count_or_percent(c, here, rolling, "maxUnavailable");
    }
    if (!c->old)
        return;
    const struct json *selector = check_get(spec, "selector"), *before = check_get(old, "selector");
    if (!json_equal(selector, before) || !str_eq(json_str_at(spec, "serviceName"), json_str_at(old, "serviceName")) ||
        !str_eq(json_str_at(spec, "podManagementPolicy"), json_str_at(old, "podManagementPolicy")) ||
        !are_same_claims(json_get_c(spec, "volumeClaimTemplates"), json_get_c(old, "volumeClaimTemplates")))
        check_bad(c, FIELD_FORBIDDEN, at, NULL, STATEFULSET_CHANGES);
}

/* --- Job, CronJob --- */

static void check_job_spec(struct check *c, const struct where *at, const struct json *spec) {
    static const char *const counts[] = {
        "parallelism",          "completions",     "activeDeadlineSeconds", "backoffLimit", "ttlSecondsAfterFinished",
        "backoffLimitPerIndex", "maxFailedIndexes"};
    const struct json *rules = json_at(spec, "podFailurePolicy.rules");
    for (size_t i = 0; i < ARRAY_LEN(counts); i++)
        check_not_negative(c, at, spec, counts[i]);
    if (str_eq(json_str_at(spec, "completionMode"), STR("Indexed")) && !check_get(spec, "completions"))
        check_bad(c, FIELD_REQUIRED, AT(at, "completions"), NULL, "when completion mode is Indexed");
    if (json_len(rules) > 20)
        check_bad(c, FIELD_TOO_MANY, AT(AT(at, "podFailurePolicy"), "rules"),
                  json_int(c->arena, (int64_t)json_len(rules)), "must have at most 20 items");
    check_pod_template(c, AT(at, "template"), json_get_c(spec, "template"), job_restarts);
}

/* Scheduling directives of a suspended job that never started may change: queueing systems depend on it. */
static bool is_waiting_job(const struct json *job) {
    return json_bool_at(job, "spec.suspend", false) && json_str_at(job, "status.startTime").n == 0;
}

static void check_job(struct check *c) {
    const struct json *spec = json_get_c(c->object, "spec"), *old = json_get_c(c->old, "spec");
    const struct json *selector = check_get(spec, "selector"), *labels = json_at(spec, "template.metadata.labels");
    const struct where *at = AT(NULL, "spec");
    check_job_spec(c, at, spec);
    if (selector) { /* who writes a job need not know it: it is made for him */
        struct label_selector *s = label_selector_from_json(c->arena, selector, NULL);
        check_label_selector(c, AT(at, "selector"), selector);
        if (s && !label_selector_matches(s, labels))
            check_bad(c, FIELD_INVALID, AT(AT(AT(at, "template"), "metadata"), "labels"),
                      labels ? labels : json_object(c->arena), "`selector` does not match template `labels`");
    }
    if (!c->old)
        return;
    check_immutable(c, at, spec, old, "selector");
    check_immutable(c, at, spec, old, "completionMode");
    check_immutable(c, at, spec, old, "podFailurePolicy");
    if (!str_eq(json_str_at(spec, "completionMode"), STR("Indexed")))
        check_immutable(c, at, spec, old, "completions");
    if (!is_waiting_job(c->old))
        check_immutable(c, at, spec, old, "template");
}

/* Only that it looks like a schedule: five fields or a macro. */
static bool is_schedule(struct str s) {
    size_t fields = 0;
    if (s.n && s.p[0] == '@')
        return s.n > 1;
    for (size_t i = 0; i < s.n; i++) {
        bool blank = s.p[i] == ' ' || s.p[i] == '\t';
        fields += !blank && (i == 0 || s.p[i - 1] == ' ' || s.p[i - 1] == '\t');
        if (!blank && !strchr("0123456789*/,-?LW#", s.p[i]) && !((s.p[i] | 0x20) >= 'a' && (s.p[i] | 0x20) <= 'z'))
            return false;
    }
    return fields == 5;
}

static void check_cronjob(struct check *c) {
    static const char *const counts[] = {"startingDeadlineSeconds", "successfulJobsHistoryLimit",
                                         "failedJobsHistoryLimit"};
    const struct json *spec = json_get_c(c->object, "spec"), *job = json_at(spec, "jobTemplate.spec");
    const struct where *at = AT(NULL, "spec"), *here = AT(AT(at, "jobTemplate"), "spec");
    struct str schedule = json_str_at(spec, "schedule");
    if (check_required(c, at, spec, "schedule")) {
        if (str_find(schedule, STR("TZ=")) >= 0 && !c->old)
            check_bad(c, FIELD_INVALID, AT(at, "schedule"), json_get_c(spec, "schedule"),
                      "cannot use TZ or CRON_TZ in schedule, use timeZone field instead");
        else if (str_find(schedule, STR("TZ=")) < 0 && !is_schedule(schedule))
            check_bad(c, FIELD_INVALID, AT(at, "schedule"), json_get_c(spec, "schedule"),
                      "expected exactly 5 fields, found another form");
    }
    for (size_t i = 0; i < ARRAY_LEN(counts); i++)
        check_not_negative(c, at, spec, counts[i]);
    check_job_spec(c, here, job);
    if (json_bool_at(job, "manualSelector", false))
        check_bad(c, FIELD_NOT_SUPPORTED, AT(here, "manualSelector"), json_get_c(job, "manualSelector"),
                  "supported values: \"nil\", \"false\"");
}

/* --- autoscalers, budgets --- */

static void check_autoscaler(struct check *c) {
    const struct json *spec = json_get_c(c->object, "spec"), *most = json_get_c(spec, "maxReplicas");
    const struct json *least = check_get(spec, "minReplicas"), *ref = json_get_c(spec, "scaleTargetRef");
    const struct where *at = AT(NULL, "spec");
    check_required(c, AT(at, "scaleTargetRef"), ref, "kind");
    check_required(c, AT(at, "scaleTargetRef"), ref, "name");
    check_not_negative(c, at, spec, "minReplicas");
    if (json_as_int(most, 0) < 1)
        check_bad(c, FIELD_INVALID, AT(at, "maxReplicas"), most, "must be greater than 0");
    else if (json_as_int(most, 0) < json_as_int(least, 0))
        check_bad(c, FIELD_INVALID, AT(at, "maxReplicas"), most, "must be greater than or equal to `minReplicas`");
}

static void check_budget(struct check *c) {
    const struct json *spec = json_get_c(c->object, "spec");
    const struct where *at = AT(NULL, "spec");
    if (check_get(spec, "minAvailable") && check_get(spec, "maxUnavailable"))
        check_bad(c, FIELD_INVALID, at, spec, "minAvailable and maxUnavailable cannot be both set");
    check_count_or_percent(c, at, spec, "minAvailable");
    check_count_or_percent(c, at, spec, "maxUnavailable");
    check_label_selector(c, AT(at, "selector"), json_get_c(spec, "selector"));
}

const struct check_kind check_workload_kinds[] = {
    {"deployments.apps", check_deployment},
    {"replicasets.apps", check_replicaset},
    {"replicationcontrollers", check_replicationcontroller},
    {"daemonsets.apps", check_daemonset},
    {"statefulsets.apps", check_statefulset},
    {"jobs.batch", check_job},
    {"cronjobs.batch", check_cronjob},
    {"horizontalpodautoscalers.autoscaling", check_autoscaler},
    {"poddisruptionbudgets.policy", check_budget},
    {NULL, NULL},
};
