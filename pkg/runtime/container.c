#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "codec/json.h"
#include "runtime/runtime_priv.h"
#include "runtime/seccomp.h"
#include "runtime/sysx.h"

#define METADATA_MAX KiB(256)

/* --- the object ---------------------------------------------------------------------------------------------------- */

struct container *container_new(struct sandbox *s, struct str id) {
    struct container *c = XNEW(struct container);
    c->sandbox = s;
    c->id = str_take(id);
    c->pidfd = -1;
    list_push_back(&s->containers, &c->node);
    return c;
}

void container_free(struct container *c) {
    if (c->image)
        image_unref(c->image);
    if (c->pidfd >= 0)
        close(c->pidfd);
    for (size_t i = 0; i < c->waiters.n; i++) /* it goes with its sandbox */
        loop_post(c->sandbox->rt->loop, c->waiters.items[i].fn, c->waiters.items[i].arg);
    vec_fini(&c->waiters);
    list_remove(&c->node);
    struct str texts[] = {c->id, c->name, c->metadata, c->image_id};
    for (size_t i = 0; i < ARRAY_LEN(texts); i++)
        free((char *)(uintptr_t)texts[i].p);
    free(c);
}

struct str container_id(const struct container *c) {
    return c->id;
}
struct str container_name(const struct container *c) {
    return c->name;
}
struct str container_metadata(const struct container *c) {
    return c->metadata;
}
struct str container_image_id(const struct container *c) {
    return c->image_id;
}
struct sandbox *container_sandbox(const struct container *c) {
    return c->sandbox;
}
const struct container_status *container_status(const struct container *c) {
    return &c->status;
}

void container_set_image(struct container *c, struct image *img) {
    if (img)
        image_ref(img);
    if (c->image)
        image_unref(c->image);
    c->image = img;
}

int container_cgroup(const struct container *c, char out[CGROUP_PATH_MAX]) {
    int n = snprintf(out, CGROUP_PATH_MAX, "%s/%.*s", c->sandbox->cgroup, STR_ARG(c->id));
    return n < 0 || n >= CGROUP_PATH_MAX ? -ENAMETOOLONG : 0;
}

static struct timespec time_of(int64_t ns) {
    return (struct timespec){ns / 1000000000, ns % 1000000000};
}

void container_take_status(struct container *c, const struct monitor_message *m) {
    struct container_status *s = &c->status;
    s->state = m->state >= 0 && m->state < CONTAINER_STATE_MAX ? (enum container_state)m->state : CONTAINER_EXITED;
    s->pid = m->pid;
    s->exit_code = m->exit_code;
    s->signal = m->signal;
    s->oom_killed = m->oom_killed != 0;
    s->started_at = time_of(m->started_ns);
    s->finished_at = time_of(m->finished_ns);
}

/* --- the specification --------------------------------------------------------------------------------------------- */

static struct strv copy_strv(struct arena *a, const struct str *v, size_t n) {
    struct strv out = {arena_alloc(a, (n + 1) * sizeof(char *)), n};
    for (size_t i = 0; i < n; i++)
        out.v[i] = arena_strndup(a, v[i].p, v[i].n);
    return out;
}

static bool has_nul(const struct str *v, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (v[i].n && memchr(v[i].p, 0, v[i].n))
            return true;
    return false;
}

static struct spec_mounts copy_mounts(struct arena *a, const struct container_config *cfg) {
    struct spec_mounts out = {arena_alloc(a, (cfg->mounts_n + 1) * sizeof(struct spec_mount)), cfg->mounts_n};
    for (size_t i = 0; i < cfg->mounts_n; i++) {
        const struct container_mount *m = &cfg->mounts[i];
        out.v[i] = (struct spec_mount){
            .source = arena_strndup(a, m->source.p, m->source.n),
            .destination = arena_strndup(a, m->destination.p, m->destination.n),
            .flags = (m->read_only ? SPEC_MOUNT_RO : 0) | (m->recursive_read_only ? SPEC_MOUNT_RRO : 0) |
                     (m->tmpfs || m->source.n == 0 ? SPEC_MOUNT_TMPFS : 0) |
                     (m->create_file ? SPEC_MOUNT_CREATE_FILE : 0),
            .propagation = (uint32_t)m->propagation,
            .tmpfs_bytes = m->tmpfs_bytes,
        };
    }
    return out;
}

