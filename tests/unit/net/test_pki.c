#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "net/pki.h"

static char *ca_key, *ca_cert;
static const int64_t now = 1800000000, year = 365 * 86400;

static int setup(void **state) {
    const struct pki_cert_request r = {.common_name = "dory-server-ca@1",
                                       .is_ca = true,
                                       .not_before_s = now,
                                       .not_after_s = now + 10 * year};
    pki_init();
    return pki_key_new(&ca_key, NULL) || pki_cert_new(&r, ca_key, NULL, NULL, &ca_cert, NULL);
}

static int teardown(void **state) {
    free(ca_key);
    free(ca_cert);
    return 0;
}

static void a_certificate_says_what_was_asked(void **state) {
    const char *const groups[] = {"system:masters", "a, b=c", NULL};
    const char *const dns[] = {"kubernetes", "kubernetes.default.svc", NULL};
    const char *const ips[] = {"10.43.0.1", "fd00::1", NULL};
    struct pki_cert_request r = {.common_name = "system:admin, or not",
                                 .organizations = groups,
                                 .dns_names = dns,
                                 .ip_addresses = ips,
                                 .server_auth = true,
                                 .client_auth = true,
                                 .not_before_s = now,
                                 .not_after_s = now + year};
    cleanup_free char *key = NULL, *cert = NULL;
    struct error err = {0};
    struct pki_cert_info info;
    assert_int_equal(pki_key_new(&key, &err), 0);
    assert_int_equal(pki_cert_new(&r, key, ca_cert, ca_key, &cert, &err), 0);
    assert_int_equal(pki_cert_info(cert, &info, &err), 0);
    assert_string_equal(info.common_name, "system:admin, or not");
    assert_int_equal(info.not_before_s, now);
    assert_int_equal(info.not_after_s, now + year);
    assert_false(info.is_ca);
    assert_int_equal(pki_cert_check(cert, key, ca_cert, dns, ips, &err), 0);

    const char *const other_dns[] = {"kubernetes", "evil", NULL};
    const char *const other_ip[] = {"10.43.0.2", NULL};
    assert_int_equal(pki_cert_check(cert, key, ca_cert, other_dns, NULL, &err), -EINVAL);
    assert_non_null(strstr(err.msg, "evil"));
    assert_int_equal(pki_cert_check(cert, key, ca_cert, NULL, other_ip, &err), -EINVAL);
    assert_int_equal(pki_cert_check(cert, ca_key, ca_cert, NULL, NULL, &err), -EINVAL);
    assert_int_equal(pki_cert_check(cert, key, cert, NULL, NULL, &err), -EINVAL);
    assert_int_equal(pki_cert_info(ca_cert, &info, &err), 0);
    assert_true(info.is_ca);
}

static void dates_beyond_2050_and_before_now_are_kept(void **state) {
    struct pki_cert_request r = {.common_name = "x", .not_before_s = 1, .not_after_s = 4000000000};
    cleanup_free char *key = NULL, *cert = NULL;
    struct pki_cert_info info;
    assert_int_equal(pki_key_new(&key, NULL), 0);
    assert_int_equal(pki_cert_new(&r, key, ca_cert, ca_key, &cert, NULL), 0);
    assert_int_equal(pki_cert_info(cert, &info, NULL), 0);
    assert_int_equal(info.not_before_s, 1);
    assert_int_equal(info.not_after_s, 4000000000);
    assert_int_equal(pki_cert_check(cert, key, ca_cert, NULL, NULL, NULL), 0);
}

