/*
 * HorizontalPodAutoscaler: v2beta1 has its metrics flat, v1 has one number and keeps the rest in annotations, in the
 * form of v2beta1.
 */
#include "schema/convert.h"

#define METRICS_ANNOTATION "autoscaling.alpha.kubernetes.io/metrics"
#define CURRENT_ANNOTATION "autoscaling.alpha.kubernetes.io/current-metrics"
#define CONDITIONS_ANNOTATION "autoscaling.alpha.kubernetes.io/conditions"
#define BEHAVIOR_ANNOTATION "autoscaling.alpha.kubernetes.io/behavior"

/* Where v2beta1 has a value flat that v2 has in "target" or "current". */
struct flat {
    const char *source, *flat, *nested, *type; /* type of the target, for specs */
};

static const struct flat spec_values[] = {
    {"resource", "targetAverageUtilization", "averageUtilization", "Utilization"},
    {"resource", "targetAverageValue", "averageValue", "AverageValue"},
    {"containerResource", "targetAverageUtilization", "averageUtilization", "Utilization"},
    {"containerResource", "targetAverageValue", "averageValue", "AverageValue"},
    {"pods", "targetAverageValue", "averageValue", "AverageValue"},
    {"object", "averageValue", "averageValue", "AverageValue"},
    {"object", "targetValue", "value", "Value"},
    {"external", "targetValue", "value", "Value"},
    {"external", "targetAverageValue", "averageValue", "AverageValue"},
};

static const struct flat status_values[] = {
    {"resource", "currentAverageUtilization", "averageUtilization", NULL},
    {"resource", "currentAverageValue", "averageValue", NULL},
    {"containerResource", "currentAverageUtilization", "averageUtilization", NULL},
    {"containerResource", "currentAverageValue", "averageValue", NULL},
    {"pods", "currentAverageValue", "averageValue", NULL},
    {"object", "currentValue", "value", NULL},
    {"object", "averageValue", "averageValue", NULL},
    {"external", "currentValue", "value", NULL},
    {"external", "currentAverageValue", "averageValue", NULL},
};

static const char *const metric_sources[] = {"pods", "object", "external"};

static bool is_external(const char *source) {
    return strcmp(source, "external") == 0;
}

/* metricName and selector <-> metric{name, selector}; an object's target <-> describedObject. */
static void metric_in(struct arena *a, struct json *m) {
    for (size_t i = 0; i < ARRAY_LEN(metric_sources); i++) {
        struct json *source = convert_get(m, metric_sources[i]), *metric = json_object(a);
        if (!json_is(source, JSON_OBJECT))
            continue;
        convert_move(a, source, "metricName", metric, "name");
        convert_move(a, source, is_external(metric_sources[i]) ? "metricSelector" : "selector", metric, "selector");
        json_set_c(a, source, "metric", metric);
    }
    struct json *object = convert_get(m, "object");
    if (object)
        convert_move(a, object, "target", object, "describedObject");
}

static void metric_out(struct arena *a, struct json *m) {
    struct json *object = convert_get(m, "object");
    if (object)
        convert_move(a, object, "describedObject", object, "target");
    for (size_t i = 0; i < ARRAY_LEN(metric_sources); i++) {
        struct json *source = convert_get(m, metric_sources[i]), *metric = convert_get(source, "metric");
        if (!json_is(metric, JSON_OBJECT))
            continue;
        convert_move(a, metric, "name", source, "metricName");
        convert_move(a, metric, "selector", source, is_external(metric_sources[i]) ? "metricSelector" : "selector");
        json_del_c(source, "metric");
    }
}

/* Whether a quantity says something: v2beta1 has to write some that are not meant, as 0. */
static bool is_meant(const struct json *v) {
    return v && !(v->type == JSON_STRING && str_eq(v->s, STR("0")));
}

static void values_in(struct arena *a, struct json *m, const struct flat *values, size_t n, const char *member) {
    for (size_t i = 0; i < n; i++) {
        struct json *source = convert_get(m, values[i].source), *value = convert_get(source, values[i].flat);
        if (!json_is(source, JSON_OBJECT))
            continue;
        struct json *nested = convert_get(source, member);
        if (!nested) {
            nested = json_object(a);
            json_set_c(a, source, member, nested);
        }
        if (!value)
            continue;
        json_del_c(source, values[i].flat);
        if (values[i].type && convert_get(nested, "type") && !is_meant(value))
            continue;
        json_set_c(a, nested, values[i].nested, value);
        if (values[i].type)
            json_set_cstr(a, nested, "type", values[i].type);
    }
}

static void values_out(struct arena *a, struct json *m, const struct flat *values, size_t n, const char *member) {
    for (size_t i = 0; i < n; i++) {
        struct json *source = convert_get(m, values[i].source);
        if (json_is(convert_get(source, member), JSON_OBJECT))
            convert_move(a, convert_get(source, member), values[i].nested, source, values[i].flat);
    }
    for (size_t i = 0; i < n; i++)
        if (json_is(convert_get(m, values[i].source), JSON_OBJECT))
            json_del_c(convert_get(m, values[i].source), member);
}

static void metrics_in(struct arena *a, const struct json *list, bool status) {
    for (size_t i = 0; i < json_len(list); i++) {
        struct json *m = json_item(list, i);
        metric_in(a, m);
        if (status)
            values_in(a, m, status_values, ARRAY_LEN(status_values), "current");
        else
            values_in(a, m, spec_values, ARRAY_LEN(spec_values), "target");
    }
}

