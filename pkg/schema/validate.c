/* Validation: who checks what, and the checks that every kind shares. */
#include "schema/validate.h"

#include <arpa/inet.h>
#include <inttypes.h>

#define IMMUTABLE "field is immutable"

/* --- errors --- */

static void where_text(const struct where *at, struct buf *b) {
    if (at->up)
        where_text(at->up, b);
    if (at->name)
        buf_printf(b, "%s%s%.*s", b->n ? "." : "", at->name, STR_ARG(at->key));
    else if (at->key.p)
        buf_printf(b, "[%.*s]", STR_ARG(at->key));
    else
        buf_printf(b, "[%zu]", at->index);
}

void check_bad(struct check *c, enum field_error_type type, const struct where *at, const struct json *value,
               const char *detail, ...) {
    cleanup_buf struct buf path = BUF_INIT, text = BUF_INIT;
    where_text(at, &path);
    if (detail) {
        va_list ap;
        va_start(ap, detail);
        buf_vprintf(&text, detail, ap);
        va_end(ap);
    }
    field_error_add(c->errs, type, path.p ? path.p : "", value, text.n ? "%s" : NULL, text.p);
}

void check_bad_text(struct check *c, enum field_error_type type, const struct where *at, struct str value,
                    const char *detail) {
    check_bad(c, type, at, &(const struct json){.type = JSON_STRING, .s = value}, "%s", detail);
}

/* --- checks of one member --- */

const struct json *check_get(const struct json *v, const char *member) {
    const struct json *m = json_get_c(v, member);
    return m && m->type != JSON_NULL ? m : NULL;
}

static bool is_empty(const struct json *v) {
    return !v || v->type == JSON_NULL || (v->type == JSON_STRING && v->s.n == 0) ||
           ((v->type == JSON_ARRAY || v->type == JSON_OBJECT) && v->n == 0);
}

bool check_required(struct check *c, const struct where *up, const struct json *v, const char *member) {
    if (!is_empty(json_get_c(v, member)))
        return true;
    check_bad(c, FIELD_REQUIRED, AT(up, member), NULL, NULL);
    return false;
}

void check_name(struct check *c, const struct where *up, const struct json *v, const char *member, check_name_fn *fn) {
    const struct json *m = json_get_c(v, member);
    const char *wrong = json_is(m, JSON_STRING) && m->s.n ? fn(m->s) : NULL;
    if (wrong)
        check_bad(c, FIELD_INVALID, AT(up, member), m, "%s", wrong);
}

void check_named(struct check *c, const struct where *up, const struct json *v, const char *member, check_name_fn *fn) {
    if (check_required(c, up, v, member))
        check_name(c, up, v, member, fn);
}

void check_not_negative(struct check *c, const struct where *up, const struct json *v, const char *member) {
    const struct json *m = json_get_c(v, member);
    if (json_is(m, JSON_INT) && m->i < 0)
        check_bad(c, FIELD_INVALID, AT(up, member), m, "must be greater than or equal to 0");
}

void check_range(struct check *c, const struct where *up, const struct json *v, const char *member, int64_t from,
                 int64_t to) {
    const struct json *m = json_get_c(v, member);
    if (json_is(m, JSON_INT) && (m->i < from || m->i > to))
        check_bad(c, FIELD_INVALID, AT(up, member), m, "must be between %" PRId64 " and %" PRId64 ", inclusive", from,
                  to);
}

void check_port(struct check *c, const struct where *up, const struct json *v, const char *member) {
    check_range(c, up, v, member, 1, 65535);
}

void check_port_or_name(struct check *c, const struct where *up, const struct json *v, const char *member) {
    const struct json *m = json_get_c(v, member);
    if (json_is(m, JSON_INT))
        check_port(c, up, v, member);
    else if (json_is(m, JSON_STRING) && check_port_name(m->s))
        check_bad(c, FIELD_INVALID, AT(up, member), m, "%s", check_port_name(m->s));
}

