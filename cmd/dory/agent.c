#include <stdio.h>

#include "commands.h"

int command_agent(int argc, char **argv) {
    (void)argc;
    (void)argv;
    fprintf(stderr, "dory agent: joining a second machine is not part of this version; "
                    "`dory server` runs a cluster of one node\n");
    return 1;
}
