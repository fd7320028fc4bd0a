/* Profiles to rules: the default allow list, and JSON as OCI's runtime specification and Docker write it. */
#include <errno.h>
#include <linux/capability.h>
#include <linux/seccomp.h>
#include <stdlib.h>

#include "codec/json.h"
#include "runtime/seccomp.h"

#ifndef SECCOMP_RET_KILL_PROCESS
#define SECCOMP_RET_KILL_PROCESS 0x80000000U
#endif
#ifndef SECCOMP_RET_LOG
#define SECCOMP_RET_LOG 0x7ffc0000U
#endif
#ifndef CAP_PERFMON
#define CAP_PERFMON 38
#define CAP_BPF 39
#endif

#define RULES_MAX 8192
#define PROFILE_BYTES_MAX MiB(1)

#if defined(__x86_64__)
static const char *const arch_names[] = {"amd64", "x86_64", "SCMP_ARCH_X86_64", "x86", "SCMP_ARCH_X86"};
#elif defined(__aarch64__)
static const char *const arch_names[] = {"arm64", "aarch64", "SCMP_ARCH_AARCH64", "arm", "SCMP_ARCH_ARM"};
#elif defined(__arm__)
static const char *const arch_names[] = {"arm", "SCMP_ARCH_ARM"};
#else
static const char *const arch_names[] = {"riscv64", "SCMP_ARCH_RISCV64"};
#endif

/* --- the default ------------------------------------------------------------------------------------------------- */

/* The system calls that Docker's and containerd's default profile allows to everybody. Left out, as in their current
 * versions: io_uring (too many kernel holes for its worth), the keyring, userfaultfd, vm86, swap, modules, clocks. */
static const char allowed[] =
    "accept accept4 access adjtimex alarm bind brk cachestat capget capset chdir chmod chown chown32 clock_adjtime "
    "clock_adjtime64 clock_getres clock_getres_time64 clock_gettime clock_gettime64 clock_nanosleep "
    "clock_nanosleep_time64 close close_range connect copy_file_range creat dup dup2 dup3 epoll_create epoll_create1 "
    "epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait epoll_wait_old eventfd eventfd2 execve execveat exit "
    "exit_group faccessat faccessat2 fadvise64 fadvise64_64 fallocate fanotify_mark fchdir fchmod fchmodat fchmodat2 "
    "fchown fchown32 fchownat fcntl fcntl64 fdatasync fgetxattr file_getattr file_setattr flistxattr flock fork "
    "fremovexattr fsetxattr fstat fstat64 fstatat64 fstatfs fstatfs64 fsync ftruncate ftruncate64 futex futex_requeue "
    "futex_time64 futex_wait futex_waitv futex_wake futimesat get_robust_list get_thread_area getcpu getcwd getdents "
    "getdents64 getegid getegid32 geteuid geteuid32 getgid getgid32 getgroups getgroups32 getitimer getpeername getpgid "
    "getpgrp getpid getppid getpriority getrandom getresgid getresgid32 getresuid getresuid32 getrlimit getrusage getsid "
    "getsockname getsockopt gettid gettimeofday getuid getuid32 getxattr getxattrat inotify_add_watch inotify_init "
    "inotify_init1 inotify_rm_watch io_cancel io_destroy io_getevents io_pgetevents io_pgetevents_time64 io_setup "
    "io_submit ioctl ioprio_get ioprio_set ipc kill landlock_add_rule landlock_create_ruleset landlock_restrict_self "
    "lchown lchown32 lgetxattr link linkat listen listxattr listxattrat llistxattr _llseek lremovexattr lseek lsetxattr "
    "lstat lstat64 madvise map_shadow_stack membarrier memfd_create memfd_secret mincore mkdir mkdirat mknod mknodat "
    "mlock mlock2 mlockall mmap mmap2 mprotect mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedreceive_time64 "
    "mq_timedsend mq_timedsend_time64 mq_unlink mremap mseal msgctl msgget msgrcv msgsnd msync munlock munlockall munmap "
    "name_to_handle_at nanosleep newfstatat _newselect open openat openat2 pause pidfd_open pidfd_send_signal pipe pipe2 "
    "pkey_alloc pkey_free pkey_mprotect poll ppoll ppoll_time64 prctl pread64 preadv preadv2 prlimit64 process_mrelease "
    "process_vm_readv process_vm_writev pselect6 pselect6_time64 ptrace pwrite64 pwritev pwritev2 read readahead readlink "
    "readlinkat readv recv recvfrom recvmmsg recvmmsg_time64 recvmsg remap_file_pages removexattr removexattrat rename "
    "renameat renameat2 restart_syscall rmdir rseq rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo "
    "rt_sigreturn rt_sigsuspend rt_sigtimedwait rt_sigtimedwait_time64 rt_tgsigqueueinfo sched_get_priority_max "
    "sched_get_priority_min sched_getaffinity sched_getattr sched_getparam sched_getscheduler sched_rr_get_interval "
    "sched_rr_get_interval_time64 sched_setaffinity sched_setattr sched_setparam sched_setscheduler sched_yield seccomp "
    "select semctl semget semop semtimedop semtimedop_time64 send sendfile sendfile64 sendmmsg sendmsg sendto "
    "set_robust_list set_thread_area set_tid_address setfsgid setfsgid32 setfsuid setfsuid32 setgid setgid32 setgroups "
    "setgroups32 setitimer setpgid setpriority setregid setregid32 setresgid setresgid32 setresuid setresuid32 setreuid "
    "setreuid32 setrlimit setsid setsockopt setuid setuid32 setxattr setxattrat shmat shmctl shmdt shmget shutdown "
    "sigaltstack signalfd signalfd4 sigprocmask sigreturn socketcall socketpair splice stat stat64 statfs statfs64 statx "
    "symlink symlinkat sync sync_file_range syncfs sysinfo tee tgkill time timer_create timer_delete timer_getoverrun "
    "timer_gettime timer_gettime64 timer_settime timer_settime64 timerfd_create timerfd_gettime timerfd_gettime64 "
    "timerfd_settime timerfd_settime64 times tkill truncate truncate64 ugetrlimit umask uname unlink unlinkat uretprobe "
    "utime utimensat utimensat_time64 utimes vfork vmsplice wait4 waitid waitpid write writev "
