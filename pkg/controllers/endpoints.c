/*
 * Endpoints and EndpointSlices of Services with a selector. Both are written from the same list of pods. The slice holds at
 * most 100 endpoints; more go to further slices named by a counter.
 */
#include <stdlib.h>

#include "controllers/internal.h"

#define SLICE_MAX 100
#define ENDPOINTS_MAX 1000
#define LABEL_SERVICE "kubernetes.io/service-name"
#define LABEL_MANAGED_BY "endpointslice.kubernetes.io/managed-by"
#define MANAGER "endpointslice-controller.k8s.io"

struct endpoints {
    struct controllers *all;
    struct kind_ref services, pods, endpoints, slices;
};

struct run {
    struct controller *c;
    struct endpoints *e;
    struct api_call *call;
    struct arena *a;
    struct object *service;
    const struct json *svc;
    struct object_list pods; /* that match and have an address, by name */
    bool publish_not_ready;
};

/* --- which pods ------------------------------------------------------------------------------------------------- */

struct selecting {
    const struct label_selector *selector;
    struct object_list *out;
};

static bool select_pod(void *arg, struct object *o) {
    struct selecting *s = arg;
    const struct json *pod = object_json(o);
    struct str phase = json_str_at(pod, "status.phase");
    if (json_str_at(pod, "status.podIP").n == 0 || str_eq(phase, STR("Succeeded")) || str_eq(phase, STR("Failed")))
        return true;
    if (label_selector_matches(s->selector, json_at(pod, "metadata.labels")))
        object_list_add(s->out, o);
    return true;
}

/* The number of a Service port on a pod: its targetPort by number or by the name of a container port. 0: none. */
static int64_t port_on_pod(const struct json *port, const struct json *pod) {
    const struct json *target = json_get_c(port, "targetPort");
    if (!target)
        return json_int_at(port, "port", 0);
    if (!json_is(target, JSON_STRING))
        return json_as_int(target, 0);
    struct str protocol = json_str_at(port, "protocol");
    static const char *const lists[] = {"spec.containers", "spec.initContainers"};
    for (size_t k = 0; k < ARRAY_LEN(lists); k++) {
        const struct json *containers = json_at(pod, lists[k]);
        for (size_t i = 0; i < json_len(containers); i++) {
            const struct json *ports = json_get_c(json_item(containers, i), "ports");
            for (size_t j = 0; j < json_len(ports); j++) {
                const struct json *p = json_item(ports, j);
                struct str proto = json_str_at(p, "protocol");
                if (str_eq(json_str_at(p, "name"), json_as_str(target)) &&
                    str_eq(proto.n ? proto : STR("TCP"), protocol.n ? protocol : STR("TCP")))
                    return json_int_at(p, "containerPort", 0);
            }
        }
    }
    return 0;
}

/* The ports of one pod as EndpointPorts; pods whose named ports resolve alike share a group. */
static struct json *ports_of_pod(struct run *r, const struct json *pod) {
    const struct json *ports = json_at(r->svc, "spec.ports");
    struct json *out = json_array(r->a);
    for (size_t i = 0; i < json_len(ports); i++) {
        const struct json *p = json_item(ports, i);
        int64_t number = port_on_pod(p, pod);
        if (!number)
            continue;
        struct json *ep = json_object(r->a);
        struct str protocol = json_str_at(p, "protocol"), app = json_str_at(p, "appProtocol");
        if (app.n)
            json_set_str(r->a, ep, "appProtocol", app);
        json_set_str(r->a, ep, "name", json_str_at(p, "name"));
        json_set_int(r->a, ep, "port", number);
        json_set_str(r->a, ep, "protocol", protocol.n ? protocol : STR("TCP"));
        json_append(r->a, out, ep);
    }
    return out;
}

struct group {
    struct json *ports;
    struct object **pods;
    size_t n;
};

