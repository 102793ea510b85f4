# Access log, the worker's side: what a record needs of a head is noted while the head is there; at the end of the stream one
# record goes into the worker's ring. A full ring drops the record and counts it: a request never waits for its log.
#
# The ring has one writer and one reader, the policy thread (log_format.pyx). Records lie whole in it, 8-byte aligned; one that
# would not fit before the end of the ring begins at its start.

cdef enum:
    RING_SKIP = 0xffffffff         # in place of a size: the next record is at the start of the ring
    NOTE_ABSENT = 0xffff           # in place of a length
    NOTE_MAX = 8192                # texts of one record together; what is beyond is cut

cdef struct log_rec_t:             # then: texts as noted, downstream ip, upstream address
    uint32_t size                  # of all of it
    uint32_t log
    uint32_t series
    uint32_t note_len
    uint64_t start_ns              # monotonic
    uint64_t end_ns
    uint64_t sent_ns               # 0: never
    uint64_t first_ns              # 0: never
    uint64_t received_bytes        # of the body
    uint64_t sent_bytes
    uint64_t id_a                  # request id that was made; 0 0: none
    uint64_t id_b
    uint16_t status
    uint16_t port
    uint8_t cause                  # error_code
    uint8_t minor                  # of HTTP/1
    uint8_t attempts
    uint8_t kind                   # log_kind
    uint8_t ip_len
    uint8_t upstream_len
    uint8_t n_request              # fields noted
    uint8_t n_response

cdef enum log_kind:
    LOG_HTTP = 0
    LOG_TCP = 1
    LOG_REFUSED = 2                # a head that was none: nothing is noted

cdef void *ring_take(ring_t *ring, uint32_t size) noexcept nogil:
    """Room for a record, NULL if there is none."""
    cdef uint32_t at = <uint32_t>ring.head & (RING_SIZE - 1), rest = RING_SIZE - at
    cdef uint64_t need = size if size <= rest else size + rest
    if ring.head + need - fp_load_acquire(&ring.tail) > RING_SIZE:
        fp_count(&ring.dropped, 1)
        return NULL
    ring.next = ring.head
    if size > rest:
        (<uint32_t *>(ring.data + at))[0] = RING_SKIP
        ring.next += rest
        at = 0
    return ring.data + at


cdef inline void ring_put(core_t *core, ring_t *ring, uint32_t size) noexcept nogil:
    fp_store_ordered(&ring.head, ring.next + size)
    if fp_load_ordered32(&ring.wanted):
        fp_atomic_store32(&ring.wanted, 0)
        wake(core.log_fd)


cdef void note(worker_t *w, stream_t *s, const void *p, size_t n) noexcept nogil:
    """One more text; p NULL: absent."""
    cdef uint16_t length = NOTE_ABSENT
    cdef size_t room = NOTE_MAX - 2
    if s.note != NULL:
        room = NOTE_MAX - buf_len(s.note) if buf_len(s.note) < NOTE_MAX - 2 else 2
        room -= 2
    if s.note_lost:
        return
    if p != NULL:
        if n > room:
            n = room
        length = <uint16_t>n
    else:
        n = 0
    if buf_append(w, &s.note, &length, 2) and (n == 0 or buf_append(w, &s.note, p, n)):
        return
    s.note_lost = True                 # without one, the others would stand in its place
    put_buf(w, s.note)
    s.note = NULL


cdef void note_fields(worker_t *w, stream_t *s, view_t *view, log_field_t *fields, uint32_t count) noexcept nogil:
    cdef const uint8_t *value = NULL
    cdef uint32_t value_len = 0, i
    cdef int iter
    for i in range(count):
        iter = 0
        if view_field(view, fields[i].name, fields[i].len, fields[i].hid, &iter, &value, &value_len):
            note(w, s, value, value_len)
        else:
            note(w, s, NULL, 0)


