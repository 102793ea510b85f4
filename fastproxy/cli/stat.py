"""`fastproxy stat`: the counters of a running proxy as tables, since its start or over a window."""

import json
import time

from fastproxy.cli.admin import Denied, asks, find, get
from fastproxy.cli.table import ms, rate, size, success, table

LISTENER = ("accepted", "closed", "received_bytes", "sent_bytes")
ROUTE = ("requests", "connections", "request_bytes", "response_bytes")
ENDPOINT = ("requests", "connects", "connect_failures", "received_bytes", "sent_bytes")
CLUSTER = ("requests", "received_bytes", "sent_bytes", "retries", "retries_refused", "ejections")


@asks
def stat(address, output, window_s=None):
    address = find(address)
    if window_s is None:
        text = get(address, "/stats")
        if output == "json":
            print(text, end="")
            return 0
        stats = json.loads(text)
    else:
        stats = over(address, window_s)
        if output == "json":
            print(json.dumps(stats, indent=1))
            return 0
    show(stats)
    return 0


def show(stats):
    seconds = stats.get("window_seconds") or stats["uptime_seconds"]
    open_conns = {name: one["active"] for name, one in stats["listeners"].items()}
    tcp = [one for one in stats["routes"] if is_tcp(one)]
    table(("ROUTE", "CLUSTER", "LISTENER", "REQUESTS", "SUCCESS", "RPS", "P50", "P95", "P99"),
          [(one["route"] or "-", one["cluster"] or "-", one["listener"], one["requests"], success(one["status"]), rate(one["requests"], seconds),
            *(ms(one["duration_ms"][q]) for q in ("p50", "p95", "p99"))) for one in stats["routes"] if not is_tcp(one)])
    if tcp:
        print()
        table(("TCP LISTENER", "CLUSTER", "CONNECTIONS", "CONN/S", "OPEN", "FROM CLIENTS", "TO CLIENTS"),
              [(one["listener"], one["cluster"], one["connections"], rate(one["connections"], seconds), open_conns.get(one["listener"], "-"),
                size(one["request_bytes"]), size(one["response_bytes"])) for one in tcp])
    print()
    table(("LISTENER", "ADDRESS", "OPEN", "ACCEPTED", "RECEIVED", "SENT"),
          [(name, one["address"], one["active"], one["accepted"], size(one["received_bytes"]), size(one["sent_bytes"]))
           for name, one in stats["listeners"].items()])
    print()
    table(("CLUSTER", "ENDPOINT", "REQUESTS", "IN FLIGHT", "CONNECTS", "FAILED", "SOURCE"),
          [(name, one["address"], one["requests"], one["in_flight"], one["connects"], one["connect_failures"], one["source"])
           for name, cluster in stats["clusters"].items() for one in cluster["endpoints"]])
    failing = [(name, f"{one['source']} {one['name']}", one["error"]) for name, cluster in stats["clusters"].items()
               if (one := cluster.get("discovery")) and one["error"]]
    if failing:
        print()
        table(("CLUSTER", "SOURCE", "ERROR"), failing)
    errors = {cause: n for cause, n in stats["errors"].items() if n}
    if errors:
        print()
        table(("CAUSE", "ERRORS"), sorted(errors.items(), key=lambda row: -row[1]))
    print(f"\nfastproxy {stats['version']}, up {stats['uptime_seconds']:.0f} s, {stats['memory_bytes'] / 2**20:.1f} MiB"
          + (", draining" if stats["draining"] else "") + (f"; over {seconds:.1f} s" if "window_seconds" in stats else ", all since the start"))


def is_tcp(one):
    """What went through a tcp listener has a cluster and no route."""
    return not one["route"] and bool(one["cluster"])


# ---- over a window ---------------------------------------------------------------------------------------------------------

def over(address, window_s):
    """/stats as it is now, with every counter less what it was at the beginning. Counters of a TCP route grow when a connection ends."""
    before, start = json.loads(get(address, "/stats?histograms=1")), time.monotonic()
    time.sleep(window_s)
    after, end = json.loads(get(address, "/stats?histograms=1")), time.monotonic()
    if before["pid"] != after["pid"] or before["uptime_seconds"] > after["uptime_seconds"]:
        raise Denied(f"{address}: the proxy was started again within the window")
    return difference(before, after, end - start)


def difference(before, after, seconds):
    known = {key(one): one for one in before["routes"]}
    routes = []
    for one in after["routes"]:
        was = known.get(key(one), {})
        out = {**less(one, was, ROUTE), "status": less(one["status"], was.get("status", {}), one["status"])}
        for name in ("duration_ms", "first_byte_ms"):
            out[name] = times(one[name], was.get(name))
        routes.append(out)
    clusters = {}
    for name, one in after["clusters"].items():
        was = before["clusters"].get(name, {})
        ends = {end["address"]: end for end in was.get("endpoints", ())}
        clusters[name] = {**less(one, was, CLUSTER), "endpoints": [less(end, ends.get(end["address"], {}), ENDPOINT) for end in one["endpoints"]]}
    return {**after, "window_seconds": round(seconds, 3), "routes": routes, "clusters": clusters,
            "listeners": {name: less(one, before["listeners"].get(name, {}), LISTENER) for name, one in after["listeners"].items()},
            "errors": less(after["errors"], before["errors"], after["errors"]),
            "reloads": less(after["reloads"], before["reloads"], after["reloads"])}


def key(one):
    return one["listener"], one["route"], one["cluster"]


def less(now, was, names):
    """`now`, with the counters of these names less what they were."""
    return {**now, **{name: now[name] - was.get(name, 0) for name in names if name in now}}


def times(now, was):
    from fastproxy.proxy.metrics import times
    was = was or {"count": 0, "sum_ns": 0, "buckets": []}
    counts = {bound: n for bound, n in was["buckets"]}
    return times({"count": now["count"] - was["count"], "sum_ns": now["sum_ns"] - was["sum_ns"],
                  "buckets": [(bound, n - counts.get(bound, 0)) for bound, n in now["buckets"]]})
