/* Specifications of containers, sandboxes and users, as a monitor reads them: nothing is read beyond the end, and what is accepted
 * is encoded to something that is accepted again. */
#include <stdint.h>
#include <stdlib.h>

#include "runtime/spec.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static size_t total(const struct strv *v) {
    size_t n = 0;
    for (size_t i = 0; i < v->n; i++)
        n += strlen(v->v[i]) + 1;
    REQUIRE(v->v[v->n] == NULL);
    return n;
}

static void check_container(struct str text, bool again) {
    char *room = xmalloc(SPEC_MEMORY(text.n));
    struct spec_memory mem = {room, SPEC_MEMORY(text.n)};
    struct container_spec s;
    if (spec_decode_container(text, &mem, &s) == 0) {
        size_t n = total(&s.argv) + total(&s.envp) + total(&s.layers);
        for (size_t i = 0; i < s.mounts.n; i++)
            n += strlen(s.mounts.v[i].source) + strlen(s.mounts.v[i].destination);
        REQUIRE(n <= text.n && s.id.p[s.id.n] == 0 && s.cwd.p[s.cwd.n] == 0);
        if (again) {
            struct buf out = {.limit = SPEC_BYTES_MAX};
            spec_encode_container(&out, &s);
            check_container(buf_str(&out), false);
            buf_fini(&out);
        }
    } else {
        REQUIRE(again);
    }
    free(room);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    char *copy = xmalloc(size); /* aligned, and ending where it ends */
    if (size)
        memcpy(copy, data, size);
    struct str text = {copy, size};
    char *room = xmalloc(SPEC_MEMORY(size));
    struct spec_memory mem = {room, SPEC_MEMORY(size)};
    struct sandbox_spec sandbox;
    struct user_spec user;
    check_container(text, true);
    if (spec_decode_sandbox(text, &mem, &sandbox) == 0)
        total(&sandbox.sysctls);
    mem = (struct spec_memory){room, SPEC_MEMORY(size)};
    if (spec_decode_user(text, &mem, &user) == 0)
        REQUIRE(user.home.p[user.home.n] == 0);
    free(room);
    free(copy);
    return 0;
}
