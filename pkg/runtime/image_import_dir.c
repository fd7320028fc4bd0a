/*
 * A directory of archives: what is new in it (by path, size and time) is imported, in the order of the names. Lists of
 * images (*.txt, one name a line) are pulled. imports.json remembers what was done.
 */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "runtime/image_import.h"

#define FILES_MAX 1000
#define LIST_BYTES_MAX MiB(1)
#define LIST_LINES_MAX 1000
#define RECORD_BYTES_MAX MiB(4)

struct file {
    char *path;
    int64_t size, mtime_s, mtime_ns;
    bool is_list, done;
    struct json *record; /* as it was, or as it is to be written; NULL: failed */
};

struct dir_import {
    struct image_store *store;
    char *dir;
    loop_fn done;
    void *arg;
    struct arena *arena;
    VEC(struct file) files;
    struct json *records; /* array of {path, size, mtime, images} */
    size_t next;
    VEC(char *) lines; /* of the list that is pulled */
    size_t line;
    bool list_failed, changed;
};

static void next_file(struct dir_import *d);

/* --- which files ---------------------------------------------------------------------------------------------------------- */

static bool ends_in(const char *name, const char *const *suffixes) {
    for (; *suffixes; suffixes++)
        if (str_ends(str_c(name), str_c(*suffixes)))
            return true;
    return false;
}

static int by_path(const void *a, const void *b) {
    return strcmp(((const struct file *)a)->path, ((const struct file *)b)->path);
}

static void scan(struct dir_import *d) {
    static const char *const archives[] = {".tar", ".tar.gz", ".tgz", ".tar.zst", ".tzst", NULL};
    static const char *const unsupported[] = {".tar.bz2", ".tbz", ".tar.lz4", ".tar.xz", ".txz", ".zip", NULL};
    static const char *const lists[] = {".txt", NULL};
    DIR *dir = opendir(d->dir);
    if (!dir && errno != ENOENT)
        log_warn("images", "%s: %s", d->dir, strerror(errno));
    for (struct dirent *e; dir && (e = readdir(dir));) {
        struct stat st;
        bool list = ends_in(e->d_name, lists);
        if (e->d_name[0] == '.' || fstatat(dirfd(dir), e->d_name, &st, 0) < 0 || !S_ISREG(st.st_mode))
            continue;
        if (ends_in(e->d_name, unsupported))
            log_warn("images", "%s/%s is not imported: only plain, gzip and zstd archives are supported", d->dir,
                     e->d_name);
        if (!list && !ends_in(e->d_name, archives))
            continue;
        if (d->files.n == FILES_MAX) {
            log_warn("images", "%s: only the first %d files are imported", d->dir, FILES_MAX);
            break;
        }
        struct file f = {.path = xasprintf("%s/%s", d->dir, e->d_name),
                         .size = st.st_size,
                         .mtime_s = st.st_mtim.tv_sec,
                         .mtime_ns = st.st_mtim.tv_nsec,
                         .is_list = list};
        vec_push(&d->files, f);
    }
    if (dir)
        closedir(dir);
    if (d->files.n)
        qsort(d->files.items, d->files.n, sizeof(d->files.items[0]), by_path);
}

static void read_records(struct dir_import *d) {
    cleanup_buf struct buf text = {NULL, 0, 0, RECORD_BYTES_MAX, false};
    cleanup_free char *path = image_store_path(d->store, "imports.json");
    if (file_read(path, &text, NULL) == 0)
        d->records = json_parse(d->arena, buf_str(&text), NULL, NULL);
    if (!json_is(d->records, JSON_ARRAY))
        d->records = json_array(d->arena);
}

static void scan_work(void *arg) {
    struct dir_import *d = arg;
    scan(d);
    read_records(d);
}

/* --- what was done ---------------------------------------------------------------------------------------------------------- */

static bool images_present(const struct image_store *s, const struct json *ids) {
    for (size_t i = 0; i < json_len(ids); i++)
        if (!map_get(&s->images, json_as_str(json_item(ids, i))))
            return false;
    return json_len(ids) > 0;
}

/* The same file, and its images are still here: an image that was removed since comes back. */
static struct json *find_record(struct dir_import *d, const struct file *f) {
    for (size_t i = 0; i < json_len(d->records); i++) {
        struct json *r = json_item(d->records, i);
        if (str_eq_c(json_str_at(r, "path"), f->path) && json_int_at(r, "size", -1) == f->size &&
            json_int_at(r, "mtime", 0) == f->mtime_s && json_int_at(r, "mtimeNs", 0) == f->mtime_ns &&
            images_present(d->store, json_get_c(r, "images")))
            return r;
    }
    return NULL;
}

static struct json *new_record(struct dir_import *d, struct file *f) {
    struct json *r = json_object(d->arena);
    json_set_cstr(d->arena, r, "path", f->path);
    json_set_int(d->arena, r, "size", f->size);
    json_set_int(d->arena, r, "mtime", f->mtime_s);
    json_set_int(d->arena, r, "mtimeNs", f->mtime_ns);
    json_set(d->arena, r, STR("images"), json_array(d->arena));
    return r;
}

