#include <stdio.h>
#include <string.h>

#include "commands.h"
#include "runtime/runtime.h"

#define CHECKS_MAX 64

int command_check_config(int argc, char **argv) {
    if (argc > 1) {
        bool help = strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0;
        fprintf(help ? stdout : stderr, "usage: dory check-config\nExit code: 0 all there, 1 something is missing.\n");
        return help ? 0 : 1;
    }
    static const char *const words[] = {"ok", "warning", "MISSING"};
    struct preflight_check checks[CHECKS_MAX];
    size_t n = preflight_run(checks, ARRAY_LEN(checks));
    int failed = 0, warned = 0;
    for (size_t i = 0; i < n; i++) {
        const struct preflight_check *c = &checks[i];
        printf("%-24s %-8s %s\n", c->name, words[c->result], c->detail);
        if (c->result != PREFLIGHT_OK && c->remedy[0])
            printf("%-24s          -> %s\n", "", c->remedy);
        failed += c->result == PREFLIGHT_FAIL;
        warned += c->result == PREFLIGHT_WARN;
    }
    printf("\n%zu checks, %d missing, %d warnings\n", n, failed, warned);
    return failed ? 1 : 0;
}
