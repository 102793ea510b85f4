# Upstream conns: dialled, attached to a stream, put back when nothing of an answer can be left on them.

cdef conn_t *pool_take(worker_t *w, endpoint_t *ep) noexcept nogil:
    """The idle conn used last, ready for a request; NULL: dial."""
    cdef epool_t *pool = &ep.pools[w.index]
    cdef conn_t *c
    while pool.idle != NULL:
        c = pool.idle
        if c.ev & (EV_IN | EV_FIN | EV_ERR):
            conn_close(c, False)           # bytes that nobody asked for, or an end
            continue
        pool_remove(c)
        c.state = C_BUSY
        c.reused = True
        c.deadline = 0
        return c
    return NULL


cdef void pool_remove(conn_t *c) noexcept nogil:
    cdef epool_t *pool = &c.endpoint.pools[c.w.index]
    if c.pprev != NULL:
        c.pprev.pnext = c.pnext
    else:
        pool.idle = c.pnext
    if c.pnext != NULL:
        c.pnext.pprev = c.pprev
    c.pnext = c.pprev = NULL
    c.state = C_BUSY
    fp_count32(&pool.n_idle, <uint32_t>-1)
    fp_count(&c.w.n_pooled, <uint64_t>-1)


cdef void pool_put(conn_t *c) noexcept nogil:
    """Back to its pool, unless its endpoint left the plan or anything more is to be read from it."""
    cdef worker_t *w = c.w
    cdef epool_t *pool = &c.endpoint.pools[w.index]
    cdef uint8_t one
    c.stream = NULL
    if c.ev & (EV_FIN | EV_ERR) or c.inb != NULL or c.out != NULL or c.torn or fp_atomic_load32(&c.endpoint.gone) or w.stop:
        conn_close(c, False)
        return
    if c.ev & EV_IN:
        # The last read was full, or spliced: whether the socket is drained is not known.
        if recv(c.fd, &one, 1, MSG_PEEK) >= 0 or errno != EAGAIN:
            conn_close(c, False)
            return
        c.ev &= ~EV_IN
    c.state = C_POOLED
    c.pprev = NULL
    c.pnext = pool.idle
    if pool.idle != NULL:
        pool.idle.pprev = c
    pool.idle = c
    fp_count32(&pool.n_idle, 1)
    fp_count(&w.n_pooled, 1)
    set_deadline(c, c.idle_ns)
    wait_wake(pool)


cdef void pool_clear(worker_t *w, endpoint_t *ep) noexcept nogil:
    while ep.pools[w.index].idle != NULL:
        conn_close(ep.pools[w.index].idle, False)


cdef inline void up_attach(stream_t *s, conn_t *c) noexcept nogil:
    s.up = c
    c.stream = s
    c.state = C_BUSY


cdef void stream_dial(stream_t *s) noexcept nogil:
    """A new conn to s.endpoint. Without one there and then, another endpoint, or the stream ends with an error."""
    cdef worker_t *w = s.w
    cdef endpoint_t *ep = s.endpoint
    cdef conn_t *c
    cdef int one = 1
    if not pending_enter(s):
        stream_error(s, E_OVERFLOW)
        return
    if fp_atomic_add32(&ep.share.connections, 1) > s.cluster.max_connections and ep.pools[w.index].n_conns:
        fp_atomic_add32(&ep.share.connections, -1)
        if s.tcp:
            stream_abort(s, E_OVERFLOW)    # its conn would never become free for another (Envoy's tcp_proxy)
        else:
            wait_enter(s)
        return
    c = take_conn(w)
    if c == NULL:
        fp_atomic_add32(&ep.share.connections, -1)
        stream_error(s, E_OVERLOAD)
        return
    c.kind, c.state = K_UP, C_CONNECTING
    c.endpoint = ep
    c.idle_ns = s.cluster.idle_ns
    c.opened_ns = w.now
    c.stream = s
    s.up = c
    s.attempts += 1
    fp_count(&w.n_up, 1)
    fp_count32(&ep.pools[w.index].n_conns, 1)
    fp_count(&ep.pools[w.index].connects, 1)
    c.fd = socket(ep.family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)
    if c.fd < 0:
        up_failed(c, E_OVERLOAD)
        return
    if ep.family != AF_UNIX:
        setsockopt(c.fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one))
    # A Unix socket is connected at once, and is taken up by its first event all the same: the caller still has in its hands
    # what came with the head, and nothing from the socket may go before that.
    if connect(c.fd, <sockaddr *>&ep.addr, ep.addr_len) != 0 and errno != EINPROGRESS:
        up_failed(c, E_CONNECT_FAILURE)
        return
    if not conn_watch(c):
        up_failed(c, E_OVERLOAD)
        return
    set_deadline(c, s.cluster.connect_timeout_ns)


