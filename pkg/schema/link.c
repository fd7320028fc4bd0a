/*
 * Linking what compile.c read: the types that fields name, embedded structs, resources in order with their types and
 * storage versions.
 */
#include "schema/compile.h"

#include <stdlib.h>

#define ALIAS_DEPTH_MAX 8
#define EMBED_DEPTH_MAX 2

/* --- resolving types --- */

static struct ctype *derived(struct compiler *c, struct ctype **slot, enum schema_kind kind, struct ctype *element) {
    if (!*slot) {
        *slot = ARENA_NEW(c->s->arena, struct ctype);
        (*slot)->pub = (struct schema_type){.kind = kind, .name = STR(""), .element = &element->pub, .description = ""};
    }
    return *slot;
}

/* The same map or struct owned the other way in server-side apply. */
static struct ctype *turned(struct compiler *c, struct ctype *t) {
    if (!t->turned) {
        t->turned = ARENA_NEW(c->s->arena, struct ctype);
        t->turned->pub = t->pub;
        t->turned->pub.atomic = !t->pub.atomic;
    }
    return t->turned;
}

static int resolve_alias(struct compiler *c, struct ctype *t, int depth, struct error *err);

static struct ctype *resolve_name(struct compiler *c, struct str name, size_t version, int depth, struct error *err) {
    struct schema_type *found = NULL;
    ptrdiff_t dot = str_rindex(name, '.');
    if (dot >= 0)
        found = schema_type_find2(c->s, str_n(name.p, (size_t)dot), str_skip(name, (size_t)dot + 1));
    else
        found = schema_type_find2(c->s, c->s->versions[version].id, name);
    if (found) {
        struct ctype *t = CONTAINER_OF(found, struct ctype, pub);
        return t->target.n > 0 && resolve_alias(c, t, depth + 1, err) < 0 ? NULL : t;
    }
    for (size_t i = 0; i < SCHEMA_SCALARS; i++)
        if (str_eq(c->scalars[i].pub.name, name))
            return &c->scalars[i];
    error_set(err, -EINVAL, "schema: %.*s has no type %.*s", STR_ARG(c->s->versions[version].id), STR_ARG(name));
    return NULL;
}

/* expr: "*[]Name" and so on, up to the next blank or line end. */
static struct ctype *resolve(struct compiler *c, struct str expr, size_t version, int depth, struct error *err) {
    static const struct str list = STR_INIT("[]"), map = STR_INIT("map[string]");
    if (depth > ALIAS_DEPTH_MAX) {
        error_set(err, -EINVAL, "schema: %.*s is made of too many others", STR_ARG(expr));
        return NULL;
    }
    if (expr.n > 0 && expr.p[0] == '*')
        expr = str_skip(expr, 1);
    bool is_list = str_starts(expr, list), is_map = !is_list && str_starts(expr, map);
    if (!is_list && !is_map)
        return resolve_name(c, expr, version, depth, err);
    struct ctype *e = resolve(c, str_skip(expr, is_list ? list.n : map.n), version, depth + 1, err);
    if (!e)
        return NULL;
    return is_list ? derived(c, &e->list, SCHEMA_LIST, e) : derived(c, &e->map, SCHEMA_MAP, e);
}

static int resolve_alias(struct compiler *c, struct ctype *t, int depth, struct error *err) {
    struct str expr = t->target, name = t->pub.name;
    bool pb_items = t->pub.pb_items;
    const char *description = t->pub.description;
    struct ctype *to = resolve(c, expr, t->version, depth, err);
    if (!to)
        return err ? err->code : -EINVAL;
    t->target = STR_NULL;
    t->pub = to->pub;
    t->pub.name = name;
    t->pub.pb_items = pb_items || to->pub.pb_items;
    t->pub.description = *description ? description : to->pub.description;
    t->has_embeds = to->has_embeds;
    return 0;
}

static struct str expr_at(const struct compiler *c, size_t i) {
    const char *p = c->exprs[i], *end = p;
    while (*end && *end != ' ' && *end != '\n')
        end++;
    return str_n(p, (size_t)(end - p));
}

/* Whether word stands in the line behind the type. */
static bool has_flag(struct str expr, const char *flag) {
    const char *p = expr.p + expr.n, *end = strchr(p, '\n');
    struct str rest = {p, end ? (size_t)(end - p) : strlen(p)}, w;
    while ((w = schema_word(&rest)).n > 0 && !str_starts(w, STR("default=")))
        if (str_eq_c(w, flag))
            return true;
    return false;
}

