# Heads on their way out: the received lines, run by run, less what is not forwarded, plus what is added. Case, order and
# bytes of everything else stay as they came.

cdef struct out_t:
    uint8_t *at
    size_t n


cdef inline void put(out_t *o, const void *p, size_t n) noexcept nogil:
    if n:                              # a piece that is not set has no address either
        memcpy(o.at + o.n, p, n)
        o.n += n


cdef inline void put_text(out_t *o, const char *text) noexcept nogil:
    put(o, text, strlen(text))


cdef void put_number(out_t *o, uint64_t v) noexcept nogil:
    cdef char digits[24]
    cdef int i = 24
    while True:
        i -= 1
        digits[i] = 48 + v % 10
        v //= 10
        if v == 0:
            break
    put(o, digits + i, 24 - i)


cdef bint is_dropped(worker_t *w, edits_t *edits, const uint8_t *name, uint32_t n, bint request) noexcept nogil:
    """Whether a route's edits or a filter replace or remove the field."""
    cdef uint32_t i
    for i in range(edits.n_drop):
        if edits.drop_len[i] == n and fp_fold_eq(name, edits.drop[i], n):
            return True
    if request:
        for i in range(w.n_set):
            if w.set_lens[i] == n and fp_fold_eq(name, w.set_names[i], n):
                return True
    return False


cdef size_t build_request(stream_t *s, const uint8_t *p, h1_head_t *h, view_t *v, uint8_t *to) noexcept nogil:
    """The request head as the upstream gets it. 0: it does not fit the scratch."""
    cdef worker_t *w = s.w
    cdef lconf_t *conf = s.conf
    cdef route_t *route = s.route
    cdef out_t o
    cdef h1_field_t *f
    cdef uint32_t i, mask, run
    cdef int32_t forwards
    cdef bint edited = route.request.n_drop > 0 or w.n_set > 0
    cdef const uint8_t *authority = NULL
    cdef uint32_t authority_len = 0
    if h.len + route.request.add_len + w.set_lines_len + route.rewrite_path.len + route.rewrite_to.len + route.rewrite_host.len + 2048 > TX_SIZE - SEND_COPY:
        return 0
    o.at, o.n = to, 0
    mask = 1 << HID_X_FASTPROXY_HOPS
    if conf.x_forwarded:
        mask |= 1 << HID_X_FORWARDED_FOR | 1 << HID_X_FORWARDED_PROTO
    if route.rewrite_host.at != NULL:
        authority, authority_len = <const uint8_t *>route.rewrite_host.at, route.rewrite_host.len
    elif h.flags & H1_F_ABSOLUTE:
        authority, authority_len = v.host, v.host_len         # RFC 9112 3.2.2: the target wins over Host
    elif h.host.len == 0:
        # HTTP/1.0 alone may come without one, or with an empty one; HTTP/1.1 upstream must not.
        authority, authority_len = <const uint8_t *>s.endpoint.text, s.endpoint.text_len
        if s.endpoint.family == AF_UNIX:
            authority, authority_len = <const uint8_t *>b"localhost", 9
    if authority != NULL:
        mask |= 1 << HID_HOST
    if h.minor == 0:
        mask |= 1 << HID_EXPECT               # RFC 9110 10.1.1: to be ignored, and to the upstream this is HTTP/1.1
    if h.at[<int>HID_MAX_FORWARDS] and (h.method == H1_M_TRACE or h.method == H1_M_OPTIONS):
        mask |= 1 << HID_MAX_FORWARDS
    if h.minor == 1 and not h.flags & H1_F_ABSOLUTE and route.rewrite_path.at == NULL and route.rewrite_to.at == NULL:
        run = h.start
    else:
        put_target(&o, route, h, v)
        run = h.fields_at
    for i in range(h.n_fields):
        f = &h.fields[i]
        if likely(not f.flags and not (mask >> f.hid) & 1 and not edited):
            continue
        if f.flags & FIELD_HOP or (edited and is_dropped(w, &route.request, p + f.name, f.name_len, True)):
            pass
        elif f.hid == HID_X_FORWARDED_FOR and conf.x_forwarded:
            if i + 1 != h.at[<int>HID_X_FORWARDED_FOR] or s.down.ip_len == 0:
                continue
            put(&o, p + run, f.value + f.value_len - run)
            if f.value_len:
                put(&o, b", ", 2)
            put(&o, s.down.ip, s.down.ip_len)
            run = f.value + f.value_len
            continue
        elif f.hid == HID_HOST and authority != NULL:
            put(&o, p + run, f.value - run)
            put(&o, authority, authority_len)
            run = f.value + f.value_len
            continue
        elif f.hid == HID_MAX_FORWARDS and mask >> HID_MAX_FORWARDS & 1:
            forwards = decimal(p + f.value, f.value_len)
            if forwards < 0:
                continue
            put(&o, p + run, f.value - run)
            put_number(&o, forwards - 1)
            run = f.value + f.value_len
            continue
        elif not (mask >> f.hid) & 1:
            continue
        put(&o, p + run, f.name - run)
        run = h.fields[i + 1].name if i + 1 < h.n_fields else h.len - 2
    put(&o, p + run, h.len - 2 - run)
    if not h.at[<int>HID_HOST]:
        put(&o, b"Host: ", 6)
        put(&o, authority, authority_len)
        put(&o, b"\r\n", 2)
    if conf.x_forwarded:
        if not h.at[<int>HID_X_FORWARDED_FOR] and s.down.ip_len:
            put(&o, b"X-Forwarded-For: ", 17)
            put(&o, s.down.ip, s.down.ip_len)
            put(&o, b"\r\n", 2)
        put(&o, b"X-Forwarded-Proto: http\r\n", 25)
    if conf.request_id and not h.at[<int>HID_X_REQUEST_ID]:
        put_request_id(&o, s)
    if s.upgrade:
        f = &h.fields[h.at[<int>HID_UPGRADE] - 1]
        put(&o, b"Connection: Upgrade\r\nUpgrade: ", 30)
        put(&o, p + f.value, f.value_len)
        put(&o, b"\r\n", 2)
    elif h.flags & H1_F_TE_TRAILERS:
        put(&o, b"Connection: TE\r\nTE: trailers\r\n", 30)
    if conf.via.at != NULL:
        put(&o, b"Via: 1.1 " if h.minor else b"Via: 1.0 ", 9)
        put(&o, conf.via.at, conf.via.len)
        put(&o, b"\r\n", 2)
    if fp_atomic_load32(&s.endpoint.is_self):
        put(&o, b"X-Fastproxy-Hops: ", 18)
        put_number(&o, s.hops + 1)
        put(&o, b"\r\n", 2)
    if route.request.add_len:
        put(&o, route.request.add, route.request.add_len)
    if w.set_lines_len:
        put(&o, w.set_lines, w.set_lines_len)
    put(&o, b"\r\n", 2)
    return o.n


