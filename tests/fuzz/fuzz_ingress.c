/* Host headers and request paths against a table of rules: "host LF path". A clean path has no way up, and a rule found
 * for it is one of its host. */
#include <stdint.h>

#include "ingress/rules.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct ingress_rules *make_rules(void) {
    cleanup_arena struct arena *a = arena_new(0, 0);
    const struct json *o = json_parse(
        a,
        STR("{\"metadata\":{\"namespace\":\"x\",\"name\":\"i\"},\"spec\":{\"rules\":["
            "{\"host\":\"a.b\",\"http\":{\"paths\":[{\"path\":\"/p/q\",\"pathType\":\"Exact\",\"backend\":{\"service\":{\"name\":"
            "\"exact\",\"port\":{\"number\":1}}}},{\"path\":\"/p\",\"pathType\":\"Prefix\",\"backend\":{\"service\":{\"name\":"
            "\"prefix\",\"port\":{\"number\":1}}}}]}},{\"host\":\"*.b\",\"http\":{\"paths\":[{\"path\":\"/\",\"pathType\":\"Prefix\","
            "\"backend\":{\"service\":{\"name\":\"wild\",\"port\":{\"number\":1}}}}]}}]}}"),
        NULL, NULL);
    return ingress_rules_new(&o, 1, "dory");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static struct ingress_rules *rules;
    struct str host, path, clean;
    if (!rules)
        rules = make_rules();
    if (size > KiB(64) || !str_cut(str_n((const char *)data, size), '\n', &host, &path))
        return 0;
    cleanup_arena struct arena *a = arena_new(0, 0);
    if (!ingress_path_clean(a, path, &clean))
        return 0;
    REQUIRE(clean.n && clean.p[0] == '/' && str_find(clean, STR("//")) < 0 && str_find(clean, STR("/../")) < 0 &&
            !str_ends(clean, STR("/..")) && !memchr(clean.p, 0, clean.n));
    struct ingress_backend *b = ingress_rules_find(rules, host, clean);
    if (b && str_eq(b->service, STR("prefix")))
        REQUIRE(str_eq(clean, STR("/p")) || str_starts(clean, STR("/p/")));
    if (b && str_eq(b->service, STR("exact")))
        REQUIRE(str_eq(clean, STR("/p/q")));
    (void)ingress_rules_cert(rules, host);
    return 0;
}