static void metrics_out(struct arena *a, const struct json *list, bool status) {
    for (size_t i = 0; i < json_len(list); i++) {
        struct json *m = json_item(list, i);
        if (status)
            values_out(a, m, status_values, ARRAY_LEN(status_values), "current");
        else
            values_out(a, m, spec_values, ARRAY_LEN(spec_values), "target");
        metric_out(a, m);
    }
}

int convert_hpa_v2beta1_in(struct arena *a, struct json *v, struct error *err) {
    metrics_in(a, convert_get(convert_get(v, "spec"), "metrics"), false);
    metrics_in(a, convert_get(convert_get(v, "status"), "currentMetrics"), true);
    return 0;
}

int convert_hpa_v2beta1_out(struct arena *a, struct json *v, struct error *err) {
    metrics_out(a, convert_get(convert_get(v, "spec"), "metrics"), false);
    metrics_out(a, convert_get(convert_get(v, "status"), "currentMetrics"), true);
    return 0;
}

/* --- v1 --- */

/* Takes an annotation away and gives its JSON; NULL when it is absent or no JSON. */
static struct json *take_annotation(struct arena *a, struct json *v, const char *key) {
    struct json *annotations = convert_get(convert_get(v, "metadata"), "annotations");
    struct json *text = convert_get(annotations, key);
    if (!json_is(text, JSON_STRING))
        return NULL;
    json_del_c(annotations, key);
    if (annotations->n == 0)
        json_del_c(convert_get(v, "metadata"), "annotations");
    return json_parse(a, text->s, NULL, NULL);
}

static void put_annotation(struct arena *a, struct json *v, const char *key, const struct json *value) {
    struct json *annotations = json_ensure(a, v, "metadata.annotations");
    if (annotations)
        json_set_str(a, annotations, key, json_text(a, value));
}

/* The metric that the one number of v1 stands for. */
static struct json *cpu_metric(struct arena *a, const char *member, struct json *utilization) {
    struct json *m = json_object(a), *inner;
    json_set_cstr(a, m, "type", "Resource");
    json_put(a, m, "resource.name", json_cstr(a, "cpu"));
    inner = json_object(a);
    if (strcmp(member, "target") == 0)
        json_set_cstr(a, inner, "type", "Utilization");
    json_set_c(a, inner, "averageUtilization", utilization);
    json_set_c(a, json_get_c(m, "resource"), member, inner);
    return m;
}

static struct json *own_list(struct arena *a, struct json *v, const char *key) {
    struct json *list = take_annotation(a, v, key);
    return json_is(list, JSON_ARRAY) ? list : json_array(a);
}

int convert_hpa_v1_in(struct arena *a, struct json *v, struct error *err) {
    struct json *spec = convert_get(v, "spec"), *status = convert_get(v, "status");
    struct json *metrics = own_list(a, v, METRICS_ANNOTATION), *current = own_list(a, v, CURRENT_ANNOTATION);
    struct json *conditions = take_annotation(a, v, CONDITIONS_ANNOTATION);
    struct json *behavior = take_annotation(a, v, BEHAVIOR_ANNOTATION);
    metrics_in(a, metrics, false);
    metrics_in(a, current, true);
    struct json *target = convert_get(spec, "targetCPUUtilizationPercentage");
    struct json *now = convert_get(status, "currentCPUUtilizationPercentage");
    if (target)
        json_insert(a, metrics, 0, cpu_metric(a, "target", target));
    if (now && current->n == 0)
        json_insert(a, current, 0, cpu_metric(a, "current", now));
    if (spec && metrics->n > 0)
        json_set_c(a, spec, "metrics", metrics);
    if (spec && json_is(behavior, JSON_OBJECT))
        json_set_c(a, spec, "behavior", behavior);
    if (status && current->n > 0)
        json_set_c(a, status, "currentMetrics", current);
    if (status && json_is(conditions, JSON_ARRAY))
        json_set_c(a, status, "conditions", conditions);
    return 0;
}

static bool is_cpu(const struct json *m) {
    return str_eq(json_str_at(m, "type"), STR("Resource")) && str_eq(json_str_at(m, "resource.name"), STR("cpu"));
}

int convert_hpa_v1_out(struct arena *a, struct json *v, struct error *err) {
    struct json *spec = convert_get(v, "spec"), *status = convert_get(v, "status");
    struct json *metrics = convert_get(spec, "metrics"), *current = convert_get(status, "currentMetrics");
    for (size_t i = 0; i < json_len(metrics); i++) {
        struct json *target = json_at(json_item(metrics, i), "resource.target.averageUtilization");
        if (!is_cpu(json_item(metrics, i)) || !target)
            continue;
        json_set_c(a, spec, "targetCPUUtilizationPercentage", target);
        json_remove(metrics, i);
        break;
    }
    for (size_t i = 0; i < json_len(current); i++) {
        struct json *now = json_at(json_item(current, i), "resource.current.averageUtilization");
        if (is_cpu(json_item(current, i)) && now)
            json_set_c(a, status, "currentCPUUtilizationPercentage", now);
    }
    metrics_out(a, metrics, false);
    metrics_out(a, current, true);
    const struct json *conditions = convert_get(status, "conditions"), *behavior = convert_get(spec, "behavior");
    if (json_len(metrics) > 0)
        put_annotation(a, v, METRICS_ANNOTATION, metrics);
    if (json_len(current) > 0)
        put_annotation(a, v, CURRENT_ANNOTATION, current);
    if (json_len(conditions) > 0)
        put_annotation(a, v, CONDITIONS_ANNOTATION, conditions);
    if (behavior)
        put_annotation(a, v, BEHAVIOR_ANNOTATION, behavior);
    return 0;
}
