/*
 * The durable log in SQLite. One table, its key the object's id (the revision that created it): new objects are appended, an
 * update rewrites one row, and no second index is kept, since the state in memory has all of them. Each row has a checksum.
 * The connection holds the file alone (locking_mode=EXCLUSIVE), so that there is no shared memory file; the write-ahead log
 * is left behind by an unclean stop only, which is how the next start knows to check the whole file.
 */
#include <fcntl.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include "store/sqlite/sqlite_log.h"
#include "store/store.h"

#define APPLICATION_ID 0x444f5259 /* "DORY" */
#define SCHEMA_VERSION 1
#define HEADER_BYTES 100
#define ROW_LIMIT_BYTES MiB(64)
/* Free pages are given back to the file system, a few at a time, once they are many. */
#define VACUUM_EVERY 64 /* commits */
#define VACUUM_MIN_PAGES 512
#define VACUUM_STEP_PAGES 64

const char *store_log_sqlite_synchronous = "FULL";

struct sqlite_log {
    sqlite3 *db;
    sqlite3_stmt *put, *del, *reserve, *begin, *commit, *rollback, *pages, *free_pages;
    int lock_fd;
    unsigned commits;
    bool wrote, damaged;
    char path[4096];
};

#define ADVICE "; it was left as it is: restore a snapshot, or move the file away to begin anew"

/* --- errors ------------------------------------------------------------------------------------------------------- */

static int code_of(sqlite3 *db, int rc) {
    int e = sqlite3_system_errno(db);
    switch (rc & 0xff) {
    case SQLITE_FULL:
        return -ENOSPC;
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
        return -EUCLEAN;
    case SQLITE_READONLY:
        return -EROFS;
    case SQLITE_NOMEM:
        return -ENOMEM;
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        return -EBUSY;
    case SQLITE_PERM:
    case SQLITE_CANTOPEN:
        return e ? -e : -EACCES;
    case SQLITE_IOERR:
        return e == ENOSPC || e == EDQUOT || e == EROFS ? -e : -EIO;
    default:
        return -EIO;
    }
}

static int sql_error(struct sqlite_log *l, int rc, struct error *err) {
    int code = code_of(l->db, rc), e = sqlite3_system_errno(l->db);
    const char *msg = sqlite3_errmsg(l->db);
    if (code == -EUCLEAN) {
        l->damaged = true;
        return error_set(err, code, "%s is damaged: %s" ADVICE, l->path, msg);
    }
    if (e && (rc & 0xff) == SQLITE_IOERR)
        return error_set(err, code, "%s: %s: %s", l->path, msg, strerror(e));
    return error_set(err, code, "%s: %s", l->path, msg);
}

static int run(struct sqlite_log *l, const char *sql, struct error *err) {
    int rc = sqlite3_exec(l->db, sql, NULL, NULL, NULL);
    return rc ? sql_error(l, rc, err) : 0;
}

static int prepare(struct sqlite_log *l, const char *sql, sqlite3_stmt **out, struct error *err) {
    int rc = sqlite3_prepare_v3(l->db, sql, -1, SQLITE_PREPARE_PERSISTENT, out, NULL);
    return rc ? sql_error(l, rc, err) : 0;
}

/* Runs a statement that yields no row, or one with a number. */
static int step(sqlite3_stmt *st, int64_t *value) {
    int rc = sqlite3_step(st);
    if (rc == SQLITE_ROW) {
        if (value)
            *value = sqlite3_column_int64(st, 0);
        rc = sqlite3_step(st);
    }
    int reset = sqlite3_reset(st);
    return rc == SQLITE_DONE ? reset : rc;
}

/* --- rows --------------------------------------------------------------------------------------------------------- */

static uLong sum_str(uLong sum, struct str s) {
    sum = crc32(sum, (const Bytef *)s.p, (uInt)s.n);
    return crc32(sum, (const Bytef *)"", 1); /* the end: "ab","c" differs from "a","bc" */
}

