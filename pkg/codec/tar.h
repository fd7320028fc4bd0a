/*
 * A push parser of tar archives as image layers are: v7, ustar (POSIX.1-1988), pax (POSIX.1-2001) and GNU long names
 * and base-256 numbers. Bytes are pushed in, in pieces of any size; for each entry the handler hears
 *
 *     entry(header)  data(bytes)...  end()
 *
 * before push returns; data() only for regular files with contents, its pieces together exactly entry->size bytes and
 * pointing into what was pushed (nothing is copied).
 *
 * Names are given as they stand in the archive: not empty, no NUL byte, at most the limit, but possibly absolute, with
 * "..", "." or "//" in them. Whoever creates files must resolve them inside the root (openat2 RESOLVE_IN_ROOT).
 * Precedence as in Go's archive/tar: GNU long name over pax record over header field. Global pax headers ('g') are
 * checked and have no effect. Sparse files, multi-volume archives and unknown types are refused (-ENOTSUP), malformed
 * headers (-EINVAL) with the offset of the header in the archive.
 *
 * Pure: no file descriptors. One owner at a time. Memory: one header block plus the extended headers of one entry.
 */
#pragma once

#include "base/base.h"

enum tar_type {
    TAR_FILE,
    TAR_HARDLINK, /* entry->link: the path of an earlier entry of the same archive */
    TAR_SYMLINK,  /* entry->link: the text of the link */
    TAR_CHAR,
    TAR_BLOCK,
    TAR_DIR,
    TAR_FIFO,
    TAR_TYPE_MAX
};

struct tar_xattr {
    struct str name; /* "user.x", "security.capability": without the SCHILY.xattr. prefix */
    struct str value;
};

/* All strings are NUL-terminated and valid until the entry's end() returned. */
struct tar_entry {
    enum tar_type type;
    struct str path; /* without the slashes a directory's name ends in ("/" itself stays) */
    struct str link; /* empty for other types */
    uint32_t mode;   /* permission bits, setuid, setgid and sticky only (07777) */
    uint32_t uid, gid;
    struct str user, group; /* names, often empty */
    uint64_t size;          /* of the contents: 0 for all but regular files */
    struct timespec mtime;
    uint32_t major, minor; /* character and block devices */
    const struct tar_xattr *xattrs;
    size_t n_xattrs;
};

/* Every member may be NULL. Non-zero (a negative errno; it may set err) ends the parse and is what push returns. */
struct tar_handler {
    int (*entry)(void *arg, const struct tar_entry *entry, struct error *err);
    int (*data)(void *arg, struct str bytes, struct error *err);
    int (*end)(void *arg, struct error *err);
};

/* A zeroed struct means the defaults. */
struct tar_limits {
    size_t name_bytes;       /* a path or link target; 0: 4095, as PATH_MAX */
    size_t header_bytes;     /* extended headers (pax, long names) of one entry; 0: 1 MiB */
    uint32_t xattrs;         /* of one entry; 0: 64 */
    uint64_t entries;        /* of the archive; 0: 4 million */
    uint64_t contents_bytes; /* sum of the files' sizes; 0: 64 GiB */
};

struct tar;

/* handler is copied; limits may be NULL. */
struct tar *tar_new(const struct tar_handler *handler, const struct tar_limits *limits, void *arg);
/* 0; -EINVAL malformed; -ENOTSUP; -E2BIG a limit; or what the handler returned. After an error the parser stays failed:
 * every later call returns the same code. Bytes behind the end mark are ignored. */
int tar_push(struct tar *t, struct str bytes, struct error *err);
/* Says that no more bytes follow: -EINVAL when the archive ends inside an entry. An archive that just ends between two
 * entries, without its two zero blocks, is accepted, as Go does. */
int tar_end(struct tar *t, struct error *err);
void tar_free(struct tar *t);              /* NULL is fine */
uint64_t tar_entries(const struct tar *t); /* entries begun so far */
