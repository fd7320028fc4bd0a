/* The whole: objects written to the API, requests to the ports. */
#include "proxy_test.h"

#include "codec/base64.h"
#include "ingress/ingress.h"

static int log_load(void *log,
                    void (*each)(void *arg, struct str kind, struct str ns, struct str name, struct str json,
                                 int64_t revision, int64_t id),
                    void *arg, int64_t *reserved, struct error *err) {
    return 0;
}
static int log_commit(void *log, const struct store_log_entry *e, size_t n, int64_t reserve, struct error *err) {
    return 0;
}
static void log_close(void *log) {}
static const struct store_log_ops log_ops = {log_load, log_commit, log_close};

struct world {
    struct site site; /* its proxy is not used */
    struct loop *core, *loop;
    struct store *store;
    struct api *api;
    struct client *client;
    struct ingress *ingress;
    char *key;
    const char *keys[2];
    int http, https;
};

static int free_port(void) {
    int port;
    close(listen_local(&port));
    return port;
}

/* --- asking the API from the test's thread --- */
struct asked {
    atomic_bool done;
    int code;
    char *text; /* of the object */
    char message[300];
};
static void answered(void *arg, int code, struct object *o, const struct api_status *status) {
    struct asked *a = arg;
    a->code = code;
    a->text = o ? xstrndup(o->blob.bytes.p, o->blob.bytes.n) : NULL;
    snprintf(a->message, sizeof(a->message), "%.*s", STR_ARG(status->message));
    atomic_store(&a->done, true);
}
static int api(struct world *w, enum client_verb verb, const char *resource, const char *ns, const char *name,
               const char *body, char **text) {
    cleanup_arena struct arena *a = arena_new(0, 0);
    struct asked q = {0};
    client_do(w->client, &(struct client_request){.verb = verb,
                                                  .resource = resource,
                                                  .ns = str_c(ns),
                                                  .name = str_c(name),
                                                  .subresource = STR(""),
                                                  .body = body ? parse(a, str_c(body)) : NULL,
                                                  .loop = w->loop,
                                                  .done = answered,
                                                  .arg = &q});
    while (!atomic_load(&q.done))
        usleep(500);
    if (text)
        *text = q.text;
    else
        free(q.text);
    if (q.code && !text)
        fail_msg("%s %s: %s", resource, name, q.message);
    return q.code;
}
static void create(struct world *w, const char *resource, const char *body) {
    api(w, CLIENT_CREATE, resource, "x", "", body, NULL);
}

/* --- life --- */
static void start_api(struct world *w) {
    struct error err = {0};
    w->core = loop_new("core");
    assert_int_equal(store_open(&(struct store_options){.loop = w->core, .ops = &log_ops}, &w->store, &err), 0);
    assert_int_equal(pki_key_new(&w->key, &err), 0);
    w->keys[0] = w->key;
    struct api_options o = {.loop = w->core,
                            .store = w->store,
                            .schema = schema_builtin(),
                            .version_git = "v1.36.0+dory1",
                            .service_cidr = "10.43.0.0/16",
                            .cluster_cidr = "10.42.0.0/16",
                            .cluster_dns = "10.43.0.10",
                            .cluster_domain = "cluster.local",
                            .node_port_first = 30000,
                            .node_port_last = 32767,
                            .sa_key_pem = w->key,
                            .sa_public_pem = w->keys,
                            .sa_issuer = "https://kubernetes.default.svc.cluster.local"};
    if (api_new(&o, &w->api, &err))
        fail_msg("%s", err.msg);
    assert_int_equal(loop_start(w->core, &err), 0);
    w->client = client_in_process(w->api, NULL, "test");
}

static int setup(void **state) {
    struct world *w = XNEW(struct world);
    struct error err = {0};
    char http[64], https[64];
    site_start(&w->site);
    start_api(w);
    w->loop = loop_new("ingress");
    assert_int_equal(loop_start(w->loop, &err), 0);
    w->http = free_port();
    w->https = free_port();
    snprintf(http, sizeof(http), "127.0.0.1:%d", w->http);
    snprintf(https, sizeof(https), "127.0.0.1:%d", w->https);
    api(w, CLIENT_CREATE, "namespaces", "", "",
        "{\"apiVersion\":\"v1\",\"kind\":\"Namespace\",\"metadata\":{\"name\":\"x\"}}", NULL);
    struct ingress_options o = {.loop = w->loop,
                                .client = w->client,
                                .http_address = http,
                                .https_address = https,
                                .published_ip = "192.0.2.7"};
    if (ingress_start(&o, &w->ingress, &err))
        fail_msg("%s", err.msg);
    *state = w;
    return 0;
}

static void stopped(void *arg) {
    loop_stop(((struct world *)arg)->loop);
}

