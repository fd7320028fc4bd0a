/*
 * The child of a monitor on its way to being a container's first process (or one that is run in it later): from clone
 * to execve. It never returns; what goes wrong is told to the monitor over a socket that execve closes.
 *
 * Order is the defence. Everything on the host is opened first; then the root is pivoted and the host is detached, so that
 * from there no path can lead out of the container; then every mount is made by descriptor, its target resolved once by openat2
 * inside the root. Descriptors are closed, not only marked, before the working directory and the program are looked up.
 */
#pragma once

#include "runtime/cgroup.h"
#include "runtime/spec.h"
#include "runtime/user.h"

enum init_report_kind {
    INIT_FAILED = 1,
    INIT_WARNING,
    INIT_CONSOLE /* with the pty */,
    INIT_USER,
    INIT_JOINED,
    INIT_RUNS /* all that may fail but execve is done */
};

struct init_report {
    uint32_t kind;
    int32_t code;
    struct user_ids user;
    char text[320];
};

struct init {
    const struct sandbox_spec *sandbox;
    const struct container_spec *spec;
    const struct cgroup_layout *cgroups;
    int report;       /* seqpacket to the monitor */
    int stdio[3];     /* -1: /dev/null, or the console */
    int shm_ns;       /* mount namespace whose root is the sandbox's /dev/shm, -1: the host's */
    bool wait_joined; /* the monitor moves us into v1 groups and says so */
    struct spec_memory *memory;
    bool warned;
    /* exec */
    int target; /* pidfd of the container's first process */
    const struct user_spec *user;
    int width, height;
    /* on the way */
    int *sources; /* one a mount; -1: none */
    int host_dev;
    int dev, null, empty; /* our /dev, its null, an empty read-only directory */
    int console;          /* the slave */
};

_Noreturn void init_container(struct init *in);
_Noreturn void init_exec(struct init *in, const struct strv *argv, bool tty);

/* --- inside --- */
_Noreturn void init_fail(struct init *in, int code, const char *fmt, ...) PRINTF_LIKE(3, 4); /* code: negative errno */
void init_warn(struct init *in, const char *fmt, ...) PRINTF_LIKE(2, 3);
void init_report(struct init *in, struct init_report *r, int fd);
void *init_memory(struct init *in, size_t n);

void rootfs_enter(struct init *in);  /* host side: sources opened, overlay mounted, pivoted */
void rootfs_system(struct init *in); /* /proc /sys /dev */
void rootfs_cgroups(struct init *in);
void rootfs_volumes(struct init *in);
void rootfs_finish(struct init *in); /* masks, read-only */
/* The container's terminal from its own devpts; tells the monitor the other end. on_console: also as /dev/console. */
void console_open(struct init *in, bool on_console);
/* Whole file inside the root, "" when absent; at most USER_FILE_MAX. */
struct str rootfs_read(struct init *in, const char *path);
/* Resolves inside the root ("/" of the caller), no magic links; the fd or negative errno. */
int rootfs_open(const char *path, int flags);
/* As above for a directory or file to mount on, which is made when absent. */
int rootfs_make(struct init *in, const char *path, bool is_dir);

void process_identity(struct init *in, const struct user_ids *user); /* rlimits, seccomp, capabilities, ids */
_Noreturn void process_exec(struct init *in, const struct strv *argv, const struct strv *envp);
