/* What the schema's sources share; private to pkg/schema. */
#pragma once

#include "schema/schema.h"

struct schema_version {        /* one GROUP/VERSION */
    struct str id;             /* "apps/v1", "core/v1" */
    struct str group, version; /* "" for core */
    struct str openapi, proto;
    int64_t group_priority, priority;
    size_t resources_n;
};

struct schema {
    struct arena *arena;
    struct schema_version *versions; /* highest priority first */
    size_t versions_n;
    struct schema_resource *resources; /* in discovery order */
    size_t resources_n;
    struct schema_type **types; /* the named ones */
    size_t types_n;
    /* Open addressing, number + 1, 0 empty. */
    uint16_t *type_slots, *plural_slots, *kind_slots, *key_slots;
    size_t type_mask, resource_mask;
};

/* FNV-1a, continued over several strings. */
#define SCHEMA_HASH_INIT UINT32_C(2166136261)
static inline uint32_t schema_hash(uint32_t h, struct str s) {
    for (size_t i = 0; i < s.n; i++)
        h = (h ^ (unsigned char)s.p[i]) * UINT32_C(16777619);
    return h;
}

/* The type called "GROUP/VERSION" "." "Name", in two parts; NULL when there is none. */
struct schema_type *schema_type_find2(const struct schema *s, struct str version_id, struct str name);
/* Makes the tables of types, then those of resources. */
void schema_index_types(struct schema *s);
void schema_index_resources(struct schema *s);

/* Number of the function that sets a type's computed defaults, 0 when there is none. */
uint8_t schema_default_hook(struct str type_name);

/* "v1.Pod" of a type called "core/v1.Pod": as Go prints a type. */
struct str schema_go_name(const struct schema_type *t);
