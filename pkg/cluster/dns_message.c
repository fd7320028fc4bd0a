/* Names, queries and the reading of answers. */
#include "cluster/dns_message.h"

#define QUERY_ADDITIONAL_MAX 8
#define OPT_SIZE 11

static uint16_t get16(struct str m, size_t at) {
    const unsigned char *p = (const unsigned char *)m.p + at;
    return (uint16_t)(p[0] << 8 | p[1]);
}

static uint32_t get32(struct str m, size_t at) {
    return (uint32_t)get16(m, at) << 16 | get16(m, at + 2);
}

static void put16(struct buf *b, unsigned v) {
    buf_putc(b, (char)(v >> 8));
    buf_putc(b, (char)v);
}

static unsigned char lower(unsigned char c) {
    return c >= 'A' && c <= 'Z' ? (unsigned char)(c + 32) : c;
}

/* --- names ------------------------------------------------------------------------------------------------------ */

bool dns_name_set(struct dns_name *out, struct str text) {
    struct dns_name name = {.n = 0};
    if (text.n && text.p[text.n - 1] == '.')
        text.n--;
    struct str rest = text.n ? text : STR_NULL;
    while (rest.p) {
        struct str label = str_split(&rest, '.');
        if (label.n == 0 || label.n > 63 || name.n + 1 + label.n + 1 > DNS_NAME_MAX)
            return false;
        name.wire[name.n++] = (unsigned char)label.n;
        memcpy(name.wire + name.n, label.p, label.n);
        name.n += label.n;
    }
    name.wire[name.n++] = 0;
    *out = name;
    return true;
}

bool dns_name_read(struct str message, size_t *pos, struct dns_name *out) {
    const unsigned char *p = (const unsigned char *)message.p;
    size_t at = *pos, segment = *pos, end = 0, bound = message.n;
    out->n = 0;
    for (;;) {
        if (at >= bound)
            return false;
        unsigned c = p[at];
        if (c >= 0xc0) {
            if (at + 1 >= bound)
                return false;
            size_t to = get16(message, at) & 0x3fffu;
            if (to >= segment || to < DNS_HEADER) /* each jump goes further back */
                return false;
            if (!end)
                end = at + 2;
            bound = segment; /* what it points to was whole before */
            at = segment = to;
            continue;
        }
        if (c > 63 || at + 1 + c > bound || out->n + 1 + c > DNS_NAME_MAX)
            return false;
        memcpy(out->wire + out->n, p + at, 1 + c);
        out->n += 1 + c;
        at += 1 + c;
        if (c == 0)
            break;
    }
    *pos = end ? end : at;
    return true;
}

/* Lengths are below 'A', so that lower() leaves them alone. */
static bool same_bytes(const unsigned char *a, const unsigned char *b, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (lower(a[i]) != lower(b[i]))
            return false;
    return true;
}

bool dns_name_equal(const struct dns_name *a, const struct dns_name *b) {
    return a->n == b->n && same_bytes(a->wire, b->wire, a->n);
}

bool dns_name_below(const struct dns_name *name, const struct dns_name *suffix, size_t *labels) {
    size_t front = 0;
    for (size_t at = 0; at < name->n; at += 1u + name->wire[at], front++) {
        if (name->n - at == suffix->n && same_bytes(name->wire + at, suffix->wire, suffix->n)) {
            if (labels)
                *labels = front;
            return true;
        }
    }
    return false;
}

void dns_name_text(const struct dns_name *name, char out[DNS_NAME_MAX + 1]) {
    size_t n = 0;
    for (size_t at = 0; at < name->n && name->wire[at]; at += 1u + name->wire[at]) {
        if (n)
            out[n++] = '.';
        for (size_t i = 1; i <= name->wire[at]; i++) {
            unsigned char c = lower(name->wire[at + i]);
            out[n++] = c > ' ' && c < 127 && c != '.' ? (char)c : '?';
        }
    }
    out[n] = 0;
}

/* --- queries ---------------------------------------------------------------------------------------------------- */

/* Fixed part behind an owner's name: type, class, TTL, length of data. */
static bool read_fixed(struct str m, size_t *pos, struct dns_record *r) {
    if (*pos + 10 > m.n)
        return false;
    r->type = get16(m, *pos);
    r->klass = get16(m, *pos + 2);
    r->ttl_at = *pos + 4;
    r->ttl = get32(m, *pos + 4);
    r->data_n = get16(m, *pos + 8);
    r->data_at = *pos + 10;
    if (r->data_n > m.n - r->data_at)
        return false;
    *pos = r->data_at + r->data_n;
    return true;
}

