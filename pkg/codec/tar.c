/* The tar parser's machine: cuts pushed bytes into headers, contents and padding. */
#include "codec/tar.h"

#include <stdlib.h>

#include "codec/tar_private.h"

#define NAME_DEFAULT 4095
#define HEADER_DEFAULT MiB(1)
#define XATTRS_DEFAULT 64
#define HEADER_COST 64 /* of an extended header beside its contents: empty ones add up too */
#define ENTRIES_DEFAULT 4000000
#define CONTENTS_DEFAULT (UINT64_C(64) << 30)

enum state { AT_HEADER, IN_CONTENTS, IN_EXTENDED, IN_PADDING, AT_END };

struct tar {
    struct tar_handler handler;
    struct tar_limits limits;
    void *arg;
    int failed;
    enum state state;
    uint64_t at, header_at; /* offsets in the archive: now, and of the last header */
    unsigned char block[TAR_BLOCK_BYTES];
    size_t n_block;
    uint64_t left;   /* of the contents or the extended header */
    size_t padding;  /* behind them, up to a whole block */
    bool zero_block; /* the first of the two end blocks was seen */
    uint64_t entries, contents;
    /* of the entry that is read */
    struct arena *arena;
    struct tar_extended ext;
    bool has_ext;
    enum tar_block_kind ext_kind;
    char *ext_text; /* in the arena */
    size_t ext_n, ext_total;
};

/* --- handler calls ----------------------------------------------------------------------------------------------- */

static struct arena *entry_arena(struct tar *t) {
    if (!t->arena) /* texts are copied at most twice; names and attributes come on top */
        t->arena = arena_new(0, 3 * t->limits.header_bytes + t->limits.xattrs * sizeof(struct tar_xattr) + KiB(64));
    return t->arena;
}

static void forget_entry(struct tar *t) {
    arena_free(t->arena);
    t->arena = NULL;
    t->ext = (struct tar_extended){0};
    t->has_ext = false;
    t->ext_total = 0;
}

static int end_entry(struct tar *t, struct error *err) {
    int rc = t->handler.end ? t->handler.end(t->arg, err) : 0;
    forget_entry(t);
    return rc;
}

static int fail(struct tar *t, int code, struct error *err, const char *what) {
    return error_set(err, code, "tar: header at offset %llu: %s", (unsigned long long)t->header_at, what);
}

/* Puts the offset before a message of the header functions. */
static int at_header(const struct tar *t, int rc, const struct error *why, struct error *err) {
    return error_set(err, rc, "tar: header at offset %llu: %s", (unsigned long long)t->header_at, why->msg);
}

/* --- headers ----------------------------------------------------------------------------------------------------- */

static void expect(struct tar *t, enum state state, uint64_t size) {
    t->state = state;
    t->left = size;
    t->padding = (size_t)(-size & (TAR_BLOCK_BYTES - 1));
}

static int begin_entry(struct tar *t, struct error *err) {
    struct tar_entry e;
    struct error why = {0};
    int rc = tar_parse_entry(t->block, &t->ext, &t->limits, entry_arena(t), &e, &why);
    if (rc)
        return at_header(t, rc, &why, err);
    if (e.type != TAR_FILE)
        e.size = 0; /* some writers put the target's size into a link's header; no contents follow */
    if (t->entries == t->limits.entries)
        return fail(t, -E2BIG, err, "the archive has too many entries");
    if (e.size > t->limits.contents_bytes - t->contents)
        return fail(t, -E2BIG, err, "the files of the archive are too large");
    t->entries++;
    t->contents += e.size;
    if (t->handler.entry && (rc = t->handler.entry(t->arg, &e, err)))
        return rc;
    if (e.size) {
        expect(t, IN_CONTENTS, e.size);
        return 0;
    }
    return end_entry(t, err);
}

static int begin_extended(struct tar *t, enum tar_block_kind kind, uint64_t size, struct error *err) {
    size_t room = t->limits.header_bytes - t->ext_total;
    if (room < HEADER_COST || size > room - HEADER_COST)
        return fail(t, -E2BIG, err, "the extended headers are too large");
    t->ext_total += (size_t)size + HEADER_COST;
    t->ext_kind = kind;
    t->ext_n = 0;
    t->has_ext |= kind != TAR_BLOCK_PAX_GLOBAL;
    t->ext_text = arena_alloc(entry_arena(t), (size_t)size + 1);
    expect(t, IN_EXTENDED, size);
    return 0;
}

static int end_extended(struct tar *t, struct error *err) {
    bool global = t->ext_kind == TAR_BLOCK_PAX_GLOBAL;
    struct tar_extended ignored = {0};
    struct error why = {0};
    struct str name = str_n(t->ext_text, strnlen(t->ext_text, t->ext_n));
    int rc = 0;
    if (t->ext_kind == TAR_BLOCK_LONG_PATH)
        t->ext.long_path = name.n ? name : STR_NULL;
    else if (t->ext_kind == TAR_BLOCK_LONG_LINK)
        t->ext.long_link = name.n ? name : STR_NULL;
    else
        rc = tar_parse_pax(t->ext_text, t->ext_n, &t->limits, global ? NULL : t->arena, global ? &ignored : &t->ext,
                           &why);
    if (global && !t->has_ext)
        forget_entry(t);
    return rc ? at_header(t, rc, &why, err) : 0;
}

