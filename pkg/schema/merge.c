/*
 * Strategic merge patch, as kubectl makes it: maps merge, lists replace or merge by a key of their items (or by value)
 * as the schema says, directives ($patch, $retainKeys, $setElementOrder/x, $deleteFromPrimitiveList/x) change that.
 * Parts without a schema merge as JSON merge patch does.
 */
#include "schema/schema_private.h"

#include <stdlib.h>

#define ORDER_PREFIX "$setElementOrder/"
#define DELETE_PREFIX "$deleteFromPrimitiveList/"

struct merger {
    struct arena *a;
    struct error *err;
};

static int merge_map(struct merger *m, const struct schema_type *t, struct json *obj, const struct json *patch);

static bool is_directive(struct str key) {
    return key.n > 0 && key.p[0] == '$' &&
           (str_eq(key, STR("$patch")) || str_eq(key, STR("$retainKeys")) || str_starts(key, STR(ORDER_PREFIX)) ||
            str_starts(key, STR(DELETE_PREFIX)));
}

/* patch["PREFIX" name], which must be a list; *out is NULL when it is absent. */
static int directive_list(struct merger *m, const struct json *patch, const char *prefix, struct str name,
                          const struct json **out) {
    *out = NULL;
    for (uint32_t i = 0; i < patch->n; i++) {
        struct str key = patch->members[i].key, rest = str_skip(key, strlen(prefix));
        if (!str_starts(key, str_c(prefix)) || !str_eq(rest, name))
            continue;
        if (patch->members[i].value->type != JSON_ARRAY)
            return error_set(m->err, -EINVAL, "%.*s must be a list", STR_ARG(key));
        *out = patch->members[i].value;
    }
    return 0;
}

/* --- lists: items are found by the text of their merge key, or of themselves --- */

struct list_merge {
    struct merger *m;
    const struct schema_type *element; /* NULL: unknown */
    struct str key;                    /* of maps; "": items are primitive */
    struct json *list;                 /* the result, in place */
};

/* What identifies an item; p == NULL when it lacks the key. */
static struct str identity(const struct list_merge *l, const struct json *item) {
    const struct json *id = item;
    if (l->key.n > 0)
        id = json_is(item, JSON_OBJECT) ? json_get(item, l->key) : NULL;
    return id ? json_text(l->m->a, id) : STR_NULL;
}

/* Numbers of the items, from 1, by identity; the first of equal ones. */
static void index_items(const struct list_merge *l, const struct json *list, struct map *out) {
    for (size_t i = 0; i < json_len(list); i++) {
        struct str id = identity(l, list->items[i]);
        if (id.p && !map_get(out, id))
            map_set(out, id, (void *)(uintptr_t)(i + 1));
    }
}

static size_t number_of(const struct map *index, struct str id) {
    return id.p ? (size_t)(uintptr_t)map_get(index, id) : 0;
}

static int lacks_key(const struct list_merge *l, const struct json *item) {
    struct str text = json_text(l->m->a, item);
    return error_set(l->m->err, -EINVAL, "map: %.*s does not contain declared merge key: %.*s",
                     (int)MIN(text.n, (size_t)200), text.p, STR_ARG(l->key));
}

/* Removes the items that are marked; marks: one for each item. */
static void remove_marked(struct json *list, const bool *marks) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < list->n; i++)
        if (!marks[i])
            list->items[n++] = list->items[i];
    list->n = n;
}

static void remove_values(const struct list_merge *l, const struct json *gone) {
    cleanup_map struct map ids = {0};
    cleanup_free bool *marks = xcalloc(l->list->n + 1u, sizeof(*marks));
    index_items(l, gone, &ids);
    for (uint32_t i = 0; i < l->list->n; i++)
        marks[i] = number_of(&ids, identity(l, l->list->items[i])) > 0;
    remove_marked(l->list, marks);
}

static struct str patch_type(const struct json *item) {
    return json_is(item, JSON_OBJECT) ? json_as_str(json_get_c(item, "$patch")) : STR("");
}

