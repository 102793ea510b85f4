"""User instructions per request, counted by callgrind: the figure that does not depend on the machine's mood."""
import json
import platform
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

from . import measure, run
from .native import Missing
from .scenarios import BY_NAME, SCENARIOS

RECORD = Path(__file__).parent / "instructions.json"
FORMAT, VERSION = "fastproxy-bench-instructions", 1
ALLOWED = 1.03
SOURCE_NOTE = "per request, one connection, one at a time; difference of runs with N and 2N requests"


def tools():
    for name in ("valgrind", "callgrind_control"):
        if not shutil.which(name):
            raise Missing("valgrind with callgrind_control (Debian package valgrind)")


def control(pid, *options):
    done = subprocess.run(["callgrind_control", *options, str(pid)], capture_output=True, text=True, timeout=120)
    if done.returncode or "not" in done.stdout.lower() and "process" in done.stdout.lower() and "no " in done.stdout.lower():
        raise Missing(f"callgrind_control {' '.join(options)}: {(done.stdout + done.stderr).strip()[-300:]}")


def dumped(directory, seen):
    """Instructions of the dump that has appeared since `seen`, over all its parts."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        fresh = [p for p in Path(directory).glob("callgrind.out.*.*") if p not in seen]
        totals = [m for p in fresh for m in re.findall(r"^(?:totals|summary): (\d+)", p.read_text(errors="replace"), re.M)[-1:]]
        if fresh and len(totals) == len(fresh):
            seen.update(fresh)
            return sum(map(int, totals))
        time.sleep(0.05)
    raise Missing("callgrind wrote no dump")


def count(bench, name, scenarios, requests, say):
    """{scenario name: instructions per request} of one proxy; one start under callgrind for each setup."""
    figures = {}
    for kind in dict.fromkeys(s.setup for s in scenarios):
        out = bench.dir / f"callgrind-{name}-{kind}-{time.monotonic_ns()}"
        out.mkdir()
        wrap = [shutil.which("valgrind"), "--tool=callgrind", "--instr-atstart=no", "--trace-children=yes", "--quiet",
                f"--callgrind-out-file={out}/callgrind.out.%p"]
        say(f"{name}: starting under callgrind ({kind})")
        running = bench.start(name, kind, wrap, single=True)
        seen = set()
        try:
            pid = next((p for p in running.pids if "callgrind" in _comm(p) or "valgrind" in _comm(p)), running.process.pid)
            for s in (s for s in scenarios if s.setup == kind):
                more = {"seconds": 300, **s.instructions}

                def send(n):
                    with bench.load(running, s, cpus=bench.all_cpus, count=n, **more) as load:
                        load.wait_done(300)
                send(max(100, requests // 10))          # pools filled, code translated
                control(pid, "--instr=on")
                send(50)                                # translated again, now with counting code
                control(pid, "--dump")
                dumped(out, seen)
                send(requests)
                control(pid, "--dump")
                once = dumped(out, seen)
                send(2 * requests)
                control(pid, "--dump")
                twice = dumped(out, seen)
                control(pid, "--instr=off")
                figures[s.name] = round((twice - once) / requests, 1)
                say(f"{name} {s.name}: {figures[s.name]:,.0f}")
        finally:
            bench.stop(running)
    return figures


def _comm(pid):
    try:
        return Path(f"/proc/{pid}/comm").read_text()
    except OSError:
        return ""


def compared(figures, record):
    """[(scenario, figure, recorded, ratio, fine)] of what was counted or recorded."""
    rows = []
    for name in BY_NAME:
        now, was = figures.get(name), record.get(name)
        if now is not None:
            rows.append((name, now, was, now / was if was else None, was is not None and now <= was * ALLOWED))
    return rows


def main(a):
    tools()
    say = lambda text: print(text, file=sys.stderr, flush=True)
    unknown = [n for n in a.scenario or () if n not in BY_NAME or BY_NAME[n].instructions is None]
    if unknown:
        raise SystemExit(f"not counted: {', '.join(unknown)} (counted are {', '.join(s.name for s in SCENARIOS if s.instructions)})")
    scenarios = [s for s in SCENARIOS if s.instructions and (not a.scenario or s.name in a.scenario)]
    names = a.proxy or ["fastproxy"]
    bench = run.Bench(run.Settings(), names, say)
    if "fastproxy" in names and "fastproxy" not in bench.programs:
        raise Missing(bench.about["fastproxy"]["missing"])
    figures, failed = {}, False
    recorded = json.loads(RECORD.read_text())["figures"]["fastproxy"] if RECORD.exists() else {}
    try:
        bench.start_origin()
        for name in names:
            if name not in bench.programs:
                continue
            able = [s for s in scenarios if (s.port if s.setup != "routes" else "routes") in bench.modules[name].PORTS
                    and (not s.only or name in s.only)]
            try:
                figures[name] = count(bench, name, able, a.requests, say)
                # Turns of the loop that the clock brings are counted, too: what is over the record is counted again, and less holds.
                over = [s for s in able if a.check and name == "fastproxy" and figures[name][s.name] > recorded.get(s.name, 0) * ALLOWED]
                for again in count(bench, name, over, a.requests, say).items() if over else ():
                    figures[name][again[0]] = min(figures[name][again[0]], again[1])
            except (Missing, run.LoadFailed) as e:
                say(f"{name}: {e}")
                failed = True
    finally:
        bench.close()
    for name, counted in figures.items():
        print(f"{name}: user instructions {SOURCE_NOTE}")
        for scenario, now, was, ratio, fine in compared(counted, recorded if name == "fastproxy" else {}):
            against = f", recorded {was:,.0f}, ratio {ratio:.3f}" + ("" if fine else "  ABOVE THE RECORD") if was else ""
            print(f"  {scenario:12} {now:10,.0f}{against}")
    content = {"format": FORMAT, "version": VERSION, "note": SOURCE_NOTE, "machine": platform.machine(),
               "python": platform.python_version(), "requests": a.requests, "figures": figures}
    if a.save:
        Path(a.save).write_text(json.dumps(content, indent=1) + "\n")
    if a.record and "fastproxy" in figures:
        content["figures"] = {"fastproxy": {**recorded, **figures["fastproxy"]}}
        RECORD.write_text(json.dumps(content, indent=1) + "\n")
        print(f"recorded in {RECORD.name}")
    if a.check:
        if not recorded:
            print("nothing is recorded yet: run with --record and commit bench/instructions.json")
            return 1
        rows = compared(figures.get("fastproxy", {}), recorded)
        bad = [r for r in rows if not r[4]]
        for name, now, was, _, _ in bad:
            print(f"{name}: {now:,.0f} instructions, " + (f"more than {ALLOWED - 1:.0%} above the record of {was:,.0f}; if that is wanted, "
                                                        "change the record in the same commit" if was else "not recorded"))
        return 1 if bad or failed or not rows else 0
    return 1 if failed else 0
