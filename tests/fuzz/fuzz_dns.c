/* DNS: queries and upstream answers from anybody; what is built from them must be readable again. */
#include <stdlib.h>

#include "cluster/dns_message.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_readable(struct str m, size_t limit) {
    struct dns_reader r;
    struct dns_record rr;
    REQUIRE(m.n <= limit && dns_reader_begin(&r, m));
    while (dns_reader_next(&r, &rr))
        REQUIRE(rr.data_at + rr.data_n <= m.n && rr.owner.n && rr.owner.n <= DNS_NAME_MAX);
    REQUIRE(!r.bad && r.pos == m.n);
}

/* Every record written anew, with names compressed our way. */
static void rebuild(struct str m, const struct dns_query *q) {
    struct dns_reader r;
    struct dns_record rr;
    struct dns_builder b;
    dns_reply_begin(&b, q, DNS_MESSAGE_MAX);
    if (dns_reader_begin(&r, m))
        while (dns_reader_next(&r, &rr))
            dns_put_record(&b, rr.section, m, &rr);
    dns_reply_end(&b, DNS_NOERROR, false);
    if (q->name.n)
        check_readable(buf_str(&b.out), DNS_MESSAGE_MAX);
    buf_fini(&b.out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    char *exact = xmalloc(size ? size : 1), text[DNS_NAME_MAX + 1];
    struct str m = str_n(exact, size);
    struct dns_query q;
    struct buf kept = {.limit = DNS_MESSAGE_MAX};
    if (size)
        memcpy(exact, data, size);
    int rc = dns_query_parse(m, &q);
    if (rc >= 0) {
        struct dns_builder b;
        dns_reply_begin(&b, &q, q.udp_size);
        dns_reply_end(&b, rc, false);
        if (q.name.n && q.klass == DNS_CLASS_IN)
            check_readable(buf_str(&b.out), q.udp_size);
        dns_name_text(&q.name, text);
        buf_fini(&b.out);
    }
    struct dns_reader r;
    buf_put(&kept, exact, size);
    if (!kept.failed && dns_reader_begin(&r, m) && dns_answer_clean(&kept)) {
        struct buf out = {.limit = DNS_MESSAGE_MAX};
        q = (struct dns_query){
            .name = r.name, .type = r.type, .klass = DNS_CLASS_IN, .edns = size % 2, .flags = DNS_RD};
        check_readable(buf_str(&kept), size);
        dns_answer_ttl(buf_str(&kept));
        dns_answer_write(&out, buf_str(&kept), &q, size % 3 ? DNS_UDP_PLAIN : DNS_MESSAGE_MAX, 7, 1);
        if (!out.failed)
            check_readable(buf_str(&out), DNS_MESSAGE_MAX);
        rebuild(buf_str(&kept), &q);
        buf_fini(&out);
    }
    buf_fini(&kept);
    free(exact);
    return 0;
}
