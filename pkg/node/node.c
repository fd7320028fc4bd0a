/* Life of the node: runtime, images, informers; and who gets which event. */
#include "node/node.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "node/node_priv.h"

#define INFORMERS 4 /* that must be complete before pods are looked at */

/* --- pods ------------------------------------------------------------------------------------------------------- */

struct pod *node_pod(struct node *n, struct str uid) {
    return map_get(&n->pods, uid);
}

struct pod *node_pod_by_name(struct node *n, struct str ns, struct str name) {
    struct map_entry *e;
    for (size_t i = 0; (e = map_next(&n->pods, &i));) {
        struct pod *p = e->value;
        if (str_eq(p->name, name) && str_eq(p->ns, ns))
            return p;
    }
    return NULL;
}

void node_forget_pod(struct pod *p) {
    map_del(&p->node->pods, p->uid);
    pod_free(p);
}

const char *node_path(struct arena *a, const struct node *n, const char *fmt, ...) {
    char tail[600];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(tail, sizeof(tail), fmt, ap);
    va_end(ap);
    return arena_printf(a, "%s/%s", n->o.data_dir, tail);
}

/* --- informers -------------------------------------------------------------------------------------------------- */

static void see_pod(struct node *n, struct object *o) {
    struct pod *p = node_pod(n, o->uid);
    if (p) {
        pod_refresh(p, o);
        return;
    }
    p = pod_new(n, o);
    map_set(&n->pods, p->uid, p);
    struct sandbox *s = map_del(&n->found, p->uid);
    if (s)
        pod_adopt(p, s);
    pod_want_sync(p);
}

static bool see_one(void *arg, struct object *o) {
    see_pod(arg, o);
    return true;
}

static void removed(void *arg) {
    (void)arg;
}

/* Sandboxes whose pods are gone from the API while we were away. */
static void remove_unclaimed(struct node *n) {
    struct map_entry *e;
    for (size_t i = 0; (e = map_next(&n->found, &i));) {
        n->o.network->detach(n->o.network_arg, e->key);
        sandbox_remove(e->value, removed, NULL);
    }
    map_fini(&n->found);
    volumes_clean_orphans(n);
}

/* Everything is known: what the API wants, and what runs already. */
static void begin(struct node *n) {
    if (n->synced < INFORMERS || !n->recovered || n->stopping)
        return;
    client_informer_each(n->pod_informer, see_one, n);
    remove_unclaimed(n);
}

static bool is_working(const struct node *n) {
    return n->synced >= INFORMERS && n->recovered && !n->stopping;
}

static void on_pod(void *arg, enum informer_event e, struct object *o, struct object *old) {
    struct node *n = arg;
    (void)old;
    if (e == INFORMER_SYNCED) {
        n->synced++;
        begin(n);
        return;
    }
    if (!is_working(n))
        return;
    if (e != INFORMER_DELETED) {
        see_pod(n, o);
        return;
    }
    struct pod *p = node_pod(n, o->uid);
    if (p)
        pod_removed_from_api(p);
}

static void on_source(struct node *n, const char *kind, enum informer_event e, struct object *o) {
    if (e == INFORMER_SYNCED) {
        n->synced++;
        begin(n);
    } else if (is_working(n) && e != INFORMER_DELETED) {
        volumes_object_changed(n, kind, o);
    }
}

static void on_config_map(void *arg, enum informer_event e, struct object *o, struct object *old) {
    (void)old;
    on_source(arg, "configMap", e, o);
}

static void on_secret(void *arg, enum informer_event e, struct object *o, struct object *old) {
    (void)old;
    on_source(arg, "secret", e, o);
}

static void on_service(void *arg, enum informer_event e, struct object *o, struct object *old) {
    struct node *n = arg;
    (void)o;
    (void)old;
    if (e == INFORMER_SYNCED) {
        n->synced++;
        begin(n);
    }
}

static void on_node(void *arg, enum informer_event e, struct object *o, struct object *old) {
    struct node *n = arg;
    (void)old;
    if (e == INFORMER_SYNCED || e == INFORMER_DELETED || !str_eq_c(o->name, n->o.name))
        return;
    struct str cidr = json_str_at(object_json(o), "spec.podCIDR");
    object_unref(n->node_object);
    n->node_object = object_ref(o);
    if (cidr.n && !n->cidr_told) {
        char text[64];
        snprintf(text, sizeof(text), "%.*s", STR_ARG(cidr));
        n->cidr_told = true;
        n->o.on_pod_cidr(n->o.arg, text);
    }
    registration_update(n);
}

static struct client_informer *watch(struct node *n, const char *resource, const char *field_selector,
                                     void (*fn)(void *, enum informer_event, struct object *, struct object *)) {
    return client_informer(n->client, &(struct informer_options){.resource = resource,
                                                                 .field_selector = field_selector,
                                                                 .loop = n->loop,
                                                                 .fn = fn,
                                                                 .arg = n});
}

