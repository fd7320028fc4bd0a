/* DNS messages: what is read, what is refused, what is built. */
#include "helper.h"

static int parse(const char *bytes, size_t n, struct dns_query *q) {
    char *exact = malloc(n ? n : 1); /* so that a look beyond the end is seen */
    memcpy(exact, bytes, n);
    int rc = dns_query_parse(str_n(exact, n), q);
    free(exact);
    return rc;
}
#define PARSE(lit, q) parse(lit, sizeof(lit) - 1, q)

#define HEADER "\x12\x34\x01\x00\0\1\0\0\0\0\0\0"

static void a_query_is_read(void **state) {
    struct dns_query q = query_of("Kubernetes.Default.svc", DNS_A, true);
    assert_int_equal(q.id, 0x1234);
    assert_int_equal(q.type, DNS_A);
    assert_true(q.edns);
    assert_int_equal(q.udp_size, DNS_UDP_LARGE);
    struct dns_name lower = name_of("kubernetes.default.svc");
    assert_true(dns_name_equal(&q.name, &lower));
    q = query_of("x", DNS_A, false);
    assert_false(q.edns);
    assert_int_equal(q.udp_size, DNS_UDP_PLAIN);
    assert_int_equal(PARSE(HEADER "\0\0\1\0\1", &q), 0); /* the root */
    assert_int_equal(q.name.n, 1);
}

static void what_is_no_query_gets_no_answer(void **state) {
    struct dns_query q;
    assert_int_equal(PARSE("", &q), -EBADMSG);
    assert_int_equal(PARSE("\x12\x34\x01\x00\0\1\0\0\0\0\0", &q), -EBADMSG);
    assert_int_equal(PARSE("\x12\x34\x81\x00\0\1\0\0\0\0\0\0\0\0\1\0\1", &q), -EBADMSG); /* an answer: never answered */
}

static void hostile_queries_are_refused(void **state) {
    struct dns_query q;
    assert_int_equal(PARSE("\x12\x34\x09\x00\0\1\0\0\0\0\0\0\0\0\1\0\1", &q), DNS_NOTIMP); /* another opcode */
    assert_int_equal(q.id, 0x1234);
    assert_int_equal(PARSE("\x12\x34\x01\x00\0\0\0\0\0\0\0\0", &q), DNS_FORMERR);                     /* no question */
    assert_int_equal(PARSE("\x12\x34\x01\x00\0\2\0\0\0\0\0\0\0\0\1\0\1\0\0\1\0\1", &q), DNS_FORMERR); /* two */
    assert_int_equal(PARSE(HEADER "\xc0\x0c\0\1\0\1", &q), DNS_FORMERR);    /* points to itself */
    assert_int_equal(PARSE(HEADER "\1a\xc0\x0c\0\1\0\1", &q), DNS_FORMERR); /* a circle */
    assert_int_equal(PARSE(HEADER "\xc0\x20\0\1\0\1", &q), DNS_FORMERR);    /* forward */
    assert_int_equal(PARSE(HEADER "\xc0\0\0\1\0\1", &q), DNS_FORMERR);      /* the header */
    assert_int_equal(PARSE(HEADER "\x40"
                                  "a\0\0\1\0\1",
                           &q),
                     DNS_FORMERR); /* a kind of label that is none */
    assert_int_equal(PARSE(HEADER "\x3f"
                                  "a",
                           &q),
                     DNS_FORMERR);                                      /* beyond the end */
    assert_int_equal(PARSE(HEADER "\1a\0\0\1\0", &q), DNS_FORMERR);     /* class cut off */
    assert_int_equal(PARSE(HEADER "\1a\0\0\1\0\1x", &q), DNS_FORMERR);  /* more behind it */
    assert_int_equal(PARSE(HEADER "\1a\0\0\1\0\3", &q), DNS_REFUSED);   /* class CHAOS */
    assert_int_equal(PARSE(HEADER "\1a\0\0\xfc\0\1", &q), DNS_REFUSED); /* zone transfer */
}

static void names_longer_than_allowed_are_refused(void **state) {
    char packet[600] = HEADER;
    struct dns_query q;
    size_t n = 12;
    for (int i = 0; i < 4; i++, n += 64) {
        packet[n] = 63;
        memset(packet + n + 1, 'a', 63);
    }
    memcpy(packet + n, "\0\0\1\0\1", 5);
    assert_int_equal(parse(packet, n + 5, &q), DNS_FORMERR);
    struct dns_name name;
    char text[300];
    memset(text, 'a', sizeof(text));
    assert_false(dns_name_set(&name, str_n(text, 64)));
    assert_true(dns_name_set(&name, str_n(text, 63)));
    assert_false(dns_name_set(&name, STR("a..b")));
    assert_false(dns_name_set(&name, STR(".a")));
    for (size_t i = 1; i < sizeof(text); i += 2)
        text[i] = '.';
    assert_true(dns_name_set(&name, str_n(text, 253)));
    assert_int_equal(name.n, 255);
    assert_false(dns_name_set(&name, str_n(text, 255)));
}

