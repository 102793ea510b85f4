# A downstream HTTP/1 conn: heads are read here, one at a time, and become streams. While a stream runs nothing but its
# own body is read, so pipelined requests wait in the socket or in `inb` and are answered in order.

cdef void down_event(conn_t *c, uint32_t events) noexcept nogil:
    cdef stream_t *s = c.stream
    if c.ev & EV_ERR:
        down_gone(c)
        return
    if c.out != NULL and events & EPOLLOUT:
        if not conn_flush(c):
            down_gone(c)
            return
        down_moved(c)
        if c.out == NULL and c.state == C_FLUSH:
            linger_begin(c)
            return
    if s != NULL and events & EPOLLOUT and s.state >= S_RESPOND and c.out == NULL:
        pump(s, RSP)
        if c.state == C_DEAD:
            return
        s = c.stream
    if c.state == C_IDLE:
        down_read(c)
    elif not c.ev & EV_IN:
        return
    elif c.state == C_BUSY:
        if not s.flow[REQ].done and s.state != S_DIAL and not s.up_broken:
            pump(s, REQ)
        elif c.ev & EV_FIN:
            down_check_abort(c)
    elif c.state == C_SKIP:
        down_skip(c)
    elif c.state == C_LINGER or c.state == C_FLUSH:
        linger_read(c)


cdef void down_moved(conn_t *c) noexcept nogil:
    """Some of what waited went: the time without progress begins anew."""
    cdef lconf_t *conf = c.w.plan.plan.listeners[c.slot]
    if c.state == C_IDLE and c.out == NULL and conf != NULL:
        set_deadline(c, conf.idle_ns)      # all answered, and taken
    elif c.state == C_SKIP and c.out == NULL:
        set_deadline(c, LINGER_NS)
    else:
        set_deadline(c, c.idle_ns)


cdef void down_check_abort(conn_t *c) noexcept nogil:
    """The client has shut its half while its request runs. With nothing left to read before that, it went away (Envoy,
    nginx and Go take it so); pipelined requests in front of it are still to be answered."""
    cdef uint8_t one
    cdef ssize_t got
    if c.inb != NULL or c.stream.tcp or c.stream.state == S_TUNNEL:
        return                             # in a tunnel it is a half-close like any other
    got = recv(c.fd, &one, 1, MSG_PEEK)
    if got == 0 or (got < 0 and errno != EAGAIN and errno != EINTR):
        down_gone(c)


cdef void down_gone(conn_t *c) noexcept nogil:
    """The client went away or its conn broke."""
    if c.stream != NULL:
        stream_abort(c.stream, E_CLIENT_ABORT)
    else:
        conn_close(c, False)


cdef void down_read(conn_t *c) noexcept nogil:
    """Reads heads until there is a stream to run or nothing more to read."""
    cdef worker_t *w = c.w
    cdef buf_t *b
    cdef lconf_t *conf
    cdef ssize_t got
    cdef size_t kept = 0
    if c.out != NULL:
        return                             # who does not read answers is not asked for more requests
    if c.inb != NULL and not c.partial:
        b = c.inb                          # pipelined heads are parsed where they lie
        c.inb = NULL
        down_process(c, buf_at(b), buf_len(b), b)
        if c.state != C_IDLE or c.out != NULL:
            return
    if not c.ev & EV_IN:
        return
    if c.inb != NULL:
        kept = buf_len(c.inb)
        fp_assert(c.partial and kept + RX_READ <= RX_SIZE)
        memcpy(w.rx, buf_at(c.inb), kept)
    got = conn_recv(c, w.rx + kept, RX_READ)
    if got <= 0:
        if got == -1:
            return
        if kept and got == 0:
            count_error(w, E_CLIENT_ABORT)
        conn_close(c, False)
        return
    if kept:
        put_buf(w, c.inb)
        c.inb = NULL
        conf = w.plan.plan.listeners[c.slot]
        if conf != NULL and not h1_may_decide(w.rx, kept, kept + got, &conf.limits):
            if not conn_keep_input(c, w.rx, kept + got):
                down_refuse(c, E_OVERLOAD)
            return
    down_process(c, w.rx, kept + got, NULL)


cdef void down_process(conn_t *c, uint8_t *p, size_t n, buf_t *b) noexcept nogil:
    """Heads at p[0:n], which is the scratch, or lies in b and is owned by this call."""
    cdef worker_t *w = c.w
    cdef lconf_t *conf
    cdef int got
    cdef size_t used
    while c.state == C_IDLE and n > 0 and c.out == NULL:
        conf = w.plan.plan.listeners[c.slot]
        if conf == NULL or not conf.http:
            conn_close(c, False)
            break
        got = h1_parse_request(p, n, &conf.limits, &w.head)
        if got == 0:
            if not c.partial:
                c.partial = True
                set_deadline(c, conf.head_timeout_ns)
            break
        c.partial = False
        if got < 0:
            down_refuse(c, -got)
            break
        used = stream_begin(c, conf, p, got, n)
        p += used
        n -= used
    if c.state == C_DEAD or c.state == C_FLUSH or c.state == C_LINGER:
        put_buf(w, b)
        return
    if b == NULL:
        if n and not conn_keep_input(c, p, n):
            down_drop(c)
            return
    elif n:
        b.start = b.end - <uint32_t>n
        c.inb = b
    else:
        put_buf(w, b)
    if c.state == C_SKIP:
        return                             # it waits in the ready list
    if c.state == C_BUSY and not c.stream.flow[REQ].done and c.stream.state != S_DIAL and (c.inb != NULL or c.ev & EV_IN):
        pump(c.stream, REQ)
    elif c.state == C_BUSY and c.ev & EV_FIN:
        down_check_abort(c)


