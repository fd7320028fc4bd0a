/*
 * image_pull ROOT REGISTRIES.YAML NAME...   pulls images into a store, prints the time each took and its layers
 * image_pull ROOT - --import FILE...        imports archives
 */
#include <stdio.h>
#include <stdlib.h>

#include "net/net.h"
#include "runtime/image.h"

static struct loop *loop;
static struct image_store *store;
static char **names;
static bool import;
static int64_t started_ns;
static int failures;

static void next(void);

static void on_pulled(void *arg, struct image *img, int code, const struct error *err) {
    double s = (double)(time_mono_ns() - started_ns) / 1e9;
    if (!img) {
        fprintf(stderr, "%s\n", err->msg);
        failures++;
    } else {
        printf("%s %.3f s %llu bytes\n", img->id.p, s, (unsigned long long)img->size_bytes);
        for (const char *const *l = img->layers; *l; l++)
            printf("  %s\n", *l);
        image_unref(img);
    }
    next();
}

static void on_imported(void *arg, int images, const struct error *err) {
    double s = (double)(time_mono_ns() - started_ns) / 1e9;
    if (images < 0) {
        fprintf(stderr, "%s\n", err->msg);
        failures++;
    } else {
        printf("%d images %.3f s\n", images, s);
    }
    next();
}

static void next(void) {
    if (!*names) {
        image_store_close(store);
        loop_stop(loop);
        return;
    }
    const char *name = *names++;
    struct image_pull_events ev = {.on_done = on_pulled};
    started_ns = time_mono_ns();
    if (import)
        image_import(store, name, on_imported, NULL);
    else
        image_pull(store, str_c(name), NULL, 0, &ev);
}

static void begin(void *arg) {
    next();
}

int main(int argc, char **argv) {
    struct error err;
    cleanup_buf struct buf yaml = BUF_INIT;
    if (argc < 4) {
        fputs("usage: image_pull ROOT REGISTRIES.YAML|- [--import] NAME...\n", stderr);
        return 2;
    }
    pki_init();
    names = argv + 3;
    import = strcmp(argv[3], "--import") == 0;
    names += import;
    if (strcmp(argv[2], "-") != 0 && file_read(argv[2], &yaml, &err))
        fatal("%s", err.msg);
    struct image_registries *r = image_registries_parse(buf_str(&yaml), &err);
    if (!r)
        fatal("%s", err.msg);
    loop = loop_new("images");
    struct image_store_options o = {
        .root = argv[1], .loop = loop, .registries = r, .platform_os = "linux", .platform_arch = "amd64"};
    if (image_store_open(&o, &store, &err))
        fatal("%s", err.msg);
    loop_post(loop, begin, NULL);
    loop_run(loop);
    loop_free(loop);
    image_registries_free(r);
    return failures != 0;
}
