/* The status of a pod as a kubelet reports it, and writing it: the changes of a moment become one write. */
#include <stdio.h>
#include <stdlib.h>

#include "node/node_priv.h"

#define RETRY_MS 1000

/* --- phase ------------------------------------------------------------------------------------------------------ */

static bool ended_well(const struct slot *s) {
    return s->state == SLOT_EXITED && s->now.exit_code == 0;
}

const char *pod_phase(const struct pod *p) {
    size_t failed = 0, ended = 0, waiting = 0, mains = p->slots_n - p->init_n;
    if (p->fail_reason[0])
        return "Failed";
    for (size_t i = 0; i < p->init_n; i++) {
        const struct slot *s = &p->slots[i];
        if (s->kind == SLOT_SIDECAR)
            continue;
        if (s->state == SLOT_EXITED && s->now.exit_code != 0 && p->finished)
            return "Failed";
        if (!ended_well(s) && !p->finished)
            return "Pending";
    }
    for (size_t i = p->init_n; i < p->slots_n; i++) {
        const struct slot *s = &p->slots[i];
        bool over = s->state == SLOT_EXITED && s->has_run;
        ended += over;
        failed += over && s->now.exit_code != 0;
        waiting += !s->has_run && !s->has_last;
    }
    if (p->finished && !p->terminating)
        return failed ? "Failed" : "Succeeded";
    if (p->finished && ended == mains && mains)
        return failed ? "Failed" : "Succeeded";
    if (p->finished)
        return "Failed";
    return waiting ? "Pending" : "Running";
}

/* --- containers ------------------------------------------------------------------------------------------------- */

static void put_time(struct arena *a, struct json *o, const char *key, struct timespec t) {
    char text[TIME_RFC3339_MAX];
    if (t.tv_sec > 0)
        json_set_cstr(a, o, key, time_format(t, 0, text));
    else
        json_set_c(a, o, key, json_null(a));
}

static const char *exit_reason(const struct container_status *st, const char *special) {
    if (st->oom_killed)
        return "OOMKilled";
    if (special[0])
        return special;
    return st->exit_code == 0 ? "Completed" : "Error";
}

static struct json *terminated(struct arena *a, const struct container_status *st, const char *id, const char *special,
                               const char *message) {
    struct json *t = json_object(a);
    if (id[0])
        json_set(a, t, STR("containerID"), json_strf(a, "dory://%s", id));
    json_set_int(a, t, "exitCode", st->exit_code);
    put_time(a, t, "finishedAt", st->finished_at);
    if (message[0])
        json_set_cstr(a, t, "message", message);
    json_set_cstr(a, t, "reason", exit_reason(st, special));
    if (st->signal)
        json_set_int(a, t, "signal", st->signal);
    put_time(a, t, "startedAt", st->started_at);
    return t;
}

static struct json *state_of(const struct slot *s, struct arena *a) {
    struct json *state = json_object(a), *detail = json_object(a);
    bool over = s->has_run && s->state == SLOT_EXITED;
    if (slot_is_running(s)) {
        put_time(a, detail, "startedAt", s->now.started_at);
        json_set_c(a, state, "running", detail);
    } else if (over) {
        json_set_c(a, state, "terminated", terminated(a, &s->now, s->id, s->last_reason, s->exit_message));
    } else {
        bool first = !s->has_run && !s->has_last;
        const char *reason = s->reason[0] ? s->reason : "ContainerCreating";
        if (first && s->kind == SLOT_MAIN && s->pod->init_n && strcmp(reason, "ContainerCreating") == 0)
            reason = "PodInitializing";
        if (s->message[0])
            json_set_cstr(a, detail, "message", s->message);
        json_set_cstr(a, detail, "reason", reason);
        json_set_c(a, state, "waiting", detail);
    }
    return state;
}

static bool is_ready(const struct slot *s) {
    if (s->kind == SLOT_INIT)
        return ended_well(s);
    return slot_is_running(s) && s->started && s->ready && !s->kill_by_probe;
}

static struct json *container_json(const struct slot *s, struct arena *a) {
    struct json *c = json_object(a), *last = json_object(a);
    bool waiting_after_run = s->has_run && s->state != SLOT_RUNNING && s->state != SLOT_EXITED;
    if (s->id[0])
        json_set(a, c, STR("containerID"), json_strf(a, "dory://%s", s->id));
    json_set_str(a, c, "image", s->image_name[0] ? str_c(s->image_name) : json_str_at(s->spec, "image"));
    json_set_cstr(a, c, "imageID", s->image_id);
    if (waiting_after_run)
        json_set_c(a, last, "terminated", terminated(a, &s->now, s->id, s->last_reason, s->exit_message));
    else if (s->has_last)
        json_set_c(a, last, "terminated", terminated(a, &s->last, s->last_id, "", s->last_message));
    json_set_c(a, c, "lastState", last);
    json_set_str(a, c, "name", s->name);
    json_set_bool(a, c, "ready", is_ready(s));
    json_set_int(a, c, "restartCount", s->restart_count);
    json_set_bool(a, c, "started", slot_is_running(s) && s->started);
    json_set_c(a, c, "state", state_of(s, a));
    return c;
}

