/* The floor: the least that forwarding costs here. It checks nothing, times nothing out and counts nothing.
 *
 *   floor tcp|splice|http LISTEN UPSTREAM ...
 *
 * One thread, edge-triggered epoll, one 64 KiB scratch. `tcp` copies through the scratch, `splice` moves pages through
 * a 1 MiB pipe, `http` is a reverse forwarder over pooled upstream conns that knows content-length and
 * "connection: close" and nothing else. */
#include "net.h"

enum { TCP, SPLICE, HTTP };
enum { SCRATCH = 64 << 10, PIPE = 1 << 20 };

typedef struct listener {
    int fd, mode;
    addr_t upstream;
    struct conn *pool;
} listener_t;

typedef struct conn {
    int fd, listening, upstream, dead, connected, close_after;
    listener_t *listener;
    struct conn *other, *next;  /* next: in the pool, or among the dead of this turn */
    char *held;                 /* bytes that are to go to this conn, or (http, downstream) input that waits */
    size_t held_n, held_at;
    char *input;
    size_t input_n;
    uint64_t left;              /* http: body bytes of the current message still to come from this conn */
    int busy;                   /* http: a message from this conn is under way */
    int stalled;                /* reading from this conn stopped, and there may be more to read */
    int pipe[2];
    size_t in_pipe;
    int eof, shut;
} conn_t;

static int ep;
static conn_t *dead;
static char scratch[SCRATCH];

static void on_downstream(conn_t *c);
static void on_upstream(conn_t *c);

static conn_t *new_conn(int fd, listener_t *l, int upstream)
{
    conn_t *c = calloc(1, sizeof *c);
    c->fd = fd;
    c->listener = l;
    c->upstream = upstream;
    c->pipe[0] = -1;
    struct epoll_event ev = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, .data.ptr = c};
    epoll_ctl(ep, EPOLL_CTL_ADD, fd, &ev);
    return c;
}

static void drop(conn_t *c)
{
    if (c->dead)
        return;
    c->dead = 1;
    if (c->upstream && c->listener->mode == HTTP)
        for (conn_t **p = &c->listener->pool; *p; p = &(*p)->next)
            if (*p == c) {
                *p = c->next;
                break;
            }
    close(c->fd);
    if (c->pipe[0] >= 0) {
        close(c->pipe[0]);
        close(c->pipe[1]);
    }
    if (c->other) {
        conn_t *o = c->other;
        c->other = o->other = NULL;
        drop(o);
    }
    c->next = dead;
    dead = c;
}

/* Sends to a conn, holding what does not fit. -1: broken, 0: some is held, 1: all sent. */
static int put(conn_t *to, const char *p, size_t n)
{
    if (!to->held_n) {
        while (n) {
            ssize_t w = send(to->fd, p, n, MSG_NOSIGNAL);
            if (w < 0) {
                if (errno == EAGAIN)
                    break;
                return -1;
            }
            p += w;
            n -= (size_t)w;
        }
        if (!n)
            return 1;
        to->held_at = 0;
    }
    to->held = realloc(to->held, to->held_at + to->held_n + n);
    memcpy(to->held + to->held_at + to->held_n, p, n);
    to->held_n += n;
    return 0;
}

static int flush(conn_t *to)
{
    while (to->held_n) {
        ssize_t w = send(to->fd, to->held + to->held_at, to->held_n, MSG_NOSIGNAL);
        if (w < 0)
            return errno == EAGAIN ? 0 : -1;
        to->held_at += (size_t)w;
        to->held_n -= (size_t)w;
    }
    return 1;
}

/* --- tcp and splice --- */
static void shut_other(conn_t *c)
{
    if (c->eof && !c->in_pipe && !c->other->held_n && !c->shut) {
        c->shut = 1;
        shutdown(c->other->fd, SHUT_WR);
        if (c->other->shut)
            drop(c);
    }
}

static void pump(conn_t *c)
{
    conn_t *o = c->other;
    while (!c->eof && !o->held_n) {
        ssize_t n = recv(c->fd, scratch, SCRATCH, 0);
        if (n < 0) {
            if (errno != EAGAIN)
                drop(c);
            return;
        }
        if (n == 0)
            c->eof = 1;
        else if (put(o, scratch, (size_t)n) < 0) {
            drop(c);
            return;
        } else if (n < SCRATCH)
            return;
    }
    shut_other(c);
}

