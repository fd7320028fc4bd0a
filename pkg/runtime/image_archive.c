#include "runtime/image_archive.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define DOCUMENT_BYTES_MAX MiB(4)
#define DOCUMENTS_BYTES_MAX MiB(64)
#define DOCUMENTS_MAX 4096
#define LAYERS_MAX 4096
#define MEMBERS_MAX 100000
#define LINK_DEPTH_MAX 8
#define READ_BYTES KiB(256)

enum member { MEMBER_IGNORED, MEMBER_NEW, MEMBER_DOCUMENT, MEMBER_LAYER };

struct reader { /* of one pass */
    struct archive *a;
    const struct map *only;
    struct tar *tar;
    enum member member;
    char name[PATH_MAX];
    uint64_t size;
    struct buf document;
    struct layer *layer;
    struct archive_layer current;
};

struct archive *archive_new(const struct archive_options *o) {
    struct archive *a = XNEW(struct archive);
    a->o = *o;
    a->arena = arena_new(0, MiB(512));
    a->layers = xcalloc(LAYERS_MAX, sizeof(*a->layers));
    return a;
}

void archive_free(struct archive *a) {
    if (!a)
        return;
    for (size_t i = 0; i < a->layers_n; i++)
        free(a->layers[i].implied);
    free(a->layers);
    map_fini(&a->documents);
    map_fini(&a->links);
    vec_fini(&a->images);
    arena_free(a->arena);
    free(a);
}

/* --- names ------------------------------------------------------------------------------------------------------------- */

/* "./a//b/../c" -> "a/c"; false when it leads out or is too long. dir: what a relative name is relative to. */
static bool clean_name(struct str dir, struct str name, char out[PATH_MAX]) {
    struct str parts[128];
    size_t n = 0, len = 0;
    if (name.n && name.p[0] == '/')
        dir = STR("");
    struct str sources[] = {dir, name};
    for (size_t i = 0; i < 2; i++) {
        struct str rest = sources[i];
        while (rest.p && sources[i].n) {
            struct str part = str_split(&rest, '/');
            if (!part.n || str_eq(part, STR(".")))
                continue;
            if (str_eq(part, STR(".."))) {
                if (n == 0)
                    return false;
                n--;
            } else if (n == ARRAY_LEN(parts)) {
                return false;
            } else {
                parts[n++] = part;
            }
        }
    }
    for (size_t i = 0; i < n; i++) {
        if (len + parts[i].n + 2 > PATH_MAX)
            return false;
        if (i)
            out[len++] = '/';
        memcpy(out + len, parts[i].p, parts[i].n);
        len += parts[i].n;
    }
    out[len] = 0;
    return len > 0;
}

static struct str dir_of(struct str name) {
    ptrdiff_t slash = str_rindex(name, '/');
    return slash < 0 ? STR("") : str_n(name.p, (size_t)slash);
}

/* The name that a chain of links ends in. */
static struct str resolve(const struct archive *a, struct str name) {
    for (int i = 0; i < LINK_DEPTH_MAX; i++) {
        const struct str *to = map_get(&a->links, name);
        if (!to)
            break;
        name = *to;
    }
    return name;
}

/* --- members ------------------------------------------------------------------------------------------------------------ */

static bool may_be_layer(struct str name) {
    return str_starts(name, STR("blobs/")) || str_ends(name, STR(".tar")) || str_ends(name, STR(".tar.gz"));
}

static bool is_top_document(struct str name) {
    return str_eq(name, STR("manifest.json")) || str_eq(name, STR("index.json")) || str_eq(name, STR("oci-layout"));
}

static int add_link(struct archive *a, struct str name, struct str target, bool symbolic) {
    char to[PATH_MAX];
    if (a->links.n >= DOCUMENTS_MAX || !clean_name(symbolic ? dir_of(name) : STR(""), target, to))
        return 0; /* whoever needs it will miss it */
    struct str *s = ARENA_NEW(a->arena, struct str);
    *s = str_dup(a->arena, str_c(to));
    if (!str_eq(*s, name))
        map_set(&a->links, name, s);
    return 0;
}

