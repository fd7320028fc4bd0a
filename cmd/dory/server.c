/*
 * `dory server`: puts the subsystems together and runs the core loop on the main thread. What each thread owns stands in
 * docs/architecture.md.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "address.h"
#include "api/api.h"
#include "certs.h"
#include "client/client.h"
#include "cluster/cluster.h"
#include "commands.h"
#include "config.h"
#include "controllers/controllers.h"
#include "ingress/ingress.h"
#include "node/node.h"
#include "scheduler/scheduler.h"
#include "store/store.h"

#define IO_THREADS_MAX 4
#define STOP_TIMEOUT_S 10
#define SAN_MAX 64

struct server {
    struct config cfg;
    struct certs certs;
    char node_name[254], node_ip[ADDRESS_MAX], service_ip[ADDRESS_MAX], advertise[ADDRESS_MAX + 8];
    int node_port_first, node_port_last;
    struct loop *core, *io[IO_THREADS_MAX], *node_loop, *net_loop, *proxy_loop;
    size_t io_n;
    struct store *store;
    struct api *api;
    struct http_server *http;
    struct controllers *controllers;
    struct scheduler *scheduler;
    struct client *node_client, *net_client, *ingress_client;
    struct image_registries *registries;
    struct cluster *cluster;
    struct node *node;
    struct ingress *ingress;
    struct tls_config *tls;
    uv_signal_t signals[2];
    bool stopping;
    int64_t started_ms;
};

/* --- what the settings mean ------------------------------------------------------------------------------------- */

static int parse_port_range(const char *text, int *first, int *last, struct error *err) {
    struct str a, b;
    int64_t lo, hi;
    if (!str_cut(str_c(text), '-', &a, &b) || !str_to_i64(a, &lo) || !str_to_i64(b, &hi) || lo < 1 || hi > 65535 ||
        lo > hi)
        return error_set(err, -EINVAL, "--service-node-port-range: \"%s\" is no range of ports like 30000-32767", text);
    *first = (int)lo;
    *last = (int)hi;
    return 0;
}

static int resolve_settings(struct server *s, struct error *err) {
    struct config *c = &s->cfg;
    char first[ADDRESS_MAX];
    if (cidr_address(c->cluster_cidr, 1, first, err) < 0)
        return error_wrap(err, "--cluster-cidr");
    if (cidr_address(c->service_cidr, 1, s->service_ip, err) < 0)
        return error_wrap(err, "--service-cidr");
    if (!cidr_contains(c->service_cidr, c->cluster_dns))
        return error_set(err, -EINVAL, "--cluster-dns: %s is not inside --service-cidr %s", c->cluster_dns,
                         c->service_cidr);
    int rc = parse_port_range(c->service_node_port_range, &s->node_port_first, &s->node_port_last, err);
    if (rc < 0)
        return rc;
    if (c->node_name)
        snprintf(s->node_name, sizeof(s->node_name), "%s", c->node_name);
    else if ((rc = node_name_of_host(s->node_name, err)) < 0)
        return rc;
    const char *bad = name_check_dns_subdomain(str_c(s->node_name));
    if (bad)
        return error_set(err, -EINVAL, "--node-name: \"%s\": %s", s->node_name, bad);
    if (c->node_ip)
        snprintf(s->node_ip, sizeof(s->node_ip), "%s", c->node_ip);
    else
        address_of_node(s->node_ip);
    snprintf(s->advertise, sizeof(s->advertise), "%s:%lld", c->advertise_address ? c->advertise_address : s->node_ip,
             (long long)c->https_listen_port);
    return 0;
}

static bool is_address(const char *s) {
    struct in6_addr any;
    return uv_inet_pton(AF_INET, s, &any) == 0 || uv_inet_pton(AF_INET6, s, &any) == 0;
}

/* Names and addresses of the serving certificate: fixed ones, the node's and those asked for; nothing from requests. */
static int load_certs(struct server *s, struct error *err) {
    cleanup_arena struct arena *a = arena_new(0, 0);
    const char *names[SAN_MAX + 1] = {"localhost",
                                      "kubernetes",
                                      "kubernetes.default",
                                      "kubernetes.default.svc",
                                      arena_printf(a, "kubernetes.default.svc.%s", s->cfg.cluster_domain),
                                      s->node_name};
    const char *addresses[SAN_MAX + 1] = {"127.0.0.1", "::1", s->service_ip, s->node_ip};
    size_t names_n = 6, addresses_n = 4;
    if (s->cfg.advertise_address)
        addresses[addresses_n++] = s->cfg.advertise_address;
    for (size_t i = 0; i < s->cfg.tls_san.n; i++) {
        const char *san = s->cfg.tls_san.items[i];
        if (names_n == SAN_MAX || addresses_n == SAN_MAX)
            return error_set(err, -E2BIG, "--tls-san: at most %d names", SAN_MAX - 8);
        if (is_address(san))
            addresses[addresses_n++] = san;
        else if (name_check_dns_subdomain(str_c(san)))
            return error_set(err, -EINVAL, "--tls-san: \"%s\" is neither an address nor a host name", san);
        else
            names[names_n++] = san;
    }
    return certs_ensure(&s->cfg, names, addresses, &s->certs, err);
}