static int see_header(struct tar *t, struct error *err) {
    struct error why = {0};
    uint64_t size = 0;
    int kind = tar_block_kind(t->block, &size, &why);
    if (kind < 0)
        return at_header(t, kind, &why, err);
    if (kind == TAR_BLOCK_ZERO) {
        if (t->has_ext)
            return fail(t, -EINVAL, err, "an extended header has no entry");
        t->state = t->zero_block ? AT_END : AT_HEADER;
        t->zero_block = true;
        return 0;
    }
    if (t->zero_block)
        return fail(t, -EINVAL, err, "a lone zero block stands before it");
    return kind == TAR_BLOCK_ENTRY ? begin_entry(t, err) : begin_extended(t, (enum tar_block_kind)kind, size, err);
}

/* --- pushed bytes ------------------------------------------------------------------------------------------------ */

static struct str take(struct tar *t, struct str *bytes, uint64_t most) {
    struct str piece = str_n(bytes->p, (size_t)MIN((uint64_t)bytes->n, most));
    *bytes = str_skip(*bytes, piece.n);
    t->at += piece.n;
    return piece;
}

static int push_header(struct tar *t, struct str *bytes, struct error *err) {
    if (t->n_block == 0)
        t->header_at = t->at;
    struct str piece = take(t, bytes, TAR_BLOCK_BYTES - t->n_block);
    memcpy(t->block + t->n_block, piece.p, piece.n);
    t->n_block += piece.n;
    if (t->n_block < TAR_BLOCK_BYTES)
        return 0;
    t->n_block = 0;
    return see_header(t, err);
}

static int push_contents(struct tar *t, struct str *bytes, struct error *err) {
    struct str piece = take(t, bytes, t->left);
    int rc = t->handler.data ? t->handler.data(t->arg, piece, err) : 0;
    t->left -= piece.n;
    if (rc || t->left)
        return rc;
    t->state = IN_PADDING;
    return end_entry(t, err);
}

static int push_extended(struct tar *t, struct str *bytes, struct error *err) {
    struct str piece = take(t, bytes, t->left);
    if (piece.n)
        memcpy(t->ext_text + t->ext_n, piece.p, piece.n);
    t->ext_n += piece.n;
    t->left -= piece.n;
    if (t->left)
        return 0;
    t->state = IN_PADDING;
    return end_extended(t, err);
}

static int push_padding(struct tar *t, struct str *bytes, struct error *err) {
    t->padding -= take(t, bytes, t->padding).n;
    if (t->padding == 0)
        t->state = AT_HEADER;
    return 0;
}

static int push_end(struct tar *t, struct str *bytes, struct error *err) {
    take(t, bytes, bytes->n);
    return 0;
}

int tar_push(struct tar *t, struct str bytes, struct error *err) {
    static int (*const steps[])(struct tar * t, struct str * bytes, struct error * err) = {
        [AT_HEADER] = push_header,   [IN_CONTENTS] = push_contents, [IN_EXTENDED] = push_extended,
        [IN_PADDING] = push_padding, [AT_END] = push_end,
    };
    if (t->failed)
        return error_set(err, t->failed, "the archive has failed before");
    while (bytes.n && !t->failed)
        t->failed = steps[t->state](t, &bytes, err);
    return t->failed;
}

int tar_end(struct tar *t, struct error *err) {
    if (t->failed)
        return error_set(err, t->failed, "the archive has failed before");
    bool between = t->state == AT_HEADER && t->n_block == 0 && !t->has_ext;
    bool padding = t->state == IN_PADDING && !t->has_ext;
    bool empty_ext = t->state == IN_EXTENDED && t->left == 0 && t->ext_kind == TAR_BLOCK_PAX_GLOBAL;
    if (between || padding || empty_ext || t->state == AT_END)
        return 0;
    t->failed = error_set(err, -EINVAL, "tar: the archive ends early, at offset %llu", (unsigned long long)t->at);
    return t->failed;
}

/* --- life cycle -------------------------------------------------------------------------------------------------- */

struct tar *tar_new(const struct tar_handler *handler, const struct tar_limits *limits, void *arg) {
    struct tar *t = XNEW(struct tar);
    t->handler = *handler;
    t->arg = arg;
    if (limits)
        t->limits = *limits;
    if (!t->limits.name_bytes)
        t->limits.name_bytes = NAME_DEFAULT;
    if (!t->limits.header_bytes)
        t->limits.header_bytes = HEADER_DEFAULT;
    if (!t->limits.xattrs)
        t->limits.xattrs = XATTRS_DEFAULT;
    if (!t->limits.entries)
        t->limits.entries = ENTRIES_DEFAULT;
    if (!t->limits.contents_bytes)
        t->limits.contents_bytes = CONTENTS_DEFAULT;
    return t;
}

void tar_free(struct tar *t) {
    if (!t)
        return;
    arena_free(t->arena);
    free(t);
}

uint64_t tar_entries(const struct tar *t) {
    return t->entries;
}
