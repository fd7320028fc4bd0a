/* Intrusive doubly linked list. A struct list is the head or a link; a head that points at itself is empty. */
#pragma once

#include <stdbool.h>

#include "base/mem.h"

struct list {
    struct list *next, *prev;
};

#define LIST_INIT(head) \
    { &(head), &(head) }

static inline void list_init(struct list *l) {
    l->next = l->prev = l;
}
static inline bool list_empty(const struct list *l) {
    return l->next == l;
}
static inline void list_insert_before(struct list *pos, struct list *item) {
    item->prev = pos->prev;
    item->next = pos;
    pos->prev->next = item;
    pos->prev = item;
}
static inline void list_push_back(struct list *head, struct list *item) {
    list_insert_before(head, item);
}
static inline void list_push_front(struct list *head, struct list *item) {
    list_insert_before(head->next, item);
}
/* Unlinks; the item is an empty list afterwards, so a second remove is harmless. */
static inline void list_remove(struct list *item) {
    item->prev->next = item->next;
    item->next->prev = item->prev;
    list_init(item);
}
/* First item unlinked and returned, or NULL. */
static inline struct list *list_pop_front(struct list *head) {
    struct list *item = head->next;
    if (item == head)
        return NULL;
    list_remove(item);
    return item;
}
#define LIST_ITEM(link, type, member) CONTAINER_OF(link, type, member)
/* it: a struct list *; the current item may be removed inside the loop. */
#define LIST_FOREACH(it, head) \
    for (struct list *it = (head)->next, *it##_next = it->next; it != (head); it = it##_next, it##_next = it->next)
