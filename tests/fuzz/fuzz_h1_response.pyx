# Invariant: no prefix of a response says other than the whole; what is accepted reads the same line by line; sent on, its body ends where it did.
include "h1_checks.pxi"


cdef public int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n) noexcept nogil:
    cdef h1_limits_t limits
    cdef h1_head_t head, again
    cdef int whole, part
    cdef size_t k, step
    cdef uint8_t method
    cdef uint8_t *copy
    if n == 0:
        return 0
    method = p[0] % 10                       # the first byte chooses the request's method
    p += 1
    n -= 1
    step = 1 + n // 128
    limits.head_bytes, limits.line_bytes, limits.fields = 900, 900, 12
    whole = h1_parse_response(p, n, &limits, method, &head)
    check(whole == -<int>E_UPSTREAM_PROTOCOL or whole == -<int>E_UPSTREAM_HEAD_TOO_LARGE or (0 <= whole <= <int>n),
          b"a length or an upstream's error")
    k = n
    while k > step:
        k -= step
        copy = <uint8_t *>malloc(k)
        memcpy(copy, p, k)
        part = h1_parse_response(copy, k, &limits, method, &again)
        free(copy)
        check(part == whole or part == 0, b"a prefix says the same or nothing")
    if whole <= 0:
        return 0
    check_head(p, n, &head)
    check(100 <= head.status <= 599, b"a status of RFC 9110")
    check(span_inside(&head.reason, head.fields_at), b"the reason lies inside")
    check(head.body == H1_BODY_NONE or not (head.status < 200 or head.status == 204 or head.status == 304
          or method == H1_M_HEAD), b"no body where there can be none")
    copy = <uint8_t *>malloc(head.len)
    k = forwarded(copy, p, &head)
    part = h1_parse_response(copy, k, &limits, method, &again)
    check(part > 0 and <size_t>part == k, b"what is sent on is one response")
    check(again.body == head.body and again.content_length == head.content_length and again.status == head.status,
          b"sent on, it is the same response")
    free(copy)
    return 0
