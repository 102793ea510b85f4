"""Expect: 100-continue gives one 100 and one final answer; an early answer never leaves a body to be read as a request."""

from harness import serve
from harness.origin import OK

CONFIG = """
listeners:
  - {name: web, bind: "127.0.0.1:0", protocol: http, routes: [{cluster: app}]}
clusters:
  - {name: app, endpoints: ["$app"]}
"""

HEAD = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n"


def test_continue_passes_once(proxy, origin):
    def script(conn):
        conn.head()
        conn.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        assert conn.exactly(5) == b"hello"
        conn.send(OK)
        conn.drain()

    with proxy(CONFIG, app=origin(script).address).connect() as client:
        client.send(HEAD)
        assert client.response(interim=True).status == 100
        client.send(b"hello")
        assert client.response(interim=True).status == 200
        client.shut_write()
        assert client.rest() == b""


def test_early_final_answer(proxy, origin):
    def script(conn):
        conn.head()
        conn.send(b"HTTP/1.1 413 No\r\nContent-Length: 0\r\n\r\n")
        conn.drain()

    app = origin(script)
    with proxy(CONFIG, app=app.address).connect() as client:
        client.send(HEAD)
        assert client.response(interim=True).status == 413
        client.send(b"GET /")
        client.send(b"x HTTP/1.1\r\nHost: a\r\n\r\n")
        client.rest() if client.closed(1) else None
    assert b"GET /x" not in app.received and len(app.requests) == 1


def test_unknown_expectation(proxy, origin):
    app = origin()
    assert proxy(CONFIG, app=app.address).get("/", "Expect: magic").status == 417
    assert not app.received


def test_early_answer_to_a_large_body(proxy, origin):
    def script(conn):
        conn.head()
        conn.send(b"HTTP/1.1 403 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        conn.shut_write()
        conn.drain()

    with proxy(CONFIG, app=origin(script).address).connect() as client:
        client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000000\r\n\r\n" + bytes(10000))
        assert client.response().status == 403
