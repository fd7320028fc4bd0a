/*
 * Decoding: a JSON tree against a type gives the canonical tree, with the rules and words of Go's JSON decoder and
 * encoder as Kubernetes uses them. What Go writes for absent members is written here too: a struct that is no pointer
 * is never left out ("resources": {}), a required list that is absent is null.
 */
#include "schema/schema_private.h"

#include <inttypes.h>
#include <stdarg.h>

#define SLOTS_ON_STACK 64
#define ZERO_DEPTH_MAX 32
#define GO_ZERO_TIME_S INT64_C(-62135596800) /* 0001-01-01T00:00:00Z */

struct frame { /* where we are; the innermost first */
    const struct frame *up;
    const struct schema_field *field; /* a member of a struct, or */
    struct str key;                   /* of a map (p != NULL), or */
    size_t index;                     /* of a list */
};

struct decoder {
    struct arena *a;
    const struct schema_decode *opt;
    struct error *err;
};

/* --- words of errors --- */

static void put_path(struct buf *b, const struct frame *f, bool fields_only) {
    if (!f)
        return;
    put_path(b, f->up, fields_only);
    if (!f->field && fields_only)
        return;
    if (!f->field && !f->key.p) {
        buf_printf(b, "[%zu]", f->index);
        return;
    }
    if (b->n > 0)
        buf_putc(b, '.');
    buf_put_str(b, f->field ? f->field->name : f->key);
}

static void put_go_type(struct buf *b, const struct schema_type *t) {
    static const char *const names[SCHEMA_KIND_MAX] = {
        [SCHEMA_STRING] = "string", [SCHEMA_BOOL] = "bool",      [SCHEMA_INT32] = "int32",
        [SCHEMA_INT64] = "int64",   [SCHEMA_DOUBLE] = "float64", [SCHEMA_BYTES] = "[]uint8",
    };
    if (str_index(t->name, '/', 0) >= 0) {
        buf_put_str(b, schema_go_name(t));
    } else if (t->kind == SCHEMA_LIST || t->kind == SCHEMA_MAP) {
        buf_puts(b, t->kind == SCHEMA_LIST ? "[]" : "map[string]");
        put_go_type(b, t->element);
    } else if (names[t->kind]) {
        buf_puts(b, names[t->kind]);
    } else {
        buf_put_str(b, t->name);
    }
}

/* The kind of value as Go says it; numbers that do not fit are shown. */
static void put_value(struct buf *b, const struct schema_type *t, const struct json *v) {
    bool number = v->type == JSON_INT || v->type == JSON_DOUBLE;
    bool wants_number = t->kind == SCHEMA_INT32 || t->kind == SCHEMA_INT64 || t->kind == SCHEMA_DOUBLE;
    buf_puts(b, json_type_name(v));
    if (number && wants_number) {
        buf_putc(b, ' ');
        json_write(b, v);
    }
}

static struct json *too_big(struct decoder *d) {
    error_set(d->err, -E2BIG, "the object is too large");
    return NULL;
}

static struct json *wrong_type(struct decoder *d, const struct schema_type *t, const struct json *v,
                               const struct frame *f) {
    cleanup_buf struct buf value = BUF_INIT, path = BUF_INIT, type = BUF_INIT;
    put_value(&value, t, v);
    put_go_type(&type, t);
    while (f && !f->field)
        f = f->up;
    if (f) {
        put_path(&path, f, true);
        struct str owner = schema_go_name(f->field->owner), name = owner;
        (void)str_cut(owner, '.', NULL, &name);
        error_set(d->err, -EINVAL, "json: cannot unmarshal %s into Go struct field %.*s.%s of type %s", value.p,
                  STR_ARG(name), path.p, type.p);
    } else {
        error_set(d->err, -EINVAL, "json: cannot unmarshal %s into Go value of type %s", value.p, type.p);
    }
    return NULL;
}

/* For types with an UnmarshalJSON of their own, which does not know where it is. */
static struct json *wrong_plain(struct decoder *d, const struct json *v, const char *type) {
    cleanup_buf struct buf value = BUF_INIT;
    buf_puts(&value, json_type_name(v));
    if ((v->type == JSON_INT || v->type == JSON_DOUBLE) && strcmp(type, "string") != 0) {
        buf_putc(&value, ' ');
        json_write(&value, v);
    }
    error_set(d->err, -EINVAL, "json: cannot unmarshal %s into Go value of type %s", value.p, type);
    return NULL;
}

static struct json *node(struct decoder *d, enum json_type type) {
    struct json *v = arena_try_alloc(d->a, sizeof(*v));
    if (!v)
        return too_big(d);
    v->type = type;
    return v;
}

