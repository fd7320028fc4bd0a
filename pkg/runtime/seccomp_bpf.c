/* From rules to BPF: per architecture a binary search over runs of system call numbers with the same answer. */
#include <errno.h>
#include <linux/audit.h>
#include <linux/seccomp.h>
#include <stdlib.h>

#include "runtime/seccomp.h"

#ifndef AUDIT_ARCH_RISCV64
#define AUDIT_ARCH_RISCV64 (243 | __AUDIT_ARCH_64BIT | __AUDIT_ARCH_LE)
#endif
#ifndef SECCOMP_RET_KILL_PROCESS
#define SECCOMP_RET_KILL_PROCESS 0x80000000U
#endif

#if defined(__x86_64__)
#define SYSCALL(name, x64, x86, a64, arm, rv) {name, {x64, x86}},
static const uint32_t audit_arch[] = {AUDIT_ARCH_X86_64, AUDIT_ARCH_I386};
#elif defined(__aarch64__)
#define SYSCALL(name, x64, x86, a64, arm, rv) {name, {a64, arm}},
static const uint32_t audit_arch[] = {AUDIT_ARCH_AARCH64, AUDIT_ARCH_ARM};
#elif defined(__arm__)
#define SYSCALL(name, x64, x86, a64, arm, rv) {name, {arm, -1}},
static const uint32_t audit_arch[] = {AUDIT_ARCH_ARM};
#elif defined(__riscv) && __riscv_xlen == 64
#define SYSCALL(name, x64, x86, a64, arm, rv) {name, {rv, -1}},
static const uint32_t audit_arch[] = {AUDIT_ARCH_RISCV64};
#else
#error "seccomp: no system call table for this architecture"
#endif

struct syscall_entry {
    const char *name;
    int32_t nr[2];
};
static const struct syscall_entry syscalls[] = {
#include "runtime/syscall_table.h"
};
#undef SYSCALL

#define X32_BIT 0x40000000u /* x86_64: the x32 convention's numbers */
#define PRIVATE_NR 0xf0000  /* arm: its own calls begin here */
#define RET_ENOSYS (SECCOMP_RET_ERRNO | ENOSYS)

static int compare_name(const void *key, const void *entry) {
    const struct str *s = key;
    return str_cmp(*s, str_c(((const struct syscall_entry *)entry)->name));
}

static const struct syscall_entry *find_syscall(struct str name) {
    return bsearch(&name, syscalls, ARRAY_LEN(syscalls), sizeof(syscalls[0]), compare_name);
}

const char *seccomp_syscall_name(struct str name) {
    const struct syscall_entry *e = find_syscall(name);
    return e ? e->name : NULL;
}

bool seccomp_syscall_known(struct str name) {
    return find_syscall(name) != NULL;
}

/* A run of numbers from `start` up to the next run. rules_n > 0: rules decide, else the action holds. */
struct segment {
    uint32_t start, action;
    size_t rules_at, rules_n; /* in struct generator's `order` */
};

struct numbered {
    uint32_t nr;
    size_t rule; /* index into the rules, so that sorting keeps their order */
};

struct generator {
    const struct seccomp_rules *rules;
    VEC(struct numbered) order;
    VEC(struct segment) segments;
    VEC(struct sock_filter) code;
};

static void put(struct generator *g, uint16_t code, uint32_t k, uint8_t jt, uint8_t jf) {
    struct sock_filter f = {code, jt, jf, k};
    vec_push(&g->code, f);
}

#define LOAD (BPF_LD | BPF_W | BPF_ABS)
#define JUMP(op) (BPF_JMP | (op) | BPF_K)
#define FAIL 254 /* in jt or jf: to the end of this rule, patched when it is known */

static uint32_t arg_lo(int arg) {
    return (uint32_t)offsetof(struct seccomp_data, args) + (uint32_t)arg * 8; /* little endian, all four */
}

