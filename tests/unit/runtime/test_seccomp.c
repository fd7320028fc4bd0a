/* Profiles: what the compiled program answers, found by running it as the kernel would. */
#include <errno.h>
#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/seccomp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>

#include <cmocka.h>

#ifndef SYS_settimeofday /* armv7 of musl names it by its width */
#define SYS_settimeofday 79
#endif

#include "runtime/seccomp.h"

#if defined(__x86_64__)
#define NATIVE AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define NATIVE AUDIT_ARCH_AARCH64
#elif defined(__arm__)
#define NATIVE AUDIT_ARCH_ARM
#else
#define NATIVE (243 | __AUDIT_ARCH_64BIT | __AUDIT_ARCH_LE)
#endif
#define DEFAULT_CAPS 0xa80425fbull
#define ALLOW SECCOMP_RET_ALLOW
#define NO (SECCOMP_RET_ERRNO | EPERM)
#define NOSYS (SECCOMP_RET_ERRNO | ENOSYS)

/* A BPF machine that fails the test on anything a kernel would refuse. */
static uint32_t run(const struct buf *code, uint32_t arch, uint32_t nr, uint64_t a0, uint64_t a1) {
    struct seccomp_data d = {.nr = (int)nr, .arch = arch, .args = {a0, a1}};
    const struct sock_filter *f = (const struct sock_filter *)(const void *)code->p;
    size_t n = code->n / sizeof(*f);
    uint32_t a = 0;
    for (size_t pc = 0;; pc++) {
        assert_true(pc < n);
        uint32_t k = f[pc].k;
        switch (f[pc].code) {
        case BPF_LD | BPF_W | BPF_ABS:
            assert_true(k % 4 == 0 && k + 4 <= sizeof(d));
            memcpy(&a, (const char *)&d + k, 4);
            break;
        case BPF_ALU | BPF_AND | BPF_K:
            a &= k;
            break;
        case BPF_JMP | BPF_JA:
            pc += k;
            break;
        case BPF_JMP | BPF_JEQ | BPF_K:
            pc += a == k ? f[pc].jt : f[pc].jf;
            break;
        case BPF_JMP | BPF_JGE | BPF_K:
            pc += a >= k ? f[pc].jt : f[pc].jf;
            break;
        case BPF_JMP | BPF_JGT | BPF_K:
            pc += a > k ? f[pc].jt : f[pc].jf;
            break;
        case BPF_RET | BPF_K:
            return k;
        default:
            fail_msg("instruction %#x", f[pc].code);
        }
    }
}

static void test_default(void **state) {
    struct buf code = {.limit = KiB(64)};
    struct error err;
    assert_int_equal(seccomp_compile_default(DEFAULT_CAPS, &code, &err), 0);
    printf("default profile: %zu instructions\n", code.n / sizeof(struct sock_filter));
    static const struct {
        uint32_t nr, want;
    } cases[] = {{SYS_read, ALLOW},
                 {SYS_write, ALLOW},
                 {SYS_openat, ALLOW},
                 {SYS_execve, ALLOW},
                 {SYS_exit_group, ALLOW},
                 {SYS_mount, NO},
                 {SYS_umount2, NO},
                 {SYS_setns, NO},
                 {SYS_unshare, NO},
                 {SYS_bpf, NO},
                 {SYS_reboot, NO},
                 {SYS_kexec_load, NO},
                 {SYS_init_module, NO},
                 {SYS_keyctl, NO},
                 {SYS_add_key, NO},
                 {SYS_userfaultfd, NO},
                 {SYS_chroot, ALLOW} /* has CAP_SYS_CHROOT */,
                 {SYS_ptrace, ALLOW},
                 {SYS_swapon, NO},
                 {425 /* io_uring_setup */, NO},
                 {435 /* clone3 */, NOSYS},
                 {439 /* faccessat2 */, ALLOW},
                 {437 /* openat2 */, ALLOW},
                 {428 /* open_tree */, NO},
                 {442 /* mount_setattr */, NO},
                 {462 /* mseal */, ALLOW},
                 {600, NOSYS},
                 {0x3fffffff, NOSYS},
                 {0xffffffff, NOSYS}};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        if (run(&code, NATIVE, cases[i].nr, 0, 0) != cases[i].want)
            fail_msg("%u: %#x, not %#x", cases[i].nr, run(&code, NATIVE, cases[i].nr, 0, 0), cases[i].want);
    assert_int_equal(run(&code, NATIVE, SYS_clone, 0x11, 0), ALLOW);
    assert_int_equal(run(&code, NATIVE, SYS_clone, 0x10000000 | 0x11, 0), NO); /* CLONE_NEWUSER */
    assert_int_equal(run(&code, NATIVE, SYS_clone, 0x20000, 0), NO);           /* CLONE_NEWNS */
    assert_int_equal(run(&code, NATIVE, SYS_socket, 2, 0), ALLOW);
    assert_int_equal(run(&code, NATIVE, SYS_socket, 40, 0), NO);
    assert_int_equal(run(&code, NATIVE, SYS_socket, 0x100000028ull, 0), NO); /* the kernel drops the upper half */
    assert_int_equal(run(&code, NATIVE, SYS_personality, 0, 0), ALLOW);
    assert_int_equal(run(&code, NATIVE, SYS_personality, 0xffffffff, 0), ALLOW);
    assert_int_equal(run(&code, NATIVE, SYS_personality, 0x0040000 /* ADDR_NO_RANDOMIZE */, 0), NO);
    assert_int_equal(run(&code, 0x12345678, 0, 0, 0), SECCOMP_RET_KILL_PROCESS);
#ifdef __x86_64__
    assert_int_equal(run(&code, AUDIT_ARCH_I386, 3, 0, 0), ALLOW); /* read */
    assert_int_equal(run(&code, AUDIT_ARCH_I386, 21, 0, 0), NO);   /* mount */
    assert_int_equal(run(&code, AUDIT_ARCH_I386, 120, 0x10000000, 0), NO);
    assert_int_equal(run(&code, NATIVE, 0x40000000 | SYS_read, 0, 0), NOSYS); /* x32 */
    assert_int_equal(run(&code, NATIVE, 0x40000000 | 165, 0, 0), NOSYS);
#endif
    struct buf more = {.limit = KiB(64)};
    assert_int_equal(seccomp_compile_default(1ull << CAP_SYS_ADMIN | 1ull << CAP_SYS_TIME, &more, &err), 0);
    assert_int_equal(run(&more, NATIVE, SYS_mount, 0, 0), ALLOW);
    assert_int_equal(run(&more, NATIVE, 435, 0, 0), ALLOW);
    assert_int_equal(run(&more, NATIVE, SYS_clone, 0x10000000, 0), ALLOW);
    assert_int_equal(run(&more, NATIVE, SYS_settimeofday, 0, 0), ALLOW);
    assert_int_equal(run(&more, NATIVE, SYS_chroot, 0, 0), NO);
    buf_fini(&code);
    buf_fini(&more);
}

