/* What the other files of pkg/net may ask of a loop beyond loop.h. All of it on the loop's thread only. */
#pragma once

#include "net/loop.h"

/*
 * Work for the end of the current turn of the loop, before it sleeps: what one turn wrote to a connection leaves in one
 * system call. Embedded in its owner; adding one that waits already changes nothing.
 */
struct loop_flush {
    struct list link;
    loop_fn fn;
    void *arg;
};
void loop_flush_init(struct loop_flush *f, loop_fn fn, void *arg);
void loop_flush_add(struct loop *l, struct loop_flush *f);
void loop_flush_cancel(struct loop_flush *f);

/* Memory a loop keeps for whoever runs on it, released with free() at its end. */
enum loop_slot {
    LOOP_RECEIVED, /* buffers of LOOP_SCRATCH_BYTES, lent for the length of one callback: bytes off a socket, */
    LOOP_PLAIN,    /* bytes in clear, */
    LOOP_SENDING,  /* bytes for a socket */
    LOOP_TLS_IN,   /* record buffers waiting for the next connection that needs them */
    LOOP_TLS_OUT,
    LOOP_DATE, /* the Date header of this second */
    LOOP_SLOT_MAX
};
#define LOOP_SCRATCH_BYTES KiB(64)
void **loop_slot(struct loop *l, enum loop_slot slot);
char *loop_scratch(struct loop *l, enum loop_slot slot); /* made on first use */

/* The loop's time, monotonic ms, as of the start of this turn: no system call. */
int64_t loop_now_ms(struct loop *l);
