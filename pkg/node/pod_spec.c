/* From a Pod's spec to what the runtime is asked for. */
#include <stdio.h>
#include <stdlib.h>

#include "node/node_priv.h"

#define SHARES_PER_CPU 1024
#define PERIOD_US 100000
#define QUOTA_MIN_US 1000

/* --- quality of service ----------------------------------------------------------------------------------------- */

static bool has_any(const struct json *container, const char *path) {
    return json_len(json_at(container, path)) > 0;
}

static bool is_guaranteed(const struct json *container) {
    static const char *const names[] = {"cpu", "memory"};
    const struct json *limits = json_at(container, "resources.limits"),
                      *requests = json_at(container, "resources.requests");
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        struct str limit = json_as_str(json_get_c(limits, names[i])),
                   request = json_as_str(json_get_c(requests, names[i]));
        if (limit.n == 0 || (request.n && quantity_cmp(limit, request) != 0))
            return false;
    }
    return true;
}

const char *pod_qos(const struct json *pod) {
    struct str known = json_str_at(pod, "status.qosClass");
    static const char *const classes[] = {"Guaranteed", "Burstable", "BestEffort"};
    for (size_t i = 0; i < ARRAY_LEN(classes); i++)
        if (str_eq_c(known, classes[i]))
            return classes[i];
    static const char *const lists[] = {"spec.containers", "spec.initContainers"};
    bool any = false, all = true;
    for (size_t k = 0; k < ARRAY_LEN(lists); k++) {
        const struct json *list = json_at(pod, lists[k]);
        for (size_t i = 0; i < json_len(list); i++) {
            const struct json *c = json_item(list, i);
            any |= has_any(c, "resources.limits") || has_any(c, "resources.requests");
            all &= is_guaranteed(c);
        }
    }
    return !any ? "BestEffort" : all ? "Guaranteed" : "Burstable";
}

static uint64_t shares_of(int64_t milli) {
    uint64_t s = (uint64_t)milli * SHARES_PER_CPU / 1000;
    return s < 2 ? 2 : MIN(s, (uint64_t)262144);
}

static void read_limits(const struct json *resources, struct cgroup_limits *out) {
    const struct json *limits = json_get_c(resources, "limits"), *requests = json_get_c(resources, "requests");
    int64_t cpu = 0, memory = 0, cpu_request = 0;
    bool has_request = quantity_milli(json_as_str(json_get_c(requests, "cpu")), &cpu_request);
    if (quantity_milli(json_as_str(json_get_c(limits, "cpu")), &cpu) && cpu > 0) {
        out->cpu_period_us = PERIOD_US;
        out->cpu_quota_us = MAX(cpu * PERIOD_US / 1000, (int64_t)QUOTA_MIN_US);
        if (!has_request)
            cpu_request = cpu;
    }
    out->cpu_shares = shares_of(cpu_request);
    if (quantity_value(json_as_str(json_get_c(limits, "memory")), &memory) && memory > 0)
        out->memory_bytes = memory;
    quantity_value(json_as_str(json_get_c(requests, "memory")), &out->memory_request_bytes);
}

/* Limits of the pod's group: the sum, where every container has one. */
static void pod_limits(const struct json *pod, struct cgroup_limits *out) {
    const struct json *list = json_at(pod, "spec.containers");
    int64_t quota = 0, memory = 0;
    bool all_quota = true, all_memory = true;
    uint64_t shares = 0;
    for (size_t i = 0; i < json_len(list); i++) {
        struct cgroup_limits one = {0};
        read_limits(json_get_c(json_item(list, i), "resources"), &one);
        shares += one.cpu_shares;
        quota += one.cpu_quota_us;
        memory += one.memory_bytes;
        all_quota &= one.cpu_quota_us > 0;
        all_memory &= one.memory_bytes > 0;
    }
    *out = (struct cgroup_limits){.cpu_shares = MAX(shares, (uint64_t)2)};
    if (json_len(json_at(pod, "spec.initContainers")))
        all_quota = all_memory = false; /* theirs may be larger; each container keeps its own */
    if (all_quota) {
        out->cpu_quota_us = quota;
        out->cpu_period_us = PERIOD_US;
    }
    if (all_memory)
        out->memory_bytes = memory;
}

