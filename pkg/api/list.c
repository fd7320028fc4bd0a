/*
 * Lists: selectors, pages and the rules of resourceVersion. A page token holds the revision of the first page, the key
 * where the next one starts and how many are left; it expires with the watch history, so that a client can always catch
 * up from the list's resourceVersion by a watch.
 */
#include "api/api_priv.h"

/* --- selectors --------------------------------------------------------------------------------------------------- */

bool selectors_parse(struct api_request *q, struct selectors *s) {
    struct error err = {0};
    struct str l = request_param(q, "labelSelector"), f = request_param(q, "fieldSelector");
    *s = (struct selectors){0};
    if (l.n && !(s->labels = label_selector_parse(q->arena, l, &err))) {
        reply_error(q, 400, "BadRequest", "unable to parse requirement: %s", err.msg);
        return false;
    }
    if (f.n && !(s->fields = field_selector_parse(q->arena, q->r, f, &err))) {
        reply_error(q, 400, "BadRequest", "%s", err.msg);
        return false;
    }
    if (s->labels && label_selector_empty(s->labels))
        s->labels = NULL;
    return true;
}

bool selectors_empty(const struct selectors *s) {
    return !s->labels && !s->fields;
}

bool selectors_match(const struct selectors *s, const struct schema_resource *r, const struct json *obj) {
    if (s->labels && !label_selector_matches(s->labels, json_at(obj, "metadata.labels")))
        return false;
    if (!s->fields || r == r->storage)
        return !s->fields || field_selector_matches(s->fields, r, obj);
    /* Another version may name its fields differently (events). */
    cleanup_arena struct arena *a = arena_new(0, 0);
    const struct json *v = schema_convert(a, r->storage, r, obj, NULL);
    return v && field_selector_matches(s->fields, r, v);
}

/* --- list options ------------------------------------------------------------------------------------------------ */

static void options_invalid(struct api_request *q, const char *text) {
    reply_error(q, 422, "Invalid", "ListOptions.meta.k8s.io \"\" is invalid: %s", text);
}

/* resourceVersionMatch against its companions. false: answered. */
bool list_options_check(struct api_request *q, bool watch) {
    struct str match = request_param(q, "resourceVersionMatch"), rv = request_param(q, "resourceVersion");
    struct str token = request_param(q, "continue");
    bool initial = request_param(q, "sendInitialEvents").n > 0;
    const char *bad = NULL;
    if (match.n && !str_eq_c(match, "Exact") && !str_eq_c(match, "NotOlderThan"))
        bad = "resourceVersionMatch: Unsupported value: supported values: \"Exact\", \"NotOlderThan\", \"\"";
    else if (initial && !watch)
        bad = "sendInitialEvents: Forbidden: sendInitialEvents is forbidden for list";
    else if (initial && !str_eq_c(match, "NotOlderThan"))
        bad =
            "resourceVersionMatch: Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan";
    else if (watch && match.n && !initial)
        bad = "resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden for watch unless sendInitialEvents is"
              " provided";
    else if (match.n && token.n)
        bad = "resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden when continue is provided";
    else if (!watch && match.n && rv.n == 0)
        bad = "resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden unless resourceVersion is provided";
    else if (str_eq_c(match, "Exact") && str_eq_c(rv, "0"))
        bad = "resourceVersionMatch: Forbidden: resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"";
    if (bad)
        options_invalid(q, bad);
    return !bad;
}

/* --- pages ------------------------------------------------------------------------------------------------------- */

struct page {
    int64_t limit, revision, left; /* limit 0: all; revision 0: a first page; -1: any (inconsistent continue) */
    struct str ns, name;           /* after which; p == NULL on a first page */
};

static struct str page_token(struct arena *a, int64_t revision, int64_t left, struct str ns, struct str name) {
    struct json *v = json_object(a);
    json_set_cstr(a, v, "v", "meta.k8s.io/v1");
    json_set_int(a, v, "rv", revision);
    json_set_str(a, v, "start", str_printf(a, "%.*s/%.*s", STR_ARG(ns), STR_ARG(name)));
    if (left >= 0)
        json_set_int(a, v, "left", left);
    struct buf b = BUF_INIT;
    struct str text = json_text(a, v);
    base64url_encode(&b, text.p, text.n);
    struct str out = str_dup(a, buf_str(&b));
    buf_fini(&b);
    return out;
}

static bool page_token_parse(struct arena *a, struct str token, struct page *p) {
    struct buf b;
    buf_init(&b, KiB(4));
    struct json *v = NULL;
    if (base64url_decode(&b, token) == 0 && !b.failed)
        v = json_parse(a, str_dup(a, buf_str(&b)), NULL, NULL);
    buf_fini(&b);
    struct str start = json_str_at(v, "start");
    p->revision = json_int_at(v, "rv", 0);
    p->left = json_int_at(v, "left", -1);
    return str_eq_c(json_str_at(v, "v"), "meta.k8s.io/v1") && p->revision != 0 && str_cut(start, '/', &p->ns, &p->name);
}

