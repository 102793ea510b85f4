"""Counters of the core as Prometheus text and as the JSON of /stats. Nothing here runs on a request's way.

Counters go on over a hot restart: those of the processes before us are added by label. Gauges are our own.

Histogram lines are a subset of the core's buckets: the powers of two of a nanosecond from 65 µs to 550 s, so that every
`le` is exactly a bound at which the core counts.
"""

import os
import resource
import sys
import time

from fastproxy.version import VERSION

LE_NS = [1 << k for k in range(16, 40)]
LE_TEXT = [repr(ns / 1e9) for ns in LE_NS]
STATUS_CLASSES = ("1xx", "2xx", "3xx", "4xx", "5xx")
OTHER = ("other", "other", "other")  # of series over the cap
HISTOGRAM = {"count": 0, "sum_ns": 0, "buckets": []}
# What counts in a record of the core, as it is when nothing was counted yet; everything else in it is a gauge.
ENDPOINT = dict.fromkeys(("requests", "connects", "connect_failures", "received_bytes", "sent_bytes"), 0)
CLUSTER = {**ENDPOINT, **dict.fromkeys(("retries", "retries_refused", "ejections"), 0), "connect": HISTOGRAM}
LISTENER = dict.fromkeys(("accepted", "closed", "received_bytes", "sent_bytes"), 0)
WORKER = dict.fromkeys(("loops", "accepts", "spliced_bytes", "log_dropped"), 0)
SERIES = {**dict.fromkeys(("requests", "request_bytes", "response_bytes", "connections"), 0), "status": [0] * 5, "duration": HISTOGRAM,
          "first_byte": HISTOGRAM}


def escape(value):
    return str(value).replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


def labels(**pairs):
    return ",".join(f'{name}="{escape(value)}"' for name, value in pairs.items())


class Page:
    """Lines in Prometheus' text format 0.0.4: each family once, with its type."""

    def __init__(self):
        self.lines = []

    def family(self, name, kind, about, samples):
        """`samples`: pairs of labels as text ("" for none) and a number."""
        self.lines += (f"# HELP {name} {about}", f"# TYPE {name} {kind}")
        self.lines += [f"{name}{{{where}}} {value}" if where else f"{name} {value}" for where, value in samples]

    def histogram(self, name, about, samples):
        """`samples`: pairs of labels as text and a histogram of the core."""
        self.lines += (f"# HELP {name} {about}", f"# TYPE {name} histogram")
        for where, histogram in samples:
            start = f"{name}_bucket{{{where},le=\""
            self.lines += [f'{start}{le}"}} {n}' for le, n in zip(LE_TEXT, cumulative(histogram["buckets"]))]
            self.lines += (f'{start}+Inf"}} {histogram["count"]}', f"{name}_sum{{{where}}} {histogram['sum_ns'] / 1e9}",
                           f"{name}_count{{{where}}} {histogram['count']}")

    def text(self):
        return "\n".join(self.lines) + "\n"


def cumulative(buckets):
    """Counts up to each of LE_NS, of sparse pairs of (upper bound in ns, count)."""
    counts, total, rest = [], 0, iter(sorted(buckets))
    bound, n = next(rest, (None, 0))
    for le in LE_NS:
        while bound is not None and bound <= le:
            total += n
            bound, n = next(rest, (None, 0))
        counts.append(total)
    return counts


def quantile(histogram, q):
    """In seconds, at most one bucket (an eighth of an octave) too high; None without a sample."""
    wanted, seen = q * histogram["count"], 0
    for bound, n in sorted(histogram["buckets"]):
        seen += n
        if n and seen >= wanted:
            return bound / 1e9
    return None


def series_of(stats, slots):
    """((listener, route, cluster), record); no two share labels, or they would be one line of Prometheus each."""
    return ((slots.labels(number) if number else OTHER, record) for number, record in stats["series"].items())