/* --- conditions ------------------------------------------------------------------------------------------------- */

static const struct json *find_condition(const struct json *list, const char *type) {
    for (size_t i = 0; i < json_len(list); i++)
        if (str_eq_c(json_str_at(json_item(list, i), "type"), type))
            return json_item(list, i);
    return NULL;
}

static void add_condition(struct pod *p, struct arena *a, struct json *list, const char *type, bool is_true,
                          const char *reason, const char *message) {
    const struct json *o = object_json(p->object),
                      *old = find_condition(json_get_c(p->status_sent, "conditions"), type);
    char now[TIME_RFC3339_MAX];
    struct json *c = json_object(a);
    if (!old)
        old = find_condition(json_at(o, "status.conditions"), type);
    bool same = str_eq_c(json_str_at(old, "status"), is_true ? "True" : "False");
    time_now_rfc3339(now);
    json_set_cstr(a, c, "type", type);
    json_set_cstr(a, c, "status", is_true ? "True" : "False");
    json_set_int(a, c, "observedGeneration", json_int_at(o, "metadata.generation", 1));
    json_set_c(a, c, "lastProbeTime", json_null(a));
    json_set_str(a, c, "lastTransitionTime", same ? json_str_at(old, "lastTransitionTime") : str_c(now));
    if (!is_true && reason)
        json_set_cstr(a, c, "reason", reason);
    if (!is_true && message && message[0])
        json_set_cstr(a, c, "message", message);
    json_append(a, list, c);
}

/* "containers with unready status: [a b]" */
static const char *unready_names(const struct pod *p, struct arena *a, bool init) {
    struct buf b = BUF_INIT;
    size_t n = 0;
    for (size_t i = init ? 0 : p->init_n; i < (init ? p->init_n : p->slots_n); i++) {
        const struct slot *s = &p->slots[i];
        bool ok = init ? (s->kind == SLOT_SIDECAR ? s->started : ended_well(s)) : is_ready(s);
        if (!ok)
            buf_printf(&b, "%s%.*s", n++ ? " " : "", STR_ARG(s->name));
    }
    const char *text =
        n == 0
            ? NULL
            : arena_printf(a, init ? "containers with incomplete status: [%s]" : "containers with unready status: [%s]",
                           b.p);
    buf_fini(&b);
    return text;
}

static bool gates_pass(const struct pod *p) {
    const struct json *o = object_json(p->object), *gates = json_at(o, "spec.readinessGates");
    for (size_t i = 0; i < json_len(gates); i++) {
        struct str type = json_str_at(json_item(gates, i), "conditionType");
        char name[320];
        snprintf(name, sizeof(name), "%.*s", STR_ARG(type));
        if (!str_eq(json_str_at(find_condition(json_at(o, "status.conditions"), name), "status"), STR("True")))
            return false;
    }
    return true;
}

static struct json *conditions(struct pod *p, struct arena *a, const char *phase) {
    struct json *list = json_array(a);
    const char *init = unready_names(p, a, true), *unready = unready_names(p, a, false);
    bool over = strcmp(phase, "Succeeded") == 0 || strcmp(phase, "Failed") == 0;
    bool completed = strcmp(phase, "Succeeded") == 0;
    const char *why = over ? (completed ? "PodCompleted" : "PodFailed") : "ContainersNotReady";
    add_condition(p, a, list, "PodReadyToStartContainers", p->sandbox && p->has_net, NULL, NULL);
    add_condition(p, a, list, "Initialized", !init || completed, "ContainersNotInitialized", init);
    bool ready = !unready && !over && gates_pass(p);
    add_condition(p, a, list, "Ready", ready, !unready && !over ? "ReadinessGatesNotReady" : why,
                  over ? NULL : unready);
    add_condition(p, a, list, "ContainersReady", !unready && !over, why, over ? NULL : unready);
    add_condition(p, a, list, "PodScheduled", true, NULL, NULL);
    /* Conditions of others (readiness gates, DisruptionTarget) stay. */
    const struct json *stored = json_at(object_json(p->object), "status.conditions");
    for (size_t i = 0; i < json_len(stored); i++) {
        struct str type = json_str_at(json_item(stored, i), "type");
        bool ours = false;
        for (size_t k = 0; k < json_len(list); k++)
            ours |= str_eq(json_str_at(json_item(list, k), "type"), type);
        if (!ours)
            json_append(a, list, json_copy(a, json_item(stored, i)));
    }
    return list;
}

