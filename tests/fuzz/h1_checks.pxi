# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
# What the HTTP/1 fuzz targets share: the parser itself and a second, naive reader of what it accepted.

from libc.stdlib cimport abort, free, malloc
from libc.stdio cimport fprintf, stderr
from libc.string cimport memcmp, memcpy

include "fastproxy/core/errors_gen.pxi"
include "fastproxy/core/h1.pxd"
include "fastproxy/core/h1_parse.pyx"


cdef inline void check(bint holds, const char *claim) noexcept nogil:
    if not holds:
        fprintf(stderr, b"violated: %s\n", claim)
        abort()


cdef inline bint span_inside(h1_span_t *span, uint32_t end) noexcept nogil:
    return <uint64_t>span.at + span.len <= end


cdef bint name_is(const uint8_t *p, size_t n, const char *name, size_t name_len) noexcept nogil:
    cdef size_t i
    cdef uint8_t c
    if n != name_len:
        return False
    for i in range(n):
        c = p[i] + 32 if 65 <= p[i] <= 90 else p[i]
        if c == 95:
            c = 45
        if c != <uint8_t>name[i]:
            return False
    return True


cdef void check_head(const uint8_t *p, size_t n, h1_head_t *head) noexcept nogil:
    """Lines, found by looking for CRLF alone, are the fields; no byte ends a line but those; framing is by one field at most."""
    cdef size_t i = head.fields_at, line, colon, lengths = 0, codings = 0
    cdef uint32_t k = 0
    cdef h1_field_t *f
    check(head.len <= n and head.start < head.fields_at <= head.len - 2, b"the head lies inside the buffer")
    check(memcmp(p + head.fields_at - 2, b"\r\n", 2) == 0, b"the start line ends in CRLF")
    for line in range(head.start, head.len):
        if p[line] == 13:
            check(line + 1 < head.len and p[line + 1] == 10, b"CR only before LF")
        elif p[line] == 10:
            check(line > 0 and p[line - 1] == 13, b"LF only after CR")
        else:
            check(p[line] == 9 or (p[line] >= 32 and p[line] != 127), b"no control characters")
    while p[i] != 13:
        check(k < head.n_fields, b"each line is a field")
        f = &head.fields[k]
        line = i
        colon = i
        while p[colon] != 58:
            check(p[colon] > 32 and p[colon] < 127, b"a name is visible ASCII up to the colon")
            colon += 1
        while p[i] != 13:
            i += 1
        check(f.name == line and f.name_len == colon - line and f.name_len > 0, b"the name is what stands before the colon")
        check(f.value > colon and f.value + f.value_len <= i, b"the value is on its line, behind the colon")
        check(f.value_len == 0 or (p[f.value] > 32 and p[f.value + f.value_len - 1] > 32), b"a value is trimmed")
        if name_is(p + line, colon - line, b"content-length", 14):
            lengths += 1
            check(f.hid == HID_CONTENT_LENGTH, b"Content-Length is known as such")
        if name_is(p + line, colon - line, b"transfer-encoding", 17):
            codings += 1
            check(f.hid == HID_TRANSFER_ENCODING, b"Transfer-Encoding is known as such")
        check(f.hid < HID_LAST and (f.hid == HID_OTHER or head.at[f.hid] != 0), b"the index knows the field")
        k += 1
        i += 2
    check(k == head.n_fields and i + 2 == head.len, b"the first empty line ends the head")
    check(lengths + codings <= 1, b"one field tells of the body at most")
    check(head.body != H1_BODY_CHUNKED or codings == 1, b"chunked only by its field")
    check(head.body != H1_BODY_LENGTH or lengths == 1, b"a length only by its field")


cdef size_t put(uint8_t *out, size_t at, const uint8_t *p, size_t n) noexcept nogil:
    memcpy(out + at, p, n)
    return at + n


cdef size_t forwarded(uint8_t *out, const uint8_t *p, h1_head_t *head) noexcept nogil:
    """The head as it would be sent on: the start line and the fields that are not hop-by-hop; out holds head.len bytes."""
    cdef size_t at = put(out, 0, p + head.start, head.fields_at - head.start), end
    cdef uint32_t k
    for k in range(head.n_fields):
        end = head.fields[k + 1].name if k + 1 < head.n_fields else head.len - 2
        if not head.fields[k].flags & FIELD_HOP:
            at = put(out, at, p + head.fields[k].name, end - head.fields[k].name)
    return put(out, at, <const uint8_t *>b"\r\n", 2)
