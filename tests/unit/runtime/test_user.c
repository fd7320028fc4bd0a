/* Who a process becomes: every form that is right, and every malformed one that must not become somebody. */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/user.h"

static const char passwd[] = "root:x:0:0:root:/root:/bin/sh\n"
                             "daemon:x:1:2:d:/usr/sbin:/bin/false\n"
                             "app:x:1000:1001:App:/home/app:/bin/sh\n"
                             "4000:x:5:6:digits:/d:/bin/sh\n"
                             "# comment:x:0:0\n"
                             "short:x:7\n"
                             "more:x:8:8:a:b:c:d\n"
                             "minus:x:-1:0:::\n"
                             "plus:x:+1:0:::\n"
                             "space:x: 9:0:::\n"
                             "hex:x:0x10:0:::\n"
                             "big:x:2147483648:0:::\n"
                             "wrap:x:4294967296:0:::\n"
                             "empty:x::0:::\n"
                             "relative:x:20:20::home:/bin/sh\n"
                             "last:x:21:22::/last:/bin/sh"; /* no newline */
static const char group[] =
    "root:x:0:\nstaff:x:50:app,daemon\nwheel:x:60:app\nbad:x:99999999999:app\nminus:x:-1:app\nshort:x\nmany:x:70:a:app\n80:x:81:app\n";

#define TEXT(a) ((struct str){a, sizeof(a) - 1})

static int resolve(const char *user, int64_t uid, int64_t gid, bool merge, struct user_ids *out, struct error *err) {
    memset(out, 0xee, sizeof(*out));
    return user_resolve(str_c(user), uid, gid, merge, TEXT(passwd), TEXT(group), out, err);
}

static void test_good(void **state) {
    static const struct {
        const char *user;
        int64_t uid, gid;
        uint32_t want_uid, want_gid;
        const char *home;
    } cases[] = {
        {"", -1, -1, 0, 0, "/root"},
        {"root", -1, -1, 0, 0, "/root"},
        {"0", -1, -1, 0, 0, "/root"},
        {"app", -1, -1, 1000, 1001, "/home/app"},
        {"1000", -1, -1, 1000, 1001, "/home/app"},
        {"app:50", -1, -1, 1000, 50, "/home/app"},
        {"app:staff", -1, -1, 1000, 50, "/home/app"},
        {"123", -1, -1, 123, 0, "/"},
        {"123:456", -1, -1, 123, 456, "/"},
        {"4000", -1, -1, 5, 6, "/d"}, /* a name of digits wins, as in runc */
        {"app", 1, -1, 1, 2, "/usr/sbin"},
        {"app", 77, 88, 77, 88, "/"},
        {"last", -1, -1, 21, 22, "/last"},
        {"relative", -1, -1, 20, 20, "/"},
        {"2147483647", -1, -1, 2147483647, 0, "/"},
        {"app:80", -1, -1, 1000, 81, "/home/app"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct user_ids u;
        struct error err;
        if (resolve(cases[i].user, cases[i].uid, cases[i].gid, false, &u, &err) < 0)
            fail_msg("%s: %s", cases[i].user, err.msg);
        assert_int_equal(u.uid, cases[i].want_uid);
        assert_int_equal(u.gid, cases[i].want_gid);
        assert_string_equal(u.home, cases[i].home);
        assert_int_equal(u.groups_n, 0);
    }
}

static void test_bad(void **state) {
    static const char *const cases[] = {"nobody",
                                        "app:",
                                        ":",
                                        ":50",
                                        ":staff",
                                        "app:nogroup",
                                        "-1",
                                        "-0",
                                        "+1",
                                        " 1",
                                        "1 ",
                                        "0x0",
                                        "1e3",
                                        "2147483648",
                                        "4294967295",
                                        "4294967296",
                                        "18446744073709551616",
                                        "99999999999999999999999",
                                        "app:-1",
                                        "app:2147483648",
                                        "app:4294967296",
                                        "app:50:60",
                                        "app:staff:",
                                        "minus",
                                        "plus",
                                        "space",
                                        "hex",
                                        "big",
                                        "wrap",
                                        "empty",
                                        "short",
                                        "more",
                                        "# comment",
                                        "app:bad",
                                        "app:minus",
                                        "app:short",
                                        "app:many",
                                        "root\n",
                                        "ROOT"};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct user_ids u;
        struct error err = {.msg = ""};
        if (resolve(cases[i], -1, -1, true, &u, &err) != -EINVAL)
            fail_msg("\"%s\" became %u:%u", cases[i], u.uid, u.gid);
        assert_true(strlen(err.msg) > 5);
        assert_int_equal(u.uid, 0xeeeeeeee); /* untouched */
    }
    struct user_ids u;
    struct error err;
    assert_int_equal(resolve("app", 2147483648ll, -1, false, &u, &err), -EINVAL);
    assert_int_equal(resolve("app", -1, 1ll << 32, false, &u, &err), -EINVAL);
    assert_int_equal(user_resolve(((struct str){"ro\0ot", 5}), -1, -1, false, TEXT(passwd), TEXT(group), &u, &err),
                     -EINVAL);
}

static void test_messages(void **state) {
    struct user_ids u;
    struct error err;
    resolve("nobody", -1, -1, false, &u, &err);
    assert_string_equal(err.msg, "unable to find user nobody: no matching entries in passwd file");
    resolve("app:nogroup", -1, -1, false, &u, &err);
    assert_string_equal(err.msg, "unable to find group nogroup: no matching entries in group file");
    resolve("4294967296", -1, -1, false, &u, &err);
    assert_string_equal(err.msg, "uids and gids must be in range 0-2147483647");
}

static void test_groups(void **state) {
    struct user_ids u;
    struct error err;
    assert_int_equal(resolve("app", -1, -1, true, &u, &err), 0);
    assert_int_equal(u.groups_n, 3);
    assert_int_equal(u.groups[0], 50);
    assert_int_equal(u.groups[1], 60);
    assert_int_equal(u.groups[2], 81);
    assert_int_equal(resolve("1000", -1, -1, true, &u, &err), 0); /* by its number: the same account */
    assert_int_equal(u.groups_n, 3);
    assert_int_equal(resolve("4242", -1, -1, true, &u, &err), 0); /* no account, no groups */
    assert_int_equal(u.groups_n, 0);
    /* more groups than there is room for */
    struct buf many = {.limit = MiB(1)};
    for (int i = 0; i < 1000; i++)
        buf_printf(&many, "g%d:x:%d:app\n", i, i);
    assert_int_equal(user_resolve(str_c("app"), -1, -1, true, TEXT(passwd), buf_str(&many), &u, &err), 0);
    assert_int_equal(u.groups_n, USER_GROUPS_MAX);
    buf_fini(&many);
}

static void test_empty_files(void **state) {
    struct user_ids u;
    struct error err;
    assert_int_equal(user_resolve(STR(""), -1, -1, true, STR(""), STR(""), &u, &err), 0);
    assert_int_equal(u.uid, 0);
    assert_string_equal(u.home, "/");
    assert_int_equal(user_resolve(STR("root"), -1, -1, true, STR(""), STR(""), &u, &err), -EINVAL);
    assert_int_equal(user_resolve(STR("7:8"), -1, -1, true, STR("\n\n::::::\n"), STR(":::\n"), &u, &err), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_good), cmocka_unit_test(test_bad),
                                       cmocka_unit_test(test_messages), cmocka_unit_test(test_groups),
                                       cmocka_unit_test(test_empty_files)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
