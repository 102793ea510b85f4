"""Starts the proxies, sends load through them in turn, window by window, and collects what each window cost."""
import contextlib
import math
import os
import shutil
import socket
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from . import measure, native
from .load import Load, LoadFailed, percentile
from .proxies import Setup, load_all
from .scenarios import BY_NAME, ROUTES, SCENARIOS

FORMAT, VERSION = "fastproxy-bench", 1
FOREIGN_CPU = 0.6               # a window with more foreign load than this is measured again
REPEATS = 3
PORTS = ("http", "http_unix", "tcp", "bulk")


@dataclass
class Settings:
    rounds: int = 6
    windows: int = 4            # per proxy, scenario and round
    window_s: float = 0.15
    warm_s: float = 0.15
    latency_windows: int = 10   # in all
    latency_s: float = 1.0
    idle_conns: int = 10_000
    syscalls_s: float = 0.2
    seconds: float = math.inf   # no new round starts when this much has gone by

    @classmethod
    def quick(cls):
        return cls(rounds=4, windows=1, warm_s=0.08, latency_windows=3, latency_s=0.25, syscalls_s=0.1, seconds=78)


@dataclass
class Running:
    """A proxy that is up, with one setup."""
    name: str
    process: object
    setup: Setup
    pids: list = field(default_factory=list)

    def address(self, port):
        return self.setup.address(port) if self.process else self.setup.origin[port]


def free_ports(n):
    held = [socket.socket() for _ in range(n)]
    for s in held:
        s.bind(("127.0.0.1", 0))
    ports = [s.getsockname()[1] for s in held]
    for s in held:
        s.close()
    return ports


def wait_listening(process, addresses, seconds=20):
    deadline = time.monotonic() + seconds
    for ip, port in addresses:
        while True:
            if process.poll() is not None:
                raise native.Missing(f"it ended at start with {process.returncode}")
            try:
                socket.create_connection((ip, port), 0.5).close()
                break
            except OSError:
                if time.monotonic() > deadline:
                    raise native.Missing(f"nothing listens on {ip}:{port} after {seconds} s") from None
                time.sleep(0.01)


class Bench:
    def __init__(self, settings, names=(), say=None, quick=False):
        self.settings = settings
        self.say = say = say or (lambda text: print(text, file=sys.stderr, flush=True))
        self.fd_limit = measure.raise_limits()
        self.proxy_cpus, self.load_cpus, self.all_cpus = measure.cores()
        self.dir = Path(tempfile.mkdtemp(prefix="fastproxy-bench-"))
        self.dir.chmod(0o755)
        self.started = time.monotonic()
        self.syscalls = measure.Syscalls()
        self.skipped = [] if self.syscalls.how else [self.syscalls.missing]
        if quick and self.syscalls.how == "strace":
            self.syscalls.how = None        # seconds for each cell, and it stops the proxy at every call
            self.skipped.append("system calls: --quick counts them with the tracepoint only (root)")
        if self.proxy_cpus == self.load_cpus:
            self.skipped.append("pinning: there is only one core, so proxy and load share it")
        self.programs, self.about = {}, {}
        self.modules = load_all()
        unknown = [n for n in names if n not in self.modules]
        if unknown:
            raise SystemExit(f"no such proxy: {', '.join(unknown)} (there are {', '.join(self.modules)})")
        for name, module in self.modules.items():
            if names and name not in names and not getattr(module, "CONTROL", False):
                continue
            try:
                program, why = module.find(), module.MISSING
            except native.Missing as e:
                program, why = None, str(e)
            if program:
                self.programs[name] = program
                self.about[name] = {"version": module.version(program), "program": program}
            else:
                self.about[name] = {"missing": why}
                say(f"missing: {name}: {why}")
        self.origin = {}
        self.origin_process = None
        self.open = contextlib.ExitStack()

    def elapsed(self):
        return time.monotonic() - self.started

    def out_of_time(self):
        return self.elapsed() > self.settings.seconds

    def start_origin(self):
        http, tcp, bulk = free_ports(3)
        unix = self.dir / "origin.sock"
        self.origin = {"http": f"127.0.0.1:{http}", "http_unix": f"unix:{unix}", "tcp": f"127.0.0.1:{tcp}", "bulk": f"127.0.0.1:{bulk}"}
        argv = [native.program("origin"), f"http={self.origin['http']}", f"http=unix:{unix}", f"echo={self.origin['tcp']}",
                f"stream={self.origin['bulk']}"]
        self.origin_process = measure.spawn(argv, self.load_cpus)
        self.open.callback(measure.stop, self.origin_process)
        wait_listening(self.origin_process, [("127.0.0.1", p) for p in (http, tcp, bulk)])

    def start(self, name, kind="main", wrap=(), single=False):
        """Starts one proxy with a setup: main, routes, free or workers2. The caller stops it."""
        module = self.modules[name]
        ports = [p for p in PORTS if p in module.PORTS] if kind == "main" else ["http"]
        directory = self.dir / f"{name}-{kind}-{time.monotonic_ns()}"
        directory.mkdir()
        setup = Setup(directory, dict(zip(ports, free_ports(len(ports)))), self.origin,
                      workers=2 if kind == "workers2" else 1, routes=ROUTES if kind == "routes" else 0,
                      conns=max(256, min(self.settings.idle_conns + 1000, self.fd_limit - 1000)), root=os.geteuid() == 0, single=single)
        argv = module.command(self.programs[name], setup)
        if argv is None:
            return Running(name, None, setup)
        log = open(directory / "log", "wb")
        cpus = self.all_cpus if kind in ("free", "workers2") else self.proxy_cpus
        process = measure.spawn([*wrap, *argv], cpus, log)
        log.close()
        try:
            wait_listening(process, [("127.0.0.1", p) for p in setup.ports.values()], 120 if wrap else 20)
        except native.Missing as e:
            measure.stop(process)
            tail = (directory / "log").read_text(errors="replace").strip()[-600:]
            raise native.Missing(f"{name} did not start ({kind}): {e}: {tail}") from None
        if not wrap:
            time.sleep(0.05)
        return Running(name, process, setup, measure.family(process.pid))

    def stop(self, running):
        if running.process:
            measure.stop(running.process)
        shutil.rmtree(running.setup.dir, ignore_errors=True)

    def load(self, running, scenario, cpus=None, **more):
        arguments = {**scenario.load, **more}
        return Load(self.dir, running.address(scenario.port), cpus or self.load_cpus, arguments.pop("mode"), **arguments)

    def close(self):
        self.open.close()
        shutil.rmtree(self.dir, ignore_errors=True)


