/* Building answers: names are compressed, what does not fit is left out. */
#include "cluster/dns_message.h"

#define OPT_SIZE 11

static void put16(struct buf *b, unsigned v) {
    buf_putc(b, (char)(v >> 8));
    buf_putc(b, (char)v);
}

static void put32(struct buf *b, uint32_t v) {
    put16(b, v >> 16);
    put16(b, v & 0xffff);
}

static void set16(struct buf *b, size_t at, unsigned v) {
    b->p[at] = (char)(v >> 8);
    b->p[at + 1] = (char)v;
}

/* A place in our own message whose name is exactly the wire name given, or 0. */
static size_t find_name(const struct dns_builder *b, const unsigned char *wire, size_t n) {
    struct dns_name wanted = {.n = n}, there;
    memcpy(wanted.wire, wire, n);
    for (size_t i = 0; i < b->offsets_n; i++) {
        size_t pos = b->offsets[i];
        if (dns_name_read(buf_str(&b->out), &pos, &there) && dns_name_equal(&there, &wanted))
            return b->offsets[i];
    }
    return 0;
}

static void put_name(struct dns_builder *b, const struct dns_name *name) {
    for (size_t at = 0; at < name->n; at += 1u + name->wire[at]) {
        if (name->wire[at] == 0) {
            buf_putc(&b->out, 0);
            return;
        }
        size_t there = find_name(b, name->wire + at, name->n - at);
        if (there) {
            put16(&b->out, 0xc000u | (unsigned)there);
            return;
        }
        size_t here = b->out.n;
        buf_put(&b->out, name->wire + at, 1u + name->wire[at]);
        if (here < 0x4000 && b->offsets_n < DNS_OFFSETS_MAX)
            b->offsets[b->offsets_n++] = (uint16_t)here;
    }
}

void dns_reply_begin(struct dns_builder *b, const struct dns_query *q, size_t limit) {
    *b = (struct dns_builder){.q = q, .limit = limit - (q->edns ? OPT_SIZE : 0)};
    buf_init(&b->out, DNS_MESSAGE_MAX + KiB(2)); /* a record is taken back only after it was written */
    put16(&b->out, q->id);
    for (size_t i = 2; i < DNS_HEADER; i++)
        buf_putc(&b->out, 0);
    if (q->name.n == 0)
        return;
    b->counts[0] = 1;
    put_name(b, &q->name);
    put16(&b->out, q->type);
    put16(&b->out, q->klass);
}

static bool rr_begin(struct dns_builder *b, const struct dns_name *owner, uint16_t type, uint32_t ttl) {
    if (b->truncated)
        return false;
    b->rr_start = b->out.n;
    b->rr_offsets_n = b->offsets_n;
    put_name(b, owner);
    put16(&b->out, type);
    put16(&b->out, DNS_CLASS_IN);
    put32(&b->out, ttl);
    b->rr_length_at = b->out.n;
    put16(&b->out, 0);
    return true;
}

static void rr_end(struct dns_builder *b, enum dns_section s) {
    if (!b->out.failed && b->out.n <= b->limit && b->counts[s] < UINT16_MAX) {
        set16(&b->out, b->rr_length_at, (unsigned)(b->out.n - b->rr_length_at - 2));
        b->counts[s]++;
        return;
    }
    b->out.failed = false;
    b->out.n = b->rr_start;
    b->offsets_n = b->rr_offsets_n;
    b->truncated |= s != DNS_ADDITIONAL;
}

void dns_put_a(struct dns_builder *b, enum dns_section s, const struct dns_name *owner, uint32_t ttl, uint32_t ip_be) {
    if (!rr_begin(b, owner, DNS_A, ttl))
        return;
    buf_put(&b->out, &ip_be, 4);
    rr_end(b, s);
}

void dns_put_name(struct dns_builder *b, enum dns_section s, const struct dns_name *owner, uint16_t type, uint32_t ttl,
                  const struct dns_name *target) {
    if (!rr_begin(b, owner, type, ttl))
        return;
    put_name(b, target);
    rr_end(b, s);
}

