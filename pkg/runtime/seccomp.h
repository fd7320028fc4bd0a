/*
 * Seccomp: profiles to BPF. A profile is compiled for the machine's own system calls and those of its 32-bit
 * sibling (i386 on x86_64, arm on arm64); a call made by any other convention kills the process (x32: ENOSYS). Calls newer
 * than the table answer ENOSYS under a profile whose default is an errno, so that libraries fall back.
 *
 * Pure: no file descriptor is touched.
 */
#pragma once

#include <linux/filter.h>

#include "base/base.h"

/* Appends struct sock_filter's to out: Docker's and containerd's default allow list for a process with these
 * capabilities (bit = number). */
int seccomp_compile_default(uint64_t capabilities, struct buf *out, struct error *err);
/* As above from a profile's JSON text, either OCI's form or Docker's (archMap, includes, excludes). An action or
 * operator that is not known, or a listener, is an error; system calls that this machine does not have are not. */
int seccomp_compile_json(struct str text, uint64_t capabilities, struct buf *out, struct error *err);

/* --- between the profile readers and the generator --- */
enum seccomp_op {
    SECCOMP_NE,
    SECCOMP_LT,
    SECCOMP_LE,
    SECCOMP_EQ,
    SECCOMP_GE,
    SECCOMP_GT,
    SECCOMP_MASKED_EQ,
    SECCOMP_NE_32 /* of the low half: for C ints, whose upper half the kernel drops */
};

struct seccomp_cond {
    uint8_t arg; /* 0..5 */
    uint8_t op;
    uint64_t value, mask; /* mask: of SECCOMP_MASKED_EQ */
};

struct seccomp_rule {
    const char *name;
    uint32_t action; /* SECCOMP_RET_... with its data */
    uint32_t conds_n;
    struct seccomp_cond conds[6]; /* all must hold */
};

struct seccomp_rules {
    VEC(struct seccomp_rule) rules;
    uint32_t default_action;
};

int seccomp_generate(const struct seccomp_rules *rules, struct buf *out, struct error *err);
/* Whether the name is a system call of any architecture the table knows. */
bool seccomp_syscall_known(struct str name);
/* The static copy of a known name, or NULL. */
const char *seccomp_syscall_name(struct str name);
