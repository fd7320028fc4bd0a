/* The commands of the binary: argv[0] is the command's own name. Each returns the exit code of the process. */
#pragma once

#define DORY_VERSION "v1.36.0+dory1"

int command_server(int argc, char **argv);
int command_agent(int argc, char **argv);
int command_check_config(int argc, char **argv);
int command_killall(int argc, char **argv);
