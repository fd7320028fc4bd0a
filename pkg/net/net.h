/*
 * pkg/net: loops and threads, TLS, certificates and tokens, HTTP, WebSocket, SPDY, netlink. The only folder that knows
 * libuv's sockets, mbedTLS, llhttp and nghttp2; it knows nothing of Kubernetes beyond the framing of its streams.
 */
#pragma once

#include "net/channels.h"
#include "net/http.h"
#include "net/loop.h"
#include "net/netlink.h"
#include "net/pki.h"
#include "net/stream.h"
#include "net/tls.h"
