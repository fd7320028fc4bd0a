/* The file work of volumes; runs on the pool. */
#include <dirent.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "node/volume.h"

#define DATA_LINK "..data"

/* --- one new generation of files -------------------------------------------------------------------------------- */

static int make_parents(int dirfd, struct str path, struct error *err) {
    char part[600];
    for (size_t i = 0; i < path.n; i++) {
        if (path.p[i] != '/')
            continue;
        if (i >= sizeof(part))
            return error_set(err, -ENAMETOOLONG, "%.*s", STR_ARG(path));
        memcpy(part, path.p, i);
        part[i] = 0;
        if (mkdirat(dirfd, part, 0755) < 0 && errno != EEXIST)
            return error_sys(err, -errno, "%s", part);
    }
    return 0;
}

static int write_one(int dirfd, const struct volume_file *f, int64_t fs_group, struct error *err) {
    char path[1024];
    snprintf(path, sizeof(path), "%.*s", STR_ARG(f->path));
    int rc = make_parents(dirfd, f->path, err);
    if (rc < 0)
        return rc;
    cleanup_close int fd = openat(dirfd, path, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0)
        return error_sys(err, -errno, "%s", path);
    mode_t mode = fs_group >= 0 ? f->mode | ((f->mode & 0400) >> 3) : f->mode;
    if (fd_write_all(fd, f->data.p, f->data.n) < 0 || (fs_group >= 0 && fchown(fd, (uid_t)-1, (gid_t)fs_group) < 0) ||
        fchmod(fd, mode) < 0)
        return error_sys(err, -errno, "%s", path);
    return 0;
}

/* Names at the top point into the data directory; links to what is gone are removed. */
static int link_top(int dirfd, const struct volume_file *files, size_t n, struct error *err) {
    char target[700], name[600];
    for (size_t i = 0; i < n; i++) {
        struct str top = files[i].path;
        str_cut(top, '/', &top, NULL);
        snprintf(name, sizeof(name), "%.*s", STR_ARG(top));
        snprintf(target, sizeof(target), DATA_LINK "/%s", name);
        if (symlinkat(target, dirfd, name) < 0 && errno != EEXIST)
            return error_sys(err, -errno, "%s", name);
    }
    return 0;
}

static void drop_stale(int dirfd, const struct volume_file *files, size_t n, const char *keep, const char *base) {
    int copy = fcntl(dirfd, F_DUPFD_CLOEXEC, 0);
    DIR *d = copy < 0 ? NULL : fdopendir(copy);
    if (!d)
        return;
    rewinddir(d);
    for (struct dirent *e; (e = readdir(d));) {
        bool wanted = strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0 ||
                      strcmp(e->d_name, DATA_LINK) == 0 || strcmp(e->d_name, keep) == 0;
        for (size_t i = 0; i < n && !wanted; i++) {
            struct str top = files[i].path;
            str_cut(top, '/', &top, NULL);
            wanted = str_eq_c(top, e->d_name);
        }
        if (wanted)
            continue;
        if (unlinkat(dirfd, e->d_name, 0) < 0) {
            cleanup_free char *path = xasprintf("%s/%s", base, e->d_name);
            dir_remove_all(path, NULL);
        }
    }
    closedir(d);
}

