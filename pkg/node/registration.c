/* The Node object: made or taken over at start, its status written when it changes, its lease renewed. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/statvfs.h>
#include <sys/sysinfo.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "node/node_priv.h"

#define LEASE_RENEW_MS 10000
#define LEASE_SECONDS 40
#define LEASE_SLACK_MS 2000
#define RETRY_MS 500
#define IMAGES_MAX 50

/* --- facts of the machine --------------------------------------------------------------------------------------- */

static struct str file_line(struct arena *a, const char *path) {
    struct buf b = {.limit = KiB(4)};
    struct str s = file_read(path, &b, NULL) == 0 ? str_dup(a, str_trim(buf_str(&b))) : STR("");
    buf_fini(&b);
    return s;
}

static struct str os_image(struct arena *a) {
    struct buf b = {.limit = KiB(16)};
    struct str found = STR("Linux");
    if (file_read("/etc/os-release", &b, NULL) == 0)
        for (struct str rest = buf_str(&b), line; rest.p;) {
            line = str_split(&rest, '\n');
            if (str_starts(line, STR("PRETTY_NAME="))) {
                line = str_skip(line, 12);
                if (line.n >= 2 && line.p[0] == '"')
                    line = str_n(line.p + 1, line.n - 2);
                found = str_dup(a, line);
            }
        }
    buf_fini(&b);
    return found;
}

static const char *go_arch(void) {
#if defined(__x86_64__)
    return "amd64";
#elif defined(__aarch64__)
    return "arm64";
#elif defined(__riscv)
    return "riscv64";
#else
    return "arm";
#endif
}

static struct json *capacity(struct node *n, struct arena *a) {
    struct json *c = json_object(a);
    struct sysinfo info;
    struct statvfs fs;
    sysinfo(&info);
    json_set(a, c, STR("cpu"), json_strf(a, "%ld", sysconf(_SC_NPROCESSORS_ONLN)));
    if (statvfs(n->o.data_dir, &fs) == 0)
        json_set(a, c, STR("ephemeral-storage"),
                 json_strf(a, "%lluKi", (unsigned long long)fs.f_blocks * fs.f_frsize / 1024));
    json_set_cstr(a, c, "hugepages-1Gi", "0");
    json_set_cstr(a, c, "hugepages-2Mi", "0");
    json_set(a, c, STR("memory"), json_strf(a, "%lluKi", (unsigned long long)info.totalram * info.mem_unit / 1024));
    json_set(a, c, STR("pods"), json_strf(a, "%d", n->o.max_pods));
    return c;
}

static struct json *node_info(struct node *n, struct arena *a) {
    struct json *i = json_object(a);
    struct utsname u;
    uname(&u);
    json_set_cstr(a, i, "architecture", go_arch());
    json_set_str(a, i, "bootID", file_line(a, "/proc/sys/kernel/random/boot_id"));
    json_set(a, i, STR("containerRuntimeVersion"),
             json_strf(a, "dory://%s", n->o.version[0] == 'v' ? n->o.version + 1 : n->o.version));
    json_set_cstr(a, i, "kernelVersion", u.release);
    json_set_cstr(a, i, "kubeProxyVersion", "");
    json_set_cstr(a, i, "kubeletVersion", n->o.version);
    json_set_str(a, i, "machineID", file_line(a, "/etc/machine-id"));
    json_set_cstr(a, i, "operatingSystem", "linux");
    json_set_str(a, i, "osImage", os_image(a));
    json_set_str(a, i, "systemUUID", file_line(a, "/sys/class/dmi/id/product_uuid"));
    return i;
}

static void add_address(struct arena *a, struct json *list, const char *type, const char *address) {
    struct json *o = json_object(a);
    json_set_cstr(a, o, "address", address);
    json_set_cstr(a, o, "type", type);
    json_append(a, list, o);
}

struct image_lister {
    struct arena *a;
    struct json *list;
};

