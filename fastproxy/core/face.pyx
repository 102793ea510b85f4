# The data plane as Python sees it: one `Core` is one proxy's workers. Nothing here is on a request's way.

import gc as _gc
import os as _os
import weakref as _weakref

ABI = CORE_ABI
_cores = _weakref.WeakSet()
fp_memory_init()


def _after_fork_in_child():
    # Its threads are not there, its sockets are shared with the parent: the child must not touch them.
    for core in list(_cores):
        (<Core>core).forget()


def _before_fork():
    for core in list(_cores):
        fp_flag_store(&(<Core>core).c.forked, 1)


_os.register_at_fork(before=_before_fork, after_in_child=_after_fork_in_child)


cdef class Core


@cython.no_gc_clear
cdef class Part:
    """A compiled part, which roots can share: made by Core.cluster, .table and .listener, and kept alive while this is."""
    cdef part_t *c
    cdef Core core

    def __cinit__(self):
        fp_own(1)

    def __dealloc__(self):
        fp_own(-1)
        if self.c != NULL:
            self.core.drop_part(self.c)


@cython.no_gc                          # in no cycle itself; the collector must not empty what the end needs
cdef class Core:
    """The workers of one proxy. `workers`: threads; 0: the caller polls fileno() and calls turn() when it is readable.

    Not thread-safe: all calls from one thread, which is the event loop's."""
    cdef core_t c
    cdef uint32_t threads
    cdef Registry registry
    cdef object slots
    cdef plan_t *current
    cdef bint closed
    cdef bint started
    cdef bint draining
    cdef object __weakref__

    def __cinit__(self, int workers=1):
        cdef uint32_t i
        fp_own(1)
        if not 0 <= workers <= 256:
            raise ValueError(f"workers: {workers} is not from 0 to 256")
        self.threads = workers
        self.c.n_workers = max(1, workers)
        pthread_mutex_init(&self.c.lock, NULL)
        self.c.log_fd = -1
        self.registry = Registry(self.c.n_workers)
        self.slots = set()
        self.c.workers = <worker_t **>calloc(self.c.n_workers, sizeof(worker_t *))
        self.c.rings = <ring_t **>calloc(self.c.n_workers, sizeof(ring_t *))
        if self.c.workers == NULL or self.c.rings == NULL:
            raise MemoryError
        for i in range(self.c.n_workers):
            self.c.workers[i] = worker_new(&self.c, i, workers == 0)
            if self.c.workers[i] == NULL:
                self.close()
                raise OSError("no memory or no descriptors for a worker")
        _cores.add(self)

    def __dealloc__(self):
        self.end()
        self.close_log()
        fp_own(-1)
        # The Parts are gone, since each holds the core.
        fp_assert(self.registry is None or not (self.registry.known or self.registry.shares))

    def fileno(self):
        """The epoll descriptor of workers=0: readable when turn() is due."""
        self.check()
        return self.c.workers[0].epfd

    def turn(self):
        """Works on all that is ready, without waiting (workers=0)."""
        if not self.closed and self.threads == 0:
            worker_turn_in_loop(self.c.workers[0])

    def start(self):
        """Starts the threads."""
        cdef uint32_t i
        self.check()
        if self.started or self.threads == 0:
            return
        self.started = True
        for i in range(self.c.n_workers):
            if pthread_create(&self.c.workers[i].thread, NULL, worker_main, self.c.workers[i]) != 0:
                raise OSError("no thread for a worker")
            self.c.workers[i].started = True
            pthread_setname_np(self.c.workers[i].thread, f"worker-{i}".encode())

    def add_listener(self, int slot, list fds):
        """Accepts on listening sockets, which the core owns from here on: one for each worker, or more, or one for all."""
        cdef bint shared = len(fds) == 1 and self.c.n_workers > 1
        cdef list copies = []
        self.check()
        if not 0 <= slot < MAX_LISTENERS:
            raise ValueError(f"slot {slot} is not from 0 to {MAX_LISTENERS - 1}")
        if not shared and len(fds) < self.c.n_workers:
            raise ValueError(f"{len(fds)} sockets for {self.c.n_workers} workers")
        try:
            while len(fds) + len(copies) < self.c.n_workers:
                copies.append(_os.dup(fds[0]))
            self.tell(MSG_LISTEN, NULL, fds + copies, slot, shared)
        except BaseException:
            for fd in copies:
                _os.close(fd)
            raise
        self.slots.add(slot)

    def remove_listener(self, int slot):
        """Accepts what is queued, closes the socket, then the idle conns; busy ones after their stream."""
        self.check()
        if slot in self.slots:
            self.slots.discard(slot)
            self.tell(MSG_UNLISTEN, NULL, None, slot, False)

    def leave_listener(self, int slot):
        """Closes the sockets with what is queued: another process has them."""
        self.check()
        if slot in self.slots:
            self.tell(MSG_LEAVE, NULL, None, slot, False)

    def drain(self):
        """Accepts what is queued, then no more. Whoever has a conn is told to close it with the answer to his next request."""
        self.check()
        self.tell(MSG_DRAIN, NULL, None, 0, False)
        self.draining = True

    def close_idle(self):
        """While draining: closes conns without a request, and each other one after its stream."""
        self.check()
        self.tell(MSG_CLOSE_IDLE, NULL, None, 0, False)

    def close_all(self):
        """Ends what still runs; stats() counts it soon after."""
        self.check()
        self.tell(MSG_CLOSE_ALL, NULL, None, 0, False)

    def active(self):
        """{"conns": open downstream conns, "streams": exchanges running, "accepting": workers that are still to take what is queued
        when the drain began}"""
        cdef uint32_t i
        cdef uint64_t conns = 0, streams = 0, accepting = 0
        if not self.closed:
            for i in range(self.c.n_workers):
                accepting += self.draining and not fp_flag_load(&self.c.workers[i].drained)
                conns += fp_load(&self.c.workers[i].n_down)
                streams += fp_load(&self.c.workers[i].n_streams)
        return {"conns": conns, "streams": streams, "accepting": accepting}

    def cluster(self, dict row):
        """Compiles a cluster (compile.cluster_of). ValueError if an address or its balancer cannot be had."""
        cdef Part part = self.part(PART_CLUSTER, sizeof(cluster_t))
        self.build_cluster(<cluster_t *>part.c, row)
        return part

    def table(self, dict row):
        """Compiles the routes of a listener (compile.table_of)."""
        cdef Part part = self.part(PART_TABLE, sizeof(table_t))
        cdef table_t *table = <table_t *>part.c
        cdef list actions = row["actions"]
        cdef void **ways
        cdef uint32_t i
        table.routes = <route_t *>arena_take(part.c, (len(actions) + 1) * sizeof(route_t))
        ways = <void **>arena_take(part.c, (len(actions) + 1) * sizeof(void *))
        for i in range(len(actions)):
            ways[i] = table.routes + i
            self.build_route(part.c, table.routes + i, actions[i])
        table.found = table_build(row, ways)
        return part

    def listener(self, dict row, Part table=None):
        """Compiles a listener (compile.listener_of), with its table for `http`."""
        cdef Part part = self.part(PART_LISTENER, sizeof(lconf_t))
        cdef lconf_t *conf = <lconf_t *>part.c
        self.build_listener(conf, row)
        if table is not None:
            conf.table = <table_t *>table.c
            fp_ref_add(&table.c.refs, 1)
        return part

    def apply(self, list clusters, list listeners):
        """Hands a root to the workers: the Parts of clusters by number (None: not in use), of listeners as (slot, Part).
        MemoryError: nothing has changed."""
        cdef plan_t *plan
        cdef Part part
        cdef uint32_t i, n = <uint32_t>len(clusters)
        self.check()
        self.reap()
        plan = <plan_t *>calloc(1, sizeof(plan_t) + n * sizeof(cluster_t *))
        if plan == NULL:
            raise MemoryError
        plan.n_clusters = n
        try:
            for i in range(n):
                part = clusters[i]
                if part is not None:
                    fp_ref_add(&part.c.refs, 1)
                    plan.clusters[i] = <cluster_t *>part.c
            for slot, part in listeners:
                if not 0 <= slot < MAX_LISTENERS:
                    raise ValueError(f"slot {slot} is not from 0 to {MAX_LISTENERS - 1}")
                fp_ref_add(&part.c.refs, 1)
                plan.listeners[<uint32_t>slot] = <lconf_t *>part.c
            self.find_gone(plan)
            plan.generation = self.c.generation + 1
            plan.refs = <int32_t>self.c.n_workers
            self.tell(MSG_PLAN, plan, None, 0, False)
        except BaseException:
            self.mark_gone(plan, 1)
            self.mark_gone(self.current, 0)
            self.free_plan(plan)
            raise
        self.c.generation += 1
        self.c.n_plans += 1
        self.current = plan

    cdef void mark_gone(self, plan_t *plan, int32_t gone) noexcept:
        """What apply says of the endpoints, for all of a root."""
        cdef uint32_t i, j
        for i in range(plan.n_clusters if plan != NULL else 0):
            for j in range(plan.clusters[i].n if plan.clusters[i] != NULL else 0):
                fp_atomic_store32(&plan.clusters[i].endpoints[j].gone, gone)

    cdef find_gone(self, plan_t *plan):
        """Endpoints that were in the root before and are in this one no more; `gone` says so of each, from here on."""
        cdef plan_t *old = self.current
        cdef cluster_t *was
        cdef cluster_t *now
        cdef uint32_t i, j, n, most = 0
        if old == NULL:
            return
        n = max(old.n_clusters, plan.n_clusters)
        for i in range(old.n_clusters):
            was = old.clusters[i]
            now = plan.clusters[i] if i < plan.n_clusters else NULL
            if was != NULL and was != now:
                for j in range(was.n):
                    fp_atomic_store32(&was.endpoints[j].gone, 1)
                most += was.n
        for i in range(plan.n_clusters):
            now = plan.clusters[i]
            if now != NULL and (i >= old.n_clusters or now != old.clusters[i]):
                for j in range(now.n):
                    fp_atomic_store32(&now.endpoints[j].gone, 0)
        if most == 0:
            return
        plan.gone = <endpoint_t **>calloc(most, sizeof(endpoint_t *))
        if plan.gone == NULL:
            raise MemoryError
        for i in range(old.n_clusters):
            was = old.clusters[i]
            if was != NULL and (i >= plan.n_clusters or was != plan.clusters[i]):
                for j in range(was.n):
                    if fp_atomic_load32(&was.endpoints[j].gone):
                        plan.gone[plan.n_gone] = was.endpoints[j]
                        plan.n_gone += 1

    def mark(self, str cluster, str address, bint is_self, bint is_loop):
        """Whether an endpoint leads back to this proxy (proxy/loops.py)."""
        cdef endpoint_t *ep = <endpoint_t *><size_t>self.registry.known.get((cluster, address), 0)
        if ep != NULL:
            fp_atomic_store32(&ep.is_self, is_self)
            fp_atomic_store32(&ep.is_loop, is_loop)

    cdef Part part(self, part_kind kind, size_t size):
        cdef Part out
        self.check()
        out = Part.__new__(Part)
        out.core = self
        out.c = <part_t *>calloc(1, size)
        if out.c == NULL:
            raise MemoryError
        out.c.refs, out.c.kind = 1, kind
        return out

    cdef void drop_part(self, part_t *part):
        if fp_ref_add(&part.refs, -1) == 0:
            self.free_part(part)

    cdef void free_part(self, part_t *part):
        cdef cluster_t *cluster
        cdef table_t *table
        cdef arena_t *block
        cdef uint32_t i
        if part.kind == PART_CLUSTER:
            cluster = <cluster_t *>part
            if cluster.share != NULL:
                name = cluster.name[:cluster.name_len].decode()
                for i in range(cluster.n):
                    self.registry.drop(name, cluster.endpoints[i].text[:cluster.endpoints[i].text_len].decode(), cluster.endpoints[i])
                self.registry.put_share(name, cluster.share)
        elif part.kind == PART_TABLE:
            table = <table_t *>part
            if table.found != NULL:
                table_free(table.found)
        elif (<lconf_t *>part).table != NULL:
            self.drop_part(&(<lconf_t *>part).table.part)
        while part.arena != NULL:
            block = part.arena
            part.arena = block.next
            free(block)
        free(part)

    cdef void free_plan(self, plan_t *plan):
        """A root that no worker holds, and the parts that nobody else has."""
        cdef uint32_t i
        for i in range(plan.n_clusters):
            if plan.clusters[i] != NULL:
                self.drop_part(&plan.clusters[i].part)
        for i in range(MAX_LISTENERS):
            if plan.listeners[i] != NULL:
                self.drop_part(&plan.listeners[i].part)
        free(plan.gone)
        free(plan)

    def held_plans(self):
        """How many roots there are that some worker still holds, or that are not freed yet."""
        self.check()
        self.reap()
        return self.c.n_plans

    def open_log(self):
        """Gives each worker a ring for access records. -> the descriptor that is readable when there are some after wait_log."""
        cdef uint32_t i
        self.check()
        if self.c.log_fd < 0:
            self.c.log_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)
            if self.c.log_fd < 0:
                raise OSError(errno, "no descriptor for the access log")
        for i in range(self.c.n_workers):
            if self.c.rings[i] == NULL:
                self.c.rings[i] = <ring_t *>calloc(1, sizeof(ring_t))
                if self.c.rings[i] == NULL:
                    raise MemoryError
                fp_ptr_store(<void **>&self.c.workers[i].ring, self.c.rings[i])
        return self.c.log_fd

    def read_log(self, list formats, list names, uint64_t wall_ns, uint64_t most=RING_SIZE):
        """Formats what the workers have logged: LogFormat (or None) by id, (listener, route, cluster) as bytes by series.
        `wall_ns` is added to the monotonic clock. -> the number of records; at most about `most` bytes of each worker."""
        cdef uint32_t i
        cdef uint64_t n = 0
        for i in range(self.c.n_workers if self.c.rings != NULL else 0):
            if self.c.rings[i] != NULL:
                n += ring_read(self.c.rings[i], formats, names, wall_ns, most)
        return n

    def close_log(self):
        """After the core has closed, and what was logged is read."""
        cdef uint32_t i
        for i in range(self.c.n_workers if self.c.rings != NULL else 0):
            free(self.c.rings[i])
        free(self.c.rings)
        self.c.rings = NULL
        if self.c.log_fd >= 0:
            close(self.c.log_fd)
        self.c.log_fd = -1

    def wait_log(self):
        """Asks to be woken at the next record. False: there are some already."""
        cdef uint32_t i
        cdef ring_t *ring
        cdef bint empty = True
        for i in range(self.c.n_workers):
            ring = self.c.rings[i]
            if ring != NULL:
                fp_store_ordered32(&ring.wanted, 1)
                if fp_load_acquire(&ring.head) != ring.tail:
                    empty = False
        return empty

    def settled(self):
        """Whether every worker runs what was last applied: until then a request may still meet the plan before."""
        cdef uint32_t i
        self.check()
        for i in range(self.c.n_workers):
            if fp_load(&self.c.workers[i].generation) != self.c.generation:
                return False
        return True

    cdef tell(self, int type, plan_t *plan, fds, uint32_t slot, bint shared):
        """One message to each worker: to all of them, or, without memory, to none. With more descriptors than workers, some get more."""
        cdef msg_t *first = NULL
        cdef msg_t *msg
        cdef uint32_t i, n = <uint32_t>len(fds) if fds is not None else self.c.n_workers
        for i in range(n):
            msg = <msg_t *>calloc(1, sizeof(msg_t))
            if msg != NULL:
                msg.next = first
                first = msg
                if type == MSG_PLAN:
                    msg.wplan = <wplan_t *>calloc(1, sizeof(wplan_t))
                elif type == MSG_LISTEN:
                    msg.listener = <wlistener_t *>calloc(1, sizeof(wlistener_t))
            if msg == NULL or (type == MSG_PLAN and msg.wplan == NULL) or (type == MSG_LISTEN and msg.listener == NULL):
                while first != NULL:
                    msg = first
                    first = msg.next
                    free(msg.wplan)
                    free(msg.listener)
                    free(msg)
                raise MemoryError
            if type == MSG_PLAN:
                msg.wplan.plan = plan
        for i in range(n):
            msg = first
            first = msg.next
            msg.next = NULL
            msg.type, msg.slot, msg.shared = type, slot, shared
            msg.fd = fds[i] if fds is not None else -1
            msg.more = i >= self.c.n_workers
            post(self.c.workers[i % self.c.n_workers], msg)

    cdef build_cluster(self, cluster_t *cluster, dict row):
        cdef part_t *part = &cluster.part
        cdef list rows = row["endpoints"], order
        cdef uint32_t j
        cdef text_t text = text_in(part, row["name"].encode())
        cluster.name, cluster.name_len = text.at, text.len
        cluster.share = self.registry.take_share(row["name"])
        cluster.connect_timeout_ns, cluster.idle_ns = row["connect_timeout_ns"], row["idle_ns"]
        self.set_balancer(cluster, row)
        self.set_protection(cluster, row)
        if row["fallback"] is not None:
            cluster.fallback = row["fallback"] + 1
        if not rows:
            return
        cluster.endpoints = <endpoint_t **>arena_take(part, len(rows) * sizeof(endpoint_t *))
        cluster.weights = <uint32_t *>arena_take(part, len(rows) * sizeof(uint32_t))
        for end in rows:
            cluster.endpoints[cluster.n] = self.registry.get(row["name"], end["address"])
            cluster.weights[cluster.n] = end["weight"]
            cluster.n += 1
        order = smooth_order([end["weight"] for end in rows])
        cluster.schedule = <uint32_t *>arena_take(part, len(order) * sizeof(uint32_t))
        cluster.schedule_len = <uint32_t>len(order)
        for j in range(cluster.schedule_len):
            cluster.schedule[j] = order[j]

    cdef build_listener(self, lconf_t *conf, dict row):
        cdef part_t *part = &conf.part
        cdef list names = row["filters"]
        conf.name = text_in(part, row["name"].encode()).at
        conf.slot, conf.http, conf.series = row["slot"], row["protocol"] == "http", row["series"]
        conf.head_timeout_ns, conf.stream_idle_ns, conf.idle_ns = row["head_timeout_ns"], row["stream_idle_ns"], row["idle_ns"]
        conf.body_bytes = row["body_bytes"]
        conf.limits.head_bytes, conf.limits.line_bytes, conf.limits.fields = row["head_bytes"], row["line_bytes"], row["fields"]
        if conf.limits.head_bytes > 65536 or conf.limits.fields > H1_MAX_FIELDS:
            raise ValueError(f"listener {row['name']}: head_bytes over 64 KiB, or fields over {H1_MAX_FIELDS}")
        conf.x_forwarded, conf.request_id = row["x_forwarded"], row["request_id"]
        conf.via = text_in(part, row["via"])
        if row["log"] is not None:
            conf.log = <log_t *>arena_take(part, sizeof(log_t))
            conf.log.id = row["log"]["id"]
            conf.log.request = self.build_fields(part, row["log"]["request"])
            conf.log.response = self.build_fields(part, row["log"]["response"])
            conf.log.n_request, conf.log.n_response = <uint32_t>len(row["log"]["request"]), <uint32_t>len(row["log"]["response"])
        if row["cluster"] is not None:
            conf.cluster = row["cluster"]
        set_series(conf.fallback_series, row["fallback_series"])
        conf.filters = <filter_ops_t *>arena_take(part, (len(names) + 1) * sizeof(filter_ops_t))
        for name in names:
            if name not in FILTERS:
                raise ValueError(f"listener {row['name']}: no filter `{name}` is registered")
            on_request, state = FILTERS[name]
            conf.filters[conf.n_filters].on_request = <int (*)(void *, filter_call_t *) noexcept nogil><size_t>on_request
            conf.filters[conf.n_filters].state = <void *><size_t>state
            conf.n_filters += 1

    cdef log_field_t *build_fields(self, part_t *part, list names) except NULL:
        cdef log_field_t *out = <log_field_t *>arena_take(part, (len(names) + 1) * sizeof(log_field_t))
        cdef text_t text
        cdef uint32_t i
        if len(names) > LOG_FIELDS:
            raise ValueError(f"an access log has at most {LOG_FIELDS} fields of a head")
        for i in range(len(names)):
            text = text_in(part, names[i].lower())
            out[i].name, out[i].len = text.at, text.len
            out[i].hid = <uint8_t>h1_name(<const uint8_t *>text.at, text.len)
            if out[i].hid >= HID_LAST:
                out[i].hid = HID_OTHER
        return out

    cdef set_balancer(self, cluster_t *cluster, dict row):
        name = row["balance"]
        cluster.uses_ewma = name == "ewma"
        if name == "ewma":
            cluster.pick = pick_ewma
        elif name == "least_request":
            cluster.pick = pick_least_request
        elif name == "round_robin":
            cluster.pick = pick_round_robin
        elif name == "random":
            cluster.pick = pick_random
        elif name in BALANCERS:
            cluster.pick = <uint32_t (*)(balance_call_t *) noexcept nogil><size_t>BALANCERS[name]
        else:
            raise ValueError(f"cluster {row['name']}: no balancer `{name}` is registered")

    cdef set_protection(self, cluster_t *cluster, dict row):
        cluster.max_connections, cluster.max_pending, cluster.max_requests = row["limits"]
        cluster.any_retry = row["retry_budget"] is None
        if not cluster.any_retry:
            cluster.budget_percent, per_second = row["retry_budget"]
            cluster.budget_min = per_second * BUDGET_SLOTS
        if row["outlier"] is not None:
            cluster.out_after, cluster.out_base_ns, cluster.out_max_ns, cluster.out_percent = row["outlier"]

    cdef build_route(self, part_t *part, route_t *route, dict row):
        cdef uint32_t i
        route.timeout_ns, route.series = row["timeout_ns"], row["series"]
        route.request = edits_in(part, row["request_headers"])
        route.response = edits_in(part, row["response_headers"])
        if row["action"] == "forward":
            route.targets = <target_t *>arena_take(part, (len(row["targets"]) + 1) * sizeof(target_t))
            for cluster, weight, series, after in row["targets"]:
                route.targets[route.n_targets].cluster = cluster
                route.targets[route.n_targets].weight = weight
                route.targets[route.n_targets].series = series
                set_series(route.targets[route.n_targets].fallback_series, after)
                route.total_weight += weight
                route.n_targets += 1
            if route.n_targets == 0 or route.total_weight == 0:
                raise ValueError(f"route {row['name']}: no target with a weight")
            names = row["upgrades"]
            route.upgrades = <text_t *>arena_take(part, (len(names) + 1) * sizeof(text_t))
            for i in range(len(names)):
                route.upgrades[i] = text_in(part, names[i].lower())
            route.n_upgrades = <uint32_t>len(names)
            route.rewrite_path = text_in(part, row["rewrite_path"])
            route.rewrite_host = text_in(part, row["rewrite_host"])
            prefix = row["rewrite_prefix"]
        elif row["action"] == "redirect":
            route.action = ROUTE_REDIRECT
            to = row["redirect"]
            route.status = to["status"]
            route.scheme, route.host = text_in(part, to["scheme"]), text_in(part, to["host"])
            if to["port"] is not None:
                standard = {"http": 80, "https": 443}.get(to["scheme"] or "http")
                route.port = text_in(part, "" if to["port"] == standard else f":{to['port']}")
            route.rewrite_path = text_in(part, to["path"])
            prefix = to["prefix"]
        else:
            route.action = ROUTE_DIRECT
            to = row["direct"]
            route.status, route.body = to["status"], text_in(part, to["body"])
            route.headers = text_in(part, "".join(f"{name}: {value}\r\n" for name, value in to["headers"])
                                    + "".join(f"{name}: {value}\r\n" for what, name, value in row["response_headers"] if what != "remove"))
            prefix = None
        if prefix is not None:
            route.rewrite_from, route.rewrite_to = text_in(part, prefix[0] or "/"), text_in(part, prefix[1])

    def stats(self):
        """Counters since the start, summed over the workers. See docs/configuration.md for the metrics made of them."""
        cdef worker_t *w
        cdef wlistener_t *wl
        cdef uint32_t i, j
        self.check()
        self.reap()
        out = {"workers": [], "listeners": {}, "series": {}, "clusters": {}, "errors": {}}
        for i in range(self.c.n_workers):
            w = self.c.workers[i]
            out["workers"].append({
                "conns": fp_load(&w.n_down), "upstream_conns": fp_load(&w.n_up), "pool_idle": fp_load(&w.n_pooled),
                "streams": fp_load(&w.n_streams), "loops": fp_load(&w.loops), "accepts": fp_load(&w.accepts),
                "memory_bytes": fp_load(&w.memory), "buffers": fp_load(&w.n_bufs), "pipes": fp_load(&w.n_pipes),
                "spliced_bytes": fp_load(&w.spliced_bytes),
                "log_dropped": fp_load(&self.c.rings[i].dropped) if self.c.rings[i] != NULL else 0})
            for slot in self.slots:
                wl = <wlistener_t *>fp_ptr_load(<void **>&w.listeners[<uint32_t>slot])
                one = out["listeners"].setdefault(slot, {"accepted": 0, "active": 0, "received_bytes": 0, "sent_bytes": 0, "closed": 0})
                if wl != NULL:
                    one["accepted"] += fp_load(&wl.accepted)
                    one["closed"] += fp_load(&wl.closed)
                    one["active"] += fp_load32(&wl.active)
                    one["received_bytes"] += fp_load(&wl.received_bytes)
                    one["sent_bytes"] += fp_load(&wl.sent_bytes)
            for j in range(1, E_COUNT):
                if fp_load(&w.errors[j]):
                    name = error_name(j).decode()
                    out["errors"][name] = out["errors"].get(name, 0) + fp_load(&w.errors[j])
            self.add_series(w, out["series"])
        self.add_clusters(out["clusters"])
        return out

    cdef add_series(self, worker_t *w, dict into):
        cdef uint32_t i, j, k
        cdef series_t *one
        for i in range(SERIES_CHUNKS):
            one = <series_t *>fp_ptr_load(<void **>&w.series[i])
            if one == NULL:
                continue
            for j in range(SERIES_CHUNK):
                if not fp_load(&one[j].used) and not fp_load(&one[j].connections):
                    continue
                row = into.setdefault(i * SERIES_CHUNK + j, {
                    "status": [0] * 5, "requests": 0, "request_bytes": 0, "response_bytes": 0, "connections": 0,
                    "duration": new_histogram(), "first_byte": new_histogram()})
                for k in range(5):
                    row["status"][k] += fp_load(&one[j].status[k + 1])
                for k in range(6):
                    row["requests"] += fp_load(&one[j].status[k])
                row["request_bytes"] += fp_load(&one[j].request_bytes)
                row["response_bytes"] += fp_load(&one[j].response_bytes)
                row["connections"] += fp_load(&one[j].connections)
                add_histogram(row["duration"], &one[j].duration)
                add_histogram(row["first_byte"], &one[j].first_byte)

    cdef add_clusters(self, dict into):
        cdef endpoint_t *ep
        cdef epool_t *pool
        cdef hist_t *connects
        cdef uint32_t i, k, code
        cdef uint64_t until, seen, failed, now = fp_clock_ns()
        cdef cluster_t *cluster
        if self.current == NULL:
            return
        for k in range(self.current.n_clusters):
            cluster = self.current.clusters[k]
            if cluster == NULL:
                continue
            row = into[cluster.name[:cluster.name_len].decode()] = {
                "endpoints": [], "connect": new_histogram(), "requests": 0, "received_bytes": 0, "sent_bytes": 0,
                "retries": 0, "retries_refused": 0, "ejections": 0,
                "limits": {"connections": cluster.max_connections, "pending": cluster.max_pending, "requests": cluster.max_requests},
                "used": {"connections": fp_atomic_load32(&cluster.share.connections), "pending": fp_atomic_load32(&cluster.share.pending),
                         "requests": fp_atomic_load32(&cluster.share.requests)}}
            for i in range(self.c.n_workers):
                row["retries"] += fp_load(&cluster.share.works[i].retried)
                row["retries_refused"] += fp_load(&cluster.share.works[i].refused)
                row["ejections"] += fp_load(&cluster.share.works[i].ejections)
            for i in range(cluster.n):
                ep = cluster.endpoints[i]
                until = fp_load(&ep.out_until) if cluster.out_after else 0
                seen = fp_load(&ep.shared.ewma_at_ns) if cluster.uses_ewma else 0
                failed = fp_load(&ep.last_failure_ns)
                code = fp_load32(&ep.last_failure)
                one = {"address": ep.text[:ep.text_len].decode(), "weight": cluster.weights[i],
                       "in_flight": fp_atomic_load32(&ep.shared.in_flight), "ejected": until != 0, "requests": 0,
                       "connects": 0, "connect_failures": 0, "pool_idle": 0, "conns": 0, "received_bytes": 0, "sent_bytes": 0,
                       # Times from now on, or since then: the clock is the workers' own.
                       "ejected_for_ns": (until - now if until > now else 0) if until else None, "ejections": fp_load32(&ep.n_outs),
                       "failures": fp_atomic_load32(&ep.failures), "ewma_us": ewma_now(&ep.shared, now) if seen else None,
                       "last_failure": None if failed == 0 else error_name(code).decode() if code < E_COUNT else str(code),
                       "last_failure_ns": (now - failed if now > failed else 0) if failed else None,
                       "is_self": fp_atomic_load32(&ep.is_self) != 0, "is_loop": fp_atomic_load32(&ep.is_loop) != 0,
                       "connect_errors": [], "connected": 0}
                for j in range(ep.n_pools):
                    pool = &ep.pools[<uint32_t>j]
                    one["requests"] += fp_load(&pool.requests)
                    one["connects"] += fp_load(&pool.connects)
                    one["connect_failures"] += fp_load(&pool.connect_failures)
                    one["pool_idle"] += fp_load32(&pool.n_idle)
                    one["conns"] += fp_load32(&pool.n_conns)
                    one["received_bytes"] += fp_load(&pool.received_bytes)
                    one["sent_bytes"] += fp_load(&pool.sent_bytes)
                    connects = <hist_t *>fp_ptr_load(<void **>&pool.connect)
                    if connects != NULL:
                        add_histogram(row["connect"], connects)
                    # How the last connect of each worker went.
                    code = fp_load8(&pool.last_error)
                    if code:
                        one["connect_errors"].append(error_name(code).decode())
                    elif connects != NULL:
                        one["connected"] += 1
                row["endpoints"].append(one)
                for name in ("requests", "received_bytes", "sent_bytes"):
                    row[name] += one[name]

    cdef reap(self):
        """Frees the roots and parts that workers have let go of."""
        cdef plan_t *plan
        cdef plan_t *next
        cdef part_t *part
        cdef part_t *other
        pthread_mutex_lock(&self.c.lock)
        plan, part = self.c.retired, self.c.retired_parts
        self.c.retired, self.c.retired_parts = NULL, NULL
        pthread_mutex_unlock(&self.c.lock)
        while plan != NULL:
            next = plan.next
            self.free_plan(plan)
            self.c.n_plans -= 1
            plan = next
        while part != NULL:
            other = part.next
            self.free_part(part)
            part = other

    cdef check(self):
        if self.closed:
            raise RuntimeError("the core is closed")

    def close(self):
        """Stops and joins the threads, closes every conn. Harmless if repeated."""
        self.end()

    cdef void forget(self):
        self.closed = True
        self.c.workers = NULL

    cdef void end(self):
        cdef uint32_t i
        if self.closed:
            return
        self.closed = True
        if self.c.workers == NULL:
            return
        for i in range(self.c.n_workers):
            if self.c.workers[i] != NULL and self.c.workers[i].started:
                # In the worker itself, so that it is there without memory, too.
                self.c.workers[i].stop_msg.type = MSG_STOP
                post(self.c.workers[i], &self.c.workers[i].stop_msg)
        for i in range(self.c.n_workers):
            if self.c.workers[i] != NULL and self.c.workers[i].started:
                with nogil:
                    pthread_join(self.c.workers[i].thread, NULL)
        for i in range(self.c.n_workers):
            if self.c.workers[i] != NULL:
                worker_free(self.c.workers[i])
        self.reap()
        if self.c.log_fd < 0:
            self.close_log()
        free(self.c.workers)
        self.c.workers = NULL
        pthread_mutex_destroy(&self.c.lock)


cdef int set_series(uint32_t *into, list numbers) except -1:
    cdef uint32_t i
    if len(numbers) > MAX_FALLBACKS:
        raise ValueError(f"more than {MAX_FALLBACKS} fallbacks in a row")
    for i in range(len(numbers)):
        into[i] = numbers[i]
    return 0


cdef dict new_histogram():
    return {"count": 0, "sum_ns": 0, "buckets": []}


def bucket_bound(int i):
    """Upper bound of a histogram's bucket in ns."""
    if i == 0:
        return 1024
    i -= 1
    return (9 + i % 8) * (1024 << (i // 8)) // 8


cdef void add_histogram(dict into, hist_t *h):
    cdef int i
    cdef uint64_t n
    cdef dict found = dict(into["buckets"])
    into["count"] += fp_load(&h.count)
    into["sum_ns"] += fp_load(&h.sum_ns)
    for i in range(HIST_BUCKETS):
        n = fp_load(&h.buckets[i])
        if n:
            bound = bucket_bound(i)
            found[bound] = found.get(bound, 0) + n
    into["buckets"] = sorted(found.items())


def _close_all():
    for core in list(_cores):
        core.close()
    _gc.collect()
    fp_balance()


import atexit as _atexit
_atexit.register(_close_all)
