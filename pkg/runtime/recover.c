/* After a restart: the monitors that are found are adopted, and what is left of dead ones is taken away. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "runtime/runtime_priv.h"

#define ANSWER_TIMEOUT_MS 5000

/* One recovery; the state of all its sandboxes. It ends when each has answered, or is dead and cleaned. */
struct recovery {
    struct runtime *rt;
    loop_fn done;
    void *arg;
    unsigned waiting;
    struct timer deadline;
};

static struct recovery *current(struct sandbox *s) {
    return s->started_arg; /* free for this use: a sandbox that is found is not being started */
}

/* --- leftovers ----------------------------------------------------------------------------------------------------- */

struct leftover {
    struct recovery *recovery;
    struct runtime *rt;
    char *id, cgroup[CGROUP_PATH_MAX];
    int pidfd;
    struct error err;
    int code;
};

static void finish_if_last(struct recovery *r);

static void leftover_work(void *arg) {
    struct leftover *l = arg;
    l->code = sandbox_clean(l->rt, str_c(l->id), l->cgroup, l->pidfd, &l->err);
}

static void leftover_done(void *arg) {
    struct leftover *l = arg;
    if (!runtime_job_end(l->rt)) {
        if (l->code < 0)
            log_warn("runtime", "what is left of sandbox %s: %s", l->id, l->err.msg);
        l->recovery->waiting--;
        finish_if_last(l->recovery);
    }
    if (l->pidfd >= 0)
        close(l->pidfd);
    free(l->id);
    free(l);
}

static void clean_leftover(struct recovery *r, struct str id, const char *cgroup, int pidfd) {
    struct leftover *l = XNEW(struct leftover);
    *l = (struct leftover){.recovery = r, .rt = r->rt, .id = xstrndup(id.p, id.n), .pidfd = pidfd};
    snprintf(l->cgroup, sizeof(l->cgroup), "%s", cgroup);
    r->waiting++;
    runtime_job_begin(r->rt);
    loop_work(r->rt->loop, leftover_work, leftover_done, l);
}

static void give_up(struct sandbox *s) {
    struct recovery *r = current(s);
    log_warn("runtime", "sandbox %.*s: its monitor is gone, cleaning up", STR_ARG(s->id));
    clean_leftover(r, s->id, s->cgroup, s->pidfd);
    s->pidfd = -1;
    sandbox_free(s);
    r->waiting--;
    finish_if_last(r);
}

/* --- one sandbox --------------------------------------------------------------------------------------------------- */

/* Decodes a file of the state directory; *room is to be freed. */
static int read_state(struct runtime *rt, struct str id, const char *name, struct buf *text, struct spec_memory *mem,
                      char **room) {
    char path[STATE_PATH_MAX];
    snprintf(path, sizeof(path), "%s/%.*s/%s", rt->state_dir, STR_ARG(id), name);
    int rc = file_read(path, text, NULL);
    if (rc < 0)
        return rc;
    *room = xmalloc(SPEC_MEMORY(text->n));
    *mem = (struct spec_memory){*room, SPEC_MEMORY(text->n)};
    return 0;
}

static int load_sandbox(struct sandbox *s) {
    cleanup_buf struct buf text = {.limit = SPEC_BYTES_MAX}, metadata = {.limit = KiB(64)};
    cleanup_free char *room = NULL;
    struct spec_memory mem;
    struct sandbox_spec spec;
    char path[STATE_PATH_MAX];
    int rc = read_state(s->rt, s->id, "sandbox.spec", &text, &mem, &room);
    if (rc == 0)
        rc = spec_decode_sandbox(buf_str(&text), &mem, &spec);
    if (rc < 0)
        return rc;
    sandbox_set_cgroup(s, spec.cgroup_parent);
    s->flags = spec.flags;
    snprintf(path, sizeof(path), "%s/%.*s/metadata", s->rt->state_dir, STR_ARG(s->id));
    if (file_read(path, &metadata, NULL) == 0) {
        free((char *)(uintptr_t)s->metadata.p);
        s->metadata = str_take(buf_str(&metadata));
    }
    return 0;
}

