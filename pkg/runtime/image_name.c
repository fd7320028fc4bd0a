#include "runtime/image_name.h"

#include <stdio.h>

#include "net/pki.h"
#include "runtime/image.h"

#define NAME_MAX_BYTES 255 /* domain and path, as the distribution specification has it */
#define TAG_MAX_BYTES 128

static bool is_lower_alnum(char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
}

static bool is_alnum(char c) {
    return is_lower_alnum(c) || (c >= 'A' && c <= 'Z');
}

static bool has_upper(struct str s) {
    for (size_t i = 0; i < s.n; i++)
        if (s.p[i] >= 'A' && s.p[i] <= 'Z')
            return true;
    return false;
}

bool image_digest_valid(struct str s) {
    if (s.n != IMAGE_DIGEST_LEN || !str_starts(s, STR("sha256:")))
        return false;
    for (size_t i = 7; i < s.n; i++)
        if (!((s.p[i] >= '0' && s.p[i] <= '9') || (s.p[i] >= 'a' && s.p[i] <= 'f')))
            return false;
    return true;
}

void image_digest_text(const unsigned char sum[32], char out[IMAGE_DIGEST_LEN + 1]) {
    static const char hex[] = "0123456789abcdef";
    memcpy(out, "sha256:", 7);
    for (size_t i = 0; i < 32; i++) {
        out[7 + 2 * i] = hex[sum[i] >> 4];
        out[8 + 2 * i] = hex[sum[i] & 15];
    }
    out[IMAGE_DIGEST_LEN] = 0;
}

void image_digest_of(const void *data, size_t n, char out[IMAGE_DIGEST_LEN + 1]) {
    unsigned char sum[32];
    sha256(data, n, sum);
    image_digest_text(sum, out);
}

/* Length of the separator at s ('.', '_', '__' or dashes), 0 when there is none. */
static size_t separator(struct str s) {
    if (s.n == 0)
        return 0;
    if (s.p[0] == '.')
        return 1;
    if (s.p[0] == '_')
        return s.n > 1 && s.p[1] == '_' ? 2 : 1;
    size_t n = 0;
    while (n < s.n && s.p[n] == '-')
        n++;
    return n;
}

static bool path_component_valid(struct str c) {
    size_t i = 0;
    for (;;) {
        size_t start = i;
        while (i < c.n && is_lower_alnum(c.p[i]))
            i++;
        if (i == start)
            return false;
        if (i == c.n)
            return true;
        size_t sep = separator(str_skip(c, i));
        if (sep == 0)
            return false;
        i += sep;
    }
}

static bool path_valid(struct str path) {
    while (path.p)
        if (!path_component_valid(str_split(&path, '/')))
            return false;
    return true;
}

static bool port_valid(struct str port) {
    uint64_t n;
    return str_to_u64(port, &n) && n > 0 && n < 65536;
}

static bool label_valid(struct str l) {
    if (l.n == 0 || l.n > 63 || !is_alnum(l.p[0]) || !is_alnum(l.p[l.n - 1]))
        return false;
    for (size_t i = 0; i < l.n; i++)
        if (!is_alnum(l.p[i]) && l.p[i] != '-' && l.p[i] != '_')
            return false;
    return true;
}

static bool domain_valid(struct str domain) {
    if (domain.n && domain.p[0] == '[') {
        ptrdiff_t close = str_index(domain, ']', 0);
        if (close < 3)
            return false;
        for (ptrdiff_t i = 1; i < close; i++)
            if (!domain.p[i] || !strchr("0123456789abcdefABCDEF:.", domain.p[i]))
                return false;
        struct str rest = str_skip(domain, (size_t)close + 1);
        return rest.n == 0 || (rest.p[0] == ':' && port_valid(str_skip(rest, 1)));
    }
    struct str host = domain, port;
    if (str_cut(domain, ':', &host, &port) && !port_valid(port))
        return false;
    while (host.p)
        if (!label_valid(str_split(&host, '.')))
            return false;
    return true;
}

static bool tag_valid(struct str tag) {
    if (tag.n == 0 || tag.n > TAG_MAX_BYTES || tag.p[0] == '.' || tag.p[0] == '-')
        return false;
    for (size_t i = 0; i < tag.n; i++)
        if (!is_alnum(tag.p[i]) && tag.p[i] != '_' && tag.p[i] != '.' && tag.p[i] != '-')
            return false;
    return true;
}

