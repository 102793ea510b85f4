# Deadlines: a wheel of five levels of 64 slots, one tick a millisecond. A conn re-arms lazily: a later deadline is only
# noted, and the node moves on when it fires too early.

cdef inline void timer_disarm(worker_t *w, tnode_t *t) noexcept nogil:
    if t.prev == NULL:
        return
    t.prev.next = t.next
    t.next.prev = t.prev
    if w.wheel[t.level][t.slot].next == &w.wheel[t.level][t.slot]:
        w.wheel_bits[t.level] &= ~(<uint64_t>1 << t.slot)
    t.prev = NULL


cdef void timer_arm(worker_t *w, tnode_t *t, uint64_t at) noexcept nogil:
    """Fires in the first turn at or after tick `at`, at the earliest in the next tick."""
    cdef uint64_t delta
    cdef uint32_t level = 0
    cdef tnode_t *head
    timer_disarm(w, t)
    if at <= w.wheel_tick:
        at = w.wheel_tick + 1
    delta = at - w.wheel_tick
    if delta >= <uint64_t>1 << 30:
        delta = (<uint64_t>1 << 30) - 1
        at = w.wheel_tick + delta
    while delta >= <uint64_t>1 << (6 * (level + 1)):
        level += 1
    t.at = at
    t.level = level
    t.slot = (at >> (6 * level)) & 63
    head = &w.wheel[level][t.slot]
    t.next = head
    t.prev = head.prev
    head.prev.next = t
    head.prev = t
    w.wheel_bits[level] |= <uint64_t>1 << t.slot


cdef void wheel_init(worker_t *w) noexcept nogil:
    cdef int level, slot
    for level in range(WHEEL_LEVELS):
        for slot in range(64):
            w.wheel[level][slot].next = &w.wheel[level][slot]
            w.wheel[level][slot].prev = &w.wheel[level][slot]
    w.wheel_tick = w.now // MS


cdef inline uint32_t slot_distance(uint64_t bits, uint32_t after) noexcept nogil:
    """Slots from `after` to the next one set, 1..64; bits is not 0."""
    cdef uint32_t shift = (after + 1) & 63
    cdef uint64_t turned = (bits >> shift) | (bits << ((64 - shift) & 63))
    return 1 + fp_ctz64(turned)


cdef uint64_t wheel_next(worker_t *w) noexcept nogil:
    """Ticks until something is to be done, 0: nothing is armed."""
    cdef uint64_t best = 0, at
    cdef uint32_t level
    for level in range(WHEEL_LEVELS):
        if w.wheel_bits[level]:
            at = w.wheel_tick >> (6 * level)
            at = ((at + slot_distance(w.wheel_bits[level], at & 63)) << (6 * level)) - w.wheel_tick
            if best == 0 or at < best:
                best = at
    return best


cdef void wheel_run(worker_t *w) noexcept nogil:
    """Fires what is due by w.now."""
    cdef uint64_t target = w.now // MS, step
    cdef uint32_t level
    cdef tnode_t *head
    cdef tnode_t *t
    while w.wheel_tick < target:
        step = wheel_next(w)
        if step == 0 or w.wheel_tick + step > target:
            w.wheel_tick = target
            return
        w.wheel_tick += step
        # Slots of a higher level that begin now are spread over the lower ones.
        level = 1
        while level < WHEEL_LEVELS and w.wheel_tick & ((<uint64_t>1 << (6 * level)) - 1) == 0:
            head = &w.wheel[level][(w.wheel_tick >> (6 * level)) & 63]
            while head.next != head:
                t = head.next
                if t.at <= w.wheel_tick:
                    timer_fire(w, t)
                else:
                    timer_arm(w, t, t.at)
            level += 1
        head = &w.wheel[0][w.wheel_tick & 63]
        while head.next != head:
            timer_fire(w, head.next)


cdef void timer_fire(worker_t *w, tnode_t *t) noexcept nogil:
    cdef conn_t *c
    timer_disarm(w, t)
    if t == &w.accept_timer:
        accept_resume(w)
    elif t.of_stream:
        on_stream_timeout(<stream_t *>t.owner)
    else:
        c = <conn_t *>t.owner
        if c.deadline == 0:
            return
        if c.deadline > w.now:
            timer_arm(w, t, (c.deadline + MS - 1) // MS)
        else:
            c.deadline = 0
            on_conn_timeout(c)


cdef inline void set_deadline(conn_t *c, uint64_t after_ns) noexcept nogil:
    """The conn times out after_ns from now; 0: never."""
    cdef uint64_t tick
    if after_ns == 0:
        c.deadline = 0
        return
    c.deadline = c.w.now + after_ns
    tick = (c.deadline + MS - 1) // MS
    if c.timer.prev == NULL or tick < c.timer.at:
        timer_arm(c.w, &c.timer, tick)