static void pump_pipe(conn_t *c)
{
    conn_t *o = c->other;
    if (c->pipe[0] < 0) {
        if (pipe2(c->pipe, O_NONBLOCK | O_CLOEXEC)) {
            drop(c);
            return;
        }
        fcntl(c->pipe[1], F_SETPIPE_SZ, PIPE);
    }
    for (;;) {
        int moved = 0, starved = 0;
        if (!c->eof && c->in_pipe < PIPE) {
            ssize_t n = splice(c->fd, NULL, c->pipe[1], NULL, PIPE, SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
            if (n == 0)
                c->eof = 1;
            else if (n > 0) {
                c->in_pipe += (size_t)n;
                moved = 1;
            } else if (errno == EAGAIN)
                starved = 1;
            else {
                drop(c);
                return;
            }
        }
        if (c->in_pipe) {
            ssize_t n = splice(c->pipe[0], NULL, o->fd, NULL, c->in_pipe, SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
            if (n > 0) {
                c->in_pipe -= (size_t)n;
                moved = 1;
            } else if (errno != EAGAIN) {
                drop(c);
                return;
            } else if (!moved || starved)
                break;
        } else if (!moved)
            break;
    }
    shut_other(c);
}

static void on_tcp(conn_t *c, uint32_t events)
{
    conn_t *o = c->other;
    void (*move)(conn_t *) = c->listener->mode == SPLICE ? pump_pipe : pump;
    if (!o)
        return;
    if (events & EPOLLOUT) {
        int waited = c->held_n > 0 || o->in_pipe || !c->connected, f = flush(c);
        if (f < 0) {
            drop(c);
            return;
        }
        c->connected = 1;
        if (f && waited && o->connected)
            move(o);
    }
    if (!c->dead && c->other && o->connected && (events & (EPOLLIN | EPOLLRDHUP)))
        move(c);
}

/* --- http --- */
static void dial_upstream(conn_t *d)
{
    listener_t *l = d->listener;
    conn_t *u = l->pool;
    if (u)
        l->pool = u->next;
    else {
        int fd = dial(&l->upstream, NULL);
        if (fd < 0) {
            drop(d);
            return;
        }
        u = new_conn(fd, l, 1);
    }
    u->next = NULL;
    u->other = d;
    d->other = u;
}

/* Forwards what belongs to the current request; returns the bytes taken. */
static size_t take_request(conn_t *d, char *p, size_t n)
{
    size_t k;
    if (!d->busy) {
        char *end = head_end(p, n);
        if (!end)
            return 0;
        size_t head = (size_t)(end + 4 - p);
        int64_t body = read_head(p, head - 2, &d->close_after);
        if (d->close_after) {   /* the upstream conn stays */
            char *v = memmem(p, head, "close\r\n", 7);
            if (v)
                memcpy(v, "kept ", 5);
        }
        dial_upstream(d);
        if (d->dead)
            return n;
        d->busy = 1;
        d->left = body > 0 ? (uint64_t)body : 0;
        k = n - head < d->left ? n - head : (size_t)d->left;
        d->left -= k;
        k += head;
    } else {
        k = n < d->left ? n : (size_t)d->left;
        d->left -= k;
    }
    if (k) {
        int r = d->other->connected ? put(d->other, p, k) : -2;
        if (r == -2) {          /* still connecting: hold it */
            conn_t *u = d->other;
            u->held = realloc(u->held, u->held_n + k);
            u->held_at = 0;
            memcpy(u->held + u->held_n, p, k);
            u->held_n += k;
        } else if (r < 0)
            drop(d);
    }
    return k;
}

static void on_downstream(conn_t *d)
{
    int drained = 0;
    while (!d->dead) {
        if (d->busy && d->left == 0) {
            d->stalled = !drained || d->input_n;    /* the next request waits for this one's answer */
            return;
        }
        if (d->other && d->other->held_n) {
            d->stalled = 1;
            return;
        }
        d->stalled = 0;
        if (drained && !d->input_n)
            return;
        if (d->input_n) {
            size_t k = take_request(d, d->input, d->input_n);
            if (d->dead)
                return;
            d->input_n -= k;
            memmove(d->input, d->input + k, d->input_n);
            if (k)
                continue;
        }
        if (d->input_n >= SCRATCH) {
            drop(d);
            return;
        }
        size_t room = SCRATCH - d->input_n;
        ssize_t n = recv(d->fd, d->input_n ? d->input + d->input_n : scratch, room, 0);
        if (n < 0 && errno == EAGAIN)
            return;
        if (n <= 0) {
            drop(d);
            return;
        }
        drained = (size_t)n < room;
        if (d->input_n) {
            d->input_n += (size_t)n;
            continue;
        }
        size_t k = take_request(d, scratch, (size_t)n);
        if (d->dead)
            return;
        if (k < (size_t)n) {
            if (!d->input)
                d->input = malloc(SCRATCH);
            d->input_n = (size_t)n - k;
            memcpy(d->input, scratch + k, d->input_n);
        }
    }
}

static void on_upstream(conn_t *u)
{
    conn_t *d = u->other;
    for (;;) {
        if (!d) {
            char c;             /* idle in the pool: only an end can come */
            if (recv(u->fd, &c, 1, 0) != -1 || errno != EAGAIN)
                drop(u);
            return;
        }
        if (d->held_n) {
            u->stalled = 1;
            return;
        }
        u->stalled = 0;
        size_t room = SCRATCH - u->input_n;
        ssize_t n = recv(u->fd, scratch + u->input_n, room, 0);
        if (n < 0 && errno == EAGAIN)
            return;
        if (n <= 0) {
            drop(u);
            return;
        }
        char *p = scratch;
        size_t got = (size_t)n + u->input_n;
        if (!u->busy) {
            if (u->input_n)
                memcpy(scratch, u->input, u->input_n);
            char *end = head_end(p, got);
            if (!end) {
                u->input = realloc(u->input, SCRATCH);
                memcpy(u->input, p, got);
                u->input_n = got;
                continue;
            }
            u->input_n = 0;
            int unused;
            int64_t body = read_head(p, (size_t)(end + 2 - p), &unused);
            u->left = (body > 0 ? (uint64_t)body : 0) + (uint64_t)(end + 4 - p);
            u->busy = 1;
        }
        if (got > u->left) {
            drop(u);
            return;
        }
        u->left -= got;
        int r = put(d, p, got);
        if (r < 0) {
            drop(u);
            return;
        }
        if (u->left == 0) {
            u->busy = 0;
            u->other = d->other = NULL;
            u->next = u->listener->pool;
            u->listener->pool = u;
            d->busy = 0;
            if (d->close_after && r == 1) {
                drop(d);
                return;
            }
            if (d->stalled && (r == 1 || !d->close_after))
                on_downstream(d);
            return;
        }
        if ((size_t)n < room)
            return;
    }
}

static void on_http(conn_t *c, uint32_t events)
{
    c->connected = 1;
    if ((events & EPOLLOUT) && c->held_n) {
        int f = flush(c);
        if (f < 0) {
            drop(c);
            return;
        }
        if (f) {
            if (!c->upstream && c->close_after && !c->busy) {
                drop(c);
                return;
            }
            if (c->other && c->other->stalled) {
                if (c->upstream)
                    on_downstream(c->other);
                else
                    on_upstream(c->other);
            }
        }
    }
    if (!c->dead && (events & (EPOLLIN | EPOLLRDHUP))) {
        if (c->upstream)
            on_upstream(c);
        else
            on_downstream(c);
    }
}

static void on_accept(conn_t *a)
{
    listener_t *l = a->listener;
    for (;;) {
        int fd = accept4(l->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC), one = 1;
        if (fd < 0)
            return;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        conn_t *d = new_conn(fd, l, 0);
        if (l->mode == HTTP)
            continue;
        int ufd = dial(&l->upstream, NULL);
        if (ufd < 0) {
            drop(d);
            continue;
        }
        d->other = new_conn(ufd, l, 1);
        d->other->other = d;
    }
}

int main(int argc, char **argv)
{
    raise_fd_limit();
    signal(SIGPIPE, SIG_IGN);
    ep = epoll_create1(EPOLL_CLOEXEC);
    if (argc < 4 || (argc - 1) % 3)
        die("usage: floor tcp|splice|http LISTEN UPSTREAM ...");
    for (int i = 1; i + 2 < argc; i += 3) {
        listener_t *l = calloc(1, sizeof *l);
        conn_t *a = calloc(1, sizeof *a);
        l->mode = argv[i][0] == 't' ? TCP : argv[i][0] == 's' ? SPLICE : HTTP;
        l->fd = listen_on(argv[i + 1]);
        l->upstream = parse_addr(argv[i + 2]);
        a->listening = 1;
        a->listener = l;
        struct epoll_event ev = {.events = EPOLLIN, .data.ptr = a};
        epoll_ctl(ep, EPOLL_CTL_ADD, l->fd, &ev);
    }
    puts("ready");
    fflush(stdout);
    struct epoll_event events[256];
    for (;;) {
        int n = epoll_wait(ep, events, 256, -1);
        for (int i = 0; i < n; i++) {
            conn_t *c = events[i].data.ptr;
            if (c->dead)
                continue;
            if (c->listening)
                on_accept(c);
            else if (events[i].events & (EPOLLERR | EPOLLHUP) && !(events[i].events & EPOLLIN))
                drop(c);
            else if (c->listener->mode == HTTP)
                on_http(c, events[i].events);
            else
                on_tcp(c, events[i].events);
        }
        while (dead) {          /* freed after the batch: later events of it may name them */
            conn_t *c = dead;
            dead = c->next;
            free(c->held);
            free(c->input);
            free(c);
        }
    }
}