static int load_registries(struct server *s, struct error *err) {
    struct buf text = {.limit = MiB(1)};
    const char *path = s->cfg.private_registry;
    int rc = file_exists(path) ? file_read(path, &text, err) : 0;
    if (rc == 0) {
        s->registries = image_registries_parse(buf_str(&text), err);
        if (!s->registries)
            rc = error_wrap(err, "%s", path);
    }
    buf_fini(&text);
    return rc;
}

static int make_dirs(const struct config *c, struct error *err) {
    static const char *const below[] = {"", "/server", "/server/db", "/agent", "/agent/images"};
    for (size_t i = 0; i < ARRAY_LEN(below); i++) {
        cleanup_free char *path = xasprintf("%s%s", c->data_dir, below[i]);
        int rc = dir_make_all(path, 0700, err);
        if (rc < 0)
            return rc;
    }
    return dir_make_all(c->run_dir, 0700, err);
}

/* --- start ------------------------------------------------------------------------------------------------------ */

static void on_store_fatal(void *arg, const struct error *err) {
    (void)arg;
    log_error("store", "writes cannot be made durable: %s", err->msg);
}

static int start_api(struct server *s, struct error *err) {
    const struct store_log_ops *ops;
    void *log;
    cleanup_free char *db = xasprintf("%s/server/db", s->cfg.data_dir);
    int rc = store_log_sqlite_open(db, &ops, &log, err);
    if (rc < 0)
        return rc;
    struct store_options so = {.loop = s->core, .ops = ops, .log = log, .on_fatal = on_store_fatal, .arg = s};
    if ((rc = store_open(&so, &s->store, err)) < 0)
        return rc;
    cleanup_free char *issuer = xasprintf("https://kubernetes.default.svc.%s", s->cfg.cluster_domain);
    const char *sa_public[] = {s->certs.service_key, NULL};
    const char *advertise[] = {s->advertise, NULL};
    struct api_options ao = {.loop = s->core,
                             .store = s->store,
                             .schema = schema_builtin(),
                             .version_git = DORY_VERSION,
                             .service_cidr = s->cfg.service_cidr,
                             .cluster_cidr = s->cfg.cluster_cidr,
                             .cluster_dns = config_disabled(&s->cfg, "dns") ? NULL : s->cfg.cluster_dns,
                             .cluster_domain = s->cfg.cluster_domain,
                             .node_port_first = s->node_port_first,
                             .node_port_last = s->node_port_last,
                             .sa_key_pem = s->certs.service_key,
                             .sa_public_pem = sa_public,
                             .sa_issuer = issuer,
                             .cluster_ca_pem = s->certs.server_ca,
                             .advertise = advertise};
    if ((rc = api_new(&ao, &s->api, err)) < 0)
        return rc;
    return api_bootstrap(s->api, err);
}

static int start_http(struct server *s, struct error *err) {
    static const char *const alpn[] = {"http/1.1", NULL};
    struct tls_server_options to = {.cert_pem = s->certs.serving,
                                    .key_pem = s->certs.serving_key,
                                    .client_ca_pem = s->certs.client_ca,
                                    .alpn = alpn};
    s->tls = tls_server_config(&to, err);
    if (!s->tls)
        return err->code;
    long cpus = sysconf(_SC_NPROCESSORS_ONLN);
    s->io_n = cpus < 2 ? 1 : MIN((size_t)cpus, (size_t)IO_THREADS_MAX);
    for (size_t i = 0; i < s->io_n; i++) {
        char name[16];
        snprintf(name, sizeof(name), "io-%zu", i);
        s->io[i] = loop_new(name);
        int rc = loop_start(s->io[i], err);
        if (rc < 0)
            return rc;
    }
    struct http_server_options ho = {
        .loops = s->io, .loops_n = s->io_n, .tls = s->tls, .handler = api_http_handler, .arg = s->api};
    cleanup_free char *address = xasprintf(strchr(s->cfg.bind_address, ':') ? "[%s]:%lld" : "%s:%lld",
                                           s->cfg.bind_address, (long long)s->cfg.https_listen_port);
    int rc = http_server_start(&ho, address, &s->http, err);
    if (rc == -EADDRINUSE)
        return error_wrap(err, "another program listens there; choose another port with --https-listen-port");
    return rc;
}