# --- one visit of one proxy under one scenario ---

def read_window(bench, running, load, seconds):
    """(window, foreign CPU): requests, bytes, ns of CPU and wall time between two readings."""
    own = [load.process.pid, bench.origin_process.pid, os.getpid()]
    t0, r0, b0, c0 = time.monotonic_ns(), load.requests, load.bytes, measure.cpu_ns(running.pids)
    busy0, own0 = measure.busy_ns(), measure.cpu_ns(own)
    time.sleep(seconds)
    c1, r1, b1, t1 = measure.cpu_ns(running.pids), load.requests, load.bytes, time.monotonic_ns()
    busy1, own1 = measure.busy_ns(), measure.cpu_ns(own)
    cpu, wall = measure.spent_ns(c0, c1), t1 - t0
    foreign = max(0.0, (busy1 - busy0 - cpu - measure.spent_ns(own0, own1)) / wall)
    return {"wall_ns": wall, "requests": r1 - r0, "bytes": b1 - b0, "cpu_ns": cpu, "foreign": round(foreign, 2)}


def visit(bench, running, scenario, cell):
    """Windows of a closed loop, and once per cell the system calls."""
    s = bench.settings
    with bench.load(running, scenario, cpus=bench.all_cpus if scenario.setup in ("free", "workers2") else None) as load:
        load.wait_running()
        time.sleep(s.warm_s)
        for _ in range(s.windows):
            for attempt in range(1 + REPEATS):
                window = read_window(bench, running, load, s.window_s)
                load.check()
                if window["foreign"] <= FOREIGN_CPU or attempt == REPEATS:
                    break
                cell["repeated"] = cell.get("repeated", 0) + 1
            if (window["bytes"] if scenario.kind == "bulk" else window["requests"]) <= 0:
                raise LoadFailed("nothing was done in a whole window")
            cell["windows"].append(window)
        if bench.syscalls.how and "syscalls" not in cell:
            cell["syscalls"] = None
            counted = bench.syscalls.count(running.pids, s.syscalls_s, lambda: load.bytes if scenario.kind == "bulk" else load.requests)
            if counted and counted[1] > 0:
                cell["syscalls"] = counted[0] / (counted[1] / 1e9 if scenario.kind == "bulk" else counted[1])
        load.check()
    cell["rss_bytes"] = measure.rss_bytes(running.pids)


def visit_latency(bench, running, scenario, cell, rate, windows):
    """Windows of an open loop at a fixed rate; latency from the time at which each request was due."""
    s = bench.settings
    with bench.load(running, scenario, rate=rate) as load:
        load.wait_running()
        time.sleep(max(0.2, s.warm_s))
        for _ in range(windows):
            for attempt in range(1 + REPEATS):
                h0 = load.latency()
                window = read_window(bench, running, load, s.latency_s)
                h1 = load.latency()
                load.check()
                if window["foreign"] <= FOREIGN_CPU or attempt == REPEATS:
                    break
                cell["repeated"] = cell.get("repeated", 0) + 1
            window.update({f"p{name}_ns": percentile(h0, h1, share) for name, share in (("50", .5), ("99", .99), ("99_9", .999))})
            if window["p50_ns"] is None:
                raise LoadFailed("no answer in a whole window")
            cell["windows"].append(window)