static int64_t row_sum(struct str kind, struct str ns, struct str name, struct str json, int64_t revision, int64_t id) {
    unsigned char n[16];
    for (int i = 0; i < 8; i++) {
        n[i] = (unsigned char)((uint64_t)revision >> (8 * i));
        n[8 + i] = (unsigned char)((uint64_t)id >> (8 * i));
    }
    uLong sum = crc32(0, n, sizeof(n));
    return (int64_t)sum_str(sum_str(sum_str(sum_str(sum, kind), ns), name), json);
}

static void bind_str(sqlite3_stmt *st, int i, struct str s) {
    sqlite3_bind_text64(st, i, s.p ? s.p : "", s.n, SQLITE_STATIC, SQLITE_UTF8);
}

static int put_row(struct sqlite_log *l, const struct store_log_entry *e) {
    struct str json = e->object->blob.bytes;
    sqlite3_stmt *st = l->put;
    sqlite3_bind_int64(st, 1, e->id);
    bind_str(st, 2, e->kind);
    bind_str(st, 3, e->ns);
    bind_str(st, 4, e->name);
    sqlite3_bind_int64(st, 5, e->revision);
    sqlite3_bind_int64(st, 6, row_sum(e->kind, e->ns, e->name, json, e->revision, e->id));
    bind_str(st, 7, json);
    int rc = step(st, NULL);
    sqlite3_clear_bindings(st); /* the memory is not ours */
    return rc;
}

static int del_row(struct sqlite_log *l, int64_t id) {
    sqlite3_bind_int64(l->del, 1, id);
    return step(l->del, NULL);
}

/* --- the transaction ---------------------------------------------------------------------------------------------- */

static int vacuum_a_little(struct sqlite_log *l) {
    int64_t pages = 0, unused = 0;
    if (++l->commits % VACUUM_EVERY)
        return 0;
    int rc = step(l->pages, &pages);
    if (!rc)
        rc = step(l->free_pages, &unused);
    if (rc || unused < VACUUM_MIN_PAGES || unused < pages / 4)
        return rc;
    return sqlite3_exec(l->db, "PRAGMA incremental_vacuum(64)", NULL, NULL, NULL);
}
_Static_assert(VACUUM_STEP_PAGES == 64, "named in the pragma");

static int write_all(struct sqlite_log *l, const struct store_log_entry *e, size_t n, int64_t reserve) {
    int rc = 0;
    for (size_t i = 0; i < n && !rc; i++)
        rc = e[i].object ? put_row(l, &e[i]) : del_row(l, e[i].id);
    if (!rc && reserve) {
        sqlite3_bind_int64(l->reserve, 1, reserve);
        rc = step(l->reserve, NULL);
    }
    return rc ? rc : vacuum_a_little(l);
}

static int log_commit(void *log, const struct store_log_entry *e, size_t n, int64_t reserve, struct error *err) {
    struct sqlite_log *l = log;
    int rc = step(l->begin, NULL);
    if (!rc)
        rc = write_all(l, e, n, reserve);
    if (!rc)
        rc = step(l->commit, NULL);
    if (!rc) {
        l->wrote = true;
        return 0;
    }
    rc = sql_error(l, rc, err);
    if (!sqlite3_get_autocommit(l->db))
        step(l->rollback, NULL);
    return rc;
}

/* --- loading ------------------------------------------------------------------------------------------------------ */

static struct str column_str(sqlite3_stmt *st, int i) {
    const char *p = (const char *)sqlite3_column_text(st, i);
    return str_n(p ? p : "", (size_t)sqlite3_column_bytes(st, i));
}

static int damaged_row(struct sqlite_log *l, struct str kind, struct str ns, struct str name, struct error *err) {
    return error_set(err, -EUCLEAN, "%s is damaged: the checksum of %.*s %.*s%s%.*s is wrong" ADVICE, l->path,
                     STR_ARG(kind), STR_ARG(ns), ns.n ? "/" : "", STR_ARG(name));
}