static int on_entry(void *arg, const struct tar_entry *e, struct error *err) {
    struct reader *r = arg;
    r->member = MEMBER_IGNORED;
    if (atomic_load(r->a->o.cancelled))
        return error_set(err, -ECANCELED, "cancelled");
    if (!clean_name(STR(""), e->path, r->name))
        return 0;
    struct str name = str_c(r->name);
    if (e->type == TAR_SYMLINK || e->type == TAR_HARDLINK)
        return r->only ? 0 : add_link(r->a, name, e->link, e->type == TAR_SYMLINK);
    if (e->type != TAR_FILE)
        return 0;
    r->size = e->size;
    if (r->only ? map_get(r->only, name) != NULL : e->size > 0)
        r->member = MEMBER_NEW;
    return 0;
}

static int begin_layer(struct reader *r, struct error *err) {
    struct archive *a = r->a;
    struct str name = str_c(r->name);
    if (a->layers_n >= LAYERS_MAX)
        return error_set(err, -E2BIG, "more than %d layers", LAYERS_MAX);
    r->current =
        (struct archive_layer){.name = str_dup(a->arena, name), .number = atomic_fetch_add(a->o.next_number, 1)};
    cleanup_free char *dir = xasprintf("%s/%u", a->o.tmp, r->current.number);
    struct str digest = STR("");
    if (str_starts(name, STR("blobs/sha256/")))
        digest = str_printf(a->arena, "sha256:%.*s", STR_ARG(str_skip(name, 13)));
    struct layer_options o = {.dir = dir,
                              .name = r->name,
                              .digest = image_digest_valid(digest) ? digest : STR(""),
                              .bytes_max = a->o.layer_bytes_max,
                              .entries_max = a->o.layer_entries_max};
    r->layer = layer_new(&o);
    r->member = MEMBER_LAYER;
    return 0;
}

/* The first bytes tell what a member is. */
static int begin_member(struct reader *r, struct str bytes, struct error *err) {
    struct str name = str_c(r->name);
    bool json = is_top_document(name) || bytes.p[0] == '{';
    if (r->only || (!json && may_be_layer(name)))
        return begin_layer(r, err);
    r->member = MEMBER_IGNORED;
    if (!json || r->size > DOCUMENT_BYTES_MAX || r->a->documents.n >= DOCUMENTS_MAX)
        return 0;
    r->member = MEMBER_DOCUMENT;
    buf_reset(&r->document);
    return 0;
}

static int on_data(void *arg, struct str bytes, struct error *err) {
    struct reader *r = arg;
    if (r->member == MEMBER_NEW) {
        int rc = begin_member(r, bytes, err);
        if (rc)
            return rc;
    }
    if (r->member == MEMBER_DOCUMENT)
        buf_put_str(&r->document, bytes);
    else if (r->member == MEMBER_LAYER && !r->current.err.code)
        r->current.err.code = layer_push(r->layer, bytes, &r->current.err);
    return 0;
}

static void remove_unpacked(const struct archive *a, unsigned number) {
    cleanup_free char *dir = xasprintf("%s/%u", a->o.tmp, number);
    struct error err;
    if (dir_remove_all(dir, &err))
        log_warn("images", "%s", err.msg);
}

static void end_layer(struct reader *r) {
    struct archive_layer *l = &r->current;
    if (!l->err.code)
        l->err.code = layer_end(r->layer, &l->result, &l->err);
    if (!l->err.code)
        l->implied = xstrndup(l->result.implied.p, l->result.implied.n);
    layer_free(TAKE_PTR(r->layer));
    if (l->err.code) { /* it matters only if an image needs it */
        remove_unpacked(r->a, l->number);
        l->number = 0;
    }
    r->a->layers[r->a->layers_n++] = *l;
}

static int on_end(void *arg, struct error *err) {
    struct reader *r = arg;
    if (r->member == MEMBER_LAYER) {
        end_layer(r);
    } else if (r->member == MEMBER_DOCUMENT) {
        struct str *s = arena_try_alloc(r->a->arena, sizeof(*s));
        char *copy = arena_try_alloc(r->a->arena, r->document.n + 1);
        if (!s || !copy || r->document.failed || arena_used(r->a->arena) > DOCUMENTS_BYTES_MAX)
            return error_set(err, -E2BIG, "its documents together are larger than 64 MiB");
        memcpy(copy, r->document.p, r->document.n);
        *s = str_n(copy, r->document.n);
        map_set(&r->a->documents, str_c(r->name), s);
    }
    r->member = MEMBER_IGNORED;
    return 0;
}

