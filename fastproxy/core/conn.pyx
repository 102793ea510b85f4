# One transport connection: bytes in and out of its socket, and what it means that the socket became ready.
#
# Edge-triggered, registered once for in, out and rdhup. EV_IN stays set until a read says that there is no more.

cdef inline void count_received(conn_t *c, uint64_t n) noexcept nogil:
    if c.kind == K_DOWN:
        fp_count(&c.w.listeners[c.slot].received_bytes, n)
    else:
        fp_count(&c.endpoint.pools[c.w.index].received_bytes, n)


cdef inline void count_sent(conn_t *c, uint64_t n) noexcept nogil:
    if c.kind == K_DOWN:
        fp_count(&c.w.listeners[c.slot].sent_bytes, n)
    else:
        fp_count(&c.endpoint.pools[c.w.index].sent_bytes, n)


cdef ssize_t conn_recv(conn_t *c, void *p, size_t n) noexcept nogil:
    """Bytes read, 0: end of the stream, -1: nothing there now, -2: the conn is broken."""
    cdef ssize_t got
    while True:
        got = recv(c.fd, p, n, 0)
        if likely(got > 0):
            count_received(c, got)
            # A short read has drained the socket, and the next edge will be reported; unless the end is already
            # known to stand behind these bytes, for which no further edge comes.
            if <size_t>got < n and not c.ev & EV_FIN:
                c.ev &= ~EV_IN
            return got
        if got == 0:
            c.ev &= ~EV_IN
            c.ev |= EV_FIN
            return 0
        if errno == EINTR:
            continue
        c.ev &= ~EV_IN
        if errno == EAGAIN:
            return -1
        c.ev |= EV_ERR
        return -2


cdef bint conn_keep(conn_t *c, const void *p, size_t n) noexcept nogil:
    """What could not be sent waits in `out`."""
    if n == 0:
        return True
    if buf_append(c.w, &c.out, p, n):
        return True
    count_error(c.w, E_OVERLOAD)
    c.ev |= EV_ERR
    c.torn = True
    return False


cdef bint conn_send(conn_t *c, const void *p, size_t n) noexcept nogil:
    """Sends, or keeps for later, all of p. False: the conn is broken."""
    cdef ssize_t sent
    if c.out != NULL:
        return conn_keep(c, p, n)
    while True:
        sent = send(c.fd, p, n, MSG_NOSIGNAL)
        if sent > 0:
            count_sent(c, sent)
        if likely(sent == <ssize_t>n):
            return True
        if sent >= 0:
            return conn_keep(c, <const uint8_t *>p + sent, n - sent)
        if errno == EINTR:
            continue
        if errno == EAGAIN or errno == ENOBUFS:
            return conn_keep(c, p, n)
        c.ev |= EV_ERR
        return False


cdef bint conn_send2(conn_t *c, const void *p, size_t n, const void *q, size_t m) noexcept nogil:
    """Two pieces in one system call."""
    cdef iovec parts[2]
    cdef msghdr msg
    cdef ssize_t sent
    if c.out != NULL:
        return conn_keep(c, p, n) and conn_keep(c, q, m)
    memset(&msg, 0, sizeof(msg))
    parts[0].iov_base, parts[0].iov_len = <void *>p, n
    parts[1].iov_base, parts[1].iov_len = <void *>q, m
    msg.msg_iov, msg.msg_iovlen = parts, 2
    while True:
        sent = sendmsg(c.fd, &msg, MSG_NOSIGNAL)
        if sent >= 0:
            break
        if errno == EINTR:
            continue
        if errno != EAGAIN and errno != ENOBUFS:
            c.ev |= EV_ERR
            return False
        sent = 0
        break
    count_sent(c, sent)
    if <size_t>sent < n:
        return conn_keep(c, <const uint8_t *>p + sent, n - sent) and conn_keep(c, q, m)
    return conn_keep(c, <const uint8_t *>q + (sent - n), m - (sent - n))


cdef bint conn_flush(conn_t *c) noexcept nogil:
    """Sends from `out`; it is NULL afterwards if all went. False: the conn is broken."""
    cdef ssize_t sent
    while c.out != NULL:
        sent = send(c.fd, buf_at(c.out), buf_len(c.out), MSG_NOSIGNAL)
        if sent < 0:
            if errno == EINTR:
                continue
            if errno == EAGAIN or errno == ENOBUFS:
                return True
            c.ev |= EV_ERR
            return False
        count_sent(c, sent)
        c.out.start += <uint32_t>sent
        if c.out.start < c.out.end:
            return True
        put_buf(c.w, c.out)
        c.out = NULL
    if c.shut_after:
        c.shut_after = False
        shutdown(c.fd, SHUT_WR)
    return True


