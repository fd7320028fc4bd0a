/* Containers of a pod: in which order they start, when they start again, how they end. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include "node/node_priv.h"

#define BACKOFF_FIRST_MS 10000
#define BACKOFF_MAX_MS 300000
#define BACKOFF_RESET_S 600 /* a run this long counts as healthy */
#define CONFIG_RETRY_MS 2000
#define LOG_TAIL_BYTES 2048
#define LOG_TAIL_LINES 80

/* --- making ----------------------------------------------------------------------------------------------------- */

static const struct json *spec_list(const struct pod *p, bool init) {
    return json_at(object_json(p->object), init ? "spec.initContainers" : "spec.containers");
}

static const struct json *status_of(const struct pod *p, struct str name, bool init) {
    const struct json *list =
        json_at(object_json(p->object), init ? "status.initContainerStatuses" : "status.containerStatuses");
    for (size_t i = 0; i < json_len(list); i++)
        if (str_eq(json_str_at(json_item(list, i), "name"), name))
            return json_item(list, i);
    return NULL;
}

static void on_timer(void *arg) {
    struct slot *s = arg;
    if (s->killing && s->container) {
        container_kill(s->container, SIGKILL, NULL);
        return;
    }
    if (s->state == SLOT_BACKOFF)
        s->state = SLOT_WAITING;
    pod_want_sync(s->pod);
}

static void make_slot(struct pod *p, struct slot *s, const struct json *spec, bool init) {
    *s = (struct slot){.pod = p, .spec = spec, .kind = SLOT_MAIN};
    s->name = str_dup(p->arena, json_str_at(spec, "name"));
    if (init)
        s->kind = str_eq(json_str_at(spec, "restartPolicy"), STR("Always")) ? SLOT_SIDECAR : SLOT_INIT;
    timer_init(&s->timer, p->node->loop, on_timer, s);
    snprintf(s->reason, sizeof(s->reason), init || p->init_n == 0 ? "ContainerCreating" : "PodInitializing");
    /* What ran before this process (or the machine) started counts on. */
    const struct json *before = status_of(p, s->name, init);
    s->restart_count = (int)json_int_at(before, "restartCount", 0);
    if (json_str_at(before, "containerID").n)
        s->restart_count++;
}

void slots_make(struct pod *p) {
    const struct json *init = spec_list(p, true), *main = spec_list(p, false);
    p->init_n = json_len(init);
    p->slots_n = p->init_n + json_len(main);
    p->slots = arena_alloc(p->arena, MAX(p->slots_n, (size_t)1) * sizeof(*p->slots));
    for (size_t i = 0; i < p->slots_n; i++)
        make_slot(p, &p->slots[i], i < p->init_n ? json_item(init, i) : json_item(main, i - p->init_n), i < p->init_n);
}

bool slots_idle(const struct pod *p) {
    for (size_t i = 0; i < p->slots_n; i++)
        if (p->slots[i].hook_running)
            return false;
    return true;
}

void slots_rebind(struct pod *p) {
    for (size_t i = 0; i < p->slots_n; i++) {
        const struct json *list = spec_list(p, i < p->init_n);
        for (size_t k = 0; k < json_len(list); k++)
            if (str_eq(json_str_at(json_item(list, k), "name"), p->slots[i].name))
                p->slots[i].spec = json_item(list, k);
    }
}

void slots_fini(struct pod *p) {
    for (size_t i = 0; i < p->slots_n; i++) {
        struct slot *s = &p->slots[i];
        timer_stop(&s->timer);
        probes_stop(s);
        pull_forget(s);
        image_unref(s->image);
    }
}

struct slot *slot_find(struct pod *p, struct str name) {
    for (size_t i = 0; i < p->slots_n; i++)
        if (str_eq(p->slots[i].name, name))
            return &p->slots[i];
    return NULL;
}

bool slot_is_running(const struct slot *s) {
    return s->state == SLOT_RUNNING && s->container;
}

static void note_identity(struct slot *s) {
    snprintf(s->id, sizeof(s->id), "%.*s", STR_ARG(container_id(s->container)));
    if (s->image && s->image->repo_digests_n)
        snprintf(s->image_id, sizeof(s->image_id), "%.*s", STR_ARG(s->image->repo_digests[0]));
    else
        snprintf(s->image_id, sizeof(s->image_id), "%.*s", STR_ARG(container_image_id(s->container)));
    struct str named = json_str_at(s->spec, "image");
    struct str full = s->image && s->image->repo_tags_n ? s->image->repo_tags[0] : named;
    snprintf(s->image_name, sizeof(s->image_name), "%.*s", STR_ARG(full));
}

