/* exec and port-forward: channels of a client's connection tied to processes and sockets of a pod. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "node/node_priv.h"

/*
 * A session has two sides with loops of their own: the client's channels (an io loop) and the process (the node's). Each
 * side only touches its own; what crosses is posted. It is freed when both sides are through.
 */
struct session {
    struct node *n;
    struct http_exchange *x;
    struct loop *io;
    struct ref ref; /* one a side */
    bool tty, want_stdin, want_stdout, want_stderr;
    char uid[64], container[300];
    struct str *argv; /* in arena */
    size_t argv_n;
    struct arena *arena;
    /* io side */
    struct channels *channels;
    bool client_gone;
    size_t client_held;  /* bytes written to a full client, not told of to the node's side yet */
    size_t stdin_unread; /* bytes sent to the node's side that it did not tell of yet */
    /* node side */
    struct exec_process *process;
    struct stream *in, *out, *errs;
    bool started, exited, gone;
    int open_outputs, exit_code;
    struct buf early; /* stdin that came before the process was there */
    bool early_eof, finished;
    int width, height;
    size_t outputs_unsent; /* bytes sent to the client's side that it did not tell of yet */
    size_t stdin_held;     /* bytes written to a full stdin, not told of to the client's side yet */
};

#define EARLY_MAX MiB(1)

static void session_unref(struct session *s) {
    if (!ref_put(&s->ref))
        return;
    buf_fini(&s->early);
    arena_free(s->arena);
    free(s);
}

/* --- messages between the sides --------------------------------------------------------------------------------- */

struct message {
    struct session *s;
    enum channel_id channel;
    int width, height;
    size_t taken; /* bytes */
    size_t n;
    char data[];
};

static struct message *message_new(struct session *s, enum channel_id channel, struct str data) {
    struct message *m = xcalloc(1, sizeof(*m) + data.n + 1);
    ref_get(&s->ref);
    m->s = s;
    m->channel = channel;
    m->n = data.n;
    if (data.n)
        memcpy(m->data, data.p, data.n);
    return m;
}

static void message_free(struct message *m) {
    session_unref(m->s);
    free(m);
}

/* --- the node's side: the process ------------------------------------------------------------------------------- */

/*
 * Back-pressure: each side counts what it sent to the other and stops its sources when that is too much. What was taken is
 * told of with its size, as soon as there is room behind it.
 */
static void outputs_taken(void *arg) {
    struct message *m = arg;
    struct session *s = m->s;
    s->outputs_unsent -= MIN(s->outputs_unsent, m->taken);
    if (s->outputs_unsent < STREAM_BACKLOG_LOW) {
        if (s->out)
            stream_pause(s->out, false);
        if (s->errs)
            stream_pause(s->errs, false);
    }
    message_free(m);
}

static void tell(struct session *s, struct loop *side, loop_fn fn, size_t *held) {
    struct message *m = message_new(s, CHANNEL_ERROR, STR(""));
    m->taken = *held;
    *held = 0;
    loop_post(side, fn, m);
}

static void to_client(void *arg) {
    struct message *m = arg;
    struct session *s = m->s;
    bool there = s->channels && !s->client_gone;
    if (there)
        channels_write(s->channels, m->channel, m->data, m->n);
    s->client_held += m->n;
    if (!there || channels_backlog(s->channels) <= STREAM_BACKLOG_HIGH)
        tell(s, s->n->loop, outputs_taken, &s->client_held); /* else on_drain does */
    message_free(m);
}

static void finish_client(void *arg) {
    struct message *m = arg;
    if (m->s->channels && !m->s->client_gone)
        channels_finish(m->s->channels, str_n(m->data, m->n));
    message_free(m);
}

static void send_status(struct session *s, const char *json) {
    if (s->finished)
        return;
    s->finished = true;
    loop_post(s->io, finish_client, message_new(s, CHANNEL_ERROR, str_c(json)));
}

/* The final status goes out when the process has ended and all of its output was sent. */
static void maybe_finish(struct session *s) {
    char text[400];
    if (!s->exited || s->open_outputs > 0)
        return;
    if (s->exit_code == 0)
        snprintf(text, sizeof(text), "{\"metadata\":{},\"status\":\"Success\"}");
    else
        snprintf(
            text, sizeof(text),
            "{\"metadata\":{},\"status\":\"Failure\",\"message\":\"command terminated with non-zero exit code: exit status %d\","
            "\"reason\":\"NonZeroExitCode\",\"details\":{\"causes\":[{\"reason\":\"ExitCode\",\"message\":\"%d\"}]}}",
            s->exit_code, s->exit_code);
    send_status(s, text);
}

