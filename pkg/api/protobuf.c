#include "api/protobuf.h"

#include <stdio.h>

#define DEPTH_MAX 64
#define PATH_MAX_ 2 /* embedded messages around a field, as schema_field.pb_path */

enum wire { WIRE_VARINT = 0, WIRE_FIXED64 = 1, WIRE_BYTES = 2, WIRE_FIXED32 = 5 };

struct reader {
    const unsigned char *p, *end;
};

struct record { /* one tag with its value */
    uint32_t number;
    enum wire wire;
    uint64_t value; /* varint, fixed */
    struct str bytes;
};

struct decoder {
    struct arena *a;
    struct error *err;
    uint32_t values_left;
    int depth;
};

static int malformed(struct decoder *d, const char *what) {
    return error_set(d->err, -EINVAL, "malformed protobuf: %s", what);
}

static int count_value(struct decoder *d) {
    if (d->values_left-- > 0)
        return 0;
    d->values_left = 0;
    return error_set(d->err, -E2BIG, "the object has too many values");
}

static struct reader reader_of(struct str s) {
    return (struct reader){(const unsigned char *)s.p, (const unsigned char *)s.p + s.n};
}

static bool read_varint(struct reader *r, uint64_t *out) {
    uint64_t v = 0;
    for (unsigned shift = 0; shift < 64 && r->p < r->end; shift += 7) {
        unsigned char c = *r->p++;
        v |= (uint64_t)(c & 0x7F) << shift;
        if (!(c & 0x80)) {
            *out = v;
            return true;
        }
    }
    return false;
}

static bool read_fixed(struct reader *r, size_t n, uint64_t *out) {
    if ((size_t)(r->end - r->p) < n)
        return false;
    *out = 0;
    for (size_t i = n; i-- > 0;)
        *out = *out << 8 | r->p[i];
    r->p += n;
    return true;
}

/* 1: a record; 0: the end; negative: malformed. */
static int next(struct decoder *d, struct reader *r, struct record *out) {
    uint64_t tag = 0;
    if (r->p == r->end)
        return 0;
    if (!read_varint(r, &tag) || tag >> 3 == 0 || tag >> 3 > UINT32_MAX)
        return malformed(d, "a bad tag");
    *out = (struct record){.number = (uint32_t)(tag >> 3), .wire = (enum wire)(tag & 7)};
    switch (out->wire) {
    case WIRE_VARINT:
        return read_varint(r, &out->value) ? 1 : malformed(d, "a truncated number");
    case WIRE_FIXED64:
    case WIRE_FIXED32:
        return read_fixed(r, out->wire == WIRE_FIXED64 ? 8 : 4, &out->value) ? 1 : malformed(d, "a truncated number");
    case WIRE_BYTES:
        if (!read_varint(r, &out->value) || out->value > (uint64_t)(r->end - r->p))
            return malformed(d, "a length beyond the end");
        out->bytes = str_n((const char *)r->p, (size_t)out->value);
        r->p += out->value;
        return 1;
    }
    return malformed(d, "an unknown wire type");
}

/* --- small messages that are scalars in JSON --------------------------------------------------------------------- */

struct small { /* fields 1 to 3 of a small message */
    int64_t number[4];
    struct str text[4];
};

static int read_small(struct decoder *d, struct str bytes, struct small *out) {
    struct reader r = reader_of(bytes);
    struct record f;
    int rc;
    *out = (struct small){.text = {STR(""), STR(""), STR(""), STR("")}};
    while ((rc = next(d, &r, &f)) > 0) {
        if (f.number > 3)
            continue;
        if (f.wire == WIRE_BYTES)
            out->text[f.number] = f.bytes;
        else
            out->number[f.number] = (int64_t)f.value;
    }
    return rc;
}

static struct json *string_value(struct decoder *d, struct str s) {
    if (!str_is_utf8(s)) {
        malformed(d, "a string that is not UTF-8");
        return NULL;
    }
    return json_str(d->a, s);
}

/* As Go prints a time.Duration: "1h30m0s", "1.5s", "0s". */
static struct json *duration_value(struct decoder *d, int64_t ns) {
    uint64_t u = ns < 0 ? -(uint64_t)ns : (uint64_t)ns, s = u / 1000000000, fraction = u % 1000000000;
    const char *sign = ns < 0 ? "-" : "";
    char digits[16] = "";
    if (fraction) {
        snprintf(digits, sizeof(digits), ".%09llu", (unsigned long long)fraction);
        for (size_t n = strlen(digits); digits[n - 1] == '0';)
            digits[--n] = 0;
    }
    unsigned long long h = s / 3600, m = s / 60 % 60, rest = s % 60;
    if (h)
        return json_strf(d->a, "%s%lluh%llum%llu%ss", sign, h, m, rest, digits);
    if (m)
        return json_strf(d->a, "%s%llum%llu%ss", sign, m, rest, digits);
    return json_strf(d->a, "%s%llu%ss", sign, rest, digits);
}

