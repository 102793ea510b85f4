# Access log, the policy thread's side: records of the rings become lines by a compiled format (proxy/accesslog.py).

cdef enum log_op:
    LOG_TEXT = 0                   # the step's own text
    LOG_START_TIME = 1             # by a format of strftime, or ISO 8601 with milliseconds
    LOG_NOTED = 2                  # method, target, authority, or a field of the request or the response
    LOG_REQUEST_ID = 3             # the field, or the one that was made
    LOG_PROTOCOL = 4
    LOG_STATUS = 5
    LOG_FLAGS = 6
    LOG_DETAILS = 7
    LOG_HOP = 8
    LOG_RECEIVED = 9
    LOG_SENT = 10
    LOG_DURATION = 11              # ms, whole; the others too
    LOG_REQUEST_DURATION = 12      # from the start to when the request went upstream
    LOG_RESPONSE_DURATION = 13     # from the start to the first byte of the response
    LOG_UPSTREAM_TIME = 14         # between the two
    LOG_UPSTREAM = 15
    LOG_REMOTE = 16
    LOG_REMOTE_IP = 17
    LOG_ATTEMPTS = 18
    LOG_LISTENER = 19              # the names: last, and in the order of a series' labels
    LOG_ROUTE = 20
    LOG_CLUSTER = 21

LOG_OPS = {"TEXT": LOG_TEXT, "START_TIME": LOG_START_TIME, "NOTED": LOG_NOTED, "REQUEST_ID": LOG_REQUEST_ID, "PROTOCOL":
           LOG_PROTOCOL, "STATUS": LOG_STATUS, "FLAGS": LOG_FLAGS, "DETAILS": LOG_DETAILS, "HOP": LOG_HOP, "RECEIVED":
           LOG_RECEIVED, "SENT": LOG_SENT, "DURATION": LOG_DURATION, "REQUEST_DURATION": LOG_REQUEST_DURATION,
           "RESPONSE_DURATION": LOG_RESPONSE_DURATION, "UPSTREAM_TIME": LOG_UPSTREAM_TIME, "UPSTREAM": LOG_UPSTREAM, "REMOTE":
           LOG_REMOTE, "REMOTE_IP": LOG_REMOTE_IP, "ATTEMPTS": LOG_ATTEMPTS, "LISTENER": LOG_LISTENER, "ROUTE": LOG_ROUTE,
           "CLUSTER": LOG_CLUSTER}

cdef enum log_style:
    LOG_PLAIN = 0                  # as it is; "-" where there is nothing
    LOG_JSON = 1                   # a JSON value, typed; null where there is nothing
    LOG_JSON_INNER = 2             # within a JSON string

cdef struct log_step_t:
    uint8_t op
    uint8_t style
    uint16_t field                 # which of what was noted
    uint16_t other                 # in its place where that is absent; the same: nothing is
    uint32_t most                  # bytes of the value, 0: all
    const char *text
    uint32_t text_len

cdef struct value_t:               # of one step: a text, or a number, or absent
    const uint8_t *at
    uint32_t len
    bint is_number
    uint64_t number


