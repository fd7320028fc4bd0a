#define MBEDTLS_ALLOW_PRIVATE_ACCESS /* the name lists of x509write: issuer bytes must equal the CA's subject bytes */
#include "net/pki.h"

#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <mbedtls/error.h>
#include <mbedtls/oid.h>
#include <mbedtls/pem.h>
#include <psa/crypto.h>

#include "net/pki_priv.h"

#define SAN_MAX 64
#define CERT_DER_MAX KiB(48)
#define SAN_DNS 2 /* choices of GeneralName, RFC 5280 4.2.1.6 */
#define SAN_IP 7

void pki_init(void) {
    psa_status_t rc = psa_crypto_init();
    if (rc != PSA_SUCCESS)
        fatal("cannot start the cryptography library (%d)", (int)rc);
}

int mbed_rng(void *unused, unsigned char *out, size_t n) {
    rand_bytes(out, n);
    return 0;
}

int mbed_error(struct error *err, int rc, const char *what) {
    char text[160];
    mbedtls_strerror(rc, text, sizeof(text));
    bool memory = rc == MBEDTLS_ERR_X509_ALLOC_FAILED || rc == MBEDTLS_ERR_PK_ALLOC_FAILED;
    return error_set(err, memory ? -ENOMEM : -EINVAL, "%s: %s (-0x%04x)", what, text, (unsigned)-rc);
}

int mbed_key_parse(mbedtls_pk_context *key, const char *pem, struct error *err) {
    int rc = mbedtls_pk_parse_key(key, (const unsigned char *)pem, strlen(pem) + 1, NULL, 0, mbed_rng, NULL);
    return rc ? mbed_error(err, rc, "private key") : 0;
}

int mbed_cert_parse(mbedtls_x509_crt *crt, const char *pem, struct error *err) {
    int rc = mbedtls_x509_crt_parse(crt, (const unsigned char *)pem, strlen(pem) + 1);
    if (rc > 0)
        return error_set(err, -EINVAL, "certificate: %d of the certificates in the text cannot be read", rc);
    return rc ? mbed_error(err, rc, "certificate") : 0;
}

/* By comparison of what the key file says: mbedtls_pk_check_pair() multiplies points, and a start checks many keys. */
static bool same_public_half(const mbedtls_pk_context *a, const mbedtls_pk_context *b) {
    unsigned char x[1200], y[1200];
    int n = mbedtls_pk_write_pubkey_der(a, x, sizeof(x)), m = mbedtls_pk_write_pubkey_der(b, y, sizeof(y));
    return n > 0 && n == m && memcmp(x + sizeof(x) - n, y + sizeof(y) - n, (size_t)n) == 0;
}

int pki_key_new(char **key_pem, struct error *err) {
    mbedtls_pk_context key;
    unsigned char pem[512];
    mbedtls_pk_init(&key);
    int rc = mbedtls_pk_setup(&key, mbedtls_pk_info_from_type(MBEDTLS_PK_ECKEY));
    if (!rc)
        rc = mbedtls_ecp_gen_key(MBEDTLS_ECP_DP_SECP256R1, mbedtls_pk_ec(key), mbed_rng, NULL);
    if (!rc)
        rc = mbedtls_pk_write_key_pem(&key, pem, sizeof(pem));
    mbedtls_pk_free(&key);
    if (rc)
        return mbed_error(err, rc, "cannot make a key");
    *key_pem = xstrdup((char *)pem);
    memset(pem, 0, sizeof(pem));
    return 0;
}

/* --- making certificates ------------------------------------------------------------------------------------------ */

/* mbedTLS writes a name list from its head backwards: the head becomes the last part of the name. */
static void name_push(mbedtls_asn1_named_data **head, const void *oid, size_t oid_n, int tag, const void *p, size_t n) {
    mbedtls_asn1_named_data *d = XNEW(mbedtls_asn1_named_data);
    d->oid.tag = MBEDTLS_ASN1_OID;
    d->oid.len = oid_n;
    d->oid.p = xmalloc(oid_n);
    memcpy(d->oid.p, oid, oid_n);
    d->val.tag = tag;
    d->val.len = n;
    d->val.p = xmalloc(n);
    memcpy(d->val.p, p, n);
    d->next = *head;
    *head = d;
}

static int name_put(mbedtls_asn1_named_data **head, const char *oid, const char *value, struct error *err) {
    size_t n = strlen(value);
    if (n == 0 || n > 255)
        return error_set(err, -EINVAL, "a part of a certificate's name must have 1 to 255 bytes, not %zu", n);
    name_push(head, oid, strlen(oid), MBEDTLS_ASN1_UTF8_STRING, value, n);
    return 0;
}

