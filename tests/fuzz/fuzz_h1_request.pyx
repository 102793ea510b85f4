# Invariant: no prefix of a request says other than the whole; what is accepted reads the same line by line; sent on, it is the same request.
include "h1_checks.pxi"


cdef public int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n) noexcept nogil:
    cdef h1_limits_t limits
    cdef h1_head_t head, again
    cdef int whole, part
    cdef size_t k, step = 1 + n // 128
    cdef uint8_t *copy
    limits.head_bytes, limits.line_bytes, limits.fields = 900, 500, 12
    whole = h1_parse_request(p, n, &limits, &head)
    check(whole > -<int>E_COUNT and whole <= <int>n, b"a length or an error")
    k = n
    while k > step:
        k -= step
        copy = <uint8_t *>malloc(k)          # of exactly this size: a read behind it is seen
        memcpy(copy, p, k)
        part = h1_parse_request(copy, k, &limits, &again)
        free(copy)
        check(part == whole or part == 0, b"a prefix says the same or nothing")
        check(part <= 0 or <size_t>part <= k, b"a head ends where it was seen to end")
    if whole <= 0:
        return 0
    check(<size_t>whole == head.len, b"the length returned is the head's")
    check_head(p, n, &head)
    check(span_inside(&head.target, head.fields_at) and span_inside(&head.path, head.fields_at)
          and span_inside(&head.query, head.fields_at) and span_inside(&head.host, head.len), b"spans lie inside")
    check(head.minor == 0 or head.host.len > 0, b"HTTP/1.1 has a host")
    check(head.body != H1_BODY_CLOSE, b"a request body has an end")
    for k in range(head.path.at, head.path.at + head.path.len):
        check(p[k] != 92 and p[k] != 35 and p[k] > 32 and p[k] < 127, b"a path is plain")
        if p[k] == 47 and k + 1 < head.path.at + head.path.len and p[k + 1] == 46:
            check(head.path.at + head.path.len - k > 3, b"no short dot segment at the end")
    copy = <uint8_t *>malloc(head.len)
    k = forwarded(copy, p, &head)
    part = h1_parse_request(copy, k, &limits, &again)
    check(part > 0 and <size_t>part == k, b"what is sent on is one request")
    check(again.body == head.body and again.content_length == head.content_length and again.minor == head.minor
          and again.method == head.method and again.target.len == head.target.len and again.host.len == head.host.len
          and memcmp(copy + again.host.at, p + head.host.at, head.host.len) == 0, b"sent on, it is the same request")
    free(copy)
    return 0
