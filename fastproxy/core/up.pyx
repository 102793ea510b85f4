# An upstream HTTP/1 conn: response heads are read here, bodies in forward.pyx.

cdef void up_event(conn_t *c, uint32_t events) noexcept nogil:
    cdef stream_t *s = c.stream
    if c.state == C_POOLED:
        if events != EPOLLOUT:
            conn_close(c, False)           # an idle conn has nothing to say: surplus bytes, or its end
        return
    if c.state == C_CONNECTING:
        if c.ev & EV_ERR or events & EPOLLHUP:
            up_failed(c, E_CONNECT_FAILURE)
            return
        if not events & EPOLLOUT:
            return
        up_connected(c)
        if c.state == C_DEAD or s.state == S_DONE or s.up != c:
            return
    if c.out != NULL and events & EPOLLOUT:
        if not conn_flush(c):
            if s.state == S_TUNNEL:
                stream_abort(s, E_UPSTREAM_CUT)
                return
            up_deaf(s)
        else:
            down_moved(s.down)
    if events & EPOLLOUT and c.out == NULL and s.state != S_DIAL and (s.state == S_TUNNEL or not s.flow[REQ].done):
        pump(s, REQ)
        if s.state == S_DONE or s.up != c:
            return
    if c.ev & EV_IN:
        up_readable(c)


cdef void up_readable(conn_t *c) noexcept nogil:
    cdef stream_t *s = c.stream
    if s.state == S_WAIT:
        up_read_head(s)
    elif s.state >= S_RESPOND:
        pump(s, RSP)


cdef void up_read_head(stream_t *s) noexcept nogil:
    cdef worker_t *w = s.w
    cdef conn_t *c = s.up
    cdef size_t kept, n
    cdef ssize_t got
    cdef uint8_t *p
    cdef int r
    while c.ev & EV_IN:
        kept = 0
        if c.inb != NULL:
            kept = buf_len(c.inb)
            memcpy(w.rx, buf_at(c.inb), kept)
        got = conn_recv(c, w.rx + kept, RX_HEAD)
        if got == -1:
            return
        if got <= 0:
            if s.first_ns == 0:
                up_failed(c, E_UPSTREAM_RESET)
            else:
                stream_error(s, E_UPSTREAM_CUT)
            return
        put_buf(w, c.inb)
        c.inb = NULL
        if s.first_ns == 0:
            s.first_ns = w.now
            put_buf(w, s.hold)
            s.hold = NULL
            s.hold_all = False
        p = w.rx
        n = kept + got
        while n > 0:
            r = h1_parse_response(p, n, &w.up_limits, s.method, &w.rhead)
            if r < 0:
                stream_error(s, -r)
                return
            if r == 0:
                if not conn_keep_input(c, p, n):
                    stream_error(s, E_OVERLOAD)
                    return
                break
            if w.rhead.status >= 200 or w.rhead.status == 101:
                on_response(s, p, r, n)
                return
            if not on_interim(s, p):
                return
            p += r
            n -= r


cdef bint on_interim(stream_t *s, uint8_t *p) noexcept nogil:
    """A 1xx, passed on to whoever understands it (RFC 9110 15.2). False: the stream ended."""
    cdef worker_t *w = s.w
    cdef size_t m
    s.n_interim += 1
    if s.n_interim > MAX_INTERIM:
        stream_error(s, E_UPSTREAM_PROTOCOL)
        return False
    set_deadline(s.down, s.down.idle_ns)
    if s.minor == 0 or s.down.out != NULL:
        return True
    m = build_response(s, p, &w.rhead, w.tx)
    if m and not conn_send(s.down, w.tx, m):
        stream_abort(s, E_CLIENT_ABORT)
        return False
    return True


