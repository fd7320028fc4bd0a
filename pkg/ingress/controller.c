/* Feeds the proxy: watches what rules are made of, makes the table anew when something of it changed, says where it is served. */
#include <stdlib.h>

#include "ingress/ingress.h"
#include "ingress/proxy.h"

#include "codec/base64.h"

#define CLASS_DEFAULT "dory"
#define REBUILD_MS 50 /* changes come in bursts */
#define CONTROLLER_NAME "dory.dev/ingress"

enum source { INGRESSES, SERVICES, SLICES, SECRETS, SOURCES };
static const char *const resources[SOURCES] = {"ingresses.networking.k8s.io", "services",
                                               "endpointslices.discovery.k8s.io", "secrets"};

/* A Secret's certificate, ready for use. */
struct cert {
    int64_t revision;
    struct tls_config *config; /* NULL: it is unusable, which was logged */
    bool used;
};

struct ingress {
    struct loop *loop;
    struct client *client;
    struct proxy *proxy;
    char *class_name, *published_ip;
    struct watch {
        struct ingress *i;
        enum source source;
        struct client_informer *informer;
        bool synced;
    } watches[SOURCES];
    struct timer rebuild;
    struct map certs; /* struct cert, by "namespace/name" */
    bool stopping;
    loop_fn stopped;
    void *stopped_arg;
};

/* --- certificates ------------------------------------------------------------------------------------------------- */

static char *decoded(const struct json *secret, const char *key) {
    struct buf b = BUF_INIT;
    if (base64_decode(&b, json_as_str(json_get(json_get_c(secret, "data"), str_c(key)))) || !b.n) {
        buf_fini(&b);
        return NULL;
    }
    return buf_steal(&b, NULL);
}

static struct tls_config *cert_parse(const struct json *secret) {
    static const char *const alpn[] = {"http/1.1", NULL};
    cleanup_free char *cert = decoded(secret, "tls.crt"), *key = decoded(secret, "tls.key");
    struct error err = {0};
    struct tls_config *c = NULL;
    if (cert && key)
        c = tls_server_config(&(struct tls_server_options){.cert_pem = cert, .key_pem = key, .alpn = alpn}, &err);
    else
        error_set(&err, -EINVAL, "tls.crt or tls.key is missing");
    if (!c)
        log_warn("ingress", "Secret %.*s/%.*s: %s; the default certificate is used instead",
                 STR_ARG(json_str_at(secret, "metadata.namespace")), STR_ARG(json_str_at(secret, "metadata.name")),
                 err.msg);
    return c;
}

static void cert_free(struct cert *c) {
    tls_config_unref(c->config);
    free(c);
}

/* Borrowed, or NULL. */
static struct tls_config *cert_get(struct ingress *i, struct str ns, struct str name) {
    struct object *o = client_informer_get(i->watches[SECRETS].informer, ns, name);
    if (!o)
        return NULL;
    cleanup_arena struct arena *a = arena_new(1024, 0);
    struct str key = str_printf(a, "%.*s/%.*s", STR_ARG(ns), STR_ARG(name));
    struct cert *c = map_get(&i->certs, key);
    if (!c) {
        c = XNEW(struct cert);
        map_set(&i->certs, key, c);
    }
    if (c->revision != o->revision) {
        tls_config_unref(c->config);
        c->config = cert_parse(object_json(o));
        c->revision = o->revision;
    }
    c->used = true;
    return c->config;
}

/* Forgets those that no rule names any more. */
static void certs_sweep(struct ingress *i) {
    struct map old = i->certs;
    struct map_entry *e;
    i->certs = (struct map){0};
    for (size_t k = 0; (e = map_next(&old, &k));) {
        struct cert *c = e->value;
        if (c->used)
            map_set(&i->certs, e->key, c);
        else
            cert_free(c);
    }
    map_fini(&old);
}

static void certs_attach(struct ingress *i, struct ingress_rules *r) {
    struct map_entry *e;
    for (size_t k = 0; (e = map_next(&i->certs, &k));)
        ((struct cert *)e->value)->used = false;
    for (size_t k = 0; k < r->tls.n; k++) {
        const struct ingress_tls *t = &r->tls.items[k];
        struct tls_config *c = map_get(&r->certs, t->host) ? NULL : cert_get(i, t->ns, t->secret);
        if (c)
            map_set(&r->certs, t->host, tls_config_ref(c));
    }
    certs_sweep(i);
}

static struct tls_config *on_sni(void *arg, struct str name) {
    struct ingress *i = arg;
    struct tls_config *c = i->proxy->rules ? ingress_rules_cert(i->proxy->rules, name) : NULL;
    return c ? tls_config_ref(c) : NULL;
}

/* --- status ------------------------------------------------------------------------------------------------------- */

