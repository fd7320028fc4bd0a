/* URLs, queries and Accept headers: whatever comes, the parts point into it or are refused. */
#include <stdint.h>

#include "api/api_priv.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const char *const methods[] = {"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"};
    struct str text = str_n((const char *)data, size), path = text, query = STR("");
    struct api_target t;
    struct api_accept accept;
    struct api_param *params;
    size_t n;
    if (size == 0 || size > KiB(64))
        return 0;
    cleanup_arena struct arena *a = arena_new(0, 0);
    str_cut(text, '?', &path, &query);
    if (api_path_parse(a, str_c(methods[data[0] % ARRAY_LEN(methods)]), path, data[0] & 1, &t))
        REQUIRE(t.resource && t.plural.n && t.version.n && t.verb.n);
    if (api_query_parse(a, query, &params, &n))
        for (size_t i = 0; i < n; i++)
            REQUIRE(params[i].key.p && params[i].value.p);
    (void)accept_parse(text, &accept);
    return 0;
}
