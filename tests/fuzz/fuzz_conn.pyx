# Invariant: whatever both sides send, cut, close, delay, and whatever fails, answers are well-formed, in order, of their own request, whole only if they were; requests arrive as sent, once; nothing stays behind.
# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
#
# The whole data path in one thread: a worker with real sockets, clients and upstreams that follow the script which the input
# is (run_script), and a clock that the script moves. What both sides saw is judged at the end (conn_checks.pxi).

from libc.stdint cimport uint32_t, uint64_t

cdef extern from "world.h" nogil:
    enum:
        FAULT_EINTR, FAULTS
    uint64_t world_ns
    int world_inside, world_events, world_small
    long world_blocks, world_fds
    unsigned int world_connects
    uint32_t world_fault[8]
    int world_lasts[8]
    const uint64_t world_leaps[8]  # ms
    const char *world_echo
    const char *const world_texts[1]
    int world_n_texts
    void *realloc(void *, size_t)
    int dup(int)
    cdef struct pollfd:
        int fd
        short events
        short revents
    int poll(pollfd *, unsigned long, int)
    int POLLIN, POLLOUT, POLLHUP, POLLERR
    int SO_RCVBUF

include "fastproxy/core/errors_gen.pxi"
include "fastproxy/core/h1.pxd"
include "fastproxy/core/regex.pxd"
include "fastproxy/core/match.pxd"
include "fastproxy/core/ops.pxd"
include "fastproxy/_core.pyx"

cdef enum:
    PLANS = 4
    SLOTS = 5
    FRONTS = 4                     # clients that a script can speak of at a time
    MOST_SIDES = 64
    MOST_MARKS = 1024
    MOST_LOG = 512
    MOST_BYTES = 1048576           # one side sends, or holds back, no more
    MARK_LEN = 6                   # ~hhhh~

cdef struct bytes_t:
    uint8_t *p
    size_t n
    size_t cap

cdef struct side_t:                # our end of a conn of the proxy
    int fd                         # -1: closed by us
    uint8_t slot                   # client: the listener's; upstream: which of ours it came to
    bint tcp                       # a reset can be told from an end
    bint http
    bint paused                    # does not read
    bint was_paused
    bint broken                    # cannot be sent to
    bint ended                     # we shut our half or closed in order, after all that is in `sent`
    bint fin                       # the proxy ended it in order
    bint reset                     # the proxy ended it otherwise
    bytes_t sent
    bytes_t got
    bytes_t rest                   # to be sent; `due` bytes of it as soon as possible
    size_t due
    uint32_t n_log                 # after each read: bytes got, and sent by then
    uint32_t log_got[MOST_LOG]
    uint32_t log_sent[MOST_LOG]
    size_t at                      # upstream: start of the request at hand
    int mark                       # its mark, -1: none known

cdef plan_t *plans[PLANS]
cdef int plan_refs[PLANS]
cdef int front_fds[SLOTS]
cdef sockaddr_storage front_addrs[SLOTS]
cdef socklen_t front_lens[SLOTS]
cdef int back_fds[4]               # unix, tcp for http; unix, tcp for raw bytes

cdef core_t core
cdef worker_t *worker
cdef side_t clients[MOST_SIDES]
cdef side_t ups[MOST_SIDES]
cdef int n_clients, n_ups
cdef int fronts[FRONTS]            # index of the client, -1: none
cdef uint32_t n_marks
cdef int mark_client[MOST_MARKS]
cdef size_t mark_at[MOST_MARKS]    # offset in what the client sends
cdef bint is_echo                  # upstreams answer each request by themselves
cdef int n_plans
cdef unsigned int n_dialled
cdef int look_again
cdef uint64_t filler
cdef ring_t ring


cdef void fail(const char *claim) noexcept nogil:
    fprintf(stderr, b"violated: %s\n", claim)
    abort()


cdef inline void check(bint holds, const char *claim) noexcept nogil:
    if not holds:
        fail(claim)


