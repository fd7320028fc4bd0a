#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../../../cmd/dory/address.h"

static void counts_addresses_of_a_network(void **state) {
    static const struct {
        const char *cidr;
        uint32_t n;
        const char *address; /* NULL: refused */
    } cases[] = {
        {"10.43.0.0/16", 1, "10.43.0.1"},
        {"10.43.0.0/16", 10, "10.43.0.10"},
        {"10.43.0.7/16", 1, "10.43.0.1"}, /* host bits do not matter */
        {"10.43.0.0/16", 256, "10.43.1.0"},
        {"192.0.2.0/30", 1, "192.0.2.1"},
        {"192.0.2.0/30", 2, "192.0.2.2"},
        {"192.0.2.0/30", 3, NULL}, /* broadcast */
        {"192.0.2.0/30", 4, NULL},
        {"192.0.2.0/31", 1, NULL},
        {"192.0.2.0/32", 1, NULL},
        {"192.0.2.0/33", 1, NULL},
        {"192.0.2.0/-1", 1, NULL},
        {"192.0.2.0", 1, NULL},
        {"192.0.2.0/", 1, NULL},
        {"/16", 1, NULL},
        {"192.0.2/24", 1, NULL},
        {"300.0.0.0/8", 1, NULL},
        {"fd00::/64", 1, NULL},
        {"192.0.2.0/24 ", 1, NULL},
        {"", 1, NULL},
        {"11111111111111111111111111111111111111111111111111111111111/8", 1, NULL},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char out[ADDRESS_MAX] = "";
        struct error err = {0};
        int rc = cidr_address(cases[i].cidr, cases[i].n, out, &err);
        if ((rc == 0) != (cases[i].address != NULL))
            fail_msg("%s %u: %d %s %s", cases[i].cidr, cases[i].n, rc, out, err.msg);
        if (rc == 0) {
            assert_string_equal(out, cases[i].address);
            continue;
        }
        assert_int_equal(rc, -EINVAL);
        assert_non_null(strstr(err.msg, cases[i].cidr));
    }
}

static void knows_what_lies_in_a_network(void **state) {
    assert_true(cidr_contains("10.43.0.0/16", "10.43.255.255"));
    assert_false(cidr_contains("10.43.0.0/16", "10.44.0.0"));
    assert_true(cidr_contains("0.0.0.0/0", "203.0.113.9"));
    assert_true(cidr_contains("192.0.2.1/32", "192.0.2.1"));
    assert_false(cidr_contains("192.0.2.1/32", "192.0.2.2"));
    assert_false(cidr_contains("10.43.0.0/16", "nonsense"));
    assert_false(cidr_contains("nonsense", "10.43.0.1"));
}

static void this_machine_has_a_name_and_an_address(void **state) {
    char address[ADDRESS_MAX] = "", name[254] = "";
    struct in_addr in;
    struct error err = {0};
    address_of_node(address);
    assert_int_equal(inet_pton(AF_INET, address, &in), 1);
    int rc = node_name_of_host(name, &err);
    if (rc < 0) {
        assert_int_equal(rc, -EINVAL);
        assert_non_null(strstr(err.msg, "--node-name")); /* says what to do */
        return;
    }
    assert_true(name[0] != 0);
    for (const char *p = name; *p; p++)
        assert_false(*p >= 'A' && *p <= 'Z');
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(counts_addresses_of_a_network),
        cmocka_unit_test(knows_what_lies_in_a_network),
        cmocka_unit_test(this_machine_has_a_name_and_an_address),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