static int read_additional(struct str m, size_t pos, unsigned n, struct dns_query *q) {
    int rc = 0;
    for (unsigned i = 0; i < n; i++) {
        struct dns_record r;
        if (!dns_name_read(m, &pos, &r.owner) || !read_fixed(m, &pos, &r))
            return DNS_FORMERR;
        if (r.type != DNS_OPT)
            continue;
        if (q->edns || r.owner.n != 1)
            return DNS_FORMERR;
        q->edns = true;
        q->udp_size = MIN(MAX(r.klass, DNS_UDP_PLAIN), DNS_UDP_LARGE);
        q->dnssec_ok = r.ttl >> 15 & 1;
        if (r.ttl >> 16 & 0xff)
            rc = DNS_BADVERS;
    }
    return pos == m.n ? rc : DNS_FORMERR;
}

int dns_query_parse(struct str m, struct dns_query *q) {
    *q = (struct dns_query){.udp_size = DNS_UDP_PLAIN};
    if (m.n < DNS_HEADER || (get16(m, 2) & DNS_QR))
        return -EBADMSG;
    q->id = get16(m, 0);
    q->flags = get16(m, 2);
    if (q->flags >> 11 & 0xf)
        return DNS_NOTIMP;
    if (get16(m, 4) != 1 || get16(m, 6) || get16(m, 8) || get16(m, 10) > QUERY_ADDITIONAL_MAX)
        return DNS_FORMERR;
    size_t pos = DNS_HEADER;
    if (!dns_name_read(m, &pos, &q->name) || pos + 4 > m.n) {
        q->name.n = 0;
        return DNS_FORMERR;
    }
    q->type = get16(m, pos);
    q->klass = get16(m, pos + 2);
    int rc = read_additional(m, pos + 4, get16(m, 10), q);
    if (rc)
        return rc;
    if (q->type == DNS_OPT)
        return DNS_FORMERR;
    if (q->klass != DNS_CLASS_IN || q->type == DNS_AXFR || q->type == DNS_IXFR)
        return DNS_REFUSED;
    return 0;
}

static void put_opt(struct buf *out, unsigned rcode, bool dnssec_ok) {
    buf_putc(out, 0);
    put16(out, DNS_OPT);
    put16(out, DNS_UDP_LARGE);
    put16(out, rcode >> 4 << 8);
    put16(out, dnssec_ok ? 0x8000 : 0);
    put16(out, 0);
}

void dns_query_write(struct buf *out, uint16_t id, const struct dns_name *name, uint16_t type, bool edns,
                     bool dnssec_ok) {
    put16(out, id);
    put16(out, DNS_RD);
    put16(out, 1);
    put16(out, 0);
    put16(out, 0);
    put16(out, edns);
    buf_put(out, name->wire, name->n);
    put16(out, type);
    put16(out, DNS_CLASS_IN);
    if (edns)
        put_opt(out, 0, dnssec_ok);
}

/* --- reading answers -------------------------------------------------------------------------------------------- */

bool dns_reader_begin(struct dns_reader *r, struct str m) {
    *r = (struct dns_reader){.message = m, .pos = DNS_HEADER};
    if (m.n < DNS_HEADER || !(get16(m, 2) & DNS_QR) || get16(m, 4) != 1)
        return false;
    r->id = get16(m, 0);
    r->flags = get16(m, 2);
    r->rcode = r->flags & 0xf;
    for (size_t i = 1; i < 4; i++)
        r->left[i] = get16(m, 4 + 2 * i);
    if (!dns_name_read(m, &r->pos, &r->name) || r->pos + 4 > m.n || get16(m, r->pos + 2) != DNS_CLASS_IN)
        return false;
    r->type = get16(m, r->pos);
    r->pos += 4;
    return true;
}

bool dns_reader_next(struct dns_reader *r, struct dns_record *out) {
    size_t section = 1;
    while (section < 4 && r->left[section] == 0)
        section++;
    if (section == 4 || r->bad)
        return false;
    r->left[section]--;
    *out = (struct dns_record){.section = (enum dns_section)section, .start = r->pos};
    if (!dns_name_read(r->message, &r->pos, &out->owner) || !read_fixed(r->message, &r->pos, out)) {
        r->bad = true;
        return false;
    }
    return true;
}