void slot_adopt(struct pod *p, struct container *c) {
    struct arena *a = arena_new(KiB(1), 0);
    struct json *m = json_parse(a, container_metadata(c), NULL, NULL);
    struct slot *s = slot_find(p, container_name(c));
    int count = (int)json_int_at(m, "restart", 0);
    if (!s || (s->container && count < s->restart_count)) {
        container_remove(c, NULL, NULL);
        arena_free(a);
        return;
    }
    if (!s->image && (s->image = image_find(p->node->images, container_image_id(c))))
        container_set_image(c, s->image);
    s->container = c;
    s->restart_count = count;
    s->has_run = true;
    s->now = *container_status(c);
    note_identity(s);
    s->started = str_eq(json_str_at(m, "started"), STR("true"));
    if (s->now.state == CONTAINER_RUNNING) {
        s->state = SLOT_RUNNING;
        probes_start(s);
    } else {
        slot_exited(s);
    }
    arena_free(a);
}

/* --- starting --------------------------------------------------------------------------------------------------- */

static void wait_for(struct slot *s, const char *reason, const char *message) {
    bool news = strcmp(s->reason, reason) != 0 || strcmp(s->message, message) != 0;
    snprintf(s->reason, sizeof(s->reason), "%s", reason);
    snprintf(s->message, sizeof(s->message), "%.390s", message);
    if (news)
        pod_status_dirty(s->pod);
}

static void set_backoff(struct slot *s, const char *reason) {
    struct pod *p = s->pod;
    char message[300];
    snprintf(message, sizeof(message), "back-off %s restarting failed container=%.*s pod=%.*s_%.*s(%.*s)",
             s->backoff_ms >= BACKOFF_MAX_MS ? "5m0s"
             : s->backoff_ms >= 160000       ? "2m40s"
             : s->backoff_ms >= 80000        ? "1m20s"
             : s->backoff_ms >= 40000        ? "40s"
             : s->backoff_ms >= 20000        ? "20s"
                                             : "10s",
             STR_ARG(s->name), STR_ARG(p->name), STR_ARG(p->ns), STR_ARG(p->uid));
    s->state = SLOT_BACKOFF;
    wait_for(s, reason, message);
    pod_event(p, "Warning", "BackOff", "Back-off restarting failed container %.*s in pod %.*s_%.*s(%.*s)",
              STR_ARG(s->name), STR_ARG(p->name), STR_ARG(p->ns), STR_ARG(p->uid));
    timer_set(&s->timer, s->backoff_ms, s->backoff_ms / 20);
}

/* The first restart is at once; then 10 s, doubling up to 5 min. */
static void schedule_restart(struct slot *s) {
    if (s->has_run && s->now.finished_at.tv_sec - s->now.started_at.tv_sec >= BACKOFF_RESET_S)
        s->backoff_ms = 0;
    if (s->backoff_ms == 0) {
        s->backoff_ms = BACKOFF_FIRST_MS;
        s->state = SLOT_WAITING;
        return;
    }
    set_backoff(s, "CrashLoopBackOff");
    s->backoff_ms = MIN(s->backoff_ms * 2, (int64_t)BACKOFF_MAX_MS);
}

static void post_start_done(void *arg) {
    struct slot *s = arg;
    s->hook_running = false;
    pod_status_dirty(s->pod);
    pod_want_sync(s->pod);
}

static void now_running(struct slot *s, struct container *c) {
    struct pod *p = s->pod;
    s->container = c;
    s->has_run = true;
    s->killing = s->kill_by_probe = false;
    s->exit_message[0] = 0;
    s->now = *container_status(c);
    s->now.state = CONTAINER_RUNNING;
    s->state = SLOT_RUNNING;
    s->reason[0] = s->message[0] = 0;
    note_identity(s);
    pod_event(p, "Normal", "Started", "Container started");
    s->started = s->ready = false;
    s->hook_running = hook_run(s, "postStart", post_start_done, s);
    probes_start(s);
    pod_status_dirty(p);
    pod_want_sync(p);
}

