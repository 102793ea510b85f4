# One exchange: from a complete request head to `finish`, over one or more attempts at an upstream conn.
#
#   S_DIAL -> S_WAIT -> S_RESPOND -> S_DONE      a pooled conn starts in S_WAIT
#   S_WAIT -> S_DIAL                             another attempt
#   S_DIAL | S_WAIT -> S_TUNNEL -> S_DONE        TCP once connected; HTTP after 101
#   any -> S_DONE                                answered by ourselves, or aborted

cdef inline void set_stream_state(stream_t *s, uint8_t state) noexcept nogil:
    fp_assert(s.state != S_DONE)
    fp_assert(state != S_RESPOND or s.state == S_WAIT)
    fp_assert(state != S_WAIT or s.state == 0 or s.state == S_DIAL)
    fp_assert(state != S_DIAL or s.state == 0 or s.state == S_WAIT)
    s.state = state


cdef stream_t *stream_open(conn_t *c, lconf_t *conf) noexcept nogil:
    cdef worker_t *w = c.w
    cdef stream_t *s = take_stream(w)
    if s == NULL:
        return NULL
    s.down = c
    s.conf = conf
    s.wp = w.plan
    s.wp.streams += 1
    s.start_ns = w.now
    s.series = conf.series
    c.stream = s
    c.state = C_BUSY
    c.idle_ns = conf.stream_idle_ns if conf.http else conf.idle_ns
    set_deadline(c, c.idle_ns)
    return s


cdef size_t stream_begin(conn_t *c, lconf_t *conf, uint8_t *p, size_t head_len, size_t n) noexcept nogil:
    """A request head of head_len bytes at p, parsed into w.head, and n - head_len bytes behind it. Returns how many of
    the n are used up. Afterwards the stream runs, or is answered and done, or its conn is closed."""
    cdef worker_t *w = c.w
    cdef h1_head_t *head = &w.head
    cdef stream_t *s = stream_open(c, conf)
    cdef view_t view
    cdef char why = 0
    cdef int verdict
    if s == NULL:
        count_error(w, E_OVERLOAD)
        conn_close(c, True)
        return n
    s.method, s.minor = head.method, head.minor
    s.expects = head.flags & H1_F_EXPECT_100 != 0
    s.keep_down = not head.flags & H1_F_CLOSE and not w.draining
    s.flow[REQ].kind = head.body
    s.flow[REQ].left = head.content_length
    s.flow[REQ].done = head.body == H1_BODY_NONE
    s.idempotent = (1 << s.method) & (1 << H1_M_GET | 1 << H1_M_HEAD | 1 << H1_M_PUT | 1 << H1_M_DELETE | 1 << H1_M_OPTIONS | 1 << H1_M_TRACE)
    w.n_set = 0
    w.set_lines_len = 0
    view_from_h1(&view, p, head)
    if conf.log != NULL:
        note_request(s, head, &view)
    verdict = request_check(s, head, p)
    if verdict == 0 and conf.n_filters:
        verdict = run_filters(s, &view)
    if verdict == 0:
        s.route = <route_t *>table_match(conf.table.found, &view, &why)
        if s.route == NULL:
            verdict = E_NO_ROUTE
        else:
            s.series = s.route.series
            verdict = choose_target(s, head, p) if s.route.action == ROUTE_FORWARD else -<int>s.route.status
    if verdict:
        return answer_now(s, p, head_len, n, verdict, &view)
    if s.route.timeout_ns:
        arm_timeout(s)
    return stream_send(s, p, head_len, n, &view)


cdef size_t answer_now(stream_t *s, uint8_t *p, size_t head_len, size_t n, int verdict, view_t *view) noexcept nogil:
    """Answers without an upstream: verdict is an error_code, or minus a status. Returns what of p[0:n] is used up.

    The body is read past, what is here of it at once. The answer is the same whatever it holds and however it comes."""
    cdef conn_t *c = s.down
    cdef flow_t *f = &s.flow[REQ]
    cdef int64_t body = 0
    if s.expects or not can_go_on(s):
        s.keep_down = False
    if not f.done:
        body = skip_bytes(f, p + head_len, n - head_len)
        if body < 0:
            s.keep_down = False
    if verdict > 0:
        stream_error(s, verdict)
    elif s.route != NULL:
        direct_answer(s, view)
    else:
        stream_answer(s, -verdict, NULL, 0, NULL, 0)
    return used_of(s, head_len + body, n)


