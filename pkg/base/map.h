/*
 * Hash map from byte strings to pointers, open addressing. It copies its keys and does not own its values.
 * Iteration order is undefined; the map must not change during it.
 */
#pragma once

#include "base/mem.h"
#include "base/str.h"

struct map_entry {
    struct str key; /* p == NULL: empty slot */
    uint64_t hash;
    void *value;
};

struct map {
    struct map_entry *slots;
    size_t n, cap; /* cap is 0 or a power of two */
};

#define cleanup_map __attribute__((cleanup(map_fini)))

void map_fini(struct map *m); /* frees keys and slots, not values; a zeroed struct is an empty map */
void *map_get(const struct map *m, struct str key); /* NULL when absent */
/* Sets key to value (not NULL) and returns the value it replaced, or NULL. */
void *map_set(struct map *m, struct str key, void *value);
/* Removes key and returns its value, or NULL. */
void *map_del(struct map *m, struct str key);
/* `for (size_t i = 0; (e = map_next(m, &i));)` visits every entry. */
struct map_entry *map_next(const struct map *m, size_t *i);