def collect(proxy):
    """What the core knows, by name; with the counters of the processes before us.

    {"series": {(listener, route, cluster): record}, "listeners": {name: record}, "clusters": {name: record}, "errors": {cause: n},
    "workers": [record], "reloads": {result: n}, "answers": {kind: n}, "access_log": {what: n}, "discovery": {cluster: {result: n}}, "updates": n}"""
    running = proxy.alive()
    stats = running.core.stats()
    names = running.listeners
    found = {"series": dict(series_of(stats, running.series)), "listeners": {names[slot]: one for slot, one in stats["listeners"].items() if slot in names},
             "clusters": stats["clusters"], "errors": stats["errors"], "workers": stats["workers"], "reloads": dict(running.reloads),
             "answers": dict(proxy.snapshots.counts) if proxy.snapshots else {}, "updates": running.updates, "access_log": {},
             "discovery": {name: dict(one["results"]) for name, one in found_by(proxy).items()}}
    if running.access_log:
        found["access_log"] = {"written": running.access_log.records, "dropped": sum(one["log_dropped"] for one in stats["workers"]),
                               "dropped_bytes": running.access_log.dropped_bytes}
    for one in found["clusters"].values():
        for key in ENDPOINT:
            one[key] = sum(end.get(key, 0) for end in one["endpoints"])
    if proxy.before:
        add_before(found, proxy.before)
    return found


def add_before(found, before):
    for labels, record in before["series"].items():
        found["series"][labels] = added(found["series"].get(labels, SERIES), record, SERIES)   # also of a route that is gone
    for kind, counters in (("listeners", LISTENER), ("clusters", CLUSTER)):
        for name in found[kind].keys() & before[kind].keys():
            found[kind][name] = added(found[kind][name], before[kind][name], counters)
    for name in found["clusters"].keys() & before["clusters"].keys():
        ends = {one["address"]: one for one in before["clusters"][name]["endpoints"]}
        found["clusters"][name]["endpoints"] = [added(one, ends.get(one["address"], ENDPOINT), ENDPOINT) for one in found["clusters"][name]["endpoints"]]
    for i, record in enumerate(before["workers"][:len(found["workers"])]):
        found["workers"][i] = added(found["workers"][i], record, WORKER)
    for kind in ("errors", "reloads", "answers", "access_log"):
        found[kind] = summed(found[kind], before[kind])
    for name in found["discovery"].keys() & before["discovery"].keys():
        found["discovery"][name] = summed(found["discovery"][name], before["discovery"][name])
    found["updates"] += before["updates"]


def summed(now, before):
    return {name: now.get(name, 0) + before.get(name, 0) for name in now | before}


def added(record, before, counters):
    """The record with what was counted before; its gauges stay."""
    out = dict(record)
    for key, nothing in counters.items():
        now, then = record.get(key, nothing), before.get(key, nothing)
        if nothing is HISTOGRAM:
            buckets = dict(now["buckets"])
            for bound, n in then["buckets"]:
                buckets[bound] = buckets.get(bound, 0) + n
            out[key] = {"count": now["count"] + then["count"], "sum_ns": now["sum_ns"] + then["sum_ns"], "buckets": sorted(buckets.items())}
        elif isinstance(nothing, list):
            out[key] = [one + other for one, other in zip(now, then)]
        else:
            out[key] = now + then
    return out