/* --- passing answers on ----------------------------------------------------------------------------------------- */

static void set16(struct buf *b, size_t at, unsigned v) {
    b->p[at] = (char)(v >> 8);
    b->p[at + 1] = (char)v;
}

bool dns_answer_clean(struct buf *message) {
    struct dns_reader r;
    struct dns_record rr;
    unsigned additional = 0;
    if (!dns_reader_begin(&r, buf_str(message)))
        return false;
    size_t end = r.pos;
    bool opt = false;
    while (dns_reader_next(&r, &rr)) {
        if (rr.section == DNS_ADDITIONAL && rr.type == DNS_OPT)
            opt = true;
        if (opt) /* names behind it point to places that stay, but nobody needs them */
            continue;
        end = r.pos;
        additional += rr.section == DNS_ADDITIONAL;
    }
    if (r.bad)
        return false;
    message->n = end;
    set16(message, 10, additional);
    set16(message, 2, r.flags & ~(unsigned)(DNS_AA | DNS_AD | DNS_TC));
    return true;
}

/* The SOA's last number, behind two names. */
static uint32_t soa_minimum(struct str message, const struct dns_record *r) {
    struct dns_name name;
    size_t pos = r->data_at;
    if (!dns_name_read(message, &pos, &name) || !dns_name_read(message, &pos, &name) ||
        pos + 20 != r->data_at + r->data_n)
        return 0;
    return MIN(r->ttl, get32(message, pos + 16));
}

uint32_t dns_answer_ttl(struct str message) {
    struct dns_reader r;
    struct dns_record rr;
    uint32_t least = UINT32_MAX, negative = 0;
    bool answered = false;
    if (!dns_reader_begin(&r, message) || (r.rcode != DNS_NOERROR && r.rcode != DNS_NXDOMAIN))
        return 0;
    while (dns_reader_next(&r, &rr)) {
        if (rr.section == DNS_AUTHORITY && rr.type == DNS_SOA)
            negative = soa_minimum(message, &rr);
        if (rr.section == DNS_ANSWER && rr.type == r.type)
            answered = true;
        if (rr.type != DNS_OPT && rr.section != DNS_ADDITIONAL)
            least = MIN(least, rr.ttl > INT32_MAX ? 0 : rr.ttl);
    }
    if (r.bad || least == UINT32_MAX)
        return 0;
    return answered && r.rcode == DNS_NOERROR ? least : MIN(least, negative);
}

/* False when the message is no longer readable: a hostile name may point into a TTL. */
static bool age_records(struct buf *out, size_t from, uint32_t age_s, uint32_t min_ttl) {
    struct dns_reader r;
    struct dns_record rr;
    if (!dns_reader_begin(&r, str_skip(buf_str(out), from)))
        return false;
    while (dns_reader_next(&r, &rr)) {
        uint32_t ttl = rr.ttl > age_s ? rr.ttl - age_s : 0;
        ttl = MAX(ttl, min_ttl);
        set16(out, from + rr.ttl_at, ttl >> 16);
        set16(out, from + rr.ttl_at + 2, ttl & 0xffff);
    }
    return !r.bad && from + r.pos == out->n;
}

void dns_answer_write(struct buf *out, struct str kept, const struct dns_query *q, size_t limit, uint32_t age_s,
                      uint32_t min_ttl) {
    size_t from = out->n, opt = q->edns ? OPT_SIZE : 0, question = DNS_HEADER + q->name.n + 4;
    bool cut = kept.n + opt > limit;
    uint16_t flags = get16(kept, 2) & ~(unsigned)(DNS_RD | DNS_CD);
    buf_put(out, kept.p, cut ? MIN(question, kept.n) : kept.n);
    if (out->failed)
        return;
    set16(out, from, q->id);
    set16(out, from + 2, flags | DNS_QR | DNS_RA | (q->flags & (DNS_RD | DNS_CD)) | (cut ? DNS_TC : 0));
    memcpy(out->p + from + DNS_HEADER, q->name.wire, q->name.n);
    if (cut)
        for (size_t at = 6; at < DNS_HEADER; at += 2)
            set16(out, from + at, 0);
    if (!age_records(out, from, age_s, min_ttl)) {
        out->failed = true;
        return;
    }
    if (!q->edns)
        return;
    set16(out, from + 10, get16(buf_str(out), from + 10) + 1u);
    put_opt(out, 0, q->dnssec_ok);
}