static int on_plain(void *arg, struct str bytes, struct error *err) {
    struct reader *r = arg;
    return tar_push(r->tar, bytes, err);
}

static int read_all(struct reader *r, int fd, struct error *err) {
    cleanup_free char *block = xmalloc(READ_BYTES);
    struct inflate *z = inflate_new(NULL, on_plain, r);
    int rc = z ? 0 : error_set(err, -ENOMEM, "no memory");
    while (rc == 0) {
        ssize_t n = read(fd, block, READ_BYTES);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            rc = error_sys(err, -errno, "reading");
        else if (n == 0)
            break;
        else
            rc = inflate_push(z, str_n(block, (size_t)n), err);
        if (atomic_load(r->a->o.cancelled))
            rc = error_set(err, -ECANCELED, "cancelled");
    }
    if (rc == 0)
        rc = inflate_end(z, err);
    if (rc == 0)
        rc = tar_end(r->tar, err);
    inflate_free(z);
    return rc;
}

int archive_read(struct archive *a, const struct map *only, struct error *err) {
    static const struct tar_handler handler = {on_entry, on_data, on_end};
    struct tar_limits limits = {.entries = MEMBERS_MAX};
    cleanup_close int fd = open(a->o.path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) < 0)
        return error_sys(err, -errno, "%s", a->o.path);
    if (!S_ISREG(st.st_mode))
        return error_set(err, -EINVAL, "%s: not a regular file", a->o.path);
    struct reader *r = XNEW(struct reader);
    r->a = a;
    r->only = only;
    r->tar = tar_new(&handler, &limits, r);
    buf_init(&r->document, DOCUMENT_BYTES_MAX + 1);
    int rc = read_all(r, fd, err);
    if (r->layer) { /* it was cut in the middle */
        layer_free(r->layer);
        remove_unpacked(a, r->current.number);
    }
    buf_fini(&r->document);
    tar_free(r->tar);
    free(r);
    return rc ? error_wrap(err, "%s", a->o.path) : 0;
}

/* --- images ------------------------------------------------------------------------------------------------------------- */

struct archive_layer *archive_layer_find(struct archive *a, struct str name, struct error *err) {
    name = resolve(a, name);
    error_set(err, -ENOENT, "layer %.*s is not in the archive", (int)MIN(name.n, 200), name.p);
    for (size_t i = 0; i < a->layers_n; i++) {
        struct archive_layer *l = &a->layers[i];
        if (!str_eq(l->name, name))
            continue;
        if (l->number)
            return l;
        if (l->err.code)
            error_set(err, l->err.code, "%s", l->err.msg);
        else
            error_set(err, -EALREADY, "layer %.*s was used already", (int)MIN(name.n, 200), name.p);
    }
    return NULL;
}

struct str archive_layer_name(const struct archive *a, struct str name) {
    return resolve(a, name);
}

static bool document(const struct archive *a, struct str name, struct str *out) {
    const struct str *s = map_get(&a->documents, resolve(a, name));
    if (s)
        *out = *s;
    return s != NULL;
}

/* A document of an OCI layout, its digest verified. */
static int blob_document(struct archive *a, struct str digest, struct str *out, struct error *err) {
    struct str name = str_printf(a->arena, "blobs/sha256/%.*s", STR_ARG(str_skip(digest, 7)));
    char have[IMAGE_DIGEST_LEN + 1];
    if (!document(a, name, out))
        return error_set(err, -ENOENT, "%.*s is not in the archive", STR_ARG(name));
    image_digest_of(out->p, out->n, have);
    if (!str_eq_c(digest, have))
        return error_set(err, -EBADMSG, "%.*s: digest mismatch: content has %s", STR_ARG(name), have);
    return 0;
}

