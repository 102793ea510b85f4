# A worker's loop: events, timers, what was put off, mail; and how a worker begins and ends.

cdef enum:
    EVENTS = 256
    SWEEP_CONNS = 1024


cdef int worker_wait_ms(worker_t *w) noexcept nogil:
    """How long epoll may sleep; -1: until something happens."""
    cdef uint64_t ticks, passed
    if w.ready != NULL or w.sweep != NULL:
        return 0
    ticks = wheel_next(w)
    if ticks == 0:
        return -1
    passed = fp_clock_ns() // MS - w.wheel_tick
    if passed >= ticks:
        return 0
    return <int>(ticks - passed)


cdef void worker_turn(worker_t *w, int wait_ms) noexcept nogil:
    """One batch of events, and all that is due."""
    cdef epoll_event events[EVENTS]
    cdef uint8_t *tag
    cdef conn_t *c
    cdef conn_t *queue
    cdef int i, n = epoll_wait(w.epfd, events, EVENTS, wait_ms)
    w.now = fp_clock_ns()
    fp_count(&w.loops, 1)
    # An idle upstream conn with an event must not serve a request that stands earlier in the same batch.
    for i in range(n):
        tag = <uint8_t *>events[i].data.ptr
        if tag[0] == K_UP and (<conn_t *>tag).state == C_POOLED and events[i].events != EPOLLOUT:
            conn_close(<conn_t *>tag, False)
    for i in range(n):
        tag = <uint8_t *>events[i].data.ptr
        if i & 7 == 7:
            w.now = fp_clock_ns()
        if tag[0] <= K_UP:
            conn_event(w, <conn_t *>tag, events[i].events)
        elif tag[0] == K_LISTENER:
            listener_event(w, <wlistener_t *>tag, 64)
        elif tag[0] == K_MAILBOX:
            read_mail(w)
        else:
            drain_counter(w.timer_fd)
    wheel_run(w)
    queue = w.ready
    w.ready = w.ready_last = NULL
    while queue != NULL:
        c = queue
        queue = c.link
        c.queued = False
        c.link = NULL
        conn_resume(w, c)
    if w.sweep != NULL:
        sweep_conns(w)
    free_dead(w)


cdef void conn_resume(worker_t *w, conn_t *c) noexcept nogil:
    """What was put off: the next pipelined request, the rest of a long body, a close."""
    if c.state == C_DEAD:
        c.link = w.dead
        w.dead = c
    elif c.kind == K_UP:
        if c.state == C_BUSY and c.ev & EV_IN:
            up_readable(c)
    elif c.state == C_IDLE:
        down_read(c)
        if c.state == C_IDLE and c.inb == NULL and (w.closing_idle or w.plan.plan.listeners[c.slot] == NULL):
            down_close(c, True)
    elif c.state == C_SKIP:
        down_skip(c)
    elif c.state == C_BUSY and c.stream.waiting:
        wait_over(c.stream)
    elif c.state == C_BUSY and not c.stream.flow[REQ].done:
        pump(c.stream, REQ)


cdef void drain_counter(int fd) noexcept nogil:
    cdef uint64_t count
    read(fd, &count, sizeof(count))


cdef void wake(int fd) noexcept nogil:
    cdef uint64_t one = 1
    write(fd, &one, sizeof(one))


# ---- mail ------------------------------------------------------------------------------------------------------------

cdef void post(worker_t *w, msg_t *msg) noexcept nogil:
    """From the policy thread. Takes msg."""
    pthread_mutex_lock(&w.mail_lock)
    if w.mail == NULL:
        w.mail = msg
    else:
        w.mail_last.next = msg
    w.mail_last = msg
    pthread_mutex_unlock(&w.mail_lock)
    wake(w.mail_fd)


