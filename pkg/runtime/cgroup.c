#include "runtime/cgroup.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const struct {
    const char *name;
    uint32_t bit;
} controllers[] = {
    {"cpu", CGROUP_CPU},   {"cpuacct", CGROUP_CPUACCT}, {"cpuset", CGROUP_CPUSET},   {"memory", CGROUP_MEMORY},
    {"pids", CGROUP_PIDS}, {"devices", CGROUP_DEVICES}, {"freezer", CGROUP_FREEZER}, {"name=systemd", CGROUP_SYSTEMD},
};

static uint32_t parse_controllers(struct str list, char separator) {
    uint32_t bits = 0;
    while (list.p) {
        struct str name = str_trim(str_split(&list, separator));
        for (size_t i = 0; i < ARRAY_LEN(controllers); i++)
            if (str_eq_c(name, controllers[i].name))
                bits |= controllers[i].bit;
    }
    return bits;
}

/* --- files ------------------------------------------------------------------------------------------------------- */

/* <mount>/<top>/<path>/<file>; path and file may be NULL. */
static int make_path(char out[CGROUP_PATH_MAX], const struct cgroup_layout *l, const struct cgroup_hierarchy *h,
                     const char *path, const char *file) {
    int n = snprintf(out, CGROUP_PATH_MAX, "%s/%s%s%s%s%s", h->mount, l->top, path && *path ? "/" : "",
                     path ? path : "", file ? "/" : "", file ? file : "");
    return n < 0 || n >= CGROUP_PATH_MAX ? -ENAMETOOLONG : 0;
}

static int write_text(const char *path, const char *text) {
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    ssize_t n = write(fd, text, strlen(text));
    int rc = n < 0 ? -errno : 0;
    close(fd);
    return rc;
}

/* Reads a small file; the number of bytes or negative. */
static int read_text(const char *path, char *out, size_t size) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    ssize_t n = read(fd, out, size - 1);
    int rc = n < 0 ? -errno : (int)n;
    close(fd);
    out[n < 0 ? 0 : n] = 0;
    return rc;
}

static int put_file(const struct cgroup_layout *l, const struct cgroup_hierarchy *h, const char *path, const char *file,
                    const char *text, struct error *err) {
    char p[CGROUP_PATH_MAX];
    int rc = make_path(p, l, h, path, file);
    if (rc == 0)
        rc = write_text(p, text);
    return rc < 0 ? error_sys(err, rc, "writing \"%s\" to %s", text, p) : 0;
}

/* The number after `key ` in a file of such lines, or -1; key NULL: the file is the number. */
static int64_t get_number(const struct cgroup_layout *l, const struct cgroup_hierarchy *h, const char *path,
                          const char *file, const char *key) {
    char p[CGROUP_PATH_MAX], text[4096];
    int64_t v = -1;
    if (!h || make_path(p, l, h, path, file) < 0)
        return -1;
    int n = read_text(p, text, sizeof(text));
    if (n < 0)
        return -1;
    struct str rest = {text, (size_t)n};
    while (rest.p) {
        struct str line = str_split(&rest, '\n'), name, value = line;
        if (key && (!str_cut(line, ' ', &name, &value) || !str_eq_c(name, key)))
            continue;
        str_to_i64(value, &v);
        break;
    }
    return v;
}

/* --- layout ------------------------------------------------------------------------------------------------------ */

static struct str field(struct str *rest) {
    return str_split(rest, ' ');
}

/* "36 35 0:32 / /sys/fs/cgroup/cpu rw,relatime shared:9 - cgroup cgroup rw,cpu": fields by position, a variable number of
 * them before the dash. */
