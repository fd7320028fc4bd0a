/* Volumes of pods over time: preparing, tokens and their renewal, updates, mounts of containers, removal. */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <unistd.h>

#include "node/volume.h"

#define RETRY_MS 1000
#define RENEW_PERCENT 80

char *pod_dir(struct arena *a, const struct pod *p) {
    return arena_printf(a, "%s/pods/%.*s", p->node->o.data_dir, STR_ARG(p->uid));
}

/* --- writing on the pool ---------------------------------------------------------------------------------------- */

struct writing {
    struct volume_set *set;
    struct arena *arena;
    struct volume *volumes;
    size_t n;
    int rc;
    char what[200];
    struct error err;
};

static void write_all(void *arg) {
    struct writing *w = arg;
    for (size_t i = 0; i < w->n && w->rc == 0; i++) {
        w->rc = volume_write(&w->volumes[i], &w->err);
        if (w->rc < 0)
            snprintf(w->what, sizeof(w->what), "%.*s", STR_ARG(w->volumes[i].name));
    }
}

static void schedule_renewal(struct volume_set *set);

static void written(void *arg) {
    struct writing *w = arg;
    struct volume_set *set = w->set;
    struct pod *p = set->pod;
    set->running = false;
    if (w->rc < 0) {
        snprintf(p->wait_message, sizeof(p->wait_message), "MountVolume.SetUp failed for volume \"%.60s\" : %.170s",
                 w->what, w->err.msg);
        pod_event(p, "Warning", "FailedMount", "%s", p->wait_message);
        timer_set(&p->retry_timer, RETRY_MS, RETRY_MS / 2);
        arena_free(w->arena);
    } else {
        arena_free(set->arena);
        set->arena = w->arena;
        set->volumes = w->volumes;
        set->n = w->n;
        set->ready = true;
        schedule_renewal(set);
    }
    free(w);
    if (set->again) {
        set->again = false;
        volumes_start(p);
    }
    pod_want_sync(p);
}

/* --- tokens ----------------------------------------------------------------------------------------------------- */

static void token_made(void *arg, int code, const char *token, int64_t expires_at_s) {
    struct volume_token *t = arg;
    struct pod *p = t->pod;
    t->asked = false;
    if (p->stage >= POD_STOPPING) {
        pod_want_sync(p);
        return;
    }
    if (code < 0) {
        timer_set(&p->retry_timer, RETRY_MS, RETRY_MS / 2);
        return;
    }
    free(t->token);
    t->token = xstrdup(token);
    t->expires_at_s = expires_at_s;
    volumes_start(p);
}

static void ask_tokens(struct volume_set *set) {
    struct pod *p = set->pod;
    struct str account = json_str_at(object_json(p->object), "spec.serviceAccountName");
    for (size_t i = 0; i < set->tokens.n; i++) {
        struct volume_token *t = set->tokens.items[i];
        int64_t left = t->expires_at_s - time_now_s();
        if (t->asked || (t->token && left > t->expires_s * (100 - RENEW_PERCENT) / 100))
            continue;
        t->asked = true;
        client_token(p->node->client, p->object, account.n ? account : STR("default"), t->audience, t->expires_s,
                     p->node->loop, token_made, t);
    }
}

static void on_renew(void *arg) {
    ask_tokens(arg);
}

static void schedule_renewal(struct volume_set *set) {
    int64_t soonest = 0;
    for (size_t i = 0; i < set->tokens.n; i++) {
        struct volume_token *t = set->tokens.items[i];
        int64_t ms = (t->expires_at_s - time_now_s() - t->expires_s * (100 - RENEW_PERCENT) / 100) * 1000;
        soonest = soonest ? MIN(soonest, ms) : MAX(ms, (int64_t)1000);
    }
    if (soonest)
        timer_set(&set->renew, soonest, soonest / 20);
}

/* --- preparing -------------------------------------------------------------------------------------------------- */

