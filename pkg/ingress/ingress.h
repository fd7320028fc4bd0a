/*
 * pkg/ingress: the L7 proxy on libuv and the controller that feeds it from Ingress, IngressClass, Service, EndpointSlice
 * and Secret objects. Paths and hosts are matched as data; there is no generated configuration.
 */
#pragma once

#include "client/client.h"

struct ingress;

struct ingress_options {
    struct loop *loop; /* proxy loop */
    struct client *client;
    const char *http_address;                       /* "0.0.0.0:80" */
    const char *https_address;                      /* "0.0.0.0:443" */
    const char *class_name;                         /* NULL: "dory"; also serves Ingresses without a class */
    const char *published_ip;                       /* written to Ingress status; may be NULL */
    const char *default_cert_pem, *default_key_pem; /* for TLS without a matching Secret */
};
/* An address in use is an error that names it. */
int ingress_start(const struct ingress_options *o, struct ingress **out, struct error *err);
void ingress_stop(struct ingress *i, loop_fn done, void *arg);
