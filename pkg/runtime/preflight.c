#include "runtime/preflight.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <linux/capability.h>
#include <linux/if_link.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/rtnetlink.h>

#include "net/netlink.h"
#include "runtime/cgroup.h"
#include "runtime/sysx.h"

struct results {
    struct preflight_check *out;
    size_t n, max;
};

static void set_text(char *out, size_t size, const char *fmt, va_list ap) {
    vsnprintf(out, size, fmt, ap);
}

static struct preflight_check *add(struct results *r, const char *name, enum preflight_result result, const char *fmt,
                                   ...) PRINTF_LIKE(4, 5);
static struct preflight_check *add(struct results *r, const char *name, enum preflight_result result, const char *fmt,
                                   ...) {
    static struct preflight_check beyond;
    struct preflight_check *c = r->n < r->max ? &r->out[r->n++] : &beyond;
    va_list ap;
    *c = (struct preflight_check){.name = name, .result = result};
    va_start(ap, fmt);
    set_text(c->detail, sizeof(c->detail), fmt, ap);
    va_end(ap);
    return c;
}

static void remedy(struct preflight_check *c, const char *fmt, ...) PRINTF_LIKE(2, 3);
static void remedy(struct preflight_check *c, const char *fmt, ...) {
    va_list ap;
    if (c->result == PREFLIGHT_OK)
        return;
    va_start(ap, fmt);
    set_text(c->remedy, sizeof(c->remedy), fmt, ap);
    va_end(ap);
}

static bool read_number(const char *path, int64_t *out) {
    struct buf text = {.limit = 256};
    bool ok = file_read(path, &text, NULL) == 0 && str_to_i64(str_trim(buf_str(&text)), out);
    buf_fini(&text);
    return ok;
}

/* --- the kernel itself --------------------------------------------------------------------------------------------- */

static void check_kernel(struct results *r) {
    struct utsname u;
    uname(&u);
    bool ok = x_mount_setattr(-1, 0, 0, 0) == 0 || errno != ENOSYS;
    remedy(add(r, "kernel", ok ? PREFLIGHT_OK : PREFLIGHT_FAIL, "Linux %.40s on %.20s%s", u.release, u.machine,
               ok ? "" : ": 5.12 or later is needed (mount_setattr)"),
           "install a newer kernel: apt install linux-image-generic (or the distribution's current one)");
    ok = geteuid() == 0;
    remedy(add(r, "root", ok ? PREFLIGHT_OK : PREFLIGHT_FAIL, "user %u", (unsigned)geteuid()),
           "run it as root: sudo dory ...");
    bool resource = prctl(PR_CAPBSET_READ, CAP_SYS_RESOURCE, 0, 0, 0) == 1;
    remedy(add(r, "capabilities", resource ? PREFLIGHT_OK : PREFLIGHT_WARN, "%s",
               resource ? "CAP_SYS_RESOURCE is there"
                        : "no CAP_SYS_RESOURCE: OOM scores cannot be lowered, nor limits raised"),
           "run it outside a container, or give that one CAP_SYS_RESOURCE");
}

static void check_namespaces(struct results *r) {
    static const char *const names[] = {"cgroup", "ipc", "mnt", "net", "pid", "uts"};
    char missing[64] = "", path[64];
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        snprintf(path, sizeof(path), "/proc/self/ns/%s", names[i]);
        if (access(path, F_OK) < 0) {
            size_t n = strlen(missing);
            snprintf(missing + n, sizeof(missing) - n, "%s%s", n ? ", " : "", names[i]);
        }
    }
    remedy(add(r, "namespaces", missing[0] ? PREFLIGHT_FAIL : PREFLIGHT_OK, "%s%s",
               missing[0] ? "missing: " : "all six", missing),
           "use a kernel with CONFIG_NAMESPACES and its children set");
    bool ok = access("/proc/sys/kernel/seccomp/actions_avail", F_OK) == 0;
    remedy(add(r, "seccomp", ok ? PREFLIGHT_OK : PREFLIGHT_FAIL, "%s", ok ? "filters available" : "no filters"),
           "use a kernel with CONFIG_SECCOMP_FILTER=y");
}

/* A file system type; asking for it loads its module. */
static bool have_fs(const char *type) {
    int fd = x_fsopen(type);
    if (fd >= 0)
        close(fd);
    return fd >= 0;
}

static void check_file_systems(struct results *r) {
    bool ok = have_fs("overlay");
    remedy(add(r, "overlayfs", ok ? PREFLIGHT_OK : PREFLIGHT_FAIL, "%s", ok ? "available" : "not in this kernel"),
           "modprobe overlay && echo overlay > /etc/modules-load.d/dory.conf");
    ok = have_fs("mqueue");
    remedy(add(r, "posix message queues", ok ? PREFLIGHT_OK : PREFLIGHT_WARN, "%s",
               ok ? "available" : "not in this kernel: containers have no /dev/mqueue"),
           "use a kernel with CONFIG_POSIX_MQUEUE=y where it is needed");
}

