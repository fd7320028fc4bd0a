/* dory: Kubernetes for the edge in one binary. This file picks the command; each command has a file of its own. */
#include <stdio.h>
#include <string.h>

#include "base/base.h"
#include "commands.h"
#include "runtime/runtime.h"

static const struct command {
    const char *name, *help;
    int (*run)(int argc, char **argv);
} commands[] = {
    {"server", "Run management server", command_server},
    {"agent", "Run node agent", command_agent},
    {"check-config", "Check whether this machine has what Dory needs", command_check_config},
    {"killall", "Stop all pods of this machine and remove their mounts, cgroups and network", command_killall},
};

static void print_help(void) {
    printf("NAME:\n   dory - Kubernetes for the edge, small and simple\n\nUSAGE:\n   dory [global options] command "
           "[command options] [arguments...]\n\nVERSION:\n   " DORY_VERSION "\n\nCOMMANDS:\n");
    for (size_t i = 0; i < ARRAY_LEN(commands); i++)
        printf("   %-14s %s\n", commands[i].name, commands[i].help);
    printf("\nGLOBAL OPTIONS:\n   --help, -h     show help\n   --version, -v  print the version\n");
}

int main(int argc, char **argv) {
    /* The pod monitor is this binary under another name; nothing else may run before it. */
    if (argc > 0 && strcmp(argv[0], "dory-monitor") == 0)
        return monitor_main(argc, argv);
    if (argc < 2 || strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 || strcmp(argv[1], "help") == 0) {
        print_help();
        return argc < 2 ? 1 : 0;
    }
    if (strcmp(argv[1], "--version") == 0 || strcmp(argv[1], "-v") == 0) {
        printf("dory version " DORY_VERSION "\n");
        return 0;
    }
    for (size_t i = 0; i < ARRAY_LEN(commands); i++)
        if (strcmp(argv[1], commands[i].name) == 0)
            return commands[i].run(argc - 1, argv + 1);
    fprintf(stderr, "dory: no command \"%s\" (`dory --help` lists them)\n", argv[1]);
    return 1;
}
