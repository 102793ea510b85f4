# What another extension may cimport from the installed wheel: the HTTP/1 parser, sans-I/O and nogil.
# Contracts of the functions are at their heads in core/h1_parse.pyx.

include "core/errors_gen.pxi"
include "core/h1.pxd"

cdef int h1_parse_request(const uint8_t *buf, size_t n, const h1_limits_t *limits, h1_head_t *head) noexcept nogil
cdef int h1_parse_response(const uint8_t *buf, size_t n, const h1_limits_t *limits, uint8_t request_method,
                           h1_head_t *head) noexcept nogil
cdef int64_t h1_chunk_feed(h1_chunk_t *c, uint8_t *p, size_t n, size_t *kept, bint is_response) noexcept nogil