/* An item {"$patch": "delete", KEY: x} takes x out; {"$patch": "replace"} empties the list. */
static int apply_special_items(const struct list_merge *l, const struct json *patch) {
    cleanup_map struct map gone = {0};
    cleanup_free bool *marks = xcalloc(l->list->n + 1u, sizeof(*marks));
    for (uint32_t i = 0; i < patch->n; i++) {
        struct str type = patch_type(patch->items[i]);
        if (type.n == 0)
            continue;
        if (str_eq(type, STR("replace"))) {
            l->list->n = 0;
            return 0;
        }
        if (str_eq(type, STR("merge")))
            return error_set(l->m->err, -EINVAL, "merging lists cannot yet be specified in the patch");
        if (!str_eq(type, STR("delete")))
            return error_set(l->m->err, -EINVAL, "unknown patch type: %.*s", STR_ARG(type));
        struct str id = identity(l, patch->items[i]);
        if (!id.p)
            return lacks_key(l, patch->items[i]);
        map_set(&gone, id, (void *)(uintptr_t)1);
    }
    for (uint32_t i = 0; i < l->list->n; i++)
        marks[i] = number_of(&gone, identity(l, l->list->items[i])) > 0;
    remove_marked(l->list, marks);
    return 0;
}

static int merge_items(const struct list_merge *l, const struct json *patch) {
    cleanup_map struct map index = {0};
    index_items(l, l->list, &index);
    for (uint32_t i = 0; i < patch->n; i++) {
        const struct json *item = patch->items[i];
        if (patch_type(item).n > 0)
            continue;
        struct str id = identity(l, item);
        if (l->key.n > 0 && !id.p)
            return lacks_key(l, item);
        size_t at = number_of(&index, id);
        if (l->key.n == 0) {
            if (at == 0)
                json_append(l->m->a, l->list, json_copy(l->m->a, item));
        } else {
            if (at == 0)
                json_append(l->m->a, l->list, json_object(l->m->a));
            int rc = merge_map(l->m, l->element, l->list->items[at ? at - 1 : l->list->n - 1], item);
            if (rc < 0)
                return rc;
        }
        if (at == 0)
            map_set(&index, id, (void *)(uintptr_t)l->list->n);
    }
    return 0;
}

struct placed {
    struct json *item;
    size_t ordered, server; /* places in $setElementOrder and in the list that was there; 0: none */
};

static int by_order(const void *pa, const void *pb) {
    const struct placed *a = pa, *b = pb;
    return a->ordered < b->ordered ? -1 : a->ordered > b->ordered;
}

/* The items that order names in its order; between them the others, where the server had them. */
static void set_order(const struct list_merge *l, const struct json *order, const struct json *server) {
    cleanup_map struct map wanted = {0}, was = {0};
    uint32_t n = l->list->n, named_n = 0, others_n = 0;
    cleanup_free struct placed *named = xcalloc(n + 1u, sizeof(*named)), *others = xcalloc(n + 1u, sizeof(*others));
    index_items(l, order, &wanted);
    index_items(l, server, &was);
    for (uint32_t i = 0; i < n; i++) {
        struct str id = identity(l, l->list->items[i]);
        struct placed p = {l->list->items[i], number_of(&wanted, id), number_of(&was, id)};
        if (p.ordered)
            named[named_n++] = p;
        else
            others[others_n++] = p;
    }
    qsort(named, named_n, sizeof(*named), by_order);
    for (uint32_t i = 0, a = 0, b = 0; i < n; i++) {
        bool other =
            a == named_n || (b < others_n && named[a].server && others[b].server && others[b].server < named[a].server);
        l->list->items[i] = other ? others[b++].item : named[a++].item;
    }
}

/* Every item of the patch must be in the order, and the patch must keep that order. */
static int check_order(const struct list_merge *l, const struct json *patch, const struct json *order) {
    cleanup_map struct map wanted = {0};
    size_t last = 0;
    index_items(l, order, &wanted);
    for (size_t i = 0; i < json_len(patch); i++) {
        if (patch_type(patch->items[i]).n > 0)
            continue;
        size_t at = number_of(&wanted, identity(l, patch->items[i]));
        if (at == 0 || at < last)
            return error_set(l->m->err, -EINVAL, "The order in patch list doesn't match the $setElementOrder list");
        last = at;
    }
    return 0;
}

