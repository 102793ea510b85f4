"""A real scrape holds for a strict parser and for the rules of promtool's `check metrics`, and is cheap at 100 routes (G2)."""

import re
import shutil
import subprocess
import time

import pytest
from prometheus_client.parser import text_string_to_metric_families

from harness.client import request
from harness.wait import on_time

ROUTES = "\n".join(f'      - {{name: "r{i}", match: {{path_prefix: /r{i}}}, cluster: app}}' for i in range(100))
CONFIG = f"""
admin: unix:$dir/admin.sock
metrics: unix:$dir/metrics.sock
listeners:
  - name: web
    bind: "127.0.0.1:0"
    routes:
{ROUTES}
  - {{name: db, bind: "127.0.0.1:0", protocol: tcp, cluster: app}}
clusters:
  - {{name: app, endpoints: ["$app", "127.0.0.1:1"]}}
"""
ABBREVIATED = {"s", "ms", "us", "ns", "sec", "b", "kb", "mb", "gb", "tb", "pb", "m", "h", "d"}
UNITS = re.compile("milli|micro|nano|kilo|mega|giga|minutes|hours|days|bits")


@pytest.fixture(scope="module")
def one(proxy_once, origin_once):
    one = proxy_once(CONFIG, app=origin_once().address)
    with one.connect() as client:
        for _ in range(3):
            client.send(b"".join(request(target=f"/r{i}") for i in range(100)))
            assert {client.response().status for _ in range(100)} == {200}
    one.get("/nowhere")
    with one.connect("db") as client:
        client.get()
    return one


def lint(family):
    """What `promtool check metrics` would say."""
    name, kind = family.name, family.type
    found = [] if family.documentation else ["no help"]
    if kind not in ("counter", "gauge", "histogram"):
        found.append(f"type {kind}")
    names = {sample.name for sample in family.samples}
    if kind == "counter" and names - {name + "_total"} or kind != "counter" and any(one.endswith("_total") for one in names):
        found.append("_total")
    if kind != "histogram" and any(re.search("_(bucket|count|sum|info)$", one) for one in names - {"fastproxy_build_info"}):
        found.append("suffix")
    if kind != "histogram" and any({"le", "quantile"} & set(sample.labels) for sample in family.samples):
        found.append("reserved label")
    if re.search("counter|gauge|histogram|summary", name) or not re.fullmatch("[a-z][a-z0-9_]*", name):
        found.append("name")
    if set(name.split("_")) & ABBREVIATED or UNITS.search(name):
        found.append("unit")
    if any(not re.fullmatch("[a-z][a-z_]*", label) for sample in family.samples for label in sample.labels):
        found.append("label")
    keys = [(sample.name, *sorted(sample.labels.items())) for sample in family.samples]
    if len(keys) != len(set(keys)):
        found.append("repeated")
    return found


def test_the_page_is_clean(one):
    reply = one.admin("/metrics")
    assert reply.get(b"content-type").startswith(b"text/plain; version=0.0.4")
    families = list(text_string_to_metric_families(reply.body.decode()))
    assert {family.name: lint(family) for family in families if lint(family)} == {}
    assert len({family.name for family in families}) == len(families)
    requests = next(family for family in families if family.name == "fastproxy_requests")
    assert sum(sample.value for sample in requests.samples) == 301
    assert all(line == "" or line[0] == "#" or re.fullmatch(r"\S+(\{.*\})? \S+", line) for line in reply.body.decode().splitlines())


@pytest.mark.skipif(not shutil.which("promtool"), reason="promtool is not installed")
def test_promtool(one):
    out = subprocess.run(["promtool", "check", "metrics"], input=one.admin("/metrics").body, capture_output=True)
    assert (out.returncode, out.stdout + out.stderr) == (0, b"")


@pytest.mark.parametrize("where", ["admin", "metrics"])
def test_a_scrape_of_100_routes(one, where):
    def scrape():
        start = time.monotonic()
        reply = one.admin("/metrics", service=where)
        assert reply.status == 200 and reply.body.count(b"fastproxy_request_duration_seconds_count") == 101
        return time.monotonic() - start

    on_time(scrape, 0, 0.05)
