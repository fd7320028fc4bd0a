#include <stdlib.h>
#include <string.h>

#include <mbedtls/asn1.h>
#include <mbedtls/ecp.h>
#include <mbedtls/md.h>
#include <mbedtls/psa_util.h>
#include <mbedtls/rsa.h>

#include "codec/base64.h"
#include "net/pki.h"
#include "net/pki_priv.h"

#define TOKEN_MAX KiB(64)
#define SPKI_MAX 1200 /* DER of the public half of an 8192-bit RSA key fits */
#define EC_BITS 256
#define EC_SIGNATURE 64

enum key_kind { KEY_EC, KEY_RSA, KEY_KIND_MAX };
static const char *const key_alg[KEY_KIND_MAX] = {"ES256", "RS256"};

/* A key in any of the PEM forms that hold its public half. */
struct jwt_key {
    mbedtls_pk_context own;
    mbedtls_x509_crt crt;
    mbedtls_pk_context *pk;
    enum key_kind kind;
};

static void key_fini(struct jwt_key *k) {
    mbedtls_pk_free(&k->own);
    mbedtls_x509_crt_free(&k->crt);
}

static int key_load(struct jwt_key *k, const char *pem, struct error *err) {
    const unsigned char *p = (const unsigned char *)pem;
    mbedtls_pk_init(&k->own);
    mbedtls_x509_crt_init(&k->crt);
    k->pk = &k->own;
    int rc;
    if (strstr(pem, "PRIVATE KEY-----")) {
        rc = mbed_key_parse(&k->own, pem, err);
    } else if (strstr(pem, "-----BEGIN CERTIFICATE-----")) {
        rc = mbed_cert_parse(&k->crt, pem, err);
        k->pk = &k->crt.pk;
    } else {
        rc = mbedtls_pk_parse_public_key(&k->own, p, strlen(pem) + 1);
        if (rc)
            rc = mbed_error(err, rc, "public key");
    }
    if (rc)
        return rc;
    mbedtls_pk_type_t type = mbedtls_pk_get_type(k->pk);
    if (type == MBEDTLS_PK_RSA && mbedtls_pk_get_bitlen(k->pk) >= 2048)
        k->kind = KEY_RSA;
    else if (type == MBEDTLS_PK_ECKEY && mbedtls_pk_ec(*k->pk) &&
             mbedtls_ecp_keypair_get_group_id(mbedtls_pk_ec(*k->pk)) == MBEDTLS_ECP_DP_SECP256R1)
        k->kind = KEY_EC;
    else
        return error_set(err, -EINVAL, "a token key must be ECDSA P-256 or RSA of 2048 bits or more");
    return 0;
}

/* Kubernetes' key id: the SHA-256 of the public key's PKIX form, base64url. */
static int key_id(const struct jwt_key *k, struct buf *out, struct error *err) {
    unsigned char der[SPKI_MAX], sum[32];
    int n = mbedtls_pk_write_pubkey_der(k->pk, der, sizeof(der));
    if (n < 0)
        return mbed_error(err, n, "public key");
    sha256(der + sizeof(der) - n, (size_t)n, sum);
    base64url_encode(out, sum, sizeof(sum));
    return 0;
}

static int key_sign(struct jwt_key *k, const unsigned char sum[32], struct buf *out, struct error *err) {
    unsigned char sig[MBEDTLS_PK_SIGNATURE_MAX_SIZE], raw[EC_SIGNATURE];
    size_t n = 0, raw_n = 0;
    int rc = mbedtls_pk_sign(k->pk, MBEDTLS_MD_SHA256, sum, 32, sig, sizeof(sig), &n, mbed_rng, NULL);
    if (!rc && k->kind == KEY_EC)
        rc = mbedtls_ecdsa_der_to_raw(EC_BITS, sig, n, raw, sizeof(raw), &raw_n);
    if (rc)
        return mbed_error(err, rc, "cannot sign a token");
    if (k->kind == KEY_EC)
        base64url_encode(out, raw, raw_n);
    else
        base64url_encode(out, sig, n);
    return 0;
}

int jwt_sign(const char *key_pem, const struct json *claims, char **token, struct error *err) {
    struct jwt_key k;
    cleanup_buf struct buf out = BUF_INIT, text = BUF_INIT;
    int rc = key_load(&k, key_pem, err);
    if (!rc) {
        buf_printf(&text, "{\"alg\":\"%s\",\"kid\":\"", key_alg[k.kind]);
        rc = key_id(&k, &text, err);
        buf_puts(&text, "\"}");
    }
    if (!rc) {
        base64url_encode(&out, text.p, text.n);
        buf_reset(&text);
        json_write(&text, claims);
        buf_putc(&out, '.');
        base64url_encode(&out, text.p, text.n);
        unsigned char sum[32];
        sha256(out.p, out.n, sum);
        buf_putc(&out, '.');
        rc = key_sign(&k, sum, &out, err);
    }
    key_fini(&k);
    if (!rc && (out.failed || text.failed || out.n > TOKEN_MAX))
        rc = error_set(err, -E2BIG, "the token would be larger than %zu bytes", TOKEN_MAX);
    if (!rc)
        *token = buf_steal(&out, NULL);
    return rc;
}

