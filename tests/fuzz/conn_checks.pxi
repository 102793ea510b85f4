# What fuzz_conn.pyx holds the proxy to: at rest nothing waits for an event that will not come (check_settled), and what the
# clients and the upstreams saw fits together (judge).

cdef extern from "stdio.h" nogil:
    ctypedef struct FILE:
        pass
    FILE *stderr
    int fprintf(FILE *, const char *, ...)

from libc.stdlib cimport abort

cdef enum:
    MOST_MESSAGES = 2048

cdef struct message_t:
    size_t at
    size_t head_len
    size_t body_raw                # as it was sent, as far as it came
    const uint8_t *body            # without framing
    size_t body_len
    uint8_t *owned
    uint16_t status
    uint8_t method
    uint8_t kind
    bint whole
    bint bad                       # the body's framing is wrong
    bint closes
    bint error                     # an answer of the proxy's own: to a failure
    bint own                       # or any

cdef struct exchange_t:            # a request that an upstream got, and what it answered
    side_t *up
    int client                     # whose request it is, -1: it has no mark
    int index
    message_t request
    message_t reply
    bint replied                   # a final head was sent
    int n_interim

cdef h1_limits_t wide
wide.head_bytes = wide.line_bytes = 1 << 20
wide.fields = 128
cdef h1_limits_t upstream_limits
upstream_limits.head_bytes = upstream_limits.line_bytes = 61440
upstream_limits.fields = 100

cdef message_t asked[MOST_MESSAGES]
cdef int asked_first[MOST_SIDES + 1]
cdef exchange_t exchanges[MOST_MESSAGES]
cdef int n_exchanges


# ---- messages --------------------------------------------------------------------------------------------------------

cdef bint has_field(const uint8_t *p, h1_head_t *h, const char *lower, size_t n) noexcept nogil:
    cdef int i
    for i in range(h.n_fields):
        if h.fields[i].name_len == n and fp_fold_eq(p + h.fields[i].name, lower, n):
            return True
    return False


cdef size_t plain(const uint8_t *p, size_t n, uint8_t *out) noexcept nogil:
    """The data of a chunked body, read naively, as far as it came -> its length."""
    cdef size_t i = 0, size, done = 0
    cdef int digit
    while i < n:
        size = 0
        while i < n and size < MOST_BYTES:
            digit = fp_hex(p[i])
            if digit < 0:
                break
            size = size * 16 + digit
            i += 1
        while i < n and p[i] != 10:
            i += 1
        i += 1
        if size == 0 or i >= n:
            break
        if size > n - i:
            size = n - i
        memcpy(out + done, p + i, size)
        done += size
        i += size + 2
    return done


cdef int read_message(bytes_t *b, size_t at, bint response, uint8_t method, h1_limits_t *limits, message_t *m) noexcept nogil:
    """The message at `at`. 1: its head is there, 0: not all of it, -1: it is malformed."""
    cdef h1_head_t h
    cdef h1_chunk_t chunk
    cdef const uint8_t *p = b.p + at
    cdef size_t n = b.n - at, kept
    cdef uint8_t *copy
    cdef int64_t fed
    cdef int got = h1_parse_response(p, n, limits, method, &h) if response else h1_parse_request(p, n, limits, &h)
    memset(m, 0, sizeof(message_t))
    if got <= 0:
        return 0 if got == 0 else -1
    m.at, m.head_len, m.status, m.method, m.kind = at, got, h.status, h.method, h.body
    m.closes = h.flags & H1_F_CLOSE != 0
    m.error = has_field(p, &h, b"x-fastproxy-error", 17)
    m.own = m.error or has_field(p, &h, b"x-own", 5) or h.status == 307
    p += got
    n -= got
    m.body = p
    if h.body == H1_BODY_NONE:
        m.whole = True
    elif h.body == H1_BODY_LENGTH:
        m.whole = n >= h.content_length
        m.body_raw = m.body_len = <size_t>h.content_length if m.whole else n
    elif h.body == H1_BODY_CHUNKED:
        copy = <uint8_t *>malloc(n + 1)
        memcpy(copy, p, n)
        memset(&chunk, 0, sizeof(chunk))
        fed = h1_chunk_feed(&chunk, copy, n, &kept, response)
        m.bad = fed < 0
        m.whole = chunk.state == CHUNK_DONE and not m.bad
        m.body_raw = <size_t>fed if m.whole else n
        m.body_len = plain(p, m.body_raw, copy)
        m.body = m.owned = copy
    else:
        m.body_raw = m.body_len = n          # until the end: the caller knows whether it came
    return 1


cdef void free_message(message_t *m) noexcept nogil:
    free(m.owned)
    m.owned = NULL


