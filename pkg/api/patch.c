/* Patches: JSON Patch, merge patch and strategic merge patch, made on the object in the version the client speaks. */
#include "api/api_priv.h"

static int patch_failed(struct api_write *w, const struct patch_request *p, const struct error *err) {
    if (err->code == -E2BIG)
        return status_set(w->status, w->arena, 413, "RequestEntityTooLarge", "Request entity too large: %s", err->msg);
    if (p->type == API_PATCH_JSON && err->code != -EINVAL) {
        int rc = status_set(w->status, w->arena, 422, "Invalid",
                            "the server rejected our request due to an error in our request");
        status_add_cause(w->status, w->arena, "UnexpectedServerResponse", str_dup(w->arena, str_c(err->msg)), STR(""));
        return rc;
    }
    return status_bad_request(w->status, w->arena, "error decoding patch: %s", err->msg);
}

int patch_object(struct api_write *w, const struct patch_request *p, const struct json *old) {
    struct arena *a = w->arena;
    struct error err = {0};
    const struct json *base = old;
    struct json *v = NULL;
    if (p->r != p->r->storage && !(base = schema_convert(a, p->r->storage, p->r, old, &err)))
        return status_internal(w->status, a, "%s", err.msg);
    if (p->type != API_PATCH_JSON && !json_is(p->patch, JSON_OBJECT))
        return status_bad_request(w->status, a,
                                  "error decoding patch: json: cannot unmarshal %s into Go value of type"
                                  " map[string]interface {}",
                                  json_type_name(p->patch));
    switch (p->type) {
    case API_PATCH_JSON:
        v = json_patch(a, base, p->patch, &err);
        break;
    case API_PATCH_MERGE:
        v = json_merge_patch(a, base, p->patch);
        break;
    case API_PATCH_STRATEGIC:
        v = schema_strategic_merge(a, p->r, base, p->patch, &err);
        break;
    case API_PATCH_APPLY:
        return status_set(w->status, a, 415, "UnsupportedMediaType",
                          "server-side apply is not available in this version of the server");
    }
    if (!v)
        return patch_failed(w, p, &err);
    if (!json_is(v, JSON_OBJECT))
        return status_bad_request(w->status, a, "the patch does not leave an object");
    v = write_decode(a, p->r, v, p->decode, &err);
    if (!v)
        return status_bad_request(w->status, a, "%.*s in version \"%.*s\" cannot be handled as a %.*s: %s",
                                  STR_ARG(p->r->kind), STR_ARG(p->r->version), STR_ARG(p->r->kind), err.msg);
    w->obj = v;
    return 0;
}
