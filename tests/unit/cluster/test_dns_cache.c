/* The cache of upstream answers, with a clock of the test's own. */
#include "cluster/dns_cache.h"
#include "helper.h"

static struct str key_of(char room[DNS_KEY_MAX], const char *name, uint16_t type) {
    struct dns_name n = name_of(name);
    return dns_cache_key(room, &n, type, false);
}

/* An answer; negative without records. */
static void put(struct dns_cache *c, const char *name, uint32_t ttl, bool negative, int64_t now) {
    char room[DNS_KEY_MAX];
    struct dns_query q = query_of(name, DNS_A, false);
    struct dns_builder b;
    dns_reply_begin(&b, &q, 512);
    if (!negative)
        dns_put_a(&b, DNS_ANSWER, &q.name, ttl, 1);
    dns_reply_end(&b, negative ? DNS_NXDOMAIN : 0, false);
    dns_cache_put(c, key_of(room, name, DNS_A), buf_str(&b.out), ttl, now);
    buf_fini(&b.out);
}

static bool get(struct dns_cache *c, const char *name, int64_t now, struct dns_kept *out) {
    char room[DNS_KEY_MAX];
    return dns_cache_get(c, key_of(room, name, DNS_A), now, out);
}

static void answers_live_as_long_as_their_ttl(void **state) {
    struct dns_cache c;
    struct dns_kept kept;
    char room[DNS_KEY_MAX];
    dns_cache_init(&c, 10);
    assert_false(get(&c, "a.b", 0, &kept));
    put(&c, "a.b", 10, false, 1000);
    assert_true(get(&c, "A.B", 5500, &kept));
    assert_int_equal(kept.age_s, 4);
    assert_false(dns_cache_get(&c, key_of(room, "a.b", DNS_AAAA), 5500, &kept));
    assert_false(get(&c, "a.b", 11000, &kept));
    put(&c, "zero.b", 0, false, 1000); /* not to be kept */
    assert_false(get(&c, "zero.b", 1000, &kept));
    put(&c, "no.b", 100000, true, 0);
    assert_true(get(&c, "no.b", 299999, &kept));
    assert_false(get(&c, "no.b", 300000, &kept)); /* "no" is not believed for a day */
    dns_cache_fini(&c);
}

static void old_answers_stand_in_for_failing_servers(void **state) {
    struct dns_cache c;
    struct dns_kept kept;
    char room[DNS_KEY_MAX];
    struct str key = key_of(room, "a.b", DNS_A);
    dns_cache_init(&c, 10);
    put(&c, "a.b", 10, false, 0);
    assert_true(dns_cache_stale(&c, key, 20000, &kept));
    assert_int_equal(kept.min_ttl, CACHE_STALE_TTL);
    assert_true(get(&c, "a.b", 24000, &kept)); /* for a while nobody has to wait */
    assert_int_equal(kept.min_ttl, CACHE_STALE_TTL);
    assert_false(get(&c, "a.b", 26000, &kept)); /* then it is asked again */
    assert_false(dns_cache_stale(&c, key, 10000 + CACHE_STALE_S * 1000, &kept));
    assert_false(get(&c, "a.b", 10000 + CACHE_STALE_S * 1000, &kept));
    assert_int_equal(c.entries.n, 0);
    dns_cache_fini(&c);
}

static void the_least_used_goes_first(void **state) {
    struct dns_cache c;
    struct dns_kept kept;
    char name[32];
    dns_cache_init(&c, 10);
    for (int i = 0; i < 1000; i++) {
        snprintf(name, sizeof(name), "n%d.b", i);
        put(&c, name, 60, false, i);
        assert_true(get(&c, "n0.b", i, &kept)); /* in use all the time */
    }
    assert_int_equal(c.entries.n, 10);
    assert_true(get(&c, "n999.b", 1000, &kept));
    assert_false(get(&c, "n500.b", 1000, &kept));
    dns_cache_fini(&c);
    assert_int_equal(c.bytes, 0);
}

static void memory_is_bounded(void **state) {
    struct dns_cache c;
    char room[DNS_KEY_MAX], name[32];
    char *big = calloc(1, 60000);
    dns_cache_init(&c, 2000);
    for (int i = 0; i < 200; i++) {
        snprintf(name, sizeof(name), "n%d.b", i);
        dns_cache_put(&c, key_of(room, name, DNS_TXT), str_n(big, 60000), 60, 0);
        assert_true(c.bytes <= CACHE_BYTES_MAX);
    }
    assert_in_range(c.entries.n, 20, 40);
    dns_cache_fini(&c);
    free(big);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(answers_live_as_long_as_their_ttl),
        cmocka_unit_test(old_answers_stand_in_for_failing_servers),
        cmocka_unit_test(the_least_used_goes_first),
        cmocka_unit_test(memory_is_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
