/* Shared by the files of pkg/net that talk to mbedTLS. */
#pragma once

#include <mbedtls/pk.h>
#include <mbedtls/x509_crt.h>

#include "base/base.h"

/* Randomness for mbedTLS, straight from the kernel: no lock, no state. */
int mbed_rng(void *unused, unsigned char *out, size_t n);
/* err = "what: mbedTLS' text (-0xCODE)"; returns -EINVAL, or -ENOMEM when that was it. */
int mbed_error(struct error *err, int rc, const char *what);

int mbed_key_parse(mbedtls_pk_context *key, const char *pem, struct error *err);
int mbed_cert_parse(mbedtls_x509_crt *crt, const char *pem, struct error *err); /* all certificates of the text */