cdef void add(bytes_t *b, const void *p, size_t n) noexcept nogil:
    if b.n + n > b.cap:
        b.cap = 2 * (b.n + n)
        b.p = <uint8_t *>realloc(b.p, b.cap)
    if n:
        memcpy(b.p + b.n, p, n)
    b.n += n


include "conn_checks.pxi"


# ---- our ends --------------------------------------------------------------------------------------------------------

cdef int dial(int slot) noexcept nogil:
    """A new client of a listener -> its index, -1: too many, or refused."""
    global n_clients
    cdef side_t *c = &clients[n_clients]
    cdef int fd, small = 4096
    if n_clients == MOST_SIDES or front_fds[slot] < 0:
        return -1
    fd = socket(front_addrs[slot].ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)
    check(fd >= 0, b"(a socket for a client)")
    if world_small:
        setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small))
    if connect(fd, <sockaddr *>&front_addrs[slot], front_lens[slot]) != 0 and errno != EINPROGRESS:
        close(fd)
        return -1
    memset(c, 0, sizeof(side_t))
    c.fd, c.slot, c.mark = fd, <uint8_t>slot, -1
    c.tcp, c.http = slot & 1, slot != 2 and slot != 3
    n_clients += 1
    return n_clients - 1


cdef void welcome() noexcept nogil:
    """Accepts what the proxy has dialled, in the last few turns."""
    global n_ups, n_dialled, look_again
    cdef side_t *u
    cdef int i, fd
    if n_dialled != world_connects:
        n_dialled = world_connects
        look_again = 4
    if look_again == 0:
        return
    look_again -= 1
    for i in range(4):
        while True:
            fd = accept4(back_fds[i], NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)
            if fd < 0:
                break
            if n_ups == MOST_SIDES:
                close(fd)
                continue
            u = &ups[n_ups]
            memset(u, 0, sizeof(side_t))
            u.fd, u.slot, u.mark, u.tcp, u.http = fd, <uint8_t>i, -1, i & 1, i < 2
            n_ups += 1


cdef bint take_in(side_t *s) noexcept nogil:
    """Reads all there is; whether there was anything."""
    cdef uint8_t part[32768]
    cdef ssize_t got
    cdef bint moved = False
    while s.fd >= 0 and not s.paused and not s.fin and not s.reset:
        got = recv(s.fd, part, sizeof(part), 0)
        if got < 0 and errno == EAGAIN:
            break
        moved = True
        if got > 0:
            add(&s.got, part, got)
        elif got == 0 and not s.broken:
            s.fin = True
        else:                          # or a send has been told of the reset
            s.reset = True
    if moved:
        if s.n_log < MOST_LOG:
            s.log_got[s.n_log], s.log_sent[s.n_log] = <uint32_t>s.got.n, <uint32_t>s.sent.n
        s.n_log += 1
    return moved


cdef bint give_out(side_t *s) noexcept nogil:
    """Sends what is due; whether anything went."""
    cdef ssize_t sent
    cdef bint moved = False
    while s.fd >= 0 and s.due > 0 and not s.broken and not s.ended:
        sent = send(s.fd, s.rest.p, s.due, MSG_NOSIGNAL)
        if sent < 0:
            s.broken = errno != EAGAIN
            break
        add(&s.sent, s.rest.p, sent)
        memmove(s.rest.p, s.rest.p + sent, s.rest.n - sent)
        s.rest.n -= sent
        s.due -= sent
        moved = True
    return moved


cdef void find_request(side_t *u) noexcept nogil:
    """The request at hand of an upstream, by which its answers are marked; all but the last are over."""
    cdef h1_head_t head
    cdef message_t m
    cdef int mark
    while u.http and u.at < u.got.n:
        if not read_message(&u.got, u.at, False, 0, &wide, &m):
            u.mark = -1                # a head is under way
            return
        mark = find_mark(u.got.p + u.at, m.head_len, NULL)
        u.mark = mark
        if not m.whole:
            free_message(&m)
            return
        u.at += m.head_len + m.body_raw
        free_message(&m)
        if is_echo:
            expand(u, -1, <const uint8_t *>world_echo, strlen(world_echo))
            u.due = u.rest.n


