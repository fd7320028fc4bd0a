/* What the sources of defaults share; private to pkg/schema. */
#pragma once

#include "schema/schema_private.h"

/* Sets a member of a struct at the place its field has in the order of output. */
void default_put(struct arena *a, const struct schema_type *t, struct json *obj, const char *name, struct json *value);
/* The member as an object of its struct type, made when absent or null; *t becomes its type. NULL when it is no struct. */
struct json *default_ensure(struct arena *a, const struct schema_type **t, struct json *obj, const char *name);

/* Defaults of one struct type that its fields cannot say; called before those of its members. */
typedef void default_type_hook(struct arena *a, const struct schema_type *t, struct json *v);
/* Defaults of one kind of object; called before everything else. */
typedef void default_resource_hook(struct arena *a, const struct schema_resource *r, struct json *v);

default_type_hook *default_hook_of_type(uint8_t number);
void default_run_resource_hooks(struct arena *a, const struct schema_resource *r, struct json *v);