void volumes_start(struct pod *p) {
    if (!p->volumes) {
        p->volumes = XNEW(struct volume_set);
        p->volumes->pod = p;
        timer_init(&p->volumes->renew, p->node->loop, on_renew, p->volumes);
    }
    struct volume_set *set = p->volumes;
    if (set->running) {
        set->again = true;
        return;
    }
    if (p->stage >= POD_STOPPING)
        return;
    struct writing *w = XNEW(struct writing);
    char before[sizeof(p->wait_message)];
    memcpy(before, p->wait_message, sizeof(before));
    w->set = set;
    w->arena = arena_new(KiB(4), 0);
    int rc = volume_plan(set, w->arena, &w->volumes, &w->n);
    ask_tokens(set);
    if (rc < 0) {
        bool waits_for_token = false;
        for (size_t i = 0; i < set->tokens.n; i++)
            waits_for_token |= set->tokens.items[i]->asked;
        if (!waits_for_token && strcmp(before, p->wait_message) != 0)
            pod_event(p, "Warning", "FailedMount", "%s", p->wait_message);
        if (waits_for_token)
            p->wait_message[0] = 0;
        arena_free(w->arena);
        free(w);
        return; /* a change of what is missing, or the token, brings us back */
    }
    p->wait_message[0] = 0;
    set->running = true;
    loop_work(p->node->loop, write_all, written, w);
}

bool volumes_ready(const struct pod *p) {
    return p->volumes && p->volumes->ready;
}

/* Whether a pod names the ConfigMap or Secret at all. */
static bool mentions(const struct json *volumes, const char *kind, struct str name) {
    for (size_t i = 0; i < json_len(volumes); i++) {
        const struct json *v = json_item(volumes, i), *own = json_get_c(v, kind),
                          *sources = json_at(v, "projected.sources");
        if (own && (str_eq(json_str_at(own, "name"), name) || str_eq(json_str_at(own, "secretName"), name)))
            return true;
        for (size_t k = 0; k < json_len(sources); k++)
            if (str_eq(json_str_at(json_get_c(json_item(sources, k), kind), "name"), name))
                return true;
    }
    return false;
}

void volumes_object_changed(struct node *n, const char *kind, struct object *o) {
    struct map_entry *e;
    for (size_t i = 0; (e = map_next(&n->pods, &i));) {
        struct pod *p = e->value;
        if (!str_eq(p->ns, o->ns) || p->stage >= POD_STOPPING)
            continue;
        if (p->volumes && mentions(json_at(object_json(p->object), "spec.volumes"), kind, o->name))
            volumes_start(p);
        for (size_t k = 0; k < p->slots_n; k++) /* a container that waits for what its environment names */
            if (strcmp(p->slots[k].reason, "CreateContainerConfigError") == 0 && p->slots[k].state == SLOT_BACKOFF) {
                p->slots[k].state = SLOT_WAITING;
                pod_want_sync(p);
            }
    }
}

/* --- mounts of a container -------------------------------------------------------------------------------------- */

static const struct volume *find_volume(const struct volume_set *set, struct str name) {
    for (size_t i = 0; set && i < set->n; i++)
        if (str_eq(set->volumes[i].name, name))
            return &set->volumes[i];
    return NULL;
}

static int refuse(struct slot *s, const char *message) {
    snprintf(s->reason, sizeof(s->reason), "CreateContainerConfigError");
    snprintf(s->message, sizeof(s->message), "%.390s", message);
    return -EINVAL;
}

static bool has_dotdot(struct str path) {
    for (struct str rest = path; rest.p;)
        if (str_eq(str_split(&rest, '/'), STR("..")))
            return true;
    return false;
}

