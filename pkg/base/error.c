#include "base/error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

int error_set(struct error *err, int code, const char *fmt, ...) {
    if (err) {
        va_list ap;
        va_start(ap, fmt);
        vsnprintf(err->msg, sizeof(err->msg), fmt, ap);
        va_end(ap);
        err->code = code;
    }
    return code;
}

int error_sys(struct error *err, int code, const char *fmt, ...) {
    if (err) {
        va_list ap;
        va_start(ap, fmt);
        int n = vsnprintf(err->msg, sizeof(err->msg), fmt, ap);
        va_end(ap);
        if (n >= 0 && (size_t)n < sizeof(err->msg))
            snprintf(err->msg + n, sizeof(err->msg) - (size_t)n, ": %s", strerror(-code));
        err->code = code;
    }
    return code;
}

int error_wrap(struct error *err, const char *fmt, ...) {
    if (!err)
        return -EIO;
    char was[sizeof(err->msg)];
    memcpy(was, err->msg, sizeof(was));
    was[sizeof(was) - 1] = 0;
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(err->msg, sizeof(err->msg), fmt, ap);
    va_end(ap);
    size_t at = n < 0 ? 0 : MIN((size_t)n, sizeof(err->msg) - 1), room = sizeof(err->msg) - 1 - at;
    for (const char *p = ": "; *p && room; room--)
        err->msg[at++] = *p++;
    for (const char *p = was; *p && room; room--)
        err->msg[at++] = *p++;
    err->msg[at] = 0;
    return err->code;
}