static int subject_of(const struct pki_cert_request *r, mbedtls_asn1_named_data **head, struct error *err) {
    for (const char *const *o = r->organizations; o && *o; o++) {
        int rc = name_put(head, MBEDTLS_OID_AT_ORGANIZATION, *o, err);
        if (rc)
            return rc;
    }
    return name_put(head, MBEDTLS_OID_AT_CN, r->common_name, err);
}

static void copy_names(const mbedtls_x509_name *from, mbedtls_asn1_named_data **head) {
    for (; from && from->oid.p; from = from->next)
        name_push(head, from->oid.p, from->oid.len, from->val.tag, from->val.p, from->val.len);
}

static int put_time(char out[16], int64_t s, struct error *err) {
    struct tm tm;
    time_t t = (time_t)s;
    if (!gmtime_r(&t, &tm) || tm.tm_year < 70 || tm.tm_year > 9999 - 1900)
        return error_set(err, -EINVAL, "a certificate's time is out of range");
    strftime(out, 16, "%Y%m%d%H%M%S", &tm);
    return 0;
}

static int put_sans(mbedtls_x509write_cert *w, const struct pki_cert_request *r, struct error *err) {
    mbedtls_x509_san_list list[2 * SAN_MAX];
    unsigned char addresses[SAN_MAX][16];
    size_t n = 0, ips = 0, dns = 0;
    memset(list, 0, sizeof(list));
    for (const char *const *d = r->dns_names; d && *d; d++) {
        if (dns++ == SAN_MAX || strlen(*d) > 253)
            return error_set(err, -E2BIG, "too many or too long DNS names for one certificate");
        list[n].node.type = SAN_DNS;
        list[n].node.san.unstructured_name.p = (unsigned char *)(uintptr_t)*d;
        list[n++].node.san.unstructured_name.len = strlen(*d);
    }
    for (const char *const *a = r->ip_addresses; a && *a; a++) {
        if (ips == SAN_MAX)
            return error_set(err, -E2BIG, "too many addresses for one certificate");
        size_t len = inet_pton(AF_INET, *a, addresses[ips]) == 1    ? 4
                     : inet_pton(AF_INET6, *a, addresses[ips]) == 1 ? 16
                                                                    : 0;
        if (!len)
            return error_set(err, -EINVAL, "not an IP address: %s", *a);
        list[n].node.type = SAN_IP;
        list[n].node.san.unstructured_name.p = addresses[ips++];
        list[n++].node.san.unstructured_name.len = len;
    }
    for (size_t i = 0; i + 1 < n; i++)
        list[i].next = &list[i + 1];
    int rc = n ? mbedtls_x509write_crt_set_subject_alternative_name(w, list) : 0;
    return rc ? mbed_error(err, rc, "subject alternative names") : 0;
}

static int put_usage(mbedtls_x509write_cert *w, const struct pki_cert_request *r) {
    mbedtls_asn1_sequence usage[2];
    size_t n = 0;
    memset(usage, 0, sizeof(usage));
    const struct {
        bool on;
        const char *oid;
    } all[] = {{r->server_auth, MBEDTLS_OID_SERVER_AUTH}, {r->client_auth, MBEDTLS_OID_CLIENT_AUTH}};
    for (size_t i = 0; i < ARRAY_LEN(all); i++) {
        if (!all[i].on)
            continue;
        usage[n].buf.tag = MBEDTLS_ASN1_OID;
        usage[n].buf.p = (unsigned char *)(uintptr_t)all[i].oid;
        usage[n].buf.len = strlen(all[i].oid);
        if (n)
            usage[n - 1].next = &usage[n];
        n++;
    }
    int rc =
        mbedtls_x509write_crt_set_key_usage(w, r->is_ca ? MBEDTLS_X509_KU_DIGITAL_SIGNATURE |
                                                              MBEDTLS_X509_KU_KEY_CERT_SIGN | MBEDTLS_X509_KU_CRL_SIGN
                                                        : MBEDTLS_X509_KU_DIGITAL_SIGNATURE);
    return rc || !n ? rc : mbedtls_x509write_crt_set_ext_key_usage(w, usage);
}

