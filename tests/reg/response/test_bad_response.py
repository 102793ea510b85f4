"""An upstream's malformed answer is a 502, never relayed, and its connection never used again."""

import pytest

from harness import wait_for

CONFIG = """
listeners:
  - {name: web, bind: "127.0.0.1:0", protocol: http, routes: [{cluster: app}]}
clusters:
  - {name: app, endpoints: ["$app"]}
"""

L = b"Content-Length: 2\r\n"
HEADS = [b"\r\n", b"HTTP/1.1\r\n", b"HTTP/1.1 \r\n", b"HTTP/1.1 20 OK\r\n", b"HTTP/1.1 2000 OK\r\n", b"HTTP/1.1 099 X\r\n", b"HTTP/1.1 600 X\r\n", b"HTTP/1.1 abc OK\r\n", b"HTTP/1.1  200 OK\r\n", b"HTTP/2.0 200 OK\r\n",
         b"HTTP/1.2 200 OK\r\n", b"http/1.1 200 OK\r\n", b"ICY 200 OK\r\n", b" HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 O\x00K\r\n", b"HTTP/1.1 200 O\rK\r\n", b"HTTP/1.1 200 OK\n", b"HTTP/1.1 +20 OK\r\n", b"garbage\r\n", b"HTTP/1.1 200\x0bOK\r\n"]
FIELDS = [b"X : y\r\n", b" X: y\r\n", b"X: y\r\n z\r\n", b"X: y\nZ: z\r\n", b"X: y\rZ: z\r\n", b"X: \x00\r\n", b"X\r\n", b": y\r\n", b"X\x80: y\r\n", b"X: \x01\r\n", b"X: y\r\r\n"]
FRAMING = [b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n", b"Content-Length: 2\r\nContent-Length: 3\r\n", b"Content-Length: -2\r\n", b"Content-Length: +2\r\n", b"Content-Length: 0x2\r\n", b"Content-Length: 2, 3\r\n", b"Content-Length:\r\n",
           b"Content-Length: 99999999999999999999\r\n", b"Transfer-Encoding: gzip\r\n", b"Transfer-Encoding: chunked, chunked\r\n", b"Transfer-Encoding: chunked, identity\r\n", b"Transfer-Encoding: xchunked\r\n",
           b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", b"Transfer-Encoding: identity\r\n", b"Content_Length: 2\r\nTransfer-Encoding : chunked\r\n"]
BAD = [head + L + b"\r\nhi" for head in HEADS] + [b"HTTP/1.1 200 OK\r\n" + L + line + b"\r\nhi" for line in FIELDS] + [b"HTTP/1.1 200 OK\r\n" + line + b"\r\n2\r\nhi\r\n0\r\n\r\n" for line in FRAMING]
BAD += [b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n", b"HTTP/1.1 200 OK\r\nX: " + b"y" * 300000 + b"\r\n\r\n", b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 3000 + b"\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", b""]
CHUNKS = [b"x\r\n", b"2\nhi\r\n", b"2\r\nhiX", b"-1\r\n", b"10000000000000000\r\n", b"2 \r\nhi\r\n", b"\r\n", b"0\r\nX : y\r\n\r\n", b"1;" + b"x" * 100000]


class Script:
    """Answers each connection's first request with .raw and then waits for the end."""

    raw = b""

    def __call__(self, conn):
        conn.request()
        conn.send(self.raw)
        if self.raw:
            conn.drain()


@pytest.fixture(scope="module")
def setup(proxy_once, origin_once):
    script = Script()
    app = origin_once(script)
    return proxy_once(CONFIG, app=app.address), app, script


@pytest.mark.parametrize("raw", BAD, ids=lambda raw: ascii(raw[:70].decode("latin-1")))
def test_502(setup, raw):
    proxy, app, script = setup
    script.raw, before = raw, len(app.conns)
    reply = proxy.get()
    assert reply.status == 502 and b"hi" != reply.body
    wait_for(lambda: all(conn.finished for conn in app.conns[before:]), what="the upstream conn is closed")


@pytest.mark.parametrize("chunks", CHUNKS, ids=lambda raw: ascii(raw[:30].decode("latin-1")))
def test_bad_chunks_never_look_complete(setup, chunks):
    proxy, app, script = setup
    script.raw, before = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n" + chunks, len(app.conns)
    with proxy.connect() as client:
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        reply = client.response()
        assert reply.status == 502 or not reply.complete
    wait_for(lambda: all(conn.finished for conn in app.conns[before:]))
