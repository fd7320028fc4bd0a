/* The last steps: who the process is, what it may do, and which program it becomes. */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "runtime/init.h"
#include "runtime/sysx.h"

#define OPEN_FILES 1048576 /* what containerd's unit gives a container */

static void set_limits(void) {
    struct rlimit r;
    if (getrlimit(RLIMIT_NOFILE, &r) < 0)
        return;
    struct rlimit want = {OPEN_FILES, OPEN_FILES};
    if (r.rlim_max < OPEN_FILES && setrlimit(RLIMIT_NOFILE, &want) == 0)
        return;
    want.rlim_cur = want.rlim_max = MIN(r.rlim_max, (rlim_t)OPEN_FILES); /* raising it takes CAP_SYS_RESOURCE */
    setrlimit(RLIMIT_NOFILE, &want);
}

static void install_seccomp(struct init *in) {
    const struct str *code = &in->spec->seccomp;
    if (code->n == 0)
        return;
    struct sock_fprog prog = {(unsigned short)(code->n / sizeof(struct sock_filter)),
                              (struct sock_filter *)(uintptr_t)code->p};
    if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &prog) < 0)
        init_fail(in, -errno, "installing the seccomp filter: %s", strerror(errno));
}

/* What is asked for and this machine's own bounding set allows. The inheritable and ambient sets stay empty. */
static uint64_t limit_bounding_set(struct init *in, uint64_t wanted) {
    uint64_t have = 0;
    for (int cap = 0; cap < 64; cap++) {
        int r = prctl(PR_CAPBSET_READ, cap, 0, 0, 0);
        if (r < 0)
            break;
        if (r && wanted >> cap & 1)
            have |= 1ull << cap;
        else if (r && prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) < 0)
            init_fail(in, -errno, "dropping capability %d: %s", cap, strerror(errno));
    }
    return have;
}

static void set_capabilities(struct init *in, uint64_t caps) {
    struct __user_cap_header_struct head = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct data[2] = {{(uint32_t)caps, (uint32_t)caps, 0},
                                             {(uint32_t)(caps >> 32), (uint32_t)(caps >> 32), 0}};
    if (syscall(SYS_capset, &head, data) < 0)
        init_fail(in, -errno, "setting capabilities: %s", strerror(errno));
    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
}

void process_identity(struct init *in, const struct user_ids *user) {
    bool no_new_privs = in->spec->flags & SPEC_NO_NEW_PRIVS;
    gid_t groups[USER_GROUPS_MAX];
    struct init_report runs = {.kind = INIT_RUNS};
    init_report(in, &runs, -1); /* now, for the filter may forbid it later */
    for (size_t i = 0; i < user->groups_n; i++)
        groups[i] = user->groups[i];
    set_limits();
    if (!no_new_privs)
        install_seccomp(in); /* needs CAP_SYS_ADMIN, so now or never */
    uint64_t caps = limit_bounding_set(in, in->spec->capabilities);
    if (setgroups(user->groups_n, groups) < 0 || setresgid(user->gid, user->gid, user->gid) < 0 ||
        setresuid(user->uid, user->uid, user->uid) < 0)
        init_fail(in, -errno, "becoming user %u:%u: %s", user->uid, user->gid, strerror(errno));
    if (user->uid == 0)
        set_capabilities(in, caps);
    else
        set_capabilities(in, 0); /* exec would take them from another user anyway */
    if (no_new_privs) {
        if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
            init_fail(in, -errno, "no_new_privs: %s", strerror(errno));
        install_seccomp(in);
    }
}

static bool is_executable(const char *path, int *why) {
    struct stat st;
    if (stat(path, &st) < 0)
        *why = errno;
    else if (S_ISDIR(st.st_mode))
        *why = EISDIR;
    else if (faccessat(AT_FDCWD, path, X_OK, AT_EACCESS) < 0 && errno == EACCES)
        *why = EACCES;
    else
        return true;
    return false;
}

/* As Go's exec.LookPath, whose words users know: found and runnable, or the reason. */
static const char *look_path(struct init *in, const char *name, const struct strv *envp, char path[PATH_MAX]) {
    int why = 0;
    if (strchr(name, '/')) {
        if (is_executable(name, &why))
            return name;
        if (why == EACCES || why == EISDIR)
            init_fail(in, -EACCES, "exec: \"%s\": %s", name, why == EISDIR ? "is a directory" : "permission denied");
        char reason[64];
        snprintf(reason, sizeof(reason), "%s", strerror(why));
        if (reason[0] >= 'A' && reason[0] <= 'Z')
            reason[0] = (char)(reason[0] + 'a' - 'A');
        init_fail(in, -why, "exec: \"%s\": stat %s: %s", name, name, reason);
    }
    struct str rest = {"", 0};
    for (size_t i = 0; i < envp->n; i++)
        if (strncmp(envp->v[i], "PATH=", 5) == 0)
            rest = str_c(envp->v[i] + 5);
    while (name[0] && rest.p) {
        struct str dir = str_split(&rest, ':');
        int n = snprintf(path, PATH_MAX, "%.*s%s%s", STR_ARG(dir), dir.n ? "/" : "./", name);
        if (n > 0 && n < PATH_MAX && is_executable(path, &why))
            return path;
    }
    init_fail(in, -ENOENT, "exec: \"%s\": executable file not found in $PATH", name);
}

void process_exec(struct init *in, const struct strv *argv, const struct strv *envp) {
    char path[PATH_MAX];
    if (argv->n == 0)
        init_fail(in, -EINVAL, "no command specified");
    const char *program = look_path(in, argv->v[0], envp, path);
    execve(program, (char *const *)(uintptr_t)argv->v, (char *const *)(uintptr_t)envp->v);
    int code = errno;
    const char *reason = code == ENOEXEC  ? "exec format error"
                         : code == ENOENT ? "no such file or directory"
                         : code == EACCES ? "permission denied"
                         : code == E2BIG  ? "argument list too long"
                                          : strerror(code);
    init_fail(in, -code, "exec %s: %s", program, reason);
}
