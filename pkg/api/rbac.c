/*
 * Role-based access control: Roles and ClusterRoles, bound to subjects. The bindings are kept by subject, made anew
 * when one of the four kinds has changed. Additive only: no rule denies. Source: Kubernetes' RBAC authorization.
 */
#include "api/api_priv.h"

struct grant { /* one binding, resolved */
    struct object *binding, *role;
    const struct json *rules;
    struct str ns;   /* "": everywhere */
    struct str text; /* for the reason of an answer */
};

struct grant_list {
    VEC(uint32_t) at; /* into rbac.grants */
};

struct rbac {
    struct api *api;
    bool stale;
    struct arena *arena;
    VEC(struct grant) grants;
    struct map subjects; /* "U:name", "G:name" -> struct grant_list */
};

static void rbac_changed(void *arg, const struct event *e) {
    struct rbac *r = arg;
    r->stale = true;
}

static void rbac_clear(struct rbac *r) {
    struct map_entry *e;
    for (size_t i = 0; (e = map_next(&r->subjects, &i));) {
        struct grant_list *l = e->value;
        vec_fini(&l->at);
        free(l);
    }
    map_fini(&r->subjects);
    r->subjects = (struct map){0};
    for (size_t i = 0; i < r->grants.n; i++) {
        object_unref(r->grants.items[i].binding);
        object_unref(r->grants.items[i].role);
    }
    vec_fini(&r->grants);
    arena_free(r->arena);
    r->arena = NULL;
}

struct rbac *rbac_new(struct api *api) {
    struct rbac *r = XNEW(struct rbac);
    const struct schema_resource *kinds[] = {api->roles, api->clusterroles, api->rolebindings,
                                             api->clusterrolebindings};
    r->api = api;
    r->stale = true;
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++)
        if (kinds[i])
            store_hook_add(api->store, api_resource(api, kinds[i])->kind, rbac_changed, r);
    return r;
}

void rbac_free(struct rbac *r) {
    if (!r)
        return;
    rbac_clear(r);
    free(r);
}

static void add_subject(struct rbac *r, struct str key, uint32_t grant) {
    struct grant_list *l = map_get(&r->subjects, key);
    if (!l) {
        l = XNEW(struct grant_list);
        map_set(&r->subjects, key, l);
    }
    vec_push(&l->at, grant);
}

static struct str subject_key(struct arena *a, const struct json *subject, struct str binding_ns) {
    struct str kind = json_str_at(subject, "kind"), name = json_str_at(subject, "name");
    if (str_eq_c(kind, "User"))
        return str_printf(a, "U:%.*s", STR_ARG(name));
    if (str_eq_c(kind, "Group"))
        return str_printf(a, "G:%.*s", STR_ARG(name));
    if (!str_eq_c(kind, "ServiceAccount"))
        return STR_NULL;
    struct str ns = json_str_at(subject, "namespace");
    if (ns.n == 0)
        ns = binding_ns;
    return str_printf(a, "U:system:serviceaccount:%.*s:%.*s", STR_ARG(ns), STR_ARG(name));
}

static bool add_binding(void *arg, struct object *o) {
    struct rbac *r = arg;
    const struct json *b = object_json(o);
    struct str kind = json_str_at(b, "roleRef.kind"), name = json_str_at(b, "roleRef.name");
    bool cluster_role = str_eq_c(kind, "ClusterRole");
    if (!cluster_role && o->ns.n == 0)
        return true;
    struct object *role =
        api_get(r->api, cluster_role ? r->api->clusterroles : r->api->roles, cluster_role ? STR("") : o->ns, name);
    if (!role)
        return true;
    struct grant g = {.binding = object_ref(o), .role = role, .ns = o->ns};
    g.rules = json_get_c(object_json(role), "rules");
    g.text = str_printf(r->arena, "RBAC: allowed by %s \"%.*s%s%.*s\" of %.*s \"%.*s\"",
                        o->ns.n ? "RoleBinding" : "ClusterRoleBinding", STR_ARG(o->name), o->ns.n ? "/" : "",
                        STR_ARG(o->ns), STR_ARG(kind), STR_ARG(name));
    vec_push(&r->grants, g);
    const struct json *subjects = json_get_c(b, "subjects");
    for (size_t i = 0; i < json_len(subjects); i++) {
        struct str key = subject_key(r->arena, json_item(subjects, i), o->ns);
        if (key.p)
            add_subject(r, key, (uint32_t)(r->grants.n - 1));
    }
    return true;
}

