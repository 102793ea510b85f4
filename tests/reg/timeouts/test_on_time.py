"""Timeouts come when they are due: connect T + 50 ms, request T + 20 ms, idle T + 5 % (E1, E2, E4). Times are the best of a
few, since a busy machine only adds; nothing may ever be early."""

import socket
import threading
import time

import pytest

from harness import pace, wait_for
from harness.client import request
from harness.origin import OK
from harness.wait import SCALE, on_time

CONFIG = """
listeners:
  - {name: web, bind: "127.0.0.1:0", protocol: http, routes: [{cluster: app, timeout: $timeout}]}
clusters:
  - {name: app, connect_timeout: $connect, balance: round_robin, endpoints: $endpoints}
"""
T = 0.6
IDLE = """
listeners:
  - {name: web, bind: "127.0.0.1:0", protocol: http, timeouts: {stream_idle: 600ms, idle: 600ms}, routes: [{cluster: app}]}
  - {name: db, bind: "127.0.0.1:0", protocol: tcp, timeouts: {idle: 600ms}, cluster: app}
  - {name: pool, bind: "127.0.0.1:0", protocol: http, routes: [{cluster: pool}]}
clusters:
  - {name: app, endpoints: ["$app"]}
  - {name: pool, endpoints: ["$app"], idle_timeout: 600ms}
"""
LAST, POOLED = [], []  # of response_body: before its last byte; of pooled: its end
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"


@pytest.fixture
def black_hole():
    """black_hole() -> the address of a listening socket whose queue is full: SYNs go unanswered."""
    held = []

    def make():
        sock = socket.socket()
        sock.bind(("127.0.0.1", 0))
        sock.listen(0)
        held.append(sock)
        for _ in range(4):
            held.append(socket.socket())
            held[-1].setblocking(False)
            held[-1].connect_ex(sock.getsockname())
        return '"127.0.0.1:%d"' % sock.getsockname()[1]

    yield make
    for one in held:
        one.close()


def timed(ask):
    start = time.monotonic()
    reply = ask()
    return reply, time.monotonic() - start


def test_connect_timeout(proxy, origin, black_hole):
    app = origin()
    one = proxy(CONFIG, timeout="0s", connect="300ms", endpoints=f'[{black_hole()}, "{app.address}"]')

    def slower_of_two():  # one of them meets the black hole first
        asked = [timed(lambda: one.exchange(request("POST", body=b"hello"))) for _ in range(2)]
        assert [reply.status for reply, _ in asked] == [200, 200]
        return max(seconds for _, seconds in asked)

    on_time(slower_of_two, 0.3, 0.05)
    assert {message.body for message in app.requests} == {b"hello"} and not app.faults
    alone = proxy(CONFIG, timeout="0s", connect="300ms", endpoints=f"[{black_hole()}]")

    def failure():
        reply, seconds = timed(alone.get)
        assert (reply.status, reply.get(b"x-fastproxy-error")) == (503, b"connect_timeout")
        return seconds

    on_time(failure, 0.3, 0.05)


@pytest.mark.parametrize("method, body", [("GET", b""), ("POST", b"hello")])
def test_request_timeout(proxy, origin, method, body):
    ends = []

    def silent(conn):
        conn.request()
        conn.drain()
        ends.append(time.monotonic())

    one = proxy(CONFIG, timeout="300ms", connect="5s", endpoints=f'["{origin(silent).address}"]')
    lags = []

    def failure():
        n = len(ends)
        reply, seconds = timed(lambda: one.exchange(request(method, body=body)))
        now = time.monotonic()
        assert (reply.status, reply.get(b"x-fastproxy-error")) == (504, b"request_timeout") and b"request timeout" in reply.body
        wait_for(lambda: len(ends) > n, what="the upstream is told")
        lags.append(max(0, ends[-1] - now))
        return seconds

    on_time(failure, 0.3, 0.02)
    on_time(lambda: failure() and lags[-1], 0, 0.02)


def test_request_timeout_covers_every_attempt(proxy, black_hole):
    one = proxy(CONFIG, timeout="300ms", connect="200ms", endpoints=f"[{black_hole()}, {black_hole()}, {black_hole()}]")

    def failure():
        reply, seconds = timed(lambda: one.exchange(request("POST", body=b"hello")))
        assert (reply.status, reply.get(b"x-fastproxy-error")) == (504, b"request_timeout")
        return seconds

    on_time(failure, 0.3, 0.02)


