"""Model -> the description the core takes: every field, stable numbers for label triples, and the cost of 10,000 routes."""

import time

from fastproxy.model import load, load_dict
from fastproxy.proxy.compile import OTHER, Slots, compile


def compiled(text, slots=None, **options):
    return compile(load(text=text), slots or Slots(), **options)


FULL = """
listeners:
- name: web
  bind: 127.0.0.1:0
  timeouts: {head: 1s, stream_idle: 250ms, idle: 0s}
  limits: {head_bytes: 2KiB, fields: 7, body_bytes: 1MiB}
  via: edge
  request_id: false
  filters: [one, {name: two}]
  routes:
  - name: all
    match: {host: "*.A.com", path: {prefix: /a, invert: true}, methods: [GET], headers: {X-A: b, x-c: {present: true}}, query: {q: {contains: z}}}
    split: [{cluster: a, weight: 3}, {cluster: b}]
    timeout: 2s
    upgrades: [WebSocket]
    rewrite: {path: /new, host: In.example:81}
    request_headers: {set: {X-S: s}, add: {X-A: [1, 2]}, remove: [X-R]}
    response_headers: {remove: [Server]}
  - {match: {path_prefix: /old/, host: "*"}, redirect: {scheme: https, host: B.com, port: 444, path_prefix: /new, status: 308}}
  - {match: {path: /hi, host: {exact: C.com}}, direct_response: {status: 404, body: "é"}}
  - {direct_response: {status: 200, body: x, headers: {Content-Type: text/html}}}
- {name: db, bind: 127.0.0.1:2, protocol: tcp, cluster: b, timeouts: {idle: 2h}}
- {name: one, bind: 127.0.0.1:3, cluster: a}
clusters:
- {name: a, balance: round_robin, connect_timeout: 1s, idle_timeout: 30s, limits: {connections: 1, pending: 2, requests: 3}, retry_budget: false, outlier: false, fallback: b, endpoints: ["127.0.0.1:1", {address: "unix:/s", weight: 2}]}
- {name: b, endpoints: []}
"""


def test_every_field():
    slots = Slots()
    desc = compiled(FULL, slots)
    web, db, one = desc["listeners"]
    table, single = web.pop("table"), one["table"]
    assert web == {"slot": 0, "name": "web", "protocol": "http", "head_timeout_ns": 10**9, "stream_idle_ns": 250 * 10**6, "idle_ns": 0,
                   "head_bytes": 2048, "line_bytes": 2048, "fields": 7, "body_bytes": 1 << 20, "cluster": None, "series": 1, "fallback_series": [],
                   "x_forwarded": True, "request_id": False, "via": "edge", "filters": ["one", "two"], "log": None}
    assert (db["table"], db["cluster"], db["idle_ns"], slots.labels(db["series"])) == (None, 1, 7200 * 10**9, ("db", "", "b"))
    assert table["mode"] == "ordered" and table["virtual_hosts"] == [] and single["routes"] == [{"host": None, "path": None, "methods": None, "headers": [], "query": [], "index": 0}]
    assert table["routes"][0] == {
        "host": "*.a.com", "path": ("prefix", "/a"), "path_invert": True, "methods": ["GET"],
        "headers": [("x-a", {"kind": "exact", "value": "b", "invert": False}), ("x-c", {"kind": "present", "value": "", "invert": False})],
        "query": [("q", {"kind": "contains", "value": "z", "invert": False})], "index": 0}
    assert [(row["host"], row["path"], row["index"]) for row in table["routes"][1:]] == [(None, ("segment", "/old/"), 1), ("c.com", ("exact", "/hi"), 2), (None, None, 3)]
    (split, redirect, direct, page), (whole,) = table["actions"], single["actions"]
    assert (split["action"], split["timeout_ns"], split["upgrades"], split["rewrite_path"], split["rewrite_prefix"], split["rewrite_host"]) == ("forward", 2 * 10**9, ["websocket"], "/new", None, "in.example:81")
    assert [(place, weight, slots.labels(series), [slots.labels(one) for one in after]) for place, weight, series, after in split["targets"]] == [
        (0, 3, ("web", "all", "a"), [("web", "all", "b")]), (1, 1, ("web", "all", "b"), [])]
    assert slots.labels(split["series"]) == ("web", "all", "")
    assert split["request_headers"] == [("remove", "X-R", ""), ("set", "X-S", "s"), ("add", "X-A", "1"), ("add", "X-A", "2")] and split["response_headers"] == [("remove", "Server", "")]
    assert redirect["redirect"] == {"status": 308, "scheme": "https", "host": "b.com", "port": 444, "path": None, "prefix": ("/old", "/new")} and redirect["targets"] == []
    assert direct["direct"] == {"status": 404, "body": "é".encode(), "headers": [("content-type", "text/plain; charset=utf-8")]}
    assert page["direct"]["headers"] == [("Content-Type", "text/html")] and slots.labels(page["series"]) == ("web", "routes[3]", "")
    assert whole["targets"][0][0] == 0 and whole["series"] == whole["targets"][0][2]
    protection = {"limits": (1024, 1024, 1024), "retry_budget": (20, 10), "outlier": (7, 10**9, 60 * 10**9, 50)}
    assert desc["clusters"] == [
        {"name": "a", "balance": "round_robin", "connect_timeout_ns": 10**9, "idle_ns": 30 * 10**9, "limits": (1, 2, 3), "retry_budget": None, "outlier": None, "fallback": 1,
         "endpoints": [{"address": "127.0.0.1:1", "weight": 1}, {"address": "unix:/s", "weight": 2}]},
        {"name": "b", "balance": "ewma", "connect_timeout_ns": 5 * 10**9, "idle_ns": 3600 * 10**9, **protection, "fallback": None, "endpoints": []}]