cdef bint exchange_io() noexcept nogil:
    """Both sides' turn; whether anything moved."""
    cdef bint moved = False
    cdef int i
    welcome()
    for i in range(n_ups):
        if take_in(&ups[i]):
            moved = True
            find_request(&ups[i])
        moved |= give_out(&ups[i])
    for i in range(n_clients):
        moved |= take_in(&clients[i])
        moved |= give_out(&clients[i])
    return moved


cdef void end_side(side_t *s, int how) noexcept nogil:
    """0: half-close, 1: close, 2: reset, 3: reads no more, or again."""
    cdef linger hard
    if s.fd < 0:
        return
    if how == 3:
        s.paused = not s.paused
        s.was_paused = True
        return
    take_in(s)
    if how == 2 or s.paused:
        hard.l_onoff, hard.l_linger = 1, 0
        setsockopt(s.fd, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard))
        how = 2
    if how != 2 and not s.broken or not s.tcp:
        s.ended = True
    if how == 0:
        shutdown(s.fd, SHUT_WR)
    else:
        close(s.fd)
        s.fd = -1


cdef void expand(side_t *s, int client, const uint8_t *p, size_t n) noexcept nogil:
    """Text of a script to what is sent: \\1 is a new mark of a client, \\2 the mark of the request an upstream has at hand."""
    global n_marks
    cdef const char *hex = b"0123456789abcdef"
    cdef uint8_t mark[MARK_LEN]
    cdef size_t i, done = 0
    cdef int number
    if n == 0 or s.sent.n + s.rest.n + n > MOST_BYTES:
        return
    for i in range(n):
        if client >= 0 and p[i] == 1 and n_marks < MOST_MARKS:
            number = n_marks
            n_marks += 1
            mark_client[number], mark_at[number] = client, s.sent.n + s.rest.n + (i - done)
        elif client < 0 and p[i] == 2:
            number = s.mark
        else:
            continue
        add(&s.rest, p + done, i - done)
        done = i + 1
        if number < 0:
            add(&s.rest, b"------", MARK_LEN)
        else:
            mark[0] = mark[5] = 126
            mark[1], mark[2], mark[3], mark[4] = hex[number >> 12], hex[number >> 8 & 15], hex[number >> 4 & 15], hex[number & 15]
            add(&s.rest, mark, MARK_LEN)
    add(&s.rest, p + done, n - done)


# ---- turns -----------------------------------------------------------------------------------------------------------

cdef void turn() noexcept nogil:
    global world_inside
    world_inside = 1
    worker_turn_in_loop(worker)
    world_inside = 0


cdef void settle(bint both) noexcept nogil:
    """Until nothing moves; with both = False the other sides are silent."""
    cdef int i, quiet = 0
    cdef const char *claim = NULL
    for i in range(20000):
        turn()
        # What a timer or mail brings about is an event of the next turn.
        quiet = 0 if both and exchange_io() or world_events or worker.ready != NULL or worker.sweep != NULL else quiet + 1
        if quiet >= 2:
            claim = unsettled(worker)
            if claim == NULL:
                return
            if quiet == 20:
                fail(claim)
            poll(NULL, 0, 1)               # the kernel's own work on loopback may be late
    fail(b"the worker comes to rest")


cdef void post_now(int type, plan_t *plan, uint32_t slot, int fd) noexcept nogil:
    global world_blocks, world_fds
    cdef msg_t *msg = <msg_t *>calloc(1, sizeof(msg_t))
    world_blocks += 1
    world_fds += fd >= 0
    msg.type, msg.slot, msg.fd = type, slot, fd
    if type == MSG_PLAN:
        msg.wplan = <wplan_t *>calloc(1, sizeof(wplan_t))
        msg.wplan.plan = plan
        world_blocks += 1
    elif type == MSG_LISTEN:
        msg.listener = <wlistener_t *>calloc(1, sizeof(wlistener_t))
        world_blocks += 1
    post(worker, msg)


