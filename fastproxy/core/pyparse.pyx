# The HTTP/1 parser as Python sees it, for tests and fuzzing only: no path of a request leads through here.
#
# Input is copied into a block of exactly its size, so that a sanitizer sees a read of one byte too many.


cdef object h1_error(int64_t code):
    from fastproxy.tables.errors import ERRORS
    return ValueError(list(ERRORS)[-code - 1])


cdef uint8_t *h1_copy(bytes text) except NULL:
    cdef uint8_t *block = <uint8_t *>malloc(len(text) or 1)
    if block == NULL:
        raise MemoryError
    memmove(block, <const char *>text, len(text))
    return block


cdef bytes h1_cut(bytes text, h1_span_t span):
    return text[span.at:span.at + span.len]


cdef dict H1_FLAGS = {
    "close": H1_F_CLOSE, "upgrade": H1_F_UPGRADE, "expect_100": H1_F_EXPECT_100, "te_trailers": H1_F_TE_TRAILERS,
    "absolute": H1_F_ABSOLUTE, "asterisk": H1_F_ASTERISK, "keep_alive": H1_F_KEEP_ALIVE, "named": H1_F_NAMED,
}
cdef dict H1_METHODS = {b"GET": H1_M_GET, b"HEAD": H1_M_HEAD, b"POST": H1_M_POST, b"PUT": H1_M_PUT,
                        b"DELETE": H1_M_DELETE, b"OPTIONS": H1_M_OPTIONS, b"TRACE": H1_M_TRACE,
                        b"CONNECT": H1_M_CONNECT, b"PATCH": H1_M_PATCH}
cdef tuple H1_BODIES = ("none", "length", "chunked", "close")


cdef dict h1_as_dict(bytes text, h1_head_t *head):
    cdef uint32_t i
    cdef list fields = []
    cdef h1_field_t *f
    for i in range(head.n_fields):
        f = &head.fields[i]
        fields.append((text[f.name:f.name + f.name_len], text[f.value:f.value + f.value_len], bool(f.flags & FIELD_HOP)))
    return {
        "start": head.start, "len": head.len, "fields_at": head.fields_at, "minor": head.minor,
        "body": H1_BODIES[head.body], "content_length": head.content_length, "fields": fields,
        "flags": {name for name, bit in H1_FLAGS.items() if head.flags & bit},
        "at": {i: head.at[i] - 1 for i in range(HID_LAST) if head.at[i]},
        "known_method": head.method,
    }


def parse_request(bytes data, uint32_t head_bytes=61440, uint32_t line_bytes=61440, uint32_t fields=100):
    """The request head at the start of data as a dict; None: more bytes needed; ValueError(name of the error)."""
    cdef h1_limits_t limits
    cdef h1_head_t head
    cdef uint8_t *block = h1_copy(data)
    limits.head_bytes, limits.line_bytes, limits.fields = head_bytes, line_bytes, fields
    cdef int got = h1_parse_request(block, len(data), &limits, &head)
    free(block)
    if got < 0:
        raise h1_error(got)
    if got == 0:
        return None
    out = h1_as_dict(data, &head)
    out.update(method=h1_cut(data, head.method_text), target=h1_cut(data, head.target), host=h1_cut(data, head.host),
               path=h1_cut(data, head.path), query=h1_cut(data, head.query) if head.has_query else None)
    return out


def parse_response(bytes data, bytes method=b"GET", uint32_t head_bytes=61440, uint32_t fields=100):
    """The response head at the start of data, to a request of that method; as parse_request."""
    cdef h1_limits_t limits
    cdef h1_head_t head
    cdef uint8_t *block = h1_copy(data)
    limits.head_bytes, limits.line_bytes, limits.fields = head_bytes, head_bytes, fields
    cdef int got = h1_parse_response(block, len(data), &limits, H1_METHODS.get(method, H1_M_OTHER), &head)
    free(block)
    if got < 0:
        raise h1_error(got)
    if got == 0:
        return None
    out = h1_as_dict(data, &head)
    out.update(status=head.status, reason=h1_cut(data, head.reason))
    return out


def may_decide(bytes data, size_t seen, uint32_t head_bytes=61440, uint32_t line_bytes=61440):
    """h1_may_decide: whether to parse data again, of which the first `seen` bytes did not suffice."""
    cdef h1_limits_t limits
    limits.head_bytes, limits.line_bytes, limits.fields = head_bytes, line_bytes, 100
    cdef uint8_t *block = h1_copy(data)
    cdef bint got = h1_may_decide(block, seen, len(data), &limits)
    free(block)
    return bool(got)


cdef class ChunkDecoder:
    """One chunked body. feed(data) -> (bytes consumed, bytes to relay); what was not consumed is to be given again."""
    cdef h1_chunk_t c
    cdef bint is_response

    def __cinit__(self, bint response=False):
        memset(&self.c, 0, sizeof(self.c))
        self.is_response = response

    @property
    def done(self):
        return self.c.state == CHUNK_DONE

    @property
    def left(self):
        return self.c.left

    def feed(self, bytes data):
        cdef size_t kept = 0
        cdef uint8_t *block = h1_copy(data)
        cdef int64_t got = h1_chunk_feed(&self.c, block, len(data), &kept, self.is_response)
        try:
            if got < 0:
                raise h1_error(got)
            return got, (<char *>block)[:kept]
        finally:
            free(block)