/* As a kubelet sets it: guaranteed pods go last, best-effort ones first. */
static int oom_score(const struct pod *p, const struct json *container) {
    const char *qos = pod_qos(object_json(p->object));
    struct str priority = json_str_at(object_json(p->object), "spec.priorityClassName");
    if (strcmp(qos, "Guaranteed") == 0 || str_eq(priority, STR("system-node-critical")))
        return -997;
    if (strcmp(qos, "BestEffort") == 0)
        return 1000;
    int64_t request = 0, capacity = 0;
    quantity_value(json_as_str(json_get_c(json_at(container, "resources.requests"), "memory")), &request);
    if (p->node->node_object)
        quantity_value(json_as_str(json_get_c(json_at(object_json(p->node->node_object), "status.capacity"), "memory")),
                       &capacity);
    int64_t score = capacity > 0 ? 1000 - 1000 * request / capacity : 999;
    return (int)MIN(MAX(score, INT64_C(3)), INT64_C(999));
}

/* --- sandbox ---------------------------------------------------------------------------------------------------- */

struct str pod_hostname(const struct pod *p) {
    const struct json *spec = json_get_c(object_json(p->object), "spec");
    if (json_bool_at(spec, "hostNetwork", false))
        return str_c(p->node->o.name);
    struct str given = json_str_at(spec, "hostname");
    struct str name = given.n ? given : p->name;
    if (name.n > 63) { /* a host name holds no more */
        name.n = 63;
        while (name.n && (name.p[name.n - 1] == '-' || name.p[name.n - 1] == '.'))
            name.n--;
    }
    return name;
}

void sandbox_config_make(struct pod *p, struct arena *a, struct sandbox_config *cfg) {
    const struct json *o = object_json(p->object), *spec = json_get_c(o, "spec");
    const struct json *sysctls = json_at(spec, "securityContext.sysctls");
    const char *qos = pod_qos(o);
    struct cgroup_limits *limits = ARENA_NEW(a, struct cgroup_limits);
    pod_limits(o, limits);
    cfg->id = str_dup(a, p->uid);
    cfg->metadata = str_printf(a, "{\"uid\":\"%.*s\"}", STR_ARG(p->uid));
    cfg->host_network = json_bool_at(spec, "hostNetwork", false);
    cfg->host_pid = json_bool_at(spec, "hostPID", false);
    cfg->host_ipc = json_bool_at(spec, "hostIPC", false);
    cfg->share_pid = json_bool_at(spec, "shareProcessNamespace", false);
    cfg->hostname = pod_hostname(p);
    cfg->cgroup = limits;
    cfg->cgroup_parent =
        strcmp(qos, "Guaranteed") == 0
            ? str_printf(a, "pod%.*s", STR_ARG(p->uid))
            : str_printf(a, "%s/pod%.*s", strcmp(qos, "Burstable") == 0 ? "burstable" : "besteffort", STR_ARG(p->uid));
    size_t n = json_len(sysctls);
    struct str *pairs = arena_alloc(a, (n + 1) * 2 * sizeof(*pairs));
    for (size_t i = 0; i < n; i++) {
        pairs[2 * i] = json_str_at(json_item(sysctls, i), "name");
        pairs[2 * i + 1] = json_str_at(json_item(sysctls, i), "value");
    }
    cfg->sysctls = pairs;
    cfg->sysctls_n = n;
}

/* --- container -------------------------------------------------------------------------------------------------- */

static void list_of(struct arena *a, const struct json *v, const struct env *env, struct str **out, size_t *n) {
    *n = json_len(v);
    *out = arena_alloc(a, (*n + 1) * sizeof(**out));
    for (size_t i = 0; i < *n; i++) {
        struct str s = json_as_str(json_item(v, i));
        (*out)[i] = env ? expand_variables(a, s, env->items, env->n) : s;
    }
}