cdef inline size_t used_of(stream_t *s, size_t used, size_t n) noexcept nogil:
    """Of n bytes at hand, those that are used up: all where nothing more is read as a request."""
    if s.state == S_DONE and s.down.state != C_IDLE and s.down.state != C_SKIP:
        return n
    return used


cdef int64_t skip_bytes(flow_t *f, uint8_t *p, size_t n) noexcept nogil:
    """How many of p[0:n] belong to a body that nobody wants; -1: it is malformed. An unfinished line is left for later."""
    cdef size_t kept
    cdef int64_t fed
    if f.kind == H1_BODY_LENGTH:
        fed = <int64_t>(n if n < f.left else f.left)
        f.left -= fed
        f.done = f.left == 0
        return fed
    fed = h1_chunk_feed(&f.chunk, p, n, &kept, False)
    f.done = f.chunk.state == CHUNK_DONE
    return fed if fed >= 0 else -1


cdef int request_check(stream_t *s, h1_head_t *head, uint8_t *p) noexcept nogil:
    """What is refused, or answered here, whatever the route: a verdict as answer_now takes it, 0 to go on."""
    cdef h1_field_t *f
    cdef uint32_t i, n = 0
    if s.conf.body_bytes and s.flow[REQ].kind == H1_BODY_LENGTH and s.flow[REQ].left > s.conf.body_bytes:
        return E_BODY_TOO_LARGE
    if head.method == H1_M_CONNECT:
        s.keep_down = False                   # what follows may be meant for the tunnel that there is not
        return E_METHOD_NOT_ALLOWED
    if head.at[<int>HID_X_FASTPROXY_HOPS]:
        f = &head.fields[head.at[<int>HID_X_FASTPROXY_HOPS] - 1]
        for i in range(f.value_len if f.value_len < 4 else 4):
            if not 48 <= p[f.value + i] <= 57:
                break
            n = n * 10 + p[f.value + i] - 48
        s.hops = n
        if n >= MAX_HOPS:
            return E_LOOP
    if head.at[<int>HID_MAX_FORWARDS] and (head.method == H1_M_TRACE or head.method == H1_M_OPTIONS):
        # RFC 9110 7.6.2: at 0 the recipient answers itself.
        for i in range(head.n_fields):
            f = &head.fields[i]
            if f.hid == HID_MAX_FORWARDS and decimal(p + f.value, f.value_len) == 0:
                return E_METHOD_NOT_ALLOWED if head.method == H1_M_TRACE else -200
    return 0


cdef uint32_t choose_target(stream_t *s, h1_head_t *head, uint8_t *p) noexcept nogil:
    """Upgrade, cluster and endpoint: an error_code, 0 to go on."""
    cdef route_t *route = s.route
    cdef target_t *target = route.targets
    cdef uint64_t at
    cdef uint32_t i
    cdef h1_field_t *f
    cdef bint is_h2c
    if head.flags & H1_F_UPGRADE:
        f = &head.fields[head.at[<int>HID_UPGRADE] - 1]
        for i in range(route.n_upgrades):
            if route.upgrades[i].len == f.value_len and fp_fold_eq(p + f.value, route.upgrades[i].at, f.value_len):
                s.upgrade = <uint8_t>(i + 1)
        # h2c is dropped and the request goes on (RFC 9113 3.1 took it away); a request that can only mean a tunnel is not
        # passed on as something else.
        is_h2c = f.value_len == 3 and fp_fold_eq(p + f.value, b"h2c", 3)
        if (s.upgrade and not s.flow[REQ].done) or (not s.upgrade and not is_h2c):
            s.keep_down = False               # what follows may be the other protocol already
            return E_UPGRADE_REFUSED
    if route.n_targets > 1:
        at = next_random(s.w) % route.total_weight
        for i in range(route.n_targets):
            if at < route.targets[i].weight:
                target = route.targets + i
                break
            at -= route.targets[i].weight
    s.series = target.series
    s.cluster = s.wp.plan.clusters[target.cluster]
    if not request_enter(s):
        return E_OVERFLOW
    if not pick_endpoint(s):
        return fall_back(s, target.fallback_series)
    return 0


