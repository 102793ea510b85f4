/* The kernel as fuzz_conn.pyx wants it: a clock that stands still until told, small socket buffers, calls that fail on demand,
   and a count of what is open. Included before everything else, so that the core under test calls these; what the harness
   itself does is marked by world_inside == 0 and passes through. */
#ifndef FASTPROXY_FUZZ_WORLD_H
#define FASTPROXY_FUZZ_WORLD_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1
#endif
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum { FAULT_MALLOC, FAULT_SOCKET, FAULT_CONNECT, FAULT_WATCH, FAULT_PIPE, FAULT_ACCEPT, FAULT_EINTR, FAULT_BROKEN, FAULTS };

static uint64_t world_ns;
static int world_inside;             /* the core runs: count, and let faults strike */
static int world_events;             /* what the last epoll_wait reported */
static int world_small;              /* sockets of the core get the smallest send buffer */
static long world_blocks, world_fds; /* what the core holds */
static unsigned world_connects;
static uint32_t world_fault[FAULTS]; /* 0: never, n: the n-th call from here on fails */
static int world_lasts[FAULTS];      /* and all after it */

static int world_strikes(int what)
{
    if (!world_inside || world_fault[what] == 0 || --world_fault[what]) return 0;
    if (world_lasts[what]) world_fault[what] = 1;
    return 1;
}

static int world_clock(struct timespec *ts)
{
    ts->tv_sec = (time_t)(world_ns / 1000000000u);
    ts->tv_nsec = (long)(world_ns % 1000000000u);
    return 0;
}
static int world_wait(int fd, struct epoll_event *events, int most, int ms)
{
    if (world_strikes(FAULT_EINTR)) { world_events = 1; errno = EINTR; return -1; }
    return world_events = epoll_wait(fd, events, most, ms);
}
static void *world_got(void *p) { if (p && world_inside) world_blocks++; return p; }
static void *world_malloc(size_t n) { return world_strikes(FAULT_MALLOC) ? NULL : world_got(malloc(n)); }
static void *world_calloc(size_t n, size_t m) { return world_strikes(FAULT_MALLOC) ? NULL : world_got(calloc(n, m)); }
static void world_free(void *p) { if (p && world_inside) world_blocks--; free(p); }

static int world_fd(int fd)
{
    int least = 1;
    if (fd < 0 || !world_inside) return fd;
    world_fds++;
    if (world_small) setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &least, sizeof(least));
    return fd;
}
static int world_close(int fd)
{
    int r = close(fd);
    if (world_inside) {
        world_fds--;
        if (r) { fprintf(stderr, "violated: what is closed was open\n"); abort(); }
    }
    return r;
}
static int world_socket(int family, int type, int protocol)
{
    if (world_strikes(FAULT_SOCKET)) { errno = EMFILE; return -1; }
    return world_fd(socket(family, type, protocol));
}
static int world_accept(int fd, struct sockaddr *at, socklen_t *n, int flags)
{
    if (world_strikes(FAULT_EINTR)) { errno = EINTR; return -1; }
    if (world_strikes(FAULT_ACCEPT)) { errno = EMFILE; return -1; }
    return world_fd(accept4(fd, at, n, flags));
}
static int world_connect(int fd, const struct sockaddr *at, socklen_t n)
{
    world_connects++;
    if (world_strikes(FAULT_CONNECT)) { errno = EADDRNOTAVAIL; return -1; }
    return connect(fd, at, n);
}
static int world_epoll_ctl(int epfd, int op, int fd, struct epoll_event *event)
{
    if (op == EPOLL_CTL_ADD && world_strikes(FAULT_WATCH)) { errno = ENOSPC; return -1; }
    return epoll_ctl(epfd, op, fd, event);
}
static int world_pipe2(int *fds, int flags)
{
    int r;
    if (world_strikes(FAULT_PIPE)) { errno = EMFILE; return -1; }
    r = pipe2(fds, flags);
    if (r == 0 && world_inside) world_fds += 2;
    return r;
}
static int world_fails(int error)
{
    if (world_strikes(FAULT_EINTR)) { errno = EINTR; return 1; }
    if (world_strikes(FAULT_BROKEN)) { errno = error; return 1; }
    return 0;
}
static ssize_t world_recv(int fd, void *p, size_t n, int flags) { return world_fails(ECONNRESET) ? -1 : recv(fd, p, n, flags); }
static ssize_t world_send(int fd, const void *p, size_t n, int flags) { return world_fails(EPIPE) ? -1 : send(fd, p, n, flags); }
static ssize_t world_sendmsg(int fd, const struct msghdr *m, int flags) { return world_fails(EPIPE) ? -1 : sendmsg(fd, m, flags); }
static ssize_t world_splice(int in, int64_t *i, int out, int64_t *o, size_t n, unsigned flags)
{
    return world_fails(ECONNRESET) ? -1 : splice(in, (loff_t *)i, out, (loff_t *)o, n, flags);
}
static int world_epoll(int flags) { int fd = epoll_create1(flags); if (fd >= 0 && world_inside) world_fds++; return fd; }
static int world_eventfd(unsigned n, int flags) { int fd = eventfd(n, flags); if (fd >= 0 && world_inside) world_fds++; return fd; }
static int world_timerfd(int clock, int flags) { int fd = timerfd_create(clock, flags); if (fd >= 0 && world_inside) world_fds++; return fd; }