cdef int find_mark(const uint8_t *p, size_t n, size_t *after) noexcept nogil:
    """The first mark in p[0:n], -1: none."""
    cdef size_t i = 0
    cdef int number, k, digit
    while i + MARK_LEN <= n:
        if p[i] == 126 and p[i + 5] == 126:
            number = 0
            for k in range(1, 5):
                digit = fp_hex(p[i + k])
                number = -1 if digit < 0 or number < 0 else number * 16 + digit
            if 0 <= number < <int>n_marks:
                if after != NULL:
                    after[0] = i + MARK_LEN
                return number
        i += 1
    return -1


cdef int owner(int mark) noexcept nogil:
    """Which of its client's requests holds the mark, -1: none of those that are well-formed."""
    cdef int c = mark_client[mark], i
    for i in range(asked_first[c], asked_first[c + 1]):
        if asked[i].at <= mark_at[mark] < asked[i].at + asked[i].head_len + asked[i].body_raw:
            return i
    return -1


cdef void check_marks(const uint8_t *p, size_t n, int index, const char *claim) noexcept nogil:
    """All of the marks are those of the request asked[index]."""
    cdef size_t after = 0
    cdef int mark
    while True:
        mark = find_mark(p, n, &after)
        if mark < 0:
            return
        check(owner(mark) == index, claim)
        p += after
        n -= after


cdef bint begins(const uint8_t *p, size_t n, const uint8_t *q, size_t m) noexcept nogil:
    """Whether q[0:m] begins with p[0:n]."""
    return n <= m and (n == 0 or memcmp(p, q, n) == 0)


# ---- both sides ------------------------------------------------------------------------------------------------------

cdef void judge() noexcept nogil:
    cdef int i
    if not read_asked():
        return
    read_exchanges()
    for i in range(n_clients):
        if clients[i].http:
            judge_client(i)
        else:
            judge_raw_client(&clients[i])
    for i in range(n_ups):
        if not ups[i].http:
            judge_raw_up(&ups[i])
    for i in range(asked_first[n_clients]):
        free_message(&asked[i])
    for i in range(n_exchanges):
        free_message(&exchanges[i].request)
        free_message(&exchanges[i].reply)


cdef bint read_asked() noexcept nogil:
    """The well-formed requests of all clients. False: too many to be judged."""
    cdef int i, n = 0
    cdef size_t at
    for i in range(n_clients):
        asked_first[i] = n
        at = 0
        while clients[i].http and at < clients[i].sent.n and n < MOST_MESSAGES:
            if read_message(&clients[i].sent, at, False, 0, &plans[0].listeners[clients[i].slot].limits, &asked[n]) <= 0:
                break
            at += asked[n].head_len + asked[n].body_raw
            n += 1
            if not asked[n - 1].whole:
                break
    asked_first[n_clients] = n
    return n < MOST_MESSAGES


cdef void read_exchanges() noexcept nogil:
    global n_exchanges
    cdef side_t *u
    cdef exchange_t *e
    cdef exchange_t *last
    cdef size_t at, said
    cdef uint32_t k
    cdef int i, r, mark
    n_exchanges = 0
    for i in range(n_ups):
        u = &ups[i]
        at = said = 0
        last = NULL
        while u.http and at < u.got.n and n_exchanges < MOST_MESSAGES:
            if last != NULL:
                k = 0
                while k < u.n_log and k < MOST_LOG and u.log_got[k] <= at:
                    k += 1
                if not u.was_paused and k < u.n_log and k < MOST_LOG:
                    check(last.replied and last.reply.whole and u.log_sent[k] == said, b"an upstream conn is used again only when it is clean")
            e = &exchanges[n_exchanges]
            memset(e, 0, sizeof(exchange_t))
            r = read_message(&u.got, at, False, 0, &wide, &e.request)
            check(r >= 0, b"an upstream gets well-formed heads")
            if r == 0:
                break
            check(not e.request.bad, b"an upstream gets well-formed bodies")
            n_exchanges += 1
            e.up = u
            mark = find_mark(u.got.p + at, e.request.head_len, NULL)
            e.client = -1 if mark < 0 else mark_client[mark]
            e.index = -1 if mark < 0 else owner(mark)
            if mark >= 0:
                check_request(e)
            at += e.request.head_len + e.request.body_raw
            while said < u.sent.n:
                r = read_message(&u.sent, said, True, e.request.method, &upstream_limits, &e.reply)
                if r <= 0:
                    break
                said += e.reply.head_len + e.reply.body_raw
                if e.reply.status >= 200 or e.reply.status == 101:
                    e.replied = True
                    break
                e.n_interim += 1
            if e.reply.kind == H1_BODY_CLOSE:
                e.reply.whole = u.ended
            last = e
            if not e.request.whole or e.reply.status == 101:
                break