def visit_idle_conns(bench, name, scenario, cell):
    """RSS that a fresh proxy adds for each of many idle keep-alive connections, after a request on each."""
    n = min(bench.settings.idle_conns, bench.fd_limit - 1000, 20_000)
    running = bench.start(name)
    try:
        with bench.load(running, BY_NAME["http"], count=3000) as load:
            load.wait_done(20)
        time.sleep(0.1)
        before = measure.rss_bytes(running.pids)
        with bench.load(running, scenario, conns=n, sources=4) as load:
            load.wait_running(30)
            time.sleep(0.2)
            load.check()
            after = measure.rss_bytes(running.pids)
            if load.open_conns != n:
                raise LoadFailed(f"only {load.open_conns} of {n} connections stayed open")
        cell["windows"].append({"conns": n, "before_bytes": before, "after_bytes": after, "value": (after - before) / n})
    finally:
        bench.stop(running)


def visit_idle_process(bench, name, cell):
    running = bench.start(name)
    try:
        time.sleep(0.3)
        cell["windows"].append({"value": measure.rss_bytes(running.pids)})
    finally:
        bench.stop(running)


# --- figures of a cell ---

def quantile(values, share):
    values = sorted(values)
    at = share * (len(values) - 1)
    low = int(at)
    return values[low] + (values[min(low + 1, len(values) - 1)] - values[low]) * (at - low)


def summarise(scenario, cell):
    """Adds the figures to a cell that has windows. Quiet is the 10th percentile of the cost."""
    windows = cell["windows"]
    if not windows:
        return
    if scenario.kind in ("cost", "bulk"):
        costs = [w["cpu_ns"] / 1e3 / w["requests"] if scenario.kind == "cost" else w["cpu_ns"] / w["bytes"] for w in windows]
        quiet, median = quantile(costs, .1), statistics.median(costs)
        if scenario.kind == "cost":
            cell.update(unit="µs of CPU per request", quiet=quiet, median=median, per_cpu_second=1e6 / quiet,
                        rate=statistics.median(w["requests"] / w["wall_ns"] * 1e9 for w in windows))
        else:
            cell.update(unit="GB per CPU-second", quiet=1 / quiet, median=1 / median,
                        rate=statistics.median(w["bytes"] / w["wall_ns"] for w in windows))
        cell["spread"] = (quantile(costs, .9) - quiet) / median
        cell["busy"] = statistics.median(w["cpu_ns"] / w["wall_ns"] for w in windows)
    elif scenario.kind == "latency":
        for p in ("p50_ns", "p99_ns", "p99_9_ns"):
            cell[p] = statistics.median(w[p] for w in windows)
        costs = [w["cpu_ns"] / 1e3 / w["requests"] for w in windows]
        cell.update(unit="µs", quiet=quantile(costs, .1), median=statistics.median(costs),
                    rate=statistics.median(w["requests"] / w["wall_ns"] * 1e9 for w in windows))
    else:
        values = [w["value"] for w in windows]
        cell.update(unit=f"bytes of RSS per {scenario.per}", quiet=min(values), median=statistics.median(values))


# --- the whole run ---

