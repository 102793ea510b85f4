"""What a reload does to the requests meanwhile: p99 of windows with a reload of 1,000 clusters in them against windows without, in turn."""
import os
import signal
import statistics
import time

from .load import percentile
from .run import Bench, Settings
from .scenarios import BY_NAME, ROUTES

BAR = 1.5
RATE = 5000                     # requests a second, open loop


def main(windows):
    bench = Bench(Settings(), ["fastproxy"])
    found = {"undisturbed": [], "reload": []}
    try:
        bench.start_origin()
        running = bench.start("fastproxy", "routes")
        bench.open.callback(bench.stop, running)
        path = running.setup.dir / "fastproxy.yaml"
        text = path.read_text()
        for n in range(0, 2 * windows, 6):
            with bench.load(running, BY_NAME["routes"], rate=RATE) as load:     # a new one before idle conns are closed
                load.wait_running()
                time.sleep(1)
                for i in range(n, n + 6):
                    kind = ("undisturbed", "reload")[i % 2]
                    before = load.latency()
                    if kind == "reload":
                        path.write_text(text.replace("name: r0500,", f"name: r0500, connect_timeout: {i + 1}s,", 1))
                        os.kill(running.process.pid, signal.SIGHUP)
                    time.sleep(1)
                    found[kind].append(percentile(before, load.latency(), 0.99))
                    load.check()    # an error, or an answer that is not 200, ends it
    finally:
        bench.close()
    p99 = {kind: statistics.median(values) for kind, values in found.items()}
    ratio = p99["reload"] / p99["undisturbed"]
    print(f"p99 at {RATE} requests a second over {ROUTES:,} clusters and routes: {p99['undisturbed'] / 1e3:,.0f} us undisturbed, "
          f"{p99['reload'] / 1e3:,.0f} us in the second of a reload: ratio {ratio:.2f} (bar {BAR}), 0 errors")
    return 0 if ratio <= BAR else 1