static void start_done(void *arg, struct container *c, int code, const struct error *err) {
    struct slot *s = arg;
    struct pod *p = s->pod;
    p->busy = false;
    if (code == 0) {
        now_running(s, c);
        return;
    }
    pod_event(p, "Warning", "Failed", "Error: failed to create containerd task: %s", err->msg);
    bool cannot_run = code == -ENOENT || code == -EACCES || code == -ENOEXEC;
    s->has_run = true; /* a container that could not be executed has ended with 128 (127 and 126 are the shell's) */
    s->now = (struct container_status){.state = CONTAINER_EXITED, .exit_code = 128, .finished_at = time_now()};
    s->now.started_at = s->now.finished_at;
    snprintf(s->now.message, sizeof(s->now.message), "%.250s", err->msg);
    snprintf(s->last_reason, sizeof(s->last_reason), "%s", cannot_run ? "StartError" : "ContainerCannotRun");
    snprintf(s->exit_message, sizeof(s->exit_message), "%s", err->msg);
    s->container = NULL;
    s->state = SLOT_EXITED;
    wait_for(s, "RunContainerError", err->msg);
    pod_status_dirty(p);
    pod_want_sync(p);
}

static void forget_container(struct slot *s) {
    if (s->has_run) { /* the run before becomes lastState */
        s->last = s->now;
        s->has_last = true;
        snprintf(s->last_id, sizeof(s->last_id), "%s", s->id);
        snprintf(s->last_message, sizeof(s->last_message), "%s", s->exit_message);
        s->restart_count++;
        s->has_run = false;
    }
    if (s->container)
        container_remove(s->container, NULL, NULL);
    s->container = NULL;
}

static void start(struct slot *s) {
    struct pod *p = s->pod;
    struct arena *a = arena_new(KiB(16), 0);
    struct container_config cfg = {0};
    int rc = container_config_make(s, a, &cfg);
    if (rc < 0) {
        if (rc != -EAGAIN)
            pod_event(p, "Warning", "Failed", "Error: %s", s->message);
        pod_status_dirty(p);
        s->state = SLOT_BACKOFF;
        timer_set(&s->timer, CONFIG_RETRY_MS, CONFIG_RETRY_MS / 4);
        arena_free(a);
        return;
    }
    forget_container(s);
    /* The number of the run is part of its log's name and of what a recovery reads. */
    cfg.metadata = str_printf(a, "{\"restart\":%d}", s->restart_count);
    cfg.log_path = str_c(log_path_of(a, s, s->restart_count));
    s->state = SLOT_STARTING;
    p->busy = true;
    pod_event(p, "Normal", "Created", "Container created");
    container_start(p->sandbox, &cfg, start_done, s);
    arena_free(a);
}

/* Takes the next step of a container that should run. */
static void advance(struct slot *s) {
    if (s->state == SLOT_WAITING) {
        if (!s->image) {
            s->state = SLOT_PULLING;
            pull_start(s);
            return;
        }
        start(s);
    } else if (s->state == SLOT_PULLING && s->image) {
        s->state = SLOT_WAITING;
        start(s);
    }
}

/* --- ending ----------------------------------------------------------------------------------------------------- */

static void read_tail(const char *path, char *out, size_t room) {
    struct buf b = {.limit = MiB(16)};
    out[0] = 0;
    if (file_read(path, &b, NULL) == 0) {
        size_t n = MIN(b.n, room - 1);
        memcpy(out, b.p + b.n - n, n);
        out[n] = 0;
    }
    buf_fini(&b);
}

/* The last lines of the log, without their CRI heads. */
static void log_tail(struct slot *s, struct arena *a, char *out, size_t room) {
    char raw[LOG_TAIL_BYTES * 4];
    size_t n = 0;
    out[0] = 0;
    read_tail(log_path_of(a, s, s->restart_count), raw, sizeof(raw));
    for (struct str rest = str_c(raw); rest.p && n < room - 1;) {
        struct str line = str_split(&rest, '\n'), text = line;
        for (int i = 0; i < 3; i++)
            if (!str_cut(text, ' ', NULL, &text))
                text.n = 0;
        if (text.n)
            n += (size_t)snprintf(out + n, room - n, "%.*s\n", STR_ARG(text));
        n = MIN(n, room - 1);
    }
}

static void read_termination_message(struct slot *s) {
    struct arena *a = arena_new(KiB(1), 0);
    char path[600];
    snprintf(path, sizeof(path), "%s/containers/%.*s/termination-log", pod_dir(a, s->pod), STR_ARG(s->name));
    read_tail(path, s->exit_message, sizeof(s->exit_message));
    if (!s->exit_message[0] && s->now.exit_code != 0 &&
        str_eq(json_str_at(s->spec, "terminationMessagePolicy"), STR("FallbackToLogsOnError")))
        log_tail(s, a, s->exit_message, sizeof(s->exit_message));
    arena_free(a);
}