cdef void put_target(out_t *o, route_t *route, h1_head_t *h, view_t *v) noexcept nogil:
    """A request line of our own: another path, origin-form for absolute-form, HTTP/1.1 for 1.0."""
    put(o, v.method, v.method_len)
    put(o, b" ", 1)
    if h.flags & H1_F_ASTERISK or (h.flags & H1_F_ABSOLUTE and h.method == H1_M_OPTIONS and h.path.len == 0 and not h.has_query):
        put(o, b"*", 1)               # RFC 9112 3.2.4
    else:
        put_path(o, v, &route.rewrite_path, &route.rewrite_from, &route.rewrite_to)
        if h.has_query:
            put(o, b"?", 1)
            put(o, v.query, v.query_len)
    put(o, b" HTTP/1.1\r\n", 11)


cdef void put_path(out_t *o, view_t *v, text_t *whole, text_t *frm, text_t *to) noexcept nogil:
    """The path, or `whole` instead, or the path with the segments `frm` in front replaced by `to`."""
    cdef const uint8_t *rest = v.path
    cdef uint32_t n = v.path_len
    if whole.at != NULL:
        put(o, whole.at, whole.len)
        return
    if to.at == NULL:
        put(o, v.path, v.path_len)
        return
    if frm.len <= n and not (frm.len == 1 and frm.at[0] == 47):
        rest += frm.len
        n -= frm.len
    # One slash where the two meet (Gateway API ReplacePrefixMatch).
    if to.len and to.at[to.len - 1] == 47 and n and rest[0] == 47:
        rest += 1
        n -= 1
    if to.len == 0 and (n == 0 or rest[0] != 47):
        put(o, b"/", 1)
    put(o, to.at, to.len)
    if to.len and to.at[to.len - 1] != 47 and n and rest[0] != 47:
        put(o, b"/", 1)
    put(o, rest, n)