/* Signal names as images write them: "SIGQUIT", "QUIT", "3". */
static int parse_signal(struct str s) {
    static const struct {
        const char *name;
        int number;
    } names[] = {{"HUP", SIGHUP},     {"INT", SIGINT},   {"QUIT", SIGQUIT}, {"KILL", SIGKILL},
                 {"USR1", SIGUSR1},   {"USR2", SIGUSR2}, {"PIPE", SIGPIPE}, {"ALRM", SIGALRM},
                 {"TERM", SIGTERM},   {"CONT", SIGCONT}, {"STOP", SIGSTOP}, {"TSTP", SIGTSTP},
                 {"WINCH", SIGWINCH}, {"PWR", SIGPWR},   {"IO", SIGIO},     {"ABRT", SIGABRT}};
    int64_t n;
    if (str_to_i64(s, &n))
        return n > 0 && n < 65 ? (int)n : 0;
    if (str_starts(s, STR("SIG")))
        s = str_skip(s, 3);
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        if (str_eq_c(s, names[i].name))
            return names[i].number;
    int64_t plus;
    if (str_starts(s, STR("RTMIN+")) && str_to_i64(str_skip(s, 6), &plus) && plus >= 0 && plus <= 30)
        return 34 + (int)plus;
    return 0;
}

static int compile_filter(struct runtime *rt, const struct container_config *cfg, struct arena *a, struct str *out,
                          struct error *err) {
    *out = STR("");
    if (cfg->privileged || cfg->seccomp == SECCOMP_UNCONFINED)
        return 0;
    cleanup_buf struct buf code = {.limit = KiB(64)};
    if (cfg->seccomp == SECCOMP_LOCALHOST) {
        int rc = seccomp_compile_json(cfg->seccomp_profile, cfg->capabilities, &code, err);
        if (rc == 0)
            *out = str_dup(a, buf_str(&code));
        return rc;
    }
    struct str key = {(const char *)&cfg->capabilities, sizeof(cfg->capabilities)};
    struct blob *cached = map_get(&rt->filters, key);
    if (!cached) {
        int rc = seccomp_compile_default(cfg->capabilities, &code, err);
        if (rc < 0)
            return rc;
        cached = blob_new(buf_str(&code));
        if (rt->filters.n < 64)
            map_set(&rt->filters, key, cached);
        else
            arena_defer(a, (void (*)(void *))(void *)blob_unref, cached);
    }
    *out = cached->bytes;
    return 0;
}

static int check_config(const struct sandbox *s, const struct container_config *cfg, struct error *err) {
    if (!runtime_id_is_valid(cfg->id))
        return error_set(err, -EINVAL, "container id \"%.*s\" is not [a-z0-9-], at most 64", STR_ARG(cfg->id));
    if (s->phase != SANDBOX_READY || !s->link)
        return error_set(err, -EPIPE, "the sandbox is not running");
    LIST_FOREACH (it, (struct list *)(uintptr_t)&s->containers)
        if (str_eq(LIST_ITEM(it, struct container, node)->id, cfg->id))
            return error_set(err, -EEXIST, "container %.*s exists", STR_ARG(cfg->id));
    if (cfg->argv_n == 0)
        return error_set(err, -EINVAL, "no command specified");
    if (!cfg->image || !cfg->image->layers || !cfg->image->layers[0])
        return error_set(err, -EINVAL, "the image has no layers");
    if (cfg->metadata.n > METADATA_MAX)
        return error_set(err, -E2BIG, "container metadata of %zu bytes, %zu are allowed", cfg->metadata.n,
                         METADATA_MAX);
    bool nul = has_nul(cfg->argv, cfg->argv_n) || has_nul(cfg->envp, cfg->envp_n) || has_nul(&cfg->cwd, 1);
    for (size_t i = 0; i < cfg->mounts_n; i++) {
        struct str paths[] = {cfg->mounts[i].source, cfg->mounts[i].destination};
        nul = nul || has_nul(paths, 2);
    }
    return nul ? error_set(err, -EINVAL, "a NUL byte in the command, environment or a path") : 0;
}

