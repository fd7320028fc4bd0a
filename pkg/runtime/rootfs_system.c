/* /proc, /sys, /dev of a container, what is hidden in them, and its terminal. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <termios.h>

#include "runtime/rootfs.h"
#include "runtime/sysx.h"

#ifndef TIOCGPTPEER
#define TIOCGPTPEER _IO('T', 0x41)
#endif

#define QUIET (X_ATTR_NOSUID | X_ATTR_NODEV | X_ATTR_NOEXEC)

int rootfs_new_mount(const char *type, const char *key1, const char *value1, const char *key2, const char *value2,
                     unsigned attr) {
    int fs = x_fsopen(type);
    if (fs < 0)
        return -1;
    int m = -1;
    x_fsconfig_string(fs, "source", type); /* what /proc/mounts shows first */
    if ((!key1 || x_fsconfig_string(fs, key1, value1) == 0) && (!key2 || x_fsconfig_string(fs, key2, value2) == 0) &&
        x_fsconfig_create(fs) == 0)
        m = x_fsmount(fs, attr);
    int saved = errno;
    close(fs);
    errno = saved;
    return m;
}

/* A directory right below the root, no symlink: where a system file system goes. */
static int system_dir(struct init *in, const char *name) {
    uint64_t resolve = X_RESOLVE_BENEATH | X_RESOLVE_NO_SYMLINKS;
    int fd = x_openat2(AT_FDCWD, name, O_PATH | O_DIRECTORY, 0, resolve);
    if (fd < 0 && errno == ENOENT && mkdir(name, 0755) == 0)
        fd = x_openat2(AT_FDCWD, name, O_PATH | O_DIRECTORY, 0, resolve);
    if (fd < 0)
        init_fail(in, -errno, "the image's /%s must be a directory and no link: %s", name, strerror(errno));
    return fd;
}

static int mount_system(struct init *in, int fd, const char *name) {
    if (fd < 0)
        init_fail(in, -errno, "making /%s: %s", name, strerror(errno));
    int target = system_dir(in, name);
    if (x_move_mount_fd(fd, target) < 0)
        init_fail(in, -errno, "mounting /%s: %s", name, strerror(errno));
    close(target);
    return fd;
}

/* --- /dev ---------------------------------------------------------------------------------------------------------- */

static void make_node(struct init *in, const char *name, mode_t mode, dev_t dev) {
    if (mknodat(in->dev, name, mode, dev) < 0 && errno != EEXIST)
        init_fail(in, -errno, "making /dev/%s: %s", name, strerror(errno));
}

static void mount_in_dev(struct init *in, const char *name, int fd) {
    int at =
        mkdirat(in->dev, name, 0755) == 0 ? openat(in->dev, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC) : -1;
    if (fd < 0 || at < 0 || x_move_mount_fd(fd, at) < 0)
        init_fail(in, -errno, "mounting /dev/%s: %s", name, strerror(errno));
    close(at);
}