cdef int32_t decimal(const uint8_t *p, uint32_t n) noexcept nogil:
    """A decimal number, at most a million; -1 for anything else."""
    cdef int32_t v = 0
    cdef uint32_t i
    for i in range(n):
        if not 48 <= p[i] <= 57:
            return -1
        v = v * 10 + p[i] - 48
        if v > 1000000:
            v = 1000000
    return v if n else -1


cdef void put_request_id(out_t *o, stream_t *s) noexcept nogil:
    """A random UUID (RFC 9562 version 4)."""
    s.id_a = (next_random(s.w) & ~<uint64_t>0xf000) | 0x4000
    s.id_b = (next_random(s.w) & ~(<uint64_t>3 << 62)) | <uint64_t>1 << 63
    put(o, b"X-Request-Id: ", 14)
    put_uuid(o.at + o.n, s.id_a, s.id_b)
    o.n += 36
    put(o, b"\r\n", 2)


cdef void put_uuid(uint8_t *q, uint64_t a, uint64_t b) noexcept nogil:
    """36 characters."""
    cdef const char *hex = b"0123456789abcdef"
    cdef int i
    for i in range(16):
        q[i + (i >= 8) + (i >= 12)] = hex[(a >> (60 - 4 * i)) & 15]
    q[8] = q[13] = q[18] = q[23] = 45
    for i in range(16):
        q[19 + i + (i >= 4)] = hex[(b >> (60 - 4 * i)) & 15]


cdef size_t build_response(stream_t *s, const uint8_t *p, h1_head_t *h, uint8_t *to) noexcept nogil:
    """The response head as the client gets it. 0: it does not fit the scratch."""
    cdef worker_t *w = s.w
    cdef edits_t *edits = &s.route.response
    cdef out_t o
    cdef h1_field_t *f
    cdef uint32_t i, mask = 0, run
    cdef bint final = h.status >= 200, edited = edits.n_drop > 0 and final
    if h.len + edits.add_len + 1024 > TX_SIZE - SEND_COPY:
        return 0
    o.at, o.n = to, 0
    if h.status < 200 or h.status == 204:
        mask = 1 << HID_CONTENT_LENGTH | 1 << HID_TRANSFER_ENCODING      # RFC 9110 8.6, RFC 9112 6.1: none may be there
    elif h.status == 304 or s.minor == 0:
        mask = 1 << HID_TRANSFER_ENCODING     # RFC 9112 6.1: never to HTTP/1.0, also not in an answer to HEAD
    if h.minor == 1:
        run = h.start
    else:
        put(&o, b"HTTP/1.1", 8)
        run = h.start + 8
    if p[h.start + 12] != 32:              # RFC 9112 4: the blank stays where the reason is missing
        put(&o, p + run, h.start + 12 - run)
        put(&o, b" ", 1)
        run = h.start + 12
    for i in range(h.n_fields):
        f = &h.fields[i]
        if likely(not f.flags and not (mask >> f.hid) & 1 and not edited):
            continue
        if f.flags & FIELD_HOP or (mask >> f.hid) & 1 or is_dropped(w, edits, p + f.name, f.name_len, False):
            put(&o, p + run, f.name - run)
            run = h.fields[i + 1].name if i + 1 < h.n_fields else h.len - 2
    put(&o, p + run, h.len - 2 - run)
    if h.status == 101:
        f = &h.fields[h.at[<int>HID_UPGRADE] - 1]
        put(&o, b"Connection: Upgrade\r\nUpgrade: ", 30)
        put(&o, p + f.value, f.value_len)
        put(&o, b"\r\n", 2)
    elif final:
        if not s.keep_down:
            put(&o, b"Connection: close\r\n", 19)
        elif s.minor == 0:
            put(&o, b"Connection: keep-alive\r\n", 24)
    if final and edits.add_len:
        put(&o, edits.add, edits.add_len)
    if final and s.conf.via.at != NULL:
        put(&o, b"Via: 1.1 ", 9)
        put(&o, s.conf.via.at, s.conf.via.len)
        put(&o, b"\r\n", 2)
    put(&o, b"\r\n", 2)
    return o.n