cdef uint32_t fall_back(stream_t *s, uint32_t *series) noexcept nogil:
    """The cluster has no endpoint that can be had: the first of its fallbacks that has one takes the stream, under its own
    limits and series. An error_code, 0 to go on."""
    cdef cluster_t *first = s.cluster
    cdef uint32_t first_series = s.series, i
    for i in range(MAX_FALLBACKS):
        if s.cluster.fallback == 0:
            break
        request_leave(s)
        s.cluster = s.wp.plan.clusters[s.cluster.fallback - 1]
        s.series = series[i]
        if not s.tcp and not request_enter(s):
            return E_OVERFLOW
        if pick_endpoint(s):
            return 0
    request_leave(s)
    s.cluster, s.series = first, first_series
    return E_NO_ENDPOINT


cdef size_t stream_send(stream_t *s, uint8_t *p, size_t head_len, size_t n, view_t *view) noexcept nogil:
    """First attempt: on an idle conn head and body leave now, else the head waits in hold for a new conn."""
    cdef worker_t *w = s.w
    cdef flow_t *f = &s.flow[REQ]
    cdef size_t m, used = head_len, kept = 0
    cdef int64_t fed
    cdef uint8_t *body = p + head_len
    m = build_request(s, p, &w.head, view, w.tx)
    if m == 0:
        return answer_now(s, p, head_len, n, E_HEAD_TOO_LARGE, view)
    s.up = pool_take(w, s.endpoint)
    if s.up == NULL:
        if not buf_append(w, &s.hold, w.tx, m):
            return answer_now(s, p, head_len, n, E_OVERLOAD, view)
        set_stream_state(s, S_DIAL)
        stream_dial(s)
        return used_of(s, head_len, n)
    up_attach(s, s.up)
    s.from_pool = True
    set_stream_state(s, S_WAIT)
    s.sent_ns = w.now
    if f.kind == H1_BODY_LENGTH:
        kept = n - head_len if n - head_len < f.left else <size_t>f.left
        used += kept
        f.left -= kept
        f.done = f.left == 0
    elif f.kind == H1_BODY_CHUNKED:
        fed = h1_chunk_feed(&f.chunk, body, n - head_len, &kept, False)
        if fed < 0:
            stream_error(s, E_BAD_CHUNK)
            return n
        used += fed
        f.done = f.chunk.state == CHUNK_DONE
    f.bytes += kept
    if s.conf.body_bytes and f.chunk.data > s.conf.body_bytes:
        stream_error(s, E_BODY_TOO_LARGE)
        return n
    s.hold_all = s.idempotent and m + kept <= HOLD_MAX
    if s.hold_all and not (buf_append(w, &s.hold, w.tx, m) and buf_append(w, &s.hold, body, kept)):
        s.hold_all = False
    if kept <= SEND_COPY:
        memcpy(w.tx + m, body, kept)
        if conn_send(s.up, w.tx, m + kept):
            return used
    elif conn_send2(s.up, w.tx, m, body, kept):
        return used
    # The pooled conn was dead and took nothing: all of it is still at hand, whatever the method.
    if not s.hold_all:
        put_buf(w, s.hold)
        s.hold = NULL
        s.hold_all = buf_append(w, &s.hold, w.tx, m) and buf_append(w, &s.hold, body, kept)
    s.idempotent = True
    up_failed(s.up, E_UPSTREAM_RESET)
    return used_of(s, used, n)


cdef void stream_error(stream_t *s, uint32_t cause) noexcept nogil:
    """Answers with the error, or cuts the conn where an answer has begun. The stream is done afterwards."""
    cdef worker_t *w = s.w
    cdef size_t n
    if s.state == S_DONE:
        return
    if s.tcp or s.state >= S_RESPOND or error_status(cause) == 0:
        stream_abort(s, cause)
        return
    s.cause = cause
    s.status = error_status(cause)
    stream_drop_up(s)
    if not can_go_on(s) or cause == E_BAD_CHUNK or cause == E_BODY_TOO_LARGE or cause == E_STREAM_IDLE:
        s.keep_down = False
    n = error_text(w, w.tx, cause, s, s.method == H1_M_HEAD, not s.keep_down, s.minor == 0)
    s.flow[RSP].bytes = n
    if not conn_send(s.down, w.tx, n):
        s.keep_down = False
    finish(s)