static int take_config(struct archive *a, struct archive_image *img, struct str text, size_t layers,
                       struct error *err) {
    char digest[IMAGE_DIGEST_LEN + 1];
    int rc = image_config_parse(a->arena, text, &img->config, err);
    if (rc)
        return rc;
    if (!image_platform_matches(&img->config.platform, &a->o.platform))
        return error_set(err, -ENOENT, "it is for %.*s/%.*s, not for this machine",
                         (int)MIN(img->config.platform.os.n, 32), img->config.platform.os.p,
                         (int)MIN(img->config.platform.arch.n, 32), img->config.platform.arch.p);
    if (img->config.diff_ids_n != layers)
        return error_set(err, -EINVAL, "it has %zu layers, its config names %zu", layers, img->config.diff_ids_n);
    image_digest_of(text.p, text.n, digest);
    img->id = str_dup(a->arena, str_c(digest));
    return 0;
}

static void add_tag(struct archive *a, struct archive_image *img, struct str text) {
    struct image_name name;
    struct error err;
    if (img->tags_n == ARCHIVE_TAGS_MAX)
        return;
    if (image_name_parse(a->arena, text, &name, &err)) {
        log_warn("images", "%s: %s", a->o.path, err.msg);
        return;
    }
    if (!name.digest.n)
        img->tags[img->tags_n++] = image_name_text(a->arena, &name);
}

/* Same image again (by docker's manifest.json and by index.json): its names together. */
static void add_image(struct archive *a, const struct archive_image *img) {
    for (size_t i = 0; i < a->images.n; i++) {
        struct archive_image *have = &a->images.items[i];
        if (!str_eq(have->id, img->id))
            continue;
        for (size_t k = 0; k < img->tags_n && have->tags_n < ARCHIVE_TAGS_MAX; k++)
            have->tags[have->tags_n++] = img->tags[k];
        if (!have->digest.n)
            have->digest = img->digest;
        return;
    }
    if (a->images.n < ARCHIVE_IMAGES_MAX)
        vec_push(&a->images, *img);
}

/* docker-archive: [{"Config": "x.json", "RepoTags": [...], "Layers": ["y/layer.tar", ...]}] */
static int docker_image(struct archive *a, const struct json *v, struct error *err) {
    struct archive_image img = {.digest = STR("")};
    const struct json *layers = json_get_c(v, "Layers"), *tags = json_get_c(v, "RepoTags");
    struct str config, name = json_str_at(v, "Config");
    char clean[PATH_MAX];
    if (!clean_name(STR(""), name, clean) || !document(a, str_c(clean), &config))
        return error_set(err, -ENOENT, "its config \"%.*s\" is not in the archive", (int)MIN(name.n, 200), name.p);
    int rc = take_config(a, &img, config, json_len(layers), err);
    if (rc)
        return rc;
    img.layers = arena_alloc(a->arena, sizeof(struct str) * MAX(json_len(layers), 1));
    for (size_t i = 0; i < json_len(layers); i++) {
        name = json_as_str(json_item(layers, i));
        if (!clean_name(STR(""), name, clean))
            return error_set(err, -EINVAL, "\"%.*s\" is no name of a layer", (int)MIN(name.n, 200), name.p);
        img.layers[i] = str_dup(a->arena, str_c(clean));
    }
    for (size_t i = 0; i < json_len(tags); i++)
        add_tag(a, &img, json_as_str(json_item(tags, i)));
    add_image(a, &img);
    return 0;
}

/* What an entry of index.json is called. A bare tag ("1.0", "latest") is no name. */
static void oci_name(struct archive *a, struct archive_image *img, const struct json *annotations) {
    struct str full = json_as_str(json_get_c(annotations, "io.containerd.image.name"));
    struct str ref = json_as_str(json_get_c(annotations, "org.opencontainers.image.ref.name"));
    if (full.n) {
        add_tag(a, img, full);
    } else if (ref.n) {
        bool bare = str_index(ref, ':', 0) < 0 && str_index(ref, '/', 0) < 0;
        bool version = ref.p[0] >= '0' && ref.p[0] <= '9';
        version |= ref.n > 1 && ref.p[0] == 'v' && ref.p[1] >= '0' && ref.p[1] <= '9';
        if (bare && (version || str_eq(ref, STR("latest"))))
            log_warn("images",
                     "%s: an image has only a tag (\"%.*s\") and no name: it can be used by its digest only; "
                     "give it one, such as docker.io/library/app:%.*s",
                     a->o.path, (int)MIN(ref.n, 128), ref.p, (int)MIN(ref.n, 128), ref.p);
        else
            add_tag(a, img, ref);
    }
}

