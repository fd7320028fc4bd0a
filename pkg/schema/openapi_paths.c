/* The paths of a resource and its operations: what clients ask to learn which parameters a server knows. */
#include "schema/openapi.h"

#include <ctype.h>

enum { /* groups of query parameters */
       Q_LIST = 1,
       Q_WRITE = 2,
       Q_PATCH = 4,
       Q_DELETE = 8
};

static const struct {
    const char *name, *type, *description;
    unsigned groups;
} queries[] = {
    {"allowWatchBookmarks", "boolean", "Asks for bookmark events.", Q_LIST},
    {"continue", "string", "Where the previous part of a list ended.", Q_LIST},
    {"dryRun", "string", "All: everything but storing it.", Q_WRITE | Q_DELETE},
    {"fieldManager", "string", "Who makes the change.", Q_WRITE},
    {"fieldSelector", "string", "Restricts the list by fields.", Q_LIST},
    {"fieldValidation", "string", "What to do about unknown and duplicate fields: Ignore, Warn or Strict.", Q_WRITE},
    {"force", "boolean", "Takes fields over from other managers.", Q_PATCH},
    {"gracePeriodSeconds", "integer", "Seconds before it is gone.", Q_DELETE},
    {"labelSelector", "string", "Restricts the list by labels.", Q_LIST},
    {"limit", "integer", "Most objects in one answer.", Q_LIST},
    {"orphanDependents", "boolean", "Keeps its dependents.", Q_DELETE},
    {"propagationPolicy", "string", "What becomes of dependents: Orphan, Background or Foreground.", Q_DELETE},
    {"resourceVersion", "string", "How fresh the answer must be.", Q_LIST},
    {"resourceVersionMatch", "string", "How resourceVersion applies.", Q_LIST},
    {"sendInitialEvents", "boolean", "Starts a watch with what is there.", Q_LIST},
    {"timeoutSeconds", "integer", "Ends the call after that time.", Q_LIST},
    {"watch", "boolean", "Changes instead of a list.", Q_LIST},
};

struct operation {
    enum schema_verb verb;
    const char *method, *action, *word; /* word: of the operation's id */
    unsigned queries;
    bool collection;
};

static const struct operation operations[] = {
    {VERB_LIST, "get", "list", "list", Q_LIST, true},
    {VERB_CREATE, "post", "post", "create", Q_WRITE, true},
    {VERB_DELETECOLLECTION, "delete", "deletecollection", "deleteCollection", Q_LIST | Q_DELETE, true},
    {VERB_GET, "get", "get", "read", 0, false},
    {VERB_UPDATE, "put", "put", "replace", Q_WRITE, false},
    {VERB_DELETE, "delete", "delete", "delete", Q_DELETE, false},
    {VERB_PATCH, "patch", "patch", "patch", Q_WRITE | Q_PATCH, false},
};

static const char *const patch_types[] = {"application/apply-patch+yaml", "application/json-patch+json",
                                          "application/merge-patch+json", "application/strategic-merge-patch+json"};

struct path {
    struct openapi_doc *doc;
    const struct schema_resource *resource;
    const struct schema_subresource *sub; /* or NULL */
    bool in_namespace, item;
};

/* --- names --- */

/* "rbac.authorization.k8s.io" as "RbacAuthorization", first letter as wanted. */
static void put_group(struct buf *b, struct str group, bool upper) {
    ptrdiff_t end = str_find(group, STR(".k8s.io"));
    if (end >= 0)
        group.n = (size_t)end;
    if (group.n == 0)
        group = STR("core");
    for (size_t i = 0; i < group.n; i++) {
        bool starts = i > 0 ? group.p[i - 1] == '.' || group.p[i - 1] == '-' : upper;
        if (group.p[i] != '.' && group.p[i] != '-')
            buf_putc(b, starts ? (char)toupper((unsigned char)group.p[i]) : group.p[i]);
    }
}

static void put_capital(struct buf *b, struct str s) {
    if (s.n)
        buf_putc(b, (char)toupper((unsigned char)s.p[0]));
    buf_put_str(b, str_skip(s, 1));
}

