/* Private: volumes of a pod as a plan that is made on the loop and carried out on the pool. */
#pragma once

#include "node/node_priv.h"

struct volume_file {
    struct str path; /* relative, checked: no "..", not absolute */
    struct str data;
    mode_t mode;
};

struct volume {
    struct str name;
    const char *dir; /* where it is on the host */
    enum { VOLUME_EMPTY, VOLUME_MEMORY, VOLUME_FILES, VOLUME_HOST } type;
    uint64_t size_bytes;       /* of a memory volume, 0: unlimited */
    struct str host_type;      /* hostPath type */
    struct volume_file *files; /* VOLUME_FILES */
    size_t files_n;
    int64_t fs_group; /* -1: none */
};

struct volume_token {
    struct str audience, volume, path;
    int64_t expires_s;
    char *token; /* malloc'ed; NULL: not there yet */
    int64_t expires_at_s;
    bool asked;
    struct pod *pod;
};

struct volume_set {
    struct pod *pod;
    bool ready, running, again;
    VEC(struct volume_token *) tokens;
    struct timer renew;
    struct arena *arena; /* of the plan carried out last */
    struct volume *volumes;
    size_t n;
};

/* volume_plan.c: -EAGAIN with the pod's wait_message when something is missing. */
int volume_plan(struct volume_set *set, struct arena *a, struct volume **out, size_t *n);
struct volume_token *volume_token_find(struct volume_set *set, struct str volume, struct str path);
/* volume_write.c: on the pool; pure file work below the volume's directory. */
int volume_write(const struct volume *v, struct error *err);
/* Replaces the content of a directory as a whole, by a symbolic link: readers see the old files or the new ones. */
int atomic_write(const char *dir, const struct volume_file *files, size_t n, int64_t fs_group, struct error *err);
/* A bind mount of what is at sub below volume (never outside) on target. */
int subpath_bind(const char *volume, const char *sub, const char *target, bool read_only, struct error *err);
