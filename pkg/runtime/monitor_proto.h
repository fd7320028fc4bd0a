/*
 * Between the runtime and a monitor: messages of one fixed form on a seqpacket socket, some followed by bytes, some with file
 * descriptors. A message begins with the size of its fixed part as its sender knows it: a newer one has
 * members behind, which an older receiver does not see.
 */
#pragma once

#include "base/base.h"

#define MONITOR_PROTOCOL 1
#define MONITOR_NAME "dory-monitor"
#define MONITOR_ID_MAX 64
#define MONITOR_MESSAGE_MAX KiB(160) /* with the bytes behind */
#define MONITOR_FDS_MAX 4

/* The descriptors a monitor is born with. */
enum { MONITOR_FD_PEER = 3, MONITOR_FD_LISTEN, MONITOR_FD_STATE, MONITOR_FD_DEVICES, MONITOR_FD_END };

enum monitor_type {
    /* to the monitor */
    MONITOR_HELLO = 1, /* answered by WELCOME, then CONTAINER for each */
    MONITOR_START,     /* id; its spec is <id>.spec in the state directory. Answered by STARTED */
    MONITOR_EXEC, /* id, flags, size; argv, each NUL-terminated, behind; fds: stdin, stdout, stderr; EXEC_STARTED */
    MONITOR_EXEC_KILL, /* serial of the exec */
    MONITOR_FORGET,    /* id of an exited container: its exit code was collected */
    /* from the monitor */
    MONITOR_READY = 64,   /* namespaces are there; fd: the network namespace unless the host's */
    MONITOR_WELCOME,      /* pid, count; fds: its own pidfd, the network namespace */
    MONITOR_CONTAINER,    /* id, state, times, exit; fd: pidfd while it runs */
    MONITOR_STARTED,      /* id, code, text, pid, time; fd: pidfd */
    MONITOR_EXITED,       /* id, exit, times */
    MONITOR_EXEC_STARTED, /* serial, code, text; fd: the pty */
    MONITOR_EXEC_EXITED,  /* serial, exit */
};

enum { MONITOR_EXEC_TTY = 1, MONITOR_EXEC_STDIN = 2 };

struct monitor_message {
    uint32_t size; /* of this struct at the sender */
    uint32_t type, serial;
    int32_t code; /* 0 or negative errno */
    int32_t pid, state, exit_code, signal;
    uint32_t oom_killed, count, flags;
    uint16_t width, height;
    int64_t started_ns, finished_ns; /* since the epoch */
    char id[MONITOR_ID_MAX + 8];
    char text[320];
};

/* Sends without blocking; 0 or negative errno. extra and fds may be empty. */
int monitor_send(int fd, struct monitor_message *m, const void *extra, size_t extra_n, const int *fds, size_t fds_n);
/* Size of the message that waits, 0 at the end of the stream, negative errno (-EAGAIN: none). */
ssize_t monitor_pending(int fd);
/*
 * Receives one message into room (>= what monitor_pending() said). *extra points into room. Descriptors beyond those asked
 * for are closed; *fds_n is the number there was room for, and how many came after. -EBADMSG: malformed.
 */
int monitor_receive(int fd, void *room, size_t room_n, struct monitor_message *m, struct str *extra, int *fds,
                    size_t *fds_n);
