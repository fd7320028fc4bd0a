/*
 * pkg/api: the Kubernetes API on schema and store. One request pipeline for clients outside and inside: authentication,
 * authorization, admission, defaults, validation, REST verbs, subresources, discovery, tables, watches.
 *
 * Everything here runs on the core thread, unless said otherwise. Controllers call api_create() and its siblings as plain
 * synchronous functions; HTTP requests come as exchanges from io threads and are answered when their write is durable.
 */
#pragma once

#include "net/net.h"
#include "schema/schema.h"
#include "store/store.h"

struct api;

/* Who asks. */
struct api_user {
    struct str name, uid;
    const struct str *groups;
    size_t groups_n;
};
extern const struct api_user api_user_system; /* system:apiserver in system:masters: the controllers */

/* meta/v1 Status of a failure: what clients see. */
struct api_status {
    int code;          /* HTTP; 0: success */
    struct str reason; /* "NotFound", "AlreadyExists", "Conflict", "Invalid", "Forbidden", ... */
    struct str message;
    struct json *details; /* may be NULL */
};

struct api_options {
    struct loop *loop; /* core */
    struct store *store;
    const struct schema *schema;
    const char *version_git; /* "v1.36.0+dory1" */
    const char *service_cidr, *cluster_cidr, *cluster_dns, *cluster_domain;
    int node_port_first, node_port_last;
    const char *sa_key_pem;           /* signs service-account tokens */
    const char *const *sa_public_pem; /* verify them; NULL-terminated */
    const char *sa_issuer;            /* "https://kubernetes.default.svc.cluster.local" */
    const char *cluster_ca_pem;       /* content of kube-root-ca.crt */
    /* Static bearer tokens "token,user,uid,group1|group2" lines, may be NULL. */
    const char *static_tokens;
    const char *const *advertise; /* endpoints of the kubernetes service: "ip:port", NULL-terminated */
};
int api_new(const struct api_options *o, struct api **out, struct error *err);
void api_free(struct api *api);
/* Namespaces, service kubernetes, roles, priority classes and what else a fresh cluster has; idempotent. */
int api_bootstrap(struct api *api, struct error *err);
/* http_server's handler: any io thread; arg is the struct api. */
void api_http_handler(void *api, struct http_exchange *x);
/* Readiness: "name" is false until told true; /readyz waits for all registered. */
void api_ready_register(struct api *api, const char *name);
void api_ready_set(struct api *api, const char *name, bool ready);

struct store *api_store(struct api *api);
const struct schema *api_schema(struct api *api);
struct loop *api_loop(struct api *api);

/* --- in-process calls: objects are storage-version JSON trees; results are new references --- */

struct api_call {
    struct api *api;
    const struct api_user *user; /* NULL: api_user_system (no authorization) */
    const char *manager;         /* field manager: "deployment-controller" */
    struct arena *arena;         /* of status and scratch: the caller's */
    struct api_status status;    /* set when a call fails (negative return) */
};
/* -EEXIST, -ENOENT, -ESTALE (resourceVersion conflict), -EINVAL (validation), -EPERM/-EACCES (forbidden) and others;
 * api_call.status has the details. resource: a storage resource; ns "" for cluster scope.
 * subresource "", "status", "finalize" (namespaces) or "binding" (pods; obj is a Binding). An update that changes nothing writes
 * nothing and succeeds. */
int api_create(struct api_call *c, const struct schema_resource *r, struct str ns, const struct json *obj,
               struct object **out);
int api_update(struct api_call *c, const struct schema_resource *r, struct str ns, struct str name,
               struct str subresource, const struct json *obj, struct object **out);
enum api_patch_type { API_PATCH_JSON, API_PATCH_MERGE, API_PATCH_STRATEGIC, API_PATCH_APPLY };
int api_patch(struct api_call *c, const struct schema_resource *r, struct str ns, struct str name,
              struct str subresource, enum api_patch_type type, const struct json *patch, struct object **out);
struct api_delete_options {
    int64_t grace_period_s; /* -1: the kind's default */
    struct str propagation; /* "", "Background", "Foreground", "Orphan" */
    struct str uid;         /* precondition or "" */
};
int api_delete(struct api_call *c, const struct schema_resource *r, struct str ns, struct str name,
               const struct api_delete_options *o, struct object **out); /* out: the object still there, or NULL */
struct object *api_get(struct api *api, const struct schema_resource *r, struct str ns, struct str name);

/* Records an Event about an object (core/v1, volatile, counted up when it repeats). type "Normal" or "Warning". */
void api_event(struct api *api, struct object *about, const char *component, const char *host, const char *type,
               const char *reason, const char *fmt, ...) PRINTF_LIKE(7, 8);

/* --- what the node serves to the API: logs, exec, attach, port-forward --- */
struct api_node_ops {
    /* Called on the core thread with an authorised exchange (the reference is handed over) of
     * /api/v1/namespaces/NS/pods/NAME/<sub>: sub is "log", "exec", "attach", "portforward"; the query is the exchange's. The node
     * answers on its own thread. pod: a reference handed over. */
    void (*serve)(void *arg, struct http_exchange *x, struct object *pod, struct str subresource);
    void *arg;
};
void api_set_node_ops(struct api *api, struct str node_name, const struct api_node_ops *ops);
/* A Status body as JSON text; for those who answer exchanges themselves. */
struct blob *api_status_blob(int code, const char *reason, const char *message);
void api_reply_error(struct http_exchange *x, int code, const char *reason, const char *fmt, ...) PRINTF_LIKE(4, 5);

/* Mints a bound service-account token (for projected volumes): malloc'ed token. */
int api_token_create(struct api *api, struct str ns, struct str service_account, const struct json *audiences,
                     int64_t expires_s, struct object *bound_pod, char **token, int64_t *expires_at_s,
                     struct error *err);