cdef class LogFormat:
    """A compiled format, and the lines made by it so far."""
    cdef log_step_t *steps
    cdef uint32_t n_steps
    cdef list texts
    cdef uint8_t *out
    cdef size_t out_len
    cdef size_t out_cap
    cdef public uint64_t lines

    def __cinit__(self, list steps):
        """`steps`: [(op, style, field, other, most, text)]"""
        cdef uint32_t i
        cdef bytes text
        fp_own(1)
        self.texts = []
        self.steps = <log_step_t *>calloc(len(steps) + 1, sizeof(log_step_t))
        if self.steps == NULL:
            raise MemoryError
        for i, (op, style, field, other, most, text) in enumerate(steps):
            self.texts.append(text)
            self.steps[i].op, self.steps[i].style, self.steps[i].field, self.steps[i].other, self.steps[i].most = op, style, field, other, most
            self.steps[i].text, self.steps[i].text_len = <const char *>text, <uint32_t>len(text)
        self.n_steps = <uint32_t>len(steps)

    def __dealloc__(self):
        fp_own(-1)
        free(self.steps)
        free(self.out)

    def take(self):
        """The lines since the last call, as bytes."""
        cdef bytes lines = self.out[:self.out_len] if self.out_len else b""
        self.out_len = 0
        return lines

    cdef bint room(self, size_t n) noexcept:
        cdef uint8_t *larger
        cdef size_t cap
        if self.out_len + n <= self.out_cap:
            return True
        cap = max(65536, 2 * (self.out_len + n))
        larger = <uint8_t *>realloc(self.out, cap)
        if larger == NULL:
            return False
        self.out, self.out_cap = larger, cap
        return True

    cdef bint line(self, log_rec_t *rec, tuple names, uint64_t wall_ns) noexcept:
        """Appends one record. `wall_ns`: what makes a monotonic time one of the clock. False: no memory."""
        cdef const uint8_t *texts[3 + 2 * LOG_FIELDS]
        cdef uint16_t lens[3 + 2 * LOG_FIELDS]
        cdef const uint8_t *at = <const uint8_t *>(rec + 1)
        cdef uint32_t n = 3 + rec.n_request + rec.n_response if rec.note_len else 0, i, used = 0
        cdef char scratch[160]
        cdef log_step_t *step
        cdef value_t v
        for i in range(3 + 2 * LOG_FIELDS):
            lens[i] = NOTE_ABSENT
        for i in range(n):
            if used + 2 > rec.note_len:
                break
            memcpy(&lens[i], at + used, 2)
            texts[i] = at + used + 2
            used += 2 + (0 if lens[i] == NOTE_ABSENT else lens[i])
        at += rec.note_len
        for i in range(self.n_steps):
            step = self.steps + i
            if step.op == LOG_TEXT:
                if not self.room(step.text_len):
                    return False
                memcpy(self.out + self.out_len, step.text, step.text_len)
                self.out_len += step.text_len
                continue
            v.at, v.len, v.is_number, v.number = NULL, 0, False, 0
            self.value(step, rec, at, texts, lens, names, wall_ns, scratch, &v)
            if step.most and v.len > step.most:
                v.len = step.most
            if not self.emit(step.style, &v):
                return False
        self.lines += 1
        return True

    cdef void value(self, log_step_t *step, log_rec_t *rec, const uint8_t *ends, const uint8_t **texts, uint16_t *lens, tuple names,
                    uint64_t wall_ns, char *scratch, value_t *v) noexcept:
        cdef uint8_t op = step.op
        cdef uint32_t which = 0
        cdef bytes name
        cdef const char *text
        cdef out_t o
        if op == LOG_START_TIME:
            v.at, v.len = <const uint8_t *>scratch, time_text(rec.start_ns + wall_ns, step, scratch)
        elif op == LOG_NOTED or op == LOG_REQUEST_ID:
            which = step.field if lens[step.field] != NOTE_ABSENT else step.other
            if lens[which] != NOTE_ABSENT:
                v.at, v.len = texts[which], lens[which]
            elif op == LOG_REQUEST_ID and (rec.id_a or rec.id_b):
                put_uuid(<uint8_t *>scratch, rec.id_a, rec.id_b)
                v.at, v.len = <const uint8_t *>scratch, 36
        elif op == LOG_PROTOCOL:
            if rec.kind == LOG_HTTP:
                text = b"HTTP/1.1"
                if rec.minor == 0:
                    text = b"HTTP/1.0"
                v.at, v.len = <const uint8_t *>text, 8
        elif op == LOG_STATUS:
            v.is_number, v.number = True, rec.status
        elif op == LOG_FLAGS:
            if rec.cause:
                v.at = <const uint8_t *>error_flags[rec.cause]
                v.len = <uint32_t>strlen(<const char *>v.at)
        elif op == LOG_DETAILS:
            text = b"direct_response"
            if rec.cause:
                text = error_names[rec.cause]
            elif rec.first_ns:
                text = b"via_upstream"         # Envoy's word
            elif rec.kind == LOG_TCP:
                text = b"tcp"
            v.at, v.len = <const uint8_t *>text, <uint32_t>strlen(text)
        elif op == LOG_HOP:
            if rec.kind != LOG_TCP or rec.cause:
                text = b"proxy"
                if rec.first_ns and not rec.cause:
                    text = b"upstream"
                v.at, v.len = <const uint8_t *>text, <uint32_t>strlen(text)
        elif op == LOG_RECEIVED:
            v.is_number, v.number = True, rec.received_bytes
        elif op == LOG_SENT:
            v.is_number, v.number = True, rec.sent_bytes
        elif op == LOG_DURATION:
            v.is_number, v.number = True, (rec.end_ns - rec.start_ns) // MS
        elif op == LOG_REQUEST_DURATION:
            v.is_number = rec.sent_ns != 0
            v.number = (rec.sent_ns - rec.start_ns) // MS
        elif op == LOG_RESPONSE_DURATION:
            v.is_number = rec.first_ns != 0
            v.number = (rec.first_ns - rec.start_ns) // MS
        elif op == LOG_UPSTREAM_TIME:
            v.is_number = rec.first_ns != 0
            v.number = (rec.first_ns - rec.sent_ns) // MS
        elif op == LOG_UPSTREAM:
            if rec.upstream_len:
                v.at, v.len = ends + rec.ip_len, rec.upstream_len
        elif op == LOG_REMOTE_IP:
            if rec.ip_len:
                v.at, v.len = ends, rec.ip_len
        elif op == LOG_REMOTE:
            if rec.ip_len:
                o.at, o.n = <uint8_t *>scratch, 0
                which = memchr(ends, 58, rec.ip_len) != NULL
                put(&o, b"[", which)
                put(&o, ends, rec.ip_len)
                put(&o, <const char *>b"]:" + (1 - which), 1 + which)
                put_number(&o, rec.port)
                v.at, v.len = <const uint8_t *>scratch, <uint32_t>o.n
        elif op == LOG_ATTEMPTS:
            v.is_number, v.number = True, rec.attempts
        else:
            name = names[op - LOG_LISTENER]
            if name:
                v.at, v.len = <const uint8_t *><const char *>name, <uint32_t>len(name)

    cdef bint emit(self, uint8_t style, value_t *v) noexcept:
        cdef out_t o
        cdef uint32_t i
        cdef uint8_t c
        cdef const char *hex = b"0123456789abcdef"
        if not self.room(6 * <size_t>v.len + 32):
            return False
        o.at, o.n = self.out, self.out_len
        if v.is_number:
            put_number(&o, v.number)
        elif v.at == NULL:
            if style == LOG_JSON:
                put(&o, b"null", 4)
            else:
                put(&o, b"-", 1)
        elif style == LOG_PLAIN:
            put(&o, v.at, v.len)
        else:
            if style == LOG_JSON:
                put(&o, b'"', 1)
            for i in range(v.len):
                c = v.at[i]
                if c == 34 or c == 92:
                    o.at[o.n] = 92
                    o.at[o.n + 1] = c
                    o.n += 2
                elif c < 32 or c >= 127:          # obs-text is opaque: one escape for each byte
                    memcpy(o.at + o.n, b"\\u00", 4)
                    o.at[o.n + 4] = hex[c >> 4]
                    o.at[o.n + 5] = hex[c & 15]
                    o.n += 6
                else:
                    o.at[o.n] = c
                    o.n += 1
            if style == LOG_JSON:
                put(&o, b'"', 1)
        self.out_len = o.n
        return True


