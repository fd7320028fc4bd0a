/* The cells of pods: what a person sees first when something is wrong, so every case of Kubernetes' printer is here. */
#include "schema/table.h"

#include <inttypes.h>
#include <stdio.h>

struct restarts {
    int64_t count;
    struct timespec last; /* end of the last container that ended; 0: none */
};

static void count_restarts(struct restarts *r, const struct json *status) {
    struct timespec t;
    r->count += json_int_at(status, "restartCount", 0);
    if (time_parse(json_str_at(status, "lastState.terminated.finishedAt"), &t) && t.tv_sec > r->last.tv_sec)
        r->last = t;
}

static const struct json *named(const struct json *list, struct str name) {
    for (size_t i = 0; i < json_len(list); i++)
        if (str_eq(json_str_at(json_item(list, i), "name"), name))
            return json_item(list, i);
    return NULL;
}

/* A sidecar: an init container that keeps running. */
static bool is_restartable(const struct json *container) {
    return str_eq(json_str_at(container, "restartPolicy"), STR("Always"));
}

/* Why a container ended, with a prefix. */
static struct str ended(struct table_row *row, const char *prefix, const struct json *terminated) {
    struct str reason = json_str_at(terminated, "reason");
    int64_t signal = json_int_at(terminated, "signal", 0);
    if (reason.n)
        return str_printf(row->arena, "%s%.*s", prefix, STR_ARG(reason));
    if (signal)
        return str_printf(row->arena, "%sSignal:%" PRId64, prefix, signal);
    return str_printf(row->arena, "%sExitCode:%" PRId64, prefix, json_int_at(terminated, "exitCode", 0));
}

struct summary {
    struct table_row *row;
    const struct json *spec, *status;
    struct str reason;
    int64_t ready, total;
    struct restarts all, sidecars;
};

/* Whether initialisation has not come further than this container. */
static bool init_stops_at(struct summary *s, size_t i, const struct json *status, bool sidecar) {
    const struct json *terminated = json_at(status, "state.terminated");
    struct str waiting = json_str_at(status, "state.waiting.reason");
    if (json_is(terminated, JSON_OBJECT) && json_int_at(terminated, "exitCode", 0) == 0)
        return false;
    if (sidecar && json_bool_at(status, "started", false)) {
        s->ready += json_bool_at(status, "ready", false);
        return false;
    }
    if (json_is(terminated, JSON_OBJECT))
        s->reason = ended(s->row, "Init:", terminated);
    else if (waiting.n && !str_eq(waiting, STR("PodInitializing")))
        s->reason = str_printf(s->row->arena, "Init:%.*s", STR_ARG(waiting));
    else
        s->reason = str_printf(s->row->arena, "Init:%zu/%zu", i, json_len(json_get_c(s->spec, "initContainers")));
    return true;
}

static bool summarize_init(struct summary *s) {
    const struct json *list = json_get_c(s->status, "initContainerStatuses");
    for (size_t i = 0; i < json_len(list); i++) {
        const struct json *status = json_item(list, i);
        bool sidecar = is_restartable(named(json_get_c(s->spec, "initContainers"), json_str_at(status, "name")));
        count_restarts(&s->all, status);
        if (sidecar)
            count_restarts(&s->sidecars, status);
        if (init_stops_at(s, i, status, sidecar))
            return true;
    }
    return false;
}

static bool has_condition(const struct summary *s, const char *type) {
    return str_eq(json_str_at(table_condition(s->row->object, type), "status"), STR("True"));
}

static void summarize_containers(struct summary *s) {
    const struct json *list = json_get_c(s->status, "containerStatuses");
    bool running = false;
    s->all = s->sidecars;
    for (size_t i = json_len(list); i-- > 0;) {
        const struct json *status = json_item(list, i), *terminated = json_at(status, "state.terminated");
        struct str waiting = json_str_at(status, "state.waiting.reason");
        count_restarts(&s->all, status);
        if (waiting.n) {
            s->reason = waiting;
        } else if (json_is(terminated, JSON_OBJECT)) {
            s->reason = ended(s->row, "", terminated);
        } else if (json_bool_at(status, "ready", false) && json_is(json_at(status, "state.running"), JSON_OBJECT)) {
            running = true;
            s->ready++;
        }
    }
    if (running && str_eq(s->reason, STR("Completed")))
        s->reason = has_condition(s, "Ready") ? STR("Running") : STR("NotReady");
}

