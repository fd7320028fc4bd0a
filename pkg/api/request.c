/*
 * A request from its arrival to the verb that carries it out. Default-deny: the open paths are one table, everything
 * else is authorised by its attributes before anything about it is answered.
 */
#include "api/meta.h"
#include "api/protobuf.h"

struct route { /* of paths that are no resources */
    const char *path;
    bool prefix;
    bool open; /* answered to anybody */
    void (*run)(struct api_request *q);
};

static void discovery_route(struct api_request *q) {
    if (discovery_run(q))
        return;
    reply_error(q, 404, "NotFound", "the server could not find the requested resource");
}

static const struct route routes[] = {
    {"/healthz", true, true, health_run},
    {"/livez", true, true, health_run},
    {"/readyz", true, true, health_run},
    {"/metrics", false, false, metrics_run},
    {"/openapi/v2", false, false, openapi_v2},
    {"/openapi/v3", false, false, openapi_v3_index},
    {"/openapi/v3/", true, false, openapi_v3},
    {"/api", true, false, discovery_route},
    {"/apis", true, false, discovery_route},
    {"/version", false, false, discovery_route},
    {"/version/", false, false, discovery_route},
    {"/.well-known/openid-configuration", false, false, discovery_route},
    {"/openid/v1/jwks", false, false, discovery_route},
    {"/", false, false, discovery_route},
};

/* A prefix route covers its path and what stands below it. */
static bool route_covers(const struct route *r, struct str path) {
    struct str p = str_c(r->path);
    if (str_eq(path, p))
        return true;
    return r->prefix && str_starts(path, p) && (p.p[p.n - 1] == '/' || path.p[p.n] == '/');
}

static const struct route *route_find(struct str path) {
    for (size_t i = 0; i < ARRAY_LEN(routes); i++)
        if (route_covers(&routes[i], path))
            return &routes[i];
    return NULL;
}

struct str request_header(const struct api_request *q, const char *name) {
    for (size_t i = 0; i < q->headers_n; i++)
        if (str_eq_nocase(q->headers[i].name, str_c(name)))
            return q->headers[i].value;
    return STR("");
}

struct str request_param(const struct api_request *q, const char *name) {
    for (size_t i = 0; i < q->params_n; i++)
        if (str_eq_c(q->params[i].key, name))
            return q->params[i].value;
    return STR_NULL;
}

bool request_param_bool(const struct api_request *q, const char *name) {
    struct str v = request_param(q, name);
    return str_eq_c(v, "true") || str_eq_c(v, "1") || str_eq_c(v, "True") || str_eq_c(v, "TRUE") || str_eq_c(v, "t");
}

void request_warn(struct api_request *q, const char *fmt, ...) {
    if (q->warnings_n == API_WARNINGS_MAX)
        return;
    struct buf b = BUF_INIT;
    va_list ap;
    va_start(ap, fmt);
    buf_vprintf(&b, fmt, ap);
    va_end(ap);
    q->warnings[q->warnings_n++] = str_dup(q->arena, buf_str(&b));
    buf_fini(&b);
}

/* --- stage one: any thread --------------------------------------------------------------------------------------- */

static void on_duplicate(void *arg, struct str path) {
    struct api_request *q = arg;
    if (q->strict_n < API_WARNINGS_MAX)
        q->strict[q->strict_n++] = str_printf(q->arena, "duplicate field \"%.*s\"", STR_ARG(path));
}

static void on_unknown(void *arg, struct str text) {
    struct api_request *q = arg;
    if (q->strict_n < API_WARNINGS_MAX)
        q->strict[q->strict_n++] = str_dup(q->arena, text);
}

static struct str media_type(struct api_request *q) {
    struct str h = request_header(q, "Content-Type"), type = h;
    str_cut(h, ';', &type, NULL);
    return str_lower(q->arena, str_trim(type));
}

struct patch_media {
    const char *type;
    enum api_patch_type patch;
    bool yaml;
};
static const struct patch_media patch_medias[] = {
    {"application/json-patch+json", API_PATCH_JSON, false},
    {"application/merge-patch+json", API_PATCH_MERGE, false},
    {"application/strategic-merge-patch+json", API_PATCH_STRATEGIC, false},
    {"application/apply-patch+yaml", API_PATCH_APPLY, true},
};

