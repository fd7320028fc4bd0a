/* Cells of the workloads: controllers of pods, jobs and autoscalers. */
#include "schema/table.h"

#include <inttypes.h>

#define METRICS_SHOWN_MAX 2

/* --- pod templates --- */

static const struct json *template_of(struct table_row *row) {
    static const char *const paths[] = {"spec.template", "spec.jobTemplate.spec.template", "template"};
    for (size_t i = 0; i < ARRAY_LEN(paths); i++)
        if (json_is(json_at(row->object, paths[i]), JSON_OBJECT))
            return json_at(row->object, paths[i]);
    return NULL;
}

static struct json *each_container(struct table_row *row, const char *member) {
    const struct json *list = json_at(template_of(row), "spec.containers");
    struct table_list l = {.text = BUF_INIT};
    for (size_t i = 0; i < json_len(list); i++)
        table_list_add(&l, json_str_at(json_item(list, i), member));
    return table_list_cell(row, &l, "");
}

static struct json *template_containers(struct table_row *row) {
    return each_container(row, "name");
}

static struct json *template_images(struct table_row *row) {
    return each_container(row, "image");
}

static struct json *podtemplate_pod_labels(struct table_row *row) {
    return table_labels(row, json_at(template_of(row), "metadata.labels"), "<none>");
}

static struct json *label_selector(struct table_row *row, const struct json *v) {
    struct label_selector *s = json_is(v, JSON_OBJECT) ? label_selector_from_json(row->arena, v, NULL) : NULL;
    if (!s || label_selector_empty(s))
        return json_cstr(row->arena, "<none>");
    return table_text(row, label_selector_text(row->arena, s));
}

static struct json *selector(struct table_row *row) {
    const struct json *v = json_at(row->object, "spec.selector");
    if (str_eq(row->resource->key, STR("replicationcontrollers"))) /* a plain map */
        return table_labels(row, v, "<none>");
    return label_selector(row, v);
}

static struct json *cronjob_selector(struct table_row *row) {
    return label_selector(row, json_at(row->object, "spec.jobTemplate.spec.selector"));
}

static struct json *networkpolicy_pod_selector(struct table_row *row) {
    return label_selector(row, json_at(row->object, "spec.podSelector"));
}

static struct json *ready_of_wanted(struct table_row *row) {
    return json_strf(row->arena, "%" PRId64 "/%" PRId64, json_int_at(row->object, "status.readyReplicas", 0),
                     json_int_at(row->object, "spec.replicas", 0));
}

static struct json *controllerrevision_controller(struct table_row *row) {
    const struct json *owners = json_at(row->object, "metadata.ownerReferences");
    for (size_t i = 0; i < json_len(owners); i++) {
        const struct json *o = json_item(owners, i);
        struct str version = json_str_at(o, "apiVersion"), group = STR("");
        if (!json_bool_at(o, "controller", false))
            continue;
        str_cut(version, '/', &group, NULL);
        struct str kind = str_lower(row->arena, json_str_at(o, "kind"));
        return json_strf(row->arena, "%.*s%s%.*s/%.*s", STR_ARG(kind), group.n ? "." : "", STR_ARG(group),
                         STR_ARG(json_str_at(o, "name")));
    }
    return json_cstr(row->arena, "<none>");
}

/* --- jobs --- */

static bool is_true(struct table_row *row, const char *condition) {
    return str_eq(json_str_at(table_condition(row->object, condition), "status"), STR("True"));
}

static struct json *job_status(struct table_row *row) {
    static const char *const later[] = {"Suspended", "FailureTarget", "SuccessCriteriaMet"};
    if (is_true(row, "Complete"))
        return json_cstr(row->arena, "Complete");
    if (is_true(row, "Failed"))
        return json_cstr(row->arena, "Failed");
    if (json_str_at(row->object, "metadata.deletionTimestamp").n)
        return json_cstr(row->arena, "Terminating");
    for (size_t i = 0; i < ARRAY_LEN(later); i++)
        if (is_true(row, later[i]))
            return json_cstr(row->arena, later[i]);
    return json_cstr(row->arena, "Running");
}

static struct json *job_completions(struct table_row *row) {
    int64_t done = json_int_at(row->object, "status.succeeded", 0);
    int64_t wanted = json_int_at(row->object, "spec.completions", -1);
    int64_t parallel = json_int_at(row->object, "spec.parallelism", 0);
    if (wanted >= 0)
        return json_strf(row->arena, "%" PRId64 "/%" PRId64, done, wanted);
    if (parallel > 1)
        return json_strf(row->arena, "%" PRId64 "/1 of %" PRId64, done, parallel);
    return json_strf(row->arena, "%" PRId64 "/1", done);
}

