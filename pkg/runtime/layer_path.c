#include "runtime/layer_path.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <linux/openat2.h>

#include "runtime/layer.h"

#define LINKS_MAX 40

int layer_path_clean(struct buf *out, struct str path, const char **why) {
    int depth = 0;
    buf_reset(out);
    while (path.p) {
        struct str part = str_split(&path, '/');
        if (!part.n || str_eq(part, STR(".")))
            continue;
        if (str_eq(part, STR(".."))) {
            *why = "the path has \"..\" in it";
            return -EINVAL;
        }
        if (part.n > NAME_MAX) {
            *why = "a name in it is longer than 255 bytes";
            return -EINVAL;
        }
        if (++depth > LAYER_DEPTH_MAX) {
            *why = "it is nested deeper than 200 directories";
            return -EINVAL;
        }
        if (out->n)
            buf_putc(out, '/');
        buf_put_str(out, part);
    }
    if (!out->n)
        buf_put(out, "", 0);
    if (out->failed || out->n >= PATH_MAX) {
        *why = "the path is too long";
        return -EINVAL;
    }
    return 0;
}

static int open_in_root(int root, const char *path) {
    struct open_how how = {.flags = O_PATH | O_DIRECTORY | O_CLOEXEC,
                           .resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_XDEV};
    int fd = -1;
    for (int tries = 0; fd < 0 && tries < 16; tries++) {
        fd = (int)syscall(SYS_openat2, root, path, &how, sizeof(how));
        if (fd < 0 && errno != EAGAIN) /* a rename somewhere while ".." of a link was resolved */
            break;
    }
    return fd < 0 ? -errno : fd;
}

/*
 * The walk by hand: `at` is the path walked so far, which has no link in it, `todo` what is ahead. Each step opens one
 * name without following it; a link is read and its text put in front of what is ahead.
 */
struct walk {
    int root, fd;
    char at[PATH_MAX], todo[2 * PATH_MAX];
    int links;
    void (*made)(void *arg, const char *path);
    void *arg;
};

static int reopen(struct walk *w) {
    if (w->fd >= 0)
        close(w->fd);
    w->fd = openat(w->root, w->at[0] ? w->at : ".", O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    return w->fd < 0 ? -errno : 0;
}

static int step_up(struct walk *w) {
    char *slash = strrchr(w->at, '/');
    *(slash ? slash : w->at) = 0;
    return reopen(w);
}

static int step_link(struct walk *w, const char *name) {
    char target[PATH_MAX], rest[sizeof(w->todo)];
    ssize_t n = readlinkat(w->fd, name, target, sizeof(target) - 1);
    if (n < 0)
        return -errno;
    if (++w->links > LINKS_MAX)
        return -ELOOP;
    target[n] = 0;
    memcpy(rest, w->todo, strlen(w->todo) + 1);
    int want = snprintf(w->todo, sizeof(w->todo), "%s/%s", target, rest);
    if (want < 0 || (size_t)want >= sizeof(w->todo))
        return -ENAMETOOLONG;
    if (target[0] != '/')
        return 0;
    w->at[0] = 0;
    return reopen(w);
}

static int step_into(struct walk *w, const char *name) {
    size_t n = strlen(w->at), len = strlen(name);
    if (n + len + 2 > sizeof(w->at))
        return -ENAMETOOLONG;
    int flags = O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
    int fd = openat(w->fd, name, flags);
    bool create = fd < 0 && errno == ENOENT && w->made;
    if (create) {
        if (mkdirat(w->fd, name, 0755) < 0 || fchmodat(w->fd, name, 0755, 0) < 0)
            return -errno;
        fd = openat(w->fd, name, flags);
    }
    if (fd < 0) {
        struct stat st;
        int rc = -errno;
        if (fstatat(w->fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISLNK(st.st_mode))
            return step_link(w, name);
        return rc;
    }
    close(w->fd);
    w->fd = fd;
    if (n)
        w->at[n++] = '/';
    memcpy(w->at + n, name, len + 1);
    if (create)
        w->made(w->arg, w->at);
    return 0;
}

static int walk(int root, const char *path, void (*made)(void *arg, const char *path), void *arg) {
    struct walk *w = XNEW(struct walk);
    *w = (struct walk){.root = root, .fd = -1, .made = made, .arg = arg};
    size_t n = strlen(path);
    int rc = n < PATH_MAX ? reopen(w) : -ENAMETOOLONG;
    if (rc == 0)
        memcpy(w->todo, path, n + 1);
    while (rc == 0 && w->todo[0]) {
        char name[NAME_MAX + 1];
        size_t len = strcspn(w->todo, "/");
        size_t skip = len + strspn(w->todo + len, "/");
        if (len > NAME_MAX) {
            rc = -ENAMETOOLONG;
            break;
        }
        memcpy(name, w->todo, len);
        name[len] = 0;
        memmove(w->todo, w->todo + skip, strlen(w->todo + skip) + 1);
        if (len == 0 || strcmp(name, ".") == 0)
            continue;
        rc = strcmp(name, "..") == 0 ? step_up(w) : step_into(w, name);
    }
    int fd = w->fd;
    free(w);
    if (rc && fd >= 0)
        close(fd);
    return rc ? rc : fd;
}

int layer_path_open_dir(int root, const char *path, bool no_openat2, void (*made)(void *arg, const char *path),
                        void *arg) {
    if (!no_openat2) {
        int fd = open_in_root(root, *path ? path : ".");
        if (fd >= 0 || (!(fd == -ENOENT && made) && fd != -ENOSYS && fd != -EPERM))
            return fd;
    }
    return walk(root, path, made, arg);
}