/* Pods by equal ports. */
static size_t group_pods(struct run *r, struct group *groups, size_t max) {
    size_t n = 0;
    for (size_t i = 0; i < r->pods.n; i++) {
        struct json *ports = ports_of_pod(r, object_json(r->pods.items[i]));
        size_t g = 0;
        while (g < n && !json_equal(groups[g].ports, ports))
            g++;
        if (g == max)
            continue;
        if (g == n) {
            groups[n++] = (struct group){ports, arena_alloc(r->a, r->pods.n * sizeof(struct object *)), 0};
        }
        groups[g].pods[groups[g].n++] = r->pods.items[i];
    }
    return n;
}

static struct json *target_ref(struct arena *a, struct object *pod) {
    struct json *ref = json_object(a);
    json_set_cstr(a, ref, "kind", "Pod");
    json_set_str(a, ref, "name", pod->name);
    json_set_str(a, ref, "namespace", pod->ns);
    json_set_str(a, ref, "uid", pod->uid);
    return ref;
}

/* The pod's own DNS name below a headless Service, or empty. */
static struct str pod_hostname(const struct run *r, const struct json *pod) {
    if (!str_eq(json_str_at(pod, "spec.subdomain"), r->service->name))
        return STR("");
    return json_str_at(pod, "spec.hostname");
}

/* --- Endpoints (v1) --------------------------------------------------------------------------------------------- */

static struct json *address_v1(struct run *r, struct object *o) {
    const struct json *pod = object_json(o);
    struct json *addr = json_object(r->a);
    struct str hostname = pod_hostname(r, pod);
    json_set_str(r->a, addr, "ip", json_str_at(pod, "status.podIP"));
    if (hostname.n)
        json_set_str(r->a, addr, "hostname", hostname);
    json_set_str(r->a, addr, "nodeName", json_str_at(pod, "spec.nodeName"));
    json_set_c(r->a, addr, "targetRef", target_ref(r->a, o));
    return addr;
}

static struct json *subsets(struct run *r, const struct group *groups, size_t n) {
    struct json *out = json_array(r->a);
    for (size_t g = 0; g < n; g++) {
        struct json *subset = json_object(r->a), *ready = json_array(r->a), *unready = json_array(r->a);
        for (size_t i = 0; i < MIN(groups[g].n, (size_t)ENDPOINTS_MAX); i++) {
            const struct json *pod = object_json(groups[g].pods[i]);
            if (object_deleting(pod) && !r->publish_not_ready)
                continue;
            bool ok = pod_is_ready(pod) || r->publish_not_ready;
            json_append(r->a, ok ? ready : unready, address_v1(r, groups[g].pods[i]));
        }
        if (json_len(ready) == 0 && json_len(unready) == 0)
            continue;
        if (json_len(ready))
            json_set_c(r->a, subset, "addresses", ready);
        if (json_len(unready))
            json_set_c(r->a, subset, "notReadyAddresses", unready);
        if (json_len(groups[g].ports))
            json_set_c(r->a, subset, "ports", groups[g].ports);
        json_append(r->a, out, subset);
    }
    return out;
}

/* Labels of the Service go to its Endpoints and slices. */
static struct json *service_labels(struct run *r) {
    const struct json *labels = json_at(r->svc, "metadata.labels");
    return labels ? json_copy(r->a, labels) : json_object(r->a);
}

static int write_endpoints(struct run *r, const struct group *groups, size_t n) {
    struct endpoints *e = r->e;
    struct object *now = store_get(api_store(r->c->api), e->endpoints.kind, r->service->ns, r->service->name);
    struct json *o = now ? json_copy(r->a, object_json(now)) : json_object(r->a);
    if (!now) {
        json_set_cstr(r->a, o, "apiVersion", "v1");
        json_set_cstr(r->a, o, "kind", "Endpoints");
        json_put(r->a, o, "metadata.name", json_str(r->a, r->service->name));
        json_put(r->a, o, "metadata.namespace", json_str(r->a, r->service->ns));
    }
    struct json *labels = service_labels(r);
    json_set_cstr(r->a, labels, "endpoints.kubernetes.io/managed-by", "endpoint-controller");
    if (str_eq(json_str_at(r->svc, "spec.clusterIP"), STR("None")))
        json_set_cstr(r->a, labels, "service.kubernetes.io/headless", "");
    json_put(r->a, o, "metadata.labels", labels);
    struct json *list = subsets(r, groups, n);
    if (json_len(list))
        json_set_c(r->a, o, "subsets", list);
    else
        json_del_c(o, "subsets");
    int rc = 0;
    if (!now)
        rc = api_create(r->call, e->endpoints.resource, r->service->ns, o, NULL);
    else if (!json_equal(o, object_json(now)))
        rc = api_update(r->call, e->endpoints.resource, r->service->ns, r->service->name, STR(""), o, NULL);
    object_unref(now);
    return rc;
}

