/*
 * What exec (channels_exec.c) and port-forward (channels_forward.c) share: negotiating, and channels over WebSocket.
 * A struct channels is embedded first in either's own struct.
 */
#pragma once

#include "net/channels.h"
#include "net/loop_priv.h"
#include "net/spdy.h"
#include "net/ws.h"

struct channels_protocol {
    const char *name;
    int version; /* v1 to v5 of remotecommand; of port-forward 1 */
    bool base64;
    bool spdy; /* SPDY tunnelled in WebSocket */
};

struct channels_ops {
    const struct channels_protocol *ws, *spdy; /* ended by a NULL name, in no order: the client's counts */
    void (*on_open)(struct channels *c);
    void (*on_channel)(struct channels *c, unsigned channel, struct str data); /* WebSocket: bytes of a channel */
    void (*on_channel_close)(struct channels *c, unsigned channel);            /* v5's close signal */
    void (*on_drain)(struct channels *c);
    void (*on_closed)(struct channels *c); /* last: frees */
    struct spdy_events spdy_events;        /* arg is the struct channels */
};

struct channels {
    const struct channels_ops *ops;
    struct loop *loop;
    struct ws *ws; /* one of the two, or neither before the opening and after the end */
    struct spdy *spdy;
    int version;
    bool base64, tunnel, is_spdy, closing;
    int channel;        /* of the WebSocket message being read, -1: not known yet */
    struct buf message; /* a base64 message being gathered */
};

/* Answers the upgrade, or refuses it; on_open() or on_closed() follows. Takes the exchange's reference. */
void channels_open(struct channels *c, const struct channels_ops *ops, struct http_exchange *x);
void channels_send(struct channels *c, unsigned channel, const void *data, size_t n); /* WebSocket */
void channels_end(struct channels *c);                                                /* goodbye; on_closed() follows */
void channels_pause(struct channels *c, bool pause);
