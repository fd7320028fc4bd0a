#include "base/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/error.h"
#include "base/time.h"

static atomic_int level_max = LOG_INFO;

void log_set_level(enum log_level level) {
    atomic_store_explicit(&level_max, (int)level, memory_order_relaxed);
}

bool log_enabled(enum log_level level) {
    return (int)level <= atomic_load_explicit(&level_max, memory_order_relaxed);
}

static const char *const level_names[LOG_LEVEL_MAX] = {"ERRO", "WARN", "INFO", "DEBU", "TRAC"};

static void log_line(enum log_level level, const char *subsystem, const char *fmt, va_list ap) {
    char line[2048], when[TIME_RFC3339_MAX];
    int saved = errno;
    int n = snprintf(line, sizeof(line), "%s[%s] [%s] ", level_names[level], time_now_rfc3339(when), subsystem);
    int m = vsnprintf(line + n, sizeof(line) - (size_t)n - 1, fmt, ap);
    size_t end = m < 0 ? (size_t)n : MIN((size_t)n + (size_t)m, sizeof(line) - 2);
    for (size_t i = (size_t)n; i < end; i++)
        if ((unsigned char)line[i] < 0x20 || line[i] == 0x7f)
            line[i] = line[i] == '\n' ? ' ' : '?';
    line[end++] = '\n';
    ssize_t rc = write(STDERR_FILENO, line, end);
    (void)rc; /* nowhere left to complain */
    errno = saved;
}

void log_write(enum log_level level, const char *subsystem, const char *fmt, ...) {
    if (!log_enabled(level))
        return;
    va_list ap;
    va_start(ap, fmt);
    log_line(level, subsystem, fmt, ap);
    va_end(ap);
}

void fatal(const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    log_line(LOG_ERROR, "fatal", fmt, ap);
    va_end(ap);
    abort();
}
