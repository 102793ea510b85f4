# READ FIRST: the objects of the data path and who owns them. docs/decisions/0001-data-path.md says why they are so.

cdef enum:
    MAX_LISTENERS = 1024
    RX_READ = 65536                # one recv
    RX_HEAD = 24576                # one recv where a response head is expected: what is large behind it is spliced
    RX_SIZE = 147456               # a kept partial head or chunk line, then one recv
    TX_SIZE = 147456               # an edited head and the short body behind it
    SEND_COPY = 4096               # a body up to this is copied behind its head, a longer one goes by sendmsg
    HOLD_MAX = 65536               # what may be sent again after a stale conn (Linkerd2)
    PUMP_BUDGET = 524288           # bytes that one conn may move in one turn
    SPLICE_MIN = 65536             # bytes still to come, above which splice pays
    PIPE_SIZE = 1048576
    BIG_PIPES = 64                 # of a worker: what an unprivileged user gets of them
    MAX_PIPES = 256                # of a worker: peers that stall hold theirs, and what lies in a pipe is no process's memory
    GATHER_BYTES = 262144          # a pipe with less waits for the end of the turn, by when more may have come
    MAX_ATTEMPTS = 3
    MAX_FALLBACKS = 4              # of a cluster, in a row (model/check.py has the same)
    MAX_INTERIM = 64               # 1xx before a final response
    MAX_HOPS = 8
    LINGER_BYTES = 262144          # of a request's body read past after an early answer (Go), so that the answer arrives
    BUF_CLASSES = 4
    WHEEL_LEVELS = 5
    BUDGET_SLOTS = 10              # seconds (Linkerd)
    RING_SIZE = 4194304            # a power of two
    LOG_FIELDS = 32                # of either head, in one format
    SERIES_CHUNK = 16
    SERIES_CHUNKS = 2048
    HIST_BUCKETS = 256

cdef enum:
    WORKER_MEMORY = 536870912      # buffers of one worker; over it new streams are refused (E_OVERLOAD)
    MS = 1000000                   # ns

cdef enum obj_kind:                # first byte of everything that epoll points to
    K_DOWN = 1
    K_UP = 2
    K_LISTENER = 3
    K_MAILBOX = 4
    K_TIMER = 5

cdef enum conn_state:
    C_IDLE = 1                     # down: waits for a head
    C_BUSY = 2                     # has a stream
    C_FLUSH = 3                    # down: sends what is left, then lingers
    C_LINGER = 4                   # down: our side is shut, throws away what still comes
    C_CONNECTING = 5               # up
    C_POOLED = 6                   # up: idle in its pool
    C_SKIP = 7                     # down: answered early, reads past the rest of the request
    C_DEAD = 8                     # closed; freed after the batch of events

cdef enum conn_event_flag:
    EV_IN = 1                      # not known to be drained
    EV_FIN = 2                     # the other side shut its half, or reset
    EV_ERR = 4

cdef enum stream_state:
    S_DIAL = 1                     # waits for an upstream conn; the head is in hold
    S_WAIT = 2                     # request on its way, no final response head yet
    S_RESPOND = 3                  # response head sent
    S_TUNNEL = 4                   # bytes both ways (TCP, or after 101)
    S_DONE = 5

cdef enum:
    REQ = 0                        # flow from downstream to upstream
    RSP = 1

cdef enum:
    H1_BODY_TUNNEL = 4             # until FIN, which is passed on as a half-close

# Forward, since they point to each other.
cdef struct conn_t
cdef struct stream_t
cdef struct worker_t
cdef struct core_t
cdef struct plan_t

cdef struct tnode_t:
    tnode_t *next
    tnode_t *prev                  # NULL: not armed
    void *owner                    # conn or stream
    uint64_t at                    # tick (ms)
    uint8_t level
    uint8_t slot
    bint of_stream

cdef struct buf_t:                 # a block of bytes; data follows the header
    buf_t *next
    uint32_t cap
    uint32_t start
    uint32_t end
    uint32_t cls

cdef struct pipe_t:
    pipe_t *next
    int rd
    int wr
    uint32_t size

cdef struct hist_t:
    uint64_t count
    uint64_t sum_ns
    uint64_t buckets[HIST_BUCKETS]

cdef struct series_t:              # one (listener, route, cluster), one worker
    uint64_t status[6]             # by class; [0] none was sent
    uint64_t request_bytes         # body bytes from downstream
    uint64_t response_bytes
    uint64_t connections           # tcp
    uint64_t used
    hist_t duration
    hist_t first_byte