cdef void on_response(stream_t *s, uint8_t *p, size_t head_len, size_t n) noexcept nogil:
    """The final head at p, with n - head_len bytes behind it."""
    cdef worker_t *w = s.w
    cdef h1_head_t *h = &w.rhead
    cdef flow_t *f = &s.flow[RSP]
    cdef uint8_t *body = p + head_len
    cdef size_t m, kept = 0, used = 0, rest = n - head_len
    cdef int64_t fed
    cdef conn_t *down = s.down
    set_deadline(down, s.conf.stream_idle_ns)
    if h.status == 101:
        on_switch(s, p, head_len, n)
        return
    if s.conf.log != NULL:
        note_response(s, p, h)
    if s.trial and not is_failure(h.status, 0):
        endpoint_good(s)
    if s.cluster.uses_ewma:
        ewma_observe(&s.endpoint.shared, s.first_ns - s.sent_ns, w.now)
    s.keep_up = not h.flags & H1_F_CLOSE and h.body != H1_BODY_CLOSE
    if w.draining:
        s.keep_down = False
    f.kind = h.body
    f.left = h.content_length
    f.done = h.body == H1_BODY_NONE
    f.strip = h.body == H1_BODY_CHUNKED and s.minor == 0
    if f.strip or h.body == H1_BODY_CLOSE:
        s.keep_down = False
    if f.kind == H1_BODY_LENGTH:
        kept = used = rest if rest < f.left else <size_t>f.left
        f.left -= kept
        f.done = f.left == 0
    elif f.kind == H1_BODY_CLOSE:
        kept = used = rest
    elif f.kind == H1_BODY_CHUNKED:
        fed = feed_chunks(f, body, rest, &kept, True)
        if fed < 0:
            stream_error(s, E_UPSTREAM_PROTOCOL)
            return
        used = fed
        f.done = f.chunk.state == CHUNK_DONE
    if used < rest:
        if f.done:
            s.up_dirty = True              # surplus: never the start of another answer
        elif not conn_keep_input(s.up, body + used, rest - used):
            stream_error(s, E_OVERLOAD)
            return
    # An early answer that is here whole may end the conn, which the client is told. What came behind a request for an
    # upgrade that the upstream declines may be the other protocol already.
    if (f.done and not can_go_on(s)) or (s.upgrade and (down.inb != NULL or down.ev & EV_IN)):
        s.keep_down = False
    m = build_response(s, p, h, w.tx)
    if m == 0:
        stream_error(s, E_UPSTREAM_HEAD_TOO_LARGE)
        return
    f.bytes = kept
    s.status = h.status
    set_stream_state(s, S_RESPOND)
    if kept <= SEND_COPY:
        memcpy(w.tx + m, body, kept)
        if not conn_send(down, w.tx, m + kept):
            stream_abort(s, E_CLIENT_ABORT)
            return
    elif not conn_send2(down, w.tx, m, body, kept):
        stream_abort(s, E_CLIENT_ABORT)
        return
    if f.done:
        response_done(s)
    else:
        f.bulk = f.left >= SPLICE_MIN or f.kind == H1_BODY_CLOSE
        if s.up.ev & EV_IN:
            pump(s, RSP)


cdef void on_switch(stream_t *s, uint8_t *p, size_t head_len, size_t n) noexcept nogil:
    """101: a tunnel, if it was asked for, allowed, and is what the upstream answers to (RFC 9110 7.8)."""
    cdef worker_t *w = s.w
    cdef h1_head_t *h = &w.rhead
    cdef h1_field_t *f
    cdef text_t *asked
    cdef bint fits = False
    cdef size_t m
    if s.upgrade and h.at[<int>HID_UPGRADE]:
        f = &h.fields[h.at[<int>HID_UPGRADE] - 1]
        asked = &s.route.upgrades[s.upgrade - 1]
        fits = asked.len == f.value_len and fp_fold_eq(p + f.value, asked.at, f.value_len)
    if not fits:
        stream_error(s, E_UPSTREAM_UPGRADE)
        return
    m = build_response(s, p, h, w.tx)
    if m == 0:
        stream_error(s, E_UPSTREAM_HEAD_TOO_LARGE)
        return
    if s.trial:
        endpoint_good(s)
    s.status = 101
    s.keep_down = False
    timer_disarm(w, &s.timer)              # the route's timeout is for an answer, and this was it
    s.flow[REQ].kind = s.flow[RSP].kind = H1_BODY_TUNNEL
    s.flow[REQ].done = s.flow[RSP].done = False
    set_stream_state(s, S_TUNNEL)
    s.flow[RSP].bytes = n - head_len
    if not conn_send2(s.down, w.tx, m, p + head_len, n - head_len):
        stream_abort(s, E_CLIENT_ABORT)
        return
    pump(s, RSP)
    if s.state == S_TUNNEL:
        pump(s, REQ)