/* --- EndpointSlices --------------------------------------------------------------------------------------------- */

static struct json *slice_endpoint(struct run *r, struct object *o) {
    const struct json *pod = object_json(o);
    struct arena *a = r->a;
    struct json *ep = json_object(a), *addresses = json_array(a), *conditions = json_object(a);
    bool ready = pod_is_ready(pod), deleting = object_deleting(pod);
    struct str hostname = pod_hostname(r, pod);
    json_append(a, addresses, json_str(a, json_str_at(pod, "status.podIP")));
    json_set_c(a, ep, "addresses", addresses);
    json_set_bool(a, conditions, "ready", r->publish_not_ready || (ready && !deleting));
    json_set_bool(a, conditions, "serving", ready);
    json_set_bool(a, conditions, "terminating", deleting);
    json_set_c(a, ep, "conditions", conditions);
    if (hostname.n)
        json_set_str(a, ep, "hostname", hostname);
    json_set_str(a, ep, "nodeName", json_str_at(pod, "spec.nodeName"));
    json_set_c(a, ep, "targetRef", target_ref(a, o));
    return ep;
}

static struct json *slice_new(struct run *r, const struct group *g, size_t from) {
    struct arena *a = r->a;
    struct json *slice = json_object(a), *labels = service_labels(r), *list = json_array(a), *refs = json_array(a);
    json_set_cstr(a, slice, "apiVersion", "discovery.k8s.io/v1");
    json_set_cstr(a, slice, "kind", "EndpointSlice");
    json_put(a, slice, "metadata.generateName", json_strf(a, "%.*s-", STR_ARG(r->service->name)));
    json_put(a, slice, "metadata.namespace", json_str(a, r->service->ns));
    json_set_str(a, labels, LABEL_SERVICE, r->service->name);
    json_set_cstr(a, labels, LABEL_MANAGED_BY, MANAGER);
    if (str_eq(json_str_at(r->svc, "spec.clusterIP"), STR("None")))
        json_set_cstr(a, labels, "service.kubernetes.io/headless", "");
    json_put(a, slice, "metadata.labels", labels);
    json_append(a, refs, owner_ref_new(a, r->e->services.resource, r->svc));
    json_put(a, slice, "metadata.ownerReferences", refs);
    json_set_cstr(a, slice, "addressType", "IPv4");
    for (size_t i = from; g && i < g->n && i < from + SLICE_MAX; i++)
        json_append(a, list, slice_endpoint(r, g->pods[i]));
    json_set_c(a, slice, "endpoints", list);
    json_set_c(a, slice, "ports", g ? g->ports : json_array(a));
    return slice;
}

static void slice_keys(struct object *o, void (*emit)(void *arg, struct str key), void *arg) {
    const struct json *labels = json_at(object_json(o), "metadata.labels");
    char key[320];
    struct str service = json_as_str(json_get_c(labels, LABEL_SERVICE));
    if (service.n == 0 || !str_eq(json_as_str(json_get_c(labels, LABEL_MANAGED_BY)), STR(MANAGER)) ||
        o->ns.n + service.n + 1 > sizeof(key))
        return;
    memcpy(key, o->ns.p, o->ns.n);
    key[o->ns.n] = '/';
    memcpy(key + o->ns.n + 1, service.p, service.n);
    emit(arg, str_n(key, o->ns.n + 1 + service.n));
}