static void on_status(void *arg, int code, struct object *o, const struct api_status *status) {
    if (code && code != -ENOENT)
        log_debug("ingress", "status: %.*s", STR_ARG(status->message));
}

static void write_status(struct ingress *i, struct object *o) {
    const struct json *have = json_at(object_json(o), "status.loadBalancer.ingress");
    if (!i->published_ip || (json_len(have) == 1 && str_eq_c(json_str_at(json_item(have, 0), "ip"), i->published_ip)))
        return;
    cleanup_arena struct arena *a = arena_new(0, 0);
    struct json *body = json_object(a), *item = json_object(a), *list = json_array(a);
    json_set_cstr(a, item, "ip", i->published_ip);
    json_append(a, list, item);
    json_put(a, body, "status.loadBalancer.ingress", list);
    client_do(i->client, &(struct client_request){.verb = CLIENT_PATCH_MERGE,
                                                  .resource = resources[INGRESSES],
                                                  .ns = o->ns,
                                                  .name = o->name,
                                                  .subresource = STR("status"),
                                                  .body = body,
                                                  .loop = i->loop,
                                                  .done = on_status});
}

/* --- the table ---------------------------------------------------------------------------------------------------- */

struct gathered {
    struct ingress *i;
    VEC(const struct json *) ingresses;
    struct ingress_rules *rules;
};

static bool gather_ingress(void *arg, struct object *o) {
    struct gathered *g = arg;
    if (!ingress_is_served(object_json(o), g->i->class_name))
        return true;
    vec_push(&g->ingresses, object_json(o));
    write_status(g->i, o);
    return true;
}

static bool gather_service(void *arg, struct object *o) {
    struct gathered *g = arg;
    if (ingress_rules_service(g->rules, o->ns, o->name))
        ingress_rules_add_service(g->rules, object_json(o));
    return true;
}

static bool gather_slice(void *arg, struct object *o) {
    ingress_rules_add_slice(((struct gathered *)arg)->rules, object_json(o));
    return true;
}

static void each(struct ingress *i, enum source s, bool (*fn)(void *arg, struct object *o), struct gathered *g) {
    client_informer_each(i->watches[s].informer, fn, g);
}

static void on_rebuild(void *arg) {
    struct ingress *i = arg;
    struct gathered g = {.i = i};
    for (size_t k = 0; k < SOURCES; k++) {
        if (!i->watches[k].synced)
            return;
    }
    each(i, INGRESSES, gather_ingress, &g);
    g.rules = ingress_rules_new(g.ingresses.items, g.ingresses.n, i->class_name);
    vec_fini(&g.ingresses);
    each(i, SERVICES, gather_service, &g);
    each(i, SLICES, gather_slice, &g);
    for (size_t k = 0; k < g.rules->backends.n; k++) /* or each change would send the next request to the first pod */
        g.rules->backends.items[k]->turn = (size_t)rand_u64();
    certs_attach(i, g.rules);
    if (!i->proxy->rules)
        log_info("ingress", "serving %zu Ingresses on ports %d and %d", g.rules->served, proxy_port(i->proxy, false),
                 proxy_port(i->proxy, true));
    proxy_set_rules(i->proxy, g.rules);
}

/* Whether the table may depend on the object. */
static bool matters(struct ingress *i, enum source s, struct object *o) {
    const struct ingress_rules *r = i->proxy->rules;
    if (!r || !o)
        return o != NULL;
    if (s == SERVICES)
        return ingress_rules_service(r, o->ns, o->name) != NULL;
    if (s == SLICES) {
        const struct json *labels = json_at(object_json(o), "metadata.labels");
        return ingress_rules_service(r, o->ns, json_as_str(json_get(labels, STR("kubernetes.io/service-name"))));
    }
    if (s == SECRETS) {
        for (size_t k = 0; k < r->tls.n; k++) {
            if (str_eq(r->tls.items[k].ns, o->ns) && str_eq(r->tls.items[k].secret, o->name))
                return true;
        }
        return false;
    }
    return true;
}

static void on_event(void *arg, enum informer_event e, struct object *o, struct object *old) {
    struct watch *w = arg;
    struct ingress *i = w->i;
    if (e == INFORMER_SYNCED)
        w->synced = true;
    else if (!matters(i, w->source, o) && !matters(i, w->source, old))
        return;
    if (!timer_is_set(&i->rebuild))
        timer_set(&i->rebuild, i->proxy->rules ? REBUILD_MS : 1, REBUILD_MS);
}

/* --- the class ---------------------------------------------------------------------------------------------------- */

static void on_class(void *arg, int code, struct object *o, const struct api_status *status) {
    if (code && code != -EEXIST)
        log_warn("ingress", "IngressClass: %.*s", STR_ARG(status->message));
}

