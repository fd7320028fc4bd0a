#include "runtime/image_manifest.h"

#include "net/pki.h"

#define INDEX_ENTRIES_MAX 4096

static const struct json_limits limits = {.depth = 32, .nodes = 200000};

/* --- descriptors -------------------------------------------------------------------------------------------------- */

int image_descriptor_parse(struct arena *a, const struct json *v, struct image_descriptor *out, struct error *err) {
    struct str digest = json_str_at(v, "digest");
    int64_t size = json_as_int(json_get_c(v, "size"), -1);
    if (!json_is(v, JSON_OBJECT))
        return error_set(err, -EINVAL, "a descriptor is missing or no object");
    if (!image_digest_valid(digest))
        return error_set(err, -EINVAL, "\"%.*s\" is no sha256 digest", (int)MIN(digest.n, 100), digest.p);
    if (size < 0)
        return error_set(err, -EINVAL, "%.*s: no valid size", STR_ARG(digest));
    *out = (struct image_descriptor){str_dup(a, json_str_at(v, "mediaType")), str_dup(a, digest), (uint64_t)size};
    return 0;
}

static bool media_type_is_index(struct str t) {
    return str_eq(t, STR("application/vnd.oci.image.index.v1+json")) ||
           str_eq(t, STR("application/vnd.docker.distribution.manifest.list.v2+json"));
}

static bool media_type_is_manifest(struct str t) {
    return str_eq(t, STR("application/vnd.oci.image.manifest.v1+json")) ||
           str_eq(t, STR("application/vnd.docker.distribution.manifest.v2+json"));
}

static bool layer_type_known(struct str t) {
    static const char *const prefixes[] = {"application/vnd.oci.image.layer.v1.tar",
                                           "application/vnd.oci.image.layer.nondistributable.v1.tar",
                                           "application/vnd.docker.image.rootfs.diff.tar",
                                           "application/vnd.docker.image.rootfs.foreign.diff.tar"};
    static const char *const suffixes[] = {"", "+gzip", ".gzip", "+zstd", ".zstd"};
    for (size_t i = 0; i < ARRAY_LEN(prefixes); i++)
        if (str_starts(t, str_c(prefixes[i])))
            for (size_t k = 0; k < ARRAY_LEN(suffixes); k++)
                if (str_eq_c(str_skip(t, strlen(prefixes[i])), suffixes[k]) ||
                    (t.n == strlen(prefixes[i]) && !*suffixes[k]))
                    return true;
    return false;
}

static bool config_type_known(struct str t) {
    return t.n == 0 || str_eq(t, STR("application/vnd.oci.image.config.v1+json")) ||
           str_eq(t, STR("application/vnd.docker.container.image.v1+json")) ||
           str_eq(t, STR("application/octet-stream")); /* very old docker */
}

/* --- manifests ---------------------------------------------------------------------------------------------------- */

static int parse_layers(struct arena *a, const struct json *list, struct image_manifest *m, struct error *err) {
    if (!json_is(list, JSON_ARRAY))
        return error_set(err, -EINVAL, "manifest: no list of layers");
    if (list->n > IMAGE_LAYERS_MAX)
        return error_set(err, -E2BIG, "manifest: %u layers, the limit is %d", list->n, IMAGE_LAYERS_MAX);
    m->layers = arena_alloc(a, sizeof(*m->layers) * MAX(list->n, 1));
    for (size_t i = 0; i < list->n; i++) {
        struct image_descriptor *d = &m->layers[i];
        if (image_descriptor_parse(a, list->items[i], d, err))
            return error_wrap(err, "manifest: layer %zu", i);
        if (!layer_type_known(d->media_type))
            return error_set(err, -ENOTSUP,
                             "manifest: layer %.*s has the type \"%.*s\", which is no layer of a file system",
                             STR_ARG(d->digest), (int)MIN(d->media_type.n, 100), d->media_type.p);
    }
    m->layers_n = list->n;
    return 0;
}

static bool is_schema1(const struct json *doc, struct str type) {
    return json_int_at(doc, "schemaVersion", 0) == 1 ||
           str_starts(type, STR("application/vnd.docker.distribution.manifest.v1+"));
}

