# What another extension may cimport from the installed wheel: the HTTP/1 parser, sans-I/O, and the ops records of
# filters and balancers. Contracts of the functions are at their heads in core/.
#
# A change of a layout changes CORE_ABI, and check_abi then raises ImportError in an extension that was not built again. A
# function never changes its signature but gets another name: a missing one is an ImportError, a different one would be a
# TypeError.

include "core/errors_gen.pxi"
include "core/h1.pxd"
include "core/regex.pxd"
include "core/match.pxd"
include "core/ops.pxd"

cdef int h1_parse_request(const uint8_t *buf, size_t n, const h1_limits_t *limits, h1_head_t *head) noexcept nogil
cdef int h1_parse_response(const uint8_t *buf, size_t n, const h1_limits_t *limits, uint8_t request_method,
                           h1_head_t *head) noexcept nogil
cdef int64_t h1_chunk_feed(h1_chunk_t *c, uint8_t *p, size_t n, size_t *kept, bint is_response) noexcept nogil

cdef bint view_field(const view_t *view, const char *lower_name, uint32_t name_len, uint8_t hid, int *iter,
                     const uint8_t **value, uint32_t *n) noexcept nogil
cdef bint filter_set_header(filter_call_t *call, const char *name, uint32_t name_len, const char *value,
                            uint32_t value_len) noexcept nogil
cdef int check_abi(int abi) except -1
cdef int register_filter(str name, const filter_ops_t *ops, int abi) except -1
cdef int register_balancer(str name, const balancer_ops_t *ops, int abi) except -1