void dns_put_srv(struct dns_builder *b, enum dns_section s, const struct dns_name *owner, uint32_t ttl, uint16_t weight,
                 uint16_t port, const struct dns_name *target) {
    if (!rr_begin(b, owner, DNS_SRV, ttl))
        return;
    put16(&b->out, 0);
    put16(&b->out, weight);
    put16(&b->out, port);
    buf_put(&b->out, target->wire, target->n); /* not compressed: RFC 2782 */
    rr_end(b, s);
}

void dns_put_txt(struct dns_builder *b, enum dns_section s, const struct dns_name *owner, uint32_t ttl,
                 struct str text) {
    if (!rr_begin(b, owner, DNS_TXT, ttl))
        return;
    size_t n = MIN(text.n, (size_t)255);
    buf_putc(&b->out, (char)n);
    buf_put(&b->out, text.p, n);
    rr_end(b, s);
}

void dns_put_soa(struct dns_builder *b, enum dns_section s, const struct dns_name *zone, uint32_t ttl,
                 const struct dns_name *primary, const struct dns_name *mailbox, uint32_t serial) {
    const uint32_t refresh = 7200, retry = 1800, expire = 86400;
    if (!rr_begin(b, zone, DNS_SOA, ttl))
        return;
    put_name(b, primary);
    put_name(b, mailbox);
    const uint32_t numbers[] = {serial, refresh, retry, expire, ttl};
    for (size_t i = 0; i < ARRAY_LEN(numbers); i++)
        put32(&b->out, numbers[i]);
    rr_end(b, s);
}

/* Bytes in front of the names in the data of a type that may hold compressed ones, and how many names there are. */
static const struct {
    uint16_t type;
    uint8_t front, names;
} with_names[] = {{DNS_NS, 0, 1}, {DNS_CNAME, 0, 1}, {DNS_SOA, 0, 2}, {DNS_PTR, 0, 1}, {DNS_MX, 2, 1}, {DNS_SRV, 6, 1}};

void dns_put_record(struct dns_builder *b, enum dns_section s, struct str message, const struct dns_record *r) {
    size_t front = 0, names = 0, pos = r->data_at, end = r->data_at + r->data_n;
    struct dns_name name;
    for (size_t i = 0; i < ARRAY_LEN(with_names); i++)
        if (with_names[i].type == r->type) {
            front = with_names[i].front;
            names = with_names[i].names;
        }
    if (front > r->data_n || !rr_begin(b, &r->owner, r->type, r->ttl))
        return;
    buf_put(&b->out, message.p + pos, front);
    pos += front;
    for (size_t i = 0; i < names && pos < end; i++)
        if (dns_name_read(message, &pos, &name))
            buf_put(&b->out, name.wire, name.n);
        else
            break;
    if (pos < end)
        buf_put(&b->out, message.p + pos, end - pos);
    rr_end(b, s);
}

void dns_reply_end(struct dns_builder *b, int rcode, bool authoritative) {
    unsigned flags = DNS_QR | DNS_RA | (b->q->flags & (0x7800u | DNS_RD | DNS_CD)) | ((unsigned)rcode & 0xf);
    if (authoritative)
        flags |= DNS_AA;
    if (b->truncated)
        flags |= DNS_TC;
    if (b->q->edns) {
        buf_putc(&b->out, 0);
        put16(&b->out, DNS_OPT);
        put16(&b->out, DNS_UDP_LARGE);
        put16(&b->out, (unsigned)rcode >> 4 << 8);
        put16(&b->out, b->q->dnssec_ok ? 0x8000 : 0);
        put16(&b->out, 0);
        b->counts[DNS_ADDITIONAL]++;
    }
    set16(&b->out, 2, flags);
    for (size_t i = 0; i < 4; i++)
        set16(&b->out, 4 + 2 * i, b->counts[i]);
}