static bool unknown_media(struct api_request *q, const char *accepted) {
    status_set(&q->status, q->arena, 415, "UnsupportedMediaType",
               "the body of the request was in an unknown format - accepted media types include: %s", accepted);
    return false;
}

enum body_format { BODY_JSON, BODY_YAML, BODY_PROTOBUF };

static bool patch_format(struct api_request *q, struct str type, enum body_format *format) {
    for (size_t i = 0; i < ARRAY_LEN(patch_medias); i++)
        if (str_eq_c(type, patch_medias[i].type)) {
            *format = patch_medias[i].yaml ? BODY_YAML : BODY_JSON;
            q->patch_type = patch_medias[i].patch;
            return true;
        }
    return unknown_media(q, "application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml,"
                            " application/strategic-merge-patch+json");
}

/* false and the status when the type of the body is not understood. */
static bool body_format(struct api_request *q, enum body_format *format) {
    static const struct {
        const char *type;
        enum body_format format;
    } medias[] = {{"", BODY_JSON},
                  {"*/*", BODY_JSON},
                  {"application/json", BODY_JSON},
                  {"text/json", BODY_JSON},
                  {"application/yaml", BODY_YAML},
                  {"application/x-yaml", BODY_YAML},
                  {"text/yaml", BODY_YAML},
                  {PROTOBUF_MEDIA, BODY_PROTOBUF}};
    struct str type = media_type(q);
    if (str_eq_c(q->method, "PATCH"))
        return patch_format(q, type, format);
    for (size_t i = 0; i < ARRAY_LEN(medias); i++)
        if (str_eq_c(type, medias[i].type)) {
            *format = medias[i].format;
            return true;
        }
    return unknown_media(q, "application/json, application/yaml, " PROTOBUF_MEDIA);
}

/* What a protobuf body is: the resource, the subresource's own kind, or the options of a deletion. */
static const struct schema_type *body_type(const struct api_request *q) {
    if (str_eq_c(q->method, "DELETE"))
        return schema_type_find(q->api->schema, STR("meta/v1.DeleteOptions"));
    return q->sub && q->sub->type ? q->sub->type : q->r->type;
}

static struct json *parse_format(struct api_request *q, enum body_format format, struct error *err) {
    struct json_limits limits = {.nodes = API_BODY_NODES_MAX, .duplicate = on_duplicate, .arg = q};
    if (format == BODY_YAML)
        return yaml_parse(q->arena, q->body, &limits, err);
    if (format == BODY_JSON)
        return json_parse(q->arena, q->body, &limits, err);
    const struct schema_type *t = body_type(q);
    if (!t) {
        error_set(err, -EINVAL, "protobuf is not understood here");
        return NULL;
    }
    return protobuf_object(q->arena, t, q->body, API_BODY_NODES_MAX, err);
}

static bool parse_body(struct api_request *q) {
    struct error err = {0};
    enum body_format format;
    if (q->body.n == 0)
        return !str_eq_c(q->method, "PATCH") || body_format(q, &format);
    if (!body_format(q, &format))
        return false;
    if (q->body.n > API_BODY_BYTES_MAX) {
        status_set(&q->status, q->arena, 413, "RequestEntityTooLarge", "Request entity too large: limit is %zu",
                   API_BODY_BYTES_MAX);
        return false;
    }
    q->input = parse_format(q, format, &err);
    if (!q->input && err.code == -E2BIG)
        status_set(&q->status, q->arena, 413, "RequestEntityTooLarge", "Request entity too large: %s", err.msg);
    else if (!q->input)
        status_bad_request(&q->status, q->arena, "the object provided is unrecognized (must be of type %.*s): %s",
                           STR_ARG(q->r ? q->r->kind : STR("Object")), err.msg);
    return q->input != NULL;
}

/* Kind and version of the body; absent ones are the URL's. */
static bool check_type(struct api_request *q, const struct schema_resource *r) {
    struct str kind = json_str_at(q->input, "kind"), version = json_str_at(q->input, "apiVersion");
    struct str want =
        r->group.n ? str_printf(q->arena, "%.*s/%.*s", STR_ARG(r->group), STR_ARG(r->version)) : r->version;
    if (version.n && !str_eq(version, want)) {
        status_bad_request(&q->status, q->arena,
                           "the API version in the data (%.*s) does not match the expected API version (%.*s)",
                           STR_ARG(version), STR_ARG(want));
        return false;
    }
    if (kind.n && !str_eq(kind, r->kind)) {
        status_bad_request(&q->status, q->arena,
                           "%.*s in version \"%.*s\" cannot be handled as a %.*s: no kind \"%.*s\""
                           " is registered for this resource",
                           STR_ARG(kind), STR_ARG(r->version), STR_ARG(r->kind), STR_ARG(kind));
        return false;
    }
    return true;
}

