#include "runtime/init.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <termios.h>

#include "runtime/rootfs.h"
#include "runtime/sysx.h"

/* --- telling the monitor ------------------------------------------------------------------------------------------- */

void init_report(struct init *in, struct init_report *r, int fd) {
    union {
        char bytes[CMSG_SPACE(sizeof(int))];
        struct cmsghdr align;
    } control;
    struct iovec iov = {r, sizeof(*r)};
    struct msghdr h = {.msg_iov = &iov, .msg_iovlen = 1};
    if (fd >= 0) {
        memset(&control, 0, sizeof(control));
        h.msg_control = control.bytes;
        h.msg_controllen = sizeof(control.bytes);
        struct cmsghdr *c = CMSG_FIRSTHDR(&h);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(c), &fd, sizeof(int));
    }
    if (sendmsg(in->report, &h, MSG_NOSIGNAL) < 0)
        _exit(1); /* the monitor is gone */
}

void init_fail(struct init *in, int code, const char *fmt, ...) {
    struct init_report r = {.kind = INIT_FAILED, .code = code < 0 ? code : -EIO};
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(r.text, sizeof(r.text), fmt, ap);
    va_end(ap);
    init_report(in, &r, -1);
    _exit(1);
}

void init_warn(struct init *in, const char *fmt, ...) {
    struct init_report r = {.kind = INIT_WARNING};
    if (in->warned)
        return;
    in->warned = true;
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(r.text, sizeof(r.text), fmt, ap);
    va_end(ap);
    init_report(in, &r, -1);
}

void *init_memory(struct init *in, size_t n) {
    void *p = malloc(n ? n : 1); /* never freed: the process becomes another program */
    if (!p)
        init_fail(in, -ENOMEM, "out of memory");
    memset(p, 0, n);
    return p;
}

/* --- steps --------------------------------------------------------------------------------------------------------- */

/* Lowering it needs CAP_SYS_RESOURCE, which a node in a container may lack: then the container runs with the server's. */
static void set_oom_score(struct init *in) {
    char text[16];
    int n = snprintf(text, sizeof(text), "%d", (int)in->spec->oom_score_adj);
    int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
    if (fd < 0 || !rootfs_is_type(fd, ROOTFS_PROC) || write(fd, text, (size_t)n) < 0)
        init_warn(in, "oom_score_adj %s cannot be set: %s", text, strerror(errno));
    if (fd >= 0)
        close(fd);
}

static void wait_for_groups(struct init *in) {
    struct init_report r;
    ssize_t n;
    if (!in->wait_joined)
        return;
    do
        n = recv(in->report, &r, sizeof(r), 0);
    while (n < 0 && errno == EINTR);
    if (n != sizeof(r) || r.kind != INIT_JOINED)
        _exit(1);
}

/* Standard input, output and error; the socket to the monitor becomes 3; all else is closed for good. */
static void settle_descriptors(struct init *in) {
    int from[3];
    for (int i = 0; i < 3; i++) {
        int fd = in->stdio[i] >= 0 ? in->stdio[i] : in->console >= 0 ? in->console : in->null;
        from[i] = fcntl(fd, F_DUPFD_CLOEXEC, 10); /* out of the way of 0..3 */
        if (from[i] < 0)
            init_fail(in, -errno, "standard streams: %s", strerror(errno));
    }
    int report = fcntl(in->report, F_DUPFD_CLOEXEC, 10);
    if (report < 0)
        init_fail(in, -errno, "standard streams: %s", strerror(errno));
    if (dup2(from[0], 0) < 0 || dup2(from[1], 1) < 0 || dup2(from[2], 2) < 0 || dup3(report, 3, O_CLOEXEC) < 0)
        _exit(1);
    in->report = 3;
    if (x_close_range(4, ~0u) < 0)
        init_fail(in, -errno, "closing descriptors: %s", strerror(errno));
}

/* The user may reopen its own standard streams through /dev/stdout. */
static void own_streams(struct init *in, uint32_t uid) {
    struct stat st;
    for (int i = 0; i < 3; i++)
        if (fstat(i, &st) == 0 && st.st_uid != uid &&
            (S_ISFIFO(st.st_mode) || (in->console >= 0 && S_ISCHR(st.st_mode) && isatty(i))))
            if (fchown(i, uid, (gid_t)-1) < 0)
                init_warn(in, "standard streams cannot be given to user %u: %s", uid, strerror(errno));
}

/* By descriptor, inside the root, no magic links; then the kernel's own word that it is inside. */
static void enter_cwd(struct init *in) {
    const char *path = in->spec->cwd.n ? in->spec->cwd.p : "/";
    char real[PATH_MAX];
    int fd = rootfs_make(in, path, true);
    if (fd < 0)
        init_fail(in, fd, "working directory \"%s\": %s", path, strerror(-fd));
    if (fchdir(fd) < 0)
        init_fail(in, -errno, "chdir to cwd (\"%s\") set in config.json failed: %s", path, strerror(errno));
    close(fd);
    if (syscall(SYS_getcwd, real, sizeof(real)) < 0 || real[0] != '/')
        init_fail(in, -EPERM, "the working directory \"%s\" is outside the container", path);
}

