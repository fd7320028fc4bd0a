/*
 * pkg/scheduler: binds pods to nodes. Filters and scores are pure functions over a snapshot kept up to date by store
 * hooks; a pod that does not fit is tried again when something that could help has changed. Core thread.
 */
#pragma once

#include "api/api.h"

struct scheduler;
struct scheduler *scheduler_start(struct api *api, const char *scheduler_name /* NULL: "default-scheduler" */);
void scheduler_stop(struct scheduler *s);