static int encode(struct sandbox *s, const struct container_config *cfg, struct buf *out, struct error *err) {
    cleanup_arena struct arena *a = arena_new(KiB(16), MiB(16));
    struct container_spec spec = {
        .id = cfg->id,
        .name = cfg->name,
        .metadata = cfg->metadata,
        .image_id = cfg->image->id,
        .argv = copy_strv(a, cfg->argv, cfg->argv_n),
        .envp = copy_strv(a, cfg->envp, cfg->envp_n),
        .mounts = copy_mounts(a, cfg),
        .cwd = cfg->cwd.n ? cfg->cwd : STR("/"),
        .user = cfg->user.user,
        .uid = cfg->user.uid,
        .gid = cfg->user.gid,
        .groups = {(const char *)cfg->user.groups, cfg->user.groups_n * sizeof(uint32_t)},
        .capabilities = cfg->privileged ? ~0ull : cfg->capabilities,
        .oom_score_adj = cfg->oom_score_adj,
        .stop_signal = cfg->stop_signal,
        .cgroup = cfg->cgroup,
        .log_path = cfg->log_path,
        .log_bytes_max = cfg->log_bytes_max,
        .log_files_max = cfg->log_files_max,
        .flags = (cfg->privileged ? SPEC_PRIVILEGED : 0) | (cfg->read_only_root ? SPEC_READ_ONLY_ROOT : 0) |
                 (cfg->no_new_privs ? SPEC_NO_NEW_PRIVS : 0) | (cfg->unmasked_proc ? SPEC_UNMASKED_PROC : 0) |
                 (cfg->tty ? SPEC_TTY : 0) | (cfg->stdin_open ? SPEC_STDIN_OPEN : 0) |
                 (cfg->stdin_once ? SPEC_STDIN_ONCE : 0) | (cfg->user.merge_image_groups ? SPEC_MERGE_IMAGE_GROUPS : 0),
    };
    size_t layers = 0;
    while (cfg->image->layers[layers])
        layers++;
    spec.layers = (struct strv){(const char **)(uintptr_t)cfg->image->layers, layers};
    int rc = compile_filter(s->rt, cfg, a, &spec.seccomp, err);
    if (rc < 0)
        return rc;
    spec_encode_container(out, &spec);
    return out->failed ? error_set(err, -E2BIG, "the container's command, environment and mounts are too large") : 0;
}

/* --- starting ------------------------------------------------------------------------------------------------------ */

struct early {
    container_done done;
    void *arg;
    struct error err;
};

static void tell_early(void *arg) {
    struct early *e = arg;
    e->done(e->arg, NULL, e->err.code, &e->err);
    free(e);
}

static int image_stop_signal(const struct image *img) {
    return parse_signal(json_str_at(img->config, "StopSignal"));
}

static int try_start(struct sandbox *s, const struct container_config *cfg, struct container **out, struct error *err) {
    int rc = check_config(s, cfg, err);
    if (rc < 0)
        return rc;
    struct container_config with = *cfg;
    if (with.stop_signal == 0)
        with.stop_signal = image_stop_signal(cfg->image);
    if (with.stop_signal == 0)
        with.stop_signal = SIGTERM;
    cleanup_buf struct buf text = {.limit = SPEC_BYTES_MAX};
    rc = encode(s, &with, &text, err);
    if (rc < 0)
        return rc;
    char path[STATE_PATH_MAX];
    snprintf(path, sizeof(path), "%s/%.*s/%.*s.spec", s->rt->state_dir, STR_ARG(s->id), STR_ARG(cfg->id));
    rc = file_write_replace(path, buf_str(&text), 0600, err);
    if (rc < 0)
        return rc;
    struct monitor_message m = {.type = MONITOR_START, .serial = ++s->serial};
    memcpy(m.id, cfg->id.p, cfg->id.n);
    rc = link_send(s->link, &m, STR_NULL, NULL, 0);
    if (rc < 0) {
        unlink(path);
        return error_sys(err, rc, "the pod's monitor");
    }
    struct container *c = container_new(s, cfg->id);
    c->name = str_take(cfg->name);
    c->metadata = str_take(cfg->metadata);
    c->image_id = str_take(cfg->image->id);
    c->image = cfg->image;
    image_ref(c->image);
    c->stop_signal = with.stop_signal;
    c->serial = m.serial;
    *out = c;
    return 0;
}

