# Bodies, both ways: read once into the scratch, checked, sent from it. What the other side does not take waits in its
# `out`, and until that is sent the source is not read. Long runs of opaque bytes are spliced past user space.

cdef int64_t feed_chunks(flow_t *f, uint8_t *p, size_t n, size_t *kept, bint response) noexcept nogil:
    """h1_chunk_feed, and for a client that does not know chunks the data alone."""
    cdef size_t at = 0, take, inner
    cdef int64_t fed
    cdef uint8_t *end
    if not f.strip:
        return h1_chunk_feed(&f.chunk, p, n, kept, response)
    kept[0] = 0
    while at < n and f.chunk.state != CHUNK_DONE:
        if f.chunk.state == CHUNK_DATA:
            take = n - at if n - at < f.chunk.left else <size_t>f.chunk.left
            memmove(p + kept[0], p + at, take)
            kept[0] += take
        else:
            end = <uint8_t *>memchr(p + at, 10, n - at)
            take = end + 1 - (p + at) if end != NULL else n - at
        fed = h1_chunk_feed(&f.chunk, p + at, take, &inner, response)
        if fed < 0:
            return fed
        if fed == 0:
            break
        at += fed
    return at


cdef void pump(stream_t *s, int way) noexcept nogil:
    """Moves what can be moved one way. The stream may be done afterwards."""
    cdef worker_t *w = s.w
    cdef flow_t *f = &s.flow[way]
    cdef conn_t *src = s.down if way == REQ else s.up
    cdef conn_t *dst = s.up if way == REQ else s.down
    cdef int64_t budget = PUMP_BUDGET
    cdef int64_t got
    cdef bint moved = False
    if src == NULL or dst == NULL or s.state == S_DONE or s.state == S_DIAL:
        return
    while not f.done and dst.out == NULL:
        if way == REQ and s.up_broken:
            return
        if f.pipe != NULL:
            if f.gather:
                f.gather = False
                if src.ev & EV_IN and (f.kind != H1_BODY_LENGTH or f.left):
                    got = splice_in(s, way, f, src)
                    if got > 0:
                        budget -= got
                    elif got == -2:               # a break is not: what came before it goes on
                        splice_out(s, f, dst)
                        pump_broken(s, way)
                        return
                    else:
                        src.ev |= EV_IN           # an end is told again, and EAGAIN may have meant the pipe
            got = splice_out(s, f, dst)
            if got == 0:
                break
            if got < 0:
                pump_broken(s, way)
                return
            moved = True
            continue
        if budget <= 0 and src.ev & EV_IN:
            ready_add(src)
            break
        if src.inb != NULL:
            budget -= RX_READ                # what it reads beside the kept bytes
            got = pump_kept(s, way, f, src, dst)
        else:
            if not src.ev & EV_IN:
                break
            if f.bulk and (f.kind == H1_BODY_TUNNEL or f.kind == H1_BODY_CLOSE or (f.kind == H1_BODY_LENGTH and f.left >= SPLICE_MIN)):
                got = splice_in(s, way, f, src)
                if got > 0:
                    budget -= got
                    moved = True
                    if f.pipe != NULL and f.piped < GATHER_BYTES and f.piped < f.pipe.size // 2 and not src.queued and (f.kind != H1_BODY_LENGTH or f.left):
                        f.gather = True
                        ready_add(src)
                        break
                    continue
            else:
                got = conn_recv(src, w.rx, RX_READ)
                if got > 0:
                    f.bulk = got == RX_READ
                    budget -= got
                    got = pump_bytes(s, way, f, src, dst, w.rx, got)
        if got == -1:
            break
        if got == -3:
            return                          # the stream has ended
        if got == 0:
            pump_end(s, way)
            return
        if got == -2:
            pump_broken(s, way)
            return
        moved = True
    if moved:
        set_deadline(s.down, s.down.idle_ns)
        if way == REQ and f.done and s.state != S_TUNNEL and s.route.timeout_ns:
            arm_timeout(s)
    if f.done and way == REQ and s.state <= S_RESPOND:
        if src.ev & EV_FIN:                  # seen together with the last bytes: no other event tells of it
            down_check_abort(src)
    elif f.done and (way == RSP or dst.out == NULL and f.pipe == NULL):
        pump_done(s, way)


