# Invariant: no prefix of a request says other than the whole; what is accepted reads the same line by line; sent on, it is the same request.
include "h1_checks.pxi"


cdef void check_path(const uint8_t *p, size_t n) noexcept nogil:
    """Read as the laxest upstream might: escapes decoded first, then segments, then parameters cut off."""
    cdef uint8_t *text = <uint8_t *>malloc(n + 1)
    cdef size_t i = 0, m = 0, dots
    while i < n:
        check(32 < p[i] < 127 and p[i] != 35 and p[i] != 63, b"a path is visible ASCII without '#' and '?'")
        text[m] = p[i]
        if p[i] == 37:
            check(i + 2 < n and fp_hex(p[i + 1]) >= 0 and fp_hex(p[i + 2]) >= 0, b"escapes are whole")
            text[m] = <uint8_t>(fp_hex(p[i + 1]) * 16 + fp_hex(p[i + 2]))
            i += 2
        check(text[m] != 0 and text[m] != 92, b"no NUL, no backslash")
        i += 1
        m += 1
    text[m] = 47
    i = 0
    while i < m:
        dots = 0
        while text[i + dots] == 46:
            dots += 1
        check(dots == 0 or dots > 2 or (text[i + dots] != 47 and text[i + dots] != 59), b"no dot segment")
        while text[i] != 47:
            i += 1
        i += 1
    free(text)


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
    check(h1_may_decide(p, head.len - 1, head.len, &limits), b"a complete head is worth reading")
    check_head(p, n, &head)
    check(span_inside(&head.target, head.fields_at) and span_inside(&head.path, head.fields_at)
          and span_inside(&head.query, head.fields_at) and span_inside(&head.host, head.len), b"spans lie inside")
    check(head.minor == 0 or head.host.len > 0, b"HTTP/1.1 has a host")
    check(head.body != H1_BODY_CLOSE, b"a request body has an end")
    check_path(p + head.path.at, head.path.len)
    copy = <uint8_t *>malloc(head.len)
    k = forwarded(copy, p, &head)
    part = h1_parse_request(copy, k, &limits, &again)
    check(part > 0 and <size_t>part == k, b"what is sent on is one request")
    check(again.body == head.body and again.content_length == head.content_length and again.minor == head.minor
          and again.method == head.method and again.target.len == head.target.len and again.host.len == head.host.len
          and memcmp(copy + again.host.at, p + head.host.at, head.host.len) == 0, b"sent on, it is the same request")
    free(copy)
    return 0
