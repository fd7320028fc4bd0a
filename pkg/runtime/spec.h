/*
 * What a monitor is told about its sandbox and containers: files of tagged, length-checked records beside its socket, so
 * that a message is small, exec and recovery read the same text, and a newer server understands an older monitor's
 * files (records that are not known are skipped).
 *
 * Record: u32 tag, u32 length, the bytes and a NUL behind them, padded to 8 bytes; the machine's own byte order, for
 * the files never leave it. Decoding allocates only from the memory it is given: the monitor has no heap.
 */
#pragma once

#include "base/base.h"
#include "runtime/sandbox.h"

#define SPEC_BYTES_MAX MiB(4)

struct strv { /* v is NULL-terminated; strings point into the decoded text */
    const char **v;
    size_t n;
};

enum spec_mount_flag { SPEC_MOUNT_RO = 1, SPEC_MOUNT_RRO = 2, SPEC_MOUNT_TMPFS = 4, SPEC_MOUNT_CREATE_FILE = 8 };

struct spec_mount {
    const char *source, *destination;
    uint32_t flags, propagation;
    uint64_t tmpfs_bytes;
};

struct spec_mounts {
    struct spec_mount *v;
    size_t n;
};

enum spec_flag {
    SPEC_PRIVILEGED = 1,
    SPEC_READ_ONLY_ROOT = 2,
    SPEC_NO_NEW_PRIVS = 4,
    SPEC_UNMASKED_PROC = 8,
    SPEC_TTY = 16,
    SPEC_STDIN_OPEN = 32,
    SPEC_STDIN_ONCE = 64,
    SPEC_MERGE_IMAGE_GROUPS = 128,
    SPEC_HOST_NETWORK = 256,
    SPEC_HOST_PID = 512,
    SPEC_HOST_IPC = 1024,
    SPEC_SHARE_PID = 2048,
};

struct container_spec {
    struct str id, name, metadata, image_id;
    struct strv layers; /* lowest first */
    struct strv argv, envp;
    struct str cwd, user, log_path;
    int64_t uid, gid;  /* -1: from user */
    struct str groups; /* uint32_t's */
    uint64_t flags, capabilities;
    struct str seccomp; /* struct sock_filter's; empty: unconfined */
    int64_t oom_score_adj, stop_signal;
    uint64_t log_bytes_max, log_files_max;
    struct cgroup_limits cgroup;
    struct spec_mounts mounts;
};

struct sandbox_spec {
    struct str id, hostname, cgroup_parent;
    struct str root_dir; /* of this sandbox: writable layers below */
    struct str cgroups;  /* struct cgroup_layout */
    uint64_t flags, shm_bytes;
    struct strv sysctls; /* name, value, name, value... */
    struct cgroup_limits cgroup;
};

/* The user a container's first process got, for what is run in it later. */
struct user_spec {
    uint64_t uid, gid;
    struct str groups; /* uint32_t's */
    struct str home;
};

void spec_encode_container(struct buf *out, const struct container_spec *s);
void spec_encode_sandbox(struct buf *out, const struct sandbox_spec *s);
void spec_encode_user(struct buf *out, const struct user_spec *s);

/* Memory for decoding: SPEC_MEMORY(bytes of text) suffices always. */
struct spec_memory {
    char *p; /* aligned to 8 */
    size_t left;
};
#define SPEC_MEMORY(text_bytes) ((text_bytes)*2 + KiB(1))

/* -EBADMSG for text that is no such thing. The result points into text (aligned to 8) and mem. */
int spec_decode_container(struct str text, struct spec_memory *mem, struct container_spec *out);
int spec_decode_sandbox(struct str text, struct spec_memory *mem, struct sandbox_spec *out);
int spec_decode_user(struct str text, struct spec_memory *mem, struct user_spec *out);
