/* The origin behind every proxy: answers /N with N bytes, echoes, or streams without end. One thread, edge-triggered epoll.
 *
 *   origin http=ADDRESS ... echo=ADDRESS ... stream=ADDRESS ...
 *
 * Prints "ready" when it listens. The last number of the path is the length of the body that comes back, so
 * /r0042/128 is 128 bytes too. A request whose framing it does not know (chunked) is answered with 500, which the load
 * generator counts as an error. */
#include "net.h"

enum { HTTP = 1, ECHO, STREAM };
enum { INPUT_MAX = 64 << 10, BODY_MAX = 16 << 20, SIZES = 16 };

typedef struct {
    int fd, kind, listening;
    uint64_t skip;              /* request body bytes still to come */
    char *input;                /* partial head, or pipelined requests held while output waits */
    size_t input_n;
    const char *output;         /* response being sent, NULL when none waits */
    size_t output_n;
    int close_after, eof;
} conn_t;

typedef struct {
    int64_t body;
    size_t n;
    char *bytes;
} response_t;

static response_t responses[SIZES];
static int n_responses, ep;
static char scratch[256 << 10], stream_bytes[256 << 10];
static const char failed[] = "HTTP/1.1 500 Not Understood\r\nContent-Length: 0\r\n\r\n";

static response_t *response_of(int64_t body)
{
    for (int i = 0; i < n_responses; i++)
        if (responses[i].body == body)
            return &responses[i];
    if (n_responses == SIZES || body < 0 || body > BODY_MAX)
        return NULL;
    response_t *r = &responses[n_responses++];
    r->body = body;
    r->bytes = malloc((size_t)body + 512);
    int head = sprintf(r->bytes,
                       "HTTP/1.1 200 OK\r\nServer: origin\r\nDate: Thu, 01 Jan 2026 00:00:00 GMT\r\n"
                       "Content-Type: application/octet-stream\r\nContent-Length: %lld\r\n\r\n", (long long)body);
    for (int64_t i = 0; i < body; i++)
        r->bytes[head + i] = (char)('a' + i % 26);
    r->n = (size_t)(head + body);
    return r;
}

static void drop(conn_t *c)
{
    close(c->fd);
    free(c->input);
    free(c);
}

/* Sends what waits. 1: all sent, 0: the socket is full, -1: broken. */
static int flush(conn_t *c)
{
    while (c->output) {
        ssize_t w = send(c->fd, c->output, c->output_n, MSG_NOSIGNAL);
        if (w < 0)
            return errno == EAGAIN ? 0 : -1;
        c->output += w;
        c->output_n -= (size_t)w;
        if (c->output_n == 0)
            c->output = NULL;
    }
    return 1;
}

/* Consumes whole requests of p[0:n]; returns the bytes taken, or -1 to close. Stops when output waits. */
static ssize_t take_requests(conn_t *c, const char *p, size_t n)
{
    size_t at = 0;
    while (at < n && !c->output) {
        const char *head = p + at, *end = head_end(head, n - at);
        if (!end)
            break;
        int64_t length = read_head(head, (size_t)(end - head), &c->close_after);
        const char *eol = memchr(head, '\r', (size_t)(end + 1 - head)), *q = eol - 9;
        int64_t body = 0, scale = 1;
        while (q > head && q[-1] >= '0' && q[-1] <= '9') {
            body += (*--q - '0') * scale;
            scale *= 10;
        }
        response_t *r = length == -2 ? NULL : response_of(body);
        c->output = r ? r->bytes : failed;
        c->output_n = r ? r->n : sizeof failed - 1;
        at += (size_t)(end + 4 - head);
        c->skip = length > 0 ? (uint64_t)length : 0;
        if (c->skip) {      /* answer when the body is in: the answer waits in c->output meanwhile */
            size_t k = n - at < c->skip ? n - at : (size_t)c->skip;
            c->skip -= k;
            at += k;
            if (c->skip)
                break;
        }
        if (flush(c) < 0 || (!c->output && c->close_after))
            return -1;
    }
    return (ssize_t)at;
}

