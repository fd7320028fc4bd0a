/*
 * meta/v1 Status: failures as clients read them. Texts are Kubernetes' own, because tools match them.
 */
#include "api/api_priv.h"

struct reason_code {
    const char *reason;
    int code, rc;
};

static const struct reason_code reason_codes[] = {
    {"NotFound", 404, -ENOENT},
    {"AlreadyExists", 409, -EEXIST},
    {"Conflict", 409, -ESTALE},
    {"Invalid", 422, -EINVAL},
    {"BadRequest", 400, -EINVAL},
    {"Forbidden", 403, -EACCES},
    {"Unauthorized", 401, -EPERM},
    {"Expired", 410, -ESTALE},
    {"MethodNotAllowed", 405, -ENOTSUP},
    {"NotAcceptable", 406, -ENOTSUP},
    {"Timeout", 504, -ETIMEDOUT},
    {"TooManyRequests", 429, -EBUSY},
    {"InternalError", 500, -EIO},
    {"ServiceUnavailable", 503, -EAGAIN},
    {"UnsupportedMediaType", 415, -ENOTSUP},
    {"RequestEntityTooLarge", 413, -E2BIG},
};

static int reason_rc(const char *reason) {
    for (size_t i = 0; i < ARRAY_LEN(reason_codes); i++)
        if (strcmp(reason_codes[i].reason, reason) == 0)
            return reason_codes[i].rc;
    return -EIO;
}

static struct str text_of(struct arena *a, const char *fmt, va_list ap) {
    struct buf b = BUF_INIT;
    buf_vprintf(&b, fmt, ap);
    struct str s = str_dup(a, buf_str(&b));
    buf_fini(&b);
    return s;
}

static int status_fill(struct api_status *st, int code, const char *reason, struct str message, struct json *details) {
    st->code = code;
    st->reason = str_c(reason);
    st->message = message;
    st->details = details;
    return reason_rc(reason);
}

int status_set(struct api_status *st, struct arena *a, int code, const char *reason, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    struct str m = text_of(a, fmt, ap);
    va_end(ap);
    return status_fill(st, code, reason, m, NULL);
}

int status_bad_request(struct api_status *st, struct arena *a, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    struct str m = text_of(a, fmt, ap);
    va_end(ap);
    return status_fill(st, 400, "BadRequest", m, NULL);
}

int status_internal(struct api_status *st, struct arena *a, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    struct str m = text_of(a, fmt, ap);
    va_end(ap);
    struct json *details = json_object(a), *causes = json_array(a), *cause = json_object(a);
    json_set_str(a, cause, "message", m);
    json_append(a, causes, cause);
    json_set_c(a, details, "causes", causes);
    return status_fill(st, 500, "InternalError", str_printf(a, "Internal error occurred: %.*s", STR_ARG(m)), details);
}

struct str resource_group_name(struct arena *a, const struct schema_resource *r) {
    return r->group.n ? str_printf(a, "%.*s.%.*s", STR_ARG(r->plural), STR_ARG(r->group)) : r->plural;
}

static struct json *details_of(struct arena *a, const struct schema_resource *r, struct str name, struct str kind) {
    struct json *d = json_object(a);
    if (name.n)
        json_set_str(a, d, "name", name);
    if (r && r->group.n)
        json_set_str(a, d, "group", r->group);
    json_set_str(a, d, "kind", kind);
    return d;
}

int status_not_found(struct api_status *st, struct arena *a, const struct schema_resource *r, struct str name) {
    struct str what = resource_group_name(a, r);
    return status_fill(st, 404, "NotFound", str_printf(a, "%.*s \"%.*s\" not found", STR_ARG(what), STR_ARG(name)),
                       details_of(a, r, name, r->plural));
}

int status_exists(struct api_status *st, struct arena *a, const struct schema_resource *r, struct str name) {
    struct str what = resource_group_name(a, r);
    return status_fill(st, 409, "AlreadyExists",
                       str_printf(a, "%.*s \"%.*s\" already exists", STR_ARG(what), STR_ARG(name)),
                       details_of(a, r, name, r->plural));
}

int status_conflict(struct api_status *st, struct arena *a, const struct schema_resource *r, struct str name,
                    const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    struct str m = text_of(a, fmt, ap), what = resource_group_name(a, r);
    va_end(ap);
    return status_fill(st, 409, "Conflict",
                       str_printf(a, "Operation cannot be fulfilled on %.*s \"%.*s\": %.*s", STR_ARG(what),
                                  STR_ARG(name), STR_ARG(m)),
                       details_of(a, r, name, r->plural));
}