# ---- answers of our own ----------------------------------------------------------------------------------------------

cdef const char *reason_of(uint32_t status) noexcept nogil:
    if status == 200: return b"OK"
    if status == 204: return b"No Content"
    if status == 301: return b"Moved Permanently"
    if status == 302: return b"Found"
    if status == 303: return b"See Other"
    if status == 307: return b"Temporary Redirect"
    if status == 308: return b"Permanent Redirect"
    if status == 400: return b"Bad Request"
    if status == 401: return b"Unauthorized"
    if status == 403: return b"Forbidden"
    if status == 404: return b"Not Found"
    if status == 405: return b"Method Not Allowed"
    if status == 408: return b"Request Timeout"
    if status == 413: return b"Content Too Large"
    if status == 414: return b"URI Too Long"
    if status == 417: return b"Expectation Failed"
    if status == 429: return b"Too Many Requests"
    if status == 431: return b"Request Header Fields Too Large"
    if status == 500: return b"Internal Server Error"
    if status == 502: return b"Bad Gateway"
    if status == 503: return b"Service Unavailable"
    if status == 504: return b"Gateway Timeout"
    if status == 505: return b"HTTP Version Not Supported"
    if status == 508: return b"Loop Detected"
    return b""


cdef size_t answer_head(worker_t *w, uint8_t *to, uint32_t status, size_t body_len, bint closing, bint old) noexcept nogil:
    """A status line and the fields that every answer of our own has; no empty line yet."""
    cdef out_t o
    cdef tm parts
    cdef time_t second
    if w.date_at == 0 or w.now - w.date_at >= 1000000000:
        second = time(NULL)
        gmtime_r(&second, &parts)
        strftime(w.date, sizeof(w.date), b"%a, %d %b %Y %H:%M:%S GMT", &parts)
        w.date_at = w.now
    o.at, o.n = to, 0
    put_text(&o, b"HTTP/1.1 ")
    put_number(&o, status)
    put(&o, b" ", 1)
    put_text(&o, reason_of(status))
    put_text(&o, b"\r\nDate: ")
    put_text(&o, w.date)
    if status != 204 and status >= 200:
        put_text(&o, b"\r\nContent-Length: ")
        put_number(&o, body_len)
    if closing:
        put_text(&o, b"\r\nConnection: close")
    elif old:
        put_text(&o, b"\r\nConnection: keep-alive")
    put(&o, b"\r\n", 2)
    return o.n


cdef size_t error_text(worker_t *w, uint8_t *to, uint32_t cause, stream_t *s, bint head_only, bint closing, bint old) noexcept nogil:
    """The whole answer to a failure: its cause as a field, and a sentence that says where it happened."""
    cdef uint8_t body[2048]
    cdef out_t o, b
    b.at, b.n = body, 0
    put_text(&b, b"fastproxy: ")
    put_text(&b, error_sentence(cause))
    if s != NULL and s.cluster != NULL:
        put_text(&b, b": cluster ")
        put(&b, s.cluster.name, s.cluster.name_len if s.cluster.name_len < 256 else 256)
        put_endpoints(&b, s)
    put(&b, b"\n", 1)
    o.at = to
    o.n = answer_head(w, to, error_status(cause), b.n, closing, old)
    put_text(&o, b"Content-Type: text/plain\r\nX-Fastproxy-Error: ")
    put_text(&o, error_name(cause))
    if error_status(cause) == 405:
        put_text(&o, b"\r\nAllow: GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS")      # RFC 9110 15.5.6 asks for it
    put(&o, b"\r\n\r\n", 4)
    if not head_only:
        put(&o, body, b.n)
    return o.n


cdef void put_endpoints(out_t *b, stream_t *s) noexcept nogil:
    """Why each endpoint of the cluster is out, as far as this worker knows; the first few."""
    cdef uint32_t i, cause
    cdef endpoint_t *ep
    if s.cluster.n == 0:
        put_text(b, b" has none")
    for i in range(s.cluster.n if s.cluster.n < 8 else 8):
        ep = s.cluster.endpoints[i]
        put(b, b"; ", 2)
        put(b, ep.text, ep.text_len)
        cause = ep.pools[s.w.index].last_error
        if fp_load(&ep.out_until):
            put_text(b, b" ejected")
        if cause:
            put_text(b, b" ")
            put_text(b, error_sentence(cause))


