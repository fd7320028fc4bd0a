/* Private to pkg/scheduler: what filters and scores look at. Pure but for building it. */
#pragma once

#include "scheduler/scheduler.h"

struct resources { /* what pods ask for and nodes have */
    int64_t cpu_milli, memory_bytes, ephemeral_bytes, pods;
    struct { /* extended resources and huge pages, a handful at most */
        struct str name;
        int64_t value;
    } scalar[8];
    size_t scalar_n;
};

struct host_port {
    struct str ip, protocol;
    int64_t port;
};

struct node_info {
    struct object *object; /* reference */
    struct resources allocatable, requested;
    /* What scoring counts: pods without requests still weigh something. */
    int64_t scored_cpu_milli, scored_memory_bytes;
    VEC(struct object *) pods; /* references: bound to it and not finished */
};

struct pod_info {
    const struct json *pod;
    struct arena *arena;
    struct resources request;
    int64_t scored_cpu_milli, scored_memory_bytes;
};

void resources_of_pod(const struct json *pod, struct resources *out);
void resources_add(struct resources *to, const struct resources *r, int sign);
int64_t resources_scalar(const struct resources *r, struct str name);
void resources_of_list(const struct json *list, struct resources *out); /* a ResourceList */
void scored_requests(const struct json *pod, int64_t *cpu_milli, int64_t *memory_bytes);

struct node_info *node_info_new(struct object *node);
void node_info_free(struct node_info *n);
void node_info_set_node(struct node_info *n, struct object *node);
void node_info_add_pod(struct node_info *n, struct object *pod);
void node_info_remove_pod(struct node_info *n, struct object *pod); /* by uid */

/* filters.c: NULL when the pod fits, else why not, as Kubernetes words it ("Insufficient cpu"). */
const char *filter_node(const struct pod_info *p, const struct node_info *n, struct arena *a);
/* Inter-pod affinity looks at all nodes. */
struct cluster_view {
    struct node_info *const *nodes;
    size_t n;
    struct api *api;
};
const char *filter_affinity(const struct pod_info *p, const struct node_info *n, const struct cluster_view *v);
const char *filter_spread(const struct pod_info *p, const struct node_info *n, const struct cluster_view *v);
bool taint_tolerated(const struct json *tolerations, const struct json *taint);

/* scores.c: 0..100 each, weighted sum. */
int64_t score_node(const struct pod_info *p, const struct node_info *n, const struct cluster_view *v);