static void load_container(struct container *c) {
    cleanup_buf struct buf text = {.limit = SPEC_BYTES_MAX};
    cleanup_free char *room = NULL;
    struct spec_memory mem;
    struct container_spec spec;
    char name[MONITOR_ID_MAX + 16];
    snprintf(name, sizeof(name), "%.*s.spec", STR_ARG(c->id));
    bool known = read_state(c->sandbox->rt, c->sandbox->id, name, &text, &mem, &room) == 0 &&
                 spec_decode_container(buf_str(&text), &mem, &spec) == 0;
    c->name = str_take(known ? spec.name : STR(""));
    c->metadata = str_take(known ? spec.metadata : STR(""));
    c->image_id = str_take(known ? spec.image_id : STR(""));
    c->stop_signal = known && spec.stop_signal > 0 && spec.stop_signal < 65 ? (int)spec.stop_signal : 15;
}

static void answered(struct sandbox *s) {
    if (!s->recovering || s->expected)
        return;
    struct recovery *r = current(s);
    sandbox_settle(s); /* the server may have died before it was */
    s->recovering = false;
    s->phase = SANDBOX_READY;
    s->started_arg = NULL;
    r->waiting--;
    finish_if_last(r);
}

void recover_welcome(struct sandbox *s, const struct monitor_message *m, int *fds, size_t fds_n) {
    s->expected = m->count;
    s->pid = m->pid;
    if (fds_n > 0 && s->pidfd < 0) {
        s->pidfd = fds[0];
        fds[0] = -1;
    }
    if (fds_n > 1 && s->netns < 0) {
        s->netns = fds[1];
        fds[1] = -1;
    }
    if (s->recovering && s->pidfd >= 0) { /* now that we hold its pidfd, watch it too */
        int sock = link_take_socket(s->link);
        s->link = link_open(s, sock, fcntl(s->pidfd, F_DUPFD_CLOEXEC, 3));
    }
    answered(s);
}

void recover_container(struct sandbox *s, const struct monitor_message *m, int *fds, size_t fds_n) {
    struct container *c = sandbox_find(s, m->id);
    if (s->expected)
        s->expected--;
    if (!c && runtime_id_is_valid(str_c(m->id))) {
        c = container_new(s, str_c(m->id));
        load_container(c);
        container_take_status(c, m);
    } else if (c && c->status.state == CONTAINER_RUNNING && m->state == CONTAINER_EXITED) {
        container_on_exited(s, m); /* it ended while we were not connected */
    }
    if (c && fds_n && c->pidfd < 0) {
        c->pidfd = fds[0];
        fds[0] = -1;
    }
    answered(s);
}

void recover_hangup(struct sandbox *s) {
    give_up(s);
}

static bool begin_one(struct recovery *r, struct str id) {
    struct runtime *rt = r->rt;
    struct sandbox *s = sandbox_new(rt, id);
    sandbox_set_cgroup(s, STR(""));
    int rc = load_sandbox(s);
    int fd = rc == 0 ? spawn_connect(rt->state_dir, id) : rc;
    struct monitor_message hello = {.type = MONITOR_HELLO};
    s->recovering = true;
    s->started_arg = r;
    r->waiting++;
    if (fd >= 0) {
        s->link = link_open(s, fd, -1);
        fd = link_send(s->link, &hello, STR_NULL, NULL, 0);
    }
    if (fd < 0)
        give_up(s);
    return fd >= 0;
}

/* --- all of them --------------------------------------------------------------------------------------------------- */

