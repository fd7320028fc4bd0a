/*
 * What Ingress objects say, as a table: hosts, their paths, the Service ports behind them and where those are reached. Built
 * from objects by pure functions, then immutable but for the round-robin position; on the proxy's loop only.
 */
#pragma once

#include "codec/json.h"
#include "net/dial.h"
#include "net/tls.h"

enum backend_state {
    BACKEND_NO_SERVICE, /* there is no such Service */
    BACKEND_NO_PORT,    /* it has no such port */
    BACKEND_UNSUPPORTED,
    BACKEND_NO_ENDPOINT, /* no pod behind it is ready */
    BACKEND_READY
};

/* A Service port that some rule leads to. */
struct ingress_backend {
    struct ingress_backend *next_of_service;
    struct str ns, service;
    struct str port_name;  /* set: the port by name */
    int64_t port;          /* else by number */
    struct str slice_port; /* name of that port in EndpointSlices */
    enum backend_state state;
    VEC(struct address) endpoints;
    size_t turn; /* of the next request */
};

/* Names of a tls section with the Secret of their certificate. */
struct ingress_tls {
    struct str host, ns, secret;
};

struct ingress_rules {
    unsigned refs; /* of one loop */
    struct arena *arena;
    struct map hosts;    /* struct host, by name in lower case; "*.x" and "" among them */
    struct map services; /* first struct ingress_backend, by "namespace/name" */
    VEC(struct ingress_backend *) backends;
    VEC(struct ingress_tls) tls;
    struct ingress_backend *fallback; /* of Ingresses without rules, then of those with */
    bool fallback_weak;
    size_t served;    /* Ingresses in it */
    struct map certs; /* struct tls_config (a reference), by host: who builds the table fills it */
};

/* Whether a controller of this class serves the Ingress: by spec.ingressClassName, else by the annotation
 * kubernetes.io/ingress.class; one without either is served, too. */
bool ingress_is_served(const struct json *ingress, const char *class_name);

/* The table of all objects (networking.k8s.io/v1) that are served; older ones win where two say something about the same.
 * One reference. */
struct ingress_rules *ingress_rules_new(const struct json *const *ingresses, size_t n, const char *class_name);
struct ingress_rules *ingress_rules_ref(struct ingress_rules *r);
void ingress_rules_unref(struct ingress_rules *r); /* NULL is fine */

/*
 * The backend for a request, or NULL. host: the Host header (a port, a final dot and the case do not matter). path: clean, see
 * ingress_path_clean(). The exact host goes before the wildcard ("*.x.y": exactly one label), which goes before no host; in
 * a host the longest path, Exact before Prefix; then the default backends in the same order.
 */
struct ingress_backend *ingress_rules_find(const struct ingress_rules *r, struct str host, struct str path);
/* A request path as rules see it: percent-decoded, without "." and ".." segments and empty ones. false when malformed. */
bool ingress_path_clean(struct arena *a, struct str raw, struct str *out);
/* Lower case, without port, brackets and final dot. */
struct str ingress_host_clean(struct arena *a, struct str host);

/* --- where backends are --- */

struct ingress_backend *ingress_rules_service(const struct ingress_rules *r, struct str ns, struct str name);
/* First each Service (v1), then each EndpointSlice (discovery.k8s.io/v1); those that no rule needs are ignored. */
void ingress_rules_add_service(struct ingress_rules *r, const struct json *service);
void ingress_rules_add_slice(struct ingress_rules *r, const struct json *slice);
/* An endpoint in turn, or NULL. */
const struct address *ingress_backend_next(struct ingress_backend *b);
/* The certificate for a server name (borrowed), or NULL. */
struct tls_config *ingress_rules_cert(const struct ingress_rules *r, struct str name);