static int log_load(void *log,
                    void (*each)(void *arg, struct str kind, struct str ns, struct str name, struct str json,
                                 int64_t revision, int64_t id),
                    void *arg, int64_t *reserved, struct error *err) {
    struct sqlite_log *l = log;
    sqlite3_stmt *st;
    int rc = prepare(l, "SELECT id, kind, ns, name, revision, sum, json FROM objects ORDER BY id", &st, err);
    if (rc)
        return rc;
    while ((rc = sqlite3_step(st)) == SQLITE_ROW) {
        int64_t id = sqlite3_column_int64(st, 0), revision = sqlite3_column_int64(st, 4);
        struct str kind = column_str(st, 1), ns = column_str(st, 2), name = column_str(st, 3), json = column_str(st, 6);
        if (sqlite3_column_int64(st, 5) != row_sum(kind, ns, name, json, revision, id)) {
            rc = damaged_row(l, kind, ns, name, err);
            sqlite3_finalize(st);
            return rc;
        }
        each(arg, kind, ns, name, json, revision, id);
    }
    if (rc != SQLITE_DONE) {
        rc = sql_error(l, rc, err);
        sqlite3_finalize(st);
        return rc;
    }
    sqlite3_finalize(st);
    rc = prepare(l, "SELECT value FROM meta WHERE key = 'reserved'", &st, err);
    if (rc)
        return rc;
    rc = step(st, reserved);
    sqlite3_finalize(st);
    return rc ? sql_error(l, rc, err) : 0;
}

/* --- closing ------------------------------------------------------------------------------------------------------ */

static void finalize_all(struct sqlite_log *l) {
    sqlite3_stmt **all[] = {&l->put,    &l->del,      &l->reserve, &l->begin,
                            &l->commit, &l->rollback, &l->pages,   &l->free_pages};
    for (size_t i = 0; i < ARRAY_LEN(all); i++) {
        sqlite3_finalize(*all[i]);
        *all[i] = NULL;
    }
}

static void abandon(struct sqlite_log *l) {
    finalize_all(l);
    if (l->db)
        sqlite3_close(l->db);
    if (l->lock_fd >= 0)
        close(l->lock_fd);
    free(l);
}

/* Folds the write-ahead log into the file and removes it: the mark of a clean stop. What could not be loaded, or is damaged,
 * stays exactly as it was found. */
static void log_close(void *log) {
    struct sqlite_log *l = log;
    if (l->wrote && !l->damaged)
        sqlite3_db_config(l->db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 0, NULL);
    abandon(l);
}

/* --- opening ------------------------------------------------------------------------------------------------------ */

/* The lock goes with the process, however it ends; the pid in it is for people. */
static int lock_dir(const char *dir, int *out, struct error *err) {
    char path[4096];
    snprintf(path, sizeof(path), "%s/lock", dir);
    cleanup_close int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return error_sys(err, -errno, "cannot open %s", path);
    char pid[32] = "", was[32];
    if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        if (errno != EWOULDBLOCK)
            return error_sys(err, -errno, "cannot lock %s", path);
        ssize_t n = pread(fd, pid, sizeof(pid) - 1, 0);
        int len = n > 0 ? (int)strcspn(pid, "\n") : 0;
        return error_set(err, -EBUSY, "another server (pid %.*s) is using %s", len ? len : 7, len ? pid : "unknown",
                         dir);
    }
    int n = snprintf(pid, sizeof(pid), "%ld\n", (long)getpid());
    if (pread(fd, was, sizeof(was), 0) != n ||
        memcmp(was, pid, (size_t)n) != 0) { /* a container's pid is often the same */
        if (ftruncate(fd, 0) != 0 || pwrite(fd, pid, (size_t)n, 0) != n)
            return error_sys(err, -errno, "cannot write %s", path);
    }
    *out = TAKE_FD(fd);
    return 0;
}

