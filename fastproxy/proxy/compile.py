"""Model -> what the core takes: a pure function. The same model and slots always give the same description."""

from fastproxy.model.load import without_gc

SERIES_CAP = 20_000             # label triples with counters of their own; what comes later counts as "other", series 0
OTHER = ("other", "other", "other")
NO_CLUSTER = ""                 # the label of what the proxy answers itself


class Slots:
    """Numbers for (listener, route, cluster) and for access logs, kept over reloads: a number is never used again, so
    counters never mix."""

    def __init__(self, cap=SERIES_CAP):
        self.cap, self.numbers, self.names = cap, {}, [OTHER]
        self.logs = []          # (path, format) of each access log so far
        self.refused = set()    # triples over the cap, as far as they were counted

    def series(self, listener, route, cluster):
        """Its number; 0 once the cap is reached."""
        key = listener, route, cluster
        number = self.numbers.get(key)
        if number is None:
            if len(self.names) > self.cap:
                if len(self.refused) < self.cap:
                    self.refused.add(key)
                return 0
            number = self.numbers[key] = len(self.names)
            self.names.append(key)
        return number

    def log(self, one):
        """What the core is told of an access log. Its number is that of (path, format) in `logs`."""
        key = one.path, one.format
        if key not in self.logs:
            self.logs.append(key)
        return {"id": self.logs.index(key), "request": one.format.request, "response": one.format.response}

    def labels(self, number):
        """(listener, route, cluster) of a number."""
        return self.names[number]

    @property
    def count(self):
        """How many numbers are given out. (Not `__len__`: an empty one must not be false.)"""
        return len(self.names) - 1


@without_gc()
def compile(model, slots):
    """-> {"clusters": [...], "listeners": [...]}: the description of every part, a listener's `table` within it.

    A cluster's number is its place in the file; who keeps parts over reloads numbers them himself."""
    numbers, after = {one.name: i for i, one in enumerate(model.clusters)}, fallbacks_of(model.clusters)
    listeners = []
    for place, one in enumerate(model.listeners):
        row = listener_of(one, place, numbers, slots, after)
        row["table"] = table_of(one, numbers, slots, after) if one.protocol == "http" else None
        listeners.append(row)
    return {"clusters": [cluster_of(one, numbers) for one in model.clusters], "listeners": listeners}


def fallbacks_of(clusters):
    """{cluster: the names of those that stand in for it, one after the other}, where there are any."""
    after, out = {one.name: one.fallback for one in clusters if one.fallback is not None}, {}
    for name in after:
        chain, at = [], name
        while at in after:
            at = after[at]
            chain.append(at)
        out[name] = tuple(chain)
    return out


def listener_of(one, slot, numbers, slots, after):
    """A listener as Core.listener takes it. `slot`: its place in the core; `numbers`: cluster name -> number; `after`: fallbacks_of."""
    http = one.protocol == "http"
    return {
        "slot": slot, "name": one.name, "protocol": one.protocol,
        "head_timeout_ns": ns(one.timeouts.head), "stream_idle_ns": ns(one.timeouts.stream_idle), "idle_ns": ns(one.timeouts.idle),
        "head_bytes": one.limits.head_bytes, "line_bytes": one.limits.head_bytes, "fields": one.limits.fields,
        "body_bytes": one.limits.body_bytes, "cluster": None if http else numbers[one.cluster],
        # Of http: what goes wrong before a route is known.
        "series": slots.series(one.name, NO_CLUSTER, NO_CLUSTER if http else one.cluster),
        "fallback_series": [slots.series(one.name, NO_CLUSTER, name) for name in after.get(one.cluster, ())],
        "x_forwarded": one.x_forwarded, "request_id": one.request_id, "via": one.via, "filters": list(one.filters),
        "log": slots.log(one.access_log) if one.access_log else None,
    }


def ns(seconds):
    return round(seconds * 1e9)