cdef void stream_answer(stream_t *s, uint32_t status, const char *headers, size_t headers_len, const char *body,
                        size_t body_len) noexcept nogil:
    """An answer of our own that is no error."""
    cdef worker_t *w = s.w
    cdef size_t n
    s.status = status
    if not can_go_on(s):
        s.keep_down = False
    n = answer_head(w, w.tx, status, body_len, not s.keep_down, s.minor == 0)
    if headers_len and headers_len + n + 2 <= TX_SIZE:
        memcpy(w.tx + n, headers, headers_len)
        n += headers_len
    w.tx[n] = 13
    w.tx[n + 1] = 10
    n += 2
    if s.method == H1_M_HEAD:
        body_len = 0
    s.flow[RSP].bytes = body_len
    if body_len <= SEND_COPY and n + body_len <= TX_SIZE:
        if body_len:
            memcpy(w.tx + n, body, body_len)
        if not conn_send(s.down, w.tx, n + body_len):
            s.keep_down = False
    elif not conn_send2(s.down, w.tx, n, body, body_len):
        s.keep_down = False
    finish(s)


cdef bint can_go_on(stream_t *s) noexcept nogil:
    """Whether the downstream conn can take another request once this one is answered: what is still to come of its body
    must be worth reading past (RFC 9112 9.3), and sure to come."""
    cdef flow_t *f = &s.flow[REQ]
    return f.done or (not s.expects and (f.kind == H1_BODY_CHUNKED or f.left <= LINGER_BYTES))


cdef void stream_abort(stream_t *s, uint32_t cause) noexcept nogil:
    """Ends both sides at once. An answer that has begun must not look whole, so the client gets a reset."""
    cdef conn_t *down = s.down
    if s.state == S_DONE:
        return
    s.cause = cause
    s.keep_down = False
    stream_drop_up(s)
    down.stream = NULL
    finish(s)
    conn_close(down, s.status != 0 or s.tcp)


cdef void stream_drop_up(stream_t *s) noexcept nogil:
    """The upstream conn cannot be used again: closed at once, so that the upstream sees the end."""
    if s.up != NULL:
        s.up.stream = NULL
        conn_close(s.up, (s.tcp or s.state == S_TUNNEL) and s.cause != 0)
        s.up = NULL


cdef void stream_idle(stream_t *s) noexcept nogil:
    """No byte moved on either side for the idle time."""
    stream_error(s, E_STREAM_IDLE)


cdef inline void arm_timeout(stream_t *s) noexcept nogil:
    timer_arm(s.w, &s.timer, (s.w.now + s.route.timeout_ns + MS - 1) // MS)


cdef void on_stream_timeout(stream_t *s) noexcept nogil:
    """The route's timeout runs from the end of the request (Envoy), so while a body still comes it has not begun: pump arms
    it again. A dial is timed from the head, since the body waits for it unread."""
    if s.flow[REQ].done or s.state == S_DIAL:
        stream_error(s, E_REQUEST_TIMEOUT)


cdef void tcp_begin(conn_t *c, lconf_t *conf) noexcept nogil:
    """A conn of a TCP listener is a stream from its first moment."""
    cdef worker_t *w = c.w
    cdef stream_t *s = stream_open(c, conf)
    cdef series_t *series
    cdef uint32_t cause = 0
    if s == NULL:
        count_error(w, E_OVERLOAD)
        conn_close(c, True)
        return
    s.tcp = True
    s.cluster = s.wp.plan.clusters[conf.cluster]
    s.flow[REQ].kind = s.flow[RSP].kind = H1_BODY_TUNNEL
    set_stream_state(s, S_DIAL)
    if not pick_endpoint(s):
        cause = fall_back(s, conf.fallback_series)
    series = series_of(w, s.series)
    if series != NULL:
        fp_count(&series.connections, 1)
    if cause:
        stream_abort(s, cause)
        return
    if fp_atomic_load32(&s.endpoint.is_loop):
        stream_abort(s, E_LOOP)
        return
    stream_dial(s)