/* The authority key identifier repeats the CA's own subject key identifier, however that was made. */
static int put_key_ids(mbedtls_x509write_cert *w, const mbedtls_x509_crt *ca) {
    int rc = mbedtls_x509write_crt_set_subject_key_identifier(w);
    if (rc || !ca)
        return rc;
    unsigned char ext[4 + 64];
    size_t n = ca->subject_key_id.len;
    if (n == 0 || n > 64)
        return mbedtls_x509write_crt_set_authority_key_identifier(w);
    ext[0] = MBEDTLS_ASN1_CONSTRUCTED | MBEDTLS_ASN1_SEQUENCE;
    ext[1] = (unsigned char)(n + 2);
    ext[2] = MBEDTLS_ASN1_CONTEXT_SPECIFIC;
    ext[3] = (unsigned char)n;
    memcpy(ext + 4, ca->subject_key_id.p, n);
    return mbedtls_x509write_crt_set_extension(w, MBEDTLS_OID_AUTHORITY_KEY_IDENTIFIER,
                                               MBEDTLS_OID_SIZE(MBEDTLS_OID_AUTHORITY_KEY_IDENTIFIER), 0, ext, n + 4);
}

struct signing { /* what one signature needs, released together */
    mbedtls_x509write_cert w;
    mbedtls_pk_context key, ca_key;
    mbedtls_x509_crt ca;
};

static int cert_fill(struct signing *s, const struct pki_cert_request *r, bool self_signed, struct error *err) {
    char from[16], to[16];
    unsigned char serial[16];
    int rc = put_time(from, r->not_before_s, err);
    if (!rc)
        rc = put_time(to, r->not_after_s, err);
    if (!rc)
        rc = subject_of(r, &s->w.subject, err);
    if (!rc && self_signed)
        rc = subject_of(r, &s->w.issuer, err);
    if (!rc)
        rc = put_sans(&s->w, r, err);
    if (rc)
        return rc;
    if (!self_signed)
        copy_names(&s->ca.subject, &s->w.issuer);
    rand_bytes(serial, sizeof(serial));
    serial[0] = (serial[0] & 0x7f) | 0x40; /* positive, of fixed length */
    mbedtls_x509write_crt_set_version(&s->w, MBEDTLS_X509_CRT_VERSION_3);
    mbedtls_x509write_crt_set_md_alg(&s->w, MBEDTLS_MD_SHA256);
    mbedtls_x509write_crt_set_subject_key(&s->w, &s->key);
    mbedtls_x509write_crt_set_issuer_key(&s->w, self_signed ? &s->key : &s->ca_key);
    rc = mbedtls_x509write_crt_set_serial_raw(&s->w, serial, sizeof(serial));
    if (!rc)
        rc = mbedtls_x509write_crt_set_validity(&s->w, from, to);
    if (!rc)
        rc = mbedtls_x509write_crt_set_basic_constraints(&s->w, r->is_ca, -1);
    if (!rc)
        rc = put_usage(&s->w, r);
    if (!rc)
        rc = put_key_ids(&s->w, self_signed ? NULL : &s->ca);
    return rc ? mbed_error(err, rc, "cannot make a certificate") : 0;
}

static int cert_sign(struct signing *s, char **cert_pem, struct error *err) {
    cleanup_free unsigned char *out = xmalloc(CERT_DER_MAX);
    int rc = mbedtls_x509write_crt_pem(&s->w, out, CERT_DER_MAX, mbed_rng, NULL);
    if (rc)
        return mbed_error(err, rc, "cannot sign a certificate");
    *cert_pem = xstrdup((char *)out);
    return 0;
}

int pki_cert_new(const struct pki_cert_request *r, const char *key_pem, const char *ca_cert_pem, const char *ca_key_pem,
                 char **cert_pem, struct error *err) {
    struct signing s;
    mbedtls_x509write_crt_init(&s.w);
    mbedtls_pk_init(&s.key);
    mbedtls_pk_init(&s.ca_key);
    mbedtls_x509_crt_init(&s.ca);
    int rc = mbed_key_parse(&s.key, key_pem, err);
    if (!rc && ca_cert_pem) {
        rc = mbed_cert_parse(&s.ca, ca_cert_pem, err);
        if (!rc)
            rc = mbed_key_parse(&s.ca_key, ca_key_pem, err);
        if (!rc && !same_public_half(&s.ca.pk, &s.ca_key))
            rc = error_set(err, -EINVAL, "the certificate authority's key does not belong to its certificate");
    }
    if (!rc)
        rc = cert_fill(&s, r, !ca_cert_pem, err);
    if (!rc)
        rc = cert_sign(&s, cert_pem, err);
    mbedtls_x509write_crt_free(&s.w);
    mbedtls_pk_free(&s.key);
    mbedtls_pk_free(&s.ca_key);
    mbedtls_x509_crt_free(&s.ca);
    return rc;
}

