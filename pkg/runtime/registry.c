#include "runtime/registry.h"

#include <stdlib.h>

#define TOKENS_MAX 256
#define IDLE_CLOSE_MS 60000
#define CA_BYTES_MAX MiB(4)

struct token {
    char *value;
    int64_t expires_ms;
};

/* A client with the TLS settings of one host of registries.yaml (or none). */
struct registry_transport {
    struct list link;
    struct registry *registry;
    bool https, loading;
    const struct registry_host *settings;
    struct tls_config *tls;
    struct http_client *client;
    struct list waiters;
    int code;
    struct error err;
};

struct waiter {
    struct list link;
    struct registry_transport *transport;
    registry_transport_ready *ready;
    void *arg;
};

struct registry {
    struct registry_options o;
    struct list transports;
    struct map tokens; /* -> struct token */
    struct timer idle;
    int busy;
};

struct loop *registry_loop(struct registry *r) {
    return r->o.loop;
}

int64_t registry_retry_ms(const struct registry *r) {
    return r->o.retry_ms ? r->o.retry_ms : 1000;
}

int64_t registry_idle_ms(const struct registry *r) {
    return r->o.idle_timeout_ms ? r->o.idle_timeout_ms : 30000;
}

const struct image_registries *registry_settings(const struct registry *r) {
    return r->o.registries;
}

static void transport_free(struct registry_transport *t) {
    list_remove(&t->link);
    if (t->client)
        http_client_free(t->client);
    if (t->tls)
        tls_config_unref(t->tls);
    free(t);
}

/* Connections and the parsed CA bundle are worth their memory only while images are pulled. */
static void on_idle(void *arg) {
    struct registry *r = arg;
    if (r->busy)
        return;
    LIST_FOREACH (it, &r->transports) {
        struct registry_transport *t = LIST_ITEM(it, struct registry_transport, link);
        if (!t->loading)
            transport_free(t);
    }
}

struct registry *registry_new(const struct registry_options *o) {
    struct registry *r = XNEW(struct registry);
    r->o = *o;
    list_init(&r->transports);
    timer_init(&r->idle, o->loop, on_idle, r);
    return r;
}

void registry_free(struct registry *r) {
    timer_stop(&r->idle);
    r->busy = 0;
    on_idle(r);
    struct map_entry *e;
    for (size_t i = 0; (e = map_next(&r->tokens, &i));) {
        struct token *t = e->value;
        free(t->value);
        free(t);
    }
    map_fini(&r->tokens);
    free(r);
}

void registry_busy(struct registry *r, int delta) {
    r->busy += delta;
    if (r->busy == 0)
        timer_set(&r->idle, IDLE_CLOSE_MS, 5000);
}

/* --- tokens ------------------------------------------------------------------------------------------------------- */

struct str registry_token_get(struct registry *r, struct str key) {
    struct token *t = map_get(&r->tokens, key);
    return t && t->expires_ms > time_mono_ms() ? str_c(t->value) : STR("");
}

void registry_token_drop(struct registry *r, struct str key) {
    struct token *t = map_del(&r->tokens, key);
    if (t) {
        free(t->value);
        free(t);
    }
}

static void drop_expired(struct registry *r) {
    VEC(char *) old = {0};
    struct map_entry *e;
    for (size_t i = 0; (e = map_next(&r->tokens, &i));) {
        struct token *t = e->value;
        if (t->expires_ms <= time_mono_ms() || r->tokens.n > TOKENS_MAX)
            vec_push(&old, xstrndup(e->key.p, e->key.n));
    }
    for (size_t i = 0; i < old.n; i++) {
        registry_token_drop(r, str_c(old.items[i]));
        free(old.items[i]);
    }
    vec_fini(&old);
}

void registry_token_put(struct registry *r, struct str key, struct str value, int64_t expires_in_s) {
    registry_token_drop(r, key);
    if (r->tokens.n >= TOKENS_MAX)
        drop_expired(r);
    struct token *t = XNEW(struct token);
    t->value = xstrndup(value.p, value.n);
    t->expires_ms = time_mono_ms() + expires_in_s * 900; /* a tenth early: it must last for the request */
    map_set(&r->tokens, key, t);
}

/* --- transports --------------------------------------------------------------------------------------------------- */

static int read_pem(struct buf *out, const char *path, struct error *err) {
    buf_init(out, CA_BYTES_MAX);
    return file_read(path, out, err);
}

/* Where distributions keep the bundle of trusted roots. */
static int read_system_roots(struct buf *out, struct error *err) {
    const char *env = getenv("SSL_CERT_FILE");
    const char *const paths[] = {env && *env ? env : "/etc/ssl/certs/ca-certificates.crt",
                                 "/etc/ssl/certs/ca-certificates.crt",
                                 "/etc/pki/tls/certs/ca-bundle.crt",
                                 "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
                                 "/etc/ssl/ca-bundle.pem",
                                 "/etc/ssl/cert.pem"};
    for (size_t i = 0; i < ARRAY_LEN(paths); i++) {
        buf_fini(out);
        if (read_pem(out, paths[i], NULL) == 0 && out->n)
            return 0;
    }
    return error_set(err, -ENOENT,
                     "no trusted CA certificates on this machine: install ca-certificates, or set ca_file for this "
                     "registry in registries.yaml");
}

