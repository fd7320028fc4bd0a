/* Entries of a layer as files below one directory. */
#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "runtime/layer.h"
#include "runtime/layer_path.h"

#define DIRS_BYTES_MAX MiB(128) /* remembered for their times */
#define IMPLIED_MAX 100000

struct dir_time {
    const char *path;
    struct timespec mtime;
};

struct layer_fs {
    int root;
    bool no_openat2;
    struct buf path;
    char parent[PATH_MAX]; /* of the entry before: most entries lie where the one before them lay */
    int parent_fd;
    bool parent_stale; /* a link in its path may have been replaced */
    struct map implied;
    struct buf implied_text;
    struct arena *arena;
    VEC(struct dir_time) dirs;
};

static void forget_parent(struct layer_fs *fs) {
    if (fs->parent_fd >= 0)
        close(fs->parent_fd);
    fs->parent_fd = -1;
    fs->parent_stale = false;
}

struct layer_fs *layer_fs_new(const char *dir, bool no_openat2, struct error *err) {
    if (mkdir(dir, 0755) < 0 || chmod(dir, 0755) < 0) {
        error_sys(err, -errno, "creating directory %s", dir);
        return NULL;
    }
    int root = open(dir, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (root < 0) {
        error_sys(err, -errno, "%s", dir);
        return NULL;
    }
    struct layer_fs *fs = XNEW(struct layer_fs);
    fs->root = root;
    fs->parent_fd = -1;
    fs->no_openat2 = no_openat2;
    fs->arena = arena_new(0, DIRS_BYTES_MAX);
    buf_init(&fs->path, PATH_MAX + 1);
    buf_init(&fs->implied_text, MiB(32));
    return fs;
}

void layer_fs_free(struct layer_fs *fs) {
    if (!fs)
        return;
    forget_parent(fs);
    close(fs->root);
    map_fini(&fs->implied);
    buf_fini(&fs->path);
    buf_fini(&fs->implied_text);
    vec_fini(&fs->dirs);
    arena_free(fs->arena);
    free(fs);
}

/* --- where ---------------------------------------------------------------------------------------------------------- */

static void on_made(void *arg, const char *path) {
    struct layer_fs *fs = arg;
    if (fs->implied.n < IMPLIED_MAX && !strchr(path, '\n'))
        map_set(&fs->implied, str_c(path), fs);
}

/* The directory that path (cleaned) lies in, borrowed, and the name there. create: makes it when it lacks. */
static int parent_of(struct layer_fs *fs, const char *path, bool create, const char **name) {
    const char *slash = strrchr(path, '/');
    size_t n = slash ? (size_t)(slash - path) : 0;
    *name = slash ? slash + 1 : path;
    if (fs->parent_fd >= 0 && strlen(fs->parent) == n && memcmp(fs->parent, path, n) == 0)
        return fs->parent_fd;
    forget_parent(fs);
    memcpy(fs->parent, path, n);
    fs->parent[n] = 0;
    fs->parent_fd = layer_path_open_dir(fs->root, fs->parent, fs->no_openat2, create ? on_made : NULL, fs);
    return fs->parent_fd;
}

/* Removes what stands at the place of a new entry. */
static int clear_place(struct layer_fs *fs, int parent, const char *name) {
    forget_parent(fs); /* it may be what goes */
    return dir_remove_all_at(parent, name, NULL);
}

/* --- attributes ----------------------------------------------------------------------------------------------------- */

static int sys_error(struct error *err, const char *what) {
    return error_set(err, -errno, "%s: %s", what, strerror(errno));
}

/* Image authors decide over user.* and file capabilities; trusted.* belongs to overlayfs, other security.* to the host. */
static bool xattr_wanted(const struct tar_xattr *x) {
    return (str_starts(x->name, STR("user.")) && !str_starts(x->name, STR("user.overlay."))) ||
           str_eq(x->name, STR("security.capability"));
}

static int set_xattrs(int fd, const struct tar_entry *e, struct error *err) {
    for (size_t i = 0; i < e->n_xattrs; i++) {
        const struct tar_xattr *x = &e->xattrs[i];
        if (!xattr_wanted(x) || fsetxattr(fd, x->name.p, x->value.p, x->value.n, 0) == 0)
            continue;
        if (errno == ENOTSUP && x->name.p[0] == 'u')
            continue;
        return error_set(err, -errno, "setting the extended attribute %.*s: %s", (int)MIN(x->name.n, 100), x->name.p,
                         strerror(errno));
    }
    return 0;
}

static int set_attributes(int fd, const struct tar_entry *e, struct error *err) {
    if (fchown(fd, e->uid, e->gid) < 0) /* before the mode: it clears setuid */
        return sys_error(err, "changing the owner");
    if (fchmod(fd, e->mode) < 0)
        return sys_error(err, "changing the mode");
    return e->n_xattrs ? set_xattrs(fd, e, err) : 0;
}

static int set_attributes_at(int parent, const char *name, const struct tar_entry *e, struct error *err) {
    struct timespec t[2] = {e->mtime, e->mtime};
    if (fchownat(parent, name, e->uid, e->gid, AT_SYMLINK_NOFOLLOW) < 0)
        return sys_error(err, "changing the owner");
    if (e->type != TAR_SYMLINK && fchmodat(parent, name, e->mode, 0) < 0)
        return sys_error(err, "changing the mode");
    if (utimensat(parent, name, t, AT_SYMLINK_NOFOLLOW) < 0)
        return sys_error(err, "setting the time");
    return 0;
}

static int set_opaque(int parent, const char *name, struct error *err) {
    cleanup_close int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 || fsetxattr(fd, "trusted.overlay.opaque", "y", 1, 0) < 0)
        return sys_error(err, "marking the directory opaque");
    return 0;
}