cdef void mark_gone(plan_t *plan, bint gone) noexcept nogil:
    cdef uint32_t i, j
    for i in range(plan.n_clusters):
        for j in range(plan.clusters[i].n):
            plan.clusters[i].endpoints[j].gone = gone


cdef void next_plan() noexcept nogil:
    global n_plans
    cdef int i
    if n_plans < PLANS:
        for i in range(PLANS):
            mark_gone(plans[i], True)
        mark_gone(plans[n_plans], False)
        plans[n_plans].refs = 1
        plans[n_plans].next = NULL
        post_now(MSG_PLAN, plans[n_plans], 0, -1)
        n_plans += 1


cdef void calm() noexcept nogil:
    memset(world_fault, 0, sizeof(world_fault))
    memset(world_lasts, 0, sizeof(world_lasts))


# ---- the script ------------------------------------------------------------------------------------------------------
#
# The first byte holds switches: 1 settles after each command, 2 small buffers, 4 upstreams that answer by themselves, 8 an
# end without winding down. Then bytes below 0xF0 are text, which the next command sends:
#   F0 c    all of it, by client c & 3 (a new one at listener c >> 2, if it has none)     F3 u  by upstream conn u
#   F1 c n  n bytes of it, the rest later                                                 F4 u n  the same
#   F2 c    byte by byte                                                                  F5 e  end_side of a client, F6 e of an upstream
#   F7      one turn           F8  until nothing moves      F9 t  the clock moves         FA f  a call fails
#   FB x    plan, drain, unlisten                           FC n  n + 1 KiB of text       FD n  world_texts[n]
#   FE b    the byte b | 0x80                               FF    the text twice


cdef void speak(side_t *s, int client, bytes_t *text, int most) noexcept nogil:
    expand(s, client, text.p, text.n)
    text.n = 0
    s.due = s.rest.n if most < 0 or s.due + most > s.rest.n else s.due + most
    give_out(s)


cdef int client_of(uint8_t c) noexcept nogil:
    cdef int i = fronts[c & 3]
    if i < 0 or clients[i].fd < 0 or clients[i].fin or clients[i].reset:
        i = fronts[c & 3] = dial((c >> 2) % SLOTS)
    return i