static void put_id(struct path *p, const struct operation *o) {
    struct buf *b = p->doc->out;
    const struct schema_resource *r = p->resource;
    buf_puts(b, o->word);
    put_group(b, r->group, true);
    put_capital(b, r->version);
    if (p->in_namespace)
        buf_puts(b, "Namespaced");
    buf_put_str(b, r->kind);
    if (p->sub)
        put_capital(b, p->sub->name);
    if (r->namespaced && !p->in_namespace)
        buf_puts(b, "ForAllNamespaces");
}

/* --- bodies --- */

static void put_ref(struct path *p, struct str name) {
    buf_printf(p->doc->out, "{\"$ref\":\"#/%s/%.*s\"}", p->doc->v2 ? "definitions" : "components/schemas",
               STR_ARG(name));
}

static const struct schema_type *body_type(const struct path *p) {
    return p->sub ? p->sub->type : p->resource->type;
}

static struct str answer_name(const struct path *p, const struct operation *o) {
    const struct openapi_types *t = &p->doc->types;
    if (o->verb == VERB_LIST)
        return openapi_list_name(t, p->resource);
    if (o->verb == VERB_DELETE || o->verb == VERB_DELETECOLLECTION)
        return openapi_name(t, openapi_meta(t, "Status"));
    return body_type(p) ? openapi_name(t, body_type(p)) : STR("");
}

static struct str question_name(const struct path *p, const struct operation *o) {
    const struct openapi_types *t = &p->doc->types;
    if (o->verb == VERB_PATCH)
        return STR("io.k8s.apimachinery.pkg.apis.meta.v1.Patch");
    if (o->verb == VERB_DELETE || o->verb == VERB_DELETECOLLECTION)
        return openapi_name(t, openapi_meta(t, "DeleteOptions"));
    return o->queries & Q_WRITE && body_type(p) ? openapi_name(t, body_type(p)) : STR("");
}

static void put_question_v3(struct path *p, const struct operation *o, struct str name) {
    static const char *const json[] = {"application/json"};
    bool patch = o->verb == VERB_PATCH;
    const char *const *types = patch ? patch_types : json;
    buf_puts(p->doc->out, ",\"requestBody\":{\"content\":{");
    for (size_t i = 0; i < (patch ? ARRAY_LEN(patch_types) : 1); i++) {
        buf_printf(p->doc->out, "%s\"%s\":{\"schema\":", i ? "," : "", types[i]);
        put_ref(p, name);
        buf_putc(p->doc->out, '}');
    }
    buf_printf(p->doc->out, "}%s}", o->queries & Q_DELETE ? "" : ",\"required\":true");
}

static void put_answer(struct path *p, struct str name) {
    struct buf *b = p->doc->out;
    buf_puts(b, ",\"responses\":{\"200\":{\"description\":\"OK\"");
    if (name.n) {
        buf_puts(b, p->doc->v2 ? ",\"schema\":" : ",\"content\":{\"application/json\":{\"schema\":");
        put_ref(p, name);
        buf_puts(b, p->doc->v2 ? "" : "}}");
    }
    buf_puts(b, "},\"401\":{\"description\":\"Unauthorized\"}}");
}

/* --- parameters --- */

static void put_parameter(struct path *p, size_t n, const char *name, const char *in, const char *type,
                          const char *description) {
    buf_printf(p->doc->out, "%s{\"name\":\"%s\",\"in\":\"%s\",\"description\":\"%s\"%s,", n ? "," : "", name, in,
               description, strcmp(in, "path") == 0 ? ",\"required\":true" : "");
    buf_printf(p->doc->out,
               p->doc->v2 ? "\"type\":\"%s\",\"uniqueItems\":true}"
                          : "\"schema\":{\"type\":\"%s\",\"uniqueItems\":true}}",
               type);
}

static void put_queries(struct path *p, const struct operation *o, struct str body) {
    size_t n = 0;
    buf_puts(p->doc->out, ",\"parameters\":[");
    if (p->doc->v2 && body.n) {
        buf_printf(p->doc->out, "{\"name\":\"body\",\"in\":\"body\",%s\"schema\":",
                   o->queries & Q_DELETE ? "" : "\"required\":true,");
        put_ref(p, body);
        buf_putc(p->doc->out, '}');
        n++;
    }
    for (size_t i = 0; i < ARRAY_LEN(queries); i++)
        if (queries[i].groups & o->queries)
            put_parameter(p, n++, queries[i].name, "query", queries[i].type, queries[i].description);
    buf_putc(p->doc->out, ']');
}

