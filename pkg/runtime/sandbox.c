#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "runtime/runtime_priv.h"

#define METADATA_MAX KiB(64)
#define START_TIMEOUT_MS 30000

/* --- the object ---------------------------------------------------------------------------------------------------- */

static void on_deadline(void *arg);

struct sandbox *sandbox_new(struct runtime *rt, struct str id) {
    struct sandbox *s = XNEW(struct sandbox);
    s->rt = rt;
    s->id = str_take(id);
    s->metadata = str_take(STR(""));
    s->pidfd = s->netns = -1;
    list_init(&s->containers);
    list_init(&s->calls);
    timer_init(&s->deadline, rt->loop, on_deadline, s);
    list_push_back(&rt->sandboxes, &s->node);
    map_set(&rt->by_id, id, s);
    return s;
}

void sandbox_set_cgroup(struct sandbox *s, struct str parent) {
    snprintf(s->cgroup, sizeof(s->cgroup), "%.*s%s%.*s", STR_ARG(parent), parent.n ? "/" : "", STR_ARG(s->id));
}

void sandbox_free(struct sandbox *s) {
    LIST_FOREACH (it, &s->containers)
        container_free(LIST_ITEM(it, struct container, node));
    timer_stop(&s->deadline);
    vec_fini(&s->waiters);
    if (s->link)
        link_close(s->link);
    if (s->pidfd >= 0)
        close(s->pidfd);
    if (s->netns >= 0)
        close(s->netns);
    map_del(&s->rt->by_id, s->id);
    list_remove(&s->node);
    free((char *)(uintptr_t)s->id.p);
    free((char *)(uintptr_t)s->metadata.p);
    free(s);
}

struct str sandbox_id(const struct sandbox *s) {
    return s->id;
}
struct str sandbox_metadata(const struct sandbox *s) {
    return s->metadata;
}
int sandbox_netns_fd(const struct sandbox *s) {
    return s->netns;
}
int sandbox_pid(const struct sandbox *s) {
    return s->pid;
}

int sandbox_set_metadata(struct sandbox *s, struct str metadata, struct error *err) {
    char path[STATE_PATH_MAX];
    if (metadata.n > METADATA_MAX)
        return error_set(err, -E2BIG, "sandbox metadata of %zu bytes, %zu are allowed", metadata.n, METADATA_MAX);
    snprintf(path, sizeof(path), "%s/%.*s/metadata", s->rt->state_dir, STR_ARG(s->id));
    int rc = file_write_replace(path, metadata, 0600, err);
    if (rc < 0)
        return rc;
    free((char *)(uintptr_t)s->metadata.p);
    s->metadata = str_take(metadata);
    return 0;
}

struct container *sandbox_next(const struct sandbox *s, const struct container *prev) {
    const struct list *at = prev ? prev->node.next : s->containers.next;
    for (; at != &s->containers; at = at->next) {
        struct container *c = LIST_ITEM(at, struct container, node);
        if (!c->started) /* one that is not started yet is nobody's business */
            return c;
    }
    return NULL;
}

struct container *sandbox_find(const struct sandbox *s, const char *id) {
    LIST_FOREACH (it, (struct list *)(uintptr_t)&s->containers) {
        struct container *c = LIST_ITEM(it, struct container, node);
        if (str_eq_c(c->id, id))
            return c;
    }
    return NULL;
}

/* --- ending -------------------------------------------------------------------------------------------------------- */

void sandbox_fail_pending(struct sandbox *s, int code, const char *text) {
    struct list *it;
    while ((it = list_pop_front(&s->calls))) {
        struct exec_call *call = LIST_ITEM(it, struct exec_call, node);
        if (call->on_started)
            call->on_started(call, code, text, -1);
        else
            call->on_exited(call, 137); /* it died with its monitor */
    }
    LIST_FOREACH (c, &s->containers) {
        struct container *ctr = LIST_ITEM(c, struct container, node);
        if (ctr->started)
            container_forget(ctr);
    }
}

struct clean {
    struct runtime *rt;
    struct sandbox *sandbox;
    char *id, cgroup[CGROUP_PATH_MAX];
    int pidfd; /* a copy: the runtime may be closed meanwhile */
    struct error err;
    int code;
};

static void clean_work(void *arg) {
    struct clean *c = arg;
    c->code = sandbox_clean(c->rt, str_c(c->id), c->cgroup, c->pidfd, &c->err);
}