static void send_output(struct session *s, enum channel_id channel, struct str data) {
    loop_post(s->io, to_client, message_new(s, channel, data));
    s->outputs_unsent += data.n;
    if (s->outputs_unsent > STREAM_BACKLOG_HIGH) {
        if (s->out)
            stream_pause(s->out, true);
        if (s->errs)
            stream_pause(s->errs, true);
    }
}

static void on_stdout(void *arg, struct str data) {
    send_output(arg, CHANNEL_STDOUT, data);
}

static void on_stderr(void *arg, struct str data) {
    send_output(arg, CHANNEL_STDERR, data);
}

static void stdin_taken(void *arg) {
    struct message *m = arg;
    struct session *s = m->s;
    s->stdin_unread -= MIN(s->stdin_unread, m->taken);
    if (s->stdin_unread < STREAM_BACKLOG_LOW && s->channels && !s->client_gone)
        channels_pause_stdin(s->channels, false);
    message_free(m);
}

/* There is room behind what came so far, or nobody reads it any more. */
static void stdin_drained(void *arg) {
    struct session *s = arg;
    if (s->stdin_held)
        tell(s, s->io, stdin_taken, &s->stdin_held);
}

static void ignore_data(void *arg, struct str data) {
    (void)arg;
    (void)data;
}

static void ignore_eof(void *arg) {
    (void)arg;
}

/* A terminal stays writable when its program has ended: we end it. */
static void out_eof(void *arg) {
    struct session *s = arg;
    if (s->out)
        stream_close(s->out);
}

static void err_eof(void *arg) {
    struct session *s = arg;
    if (s->errs)
        stream_close(s->errs);
}

static void out_closed(void *arg, int reason) {
    struct session *s = arg;
    (void)reason;
    if (s->in == s->out)
        s->in = NULL;
    s->out = NULL;
    if (!s->in)
        stdin_drained(s);
    s->open_outputs--;
    maybe_finish(s);
    session_unref(s);
}

static void err_closed(void *arg, int reason) {
    struct session *s = arg;
    (void)reason;
    s->errs = NULL;
    s->open_outputs--;
    maybe_finish(s);
    session_unref(s);
}

static void in_closed(void *arg, int reason) {
    struct session *s = arg;
    (void)reason;
    s->in = NULL;
    stdin_drained(s);
    session_unref(s);
}

static void begin_stream(struct session *s, struct stream *st, void (*data)(void *, struct str), void (*eof)(void *),
                         void (*closed)(void *, int)) {
    ref_get(&s->ref);
    stream_start(st, &(struct stream_events){
                         .on_data = data, .on_eof = eof, .on_closed = closed, .on_drain = stdin_drained, .arg = s});
}

static void fail(struct session *s, const char *message) {
    struct arena *a = arena_new(KiB(2), 0);
    struct json *o = json_object(a);
    json_set_c(a, o, "metadata", json_object(a));
    json_set_cstr(a, o, "status", "Failure");
    json_set(a, o, STR("message"), json_strf(a, "%s", message));
    json_set_cstr(a, o, "reason", "InternalError");
    json_set_int(a, o, "code", 500);
    send_status(s, json_text(a, o).p);
    arena_free(a);
}

static void on_started(void *arg, struct exec_process *p, struct stream *in, struct stream *out, struct stream *errs,
                       int code, const struct error *err) {
    struct session *s = arg;
    if (code < 0) {
        fail(s, err->msg);
        session_unref(s); /* the process's */
        return;
    }
    s->process = p;
    s->in = in;
    s->out = out;
    s->errs = errs;
    s->started = true;
    if (in && in != out)
        begin_stream(s, in, ignore_data, ignore_eof, in_closed);
    if (out) {
        s->open_outputs++;
        begin_stream(s, out, on_stdout, out_eof, out_closed);
    }
    if (errs) {
        s->open_outputs++;
        begin_stream(s, errs, on_stderr, err_eof, err_closed);
    }
    if (s->width)
        exec_resize(p, s->width, s->height);
    if (s->in && s->early.n)
        stream_write(s->in, s->early.p, s->early.n);
    if (!s->in || stream_backlog(s->in) <= STREAM_BACKLOG_HIGH)
        stdin_drained(s);
    if (s->in && s->early_eof)
        stream_shutdown(s->in);
    if (s->gone)
        exec_kill(p);
}

static void on_exit_code(void *arg, int exit_code) {
    struct session *s = arg;
    s->process = NULL;
    s->exited = true;
    s->exit_code = exit_code;
    maybe_finish(s);
    session_unref(s);
}

