/*
 * May they? In this order: the group system:masters may do everything, nodes what the node authorizer knows they need,
 * all others what RBAC grants. Nothing said means no.
 */
#include "api/api_priv.h"

static const struct str system_groups[] = {STR_INIT("system:masters"), STR_INIT("system:authenticated")};
const struct api_user api_user_system = {STR_INIT("system:apiserver"), STR_INIT(""), system_groups,
                                         ARRAY_LEN(system_groups)};

bool user_in_group(const struct api_user *u, const char *group) {
    for (size_t i = 0; i < u->groups_n; i++)
        if (str_eq_c(u->groups[i], group))
            return true;
    return false;
}

bool authz_allowed(struct api *api, const struct authz_ask *ask, struct arena *a, struct str *reason) {
    static const struct str node_prefix = STR_INIT("system:node:");
    if (reason)
        *reason = STR("");
    if (user_in_group(ask->user, "system:masters"))
        return true;
    if (user_in_group(ask->user, "system:nodes") && str_starts(ask->user->name, node_prefix) &&
        node_authz_allowed(api, ask, str_skip(ask->user->name, node_prefix.n)))
        return true;
    return rbac_allowed(api->rbac, ask, a, reason);
}

int authz_deny(struct api_status *st, struct arena *a, const struct authz_ask *ask) {
    struct str user = ask->user->name;
    if (!ask->resource)
        return status_set(st, a, 403, "Forbidden", "forbidden: User \"%.*s\" cannot %.*s path \"%.*s\"", STR_ARG(user),
                          STR_ARG(ask->verb), STR_ARG(ask->path));
    struct str full =
        ask->subresource.n ? str_printf(a, "%.*s/%.*s", STR_ARG(ask->plural), STR_ARG(ask->subresource)) : ask->plural;
    struct str where = ask->ns.n && !str_eq_c(ask->plural, "namespaces")
                           ? str_printf(a, "in the namespace \"%.*s\"", STR_ARG(ask->ns))
                           : STR("at the cluster scope");
    if (ask->ns.n && str_eq_c(ask->plural, "namespaces"))
        where = str_printf(a, "in the namespace \"%.*s\"", STR_ARG(ask->ns));
    struct schema_resource r = {.group = ask->group, .plural = ask->plural};
    return status_forbidden(st, a, &r, ask->name,
                            "User \"%.*s\" cannot %.*s resource \"%.*s\" in API group \"%.*s\" %.*s", STR_ARG(user),
                            STR_ARG(ask->verb), STR_ARG(full), STR_ARG(ask->group), STR_ARG(where));
}
