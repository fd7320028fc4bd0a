/*
 * pkg/controllers: plain synchronous reconcilers on the core thread, one file a controller. They read the store through
 * indexes and write through api_create() and its siblings. Level-triggered and idempotent, fed by a work queue with
 * back-off.
 */
#pragma once

#include "api/api.h"

struct controllers;

struct controllers_options {
    struct api *api;
    const char *cluster_cidr;      /* pod CIDRs of nodes come from it, a /24 each */
    const char *cluster_ca_pem;    /* kube-root-ca.crt */
    int64_t node_monitor_grace_ms; /* a node whose lease is older is unreachable; 0: 40 s */
};
struct controllers *controllers_start(const struct controllers_options *o);
void controllers_stop(struct controllers *c);

/* --- the frame every controller stands in (controllers/queue.c) --- */

/* One kind of work: keys are "ns/name" or "name". */
struct controller {
    const char *name; /* "deployment" */
    /* 0: done (or nothing to do); > 0: again after so many ms; negative: failed, again with back-off. */
    int64_t (*reconcile)(struct controller *c, struct str ns, struct str name);
    struct api *api;
    struct work_queue *queue;
    void *state;
    void (*fini)(void *state); /* frees what state holds, not itself; may be NULL */
};
struct work_queue;
struct work_queue *work_queue_new(struct loop *core, struct controller *c);
void work_queue_free(struct work_queue *q);
/* Queues once, however often it is asked for before it runs. Runs from the core loop, never inline. */
void work_queue_add(struct work_queue *q, struct str ns, struct str name);
void work_queue_add_after(struct work_queue *q, struct str ns, struct str name, int64_t ms);