/* Whether sig over sum is by this key and the token names this key's algorithm. */
static bool key_verifies(struct jwt_key *k, struct str alg, const unsigned char sum[32], struct str sig) {
    unsigned char der[EC_SIGNATURE + 16];
    size_t n = 0;
    if (!str_eq_c(alg, key_alg[k->kind]))
        return false;
    if (k->kind == KEY_RSA)
        return mbedtls_pk_verify(k->pk, MBEDTLS_MD_SHA256, sum, 32, (const unsigned char *)sig.p, sig.n) == 0;
    if (sig.n != EC_SIGNATURE ||
        mbedtls_ecdsa_raw_to_der(EC_BITS, (const unsigned char *)sig.p, sig.n, der, sizeof(der), &n) != 0)
        return false;
    return mbedtls_pk_verify(k->pk, MBEDTLS_MD_SHA256, sum, 32, der, n) == 0;
}

static struct json *decode_part(struct arena *a, struct str part, struct error *err) {
    cleanup_buf struct buf raw = {.limit = TOKEN_MAX};
    static const struct json_limits limits = {.depth = 32, .nodes = 10000};
    if (base64url_decode(&raw, part) || raw.failed) {
        error_set(err, -EINVAL, "the token is not base64url");
        return NULL;
    }
    struct json *v = json_parse(a, buf_str(&raw), &limits, err);
    if (v && v->type != JSON_OBJECT) {
        error_set(err, -EINVAL, "a part of the token is no JSON object");
        return NULL;
    }
    return v;
}

int jwt_verify(struct arena *a, struct str token, const char *const *keys_pem, struct json **claims,
               struct error *err) {
    struct str head, rest, payload, sig64;
    if (token.n > TOKEN_MAX || !str_cut(token, '.', &head, &rest) || !str_cut(rest, '.', &payload, &sig64) ||
        str_index(sig64, '.', 0) >= 0)
        return error_set(err, -EINVAL, "not a token of three parts");
    struct json *h = decode_part(a, head, err);
    if (!h)
        return -EINVAL;
    struct str alg = json_as_str(json_get_c(h, "alg"));
    if (json_get_c(h, "crit")) /* RFC 7515 4.1.11: must be understood, and none is */
        return error_set(err, -EINVAL, "the token has critical extensions");
    cleanup_buf struct buf sig = {.limit = TOKEN_MAX};
    if (base64url_decode(&sig, sig64))
        return error_set(err, -EINVAL, "the token's signature is not base64url");
    unsigned char sum[32];
    sha256(token.p, head.n + 1 + payload.n, sum);
    bool good = false;
    for (; !good && keys_pem && *keys_pem; keys_pem++) {
        struct jwt_key k;
        int rc = key_load(&k, *keys_pem, err);
        good = !rc && key_verifies(&k, alg, sum, buf_str(&sig));
        key_fini(&k);
        if (rc)
            return rc;
    }
    if (!good)
        return error_set(err, -EACCES, "the token's signature does not match");
    struct json *c = decode_part(a, payload, err);
    if (!c)
        return -EINVAL;
    *claims = c;
    return 0;
}

static void set_b64(struct arena *a, struct json *o, const char *name, const void *p, size_t n) {
    cleanup_buf struct buf b = BUF_INIT;
    base64url_encode(&b, p, n);
    json_set_str(a, o, name, buf_str(&b));
}

static int jwk_public(struct arena *a, const struct jwt_key *k, struct json *o) {
    unsigned char p[1024], e[8];
    size_t n = 0;
    int rc;
    if (k->kind == KEY_EC) {
        rc = mbedtls_ecp_write_public_key(mbedtls_pk_ec(*k->pk), MBEDTLS_ECP_PF_UNCOMPRESSED, &n, p, sizeof(p));
        if (rc || n != 65)
            return rc ? rc : MBEDTLS_ERR_ECP_BAD_INPUT_DATA;
        json_set_cstr(a, o, "kty", "EC");
        json_set_cstr(a, o, "crv", "P-256");
        set_b64(a, o, "x", p + 1, 32);
        set_b64(a, o, "y", p + 33, 32);
        return 0;
    }
    n = mbedtls_rsa_get_len(mbedtls_pk_rsa(*k->pk));
    if (n > sizeof(p))
        return MBEDTLS_ERR_RSA_BAD_INPUT_DATA;
    rc = mbedtls_rsa_export_raw(mbedtls_pk_rsa(*k->pk), p, n, NULL, 0, NULL, 0, NULL, 0, e, sizeof(e));
    if (rc)
        return rc;
    size_t skip = 0;
    while (skip < sizeof(e) - 1 && e[skip] == 0)
        skip++;
    json_set_cstr(a, o, "kty", "RSA");
    set_b64(a, o, "n", p, n);
    set_b64(a, o, "e", e + skip, sizeof(e) - skip);
    return 0;
}

struct json *jwt_jwks(struct arena *a, const char *const *keys_pem, struct error *err) {
    struct json *doc = json_object(a), *keys = json_array(a);
    json_set_c(a, doc, "keys", keys);
    for (; keys_pem && *keys_pem; keys_pem++) {
        struct jwt_key k;
        cleanup_buf struct buf kid = BUF_INIT;
        struct json *o = json_object(a);
        int rc = key_load(&k, *keys_pem, err);
        if (!rc)
            rc = key_id(&k, &kid, err);
        if (!rc) {
            json_set_cstr(a, o, "use", "sig");
            json_set_cstr(a, o, "alg", key_alg[k.kind]);
            json_set_str(a, o, "kid", buf_str(&kid));
            rc = jwk_public(a, &k, o);
            if (rc)
                mbed_error(err, rc, "public key");
        }
        key_fini(&k);
        if (rc)
            return NULL;
        json_append(a, keys, o);
    }
    return doc;
}