static void list_image(void *arg, struct image *img) {
    struct image_lister *l = arg;
    struct json *o = json_object(l->a), *names = json_array(l->a);
    if (json_len(l->list) >= IMAGES_MAX)
        return;
    for (size_t i = 0; i < img->repo_digests_n; i++)
        json_append(l->a, names, json_str(l->a, img->repo_digests[i]));
    for (size_t i = 0; i < img->repo_tags_n; i++)
        json_append(l->a, names, json_str(l->a, img->repo_tags[i]));
    json_set_c(l->a, o, "names", names);
    json_set_int(l->a, o, "sizeBytes", (int64_t)img->size_bytes);
    json_append(l->a, l->list, o);
}

/* --- status ----------------------------------------------------------------------------------------------------- */

/* The condition's times are those of what was sent before while its status stays. */
static void add_condition(struct node *n, struct arena *a, struct json *list, const char *type, bool is_true,
                          const char *reason, const char *message) {
    char now[TIME_RFC3339_MAX];
    struct json *c = json_object(a);
    const struct json *old = NULL, *before = json_get_c(n->node_status_sent, "conditions");
    if (!before && n->node_object) /* a restart is no transition */
        before = json_at(object_json(n->node_object), "status.conditions");
    for (size_t i = 0; i < json_len(before); i++)
        if (str_eq_c(json_str_at(json_item(before, i), "type"), type))
            old = json_item(before, i);
    bool same = old && str_eq_c(json_str_at(old, "status"), is_true ? "True" : "False");
    time_now_rfc3339(now);
    json_set_cstr(a, c, "type", type);
    json_set_cstr(a, c, "status", is_true ? "True" : "False");
    json_set_str(a, c, "lastHeartbeatTime", same ? json_str_at(old, "lastHeartbeatTime") : str_c(now));
    json_set_str(a, c, "lastTransitionTime", same ? json_str_at(old, "lastTransitionTime") : str_c(now));
    json_set_cstr(a, c, "reason", reason);
    json_set_cstr(a, c, "message", message);
    json_append(a, list, c);
}

static struct json *make_status(struct node *n, struct arena *a) {
    struct json *s = json_object(a), *addresses = json_array(a), *conditions = json_array(a), *images = json_array(a);
    add_address(a, addresses, "InternalIP", n->o.address);
    add_address(a, addresses, "Hostname", n->o.name);
    json_set_c(a, s, "addresses", addresses);
    json_set_c(a, s, "allocatable", capacity(n, a));
    json_set_c(a, s, "capacity", capacity(n, a));
    add_condition(n, a, conditions, "MemoryPressure", false, "KubeletHasSufficientMemory",
                  "kubelet has sufficient memory available");
    add_condition(n, a, conditions, "DiskPressure", false, "KubeletHasNoDiskPressure", "kubelet has no disk pressure");
    add_condition(n, a, conditions, "PIDPressure", false, "KubeletHasSufficientPID",
                  "kubelet has sufficient PID available");
    if (n->network_ready)
        add_condition(n, a, conditions, "Ready", true, "KubeletReady", "kubelet is posting ready status");
    else
        add_condition(n, a, conditions, "Ready", false, "KubeletNotReady", n->network_reason);
    json_set_c(a, s, "conditions", conditions);
    image_each(n->images, list_image, &(struct image_lister){a, images});
    if (json_len(images))
        json_set_c(a, s, "images", images);
    json_set_c(a, s, "nodeInfo", node_info(n, a));
    return s;
}

static void send_status(void *arg);

static void status_written(void *arg, int code, struct object *o, const struct api_status *status) {
    struct node *n = arg;
    (void)o;
    n->node_status_flying = false;
    if (n->stopping)
        return;
    if (code < 0) {
        log_warn("node", "writing the node's status: %.*s", STR_ARG(status->message));
        json_del_c(n->node_status_sent, "conditions");
        timer_set(&n->status_timer, RETRY_MS, 0);
    } else if (n->node_status_dirty) {
        send_status(n);
    }
}

