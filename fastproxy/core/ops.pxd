# What an extension in another wheel supplies: ops records of filters and balancers. Every verb is `noexcept nogil`,
# runs on a worker thread and must not block; all workers call it at once. `register_filter` and `register_balancer` take
# them by name. examples/cython_plugin is such an extension.

from libc.stdint cimport int32_t, uint32_t, uint64_t

cdef enum:
    CORE_ABI = 1                   # of every layout in this file, in h1.pxd and in match.pxd

cdef struct filter_call_t:         # one request before its target is chosen
    view_t *view                   # the head; valid during the call only
    const char *source             # downstream address as text, "" for a Unix socket
    uint32_t source_len
    void *core                     # for filter_set_header

# on_request returns 0 to go on, or the status (200..599) with which the request is answered at once.
cdef struct filter_ops_t:
    int (*on_request)(void *state, filter_call_t *call) noexcept nogil
    void *state                    # the extension's own; shared by all workers

cdef struct lb_endpoint_t:         # what all workers share of one endpoint (first member of endpoint_t)
    int32_t in_flight              # requests now running on it, all workers (atomic)
    uint32_t ewma_us               # smoothed response time, microseconds
    uint64_t ewma_at_ns

cdef struct balance_call_t:
    uint32_t n                     # endpoints in `endpoints` and `weights`; never 0
    lb_endpoint_t **endpoints
    const uint32_t *weights
    uint64_t random                # fresh for each pick
    uint64_t now_ns
    uint32_t *turn                 # per cluster and worker, the balancer's own; at first anywhere in the schedule; at another attempt a copy
    const uint32_t *schedule       # round_robin: smooth weighted order of indexes
    uint32_t schedule_len

cdef struct balancer_ops_t:
    uint32_t (*pick)(balance_call_t *call) noexcept nogil     # index below n; not asked when there is only one
