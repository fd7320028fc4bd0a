/* Small helpers on metadata; private to pkg/api. */
#pragma once

#include "api/api_priv.h"

/* Takes a member of metadata from old (or removes it when old has none). */
void meta_keep(struct arena *a, struct json *obj, const struct json *old, const char *member);
bool meta_has_finalizer(const struct json *obj, const char *name);
void meta_add_finalizer(struct arena *a, struct json *obj, const char *name);
void meta_del_finalizer(struct json *obj, const char *name);
bool meta_deleting(const struct json *obj);