#if defined(__x86_64__)
    "arch_prctl modify_ldt "
#elif defined(__aarch64__) || defined(__arm__)
    "arm_fadvise64_64 arm_sync_file_range sync_file_range2 breakpoint cacheflush set_tls "
#else
    "riscv_flush_icache riscv_hwprobe "
#endif
    ;

/* What a capability adds. */
static const struct {
    int capability;
    const char *names;
} allowed_with[] = {
    {CAP_DAC_READ_SEARCH, "open_by_handle_at"},
    {CAP_SYS_ADMIN, "bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick listmount lookup_dcookie mount "
                    "mount_setattr move_mount open_tree open_tree_attr perf_event_open quotactl quotactl_fd "
                    "setdomainname sethostname setns statmount syslog umount umount2 unshare"},
    {CAP_SYS_BOOT, "reboot"},
    {CAP_SYS_CHROOT, "chroot"},
    {CAP_SYS_MODULE, "delete_module init_module finit_module"},
    {CAP_SYS_PACCT, "acct"},
    {CAP_SYS_PTRACE, "kcmp pidfd_getfd process_madvise"},
    {CAP_SYS_RAWIO, "iopl ioperm"},
    {CAP_SYS_TIME, "settimeofday stime clock_settime clock_settime64"},
    {CAP_SYS_TTY_CONFIG, "vhangup"},
    {CAP_SYS_NICE, "get_mempolicy mbind set_mempolicy set_mempolicy_home_node"},
    {CAP_SYSLOG, "syslog"},
    {CAP_BPF, "bpf"},
    {CAP_PERFMON, "perf_event_open"},
};

