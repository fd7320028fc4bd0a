/* Clocks and RFC 3339. Wall times are struct timespec (UTC); durations and deadlines are monotonic milliseconds. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <time.h>

#include "base/str.h"

#define TIME_RFC3339_MAX 40

int64_t time_mono_ms(void);
int64_t time_mono_ns(void);
struct timespec time_now(void);
int64_t time_now_s(void); /* seconds since the epoch */
/* Writes t as RFC 3339 UTC with `digits` fractional digits (0, 3, 6 or 9) and returns out. */
char *time_format(struct timespec t, int digits, char out[TIME_RFC3339_MAX]);
char *time_now_rfc3339(char out[TIME_RFC3339_MAX]); /* seconds: meta/v1 Time */
char *time_now_micro(char out[TIME_RFC3339_MAX]);   /* microseconds: MicroTime */
/* Parses RFC 3339 with any offset and fraction; false on anything else. */
bool time_parse(struct str s, struct timespec *out);
/* Go duration text ("1h30m", "1.5s", "100ms") to nanoseconds. */
bool time_parse_duration(struct str s, int64_t *ns);
