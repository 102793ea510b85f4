"""Counters equal what both ends counted (G1), TCP bytes live (G4), and random Host values add no series (G14)."""

import asyncio
import os

import pytest
import uvloop

from harness import serve, wait_for
from harness.client import request
from harness.load import Client, Timed
from harness.origin import OK
from harness.wait import SCALE

CONFIG = """
admin: unix:$dir/admin.sock
listeners:
  - {name: web, bind: "127.0.0.1:0", protocol: http, routes: [{name: all, cluster: app}]}
  - {name: db, bind: "127.0.0.1:0", protocol: tcp, cluster: db}
clusters:
  - {name: app, endpoints: ["$app"]}
  - {name: db, endpoints: ["$app"]}
"""
MIB = 2**20


def test_1000_requests_7_failures(proxy, origin):
    app = origin(serve(lambda request, conn: OK.replace(b"200 OK", b"500 No") if request.target == b"/bad" else OK))
    inner = proxy(CONFIG, app=app.address)
    outer = proxy(CONFIG, app=inner.addresses["web"])
    with outer.connect() as client:
        for i in range(1000):
            client.get("/bad" if i % 143 == 1 else "/")
    assert len(app.requests) == 1000
    for one in (outer, inner):
        wait_for(lambda: one.metric("fastproxy_requests_total", route="all") == 1000)
        assert one.metric("fastproxy_requests_total", listener="web", cluster="app", status_class="2xx") == 993
        assert one.metric("fastproxy_requests_total", listener="web", cluster="app", status_class="5xx") == 7
        for name in ("request_duration", "request_first_byte"):
            assert one.metric(f"fastproxy_{name}_seconds_count", route="all") == one.metric(f"fastproxy_{name}_seconds_bucket", route="all", le="+Inf") == 1000
        assert one.metric("fastproxy_upstream_requests_total", cluster="app") == 1000 and not one.metric("fastproxy_errors_total")
        assert one.metric("fastproxy_response_bytes_total", route="all") == 1000 * 3


def test_time_to_first_byte_is_the_clients(proxy):
    """The sum of 1,000 is within 2 % of what the client measured."""
    async def run():
        loop, seen = asyncio.get_running_loop(), []
        app = await loop.create_server(lambda: Timed(0.05), "127.0.0.1", 0)
        one = proxy(CONFIG, app="127.0.0.1:%d" % app.sockets[0].getsockname()[1])
        await asyncio.gather(*[await Client.start(one.addresses["web"], seen, 25) for _ in range(40)])
        app.close()
        return one, sum(seconds for _, seconds in seen), len(seen)

    loop = uvloop.new_event_loop()
    for _ in range(3):  # a busy machine delays the client
        one, total, n = loop.run_until_complete(run())
        wait_for(lambda: one.metric("fastproxy_requests_total", status_class="2xx") == n == 1000)
        assert one.metric("fastproxy_request_first_byte_seconds_count", route="all") == n
        off = one.metric("fastproxy_request_first_byte_seconds_sum", route="all") / total - 1
        print(f"sum of time to first byte: {100 * off:+.2f} % against the client's {total:.2f} s")
        if abs(off) < 0.02 * SCALE:
            break
    loop.close()
    assert abs(off) < 0.02 * SCALE


def test_tcp_bytes_are_exact_and_live(proxy, origin):
    app = origin(keep=False, script=lambda conn: [conn.send(data) for data in iter(conn.more, b"")])
    one = proxy(CONFIG, app=app.address)

    def bytes_are(n):
        now = one.metrics()
        counted = [now[f'fastproxy_{way}_bytes_total{{listener="db"}}'] for way in ("received", "sent")]
        return counted + [now[f'fastproxy_upstream_{way}_bytes_total{{cluster="db"}}'] for way in ("sent", "received")] == [n] * 4

    with one.connect("db") as client:
        for i in range(10):
            client.send(os.urandom(MIB))
            assert len(client.exactly(MIB)) == MIB
            wait_for(lambda: bytes_are((i + 1) * MIB), what="counted while the connection is open")
        assert one.metric("fastproxy_connections", listener="db") == one.metric("fastproxy_upstream_in_flight", cluster="db") == 1
        client.shut_write()
        assert client.rest() == b""
    wait_for(lambda: one.metric("fastproxy_connections", listener="db") == 0)
    assert bytes_are(10485760)
    assert one.metric("fastproxy_request_bytes_total", listener="db", cluster="db") == one.metric("fastproxy_response_bytes_total", listener="db") == 10485760
    assert one.metric("fastproxy_tcp_connections_total", cluster="db") == one.metric("fastproxy_connections_accepted_total", listener="db") == 1


def random_hosts(proxy, origin, rng, n):
    one = proxy(CONFIG, app=origin(keep=False, script=lambda conn: [conn.send(OK) for _ in iter(lambda: conn.reader.until(b"\r\n\r\n"), b"")]).address)
    one.get()
    before, rss = len(one.metrics()), one.rss_bytes
    with one.connect() as client:
        for _ in range(n // 20):
            client.send(b"".join(request(name=f"h{rng.getrandbits(64):x}.example") for _ in range(20)))
            for _ in range(20):
                assert client.response().status == 200
            client.received.clear()
    more, grown = len(one.metrics()) - before, one.rss_bytes - rss
    print(f"{n} hosts: {more} more series, RSS {grown / MIB:+.2f} MiB")
    assert more <= n // 100 and grown < 20 * MIB


def test_random_hosts_add_no_series(proxy, origin, rng):
    random_hosts(proxy, origin, rng, 3000)


@pytest.mark.soak
def test_100000_random_hosts(proxy, origin, rng):
    random_hosts(proxy, origin, rng, 100000)
