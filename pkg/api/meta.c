/* Object metadata: the order of its members, versions, what a write stamps and what it keeps. */
#include "api/meta.h"

static const char *const meta_members[] = {
    "name",
    "generateName",
    "namespace",
    "selfLink",
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "labels",
    "annotations",
    "ownerReferences",
    "finalizers",
    "managedFields",
};

static size_t meta_rank(struct str key) {
    for (size_t i = 0; i < ARRAY_LEN(meta_members); i++)
        if (str_eq_c(key, meta_members[i]))
            return i;
    return ARRAY_LEN(meta_members);
}

/* Insertion sort: nearly sorted, at most 15 members. */
void meta_order(struct arena *a, struct json *obj) {
    (void)a;
    struct json *m = json_get_c(obj, "metadata");
    if (!json_is(m, JSON_OBJECT))
        return;
    for (uint32_t i = 1; i < m->n; i++) {
        struct json_member x = m->members[i];
        size_t rank = meta_rank(x.key);
        uint32_t at = i;
        for (; at > 0 && meta_rank(m->members[at - 1].key) > rank; at--)
            m->members[at] = m->members[at - 1];
        m->members[at] = x;
    }
}

int64_t meta_version(const struct json *obj) {
    int64_t v = 0;
    str_to_i64(json_str_at(obj, "metadata.resourceVersion"), &v);
    return v;
}

void meta_keep(struct arena *a, struct json *obj, const struct json *old, const char *member) {
    struct json *m = json_ensure(a, obj, "metadata");
    const struct json *v = json_get_c(json_get_c(old, "metadata"), member);
    if (v)
        json_set_c(a, m, member, json_copy(a, v));
    else
        json_del_c(m, member);
}

bool meta_has_finalizer(const struct json *obj, const char *name) {
    const struct json *f = json_at(obj, "metadata.finalizers");
    for (size_t i = 0; i < json_len(f); i++)
        if (str_eq_c(json_as_str(json_item(f, i)), name))
            return true;
    return false;
}

void meta_add_finalizer(struct arena *a, struct json *obj, const char *name) {
    if (meta_has_finalizer(obj, name))
        return;
    struct json *m = json_ensure(a, obj, "metadata"), *f = json_get_c(m, "finalizers");
    if (!json_is(f, JSON_ARRAY)) {
        f = json_array(a);
        json_set_c(a, m, "finalizers", f);
    }
    json_append_cstr(a, f, name);
}

void meta_del_finalizer(struct json *obj, const char *name) {
    struct json *m = json_get_c(obj, "metadata"), *f = json_get_c(m, "finalizers");
    for (size_t i = json_len(f); i-- > 0;)
        if (str_eq_c(json_as_str(json_item(f, i)), name))
            json_remove(f, i);
    if (f && json_len(f) == 0)
        json_del_c(m, "finalizers");
}

bool meta_deleting(const struct json *obj) {
    return json_str_at(obj, "metadata.deletionTimestamp").n > 0;
}