/* Against the naive reading of the same rules, for every number there is. */
static void test_tree(void **state) {
    for (int round = 0; round < 50; round++) {
        struct seccomp_rules rules = {.default_action = round % 2 ? ALLOW : NO};
        uint32_t want[512];
        static const char *const names[] = {"read",  "write", "mount", "clone",   "getpid", "openat", "close",
                                            "ioctl", "mseal", "bpf",   "accept4", "setns",  "kill"};
        for (size_t i = 0; i < ARRAY_LEN(names); i++) {
            struct seccomp_rule r = {.name = names[i], .action = SECCOMP_RET_ERRNO | (uint32_t)(10 + i)};
            if ((round * 7 + (int)i * 3) % 4)
                vec_push(&rules.rules, r);
        }
        struct buf code = {.limit = KiB(64)};
        assert_int_equal(seccomp_generate(&rules, &code, NULL), 0);
        for (uint32_t nr = 0; nr < 512; nr++)
            want[nr] = run(&code, NATIVE, nr, 0, 0);
        for (size_t i = 0; i < rules.rules.n; i++) {
            size_t hits = 0;
            for (uint32_t nr = 0; nr < 512; nr++)
                hits += want[nr] == rules.rules.items[i].action;
            assert_int_equal(hits, 1);
        }
        buf_fini(&code);
        vec_fini(&rules.rules);
    }
}

static uint32_t with_cond(const char *op, const char *value, const char *two, uint64_t arg) {
    char text[512];
    struct buf code = {.limit = KiB(64)};
    struct error err;
    snprintf(
        text, sizeof(text),
        "{\"defaultAction\":\"SCMP_ACT_ERRNO\",\"syscalls\":[{\"names\":[\"read\"],\"action\":\"SCMP_ACT_ALLOW\",\"args\":[{\"index\":1,\"value\":%s,\"valueTwo\":%s,\"op\":"
        "\"%s\"}]}]}",
        value, two, op);
    if (seccomp_compile_json(str_c(text), 0, &code, &err) < 0)
        fail_msg("%s", err.msg);
    uint32_t r = run(&code, NATIVE, SYS_read, 0, arg);
    buf_fini(&code);
    return r;
}

static void test_operators(void **state) {
    static const uint64_t values[] = {
        0, 1, 2, 0xffffffff, 0x100000000ull, 0x100000001ull, 0x1ffffffffull, 0x7fffffffffffffffull};
    for (size_t i = 0; i < ARRAY_LEN(values); i++)
        for (size_t k = 0; k < ARRAY_LEN(values); k++) {
            char v[32];
            uint64_t x = values[k], y = values[i];
            snprintf(v, sizeof(v), "%llu", (unsigned long long)y);
            assert_int_equal(with_cond("SCMP_CMP_EQ", v, "0", x), x == y ? ALLOW : NO);
            assert_int_equal(with_cond("SCMP_CMP_NE", v, "0", x), x != y ? ALLOW : NO);
            assert_int_equal(with_cond("SCMP_CMP_LT", v, "0", x), x < y ? ALLOW : NO);
            assert_int_equal(with_cond("SCMP_CMP_LE", v, "0", x), x <= y ? ALLOW : NO);
            assert_int_equal(with_cond("SCMP_CMP_GT", v, "0", x), x > y ? ALLOW : NO);
            assert_int_equal(with_cond("SCMP_CMP_GE", v, "0", x), x >= y ? ALLOW : NO);
            assert_int_equal(with_cond("SCMP_CMP_MASKED_EQ", v, "1", x), (x & y) == (1 & y) ? ALLOW : NO);
        }
}