/* command replaces the entrypoint and drops the image's command; args replace the command. */
static int make_argv(struct slot *s, struct arena *a, const struct env *env, struct container_config *cfg) {
    const struct json *image = s->image->config;
    struct str *head, *tail, *all;
    size_t head_n, tail_n;
    list_of(a, json_get_c(s->spec, "command"), env, &head, &head_n);
    list_of(a, json_get_c(s->spec, "args"), env, &tail, &tail_n);
    bool own_command = head_n > 0;
    if (!own_command)
        list_of(a, json_get_c(image, "Entrypoint"), NULL, &head, &head_n);
    if (!own_command && tail_n == 0)
        list_of(a, json_get_c(image, "Cmd"), NULL, &tail, &tail_n);
    if (head_n + tail_n == 0) {
        snprintf(s->reason, sizeof(s->reason), "CreateContainerError");
        snprintf(s->message, sizeof(s->message), "no command specified");
        return -EINVAL;
    }
    all = arena_alloc(a, (head_n + tail_n) * sizeof(*all));
    memcpy(all, head, head_n * sizeof(*all));
    if (tail_n)
        memcpy(all + head_n, tail, tail_n * sizeof(*all));
    cfg->argv = all;
    cfg->argv_n = head_n + tail_n;
    return 0;
}

/* The container's setting, or the pod's. */
static const struct json *security(const struct slot *s, const char *name) {
    const struct json *own = json_get_c(json_get_c(s->spec, "securityContext"), name);
    return own ? own : json_get_c(json_at(object_json(s->pod->object), "spec.securityContext"), name);
}

static int refuse(struct slot *s, const char *message) {
    snprintf(s->reason, sizeof(s->reason), "CreateContainerConfigError");
    snprintf(s->message, sizeof(s->message), "%.390s", message);
    return -EINVAL;
}

static bool is_root_name(struct str user) {
    return user.n == 0 || str_eq(user, STR("root")) || str_eq(user, STR("0"));
}

static int make_user(struct slot *s, struct arena *a, struct container_config *cfg) {
    const struct json *pod = json_at(object_json(s->pod->object), "spec.securityContext");
    struct str image_user = json_str_at(s->image->config, "User"), name = image_user;
    str_cut(image_user, ':', &name, NULL);
    cfg->user.user = image_user;
    cfg->user.uid = json_as_int(security(s, "runAsUser"), -1);
    cfg->user.gid = json_as_int(security(s, "runAsGroup"), -1);
    const struct json *groups = json_get_c(pod, "supplementalGroups"), *fs_group = json_get_c(pod, "fsGroup");
    uint32_t *list = arena_alloc(a, (json_len(groups) + 1) * sizeof(*list));
    size_t n = 0;
    for (size_t i = 0; i < json_len(groups); i++)
        list[n++] = (uint32_t)json_as_int(json_item(groups, i), 0);
    if (fs_group)
        list[n++] = (uint32_t)json_as_int(fs_group, 0);
    cfg->user.groups = list;
    cfg->user.groups_n = n;
    cfg->user.merge_image_groups = !str_eq(json_str_at(pod, "supplementalGroupsPolicy"), STR("Strict"));
    if (!json_as_bool(security(s, "runAsNonRoot"), false))
        return 0;
    if (cfg->user.uid == 0)
        return refuse(
            s,
            arena_printf(a, "container's runAsUser breaks non-root policy (pod: \"%.*s_%.*s(%.*s)\", container: %.*s)",
                         STR_ARG(s->pod->name), STR_ARG(s->pod->ns), STR_ARG(s->pod->uid), STR_ARG(s->name)));
    if (cfg->user.uid < 0 && is_root_name(name))
        return refuse(
            s,
            arena_printf(
                a, "container has runAsNonRoot and image will run as root (pod: \"%.*s_%.*s(%.*s)\", container: %.*s)",
                STR_ARG(s->pod->name), STR_ARG(s->pod->ns), STR_ARG(s->pod->uid), STR_ARG(s->name)));
    int64_t number;
    if (cfg->user.uid < 0 && !str_to_i64(name, &number))
        return refuse(
            s,
            arena_printf(
                a,
                "container has runAsNonRoot and image has non-numeric user (%.*s), cannot verify user is non-root (pod: \"%.*s_%.*s(%.*s)\", container: %.*s)",
                STR_ARG(name), STR_ARG(s->pod->name), STR_ARG(s->pod->ns), STR_ARG(s->pod->uid), STR_ARG(s->name)));
    return 0;
}

