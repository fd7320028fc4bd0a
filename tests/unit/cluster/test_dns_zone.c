/* Names of Services and pods, over objects from text. */
#include "fake_source.h"

static struct fake fake;
static struct dns_zone zone;
static struct buf text = BUF_INIT;
static struct dns_name follow;

static const char *ask(const char *name, uint16_t type) {
    struct dns_query q = query_of(name, type, true);
    struct dns_builder b;
    dns_reply_begin(&b, &q, q.udp_size);
    int rcode = dns_zone_answer(&zone, &q, &b, &follow);
    dns_reply_end(&b, rcode, true);
    const char *s = answer_text(buf_str(&b.out), &text);
    buf_fini(&b.out);
    return s;
}
#define KUBERNETES "kubernetes.default.svc.cluster.local"
#define DB "db.default.svc.cluster.local"
#define NODATA "0; ns cluster.local SOA"
#define NOTHING "3; ns cluster.local SOA"

static void cluster_ips(void **state) {
    assert_string_equal(ask(KUBERNETES, DNS_A), "0; an " KUBERNETES " A 10.43.0.1");
    assert_string_equal(ask("KuberNetes.DEFAULT.svc.Cluster.Local", DNS_A), "0; an " KUBERNETES " A 10.43.0.1");
    assert_string_equal(ask(KUBERNETES, DNS_AAAA), NODATA);
    assert_string_equal(ask(KUBERNETES, DNS_MX), NODATA);
    assert_string_equal(ask("nothing.default.svc.cluster.local", DNS_A), NOTHING);
    assert_string_equal(ask("kubernetes.apps.svc.cluster.local", DNS_A), NOTHING);
    assert_string_equal(ask("x." KUBERNETES, DNS_A), NOTHING);
    assert_string_equal(ask("a.b.c.d.e.f." KUBERNETES, DNS_A), NOTHING);
    assert_string_equal(ask("kubernetes/x.default.svc.cluster.local", DNS_A), NOTHING);
}

static void names_between(void **state) {
    assert_string_equal(ask("cluster.local", DNS_A), NODATA);
    assert_string_equal(ask("cluster.local", DNS_SOA), "0; an cluster.local SOA");
    assert_string_equal(ask("cluster.local", DNS_NS), "0; an cluster.local NS ns.dns.cluster.local");
    assert_string_equal(ask("ns.dns.cluster.local", DNS_A), "0; an ns.dns.cluster.local A 10.43.0.10");
    assert_string_equal(ask("svc.cluster.local", DNS_A), NODATA);
    assert_string_equal(ask("default.svc.cluster.local", DNS_A), NODATA);
    assert_string_equal(ask("nowhere.svc.cluster.local", DNS_A), NOTHING);
    assert_string_equal(ask("something.cluster.local", DNS_A), NOTHING);
    assert_string_equal(ask("dns-version.cluster.local", DNS_TXT), "0; an dns-version.cluster.local TXT 1.1.0");
}

static void headless_services(void **state) {
    assert_string_equal(ask(DB, DNS_A), "0; an " DB " A 10.42.0.5"); /* once, and only what is ready */
    assert_string_equal(ask(DB, DNS_AAAA), NODATA);
    assert_string_equal(ask("db-0." DB, DNS_A), "0; an db-0." DB " A 10.42.0.5");
    assert_string_equal(ask("db-2." DB, DNS_A), NOTHING);
    assert_string_equal(ask("10-42-0-5." DB, DNS_A), NOTHING); /* it has a host name */
    assert_string_equal(ask("empty.default.svc.cluster.local", DNS_A), NOTHING);
}

static void ports(void **state) {
    assert_string_equal(ask("_https._tcp." KUBERNETES, DNS_SRV),
                        "0; an _https._tcp." KUBERNETES " SRV 0 100 443 " KUBERNETES "; ar " KUBERNETES " A 10.43.0.1");
    assert_string_equal(ask("_HTTPS._TCP." KUBERNETES, DNS_A), NODATA);
    assert_string_equal(ask("_tcp." KUBERNETES, DNS_SRV), NODATA);
    assert_string_equal(ask("_http._tcp." KUBERNETES, DNS_SRV), NOTHING);
    assert_string_equal(ask("_https._udp." KUBERNETES, DNS_SRV), NOTHING);
    assert_string_equal(ask("_sql._tcp." DB, DNS_SRV),
                        "0; an _sql._tcp." DB " SRV 0 100 5432 db-0." DB "; ar db-0." DB " A 10.42.0.5");
}