static struct json *string_node(struct decoder *d, struct str s) {
    struct json *v = node(d, JSON_STRING);
    if (v)
        v->s = s;
    return v;
}

static struct json *string_copy(struct decoder *d, const char *s) {
    size_t n = strlen(s);
    char *p = arena_try_alloc(d->a, n + 1);
    if (!p)
        return too_big(d);
    memcpy(p, s, n);
    return string_node(d, str_n(p, n));
}

/* --- scalars --- */

static struct json *decode_time(struct decoder *d, const struct json *v, bool micro) {
    struct timespec ts;
    char text[TIME_RFC3339_MAX];
    if (v->type != JSON_STRING)
        return wrong_plain(d, v, "string");
    if (!time_parse(v->s, &ts)) {
        const char *layout = micro ? "2006-01-02T15:04:05.000000Z07:00" : "2006-01-02T15:04:05Z07:00";
        error_set(d->err, -EINVAL, "parsing time \"%.*s\" as \"%s\": cannot parse \"%.*s\" as \"2006\"", STR_ARG(v->s),
                  layout, STR_ARG(v->s));
        return NULL;
    }
    if (ts.tv_sec == GO_ZERO_TIME_S && ts.tv_nsec == 0)
        return node(d, JSON_NULL);
    return string_copy(d, time_format(ts, micro ? 6 : 0, text));
}

static struct json *bad_quantity(struct decoder *d, struct str s) {
    static const char letters[] = "eEinumkKMGTP";
    size_t i = 0;
    if (i < s.n && (s.p[i] == '+' || s.p[i] == '-'))
        i++;
    while (i < s.n && ((s.p[i] >= '0' && s.p[i] <= '9') || s.p[i] == '.'))
        i++;
    while (i < s.n && strchr(letters, s.p[i]) && s.p[i])
        i++;
    if (i < s.n && (s.p[i] == '+' || s.p[i] == '-'))
        i++;
    while (i < s.n && s.p[i] >= '0' && s.p[i] <= '9')
        i++;
    if (i < s.n || s.n == 0)
        error_set(d->err, -EINVAL,
                  "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'");
    else
        error_set(d->err, -EINVAL, "unable to parse quantity's suffix");
    return NULL;
}

/* Amounts of resources are whole thousandths, rounded up ("1u" -> "1m"). */
static struct json *round_resource(struct decoder *d, struct json *v) {
    int64_t milli;
    char last = v && v->type == JSON_STRING && v->s.n > 0 ? v->s.p[v->s.n - 1] : '\0';
    if ((last == 'n' || last == 'u') && quantity_milli(v->s, &milli))
        v->s = quantity_from_milli(d->a, milli);
    return v;
}

static struct json *decode_quantity(struct decoder *d, const struct json *v) {
    cleanup_buf struct buf b = BUF_INIT;
    struct str text = STR("");
    if (v->type == JSON_STRING)
        text = v->s;
    else if (v->type == JSON_INT || v->type == JSON_DOUBLE) {
        json_write(&b, v);
        text = buf_str(&b);
    }
    if (!quantity_valid(text))
        return bad_quantity(d, text);
    return string_node(d, quantity_canonical(d->a, text));
}

/* ns / unit with its fraction, without zeros at its end. */
static void put_unit(struct buf *b, uint64_t ns, uint64_t unit, const char *name) {
    uint64_t fraction = ns % unit;
    buf_printf(b, "%" PRIu64 "%s", ns / unit, fraction ? "." : "");
    for (uint64_t place = unit / 10; fraction > 0; place /= 10) {
        buf_putc(b, (char)('0' + fraction / place));
        fraction %= place;
    }
    buf_puts(b, name);
}

/* As Go's Duration.String: "1h30m0s", "1.5s", "100ms". */
static struct json *decode_duration(struct decoder *d, const struct json *v) {
    cleanup_buf struct buf b = BUF_INIT;
    int64_t ns;
    const uint64_t second = 1000000000;
    if (v->type != JSON_STRING)
        return wrong_plain(d, v, "string");
    if (!time_parse_duration(v->s, &ns)) {
        error_set(d->err, -EINVAL, "time: invalid duration \"%.*s\"", STR_ARG(v->s));
        return NULL;
    }
    uint64_t u = ns < 0 ? -(uint64_t)ns : (uint64_t)ns, s = u / second;
    if (ns < 0)
        buf_putc(&b, '-');
    if (u == 0)
        buf_puts(&b, "0s");
    else if (u < 1000)
        put_unit(&b, u, 1, "ns");
    else if (u < 1000000)
        put_unit(&b, u, 1000, "\302\265s");
    else if (u < second)
        put_unit(&b, u, 1000000, "ms");
    else {
        if (s >= 3600)
            buf_printf(&b, "%" PRIu64 "h", s / 3600);
        if (s >= 60)
            buf_printf(&b, "%" PRIu64 "m", s / 60 % 60);
        put_unit(&b, u % (60 * second), second, "s");
    }
    return string_copy(d, b.p);
}

