#include "base/file.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/rand.h"

static int read_fd(int fd, const char *name, struct buf *out, struct error *err) {
    for (;;) {
        size_t room = out->limit ? out->limit - out->n : BUF_LIMIT_DEFAULT - out->n;
        size_t want = MIN(room + 1, KiB(64));
        /* one byte past the limit tells a file that is too large from one that just fits */
        char tmp[1];
        if (room == 0) {
            ssize_t n = read(fd, tmp, 1);
            if (n > 0)
                return error_set(err, -E2BIG, "%s: larger than %zu bytes", name, out->n);
            return n == 0 ? 0 : error_sys(err, -errno, "%s", name);
        }
        char *p = buf_reserve(out, MIN(want, room));
        if (!p)
            return error_set(err, -ENOMEM, "%s: out of memory", name);
        ssize_t n = read(fd, p, MIN(want, room));
        if (n < 0) {
            if (errno == EINTR)
                continue;
            return error_sys(err, -errno, "%s", name);
        }
        out->n += (size_t)n;
        out->p[out->n] = 0;
        if (n == 0)
            return 0;
    }
}

int file_read(const char *path, struct buf *out, struct error *err) {
    cleanup_close int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return error_sys(err, -errno, "%s", path);
    return read_fd(fd, path, out, err);
}

int file_read_at(int dirfd, const char *name, struct buf *out, struct error *err) {
    cleanup_close int fd = openat(dirfd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return error_sys(err, -errno, "%s", name);
    return read_fd(fd, name, out, err);
}

static int sync_parent(const char *path, struct error *err) {
    cleanup_free char *dir = xstrdup(path);
    char *slash = strrchr(dir, '/');
    if (!slash)
        strncpy(dir, ".", 2);
    else
        slash[slash == dir] = 0;
    cleanup_close int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 || fsync(fd) < 0)
        return error_sys(err, -errno, "%s", dir);
    return 0;
}

static int write_file(const char *path, struct str data, mode_t mode, bool durable, struct error *err) {
    char suffix[9];
    rand_hex(suffix, 8);
    cleanup_free char *tmp = xasprintf("%s.%s.tmp", path, suffix);
    cleanup_close int fd = open(tmp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, mode);
    if (fd < 0)
        return error_sys(err, -errno, "%s", tmp);
    int rc = fd_write_all(fd, data.p, data.n);
    if (rc == 0 && fchmod(fd, mode) < 0) /* the umask does not apply */
        rc = -errno;
    if (rc == 0 && durable && fsync(fd) < 0)
        rc = -errno;
    if (rc == 0 && rename(tmp, path) < 0)
        rc = -errno;
    if (rc < 0) {
        unlink(tmp);
        return error_sys(err, rc, "writing %s", path);
    }
    return durable ? sync_parent(path, err) : 0;
}

int file_write_atomic(const char *path, struct str data, mode_t mode, struct error *err) {
    return write_file(path, data, mode, true, err);
}

int file_write_replace(const char *path, struct str data, mode_t mode, struct error *err) {
    return write_file(path, data, mode, false, err);
}

int file_put(const char *path, struct str data, struct error *err) {
    cleanup_close int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return error_sys(err, -errno, "%s", path);
    ssize_t n = write(fd, data.p, data.n);
    if (n < 0)
        return error_sys(err, -errno, "writing \"%.*s\" to %s", STR_ARG(str_trim(data)), path);
    return (size_t)n == data.n ? 0 : error_set(err, -EIO, "%s: short write", path);
}

int dir_make_all(const char *path, mode_t mode, struct error *err) {
    cleanup_free char *p = xstrdup(path);
    for (char *s = p + 1;; s++) {
        if (*s != '/' && *s != 0)
            continue;
        char c = *s;
        *s = 0;
        if (mkdir(p, mode) < 0 && errno != EEXIST)
            return error_sys(err, -errno, "creating directory %s", p);
        *s = c;
        if (c == 0)
            return 0;
    }
}

#define REMOVE_DEPTH_MAX 256

static int remove_at(int parent, const char *name, dev_t dev, int depth, struct error *err) {
    if (unlinkat(parent, name, 0) == 0 || errno == ENOENT)
        return 0;
    if (errno != EISDIR && errno != EPERM)
        return error_sys(err, -errno, "removing %s", name);
    if (depth > REMOVE_DEPTH_MAX)
        return error_set(err, -ELOOP, "removing %s: nested deeper than %d", name, REMOVE_DEPTH_MAX);
    cleanup_close int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) < 0)
        return error_sys(err, -errno, "removing %s", name);
    if (st.st_dev != dev)
        return error_set(err, -EXDEV, "removing %s: something is mounted there", name);
    int dup_fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    DIR *d = dup_fd < 0 ? NULL : fdopendir(dup_fd);
    if (!d) {
        int rc = -errno;
        if (dup_fd >= 0)
            close(dup_fd);
        return error_sys(err, rc, "removing %s", name);
    }
    int rc = 0;
    for (struct dirent *e; rc == 0 && (e = readdir(d));)
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
            rc = remove_at(fd, e->d_name, dev, depth + 1, err);
    closedir(d);
    if (rc == 0 && unlinkat(parent, name, AT_REMOVEDIR) < 0 && errno != ENOENT)
        rc = error_sys(err, -errno, "removing %s", name);
    return rc;
}

int dir_remove_all(const char *path, struct error *err) {
    struct stat st;
    if (lstat(path, &st) < 0)
        return errno == ENOENT ? 0 : error_sys(err, -errno, "%s", path);
    return remove_at(AT_FDCWD, path, st.st_dev, 0, err);
}

int dir_remove_all_at(int parent, const char *name, struct error *err) {
    struct stat st;
    if (fstatat(parent, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return errno == ENOENT ? 0 : error_sys(err, -errno, "%s", name);
    return remove_at(parent, name, st.st_dev, 0, err);
}

bool file_exists(const char *path) {
    return access(path, F_OK) == 0;
}

int fd_write_all(int fd, const void *data, size_t n) {
    const char *p = data;
    while (n) {
        ssize_t done = write(fd, p, n);
        if (done < 0) {
            if (errno == EINTR)
                continue;
            return -errno;
        }
        p += done;
        n -= (size_t)done;
    }
    return 0;
}

int fd_read_all(int fd, void *data, size_t n) {
    char *p = data;
    while (n) {
        ssize_t done = read(fd, p, n);
        if (done < 0) {
            if (errno == EINTR)
                continue;
            return -errno;
        }
        if (done == 0)
            return -EPIPE;
        p += done;
        n -= (size_t)done;
    }
    return 0;
}

int fd_set_nonblock(int fd, bool on) {
    int flags = fcntl(fd, F_GETFL);
    if (flags < 0 || fcntl(fd, F_SETFL, on ? flags | O_NONBLOCK : flags & ~O_NONBLOCK) < 0)
        return -errno;
    return 0;
}