/* A copy without the nulls and directives that mean something only when there is something to change. */
static int take(struct merger *m, const struct schema_type *t, const struct json *patch, struct json **out) {
    if (patch->type == JSON_OBJECT) {
        *out = json_object(m->a);
        return merge_map(m, t, *out, patch);
    }
    if (patch->type != JSON_ARRAY) {
        *out = json_copy(m->a, patch);
        return 0;
    }
    *out = json_array(m->a);
    const struct schema_type *element = t && t->kind == SCHEMA_LIST ? t->element : NULL;
    for (uint32_t i = 0; i < patch->n; i++) {
        struct json *item;
        if (patch_type(patch->items[i]).n > 0)
            continue;
        int rc = take(m, element, patch->items[i], &item);
        if (rc < 0)
            return rc;
        json_append(m->a, *out, item);
    }
    return 0;
}

/* Merges the list called name: its items in the patch, those to delete, the order; each may be absent. */
static int merge_list(struct merger *m, const struct schema_field *f, struct json *obj, struct str name,
                      const struct json *patch) {
    const struct json *items = json_get(patch, name), *gone, *order;
    int rc = directive_list(m, patch, DELETE_PREFIX, name, &gone);
    if (rc == 0)
        rc = directive_list(m, patch, ORDER_PREFIX, name, &order);
    if (rc < 0)
        return rc;
    if (json_is(items, JSON_NULL)) {
        json_del(obj, name);
        return 0;
    }
    if (items && items->type != JSON_ARRAY)
        return error_set(m->err, -EINVAL, "%.*s must be a list", STR_ARG(name));
    struct json *list = json_get(obj, name);
    const struct json *server = list = json_is(list, JSON_ARRAY) ? list : json_array(m->a);
    bool typed = f && f->type->kind == SCHEMA_LIST;
    struct list_merge l = {.m = m,
                           .element = typed ? f->type->element : NULL,
                           .key = f ? f->patch_key : STR(""),
                           .list = json_array(m->a)};
    if (typed && l.element->kind == SCHEMA_STRUCT && l.key.n == 0)
        return error_set(m->err, -EINVAL, "cannot merge lists without merge key for type %.*s",
                         STR_ARG(l.element->name));
    for (uint32_t i = 0; i < server->n; i++)
        json_append(m->a, l.list, server->items[i]);
    if (order)
        rc = check_order(&l, items, order);
    if (rc == 0 && gone)
        remove_values(&l, gone);
    if (rc == 0 && items)
        rc = apply_special_items(&l, items);
    if (rc == 0 && items)
        rc = merge_items(&l, items);
    if (rc < 0)
        return rc;
    if (order)
        set_order(&l, order, server);
    json_set(m->a, obj, name, l.list);
    return 0;
}

/* --- maps --- */

static int retain_keys(struct merger *m, struct json *obj, const struct json *patch, const struct json *keys) {
    cleanup_map struct map kept = {0};
    if (keys->type != JSON_ARRAY)
        return error_set(m->err, -EINVAL, "invalid patch format of retainKeys");
    for (uint32_t i = 0; i < keys->n; i++)
        if (json_is(keys->items[i], JSON_STRING))
            map_set(&kept, keys->items[i]->s, (void *)(uintptr_t)1);
    for (uint32_t i = 0; i < patch->n; i++)
        if (!is_directive(patch->members[i].key) && patch->members[i].value->type != JSON_NULL &&
            !map_get(&kept, patch->members[i].key))
            return error_set(m->err, -EINVAL, "invalid patch format of retainKeys");
    uint32_t n = 0;
    for (uint32_t i = 0; i < obj->n; i++)
        if (map_get(&kept, obj->members[i].key))
            obj->members[n++] = obj->members[i];
    obj->n = n;
    return 0;
}

