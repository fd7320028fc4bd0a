/*
 * What the files of pkg/api share. A request goes through two stages: on its io thread it is parsed, authenticated and
 * its body decoded (request_prepare: pure work on immutable tables); on the core thread it is authorised and carried out
 * (request_run). Answers are built from refcounted bytes and handed to the exchange from whichever thread has them.
 */
#pragma once

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "api/api.h"

#define API_OBJECT_BYTES_MAX ((size_t)1536 * 1024) /* of a stored object: etcd's default request limit */
#define API_BODY_BYTES_MAX MiB(3)
#define API_BODY_NODES_MAX 200000 /* values in a body: bounds what decoding, patching and defaults make of it */
#define API_ARENA_BYTES MiB(256)  /* of one request */
#define API_PARAMS_MAX 64
#define API_WARNINGS_MAX 32
#define API_WATCH_BACKLOG MiB(4) /* a watcher with more unsent bytes is cut */
#define API_LIST_LIMIT_MAX 1000000

/* --- a URL --- */

struct api_param {
    struct str key, value;
};

struct api_target {
    bool resource;   /* a resource of a group version; else path alone counts */
    struct str verb; /* "get", "list", "watch", "create", ...; of other paths the method in lower case */
    struct str group, version, plural, subresource, ns, name;
    struct str path; /* decoded */
    struct str rest; /* what stands behind a proxy subresource, with its slash */
};
/* Kubernetes' request info rules. false: below /api or /apis, but no resource path (the roots of discovery). */
bool api_path_parse(struct arena *a, struct str method, struct str path, bool watch, struct api_target *t);
/* Splits a query; false: malformed escape or more than API_PARAMS_MAX. */
bool api_query_parse(struct arena *a, struct str query, struct api_param **params, size_t *n);

/* --- failures --- */

#define ERR_GONE (-ESTALE) /* watches and continue tokens */
int status_set(struct api_status *st, struct arena *a, int code, const char *reason, const char *fmt, ...)
    PRINTF_LIKE(5, 6);
int status_not_found(struct api_status *st, struct arena *a, const struct schema_resource *r, struct str name);
int status_exists(struct api_status *st, struct arena *a, const struct schema_resource *r, struct str name);
int status_conflict(struct api_status *st, struct arena *a, const struct schema_resource *r, struct str name,
                    const char *fmt, ...) PRINTF_LIKE(5, 6);
int status_forbidden(struct api_status *st, struct arena *a, const struct schema_resource *r, struct str name,
                     const char *fmt, ...) PRINTF_LIKE(5, 6);
int status_invalid(struct api_status *st, struct arena *a, const struct schema_resource *r, struct str name,
                   const struct field_errors *errs);
/* One field error alone. */
int status_invalid_field(struct api_status *st, struct arena *a, const struct schema_resource *r, struct str name,
                         enum field_error_type type, const char *field, const struct json *value, const char *detail,
                         ...) PRINTF_LIKE(8, 9);
int status_bad_request(struct api_status *st, struct arena *a, const char *fmt, ...) PRINTF_LIKE(3, 4);
int status_internal(struct api_status *st, struct arena *a, const char *fmt, ...) PRINTF_LIKE(3, 4);
int status_method(struct api_status *st, struct arena *a, const struct schema_resource *r, const char *verb);
void status_add_cause(struct api_status *st, struct arena *a, const char *reason, struct str message, struct str field);
struct json *status_json(struct arena *a, const struct api_status *st);
struct str resource_group_name(struct arena *a, const struct schema_resource *r); /* "deployments.apps" */

/* --- representations --- */

enum api_form { FORM_OBJECT, FORM_TABLE, FORM_PARTIAL };
enum api_media { MEDIA_JSON, MEDIA_YAML };
struct api_accept {
    enum api_form form;
    enum api_media media;
    bool discovery_v2; /* as=APIGroupDiscoveryList */
};
/* Picks the first clause of an Accept header that can be served; false: none (406). */
bool accept_parse(struct str header, struct api_accept *out);

/* --- who and whether --- */