cdef void run_script(const uint8_t *p, size_t n) noexcept nogil:
    global world_ns, filler, is_echo, world_small
    cdef bytes_t text
    cdef size_t i = 1, k
    cdef uint8_t op, a, b
    cdef int at, most
    cdef bint auto = p[0] & 1
    cdef uint8_t line[8]
    memset(&text, 0, sizeof(text))
    while i < n:
        op = p[i]
        i += 1
        if op < 0xF0:
            op = op if op != 126 else 120      # no marks but ours
            add(&text, &op, 1)
            continue
        a = p[i] if i < n else 0
        b = p[i + 1] if i + 1 < n else 0
        if op != 0xF7 and op != 0xF8 and op != 0xFF:
            i += 1
        if op == 0xF0 or op == 0xF1 or op == 0xF2:
            at = client_of(a)
            if op == 0xF1:
                i += 1
            if at < 0:
                continue
            if op == 0xF2:
                speak(&clients[at], at, &text, 0)
                most = 0
                while most < 400 and clients[at].due < clients[at].rest.n:
                    most += 1
                    speak(&clients[at], at, &text, 1)
                    turn()
                    exchange_io()
            else:
                speak(&clients[at], at, &text, b if op == 0xF1 else -1)
        elif op == 0xF3 or op == 0xF4:
            if op == 0xF4:
                i += 1
            exchange_io()
            if n_ups:
                speak(&ups[n_ups - 1 - a % n_ups], -1, &text, b if op == 0xF4 else -1)
        elif op == 0xF5:
            if fronts[a & 3] >= 0:
                end_side(&clients[fronts[a & 3]], a >> 2 & 3)
        elif op == 0xF6:
            exchange_io()
            if n_ups:
                end_side(&ups[n_ups - 1 - (a >> 2) % n_ups], a & 3)
        elif op == 0xF7:
            turn()
            exchange_io()
        elif op == 0xF8:
            settle(True)
        elif op == 0xF9:
            world_ns += world_leaps[a & 7] * MS
            turn()
            exchange_io()
        elif op == 0xFA:
            if a & 7 < FAULTS:
                world_fault[a & 7] = 1 + (a >> 3 & 15)
                world_lasts[a & 7] = a >> 7 and a & 7 < FAULT_EINTR     # interruptions pass
            if a == 0xFF:
                calm()
        elif op == 0xFB:
            if a & 3 == 0:
                next_plan()
            elif a & 3 == 1:
                post_now(MSG_UNLISTEN, NULL, (a >> 2) % SLOTS, -1)
            elif a & 3 == 2:
                post_now(MSG_LISTEN, NULL, (a >> 2) % SLOTS, dup(front_fds[(a >> 2) % SLOTS]))
            else:
                post_now(MSG_DRAIN, NULL, 0, -1)
        elif op == 0xFC:
            for k in range((<size_t>a + 1) * 128):
                snprintf(<char *>line, 8, b"%07u", <unsigned int>(filler % 10000000))
                line[7] = 10
                filler += 1
                if text.n < MOST_BYTES:
                    add(&text, line, 8)
        elif op == 0xFD:
            add(&text, world_texts[a % world_n_texts], strlen(world_texts[a % world_n_texts]))
        elif op == 0xFE:
            a |= 0x80
            add(&text, &a, 1)
        elif 0 < text.n < 4096:
            twice(&text)
        if auto:
            settle(True)
    free(text.p)


cdef void twice(bytes_t *b) noexcept nogil:
    b.cap = 2 * b.n
    b.p = <uint8_t *>realloc(b.p, b.cap)
    add(b, b.p, b.n)


# ---- one input -------------------------------------------------------------------------------------------------------

cdef void begin() noexcept nogil:
    global worker, world_ns, world_inside, world_blocks, world_fds, n_clients, n_ups, n_marks, n_plans, filler
    cdef int i
    calm()
    world_ns = 1000000000000
    world_blocks = world_fds = 0
    n_clients = n_ups = n_plans = n_marks = filler = 0
    for i in range(FRONTS):
        fronts[i] = -1
    memset(&core, 0, sizeof(core))
    core.n_workers = 1
    pthread_mutex_init(&core.lock, NULL)
    world_inside = 1
    worker = worker_new(&core, 0, True)
    world_inside = 0
    core.workers = &worker
    ring.head = ring.next = ring.tail = 0
    worker.ring = &ring
    next_plan()
    for i in range(SLOTS):
        post_now(MSG_LISTEN, NULL, i, dup(front_fds[i]))
    turn()


cdef void wind_down() noexcept nogil:
    """Lets what can move move, then time pass in silence; then nobody is left."""
    global world_ns
    cdef int i
    for i in range(n_ups):
        ups[i].paused = False
    for i in range(n_clients):
        clients[i].paused = False
    settle(True)
    i = 0
    while i < 2 * MOST_MESSAGES and (worker.n_down or worker.n_streams or worker.n_up):     # each of many pipelined requests has its time
        i += 1
        world_ns += <uint64_t>301000 * MS
        settle(False)
    check(worker.n_down == 0 and worker.n_streams == 0 and worker.n_up == 0, b"the silent are timed out")
    check(worker.n_bufs == 0 and worker.memory == 0, b"buffers are given back")
    check(worker.n_pipes == worker.n_free_pipes, b"pipes are given back")
    exchange_io()
    judge()
    check_log()


