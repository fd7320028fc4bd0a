/*
 * The log of the process: one line an entry on stderr, in the form k3s users read
 *   INFO[2026-11-22T17:30:00Z] [node] message
 * Lines are written with one write(2): safe from any thread. Control bytes in messages are escaped.
 */
#pragma once

#include <stdbool.h>

#include "base/mem.h"

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG, LOG_TRACE, LOG_LEVEL_MAX };

void log_set_level(enum log_level level); /* default LOG_INFO */
bool log_enabled(enum log_level level);
void log_write(enum log_level level, const char *subsystem, const char *fmt, ...) PRINTF_LIKE(3, 4);

#define log_error(sub, ...) log_write(LOG_ERROR, sub, __VA_ARGS__)
#define log_warn(sub, ...) log_write(LOG_WARN, sub, __VA_ARGS__)
#define log_info(sub, ...) log_write(LOG_INFO, sub, __VA_ARGS__)
#define log_debug(sub, ...)                         \
    do {                                            \
        if (log_enabled(LOG_DEBUG))                 \
            log_write(LOG_DEBUG, sub, __VA_ARGS__); \
    } while (0)

/* Says why and aborts: for broken invariants only, never for input. */
_Noreturn void fatal(const char *fmt, ...) PRINTF_LIKE(1, 2);
#define REQUIRE(cond)                                                          \
    do {                                                                       \
        if (!(cond))                                                           \
            fatal("%s:%d: requirement failed: %s", __FILE__, __LINE__, #cond); \
    } while (0)
