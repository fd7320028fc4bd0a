/* Startup, liveness and readiness probes of running containers: one timer each, nothing while none is due. */
#include <stdio.h>
#include <stdlib.h>

#include "node/node_priv.h"

enum probe_kind { PROBE_STARTUP, PROBE_LIVENESS, PROBE_READINESS, PROBE_KINDS };
static const char *const probe_fields[] = {"startupProbe", "livenessProbe", "readinessProbe"};

static const char *const probe_titles[] = {"Startup", "Liveness", "Readiness"};

#define BODY_MAX 10240

struct probe {
    struct slot *slot; /* NULL: stopped while a try was under way; freed at its end */
    enum probe_kind kind;
    struct timer timer;
    int64_t period_ms, timeout_ms, success_needed, failure_needed;
    int64_t in_row; /* results of one kind in a row */
    bool last_ok, under_way;
    struct http_call *call;
    struct timer deadline;
    int status; /* of an HTTP answer */
    char output[300];
};

static void try_now(void *arg);

/* --- results ---------------------------------------------------------------------------------------------------- */

static void settle(struct probe *p, bool ok) {
    struct slot *s = p->slot;
    bool changed = false;
    switch (p->kind) {
    case PROBE_STARTUP:
        if (ok) {
            s->started = true;
            pod_status_dirty(s->pod);
            probes_stop(s); /* frees p */
            probes_start(s);
            pod_want_sync(s->pod);
        } else {
            slot_restart(s, "startup");
        }
        return;
    case PROBE_LIVENESS:
        if (!ok)
            slot_restart(s, "liveness"); /* frees p */
        return;
    default:
        changed = s->ready != ok;
        s->ready = ok;
        if (changed)
            pod_status_dirty(s->pod);
        return;
    }
}

static void result(struct probe *p, bool ok) {
    p->under_way = false;
    if (!p->slot) {
        free(p);
        return;
    }
    p->in_row = p->last_ok == ok && p->in_row > 0 ? p->in_row + 1 : 1;
    p->last_ok = ok;
    if (!ok)
        pod_event(p->slot->pod, "Warning", "Unhealthy", "%s probe failed: %s", probe_titles[p->kind], p->output);
    timer_set(&p->timer, p->period_ms, p->period_ms / 50);
    int64_t needed = ok ? p->success_needed : p->failure_needed;
    bool first_ready = p->kind == PROBE_READINESS && ok && p->in_row >= needed;
    if (p->in_row >= needed && (p->kind != PROBE_READINESS || first_ready || !ok))
        settle(p, ok); /* may free p */
}

/* --- exec ------------------------------------------------------------------------------------------------------- */

static void exec_done(void *arg, int code, int exit_code, struct str output) {
    struct probe *p = arg;
    if (code == -ETIMEDOUT)
        snprintf(p->output, sizeof(p->output), "command timed out");
    else
        snprintf(p->output, sizeof(p->output), "%.*s", (int)MIN(output.n, (size_t)280), output.p ? output.p : "");
    result(p, code == 0 && exit_code == 0);
}

static void try_exec(struct probe *p, const struct json *spec) {
    const struct json *command = json_get_c(spec, "command");
    struct arena *a = arena_new(KiB(1), 0);
    struct str *argv = arena_alloc(a, (json_len(command) + 1) * sizeof(*argv));
    for (size_t i = 0; i < json_len(command); i++)
        argv[i] = json_as_str(json_item(command, i));
    container_exec_sync(p->slot->container, argv, json_len(command), p->timeout_ms, exec_done, p);
    arena_free(a);
}

/* --- where to ask ----------------------------------------------------------------------------------------------- */

static int64_t port_of(const struct probe *p, const struct json *port) {
    const struct json *ports = json_get_c(p->slot->spec, "ports");
    if (!json_is(port, JSON_STRING))
        return json_as_int(port, 0);
    for (size_t i = 0; i < json_len(ports); i++)
        if (str_eq(json_str_at(json_item(ports, i), "name"), json_as_str(port)))
            return json_int_at(json_item(ports, i), "containerPort", 0);
    int64_t number = 0;
    str_to_i64(json_as_str(port), &number);
    return number;
}

static struct str host_of(const struct probe *p, const struct json *spec) {
    struct str host = json_str_at(spec, "host");
    return host.n ? host : str_c(p->slot->pod->net.ips[0]);
}

/* --- HTTP ------------------------------------------------------------------------------------------------------- */

static int on_head(void *arg, int status, const struct http_header *headers, size_t n) {
    struct probe *p = arg;
    (void)headers;
    (void)n;
    p->status = status;
    return 0;
}

static int on_body(void *arg, struct str data) {
    (void)arg;
    (void)data;
    return 0;
}

static void on_http_done(void *arg, int code, const struct error *err) {
    struct probe *p = arg;
    p->call = NULL;
    timer_stop(&p->deadline);
    bool ok = code == 0 && p->status >= 200 && p->status < 400;
    if (code == -ECANCELED)
        snprintf(p->output, sizeof(p->output),
                 "context deadline exceeded (Client.Timeout exceeded while awaiting headers)");
    else if (code < 0)
        snprintf(p->output, sizeof(p->output), "%.280s", err->msg);
    else if (!ok)
        snprintf(p->output, sizeof(p->output), "HTTP probe failed with statuscode: %d", p->status);
    result(p, ok);
}

static void on_deadline(void *arg) {
    struct probe *p = arg;
    if (p->call)
        http_call_cancel(p->call);
}