static void clean_done(void *arg) {
    struct clean *c = arg;
    bool closed = runtime_job_end(c->rt);
    struct sandbox *s = closed ? NULL : c->sandbox;
    if (!closed && c->code < 0)
        log_warn("runtime", "sandbox %s: %s", c->id, c->err.msg);
    if (c->pidfd >= 0)
        close(c->pidfd);
    free(c->id);
    free(c);
    if (!s)
        return;
    __typeof__(s->waiters) waiters = s->waiters;
    s->waiters.items = NULL;
    s->waiters.n = s->waiters.cap = 0;
    sandbox_done started = s->started;
    void *started_arg = s->started_arg;
    struct error why = s->error;
    sandbox_free(s);
    if (started)
        started(started_arg, NULL, why.code, &why);
    for (size_t i = 0; i < waiters.n; i++)
        waiters.items[i].fn(waiters.items[i].arg);
    vec_fini(&waiters);
}

static void clean(struct sandbox *s) {
    s->phase = SANDBOX_REMOVING;
    timer_stop(&s->deadline);
    s->clean_waits = s->jobs > 0; /* a container of it is being cleaned: that first */
    if (s->clean_waits)
        return;
    struct clean *c = XNEW(struct clean);
    *c = (struct clean){.rt = s->rt, .sandbox = s, .id = xstrndup(s->id.p, s->id.n)};
    c->pidfd = s->pidfd < 0 ? -1 : fcntl(s->pidfd, F_DUPFD_CLOEXEC, 3);
    memcpy(c->cgroup, s->cgroup, sizeof(c->cgroup));
    if (s->link)
        link_close(s->link);
    s->link = NULL;
    runtime_job_begin(s->rt);
    loop_work(s->rt->loop, clean_work, clean_done, c);
}

void sandbox_job_ended(struct sandbox *s) {
    if (--s->jobs == 0 && s->clean_waits)
        clean(s);
}

void sandbox_remove(struct sandbox *s, loop_fn done, void *arg) {
    struct waiter w = {done, arg};
    if (done)
        vec_push(&s->waiters, w);
    if (s->phase == SANDBOX_REMOVING)
        return;
    REQUIRE(s->phase == SANDBOX_READY || s->phase == SANDBOX_LOST);
    sandbox_fail_pending(s, -ECANCELED, "the sandbox is being removed");
    clean(s);
}

/* A start that failed: nothing of it stays, then the caller hears why. */
static void abandon(struct sandbox *s, int code, const char *text) {
    error_set(&s->error, code < 0 ? code : -EIO, "%s", text);
    clean(s);
}

static void on_deadline(void *arg) {
    struct sandbox *s = arg;
    if (s->phase == SANDBOX_STARTING)
        abandon(s, -ETIMEDOUT, "the pod monitor did not get ready in time");
}

/* --- starting ------------------------------------------------------------------------------------------------------ */

/*
 * The monitor goes out of the server's groups, so that what ends or limits the server does not reach it. On v1 the first move
 * of a process waits some 10 ms for an RCU grace period, which opens the way for the moves after it: so this is done at once
 * and beside everything else, for the sandbox's first container will be moved soon.
 */
struct settle {
    struct runtime *rt;
    int pid;
};

static void settle_work(void *arg) {
    struct settle *job = arg;
    cgroup_join(&job->rt->cgroups, CGROUP_MONITORS, job->pid, false, NULL);
}

static void settle_done(void *arg) {
    struct settle *job = arg;
    runtime_job_end(job->rt);
    free(job);
}

void sandbox_settle(struct sandbox *s) {
    struct settle *job = XNEW(struct settle);
    *job = (struct settle){s->rt, s->pid};
    runtime_job_begin(s->rt);
    loop_work(s->rt->loop, settle_work, settle_done, job);
}

static void spawn_work(void *arg) {
    spawn_monitor(arg);
}

static void spawn_done(void *arg) {
    struct spawn *job = arg;
    struct sandbox *s = job->sandbox;
    buf_fini(&job->spec);
    if (runtime_job_end(job->rt)) { /* the monitor sees that nobody wants it */
        if (job->code == 0) {
            close(job->sock);
            close(job->pidfd);
        }
        free(job);
        return;
    }
    if (job->code < 0) {
        sandbox_done started = s->started;
        void *started_arg = s->started_arg;
        sandbox_free(s);
        started(started_arg, NULL, job->code, &job->err);
    } else {
        s->pid = job->pid;
        s->pidfd = job->pidfd;
        s->link = link_open(s, job->sock, fcntl(job->pidfd, F_DUPFD_CLOEXEC, 3));
        sandbox_settle(s);
        timer_set(&s->deadline, START_TIMEOUT_MS, 1000);
    }
    free(job);
}

