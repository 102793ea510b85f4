# A filter and a balancer of another package, and the core's parser put to a use of its own: built against nothing but the
# installed wheel of fastproxy. None of it touches the GIL; filter and balancer run on the proxy's worker threads, all at once.

from libc.stdint cimport int32_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcmp

from fastproxy._core cimport (CORE_ABI, HID_OTHER, balance_call_t, balancer_ops_t, check_abi, filter_call_t, filter_ops_t,
                              filter_set_header, h1_head_t, h1_limits_t, h1_parse_request, register_balancer, register_filter,
                              view_field)

cdef extern from *:
    uint64_t __atomic_fetch_add(uint64_t *at, uint64_t n, int order) noexcept nogil
    int32_t __atomic_load_n(const int32_t *at, int order) noexcept nogil
    int __ATOMIC_RELAXED

check_abi(CORE_ABI)                    # built against another version's layouts: ImportError here, not a crash later


# ---- a filter: who does not know the key gets 401; whose key it is, the upstream reads in x-tenant ----

cdef struct seen_t:
    uint64_t passed
    uint64_t refused

cdef seen_t seen                       # the filter's state, shared by all workers: hence the atomics


cdef int need_key(void *state, filter_call_t *call) noexcept nogil:
    cdef seen_t *count = <seen_t *>state
    cdef const uint8_t *value = NULL
    cdef uint32_t n = 0
    cdef int at = 0
    if not view_field(call.view, b"x-api-key", 9, HID_OTHER, &at, &value, &n) or n != 6 or memcmp(value, b"sesame", 6) != 0:
        __atomic_fetch_add(&count.refused, 1, __ATOMIC_RELAXED)
        return 401                     # answered at once, with this status
    __atomic_fetch_add(&count.passed, 1, __ATOMIC_RELAXED)
    return 0 if filter_set_header(call, b"x-tenant", 8, b"cassim", 6) else 500


# ---- a balancer: endpoints are filled in their order, so that as few as possible are busy ----

cdef uint32_t fill(balance_call_t *call) noexcept nogil:
    """The first endpoint with fewer requests in flight than its weight says; if all have as many, the least busy one."""
    cdef uint32_t i, best = 0
    cdef int32_t now, least = 2147483647
    for i in range(call.n):
        now = __atomic_load_n(&call.endpoints[i].in_flight, __ATOMIC_RELAXED)
        if now < <int32_t>call.weights[i]:
            return i
        if now < least:
            best, least = i, now
    return best


cdef filter_ops_t key_ops
cdef balancer_ops_t fill_ops
key_ops.on_request, key_ops.state = need_key, &seen
fill_ops.pick = fill
register_filter("example-key", &key_ops, CORE_ABI)
register_balancer("example-fill", &fill_ops, CORE_ABI)


# ---- for Python ----

def counts():
    """(requests that passed the filter, requests that it refused) since the module was imported"""
    return seen.passed, seen.refused


def count_heads(const unsigned char[::1] data):
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