/* One condition: falls through when it holds. Both halves of the argument are compared. */
static void put_cond(struct generator *g, const struct seccomp_cond *c) {
    uint32_t lo = arg_lo(c->arg), hi = lo + 4, vlo = (uint32_t)c->value, vhi = (uint32_t)(c->value >> 32);
    switch ((enum seccomp_op)c->op) {
    case SECCOMP_EQ:
        put(g, LOAD, hi, 0, 0);
        put(g, JUMP(BPF_JEQ), vhi, 0, FAIL);
        put(g, LOAD, lo, 0, 0);
        put(g, JUMP(BPF_JEQ), vlo, 0, FAIL);
        break;
    case SECCOMP_NE:
        put(g, LOAD, hi, 0, 0);
        put(g, JUMP(BPF_JEQ), vhi, 0, 2);
        put(g, LOAD, lo, 0, 0);
        put(g, JUMP(BPF_JEQ), vlo, FAIL, 0);
        break;
    case SECCOMP_NE_32:
        put(g, LOAD, lo, 0, 0);
        put(g, JUMP(BPF_JEQ), vlo, FAIL, 0);
        break;
    case SECCOMP_GT:
    case SECCOMP_GE:
        put(g, LOAD, hi, 0, 0);
        put(g, JUMP(BPF_JGT), vhi, 3, 0);
        put(g, JUMP(BPF_JEQ), vhi, 0, FAIL);
        put(g, LOAD, lo, 0, 0);
        put(g, JUMP(c->op == SECCOMP_GT ? BPF_JGT : BPF_JGE), vlo, 0, FAIL);
        break;
    case SECCOMP_LT:
    case SECCOMP_LE:
        put(g, LOAD, hi, 0, 0);
        put(g, JUMP(BPF_JGT), vhi, FAIL, 0);
        put(g, JUMP(BPF_JEQ), vhi, 0, 2);
        put(g, LOAD, lo, 0, 0);
        put(g, JUMP(c->op == SECCOMP_LT ? BPF_JGE : BPF_JGT), vlo, FAIL, 0);
        break;
    case SECCOMP_MASKED_EQ:
        put(g, LOAD, hi, 0, 0);
        put(g, BPF_ALU | BPF_AND | BPF_K, (uint32_t)(c->mask >> 32), 0, 0);
        put(g, JUMP(BPF_JEQ), vhi, 0, FAIL);
        put(g, LOAD, lo, 0, 0);
        put(g, BPF_ALU | BPF_AND | BPF_K, (uint32_t)c->mask, 0, 0);
        put(g, JUMP(BPF_JEQ), vlo, 0, FAIL);
        break;
    }
}

static void put_leaf(struct generator *g, const struct segment *s) {
    for (size_t i = 0; i < s->rules_n; i++) {
        const struct seccomp_rule *r = &g->rules->rules.items[g->order.items[s->rules_at + i].rule];
        size_t from = g->code.n;
        for (uint32_t c = 0; c < r->conds_n; c++)
            put_cond(g, &r->conds[c]);
        put(g, BPF_RET | BPF_K, r->action, 0, 0);
        for (size_t at = from; at < g->code.n; at++) { /* six conditions at most: the distance fits */
            struct sock_filter *f = &g->code.items[at];
            if (BPF_CLASS(f->code) != BPF_JMP)
                continue;
            if (f->jt == FAIL)
                f->jt = (uint8_t)(g->code.n - at - 1);
            if (f->jf == FAIL)
                f->jf = (uint8_t)(g->code.n - at - 1);
        }
        if (r->conds_n == 0)
            return;
    }
    put(g, BPF_RET | BPF_K, s->action, 0, 0);
}

static void put_tree(struct generator *g, size_t from, size_t to) {
    if (to - from == 1) {
        put_leaf(g, &g->segments.items[from]);
        return;
    }
    size_t mid = from + (to - from) / 2, at = g->code.n;
    put(g, JUMP(BPF_JGE), g->segments.items[mid].start, 0, 0);
    put_tree(g, from, mid);
    size_t left = g->code.n - at - 1;
    if (left <= 255) {
        g->code.items[at].jt = (uint8_t)left;
    } else { /* too far for a conditional jump: step over or onto a long one */
        put(g, 0, 0, 0, 0);
        memmove(&g->code.items[at + 2], &g->code.items[at + 1], left * sizeof(g->code.items[0]));
        g->code.items[at].jf = 1;
        g->code.items[at + 1] = (struct sock_filter){BPF_JMP | BPF_JA, 0, 0, (uint32_t)left};
    }
    put_tree(g, mid, to);
}

static void add_segment(struct generator *g, struct segment s) {
    if (g->segments.n && g->segments.items[g->segments.n - 1].start == s.start)
        g->segments.n--;
    if (g->segments.n) {
        struct segment *last = &g->segments.items[g->segments.n - 1];
        if (!last->rules_n && !s.rules_n && last->action == s.action)
            return;
    }
    vec_push(&g->segments, s);
}