static void parse_mount(struct str line, struct cgroup_layout *out) {
    struct str rest = line, options = {0};
    for (int i = 0; i < 4; i++)
        field(&rest);
    struct str mount = field(&rest);
    while (rest.p && !str_eq_c(field(&rest), "-"))
        ;
    if (!rest.p)
        return;
    struct str type = field(&rest);
    field(&rest);
    options = rest;
    struct cgroup_hierarchy h = {.is_v2 = str_eq_c(type, "cgroup2")};
    if ((!h.is_v2 && !str_eq_c(type, "cgroup")) || mount.n >= sizeof(h.mount) || !options.p)
        return;
    if (!h.is_v2)
        h.controllers = parse_controllers(options, ',');
    for (size_t i = 0; i < out->n; i++) /* mounted twice: the first will do */
        if (out->h[i].is_v2 == h.is_v2 && out->h[i].controllers == h.controllers)
            return;
    if (out->n == CGROUP_HIERARCHIES_MAX || (!h.is_v2 && !h.controllers))
        return;
    memcpy(h.mount, mount.p, mount.n);
    out->h[out->n++] = h;
}

int cgroup_parse_mountinfo(struct str mountinfo, struct cgroup_layout *out) {
    *out = (struct cgroup_layout){0};
    while (mountinfo.p)
        parse_mount(str_split(&mountinfo, '\n'), out);
    return out->n ? 0 : -ENOENT;
}

const struct cgroup_hierarchy *cgroup_v2(const struct cgroup_layout *l) {
    for (size_t i = 0; i < l->n; i++)
        if (l->h[i].is_v2)
            return &l->h[i];
    return NULL;
}

const struct cgroup_hierarchy *cgroup_with(const struct cgroup_layout *l, uint32_t controller) {
    for (size_t i = 0; i < l->n; i++)
        if (l->h[i].controllers & controller)
            return &l->h[i];
    return NULL;
}

bool cgroup_is_joined(const struct cgroup_layout *l, const struct cgroup_hierarchy *h) {
    return h->is_v2 || (h->controllers & l->joined);
}

/* Lets the children of a v2 group have the controllers. One that cannot be had is a limit that will fail with its name. */
static void enable_controllers(const struct cgroup_hierarchy *h, const char *directory) {
    static const char *const words[] = {"+cpu", "+cpuset", "+memory", "+pids"};
    static const uint32_t bits[] = {CGROUP_CPU, CGROUP_CPUSET, CGROUP_MEMORY, CGROUP_PIDS};
    char path[CGROUP_PATH_MAX], have[256];
    int n = snprintf(path, sizeof(path), "%s/cgroup.subtree_control", directory);
    if (n < 0 || n >= (int)sizeof(path) || read_text(path, have, sizeof(have)) < 0)
        return;
    uint32_t enabled = parse_controllers(str_c(have), ' ');
    for (size_t i = 0; i < ARRAY_LEN(words); i++)
        if ((h->controllers & bits[i]) && !(enabled & bits[i]))
            write_text(path, words[i]);
}

/* cpuset of v1 starts empty: a group without cpus and memory nodes takes no process. */
static void inherit_cpuset(const char *directory) {
    static const char *const files[] = {"cpuset.cpus", "cpuset.mems"};
    for (size_t i = 0; i < ARRAY_LEN(files); i++) {
        char path[CGROUP_PATH_MAX], text[256];
        int n = snprintf(path, sizeof(path), "%s/../%s", directory, files[i]);
        if (n < 0 || n >= (int)sizeof(path) || read_text(path, text, sizeof(text)) <= 1)
            continue;
        n = snprintf(path, sizeof(path), "%s/%s", directory, files[i]);
        char have[256];
        if (n > 0 && n < (int)sizeof(path) && read_text(path, have, sizeof(have)) <= 1)
            write_text(path, text);
    }
}