static void start_process(void *arg) {
    struct session *s = arg;
    struct pod *p = node_pod(s->n, str_c(s->uid));
    struct slot *slot = p ? slot_find(p, str_c(s->container)) : NULL;
    if (!slot || !slot_is_running(slot)) {
        char text[400];
        snprintf(text, sizeof(text), "container not found (\"%s\")", s->container);
        fail(s, text);
        session_unref(s);
        return;
    }
    struct exec_config cfg = {.argv = s->argv, .argv_n = s->argv_n, .stdin_open = s->want_stdin, .tty = s->tty};
    container_exec(slot->container, &cfg, &(struct exec_events){on_started, on_exit_code, s});
}

static void stdin_on_node(void *arg) {
    struct message *m = arg;
    struct session *s = m->s;
    if (s->in)
        stream_write(s->in, m->data, m->n);
    else if (!s->started && s->early.n + m->n <= EARLY_MAX)
        buf_put(&s->early, m->data, m->n);
    s->stdin_held += m->n;
    if (s->in ? stream_backlog(s->in) <= STREAM_BACKLOG_HIGH : s->started)
        stdin_drained(s); /* else the stream's on_drain does, or the start of the process */
    message_free(m);
}

static void stdin_eof_on_node(void *arg) {
    struct message *m = arg;
    struct session *s = m->s;
    if (s->in)
        stream_shutdown(s->in);
    s->early_eof = true;
    message_free(m);
}

static void resize_on_node(void *arg) {
    struct message *m = arg;
    m->s->width = m->width;
    m->s->height = m->height;
    if (m->s->process)
        exec_resize(m->s->process, m->width, m->height);
    message_free(m);
}

static void gone_on_node(void *arg) {
    struct message *m = arg;
    m->s->gone = true;
    m->s->finished = true;
    if (m->s->process)
        exec_kill(m->s->process);
    message_free(m);
}

/* --- the client's side ------------------------------------------------------------------------------------------ */

static void on_ready(void *arg, struct channels *c) {
    struct session *s = arg;
    s->channels = c;
    ref_get(&s->ref); /* the process's side */
    loop_post(s->n->loop, start_process, s);
}

static void on_stdin(void *arg, struct str data) {
    struct session *s = arg;
    loop_post(s->n->loop, stdin_on_node, message_new(s, CHANNEL_STDIN, data));
    s->stdin_unread += data.n;
    if (s->stdin_unread > STREAM_BACKLOG_HIGH && s->channels)
        channels_pause_stdin(s->channels, true);
}

static void on_stdin_eof(void *arg) {
    struct session *s = arg;
    loop_post(s->n->loop, stdin_eof_on_node, message_new(s, CHANNEL_STDIN, STR("")));
}

static void on_resize(void *arg, int width, int height) {
    struct session *s = arg;
    struct message *m = message_new(s, CHANNEL_RESIZE, STR(""));
    m->width = width;
    m->height = height;
    loop_post(s->n->loop, resize_on_node, m);
}

static void on_drain(void *arg) {
    struct session *s = arg;
    if (s->client_held)
        tell(s, s->n->loop, outputs_taken, &s->client_held);
}

static void on_closed(void *arg) {
    struct session *s = arg;
    s->client_gone = true;
    s->channels = NULL;
    on_drain(s); /* nobody waits for output any more: it is read and dropped */
    loop_post(s->n->loop, gone_on_node, message_new(s, CHANNEL_ERROR, STR("")));
    session_unref(s);
}

static void start_channels(void *arg) {
    struct session *s = arg;
    struct channels_exec_events ev = {on_ready, on_stdin, on_stdin_eof, on_resize, on_drain, on_closed, s};
    channels_exec_start(s->x, s->want_stdin, s->want_stdout, s->want_stderr, s->tty, &ev);
}

/* All values of a repeated query parameter. */
static size_t query_all(const struct http_request *r, const char *name, struct arena *a, struct str *out, size_t max) {
    size_t n = 0;
    for (struct str rest = r->query; rest.p && n < max;) {
        struct str pair = str_split(&rest, '&'), key = pair, value = STR("");
        str_cut(pair, '=', &key, &value);
        if (str_eq_c(key, name) && http_percent_decode(a, value, true, &out[n]))
            n++;
    }
    return n;
}

static bool query_true(const struct http_request *r, const char *name) {
    struct str v = http_query_get(r, name);
    return str_eq(v, STR("true")) || str_eq(v, STR("1"));
}

