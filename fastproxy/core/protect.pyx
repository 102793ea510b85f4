# What protects a cluster, and its users from it: limits (E12), the retry budget (E6), ejection of failing endpoints (E13).
#
# Limits and ejection are shared by all workers, in cshare_t and endpoint_t; the budget is counted by each worker and summed
# when somebody wants to retry. All of it outlives plans.

# ---- limits ----------------------------------------------------------------------------------------------------------

cdef inline bint request_enter(stream_t *s) noexcept nogil:
    """Counts the request. False: over the limit."""
    cdef cwork_t *work = &s.cluster.share.works[s.w.index]
    cdef uint64_t second = s.w.now // 1000000000
    cdef uint32_t slot = second % BUDGET_SLOTS
    if fp_atomic_add32(&s.cluster.share.requests, 1) > s.cluster.max_requests:
        fp_atomic_add32(&s.cluster.share.requests, -1)
        return False
    s.counted_request = True
    if work.second[slot] != second:
        budget_slot(work, slot, second)
    fp_count32(&work.requests[slot], 1)
    return True


cdef inline void request_leave(stream_t *s) noexcept nogil:
    if s.counted_request:
        s.counted_request = False
        fp_atomic_add32(&s.cluster.share.requests, -1)


cdef bint pending_enter(stream_t *s) noexcept nogil:
    """Counts a stream that has no conn yet. False: over the limit."""
    if s.counted_pending:
        return True
    if fp_atomic_add32(&s.cluster.share.pending, 1) > s.cluster.max_pending:
        fp_atomic_add32(&s.cluster.share.pending, -1)
        return False
    s.counted_pending = True
    return True


cdef inline void pending_leave(stream_t *s) noexcept nogil:
    if s.counted_pending:
        s.counted_pending = False
        fp_atomic_add32(&s.cluster.share.pending, -1)


cdef void protect_leave(stream_t *s) noexcept nogil:
    """The stream is over."""
    if s.waiting:
        wait_leave(s)
        if s.endpoint.pools[s.w.index].waiting != NULL:
            wait_wake_on(s.endpoint.pools[s.w.index].waiting)      # it may have been woken, and not have got its turn
    pending_leave(s)
    request_leave(s)
    if s.endpoint != NULL and not s.judged:
        endpoint_judge(s, s.cause)


# ---- the queue for a conn --------------------------------------------------------------------------------------------

cdef void wait_enter(stream_t *s) noexcept nogil:
    cdef epool_t *pool = &s.endpoint.pools[s.w.index]
    s.waiting = True
    s.link = NULL
    if pool.waiting == NULL:
        pool.waiting = s
    else:
        pool.waiting_last.link = s
    pool.waiting_last = s


cdef void wait_leave(stream_t *s) noexcept nogil:
    cdef epool_t *pool = &s.endpoint.pools[s.w.index]
    cdef stream_t *before = NULL
    cdef stream_t *at = pool.waiting
    while at != s:
        before = at
        at = at.link
    if before == NULL:
        pool.waiting = s.link
    else:
        before.link = s.link
    if pool.waiting_last == s:
        pool.waiting_last = before
    s.waiting = False
    s.link = NULL


cdef inline void wait_wake(epool_t *pool) noexcept nogil:
    """A conn of the pool became free, or one less is open: who has waited longest goes on, later in this turn."""
    if pool.waiting != NULL:
        ready_add(pool.waiting.down)


cdef void wait_wake_on(stream_t *s) noexcept nogil:
    """Wakes the oldest of those that wait with s, if there is something for it."""
    cdef epool_t *pool = &s.endpoint.pools[s.w.index]
    if pool.idle != NULL or fp_atomic_load32(&s.cluster.share.connections) < s.cluster.max_connections:
        wait_wake(pool)


# ---- the retry budget ------------------------------------------------------------------------------------------------

cdef void budget_slot(cwork_t *work, uint32_t slot, uint64_t second) noexcept nogil:
    fp_store32(&work.requests[slot], 0)
    fp_store32(&work.retries[slot], 0)
    fp_store(&work.second[slot], second)