#define CLONE_NEW_ANY 0x7e020000u /* every CLONE_NEW* flag */
#define AF_VSOCK_FAMILY 40        /* reaches the hypervisor past the network namespace */

static void add_names(struct seccomp_rules *out, struct str names, uint32_t action) {
    while (names.p) {
        struct str name = str_split(&names, ' ');
        struct seccomp_rule r = {.name = name.n ? seccomp_syscall_name(name) : NULL, .action = action};
        if (r.name)
            vec_push(&out->rules, r);
    }
}

static void add_cond(struct seccomp_rules *out, const char *name, uint32_t action, struct seccomp_cond c) {
    struct seccomp_rule r = {.name = name, .action = action, .conds_n = 1, .conds = {c}};
    vec_push(&out->rules, r);
}

int seccomp_compile_default(uint64_t caps, struct buf *out, struct error *err) {
    static const uint32_t personas[] = {0, 8, 0x20000, 0x20008,
                                        0xffffffff}; /* linux, linux32, uname26, both, a query */
    struct seccomp_rules rules = {.default_action = SECCOMP_RET_ERRNO | EPERM};
    add_names(&rules, str_n(allowed, sizeof(allowed) - 1), SECCOMP_RET_ALLOW);
    for (size_t i = 0; i < ARRAY_LEN(allowed_with); i++)
        if (caps >> allowed_with[i].capability & 1)
            add_names(&rules, str_c(allowed_with[i].names), SECCOMP_RET_ALLOW);
    add_cond(&rules, "socket", SECCOMP_RET_ALLOW, (struct seccomp_cond){.op = SECCOMP_NE_32, .value = AF_VSOCK_FAMILY});
    for (size_t i = 0; i < ARRAY_LEN(personas); i++)
        add_cond(&rules, "personality", SECCOMP_RET_ALLOW,
                 (struct seccomp_cond){.op = SECCOMP_EQ, .value = personas[i]});
    if (!(caps >> CAP_SYS_ADMIN & 1)) {
        add_cond(&rules, "clone", SECCOMP_RET_ALLOW,
                 (struct seccomp_cond){.op = SECCOMP_MASKED_EQ, .value = 0, .mask = CLONE_NEW_ANY});
        add_names(&rules, STR("clone3"), SECCOMP_RET_ERRNO | ENOSYS); /* its flags are out of BPF's sight */
    }
    int rc = seccomp_generate(&rules, out, err);
    vec_fini(&rules.rules);
    return rc;
}

/* --- JSON -------------------------------------------------------------------------------------------------------- */

static const char *const capability_names[] = {"CHOWN",
                                               "DAC_OVERRIDE",
                                               "DAC_READ_SEARCH",
                                               "FOWNER",
                                               "FSETID",
                                               "KILL",
                                               "SETGID",
                                               "SETUID",
                                               "SETPCAP",
                                               "LINUX_IMMUTABLE",
                                               "NET_BIND_SERVICE",
                                               "NET_BROADCAST",
                                               "NET_ADMIN",
                                               "NET_RAW",
                                               "IPC_LOCK",
                                               "IPC_OWNER",
                                               "SYS_MODULE",
                                               "SYS_RAWIO",
                                               "SYS_CHROOT",
                                               "SYS_PTRACE",
                                               "SYS_PACCT",
                                               "SYS_ADMIN",
                                               "SYS_BOOT",
                                               "SYS_NICE",
                                               "SYS_RESOURCE",
                                               "SYS_TIME",
                                               "SYS_TTY_CONFIG",
                                               "MKNOD",
                                               "LEASE",
                                               "AUDIT_WRITE",
                                               "AUDIT_CONTROL",
                                               "SETFCAP",
                                               "MAC_OVERRIDE",
                                               "MAC_ADMIN",
                                               "SYSLOG",
                                               "WAKE_ALARM",
                                               "BLOCK_SUSPEND",
                                               "AUDIT_READ",
                                               "PERFMON",
                                               "BPF",
                                               "CHECKPOINT_RESTORE"};

