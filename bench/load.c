/* The load generator: one thread, edge-triggered epoll, counters in a shared file that the bench reads while it runs.
 *
 *   load http|rr|bulk|idle ADDRESS key=value ...
 *
 *   http   closed loop (conns x depth outstanding), or open loop with rate=R requests a second
 *   rr     TCP request/response of body= bytes against an echo
 *   bulk   TCP, reads all that comes
 *   idle   opens conns, one request on each, then holds them
 *
 * conns= depth= method= path=A,B,... body=BYTES (request) expect=BYTES (response body)
 * fresh=1 (a conn per request, which the load closes), fresh=2 (the request says "connection: close")
 * rate= count= (stop after so many) seconds= (a bound, 120) sources=K (local addresses 127.0.0.1-K) shared=FILE.
 *
 * Every response must be 200 with the expected length, else it is an error, and the first error's text is kept. */
#include "net.h"

enum { SCRATCH = 256 << 10, HEAD_MAX = 8 << 10, DEPTH_MAX = 64, BUCKETS = 4096 };
enum { CONNECTING, RUNNING, DONE };

typedef struct {
    uint64_t version, phase, requests, bytes, errors, open_conns, backlog_max, reserved[9];
    char error[256];
    uint8_t pad[4096 - 16 * 8 - 256];
    uint64_t latency[BUCKETS];  /* 32 to the octave of nanoseconds: see bucket_of */
} shared_t;

typedef struct conn {
    int fd, connected, outstanding, slot;
    uint64_t left;              /* response body bytes still to come */
    int in_body;
    size_t head_n;              /* partial head in `head` */
    char *head;
    const char *unsent;
    size_t unsent_n;
    uint64_t intended_ns;       /* open loop: when its request was due */
    struct conn *next_free;
    int done_one, wait_eof;
} conn_t;

static shared_t *out;
static int ep, mode_rr, mode_bulk, mode_idle, fresh, depth = 1, n_conns = 64, n_requests, sources = 1, connecting;
static char *requests[64], scratch[SCRATCH];
static size_t request_n[64];
static uint64_t expect = 128, count, issued, rate, started_ns, next_due, turn;
static addr_t target;
static conn_t *conns, *free_conns;
static int opened;

static void fail(const char *format, ...)
{
    va_list ap;
    if (out->errors++ == 0) {
        va_start(ap, format);
        vsnprintf(out->error, sizeof out->error, format, ap);
        va_end(ap);
    }
}

static unsigned bucket_of(uint64_t ns)
{
    if (ns < 64)
        return (unsigned)ns;
    unsigned top = 63 - (unsigned)__builtin_clzll(ns), b = (top - 5) * 32 + (unsigned)(ns >> (top - 5));
    return b < BUCKETS ? b : BUCKETS - 1;
}

static int open_conn(conn_t *c)
{
    addr_t from = target;
    if (sources > 1) {
        struct sockaddr_in *in = (struct sockaddr_in *)&from.sa;
        in->sin_addr.s_addr = htonl(0x7f000001u + (uint32_t)(turn++ % (uint64_t)sources));
        in->sin_port = 0;
    }
    c->fd = dial(&target, sources > 1 ? &from : NULL);
    if (c->fd < 0) {
        fail("connect: %s", strerror(errno));
        return -1;
    }
    c->connected = c->outstanding = c->in_body = c->wait_eof = 0;
    c->left = c->head_n = 0;
    c->unsent = NULL;
    struct epoll_event ev = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, .data.ptr = c};
    epoll_ctl(ep, EPOLL_CTL_ADD, c->fd, &ev);
    out->open_conns++;
    connecting++;
    return 0;
}

static void close_conn(conn_t *c)
{
    if (c->fd < 0)
        return;
    if (!c->connected)
        connecting--;
    close(c->fd);
    c->fd = -1;
    out->open_conns--;
}

static int flush(conn_t *c)
{
    while (c->unsent) {
        ssize_t w = send(c->fd, c->unsent, c->unsent_n, MSG_NOSIGNAL);
        if (w < 0)
            return errno == EAGAIN ? 0 : -1;
        c->unsent += w;
        c->unsent_n -= (size_t)w;
        if (!c->unsent_n)
            c->unsent = NULL;
    }
    return 1;
}