static void rbac_refresh(struct rbac *r) {
    if (!r->stale)
        return;
    rbac_clear(r);
    r->arena = arena_new(0, 0);
    const struct schema_resource *kinds[] = {r->api->clusterrolebindings, r->api->rolebindings};
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++)
        if (kinds[i])
            store_each(r->api->store, api_resource(r->api, kinds[i])->kind, STR_NULL, STR_NULL, STR_NULL, add_binding,
                       r);
    r->stale = false;
}

static bool list_has(const struct json *list, struct str s, bool star) {
    for (size_t i = 0; i < json_len(list); i++) {
        struct str item = json_as_str(json_item(list, i));
        if (str_eq(item, s) || (star && str_eq_c(item, "*")))
            return true;
    }
    return false;
}

static bool resource_in(const struct json *list, const struct authz_ask *q) {
    for (size_t i = 0; i < json_len(list); i++) {
        struct str item = json_as_str(json_item(list, i)), res, sub;
        if (str_eq_c(item, "*"))
            return true;
        if (!str_cut(item, '/', &res, &sub)) {
            if (q->subresource.n == 0 && str_eq(item, q->plural))
                return true;
        } else if (q->subresource.n && str_eq(sub, q->subresource) && (str_eq_c(res, "*") || str_eq(res, q->plural))) {
            return true;
        }
    }
    return false;
}

static bool path_in(const struct json *list, struct str path) {
    for (size_t i = 0; i < json_len(list); i++) {
        struct str item = json_as_str(json_item(list, i));
        if (str_eq_c(item, "*") || str_eq(item, path))
            return true;
        if (str_ends(item, STR("*")) && str_starts(path, str_n(item.p, item.n - 1)))
            return true;
    }
    return false;
}

static bool rule_allows(const struct json *rule, const struct authz_ask *q) {
    if (!list_has(json_get_c(rule, "verbs"), q->verb, true))
        return false;
    if (!q->resource)
        return path_in(json_get_c(rule, "nonResourceURLs"), q->path);
    const struct json *names = json_get_c(rule, "resourceNames");
    return list_has(json_get_c(rule, "apiGroups"), q->group, true) && resource_in(json_get_c(rule, "resources"), q) &&
           (json_len(names) == 0 || (q->name.n && list_has(names, q->name, false)));
}

/* Calls each for every grant of one subject that counts in ns; stops when it returns true. */
static bool grants_of(struct rbac *r, const char *prefix, struct str subject, struct str ns, struct arena *a,
                      bool (*each)(void *arg, const struct grant *g), void *arg) {
    struct grant_list *l = map_get(&r->subjects, str_printf(a, "%s%.*s", prefix, STR_ARG(subject)));
    for (size_t i = 0; l && i < l->at.n; i++) {
        const struct grant *g = &r->grants.items[l->at.items[i]];
        if ((g->ns.n == 0 || str_eq(g->ns, ns)) && each(arg, g))
            return true;
    }
    return false;
}

static bool user_grants(struct rbac *r, const struct api_user *u, struct str ns, struct arena *a,
                        bool (*each)(void *arg, const struct grant *g), void *arg) {
    rbac_refresh(r);
    if (grants_of(r, "U:", u->name, ns, a, each, arg))
        return true;
    for (size_t i = 0; i < u->groups_n; i++)
        if (grants_of(r, "G:", u->groups[i], ns, a, each, arg))
            return true;
    return false;
}

struct allow_search {
    const struct authz_ask *ask;
    struct str reason;
};

static bool grant_allows(void *arg, const struct grant *g) {
    struct allow_search *s = arg;
    if (!s->ask->resource && g->ns.n)
        return false;
    for (size_t i = 0; i < json_len(g->rules); i++) {
        if (!rule_allows(json_item(g->rules, i), s->ask))
            continue;
        s->reason = g->text;
        return true;
    }
    return false;
}

bool rbac_allowed(struct rbac *r, const struct authz_ask *ask, struct arena *a, struct str *reason) {
    struct allow_search s = {ask, STR("")};
    if (!user_grants(r, ask->user, ask->resource ? ask->ns : STR(""), a, grant_allows, &s))
        return false;
    if (reason)
        *reason = str_dup(a, s.reason);
    return true;
}

struct rule_visit {
    void (*each)(void *arg, const struct json *rule);
    void *arg;
};

static bool grant_visit(void *arg, const struct grant *g) {
    struct rule_visit *v = arg;
    for (size_t i = 0; i < json_len(g->rules); i++)
        v->each(v->arg, json_item(g->rules, i));
    return false;
}

void rbac_rules_each(struct rbac *r, const struct api_user *user, struct str ns,
                     void (*each)(void *arg, const struct json *rule), void *arg) {
    cleanup_arena struct arena *a = arena_new(0, 0);
    struct rule_visit v = {each, arg};
    user_grants(r, user, ns, a, grant_visit, &v);
}
