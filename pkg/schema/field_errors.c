/* Problems of fields, in the words of Kubernetes' field errors. */
#include "schema/schema_private.h"

#include <stdarg.h>
#include <stdlib.h>

#define ERRORS_MAX 100
#define VALUE_MAX 4096 /* bytes of a bad value that are shown */

static const struct {
    const char *reason, *title;
    bool shows_value;
} types[FIELD_ERROR_MAX] = {
    [FIELD_REQUIRED] = {"FieldValueRequired", "Required value", false},
    [FIELD_INVALID] = {"FieldValueInvalid", "Invalid value", true},
    [FIELD_NOT_SUPPORTED] = {"FieldValueNotSupported", "Unsupported value", true},
    [FIELD_DUPLICATE] = {"FieldValueDuplicate", "Duplicate value", true},
    [FIELD_FORBIDDEN] = {"FieldValueForbidden", "Forbidden", false},
    [FIELD_TOO_LONG] = {"FieldValueTooLong", "Too long", false},
    [FIELD_TOO_MANY] = {"FieldValueTooMany", "Too many", true},
    [FIELD_NOT_FOUND] = {"FieldValueNotFound", "Not found", true},
    [FIELD_TYPE_INVALID] = {"FieldValueTypeInvalid", "Invalid value", true},
    [FIELD_INTERNAL] = {"InternalError", "Internal error", false},
};

void field_errors_init(struct field_errors *e, struct arena *a) {
    *e = (struct field_errors){.arena = a};
}

void field_errors_fini(struct field_errors *e) {
    vec_fini(&e->list);
}

const char *field_error_reason(enum field_error_type t) {
    return types[t].reason;
}

static void put_value(struct buf *b, const struct json *value) {
    if (!value) {
        buf_puts(b, "null");
        return;
    }
    size_t start = b->n;
    json_write(b, value);
    if (b->n - start > VALUE_MAX) {
        b->n = start + VALUE_MAX;
        buf_puts(b, "...");
    }
}

void field_error_add(struct field_errors *e, enum field_error_type type, const char *field, const struct json *value,
                     const char *detail, ...) {
    if (e->list.n >= ERRORS_MAX)
        return;
    cleanup_buf struct buf b = BUF_INIT;
    buf_printf(&b, "%s: %s", field, types[type].title);
    if (types[type].shows_value) {
        buf_puts(&b, ": ");
        put_value(&b, value);
    }
    if (detail && *detail) {
        va_list ap;
        buf_puts(&b, ": ");
        va_start(ap, detail);
        buf_vprintf(&b, detail, ap);
        va_end(ap);
    }
    struct field_error one = {type, str_dup(e->arena, str_c(field)), str_dup(e->arena, buf_str(&b))};
    vec_push(&e->list, one);
}

static bool is_repeated(const struct field_errors *e, size_t i) {
    for (size_t k = 0; k < i; k++)
        if (str_eq(e->list.items[k].message, e->list.items[i].message))
            return true;
    return false;
}

struct str field_errors_text(const struct field_errors *e) {
    cleanup_buf struct buf b = BUF_INIT;
    size_t n = 0;
    for (size_t i = 0; i < e->list.n; i++) {
        if (is_repeated(e, i))
            continue;
        if (n++ > 0)
            buf_puts(&b, ", ");
        buf_put_str(&b, e->list.items[i].message);
    }
    if (n <= 1)
        return str_dup(e->arena, buf_str(&b));
    return str_printf(e->arena, "[%.*s]", STR_ARG(buf_str(&b)));
}
