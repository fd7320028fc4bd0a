#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "net/pki.h"

static void hex_of(const unsigned char sum[32], char out[65]) {
    for (int i = 0; i < 32; i++)
        snprintf(out + 2 * i, 3, "%02x", sum[i]);
}

static void streamed_known_answers(void **state) {
    static const struct {
        const char *text, *hex;
    } cases[] = {{"", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
                 {"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
                 {"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
                  "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"}};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        unsigned char sum[32];
        char hex[65];
        struct sha256_state *s = sha256_new();
        sha256_update(s, cases[i].text, strlen(cases[i].text));
        sha256_finish(s, sum);
        hex_of(sum, hex);
        assert_string_equal(hex, cases[i].hex);
    }
}

/* Every length around the block size, in pieces of every size: the same as in one go (by other code). */
static void streamed_is_the_same_as_at_once(void **state) {
    static unsigned char data[100000];
    for (size_t i = 0; i < sizeof(data); i++)
        data[i] = (unsigned char)(i * 7 + i / 251);
    for (size_t n = 0; n < 300; n++) {
        for (size_t step = 1; step < 140; step += 3) {
            unsigned char a[32], b[32];
            struct sha256_state *s = sha256_new();
            for (size_t at = 0; at < n; at += step)
                sha256_update(s, data + at, MIN(step, n - at));
            sha256_finish(s, a);
            sha256(data, n, b);
            assert_memory_equal(a, b, 32);
        }
    }
    unsigned char a[32], b[32];
    struct sha256_state *s = sha256_new();
    sha256_update(s, data, sizeof(data));
    sha256_finish(s, a);
    sha256(data, sizeof(data), b);
    assert_memory_equal(a, b, 32);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(streamed_known_answers),
        cmocka_unit_test(streamed_is_the_same_as_at_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
