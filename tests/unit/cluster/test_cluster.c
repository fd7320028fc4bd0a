/*
 * The pod network in a network namespace of its own, with the API behind it: pods reach Services, NodePorts, host ports and the
 * cluster's DNS; nftables changes only where something changed.
 */
#include <sched.h>

#include "cluster/cluster_priv.h"
#include "helper.h"

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/file.h"

#define BRIDGE "dorytest0"
#define TABLE "dory-test"
#define VIP "10.43.0.50"
#define LONELY "10.43.0.51"
#define DNS "10.43.0.10"
#define GATEWAY "10.42.0.1"

/* --- an API without its HTTP ------------------------------------------------------------------------------------ */

static struct loop *core, *net, *node;
static struct store *store;
static struct api *api;
static struct client *client;
static struct cluster *cluster;
static sem_t turn;
static char ready_text[500];
static char resolv_conf[] = "/tmp/test_cluster.XXXXXX";

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

static void api_start(void) {
    struct error err = {0};
    static char *key;
    static const char *keys[2];
    pki_init();
    core = loop_new("core");
    net = loop_new("net");
    node = loop_new("node");
    struct store_options so = {.loop = core, .ops = &log_ops};
    if (store_open(&so, &store, &err) < 0 || pki_key_new(&key, &err) < 0)
        fail_msg("%s", err.msg);
    keys[0] = key;
    struct api_options ao = {.loop = core,
                             .store = store,
                             .schema = schema_builtin(),
                             .version_git = "v1.36.0+dory1",
                             .service_cidr = "10.43.0.0/16",
                             .cluster_cidr = "10.42.0.0/16",
                             .cluster_dns = DNS,
                             .cluster_domain = "cluster.local",
                             .node_port_first = 30000,
                             .node_port_last = 32767,
                             .sa_key_pem = key,
                             .sa_public_pem = keys,
                             .sa_issuer = "https://kubernetes.default.svc.cluster.local"};
    if (api_new(&ao, &api, &err) < 0)
        fail_msg("%s", err.msg);
    client = client_in_process(api, NULL, "test");
    free(key);
    loop_start(core, &err);
    loop_start(net, &err);
    loop_start(node, &err);
}

static void request_done(void *arg, int code, struct object *o, const struct api_status *status) {
    if (code < 0)
        printf("%.*s\n", STR_ARG(status->message));
    *(int *)arg = code;
    sem_post(&turn);
}

static int request(enum client_verb verb, const char *resource, const char *ns, const char *name, const char *body) {
    cleanup_arena struct arena *a = arena_new(0, 0);
    struct error err = {0};
    int code = 0;
    struct client_request r = {.verb = verb,
                               .resource = resource,
                               .ns = str_c(ns),
                               .name = str_c(name),
                               .body = body ? json_parse(a, str_c(body), NULL, &err) : NULL,
                               .loop = node,
                               .done = request_done,
                               .arg = &code};
    if (body && !r.body)
        fail_msg("%s: %s", body, err.msg);
    client_do(client, &r);
    sem_wait(&turn);
    return code;
}

/* --- pods ------------------------------------------------------------------------------------------------------- */

struct pod {
    const char *key;
    int netns;
    char ip[48];
    int code;
};
static struct pod a = {.key = "uid-a"}, b = {.key = "uid-b"};

struct task {
    int netns; /* -1: the host's */
    void (*fn)(void *arg);
    void *arg;
};

static void *run_task(void *arg) {
    struct task *t = arg;
    if (t->netns >= 0)
        assert_int_equal(setns(t->netns, CLONE_NEWNET), 0);
    t->fn(t->arg);
    return NULL;
}

/* fn(arg) as the pod (or, with netns -1, the host) would do it. */
static void inside(int netns, void (*fn)(void *arg), void *arg) {
    pthread_t thread;
    struct task t = {netns, fn, arg};
    pthread_create(&thread, NULL, run_task, &t);
    pthread_join(thread, NULL);
}

static void make_netns(void *arg) {
    assert_int_equal(unshare(CLONE_NEWNET), 0);
    *(int *)arg = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
}

static void attached(void *arg, int code, const struct pod_network_result *r, const struct error *err) {
    struct pod *p = arg;
    p->code = code;
    snprintf(p->ip, sizeof(p->ip), "%s", code < 0 ? err->msg : r->ips[0]);
    sem_post(&turn);
}

