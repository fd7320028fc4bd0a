/* Requests of pods, and what a node holds. */
#include "scheduler/snapshot.h"

#include <stdlib.h>

#define DEFAULT_CPU_MILLI 100 /* what a container without requests counts for in scores */
#define DEFAULT_MEMORY_BYTES (200 * INT64_C(1024) * 1024)

static void add_named(struct resources *r, struct str name, int64_t value) {
    for (size_t i = 0; i < r->scalar_n; i++)
        if (str_eq(r->scalar[i].name, name)) {
            r->scalar[i].value += value;
            return;
        }
    if (r->scalar_n < ARRAY_LEN(r->scalar)) {
        r->scalar[r->scalar_n].name = name;
        r->scalar[r->scalar_n++].value = value;
    }
}

int64_t resources_scalar(const struct resources *r, struct str name) {
    for (size_t i = 0; i < r->scalar_n; i++)
        if (str_eq(r->scalar[i].name, name))
            return r->scalar[i].value;
    return 0;
}

void resources_of_list(const struct json *list, struct resources *out) {
    *out = (struct resources){0};
    for (uint32_t i = 0; json_is(list, JSON_OBJECT) && i < list->n; i++) {
        struct str name = list->members[i].key, value = json_as_str(list->members[i].value);
        int64_t v = 0;
        if (str_eq(name, STR("cpu"))) {
            quantity_milli(value, &out->cpu_milli);
            continue;
        }
        if (!quantity_value(value, &v))
            continue;
        if (str_eq(name, STR("memory")))
            out->memory_bytes = v;
        else if (str_eq(name, STR("ephemeral-storage")))
            out->ephemeral_bytes = v;
        else if (str_eq(name, STR("pods")))
            out->pods = v;
        else
            add_named(out, name, v);
    }
}

void resources_add(struct resources *to, const struct resources *r, int sign) {
    to->cpu_milli += sign * r->cpu_milli;
    to->memory_bytes += sign * r->memory_bytes;
    to->ephemeral_bytes += sign * r->ephemeral_bytes;
    to->pods += sign * r->pods;
    for (size_t i = 0; i < r->scalar_n; i++)
        add_named(to, r->scalar[i].name, sign * r->scalar[i].value);
}

static void resources_max(struct resources *to, const struct resources *r) {
    to->cpu_milli = MAX(to->cpu_milli, r->cpu_milli);
    to->memory_bytes = MAX(to->memory_bytes, r->memory_bytes);
    to->ephemeral_bytes = MAX(to->ephemeral_bytes, r->ephemeral_bytes);
    for (size_t i = 0; i < r->scalar_n; i++) {
        int64_t have = resources_scalar(to, r->scalar[i].name);
        if (r->scalar[i].value > have)
            add_named(to, r->scalar[i].name, r->scalar[i].value - have);
    }
}

/*
 * A pod needs the sum of its containers and sidecars, or the most that any init container needs beside the sidecars started
 * before it, whichever is more; plus overhead. Requests of the whole pod replace the sum where they are given.
 */
void resources_of_pod(const struct json *pod, struct resources *out) {
    const struct json *containers = json_at(pod, "spec.containers"), *init = json_at(pod, "spec.initContainers");
    struct resources sum = {0}, sidecars = {0}, most = {0}, one;
    for (size_t i = 0; i < json_len(containers); i++) {
        resources_of_list(json_at(json_item(containers, i), "resources.requests"), &one);
        resources_add(&sum, &one, 1);
    }
    for (size_t i = 0; i < json_len(init); i++) {
        const struct json *c = json_item(init, i);
        resources_of_list(json_at(c, "resources.requests"), &one);
        if (str_eq(json_str_at(c, "restartPolicy"), STR("Always"))) {
            resources_add(&sidecars, &one, 1);
            resources_max(&most, &sidecars);
        } else {
            struct resources with = sidecars;
            resources_add(&with, &one, 1);
            resources_max(&most, &with);
        }
    }
    resources_add(&sum, &sidecars, 1);
    resources_max(&sum, &most);
    const struct json *whole = json_at(pod, "spec.resources.requests");
    if (whole) {
        resources_of_list(whole, &one);
        if (one.cpu_milli)
            sum.cpu_milli = one.cpu_milli;
        if (one.memory_bytes)
            sum.memory_bytes = one.memory_bytes;
    }
    resources_of_list(json_at(pod, "spec.overhead"), &one);
    resources_add(&sum, &one, 1);
    sum.pods = 1;
    *out = sum;
}

void scored_requests(const struct json *pod, int64_t *cpu_milli, int64_t *memory_bytes) {
    const struct json *containers = json_at(pod, "spec.containers");
    *cpu_milli = *memory_bytes = 0;
    for (size_t i = 0; i < json_len(containers); i++) {
        struct resources one;
        resources_of_list(json_at(json_item(containers, i), "resources.requests"), &one);
        *cpu_milli += one.cpu_milli ? one.cpu_milli : DEFAULT_CPU_MILLI;
        *memory_bytes += one.memory_bytes ? one.memory_bytes : DEFAULT_MEMORY_BYTES;
    }
}

struct node_info *node_info_new(struct object *node) {
    struct node_info *n = XNEW(struct node_info);
    if (node)
        node_info_set_node(n, node);
    return n;
}

void node_info_set_node(struct node_info *n, struct object *node) {
    object_ref(node);
    object_unref(n->object);
    n->object = node;
    resources_of_list(json_at(object_json(node), "status.allocatable"), &n->allocatable);
}

void node_info_free(struct node_info *n) {
    for (size_t i = 0; i < n->pods.n; i++)
        object_unref(n->pods.items[i]);
    vec_fini(&n->pods);
    object_unref(n->object);
    free(n);
}

static void count_pod(struct node_info *n, const struct json *pod, int sign) {
    struct resources r;
    int64_t cpu, memory;
    resources_of_pod(pod, &r);
    scored_requests(pod, &cpu, &memory);
    resources_add(&n->requested, &r, sign);
    n->scored_cpu_milli += sign * cpu;
    n->scored_memory_bytes += sign * memory;
}

/* Names of scalar resources point into pods; rebuilt from those that stay, none dangles. */
static void recount(struct node_info *n) {
    n->requested = (struct resources){0};
    n->scored_cpu_milli = n->scored_memory_bytes = 0;
    for (size_t i = 0; i < n->pods.n; i++)
        count_pod(n, object_json(n->pods.items[i]), 1);
}

void node_info_add_pod(struct node_info *n, struct object *pod) {
    for (size_t i = 0; i < n->pods.n; i++)
        if (str_eq(n->pods.items[i]->uid, pod->uid)) {
            object_ref(pod);
            object_unref(n->pods.items[i]);
            n->pods.items[i] = pod;
            recount(n);
            return;
        }
    vec_push(&n->pods, object_ref(pod));
    count_pod(n, object_json(pod), 1);
}

void node_info_remove_pod(struct node_info *n, struct object *pod) {
    for (size_t i = 0; i < n->pods.n; i++)
        if (str_eq(n->pods.items[i]->uid, pod->uid)) {
            struct object *gone = n->pods.items[i];
            n->pods.items[i] = n->pods.items[--n->pods.n];
            recount(n);
            object_unref(gone);
            return;
        }
}