static struct json *time_value(struct decoder *d, const struct small *s, int fraction_digits) {
    char text[TIME_RFC3339_MAX];
    if (s->number[1] == 0 && s->number[2] == 0)
        return json_null(d->a);
    if (s->number[2] < 0 || s->number[2] > 999999999 || s->number[1] < -62135596800 || s->number[1] > 253402300799) {
        malformed(d, "a time out of range");
        return NULL;
    }
    struct timespec t = {(time_t)s->number[1], (long)s->number[2]};
    return json_cstr(d->a, time_format(t, fraction_digits, text));
}

static struct json *small_value(struct decoder *d, enum schema_kind kind, struct str bytes) {
    struct small s;
    struct json_limits limits = {.nodes = d->values_left + 1};
    if (read_small(d, bytes, &s) < 0)
        return NULL;
    switch (kind) {
    case SCHEMA_QUANTITY:
        return string_value(d, s.text[1]);
    case SCHEMA_INT_OR_STRING:
        return s.number[1] == 1 ? string_value(d, s.text[3]) : json_int(d->a, (int32_t)s.number[2]);
    case SCHEMA_TIME:
        return time_value(d, &s, 0);
    case SCHEMA_MICRO_TIME:
        return time_value(d, &s, 6);
    case SCHEMA_DURATION:
        return duration_value(d, s.number[1]);
    default: /* raw JSON */
        return s.text[1].n ? json_parse(d->a, s.text[1], &limits, d->err) : json_null(d->a);
    }
}

/* --- values ------------------------------------------------------------------------------------------------------ */

static int put_message(struct decoder *d, const struct schema_type *t, struct str bytes, struct json *into,
                       const uint8_t *path, size_t path_n);

static struct json *bytes_value(struct decoder *d, struct str s) {
    struct buf b;
    buf_init(&b, MiB(8));
    base64_encode(&b, s.p, s.n);
    struct json *v = json_str(d->a, buf_str(&b));
    buf_fini(&b);
    return v;
}

static struct json *list_value(struct decoder *d, const struct schema_type *t, struct str bytes);

static struct json *value(struct decoder *d, const struct schema_type *t, const struct record *f) {
    static const char wires[SCHEMA_KIND_MAX] = {
        [SCHEMA_BOOL] = 'v', [SCHEMA_INT32] = 'v', [SCHEMA_INT64] = 'v', [SCHEMA_DOUBLE] = 'f'};
    enum wire want = wires[t->kind] == 'v' ? WIRE_VARINT : wires[t->kind] == 'f' ? WIRE_FIXED64 : WIRE_BYTES;
    struct json *v;
    double number;
    if (count_value(d) < 0)
        return NULL;
    if (f->wire != want) {
        malformed(d, "a field of another type");
        return NULL;
    }
    switch (t->kind) {
    case SCHEMA_BOOL:
        return json_bool(d->a, f->value != 0);
    case SCHEMA_INT32:
        return json_int(d->a, (int32_t)f->value);
    case SCHEMA_INT64:
        return json_int(d->a, (int64_t)f->value);
    case SCHEMA_DOUBLE:
        memcpy(&number, &f->value, sizeof(number));
        return json_double(d->a, number);
    case SCHEMA_STRING:
        return string_value(d, f->bytes);
    case SCHEMA_BYTES:
        return bytes_value(d, f->bytes);
    case SCHEMA_STRUCT:
        v = json_object(d->a);
        return put_message(d, t, f->bytes, v, NULL, 0) < 0 ? NULL : v;
    case SCHEMA_LIST: /* a list that is a message: of a map, or an alias */
        return list_value(d, t, f->bytes);
    default:
        return small_value(d, t->kind, f->bytes);
    }
}

static struct json *list_value(struct decoder *d, const struct schema_type *t, struct str bytes) {
    struct reader r = reader_of(bytes);
    struct json *list = json_array(d->a);
    struct record f;
    int rc;
    while ((rc = next(d, &r, &f)) > 0) {
        if (f.number != 1)
            continue;
        struct json *v = value(d, t->element, &f);
        if (!v)
            return NULL;
        json_append(d->a, list, v);
    }
    return rc < 0 ? NULL : list;
}

static int put_map_entry(struct decoder *d, const struct schema_type *t, struct str bytes, struct json *map) {
    struct reader r = reader_of(bytes);
    struct record f;
    struct str key = STR("");
    struct json *v = NULL;
    int rc;
    while ((rc = next(d, &r, &f)) > 0) {
        if (f.number == 1 && f.wire == WIRE_BYTES)
            key = f.bytes;
        else if (f.number == 2 && !(v = value(d, t, &f)))
            return d->err->code;
    }
    if (rc < 0)
        return rc;
    if (!str_is_utf8(key))
        return malformed(d, "a key that is not UTF-8");
    /* An empty value may be left out on the wire. */
    if (!v)
        v = t->kind == SCHEMA_STRUCT ? json_object(d->a)
            : t->kind == SCHEMA_LIST ? json_array(d->a)
                                     : json_cstr(d->a, "");
    json_set(d->a, map, key, v);
    return 0;
}

