/* The life of one pod: sandbox, network, volumes, containers, and the way back. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "node/node_priv.h"

#define RETRY_MS 1000
#define GRACE_DEFAULT_S 30

static void sync_pod(struct pod *p);

/* --- making and freeing ----------------------------------------------------------------------------------------- */

static void posted(void *arg) {
    struct pod *p = arg;
    p->sync_posted = false;
    if (!p->node->stopping)
        sync_pod(p);
}

void pod_want_sync(struct pod *p) {
    if (p->sync_posted)
        return;
    p->sync_posted = true;
    loop_post(p->node->loop, posted, p);
}

static void on_retry(void *arg) {
    pod_want_sync(arg);
}

static void on_kill_time(void *arg) {
    struct pod *p = arg;
    slots_kill_now(p);
    pod_want_sync(p);
}

static void on_deadline(void *arg) {
    struct pod *p = arg;
    snprintf(p->fail_reason, sizeof(p->fail_reason), "DeadlineExceeded");
    snprintf(p->fail_message, sizeof(p->fail_message), "Pod was active on the node longer than the specified deadline");
    pod_event(p, "Normal", "DeadlineExceeded", "%s", p->fail_message);
    pod_terminate(p);
}

struct pod *pod_new(struct node *n, struct object *o) {
    struct pod *p = XNEW(struct pod);
    p->node = n;
    p->object = object_ref(o);
    p->arena = arena_new(KiB(2), 0);
    p->ns = str_dup(p->arena, o->ns);
    p->name = str_dup(p->arena, o->name);
    p->uid = str_dup(p->arena, o->uid);
    timer_init(&p->kill_timer, n->loop, on_kill_time, p);
    timer_init(&p->retry_timer, n->loop, on_retry, p);
    timer_init(&p->deadline_timer, n->loop, on_deadline, p);
    struct str started = json_str_at(object_json(o), "status.startTime");
    if (started.n && started.n < sizeof(p->started_at))
        memcpy(p->started_at, started.p, started.n);
    else
        time_now_rfc3339(p->started_at);
    slots_make(p);
    struct str phase = json_str_at(object_json(o), "status.phase");
    p->finished = str_eq(phase, STR("Succeeded")) || str_eq(phase, STR("Failed"));
    if (p->finished)
        p->stage = POD_REMOVED; /* it ended before this process began; only its object is left */
    if (json_str_at(object_json(o), "metadata.deletionTimestamp").n)
        pod_terminate(p);
    return p;
}

void pod_free(struct pod *p) {
    REQUIRE(!p->sync_posted && !p->busy && !p->status_flying);
    slots_fini(p);
    volumes_free(p);
    timer_stop(&p->kill_timer);
    timer_stop(&p->retry_timer);
    timer_stop(&p->deadline_timer);
    arena_free(p->status_arena);
    object_unref(p->object);
    arena_free(p->arena);
    free(p);
}

void pod_refresh(struct pod *p, struct object *o) {
    if (o->revision <= p->object->revision)
        return;
    object_ref(o);
    object_unref(p->object);
    p->object = o;
    slots_rebind(p);
    if (json_str_at(object_json(o), "metadata.deletionTimestamp").n) {
        bool hurry = p->terminating && json_int_at(object_json(o), "metadata.deletionGracePeriodSeconds", 30) == 0;
        pod_terminate(p);
        if (hurry)
            slots_kill_now(p);
    }
    pod_want_sync(p);
}

void pod_removed_from_api(struct pod *p) {
    p->gone_from_api = true;
    if (!p->terminating)
        pod_terminate(p);
    slots_kill_now(p);
    pod_want_sync(p);
}

void pod_event(struct pod *p, const char *type, const char *reason, const char *fmt, ...) {
    char message[1000];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(message, sizeof(message), fmt, ap);
    va_end(ap);
    client_event(p->node->client, p->object, "kubelet", type, reason, message);
}

