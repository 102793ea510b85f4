/* Addresses, sockets and the clock, shared by the three programs of the bench. */
#ifndef BENCH_NET_H
#define BENCH_NET_H
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#ifndef IP_BIND_ADDRESS_NO_PORT
#define IP_BIND_ADDRESS_NO_PORT 24
#endif

typedef struct {
    struct sockaddr_storage sa;
    socklen_t len;
} addr_t;

__attribute__((noreturn, format(printf, 1, 2))) static inline void die(const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    vfprintf(stderr, format, ap);
    va_end(ap);
    fputc('\n', stderr);
    exit(2);
}

static inline uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* "1.2.3.4:port" or "unix:/path" */
static inline addr_t parse_addr(const char *text)
{
    addr_t a;
    memset(&a, 0, sizeof a);
    if (strncmp(text, "unix:", 5) == 0) {
        struct sockaddr_un *un = (struct sockaddr_un *)&a.sa;
        if (strlen(text + 5) >= sizeof un->sun_path)
            die("path too long: %s", text);
        un->sun_family = AF_UNIX;
        strcpy(un->sun_path, text + 5);
        a.len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(text + 5) + 1);
        return a;
    }
    struct sockaddr_in *in = (struct sockaddr_in *)&a.sa;
    const char *colon = strrchr(text, ':');
    char ip[64];
    if (!colon || (size_t)(colon - text) >= sizeof ip)
        die("address must be ip:port or unix:/path, not %s", text);
    memcpy(ip, text, (size_t)(colon - text));
    ip[colon - text] = 0;
    in->sin_family = AF_INET;
    in->sin_port = htons((uint16_t)atoi(colon + 1));
    if (inet_pton(AF_INET, ip, &in->sin_addr) != 1)
        die("not an IPv4 address: %s", ip);
    a.len = sizeof *in;
    return a;
}

static inline void set_nodelay(int fd, const addr_t *a)
{
    int one = 1;
    if (a->sa.ss_family == AF_INET)
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
}

static inline int listen_on(const char *text)
{
    addr_t a = parse_addr(text);
    int one = 1, fd = socket(a.sa.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        die("socket: %s", strerror(errno));
    if (a.sa.ss_family == AF_UNIX)
        unlink(text + 5);
    else
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(fd, (struct sockaddr *)&a.sa, a.len) || listen(fd, 4096))
        die("listen on %s: %s", text, strerror(errno));
    if (a.sa.ss_family == AF_UNIX) {
        /* proxies started as root drop to another user */
        chmod(text + 5, 0777);
    }
    return fd;
}

/* Starts a non-blocking connect; returns the fd, or -1 with errno. */
static inline int dial(const addr_t *to, const addr_t *from)
{
    int one = 1, fd = socket(to->sa.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -1;
    set_nodelay(fd, to);
    if (from) {
        setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof one);
        if (bind(fd, (const struct sockaddr *)&from->sa, from->len)) {
            close(fd);
            return -1;
        }
    }
    if (connect(fd, (const struct sockaddr *)&to->sa, to->len) && errno != EINPROGRESS) {
        int e = errno;
        close(fd);
        errno = e;
        return -1;
    }
    return fd;
}

static inline void raise_fd_limit(void)
{
    struct rlimit r;
    if (getrlimit(RLIMIT_NOFILE, &r) == 0) {
        r.rlim_cur = r.rlim_max;
        setrlimit(RLIMIT_NOFILE, &r);
    }
}

/* The empty line that ends a head: a pointer to its "\r\n\r\n", or NULL. */
static inline char *head_end(const char *p, size_t n)
{
    const char *end = p + n;
    for (const char *nl = p; (nl = memchr(nl, '\n', (size_t)(end - nl))); nl++)
        if (end - nl > 2 && nl[1] == '\r' && nl[2] == '\n' && nl > p)
            return (char *)nl - 1;
    return NULL;
}

/* The value of content-length in a head, or -1. `close_it` is set when the head says "connection: close". */
static inline int64_t read_head(const char *head, size_t n, int *close_it)
{
    int64_t length = -1;
    const char *p = head, *end = head + n;
    *close_it = 0;
    while (p < end) {
        const char *nl = memchr(p, '\n', (size_t)(end - p));
        size_t line = (size_t)((nl ? nl : end) - p);
        if (line > 15 && (p[0] | 32) == 'c') {
            if (strncasecmp(p, "content-length:", 15) == 0) {
                const char *q = p + 15;
                while (*q == ' ')
                    q++;
                length = 0;
                while (*q >= '0' && *q <= '9')
                    length = length * 10 + (*q++ - '0');
            } else if (strncasecmp(p, "connection:", 11) == 0) {
                const char *q = p + 11;
                while (*q == ' ')
                    q++;
                if (strncasecmp(q, "close", 5) == 0)
                    *close_it = 1;
            }
        } else if (line > 17 && (p[0] | 32) == 't' && strncasecmp(p, "transfer-encoding:", 18) == 0)
            return -2;
        if (!nl)
            break;
        p = nl + 1;
    }
    return length;
}
#endif
