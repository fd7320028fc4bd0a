/*
 * Sandboxes and containers. A sandbox is one monitor process (this binary re-executed from a read-only mount of
 * itself), which holds the namespaces, reaps zombies, keeps its containers' stdio and exit codes, and writes their logs
 * in CRI format. It outlives this process: after a restart runtime_open() finds the monitors by their state
 * files in <state_dir> and goes on where they are.
 *
 * All calls on the runtime's loop; callbacks on it, never inline. Blocking kernel work happens in the monitor or
 * on the pool. Knows OCI and Linux and nothing of Kubernetes.
 */
#pragma once

#include "net/net.h"
#include "runtime/image.h"

struct runtime;
struct sandbox;
struct container;

struct runtime_options {
    struct loop *loop;
    const char *state_dir;   /* tmpfs: /run/dory/runtime */
    const char *root_dir;    /* disk: /var/lib/dory/agent/runtime: writable layers */
    const char *cgroup_root; /* name of the top group made in each hierarchy, e.g. "dory" */
    const char *self_path;   /* the binary to re-execute; NULL: /proc/self/exe */
    struct runtime_events {
        /* A monitor found at start; called during runtime_recover() for each sandbox, then its containers. */
        void (*on_sandbox_found)(void *arg, struct sandbox *s);
        void (*on_container_found)(void *arg, struct container *c);
        void (*on_container_exit)(void *arg, struct container *c);
        void (*on_sandbox_lost)(void *arg,
                                struct sandbox *s); /* its monitor died unexpectedly; containers are dead too */
        void *arg;
    } events;
};
int runtime_open(const struct runtime_options *o, struct runtime **out, struct error *err);
/* Adopts running sandboxes, cleans what is left of dead ones; done(arg) when all were reported. */
void runtime_recover(struct runtime *rt, loop_fn done, void *arg);
/* Lets go of everything without touching running containers. */
void runtime_close(struct runtime *rt);

struct sandbox_config {
    struct str id;       /* unique, [a-z0-9-], <= 64: file and cgroup names come from it */
    struct str metadata; /* opaque to the runtime, kept and given back at recovery (<= 64 KiB) */
    struct str hostname; /* UTS; empty with host_uts */
    bool host_network, host_pid, host_ipc, share_pid;
    struct str cgroup_parent;     /* path below cgroup_root, e.g. "burstable/pod<uid>"; made by the runtime */
    struct cgroup_limits *cgroup; /* of the sandbox's whole group; may be NULL */
    const struct str *sysctls;    /* name, value pairs */
    size_t sysctls_n;
    uint64_t shm_bytes; /* size of the shared /dev/shm; 0: 64 MiB */
};

struct cgroup_limits {      /* 0: not set; the same meaning on v1 and v2 */
    uint64_t cpu_shares;    /* v1 scale: 2..262144 */
    int64_t cpu_quota_us;   /* per cpu_period_us */
    uint64_t cpu_period_us; /* 0: 100000 */
    int64_t memory_bytes;   /* limit */
    int64_t memory_request_bytes;
    int64_t pids;
    struct str cpuset_cpus;
    bool oom_group; /* v2 */
};

/* done: code 0 and the sandbox is ready, or negative and err (nothing is left behind). */
void sandbox_start(struct runtime *rt, const struct sandbox_config *cfg,
                   void (*done)(void *arg, struct sandbox *s, int code, const struct error *err), void *arg);
struct str sandbox_id(const struct sandbox *s);
struct str sandbox_metadata(const struct sandbox *s);
/* Replaces the metadata in the state file (the caller's own notes, e.g. the pod's addresses). */
int sandbox_set_metadata(struct sandbox *s, struct str metadata, struct error *err);
int sandbox_netns_fd(const struct sandbox *s); /* borrowed; -1 with host_network */
int sandbox_pid(const struct sandbox *s);      /* the monitor's */
/* Kills what still runs, unmounts, removes cgroups and state; the sandbox is gone when done runs. Of a removal that is under way
 * already done is told too. */
void sandbox_remove(struct sandbox *s, loop_fn done, void *arg);
/* First/next container: NULL, then the previous one. */
struct container *sandbox_next(const struct sandbox *s, const struct container *prev);

enum mount_propagation { MOUNT_PRIVATE, MOUNT_HOST_TO_CONTAINER, MOUNT_BIDIRECTIONAL };

struct container_mount {
    struct str source;      /* host path (bind), or empty for tmpfs */
    struct str destination; /* absolute, resolved inside the root */
    bool read_only, recursive_read_only;
    bool tmpfs;
    uint64_t tmpfs_bytes;
    enum mount_propagation propagation;
    bool create_file; /* the destination is made as a file when absent */
};

struct container_user {
    struct str user;        /* "", "1000", "1000:1000", "name", "name:group": resolved in the image's passwd */
    int64_t uid, gid;       /* -1: from user */
    const uint32_t *groups; /* supplementary */
    size_t groups_n;
    bool merge_image_groups; /* add the groups that the image's /etc/group gives the user */
};