static int compare_numbered(const void *a, const void *b) {
    const struct numbered *x = a, *y = b;
    if (x->nr != y->nr)
        return x->nr < y->nr ? -1 : 1;
    return x->rule < y->rule ? -1 : x->rule > y->rule;
}

/* An unconditional rule answers alone, as libseccomp has it, wherever it stands. */
static struct segment segment_of(const struct generator *g, size_t at, size_t n) {
    const struct seccomp_rule *rules = g->rules->rules.items;
    for (size_t i = at; i < at + n; i++)
        if (rules[g->order.items[i].rule].conds_n == 0)
            return (struct segment){g->order.items[at].nr, rules[g->order.items[i].rule].action, 0, 0};
    return (struct segment){g->order.items[at].nr, g->rules->default_action, at, n};
}

static void build_segments(struct generator *g, int arch) {
    uint32_t newest = 0;
    g->order.n = g->segments.n = 0;
    for (size_t i = 0; i < ARRAY_LEN(syscalls); i++)
        if (syscalls[i].nr[arch] >= 0 && syscalls[i].nr[arch] < PRIVATE_NR)
            newest = MAX(newest, (uint32_t)syscalls[i].nr[arch]);
    for (size_t i = 0; i < g->rules->rules.n; i++) {
        const struct syscall_entry *e = find_syscall(str_c(g->rules->rules.items[i].name));
        if (!e || e->nr[arch] < 0)
            continue;
        struct numbered n = {(uint32_t)e->nr[arch], i};
        vec_push(&g->order, n);
    }
    if (g->order.n)
        qsort(g->order.items, g->order.n, sizeof(g->order.items[0]), compare_numbered);
    uint32_t otherwise = g->rules->default_action;
    uint32_t unknown = (otherwise & SECCOMP_RET_ACTION_FULL) == SECCOMP_RET_ERRNO ? RET_ENOSYS : otherwise;
    bool past = false;
    add_segment(g, (struct segment){0, otherwise, 0, 0});
    for (size_t i = 0; i < g->order.n;) {
        size_t n = 1;
        while (i + n < g->order.n && g->order.items[i + n].nr == g->order.items[i].nr)
            n++;
        uint32_t nr = g->order.items[i].nr;
        if (nr > newest && !past) {
            add_segment(g, (struct segment){newest + 1, unknown, 0, 0});
            past = true;
        }
        add_segment(g, segment_of(g, i, n));
        add_segment(g, (struct segment){nr + 1, nr >= newest ? unknown : otherwise, 0, 0});
        past = past || nr == newest;
        i += n;
    }
    if (!past)
        add_segment(g, (struct segment){newest + 1, unknown, 0, 0});
    if (audit_arch[arch] == AUDIT_ARCH_X86_64)
        add_segment(g, (struct segment){X32_BIT, RET_ENOSYS, 0, 0});
}

int seccomp_generate(const struct seccomp_rules *rules, struct buf *out, struct error *err) {
    struct generator g = {.rules = rules};
    put(&g, LOAD, offsetof(struct seccomp_data, arch), 0, 0);
    for (int arch = 0; arch < (int)ARRAY_LEN(audit_arch); arch++) {
        build_segments(&g, arch);
        put(&g, JUMP(BPF_JEQ), audit_arch[arch], 1, 0);
        size_t skip = g.code.n;
        put(&g, BPF_JMP | BPF_JA, 0, 0, 0);
        put(&g, LOAD, offsetof(struct seccomp_data, nr), 0, 0);
        put_tree(&g, 0, g.segments.n);
        g.code.items[skip].k = (uint32_t)(g.code.n - skip - 1);
    }
    put(&g, BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS, 0, 0);
    int rc = 0;
    if (g.code.n > BPF_MAXINSNS)
        rc = error_set(err, -E2BIG, "seccomp profile: %zu instructions, the kernel takes %d", g.code.n, BPF_MAXINSNS);
    else
        buf_put(out, g.code.items, g.code.n * sizeof(g.code.items[0]));
    if (rc == 0 && out->failed)
        rc = error_set(err, -ENOMEM, "seccomp profile: out of memory");
    vec_fini(&g.code);
    vec_fini(&g.order);
    vec_fini(&g.segments);
    return rc;
}