cdef struct epool_t:               # one endpoint, one worker
    conn_t *idle                   # newest first
    stream_t *waiting              # oldest first: over the limit of connections, they get what becomes free
    stream_t *waiting_last
    uint32_t n_idle
    uint32_t n_conns
    uint64_t requests
    uint64_t connects
    uint64_t connect_failures
    uint64_t received_bytes
    uint64_t sent_bytes
    hist_t *connect
    uint8_t last_error             # error_code of the last connect failure
    uint8_t pad[64]

cdef struct cwork_t:               # one cluster, one worker: the window of the retry budget, a slot a second
    uint64_t second[BUDGET_SLOTS]
    uint32_t requests[BUDGET_SLOTS]
    uint32_t retries[BUDGET_SLOTS]
    uint32_t turn                  # of the balancer
    uint64_t retried
    uint64_t refused               # for want of budget
    uint64_t ejections
    uint8_t pad[64]

cdef struct cshare_t:              # process-wide state of a cluster, by name; outlives plans, and is the registry's
    int32_t refs
    int32_t connections            # these four by all workers (atomic)
    int32_t pending
    int32_t requests
    int32_t n_out                  # endpoints that are ejected
    uint8_t pad[64]
    cwork_t works[1]               # one per worker

cdef struct endpoint_t:            # process-wide, outlives plans; the registry frees it when no cluster part names it
    lb_endpoint_t shared           # first: balancers see it
    int32_t failures               # in a row (atomic)
    int32_t trial                  # 1 while one stream tries an ejected endpoint (atomic)
    uint32_t n_outs                # ejections in a row
    uint64_t out_until             # ns; 0: not ejected (atomic)
    uint32_t last_failure          # of an attempt: error_code, or the status 502 to 504 (atomic, as the next)
    uint64_t last_failure_ns       # when; 0: never
    cshare_t *share
    int32_t refs                   # of cluster parts; the policy thread's
    int32_t gone                   # the present plan does not name it: its conns are not pooled (atomic)
    int32_t is_self                # a listener of this proxy (atomic, as the next)
    int32_t is_loop                # leads back to itself over tcp listeners alone
    int family
    socklen_t addr_len
    sockaddr_storage addr
    uint32_t text_len
    char text[128]
    uint32_t n_pools
    epool_t pools[1]               # one per worker

cdef struct arena_t:
    arena_t *next

cdef enum part_kind:
    PART_CLUSTER = 1
    PART_TABLE = 2
    PART_LISTENER = 3

cdef struct part_t:                # head of what is compiled apart from the rest; immutable. Freed by the policy thread
    int32_t refs                   # roots, streams that pin it, its Part in Python, for a table its listener (atomic)
    uint8_t kind
    part_t *next                   # of the retired
    arena_t *arena                 # all that it is made of

cdef struct cluster_t:
    part_t part
    const char *name
    uint32_t name_len
    uint32_t n
    endpoint_t **endpoints
    uint32_t *weights
    uint32_t *schedule
    uint32_t schedule_len
    uint32_t (*pick)(balance_call_t *) noexcept nogil
    bint uses_ewma
    cshare_t *share
    int32_t max_connections
    int32_t max_pending
    int32_t max_requests
    bint any_retry                 # no budget
    uint32_t budget_percent        # of the requests of the window
    uint32_t budget_min            # so many in a window always
    int32_t out_after              # failures in a row; 0: ejection is off
    uint32_t out_percent
    uint64_t out_base_ns
    uint64_t out_max_ns
    uint64_t connect_timeout_ns
    uint64_t idle_ns
    uint32_t fallback              # its number in the root, plus 1; 0: none

cdef struct target_t:
    uint32_t cluster               # its number in the root
    uint32_t weight
    uint32_t series
    uint32_t fallback_series[MAX_FALLBACKS]

cdef struct edits_t:               # header edits of a route
    uint32_t n_drop
    const char **drop              # lower case
    uint32_t *drop_len
    const char *add                # lines with CRLF
    uint32_t add_len

cdef enum route_action:
    ROUTE_FORWARD = 0
    ROUTE_REDIRECT = 1
    ROUTE_DIRECT = 2

cdef struct text_t:                # at NULL: not set
    const char *at
    uint32_t len

cdef struct route_t:
    uint8_t action
    uint16_t status
    uint32_t n_targets
    uint32_t total_weight
    target_t *targets
    uint32_t series
    uint64_t timeout_ns
    uint32_t n_upgrades
    text_t *upgrades               # lower case
    text_t rewrite_path
    text_t rewrite_from            # a prefix in whole segments, and what stands in its place
    text_t rewrite_to
    text_t rewrite_host
    edits_t request
    edits_t response
    text_t scheme
    text_t host
    text_t port                    # ":8443"
    text_t body
    text_t headers                 # of a direct response, lines with CRLF

cdef struct table_t:               # routes of a listener, and how they are found
    part_t part
    route_table_t *found
    route_t *routes