enum seccomp_mode { SECCOMP_RUNTIME_DEFAULT, SECCOMP_UNCONFINED, SECCOMP_LOCALHOST };

struct container_config {
    struct str id; /* unique in the runtime, same alphabet as sandbox ids */
    struct str name;
    struct str metadata;    /* opaque */
    struct image *image;    /* a reference is taken */
    const struct str *argv; /* complete: entrypoint and command already merged */
    size_t argv_n;
    const struct str *envp; /* "K=V"; PATH and HOME are added when absent */
    size_t envp_n;
    struct str cwd; /* empty: "/"; made when absent */
    struct container_user user;
    const struct container_mount *mounts; /* in order */
    size_t mounts_n;
    bool privileged, read_only_root, no_new_privs;
    uint64_t capabilities; /* effective set, bit = capability number; runtime_default_capabilities() */
    enum seccomp_mode seccomp;
    struct str seccomp_profile; /* JSON text with SECCOMP_LOCALHOST */
    bool unmasked_proc;         /* procMount: Unmasked */
    int oom_score_adj;
    struct cgroup_limits cgroup;
    struct str log_path;    /* CRI-format file, its directory exists */
    uint64_t log_bytes_max; /* rotation at the byte; 0: 10 MiB */
    uint32_t log_files_max; /* 0: 5 */
    bool tty, stdin_open, stdin_once;
    struct str termination_log; /* host path bound in by the caller as a mount; only informative here */
    int stop_signal;            /* 0: the image's, or SIGTERM */
};
#define RUNTIME_DEFAULT_CAPABILITIES 0xa80425fbull /* docker's fourteen */

enum container_state { CONTAINER_CREATED, CONTAINER_RUNNING, CONTAINER_EXITED, CONTAINER_STATE_MAX };

struct container_status {
    enum container_state state;
    int pid;       /* in the host's namespace, while running */
    int exit_code; /* as a shell gives it: 128 + signal when killed */
    int signal;    /* 0 when it exited by itself */
    bool oom_killed;
    struct timespec started_at, finished_at;
    char message[256]; /* why it could not start, e.g. exec: "foo": not found */
};

/* Creates and starts in one step. done with code 0 once the program was exec'ed; negative when it could not be, with the
 * reason in err (-ENOENT: executable not found, -EACCES: not executable, ...). The container then does not exist. */
void container_start(struct sandbox *s, const struct container_config *cfg,
                     void (*done)(void *arg, struct container *c, int code, const struct error *err), void *arg);
struct str container_id(const struct container *c);
struct str container_name(const struct container *c);
struct str container_metadata(const struct container *c);
struct sandbox *container_sandbox(const struct container *c);
struct str container_image_id(const struct container *c); /* "sha256:...", known after a recovery too */
/* Pins the image of a container that was found at start: the runtime takes a reference, as container_start() does. */
void container_set_image(struct container *c, struct image *img);
const struct container_status *container_status(const struct container *c);
/* Signals the container's first process (signal 0: its stop signal). -ESRCH when it has ended. */
int container_kill(struct container *c, int signal, struct error *err);
/* Removes an exited (or kills a running) container with its writable layer. */
void container_remove(struct container *c, loop_fn done, void *arg);
/* Changes the limits of a running container. */
int container_update(struct container *c, const struct cgroup_limits *limits, struct error *err);

struct container_usage { /* read on demand from the cgroup */
    uint64_t cpu_ns, memory_bytes, memory_working_set_bytes, memory_rss_bytes, pids;
};
int container_usage(const struct container *c, struct container_usage *out, struct error *err);
int sandbox_usage(const struct sandbox *s, struct container_usage *out, struct error *err);

/* --- exec and attach --- */
struct exec_config {
    const struct str *argv;
    size_t argv_n;
    bool stdin_open, tty;
    int width, height; /* of the tty, 0: unset */
};
struct exec_process;
struct exec_events {
    /* Started: streams owned by the receiver (stdin/stderr NULL when not asked for; with a tty stdin and stdout are one
     * stream). code != 0: could not start, err says why. */
    void (*on_start)(void *arg, struct exec_process *p, struct stream *in, struct stream *out, struct stream *errs,
                     int code, const struct error *err);
    void (*on_exit)(void *arg, int exit_code); /* last; frees p */
    void *arg;
};
/* Runs a process in a running container with its user, capabilities, seccomp, cgroup. */
void container_exec(struct container *c, const struct exec_config *cfg, const struct exec_events *ev);
int exec_resize(struct exec_process *p, int width, int height);
void exec_kill(struct exec_process *p); /* when the client went away */
/* Runs to completion with a time limit and collects at most 10 KiB of output: for probes and hooks. */
void container_exec_sync(struct container *c, const struct str *argv, size_t argv_n, int64_t timeout_ms,
                         void (*done)(void *arg, int code, int exit_code, struct str output), void *arg);

/* The monitor's main(), reached when the binary is executed as "dory-monitor". */
int monitor_main(int argc, char **argv);