static int refuse(struct error *err, struct str text, const char *why) {
    struct str shown = text.n > 128 ? str_n(text.p, 128) : text;
    return error_set(err, -EINVAL, "invalid image name \"%.*s\"%s: %s", STR_ARG(shown), text.n > 128 ? "..." : "", why);
}

/* The first part is a registry when it looks like a host: it has a dot, a port or upper case, or is localhost. */
static void split_domain(struct str name, struct str *domain, struct str *path) {
    struct str first, rest;
    *domain = STR("docker.io");
    *path = name;
    if (!str_cut(name, '/', &first, &rest))
        return;
    if (str_index(first, '.', 0) < 0 && str_index(first, ':', 0) < 0 && !str_eq(first, STR("localhost")) &&
        !has_upper(first))
        return;
    *domain = str_eq(first, STR("index.docker.io")) ? STR("docker.io") : first;
    *path = rest;
}

int image_name_parse(struct arena *a, struct str text, struct image_name *out, struct error *err) {
    if (text.n == 0)
        return error_set(err, -EINVAL, "invalid image name: it is empty");
    if (text.n > NAME_MAX_BYTES + TAG_MAX_BYTES + IMAGE_DIGEST_LEN + 2)
        return refuse(err, text, "it is too long");
    struct str name = text, digest = STR(""), tag = STR("");
    if (str_cut(text, '@', &name, &digest)) {
        if (digest.n > 7 && !str_starts(digest, STR("sha256:")) && str_index(digest, ':', 0) > 0)
            return refuse(err, text, "only sha256 digests are supported");
        if (!image_digest_valid(digest))
            return refuse(err, text, "the digest must be sha256: and 64 lower-case hex digits");
    }
    ptrdiff_t colon = str_rindex(name, ':'), slash = str_rindex(name, '/');
    if (colon >= 0 && colon > slash) {
        tag = str_skip(name, (size_t)colon + 1);
        name.n = (size_t)colon;
        if (!tag_valid(tag))
            return refuse(err, text,
                          "the tag must be 1 to 128 letters, digits, '_', '.' or '-', and not start with '.' or '-'");
    }
    struct str domain, path;
    split_domain(name, &domain, &path);
    if (path.n == 0)
        return refuse(err, text, "it has no repository");
    if (!domain_valid(domain))
        return refuse(err, text, "the registry is not a host name with an optional port");
    if (path.n == 64 && image_digest_valid(str_printf(a, "sha256:%.*s", STR_ARG(path))) && slash < 0)
        return refuse(err, text, "a repository name cannot be 64 hex digits");
    bool official = str_eq(domain, STR("docker.io")) && str_index(path, '/', 0) < 0;
    if (has_upper(path))
        return refuse(err, text, "the repository name must be lower case");
    if (!path_valid(path))
        return refuse(err, text,
                      "the repository must be parts of a-z and 0-9, joined by '.', '_', '__' or '-', between slashes");
    if (domain.n + path.n + 1 + (official ? strlen("library/") : 0) > NAME_MAX_BYTES)
        return refuse(err, text, "registry and repository are longer than 255 bytes");
    out->domain = str_dup(a, domain);
    out->path = official ? str_printf(a, "library/%.*s", STR_ARG(path)) : str_dup(a, path);
    out->digest = str_dup(a, digest);
    out->tag = digest.n ? STR("") : tag.n ? str_dup(a, tag) : STR("latest");
    return 0;
}

struct str image_name_text(struct arena *a, const struct image_name *n) {
    if (n->digest.n)
        return str_printf(a, "%.*s/%.*s@%.*s", STR_ARG(n->domain), STR_ARG(n->path), STR_ARG(n->digest));
    return str_printf(a, "%.*s/%.*s:%.*s", STR_ARG(n->domain), STR_ARG(n->path), STR_ARG(n->tag));
}

int image_name_normalize(struct arena *a, struct str name, struct str *out, struct error *err) {
    struct image_name n;
    int rc = image_name_parse(a, name, &n, err);
    if (rc == 0)
        *out = image_name_text(a, &n);
    return rc;
}