static int teardown(void **state) {
    struct world *w = *state;
    ingress_stop(w->ingress, stopped, w);
    loop_join(w->loop);
    client_free(w->client);
    loop_stop(w->core);
    loop_join(w->core);
    api_free(w->api);
    store_close(w->store);
    loop_free(w->loop);
    loop_free(w->core);
    free(w->key);
    site_stop(&w->site);
    free(w);
    return 0;
}

/* --- objects --- */
#define META(name) "\"metadata\":{\"name\":\"" name "\",\"namespace\":\"x\"}"

static void create_ingress(struct world *w, const char *name, const char *host, const char *more) {
    char text[1000];
    snprintf(
        text, sizeof(text),
        "{\"apiVersion\":\"networking.k8s.io/v1\",\"kind\":\"Ingress\",\"metadata\":{\"name\":\"%s\",\"namespace\":\"x\"},"
        "\"spec\":{%s\"rules\":[{\"host\":\"%s\",\"http\":{\"paths\":[{\"path\":\"/\",\"pathType\":\"Prefix\",\"backend\":{"
        "\"service\":{\"name\":\"web\",\"port\":{\"name\":\"http\"}}}}]}}]}}",
        name, more, host);
    create(w, "ingresses.networking.k8s.io", text);
}

static void create_web(struct world *w) {
    char text[1000];
    create(w, "services",
           "{\"apiVersion\":\"v1\",\"kind\":\"Service\"," META(
               "web") ",\"spec\":{\"ports\":[{\"name\":\"http\",\"port\":80,\"targetPort\":8080}]}}");
    snprintf(
        text, sizeof(text),
        "{\"apiVersion\":\"discovery.k8s.io/v1\",\"kind\":\"EndpointSlice\",\"metadata\":{\"name\":\"web-1\",\"namespace\":"
        "\"x\",\"labels\":{\"kubernetes.io/service-name\":\"web\"}},\"addressType\":\"IPv4\",\"ports\":[{\"name\":\"http\","
        "\"port\":%d}],\"endpoints\":[{\"addresses\":[\"127.0.0.1\"],\"conditions\":{\"ready\":true}}]}",
        w->site.pod_port);
    create(w, "endpointslices.discovery.k8s.io", text);
}

/* Asks until the answer has the part, for at most five seconds. */
static void eventually(struct world *w, const char *host, const char *part) {
    char request[200];
    const char *a = "";
    struct site at = {.port = w->http};
    snprintf(request, sizeof(request), "GET /p HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", host);
    for (int i = 0; i < 250; i++) {
        a = ask(&at, request);
        if (strstr(a, part))
            return;
        usleep(20000);
    }
    fail_msg("no \"%s\" in:\n%s", part, a);
}

/* --- tests --- */
static void test_class_is_made(void **state) {
    struct world *w = *state;
    char *text = NULL;
    for (int i = 0; i < 250 && api(w, CLIENT_GET, "ingressclasses.networking.k8s.io", "", "dory", NULL, &text); i++)
        usleep(20000);
    assert_non_null(text);
    has(text, "\"ingressclass.kubernetes.io/is-default-class\":\"true\"");
    free(text);
}

static void test_routes_follow_the_objects(void **state) {
    struct world *w = *state;
    eventually(w, "a.test", "404 page not found");
    create_ingress(w, "web", "a.test", "");
    eventually(w, "a.test", "503 ");
    create_web(w);
    eventually(w, "a.test", "X-Forwarded-Host: a.test");
    eventually(w, "b.test", "404 ");
    api(w, CLIENT_PATCH_MERGE, "endpointslices.discovery.k8s.io", "x", "web-1", "{\"endpoints\":[]}", NULL);
    eventually(w, "a.test", "no pod of the service is ready");
    api(w, CLIENT_DELETE, "services", "x", "web", NULL, NULL);
    eventually(w, "a.test", "does not exist");
    api(w, CLIENT_DELETE, "ingresses.networking.k8s.io", "x", "web", NULL, NULL);
    eventually(w, "a.test", "404 ");
}

static void test_status_says_where(void **state) {
    struct world *w = *state;
    char *text = NULL;
    create_ingress(w, "mine", "a.test", "\"ingressClassName\":\"dory\",");
    create_ingress(w, "other", "b.test", "\"ingressClassName\":\"nginx\",");
    for (int i = 0; i < 250; i++) {
        free(text);
        text = NULL;
        assert_int_equal(api(w, CLIENT_GET, "ingresses.networking.k8s.io", "x", "mine", NULL, &text), 0);
        if (strstr(text, "192.0.2.7"))
            break;
        usleep(20000);
    }
    has(text, "\"loadBalancer\":{\"ingress\":[{\"ip\":\"192.0.2.7\"}]}");
    free(text);
    assert_int_equal(api(w, CLIENT_GET, "ingresses.networking.k8s.io", "x", "other", NULL, &text), 0);
    has_not(text, "192.0.2.7");
    free(text);
    eventually(w, "b.test", "404 ");
}

