# Counts the requests of a pipelined batch of heads with the core's parser, without the GIL.

from fastproxy._core cimport h1_head_t, h1_limits_t, h1_parse_request


def count(const unsigned char[::1] data):
    """Complete request heads at the start of data, one behind the other."""
    cdef h1_limits_t limits
    cdef h1_head_t head
    cdef size_t at = 0, n = data.shape[0]
    cdef int got, found = 0
    limits.head_bytes = limits.line_bytes = 61440
    limits.fields = 100
    with nogil:
        while at < n:
            got = h1_parse_request(&data[at], n - at, &limits, &head)
            if got <= 0:
                break
            at += got
            found += 1
    return found