cdef void end() noexcept nogil:
    """Whatever is still under way is cut; everything is given back."""
    global world_inside
    cdef int i
    cdef plan_t *plan
    for i in range(n_ups):
        leave(&ups[i])
    for i in range(n_clients):
        leave(&clients[i])
    world_inside = 1
    worker_free(worker)
    for i in range(PLANS):
        forget_clusters(plans[i])
    for i in range(PLANS):
        forget_shares(plans[i])
    world_inside = 0
    check(world_blocks == 0, b"memory is given back")
    check(world_fds == 0, b"descriptors are closed")
    plan = core.retired
    i = 0
    while plan != NULL:
        check(plan.refs == 0, b"a retired plan has no users")
        plan = plan.next
        i += 1
    check(i == n_plans, b"plans are handed back")
    pthread_mutex_destroy(&core.lock)
    for i in range(SLOTS):
        refuse(front_fds[i])
    for i in range(4):
        refuse(back_fds[i])


cdef void leave(side_t *s) noexcept nogil:
    s.paused = True
    end_side(s, 2)
    free(s.sent.p)
    free(s.got.p)
    free(s.rest.p)


cdef void refuse(int listener) noexcept nogil:
    """What was never accepted must not meet the next input."""
    cdef int fd
    while True:
        fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC)
        if fd < 0:
            return
        close(fd)


cdef void forget_clusters(plan_t *plan) noexcept nogil:
    """What outlives a plan is as it was at first."""
    cdef uint32_t i, j
    cdef int out
    cdef cluster_t *cluster
    cdef endpoint_t *ep
    for i in range(plan.n_clusters):
        cluster = plan.clusters[i]
        check(cluster.share.connections == 0 and cluster.share.pending == 0 and cluster.share.requests == 0, b"limits count back to nothing")
        for j in range(cluster.n):
            ep = cluster.endpoints[j]
            check(ep.pools[0].idle == NULL and ep.pools[0].n_idle == 0 and ep.pools[0].n_conns == 0, b"pools are empty")
            check(ep.pools[0].waiting == NULL, b"nobody waits for a conn")
            check(ep.shared.in_flight == 0 and ep.trial == 0, b"nothing is in flight")
            ep.share.n_out -= ep.out_until != 0
            free(ep.pools[0].connect)
            memset(&ep.pools[0], 0, sizeof(epool_t))
            memset(&ep.shared, 0, sizeof(lb_endpoint_t))
            ep.failures = ep.n_outs = 0
            ep.out_until = 0


cdef void forget_shares(plan_t *plan) noexcept nogil:
    cdef uint32_t i
    for i in range(plan.n_clusters):
        check(plan.clusters[i].share.n_out == 0, b"who is ejected is counted")
        memset(plan.clusters[i].share.works, 0, sizeof(cwork_t))
    check(core.retired_parts == NULL and refs_of(plan) == plan_refs[plan.generation - 1], b"parts are let go")


cdef int refs_of(plan_t *plan) noexcept nogil:
    """References to all of its parts, together."""
    cdef uint32_t i
    cdef int n = 0
    for i in range(plan.n_clusters):
        n += plan.clusters[i].part.refs
    for i in range(MAX_LISTENERS):
        if plan.listeners[i] != NULL:
            n += plan.listeners[i].part.refs
    return n


cdef public int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n) noexcept nogil:
    global world_small, is_echo
    if n < 2:
        return 0
    world_small = p[0] >> 1 & 1
    is_echo = p[0] >> 2 & 1
    begin()
    run_script(p, n)
    calm()
    if not p[0] >> 3 & 1:
        wind_down()
    end()
    return 0


# ---- plans, once, in Python ------------------------------------------------------------------------------------------