/* Sends up to k requests, as far as the count and the depth allow. */
static int send_requests(conn_t *c, int k)
{
    if (c->unsent)
        return 0;
    if (c->outstanding + k > depth)
        k = depth - c->outstanding;
    if (count && issued + (uint64_t)k > count)
        k = (int)(count - issued);
    if (k <= 0)
        return 0;
    int i = n_requests == 1 ? 0 : (int)(turn++ % (uint64_t)n_requests);
    c->unsent = requests[i];
    c->unsent_n = request_n[i] * (size_t)k;
    c->outstanding += k;
    issued += (uint64_t)k;
    return flush(c) < 0 ? -1 : 0;
}

static void on_response(conn_t *c)
{
    c->outstanding--;
    out->requests++;
    if (rate) {
        uint64_t t = now_ns();
        out->latency[bucket_of(t > c->intended_ns ? t - c->intended_ns : 0)]++;
        c->next_free = free_conns;
        free_conns = c;
    }
    if (mode_idle)
        c->done_one = 1;
}

/* Feeds received bytes; -1 when an answer is wrong. p may be NULL for body bytes that were dropped unread. */
static int on_bytes(conn_t *c, const char *p, size_t n)
{
    out->bytes += n;
    if (mode_rr) {
        while (n) {
            if (c->outstanding == 0) {
                fail("bytes that nobody asked for");
                return -1;
            }
            size_t k = n < expect - c->left ? n : (size_t)(expect - c->left);
            c->left += k;
            n -= k;
            if (c->left == expect) {
                c->left = 0;
                on_response(c);
            }
        }
        return 0;
    }
    while (n) {
        if (c->in_body) {
            size_t k = n < c->left ? n : (size_t)c->left;
            c->left -= k;
            n -= k;
            if (p)
                p += k;
            if (c->left == 0) {
                c->in_body = 0;
                on_response(c);
            }
            continue;
        }
        const char *head = p, *end;
        size_t head_n = n;
        if (c->outstanding == 0) {
            fail("a response that nobody asked for");
            return -1;
        }
        if (c->head_n) {
            size_t k = n < HEAD_MAX - c->head_n ? n : HEAD_MAX - c->head_n;
            memcpy(c->head + c->head_n, p, k);
            head = c->head;
            head_n = c->head_n + k;
        }
        end = head_end(head, head_n);
        if (!end) {
            if (head_n >= HEAD_MAX) {
                fail("response head too long");
                return -1;
            }
            if (!c->head)
                c->head = malloc(HEAD_MAX);
            if (head != c->head)
                memcpy(c->head, head, head_n);
            c->head_n = head_n;
            return 0;
        }
        size_t length = (size_t)(end + 4 - head);
        int close_it;
        int64_t body = read_head(head, length - 2, &close_it);
        if (length < 17 || memcmp(head, "HTTP/1.1 200", 12) != 0) {
            fail("not a 200: %.40s", head);
            return -1;
        }
        if (body != (int64_t)expect) {
            fail("content length %lld, not %llu", (long long)body, (unsigned long long)expect);
            return -1;
        }
        p += length - c->head_n;
        n -= length - c->head_n;
        c->head_n = 0;
        if (body == 0)
            on_response(c);
        else {
            c->in_body = 1;
            c->left = (uint64_t)body;
        }
    }
    return 0;
}

static void restart(conn_t *c)
{
    close_conn(c);
    if (!(count && issued >= count) && opened)
        open_conn(c);
}

