/* What the sources of conversion share; private to pkg/schema. */
#pragma once

#include "schema/schema_private.h"

/* Changes v in place from one version to another; the order of members does not matter. */
typedef int convert_fn(struct arena *a, struct json *v, struct error *err);

struct conversion {
    struct str group, version, kind; /* of the version that is not stored; version "": every one */
    convert_fn *to_storage, *from_storage;
};
const struct conversion *convert_find(const struct schema_resource *r);

/* The member when it is there and not null. */
struct json *convert_get(const struct json *v, const char *name);
/* Moves a member to another name, also over from one object to another; nothing when it is absent. */
void convert_move(struct arena *a, struct json *from, const char *name, struct json *to, const char *new_name);
/* Renames the members of one object; names: pairs old, new, ended by NULL. */
void convert_rename(struct arena *a, struct json *v, const char *const *names);
/* The same in the other direction. */
void convert_rename_back(struct arena *a, struct json *v, const char *const *names);

convert_fn convert_hpa_v1_in, convert_hpa_v1_out, convert_hpa_v2beta1_in, convert_hpa_v2beta1_out;
convert_fn convert_crd_in, convert_crd_out;