cdef void up_connected(conn_t *c) noexcept nogil:
    cdef stream_t *s = c.stream
    cdef worker_t *w = c.w
    cdef epool_t *pool = &c.endpoint.pools[w.index]
    c.deadline = 0
    c.state = C_BUSY
    fp_store8(&pool.last_error, 0)
    if pool.connect == NULL:
        fp_ptr_store(<void **>&pool.connect, calloc(1, sizeof(hist_t)))
    if pool.connect != NULL:
        hist_add(pool.connect, w.now - c.opened_ns)
    if not s.tcp:
        up_begin(s, c)
        return
    s.sent_ns = w.now
    pending_leave(s)
    if s.trial:
        endpoint_good(s)
    set_stream_state(s, S_TUNNEL)
    pump(s, REQ)
    if s.state == S_TUNNEL:
        pump(s, RSP)


cdef void up_begin(stream_t *s, conn_t *c) noexcept nogil:
    """The head that waited in hold leaves, and the body follows."""
    pending_leave(s)
    s.sent_ns = s.w.now
    set_stream_state(s, S_WAIT)
    s.hold_all = c.reused and s.idempotent and buf_len(s.hold) <= HOLD_MAX
    if not conn_send(c, buf_at(s.hold), buf_len(s.hold)):
        s.hold_all = s.idempotent = c.reused       # it took nothing
        up_failed(c, E_UPSTREAM_RESET)
        return
    if not s.hold_all:
        put_buf(s.w, s.hold)           # a fresh conn is not a stale one: nothing is sent twice
        s.hold = NULL
    if not s.flow[REQ].done:
        pump(s, REQ)


cdef void wait_over(stream_t *s) noexcept nogil:
    """A conn became free, or one less is open."""
    cdef conn_t *c = pool_take(s.w, s.endpoint)
    cdef stream_t *next
    wait_leave(s)
    next = s.endpoint.pools[s.w.index].waiting
    if c != NULL:
        up_attach(s, c)
        up_begin(s, c)
    else:
        stream_dial(s)
    # One wake may have stood for several: who waited first was in the ready list already. If s is over, the endpoint is no
    # longer sure to be there; what still waits for it holds it.
    if next != NULL:
        wait_wake_on(next)


cdef void up_failed(conn_t *c, uint32_t cause) noexcept nogil:
    """The conn broke, or never came about, before the first byte of an answer. Tries again where that is safe:
    elsewhere when nothing was sent (RFC 9110 9.2.2 does not forbid it for any method), on a new conn when a pooled one was
    stale and the request is idempotent and wholly held."""
    cdef stream_t *s = c.stream
    cdef worker_t *w = c.w
    cdef epool_t *pool = &c.endpoint.pools[w.index]
    cdef bint dialled = c.state == C_CONNECTING
    cdef bint stale = not dialled and c.reused and not c.torn and s.hold_all and s.idempotent and s.first_ns == 0
    if c.torn:
        cause = E_OVERLOAD
    if dialled:
        fp_count(&pool.connect_failures, 1)
        fp_store8(&pool.last_error, cause)
    c.stream = NULL
    s.up = NULL
    s.up_broken = False
    conn_close(c, False)
    if dialled and s.attempts < MAX_ATTEMPTS and budget_take(s):
        s.tried[s.attempts - 1] = s.endpoint
        endpoint_judge(s, cause)
        if pick_endpoint(s):
            count_error(w, cause)
            stream_dial(s)
            return
    elif stale and s.attempts < MAX_ATTEMPTS and s.state == S_WAIT and budget_take(s):
        s.flow[RSP].bytes = 0
        s.idempotent = False           # once
        set_stream_state(s, S_DIAL)
        stream_dial(s)
        return
    stream_error(s, cause)
