/* Netlink in a network namespace of its own. */
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <unistd.h>

#include <arpa/inet.h>
#include <cmocka.h>
#include <fcntl.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>

#include "net/netlink.h"

static struct nl_socket sock;

static void test_bridge_and_veth(void **state) {
    (void)state;
    struct error err = {0};
    static const unsigned char mac[6] = {0x0a, 0, 10, 42, 0, 1}, peer_mac[6] = {0x0a, 0, 10, 42, 0, 2};
    assert_int_equal(nl_bridge_add(&sock, "br0", mac, 1450, &err), 0);
    assert_int_equal(nl_bridge_add(&sock, "br0", mac, 1450, &err), 0); /* again: fine */
    int bridge = nl_link_index(&sock, "br0", &err);
    assert_true(bridge > 0);
    int ns = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
    assert_int_equal(nl_veth_add(&sock, "veth0", "peer0", ns, peer_mac, 1450, &err), 0);
    close(ns);
    int veth = nl_link_index(&sock, "veth0", &err), peer = nl_link_index(&sock, "peer0", &err);
    assert_true(veth > 0 && peer > 0);
    assert_int_equal(nl_link_set_master(&sock, veth, bridge, &err), 0);
    assert_int_equal(nl_bridge_port_hairpin(&sock, veth, true, &err), 0);
    FILE *f = fopen("/sys/class/net/veth0/brport/hairpin_mode", "r"); /* sysfs may show another namespace */
    if (f)
        fclose(f);
    struct in_addr ip;
    inet_pton(AF_INET, "10.42.0.1", &ip);
    assert_int_equal(nl_addr_add(&sock, bridge, AF_INET, &ip, 24, &err), 0);
    assert_int_equal(nl_addr_add(&sock, bridge, AF_INET, &ip, 24, &err), 0);
    assert_int_equal(nl_link_up(&sock, bridge, true, &err), 0);
    assert_int_equal(nl_link_up(&sock, veth, true, &err), 0);
    struct in_addr via;
    inet_pton(AF_INET, "10.42.0.9", &via);
    assert_int_equal(nl_route_add(&sock, bridge, AF_INET, NULL, 0, &via, &err), 0);
    assert_int_equal(nl_neigh_add(&sock, bridge, AF_INET, &via, peer_mac, &err), 0);
    assert_int_equal(nl_link_del(&sock, veth, &err), 0);
    assert_int_equal(nl_link_del(&sock, veth, &err), 0); /* gone already: fine */
}

static void test_errors_name_the_link(void **state) {
    (void)state;
    struct error err = {0};
    assert_int_equal(nl_link_index(&sock, "nosuch0", &err), -ENODEV);
    assert_non_null(strstr(err.msg, "nosuch0"));
}

static void test_oversized_attribute_fails_whole(void **state) {
    (void)state;
    static char big[70000];
    struct error err = {0};
    struct nl_msg m;
    nl_msg_init(&m, MiB(1));
    nl_msg_begin(&m, NLMSG_MIN_TYPE, NLM_F_ACK, NULL, 0);
    nl_put(&m, 1, big, sizeof(big));
    nl_msg_end(&m);
    assert_int_equal(nl_request(&sock, &m, NULL, NULL, &err), -EMSGSIZE);
    nl_msg_fini(&m);
    nl_msg_init(&m, MiB(1)); /* a nest whose parts fit and whose whole does not */
    nl_msg_begin(&m, NLMSG_MIN_TYPE, NLM_F_ACK, NULL, 0);
    nl_nest_begin(&m, 1);
    nl_put(&m, 2, big, 40000);
    nl_put(&m, 3, big, 40000);
    nl_nest_end(&m);
    nl_msg_end(&m);
    assert_int_equal(nl_request(&sock, &m, NULL, NULL, &err), -EMSGSIZE);
    nl_msg_fini(&m);
}

int main(void) {
    struct error err = {0};
    if (getenv("TEST_EMULATED")) {
        printf("an emulated kernel has no such netlink\n");
        return 77;
    }
    if (geteuid() != 0 || unshare(CLONE_NEWNET) < 0 || nl_open(&sock, NETLINK_ROUTE, &err) < 0) {
        printf("needs root and network namespaces (not under qemu-user)\n");
        return 77;
    }
    static const unsigned char probe[6] = {2, 0, 0, 0, 0, 1};
    if (nl_bridge_add(&sock, "probe0", probe, 1500, &err) < 0) {
        printf("no bridge can be made here: %s\n", err.msg);
        return 77;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bridge_and_veth),
        cmocka_unit_test(test_errors_name_the_link),
        cmocka_unit_test(test_oversized_attribute_fails_whole),
    };
    int rc = cmocka_run_group_tests(tests, NULL, NULL);
    nl_close(&sock);
    return rc;
}
