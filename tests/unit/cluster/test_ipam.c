/* Addresses of pods. */
#include "cluster/cluster_priv.h"
#include "helper.h"

static struct ipv4_net net(const char *text) {
    struct ipv4_net n;
    struct error err = {0};
    if (ipv4_net_parse(text, &n, &err) < 0)
        fail_msg("%s", err.msg);
    return n;
}

static void networks_are_checked(void **state) {
    static const char *const wrong[] = {
        "",          "10.0.0.0",     "10.0.0.0/",  "10.0.0/8", "10.0.0.0/0", "10.0.0.0/31", "10.0.0.0/-1",
        "fd00::/64", "10.0.0.256/8", "10.0.0.0/8x"};
    struct ipv4_net n = net("10.42.7.9/16");
    assert_int_equal(n.base, 0x0a2a0000);
    assert_int_equal(n.mask, 0xffff0000);
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        struct error err = {0};
        assert_int_equal(ipv4_net_parse(wrong[i], &n, &err), -EINVAL);
        assert_non_null(strstr(err.msg, wrong[i]));
    }
}

static void addresses_are_given_once(void **state) {
    struct ipam i;
    struct ipv4_net n = net("10.42.0.0/28");
    uint32_t first, again, v;
    bool seen[16] = {false};
    char key[8];
    ipam_init(&i);
    assert_int_equal(ipam_take(&i, STR("early"), &v), -EAGAIN);
    ipam_set_net(&i, &n);
    assert_int_equal(ipam_take(&i, STR("p0"), &first), 0);
    assert_int_equal(ipam_take(&i, STR("p0"), &again), 0);
    assert_int_equal(first, again); /* the same pod, the same address */
    seen[first - n.base] = true;
    for (int k = 1; k < 13; k++) {
        snprintf(key, sizeof(key), "p%d", k);
        assert_int_equal(ipam_take(&i, str_c(key), &v), 0);
        assert_in_range(v - n.base, 2, 14); /* neither the network, the bridge nor broadcast */
        assert_false(seen[v - n.base]);
        seen[v - n.base] = true;
    }
    assert_int_equal(ipam_take(&i, STR("more"), &v), -ENOSPC);
    ipam_give_back(&i, STR("p0"));
    ipam_give_back(&i, STR("nobody"));
    assert_false(ipam_find(&i, STR("p0"), &v));
    assert_int_equal(ipam_take(&i, STR("more"), &v), 0);
    assert_int_equal(v, first);
    ipam_fini(&i);
}

static void a_freed_address_rests(void **state) {
    struct ipam i;
    struct ipv4_net n = net("10.42.0.0/24");
    uint32_t first, v;
    ipam_init(&i);
    ipam_set_net(&i, &n);
    assert_int_equal(ipam_take(&i, STR("a"), &first), 0);
    ipam_give_back(&i, STR("a"));
    for (int k = 0; k < 200; k++) {
        assert_int_equal(ipam_take(&i, STR("a"), &v), 0);
        assert_int_not_equal(v, first);
        ipam_give_back(&i, STR("a"));
    }
    ipam_fini(&i);
}

static void pods_of_before_keep_theirs(void **state) {
    struct ipam i;
    struct ipv4_net n = net("10.42.0.0/29");
    uint32_t v;
    ipam_init(&i);
    ipam_adopt(&i, STR("old"), n.base + 3); /* told before the network is known */
    ipam_adopt(&i, STR("elsewhere"), 0x01020304);
    ipam_set_net(&i, &n);
    for (int k = 0; k < 4; k++) {
        char key[8];
        snprintf(key, sizeof(key), "p%d", k);
        assert_int_equal(ipam_take(&i, str_c(key), &v), 0);
        assert_int_not_equal(v, n.base + 3);
    }
    assert_int_equal(ipam_take(&i, STR("one too many"), &v), -ENOSPC);
    assert_true(ipam_find(&i, STR("old"), &v));
    assert_int_equal(v, n.base + 3);
    ipam_fini(&i);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(networks_are_checked),
        cmocka_unit_test(addresses_are_given_once),
        cmocka_unit_test(a_freed_address_rests),
        cmocka_unit_test(pods_of_before_keep_theirs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
