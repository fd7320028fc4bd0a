#include "runtime/layer.h"

#include <limits.h>
#include <stdlib.h>
#include <unistd.h>

#include "net/pki.h"

#define BYTES_DEFAULT (UINT64_C(16) << 30)
#define ENTRIES_DEFAULT 1000000
#define SHOWN_MAX 120

struct layer {
    char *dir, *name;
    char want_digest[IMAGE_DIGEST_LEN + 1], want_diff_id[IMAGE_DIGEST_LEN + 1];
    uint64_t bytes_max;
    bool no_openat2;
    struct sha256_state *compressed, *plain;
    struct inflate *inflate;
    struct tar *tar;
    struct layer_fs *fs;
    struct tar_entry entry; /* the one being received; its strings are the parser's */
    int fd;
    uint64_t bytes;
    struct error corrupt; /* what is wrong with the contents; told at the end, unless the digest is wrong too */
};

/* The entry's path for a message: cut, and with what no terminal should see replaced. */
static void shown(struct str path, char out[SHOWN_MAX + 4]) {
    size_t n = MIN(path.n, SHOWN_MAX);
    for (size_t i = 0; i < n; i++)
        out[i] = (unsigned char)path.p[i] < ' ' || (unsigned char)path.p[i] >= 0x7f ? '?' : path.p[i];
    memcpy(out + n, path.n > n ? "..." : "", path.n > n ? 4 : 1);
}

static int entry_error(struct error *err, const struct tar_entry *e) {
    char path[SHOWN_MAX + 4];
    shown(e->path, path);
    return error_wrap(err, "entry \"%s\"", path);
}

static int on_entry(void *arg, const struct tar_entry *e, struct error *err) {
    struct layer *l = arg;
    struct error why = {0};
    l->entry = *e;
    l->fd = -1;
    int rc = layer_fs_entry(l->fs, e, &l->fd, &why);
    if (rc == 0)
        return 0;
    entry_error(&why, e);
    return error_set(err, rc, "%s", why.msg);
}

static int on_data(void *arg, struct str bytes, struct error *err) {
    struct layer *l = arg;
    l->bytes += bytes.n;
    int rc = l->fd < 0 ? 0 : fd_write_all(l->fd, bytes.p, bytes.n);
    if (rc == 0)
        return 0;
    struct error why = {0};
    error_sys(&why, rc, "writing");
    entry_error(&why, &l->entry);
    return error_set(err, rc, "%s", why.msg);
}

static int on_end(void *arg, struct error *err) {
    struct layer *l = arg;
    int fd = l->fd;
    l->fd = -1;
    struct error why = {0};
    int rc = fd < 0 ? 0 : layer_fs_file_end(l->fs, fd, &l->entry, &why);
    if (rc == 0)
        return 0;
    entry_error(&why, &l->entry);
    return error_set(err, rc, "%s", why.msg);
}

static int on_plain(void *arg, struct str bytes, struct error *err) {
    struct layer *l = arg;
    sha256_update(l->plain, bytes.p, bytes.n);
    return tar_push(l->tar, bytes, err);
}

static void keep_digest(char out[IMAGE_DIGEST_LEN + 1], struct str d) {
    if (d.n == IMAGE_DIGEST_LEN)
        memcpy(out, d.p, d.n);
}

struct layer *layer_new(const struct layer_options *o) {
    struct layer *l = XNEW(struct layer);
    l->dir = xstrdup(o->dir);
    l->name = xstrdup(o->name);
    keep_digest(l->want_digest, o->digest);
    keep_digest(l->want_diff_id, o->diff_id);
    l->bytes_max = o->bytes_max ? o->bytes_max : BYTES_DEFAULT;
    l->no_openat2 = o->no_openat2;
    l->fd = -1;
    uint32_t entries = o->entries_max ? o->entries_max : ENTRIES_DEFAULT;
    /* The archive around the contents: a header and padding an entry, extended headers now and then. */
    struct inflate_limits zl = {.output_bytes = l->bytes_max + (uint64_t)entries * 4096};
    struct tar_limits tl = {.entries = entries, .contents_bytes = l->bytes_max};
    static const struct tar_handler handler = {on_entry, on_data, on_end};
    l->compressed = sha256_new();
    l->plain = sha256_new();
    l->tar = tar_new(&handler, &tl, l);
    l->inflate = inflate_new(&zl, on_plain, l);
    return l;
}

static int start(struct layer *l, struct error *err) {
    if (l->fs)
        return 0;
    if (!l->inflate || !l->tar)
        return error_set(err, -ENOMEM, "layer %s: no memory to unpack it", l->name);
    l->fs = layer_fs_new(l->dir, l->no_openat2, err);
    return l->fs ? 0 : error_wrap(err, "layer %s", l->name);
}

int layer_push(struct layer *l, struct str bytes, struct error *err) {
    int rc = start(l, err);
    if (rc)
        return rc;
    struct error why = {0};
    sha256_update(l->compressed, bytes.p, bytes.n);
    if (l->corrupt.code)
        return 0;
    rc = inflate_push(l->inflate, bytes, &why);
    if (rc == -EINVAL && l->want_digest[0]) {
        l->corrupt = why;
        l->corrupt.code = rc;
        return 0;
    }
    return rc ? error_set(err, rc, "layer %s: %s", l->name, why.msg) : 0;
}

static void finish_digest(struct sha256_state **s, char out[IMAGE_DIGEST_LEN + 1]) {
    unsigned char sum[32];
    sha256_finish(TAKE_PTR(*s), sum);
    image_digest_text(sum, out);
}

static int check(const struct layer *l, const char *want, const char *have, const char *what, struct error *err) {
    if (!want[0] || strcmp(want, have) == 0)
        return 0;
    return error_set(err, -EBADMSG, "layer %s: %s mismatch: expected %s, content has %s", l->name, what, want, have);
}

int layer_end(struct layer *l, struct layer_result *out, struct error *err) {
    int rc = start(l, err);
    if (rc)
        return rc;
    struct layer_result r = {0};
    /* The digest first: bytes that are not the ones asked for are the better reason than what they decode to. */
    finish_digest(&l->compressed, r.digest);
    rc = check(l, l->want_digest, r.digest, "digest", err);
    if (rc)
        return rc;
    struct error why = l->corrupt;
    rc = why.code ? why.code : inflate_end(l->inflate, &why);
    if (rc == 0)
        rc = tar_end(l->tar, &why);
    if (rc)
        return error_set(err, rc, "layer %s: %s", l->name, why.msg);
    finish_digest(&l->plain, r.diff_id);
    if ((rc = check(l, l->want_diff_id, r.diff_id, "diff_id", err)))
        return rc;
    if ((rc = layer_fs_finish(l->fs, &r.implied, &why)))
        return error_set(err, rc, "layer %s: %s", l->name, why.msg);
    r.bytes = l->bytes;
    r.entries = (uint32_t)tar_entries(l->tar);
    *out = r;
    return 0;
}

static void drop_digest(struct sha256_state *s) {
    unsigned char sum[32];
    if (s)
        sha256_finish(s, sum);
}

void layer_free(struct layer *l) {
    if (!l)
        return;
    if (l->fd >= 0)
        close(l->fd);
    drop_digest(l->compressed);
    drop_digest(l->plain);
    inflate_free(l->inflate);
    tar_free(l->tar);
    layer_fs_free(l->fs);
    free(l->dir);
    free(l->name);
    free(l);
}
