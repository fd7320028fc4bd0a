/*
 * The one error convention: a function that can fail returns 0 or a negative errno-like code and, when a person
 * will read the reason, takes `struct error *err` last (NULL is allowed). Out-parameters are untouched on failure.
 * A function reports or logs, never both.
 */
#pragma once

#include <errno.h>

#include "base/mem.h"

struct error {
    int code; /* negative errno, 0 when unset */
    char msg[500];
};

/* Sets the message and returns code (negative). err may be NULL. */
int error_set(struct error *err, int code, const char *fmt, ...) PRINTF_LIKE(3, 4);
/* As error_set with ": strerror(-code)" behind the message. */
int error_sys(struct error *err, int code, const char *fmt, ...) PRINTF_LIKE(3, 4);
/* Puts "context: " in front of a message already set; returns err->code. */
int error_wrap(struct error *err, const char *fmt, ...) PRINTF_LIKE(2, 3);