/* --- reading certificates ----------------------------------------------------------------------------------------- */

static int64_t time_of(const mbedtls_x509_time *t) {
    struct tm tm = {.tm_year = t->year - 1900,
                    .tm_mon = t->mon - 1,
                    .tm_mday = t->day,
                    .tm_hour = t->hour,
                    .tm_min = t->min,
                    .tm_sec = t->sec};
    return (int64_t)timegm(&tm);
}

int pki_cert_info(const char *cert_pem, struct pki_cert_info *out, struct error *err) {
    mbedtls_x509_crt crt;
    mbedtls_x509_crt_init(&crt);
    int rc = mbed_cert_parse(&crt, cert_pem, err);
    if (!rc) {
        memset(out, 0, sizeof(*out));
        for (const mbedtls_x509_name *n = &crt.subject; n; n = n->next) {
            if (n->oid.p && MBEDTLS_OID_CMP(MBEDTLS_OID_AT_CN, &n->oid) == 0)
                memcpy(out->common_name, n->val.p, MIN(n->val.len, sizeof(out->common_name) - 1));
        }
        out->not_before_s = time_of(&crt.valid_from);
        out->not_after_s = time_of(&crt.valid_to);
        out->is_ca = crt.ca_istrue;
    }
    mbedtls_x509_crt_free(&crt);
    return rc;
}

static bool has_san(const mbedtls_x509_crt *crt, int choice, const void *p, size_t n) {
    for (const mbedtls_x509_sequence *s = &crt->subject_alt_names; s && s->buf.p; s = s->next) {
        if ((s->buf.tag & MBEDTLS_ASN1_TAG_VALUE_MASK) == choice && s->buf.len == n && memcmp(s->buf.p, p, n) == 0)
            return true;
    }
    return false;
}

static int check_names(const mbedtls_x509_crt *crt, const char *const *dns, const char *const *ips, struct error *err) {
    for (; dns && *dns; dns++) {
        if (!has_san(crt, SAN_DNS, *dns, strlen(*dns)))
            return error_set(err, -EINVAL, "the certificate does not cover the name %s", *dns);
    }
    for (; ips && *ips; ips++) {
        unsigned char a[16];
        size_t n = inet_pton(AF_INET, *ips, a) == 1 ? 4 : inet_pton(AF_INET6, *ips, a) == 1 ? 16 : 0;
        if (!n || !has_san(crt, SAN_IP, a, n))
            return error_set(err, -EINVAL, "the certificate does not cover the address %s", *ips);
    }
    return 0;
}

int pki_cert_check(const char *cert_pem, const char *key_pem, const char *ca_pem, const char *const *dns_names,
                   const char *const *ip_addresses, struct error *err) {
    mbedtls_x509_crt crt, ca;
    mbedtls_pk_context key;
    mbedtls_x509_crt_init(&crt);
    mbedtls_x509_crt_init(&ca);
    mbedtls_pk_init(&key);
    int rc = mbed_cert_parse(&crt, cert_pem, err);
    if (!rc)
        rc = mbed_cert_parse(&ca, ca_pem, err);
    if (!rc)
        rc = mbed_key_parse(&key, key_pem, err);
    if (!rc && !same_public_half(&crt.pk, &key))
        rc = error_set(err, -EINVAL, "the key does not belong to the certificate");
    if (!rc) {
        uint32_t flags = 0;
        int v = mbedtls_x509_crt_verify(&crt, &ca, NULL, NULL, &flags, NULL, NULL);
        /* Time is the caller's business: a certificate that ran out is renewed, not refused, here. */
        if (v && (flags & ~(uint32_t)(MBEDTLS_X509_BADCERT_EXPIRED | MBEDTLS_X509_BADCERT_FUTURE)))
            rc = error_set(err, -EINVAL, "the certificate was not signed by the given authority");
    }
    if (!rc)
        rc = check_names(&crt, dns_names, ip_addresses, err);
    mbedtls_pk_free(&key);
    mbedtls_x509_crt_free(&ca);
    mbedtls_x509_crt_free(&crt);
    return rc;
}

int pki_cert_hash(const char *cert_pem, char out[65], struct error *err) {
    mbedtls_x509_crt crt;
    mbedtls_x509_crt_init(&crt);
    int rc = mbed_cert_parse(&crt, cert_pem, err);
    if (!rc)
        sha256_hex(crt.raw.p, crt.raw.len, out);
    mbedtls_x509_crt_free(&crt);
    return rc;
}