static const struct schema_type *member_type(const struct schema_type *t, const struct schema_field *f) {
    if (f)
        return f->type;
    return t && t->kind == SCHEMA_MAP ? t->element : NULL;
}

static bool has_list_directive(const struct json *patch, struct str name) {
    for (uint32_t i = 0; i < patch->n; i++) {
        struct str key = patch->members[i].key;
        if (str_starts(key, STR(ORDER_PREFIX)) && str_eq(str_skip(key, strlen(ORDER_PREFIX)), name))
            return true;
        if (str_starts(key, STR(DELETE_PREFIX)) && str_eq(str_skip(key, strlen(DELETE_PREFIX)), name))
            return true;
    }
    return false;
}

static int merge_member(struct merger *m, const struct schema_type *t, struct json *obj, struct str key,
                        const struct json *value, const struct json *patch) {
    const struct schema_field *f = schema_field_find(t, key);
    struct json *there = json_get(obj, key), *taken;
    if (value->type == JSON_NULL) {
        json_del(obj, key);
        return 0;
    }
    if (value->type == JSON_ARRAY && f && f->patch_merge)
        return merge_list(m, f, obj, key, patch);
    if (value->type == JSON_OBJECT && json_is(there, JSON_OBJECT))
        return merge_map(m, member_type(t, f), there, value);
    int rc = take(m, member_type(t, f), value, &taken);
    if (rc < 0)
        return rc;
    /* {"$patch": "delete"} of something that is not there leaves nothing. */
    if (str_eq(patch_type(value), STR("delete")) && !there)
        return 0;
    json_set(m->a, obj, key, taken);
    return 0;
}

/* A list directive is dealt with once for each list, at the first of its two directives. */
static int merge_directive(struct merger *m, const struct schema_type *t, struct json *obj, struct str key,
                           const struct json *patch) {
    bool order = str_starts(key, STR(ORDER_PREFIX)), gone = str_starts(key, STR(DELETE_PREFIX));
    const struct json *other;
    if (!order && !gone)
        return 0;
    struct str name = str_skip(key, order ? strlen(ORDER_PREFIX) : strlen(DELETE_PREFIX));
    if (gone) {
        int rc = directive_list(m, patch, ORDER_PREFIX, name, &other);
        if (rc < 0 || other)
            return rc;
    }
    return merge_list(m, schema_field_find(t, name), obj, name, patch);
}

static int merge_map(struct merger *m, const struct schema_type *t, struct json *obj, const struct json *patch) {
    const struct json *type = json_get_c(patch, "$patch"), *keys = json_get_c(patch, "$retainKeys");
    struct str name = json_as_str(type);
    int rc = 0;
    if (type && !str_eq(name, STR("merge")) && !str_eq(name, STR("replace")) && !str_eq(name, STR("delete")))
        return error_set(m->err, -EINVAL, "unknown patch type: %.*s", STR_ARG(name));
    if (type && !str_eq(name, STR("merge")))
        obj->n = 0;
    if (str_eq(name, STR("delete")))
        return 0;
    if (keys)
        rc = retain_keys(m, obj, patch, keys);
    for (uint32_t i = 0; rc == 0 && i < patch->n; i++) {
        struct str key = patch->members[i].key;
        if (is_directive(key))
            rc = merge_directive(m, t, obj, key, patch);
        else if (patch->members[i].value->type != JSON_ARRAY || !has_list_directive(patch, key))
            rc = merge_member(m, t, obj, key, patch->members[i].value, patch);
    }
    return rc;
}

struct json *schema_strategic_merge(struct arena *a, const struct schema_resource *r, const struct json *original,
                                    const struct json *patch, struct error *err) {
    struct merger m = {a, err};
    if (!json_is(patch, JSON_OBJECT)) {
        error_set(err, -EINVAL, "a patch must be an object");
        return NULL;
    }
    struct json *result = json_is(original, JSON_OBJECT) ? json_copy(a, original) : json_object(a);
    return merge_map(&m, r->type, result, patch) == 0 ? result : NULL;
}
