# Which endpoint gets a stream. A balancer is one function, `pick`, over what all workers share of the endpoints.

cdef enum:
    EWMA_DEFAULT_NS = 30000000     # of an endpoint without history (Linkerd2 default RTT 30 ms)

cdef double EWMA_DECAY_NS = 10e9   # Linkerd 10 s


cdef uint32_t pick_round_robin(balance_call_t *call) noexcept nogil:
    cdef uint32_t at = call.turn[0]
    if at >= call.schedule_len:
        at = 0
    call.turn[0] = at + 1
    return call.schedule[at]


cdef uint32_t pick_random(balance_call_t *call) noexcept nogil:
    return call.schedule[call.random % call.schedule_len]


cdef inline void two_choices(balance_call_t *call, uint32_t *a, uint32_t *b) noexcept nogil:
    """Two different indexes below n > 1."""
    a[0] = <uint32_t>((call.random & <uint64_t>4294967295) % call.n)
    b[0] = <uint32_t>((call.random >> 32) % (call.n - 1))
    if b[0] >= a[0]:
        b[0] += 1


cdef uint32_t pick_least_request(balance_call_t *call) noexcept nogil:
    """The less busy of two, by weight (Envoy LEAST_REQUEST, choice count 2)."""
    cdef uint32_t a = 0, b = 0
    if call.n == 1:
        return 0
    two_choices(call, &a, &b)
    if (<uint64_t>fp_atomic_load32(&call.endpoints[a].in_flight) + 1) * call.weights[b] <= (<uint64_t>fp_atomic_load32(&call.endpoints[b].in_flight) + 1) * call.weights[a]:
        return a
    return b


cdef inline double ewma_now(lb_endpoint_t *ep, uint64_t now_ns) noexcept nogil:
    """Microseconds."""
    cdef double ewma = fp_load32(&ep.ewma_us)
    cdef uint64_t at = fp_load(&ep.ewma_at_ns)
    if at == 0:
        ewma = EWMA_DEFAULT_NS / 1000
    elif now_ns > at:
        ewma *= exp(-(<double>(now_ns - at)) / EWMA_DECAY_NS)     # what was slow is tried again by and by
    return ewma


cdef inline double ewma_load(lb_endpoint_t *ep, uint64_t now_ns) noexcept nogil:
    return (ewma_now(ep, now_ns) + 1) * (fp_atomic_load32(&ep.in_flight) + 1)


cdef uint32_t pick_ewma(balance_call_t *call) noexcept nogil:
    """The cheaper of two: response time, peaks kept, times requests in flight (Linkerd's peak EWMA)."""
    cdef uint32_t a = 0, b = 0
    if call.n == 1:
        return 0
    two_choices(call, &a, &b)
    if ewma_load(call.endpoints[a], call.now_ns) * call.weights[b] <= ewma_load(call.endpoints[b], call.now_ns) * call.weights[a]:
        return a
    return b


cdef void ewma_observe(lb_endpoint_t *ep, uint64_t rtt_ns, uint64_t now_ns) noexcept nogil:
    """A slower answer counts at once, a faster one by and by. Workers race here, and an observation may be lost: harmless."""
    cdef double old = fp_load32(&ep.ewma_us), rtt = <double>rtt_ns / 1000, keep
    cdef uint64_t at = fp_load(&ep.ewma_at_ns)
    if at == 0 or rtt > old:
        old = rtt
    else:
        keep = exp(-(<double>(now_ns - at)) / EWMA_DECAY_NS) if now_ns > at else 1.0
        old = old * keep + rtt * (1 - keep)
    fp_store32(&ep.ewma_us, <uint32_t>old if old < 4e9 else <uint32_t>4000000000)
    fp_store(&ep.ewma_at_ns, now_ns)


cdef bint pick_endpoint(stream_t *s) noexcept nogil:
    """Chooses s.endpoint, not one that was tried before. False: there is none."""
    cdef worker_t *w = s.w
    cdef cluster_t *cluster = s.cluster
    cdef balance_call_t call
    cdef uint32_t at, i, turn, again = 0
    leave_endpoint(s)
    if cluster.n == 0:
        return False
    if cluster.n == 1:
        at = 0
    else:
        call.n = cluster.n
        call.endpoints = <lb_endpoint_t **>cluster.endpoints
        call.weights = cluster.weights
        call.schedule, call.schedule_len = cluster.schedule, cluster.schedule_len
        call.turn = &cluster.share.works[w.index].turn
        if s.attempts:
            turn = call.turn[0]           # another attempt takes no turn: of two endpoints the dead one would have every first
            call.turn = &turn
        call.random = next_random(w)
        call.now_ns = w.now
        at = cluster.pick(&call)
        if at >= cluster.n:
            at = 0                        # a foreign balancer's mistake
        while fp_atomic_load32(&cluster.share.n_out) and fp_load(&cluster.endpoints[at].out_until) > w.now and again < 4:
            again += 1                    # so that not its neighbour alone gets what an ejected one would have had
            call.random = next_random(w)
            at = cluster.pick(&call)
            if at >= cluster.n:
                at = 0
    for i in range(cluster.n):
        if not was_tried(s, cluster.endpoints[at]) and not endpoint_out(s, cluster.endpoints[at]):
            s.endpoint = cluster.endpoints[at]
            s.judged = False
            s.counted_in_flight = True
            fp_atomic_add32(&s.endpoint.shared.in_flight, 1)
            fp_count(&s.endpoint.pools[w.index].requests, 1)
            return True
        at = at + 1 if at + 1 < cluster.n else 0
    return False


cdef inline bint was_tried(stream_t *s, endpoint_t *ep) noexcept nogil:
    cdef uint32_t i
    for i in range(MAX_ATTEMPTS):
        if s.tried[i] == ep:
            return True
    return False


cdef inline void leave_endpoint(stream_t *s) noexcept nogil:
    if s.counted_in_flight:
        s.counted_in_flight = False
        fp_atomic_add32(&s.endpoint.shared.in_flight, -1)