struct http_client *node_http_client(struct node *n) {
    if (!n->probe_http) {
        struct error err = {0};
        struct tls_client_options to = {.insecure =
                                            true}; /* probes of HTTPS check no certificate, as Kubernetes says */
        n->probe_tls = tls_client_config(&to, &err);
        n->probe_http = http_client_new(&(struct http_client_options){.loop = n->loop, .tls = n->probe_tls});
    }
    return n->probe_http;
}

static void try_http(struct probe *p, const struct json *spec) {
    const struct json *given = json_get_c(spec, "httpHeaders");
    struct http_header headers[34] = {{STR("User-Agent"), STR("kube-probe/1.36")}, {STR("Accept"), STR("*/*")}};
    size_t n = 2;
    struct str path = json_str_at(spec, "path");
    char url[1200];
    for (size_t i = 0; i < json_len(given) && n < ARRAY_LEN(headers); i++)
        headers[n++] =
            (struct http_header){json_str_at(json_item(given, i), "name"), json_str_at(json_item(given, i), "value")};
    bool https = str_eq(json_str_at(spec, "scheme"), STR("HTTPS"));
    snprintf(url, sizeof(url), "%s://%.*s:%lld%s%.*s", https ? "https" : "http", STR_ARG(host_of(p, spec)),
             (long long)port_of(p, json_get_c(spec, "port")), path.n && path.p[0] == '/' ? "" : "/", STR_ARG(path));
    struct http_call_events ev = {on_head, on_body, on_http_done, p};
    p->status = 0;
    timer_set(&p->deadline, p->timeout_ms, 0);
    p->call = http_client_start(node_http_client(p->slot->pod->node), "GET", url, headers, n, STR(""), &ev);
}

/* --- TCP -------------------------------------------------------------------------------------------------------- */

static void stream_gone(void *arg, int reason) {
    (void)arg;
    (void)reason;
}

static void stream_ignore(void *arg, struct str data) {
    (void)arg;
    (void)data;
}

static void stream_ended(void *arg) {
    (void)arg;
}

static void on_connected(void *arg, struct stream *s, int code) {
    struct probe *p = arg;
    if (s) {
        stream_start(s, &(struct stream_events){.on_data = stream_ignore,
                                                .on_eof = stream_ended,
                                                .on_closed = stream_gone});
        stream_close(s);
    } else {
        snprintf(p->output, sizeof(p->output), "dial tcp: %s", code == -ETIMEDOUT ? "i/o timeout" : strerror(-code));
    }
    result(p, s != NULL);
}

static void try_tcp(struct probe *p, const struct json *spec) {
    char address[320];
    snprintf(address, sizeof(address), "%.*s:%lld", STR_ARG(host_of(p, spec)),
             (long long)port_of(p, json_get_c(spec, "port")));
    stream_connect(p->slot->pod->node->loop, address, -1, p->timeout_ms, on_connected, p);
}

/* --- life ------------------------------------------------------------------------------------------------------- */

static void try_now(void *arg) {
    struct probe *p = arg;
    const struct json *spec = json_get_c(p->slot->spec, probe_fields[p->kind]), *how;
    if (!slot_is_running(p->slot))
        return;
    p->under_way = true;
    p->output[0] = 0;
    if ((how = json_get_c(spec, "exec"))) {
        try_exec(p, how);
    } else if ((how = json_get_c(spec, "httpGet"))) {
        try_http(p, how);
    } else if ((how = json_get_c(spec, "tcpSocket"))) {
        try_tcp(p, how);
    } else {
        p->under_way = false;
        pod_event(p->slot->pod, "Warning", "Unhealthy", "%s probe: this version of the node has no gRPC probes",
                  probe_titles[p->kind]);
    }
}

static void start_one(struct slot *s, enum probe_kind kind) {
    const struct json *spec = json_get_c(s->spec, probe_fields[kind]);
    if (!spec || s->probes[kind])
        return;
    struct probe *p = XNEW(struct probe);
    p->slot = s;
    p->kind = kind;
    p->period_ms = json_int_at(spec, "periodSeconds", 10) * 1000;
    p->timeout_ms = json_int_at(spec, "timeoutSeconds", 1) * 1000;
    p->success_needed = json_int_at(spec, "successThreshold", 1);
    p->failure_needed = json_int_at(spec, "failureThreshold", 3);
    timer_init(&p->timer, s->pod->node->loop, try_now, p);
    timer_init(&p->deadline, s->pod->node->loop, on_deadline, p);
    s->probes[kind] = p;
    int64_t delay = json_int_at(spec, "initialDelaySeconds", 0) * 1000;
    timer_set(&p->timer, MAX(delay, INT64_C(1)), delay / 50);
}

void probes_start(struct slot *s) {
    if (json_get_c(s->spec, "startupProbe") && !s->started) {
        start_one(s, PROBE_STARTUP);
        return;
    }
    s->started = true;
    if (json_get_c(s->spec, "readinessProbe"))
        start_one(s, PROBE_READINESS);
    else
        s->ready = true;
    start_one(s, PROBE_LIVENESS);
}

void probes_stop(struct slot *s) {
    for (size_t i = 0; i < PROBE_KINDS; i++) {
        struct probe *p = s->probes[i];
        if (!p)
            continue;
        s->probes[i] = NULL;
        timer_stop(&p->timer);
        p->slot = NULL;
        if (!p->under_way)
            free(p);
        else if (p->call)
            http_call_cancel(p->call);
    }
}
