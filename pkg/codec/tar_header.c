/* Tar headers: the fixed block of v7, ustar and GNU tar, and pax records. */
#include "codec/tar_private.h"

/* --- fields of the block ----------------------------------------------------------------------------------------- */

struct field {
    uint16_t at, n;
};

static const struct field NAME = {0, 100}, MODE = {100, 8}, UID = {108, 8}, GID = {116, 8}, SIZE = {124, 12},
                          MTIME = {136, 12}, CHECKSUM = {148, 8}, LINK = {157, 100}, USER = {265, 32},
                          GROUP = {297, 32}, MAJOR = {329, 8}, MINOR = {337, 8}, PREFIX = {345, 155},
                          STAR_PREFIX = {345, 131};

#define TYPE_AT 156
#define MAGIC_AT 257
#define STAR_TRAILER_AT 508

/* Text up to its NUL or the end of the field. */
static struct str text_of(const unsigned char *block, struct field f) {
    const char *p = (const char *)block + f.at;
    return str_n(p, strnlen(p, f.n));
}

/* Base 256 (GNU): two's complement, big-endian, the top bit of the first byte set as a mark. */
static bool binary_number(const unsigned char *p, size_t n, int64_t *out) {
    unsigned char invert = p[0] & 0x40 ? 0xFF : 0;
    uint64_t v = 0;
    for (size_t i = 0; i < n; i++) {
        unsigned char c = p[i] ^ invert;
        if (i == 0)
            c &= 0x7F;
        if (v >> 55)
            return false;
        v = v << 8 | c;
    }
    *out = invert ? (int64_t)~v : (int64_t)v;
    return true;
}

/* Octal digits between blanks and NULs, or base 256. An empty field is 0. */
static bool number(const unsigned char *block, struct field f, int64_t *out) {
    const unsigned char *p = block + f.at, *end = p + f.n;
    uint64_t v = 0;
    if (*p & 0x80)
        return binary_number(p, f.n, out);
    while (p < end && (*p == ' ' || *p == 0))
        p++;
    for (; p < end && *p >= '0' && *p <= '7'; p++)
        v = v << 3 | (uint64_t)(*p - '0'); /* at most 12 digits: 36 bits */
    while (p < end && (*p == ' ' || *p == 0))
        p++;
    *out = (int64_t)v;
    return p == end;
}

static bool id_number(int64_t v, uint32_t *out) {
    if (v < 0 || v >= UINT32_MAX) /* (uid_t)-1 means "no change" to chown */
        return false;
    *out = (uint32_t)v;
    return true;
}

enum dialect { V7, USTAR, STAR, GNU };

static enum dialect dialect_of(const unsigned char *block) {
    if (memcmp(block + MAGIC_AT, "ustar\0", 6) == 0)
        return memcmp(block + STAR_TRAILER_AT, "tar\0", 4) == 0 ? STAR : USTAR;
    return memcmp(block + MAGIC_AT, "ustar  \0", 8) == 0 ? GNU : V7;
}

/* --- block kinds ------------------------------------------------------------------------------------------------- */

static bool is_zero(const unsigned char *block) {
    unsigned char any = 0;
    for (int i = 0; i < TAR_BLOCK_BYTES; i++)
        any |= block[i];
    return any == 0;
}

/* The sum counts the checksum's own bytes as blanks; some old writers summed signed characters. */
static bool checksum_fits(const unsigned char *block) {
    int64_t given, sum = 0, signed_sum = 0;
    for (int i = 0; i < TAR_BLOCK_BYTES; i++) {
        unsigned char c = i >= CHECKSUM.at && i < CHECKSUM.at + CHECKSUM.n ? ' ' : block[i];
        sum += c;
        signed_sum += (signed char)c;
    }
    return number(block, CHECKSUM, &given) && (given == sum || given == signed_sum);
}

static const struct type {
    char flag;
    enum tar_block_kind kind;
    enum tar_type type;
} types[] = {
    {0, TAR_BLOCK_ENTRY, TAR_FILE},      {'0', TAR_BLOCK_ENTRY, TAR_FILE},
    {'7', TAR_BLOCK_ENTRY, TAR_FILE},    {'1', TAR_BLOCK_ENTRY, TAR_HARDLINK},
    {'2', TAR_BLOCK_ENTRY, TAR_SYMLINK}, {'3', TAR_BLOCK_ENTRY, TAR_CHAR},
    {'4', TAR_BLOCK_ENTRY, TAR_BLOCK},   {'5', TAR_BLOCK_ENTRY, TAR_DIR},
    {'6', TAR_BLOCK_ENTRY, TAR_FIFO},    {'x', TAR_BLOCK_PAX, 0},
    {'g', TAR_BLOCK_PAX_GLOBAL, 0},      {'L', TAR_BLOCK_LONG_PATH, 0},
    {'K', TAR_BLOCK_LONG_LINK, 0},
};

static const struct type *type_of(const unsigned char *block) {
    for (size_t i = 0; i < ARRAY_LEN(types); i++)
        if ((char)block[TYPE_AT] == types[i].flag)
            return &types[i];
    return NULL;
}

