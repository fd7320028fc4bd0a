/* What the tests of pkg/cluster share. */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <arpa/inet.h>
#include <cmocka.h>

#include "cluster/dns_message.h"

static inline struct dns_name name_of(const char *text) {
    struct dns_name n;
    if (!dns_name_set(&n, str_c(text)))
        fail_msg("%s is no name", text);
    return n;
}

/* A query as parsed from its wire form. */
static inline struct dns_query query_of(const char *text, uint16_t type, bool edns) {
    cleanup_buf struct buf b = BUF_INIT;
    struct dns_name n = name_of(text);
    struct dns_query q;
    dns_query_write(&b, 0x1234, &n, type, edns, false);
    assert_int_equal(dns_query_parse(buf_str(&b), &q), 0);
    return q;
}

/*
 * An answer as text: "RCODE; section owner type data; ...", sections "an", "ns", "ar", names as they came (lower-case), in order of
 * the message; OPT is left out.
 */
static inline const char *answer_text(struct str m, struct buf *out) {
    struct dns_reader r;
    struct dns_record rr;
    static const char *const sections[] = {"", "an", "ns", "ar"};
    char text[DNS_NAME_MAX + 1], ip[INET6_ADDRSTRLEN];
    buf_reset(out);
    if (!dns_reader_begin(&r, m))
        return "unreadable";
    buf_printf(out, "%u%s", (unsigned)r.rcode, r.flags & DNS_TC ? " tc" : "");
    while (dns_reader_next(&r, &rr)) {
        struct dns_name n;
        size_t at = rr.data_at;
        const unsigned char *p = (const unsigned char *)m.p + at;
        if (rr.type == DNS_OPT)
            continue;
        dns_name_text(&rr.owner, text);
        buf_printf(out, "; %s %s ", sections[rr.section], text);
        if (rr.type == DNS_A || rr.type == DNS_AAAA) {
            buf_printf(out, "A %s", inet_ntop(rr.type == DNS_A ? AF_INET : AF_INET6, p, ip, sizeof(ip)));
        } else if (rr.type == DNS_CNAME || rr.type == DNS_PTR || rr.type == DNS_NS) {
            assert_true(dns_name_read(m, &at, &n));
            dns_name_text(&n, text);
            buf_printf(out, "%s %s", rr.type == DNS_CNAME ? "CNAME" : rr.type == DNS_PTR ? "PTR" : "NS", text);
        } else if (rr.type == DNS_SRV) {
            at += 6;
            assert_true(dns_name_read(m, &at, &n));
            dns_name_text(&n, text);
            buf_printf(out, "SRV %d %d %d %s", p[0] << 8 | p[1], p[2] << 8 | p[3], p[4] << 8 | p[5], text);
        } else if (rr.type == DNS_TXT) {
            buf_printf(out, "TXT %.*s", p[0], (const char *)p + 1);
        } else {
            buf_puts(out, rr.type == DNS_SOA ? "SOA" : "?");
        }
    }
    if (r.bad)
        return "broken";
    return out->p;
}