cdef void conn_shut(conn_t *c) noexcept nogil:
    """Shuts our half, after what is still to be sent."""
    if c.out != NULL:
        c.shut_after = True
    else:
        shutdown(c.fd, SHUT_WR)


cdef bint conn_keep_input(conn_t *c, const uint8_t *p, size_t n) noexcept nogil:
    """Received bytes that wait for their turn, before what the socket still holds. False: no memory."""
    if n == 0:
        return True
    return buf_append(c.w, &c.inb, p, n)


cdef bint conn_watch(conn_t *c) noexcept nogil:
    cdef epoll_event event
    event.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET
    event.data.ptr = c
    return epoll_ctl(c.w.epfd, EPOLL_CTL_ADD, c.fd, &event) == 0


cdef void ready_add(conn_t *c) noexcept nogil:
    """Looks at the conn again later in this turn or in the next, without an event."""
    cdef worker_t *w = c.w
    if c.queued or c.state == C_DEAD:
        return
    c.queued = True
    c.link = NULL
    if w.ready == NULL:
        w.ready = c
    else:
        w.ready_last.link = c
    w.ready_last = c


cdef void conn_close(conn_t *c, bint hard) noexcept nogil:
    """Closes the socket and gives back all that the conn owns but itself. hard, or with bytes still to be sent: with a
    reset, so that a message cut short cannot look whole."""
    cdef worker_t *w = c.w
    cdef linger how
    cdef wlistener_t *wl
    cdef epoll_event event
    cdef sockaddr nowhere
    if c.state == C_DEAD:
        return
    if c.state == C_POOLED:
        pool_remove(c)
    hard = hard or c.out != NULL
    if c.fd >= 0:
        # A child process may have the socket, too: then close() alone would neither take it out of epoll, which would go
        # on reporting a conn that is no more, nor tell the other side.
        epoll_ctl(w.epfd, EPOLL_CTL_DEL, c.fd, &event)
        if hard:
            how.l_onoff, how.l_linger = 1, 0
            setsockopt(c.fd, SOL_SOCKET, SO_LINGER, &how, sizeof(how))
        if unlikely(fp_flag_load(&w.core.forked)):
            memset(&nowhere, 0, sizeof(nowhere))
            if not hard or connect(c.fd, &nowhere, sizeof(nowhere)) != 0:      # AF_UNSPEC: TCP resets the conn
                shutdown(c.fd, SHUT_RDWR)
        close(c.fd)
    c.fd = -1
    timer_disarm(w, &c.timer)
    put_buf(w, c.inb)
    put_buf(w, c.out)
    c.inb = c.out = NULL
    c.state = C_DEAD
    if w.sweep == c:
        w.sweep = c.next
    if c.prev != NULL:
        c.prev.next = c.next
    else:
        w.conns = c.next
    if c.next != NULL:
        c.next.prev = c.prev
    if c.kind == K_DOWN:
        fp_count(&w.n_down, <uint64_t>-1)
        wl = w.listeners[c.slot]
        if wl != NULL:
            fp_count32(&wl.active, <uint32_t>-1)
            fp_count(&wl.closed, 1)
    else:
        fp_count(&w.n_up, <uint64_t>-1)
        fp_count32(&c.endpoint.pools[w.index].n_conns, <uint32_t>-1)
        fp_atomic_add32(&c.endpoint.share.connections, -1)
        wait_wake(&c.endpoint.pools[w.index])
        c.endpoint = NULL
    if not c.queued:            # else the ready list's turn moves it
        c.link = w.dead
        w.dead = c


cdef void conn_event(worker_t *w, conn_t *c, uint32_t events) noexcept nogil:
    if c.state == C_DEAD:
        return
    if events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR):
        c.ev |= EV_IN
        if events & (EPOLLRDHUP | EPOLLHUP):
            c.ev |= EV_FIN
        if events & EPOLLERR:
            c.ev |= EV_ERR
    if c.kind == K_DOWN:
        down_event(c, events)
    else:
        up_event(c, events)


cdef void on_conn_timeout(conn_t *c) noexcept nogil:
    if c.kind == K_UP:
        if c.state == C_CONNECTING:
            up_failed(c, E_CONNECT_TIMEOUT)
        else:
            conn_close(c, False)          # idle in its pool for long enough
    elif c.state == C_BUSY:
        stream_idle(c.stream)
    elif c.state == C_IDLE and c.partial:
        down_refuse(c, E_HEAD_TIMEOUT)
    else:
        conn_close(c, False)              # idle, or lingered for long enough
