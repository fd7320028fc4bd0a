#include "runtime/user.h"

#include <errno.h>
#include <string.h>

static bool parse_id(struct str s, uint32_t *out) {
    uint64_t v = 0;
    if (s.n == 0 || s.n > 10)
        return false;
    for (size_t i = 0; i < s.n; i++) {
        if (s.p[i] < '0' || s.p[i] > '9')
            return false;
        v = v * 10 + (uint64_t)(s.p[i] - '0');
    }
    if (v > USER_ID_MAX)
        return false;
    *out = (uint32_t)v;
    return true;
}

/* Digits only, yet out of range: neither an id nor to be looked up as a name. */
static bool is_digits(struct str s) {
    for (size_t i = 0; i < s.n; i++)
        if (s.p[i] < '0' || s.p[i] > '9')
            return false;
    return s.n > 0;
}

struct passwd_entry {
    struct str name, home;
    uint32_t uid, gid;
};

static bool parse_passwd(struct str line, struct passwd_entry *e) {
    struct str f[7];
    for (size_t i = 0; i < 7; i++) {
        if (!line.p)
            return false;
        f[i] = str_split(&line, ':');
    }
    if (line.p || f[0].n == 0 || !parse_id(f[2], &e->uid) || !parse_id(f[3], &e->gid))
        return false;
    e->name = f[0];
    e->home = f[5];
    return true;
}

struct group_entry {
    struct str name, members;
    uint32_t gid;
};

static bool parse_group(struct str line, struct group_entry *e) {
    struct str name = str_split(&line, ':');
    if (!line.p || name.n == 0)
        return false;
    str_split(&line, ':');
    if (!line.p)
        return false;
    struct str id = str_split(&line, ':');
    if (!line.p || str_index(line, ':', 0) >= 0 || !parse_id(id, &e->gid))
        return false;
    e->name = name;
    e->members = line;
    return true;
}

/* By name, else by number: a name that consists of digits wins over the number, as in runc. */
static bool find_passwd(struct str passwd, struct str name, bool by_id, uint32_t id, struct passwd_entry *out) {
    bool found = false;
    while (passwd.p) {
        struct passwd_entry e;
        if (!parse_passwd(str_split(&passwd, '\n'), &e))
            continue;
        if (name.n && str_eq(e.name, name)) {
            *out = e;
            return true;
        }
        if (by_id && !found && e.uid == id) {
            *out = e;
            found = true;
        }
    }
    return found;
}

static bool find_group(struct str group, struct str name, uint32_t *gid) {
    while (group.p) {
        struct group_entry e;
        if (parse_group(str_split(&group, '\n'), &e) && str_eq(e.name, name)) {
            *gid = e.gid;
            return true;
        }
    }
    return false;
}

static bool is_member(struct str members, struct str name) {
    while (members.p)
        if (str_eq(str_split(&members, ','), name))
            return true;
    return false;
}

static void add_group(struct user_ids *u, uint32_t gid) {
    for (size_t i = 0; i < u->groups_n; i++)
        if (u->groups[i] == gid)
            return;
    if (u->groups_n < USER_GROUPS_MAX)
        u->groups[u->groups_n++] = gid;
}

static int bad_range(struct error *err) {
    return error_set(err, -EINVAL, "uids and gids must be in range 0-%d", USER_ID_MAX);
}

static int resolve_user(struct str name, int64_t uid, struct str passwd, struct user_ids *u, struct str *login,
                        struct error *err) {
    bool by_id = uid >= 0;
    uint32_t id = 0;
    if (by_id) {
        if (uid > USER_ID_MAX)
            return bad_range(err);
        id = (uint32_t)uid;
        name = STR_NULL;
    } else if (name.n == 0) {
        by_id = true;
    } else if (is_digits(name)) {
        by_id = true;
        if (!parse_id(name, &id))
            return bad_range(err);
    }
    struct passwd_entry e = {.uid = 0};
    bool found = find_passwd(passwd, name, by_id, id, &e);
    if (!found && !by_id)
        return error_set(err, -EINVAL, "unable to find user %.*s: no matching entries in passwd file", STR_ARG(name));
    u->uid = found ? e.uid : id;
    u->gid = found ? e.gid : 0;
    *login = found ? e.name : (struct str){"", 0};
    struct str home = found ? e.home : (struct str){"", 0};
    if (home.n == 0 || home.n >= sizeof(u->home) || home.p[0] != '/')
        home = STR("/");
    memcpy(u->home, home.p, home.n);
    u->home[home.n] = 0;
    return 0;
}

int user_resolve(struct str user, int64_t uid, int64_t gid, bool merge_groups, struct str passwd, struct str group,
                 struct user_ids *out, struct error *err) {
    struct user_ids u = {.groups_n = 0};
    struct str name = user, group_name = {"", 0}, login = {"", 0};
    bool has_group = str_cut(user, ':', &name, &group_name);
    if (has_group && (group_name.n == 0 || str_index(group_name, ':', 0) >= 0))
        return error_set(err, -EINVAL, "user \"%.*s\" is malformed", STR_ARG(user));
    if (user.n && name.n == 0)
        return error_set(err, -EINVAL, "user \"%.*s\" is malformed", STR_ARG(user));
    if (user.n && memchr(user.p, 0, user.n))
        return error_set(err, -EINVAL, "user has a NUL byte");
    int rc = resolve_user(name, uid, passwd, &u, &login, err);
    if (rc < 0)
        return rc;
    if (gid > USER_ID_MAX)
        return bad_range(err);
    if (gid >= 0) {
        u.gid = (uint32_t)gid;
    } else if (has_group && uid < 0) {
        if (!find_group(group, group_name, &u.gid) && !parse_id(group_name, &u.gid)) {
            if (is_digits(group_name))
                return bad_range(err);
            return error_set(err, -EINVAL, "unable to find group %.*s: no matching entries in group file",
                             STR_ARG(group_name));
        }
    }
    while (merge_groups && login.n && group.p) {
        struct group_entry e;
        if (parse_group(str_split(&group, '\n'), &e) && is_member(e.members, login))
            add_group(&u, e.gid);
    }
    *out = u;
    return 0;
}
