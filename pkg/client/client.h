/*
 * pkg/client: the API as the node, the network and the ingress see it, from any thread: in-process (messages to the core
 * thread, objects shared by reference) or, for agents, HTTPS. Callbacks come on the loop given.
 */
#pragma once

#include "api/api.h"

struct client;

/* user (copied; NULL: the system's) is authorised as for HTTP, GET and informers aside. A node's user names the host in events.
 * The api outlives whatever was asked of the client; the client itself may be freed before. */
struct client *client_in_process(struct api *api, const struct api_user *user, const char *manager);
void client_free(struct client *c);

struct client_informer;
enum informer_event { INFORMER_ADDED, INFORMER_MODIFIED, INFORMER_DELETED, INFORMER_SYNCED };
struct informer_options {
    const char *resource;       /* key: "pods", "endpointslices.discovery.k8s.io" */
    const char *field_selector; /* or NULL: "spec.nodeName=n1" */
    const char *label_selector; /* or NULL */
    struct loop *loop;          /* callbacks' loop */
    /* SYNCED (o NULL) once after the first full list. old: the version before, or NULL. Both borrowed. Versions that came
     * and went before the caller looked may be left out; what no longer matches the selectors is DELETED. Only what is
     * durable is told. */
    void (*fn)(void *arg, enum informer_event e, struct object *o, struct object *old);
    void *arg;
};
/* Any thread. Keeps a cache of what it was told: client_informer_get/each on its loop. An unknown resource or a bad selector
 * is logged, and the informer never syncs. Must be stopped before the core loop ends. */
struct client_informer *client_informer(struct client *c, const struct informer_options *o);
void client_informer_stop(struct client_informer *i); /* on its loop; no callback after it */
struct object *client_informer_get(struct client_informer *i, struct str ns, struct str name); /* borrowed or NULL */
void client_informer_each(struct client_informer *i, bool (*each)(void *arg, struct object *o), void *arg);

enum client_verb {
    CLIENT_CREATE,
    CLIENT_UPDATE,
    CLIENT_PATCH_MERGE,
    CLIENT_PATCH_STRATEGIC,
    CLIENT_DELETE,
    CLIENT_GET
};
struct client_request {
    enum client_verb verb;
    const char *resource;             /* key */
    struct str ns, name, subresource; /* copied */
    const struct json *body;          /* copied; DELETE: DeleteOptions or NULL */
    struct loop *loop;
    /* code 0 and the object (borrowed; NULL after a complete delete), or negative as api_* and the status. NULL: don't care. */
    void (*done)(void *arg, int code, struct object *o, const struct api_status *status);
    void *arg;
};
/* Any thread. Answered when the write (of GET: what was read) is durable; -ENOENT for an unknown resource, too. */
void client_do(struct client *c, const struct client_request *r);
/* Any thread: an Event about an object (a reference is taken inside). */
void client_event(struct client *c, struct object *about, const char *component, const char *type, const char *reason,
                  const char *message);
/* A bound token for a pod's projected volume; done on loop, token borrowed. */
void client_token(struct client *c, struct object *pod, struct str service_account, struct str audience,
                  int64_t expires_s, struct loop *loop,
                  void (*done)(void *arg, int code, const char *token, int64_t expires_at_s), void *arg);
