"""Pipelined requests are answered in order; nothing after a close or a malformed one is read as a request."""

from harness import serve
from harness.client import request

CONFIG = """
listeners:
  - {name: web, bind: "127.0.0.1:0", protocol: http, routes: [{cluster: app}]}
clusters:
  - {name: app, endpoints: ["$app"]}
"""

TWO = CONFIG.replace("routes: [", """routes: [
    {match: {path: /own}, direct_response: {status: 200, body: "$own"}}, {match: {path_prefix: /b}, cluster: b}, """) + '  - {name: b, endpoints: ["$b"]}\n'


def echo(message, conn):
    body = message.target + b":" + message.body
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body


def test_order(proxy, origin):
    with proxy(CONFIG, app=origin(serve(echo)).address).connect() as client:
        client.send(b"".join(request("POST" if i % 2 else "GET", f"/{i}", body=b"x" * (i % 2 * i)) for i in range(200)))
        for i in range(200):
            assert client.response().body == b"/%d:" % i + b"x" * (i % 2 * i)


def test_every_split(proxy, origin):
    raw = request("POST", "/a", body=b"12345") + request(target="/b")
    one = proxy(CONFIG, app=origin(serve(echo)).address)
    with one.connect() as client:
        for cut in range(1, len(raw)):
            client.send_at(raw, cut)
            assert (client.response().body, client.response().body) == (b"/a:12345", b"/b:"), cut


def test_nothing_after_close(proxy, origin):
    app = origin(serve(echo))
    with proxy(CONFIG, app=app.address).connect() as client:
        client.send(request("GET", "/a", "Connection: close") + request(target="/b"))
        assert client.response().body == b"/a:"
        assert client.closed()
    assert [message.target for message in app.requests] == [b"/a"]


def test_nothing_after_a_malformed_one(proxy, origin):
    app = origin(serve(echo))
    with proxy(CONFIG, app=app.address).connect() as client:
        client.send(request(target="/a") + b"GET /b HTTP/1.1\r\nHost : a\r\n\r\n" + request(target="/c"))
        assert (client.response().body, client.response().status) == (b"/a:", 400)
        assert client.closed()
    assert [message.target for message in app.requests] == [b"/a"]


def test_an_answered_body_is_read_past_however_it_comes(proxy, origin):
    """Neither the answer nor what follows hangs on the split; what is malformed or too long is never followed by a request."""
    app = origin(serve(echo))
    one = proxy(TWO, app=app.address, b=app.address, own="mine")
    head = b"POST /own HTTP/1.1\r\nHost: a\r\n"
    for body in (b"Content-Length: 5\r\n\r\nGET /", b"Transfer-Encoding: chunked\r\n\r\n3;x\r\nGET\r\n0\r\nX: y\r\n\r\n"):
        raw = head + body + request(target="/a")
        with one.connect() as client:
            for cut in range(1, len(raw)):
                client.send_at(raw, cut)
                assert (client.response().body, client.response().body) == (b"mine", b"/a:"), cut
    seen = len(app.requests)
    for body in (b"Transfer-Encoding: chunked\r\n\r\n3\r\nGETx", b"Content-Length: 262145\r\n\r\n" + bytes(262145), b"Expect: 100-continue\r\nContent-Length: 1\r\n\r\nx",
                 b"Transfer-Encoding: chunked\r\n\r\n50000\r\n" + bytes(0x50000) + b"\r\n0\r\n\r\n"):
        for cut in (len(head + body), len(head + body) - 1, len(head) + 30):
            with one.connect() as client:
                client.send_at(head + body + request(target="/smuggled"), cut)
                assert client.response().body == b"mine"
                assert client.closed()
    assert len(app.requests) == seen
