#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "node/node_priv.h"

static const char host_text[] =
    "# of the host\nnameserver 192.0.2.53\nsearch lan.example corp.example\noptions timeout:2\n";

/* What a pod with this spec gets as its resolv.conf or hosts file. */
static char *make(const char *spec, bool hosts) {
    struct node n = {.o = {.cluster_domain = "cluster.local", .cluster_dns = "10.43.0.10", .name = "n1"}};
    char *text = xasprintf("{\"metadata\":{\"name\":\"p\",\"namespace\":\"ns\"},\"spec\":%s}", spec);
    struct pod p = {.node = &n, .ns = STR("ns"), .name = STR("p")};
    struct buf out = BUF_INIT;
    p.object = object_new(NULL, STR("ns"), STR("p"), 1, text, strlen(text), NULL, NULL);
    memcpy(p.net.ips[0], "10.42.0.9", 10);
    if (hosts)
        hosts_make(&p, &out);
    else
        resolv_conf_make(&p, host_text, &out);
    object_unref(p.object);
    buf_putc(&out, 0);
    return buf_steal(&out, NULL);
}

static void resolv_conf_follows_the_policy(void **state) {
    static const char cluster[] =
        "search ns.svc.cluster.local svc.cluster.local cluster.local lan.example corp.example\n"
        "nameserver 10.43.0.10\noptions ndots:5\n";
    static const char host[] = "search lan.example corp.example\nnameserver 192.0.2.53\noptions timeout:2\n";
    static const struct {
        const char *spec, *wanted;
    } cases[] = {
        {"{}", cluster},
        {"{\"dnsPolicy\":\"ClusterFirst\"}", cluster},
        {"{\"dnsPolicy\":\"ClusterFirst\",\"hostNetwork\":true}", host},
        {"{\"dnsPolicy\":\"ClusterFirstWithHostNet\",\"hostNetwork\":true}", cluster},
        {"{\"dnsPolicy\":\"Default\"}", host},
        {"{\"dnsPolicy\":\"None\",\"dnsConfig\":{\"nameservers\":[\"192.0.2.1\"],\"searches\":[\"x.example\"],\"options\":[{"
         "\"name\":\"ndots\",\"value\":\"2\"},{\"name\":\"edns0\"}]}}",
         "search x.example\nnameserver 192.0.2.1\noptions ndots:2 edns0\n"},
        {"{\"dnsConfig\":{\"options\":[{\"name\":\"ndots\",\"value\":\"1\"}]}}",
         "search ns.svc.cluster.local svc.cluster.local cluster.local lan.example corp.example\n"
         "nameserver 10.43.0.10\noptions ndots:1\n"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        cleanup_free char *got = make(cases[i].spec, false);
        assert_string_equal(got, cases[i].wanted);
    }
}

static void hosts_names_the_pod(void **state) {
    cleanup_free char *plain = make("{}", true);
    assert_non_null(strstr(plain, "127.0.0.1\tlocalhost\n"));
    assert_non_null(strstr(plain, "10.42.0.9\tp\n"));
    cleanup_free char *named = make("{\"hostname\":\"web\",\"subdomain\":\"svc\"}", true);
    assert_non_null(strstr(named, "10.42.0.9\tweb.svc.ns.svc.cluster.local\tweb\n"));
    cleanup_free char *more =
        make("{\"hostAliases\":[{\"ip\":\"192.0.2.7\",\"hostnames\":[\"a.example\",\"b.example\"]}]}", true);
    assert_non_null(strstr(more, "192.0.2.7\ta.example\tb.example\n"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(resolv_conf_follows_the_policy),
        cmocka_unit_test(hosts_names_the_pod),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