static const struct api_user node_user = {.name = STR_INIT("system:node"),
                                          .groups = (const struct str[]){STR_INIT("system:masters"),
                                                                         STR_INIT("system:authenticated")},
                                          .groups_n = 2};

static void on_pod_cidr(void *arg, const char *cidr) {
    struct server *s = arg;
    cluster_set_pod_cidr(s->cluster, cidr);
}

static void on_cluster_ready(void *arg, int code, const struct error *err) {
    struct server *s = arg;
    if (code < 0)
        log_error("cluster", "the pod network does not work: %s", err->msg);
    if (s->node)
        node_network_ready(s->node, code == 0, code < 0 ? err->msg : NULL);
}

static int start_cluster(struct server *s, struct error *err) {
    s->net_loop = loop_new("net");
    int rc = loop_start(s->net_loop, err);
    if (rc < 0)
        return rc;
    s->net_client = client_in_process(s->api, &node_user, "dory-cluster");
    struct cluster_options o = {.loop = s->net_loop,
                                .client = s->net_client,
                                .node_name = s->node_name,
                                .node_ip = s->node_ip,
                                .cluster_cidr = s->cfg.cluster_cidr,
                                .service_cidr = s->cfg.service_cidr,
                                .cluster_dns = config_disabled(&s->cfg, "dns") ? NULL : s->cfg.cluster_dns,
                                .cluster_domain = s->cfg.cluster_domain,
                                .resolv_conf = s->cfg.resolv_conf,
                                .node_port_first = s->node_port_first,
                                .node_port_last = s->node_port_last,
                                .on_ready = on_cluster_ready,
                                .arg = s};
    return cluster_start(&o, &s->cluster, err);
}

static int start_node(struct server *s, struct error *err) {
    s->node_loop = loop_new("node");
    int rc = loop_start(s->node_loop, err);
    if (rc < 0)
        return rc;
    s->node_client = client_in_process(s->api, &node_user, "kubelet");
    cleanup_free char *data = xasprintf("%s/agent", s->cfg.data_dir);
    cleanup_free char *images = xasprintf("%s/agent/images", s->cfg.data_dir);
    struct node_options o = {.loop = s->node_loop,
                             .client = s->node_client,
                             .name = s->node_name,
                             .data_dir = data,
                             .run_dir = s->cfg.run_dir,
                             .log_dir = "/var/log/pods",
                             .address = s->node_ip,
                             .resolv_conf = s->cfg.resolv_conf,
                             .cluster_dns = s->cfg.cluster_dns,
                             .cluster_domain = s->cfg.cluster_domain,
                             .registries = s->registries,
                             .images_dir = images,
                             .labels = s->cfg.node_label.items,
                             .taints = s->cfg.node_taint.items,
                             .network = cluster_pod_network_ops(),
                             .network_arg = s->cluster,
                             .max_pods = (int)s->cfg.max_pods,
                             .version = DORY_VERSION,
                             .on_pod_cidr = on_pod_cidr,
                             .arg = s};
    if ((rc = node_start(&o, &s->node, err)) < 0)
        return rc;
    api_set_node_ops(s->api, str_c(s->node_name), node_api_ops(s->node));
    return 0;
}

static int start_ingress(struct server *s, struct error *err) {
    s->proxy_loop = loop_new("ingress");
    int rc = loop_start(s->proxy_loop, err);
    if (rc < 0)
        return rc;
    s->ingress_client = client_in_process(s->api, &node_user, "dory-ingress");
    cleanup_free char *http = xasprintf("0.0.0.0:%lld", (long long)s->cfg.ingress_http_port);
    cleanup_free char *https = xasprintf("0.0.0.0:%lld", (long long)s->cfg.ingress_https_port);
    struct ingress_options o = {.loop = s->proxy_loop,
                                .client = s->ingress_client,
                                .http_address = http,
                                .https_address = https,
                                .published_ip = s->node_ip,
                                .default_cert_pem = s->certs.serving,
                                .default_key_pem = s->certs.serving_key};
    rc = ingress_start(&o, &s->ingress, err);
    if (rc == -EADDRINUSE)
        return error_wrap(err, "ingress: use --ingress-http-port and --ingress-https-port, or --disable ingress");
    return rc;
}

/* --- stop: pods and network stay as they are -------------------------------------------------------------------- */

static void stop_core(void *arg) {
    struct server *s = arg;
    loop_stop(s->core);
}

static void node_stopped(void *arg) {
    struct server *s = arg;
    loop_post(s->core, stop_core, s);
}

