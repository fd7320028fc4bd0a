/* Which devices a container may open: Docker's defaults, as a BPF program on v2 or as a list on v1. */
#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "runtime/cgroup.h"

#define ANY (-1)

static const struct device_rule {
    char type;
    int major, minor;
    const char *access;
} rules[] = {
    {'c', ANY, ANY, "m"},                       /* making a node is harmless: opening it is what counts */
    {'b', ANY, ANY, "m"},   {'c', 1, 3, "rwm"}, /* null */
    {'c', 1, 5, "rwm"},                         /* zero */
    {'c', 1, 7, "rwm"},                         /* full */
    {'c', 1, 8, "rwm"},                         /* random */
    {'c', 1, 9, "rwm"},                         /* urandom */
    {'c', 5, 0, "rwm"},                         /* tty */
    {'c', 5, 1, "rwm"},                         /* console */
    {'c', 5, 2, "rwm"},                         /* ptmx */
    {'c', 136, ANY, "rwm"},                     /* pts */
};

static int access_bits(const char *access) {
    int bits = 0;
    for (; *access; access++)
        bits |= *access == 'r' ? BPF_DEVCG_ACC_READ : *access == 'w' ? BPF_DEVCG_ACC_WRITE : BPF_DEVCG_ACC_MKNOD;
    return bits;
}

/* r2 = type, r3 = access, r4 = major, r5 = minor; a rule that does not match is jumped over. */
static size_t put_rule(struct bpf_insn *at, const struct device_rule *r) {
    size_t n = 0, first;
    int other = (BPF_DEVCG_ACC_READ | BPF_DEVCG_ACC_WRITE | BPF_DEVCG_ACC_MKNOD) & ~access_bits(r->access);
    at[n++] = (struct bpf_insn){BPF_JMP | BPF_JNE | BPF_K, 2, 0, 0,
                                r->type == 'c' ? BPF_DEVCG_DEV_CHAR : BPF_DEVCG_DEV_BLOCK};
    first = n - 1;
    if (other)
        at[n++] = (struct bpf_insn){BPF_JMP | BPF_JSET | BPF_K, 3, 0, 0, other};
    if (r->major != ANY)
        at[n++] = (struct bpf_insn){BPF_JMP | BPF_JNE | BPF_K, 4, 0, 0, r->major};
    if (r->minor != ANY)
        at[n++] = (struct bpf_insn){BPF_JMP | BPF_JNE | BPF_K, 5, 0, 0, r->minor};
    size_t end = n + 2;
    for (size_t i = first; i < n; i++)
        at[i].off = (int16_t)(end - i - 1);
    at[n++] = (struct bpf_insn){BPF_ALU64 | BPF_MOV | BPF_K, 0, 0, 0, 1};
    at[n++] = (struct bpf_insn){BPF_JMP | BPF_EXIT, 0, 0, 0, 0};
    return n;
}

int cgroup_device_program(void) {
    struct bpf_insn code[8 + ARRAY_LEN(rules) * 6] = {
        {BPF_LDX | BPF_MEM | BPF_W, 2, 1, 0, 0},      {BPF_ALU | BPF_MOV | BPF_X, 3, 2, 0, 0},
        {BPF_ALU | BPF_AND | BPF_K, 2, 0, 0, 0xffff}, {BPF_ALU | BPF_RSH | BPF_K, 3, 0, 0, 16},
        {BPF_LDX | BPF_MEM | BPF_W, 4, 1, 4, 0},      {BPF_LDX | BPF_MEM | BPF_W, 5, 1, 8, 0},
    };
    size_t n = 6;
    for (size_t i = 0; i < ARRAY_LEN(rules); i++)
        n += put_rule(code + n, &rules[i]);
    code[n++] = (struct bpf_insn){BPF_ALU64 | BPF_MOV | BPF_K, 0, 0, 0, 0};
    code[n++] = (struct bpf_insn){BPF_JMP | BPF_EXIT, 0, 0, 0, 0};
    union bpf_attr attr;
    memset(&attr, 0, sizeof(attr));
    attr.prog_type = BPF_PROG_TYPE_CGROUP_DEVICE;
    attr.insns = (uint64_t)(uintptr_t)code;
    attr.insn_cnt = (uint32_t)n;
    attr.license = (uint64_t)(uintptr_t) "Apache-2.0";
    int fd = -1;
    for (int i = 0; fd < 0 && i < 10 && (i == 0 || errno == EAGAIN || errno == EINTR); i++) /* a signal interrupts it */
        fd = (int)syscall(SYS_bpf, BPF_PROG_LOAD, &attr, sizeof(attr));
    return fd < 0 ? -errno : fd;
}

int cgroup_device_attach(int program_fd, int cgroup_fd) {
    union bpf_attr attr;
    memset(&attr, 0, sizeof(attr));
    attr.target_fd = (uint32_t)cgroup_fd;
    attr.attach_bpf_fd = (uint32_t)program_fd;
    attr.attach_type = BPF_CGROUP_DEVICE;
    attr.attach_flags = BPF_F_ALLOW_MULTI;
    return syscall(SYS_bpf, BPF_PROG_ATTACH, &attr, sizeof(attr)) < 0 ? -errno : 0;
}

static int put_line(int dir_fd, const char *file, const char *text) {
    int fd = openat(dir_fd, file, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    int rc = write(fd, text, strlen(text)) < 0 ? -errno : 0;
    close(fd);
    return rc;
}

int cgroup_deny_devices(const struct cgroup_layout *l, const char *path, struct error *err) {
    const struct cgroup_hierarchy *h = cgroup_with(l, CGROUP_DEVICES);
    char p[CGROUP_PATH_MAX], text[48], major[12], minor[12];
    if (!h)
        return error_set(err, -ENOENT, "no cgroup can restrict devices: neither BPF nor the devices controller");
    int n = snprintf(p, sizeof(p), "%s/%s/%s", h->mount, l->top, path);
    cleanup_close int fd = n > 0 && n < (int)sizeof(p) ? open(p, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    int rc = fd < 0 ? -ENOENT : put_line(fd, "devices.deny", "a");
    for (size_t i = 0; rc == 0 && i < ARRAY_LEN(rules); i++) {
        snprintf(major, sizeof(major), "%d", rules[i].major);
        snprintf(minor, sizeof(minor), "%d", rules[i].minor);
        snprintf(text, sizeof(text), "%c %s:%s %s", rules[i].type, rules[i].major == ANY ? "*" : major,
                 rules[i].minor == ANY ? "*" : minor, rules[i].access);
        rc = put_line(fd, "devices.allow", text);
    }
    return rc < 0 ? error_sys(err, rc, "cgroup %s: devices", path) : 0;
}
