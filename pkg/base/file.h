/* Files: whole reads with a limit, atomic durable writes, directories. Paths are NUL-terminated. */
#pragma once

#include <sys/types.h>

#include "base/buf.h"
#include "base/error.h"

/* Reads all of path into out (appended). -E2BIG beyond out's limit. */
int file_read(const char *path, struct buf *out, struct error *err);
/* As file_read, relative to a directory fd, no symlink at the last component. */
int file_read_at(int dirfd, const char *name, struct buf *out, struct error *err);
/* Replaces path with data: temporary file, fsync, rename, fsync of the directory. */
int file_write_atomic(const char *path, struct str data, mode_t mode, struct error *err);
/* As above without the fsyncs: for tmpfs and for what may be lost at a crash. */
int file_write_replace(const char *path, struct str data, mode_t mode, struct error *err);
/* Writes a short string to an existing file (sysfs, procfs, cgroupfs); O_TRUNC is not used. */
int file_put(const char *path, struct str data, struct error *err);
int dir_make_all(const char *path, mode_t mode, struct error *err); /* mkdir -p */
/* Removes path and all below it, crossing no mount point, following no link; a missing path is fine. */
int dir_remove_all(const char *path, struct error *err);
/* As above for name in the directory parent. */
int dir_remove_all_at(int parent, const char *name, struct error *err);
bool file_exists(const char *path);
int fd_write_all(int fd, const void *data, size_t n);
int fd_read_all(int fd, void *data, size_t n); /* exactly n bytes, -EPIPE at an early end */
int fd_set_nonblock(int fd, bool on);