static void send_status(void *arg) {
    struct node *n = arg;
    if (!n->registered || n->stopping)
        return;
    if (n->node_status_flying) {
        n->node_status_dirty = true;
        return;
    }
    n->node_status_dirty = false;
    struct arena *a = arena_new(KiB(8), 0);
    struct json *status = make_status(n, a), *body = json_object(a);
    if (json_equal(status, n->node_status_sent)) {
        arena_free(a);
        return;
    }
    json_set_c(a, body, "status", status);
    arena_free(n->node_status_arena);
    n->node_status_arena = a;
    n->node_status_sent = status;
    n->node_status_flying = true;
    client_do(n->client, &(struct client_request){.verb = CLIENT_PATCH_MERGE,
                                                  .resource = "nodes",
                                                  .name = str_c(n->o.name),
                                                  .subresource = STR("status"),
                                                  .body = body,
                                                  .loop = n->loop,
                                                  .done = status_written,
                                                  .arg = n});
}

void registration_update(struct node *n) {
    send_status(n);
}

/* --- lease ------------------------------------------------------------------------------------------------------ */

static struct json *lease_body(struct node *n, struct arena *a) {
    char now[TIME_RFC3339_MAX];
    struct json *o = json_object(a), *spec = json_object(a);
    json_set_cstr(a, o, "apiVersion", "coordination.k8s.io/v1");
    json_set_cstr(a, o, "kind", "Lease");
    json_put(a, o, "metadata.name", json_cstr(a, n->o.name));
    json_put(a, o, "metadata.namespace", json_cstr(a, "kube-node-lease"));
    json_set_cstr(a, spec, "holderIdentity", n->o.name);
    json_set_int(a, spec, "leaseDurationSeconds", LEASE_SECONDS);
    json_set_cstr(a, spec, "renewTime", time_now_micro(now));
    json_set_c(a, o, "spec", spec);
    return o;
}

static void lease_created(void *arg, int code, struct object *o, const struct api_status *status) {
    struct node *n = arg;
    (void)o;
    if (code < 0 && code != -EEXIST && !n->stopping)
        log_warn("node", "lease: %.*s", STR_ARG(status->message));
}

static void lease_renewed(void *arg, int code, struct object *o, const struct api_status *status) {
    struct node *n = arg;
    (void)o;
    (void)status;
    if (code != -ENOENT || n->stopping)
        return;
    struct arena *a = arena_new(KiB(1), 0);
    client_do(n->client, &(struct client_request){.verb = CLIENT_CREATE,
                                                  .resource = "leases.coordination.k8s.io",
                                                  .ns = STR("kube-node-lease"),
                                                  .body = lease_body(n, a),
                                                  .loop = n->loop,
                                                  .done = lease_created,
                                                  .arg = n});
    arena_free(a);
}

static void renew_lease(void *arg) {
    struct node *n = arg;
    struct arena *a = arena_new(KiB(1), 0);
    client_do(n->client, &(struct client_request){.verb = CLIENT_PATCH_MERGE,
                                                  .resource = "leases.coordination.k8s.io",
                                                  .ns = STR("kube-node-lease"),
                                                  .name = str_c(n->o.name),
                                                  .body = lease_body(n, a),
                                                  .loop = n->loop,
                                                  .done = lease_renewed,
                                                  .arg = n});
    arena_free(a);
    timer_set(&n->lease_timer, LEASE_RENEW_MS, LEASE_SLACK_MS);
}

/* --- registration ----------------------------------------------------------------------------------------------- */

static void add_labels(struct node *n, struct arena *a, struct json *meta) {
    struct json *l = json_object(a);
    json_set_cstr(a, l, "beta.kubernetes.io/arch", go_arch());
    json_set_cstr(a, l, "beta.kubernetes.io/os", "linux");
    json_set_cstr(a, l, "kubernetes.io/arch", go_arch());
    json_set_cstr(a, l, "kubernetes.io/hostname", n->o.name);
    json_set_cstr(a, l, "kubernetes.io/os", "linux");
    json_set_cstr(a, l, "node-role.kubernetes.io/control-plane", "true");
    json_set_cstr(a, l, "node.kubernetes.io/instance-type", "dory");
    for (size_t i = 0; n->o.labels[i]; i++) {
        struct str key, value;
        if (str_cut(str_c(n->o.labels[i]), '=', &key, &value))
            json_set(a, l, key, json_str(a, value));
    }
    json_set_c(a, meta, "labels", l);
}

