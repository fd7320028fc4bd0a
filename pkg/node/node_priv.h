/*
 * Private to pkg/node. Everything here lives on the node's loop.
 *
 * A pod is driven by pod_sync(), a level-triggered function: it looks at what is wanted and what is there and takes every step
 * that can be taken now. Whatever happens (an informer event, a message of a monitor, a pull, a timer) only notes what is
 * new and asks for a pod_sync().
 */
#pragma once

#include "node/node.h"

struct probe;
struct pull;
struct volume_set;

enum slot_kind { SLOT_INIT, SLOT_SIDECAR, SLOT_MAIN };
enum slot_state {
    SLOT_WAITING, /* nothing runs; the next step may be taken */
    SLOT_PULLING,
    SLOT_STARTING,
    SLOT_RUNNING,
    SLOT_EXITED,  /* for good, or until the restart policy has spoken */
    SLOT_BACKOFF, /* timer runs until the next try */
};

/* One container of the spec, over all its restarts. */
struct slot {
    struct pod *pod;
    enum slot_kind kind;
    enum slot_state state;
    const struct json *spec;     /* in pod->object */
    struct str name;             /* in pod->arena */
    struct container *container; /* the present one; an exited one stays until it is replaced. NULL: none */
    bool has_run;                /* id, now and exit_message tell of the present run */
    char id[80], image_id[160], image_name[300];
    struct container_status now; /* kept when the container itself is gone */
    struct image *image;
    struct pull *pull;
    char reason[64], message[400]; /* while waiting: why */
    struct container_status last;  /* of the run before */
    bool has_last;
    char last_id[80], last_reason[32], last_message[1024];
    char exit_message[1024]; /* termination message of the present run */
    int restart_count;
    int64_t backoff_ms;
    struct timer timer; /* back-off, or the end of a kill's grace */
    bool killing, kill_by_probe, started, ready, hook_running;
    struct probe *probes[3]; /* startup, liveness, readiness */
};

enum pod_stage {
    POD_NEW,
    POD_VOLUMES,  /* being written */
    POD_SANDBOX,  /* monitor starts */
    POD_NETWORK,  /* addresses */
    POD_RUNNING,  /* containers come and go */
    POD_STOPPING, /* containers end */
    POD_REMOVING, /* sandbox, volumes, network go */
    POD_REMOVED,  /* the API object may go */
};

struct pod {
    struct node *node;
    struct object *object; /* reference: the newest version */
    struct str ns, name, uid;
    struct arena *arena; /* names, slots */
    enum pod_stage stage;
    struct sandbox *sandbox;
    struct pod_network_result net;
    bool has_net;
    struct slot *slots; /* init containers, then main ones, in the order of the spec */
    size_t slots_n, init_n;
    struct volume_set *volumes;
    bool gone_from_api;                      /* the object was removed under us */
    bool terminating;                        /* deletionTimestamp seen, or evicted, or deadline over */
    bool finished;                           /* Succeeded or Failed: nothing starts any more */
    char fail_reason[64], fail_message[200]; /* DeadlineExceeded, Evicted ... */
    int64_t kill_at_ms;                      /* monotonic: when SIGTERM becomes SIGKILL */
    struct timer kill_timer, retry_timer, deadline_timer;
    bool sync_posted, busy; /* busy: a step of the sandbox's is under way */
    char started_at[TIME_RFC3339_MAX];
    bool status_dirty, status_flying, delete_sent;
    struct arena *status_arena; /* of the status sent last */
    struct json *status_sent;
    char wait_reason[64], wait_message[300]; /* why the pod as a whole waits */
    struct list link;                        /* node->posted */
};

struct node {
    struct node_options o;
    struct arena *arena; /* copies of the options' strings */
    struct loop *loop;
    struct client *client;
    struct runtime *runtime;
    struct image_store *images;
    struct map pods;                /* uid -> struct pod */
    struct map found;               /* pod uid -> struct sandbox: found at start, not claimed yet */
    struct map pulls;               /* image name -> struct pull */
    struct http_client *probe_http; /* made with the first HTTP probe */
    struct tls_config *probe_tls;
    struct client_informer *pod_informer, *node_informer, *config_maps, *secrets, *services;
    int synced; /* informers that are */
    bool recovered, network_ready, stopping, cidr_told, flush_posted;
    char network_reason[200];
    struct api_node_ops api_ops;
    /* registration.c */
    struct timer lease_timer, status_timer;
    struct arena *node_status_arena;
    struct json *node_status_sent;
    bool registered, node_status_flying, node_status_dirty;
    struct object *node_object; /* reference; what events are about */
};

/* --- node.c --- */
struct pod *node_pod(struct node *n, struct str uid);
struct pod *node_pod_by_name(struct node *n, struct str ns, struct str name);
void node_forget_pod(struct pod *p);
const char *node_path(struct arena *a, const struct node *n, const char *fmt, ...)
    PRINTF_LIKE(3, 4); /* below data_dir */

/* --- registration.c --- */
int registration_start(struct node *n);
void registration_stop(struct node *n);
void registration_update(struct node *n); /* something of the node's status may have changed */

