/*
 * The monitor: one a sandbox, single-threaded, on epoll, without a heap. It holds the sandbox's namespaces, is the parent of its
 * containers' first processes, writes their logs, and remembers how they ended until it is told that this was noted. It
 * works on when the server is gone; the next server connects to <state>/<id>/ctl.
 *
 * Memory matters more than anything here, for there is one a pod: records live in pages of their own, buffers are mapped
 * while there is something in them, files are mapped while they are read.
 */
#pragma once

#include "runtime/init.h"
#include "runtime/monitor_proto.h"

struct monitor;

struct source { /* something epoll watches */
    void (*fn)(struct monitor *m, struct source *s, uint32_t events);
    int fd; /* -1: not open */
};

#define LOG_LINE_MAX KiB(16) /* what is longer is written in parts, as containerd does */

struct log_stream {
    struct source source; /* the pipe, or the pty's master */
    struct container_record *owner;
    bool is_stderr;
    bool part_written; /* the line that is being written began in an earlier part */
    char *held;        /* LOG_LINE_MAX bytes, mapped while a line is incomplete */
    size_t held_n;
};

struct container_record {
    struct container_record *next;
    char id[MONITOR_ID_MAX + 1];
    int pid, pidfd;
    int32_t state, exit_code, signal;
    bool used, oom_killed, reaped, failed, has_pty, kills_group;
    uint32_t start_serial; /* of the request that is not answered yet; 0: answered */
    int64_t started_ns, finished_ns;
    struct source report;
    struct log_stream out, errs;
    int stdin_fd, log_fd;
    uint64_t log_bytes, log_bytes_max;
    uint32_t log_files_max;
    int32_t fail_code;
    char *fail_text; /* mapped, only between a failed start and its answer */
};

struct exec_record {
    struct exec_record *next;
    bool used;
    int pid, console;
    uint32_t serial;
    bool started, reaped, failed;
    int32_t exit_code, signal;
    struct source report;
    char *fail_text;
    int32_t fail_code;
};

struct monitor {
    struct sandbox_spec spec;
    struct cgroup_layout cgroups;
    int epoll, state_dir, devices;
    int own_pid_ns, shm_ns, netns;
    int init_pid; /* of the shared pid namespace; 0: none */
    struct source peer, listener, signals;
    struct container_record *containers;
    struct exec_record *execs;
    char *scratch; /* for reading pipes, mapped while busy */
};

/* --- between the files of the monitor --- */
void *monitor_map(size_t n); /* zeroed pages; NULL when there are none */
void monitor_unmap(void *p, size_t n);
int monitor_watch(struct monitor *m, struct source *s, int fd, uint32_t events);
void monitor_unwatch(struct monitor *m, struct source *s); /* and closes */
int64_t monitor_now_ns(void);
void monitor_say(struct monitor *m, struct monitor_message *msg, const int *fds, size_t fds_n);
/* A file of the state directory, mapped with memory to decode it behind. */
struct mapped {
    struct str text;
    struct spec_memory memory;
    void *base;
    size_t size;
};
int monitor_map_file(struct monitor *m, const char *id, const char *suffix, struct mapped *out);
int monitor_path(struct monitor *m, const char *id, char out[CGROUP_PATH_MAX]); /* the container's cgroup */
/* Receives one report of a child; false when there is none. closed: the child is past its execve, or dead. */
bool monitor_take_report(struct source *s, struct init_report *r, int *fd, bool *closed);
/* Clones, into a v2 group when cgroup_path is not NULL and there is one (*in_v2); 0 in the child. */
int monitor_clone(struct monitor *m, uint64_t flags, const char *cgroup_path, int *pidfd, bool *in_v2);

/*
 * On v2 a child is cloned into its group. Where v1 has the controllers it must be moved, which may wait for a grace period with
 * all cgroup operations behind it: then the child is cloned first and makes its mounts while we make and join its groups.
 */
bool monitor_clones_into_groups(const struct monitor *m);

void container_start_request(struct monitor *m, const struct monitor_message *msg);
void container_forget_request(struct monitor *m, const struct monitor_message *msg);
struct container_record *container_find(struct monitor *m, const char *id);
void container_describe(const struct container_record *c, struct monitor_message *msg);
bool container_reaped(struct monitor *m, int pid, int status);

void exec_request(struct monitor *m, const struct monitor_message *msg, struct str argv, const int *fds, size_t fds_n);
void exec_kill_request(struct monitor *m, uint32_t serial);
void exec_kill_all(struct monitor *m); /* the server is gone, and with it who listens */
bool exec_reaped(struct monitor *m, int pid, int status);

int log_open(struct container_record *c, const struct container_spec *spec);
void log_readable(struct monitor *m, struct source *s, uint32_t events);
void log_drain(struct monitor *m, struct container_record *c); /* all that is left, then closes */
void log_idle(struct monitor *m);                              /* gives buffers back */
