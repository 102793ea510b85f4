"""A proxy as the admin and metrics code sees it, without a core: counters by hand."""

from fastproxy.model import load_dict


def histogram(*pairs):
    """Of (upper bound in ns, count): every sample counts as its bound."""
    return {"count": sum(n for _, n in pairs), "sum_ns": sum(ns * n for ns, n in pairs), "buckets": list(pairs)}


def series(status=(0, 993, 0, 0, 7), connections=0):
    n = sum(status)
    return {"status": list(status), "requests": n, "request_bytes": 10 * n, "response_bytes": 20 * n, "connections": connections,
            "duration": histogram((131072, n - 1), (2**21, 1)) if n else histogram(), "first_byte": histogram((65536, n)) if n else histogram()}


def endpoint(address="127.0.0.1:9080"):
    return {"address": address, "weight": 1, "in_flight": 1, "requests": 1000, "connects": 3, "connect_failures": 1, "pool_idle": 2, "conns": 3,
            "ejected": False, "ejected_for_ns": None, "ejections": 0, "failures": 0, "ewma_us": 1500.0, "last_failure": None, "last_failure_ns": None,
            "is_self": False, "is_loop": False, "connect_errors": [], "connected": 1}


class Core:
    def __init__(self, routes=1):
        self.drained = 0
        self.values = {
            "workers": [{"conns": 2, "upstream_conns": 3, "pool_idle": 2, "loops": 9, "accepts": 5, "memory_bytes": 4096}],
            "listeners": {0: {"accepted": 5, "active": 2, "received_bytes": 11, "sent_bytes": 22, "closed": 3}},
            "series": {i + 1: series() for i in range(routes)},
            "clusters": {"app": {"endpoints": [endpoint()], "connect": histogram((262144, 3)), "requests": 1000, "received_bytes": 1, "sent_bytes": 2}},
            "errors": {"no_route": 4, "connect_failure": 1},
        }

    def stats(self):
        return self.values

    def active(self):
        return {"conns": 2, "streams": 1}

    def drain(self):
        self.drained += 1


class Slots:
    def labels(self, number):
        return "web", f'route "{number}"\\', "app"


class Running:
    def __init__(self, routes):
        self.core, self.series = Core(routes), Slots()
        self.listeners, self.addresses = {0: "web"}, {"web": "127.0.0.1:8080"}
        self.reloads, self.refused, self.applied_at, self.access_log = {"ok": 2, "error": 1}, None, 1.5, None
        self.updates = 0


class Proxy:
    def __init__(self, routes=1):
        self.running, self.model = Running(routes), load_dict({"listeners": []})
        self.draining, self.started_at, self.started_monotonic, self.services, self.snapshots, self.discovery = False, 1.0, 1.0, {}, None, None
        self.before, self.restarts = None, 0

    def alive(self):
        return self.running

    def begin_drain(self):
        self.draining = True
        self.running.core.drain()
