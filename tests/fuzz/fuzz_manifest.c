/* Manifests, indexes, configurations and the answers of token servers. */
#include <stdint.h>
#include <stdlib.h>

#include "runtime/image_manifest.h"
#include "runtime/registry_auth.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void manifest(struct arena *a, struct str body) {
    static const struct image_platform platforms[] = {{STR_INIT("linux"), STR_INIT("amd64"), STR_INIT("")},
                                                      {STR_INIT("linux"), STR_INIT("arm"), STR_INIT("v7")}};
    struct error err = {0};
    struct image_manifest m;
    struct image_descriptor d;
    if (image_manifest_parse(a, body, STR(""), &m, &err)) {
        REQUIRE(err.msg[0]);
        return;
    }
    for (size_t i = 0; i < m.layers_n; i++)
        REQUIRE(image_digest_valid(m.layers[i].digest));
    if (m.kind == IMAGE_DOCUMENT_MANIFEST)
        REQUIRE(image_digest_valid(m.config.digest) && m.layers_n <= IMAGE_LAYERS_MAX);
    else
        for (size_t i = 0; i < ARRAY_LEN(platforms); i++)
            if (image_index_choose(a, m.doc, &platforms[i], &d, &err) == 0)
                REQUIRE(image_digest_valid(d.digest));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    cleanup_arena struct arena *a = arena_new(0, 0);
    struct str body = str_n((const char *)data, size), token;
    struct image_config c;
    struct registry_challenge ch = {0};
    int64_t seconds;
    manifest(a, body);
    if (image_config_parse(a, body, &c, NULL) == 0)
        for (size_t i = 0; i < c.diff_ids_n; i++)
            REQUIRE(image_digest_valid(c.diff_ids[i]));
    if (registry_token_parse(a, body, &token, &seconds, NULL) == 0)
        REQUIRE(token.n && !memchr(token.p, '\n', token.n) && seconds > 0);
    registry_error_text(a, body);
    registry_challenge_parse(a, body, &ch);
    if (ch.scheme == REGISTRY_AUTH_BEARER)
        registry_token_url(a, &ch, STR("repository:x:pull"));
    return 0;
}