cdef void read_mail(worker_t *w) noexcept nogil:
    cdef msg_t *msg
    cdef msg_t *next
    cdef uint32_t i
    drain_counter(w.mail_fd)
    pthread_mutex_lock(&w.mail_lock)
    msg = w.mail
    w.mail = w.mail_last = NULL
    pthread_mutex_unlock(&w.mail_lock)
    while msg != NULL:
        next = msg.next
        if msg.type == MSG_PLAN:
            plan_install(w, msg.wplan)
        elif msg.type == MSG_LISTEN:
            listener_add(w, msg)
            free(msg.listener)
        elif msg.type == MSG_UNLISTEN:
            if w.listeners[msg.slot] != NULL:
                listener_stop(w, w.listeners[msg.slot])
            resume_idle(w)
        elif msg.type == MSG_LEAVE:
            if w.listeners[msg.slot] != NULL:
                listener_leave(w, w.listeners[msg.slot])
        elif msg.type == MSG_DRAIN:
            w.draining = True
            for i in range(MAX_LISTENERS):
                if w.listeners[i] != NULL:
                    listener_stop(w, w.listeners[i])
            fp_flag_store(&w.drained, 1)
        elif msg.type == MSG_CLOSE_IDLE:
            w.closing_idle = True
            resume_idle(w)
        elif msg.type == MSG_CLOSE_ALL:
            close_all(w)
        elif msg.type == MSG_STOP:
            w.stop = True
        if msg != &w.stop_msg:
            free(msg)
        msg = next


cdef void resume_idle(worker_t *w) noexcept nogil:
    """Each idle downstream conn has one more look, and is closed if it is no longer wanted."""
    cdef conn_t *c = w.conns
    while c != NULL:
        if c.kind == K_DOWN and c.state == C_IDLE:
            ready_add(c)
        c = c.next


cdef void close_all(worker_t *w) noexcept nogil:
    """Ends every stream, and counts it, and closes every conn."""
    cdef conn_t *c
    while w.conns != NULL:
        c = w.conns
        if c.stream != NULL:
            stream_abort(c.stream, 0)
        else:
            conn_close(c, False)


cdef void plan_install(worker_t *w, wplan_t *wp) noexcept nogil:
    """From here on new streams run under this plan. Takes wp; the caller has counted the worker in plan.refs."""
    cdef wplan_t *old = w.plan
    cdef plan_t *plan = wp.plan
    cdef uint32_t i
    for i in range(MAX_LISTENERS):
        if old != NULL and old.plan.listeners[i] != NULL and plan.listeners[i] == NULL and w.listeners[i] != NULL:
            listener_unwatch(w, w.listeners[i])
            listener_accept_all(w, w.listeners[i])        # who came before the swap is served as before it
    w.plan = wp
    fp_store(&w.generation, plan.generation)
    for i in range(MAX_LISTENERS):
        listener_watch(w, w.listeners[i])
    for i in range(plan.n_gone):
        pool_clear(w, plan.gone[i])
    if old != NULL:
        if old.streams == 0:
            wplan_free(w, old)
        elif w.sweep == NULL:
            w.sweep = w.conns
        else:
            w.sweep_again = True


cdef void sweep_conns(worker_t *w) noexcept nogil:
    """Streams under an old plan let go of it, a bounded number in a turn: a stream of a day must not hold a plan for a day."""
    cdef uint32_t n = 0
    cdef conn_t *c
    while w.sweep != NULL and n < SWEEP_CONNS:
        c = w.sweep
        w.sweep = c.next
        n += 1
        if c.kind == K_DOWN and c.stream != NULL and c.stream.wp != NULL and c.stream.wp != w.plan:
            stream_pin(w, c.stream)
    if w.sweep == NULL and w.sweep_again:
        w.sweep_again = False
        w.sweep = w.conns


# ---- life ------------------------------------------------------------------------------------------------------------

