#include <stdlib.h>

#include "net/http_parse.h"

/* Sorted by code. Those a Kubernetes API server and an ingress use. */
static const struct {
    int status;
    const char *text;
} status_texts[] = {
    {100, "Continue"},
    {101, "Switching Protocols"},
    {200, "OK"},
    {201, "Created"},
    {202, "Accepted"},
    {204, "No Content"},
    {206, "Partial Content"},
    {301, "Moved Permanently"},
    {302, "Found"},
    {303, "See Other"},
    {304, "Not Modified"},
    {307, "Temporary Redirect"},
    {308, "Permanent Redirect"},
    {400, "Bad Request"},
    {401, "Unauthorized"},
    {403, "Forbidden"},
    {404, "Not Found"},
    {405, "Method Not Allowed"},
    {406, "Not Acceptable"},
    {408, "Request Timeout"},
    {409, "Conflict"},
    {410, "Gone"},
    {411, "Length Required"},
    {412, "Precondition Failed"},
    {413, "Request Entity Too Large"},
    {414, "URI Too Long"},
    {415, "Unsupported Media Type"},
    {416, "Range Not Satisfiable"},
    {417, "Expectation Failed"},
    {422, "Unprocessable Entity"},
    {426, "Upgrade Required"},
    {429, "Too Many Requests"},
    {431, "Request Header Fields Too Large"},
    {499, "Client Closed Request"},
    {500, "Internal Server Error"},
    {501, "Not Implemented"},
    {502, "Bad Gateway"},
    {503, "Service Unavailable"},
    {504, "Gateway Timeout"},
    {505, "HTTP Version Not Supported"},
    {507, "Insufficient Storage"},
};

const char *http_status_text(int status) {
    for (size_t i = 0; i < ARRAY_LEN(status_texts); i++) {
        if (status_texts[i].status == status)
            return status_texts[i].text;
    }
    return "Unknown";
}

bool http_is_token(struct str s) {
    static const char more[] = "!#$%&'*+-.^_`|~";
    for (size_t i = 0; i < s.n; i++) {
        char c = s.p[i], low = (char)(c | 0x20);
        if (!(low >= 'a' && low <= 'z') && !(c >= '0' && c <= '9') && (c == 0 || !strchr(more, c)))
            return false;
    }
    return s.n > 0;
}

struct str http_find_header(const struct http_header *h, size_t n, const char *name) {
    struct str want = str_c(name);
    for (size_t i = 0; i < n; i++) {
        if (h[i].name.n == want.n && str_eq_nocase(h[i].name, want))
            return h[i].value;
    }
    return STR("");
}

bool http_header_has_token(const struct http_header *h, size_t n, const char *name, const char *token) {
    struct str want = str_c(name);
    for (size_t i = 0; i < n; i++) {
        if (!str_eq_nocase(h[i].name, want))
            continue;
        struct str rest = h[i].value;
        while (rest.p) {
            if (str_eq_nocase(str_trim(str_split(&rest, ',')), str_c(token)))
                return true;
        }
    }
    return false;
}

struct str http_header_get(const struct http_request *r, const char *name) {
    return http_find_header(r->headers, r->headers_n, name);
}

static int hex_digit(char c) {
    char low = (char)(c | 0x20);
    return c >= '0' && c <= '9' ? c - '0' : low >= 'a' && low <= 'f' ? low - 'a' + 10 : -1;
}

bool http_percent_decode(struct arena *a, struct str s, bool query, struct str *out) {
    char *p = arena_try_alloc(a, s.n + 1);
    size_t n = 0;
    if (!p)
        return false;
    for (size_t i = 0; i < s.n; i++) {
        char c = s.p[i];
        if (c == '%') {
            int hi = s.n - i > 2 ? hex_digit(s.p[i + 1]) : -1;
            int lo = s.n - i > 2 ? hex_digit(s.p[i + 2]) : -1;
            if (hi < 0 || lo < 0)
                return false;
            c = (char)(hi << 4 | lo);
            i += 2;
        } else if (c == '+' && query) {
            c = ' ';
        }
        p[n++] = c;
    }
    *out = str_n(p, n);
    return true;
}

struct str http_query_get(const struct http_request *r, const char *name) {
    struct str rest = r->query, want = str_c(name);
    while (rest.p && rest.n) {
        struct str pair = str_split(&rest, '&'), key = pair, value = STR("");
        struct str k, v;
        str_cut(pair, '=', &key, &value);
        if (http_percent_decode(r->arena, key, true, &k) && str_eq(k, want))
            return http_percent_decode(r->arena, value, true, &v) ? v : STR_NULL;
    }
    return STR_NULL;
}