int schema_resolve_fields(struct compiler *c, struct error *err) {
    for (size_t i = 0; i < c->fields_n; i++) {
        struct schema_field *f = &c->fields[i];
        struct ctype *owner = CONTAINER_OF(f->owner, struct ctype, pub);
        struct str expr = expr_at(c, i);
        struct ctype *t = resolve(c, expr, owner->version, 0, err);
        if (!t)
            return -EINVAL;
        if ((t->pub.kind == SCHEMA_MAP || t->pub.kind == SCHEMA_STRUCT) &&
            has_flag(expr, t->pub.atomic ? "granular" : "atomic"))
            t = turned(c, t);
        if (f->name.n == 0 && t->pub.kind != SCHEMA_STRUCT)
            return error_set(err, -EINVAL, "schema: %.*s is no struct and cannot be embedded", STR_ARG(expr));
        f->type = &t->pub;
    }
    for (size_t i = 0; i < c->types_n; i++)
        if (c->types[i]->target.n > 0 && resolve_alias(c, c->types[i], 0, err) < 0)
            return -EINVAL;
    return 0;
}

/* --- embedded structs --- */

static size_t flat_n(const struct schema_type *t, int depth) {
    size_t n = 0;
    for (size_t i = 0; i < t->fields_n; i++)
        n += t->fields[i].name.n || depth >= EMBED_DEPTH_MAX ? 1 : flat_n(t->fields[i].type, depth + 1);
    return n;
}

static struct schema_field *flatten_into(struct schema_field *out, const struct schema_type *owner,
                                         const struct schema_type *t, const uint8_t *path, int depth) {
    for (size_t i = 0; i < t->fields_n; i++) {
        const struct schema_field *f = &t->fields[i];
        if (f->name.n || depth >= EMBED_DEPTH_MAX) {
            *out = *f;
            out->owner = owner;
            memcpy(out->pb_path, path, EMBED_DEPTH_MAX);
            out++;
            continue;
        }
        uint8_t inner[EMBED_DEPTH_MAX];
        memcpy(inner, path, sizeof(inner));
        inner[depth] = (uint8_t)f->pb;
        out = flatten_into(out, owner, f->type, inner, depth + 1);
    }
    return out;
}

void schema_flatten_all(struct compiler *c) {
    /* From fields that are still as read; put in place only when all are made, aliases of a struct too. */
    struct schema_field **made = xcalloc(c->types_n + 1, sizeof(struct schema_field *));
    size_t *n = xcalloc(c->types_n + 1, sizeof(*n));
    static const uint8_t none[EMBED_DEPTH_MAX];
    for (size_t i = 0; i < c->types_n; i++) {
        struct schema_type *t = &c->types[i]->pub;
        if (t->kind != SCHEMA_STRUCT || !c->types[i]->has_embeds)
            continue;
        n[i] = flat_n(t, 0);
        made[i] = arena_alloc(c->s->arena, n[i] * sizeof(struct schema_field));
        flatten_into(made[i], t, t, none, 0);
    }
    for (size_t i = 0; i < c->types_n; i++) {
        if (made[i]) {
            c->types[i]->pub.fields = made[i];
            c->types[i]->pub.fields_n = n[i];
        }
        struct ctype *other = c->types[i]->turned;
        if (other) {
            other->pub.fields = c->types[i]->pub.fields;
            other->pub.fields_n = c->types[i]->pub.fields_n;
        }
    }
    free(made);
    free(n);
}

static bool type_has_defaults(const struct schema_type *t) {
    for (int depth = 0; t && depth < ALIAS_DEPTH_MAX; depth++, t = t->element)
        if (t->has_defaults)
            return true;
    return false;
}

/* Types refer to each other in cycles: goes round until nothing changes. */
void schema_mark_defaults(struct compiler *c) {
    for (size_t i = 0; i < c->types_n; i++) {
        struct schema_type *t = &c->types[i]->pub;
        t->default_hook = schema_default_hook(t->name);
        t->has_defaults = t->has_defaults || t->default_hook;
    }
    for (bool changed = true; changed;) {
        changed = false;
        for (size_t i = 0; i < c->types_n; i++) {
            struct schema_type *t = &c->types[i]->pub;
            for (size_t k = 0; !t->has_defaults && t->kind == SCHEMA_STRUCT && k < t->fields_n; k++)
                if (t->fields[k].default_text.n > 0 || type_has_defaults(t->fields[k].type))
                    t->has_defaults = changed = true;
            if (c->types[i]->turned)
                c->types[i]->turned->pub.has_defaults = t->has_defaults;
        }
    }
}

/* --- resources --- */

static const struct schema_resource *storage_of(struct compiler *c, size_t i, struct error *err) {
    const struct schema_resource *r = &c->s->resources[i];
    struct str group, version;
    if (c->storages[i].n == 0)
        return r;
    if (str_cut(c->storages[i], '/', &group, &version)) {
        if (str_eq(group, STR("core")))
            group = STR("");
        for (size_t k = 0; k < c->s->resources_n; k++) {
            const struct schema_resource *other = &c->s->resources[k];
            if (str_eq(other->plural, r->plural) && str_eq(other->group, group) && str_eq(other->version, version) &&
                c->storages[k].n == 0)
                return other;
        }
    }
    error_set(err, -EINVAL, "schema: %.*s are stored as %.*s, which is not there", STR_ARG(r->plural),
              STR_ARG(c->storages[i]));
    return NULL;
}

