# Who owns which block: slabs for conns and streams, size classes for buffers, pooled pipes.
#
# What dies in a batch of events is freed after it, since epoll may still report it. The debug build gives every object
# its own malloc, so that AddressSanitizer sees a use after free.

cdef inline uint8_t *buf_at(buf_t *b) noexcept nogil:
    return <uint8_t *>(b + 1) + b.start


cdef inline uint32_t buf_len(buf_t *b) noexcept nogil:
    return b.end - b.start


cdef buf_t *take_buf(worker_t *w, size_t room) noexcept nogil:
    """A buffer with at least `room` bytes. NULL: too large, no memory, or the worker's budget is used up."""
    cdef uint32_t i = 0
    cdef buf_t *b
    while room > fp_buf_sizes[i]:
        i += 1
        if i == BUF_CLASSES:
            return NULL
    b = w.free_bufs[i]
    if b != NULL:
        w.free_bufs[i] = b.next
        w.n_free_bufs[i] -= 1
    else:
        if w.memory + fp_buf_sizes[i] > WORKER_MEMORY:
            return NULL
        b = <buf_t *>malloc(sizeof(buf_t) + fp_buf_sizes[i])
        if b == NULL:
            return NULL
        b.cap, b.cls = fp_buf_sizes[i], i
        fp_count(&w.memory, fp_buf_sizes[i])
    b.next, b.start, b.end = NULL, 0, 0
    fp_count(&w.n_bufs, 1)
    return b


cdef void put_buf(worker_t *w, buf_t *b) noexcept nogil:
    if b == NULL:
        return
    fp_count(&w.n_bufs, <uint64_t>-1)
    # A few of each class stay: bursts are common, but memory goes back after one.
    if not FP_DEBUG_BUILD and w.n_free_bufs[b.cls] < (8 if b.cls == 3 else 64):
        b.next = w.free_bufs[b.cls]
        w.free_bufs[b.cls] = b
        w.n_free_bufs[b.cls] += 1
        return
    fp_count(&w.memory, <uint64_t>-<int64_t>b.cap)
    free(b)


cdef bint buf_append(worker_t *w, buf_t **at, const void *p, size_t n) noexcept nogil:
    """Adds n bytes to *at, which may be NULL and may be replaced by a larger one. False: no room was to be had."""
    cdef buf_t *b = at[0]
    cdef buf_t *larger
    if b != NULL and b.cap - b.end >= n:
        memcpy(<uint8_t *>(b + 1) + b.end, p, n)
        b.end += <uint32_t>n
        return True
    larger = take_buf(w, n + (buf_len(b) if b != NULL else 0))
    if larger == NULL:
        return False
    if b != NULL:
        memcpy(buf_at(larger), buf_at(b), buf_len(b))
        larger.end = buf_len(b)
        put_buf(w, b)
    memcpy(<uint8_t *>(larger + 1) + larger.end, p, n)
    larger.end += <uint32_t>n
    at[0] = larger
    return True


cdef void *take_block(worker_t *w, size_t size) noexcept nogil:
    """Memory of a slab: kept until the worker ends."""
    cdef arena_t *block = <arena_t *>malloc(16 + size)
    if block == NULL:
        return NULL
    block.next = w.blocks
    w.blocks = block
    return <uint8_t *>block + 16


cdef conn_t *take_conn(worker_t *w) noexcept nogil:
    cdef conn_t *c
    cdef int i
    if FP_DEBUG_BUILD:
        c = <conn_t *>malloc(sizeof(conn_t))
        if c == NULL:
            return NULL
    else:
        if w.free_conns == NULL:
            c = <conn_t *>take_block(w, 32 * sizeof(conn_t))
            if c == NULL:
                return NULL
            for i in range(32):
                c[i].link = w.free_conns
                w.free_conns = c + i
        c = w.free_conns
        w.free_conns = c.link
    memset(c, 0, sizeof(conn_t))
    c.w = w
    c.fd = -1
    c.timer.owner = c
    c.next = w.conns
    if w.conns != NULL:
        w.conns.prev = c
    w.conns = c
    return c


cdef void put_conn(worker_t *w, conn_t *c) noexcept nogil:
    if FP_DEBUG_BUILD:
        free(c)
        return
    c.link = w.free_conns
    w.free_conns = c


cdef stream_t *take_stream(worker_t *w) noexcept nogil:
    cdef stream_t *s
    cdef int i
    if FP_DEBUG_BUILD:
        s = <stream_t *>malloc(sizeof(stream_t))
        if s == NULL:
            return NULL
    else:
        if w.free_streams == NULL:
            s = <stream_t *>take_block(w, 16 * sizeof(stream_t))
            if s == NULL:
                return NULL
            for i in range(16):
                s[i].link = w.free_streams
                w.free_streams = s + i
        s = w.free_streams
        w.free_streams = s.link
    memset(s, 0, sizeof(stream_t))
    s.w = w
    s.timer.owner = s
    s.timer.of_stream = True
    fp_count(&w.n_streams, 1)
    return s


cdef void put_stream(worker_t *w, stream_t *s) noexcept nogil:
    if FP_DEBUG_BUILD:
        free(s)
        return
    s.link = w.free_streams
    w.free_streams = s


cdef void free_dead(worker_t *w) noexcept nogil:
    """After a batch: nothing points to them any more."""
    cdef conn_t *c
    cdef stream_t *s
    while w.dead != NULL:
        c = w.dead
        w.dead = c.link
        put_conn(w, c)
    while w.dead_streams != NULL:
        s = w.dead_streams
        w.dead_streams = s.link
        put_stream(w, s)


cdef pipe_t *take_pipe(worker_t *w) noexcept nogil:
    """An empty pipe, NULL when none can be had: the caller copies instead."""
    cdef pipe_t *p = w.free_pipes
    cdef int fds[2]
    cdef int size
    if p != NULL:
        w.free_pipes = p.next
        w.n_free_pipes -= 1
        return p
    if w.n_pipes >= MAX_PIPES or pipe2(fds, O_NONBLOCK | O_CLOEXEC) != 0:
        return NULL
    p = <pipe_t *>malloc(sizeof(pipe_t))
    if p == NULL:
        close(fds[0])
        close(fds[1])
        return NULL
    p.rd, p.wr = fds[0], fds[1]
    # EPERM beyond the user's share: what the kernel gave is used.
    if w.n_pipes < BIG_PIPES:
        fcntl(p.wr, F_SETPIPE_SZ, PIPE_SIZE)
    size = fcntl(p.wr, F_GETPIPE_SZ)
    p.size = <uint32_t>size if size > 0 else 65536
    fp_count(&w.n_pipes, 1)
    return p


cdef void drop_pipe(worker_t *w, pipe_t *p) noexcept nogil:
    close(p.rd)
    close(p.wr)
    free(p)
    fp_count(&w.n_pipes, <uint64_t>-1)


cdef void put_pipe(worker_t *w, pipe_t *p, bint is_empty) noexcept nogil:
    if is_empty and w.n_free_pipes < 32:
        p.next = w.free_pipes
        w.free_pipes = p
        w.n_free_pipes += 1
    else:
        drop_pipe(w, p)
