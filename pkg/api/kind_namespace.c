/* Namespaces: held by spec.finalizers until their content is gone; some are never deleted. */
#include "api/kinds.h"

int namespace_create(struct api_write *w) {
    struct arena *a = w->arena;
    struct json *spec = json_ensure(a, w->obj, "spec"), *f = json_get_c(spec, "finalizers");
    struct json *labels = json_ensure(a, w->obj, "metadata.labels");
    if (!spec || !labels)
        return status_bad_request(w->status, a, "spec and metadata.labels must be objects");
    bool has = false;
    for (size_t i = 0; i < json_len(f); i++)
        has = has || str_eq_c(json_as_str(json_item(f, i)), "kubernetes");
    if (!json_is(f, JSON_ARRAY)) {
        f = json_array(a);
        json_set_c(a, spec, "finalizers", f);
    }
    if (!has)
        json_append_cstr(a, f, "kubernetes");
    json_set_str(a, labels, "kubernetes.io/metadata.name", w->name);
    json_sort(labels);
    json_put(a, w->obj, "status.phase", json_cstr(a, "Active"));
    return 0;
}

int namespace_remove(struct api_write *w) {
    static const char *const kept[] = {"default", "kube-system", "kube-public"};
    for (size_t i = 0; i < ARRAY_LEN(kept); i++)
        if (str_eq_c(w->name, kept[i]))
            return status_forbidden(w->status, w->arena, w->r, w->name, "this namespace may not be deleted");
    json_put(w->arena, w->obj, "status.phase", json_cstr(w->arena, "Terminating"));
    return 0;
}

bool namespace_held(const struct json *obj) {
    return json_len(json_at(obj, "spec.finalizers")) > 0;
}