static int base64_digit(char c) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const char *at = c ? strchr(digits, c) : NULL;
    return at ? (int)(at - digits) : -1;
}

/* Base64 text stays as it is, without line ends. */
static struct json *decode_bytes(struct decoder *d, const struct schema_type *t, const struct json *v,
                                 const struct frame *f) {
    if (v->type != JSON_STRING)
        return wrong_type(d, t, v, f);
    size_t digits = 0, pads = 0, breaks = 0, i = 0;
    for (; i < v->s.n; i++) {
        char c = v->s.p[i];
        if (c == '\n' || c == '\r')
            breaks++;
        else if (c == '=' && digits % 4 >= 2 && pads < 4 - digits % 4)
            pads++;
        else if (base64_digit(c) >= 0 && pads == 0)
            digits++;
        else
            break;
    }
    if (i < v->s.n || (digits + pads) % 4 != 0) {
        error_set(d->err, -EINVAL, "illegal base64 data at input byte %zu", i < v->s.n ? i : digits - digits % 4);
        return NULL;
    }
    if (breaks == 0)
        return string_node(d, v->s);
    char *p = arena_try_alloc(d->a, v->s.n + 1);
    if (!p)
        return too_big(d);
    size_t n = 0;
    for (i = 0; i < v->s.n; i++)
        if (v->s.p[i] != '\n' && v->s.p[i] != '\r')
            p[n++] = v->s.p[i];
    return string_node(d, str_n(p, n));
}

static bool fits_int(const struct schema_type *t, const struct json *v) {
    return v->type == JSON_INT && (t->kind == SCHEMA_INT64 || (v->i >= INT32_MIN && v->i <= INT32_MAX));
}

static struct json *decode_scalar(struct decoder *d, const struct schema_type *t, const struct json *v,
                                  const struct frame *f) {
    bool good = true;
    switch (t->kind) {
    case SCHEMA_STRING:
        good = v->type == JSON_STRING;
        break;
    case SCHEMA_BOOL:
        good = v->type == JSON_BOOL;
        break;
    case SCHEMA_INT32:
    case SCHEMA_INT64:
        good = fits_int(t, v);
        break;
    case SCHEMA_DOUBLE:
        good = v->type == JSON_INT || v->type == JSON_DOUBLE;
        break;
    case SCHEMA_BYTES:
        return decode_bytes(d, t, v, f);
    case SCHEMA_QUANTITY:
        return decode_quantity(d, v);
    case SCHEMA_INT_OR_STRING:
        if (v->type != JSON_STRING && (v->type != JSON_INT || v->i < INT32_MIN || v->i > INT32_MAX))
            return wrong_plain(d, v, "int32");
        break;
    case SCHEMA_TIME:
    case SCHEMA_MICRO_TIME:
        return decode_time(d, v, t->kind == SCHEMA_MICRO_TIME);
    case SCHEMA_DURATION:
        return decode_duration(d, v);
    default:
        break;
    }
    if (!good)
        return wrong_type(d, t, v, f);
    /* The canonical tree is edited; the input is not: a node of its own, the same text. */
    struct json *copy = node(d, v->type);
    if (copy)
        *copy = *v;
    return copy;
}

/* --- what Go writes for the zero value --- */

static struct json *zero_value(struct decoder *d, const struct schema_type *t, int depth);

static bool is_any_struct(const struct schema_type *t) { /* RawExtension and JSON are structs, "any" is not */
    return t->kind == SCHEMA_ANY && !str_eq(t->name, STR("any"));
}

/* Whether an absent member is left out. */
static bool absent_is_omitted(const struct schema_field *f) {
    if (f->pointer)
        return f->omit_empty || f->omit_zero;
    switch (f->type->kind) {
    case SCHEMA_STRUCT:
    case SCHEMA_TIME:
    case SCHEMA_MICRO_TIME:
    case SCHEMA_QUANTITY:
    case SCHEMA_INT_OR_STRING:
    case SCHEMA_DURATION:
        return f->omit_zero || (f->type->kind == SCHEMA_DURATION && f->omit_empty);
    case SCHEMA_ANY:
        return f->omit_zero || (f->omit_empty && !is_any_struct(f->type));
    default:
        return f->omit_empty || f->omit_zero;
    }
}