int status_forbidden(struct api_status *st, struct arena *a, const struct schema_resource *r, struct str name,
                     const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    struct str m = text_of(a, fmt, ap), what = resource_group_name(a, r);
    va_end(ap);
    struct str text = name.n
                          ? str_printf(a, "%.*s \"%.*s\" is forbidden: %.*s", STR_ARG(what), STR_ARG(name), STR_ARG(m))
                          : str_printf(a, "%.*s is forbidden: %.*s", STR_ARG(what), STR_ARG(m));
    return status_fill(st, 403, "Forbidden", text, details_of(a, r, name, r->plural));
}

void status_add_cause(struct api_status *st, struct arena *a, const char *reason, struct str message,
                      struct str field) {
    if (!st->details)
        st->details = json_object(a);
    struct json *causes = json_get_c(st->details, "causes"), *cause = json_object(a);
    if (!causes) {
        causes = json_array(a);
        json_set_c(a, st->details, "causes", causes);
    }
    json_set_cstr(a, cause, "reason", reason);
    json_set_str(a, cause, "message", message);
    if (field.n)
        json_set_str(a, cause, "field", field);
    json_append(a, causes, cause);
}

int status_invalid(struct api_status *st, struct arena *a, const struct schema_resource *r, struct str name,
                   const struct field_errors *errs) {
    struct str kind = r->group.n ? str_printf(a, "%.*s.%.*s", STR_ARG(r->kind), STR_ARG(r->group)) : r->kind;
    struct str text = field_errors_text(errs);
    int rc = status_fill(st, 422, "Invalid",
                         str_printf(a, "%.*s \"%.*s\" is invalid: %.*s", STR_ARG(kind), STR_ARG(name), STR_ARG(text)),
                         details_of(a, r, name, r->kind));
    for (size_t i = 0; i < errs->list.n; i++) {
        const struct field_error *e = &errs->list.items[i];
        /* A cause carries the message without its field. */
        struct str m = e->message, prefix = str_printf(a, "%.*s: ", STR_ARG(e->field));
        if (str_starts(m, prefix))
            m = str_skip(m, prefix.n);
        status_add_cause(st, a, field_error_reason(e->type), m, e->field);
    }
    return rc;
}

int status_invalid_field(struct api_status *st, struct arena *a, const struct schema_resource *r, struct str name,
                         enum field_error_type type, const char *field, const struct json *value, const char *detail,
                         ...) {
    struct field_errors errs;
    va_list ap;
    va_start(ap, detail);
    struct str text = text_of(a, detail, ap);
    va_end(ap);
    field_errors_init(&errs, a);
    field_error_add(&errs, type, field, value, "%.*s", STR_ARG(text));
    int rc = status_invalid(st, a, r, name, &errs);
    field_errors_fini(&errs);
    return rc;
}

int status_method(struct api_status *st, struct arena *a, const struct schema_resource *r, const char *verb) {
    (void)r;
    return status_fill(st, 405, "MethodNotAllowed",
                       str_printf(a, "%s is not supported on resources of kind \"%.*s\"", verb,
                                  STR_ARG(resource_group_name(a, r))),
                       details_of(a, r, STR(""), r->plural));
}

struct json *status_json(struct arena *a, const struct api_status *st) {
    struct json *v = json_object(a);
    json_set_cstr(a, v, "kind", "Status");
    json_set_cstr(a, v, "apiVersion", "v1");
    json_set_c(a, v, "metadata", json_object(a));
    json_set_cstr(a, v, "status", st->code < 400 ? "Success" : "Failure");
    if (st->message.n)
        json_set_str(a, v, "message", st->message);
    if (st->reason.n)
        json_set_str(a, v, "reason", st->reason);
    if (st->details)
        json_set_c(a, v, "details", st->details);
    json_set_int(a, v, "code", st->code);
    return v;
}

struct blob *api_status_blob(int code, const char *reason, const char *message) {
    cleanup_arena struct arena *a = arena_new(0, 0);
    struct api_status st = {.code = code, .reason = str_c(reason), .message = str_c(message)};
    struct buf b = BUF_INIT;
    json_write(&b, status_json(a, &st));
    buf_putc(&b, '\n');
    size_t n = 0;
    char *p = buf_steal(&b, &n);
    return blob_take(p, n);
}

void api_reply_error(struct http_exchange *x, int code, const char *reason, const char *fmt, ...) {
    struct buf b = BUF_INIT;
    va_list ap;
    va_start(ap, fmt);
    buf_vprintf(&b, fmt, ap);
    va_end(ap);
    struct http_header h = {STR("Content-Type"), STR("application/json")};
    http_reply(x, code, &h, 1, api_status_blob(code, reason, b.p ? b.p : ""));
    buf_fini(&b);
}