static bool holds_capability(struct str name, uint64_t caps) {
    if (str_starts(name, STR("CAP_")))
        name = str_skip(name, 4);
    for (size_t i = 0; i < ARRAY_LEN(capability_names); i++)
        if (str_eq_c(name, capability_names[i]))
            return caps >> i & 1;
    return false;
}

static bool is_this_arch(struct str name) {
    for (size_t i = 0; i < ARRAY_LEN(arch_names); i++)
        if (str_eq_c(name, arch_names[i]))
            return true;
    return false;
}

static int parse_action(const struct json *v, const struct json *errno_ret, uint32_t *out, struct error *err) {
    static const struct {
        const char *name;
        uint32_t ret;
    } actions[] = {
        {"SCMP_ACT_ALLOW", SECCOMP_RET_ALLOW},
        {"SCMP_ACT_ERRNO", SECCOMP_RET_ERRNO},
        {"SCMP_ACT_KILL", SECCOMP_RET_KILL},
        {"SCMP_ACT_KILL_THREAD", SECCOMP_RET_KILL},
        {"SCMP_ACT_KILL_PROCESS", SECCOMP_RET_KILL_PROCESS},
        {"SCMP_ACT_TRAP", SECCOMP_RET_TRAP},
        {"SCMP_ACT_LOG", SECCOMP_RET_LOG},
        {"SCMP_ACT_TRACE", SECCOMP_RET_TRACE},
    };
    struct str name = json_as_str(v);
    int64_t code = json_as_int(errno_ret, EPERM);
    if (code < 0 || code > 4095)
        return error_set(err, -EINVAL, "seccomp profile: errnoRet must be 0 to 4095, not %lld", (long long)code);
    for (size_t i = 0; i < ARRAY_LEN(actions); i++) {
        if (!str_eq_c(name, actions[i].name))
            continue;
        uint32_t ret = actions[i].ret;
        *out = ret == SECCOMP_RET_ERRNO || ret == SECCOMP_RET_TRACE ? ret | (uint32_t)code : ret;
        return 0;
    }
    return error_set(err, -EINVAL, "seccomp profile: action \"%.*s\" is not known", STR_ARG(name));
}

static int parse_cond(const struct json *v, struct seccomp_cond *out, struct error *err) {
    static const struct {
        const char *name;
        enum seccomp_op op;
    } ops[] = {{"SCMP_CMP_NE", SECCOMP_NE},
               {"SCMP_CMP_LT", SECCOMP_LT},
               {"SCMP_CMP_LE", SECCOMP_LE},
               {"SCMP_CMP_EQ", SECCOMP_EQ},
               {"SCMP_CMP_GE", SECCOMP_GE},
               {"SCMP_CMP_GT", SECCOMP_GT},
               {"SCMP_CMP_MASKED_EQ", SECCOMP_MASKED_EQ}};
    int64_t index = json_int_at(v, "index", -1);
    if (index < 0 || index > 5)
        return error_set(err, -EINVAL, "seccomp profile: an argument's index must be 0 to 5");
    struct str op = json_str_at(v, "op");
    uint64_t value = (uint64_t)json_int_at(v, "value", 0), value_two = (uint64_t)json_int_at(v, "valueTwo", 0);
    for (size_t i = 0; i < ARRAY_LEN(ops); i++) {
        if (!str_eq_c(op, ops[i].name))
            continue;
        *out = (struct seccomp_cond){.arg = (uint8_t)index, .op = (uint8_t)ops[i].op, .value = value};
        if (ops[i].op == SECCOMP_MASKED_EQ) { /* value is the mask, valueTwo what must remain */
            out->mask = value;
            out->value = value_two & value;
        }
        return 0;
    }
    return error_set(err, -EINVAL, "seccomp profile: operator \"%.*s\" is not known", STR_ARG(op));
}