int tar_block_kind(const unsigned char block[TAR_BLOCK_BYTES], uint64_t *size, struct error *err) {
    int64_t n;
    if (is_zero(block))
        return TAR_BLOCK_ZERO;
    if (!checksum_fits(block))
        return error_set(err, -EINVAL, "the checksum is wrong");
    const struct type *t = type_of(block);
    unsigned char flag = block[TYPE_AT];
    if (!t && flag == 'S')
        return error_set(err, -ENOTSUP, "sparse files are not supported");
    if (!t)
        return error_set(err, -ENOTSUP, "entry type 0x%02x is not supported", flag);
    if (!number(block, SIZE, &n) || n < 0)
        return error_set(err, -EINVAL, "the size is malformed");
    *size = (uint64_t)n;
    return (int)t->kind;
}

/* --- pax records ------------------------------------------------------------------------------------------------- */

static int bad_record(struct error *err) {
    return error_set(err, -EINVAL, "a pax record is malformed");
}

/* "-12.345" seconds; digits beyond nanoseconds are dropped. */
static bool pax_time(struct str s, struct timespec *out) {
    struct str whole = s, fraction = STR("");
    int64_t seconds;
    long ns = 0, unit = 100000000;
    str_cut(s, '.', &whole, &fraction);
    if (!str_to_i64(whole, &seconds))
        return false;
    for (size_t i = 0; i < fraction.n; i++, unit /= 10) {
        if (fraction.p[i] < '0' || fraction.p[i] > '9')
            return false;
        ns += (fraction.p[i] - '0') * unit;
    }
    if (whole.p[0] == '-' && ns) { /* towards the past; timespec counts nanoseconds forward */
        if (seconds == INT64_MIN)
            return false;
        seconds--;
        ns = 1000000000 - ns;
    }
    out->tv_sec = (time_t)seconds;
    out->tv_nsec = ns;
    return (int64_t)out->tv_sec == seconds;
}

static bool take_string(struct str value, struct str *out) {
    *out = value;
    return !memchr(value.p, 0, value.n);
}

static bool take_id(struct str value, bool *has, uint32_t *out) {
    int64_t v;
    *has = true;
    return str_to_i64(value, &v) && id_number(v, out);
}

static int take_xattr(struct str name, struct str value, const struct tar_limits *limits, struct arena *a,
                      struct tar_extended *ext) {
    if (name.n == 0 || memchr(name.p, 0, name.n))
        return -EINVAL;
    if (!a)
        return 0;
    if (!ext->xattrs)
        ext->xattrs = arena_alloc(a, limits->xattrs * sizeof(*ext->xattrs));
    for (size_t i = 0; i < ext->n_xattrs; i++) {
        if (str_eq(ext->xattrs[i].name, name)) {
            ext->xattrs[i].value = value;
            return 0;
        }
    }
    if (ext->n_xattrs == limits->xattrs)
        return -E2BIG;
    ext->xattrs[ext->n_xattrs++] = (struct tar_xattr){name, value};
    return 0;
}

#define XATTR_PREFIX "SCHILY.xattr."

static int take_record(struct str key, struct str value, const struct tar_limits *limits, struct arena *a,
                       struct tar_extended *ext, struct error *err) {
    bool fine = true;
    if (str_starts(key, STR("GNU.sparse.")))
        return error_set(err, -ENOTSUP, "sparse files are not supported");
    if (value.n == 0)
        return 0; /* the header's own field counts */
    if (str_starts(key, STR(XATTR_PREFIX))) {
        int rc = take_xattr(str_skip(key, sizeof(XATTR_PREFIX) - 1), value, limits, a, ext);
        if (rc == -E2BIG)
            return error_set(err, rc, "there are more than %u extended attributes", limits->xattrs);
        fine = rc == 0;
    } else if (str_eq_c(key, "path")) {
        fine = take_string(value, &ext->path);
    } else if (str_eq_c(key, "linkpath")) {
        fine = take_string(value, &ext->link);
    } else if (str_eq_c(key, "uname")) {
        fine = take_string(value, &ext->user);
    } else if (str_eq_c(key, "gname")) {
        fine = take_string(value, &ext->group);
    } else if (str_eq_c(key, "uid")) {
        fine = take_id(value, &ext->has_uid, &ext->uid);
    } else if (str_eq_c(key, "gid")) {
        fine = take_id(value, &ext->has_gid, &ext->gid);
    } else if (str_eq_c(key, "size")) {
        ext->has_size = true;
        fine = str_to_u64(value, &ext->size) && ext->size <= INT64_MAX;
    } else if (str_eq_c(key, "mtime")) {
        ext->has_mtime = true;
        fine = pax_time(value, &ext->mtime);
    }
    if (!fine)
        return error_set(err, -EINVAL, "pax record \"%.*s\" is malformed", (int)MIN(key.n, (size_t)64), key.p);
    return 0;
}