static void edns_is_checked(void **state) {
    struct dns_query q;
#define ONE_MORE "\x12\x34\x01\x00\0\1\0\0\0\0\0\1\1a\0\0\1\0\1"
#define TWO_MORE "\x12\x34\x01\x00\0\1\0\0\0\0\0\2\1a\0\0\1\0\1"
    assert_int_equal(PARSE(ONE_MORE "\0\0\x29\x20\0\0\0\x80\0\0\0", &q), 0);
    assert_int_equal(q.udp_size, DNS_UDP_LARGE); /* 8192 were offered */
    assert_true(q.dnssec_ok);
    assert_int_equal(PARSE(ONE_MORE "\0\0\x29\0\x10\0\0\0\0\0\0", &q), 0);
    assert_int_equal(q.udp_size, DNS_UDP_PLAIN); /* less makes no sense */
    assert_int_equal(PARSE(ONE_MORE "\0\0\x29\x20\0\0\1\0\0\0\0", &q), DNS_BADVERS);
    assert_int_equal(PARSE(ONE_MORE "\1x\0\0\x29\x20\0\0\0\0\0\0\0", &q), DNS_FORMERR); /* not at the root */
    assert_int_equal(PARSE(ONE_MORE "\0\0\x29\x20\0\0\0\0\0\0\5", &q), DNS_FORMERR);    /* data cut off */
    assert_int_equal(PARSE(TWO_MORE "\0\0\x29\x20\0\0\0\0\0\0\0\0\0\x29\x20\0\0\0\0\0\0\0", &q), DNS_FORMERR);
    struct dns_builder b;
    assert_int_equal(PARSE(ONE_MORE "\0\0\x29\x20\0\0\1\0\0\0\0", &q), DNS_BADVERS);
    dns_reply_begin(&b, &q, q.udp_size);
    dns_reply_end(&b, DNS_BADVERS, false);
    assert_int_equal(b.out.p[3] & 0xf, 0); /* the upper bits stand in OPT */
    assert_int_equal((unsigned char)b.out.p[b.out.n - 6], 1);
    buf_fini(&b.out);
}

static void answers_are_compressed(void **state) {
    struct dns_query q = query_of("web.default.svc.cluster.local", DNS_A, false);
    struct dns_name host = name_of("a.web.default.svc.cluster.local"), domain = name_of("cluster.local");
    struct dns_builder b;
    cleanup_buf struct buf text = BUF_INIT;
    dns_reply_begin(&b, &q, q.udp_size);
    size_t question = b.out.n;
    dns_put_a(&b, DNS_ANSWER, &q.name, 5, htonl(0x0a000001));
    assert_int_equal(b.out.n - question, 16); /* the owner takes two bytes */
    dns_put_name(&b, DNS_ANSWER, &q.name, DNS_PTR, 5, &host);
    dns_put_soa(&b, DNS_AUTHORITY, &domain, 5, &host, &domain, 1);
    dns_reply_end(&b, DNS_NOERROR, true);
    assert_string_equal(answer_text(buf_str(&b.out), &text),
                        "0; an web.default.svc.cluster.local A 10.0.0.1; an web.default.svc.cluster.local PTR "
                        "a.web.default.svc.cluster.local; ns cluster.local SOA");
    buf_fini(&b.out);
}

static void the_question_is_spelled_as_asked(void **state) {
    struct dns_query q = query_of("WeB.local", DNS_A, false);
    struct dns_name lower = name_of("web.local");
    struct dns_builder b;
    dns_reply_begin(&b, &q, q.udp_size);
    dns_put_a(&b, DNS_ANSWER, &lower, 5, 0);
    dns_reply_end(&b, DNS_NOERROR, true);
    assert_memory_equal(b.out.p + 12, "\3WeB\5local", 11);
    buf_fini(&b.out);
}

static void what_does_not_fit_is_cut_with_tc(void **state) {
    for (int edns = 0; edns < 2; edns++) {
        struct dns_query q = query_of("many.local", DNS_A, edns);
        struct dns_builder b;
        struct dns_reader r;
        struct dns_record rr;
        size_t n = 0;
        dns_reply_begin(&b, &q, q.udp_size);
        for (uint32_t i = 0; i < 200; i++)
            dns_put_a(&b, DNS_ANSWER, &q.name, 5, i);
        dns_reply_end(&b, DNS_NOERROR, true);
        assert_true(b.out.n <= q.udp_size);
        assert_true(dns_reader_begin(&r, buf_str(&b.out)));
        assert_true(r.flags & DNS_TC);
        while (dns_reader_next(&r, &rr))
            n += rr.type == DNS_A;
        assert_false(r.bad);
        assert_int_equal(r.pos, b.out.n);
        assert_in_range(n, 20, 100);
        buf_fini(&b.out);
    }
}