static void test_json(void **state) {
    static const char good[] =
        "{\"defaultAction\":\"SCMP_ACT_ERRNO\",\"defaultErrnoRet\":38,\"archMap\":[{\"architecture\":\"SCMP_ARCH_X86_64\",\"subArchitectures\":[]}],"
        "\"syscalls\":[{\"names\":[\"read\",\"unknown_call\"],\"action\":\"SCMP_ACT_ALLOW\"},"
        "{\"names\":[\"mount\"],\"action\":\"SCMP_ACT_ALLOW\",\"includes\":{\"caps\":[\"CAP_SYS_ADMIN\"]}},"
        "{\"names\":[\"setns\"],\"action\":\"SCMP_ACT_KILL_PROCESS\",\"excludes\":{\"caps\":[\"CAP_SYS_ADMIN\"]}},"
        "{\"names\":[\"close\"],\"action\":\"SCMP_ACT_ALLOW\",\"includes\":{\"arches\":[\"s390x\"]}},"
        "{\"names\":[\"kill\"],\"action\":\"SCMP_ACT_LOG\",\"args\":[{\"index\":0,\"value\":5,\"op\":\"SCMP_CMP_EQ\"},{\"index\":0,\"value\":6,\"op\":\"SCMP_CMP_EQ\"}]},"
        "{\"name\":\"getpid\",\"action\":\"SCMP_ACT_TRAP\"}]}";
    for (int admin = 0; admin < 2; admin++) {
        struct buf code = {.limit = KiB(64)};
        struct error err;
        assert_int_equal(seccomp_compile_json(str_c(good), admin ? 1ull << CAP_SYS_ADMIN : 0, &code, &err), 0);
        assert_int_equal(run(&code, NATIVE, SYS_read, 0, 0), ALLOW);
        assert_int_equal(run(&code, NATIVE, SYS_write, 0, 0), NOSYS);
        assert_int_equal(run(&code, NATIVE, SYS_mount, 0, 0), admin ? ALLOW : NOSYS);
        assert_int_equal(run(&code, NATIVE, SYS_setns, 0, 0), admin ? NOSYS : SECCOMP_RET_KILL_PROCESS);
        assert_int_equal(run(&code, NATIVE, SYS_close, 0, 0), NOSYS);
        assert_int_equal(run(&code, NATIVE, SYS_kill, 5, 0), 0x7ffc0000); /* LOG */
        assert_int_equal(run(&code, NATIVE, SYS_kill, 6, 0), 0x7ffc0000);
        assert_int_equal(run(&code, NATIVE, SYS_kill, 7, 0), NOSYS);
        assert_int_equal(run(&code, NATIVE, SYS_getpid, 0, 0), SECCOMP_RET_TRAP);
        buf_fini(&code);
    }
    static const char *const bad[] = {
        "",
        "[]",
        "{",
        "{}",
        "null",
        "{\"defaultAction\":\"SCMP_ACT_NOTIFY\"}",
        "{\"defaultAction\":7}",
        "{\"defaultAction\":\"SCMP_ACT_ERRNO\",\"defaultErrnoRet\":5000}",
        "{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"syscalls\":[{\"names\":[\"read\"]}]}",
        "{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"syscalls\":[{\"names\":[\"read\"],\"action\":\"SCMP_ACT_NOTIFY\"}]}",
        "{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"syscalls\":[{\"names\":[\"read\"],\"action\":\"SCMP_ACT_KILL\",\"args\":[{\"index\":6,\"op\":\"SCMP_CMP_EQ\"}]}]}",
        "{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"syscalls\":[{\"names\":[\"read\"],\"action\":\"SCMP_ACT_KILL\",\"args\":[{\"index\":0,\"op\":\"LIKE\"}]}]}"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct buf code = {.limit = KiB(64)};
        struct error err = {.code = 0};
        if (seccomp_compile_json(str_c(bad[i]), 0, &code, &err) >= 0)
            fail_msg("accepted: %s", bad[i]);
        assert_non_null(strstr(err.msg, "seccomp profile"));
        assert_int_equal(code.n, 0);
        buf_fini(&code);
    }
}

static void test_names(void **state) {
    static const char *const known[] = {"_llseek", "read", "zzz", "writev", "accept", "io_uring_setup"};
    static const bool is[] = {true, true, false, true, true, true};
    for (size_t i = 0; i < ARRAY_LEN(known); i++)
        assert_int_equal(seccomp_syscall_known(str_c(known[i])), is[i]);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_default), cmocka_unit_test(test_tree),
                                       cmocka_unit_test(test_operators), cmocka_unit_test(test_json),
                                       cmocka_unit_test(test_names)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