/* "LENGTH KEY=VALUE\n", LENGTH counting all of that. */
int tar_parse_pax(char *text, size_t n, const struct tar_limits *limits, struct arena *a, struct tar_extended *ext,
                  struct error *err) {
    while (n) {
        struct str length, record = str_n(text, n), key, value;
        uint64_t size;
        if (!str_cut(str_n(text, MIN(n, (size_t)20)), ' ', &length, NULL) || !str_to_u64(length, &size))
            return bad_record(err);
        if (size > n || size < length.n + 2 || text[size - 1] != '\n')
            return bad_record(err);
        text[size - 1] = 0;
        record = str_n(text + length.n + 1, (size_t)size - length.n - 2);
        if (!str_cut(record, '=', &key, &value) || key.n == 0)
            return bad_record(err);
        text[(key.p - text) + (ptrdiff_t)key.n] = 0;
        int rc = take_record(key, value, limits, a, ext, err);
        if (rc)
            return rc;
        text += size;
        n -= (size_t)size;
    }
    return 0;
}

/* --- entries ----------------------------------------------------------------------------------------------------- */

static struct str first_given(struct str a, struct str b, struct str c) {
    return a.p ? a : b.p ? b : c;
}

/* The name in the header, with ustar's prefix before it. */
static struct str header_path(const unsigned char *block, struct arena *a) {
    struct str name = text_of(block, NAME), prefix = STR("");
    enum dialect d = dialect_of(block);
    if (d == USTAR || d == STAR)
        prefix = text_of(block, d == STAR ? STAR_PREFIX : PREFIX);
    return prefix.n ? str_printf(a, "%.*s/%.*s", STR_ARG(prefix), STR_ARG(name)) : name;
}

static int check_name(struct str s, const char *what, const struct tar_limits *limits, struct error *err) {
    if (s.n == 0)
        return error_set(err, -EINVAL, "the %s is empty", what);
    if (s.n > limits->name_bytes)
        return error_set(err, -E2BIG, "the %s is longer than %zu bytes", what, limits->name_bytes);
    return 0;
}

static int parse_numbers(const unsigned char *block, const struct tar_extended *ext, struct tar_entry *out,
                         struct error *err) {
    int64_t mode, uid, gid, mtime, major = 0, minor = 0;
    bool device = out->type == TAR_CHAR || out->type == TAR_BLOCK;
    if (!number(block, MODE, &mode))
        return error_set(err, -EINVAL, "the mode is malformed");
    out->mode = (uint32_t)mode & 07777;
    out->uid = ext->uid;
    out->gid = ext->gid;
    if (!ext->has_uid && (!number(block, UID, &uid) || !id_number(uid, &out->uid)))
        return error_set(err, -EINVAL, "the user id is malformed");
    if (!ext->has_gid && (!number(block, GID, &gid) || !id_number(gid, &out->gid)))
        return error_set(err, -EINVAL, "the group id is malformed");
    if (!ext->has_mtime) {
        if (!number(block, MTIME, &mtime) || (time_t)mtime != mtime)
            return error_set(err, -EINVAL, "the modification time is malformed");
        out->mtime.tv_sec = (time_t)mtime;
    } else {
        out->mtime = ext->mtime;
    }
    if (device && (!number(block, MAJOR, &major) || !number(block, MINOR, &minor) || !id_number(major, &out->major) ||
                   !id_number(minor, &out->minor)))
        return error_set(err, -EINVAL, "the device number is malformed");
    return 0;
}

static struct str copy_or_empty(struct arena *a, struct str s) {
    return str_dup(a, s.p ? s : STR(""));
}

int tar_parse_entry(const unsigned char block[TAR_BLOCK_BYTES], const struct tar_extended *ext,
                    const struct tar_limits *limits, struct arena *a, struct tar_entry *out, struct error *err) {
    int64_t size;
    struct tar_entry e = {.type = type_of(block)->type, .xattrs = ext->xattrs, .n_xattrs = ext->n_xattrs};
    struct str path = first_given(ext->long_path, ext->path, header_path(block, a));
    struct str link = first_given(ext->long_link, ext->link, text_of(block, LINK));
    if (block[TYPE_AT] == 0 && str_ends(path, STR("/")))
        e.type = TAR_DIR; /* v7 has no type for directories */
    while (e.type == TAR_DIR && path.n > 1 && path.p[path.n - 1] == '/')
        path.n--;
    bool has_link = e.type == TAR_HARDLINK || e.type == TAR_SYMLINK;
    int rc = check_name(path, "name", limits, err);
    if (rc == 0 && has_link)
        rc = check_name(link, "link target", limits, err);
    if (rc == 0)
        rc = parse_numbers(block, ext, &e, err);
    if (rc)
        return rc;
    e.path = str_dup(a, path);
    e.link = copy_or_empty(a, has_link ? link : STR_NULL);
    bool names = dialect_of(block) != V7;
    e.user = copy_or_empty(a, ext->user.p ? ext->user : names ? text_of(block, USER) : STR_NULL);
    e.group = copy_or_empty(a, ext->group.p ? ext->group : names ? text_of(block, GROUP) : STR_NULL);
    number(block, SIZE, &size); /* checked by tar_block_kind() */
    e.size = ext->has_size ? ext->size : (uint64_t)size;
    *out = e;
    return 0;
}