int image_manifest_parse(struct arena *a, struct str body, struct str content_type, struct image_manifest *out,
                         struct error *err) {
    struct image_manifest m = {0};
    if (body.n > IMAGE_MANIFEST_BYTES_MAX)
        return error_set(err, -E2BIG, "manifest: larger than 4 MiB");
    m.doc = json_parse(a, body, &limits, err);
    if (!m.doc)
        return error_wrap(err, "manifest");
    if (!json_is(m.doc, JSON_OBJECT))
        return error_set(err, -EINVAL, "manifest: no JSON object");
    struct str type = json_str_at(m.doc, "mediaType");
    if (!type.n && (media_type_is_index(content_type) || media_type_is_manifest(content_type)))
        type = content_type;
    if (is_schema1(m.doc, type.n ? type : content_type))
        return error_set(err, -ENOTSUP,
                         "the image has a Docker schema 1 manifest, which is obsolete and not supported: push it "
                         "again with a current tool");
    const struct json *manifests = json_get_c(m.doc, "manifests"), *config = json_get_c(m.doc, "config");
    /* A document must not be read as one thing here and as another there (OCI's advisory GHSA-mc8v-mgrf-8f4m). */
    if (manifests && (config || json_get_c(m.doc, "layers")))
        return error_set(err, -EINVAL, "manifest: ambiguous: it has manifests as well as config or layers");
    if (type.n && !media_type_is_index(type) && !media_type_is_manifest(type))
        return error_set(err, -ENOTSUP, "manifest: the type \"%.*s\" is not supported", (int)MIN(type.n, 100), type.p);
    if ((type.n && media_type_is_index(type)) != (manifests != NULL))
        if (type.n)
            return error_set(err, -EINVAL, "manifest: its contents are not of its type \"%.*s\"", STR_ARG(type));
    if (manifests) {
        if (!json_is(manifests, JSON_ARRAY) || manifests->n > INDEX_ENTRIES_MAX)
            return error_set(err, -EINVAL, "index: manifests must be a list of at most %d", INDEX_ENTRIES_MAX);
        m.kind = IMAGE_DOCUMENT_INDEX;
        *out = m;
        return 0;
    }
    if (image_descriptor_parse(a, config, &m.config, err))
        return error_wrap(err, "manifest: config");
    if (!config_type_known(m.config.media_type))
        return error_set(err, -ENOTSUP, "not a container image: its config has the type \"%.*s\"",
                         (int)MIN(m.config.media_type.n, 100), m.config.media_type.p);
    if (m.config.size > IMAGE_CONFIG_BYTES_MAX)
        return error_set(err, -E2BIG, "manifest: the config is %llu bytes large, the limit is 4 MiB",
                         (unsigned long long)m.config.size);
    int rc = parse_layers(a, json_get_c(m.doc, "layers"), &m, err);
    if (rc == 0)
        *out = m;
    return rc;
}

/* --- platforms ---------------------------------------------------------------------------------------------------- */

/* "v7" -> 7; the default of the architecture when empty; -1 when it is no such thing. */
static int variant_number(struct str arch, struct str variant) {
    if (!variant.n)
        return str_eq(arch, STR("arm")) ? 7 : str_eq(arch, STR("arm64")) ? 8 : 1;
    int64_t n;
    if (variant.p[0] == 'v' && str_to_i64(str_skip(variant, 1), &n) && n >= 0 && n < 100)
        return (int)n;
    return -1;
}

/* 0: does not run; more is better. A variant runs everything of lower variants of its architecture. */
static int platform_score(const struct image_platform *have, const struct image_platform *p) {
    if (!str_eq(have->os, p->os) || !str_eq(have->arch, p->arch))
        return 0;
    int mine = variant_number(p->arch, p->variant), theirs = variant_number(have->arch, have->variant);
    if (theirs < 0)
        return str_eq(have->variant, p->variant) ? 1 : 0;
    return theirs <= mine ? 1 + theirs : 0;
}

bool image_platform_matches(const struct image_platform *have, const struct image_platform *p) {
    struct image_platform h = *have;
    if (!h.os.n)
        h.os = p->os;
    if (!h.arch.n)
        h.arch = p->arch;
    return platform_score(&h, p) > 0;
}

static void platform_of(struct arena *a, const struct json *v, struct image_platform *out) {
    *out = (struct image_platform){str_dup(a, json_str_at(v, "os")), str_dup(a, json_str_at(v, "architecture")),
                                   str_dup(a, json_str_at(v, "variant"))};
}

