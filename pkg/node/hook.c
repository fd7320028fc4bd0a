/* postStart and preStop: exec, httpGet, tcpSocket (kept for old manifests: it does nothing), sleep. */
#include <stdio.h>
#include <stdlib.h>

#include "node/node_priv.h"

#define HOOK_MAX_MS (24 * 3600 * 1000ll) /* a kill's grace ends it earlier */

struct hook {
    struct slot *slot;
    struct pod *pod;
    const char *which;
    loop_fn done;
    void *arg;
    struct timer timer;
    int status;
};

static void finish(struct hook *h, bool ok, const char *why) {
    bool start = strcmp(h->which, "postStart") == 0;
    if (!ok)
        pod_event(h->pod, "Warning", start ? "FailedPostStartHook" : "FailedPreStopHook", "%s failed: %s",
                  start ? "PostStartHook" : "PreStopHook", why);
    timer_stop(&h->timer);
    if (!ok && start && slot_is_running(h->slot))
        container_kill(h->slot->container, 9, NULL); /* a container whose start hook failed is no good */
    h->done(h->arg);
    free(h);
}

static void exec_done(void *arg, int code, int exit_code, struct str output) {
    char why[200];
    snprintf(why, sizeof(why), "exit code %d: %.*s", exit_code, (int)MIN(output.n, (size_t)150),
             output.p ? output.p : "");
    finish(arg, code == 0 && exit_code == 0, why);
}

static void slept(void *arg) {
    finish(arg, true, "");
}

static int on_head(void *arg, int status, const struct http_header *headers, size_t n) {
    struct hook *h = arg;
    (void)headers;
    (void)n;
    h->status = status;
    return 0;
}

static int on_body(void *arg, struct str data) {
    (void)arg;
    (void)data;
    return 0;
}

static void http_done(void *arg, int code, const struct error *err) {
    struct hook *h = arg;
    char why[300];
    if (code < 0)
        snprintf(why, sizeof(why), "%.280s", err->msg);
    else
        snprintf(why, sizeof(why), "status %d", h->status);
    finish(h, code == 0 && h->status >= 200 && h->status < 400, why);
}

static void run_exec(struct hook *h, const struct json *spec) {
    const struct json *command = json_get_c(spec, "command");
    struct arena *a = arena_new(KiB(1), 0);
    struct str *argv = arena_alloc(a, (json_len(command) + 1) * sizeof(*argv));
    for (size_t i = 0; i < json_len(command); i++)
        argv[i] = json_as_str(json_item(command, i));
    container_exec_sync(h->slot->container, argv, json_len(command), HOOK_MAX_MS, exec_done, h);
    arena_free(a);
}

static void run_http(struct hook *h, const struct json *spec) {
    struct str host = json_str_at(spec, "host"), path = json_str_at(spec, "path");
    char url[1200];
    snprintf(url, sizeof(url), "http://%.*s:%lld%s%.*s", STR_ARG(host.n ? host : str_c(h->pod->net.ips[0])),
             (long long)json_int_at(spec, "port", 80), path.n && path.p[0] == '/' ? "" : "/", STR_ARG(path));
    struct http_call_events ev = {on_head, on_body, http_done, h};
    http_client_start(node_http_client(h->pod->node), "GET", url, NULL, 0, STR(""), &ev);
}

bool hook_run(struct slot *s, const char *which, loop_fn done, void *arg) {
    const struct json *spec = json_get_c(json_get_c(s->spec, "lifecycle"), which), *how;
    if (!spec || !slot_is_running(s))
        return false;
    struct hook *h = XNEW(struct hook);
    *h = (struct hook){.slot = s, .pod = s->pod, .which = which, .done = done, .arg = arg};
    timer_init(&h->timer, s->pod->node->loop, slept, h);
    if ((how = json_get_c(spec, "exec"))) {
        run_exec(h, how);
    } else if ((how = json_get_c(spec, "httpGet"))) {
        run_http(h, how);
    } else if ((how = json_get_c(spec, "sleep"))) {
        timer_set(&h->timer, MAX(json_int_at(how, "seconds", 0) * 1000, INT64_C(1)), 0);
    } else {
        free(h);
        return false;
    }
    return true;
}