cdef struct log_field_t:
    const char *name               # lower case
    uint32_t len
    uint8_t hid

cdef struct log_t:                 # a listener's access log
    uint32_t id                    # of its format
    uint32_t n_request
    log_field_t *request           # fields to note
    uint32_t n_response
    log_field_t *response

cdef struct lconf_t:               # a listener's part
    part_t part
    const char *name
    uint32_t slot
    bint http
    uint64_t head_timeout_ns
    uint64_t stream_idle_ns
    uint64_t idle_ns
    uint64_t body_bytes            # 0: no limit
    h1_limits_t limits
    table_t *table                 # http: holds a reference
    uint32_t cluster               # tcp: its number in the root
    uint32_t series
    uint32_t fallback_series[MAX_FALLBACKS]
    bint x_forwarded
    bint request_id
    text_t via
    log_t *log                     # NULL: off
    uint32_t n_filters
    filter_ops_t *filters

cdef struct plan_t:                # the root: immutable; refs counts the workers that hold it
    plan_t *next                   # of the retired
    int32_t refs
    uint64_t generation
    lconf_t *listeners[MAX_LISTENERS]      # by slot, NULL: not in use
    uint32_t n_gone
    endpoint_t **gone              # were in the root before this one, and are in this one no more
    uint32_t n_clusters
    cluster_t *clusters[1]         # by number, NULL: not in use

cdef struct wplan_t:               # one worker's hold on a plan; streams count here, without atomics
    plan_t *plan
    uint32_t streams

cdef struct wlistener_t:
    uint8_t kind                   # K_LISTENER
    bint shared                    # one socket for all workers (Unix)
    int fd
    wlistener_t *more              # further sockets, of a process that had more workers; the first one counts for all
    uint32_t slot
    uint64_t accepted
    uint64_t closed
    uint64_t received_bytes
    uint64_t sent_bytes
    uint32_t active

cdef struct flow_t:
    uint8_t kind                   # h1_body_kind or H1_BODY_TUNNEL
    bint done                      # its last byte has been taken from the source
    bint shut                      # the half-close was passed on
    bint bulk                      # a read filled the scratch: splice
    bint gather                    # the pipe waits for the end of the turn
    bint strip                     # chunked to a HTTP/1.0 client: data alone
    uint64_t left
    uint64_t bytes
    h1_chunk_t chunk
    pipe_t *pipe                   # held only while not empty
    uint32_t piped

cdef struct conn_t:
    uint8_t kind                   # K_DOWN or K_UP
    uint8_t state                  # conn_state
    uint8_t ev                     # conn_event_flag
    bint partial                   # inb holds a head that is not complete
    bint queued                    # in the worker's ready list
    bint shut_after                # shut our half once `out` is sent
    bint reused                    # up: has served a request before
    bint torn                      # part of a message is lost: nothing more may be sent
    int fd
    worker_t *w
    stream_t *stream
    buf_t *inb                     # received, not used yet
    buf_t *out                     # to be sent; while it is there its source is not read
    tnode_t timer
    uint64_t deadline              # ns; 0: none. The timer may be armed for earlier
    conn_t *next                   # of all conns of the worker
    conn_t *prev
    conn_t *link                   # ready list, later the dead list
    conn_t *pnext                  # up: in its pool
    conn_t *pprev
    endpoint_t *endpoint           # up
    uint64_t idle_ns               # up: in its pool; down: while bytes wait to be moved
    uint64_t opened_ns
    uint32_t slot                  # down: the listener's
    uint32_t lingered
    flow_t skip                    # down: of the request that was answered early
    uint16_t port                  # down: the client's
    uint8_t ip_len
    char ip[47]                    # down: the address as text, "" for a Unix socket

cdef struct stream_t:
    uint8_t state                  # stream_state; set_stream_state alone writes it
    uint8_t method                 # h1_method
    uint8_t minor                  # of the request
    uint8_t attempts
    uint8_t n_interim
    uint8_t cause                  # error_code
    bint tcp
    bint keep_down
    bint keep_up
    bint up_dirty                  # bytes after the response
    bint up_broken                 # no more can be written
    uint8_t upgrade                # asked for and allowed: 1 + its index in route.upgrades
    bint hold_all                  # hold has everything that was sent so far
    bint idempotent
    bint expects                   # 100-continue: whether the body comes after an early answer is the client's choice
    bint counted_in_flight
    bint counted_request           # in the cluster's share
    bint counted_pending
    bint waiting                   # in its pool's queue for a conn
    bint from_pool                 # its first attempt was on a pooled conn
    bint noted_response
    bint note_lost                 # no memory for it
    bint judged                    # its endpoint knows how the attempt went
    bint trial                     # the one request that an ejected endpoint gets
    uint16_t status
    worker_t *w
    conn_t *down
    conn_t *up
    wplan_t *wp                    # NULL: a later plan came, and the stream pins what it needs of the old one
    lconf_t *conf
    route_t *route
    cluster_t *cluster
    endpoint_t *endpoint
    endpoint_t *tried[MAX_ATTEMPTS]
    uint32_t series
    uint32_t hops
    uint64_t start_ns
    uint64_t sent_ns
    uint64_t first_ns
    tnode_t timer                  # of the route's timeout
    buf_t *hold                    # request as sent: head, perhaps body
    buf_t *note                    # for the access log: lengths and texts
    uint64_t id_a                  # request id that was made
    uint64_t id_b
    flow_t flow[2]
    stream_t *link                 # dead list; while waiting, the queue