/* Docker's conditions on a group of system calls: all of includes, none of excludes. */
static bool group_applies(const struct json *group, uint64_t caps) {
    static const char *const lists[] = {"includes", "excludes"};
    for (int exclude = 0; exclude < 2; exclude++) {
        const struct json *cond = json_get_c(group, lists[exclude]);
        const struct json *need = json_get_c(cond, "caps"), *arches = json_get_c(cond, "arches");
        for (size_t i = 0; i < json_len(need); i++)
            if (holds_capability(json_as_str(json_item(need, i)), caps) == (exclude == 1))
                return false;
        bool here = false;
        for (size_t i = 0; i < json_len(arches); i++)
            here = here || is_this_arch(json_as_str(json_item(arches, i)));
        if (json_len(arches) && here == (exclude == 1))
            return false;
    }
    return true;
}

static int add_rule(struct seccomp_rules *out, const struct seccomp_rule *r, struct error *err) {
    if (out->rules.n >= RULES_MAX)
        return error_set(err, -E2BIG, "seccomp profile: more than %d rules", RULES_MAX);
    vec_push(&out->rules, *r);
    return 0;
}

/* Conditions on one argument twice are alternatives (as runc reads them), else all must hold. */
static int add_with_args(struct seccomp_rules *out, struct seccomp_rule r, const struct json *args, struct error *err) {
    unsigned seen = 0;
    bool alternatives = false;
    if (json_len(args) > ARRAY_LEN(r.conds))
        return error_set(err, -E2BIG, "seccomp profile: more than 6 conditions on %s", r.name);
    for (size_t i = 0; i < json_len(args); i++) {
        int rc = parse_cond(json_item(args, i), &r.conds[i], err);
        if (rc < 0)
            return rc;
        alternatives = alternatives || (seen >> r.conds[i].arg & 1);
        seen |= 1u << r.conds[i].arg;
    }
    r.conds_n = (uint32_t)json_len(args);
    if (!alternatives)
        return add_rule(out, &r, err);
    for (size_t i = 0; i < json_len(args); i++) {
        struct seccomp_rule one = r;
        one.conds[0] = r.conds[i];
        one.conds_n = 1;
        int rc = add_rule(out, &one, err);
        if (rc < 0)
            return rc;
    }
    return 0;
}

static int parse_group(struct seccomp_rules *out, const struct json *group, uint64_t caps, struct error *err) {
    struct seccomp_rule r = {0};
    int rc = parse_action(json_get_c(group, "action"), json_get_c(group, "errnoRet"), &r.action, err);
    if (rc < 0 || !group_applies(group, caps))
        return rc;
    const struct json *names = json_get_c(group, "names"), *args = json_get_c(group, "args");
    size_t n = json_len(names);
    for (size_t i = 0; i < (n ? n : 1); i++) {
        struct str name = n ? json_as_str(json_item(names, i)) : json_str_at(group, "name"); /* name: the older form */
        r.name = seccomp_syscall_name(name);
        if (r.name && (rc = add_with_args(out, r, args, err)) < 0)
            return rc;
    }
    return 0;
}

int seccomp_compile_json(struct str text, uint64_t caps, struct buf *out, struct error *err) {
    if (text.n > PROFILE_BYTES_MAX)
        return error_set(err, -E2BIG, "seccomp profile: larger than 1 MiB");
    cleanup_arena struct arena *a = arena_new(0, MiB(64));
    struct json_limits limits = {.depth = 16, .nodes = 200000};
    struct json *doc = json_parse(a, text, &limits, err);
    if (!doc)
        return error_wrap(err, "seccomp profile");
    if (!json_is(doc, JSON_OBJECT))
        return error_set(err, -EINVAL, "seccomp profile: not an object");
    struct seccomp_rules rules = {0};
    int rc =
        parse_action(json_get_c(doc, "defaultAction"), json_get_c(doc, "defaultErrnoRet"), &rules.default_action, err);
    const struct json *groups = json_get_c(doc, "syscalls");
    for (size_t i = 0; rc == 0 && i < json_len(groups); i++)
        rc = parse_group(&rules, json_item(groups, i), caps, err);
    if (rc == 0)
        rc = seccomp_generate(&rules, out, err);
    vec_fini(&rules.rules);
    return rc;
}