static void list_platform(struct buf *b, const struct image_platform *p) {
    if (b->n < 160)
        buf_printf(b, "%s%.*s/%.*s%s%.*s", b->n ? ", " : "", (int)MIN(p->os.n, 20), p->os.p, (int)MIN(p->arch.n, 20),
                   p->arch.p, p->variant.n ? "/" : "", (int)MIN(p->variant.n, 20), p->variant.p);
}

int image_index_choose(struct arena *a, const struct json *index, const struct image_platform *p,
                       struct image_descriptor *out, struct error *err) {
    const struct json *list = json_get_c(index, "manifests"), *best = NULL, *nameless = NULL;
    int best_score = 0;
    cleanup_buf struct buf seen = BUF_INIT;
    for (size_t i = 0; i < json_len(list); i++) {
        const struct json *e = json_item(list, i), *platform = json_get_c(e, "platform");
        struct str type = json_str_at(e, "mediaType");
        if (type.n && !media_type_is_index(type) && !media_type_is_manifest(type))
            continue;
        if (!json_is(platform, JSON_OBJECT)) {
            nameless = nameless ? nameless : e;
            continue;
        }
        struct image_platform have;
        platform_of(a, platform, &have);
        int score = platform_score(&have, p);
        if (score > best_score) {
            best = e;
            best_score = score;
        }
        if (!str_eq(have.os, STR("unknown"))) /* attestations */
            list_platform(&seen, &have);
    }
    best = best ? best : nameless;
    if (best)
        return image_descriptor_parse(a, best, out, err) ? error_wrap(err, "index") : 0;
    return error_set(err, -ENOENT, "no match for platform %.*s/%.*s%s%.*s in the image's index (it has: %.*s)",
                     STR_ARG(p->os), STR_ARG(p->arch), p->variant.n ? "/" : "", STR_ARG(p->variant),
                     STR_ARG(seen.n ? buf_str(&seen) : STR("none")));
}

/* --- configurations ----------------------------------------------------------------------------------------------- */

int image_config_parse(struct arena *a, struct str body, struct image_config *out, struct error *err) {
    if (body.n > IMAGE_CONFIG_BYTES_MAX)
        return error_set(err, -E2BIG, "image config: larger than 4 MiB");
    const struct json *doc = json_parse(a, body, &limits, err);
    if (!doc)
        return error_wrap(err, "image config");
    if (!json_is(doc, JSON_OBJECT))
        return error_set(err, -EINVAL, "image config: no JSON object");
    struct image_config c = {.created = str_dup(a, json_str_at(doc, "created"))};
    platform_of(a, doc, &c.platform);
    c.config = json_get_c(doc, "config");
    if (!json_is(c.config, JSON_OBJECT))
        c.config = json_object(a);
    const struct json *rootfs = json_get_c(doc, "rootfs"), *ids = json_get_c(rootfs, "diff_ids");
    struct str type = json_str_at(rootfs, "type");
    if (type.n && !str_eq(type, STR("layers")))
        return error_set(err, -ENOTSUP, "image config: rootfs type \"%.*s\" is not supported", (int)MIN(type.n, 50),
                         type.p);
    if (json_len(ids) > IMAGE_LAYERS_MAX)
        return error_set(err, -E2BIG, "image config: %zu layers, the limit is %d", json_len(ids), IMAGE_LAYERS_MAX);
    c.diff_ids_n = json_len(ids);
    c.diff_ids = arena_alloc(a, sizeof(struct str) * MAX(c.diff_ids_n, 1));
    for (size_t i = 0; i < c.diff_ids_n; i++) {
        c.diff_ids[i] = json_as_str(json_item(ids, i));
        if (!image_digest_valid(c.diff_ids[i]))
            return error_set(err, -EINVAL, "image config: diff_ids[%zu] is no sha256 digest", i);
    }
    *out = c;
    return 0;
}

void image_chain_id(struct str below, struct str diff_id, char out[IMAGE_DIGEST_LEN + 1]) {
    char text[2 * IMAGE_DIGEST_LEN + 1];
    if (!below.n) {
        memcpy(out, diff_id.p, IMAGE_DIGEST_LEN);
        out[IMAGE_DIGEST_LEN] = 0;
        return;
    }
    memcpy(text, below.p, IMAGE_DIGEST_LEN);
    text[IMAGE_DIGEST_LEN] = ' ';
    memcpy(text + IMAGE_DIGEST_LEN + 1, diff_id.p, IMAGE_DIGEST_LEN);
    image_digest_of(text, sizeof(text), out);
}
