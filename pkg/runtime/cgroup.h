/*
 * Control groups, v1 (a hierarchy a controller), v2, and both at once: limits by the hierarchy that has the controller,
 * kill and device filter by v2 wherever it is mounted. Groups are named by a path below the top group, which is made in
 * every hierarchy used: "burstable/pod1/sandbox/container". No heap is used: the monitor calls this too.
 */
#pragma once

#include "base/base.h"
#include "runtime/sandbox.h"

enum cgroup_controller {
    CGROUP_CPU = 1,
    CGROUP_CPUACCT = 2,
    CGROUP_CPUSET = 4,
    CGROUP_MEMORY = 8,
    CGROUP_PIDS = 16,
    CGROUP_DEVICES = 32,
    CGROUP_FREEZER = 64,
    CGROUP_SYSTEMD = 128, /* name=systemd: only to be out of the server's unit */
};

#define CGROUP_HIERARCHIES_MAX 12
#define CGROUP_PATH_MAX 512
#define CGROUP_MONITORS "monitors" /* the group of all monitors, below the top one */

struct cgroup_hierarchy {
    uint32_t controllers; /* v2: those that may be enabled below the root */
    uint32_t is_v2;
    char mount[104];
};

struct cgroup_layout {
    uint32_t n;
    uint32_t joined; /* the controllers of v1 whose hierarchies get groups; v2 always does */
    char top[72];
    struct cgroup_hierarchy h[CGROUP_HIERARCHIES_MAX];
};

/* Finds the hierarchies and makes the top group in each. -ENOENT when there is no usable one. */
int cgroup_probe(const char *top, struct cgroup_layout *out, struct error *err);
/* As above from the text of mountinfo, without making anything. */
int cgroup_parse_mountinfo(struct str mountinfo, struct cgroup_layout *out);
const struct cgroup_hierarchy *cgroup_v2(const struct cgroup_layout *l);                        /* or NULL */
const struct cgroup_hierarchy *cgroup_with(const struct cgroup_layout *l, uint32_t controller); /* or NULL */
/* Whether a v1 hierarchy gets groups of ours. */
bool cgroup_is_joined(const struct cgroup_layout *l, const struct cgroup_hierarchy *h);

/* Makes the group (its parents too) and applies limits. leaf: it will hold processes. An existing one is fine. */
int cgroup_create(const struct cgroup_layout *l, const char *path, const struct cgroup_limits *limits, bool leaf,
                  struct error *err);
int cgroup_set_limits(const struct cgroup_layout *l, const char *path, const struct cgroup_limits *limits,
                      struct error *err);
/* Moves a process in. skip_v2: it was cloned into its v2 group. */
int cgroup_join(const struct cgroup_layout *l, const char *path, int pid, bool skip_v2, struct error *err);
int cgroup_open_v2(const struct cgroup_layout *l, const char *path); /* directory fd or negative errno */
/* Kills every process in the group and below. Once; cgroup_remove() repeats it. */
void cgroup_kill(const struct cgroup_layout *l, const char *path);
/* Kills, waits (up to 5 s) and removes the group and all below it. An absent one is fine. */
int cgroup_remove(const struct cgroup_layout *l, const char *path, struct error *err);
/* Whether the kernel's OOM killer struck in the group. */
bool cgroup_oom_killed(const struct cgroup_layout *l, const char *path);
int cgroup_usage(const struct cgroup_layout *l, const char *path, struct container_usage *out, struct error *err);

/* --- devices --- */
/* Loads the BPF program that lets a container at Docker's default devices only; an fd, or negative where the
 * kernel cannot (then cgroup_deny_devices() does it on v1). */
int cgroup_device_program(void);
int cgroup_device_attach(int program_fd, int cgroup_fd);
int cgroup_deny_devices(const struct cgroup_layout *l, const char *path, struct error *err); /* v1 */
