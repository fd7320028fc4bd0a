/*
 * Typed growable arrays: `VEC(struct thing) v = {0};` then vec_push(&v, item), v.items[i], v.n, vec_fini(&v).
 */
#pragma once

#include <stddef.h>
#include <string.h>

#include "base/mem.h"

#define VEC(type)      \
    struct {           \
        type *items;   \
        size_t n, cap; \
    }

void *vec_grow(void *items, size_t *cap, size_t need, size_t item_size);

#define vec_push(v, item)                                                                  \
    do {                                                                                   \
        if ((v)->n == (v)->cap)                                                            \
            (v)->items = vec_grow((v)->items, &(v)->cap, (v)->n + 1, sizeof(*(v)->items)); \
        (v)->items[(v)->n++] = (item);                                                     \
    } while (0)
/* Removes item i, keeping the order. */
#define vec_remove(v, i)                                                                           \
    do {                                                                                           \
        size_t at_ = (i);                                                                          \
        memmove(&(v)->items[at_], &(v)->items[at_ + 1], ((v)->n - at_ - 1) * sizeof(*(v)->items)); \
        (v)->n--;                                                                                  \
    } while (0)
#define vec_fini(v)            \
    do {                       \
        free((v)->items);      \
        (v)->items = NULL;     \
        (v)->n = (v)->cap = 0; \
    } while (0)