def run(settings, scenario_names=(), names=(), quick=False, say=None):
    """Runs the scenarios; returns the result as it is saved. A wrong answer is kept as its cell's `error`."""
    unknown = [n for n in scenario_names if n not in BY_NAME]
    if unknown:
        raise SystemExit(f"no such scenario: {', '.join(unknown)} (there are {', '.join(BY_NAME)})")
    chosen = [s for s in SCENARIOS if (s.name in scenario_names if scenario_names else s.quick or not quick)]
    bench = Bench(settings, names, say, quick)
    cells, skipped, late = {}, list(bench.skipped), set()
    try:
        bench.start_origin()
        for s in chosen:
            for name in bench.programs:
                if s.only and name not in s.only or getattr(bench.modules[name], "CONTROL", False) and s.kind != "latency":
                    continue
                wanted = "routes" if s.setup == "routes" else s.port
                if wanted in bench.modules[name].PORTS:
                    cells[s.name, name] = {"scenario": s.name, "proxy": name, "windows": []}

        def guarded(cell, act, *arguments):
            if "error" in cell:
                return
            if bench.out_of_time():
                late.add(cell["scenario"])
                return
            try:
                act(*arguments)
            except (LoadFailed, native.Missing) as e:
                cell["error"] = str(e)
                bench.say(f"FAILED {cell['scenario']} {cell['proxy']}: {e}")

        for group in dict.fromkeys(s.group for s in chosen):
            costs = [s for s in chosen if s.group == group and s.kind in ("cost", "bulk")]
            latency = [s for s in chosen if s.group == group and s.kind == "latency"]
            if not costs and not latency:
                continue
            bench.say(f"[{bench.elapsed():5.1f} s] {group}: starting")
            up = {}
            with contextlib.ExitStack() as stack:
                wanted = {(name, s.setup) for s in costs + latency for name in bench.programs if (s.name, name) in cells}
                for name, setup in sorted(wanted, key=lambda w: (list(bench.programs).index(w[0]), w[1])):
                    try:
                        up[name, setup] = bench.start(name, setup)
                        stack.callback(bench.stop, up[name, setup])
                    except native.Missing as e:
                        bench.say(str(e))
                        bench.about[name]["failed"] = str(e)
                        for s in costs + latency:
                            if s.setup == setup and (s.name, name) in cells:
                                cells[s.name, name]["error"] = str(e)
                names = list(dict.fromkeys(name for name, _ in up))
                for r in range(settings.rounds):
                    if r and quick and bench.elapsed() > settings.seconds * (0.5 if group == "main" else 0.8):
                        skipped.append(f"{group}: {settings.rounds - r} of {settings.rounds} rounds, out of time")
                        break
                    bench.say(f"[{bench.elapsed():5.1f} s] {group}: round {r + 1} of {settings.rounds}")
                    for s in costs:
                        for name in turned(names, r):
                            if (s.name, name) in cells:
                                guarded(cells[s.name, name], visit, bench, up.get((name, s.setup)), s, cells[s.name, name])
                for s in latency:
                    rate = half_saturation(bench, up, cells)
                    if not rate:
                        skipped.append("latency: no other proxy to take the rate from")
                        continue
                    bench.say(f"[{bench.elapsed():5.1f} s] {s.name}: {rate} requests a second")
                    per_round = 1 if quick else 2
                    for r in range(math.ceil(settings.latency_windows / per_round)):
                        for name in turned(names, r):
                            if (s.name, name) in cells:
                                cells[s.name, name]["fixed_rate"] = rate
                                guarded(cells[s.name, name], visit_latency, bench, up.get((name, s.setup)), s, cells[s.name, name],
                                        rate, per_round)
        for s in chosen:
            if s.kind not in ("idle_conns", "idle_process"):
                continue
            bench.say(f"[{bench.elapsed():5.1f} s] {s.name}")
            if s.kind == "idle_conns" and min(settings.idle_conns, bench.fd_limit - 1000) < settings.idle_conns:
                skipped.append(f"idle_conns: {bench.fd_limit - 1000} connections, not {settings.idle_conns}: open-file limit {bench.fd_limit}")
            for name in bench.programs:
                cell = cells.get((s.name, name))
                if cell is None:
                    continue
                if s.kind == "idle_conns":
                    guarded(cell, visit_idle_conns, bench, name, s, cell)
                else:
                    guarded(cell, visit_idle_process, bench, name, cell)
        skipped += [f"{name}: not all of it, out of time" for name in BY_NAME if name in late]
        for (scenario, _), cell in cells.items():
            summarise(BY_NAME[scenario], cell)
        return {"format": FORMAT, "version": VERSION, "when": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "quick": quick,
                "machine": measure.machine(), "settings": {k: v for k, v in vars(settings).items() if v != math.inf},
                "syscalls_by": bench.syscalls.how, "seconds": round(bench.elapsed(), 1), "skipped": skipped,
                "proxies": {n: {k: v for k, v in a.items() if k != "program"} for n, a in bench.about.items()},
                "cells": list(cells.values())}
    finally:
        bench.close()


def turned(names, by):
    """Another order every round, so that no proxy always follows the same one."""
    by = by % len(names) if names else 0
    return names[by:] + names[:by]


def half_saturation(bench, up, cells):
    """Half of the best rate that another proxy reached with the closed loop: of this run, or else of a short trial."""
    best = 0
    for (name, _), running in up.items():
        if name in ("fastproxy", "floor", "direct"):
            continue
        cell = cells.get(("http", name)) or {"windows": []}
        if "error" in cell:
            continue
        if not cell["windows"]:
            try:
                visit(bench, running, BY_NAME["http"], cell)
            except LoadFailed:
                continue
        best = max(best, statistics.median(w["requests"] / w["wall_ns"] * 1e9 for w in cell["windows"]))
    return int(best / 2 // 100 * 100)