void check_enum(struct check *c, const struct where *up, const struct json *v, const char *member,
                const char *const *values, bool required) {
    const struct json *m = json_get_c(v, member);
    if (is_empty(m)) {
        if (required)
            check_required(c, up, v, member);
        return;
    }
    cleanup_buf struct buf b = BUF_INIT;
    for (const char *const *p = values; *p; p++) {
        if (str_eq_c(json_as_str(m), *p))
            return;
        buf_printf(&b, "%s\"%s\"", p == values ? "" : ", ", *p);
    }
    check_bad(c, FIELD_NOT_SUPPORTED, AT(up, member), m, "supported values: %s", b.p ? b.p : "");
}

/* Absent, null and empty are the same: a decoded object may have either. */
static bool is_same(const struct json *a, const struct json *b) {
    return (is_empty(a) && is_empty(b)) || json_equal(a, b);
}

void check_immutable(struct check *c, const struct where *up, const struct json *v, const struct json *old,
                     const char *member) {
    if (!is_same(json_get_c(v, member), json_get_c(old, member)))
        check_bad(c, FIELD_INVALID, AT(up, member), json_get_c(v, member), IMMUTABLE);
}

void check_count_or_percent(struct check *c, const struct where *up, const struct json *v, const char *member) {
    const struct json *m = json_get_c(v, member);
    if (json_is(m, JSON_INT) && m->i < 0) {
        check_bad(c, FIELD_INVALID, AT(up, member), m, "must be greater than or equal to 0");
    } else if (json_is(m, JSON_STRING)) {
        bool good = m->s.n > 1 && m->s.p[m->s.n - 1] == '%';
        for (size_t i = 0; i + 1 < m->s.n; i++)
            good = good && m->s.p[i] >= '0' && m->s.p[i] <= '9';
        if (!good)
            check_bad(c, FIELD_INVALID, AT(up, member), m,
                      "a valid percent string must be a numeric string followed by an ending '%%' (e.g. '1%%',  or "
                      "'93%%', regex used for validation is '[0-9]+%%')");
    }
}

/* --- forms of texts --- */

static bool is_lower(char c) {
    return c >= 'a' && c <= 'z';
}

static bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

static bool is_alnum(char c) {
    return is_lower(c) || is_digit(c) || (c >= 'A' && c <= 'Z');
}

const char *check_port_name(struct str s) {
    bool letter = false;
    if (s.n > 15)
        return "must be no more than 15 characters";
    for (size_t i = 0; i < s.n; i++) {
        if (!is_lower(s.p[i]) && !is_digit(s.p[i]) && s.p[i] != '-')
            return "must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)";
        if (s.p[i] == '-' && i > 0 && s.p[i - 1] == '-')
            return "must not contain consecutive hyphens";
        letter = letter || is_lower(s.p[i]);
    }
    if (!letter)
        return "must contain at least one letter (a-z)";
    if (s.p[0] == '-' || s.p[s.n - 1] == '-')
        return "must not begin or end with a hyphen";
    return NULL;
}

const char *check_config_key(struct str s) {
    if (s.n > 253)
        return "must be no more than 253 characters";
    for (size_t i = 0; i < s.n || s.n == 0; i++)
        if (s.n == 0 || (!is_alnum(s.p[i]) && s.p[i] != '-' && s.p[i] != '_' && s.p[i] != '.'))
            return "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or "
                   "'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')";
    if (str_eq(s, STR(".")))
        return "must not be '.'";
    if (str_eq(s, STR("..")))
        return "must not be '..'";
    return str_starts(s, STR("..")) ? "must not start with '..'" : NULL;
}

const char *check_env_name(struct str s) {
    for (size_t i = 0; i < s.n; i++)
        if (s.p[i] < ' ' || s.p[i] > '~' || s.p[i] == '=')
            return "a valid environment variable name must consist only of printable ASCII characters other than '='";
    return NULL;
}

const char *check_wildcard_subdomain(struct str s) {
    if (!str_starts(s, STR("*.")))
        return name_check_dns_subdomain(s);
    return s.n <= 253 && !name_check_dns_subdomain(str_skip(s, 2))
               ? NULL
               : "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which must "
                 "consist of lower case alphanumeric characters, '-' or '.' and end with an alphanumeric character "
                 "(e.g. '*.example.com', regex used for validation is "
                 "'\\*\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
}

