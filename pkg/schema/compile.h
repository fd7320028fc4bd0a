/* The two halves of the compiler: reading (compile.c) and linking (link.c); private to pkg/schema. */
#pragma once

#include "schema/schema_private.h"

#define SCHEMA_SCALARS 18

/* A type with the unnamed types made of it, each made once. */
struct ctype {
    struct schema_type pub;
    struct ctype *list, *map, *atomic_map, *turned; /* turned: the same with the opposite of atomic */
    struct str target;                              /* of an alias, while it is unresolved */
    size_t version;                                 /* its group version, as an index */
    bool has_embeds;
};

struct compiler {
    struct schema *s;
    struct str text;
    size_t line;
    struct schema_field *fields;
    const char **exprs; /* parallel to fields: where the type stands in the text */
    size_t fields_n;
    struct ctype **types;
    size_t types_n;
    struct str *storages; /* parallel to resources: the line "storage", or empty */
    size_t resources_n;
    /* what the current line may belong to */
    struct ctype *type;
    bool is_object;
    struct schema_resource *resource;
    const char **description;
    VEC(struct schema_subresource) subs;
    VEC(struct schema_column) columns;
    VEC(struct schema_default) defaults;
    struct ctype *scalars;
};

/* Cuts the next word off *rest; empty at the end. */
struct str schema_word(struct str *rest);

int schema_resolve_fields(struct compiler *c, struct error *err); /* the types that fields and aliases name */
void schema_flatten_all(struct compiler *c);                      /* embedded structs */
void schema_mark_defaults(struct compiler *c);
void schema_sort_all(struct compiler *c); /* resources and versions by priority, highest first */
int schema_link_resources(struct compiler *c, struct error *err);