static struct json *zero_struct(struct decoder *d, const struct schema_type *t, int depth) {
    struct json *o = node(d, JSON_OBJECT);
    size_t n = 0;
    for (size_t i = 0; i < t->fields_n; i++)
        n += !absent_is_omitted(&t->fields[i]);
    if (!o || n == 0 || depth > ZERO_DEPTH_MAX)
        return o;
    o->members = arena_try_alloc(d->a, n * sizeof(*o->members));
    if (!o->members)
        return too_big(d);
    o->cap = (uint32_t)n;
    for (size_t i = 0; i < t->fields_n; i++) {
        const struct schema_field *f = &t->fields[i];
        if (absent_is_omitted(f))
            continue;
        struct json *v = f->pointer ? node(d, JSON_NULL) : zero_value(d, f->type, depth + 1);
        if (!v)
            return NULL;
        o->members[o->n++] = (struct json_member){f->name, v};
    }
    return o;
}

static struct json *zero_value(struct decoder *d, const struct schema_type *t, int depth) {
    switch (t->kind) {
    case SCHEMA_STRUCT:
        return zero_struct(d, t, depth);
    case SCHEMA_STRING:
        return string_node(d, STR(""));
    case SCHEMA_QUANTITY:
        return string_node(d, STR("0"));
    case SCHEMA_DURATION:
        return string_node(d, STR("0s"));
    case SCHEMA_BOOL:
        return node(d, JSON_BOOL);
    case SCHEMA_INT32:
    case SCHEMA_INT64:
    case SCHEMA_DOUBLE:
    case SCHEMA_INT_OR_STRING:
        return node(d, JSON_INT);
    default:
        return node(d, JSON_NULL);
    }
}

/* --- containers --- */

static struct json *decode_value(struct decoder *d, const struct schema_type *t, const struct json *v,
                                 const struct frame *f);

static bool is_empty(const struct schema_field *f, const struct json *v) {
    switch (v->type) {
    case JSON_NULL:
        return f->type->kind != SCHEMA_TIME && f->type->kind != SCHEMA_MICRO_TIME;
    case JSON_BOOL:
        return !v->b;
    case JSON_INT:
        return v->i == 0 && f->type->kind != SCHEMA_INT_OR_STRING;
    case JSON_DOUBLE:
        return v->d == 0;
    case JSON_STRING:
        return v->s.n == 0 && f->type->kind != SCHEMA_INT_OR_STRING;
    case JSON_ARRAY:
        return v->n == 0;
    default:
        return v->n == 0 && f->type->kind == SCHEMA_MAP;
    }
}

static bool is_omitted(const struct schema_field *f, const struct json *v) {
    if (f->type->kind == SCHEMA_ANY)
        return false;
    if (f->omit_zero && !f->pointer && (v->type == JSON_NULL || (v->type == JSON_OBJECT && v->n == 0)))
        return true;
    return f->omit_empty && !f->pointer && is_empty(f, v);
}

static void unknown_field(struct decoder *d, struct str name, const struct frame *up) {
    if (!d->opt || d->opt->unknown != SCHEMA_UNKNOWN_REPORT || !d->opt->report)
        return;
    cleanup_buf struct buf b = BUF_INIT;
    struct frame f = {.up = up, .key = name};
    put_path(&b, &f, false);
    struct str text = str_printf(d->a, "unknown field \"%s\"", b.p ? b.p : "");
    d->opt->report(d->opt->arg, text);
}

/* Index of the field called name; *hint: where it is likely, the field behind the last one. */
static size_t field_index(const struct schema_type *t, struct str name, size_t *hint) {
    for (size_t k = 0, i = *hint; k < t->fields_n; k++, i++) {
        if (i >= t->fields_n)
            i = 0;
        if (str_eq(t->fields[i].name, name)) {
            *hint = i + 1;
            return i;
        }
    }
    return SIZE_MAX;
}

/* Decodes the members in document order into slots by field; false on error. */
static bool fill_slots(struct decoder *d, const struct schema_type *t, const struct json *v, const struct frame *up,
                       struct json **slots) {
    size_t hint = 0;
    for (uint32_t m = 0; m < v->n; m++) {
        const struct json_member *member = &v->members[m];
        size_t i = field_index(t, member->key, &hint);
        if (i == SIZE_MAX) {
            unknown_field(d, member->key, up);
            continue;
        }
        slots[i] = NULL;
        if (member->value->type == JSON_NULL)
            continue;
        struct frame f = {.up = up, .field = &t->fields[i]};
        slots[i] = decode_value(d, t->fields[i].type, member->value, &f);
        if (!slots[i])
            return false;
    }
    return true;
}

