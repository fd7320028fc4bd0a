/* Paths inside a root directory that nothing else changes meanwhile. Private to layer*.c. */
#pragma once

#include "base/base.h"

/*
 * A relative path cleaned of "", "." and leading or trailing slashes: "./usr//bin/" -> "usr/bin"; the root is "".
 * -EINVAL for "..", for parts longer than 255 bytes and for more than LAYER_DEPTH_MAX of them.
 */
int layer_path_clean(struct buf *out, struct str path, const char **why);

/*
 * An O_PATH descriptor of the directory at path, symbolic links resolved inside root. Directories that lack are made
 * (0755) and told to made(arg, path); with made NULL they are -ENOENT. -ENOTDIR when something else stands in the way.
 */
int layer_path_open_dir(int root, const char *path, bool no_openat2, void (*made)(void *arg, const char *path),
                        void *arg);
