/*
 * Streaming decompression of image layers and other downloads: gzip (RFC 1952), zstd (RFC 8878) and plain bytes behind
 * one interface, the format told by the first bytes of the stream. Compressed bytes are pushed in, in pieces of any
 * size; decompressed bytes come out through a callback, in pieces of at most INFLATE_PIECE bytes, before push returns (a
 * very short last zstd frame: before end returns). Memory is fixed: one piece plus the decoder's window.
 *
 *     struct inflate *z = inflate_new(&limits, sink, arg);
 *     while (more) rc = inflate_push(z, bytes, &err);    stop at the first error
 *     rc = inflate_end(z, &err);                         tells a truncated stream
 *     inflate_free(z);
 *
 * Several gzip members or zstd frames behind one another are one stream; zstd's skippable frames are skipped. Anything
 * else behind the last member is an error. Checksums are verified.
 *
 * Pure: no file descriptors, no threads of its own. One owner at a time.
 */
#pragma once

#include "base/base.h"

#define INFLATE_PIECE KiB(128)

enum inflate_format { INFLATE_UNKNOWN, INFLATE_PLAIN, INFLATE_GZIP, INFLATE_ZSTD, INFLATE_FORMAT_MAX };

/* A zeroed struct means the defaults. */
struct inflate_limits {
    uint64_t output_bytes; /* most bytes that may come out; 0: 64 GiB */
    /* Most bytes out for each byte in, looked at once INFLATE_RATIO_FROM bytes came out; 0: 1100, which no honest gzip
     * stream reaches. */
    uint32_t ratio;
    int window_log; /* largest zstd window accepted, as a power of two (memory); 0: 27, 128 MiB */
};

#define INFLATE_RATIO_FROM MiB(128)

/* Takes decompressed bytes, valid during the call only. Non-zero (a negative errno; it may set err) ends the stream. */
typedef int inflate_sink(void *arg, struct str bytes, struct error *err);

struct inflate;

/* limits may be NULL. NULL when there is no memory for the decoder. */
struct inflate *inflate_new(const struct inflate_limits *limits, inflate_sink *sink, void *arg);
/* Decompresses bytes into the sink. 0; -EINVAL corrupt data; -E2BIG a limit; -ENOMEM; or what the sink returned. After
 * an error the stream stays failed: every later call returns the same code. */
int inflate_push(struct inflate *z, struct str bytes, struct error *err);
/* Says that no more bytes follow: -EINVAL when the stream ends inside a member, errors as for push otherwise. An empty
 * stream is a plain one of no bytes. */
int inflate_end(struct inflate *z, struct error *err);
void inflate_free(struct inflate *z); /* NULL is fine */

/* INFLATE_UNKNOWN until the first four bytes (or the end) were pushed. */
enum inflate_format inflate_format(const struct inflate *z);
const char *inflate_format_name(enum inflate_format f); /* "unknown", "plain", "gzip", "zstd" */
uint64_t inflate_bytes_in(const struct inflate *z);
uint64_t inflate_bytes_out(const struct inflate *z);
