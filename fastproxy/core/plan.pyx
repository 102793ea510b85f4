# The compiled snapshot: a root over parts (clusters, tables of routes, listeners), each built on the policy thread from its
# description by proxy/compile.py, read by all workers, and kept by the next root where it is still the same.

cdef dict FILTERS = {}                 # name -> (address of on_request, of its state)
cdef dict BALANCERS = {}               # name -> address of pick
cdef tuple BUILT_IN = ("ewma", "least_request", "round_robin", "random")


cdef int check_abi(int abi) except -1:
    """ImportError if the extension that passes its CORE_ABI was built against other layouts than this core's."""
    if abi != CORE_ABI:
        raise ImportError(f"the extension was built for ABI {abi} of fastproxy._core, and this one has {CORE_ABI}: build it again")
    return 0


cdef int register_filter(str name, const filter_ops_t *ops, int abi) except -1:
    """Makes a filter of another extension known under a name, for `filters` of a listener. Checks the ABI, too."""
    check_abi(abi)
    FILTERS[name] = (<size_t>ops.on_request, <size_t>ops.state)
    return 0


cdef int register_balancer(str name, const balancer_ops_t *ops, int abi) except -1:
    """The same for a balancer, for `balance: {name: NAME}` of a cluster."""
    check_abi(abi)
    if name in BUILT_IN:
        raise ValueError(f"balancer {name}: the core has one of that name")
    BALANCERS[name] = <size_t>ops.pick
    return 0


def registered():
    """Names of what extensions have registered so far: (filters, balancers)."""
    return set(FILTERS), set(BALANCERS)


cdef void *arena_take(part_t *part, size_t size) except NULL:
    cdef arena_t *block = <arena_t *>calloc(1, 16 + size)
    if block == NULL:
        raise MemoryError
    block.next = part.arena
    part.arena = block
    return <uint8_t *>block + 16


cdef text_t text_in(part_t *part, value) except *:
    cdef text_t out
    cdef bytes data
    out.at, out.len = NULL, 0
    if value is None:
        return out
    data = value if isinstance(value, bytes) else value.encode("latin-1")
    out.at = <char *>arena_take(part, len(data) + 1)
    memcpy(<char *>out.at, <const char *>data, len(data))
    out.len = <uint32_t>len(data)
    return out


cdef edits_t edits_in(part_t *part, list rows) except *:
    cdef edits_t out
    cdef text_t text
    cdef list drop = [name.lower() for what, name, _ in rows if what != "add"]
    cdef uint32_t i
    memset(&out, 0, sizeof(out))
    if drop:
        out.drop = <const char **>arena_take(part, len(drop) * sizeof(char *))
        out.drop_len = <uint32_t *>arena_take(part, len(drop) * sizeof(uint32_t))
        for i in range(len(drop)):
            text = text_in(part, drop[i])
            out.drop[i], out.drop_len[i] = text.at, text.len
        out.n_drop = <uint32_t>len(drop)
    text = text_in(part, "".join(f"{name}: {value}\r\n" for what, name, value in rows if what != "remove"))
    out.add, out.add_len = text.at, text.len
    return out


