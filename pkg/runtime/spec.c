#include "runtime/spec.h"

#include <errno.h>
#include <stddef.h>

enum kind { KIND_STR, KIND_BYTES, KIND_U64, KIND_FLAG, KIND_STRV, KIND_MOUNTS };

/* A tag is for ever: one that is no longer used is not given to another field. */
struct field {
    uint32_t tag;
    enum kind kind;
    size_t offset;
};

#define F(s, tag, kind, member) \
    { tag, kind, offsetof(struct s, member) }
#define CGROUP_FIELDS(s)                                                                     \
    F(s, 100, KIND_U64, cgroup.cpu_shares), F(s, 101, KIND_U64, cgroup.cpu_quota_us),        \
        F(s, 102, KIND_U64, cgroup.cpu_period_us), F(s, 103, KIND_U64, cgroup.memory_bytes), \
        F(s, 104, KIND_U64, cgroup.memory_request_bytes), F(s, 105, KIND_U64, cgroup.pids),  \
        F(s, 106, KIND_STR, cgroup.cpuset_cpus), F(s, 107, KIND_FLAG, cgroup.oom_group)

static const struct field container_fields[] = {
    F(container_spec, 1, KIND_STR, id),
    F(container_spec, 2, KIND_STR, name),
    F(container_spec, 3, KIND_BYTES, metadata),
    F(container_spec, 4, KIND_STR, image_id),
    F(container_spec, 5, KIND_STRV, layers),
    F(container_spec, 6, KIND_STRV, argv),
    F(container_spec, 7, KIND_STRV, envp),
    F(container_spec, 8, KIND_STR, cwd),
    F(container_spec, 9, KIND_STR, user),
    F(container_spec, 10, KIND_STR, log_path),
    F(container_spec, 11, KIND_U64, uid),
    F(container_spec, 12, KIND_U64, gid),
    F(container_spec, 13, KIND_BYTES, groups),
    F(container_spec, 14, KIND_U64, flags),
    F(container_spec, 15, KIND_U64, capabilities),
    F(container_spec, 16, KIND_BYTES, seccomp),
    F(container_spec, 17, KIND_U64, oom_score_adj),
    F(container_spec, 18, KIND_U64, stop_signal),
    F(container_spec, 19, KIND_U64, log_bytes_max),
    F(container_spec, 20, KIND_U64, log_files_max),
    F(container_spec, 21, KIND_MOUNTS, mounts),
    CGROUP_FIELDS(container_spec),
};

static const struct field sandbox_fields[] = {
    F(sandbox_spec, 1, KIND_STR, id),
    F(sandbox_spec, 2, KIND_STR, hostname),
    F(sandbox_spec, 3, KIND_STR, cgroup_parent),
    F(sandbox_spec, 4, KIND_STR, root_dir),
    F(sandbox_spec, 5, KIND_BYTES, cgroups),
    F(sandbox_spec, 6, KIND_U64, flags),
    F(sandbox_spec, 7, KIND_U64, shm_bytes),
    F(sandbox_spec, 8, KIND_STRV, sysctls),
    CGROUP_FIELDS(sandbox_spec),
};

static const struct field user_fields[] = {
    F(user_spec, 1, KIND_U64, uid),
    F(user_spec, 2, KIND_U64, gid),
    F(user_spec, 3, KIND_BYTES, groups),
    F(user_spec, 4, KIND_STR, home),
};

struct record {
    uint32_t tag, n;
};

struct mount_head { /* then source, NUL, destination */
    uint32_t flags, propagation;
    uint64_t tmpfs_bytes;
};

#define PAD8(n) (((n) + 7) & ~(size_t)7)

/* --- encoding ---------------------------------------------------------------------------------------------------- */

static void put_record(struct buf *out, uint32_t tag, const void *data, size_t n) {
    static const char zeros[8];
    struct record r = {tag, (uint32_t)n};
    buf_put(out, &r, sizeof(r));
    buf_put(out, data, n);
    buf_put(out, zeros, PAD8(n + 1) - n);
}