CONFIG = """
listeners:
  - name: unix
    bind: "$unix"
    timeouts: {head: 10s, stream_idle: 60s, idle: 300s}
    routes:
      - {match: {path_prefix: /u}, cluster: u, timeout: 20s}
      - match: {path_prefix: /t}
        cluster: t
        request_headers: {set: {x-set: a}, add: {x-add: [b, c]}, remove: [x-gone]}
        response_headers: {set: {x-set: a}, add: {x-add: [b, c]}, remove: [x-gone]}
      - {match: {path_prefix: /m}, cluster: m}
      - {match: {path_prefix: /l}, cluster: l, upgrades: []}
      - {match: {path_prefix: /d}, cluster: d}
      - {match: {path_prefix: /n}, cluster: n}
      - {match: {path_prefix: /h}, cluster: h}
      - {match: {path_prefix: /self}, cluster: self, rewrite: {path_prefix: /t, host: b.example}}
      - {match: {path_prefix: /loop}, cluster: self}
      - {match: {path_prefix: /s}, split: [{cluster: u, weight: 3}, {cluster: t, weight: 1}]}
      - {match: {path_prefix: /r}, redirect: {scheme: https, path_prefix: /u, status: 307}}
      - {match: {path_prefix: /o}, direct_response: {status: 200, body: "of our own", headers: {x-own: "1"}}}
      - {match: {path_prefix: /b}, direct_response: {status: 404, body: "$long", headers: {x-own: "1"}}}
      - {match: {path: {regex: "/x[0-9]*/.*"}, query: {q: {present: true}}}, cluster: u}
      - {match: {headers: {x-to: t}, methods: [GET, POST]}, cluster: t}
  - name: tcp
    bind: "$tcp"
    access_log: {path: /dev/null, format: "%REQ(X-A)% %REQ(:PATH)% %RESP(X)% %RESPONSE_CODE%"}
    timeouts: {head: 10s, stream_idle: 60s, idle: 300s}
    request_id: false
    routes: [{match: {path_prefix: /t}, cluster: t}, {cluster: m}]
  - {name: raw, bind: "$raw", protocol: tcp, timeouts: {idle: 300s}, cluster: raw}
  - {name: raw-tcp, bind: "$rawtcp", protocol: tcp, timeouts: {idle: 300s}, cluster: raw-tcp}
  - name: strict
    bind: "$strict"
    timeouts: {head: 10s, stream_idle: 60s, idle: 300s}
    limits: {head_bytes: 1KiB, fields: 8, body_bytes: 1000B}
    x_forwarded: false
    via: true
    filters: [fuzz]
    virtual_hosts:
      - {hosts: ["*.example"], routes: [{match: {path_prefix: /t}, cluster: t}]}
      - {hosts: ["*"], routes: [{match: {path_prefix: /u}, cluster: u}, {match: {path_prefix: /t}, cluster: t, rewrite: {path_prefix: /x/y}}]}
clusters:
  - {name: u, idle_timeout: 60s, connect_timeout: 1s, endpoints: ["$up"]}
  - {name: t, idle_timeout: 60s, connect_timeout: 1s, balance: random, retry_budget: false, endpoints: ["$uptcp"]}
  - {name: m, idle_timeout: 60s, connect_timeout: 1s, balance: round_robin, outlier: {consecutive_failures: 2}, endpoints: ["unix:/nowhere/a", "$up", "$uptcp"]}
  - {name: l, idle_timeout: 60s, connect_timeout: 1s, balance: least_request, limits: {connections: 1, pending: 2, requests: 3}, endpoints: ["$up", "$uptcp"]}
  - {name: d, idle_timeout: 60s, connect_timeout: 1s, balance: {name: fuzz}, outlier: {consecutive_failures: 1, max_ejection_percent: 100}, retry_budget: {percent: 0, min_per_second: 0}, endpoints: ["unix:/nowhere/a", "127.0.0.1:1"]}
  - {name: h, idle_timeout: 60s, connect_timeout: 1s, balance: round_robin, endpoints: ["$hole", "$up"]}
  - {name: n, endpoints: []}
  - {name: self, idle_timeout: 60s, endpoints: ["$unix"]}
  - {name: raw, endpoints: ["unix:/nowhere/a", "$rawup"]}
  - {name: raw-tcp, endpoints: ["$rawuptcp"]}
"""


