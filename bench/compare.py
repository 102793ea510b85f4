"""Two results, scenario by scenario and proxy by proxy: second over first."""
from .bars import load_result
from .scenarios import BY_NAME


def ratios(before, after):
    """[(scenario, proxy, figure before, figure after, ratio)], of the quiet figures that both have."""
    first = {(c["scenario"], c["proxy"]): c for c in before["cells"]}
    rows = []
    for c in after["cells"]:
        b = first.get((c["scenario"], c["proxy"]), {})
        key = "p50_ns" if BY_NAME[c["scenario"]].kind == "latency" else "quiet"
        if b.get(key) and key in c and "error" not in b and "error" not in c:
            rows.append((c["scenario"], c["proxy"], b[key], c[key], c[key] / b[key]))
    return rows


def main(before_path, after_path):
    before, after = load_result(before_path), load_result(after_path)
    if before["machine"] != after["machine"]:
        print("The two are not of the same machine or kernel: only ratios between proxies of one run mean something.\n")
    rows = ratios(before, after)
    names = list(dict.fromkeys(r[1] for r in rows))
    # What moved for everybody is the machine: the others' median ratio, per scenario, is taken out.
    print("| scenario | proxy | before | after | ratio | over the others' median |\n| --- | --- | --- | --- | --- | --- |")
    for scenario, proxy, b, a, ratio in rows:
        others = sorted(r[4] for r in rows if r[0] == scenario and r[1] not in (proxy, "fastproxy", "direct"))
        relative = f"{ratio / others[len(others) // 2]:.2f}" if others else "–"
        print(f"| {scenario} | {proxy} | {b:,.2f} | {a:,.2f} | {ratio:.2f} | {relative} |")
    print(f"\n{len(rows)} figures of {', '.join(names) or 'nothing in common'}; under 8 % is noise; bulk: more is better, all else: less")
    return 0
