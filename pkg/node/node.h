/*
 * pkg/node: Kubernetes on top of the runtime. Registers the Node, runs the pods bound to it, keeps their volumes,
 * probes, status and events, serves logs and exec. One thread (its loop); blocking work on the pool; the API
 * through pkg/client. Event-driven: monitors, informers and timers, no relist.
 */
#pragma once

#include "client/client.h"
#include "runtime/runtime.h"

struct node;

/* What the pod network does for the node (pkg/cluster implements it). Calls on the node's loop; done on it too. */
struct pod_network_result {
    char ips[2][48]; /* "" when absent; [0] is the pod's primary address */
};
struct pod_network_ops {
    /* Connects the network namespace: link, address, routes. key: the pod's uid. netns_fd is borrowed until done. */
    void (*attach)(void *net, struct str key, int netns_fd,
                   void (*done)(void *arg, int code, const struct pod_network_result *r, const struct error *err),
                   void *arg);
    /* Says that an adopted pod holds these addresses already. */
    void (*adopt)(void *net, struct str key, const struct pod_network_result *r);
    /* Gives back; the namespace may be gone already. Harmless when unknown. */
    void (*detach)(void *net, struct str key);
    /* Host ports of a pod (JSON: [{hostIP,hostPort,protocol,containerPort}]) to its address; an empty array removes. */
    void (*host_ports)(void *net, struct str key, const char *pod_ip, const struct json *ports);
};

struct node_options {
    struct loop *loop;
    struct client *client;
    const char *name;        /* DNS label(s) */
    const char *data_dir;    /* /var/lib/dory/agent: kubelet-like state below it */
    const char *run_dir;     /* /run/dory */
    const char *log_dir;     /* /var/log/pods */
    const char *address;     /* the node's IP; NULL: chosen from the interfaces */
    const char *resolv_conf; /* the host's */
    const char *cluster_dns, *cluster_domain;
    const struct image_registries *registries;
    const char *images_dir;    /* air-gap images, or NULL */
    const char *const *labels; /* "k=v", NULL-terminated or NULL */
    const char *const *taints; /* "k=v:Effect" */
    const struct pod_network_ops *network;
    void *network_arg;
    int max_pods;        /* 0: 110 */
    const char *version; /* "v1.36.0+dory1" */
    /* The node's podCIDR is known and the network may be brought up with it: code on the node's loop. */
    void (*on_pod_cidr)(void *arg, const char *cidr);
    void *arg;
};
/* Starts; errors that make a node impossible (runtime, image store) are returned. */
int node_start(const struct node_options *o, struct node **out, struct error *err);
/* The network is up (or not, with a reason): the Ready condition follows. Any thread. */
void node_network_ready(struct node *n, bool ready, const char *reason);
/* For api_set_node_ops(). */
const struct api_node_ops *node_api_ops(struct node *n);
/* Lets go of pods without stopping them; done(arg) on the node's loop, then the node is freed. */
void node_stop(struct node *n, loop_fn done, void *arg);
/* Address the node settled on, "ip". */
const char *node_address(const struct node *n);
