/* Questions as resources, which are answered and not stored: access reviews, rules reviews, token reviews. */
#include "api/api_priv.h"

#define REVIEW_GROUPS_MAX 256

struct review {
    struct api_request *q;
    struct json *body, *spec;
};

static struct json *review_body(struct api_request *q) {
    struct json *v = json_copy(q->arena, q->object);
    json_set_str(q->arena, v, "apiVersion",
                 str_printf(q->arena, "%.*s/%.*s", STR_ARG(q->r->group), STR_ARG(q->r->version)));
    json_set_str(q->arena, v, "kind", q->r->kind);
    return v;
}

static struct authz_ask ask_of(const struct api_user *u, const struct json *spec) {
    const struct json *ra = json_get_c(spec, "resourceAttributes"), *nra = json_get_c(spec, "nonResourceAttributes");
    struct authz_ask ask = {.user = u, .resource = json_is(ra, JSON_OBJECT)};
    ask.verb = json_str_at(ask.resource ? ra : nra, "verb");
    ask.group = json_str_at(ra, "group");
    ask.version = json_str_at(ra, "version");
    ask.plural = json_str_at(ra, "resource");
    ask.subresource = json_str_at(ra, "subresource");
    ask.ns = json_str_at(ra, "namespace");
    ask.name = json_str_at(ra, "name");
    ask.path = json_str_at(nra, "path");
    return ask;
}

static bool attributes_ok(struct review *v) {
    bool r = json_is(json_get_c(v->spec, "resourceAttributes"), JSON_OBJECT);
    bool n = json_is(json_get_c(v->spec, "nonResourceAttributes"), JSON_OBJECT);
    if (r != n)
        return true;
    reply_error(v->q, 422, "Invalid",
                "%.*s.authorization.k8s.io \"\" is invalid: spec.resourceAttributes: Invalid value:"
                " exactly one of nonResourceAttributes or resourceAttributes must be specified",
                STR_ARG(v->q->r->kind));
    return false;
}

static void answer(struct review *v, bool allowed, struct str reason) {
    struct arena *a = v->q->arena;
    struct json *st = json_object(a);
    json_set_bool(a, st, "allowed", allowed);
    if (reason.n)
        json_set_str(a, st, "reason", reason);
    json_set_c(a, v->body, "status", st);
    reply_json(v->q, 201, v->body);
}

static void self_access(struct review *v) {
    struct str reason = STR("");
    if (!attributes_ok(v))
        return;
    struct authz_ask ask = ask_of(&v->q->who.user, v->spec);
    answer(v, authz_allowed(v->q->api, &ask, v->q->arena, &reason), reason);
}

static bool subject_of(struct review *v, struct api_user *u) {
    struct arena *a = v->q->arena;
    const struct json *groups = json_get_c(v->spec, "groups");
    struct str *list = arena_alloc(a, (REVIEW_GROUPS_MAX + 1) * sizeof(*list));
    *u = (struct api_user){.name = json_str_at(v->spec, "user"), .uid = json_str_at(v->spec, "uid"), .groups = list};
    for (size_t i = 0; i < json_len(groups) && i < REVIEW_GROUPS_MAX; i++)
        list[u->groups_n++] = json_as_str(json_item(groups, i));
    if (u->name.n || u->groups_n)
        return true;
    reply_error(v->q, 422, "Invalid",
                "%.*s.authorization.k8s.io \"\" is invalid: spec.user: Invalid value: \"\": at least"
                " one of user or group must be specified",
                STR_ARG(v->q->r->kind));
    return false;
}

static void subject_access(struct review *v) {
    struct api_user u;
    struct str reason = STR("");
    if (!attributes_ok(v) || !subject_of(v, &u))
        return;
    struct authz_ask ask = ask_of(&u, v->spec);
    if (v->q->r->namespaced && !str_eq(ask.ns, v->q->t.ns)) {
        reply_error(v->q, 422, "Invalid",
                    "LocalSubjectAccessReview.authorization.k8s.io \"\" is invalid: "
                    "spec.resourceAttributes.namespace: Invalid value: must match the namespace of the request");
        return;
    }
    answer(v, authz_allowed(v->q->api, &ask, v->q->arena, &reason), reason);
}

/* --- rules ------------------------------------------------------------------------------------------------------- */

struct rules_build {
    struct arena *a;
    struct json *resources, *urls;
};

static void add_rule(void *arg, const struct json *rule) {
    static const char *const members[] = {"verbs", "apiGroups", "resources", "resourceNames", "nonResourceURLs"};
    struct rules_build *b = arg;
    bool urls = json_len(json_get_c(rule, "nonResourceURLs")) > 0;
    struct json *out = json_object(b->a);
    for (size_t i = 0; i < ARRAY_LEN(members); i++) {
        const struct json *v = json_get_c(rule, members[i]);
        if (json_len(v))
            json_set_c(b->a, out, members[i], json_copy(b->a, v));
    }
    struct json *list = urls ? b->urls : b->resources;
    for (size_t i = 0; i < json_len(list); i++)
        if (json_equal(json_item(list, i), out))
            return;
    json_append(b->a, list, out);
}