static void put_mount(struct buf *out, uint32_t tag, const struct spec_mount *m) {
    struct mount_head head = {m->flags, m->propagation, m->tmpfs_bytes};
    struct buf b = {.limit = SPEC_BYTES_MAX};
    buf_put(&b, &head, sizeof(head));
    buf_put(&b, m->source ? m->source : "", m->source ? strlen(m->source) + 1 : 1);
    buf_puts(&b, m->destination);
    put_record(out, tag, b.p, b.n);
    buf_fini(&b);
}

static void put_field(struct buf *out, const struct field *f, const void *member) {
    const struct str *s = member;
    const struct strv *v = member;
    const struct spec_mounts *mounts = member;
    uint64_t flag;
    switch (f->kind) {
    case KIND_STR:
    case KIND_BYTES:
        if (s->n)
            put_record(out, f->tag, s->p, s->n);
        break;
    case KIND_U64:
        put_record(out, f->tag, member, sizeof(uint64_t));
        break;
    case KIND_FLAG:
        flag = *(const bool *)member;
        put_record(out, f->tag, &flag, sizeof(flag));
        break;
    case KIND_STRV:
        for (size_t i = 0; i < v->n; i++)
            put_record(out, f->tag, v->v[i], strlen(v->v[i]));
        break;
    case KIND_MOUNTS:
        for (size_t i = 0; i < mounts->n; i++)
            put_mount(out, f->tag, &mounts->v[i]);
        break;
    }
}

static void encode(struct buf *out, const struct field *fields, size_t n, const void *spec) {
    for (size_t i = 0; i < n; i++)
        put_field(out, &fields[i], (const char *)spec + fields[i].offset);
}

void spec_encode_container(struct buf *out, const struct container_spec *s) {
    encode(out, container_fields, ARRAY_LEN(container_fields), s);
}
void spec_encode_sandbox(struct buf *out, const struct sandbox_spec *s) {
    encode(out, sandbox_fields, ARRAY_LEN(sandbox_fields), s);
}
void spec_encode_user(struct buf *out, const struct user_spec *s) {
    encode(out, user_fields, ARRAY_LEN(user_fields), s);
}

/* --- decoding ---------------------------------------------------------------------------------------------------- */

/* The next record at *at; false at the end or when it does not fit (*bad). */
static bool next_record(struct str text, size_t *at, struct record *r, const char **data, bool *bad) {
    if (*at == text.n)
        return false;
    *bad = true;
    if (text.n - *at < sizeof(*r))
        return false;
    memcpy(r, text.p + *at, sizeof(*r));
    size_t room = text.n - *at - sizeof(*r);
    if (r->n >= room || PAD8((size_t)r->n + 1) > room)
        return false;
    *data = text.p + *at + sizeof(*r);
    if ((*data)[r->n] != 0)
        return false;
    *at += sizeof(*r) + PAD8((size_t)r->n + 1);
    *bad = false;
    return true;
}

static void *take_memory(struct spec_memory *m, size_t n) {
    n = PAD8(n);
    if (n > m->left)
        return NULL;
    void *p = m->p;
    memset(p, 0, n);
    m->p += n;
    m->left -= n;
    return p;
}

static int take_mount(const char *data, size_t n, struct spec_mount *m) {
    struct mount_head head;
    if (n < sizeof(head))
        return -EBADMSG;
    memcpy(&head, data, sizeof(head));
    const char *source = data + sizeof(head), *end = data + n;
    const char *nul = memchr(source, 0, (size_t)(end - source));
    if (!nul || memchr(nul + 1, 0, (size_t)(end - nul - 1)))
        return -EBADMSG;
    *m = (struct spec_mount){source, nul + 1, head.flags, head.propagation, head.tmpfs_bytes};
    return 0;
}