def prometheus(proxy):
    """The page of /metrics."""
    running = proxy.alive()
    stats, page = collect(proxy), Page()
    named = [(labels(listener=listener, route=route, cluster=cluster), record)
             for (listener, route, cluster), record in sorted(stats["series"].items())]
    http = [(where, record) for where, record in named if record["requests"]]
    page.family("fastproxy_requests_total", "counter", "Requests by class of the status that the client got.",
                [(f'{where},status_class="{name}"', n) for where, record in http
                 for name, n in zip(STATUS_CLASSES, record["status"]) if n or name in ("2xx", "5xx")])
    page.histogram("fastproxy_request_duration_seconds", "From the first byte of a request to the last of its response.",
                   [(where, record["duration"]) for where, record in http])
    page.histogram("fastproxy_request_first_byte_seconds", "From the first byte of a request to the first of its response.",
                   [(where, record["first_byte"]) for where, record in http])
    page.family("fastproxy_request_bytes_total", "counter", "Received from clients for a route or through a TCP listener.",
                [(where, record["request_bytes"]) for where, record in named])
    page.family("fastproxy_response_bytes_total", "counter", "Sent to clients from a route or through a TCP listener.",
                [(where, record["response_bytes"]) for where, record in named])
    page.family("fastproxy_tcp_connections_total", "counter", "Connections forwarded by a TCP listener.",
                [(where, record["connections"]) for where, record in named if record["connections"]])

    by_listener = [(labels(listener=name), record) for name, record in sorted(stats["listeners"].items())]
    for name, kind, key, about in (
            ("fastproxy_connections", "gauge", "active", "Open client connections."),
            ("fastproxy_connections_accepted_total", "counter", "accepted", "Client connections accepted."),
            ("fastproxy_received_bytes_total", "counter", "received_bytes", "Read from client connections, as it happens."),
            ("fastproxy_sent_bytes_total", "counter", "sent_bytes", "Written to client connections, as it happens.")):
        page.family(name, kind, about, [(where, record[key]) for where, record in by_listener])

    clusters = sorted((labels(cluster=name), record) for name, record in stats["clusters"].items())
    page.histogram("fastproxy_upstream_connect_duration_seconds", "Time to connect to an endpoint.",
                   [(where, record["connect"]) for where, record in clusters])
    for name, key, about in (
            ("fastproxy_upstream_requests_total", "requests", "Requests sent to a cluster."),
            ("fastproxy_upstream_received_bytes_total", "received_bytes", "Read from upstream connections."),
            ("fastproxy_upstream_sent_bytes_total", "sent_bytes", "Written to upstream connections."),
            ("fastproxy_upstream_connects_total", "connects", "Connections opened to endpoints."),
            ("fastproxy_upstream_connect_failures_total", "connect_failures", "Connections to endpoints which failed.")):
        page.family(name, "counter", about, [(where, record[key]) for where, record in clusters])
    for name, key, about in (
            ("fastproxy_upstream_connections", "conns", "Open upstream connections."),
            ("fastproxy_upstream_pool_idle", "pool_idle", "Upstream connections waiting for a request."),
            ("fastproxy_upstream_in_flight", "in_flight", "Requests and TCP connections running on a cluster.")):
        page.family(name, "gauge", about, [(where, sum(one.get(key, 0) for one in record["endpoints"])) for where, record in clusters])
    page.family("fastproxy_endpoints", "gauge", "Endpoints of a cluster.", [(where, len(record["endpoints"])) for where, record in clusters])
    page.family("fastproxy_endpoints_ejected", "gauge", "Endpoints which are ejected.",
                [(where, sum(one.get("ejected", False) for one in record["endpoints"])) for where, record in clusters])
    page.family("fastproxy_ejections_total", "counter", "Ejections of endpoints.", [(where, record.get("ejections", 0)) for where, record in clusters])
    page.family("fastproxy_retries_total", "counter", "Further attempts of requests: made, or refused for want of budget.",
                [(f'{where},result="{result}"', record.get(key, 0)) for where, record in clusters
                 for result, key in (("made", "retries"), ("refused", "retries_refused"))])
    page.family("fastproxy_upstream_limit_remaining", "gauge", "How much is left of a limit of a cluster.",
                [(f'{where},limit="{name}"', max(0, limit - record["used"][name])) for where, record in clusters
                 for name, limit in record.get("limits", {}).items()])

    page.family("fastproxy_errors_total", "counter", "Failed and shed requests and connections, each once under its cause.",
                [(labels(cause=cause), n) for cause, n in sorted(stats["errors"].items())])
    workers = [(labels(worker=i), record) for i, record in enumerate(stats["workers"])]
    for name, kind, key, about in (
            ("fastproxy_worker_connections", "gauge", "conns", "Client connections of a worker."),
            ("fastproxy_worker_loops_total", "counter", "loops", "Turns of a worker's event loop."),
            ("fastproxy_worker_memory_bytes", "gauge", "memory_bytes", "Buffers and slabs of a worker.")):
        page.family(name, kind, about, [(where, record[key]) for where, record in workers if key in record])

    if running.access_log:
        page.family("fastproxy_access_log_records_total", "counter", "Records of the access log: written, or dropped because the ring of a worker was full.",
                    [(f'result="{result}"', stats["access_log"][result]) for result in ("written", "dropped")])
        page.family("fastproxy_access_log_dropped_bytes_total", "counter", "Of lines for files which took them too slowly, or not at all.",
                    [("", stats["access_log"]["dropped_bytes"])])
    found = [(labels(cluster=name, source=one["source"]), {**one, "results": stats["discovery"][name]}) for name, one in sorted(found_by(proxy).items())]
    if found:
        page.family("fastproxy_discovery_results_total", "counter", "What files and names that have endpoints said: ok, or what was wrong.",
                    [(f'{where},{labels(result=result)}', n) for where, one in found for result, n in sorted(one["results"].items())])
        page.family("fastproxy_discovery_failing", "gauge", "1 while the last look at a file or name failed, wholly or in part; what was found before stays.",
                    [(where, int(one["error"] is not None)) for where, one in found])
        page.family("fastproxy_discovery_updates_total", "counter", "Changes of endpoints that were found, as they were applied.", [("", stats["updates"])])
    page.family("fastproxy_config_reloads_total", "counter", "Configurations taken and refused since the start.",
                [(labels(result=result), n) for result, n in stats["reloads"].items()])
    page.family("fastproxy_config_applied_timestamp_seconds", "gauge", "When the running configuration was taken.", [("", running.applied_at)])
    if proxy.snapshots:
        facts = proxy.snapshots.facts()
        page.family("fastproxy_snapshot_connected", "gauge", "1 while the source of snapshots is connected.", [("", int(facts["connected"]))])
        page.family("fastproxy_snapshot_stale", "gauge", "1 while a snapshot from the disk serves that no source has confirmed.", [("", int(facts["stale"]))])
        page.family("fastproxy_snapshot_answers_total", "counter", "Answers to the source by kind.",
                    [(labels(answer=answer), n) for answer, n in stats["answers"].items()])
        page.family("fastproxy_snapshot_info", "gauge", "1, labelled with the version that serves.", [(labels(version=facts["version"] or ""), 1)])
    page.family("fastproxy_draining", "gauge", "1 while the proxy drains.", [("", int(proxy.draining))])
    page.family("fastproxy_hot_restarts", "gauge", "Processes whose counters this one goes on with.", [("", proxy.restarts)])
    page.family("fastproxy_start_time_seconds", "gauge", "When the proxy started.", [("", proxy.started_at)])
    page.family("fastproxy_build_info", "gauge", "1, labelled with the version.",
                [(labels(version=VERSION, python=".".join(map(str, sys.version_info[:3]))), 1)])
    used = resource.getrusage(resource.RUSAGE_SELF)
    page.family("process_cpu_seconds_total", "counter", "User and system CPU time.", [("", used.ru_utime + used.ru_stime)])
    page.family("process_resident_memory_bytes", "gauge", "Resident memory.", [("", resident_bytes())])
    page.family("process_open_fds", "gauge", "Open file descriptors.", [("", len(os.listdir("/proc/self/fd")))])
    return page.text()