/* --- cgroups ------------------------------------------------------------------------------------------------------- */

static void memory_remedy(struct preflight_check *c) {
    static const char *const files[] = {"/boot/firmware/cmdline.txt", "/boot/cmdline.txt"};
    for (size_t i = 0; i < ARRAY_LEN(files); i++)
        if (access(files[i], F_OK) == 0) {
            remedy(c, "add `cgroup_enable=memory cgroup_memory=1` to the end of the line in %s, then reboot", files[i]);
            return;
        }
    remedy(c,
           "boot with `cgroup_enable=memory` (in /etc/default/grub: GRUB_CMDLINE_LINUX, then update-grub), and reboot");
}

static void check_cgroups(struct results *r) {
    static const struct {
        const char *name;
        uint32_t bit;
        enum preflight_result otherwise;
    } needed[] = {{"cgroup cpu", CGROUP_CPU, PREFLIGHT_FAIL},
                  {"cgroup memory", CGROUP_MEMORY, PREFLIGHT_FAIL},
                  {"cgroup pids", CGROUP_PIDS, PREFLIGHT_FAIL},
                  {"cgroup cpuset", CGROUP_CPUSET, PREFLIGHT_WARN}};
    struct cgroup_layout l = {0};
    struct buf text = {.limit = MiB(8)};
    if (file_read("/proc/self/mountinfo", &text, NULL) == 0)
        cgroup_parse_mountinfo(buf_str(&text), &l);
    buf_fini(&text);
    for (size_t i = 0; i < l.n; i++) {
        char path[160];
        struct buf have = {.limit = 4096};
        snprintf(path, sizeof(path), "%s/cgroup.controllers", l.h[i].mount);
        if (l.h[i].is_v2 && file_read(path, &have, NULL) == 0)
            for (struct str rest = str_trim(buf_str(&have)); rest.p;) {
                struct str c = str_split(&rest, ' ');
                for (size_t k = 0; k < ARRAY_LEN(needed); k++)
                    if (str_eq_c(c, needed[k].name + 7))
                        l.h[i].controllers |= needed[k].bit;
            }
        buf_fini(&have);
    }
    const struct cgroup_hierarchy *v2 = cgroup_v2(&l);
    bool pure = v2 && l.n == 1;
    remedy(add(r, "cgroups", l.n ? PREFLIGHT_OK : PREFLIGHT_FAIL, "%s",
               !l.n   ? "none mounted"
               : pure ? "v2"
               : v2   ? "v1 and v2"
                      : "v1"),
           "mount -t cgroup2 none /sys/fs/cgroup");
    for (size_t i = 0; i < ARRAY_LEN(needed); i++) {
        const struct cgroup_hierarchy *h = cgroup_with(&l, needed[i].bit);
        struct preflight_check *c = add(r, needed[i].name, h ? PREFLIGHT_OK : needed[i].otherwise, "%s",
                                        h ? h->mount : "the controller is off");
        if (needed[i].bit == CGROUP_MEMORY)
            memory_remedy(c);
        else
            remedy(c, "use a kernel with the %s controller, and do not disable it (cgroup_disable=)",
                   needed[i].name + 7);
    }
    int program = v2 ? cgroup_device_program() : -ENOSYS;
    if (program >= 0)
        close(program);
    bool ok = program >= 0 || cgroup_with(&l, CGROUP_DEVICES);
    remedy(add(r, "cgroup devices", ok ? PREFLIGHT_OK : PREFLIGHT_FAIL, "%s",
               program >= 0 ? "by BPF"
               : ok         ? "by the v1 controller"
                            : "neither BPF nor v1"),
           "use a kernel with CONFIG_CGROUP_BPF=y");
}

/* --- network ------------------------------------------------------------------------------------------------------- */

struct link_probe {
    int bridge, veth, vxlan, nftables; /* 0, or negative */
};

static int probe_vxlan(struct nl_socket *s) {
    struct nl_msg m;
    struct ifinfomsg head = {.ifi_family = AF_UNSPEC};
    nl_msg_init(&m, KiB(4));
    nl_msg_begin(&m, RTM_NEWLINK, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL, &head, sizeof(head));
    nl_put_str(&m, IFLA_IFNAME, "probe-vx");
    nl_nest_begin(&m, IFLA_LINKINFO);
    nl_put_str(&m, IFLA_INFO_KIND, "vxlan");
    nl_nest_begin(&m, IFLA_INFO_DATA);
    nl_put_u32(&m, IFLA_VXLAN_ID, 1);
    nl_put_be16(&m, IFLA_VXLAN_PORT, 8472);
    nl_nest_end(&m);
    nl_nest_end(&m);
    nl_msg_end(&m);
    int rc = nl_request(s, &m, NULL, NULL, NULL);
    nl_msg_fini(&m);
    return rc;
}