/* What a script can say in two bytes (0xFD n). \1: a new mark of the client, \2: the mark of the request at hand. */
static const char *const world_texts[] = {
    "GET /u/\1 HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET /t/\1 HTTP/1.1\r\nHost: a\r\n\r\n",
    "HEAD /u/\1 HTTP/1.1\r\nHost: a\r\n\r\n",
    "POST /u/\1 HTTP/1.1\r\nHost: a\r\nContent-Length: 12\r\n\r\n\1\1",
    "POST /t/\1 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
    "PUT /m/\1 HTTP/1.1\r\nHost: a\r\nContent-Length: 65536\r\n\r\n",
    "POST /u/\1 HTTP/1.1\r\nHost: a\r\nContent-Length: 262144\r\nExpect: 100-continue\r\n\r\n",
    "GET /u/\1 HTTP/1.0\r\n\r\n",
    "GET /u/\1 HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
    "GET /t/\1 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    "GET /u/\1 HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
    "GET /o/\1 HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET /d/\1 HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET /self/\1 HTTP/1.1\r\nHost: a\r\n\r\n",
    "6\r\n\1\r\n",
    "10000\r\n",
    "0\r\n\r\n",
    "0\r\nX-T: 1\r\n\r\n",
    "\r\n",
    "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n\2",
    "HTTP/1.1 200 OK\r\nContent-Length: 6\r\nConnection: close\r\n\r\n\2",
    "HTTP/1.1 200 OK\r\nContent-Length: 65536\r\n\r\n",
    "HTTP/1.1 200 OK\r\nContent-Length: 262144\r\n\r\n",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
    "6\r\n\2\r\n",
    "HTTP/1.1 200 OK\r\n\r\n\2",
    "HTTP/1.0 200 OK\r\nX: \2\r\n\r\n",
    "HTTP/1.1 100 Continue\r\n\r\n",
    "HTTP/1.1 103 Early\r\nX: \2\r\n\r\n",
    "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
    "HTTP/1.1 204 No Content\r\nX: \2\r\n\r\n",
    "HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n",
};
static const char world_echo[] = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n\2";
static const uint64_t world_leaps[] = {1, 10, 100, 999, 1001, 10001, 60001, 300001};
static const int world_n_texts = sizeof(world_texts) / sizeof(world_texts[0]);

#define clock_gettime(which, ts) world_clock(ts)
#define epoll_wait(fd, events, most, ms) world_wait(fd, events, most, ms)
#define malloc(n) world_malloc(n)
#define calloc(n, m) world_calloc(n, m)
#define free(p) world_free(p)
#define socket(family, type, protocol) world_socket(family, type, protocol)
#define accept4(fd, at, n, flags) world_accept(fd, at, n, flags)
#define connect(fd, at, n) world_connect(fd, at, n)
#define close(fd) world_close(fd)
#define epoll_ctl(epfd, op, fd, event) world_epoll_ctl(epfd, op, fd, event)
#define pipe2(fds, flags) world_pipe2(fds, flags)
#define recv(fd, p, n, flags) world_recv(fd, p, n, flags)
#define send(fd, p, n, flags) world_send(fd, p, n, flags)
#define sendmsg(fd, m, flags) world_sendmsg(fd, m, flags)
#define splice(in, i, out, o, n, flags) world_splice(in, i, out, o, n, flags)
#define epoll_create1(flags) world_epoll(flags)
#define eventfd(n, flags) world_eventfd(n, flags)
#define timerfd_create(clock, flags) world_timerfd(clock, flags)
#define timerfd_settime(fd, flags, when, old) 0

/* Python is started once, for the plans; then everything runs without it. */
#ifdef FUZZ_PYTHON
PyMODINIT_FUNC PyInit_fuzz_conn(void);
int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    PyConfig config;
    PyObject *module;
    (void)argc; (void)argv;
    PyImport_AppendInittab("fuzz_conn", PyInit_fuzz_conn);
    PyConfig_InitPythonConfig(&config);
    PyConfig_SetBytesString(&config, &config.program_name, FUZZ_PYTHON);
    config.install_signal_handlers = 0;
    if (PyStatus_Exception(Py_InitializeFromConfig(&config))) abort();
    signal(SIGPIPE, SIG_IGN);       /* as Python has it, when it is started by its own main */
    PyConfig_Clear(&config);
    module = PyImport_ImportModule("fuzz_conn");
    if (module == NULL) { PyErr_Print(); abort(); }
    return 0;
}
#endif
#endif