static uint32_t be32(const unsigned char *p) {
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static int check_header(const char *path, const unsigned char *h, off_t size, bool has_wal, struct error *err) {
    if (memcmp(h, "SQLite format 3", 16) != 0)
        return error_set(err, -EUCLEAN, "%s is no database: it was left as it is; move it away to begin anew", path);
    uint32_t page = (uint32_t)h[16] << 8 | h[17], pages = be32(h + 28), version = be32(h + 60), app = be32(h + 68);
    if (page == 1)
        page = 65536;
    if (app != APPLICATION_ID)
        return error_set(err, -EUCLEAN, "%s is the database of another program (application id %#x): left as it is",
                         path, app);
    if (version > SCHEMA_VERSION)
        return error_set(err, -EPROTO, "%s was written by a newer version (schema %u, this one knows %d)", path,
                         version, SCHEMA_VERSION);
    if (!has_wal && (off_t)page * pages > size)
        return error_set(err, -EUCLEAN,
                         "%s is truncated: it has %lld bytes of %lld; restore a snapshot, or move it away", path,
                         (long long)size, (long long)page * pages);
    return 0;
}

enum found { FOUND_NONE, FOUND_CLEAN, FOUND_UNCLEAN };

/* Looks at the files before SQLite does, which would repair, convert or overwrite. */
static int inspect(const char *path, enum found *out, struct error *err) {
    char wal[4200];
    struct stat st;
    snprintf(wal, sizeof(wal), "%s-wal", path);
    bool has_wal = stat(wal, &st) == 0 && st.st_size > 0;
    cleanup_close int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT && !has_wal) {
        *out = FOUND_NONE;
        return 0;
    }
    if (fd < 0 && errno == ENOENT)
        return error_set(err, -EUCLEAN, "%s is missing but its journal %s is there: put it back, or move both away",
                         path, wal);
    if (fd < 0 || fstat(fd, &st) != 0)
        return error_sys(err, -errno, "cannot open %s", path);
    unsigned char h[HEADER_BYTES];
    if (!S_ISREG(st.st_mode))
        return error_set(err, -EUCLEAN, "%s is not a regular file", path);
    if (pread(fd, h, sizeof(h), 0) != (ssize_t)sizeof(h))
        return error_set(err, -EUCLEAN, "%s is truncated: it has %lld bytes; restore a snapshot, or move it away", path,
                         (long long)st.st_size);
    *out = has_wal ? FOUND_UNCLEAN : FOUND_CLEAN;
    return check_header(path, h, st.st_size, has_wal, err);
}