/* "key=value:Effect" */
static struct json *taints(struct node *n, struct arena *a) {
    struct json *list = json_array(a);
    for (size_t i = 0; n->o.taints[i]; i++) {
        struct str s = str_c(n->o.taints[i]), key, value = STR(""), effect;
        ptrdiff_t colon = str_rindex(s, ':');
        if (colon <= 0)
            continue;
        effect = str_skip(s, (size_t)colon + 1);
        key = str_n(s.p, (size_t)colon);
        str_cut(key, '=', &key, &value);
        struct json *t = json_object(a);
        json_set_str(a, t, "key", key);
        if (value.n)
            json_set_str(a, t, "value", value);
        json_set_str(a, t, "effect", effect);
        json_append(a, list, t);
    }
    return list;
}

static void register_node(void *arg);

static void registered(struct node *n) {
    n->registered = true;
    send_status(n);
    renew_lease(n);
}

static void node_patched(void *arg, int code, struct object *o, const struct api_status *status) {
    struct node *n = arg;
    (void)o;
    if (n->stopping)
        return;
    if (code < 0) {
        log_warn("node", "registration: %.*s", STR_ARG(status->message));
        timer_set(&n->status_timer, RETRY_MS, 0);
        return;
    }
    log_info("node", "node %s is registered again", n->o.name);
    registered(n);
}

static void node_created(void *arg, int code, struct object *o, const struct api_status *status) {
    struct node *n = arg;
    (void)o;
    if (n->stopping)
        return;
    if (code == -EEXIST) { /* ours from before: labels follow the settings */
        struct arena *a = arena_new(KiB(4), 0);
        struct json *body = json_object(a), *meta = json_object(a);
        add_labels(n, a, meta);
        json_set_c(a, body, "metadata", meta);
        client_do(n->client, &(struct client_request){.verb = CLIENT_PATCH_MERGE,
                                                      .resource = "nodes",
                                                      .name = str_c(n->o.name),
                                                      .body = body,
                                                      .loop = n->loop,
                                                      .done = node_patched,
                                                      .arg = n});
        arena_free(a);
        return;
    }
    if (code < 0) {
        log_warn("node", "registration: %.*s", STR_ARG(status->message));
        timer_set(&n->status_timer, RETRY_MS, 0);
        return;
    }
    log_info("node", "node %s is registered", n->o.name);
    registered(n);
}

static void register_node(void *arg) {
    struct node *n = arg;
    struct arena *a = arena_new(KiB(8), 0);
    struct json *o = json_object(a), *meta = json_object(a), *spec = json_object(a), *t = taints(n, a);
    json_set_cstr(a, o, "apiVersion", "v1");
    json_set_cstr(a, o, "kind", "Node");
    json_set_cstr(a, meta, "name", n->o.name);
    add_labels(n, a, meta);
    json_set_c(a, o, "metadata", meta);
    json_set(a, spec, STR("providerID"), json_strf(a, "dory://%s", n->o.name));
    if (json_len(t))
        json_set_c(a, spec, "taints", t);
    json_set_c(a, o, "spec", spec);
    client_do(n->client, &(struct client_request){.verb = CLIENT_CREATE,
                                                  .resource = "nodes",
                                                  .body = o,
                                                  .loop = n->loop,
                                                  .done = node_created,
                                                  .arg = n});
    arena_free(a);
}

/* One timer for both: before the node is registered it tries again, later it writes the status again. */
static void on_status_timer(void *arg) {
    struct node *n = arg;
    if (n->registered)
        send_status(n);
    else
        register_node(n);
}

int registration_start(struct node *n) {
    timer_init(&n->lease_timer, n->loop, renew_lease, n);
    timer_init(&n->status_timer, n->loop, on_status_timer, n);
    register_node(n);
    return 0;
}

void registration_stop(struct node *n) {
    timer_stop(&n->lease_timer);
    timer_stop(&n->status_timer);
}
