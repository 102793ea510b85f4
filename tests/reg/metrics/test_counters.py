"""Counters equal what both ends counted (G1, G4), and random Host values add no series (G14)."""

from harness import serve, wait_for
from harness.origin import OK

CONFIG = """
admin: unix:$dir/admin.sock
listeners:
  - {name: web, bind: "127.0.0.1:0", protocol: http, routes: [{name: all, cluster: app}]}
clusters:
  - {name: app, endpoints: ["$app"]}
"""


def test_1000_requests_7_failures(proxy, origin):
    app = origin(serve(lambda request, conn: OK.replace(b"200 OK", b"500 No") if request.target == b"/bad" else OK))
    one = proxy(CONFIG, app=app.address)
    with one.connect() as client:
        for i in range(1000):
            client.get("/bad" if i % 143 == 1 else "/")
    assert len(app.requests) == 1000
    wait_for(lambda: one.metric("fastproxy_requests_total", route="all") == 1000)
    assert one.metric("fastproxy_requests_total", route="all", status_class="2xx") == 993
    assert one.metric("fastproxy_requests_total", route="all", status_class="5xx") == 7
    assert one.metric("fastproxy_request_duration_seconds_count", route="all") == 1000


def test_random_hosts_add_no_series(proxy, origin, rng):
    one = proxy(CONFIG, app=origin(keep=False).address)
    one.get()
    before, rss = len(one.metrics()), one.rss_bytes
    with one.connect() as client:
        for _ in range(3000):
            client.get(name=f"h{rng.getrandbits(64):x}.example")
    assert len(one.metrics()) - before <= 100
    assert one.rss_bytes - rss < 20 * 2**20