void slot_exited(struct slot *s) {
    s->now = *container_status(s->container);
    s->now.state = CONTAINER_EXITED;
    s->state = SLOT_EXITED;
    s->started = s->ready = false;
    timer_stop(&s->timer);
    probes_stop(s);
    s->last_reason[0] = 0;
    read_termination_message(s);
}

static void kill_now(void *arg) {
    struct slot *s = arg;
    s->hook_running = false;
    if (s->container && s->state == SLOT_RUNNING)
        container_kill(s->container, 0, NULL);
    pod_want_sync(s->pod);
}

static void kill_gracefully(struct slot *s) {
    if (s->killing)
        return;
    s->killing = true;
    probes_stop(s);
    pod_event(s->pod, "Normal", "Killing", "Stopping container %.*s", STR_ARG(s->name));
    s->hook_running = hook_run(s, "preStop", kill_now, s);
    if (!s->hook_running)
        kill_now(s);
}

void slot_restart(struct slot *s, const char *why) {
    if (!slot_is_running(s) || s->killing)
        return;
    int64_t grace = pod_grace_s(s->pod);
    pod_event(s->pod, "Normal", "Killing", "Container %.*s failed %s probe, will be restarted", STR_ARG(s->name), why);
    s->killing = s->kill_by_probe = true;
    probes_stop(s);
    s->hook_running = hook_run(s, "preStop", kill_now, s);
    if (!s->hook_running)
        kill_now(s);
    timer_set(&s->timer, MAX(grace, (int64_t)1) * 1000, 50);
}

void slots_kill_now(struct pod *p) {
    for (size_t i = 0; i < p->slots_n; i++)
        if (slot_is_running(&p->slots[i]))
            container_kill(p->slots[i].container, SIGKILL, NULL);
}

bool slots_stop(struct pod *p) {
    bool main_runs = false, any = false;
    for (size_t i = 0; i < p->slots_n; i++) {
        struct slot *s = &p->slots[i];
        pull_forget(s);
        if (s->state == SLOT_STARTING)
            any = true;
        else if (slot_is_running(s)) {
            any = true;
            main_runs |= s->kind != SLOT_SIDECAR;
        } else {
            timer_stop(&s->timer);
        }
    }
    for (size_t i = 0; i < p->slots_n; i++) {
        struct slot *s = &p->slots[i];
        if (slot_is_running(s) && (s->kind != SLOT_SIDECAR || !main_runs)) /* sidecars outlive the others */
            kill_gracefully(s);
    }
    return !any;
}

/* --- the order of things ---------------------------------------------------------------------------------------- */

/* Whether a container that has ended is to run again. */
static bool wants_restart(const struct slot *s) {
    struct str policy = json_str_at(object_json(s->pod->object), "spec.restartPolicy");
    if (s->kind == SLOT_SIDECAR)
        return true;
    bool failed = s->now.exit_code != 0;
    if (s->kind == SLOT_INIT)
        return failed && !str_eq(policy, STR("Never"));
    return str_eq(policy, STR("OnFailure")) ? failed : !str_eq(policy, STR("Never"));
}

static void handle_exited(struct slot *s) {
    if (s->state == SLOT_EXITED && wants_restart(s))
        schedule_restart(s);
}

/* Init containers one after the other; a sidecar only has to have started. True when the main ones may run. */
static bool sync_init(struct pod *p, bool *failed) {
    for (size_t i = 0; i < p->init_n; i++) {
        struct slot *s = &p->slots[i];
        bool done = s->kind == SLOT_INIT && s->state == SLOT_EXITED && s->now.exit_code == 0;
        if (done)
            continue;
        handle_exited(s);
        if (s->state == SLOT_EXITED) {
            *failed = true;
            return false;
        }
        advance(s);
        if (s->kind == SLOT_SIDECAR && s->state == SLOT_RUNNING && s->started)
            continue;
        return false;
    }
    return true;
}

bool slots_sync(struct pod *p) {
    bool failed = false, all_over = true;
    if (p->busy)
        return false;
    if (!sync_init(p, &failed))
        return failed;
    for (size_t i = p->init_n; i < p->slots_n; i++) {
        struct slot *s = &p->slots[i];
        handle_exited(s);
        if (s->state != SLOT_EXITED)
            all_over = false;
        if (!p->busy)
            advance(s);
    }
    for (size_t i = 0; i < p->init_n && !all_over && !p->busy; i++) { /* sidecars that died meanwhile */
        struct slot *s = &p->slots[i];
        if (s->kind != SLOT_SIDECAR)
            continue;
        handle_exited(s);
        advance(s);
    }
    return all_over;
}
