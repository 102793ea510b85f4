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
        accepted(w, wl, conf, fd, &addr)


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


cdef void listener_watch(worker_t *w, wlistener_t *wl, bint on) noexcept nogil:
    cdef epoll_event event
    if not on:
        epoll_ctl(w.epfd, EPOLL_CTL_DEL, wl.fd, &event)
        return
    event.events = EPOLLIN
    if wl.shared:
        event.events |= EPOLLEXCLUSIVE
    event.data.ptr = wl
    epoll_ctl(w.epfd, EPOLL_CTL_ADD, wl.fd, &event)


cdef void accept_pause(worker_t *w) noexcept nogil:
    """Out of descriptors: a level-triggered socket would be reported for ever."""
    cdef uint32_t i
    if not w.accept_paused:
        w.accept_paused = True
        for i in range(MAX_LISTENERS):
            if w.listeners[i] != NULL and w.listeners[i].fd >= 0:
                listener_watch(w, w.listeners[i], False)
    timer_arm(w, &w.accept_timer, w.wheel_tick + ACCEPT_PAUSE_MS)


cdef void accept_resume(worker_t *w) noexcept nogil:
    cdef uint32_t i
    w.accept_paused = False
    for i in range(MAX_LISTENERS):
        if w.listeners[i] != NULL and w.listeners[i].fd >= 0:
            listener_watch(w, w.listeners[i], True)


cdef void listener_add(worker_t *w, msg_t *msg) noexcept nogil:
    cdef wlistener_t *wl = w.listeners[msg.slot]
    if wl == NULL:
        wl = <wlistener_t *>calloc(1, sizeof(wlistener_t))
        if wl == NULL:
            close(msg.fd)
            return
        fp_ptr_store(<void **>&w.listeners[msg.slot], wl)
    elif wl.fd >= 0:
        listener_stop(w, wl)
    wl.kind, wl.slot, wl.fd, wl.shared = K_LISTENER, msg.slot, msg.fd, msg.shared
    if not w.accept_paused and not w.draining:
        listener_watch(w, wl, True)


cdef void listener_stop(worker_t *w, wlistener_t *wl) noexcept nogil:
    """Accepts what is queued, then closes: a conn that the kernel has acknowledged is not reset."""
    if wl.fd < 0:
        return
    if not w.accept_paused:
        listener_watch(w, wl, False)
    if not wl.shared:
        listener_event(w, wl, 65536)
    close(wl.fd)
    wl.fd = -1