static struct json *job_duration(struct table_row *row) {
    struct timespec start, end = {.tv_sec = row->now_s};
    char text[TABLE_AGE_MAX];
    if (!time_parse(json_str_at(row->object, "status.startTime"), &start))
        return json_cstr(row->arena, "");
    time_parse(json_str_at(row->object, "status.completionTime"), &end);
    return json_cstr(row->arena, table_duration(end.tv_sec - start.tv_sec, text));
}

static struct json *cronjob_suspend(struct table_row *row) {
    const struct json *v = json_at(row->object, "spec.suspend");
    if (!json_is(v, JSON_BOOL))
        return json_cstr(row->arena, "<unset>");
    return json_cstr(row->arena, v->b ? "True" : "False");
}

/* --- autoscalers --- */

static struct json *hpa_reference(struct table_row *row) {
    const struct json *ref = json_at(row->object, "spec.scaleTargetRef");
    return json_strf(row->arena, "%.*s/%.*s", STR_ARG(json_str_at(ref, "kind")), STR_ARG(json_str_at(ref, "name")));
}

static struct str or_unknown(struct str s) {
    return s.n ? s : STR("<unknown>");
}

static struct str percent(struct table_row *row, const struct json *v, const char *otherwise) {
    return json_is(v, JSON_INT) ? str_printf(row->arena, "%" PRId64 "%%", v->i) : str_c(otherwise);
}

/* "cpu: 10%/80%" of a Resource or ContainerResource metric. */
static struct str resource_metric(struct table_row *row, const struct json *spec, const struct json *status) {
    struct str name = json_str_at(spec, "name"), wanted = json_str_at(spec, "target.averageValue");
    struct str current = or_unknown(json_str_at(status, "current.averageValue"));
    if (!wanted.n) {
        wanted = percent(row, json_at(spec, "target.averageUtilization"), "<auto>");
        current = percent(row, json_at(status, "current.averageUtilization"), "<unknown>");
    }
    return str_printf(row->arena, "%.*s: %.*s/%.*s", STR_ARG(name), STR_ARG(current), STR_ARG(wanted));
}

static struct str plain_metric(struct table_row *row, const struct json *spec, const struct json *status, bool pods) {
    struct str wanted = json_str_at(spec, "target.averageValue");
    const char *suffix = "";
    struct str current = json_str_at(status, "current.averageValue");
    if (wanted.n && !pods) {
        suffix = " (avg)";
    } else if (!wanted.n) {
        wanted = json_str_at(spec, "target.value");
        current = json_str_at(status, "current.value");
    }
    return str_printf(row->arena, "%.*s/%.*s%s", STR_ARG(or_unknown(current)), STR_ARG(wanted), suffix);
}

static struct json *hpa_targets(struct table_row *row) {
    static const struct {
        const char *type, *member;
        bool resource;
    } kinds[] = {{"External", "external", false},
                 {"Pods", "pods", false},
                 {"Object", "object", false},
                 {"Resource", "resource", true},
                 {"ContainerResource", "containerResource", true}};
    const struct json *metrics = json_at(row->object, "spec.metrics");
    struct table_list l = {.text = BUF_INIT, .separator = ", ", .limit = METRICS_SHOWN_MAX};
    for (size_t i = 0; i < json_len(metrics); i++) {
        const struct json *m = json_item(metrics, i),
                          *now = json_item(json_at(row->object, "status.currentMetrics"), i);
        struct str text = STR("<unknown type>");
        for (size_t k = 0; k < ARRAY_LEN(kinds); k++) {
            if (!str_eq_c(json_str_at(m, "type"), kinds[k].type))
                continue;
            const struct json *spec = json_get_c(m, kinds[k].member), *status = json_get_c(now, kinds[k].member);
            text = kinds[k].resource ? resource_metric(row, spec, status) : plain_metric(row, spec, status, k == 1);
        }
        table_list_add(&l, text);
    }
    return table_list_cell(row, &l, "<none>");
}

const struct table_cell table_workload_cells[] = {
    {"template-containers", template_containers},
    {"template-images", template_images},
    {"podtemplate-containers", template_containers},
    {"podtemplate-images", template_images},
    {"podtemplate-pod-labels", podtemplate_pod_labels},
    {"selector", selector},
    {"cronjob-selector", cronjob_selector},
    {"networkpolicy-pod-selector", networkpolicy_pod_selector},
    {"deployment-ready", ready_of_wanted},
    {"statefulset-ready", ready_of_wanted},
    {"controllerrevision-controller", controllerrevision_controller},
    {"job-status", job_status},
    {"job-completions", job_completions},
    {"job-duration", job_duration},
    {"cronjob-suspend", cronjob_suspend},
    {"horizontalpodautoscaler-reference", hpa_reference},
    {"horizontalpodautoscaler-targets", hpa_targets},
    {NULL, NULL},
};
