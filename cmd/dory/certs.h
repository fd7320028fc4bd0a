/*
 * The cluster's certificates, tokens and kubeconfigs on disk, below <data_dir>/server as k3s lays them out. Authorities
 * are made once; leaves are made again at start when they are missing, damaged, near their end or do not cover the
 * names and addresses of today.
 */
#pragma once

#include "config.h"

struct certs { /* PEM texts, malloc'ed */
    char *server_ca, *server_ca_key, *client_ca, *client_ca_key;
    char *serving, *serving_key; /* of the API */
    char *admin, *admin_key;     /* client, system:masters */
    char *service_key;           /* signs service-account tokens */
    char *token;                 /* K10<hash>::server:<secret> */
};

/* addresses and names: what the serving certificate must cover beyond the fixed ones, NULL-terminated. */
int certs_ensure(const struct config *cfg, const char *const *dns_names, const char *const *addresses,
                 struct certs *out, struct error *err);
void certs_fini(struct certs *c);
/* Writes the admin's kubeconfig for https://127.0.0.1:port. */
int kubeconfig_write(const struct config *cfg, const struct certs *c, struct error *err);