static void reverse_names(void **state) {
    assert_string_equal(ask("1.0.43.10.in-addr.arpa", DNS_PTR), "0; an 1.0.43.10.in-addr.arpa PTR " KUBERNETES);
    assert_string_equal(ask("5.0.42.10.in-addr.arpa", DNS_PTR), "0; an 5.0.42.10.in-addr.arpa PTR db-0." DB);
    assert_string_equal(ask("99.0.42.10.in-addr.arpa", DNS_PTR), "3; ns 42.10.in-addr.arpa SOA");
    assert_string_equal(ask("1.0.43.10.in-addr.arpa", DNS_A), "0; ns 43.10.in-addr.arpa SOA");
    struct dns_name others[] = {
        name_of("8.8.8.8.in-addr.arpa"),      name_of("10.in-addr.arpa"), name_of("in-addr.arpa"),
        name_of("cluster.local.example.org"), name_of("local"),           name_of("xcluster.local")};
    for (size_t i = 0; i < ARRAY_LEN(others); i++)
        assert_false(dns_zone_has(&zone, &others[i]));
}

static void pods(void **state) {
    assert_string_equal(ask("10-42-0-5.default.pod.cluster.local", DNS_A),
                        "0; an 10-42-0-5.default.pod.cluster.local A 10.42.0.5");
    assert_string_equal(ask("10-42-0-5.default.pod.cluster.local", DNS_AAAA), NODATA);
    assert_string_equal(ask("10-42-0-256.default.pod.cluster.local", DNS_A), NOTHING);
    assert_string_equal(ask("10-42-0.default.pod.cluster.local", DNS_A), NOTHING);
    assert_string_equal(ask("x.10-42-0-5.default.pod.cluster.local", DNS_A), NOTHING);
    assert_string_equal(ask("pod.cluster.local", DNS_A), NODATA);
}

static void external_names(void **state) {
    assert_string_equal(ask("world.apps.svc.cluster.local", DNS_A),
                        "0; an world.apps.svc.cluster.local CNAME www.example.org");
    struct dns_name www = name_of("www.example.org");
    assert_true(dns_name_equal(&follow, &www));
    assert_string_equal(ask("world.apps.svc.cluster.local", DNS_CNAME),
                        "0; an world.apps.svc.cluster.local CNAME www.example.org");
    assert_int_equal(follow.n, 0);
    assert_string_equal(ask("inside.apps.svc.cluster.local", DNS_A),
                        "0; an inside.apps.svc.cluster.local CNAME " KUBERNETES "; an " KUBERNETES " A 10.43.0.1");
    assert_string_equal(ask("gone.apps.svc.cluster.local", DNS_A),
                        "3; an gone.apps.svc.cluster.local CNAME nothing.apps.svc.cluster.local; ns cluster.local SOA");
    assert_int_equal(ask("circle.apps.svc.cluster.local", DNS_A)[0], '2'); /* ends, and says that it failed */
}

int main(void) {
    struct error err;
    zone.source = fake_source(&fake);
    zone.domain = name_of("cluster.local");
    zone.address = inet_addr("10.43.0.10");
    ipv4_net_parse("10.42.0.0/16", &zone.nets[0], &err);
    ipv4_net_parse("10.43.0.0/16", &zone.nets[1], &err);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cluster_ips),    cmocka_unit_test(names_between), cmocka_unit_test(headless_services),
        cmocka_unit_test(ports),          cmocka_unit_test(reverse_names), cmocka_unit_test(pods),
        cmocka_unit_test(external_names),
    };
    int rc = cmocka_run_group_tests(tests, NULL, NULL);
    arena_free(fake.a);
    buf_fini(&text);
    return rc;
}
