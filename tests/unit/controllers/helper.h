/* What the controllers' tests share: an API on a memory store with all controllers running, asked as a client would. */
#pragma once

#include "../api/helper.h"

#include "controllers/internal.h"

static struct controllers *running;

static inline int start_with(void **state, int64_t node_monitor_grace_ms) {
    set_up(state);
    struct fixture *f = *state;
    struct controllers_options o = {.api = f->api,
                                    .cluster_cidr = "10.42.0.0/16",
                                    .cluster_ca_pem = "the cluster's CA\n",
                                    .node_monitor_grace_ms = node_monitor_grace_ms};
    running = controllers_start(&o);
    return 0;
}
static inline int start(void **state) {
    return start_with(state, 0);
}
static inline int stop(void **state) {
    controllers_stop(running);
    return tear_down(state);
}

/* Everything that is queued now has run. */
static inline void settle(struct fixture *f) {
    for (int i = 0; i < 60; i++)
        uv_run(loop_uv(f->loop), UV_RUN_NOWAIT);
}

#define UNTIL(f, cond)                                                   \
    do {                                                                 \
        int64_t until_ = time_mono_ms() + 10000;                         \
        while (!(cond)) {                                                \
            uv_run(loop_uv((f)->loop), UV_RUN_NOWAIT);                   \
            if (time_mono_ms() > until_)                                 \
                fail_msg("%s:%d: never: %s", __FILE__, __LINE__, #cond); \
        }                                                                \
    } while (0)

static inline int64_t int_of(struct fixture *f, const char *target, const char *path) {
    struct answer *x = ask(f, "GET", target, NULL, NULL);
    int64_t v = x->code == 200 ? json_int_at(x->json, path, 0) : -1;
    answer_free(x);
    return v;
}
static inline bool str_is(struct fixture *f, const char *target, const char *path, const char *wanted) {
    struct answer *x = ask(f, "GET", target, NULL, NULL);
    bool same = x->code == 200 && str_eq_c(json_str_at(x->json, path), wanted);
    answer_free(x);
    return same;
}
static inline bool exists(struct fixture *f, const char *target) {
    struct answer *x = ask(f, "GET", target, NULL, NULL);
    int code = x->code;
    answer_free(x);
    assert_true(code == 200 || code == 404);
    return code == 200;
}
static inline int count(struct fixture *f, const char *list) {
    struct answer *x = ask(f, "GET", list, NULL, NULL);
    assert_int_equal(x->code, 200);
    int n = (int)json_len(json_get_c(x->json, "items"));
    answer_free(x);
    return n;
}
static inline void merge(struct fixture *f, const char *target, const char *patch) {
    expect_as(f, ADMIN_TOKEN, 200, "PATCH", target, "Content-Type: application/merge-patch+json", patch);
}

#define PODS "/api/v1/namespaces/default/pods"
#define SETS "/apis/apps/v1/namespaces/default/replicasets"
#define DEPLOYMENTS "/apis/apps/v1/namespaces/default/deployments"

/* What a node would report of a pod; ip may be NULL. */
static inline void report_pod(struct fixture *f, const char *name, const char *phase, bool ready, const char *ip) {
    char target[300], patch[600], now[TIME_RFC3339_MAX], ips[200] = "";
    if (ip)
        snprintf(ips, sizeof(ips), "\"podIP\":\"%s\",\"podIPs\":[{\"ip\":\"%s\"}],", ip, ip);
    snprintf(target, sizeof(target), PODS "/%s/status", name);
    snprintf(patch, sizeof(patch),
             "{\"status\":{%s\"phase\":\"%s\",\"conditions\":[{\"type\":\"Ready\",\"status\":\"%s\","
             "\"lastTransitionTime\":\"%s\"}]}}",
             ips, phase, ready ? "True" : "False", time_now_rfc3339(now));
    merge(f, target, patch);
}

struct pod_counts {
    int all, ready, image; /* image: those that run the image asked for */
};
static inline struct pod_counts count_pods(struct fixture *f, const char *image) {
    struct pod_counts n = {0};
    struct answer *x = ask(f, "GET", PODS, NULL, NULL);
    const struct json *items = json_get_c(x->json, "items");
    for (size_t i = 0; i < json_len(items); i++) {
        const struct json *p = json_item(items, i);
        n.all++;
        n.ready += pod_is_ready(p);
        n.image += image && str_eq_c(json_str_at(json_item(json_at(p, "spec.containers"), 0), "image"), image);
    }
    answer_free(x);
    return n;
}
/* Makes the first pod that is not Ready, and runs image (NULL: any), Ready. False: there was none. */
static inline bool ready_one(struct fixture *f, const char *image) {
    struct answer *x = ask(f, "GET", PODS, NULL, NULL);
    const struct json *items = json_get_c(x->json, "items");
    bool done = false;
    for (size_t i = 0; i < json_len(items) && !done; i++) {
        const struct json *p = json_item(items, i);
        if (pod_is_ready(p) ||
            (image && !str_eq_c(json_str_at(json_item(json_at(p, "spec.containers"), 0), "image"), image)))
            continue;
        report_pod(f, json_str_at(p, "metadata.name").p, "Running", true, NULL);
        done = true;
    }
    answer_free(x);
    return done;
}
static inline void ready_all(struct fixture *f) {
    settle(f);
    while (ready_one(f, NULL))
        settle(f);
}
