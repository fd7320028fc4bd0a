/* The compiled schema's hash tables and everything that is looked up in them. */
#include "schema/schema_private.h"

static size_t table_size(size_t n) {
    size_t size = 16;
    while (size < n * 2)
        size *= 2;
    return size;
}

/* --- types --- */

static uint32_t type_hash(struct str version_id, struct str name) {
    uint32_t h = schema_hash(SCHEMA_HASH_INIT, version_id);
    return schema_hash((h ^ '.') * UINT32_C(16777619), name);
}

void schema_index_types(struct schema *s) {
    size_t size = table_size(s->types_n);
    s->type_slots = arena_alloc(s->arena, size * sizeof(*s->type_slots));
    s->type_mask = size - 1;
    for (size_t i = 0; i < s->types_n; i++) {
        size_t at = schema_hash(SCHEMA_HASH_INIT, s->types[i]->name) & s->type_mask;
        while (s->type_slots[at])
            at = (at + 1) & s->type_mask;
        s->type_slots[at] = (uint16_t)(i + 1);
    }
}

struct schema_type *schema_type_find2(const struct schema *s, struct str version_id, struct str name) {
    size_t at = type_hash(version_id, name) & s->type_mask;
    for (; s->type_slots[at]; at = (at + 1) & s->type_mask) {
        struct schema_type *t = s->types[s->type_slots[at] - 1];
        if (t->name.n == version_id.n + 1 + name.n && t->name.p[version_id.n] == '.' &&
            memcmp(t->name.p, version_id.p, version_id.n) == 0 &&
            memcmp(t->name.p + version_id.n + 1, name.p, name.n) == 0)
            return t;
    }
    return NULL;
}

const struct schema_type *schema_type_find(const struct schema *s, struct str name) {
    ptrdiff_t dot = str_rindex(name, '.');
    if (dot < 0)
        return NULL;
    return schema_type_find2(s, str_n(name.p, (size_t)dot), str_skip(name, (size_t)dot + 1));
}

const struct schema_field *schema_field_find(const struct schema_type *t, struct str name) {
    if (!t || t->kind != SCHEMA_STRUCT)
        return NULL;
    for (size_t i = 0; i < t->fields_n; i++)
        if (str_eq(t->fields[i].name, name))
            return &t->fields[i];
    return NULL;
}

struct str schema_go_name(const struct schema_type *t) {
    ptrdiff_t slash = str_rindex(t->name, '/');
    return str_skip(t->name, (size_t)(slash + 1));
}

/* --- resources --- */

static uint32_t hash3(struct str a, struct str b, struct str c) {
    uint32_t h = schema_hash(SCHEMA_HASH_INIT, a);
    h = schema_hash((h ^ '/') * UINT32_C(16777619), b);
    return schema_hash((h ^ '/') * UINT32_C(16777619), c);
}

static void put(uint16_t *slots, size_t mask, uint32_t hash, size_t i) {
    size_t at = hash & mask;
    while (slots[at])
        at = (at + 1) & mask;
    slots[at] = (uint16_t)(i + 1);
}

void schema_index_resources(struct schema *s) {
    size_t size = table_size(s->resources_n);
    s->resource_mask = size - 1;
    s->plural_slots = arena_alloc(s->arena, size * sizeof(uint16_t));
    s->kind_slots = arena_alloc(s->arena, size * sizeof(uint16_t));
    s->key_slots = arena_alloc(s->arena, size * sizeof(uint16_t));
    for (size_t i = 0; i < s->resources_n; i++) {
        const struct schema_resource *r = &s->resources[i];
        put(s->plural_slots, s->resource_mask, hash3(r->group, r->version, r->plural), i);
        put(s->kind_slots, s->resource_mask, hash3(r->group, r->version, r->kind), i);
        if (r->storage == r)
            put(s->key_slots, s->resource_mask, schema_hash(SCHEMA_HASH_INIT, r->key), i);
    }
}

static bool is_version(const struct schema_resource *r, struct str group, struct str version) {
    return str_eq(r->group, group) && str_eq(r->version, version);
}

const struct schema_resource *schema_find(const struct schema *s, struct str group, struct str version,
                                          struct str plural) {
    size_t at = hash3(group, version, plural) & s->resource_mask;
    for (; s->plural_slots[at]; at = (at + 1) & s->resource_mask) {
        const struct schema_resource *r = &s->resources[s->plural_slots[at] - 1];
        if (str_eq(r->plural, plural) && is_version(r, group, version))
            return r;
    }
    return NULL;
}

const struct schema_resource *schema_find_kind(const struct schema *s, struct str group, struct str version,
                                               struct str kind) {
    size_t at = hash3(group, version, kind) & s->resource_mask;
    for (; s->kind_slots[at]; at = (at + 1) & s->resource_mask) {
        const struct schema_resource *r = &s->resources[s->kind_slots[at] - 1];
        if (str_eq(r->kind, kind) && is_version(r, group, version))
            return r;
    }
    return NULL;
}

const struct schema_resource *schema_find_key(const struct schema *s, const char *key) {
    struct str k = str_c(key);
    size_t at = schema_hash(SCHEMA_HASH_INIT, k) & s->resource_mask;
    for (; s->key_slots[at]; at = (at + 1) & s->resource_mask) {
        const struct schema_resource *r = &s->resources[s->key_slots[at] - 1];
        if (str_eq(r->key, k))
            return r;
    }
    return NULL;
}

size_t schema_resources_n(const struct schema *s) {
    return s->resources_n;
}

const struct schema_resource *schema_resource_at(const struct schema *s, size_t i) {
    return i < s->resources_n ? &s->resources[i] : NULL;
}

const struct schema_subresource *schema_subresource(const struct schema_resource *r, struct str name) {
    for (size_t i = 0; i < r->subresources_n; i++)
        if (str_eq(r->subresources[i].name, name))
            return &r->subresources[i];
    return NULL;
}

/* --- versions --- */

static const struct schema_version *version_find(const struct schema *s, struct str group, struct str version) {
    for (size_t i = 0; i < s->versions_n; i++)
        if (str_eq(s->versions[i].group, group) && str_eq(s->versions[i].version, version))
            return &s->versions[i];
    return NULL;
}

size_t schema_versions(const struct schema *s, struct str group, struct str *out, size_t max) {
    size_t n = 0;
    for (size_t i = 0; i < s->versions_n && n < max; i++)
        if (s->versions[i].resources_n > 0 && str_eq(s->versions[i].group, group))
            out[n++] = s->versions[i].version;
    return n;
}

struct str schema_openapi_package(const struct schema *s, struct str group, struct str version) {
    const struct schema_version *v = version_find(s, group, version);
    return v ? v->openapi : STR("");
}

struct str schema_proto_package(const struct schema *s, struct str group, struct str version) {
    const struct schema_version *v = version_find(s, group, version);
    return v ? v->proto : STR("");
}