/* --- TLS --- */
struct fetch {
    atomic_bool done;
    int code, status;
    char message[200];
    struct world *w;
    const char *ca;
    struct http_client *client;
    struct tls_config *tls;
};
static int fetch_head(void *arg, int status, const struct http_header *h, size_t n) {
    ((struct fetch *)arg)->status = status;
    return 0;
}
static void fetch_freed(void *arg) {
    atomic_store(&((struct fetch *)arg)->done, true);
}
static void fetch_done(void *arg, int code, const struct error *err) {
    struct fetch *f = arg;
    f->code = code;
    if (code)
        snprintf(f->message, sizeof(f->message), "%s", err->msg);
    http_client_free(f->client);
    tls_config_unref(f->tls);
    loop_post(f->w->site.pods, fetch_freed, f);
}
static void fetch_start(void *arg) {
    struct fetch *f = arg;
    char url[100];
    f->tls = tls_client_config(&(struct tls_client_options){.ca_pem = f->ca}, NULL);
    f->client = http_client_new(&(struct http_client_options){.loop = f->w->site.pods, .tls = f->tls});
    snprintf(url, sizeof(url), "https://localhost:%d/x", f->w->https);
    http_client_start(f->client, "GET", url, NULL, 0, STR(""),
                      &(struct http_call_events){.on_head = fetch_head, .on_done = fetch_done, .arg = f});
}
/* The status of https://localhost when only ca is trusted, or a negative code. */
static int fetch(struct world *w, const char *ca) {
    struct fetch f = {.w = w, .ca = ca};
    loop_post(w->site.pods, fetch_start, &f);
    while (!atomic_load(&f.done))
        usleep(500);
    return f.code ? f.code : f.status;
}

static void secret_with(struct world *w, enum client_verb verb, const char *cert, const char *key) {
    cleanup_buf struct buf b = BUF_INIT;
    buf_puts(&b, "{\"apiVersion\":\"v1\",\"kind\":\"Secret\"," META(
                     "cert") ",\"type\":\"kubernetes.io/tls\",\"data\":{\"tls.crt\":\"");
    base64_encode(&b, cert, strlen(cert));
    buf_puts(&b, "\",\"tls.key\":\"");
    base64_encode(&b, key, strlen(key));
    buf_puts(&b, "\"}}");
    api(w, verb, "secrets", "x", "cert", b.p, NULL);
}

static void test_certificates_by_name(void **state) {
    struct world *w = *state;
    struct error err = {0};
    cleanup_free char *key = NULL, *cert = NULL;
    const char *const names[] = {"localhost", NULL};
    struct pki_cert_request r = {.common_name = "localhost",
                                 .dns_names = names,
                                 .server_auth = true,
                                 .is_ca = true,
                                 .not_before_s = time_now_s() - 60,
                                 .not_after_s = time_now_s() + 3600};
    assert_int_equal(pki_key_new(&key, &err), 0);
    assert_int_equal(pki_cert_new(&r, key, NULL, NULL, &cert, &err), 0);
    create_web(w);
    create_ingress(w, "web", "localhost", "\"tls\":[{\"hosts\":[\"localhost\"],\"secretName\":\"cert\"}],");
    eventually(w, "localhost", "200 OK");
    assert_true(fetch(w, cert) < 0); /* the default certificate is another */
    secret_with(w, CLIENT_CREATE, cert, key);
    int status = 0;
    for (int i = 0; i < 100 && (status = fetch(w, cert)) != 200; i++)
        usleep(20000);
    assert_int_equal(status, 200);
    /* One that cannot be used leaves the default. */
    secret_with(w, CLIENT_PATCH_MERGE, "nonsense", key);
    for (int i = 0; i < 100 && (status = fetch(w, cert)) == 200; i++)
        usleep(20000);
    assert_true(status < 0);
}

static void test_address_in_use(void **state) {
    struct world *w = *state;
    struct error err = {0};
    struct ingress *second;
    char http[64], https[64];
    snprintf(http, sizeof(http), "127.0.0.1:%d", w->http);
    snprintf(https, sizeof(https), "127.0.0.1:%d", w->https);
    struct ingress_options o = {.loop = w->loop,
                                .client = w->client,
                                .http_address = "127.0.0.1:0",
                                .https_address = https};
    assert_int_equal(ingress_start(&o, &second, &err), -EADDRINUSE);
    has(err.msg, https);
    o.http_address = http;
    assert_int_equal(ingress_start(&o, &second, &err), -EADDRINUSE);
    has(err.msg, http);
    o.default_cert_pem = o.default_key_pem = "nonsense";
    assert_true(ingress_start(&o, &second, &err) < 0);
    has(err.msg, "default certificate");
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void) {
    pki_init();
    const struct CMUnitTest tests[] = {
        T(test_class_is_made),     T(test_routes_follow_the_objects),
        T(test_status_says_where), T(test_certificates_by_name),
        T(test_address_in_use),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
