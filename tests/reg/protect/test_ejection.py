"""Ejection of failing endpoints (E13), and the budget of retries (E6, E10)."""

import socket
import time

from harness.origin import OK, serve
from harness.wait import SCALE, wait_for

CONFIG = """
admin: unix:$dir/admin.sock
listeners:
  - {name: web, bind: "127.0.0.1:0", protocol: http, routes: [{cluster: app}]}
clusters:
  - {name: app, balance: round_robin, endpoints: $endpoints, $more}
"""
BAD = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"
FAULT = b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n"


class Switch:
    """An endpoint whose answer can be changed; `times` of arrival."""

    def __init__(self, origin, reply=OK):
        self.reply, self.times = reply, []
        self.origin = origin(serve(self.answer))
        self.address = self.origin.address

    def answer(self, message, conn):
        self.times.append(time.monotonic())
        return self.reply


def closed_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{sock.getsockname()[1]}"


def started(proxy, endpoints, more="outlier: true"):
    return proxy(CONFIG, endpoints="[" + ", ".join(f'"{one}"' for one in endpoints) + "]", more=more)


def get(one, n):
    with one.connect() as client:
        return [client.get("/").status for _ in range(n)]


def ejected(one):
    return one.metric("fastproxy_endpoints_ejected", cluster="app")


def test_seven_failures_in_a_row_eject(proxy, origin):
    bad, good = Switch(origin, BAD), Switch(origin)
    one = started(proxy, [bad.address, good.address], "outlier: {base_ejection_time: 60s}")
    assert sorted(get(one, 14)) == [200] * 7 + [503] * 7
    assert ejected(one) == 1
    assert get(one, 30) == [200] * 30 and len(bad.times) == 7
    assert one.metric("fastproxy_ejections_total", cluster="app") == 1


def test_an_application_error_is_no_failure(proxy, origin):
    bad, good = Switch(origin, FAULT), Switch(origin)
    one = started(proxy, [bad.address, good.address])
    assert get(one, 60).count(500) == 30 and ejected(one) == 0


def test_a_slow_client_is_no_failure_of_the_endpoint(proxy, origin):
    """One that stalls in its upload, and one that does not take its answer: anybody could eject every endpoint."""
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % 2**25 + bytes(2**25)
    app = origin(serve(lambda message, conn: answer), keep=False)
    text = CONFIG.replace("protocol: http, routes: [{cluster: app}]", "protocol: http, timeouts: {stream_idle: 1s}, routes: [{match: {path: /short}, cluster: app, timeout: 600ms}, {cluster: app}]")
    one = proxy(text, endpoints=f'["{app.address}"]', more="outlier: {consecutive_failures: 1, max_ejection_percent: 100, base_ejection_time: 60s}")
    with one.connect() as client:
        client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nx")
        assert client.response().status == 408
    for target in ("/", "/short"):
        with one.connect(receive_bytes=4096) as client:
            client.send(b"GET %s HTTP/1.1\r\nHost: a\r\n\r\n" % target.encode())
            assert client.reader.until(b"\r\n\r\n").startswith(b"HTTP/1.1 200")
            wait_for(lambda: one.metric("fastproxy_upstream_in_flight") == 0, what="the answer is given up")
    assert ejected(one) == 0


def test_a_success_between_starts_the_count_again(proxy, origin):
    odd, good = Switch(origin, BAD), Switch(origin)
    one = started(proxy, [odd.address, good.address])
    for _ in range(3):
        odd.reply = BAD
        get(one, 12)
        odd.reply = OK
        get(one, 2)
    assert ejected(one) == 0 and len(odd.times) == 21


def test_one_trial_then_twice_the_time_then_back(proxy, origin):
    bad, good = Switch(origin, BAD), Switch(origin)
    base = 0.4 * SCALE
    one = started(proxy, [bad.address, good.address], f"outlier: {{consecutive_failures: 3, base_ejection_time: {int(base * 1000)}ms}}")
    get(one, 6)
    out_at, tried = time.monotonic(), 0
    wait_for(lambda: get(one, 4) and len(bad.times) == 4)              # the trial, which fails
    assert base * 0.9 <= bad.times[3] - out_at <= base * 1.5 + 1 * SCALE
    get(one, 20)
    assert len(bad.times) == 4                                         # exactly one
    bad.reply = OK
    wait_for(lambda: get(one, 4) and len(bad.times) > 4)
    assert bad.times[4] - bad.times[3] >= 2 * base * 0.95
    wait_for(lambda: ejected(one) == 0)
    assert get(one, 20) == [200] * 20 and len(bad.times) >= 14


def test_never_more_than_half(proxy, origin):
    bad = [Switch(origin, BAD) for _ in range(4)]
    one = started(proxy, [each.address for each in bad], "outlier: {consecutive_failures: 2, base_ejection_time: 60s}")
    assert set(get(one, 40)) == {503}
    assert ejected(one) == 2
    alone = started(proxy, [bad[0].address])
    assert get(alone, 20) == [503] * 20 and ejected(alone) == 0 and len(bad[0].times) >= 20


def test_off(proxy, origin):
    bad, good = Switch(origin, BAD), Switch(origin)
    one = started(proxy, [bad.address, good.address], "outlier: false")
    assert get(one, 40).count(503) == 20 and ejected(one) == 0


def test_a_dead_endpoint_costs_no_client_and_is_left_alone(proxy, origin):
    good = Switch(origin)
    one = started(proxy, [closed_port(), good.address], "outlier: {base_ejection_time: 60s}")
    assert get(one, 100) == [200] * 100
    assert ejected(one) == 1
    assert one.metric("fastproxy_upstream_connect_failures_total", cluster="app") == 7
    assert one.metric("fastproxy_retries_total", cluster="app", result="made") == 7


def test_ejection_outlives_a_reload(proxy, origin):
    bad, good = Switch(origin, BAD), Switch(origin)
    one = started(proxy, [bad.address, good.address], "outlier: {base_ejection_time: 60s}")
    get(one, 14)
    one.write(CONFIG.replace("name: web", "name: web2"))
    one.hup()
    wait_for(lambda: one.metric("fastproxy_config_reloads_total", result="ok") == 1)
    assert ejected(one) == 1
    with one.connect("web2") as client:
        assert [client.get("/").status for _ in range(10)] == [200] * 10


def test_retries_stay_within_the_budget(proxy):
    """Every connect fails: further attempts are a fifth of the requests, and ten a second, over ten seconds."""
    one = started(proxy, [closed_port(), closed_port(), closed_port()], "outlier: false, retry_budget: {percent: 20, min_per_second: 1}")
    assert get(one, 100) == [503] * 100
    made = one.metric("fastproxy_retries_total", cluster="app", result="made")
    assert 25 <= made <= 0.2 * 100 + 10
    assert one.metric("fastproxy_retries_total", cluster="app", result="refused") >= 70
    assert one.metric("fastproxy_upstream_connects_total", cluster="app") == 100 + made


def test_without_a_budget_every_attempt_is_made(proxy):
    one = started(proxy, [closed_port(), closed_port(), closed_port()], "outlier: false, retry_budget: false")
    get(one, 50)
    assert one.metric("fastproxy_upstream_connects_total", cluster="app") == 150
