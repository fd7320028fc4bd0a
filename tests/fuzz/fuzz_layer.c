/*
 * Layers unpacked into a directory: nothing may appear beside it. Input: a tar archive. Needs root for what belongs to
 * others; without it most entries fail early, which is harmless.
 */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runtime/layer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char base[64];

static void remove_base(void) {
    dir_remove_all(base, NULL);
}

static int names_in(const char *path) {
    DIR *d = opendir(path);
    int n = 0;
    while (d && readdir(d))
        n++;
    if (d)
        closedir(d);
    return n - 2;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    char dir[96];
    struct error err = {0};
    struct layer_result r;
    if (!base[0]) {
        snprintf(base, sizeof(base), "/dev/shm/dory-fuzz-layer-XXXXXX");
        REQUIRE(mkdtemp(base));
        atexit(remove_base);
    }
    snprintf(dir, sizeof(dir), "%s/layer", base);
    struct layer_options o = {
        .dir = dir, .name = "fuzz", .bytes_max = MiB(1), .entries_max = 1000, .no_openat2 = size % 2};
    struct layer *l = layer_new(&o);
    int rc = layer_push(l, str_n((const char *)data, size), &err);
    if (rc == 0)
        rc = layer_end(l, &r, &err);
    REQUIRE(rc == 0 || err.msg[0]);
    layer_free(l);
    REQUIRE(names_in(base) <= 1);
    REQUIRE(dir_remove_all(dir, &err) == 0);
    return 0;
}