static int open_db(struct sqlite_log *l, const char *path, int flags, struct error *err) {
    int rc = sqlite3_open_v2(path, &l->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | flags, NULL);
    if (rc) {
        rc = l->db ? sql_error(l, rc, err) : error_set(err, -ENOMEM, "%s: out of memory", path);
        return rc;
    }
    sqlite3_extended_result_codes(l->db, 1);
    sqlite3_db_config(l->db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
    sqlite3_db_config(l->db, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, NULL);
    sqlite3_db_config(l->db, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
    sqlite3_limit(l->db, SQLITE_LIMIT_LENGTH, (int)ROW_LIMIT_BYTES);
    return 0;
}

static int sync_path(const char *path, int flags, struct error *err) {
    cleanup_close int fd = open(path, O_RDONLY | O_CLOEXEC | flags);
    if (fd < 0 || fsync(fd) != 0)
        return error_sys(err, -errno, "cannot sync %s", path);
    return 0;
}

/* A database is made under another name and appears complete or not at all, so SQLite need not sync on the way. */
static int create(struct sqlite_log *l, const char *dir, struct error *err) {
    char tmp[4200], wal[4300];
    snprintf(tmp, sizeof(tmp), "%s.new", l->path);
    snprintf(wal, sizeof(wal), "%s-wal", tmp);
    unlink(tmp);
    unlink(wal);
    int rc = open_db(l, tmp, SQLITE_OPEN_CREATE, err);
    if (!rc)
        rc =
            run(l,
                "PRAGMA synchronous=OFF;"
                "PRAGMA journal_mode=MEMORY;"
                "PRAGMA auto_vacuum=INCREMENTAL;"
                "PRAGMA application_id=0x444f5259;"
                "PRAGMA user_version=1;"
                "BEGIN;"
                "CREATE TABLE objects(id INTEGER PRIMARY KEY, kind TEXT NOT NULL, ns TEXT NOT NULL, name TEXT NOT NULL,"
                " revision INTEGER NOT NULL, sum INTEGER NOT NULL, json TEXT NOT NULL);"
                "CREATE TABLE meta(key TEXT PRIMARY KEY, value) WITHOUT ROWID;"
                "INSERT INTO meta VALUES('reserved', 0);"
                "COMMIT;"
                "PRAGMA locking_mode=EXCLUSIVE;"
                "PRAGMA journal_mode=WAL",
                err);
    sqlite3_close(l->db);
    l->db = NULL;
    if (!rc && chmod(tmp, 0600) != 0)
        rc = error_sys(err, -errno, "cannot set the mode of %s", tmp);
    if (!rc)
        rc = sync_path(tmp, 0, err);
    if (!rc && rename(tmp, l->path) != 0)
        rc = error_sys(err, -errno, "cannot rename %s", tmp);
    if (!rc)
        rc = sync_path(dir, O_DIRECTORY, err);
    if (rc)
        unlink(tmp);
    return rc;
}

static int quick_check(struct sqlite_log *l, struct error *err) {
    sqlite3_stmt *st;
    int rc = prepare(l, "PRAGMA quick_check(1)", &st, err);
    if (rc)
        return rc;
    rc = sqlite3_step(st);
    struct str said = rc == SQLITE_ROW ? column_str(st, 0) : STR("");
    if (rc != SQLITE_ROW)
        rc = sql_error(l, rc, err);
    else if (str_eq_c(said, "ok"))
        rc = 0;
    else
        rc = error_set(err, -EUCLEAN, "%s is damaged: %.*s" ADVICE, l->path, STR_ARG(said));
    sqlite3_finalize(st);
    return rc;
}

static int configure(struct sqlite_log *l, bool unclean, struct error *err) {
    char sync[64];
    snprintf(sync, sizeof(sync), "PRAGMA synchronous=%s", store_log_sqlite_synchronous);
    int rc = run(l,
                 "PRAGMA locking_mode=EXCLUSIVE;"
                 "PRAGMA cache_size=-512;"
                 "PRAGMA temp_store=MEMORY;"
                 "PRAGMA cell_size_check=ON;"
                 "PRAGMA journal_mode=WAL;"
                 "PRAGMA wal_autocheckpoint=1000;"    /* 4 MB */
                 "PRAGMA journal_size_limit=8388608", /* after a burst */
                 err);
    if (!rc)
        rc = run(l, sync, err);
    return rc || !unclean ? rc : quick_check(l, err);
}

static int prepare_all(struct sqlite_log *l, struct error *err) {
    const struct {
        const char *sql;
        sqlite3_stmt **st;
    } all[] = {
        {"INSERT OR REPLACE INTO objects(id, kind, ns, name, revision, sum, json) VALUES(?,?,?,?,?,?,?)", &l->put},
        {"DELETE FROM objects WHERE id = ?", &l->del},
        {"UPDATE meta SET value = ? WHERE key = 'reserved'", &l->reserve},
        {"BEGIN IMMEDIATE", &l->begin},
        {"COMMIT", &l->commit},
        {"ROLLBACK", &l->rollback},
        {"PRAGMA page_count", &l->pages},
        {"PRAGMA freelist_count", &l->free_pages},
    };
    for (size_t i = 0; i < ARRAY_LEN(all); i++) {
        int rc = prepare(l, all[i].sql, all[i].st, err);
        if (rc)
            return rc;
    }
    return 0;
}

static int open_all(struct sqlite_log *l, const char *dir, struct error *err) {
    enum found found;
    int rc = lock_dir(dir, &l->lock_fd, err);
    if (!rc)
        rc = inspect(l->path, &found, err);
    if (!rc && found == FOUND_NONE)
        rc = create(l, dir, err);
    if (!rc)
        rc = open_db(l, l->path, 0, err);
    if (!rc)
        rc = configure(l, found == FOUND_UNCLEAN, err);
    return rc ? rc : prepare_all(l, err);
}

int store_log_sqlite_open(const char *dir, const struct store_log_ops **ops, void **log, struct error *err) {
    static const struct store_log_ops sqlite_ops = {log_load, log_commit, log_close};
    struct sqlite_log *l = XNEW(struct sqlite_log);
    l->lock_fd = -1;
    int rc = 0;
    if (strlen(dir) > sizeof(l->path) - 64)
        rc = error_set(err, -ENAMETOOLONG, "the data directory's name is too long");
    if (!rc)
        rc = dir_make_all(dir, 0700, err);
    if (!rc) {
        snprintf(l->path, sizeof(l->path), "%s/state.db", dir);
        rc = open_all(l, dir, err);
    }
    if (rc) {
        abandon(l);
        return rc;
    }
    *ops = &sqlite_ops;
    *log = l;
    return 0;
}