cdef void check_request(exchange_t *e) noexcept nogil:
    """What an upstream got is what a client asked."""
    cdef message_t *a
    cdef int i, seen = 0
    check(e.index >= 0, b"an upstream gets nothing that was no request")
    a = &asked[e.index]
    check(a.method == e.request.method, b"a method stays")
    check(begins(e.request.body, e.request.body_len, a.body, a.body_len), b"a request's body arrives as it was sent")
    check(not e.request.whole or (a.whole and a.body_len == e.request.body_len), b"a cut request is never whole at the upstream")
    check_marks(e.up.got.p + e.request.at, e.request.head_len + e.request.body_raw, e.index, b"requests do not mix")
    for i in range(n_exchanges):
        seen += exchanges[i].client == e.client and exchanges[i].index == e.index
    if a.method == H1_M_POST or a.method == H1_M_PATCH or a.method == H1_M_OTHER:
        check(seen == 1, b"what is not idempotent arrives once")
    else:
        check(seen <= MAX_ATTEMPTS * MAX_ATTEMPTS, b"what is idempotent arrives a few times at most")   # twice through /self


cdef void judge_client(int which) noexcept nogil:
    """Answers come in the order of the requests, each its own."""
    cdef side_t *c = &clients[which]
    cdef message_t m
    cdef size_t at = 0
    cdef int j = asked_first[which], end = asked_first[which + 1], r, interim = 0
    cdef bint extra = False
    while at < c.got.n:
        check(not extra, b"nothing comes after the last answer")
        r = read_message(&c.got, at, True, asked[j].method if j < end else H1_M_GET, &wide, &m)
        check(r >= 0, b"a client gets well-formed heads")
        if r == 0:
            return
        check(not m.bad, b"a client gets well-formed bodies")
        if m.status < 200 and m.status != 101:
            interim += 1
            check(j < end and interim <= interims(j), b"an interim answer comes from the upstream")
            at += m.head_len
            continue
        check(j < end or m.error, b"no more answers than requests")
        if m.kind == H1_BODY_CLOSE:
            m.whole = c.fin and c.tcp
        if m.status != 101:
            check_marks(c.got.p + at, m.head_len + m.body_raw, j, b"answers do not mix")
        if j < end and not m.own and find_mark(c.sent.p + asked[j].at, asked[j].head_len, NULL) >= 0:
            check_answer(c, j, &m)
        free_message(&m)
        if m.status == 101:
            return
        at += m.head_len + m.body_raw
        extra = m.closes or not m.whole or j == end
        interim = 0
        j += 1


cdef int interims(int index) noexcept nogil:
    cdef int i, most = 0
    for i in range(n_exchanges):
        if exchanges[i].index == index or exchanges[i].client < 0:
            most += exchanges[i].n_interim
    return most


cdef void check_answer(side_t *c, int index, message_t *m) noexcept nogil:
    """An upstream gave this answer to this request, and it is whole only if it was."""
    cdef exchange_t *e
    cdef int i
    cdef bint same = False
    for i in range(n_exchanges):
        e = &exchanges[i]
        if e.index != index or not e.replied or e.reply.status != m.status:
            continue
        if m.status == 101:
            check_tunnel(c, c.sent.p + asked[index].at + asked[index].head_len, c.sent.n - asked[index].at - asked[index].head_len,
                         c.got.p + m.at + m.head_len, c.got.n - m.at - m.head_len,
                         e.up, e.up.got.p + e.request.at + e.request.head_len, e.up.got.n - e.request.at - e.request.head_len,
                         e.up.sent.p + e.reply.at + e.reply.head_len, e.up.sent.n - e.reply.at - e.reply.head_len)
            return
        if begins(m.body, m.body_len, e.reply.body, e.reply.body_len) and (not m.whole or (e.reply.whole and m.body_len == e.reply.body_len)):
            same = True
    check(same, b"an answer is the upstream's, and whole only if that was")


cdef void check_tunnel(side_t *c, const uint8_t *c_sent, size_t c_sent_n, const uint8_t *c_got, size_t c_got_n,
                       side_t *u, const uint8_t *u_got, size_t u_got_n, const uint8_t *u_sent, size_t u_sent_n) noexcept nogil:
    """Bytes both ways as they were sent, and an end only where there was one."""
    check(begins(u_got, u_got_n, c_sent, c_sent_n), b"a tunnel carries what the client sent")
    check(begins(c_got, c_got_n, u_sent, u_sent_n), b"a tunnel carries what the upstream sent")
    if c.fin and c.tcp:
        check(u.ended and c_got_n == u_sent_n, b"a tunnel ends for the client as it did for the upstream")
    if u.fin and u.tcp:
        check(c.ended and u_got_n == c_sent_n, b"a tunnel ends for the upstream as it did for the client")


