/* Status and conditions of a Deployment. */
#include <stdio.h>

#include "controllers/deployment.h"

bool rollout_complete(const struct rollout *r) {
    if (!r->newest)
        return false;
    return set_status(r->newest, "replicas") == r->replicas &&
           set_status(r->newest, "availableReplicas") >= r->replicas &&
           rollout_sum_status(r, NULL, "replicas") == r->replicas &&
           set_status(r->newest, "observedGeneration") >= json_int_at(object_json(r->newest), "metadata.generation", 0);
}

static void set_available(struct rollout *r, struct json *status, int64_t available) {
    bool enough = available >= r->replicas - r->max_unavailable;
    condition_set(r->a, status, "Available", enough ? "True" : "False",
                  enough ? "MinimumReplicasAvailable" : "MinimumReplicasUnavailable",
                  enough ? "Deployment has minimum availability." : "Deployment does not have minimum availability.",
                  true);
}

/* Whether this run's numbers are better than the stored ones. */
static bool made_progress(const struct json *before, const struct json *after) {
    static const char *const better_up[] = {"updatedReplicas", "readyReplicas", "availableReplicas"};
    for (size_t i = 0; i < ARRAY_LEN(better_up); i++)
        if (json_as_int(json_get_c(after, better_up[i]), 0) > json_as_int(json_get_c(before, better_up[i]), 0))
            return true;
    int64_t old_now = json_int_at(after, "replicas", 0) - json_int_at(after, "updatedReplicas", 0);
    return old_now < json_int_at(before, "replicas", 0) - json_int_at(before, "updatedReplicas", 0);
}

/* Progressing: says where a rollout stands; after progressDeadlineSeconds without progress it has failed. */
static int64_t set_progressing(struct rollout *r, struct json *status, const struct json *before) {
    int64_t deadline = json_int_at(r->deployment, "spec.progressDeadlineSeconds", 600);
    const struct json *old = condition_find(status, "Progressing");
    struct str name = r->newest ? r->newest->name : STR("");
    struct str reason = json_str_at(old, "reason");
    if (json_bool_at(r->deployment, "spec.paused", false)) {
        if (!str_eq(reason, STR("NewReplicaSetAvailable")))
            condition_set(r->a, status, "Progressing", "Unknown", "DeploymentPaused", "Deployment is paused", true);
        return 0;
    }
    if (rollout_complete(r)) {
        condition_set(r->a, status, "Progressing", "True", "NewReplicaSetAvailable",
                      arena_printf(r->a, "ReplicaSet \"%.*s\" has successfully progressed.", STR_ARG(name)), true);
        return 0;
    }
    if (!r->newest)
        return 0;
    struct timespec last;
    bool known = time_parse(json_str_at(old, "lastUpdateTime"), &last);
    if (!known || str_eq(reason, STR("NewReplicaSetAvailable")) || made_progress(before, status)) {
        const char *why = known ? "ReplicaSetUpdated" : "NewReplicaSetCreated";
        const char *message = known ? arena_printf(r->a, "ReplicaSet \"%.*s\" is progressing.", STR_ARG(name))
                                    : arena_printf(r->a, "Created new replica set \"%.*s\"", STR_ARG(name));
        /* Progress renews the time even when the words stay. */
        struct json *all = json_get_c(status, "conditions");
        for (size_t i = 0; i < json_len(all); i++)
            if (str_eq(json_str_at(json_item(all, i), "type"), STR("Progressing")))
                json_del_c(json_item(all, i), "reason");
        condition_set(r->a, status, "Progressing", "True", why, message, true);
        return deadline * 1000;
    }
    int64_t left = last.tv_sec + deadline - time_now_s();
    if (left > 0)
        return left * 1000;
    condition_set(r->a, status, "Progressing", "False", "ProgressDeadlineExceeded",
                  arena_printf(r->a, "ReplicaSet \"%.*s\" has timed out progressing.", STR_ARG(name)), true);
    return 0;
}

int rollout_write_status(struct rollout *r, int64_t *again_ms) {
    const struct json *stored = object_json(r->owner), *before = json_get_c(stored, "status");
    struct json *after = json_copy(r->a, stored), *status = json_ensure(r->a, after, "status");
    static const char *const sums[] = {"replicas", "readyReplicas", "availableReplicas", "terminatingReplicas"};
    for (size_t i = 0; i < ARRAY_LEN(sums); i++)
        json_set_int(r->a, status, sums[i], rollout_sum_status(r, NULL, sums[i]));
    int64_t available = json_int_at(status, "availableReplicas", 0);
    json_set_int(r->a, status, "updatedReplicas", r->newest ? set_status(r->newest, "replicas") : 0);
    json_set_int(r->a, status, "unavailableReplicas", MAX(rollout_sum_spec(r, NULL) - available, INT64_C(0)));
    json_set_int(r->a, status, "observedGeneration", json_int_at(r->deployment, "metadata.generation", 0));
    int64_t collisions = json_int_at(r->deployment, "status.collisionCount", 0);
    if (collisions)
        json_set_int(r->a, status, "collisionCount", collisions);
    set_available(r, status, available);
    *again_ms = set_progressing(r, status, before);
    return status_update(r->c, r->call, &r->d->kind, stored, after);
}
