/* The hooks of single kinds; private to pkg/api. behaviour.c puts them into the table. */
#pragma once

#include "api/meta.h"

int service_create(struct api_write *w);
int service_update(struct api_write *w);
void service_validate(struct api_write *w, struct field_errors *errs);

int pod_create(struct api_write *w);
int pod_update(struct api_write *w);
int64_t pod_grace(const struct json *obj, int64_t asked);

int namespace_create(struct api_write *w);
int namespace_remove(struct api_write *w);
bool namespace_held(const struct json *obj);

int role_admit(struct api_write *w);
int role_binding_admit(struct api_write *w);
