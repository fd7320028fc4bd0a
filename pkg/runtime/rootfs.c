/* A container's file system, made from inside its own mount namespace. */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statfs.h>

#include "runtime/init.h"
#include "runtime/rootfs.h"
#include "runtime/sysx.h"

#define LAYERS_MAX 500 /* of overlayfs; the option string of descriptor numbers stays under a page */

/* --- paths in the root --------------------------------------------------------------------------------------------- */

int rootfs_open(const char *path, int flags) {
    int fd;
    do /* EAGAIN: something was renamed meanwhile, the kernel cannot tell whether we are still inside */
        fd = x_openat2(AT_FDCWD, path, (uint64_t)flags, 0, X_RESOLVE_IN_ROOT | X_RESOLVE_NO_MAGICLINKS);
    while (fd < 0 && (errno == EAGAIN || errno == EINTR));
    return fd < 0 ? -errno : fd;
}

static int make_in_root(const char *path, bool is_dir, int depth);

/* The last component is a symlink to nowhere: what it names, inside the root, is made. */
static int make_link_target(int parent, const char *path, size_t dir_n, const char *name, bool is_dir, int depth) {
    char link[PATH_MAX], target[PATH_MAX * 2];
    ssize_t n = readlinkat(parent, name, link, sizeof(link) - 1);
    if (n <= 0)
        return n < 0 ? -errno : -ENOENT;
    link[n] = 0;
    int len = link[0] == '/' ? snprintf(target, sizeof(target), "%s", link)
                             : snprintf(target, sizeof(target), "%.*s/%s", (int)dir_n, path, link);
    if (len < 0 || len >= PATH_MAX)
        return -ENAMETOOLONG;
    return make_in_root(target, is_dir, depth + 1);
}

/* Makes every component of path that is absent. Every step starts from the root and is one openat2: no component is ever
 * looked up again by name below a directory that could have been swapped. */
static int make_in_root(const char *path, bool is_dir, int depth) {
    char p[PATH_MAX];
    size_t len = strlen(path);
    if (len >= sizeof(p))
        return -ENAMETOOLONG;
    if (depth > 8)
        return -ELOOP;
    memcpy(p, path, len + 1);
    int parent = rootfs_open("/", O_PATH | O_DIRECTORY);
    size_t at = 0;
    while (parent >= 0) {
        while (p[at] == '/')
            at++;
        if (p[at] == 0)
            break;
        size_t end = at;
        while (p[end] && p[end] != '/')
            end++;
        size_t next = end;
        while (p[next] == '/')
            next++;
        bool last = p[next] == 0;
        char saved = p[end];
        p[end] = 0;
        int fd = rootfs_open(p, O_PATH);
        if (fd == -ENOENT) {
            int rc = 0;
            if (last && !is_dir) {
                int made = openat(parent, p + at, O_CREAT | O_EXCL | O_WRONLY | O_NOFOLLOW | O_CLOEXEC, 0644);
                rc = made < 0 ? -errno : 0;
                if (made >= 0)
                    close(made);
            } else if (mkdirat(parent, p + at, 0755) < 0) {
                rc = -errno;
            }
            if (rc == -EEXIST)
                rc = make_link_target(parent, p, at, p + at, !last || is_dir, depth);
            fd = rc < 0 ? rc : rootfs_open(p, O_PATH);
            if (rc > 0)
                close(rc);
        }
        close(parent);
        parent = fd;
        p[end] = saved;
        at = end;
    }
    return parent;
}

int rootfs_make(struct init *in, const char *path, bool is_dir) {
    int fd = rootfs_open(path, O_PATH);
    return fd == -ENOENT ? make_in_root(path, is_dir, 0) : fd;
}

struct str rootfs_read(struct init *in, const char *path) {
    int fd = rootfs_open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY);
    struct stat st;
    if (fd < 0)
        return (struct str){"", 0};
    if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_size > (off_t)USER_FILE_MAX) {
        close(fd);
        return (struct str){"", 0};
    }
    char *p = malloc((size_t)st.st_size + 1); /* this process is about to exec: what it allocates goes with it */
    size_t n = 0;
    ssize_t got;
    while (p && n < (size_t)st.st_size && (got = read(fd, p + n, (size_t)st.st_size - n)) > 0)
        n += (size_t)got;
    close(fd);
    return p ? (struct str){p, n} : (struct str){"", 0};
}