int64_t pod_grace_s(const struct pod *p) {
    const struct json *o = object_json(p->object);
    int64_t grace = json_int_at(o, "spec.terminationGracePeriodSeconds", GRACE_DEFAULT_S);
    return json_int_at(o, "metadata.deletionGracePeriodSeconds", grace);
}

void pod_terminate(struct pod *p) {
    if (p->terminating)
        return;
    p->terminating = true;
    timer_stop(&p->deadline_timer);
    timer_set(&p->kill_timer, MAX(pod_grace_s(p), (int64_t)1) * 1000, 50);
    pod_want_sync(p);
}

/* --- up --------------------------------------------------------------------------------------------------------- */

static void fail_and_retry(struct pod *p, const char *reason, const char *message) {
    snprintf(p->wait_message, sizeof(p->wait_message), "%.290s", message);
    pod_event(p, "Warning", reason, "%s", message);
    p->stage = POD_NEW;
    timer_set(&p->retry_timer, RETRY_MS, RETRY_MS / 2);
    pod_status_dirty(p);
}

static void remember_network(struct pod *p) {
    struct arena *a = arena_new(KiB(1), 0);
    struct json *m = json_object(a);
    struct error err = {0};
    json_set_str(a, m, "uid", p->uid);
    json_set_str(a, m, "ns", p->ns);
    json_set_str(a, m, "name", p->name);
    json_set_cstr(a, m, "ip", p->net.ips[0]);
    if (sandbox_set_metadata(p->sandbox, json_text(a, m), &err) < 0)
        log_warn("node", "%.*s/%.*s: %s", STR_ARG(p->ns), STR_ARG(p->name), err.msg);
    arena_free(a);
}

static void publish_host_ports(struct pod *p) {
    const struct json *containers = json_at(object_json(p->object), "spec.containers");
    struct arena *a = arena_new(KiB(1), 0);
    struct json *list = json_array(a);
    for (size_t i = 0; i < json_len(containers); i++) {
        const struct json *ports = json_get_c(json_item(containers, i), "ports");
        for (size_t k = 0; k < json_len(ports); k++)
            if (json_int_at(json_item(ports, k), "hostPort", 0))
                json_append(a, list, json_copy(a, json_item(ports, k)));
    }
    if (json_len(list))
        p->node->o.network->host_ports(p->node->o.network_arg, p->uid, p->net.ips[0], list);
    arena_free(a);
}

static bool on_host_network(const struct pod *p) {
    return json_bool_at(object_json(p->object), "spec.hostNetwork", false);
}

static void become_running(struct pod *p) {
    struct error err = {0};
    if (pod_files_write(p, &err) < 0) {
        fail_and_retry(p, "FailedCreatePodSandBox", err.msg);
        return;
    }
    p->stage = POD_RUNNING;
    int64_t deadline = json_int_at(object_json(p->object), "spec.activeDeadlineSeconds", 0);
    struct timespec started;
    if (deadline && time_parse(str_c(p->started_at), &started))
        timer_set(&p->deadline_timer, MAX((started.tv_sec + deadline - time_now_s()) * 1000, INT64_C(1)), 100);
    pod_status_dirty(p);
    pod_want_sync(p);
}

static void network_done(void *arg, int code, const struct pod_network_result *r, const struct error *err) {
    struct pod *p = arg;
    p->busy = false;
    if (code < 0) {
        char text[400];
        snprintf(text, sizeof(text), "Failed to create pod sandbox: failed to set up the pod's network: %.300s",
                 err->msg);
        p->stage = POD_NETWORK; /* the sandbox is fine: only this step again */
        pod_event(p, "Warning", "FailedCreatePodSandBox", "%s", text);
        timer_set(&p->retry_timer, RETRY_MS, RETRY_MS / 2);
        return;
    }
    p->net = *r;
    p->has_net = true;
    remember_network(p);
    publish_host_ports(p);
    pod_want_sync(p);
}