cdef void note_request(stream_t *s, h1_head_t *head, view_t *view) noexcept nogil:
    """Method, target, authority, then the fields that the format asks for."""
    cdef worker_t *w = s.w
    note(w, s, view.method, view.method_len)
    # Path and query lie side by side as they came, unless the path was empty.
    note(w, s, view.path, view.path_len + (view.query_len + 1 if head.has_query and head.path.len else 0))
    note(w, s, view.host, view.host_len)
    note_fields(w, s, view, s.conf.log.request, s.conf.log.n_request)


cdef void note_response(stream_t *s, const uint8_t *p, h1_head_t *head) noexcept nogil:
    cdef view_t view
    if s.conf.log.n_response:
        memset(&view, 0, sizeof(view))
        view.base, view.h1 = p, head
        note_fields(s.w, s, &view, s.conf.log.response, s.conf.log.n_response)
    s.noted_response = True


cdef void log_stream(stream_t *s) noexcept nogil:
    """At the end of a stream."""
    cdef worker_t *w = s.w
    cdef log_t *log = s.conf.log
    cdef uint32_t texts = buf_len(s.note) if s.note != NULL else 0
    cdef uint8_t up = <uint8_t>s.endpoint.text_len if s.endpoint != NULL and s.attempts + s.from_pool else 0
    cdef uint32_t size = (<uint32_t>sizeof(log_rec_t) + texts + s.down.ip_len + up + 7) & ~<uint32_t>7
    cdef log_rec_t *rec
    cdef uint8_t *at
    cdef ring_t *ring = <ring_t *>fp_ptr_load(<void **>&w.ring)
    if ring == NULL:
        return
    rec = <log_rec_t *>ring_take(ring, size)
    if rec == NULL:
        return
    rec.size, rec.log, rec.series, rec.note_len = size, log.id, s.series, texts
    rec.start_ns, rec.end_ns, rec.sent_ns, rec.first_ns = s.start_ns, w.now, s.sent_ns, s.first_ns
    rec.received_bytes, rec.sent_bytes = s.flow[REQ].bytes, s.flow[RSP].bytes
    rec.id_a, rec.id_b = s.id_a, s.id_b
    rec.status, rec.port, rec.cause, rec.minor, rec.attempts = s.status, s.down.port, s.cause, s.minor, s.attempts + s.from_pool
    rec.kind = LOG_TCP if s.tcp else LOG_HTTP
    rec.ip_len, rec.upstream_len = s.down.ip_len, up
    rec.n_request = <uint8_t>(log.n_request if texts else 0)
    rec.n_response = <uint8_t>(log.n_response if s.noted_response else 0)
    at = <uint8_t *>(rec + 1)
    if texts:
        memcpy(at, buf_at(s.note), texts)
    memcpy(at + texts, s.down.ip, s.down.ip_len)
    if up:
        memcpy(at + texts + s.down.ip_len, s.endpoint.text, up)
    ring_put(w.core, ring, size)


cdef void log_refused(conn_t *c, lconf_t *conf, uint32_t cause) noexcept nogil:
    """A head that was no request."""
    cdef worker_t *w = c.w
    cdef uint32_t size = (<uint32_t>sizeof(log_rec_t) + c.ip_len + 7) & ~<uint32_t>7
    cdef log_rec_t *rec
    cdef ring_t *ring = <ring_t *>fp_ptr_load(<void **>&w.ring)
    if ring == NULL:
        return
    rec = <log_rec_t *>ring_take(ring, size)
    if rec == NULL:
        return
    memset(rec, 0, sizeof(log_rec_t))
    rec.size, rec.log, rec.series = size, conf.log.id, conf.series
    rec.start_ns = rec.end_ns = w.now
    rec.status, rec.port, rec.cause, rec.kind, rec.ip_len = error_status(cause), c.port, cause, LOG_REFUSED, c.ip_len
    memcpy(rec + 1, c.ip, c.ip_len)
    ring_put(w.core, ring, size)