static const char *const capability_names[] = {"CHOWN",
                                               "DAC_OVERRIDE",
                                               "DAC_READ_SEARCH",
                                               "FOWNER",
                                               "FSETID",
                                               "KILL",
                                               "SETGID",
                                               "SETUID",
                                               "SETPCAP",
                                               "LINUX_IMMUTABLE",
                                               "NET_BIND_SERVICE",
                                               "NET_BROADCAST",
                                               "NET_ADMIN",
                                               "NET_RAW",
                                               "IPC_LOCK",
                                               "IPC_OWNER",
                                               "SYS_MODULE",
                                               "SYS_RAWIO",
                                               "SYS_CHROOT",
                                               "SYS_PTRACE",
                                               "SYS_PACCT",
                                               "SYS_ADMIN",
                                               "SYS_BOOT",
                                               "SYS_NICE",
                                               "SYS_RESOURCE",
                                               "SYS_TIME",
                                               "SYS_TTY_CONFIG",
                                               "MKNOD",
                                               "LEASE",
                                               "AUDIT_WRITE",
                                               "AUDIT_CONTROL",
                                               "SETFCAP",
                                               "MAC_OVERRIDE",
                                               "MAC_ADMIN",
                                               "SYSLOG",
                                               "WAKE_ALARM",
                                               "BLOCK_SUSPEND",
                                               "AUDIT_READ",
                                               "PERFMON",
                                               "BPF",
                                               "CHECKPOINT_RESTORE"};
#define ALL_CAPABILITIES ((UINT64_C(1) << ARRAY_LEN(capability_names)) - 1)

/* The bits of a list of names; false and *bad for one that does not exist. */
static bool capability_bits(const struct json *list, uint64_t *bits, struct str *bad) {
    for (size_t i = 0; i < json_len(list); i++) {
        struct str name = json_as_str(json_item(list, i));
        if (str_starts(name, STR("CAP_")))
            name = str_skip(name, 4);
        size_t k = 0;
        if (str_eq_nocase(name, STR("ALL"))) {
            *bits |= ALL_CAPABILITIES;
            continue;
        }
        while (k < ARRAY_LEN(capability_names) && !str_eq_nocase(name, str_c(capability_names[k])))
            k++;
        if (k == ARRAY_LEN(capability_names)) {
            *bad = name;
            return false;
        }
        *bits |= UINT64_C(1) << k;
    }
    return true;
}

static int make_security(struct slot *s, struct arena *a, struct container_config *cfg) {
    const struct json *own = json_get_c(s->spec, "securityContext"), *caps = json_get_c(own, "capabilities");
    uint64_t add = 0, drop = 0;
    struct str bad = STR("");
    if (!capability_bits(json_get_c(caps, "add"), &add, &bad) ||
        !capability_bits(json_get_c(caps, "drop"), &drop, &bad))
        return refuse(s, arena_printf(a, "unknown capability \"%.*s\"", STR_ARG(bad)));
    cfg->privileged = json_bool_at(own, "privileged", false);
    cfg->capabilities = cfg->privileged ? ALL_CAPABILITIES : (RUNTIME_DEFAULT_CAPABILITIES & ~drop) | add;
    if (drop == ALL_CAPABILITIES && !cfg->privileged)
        cfg->capabilities = add;
    cfg->read_only_root = json_bool_at(own, "readOnlyRootFilesystem", false);
    cfg->no_new_privs = !json_bool_at(own, "allowPrivilegeEscalation", true);
    cfg->unmasked_proc = str_eq(json_str_at(own, "procMount"), STR("Unmasked"));
    struct str profile = json_str_at(security(s, "seccompProfile"), "type");
    cfg->seccomp = cfg->privileged || str_eq(profile, STR("Unconfined")) ? SECCOMP_UNCONFINED : SECCOMP_RUNTIME_DEFAULT;
    if (str_eq(profile, STR("Localhost"))) {
        struct buf b = {.limit = MiB(1)};
        struct error err = {0};
        struct str file = json_str_at(security(s, "seccompProfile"), "localhostProfile");
        if (str_find(file, STR("..")) >= 0)
            return refuse(s, "seccompProfile.localhostProfile: must stay below the node's seccomp directory");
        const char *path = node_path(a, s->pod->node, "seccomp/%.*s", STR_ARG(file));
        if (file_read(path, &b, &err) < 0) {
            buf_fini(&b);
            return refuse(s, err.msg);
        }
        cfg->seccomp = SECCOMP_LOCALHOST;
        cfg->seccomp_profile = str_dup(a, buf_str(&b));
        buf_fini(&b);
    }
    return 0;
}

