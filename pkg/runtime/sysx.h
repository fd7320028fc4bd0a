/*
 * System calls that musl has no wrappers for, and the constants around them under names of our own: glibc's
 * <sys/mount.h> and the kernel's <linux/mount.h> cannot be included together. The numbers are the same on every architecture.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

enum {
    NR_OPEN_TREE = 428,
    NR_MOVE_MOUNT = 429,
    NR_FSOPEN = 430,
    NR_FSCONFIG = 431,
    NR_FSMOUNT = 432,
    NR_PIDFD_OPEN = 434,
    NR_CLONE3 = 435,
    NR_CLOSE_RANGE = 436,
    NR_OPENAT2 = 437,
    NR_MOUNT_SETATTR = 442,
    NR_PIDFD_SEND_SIGNAL = 424,
};

#define X_EMPTY_PATH 0x1000 /* AT_EMPTY_PATH */
#define X_RECURSIVE 0x8000  /* AT_RECURSIVE */
#define X_CLONE_TREE 1      /* OPEN_TREE_CLONE */
#define X_CLOEXEC 02000000

#define X_ATTR_RDONLY 0x1
#define X_ATTR_NOSUID 0x2
#define X_ATTR_NODEV 0x4
#define X_ATTR_NOEXEC 0x8

#define X_RESOLVE_NO_XDEV 0x01
#define X_RESOLVE_NO_MAGICLINKS 0x02
#define X_RESOLVE_NO_SYMLINKS 0x04
#define X_RESOLVE_BENEATH 0x08
#define X_RESOLVE_IN_ROOT 0x10

struct x_mount_attr {
    uint64_t attr_set, attr_clr, propagation, userns_fd;
};

struct x_open_how {
    uint64_t flags, mode, resolve;
};

struct x_clone_args {
    uint64_t flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls, set_tid, set_tid_size, cgroup;
};
#define X_CLONE_PIDFD 0x00001000ull
#define X_CLONE_INTO_CGROUP 0x200000000ull

static inline int x_open_tree(int dir, const char *path, unsigned flags) {
    return (int)syscall(NR_OPEN_TREE, dir, path, flags | X_CLOEXEC);
}
/* Both ends by descriptor: no path is looked up. */
static inline int x_move_mount_fd(int from, int to) {
    return (int)syscall(NR_MOVE_MOUNT, from, "", to, "", 0x44 /* MOVE_MOUNT_F_EMPTY_PATH | T_EMPTY_PATH */);
}
static inline int x_mount_setattr(int fd, unsigned flags, uint64_t set, uint64_t propagation) {
    struct x_mount_attr a = {.attr_set = set, .propagation = propagation};
    return (int)syscall(NR_MOUNT_SETATTR, fd, "", flags | X_EMPTY_PATH, &a, sizeof(a));
}
static inline int x_fsopen(const char *type) {
    return (int)syscall(NR_FSOPEN, type, 1 /* FSOPEN_CLOEXEC */);
}
static inline int x_fsconfig_string(int fd, const char *key, const char *value) {
    return (int)syscall(NR_FSCONFIG, fd, 1, key, value, 0);
}
static inline int x_fsconfig_flag(int fd, const char *key) {
    return (int)syscall(NR_FSCONFIG, fd, 0, key, NULL, 0);
}
static inline int x_fsconfig_create(int fd) {
    return (int)syscall(NR_FSCONFIG, fd, 6, NULL, NULL, 0);
}
static inline int x_fsmount(int fd, unsigned attr) {
    return (int)syscall(NR_FSMOUNT, fd, 1 /* FSMOUNT_CLOEXEC */, attr);
}
static inline int x_openat2(int dir, const char *path, uint64_t flags, uint64_t mode, uint64_t resolve) {
    struct x_open_how how = {flags | X_CLOEXEC, mode, resolve};
    return (int)syscall(NR_OPENAT2, dir, path, &how, sizeof(how));
}
static inline int x_pidfd_open(int pid) {
    return (int)syscall(NR_PIDFD_OPEN, pid, 0);
}
static inline int x_pidfd_send_signal(int fd, int signal) {
    return (int)syscall(NR_PIDFD_SEND_SIGNAL, fd, signal, NULL, 0);
}
static inline int x_close_range(unsigned first, unsigned last) {
    return (int)syscall(NR_CLOSE_RANGE, first, last, 0);
}
static inline int x_clone3(const struct x_clone_args *a) {
    return (int)syscall(NR_CLONE3, a, sizeof(*a));
}
static inline int x_pivot_root_here(void) {
    return (int)syscall(SYS_pivot_root, ".", ".");
}
