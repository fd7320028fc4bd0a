/*
 * Keys, certificates and signed tokens: ECDSA P-256 (RSA verified, never made), X.509 v3, PEM; JWT ES256/RS256.
 * Pure functions over memory; everything returned is malloc'ed NUL-terminated PEM or text, freed by the caller.
 */
#pragma once

#include "base/base.h"
#include "codec/json.h"

/* Once a process, before anything else of net/. */
void pki_init(void);

int pki_key_new(char **key_pem, struct error *err); /* ECDSA P-256, "EC PRIVATE KEY" */

struct pki_cert_request {
    const char *common_name;
    const char *const *organizations; /* NULL-terminated or NULL */
    const char *const *dns_names;     /* subject alternative names, at most 64 of each kind */
    const char *const *ip_addresses;
    bool is_ca, server_auth, client_auth;
    int64_t not_before_s, not_after_s; /* seconds since the epoch */
};
/* Signs a certificate for the public half of key_pem. ca_*: NULL for self-signed. */
int pki_cert_new(const struct pki_cert_request *r, const char *key_pem, const char *ca_cert_pem, const char *ca_key_pem,
                 char **cert_pem, struct error *err);

struct pki_cert_info {
    char common_name[256];
    int64_t not_before_s, not_after_s;
    bool is_ca;
};
int pki_cert_info(const char *cert_pem, struct pki_cert_info *out, struct error *err); /* of the first certificate */
/* 0 when the (first) certificate covers every name and address asked, was signed by ca_pem and matches key_pem. */
int pki_cert_check(const char *cert_pem, const char *key_pem, const char *ca_pem, const char *const *dns_names,
                   const char *const *ip_addresses, struct error *err);
/* SHA-256 of the DER form of the first certificate, as 64 hex digits (the hash in a join token). */
int pki_cert_hash(const char *cert_pem, char out[65], struct error *err);

/* JWT with header {"alg":"ES256","kid":<hash of the public key>}: claims is the payload. */
int jwt_sign(const char *key_pem, const struct json *claims, char **token, struct error *err);
/* Verifies signature (one of keys_pem, NULL-terminated: private or public keys or certificates) and returns the
 * claims in the arena. Time and audience are the caller's. -EACCES for a signature that does not match. */
int jwt_verify(struct arena *a, struct str token, const char *const *keys_pem, struct json **claims, struct error *err);
/* JWKS document of these keys, as JSON in the arena. */
struct json *jwt_jwks(struct arena *a, const char *const *keys_pem, struct error *err);

void sha256(const void *data, size_t n, unsigned char out[32]);
struct sha256_state; /* streaming */
struct sha256_state *sha256_new(void);
void sha256_update(struct sha256_state *s, const void *data, size_t n);
void sha256_finish(struct sha256_state *s, unsigned char out[32]); /* frees s */
void sha256_hex(const void *data, size_t n, char out[65]);
void sha1(const void *data, size_t n, unsigned char out[20]); /* WebSocket handshakes only */
/* Constant-time comparison of secrets. */
bool secret_eq(struct str a, struct str b);
