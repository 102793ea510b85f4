# The one exit of every stream: counters, then everything it holds is given back, then its downstream conn goes on or ends.

cdef void finish(stream_t *s) noexcept nogil:
    cdef worker_t *w = s.w
    cdef conn_t *down = s.down
    cdef series_t *series = series_of(w, s.series)
    cdef int i
    fp_assert(s.state != S_DONE and s.up == NULL)
    if s.cause:
        count_error(w, s.cause)
    if series != NULL:
        fp_count(&series.used, 1)
        fp_count(&series.request_bytes, s.flow[REQ].bytes)
        fp_count(&series.response_bytes, s.flow[RSP].bytes)
        hist_add(&series.duration, w.now - s.start_ns)
        if not s.tcp:
            fp_count(&series.status[s.status // 100], 1)
            if s.first_ns:
                hist_add(&series.first_byte, s.first_ns - s.start_ns)
    if s.cluster != NULL:
        protect_leave(s)
    leave_endpoint(s)
    timer_disarm(w, &s.timer)
    put_buf(w, s.hold)
    s.hold = NULL
    for i in range(2):
        if s.flow[i].pipe != NULL:
            put_pipe(w, s.flow[i].pipe, False)
            s.flow[i].pipe = NULL
    s.state = S_DONE
    if s.conf.log != NULL:
        log_stream(s)
        put_buf(w, s.note)
        s.note = NULL
    if s.wp != NULL:
        wplan_leave(w, s.wp)
    else:
        part_put(w.core, &s.conf.part)
        if s.cluster != NULL:
            part_put(w.core, &s.cluster.part)
    fp_count(&w.n_streams, <uint64_t>-1)
    s.link = w.dead_streams
    w.dead_streams = s
    if down.stream != s:
        return
    if not s.keep_down:
        down_close(down, not s.flow[REQ].done or w.draining)     # a client that did not ask for it may send more
    elif s.flow[REQ].done:
        down_next(down)
    else:
        down_skip_begin(down, &s.flow[REQ])


cdef void part_put(core_t *core, part_t *part) noexcept nogil:
    """One reference less. The last one hands the part to the policy thread, which keeps the registry of endpoints."""
    if fp_ref_add(&part.refs, -1) == 0:
        pthread_mutex_lock(&core.lock)
        part.next = core.retired_parts
        core.retired_parts = part
        pthread_mutex_unlock(&core.lock)


cdef void stream_pin(worker_t *w, stream_t *s) noexcept nogil:
    """Its plan is not the present one any more: the stream keeps its listener, with the routes, and its cluster."""
    fp_ref_add(&s.conf.part.refs, 1)
    if s.cluster != NULL:
        fp_ref_add(&s.cluster.part.refs, 1)
    wplan_leave(w, s.wp)
    s.wp = NULL


cdef void wplan_leave(worker_t *w, wplan_t *wp) noexcept nogil:
    wp.streams -= 1
    if wp.streams == 0 and wp != w.plan:
        wplan_free(w, wp)


cdef void wplan_free(worker_t *w, wplan_t *wp) noexcept nogil:
    """The worker's last stream under this plan has ended. The last worker hands the plan back to the policy thread."""
    cdef core_t *core = w.core
    if fp_ref_add(&wp.plan.refs, -1) == 0:
        pthread_mutex_lock(&core.lock)
        wp.plan.next = core.retired
        core.retired = wp.plan
        pthread_mutex_unlock(&core.lock)
    free(wp)