static bool same_slice(const struct json *stored, const struct json *wanted) {
    static const char *const parts[] = {"endpoints", "ports"};
    for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
        const struct json *a = json_get_c(stored, parts[i]), *b = json_get_c(wanted, parts[i]);
        if (json_len(a) == 0 && json_len(b) == 0)
            continue;
        if (!json_equal(a, b))
            return false;
    }
    return json_equal(json_at(stored, "metadata.labels"), json_at(wanted, "metadata.labels"));
}

static int write_slice(struct run *r, struct object *now, struct json *wanted) {
    struct endpoints *e = r->e;
    if (!now)
        return api_create(r->call, e->slices.resource, r->service->ns, wanted, NULL);
    if (same_slice(object_json(now), wanted))
        return 0;
    struct json *copy = json_copy(r->a, object_json(now));
    json_set_c(r->a, copy, "endpoints", json_get_c(wanted, "endpoints"));
    json_set_c(r->a, copy, "ports", json_get_c(wanted, "ports"));
    json_put(r->a, copy, "metadata.labels", json_at(wanted, "metadata.labels"));
    return api_update(r->call, e->slices.resource, now->ns, now->name, STR(""), copy, NULL);
}

static int write_slices(struct run *r, const struct group *groups, size_t n) {
    struct object_list now cleanup_objects = {0};
    struct str key = str_printf(r->a, "%.*s/%.*s", STR_ARG(r->service->ns), STR_ARG(r->service->name));
    store_index_each(api_store(r->c->api), r->e->slices.kind, "service", key, object_list_add, &now);
    size_t used = 0;
    int rc = 0;
    for (size_t g = 0; g < n; g++)
        for (size_t from = 0; from < groups[g].n && rc == 0; from += SLICE_MAX, used++)
            rc = write_slice(r, used < now.n ? now.items[used] : NULL, slice_new(r, &groups[g], from));
    if (used == 0 && rc == 0) /* a Service without pods still has one, empty, slice */
        rc = write_slice(r, now.n ? now.items[used] : NULL, slice_new(r, NULL, 0)), used = 1;
    struct api_delete_options o = {.grace_period_s = -1};
    for (; used < now.n && rc == 0; used++) {
        rc = api_delete(r->call, r->e->slices.resource, now.items[used]->ns, now.items[used]->name, &o, NULL);
        if (rc < 0 && r->call->status.code == 404)
            rc = 0;
    }
    return rc;
}

/* --- a run ------------------------------------------------------------------------------------------------------ */

#define GROUPS_MAX 16

static int run_service(struct run *r) {
    struct group groups[GROUPS_MAX];
    struct selecting s = {label_selector_from_map(r->a, json_at(r->svc, "spec.selector")), &r->pods};
    store_each(api_store(r->c->api), r->e->pods.kind, r->service->ns, STR_NULL, STR_NULL, select_pod, &s);
    r->publish_not_ready = json_bool_at(r->svc, "spec.publishNotReadyAddresses", false);
    size_t n = group_pods(r, groups, GROUPS_MAX);
    int rc = write_endpoints(r, groups, n);
    return rc < 0 ? rc : write_slices(r, groups, n);
}

/* The Service is gone: its Endpoints go (slices go by their owner reference). */
static int64_t remove_endpoints(struct controller *c, struct str ns, struct str name) {
    struct endpoints *e = c->state;
    struct object *now = store_get(api_store(c->api), e->endpoints.kind, ns, name);
    int64_t again = 0;
    if (!now)
        return 0;
    const struct json *labels = json_at(object_json(now), "metadata.labels");
    if (json_get_c(labels, "endpoints.kubernetes.io/managed-by")) {
        struct arena *a = arena_new(0, 0);
        struct api_call call = call_begin(c, a);
        struct api_delete_options o = {.grace_period_s = -1};
        if (api_delete(&call, e->endpoints.resource, ns, name, &o, NULL) < 0 && call.status.code != 404)
            again = call_failed(c, &call, "removing endpoints");
        arena_free(a);
    }
    object_unref(now);
    return again;
}