def test_virtual_hosts():
    desc = compiled("""
listeners:
- name: web
  bind: 127.0.0.1:1
  virtual_hosts:
  - {name: x, hosts: [A.com, "*.b.com"], routes: [{cluster: c}, {name: y, match: {path_prefix: /p}, cluster: c, rewrite: {path_prefix: /}}]}
  - {hosts: ["*"], routes: []}
clusters: [{name: c, endpoints: []}]
""")
    table = desc["listeners"][0]["table"]
    assert table["mode"] == "virtual_hosts" and [(one["hosts"], [row["index"] for row in one["routes"]]) for one in table["virtual_hosts"]] == [(["a.com", "*.b.com"], [0, 1]), (["*"], [])]
    assert [one["name"] for one in table["actions"]] == ["virtual_hosts[0].routes[0]", "y"] and table["actions"][1]["rewrite_prefix"] == ("/p", "/")


def test_pure_and_deterministic():
    model, slots = load(text=FULL), Slots()
    first = compile(model, slots)
    assert first == compile(model, slots) == compile(load(text=FULL), Slots())


def test_series_survive_reloads_and_are_never_used_again():
    slots = Slots()
    series = lambda name: compiled(f"listeners: [{{name: web, bind: 127.0.0.1:1, routes: [{{name: {name}, cluster: c}}]}}]\nclusters: [{{name: c, endpoints: []}}]", slots)["listeners"][0]["table"]["actions"][0]["series"]  # noqa: E731
    a, b = series("a"), series("b")
    assert a != b and (series("a"), series("b")) == (a, b) and slots.labels(a) == ("web", "a", "c") and series("d") not in (a, b, 0)


def test_over_the_cap_all_count_as_other():
    slots = Slots(cap=3)
    numbers = [slots.series("l", f"r{i}", "c") for i in range(6)]
    assert numbers == [1, 2, 3, 0, 0, 0] and slots.series("l", "r1", "c") == 2 and slots.labels(0) == OTHER and slots.count == 3 and len(slots.refused) == 3


def test_1000_clusters_and_10000_routes_compile_in_time():
    model = load_dict({"listeners": [{"name": "web", "bind": "127.0.0.1:1", "routes": [{"match": {"host": f"h{i}.example.com", "path_prefix": f"/v{i}"}, "cluster": f"c{i % 1000}"} for i in range(10000)]}],
                       "clusters": [{"name": f"c{i}", "endpoints": [f"127.0.0.1:{i + 1}"]} for i in range(1000)]})
    slots, best = Slots(), 9.0
    for _ in range(3):
        start = time.process_time()
        desc = compile(model, slots)
        best = min(best, time.process_time() - start)
    assert len(desc["listeners"][0]["table"]["actions"]) == 10000 and best < 0.3, f"{best * 1e3:.0f} ms"
