#include "runtime/runtime.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runtime/runtime_priv.h"

bool runtime_id_is_valid(struct str id) {
    if (id.n == 0 || id.n > MONITOR_ID_MAX || id.p[0] == '-')
        return false;
    for (size_t i = 0; i < id.n; i++)
        if (!((id.p[i] >= 'a' && id.p[i] <= 'z') || (id.p[i] >= '0' && id.p[i] <= '9') || id.p[i] == '-'))
            return false;
    return true;
}

struct str str_take(struct str s) {
    return (struct str){xstrndup(s.n ? s.p : "", s.n), s.n};
}

static int make_monitors_group(struct runtime *rt, struct error *err) {
    const struct cgroup_hierarchy *systemd = cgroup_with(&rt->cgroups, CGROUP_SYSTEMD);
    char path[CGROUP_PATH_MAX];
    if (systemd && snprintf(path, sizeof(path), "%s/%s/" CGROUP_MONITORS, systemd->mount, rt->cgroups.top) > 0)
        mkdir(path, 0755);
    return cgroup_create(&rt->cgroups, CGROUP_MONITORS, NULL, true, err);
}

int runtime_open(const struct runtime_options *o, struct runtime **out, struct error *err) {
    struct runtime *rt = XNEW(struct runtime);
    list_init(&rt->sandboxes);
    rt->loop = o->loop;
    rt->events = o->events;
    rt->self = rt->devices = -1;
    rt->state_dir = xstrdup(o->state_dir);
    rt->root_dir = xstrdup(o->root_dir);
    int rc = dir_make_all(o->state_dir, 0700, err);
    if (rc == 0)
        rc = dir_make_all(o->root_dir, 0700, err);
    if (rc == 0 && (o->state_dir[0] != '/' || o->root_dir[0] != '/'))
        rc = error_set(err, -EINVAL, "state and root directory must be absolute paths");
    if (rc == 0)
        rc = cgroup_probe(o->cgroup_root, &rt->cgroups, err);
    if (rc == 0) {
        rt->self = spawn_open_self(o->self_path ? o->self_path : "/proc/self/exe", err);
        rc = rt->self < 0 ? rt->self : 0;
    }
    if (rc == 0 && cgroup_v2(&rt->cgroups)) {
        rt->devices = cgroup_device_program();
        if (rt->devices < 0 && cgroup_with(&rt->cgroups, CGROUP_DEVICES)) {
            rt->cgroups.joined |= CGROUP_DEVICES; /* no BPF: the devices controller of v1 does it */
        } else if (rt->devices < 0) {
            rc = error_sys(err, rt->devices, "the kernel cannot restrict devices (CONFIG_CGROUP_BPF)");
        }
    }
    if (rc == 0)
        rc = make_monitors_group(rt, err);
    if (rc < 0) {
        runtime_close(rt);
        return rc;
    }
    *out = rt;
    return 0;
}

static void finish(struct runtime *rt) {
    struct map_entry *e;
    for (size_t i = 0; (e = map_next(&rt->filters, &i));)
        blob_unref(e->value);
    map_fini(&rt->filters);
    map_fini(&rt->by_id);
    if (rt->self >= 0)
        close(rt->self);
    if (rt->devices >= 0)
        close(rt->devices);
    free(rt->state_dir);
    free(rt->root_dir);
    free(rt);
}

void runtime_job_begin(struct runtime *rt) {
    rt->jobs++;
}

bool runtime_job_end(struct runtime *rt) {
    bool closed = rt->closed;
    if (--rt->jobs == 0 && closed)
        finish(rt);
    return closed;
}

void runtime_close(struct runtime *rt) {
    rt->closed = true;
    LIST_FOREACH (it, &rt->sandboxes) {
        sandbox_free(LIST_ITEM(it, struct sandbox, node));
    }
    if (rt->jobs == 0)
        finish(rt);
}