void container_start(struct sandbox *s, const struct container_config *cfg, container_done done, void *arg) {
    struct error err;
    struct container *c = NULL;
    if (try_start(s, cfg, &c, &err) < 0) {
        struct early *e = XNEW(struct early);
        *e = (struct early){done, arg, err};
        loop_post(s->rt->loop, tell_early, e);
        return;
    }
    c->started = done;
    c->started_arg = arg;
}

/* What a container leaves behind, taken away on the pool. */
struct cleaning {
    struct runtime *rt;
    struct container *c;
    char cgroup[CGROUP_PATH_MAX], root[STATE_PATH_MAX], state[STATE_PATH_MAX];
    struct error err, why;
    int code;
};

static void clean_work(void *arg) {
    struct cleaning *job = arg;
    job->code = cgroup_remove(&job->rt->cgroups, job->cgroup, &job->err);
    int rc = dir_remove_all(job->root, job->code < 0 ? NULL : &job->err);
    if (job->code == 0)
        job->code = rc;
    size_t n = strlen(job->state);
    snprintf(job->state + n, sizeof(job->state) - n, ".user");
    unlink(job->state);
    snprintf(job->state + n, sizeof(job->state) - n, ".spec");
    unlink(job->state);
}

static void clean(struct container *c, loop_fn done, const struct error *why) {
    struct sandbox *s = c->sandbox;
    struct cleaning *job = XNEW(struct cleaning);
    job->rt = s->rt;
    job->c = c;
    if (why)
        job->why = *why;
    container_cgroup(c, job->cgroup);
    snprintf(job->root, sizeof(job->root), "%s/%.*s/%.*s", s->rt->root_dir, STR_ARG(s->id), STR_ARG(c->id));
    snprintf(job->state, sizeof(job->state), "%s/%.*s/%.*s", s->rt->state_dir, STR_ARG(s->id), STR_ARG(c->id));
    s->jobs++;
    runtime_job_begin(s->rt);
    loop_work(s->rt->loop, clean_work, done, job);
}

static void failed_start_cleaned(void *arg) {
    struct cleaning *job = arg;
    struct container *c = job->c;
    if (runtime_job_end(job->rt)) {
        free(job);
        return;
    }
    struct sandbox *s = c->sandbox;
    container_done started = c->started;
    void *started_arg = c->started_arg;
    container_free(c);
    started(started_arg, NULL, job->why.code, &job->why);
    sandbox_job_ended(s);
    free(job);
}

void container_on_started(struct sandbox *s, const struct monitor_message *m, int *fds, size_t fds_n) {
    struct container *c = sandbox_find(s, m->id);
    if (!c || !c->started || c->serial != m->serial)
        return;
    if (m->code < 0) {
        struct error why;
        error_set(&why, m->code, "%s", m->text);
        c->serial = 0;
        clean(c, failed_start_cleaned, &why);
        return;
    }
    container_take_status(c, m);
    if (m->text[0])
        log_debug("runtime", "container %s: %s", m->id, m->text);
    if (fds_n) {
        c->pidfd = fds[0];
        fds[0] = -1;
    }
    container_done started = c->started;
    c->started = NULL;
    started(c->started_arg, c, 0, NULL);
}

struct forgotten {
    container_done done;
    void *arg;
    struct error err;
};