/* --- pod.c --- */
struct pod *pod_new(struct node *n, struct object *o);
void pod_free(struct pod *p);
void pod_refresh(struct pod *p, struct object *o);
void pod_adopt(struct pod *p, struct sandbox *s); /* after a restart of this process */
void pod_want_sync(struct pod *p);
void pod_terminate(struct pod *p); /* graceful end; the object goes when all is over */
void pod_removed_from_api(struct pod *p);
void pod_event(struct pod *p, const char *type, const char *reason, const char *fmt, ...) PRINTF_LIKE(4, 5);
void pod_container_exited(struct pod *p, struct container *c);
void pod_sandbox_lost(struct pod *p);
int64_t pod_grace_s(const struct pod *p);

/* --- slot.c: containers --- */
void slots_make(struct pod *p);
void slots_rebind(struct pod *p); /* the object was replaced: specs move */
/* Takes all steps that can be taken now. Whether every container has ended for good. */
bool slots_sync(struct pod *p);
void slot_exited(struct slot *s);
void slot_restart(struct slot *s, const char *why); /* a failed liveness or startup probe */
/* Ends what runs; true when nothing does any more. */
bool slots_stop(struct pod *p);
void slots_kill_now(struct pod *p);
bool slots_idle(const struct pod *p); /* no hook runs that would come back to the pod */
void slots_fini(struct pod *p);
void slot_adopt(struct pod *p, struct container *c);
struct slot *slot_find(struct pod *p, struct str name);
bool slot_is_running(const struct slot *s);

/* --- pod_spec.c: from the API's words to the runtime's --- */
/* Fills cfg (strings in a). -EAGAIN with reason/message in the slot: something referenced is missing. */
int container_config_make(struct slot *s, struct arena *a, struct container_config *cfg);
void sandbox_config_make(struct pod *p, struct arena *a, struct sandbox_config *cfg);
const char *pod_qos(const struct json *pod);
struct str pod_hostname(const struct pod *p);
/* $(NAME) expansion as Kubernetes does it; env: "K=V" strings. */
struct str expand_variables(struct arena *a, struct str text, const struct str *env, size_t env_n);

/* --- env.c --- */
struct env {
    struct str *items; /* "K=V", in the arena */
    size_t n, cap;
};
/* All sources in order. -ENOENT: message says what is missing. */
int env_make(struct slot *s, struct arena *a, struct env *out, char *message, size_t message_n);
/* downward API: value of metadata.name and friends; p == NULL for a field that does not exist. */
struct str downward_field(const struct pod *p, struct arena *a, struct str path);
int downward_resource(const struct pod *p, struct arena *a, const struct json *ref, const struct json *container,
                      struct str *out);

/* --- volumes.c --- */
/* Prepares all volumes on the pool, then asks for a sync. Waiting (missing ConfigMaps, tokens) shows in pod->wait_*. */
void volumes_start(struct pod *p);
bool volumes_ready(const struct pod *p);
/* Bind mounts of one container, in order, into out (arena a); -EAGAIN as above. */
int volumes_mounts(struct slot *s, struct arena *a, const struct env *env, struct container_mount **out, size_t *n);
/* A ConfigMap or Secret changed: pods that use it get it. */
void volumes_object_changed(struct node *n, const char *kind, struct object *o);
/* Unmounts and removes on the pool; done(arg) on the loop. */
void volumes_remove(struct pod *p, loop_fn done, void *arg);
/* Whether nothing of the volumes' is under way any more, so that the pod may be freed. */
bool volumes_idle(const struct pod *p);
void volumes_free(struct pod *p);
/* Removes the directories of pods that do not exist any more. */
void volumes_clean_orphans(struct node *n);
char *pod_dir(struct arena *a, const struct pod *p);

/* --- files.c: /etc/hosts, /etc/resolv.conf --- */
int pod_files_write(struct pod *p, struct error *err);
void resolv_conf_make(const struct pod *p, const char *host_text, struct buf *out);
void hosts_make(const struct pod *p, struct buf *out);

/* --- pull.c --- */
/* Makes s->image appear, by the pull policy; a sync follows. */
void pull_start(struct slot *s);
void pull_forget(struct slot *s); /* the slot does not wait for it any more */

/* --- probe.c --- */
void probes_start(struct slot *s);
void probes_stop(struct slot *s);

/* For requests to pods; checks no certificates, as Kubernetes says of probes. */
struct http_client *node_http_client(struct node *n);

/* --- hook.c: postStart and preStop --- */
bool hook_run(struct slot *s, const char *which, loop_fn done, void *arg); /* false: there is none */

/* --- status.c --- */
struct json *pod_status_make(struct pod *p, struct arena *a); /* pure but for clocks */
void pod_status_dirty(struct pod *p);                         /* written soon, several changes at once */
const char *pod_phase(const struct pod *p);
bool pod_is_ready_now(const struct pod *p);

/* --- logs.c, exec.c --- */
void logs_serve(struct node *n, struct http_exchange *x, struct pod *p);
void exec_serve(struct node *n, struct http_exchange *x, struct pod *p);
void attach_serve(struct node *n, struct http_exchange *x, struct pod *p);
void port_forward_serve(struct node *n, struct http_exchange *x, struct pod *p);
/* The container that a request means, or NULL and an error reply. */
struct slot *serve_slot(struct http_exchange *x, struct pod *p);
char *log_path_of(struct arena *a, const struct slot *s, int restart_count);