struct early { /* an error found before anything began, told on the next turn */
    sandbox_done done;
    void *arg;
    struct error err;
};

static void tell_early(void *arg) {
    struct early *e = arg;
    e->done(e->arg, NULL, e->err.code, &e->err);
    free(e);
}

static int check_config(struct runtime *rt, const struct sandbox_config *cfg, struct error *err) {
    if (!runtime_id_is_valid(cfg->id))
        return error_set(err, -EINVAL, "sandbox id \"%.*s\" is not [a-z0-9-], at most 64", STR_ARG(cfg->id));
    if (map_get(&rt->by_id, cfg->id))
        return error_set(err, -EEXIST, "sandbox %.*s exists", STR_ARG(cfg->id));
    if (cfg->metadata.n > METADATA_MAX)
        return error_set(err, -E2BIG, "sandbox metadata of %zu bytes, %zu are allowed", cfg->metadata.n, METADATA_MAX);
    if (cfg->hostname.n > 64)
        return error_set(err, -EINVAL, "hostname \"%.*s\" is longer than 64", STR_ARG(cfg->hostname));
    if (cfg->cgroup && cfg->cgroup->cpuset_cpus.n >= 256)
        return error_set(err, -EINVAL, "cpuset \"%.*s\" is too long", STR_ARG(cfg->cgroup->cpuset_cpus));
    struct str parent = cfg->cgroup_parent;
    if (parent.n > 256 || (parent.n && (parent.p[0] == '/' || str_find(parent, STR("..")) >= 0)))
        return error_set(err, -EINVAL, "cgroup parent \"%.*s\" is no relative path", STR_ARG(parent));
    return 0;
}

static void encode(struct runtime *rt, const struct sandbox_config *cfg, struct buf *out) {
    cleanup_arena struct arena *a = arena_new(0, MiB(8));
    struct sandbox_spec spec = {
        .id = cfg->id,
        .hostname = cfg->hostname,
        .cgroup_parent = cfg->cgroup_parent,
        .root_dir = str_printf(a, "%s/%.*s", rt->root_dir, STR_ARG(cfg->id)),
        .cgroups = {(const char *)&rt->cgroups, sizeof(rt->cgroups)},
        .shm_bytes = cfg->shm_bytes,
        .flags = (cfg->host_network ? SPEC_HOST_NETWORK : 0) | (cfg->host_pid ? SPEC_HOST_PID : 0) |
                 (cfg->host_ipc ? SPEC_HOST_IPC : 0) | (cfg->share_pid ? SPEC_SHARE_PID : 0),
    };
    if (cfg->cgroup)
        spec.cgroup = *cfg->cgroup;
    spec.sysctls.v = arena_alloc(a, (cfg->sysctls_n + 1) * sizeof(char *));
    for (size_t i = 0; i < cfg->sysctls_n; i++)
        spec.sysctls.v[spec.sysctls.n++] = arena_strndup(a, cfg->sysctls[i].p, cfg->sysctls[i].n);
    spec_encode_sandbox(out, &spec);
}

void sandbox_start(struct runtime *rt, const struct sandbox_config *cfg, sandbox_done done, void *arg) {
    struct error err;
    if (check_config(rt, cfg, &err) < 0) {
        struct early *e = XNEW(struct early);
        *e = (struct early){done, arg, err};
        loop_post(rt->loop, tell_early, e);
        return;
    }
    struct sandbox *s = sandbox_new(rt, cfg->id);
    free((char *)(uintptr_t)s->metadata.p);
    s->metadata = str_take(cfg->metadata);
    s->started = done;
    s->started_arg = arg;
    sandbox_set_cgroup(s, cfg->cgroup_parent);
    struct spawn *job = XNEW(struct spawn);
    *job = (struct spawn){.rt = rt, .sandbox = s};
    buf_init(&job->spec, SPEC_BYTES_MAX);
    if (cfg->cgroup) {
        job->limits = *cfg->cgroup;
        snprintf(job->cpus, sizeof(job->cpus), "%.*s", STR_ARG(cfg->cgroup->cpuset_cpus));
        job->limits.cpuset_cpus = str_c(job->cpus);
    }
    encode(rt, cfg, &job->spec);
    runtime_job_begin(rt);
    loop_work(rt->loop, spawn_work, spawn_done, job);
}

