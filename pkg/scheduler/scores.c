/* How well a node suits a pod that fits: least allocated, balanced, preferred affinity, taints, image at hand. */
#include "scheduler/snapshot.h"

static int64_t free_percent(int64_t used, int64_t have) {
    return have <= 0 || used > have ? 0 : (have - used) * 100 / have;
}

static int64_t score_least_allocated(const struct pod_info *p, const struct node_info *n) {
    return (free_percent(n->scored_cpu_milli + p->scored_cpu_milli, n->allocatable.cpu_milli) +
            free_percent(n->scored_memory_bytes + p->scored_memory_bytes, n->allocatable.memory_bytes)) /
           2;
}

static int64_t score_balance(const struct pod_info *p, const struct node_info *n) {
    int64_t cpu = free_percent(n->scored_cpu_milli + p->scored_cpu_milli, n->allocatable.cpu_milli);
    int64_t memory = free_percent(n->scored_memory_bytes + p->scored_memory_bytes, n->allocatable.memory_bytes);
    int64_t apart = cpu > memory ? cpu - memory : memory - cpu;
    return 100 - apart / 2;
}

static int64_t score_taints(const struct pod_info *p, const struct node_info *n) {
    const struct json *taints = json_at(object_json(n->object), "spec.taints");
    int64_t bad = 0;
    for (size_t i = 0; i < json_len(taints); i++)
        bad += str_eq(json_str_at(json_item(taints, i), "effect"), STR("PreferNoSchedule")) &&
               !taint_tolerated(json_at(p->pod, "spec.tolerations"), json_item(taints, i));
    return bad ? 0 : 100;
}

/* Whether the images of the pod are on the node already. */
static int64_t score_images(const struct pod_info *p, const struct node_info *n) {
    const struct json *containers = json_at(p->pod, "spec.containers"),
                      *images = json_at(object_json(n->object), "status.images");
    size_t here = 0;
    for (size_t c = 0; c < json_len(containers); c++) {
        struct str wanted = json_str_at(json_item(containers, c), "image");
        bool found = false;
        for (size_t i = 0; i < json_len(images) && !found; i++) {
            const struct json *names = json_get_c(json_item(images, i), "names");
            for (size_t k = 0; k < json_len(names); k++) {
                struct str name = json_as_str(json_item(names, k));
                found |= str_ends(name, wanted) || str_find(name, wanted) >= 0;
            }
        }
        here += found;
    }
    return json_len(containers) ? (int64_t)(here * 100 / json_len(containers)) : 0;
}

int64_t score_node(const struct pod_info *p, const struct node_info *n, const struct cluster_view *v) {
    (void)v;
    return score_least_allocated(p, n) + score_balance(p, n) + 3 * score_taints(p, n) + score_images(p, n);
}
