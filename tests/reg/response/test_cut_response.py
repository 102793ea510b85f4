"""A response cut short, by FIN or by reset, never looks complete to the client."""

import pytest

CONFIG = """
listeners:
  - {name: web, bind: "127.0.0.1:0", protocol: http, routes: [{cluster: app}]}
clusters:
  - {name: app, endpoints: ["$app"]}
"""

HEADS = {"length": b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc", "chunked": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", "chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n8\r\nabc",
         "last chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n", "size line": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0"}


@pytest.mark.parametrize("end", ["close", "reset"])
@pytest.mark.parametrize("kind", HEADS)
def test_cut_body(proxy, origin, kind, end):
    def script(conn):
        conn.request()
        conn.send(HEADS[kind])
        go.wait(5)
        getattr(conn, end)()

    import threading
    go = threading.Event()
    with proxy(CONFIG, app=origin(script).address).connect() as client:
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        client.reader.held = client.reader.until(b"abc") + client.reader.held
        go.set()
        reply = client.response()
        assert (reply.status, reply.complete) == (200, False) and b"abc".startswith(reply.body)
        assert client.closed()


@pytest.mark.parametrize("cut", [1, 8, 17, 30])
def test_cut_head_is_502(proxy, origin, cut):
    def script(conn):
        conn.request()
        conn.send(HEADS["length"][:cut])

    assert proxy(CONFIG, app=origin(script).address).get().status == 502


def test_reset_of_a_close_delimited_body(proxy, origin):
    def script(conn):
        conn.request()
        conn.send(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nabc")
        go.wait(5)                          # a blocked read would keep the socket from being closed
        conn.reset()

    import threading
    go = threading.Event()
    app = origin(script)
    with proxy(CONFIG, app=app.address).connect() as client:
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        client.reader.held = client.reader.until(b"abc") + client.reader.held
        go.set()
        raw = client.reader.held
        try:
            reply = client.response()
            assert not reply.complete or client.reset, (raw, reply)
        except EOFError:
            pass