/* mkdir -p from the hierarchy's mount down. */
static int make_group_once(const struct cgroup_layout *l, const struct cgroup_hierarchy *h, const char *path,
                           bool leaf) {
    char p[CGROUP_PATH_MAX];
    int rc = make_path(p, l, h, path, NULL);
    if (rc < 0)
        return rc;
    bool delegates = h->is_v2 && h->controllers;
    /* most of the way is there already */
    if (mkdir(p, 0755) == 0 || errno == EEXIST) {
        if (h->controllers & CGROUP_CPUSET && !h->is_v2)
            inherit_cpuset(p);
        if (delegates && !leaf)
            enable_controllers(h, p);
        return 0;
    }
    if (errno != ENOENT)
        return -errno;
    for (char *s = p + strlen(h->mount) + 1; *s; s++) {
        if (*s != '/')
            continue;
        *s = 0;
        int failed = mkdir(p, 0755) < 0 && errno != EEXIST ? -errno : 0;
        if (!failed && delegates)
            enable_controllers(h, p);
        if (!failed && h->controllers & CGROUP_CPUSET && !h->is_v2)
            inherit_cpuset(p);
        *s = '/';
        if (failed)
            return failed;
    }
    if (mkdir(p, 0755) < 0 && errno != EEXIST)
        return -errno;
    if (h->controllers & CGROUP_CPUSET && !h->is_v2)
        inherit_cpuset(p);
    if (delegates && !leaf)
        enable_controllers(h, p);
    return 0;
}

/* -ENOENT: somebody removed a parent that had become empty just then. */
static int make_group(const struct cgroup_layout *l, const struct cgroup_hierarchy *h, const char *path, bool leaf) {
    int rc = -ENOENT;
    for (int i = 0; i < 5 && rc == -ENOENT; i++)
        rc = make_group_once(l, h, path, leaf);
    return rc;
}

int cgroup_probe(const char *top, struct cgroup_layout *out, struct error *err) {
    struct buf text = {.limit = MiB(8)};
    int rc = file_read("/proc/self/mountinfo", &text, err);
    if (rc == 0 && cgroup_parse_mountinfo(buf_str(&text), out) < 0)
        rc = error_set(err, -ENOENT, "no cgroup hierarchy is mounted: mount -t cgroup2 none /sys/fs/cgroup");
    buf_fini(&text);
    if (rc < 0)
        return rc;
    if (strlen(top) >= sizeof(out->top))
        return error_set(err, -EINVAL, "cgroup name \"%s\" is too long", top);
    memcpy(out->top, top, strlen(top) + 1);
    for (size_t i = 0; i < out->n; i++) {
        struct cgroup_hierarchy *h = &out->h[i];
        char p[CGROUP_PATH_MAX], have[256];
        if (!h->is_v2)
            continue;
        snprintf(p, sizeof(p), "%s/cgroup.controllers", h->mount);
        if (read_text(p, have, sizeof(have)) >= 0)
            h->controllers = parse_controllers(str_c(have), ' ');
        if (h->controllers)
            enable_controllers(h, h->mount);
    }
    const struct cgroup_hierarchy *v2 = cgroup_v2(out);
    uint32_t by_v2 = v2 ? v2->controllers : 0;
    out->joined = (CGROUP_CPU | CGROUP_CPUACCT | CGROUP_MEMORY | CGROUP_PIDS) & ~by_v2;
    if (!v2)
        out->joined |= CGROUP_DEVICES;
    for (size_t i = 0; i < out->n; i++) {
        const struct cgroup_hierarchy *h = &out->h[i];
        if (!cgroup_is_joined(out, h) && !(h->controllers & CGROUP_SYSTEMD))
            continue;
        rc = make_group(out, h, NULL, false);
        if (rc < 0)
            return error_sys(err, rc, "creating the cgroup %s/%s", h->mount, top);
    }
    return 0;
}

/* --- limits ------------------------------------------------------------------------------------------------------ */

struct setting {
    const char *file;
    int64_t value; /* negative: without limit */
    bool is_set, optional;
};

static int put_settings(const struct cgroup_layout *l, uint32_t controller, const char *path, const char *unlimited,
                        const struct setting *settings, size_t n, struct error *err) {
    const struct cgroup_hierarchy *h = cgroup_with(l, controller);
    for (size_t i = 0; i < n; i++) {
        char text[32];
        if (!settings[i].is_set)
            continue;
        if (!h)
            return settings[i].optional ? 0 : error_set(err, -ENOENT, "no cgroup controller for %s", settings[i].file);
        if (settings[i].value < 0)
            snprintf(text, sizeof(text), "%s", unlimited);
        else
            snprintf(text, sizeof(text), "%lld", (long long)settings[i].value);
        int rc = put_file(l, h, path, settings[i].file, text, settings[i].optional ? NULL : err);
        if (rc < 0 && !settings[i].optional)
            return rc;
    }
    return 0;
}