static void bad_requests_are_refused(void **state) {
    cleanup_free char *cert = NULL;
    struct error err = {0};
    struct pki_cert_request r = {.common_name = "", .not_before_s = now, .not_after_s = now + 1};
    assert_int_equal(pki_cert_new(&r, ca_key, ca_cert, ca_key, &cert, &err), -EINVAL);
    const char *const ips[] = {"10.43.0.256", NULL};
    r = (struct pki_cert_request){.common_name = "x", .ip_addresses = ips, .not_after_s = now};
    assert_int_equal(pki_cert_new(&r, ca_key, ca_cert, ca_key, &cert, &err), -EINVAL);
    assert_non_null(strstr(err.msg, "10.43.0.256"));
    const char *many[67];
    for (size_t i = 0; i < 66; i++)
        many[i] = "name";
    many[66] = NULL;
    r = (struct pki_cert_request){.common_name = "x", .dns_names = many, .not_after_s = now};
    assert_int_equal(pki_cert_new(&r, ca_key, ca_cert, ca_key, &cert, &err), -E2BIG);
    many[64] = NULL;
    assert_int_equal(pki_cert_new(&r, ca_key, ca_cert, ca_key, &cert, &err), 0);
    cleanup_free char *none = NULL, *key = NULL;
    assert_int_equal(pki_cert_new(&r, "no key", ca_cert, ca_key, &none, &err), -EINVAL);
    assert_int_equal(pki_cert_new(&r, ca_key, "no certificate", ca_key, &none, &err), -EINVAL);
    assert_int_equal(pki_key_new(&key, NULL), 0);
    assert_int_equal(pki_cert_new(&r, ca_key, ca_cert, key, &none, &err), -EINVAL); /* not the CA's key */
    assert_null(none);
}

static void the_hash_of_a_certificate_is_stable(void **state) {
    char a[65], b[65];
    assert_int_equal(pki_cert_hash(ca_cert, a, NULL), 0);
    assert_int_equal(pki_cert_hash(ca_cert, b, NULL), 0);
    assert_string_equal(a, b);
    assert_int_equal(strlen(a), 64);
}

static void tokens_verify_and_tampering_shows(void **state) {
    cleanup_arena struct arena *a = arena_new(0, 0);
    cleanup_free char *key = NULL, *other = NULL, *token = NULL;
    assert_int_equal(pki_key_new(&key, NULL), 0);
    assert_int_equal(pki_key_new(&other, NULL), 0);
    struct json *claims = json_object(a), *back = NULL;
    json_set_cstr(a, claims, "sub", "system:serviceaccount:default:default");
    json_set_int(a, claims, "exp", 9007199254740993);
    struct error err = {0};
    assert_int_equal(jwt_sign(key, claims, &token, &err), 0);
    const char *const keys[] = {other, key, NULL}, *const wrong[] = {other, NULL};
    assert_int_equal(jwt_verify(a, str_c(token), keys, &back, &err), 0);
    assert_true(json_equal(claims, back));
    back = NULL;
    assert_int_equal(jwt_verify(a, str_c(token), wrong, &back, &err), -EACCES);
    assert_null(back);
    /* Every single changed character of the payload and the signature. */
    size_t n = strlen(token);
    for (size_t i = (size_t)(strchr(token, '.') - token) + 1; i < n; i += 7) {
        char keep = token[i];
        token[i] = keep == 'A' ? 'B' : 'A';
        assert_int_not_equal(jwt_verify(a, str_c(token), keys, &back, &err), 0);
        token[i] = keep;
    }
    assert_int_not_equal(jwt_verify(a, str_n(token, n - 1), keys, &back, &err), 0);
    assert_int_not_equal(jwt_verify(a, str_n(token, n - 4), keys, &back, &err), 0);
    assert_int_equal(jwt_verify(a, STR("a.b"), keys, &back, &err), -EINVAL);
    assert_int_equal(jwt_verify(a, STR(""), keys, &back, &err), -EINVAL);
    assert_int_equal(jwt_verify(a, STR("..."), keys, &back, &err), -EINVAL);
    /* {"alg":"none"} . {} . (empty), and the same claiming HS256 */
    assert_int_equal(jwt_verify(a, STR("eyJhbGciOiJub25lIn0.e30."), keys, &back, &err), -EACCES);
    assert_int_equal(jwt_verify(a, STR("eyJhbGciOiJIUzI1NiJ9.e30.AAAA"), keys, &back, &err), -EACCES);
}

static void foreign_rsa_tokens_verify(void **state) {
    /* Made with openssl: a 2048-bit key and a token signed RS256 over {"sub":"rsa"}. */
    static const char pub[] =
#include "rsa_public.inc"
        ;
    static const char token[] =
#include "rsa_token.inc"
        ;
    cleanup_arena struct arena *a = arena_new(0, 0);
    const char *const keys[] = {pub, NULL};
    struct json *claims = NULL;
    struct error err = {0};
    assert_int_equal(jwt_verify(a, str_c(token), keys, &claims, &err), 0);
    assert_true(str_eq_c(json_as_str(json_get_c(claims, "sub")), "rsa"));
    struct json *jwks = jwt_jwks(a, keys, &err);
    assert_non_null(jwks);
    assert_true(str_eq_c(json_str_at(json_item(json_get_c(jwks, "keys"), 0), "e"), "AQAB"));
}

