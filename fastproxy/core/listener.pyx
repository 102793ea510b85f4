# Accepting: a listening socket per worker (TCP), or one for all (a Unix path). Descriptors run out: accept pauses.

cdef uint64_t ACCEPT_PAUSE_MS = 100
cdef uint64_t LINGER_NS = 1000000000      # Envoy's delayed close


cdef void listener_event(worker_t *w, wlistener_t *wl, int most) noexcept nogil:
    """Accepts up to `most` conns; level-triggered, so the rest is reported again."""
    cdef sockaddr_storage addr
    cdef socklen_t size
    cdef int fd
    cdef lconf_t *conf = w.plan.plan.listeners[wl.slot] if w.plan != NULL else NULL
    while most > 0:
        most -= 1
        size = sizeof(addr)
        fd = accept4(wl.fd, <sockaddr *>&addr, &size, SOCK_NONBLOCK | SOCK_CLOEXEC)
        if fd < 0:
            if errno == EINTR or errno == ECONNABORTED:
                continue
            if errno == EMFILE or errno == ENFILE or errno == ENOBUFS or errno == ENOMEM:
                count_error(w, E_OVERLOAD)
                accept_pause(w)
            return
        if conf == NULL:
            close(fd)
            continue
        accepted(w, w.listeners[wl.slot], conf, fd, &addr)


cdef void accepted(worker_t *w, wlistener_t *wl, lconf_t *conf, int fd, sockaddr_storage *addr) noexcept nogil:
    cdef conn_t *c = take_conn(w)
    if c == NULL:
        count_error(w, E_OVERLOAD)
        close(fd)
        return
    c.kind, c.state, c.fd, c.slot = K_DOWN, C_IDLE, fd, wl.slot
    c.opened_ns, c.idle_ns = w.now, conf.stream_idle_ns
    c.ip_len = address_text(addr, c.ip)
    c.port = ntohs((<sockaddr_in *>addr).sin_port) if c.ip_len else 0     # where a sockaddr_in6 has it, too
    fp_count(&w.n_down, 1)
    fp_count(&w.accepts, 1)
    fp_count(&wl.accepted, 1)
    fp_count32(&wl.active, 1)
    if not conn_watch(c):
        count_error(w, E_OVERLOAD)
        conn_close(c, False)
        return
    # Most clients have sent by now; if not, the registration has its own first edge.
    c.ev = EV_IN
    if conf.http:
        # Who has never said anything does not have the time of a conn that is kept between requests.
        set_deadline(c, conf.head_timeout_ns if conf.head_timeout_ns and (conf.head_timeout_ns < conf.idle_ns or not conf.idle_ns) else conf.idle_ns)
        down_read(c)
    else:
        tcp_begin(c, conf)


cdef uint8_t address_text(sockaddr_storage *addr, char *out) noexcept nogil:
    """The IP address alone; an IPv4 address in IPv6 clothes as IPv4."""
    cdef const uint8_t *p
    cdef uint32_t i, n = 0, v
    if addr.ss_family == AF_INET:
        p = <const uint8_t *>&(<sockaddr_in *>addr).sin_addr
    elif addr.ss_family == AF_INET6:
        p = (<sockaddr_in6 *>addr).sin6_addr.s6_addr
        if memcmp(p, b"\0\0\0\0\0\0\0\0\0\0\xff\xff", 12) != 0:
            if inet_ntop(AF_INET6, p, out, 47) == NULL:
                return 0
            return <uint8_t>strlen(out)
        p += 12
    else:
        return 0
    for i in range(4):
        v = p[i]
        if v >= 100:
            out[n] = 48 + v // 100
            n += 1
        if v >= 10:
            out[n] = 48 + v // 10 % 10
            n += 1
        out[n] = 48 + v % 10
        out[n + 1] = 46
        n += 2
    return n - 1