static void summarize(struct table_row *row) {
    if (row->pod.done)
        return;
    const struct json *pod = row->object, *init = json_at(pod, "spec.initContainers");
    struct summary s = {.row = row, .spec = json_get_c(pod, "spec"), .status = json_get_c(pod, "status")};
    struct str phase = json_str_at(s.status, "phase"), why = json_str_at(s.status, "reason");
    char age[TABLE_AGE_MAX];
    s.reason = why.n ? why : phase;
    if (str_eq(json_str_at(table_condition(pod, "PodScheduled"), "reason"), STR("SchedulingGated")))
        s.reason = STR("SchedulingGated");
    s.total = (int64_t)json_len(json_get_c(s.spec, "containers"));
    for (size_t i = 0; i < json_len(init); i++)
        s.total += is_restartable(json_item(init, i));
    if (!summarize_init(&s) || has_condition(&s, "Initialized"))
        summarize_containers(&s);
    if (json_str_at(pod, "metadata.deletionTimestamp").n) {
        if (str_eq(why, STR("NodeLost")))
            s.reason = STR("Unknown");
        else if (!str_eq(phase, STR("Succeeded")) && !str_eq(phase, STR("Failed")))
            s.reason = STR("Terminating");
    }
    snprintf(row->pod.ready, sizeof(row->pod.ready), "%" PRId64 "/%" PRId64, s.ready, s.total);
    row->pod.status = s.reason;
    row->pod.restarts = str_printf(row->arena, "%" PRId64, s.all.count);
    if (s.all.count && s.all.last.tv_sec)
        row->pod.restarts = str_printf(row->arena, "%" PRId64 " (%s ago)", s.all.count,
                                       table_duration(row->now_s - s.all.last.tv_sec, age));
    row->pod.done = true;
}

static struct json *pod_ready(struct table_row *row) {
    summarize(row);
    return json_cstr(row->arena, row->pod.ready);
}

static struct json *pod_status(struct table_row *row) {
    summarize(row);
    return table_text(row, row->pod.status);
}

static struct json *pod_restarts(struct table_row *row) {
    summarize(row);
    return table_text(row, row->pod.restarts);
}

static struct json *pod_readiness_gates(struct table_row *row) {
    const struct json *gates = json_at(row->object, "spec.readinessGates");
    size_t met = 0;
    if (json_len(gates) == 0)
        return json_cstr(row->arena, "<none>");
    for (size_t i = 0; i < json_len(gates); i++) {
        struct str type = json_str_at(json_item(gates, i), "conditionType");
        const struct json *c = table_condition(row->object, type.p);
        met += str_eq(json_str_at(c, "status"), STR("True"));
    }
    return json_strf(row->arena, "%zu/%zu", met, json_len(gates));
}

struct json *table_pod_condition(struct table_row *row) {
    struct str phase = json_str_at(row->object, "status.phase");
    bool failed = str_eq(phase, STR("Failed"));
    if (!failed && !str_eq(phase, STR("Succeeded")))
        return NULL;
    struct json *c = json_object(row->arena);
    json_set_cstr(row->arena, c, "type", "Completed");
    json_set_cstr(row->arena, c, "status", "True");
    json_set_str(row->arena, c, "reason", phase);
    json_set_cstr(row->arena, c, "message", failed ? "The pod failed." : "The pod has completed successfully.");
    return c;
}

const struct table_cell table_pod_cells[] = {
    {"pod-ready", pod_ready},
    {"pod-status", pod_status},
    {"pod-restarts", pod_restarts},
    {"pod-readiness-gates", pod_readiness_gates},
    {NULL, NULL},
};