static int oci_manifest(struct archive *a, struct str digest, struct image_manifest *m, struct error *err) {
    struct image_descriptor next;
    for (int depth = 0;; depth++) {
        struct str text;
        int rc = blob_document(a, digest, &text, err);
        if (rc == 0)
            rc = image_manifest_parse(a->arena, text, STR(""), m, err);
        if (rc || m->kind == IMAGE_DOCUMENT_MANIFEST)
            return rc;
        if (depth == IMAGE_INDEX_DEPTH_MAX)
            return error_set(err, -ELOOP, "indexes are nested deeper than %d", IMAGE_INDEX_DEPTH_MAX);
        rc = image_index_choose(a->arena, m->doc, &a->o.platform, &next, err);
        if (rc)
            return rc;
        digest = next.digest;
    }
}

static int oci_image(struct archive *a, const struct json *v, struct error *err) {
    struct archive_image img = {0};
    struct image_descriptor d;
    struct image_manifest m;
    struct str config;
    int rc = image_descriptor_parse(a->arena, v, &d, err);
    if (rc == 0)
        rc = oci_manifest(a, d.digest, &m, err);
    if (rc == 0)
        rc = blob_document(a, m.config.digest, &config, err);
    if (rc == 0)
        rc = take_config(a, &img, config, m.layers_n, err);
    if (rc)
        return rc;
    img.digest = d.digest;
    img.layers = arena_alloc(a->arena, sizeof(struct str) * MAX(m.layers_n, 1));
    for (size_t i = 0; i < m.layers_n; i++)
        img.layers[i] = str_printf(a->arena, "blobs/sha256/%.*s", STR_ARG(str_skip(m.layers[i].digest, 7)));
    oci_name(a, &img, json_get_c(v, "annotations"));
    add_image(a, &img);
    return 0;
}

static void each_image(struct archive *a, const struct json *list,
                       int (*take)(struct archive *a, const struct json *v, struct error *err), struct error *first) {
    for (size_t i = 0; i < json_len(list) && i < ARCHIVE_IMAGES_MAX; i++) {
        struct error err = {0};
        int rc = arena_used(a->arena) > MiB(256) ? error_set(&err, -E2BIG, "its documents together are too large")
                                                 : take(a, json_item(list, i), &err);
        if (rc == 0)
            continue;
        if (json_len(list) > 1)
            log_warn("images", "%s: image %zu is left out: %s", a->o.path, i + 1, err.msg);
        if (!first->code)
            error_set(first, rc, "%s", err.msg);
    }
}

int archive_plan(struct archive *a, struct error *err) {
    struct error first = {0};
    struct str index = STR(""), manifest = STR("");
    bool oci = document(a, STR("index.json"), &index), docker = document(a, STR("manifest.json"), &manifest);
    if (!oci && !docker)
        return error_set(err, -EINVAL,
                         "%s: no image archive: it has neither manifest.json (docker) nor index.json (OCI)", a->o.path);
    struct json_limits limits = {.depth = 32, .nodes = 100000};
    if (oci) {
        const struct json *v = json_parse(a->arena, index, &limits, err);
        if (!v)
            return error_wrap(err, "%s: index.json", a->o.path);
        each_image(a, json_get_c(v, "manifests"), oci_image, &first);
    }
    if (docker) {
        const struct json *v = json_parse(a->arena, manifest, &limits, err);
        if (!v)
            return error_wrap(err, "%s: manifest.json", a->o.path);
        each_image(a, v, docker_image, &first);
    }
    if (a->images.n)
        return 0;
    return first.code ? error_set(err, first.code, "%s: %s", a->o.path, first.msg)
                      : error_set(err, -EINVAL, "%s: the archive holds no image", a->o.path);
}
