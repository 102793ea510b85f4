"""`fastproxy stat`: the counters of a running proxy as a table."""

import json
import sys

from fastproxy.cli.admin import NoTarget, Unreachable, find, get


def stat(address, output):
    try:
        text = get(find(address), "/stats")
    except NoTarget as error:
        print(f"fastproxy: {error}", file=sys.stderr)
        return 2
    except Unreachable as error:
        print(f"fastproxy: {error}", file=sys.stderr)
        return 3
    if output == "json":
        print(text, end="")
        return 0
    show(json.loads(text))
    return 0


def show(stats):
    table(("ROUTE", "CLUSTER", "LISTENER", "REQUESTS", "SUCCESS", "P50", "P95", "P99"),
          [(one["route"] or "-", one["cluster"] or "-", one["listener"], one["requests"] or one["connections"], success(one["status"]),
            *(ms(one["duration_ms"][q]) for q in ("p50", "p95", "p99"))) for one in stats["routes"]])
    print()
    table(("LISTENER", "ADDRESS", "OPEN", "ACCEPTED", "RECEIVED", "SENT"),
          [(name, one["address"], one["active"], one["accepted"], one["received_bytes"], one["sent_bytes"]) for name, one in stats["listeners"].items()])
    print()
    table(("CLUSTER", "ENDPOINT", "REQUESTS", "IN FLIGHT", "CONNECTS", "FAILED"),
          [(name, one["address"], one["requests"], one["in_flight"], one["connects"], one["connect_failures"])
           for name, cluster in stats["clusters"].items() for one in cluster["endpoints"]])
    errors = {cause: n for cause, n in stats["errors"].items() if n}
    if errors:
        print()
        table(("CAUSE", "ERRORS"), sorted(errors.items(), key=lambda row: -row[1]))
    print(f"\nfastproxy {stats['version']}, up {stats['uptime_seconds']:.0f} s, {stats['memory_bytes'] / 2**20:.1f} MiB"
          + (", draining" if stats["draining"] else ""))


def success(status):
    """Share of answers which are no 5xx: those are the proxy's or the upstream's fault."""
    total = sum(status.values())
    return f"{100 * (total - status['5xx']) / total:.2f}%" if total else "-"


def ms(value):
    return "-" if value is None else f"{value:.3g}ms"


def table(names, rows):
    rows = [names, *([str(cell) for cell in row] for row in rows)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(names))]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip())