static bool on_v2(const struct cgroup_layout *l, uint32_t controller) {
    const struct cgroup_hierarchy *h = cgroup_with(l, controller);
    return h && h->is_v2;
}

static int set_cpu(const struct cgroup_layout *l, const char *path, const struct cgroup_limits *c, struct error *err) {
    uint64_t period = c->cpu_period_us ? c->cpu_period_us : 100000;
    if (!on_v2(l, CGROUP_CPU)) {
        struct setting s[] = {{"cpu.shares", (int64_t)c->cpu_shares, c->cpu_shares != 0, false},
                              {"cpu.cfs_period_us", (int64_t)period, c->cpu_quota_us > 0, false},
                              {"cpu.cfs_quota_us", c->cpu_quota_us, c->cpu_quota_us != 0, false}};
        return put_settings(l, CGROUP_CPU, path, "-1", s, ARRAY_LEN(s), err);
    }
    /* shares 2..262144 to weight 1..10000, as KEP-2254 has it */
    uint64_t shares = MAX(2, MIN(c->cpu_shares, 262144));
    struct setting s[] = {{"cpu.weight", (int64_t)(1 + (shares - 2) * 9999 / 262142), c->cpu_shares != 0, false}};
    int rc = put_settings(l, CGROUP_CPU, path, "", s, ARRAY_LEN(s), err);
    if (rc < 0 || c->cpu_quota_us == 0)
        return rc;
    char text[64];
    if (c->cpu_quota_us < 0)
        snprintf(text, sizeof(text), "max %llu", (unsigned long long)period);
    else
        snprintf(text, sizeof(text), "%lld %llu", (long long)c->cpu_quota_us, (unsigned long long)period);
    return put_file(l, cgroup_with(l, CGROUP_CPU), path, "cpu.max", text, err);
}

static int set_memory(const struct cgroup_layout *l, const char *path, const struct cgroup_limits *c,
                      struct error *err) {
    bool limited = c->memory_bytes != 0;
    if (!on_v2(l, CGROUP_MEMORY)) {
        /* memory and swap together no higher than memory: no swapping; raised before and lowered after it */
        struct setting s[] = {{"memory.memsw.limit_in_bytes", c->memory_bytes, limited, true},
                              {"memory.limit_in_bytes", c->memory_bytes, limited, false},
                              {"memory.memsw.limit_in_bytes", c->memory_bytes, limited, true}};
        return put_settings(l, CGROUP_MEMORY, path, "-1", s, ARRAY_LEN(s), err);
    }
    struct setting s[] = {{"memory.max", c->memory_bytes, limited, false},
                          {"memory.swap.max", c->memory_bytes < 0 ? -1 : 0, limited, true},
                          {"memory.oom.group", 1, c->oom_group, true}};
    return put_settings(l, CGROUP_MEMORY, path, "max", s, ARRAY_LEN(s), err);
}

int cgroup_set_limits(const struct cgroup_layout *l, const char *path, const struct cgroup_limits *c,
                      struct error *err) {
    int rc = set_cpu(l, path, c, err);
    if (rc == 0)
        rc = set_memory(l, path, c, err);
    struct setting pids[] = {{"pids.max", c->pids, c->pids != 0, false}};
    if (rc == 0)
        rc = put_settings(l, CGROUP_PIDS, path, "max", pids, 1, err);
    if (rc < 0 || c->cpuset_cpus.n == 0)
        return rc;
    const struct cgroup_hierarchy *h = cgroup_with(l, CGROUP_CPUSET);
    char cpus[256];
    if (!h || c->cpuset_cpus.n >= sizeof(cpus))
        return error_set(err, h ? -EINVAL : -ENOENT, "cpuset: %s", h ? "too long" : "no cgroup controller");
    memcpy(cpus, c->cpuset_cpus.p, c->cpuset_cpus.n);
    cpus[c->cpuset_cpus.n] = 0;
    rc = make_group(l, h, path, true);
    return rc < 0 ? error_sys(err, rc, "cgroup %s", path) : put_file(l, h, path, "cpuset.cpus", cpus, err);
}