/* --- the runtime's events --------------------------------------------------------------------------------------- */

static void on_sandbox_found(void *arg, struct sandbox *s) {
    struct node *n = arg;
    struct arena *a = arena_new(KiB(4), 0);
    struct json *m = json_parse(a, sandbox_metadata(s), NULL, NULL);
    struct str uid = json_str_at(m, "uid");
    if (uid.n)
        map_set(&n->found, uid, s);
    arena_free(a);
}

static void on_container_found(void *arg, struct container *c) {
    (void)arg;
    (void)c; /* taken from its sandbox when the pod is */
}

static struct pod *pod_of_sandbox(struct node *n, const struct sandbox *s) {
    struct map_entry *e;
    for (size_t i = 0; (e = map_next(&n->pods, &i));) {
        struct pod *p = e->value;
        if (p->sandbox == s)
            return p;
    }
    return NULL;
}

static void on_container_exit(void *arg, struct container *c) {
    struct node *n = arg;
    struct pod *p = pod_of_sandbox(n, container_sandbox(c));
    if (p)
        pod_container_exited(p, c);
}

static void on_sandbox_lost(void *arg, struct sandbox *s) {
    struct node *n = arg;
    struct pod *p = pod_of_sandbox(n, s);
    if (p)
        pod_sandbox_lost(p);
}

static void on_recovered(void *arg) {
    struct node *n = arg;
    n->recovered = true;
    begin(n);
}

/* --- requests of the API ---------------------------------------------------------------------------------------- */

struct served {
    struct node *n;
    struct http_exchange *x;
    struct object *pod;
    char sub[16];
};

static void serve_on_loop(void *arg) {
    static const struct {
        const char *name;
        void (*serve)(struct node *n, struct http_exchange *x, struct pod *p);
    } routes[] = {{"log", logs_serve},
                  {"exec", exec_serve},
                  {"attach", attach_serve},
                  {"portforward", port_forward_serve}};
    struct served *s = arg;
    struct pod *p = node_pod(s->n, s->pod->uid);
    size_t i = 0;
    while (i < ARRAY_LEN(routes) && strcmp(routes[i].name, s->sub) != 0)
        i++;
    if (!p) {
        api_reply_error(s->x, 404, "NotFound", "pod \"%.*s\" is not running on this node yet", STR_ARG(s->pod->name));
        http_finish(s->x);
    } else if (i == ARRAY_LEN(routes)) {
        api_reply_error(s->x, 404, "NotFound", "the node does not serve \"%s\" of pods", s->sub);
        http_finish(s->x);
    } else {
        routes[i].serve(s->n, s->x, p);
    }
    object_unref(s->pod);
    free(s);
}

static void serve(void *arg, struct http_exchange *x, struct object *pod, struct str subresource) {
    struct node *n = arg;
    struct served *s = XNEW(struct served);
    s->n = n;
    s->x = x;
    s->pod = pod;
    snprintf(s->sub, sizeof(s->sub), "%.*s", STR_ARG(subresource));
    loop_post(n->loop, serve_on_loop, s);
}

const struct api_node_ops *node_api_ops(struct node *n) {
    n->api_ops = (struct api_node_ops){serve, n};
    return &n->api_ops;
}

/* --- start and stop --------------------------------------------------------------------------------------------- */

static void start_on_loop(void *arg) {
    struct node *n = arg;
    char selector[300];
    snprintf(selector, sizeof(selector), "spec.nodeName=%s", n->o.name);
    n->node_informer = watch(n, "nodes", NULL, on_node);
    registration_start(n);
    runtime_recover(n->runtime, on_recovered, n);
    n->config_maps = watch(n, "configmaps", NULL, on_config_map);
    n->secrets = watch(n, "secrets", NULL, on_secret);
    n->services = watch(n, "services", NULL, on_service);
    n->pod_informer = watch(n, "pods", selector, on_pod);
}

static const char *keep(struct node *n, const char *s) {
    return s ? arena_strdup(n->arena, s) : NULL;
}

static const char *const *keep_list(struct node *n, const char *const *list) {
    size_t count = 0;
    while (list && list[count])
        count++;
    const char **out = arena_alloc(n->arena, (count + 1) * sizeof(*out));
    for (size_t i = 0; i < count; i++)
        out[i] = keep(n, list[i]);
    return out;
}

