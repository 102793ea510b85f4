"""What the access log costs: the same requests with a JSON line for each and without, window by window, worker and policy thread apart."""
import statistics
import time
from pathlib import Path

from . import measure
from .run import Bench, Settings
from .scenarios import BY_NAME

BAR_WORKER, BAR_RECORD_US = 1.08, 3.0


def threads_ns(pids):
    """(CPU of the worker threads, of the others) of fastproxy."""
    worker = other = 0
    for tid, ns in measure.cpu_ns(pids).items():
        name = next((Path(f"/proc/{pid}/task/{tid}/comm").read_text() for pid in pids if Path(f"/proc/{pid}/task/{tid}").exists()), "")
        if name.startswith("worker"):
            worker += ns
        else:
            other += ns
    return worker, other


def main(rounds):
    bench = Bench(Settings(), ["fastproxy"])
    found = {}
    try:
        bench.start_origin()
        for on in ("off", "on"):
            bench.modules["fastproxy"].ACCESS_LOG = on == "on"
            found[on] = [], bench.start("fastproxy")
            bench.open.callback(bench.stop, found[on][1])
        for _ in range(rounds):
            for on, (windows, running) in found.items():
                with bench.load(running, BY_NAME["http"]) as load:
                    load.wait_running()
                    time.sleep(0.2)
                    for _ in range(4):
                        before, requests = threads_ns(running.pids), load.requests
                        time.sleep(0.15)
                        after, n = threads_ns(running.pids), load.requests - requests
                        windows.append(tuple((b - a) / n / 1e3 for a, b in zip(before, after)))
                    load.check()
    finally:
        bench.close()
    quiet = {on: [statistics.quantiles(column, n=10)[0] for column in zip(*windows)] for on, (windows, _) in found.items()}
    ratio, record = quiet["on"][0] / quiet["off"][0], quiet["on"][1] - quiet["off"][1]
    print(f"worker: {quiet['off'][0]:.2f} us a request without, {quiet['on'][0]:.2f} with: ratio {ratio:.3f} (bar {BAR_WORKER})")
    print(f"policy and writing threads: {record:.2f} us a record (bar {BAR_RECORD_US})")
    return 0 if ratio <= BAR_WORKER and record <= BAR_RECORD_US else 1
