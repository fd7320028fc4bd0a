/* How the rest of pkg/net makes streams. */
#pragma once

#include "net/conn.h"
#include "net/stream.h"

/* A stream over a connection that is already open; first: bytes that were read before, taken (the buffer is emptied). */
struct stream *stream_from_conn(struct conn *c, struct buf *first);
