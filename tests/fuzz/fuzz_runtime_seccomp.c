/* Seccomp profiles in JSON: what is compiled is a program the kernel would take: jumps go forward and inside, it ends by returning. */
#include <stdint.h>

#include "runtime/seccomp.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct buf code = {.limit = KiB(64)};
    struct error err = {.msg = ""};
    if (seccomp_compile_json((struct str){(const char *)data, size}, 0xa80425fb, &code, &err) < 0) {
        REQUIRE(err.msg[0]);
    } else {
        const struct sock_filter *f = (const struct sock_filter *)(const void *)code.p;
        size_t n = code.n / sizeof(*f);
        REQUIRE(n > 0 && n <= BPF_MAXINSNS && BPF_CLASS(f[n - 1].code) == BPF_RET);
        for (size_t i = 0; i < n; i++) {
            if (f[i].code == (BPF_JMP | BPF_JA))
                REQUIRE(i + 1 + f[i].k < n);
            else if (BPF_CLASS(f[i].code) == BPF_JMP)
                REQUIRE(i + 1 + f[i].jt < n && i + 1 + f[i].jf < n);
        }
    }
    buf_fini(&code);
    return 0;
}
