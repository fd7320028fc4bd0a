/* What an object looks like to a client: another version, its metadata alone, or a row of a table. */
#include "api/api_priv.h"

struct json *partial_object(struct arena *a, const struct json *v) {
    struct json *p = json_object(a), *m = json_get_c(v, "metadata");
    json_set_cstr(a, p, "kind", "PartialObjectMetadata");
    json_set_cstr(a, p, "apiVersion", "meta.k8s.io/v1");
    json_set_c(a, p, "metadata", m ? m : json_object(a));
    return p;
}

struct json *convert_out(struct arena *a, const struct schema_resource *r, const struct json *storage_tree,
                         struct error *err) {
    if (r == r->storage)
        return (struct json *)storage_tree;
    return schema_convert(a, r->storage, r, storage_tree, err);
}

void table_columns_put(struct buf *out, struct arena *a, const struct schema_resource *r) {
    json_write(out, schema_table_columns(a, r));
}

static int form_row(struct buf *out, struct arena *a, const struct schema_resource *r, struct str include,
                    struct object *o, struct error *err) {
    const struct json *v = convert_out(a, r, object_json(o), err);
    if (!v)
        return err->code;
    struct json *row = schema_table_row(a, r, v, time_now_s());
    if (str_eq_c(include, "Object"))
        json_set_c(a, row, "object", (struct json *)v);
    else if (!str_eq_c(include, "None"))
        json_set_c(a, row, "object", partial_object(a, v));
    json_write(out, row);
    return 0;
}

int form_object(struct buf *out, struct arena *a, const struct schema_resource *r, enum api_form form,
                struct str include, struct object *o, struct error *err) {
    if (form == FORM_TABLE)
        return form_row(out, a, r, include, o, err);
    if (form == FORM_PARTIAL) {
        json_write(out, partial_object(a, object_json(o)));
        return 0;
    }
    if (r == r->storage) {
        buf_put_str(out, o->blob.bytes);
        return 0;
    }
    const struct json *v = convert_out(a, r, object_json(o), err);
    if (!v)
        return err->code;
    json_write(out, v);
    return 0;
}
