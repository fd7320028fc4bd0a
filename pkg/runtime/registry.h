/*
 * Client of OCI distribution (Docker registry v2): gets manifests and blobs from the endpoints of a name, with
 * authentication, redirects, fall-back from one endpoint to the next, and resumption of broken downloads. Everything on
 * one loop; callbacks are never called inline. Source: the OCI distribution specification 1.1.
 */
#pragma once

#include "net/net.h"
#include "runtime/image_name.h"
#include "runtime/registry_auth.h"
#include "runtime/registry_config.h"

struct registry; /* TLS configurations, connections and tokens shared by all requests */

struct registry_options {
    struct loop *loop;
    const struct image_registries *registries; /* borrowed; may be NULL */
    int64_t idle_timeout_ms;                   /* 0: 30 s without a byte fails a request */
    int64_t retry_ms;                          /* first pause before a broken download goes on; 0: 1 s */
};
struct registry *registry_new(const struct registry_options *o);
/* No request may be running. */
void registry_free(struct registry *r);

/* Where and as whom to ask for one image. Refcounted: its downloads may outlive the pull that made it. */
struct registry_source {
    unsigned refs;
    struct arena *arena;
    struct image_name name;
    struct registry_endpoint endpoints[REGISTRY_ENDPOINTS_MAX];
    size_t endpoints_n;
    struct registry_credential *credentials; /* given by the caller: for the registry itself, not for mirrors */
    size_t credentials_n;
};
/* text: a normalised or short name. NULL and err when it is malformed. */
struct registry_source *registry_source_new(const struct image_registries *r, struct str text,
                                            const struct image_auth *auths, size_t auths_n, struct error *err);
struct registry_source *registry_source_ref(struct registry_source *s);
void registry_source_unref(struct registry_source *s);

/* --- one request to one endpoint ---------------------------------------------------------------------------------- */

struct registry_fetch;

struct registry_fetch_options {
    size_t endpoint;
    const char *path;    /* "manifests/latest", "blobs/sha256:..." */
    const char *accept;  /* or NULL */
    uint64_t offset;     /* ask for the bytes from here on (the answer may be 200 all the same) */
    int64_t deadline_ms; /* the whole request must be done by then; 0: none */
};
struct registry_fetch_events {
    /* Head of the final answer, 200 or 206. */
    int (*on_head)(void *arg, int status, const struct http_header *headers, size_t n);
    int (*on_body)(void *arg, struct str data);
    /* Last. -ENOENT: not found; -EACCES: denied; -ETIMEDOUT; -EBUSY: too many requests; others: network or protocol. */
    void (*on_done)(void *arg, int code, const struct error *err);
    void *arg;
};
struct registry_fetch *registry_fetch_start(struct registry *r, struct registry_source *s,
                                            const struct registry_fetch_options *o,
                                            const struct registry_fetch_events *ev);
void registry_fetch_cancel(struct registry_fetch *f); /* on_done(-ECANCELED) follows */
void registry_fetch_pause(struct registry_fetch *f, bool pause);

/* --- small documents, from the first endpoint that has them -------------------------------------------------------- */

struct registry_get;

struct registry_document {
    struct str body;                   /* valid during the callback */
    struct str content_type;           /* without parameters */
    char digest[IMAGE_DIGEST_LEN + 1]; /* computed from the body */
    size_t endpoint;                   /* that served it */
};
struct registry_get_options {
    size_t endpoint; /* the first to try */
    const char *path, *accept;
    size_t bytes_max;
    struct str digest; /* expected, or empty */
};
typedef void registry_get_done(void *arg, const struct registry_document *doc, int code, const struct error *err);
struct registry_get *registry_get_start(struct registry *r, struct registry_source *s,
                                        const struct registry_get_options *o, registry_get_done *done, void *arg);
void registry_get_cancel(struct registry_get *g); /* done(-ECANCELED) follows */

/* --- blobs --------------------------------------------------------------------------------------------------------- */

struct registry_blob;

struct registry_blob_events {
    /* In order, from the first byte to the last, whatever happens on the way. The digest is the receiver's to check. */
    int (*on_data)(void *arg, struct str data);
    void (*on_done)(void *arg, int code, const struct error *err); /* last */
    void *arg;
};
struct registry_blob *registry_blob_start(struct registry *r, struct registry_source *s, size_t endpoint,
                                          struct str digest, uint64_t size, const struct registry_blob_events *ev);
size_t registry_blob_endpoint(const struct registry_blob *b); /* the one in use */
void registry_blob_cancel(struct registry_blob *b);           /* on_done(-ECANCELED) follows */
void registry_blob_pause(struct registry_blob *b, bool pause);

/* --- private to registry*.c --- */
struct registry_transport;
/* The client for a host, made on first use. ready(arg, client, err) never comes inline. */
struct http_client;
typedef void registry_transport_ready(void *arg, struct http_client *c, int code, const struct error *err);
void registry_transport_get(struct registry *r, bool https, struct str host, const struct registry_host *settings,
                            registry_transport_ready *ready, void *arg);
void registry_busy(struct registry *r, int delta); /* counts running requests: idle connections are closed at 0 */
struct loop *registry_loop(struct registry *r);
int64_t registry_retry_ms(const struct registry *r);
int64_t registry_idle_ms(const struct registry *r);
const struct image_registries *registry_settings(const struct registry *r);
/* Cached Authorization value, or empty. */
struct str registry_token_get(struct registry *r, struct str key);
void registry_token_put(struct registry *r, struct str key, struct str value, int64_t expires_in_s);
void registry_token_drop(struct registry *r, struct str key);