/* Zeros in front of IPv4 numbers were once accepted: neither inet_pton() nor Kubernetes takes them today. */
bool check_is_ip(struct str s) {
    char text[INET6_ADDRSTRLEN];
    struct in6_addr v;
    if (s.n == 0 || s.n >= sizeof(text))
        return false;
    memcpy(text, s.p, s.n);
    text[s.n] = 0;
    return inet_pton(AF_INET, text, &v) == 1 || inet_pton(AF_INET6, text, &v) == 1;
}

bool check_is_cidr(struct str s) {
    struct str ip, bits;
    uint64_t n;
    if (!str_cut(s, '/', &ip, &bits) || !str_to_u64(bits, &n) || !check_is_ip(ip))
        return false;
    return n <= (str_index(ip, ':', 0) >= 0 ? 128u : 32u);
}

/* --- enumerations, by the schema --- */

static void enums_of(struct check *c, const struct where *at, const struct schema_type *t, const struct json *v);

static void enums_of_struct(struct check *c, const struct where *at, const struct schema_type *t,
                            const struct json *v) {
    size_t next = 0; /* members stand in the schema's order */
    for (size_t i = 0; i < v->n; i++) {
        const struct schema_field *f = NULL;
        for (size_t k = 0; k < t->fields_n && !f; k++) {
            size_t n = next + k < t->fields_n ? next + k : next + k - t->fields_n;
            if (str_eq(t->fields[n].name, v->members[i].key)) {
                f = &t->fields[n];
                next = n + 1;
            }
        }
        if (!f || (!at && (str_eq(f->name, STR("status")) || str_eq(f->name, STR("metadata")))))
            continue;
        if (f->type->kind == SCHEMA_STRUCT || f->type->kind == SCHEMA_LIST || f->type->kind == SCHEMA_MAP ||
            f->type->enum_n)
            enums_of(c, AT_MEMBER(at, f->name), f->type, v->members[i].value);
    }
}

static void enums_of(struct check *c, const struct where *at, const struct schema_type *t, const struct json *v) {
    if (t->kind == SCHEMA_STRUCT && json_is(v, JSON_OBJECT)) {
        enums_of_struct(c, at, t, v);
    } else if (t->kind == SCHEMA_LIST && json_is(v, JSON_ARRAY)) {
        if (t->element->kind == SCHEMA_STRUCT || t->element->enum_n)
            for (size_t i = 0; i < v->n; i++)
                enums_of(c, AT_ITEM(at, i), t->element, v->items[i]);
    } else if (t->kind == SCHEMA_MAP && json_is(v, JSON_OBJECT)) {
        if (t->element->kind == SCHEMA_STRUCT || t->element->enum_n)
            for (size_t i = 0; i < v->n; i++)
                enums_of(c, AT_KEY(at, v->members[i].key), t->element, v->members[i].value);
    } else if (t->enum_n && json_is(v, JSON_STRING) && v->s.n) {
        cleanup_buf struct buf b = BUF_INIT;
        for (size_t i = 0; i < t->enum_n; i++)
            if (str_eq(t->enum_values[i], v->s))
                return;
        for (size_t i = 0; i < t->enum_n; i++)
            buf_printf(&b, "%s\"%.*s\"", i ? ", " : "", STR_ARG(t->enum_values[i]));
        check_bad(c, FIELD_NOT_SUPPORTED, at, v, "supported values: %s", b.p);
    }
}

void check_enums(struct check *c) {
    if (c->resource->type && json_is(c->object, JSON_OBJECT))
        enums_of(c, NULL, c->resource->type, c->object);
}

/* --- who checks what --- */

static check_kind_fn *find(struct str key) {
    static const struct check_kind *const lists[] = {check_pod_kinds, check_volume_kinds, check_workload_kinds,
                                                     check_core_kinds, check_other_kinds};
    for (size_t i = 0; i < ARRAY_LEN(lists); i++)
        for (const struct check_kind *k = lists[i]; k->key; k++)
            if (str_eq_c(key, k->key))
                return k->fn;
    return NULL;
}

void schema_validate(const struct schema_resource *r, const struct json *v, const struct json *old,
                     struct str subresource, struct field_errors *errs) {
    struct check c = {errs, errs->arena, r, v, old};
    check_metadata(&c);
    if (subresource.n) /* what a status says is its writer's business; nobody gains from refusing it */
        return;
    check_kind_fn *fn = find(r->key);
    check_enums(&c);
    if (fn)
        fn(&c);
}