/* Unknown and duplicate fields found so far: an error, warnings or nothing, as the client asked. */
static bool apply_strictness(struct api_request *q, const struct schema_resource *r) {
    struct str mode = request_param(q, "fieldValidation");
    if (q->strict_n == 0 || str_eq_c(mode, "Ignore"))
        return true;
    if (!str_eq_c(mode, "Strict")) {
        for (size_t i = 0; i < q->strict_n; i++)
            request_warn(q, "%.*s", STR_ARG(q->strict[i]));
        return true;
    }
    struct buf b = BUF_INIT;
    for (size_t i = 0; i < q->strict_n; i++)
        buf_printf(&b, "%s%.*s", i ? ", " : "", STR_ARG(q->strict[i]));
    status_bad_request(&q->status, q->arena,
                       "%.*s in version \"%.*s\" cannot be handled as a %.*s: strict decoding error: %.*s",
                       STR_ARG(r->kind), STR_ARG(r->version), STR_ARG(r->kind), STR_ARG(buf_str(&b)));
    buf_fini(&b);
    return false;
}

static bool check_field_validation(struct api_request *q) {
    struct str mode = request_param(q, "fieldValidation");
    if (mode.n == 0 || str_eq_c(mode, "Ignore") || str_eq_c(mode, "Warn") || str_eq_c(mode, "Strict"))
        return true;
    status_set(&q->status, q->arena, 422, "Invalid",
               "%s.meta.k8s.io \"\" is invalid: fieldValidation: Unsupported value: \"%.*s\": supported values: "
               "\"Ignore\", \"Strict\", \"Warn\"",
               str_eq_c(q->method, "POST") ? "CreateOptions" : "UpdateOptions", STR_ARG(mode));
    return false;
}

void request_decode_options(struct api_request *q, struct schema_decode *d) {
    *d = (struct schema_decode){SCHEMA_UNKNOWN_REPORT, on_unknown, q};
}

bool request_strictness(struct api_request *q, const struct schema_resource *r) {
    return check_field_validation(q) && apply_strictness(q, r);
}

bool request_decode(struct api_request *q, const struct schema_resource *r) {
    struct schema_decode d;
    struct error err = {0};
    if (!json_is(q->input, JSON_OBJECT)) {
        status_bad_request(&q->status, q->arena, "the object provided is unrecognized (must be of type %.*s): %s",
                           STR_ARG(r->kind), q->input ? "it is no object" : "EOF");
        return false;
    }
    request_decode_options(q, &d);
    if (!check_type(q, r))
        return false;
    q->object = write_decode(q->arena, r, q->input, &d, &err);
    if (!q->object) {
        status_bad_request(&q->status, q->arena, "%.*s in version \"%.*s\" cannot be handled as a %.*s: %s",
                           STR_ARG(r->kind), STR_ARG(r->version), STR_ARG(r->kind), err.msg);
        return false;
    }
    return request_strictness(q, r);
}

