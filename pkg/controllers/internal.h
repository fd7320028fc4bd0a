/* Private to pkg/controllers: what its files share. */
#pragma once

#include "controllers/controllers.h"

struct controllers {
    struct api *api;
    struct store *store;
    const struct schema *schema;
    struct loop *loop;
    struct controllers_options options;
    VEC(struct controller *) list;
};

/* A storage resource and its store kind, looked up once. */
struct kind_ref {
    const struct schema_resource *resource;
    struct store_kind *kind;
};
struct kind_ref kind_find(struct controllers *all, const char *key);

/* Each controller's file: makes it, hooks it to the store, queues what exists. */
struct controller *replicaset_controller_new(struct controllers *all);
struct controller *replication_controller_new(struct controllers *all);
struct controller *deployment_controller_new(struct controllers *all);
struct controller *endpoints_controller_new(struct controllers *all);
struct controller *namespace_controller_new(struct controllers *all);
struct controller *gc_controller_new(struct controllers *all);
struct controller *serviceaccount_controller_new(struct controllers *all);
struct controller *node_controller_new(struct controllers *all);

/* A controller whose queue runs on core. state: its own, freed with free(). */
struct controller *controller_new(struct controllers *all, const char *name,
                                  int64_t (*reconcile)(struct controller *, struct str, struct str), void *state);
/* Queues every object of a kind: at start. */
void controller_queue_all(struct controller *c, const struct kind_ref *k);

struct api_call call_begin(struct controller *c, struct arena *a);
/* Maps the negative code of a failed call to a reconcile result: conflicts and losses are tried again soon. */
int64_t call_failed(struct controller *c, const struct api_call *call, const char *doing);

/* --- metadata --- */
struct str meta_uid(const struct json *o);
struct str meta_name(const struct json *o);
struct str meta_ns(const struct json *o);
bool object_deleting(const struct json *o);
/* The ownerReference with controller: true, or NULL. */
const struct json *meta_controller_ref(const struct json *o);
/* Index "owner-uid" (of every ownerReference) on a kind; safe to ask for twice. */
void index_by_owner(struct controllers *all, const struct kind_ref *k);
#define INDEX_OWNER "owner-uid"
/* ownerReference of an owner of resource r that controls its dependant. */
struct json *owner_ref_new(struct arena *a, const struct schema_resource *r, const struct json *owner);

/* --- pods --- */
bool pod_is_active(const struct json *pod); /* not finished and not being deleted */
bool pod_condition_true(const struct json *pod, const char *type, int64_t *since_s);
bool pod_is_ready(const struct json *pod);
/* Ready for at least min_ready_s; otherwise *wait_s (when not NULL) gets the seconds left, or -1 when not ready. */
bool pod_is_available(const struct json *pod, int64_t min_ready_s, int64_t now_s, int64_t *wait_s);

/* --- conditions: {type,status,reason,message,lastTransitionTime,lastUpdateTime?} --- */
const struct json *condition_find(const struct json *status, const char *type);
/* Sets or replaces; the transition time changes with the status only. with_update: keeps lastUpdateTime too.
 * Returns whether anything changed. */
bool condition_set(struct arena *a, struct json *status, const char *type, const char *status_text, const char *reason,
                   const char *message, bool with_update);
/* Writes o's status when it differs from what is stored. 0 or a negative code. */
int status_update(struct controller *c, struct api_call *call, const struct kind_ref *k, const struct json *before,
                  const struct json *after);

/* Objects collected from the store with references held; freed with object_list_fini. */
struct object_list {
    struct object **items;
    size_t n, cap;
};
void object_list_fini(struct object_list *l);
#define cleanup_objects __attribute__((cleanup(object_list_fini)))
bool object_list_add(void *list, struct object *o); /* for store_each and store_index_each */