static const struct {
    const char *name;
    int number;
} signals[] = {{"SIGTERM", 15}, {"SIGKILL", 9},  {"SIGINT", 2},    {"SIGQUIT", 3},    {"SIGHUP", 1},
               {"SIGUSR1", 10}, {"SIGUSR2", 12}, {"SIGWINCH", 28}, {"SIGRTMIN+3", 37}};

static int stop_signal(const struct json *image_config) {
    struct str s = json_str_at(image_config, "StopSignal");
    int64_t number;
    for (size_t i = 0; i < ARRAY_LEN(signals); i++)
        if (str_eq_c(s, signals[i].name) ||
            (str_starts(str_c(signals[i].name), STR("SIG")) && str_eq_c(s, signals[i].name + 3)))
            return signals[i].number;
    return str_to_i64(s, &number) && number > 0 && number < 65 ? (int)number : 15;
}

char *log_path_of(struct arena *a, const struct slot *s, int restart_count) {
    const struct pod *p = s->pod;
    return arena_printf(a, "%s/%.*s_%.*s_%.*s/%.*s/%d.log", p->node->o.log_dir, STR_ARG(p->ns), STR_ARG(p->name),
                        STR_ARG(p->uid), STR_ARG(s->name), restart_count);
}

static int make_log_dir(struct slot *s, struct arena *a) {
    char *path = log_path_of(a, s, 0);
    struct error err = {0};
    *strrchr(path, '/') = 0;
    if (dir_make_all(path, 0755, &err) < 0)
        return refuse(s, err.msg);
    return 0;
}

int container_config_make(struct slot *s, struct arena *a, struct container_config *cfg) {
    char id[33], message[300] = "";
    struct env *env = ARENA_NEW(a, struct env);
    struct container_mount *mounts;
    if (env_make(s, a, env, message, sizeof(message)) < 0) {
        refuse(s, message);
        return -ENOENT;
    }
    int rc = make_argv(s, a, env, cfg);
    if (rc == 0)
        rc = make_user(s, a, cfg);
    if (rc == 0)
        rc = make_security(s, a, cfg);
    if (rc == 0)
        rc = make_log_dir(s, a);
    if (rc == 0)
        rc = volumes_mounts(s, a, env, &mounts, &cfg->mounts_n);
    if (rc < 0)
        return rc;
    rand_hex(id, 32);
    cfg->id = str_dup(a, str_c(id));
    cfg->name = s->name;
    cfg->image = s->image;
    cfg->envp = env->items;
    cfg->envp_n = env->n;
    cfg->mounts = mounts;
    struct str cwd = json_str_at(s->spec, "workingDir");
    cfg->cwd = cwd.n ? cwd : json_str_at(s->image->config, "WorkingDir");
    cfg->oom_score_adj = oom_score(s->pod, s->spec);
    read_limits(json_get_c(s->spec, "resources"), &cfg->cgroup);
    cfg->cgroup.oom_group = true;
    cfg->tty = json_bool_at(s->spec, "tty", false);
    cfg->stdin_open = json_bool_at(s->spec, "stdin", false);
    cfg->stdin_once = json_bool_at(s->spec, "stdinOnce", false);
    cfg->stop_signal = stop_signal(s->image->config);
    return 0;
}
