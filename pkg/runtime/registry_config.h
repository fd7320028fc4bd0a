/*
 * registries.yaml in k3s's format: which endpoints serve a registry, and with which credentials and TLS settings.
 * Source: the k3s documentation, "Private Registry Configuration". Pure; immutable once parsed.
 */
#pragma once

#include "runtime/image.h"
#include "runtime/image_name.h"

#define REGISTRY_ENDPOINTS_MAX 16

/* Settings of one host ("configs" in the file). Empty strings are not set. */
struct registry_host {
    struct str host; /* "registry.example.com:5000", "*" */
    struct str username, password, identity_token, token;
    struct str ca_file, cert_file, key_file;
    bool insecure_skip_verify;
};

/* A place that may serve an image: one mirror, or the registry itself. Strings live in the caller's arena. */
struct registry_endpoint {
    struct str base;                  /* "https://host:port/v2", no slash at the end */
    struct str host;                  /* "host:port" as in base */
    struct str repository;            /* the path to ask for: rewritten for mirrors */
    struct str ns;                    /* of a mirror: the registry it stands for, sent as ?ns= */
    const struct registry_host *auth; /* settings of the host, or NULL */
    size_t credential;                /* the one that worked last, to begin with */
    bool is_mirror;
};

/* Endpoints for a name in the order to try them, the registry itself last. r may be NULL. Returns how many (>= 1). */
size_t registry_endpoints(const struct image_registries *r, struct arena *a, const struct image_name *name,
                          struct registry_endpoint out[REGISTRY_ENDPOINTS_MAX]);
/* Settings for "host[:port]", those of "*" when it has none of its own, or NULL. r may be NULL. */
const struct registry_host *registry_host_find(const struct image_registries *r, struct str host);

struct registry_url {
    bool https;
    struct str host; /* "name", "name:port", "[v6]:port" */
    struct str path; /* with the query; "" or begins with '/' */
};
/* Takes an absolute http or https URL apart; false for anything else (user info, fragments, control bytes too). */
bool registry_url_parse(struct str url, struct registry_url *out);