/* Specifications of containers that their monitor does not know: a start that a crash cut short. */
static void drop_unknown(struct sandbox *s) {
    char path[STATE_PATH_MAX], group[CGROUP_PATH_MAX * 2];
    snprintf(path, sizeof(path), "%s/%.*s", s->rt->state_dir, STR_ARG(s->id));
    DIR *d = opendir(path);
    if (!d)
        return;
    for (struct dirent *e; (e = readdir(d));) {
        struct str name = str_c(e->d_name);
        if (!str_ends(name, STR(".spec")) || str_eq_c(name, "sandbox.spec"))
            continue;
        char id[256];
        snprintf(id, sizeof(id), "%.*s", (int)name.n - 5, name.p);
        if (!runtime_id_is_valid(str_c(id)) || sandbox_find(s, id))
            continue;
        snprintf(group, sizeof(group), "%s/%s", s->cgroup, id);
        cgroup_remove(&s->rt->cgroups, group, NULL);
        snprintf(path, sizeof(path), "%s/%.*s/%s", s->rt->root_dir, STR_ARG(s->id), id);
        dir_remove_all(path, NULL);
        unlinkat(dirfd(d), e->d_name, 0);
    }
    closedir(d);
}

static void report(struct recovery *r) {
    struct runtime *rt = r->rt;
    timer_stop(&r->deadline);
    LIST_FOREACH (it, &rt->sandboxes) {
        struct sandbox *s = LIST_ITEM(it, struct sandbox, node);
        if (s->phase != SANDBOX_READY)
            continue;
        drop_unknown(s);
        if (rt->events.on_sandbox_found)
            rt->events.on_sandbox_found(rt->events.arg, s);
        for (struct container *c = NULL; rt->events.on_container_found && (c = sandbox_next(s, c));)
            rt->events.on_container_found(rt->events.arg, c);
    }
    if (r->done)
        r->done(r->arg);
    free(r);
}

static void finish_if_last(struct recovery *r) {
    if (r->waiting == 0)
        report(r);
}

static void on_deadline(void *arg) {
    struct recovery *r = arg;
    r->waiting++; /* not to end within the loop */
    LIST_FOREACH (it, &r->rt->sandboxes) {
        struct sandbox *s = LIST_ITEM(it, struct sandbox, node);
        if (s->recovering)
            give_up(s);
    }
    r->waiting--;
    finish_if_last(r);
}

/* After a reboot the state is gone (tmpfs), the writable layers are not. */
static void drop_layers(struct runtime *rt) {
    char path[STATE_PATH_MAX];
    DIR *d = opendir(rt->root_dir);
    if (!d)
        return;
    for (struct dirent *e; (e = readdir(d));) {
        if (!runtime_id_is_valid(str_c(e->d_name)) || map_get(&rt->by_id, str_c(e->d_name)))
            continue;
        snprintf(path, sizeof(path), "%s/%s", rt->root_dir, e->d_name);
        struct error err;
        if (dir_remove_all(path, &err) < 0)
            log_warn("runtime", "what is left of a container: %s", err.msg);
    }
    closedir(d);
}

static void begin(void *arg) {
    struct recovery *r = arg;
    DIR *d = opendir(r->rt->state_dir);
    for (struct dirent *e; d && (e = readdir(d));)
        if (runtime_id_is_valid(str_c(e->d_name)) && !map_get(&r->rt->by_id, str_c(e->d_name)))
            begin_one(r, str_c(e->d_name));
    if (d)
        closedir(d);
    drop_layers(r->rt);
    timer_set(&r->deadline, ANSWER_TIMEOUT_MS, 0);
    r->waiting--;
    finish_if_last(r);
}

void runtime_recover(struct runtime *rt, loop_fn done, void *arg) {
    struct recovery *r = XNEW(struct recovery);
    *r = (struct recovery){.rt = rt, .done = done, .arg = arg, .waiting = 1};
    timer_init(&r->deadline, rt->loop, on_deadline, r);
    loop_post(rt->loop, begin, r);
}
