#include "base/time.h"

#include <stdio.h>

int64_t time_mono_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

int64_t time_mono_ms(void) {
    return time_mono_ns() / 1000000;
}

struct timespec time_now(void) {
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return t;
}

int64_t time_now_s(void) {
    return time_now().tv_sec;
}

char *time_format(struct timespec t, int digits, char out[TIME_RFC3339_MAX]) {
    struct tm tm;
    time_t s = t.tv_sec;
    gmtime_r(&s, &tm);
    /* not strftime(): years before 1000 have four digits as well */
    size_t n = (size_t)snprintf(out, TIME_RFC3339_MAX - 12, "%04d-%02d-%02dT%02d:%02d:%02d", tm.tm_year + 1900,
                                tm.tm_mon + 1, tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec);
    n = MIN(n, (size_t)TIME_RFC3339_MAX - 13);
    long frac = t.tv_nsec;
    for (int i = digits; i < 9; i++)
        frac /= 10;
    if (digits > 0)
        n += (size_t)snprintf(out + n, TIME_RFC3339_MAX - n, ".%0*ld", digits, frac);
    snprintf(out + n, TIME_RFC3339_MAX - n, "Z");
    return out;
}

char *time_now_rfc3339(char out[TIME_RFC3339_MAX]) {
    return time_format(time_now(), 0, out);
}

char *time_now_micro(char out[TIME_RFC3339_MAX]) {
    return time_format(time_now(), 6, out);
}

/* Reads exactly n digits at *s; false when there are fewer. */
static bool digits_n(struct str *s, int n, int *out) {
    int v = 0;
    if (s->n < (size_t)n)
        return false;
    for (int i = 0; i < n; i++) {
        char c = s->p[i];
        if (c < '0' || c > '9')
            return false;
        v = v * 10 + (c - '0');
    }
    *s = str_skip(*s, (size_t)n);
    *out = v;
    return true;
}

static bool literal(struct str *s, char c) {
    if (s->n == 0 || s->p[0] != c)
        return false;
    *s = str_skip(*s, 1);
    return true;
}

/* Days since 1970-01-01 of a date of the proleptic Gregorian calendar. */
static int64_t days_from_civil(int y, int m, int d) {
    y -= m <= 2;
    int64_t era = (y >= 0 ? y : y - 399) / 400;
    int64_t yoe = y - era * 400, doy = (153 * (m + (m > 2 ? -3 : 9)) + 2) / 5 + d - 1;
    return era * 146097 + yoe * 365 + yoe / 4 - yoe / 100 + doy - 719468;
}

static int month_days(int y, int m) {
    static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    bool leap = (y % 4 == 0 && y % 100 != 0) || y % 400 == 0;
    return m == 2 && leap ? 29 : days[m - 1];
}

bool time_parse(struct str s, struct timespec *out) {
    int year, mon, day, hour, min, sec, off_h = 0, off_m = 0, sign = 1;
    long nsec = 0;
    if (!digits_n(&s, 4, &year) || !literal(&s, '-') || !digits_n(&s, 2, &mon) || !literal(&s, '-') ||
        !digits_n(&s, 2, &day) || !literal(&s, 'T') || !digits_n(&s, 2, &hour) || !literal(&s, ':') ||
        !digits_n(&s, 2, &min) || !literal(&s, ':') || !digits_n(&s, 2, &sec))
        return false;
    if (mon < 1 || mon > 12 || day < 1 || day > month_days(year, mon) || hour > 23 || min > 59 || sec > 59)
        return false;
    if (literal(&s, '.')) {
        long unit = 100000000;
        if (s.n == 0 || s.p[0] < '0' || s.p[0] > '9')
            return false;
        for (; s.n && s.p[0] >= '0' && s.p[0] <= '9'; s = str_skip(s, 1), unit /= 10)
            nsec += (s.p[0] - '0') * unit;
    }
    if (!literal(&s, 'Z')) {
        if (literal(&s, '-'))
            sign = -1;
        else if (!literal(&s, '+'))
            return false;
        if (!digits_n(&s, 2, &off_h) || !literal(&s, ':') || !digits_n(&s, 2, &off_m) || off_h > 23 || off_m > 59)
            return false;
    }
    if (s.n)
        return false;
    int64_t t = days_from_civil(year, mon, day) * 86400 + hour * 3600 + min * 60 + sec;
    *out = (struct timespec){.tv_sec = (time_t)(t - sign * (off_h * 3600 + off_m * 60)), .tv_nsec = nsec};
    return true;
}

static const struct {
    const char *unit;
    double ns;
} duration_units[] = {{"ns", 1},   {"us", 1e3}, {"\xc2\xb5s", 1e3}, {"\xce\xbcs", 1e3},
                      {"ms", 1e6}, {"s", 1e9},  {"m", 60e9},        {"h", 3600e9}};

bool time_parse_duration(struct str s, int64_t *ns) {
    bool negative = false;
    if (s.n && (s.p[0] == '-' || s.p[0] == '+')) {
        negative = s.p[0] == '-';
        s = str_skip(s, 1);
    }
    if (str_eq(s, STR("0"))) {
        *ns = 0;
        return true;
    }
    if (s.n == 0)
        return false;
    double total = 0;
    while (s.n) {
        double v = 0, scale = 1;
        bool any = false, point = false;
        for (; s.n && ((s.p[0] >= '0' && s.p[0] <= '9') || (s.p[0] == '.' && !point)); s = str_skip(s, 1)) {
            if (s.p[0] == '.') {
                point = true;
                continue;
            }
            any = true;
            v = v * 10 + (s.p[0] - '0');
            if (point)
                scale *= 10;
        }
        if (!any)
            return false;
        double unit = 0;
        size_t best = 0;
        for (size_t i = 0; i < ARRAY_LEN(duration_units); i++) {
            struct str u = str_c(duration_units[i].unit);
            if (u.n > best && str_starts(s, u)) {
                best = u.n;
                unit = duration_units[i].ns;
            }
        }
        if (best == 0)
            return false;
        s = str_skip(s, best);
        total += v / scale * unit;
    }
    if (total > 9.2e18)
        return false;
    *ns = negative ? -(int64_t)total : (int64_t)total;
    return true;
}
