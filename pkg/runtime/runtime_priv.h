/* Inside pkg/runtime: the runtime's side of sandboxes and containers. All of it on the runtime's loop. */
#pragma once

#include "runtime/cgroup.h"
#include "runtime/monitor_proto.h"
#include "runtime/sandbox.h"
#include "runtime/spec.h"

#define STATE_PATH_MAX 4096

struct link; /* to a monitor: its socket, and whether it lives */

struct runtime {
    struct loop *loop;
    char *state_dir, *root_dir;
    struct cgroup_layout cgroups;
    struct runtime_events events;
    int self;    /* the binary, through a read-only mount of its own */
    int devices; /* BPF program, or negative */
    struct list sandboxes;
    struct map by_id;
    struct map filters; /* compiled default seccomp filters by capability set: struct blob */
    bool closed;
    unsigned jobs; /* on the pool; the last one ends a runtime that was closed meanwhile */
};

void runtime_job_begin(struct runtime *rt);
/* True when the runtime was closed while the job ran: its sandboxes and containers are gone. */
bool runtime_job_end(struct runtime *rt);

enum sandbox_phase { SANDBOX_STARTING, SANDBOX_READY, SANDBOX_LOST, SANDBOX_REMOVING };

struct waiter {
    loop_fn fn;
    void *arg;
};

typedef void (*sandbox_done)(void *arg, struct sandbox *s, int code, const struct error *err);

struct sandbox {
    struct list node;
    struct runtime *rt;
    enum sandbox_phase phase;
    struct str id, metadata; /* malloced */
    char cgroup[CGROUP_PATH_MAX];
    uint64_t flags;
    int pid, pidfd, netns;
    struct link *link;
    uint32_t serial;
    struct list containers, calls;
    sandbox_done started;
    void *started_arg;
    struct timer deadline;
    unsigned jobs;              /* of its containers, on the pool */
    bool clean_waits;           /* for them */
    VEC(struct waiter) waiters; /* for the removal */
    uint32_t expected;          /* CONTAINER messages still to come after WELCOME */
    bool recovering;
    struct error error; /* of a start that failed, while what it left is cleaned */
};

typedef void (*container_done)(void *arg, struct container *c, int code, const struct error *err);

struct container {
    struct list node;
    struct sandbox *sandbox;
    struct str id, name, metadata, image_id; /* malloced */
    struct image *image;
    struct container_status status;
    int pidfd, stop_signal;
    uint32_t serial; /* of the start that is not answered */
    container_done started;
    void *started_arg;
    bool removing;
    VEC(struct waiter) waiters; /* for the removal */
};

/* A request for a process in a container: what exec and probes have in common. */
struct exec_call {
    struct list node;
    struct sandbox *sandbox;
    uint32_t serial;
    void (*on_started)(struct exec_call *call, int code, const char *text, int console_fd); /* takes the fd */
    void (*on_exited)(struct exec_call *call, int exit_code);                               /* last */
};

/* --- link.c --- */
struct link *link_open(struct sandbox *s, int fd, int pidfd); /* takes both */
int link_send(struct link *l, struct monitor_message *m, struct str extra, const int *fds, size_t fds_n);
void link_close(struct link *l);      /* no more callbacks */
int link_take_socket(struct link *l); /* a copy of its socket, and closes it */

/* --- spawn.c: blocking, on the pool --- */
struct spawn {
    struct runtime *rt;
    struct sandbox *sandbox;
    struct buf spec;
    struct cgroup_limits limits; /* cpuset_cpus points into cpus */
    char cpus[256];
    int sock, pid, pidfd;
    int code;
    struct error err;
};
int spawn_open_self(const char *path, struct error *err); /* a read-only way to the binary */
void spawn_monitor(struct spawn *job);
int spawn_connect(const char *state_dir, struct str id); /* to a monitor that runs; the socket or negative */
/* Kills and reaps the monitor (pidfd >= 0) and all processes, removes groups, layers and state. */
int sandbox_clean(struct runtime *rt, struct str id, const char *cgroup, int pidfd, struct error *err);

/* --- sandbox.c --- */
struct sandbox *sandbox_new(struct runtime *rt, struct str id);
void sandbox_free(struct sandbox *s);
void sandbox_on_message(struct sandbox *s, const struct monitor_message *m, int *fds, size_t fds_n); /* takes fds */
void sandbox_on_hangup(struct sandbox *s, bool dead);
void sandbox_set_cgroup(struct sandbox *s, struct str parent);
/* Ends everything that waits for the monitor, with this reason. */
void sandbox_fail_pending(struct sandbox *s, int code, const char *text);
void sandbox_settle(struct sandbox *s);
void sandbox_job_ended(struct sandbox *s);
bool runtime_id_is_valid(struct str id);
struct str str_take(struct str s); /* a malloced, NUL-terminated copy */

/* --- container.c --- */
struct container *container_new(struct sandbox *s, struct str id);
void container_free(struct container *c);
struct container *sandbox_find(const struct sandbox *s, const char *id);
void container_on_started(struct sandbox *s, const struct monitor_message *m, int *fds, size_t fds_n);
void container_on_exited(struct sandbox *s, const struct monitor_message *m);
void container_take_status(struct container *c, const struct monitor_message *m);
int container_cgroup(const struct container *c, char out[CGROUP_PATH_MAX]);
void container_clean_if_removing(struct container *c);
void container_forget(struct container *c); /* fails a start that is not answered, then frees */

/* --- exec.c --- */
void exec_on_started(struct sandbox *s, const struct monitor_message *m, int *fds, size_t fds_n);
void exec_on_exited(struct sandbox *s, const struct monitor_message *m);

/* --- recover.c --- */
void recover_welcome(struct sandbox *s, const struct monitor_message *m, int *fds, size_t fds_n);
void recover_container(struct sandbox *s, const struct monitor_message *m, int *fds, size_t fds_n);
void recover_hangup(struct sandbox *s);