struct authn_result {
    struct api_user user;
    struct json *claims; /* of a service-account token, or NULL */
    struct str sa_ns, sa_name, sa_uid, pod_name, pod_uid, secret_name, secret_uid, node_name, jti;
};
struct api_request;
struct authn;
struct authn *authn_new(const struct api_options *o, struct error *err);
void authn_free(struct authn *n);
/* Any thread: tells who sends the request; false: nobody known (401). */
bool authn_request(struct authn *n, struct api_request *q, struct authn_result *out);
/* Any thread: checks a token's signature, times and audience (NULL: the API's own). */
bool authn_token(struct authn *n, struct arena *a, struct str token, const struct json *audiences,
                 struct authn_result *out);
/* Core: whether what the token is bound to still exists. */
bool authn_bound(struct api *api, const struct authn_result *who);

struct authz_ask {
    const struct api_user *user;
    bool resource;
    struct str verb, group, version, plural, subresource, ns, name, path;
};
struct rbac;
struct rbac *rbac_new(struct api *api);
void rbac_free(struct rbac *r);
/* Core. reason: why it was allowed, may be NULL. */
bool authz_allowed(struct api *api, const struct authz_ask *ask, struct arena *a, struct str *reason);
bool rbac_allowed(struct rbac *r, const struct authz_ask *ask, struct arena *a, struct str *reason);
/* Calls each(arg, rule) for every RBAC rule that applies to the user in ns (cluster-wide ones included). */
void rbac_rules_each(struct rbac *r, const struct api_user *user, struct str ns,
                     void (*each)(void *arg, const struct json *rule), void *arg);
int authz_deny(struct api_status *st, struct arena *a, const struct authz_ask *ask);
bool user_in_group(const struct api_user *u, const char *group);
bool node_authz_allowed(struct api *api, const struct authz_ask *ask, struct str node);

/* --- writes --- */

struct api_write;
/* What a kind does beyond the generic path. All members may be NULL. */
struct api_behaviour {
    const char *key;
    bool keeps_status;     /* create takes status from the body */
    bool status_metadata;  /* a status update may change labels and annotations */
    bool create_on_update; /* PUT of what is absent creates */
    bool update_needs_version;
    bool returns_deleted;               /* DELETE answers with the object */
    bool volatile_;                     /* never on disk */
    int (*create)(struct api_write *w); /* admission and stamping before validation */
    int (*update)(struct api_write *w);
    void (*validate)(struct api_write *w, struct field_errors *errs);
    bool (*heartbeat)(struct api_write *w);                  /* whether an update may stay off the disk */
    int (*remove)(struct api_write *w);                      /* before a deletion starts */
    int64_t (*grace)(const struct json *obj, int64_t asked); /* seconds; 0: at once */
    bool (*held)(const struct json *obj); /* kept although no finalizer is in metadata (namespaces) */
};

struct api_resource { /* one resource of the schema at run time; found by schema_resource.index */
    const struct schema_resource *r;
    struct store_kind *kind; /* NULL: nothing stored */
    const struct api_behaviour *behaviour;
};

struct api_write {
    struct api *api;
    struct arena *arena;
    struct api_status *status;
    const struct api_user *user;
    const struct schema_resource *r; /* storage version */
    const struct api_behaviour *b;
    struct str ns, name, sub;
    struct json *obj;       /* the new object, storage version, the write's own */
    const struct json *old; /* NULL on create */
    struct object *old_object;
    bool dry_run;
    bool created; /* out: also a PUT that created */
    bool gone;    /* out: the object was deleted for good; out is its last form */
    struct str precondition_rv;
    struct object *out; /* a reference; free-standing for a dry run */
    struct str warnings[API_WARNINGS_MAX];
    size_t warnings_n;
};
void write_init(struct api_write *w, struct api *api, struct arena *a, struct api_status *st,
                const struct api_user *user, const struct schema_resource *r, struct str ns, struct str name,
                struct str sub);