cdef void listener_watch(worker_t *w, wlistener_t *wl) noexcept nogil:
    """Accepts from here on, unless something stands against it: no plan has the listener yet, or accept is paused."""
    cdef epoll_event event
    while wl != NULL:
        if wl.fd < 0 or w.accept_paused or w.draining or w.plan == NULL or w.plan.plan.listeners[wl.slot] == NULL:
            return
        event.events = EPOLLIN
        if wl.shared:
            event.events |= EPOLLEXCLUSIVE
        event.data.ptr = wl
        if epoll_ctl(w.epfd, EPOLL_CTL_ADD, wl.fd, &event) != 0 and errno != EEXIST:     # else it does so already
            count_error(w, E_OVERLOAD)
            accept_pause(w)                # for want of memory: tried again by and by
        wl = wl.more


cdef void listener_unwatch(worker_t *w, wlistener_t *wl) noexcept nogil:
    """Not left to close(): another process may have the socket, and then the registration would not end with our descriptor."""
    cdef epoll_event event
    while wl != NULL:
        if wl.fd >= 0:
            epoll_ctl(w.epfd, EPOLL_CTL_DEL, wl.fd, &event)
        wl = wl.more


cdef void accept_pause(worker_t *w) noexcept nogil:
    """Out of descriptors, or of memory to watch with: a level-triggered socket would be reported for ever."""
    cdef uint32_t i
    if not w.accept_paused:
        w.accept_paused = True
        for i in range(MAX_LISTENERS):
            listener_unwatch(w, w.listeners[i])
    timer_arm(w, &w.accept_timer, w.wheel_tick + ACCEPT_PAUSE_MS)


cdef void accept_resume(worker_t *w) noexcept nogil:
    cdef uint32_t i
    w.accept_paused = False
    for i in range(MAX_LISTENERS):
        listener_watch(w, w.listeners[i])


cdef void listener_add(worker_t *w, msg_t *msg) noexcept nogil:
    cdef wlistener_t *wl = w.listeners[msg.slot]
    cdef wlistener_t *first = wl
    if wl != NULL and not msg.more:
        listener_stop(w, wl)
    # An event of this batch may still point to one that is out of use: they are used again, and freed with the worker.
    while wl != NULL and wl.fd >= 0:
        wl = wl.more
    if wl == NULL:
        wl = msg.listener
        msg.listener = NULL
        if first != NULL:
            wl.more = first.more
            first.more = wl
        else:
            fp_ptr_store(<void **>&w.listeners[msg.slot], wl)
    if w.draining:
        close(msg.fd)                      # refused at once, instead of waiting for an accept that does not come
        msg.fd = -1
    wl.kind, wl.slot, wl.fd, wl.shared = K_LISTENER, msg.slot, msg.fd, msg.shared
    listener_watch(w, w.listeners[msg.slot])


cdef void listener_accept_all(worker_t *w, wlistener_t *wl) noexcept nogil:
    while wl != NULL:
        listener_event(w, wl, 65536)
        wl = wl.more


cdef void listener_stop(worker_t *w, wlistener_t *wl) noexcept nogil:
    """Accepts what is queued, then closes: a conn that the kernel has acknowledged is not reset."""
    listener_unwatch(w, wl)
    listener_accept_all(w, wl)
    while wl != NULL:
        listener_close(w, wl)
        wl = wl.more


cdef void listener_leave(worker_t *w, wlistener_t *wl) noexcept nogil:
    """Closes our descriptors: another process has the sockets, with what is queued."""
    listener_unwatch(w, wl)
    while wl != NULL:
        if wl.fd >= 0:
            close(wl.fd)
        wl.fd = -1
        wl = wl.more


cdef void listener_close(worker_t *w, wlistener_t *wl) noexcept nogil:
    if wl.fd < 0:
        return
    if fp_flag_load(&w.core.forked):
        shutdown(wl.fd, SHUT_RDWR)         # a child that has it, too, will never accept
    close(wl.fd)
    wl.fd = -1
