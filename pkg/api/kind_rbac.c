/*
 * Nobody gives away what he does not have: a Role may hold only rules that its writer is granted himself (or the verb
 * "escalate" on it), a binding only refer to a role all of whose rules he is granted (or the verb "bind").
 * Source: Kubernetes' privilege escalation prevention for RBAC.
 */
#include "api/kinds.h"

#define ATOMS_MAX 100000 /* single permissions looked at for one write */

struct cover {
    struct api_write *w;
    struct str ns;
    size_t atoms;
    struct str missing; /* the first permission that is not held, in words */
};

static struct str item_at(const struct json *list, size_t i) {
    return json_as_str(json_item(list, i));
}

static bool holds(struct cover *c, struct authz_ask *ask) {
    ask->user = c->w->user;
    if (++c->atoms > ATOMS_MAX) {
        c->missing = STR("too many rules to look at");
        return false;
    }
    return authz_allowed(c->w->api, ask, c->w->arena, NULL);
}

static bool holds_url(struct cover *c, struct str verb, struct str path) {
    struct authz_ask ask = {.verb = verb, .path = path};
    if (holds(c, &ask))
        return true;
    if (!c->missing.n)
        c->missing =
            str_printf(c->w->arena, "{NonResourceURLs:[\"%.*s\"], Verbs:[\"%.*s\"]}", STR_ARG(path), STR_ARG(verb));
    return false;
}

static bool holds_resource(struct cover *c, struct str verb, struct str group, struct str resource, struct str name) {
    struct authz_ask ask = {.resource = true,
                            .verb = verb,
                            .group = group,
                            .version = STR("*"),
                            .plural = resource,
                            .subresource = STR(""),
                            .ns = c->ns,
                            .name = name};
    str_cut(resource, '/', &ask.plural, &ask.subresource);
    if (holds(c, &ask))
        return true;
    if (!c->missing.n)
        c->missing = str_printf(c->w->arena, "{APIGroups:[\"%.*s\"], Resources:[\"%.*s\"], Verbs:[\"%.*s\"]}",
                                STR_ARG(group), STR_ARG(resource), STR_ARG(verb));
    return false;
}

static bool holds_resources(struct cover *c, const struct json *rule, struct str verb) {
    const struct json *groups = json_get_c(rule, "apiGroups"), *resources = json_get_c(rule, "resources");
    const struct json *names = json_get_c(rule, "resourceNames");
    size_t names_n = MAX(json_len(names), (size_t)1);
    for (size_t g = 0; g < json_len(groups); g++)
        for (size_t r = 0; r < json_len(resources); r++)
            for (size_t n = 0; n < names_n; n++)
                if (!holds_resource(c, verb, item_at(groups, g), item_at(resources, r), item_at(names, n)))
                    return false;
    return true;
}

static bool holds_rules(struct cover *c, const struct json *rules) {
    for (size_t i = 0; i < json_len(rules); i++) {
        const struct json *rule = json_item(rules, i), *verbs = json_get_c(rule, "verbs");
        const struct json *urls = json_get_c(rule, "nonResourceURLs");
        for (size_t v = 0; v < json_len(verbs); v++) {
            for (size_t u = 0; u < json_len(urls); u++)
                if (!holds_url(c, item_at(verbs, v), item_at(urls, u)))
                    return false;
            if (!holds_resources(c, rule, item_at(verbs, v)))
                return false;
        }
    }
    return true;
}

/* Whether the user was given the right to step over the rule, by name. */
static bool exempt(struct api_write *w, const char *verb, const char *plural, struct str ns, struct str name) {
    struct authz_ask ask = {.user = w->user,
                            .resource = true,
                            .verb = str_c(verb),
                            .group = STR("rbac.authorization.k8s.io"),
                            .version = STR("v1"),
                            .plural = str_c(plural),
                            .subresource = STR(""),
                            .ns = ns,
                            .name = name};
    return authz_allowed(w->api, &ask, w->arena, NULL);
}

static int refuse(struct api_write *w, const struct cover *c) {
    struct buf b = BUF_INIT;
    for (size_t i = 0; i < w->user->groups_n && i < 32; i++)
        buf_printf(&b, "%s\"%.*s\"", i ? " " : "", STR_ARG(w->user->groups[i]));
    int rc = status_forbidden(w->status, w->arena, w->r, w->name,
                              "user \"%.*s\" (groups=[%.*s]) is attempting to grant RBAC permissions not currently "
                              "held:\n%.*s",
                              STR_ARG(w->user->name), STR_ARG(buf_str(&b)), STR_ARG(c->missing));
    buf_fini(&b);
    return rc;
}

static int check_rules(struct api_write *w, const struct json *rules) {
    struct cover c = {.w = w, .ns = w->ns, .missing = STR("")};
    return holds_rules(&c, rules) ? 0 : refuse(w, &c);
}

int role_admit(struct api_write *w) {
    const struct json *rules = json_get_c(w->obj, "rules");
    if (user_in_group(w->user, "system:masters") || (w->old && json_equal(rules, json_get_c(w->old, "rules"))))
        return 0;
    bool cluster = w->r == w->api->clusterroles;
    if (exempt(w, "escalate", cluster ? "clusterroles" : "roles", w->ns, w->name))
        return 0;
    /* Which rules an aggregated role will have is not known when it is written. */
    if (json_is(json_get_c(w->obj, "aggregationRule"), JSON_OBJECT))
        return status_forbidden(w->status, w->arena, w->r, w->name,
                                "must have cluster-admin privileges to use the aggregationRule");
    return check_rules(w, rules);
}

int role_binding_admit(struct api_write *w) {
    const struct json *ref = json_get_c(w->obj, "roleRef"), *subjects = json_get_c(w->obj, "subjects");
    if (user_in_group(w->user, "system:masters") || (w->old && json_equal(ref, json_get_c(w->old, "roleRef")) &&
                                                     json_equal(subjects, json_get_c(w->old, "subjects"))))
        return 0;
    struct str name = json_str_at(ref, "name");
    bool cluster = str_eq_c(json_str_at(ref, "kind"), "ClusterRole");
    if (exempt(w, "bind", cluster ? "clusterroles" : "roles", w->ns, name))
        return 0;
    struct object *role =
        api_get(w->api, cluster ? w->api->clusterroles : w->api->roles, cluster ? STR("") : w->ns, name);
    if (!role)
        return status_not_found(w->status, w->arena, cluster ? w->api->clusterroles : w->api->roles, name);
    int rc = check_rules(w, json_get_c(object_json(role), "rules"));
    object_unref(role);
    return rc;
}
