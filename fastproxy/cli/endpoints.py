"""`fastproxy endpoints`: every endpoint of a running proxy with its state, and the reason for it."""

import json

from fastproxy.cli.admin import Denied, asks, find, get
from fastproxy.cli.table import ms, table


@asks
def endpoints(address, cluster, output):
    found = json.loads(get(find(address), "/clusters"))
    if cluster is not None and cluster not in found:
        raise Denied(f"there is no cluster `{cluster}`; there are: {', '.join(found) or 'none'}")
    shown = {name: one for name, one in found.items() if cluster in (None, name)}
    if output == "json":
        print(json.dumps([{"cluster": name, **end} for name, one in shown.items() for end in one["endpoints"]], indent=1))
        return 0
    table(("CLUSTER", "ENDPOINT", "WEIGHT", "STATE", "IN FLIGHT", "POOL", "REQUESTS", "EWMA", "LAST ERROR", "SOURCE", "REASON"),
          [row for name, one in shown.items() for row in rows_of(name, one)])
    failing = [(name, found["source"], found["name"], found["error"]) for name, one in shown.items() if (found := one.get("discovery")) and found["error"]]
    if failing:
        print()
        table(("CLUSTER", "SOURCE", "NAME", "ERROR"), failing)
    return 0


def rows_of(name, cluster):
    """POOL: idle of all open connections."""
    if not cluster["endpoints"]:
        why = f"requests go to {cluster['fallback']}" if cluster.get("fallback") else "every request is answered 503"
        source = cluster["discovery"]["source"] if "discovery" in cluster else "configuration"
        return [(name, "none", "-", "empty", "-", "-", "-", "-", "-", source, why)]
    return [(name, one["address"], one["weight"], one["state"], one["in_flight"], f"{one['pool_idle']}/{one['conns']}",
             one["requests"], ms(one["ewma_ms"]), one["last_failure"] or one["connect_error"] or "-", one["source"], one["reason"])
            for one in cluster["endpoints"]]