def test_request_timeout_begins_after_the_request(proxy, origin):
    def script(conn):
        while conn.request() and not go.is_set():
            conn.send(OK)
        conn.drain()

    go = threading.Event()
    one = proxy(CONFIG, timeout="300ms", connect="5s", endpoints=f'["{origin(script).address}"]')

    def upload(client):
        client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n")
        for byte in b"hello":
            pace(0.1)
            client.send(bytes([byte]))
        return client.response()

    with one.connect() as client:
        assert upload(client).status == 200
    go.set()

    def failure():
        with one.connect() as client:
            reply, seconds = timed(lambda: upload(client))
            assert (reply.status, reply.get(b"x-fastproxy-error")) == (504, b"request_timeout")
            return seconds

    on_time(failure, 0.8, 0.1)


def test_request_timeout_cuts_a_response_that_has_begun(proxy, origin):
    def script(conn):
        conn.request()
        conn.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n")
        for _ in range(100):
            conn.send(b"x")
            pace(0.05)

    one = proxy(CONFIG, timeout="300ms", connect="5s", endpoints=f'["{origin(script).address}"]')

    def failure():
        reply, seconds = timed(one.get)
        assert (reply.status, reply.complete) == (200, False)
        return seconds

    on_time(failure, 0.3, 0.02)


# A byte every T/2 keeps it alive, six times; then silence. Each gives the times before the last byte and at the end.

def request_body(one):
    with one.connect() as client:
        client.send(b"POST /body HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n")
        last = trickle(client.send)
        assert client.response().status == 408
        return last, time.monotonic()


def response_body(one):
    with one.connect() as client:
        client.send(request(target="/trickle"))
        client.rest()
        end = time.monotonic()
        assert client.reset and client.received.endswith(b"." * 6)
        return LAST.pop(), end


def tunnel(one):
    with one.connect() as client:
        client.send(request("GET", "/ws", "Connection: upgrade", "Upgrade: websocket"))
        assert client.response().status == 101
        last = trickle(client.send)
        client.rest()
        return last, time.monotonic()


def tcp(one):
    with one.connect("db") as client:
        client.send(b"GET /ws HTTP/1.1\r\nHost: a\r\n\r\n")
        assert client.response().status == 101
        last = trickle(client.send)
        client.rest()
        return last, time.monotonic()


def keep_alive(one):
    with one.connect() as client:
        last = trickle(lambda byte: client.get())
        assert client.rest() == b"" and not client.reset
        return last, time.monotonic()


def pooled(one):
    """The conn to the upstream, after its last request."""
    for _ in range(3):
        pace(T / 2)
        start = time.monotonic()
        assert one.get("/pool", listener="pool").status == 200
    return start, wait_for(lambda: POOLED and POOLED.pop(), 5, "the idle conn is closed")


def trickle(send):
    for _ in range(6):
        pace(T / 2)
        last = time.monotonic()
        send(b".")
    return last


def script(conn):
    while True:
        target = conn.head().target
        if target == b"/body":
            return conn.drain()
        if target == b"/ws":
            conn.send(SWITCH)
            while data := conn.more():
                conn.send(data)
            return
        if target == b"/trickle":
            conn.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n")
            LAST.append(trickle(conn.send))
            return conn.drain()
        conn.send(OK)
        if target == b"/pool":
            try:
                while conn.head():
                    conn.send(OK)
            finally:
                POOLED.append(time.monotonic())


def test_idle_timeouts(proxy, origin):
    """All at once, since each takes 4 T."""
    app = origin(script)
    one = proxy(IDLE, app=app.address)
    kinds = [request_body, response_body, tunnel, tcp, keep_alive, pooled]
    for _ in range(4):
        spans = {}

        def run(kind):
            last, end = kind(one)
            spans[kind.__name__] = end - last

        threads = [threading.Thread(target=run, args=(kind,)) for kind in kinds]
        [thread.start() for thread in threads]
        [thread.join() for thread in threads]
        assert len(spans) == len(kinds) and min(spans.values()) >= T - 0.001, spans
        kinds = [kind for kind in kinds if spans[kind.__name__] > T + 0.05 * T * SCALE]
        if not kinds:
            break
    assert not kinds, spans