static void tell_forgotten(void *arg) {
    struct forgotten *f = arg;
    f->done(f->arg, NULL, f->err.code, &f->err);
    free(f);
}

void container_forget(struct container *c) {
    if (c->started && c->serial) { /* serial 0: being cleaned, it tells by itself */
        struct forgotten *f = XNEW(struct forgotten);
        *f = (struct forgotten){c->started, c->started_arg, {0}};
        error_set(&f->err, -EPIPE, "the pod's monitor died");
        loop_post(c->sandbox->rt->loop, tell_forgotten, f);
        container_free(c);
    }
}

/* --- ending -------------------------------------------------------------------------------------------------------- */

int container_kill(struct container *c, int signal, struct error *err) {
    if (c->status.state != CONTAINER_RUNNING || c->pidfd < 0)
        return error_set(err, -ESRCH, "container %.*s is not running", STR_ARG(c->id));
    if (x_pidfd_send_signal(c->pidfd, signal ? signal : c->stop_signal) < 0)
        return error_sys(err, -errno, "signalling container %.*s", STR_ARG(c->id));
    return 0;
}

static void removed(void *arg) {
    struct cleaning *job = arg;
    struct container *c = job->c;
    if (runtime_job_end(job->rt)) {
        free(job);
        return;
    }
    struct sandbox *s = c->sandbox;
    if (job->code < 0)
        log_warn("runtime", "container %.*s: %s", STR_ARG(c->id), job->err.msg);
    __typeof__(c->waiters) waiters = c->waiters;
    c->waiters.items = NULL;
    c->waiters.n = c->waiters.cap = 0;
    container_free(c);
    for (size_t i = 0; i < waiters.n; i++)
        waiters.items[i].fn(waiters.items[i].arg);
    vec_fini(&waiters);
    sandbox_job_ended(s);
    free(job);
}

static void begin_clean(struct container *c) {
    struct monitor_message m = {.type = MONITOR_FORGET};
    memcpy(m.id, c->id.p, c->id.n);
    if (c->sandbox->link)
        link_send(c->sandbox->link, &m, STR_NULL, NULL, 0);
    clean(c, removed, NULL);
}

void container_clean_if_removing(struct container *c) {
    if (c->removing)
        begin_clean(c);
}

void container_remove(struct container *c, loop_fn done, void *arg) {
    struct waiter w = {done, arg};
    if (done)
        vec_push(&c->waiters, w);
    if (c->removing)
        return;
    c->removing = true;
    if (c->sandbox->phase == SANDBOX_REMOVING)
        return; /* it goes with its sandbox */
    if (c->status.state == CONTAINER_EXITED)
        begin_clean(c);
    else if (container_kill(c, SIGKILL, NULL) == -EPERM)
        log_warn("runtime", "container %.*s cannot be killed", STR_ARG(c->id));
    /* else its exit goes on with it */
}

void container_on_exited(struct sandbox *s, const struct monitor_message *m) {
    struct container *c = sandbox_find(s, m->id);
    if (!c || c->started || c->status.state == CONTAINER_EXITED)
        return;
    container_take_status(c, m);
    if (c->pidfd >= 0)
        close(c->pidfd);
    c->pidfd = -1;
    bool removing = c->removing;
    if (s->rt->events.on_container_exit)
        s->rt->events.on_container_exit(s->rt->events.arg, c);
    if (removing)
        begin_clean(c);
}

/* --- limits and use ------------------------------------------------------------------------------------------------ */

int container_update(struct container *c, const struct cgroup_limits *limits, struct error *err) {
    char path[CGROUP_PATH_MAX];
    if (c->status.state != CONTAINER_RUNNING)
        return error_set(err, -ESRCH, "container %.*s is not running", STR_ARG(c->id));
    container_cgroup(c, path);
    return cgroup_set_limits(&c->sandbox->rt->cgroups, path, limits, err);
}

int container_usage(const struct container *c, struct container_usage *out, struct error *err) {
    char path[CGROUP_PATH_MAX];
    container_cgroup(c, path);
    return cgroup_usage(&c->sandbox->rt->cgroups, path, out, err);
}