#define ARGV_MAX 1024

void exec_serve(struct node *n, struct http_exchange *x, struct pod *p) {
    const struct http_request *r = http_request(x);
    struct slot *slot = serve_slot(x, p);
    if (!slot) {
        http_finish(x);
        return;
    }
    struct session *s = XNEW(struct session);
    ref_init(&s->ref);
    s->arena = arena_new(KiB(2), 0);
    s->argv = arena_alloc(s->arena, ARGV_MAX * sizeof(*s->argv));
    s->argv_n = query_all(r, "command", s->arena, s->argv, ARGV_MAX);
    s->n = n;
    s->x = x;
    s->io = http_exchange_loop(x);
    s->tty = query_true(r, "tty");
    s->want_stdin = query_true(r, "stdin");
    s->want_stdout = query_true(r, "stdout");
    s->want_stderr = query_true(r, "stderr") && !s->tty;
    buf_init(&s->early, EARLY_MAX);
    snprintf(s->uid, sizeof(s->uid), "%.*s", STR_ARG(p->uid));
    snprintf(s->container, sizeof(s->container), "%.*s", STR_ARG(slot->name));
    if (s->argv_n == 0 || !channels_is_upgrade(r)) {
        api_reply_error(x, 400, "BadRequest", "%s",
                        s->argv_n == 0 ? "you must specify at least 1 command" : "Upgrade request required");
        http_finish(x);
        session_unref(s);
        return;
    }
    loop_post(s->io, start_channels, s);
}

void attach_serve(struct node *n, struct http_exchange *x, struct pod *p) {
    (void)n;
    api_reply_error(
        x, 501, "NotImplemented",
        "attaching to a running container is not part of this version: use `kubectl logs -f %.*s` or `kubectl exec`",
        STR_ARG(p->name));
    http_finish(x);
}

/* --- port-forward ----------------------------------------------------------------------------------------------- */

struct forward {
    struct http_exchange *x;
    struct loop *io;
    int netns_fd; /* our own duplicate, -1: the host's */
    int ports[64];
    size_t ports_n;
};

struct forwarding {
    struct forward *f;
    struct channels *c;
    int request_id;
};

static void spliced(void *arg) {
    (void)arg;
}

static void on_connected(void *arg, struct stream *s, int code) {
    struct forwarding *fw = arg;
    if (s) {
        struct stream *client = channels_forward_accept(fw->c, fw->request_id);
        stream_splice(client, s, spliced, NULL);
    } else {
        char text[200];
        snprintf(text, sizeof(text), "failed to connect to the pod's port: %s", strerror(-code));
        channels_forward_refuse(fw->c, fw->request_id, text);
    }
    free(fw);
}

static void forward_open(void *arg, struct channels *c, int request_id, int port) {
    struct forward *f = arg;
    struct forwarding *fw = XNEW(struct forwarding);
    char address[40];
    *fw = (struct forwarding){f, c, request_id};
    snprintf(address, sizeof(address), "127.0.0.1:%d", port);
    stream_connect(f->io, address, f->netns_fd, 10000, on_connected, fw);
}

static void forward_closed(void *arg) {
    struct forward *f = arg;
    if (f->netns_fd >= 0)
        close(f->netns_fd);
    free(f);
}

static void start_forward(void *arg) {
    struct forward *f = arg;
    channels_forward_start(f->x, f->ports, f->ports_n,
                           &(struct channels_forward_events){forward_open, forward_closed, f});
}

void port_forward_serve(struct node *n, struct http_exchange *x, struct pod *p) {
    const struct http_request *r = http_request(x);
    struct str values[64];
    (void)n;
    if (!p->sandbox || p->stage != POD_RUNNING || !channels_is_upgrade(r)) {
        api_reply_error(x, 400, "BadRequest", "%s", p->sandbox ? "Upgrade request required" : "the pod does not run");
        http_finish(x);
        return;
    }
    struct forward *f = XNEW(struct forward);
    f->x = x;
    f->io = http_exchange_loop(x);
    int netns = sandbox_netns_fd(p->sandbox);
    f->netns_fd = netns >= 0 ? fcntl(netns, F_DUPFD_CLOEXEC, 0) : -1;
    size_t count = query_all(r, "ports", r->arena, values, ARRAY_LEN(values));
    for (size_t i = 0; i < count; i++) {
        int64_t port;
        if (str_to_i64(values[i], &port) && port > 0 && port < 65536)
            f->ports[f->ports_n++] = (int)port;
    }
    loop_post(f->io, start_forward, f);
}