cdef int64_t pump_kept(stream_t *s, int way, flow_t *f, conn_t *src, conn_t *dst) noexcept nogil:
    """Bytes that were read before: results as pump_bytes, or what conn_recv says when more must be read to go on."""
    cdef worker_t *w = s.w
    cdef buf_t *b = src.inb
    cdef int64_t got
    cdef size_t kept
    if f.kind != H1_BODY_CHUNKED:
        src.inb = NULL
        got = pump_bytes(s, way, f, src, dst, buf_at(b), buf_len(b))
        put_buf(w, b)
        return got
    # An unfinished line of a chunked body, or one not looked at yet.
    kept = buf_len(b)
    memcpy(w.rx, buf_at(b), kept)
    put_buf(w, b)
    src.inb = NULL
    got = 0
    # Pipelined requests may lie behind: no more is read than the scratch, and so one buffer, takes beside them.
    if src.ev & EV_IN and kept <= RX_SIZE - RX_READ:
        got = conn_recv(src, w.rx + kept, RX_READ)
        if got == 0 or got == -2:
            # What was kept may still be whole.
            src.ev |= EV_IN
        if got < 0:
            got = 0
    return pump_bytes(s, way, f, src, dst, w.rx, kept + got)


cdef int64_t pump_bytes(stream_t *s, int way, flow_t *f, conn_t *src, conn_t *dst, uint8_t *p, size_t n) noexcept nogil:
    """Forwards what of p[0:n] belongs to the body. 1: went, -1: nothing could be used yet, -2: a side broke, -3: the stream
    has ended."""
    cdef worker_t *w = s.w
    cdef size_t used = n, kept = n
    cdef int64_t fed
    if f.kind == H1_BODY_LENGTH:
        if n >= f.left:
            used = kept = <size_t>f.left
            f.done = True
        f.left -= used
    elif f.kind == H1_BODY_CHUNKED:
        fed = feed_chunks(f, p, n, &kept, way == RSP)
        if fed < 0:
            if way == RSP:
                stream_abort(s, E_UPSTREAM_PROTOCOL)
            else:
                stream_error(s, E_BAD_CHUNK)
            return -3
        used = fed
        f.done = f.chunk.state == CHUNK_DONE
    f.bytes += kept
    if way == REQ:
        if s.conf.body_bytes and f.chunk.data > s.conf.body_bytes:       # a length was checked with the head
            stream_error(s, E_BODY_TOO_LARGE)
            return -3
        # Nothing came back yet: what a stale conn swallows can be sent again while it is all here.
        if s.hold_all and (buf_len(s.hold) + kept > HOLD_MAX or not buf_append(w, &s.hold, p, kept)):
            s.hold_all = False
    if used < n:
        if f.done and way == RSP:
            s.up_dirty = True
        elif not conn_keep_input(src, p + used, n - used):
            stream_abort(s, E_OVERLOAD)
            return -3
    if kept and not conn_send(dst, p, kept):
        if way == RSP or f.kind == H1_BODY_TUNNEL:
            return -2
        if dst.torn:
            stream_error(s, E_OVERLOAD)
            return -3
        up_deaf(s)
        return 1
    if used == 0 and not f.done:
        return need_more(s, src) if src.ev & EV_IN else -1
    return 1


cdef int64_t need_more(stream_t *s, conn_t *src) noexcept nogil:
    """A line that cannot be finished: more may be in the socket, or its end."""
    cdef uint8_t one
    cdef ssize_t got = recv(src.fd, &one, 1, MSG_PEEK)
    if got > 0:
        return 1
    if got == 0:
        return 0
    if errno == EAGAIN or errno == EINTR:
        src.ev &= ~EV_IN
        return -1
    src.ev |= EV_ERR
    return -2


cdef void pump_end(stream_t *s, int way) noexcept nogil:
    """The source has shut its half."""
    cdef flow_t *f = &s.flow[way]
    if f.kind == H1_BODY_TUNNEL or (way == RSP and f.kind == H1_BODY_CLOSE):
        f.done = True
        pump_done(s, way)
    elif way == REQ:
        stream_abort(s, E_CLIENT_ABORT)      # a cut body never completes upstream
    else:
        stream_abort(s, E_UPSTREAM_CUT)


