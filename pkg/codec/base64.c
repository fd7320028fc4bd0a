#include "codec/base64.h"

#include <stdlib.h>

static const char standard[65] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
static const char url[65] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

static void encode(struct buf *out, const unsigned char *in, size_t n, const char alphabet[65], bool pad) {
    char *p = n < SIZE_MAX / 4 * 3 ? buf_reserve(out, (n + 2) / 3 * 4) : buf_reserve(out, SIZE_MAX);
    if (!p)
        return;
    char *start = p;
    for (; n >= 3; n -= 3, in += 3) {
        uint32_t w = (uint32_t)in[0] << 16 | (uint32_t)in[1] << 8 | in[2];
        *p++ = alphabet[w >> 18];
        *p++ = alphabet[w >> 12 & 63];
        *p++ = alphabet[w >> 6 & 63];
        *p++ = alphabet[w & 63];
    }
    if (n) {
        uint32_t w = (uint32_t)in[0] << 16 | (n == 2 ? (uint32_t)in[1] << 8 : 0);
        *p++ = alphabet[w >> 18];
        *p++ = alphabet[w >> 12 & 63];
        if (n == 2)
            *p++ = alphabet[w >> 6 & 63];
        for (size_t i = n; pad && i < 3; i++)
            *p++ = '=';
    }
    out->n += (size_t)(p - start);
    out->p[out->n] = 0;
}

void base64_encode(struct buf *out, const void *data, size_t n) {
    encode(out, data, n, standard, true);
}

void base64url_encode(struct buf *out, const void *data, size_t n) {
    encode(out, data, n, url, false);
}

/* Values of the digits, 64 for any other byte. */
static void invert(const char alphabet[65], unsigned char table[256]) {
    memset(table, 64, 256);
    for (unsigned char i = 0; i < 64; i++)
        table[(unsigned char)alphabet[i]] = i;
}

/* Decodes digits without padding; -EINVAL on other bytes, an impossible length or (strict) bits set in the unused
 * tail. */
static int decode(struct buf *out, struct str text, const char alphabet[65], bool strict) {
    unsigned char table[256];
    const unsigned char *in = (const unsigned char *)text.p;
    size_t tail = text.n % 4, n = text.n / 4 * 3 + (tail ? tail - 1 : 0);
    if (tail == 1)
        return -EINVAL;
    invert(alphabet, table);
    char *p = buf_reserve(out, n);
    if (!p)
        return -E2BIG;
    unsigned bad = 0;
    for (size_t left = text.n / 4; left; left--, in += 4) {
        unsigned a = table[in[0]], b = table[in[1]], c = table[in[2]], d = table[in[3]];
        bad |= a | b | c | d;
        *p++ = (char)(a << 2 | b >> 4);
        *p++ = (char)(b << 4 | c >> 2);
        *p++ = (char)(c << 6 | d);
    }
    if (tail) {
        unsigned a = table[in[0]], b = table[in[1]], c = tail == 3 ? table[in[2]] : 0;
        bad |= a | b | c;
        bad |= !strict ? 0 : tail == 2 ? (b & 15) << 6 : (c & 3) << 6;
        *p++ = (char)(a << 2 | b >> 4);
        if (tail == 3)
            *p++ = (char)(b << 4 | c >> 2);
    }
    if (bad & ~63u) {
        out->p[out->n] = 0; /* what was decoded lies behind the data */
        return -EINVAL;
    }
    out->n += n;
    out->p[out->n] = 0;
    return 0;
}

static struct str unpad(struct str text) {
    for (int i = 0; i < 2 && text.n && text.p[text.n - 1] == '='; i++)
        text.n--;
    return text;
}

static bool is_break(char c) {
    return c == '\n' || c == '\r';
}

int base64_decode(struct buf *out, struct str text) {
    cleanup_free char *joined = NULL;
    if (text.n && (memchr(text.p, '\n', text.n) || memchr(text.p, '\r', text.n))) {
        size_t n = 0;
        joined = malloc(text.n);
        if (!joined)
            return -E2BIG;
        for (size_t i = 0; i < text.n; i++)
            if (!is_break(text.p[i]))
                joined[n++] = text.p[i];
        text = str_n(joined, n);
    }
    if (text.n % 4)
        return -EINVAL;
    return decode(out, unpad(text), standard, false);
}

int base64url_decode(struct buf *out, struct str text) {
    struct str digits = unpad(text);
    if (digits.n != text.n && text.n % 4)
        return -EINVAL;
    return decode(out, digits, url, true);
}