static void on_ready(struct sandbox *s, const struct monitor_message *m, int *fds, size_t fds_n) {
    if (s->phase != SANDBOX_STARTING)
        return;
    if (m->code < 0) {
        abandon(s, m->code, m->text);
        return;
    }
    if (fds_n) {
        s->netns = fds[0];
        fds[0] = -1;
    }
    s->phase = SANDBOX_READY;
    timer_stop(&s->deadline);
    sandbox_done started = s->started;
    s->started = NULL;
    started(s->started_arg, s, 0, NULL);
}

/* --- what comes from the monitor ----------------------------------------------------------------------------------- */

void sandbox_on_message(struct sandbox *s, const struct monitor_message *m, int *fds, size_t fds_n) {
    int kept[MONITOR_FDS_MAX];
    memcpy(kept, fds, sizeof(kept));
    switch (m->type) {
    case MONITOR_READY:
        on_ready(s, m, kept, fds_n);
        break;
    case MONITOR_WELCOME:
        recover_welcome(s, m, kept, fds_n);
        break;
    case MONITOR_CONTAINER:
        recover_container(s, m, kept, fds_n);
        break;
    case MONITOR_STARTED:
        container_on_started(s, m, kept, fds_n);
        break;
    case MONITOR_EXITED:
        container_on_exited(s, m);
        break;
    case MONITOR_EXEC_STARTED:
        exec_on_started(s, m, kept, fds_n);
        break;
    case MONITOR_EXEC_EXITED:
        exec_on_exited(s, m);
        break;
    }
    for (size_t i = 0; i < fds_n; i++) /* those that nobody took */
        if (kept[i] >= 0)
            close(kept[i]);
}

static void lost(struct sandbox *s) {
    s->phase = SANDBOX_LOST;
    link_close(s->link);
    s->link = NULL;
    struct timespec now = time_now();
    LIST_FOREACH (it, &s->containers) {
        struct container *c = LIST_ITEM(it, struct container, node);
        if (c->status.state == CONTAINER_EXITED || c->started)
            continue;
        c->status.state = CONTAINER_EXITED;
        c->status.exit_code = 137;
        c->status.signal = 9;
        c->status.finished_at = now;
        snprintf(c->status.message, sizeof(c->status.message), "the pod's monitor died");
        container_clean_if_removing(c);
    }
    sandbox_fail_pending(s, -EPIPE, "the pod's monitor died");
    cgroup_kill(&s->rt->cgroups, s->cgroup);
    log_warn("runtime", "sandbox %.*s: its monitor (pid %d) died", STR_ARG(s->id), s->pid);
    if (s->rt->events.on_sandbox_lost)
        s->rt->events.on_sandbox_lost(s->rt->events.arg, s);
}

void sandbox_on_hangup(struct sandbox *s, bool dead) {
    if (s->recovering) {
        recover_hangup(s);
        return;
    }
    if (s->phase == SANDBOX_STARTING) {
        abandon(s, -EPIPE, "the pod monitor died while it started");
        return;
    }
    if (s->phase != SANDBOX_READY)
        return;
    struct pollfd p = {.fd = s->pidfd, .events = POLLIN};
    if (!dead &&
        poll(&p, 1, 0) == 0) { /* it lives: the connection was too slow for it. A new one brings all up to date */
        int fd = spawn_connect(s->rt->state_dir, s->id);
        if (fd >= 0) {
            struct monitor_message hello = {.type = MONITOR_HELLO};
            link_close(s->link);
            sandbox_fail_pending(s, -EPIPE, "the connection to the pod's monitor was lost");
            s->link = link_open(s, fd, fcntl(s->pidfd, F_DUPFD_CLOEXEC, 3));
            if (link_send(s->link, &hello, STR_NULL, NULL, 0) == 0)
                return;
        }
    }
    lost(s);
}

int sandbox_usage(const struct sandbox *s, struct container_usage *out, struct error *err) {
    return cgroup_usage(&s->rt->cgroups, s->cgroup, out, err);
}