static void write_work(void *arg) {
    struct dir_import *d = arg;
    struct error err;
    cleanup_buf struct buf text = BUF_INIT;
    cleanup_free char *path = image_store_path(d->store, "imports.json");
    struct json *all = json_array(d->arena);
    for (size_t i = 0; i < json_len(d->records); i++) { /* those of other directories stay */
        struct str p = json_str_at(json_item(d->records, i), "path");
        size_t n = strlen(d->dir);
        bool mine = str_starts(p, str_c(d->dir)) && p.n > n && p.p[n] == '/' && str_index(p, '/', n + 1) < 0;
        if (!mine)
            json_append(d->arena, all, json_item(d->records, i));
    }
    for (size_t i = 0; i < d->files.n; i++)
        if (d->files.items[i].record)
            json_append(d->arena, all, d->files.items[i].record);
    json_write(&text, all);
    if (file_write_atomic(path, buf_str(&text), 0600, &err))
        log_warn("images", "%s", err.msg);
}

static void finished(void *arg) {
    struct dir_import *d = arg;
    d->done(d->arg);
    for (size_t i = 0; i < d->files.n; i++)
        free(d->files.items[i].path);
    vec_fini(&d->files);
    vec_fini(&d->lines);
    arena_free(d->arena);
    free(d->dir);
    image_store_release(d->store);
    free(d);
}

/* --- one file after another ------------------------------------------------------------------------------------------------- */

static void on_imported(struct import *im) {
    struct dir_import *d = im->arg;
    struct file *f = &d->files.items[d->next - 1];
    if (im->images < 0) {
        log_error("images", "%s", im->err.msg);
    } else {
        log_info("images", "imported %d image%s from %s", im->images, im->images == 1 ? "" : "s", im->path);
        f->record = new_record(d, f);
        for (size_t i = 0; i < im->ids.n; i++)
            json_append_cstr(d->arena, json_get_c(f->record, "images"), im->ids.items[i]);
        d->changed = true;
    }
    next_file(d);
}

static void next_line(struct dir_import *d);

static void on_pulled(void *arg, struct image *img, int code, const struct error *err) {
    struct dir_import *d = arg;
    struct file *f = &d->files.items[d->next - 1];
    if (img) {
        json_append(d->arena, json_get_c(f->record, "images"), json_str(d->arena, img->id));
        image_unref(img);
    } else {
        log_warn("images", "%s: %s", f->path, err->msg);
        d->list_failed = true;
    }
    next_line(d);
}

static void next_line(struct dir_import *d) {
    struct image_pull_events ev = {.on_done = on_pulled, .arg = d};
    if (d->line < d->lines.n && !d->store->closed) {
        image_pull(d->store, str_c(d->lines.items[d->line++]), NULL, 0, &ev);
        return;
    }
    struct file *f = &d->files.items[d->next - 1];
    if (d->list_failed)
        f->record = NULL; /* the next start tries again */
    else
        d->changed = true;
    for (size_t i = 0; i < d->lines.n; i++)
        free(d->lines.items[i]);
    d->lines.n = 0;
    next_file(d);
}

static void list_work(void *arg) {
    struct dir_import *d = arg;
    struct file *f = &d->files.items[d->next - 1];
    struct error err;
    cleanup_buf struct buf text = {NULL, 0, 0, LIST_BYTES_MAX, false};
    if (file_read(f->path, &text, &err)) {
        log_warn("images", "%s", err.msg);
        d->list_failed = true;
    }
    struct str rest = buf_str(&text);
    while (rest.p && d->lines.n < LIST_LINES_MAX) {
        struct str line = str_trim(str_split(&rest, '\n'));
        if (line.n && line.p[0] != '#') {
            char *copy = xstrndup(line.p, line.n);
            vec_push(&d->lines, copy);
        }
    }
}

static void list_read(void *arg) {
    struct dir_import *d = arg;
    struct file *f = &d->files.items[d->next - 1];
    f->record = new_record(d, f);
    d->line = 0;
    next_line(d);
}

static void next_file(struct dir_import *d) {
    while (d->next < d->files.n && !d->store->closed) {
        struct file *f = &d->files.items[d->next++];
        f->record = find_record(d, f);
        if (f->record)
            continue;
        d->list_failed = false;
        if (f->is_list)
            loop_work(d->store->o.loop, list_work, list_read, d);
        else
            import_start(d->store, f->path, on_imported, d);
        return;
    }
    if (d->changed && !d->store->closed)
        loop_work(d->store->o.loop, write_work, finished, d);
    else
        loop_post(d->store->o.loop, finished, d);
}

static void on_scanned(void *arg) {
    next_file(arg);
}

void image_import_dir(struct image_store *s, const char *dir, loop_fn done, void *arg) {
    struct dir_import *d = XNEW(struct dir_import);
    d->store = s;
    d->dir = xstrdup(dir);
    size_t n = strlen(d->dir);
    while (n > 1 && d->dir[n - 1] == '/')
        d->dir[--n] = 0;
    d->done = done;
    d->arg = arg;
    d->arena = arena_new(0, MiB(128));
    image_store_hold(s);
    loop_work(s->o.loop, scan_work, on_scanned, d);
}