cdef int fuzz_filter(void *state, filter_call_t *call) noexcept nogil:
    """Refuses what has `refuse` for its query, else leaves its name."""
    if call.view.query_len == 6 and memcmp(call.view.query, b"refuse", 6) == 0:
        return 403
    filter_set_header(call, b"x-filter", 8, b"fuzz", 4)
    return 0


cdef uint32_t fuzz_pick(balance_call_t *call) noexcept nogil:
    return call.n                      # a mistake, and not the proxy's


_open = []


def listening(address):
    import socket as sockets
    if address.startswith("unix:"):
        one = sockets.socket(sockets.AF_UNIX)
        one.bind(address[5:])
    else:
        one = sockets.socket()
        one.setsockopt(sockets.IPPROTO_TCP, sockets.TCP_NODELAY, 1)
        one.bind(("127.0.0.1", 0))
        address = "127.0.0.1:%d" % one.getsockname()[1]
    one.listen(1024)
    one.setblocking(False)
    _open.append(one)
    return address


def black_hole():
    """Where a connect comes to nothing: its queue is full."""
    import socket as sockets
    one = sockets.socket()
    one.bind(("127.0.0.1", 0))
    one.listen(0)
    filling = [sockets.socket() for _ in range(4)]
    for each in filling:
        each.setblocking(False)
        each.connect_ex(one.getsockname())
    _open.extend([one, *filling])
    return "127.0.0.1:%d" % one.getsockname()[1]


def make_plans():
    import atexit, shutil, string, tempfile
    from fastproxy.model import load
    from fastproxy.proxy.compile import Slots
    from fastproxy.proxy.parts import Parts
    cdef filter_ops_t ops
    cdef balancer_ops_t balancer
    cdef socklen_t size
    cdef int i
    ops.on_request, ops.state = fuzz_filter, NULL
    register_filter("fuzz", &ops, CORE_ABI)
    balancer.pick = fuzz_pick
    register_balancer("fuzz", &balancer, CORE_ABI)
    where = tempfile.mkdtemp(prefix="fuzz-")
    atexit.register(shutil.rmtree, where, ignore_errors=True)
    names = ["unix", "tcp", "raw", "rawtcp", "strict", "up", "uptcp", "rawup", "rawuptcp"]
    at = {name: listening("tcp" if "tcp" in name else f"unix:{where}/{name}") for name in names}
    for i in range(SLOTS):
        front_fds[i] = _open[i].fileno()
        size = sizeof(sockaddr_storage)
        getsockname(front_fds[i], <sockaddr *>&front_addrs[i], &size)
        front_lens[i] = size
    for i in range(4):
        back_fds[i] = _open[SLOTS + i].fileno()
    first = string.Template(CONFIG).substitute(at, hole=black_hole(), long="long " * 2000)
    holder = Core(workers=0)
    _open.append(holder)
    parts = Parts(holder, Slots())
    for i in range(PLANS):
        model = load(text=less_of(first) if i == 1 else first)
        parts.apply(model, [(names.index(one.name.replace("-", "")), one.bind) for one in model.listeners])
        plans[i] = (<Core>holder).current
    _open.append(parts)
    for i in range(PLANS):
        plan_refs[i] = refs_of(plans[i])


def less_of(text):
    """A listener goes, and endpoints."""
    lines = [line for line in text.splitlines(True) if not line.startswith("  - {name: raw-tcp, bind")]
    return "".join(line.partition("endpoints: [")[0] + "endpoints: []}\n" if line.startswith("  - {name: t,") else
                   line.replace('"unix:/nowhere/a", ', "") if line.startswith("  - {name: m,") else line for line in lines)


make_plans()
