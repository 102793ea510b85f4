"""408, 504 and idle ends come at their time: never before T, and soon after it (E2, E4)."""

import time

import pytest

from harness import pace, wait_for
from harness.client import request
from harness.wait import SCALE

CONFIG = """
listeners:
  - {name: web, bind: "127.0.0.1:0", protocol: http, timeouts: {head: 400ms, stream_idle: 500ms, idle: 600ms}, routes: [{match: {path: /short}, cluster: app, timeout: 300ms}, {cluster: app}]}
  - {name: new, bind: "127.0.0.1:0", protocol: http, timeouts: {head: 400ms}, routes: [{cluster: app}]}
  - {name: db, bind: "127.0.0.1:0", protocol: tcp, timeouts: {idle: 400ms}, cluster: app}
clusters:
  - {name: app, endpoints: ["$app"]}
"""


def silent(conn):
    conn.head()
    conn.drain()


def within(start, low):
    seconds = time.monotonic() - start
    assert low <= seconds + 0.002 and seconds < low * 1.5 + 0.5 * SCALE, seconds


@pytest.mark.parametrize("part", [b"", b"GET / HTTP/1.1\r\n", b"GET / HTTP/1.1\r\nHost: a\r\nX"], ids=["nothing", "line", "field"])
def test_head_timeout(proxy, origin, part):
    with proxy(CONFIG, app=origin().address).connect("new") as client:
        start = time.monotonic()
        client.send(part)
        answer = client.rest()
        within(start, 0.4)
        assert answer.startswith(b"HTTP/1.1 408") or not part and not answer


def test_trickled_head_does_not_extend_it(proxy, origin):
    with proxy(CONFIG, app=origin().address).connect() as client:
        start = time.monotonic()
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\nX: ")
        while time.monotonic() - start < 4 * SCALE and client.send(b"y"):
            pace(0.05)
        assert time.monotonic() - start < 3 * SCALE          # the answer, and a second in which what comes is thrown away
        assert client.rest().startswith(b"HTTP/1.1 408")


def test_request_timeout_is_504_and_reaches_the_upstream(proxy, origin):
    app = origin(silent)
    one = proxy(CONFIG, app=app.address)
    start = time.monotonic()
    reply = one.get("/short")
    within(start, 0.3)
    assert (reply.status, reply.get(b"x-fastproxy-error")) == (504, b"request_timeout")
    wait_for(lambda: app.conns[0].finished, 0.5)


def test_interim_responses_are_progress(proxy, origin):
    def script(conn):
        conn.head()
        for _ in range(4):
            pace(0.25)
            conn.send(b"HTTP/1.1 102 Processing\r\n\r\n")
        conn.send(b"HTTP/1.1 204 No Content\r\n\r\n")

    assert proxy(CONFIG, app=origin(script).address).get().status == 204


def test_stream_idle_is_408_before_an_answer(proxy, origin):
    one, start = proxy(CONFIG, app=origin(silent).address), time.monotonic()
    assert one.get().status in (408, 504)
    within(start, 0.5)


def test_stream_idle_cuts_a_begun_answer(proxy, origin):
    def script(conn):
        conn.head()
        conn.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc")
        conn.drain()

    with proxy(CONFIG, app=origin(script).address).connect() as client:
        client.send(request())
        reply = client.response()
        assert (reply.status, reply.complete, reply.body) == (200, False, b"abc")


def test_progress_keeps_a_stream_alive(proxy, origin):
    def script(conn):
        conn.head()
        conn.send(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n")
        for _ in range(5):
            pace(0.25)
            conn.send(b"x")

    assert proxy(CONFIG, app=origin(script).address).get().body == b"xxxxx"


def test_idle_connections_end_quietly(proxy, origin):
    one = proxy(CONFIG, app=origin().address)
    for name, low in (("web", 0.6), ("db", 0.4)):
        start = time.monotonic()
        with one.connect(name) as client:
            name == "web" and client.get()
            assert client.rest() == b""
            within(start, low)