static void put_shared_parameters(struct path *p) {
    size_t n = 0;
    buf_puts(p->doc->out, "\"parameters\":[");
    if (p->item)
        put_parameter(p, n++, "name", "path", "string", "Its name.");
    if (p->in_namespace)
        put_parameter(p, n++, "namespace", "path", "string", "Its namespace.");
    put_parameter(p, n, "pretty", "query", "string", "Asks for indented output.");
    buf_putc(p->doc->out, ']');
}

/* --- operations, paths --- */

static void put_operation(struct path *p, const struct operation *o) {
    struct buf *b = p->doc->out;
    const struct schema_resource *r = p->resource;
    struct str body = question_name(p, o), group = r->group, version = r->version, kind = r->kind;
    if (p->sub && p->sub->kind.n) {
        group = p->sub->group;
        version = p->sub->version;
        kind = p->sub->kind;
    }
    buf_printf(b, "\"%s\":{\"tags\":[\"", o->method);
    put_group(b, r->group, false);
    buf_printf(b, "_%.*s\"],\"operationId\":\"", STR_ARG(r->version));
    put_id(p, o);
    buf_putc(b, '"');
    if (p->doc->v2) {
        buf_puts(b, ",\"produces\":[\"application/json\",\"application/yaml\"],\"consumes\":[");
        for (size_t i = 0; o->verb == VERB_PATCH && i < ARRAY_LEN(patch_types); i++)
            buf_printf(b, "%s\"%s\"", i ? "," : "", patch_types[i]);
        buf_puts(b, o->verb == VERB_PATCH ? "]" : "\"*/*\"]");
    } else if (body.n) {
        put_question_v3(p, o, body);
    }
    put_queries(p, o, body);
    put_answer(p, answer_name(p, o));
    buf_printf(b,
               ",\"x-kubernetes-action\":\"%s\",\"x-kubernetes-group-version-kind\":{\"group\":\"%.*s\",\"kind\":"
               "\"%.*s\",\"version\":\"%.*s\"}},",
               o->action, STR_ARG(group), STR_ARG(kind), STR_ARG(version));
}

static void put_path(struct path *p) {
    struct buf *b = p->doc->out;
    const struct schema_resource *r = p->resource;
    bool everywhere = r->namespaced && !p->in_namespace;
    unsigned verbs = p->sub ? p->sub->verbs : r->verbs;
    buf_printf(b, "\"%s%.*s/%.*s%s/%.*s%s", r->group.n ? "/apis/" : "/api", STR_ARG(r->group), STR_ARG(r->version),
               p->in_namespace ? "/namespaces/{namespace}" : "", STR_ARG(r->plural), p->item ? "/{name}" : "");
    if (p->sub)
        buf_printf(b, "/%.*s", STR_ARG(p->sub->name));
    buf_puts(b, "\":{");
    for (size_t i = 0; i < ARRAY_LEN(operations); i++) {
        const struct operation *o = &operations[i];
        /* What is created below an object, as an eviction, is posted to the item's path. */
        bool fits = o->collection != p->item || (p->sub && o->verb == VERB_CREATE);
        if (fits && (verbs & o->verb) && (!everywhere || o->verb == VERB_LIST))
            put_operation(p, o);
    }
    put_shared_parameters(p);
    buf_putc(b, '}');
}

void openapi_each_path(struct openapi_doc *d, const struct schema_resource *r, openapi_each_fn *each, void *arg) {
    const unsigned collection = VERB_LIST | VERB_CREATE | VERB_DELETECOLLECTION;
    const unsigned item = VERB_GET | VERB_UPDATE | VERB_PATCH | VERB_DELETE;
    struct path p = {.doc = d, .resource = r};
    if (!r->type)
        return;
    if (r->namespaced && (r->verbs & VERB_LIST)) {
        put_path(&p);
        each(arg);
    }
    p.in_namespace = r->namespaced;
    if (r->verbs & collection) {
        put_path(&p);
        each(arg);
    }
    p.item = true;
    if (r->verbs & item) {
        put_path(&p);
        each(arg);
    }
    for (size_t i = 0; i < r->subresources_n; i++) {
        p.sub = &r->subresources[i];
        put_path(&p);
        each(arg);
    }
}
