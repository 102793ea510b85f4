"""A result as a markdown table and as an SVG chart."""
from html import escape

from .scenarios import BY_NAME

COLOURS = {"fastproxy": "#1f77b4", "nginx": "#2ca02c", "haproxy": "#ff7f0e", "envoy": "#9467bd", "h2o": "#8c564b",
           "nghttpx": "#e377c2", "floor": "#7f7f7f", "direct": "#c7c7c7"}


def number(x):
    if x is None:
        return "–"
    return f"{x:,.0f}" if abs(x) >= 100 else f"{x:.1f}" if abs(x) >= 10 else f"{x:.2f}"


def columns(result):
    present = {c["proxy"] for c in result["cells"]}
    return [n for n in result["proxies"] if n in present]


def by_cell(result):
    return {(c["scenario"], c["proxy"]): c for c in result["cells"]}


def table(head, rows):
    return "\n".join(["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)] + ["| " + " | ".join(r) + " |" for r in rows]) + "\n"


def section(result, title, kinds, value, note=""):
    cells = by_cell(result)
    names = [n for n in columns(result) if any((s.name, n) in cells for s in BY_NAME.values() if s.kind in kinds)]
    rows = []
    for s in BY_NAME.values():
        if s.kind not in kinds or not any((s.name, n) in cells for n in names):
            continue
        row = [s.title]
        for n in names:
            c = cells.get((s.name, n))
            row.append("" if c is None else "failed" if "error" in c else "–" if "quiet" not in c else value(c))
        rows.append(row)
    return f"\n**{title}**{note}\n\n" + table(["scenario", *names], rows) if rows else ""


def markdown(result):
    m = result["machine"]
    text = [f"fastproxy bench, {result['when']}{', quick' if result['quick'] else ''}: {m['cpu']}, {m['cores']} cores, Linux {m['kernel']}, "
            f"{result['seconds']:.0f} s\n\n"]
    text.append(", ".join(f"{n} {a['version']}" for n, a in result["proxies"].items() if "version" in a and n != "direct") + "\n")
    for n, a in result["proxies"].items():
        if "missing" in a:
            text.append(f"\nmissing: {n}: {a['missing']}\n")
    text.append(section(result, "CPU µs per request", ("cost",), lambda c: f"{number(c['quiet'])} / {number(c['median'])}",
                        ", quiet (10th percentile) / median; two proxies within 8 % are not told apart"))
    text.append(section(result, "Requests per CPU-second", ("cost",), lambda c: number(c["per_cpu_second"]), ", quiet"))
    text.append(section(result, "GB per CPU-second", ("bulk",), lambda c: f"{number(c['quiet'])} / {number(c['median'])}", ", quiet / median"))
    text.append(section(result, "Spread", ("cost", "bulk"), lambda c: f"{c['spread'] * 100:.0f} %", ", 10th to 90th percentile over the median"))
    text.append(section(result, "System calls per request", ("cost",), lambda c: number(c.get("syscalls")), ""))
    text.append(section(result, "System calls per GB", ("bulk",), lambda c: number(c.get("syscalls")), ""))
    fixed = next((c["fixed_rate"] for c in result["cells"] if "fixed_rate" in c), 0)
    text.append(section(result, "Latency, µs", ("latency",),
                        lambda c: " / ".join(number(c[p] / 1e3) for p in ("p50_ns", "p99_ns", "p99_9_ns")),
                        f", p50 / p99 / p99.9 from the intended send time at {fixed:,} requests a second, medians of the windows; "
                        "`direct` is the machine without a proxy"))
    text.append(section(result, "CPU µs per request at that rate", ("latency",), lambda c: f"{number(c['quiet'])} / {number(c['median'])}"))
    text.append(section(result, "RSS per idle keep-alive connection, bytes", ("idle_conns",), lambda c: number(c["quiet"])))
    text.append(section(result, "RSS of an idle process, MB", ("idle_process",), lambda c: number(c["quiet"] / 1e6)))
    text.append(section(result, "RSS after load, MB", ("cost",), lambda c: number(c["rss_bytes"] / 1e6)))
    for c in result["cells"]:
        if "error" in c:
            text.append(f"\nFAILED {c['scenario']} {c['proxy']}: {c['error']}\n")
    for line in result["skipped"]:
        text.append(f"\nskipped: {line}\n")
    return "".join(text)


def svg(result):
    """A group of bars per cost scenario: quiet cost, relative to the cheapest other proxy = 1."""
    cells, names = by_cell(result), [n for n in columns(result) if n != "direct"]
    groups = [s for s in BY_NAME.values() if s.kind in ("cost", "bulk") and any("quiet" in cells.get((s.name, n), ()) for n in names)]
    row, gap, left, width = 14, 18, 330, 900
    y, body = 60, []
    for s in groups:
        costs = {n: (c["quiet"] if s.kind == "cost" else 1 / c["quiet"]) for n in names if "quiet" in (c := cells.get((s.name, n), {}))}
        base = min((v for n, v in costs.items() if n not in ("fastproxy", "floor")), default=min(costs.values()))
        body.append(f'<text x="{left - 12}" y="{y + row * len(costs) / 2 + 4}" text-anchor="end">{escape(s.title)}</text>')
        for n, v in costs.items():
            long = min(v / base, 4) / 4 * (width - left - 150)
            label = f"{n} {number(cells[s.name, n]['quiet'])}{' µs' if s.kind == 'cost' else ' GB/s'}"
            body.append(f'<rect x="{left}" y="{y}" width="{long:.1f}" height="{row - 2}" fill="{COLOURS.get(n, "#bcbd22")}"/>'
                        f'<text x="{left + long + 5:.1f}" y="{y + row - 4}" font-size="10">{escape(label)}</text>')
            y += row
        y += gap
    title = "CPU per request (bulk: per byte), quiet, relative to the cheapest other proxy; cut at 4 times"
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {y}" font-family="sans-serif" font-size="12">'
            f'<rect width="{width}" height="{y}" fill="#fff"/><text x="20" y="30" font-size="15">{escape(title)}</text>'
            + "".join(body) + "</svg>\n")
