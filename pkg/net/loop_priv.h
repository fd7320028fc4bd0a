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

/* Two buffers a loop lends to whoever runs on it, for the length of one callback: made on first use. */
#define LOOP_SCRATCH_BYTES KiB(64)
char *loop_scratch_in(struct loop *l);
char *loop_scratch_out(struct loop *l);

bool loop_is_current(const struct loop *l);