static void jwks_lists_public_halves_only(void **state) {
    cleanup_arena struct arena *a = arena_new(0, 0);
    const char *const keys[] = {ca_key, ca_cert, NULL};
    struct json *doc = jwt_jwks(a, keys, NULL);
    struct json *list = json_get_c(doc, "keys");
    assert_int_equal(json_len(list), 2);
    struct json *k = json_item(list, 0);
    assert_true(json_equal(k, json_item(list, 1))); /* the certificate is of the same key */
    assert_int_equal(json_str_at(k, "x").n, 43);
    assert_int_equal(json_str_at(k, "y").n, 43);
    assert_int_equal(json_str_at(k, "kid").n, 43);
    assert_null(json_get_c(k, "d"));
    assert_null(jwt_jwks(a, (const char *const[]){"junk", NULL}, NULL));
}

static void hashes_are_the_known_ones(void **state) {
    char hex[65];
    sha256_hex("abc", 3, hex);
    assert_string_equal(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    unsigned char whole[32], parts[32], one[20];
    sha256("hello world", 11, whole);
    struct sha256_state *s = sha256_new();
    sha256_update(s, "hello", 5);
    sha256_update(s, " world", 6);
    sha256_finish(s, parts);
    assert_memory_equal(whole, parts, 32);
    sha1("abc", 3, one);
    assert_memory_equal(one, "\xa9\x99\x3e\x36\x47\x06\x81\x6a\xba\x3e\x25\x71\x78\x50\xc2\x6c\x9c\xd0\xd8\x9d", 20);
    assert_true(secret_eq(STR("abc"), STR("abc")));
    assert_false(secret_eq(STR("abc"), STR("abd")));
    assert_false(secret_eq(STR("abc"), STR("abcd")));
    assert_true(secret_eq(STR(""), STR("")));
}

/* What a fresh server makes: a handful of keys and certificates, before it can answer anything. */
static void a_servers_worth_of_certificates_is_quick(void **state) {
    int64_t t0 = time_mono_ns();
    for (int i = 0; i < 8; i++) {
        struct pki_cert_request r = {.common_name = "x",
                                     .server_auth = true,
                                     .not_before_s = now,
                                     .not_after_s = now + 9};
        cleanup_free char *key = NULL, *cert = NULL;
        assert_int_equal(pki_key_new(&key, NULL), 0);
        assert_int_equal(pki_cert_new(&r, key, ca_cert, ca_key, &cert, NULL), 0);
    }
    int64_t t1 = time_mono_ns();
    char *cert = NULL;
    struct pki_cert_request r = {.common_name = "x", .not_after_s = now};
    assert_int_equal(pki_cert_new(&r, ca_key, ca_cert, ca_key, &cert, NULL), 0);
    int64_t t2 = time_mono_ns();
    assert_int_equal(pki_cert_check(cert, ca_key, ca_cert, NULL, NULL, NULL), 0);
    printf("one certificate %.2f ms, one check %.2f ms\n", (double)(t2 - t1) / 1e6,
           (double)(time_mono_ns() - t2) / 1e6);
    free(cert);
    printf("8 keys and certificates: %.1f ms\n", (double)(t1 - t0) / 1e6);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_certificate_says_what_was_asked),
        cmocka_unit_test(dates_beyond_2050_and_before_now_are_kept),
        cmocka_unit_test(bad_requests_are_refused),
        cmocka_unit_test(the_hash_of_a_certificate_is_stable),
        cmocka_unit_test(tokens_verify_and_tampering_shows),
        cmocka_unit_test(foreign_rsa_tokens_verify),
        cmocka_unit_test(jwks_lists_public_halves_only),
        cmocka_unit_test(hashes_are_the_known_ones),
        cmocka_unit_test(a_servers_worth_of_certificates_is_quick),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
