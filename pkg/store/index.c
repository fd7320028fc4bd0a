#include <stdlib.h>
#include <string.h>

#include "store/store_priv.h"

struct index {
    char *name;
    void (*fn)(struct object *o, void (*emit)(void *arg, struct str key), void *arg);
    struct map sets; /* key: struct set * */
};

/* The keys of one object, copied end to end. */
struct keys {
    struct buf text;
    VEC(size_t) ends;
};

static struct str key_at(const struct keys *k, size_t i) {
    size_t from = i ? k->ends.items[i - 1] : 0;
    return str_n(k->text.p + from, k->ends.items[i] - from);
}

static bool has_key(const struct keys *k, struct str key) {
    for (size_t i = 0; i < k->ends.n; i++) {
        if (str_eq(key_at(k, i), key))
            return true;
    }
    return false;
}

static void emit(void *arg, struct str key) {
    struct keys *k = arg;
    if (has_key(k, key))
        return;
    buf_put_str(&k->text, key);
    buf_put(&k->text, "", 1); /* so that a first, empty key has a place too */
    if (k->text.failed)
        return;
    k->text.n--;
    vec_push(&k->ends, k->text.n);
}

static void keys_fini(struct keys *k) {
    buf_fini(&k->text);
    vec_fini(&k->ends);
}

/* Asks for the keys; a tree made for that alone goes at once, so that indexing a large state costs no memory. */
static void keys_of(const struct index *x, struct object *o, struct keys *out) {
    buf_init(&out->text, 0);
    if (!o)
        return;
    bool had_tree = object_has_tree(o);
    x->fn(o, emit, out);
    if (!had_tree)
        object_drop_tree(o);
}

static void add(struct index *x, struct str key, struct object *o) {
    struct set *s = map_get(&x->sets, key);
    if (!s) {
        s = XNEW(struct set);
        map_set(&x->sets, key, s);
    }
    object_release(set_put(s, o));
}

static void drop(struct index *x, struct str key, struct object *o) {
    struct set *s = map_get(&x->sets, key);
    if (!s)
        return;
    object_release(set_del(s, o->ns, o->name));
    if (s->count)
        return;
    map_del(&x->sets, key);
    set_fini(s);
    free(s);
}

void index_update(struct kind *k, struct object *old, struct object *o) {
    for (size_t i = 0; i < k->indexes.n; i++) {
        struct index *x = k->indexes.items[i];
        struct keys before = {0}, after = {0};
        keys_of(x, old, &before);
        keys_of(x, o, &after);
        for (size_t j = 0; j < before.ends.n; j++) {
            if (!has_key(&after, key_at(&before, j)))
                drop(x, key_at(&before, j), old);
        }
        for (size_t j = 0; j < after.ends.n; j++)
            add(x, key_at(&after, j), o);
        keys_fini(&before);
        keys_fini(&after);
    }
}

static struct index *find(struct kind *k, const char *name) {
    for (size_t i = 0; i < k->indexes.n; i++) {
        if (strcmp(k->indexes.items[i]->name, name) == 0)
            return k->indexes.items[i];
    }
    return NULL;
}

void store_index_add(struct store *s, struct store_kind *pub, const char *index,
                     void (*fn)(struct object *o, void (*emit)(void *arg, struct str key), void *arg)) {
    struct kind *k = kind_of(pub);
    struct index *known = find(k, index);
    REQUIRE(!known || known->fn == fn);
    if (known)
        return;
    struct index *x = XNEW(struct index);
    x->name = xstrdup(index);
    x->fn = fn;
    vec_push(&k->indexes, x);
    struct object *o;
    for (struct set_pos p = set_start(); (o = set_at(&k->objects, p)); p = set_next(&k->objects, p)) {
        struct keys keys = {0};
        keys_of(x, o, &keys);
        for (size_t j = 0; j < keys.ends.n; j++)
            add(x, key_at(&keys, j), o);
        keys_fini(&keys);
    }
}

/* Over a copy of the result with a reference each: callbacks may write. What they replace or delete is still shown. */
void store_index_each(struct store *s, struct store_kind *pub, const char *index, struct str key,
                      bool (*each)(void *arg, struct object *o), void *arg) {
    struct index *x = find(kind_of(pub), index);
    REQUIRE(x);
    store_reading(s);
    const struct set *set = map_get(&x->sets, key);
    if (!set)
        return;
    size_t n = 0;
    struct object **found = xmalloc(set->count * sizeof(struct object *)), *o;
    for (struct set_pos p = set_start(); (o = set_at(set, p)); p = set_next(set, p))
        found[n++] = object_ref(o);
    bool more = true;
    for (size_t i = 0; i < n; i++) {
        if (more)
            more = each(arg, found[i]);
        object_unref(found[i]);
    }
    free(found);
}

void index_fini(struct kind *k) {
    for (size_t i = 0; i < k->indexes.n; i++) {
        struct index *x = k->indexes.items[i];
        struct map_entry *e;
        for (size_t at = 0; (e = map_next(&x->sets, &at));) {
            set_fini(e->value);
            free(e->value);
        }
        map_fini(&x->sets);
        free(x->name);
        free(x);
    }
    vec_fini(&k->indexes);
}