static int on_http(conn_t *c)
{
    for (;;) {
        if (c->output && c->skip == 0) {
            int f = flush(c);
            if (f <= 0)
                return f;
            if (c->close_after)
                return -1;
        }
        if (c->input_n) {
            ssize_t k = 0;
            if (c->skip && c->output) {
                k = (ssize_t)(c->input_n < c->skip ? c->input_n : c->skip);
                c->skip -= (uint64_t)k;
            } else
                k = take_requests(c, c->input, c->input_n);
            if (k < 0)
                return -1;
            c->input_n -= (size_t)k;
            memmove(c->input, c->input + k, c->input_n);
            if (k)
                continue;
        }
        if (c->input_n >= INPUT_MAX)
            return -1;
        char *to = c->input_n ? c->input + c->input_n : scratch;
        ssize_t n = recv(c->fd, to, c->input_n ? INPUT_MAX - c->input_n : INPUT_MAX, 0);
        if (n == 0)
            return -1;
        if (n < 0)
            return errno == EAGAIN ? 0 : -1;
        if (c->input_n) {
            c->input_n += (size_t)n;
            continue;
        }
        ssize_t k = 0;
        if (c->skip && c->output) {
            k = (uint64_t)n < c->skip ? n : (ssize_t)c->skip;
            c->skip -= (uint64_t)k;
            if (c->skip == 0) {
                int f = flush(c);
                if (f < 0 || (f && c->close_after))
                    return -1;
            }
        }
        if (!(c->skip && c->output)) {
            ssize_t more = take_requests(c, scratch + k, (size_t)(n - k));
            if (more < 0)
                return -1;
            k += more;
        }
        if (k < n) {
            if (!c->input)
                c->input = malloc(INPUT_MAX);
            c->input_n = (size_t)(n - k);
            memcpy(c->input, scratch + k, c->input_n);
        } else if (n < INPUT_MAX && !c->output)
            return 0;
    }
}

static int on_echo(conn_t *c)
{
    for (;;) {
        ssize_t n = recv(c->fd, scratch, sizeof scratch, 0);
        if (n == 0)
            return -1;
        if (n < 0)
            return errno == EAGAIN ? 0 : -1;
        if (send(c->fd, scratch, (size_t)n, MSG_NOSIGNAL) != n)
            return -1;          /* request/response traffic never fills a socket */
        if ((size_t)n < sizeof scratch)
            return 0;
    }
}

static int on_stream(conn_t *c, uint32_t events)
{
    if (events & EPOLLIN) {
        ssize_t n = recv(c->fd, scratch, sizeof scratch, 0);
        if (n == 0)
            return -1;
    }
    for (int i = 0; i < 64; i++) {
        ssize_t w = send(c->fd, stream_bytes, sizeof stream_bytes, MSG_NOSIGNAL);
        if (w < 0)
            return errno == EAGAIN ? 0 : -1;
        if ((size_t)w < sizeof stream_bytes)
            return 0;
    }
    /* fairness: come back to this conn through the event loop */
    struct epoll_event ev = {.events = EPOLLIN | EPOLLOUT | EPOLLET, .data.ptr = c};
    epoll_ctl(ep, EPOLL_CTL_MOD, c->fd, &ev);
    return 0;
}

static void on_accept(conn_t *l)
{
    for (;;) {
        int fd = accept4(l->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC), one = 1;
        if (fd < 0)
            return;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        conn_t *c = calloc(1, sizeof *c);
        c->fd = fd;
        c->kind = l->kind;
        struct epoll_event ev = {.events = EPOLLIN | EPOLLOUT | EPOLLET, .data.ptr = c};
        if (epoll_ctl(ep, EPOLL_CTL_ADD, fd, &ev))
            drop(c);
    }
}

int main(int argc, char **argv)
{
    raise_fd_limit();
    signal(SIGPIPE, SIG_IGN);
    ep = epoll_create1(EPOLL_CLOEXEC);
    memset(stream_bytes, 'x', sizeof stream_bytes);
    for (int i = 1; i < argc; i++) {
        conn_t *l = calloc(1, sizeof *l);
        char *value = strchr(argv[i], '=');
        if (!value)
            die("usage: origin http=ADDRESS echo=ADDRESS stream=ADDRESS ...");
        l->kind = argv[i][0] == 'h' ? HTTP : argv[i][0] == 'e' ? ECHO : STREAM;
        l->listening = 1;
        l->fd = listen_on(value + 1);
        struct epoll_event ev = {.events = EPOLLIN, .data.ptr = l};
        epoll_ctl(ep, EPOLL_CTL_ADD, l->fd, &ev);
    }
    puts("ready");
    fflush(stdout);
    struct epoll_event events[256];
    for (;;) {
        int n = epoll_wait(ep, events, 256, -1);
        for (int i = 0; i < n; i++) {
            conn_t *c = events[i].data.ptr;
            int r = 0;
            if (c->listening)
                on_accept(c);
            else if (events[i].events & (EPOLLERR))
                r = -1;
            else if (c->kind == HTTP)
                r = on_http(c);
            else if (c->kind == ECHO)
                r = on_echo(c);
            else
                r = on_stream(c, events[i].events);
            if (r < 0)
                drop(c);
        }
    }
}