static void reset_signals(void) {
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

static bool env_has(const struct strv *env, const char *key) {
    size_t n = strlen(key);
    for (size_t i = 0; i < env->n; i++)
        if (strncmp(env->v[i], key, n) == 0 && env->v[i][n] == '=')
            return true;
    return false;
}

static struct strv complete_env(struct init *in, const char *home, bool tty) {
    const struct strv *had = &in->spec->envp;
    struct strv env = {init_memory(in, (had->n + 4) * sizeof(char *)), 0};
    for (size_t i = 0; i < had->n; i++)
        env.v[env.n++] = had->v[i];
    if (!env_has(had, "PATH"))
        env.v[env.n++] = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    if (!env_has(had, "HOME")) {
        size_t n = strlen(home) + 6;
        char *p = init_memory(in, n);
        snprintf(p, n, "HOME=%s", home);
        env.v[env.n++] = p;
    }
    if (tty && !env_has(had, "TERM"))
        env.v[env.n++] = "TERM=xterm";
    return env;
}

static void take_terminal(struct init *in) {
    if (in->console >= 0 && ioctl(0, TIOCSCTTY, 0) < 0)
        init_fail(in, -errno, "taking the terminal: %s", strerror(errno));
}

static void begin(struct init *in) {
    in->dev = in->null = in->empty = in->console = in->host_dev = -1;
    setsid();
}

/* --- a container's first process ----------------------------------------------------------------------------------- */

static void resolve_user(struct init *in, struct user_ids *user) {
    const struct container_spec *c = in->spec;
    struct error err;
    int rc = user_resolve(c->user, c->uid, c->gid, c->flags & SPEC_MERGE_IMAGE_GROUPS, rootfs_read(in, "/etc/passwd"),
                          rootfs_read(in, "/etc/group"), user, &err);
    if (rc < 0)
        init_fail(in, rc, "%s", err.msg);
    for (size_t i = 0; i + sizeof(uint32_t) <= c->groups.n && user->groups_n < USER_GROUPS_MAX; i += sizeof(uint32_t))
        memcpy(&user->groups[user->groups_n++], c->groups.p + i, sizeof(uint32_t));
    struct init_report r = {.kind = INIT_USER, .user = *user};
    init_report(in, &r, -1);
}

void init_container(struct init *in) {
    bool tty = in->spec->flags & SPEC_TTY;
    struct user_ids user;
    begin(in);
    set_oom_score(in);
    rootfs_enter(in);
    rootfs_system(in);
    wait_for_groups(in);
    if (unshare(CLONE_NEWCGROUP) < 0)
        init_fail(in, -errno, "cgroup namespace: %s", strerror(errno));
    rootfs_cgroups(in);
    rootfs_volumes(in);
    if (tty)
        console_open(in, true);
    rootfs_finish(in);
    resolve_user(in, &user);
    /* /dev/null again, this time to read and write */
    int null = openat(in->dev, "null", O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    if (null < 0)
        init_fail(in, -errno, "/dev/null: %s", strerror(errno));
    in->null = null;
    settle_descriptors(in);
    take_terminal(in);
    own_streams(in, user.uid);
    enter_cwd(in);
    reset_signals();
    struct strv env = complete_env(in, user.home, tty);
    process_identity(in, &user);
    process_exec(in, &in->spec->argv, &env);
}

/* --- a process run in it later ------------------------------------------------------------------------------------- */

void init_exec(struct init *in, const struct strv *argv, bool tty) {
    struct user_ids user = {.uid = (uint32_t)in->user->uid, .gid = (uint32_t)in->user->gid};
    for (size_t i = 0; i + sizeof(uint32_t) <= in->user->groups.n && user.groups_n < USER_GROUPS_MAX;
         i += sizeof(uint32_t))
        memcpy(&user.groups[user.groups_n++], in->user->groups.p + i, sizeof(uint32_t));
    begin(in);
    set_oom_score(in);
    wait_for_groups(in);
    if (setns(in->target, CLONE_NEWNS | CLONE_NEWCGROUP) < 0)
        init_fail(in, errno == ESRCH ? -ESRCH : -errno, "joining the container's namespaces: %s", strerror(errno));
    if (tty)
        console_open(in, false);
    settle_descriptors(in);
    take_terminal(in);
    own_streams(in, user.uid);
    enter_cwd(in);
    reset_signals();
    struct strv env = complete_env(in, in->user->home.n ? in->user->home.p : "/", tty);
    process_identity(in, &user);
    process_exec(in, argv, &env);
}
