#include "base/map.h"

#include <stdlib.h>

static size_t slot_of(const struct map *m, uint64_t hash) {
    return (size_t)hash & (m->cap - 1);
}

static struct map_entry *find(const struct map *m, struct str key, uint64_t hash) {
    if (m->cap == 0)
        return NULL;
    for (size_t i = slot_of(m, hash);; i = (i + 1) & (m->cap - 1)) {
        struct map_entry *e = &m->slots[i];
        if (!e->key.p)
            return NULL;
        if (e->hash == hash && str_eq(e->key, key))
            return e;
    }
}

static void place(struct map *m, struct map_entry entry) {
    size_t i = slot_of(m, entry.hash);
    while (m->slots[i].key.p)
        i = (i + 1) & (m->cap - 1);
    m->slots[i] = entry;
}

static void grow(struct map *m) {
    struct map old = *m;
    m->cap = old.cap ? old.cap * 2 : 8;
    m->slots = xcalloc(m->cap, sizeof(*m->slots));
    for (size_t i = 0; i < old.cap; i++)
        if (old.slots[i].key.p)
            place(m, old.slots[i]);
    free(old.slots);
}

void map_fini(struct map *m) {
    for (size_t i = 0; i < m->cap; i++)
        free((void *)(uintptr_t)m->slots[i].key.p);
    free(m->slots);
    *m = (struct map){0};
}

void *map_get(const struct map *m, struct str key) {
    struct map_entry *e = find(m, key, str_hash(key));
    return e ? e->value : NULL;
}

void *map_set(struct map *m, struct str key, void *value) {
    uint64_t hash = str_hash(key);
    struct map_entry *e = find(m, key, hash);
    if (e) {
        void *old = e->value;
        e->value = value;
        return old;
    }
    if ((m->n + 1) * 4 > m->cap * 3)
        grow(m);
    place(m, (struct map_entry){{xstrndup(key.p, key.n), key.n}, hash, value});
    m->n++;
    return NULL;
}

/* Deletes without tombstones: the entries of the run behind the hole move up when their own slot allows it. */
void *map_del(struct map *m, struct str key) {
    struct map_entry *e = find(m, key, str_hash(key));
    if (!e)
        return NULL;
    void *value = e->value;
    free((void *)(uintptr_t)e->key.p);
    size_t hole = (size_t)(e - m->slots), mask = m->cap - 1;
    for (size_t i = (hole + 1) & mask; m->slots[i].key.p; i = (i + 1) & mask) {
        size_t home = slot_of(m, m->slots[i].hash);
        if (((i - home) & mask) >= ((i - hole) & mask)) {
            m->slots[hole] = m->slots[i];
            hole = i;
        }
    }
    m->slots[hole] = (struct map_entry){0};
    m->n--;
    return value;
}

struct map_entry *map_next(const struct map *m, size_t *i) {
    while (*i < m->cap) {
        struct map_entry *e = &m->slots[(*i)++];
        if (e->key.p)
            return e;
    }
    return NULL;
}
