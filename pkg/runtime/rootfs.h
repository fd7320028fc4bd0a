/* Shared by the files that make a container's file system (rootfs*.c). */
#pragma once

#include "runtime/init.h"

#define ROOTFS_PROC 0x9fa0
#define ROOTFS_SYSFS 0x62656572
#define ROOTFS_DEVPTS 0x1cd1

bool rootfs_is_type(int fd, long magic);
/* A new file system, not mounted anywhere yet; up to two options, NULL ends them. The mount's fd, or -1 and errno. */
int rootfs_new_mount(const char *type, const char *key1, const char *value1, const char *key2, const char *value2,
                     unsigned attr);
