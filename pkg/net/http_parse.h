/*
 * HTTP/1.1 messages off a byte stream, for server and client: llhttp in its strict form, plus what it leaves to its user
 * (limits, obsolete line folding, Host). The head's strings live in the message's arena.
 */
#pragma once

#include <llhttp.h>

#include "net/http.h"

struct http_parser;

struct http_parser_ops {
    struct arena *(*on_begin)(void *arg);       /* a message begins: the arena for its head */
    int (*on_head)(void *arg);                  /* 0, 1: the message has no body whatever it says, or an HTTP status */
    int (*on_body)(void *arg, struct str data); /* 0 or an HTTP status */
    void (*on_complete)(void *arg, bool upgrade); /* the parser pauses behind the message */
};

struct http_parser {
    llhttp_t ll;
    const struct http_parser_ops *ops;
    void *arg;
    struct http_message_limits limits; /* zeroes replaced */

    struct arena *arena;
    struct str target; /* of a request */
    struct http_header *headers;
    size_t headers_n, headers_cap;

    struct str span;  /* the piece being read, while it is in one place */
    struct buf spill; /* its beginning, when it came in several reads */
    size_t head_bytes, body_bytes, extra_bytes;
    bool in_head;
    int status; /* why the message was refused: an HTTP status, 0 when fine */
    const char *reason;
};

enum http_parse_result { HTTP_PARSE_MORE, HTTP_PARSE_PAUSED, HTTP_PARSE_ERROR };

void http_parser_init(struct http_parser *p, bool request, const struct http_message_limits *limits,
                      const struct http_parser_ops *ops, void *arg);
void http_parser_fini(struct http_parser *p);
/* Reads on, up to the end of a message: *used says how far. HTTP_PARSE_ERROR: p->status and p->reason say why. */
enum http_parse_result http_parser_feed(struct http_parser *p, struct str data, size_t *used);
/* The connection ended: completes a message that lasts until then; false when one is cut off. */
bool http_parser_eof(struct http_parser *p);
static inline bool http_parser_in_head(const struct http_parser *p) {
    return p->in_head;
}

struct str http_find_header(const struct http_header *h, size_t n, const char *name);
/* Whether a comma-separated header (all of that name) lists the token. */
bool http_header_has_token(const struct http_header *h, size_t n, const char *name, const char *token);
bool http_is_token(struct str s); /* RFC 9110 5.6.2 */
const char *http_status_text(int status);