int cgroup_create(const struct cgroup_layout *l, const char *path, const struct cgroup_limits *limits, bool leaf,
                  struct error *err) {
    for (size_t i = 0; i < l->n; i++) {
        if (!cgroup_is_joined(l, &l->h[i]))
            continue;
        int rc = make_group(l, &l->h[i], path, leaf);
        if (rc < 0)
            return error_sys(err, rc, "creating the cgroup %s/%s/%s", l->h[i].mount, l->top, path);
    }
    return limits ? cgroup_set_limits(l, path, limits, err) : 0;
}

int cgroup_join(const struct cgroup_layout *l, const char *path, int pid, bool skip_v2, struct error *err) {
    char text[16];
    snprintf(text, sizeof(text), "%d", pid);
    for (size_t i = 0; i < l->n; i++) {
        const struct cgroup_hierarchy *h = &l->h[i];
        if (h->is_v2 && skip_v2)
            continue;
        bool maybe = !h->is_v2 && h->controllers & (CGROUP_CPUSET | CGROUP_SYSTEMD);
        if (!cgroup_is_joined(l, h) && !maybe)
            continue;
        int rc = put_file(l, h, path, "cgroup.procs", text, maybe ? NULL : err);
        if (rc < 0 && !maybe) /* cpuset has the group only where it was asked for */
            return rc;
    }
    return 0;
}