static struct json *member(struct decoder *d, struct json *into, struct str name,
                           struct json *(*make)(struct arena *)) {
    struct json *v = json_get(into, name);
    if (!v) {
        v = make(d->a);
        json_set(d->a, into, name, v);
    }
    return v;
}

/* Repeated scalars may come packed. */
static int put_packed(struct decoder *d, const struct schema_type *t, struct str bytes, struct json *list) {
    struct reader r = reader_of(bytes);
    while (r.p < r.end) {
        struct record f = {.wire = t->kind == SCHEMA_DOUBLE ? WIRE_FIXED64 : WIRE_VARINT};
        bool ok = f.wire == WIRE_VARINT ? read_varint(&r, &f.value) : read_fixed(&r, 8, &f.value);
        struct json *v = ok ? value(d, t, &f) : NULL;
        if (!v)
            return ok ? d->err->code : malformed(d, "a truncated number");
        json_append(d->a, list, v);
    }
    return 0;
}

static bool is_number(const struct schema_type *t) {
    return t->kind == SCHEMA_BOOL || t->kind == SCHEMA_INT32 || t->kind == SCHEMA_INT64 || t->kind == SCHEMA_DOUBLE;
}

static int put_field(struct decoder *d, const struct schema_field *field, const struct record *f, struct json *into) {
    const struct schema_type *t = field->type;
    struct json *v;
    if (t->kind == SCHEMA_MAP) {
        if (f->wire != WIRE_BYTES)
            return malformed(d, "a field of another type");
        return put_map_entry(d, t->element, f->bytes, member(d, into, field->name, json_object));
    }
    if (t->kind == SCHEMA_LIST && !t->pb_items) {
        struct json *list = member(d, into, field->name, json_array);
        if (f->wire == WIRE_BYTES && is_number(t->element))
            return put_packed(d, t->element, f->bytes, list);
        if (!(v = value(d, t->element, f)))
            return d->err->code;
        json_append(d->a, list, v);
        return 0;
    }
    if (!(v = value(d, t, f)))
        return d->err->code;
    json_set(d->a, into, field->name, v);
    return 0;
}

/* The field with this number inside the embedded messages of path; *embedded: the number is such a message itself. */
static const struct schema_field *field_of(const struct schema_type *t, uint32_t number, const uint8_t *path,
                                           size_t path_n, bool *embedded) {
    *embedded = false;
    for (size_t i = 0; i < t->fields_n; i++) {
        const struct schema_field *f = &t->fields[i];
        if (memcmp(f->pb_path, path, path_n) != 0)
            continue;
        bool here = path_n == PATH_MAX_ || f->pb_path[path_n] == 0;
        if (here && f->pb && f->pb == number)
            return f;
        if (!here && f->pb_path[path_n] == number)
            *embedded = true;
    }
    return NULL;
}

static int put_message(struct decoder *d, const struct schema_type *t, struct str bytes, struct json *into,
                       const uint8_t *path, size_t path_n) {
    static const uint8_t nowhere[PATH_MAX_];
    struct reader r = reader_of(bytes);
    struct record f;
    int rc;
    if (++d->depth > DEPTH_MAX)
        return error_set(d->err, -E2BIG, "the object is nested too deeply");
    while ((rc = next(d, &r, &f)) > 0) {
        bool embedded;
        const struct schema_field *field = field_of(t, f.number, path ? path : nowhere, path_n, &embedded);
        if (field) {
            rc = put_field(d, field, &f, into);
        } else if (embedded && f.wire == WIRE_BYTES && path_n < PATH_MAX_) {
            uint8_t inner[PATH_MAX_] = {0};
            if (path)
                memcpy(inner, path, path_n);
            inner[path_n] = (uint8_t)f.number;
            rc = put_message(d, t, f.bytes, into, inner, path_n + 1);
        }
        if (rc < 0)
            return rc;
    }
    d->depth--;
    return rc;
}

struct json *protobuf_object(struct arena *a, const struct schema_type *t, struct str body, uint32_t values_max,
                             struct error *err) {
    static const struct str mark = {"k8s\0", 4};
    struct error scratch = {0};
    struct decoder d = {.a = a, .err = err ? err : &scratch, .values_left = values_max};
    struct small envelope, type_meta;
    if (!str_starts(body, mark)) {
        malformed(&d, "the mark of Kubernetes' encoding is missing");
        return NULL;
    }
    if (read_small(&d, str_skip(body, mark.n), &envelope) < 0 || read_small(&d, envelope.text[1], &type_meta) < 0)
        return NULL;
    if (envelope.text[3].n) {
        malformed(&d, "a content encoding is not supported");
        return NULL;
    }
    struct json *v = json_object(a), *kind = string_value(&d, type_meta.text[2]),
                *version = string_value(&d, type_meta.text[1]);
    if (!kind || !version)
        return NULL;
    json_set_c(a, v, "kind", kind);
    json_set_c(a, v, "apiVersion", version);
    return put_message(&d, t, envelope.text[2], v, NULL, 0) < 0 ? NULL : v;
}