cdef enum msg_type:
    MSG_PLAN = 1
    MSG_LISTEN = 2
    MSG_UNLISTEN = 3
    MSG_DRAIN = 4
    MSG_STOP = 5
    MSG_LEAVE = 6                  # a listener goes on in another process
    MSG_CLOSE_IDLE = 7
    MSG_CLOSE_ALL = 8

cdef struct msg_t:
    msg_t *next
    int type
    wplan_t *wplan                 # taken by the worker, as is the next: it allocates nothing that may fail
    wlistener_t *listener
    int fd
    uint32_t slot
    bint shared
    bint more                      # MSG_LISTEN: beside the worker's first socket of the slot

cdef struct ring_t:                # access records of a worker, to the policy thread
    uint64_t head                  # bytes ever written
    uint64_t next                  # where the record in the making begins
    uint64_t dropped
    uint8_t pad[104]
    uint64_t tail                  # bytes ever read
    int32_t wanted                 # the reader sleeps until it is woken
    uint8_t pad2[116]
    uint8_t data[RING_SIZE]

cdef struct worker_t:
    uint32_t index
    int epfd
    int mail_fd
    int timer_fd                   # workers: 0 alone
    bint in_loop                   # the caller's loop polls epfd
    bint draining
    bint closing_idle              # draining, and the time of idle conns is over
    int drained                    # whoever was queued has been accepted (atomic)
    bint stop
    core_t *core
    wplan_t *plan
    uint64_t generation            # of that plan, for the policy thread to see
    uint64_t now                   # ns, cached
    uint64_t random
    uint8_t mail_tag               # K_MAILBOX: what epoll points to
    uint8_t timer_tag
    uint64_t wheel_tick
    uint64_t wheel_bits[WHEEL_LEVELS]
    tnode_t wheel[WHEEL_LEVELS][64]
    conn_t *conns                  # all of them
    conn_t *sweep                  # the next of them to be looked at for a stream under an old plan
    bint sweep_again               # another plan came meanwhile
    ring_t *ring                   # NULL: no access log yet
    conn_t *ready
    conn_t *ready_last
    conn_t *dead
    stream_t *dead_streams
    conn_t *free_conns
    stream_t *free_streams
    arena_t *blocks
    buf_t *free_bufs[BUF_CLASSES]
    uint32_t n_free_bufs[BUF_CLASSES]
    pipe_t *free_pipes
    uint32_t n_free_pipes
    wlistener_t *listeners[MAX_LISTENERS]
    bint accept_paused
    tnode_t accept_timer
    series_t *series[SERIES_CHUNKS]
    h1_limits_t up_limits          # of response heads
    uint8_t *rx
    uint8_t *tx
    h1_head_t head                 # of the request being read
    h1_head_t rhead                # of the response being read
    uint32_t n_set                 # headers set by a filter for the present request
    char set_names[8][64]
    uint32_t set_lens[8]
    char set_lines[4096]
    uint32_t set_lines_len
    # counters
    uint64_t memory
    uint64_t n_down
    uint64_t n_up
    uint64_t n_pooled
    uint64_t n_streams
    uint64_t n_bufs
    uint64_t n_pipes
    uint64_t loops
    uint64_t accepts
    uint64_t spliced_bytes
    uint64_t errors[E_COUNT]
    char date[40]                  # of the Date field, renewed each second
    uint64_t date_at
    pthread_mutex_t mail_lock
    msg_t stop_msg
    msg_t *mail
    msg_t *mail_last
    pthread_t thread
    bint started

cdef struct core_t:
    int forked                     # children may have copies of the descriptors (atomic)
    uint32_t n_workers
    worker_t **workers
    pthread_mutex_t lock
    uint32_t n_plans               # roots that are not freed yet
    plan_t *retired                # for the policy thread to free
    part_t *retired_parts
    ring_t **rings                 # the workers', which they outlive, so that the last records can be read
    int log_fd                     # wakes who reads them
    uint64_t generation
