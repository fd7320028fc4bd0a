/* Users: the first line is the user, then comes passwd, then after an empty line group. Whatever they say, ids are in range. */
#include <stdint.h>

#include "runtime/user.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct str text = {(const char *)data, size}, user = text, passwd = {"", 0}, group = {"", 0};
    if (str_cut(text, '\n', &user, &passwd)) {
        ptrdiff_t at = str_find(passwd, STR("\n\n"));
        if (at >= 0) {
            group = str_skip(passwd, (size_t)at + 2);
            passwd.n = (size_t)at;
        }
    }
    struct user_ids u;
    struct error err = {.msg = ""};
    if (user_resolve(user, -1, -1, true, passwd, group, &u, &err) == 0) {
        REQUIRE(u.uid <= USER_ID_MAX && u.gid <= USER_ID_MAX && u.groups_n <= USER_GROUPS_MAX && u.home[0] == '/');
        for (size_t i = 0; i < u.groups_n; i++)
            REQUIRE(u.groups[i] <= USER_ID_MAX);
    } else {
        REQUIRE(err.msg[0]);
    }
    return 0;
}