/* A privileged container sees the host's devices. What is ours stays: terminals, shared memory, message queues. */
static void copy_devices(int from, int to, int depth) {
    static const char *const ours[] = {"pts",    "shm",    "mqueue", "fd",      "stdin",
                                       "stdout", "stderr", "ptmx",   "console", "core"};
    DIR *d = fdopendir(from);
    if (!d)
        return;
    for (struct dirent *e; (e = readdir(d));) {
        struct stat st;
        bool skip = e->d_name[0] == '.';
        for (size_t i = 0; depth == 0 && i < ARRAY_LEN(ours); i++)
            skip = skip || strcmp(e->d_name, ours[i]) == 0;
        if (skip || fstatat(dirfd(d), e->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
            continue;
        if (S_ISCHR(st.st_mode) || S_ISBLK(st.st_mode)) {
            if (mknodat(to, e->d_name, st.st_mode, st.st_rdev) == 0 &&
                fchownat(to, e->d_name, st.st_uid, st.st_gid, AT_SYMLINK_NOFOLLOW) < 0)
                continue;
        } else if (S_ISDIR(st.st_mode) && depth < 4 && mkdirat(to, e->d_name, 0755) == 0) {
            int sub = openat(dirfd(d), e->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
            int at = openat(to, e->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
            if (sub >= 0 && at >= 0)
                copy_devices(sub, at, depth + 1);
            else if (sub >= 0)
                close(sub);
            if (at >= 0)
                close(at);
        }
    }
    closedir(d);
}

static void fill_dev(struct init *in) {
    static const struct {
        const char *name;
        unsigned major, minor;
    } nodes[] = {{"null", 1, 3}, {"zero", 1, 5}, {"full", 1, 7}, {"random", 1, 8}, {"urandom", 1, 9}, {"tty", 5, 0}};
    static const struct {
        const char *name, *target;
    } links[] = {{"fd", "/proc/self/fd"},       {"stdin", "/proc/self/fd/0"}, {"stdout", "/proc/self/fd/1"},
                 {"stderr", "/proc/self/fd/2"}, {"ptmx", "pts/ptmx"},         {"core", "/proc/kcore"}};
    for (size_t i = 0; i < ARRAY_LEN(nodes); i++)
        make_node(in, nodes[i].name, S_IFCHR | 0666, makedev(nodes[i].major, nodes[i].minor));
    for (size_t i = 0; i < ARRAY_LEN(links); i++)
        if (symlinkat(links[i].target, in->dev, links[i].name) < 0)
            init_fail(in, -errno, "making /dev/%s: %s", links[i].name, strerror(errno));
    if (in->host_dev >= 0) {
        copy_devices(in->host_dev, in->dev, 0);
        in->host_dev = -1;
    }
    struct stat st;
    in->null = openat(in->dev, "null", O_PATH | O_NOFOLLOW | O_CLOEXEC);
    if (in->null < 0 || fstat(in->null, &st) < 0 || !S_ISCHR(st.st_mode) || st.st_rdev != makedev(1, 3))
        init_fail(in, -EPERM, "/dev/null is not the null device");
}

void rootfs_system(struct init *in) {
    bool privileged = in->spec->flags & SPEC_PRIVILEGED;
    int shm = in->null;
    int proc = mount_system(in, rootfs_new_mount("proc", NULL, NULL, NULL, NULL, QUIET), "proc");
    if (!rootfs_is_type(proc, ROOTFS_PROC))
        init_fail(in, -EPERM, "/proc is no procfs");
    close(proc);
    unsigned ro = privileged ? 0 : X_ATTR_RDONLY;
    close(mount_system(in, rootfs_new_mount("sysfs", NULL, NULL, NULL, NULL, QUIET | ro), "sys"));
    umask(0);
    in->dev = rootfs_new_mount("tmpfs", "mode", "755", "size", "64k", X_ATTR_NOSUID);
    mount_system(in, in->dev, "dev");
    fill_dev(in);
    int pts = rootfs_new_mount("devpts", "mode", "0620", "ptmxmode", "0666", X_ATTR_NOSUID | X_ATTR_NOEXEC);
    mount_in_dev(in, "pts", pts);
    close(pts);
    mount_in_dev(in, "shm", shm);
    close(shm);
    int mqueue = rootfs_new_mount("mqueue", NULL, NULL, NULL, NULL, QUIET);
    if (mqueue >= 0) { /* a kernel without POSIX message queues is fine */
        mount_in_dev(in, "mqueue", mqueue);
        close(mqueue);
    }
    umask(022);
}

/* --- hiding -------------------------------------------------------------------------------------------------------- */

static const char *const masked[] = {"/proc/asound",     "/proc/acpi",        "/proc/interrupts",
                                     "/proc/kcore",      "/proc/keys",        "/proc/latency_stats",
                                     "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug",
                                     "/proc/scsi",       "/sys/firmware",     "/sys/devices/virtual/powercap"};
static const char *const read_only[] = {"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"};

/* Something of procfs or sysfs, or nothing: whatever else may stand there is not what we mean to hide. */
static int open_system(struct init *in, const char *path) {
    int fd;
    do
        fd = x_openat2(AT_FDCWD, path + 1, O_PATH, 0, X_RESOLVE_BENEATH | X_RESOLVE_NO_SYMLINKS);
    while (fd < 0 && (errno == EAGAIN || errno == EINTR));
    if (fd < 0) {
        if (errno != ENOENT && errno != ENOTDIR)
            init_fail(in, -errno, "%s: %s", path, strerror(errno));
        return -1;
    }
    if (!rootfs_is_type(fd, ROOTFS_PROC) && !rootfs_is_type(fd, ROOTFS_SYSFS))
        init_fail(in, -EPERM, "%s is not of procfs or sysfs", path);
    return fd;
}

/* One empty read-only directory serves all. */
static int empty_directory(struct init *in) {
    if (in->empty >= 0)
        return x_open_tree(in->empty, "", X_CLONE_TREE | X_EMPTY_PATH);
    return rootfs_new_mount("tmpfs", "mode", "755", "size", "4k", QUIET | X_ATTR_RDONLY);
}

static void mask(struct init *in, const char *path) {
    struct stat st;
    int fd = open_system(in, path);
    if (fd < 0)
        return;
    bool is_dir = fstat(fd, &st) == 0 && S_ISDIR(st.st_mode);
    int cover = is_dir ? empty_directory(in) : x_open_tree(in->null, "", X_CLONE_TREE | X_EMPTY_PATH);
    if (cover < 0 || x_move_mount_fd(cover, fd) < 0)
        init_fail(in, -errno, "hiding %s: %s", path, strerror(errno));
    close(fd);
    if (is_dir && in->empty < 0)
        in->empty = cover; /* mounted now, so it can be cloned */
    else
        close(cover);
}

static void protect(struct init *in, const char *path) {
    int fd = open_system(in, path);
    if (fd < 0)
        return;
    int copy = x_open_tree(fd, "", X_CLONE_TREE | X_EMPTY_PATH | X_RECURSIVE);
    if (copy < 0 || x_mount_setattr(copy, X_RECURSIVE, X_ATTR_RDONLY, 0) < 0 || x_move_mount_fd(copy, fd) < 0)
        init_fail(in, -errno, "making %s read-only: %s", path, strerror(errno));
    close(copy);
    close(fd);
}

void rootfs_finish(struct init *in) {
    if (!(in->spec->flags & (SPEC_PRIVILEGED | SPEC_UNMASKED_PROC))) {
        for (size_t i = 0; i < ARRAY_LEN(masked); i++)
            mask(in, masked[i]);
        for (size_t i = 0; i < ARRAY_LEN(read_only); i++)
            protect(in, read_only[i]);
    }
    if (!(in->spec->flags & SPEC_READ_ONLY_ROOT))
        return;
    int root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (root < 0 || x_mount_setattr(root, 0, X_ATTR_RDONLY, 0) < 0)
        init_fail(in, -errno, "making the root read-only: %s", strerror(errno));
    close(root);
}

/* --- the terminal -------------------------------------------------------------------------------------------------- */

static void show_console(struct init *in) {
    int at = openat(in->dev, "console", O_CREAT | O_EXCL | O_RDONLY | O_NOFOLLOW | O_CLOEXEC, 0600);
    int copy = x_open_tree(in->console, "", X_CLONE_TREE | X_EMPTY_PATH);
    if (at < 0 || copy < 0 || x_move_mount_fd(copy, at) < 0)
        init_fail(in, -errno, "making /dev/console: %s", strerror(errno));
    close(at);
    close(copy);
}

void console_open(struct init *in, bool on_console) {
    int master;
    do
        master = x_openat2(AT_FDCWD, "dev/pts/ptmx", O_RDWR | O_NOCTTY, 0, X_RESOLVE_BENEATH | X_RESOLVE_NO_SYMLINKS);
    while (master < 0 && (errno == EAGAIN || errno == EINTR));
    struct stat st;
    int unlocked = 0;
    if (master < 0)
        init_fail(in, -errno, "opening a terminal: %s", strerror(errno));
    /* the container could have put anything there: only the multiplexer of a devpts will do */
    if (!rootfs_is_type(master, ROOTFS_DEVPTS) || fstat(master, &st) < 0 || !S_ISCHR(st.st_mode) ||
        st.st_rdev != makedev(5, 2))
        init_fail(in, -EPERM, "/dev/pts/ptmx is no terminal multiplexer");
    if (ioctl(master, TIOCSPTLCK, &unlocked) < 0)
        init_fail(in, -errno, "unlocking the terminal: %s", strerror(errno));
    in->console = ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (in->console < 0 || fstat(in->console, &st) < 0 || major(st.st_rdev) < 136 || major(st.st_rdev) > 143)
        init_fail(in, -EPERM, "the terminal's other end is no terminal");
    if (in->width > 0 || in->height > 0) {
        struct winsize size = {.ws_row = (unsigned short)in->height, .ws_col = (unsigned short)in->width};
        ioctl(master, TIOCSWINSZ, &size);
    }
    if (on_console)
        show_console(in);
    struct init_report r = {.kind = INIT_CONSOLE};
    init_report(in, &r, master);
    close(master);
}