cdef void direct_answer(stream_t *s, view_t *v) noexcept nogil:
    """A route that is its own answer: a fixed response or a redirect."""
    cdef route_t *route = s.route
    cdef out_t o
    cdef buf_t *b
    cdef uint32_t host_len = v.host_len, i
    if route.action == ROUTE_DIRECT:
        stream_answer(s, route.status, route.headers.at, route.headers.len, route.body.at, route.body.len)
        return
    if route.host.at == NULL and v.host_len == 0:
        stream_error(s, E_BAD_HOST)        # HTTP/1.0 without Host: to where is not known
        return
    b = take_buf(s.w, v.path_len + v.query_len + v.host_len + route.host.len + route.rewrite_path.len + route.rewrite_to.len
                 + route.response.add_len + 256)
    if b == NULL:
        stream_error(s, E_OVERLOAD)
        return
    o.at, o.n = <uint8_t *>(b + 1), 0
    put_text(&o, b"Location: ")
    if route.scheme.at != NULL:
        put(&o, route.scheme.at, route.scheme.len)
    else:
        put_text(&o, b"http")
    put(&o, b"://", 3)
    i = v.host_len
    while i and 48 <= v.host[i - 1] <= 57:
        i -= 1
    if i and v.host[i - 1] == 58:
        host_len = i - 1
    if route.host.at != NULL:
        put(&o, route.host.at, route.host.len)
    else:
        put(&o, v.host, host_len)
    if route.port.at != NULL:
        put(&o, route.port.at, route.port.len)
    elif route.scheme.at == NULL:
        put(&o, v.host + host_len, v.host_len - host_len)      # Gateway API: without scheme and port the listener's
    put_path(&o, v, &route.rewrite_path, &route.rewrite_from, &route.rewrite_to)
    if v.h1.has_query:
        put(&o, b"?", 1)
        put(&o, v.query, v.query_len)
    put(&o, b"\r\n", 2)
    put(&o, route.response.add, route.response.add_len)
    stream_answer(s, route.status, <const char *>o.at, o.n, NULL, 0)
    put_buf(s.w, b)


# ---- filters ---------------------------------------------------------------------------------------------------------

cdef int run_filters(stream_t *s, view_t *view) noexcept nogil:
    """0 to go on, minus a status to answer with."""
    cdef filter_call_t call
    cdef uint32_t i
    cdef int verdict
    call.view = view
    call.source, call.source_len = s.down.ip, s.down.ip_len
    call.core = s.w
    for i in range(s.conf.n_filters):
        verdict = s.conf.filters[i].on_request(s.conf.filters[i].state, &call)
        if verdict:
            return -verdict if 200 <= verdict <= 599 else -500
    return 0


cdef bint filter_set_header(filter_call_t *call, const char *name, uint32_t name_len, const char *value, uint32_t value_len) noexcept nogil:
    """Sets a request header as the upstream will see it. name in lower case. False: refused, being no field or too much
    (8 names, 4 KiB in all)."""
    cdef worker_t *w = <worker_t *>call.core
    cdef out_t o
    cdef uint32_t i
    if name_len == 0 or name_len > 64 or w.n_set == 8 or w.set_lines_len + name_len + value_len + 4 > 4096:
        return False
    if h1_name(<const uint8_t *>name, name_len) != HID_OTHER:
        return False                       # framing, routing and what the proxy itself adds
    for i in range(name_len):
        if not fp_class[<uint8_t>name[i]] & FP_TOKEN:
            return False
    for i in range(value_len):
        if <uint8_t>value[i] < 32 or <uint8_t>value[i] == 127:
            return False
    memcpy(w.set_names[w.n_set], name, name_len)
    w.set_lens[w.n_set] = name_len
    w.n_set += 1
    o.at, o.n = <uint8_t *>w.set_lines, w.set_lines_len
    put(&o, name, name_len)
    put(&o, b": ", 2)
    put(&o, value, value_len)
    put(&o, b"\r\n", 2)
    w.set_lines_len = <uint32_t>o.n
    return True