bool pod_is_ready_now(const struct pod *p) {
    for (size_t i = p->init_n; i < p->slots_n; i++)
        if (!is_ready(&p->slots[i]))
            return false;
    return p->slots_n > p->init_n;
}

/* --- the whole -------------------------------------------------------------------------------------------------- */

static struct json *ip_list(struct arena *a, const char *ip) {
    struct json *list = json_array(a), *o = json_object(a);
    json_set_cstr(a, o, "ip", ip);
    json_append(a, list, o);
    return list;
}

struct json *pod_status_make(struct pod *p, struct arena *a) {
    struct json *s = json_object(a), *init = json_array(a), *main = json_array(a);
    const char *phase = pod_phase(p);
    json_set_c(a, s, "conditions", conditions(p, a, phase));
    for (size_t i = 0; i < p->slots_n; i++)
        json_append(a, i < p->init_n ? init : main, container_json(&p->slots[i], a));
    json_set_c(a, s, "containerStatuses", main);
    json_set_cstr(a, s, "hostIP", p->node->o.address);
    json_set_c(a, s, "hostIPs", ip_list(a, p->node->o.address));
    if (json_len(init))
        json_set_c(a, s, "initContainerStatuses", init);
    if (p->fail_message[0])
        json_set_cstr(a, s, "message", p->fail_message);
    json_set_int(a, s, "observedGeneration", json_int_at(object_json(p->object), "metadata.generation", 1));
    json_set_cstr(a, s, "phase", phase);
    if (p->has_net) {
        json_set_cstr(a, s, "podIP", p->net.ips[0]);
        json_set_c(a, s, "podIPs", ip_list(a, p->net.ips[0]));
    }
    json_set_cstr(a, s, "qosClass", pod_qos(object_json(p->object)));
    if (p->fail_reason[0])
        json_set_cstr(a, s, "reason", p->fail_reason);
    json_set_cstr(a, s, "startTime", p->started_at);
    return s;
}

/* --- writing ---------------------------------------------------------------------------------------------------- */

static void flush(void *arg);

static void written(void *arg, int code, struct object *o, const struct api_status *status) {
    struct pod *p = arg;
    (void)o;
    p->status_flying = false;
    if (p->node->stopping)
        return;
    if (code < 0 && code != -ENOENT) {
        log_warn("node", "status of %.*s/%.*s: %.*s", STR_ARG(p->ns), STR_ARG(p->name), STR_ARG(status->message));
        arena_free(p->status_arena);
        p->status_arena = NULL;
        p->status_sent = NULL;
        p->status_dirty = true;
        timer_set(&p->retry_timer, RETRY_MS, RETRY_MS / 2);
    }
    if (p->status_dirty && code == 0)
        flush(p);
    pod_want_sync(p);
}

/* Null where something that was sent is not there any more: a merge patch leaves alone what it does not name. */
static void null_what_went(struct arena *a, struct json *now, const struct json *before) {
    for (uint32_t i = 0; json_is(before, JSON_OBJECT) && i < before->n; i++)
        if (!json_get(now, before->members[i].key))
            json_set(a, now, before->members[i].key, json_null(a));
}

static void flush(void *arg) {
    struct pod *p = arg;
    if (p->status_flying || p->delete_sent || p->gone_from_api || p->node->stopping)
        return;
    p->status_dirty = false;
    struct arena *a = arena_new(KiB(8), 0);
    struct json *status = pod_status_make(p, a);
    if (json_equal(status, p->status_sent)) {
        arena_free(a);
        return;
    }
    struct json *body = json_object(a), *sent = json_copy(a, status);
    null_what_went(a, sent, p->status_sent);
    json_set_c(a, body, "status", sent);
    json_put(a, body, "metadata.uid", json_str(a, p->uid));
    p->status_flying = true;
    client_do(p->node->client, &(struct client_request){.verb = CLIENT_PATCH_MERGE,
                                                        .resource = "pods",
                                                        .ns = p->ns,
                                                        .name = p->name,
                                                        .subresource = STR("status"),
                                                        .body = body,
                                                        .loop = p->node->loop,
                                                        .done = written,
                                                        .arg = p});
    arena_free(p->status_arena);
    p->status_arena = a;
    p->status_sent = status;
}

static void flush_posted(void *arg) {
    struct node *n = arg;
    struct map_entry *e;
    n->flush_posted = false;
    for (size_t i = 0; (e = map_next(&n->pods, &i));) {
        struct pod *p = e->value;
        if (p->status_dirty)
            flush(p);
    }
}

void pod_status_dirty(struct pod *p) {
    struct node *n = p->node;
    p->status_dirty = true;
    if (n->flush_posted)
        return;
    n->flush_posted = true;
    loop_post(n->loop, flush_posted, n);
}