static void create_class(struct ingress *i) {
    cleanup_arena struct arena *a = arena_new(0, 0);
    struct json *o = json_object(a), *notes = json_object(a);
    json_set_cstr(a, notes, "ingressclass.kubernetes.io/is-default-class", "true");
    json_set_cstr(a, o, "apiVersion", "networking.k8s.io/v1");
    json_set_cstr(a, o, "kind", "IngressClass");
    json_put(a, o, "metadata.name", json_cstr(a, i->class_name));
    json_put(a, o, "metadata.annotations", notes);
    json_put(a, o, "spec.controller", json_cstr(a, CONTROLLER_NAME));
    client_do(i->client, &(struct client_request){.verb = CLIENT_CREATE,
                                                  .resource = "ingressclasses.networking.k8s.io",
                                                  .body = o,
                                                  .loop = i->loop,
                                                  .done = on_class});
}

/* --- life --------------------------------------------------------------------------------------------------------- */

static void begin(void *arg) {
    struct ingress *i = arg;
    if (i->stopping)
        return;
    create_class(i);
    for (size_t k = 0; k < SOURCES; k++) {
        struct watch *w = &i->watches[k];
        *w = (struct watch){.i = i, .source = (enum source)k};
        w->informer =
            client_informer(i->client,
                            &(struct informer_options){.resource = resources[k],
                                                       .field_selector = k == SECRETS ? "type=kubernetes.io/tls" : NULL,
                                                       .loop = i->loop,
                                                       .fn = on_event,
                                                       .arg = w});
    }
}

static void ingress_free(struct ingress *i) {
    struct map_entry *e;
    for (size_t k = 0; (e = map_next(&i->certs, &k));)
        cert_free(e->value);
    map_fini(&i->certs);
    free(i->class_name);
    free(i->published_ip);
    free(i);
}

/* The certificate for names without one of their own: the caller's, or one made up. */
static struct tls_config *default_tls(struct ingress *i, const struct ingress_options *o, struct error *err) {
    static const char *const alpn[] = {"http/1.1", NULL};
    cleanup_free char *cert = NULL, *key = NULL;
    if (!o->default_cert_pem || !o->default_key_pem) {
        int64_t now = time_now_s();
        const char *const names[] = {"ingress.invalid", NULL};
        const struct pki_cert_request r = {.common_name = "Dory ingress default certificate",
                                           .dns_names = names,
                                           .server_auth = true,
                                           .not_before_s = now - 3600,
                                           .not_after_s = now + (int64_t)3650 * 86400};
        if (pki_key_new(&key, err) || pki_cert_new(&r, key, NULL, NULL, &cert, err))
            return NULL;
    }
    return tls_server_config(&(struct tls_server_options){.cert_pem = cert ? cert : o->default_cert_pem,
                                                          .key_pem = cert ? key : o->default_key_pem,
                                                          .alpn = alpn,
                                                          .sni = on_sni,
                                                          .sni_arg = i},
                             err);
}

int ingress_start(const struct ingress_options *o, struct ingress **out, struct error *err) {
    struct error why = {0};
    struct ingress *i = XNEW(struct ingress);
    i->loop = o->loop;
    i->client = o->client;
    i->class_name = xstrdup(o->class_name ? o->class_name : CLASS_DEFAULT);
    i->published_ip = o->published_ip ? xstrdup(o->published_ip) : NULL;
    timer_init(&i->rebuild, o->loop, on_rebuild, i);
    struct tls_config *tls = default_tls(i, o, &why);
    if (!tls) {
        ingress_free(i);
        return error_set(err, why.code ? why.code : -EINVAL, "default certificate: %s", why.msg);
    }
    i->proxy = proxy_new(&(struct ingress_proxy_options){.loop = o->loop, .tls = tls});
    tls_config_unref(tls);
    int rc = o->http_address ? proxy_listen(i->proxy, o->http_address, false, err) : 0;
    if (!rc && o->https_address)
        rc = proxy_listen(i->proxy, o->https_address, true, err);
    if (rc) {
        proxy_free(i->proxy);
        ingress_free(i);
        return rc;
    }
    proxy_start(i->proxy);
    loop_post(o->loop, begin, i);
    *out = i;
    return 0;
}

static void on_proxy_stopped(void *arg) {
    struct ingress *i = arg;
    loop_fn done = i->stopped;
    void *done_arg = i->stopped_arg;
    ingress_free(i);
    if (done)
        done(done_arg);
}

static void stop(void *arg) {
    struct ingress *i = arg;
    i->stopping = true;
    timer_stop(&i->rebuild);
    for (size_t k = 0; k < SOURCES; k++) {
        if (i->watches[k].informer)
            client_informer_stop(i->watches[k].informer);
    }
    proxy_stop(i->proxy, on_proxy_stopped, i);
}

void ingress_stop(struct ingress *i, loop_fn done, void *arg) {
    i->stopped = done;
    i->stopped_arg = arg;
    loop_post(i->loop, stop, i);
}