static void on_event(conn_t *c, uint32_t events)
{
    if (c->fd < 0)
        return;
    if (!c->connected) {
        int e = 0;
        socklen_t n = sizeof e;
        if (events & (EPOLLERR | EPOLLHUP))
            getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &e, &n);
        if (e || !(events & (EPOLLOUT | EPOLLIN))) {
            fail("connect: %s", strerror(e ? e : ECONNRESET));
            close_conn(c);
            return;
        }
        c->connected = 1;
        connecting--;
        if (rate) {
            c->next_free = free_conns;
            free_conns = c;
        } else if (!mode_bulk && send_requests(c, depth) < 0)
            goto broken;
    } else if (c->unsent && (events & EPOLLOUT)) {
        int f = flush(c);
        if (f < 0 || (f > 0 && !rate && !fresh && !mode_idle && send_requests(c, depth) < 0))
            goto broken;
    }
    if (!(events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)))
        return;
    for (int spins = 0;; spins++) {
        ssize_t n;
        size_t room = SCRATCH;
        int dropped = 0;
        if (mode_bulk || (c->in_body && depth == 1 && c->left > 1024)) {
            room = mode_bulk ? 1 << 20 : (size_t)c->left;
            dropped = 1;        /* TCP drops the bytes without copying them */
            n = recv(c->fd, scratch, room, MSG_TRUNC);
        } else
            n = recv(c->fd, scratch, room, 0);
        if (n < 0 && errno == EAGAIN)
            return;
        if (n <= 0) {
            if (c->wait_eof) {
                restart(c);
                return;
            }
            if (n == 0 && c->outstanding == 0 && count && issued >= count) {
                close_conn(c);
                return;
            }
            fail("%s with %d outstanding", n ? strerror(errno) : "closed", c->outstanding);
            close_conn(c);
            return;
        }
        if (mode_bulk) {
            out->bytes += (uint64_t)n;
            if (spins < 16)
                continue;
            struct epoll_event ev = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, .data.ptr = c};
            epoll_ctl(ep, EPOLL_CTL_MOD, c->fd, &ev);
            return;
        }
        if (on_bytes(c, dropped ? NULL : scratch, (size_t)n) < 0) {
            close_conn(c);
            return;
        }
        if (fresh) {
            if (c->outstanding == 0 && fresh == 1) {
                restart(c);
                return;
            }
            c->wait_eof = c->outstanding == 0;
        } else if (!rate && !mode_idle && c->outstanding < depth && send_requests(c, depth) < 0)
            goto broken;
        if ((size_t)n < room && !c->wait_eof && !(events & EPOLLRDHUP))
            return;
    }
broken:
    fail("send: %s", strerror(errno));
    close_conn(c);
}

static void send_due(void)
{
    uint64_t t = now_ns(), backlog;
    while (free_conns && started_ns + (uint64_t)((double)next_due * 1e9 / (double)rate) <= t) {
        conn_t *c = free_conns;
        free_conns = c->next_free;
        if (c->fd < 0)
            continue;
        c->intended_ns = started_ns + (uint64_t)((double)next_due++ * 1e9 / (double)rate);
        if (send_requests(c, 1) < 0)
            fail("send: %s", strerror(errno));
    }
    backlog = (uint64_t)((double)(t - started_ns) * (double)rate / 1e9);
    backlog = backlog > next_due ? backlog - next_due : 0;
    if (backlog > out->backlog_max)
        out->backlog_max = backlog;
}

/* Renders `depth` copies of the request for each path. */
static void render(const char *method, char *paths, size_t body)
{
    for (char *path = strtok(paths, ","); path && n_requests < 64; path = strtok(NULL, ",")) {
        char head[2048];
        int n = snprintf(head, sizeof head, "%s %s HTTP/1.1\r\nHost: bench.example\r\nUser-Agent: bench/1\r\nAccept: */*\r\n"
                         "Accept-Encoding: gzip, deflate\r\n%s", method, path, fresh == 2 ? "Connection: close\r\n" : "");
        if (body)
            n += snprintf(head + n, sizeof head - (size_t)n, "Content-Type: application/octet-stream\r\nContent-Length: %zu\r\n",
                          body);
        n += snprintf(head + n, sizeof head - (size_t)n, "\r\n");
        size_t one = (size_t)n + body;
        char *all = malloc(one * (size_t)depth);
        for (int i = 0; i < depth; i++) {
            memcpy(all + one * (size_t)i, head, (size_t)n);
            memset(all + one * (size_t)i + n, 'b', body);
        }
        requests[n_requests] = all;
        request_n[n_requests++] = one;
    }
}

