/*
 * The words of registry authentication: challenges (RFC 9110, section 11.6.1), token requests and answers of the
 * distribution project's token specification. Pure.
 */
#pragma once

#include "base/base.h"

enum registry_scheme { REGISTRY_AUTH_NONE, REGISTRY_AUTH_BASIC, REGISTRY_AUTH_BEARER };

struct registry_challenge {
    enum registry_scheme scheme;
    struct str realm, service, scope;
};

struct registry_credential { /* all empty: anonymous */
    struct str username, password;
    struct str identity_token; /* exchanged for an access token */
    struct str token;          /* sent as it is */
};

/* Reads the challenges of one WWW-Authenticate value; Bearer wins over Basic, and over what *out holds already. */
void registry_challenge_parse(struct arena *a, struct str value, struct registry_challenge *out);
/* "Basic ..." for a user and password. */
struct str registry_basic(struct arena *a, struct str username, struct str password);
/* The realm with service and scope as query parameters. scope: used when the challenge names none. */
struct str registry_token_url(struct arena *a, const struct registry_challenge *c, struct str scope);
/* The form to POST for an identity token. */
struct str registry_token_form(struct arena *a, const struct registry_challenge *c, struct str scope,
                               struct str identity_token);
/* Takes the token out of the answer; -EINVAL when there is none that can be sent in a header. */
int registry_token_parse(struct arena *a, struct str body, struct str *token, int64_t *expires_in_s, struct error *err);
/* What a registry's error answer says, cut and cleaned for a message; empty when it says nothing. */
struct str registry_error_text(struct arena *a, struct str body);