static int mount_one(struct slot *s, struct arena *a, const struct env *env, const struct json *m, size_t index,
                     struct container_mount *out) {
    struct str name = json_str_at(m, "name"), sub = json_str_at(m, "subPath"),
               propagation = json_str_at(m, "mountPropagation");
    const struct volume *v = find_volume(s->pod->volumes, name);
    struct error err = {0};
    if (!v)
        return refuse(s, arena_printf(a, "volume \"%.*s\" is not there", STR_ARG(name)));
    if (json_str_at(m, "subPathExpr").n)
        sub = expand_variables(a, json_str_at(m, "subPathExpr"), env->items, env->n);
    out->source = str_c(v->dir);
    out->destination = json_str_at(m, "mountPath");
    out->read_only = json_bool_at(m, "readOnly", false) || v->type == VOLUME_FILES;
    out->recursive_read_only = !str_eq(json_str_at(m, "recursiveReadOnly"), STR("")) &&
                               !str_eq(json_str_at(m, "recursiveReadOnly"), STR("Disabled"));
    out->propagation = str_eq(propagation, STR("Bidirectional"))     ? MOUNT_BIDIRECTIONAL
                       : str_eq(propagation, STR("HostToContainer")) ? MOUNT_HOST_TO_CONTAINER
                                                                     : MOUNT_PRIVATE;
    if (sub.n == 0)
        return 0;
    if (sub.p[0] == '/' || has_dotdot(sub))
        return refuse(
            s,
            arena_printf(
                a,
                "failed to prepare subPath for volumeMount \"%.*s\" of container \"%.*s\": must be a relative path below the volume",
                STR_ARG(name), STR_ARG(s->name)));
    const char *target =
        arena_printf(a, "%s/volume-subpaths/%.*s/%.*s/%zu", pod_dir(a, s->pod), STR_ARG(name), STR_ARG(s->name), index);
    if (subpath_bind(v->dir, arena_strndup(a, sub.p, sub.n), target, out->read_only, &err) < 0)
        return refuse(s, arena_printf(a, "failed to prepare subPath for volumeMount \"%.*s\" of container \"%.*s\": %s",
                                      STR_ARG(name), STR_ARG(s->name), err.msg));
    out->source = str_c(target);
    return 0;
}

/* A file of the node's bound into the container. */
static void bind_file(struct container_mount *out, const char *source, const char *destination, bool read_only) {
    *out = (struct container_mount){.source = str_c(source),
                                    .destination = str_c(destination),
                                    .create_file = true,
                                    .read_only = read_only};
}

static bool mounts_path(const struct container_mount *list, size_t n, const char *path) {
    for (size_t i = 0; i < n; i++)
        if (str_eq_c(list[i].destination, path))
            return true;
    return false;
}

static int termination_log(struct slot *s, struct arena *a, struct container_mount *out) {
    const char *dir = arena_printf(a, "%s/containers/%.*s", pod_dir(a, s->pod), STR_ARG(s->name));
    const char *path = arena_printf(a, "%s/termination-log", dir);
    struct str where = json_str_at(s->spec, "terminationMessagePath");
    struct error err = {0};
    if (dir_make_all(dir, 0755, &err) < 0 || file_write_replace(path, STR(""), 0666, &err) < 0)
        return refuse(s, err.msg);
    bind_file(out, path, where.n ? arena_strndup(a, where.p, where.n) : "/dev/termination-log", false);
    return 0;
}

#define FILE_MOUNTS 4

int volumes_mounts(struct slot *s, struct arena *a, const struct env *env, struct container_mount **out, size_t *n) {
    const struct json *mounts = json_get_c(s->spec, "volumeMounts");
    struct container_mount *list = arena_alloc(a, (json_len(mounts) + FILE_MOUNTS) * sizeof(*list));
    const char *dir = pod_dir(a, s->pod);
    size_t used = 0;
    for (size_t i = 0; i < json_len(mounts); i++, used++) {
        int rc = mount_one(s, a, env, json_item(mounts, i), i, &list[used]);
        if (rc < 0)
            return rc;
    }
    bool read_only = json_bool_at(json_get_c(s->spec, "securityContext"), "readOnlyRootFilesystem", false);
    if (!mounts_path(list, used, "/etc/hosts"))
        bind_file(&list[used++], arena_printf(a, "%s/etc-hosts", dir), "/etc/hosts", read_only);
    if (!mounts_path(list, used, "/etc/resolv.conf"))
        bind_file(&list[used++], arena_printf(a, "%s/resolv.conf", dir), "/etc/resolv.conf", read_only);
    if (!mounts_path(list, used, "/etc/hostname"))
        bind_file(&list[used++], arena_printf(a, "%s/hostname", dir), "/etc/hostname", read_only);
    int rc = termination_log(s, a, &list[used]);
    if (rc < 0)
        return rc;
    *out = list;
    *n = used + 1;
    return 0;
}

