/* What the kernel must offer: checked before the node starts and by `dory check-config`. */
#pragma once

#include "base/base.h"

enum preflight_result { PREFLIGHT_OK, PREFLIGHT_WARN, PREFLIGHT_FAIL };

struct preflight_check {
    const char *name; /* "overlayfs" */
    enum preflight_result result;
    char detail[200]; /* what was found */
    char remedy[200]; /* the line that mends it, "" when ok */
};
/* Runs all checks (namespaces, cgroup v1/v2 controllers incl. memory, overlayfs, seccomp, nftables, bridge, veth, vxlan,
 * br_netfilter, ip_forward, inotify limits); at most max results, returns how many. */
size_t preflight_run(struct preflight_check *out, size_t max);