void write_fini(struct api_write *w);
int write_create(struct api_write *w);
int write_update(struct api_write *w);
int write_delete(struct api_write *w, const struct api_delete_options *o);
void write_warn(struct api_write *w, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* Body of version r to a defaulted tree of the storage version. */
struct json *write_decode(struct arena *a, const struct schema_resource *r, const struct json *body,
                          const struct schema_decode *opt, struct error *err);
/* Applies a patch to the stored object in version r; the new object in the storage version. */
struct patch_request {
    enum api_patch_type type;
    const struct schema_resource *r;
    const struct json *patch;
    const struct schema_decode *decode;
};
int patch_object(struct api_write *w, const struct patch_request *p, const struct json *old);
int64_t meta_version(const struct json *obj);
void meta_order(struct arena *a, struct json *obj);
bool has_status(const struct schema_resource *r);

/* --- the API --- */

struct discovery;
struct events_ring;
struct address_pool;
struct watch_hub;

struct api_check {
    char *name;
    bool ready;
};

struct api {
    struct loop *loop;
    struct store *store;
    const struct schema *schema;
    struct api_resource *resources;
    size_t resources_n;
    struct authn *authn;
    struct rbac *rbac;
    struct discovery *discovery;
    struct blob *openapi_index;
    struct events_ring *events;
    struct address_pool *addresses;
    struct watch_hub *watches;
    char *version_git, *sa_key_pem, *sa_issuer, *cluster_ca_pem, *cluster_dns, *service_cidr;
    char **sa_public_pem, **advertise;
    pthread_mutex_t checks_lock;
    VEC(struct api_check) checks;
    VEC(struct api_node) nodes;
    const struct schema_resource *pods, *namespaces, *services, *serviceaccounts, *secrets, *nodes_r, *events_r,
        *priorityclasses, *leases, *roles, *clusterroles, *rolebindings, *clusterrolebindings;
};
struct api_node {
    char *name;
    struct api_node_ops ops;
};

struct api_resource *api_resource(struct api *api, const struct schema_resource *r); /* of its storage version */
/* The stored object, borrowed until the next write; r of any version. */
struct object *api_peek(struct api *api, const struct schema_resource *r, struct str ns, struct str name);
const struct api_behaviour *behaviour_find(struct str key);

/* --- requests --- */

struct api_reply_ops { /* where answers go: an exchange, or a test's collector */
    void (*reply)(struct api_request *q, int code, const struct http_header *h, size_t h_n, struct blob *const *pieces,
                  size_t pieces_n);
    void (*stream_begin)(struct api_request *q, int code, const struct http_header *h, size_t h_n);
    void (*stream_chunk)(struct api_request *q, struct blob *b);
    size_t (*stream_backlog)(struct api_request *q);
    void (*stream_end)(struct api_request *q);
    /* fn(q) on the request's io thread. */
    void (*on_io)(struct api_request *q, loop_fn fn);
};

struct api_request {
    struct api *api;
    struct http_exchange *x; /* NULL in tests */
    const struct api_reply_ops *ops;
    void *ops_arg;
    struct arena *arena;
    struct str method, path, query, body;
    const struct http_header *headers;
    size_t headers_n;
    const struct tls_peer *peer;
    struct api_param *params;
    size_t params_n;
    struct api_target t;
    struct authn_result who;
    struct api_accept accept;
    const struct schema_resource *r; /* the version asked for */
    const struct schema_subresource *sub;
    struct json *input;             /* parsed body */
    enum api_patch_type patch_type; /* of a PATCH */
    struct json *object;            /* decoded and defaulted, storage version */
    struct api_status status;       /* code != 0: refused while being prepared; told after authorization */
    bool dry_run;
    struct str warnings[API_WARNINGS_MAX];
    size_t warnings_n;
    struct str strict[API_WARNINGS_MAX]; /* unknown and duplicate fields */
    size_t strict_n;
    /* the answer, while it waits for durability or for its io thread */
    int code, retry_after_s;
    const char *etag;           /* or NULL */
    struct str status_continue; /* metadata.continue of a Status */
    struct object **objects;    /* malloc'ed, references */
    size_t objects_n;
    struct str list_version, list_continue;
    int64_t list_remaining;
    void (*then)(struct api_request *q);
    struct watcher *watcher;
};
struct str request_header(const struct api_request *q, const char *name);
struct str request_param(const struct api_request *q, const char *name); /* p == NULL: absent */
bool request_param_bool(const struct api_request *q, const char *name);
/* Stage one (any thread) and two (core). request_prepare answers itself and returns false when nothing is left to do. */
bool request_prepare(struct api_request *q);
void request_run(struct api_request *q);
void request_warn(struct api_request *q, const char *fmt, ...) PRINTF_LIKE(2, 3);

void reply_status(struct api_request *q, const struct api_status *st);
void reply_error(struct api_request *q, int code, const char *reason, const char *fmt, ...) PRINTF_LIKE(4, 5);
void reply_blob(struct api_request *q, int code, const char *content_type, struct blob *b);
void reply_json(struct api_request *q, int code, const struct json *v); /* in the accepted media */
/* An object in the version and form asked for, once its revision is durable. Takes no reference. */
void reply_object(struct api_request *q, int code, struct object *o);
/* q->objects as a list, with q->list_*; encoded on the io thread. Takes the references. */
void reply_list(struct api_request *q);
void reply_stream_begin(struct api_request *q, const char *content_type);
/* When revision is durable: then(q) on the core thread; an error is answered. */
void request_when_durable(struct api_request *q, int64_t revision, void (*then)(struct api_request *q));

/* verbs */
void rest_get(struct api_request *q);
void rest_list(struct api_request *q);
void rest_watch(struct api_request *q);
void rest_create(struct api_request *q);
void rest_update(struct api_request *q);
void rest_patch(struct api_request *q);
void rest_delete(struct api_request *q);
void rest_delete_collection(struct api_request *q);
bool request_dry_run(struct api_request *q); /* false: answered */
/* Decodes q->input of version r by fieldValidation; false: q->status says why. */
bool request_decode(struct api_request *q, const struct schema_resource *r);
void request_decode_options(struct api_request *q, struct schema_decode *d);
/* After decoding: what unknown and duplicate fields mean by fieldValidation; false: q->status says so. */
bool request_strictness(struct api_request *q, const struct schema_resource *r);
void request_finish_write(struct api_request *q, struct api_write *w, int rc, int code);

bool request_version_reached(struct api_request *q, struct str rv); /* false: answered */
bool list_options_check(struct api_request *q, bool watch);         /* false: answered */

struct selectors {
    struct label_selector *labels;
    struct field_selector *fields;
};
bool selectors_parse(struct api_request *q, struct selectors *s); /* false: answered */
bool selectors_match(const struct selectors *s, const struct schema_resource *r, const struct json *obj);
bool selectors_empty(const struct selectors *s);

/* subresources and virtual kinds; true when it was theirs */
bool subresource_run(struct api_request *q);
bool review_run(struct api_request *q);
void scale_run(struct api_request *q);
void token_run(struct api_request *q);
void eviction_run(struct api_request *q);
void binding_run(struct api_request *q);
int pod_bind(struct api_write *w, const struct json *binding); /* a Binding object */

/* representations of trees and objects (table.c) */
void table_columns_put(struct buf *out, struct arena *a, const struct schema_resource *r);
/* One object as q wants it, appended: in version r, as a partial object or a row. */
int form_object(struct buf *out, struct arena *a, const struct schema_resource *r, enum api_form form,
                struct str include, struct object *o, struct error *err);
struct json *partial_object(struct arena *a, const struct json *v);
struct json *convert_out(struct arena *a, const struct schema_resource *r, const struct json *storage_tree,
                         struct error *err);

/* the rest */
struct discovery *discovery_new(struct api *api);
void discovery_free(struct discovery *d);
bool discovery_run(struct api_request *q); /* true: the path was discovery's and is answered */
void openapi_v3_index(struct api_request *q);
void openapi_v3(struct api_request *q);
void openapi_v2(struct api_request *q);
void health_run(struct api_request *q);
void metrics_run(struct api_request *q);
struct events_ring *events_new(struct api *api);
void events_free(struct events_ring *e);
struct watch_hub *watch_hub_new(struct api *api);
void watch_hub_free(struct watch_hub *h);
void watch_client_gone(struct api_request *q); /* core */
size_t watch_count(const struct watch_hub *h);
uint64_t watch_cut_count(const struct watch_hub *h);

struct address_pool *address_pool_new(const char *cidr, int port_first, int port_last, struct error *err);
void address_pool_free(struct address_pool *p);
void address_pool_watch(struct address_pool *p, struct api *api);
void address_pool_reserve(struct address_pool *p, const char *ip);
/* Text of a free service address in the arena, empty when none is left. */
struct str address_pool_pick(struct address_pool *p, struct arena *a);
/* NULL: ip may be taken; else what is wrong with it. */
const char *address_pool_check(struct address_pool *p, struct arena *a, struct str ip);
int address_pool_pick_port(struct address_pool *p); /* 0: none left */
const char *address_pool_check_port(struct address_pool *p, struct arena *a, int64_t port, struct str protocol);
struct str address_pool_first(struct address_pool *p, struct arena *a);

int token_mint(struct api *api, struct arena *a, struct object *sa, const struct json *audiences, int64_t expires_s,
               struct object *bound, const char *bound_kind, char **token, int64_t *expires_at_s, struct error *err);