/* One record into its field; lists have their room already. */
static int take_field(const struct field *f, const char *data, size_t n, void *member) {
    bool is_text = f->kind == KIND_STR || f->kind == KIND_STRV;
    if (is_text && memchr(data, 0, n))
        return -EBADMSG;
    uint64_t number = 0;
    if (f->kind == KIND_U64 || f->kind == KIND_FLAG) {
        if (n != sizeof(number))
            return -EBADMSG;
        memcpy(&number, data, sizeof(number));
    }
    struct strv *v = member;
    struct spec_mounts *mounts = member;
    switch (f->kind) {
    case KIND_STR:
    case KIND_BYTES:
        *(struct str *)member = (struct str){data, n};
        return 0;
    case KIND_U64:
        memcpy(member, &number, sizeof(number));
        return 0;
    case KIND_FLAG:
        *(bool *)member = number != 0;
        return 0;
    case KIND_STRV:
        v->v[v->n++] = data;
        return 0;
    case KIND_MOUNTS:
        return take_mount(data, n, &mounts->v[mounts->n++]);
    }
    return -EBADMSG;
}

/* Room for the lists, and defaults for what may be absent. */
static int prepare(const struct field *f, size_t count, struct spec_memory *mem, void *member) {
    struct strv *v = member;
    struct spec_mounts *mounts = member;
    switch (f->kind) {
    case KIND_STR:
    case KIND_BYTES:
        *(struct str *)member = (struct str){"", 0};
        return 0;
    case KIND_STRV:
        v->n = 0;
        v->v = take_memory(mem, (count + 1) * sizeof(*v->v));
        return v->v ? 0 : -EBADMSG;
    case KIND_MOUNTS:
        mounts->n = 0;
        mounts->v = take_memory(mem, (count + 1) * sizeof(*mounts->v));
        return mounts->v ? 0 : -EBADMSG;
    default:
        return 0;
    }
}

static int decode(struct str text, struct spec_memory *mem, const struct field *fields, size_t n, void *spec) {
    struct record r;
    const char *data = NULL;
    bool bad = false;
    if (text.n > SPEC_BYTES_MAX)
        return -EBADMSG;
    for (size_t i = 0; i < n; i++) {
        size_t count = 0;
        for (size_t at = 0;
             (fields[i].kind == KIND_STRV || fields[i].kind == KIND_MOUNTS) && next_record(text, &at, &r, &data, &bad);)
            count += r.tag == fields[i].tag;
        int rc = prepare(&fields[i], count, mem, (char *)spec + fields[i].offset);
        if (rc < 0)
            return rc;
    }
    for (size_t at = 0; next_record(text, &at, &r, &data, &bad);)
        for (size_t i = 0; i < n; i++) {
            if (fields[i].tag != r.tag)
                continue;
            int rc = take_field(&fields[i], data, r.n, (char *)spec + fields[i].offset);
            if (rc < 0)
                return rc;
        }
    return bad ? -EBADMSG : 0;
}

int spec_decode_container(struct str text, struct spec_memory *mem, struct container_spec *out) {
    *out = (struct container_spec){.uid = -1, .gid = -1};
    int rc = decode(text, mem, container_fields, ARRAY_LEN(container_fields), out);
    return rc == 0 && out->id.n == 0 ? -EBADMSG : rc;
}
int spec_decode_sandbox(struct str text, struct spec_memory *mem, struct sandbox_spec *out) {
    *out = (struct sandbox_spec){0};
    int rc = decode(text, mem, sandbox_fields, ARRAY_LEN(sandbox_fields), out);
    return rc == 0 && out->id.n == 0 ? -EBADMSG : rc;
}
int spec_decode_user(struct str text, struct spec_memory *mem, struct user_spec *out) {
    *out = (struct user_spec){0};
    return decode(text, mem, user_fields, ARRAY_LEN(user_fields), out);
}