/* --- kinds of entries ----------------------------------------------------------------------------------------------- */

static bool is_whiteout_at(int parent, const char *name) {
    struct stat st;
    return fstatat(parent, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISCHR(st.st_mode) && st.st_rdev == 0;
}

static int remember_time(struct layer_fs *fs, const char *path, const struct tar_entry *e, struct error *err) {
    size_t n = strlen(path);
    char *copy = arena_try_alloc(fs->arena, n + 1);
    if (!copy)
        return error_set(err, -E2BIG, "too many directories");
    memcpy(copy, path, n + 1);
    struct dir_time t = {copy, e->mtime};
    vec_push(&fs->dirs, t);
    return 0;
}

static int make_dir(struct layer_fs *fs, int parent, const char *path, const char *name, const struct tar_entry *e,
                    struct error *err) {
    bool opaque = false;
    if (mkdirat(parent, name, 0700) < 0) {
        if (errno != EEXIST)
            return sys_error(err, "creating the directory");
        struct stat st;
        if (fstatat(parent, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
            return sys_error(err, "looking at what is there");
        if (!S_ISDIR(st.st_mode)) {
            opaque = is_whiteout_at(parent, name);
            fs->parent_stale = true;
            if (unlinkat(parent, name, 0) < 0 || mkdirat(parent, name, 0700) < 0)
                return sys_error(err, "creating the directory");
        }
    }
    cleanup_close int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return sys_error(err, "opening the directory");
    int rc = set_attributes(fd, e, err);
    if (rc == 0 && opaque)
        rc = set_opaque(parent, name, err);
    if (rc == 0)
        rc = remember_time(fs, path, e, err);
    map_del(&fs->implied, str_c(path));
    return rc;
}

static int make_file(int parent, const char *name, int *fd_out) {
    int fd = openat(parent, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0)
        return -errno;
    *fd_out = fd;
    return 0;
}

/* Links only to what this layer holds: the target is resolved inside it. */
static int make_hard_link(struct layer_fs *fs, int parent, const char *name, const struct tar_entry *e,
                          struct error *err) {
    cleanup_buf struct buf target = {NULL, 0, 0, PATH_MAX + 1, false};
    const char *why, *slash;
    if (layer_path_clean(&target, e->link, &why))
        return error_set(err, -EINVAL, "hard link: %s", why);
    char dir[PATH_MAX] = "";
    slash = strrchr(buf_str(&target).p, '/');
    if (slash)
        memcpy(dir, target.p, (size_t)(slash - target.p));
    cleanup_close int from = layer_path_open_dir(fs->root, dir, fs->no_openat2, NULL, NULL);
    const char *base = slash ? slash + 1 : buf_str(&target).p;
    struct stat st;
    if (from < 0 || !*base || fstatat(from, base, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return error_set(err, -EINVAL, "hard link to something that is not in this layer");
    if (S_ISDIR(st.st_mode))
        return error_set(err, -EINVAL, "hard link to a directory");
    struct stat here;
    if (fstatat(parent, name, &here, AT_SYMLINK_NOFOLLOW) == 0 && here.st_ino == st.st_ino && here.st_dev == st.st_dev)
        return 0; /* a link to itself, or the same link once more */
    return linkat(from, base, parent, name, 0) < 0 ? -errno : 0;
}

/* 0, -EEXIST (something is in the way), or another error with err set or left to the caller. */
static int make(struct layer_fs *fs, int parent, const char *path, const char *name, const struct tar_entry *e,
                int *fd_out, struct error *err) {
    static const mode_t kinds[TAR_TYPE_MAX] = {[TAR_CHAR] = S_IFCHR, [TAR_BLOCK] = S_IFBLK, [TAR_FIFO] = S_IFIFO};
    int rc;
    switch (e->type) {
    case TAR_DIR:
        return make_dir(fs, parent, path, name, e, err);
    case TAR_FILE:
        return make_file(parent, name, fd_out);
    case TAR_HARDLINK:
        return make_hard_link(fs, parent, name, e, err);
    case TAR_SYMLINK:
        if (!e->link.n)
            return error_set(err, -EINVAL, "symbolic link to nothing");
        rc = symlinkat(e->link.p, parent, name) < 0 ? -errno : 0;
        break;
    case TAR_CHAR:
    case TAR_BLOCK:
    case TAR_FIFO:
        rc = mknodat(parent, name, kinds[e->type] | 0600, makedev(e->major, e->minor)) < 0 ? -errno : 0;
        break;
    default:
        return error_set(err, -ENOTSUP, "entry of an unknown type");
    }
    return rc ? rc : set_attributes_at(parent, name, e, err);
}

/* --- whiteouts -------------------------------------------------------------------------------------------------------- */

#define WHITEOUT ".wh."
#define AUFS ".wh..wh."

static int make_whiteout(int parent, const char *name, struct error *err) {
    if (strcmp(name, AUFS ".opq") == 0)
        return set_opaque(parent, ".", err);
    const char *hidden = name + strlen(WHITEOUT);
    if (!*hidden || strcmp(hidden, ".") == 0 || strcmp(hidden, "..") == 0)
        return error_set(err, -EINVAL, "malformed whiteout");
    if (mknodat(parent, hidden, S_IFCHR, 0) == 0)
        return 0;
    struct stat st;
    if (errno != EEXIST || fstatat(parent, hidden, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return sys_error(err, "creating the whiteout");
    /* The layer puts something there itself: what is below must not show through. */
    return S_ISDIR(st.st_mode) ? set_opaque(parent, hidden, err) : 0;
}

/* Whether a part of path is AUFS' own bookkeeping; *bad: a whiteout that is used as a directory. */
static bool is_aufs(struct str path, bool *bad) {
    while (path.p) {
        struct str part = str_split(&path, '/');
        if (str_starts(part, STR(AUFS)) && !(str_eq(part, STR(AUFS ".opq")) && !path.p))
            return true;
        if (path.p && str_starts(part, STR(WHITEOUT)))
            *bad = true;
    }
    return false;
}

/* --- the entry -------------------------------------------------------------------------------------------------------- */

static int root_entry(struct layer_fs *fs, const struct tar_entry *e, struct error *err) {
    if (e->type != TAR_DIR)
        return error_set(err, -EINVAL, "the root must be a directory");
    int rc = set_attributes(fs->root, e, err);
    return rc ? rc : remember_time(fs, "", e, err);
}

int layer_fs_entry(struct layer_fs *fs, const struct tar_entry *e, int *fd_out, struct error *err) {
    const char *why, *name;
    bool bad = false;
    *fd_out = -1;
    if (layer_path_clean(&fs->path, e->path, &why))
        return error_set(err, -EINVAL, "%s", why);
    if (e->uid == UINT32_MAX || e->gid == UINT32_MAX)
        return error_set(err, -EINVAL, "its owner or group is no valid number");
    const char *path = buf_str(&fs->path).p;
    if (!*path)
        return root_entry(fs, e, err);
    if (is_aufs(buf_str(&fs->path), &bad))
        return 0;
    if (bad)
        return error_set(err, -EINVAL, "a whiteout is used as a directory");
    int parent = parent_of(fs, path, true, &name);
    if (parent < 0)
        return error_set(err, parent, "its directory cannot be opened: %s", strerror(-parent));
    if (strncmp(name, WHITEOUT, strlen(WHITEOUT)) == 0)
        return make_whiteout(parent, name, err);
    struct error local = {0};
    int rc = make(fs, parent, path, name, e, fd_out, &local);
    if (rc == -EEXIST && !local.code) {
        int again = fcntl(parent, F_DUPFD_CLOEXEC, 0);
        if (again < 0)
            return sys_error(err, "opening the directory");
        rc = clear_place(fs, again, name);
        if (rc == 0)
            rc = make(fs, again, path, name, e, fd_out, &local);
        close(again);
    }
    if (rc)
        error_set(err, rc, "%s", local.code ? local.msg : strerror(-rc));
    if (fs->parent_stale)
        forget_parent(fs);
    return rc;
}

int layer_fs_file_end(struct layer_fs *fs, int fd, const struct tar_entry *e, struct error *err) {
    struct timespec t[2] = {e->mtime, e->mtime};
    int rc = set_attributes(fd, e, err); /* after the contents: writing drops capabilities */
    if (rc == 0 && futimens(fd, t) < 0)
        rc = sys_error(err, "setting the time");
    if (close(fd) < 0 && rc == 0)
        rc = sys_error(err, "closing the file");
    return rc;
}

int layer_fs_finish(struct layer_fs *fs, struct str *implied, struct error *err) {
    for (size_t i = fs->dirs.n; i > 0; i--) {
        const struct dir_time *d = &fs->dirs.items[i - 1];
        struct timespec t[2] = {d->mtime, d->mtime};
        const char *name;
        if (!*d->path) {
            if (futimens(fs->root, t) < 0)
                return sys_error(err, "setting the time of the root");
            continue;
        }
        int parent = parent_of(fs, d->path, false, &name);
        if (parent >= 0) /* else a later entry took its place */
            utimensat(parent, name, t, AT_SYMLINK_NOFOLLOW);
    }
    struct map_entry *e;
    for (size_t i = 0; (e = map_next(&fs->implied, &i));) {
        buf_put_str(&fs->implied_text, e->key);
        buf_putc(&fs->implied_text, '\n');
    }
    *implied = buf_str(&fs->implied_text);
    return fs->implied_text.failed ? error_set(err, -E2BIG, "too many directories") : 0;
}

/* --- directories that only stand in the way to others ------------------------------------------------------------------ */

static bool stat_below(const char *const *below, size_t n, const char *path, struct stat *st) {
    char dir[PATH_MAX] = "";
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
    if (slash)
        memcpy(dir, path, (size_t)(slash - path));
    for (size_t i = n; i > 0; i--) {
        cleanup_close int root = open(below[i - 1], O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        cleanup_close int parent = root < 0 ? -1 : layer_path_open_dir(root, dir, false, NULL, NULL);
        if (parent >= 0 && fstatat(parent, name, st, AT_SYMLINK_NOFOLLOW) == 0)
            return true;
    }
    return false;
}

void layer_adopt_implied(const char *dir, struct str implied, const char *const *below, size_t below_n) {
    cleanup_close int root = open(dir, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    while (root >= 0 && below_n && implied.p) {
        struct str line = str_split(&implied, '\n');
        char path[PATH_MAX], parent_path[PATH_MAX] = "";
        struct stat st;
        if (!line.n || line.n >= sizeof(path))
            continue;
        memcpy(path, line.p, line.n);
        path[line.n] = 0;
        if (!stat_below(below, below_n, path, &st))
            continue;
        if (!S_ISDIR(st.st_mode)) {
            if (S_ISLNK(st.st_mode))
                log_warn("images", "%s: the directory /%s replaces a symbolic link of the layer below", dir, path);
            continue;
        }
        const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
        if (slash)
            memcpy(parent_path, path, (size_t)(slash - path));
        cleanup_close int parent = layer_path_open_dir(root, parent_path, false, NULL, NULL);
        struct timespec t[2] = {st.st_mtim, st.st_mtim};
        struct stat mine;
        if (parent < 0 || fstatat(parent, name, &mine, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISDIR(mine.st_mode))
            continue;
        if (fchownat(parent, name, st.st_uid, st.st_gid, AT_SYMLINK_NOFOLLOW) < 0 ||
            fchmodat(parent, name, st.st_mode & 07777, 0) < 0 || utimensat(parent, name, t, AT_SYMLINK_NOFOLLOW) < 0)
            log_warn("images", "%s: setting the attributes of /%s: %s", dir, path, strerror(errno));
    }
}