static int load_tls(struct registry_transport *t, struct error *err) {
    static const char *const alpn[] = {"http/1.1", NULL};
    cleanup_buf struct buf ca = BUF_INIT, cert = BUF_INIT, key = BUF_INIT;
    const struct registry_host *s = t->settings;
    struct tls_client_options o = {.alpn = alpn};
    int rc = 0;
    if (s && s->insecure_skip_verify)
        o.insecure = true;
    else if (s && s->ca_file.n)
        rc = read_pem(&ca, s->ca_file.p, err);
    else
        rc = read_system_roots(&ca, err);
    if (rc == 0 && s && s->cert_file.n) {
        rc = read_pem(&cert, s->cert_file.p, err);
        if (rc == 0)
            rc = read_pem(&key, s->key_file.p, err);
        o.cert_pem = cert.p;
        o.key_pem = key.p;
    }
    o.ca_pem = o.insecure ? NULL : ca.p;
    if (rc == 0 && !(t->tls = tls_client_config(&o, err)))
        rc = err->code ? err->code : -EINVAL;
    if (key.p)
        explicit_bzero(key.p, key.n);
    return rc;
}

static void load_work(void *arg) {
    struct registry_transport *t = arg;
    if (t->https)
        t->code = load_tls(t, &t->err);
}

static void tell(void *arg) {
    struct waiter *w = arg;
    struct registry_transport *t = w->transport;
    w->ready(w->arg, t->client, t->code, &t->err);
    free(w);
}

static void load_done(void *arg) {
    struct registry_transport *t = arg;
    t->loading = false;
    if (t->code == 0) {
        struct http_client_options o = {.loop = t->registry->o.loop,
                                        .tls = t->tls,
                                        .idle_timeout_ms = t->registry->o.idle_timeout_ms};
        t->client = http_client_new(&o);
    }
    struct list waiters = LIST_INIT(waiters);
    for (struct list *it; (it = list_pop_front(&t->waiters));)
        list_push_back(&waiters, it);
    bool failed = t->code != 0;
    for (struct list *it; (it = list_pop_front(&waiters));)
        tell(LIST_ITEM(it, struct waiter, link));
    if (failed) /* files may be mended by the next time */
        transport_free(t);
}

void registry_transport_get(struct registry *r, bool https, struct str host, const struct registry_host *settings,
                            registry_transport_ready *ready, void *arg) {
    bool own = settings && (settings->ca_file.n || settings->cert_file.n || settings->insecure_skip_verify);
    const struct registry_host *key = https && own ? settings : NULL;
    struct registry_transport *t = NULL;
    LIST_FOREACH (it, &r->transports) {
        struct registry_transport *have = LIST_ITEM(it, struct registry_transport, link);
        if (have->https == https && have->settings == key)
            t = have;
    }
    struct waiter *w = XNEW(struct waiter);
    w->ready = ready;
    w->arg = arg;
    if (t && !t->loading) {
        w->transport = t;
        loop_post(r->o.loop, tell, w);
        return;
    }
    if (!t) {
        t = XNEW(struct registry_transport);
        t->registry = r;
        t->https = https;
        t->settings = key;
        t->loading = true;
        list_init(&t->waiters);
        list_push_back(&r->transports, &t->link);
        loop_work(r->o.loop, load_work, load_done, t);
    }
    w->transport = t;
    list_push_back(&t->waiters, &w->link);
}

/* --- sources ------------------------------------------------------------------------------------------------------ */

struct registry_source *registry_source_new(const struct image_registries *r, struct str text,
                                            const struct image_auth *auths, size_t auths_n, struct error *err) {
    struct arena *a = arena_new(0, MiB(1));
    struct registry_source *s = ARENA_NEW(a, struct registry_source);
    s->arena = a;
    s->refs = 1;
    if (auths_n > 64) /* more are no better: each costs a request */
        auths_n = 64;
    if (image_name_parse(a, text, &s->name, err)) {
        arena_free(a);
        return NULL;
    }
    s->endpoints_n = registry_endpoints(r, a, &s->name, s->endpoints);
    s->credentials = arena_alloc(a, sizeof(*s->credentials) * MAX(auths_n, 1));
    for (size_t i = 0; i < auths_n; i++)
        if (auths[i].username.n + auths[i].password.n + auths[i].identity_token.n < KiB(16))
            s->credentials[s->credentials_n++] =
                (struct registry_credential){.username = str_dup(a, auths[i].username),
                                             .password = str_dup(a, auths[i].password),
                                             .identity_token = str_dup(a, auths[i].identity_token)};
    return s;
}

struct registry_source *registry_source_ref(struct registry_source *s) {
    s->refs++;
    return s;
}

void registry_source_unref(struct registry_source *s) {
    if (s && --s->refs == 0)
        arena_free(s->arena);
}