static void sandbox_done(void *arg, struct sandbox *s, int code, const struct error *err) {
    struct pod *p = arg;
    p->busy = false;
    if (code < 0) {
        char text[600];
        snprintf(text, sizeof(text), "Failed to create pod sandbox: %.500s", err->msg);
        fail_and_retry(p, "FailedCreatePodSandBox", text);
        pod_want_sync(p);
        return;
    }
    p->sandbox = s;
    p->stage = POD_NETWORK;
    if (on_host_network(p)) {
        snprintf(p->net.ips[0], sizeof(p->net.ips[0]), "%s", p->node->o.address);
        p->has_net = true;
        remember_network(p);
    }
    pod_want_sync(p);
}

static void start_sandbox(struct pod *p) {
    struct arena *a = arena_new(KiB(2), 0);
    struct sandbox_config cfg = {0};
    sandbox_config_make(p, a, &cfg);
    p->stage = POD_SANDBOX;
    p->busy = true;
    sandbox_start(p->node->runtime, &cfg, sandbox_done, p);
    arena_free(a);
}

static void step_up(struct pod *p) {
    switch (p->stage) {
    case POD_NEW:
        if (!p->node->network_ready && !on_host_network(p)) {
            snprintf(p->wait_message, sizeof(p->wait_message), "network is not ready: %.200s", p->node->network_reason);
            return;
        }
        p->wait_message[0] = 0;
        volumes_start(p);
        start_sandbox(p);
        pod_status_dirty(p);
        return;
    case POD_NETWORK:
        if (!p->has_net) {
            p->busy = true;
            p->node->o.network->attach(p->node->o.network_arg, p->uid, sandbox_netns_fd(p->sandbox), network_done, p);
            return;
        }
        if (volumes_ready(p))
            become_running(p);
        else
            volumes_start(p); /* again, when something was missing */
        return;
    default:
        return;
    }
}

/* --- down ------------------------------------------------------------------------------------------------------- */

static void volumes_gone(void *arg) {
    struct pod *p = arg;
    p->busy = false;
    p->stage = POD_REMOVED;
    pod_want_sync(p);
}

static void sandbox_gone(void *arg) {
    struct pod *p = arg;
    p->node->o.network->detach(p->node->o.network_arg, p->uid);
    volumes_remove(p, volumes_gone, p);
}

static void remove_sandbox(struct pod *p) {
    struct sandbox *s = p->sandbox;
    p->stage = POD_REMOVING;
    p->busy = true;
    for (size_t i = 0; i < p->slots_n; i++)
        p->slots[i].container = NULL; /* they go with it; what they were is in the slots */
    p->sandbox = NULL;
    if (s)
        sandbox_remove(s, sandbox_gone, p);
    else
        sandbox_gone(p);
}

static void deleted(void *arg, int code, struct object *o, const struct api_status *status) {
    struct pod *p = arg;
    (void)o;
    p->status_flying = false;
    if (code < 0 && code != -ENOENT) {
        log_warn("node", "removing pod %.*s/%.*s: %.*s", STR_ARG(p->ns), STR_ARG(p->name), STR_ARG(status->message));
        p->delete_sent = false;
        timer_set(&p->retry_timer, RETRY_MS, RETRY_MS / 2);
        return;
    }
    pod_want_sync(p);
}

static void remove_logs(struct pod *p) {
    struct arena *a = arena_new(KiB(1), 0);
    dir_remove_all(arena_printf(a, "%s/%.*s_%.*s_%.*s", p->node->o.log_dir, STR_ARG(p->ns), STR_ARG(p->name),
                                STR_ARG(p->uid)),
                   NULL);
    arena_free(a);
}