int main(int argc, char **argv)
{
    const char *method = "GET", *shared_path = NULL;
    char *paths = strdup("/128");
    size_t body = 0;
    double seconds = 120;
    if (argc < 3)
        die("usage: load http|rr|bulk|idle ADDRESS key=value ...");
    mode_rr = !strcmp(argv[1], "rr");
    mode_bulk = !strcmp(argv[1], "bulk");
    mode_idle = !strcmp(argv[1], "idle");
    target = parse_addr(argv[2]);
    for (int i = 3; i < argc; i++) {
        char *v = strchr(argv[i], '=');
        if (!v)
            die("not key=value: %s", argv[i]);
        *v++ = 0;
        if (!strcmp(argv[i], "conns")) n_conns = atoi(v);
        else if (!strcmp(argv[i], "depth")) depth = atoi(v);
        else if (!strcmp(argv[i], "method")) method = v;
        else if (!strcmp(argv[i], "path")) paths = v;
        else if (!strcmp(argv[i], "body")) body = (size_t)atoll(v);
        else if (!strcmp(argv[i], "expect")) expect = (uint64_t)atoll(v);
        else if (!strcmp(argv[i], "fresh")) fresh = atoi(v);
        else if (!strcmp(argv[i], "rate")) rate = (uint64_t)atoll(v);
        else if (!strcmp(argv[i], "count")) count = (uint64_t)atoll(v);
        else if (!strcmp(argv[i], "seconds")) seconds = atof(v);
        else if (!strcmp(argv[i], "sources")) sources = atoi(v);
        else if (!strcmp(argv[i], "shared")) shared_path = v;
        else die("unknown key: %s", argv[i]);
    }
    if (depth < 1 || depth > DEPTH_MAX || n_conns < 1)
        die("depth or conns out of range");
    raise_fd_limit();
    signal(SIGPIPE, SIG_IGN);
    if (shared_path) {
        int fd = open(shared_path, O_RDWR | O_CREAT, 0600);
        if (fd < 0 || ftruncate(fd, sizeof(shared_t)))
            die("%s: %s", shared_path, strerror(errno));
        out = mmap(NULL, sizeof(shared_t), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    } else
        out = mmap(NULL, sizeof(shared_t), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (out == MAP_FAILED)
        die("mmap: %s", strerror(errno));
    out->version = 1;
    if (mode_rr) {
        char *all = malloc(expect * (size_t)depth);
        memset(all, 'r', expect * (size_t)depth);
        requests[0] = all;
        request_n[0] = expect;
        n_requests = 1;
    } else
        render(method, paths, body);
    ep = epoll_create1(EPOLL_CLOEXEC);
    conns = calloc((size_t)n_conns, sizeof *conns);
    uint64_t deadline = now_ns() + (uint64_t)(seconds * 1e9);
    int dialled = 0;
    struct epoll_event events[512];
    for (;;) {
        while (dialled < n_conns && connecting < 64 && (!mode_idle || dialled - (int)out->requests < 64)) {
            conns[dialled].slot = dialled;
            conns[dialled].fd = -1;
            if (open_conn(&conns[dialled++]) < 0)
                break;
        }
        opened = 1;
        if (out->phase == CONNECTING && dialled == n_conns && (mode_idle ? (int)out->requests == n_conns : connecting == 0 || fresh)) {
            started_ns = now_ns();
            __atomic_store_n(&out->phase, RUNNING, __ATOMIC_RELEASE);
        }
        if (count && out->requests >= count)
            break;
        uint64_t t = now_ns();
        if (t >= deadline)
            break;
        if (out->errors && out->open_conns == 0)
            break;
        struct timespec wait = {0, 100000000};
        if (rate && out->phase == RUNNING) {
            send_due();
            uint64_t due = started_ns + (uint64_t)((double)next_due * 1e9 / (double)rate);
            t = now_ns();
            wait.tv_nsec = !free_conns ? 100000000 : due > t ? (long)(due - t) : 0;
            if (wait.tv_nsec > 100000000)
                wait.tv_nsec = 100000000;
        }
        int n = epoll_pwait2(ep, events, 512, &wait, NULL);
        for (int i = 0; i < n; i++)
            on_event(events[i].data.ptr, events[i].events);
        if (fresh && !count)
            for (int i = 0; i < n_conns && out->open_conns < (uint64_t)n_conns && !out->errors; i++)
                if (conns[i].fd < 0)
                    open_conn(&conns[i]);
    }
    out->phase = DONE;
    printf("requests=%llu bytes=%llu errors=%llu%s%s\n", (unsigned long long)out->requests, (unsigned long long)out->bytes,
           (unsigned long long)out->errors, out->errors ? " first error: " : "", out->error);
    return out->errors ? 1 : 0;
}