/* Upstream's answer: header, question a.b, records with pointers. */
#define ANSWER                                         \
    "\x55\x55\x85\x80\0\1\0\2\0\0\0\2\1A\1b\0\0\1\0\1" \
    "\xc0\x0c\0\5\0\1\0\0\1\0\0\4\1c\xc0\x0e"          \
    "\xc0\x21\0\1\0\1\0\0\0\x3c\0\4\1\2\3\4"           \
    "\1x\0\0\1\0\1\0\0\0\1\0\4\1\1\1\1"                \
    "\0\0\x29\x10\0\0\0\0\0\0\0"

static void answers_pass_on_with_their_age(void **state) {
    struct buf b = BUF_INIT, out = BUF_INIT, text = BUF_INIT;
    struct dns_query q = query_of("a.B", DNS_A, true);
    struct dns_reader r;
    struct dns_record rr;
    buf_put(&b, ANSWER, sizeof(ANSWER) - 1);
    assert_true(dns_answer_clean(&b));
    assert_int_equal(dns_answer_ttl(buf_str(&b)), 60);
    dns_answer_write(&out, buf_str(&b), &q, DNS_UDP_LARGE, 50, 0);
    assert_string_equal(answer_text(buf_str(&out), &text), "0; an a.b CNAME c.b; an c.b A 1.2.3.4; ar x A 1.1.1.1");
    assert_true(dns_reader_begin(&r, buf_str(&out)));
    assert_int_equal(r.id, 0x1234);
    assert_int_equal(r.flags & (DNS_AA | DNS_RA | DNS_RD), DNS_RA | DNS_RD);
    assert_memory_equal(out.p + 12, "\1a\1B", 5);
    assert_true(dns_reader_next(&r, &rr));
    assert_int_equal(rr.ttl, 206);
    assert_true(dns_reader_next(&r, &rr));
    assert_int_equal(rr.ttl, 10);
    assert_true(dns_reader_next(&r, &rr));
    assert_int_equal(rr.ttl, 0);
    assert_true(dns_reader_next(&r, &rr));
    assert_int_equal(rr.type, DNS_OPT);
    buf_reset(&out);
    dns_answer_write(&out, buf_str(&b), &q, 40, 0, 0); /* too large for the client */
    assert_string_equal(answer_text(buf_str(&out), &text), "0 tc");
    for (size_t n = 0; n < sizeof(ANSWER) - 1; n++) { /* cut anywhere: refused, never half */
        buf_reset(&b);
        buf_put(&b, ANSWER, n);
        assert_false(dns_answer_clean(&b));
    }
    buf_fini(&b);
    buf_fini(&out);
    buf_fini(&text);
}

static void negative_answers_live_as_their_soa_says(void **state) {
    struct dns_query q = query_of("a.b", DNS_A, false);
    struct dns_name zone = name_of("b");
    struct dns_builder b;
    dns_reply_begin(&b, &q, DNS_MESSAGE_MAX);
    dns_put_soa(&b, DNS_AUTHORITY, &zone, 77, &zone, &zone, 1);
    dns_reply_end(&b, DNS_NXDOMAIN, true);
    assert_int_equal(dns_answer_ttl(buf_str(&b.out)), 77);
    buf_fini(&b.out);
    dns_reply_begin(&b, &q, DNS_MESSAGE_MAX);
    dns_reply_end(&b, DNS_NXDOMAIN, true);
    assert_int_equal(dns_answer_ttl(buf_str(&b.out)), 0); /* without one: not kept */
    buf_fini(&b.out);
    dns_reply_begin(&b, &q, DNS_MESSAGE_MAX);
    dns_reply_end(&b, DNS_SERVFAIL, true);
    assert_int_equal(dns_answer_ttl(buf_str(&b.out)), 0);
    buf_fini(&b.out);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_query_is_read),
        cmocka_unit_test(what_is_no_query_gets_no_answer),
        cmocka_unit_test(hostile_queries_are_refused),
        cmocka_unit_test(names_longer_than_allowed_are_refused),
        cmocka_unit_test(edns_is_checked),
        cmocka_unit_test(answers_are_compressed),
        cmocka_unit_test(the_question_is_spelled_as_asked),
        cmocka_unit_test(what_does_not_fit_is_cut_with_tc),
        cmocka_unit_test(answers_pass_on_with_their_age),
        cmocka_unit_test(negative_answers_live_as_their_soa_says),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
