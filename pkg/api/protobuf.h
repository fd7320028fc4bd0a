/*
 * Kubernetes' protobuf bodies (application/vnd.kubernetes.protobuf) to JSON trees, by the numbers in the schema. Clients'
 * typed calls send them; answers are JSON, which every such client accepts too. Pure.
 * Source: the Kubernetes API's protobuf encoding (a "k8s\0" mark and runtime.Unknown around the object), proto2 wire format.
 */
#pragma once

#include "schema/schema.h"

#define PROTOBUF_MEDIA "application/vnd.kubernetes.protobuf"

/* The object in the arena, with apiVersion and kind of its envelope; t: its type. NULL: -EINVAL malformed, -E2BIG a limit
 * (nesting, more than values_max values). Unknown field numbers are skipped, as protobuf wants it. */
struct json *protobuf_object(struct arena *a, const struct schema_type *t, struct str body, uint32_t values_max,
                             struct error *err);