static void page_expired(struct api_request *q, const struct page *p) {
    q->status_continue = page_token(q->arena, -1, -1, p->ns, p->name);
    reply_error(q, 410, "Expired",
                "The provided continue parameter is too old to display a consistent list result. You "
                "can start a new list without the continue parameter, or use the continue token in this response to "
                "retrieve the remainder of the results. Continuing with the provided token results in an inconsistent "
                "list - objects that were created, modified, or deleted between the time the first chunk was returned "
                "and now may show up in the list.");
}

/* false: answered. */
static bool page_parse(struct api_request *q, struct page *p) {
    struct str limit = request_param(q, "limit"), token = request_param(q, "continue");
    *p = (struct page){.left = -1};
    if (limit.n && (!str_to_i64(limit, &p->limit) || p->limit < 0)) {
        reply_error(q, 400, "BadRequest", "Invalid value: \"%.*s\": limit must be a number that is not negative",
                    STR_ARG(limit));
        return false;
    }
    if (token.n == 0)
        return true;
    struct str rv = request_param(q, "resourceVersion");
    if (rv.n && !str_eq_c(rv, "0")) {
        reply_error(q, 400, "BadRequest", "specifying resource version is not allowed when using continue");
        return false;
    }
    if (!page_token_parse(q->arena, token, p)) {
        reply_error(q, 400, "BadRequest", "continue key is not valid: it was not made by this server");
        return false;
    }
    if (p->revision > 0 && p->revision < store_oldest_revision(q->api->store)) {
        page_expired(q, p);
        return false;
    }
    if (p->revision < 0 || p->revision > store_revision(q->api->store))
        p->revision = store_revision(q->api->store);
    return true;
}

struct collect {
    struct selectors s;
    const struct schema_resource *r;
    struct str ns;
    size_t limit;
    bool more, count_rest;
    int64_t rest;
    VEC(struct object *) list;
};

static bool collect_one(void *arg, struct object *o) {
    struct collect *c = arg;
    if (c->limit && c->list.n == c->limit) {
        if (!c->count_rest) {
            c->more = selectors_empty(&c->s) || selectors_match(&c->s, c->r, object_json(o));
            return !c->more;
        }
        c->more = true;
        c->rest++;
        return true;
    }
    if (selectors_empty(&c->s) || selectors_match(&c->s, c->r, object_json(o)))
        vec_push(&c->list, object_ref(o));
    return true;
}

static void list_collect(struct api_request *q, struct collect *c, const struct page *p) {
    struct store_kind *kind = api_resource(q->api, q->r)->kind;
    struct str ns = q->r->namespaced && q->t.ns.n ? q->t.ns : STR_NULL;
    bool plain = selectors_empty(&c->s);
    /* Counting what is left needs no walk over a whole kind; a token brings the count along. */
    bool known = plain && (p->left >= 0 || (!ns.p && !p->ns.p));
    c->r = q->r;
    c->limit = (size_t)p->limit;
    c->count_rest = plain && !known;
    store_each(q->api->store, kind, ns, p->ns, p->name, collect_one, c);
    if (known && c->more) {
        int64_t all = p->left >= 0 ? p->left : (int64_t)store_count(q->api->store, kind);
        c->rest = all > (int64_t)c->list.n ? all - (int64_t)c->list.n : 1;
    }
}

void rest_list(struct api_request *q) {
    struct collect c = {0};
    struct page p;
    struct store *s = q->api->store;
    struct str rv = request_param(q, "resourceVersion");
    if (!list_options_check(q, false) || !request_version_reached(q, rv) || !page_parse(q, &p) ||
        !selectors_parse(q, &c.s))
        return;
    int64_t now = store_revision(s), exact = 0;
    if (str_eq_c(request_param(q, "resourceVersionMatch"), "Exact") && str_to_i64(rv, &exact) && exact != now) {
        reply_error(q, 410, "Expired", "The resourceVersion for the provided list is too old.");
        return;
    }
    if (api_resource(q->api, q->r)->kind) /* else there is never one: componentstatuses */
        list_collect(q, &c, &p);
    int64_t revision = p.revision > 0 ? p.revision : now;
    q->objects = c.list.items;
    q->objects_n = c.list.n;
    q->list_version = str_printf(q->arena, "%lld", (long long)revision);
    if (c.more && c.list.n) {
        struct object *last = c.list.items[c.list.n - 1];
        q->list_remaining = c.rest;
        q->list_continue = page_token(q->arena, revision, selectors_empty(&c.s) ? c.rest : -1, last->ns, last->name);
    }
    request_when_durable(q, now, reply_list);
}
