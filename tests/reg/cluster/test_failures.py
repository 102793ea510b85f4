"""Connect failure, black hole, no endpoint and a loop each answer fast, with their cause (E1, E10, E24, A18)."""

import socket
import time

from harness.client import request
from harness.wait import SCALE, on_time

CONFIG = """
admin: unix:$dir/admin.sock
listeners:
  - {name: web, bind: "127.0.0.1:0", protocol: http, routes: [{cluster: app}]}
clusters:
  - {name: app, connect_timeout: 300ms, balance: round_robin, endpoints: $endpoints}
"""


def closed_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{sock.getsockname()[1]}"


def black_hole(held):
    """A listening socket whose queue is full: SYNs go unanswered."""
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    sock.listen(0)
    held.append(sock)
    for _ in range(4):
        filler = socket.socket()
        filler.setblocking(False)
        filler.connect_ex(sock.getsockname())
        held.append(filler)
    return f"127.0.0.1:{sock.getsockname()[1]}"


def timed(proxy, **options):
    start = time.monotonic()
    return proxy.get(**options), time.monotonic() - start


def test_connection_refused_goes_elsewhere_even_for_post(proxy, origin):
    app = origin()
    one = proxy(CONFIG, endpoints=f'["{closed_port()}", "{app.address}"]')
    assert [one.exchange(request("POST", body=b"once")).status for _ in range(10)] == [200] * 10
    assert [seen.body for seen in app.requests] == [b"once"] * 10
    # One request each, whatever was dialled for it.
    assert one.metric("fastproxy_requests_total") == one.metric("fastproxy_requests_total", status_class="2xx") == 10
    assert one.metric("fastproxy_upstream_connect_failures_total") == one.metric("fastproxy_errors_total", cause="connect_failure") == 5


def test_three_attempts_and_no_more(proxy, origin):
    app = origin()
    dead = '", "'.join(closed_port() for _ in range(3))
    one = proxy(CONFIG, endpoints=f'["{dead}", "{app.address}"]')
    statuses = [one.get(method="POST").status for _ in range(8)]
    assert set(statuses) == {200, 503} and len(app.requests) == statuses.count(200)
    assert one.metric("fastproxy_upstream_connects_total") <= 8 * 3


def test_black_hole_goes_elsewhere_after_the_timeout(proxy, origin):
    held, app = [], origin()
    one = proxy(CONFIG, endpoints=f'["{black_hole(held)}", "{app.address}"]')
    results = [timed(one) for _ in range(4)]
    assert all(reply.status == 200 for reply, _ in results)
    assert any(0.3 <= seconds < 0.3 + 0.4 * SCALE for _, seconds in results)


def test_only_a_black_hole_is_503(proxy):
    held = []
    reply, seconds = timed(proxy(CONFIG, endpoints=f'["{black_hole(held)}"]'))
    assert (reply.status, reply.get(b"x-fastproxy-error")) == (503, b"connect_timeout")
    assert 0.3 <= seconds < 1.5 * SCALE


def test_nothing_available_answers_at_once_and_says_why(proxy):
    dead, other = closed_port(), closed_port()
    for endpoints, cause, words in (("[]", b"no_endpoint", ["no endpoint", "app", "none"]),
                                    (f'["{dead}", "{other}"]', b"connect_failure", ["connect failed", "app", f"{dead} connect failed", f"{other} connect failed"])):
        one = proxy(CONFIG, endpoints=endpoints)

        def ask():
            reply, seconds = timed(one)
            assert (reply.status, reply.get(b"x-fastproxy-error")) == (503, cause)
            assert all(word in reply.body.decode() for word in words), reply.body
            return seconds

        on_time(ask, 0, 0.01)


def test_a_route_to_itself_is_508(proxy, tmp_path):
    text = CONFIG.replace('"127.0.0.1:0"', '"unix:$path"')
    one = proxy(text, path=str(tmp_path / "p.sock"), endpoints=f'["unix:{tmp_path / "p.sock"}"]')
    reply, seconds = timed(one)
    assert (reply.status, reply.get(b"x-fastproxy-error")) == (508, b"loop")
    assert seconds < 0.05 * SCALE and one.fds < 100