/* --- removal ---------------------------------------------------------------------------------------------------- */

struct removal {
    char *dir;
    loop_fn done;
    void *arg;
};

/* Lets go of everything mounted below a directory, deepest first. */
static void unmount_below(const char *dir) {
    struct buf text = {.limit = MiB(16)};
    VEC(char *) found = {0};
    size_t n = strlen(dir);
    if (file_read("/proc/self/mountinfo", &text, NULL) == 0)
        for (struct str rest = buf_str(&text); rest.p;) {
            struct str line = str_split(&rest, '\n'), part = STR("");
            for (int i = 0; i < 5 && line.p; i++)
                part = str_split(&line, ' ');
            if (part.n > n && memcmp(part.p, dir, n) == 0 && part.p[n] == '/')
                vec_push(&found, xstrndup(part.p, part.n));
        }
    for (size_t i = found.n; i > 0; i--) {
        umount2(found.items[i - 1], MNT_DETACH | UMOUNT_NOFOLLOW);
        free(found.items[i - 1]);
    }
    vec_fini(&found);
    buf_fini(&text);
}

static void remove_dir(void *arg) {
    struct removal *r = arg;
    struct error err = {0};
    unmount_below(r->dir);
    if (dir_remove_all(r->dir, &err) < 0)
        log_warn("node", "%s: %s", r->dir, err.msg);
}

static void removed(void *arg) {
    struct removal *r = arg;
    if (r->done)
        r->done(r->arg);
    free(r->dir);
    free(r);
}

static void remove_on_pool(struct node *n, char *dir, loop_fn done, void *arg) {
    struct removal *r = XNEW(struct removal);
    *r = (struct removal){dir, done, arg};
    loop_work(n->loop, remove_dir, removed, r);
}

void volumes_remove(struct pod *p, loop_fn done, void *arg) {
    struct arena *a = arena_new(KiB(1), 0);
    char *dir = xstrdup(pod_dir(a, p));
    arena_free(a);
    if (p->volumes)
        timer_stop(&p->volumes->renew);
    remove_on_pool(p->node, dir, done, arg);
}

bool volumes_idle(const struct pod *p) {
    const struct volume_set *set = p->volumes;
    for (size_t i = 0; set && i < set->tokens.n; i++)
        if (set->tokens.items[i]->asked)
            return false;
    return !set || !set->running;
}

void volumes_free(struct pod *p) {
    struct volume_set *set = p->volumes;
    if (!set)
        return;
    timer_stop(&set->renew);
    for (size_t i = 0; i < set->tokens.n; i++) {
        free(set->tokens.items[i]->token);
        free(set->tokens.items[i]);
    }
    vec_fini(&set->tokens);
    arena_free(set->arena);
    free(set);
    p->volumes = NULL;
}

void volumes_clean_orphans(struct node *n) {
    struct arena *a = arena_new(KiB(1), 0);
    const char *base = node_path(a, n, "pods");
    DIR *d = opendir(base);
    for (struct dirent *e; d && (e = readdir(d));) {
        if (e->d_name[0] == '.' || node_pod(n, str_c(e->d_name)))
            continue;
        remove_on_pool(n, xasprintf("%s/%s", base, e->d_name), NULL, NULL);
    }
    if (d)
        closedir(d);
    arena_free(a);
}