cdef void judge_raw_up(side_t *u) noexcept nogil:
    cdef int mark = find_mark(u.got.p, u.got.n, NULL)
    cdef side_t *c
    if mark >= 0:
        c = &clients[mark_client[mark]]
        check(not c.http, b"a listener's bytes go to its cluster")
        check_tunnel(c, c.sent.p, c.sent.n, c.got.p, c.got.n, u, u.got.p, u.got.n, u.sent.p, u.sent.n)


cdef void judge_raw_client(side_t *c) noexcept nogil:
    cdef int i
    for i in range(n_ups):
        if not ups[i].http and begins(c.got.p, c.got.n, ups[i].sent.p, ups[i].sent.n):
            return
    check(c.got.n == 0, b"a client's bytes come from its cluster")


cdef void check_log() noexcept nogil:
    """The access log's records lie one behind the other, each whole."""
    cdef log_rec_t *rec
    cdef uint64_t at = ring.tail
    while at < ring.head:
        rec = <log_rec_t *>(ring.data + (at & (RING_SIZE - 1)))
        if rec.size == RING_SKIP:
            at += RING_SIZE - (at & (RING_SIZE - 1))
            continue
        check(rec.size >= sizeof(log_rec_t) and rec.size % 8 == 0 and at + rec.size <= ring.head, b"a record of the log is whole")
        check(sizeof(log_rec_t) + rec.note_len + rec.ip_len + rec.upstream_len <= rec.size, b"a record holds its texts")
        at += rec.size
    check(at == ring.head, b"the log ends with a record")


# ---- at rest ---------------------------------------------------------------------------------------------------------

cdef short ready(int fd) noexcept nogil:
    cdef pollfd one
    one.fd, one.events, one.revents = fd, <short>(POLLIN | POLLOUT), 0
    poll(&one, 1, 0)
    return one.revents


cdef const char *unsettled(worker_t *w) noexcept nogil:
    """No event is due, so what could move has moved, and what cannot has a deadline: what of this does not hold, or NULL."""
    cdef const char *claim
    cdef conn_t *c = w.conns
    cdef stream_t *s
    cdef short now
    cdef int i
    while c != NULL:
        now = ready(c.fd)
        s = c.stream
        if c.fd < 0 or c.queued:
            return b"a conn at rest is open and not queued"
        if c.deadline and c.timer.prev == NULL:
            return b"a deadline is armed"
        if c.out != NULL and now & POLLOUT and not (s != NULL and s.up_broken):
            return b"what can be sent is sent"
        if c.kind == K_DOWN:
            if c.deadline == 0:
                return b"every client has a deadline"
            if (c.state == C_BUSY) != (s != NULL):
                return b"busy is who has a stream"
            if c.state == C_IDLE:
                if c.out == NULL and now & POLLIN:
                    return b"an idle client's bytes are read"
            elif c.state == C_SKIP:
                if now & POLLIN:
                    return b"the rest of an answered request is read"
            elif c.state == C_FLUSH:
                if c.out == NULL:
                    return b"who flushes has something to send"
            elif c.state == C_LINGER:
                if now & POLLIN:
                    return b"a lingering client's bytes are read"
            elif s.waiting:
                if s.up != NULL or s.endpoint.pools[w.index].idle != NULL or s.endpoint.pools[w.index].n_conns == 0:
                    return b"who waits for a conn is woken"
            elif s.state != S_DIAL:
                if s.up == NULL or s.up.stream != s:
                    return b"a stream past its dial has an upstream conn"
                if not s.up_broken:
                    claim = flow_unsettled(&s.flow[REQ], now, s.up)
                    if claim != NULL:
                        return claim
        elif c.state == C_BUSY:
            if s == NULL or s.up != c:
                return b"a busy upstream conn has a stream"
            if s.state == S_WAIT:
                if now & POLLIN:
                    return b"an answer is read"
            else:
                claim = flow_unsettled(&s.flow[RSP], now, s.down)
                if claim != NULL:
                    return claim
        else:
            if c.deadline == 0:
                return b"a pooled or connecting conn has a deadline"
            if c.state != C_CONNECTING and now & (POLLIN | POLLHUP):
                return b"a pooled conn is quiet"
        c = c.next
    for i in range(SLOTS):
        if w.listeners[i] != NULL and w.listeners[i].fd >= 0 and w.plan.plan.listeners[i] != NULL and not w.accept_paused and ready(w.listeners[i].fd) & POLLIN:
            return b"who dials is accepted"
    if worker_wait_ms(w) == 0:
        return b"a worker at rest sleeps"
    return NULL


cdef const char *flow_unsettled(flow_t *f, short from_now, conn_t *to) noexcept nogil:
    if f.done or to.out != NULL:
        return NULL
    if f.pipe != NULL and ready(to.fd) & POLLOUT:
        return b"what lies in a pipe is sent"
    if f.pipe == NULL and from_now & POLLIN:
        return b"a body's bytes are read"
    return NULL