static int64_t reconcile(struct controller *c, struct str ns, struct str name) {
    struct endpoints *e = c->state;
    struct object *service = store_get(api_store(c->api), e->services.kind, ns, name);
    if (!service)
        return remove_endpoints(c, ns, name);
    int64_t again = 0;
    const struct json *svc = object_json(service);
    if (json_len(json_at(svc, "spec.selector")) && !str_eq(json_str_at(svc, "spec.type"), STR("ExternalName")) &&
        !object_deleting(svc)) {
        struct arena *a = arena_new(KiB(16), 0);
        struct api_call call = call_begin(c, a);
        struct run r = {.c = c, .e = e, .call = &call, .a = a, .service = service, .svc = svc};
        if (run_service(&r) < 0)
            again = call_failed(c, &call, "endpoints");
        object_list_fini(&r.pods);
        arena_free(a);
    }
    object_unref(service);
    return again;
}

/* --- what makes us look ----------------------------------------------------------------------------------------- */

static void on_service(void *arg, const struct event *e) {
    struct controller *c = arg;
    work_queue_add(c->queue, e->object->ns, e->object->name);
}

struct match {
    struct controller *c;
    struct arena *a;
    const struct json *labels[2];
};

static bool queue_matching(void *arg, struct object *o) {
    struct match *m = arg;
    struct label_selector *s = label_selector_from_map(m->a, json_at(object_json(o), "spec.selector"));
    if (label_selector_matches(s, m->labels[0]) || (m->labels[1] && label_selector_matches(s, m->labels[1])))
        work_queue_add(m->c->queue, o->ns, o->name);
    return true;
}

/* Only what endpoints are made of counts: most status writes of a pod change none of it. */
static bool pod_changed(const struct json *old, const struct json *now) {
    static const char *const parts[] = {"metadata.labels", "status.podIP", "spec.nodeName",
                                        "metadata.deletionTimestamp", "status.phase"};
    for (size_t i = 0; i < ARRAY_LEN(parts); i++)
        if (!json_equal(json_at(old, parts[i]), json_at(now, parts[i])))
            return true;
    return pod_is_ready(old) != pod_is_ready(now);
}

static void on_pod(void *arg, const struct event *e) {
    struct controller *c = arg;
    struct endpoints *ep = c->state;
    const struct json *now = object_json(e->object), *old = e->old ? object_json(e->old) : NULL;
    if (e->type == EVENT_MODIFIED && !pod_changed(old, now))
        return;
    struct match m = {.c = c, .a = arena_new(0, 0)};
    m.labels[0] = json_at(now, "metadata.labels");
    m.labels[1] = old ? json_at(old, "metadata.labels") : NULL;
    store_each(api_store(c->api), ep->services.kind, e->object->ns, STR_NULL, STR_NULL, queue_matching, &m);
    arena_free(m.a);
}

/* Somebody removed or changed what we wrote. */
static void on_endpoints(void *arg, const struct event *e) {
    struct controller *c = arg;
    if (e->type != EVENT_ADDED)
        work_queue_add(c->queue, e->object->ns, e->object->name);
}

static void on_slice(void *arg, const struct event *e) {
    struct controller *c = arg;
    struct str service = json_as_str(json_get_c(json_at(object_json(e->object), "metadata.labels"), LABEL_SERVICE));
    if (e->type != EVENT_ADDED && service.n)
        work_queue_add(c->queue, e->object->ns, service);
}

struct controller *endpoints_controller_new(struct controllers *all) {
    struct endpoints *e = XNEW(struct endpoints);
    *e = (struct endpoints){all, kind_find(all, "services"), kind_find(all, "pods"), kind_find(all, "endpoints"),
                            kind_find(all, "endpointslices.discovery.k8s.io")};
    struct controller *c = controller_new(all, "endpoint-controller", reconcile, e);
    store_index_add(all->store, e->slices.kind, "service", slice_keys);
    store_hook_add(all->store, e->services.kind, on_service, c);
    store_hook_add(all->store, e->pods.kind, on_pod, c);
    store_hook_add(all->store, e->endpoints.kind, on_endpoints, c);
    store_hook_add(all->store, e->slices.kind, on_slice, c);
    controller_queue_all(c, &e->services);
    return c;
}