cdef worker_t *worker_new(core_t *core, uint32_t index, bint in_loop) noexcept nogil:
    cdef worker_t *w = <worker_t *>calloc(1, sizeof(worker_t))
    cdef epoll_event event
    if w == NULL:
        return NULL
    w.core, w.index, w.in_loop = core, index, in_loop
    w.now = fp_clock_ns()
    w.random = (w.now * <uint64_t>2654435761 + index * 40503) | 1
    w.up_limits.head_bytes = w.up_limits.line_bytes = 61440      # as downstream (Envoy)
    w.up_limits.fields = 100
    w.mail_tag, w.timer_tag = K_MAILBOX, K_TIMER
    w.rx = <uint8_t *>malloc(RX_SIZE)
    w.tx = <uint8_t *>malloc(TX_SIZE)
    w.epfd = epoll_create1(EPOLL_CLOEXEC)
    w.mail_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)
    w.timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC) if in_loop else -1
    pthread_mutex_init(&w.mail_lock, NULL)
    wheel_init(w)
    if w.rx == NULL or w.tx == NULL or w.epfd < 0 or w.mail_fd < 0 or (in_loop and w.timer_fd < 0):
        worker_free(w)
        return NULL
    event.events = EPOLLIN
    event.data.ptr = &w.mail_tag
    epoll_ctl(w.epfd, EPOLL_CTL_ADD, w.mail_fd, &event)
    if in_loop:
        event.data.ptr = &w.timer_tag
        epoll_ctl(w.epfd, EPOLL_CTL_ADD, w.timer_fd, &event)
    return w


cdef void *worker_main(void *at) noexcept nogil:
    """A worker's thread: signals are the main thread's."""
    cdef worker_t *w = <worker_t *>at
    cdef sigset_t all_signals
    sigfillset(&all_signals)
    pthread_sigmask(SIG_SETMASK, &all_signals, NULL)
    while not w.stop:
        worker_turn(w, worker_wait_ms(w))
    return NULL


cdef void worker_turn_in_loop(worker_t *w) noexcept nogil:
    """The caller's loop saw epfd readable. The timerfd stands for the wheel, since epfd cannot."""
    cdef itimerspec when
    cdef uint64_t at
    cdef int wait
    worker_turn(w, 0)
    wait = worker_wait_ms(w)
    memset(&when, 0, sizeof(when))
    if wait == 0:
        wake(w.mail_fd)
    elif wait > 0:
        at = fp_clock_ns() + <uint64_t>wait * MS
        when.it_value.tv_sec, when.it_value.tv_nsec = at // 1000000000, at % 1000000000
    timerfd_settime(w.timer_fd, TFD_TIMER_ABSTIME, &when, NULL)


cdef void worker_free(worker_t *w) noexcept nogil:
    """Closes and frees everything. Its thread has ended, or never ran."""
    cdef uint32_t i
    cdef conn_t *c
    cdef buf_t *b
    cdef pipe_t *p
    cdef arena_t *block
    cdef wlistener_t *wl
    cdef msg_t *msg
    w.stop = True
    close_all(w)
    while w.ready != NULL:
        c = w.ready
        w.ready = c.link
        c.link = w.dead
        w.dead = c
    free_dead(w)
    for i in range(MAX_LISTENERS):
        while w.listeners[i] != NULL:
            wl = w.listeners[i]
            w.listeners[i] = wl.more
            listener_close(w, wl)
            free(wl)
    while w.mail != NULL:
        msg = w.mail
        w.mail = msg.next
        if msg.type == MSG_LISTEN:
            close(msg.fd)
            free(msg.listener)
        elif msg.type == MSG_PLAN:
            wplan_free(w, msg.wplan)
        if msg != &w.stop_msg:
            free(msg)
    if w.plan != NULL:
        wplan_free(w, w.plan)
        w.plan = NULL
    fp_assert(w.n_bufs == 0 and w.n_streams == 0 and w.n_down == 0 and w.n_up == 0 and w.n_pooled == 0)
    for i in range(BUF_CLASSES):
        while w.free_bufs[i] != NULL:
            b = w.free_bufs[i]
            w.free_bufs[i] = b.next
            w.memory -= b.cap
            free(b)
    fp_assert(w.memory == 0)
    while w.free_pipes != NULL:
        p = w.free_pipes
        w.free_pipes = p.next
        drop_pipe(w, p)
    fp_assert(w.n_pipes == 0)
    while w.blocks != NULL:
        block = w.blocks
        w.blocks = block.next
        free(block)
    for i in range(SERIES_CHUNKS):
        free(w.series[i])
    free(w.rx)
    free(w.tx)
    if w.epfd >= 0:
        close(w.epfd)
    if w.mail_fd >= 0:
        close(w.mail_fd)
    if w.timer_fd >= 0:
        close(w.timer_fd)
    pthread_mutex_destroy(&w.mail_lock)
    free(w)