int cgroup_open_v2(const struct cgroup_layout *l, const char *path) {
    char p[CGROUP_PATH_MAX];
    const struct cgroup_hierarchy *h = cgroup_v2(l);
    if (!h)
        return -ENOENT;
    int rc = make_path(p, l, h, path, NULL);
    if (rc < 0)
        return rc;
    int fd = open(p, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return fd < 0 ? -errno : fd;
}

/* --- killing and removing ---------------------------------------------------------------------------------------- */

#define DEPTH_MAX 16

/* Calls fn for every group below (deepest first), then for the directory itself. */
static int each_group(int dir_fd, int depth, int (*fn)(int fd)) {
    int copy = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *d = copy < 0 ? NULL : fdopendir(copy);
    if (!d) {
        if (copy >= 0)
            close(copy);
        return -errno;
    }
    int rc = 0;
    for (struct dirent *e; (e = readdir(d));) {
        if (e->d_type != DT_DIR || e->d_name[0] == '.' || depth >= DEPTH_MAX)
            continue;
        int sub = openat(dir_fd, e->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (sub < 0)
            continue;
        int r = each_group(sub, depth + 1, fn);
        close(sub);
        if (r < 0)
            rc = r;
        if (!fn && unlinkat(dir_fd, e->d_name, AT_REMOVEDIR) < 0 && errno != ENOENT)
            rc = -errno;
    }
    closedir(d);
    if (fn)
        fn(dir_fd);
    return rc;
}

static int kill_members(int dir_fd) {
    int fd = openat(dir_fd, "cgroup.procs", O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    char text[4096];
    ssize_t n = read(fd, text, sizeof(text) - 1); /* what is beyond is killed by the next round */
    close(fd);
    if (n <= 0)
        return 0;
    struct str rest = {text, (size_t)n};
    while (rest.p) {
        int64_t pid;
        if (str_to_i64(str_split(&rest, '\n'), &pid) && pid > 1)
            kill((pid_t)pid, SIGKILL);
    }
    return 0;
}

void cgroup_kill(const struct cgroup_layout *l, const char *path) {
    char p[CGROUP_PATH_MAX];
    const struct cgroup_hierarchy *h = cgroup_v2(l);
    if (h && make_path(p, l, h, path, "cgroup.kill") == 0 && write_text(p, "1") == 0)
        return; /* Linux 5.14 and later: all at once, forks included */
    for (size_t i = 0; i < l->n; i++) {
        if (!cgroup_is_joined(l, &l->h[i]) || make_path(p, l, &l->h[i], path, NULL) < 0)
            continue;
        int fd = open(p, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0)
            continue;
        each_group(fd, 0, kill_members);
        close(fd);
    }
}

static int remove_one(const struct cgroup_layout *l, const struct cgroup_hierarchy *h, const char *path) {
    char p[CGROUP_PATH_MAX];
    int rc = make_path(p, l, h, path, NULL);
    if (rc < 0)
        return rc;
    if (rmdir(p) == 0 || errno == ENOENT)
        return 0;
    int fd = open(p, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOENT ? 0 : -errno;
    each_group(fd, 0, NULL);
    close(fd);
    return rmdir(p) == 0 || errno == ENOENT ? 0 : -errno;
}

int cgroup_remove(const struct cgroup_layout *l, const char *path, struct error *err) {
    int64_t until = time_mono_ms() + 5000, pause_us = 200;
    for (size_t i = 0; i < l->n;) {
        /* in those that are not used now too: whoever made the group may have used them */
        int rc = remove_one(l, &l->h[i], path);
        if (rc == 0) {
            i++;
            continue;
        }
        if (rc != -EBUSY || time_mono_ms() > until)
            return error_sys(err, rc, "removing the cgroup %s/%s/%s", l->h[i].mount, l->top, path);
        cgroup_kill(l, path); /* processes are still dying, or there are some after all */
        usleep((useconds_t)pause_us);
        pause_us = MIN(pause_us * 2, 20000);
    }
    return 0;
}

/* --- reading ----------------------------------------------------------------------------------------------------- */

bool cgroup_oom_killed(const struct cgroup_layout *l, const char *path) {
    const struct cgroup_hierarchy *h = cgroup_with(l, CGROUP_MEMORY);
    return h && get_number(l, h, path, h->is_v2 ? "memory.events" : "memory.oom_control", "oom_kill") > 0;
}

static uint64_t not_negative(int64_t v) {
    return v > 0 ? (uint64_t)v : 0;
}

int cgroup_usage(const struct cgroup_layout *l, const char *path, struct container_usage *out, struct error *err) {
    struct container_usage u = {0};
    const struct cgroup_hierarchy *cpu = cgroup_with(l, on_v2(l, CGROUP_CPU) ? CGROUP_CPU : CGROUP_CPUACCT);
    const struct cgroup_hierarchy *mem = cgroup_with(l, CGROUP_MEMORY), *pids = cgroup_with(l, CGROUP_PIDS);
    int64_t used = mem ? get_number(l, mem, path, mem->is_v2 ? "memory.current" : "memory.usage_in_bytes", NULL) : 0;
    if (used < 0)
        return error_set(err, -ENOENT, "cgroup %s/%s is gone", l->top, path);
    if (cpu)
        u.cpu_ns = cpu->is_v2 ? not_negative(get_number(l, cpu, path, "cpu.stat", "usage_usec")) * 1000
                              : not_negative(get_number(l, cpu, path, "cpuacct.usage", NULL));
    u.memory_bytes = (uint64_t)used;
    if (mem) {
        uint64_t inactive =
            not_negative(get_number(l, mem, path, "memory.stat", mem->is_v2 ? "inactive_file" : "total_inactive_file"));
        u.memory_working_set_bytes = u.memory_bytes > inactive ? u.memory_bytes - inactive : 0;
        u.memory_rss_bytes = not_negative(get_number(l, mem, path, "memory.stat", mem->is_v2 ? "anon" : "total_rss"));
    }
    u.pids = not_negative(get_number(l, pids, path, "pids.current", NULL));
    *out = u;
    return 0;
}