/* What system:masters may do stands in no role. */
static void add_all(struct rules_build *b) {
    static const char *const text[] = {
        "{\"verbs\":[\"*\"],\"apiGroups\":[\"*\"],\"resources\":[\"*\"]}",
        "{\"verbs\":[\"*\"],\"nonResourceURLs\":[\"*\"]}",
    };
    for (size_t i = 0; i < ARRAY_LEN(text); i++)
        add_rule(b, json_parse(b->a, str_c(text[i]), NULL, NULL));
}

static void self_rules(struct review *v) {
    struct api_request *q = v->q;
    struct arena *a = q->arena;
    struct rules_build b = {a, json_array(a), json_array(a)};
    struct str ns = json_str_at(v->spec, "namespace");
    if (ns.n == 0) {
        reply_error(q, 400, "BadRequest", "no namespace on request");
        return;
    }
    if (user_in_group(&q->who.user, "system:masters"))
        add_all(&b);
    rbac_rules_each(q->api->rbac, &q->who.user, ns, add_rule, &b);
    struct json *st = json_object(a);
    json_set_c(a, st, "resourceRules", b.resources);
    json_set_c(a, st, "nonResourceRules", b.urls);
    json_set_bool(a, st, "incomplete", false);
    json_set_c(a, v->body, "status", st);
    reply_json(q, 201, v->body);
}

/* --- identities -------------------------------------------------------------------------------------------------- */

static struct json *user_json(struct arena *a, const struct authn_result *who) {
    struct json *u = json_object(a), *groups = json_array(a);
    json_set_str(a, u, "username", who->user.name);
    if (who->user.uid.n)
        json_set_str(a, u, "uid", who->user.uid);
    for (size_t i = 0; i < who->user.groups_n; i++)
        json_append(a, groups, json_str(a, who->user.groups[i]));
    json_set_c(a, u, "groups", groups);
    struct {
        const char *key;
        struct str value;
    } extra[] = {{"authentication.kubernetes.io/credential-id",
                  who->jti.n ? str_printf(a, "JTI=%.*s", STR_ARG(who->jti)) : STR("")},
                 {"authentication.kubernetes.io/node-name", who->node_name},
                 {"authentication.kubernetes.io/pod-name", who->pod_name},
                 {"authentication.kubernetes.io/pod-uid", who->pod_uid}};
    for (size_t i = 0; i < ARRAY_LEN(extra); i++) {
        if (extra[i].value.n == 0)
            continue;
        struct json *list = json_array(a), *e = json_ensure(a, u, "extra");
        json_append(a, list, json_str(a, extra[i].value));
        json_set_c(a, e, extra[i].key, list);
    }
    return u;
}

static void self_review(struct review *v) {
    struct json *st = json_object(v->q->arena);
    json_set_c(v->q->arena, st, "userInfo", user_json(v->q->arena, &v->q->who));
    json_set_c(v->q->arena, v->body, "status", st);
    reply_json(v->q, 201, v->body);
}

static void token_review(struct review *v) {
    struct api_request *q = v->q;
    struct arena *a = q->arena;
    struct authn_result who;
    struct str token = json_str_at(v->spec, "token");
    const struct json *audiences = json_get_c(v->spec, "audiences");
    if (token.n == 0) {
        reply_error(q, 400, "BadRequest", "token is required for TokenReview in authentication");
        return;
    }
    struct json *st = json_object(a), *aud = json_array(a);
    bool ok =
        authn_token(q->api->authn, a, token, json_len(audiences) ? audiences : NULL, &who) && authn_bound(q->api, &who);
    if (ok) {
        json_set_bool(a, st, "authenticated", true);
        json_set_c(a, st, "user", user_json(a, &who));
        if (json_len(audiences))
            aud = json_copy(a, audiences);
        else
            json_append_cstr(a, aud, q->api->sa_issuer);
        json_set_c(a, st, "audiences", aud);
    } else {
        json_set_c(a, st, "user", json_object(a));
        json_set_cstr(a, st, "error", "the token is not valid, not for this audience, or what it is bound to is gone");
    }
    json_set_c(a, v->body, "status", st);
    reply_json(q, 201, v->body);
}

struct review_kind {
    const char *group, *plural;
    void (*run)(struct review *v);
};
static const struct review_kind review_kinds[] = {
    {"authorization.k8s.io", "selfsubjectaccessreviews", self_access},
    {"authorization.k8s.io", "subjectaccessreviews", subject_access},
    {"authorization.k8s.io", "localsubjectaccessreviews", subject_access},
    {"authorization.k8s.io", "selfsubjectrulesreviews", self_rules},
    {"authentication.k8s.io", "selfsubjectreviews", self_review},
    {"authentication.k8s.io", "tokenreviews", token_review},
};

bool review_run(struct api_request *q) {
    for (size_t i = 0; i < ARRAY_LEN(review_kinds); i++) {
        const struct review_kind *k = &review_kinds[i];
        if (!str_eq_c(q->r->group, k->group) || !str_eq_c(q->r->plural, k->plural) || q->sub)
            continue;
        if (!q->object) {
            reply_error(q, 400, "BadRequest", "the body of the request has no object");
            return true;
        }
        q->accept.form = FORM_OBJECT;
        struct review v = {.q = q, .body = review_body(q)};
        v.spec = json_get_c(v.body, "spec");
        k->run(&v);
        return true;
    }
    return false;
}