/* "apps/v1" of its parts, "core/v1" for the group without a name. */
static struct str version_id(struct arena *a, struct str group, struct str version) {
    return group.n ? str_printf(a, "%.*s/%.*s", STR_ARG(group), STR_ARG(version))
                   : str_printf(a, "core/%.*s", STR_ARG(version));
}

/* What a version takes over from the one it is stored as. */
static void inherit(struct schema_resource *r, const struct schema_resource *storage) {
    if (r->columns_n == 0) {
        r->columns = storage->columns;
        r->columns_n = storage->columns_n;
    }
    if (r == storage)
        return;
    r->storage_hash = storage->storage_hash;
    if (r->defaults_n == 0 && r->type->fields == storage->type->fields) {
        r->defaults = storage->defaults;
        r->defaults_n = storage->defaults_n;
    }
}

static int link_resource(struct compiler *c, size_t i, struct error *err) {
    struct schema_resource *r = &c->s->resources[i];
    struct schema *s = c->s;
    const struct schema_resource *storage = r->storage = storage_of(c, i, err);
    if (!storage)
        return -EINVAL;
    inherit(r, storage);
    r->key = storage->group.n == 0 ? str_dup(s->arena, r->plural)
                                   : str_printf(s->arena, "%.*s.%.*s", STR_ARG(r->plural), STR_ARG(storage->group));
    for (size_t k = 0; k < r->subresources_n; k++) {
        struct schema_subresource *sub = (struct schema_subresource *)(uintptr_t)&r->subresources[k];
        sub->type = schema_type_find2(s, version_id(s->arena, sub->group, sub->version), sub->kind);
    }
    return 0;
}

int schema_link_resources(struct compiler *c, struct error *err) {
    struct schema *s = c->s;
    for (size_t i = 0; i < s->resources_n; i++) {
        struct schema_resource *r = &s->resources[i];
        struct str id = version_id(s->arena, r->group, r->version);
        r->type = schema_type_find2(s, id, r->kind);
        if (!r->type)
            return error_set(err, -EINVAL, "schema: the resource %.*s has no type %.*s.%.*s", STR_ARG(r->plural),
                             STR_ARG(id), STR_ARG(r->kind));
    }
    for (size_t i = 0; i < s->resources_n; i++) {
        int rc = link_resource(c, i, err);
        if (rc < 0)
            return rc;
    }
    return 0;
}

struct order {
    int64_t group_priority, priority;
    size_t at;
};

static const struct schema_version *version_of(const struct schema *s, const struct schema_resource *r) {
    for (size_t i = 0; i < s->versions_n; i++)
        if (str_eq(s->versions[i].group, r->group) && str_eq(s->versions[i].version, r->version))
            return &s->versions[i];
    return NULL;
}

static int by_priority(const void *pa, const void *pb) {
    const struct order *a = pa, *b = pb;
    if (a->group_priority != b->group_priority)
        return a->group_priority > b->group_priority ? -1 : 1;
    if (a->priority != b->priority)
        return a->priority > b->priority ? -1 : 1;
    return a->at < b->at ? -1 : a->at > b->at;
}

/* Resources and versions by priority, highest first; otherwise as in the files. */
void schema_sort_all(struct compiler *c) {
    struct schema *s = c->s;
    struct order *order = xcalloc(MAX(s->resources_n, s->versions_n) + 1, sizeof(*order));
    struct schema_resource *old = xcalloc(s->resources_n + 1, sizeof(*old));
    struct str *storages = xcalloc(s->resources_n + 1, sizeof(*storages));
    for (size_t i = 0; i < s->resources_n; i++) {
        const struct schema_version *v = version_of(s, &s->resources[i]);
        order[i] = (struct order){v->group_priority, v->priority, i};
        old[i] = s->resources[i];
        storages[i] = c->storages[i];
    }
    qsort(order, s->resources_n, sizeof(*order), by_priority);
    for (size_t i = 0; i < s->resources_n; i++) {
        s->resources[i] = old[order[i].at];
        s->resources[i].index = i;
        c->storages[i] = storages[order[i].at];
    }
    struct schema_version *versions = xcalloc(s->versions_n + 1, sizeof(*versions));
    for (size_t i = 0; i < s->versions_n; i++) {
        versions[i] = s->versions[i];
        order[i] = (struct order){versions[i].group_priority, versions[i].priority, i};
    }
    qsort(order, s->versions_n, sizeof(*order), by_priority);
    for (size_t i = 0; i < s->versions_n; i++)
        s->versions[i] = versions[order[i].at];
    free(versions);
    free(storages);
    free(old);
    free(order);
}