cdef list smooth_order(list weights):
    """Indexes in smooth weighted order (nginx's), one round, at most 65,536 long."""
    from math import gcd
    cdef list out = [], now = [0] * len(weights)
    cdef long total, i, best
    divisor = gcd(*weights) or 1
    weights = [w // divisor for w in weights]
    total = sum(weights)
    if total > 65536:
        weights = [max(1, w * 65536 // total) for w in weights]
        total = sum(weights)
    if all(w == 1 for w in weights):
        return list(range(len(weights)))
    for _ in range(total):
        best = 0
        for i in range(len(weights)):
            now[i] += weights[i]
            if now[i] > now[best]:
                best = i
        now[best] -= total
        out.append(best)
    return out


@cython.no_gc
cdef class Registry:
    """Endpoints by (cluster, address), and what clusters share: they outlive plans. Used by the policy thread alone."""
    cdef uint32_t n_workers
    cdef dict known                    # (cluster, address) -> address of endpoint_t
    cdef dict shares                   # cluster -> address of cshare_t

    def __cinit__(self, uint32_t n_workers):
        self.n_workers = n_workers
        self.known, self.shares = {}, {}

    cdef cshare_t *take_share(self, str cluster) except NULL:
        """Counts one reference."""
        cdef size_t at = self.shares.get(cluster, 0)
        cdef cshare_t *share = <cshare_t *>at
        if share == NULL:
            share = <cshare_t *>calloc(1, sizeof(cshare_t) + self.n_workers * sizeof(cwork_t))
            if share == NULL:
                raise MemoryError
            self.shares[cluster] = <size_t>share
        share.refs += 1
        return share

    cdef void put_share(self, str cluster, cshare_t *share):
        share.refs -= 1
        if share.refs == 0:
            del self.shares[cluster]
            free(share)

    cdef endpoint_t *get(self, str cluster, str address) except NULL:
        """Counts one reference."""
        cdef endpoint_t *ep
        cdef bytes text = address.encode()
        cdef sockaddr_in *v4
        cdef sockaddr_in6 *v6
        cdef sockaddr_un *un
        cdef size_t at = self.known.get((cluster, address), 0)
        if at:
            ep = <endpoint_t *>at
            ep.refs += 1
            return ep
        ep = <endpoint_t *>calloc(1, sizeof(endpoint_t) + self.n_workers * sizeof(epool_t))
        if ep == NULL:
            raise MemoryError
        ep.refs, ep.n_pools = 1, self.n_workers
        ep.text_len = <uint32_t>min(len(text), 127)
        memcpy(ep.text, <const char *>text, ep.text_len)
        try:
            if address.startswith("unix:"):
                un = <sockaddr_un *>&ep.addr
                path = text[5:]
                if not 0 < len(path) < sizeof(un.sun_path):
                    raise ValueError(f"cluster {cluster}: {address}: the path is empty or too long")
                un.sun_family = AF_UNIX
                memcpy(un.sun_path, <const char *>path, len(path))
                if path[:1] == b"@":
                    un.sun_path[0] = 0
                ep.family, ep.addr_len = AF_UNIX, <socklen_t>(2 + len(path) + (0 if path[:1] == b"@" else 1))
            elif address.startswith("["):
                ip, port = address[1:].rsplit("]:", 1)
                v6 = <sockaddr_in6 *>&ep.addr
                v6.sin6_family, v6.sin6_port = AF_INET6, htons(int(port))
                ip, _, zone = ip.partition("%")
                if zone:
                    import socket as sockets
                    v6.sin6_scope_id = sockets.if_nametoindex(zone)
                if inet_pton(AF_INET6, ip.encode(), &v6.sin6_addr) != 1:
                    raise ValueError(f"cluster {cluster}: {address}: not an IP address")
                ep.family, ep.addr_len = AF_INET6, sizeof(sockaddr_in6)
            else:
                ip, port = address.rsplit(":", 1)
                v4 = <sockaddr_in *>&ep.addr
                v4.sin_family, v4.sin_port = AF_INET, htons(int(port))
                if inet_pton(AF_INET, ip.encode(), &v4.sin_addr) != 1:
                    raise ValueError(f"cluster {cluster}: {address}: not an IP address")
                ep.family, ep.addr_len = AF_INET, sizeof(sockaddr_in)
            ep.share = self.take_share(cluster)
        except BaseException:
            free(ep)
            raise
        self.known[(cluster, address)] = <size_t>ep
        return ep

    cdef void drop(self, str cluster, str address, endpoint_t *ep):
        cdef uint32_t i
        ep.refs -= 1
        if ep.refs == 0:
            del self.known[(cluster, address)]
            for i in range(ep.n_pools):
                free(ep.pools[i].connect)
            if ep.out_until:
                fp_atomic_add32(&ep.share.n_out, -1)
            self.put_share(cluster, ep.share)
            free(ep)
