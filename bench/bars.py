"""The bars that fastproxy is to meet, as a table, judged against one result."""
import json
from dataclasses import dataclass, field
from pathlib import Path

from .instructions import RECORD
from .run import FORMAT, VERSION

NEAR = 0.08                     # time does not resolve less: a bar that near to 1.0 is judged by instructions and syscalls
NS_PER_INSTRUCTION = 0.3        # of user code, when time cannot tell: about one a cycle at 3 GHz
EDGE = ("nginx", "haproxy")
OTHERS = ("nginx", "haproxy", "envoy", "h2o", "nghttpx")


@dataclass(frozen=True)
class Bar:
    scenario: str
    sense: str                  # "<=" or ">="
    factor: float               # times the reference, or the figure itself when there is none
    than: tuple = ()            # proxies whose best is the reference; () = absolute
    of: str = ""                # scenario of the reference, when it is another one
    figure: str = "quiet"       # key of the cell
    scale: float = 1.0          # absolute figures: divide the cell's by this
    unit: str = ""


BARS = [
    Bar("http", "<=", 0.80, EDGE),
    Bar("http", "<=", 0.25, ("envoy",)),
    Bar("http", "<=", 1.25, ("floor",)),
    Bar("http_unix", "<=", 0.85, ("fastproxy",), of="http"),
    Bar("http_16k", "<=", 0.95, EDGE),
    Bar("http_1m", "<=", 0.95, EDGE),
    Bar("tcp_rr", "<=", 1.05, ("floor",)),
    Bar("tcp_bulk", ">=", 0.90, ("floor",)),
    Bar("tcp_bulk", ">=", 1.20, OTHERS),
    Bar("post", "<=", 0.90, OTHERS),
    Bar("fresh", "<=", 0.95, EDGE),
    Bar("routes", "<=", 1.05, ("fastproxy",), of="one_route"),
    Bar("latency", "<=", 1.00, OTHERS, figure="p50_ns"),
    Bar("latency", "<=", 1.25, OTHERS, figure="p99_ns"),
    Bar("idle_conns", "<=", 1024, scale=1, unit="bytes"),
    Bar("idle_process", "<=", 40, scale=1e6, unit="MB"),
    Bar("two_workers", "<=", 1.10, ("fastproxy",), of="one_worker"),
    Bar("two_workers", "<=", 1.08, ("fastproxy",), of="one_worker", figure="syscalls"),
    Bar("two_workers", "<=", 1.03, ("fastproxy",), of="http", figure="instructions"),
    Bar("http", "<=", 6000, figure="instructions", unit="user instructions"),
]


@dataclass
class Verdict:
    bar: Bar
    met: object = None          # True, False, or None: not judged
    figure: float = None
    reference: float = None
    ratio: float = None
    note: str = ""


def judge(bar, cells, instructions):
    def value(scenario, proxy):
        if bar.figure == "instructions":
            return instructions.get(proxy, {}).get(scenario)
        cell = cells.get((scenario, proxy), {})
        return None if "error" in cell else cell.get(bar.figure)

    v = Verdict(bar, figure=value(bar.scenario, "fastproxy"))
    if v.figure is None:
        v.note = cells.get((bar.scenario, "fastproxy"), {}).get("error") or "no figure"
        return v
    if not bar.than:
        v.figure /= bar.scale
        v.met = v.figure <= bar.factor
        return v
    of = bar.of or bar.scenario
    known = {p: x for p in bar.than if (x := value(of, p)) is not None}
    if not known:
        v.note = "nothing to compare with: " + ", ".join(bar.than)
        return v
    best = (min if bar.sense == "<=" else max)(known, key=known.get)
    v.reference, v.ratio = known[best], v.figure / known[best]
    v.met = v.ratio <= bar.factor if bar.sense == "<=" else v.ratio >= bar.factor
    v.note = f"{best}{' ' + bar.of if bar.of else ''}"
    missing = [p for p in bar.than if p not in known]
    if missing:
        v.note += f" (no figure of {', '.join(missing)})"
    if bar.figure == "quiet" and bar.sense == "<=" and abs(bar.factor - 1) <= NEAR and abs(v.ratio / bar.factor - 1) <= NEAR:
        judge_by_work(v, cells[bar.scenario, "fastproxy"], cells[of, best], instructions.get("fastproxy", {}).get(bar.scenario),
                      instructions.get(best, {}).get(of))
    return v


def judge_by_work(v, own, other, own_instructions, other_instructions):
    """A ratio too near to the bar for time to tell: expects of the kernel's part what the system calls say, and of the
    user's what the instructions say."""
    if None in (own.get("syscalls"), other.get("syscalls"), own_instructions, other_instructions):
        v.note += "; near the bar: needs system calls and instructions of both to be judged"
        return
    user = other_instructions * NS_PER_INSTRUCTION / 1e3
    kernel = max(0.0, other["quiet"] - user)
    expected = (kernel * own["syscalls"] / other["syscalls"] + own_instructions * NS_PER_INSTRUCTION / 1e3) / (kernel + user)
    v.met = expected <= v.bar.factor
    v.note += (f"; judged by work: ratio {expected:.2f} from {own['syscalls']:.2f} against {other['syscalls']:.2f} system calls, "
               f"{own_instructions:,.0f} against {other_instructions:,.0f} instructions")


def load_result(path):
    result = json.loads(Path(path).read_text())
    if result.get("format") != FORMAT or result.get("version") != VERSION:
        raise SystemExit(f"{path}: not a result of this bench, version {VERSION}")
    return result


def judge_all(result, instructions):
    cells = {(c["scenario"], c["proxy"]): c for c in result["cells"]}
    return [judge(bar, cells, instructions) for bar in BARS]


def shown(x, bar):
    if x is None:
        return "–"
    if bar.figure.endswith("_ns"):
        return f"{x / 1e3:,.0f} µs"
    return f"{x:,.0f}" if x >= 100 else f"{x:.2f}"


def main(path, instructions_path=None):
    instructions = {}
    source = instructions_path or RECORD
    if source.exists():
        instructions = json.loads(source.read_text())["figures"]
    result = load_result(path)
    verdicts = judge_all(result, instructions)
    print("| scenario | figure | bar | reference | ratio | met |\n| --- | --- | --- | --- | --- | --- |")
    for v in verdicts:
        bar = v.bar
        sense = {"<=": "≤", ">=": "≥"}[bar.sense]
        wanted = f"{sense} {bar.factor:.2f} × {' / '.join(bar.than) if len(bar.than) < 5 else 'the best'}{' ' + bar.of if bar.of else ''}" if bar.than \
            else f"{sense} {bar.factor:,} {bar.unit}"
        name = bar.scenario + ("" if bar.figure == "quiet" else " " + bar.figure.removesuffix("_ns"))
        reference = f"{shown(v.reference, bar)} " if v.reference is not None else ""
        print(f"| {name} | {shown(v.figure, bar)} | {wanted} | {reference}{v.note} | {'–' if v.ratio is None else f'{v.ratio:.2f}'} | "
              f"{ {True: 'yes', False: '**no**', None: 'not judged'}[v.met]} |")
    count = [sum(v.met is x for v in verdicts) for x in (True, False, None)]
    print(f"\n{count[0]} met, {count[1]} not met, {count[2]} not judged" + (" (quick: coarse figures)" if result["quick"] else ""))
    return 1 if count[1] else 0
