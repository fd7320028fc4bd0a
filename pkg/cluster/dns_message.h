/*
 * Private to pkg/cluster: DNS messages (RFC 1035, 6891, 9619: one question). Pure: bytes in, bytes out.
 */
#pragma once

#include "base/base.h"

#define DNS_NAME_MAX 255
#define DNS_LABELS_MAX 128
#define DNS_HEADER 12
#define DNS_UDP_PLAIN 512  /* without EDNS */
#define DNS_UDP_LARGE 1232 /* what we send and ask for with EDNS: no fragments */
#define DNS_MESSAGE_MAX 65535

enum dns_type {
    DNS_A = 1,
    DNS_NS = 2,
    DNS_CNAME = 5,
    DNS_SOA = 6,
    DNS_PTR = 12,
    DNS_MX = 15,
    DNS_TXT = 16,
    DNS_AAAA = 28,
    DNS_SRV = 33,
    DNS_OPT = 41,
    DNS_IXFR = 251,
    DNS_AXFR = 252,
    DNS_ANY = 255
};
enum { DNS_CLASS_IN = 1, DNS_CLASS_ANY = 255 };
enum dns_rcode {
    DNS_NOERROR = 0,
    DNS_FORMERR = 1,
    DNS_SERVFAIL = 2,
    DNS_NXDOMAIN = 3,
    DNS_NOTIMP = 4,
    DNS_REFUSED = 5,
    DNS_BADVERS = 16
};
enum dns_section { DNS_ANSWER = 1, DNS_AUTHORITY = 2, DNS_ADDITIONAL = 3 };
/* Bits of the second 16-bit word of a message. */
enum {
    DNS_QR = 0x8000,
    DNS_AA = 0x0400,
    DNS_TC = 0x0200,
    DNS_RD = 0x0100,
    DNS_RA = 0x0080,
    DNS_AD = 0x0020,
    DNS_CD = 0x0010
};

/* A name in wire form, without compression, the root's empty label at its end. */
struct dns_name {
    unsigned char wire[DNS_NAME_MAX];
    size_t n; /* 0: none */
};
/* "a.b.c", a dot at the end is fine; false when a label is empty or too long, or the whole is. No escapes. */
bool dns_name_set(struct dns_name *out, struct str text);
/* Reads a name of a message at *pos and moves behind it. Compression may only point backwards, so it ends. */
bool dns_name_read(struct str message, size_t *pos, struct dns_name *out);
bool dns_name_equal(const struct dns_name *a, const struct dns_name *b); /* ASCII case does not matter */
/* Whether name is suffix or below it; *labels (or NULL) gets the number of labels in front. */
bool dns_name_below(const struct dns_name *name, const struct dns_name *suffix, size_t *labels);
/* Lower-case, dots between the labels, none at the end; for the log and as a key. Bytes that are no text become '?'. */
void dns_name_text(const struct dns_name *name, char out[DNS_NAME_MAX + 1]);

struct dns_query {
    uint16_t id, flags;
    uint16_t type, klass;
    struct dns_name name;
    bool edns, dnssec_ok;
    uint16_t udp_size; /* what the client takes by UDP */
};
/* 0, or a dns_rcode to answer with (id, flags and perhaps the question are set), or -EBADMSG: not to be answered. */
int dns_query_parse(struct str packet, struct dns_query *q);
/* A query of our own with EDNS (udp_size 0: without). */
void dns_query_write(struct buf *out, uint16_t id, const struct dns_name *name, uint16_t type, bool edns,
                     bool dnssec_ok);

/* --- reading answers --- */

struct dns_record {
    enum dns_section section;
    struct dns_name owner;
    uint16_t type, klass;
    uint32_t ttl;
    size_t start, ttl_at, data_at, data_n; /* places in the message */
};
struct dns_reader {
    struct str message;
    uint16_t id, flags, rcode;
    uint16_t left[4]; /* records still to come, by section */
    size_t pos;
    bool bad;
    struct dns_name name; /* of the question */
    uint16_t type;
};
/* False unless it is an answer to one question of class IN. */
bool dns_reader_begin(struct dns_reader *r, struct str message);
/* False at the end, or with r->bad set at what cannot be read. */
bool dns_reader_next(struct dns_reader *r, struct dns_record *out);

/* --- building answers --- */

#define DNS_OFFSETS_MAX 64
struct dns_builder {
    struct buf out;
    size_t limit; /* bytes the client takes, less the room of OPT */
    const struct dns_query *q;
    uint16_t counts[4];
    uint16_t offsets[DNS_OFFSETS_MAX]; /* places of names to point to */
    size_t offsets_n;
    size_t rr_start, rr_offsets_n, rr_length_at;
    bool truncated;
};
/* q stays until the end. limit: DNS_MESSAGE_MAX for TCP, else q->udp_size. */
void dns_reply_begin(struct dns_builder *b, const struct dns_query *q, size_t limit);
/* What does not fit is left out, and TC set unless it is additional. TTLs in seconds. */
void dns_put_a(struct dns_builder *b, enum dns_section s, const struct dns_name *owner, uint32_t ttl, uint32_t ip_be);
void dns_put_name(struct dns_builder *b, enum dns_section s, const struct dns_name *owner, uint16_t type, uint32_t ttl,
                  const struct dns_name *target);
void dns_put_srv(struct dns_builder *b, enum dns_section s, const struct dns_name *owner, uint32_t ttl, uint16_t weight,
                 uint16_t port, const struct dns_name *target);
void dns_put_txt(struct dns_builder *b, enum dns_section s, const struct dns_name *owner, uint32_t ttl,
                 struct str text);
void dns_put_soa(struct dns_builder *b, enum dns_section s, const struct dns_name *zone, uint32_t ttl,
                 const struct dns_name *primary, const struct dns_name *mailbox, uint32_t serial);
/* A record of another message, its names written anew. */
void dns_put_record(struct dns_builder *b, enum dns_section s, struct str message, const struct dns_record *r);
/* Flags and OPT; the message is b->out. */
void dns_reply_end(struct dns_builder *b, int rcode, bool authoritative);

/* --- passing answers on --- */

/* Makes an answer fit to be kept: without OPT (and what follows it), flags of the hop cleared. False when it cannot be read. */
bool dns_answer_clean(struct buf *message);
/* How long an answer may be kept, in seconds: the least TTL, or for negative ones the SOA's (RFC 2308); 0: not at all. */
uint32_t dns_answer_ttl(struct str message);
/* Writes a kept answer as the answer to q: id, flags, spelling of the question, TTLs less age_s (min_ttl at least). out->failed
 * when it makes no sense. */
void dns_answer_write(struct buf *out, struct str kept, const struct dns_query *q, size_t limit, uint32_t age_s,
                      uint32_t min_ttl);
