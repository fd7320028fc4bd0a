#include "helper.h"

static const char *long_text(char *out, size_t n) {
    memset(out, 'a', n);
    out[n] = '\0';
    return out;
}

typedef const char *check_fn(struct str s);

static void check(check_fn *fn, const char *text, const char *wrong) {
    const char *said = fn(str_c(text));
    if (!wrong != !said || (wrong && strncmp(said, wrong, strlen(wrong)) != 0))
        fail_msg("\"%s\": %s", text, said ? said : "(fine)");
}

static void labels(void **state) {
    char text[300];
    check(name_check_dns_label, "a", NULL);
    check(name_check_dns_label, "web-1", NULL);
    check(name_check_dns_label, "1", NULL);
    check(name_check_dns_label, long_text(text, 63), NULL);
    check(name_check_dns_label, long_text(text, 64), "must be no more than 63 bytes");
    static const char *const bad[] = {"", "A", "-a", "a-", "a.b", "a_b", "\xc3\xa4", "a b"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        check(name_check_dns_label, bad[i],
              "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start "
              "and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is "
              "'[a-z0-9]([-a-z0-9]*[a-z0-9])?')");
    check(name_check_dns1035, "a-1", NULL);
    check(name_check_dns1035, "1a", "a DNS-1035 label must consist of");
    check(name_check_dns1035, "", "a DNS-1035 label must consist of");
}

static void subdomains(void **state) {
    char text[300];
    check(name_check_dns_subdomain, "a.b-c.1", NULL);
    check(name_check_dns_subdomain, long_text(text, 253), NULL);
    check(name_check_dns_subdomain, long_text(text, 254), "must be no more than 253 bytes");
    static const char *const bad[] = {"", ".", "a.", ".a", "a..b", "a.-b", "A.b", "a_b"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        check(name_check_dns_subdomain, bad[i], "a lowercase RFC 1123 subdomain must consist of");
}

static void qualified(void **state) {
    char text[400];
    check(name_check_qualified, "app", NULL);
    check(name_check_qualified, "app.kubernetes.io/Name_1.x", NULL);
    check(name_check_qualified, "a/b/c", "a qualified name must consist of");
    check(name_check_qualified, "/b", "prefix part must be non-empty");
    check(name_check_qualified, "a/", "name part must be non-empty");
    check(name_check_qualified, "", "name part must be non-empty");
    check(name_check_qualified, "A/b", "prefix part a lowercase RFC 1123 subdomain must");
    check(name_check_qualified, "a/_b", "name part must consist of alphanumeric characters, '-', '_' or '.'");
    check(name_check_qualified, long_text(text, 64), "name part must be no more than 63 bytes");
    long_text(text, 254);
    memcpy(text + 254, "/a", 3);
    check(name_check_qualified, text, "prefix part must be no more than 253 bytes");
}

static void values(void **state) {
    char text[100];
    check(name_check_label_value, "", NULL);
    check(name_check_label_value, "A.b_c-9", NULL);
    check(name_check_label_value, "a b", "a valid label must be an empty string or consist of");
    check(name_check_label_value, "-a", "a valid label must be");
    check(name_check_label_value, long_text(text, 64), "must be no more than 63 bytes");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(labels),
        cmocka_unit_test(subdomains),
        cmocka_unit_test(qualified),
        cmocka_unit_test(values),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