def resident_bytes():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


def report(proxy, histograms=False):
    """What /stats answers and `Proxy.stats()` returns: plain dicts, times in milliseconds. `histograms`: with their buckets,
    pairs of an upper bound in ns and a count."""
    running, stats = proxy.alive(), collect(proxy)
    return {
        "version": VERSION,
        "pid": os.getpid(),
        "uptime_seconds": round(time.time() - proxy.started_at, 3),
        "draining": proxy.draining,
        "hot_restarts": proxy.restarts,
        "reloads": stats["reloads"],
        "reload_error": running.refused,
        "memory_bytes": resident_bytes(),
        "process": process_facts(proxy),
        "services": {name: service.address for name, (_, service) in proxy.services.items()},
        "workers": stats["workers"],
        "listeners": {name: {"address": running.addresses[name], **record} for name, record in stats["listeners"].items()},
        "routes": [{"listener": listener, "route": route, "cluster": cluster, "requests": record["requests"], "connections": record["connections"],
                    "status": dict(zip(STATUS_CLASSES, record["status"])), "request_bytes": record["request_bytes"],
                    "response_bytes": record["response_bytes"], "duration_ms": times(record["duration"], histograms), "first_byte_ms": times(record["first_byte"], histograms)}
                   for (listener, route, cluster), record in sorted(stats["series"].items())],
        "clusters": clusters_of(stats, proxy),
        "errors": stats["errors"],
        **({"snapshot": {**proxy.snapshots.facts(), "answers": stats["answers"]}} if proxy.snapshots else {}),
    }