/* Subresources that hand the exchange on: neither body nor Accept is ours. */
static bool connects(struct str sub) {
    static const char *const names[] = {"log", "exec", "attach", "portforward", "proxy"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        if (str_eq_c(sub, names[i]))
            return true;
    return false;
}

/* Does what can be done with the body before the core thread sees it. A failure waits in q->status. */
static void prepare_body(struct api_request *q) {
    bool write = str_eq_c(q->method, "POST") || str_eq_c(q->method, "PUT") || str_eq_c(q->method, "PATCH");
    if (!q->t.resource || !q->r || (q->t.subresource.n && !q->sub))
        return;
    if (!write && !str_eq_c(q->method, "DELETE"))
        return;
    if (!parse_body(q) || str_eq_c(q->method, "PATCH") || !write)
        return;
    if (!q->sub || str_eq(q->sub->kind, q->r->kind))
        request_decode(q, q->r);
}

static void find_resource(struct api_request *q) {
    const struct schema_resource *r = schema_find(q->api->schema, q->t.group, q->t.version, q->t.plural);
    if (!r || !r->served)
        return;
    q->r = r;
    if (q->t.subresource.n)
        q->sub = schema_subresource(r, q->t.subresource);
    if (r->deprecated && r->deprecation.n)
        request_warn(q, "%.*s", STR_ARG(r->deprecation));
}

bool request_prepare(struct api_request *q) {
    if (!api_query_parse(q->arena, q->query, &q->params, &q->params_n)) {
        reply_error(q, 400, "BadRequest", "the query of the URL is malformed");
        return false;
    }
    api_path_parse(q->arena, q->method, q->path, request_param_bool(q, "watch"), &q->t);
    const struct route *route = q->t.resource ? NULL : route_find(q->path);
    if (route && route->open) {
        route->run(q);
        return false;
    }
    if (!authn_request(q->api->authn, q, &q->who)) {
        reply_error(q, 401, "Unauthorized", "Unauthorized");
        return false;
    }
    if (q->t.resource)
        find_resource(q);
    if (connects(q->t.subresource))
        return true;
    if (!accept_parse(request_header(q, "Accept"), &q->accept) && q->t.resource)
        status_set(&q->status, q->arena, 406, "NotAcceptable",
                   "only the following media types are accepted: "
                   "application/json, application/yaml");
    else
        prepare_body(q);
    return true;
}

/* --- stage two: core --------------------------------------------------------------------------------------------- */

static bool may(struct api_request *q, const struct api_user *u, struct str verb, const char *group, const char *plural,
                struct str ns, struct str name) {
    struct authz_ask ask = {.user = u,
                            .resource = true,
                            .verb = verb,
                            .group = str_c(group),
                            .version = STR("v1"),
                            .plural = str_c(plural),
                            .subresource = STR(""),
                            .ns = ns,
                            .name = name};
    if (authz_allowed(q->api, &ask, q->arena, NULL))
        return true;
    authz_deny(&q->status, q->arena, &ask);
    reply_status(q, &q->status);
    return false;
}

/* Impersonate-User and Impersonate-Group: who may act as whom is authorised name by name. false: answered. */
static bool impersonate(struct api_request *q) {
    static const struct str sa_prefix = STR_INIT("system:serviceaccount:");
    struct str user = request_header(q, "Impersonate-User"), verb = STR("impersonate");
    struct str *groups = arena_alloc(q->arena, (q->headers_n + 3) * sizeof(*groups));
    size_t n = 0;
    for (size_t i = 0; i < q->headers_n; i++) {
        struct str h = q->headers[i].name;
        if (str_eq_nocase(h, STR("Impersonate-Group")))
            groups[n++] = q->headers[i].value;
        else if (h.n > 18 && str_eq_nocase(str_n(h.p, 18), STR("Impersonate-Extra-")) &&
                 !may(q, &q->who.user, verb, "authentication.k8s.io", "userextras", STR(""), q->headers[i].value))
            return false;
    }
    struct str uid = request_header(q, "Impersonate-Uid");
    if (user.n == 0 && (n || uid.n)) {
        reply_error(q, 400, "BadRequest", "requested groups or uid without impersonating a user");
        return false;
    }
    if (user.n == 0)
        return true;
    struct str rest = user, ns = STR(""), name = user;
    bool sa = str_starts(user, sa_prefix) && str_cut(str_skip(rest, sa_prefix.n), ':', &ns, &name);
    if (!may(q, &q->who.user, verb, "", sa ? "serviceaccounts" : "users", sa ? ns : STR(""), name))
        return false;
    for (size_t i = 0; i < n; i++)
        if (!may(q, &q->who.user, verb, "", "groups", STR(""), groups[i]))
            return false;
    if (uid.n && !may(q, &q->who.user, verb, "authentication.k8s.io", "uids", STR(""), uid))
        return false;
    if (sa && n == 0) {
        groups[n++] = STR("system:serviceaccounts");
        groups[n++] = str_printf(q->arena, "system:serviceaccounts:%.*s", STR_ARG(ns));
    }
    groups[n++] = STR("system:authenticated");
    q->who = (struct authn_result){.user = {str_dup(q->arena, user), uid, groups, n}};
    return true;
}

/* A list or watch of one object by field selector is authorised by its name, as Kubernetes does. */
static struct str selected_name(struct api_request *q) {
    static const struct str field = STR_INIT("metadata.name=");
    struct str rest = request_param(q, "fieldSelector");
    while (rest.p && rest.n) {
        struct str piece = str_trim(str_split(&rest, ','));
        if (!str_starts(piece, field))
            continue;
        struct str name = str_skip(piece, field.n);
        return name.n && name.p[0] == '=' ? str_skip(name, 1) : name;
    }
    return STR("");
}

/* A WebSocket is opened by GET, yet acts inside a container: who may only read must not get in that way. */
static bool runs_in_pod(const struct api_target *t) {
    return t->group.n == 0 && str_eq_c(t->plural, "pods") &&
           (str_eq_c(t->subresource, "exec") || str_eq_c(t->subresource, "attach") ||
            str_eq_c(t->subresource, "portforward"));
}

static bool authorise(struct api_request *q) {
    const struct api_target *t = &q->t;
    struct authz_ask ask = {.user = &q->who.user,
                            .resource = t->resource,
                            .verb = t->verb,
                            .group = t->group,
                            .version = t->version,
                            .plural = t->plural,
                            .subresource = t->subresource,
                            .ns = t->ns,
                            .name = t->name,
                            .path = t->path};
    if (t->resource && t->name.n == 0)
        ask.name = selected_name(q);
    bool allowed = authz_allowed(q->api, &ask, q->arena, NULL);
    if (allowed && runs_in_pod(t) && str_eq_c(t->verb, "get")) {
        ask.verb = STR("create");
        allowed = authz_allowed(q->api, &ask, q->arena, NULL);
    }
    if (allowed)
        return true;
    authz_deny(&q->status, q->arena, &ask);
    reply_status(q, &q->status);
    return false;
}

struct verb_run {
    const char *verb;
    unsigned bit;
    void (*run)(struct api_request *q);
};

static const struct verb_run verb_runs[] = {
    {"get", VERB_GET, rest_get},          {"list", VERB_LIST, rest_list},
    {"watch", VERB_WATCH, rest_watch},    {"create", VERB_CREATE, rest_create},
    {"update", VERB_UPDATE, rest_update}, {"patch", VERB_PATCH, rest_patch},
    {"delete", VERB_DELETE, rest_delete}, {"deletecollection", VERB_DELETECOLLECTION, rest_delete_collection},
};

static const struct verb_run *verb_find(struct str verb) {
    for (size_t i = 0; i < ARRAY_LEN(verb_runs); i++)
        if (str_eq_c(verb, verb_runs[i].verb))
            return &verb_runs[i];
    return NULL;
}

static void run_resource(struct api_request *q) {
    const struct verb_run *v = verb_find(q->t.verb);
    if (!q->r || (q->t.subresource.n && !q->sub)) {
        reply_error(q, 404, "NotFound", "the server could not find the requested resource");
        return;
    }
    unsigned verbs = q->sub ? q->sub->verbs : q->r->verbs;
    /* A name with a namespaced kind needs its namespace; a POST to a name is no create. */
    bool bad = q->r->namespaced && q->t.ns.n == 0 && q->t.name.n;
    bad = bad || (!q->r->namespaced && q->t.ns.n && !str_eq_c(q->t.plural, "namespaces"));
    if (bad) {
        reply_error(q, 404, "NotFound", "the server could not find the requested resource");
        return;
    }
    if (!v || !(verbs & v->bit) || (v->bit == VERB_CREATE && q->t.name.p && !q->sub)) {
        status_set(&q->status, q->arena, 405, "MethodNotAllowed",
                   "the server does not allow this method on the requested resource");
        reply_status(q, &q->status);
        return;
    }
    if (q->status.code) {
        reply_status(q, &q->status);
        return;
    }
    if (review_run(q) || subresource_run(q))
        return;
    v->run(q);
}

void request_run(struct api_request *q) {
    if (!authn_bound(q->api, &q->who)) {
        reply_error(q, 401, "Unauthorized", "Unauthorized");
        return;
    }
    if (!impersonate(q) || !authorise(q))
        return;
    if (q->t.resource) {
        run_resource(q);
        return;
    }
    const struct route *route = route_find(q->path);
    if (!route)
        reply_error(q, 404, "NotFound", "the server could not find the requested resource");
    else if (!str_eq_c(q->method, "GET") && !str_eq_c(q->method, "HEAD"))
        reply_error(q, 405, "MethodNotAllowed", "the server does not allow this method on the requested resource");
    else
        route->run(q);
}