bool rootfs_is_type(int fd, long magic) {
    struct statfs fs;
    return fstatfs(fd, &fs) == 0 && (unsigned long)fs.f_type == (unsigned long)magic;
}

/* --- entering ------------------------------------------------------------------------------------------------------ */

/* Volumes are taken from the host while it is there, with whatever is mounted below them. */
static void open_sources(struct init *in) {
    const struct spec_mounts *m = &in->spec->mounts;
    in->sources = init_memory(in, (m->n + 1) * sizeof(int));
    for (size_t i = 0; i < m->n; i++) {
        in->sources[i] = -1;
        if (m->v[i].flags & SPEC_MOUNT_TMPFS)
            continue;
        in->sources[i] = x_open_tree(AT_FDCWD, m->v[i].source, X_CLONE_TREE | X_RECURSIVE);
        if (in->sources[i] < 0)
            init_fail(in, -errno, "failed to mount \"%s\" to \"%s\": %s", m->v[i].source, m->v[i].destination,
                      strerror(errno));
    }
}

/* The sandbox's shared memory lives in a mount namespace of its own, as its root: a visit there brings a copy. */
static int fetch_shm(struct init *in) {
    if (in->shm_ns < 0)
        return x_open_tree(AT_FDCWD, "/dev/shm", X_CLONE_TREE);
    int here = open("/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC);
    if (here < 0 || setns(in->shm_ns, CLONE_NEWNS) < 0)
        init_fail(in, -errno, "entering the sandbox's shared memory: %s", strerror(errno));
    int fd = x_open_tree(AT_FDCWD, "/", X_CLONE_TREE);
    if (setns(here, CLONE_NEWNS) < 0)
        init_fail(in, -errno, "leaving the sandbox's shared memory: %s", strerror(errno));
    close(here);
    return fd;
}

static int open_dir(struct init *in, const char *path) {
    int fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        init_fail(in, -errno, "opening the layer %s: %s", path, strerror(errno));
    return fd;
}

/*
 * Layers are named by descriptor, relative to /proc/self/fd: any number of them with any path fits in mount(2)'s page, nothing
 * needs escaping, and the container does not see where the host keeps them.
 */
static void mount_overlay(struct init *in, const char *dir) {
    char options[4096], path[PATH_MAX + 8];
    const struct strv *layers = &in->spec->layers;
    if (layers->n == 0 || layers->n > LAYERS_MAX)
        init_fail(in, -EINVAL, "an image has 1 to %d layers, not %zu", LAYERS_MAX, layers->n);
    size_t n = (size_t)snprintf(options, sizeof(options), "lowerdir=");
    for (size_t i = layers->n; i > 0 && n < sizeof(options); i--)
        n += (size_t)snprintf(options + n, sizeof(options) - n, "%s%d", i == layers->n ? "" : ":",
                              open_dir(in, layers->v[i - 1]));
    snprintf(path, sizeof(path), "%s/upper", dir);
    int upper = open_dir(in, path);
    snprintf(path, sizeof(path), "%s/work", dir);
    int work = open_dir(in, path);
    size_t base = n;
    if (n < sizeof(options))
        n += (size_t)snprintf(options + n, sizeof(options) - n, ",upperdir=%d,workdir=%d", upper, work);
    if (n >= sizeof(options) - 16 || base >= sizeof(options))
        init_fail(in, -E2BIG, "the image has too many layers");
    int target = open_dir(in, dir);
    char on[32];
    snprintf(on, sizeof(on), "%d", target);
    /* volatile: a writable layer does not outlive its container, nobody waits for the disk */
    snprintf(options + n, sizeof(options) - n, ",volatile");
    if (chdir("/proc/self/fd") < 0)
        init_fail(in, -errno, "/proc/self/fd: %s", strerror(errno));
    if (mount("overlay", on, "overlay", 0, options) < 0) {
        options[n] = 0;
        if (errno != EINVAL || mount("overlay", on, "overlay", 0, options) < 0)
            init_fail(in, -errno, "mounting the root file system: %s", strerror(errno));
    }
}

void rootfs_enter(struct init *in) {
    char dir[PATH_MAX];
    int n = snprintf(dir, sizeof(dir), "%s/%s", in->sandbox->root_dir.p, in->spec->id.p);
    if (n < 0 || n >= (int)sizeof(dir))
        init_fail(in, -ENAMETOOLONG, "the path of the root is too long");
    open_sources(in);
    in->host_dev = in->spec->flags & SPEC_PRIVILEGED ? open("/dev", O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    int shm = fetch_shm(in);
    in->null = shm; /* kept there until /dev is made */
    if (shm < 0)
        init_fail(in, -errno, "shared memory: %s", strerror(errno));
    /* nothing that is mounted from here on may be seen by the host */
    if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
        init_fail(in, -errno, "making mounts private: %s", strerror(errno));
    mount_overlay(in, dir);
    int root = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (root < 0 || fchdir(root) < 0 || x_pivot_root_here() < 0 || umount2(".", MNT_DETACH) < 0 || chdir("/") < 0)
        init_fail(in, -errno, "entering the root file system: %s", strerror(errno));
    close(root);
}

/* --- cgroups ------------------------------------------------------------------------------------------------------- */

static int make_cgroup_mount(struct init *in, const struct cgroup_hierarchy *h, unsigned attr, char *name,
                             size_t name_n) {
    static const struct {
        uint32_t bit;
        const char *name;
    } names[] = {{CGROUP_CPU, "cpu"},        {CGROUP_CPUACCT, "cpuacct"}, {CGROUP_CPUSET, "cpuset"},
                 {CGROUP_MEMORY, "memory"},  {CGROUP_PIDS, "pids"},       {CGROUP_DEVICES, "devices"},
                 {CGROUP_FREEZER, "freezer"}};
    int fs = x_fsopen(h->is_v2 ? "cgroup2" : "cgroup");
    if (fs < 0)
        return -errno;
    name[0] = 0;
    x_fsconfig_string(fs, "source", "cgroup");
    for (size_t i = 0, n = 0; !h->is_v2 && i < ARRAY_LEN(names); i++) {
        if (!(h->controllers & names[i].bit))
            continue;
        x_fsconfig_flag(fs, names[i].name);
        n += (size_t)snprintf(name + n, n < name_n ? name_n - n : 0, "%s%s", n ? "," : "", names[i].name);
    }
    int rc = x_fsconfig_create(fs) < 0 ? -errno : x_fsmount(fs, attr);
    if (rc == -1)
        rc = -errno;
    close(fs);
    return rc;
}

/* The container's own groups, read-only: what a program reads to learn its limits. */
void rootfs_cgroups(struct init *in) {
    unsigned attr = X_ATTR_NOSUID | X_ATTR_NODEV | X_ATTR_NOEXEC;
    if (!(in->spec->flags & SPEC_PRIVILEGED))
        attr |= X_ATTR_RDONLY;
    char name[96];
    int target =
        x_openat2(AT_FDCWD, "sys/fs/cgroup", O_PATH | O_DIRECTORY, 0, X_RESOLVE_NO_SYMLINKS | X_RESOLVE_BENEATH);
    if (target < 0 || !rootfs_is_type(target, ROOTFS_SYSFS))
        return; /* a kernel without cgroupfs in sysfs */
    const struct cgroup_hierarchy *v2 = cgroup_v2(in->cgroups);
    if (v2 && cgroup_with(in->cgroups, CGROUP_MEMORY) == v2) {
        int m = make_cgroup_mount(in, v2, attr, name, sizeof(name));
        if (m < 0 || x_move_mount_fd(m, target) < 0)
            init_fail(in, m < 0 ? m : -errno, "mounting /sys/fs/cgroup: %s", strerror(m < 0 ? -m : errno));
        return;
    }
    int top = rootfs_new_mount("tmpfs", "mode", "755", "size", "64k", X_ATTR_NOSUID | X_ATTR_NODEV | X_ATTR_NOEXEC);
    if (top < 0 || x_move_mount_fd(top, target) < 0)
        init_fail(in, -errno, "mounting /sys/fs/cgroup: %s", strerror(errno));
    for (size_t i = 0; i < in->cgroups->n; i++) {
        const struct cgroup_hierarchy *h = &in->cgroups->h[i];
        if (h->is_v2 || !cgroup_is_joined(in->cgroups, h))
            continue;
        int m = make_cgroup_mount(in, h, attr, name, sizeof(name));
        int at = m >= 0 && mkdirat(top, name, 0755) == 0 ? openat(top, name, O_PATH | O_DIRECTORY | O_CLOEXEC) : -1;
        if (at < 0 || x_move_mount_fd(m, at) < 0)
            init_fail(in, m < 0 ? m : -errno, "mounting the cgroup hierarchy %s: %s", name,
                      strerror(m < 0 ? -m : errno));
        close(at);
        close(m);
    }
    x_mount_setattr(top, 0, attr & X_ATTR_RDONLY, 0);
    close(top);
}

/* --- volumes ------------------------------------------------------------------------------------------------------- */

static void set_propagation(struct init *in, int source, const struct spec_mount *m) {
    uint64_t how = m->propagation == MOUNT_BIDIRECTIONAL       ? MS_SHARED
                   : m->propagation == MOUNT_HOST_TO_CONTAINER ? MS_SLAVE
                                                               : MS_PRIVATE;
    unsigned deep = m->flags & SPEC_MOUNT_RRO ? X_RECURSIVE : 0;
    if (x_mount_setattr(source, X_RECURSIVE, 0, how) < 0)
        init_fail(in, -errno, "setting the propagation of %s: %s", m->destination, strerror(errno));
    if (m->flags & (SPEC_MOUNT_RO | SPEC_MOUNT_RRO) && x_mount_setattr(source, deep, X_ATTR_RDONLY, 0) < 0)
        init_fail(in, -errno, "making %s read-only: %s", m->destination, strerror(errno));
}

static int tmpfs_for(const struct spec_mount *m) {
    char size[24];
    snprintf(size, sizeof(size), "%llu", (unsigned long long)m->tmpfs_bytes);
    return rootfs_new_mount("tmpfs", "mode", "1777", m->tmpfs_bytes ? "size" : NULL, size,
                            X_ATTR_NOSUID | X_ATTR_NODEV | X_ATTR_NOEXEC);
}

void rootfs_volumes(struct init *in) {
    for (size_t i = 0; i < in->spec->mounts.n; i++) {
        const struct spec_mount *m = &in->spec->mounts.v[i];
        struct stat st;
        bool tmpfs = m->flags & SPEC_MOUNT_TMPFS;
        int source = tmpfs ? tmpfs_for(m) : in->sources[i];
        if (source < 0 || fstat(source, &st) < 0)
            init_fail(in, -errno, "failed to mount \"%s\": %s", m->destination, strerror(errno));
        if (m->destination[0] != '/')
            init_fail(in, -EINVAL, "mount destination \"%s\" is not absolute", m->destination);
        int target = rootfs_make(in, m->destination, S_ISDIR(st.st_mode) && !(m->flags & SPEC_MOUNT_CREATE_FILE));
        if (target < 0)
            init_fail(in, target, "failed to create the mount point \"%s\": %s", m->destination, strerror(-target));
        struct stat at, root;
        if (fstat(target, &at) < 0 || stat("/", &root) < 0)
            init_fail(in, -errno, "%s: %s", m->destination, strerror(errno));
        if (S_ISDIR(at.st_mode) != S_ISDIR(st.st_mode))
            init_fail(in, -ENOTDIR,
                      "failed to mount \"%s\" to \"%s\": not a directory (one is a file, the other a directory)",
                      tmpfs ? "tmpfs" : m->source, m->destination);
        if (at.st_dev == root.st_dev && at.st_ino == root.st_ino)
            init_fail(in, -EINVAL, "\"%s\" cannot be mounted on the root", m->destination);
        if (rootfs_is_type(target, ROOTFS_PROC))
            init_fail(in, -EPERM, "\"%s\" cannot be mounted because it is inside /proc", m->destination);
        if (!tmpfs || m->flags & (SPEC_MOUNT_RO | SPEC_MOUNT_RRO))
            set_propagation(in, source, m);
        if (x_move_mount_fd(source, target) < 0)
            init_fail(in, -errno, "failed to mount \"%s\" to \"%s\": %s", tmpfs ? "tmpfs" : m->source, m->destination,
                      strerror(errno));
        close(target);
        close(source);
    }
}
