/* The kernel as fuzz_conn.pyx wants it: a clock that stands still until told, small socket buffers, and calls that fail on
   demand. Included before everything else, so that the core under test calls these. */
#ifndef FASTPROXY_FUZZ_WORLD_H
#define FASTPROXY_FUZZ_WORLD_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1
#endif
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { FAULT_MALLOC, FAULT_SOCKET, FAULT_WATCH, FAULT_PIPE, FAULT_RECV, FAULT_SEND, FAULTS };

static uint64_t world_ns;
static int world_events;            /* what the last epoll_wait reported */
static int world_small;             /* sockets of the core get the smallest send buffer */
static int world_inside;            /* faults strike in the core alone */
static uint32_t world_fault[FAULTS];/* 0: never, n: the n-th call from here on fails, once */

static inline int world_strikes(int what)
{
    return world_inside && world_fault[what] && --world_fault[what] == 0;
}

static inline int world_clock(clockid_t which, struct timespec *ts)
{
    (void)which;
    ts->tv_sec = (time_t)(world_ns / 1000000000u);
    ts->tv_nsec = (long)(world_ns % 1000000000u);
    return 0;
}
static inline int world_wait(int fd, struct epoll_event *events, int most, int ms)
{
    world_events = epoll_wait(fd, events, most, ms);
    return world_events;
}
static inline void world_shrink(int fd)
{
    int least = 1;
    setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &least, sizeof(least));
}
static inline void *world_malloc(size_t n) { return world_strikes(FAULT_MALLOC) ? NULL : malloc(n); }
static inline void *world_calloc(size_t n, size_t m) { return world_strikes(FAULT_MALLOC) ? NULL : calloc(n, m); }
static inline int world_socket(int family, int type, int protocol)
{
    int fd;
    if (world_strikes(FAULT_SOCKET)) { errno = EMFILE; return -1; }
    fd = socket(family, type, protocol);
    if (fd >= 0 && world_small && world_inside) world_shrink(fd);
    return fd;
}
static inline int world_epoll_ctl(int epfd, int op, int fd, struct epoll_event *event)
{
    if (op == EPOLL_CTL_ADD && world_strikes(FAULT_WATCH)) { errno = ENOSPC; return -1; }
    return epoll_ctl(epfd, op, fd, event);
}
static inline int world_pipe2(int *fds, int flags)
{
    if (world_strikes(FAULT_PIPE)) { errno = EMFILE; return -1; }
    return pipe2(fds, flags);
}
static inline ssize_t world_recv(int fd, void *p, size_t n, int flags)
{
    if (world_strikes(FAULT_RECV)) { errno = EINTR; return -1; }
    return recv(fd, p, n, flags);
}
static inline ssize_t world_send(int fd, const void *p, size_t n, int flags)
{
    if (world_strikes(FAULT_SEND)) { errno = EINTR; return -1; }
    return send(fd, p, n, flags);
}

#define clock_gettime(which, ts) world_clock(which, ts)
#define epoll_wait(fd, events, most, ms) world_wait(fd, events, most, ms)
#define malloc(n) world_malloc(n)
#define calloc(n, m) world_calloc(n, m)
#define socket(family, type, protocol) world_socket(family, type, protocol)
#define epoll_ctl(epfd, op, fd, event) world_epoll_ctl(epfd, op, fd, event)
#define pipe2(fds, flags) world_pipe2(fds, flags)
#define recv(fd, p, n, flags) world_recv(fd, p, n, flags)
#define send(fd, p, n, flags) world_send(fd, p, n, flags)

#endif