/* Nothing is left on the node: the API object may go, and then we forget it. */
static void finish(struct pod *p) {
    bool object_goes = json_str_at(object_json(p->object), "metadata.deletionTimestamp").n > 0;
    if (p->gone_from_api) {
        if (p->status_flying || !volumes_idle(p) || !slots_idle(p))
            return; /* its answer comes back here */
        remove_logs(p);
        node_forget_pod(p);
        return;
    }
    if (!object_goes || p->delete_sent || p->status_flying || p->status_dirty)
        return;
    struct arena *a = arena_new(KiB(1), 0);
    struct json *body = json_object(a);
    json_set_int(a, body, "gracePeriodSeconds", 0);
    json_put(a, body, "preconditions.uid", json_str(a, p->uid));
    p->delete_sent = true;
    p->status_flying = true;
    client_do(p->node->client, &(struct client_request){.verb = CLIENT_DELETE,
                                                        .resource = "pods",
                                                        .ns = p->ns,
                                                        .name = p->name,
                                                        .body = body,
                                                        .loop = p->node->loop,
                                                        .done = deleted,
                                                        .arg = p});
    arena_free(a);
}

static void step_down(struct pod *p) {
    if (p->stage < POD_STOPPING) {
        p->stage = POD_STOPPING;
        pod_status_dirty(p);
    }
    if (p->stage == POD_STOPPING && slots_stop(p)) {
        timer_stop(&p->kill_timer);
        p->finished = true;
        pod_status_dirty(p);
        remove_sandbox(p);
    }
}

/* --- the sync --------------------------------------------------------------------------------------------------- */

static void sync_pod(struct pod *p) {
    if (p->stage == POD_REMOVED) {
        finish(p);
        return;
    }
    if (p->busy)
        return;
    if (p->stage == POD_RUNNING && !p->terminating) {
        if (slots_sync(p)) {
            p->finished = true;
            pod_status_dirty(p);
        }
    }
    if (p->terminating || p->finished)
        step_down(p);
    else
        step_up(p);
}

/* --- news ------------------------------------------------------------------------------------------------------- */

void pod_container_exited(struct pod *p, struct container *c) {
    for (size_t i = 0; i < p->slots_n; i++)
        if (p->slots[i].container == c)
            slot_exited(&p->slots[i]);
    pod_status_dirty(p);
    pod_want_sync(p);
}

void pod_sandbox_lost(struct pod *p) {
    for (size_t i = 0; i < p->slots_n; i++) {
        struct slot *s = &p->slots[i];
        if (!s->container)
            continue;
        if (s->state == SLOT_RUNNING) {
            s->now = *container_status(s->container);
            if (s->now.state != CONTAINER_EXITED) {
                s->now.state = CONTAINER_EXITED;
                s->now.exit_code = 137;
                s->now.finished_at = time_now();
            }
            s->state = SLOT_EXITED;
        }
        probes_stop(s);
        s->container = NULL;
    }
    pod_event(p, "Normal", "SandboxChanged", "Pod sandbox changed, it will be killed and re-created.");
    struct sandbox *s = p->sandbox;
    p->sandbox = NULL;
    p->has_net = false;
    p->node->o.network->detach(p->node->o.network_arg, p->uid);
    if (p->stage < POD_STOPPING)
        p->stage = POD_NEW;
    sandbox_remove(s, on_retry, p);
}

void pod_adopt(struct pod *p, struct sandbox *s) {
    struct arena *a = arena_new(KiB(1), 0);
    struct json *m = json_parse(a, sandbox_metadata(s), NULL, NULL);
    struct str ip = json_str_at(m, "ip");
    p->sandbox = s;
    p->stage = POD_NETWORK;
    if (ip.n && ip.n < sizeof(p->net.ips[0])) {
        memcpy(p->net.ips[0], ip.p, ip.n);
        p->has_net = true;
        if (!on_host_network(p))
            p->node->o.network->adopt(p->node->o.network_arg, p->uid, &p->net);
        publish_host_ports(p);
    }
    for (struct container *c = NULL; (c = sandbox_next(s, c));)
        slot_adopt(p, c);
    volumes_start(p);
    arena_free(a);
}
