#include <stdlib.h>
#include <string.h>

#include "store/store_priv.h"

#define CHUNK_MIN 4
#define CHUNK_MAX 128

struct chunk {
    uint16_t n, cap;
    struct object *items[];
};

static int key_cmp(const struct object *o, struct str ns, struct str name) {
    int c = str_cmp(o->ns, ns);
    return c ? c : str_cmp(o->name, name);
}

void set_fini(struct set *s) {
    for (uint32_t i = 0; i < s->n; i++) {
        for (uint16_t j = 0; j < s->chunks[i]->n; j++)
            object_release(s->chunks[i]->items[j]);
        free(s->chunks[i]);
    }
    free(s->chunks);
    *s = (struct set){0};
}

/* The last chunk that begins at or before the key: where the key is or belongs. */
static size_t find_chunk(const struct set *s, struct str ns, struct str name) {
    size_t lo = 0, hi = s->n;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (key_cmp(s->chunks[mid]->items[0], ns, name) <= 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo ? lo - 1 : 0;
}

/* The first item of the chunk not before the key. */
static size_t find_item(const struct chunk *c, struct str ns, struct str name, bool *equal) {
    size_t lo = 0, hi = c->n;
    *equal = false;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        int cmp = key_cmp(c->items[mid], ns, name);
        if (cmp == 0) {
            *equal = true;
            return mid;
        }
        if (cmp < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

struct object *set_find(const struct set *s, struct str ns, struct str name) {
    if (!s->n)
        return NULL;
    const struct chunk *c = s->chunks[find_chunk(s, ns, name)];
    bool equal;
    size_t i = find_item(c, ns, name, &equal);
    return equal ? c->items[i] : NULL;
}

static struct chunk *chunk_resize(struct chunk *c, size_t cap) {
    c = xrealloc(c, sizeof(*c) + cap * sizeof(c->items[0]));
    c->cap = (uint16_t)cap;
    return c;
}

static void chunk_insert_at(struct set *s, size_t at, struct chunk *c) {
    if (s->n == s->cap) {
        s->cap = s->cap ? s->cap * 2 : 1;
        s->chunks = xrealloc(s->chunks, s->cap * sizeof(struct chunk *));
    }
    memmove(&s->chunks[at + 1], &s->chunks[at], (s->n - at) * sizeof(struct chunk *));
    s->chunks[at] = c;
    s->n++;
}

/* Makes room in the chunk; returns the chunk the item goes to and mends *item. */
static size_t split(struct set *s, size_t at, size_t *item) {
    struct chunk *c = s->chunks[at];
    /* Behind everything there is (names that count up): leave this one full. */
    size_t keep = at + 1 == s->n && *item == c->n ? c->n : c->n / 2u;
    size_t move = c->n - keep;
    struct chunk *right = xmalloc(sizeof(*right) + CHUNK_MAX * sizeof(right->items[0]));
    right->cap = CHUNK_MAX;
    right->n = (uint16_t)move;
    memcpy(right->items, &c->items[keep], move * sizeof(c->items[0]));
    c->n = (uint16_t)keep;
    chunk_insert_at(s, at + 1, right);
    if (*item < keep || (*item == keep && move))
        return at;
    *item -= keep;
    return at + 1;
}

struct object *set_put(struct set *s, struct object *o) {
    object_hold(o);
    if (!s->n) {
        struct chunk *first = chunk_resize(NULL, CHUNK_MIN);
        first->n = 1;
        first->items[0] = o;
        chunk_insert_at(s, 0, first);
        s->count++;
        s->changes++;
        return NULL;
    }
    size_t at = find_chunk(s, o->ns, o->name);
    bool equal;
    size_t i = find_item(s->chunks[at], o->ns, o->name, &equal);
    if (equal) {
        struct object *old = s->chunks[at]->items[i];
        s->chunks[at]->items[i] = o;
        return old;
    }
    struct chunk *c = s->chunks[at];
    if (c->n == CHUNK_MAX)
        at = split(s, at, &i);
    else if (c->n == c->cap)
        s->chunks[at] = chunk_resize(c, c->cap * 2u);
    c = s->chunks[at];
    memmove(&c->items[i + 1], &c->items[i], (c->n - i) * sizeof(c->items[0]));
    c->items[i] = o;
    c->n++;
    s->count++;
    s->changes++;
    return NULL;
}

static void chunk_remove_at(struct set *s, size_t at) {
    free(s->chunks[at]);
    memmove(&s->chunks[at], &s->chunks[at + 1], (s->n - at - 1) * sizeof(struct chunk *));
    if (--s->n == 0) {
        free(s->chunks);
        s->chunks = NULL;
        s->cap = 0;
    }
}

/* A chunk that has become small joins its neighbour when both fit in three quarters of one. */
static void join(struct set *s, size_t at) {
    if (s->chunks[at]->n > CHUNK_MAX / 4 || s->n < 2)
        return;
    size_t l = at ? at - 1 : at, total = (size_t)s->chunks[l]->n + s->chunks[l + 1]->n;
    if (total > CHUNK_MAX * 3 / 4)
        return;
    if (s->chunks[l]->cap < total)
        s->chunks[l] = chunk_resize(s->chunks[l], CHUNK_MAX);
    struct chunk *c = s->chunks[l], *r = s->chunks[l + 1];
    memcpy(&c->items[c->n], r->items, r->n * sizeof(c->items[0]));
    c->n = (uint16_t)total;
    chunk_remove_at(s, l + 1);
}

struct object *set_del(struct set *s, struct str ns, struct str name) {
    if (!s->n)
        return NULL;
    size_t at = find_chunk(s, ns, name);
    struct chunk *c = s->chunks[at];
    bool equal;
    size_t i = find_item(c, ns, name, &equal);
    if (!equal)
        return NULL;
    struct object *o = c->items[i];
    memmove(&c->items[i], &c->items[i + 1], (c->n - i - 1) * sizeof(c->items[0]));
    c->n--;
    s->count--;
    s->changes++;
    if (c->n == 0)
        chunk_remove_at(s, at);
    else
        join(s, at);
    return o;
}

struct set_pos set_seek(const struct set *s, struct str ns, struct str name, bool after) {
    if (!s->n)
        return set_start();
    size_t at = find_chunk(s, ns, name);
    bool equal;
    size_t i = find_item(s->chunks[at], ns, name, &equal);
    if (equal && after)
        i++;
    if (i == s->chunks[at]->n)
        return (struct set_pos){at + 1, 0};
    return (struct set_pos){at, i};
}

struct object *set_at(const struct set *s, struct set_pos p) {
    return p.chunk < s->n ? s->chunks[p.chunk]->items[p.item] : NULL;
}

struct set_pos set_next(const struct set *s, struct set_pos p) {
    if (++p.item >= s->chunks[p.chunk]->n)
        return (struct set_pos){p.chunk + 1, 0};
    return p;
}