static struct json *decode_struct(struct decoder *d, const struct schema_type *t, const struct json *v,
                                  const struct frame *up) {
    struct json *on_stack[SLOTS_ON_STACK] = {0}, **slots = on_stack;
    if (v->type != JSON_OBJECT)
        return wrong_type(d, t, v, up);
    if (t->fields_n > SLOTS_ON_STACK) {
        slots = arena_try_alloc(d->a, t->fields_n * sizeof(struct json *));
        if (!slots)
            return too_big(d);
    }
    if (!fill_slots(d, t, v, up, slots))
        return NULL;
    size_t n = 0;
    for (size_t i = 0; i < t->fields_n; i++) {
        const struct schema_field *f = &t->fields[i];
        if (slots[i] && is_omitted(f, slots[i]))
            slots[i] = NULL;
        else if (!slots[i] && !absent_is_omitted(f)) {
            slots[i] = f->pointer ? node(d, JSON_NULL) : zero_value(d, f->type, 0);
            if (!slots[i])
                return NULL;
        }
        n += slots[i] != NULL;
    }
    struct json *o = node(d, JSON_OBJECT);
    if (!o || n == 0)
        return o;
    o->members = arena_try_alloc(d->a, n * sizeof(*o->members));
    if (!o->members)
        return too_big(d);
    o->cap = (uint32_t)n;
    for (size_t i = 0; i < t->fields_n; i++)
        if (slots[i])
            o->members[o->n++] = (struct json_member){t->fields[i].name, slots[i]};
    return o;
}

static struct json *decode_element(struct decoder *d, const struct schema_type *t, const struct json *v,
                                   const struct frame *f) {
    return v->type == JSON_NULL ? zero_value(d, t, 0) : decode_value(d, t, v, f);
}

static struct json *decode_list(struct decoder *d, const struct schema_type *t, const struct json *v,
                                const struct frame *up) {
    if (v->type != JSON_ARRAY)
        return wrong_type(d, t, v, up);
    struct json *o = node(d, JSON_ARRAY);
    if (!o || v->n == 0)
        return o;
    o->items = arena_try_alloc(d->a, v->n * sizeof(*o->items));
    if (!o->items)
        return too_big(d);
    o->cap = v->n;
    for (uint32_t i = 0; i < v->n; i++) {
        struct frame f = {.up = up, .index = i};
        o->items[i] = decode_element(d, t->element, v->items[i], &f);
        if (!o->items[i])
            return NULL;
        o->n++;
    }
    return o;
}

static struct json *decode_map(struct decoder *d, const struct schema_type *t, const struct json *v,
                               const struct frame *up) {
    if (v->type != JSON_OBJECT)
        return wrong_type(d, t, v, up);
    struct json *o = node(d, JSON_OBJECT);
    if (!o || v->n == 0)
        return o;
    o->members = arena_try_alloc(d->a, v->n * sizeof(*o->members));
    if (!o->members)
        return too_big(d);
    o->cap = v->n;
    bool sorted = true, resources = str_eq(t->name, STR("core/v1.ResourceList"));
    for (uint32_t i = 0; i < v->n; i++) {
        struct str key = v->members[i].key;
        struct frame f = {.up = up, .key = key};
        struct json *e = decode_element(d, t->element, v->members[i].value, &f);
        if (resources)
            e = round_resource(d, e);
        if (!e)
            return NULL;
        sorted = sorted && (i == 0 || str_cmp(v->members[i - 1].key, key) < 0);
        o->members[o->n++] = (struct json_member){key, e};
    }
    if (!sorted)
        json_sort(o);
    return o;
}

static struct json *decode_value(struct decoder *d, const struct schema_type *t, const struct json *v,
                                 const struct frame *f) {
    switch (t->kind) {
    case SCHEMA_STRUCT:
        return decode_struct(d, t, v, f);
    case SCHEMA_LIST:
        return decode_list(d, t, v, f);
    case SCHEMA_MAP:
        return decode_map(d, t, v, f);
    case SCHEMA_ANY:
        return (struct json *)(uintptr_t)v; /* shared */
    default:
        return decode_scalar(d, t, v, f);
    }
}

struct json *schema_decode(struct arena *a, const struct schema_type *t, const struct json *v,
                           const struct schema_decode *opt, struct error *err) {
    struct decoder d = {a, opt, err};
    return decode_value(&d, t, v, NULL);
}