def cluster_of(one, numbers):
    """A cluster as Core.cluster takes it."""
    return {"name": one.name, "balance": one.balance,
            "connect_timeout_ns": ns(one.connect_timeout), "idle_ns": ns(one.idle_timeout),
            "limits": (one.limits.connections, one.limits.pending, one.limits.requests),
            "retry_budget": (one.retry_budget.percent, one.retry_budget.min_per_second) if one.retry_budget else None,
            "outlier": (one.outlier.consecutive_failures, ns(one.outlier.base_ejection_time), ns(one.outlier.max_ejection_time),
                        one.outlier.max_ejection_percent) if one.outlier else None,
            "fallback": None if one.fallback is None else numbers[one.fallback],
            "endpoints": [{"address": end.address, "weight": end.weight} for end in one.endpoints]}


def table_of(listener, numbers, slots, after):
    """The routes of a listener as Core.table takes them: what is matched, and in `actions` what becomes of a request; a
    route's `index` points there."""
    actions = []

    def rows(group):
        out = []
        for one in group:
            out.append(predicates(one.match, len(actions)))
            actions.append(action_of(one, listener.name, numbers, slots, after))
        return out

    if listener.virtual_hosts is not None:
        groups = [{"hosts": list(group.hosts), "routes": rows(group.routes)} for group in listener.virtual_hosts]
        return {"mode": "virtual_hosts", "virtual_hosts": groups, "routes": [], "actions": actions}
    return {"mode": "ordered", "virtual_hosts": [], "routes": rows(listener.routes), "actions": actions}


def predicates(match, index):
    host, path = match.host, match.path
    if host == "*":
        host = None
    elif host is not None and type(host) is not str:
        host = host.value if host.kind == "exact" and not host.invert else matcher(host)
    row = {"host": host, "path": None, "methods": list(match.methods) if match.methods else None,
           "headers": [(name, matcher(one)) for name, one in match.headers.items()],
           "query": [(name, matcher(one)) for name, one in match.query.items()], "index": index}
    if match.path_prefix is not None:
        row["path"] = ("segment", match.path_prefix)
    elif path is not None:
        row["path"] = (path.kind, path.value)
        if path.invert:
            row["path_invert"] = True
    return row


def matcher(one):
    return {"kind": one.kind, "value": one.value, "invert": one.invert}


def action_of(one, listener, numbers, slots, after):
    prefix, rewrite = one.match.path_prefix, one.rewrite
    prefix = prefix and (prefix.rstrip("/") or "/")
    targets = [(numbers[to.cluster], to.weight, slots.series(listener, one.name, to.cluster),
                [slots.series(listener, one.name, name) for name in after.get(to.cluster, ())]) for to in one.split]
    row = {
        "name": one.name, "action": "forward", "timeout_ns": ns(one.timeout), "upgrades": list(one.upgrades),
        "targets": targets,
        # What fails before a target is chosen; with only one there is nothing to choose.
        "series": targets[0][2] if len(targets) == 1 else slots.series(listener, one.name, NO_CLUSTER),
        "rewrite_path": rewrite.path if rewrite else None, "rewrite_host": rewrite.host if rewrite else None,
        "rewrite_prefix": (prefix, rewrite.path_prefix) if rewrite and rewrite.path_prefix is not None else None,
        "request_headers": edits(one.request_headers), "response_headers": edits(one.response_headers),
        "redirect": None, "direct": None,
    }
    if one.redirect is not None:
        to = one.redirect
        row["action"] = "redirect"
        row["redirect"] = {"status": to.status, "scheme": to.scheme, "host": to.host, "port": to.port, "path": to.path,
                           "prefix": (prefix, to.path_prefix) if to.path_prefix is not None else None}
    elif one.direct_response is not None:
        answer = one.direct_response
        headers = list(answer.headers.items())
        if answer.body and not any(name.lower() == "content-type" for name, _ in headers):
            headers.append(("content-type", "text/plain; charset=utf-8"))
        row["action"] = "direct"
        row["direct"] = {"status": answer.status, "body": answer.body.encode(), "headers": headers}
    return row


def edits(one):
    """In the order they are applied."""
    if one is None:
        return []
    return ([("remove", name, "") for name in one.remove] + [("set", name, value) for name, value in one.set.items()]
            + [("add", name, value) for name, values in one.add.items() for value in values])