static void attach_on_node(void *arg) {
    struct pod *p = arg;
    cluster_pod_network_ops()->attach(cluster, str_c(p->key), p->netns, attached, p);
}

static void pod_attach(struct pod *p) {
    inside(-1, make_netns, &p->netns);
    loop_post(node, attach_on_node, p);
    sem_wait(&turn);
}

/* A server on 8080 that says one word to who connects. */
struct listener {
    int fd;
    const char *word;
    pthread_t thread;
};

static void listen_here(void *arg) {
    struct listener *l = arg;
    struct sockaddr_in sa = {.sin_family = AF_INET, .sin_port = htons(8080)};
    l->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(l->fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
    assert_int_equal(listen(l->fd, 10), 0);
}

/* Says who called, too: "word 10.42.0.3". */
static void *serve(void *arg) {
    struct listener *l = arg;
    for (;;) {
        struct sockaddr_in from;
        socklen_t n = sizeof(from);
        char text[64], ip[16];
        int fd = accept4(l->fd, (struct sockaddr *)&from, &n, SOCK_CLOEXEC);
        if (fd < 0)
            return NULL;
        int len = snprintf(text, sizeof(text), "%s %s", l->word, inet_ntop(AF_INET, &from.sin_addr, ip, sizeof(ip)));
        fd_write_all(fd, text, (size_t)len);
        close(fd);
    }
}

/* --- what a client gets ----------------------------------------------------------------------------------------- */

struct call {
    const char *ip;
    uint16_t port;
    char answer[64]; /* or the error */
};

static void call_here(void *arg) {
    struct call *c = arg;
    struct sockaddr_in sa = {.sin_family = AF_INET, .sin_port = htons(c->port), .sin_addr = {inet_addr(c->ip)}};
    struct timeval limit = {2, 0};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    ssize_t n = -1;
    if (connect(fd, (struct sockaddr *)&sa, sizeof(sa)) == 0)
        n = recv(fd, c->answer, sizeof(c->answer) - 1, MSG_WAITALL);
    if (n < 0)
        n = snprintf(c->answer, sizeof(c->answer), "%s", strerror(errno));
    c->answer[n] = 0;
    close(fd);
}

static const char *call(int netns, const char *ip, uint16_t port) {
    static struct call c;
    c = (struct call){ip, port, ""};
    inside(netns, call_here, &c);
    return c.answer;
}

struct question {
    const char *name;
    struct buf text;
};

static void ask_here(void *arg) {
    struct question *q = arg;
    struct sockaddr_in sa = {.sin_family = AF_INET, .sin_port = htons(53), .sin_addr = {inet_addr(DNS)}};
    struct timeval limit = {2, 0};
    cleanup_buf struct buf out = BUF_INIT;
    struct dns_name n = name_of(q->name);
    char in[1500];
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    dns_query_write(&out, 1, &n, DNS_A, true, false);
    connect(fd, (struct sockaddr *)&sa, sizeof(sa));
    send(fd, out.p, out.n, 0);
    ssize_t got = recv(fd, in, sizeof(in), 0);
    if (got < 0)
        buf_printf(&q->text, "%s", strerror(errno));
    else
        answer_text(str_n(in, (size_t)got), &q->text);
    close(fd);
}

/* The table as nft(8) shows it, with handles: another handle is another rule. NULL without nft. */
static char *list_table(void) {
    struct buf text = BUF_INIT;
    int fds[2], status;
    char piece[4096];
    ssize_t n;
    assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
    pid_t pid = fork();
    if (pid == 0) {
        dup2(fds[1], 1);
        execlp("nft", "nft", "-a", "list", "table", "ip", TABLE, (char *)NULL);
        _exit(127);
    }
    close(fds[1]);
    while ((n = read(fds[0], piece, sizeof(piece))) > 0)
        buf_put(&text, piece, (size_t)n);
    close(fds[0]);
    waitpid(pid, &status, 0);
    if (status == 0)
        return buf_steal(&text, NULL);
    buf_fini(&text);
    return NULL;
}

/* Changes are sent in the net loop's next turn after the informer told of them. */
#define EVENTUALLY(cond)                                                   \
    do {                                                                   \
        int left_ = 100;                                                   \
        while (!(cond) && --left_)                                         \
            usleep(20000);                                                 \
        if (!left_)                                                        \
            fail_msg("%s:%d: not in time: %s", __FILE__, __LINE__, #cond); \
    } while (0)

/* --- tests ------------------------------------------------------------------------------------------------------ */

static struct listener on_a = {.word = "a"}, on_b = {.word = "b"};

static void pods_get_addresses_and_reach_each_other(void **state) {
    pod_attach(&a);
    pod_attach(&b);
    assert_string_equal(a.ip, "10.42.0.2");
    assert_string_equal(b.ip, "10.42.0.3");
    inside(a.netns, listen_here, &on_a);
    inside(b.netns, listen_here, &on_b);
    pthread_create(&on_a.thread, NULL, serve, &on_a);
    pthread_create(&on_b.thread, NULL, serve, &on_b);
    assert_string_equal(call(b.netns, a.ip, 8080), "a 10.42.0.3");
    assert_string_equal(call(-1, a.ip, 8080), "a " GATEWAY);
}

static void put_slice(const char *service, const char *first, const char *second) {
    char body[1200];
    snprintf(
        body, sizeof(body),
        "{\"apiVersion\":\"discovery.k8s.io/v1\",\"kind\":\"EndpointSlice\",\"metadata\":{\"name\":\"%s-1\","
        "\"labels\":{\"kubernetes.io/service-name\":\"%s\"}},\"addressType\":\"IPv4\",\"ports\":[{\"name\":\"http\","
        "\"port\":8080,\"protocol\":\"TCP\"}],\"endpoints\":[{\"addresses\":[\"%s\"],\"conditions\":{\"ready\":true}}"
        "%s%s%s]}",
        service, service, first, second ? ",{\"addresses\":[\"" : "", second ? second : "",
        second ? "\"],\"conditions\":{\"ready\":true}}" : "");
    request(CLIENT_DELETE, "endpointslices.discovery.k8s.io", "x", "web-1", NULL);
    assert_int_equal(request(CLIENT_CREATE, "endpointslices.discovery.k8s.io", "x", "", body), 0);
}

static void services_lead_to_pods(void **state) {
    static const char web[] =
        "{\"apiVersion\":\"v1\",\"kind\":\"Service\",\"metadata\":{\"name\":\"web\"},\"spec\":{\"type\":"
        "\"NodePort\",\"clusterIP\":\"" VIP "\",\"ports\":[{\"name\":\"http\",\"port\":80,"
        "\"targetPort\":8080,\"nodePort\":30080}]}}";
    assert_int_equal(request(CLIENT_CREATE, "services", "x", "", web), 0);
    put_slice("web", a.ip, NULL);
    EVENTUALLY(strcmp(call(b.netns, VIP, 80), "a 10.42.0.3") == 0); /* the pod's own address is seen */
    assert_string_equal(call(-1, VIP, 80), "a " GATEWAY);
    assert_string_equal(call(b.netns, GATEWAY, 30080), "a " GATEWAY); /* a NodePort hides the caller */
    assert_string_equal(call(-1, GATEWAY, 30080), "a " GATEWAY);
    assert_string_equal(call(a.netns, VIP, 80), "a " GATEWAY); /* to itself and back */
}

static void connections_go_to_all_endpoints(void **state) {
    int to_a = 0, to_b = 0;
    put_slice("web", a.ip, b.ip);
    EVENTUALLY(call(-1, VIP, 80)[0] == 'b');
    for (int i = 0; i < 40; i++) {
        const char *answer = call(i % 2 ? -1 : b.netns, VIP, 80);
        to_a += answer[0] == 'a' && answer[1] == ' ';
        to_b += answer[0] == 'b' && answer[1] == ' ';
    }
    assert_int_equal(to_a + to_b, 40); /* none is lost */
    assert_true(to_a > 5 && to_b > 5);
}

static void affinity_keeps_a_client(void **state) {
    static const char sticky[] = "{\"spec\":{\"sessionAffinity\":\"ClientIP\"}}",
                      none[] = "{\"spec\":{\"sessionAffinity\":\"None\",\"sessionAffinityConfig\":null}}";
    assert_int_equal(request(CLIENT_PATCH_MERGE, "services", "x", "web", sticky), 0);
    usleep(300000);
    char first = call(b.netns, VIP, 80)[0];
    for (int i = 0; i < 20; i++)
        assert_int_equal(call(b.netns, VIP, 80)[0], first);
    assert_int_equal(request(CLIENT_PATCH_MERGE, "services", "x", "web", none), 0);
    EVENTUALLY(call(b.netns, VIP, 80)[0] != first);
}

static void services_without_endpoints_refuse(void **state) {
    static const char lonely[] =
        "{\"apiVersion\":\"v1\",\"kind\":\"Service\",\"metadata\":{\"name\":\"lonely\"},\"spec\":{"
        "\"clusterIP\":\"" LONELY "\",\"ports\":[{\"port\":80}]}}";
    assert_int_equal(request(CLIENT_CREATE, "services", "x", "", lonely), 0);
    EVENTUALLY(strcmp(call(b.netns, LONELY, 80), strerror(ECONNREFUSED)) == 0);
    for (int i = 0; i < 20; i++) { /* each time, however often the pod asked before */
        assert_string_equal(call(b.netns, LONELY, 80), strerror(ECONNREFUSED));
        assert_string_equal(call(-1, LONELY, 80), strerror(ECONNREFUSED));
    }
}

static void names_are_answered_inside_and_outside(void **state) {
    const int from[] = {-1, a.netns};
    for (size_t i = 0; i < 2; i++) {
        struct question q = {"web.x.svc.cluster.local", BUF_INIT};
        inside(from[i], ask_here, &q);
        assert_string_equal(q.text.p, "0; an web.x.svc.cluster.local A " VIP);
        buf_fini(&q.text);
    }
}

static void host_ports_on_node(void *arg) {
    cleanup_arena struct arena *arena = arena_new(0, 0);
    const struct json *ports = json_parse(arena, str_c(arg), NULL, NULL);
    cluster_pod_network_ops()->host_ports(cluster, str_c(b.key), b.ip, ports);
}

static void host_ports_lead_to_their_pod(void **state) {
    static char ports[] = "[{\"hostPort\":8888,\"containerPort\":8080,\"protocol\":\"TCP\"}]", no_ports[] = "[]";
    loop_post(node, host_ports_on_node, ports);
    EVENTUALLY(call(-1, GATEWAY, 8888)[0] == 'b');
    assert_int_equal(call(a.netns, GATEWAY, 8888)[0], 'b');
    loop_post(node, host_ports_on_node, no_ports);
    EVENTUALLY(strcmp(call(-1, GATEWAY, 8888), strerror(ECONNREFUSED)) == 0);
}

static void what_did_not_change_is_not_sent(void **state) {
    static const char
        note[] = "{\"metadata\":{\"annotations\":{\"note\":\"x\"}}}",
        scale[] = "{\"spec\":{\"ports\":[{\"name\":\"http\",\"port\":80,\"targetPort\":8080,\"nodePort\":30080},"
                  "{\"name\":\"more\",\"port\":81,\"nodePort\":30081}]}}";
    cleanup_free char *before = list_table();
    if (!before) {
        printf("nft(8) is not there: the table was not looked at\n");
        return;
    }
    assert_non_null(strstr(before, VIP " . tcp . 80 : goto svc-"));
    assert_non_null(strstr(before, "tcp . 30080 : goto svc-"));
    assert_non_null(strstr(before, LONELY " . tcp . 80 : goto refuse"));
    assert_non_null(strstr(before, "10.42.0.2 . 10.42.0.2"));
    assert_null(strstr(before, DNS)); /* answered here, not translated */
    assert_int_equal(request(CLIENT_PATCH_MERGE, "services", "x", "web", note), 0);
    usleep(300000);
    cleanup_free char *after = list_table();
    assert_string_equal(before, after);
    assert_int_equal(request(CLIENT_PATCH_MERGE, "services", "x", "web", scale), 0);
    for (int i = 0; i < 100; i++) {
        free(after);
        after = list_table();
        if (strstr(after, "10.43.0.50 . tcp . 81 : goto refuse"))
            break;
        usleep(20000);
    }
    assert_non_null(strstr(after, "10.43.0.50 . tcp . 81 : goto refuse"));
    const char *rule = strstr(before, "numgen"); /* the balancing rule is the same one */
    assert_non_null(rule);
    size_t n = strcspn(rule, "\n");
    cleanup_free char *line = xstrndup(rule, n);
    assert_non_null(strstr(after, line));
}

static void deleted_services_leave_nothing(void **state) {
    assert_int_equal(request(CLIENT_DELETE, "services", "x", "web", NULL), 0);
    assert_int_equal(request(CLIENT_DELETE, "services", "x", "lonely", NULL), 0);
    EVENTUALLY(strchr("ab", call(-1, VIP, 80)[0]) == NULL);
    usleep(200000);
    cleanup_free char *table = list_table();
    if (!table)
        return;
    assert_null(strstr(table, VIP));
    assert_null(strstr(table, LONELY));
    assert_null(strstr(table, "30080"));
}

static void detach_on_node(void *arg) {
    struct pod *p = arg;
    cluster_pod_network_ops()->detach(cluster, str_c(p->key));
    cluster_pod_network_ops()->detach(cluster, str_c(p->key)); /* again: harmless */
    sem_post(&turn);
}

static void detached_pods_are_gone(void **state) {
    loop_post(node, detach_on_node, &b);
    sem_wait(&turn);
    EVENTUALLY(call(a.netns, b.ip, 8080)[0] != 'b');
    cleanup_free char *table = list_table();
    if (table)
        assert_null(strstr(table, "10.42.0.3 . 10.42.0.3"));
}

/* --- life ------------------------------------------------------------------------------------------------------- */

static void on_ready(void *arg, int code, const struct error *err) {
    snprintf(ready_text, sizeof(ready_text), "%s", code < 0 ? err->msg : "ready");
    sem_post(&turn);
}

static void stopped(void *arg) {
    sem_post(&turn);
}

static void tear_down(void) {
    struct error err = {0};
    cluster_stop(cluster, stopped, NULL);
    sem_wait(&turn);
    struct loop *const loops[] = {node, net, core};
    for (size_t i = 0; i < ARRAY_LEN(loops); i++) {
        loop_stop(loops[i]);
        loop_join(loops[i]);
    }
    assert_int_equal(cluster_remove_all(BRIDGE, TABLE, &err), 0);
    cleanup_free char *table = list_table();
    assert_null(table);
    assert_int_equal(cluster_remove_all(BRIDGE, TABLE, &err), 0); /* again: fine */
    unlink(resolv_conf);
}

static const char *cannot_run(void) {
    struct error err = {0};
    struct nl_socket s;
    const char *emulated = getenv("TEST_EMULATED");
    if (emulated && emulated[0] == '1')
        return "no netfilter under emulation";
    if (geteuid() != 0 || unshare(CLONE_NEWNET) < 0)
        return "needs root and network namespaces";
    if (access("/proc/sys/net/ipv4/ip_forward", W_OK) < 0)
        return "kernel settings cannot be written";
    if (nl_open(&s, NETLINK_ROUTE, &err) < 0)
        return "no netlink";
    nl_link_up(&s, 1, true, &err);
    nl_close(&s);
    return cluster_remove_all("nosuch0", "dory-test-probe", &err) < 0 ? "no nftables" : NULL;
}

int main(void) {
    struct error err = {0};
    const char *why = cannot_run();
    if (why) {
        printf("%s\n", why);
        return 77;
    }
    close(mkostemp(resolv_conf, O_CLOEXEC));
    sem_init(&turn, 0, 0);
    api_start();
    request(CLIENT_CREATE, "namespaces", "", "",
            "{\"apiVersion\":\"v1\",\"kind\":\"Namespace\",\"metadata\":{\"name\":\"x\"}}");
    struct cluster_options o = {.loop = net,
                                .client = client,
                                .node_name = "n1",
                                .cluster_cidr = "10.42.0.0/16",
                                .service_cidr = "10.43.0.0/16",
                                .cluster_dns = DNS,
                                .cluster_domain = "cluster.local",
                                .resolv_conf = resolv_conf,
                                .node_port_first = 30000,
                                .node_port_last = 32767,
                                .bridge = BRIDGE,
                                .nft_table = TABLE,
                                .on_ready = on_ready};
    if (cluster_start(&o, &cluster, &err) < 0) {
        printf("%s\n", err.msg);
        return 1;
    }
    cluster_set_pod_cidr(cluster, "10.42.0.0/24");
    sem_wait(&turn);
    printf("%s\n", ready_text);
    if (strcmp(ready_text, "ready") != 0)
        return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pods_get_addresses_and_reach_each_other),
        cmocka_unit_test(services_lead_to_pods),
        cmocka_unit_test(connections_go_to_all_endpoints),
        cmocka_unit_test(affinity_keeps_a_client),
        cmocka_unit_test(services_without_endpoints_refuse),
        cmocka_unit_test(names_are_answered_inside_and_outside),
        cmocka_unit_test(host_ports_lead_to_their_pod),
        cmocka_unit_test(what_did_not_change_is_not_sent),
        cmocka_unit_test(deleted_services_leave_nothing),
        cmocka_unit_test(detached_pods_are_gone),
    };
    int rc = cmocka_run_group_tests(tests, NULL, NULL);
    tear_down();
    return rc;
}