static int probe_nftables(void) {
    struct nl_socket s;
    struct nl_msg m;
    struct nfgenmsg head = {.nfgen_family = AF_UNSPEC, .version = NFNETLINK_V0};
    int rc = nl_open(&s, NETLINK_NETFILTER, NULL);
    if (rc < 0)
        return rc;
    nl_msg_init(&m, KiB(1));
    nl_msg_begin(&m, NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_GETGEN, NLM_F_ACK, &head, sizeof(head));
    nl_msg_end(&m);
    rc = nl_request(&s, &m, NULL, NULL, NULL);
    nl_msg_fini(&m);
    nl_close(&s);
    return rc;
}

/* In a network namespace of this thread alone, which goes with it. */
static void *probe_links(void *arg) {
    static const unsigned char mac[6] = {2, 0, 0, 0, 0, 1};
    struct link_probe *p = arg;
    struct nl_socket s;
    int rc = unshare(CLONE_NEWNET) < 0 ? -errno : nl_open(&s, NETLINK_ROUTE, NULL);
    if (rc < 0) {
        *p = (struct link_probe){rc, rc, rc, rc};
        return NULL;
    }
    cleanup_close int ns = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
    p->bridge = nl_bridge_add(&s, "probe-br", mac, 1500, NULL);
    p->veth = nl_veth_add(&s, "probe-h", "probe-p", ns, mac, 1500, NULL);
    p->vxlan = probe_vxlan(&s);
    p->nftables = probe_nftables();
    nl_close(&s);
    return NULL;
}

static void check_links(struct results *r) {
    struct link_probe p = {-EPERM, -EPERM, -EPERM, -EPERM};
    pthread_t thread;
    if (pthread_create(&thread, NULL, probe_links, &p) == 0)
        pthread_join(thread, NULL);
    const struct {
        const char *name, *module;
        int rc;
        enum preflight_result otherwise;
    } all[] = {{"nftables", "nf_tables", p.nftables, PREFLIGHT_FAIL},
               {"bridge", "bridge", p.bridge, PREFLIGHT_FAIL},
               {"veth", "veth", p.veth, PREFLIGHT_FAIL},
               {"vxlan", "vxlan", p.vxlan, PREFLIGHT_WARN}};
    for (size_t i = 0; i < ARRAY_LEN(all); i++)
        remedy(add(r, all[i].name, all[i].rc == 0 ? PREFLIGHT_OK : all[i].otherwise, "%s",
                   all[i].rc == 0 ? "works" : strerror(-all[i].rc)),
               "modprobe %s && echo %s >> /etc/modules-load.d/dory.conf", all[i].module, all[i].module);
}

static void check_sysctls(struct results *r) {
    static const struct {
        const char *name, *path, *remedy;
        int64_t least;
        enum preflight_result otherwise;
    } all[] = {
        {"br_netfilter", "/proc/sys/net/bridge/bridge-nf-call-iptables",
         "modprobe br_netfilter && sysctl -w net.bridge.bridge-nf-call-iptables=1", 1, PREFLIGHT_FAIL},
        {"ip_forward", "/proc/sys/net/ipv4/ip_forward", "sysctl -w net.ipv4.ip_forward=1 (the server does it itself)",
         1, PREFLIGHT_WARN},
        {"conntrack", "/proc/sys/net/netfilter/nf_conntrack_max", "modprobe nf_conntrack", 1, PREFLIGHT_FAIL},
        {"inotify instances", "/proc/sys/fs/inotify/max_user_instances",
         "sysctl -w fs.inotify.max_user_instances=8192 (and in /etc/sysctl.d/)", 512, PREFLIGHT_WARN},
        {"inotify watches", "/proc/sys/fs/inotify/max_user_watches",
         "sysctl -w fs.inotify.max_user_watches=524288 (and in /etc/sysctl.d/)", 8192, PREFLIGHT_WARN},
    };
    for (size_t i = 0; i < ARRAY_LEN(all); i++) {
        int64_t v = 0;
        bool there = read_number(all[i].path, &v);
        struct preflight_check *c =
            add(r, all[i].name, there && v >= all[i].least ? PREFLIGHT_OK : all[i].otherwise, "%s%s %lld", all[i].path,
                there ? " is" : " is missing; wanted at least", (long long)(there ? v : all[i].least));
        remedy(c, "%s", all[i].remedy);
    }
}

size_t preflight_run(struct preflight_check *out, size_t max) {
    struct results r = {out, 0, max};
    check_kernel(&r);
    check_namespaces(&r);
    check_file_systems(&r);
    check_cgroups(&r);
    check_links(&r);
    check_sysctls(&r);
    return r.n;
}
