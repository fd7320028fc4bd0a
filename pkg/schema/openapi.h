/* What the sources of the OpenAPI documents share; private to pkg/schema. */
#pragma once

#include "schema/schema_private.h"

/* The structs a document defines, each once, in the order in which they were met; and the scalar kinds they use. */
struct openapi_types {
    const struct schema *schema;
    struct arena *arena;
    VEC(const struct schema_type *) list;
    const struct schema_type **slots; /* open addressing by pointer */
    size_t mask;
    unsigned scalars;    /* 1 << enum schema_kind */
    VEC(struct str) any; /* names of untyped values: RawExtension, ... */
};

struct openapi_doc {
    struct openapi_types types;
    struct buf *out;
    bool v2;
};

void openapi_types_init(struct openapi_types *t, const struct schema *s, struct arena *a);
void openapi_types_fini(struct openapi_types *t);
/* Adds a type and what it refers to. */
void openapi_types_add(struct openapi_types *t, const struct schema_type *type);
/* What every document needs: Status, DeleteOptions, ListMeta. */
void openapi_types_add_common(struct openapi_types *t);

/* "io.k8s.api.apps.v1.Deployment" of a type; of a resource's list. */
struct str openapi_name(const struct openapi_types *t, const struct schema_type *type);
struct str openapi_list_name(const struct openapi_types *t, const struct schema_resource *r);
/* A type called "meta/v1.NAME". */
const struct schema_type *openapi_meta(const struct openapi_types *t, const char *name);

/* `"NAME":{...}` of a struct, of a resource's list, and of the scalars met. */
void openapi_put_struct(struct openapi_doc *d, const struct schema_type *type);
void openapi_put_list(struct openapi_doc *d, const struct schema_resource *r);
/* Each calls put with one definition after another; each definition is in d->out, which put empties when it wants. */
typedef void openapi_each_fn(void *arg);
void openapi_each_definition(struct openapi_doc *d, const struct schema_resource *const *resources, size_t n,
                             openapi_each_fn *each, void *arg);

/* The path items of a resource, one after another in d->out: `"/api/v1/...":{...}`. */
void openapi_each_path(struct openapi_doc *d, const struct schema_resource *r, openapi_each_fn *each, void *arg);

/* One entry of paths and of definitions in the protobuf form of version 2, and the document around them. */
void openapi_pb_path(struct buf *out, struct str name, const struct json *item);
void openapi_pb_definition(struct buf *out, struct str name, const struct json *definition);
void openapi_pb_document(struct buf *out, struct str paths, struct str definitions);

#define OPENAPI_TITLE "Kubernetes"
#define OPENAPI_VERSION "v1.36.0"