cdef void pump_broken(stream_t *s, int way) noexcept nogil:
    """A side broke while bytes went this way."""
    if s.down.ev & EV_ERR:
        stream_abort(s, E_CLIENT_ABORT)
    elif way == RSP or s.state == S_TUNNEL:
        stream_abort(s, E_UPSTREAM_CUT)
    else:
        up_deaf(s)


cdef void up_deaf(stream_t *s) noexcept nogil:
    """The upstream takes no more of the request. An answer may be there already: it is read first."""
    s.up_broken = True
    s.up.ev |= EV_IN
    ready_add(s.up)


cdef void pump_done(stream_t *s, int way) noexcept nogil:
    """This way has come to its end."""
    cdef conn_t *dst = s.up if way == REQ else s.down
    if s.state == S_TUNNEL:
        if not s.flow[way].shut:             # each shutdown is an edge for epoll: once
            s.flow[way].shut = True
            conn_shut(dst)
        if s.flow[1 - way].done:
            tunnel_done(s)
    elif way == RSP:
        response_done(s)


cdef void tunnel_done(stream_t *s) noexcept nogil:
    """Both halves are shut; what is unsent to the upstream goes first."""
    cdef conn_t *up = s.up
    cdef conn_t *down = s.down
    if up.out != NULL or down.out != NULL:
        return                               # the flush that empties the last one comes back here
    up.stream = NULL
    s.up = NULL
    conn_close(up, False)
    down.stream = NULL
    finish(s)
    conn_close(down, False)


cdef void response_done(stream_t *s) noexcept nogil:
    """The response is complete: the upstream conn goes back to its pool if nothing of this exchange can be left on it."""
    cdef conn_t *up = s.up
    up.stream = NULL
    s.up = NULL
    if s.keep_up and s.flow[REQ].done and not s.up_dirty and not s.up_broken and not s.w.stop:
        pool_put(up)
    else:
        conn_close(up, False)
    if not can_go_on(s):
        s.keep_down = False
    finish(s)


# ---- splice ----------------------------------------------------------------------------------------------------------

cdef int64_t splice_in(stream_t *s, int way, flow_t *f, conn_t *src) noexcept nogil:
    """Socket to pipe, which may hold something already: bytes, or 0, -1, -2 as conn_recv. Falls back to copying when there
    is no pipe."""
    cdef worker_t *w = s.w
    cdef pipe_t *p = f.pipe if f.pipe != NULL else take_pipe(w)
    cdef ssize_t got
    cdef size_t most
    if p == NULL:
        f.bulk = False
        return 1
    most = p.size - f.piped
    if f.kind == H1_BODY_LENGTH and f.left < most:
        most = <size_t>f.left
    while True:
        got = splice(src.fd, NULL, p.wr, NULL, most, SPLICE_F_MOVE | SPLICE_F_NONBLOCK)
        if got >= 0 or errno != EINTR:
            break
    if got <= 0:
        if f.pipe == NULL:
            put_pipe(w, p, True)
        if got == 0:
            src.ev &= ~EV_IN
            src.ev |= EV_FIN
            return 0
        if errno == EAGAIN:
            src.ev &= ~EV_IN
            return -1
        if errno == EINVAL:
            f.bulk = False
            return 1
        src.ev |= EV_ERR
        return -2
    f.pipe = p
    f.piped += <uint32_t>got
    f.bytes += got
    if f.kind == H1_BODY_LENGTH:
        f.left -= got
    if f.piped < 16384:
        f.bulk = False                       # a trickle: copying costs less
    fp_count(&w.spliced_bytes, got)
    count_received(src, got)
    return got


cdef int64_t splice_out(stream_t *s, flow_t *f, conn_t *dst) noexcept nogil:
    """Pipe to socket: 1 when the pipe is empty, 0: the socket takes no more now, -2: broken."""
    cdef worker_t *w = s.w
    cdef ssize_t sent
    while f.piped:
        sent = splice(f.pipe.rd, NULL, dst.fd, NULL, f.piped, SPLICE_F_MOVE | SPLICE_F_NONBLOCK)
        if sent < 0:
            if errno == EINTR:
                continue
            if errno == EAGAIN:
                return 0
            dst.ev |= EV_ERR
            return -2
        count_sent(dst, sent)
        f.piped -= <uint32_t>sent
    put_pipe(w, f.pipe, True)
    f.pipe = NULL
    if f.kind == H1_BODY_LENGTH and f.left == 0:
        f.done = True
    return 1
