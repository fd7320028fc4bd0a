#include "helper.h"

static void formatting(void **state) {
    char out[TIME_RFC3339_MAX];
    struct timespec t = {.tv_sec = 1700000000, .tv_nsec = 123456789};
    assert_string_equal(time_format(t, 0, out), "2023-11-14T22:13:20Z");
    assert_string_equal(time_format(t, 3, out), "2023-11-14T22:13:20.123Z");
    assert_string_equal(time_format(t, 6, out), "2023-11-14T22:13:20.123456Z");
    assert_string_equal(time_format(t, 9, out), "2023-11-14T22:13:20.123456789Z");
    assert_string_equal(time_format((struct timespec){.tv_nsec = 5000}, 6, out), "1970-01-01T00:00:00.000005Z");
}

static void parsing(void **state) {
    static const struct {
        const char *text;
        int64_t s;
        long ns;
    } good[] = {
        {"1970-01-01T00:00:00Z", 0, 0},
        {"2023-11-14T22:13:20Z", 1700000000, 0},
        {"2023-11-14T22:13:20.5Z", 1700000000, 500000000},
        {"2023-11-14T22:13:20.123456789987Z", 1700000000, 123456789},
        {"2023-11-15T00:13:20+02:00", 1700000000, 0},
        {"2023-11-14T16:43:20-05:30", 1700000000, 0},
        {"2024-02-29T00:00:00Z", 1709164800, 0},
        {"2000-02-29T23:59:59Z", 951868799, 0},
        {"1969-12-31T23:59:59Z", -1, 0},
        {"9999-12-31T23:59:59Z", 253402300799, 0},
        {"0001-01-01T00:00:00Z", -62135596800, 0},
    };
    static const char *const bad[] = {"",
                                      "2023-11-14",
                                      "2023-11-14T22:13:20",
                                      "2023-11-14 22:13:20Z",
                                      "2023-11-14T22:13Z",
                                      "2023-13-01T00:00:00Z",
                                      "2023-00-01T00:00:00Z",
                                      "2023-02-29T00:00:00Z",
                                      "1900-02-29T00:00:00Z",
                                      "2023-11-31T00:00:00Z",
                                      "2023-11-14T24:00:00Z",
                                      "2023-11-14T22:60:00Z",
                                      "2023-11-14T22:13:60Z",
                                      "2023-11-14T22:13:20.Z",
                                      "2023-11-14T22:13:20+0200",
                                      "2023-11-14T22:13:20+24:00",
                                      "2023-11-14T22:13:20Zx",
                                      "23-11-14T22:13:20Z",
                                      "-023-11-14T22:13:20Z",
                                      "2023-11-14T22:13:20z"};
    for (size_t i = 0; i < ARRAY_LEN(good); i++) {
        struct timespec t;
        if (!time_parse(str_c(good[i].text), &t) || t.tv_sec != good[i].s || t.tv_nsec != good[i].ns)
            fail_msg("%s", good[i].text);
    }
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct timespec t = {.tv_sec = 42};
        if (time_parse(str_c(bad[i]), &t))
            fail_msg("accepted: %s", bad[i]);
        assert_int_equal(t.tv_sec, 42);
    }
}

static void what_is_formatted_parses(void **state) {
    char out[TIME_RFC3339_MAX];
    for (int64_t s = -62135596800; s < 253402300799; s += 86400 * 997 + 12345) {
        struct timespec t;
        assert_true(time_parse(str_c(time_format((struct timespec){.tv_sec = (time_t)s, .tv_nsec = 7}, 9, out)), &t));
        assert_true(t.tv_sec == s && t.tv_nsec == 7);
    }
}

static void durations(void **state) {
    static const struct {
        const char *text;
        int64_t ns;
    } good[] = {
        {"0", 0},
        {"0s", 0},
        {"1s", 1000000000},
        {"1.5s", 1500000000},
        {"100ms", 100000000},
        {"1h30m", INT64_C(5400000000000)},
        {"-2m", -INT64_C(120000000000)},
        {"+3us", 3000},
        {"3\xc2\xb5s", 3000},
        {"7ns", 7},
        {"1h2m3s4ms5us6ns", INT64_C(3723004005006)},
        {".5s", 500000000},
        {"24h", INT64_C(86400000000000)},
    };
    static const char *const bad[] = {"",       "1", "s",  "1x",    "1s ",      " 1s", "-",   "+",
                                      "1.2.3s", ".", ".s", "1h-2m", "9999999h", "1d",  "1m s"};
    for (size_t i = 0; i < ARRAY_LEN(good); i++) {
        int64_t ns = -1;
        if (!time_parse_duration(str_c(good[i].text), &ns) || ns != good[i].ns)
            fail_msg("%s: %lld", good[i].text, (long long)ns);
    }
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        int64_t ns = 42;
        if (time_parse_duration(str_c(bad[i]), &ns))
            fail_msg("accepted: %s", bad[i]);
        assert_int_equal(ns, 42);
    }
}

static void clocks(void **state) {
    char out[TIME_RFC3339_MAX];
    struct timespec t;
    int64_t ms = time_mono_ms(), ns = time_mono_ns();
    assert_true(ns / 1000000 - ms < 10000 && time_mono_ns() >= ns);
    assert_true(time_parse(str_c(time_now_rfc3339(out)), &t) && llabs((long long)t.tv_sec - time_now_s()) < 10);
    assert_int_equal(strlen(out), 20);
    assert_true(time_parse(str_c(time_now_micro(out)), &t));
    assert_int_equal(strlen(out), 27);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(formatting), cmocka_unit_test(parsing), cmocka_unit_test(what_is_formatted_parses),
        cmocka_unit_test(durations),  cmocka_unit_test(clocks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