cdef void down_drop(conn_t *c) noexcept nogil:
    """No memory for what this conn has sent."""
    count_error(c.w, E_OVERLOAD)
    if c.stream != NULL:
        stream_abort(c.stream, 0)
    else:
        conn_close(c, True)


cdef void down_next(conn_t *c) noexcept nogil:
    """Its stream is finished: the conn waits for the next head."""
    cdef lconf_t *conf = c.w.plan.plan.listeners[c.slot]
    c.stream = NULL
    c.state = C_IDLE
    c.partial = False
    if conf == NULL or c.w.closing_idle:
        down_close(c, True)                # the answer did not say so: another request may be on its way
        return
    set_deadline(c, conf.idle_ns if c.out == NULL else c.idle_ns)
    if c.inb != NULL or c.ev & EV_IN:
        ready_add(c)


cdef void down_skip_begin(conn_t *c, flow_t *f) noexcept nogil:
    """Its stream is finished before the request was read to its end."""
    c.stream = NULL
    c.state = C_SKIP
    c.skip = f[0]
    c.lingered = 0
    down_moved(c)
    ready_add(c)


cdef void down_skip(conn_t *c) noexcept nogil:
    """Reads past the rest of the answered request, within bounds, to the next one."""
    cdef worker_t *w = c.w
    cdef flow_t *f = &c.skip
    cdef size_t n
    cdef ssize_t got
    cdef int64_t used
    f.done = f.kind == H1_BODY_LENGTH and f.left == 0       # the last of it may have been in a pipe
    while not f.done and (c.inb != NULL or c.ev & EV_IN):
        n = 0
        if c.inb != NULL:
            n = buf_len(c.inb)
            memcpy(w.rx, buf_at(c.inb), n)
            put_buf(w, c.inb)
            c.inb = NULL
        got = -1
        if c.ev & EV_IN and n + RX_READ <= RX_SIZE:
            got = conn_recv(c, w.rx + n, RX_READ)
            if got == 0:
                c.lingered = 0
                down_close(c, False)       # the answer may still be on its way
                return
            if got == -2:
                conn_close(c, False)
                return
        if got > 0:
            n += got
        used = skip_bytes(f, w.rx, n)
        c.lingered += <uint32_t>n
        if used < 0 or c.lingered > LINGER_BYTES or not conn_keep_input(c, w.rx + used, n - used):
            c.lingered = 0
            down_close(c, True)
            return
        if got < 0 and not c.ev & EV_IN:
            break
    if f.done:
        down_next(c)


cdef void down_close(conn_t *c, bint more) noexcept nogil:
    """Closes once all is sent. Unread bytes would make the kernel reset the conn and with it the answer, so if more may
    come it is read and thrown away, within bounds (RFC 9112 9.6)."""
    c.stream = NULL
    if c.torn or not more and c.out == NULL and c.inb == NULL and not c.ev & EV_IN:
        conn_close(c, c.torn)
        return
    c.state = C_FLUSH
    put_buf(c.w, c.inb)
    c.inb = NULL
    if c.out == NULL:
        linger_begin(c)
    else:
        set_deadline(c, c.idle_ns)


cdef void linger_begin(conn_t *c) noexcept nogil:
    if c.ev & EV_FIN and not c.ev & EV_IN:
        conn_close(c, False)
        return
    c.state = C_LINGER
    shutdown(c.fd, SHUT_WR)
    set_deadline(c, LINGER_NS)
    linger_read(c)


cdef void linger_read(conn_t *c) noexcept nogil:
    cdef ssize_t got
    while c.ev & EV_IN:
        got = conn_recv(c, c.w.rx, RX_READ)
        if got == -1:
            return
        if got <= 0:
            if c.state == C_LINGER or got == -2:
                conn_close(c, False)
            return
        c.lingered += <uint32_t>got
        if c.lingered > LINGER_BYTES:
            conn_close(c, False)
            return


cdef void down_refuse(conn_t *c, uint32_t cause) noexcept nogil:
    """Answers a head that is no request, and closes: what comes behind it cannot be told apart."""
    cdef worker_t *w = c.w
    cdef size_t n = error_text(w, w.tx, cause, NULL, 0, True, False)
    cdef lconf_t *conf = w.plan.plan.listeners[c.slot]
    cdef series_t *series
    count_error(w, cause)
    if conf != NULL:
        if conf.log != NULL:
            log_refused(c, conf, cause)
        series = series_of(w, conf.series)
        if series != NULL:
            fp_count(&series.used, 1)
            fp_count(&series.status[error_status(cause) // 100], 1)
    if conn_send(c, w.tx, n):
        down_close(c, True)
    else:
        conn_close(c, c.torn)