def process_facts(proxy):
    """What bounds the process from outside. `clock_step_seconds`: how far the wall clock was moved since the start."""
    return {"uid": os.getuid(), "cores": len(os.sched_getaffinity(0)), "open_fds": len(os.listdir("/proc/self/fd")),
            "max_fds": resource.getrlimit(resource.RLIMIT_NOFILE)[0],
            "clock_step_seconds": round(time.time() - proxy.started_at - (time.monotonic() - proxy.started_monotonic), 3)}


def found_by(proxy):
    """{cluster: facts about where its endpoints are found}; those that are listed are not in it."""
    return proxy.discovery.facts(proxy.model) if proxy.discovery else {}


def clusters_of(stats, proxy):
    out, found, fallbacks = {}, found_by(proxy), {one.name: one.fallback for one in proxy.model.clusters if one.fallback}
    for name, record in sorted(stats["clusters"].items()):
        facts = found.get(name)
        source = f"{facts['source']} {facts['name']}" if facts else "configuration"
        out[name] = {**record, "connect": times(record["connect"]), "endpoints": [{**endpoint_of(one), "source": source} for one in record["endpoints"]]}
        if facts:
            out[name]["discovery"] = facts
        if name in fallbacks:
            out[name]["fallback"] = fallbacks[name]
    return out


def endpoint_of(one):
    """What the core counts of an endpoint, with its state in a word, and the reason for it."""
    one = dict(one)
    ejected_ns, failed_ns, ewma_us = one.pop("ejected_for_ns"), one.pop("last_failure_ns"), one.pop("ewma_us")
    connect_errors, connected = one.pop("connect_errors"), one.pop("connected")
    one["ejected_for_seconds"] = None if ejected_ns is None else round(ejected_ns / 1e9, 3)
    one["last_failure_seconds_ago"] = None if failed_ns is None else round(failed_ns / 1e9, 3)
    one["ewma_ms"] = None if ewma_us is None else round(ewma_us / 1e3, 3)
    one["connect_error"] = connect_errors[0] if connect_errors else None
    last = f"{one['last_failure']} {one['last_failure_seconds_ago']:.0f} s ago" if failed_ns is not None else "none"
    if one["is_loop"]:
        state, reason = "loop", "it leads back to itself over tcp listeners of this proxy; nothing is sent"
    elif ejected_ns:
        state, reason = "ejected", f"ejection {one['ejections']} in a row, for {ejected_ns / 1e9:.1f} s more; last failure {last}"
    elif ejected_ns == 0:
        state, reason = "trial", f"its ejection is over, the next request tries it; last failure {last}"
    elif connect_errors and not connected:
        state, reason = "connect failing", f"{connect_errors[0]}, {one['connect_failures']} of {one['connects']} connects failed"
    elif one["failures"]:
        state, reason = "active", f"{one['failures']} failures in a row, the last: {last}"
    elif not one["requests"]:
        state, reason = "active", "no request yet"
    else:
        state, reason = "active", f"last attempt succeeded; last failure {last}" if failed_ns is not None else "no failure"
    return {**one, "state": state, "reason": reason}


def times(histogram, buckets=False):
    found = {f"p{q}": quantile(histogram, q / 100) for q in (50, 95, 99)}
    mean = histogram["sum_ns"] / histogram["count"] / 1e6 if histogram["count"] else None
    return {"count": histogram["count"], "mean": mean, **{name: value and round(value * 1e3, 3) for name, value in found.items()},
            **({"buckets": histogram["buckets"], "sum_ns": histogram["sum_ns"]} if buckets else {})}