static void keep_options(struct node *n, const struct node_options *o) {
    n->o = *o;
    n->arena = arena_new(KiB(4), 0);
    const char **strings[] = {&n->o.name,       &n->o.data_dir,    &n->o.run_dir,     &n->o.log_dir,
                              &n->o.address,    &n->o.resolv_conf, &n->o.cluster_dns, &n->o.cluster_domain,
                              &n->o.images_dir, &n->o.version};
    for (size_t i = 0; i < ARRAY_LEN(strings); i++)
        *strings[i] = keep(n, *strings[i]);
    n->o.labels = keep_list(n, o->labels);
    n->o.taints = keep_list(n, o->taints);
    if (n->o.max_pods == 0)
        n->o.max_pods = 110;
}

static void images_imported(void *arg) {
    registration_update(arg);
}

static void import_on_loop(void *arg) {
    struct node *n = arg;
    if (n->o.images_dir)
        image_import_dir(n->images, n->o.images_dir, images_imported, n);
}

static const char *image_arch(void) {
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

struct opening {
    struct node *n;
    struct error *err;
    int rc;
    uv_sem_t ready;
};

/* Runtime and images belong to the node's loop from their first call on. */
static void open_on_loop(void *arg) {
    struct opening *o = arg;
    struct node *n = o->n;
    struct runtime_options ro = {.loop = n->loop,
                                 .state_dir = arena_printf(n->arena, "%s/runtime", n->o.run_dir),
                                 .root_dir = node_path(n->arena, n, "runtime"),
                                 .cgroup_root = "dory",
                                 .events = {.on_sandbox_found = on_sandbox_found,
                                            .on_container_found = on_container_found,
                                            .on_container_exit = on_container_exit,
                                            .on_sandbox_lost = on_sandbox_lost,
                                            .arg = n}};
    struct image_store_options io = {.root = node_path(n->arena, n, "images-store"),
                                     .loop = n->loop,
                                     .registries = n->o.registries,
                                     .platform_os = "linux",
                                     .platform_arch = image_arch(),
                                     .platform_variant = strcmp(image_arch(), "arm") == 0 ? "v7" : ""};
    o->rc = dir_make_all(node_path(n->arena, n, "pods"), 0700, o->err);
    if (o->rc == 0)
        o->rc = dir_make_all(n->o.log_dir, 0755, o->err);
    if (o->rc == 0)
        o->rc = runtime_open(&ro, &n->runtime, o->err);
    if (o->rc == 0)
        o->rc = image_store_open(&io, &n->images, o->err);
    uv_sem_post(&o->ready);
}

int node_start(const struct node_options *o, struct node **out, struct error *err) {
    struct node *n = XNEW(struct node);
    struct opening opening = {.n = n, .err = err};
    keep_options(n, o);
    n->loop = o->loop;
    n->client = o->client;
    snprintf(n->network_reason, sizeof(n->network_reason),
             "container runtime network not ready: the pod network starts");
    uv_sem_init(&opening.ready, 0);
    loop_post(n->loop, open_on_loop, &opening);
    uv_sem_wait(&opening.ready);
    uv_sem_destroy(&opening.ready);
    if (opening.rc < 0) {
        arena_free(n->arena);
        free(n);
        return error_wrap(err, "node");
    }
    *out = n;
    loop_post(n->loop, start_on_loop, n);
    loop_post(n->loop, import_on_loop, n);
    return 0;
}

struct network_news {
    struct node *n;
    bool ready;
    char reason[200];
};

static void network_on_loop(void *arg) {
    struct network_news *m = arg;
    struct node *n = m->n;
    struct map_entry *e;
    n->network_ready = m->ready;
    snprintf(n->network_reason, sizeof(n->network_reason), "container runtime network not ready: %.150s", m->reason);
    registration_update(n);
    for (size_t i = 0; m->ready && (e = map_next(&n->pods, &i));)
        pod_want_sync(e->value);
    free(m);
}

void node_network_ready(struct node *n, bool ready, const char *reason) {
    struct network_news *m = XNEW(struct network_news);
    m->n = n;
    m->ready = ready;
    snprintf(m->reason, sizeof(m->reason), "%s", reason ? reason : "");
    loop_post(n->loop, network_on_loop, m);
}

const char *node_address(const struct node *n) {
    return n->o.address;
}

struct stop_request {
    struct node *n;
    loop_fn done;
    void *arg;
};

static void stop_on_loop(void *arg) {
    struct stop_request *r = arg;
    struct node *n = r->n;
    struct client_informer *all[] = {n->pod_informer, n->node_informer, n->config_maps, n->secrets, n->services};
    n->stopping = true;
    for (size_t i = 0; i < ARRAY_LEN(all); i++)
        client_informer_stop(all[i]);
    registration_stop(n);
    runtime_close(n->runtime);
    /* Work on the pool and posted calls may still name the node: the end of the process frees it. */
    r->done(r->arg);
    free(r);
}

void node_stop(struct node *n, loop_fn done, void *arg) {
    struct stop_request *r = XNEW(struct stop_request);
    *r = (struct stop_request){n, done, arg};
    loop_post(n->loop, stop_on_loop, r);
}
