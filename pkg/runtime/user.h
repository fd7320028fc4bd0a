/* Who a container's process is: image-style user strings resolved in the text of the image's passwd and group. One strict
 * parser for all of it: an id is decimal digits up to 2^31-1, a line that is malformed does not exist. Pure. */
#pragma once

#include "base/base.h"

#define USER_GROUPS_MAX 64
#define USER_ID_MAX 2147483647
#define USER_FILE_MAX MiB(1)

struct user_ids {
    uint32_t uid, gid;
    uint32_t groups[USER_GROUPS_MAX]; /* supplementary */
    size_t groups_n;
    char home[256]; /* "/" when passwd does not say */
};

/*
 * user: "", "uid", "name", either with ":gid" or ":group". uid, gid: when >= 0 they override. merge_groups: add the groups
 * that list the user as a member. -EINVAL names what is wrong, in the words of runc.
 */
int user_resolve(struct str user, int64_t uid, int64_t gid, bool merge_groups, struct str passwd, struct str group,
                 struct user_ids *out, struct error *err);
