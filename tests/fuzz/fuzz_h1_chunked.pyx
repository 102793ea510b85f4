# Invariant: a chunked body is relayed the same at every split; what was relayed is a body of the same data, relayed unchanged, with nothing after it.
include "h1_checks.pxi"


cdef int64_t read_in_pieces(const uint8_t *p, size_t n, size_t piece, uint8_t *out, size_t *out_n, h1_chunk_t *c) noexcept nogil:
    """Feed p[0:n] piece by piece, giving unconsumed bytes again -> bytes consumed or -code; what is relayed goes to out."""
    cdef size_t at = 0, end = 0, kept
    cdef int64_t got
    cdef uint8_t *block
    memset(c, 0, sizeof(h1_chunk_t))
    out_n[0] = 0
    while end < n:
        end = min(n, end + piece)
        block = <uint8_t *>malloc(end - at)
        memcpy(block, p + at, end - at)
        got = h1_chunk_feed(c, block, end - at, &kept, False)
        if got < 0:
            free(block)
            return got
        check(kept <= <size_t>got and <size_t>got <= end - at, b"kept <= consumed <= given")
        memcpy(out + out_n[0], block, kept)
        out_n[0] += kept
        at += <size_t>got
        free(block)
        if c.state == CHUNK_DONE:
            break
    return <int64_t>at


cdef size_t plain_data(const uint8_t *p, size_t n, uint8_t *out, bint is_relayed) noexcept nogil:
    """Data of a whole body, read naively: hex, extensions if it was not relayed, CRLF, data, CRLF, ... -> its length."""
    cdef size_t i = 0, size, at = 0
    while True:
        size = 0
        while fp_hex(p[i]) >= 0:
            size = size * 16 + <size_t>fp_hex(p[i])
            i += 1
        check(p[i] == 13 or not is_relayed, b"a relayed size line is digits")
        while p[i] != 10:
            i += 1
        i += 1
        if size == 0:
            return at
        check(i + size + 2 <= n, b"data is whole")
        memmove(out + at, p + i, size)
        at += size
        i += size
        check(p[i] == 13 and p[i + 1] == 10, b"data is closed")
        i += 2


cdef public int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n) noexcept nogil:
    cdef h1_chunk_t c, d
    cdef size_t whole_n, part_n, again_n, piece
    cdef int64_t whole, part
    cdef uint8_t *out = <uint8_t *>malloc(n + 1)
    cdef uint8_t *other = <uint8_t *>malloc(n + 1)
    whole = read_in_pieces(p, n, n + 1, out, &whole_n, &c)
    check(whole >= 0 or whole == -<int64_t>E_BAD_CHUNK, b"the one error")
    for piece in range(1, 12):
        part = read_in_pieces(p, n, piece, other, &part_n, &d)
        check((part < 0) == (whole < 0), b"the verdict does not depend on the split")
        if whole >= 0:
            check(part == whole and d.state == c.state and part_n == whole_n and memcmp(out, other, whole_n) == 0,
                  b"what is relayed does not depend on the split")
    if whole >= 0 and c.state == CHUNK_DONE:
        part = read_in_pieces(out, whole_n, n + 1, other, &again_n, &d)
        check(part == <int64_t>whole_n and again_n == whole_n and d.state == CHUNK_DONE
              and memcmp(out, other, whole_n) == 0, b"what was relayed is a body, relayed unchanged")
        part_n = plain_data(p, <size_t>whole, other, False)
        again_n = plain_data(out, whole_n, out, True)
        check(part_n == again_n and memcmp(out, other, part_n) == 0, b"what was relayed is the same data")
    free(out)
    free(other)
    return 0
