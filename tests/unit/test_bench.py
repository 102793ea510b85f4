"""The bench's tables fit together, its arithmetic is right, and a small run over the floor gives whole results."""
import json
import shutil
import xml.etree.ElementTree

import pytest

from bench import bars, compare, instructions, load, measure, proxies, report, run
from bench.scenarios import BY_NAME, SCENARIOS

needs_compiler = pytest.mark.skipif(not any(map(shutil.which, ("cc", "gcc", "clang"))), reason="no C compiler")


def test_tables_name_what_exists():
    modules = proxies.load_all()
    assert list(modules)[0] == "fastproxy"
    for bar in bars.BARS:
        assert bar.scenario in BY_NAME and (not bar.of or bar.of in BY_NAME)
        assert set(bar.than) <= set(modules)
    for s in SCENARIOS:
        assert s.port in run.PORTS and set(s.only) <= set(modules)
    for module in modules.values():
        assert module.PORTS <= {*run.PORTS, "routes"} and callable(module.find) and callable(module.command)


@pytest.mark.parametrize("ns", [0, 1, 63, 64, 65, 1000, 123_456, 10**9])
def test_histogram_buckets(ns):
    bucket = ns if ns < 64 else (ns.bit_length() - 1 - 5) * 32 + (ns >> (ns.bit_length() - 1 - 5))     # as in load.c
    assert load.bucket_ns(bucket) == pytest.approx(ns, rel=0.04, abs=0.5)


def test_percentile():
    after = [0] * load.BUCKETS
    after[10], after[50] = 99, 1
    before = [0] * load.BUCKETS
    assert load.percentile(before, after, .5) == 10 and load.percentile(before, after, .995) == 50
    assert load.percentile(after, after, .5) is None


def cell(scenario, proxy, **figures):
    return {"scenario": scenario, "proxy": proxy, "windows": [], **figures}


def verdict(scenario, cells, counted=None, nth=0):
    bar = [b for b in bars.BARS if b.scenario == scenario][nth]
    return bars.judge(bar, {(c["scenario"], c["proxy"]): c for c in cells}, counted or {})


def test_bars_take_the_better_of_two():
    cells = [cell("http", "fastproxy", quiet=15), cell("http", "nginx", quiet=22), cell("http", "haproxy", quiet=20)]
    assert verdict("http", cells).met and verdict("http", cells).ratio == 0.75
    cells[2]["quiet"] = 18
    assert verdict("http", cells).met is False
    assert verdict("http", cells[1:]).met is None
    assert verdict("http", [dict(cells[0], error="cut"), cells[1]]).met is None


def test_bars_near_one_are_judged_by_work():
    cells = [cell("tcp_rr", "fastproxy", quiet=14.0, syscalls=4.0), cell("tcp_rr", "floor", quiet=13.0, syscalls=4.0)]
    counted = {"fastproxy": {"tcp_rr": 900}, "floor": {"tcp_rr": 300}}
    assert verdict("tcp_rr", cells).met is False
    v = verdict("tcp_rr", cells, counted)
    assert v.met and "judged by work" in v.note
    cells[0]["syscalls"] = 5.0
    assert verdict("tcp_rr", cells, counted).met is False


def test_instructions_above_the_record():
    rows = instructions.compared({"http": 103.0, "post": 104.0, "fresh": 1.0}, {"http": 100.0, "post": 100.0})
    assert [(r[0], r[4]) for r in rows] == [("http", True), ("post", False), ("fresh", False)]


@needs_compiler
def test_a_small_run(tmp_path):
    settings = run.Settings(rounds=1, windows=1, window_s=0.05, warm_s=0.02, latency_windows=1, latency_s=0.05, idle_conns=50, syscalls_s=0.02)
    names = ["http", "http_unix", "http_1m", "tcp_rr", "tcp_bulk", "post", "fresh", "idle_conns", "idle_process"]
    result = run.run(settings, names, ["floor"], say=lambda text: None)
    assert {c["scenario"] for c in result["cells"]} == set(names)
    assert [c for c in result["cells"] if "error" in c or not c["quiet"] > 0 and not c["scenario"].startswith("idle")] == []
    path = tmp_path / "result.json"
    path.write_text(json.dumps(result))
    assert "floor" in report.markdown(result)
    xml.etree.ElementTree.fromstring(report.svg(result))
    assert all(r[4] == 1 for r in compare.ratios(bars.load_result(path), result) if r[2])
    assert all(v.met is None for v in bars.judge_all(result, {}))


@needs_compiler
def test_a_wrong_answer_is_an_error(tmp_path):
    bench = run.Bench(run.Settings(idle_conns=50), ["floor"], say=lambda text: None)
    try:
        bench.start_origin()
        with load.Load(bench.dir, bench.origin["http"], bench.load_cpus, "http", conns=1, path="/4", expect=5, count=3) as wrong:
            with pytest.raises(load.LoadFailed, match="content length 4, not 5"):
                wrong.wait_done(10)
        pids = measure.family(bench.origin_process.pid)
    finally:
        bench.close()
    assert measure.rss_bytes(pids) == 0         # nothing is left behind