int atomic_write(const char *dir, const struct volume_file *files, size_t n, int64_t fs_group, struct error *err) {
    char generation[40], suffix[11];
    rand_hex(suffix, 10);
    snprintf(generation, sizeof(generation), "..%lld.%s", (long long)time_now_s(), suffix);
    int rc = dir_make_all(dir, 0755, err);
    if (rc < 0)
        return rc;
    cleanup_close int top = open(dir, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (top < 0 || mkdirat(top, generation, 0755) < 0)
        return error_sys(err, -errno, "%s", dir);
    cleanup_close int data = openat(top, generation, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (data < 0)
        return error_sys(err, -errno, "%s", dir);
    for (size_t i = 0; i < n; i++)
        if ((rc = write_one(data, &files[i], fs_group, err)) < 0)
            return rc;
    unlinkat(top, DATA_LINK ".tmp", 0); /* left by a process that died just here */
    if (symlinkat(generation, top, DATA_LINK ".tmp") < 0 || renameat(top, DATA_LINK ".tmp", top, DATA_LINK) < 0)
        return error_sys(err, -errno, "%s", dir);
    rc = link_top(top, files, n, err);
    drop_stale(top, files, n, generation, dir);
    return rc;
}

/* --- volumes ---------------------------------------------------------------------------------------------------- */

static int write_memory(const struct volume *v, struct error *err) {
    char options[80];
    struct stat here, above;
    cleanup_free char *parent = xasprintf("%s/..", v->dir);
    int rc = dir_make_all(v->dir, 0777, err);
    if (rc < 0)
        return rc;
    if (stat(v->dir, &here) == 0 && stat(parent, &above) == 0 && here.st_dev != above.st_dev)
        return 0; /* mounted already, before a restart */
    int at = snprintf(options, sizeof(options), "mode=0777");
    if (v->size_bytes)
        snprintf(options + at, sizeof(options) - (size_t)at, ",size=%llu", (unsigned long long)v->size_bytes);
    if (mount("tmpfs", v->dir, "tmpfs", MS_NOSUID | MS_NODEV, options) < 0)
        return error_sys(err, -errno, "tmpfs on %s", v->dir);
    return 0;
}

static const struct {
    const char *type;
    mode_t kind;
    const char *what;
} host_types[] = {{"Directory", S_IFDIR, "directory"},
                  {"File", S_IFREG, "file"},
                  {"Socket", S_IFSOCK, "socket file"},
                  {"CharDevice", S_IFCHR, "character device"},
                  {"BlockDevice", S_IFBLK, "block device"}};

static int check_host(const struct volume *v, struct error *err) {
    struct stat st;
    if (str_eq(v->host_type, STR("DirectoryOrCreate")))
        return dir_make_all(v->dir, 0755, err);
    if (str_eq(v->host_type, STR("FileOrCreate"))) {
        cleanup_close int fd = open(v->dir, O_RDONLY | O_CREAT | O_CLOEXEC, 0644);
        return fd < 0 ? error_sys(err, -errno, "hostPath %s", v->dir) : 0;
    }
    if (v->host_type.n == 0) /* anything; a missing one becomes a directory */
        return stat(v->dir, &st) == 0 ? 0 : dir_make_all(v->dir, 0755, err);
    for (size_t i = 0; i < ARRAY_LEN(host_types); i++)
        if (str_eq_c(v->host_type, host_types[i].type) &&
            (stat(v->dir, &st) < 0 || (st.st_mode & S_IFMT) != host_types[i].kind))
            return error_set(err, -ENOENT, "hostPath type check failed: %s is not a %s", v->dir, host_types[i].what);
    return 0;
}

static int own_directory(const struct volume *v, struct error *err) {
    mode_t mode = v->fs_group >= 0 ? 02777 : 0777;
    if (v->fs_group >= 0 && chown(v->dir, (uid_t)-1, (gid_t)v->fs_group) < 0)
        return error_sys(err, -errno, "%s", v->dir);
    return chmod(v->dir, mode) < 0 ? error_sys(err, -errno, "%s", v->dir) : 0;
}

int volume_write(const struct volume *v, struct error *err) {
    int rc = 0;
    switch (v->type) {
    case VOLUME_FILES:
        return atomic_write(v->dir, v->files, v->files_n, v->fs_group, err);
    case VOLUME_HOST:
        return check_host(v, err);
    case VOLUME_MEMORY:
        rc = write_memory(v, err);
        break;
    case VOLUME_EMPTY:
        rc = dir_make_all(v->dir, 0777, err);
        break;
    }
    return rc < 0 ? rc : own_directory(v, err);
}

/* --- subPath ---------------------------------------------------------------------------------------------------- */

/* Opens sub inside volume, following links only within it; makes missing directories on the way. */
static int open_inside(const char *volume, const char *sub, struct error *err) {
    cleanup_close int top = open(volume, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (top < 0) /* a volume may be a single file */
        return error_sys(err, -errno, "%s", volume);
    struct open_how how = {.flags = O_PATH | O_CLOEXEC, .resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS};
    int fd = (int)syscall(SYS_openat2, top, sub, &how, sizeof(how));
    if (fd >= 0 || errno != ENOENT)
        return fd >= 0 ? fd : error_sys(err, -errno, "subPath %s", sub);
    int at = fcntl(top, F_DUPFD_CLOEXEC, 0);
    for (struct str rest = str_c(sub); rest.p && at >= 0;) {
        char part[256];
        struct str name = str_split(&rest, '/');
        snprintf(part, sizeof(part), "%.*s", STR_ARG(name));
        int next = -1;
        struct open_how step = {.flags = O_PATH | O_CLOEXEC, .resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS};
        if (name.n && name.n < sizeof(part) && (mkdirat(at, part, 0750) == 0 || errno == EEXIST))
            next = (int)syscall(SYS_openat2, at, part, &step, sizeof(step));
        int saved = errno;
        close(at);
        errno = saved;
        at = next;
    }
    return at >= 0 ? at : error_sys(err, -errno, "subPath %s", sub);
}

int subpath_bind(const char *volume, const char *sub, const char *target, bool read_only, struct error *err) {
    char self[40];
    struct stat st;
    cleanup_close int fd = open_inside(volume, sub, err);
    if (fd < 0)
        return fd;
    if (fstat(fd, &st) < 0)
        return error_sys(err, -errno, "subPath %s", sub);
    if (S_ISDIR(st.st_mode)) {
        int rc = dir_make_all(target, 0755, err);
        if (rc < 0)
            return rc;
    } else {
        cleanup_free char *parent = xstrdup(target);
        *strrchr(parent, '/') = 0;
        int rc = dir_make_all(parent, 0755, err);
        cleanup_close int f = rc < 0 ? -1 : open(target, O_RDONLY | O_CREAT | O_CLOEXEC, 0600);
        if (f < 0)
            return rc < 0 ? rc : error_sys(err, -errno, "%s", target);
    }
    umount2(target, MNT_DETACH); /* of an earlier start of this container */
    snprintf(self, sizeof(self), "/proc/self/fd/%d", fd);
    if (mount(self, target, NULL, MS_BIND, NULL) < 0)
        return error_sys(err, -errno, "subPath %s", sub);
    if (read_only && mount(NULL, target, NULL, MS_BIND | MS_REMOUNT | MS_RDONLY, NULL) < 0)
        return error_sys(err, -errno, "subPath %s", sub);
    return 0;
}
