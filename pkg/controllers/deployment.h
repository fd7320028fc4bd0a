/* Private: the parts of the Deployment controller. */
#pragma once

#include "controllers/internal.h"

#define ANNOTATION_REVISION "deployment.kubernetes.io/revision"
#define ANNOTATION_DESIRED "deployment.kubernetes.io/desired-replicas"
#define ANNOTATION_MAX "deployment.kubernetes.io/max-replicas"
#define ANNOTATION_HISTORY "deployment.kubernetes.io/revision-history"
#define LABEL_HASH "pod-template-hash"

struct deployments {
    struct controllers *all;
    struct kind_ref kind, sets, pods;
};

/* One run over one Deployment. */
struct rollout {
    struct controller *c;
    struct deployments *d;
    struct api_call *call;
    struct arena *a;
    struct object *owner;
    struct json *deployment; /* the run's own copy */
    struct object_list sets; /* all ReplicaSets of it, oldest first */
    struct object *newest;   /* the one of the current template (in sets), or NULL */
    int64_t replicas, max_surge, max_unavailable, min_ready_s;
};

/* deployment_sets.c: finding, making and scaling ReplicaSets. */
int rollout_collect(struct rollout *r);
/* Makes the ReplicaSet of the current template when it is missing and keeps revisions up to date. */
int rollout_ensure_newest(struct rollout *r);
int rollout_scale(struct rollout *r, struct object **set, int64_t replicas);
int64_t set_spec_replicas(const struct object *set);
int64_t set_status(const struct object *set, const char *field);
int64_t rollout_sum_spec(const struct rollout *r, const struct object *but);
int64_t rollout_sum_status(const struct rollout *r, const struct object *but, const char *field);
int rollout_clean_history(struct rollout *r);

/* deployment_status.c */
bool rollout_complete(const struct rollout *r);
/* Writes the status; again_ms gets when to look again (progress deadline), or 0. */
int rollout_write_status(struct rollout *r, int64_t *again_ms);