cdef uint32_t time_text(uint64_t wall_ns, log_step_t *step, char *to) noexcept nogil:
    """By the step's format, in UTC; without one as 2026-01-31T12:00:00.123Z."""
    cdef time_t second = <time_t>(wall_ns // 1000000000)
    cdef uint32_t ms = <uint32_t>(wall_ns // MS % 1000), n
    cdef tm parts
    gmtime_r(&second, &parts)
    if step.text_len:
        return <uint32_t>strftime(to, 128, step.text, &parts)
    n = <uint32_t>strftime(to, 128, b"%Y-%m-%dT%H:%M:%S", &parts)
    to[n] = 46
    to[n + 1] = 48 + ms // 100
    to[n + 2] = 48 + ms // 10 % 10
    to[n + 3] = 48 + ms % 10
    to[n + 4] = 90
    return n + 5


cdef uint64_t ring_read(ring_t *ring, list formats, list names, uint64_t wall_ns, uint64_t most):
    """Formats what is in the ring; returns how many records. Stops after `most` bytes."""
    cdef uint64_t head = fp_load_acquire(&ring.head), tail = ring.tail, end = tail + most, n = 0
    cdef log_rec_t *rec
    cdef LogFormat format
    while tail < head and tail < end:
        rec = <log_rec_t *>(ring.data + (tail & (RING_SIZE - 1)))
        if rec.size == RING_SKIP:
            tail += RING_SIZE - (tail & (RING_SIZE - 1))
            continue
        format = formats[rec.log]
        if format is not None:
            format.line(rec, names[rec.series] if rec.series < <uint32_t>len(names) else names[0], wall_ns)
        tail += rec.size
        n += 1
    fp_store_release(&ring.tail, tail)
    return n