static void http_stopped(void *arg) {
    struct server *s = arg;
    if (s->node)
        node_stop(s->node, node_stopped, s);
    else
        loop_post(s->core, stop_core, s);
}

static void on_signal(uv_signal_t *handle, int signum) {
    struct server *s = handle->data;
    if (s->stopping)
        return;
    s->stopping = true;
    log_info("server", "%s: stopping; pods go on running", strsignal(signum));
    alarm(STOP_TIMEOUT_S); /* a hanging stop must not hold up the machine's */
    http_server_stop(s->http, http_stopped, s);
}

static void on_alarm(int signum) {
    (void)signum;
    static const char text[] = "stopping took too long: leaving now\n";
    ssize_t rc = write(STDERR_FILENO, text, sizeof(text) - 1);
    (void)rc;
    _exit(1);
}

static void watch_signals(struct server *s) {
    static const int numbers[] = {SIGTERM, SIGINT};
    struct sigaction alarm_action = {.sa_handler = on_alarm};
    sigaction(SIGALRM, &alarm_action, NULL);
    signal(SIGPIPE, SIG_IGN);
    for (size_t i = 0; i < ARRAY_LEN(numbers); i++) {
        uv_signal_init(loop_uv(s->core), &s->signals[i]);
        s->signals[i].data = s;
        uv_signal_start(&s->signals[i], on_signal, numbers[i]);
    }
}

/* --- the command ------------------------------------------------------------------------------------------------ */

static int start_all(struct server *s, struct error *err) {
    int rc = resolve_settings(s, err);
    if (rc == 0)
        rc = make_dirs(&s->cfg, err);
    if (rc == 0)
        rc = load_registries(s, err);
    if (rc == 0)
        rc = load_certs(s, err);
    if (rc == 0)
        rc = start_api(s, err);
    if (rc == 0)
        rc = start_http(s, err);
    if (rc == 0)
        rc = kubeconfig_write(&s->cfg, &s->certs, err);
    if (rc < 0)
        return rc;
    log_info("server", "API listens on %s:%lld after %lld ms; kubeconfig is %s", s->cfg.bind_address,
             (long long)s->cfg.https_listen_port, (long long)(time_mono_ms() - s->started_ms), s->cfg.write_kubeconfig);
    struct controllers_options co = {.api = s->api,
                                     .cluster_cidr = s->cfg.cluster_cidr,
                                     .cluster_ca_pem = s->certs.server_ca};
    s->controllers = controllers_start(&co);
    s->scheduler = scheduler_start(s->api, NULL);
    if (s->cfg.disable_agent)
        return 0;
    if ((rc = start_cluster(s, err)) < 0 || (rc = start_node(s, err)) < 0)
        return rc;
    return config_disabled(&s->cfg, "ingress") ? 0 : start_ingress(s, err);
}

static bool wants_help(int argc, char **argv) {
    for (int i = 1; i < argc; i++)
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0)
            return true;
    return false;
}

static int preflight(const struct config *c) {
    struct preflight_check checks[64];
    size_t n = c->disable_agent ? 0 : preflight_run(checks, ARRAY_LEN(checks));
    int missing = 0;
    for (size_t i = 0; i < n; i++) {
        if (checks[i].result == PREFLIGHT_OK)
            continue;
        bool fail = checks[i].result == PREFLIGHT_FAIL;
        missing += fail;
        log_write(fail ? LOG_ERROR : LOG_WARN, "preflight", "%s: %s%s%s", checks[i].name, checks[i].detail,
                  checks[i].remedy[0] ? "; mend it with: " : "", checks[i].remedy);
    }
    if (missing)
        log_error("preflight", "this machine lacks %d thing%s that a node needs (`dory check-config` shows all)",
                  missing, missing == 1 ? "" : "s");
    return missing;
}

int command_server(int argc, char **argv) {
    static struct server s;
    struct error err = {0};
    if (wants_help(argc, argv)) {
        config_print_help();
        return 0;
    }
    s.started_ms = time_mono_ms();
    umask(0022);
    if (config_load(&s.cfg, argc - 1, argv + 1, &err) < 0) {
        fprintf(stderr, "dory server: %s\n", err.msg);
        return 2;
    }
    if (s.cfg.debug)
        log_set_level(LOG_DEBUG);
    log_info("server", "Starting dory " DORY_VERSION);
    if (preflight(&s.cfg))
        return 1;
    pki_init();
    s.core = loop_new("core");
    watch_signals(&s);
    if (start_all(&s, &err) < 0) {
        log_error("server", "%s", err.msg);
        return 1; /* the kernel takes back threads and sockets; the store has acknowledged nothing yet */
    }
    loop_run(s.core);
    store_close(s.store);
    log_info("server", "stopped");
    return 0;
}
