/* The OpenAPI documents: version 3 of one group version, version 2 of everything served. */
#include "schema/openapi.h"

#include <stdlib.h>

#define DOCUMENT_MAX MiB(32)
#define INFO "\"info\":{\"title\":\"" OPENAPI_TITLE "\",\"version\":\"" OPENAPI_VERSION "\"}"

static void take(struct openapi_doc *d, const struct schema_resource *r) {
    openapi_types_add(&d->types, r->type);
    for (size_t i = 0; i < r->subresources_n; i++)
        openapi_types_add(&d->types, r->subresources[i].type);
}

static void comma(void *arg) {
    buf_putc(((struct openapi_doc *)arg)->out, ',');
}

/* `"paths":{...},` and then the definitions without their braces. */
static void put_paths(struct openapi_doc *d, const struct schema_resource *const *list, size_t n) {
    buf_puts(d->out, "\"paths\":{");
    for (size_t i = 0; i < n; i++)
        openapi_each_path(d, list[i], comma, d);
    if (d->out->n && d->out->p[d->out->n - 1] == ',')
        d->out->n--;
    buf_puts(d->out, "},");
}

static void put_definitions(struct openapi_doc *d, const struct schema_resource *const *list, size_t n) {
    openapi_each_definition(d, list, n, comma, d);
    if (d->out->n && d->out->p[d->out->n - 1] == ',')
        d->out->n--;
}

void schema_openapi_v3(const struct schema *s, struct str group, struct str version, struct buf *out) {
    cleanup_arena struct arena *a = arena_new(KiB(64), DOCUMENT_MAX);
    struct openapi_doc d = {.out = out};
    VEC(const struct schema_resource *) list = {0};
    openapi_types_init(&d.types, s, a);
    for (size_t i = 0; i < schema_resources_n(s); i++) {
        const struct schema_resource *r = schema_resource_at(s, i);
        if (!str_eq(r->group, group) || !str_eq(r->version, version))
            continue;
        vec_push(&list, r);
        take(&d, r);
    }
    openapi_types_add_common(&d.types);
    buf_puts(out, "{\"openapi\":\"3.0.0\"," INFO ",");
    put_paths(&d, list.items, list.n);
    buf_puts(out, "\"components\":{\"schemas\":{");
    put_definitions(&d, list.items, list.n);
    buf_puts(out, "},\"securitySchemes\":{\"BearerToken\":{\"type\":\"apiKey\",\"description\":\"Bearer token\","
                  "\"name\":\"authorization\",\"in\":\"header\"}}}}");
    vec_fini(&list);
    openapi_types_fini(&d.types);
}

/* Every served resource whose type is known, into *list (free() it). */
static size_t served(struct openapi_doc *d, const struct schema_resource ***list) {
    const struct schema *s = d->types.schema;
    size_t n = 0;
    *list = xcalloc(schema_resources_n(s) + 1, sizeof(**list));
    for (size_t i = 0; i < schema_resources_n(s); i++) {
        const struct schema_resource *r = schema_resource_at(s, i);
        if (!r->served)
            continue;
        (*list)[n++] = r;
        take(d, r);
    }
    openapi_types_add_common(&d->types);
    return n;
}

void schema_openapi_v2(const struct schema *s, struct buf *out) {
    cleanup_arena struct arena *a = arena_new(KiB(64), DOCUMENT_MAX);
    struct openapi_doc d = {.out = out, .v2 = true};
    const struct schema_resource **list;
    openapi_types_init(&d.types, s, a);
    size_t n = served(&d, &list);
    buf_puts(out, "{\"swagger\":\"2.0\"," INFO ",");
    put_paths(&d, list, n);
    buf_puts(out, "\"definitions\":{");
    put_definitions(&d, list, n);
    buf_puts(out, "},\"securityDefinitions\":{\"BearerToken\":{\"description\":\"Bearer token\",\"in\":\"header\","
                  "\"name\":\"authorization\",\"type\":\"apiKey\"}},\"security\":[{\"BearerToken\":[]}]}");
    free(list);
    openapi_types_fini(&d.types);
}

/* --- protobuf: each path and each definition is written as JSON and turned into its message --- */

struct pb_job {
    struct openapi_doc *doc;
    struct buf *paths, *definitions;
};

static void convert(struct pb_job *j, void (*fn)(struct buf *, struct str, const struct json *), struct buf *out) {
    cleanup_arena struct arena *a = arena_new(0, DOCUMENT_MAX);
    cleanup_buf struct buf whole = BUF_INIT;
    struct buf *text = j->doc->out;
    buf_putc(&whole, '{');
    buf_put_str(&whole, buf_str(text));
    buf_putc(&whole, '}');
    const struct json *v = json_parse(a, buf_str(&whole), NULL, NULL);
    if (json_len(v) == 1)
        fn(out, v->members[0].key, v->members[0].value);
    else
        out->failed = true;
    buf_reset(text);
}

static void convert_path(void *arg) {
    struct pb_job *j = arg;
    convert(j, openapi_pb_path, j->paths);
}

static void convert_definition(void *arg) {
    struct pb_job *j = arg;
    convert(j, openapi_pb_definition, j->definitions);
}

void schema_openapi_v2_pb(const struct schema *s, struct buf *out) {
    cleanup_arena struct arena *a = arena_new(KiB(64), DOCUMENT_MAX);
    cleanup_buf struct buf text = BUF_INIT, paths = BUF_INIT, definitions = BUF_INIT;
    struct openapi_doc d = {.out = &text, .v2 = true};
    struct pb_job j = {&d, &paths, &definitions};
    const struct schema_resource **list;
    openapi_types_init(&d.types, s, a);
    size_t n = served(&d, &list);
    for (size_t i = 0; i < n; i++)
        openapi_each_path(&d, list[i], convert_path, &j);
    openapi_each_definition(&d, list, n, convert_definition, &j);
    openapi_pb_document(out, buf_str(&paths), buf_str(&definitions));
    out->failed = out->failed || text.failed || paths.failed || definitions.failed;
    free(list);
    openapi_types_fini(&d.types);
}