cdef bint budget_take(stream_t *s) noexcept nogil:
    """Whether one more attempt is within the budget (Linkerd: a share of the requests of the window, and some always)."""
    cdef cluster_t *cluster = s.cluster
    cdef cwork_t *work
    cdef uint64_t second = s.w.now // 1000000000, requests = 0, retries = 0
    cdef uint32_t i, slot
    if not cluster.any_retry:
        for i in range(s.w.core.n_workers):
            work = &cluster.share.works[i]
            for slot in range(BUDGET_SLOTS):
                if fp_load(&work.second[slot]) + BUDGET_SLOTS > second:
                    requests += fp_load32(&work.requests[slot])
                    retries += fp_load32(&work.retries[slot])
        if retries * 100 >= requests * cluster.budget_percent + <uint64_t>cluster.budget_min * 100:
            fp_count(&cluster.share.works[s.w.index].refused, 1)
            return False
    work = &cluster.share.works[s.w.index]
    slot = second % BUDGET_SLOTS
    if work.second[slot] != second:
        budget_slot(work, slot, second)
    fp_count32(&work.retries[slot], 1)
    fp_count(&work.retried, 1)
    return True


# ---- ejection --------------------------------------------------------------------------------------------------------

cdef inline bint endpoint_out(stream_t *s, endpoint_t *ep) noexcept nogil:
    """Whether the endpoint is ejected. When its time is over, one stream at a time may try it."""
    cdef uint64_t until = fp_load(&ep.out_until)
    if likely(until == 0):
        return False
    if s.w.now < until or s.cluster.out_after == 0:
        return s.cluster.out_after != 0
    if not fp_claim32(&ep.trial):
        return True
    s.trial = True
    return False


cdef void endpoint_good(stream_t *s) noexcept nogil:
    """The trial of an ejected endpoint went well."""
    cdef endpoint_t *ep = s.endpoint
    s.trial = False
    fp_store32(&ep.n_outs, 0)
    fp_store(&ep.out_until, 0)
    fp_atomic_add32(&ep.share.n_out, -1)
    fp_release32(&ep.trial)


cdef void endpoint_bad(stream_t *s) noexcept nogil:
    """One more failure in a row."""
    cdef endpoint_t *ep = s.endpoint
    cdef cluster_t *cluster = s.cluster
    cdef uint64_t wait
    if s.trial:
        s.trial = False
    elif cluster.out_after == 0 or fp_atomic_add32(&ep.failures, 1) < cluster.out_after or not fp_claim32(&ep.trial):
        return
    elif fp_load(&ep.out_until) or fp_atomic_add32(&ep.share.n_out, 1) * <int64_t>100 > <int64_t>cluster.out_percent * cluster.n:
        if not fp_load(&ep.out_until):
            fp_atomic_add32(&ep.share.n_out, -1)
        fp_release32(&ep.trial)
        return
    # Here `trial` is ours: nobody else changes the rest.
    wait = cluster.out_max_ns
    if ep.n_outs < 32 and cluster.out_base_ns << ep.n_outs < wait:
        wait = cluster.out_base_ns << ep.n_outs
    fp_store32(&ep.n_outs, ep.n_outs + 1)
    wait += next_random(s.w) % (wait // 2 + 1)
    fp_atomic_store32(&ep.failures, 0)
    fp_store(&ep.out_until, s.w.now + wait)
    fp_count(&ep.share.works[s.w.index].ejections, 1)
    fp_release32(&ep.trial)


cdef inline bint is_failure(uint32_t status, uint32_t cause) noexcept nogil:
    """What counts against an endpoint: it did not connect, broke, kept silent too long, or answered 502, 503 or 504."""
    if cause:
        return E_CONNECT_FAILURE <= cause <= E_REQUEST_TIMEOUT
    return 502 <= status <= 504


cdef void endpoint_judge(stream_t *s, uint32_t cause) noexcept nogil:
    """At the end of an attempt: what it says of its endpoint."""
    cdef bint failed = is_failure(s.status, cause)
    s.judged = True
    if cause == E_STREAM_IDLE:
        failed = s.state == S_WAIT and s.flow[REQ].done
    elif cause == E_REQUEST_TIMEOUT:
        failed = s.state < S_RESPOND       # later it may be the client that takes its time (Envoy)
    if failed:
        fp_store32(&s.endpoint.last_failure, cause if cause else s.status)
        fp_store(&s.endpoint.last_failure_ns, s.w.now)
        endpoint_bad(s)
    elif s.trial:
        if s.first_ns == 0 and not (s.tcp and s.sent_ns):
            s.trial = False                # it says nothing: the client went away before
            fp_release32(&s.endpoint.trial)
        else:
            endpoint_good(s)
    elif fp_atomic_load32(&s.endpoint.failures) and (s.first_ns or s.tcp and s.sent_ns) and not cause:
        fp_atomic_store32(&s.endpoint.failures, 0)
